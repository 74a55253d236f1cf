/*
 * store.c - an instance's files: see contd.h for what they are.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container/contd.h"
#include "lib/file.h"
#include "lib/json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SMALL_MAX ((size_t)64 << 10)
#define BAD "container.bad-state"

/* ---- names ---- */

void store_path(const struct instance *inst, const char *file, char path[CONTD_PATH_MAX])
{
    snprintf(path, CONTD_PATH_MAX, "%s/%s%s%s", inst->contd->opt.run, inst->key.name,
             file[0] != '\0' ? "/" : "", file);
}

void store_cgroup(const struct instance *inst, char path[CONTD_PATH_MAX])
{
    snprintf(path, CONTD_PATH_MAX, "%s%s/%llu/%s", inst->contd->opt.cgroup_mount,
             inst->contd->opt.cgroup, (unsigned long long)inst->key.reservation, inst->key.name);
}

void store_log(const struct instance *inst, char path[CONTD_PATH_MAX])
{
    snprintf(path, CONTD_PATH_MAX, "%s/%s", inst->contd->opt.logs, inst->key.name);
}

int store_key_make(uint64_t reservation, uint64_t revision, const char *service,
                   struct instance_key *ret_key)
{
    size_t len = strlen(service);

    if (reservation == 0 || revision == 0 || len == 0 || len > SERVICE_MAX ||
        strspn(service, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len || service[0] == '_' ||
        service[0] == '-')
        return -EINVAL;
    memset(ret_key, 0, sizeof(*ret_key));
    ret_key->reservation = reservation;
    ret_key->revision = revision;
    memcpy(ret_key->service, service, len + 1);
    snprintf(ret_key->name, sizeof(ret_key->name), "%llu-%llu-%s", (unsigned long long)reservation,
             (unsigned long long)revision, service);
    return 0;
}

int store_key(const char *name, struct instance_key *ret_key)
{
    struct instance_key key;
    char *end;
    unsigned long long reservation = strtoull(name, &end, 10);

    if (*end != '-')
        return -EINVAL;
    unsigned long long revision = strtoull(end + 1, &end, 10);
    /* Only the one way to write a name counts: what comes out must be what went in. */
    if (*end != '-' || store_key_make(reservation, revision, end + 1, &key) < 0 ||
        strcmp(key.name, name) != 0)
        return -EINVAL;
    *ret_key = key;
    return 0;
}

/* ---- writing ---- */

static int save(const struct instance *inst, const char *file, yyjson_mut_doc *doc)
{
    char path[CONTD_PATH_MAX];
    size_t len;
    cleanup_free char *text = yyjson_mut_write(doc, 0, &len);

    yyjson_mut_doc_free(doc);
    if (text == NULL)
        return -ENOMEM;
    store_path(inst, file, path);
    return file_write_atomic(path, text, len, 0600);
}

int store_save_instance(const struct instance *inst)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "uidBase", inst->uid_base);
    yyjson_mut_obj_add_uint(doc, root, "uidCount", inst->uid_count);
    return save(inst, "instance.json", doc);
}

int store_save_start(const struct instance *inst)
{
    char path[CONTD_PATH_MAX];

    store_path(inst, "start.json", path);
    return file_write_atomic(path, inst->start, inst->start_len, 0600);
}

/* One row per member of state.json. */
struct state {
    bool wanted, again, stopped, removing, keep_log, launched, ran, ended, has_exit, failed;
    uint64_t restarts, attempts, health, failures, exit_status;
    const char *reason, *message, *hint;
};

#define ROW(name, type, field, max)                                                                \
    {                                                                                              \
        name, type, offsetof(struct state, field), false, 0, max                                   \
    }

static const struct json_field state_fields[] = {
    ROW("wanted", JSON_BOOL, wanted, 0),
    ROW("again", JSON_BOOL, again, 0),
    ROW("stopped", JSON_BOOL, stopped, 0),
    ROW("removing", JSON_BOOL, removing, 0),
    ROW("keepLog", JSON_BOOL, keep_log, 0),
    ROW("launched", JSON_BOOL, launched, 0),
    ROW("ran", JSON_BOOL, ran, 0),
    ROW("ended", JSON_BOOL, ended, 0),
    ROW("hasExit", JSON_BOOL, has_exit, 0),
    ROW("failed", JSON_BOOL, failed, 0),
    ROW("restarts", JSON_UINT, restarts, UINT32_MAX),
    ROW("attempts", JSON_UINT, attempts, UINT32_MAX),
    ROW("health", JSON_UINT, health, HEALTH_UNHEALTHY),
    ROW("failures", JSON_UINT, failures, UINT32_MAX),
    ROW("exitStatus", JSON_UINT, exit_status, 255),
    ROW("reason", JSON_STRING, reason, ERROR_CODE_MAX),
    ROW("message", JSON_STRING, message, 1024),
    ROW("hint", JSON_STRING, hint, 1024),
};

