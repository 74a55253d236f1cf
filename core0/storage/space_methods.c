/*
 * space_methods.c - EnsureSpace, KeepSpace, RemoveSpace, ListSpaces, GetSpace of org.croft.storage. See space.h.
 *
 * What lies on the pool is done at once; what kvd must do comes later, one job per call. Two jobs of one key never run
 * together: the second is told that the first is under way.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "silent.h"
#include "space.h"

struct job {
    struct job *next;
    struct storage *storage;
    struct varlink_call *call;
    struct space space; /* pool: only until the method returns */
    char uuid[GPT_GUID_TEXT];
    bool created;
};

static struct job *jobs;

static bool job_runs(const char *key)
{
    for (const struct job *job = jobs; job != NULL; job = job->next)
        if (strcmp(job->space.key, key) == 0)
            return true;
    return false;
}

static struct pool *job_pool(const struct job *job)
{
    for (struct pool *pool = job->storage->pools; pool != NULL; pool = pool->next)
        if (strcmp(pool->uuid, job->uuid) == 0)
            return pool;
    return NULL;
}

static void job_free(struct job *job)
{
    struct job **at = &jobs;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    free(job);
}

/* Hands `request` to the space's server. After an error the call is still to be answered. */
static int job_start(struct storage *storage, struct varlink_call *call, const struct space *space,
                     bool created, struct buffer *request, size_t count, space_talk_fn *done,
                     struct error *err)
{
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        buffer_done(request);
        return error_set(err, ENOMEM, "storage.no-memory", "", "no memory for another request");
    }
    *job = (struct job){.next = jobs, .storage = storage, .call = call, .created = created};
    job->space = *space;
    job->space.pool = NULL;
    snprintf(job->uuid, sizeof(job->uuid), "%s", space->pool->uuid);
    jobs = job;
    int r = space_server_ask(storage, space->pool, request, count, done, job, err);
    if (r < 0)
        job_free(job);
    return r;
}

static int fail(struct error *err, const char *key, int r)
{
    if (error_is_set(err))
        return r;
    return error_set(err, -r, r == -EIO ? "storage.disk-failed" : "storage.failed",
                     "see the log of storaged", "key-value namespace %s: %s", key, strerror(-r));
}

static int refused(struct error *err, const char *key, const struct space_reply *reply)
{
    return error_set(err, EACCES, "storage.kvd-failed", "see the log of its service",
                     "the key-value server refuses %s: %.*s", key, (int)reply->len, reply->text);
}

static bool says(const struct space_reply *reply, const char *text)
{
    return reply->len >= strlen(text) && memcmp(reply->text, text, strlen(text)) == 0;
}

/* ---- EnsureSpace ---- */

struct space_params {
    const char *key, *kind, *mode, *password;
    uint64_t size;
    int64_t until;
    bool is_public;
    bool tls_required;
    bool at_least;
    bool later;
};

static int check_params(const struct space_params *p, struct error *err)
{
    int r = space_key_check(p->key, err);
    if (r < 0)
        return r;
    if (strcmp(p->kind, "ssd") != 0 && strcmp(p->kind, "hdd") != 0)
        return error_set(err, EINVAL, "storage.bad-kind", "ssd or hdd",
                         "'%.20s' is no kind of disk", p->kind);
    if (strcmp(p->mode, "user") != 0 && strcmp(p->mode, "seq") != 0)
        return error_set(err, EINVAL, "storage.bad-request", "user or seq",
                         "'%.20s' is no mode of a key-value namespace", p->mode);
    if (p->size < SPACE_SIZE_MIN)
        return error_set(err, EINVAL, "storage.too-small", "at least 1 MiB",
                         "a key-value namespace of %llu bytes is too small",
                         (unsigned long long)p->size);
    if (p->password != NULL && (p->password[0] == '\0' || strcmp(p->password, "*") == 0))
        return error_set(err, EINVAL, "storage.bad-request", "choose another one",
                         "the password cannot be empty or *");
    if (p->password == NULL && !p->is_public)
        return error_set(err, EINVAL, "storage.bad-request", "give a password, or make it public",
                         "nobody could use a namespace that has no password and is not public");
    return 0;
}

static int no_space(struct error *err, const char *kind, uint64_t wanted, uint64_t best)
{
    return error_set(err, ENOSPC, "storage.no-space", "reserve less, or a node with larger disks",
                     "no %s pool has %llu bytes left for a key-value namespace; the most is %llu",
                     kind, (unsigned long long)wanted, (unsigned long long)best);
}

