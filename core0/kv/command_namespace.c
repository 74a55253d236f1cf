/*
 * command_namespace.c - NSNEW NSDEL NSINFO NSLIST NSSET NSJUMP SELECT RELOAD FLUSH DBSIZE.
 *
 * Who may know a namespace (command_may_know()): its own users, everybody if it is public, administrators. To all others it
 * does not exist: the answer is that of a name that was never used, a wrong password included. That a namespace requires TLS
 * is therefore told last, to who has shown that he may enter.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

#define VALUE_MAX 63 /* bytes of a property's value, as 0-db */

static bool is_default(struct command_bytes name)
{
    return name.len == 7 && memcmp(name.data, "default", 7) == 0;
}

/* ---- jobs ---- */

static int work_create(struct command_job *job)
{
    return store_namespace_create(job->store, job->name, job->name_len, &job->properties);
}

static int work_delete(struct command_job *job)
{
    return store_namespace_delete(job->store, job->name, job->name_len);
}

static int work_set(struct command_job *job)
{
    return store_namespace_set(job->ns, &job->properties);
}

static int work_flush(struct command_job *job)
{
    return store_namespace_flush(job->ns);
}

static int work_reload(struct command_job *job)
{
    return store_namespace_reload(job->ns);
}

static struct command_job *job_new(int (*work)(struct command_job *), struct command_bytes name,
                                   struct namespace *ns)
{
    struct command_job *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        if (ns != NULL)
            store_namespace_put(ns);
        return NULL;
    }
    job->work = work;
    job->ns = ns;
    memcpy(job->name, name.data, name.len);
    job->name_len = name.len;
    return job;
}

static enum command_result job_begin(struct session *s, struct command_job *job)
{
    if (job == NULL)
        return command_failed(s, STORE_NO_MEMORY);
    return command_job_start(s, job);
}

static enum command_result job_answer(struct session *s, int result)
{
    if (result < 0)
        return command_failed(s, result);
    reply_simple(s, "OK");
    return COMMAND_DONE;
}

/* ---- NSNEW, NSDEL ---- */

/* Names are shown in answers and in text: no slash, no blank, no control character; 0-db refuses these too. */
static bool name_allowed(struct command_bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] <= ' ' || name.data[i] == '/' || name.data[i] == 0x7f)
            return false;
    }
    return true;
}

enum command_result command_nsnew(struct session *s, const struct command_call *call)
{
    struct command_bytes name = command_arg(call, 1);
    struct command_job *job;
    int result;

    if (s->job != NULL) {
        if (!command_job_done(s, &result))
            return COMMAND_WAIT;
        if (result == STORE_EXISTS)
            reply_literal(s, "This namespace is not available");
        else
            return job_answer(s, result);
        return COMMAND_DONE;
    }
    if (name.len > STORE_NAME_MAX)
        reply_literal(s, "Namespace too long");
    else if (!name_allowed(name))
        reply_literal(s, "This name is not allowed");
    else {
        job = job_new(work_create, name, NULL);
        if (job != NULL) /* as 0-db: open to everybody until NSSET says otherwise */
            job->properties = (struct store_properties){.mode = s->worker->server->options.mode,
                                                        .is_public = true};
        return job_begin(s, job);
    }
    return COMMAND_DONE;
}

enum command_result command_nsdel(struct session *s, const struct command_call *call)
{
    struct command_bytes name = command_arg(call, 1);
    struct namespace *ns;
    int result;

    if (s->job != NULL) {
        if (!command_job_done(s, &result))
            return COMMAND_WAIT;
        if (result == STORE_NO_NAMESPACE)
            reply_literal(s, "This namespace doesn't exists");
        else
            return job_answer(s, result);
        return COMMAND_DONE;
    }
    if (name.len > STORE_NAME_MAX) {
        reply_literal(s, "Namespace too long");
        return COMMAND_DONE;
    }
    if (is_default(name)) {
        reply_literal(s, "Cannot remove default namespace");
        return COMMAND_DONE;
    }
    if (store_namespace_get(s->worker->server->store, (const char *)name.data, name.len, &ns) < 0) {
        reply_literal(s, "This namespace doesn't exists");
        return COMMAND_DONE;
    }
    store_namespace_put(ns);
    if (ns == s->ns) {
        reply_literal(s, "Cannot remove namespace you're currently using.");
        return COMMAND_DONE;
    }
    return job_begin(s, job_new(work_delete, name, NULL));
}

