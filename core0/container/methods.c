/*
 * methods.c - org.croft.container: what callers may ask for, mapped to wishes on instances.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "container/contd.h"
#include "gen/interfaces.h"
#include "lib/buffer.h"
#include "lib/json.h"
#include "lib/log.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define INSTANCES_MAX                                                                              \
    512 /* far beyond what a node runs; keeps a broken caller from filling the memory */
#define BAD_CALL "container.bad-call"
#define GRACE_ASKED_MAX 3600000 /* ms; as long as a service may ask for */

__attribute__((format(printf, 5, 6))) static void fail(struct varlink_call *call, int ret,
                                                       const char *code, const char *hint,
                                                       const char *fmt, ...)
{
    struct error err = {0};
    char message[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    error_set(&err, ret, code, hint, "%s", message);
    varlink_call_fail(call, &err);
}

bool method_key(struct varlink_call *call, yyjson_val *params, struct instance_key *ret_key)
{
    struct members {
        uint64_t reservation, revision;
        const char *service;
    } members = {0};
    static const struct json_field fields[] = {
        {"reservation", JSON_UINT, offsetof(struct members, reservation), true, 1, 0},
        {"revision", JSON_UINT, offsetof(struct members, revision), true, 1, 0},
        {"service", JSON_STRING, offsetof(struct members, service), true, 1, SERVICE_MAX},
    };
    struct error err = {0};

    if (json_read(params, fields, COUNT(fields), JSON_IGNORE_UNKNOWN, &members, BAD_CALL, &err) <
        0) {
        varlink_call_fail(call, &err);
        return false;
    }
    if (store_key_make(members.reservation, members.revision, members.service, ret_key) < 0) {
        fail(call, EINVAL, BAD_CALL, NULL, "\"%s\" is no name of a service", members.service);
        return false;
    }
    return true;
}

/* The instance of a call, or NULL after answering it. */
static struct instance *method_instance(struct varlink_call *call, yyjson_val *params,
                                        struct contd *contd)
{
    struct instance_key key;

    if (!method_key(call, params, &key))
        return NULL;
    struct instance *inst = instance_find(contd, &key);
    if (inst == NULL || inst->phase == PHASE_PREPARING || inst->phase == PHASE_REMOVING) {
        fail(call, ENOENT, "container.absent", "prepare it first", "there is no container %s",
             key.name);
        return NULL;
    }
    return inst;
}

/* ---- Prepare ---- */

static void method_prepare(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct contd *contd = data;
    struct instance_key key;
    struct members {
        uint64_t base, count;
    } range = {0};
    /* Never 0: the container's root must be nobody on the node. */
    static const struct json_field fields[] = {
        {"uidBase", JSON_UINT, offsetof(struct members, base), true, 65536, UINT32_MAX - 65536},
        {"uidCount", JSON_UINT, offsetof(struct members, count), true, 1, 65536},
    };
    struct error err = {0};
    size_t count = 0;

    if (!method_key(call, params, &key))
        return;
    if (json_read(params, fields, COUNT(fields), JSON_IGNORE_UNKNOWN, &range, BAD_CALL, &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    for (struct instance *other = contd->instances; other != NULL; other = other->next) {
        count++;
        if (other->key.reservation == key.reservation &&
            (other->uid_base != range.base || other->uid_count != range.count)) {
            fail(call, EEXIST, "container.conflict", NULL,
                 "reservation %llu has the ids %u+%u already", (unsigned long long)key.reservation,
                 other->uid_base, other->uid_count);
            return;
        }
    }
    struct instance *inst = instance_find(contd, &key);
    if (inst != NULL && (inst->phase == PHASE_REMOVING || inst->removing)) {
        fail(call, EBUSY, "container.busy", "try again when it is gone", "%s is being removed",
             key.name);
        return;
    }
    if (inst != NULL) {
        waiting_add(inst, call, WAITING_PREPARE);
        if (inst->phase != PHASE_PREPARING)
            waiting_answer(inst, WAITING_PREPARE, NULL);
        return;
    }
    if (count >= INSTANCES_MAX || instance_new(contd, &key, &inst) < 0) {
        fail(call, ENOMEM, "container.busy", NULL, "there is no room for another container");
        return;
    }
    inst->uid_base = (uint32_t)range.base;
    inst->uid_count = (uint32_t)range.count;
    waiting_add(inst, call, WAITING_PREPARE);
    instance_prepare(inst);
}

/* ---- Start ---- */

static int take_start(struct instance *inst, struct buffer *text, struct error *err)
{
    struct container_spec spec;
    int ret = container_spec_parse((const char *)text->data, text->len, &spec, err);

    if (ret < 0) {
        container_spec_done(&spec);
        return ret;
    }
    container_spec_done(&inst->spec);
    free(inst->start);
    inst->spec = spec;
    inst->start = (char *)buffer_steal(text, &inst->start_len);
    ret = store_save_start(inst);
    return ret < 0 ? error_set(err, -ret, "container.start-failed", NULL,
                               "the parameters cannot be kept: %s", strerror(-ret))
                   : 0;
}

/* What an instance that has parameters already answers to the same ones; false: it is to be started. */
static bool is_same_start(struct instance *inst, struct varlink_call *call,
                          const struct buffer *text)
{
    if (inst->start == NULL)
        return false;
    if (inst->start_len != text->len || memcmp(inst->start, text->data, text->len) != 0) {
        fail(call, EEXIST, "container.conflict", "remove it first",
             "%s was started with other parameters", inst->key.name);
        return true;
    }
    /* Stopped by request: started again. Ended by itself: that is how it stands. */
    if (inst->stopped)
        return false;
    waiting_add(inst, call, WAITING_START);
    if (inst->phase != PHASE_STARTING)
        waiting_answer(inst, WAITING_START, NULL);
    return true;
}

static void method_start(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct instance *inst = method_instance(call, params, data);
    struct buffer text;
    struct error err = {0};

    if (inst == NULL)
        return;
    if (inst->removing) {
        fail(call, EBUSY, "container.busy", "try again when it is gone", "%s is being removed",
             inst->key.name);
        return;
    }
    buffer_init(&text, SPEC_START_MAX);
    int ret = json_canonical(params, &text);
    if (ret < 0) {
        fail(call, -ret, SPEC_BAD, NULL, "the parameters are no plain JSON: %s", strerror(-ret));
    } else if (!is_same_start(inst, call, &text)) {
        if (inst->start == NULL && take_start(inst, &text, &err) < 0) {
            varlink_call_fail(call, &err);
        } else {
            inst->wanted = true;
            inst->stopped = false;
            inst->ran = false;
            inst->failed = false;
            inst->restarts = inst->attempts = 0;
            waiting_add(inst, call, WAITING_START);
            instance_advance(inst);
        }
    }
    buffer_done(&text);
}

/* ---- Stop, Restart, Remove ---- */

static void method_stop(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct instance *inst = method_instance(call, params, data);

    if (inst == NULL)
        return;
    /* How it ended by itself stays to be seen. */
    if (inst->phase == PHASE_ENDED || inst->phase == PHASE_PREPARED) {
        varlink_call_reply(call, NULL);
        return;
    }
    inst->stopped = inst->stopped || inst->wanted; /* asked twice is asked once */
    inst->wanted = false;
    inst->again = false;
    waiting_add(inst, call, WAITING_STOP);
    instance_changed(inst);
    instance_advance(inst);
}

static void method_restart(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct instance *inst = method_instance(call, params, data);

    if (inst == NULL)
        return;
    if (inst->start == NULL || inst->removing) {
        fail(call, ENOENT, "container.absent", "start it first", "%s was never started",
             inst->key.name);
        return;
    }
    inst->wanted = true;
    inst->stopped = false;
    inst->again = true;
    waiting_add(inst, call, WAITING_RESTART);
    instance_changed(inst);
    instance_advance(inst);
}

static void method_remove(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct contd *contd = data;
    struct instance_key key;
    struct instance *inst;
    struct members {
        bool keep_log, wait;
        int64_t grace; /* milliseconds */
    } asked = {.wait = true, .grace = -1};
    static const struct json_field fields[] = {
        {"keepLog", JSON_BOOL, offsetof(struct members, keep_log), false, 0, 0},
        {"grace", JSON_INT, offsetof(struct members, grace), false, 0, GRACE_ASKED_MAX},
        {"wait", JSON_BOOL, offsetof(struct members, wait), false, 0, 0},
    };
    struct error err = {0};

    if (!method_key(call, params, &key))
        return;
    if (json_read(params, fields, COUNT(fields), JSON_IGNORE_UNKNOWN, &asked, BAD_CALL, &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    inst = instance_find(contd, &key);
    if (inst == NULL) {
        /* Only its log may still be there: a stand-in without anything else takes it along. */
        if (asked.keep_log || instance_new(contd, &key, &inst) < 0) {
            varlink_call_reply(call, NULL);
            return;
        }
        inst->phase = PHASE_ENDED;
    }
    /* Asked once more, it changes nothing: watchers are told of changes only. */
    bool anew = !inst->removing;
    if (inst->phase != PHASE_REMOVING)
        inst->keep_log = asked.keep_log;
    inst->wanted = false;
    inst->again = false;
    inst->removing = true;
    if (asked.grace >= 0)
        instance_hurry(inst, (uint64_t)asked.grace * 1000);
    if (asked.wait)
        waiting_add(inst, call, WAITING_REMOVE);
    else
        varlink_call_reply(call, NULL);
    if (anew && inst->uid_count != 0)
        instance_changed(inst);
    instance_advance(inst);
}

/* ---- the table ---- */

/* Who may call. provd reconciles; gated forwards what its own table of method and role allows. */
extern uid_t contd_uids_provd[], contd_uids_gated[], contd_uids_readers[];

static const struct varlink_method methods[] = {
    {"org.croft.container.Prepare", method_prepare, contd_uids_provd},
    {"org.croft.container.Start", method_start, contd_uids_provd},
    {"org.croft.container.Stop", method_stop, contd_uids_provd},
    {"org.croft.container.Restart", method_restart, contd_uids_readers},
    {"org.croft.container.Remove", method_remove, contd_uids_provd},
    {"org.croft.container.List", method_list, contd_uids_readers},
    {"org.croft.container.Watch", method_watch, contd_uids_readers},
    {"org.croft.container.GetLog", method_get_log, contd_uids_readers},
    {"org.croft.container.Exec", method_exec, contd_uids_gated},
};

const struct varlink_interface contd_interface = {
    .name = "org.croft.container",
    .description = varlink_org_croft_container,
    .methods = methods,
    .method_count = COUNT(methods),
};
