/*
 * sweep.c - see sweep.h.
 */
#include "provision/sweep.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/fault.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "provision/deployment.h"
#include "provision/steps.h"

#define SECOND ((uint64_t)1000 * 1000)
#define RETRY_US (2 * SECOND)
#define LEAVING_US (5 * SECOND) /* until containers that are leaving are asked once more */
#define GONE_US (SECOND / 10)   /* the list was older than what contd's Watch had said */
#define GRACE_OVER_MS                                                                              \
    30000 /* what a container has to end once its reservation is over and nobody pays for it */
#define UNTIMED_US (15 * SECOND) /* until it is looked whether the time is known */
#define ENDED_DEFAULT_MS                                                                           \
    ((uint64_t)24 * 3600 * 1000) /* a volume whose reservation nobody remembers */
#define OPS_MAX 65536

struct op {
    enum maker maker;
    const char *method;
    yyjson_mut_doc *parameters;
    char *volume; /* key to forget when it succeeded */
};

struct instance {
    uint64_t reservation;
    uint32_t revision;
    const char *service;
};

/* A container that was asked to end and is there yet. */
struct leaving {
    uint64_t reservation;
    uint32_t revision;
    char service[64];
};

struct sweep {
    struct provision *provision;
    struct lane lane;
    struct loop_timer *timer;
    bool running, again, failed, removed, collected;
    bool untimed;  /* something waits for the time to be known */
    size_t source; /* list being asked for */
    struct op *ops;
    size_t op_count, op_next;
    struct leaving *leaving;
    size_t leaving_count;
    uint64_t wake; /* Unix seconds when a kept volume ends; 0: none */
};

static void next_source(struct sweep *sweep);

/* ---- requests to be sent ---- */

static void add(struct sweep *sweep, enum maker maker, const char *method,
                yyjson_mut_doc *parameters, const char *volume)
{
    struct op *grown = sweep->op_count < OPS_MAX
                           ? reallocarray(sweep->ops, sweep->op_count + 1, sizeof(*grown))
                           : NULL;
    if (grown == NULL || parameters == NULL) {
        yyjson_mut_doc_free(parameters);
        sweep->again = true;
        return;
    }
    sweep->ops = grown;
    grown[sweep->op_count++] =
        (struct op){maker, method, parameters, volume != NULL ? strdup(volume) : NULL};
}

static struct instance instance_of(yyjson_val *object)
{
    return (struct instance){
        yyjson_get_uint(yyjson_obj_get(object, "reservation")),
        (uint32_t)yyjson_get_uint(yyjson_obj_get(object, "revision")),
        yyjson_get_str(yyjson_obj_get(object, "service")),
    };
}

static void add_instance(struct sweep *sweep, enum maker maker, const char *method,
                         const struct instance *instance)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc =
        parameters_instance(instance->reservation, instance->revision, instance->service, &root);
    add(sweep, maker, method, doc, NULL);
}

static bool unwanted(const struct sweep *sweep, const struct instance *instance)
{
    return instance->reservation != 0 &&
           !reconcile_wants(sweep->provision, instance->reservation, instance->revision);
}

/* ---- containers that are leaving ---- */

/* Whether one of the reservation is (revision 0: of any; service NULL: any). What it uses has to stay until it is gone. */
static bool leaves(const struct sweep *sweep, uint64_t reservation, uint32_t revision,
                   const char *service)
{
    for (size_t i = 0; i < sweep->leaving_count; i++) {
        const struct leaving *one = &sweep->leaving[i];
        if (one->reservation == reservation && (revision == 0 || one->revision == revision) &&
            (service == NULL || strcmp(one->service, service) == 0)) {
            return true;
        }
    }
    return false;
}

static bool note_leaving(struct sweep *sweep, const struct instance *instance)
{
    struct leaving *grown =
        reallocarray(sweep->leaving, sweep->leaving_count + 1, sizeof(*sweep->leaving));
    if (grown == NULL) {
        return false;
    }
    sweep->leaving = grown;
    struct leaving *one = &grown[sweep->leaving_count++];
    *one = (struct leaving){.reservation = instance->reservation, .revision = instance->revision};
    snprintf(one->service, sizeof(one->service), "%s", instance->service);
    return true;
}

