/*
 * command.c - see command.h: the table, dispatching, and what several commands share.
 */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <mbedtls/constant_time.h>
#include <mbedtls/sha1.h>

#include "replica.h"

#define READS COMMAND_NAMESPACE
#define WRITES (COMMAND_NAMESPACE | COMMAND_WRITE)
#define ADMIN COMMAND_ADMIN

/* What clients send most comes first: the table is searched from the top. */
const struct command command_table[] = {
    {"GET", 1, 1, READS, command_get, "key", "the value of a key"},
    {"SET", 2, 4, WRITES | COMMAND_EMPTY, command_set, "key value [NX|XX|IFEQ version|time]",
     "sets a key; answers the key, nil when the value was the same"},
    {"SETX", 2, 4, WRITES | COMMAND_EMPTY, command_set, "key value [NX|XX|IFEQ version|time]",
     "SET under another name"},
    {"MGET", 1, -1, READS | COMMAND_EMPTY, command_mget, "key [key …]",
     "the values of several keys"},
    {"EXISTS", 1, 1, READS, command_exists, "key", "1 or 0"},
    {"DEL", 1, 1, WRITES, command_del, "key", "deletes a key"},
    {"PING", 0, 0, 0, command_ping, "", "answers PONG"},
    {"ECHO", 1, 1, COMMAND_EMPTY, command_echo, "text", "answers the text"},
    {"VERSION", 1, 1, READS, command_version, "key",
     "the version of a key's value, nil without one"},
    {"LENGTH", 1, 1, READS, command_length, "key", "bytes of a key's value"},
    {"KEYTIME", 1, 1, READS, command_keytime, "key", "when the key was set, Unix time"},
    {"CHECK", 1, 1, READS, command_check, "key", "1 when what the disk holds is whole, else 0"},
    {"SCAN", 0, 1, READS, command_scan, "[cursor]", "keys in the order they were set"},
    {"SCANX", 0, 1, READS, command_scan, "[cursor]", "SCAN under another name"},
    {"RSCAN", 0, 1, READS, command_rscan, "[cursor]", "keys from the newest backwards"},
    {"KSCAN", 1, 1, READS, command_kscan, "prefix", "all keys with a prefix"},
    {"KEYCUR", 1, 1, READS, command_keycur, "key", "the cursor of a key, for SCAN and RSCAN"},
    {"HISTORY", 1, 2, READS, command_history, "key [cursor]",
     "the value now, or at a cursor of an earlier answer"},
    {"DBSIZE", 0, 0, READS, command_dbsize, "", "keys in the namespace"},
    {"SELECT", 1, 3, 0, command_select, "namespace [[SECURE] password]", "moves to a namespace"},
    {"AUTH", 1, 2, 0, command_auth, "password | SECURE CHALLENGE | SECURE hash",
     "makes the caller administrator"},
    {"NSNEW", 1, 1, ADMIN | COMMAND_CHANGE, command_nsnew, "namespace", "creates a namespace"},
    {"NSDEL", 1, 1, ADMIN | COMMAND_CHANGE, command_nsdel, "namespace",
     "deletes a namespace and its data"},
    {"NSSET", 3, 3, ADMIN | COMMAND_CHANGE, command_nsset, "namespace property value",
     "maxsize, maxdisk, password, public, worm, mode, lock, freeze, tls"},
    {"NSINFO", 1, 1, 0, command_nsinfo, "namespace", "facts about a namespace"},
    {"NSLIST", 0, 0, 0, command_nslist, "", "the namespaces that the caller may know"},
    {"NSJUMP", 0, 0, ADMIN | READS, command_nsjump, "", "refused: segments end by themselves"},
    {"FLUSH", 0, 0, WRITES, command_flush, "", "drops all keys of a private namespace"},
    {"RELOAD", 1, 1, ADMIN, command_reload, "namespace", "rebuilds the index from the segments"},
    {"WAIT", 1, 2, READS, command_wait, "command|* [milliseconds]",
     "waits until somebody runs a command in this namespace"},
    {"WAITREPLICAS", 2, 2, READS, command_waitreplicas, "count milliseconds",
     "waits until so many replicas have what this namespace holds now"},
    {"FOLLOW", 2, 3, ADMIN, command_follow, "token milliseconds | namespace id cursor",
     "for replicas: namespaces, or the records after a cursor"},
    {"INFO", 0, 1, 0, command_info, "", "facts about the server"},
    {"TIME", 0, 0, 0, command_time, "", "seconds and microseconds of the server's clock"},
    {"HOOKS", 0, 0, ADMIN, command_hooks, "", "an empty array: this server runs no programs"},
    {"INDEX", 1, 2, ADMIN, command_index, "DIRTY [RESET]", "refused: there are no index files"},
    {"DATA", 2, 3, ADMIN | READS, command_data, "RAW segment offset | PLACE key",
     "the record at a place of the disk; the place of a key"},
    {"HELP", 0, 0, 0, command_help, "", "this table"},
    {"QUIT", 0, 0, 0, command_quit, "", "closes the connection"},
    {"STOP", 0, 0, ADMIN, command_stop, "", "ends a server that was built for debugging"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* ---- dispatching ---- */

const struct command *command_find(const uint8_t *name, size_t len)
{
    for (const struct command *c = command_table; c->name != NULL; c++) {
        if (strncasecmp(c->name, (const char *)name, len) == 0 && c->name[len] == '\0')
            return c;
    }
    return NULL;
}

static void notify_worker(struct worker *worker, void *data, uint64_t argument)
{
    uint32_t ns_id = (uint32_t)(argument >> 32);
    const struct command *command = &command_table[(uint32_t)argument];
    struct session *s = worker->lists[SESSION_WAITING], *after;

    (void)data;
    for (; s != NULL; s = after) {
        after = s->nodes[SESSION_WAITING].next;
        if (s->command == NULL || s->command->run != command_wait || s->ns_id != ns_id)
            continue;
        if (s->progress.a == 0 || &command_table[s->progress.a - 1] == command) {
            s->progress.b = (uint32_t)argument;
            session_wake(s);
        }
    }
}

void command_notify(struct session *s, const struct command *command)
{
    struct server *server = s->worker->server;
    uint64_t argument = (uint64_t)s->ns_id << 32 | (uint64_t)(command - command_table);

    for (unsigned i = 0; i < server->worker_count; i++)
        (void)worker_post(&server->workers[i], notify_worker, NULL, argument);
}

/* What every command asks for, from its row. False: answered. */
static bool command_allowed(struct session *s, const struct command *command,
                            const struct command_call *call)
{
    int given = (int)call->request->argc - 1;

    if (given < command->least || (command->most >= 0 && given > command->most)) {
        reply_literal(s, "Unexpected arguments");
        return false;
    }
    if (command->flags & COMMAND_ADMIN && !s->admin) {
        atomic_fetch_add_explicit(&s->worker->counters.unauthorized, 1, memory_order_relaxed);
        reply_literal(s, "Permission denied");
        return false;
    }
    if (!(command->flags & COMMAND_EMPTY)) {
        for (unsigned i = 1; i < call->request->argc; i++) {
            if (call->request->argv[i].len == 0) {
                reply_literal(s, "Invalid argument");
                return false;
            }
        }
    }
    if (command->flags & COMMAND_NAMESPACE && s->ns == NULL) {
        reply_literal(s, "Namespace not found");
        return false;
    }
    if (command->flags & COMMAND_NAMESPACE && command_wants_tls(s, s->ns))
        return false;
    if (command->flags & (COMMAND_WRITE | COMMAND_CHANGE) && s->worker->server->replica != NULL) {
        reply_error(s, "kv.replica", "this server follows another and takes no writes");
        return false;
    }
    if (command->flags & COMMAND_WRITE && !s->writable) {
        reply_literal(s, "Namespace is in read-only mode");
        return false;
    }
    return true;
}

/* A browser or a proxy that was lured here sends HTTP: nothing behind its first line may be taken for commands. */
static bool is_http(struct command_bytes name)
{
    return command_is(name, "POST") || command_is(name, "Host:");
}

enum command_result command_run(struct session *s, const uint8_t *data,
                                const struct resp_request *request)
{
    const struct command_call call = {.data = data, .request = request};
    struct command_bytes name = command_arg(&call, 0);
    const struct command *command = s->command;
    enum command_result result = COMMAND_DONE;

    if (command == NULL) { /* else it goes on */
        command = command_find(name.data, name.len);
        if (command == NULL) {
            reply_literal(s, "Command not supported");
            return is_http(name) ? COMMAND_CLOSE : COMMAND_DONE;
        }
        atomic_fetch_add_explicit(&s->worker->counters.commands, 1, memory_order_relaxed);
        s->progress = (struct session_progress){.begun = false};
        if (!command_allowed(s, command, &call))
            return COMMAND_DONE;
    }
    result = command->run(s, &call);
    if (result == COMMAND_DONE || result == COMMAND_CLOSE) {
        s->command = NULL;
        if (atomic_load_explicit(&s->worker->server->waiters, memory_order_relaxed) > 0 &&
            command->run != command_wait && s->out[s->mark] != '-')
            command_notify(s, command);
    } else {
        s->command = command;
    }
    return result;
}

void command_abandon(struct session *s)
{
    if (s->command != NULL && s->command->run == command_wait && s->progress.begun)
        atomic_fetch_sub(&s->worker->server->waiters, 1);
    command_job_abandon(s);
    s->command = NULL;
    follower_free(s);
}

void command_answered(struct worker *worker)
{
    struct session *s = worker->lists[SESSION_WAITING], *after;

    for (; s != NULL; s = after) {
        after = s->nodes[SESSION_WAITING].next;
        if (s->command != NULL && s->command->run == command_follow)
            session_wake(s);
    }
}

/* ---- arguments ---- */

bool command_is(struct command_bytes bytes, const char *word)
{
    return bytes.len == strlen(word) && strncasecmp((const char *)bytes.data, word, bytes.len) == 0;
}

int command_number(struct command_bytes bytes, uint64_t max, uint64_t *ret_number)
{
    return resp_number(bytes.data, bytes.len, max, ret_number);
}

/* ---- what several share ---- */

enum command_result command_failed(struct session *s, int result)
{
    struct error err = {.code = ""};

    switch (result) {
    case STORE_IS_LOCKED:
        reply_literal(s, "Namespace is temporarily locked (read-only)");
        return COMMAND_DONE;
    case STORE_IS_FROZEN:
        reply_literal(s, "Namespace is temporarily frozen (read-write disabled)");
        return COMMAND_DONE;
    case STORE_OVER_QUOTA:
        reply_literal(s, "No space left on this namespace");
        return COMMAND_DONE;
    case STORE_WORM:
        reply_literal(s, "Namespace is protected by worm mode");
        return COMMAND_DONE;
    case STORE_NO_NAMESPACE:
        reply_literal(s, "Your active namespace is not available anymore (probably removed).");
        return COMMAND_CLOSE;
    default:
        store_error(result, &err);
        reply_error(s, err.code, "%s", err.message);
        return COMMAND_DONE;
    }
}

void command_hold_newest(struct session *s)
{
    session_hold(s, store_namespace_ticket(s->ns));
}

bool command_wants_tls(struct session *s, const struct namespace *ns)
{
    if (s->tls || s->local || !store_namespace_requires_tls(ns))
        return false;
    reply_error(s, "kv.tls-required",
                "this namespace is reached by TLS alone; a password that came in plain text may "
                "have been read");
    return true;
}

bool command_may_know(const struct session *s, const struct store_info *info)
{
    return s->admin || info->properties.is_public || info->id == s->ns_id;
}

struct namespace *command_namespace(struct session *s, struct command_bytes name)
{
    struct namespace *ns;
    struct store_info info;

    if (name.len > STORE_NAME_MAX) {
        reply_literal(s, "Namespace too long");
        return NULL;
    }
    if (store_namespace_get(s->worker->server->store, (const char *)name.data, name.len, &ns) ==
        0) {
        store_namespace_info(ns, &info);
        if (command_may_know(s, &info))
            return ns;
        store_namespace_put(ns);
    }
    reply_literal(s, "Namespace not found");
    return NULL;
}

int command_secret(const uint8_t *secret, size_t secret_len, const char *nonce, char ret_hex[41])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t text[SESSION_NONCE + 1 + STORE_SECRET_MAX], hash[20];
    size_t len = strlen(nonce);

    if (len > SESSION_NONCE || secret_len > STORE_SECRET_MAX)
        return -EINVAL;
    memcpy(text, nonce, len);
    text[len++] = ':';
    memcpy(text + len, secret, secret_len);
    if (mbedtls_sha1(text, len + secret_len, hash) != 0)
        return -EINVAL;
    for (size_t i = 0; i < sizeof(hash); i++) {
        ret_hex[2 * i] = digits[hash[i] >> 4];
        ret_hex[2 * i + 1] = digits[hash[i] & 15];
    }
    ret_hex[40] = '\0';
    return 0;
}

bool command_password(const uint8_t *secret, size_t secret_len, struct command_bytes given,
                      const char *nonce)
{
    char hex[41];

    if (nonce == NULL)
        return given.len == secret_len && mbedtls_ct_memcmp(given.data, secret, secret_len) == 0;
    return given.len == 40 && command_secret(secret, secret_len, nonce, hex) == 0 &&
           mbedtls_ct_memcmp(given.data, hex, 40) == 0;
}
