/*
 * deployment.h - one revision on its way to run, and while it runs.
 *
 * The way is a plan: a list of (step, item) pairs made from the specification. A cursor moves over it; each step is one
 * idempotent request to a maker, or a wait for a condition. Killed anywhere, the plan is made and walked again from its
 * beginning. A step that fails for a passing reason (table in steps.c) is tried again; any other failure is reported to the
 * chain with its code, and the sweep clears away what was made.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "provision/provision.h"
#include "provision/spec.h"

#define DEPLOYMENT_RETRY_US ((uint64_t)500 * 1000)
#define DEPLOYMENT_RETRY_MAX_US ((uint64_t)15 * 1000 * 1000)

enum phase {
    PHASE_MAKING,  /* the cursor moves */
    PHASE_RUNNING, /* all made and reported */
    PHASE_FAILING, /* the failure is being reported; nothing of it is wanted any more */
    PHASE_FAILED   /* reported */
};

struct step; /* steps.h */

struct plan_item {
    const struct step *step;
    size_t service; /* index into spec.services; or of image, network, volume, namespace */
    size_t item;    /* index within the service */
};

struct deployment_network {
    char bridge[16];
    char gateway4[48], gateway6[48];
};

struct deployment_service {
    char *rootfs;
    char *netns;
    yyjson_doc *image; /* reply of Mount; its "config" is the image's configuration */
    char *scratch;
    char address[48]; /* on its first network */
    bool quiesced;    /* its predecessor was stopped for it */
    bool left;        /* not started, as a candidate has taken it over */
};

struct deployment {
    struct deployment *next;
    struct provision *provision;
    uint64_t id;
    uint32_t revision;
    uint32_t round;                /* of the list: funded again, it is another deployment */
    struct ledger_content content; /* sealed is owned */
    uint8_t commitment[32];
    enum chain_state chain_state;
    bool candidate; /* another revision of the reservation runs */
    uint32_t other; /* that revision */
    enum phase phase;
    struct error error; /* why it fails, or what it waits for */
    uint8_t *sealed;
    size_t sealed_len;

    struct spec *spec; /* NULL until opened */
    uint32_t uid_base;
    struct deployment_network networks[SPEC_NETWORKS_MAX];
    struct deployment_service services[SPEC_SERVICES_MAX];
    char *volumes[SPEC_VOLUMES_MAX];   /* host paths */
    char *snapshots[SPEC_VOLUMES_MAX]; /* host paths of the folders with theirs; NULL: no policy */
    uint16_t kv_ports[SPEC_KV_MAX];    /* of the servers that keep the namespaces */

    struct plan_item *plan;
    size_t plan_count;
    size_t cursor;
    bool busy; /* a request is under way */
    bool dead; /* not wanted; freed when the request under way has ended */
    /* Dead by a reorganisation, which gives its numbers to another proposal, now or later: it stays in the way of that one until a sweep that
     * began after it died has removed what it made. */
    enum { REPLACED_NOT, REPLACED, REPLACED_SWEEPING } replaced;
    bool deploying_reported;
    bool grows_late; /* what exists already gets its new size when this revision takes over */
    bool exposed;    /* ports and names of the reservation are this revision's */
    uint64_t step_started;
    uint64_t retry_us;
    struct loop_timer *timer;    /* next try */
    struct loop_timer *deadline; /* deployBy */
    struct lane lane;
    struct http_transfer *transfer;
    bool blob_altered; /* a hub gave other bytes than were proposed */
    size_t hub;        /* which of the hubs is being tried */
};

/* content is copied. */
int deployment_new(struct provision *provision, const struct ledger_revision *revision,
                   struct deployment **ret_deployment);
void deployment_free(struct deployment *deployment);
/* Goes on where it stands: after an answer, a change of a container, a change of the chain's state. */
void deployment_run(struct deployment *deployment);
/* The chain says another state of this revision, or another revision beside it (0: none). */
void deployment_update(struct deployment *deployment, enum chain_state state, uint32_t other);
/* The plan once more, from its beginning: what another revision stopped or took away comes back. Only while it runs. */
void deployment_walk_again(struct deployment *deployment);
/* The same on its way, for one that has no request under way. */
void deployment_rewind(struct deployment *deployment);
/* Ends it; false: it frees itself once the request under way has ended, and reconciles then. */
bool deployment_end(struct deployment *deployment);

/* For steps.c */
void deployment_fail(struct deployment *deployment, const struct error *err);
int deployment_build_plan(struct deployment *deployment, struct error *err);
/* The higher revision of the same reservation that is on its way or runs; NULL: none. */
struct deployment *deployment_successor(const struct deployment *deployment);
const char *deployment_step_name(const struct deployment *deployment);
