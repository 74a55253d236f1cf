/*
 * store_internal.h - what the parts of the engine share.
 *
 * Locks, from the outermost to the innermost:
 *     ns->upkeep        compaction, saving of the index, flush, reload, deletion: one at a time
 *     store->admin      creation, deletion and every replacement of a descriptor; compaction's swap
 *     store->committing one commit at a time
 *     store->submitting one flush of buffers at a time
 *     ns->slot_lock     writing of seq's slots, outside of ns->lock
 *     ns->write         who appends to the file of the active segment, and who makes the next one
 *     ns->lock          everything in memory of a namespace; no I/O but a slot of seq's index
 *     store->files.lock descriptors of segments: which are open, and opening and closing them
 *     store->lists      the lists of namespaces
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/index.h"
#include "kv/index_slots.h"
#include "kv/io.h"
#include "kv/namespace.h"
#include "kv/record.h"
#include "kv/segment.h"
#include "kv/store.h"

#define CHUNK_SIZE (256u << 10)  /* at most; less in stores with small segments */
#define EXTERNAL_MIN (16u << 10) /* values from this size on are written from the caller's memory */
#define SCRATCH_SIZE (RECORD_HEAD_MAX + EXTERNAL_MIN + 8)
#define END_SIZE 64u /* kept free in a segment for the record that ends it */
#define PATH_LEN 512
#define NOTIFY_MAX 64

/* A record that a compaction copied; by rising places in the output. */
struct move {
    uint32_t segment, place, to;
};

/* Appended bytes of a segment on their way to its file, and after it, for reads. */
struct chunk {
    uint32_t segment;
    uint64_t start;
    uint32_t len;  /* of data */
    uint32_t done; /* of all its bytes, in the file */
    const uint8_t
        *external; /* then one record: the header and key are in data, this is its value */
    uint32_t external_len, pad;
    uint8_t data[];
};

struct namespace
{
    struct store *store;
    atomic_uint refs;
    pthread_mutex_t upkeep, write, slot_lock, lock;
    struct namespace_descriptor d;
    atomic_bool requires_tls; /* d.properties.tls_required, read without the lock */
    uint64_t identity;        /* d.identity: never changes, so read without the lock */
    char folder[PATH_LEN];

    struct index *index;                /* user */
    struct slots *slots;                /* seq */
    struct segment **segments, **by_id; /* by number; by id */
    uint32_t segment_count, segment_room;
    uint32_t next_segment;

    uint64_t number; /* of the newest record */
    uint64_t entries, bytes;
    uint64_t next_id;
    uint64_t last_ticket;
    uint64_t since_snapshot;    /* bytes appended or compacted since the index was saved */
    bool earlier_synced;        /* all segments before the active one are */
    bool marked;                /* the last record is a mark */
    bool is_dirty, is_unsynced; /* on the store's list; store->lists guards them */
    struct namespace *next_dirty, *next_unsynced;
    struct namespace *next_here; /* of the commit that is under way */

    struct chunk **chunks;
    uint32_t chunk_first, chunk_end, chunk_room;
    uint32_t chunk_unwritten; /* first one with bytes that are not in the file */

    bool gone;     /* deleted */
    bool flushing; /* all records go now; writers wait for ns->write */
    bool descriptor_damaged;
    bool has_suspects; /* absent keys may have been written by a damaged record */
    bool compacting;   /* or being saved: one of the two at a time */
    bool crowded;      /* a writer met maxdisk since the last compaction */
    uint32_t damaged;
    uint64_t cut_bytes;
    uint32_t idle_ticks, snapshot_ticks;
    bool swapped; /* since the index was saved */
    _Atomic uint64_t index_disk;
    uint64_t expected_number; /* a lost snapshot's last number: the log must reach it */

    struct store_follower *followers;
    uint64_t compactions; /* that have begun */

    /* A compaction that is being taken over: its output is not in the lists yet. */
    struct segment *moving_to;
    struct move *moves;
    size_t move_count;
};

/* The open segments of a store, as a ring; segment_file.c. */
struct segment_files {
    pthread_mutex_t lock;
    struct segment *hand;
    uint32_t count, limit;
};

struct store {
    const struct io *io;
    struct segment_files files;
    struct store_options options;
    char data[PATH_LEN], index[PATH_LEN];
    int lock_fd;
    uint64_t next_namespace;
    uint32_t chunk_size;

    pthread_mutex_t admin, committing, submitting, lists;
    struct namespace **namespaces; /* by id; admin and lists are held to change it, lists to read */
    uint32_t namespace_count, namespace_room;
    struct namespace *dirty, *unsynced;
    struct chunk *free_chunks[64];
    uint32_t free_count;

