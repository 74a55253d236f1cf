/*
 * replica_primary.c - FOLLOW and WAITREPLICAS: what a primary gives its replicas and knows of them.
 *
 *   FOLLOW token milliseconds     waits until something was written since `token` (0 at first) or the time is over;
 *                                 [token, [[name, id, mode, maxsize, public, worm, lock, password, last number] …]]
 *   FOLLOW namespace id cursor    [cursor, [[number, key, time, value or nil: deleted] …]], empty when there is nothing after
 *                                 the cursor. By asking, the replica says that it holds everything up to the cursor.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica.h"

#define FOLLOW_RECORDS 256
#define FOLLOW_MOST_MS 60000
#define WAITREPLICAS_MOST_MS ((uint64_t)30 * 60 * 1000)

/* What a follower holds of one namespace. */
struct held {
    uint32_t ns_id;
    uint64_t number;
    struct store_follower *at; /* the engine's side: what it keeps for the follower */
};

struct follower {
    struct follower *next;
    struct held *held;
    size_t count;
};

struct followers {
    pthread_mutex_t lock;
    struct follower *first;
    unsigned count;
    atomic_uint waiters; /* sessions inside WAITREPLICAS */
};

int followers_new(struct server *server)
{
    server->followers = calloc(1, sizeof(*server->followers));
    if (server->followers == NULL)
        return -ENOMEM;
    pthread_mutex_init(&server->followers->lock, NULL);
    return 0;
}

void followers_free(struct server *server)
{
    if (server->followers == NULL)
        return;
    pthread_mutex_destroy(&server->followers->lock);
    free(server->followers);
    server->followers = NULL;
}

unsigned followers_count(const struct server *server)
{
    unsigned count;

    pthread_mutex_lock(&server->followers->lock);
    count = server->followers->count;
    pthread_mutex_unlock(&server->followers->lock);
    return count;
}

void follower_free(struct session *s)
{
    struct followers *followers = s->worker->server->followers;
    struct follower *follower = s->follower;

    if (s->waits_for_replicas)
        atomic_fetch_sub(&followers->waiters, 1);
    s->waits_for_replicas = false;
    if (follower == NULL)
        return;
    pthread_mutex_lock(&followers->lock);
    for (struct follower **at = &followers->first; *at != NULL; at = &(*at)->next) {
        if (*at == follower) {
            *at = follower->next;
            followers->count--;
            break;
        }
    }
    pthread_mutex_unlock(&followers->lock);
    for (size_t i = 0; i < follower->count; i++)
        store_follower_free(follower->held[i].at);
    free(follower->held);
    free(follower);
    s->follower = NULL;
}

static bool follower_begin(struct session *s)
{
    struct followers *followers = s->worker->server->followers;

    if (s->follower != NULL)
        return true;
    s->follower = calloc(1, sizeof(*s->follower));
    if (s->follower == NULL)
        return false;
    pthread_mutex_lock(&followers->lock);
    s->follower->next = followers->first;
    followers->first = s->follower;
    followers->count++;
    pthread_mutex_unlock(&followers->lock);
    return true;
}

/* ---- what replicas hold ---- */

static void wake_waiting(struct worker *worker, void *data, uint64_t argument)
{
    struct session *s = worker->lists[SESSION_WAITING], *after;

    (void)data;
    (void)argument;
    for (; s != NULL; s = after) {
        after = s->nodes[SESSION_WAITING].next;
        if (s->waits_for_replicas)
            session_wake(s);
    }
}

/* Forgets namespaces that were deleted. Under the lock. */
static void drop_gone(struct follower *follower)
{
    for (size_t i = 0; i < follower->count;) {
        if (store_follower_is_gone(follower->held[i].at)) {
            store_follower_free(follower->held[i].at);
            follower->held[i] = follower->held[--follower->count];
        } else {
            i++;
        }
    }
}

static struct held *held_find(struct follower *follower, uint32_t ns_id)
{
    for (size_t i = 0; i < follower->count; i++) {
        if (follower->held[i].ns_id == ns_id)
            return &follower->held[i];
    }
    return NULL;
}

static struct held *held_add(struct follower *follower, struct namespace *ns, uint32_t ns_id)
{
    struct held *more;

    drop_gone(follower);
    more = realloc(follower->held, (follower->count + 1) * sizeof(*more));
    if (more == NULL)
        return NULL;
    follower->held = more;
    more += follower->count;
    *more = (struct held){.ns_id = ns_id};
    if (store_follower_new(ns, &more->at) < 0)
        return NULL;
    follower->count++;
    return more;
}

