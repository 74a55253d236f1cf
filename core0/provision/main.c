/*
 * main.c - provd: runs what the chain's list says.
 *
 * Start: boot parameters → the farmer kept on disk → identity from noded → the list kept on disk (what ran goes on running without the chain) → the chain.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gen/interfaces.h"
#include "lib/crypto/text.h"
#include "lib/daemon.h"
#include "lib/eth/address.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "provision/deployment.h"
#include "provision/farmer.h"
#include "provision/keys.h"
#include "provision/replaced.h"
#include "provision/steps.h"
#include "provision/sweep.h"

#define IDENTITY_AGAIN_US ((uint64_t)500 * 1000)
#define SECOND ((uint64_t)1000 * 1000)
#define CLOCK_APART_S 3600 /* more is told */

static const char *option_state = "/var/croft/state/provd";
static const char *option_run = "/run/croft";

/* ---- varlink ---- */

static const char *state_name(const struct provision *provision)
{
    static const char *const names[WATCH_STATES] = {"syncing", "waiting", "waiting", "running",
                                                    "stopped"};
    if (error_is_set(&provision->refused)) {
        return "refused";
    }
    if (provision->watch == NULL) {
        return "starting";
    }
    if (provision->halted) {
        return "stopped";
    }
    /* What runs goes on running; nothing new is learned until the chain answers with proofs again. */
    return error_is_set(&provision->chain_error) ? "waiting" : names[provision->chain_state];
}

static void get_status(struct varlink_call *call, yyjson_val *parameters, void *data)
{
    struct provision *provision = data;
    struct watch_status status = {0};
    char hash[67];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_new(&root);

    (void)parameters;
    if (provision->watch != NULL) {
        watch_status(provision->watch, &status);
    }
    const struct error *why = error_is_set(&provision->refused)       ? &provision->refused
                              : error_is_set(&provision->chain_error) ? &provision->chain_error
                                                                      : &provision->clock_error;
    yyjson_mut_obj_add_strcpy(doc, root, "state", state_name(provision));
    yyjson_mut_obj_add_strcpy(doc, root, "detail", why->message);
    if (error_is_set(why)) {
        yyjson_mut_obj_add_strcpy(doc, root, "code", why->code);
    }
    if (status.block != 0) {
        hex_encode_0x(status.block_hash, 32, hash);
        yyjson_mut_obj_add_uint(doc, root, "block", status.block);
        yyjson_mut_obj_add_strcpy(doc, root, "blockHash", hash);
        yyjson_mut_obj_add_uint(doc, root, "finalBlock", status.final_block);
        yyjson_mut_obj_add_uint(doc, root, "sequence", watch_latest(provision->watch)->sequence);
    }
    yyjson_mut_obj_add_uint(doc, root, "requests", status.requests);
    if (provision->has_farmer) {
        char farmer[ETH_ADDRESS_TEXT];
        eth_address_format(provision->farmer, farmer);
        yyjson_mut_obj_add_strcpy(doc, root, "farmer", farmer);
    }
    varlink_call_reply(call, doc);
}

static void add_services(yyjson_mut_doc *doc, yyjson_mut_val *entry, const struct deployment *d)
{
    yyjson_mut_val *services = yyjson_mut_obj_add_arr(doc, entry, "services");
    for (size_t i = 0; d->spec != NULL && i < d->spec->service_count; i++) {
        const struct container *c =
            provision_container(d->provision, d->id, d->revision, d->spec->services[i].name);
        yyjson_mut_val *service = yyjson_mut_arr_add_obj(doc, services);
        yyjson_mut_obj_add_strcpy(doc, service, "service", d->spec->services[i].name);
        yyjson_mut_obj_add_strcpy(doc, service, "state", c != NULL ? c->state : "absent");
        yyjson_mut_obj_add_strcpy(doc, service, "health", c != NULL ? c->health : "none");
        yyjson_mut_obj_add_strcpy(doc, service, "address", d->services[i].address);
    }
}

static void list(struct varlink_call *call, yyjson_val *parameters, void *data)
{
    struct provision *provision = data;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_new(&root);

    (void)parameters;
    yyjson_mut_val *entries = yyjson_mut_obj_add_arr(doc, root, "entries");
    for (const struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        char tenant[43];
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, entries);
        hex_encode_0x(d->content.tenant, 20, tenant);
        yyjson_mut_obj_add_uint(doc, entry, "reservation", d->id);
        yyjson_mut_obj_add_uint(doc, entry, "revision", d->revision);
        yyjson_mut_obj_add_strcpy(doc, entry, "tenant", tenant);
        yyjson_mut_obj_add_strcpy(doc, entry, "project", d->spec != NULL ? d->spec->project : "");
        yyjson_mut_obj_add_uint(doc, entry, "chainState", d->chain_state);
        yyjson_mut_obj_add_strcpy(doc, entry, "step", deployment_step_name(d));
        yyjson_mut_obj_add_strcpy(doc, entry, "reason", d->error.code);
        yyjson_mut_obj_add_strcpy(doc, entry, "message", d->error.message);
        add_services(doc, entry, d);
    }
    varlink_call_reply(call, doc);
}

