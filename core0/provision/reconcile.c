/*
 * reconcile.c - compares the chain's list with the deployments; see provision.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/log.h"
#include "lib/notify.h"
#include "provision/deployment.h"
#include "provision/replaced.h"
#include "provision/sweep.h"

const struct container *provision_container(const struct provision *provision, uint64_t reservation,
                                            uint32_t revision, const char *service)
{
    for (size_t i = 0; i < provision->container_count; i++) {
        const struct container *container = &provision->containers[i];
        if (container->reservation == reservation && container->revision == revision &&
            strcmp(container->service, service) == 0) {
            return container;
        }
    }
    return NULL;
}

bool provision_now(const struct provision *provision, uint64_t *ret_now)
{
    if (watch_clock_is_kept()) {
        *ret_now = (uint64_t)time(NULL);
        return true;
    }
    return provision->watch != NULL && watch_time(provision->watch, ret_now);
}

static struct deployment *find(const struct provision *provision, uint64_t id, uint32_t revision)
{
    for (struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        if (d->id == id && d->revision == revision) {
            return d;
        }
    }
    return NULL;
}

bool reconcile_wants(const struct provision *provision, uint64_t reservation, uint32_t revision)
{
    const struct deployment *d = find(provision, reservation, revision);
    return d != NULL && !d->dead && d->phase < PHASE_FAILING;
}

bool reconcile_wants_any(const struct provision *provision, uint64_t reservation)
{
    for (const struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        if (d->id == reservation && !d->dead && d->phase < PHASE_FAILING) {
            return true;
        }
    }
    return false;
}

/* Is this entry of the list to run here? */
static bool runs(const struct provision *provision, const struct ledger_revision *entry)
{
    return provision->chain_state != WATCH_RETIRED && !provision->halted &&
           entry->content != NULL && chain_state_runs(entry->state);
}

/* The other live revision of the reservation that was there before this one. */
static uint32_t predecessor(const struct provision *provision, const struct ledger *list,
                            const struct ledger_revision *entry)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct ledger_revision *other = &list->revisions[i];
        if (other->id == entry->id && other->revision < entry->revision && runs(provision, other)) {
            return other->revision;
        }
    }
    return 0;
}

/* An update that ended before it took over (withdrawn, expired, failed, not paid) may have stopped services of the revision
 * before it, and may have its ports. */
static void give_back(struct provision *provision, const struct deployment *ended)
{
    bool took = ended->exposed;

    for (size_t i = 0; ended->spec != NULL && i < ended->spec->service_count; i++) {
        took |= ended->services[i].quiesced;
    }
    for (struct deployment *d = provision->deployments; took && d != NULL; d = d->next) {
        if (d->id == ended->id && d->revision < ended->revision) {
            deployment_walk_again(d);
        }
    }
}

static void end_unwanted(struct provision *provision, const struct ledger *list)
{
    struct deployment **link = &provision->deployments;

    while (*link != NULL) {
        struct deployment *d = *link;
        const struct ledger_revision *entry = NULL;
        for (size_t i = 0; i < list->count; i++) {
            if (list->revisions[i].id == d->id && list->revisions[i].revision == d->revision) {
                entry = &list->revisions[i];
            }
        }
        /* Suspended and funded again between two looks: what was reported then does not count now. */
        bool wanted = entry != NULL && runs(provision, entry) && entry->round == d->round;
        bool same = entry != NULL && memcmp(entry->commitment, d->commitment, 32) == 0;
        if (wanted && same && !d->dead) {
            link = &d->next;
            continue;
        }
        if (!same && !d->dead) {
            log_warn("reservation %" PRIu64 " revision %" PRIu32 ": a reorganisation took it back",
                     d->id, d->revision);
            d->replaced = REPLACED;
            store_drop_sealed(&provision->store, d->id, d->revision);
        }
        if (!deployment_end(d)) {
            link = &d->next; /* its request is under way: the next reconcile frees it */
            continue;
        }
        if (d->replaced != REPLACED_NOT) {
            link = &d->next;
            continue;
        }
        if (entry == NULL || chain_state_final(entry->state)) {
            store_drop_sealed(&provision->store, d->id, d->revision);
        }
        *link = d->next;
        give_back(provision, d);
        deployment_free(d);
    }
}

static void begin_wanted(struct provision *provision, const struct ledger *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct ledger_revision *entry = &list->revisions[i];
        if (!runs(provision, entry)) {
            continue;
        }
        struct deployment *d = find(provision, entry->id, entry->revision);
        if (d == NULL) {
            if (deployment_new(provision, entry, &d) < 0) {
                log_err("reservation %" PRIu64 " cannot be begun: out of memory", entry->id);
                continue;
            }
            d->next = provision->deployments;
            provision->deployments = d;
        }
        deployment_update(d, entry->state, predecessor(provision, list, entry));
    }
}

static void tell(const struct provision *provision)
{
    size_t making = 0, running = 0;
    char text[16];

    for (const struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        making += d->phase == PHASE_MAKING;
        running += d->phase == PHASE_RUNNING;
    }
    snprintf(text, sizeof(text), "%zu", running);
    notify_fact("reservations", text);
    notify_status("%zu reservations run, %zu are being made", running, making);
}

void reconcile(struct provision *provision)
{
    if (!provision->have_list || provision->watch == NULL) {
        return;
    }
    const struct ledger *list = watch_latest(provision->watch);
    end_unwanted(provision, list);
    begin_wanted(provision, list);
    for (struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        deployment_run(d);
    }
    tell(provision);
    sweep_start(provision->sweep);
}

static void run_soon(void *data)
{
    reconcile(data);
}

void reconcile_soon(struct provision *provision)
{
    loop_defer(provision->loop, run_soon, provision);
}

void reconcile_sweeps(struct provision *provision)
{
    for (struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        if (d->replaced == REPLACED && !d->busy) {
            d->replaced = REPLACED_SWEEPING;
        }
    }
}

void reconcile_swept(struct provision *provision, bool clean)
{
    bool some = false;

    for (struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        if (d->replaced == REPLACED_SWEEPING) {
            bool gone = clean && !sweep_leaves(provision->sweep, d->id, d->revision);
            d->replaced = gone ? REPLACED_NOT : REPLACED;
            some = some || gone;
        }
    }
    if (some) {
        replaced_swept(provision);
        reconcile_soon(
            provision); /* only now: it asks for the next sweep, so one that is to be repeated would never end */
    }
}

void reconcile_stop(struct provision *provision)
{
    while (provision->deployments != NULL) {
        struct deployment *d = provision->deployments;
        provision->deployments = d->next;
        deployment_free(d);
    }
    sweep_free(provision->sweep);
    provision->sweep = NULL;
}