    _Atomic uint64_t tickets, answered;
    _Atomic int failed;
    _Atomic uint64_t cache_bytes;
    _Atomic uint64_t sets, unchanged, dels, gets, hits, written_bytes, compacted_bytes, damaged;
    _Atomic uint64_t syncs, sync_usec, compactions;

    int notify[NOTIFY_MAX];
    uint32_t notify_count;

    pthread_t committer, keeper;
    bool has_committer, has_keeper;
    char failed_text[160];
    pthread_mutex_t wake_lock;
    pthread_cond_t wake_committer, wake_keeper;
    bool commit_wanted, keep_wanted, stopping;
};

/* ---- store.c ---------------------------------------------------------------------------------- */

/* Notes an error that makes memory and disk disagree: from now on read-only. Returns
 * STORE_DISK_FAILED. */
int store_fail(struct store *store, const char *what, const char *path, int error);
uint32_t store_now(void);
/* Appends a mark when all before it is synced: it says so on disk, so that later damage of the last
 * records is not taken for a torn tail. */
void store_mark(struct namespace *ns);
struct namespace *namespace_new(struct store *store, uint32_t id);
int store_namespace_add(struct store *store, struct namespace *ns);
void namespace_clear(struct namespace *ns); /* forgets segments, index, chunks; closes files */
/* Replaces the descriptor by ns->d as `change` makes it; ns->d changes only on success. */
int namespace_save(struct namespace *ns, const struct namespace_descriptor *d);

/* ---- store_segment.c -------------------------------------------------------------------------- */

void segment_path(const struct namespace *ns, uint32_t id, const char *ending, char out[PATH_LEN]);
void index_path(const struct namespace *ns, const char *ending, char out[PATH_LEN]);
/* ns->lock held for the following. */
struct segment *namespace_segment(const struct namespace *ns, uint32_t id);
struct segment *namespace_active(const struct namespace *ns); /* NULL: none that takes records */
/* By number: the segment that may hold it, or the first after it; NULL. */
struct segment *namespace_segment_for(const struct namespace *ns, uint64_t number);
int namespace_segment_add(struct namespace *ns, struct segment *segment); /* 0 or -ENOMEM */
void namespace_segment_remove(struct namespace *ns, struct segment *segment);
/* No longer the namespace's: closed and freed by its last reader. */
void segment_retire(struct namespace *ns, struct segment *segment);
/* Gives a reader's reference back. */
void segment_put(struct namespace *ns, struct segment *segment);

/* Walks through a segment that the caller has a reference of; see segment_walk(). ns->lock need not be held. */
int namespace_walk(struct namespace *ns, struct segment *segment, const struct segment_walk *walk,
                   void *ctx);

/* For a walk of one's own. 0, -ENOMEM or what opening the file said; `done` only after 0. */
int namespace_walker_init(struct namespace *ns, struct segment *segment, uint64_t from,
                          uint64_t end, struct segment_walker *walker);
void namespace_walker_done(struct segment *segment, struct segment_walker *walker);

/* ---- segment_file.c --------------------------------------------------------------------------- */

/* The descriptor, open until it is released; or -errno. The caller has a reference of the segment. */
int segment_hold(struct namespace *ns, struct segment *segment);
void segment_release(struct segment *segment);
/* Gives up the hold of bytes that are synced now; what is too much is closed. */
void segment_settle(struct store *store, struct segment *segment);
/* Makes the file of a new segment, held. */
int segment_create_file(struct namespace *ns, struct segment *segment, const char *ending);
/* For good: nobody may hold it any more but the caller. */
void segment_close(struct store *store, struct segment *segment);
/* Whether the namespace has given it up: then its file may be gone. Takes ns->lock. */
bool segment_is_retired(struct namespace *ns, const struct segment *segment);

/* ---- store_buffer.c --------------------------------------------------------------------------- */

/* Room for one record of this size in the active segment; takes ns->write and ns->lock. */
int namespace_make_room(struct namespace *ns, uint64_t need, bool is_delete);
/* Claims space before it is needed, where that takes time; called between commits. */
void namespace_prepare(struct namespace *ns);
/* Appends; ns->lock held and room made. `external`: ns->write is held, too. 0 or -ENOMEM. */
int namespace_append(struct namespace *ns, struct segment *segment, struct record *record,
                     const void *key, const void *value, bool external);
