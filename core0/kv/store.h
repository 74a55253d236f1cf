/*
 * store.h - the storage engine of kvd, as the server of the protocol sees it.
 *
 * One store is one data folder on one disk. It holds namespaces; a namespace holds keys. Every write is
 * a *record* appended to a segment; a record has a *number* that rises by one with every record of its
 * namespace, is never used twice and survives compaction. The number of the record that holds a key's
 * value is the key's *version*, and a place in SCAN.
 *
 * What an answer means. A write that returned 0 is visible to every reader at once and has a *ticket*.
 * Its answer may be sent to the client when store_answered() has reached the ticket:
 *     always    after fdatasync (group commit by one thread of the store),
 *     everysec  after write(2); fdatasync once a second,
 *     none      after write(2); fdatasync only where a segment ends and at close.
 * A worker therefore handles all requests it has, calls store_submit() once, and sends what is answered;
 * with `always` the rest when the store writes to the worker's eventfd (store_notify()). Reads return a
 * ticket too: that of the record they show, 0 when it is durable already. Holding the answer of a read
 * back until its ticket makes it linearizable across a power cut as well.
 *
 * Threads. Every function but store_open() and store_close() may be called from any thread at any time.
 * A namespace has one lock, held for an index look-up and the copy of a small record, never during I/O;
 * large values are checksummed outside of it. Two workers share a namespace well; many share many.
 *
 * Results. 0 or positive is success; otherwise a negative errno with exactly the meanings of enum
 * store_result. store_error() makes the code and sentence of it that a client sees.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

struct io; /* io.h: where the engine reads and writes; the tests have one that loses power */
struct store;
struct namespace;

#define STORE_KEY_MAX 1024
#define STORE_VALUE_MAX (64u << 20)
#define STORE_NAME_MAX 128   /* bytes of a namespace's name; any bytes but NUL */
#define STORE_SECRET_MAX 256 /* bytes the server keeps with a namespace for AUTH; opaque here */
#define STORE_DESCRIPTORS 192
#define STORE_SEQ_KEY 4 /* bytes of a key in seq mode: the id, little-endian, as 0-db's */

enum store_mode {
    STORE_USER, /* keys are the client's; kept in memory with at most 40 bytes each beside them */
    STORE_SEQ,  /* keys are ids that the store gives, from 0; no memory per key */
};

enum store_sync { STORE_SYNC_ALWAYS, STORE_SYNC_EVERYSEC, STORE_SYNC_NONE };

enum store_lock {
    STORE_NORMAL,
    STORE_LOCKED, /* reads only: kv.locked */
    STORE_FROZEN, /* neither reads nor writes: kv.frozen */
};

/* Every result that is not 0. The code of each is in store_error()'s table and in cli/codes.c. */
enum store_result {
    STORE_NO_KEY = -2,      /* ENOENT       kv.no-key */
    STORE_DISK_FAILED = -5, /* EIO          kv.disk-failed: an I/O error; sticky for writes */
    STORE_NO_MEMORY = -12,  /* ENOMEM       kv.no-memory */
    STORE_IS_LOCKED = -13,  /* EACCES       kv.locked */
    STORE_EXISTS = -17,     /* EEXIST       kv.namespace-exists */
    STORE_INVALID = -22,  /* EINVAL       kv.bad-request: empty key, bad id in seq mode, bad name */
    STORE_NO_SPACE = -28, /* ENOSPC       kv.no-space: the disk is full up to the reserve */
    STORE_READ_ONLY = -30,   /* EROFS        kv.read-only: the disk failed before */
    STORE_NO_NAMESPACE = -6, /* ENXIO        kv.no-namespace: unknown, or deleted under a handle */
    STORE_DAMAGED = -74, /* EBADMSG      kv.damaged: what the disk holds is not what was written */
    STORE_TOO_LARGE = -90,   /* EMSGSIZE     kv.too-large: key or value */
    STORE_OVER_QUOTA = -122, /* EDQUOT       kv.no-space: the namespace's maxsize */
    STORE_CROWDED =
        -11, /* EAGAIN       kv.no-space: maxdisk is full of what compaction will free */
    STORE_CONDITION = -125,    /* ECANCELED    kv.condition-failed */
    STORE_IS_FROZEN = -16,     /* EBUSY        kv.frozen */
    STORE_WORM = -1,           /* EPERM        kv.worm: write once; no overwrite, no delete */
    STORE_STALE_CURSOR = -116, /* ESTALE       kv.stale-cursor: a follower must start anew */
    STORE_NOT_EMPTY = -39,     /* ENOTEMPTY    kv.not-empty: a mode changes only while empty */
};