/* The follower has everything up to a number. The engine's side of it; NULL without memory. */
static struct store_follower *follower_holds(struct session *s, struct namespace *ns,
                                             uint32_t ns_id, uint64_t number)
{
    struct server *server = s->worker->server;
    struct store_follower *at = NULL;
    struct held *held;

    pthread_mutex_lock(&server->followers->lock);
    held = held_find(s->follower, ns_id);
    if (held == NULL)
        held = held_add(s->follower, ns, ns_id);
    if (held != NULL) {
        held->number = number;
        at = held->at;
    }
    pthread_mutex_unlock(&server->followers->lock);
    if (atomic_load(&server->followers->waiters) > 0) {
        for (unsigned i = 0; i < server->worker_count; i++)
            (void)worker_post(&server->workers[i], wake_waiting, NULL, 0);
    }
    return at;
}

static unsigned holders(struct server *server, uint32_t ns_id, uint64_t number)
{
    unsigned count = 0;

    pthread_mutex_lock(&server->followers->lock);
    for (const struct follower *f = server->followers->first; f != NULL; f = f->next) {
        for (size_t i = 0; i < f->count; i++) {
            if (f->held[i].ns_id == ns_id && f->held[i].number >= number)
                count++;
        }
    }
    pthread_mutex_unlock(&server->followers->lock);
    return count;
}

enum command_result command_waitreplicas(struct session *s, const struct command_call *call)
{
    struct server *server = s->worker->server;
    struct store_info info;
    uint64_t wanted, ms;
    unsigned count;

    if (command_number(command_arg(call, 1), 1000, &wanted) < 0 ||
        command_number(command_arg(call, 2), WAITREPLICAS_MOST_MS, &ms) < 0) {
        reply_error(s, "kv.bad-request", "WAITREPLICAS takes a count up to 1000 and milliseconds");
        return COMMAND_DONE;
    }
    if (!s->progress.begun) {
        store_namespace_info(s->ns, &info);
        s->progress.a = info.last_number;
        s->progress.begun = true;
        s->progress.woken = true;
        s->wait_until = loop_clock() + ms * 1000;
        /* before the first look: an answer that comes between look and wait wakes us */
        atomic_fetch_add(&server->followers->waiters, 1);
        s->waits_for_replicas = true;
    }
    count = holders(server, s->ns_id, s->progress.a);
    if (count < wanted && s->progress.woken && loop_clock() < s->wait_until)
        return COMMAND_WAIT;
    atomic_fetch_sub(&server->followers->waiters, 1);
    s->waits_for_replicas = false;
    reply_integer(s, count);
    return COMMAND_DONE;
}

/* ---- FOLLOW: namespaces ---- */

/* The list carries the passwords of namespaces, and stands for what follows: it is all or nothing. */
static bool is_open_wire(const struct session *s)
{
    return !s->tls && !s->local;
}

static int list_namespace(void *ctx, const struct store_info *info)
{
    const struct store_properties *p = &info->properties;
    struct session *s = ctx;

    if (info->descriptor_damaged)
        return 0;
    if (p->tls_required && is_open_wire(s))
        return STORE_INVALID;
    if (!reply_room(s, STORE_NAME_MAX + STORE_SECRET_MAX + 16 * RESP_HEAD_MAX))
        return STORE_NO_MEMORY;
    /* One that does not know the tenth stops here rather than serve in plain text what is not to be. */
    reply_array(s, p->tls_required ? 10 : 9);
    (void)reply_bulk(s, info->name, strlen(info->name));
    reply_integer(s, info->id);
    reply_integer(s, p->mode);
    reply_integer(s, p->maxsize);
    reply_integer(s, p->is_public);
    reply_integer(s, p->worm);
    reply_integer(s, p->lock);
    (void)reply_bulk(s, p->secret, p->secret_len);
    reply_integer(s, info->last_number);
    if (p->tls_required)
        reply_integer(s, 1);
    s->progress.count++;
    return 0;
}

static enum command_result follow_list(struct session *s, const struct command_call *call)
{
    struct store *store = s->worker->server->store;
    uint64_t token, ms, answered = 0;
    char before[64];
    int len, r;

    if (command_number(command_arg(call, 1), UINT64_MAX, &token) < 0 ||
        command_number(command_arg(call, 2), FOLLOW_MOST_MS, &ms) < 0) {
        reply_error(s, "kv.bad-request", "FOLLOW takes a token and milliseconds");
        return COMMAND_DONE;
    }
    (void)store_answered(store, &answered);
    if (!s->progress.begun) {
        s->progress.begun = true;
        s->progress.woken = true;
        s->wait_until = loop_clock() + ms * 1000;
    }
    if (answered == token && s->progress.woken && loop_clock() < s->wait_until)
        return COMMAND_WAIT;
    s->progress.count = 0;
    len = snprintf(before, sizeof(before), "*2\r\n:%llu\r\n", (unsigned long long)answered);
    r = store_namespace_list(store, list_namespace, s);
    if (r == STORE_INVALID) {
        s->out_end = s->mark;
        reply_error(s, "kv.tls-required",
                    "a namespace here is reached by TLS alone: replicas follow by tls: or unix:");
        return COMMAND_DONE;
    }
    if (r < 0 || !reply_array_close(s, before, (size_t)len, s->progress.count))
        return COMMAND_ROOM;
    return COMMAND_DONE;
}