static const struct pool *choose_pool(const struct storage *storage, const struct space_params *p,
                                      struct error *err)
{
    const struct pool *best = NULL;
    uint64_t most = 0;
    uint64_t wanted = space_cost(p->size);
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        if (strcmp(pool_kind(pool), p->kind) == 0 && silent_check(storage, pool, err) < 0)
            continue;
        uint64_t left = pool_free(pool);
        if (space_reserved(pool) == 0) /* the first one brings what its server needs */
            left = left > SPACE_SERVER_BYTES ? left - SPACE_SERVER_BYTES : 0;
        if (strcmp(pool_kind(pool), p->kind) == 0 && !pool->failing && left > most) {
            best = pool;
            most = left;
        }
    }
    if (best == NULL || wanted > most) {
        if (!error_is_set(err))
            no_space(err, p->kind, wanted, most);
        return NULL;
    }
    error_clear(err);
    return best;
}

/* What is there fits what is asked for: the description to be written. */
static int adapt(struct space *space, const struct space_params *p, struct error *err)
{
    if (strcmp(pool_kind(space->pool), p->kind) != 0)
        return error_set(err, EEXIST, "storage.conflict", "use another name",
                         "key-value namespace %s exists on an %s", p->key, pool_kind(space->pool));
    if (space->seq != (strcmp(p->mode, "seq") == 0))
        return error_set(err, EEXIST, "storage.conflict", "use another name",
                         "key-value namespace %s exists with another mode", p->key);
    uint64_t size = p->at_least && p->size < space->size ? space->size : p->size;
    if (size < space->size)
        return error_set(err, EINVAL, "storage.too-small", "ask for at least what it has",
                         "key-value namespace %s has %llu bytes and cannot shrink to %llu", p->key,
                         (unsigned long long)space->size, (unsigned long long)p->size);
    uint64_t more = space_cost(size) - space_cost(space->size);
    if (more > pool_free(space->pool))
        return no_space(err, p->kind, more, pool_free(space->pool));
    space->size = p->later ? space->size : size;
    space->is_public = p->is_public;
    /* As growth: an update that fails locks nobody out, and opens nothing (docs/decisions/0098). */
    if (!p->later)
        space->tls_required = p->tls_required;
    space->keep_until = 0;
    return 0;
}

static int describe(const struct storage *storage, const struct space_params *p,
                    struct space *ret_space, bool *ret_created, struct error *err)
{
    int r = space_find(storage, p->key, ret_space);
    *ret_created = r == -ENOENT;
    if (r == 0) {
        r = adapt(ret_space, p, err);
    } else if (r == -ENOENT) {
        *ret_space = (struct space){
            .size = p->size,
            .seq = strcmp(p->mode, "seq") == 0,
            .is_public = p->is_public,
            .tls_required = p->tls_required,
        };
        snprintf(ret_space->key, sizeof(ret_space->key), "%s", p->key);
        kv_name(p->key, ret_space->name);
        r = roster_check(storage, p->key, err);
        if (r == 0)
            ret_space->pool = choose_pool(storage, p, err);
        r = r < 0 ? r : ret_space->pool != NULL ? 0 : -ENOSPC;
    }
    if (r == 0)
        r = space_save(ret_space);
    return r < 0 ? fail(err, p->key, r) : 0;
}

static void ensured(const struct space_reply *replies, size_t count, const struct error *err,
                    void *data)
{
    struct job *job = data;
    struct error failed = {0};
    const struct pool *pool = job_pool(job);
    if (replies == NULL)
        failed = *err;
    else if (pool == NULL)
        error_set(&failed, EIO, "storage.disk-failed", "", "the disk of the namespace is gone");
    /* The first is NSNEW: that it exists is as good. */
    for (size_t i = 0; replies != NULL && i < count && !error_is_set(&failed); i++)
        if (replies[i].type != '+' && !(i == 0 && says(&replies[i], "This namespace is not avail")))
            (void)refused(&failed, job->space.key, &replies[i]);
    if (pool == NULL || error_is_set(&failed)) {
        varlink_call_fail(job->call, &failed);
    } else {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strcpy(doc, root, "namespace", job->space.name);
        yyjson_mut_obj_add_uint(doc, root, "port", space_server_port(job->storage, pool));
        yyjson_mut_obj_add_bool(doc, root, "created", job->created);
        varlink_call_reply(job->call, doc);
    }
    job_free(job);
}