/* Sets *err (may be NULL) to the code, sentence and hint of a result; returns `result`. */
int store_error(int result, struct error *err);

/* ---- the store -------------------------------------------------------------------------------- */

struct store_options {
    const char *data;     /* folder; created when missing (its parent must exist) */
    const char *index;    /* folder of index snapshots and of seq's slots; NULL: `data` */
    enum store_mode mode; /* of new namespaces, also of "default" */
    enum store_sync sync;
    uint32_t max_value;    /* 0: STORE_VALUE_MAX */
    uint32_t segment_size; /* bytes; 0: 256 MiB; at least room for one largest record */
    uint64_t reserve; /* bytes of the disk that only compaction and deletes may use; 0: a segment */
    uint64_t cache;   /* bytes of the newest records kept in memory for reads; 0: 64 MiB */
    uint32_t descriptors; /* open segments at once, beyond those with unsynced bytes; 0: 192 */
    const struct io *io;  /* NULL: the kernel's */
    bool manual;          /* no threads: the caller runs store_commit(), store_tick() (tests) */
};

/* Opens and recovers. Raises the process's soft limit of descriptors to the hard one: besides
 * options.descriptors there is one per namespace with unsynced writes, and one per namespace of seq mode.
 * A damaged namespace does not make this fail: it is reported by its info. Fails
 * with kv.in-use when another process has the folder, kv.disk-failed, kv.bad-request. */
int store_open(const struct store_options *options, struct store **ret, struct error *err);
/* Writes and syncs everything, saves the indexes, ends the threads. All handles must have been put.
 * Returns 0 or the sticky error. NULL is allowed. */
int store_close(struct store *store);
/* The same without touching the disk: what a power cut leaves (tests). */
void store_abandon(struct store *store);

/* What has been written and may have to wait: pushes every buffer to its file (everysec, none) or wakes
 * the committer (always). Call once per turn of a worker's loop. 0 or STORE_DISK_FAILED. */
int store_submit(struct store *store);
/* The highest ticket whose answer may be sent. STORE_DISK_FAILED when the disk failed: answers with a
 * higher ticket than *ret must never be sent as successes (answer the error, or close the connection);
 * *ret is written in both cases. Cheap: an atomic load. */
int store_answered(struct store *store, uint64_t *ret);
/* Makes the store write 1 to `eventfd` whenever store_answered() changed (at most 64 of them; one per
 * worker). The descriptor stays the caller's and must outlive the store or be taken back. */
int store_notify(struct store *store, int eventfd);
void store_notify_remove(struct store *store, int eventfd);
/* Writes and syncs all namespaces now, whatever the policy; blocks. */
int store_commit(struct store *store);
/* What the housekeeping thread does once a second: compaction where it pays, snapshots, ends of
 * deletions. Only with options.manual. */
int store_tick(struct store *store);