/* ---- SELECT ---- */

/* Whether the password of a SELECT opens the namespace. */
static bool select_opens(struct session *s, const struct command_call *call,
                         const struct store_properties *properties)
{
    if (command_count(call) == 3)
        return command_password(properties->secret, properties->secret_len, command_arg(call, 2),
                                NULL);
    return command_password(properties->secret, properties->secret_len, command_arg(call, 3),
                            s->nonce);
}

enum command_result command_select(struct session *s, const struct command_call *call)
{
    const struct server_options *options = &s->worker->server->options;
    struct command_bytes name = command_arg(call, 1);
    struct namespace *ns = NULL;
    struct store_info info;
    bool given = command_count(call) > 2, opens, known;

    if (name.len > STORE_NAME_MAX) {
        reply_literal(s, "Namespace too long");
        return COMMAND_DONE;
    }
    if (command_count(call) == 4 && !command_is(command_arg(call, 2), "SECURE")) {
        reply_literal(s, "Only SECURE extra method supported");
        return COMMAND_DONE;
    }
    if (command_count(call) == 4 && s->nonce[0] == '\0') {
        reply_literal(s, "No CHALLENGE requested, secure authentication not available");
        return COMMAND_DONE;
    }
    if (store_namespace_get(s->worker->server->store, (const char *)name.data, name.len, &ns) < 0) {
        s->nonce[0] = '\0';
        if (given)
            return session_denied(s, "Namespace not found");
        reply_literal(s, "Namespace not found");
        return COMMAND_DONE;
    }
    store_namespace_info(ns, &info);
    if (is_default(name) && options->password[0] != '\0') {
        /* as 0-db with --protect: the administrator's password opens it for writing */
        info.properties.secret_len = (uint16_t)strlen(options->password);
        memcpy(info.properties.secret, options->password, info.properties.secret_len);
    }
    opens = s->admin || (info.id == s->ns_id && !given && s->writable) ||
            (info.properties.secret_len == 0 && info.properties.is_public) ||
            (given && info.properties.secret_len > 0 && select_opens(s, call, &info.properties));
    known = command_may_know(s, &info);
    if (command_count(call) == 4)
        s->nonce[0] = '\0'; /* for one answer only */
    if (!opens && (!known || given)) {
        store_namespace_put(ns);
        if (!known && !given) {
            reply_literal(s, "Namespace not found");
            return COMMAND_DONE;
        }
        return session_denied(s, known ? "Access denied" : "Namespace not found");
    }
    if (command_wants_tls(s, ns)) {
        store_namespace_put(ns);
        return COMMAND_DONE;
    }
    session_enter(s, ns, info.id, opens);
    reply_simple(s, "OK");
    return COMMAND_DONE;
}

/* ---- NSLIST ---- */

static int list_item(void *ctx, const struct store_info *info)
{
    struct session *s = ctx;

    if (!command_may_know(s, info))
        return 0;
    if (!reply_bulk(s, info->name, strlen(info->name)))
        return STORE_NO_MEMORY;
    s->progress.count++;
    return 0;
}

enum command_result command_nslist(struct session *s, const struct command_call *call)
{
    (void)call;
    s->progress.count = 0;
    if (store_namespace_list(s->worker->server->store, list_item, s) < 0 ||
        !reply_array_close(s, NULL, 0, s->progress.count))
        return COMMAND_ROOM;
    return COMMAND_DONE;
}

/* ---- NSINFO, DBSIZE ---- */

static const char *yes(bool is)
{
    return is ? "yes" : "no";
}

enum command_result command_nsinfo(struct session *s, const struct command_call *call)
{
    struct namespace *ns = command_namespace(s, command_arg(call, 1));
    struct store_info info;
    struct store_stats stats;
    char text[2048];
    int len;