/* The limit before the password before the name is open: what is half made is useless rather than free for all. */
static int ensure_request(const struct space *space, const char *password, struct buffer *request)
{
    char size[24];
    char disk[24];
    snprintf(disk, sizeof(disk), "%llu", (unsigned long long)space_cost(space->size));
    snprintf(size, sizeof(size), "%llu", (unsigned long long)space->size);
    const char *const commands[][5] = {
        {"NSNEW", space->name, NULL},
        {"NSSET", space->name, "public", "0", NULL},
        {"NSSET", space->name, "tls", space->tls_required ? "1" : "0", NULL},
        {"NSSET", space->name, "maxsize", size, NULL},
        {"NSSET", space->name, "maxdisk", disk, NULL},
        {"NSSET", space->name, "mode", space->seq ? "seq" : "user", NULL},
        {"NSSET", space->name, "password", password != NULL ? password : "*", NULL},
        {"NSSET", space->name, "public", space->is_public ? "1" : "0", NULL},
    };
    int r = 0;
    buffer_init(request, 0);
    for (size_t i = 0; i < SPACE_ENSURE_COMMANDS && r == 0; i++)
        r = space_request(request, commands[i]);
    return r;
}

static const struct json_field ensure_fields[] = {
    {"key", JSON_STRING, offsetof(struct space_params, key), true, 0, 255},
    {"kind", JSON_STRING, offsetof(struct space_params, kind), true, 0, 16},
    {"size", JSON_UINT, offsetof(struct space_params, size), true, 0, (uint64_t)1 << 50},
    {"mode", JSON_STRING, offsetof(struct space_params, mode), true, 0, 16},
    {"password", JSON_STRING, offsetof(struct space_params, password), false, 0,
     SPACE_PASSWORD_MAX},
    {"public", JSON_BOOL, offsetof(struct space_params, is_public), true, 0, 0},
    {"tlsRequired", JSON_BOOL, offsetof(struct space_params, tls_required), false, 0, 0},
    {"atLeast", JSON_BOOL, offsetof(struct space_params, at_least), false, 0, 0},
    {"later", JSON_BOOL, offsetof(struct space_params, later), false, 0, 0},
};

/* Reads the parameters; storage.busy while it cannot be known what there is, or a job of that key is under way. */
static int read_params(const struct storage *storage, yyjson_val *params,
                       const struct json_field *fields, size_t count, struct space_params *p,
                       struct error *err)
{
    int r = json_read(params, fields, count, 0, p, "storage.bad-request", err);
    /* What lies on a disk that has not answered yet would be made a second time, or taken for gone. */
    if (r == 0 && (!storage->ready || storage->working > 0))
        r = error_set(err, EBUSY, "storage.busy", "it is asked again by itself",
                      "not every disk has answered yet");
    if (r == 0 && job_runs(p->key))
        r = error_set(err, EBUSY, "storage.busy", "it is asked again by itself",
                      "key-value namespace %s is being changed", p->key);
    return r;
}

#define READ(storage, fields, params, p, err)                                                      \
    read_params(storage, params, fields, sizeof(fields) / sizeof((fields)[0]), p, err)

void space_ensure(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct storage *storage = data;
    struct space_params p = {0};
    struct error err = {0};
    struct buffer request = {0};
    struct space space;
    bool created;
    int r = READ(storage, ensure_fields, params, &p, &err);
    if (r == 0)
        r = check_params(&p, &err);
    if (r == 0)
        r = describe(storage, &p, &space, &created, &err);
    if (r == 0)
        roster_changed(storage, p.key);
    if (r == 0) {
        r = ensure_request(&space, p.password, &request);
        r = r < 0 ? fail(&err, p.key, r)
                  : job_start(storage, call, &space, created, &request, SPACE_ENSURE_COMMANDS,
                              ensured, &err);
    }
    if (r < 0)
        varlink_call_fail(call, &err);
}

/* ---- KeepSpace ---- */

static const struct json_field keep_fields[] = {
    {"key", JSON_STRING, offsetof(struct space_params, key), true, 0, 255},
    {"until", JSON_INT, offsetof(struct space_params, until), true, 0, (uint64_t)1 << 40},
};