struct store_stats {
    uint64_t sets, unchanged, dels, gets, hits; /* since open */
    uint64_t bytes_written;                     /* to segments by clients' writes */
    uint64_t bytes_compacted;                   /* to segments by compaction */
    uint64_t syncs;                             /* fdatasync of segments */
    uint64_t sync_usec;                         /* time spent in them */
    uint64_t damaged;                           /* reads and recoveries that met damage */
    uint64_t compactions;
    uint64_t memory;    /* bytes of indexes and buffers */
    uint64_t cache;     /* of these: newest records kept for reads */
    uint64_t disk_free; /* of the file system of `data`, without the reserve */
    uint32_t namespaces;
    uint32_t descriptors;  /* of segments, open now */
    int failed;            /* 0, or the sticky result: STORE_DISK_FAILED */
    char failed_text[160]; /* which file, which call, which errno */
};
void store_stats(struct store *store, struct store_stats *ret);

/* ---- namespaces ------------------------------------------------------------------------------- */

/* What is set by NSNEW and NSSET, and kept in the namespace's descriptor. */
struct store_properties {
    enum store_mode mode;
    uint64_t maxsize; /* bytes of keys and values alive; 0: no limit */
    uint64_t
        maxdisk; /* bytes of disk for its segments and index, what is dead included; 0: no limit. A segment and
                         a half of it (at most half) are for compaction and deletes alone */
    bool is_public;
    bool worm;
    bool tls_required; /* not over a connection that others can read; the server's to hold to */
    enum store_lock lock;
    uint16_t secret_len; /* 0: no password */
    uint8_t secret[STORE_SECRET_MAX];
};

struct store_info {
    char name[STORE_NAME_MAX + 1];
    uint32_t id; /* never used twice in a store */
    struct store_properties properties;
    uint64_t created;      /* seconds since 1970 */
    uint64_t entries;      /* keys alive */
    uint64_t bytes;        /* exactly the sum of their key and value lengths: what maxsize limits */
    uint64_t disk_bytes;   /* of its segments, dead records included */
    uint64_t disk_claimed; /* what counts for maxdisk: claimed ahead and index files included */
    uint64_t index_memory; /* bytes of its index in memory */
    uint64_t index_disk;   /* bytes of its snapshot or slots on disk */
    uint64_t last_number;  /* of the newest record; 0: none yet */
    uint64_t next_id;      /* seq: id of the next new key */
    uint64_t compacted_to; /* history and deletions before this record number are gone */
    uint64_t cut_bytes;    /* unsynced tail cut at the last recovery */
    uint32_t segments;
    uint32_t damaged;        /* damaged ranges found in it; 0: none */
    bool descriptor_damaged; /* then the name is "damaged-<id>" and it is frozen */
    bool compacting;
};

/* Creates; durable when this returns 0, whatever the sync policy. `properties` NULL: the defaults. */
int store_namespace_create(struct store *store, const char *name, size_t len,
                           const struct store_properties *properties);
/* Deletes it and its data. Handles stay valid, and every call with them returns STORE_NO_NAMESPACE.
 * Durable when this returns 0. "default" cannot be deleted (STORE_INVALID). */
int store_namespace_delete(struct store *store, const char *name, size_t len);
/* A handle; give it back with store_namespace_put(). STORE_NO_NAMESPACE. */
int store_namespace_get(struct store *store, const char *name, size_t len, struct namespace **ret);
struct namespace *store_namespace_ref(struct namespace *ns);
void store_namespace_put(struct namespace *ns);
/* Calls `each` per namespace in order of their ids; stops at a result other than 0 and returns it. */
int store_namespace_list(struct store *store, int (*each)(void *ctx, const struct store_info *info),
                         void *ctx);