static void list_steps(struct varlink_call *call, yyjson_val *parameters, void *data)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_new(&root);

    (void)parameters;
    (void)data;
    yyjson_mut_val *names = yyjson_mut_obj_add_arr(doc, root, "steps");
    for (size_t i = 0; i < STEP_COUNT; i++) {
        yyjson_mut_arr_add_strcpy(doc, names, steps[i].name);
    }
    varlink_call_reply(call, doc);
}

/* gated finds out whose a reservation is; its number is that of the image's passwd file. */
static const uid_t gated[] = {108, VARLINK_UID_END};

static const struct varlink_method methods[] = {
    {"org.croft.provision.GetStatus", get_status, gated},
    {"org.croft.provision.List", list, gated},
    {"org.croft.provision.ListSteps", list_steps, NULL},
};

static struct varlink_interface interfaces[] = {
    {"org.croft.provision", varlink_org_croft_provision, methods,
     sizeof(methods) / sizeof(methods[0])},
};

/* ---- the chain ---- */

static void on_list(const struct ledger *latest, const struct ledger *final, uint64_t block,
                    void *data)
{
    struct provision *provision = data;
    struct watch_status status = {0};
    struct error err = {0};

    notify_event("block", "\"number\":%" PRIu64 ",\"sequence\":%" PRIu64, block, latest->sequence);
    if (provision->watch != NULL) {
        watch_status(provision->watch, &status);
    }
    replaced_note(provision, latest);
    if (store_save_lists(&provision->store, latest, final, status.final_block, &err) < 0) {
        log_error(&err, "the list is not kept");
    }
    provision->have_list = true;
    reconcile_soon(provision);
}

static void on_farmer(const uint8_t farmer[20], void *data)
{
    farmer_proved(data, farmer);
}

static void note_halt(struct provision *provision);

static void on_stopped(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct provision *provision = data;
    bool before = provision->noded_stopped;

    (void)more;
    provision->noded_asked = false;
    lane_done(&provision->identity_lane);
    if (err == NULL) {
        provision->noded_stopped =
            yyjson_equals_str(yyjson_obj_get(parameters, "state"), "stopped");
    }
    if (provision->noded_stopped != before) {
        note_halt(provision);
    }
}

static void ask_stopped(struct provision *provision)
{
    if (!provision->noded_asked &&
        lane_call(&provision->identity_lane, MAKER_NODE, "org.croft.node.GetStatus", NULL, 0,
                  10 * SECOND, on_stopped, provision) >= 0) {
        provision->noded_asked = true;
    }
}

/* The same rule as noded's, on what was proved: a message after one of this boot that is of another boot. A reorganisation
 * that takes ours back shows a lower nonce. */
static bool another_machine(struct provision *provision)
{
    struct watch_status status = {0};

    if (provision->watch == NULL) {
        return provision->halted;
    }
    watch_status(provision->watch, &status);
    if (status.own_boot) {
        provision->seen_nonce = status.nonce;
        return false;
    }
    if (provision->seen_nonce != 0) {
        return status.nonce > provision->seen_nonce;
    }
    /* Of this boot nothing was proved since we started, which may be because we started late: noded knows what it has sent. */
    ask_stopped(provision);
    return provision->noded_stopped;
}

static void note_halt(struct provision *provision)
{
    bool halted = another_machine(provision);
    struct error err = {0};

    if (halted == provision->halted) {
        return;
    }
    provision->halted = halted;
    if (halted) {
        error_set(&err, EEXIST, "node.identity-conflict",
                  "find the machine that has a copy of this node's disk",
                  "another machine reports with this node's identity: nothing runs here any more");
        log_error(&err, "stopped");
        notify_error(&err);
    }
    reconcile_soon(provision);
}

/* A clock that nobody keeps and that is far from the chain's time. Reservations go by the chain's then (provision_now), but
 * certificates and logs go by it. */
static void tell_clock(struct provision *provision)
{
    uint64_t chain, now = (uint64_t)time(NULL);
    struct error err = {0};

    if (watch_clock_is_kept() || provision->watch == NULL ||
        !watch_time(provision->watch, &chain)) {
        return;
    }
    uint64_t apart = now > chain ? now - chain : chain - now;
    if (apart < CLOCK_APART_S) {
        error_clear(&provision->clock_error);
        return;
    }
    if (error_is_set(&provision->clock_error)) {
        return;
    }
    error_set(&err, ETIME, "node.clock-wrong",
              "set the machine's clock, or name a time server with croft.ntp",
              "this machine's clock is %" PRIu64
              " days %s of the chain's time, and no time server keeps it",
              apart / 86400, now > chain ? "ahead" : "behind");
    provision->clock_error = err;
    log_error(&err, "clock");
    notify_error(&err);
}

