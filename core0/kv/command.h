/*
 * command.h - the table of commands: name, arguments, what they need, handler, and what they are for.
 *
 * A handler reads its arguments, asks the store and writes one answer; see enum command_result for how it waits. Names are
 * matched whole, in any case. docs/kv-protocol.md describes each; a test holds the table against it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resp.h"
#include "session.h"

struct command_call {
    const uint8_t *data;
    const struct resp_request *request;
};

struct command_bytes {
    const uint8_t *data;
    size_t len;
};

typedef enum command_result command_fn(struct session *session, const struct command_call *call);

enum command_flag {
    COMMAND_ADMIN = 1, /* administrators only */
    COMMAND_WRITE =
        2, /* needs the right to write into the session's namespace; refused by a replica */
    COMMAND_NAMESPACE = 4, /* needs the session's namespace */
    COMMAND_EMPTY = 8,     /* arguments may be empty */
    COMMAND_CHANGE = 16,   /* changes namespaces: refused by a replica */
};

struct command {
    const char *name;
    int least, most; /* arguments without the name; most -1: RESP_ARGS_MAX */
    unsigned flags;
    command_fn *run;
    const char *arguments;
    const char *summary;
};

extern const struct command command_table[]; /* ended by name NULL */

/* Whole name in any case; NULL: none. */
const struct command *command_find(const uint8_t *name, size_t len);
enum command_result command_run(struct session *session, const uint8_t *data,
                                const struct resp_request *request);
/* The session ends: gives back what its command held. */
void command_abandon(struct session *session);
/* The store answered more: who follows looks again. */
void command_answered(struct worker *worker);

static inline unsigned command_count(const struct command_call *call)
{
    return call->request->argc;
}
/* Argument i, 0 is the name. */
static inline struct command_bytes command_arg(const struct command_call *call, unsigned i)
{
    return (struct command_bytes){call->data + call->request->argv[i].offset,
                                  call->request->argv[i].len};
}
bool command_is(struct command_bytes bytes, const char *word); /* in any case */
int command_number(struct command_bytes bytes, uint64_t max, uint64_t *ret_number);

/* Cursors as clients see them; see command_scan.c. */
#define COMMAND_CURSOR_MAX 40 /* digits of 2^128, and one */
size_t command_cursor_format(const struct store_cursor *cursor, char ret_text[COMMAND_CURSOR_MAX]);
int command_cursor_parse(struct command_bytes text, struct store_cursor *ret_cursor);

/* The answer to a result of the store: 0-db's words where its clients know them, else "-ERR code sentence". */
enum command_result command_failed(struct session *session, int result);
/* The answer shows that something is not there, or the namespace as a whole: it waits for the newest write. */
void command_hold_newest(struct session *session);
/* The namespace of an argument, if this session may know it (its own, a public one, an administrator all). Else the
 * answer is given and NULL returned. The caller puts it. */
struct namespace *command_namespace(struct session *session, struct command_bytes name);
/* Whether the namespace requires TLS and this connection is one that others can read. Then that is answered. To be asked only
 * after it is known that the session may know the namespace. */
bool command_wants_tls(struct session *session, const struct namespace *ns);
bool command_may_know(const struct session *session, const struct store_info *info);
/* Whether the password, or with a nonce sha1("nonce:password"), is right; in constant time. */
bool command_password(const uint8_t *secret, size_t secret_len, struct command_bytes given,
                      const char *nonce);
/* What AUTH SECURE sends: sha1("nonce:secret") in hex. -EINVAL: too long. */
int command_secret(const uint8_t *secret, size_t secret_len, const char *nonce, char ret_hex[41]);
/* Tells who waits for `command` in this namespace. */
void command_notify(struct session *session, const struct command *command);

/* Work that would keep a worker's other sessions waiting (it syncs, or rebuilds): done by a thread of its own. */
struct command_job {
    int (*work)(struct command_job *job); /* on the other thread; a result of the store */
    struct store *store;
    struct namespace *ns; /* referenced by the job, may be NULL */
    char name[STORE_NAME_MAX + 1];
    size_t name_len;
    struct store_properties properties;
    int result;
    struct worker *worker;   /* where the session lives */
    struct session *session; /* NULL: it ended meanwhile. Only on the worker's thread */
    bool done;
    struct command_job *next;
};
/* First call: starts the job (taken over) and waits. Then: 1 and *ret_result. */
enum command_result command_job_start(struct session *session, struct command_job *job);
bool command_job_done(struct session *session, int *ret_result);
void command_job_abandon(struct session *session);
int command_jobs_start(struct server *server, struct error *err);
void command_jobs_stop(struct server *server);

command_fn command_ping, command_echo, command_time, command_auth, command_quit, command_info,
    command_stop, command_help, command_hooks;
command_fn command_set, command_get, command_mget, command_del, command_exists, command_check,
    command_length, command_keytime, command_version;
command_fn command_scan, command_rscan, command_kscan, command_keycur, command_history,
    command_data, command_index;
command_fn command_nsnew, command_nsdel, command_nsinfo, command_nslist, command_nsset,
    command_nsjump, command_select, command_reload, command_flush, command_dbsize;
command_fn command_wait, command_waitreplicas, command_follow;