/* ---- FOLLOW: records ---- */

struct record {
    struct store_cursor cursor;
    uint32_t time, key_len;
    bool deleted;
    uint8_t *key; /* into keys */
};

struct batch {
    struct record records[FOLLOW_RECORDS];
    unsigned count;
    uint8_t keys[FOLLOW_RECORDS * 64]; /* usual keys; with longer ones the batch is shorter */
    size_t used;
};

static int batch_item(void *ctx, const struct store_item *item)
{
    struct batch *batch = ctx;
    struct record *record = &batch->records[batch->count];

    if (batch->count == FOLLOW_RECORDS || item->key_len > sizeof(batch->keys) - batch->used)
        return 1; /* the rest next time */
    record->cursor = item->cursor;
    record->time = item->time;
    record->key_len = item->key_len;
    record->deleted = item->deleted;
    record->key = batch->keys + batch->used;
    memcpy(record->key, item->key, item->key_len);
    batch->used += item->key_len;
    batch->count++;
    return 0;
}

/* One record. 1: written, 0: compaction took it (a later one follows, or a deletion), negative: a result of the store. */
static int follow_record(struct session *s, struct namespace *ns, const struct record *record,
                         bool *ret_starved)
{
    struct store_value found = {.ticket = 0};
    struct reply_value value;
    struct store_sink sink;
    size_t begin = s->out_end - s->mark;
    int r = 1;

    *ret_starved = true;
    if (!reply_room(s, record->key_len + 8 * RESP_HEAD_MAX))
        return STORE_NO_MEMORY;
    reply_array(s, 4);
    reply_integer(s, record->cursor.number);
    (void)reply_bulk(s, record->key, record->key_len);
    reply_integer(s, record->time);
    if (record->deleted) {
        reply_null(s);
        return 1;
    }
    sink = reply_value_sink(&value, s);
    r = store_get_at(ns, &record->cursor, &sink, &found);
    if (r == 0) {
        reply_value_done(&value);
        return 1;
    }
    s->out_end = s->mark + begin;
    *ret_starved = value.starved;
    return r == STORE_NO_KEY || r == STORE_DAMAGED ? 0 : r;
}

static enum command_result follow_records(struct session *s, const struct command_call *call)
{
    struct namespace *ns = command_namespace(s, command_arg(call, 1));
    struct store_cursor cursor, upto;
    struct store_info info;
    struct batch *batch = NULL;
    struct store_follower *follower;
    enum command_result result = COMMAND_DONE;
    char before[COMMAND_CURSOR_MAX + 2 * RESP_HEAD_MAX], text[COMMAND_CURSOR_MAX];
    bool more, starved = false;
    uint64_t id;
    size_t len;
    int r = 0, n;

    if (ns == NULL)
        return COMMAND_DONE;
    s->progress.count = 0;
    store_namespace_info(ns, &info);
    if (command_number(command_arg(call, 2), UINT32_MAX, &id) < 0 ||
        command_cursor_parse(command_arg(call, 3), &cursor) < 0) {
        reply_error(s, "kv.bad-request", "FOLLOW takes a namespace, its id and a cursor");
        goto out;
    }
    if (command_wants_tls(s, ns))
        goto out;
    if (id != info.id) {
        reply_error(s, "kv.no-namespace", "the namespace was deleted and made again");
        goto out;
    }
    batch = malloc(sizeof(*batch));
    follower = batch != NULL ? follower_holds(s, ns, info.id, cursor.number) : NULL;
    if (follower == NULL) {
        result = command_failed(s, STORE_NO_MEMORY);
        goto out;
    }
    batch->count = 0;
    batch->used = 0;
    upto = cursor;
    r = store_follow(follower, &upto, FOLLOW_RECORDS, batch_item, batch, &more);
    for (unsigned i = 0; r >= 0 && i < batch->count; i++) {
        if (s->out_end - s->mark > SESSION_OUT_SOFT)
            break;
        r = follow_record(s, ns, &batch->records[i], &starved);
        if (r < 0)
            break;
        s->progress.count += (uint64_t)r;
        cursor = batch->records[i].cursor;
        if (i + 1 == batch->count)
            cursor = upto;
    }
    if (r >= 0 && batch->count == 0)
        cursor = upto;
    if (r < 0 && s->progress.count == 0) {
        result = starved ? COMMAND_ROOM : command_failed(s, r);
        goto out;
    }
    len = command_cursor_format(&cursor, text);
    n = snprintf(before, sizeof(before), "*2\r\n$%zu\r\n%.*s\r\n", len, (int)len, text);
    if (!reply_array_close(s, before, (size_t)n, s->progress.count))
        result = COMMAND_ROOM;
out:
    free(batch);
    store_namespace_put(ns);
    return result;
}

enum command_result command_follow(struct session *s, const struct command_call *call)
{
    if (!follower_begin(s))
        return command_failed(s, STORE_NO_MEMORY);
    return command_count(call) == 3 ? follow_list(s, call) : follow_records(s, call);
}