void store_namespace_info(struct namespace *ns, struct store_info *ret);
/* The properties alone; cheap enough for every request. */
void store_namespace_properties(struct namespace *ns, struct store_properties *ret);
/* Whether tls_required is set, without a lock: for every request of a connection that others can read. */
bool store_namespace_requires_tls(const struct namespace *ns);
/* Replaces all properties; durable when this returns 0. STORE_NOT_EMPTY when the mode changes. */
int store_namespace_set(struct namespace *ns, const struct store_properties *properties);
/* FLUSH: drops all records. Record numbers go on, ids of seq start at 0 again. Durable. */
int store_namespace_flush(struct namespace *ns);
/* For a copy that starts anew: as FLUSH, whatever the namespace's lock says, and numbers begin at 1. */
int store_namespace_restart(struct namespace *ns);
/* RELOAD: forgets index and snapshot, and rebuilds them from the segments. Blocks its writers. */
int store_namespace_reload(struct namespace *ns);
/* Compacts until nothing is left to gain by it; blocks the caller only (admin command, tests). */
int store_namespace_compact(struct namespace *ns);

/* ---- writes ----------------------------------------------------------------------------------- */

enum store_condition {
    STORE_SET_ALWAYS,
    STORE_SET_NX,   /* only when the key does not exist */
    STORE_SET_XX,   /* only when it exists */
    STORE_SET_IFEQ, /* only when its version is `version`; 0: only when it does not exist */
};

struct store_write {
    const void
        *key; /* seq: empty for a new id, else an existing id; with `number` a new one, too */
    uint32_t key_len;
    const void *value;
    uint32_t value_len;
    uint32_t time; /* seconds since 1970; 0: now */
    enum store_condition condition;
    uint64_t version;
    /* 0: the next; a replica gives its primary's, higher than any it has. It is written also when the
     * value is the same. */
    uint64_t number;
};

struct store_written {
    uint64_t version; /* of the key after it (also when unchanged) */
    uint64_t ticket;
    bool unchanged;             /* the value was the same, byte for byte: nothing was written */
    uint8_t key[STORE_SEQ_KEY]; /* seq: the id */
};

/* The condition is checked before the comparison: SET same NX of an existing key fails. */
int store_set(struct namespace *ns, const struct store_write *write, struct store_written *ret);
/* STORE_NO_KEY when there is none. `number` as above. */
int store_del(struct namespace *ns, const void *key, uint32_t len, uint64_t number,
              struct store_written *ret);

/* ---- reads ------------------------------------------------------------------------------------ */

/* Where a value goes. `reserve` is called once with the value's length and returns where to put it (the
 * server writes "$<len>\r\n" first and returns the place after it), or NULL: STORE_NO_MEMORY. It may
 * have been called although the read then fails (STORE_DAMAGED): take back what it reserved. */
struct store_sink {
    void *(*reserve)(void *ctx, uint32_t len);
    void *ctx;
};

/* A place in the order of records. Opaque for clients: 16 bytes, valid for ever. `number` is what
 * counts; `hint` only saves the search. {0, 0} is before the first. */
struct store_cursor {
    uint64_t number;
    uint64_t hint;
};

struct store_value {
    uint64_t version;
    uint64_t ticket; /* 0: durable (or as durable as the policy makes it) */
    uint32_t len;
    uint32_t time; /* seconds since 1970 */
    struct store_cursor cursor;
};

#define STORE_EXPECT_MAX 16u
struct store_key {
    const void *key;
    uint32_t len;
};
/* Says which keys the next commands are about, STORE_EXPECT_MAX at most: a hint, which brings their places in the index and
 * their small values that are in memory into the processor's caches, all at once instead of one wait after the other. */
void store_expect(struct namespace *ns, const struct store_key *keys, unsigned count);
/* The value, checksums of header and value verified. */
int store_get(struct namespace *ns, const void *key, uint32_t len, const struct store_sink *sink,
              struct store_value *ret);
/* LENGTH, KEYTIME, VERSION, KEYCUR: the record's header only, its checksum verified. */
int store_stat(struct namespace *ns, const void *key, uint32_t len, struct store_value *ret);
/* The ticket of the namespace's newest write: what an answer must wait for that shows that something is
 * not there, or is not as a condition wants it. */