/* Bytes of disk that it has claimed: what maxdisk limits. ns->lock held. */
uint64_t namespace_claimed(const struct namespace *ns);
/* Of these, how many sets may claim: the rest is for compaction and deletes. 0: no limit. ns->lock held. */
uint64_t namespace_share(const struct namespace *ns, bool is_delete);
/* Writes all buffered bytes. ns->write held. */
int namespace_write_out(struct namespace *ns);
/* The record in memory at this place, `size` bytes of it; NULL: read the file. ns->lock held. */
const uint8_t *chunk_find(const struct namespace *ns, uint32_t segment, uint64_t offset,
                          uint64_t size);
void chunks_drop(struct namespace *ns, bool all); /* those in the file; ns->lock held */

/* ---- store_write.c ---------------------------------------------------------------------------- */

/* 1 found, 0 absent, negative result. ns->lock held. `key_len` is right for the mode. */
int namespace_find(struct namespace *ns, const void *key, uint32_t len, struct index_entry *ret);
bool entry_is_suspect(const struct namespace *ns, const struct index_entry *entry);
/* ---- store_commit.c --------------------------------------------------------------------------- */

uint64_t store_ticket(struct namespace *ns); /* a new one; ns->lock held */
int namespace_sync(struct namespace *ns);
void store_notify_all(struct store *store);
void store_keep_soon(struct store *store); /* store_tick() by its thread, now */
int store_threads_start(struct store *store);
void store_threads_stop(struct store *store);

/* ---- store_read.c ----------------------------------------------------------------------------- */

enum { FETCH_HEAD = 1, FETCH_DISK = 2 };
/* 17 KiB that every read would otherwise set to zero first (-ftrivial-auto-var-init). */
#if __has_attribute(uninitialized)
#define FETCH_UNINITIALIZED __attribute__((uninitialized))
#else
#define FETCH_UNINITIALIZED
#endif
struct fetched {
    struct record record;
    const uint8_t *key;   /* in scratch */
    const uint8_t *value; /* in scratch, verified; NULL with FETCH_HEAD, or delivered to the sink */
    uint8_t scratch[SCRATCH_SIZE];
};
/* Reads and verifies the record at a place. ns->lock is held, and given up. `key` NULL: any. The
 * value goes to the sink (may be NULL: verified only). */
int namespace_fetch(struct namespace *ns, struct segment *segment, uint64_t offset, const void *key,
                    uint32_t key_len, uint32_t value_len, unsigned flags,
                    const struct store_sink *sink, struct fetched *ret);

/* ---- store_scan.c, store_follow.c ------------------------------------------------------------- */

/* store_follow() without asking who follows. */
int namespace_scan_all(struct namespace *ns, struct store_cursor *cursor, uint32_t max,
                       int (*each)(void *ctx, const struct store_item *item), void *ctx,
                       bool *ret_more);
/* The number up to which all followers hold everything. ns->lock held. */
uint64_t followers_hold(const struct namespace *ns);
/* Those that came when `since` compactions had begun, or later, must begin anew if they hold less than up to `below`: records
 * that they need are gone. ns->lock held. */
void followers_break(struct namespace *ns, uint64_t since, uint64_t below);

/* ---- store_namespace.c ------------------------------------------------------------------------ */

/* The first namespace whose id is above, with a reference that the caller gives up; NULL: none. A walk by ids stays right
 * while namespaces come and go. */
struct namespace *store_namespace_after(struct store *store, uint32_t after);

/* ---- compact.c, index_snapshot.c, recover.c --------------------------------------------------- */

/* Compacts the first run of segments that begins at or after number *from, and moves *from behind it: 1;
 * 0: none is left, or there is no space; negative result. ns->upkeep held. Or the one where it pays
 * best. */
int namespace_compact_step(struct namespace *ns, uint64_t *from);
int namespace_compact_best(struct namespace *ns);
/* Whether a compaction would make room for a namespace that is crowded. ns->lock held. */
bool namespace_can_compact(const struct namespace *ns);
/* Where the record at this place will be found, while a compaction is taken over. ns->lock held. */
bool compaction_moves(const struct namespace *ns, const struct index_entry *entry, uint32_t segment,
                      uint64_t offset);
int snapshot_save(struct namespace *ns);
/* Loads the index. 1 with the place where the log goes on; 0: there is none that is right. */
int snapshot_load(struct namespace *ns, uint32_t *ret_segment, uint64_t *ret_offset);
int snapshot_remove(struct namespace *ns);
int namespace_load(struct namespace *ns);
int slots_flush(struct namespace *ns, bool sync);
void namespace_account(struct namespace *ns, struct segment *segment, uint32_t key_len,
                       uint32_t value_len, bool add);
int store_recover(struct store *store, struct error *err);
int namespace_remove_files(struct namespace *ns);