static void on_chain_state(enum watch_state state, const struct error *err, void *data)
{
    struct provision *provision = data;
    bool changed = provision->chain_state != state;

    provision->chain_state = state;
    if (err != NULL && strcmp(err->code, provision->chain_error.code) != 0) {
        log_error(err, "chain");
        notify_error(err);
    } else if (err == NULL && error_is_set(&provision->chain_error)) {
        log_info("the chain answers again");
        notify_error(NULL);
    }
    provision->chain_error = err != NULL ? *err : (struct error){0};
    if (err == NULL) {
        tell_clock(provision);
    }
    if (err == NULL && state == WATCH_RUNNING) {
        note_halt(provision);
        keys_tell(provision);
    }
    if (changed) {
        reconcile_soon(provision);
    }
}

static void start_watch(struct provision *provision)
{
    struct ledger latest = {0}, final = {0};
    uint64_t final_block = 0;
    struct error err = {0};
    struct watch_handlers handlers = {on_list, on_farmer, on_chain_state, provision};

    if (store_load_lists(&provision->store, &latest, &final, &final_block, &err) == 0) {
        provision->have_list = true;
    } else {
        log_info("no list is kept yet");
        error_clear(&err);
    }
    replaced_resume(provision);
    if (watch_new(provision->loop, &provision->config, provision->identity, &latest, &final,
                  final_block, &handlers, &provision->watch, &err) < 0) {
        ledger_done(&latest);
        ledger_done(&final);
        provision->refused = err;
        log_error(&err, "chain");
        notify_error(&err);
        return;
    }
    reconcile_soon(provision);
}

/* ---- identity ---- */

static void on_identity(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct provision *provision = data;
    const char *identity = yyjson_get_str(yyjson_obj_get(parameters, "identity"));

    (void)more;
    if (parameters == NULL || identity == NULL ||
        hex_decode(identity, provision->identity, 20) < 0) {
        log_debug("noded does not say who we are: %s", err != NULL ? err->message : "bad answer");
        loop_timer_in(provision->identity_timer, IDENTITY_AGAIN_US);
        return;
    }
    const char *state = yyjson_get_str(yyjson_obj_get(parameters, "state"));
    provision->noded_stopped = state != NULL && strcmp(state, "stopped") == 0;
    lane_done(&provision->identity_lane);
    start_watch(provision);
}

static void ask_identity(struct loop_timer *timer, void *data)
{
    struct provision *provision = data;

    (void)timer;
    if (lane_call(&provision->identity_lane, MAKER_NODE, "org.croft.node.GetStatus", NULL, 0,
                  10 * SECOND, on_identity, provision) < 0) {
        loop_timer_in(provision->identity_timer, IDENTITY_AGAIN_US);
    }
}

/* ---- life ---- */

static int start_running(struct provision *provision, struct error *err)
{
    struct http_client_options options = {0};
    int ret = store_open(option_state, &provision->store, err);

    if (ret < 0) {
        return ret;
    }
    if ((ret = http_client_new(provision->loop, &options, &provision->http)) < 0 ||
        (ret = sweep_new(provision, &provision->sweep)) < 0 ||
        (ret = observe_start(provision)) < 0 ||
        (ret = loop_timer_add(provision->loop, ask_identity, provision,
                              &provision->identity_timer)) < 0) {
        return error_set(err, -ret, "provision.no-memory", "", "cannot start: %s", strerror(-ret));
    }
    farmer_resume(provision);
    lane_init(&provision->identity_lane, provision->loop, provision->run);
    lane_init(&provision->keys_lane, provision->loop, provision->run);
    loop_timer_in(provision->identity_timer, 0);
    return 0;
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    struct provision *provision = calloc(1, sizeof(*provision));

    if (provision == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    provision->loop = daemon_loop(daemon);
    provision->run = option_run;
    *ret_state = provision;
    if (config_read(daemon_boot_path(daemon), &provision->config, &provision->refused) < 0) {
        /* Not a failure of the program: it stays to say why nothing runs. */
        log_error(&provision->refused, "nothing is run");
        notify_error(&provision->refused);
        notify_status("%s", provision->refused.message);
        return 0;
    }
    return start_running(provision, err);
}

static void stop(void *state)
{
    struct provision *provision = state;

    reconcile_stop(provision);
    if (provision->watch_timer != NULL) {
        observe_stop(provision);
    }
    watch_free(provision->watch);
    lane_done(&provision->identity_lane);
    keys_stop(provision);
    loop_timer_del(provision->identity_timer);
    http_client_free(provision->http);
    store_done(&provision->store);
    config_done(&provision->config);
    free(provision);
}

int main(int argc, char **argv)
{
    static const struct daemon_option options[] = {
        {"--state", "DIR", "folder that outlives a reboot", &option_state},
        {"--run", "DIR", "folder of the other programs' sockets", &option_run},
        {NULL, NULL, NULL, NULL},
    };
    static const struct daemon_spec spec = {
        .name = "provd",
        .summary = "runs what the chain's list says",
        .interfaces = interfaces,
        .interface_count = 1,
        .options = options,
        .start = start,
        .stop = stop,
    };
    return daemon_main(&spec, argc, argv);
}