/* By what contd's Watch has said. */
static bool one_is_gone(const struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->leaving_count; i++) {
        const struct leaving *one = &sweep->leaving[i];
        if (provision_container(sweep->provision, one->reservation, one->revision, one->service) ==
            NULL) {
            return true;
        }
    }
    return false;
}

bool sweep_leaves(const struct sweep *sweep, uint64_t reservation, uint32_t revision)
{
    return leaves(sweep, reservation, revision, NULL);
}

void sweep_look(struct sweep *sweep)
{
    if (one_is_gone(sweep)) {
        sweep_start(sweep);
    }
}

/* ---- what each list says ---- */

/* All are asked to end at once and none is waited for: a service may take an hour, and its neighbours are not to. */
static void remove_container(struct sweep *sweep, const struct instance *instance, bool wait)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc =
        parameters_instance(instance->reservation, instance->revision, instance->service, &root);
    if (doc != NULL) {
        yyjson_mut_obj_add_bool(doc, root, "keepLog", false);
        yyjson_mut_obj_add_bool(doc, root, "wait", wait);
        if (!reconcile_wants_any(sweep->provision, instance->reservation)) {
            yyjson_mut_obj_add_uint(doc, root, "grace", GRACE_OVER_MS);
        }
    }
    add(sweep, MAKER_CONTAINER, "org.croft.container.Remove", doc, NULL);
}

static void see_containers(struct sweep *sweep, yyjson_val *reply)
{
    size_t i, max;
    yyjson_val *item;

    sweep->leaving_count = 0;
    yyjson_arr_foreach(yyjson_obj_get(reply, "containers"), i, max, item)
    {
        struct instance instance = instance_of(item);
        if (!unwanted(sweep, &instance) || instance.service == NULL) {
            continue;
        }
        if (!note_leaving(sweep, &instance)) {
            sweep->failed = true;
        }
        remove_container(sweep, &instance, false);
    }
    /* Without a process, so that nothing is waited for. */
    yyjson_arr_foreach(yyjson_obj_get(reply, "logs"), i, max, item)
    {
        struct instance instance = instance_of(item);
        if (unwanted(sweep, &instance) && instance.service != NULL) {
            remove_container(sweep, &instance, true);
        }
    }
}

static void see_mounts(struct sweep *sweep, yyjson_val *reply)
{
    size_t i, max;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(reply, "mounts"), i, max, item)
    {
        struct instance instance = instance_of(item);
        if (unwanted(sweep, &instance) && instance.service != NULL &&
            !leaves(sweep, instance.reservation, instance.revision, instance.service)) {
            add_instance(sweep, MAKER_IMAGE, "org.croft.image.Unmount", &instance);
        }
    }
}

/* Ports go with the reservation's networks: RemoveReservation ends both. It comes first, so that nothing answers any more. */
static void see_networks(struct sweep *sweep, yyjson_val *reply)
{
    static const char *const lists[] = {"networks", "ports"};
    size_t i, max;
    yyjson_val *item;
    uint64_t last = 0;

    /* A reservation of nothing but key-value namespaces has ports and no network. */
    for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++) {
        yyjson_arr_foreach(yyjson_obj_get(reply, lists[l]), i, max, item)
        {
            struct instance instance = instance_of(item);
            if (instance.reservation != 0 && instance.reservation != last &&
                !reconcile_wants_any(sweep->provision, instance.reservation)) {
                yyjson_mut_val *root;
                last = instance.reservation;
                add(sweep, MAKER_NET, "org.croft.net.RemoveReservation",
                    parameters_instance(last, 0, NULL, &root), NULL);
            }
        }
    }
    yyjson_arr_foreach(yyjson_obj_get(reply, "attachments"), i, max, item)
    {
        struct instance instance = instance_of(item);
        if (unwanted(sweep, &instance) && instance.service != NULL &&
            reconcile_wants_any(sweep->provision, instance.reservation)) {
            add_instance(sweep, MAKER_NET, "org.croft.net.Detach", &instance);
        }
    }
}

