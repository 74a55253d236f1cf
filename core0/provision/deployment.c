/*
 * deployment.c - the cursor over a plan; see deployment.h.
 */
#include "provision/deployment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hash.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "provision/steps.h"

#define UNTIMED_US ((uint64_t)2 * 1000 * 1000) /* until it is looked whether the time is known */

static void on_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    deployment_run(data);
}

static void arm_deadline(struct deployment *deployment)
{
    uint64_t by = deployment->content.deploy_by, now = 0;

    if (deployment->chain_state >= CHAIN_ACTIVE || by == 0) {
        loop_timer_stop(deployment->deadline);
        return;
    }
    if (!provision_now(deployment->provision, &now)) {
        loop_timer_in(deployment->deadline, UNTIMED_US);
        return;
    }
    uint64_t left = by > now ? by - now : 0;
    loop_timer_in(deployment->deadline, left * 1000 * 1000);
}

static void on_deadline(struct loop_timer *timer, void *data)
{
    struct deployment *deployment = data;
    struct error err = {0};
    uint64_t now;

    (void)timer;
    if (deployment->phase != PHASE_MAKING) {
        return;
    }
    if (!provision_now(deployment->provision, &now) || now < deployment->content.deploy_by) {
        arm_deadline(deployment); /* the time was not known yet, or was corrected */
        return;
    }
    error_set(&err, ETIMEDOUT, "provision.timed-out", deployment->error.hint,
              "not running at the time it was to run by; last: %s",
              error_is_set(&deployment->error) ? deployment->error.message
                                               : deployment_step_name(deployment));
    deployment_fail(deployment, &err);
}