    if (ns == NULL)
        return COMMAND_DONE;
    store_namespace_info(ns, &info);
    store_namespace_put(ns);
    store_stats(s->worker->server->store, &stats);
    len = snprintf(
        text, sizeof(text),
        "# namespace\nname: %s\nentries: %llu\npublic: %s\nworm: %s\nlocked: %s\nfrozen: %s\n"
        "password: %s\ndata_size_bytes: %llu\ndata_size_mb: %.2f\ndata_limits_bytes: %llu\n"
        "index_size_bytes: %llu\nindex_size_kb: %.2f\nnext_internal_id: 0x%08x\nmode: %s\n"
        "data_disk_bytes: %llu\ndata_disk_freespace_bytes: %llu\ndata_disk_freespace_mb: %.2f\n"
        "segments: %u\nlast_number: %llu\ncompacted_to: %llu\ncompacting: %s\n"
        "damaged_ranges: %u\ncut_bytes: %llu\ndisk_claimed_bytes: %llu\ndisk_limit_bytes: %llu\n"
        "tls_required: %s\n",
        info.name, (unsigned long long)info.entries, yes(info.properties.is_public),
        yes(info.properties.worm), yes(info.properties.lock == STORE_LOCKED),
        yes(info.properties.lock == STORE_FROZEN), yes(info.properties.secret_len > 0),
        (unsigned long long)info.bytes, (double)info.bytes / (1 << 20),
        (unsigned long long)info.properties.maxsize, (unsigned long long)info.index_memory,
        (double)info.index_memory / 1024, __builtin_bswap32((uint32_t)info.next_id),
        info.properties.mode == STORE_SEQ ? "sequential" : "userkey",
        (unsigned long long)info.disk_bytes, (unsigned long long)stats.disk_free,
        (double)stats.disk_free / (1 << 20), info.segments, (unsigned long long)info.last_number,
        (unsigned long long)info.compacted_to, yes(info.compacting), info.damaged,
        (unsigned long long)info.cut_bytes, (unsigned long long)info.disk_claimed,
        (unsigned long long)info.properties.maxdisk, yes(info.properties.tls_required));
    if (info.properties.maxsize > 0)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "space_available: %llu\n",
                        info.properties.maxsize > info.bytes
                            ? (unsigned long long)(info.properties.maxsize - info.bytes)
                            : 0ull);
    return reply_bulk(s, text, (size_t)len) ? COMMAND_DONE : COMMAND_ROOM;
}

enum command_result command_dbsize(struct session *s, const struct command_call *call)
{
    struct store_info info;

    (void)call;
    store_namespace_info(s->ns, &info);
    command_hold_newest(s);
    reply_integer(s, info.entries);
    return COMMAND_DONE;
}

/* ---- NSSET ---- */

static bool set_maxsize(struct store_properties *p, struct command_bytes value)
{
    return command_number(value, UINT64_MAX, &p->maxsize) == 0;
}

static bool set_maxdisk(struct store_properties *p, struct command_bytes value)
{
    return command_number(value, UINT64_MAX, &p->maxdisk) == 0;
}

static bool set_password(struct store_properties *p, struct command_bytes value)
{
    p->secret_len = 0;
    if (value.len == 1 && value.data[0] == '*')
        return true;
    memcpy(p->secret, value.data, value.len);
    p->secret_len = (uint16_t)value.len;
    return true;
}

static bool flag(struct command_bytes value, bool *ret_flag)
{
    uint64_t number;

    if (command_number(value, 1, &number) < 0)
        return false;
    *ret_flag = number == 1;
    return true;
}

static bool set_public(struct store_properties *p, struct command_bytes value)
{
    return flag(value, &p->is_public);
}

static bool set_worm(struct store_properties *p, struct command_bytes value)
{
    return flag(value, &p->worm);
}

static bool set_mode(struct store_properties *p, struct command_bytes value)
{
    p->mode = command_is(value, "seq") ? STORE_SEQ : STORE_USER;
    return command_is(value, "seq") || command_is(value, "user");
}

static bool set_lock(struct store_properties *p, struct command_bytes value)
{
    bool on;

    if (!flag(value, &on))
        return false;
    p->lock = on ? STORE_LOCKED : STORE_NORMAL;
    return true;
}

