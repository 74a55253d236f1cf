/*
 * space.h - key-value namespaces ("spaces") on the pools: what is promised, and the server of each pool that keeps them.
 *
 *   provd ──EnsureSpace──► space_methods.c ──description──► space.c      <pool>/spaces/<namespace>
 *                               └──requests──► space_server.c ──StartService──► core0 ──► kvd@<pool>
 *                                                   └──NSNEW, NSSET──► space_talk.c ──► /run/croft/kvd/<pool>
 *
 * Invariants
 *  1. A namespace exists in a pool's kvd only while its description lies on the pool: the description is written before NSNEW
 *     and removed after NSDEL. It is the truth about size and mode; kvd is made to follow with every EnsureSpace.
 *  2. What descriptions promise, volumes of that pool cannot be promised (space_reserved).
 *  3. A password is never kept here: it passes through to kvd. The administrator's password of a kvd lies in /run alone.
 */
#pragma once

#include "lib/buffer.h"
#include "lib/kv_name.h"
#include "storage.h"

#define SPACE_SIZE_MIN ((uint64_t)1 << 20)
#define SPACE_PASSWORD_MAX 63 /* what NSSET takes */
#define SPACE_ENSURE_COMMANDS 8
/* --segment-size of kvd@.service: room for one value of 64 MiB. */
#define SPACE_SEGMENT_BYTES ((uint64_t)67174400)
/* What the server of a pool needs once: compaction's reserve, and files of its own. */
#define SPACE_SERVER_BYTES (SPACE_SEGMENT_BYTES + ((uint64_t)32 << 20))

struct space {
    char key[256];
    char name[KV_NAME_LEN +
              1];  /* of the namespace: a hash of the key, so that it tells nobody anything */
    uint64_t size; /* bytes of keys and values */
    bool seq;
    bool is_public;
    bool tls_required;  /* not over a connection in plain text */
    int64_t keep_until; /* Unix seconds; 0: none */
    const struct pool *pool;
};

/* ---- space.c: descriptions ---- */

typedef int space_fn(const struct space *space, void *data);

/* "kv/<tenant>/<project>/<name>". storage.bad-key. */
int space_key_check(const char *key, struct error *err);
/* Calls fn for each space of the pool, in no order. Stops at the first answer other than 0 and returns it. */
int space_each(const struct pool *pool, space_fn *fn, void *data);
/* 0, -ENOENT, or what went wrong. */
int space_find(const struct storage *storage, const char *key, struct space *ret_space);
/* Writes the description to the pool, durably. */
int space_save(const struct space *space);
int space_forget(const struct space *space);
/* One description (fuzzed). `name` is the file's; -EBADMSG: damaged, or of another name. */
int space_parse(const char *text, size_t len, const char *name, struct space *ret_space);

/* Bytes of the pool that a space of that size is promised (docs/decisions/0114), which its kvd holds it to. */
uint64_t space_cost(uint64_t size);
/* The sum of the sizes alone, as the contract counts them. */
uint64_t space_sold(const struct pool *pool);
/* The sum of these, and what a server needs besides; 0 without spaces. */
uint64_t space_reserved(const struct pool *pool);

/* ---- space_talk.c: one conversation with a kvd ---- */

struct space_reply {
    char type; /* '+', '-', ':', '$' */
    const char *text;
    size_t len;
};
#define SPACE_REPLIES_MAX 9

/* Reads one reply. How many bytes it took, 0: there are not all yet, -EBADMSG. A null bulk has text NULL. */
ssize_t space_reply_read(const char *data, size_t len, struct space_reply *ret_reply);

struct space_talk;
/* replies NULL: none came, and err says why. */
typedef void space_talk_fn(const struct space_reply *replies, size_t count, const struct error *err,
                           void *data);
/* Sends all of `request` (RESP) to the socket and reads `count` replies. fn is called once, later; the talk is over then. */
int space_talk_start(struct loop *loop, const char *path, const struct buffer *request,
                     size_t count, space_talk_fn *fn, void *data, struct space_talk **ret_talk,
                     struct error *err);
void space_talk_free(struct space_talk *talk); /* fn is not called any more */
/* Appends a command of words that ends with NULL. */
int space_request(struct buffer *request, const char *const *words);

/* ---- space_server.c: the kvd of a pool ---- */

struct space_servers;
struct space_server;

int space_servers_new(struct storage *storage, struct space_servers **ret_servers);
/* The pools are known, or have changed: servers that are wanted and possible are started. */
void space_servers_settle(struct storage *storage);
/* The pool goes away (its memory too): its server is stopped, what waits for it fails. */
void space_servers_lose(struct storage *storage, const struct pool *pool);
/* Starts the pool's server if need be, and asks it as an administrator: `request` without AUTH, consumed. One request after
 * the other. fn as above, its replies without that of AUTH; never from inside this call. */
int space_server_ask(struct storage *storage, const struct pool *pool, struct buffer *request,
                     size_t count, space_talk_fn *fn, void *data, struct error *err);
/* The pool has no space any more: ends its server and removes what it kept. */
void space_server_end(struct storage *storage, const struct pool *pool);
/* The TCP port of the pool's server; 0: it has none yet. */
uint16_t space_server_port(const struct storage *storage, const struct pool *pool);

/* The servers take TLS beside plain text, with a certificate that the node's registered key has signed. */
bool space_server_has_tls(const struct storage *storage);

/* ---- space_methods.c ---- */
varlink_method_fn space_ensure, space_keep, space_remove, space_list, space_get;