static int add(struct deployment *deployment, enum step_id id, size_t service, size_t item)
{
    struct plan_item *grown =
        reallocarray(deployment->plan, deployment->plan_count + 1, sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    deployment->plan = grown;
    grown[deployment->plan_count++] = (struct plan_item){&steps[id], service, item};
    return 0;
}

static int plan_services(struct deployment *deployment)
{
    const struct spec *spec = deployment->spec;
    int ret = 0;

    for (size_t i = 0; i < spec->service_count; i++) {
        size_t s = spec->order[i];
        ret |= add(deployment, STEP_SCRATCH, s, 0);
        ret |= add(deployment, STEP_PREPARE, s, 0);
        for (size_t n = 0; n < spec->services[s].network_count; n++) {
            ret |= add(deployment, STEP_ATTACH, s, n);
        }
        ret |= add(deployment, STEP_MOUNT, s, 0);
    }
    ret |= add(deployment, STEP_NAMES, 0, 0);
    for (size_t i = 0; i < spec->service_count; i++) {
        size_t s = spec->order[i];
        if (spec->services[s].depend_count > 0) {
            ret |= add(deployment, STEP_DEPENDS, s, 0);
        }
        ret |= add(deployment, STEP_QUIESCE, s, 0);
        for (size_t m = 0; m < spec->services[s].mount_count; m++) {
            if (spec->volumes[spec->services[s].mounts[m].volume].filesystem != NULL) {
                ret |= add(deployment, STEP_PLUG, s, m);
            }
        }
        ret |= add(deployment, STEP_START, s, 0);
    }
    return ret;
}

int deployment_build_plan(struct deployment *deployment, struct error *err)
{
    const struct spec *spec = deployment->spec;
    int ret = 0;

    deployment->plan_count =
        2; /* fetch and open stay; what was planned from an earlier opening goes */
    for (size_t i = 0; i < spec->image_count; i++) {
        ret |= add(deployment, STEP_PULL, i, 0);
    }
    ret |= add(deployment, STEP_DEPLOYING, 0, 0);
    for (size_t i = 0; i < spec->network_count; i++) {
        ret |= add(deployment, STEP_NETWORK, i, 0);
    }
    for (size_t i = 0; i < spec->volume_count; i++) {
        ret |= add(deployment, spec->volumes[i].filesystem != NULL ? STEP_DISK : STEP_VOLUME, i, 0);
    }
    for (size_t i = 0; i < spec->kv_count; i++) {
        ret |= add(deployment, STEP_SPACE, i, 0);
    }
    ret |= plan_services(deployment);
    ret |= add(deployment, STEP_HEALTHY, 0, 0);
    ret |= add(deployment, STEP_EXPOSE, 0, 0);
    for (size_t i = 0; i < spec->volume_count; i++) {
        ret |= add(deployment, spec->volumes[i].filesystem == NULL ? STEP_SETTLE : STEP_SETTLE_DISK,
                   i, 0);
    }
    for (size_t i = 0; i < spec->kv_count; i++) {
        ret |= add(deployment, STEP_SETTLE_SPACE, i, 0);
    }
    ret |= add(deployment, STEP_ACTIVE, 0, 0);
    return ret < 0 ? error_set(err, ENOMEM, "provision.no-memory", "", "out of memory") : 0;
}

int deployment_new(struct provision *provision, const struct ledger_revision *revision,
                   struct deployment **ret_deployment)
{
    struct deployment *deployment = calloc(1, sizeof(*deployment));
    int ret;

    if (deployment == NULL) {
        return -ENOMEM;
    }
    deployment->provision = provision;
    deployment->id = revision->id;
    deployment->revision = revision->revision;
    deployment->round = revision->round;
    deployment->chain_state = revision->state;
    deployment->retry_us = DEPLOYMENT_RETRY_US;
    deployment->content = *revision->content;
    deployment->content.sealed = NULL;
    memcpy(deployment->commitment, revision->commitment, 32);
    lane_init(&deployment->lane, provision->loop, provision->run);
    if (revision->content->sealed_len > 0) {
        deployment->sealed = malloc(revision->content->sealed_len);
        if (deployment->sealed == NULL) {
            free(deployment);
            return -ENOMEM;
        }
        deployment->sealed_len = revision->content->sealed_len;
        memcpy(deployment->sealed, revision->content->sealed, deployment->sealed_len);
    }
    if ((ret = loop_timer_add(provision->loop, on_timer, deployment, &deployment->timer)) < 0 ||
        (ret = loop_timer_add(provision->loop, on_deadline, deployment, &deployment->deadline)) <
            0 ||
        (ret = add(deployment, STEP_FETCH, 0, 0)) < 0 ||
        (ret = add(deployment, STEP_OPEN, 0, 0)) < 0) {
        deployment_free(deployment);
        return ret;
    }
    arm_deadline(deployment);
    *ret_deployment = deployment;
    return 0;
}

void deployment_free(struct deployment *deployment)
{
    if (deployment == NULL) {
        return;
    }
    http_transfer_cancel(deployment->transfer);
    lane_done(&deployment->lane);
    loop_timer_del(deployment->timer);
    loop_timer_del(deployment->deadline);
    for (size_t i = 0; i < SPEC_SERVICES_MAX; i++) {
        free(deployment->services[i].rootfs);
        free(deployment->services[i].netns);
        free(deployment->services[i].scratch);
        yyjson_doc_free(deployment->services[i].image);
    }
    for (size_t i = 0; i < SPEC_VOLUMES_MAX; i++) {
        free(deployment->volumes[i]);
        free(deployment->snapshots[i]);
    }
    spec_free(deployment->spec);
    free(deployment->plan);
    free(deployment->sealed);
    free(deployment);
}

struct deployment *deployment_successor(const struct deployment *deployment)
{
    for (struct deployment *d = deployment->provision->deployments; d != NULL; d = d->next) {
        if (d->id == deployment->id && d->revision > deployment->revision && !d->dead &&
            d->phase < PHASE_FAILING) {
            return d;
        }
    }
    return NULL;
}

const char *deployment_step_name(const struct deployment *deployment)
{
    static const char *const phases[] = {"done", "running", "reporting failure", "failed"};
    if (deployment->dead) {
        return "ended";
    }
    if (deployment->cursor < deployment->plan_count) {
        return deployment->plan[deployment->cursor].step->name;
    }
    return phases[deployment->phase];
}

/* ---- failure ---- */

/* From here on only the report is left to do. The chain takes Failed after Deploying only. */
void deployment_fail(struct deployment *deployment, const struct error *err)
{
    if (deployment->phase >= PHASE_FAILING) {
        return;
    }
    log_warn("reservation %" PRIu64 " revision %" PRIu32 " fails at %s: %s (%s)", deployment->id,
             deployment->revision, deployment_step_name(deployment), err->message, err->code);
    deployment->phase = PHASE_FAILING;
    deployment->error = *err;
    notify_error(err);
    loop_timer_stop(deployment->timer);
    loop_timer_stop(deployment->deadline);
    if (deployment->busy) {
        /* A wait or a retry is not busy; a request is, and its answer will not be looked at. */
        lane_done(&deployment->lane);
        http_transfer_cancel(deployment->transfer);
        deployment->transfer = NULL;
        deployment->busy = false;
    }
    deployment->plan_count = 0;
    deployment->cursor = 0;
    deployment->step_started = 0; /* of the step that failed */
    deployment->retry_us = DEPLOYMENT_RETRY_US;
    int ret = 0;
    if (deployment->candidate) {
        for (size_t i = 0; deployment->spec != NULL && i < deployment->spec->service_count; i++) {
            if (deployment->services[i].quiesced) {
                ret |= add(deployment, STEP_RESUME, i, 0);
            }
        }
    }
    if (deployment->chain_state == CHAIN_FUNDED && !deployment->deploying_reported) {
        ret |= add(deployment, STEP_DEPLOYING, 0, 0);
    }
    ret |= add(deployment, STEP_FAILED, 0, 0);
    if (ret < 0) {
        abort(); /* crash-only: out of memory for a few bytes; the next start walks the same way */
    }
    loop_timer_in(deployment->timer, 0);
    reconcile_soon(deployment->provision);
}

static void step_failed(struct deployment *deployment, const struct error *err)
{
    const struct plan_item *item = &deployment->plan[deployment->cursor];

    if (deployment->phase == PHASE_FAILING || step_error_passes(err->code)) {
        if (deployment->phase != PHASE_FAILING) {
            deployment->error = *err;
        }
        log_info("reservation %" PRIu64 ": %s waits: %s (%s)", deployment->id, item->step->name,
                 err->message, err->code);
        loop_timer_in(deployment->timer, deployment->retry_us);
        deployment->retry_us = deployment->retry_us * 2 > DEPLOYMENT_RETRY_MAX_US
                                   ? DEPLOYMENT_RETRY_MAX_US
                                   : deployment->retry_us * 2;
        return;
    }
    deployment_fail(deployment, err);
}

/* ---- the cursor ---- */

static const char *item_service(const struct deployment *deployment, const struct plan_item *item)
{
    bool of_service = item->step >= &steps[STEP_SCRATCH] && item->step <= &steps[STEP_START] &&
                      item->step != &steps[STEP_NAMES];
    return of_service && deployment->spec != NULL ? deployment->spec->services[item->service].name
                                                  : "";
}

static void step_done(struct deployment *deployment)
{
    const struct plan_item *item = &deployment->plan[deployment->cursor];

    fault_point("%s.after", item->step->name);
    notify_event("step",
                 "\"reservation\":%" PRIu64 ",\"revision\":%" PRIu32
                 ",\"step\":\"%s\",\"service\":\"%s\",\"us\":%" PRIu64,
                 deployment->id, deployment->revision, item->step->name,
                 item_service(deployment, item), loop_clock() - deployment->step_started);
    if (deployment->phase != PHASE_FAILING) {
        error_clear(&deployment->error);
    }
    deployment->cursor++;
    deployment->step_started = 0;
    deployment->retry_us = DEPLOYMENT_RETRY_US;
}

static void all_done(struct deployment *deployment)
{
    if (deployment->phase == PHASE_FAILING) {
        deployment->phase = PHASE_FAILED;
    } else {
        deployment->phase = PHASE_RUNNING;
        loop_timer_stop(deployment->deadline);
        notify_error(NULL);
    }
    notify_event("state",
                 "\"reservation\":%" PRIu64 ",\"revision\":%" PRIu32
                 ",\"state\":\"%s\",\"reason\":\"%s\"",
                 deployment->id, deployment->revision,
                 deployment->phase == PHASE_RUNNING ? "running" : "failed", deployment->error.code);
    lane_done(&deployment->lane); /* connections are for those on their way */
    reconcile_soon(deployment->provision);
}

static void on_reply(yyjson_val *parameters, const struct error *reply_err, bool more, void *data)
{
    struct deployment *deployment = data;
    struct error err = {0};

    if (more) {
        return; /* progress of a pull */
    }
    deployment->busy = false;
    if (deployment->dead) {
        reconcile_soon(deployment->provision);
        return;
    }
    const struct plan_item *item = &deployment->plan[deployment->cursor];
    if (parameters == NULL) {
        step_failed(deployment, reply_err);
        return;
    }
    if (item->step->got != NULL && item->step->got(deployment, item, parameters, &err) < 0) {
        step_failed(deployment, &err);
        return;
    }
    step_done(deployment);
    deployment_run(deployment);
}

/* 1: done at once, 0: under way or waiting, -errno. */
static int step_begin(struct deployment *deployment, const struct plan_item *item,
                      struct error *err)
{
    const struct step *step = item->step;

    if (step->method == NULL) {
        return step->check(deployment, item, err);
    }
    yyjson_mut_doc *parameters = step->ask(deployment, item, err);
    if (parameters == NULL) {
        return error_is_set(err) ? -EINVAL : 1;
    }
    deployment->busy = true;
    int ret = lane_call(&deployment->lane, step->maker, step->method, parameters, step->flags,
                        step->timeout_us, on_reply, deployment);
    if (ret < 0) {
        deployment->busy = false;
        return error_set(err, -ret, "varlink.lost", "", "%s cannot be asked: %s", step->method,
                         strerror(-ret));
    }
    return 0;
}

/* A container that gave up takes a running revision with it: the chain carries its reason. */
static void check_running(struct deployment *deployment)
{
    struct error err = {0};
    if (steps[STEP_HEALTHY].check(deployment, NULL, &err) < 0 &&
        strcmp(err.code, "container.unhealthy") != 0) {
        deployment_fail(deployment, &err);
    }
}

void deployment_run(struct deployment *deployment)
{
    while (!deployment->busy && !deployment->dead) {
        struct error err = {0};

        if (deployment->phase == PHASE_RUNNING) {
            check_running(deployment);
            return;
        }
        if (deployment->phase == PHASE_FAILED) {
            return;
        }
        if (deployment->cursor == deployment->plan_count) {
            all_done(deployment);
            return;
        }
        const struct plan_item *item = &deployment->plan[deployment->cursor];
        if (deployment->step_started == 0) {
            deployment->step_started = loop_clock();
            fault_point("%s.before", item->step->name);
        }
        int ret = step_begin(deployment, item, &err);
        if (ret < 0) {
            step_failed(deployment, &err);
            return;
        }
        if (ret == 0) {
            return;
        }
        step_done(deployment);
    }
}

void deployment_walk_again(struct deployment *deployment)
{
    if (deployment->phase == PHASE_RUNNING) {
        deployment->phase = PHASE_MAKING;
        deployment->cursor = 0;
    }
}

void deployment_rewind(struct deployment *deployment)
{
    deployment->phase = PHASE_MAKING;
    deployment->cursor = 0;
    deployment->step_started = 0;
    deployment->retry_us = DEPLOYMENT_RETRY_US;
    loop_timer_in(deployment->timer, 0);
}

/* Grace is no further on the way than Active: what is paid again is not made again. */
static enum chain_state way(enum chain_state state)
{
    return state == CHAIN_GRACE ? CHAIN_ACTIVE : state;
}

void deployment_update(struct deployment *deployment, enum chain_state state, uint32_t other)
{
    if (deployment->phase == PHASE_RUNNING && way(state) < way(deployment->chain_state)) {
        /* A reorganisation took a report back: the whole way once more, and what was reported is reported again. */
        deployment_walk_again(deployment);
        deployment->deploying_reported = false;
    }
    deployment->chain_state = state;
    deployment->candidate = other != 0;
    deployment->other = other;
    if (state >= CHAIN_ACTIVE) {
        loop_timer_stop(deployment->deadline);
    }
}

bool deployment_end(struct deployment *deployment)
{
    deployment->dead = true;
    loop_timer_stop(deployment->timer);
    loop_timer_stop(deployment->deadline);
    if (deployment->transfer != NULL) {
        http_transfer_cancel(deployment->transfer);
        deployment->transfer = NULL;
        deployment->busy = false;
    }
    return !deployment->busy;
}