/* When the last revision of a reservation ended, and whether the chain cannot take that back. */
static bool ended(const struct provision *provision, uint64_t reservation, uint64_t *ret_time,
                  bool *ret_final)
{
    const struct ledger *latest = watch_latest(provision->watch);
    const struct ledger *final = watch_final(provision->watch);
    uint64_t time = 0;

    *ret_final = true;
    for (size_t i = 0; i < latest->count; i++) {
        const struct ledger_revision *entry = &latest->revisions[i];
        if (entry->id != reservation) {
            continue;
        }
        if (!chain_state_final(entry->state)) {
            return false;
        }
        time = entry->changed > time ? entry->changed : time;
        *ret_final = *ret_final && entry->sequence <= final->sequence;
    }
    *ret_time = time;
    return true;
}

/* What outlives its reservation for a while. `keep` and `remove`: the methods for its kind. */
static void see_kept(struct sweep *sweep, const char *key, yyjson_val *keep_until, const char *keep,
                     const char *remove)
{
    const struct store_volume *known = store_find_volume(&sweep->provision->store, key);
    uint64_t reservation = known != NULL ? known->reservation : 0;
    uint64_t keep_ms = known != NULL ? known->keep_ms : ENDED_DEFAULT_MS;
    uint64_t now = 0, end = 0;
    bool final = true;
    yyjson_mut_val *root;

    if (reservation != 0 && (reconcile_wants_any(sweep->provision, reservation) ||
                             !ended(sweep->provision, reservation, &end, &final))) {
        return;
    }
    if (!provision_now(sweep->provision, &now)) {
        sweep->untimed = true; /* nothing of a tenant's is destroyed by a clock that nobody keeps */
        return;
    }
    if (!yyjson_is_uint(keep_until)) {
        /* The end's time is the endpoint's word: it may not shorten what the tenant was promised, nor stretch it. */
        uint64_t from = end != 0 && end < now ? end : now;
        uint64_t until = from + (keep_ms + 999) / 1000;
        yyjson_mut_doc *doc = parameters_new(&root);
        if (doc != NULL) {
            yyjson_mut_obj_add_strcpy(doc, root, "key", key);
            yyjson_mut_obj_add_uint(doc, root, "until", until);
        }
        add(sweep, MAKER_STORAGE, keep, doc, NULL);
        sweep->again = true; /* once more, to see when it ends */
        return;
    }
    uint64_t until = yyjson_get_uint(keep_until);
    if (until <= now && leaves(sweep, reservation, 0, NULL)) {
        return;
    }
    if (until > now || !final) {
        uint64_t at = until > now ? until : now + 15;
        sweep->wake = sweep->wake == 0 || at < sweep->wake ? at : sweep->wake;
        return;
    }
    yyjson_mut_doc *doc = parameters_new(&root);
    if (doc != NULL) {
        yyjson_mut_obj_add_strcpy(doc, root, "key", key);
    }
    add(sweep, MAKER_STORAGE, remove, doc, key);
}

/* A disk whose holder is gone is closed: without its key nobody reads it any more. */
static void see_disk(struct sweep *sweep, const char *key, const char *holder)
{
    yyjson_mut_val *root;
    uint64_t reservation = 0;
    int at = 0;

    if (disk_is_held(sweep->provision, key, holder)) {
        return;
    }
    if (sscanf(holder, "%" SCNu64 "/%n", &reservation, &at) == 1 && at > 0 &&
        leaves(sweep, reservation, 0, holder + at)) {
        return;
    }
    yyjson_mut_doc *doc = parameters_new(&root);
    if (doc != NULL) {
        yyjson_mut_obj_add_strcpy(doc, root, "key", key);
        yyjson_mut_obj_add_strcpy(doc, root, "holder", holder);
    }
    add(sweep, MAKER_STORAGE, "org.croft.storage.DetachVirtualDisk", doc, NULL);
}

static void see_scratch(struct sweep *sweep, const char *key)
{
    struct instance instance = {0};
    yyjson_mut_val *root;

    if (sscanf(key, "scratch/%" SCNu64 "/%" SCNu32 "/", &instance.reservation,
               &instance.revision) != 2 ||
        !unwanted(sweep, &instance) ||
        leaves(sweep, instance.reservation, instance.revision, NULL)) {
        return;
    }
    yyjson_mut_doc *doc = parameters_new(&root);
    if (doc != NULL) {
        yyjson_mut_obj_add_strcpy(doc, root, "key", key);
    }
    add(sweep, MAKER_STORAGE, "org.croft.storage.RemoveVolume", doc, NULL);
}

