/*
 * registry.c - the list of instances, and how one looks from outside.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "container/contd.h"
#include "lib/log.h"

/* ---- list ---- */

struct instance *instance_find(struct contd *contd, const struct instance_key *key)
{
    struct instance *inst = contd->instances;

    while (inst != NULL && strcmp(inst->key.name, key->name) != 0)
        inst = inst->next;
    return inst;
}

int instance_new(struct contd *contd, const struct instance_key *key,
                 struct instance **ret_instance)
{
    struct instance *inst = calloc(1, sizeof(*inst));

    if (inst == NULL)
        return -ENOMEM;
    inst->contd = contd;
    inst->key = *key;
    inst->watch = -1;
    inst->shim_pidfd = -1;
    inst->shim = inst->pid = -1;
    int ret = loop_timer_add(contd->loop, instance_timer, inst, &inst->timer);
    if (ret < 0) {
        free(inst);
        return ret;
    }
    struct instance **at = &contd->instances;
    while (*at != NULL)
        at = &(*at)->next;
    *at = inst;
    *ret_instance = inst;
    return 0;
}

void instance_forget_shim(struct instance *inst)
{
    loop_child_del(inst->shim_child);
    loop_io_del(inst->shim_io);
    if (inst->shim_pidfd >= 0)
        close(inst->shim_pidfd);
    inst->shim_child = NULL;
    inst->shim_io = NULL;
    inst->shim_pidfd = -1;
    inst->shim = inst->pid = -1;
}

void instance_free(struct instance *inst)
{
    struct instance **at = &inst->contd->instances;

    while (*at != NULL && *at != inst)
        at = &(*at)->next;
    if (*at != NULL)
        *at = inst->next;
    health_end(inst);
    loop_timer_del(inst->health.timer);
    worker_cancel(inst->worker);
    instance_forget_shim(inst);
    loop_timer_del(inst->timer);
    if (inst->watch >= 0)
        inotify_rm_watch(inst->contd->inotify, inst->watch);
    container_spec_done(&inst->spec);
    free(inst->start);
    free(inst);
}

void instance_changed(struct instance *inst)
{
    int ret = inst->phase != PHASE_PREPARING && inst->phase != PHASE_REMOVING
                  ? store_save_state(inst)
                  : 0;

    if (ret < 0)
        log_err("%s: its state cannot be saved: %s", inst->key.name, strerror(-ret));
    watch_changed(inst->contd);
}

const char *instance_state(const struct instance *inst)
{
    switch (inst->phase) {
    case PHASE_PREPARING:
    case PHASE_PREPARED:
        return inst->failed ? "failed" : "prepared";
    case PHASE_STARTING:
        return "starting";
    case PHASE_RUNNING:
        return inst->signalled ? "stopping" : "running";
    case PHASE_CLEANING:
        return inst->wanted && !inst->removing ? "starting" : "stopping";
    case PHASE_WAITING:
        return "starting";
    case PHASE_ENDED:
        return inst->failed ? "failed" : "exited";
    case PHASE_REMOVING:
        return "stopping";
    }
    return "failed";
}

/* Policies that do not start it again after a 0: what it was to do is done. */
bool instance_done(const struct instance *inst)
{
    return inst->phase == PHASE_ENDED && !inst->stopped && inst->has_exit &&
           inst->exit_status == 0 && !inst->failed &&
           (inst->spec.restart == RESTART_NO || inst->spec.restart == RESTART_ON_FAILURE);
}