int store_save_state(const struct instance *inst)
{
    const struct state state = {
        .wanted = inst->wanted,
        .again = inst->again,
        .stopped = inst->stopped,
        .removing = inst->removing,
        .keep_log = inst->keep_log,
        .launched = inst->launched,
        .ran = inst->ran,
        .ended = inst->phase == PHASE_ENDED,
        .has_exit = inst->has_exit,
        .failed = inst->failed,
        .restarts = inst->restarts,
        .attempts = inst->attempts,
        .health = inst->health.state,
        .failures = inst->health.failures,
        .exit_status = (uint64_t)inst->exit_status,
        .reason = inst->last.code,
        .message = inst->last.message,
        .hint = inst->last.hint,
    };
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    for (size_t i = 0; i < COUNT(state_fields); i++) {
        const void *value = (const char *)&state + state_fields[i].offset;

        if (state_fields[i].type == JSON_BOOL)
            yyjson_mut_obj_add_bool(doc, root, state_fields[i].name, *(const bool *)value);
        else if (state_fields[i].type == JSON_UINT)
            yyjson_mut_obj_add_uint(doc, root, state_fields[i].name, *(const uint64_t *)value);
        else
            yyjson_mut_obj_add_strcpy(doc, root, state_fields[i].name, *(const char *const *)value);
    }
    return save(inst, "state.json", doc);
}

/* ---- reading ---- */

static int load(const struct instance *inst, const char *file, size_t max, char **ret_text,
                size_t *ret_len)
{
    char path[CONTD_PATH_MAX];

    store_path(inst, file, path);
    return file_read(path, max, ret_text, ret_len);
}

static int load_fields(const struct instance *inst, const char *file,
                       const struct json_field *fields, size_t count, void *dest,
                       yyjson_doc **ret_doc)
{
    cleanup_free char *text = NULL;
    size_t len;
    int ret = load(inst, file, SMALL_MAX, &text, &len);

    if (ret < 0)
        return ret;
    yyjson_doc *doc = json_parse(text, len, SMALL_MAX, BAD, NULL);
    if (doc == NULL)
        return -EINVAL;
    ret = json_read(yyjson_doc_get_root(doc), fields, count, JSON_IGNORE_UNKNOWN, dest, BAD, NULL);
    if (ret < 0)
        yyjson_doc_free(doc);
    else
        *ret_doc = doc;
    return ret;
}

static void load_state(struct instance *inst)
{
    struct state state = {.reason = "", .message = "", .hint = ""};
    yyjson_doc *doc = NULL;

    if (load_fields(inst, "state.json", state_fields, COUNT(state_fields), &state, &doc) < 0)
        return;
    inst->wanted = state.wanted;
    inst->again = state.again;
    inst->stopped = state.stopped;
    inst->removing = state.removing;
    inst->keep_log = state.keep_log;
    inst->launched = state.launched;
    inst->ran = state.ran;
    inst->phase = state.ended ? PHASE_ENDED : PHASE_PREPARED;
    inst->has_exit = state.has_exit;
    inst->failed = state.failed;
    inst->restarts = (unsigned)state.restarts;
    inst->attempts = (unsigned)state.attempts;
    inst->health.state = (enum health_state)state.health;
    inst->health.failures = (unsigned)state.failures;
    inst->exit_status = (int)state.exit_status;
    if (state.reason[0] != '\0')
        error_set(&inst->last, EIO, state.reason, state.hint, "%s", state.message);
    yyjson_doc_free(doc);
}

int store_load(struct instance *inst)
{
    struct range {
        uint64_t base, count;
    } range = {0};
    static const struct json_field fields[] = {
        {"uidBase", JSON_UINT, offsetof(struct range, base), true, 1, UINT32_MAX},
        {"uidCount", JSON_UINT, offsetof(struct range, count), true, 1, UINT32_MAX},
    };
    yyjson_doc *doc = NULL;
    int ret = load_fields(inst, "instance.json", fields, COUNT(fields), &range, &doc);

    if (ret < 0)
        return -ENOENT;
    yyjson_doc_free(doc);
    inst->uid_base = (uint32_t)range.base;
    inst->uid_count = (uint32_t)range.count;
    load_state(inst);
    if (load(inst, "start.json", SPEC_START_MAX, &inst->start, &inst->start_len) == 0 &&
        container_spec_parse(inst->start, inst->start_len, &inst->spec, NULL) < 0) {
        container_spec_done(&inst->spec);
        free(inst->start);
        inst->start = NULL;
    }
    return 0;
}