static void see_volumes(struct sweep *sweep, yyjson_val *reply)
{
    size_t i, max;
    yyjson_val *item;

    yyjson_arr_foreach(yyjson_obj_get(reply, "volumes"), i, max, item)
    {
        const char *key = yyjson_get_str(yyjson_obj_get(item, "key"));
        const char *holder = yyjson_get_str(yyjson_obj_get(item, "holder"));
        if (key != NULL && holder != NULL) {
            see_disk(sweep, key, holder);
        }
        if (key != NULL && strncmp(key, "volume/", 7) == 0) {
            see_kept(sweep, key, yyjson_obj_get(item, "keepUntil"), "org.croft.storage.KeepVolume",
                     "org.croft.storage.RemoveVolume");
        } else if (key != NULL) {
            see_scratch(sweep, key);
        }
    }
}

static void see_spaces(struct sweep *sweep, yyjson_val *reply)
{
    size_t i, max;
    yyjson_val *item;

    yyjson_arr_foreach(yyjson_obj_get(reply, "spaces"), i, max, item)
    {
        const char *key = yyjson_get_str(yyjson_obj_get(item, "key"));
        if (key != NULL) {
            see_kept(sweep, key, yyjson_obj_get(item, "keepUntil"), "org.croft.storage.KeepSpace",
                     "org.croft.storage.RemoveSpace");
        }
    }
}

/* Order matters: what is published goes first, then what uses a mount, then the mount, then what it lay on. */
static const struct {
    enum maker maker;
    const char *method;
    void (*see)(struct sweep *, yyjson_val *);
} sources[] = {
    {MAKER_NET, "org.croft.net.List", see_networks},
    {MAKER_CONTAINER, "org.croft.container.List", see_containers},
    {MAKER_IMAGE, "org.croft.image.List", see_mounts},
    {MAKER_STORAGE, "org.croft.storage.ListVolumes", see_volumes},
    {MAKER_STORAGE, "org.croft.storage.ListSpaces", see_spaces},
};
#define SOURCES (sizeof(sources) / sizeof(sources[0]))

/* ---- running ---- */

static void clear(struct sweep *sweep)
{
    for (size_t i = sweep->op_next; i < sweep->op_count; i++) {
        yyjson_mut_doc_free(sweep->ops[i].parameters);
    }
    for (size_t i = 0; i < sweep->op_count; i++) {
        free(sweep->ops[i].volume);
    }
    free(sweep->ops);
    sweep->ops = NULL;
    sweep->op_count = sweep->op_next = 0;
}

/* Ranges of user ids go back once nothing of their reservation is left. */
static void release_uids(struct sweep *sweep)
{
    struct store *store = &sweep->provision->store;
    for (size_t i = store->slot_count; i-- > 0;) {
        uint64_t reservation = store->slots[i].reservation;
        if (!reconcile_wants_any(sweep->provision, reservation) &&
            !leaves(sweep, reservation, 0, NULL)) {
            store_release_uids(store, reservation);
        }
    }
}

static void finish(struct sweep *sweep)
{
    bool again = sweep->again;

    clear(sweep);
    sweep->running = false;
    sweep->again = false;
    reconcile_swept(sweep->provision, !sweep->failed && !again);
    if (sweep->failed) {
        loop_timer_in(sweep->timer, RETRY_US);
        return;
    }
    if (again) {
        sweep_start(sweep);
        return;
    }
    release_uids(sweep);
    lane_done(&sweep->lane);
    notify_event("swept", "\"removed\":%s", sweep->removed ? "true" : "false");
    if (sweep->leaving_count > 0) {
        loop_timer_in(sweep->timer, one_is_gone(sweep) ? GONE_US : LEAVING_US);
    } else if (sweep->untimed) {
        loop_timer_in(sweep->timer, UNTIMED_US);
    } else if (sweep->wake != 0) {
        uint64_t now = sweep->wake;
        (void)provision_now(sweep->provision, &now);
        loop_timer_in(sweep->timer, (sweep->wake > now ? sweep->wake - now : 1) * SECOND);
    }
}