static bool set_freeze(struct store_properties *p, struct command_bytes value)
{
    bool on;

    if (!flag(value, &on))
        return false;
    p->lock = on ? STORE_FROZEN : STORE_NORMAL;
    return true;
}

static bool set_tls(struct store_properties *p, struct command_bytes value)
{
    return flag(value, &p->tls_required);
}

static const struct property {
    const char *name;
    bool (*set)(struct store_properties *, struct command_bytes);
    const char *complaint;
} properties_table[] = {
    {"maxsize", set_maxsize, "Invalid value"},
    {"maxdisk", set_maxdisk, "Invalid value"},
    {"password", set_password, "Invalid value"},
    {"public", set_public, "Invalid value"},
    {"worm", set_worm, "Invalid value"},
    {"mode", set_mode, "Invalid property value (expected: user, seq)"},
    {"lock", set_lock, "Invalid value"},
    {"freeze", set_freeze, "Invalid value"},
    {"tls", set_tls, "Invalid value"},
};

enum command_result command_nsset(struct session *s, const struct command_call *call)
{
    struct command_bytes name = command_arg(call, 1), word = command_arg(call, 2),
                         value = command_arg(call, 3);
    const struct property *property = NULL;
    struct store_properties properties;
    struct namespace *ns;
    struct command_job *job;
    int result;

    if (s->job != NULL) {
        if (!command_job_done(s, &result))
            return COMMAND_WAIT;
        if (result == STORE_NOT_EMPTY) {
            reply_literal(s, "Cannot change mode of used namespace");
            return COMMAND_DONE;
        }
        return job_answer(s, result);
    }
    if (value.len > VALUE_MAX) {
        reply_literal(s, "Invalid value");
        return COMMAND_DONE;
    }
    for (size_t i = 0; i < sizeof(properties_table) / sizeof(properties_table[0]); i++) {
        if (command_is(word, properties_table[i].name))
            property = &properties_table[i];
    }
    ns = command_namespace(s, name);
    if (ns == NULL)
        return COMMAND_DONE;
    store_namespace_properties(ns, &properties);
    if (is_default(name) && (property == NULL || property->set != set_mode))
        reply_literal(s, "Cannot update default namespace");
    else if (property == NULL)
        reply_literal(s, "Invalid property");
    else if (!property->set(&properties, value))
        reply_literal(s, property->complaint);
    else {
        job = job_new(work_set, name, ns);
        if (job != NULL)
            job->properties = properties;
        return job_begin(s, job);
    }
    store_namespace_put(ns);
    return COMMAND_DONE;
}

/* ---- FLUSH, RELOAD, NSJUMP ---- */

enum command_result command_flush(struct session *s, const struct command_call *call)
{
    struct store_properties properties;
    struct command_bytes name = {.len = 0};
    int result;

    (void)call;
    if (s->job != NULL)
        return command_job_done(s, &result) ? job_answer(s, result) : COMMAND_WAIT;
    store_namespace_properties(s->ns, &properties);
    if (properties.is_public || properties.secret_len == 0) {
        reply_literal(s, "Flushing public namespace denied");
        return COMMAND_DONE;
    }
    if (properties.worm)
        return command_failed(s, STORE_WORM);
    if (properties.lock != STORE_NORMAL)
        return command_failed(s,
                              properties.lock == STORE_LOCKED ? STORE_IS_LOCKED : STORE_IS_FROZEN);
    name.data = (const uint8_t *)"";
    return job_begin(s, job_new(work_flush, name, store_namespace_ref(s->ns)));
}

enum command_result command_reload(struct session *s, const struct command_call *call)
{
    struct command_bytes name = command_arg(call, 1);
    struct namespace *ns;
    int result;

    if (s->job != NULL)
        return command_job_done(s, &result) ? job_answer(s, result) : COMMAND_WAIT;
    ns = command_namespace(s, name);
    if (ns == NULL)
        return COMMAND_DONE;
    return job_begin(s, job_new(work_reload, name, ns));
}

enum command_result command_nsjump(struct session *s, const struct command_call *call)
{
    (void)call;
    reply_error(s, "kv.not-supported",
                "a segment ends when it is full: there is nothing to jump to");
    return COMMAND_DONE;
}
