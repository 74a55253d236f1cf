/*
 * provision.h - the state that provd's parts share.
 *
 *   watch ──list──► reconcile ──► deployments (one per revision that is to run) ──► makers
 *                       └──────► sweep (what is there and not wanted) ───────────► makers
 *
 * A deployment makes, the sweep removes; neither knows what the other did: both compare with what the makers list.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/http/client.h"
#include "lib/loop.h"
#include "provision/config.h"
#include "provision/makers.h"
#include "provision/store.h"
#include "provision/watch.h"

struct deployment;
struct sweep;

/* One container as contd last said. */
struct container {
    uint64_t reservation;
    uint32_t revision;
    char service[64];
    char state[16];
    char health[16];
    char reason[ERROR_CODE_MAX + 1];
    char message[320];
    bool done;
};

struct provision {
    struct loop *loop;
    const char *run; /* /run/croft */
    struct config config;
    struct store store;
    struct watch *watch;
    struct http_client *http;
    struct error refused;     /* set: nothing is run, and why */
    struct error chain_error; /* of the last round */
    struct error
        clock_error; /* the clock is far from the chain's time; nothing is refused for it */
    enum watch_state chain_state;
    /* Another machine reports with this node's identity: nothing runs here any more. */
    bool halted;
    bool noded_stopped;  /* noded said so when it was asked last */
    bool noded_asked;    /* it is being asked */
    uint64_t seen_nonce; /* the last one of this boot that was proved; 0: none */
    bool has_farmer;     /* proved, by us or by a predecessor: farmer.h */
    bool farmer_kept;    /* the state folder has that one */
    uint8_t farmer[20];
    bool have_list; /* a list is known, from the disk or the chain */

    struct lane identity_lane;
    struct loop_timer *identity_timer;
    uint8_t identity[20];

    struct lane keys_lane; /* keys.c */
    bool keys_busy;
    uint64_t keys_told; /* loop time; 0: to be told */
    uint64_t keys_sequence;
    uint32_t keys_epoch;

    struct deployment *deployments; /* rising (id, revision) */
    struct sweep *sweep;

    struct lane watch_lane; /* contd's Watch */
    struct loop_timer *watch_timer;
    struct container *containers;
    size_t container_count;
    bool have_containers;
};

const struct container *provision_container(const struct provision *provision, uint64_t reservation,
                                            uint32_t revision, const char *service);

/*
 * What time it is, in Unix seconds: by this machine's clock when a time server keeps it, else by the newest block that was proved.
 * false: neither is known, and nothing may end because of its time.
 */
bool provision_now(const struct provision *provision, uint64_t *ret_now);

/* Compares wanted and present: starts and ends deployments, then sweeps. */
void reconcile(struct provision *provision);
/* Something of a deployment ended: compare again at the end of this turn. */
void reconcile_soon(struct provision *provision);
/* The live revision of a reservation that runs or is to run; several: candidate and current. */
bool reconcile_wants(const struct provision *provision, uint64_t reservation, uint32_t revision);
bool reconcile_wants_any(const struct provision *provision, uint64_t reservation);
/* A sweep begins; it ended, and removed all it was to remove or not. */
void reconcile_sweeps(struct provision *provision);
void reconcile_swept(struct provision *provision, bool clean);
void reconcile_stop(struct provision *provision); /* frees deployments and sweep */

/* Contd's Watch: fills containers, pokes deployments. */
int observe_start(struct provision *provision);
void observe_stop(struct provision *provision);