/* After something ended: images that nobody wants go too. Not while a specification is still closed. What is wanted is
 * looked up last, as the requests before take time and another reservation may have begun meanwhile. */
static void collect(struct sweep *sweep)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc;

    for (const struct deployment *d = sweep->provision->deployments; d != NULL; d = d->next) {
        if (d->spec == NULL && d->phase < PHASE_FAILING) {
            return;
        }
    }
    if (!sweep->removed || (doc = parameters_new(&root)) == NULL) {
        return;
    }
    yyjson_mut_val *keep = yyjson_mut_obj_add_arr(doc, root, "keep");
    for (const struct deployment *d = sweep->provision->deployments; d != NULL; d = d->next) {
        for (size_t i = 0; d->phase < PHASE_FAILING && i < d->spec->image_count; i++) {
            yyjson_mut_arr_add_strcpy(doc, keep, d->spec->images[i].id);
        }
    }
    add(sweep, MAKER_IMAGE, "org.croft.image.Collect", doc, NULL);
}

static void next_op(struct sweep *sweep);

static void on_op(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct sweep *sweep = data;
    struct op *op = &sweep->ops[sweep->op_next - 1];

    (void)more;
    if (parameters == NULL) {
        log_error(err, op->method);
        sweep->failed = true;
    } else if (op->volume != NULL) {
        store_drop_volume(&sweep->provision->store, op->volume);
    }
    fault_point("sweep.%s.after", strrchr(op->method, '.') + 1);
    next_op(sweep);
}

static void next_op(struct sweep *sweep)
{
    if (sweep->op_next == sweep->op_count && !sweep->collected) {
        sweep->collected = true;
        collect(sweep);
    }
    if (sweep->op_next == sweep->op_count) {
        finish(sweep);
        return;
    }
    struct op *op = &sweep->ops[sweep->op_next++];
    yyjson_mut_doc *parameters = op->parameters;
    op->parameters = NULL;
    fault_point("sweep.%s.before", strrchr(op->method, '.') + 1);
    if (lane_call(&sweep->lane, op->maker, op->method, parameters, 0, 0, on_op, sweep) < 0) {
        sweep->failed = true;
        finish(sweep);
    }
}

static void on_source(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct sweep *sweep = data;

    (void)more;
    if (parameters == NULL) {
        log_error(err, sources[sweep->source].method);
        sweep->failed = true;
        finish(sweep);
        return;
    }
    sources[sweep->source].see(sweep, parameters);
    sweep->source++;
    next_source(sweep);
}

static void next_source(struct sweep *sweep)
{
    if (sweep->source == SOURCES) {
        sweep->removed = sweep->removed || sweep->op_count > 0;
        next_op(sweep);
        return;
    }
    if (lane_call(&sweep->lane, sources[sweep->source].maker, sources[sweep->source].method, NULL,
                  0, 30 * SECOND, on_source, sweep) < 0) {
        sweep->failed = true;
        finish(sweep);
    }
}

void sweep_start(struct sweep *sweep)
{
    if (sweep->running) {
        sweep->again = true;
        return;
    }
    loop_timer_stop(sweep->timer);
    sweep->running = true;
    reconcile_sweeps(sweep->provision);
    sweep->failed = false;
    sweep->removed = sweep->collected = false;
    sweep->source = 0;
    sweep->wake = 0;
    sweep->untimed = false;
    next_source(sweep);
}

static void on_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    sweep_start(data);
}

int sweep_new(struct provision *provision, struct sweep **ret_sweep)
{
    struct sweep *sweep = calloc(1, sizeof(*sweep));

    if (sweep == NULL) {
        return -ENOMEM;
    }
    sweep->provision = provision;
    lane_init(&sweep->lane, provision->loop, provision->run);
    int ret = loop_timer_add(provision->loop, on_timer, sweep, &sweep->timer);
    if (ret < 0) {
        free(sweep);
        return ret;
    }
    *ret_sweep = sweep;
    return 0;
}

void sweep_free(struct sweep *sweep)
{
    if (sweep == NULL) {
        return;
    }
    clear(sweep);
    free(sweep->leaving);
    lane_done(&sweep->lane);
    loop_timer_del(sweep->timer);
    free(sweep);
}