void space_keep(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct space_params p = {0};
    struct error err = {0};
    struct space space;
    int r = READ(data, keep_fields, params, &p, &err);
    if (r == 0)
        r = space_key_check(p.key, &err);
    if (r == 0 && roster_keep(data, p.key, p.until)) {
        varlink_call_reply(call, NULL);
        return;
    }
    if (r == 0) {
        r = space_find(data, p.key, &space);
        if (r == -ENOENT)
            r = error_set(&err, ENOENT, "storage.not-found", "",
                          "there is no key-value namespace %s", p.key);
    }
    if (r == 0 && space.keep_until != p.until) {
        space.keep_until = p.until;
        r = space_save(&space);
        roster_changed(data, p.key);
    }
    if (r < 0) {
        (void)fail(&err, p.key, r);
        varlink_call_fail(call, &err);
        return;
    }
    varlink_call_reply(call, NULL);
}

/* ---- RemoveSpace ---- */

static const struct json_field key_fields[] = {
    {"key", JSON_STRING, offsetof(struct space_params, key), true, 0, 255},
};

static void removed(const struct space_reply *replies, size_t count, const struct error *err,
                    void *data)
{
    struct job *job = data;
    struct error failed = {0};
    struct pool *pool = job_pool(job);
    int r = 0;
    (void)count;
    if (replies == NULL)
        failed = *err;
    else if (replies[0].type != '+' && !says(&replies[0], "This namespace doesn't exist"))
        (void)refused(&failed, job->space.key, &replies[0]);
    else if (pool != NULL) {
        job->space.pool = pool;
        r = space_forget(&job->space);
        if (r < 0)
            (void)fail(&failed, job->space.key, r);
        else
            roster_forget(job->storage, job->space.key);
        if (r == 0 && space_reserved(pool) == 0)
            space_server_end(job->storage, pool);
    }
    if (error_is_set(&failed))
        varlink_call_fail(job->call, &failed);
    else
        varlink_call_reply(job->call, NULL);
    job_free(job);
}

void space_remove(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct space_params p = {0};
    struct error err = {0};
    struct buffer request;
    struct space space;
    int r = READ(data, key_fields, params, &p, &err);
    if (r == 0)
        r = space_key_check(p.key, &err);
    if (r == 0) {
        r = space_find(data, p.key, &space);
        if (r == -ENOENT) {
            roster_forget(data, p.key);
            varlink_call_reply(call, NULL);
            return;
        }
    }
    if (r == 0) {
        buffer_init(&request, 0);
        r = space_request(&request, (const char *const[]){"NSDEL", space.name, NULL});
        if (r == 0)
            r = job_start(data, call, &space, false, &request, 1, removed, &err);
    }
    if (r < 0) {
        (void)fail(&err, p.key, r);
        varlink_call_fail(call, &err);
    }
}

/* ---- ListSpaces, GetSpace ---- */

static yyjson_mut_val *put_space(yyjson_mut_doc *doc, const struct storage *storage,
                                 const struct space *space, const struct pool *pool)
{
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, object, "key", space->key);
    yyjson_mut_obj_add_strcpy(doc, object, "namespace", space->name);
    yyjson_mut_obj_add_str(doc, object, "kind", pool_kind(pool));
    yyjson_mut_obj_add_uint(doc, object, "size", space->size);
    yyjson_mut_obj_add_str(doc, object, "mode", space->seq ? "seq" : "user");
    yyjson_mut_obj_add_bool(doc, object, "public", space->is_public);
    yyjson_mut_obj_add_bool(doc, object, "tlsRequired", space->tls_required);
    yyjson_mut_obj_add_strcpy(doc, object, "pool", pool->uuid);
    uint16_t port = space_server_port(storage, pool);
    if (port != 0) {
        yyjson_mut_obj_add_uint(doc, object, "port", port);
        yyjson_mut_obj_add_bool(doc, object, "tls", space_server_has_tls(storage));
    }
    if (space->keep_until != 0)
        yyjson_mut_obj_add_sint(doc, object, "keepUntil", space->keep_until);
    return object;
}

struct listing {
    const struct storage *storage;
    yyjson_mut_doc *doc;
    yyjson_mut_val *spaces;
};

static int list_one(const struct space *space, void *data)
{
    struct listing *listing = data;
    yyjson_mut_arr_append(listing->spaces,
                          put_space(listing->doc, listing->storage, space, space->pool));
    return 0;
}