uint64_t store_namespace_ticket(struct namespace *ns);
/* From the index alone (seq: one slot): 0 or STORE_NO_KEY. */
int store_exists(struct namespace *ns, const void *key, uint32_t len, uint64_t *ret_ticket);
/* CHECK: reads the value from the *disk* where it lies there and verifies it: 0 or STORE_DAMAGED. */
int store_check(struct namespace *ns, const void *key, uint32_t len);

struct store_item {
    const void *key;
    uint32_t key_len;
    uint32_t value_len;
    uint32_t time;
    bool deleted;               /* only store_follow(): this record deletes the key */
    struct store_cursor cursor; /* number: its version */
};

/* Calls `each` for the live records after *cursor (before it when `backwards`; there {0, 0} is the
 * end) in order of their numbers, and moves *cursor to the last one examined. At most `max` items, and
 * a bounded piece of work per call. `each` must not call the store; a result other than 0 ends
 * the scan *before* that item and is returned if negative. Returns the number of items; *ret_more is
 * false at the end. Damaged records are left out, and counted in *ret_damaged (may be NULL). */
int store_scan(struct namespace *ns, struct store_cursor *cursor, bool backwards, uint32_t max,
               int (*each)(void *ctx, const struct store_item *item), void *ctx, bool *ret_more,
               uint32_t *ret_damaged);

/* KSCAN: calls `each` for the keys with this prefix, in no order, starting at *at (0 first), a bounded
 * piece of work per call. A key that exists from the first call to the last is given exactly once.
 * Returns 1 while there is more, 0 at the end. User mode answers from memory; value_len is set, time and
 * cursor are not. The namespace's lock is held: `each` must not call the store. */
int store_keys(struct namespace *ns, const void *prefix, uint32_t len, uint64_t *at,
               int (*each)(void *ctx, const struct store_item *item), void *ctx);

/* HISTORY: the value of a key at *cursor ({0, 0}: now), and in *cursor the place of the one before it,
 * {0, 0} when there is none or compaction took it. */
int store_history(struct namespace *ns, const void *key, uint32_t len, struct store_cursor *cursor,
                  const struct store_sink *sink, struct store_value *ret);

/* Somebody who keeps a copy of a namespace. While it exists, compaction keeps the deletions behind what the
 * copy holds. At most one thread uses one at a time; end it with store_follower_free(). */
struct store_follower;
int store_follower_new(struct namespace *ns, struct store_follower **ret); /* or STORE_NO_MEMORY */
void store_follower_free(struct store_follower *follower);
bool store_follower_is_gone(struct store_follower *follower); /* its namespace was deleted */
/* As store_scan() forwards, but every record is given, dead ones and deletions too, and only as far as
 * the answered ticket. By asking, the follower says that it holds everything up to *cursor.
 * STORE_STALE_CURSOR when deletions after it are gone, because nobody followed when they were
 * compacted: the copy must start from an empty namespace at {0, 0}, which always works. */
int store_follow(struct store_follower *follower, struct store_cursor *cursor, uint32_t max,
                 int (*each)(void *ctx, const struct store_item *item), void *ctx, bool *ret_more);
/* The value of the very record at a cursor (from store_follow(), or DATA RAW of the server).
 * STORE_NO_KEY when compaction took it. */
int store_get_at(struct namespace *ns, const struct store_cursor *cursor,
                 const struct store_sink *sink, struct store_value *ret);
/* Where a cursor's record lies, for DATA RAW: segment, offset and checksum of the header. */
struct store_place {
    uint32_t segment;
    uint64_t offset;
    uint32_t checksum;
};
int store_locate(struct namespace *ns, const struct store_cursor *cursor, struct store_place *ret);
/* The record at a place: key into `key` (STORE_KEY_MAX bytes), value into the sink. */
int store_raw(struct namespace *ns, uint32_t segment, uint64_t offset, void *key,
              struct store_item *ret_item, const struct store_sink *sink, struct store_value *ret);
