/*
 * watch.c - the list of containers, and those who want to know each change of it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "container/contd.h"
#include "container/logloss.h"

#define RETRY_US                                                                                   \
    UINT64_C(200000) /* a watcher that does not read: changes are put together meanwhile */

struct watcher {
    struct watcher *next;
    struct contd *contd;
    struct varlink_call *call;
    bool behind; /* has not got the present list */
};

static bool log_is_lost(const struct instance *inst, struct error *ret_reason)
{
    char folder[CONTD_PATH_MAX];
    struct timespec now;

    store_log(inst, folder);
    clock_gettime(CLOCK_REALTIME, &now);
    return logloss_seen(folder, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
                        strtoull(inst->contd->opt.log_size, NULL, 10), ret_reason);
}

static void add_container(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct instance *inst)
{
    yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
    const char *code = inst->last.code, *message = inst->last.message;
    struct error limit = {0};
    enum health_state health = inst->health.state;

    /* It runs on, less well than it could: whoever asks is told why. */
    if (code[0] == '\0' && inst->phase == PHASE_RUNNING && limits_reached(inst, &limit)) {
        code = limit.code;
        message = limit.message;
    }
    if (message[0] == '\0' && health != HEALTH_HEALTHY)
        message = inst->health.message;
    /* Last of all: it fails by nothing but what its tenant will look for. */
    if (code[0] == '\0' && message[0] == '\0' && inst->phase == PHASE_RUNNING &&
        log_is_lost(inst, &limit)) {
        code = limit.code;
        message = limit.message;
    }
    /* A container that comes back has to prove its health anew. */
    if (health == HEALTH_NONE && inst->spec.health.argv != NULL && inst->wanted)
        health = HEALTH_STARTING;
    yyjson_mut_obj_add_uint(doc, item, "reservation", inst->key.reservation);
    yyjson_mut_obj_add_uint(doc, item, "revision", inst->key.revision);
    yyjson_mut_obj_add_strcpy(doc, item, "service", inst->key.service);
    yyjson_mut_obj_add_str(doc, item, "state", instance_state(inst));
    yyjson_mut_obj_add_str(doc, item, "health", health_name(health));
    yyjson_mut_obj_add_int(doc, item, "pid", inst->pid > 0 ? inst->pid : 0);
    yyjson_mut_obj_add_uint(doc, item, "restarts", inst->restarts);
    if (inst->has_exit)
        yyjson_mut_obj_add_int(doc, item, "exitStatus", inst->exit_status);
    else
        yyjson_mut_obj_add_null(doc, item, "exitStatus");
    yyjson_mut_obj_add_strcpy(doc, item, "reason", code);
    yyjson_mut_obj_add_strcpy(doc, item, "message", message);
    yyjson_mut_obj_add_bool(doc, item, "done", instance_done(inst));
}

static yyjson_mut_doc *make_list(const struct contd *contd)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "containers");

    yyjson_mut_doc_set_root(doc, root);
    for (const struct instance *inst = contd->instances; inst != NULL; inst = inst->next)
        add_container(doc, list, inst);
    return doc;
}

/* Logs outlive a boot, the instances that wrote them do not: whoever knows which are wanted removes the others. */
static void add_logs(yyjson_mut_doc *doc, const struct contd *contd)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "logs");
    DIR *dir = opendir(contd->opt.logs);
    struct instance_key key;
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (store_key(entry->d_name, &key) < 0)
            continue;
        const struct instance *inst = contd->instances;
        while (inst != NULL && strcmp(inst->key.name, key.name) != 0)
            inst = inst->next;
        if (inst != NULL)
            continue;
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, item, "reservation", key.reservation);
        yyjson_mut_obj_add_uint(doc, item, "revision", key.revision);
        yyjson_mut_obj_add_strcpy(doc, item, "service", key.service);
    }
    if (dir != NULL)
        closedir(dir);
}

void method_list(struct varlink_call *call, yyjson_val *params, void *data)
{
    yyjson_mut_doc *doc = make_list(data);

    (void)params;
    add_logs(doc, data);
    varlink_call_reply(call, doc);
}

/* ---- watchers ---- */

static void watcher_gone(struct varlink_call *call, void *data)
{
    struct watcher *watcher = data;
    struct watcher **at = &watcher->contd->watchers;

    (void)call;
    while (*at != NULL && *at != watcher)
        at = &(*at)->next;
    if (*at != NULL)
        *at = watcher->next;
    free(watcher);
}

/* -EPIPE means that watcher_gone follows: nothing to do here. */
static void push(struct contd *contd)
{
    bool behind = false;

    for (struct watcher *watcher = contd->watchers; watcher != NULL;) {
        struct watcher *next = watcher->next;

        if (watcher->behind) {
            watcher->behind = varlink_call_reply_more(watcher->call, make_list(contd)) == -EAGAIN;
            behind = behind || watcher->behind;
        }
        watcher = next;
    }
    if (behind)
        loop_timer_in(contd->watch_timer, RETRY_US);
}

static void push_later(struct loop_timer *timer, void *data)
{
    (void)timer;
    push(data);
}

/* Several changes of one turn are told together. */
static void push_deferred(void *data)
{
    struct contd *contd = data;

    contd->watch_pending = false;
    for (struct watcher *watcher = contd->watchers; watcher != NULL; watcher = watcher->next)
        watcher->behind = true;
    push(contd);
    logs_changed(contd);
    shutdown_check(contd);
}

void watch_changed(struct contd *contd)
{
    if (!contd->watch_pending && loop_defer(contd->loop, push_deferred, contd) == 0)
        contd->watch_pending = true;
}

void method_watch(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct contd *contd = data;
    struct watcher *watcher;

    (void)params;
    if (!varlink_call_wants_more(call)) {
        varlink_call_reply(call, make_list(contd));
        return;
    }
    watcher = calloc(1, sizeof(*watcher));
    if (watcher == NULL ||
        (contd->watch_timer == NULL &&
         loop_timer_add(contd->loop, push_later, contd, &contd->watch_timer) < 0)) {
        free(watcher);
        varlink_call_reply(call, make_list(contd));
        return;
    }
    *watcher = (struct watcher){.next = contd->watchers, .contd = contd, .call = call};
    contd->watchers = watcher;
    varlink_call_set_gone(call, watcher_gone, watcher);
    varlink_call_reply_more(call, make_list(contd));
}