/* Of one whose disk is missing only this is known. */
static void list_lost(const struct roster_entry *entry, const struct listing *listing)
{
    yyjson_mut_doc *doc = listing->doc;
    char name[KV_NAME_LEN + 1];
    if (strncmp(entry->key, "kv/", 3) != 0)
        return;
    kv_name(entry->key, name);
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, listing->spaces);
    yyjson_mut_obj_add_strcpy(doc, object, "key", entry->key);
    yyjson_mut_obj_add_strcpy(doc, object, "namespace", name);
    yyjson_mut_obj_add_strcpy(doc, object, "kind", entry->kind);
    yyjson_mut_obj_add_uint(doc, object, "size", entry->size);
    yyjson_mut_obj_add_str(doc, object, "mode", "");
    yyjson_mut_obj_add_bool(doc, object, "public", false);
    yyjson_mut_obj_add_strcpy(doc, object, "pool", entry->pool);
    if (entry->keep_until != 0)
        yyjson_mut_obj_add_sint(doc, object, "keepUntil", entry->keep_until);
    yyjson_mut_obj_add_str(doc, object, "error", roster_error(listing->storage, entry));
}

void space_list(struct varlink_call *call, yyjson_val *params, void *data)
{
    const struct storage *storage = data;
    struct listing listing = {.storage = storage, .doc = yyjson_mut_doc_new(NULL)};
    yyjson_mut_val *root = yyjson_mut_obj(listing.doc);
    (void)params;
    yyjson_mut_doc_set_root(listing.doc, root);
    listing.spaces = yyjson_mut_obj_add_arr(listing.doc, root, "spaces");
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next)
        (void)space_each(pool, list_one, &listing);
    const struct roster_entry *entry;
    size_t at = 0;
    while ((entry = roster_next_lost(storage, &at)) != NULL)
        list_lost(entry, &listing);
    varlink_call_reply(call, listing.doc);
}

/* The number behind "name: " in the lines of NSINFO. False: it is not there. */
static bool info_number(const struct space_reply *info, const char *name, uint64_t *ret_number)
{
    char text[4096];
    size_t len = info->len < sizeof(text) - 1 ? info->len : sizeof(text) - 1;
    size_t name_len = strlen(name);
    memcpy(text, info->text, len);
    text[len] = '\0';
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, name_len) == 0 && strncmp(line + name_len, ": ", 2) == 0) {
            *ret_number = strtoull(line + name_len + 2, NULL, 10);
            return true;
        }
    }
    return false;
}

static void got(const struct space_reply *replies, size_t count, const struct error *err,
                void *data)
{
    static const struct {
        const char *member, *name;
    } numbers[] = {
        {"used", "data_size_bytes"},
        {"entries", "entries"},
        {"usedOnDisk", "data_disk_bytes"},
        {"damagedRanges", "damaged_ranges"},
    };
    struct job *job = data;
    struct error failed = {0};
    const struct pool *pool = job_pool(job);
    (void)count;
    if (replies == NULL)
        failed = *err;
    else if (replies[0].type != '$' || replies[0].text == NULL)
        (void)refused(&failed, job->space.key, &replies[0]);
    else if (pool == NULL)
        error_set(&failed, EIO, "storage.disk-failed", "", "the disk of the namespace is gone");
    if (replies == NULL || pool == NULL || error_is_set(&failed)) {
        varlink_call_fail(job->call, &failed);
    } else {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_val *space = put_space(doc, job->storage, &job->space, pool);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            uint64_t number;
            if (info_number(&replies[0], numbers[i].name, &number))
                yyjson_mut_obj_add_uint(doc, space, numbers[i].member, number);
        }
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_val(doc, root, "space", space);
        varlink_call_reply(job->call, doc);
    }
    job_free(job);
}

void space_get(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct space_params p = {0};
    struct error err = {0};
    struct buffer request;
    struct space space;
    int r = READ(data, key_fields, params, &p, &err);
    if (r == 0)
        r = space_key_check(p.key, &err);
    if (r == 0) {
        r = space_find(data, p.key, &space);
        if (r == -ENOENT)
            r = error_set(&err, ENOENT, "storage.not-found", "",
                          "there is no key-value namespace %s", p.key);
    }
    if (r == 0) {
        buffer_init(&request, 0);
        r = space_request(&request, (const char *const[]){"NSINFO", space.name, NULL});
        if (r == 0)
            r = job_start(data, call, &space, false, &request, 1, got, &err);
    }
    if (r < 0) {
        (void)fail(&err, p.key, r);
        varlink_call_fail(call, &err);
    }
}
