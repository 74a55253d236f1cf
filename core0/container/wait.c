/*
 * wait.c - varlink calls that are answered when an instance gets where they want it.
 */
#include <stdlib.h>

#include "container/contd.h"
#include "lib/log.h"

static void waiting_unlink(struct waiting *waiting)
{
    struct waiting **at = &waiting->instance->calls;

    while (*at != NULL && *at != waiting)
        at = &(*at)->next;
    if (*at != NULL)
        *at = waiting->next;
}

/* What was begun goes on: the caller asks again, or not. */
static void waiting_gone(struct varlink_call *call, void *data)
{
    struct waiting *waiting = data;

    (void)call;
    waiting_unlink(waiting);
    free(waiting);
}

void waiting_add(struct instance *inst, struct varlink_call *call, enum waiting_kind kind)
{
    struct waiting *waiting = calloc(1, sizeof(*waiting));

    if (waiting == NULL) {
        struct error err = {0};

        error_set(&err, 12, "container.internal", NULL, "out of memory");
        varlink_call_fail(call, &err);
        return;
    }
    *waiting = (struct waiting){.instance = inst, .call = call, .kind = kind};
    struct waiting **at = &inst->calls;
    while (*at != NULL)
        at = &(*at)->next;
    *at = waiting;
    varlink_call_set_gone(call, waiting_gone, waiting);
}

bool waiting_has(const struct instance *inst, enum waiting_kind kind)
{
    for (const struct waiting *waiting = inst->calls; waiting != NULL; waiting = waiting->next) {
        if (waiting->kind == kind)
            return true;
    }
    return false;
}

static yyjson_mut_doc *waiting_reply(const struct instance *inst, enum waiting_kind kind)
{
    static const char *const pins[] = {"userns", "netns"};
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    char path[CONTD_PATH_MAX];

    yyjson_mut_doc_set_root(doc, root);
    if (kind == WAITING_START)
        yyjson_mut_obj_add_int(doc, root, "pid", inst->pid > 0 ? inst->pid : 0);
    for (size_t i = 0; kind == WAITING_PREPARE && i < sizeof(pins) / sizeof(pins[0]); i++) {
        store_path(inst, pins[i], path);
        yyjson_mut_obj_add_strcpy(doc, root, pins[i], path);
    }
    return doc;
}

void waiting_answer(struct instance *inst, enum waiting_kind kind, const struct error *err)
{
    struct waiting *waiting = inst->calls;

    while (waiting != NULL) {
        struct waiting *next = waiting->next;

        if (waiting->kind == kind) {
            waiting_unlink(waiting);
            varlink_call_set_gone(waiting->call, NULL, NULL);
            if (err != NULL && error_is_set(err))
                varlink_call_fail(waiting->call, err);
            else
                varlink_call_reply(waiting->call, waiting_reply(inst, kind));
            free(waiting);
        }
        waiting = next;
    }
}
