/*
 * main.c - noded: the node's identity. Registers it with a farm, reports, signs and unseals for provd.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/eth/address.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "node.h"

static const char *option_pools = "/run/croft/pools";
static const char *option_state = "/var/croft/state/noded";
static const char *option_digest = "/etc/croft/image-digest";

static const char *const state_names[] = {
    [NODE_STARTING] = "starting", [NODE_UNREGISTERED] = "unregistered",
    [NODE_WAITING] = "waiting",   [NODE_PENDING] = "pending",
    [NODE_ACTIVE] = "active",     [NODE_RETIRED] = "retired",
    [NODE_STOPPED] = "stopped",
};

const char *node_state_name(enum node_state state)
{
    return state_names[state];
}

void node_set_state(struct node *node, enum node_state state, const char *detail)
{
    bool same = state == node->state && strcmp(detail, node->detail) == 0;
    node->state = state;
    snprintf(node->detail, sizeof(node->detail), "%s", detail);
    if (same)
        return;
    notify_fact("state", state_names[state]);
    notify_status("%s%s%s", state_names[state], detail[0] != '\0' ? ": " : "", detail);
    log_info("%s%s%s", state_names[state], detail[0] != '\0' ? ": " : "", detail);
}

void node_set_error(struct node *node, const struct error *err)
{
    static const struct error none = {.code = ""};
    const struct error *now = err != NULL ? err : &none;
    if (strcmp(now->code, node->error.code) != 0 || strcmp(now->message, node->error.message) != 0)
        notify_error(err);
    node->error = *now;
}

static void unregistered(struct node *node, const struct error *err)
{
    log_error(err, "not registering");
    node_set_error(node, err);
    node_set_state(node, NODE_UNREGISTERED, err->message);
}

/* 0 if this node may register; else *err says why not. croft.trust is not asked: a registration and reports risk nobody's workload,
 * and a farmer sees in the registry a node whose trust is refused. provd is who runs nothing then, and says why. */
static int may_register(const struct node *node, struct error *err)
{
    const struct boot *boot = &node->boot;
    if (error_is_set(&boot->failed))
        return error_set(err, EINVAL, boot->failed.code, boot->failed.hint, "%s",
                         boot->failed.message);
    if (boot->farm == 0)
        return error_set(err, ENOENT, "node.no-farm", "boot with farmer_id=N",
                         "no farmer_id was given: the node runs unregistered");
    if (boot->chain == NULL || boot->chain_id == 0 || !boot->has_registry)
        return error_set(err, ENOENT, "node.no-chain",
                         "boot with croft.chain, croft.chainid and croft.registry",
                         "no chain, chain id or registry is known");
    if (boot->run_mode != 2 && strstr(boot->chain, "http://") != NULL)
        return error_set(
            err, EPERM, "chain.plain-refused", "use https, or runmode=dev",
            "a chain endpoint over plain http is refused outside runmode=dev: use https");
    if (boot->run_mode != 2 && strstr(boot->chain, "ws://") != NULL)
        return error_set(err, EPERM, "chain.plain-refused", "use wss, or runmode=dev",
                         "a chain endpoint over plain ws is refused outside runmode=dev: use wss");
    return 0;
}

static void open_identity(struct node *node)
{
    struct error err = {.code = ""};
    char address[ETH_ADDRESS_TEXT];
    fault_point("identity.before");
    if (identity_open(node->pools, (int64_t)time(NULL), &node->identity, &err) < 0) {
        unregistered(node, &err);
        return;
    }
    fault_point("identity.after");
    node->has_identity = true;
    eth_address_format(node->identity.address, address);
    notify_fact("identity", address);
    log_info("identity %s", address);
    if (node->identity.foreign[0] != '\0') {
        error_set(&err, EEXIST, "node.foreign-pool",
                  "take the disk back to its machine, or wipe it",
                  "a disk holds another node's identity and is left alone: pool %s",
                  node->identity.foreign);
        log_error(&err, "identity");
        notify_error(&err);
    }
}

static int open_queue(struct node *node, struct error *err)
{
    static char path[512], aside[520];
    snprintf(path, sizeof(path), "%s/queue.json", node->state_dir);
    if (queue_open(&node->queue, path, node->boot.boot_id, node->boot.chain_id, node->boot.registry,
                   err) == 0)
        return 0;
    /* A file that does not read is put aside: what was in it will be said again, by provd and by us. */
    log_error(err, "queue");
    snprintf(aside, sizeof(aside), "%s.bad", path);
    if (rename(path, aside) < 0)
        return -errno;
    error_clear(err);
    return queue_open(&node->queue, path, node->boot.boot_id, node->boot.chain_id,
                      node->boot.registry, err);
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    struct node *node = calloc(1, sizeof(*node));
    struct error why = {.code = ""};
    char farm[24];
    if (node == NULL)
        return error_set(err, ENOMEM, "node.no-memory", "", "no memory");
    *ret_state = node;
    node->daemon = daemon;
    node->loop = daemon_loop(daemon);
    node->pools = option_pools;
    node->state_dir = option_state;
    notify_fact("state", state_names[NODE_STARTING]);
    int r = boot_read(daemon_boot_path(daemon), &node->boot, &why);
    if (r < 0) {
        unregistered(node, &why);
        return 0;
    }
    if (node->boot.farm != 0) {
        snprintf(farm, sizeof(farm), "%" PRIu64, node->boot.farm);
        notify_fact("farm", farm);
    }
    if (boot_read_image_digest(option_digest, node->image_digest, &why) < 0) {
        log_error(&why, "image"); /* zero then: unknown */
        error_clear(&why);
    }
    open_identity(node);
    if (!node->has_identity)
        return 0;
    if (may_register(node, &why) < 0) {
        unregistered(node, &why);
        return 0;
    }
    r = open_queue(node, &why);
    if (r >= 0)
        r = deliver_start(node);
    if (r >= 0)
        r = chain_start(node, &why);
    if (r >= 0)
        r = capacity_start(node);
    if (r < 0) {
        if (!error_is_set(&why))
            error_set(&why, -r, "node.no-memory", "", "cannot start: %s", strerror(-r));
        unregistered(node, &why);
    }
    return 0;
}

static void stop(void *state)
{
    struct node *node = state;
    /* nothing to write: the queue is on disk already */
    identity_wipe(&node->identity);
}

int main(int argc, char **argv)
{
    static const struct daemon_option options[] = {
        {"--pools", "DIR", "where pools are mounted (/run/croft/pools)", &option_pools},
        {"--state", "DIR", "where messages wait (/var/croft/state/noded)", &option_state},
        {"--image-digest", "FILE", "the digest of what booted (/etc/croft/image-digest)",
         &option_digest},
        {NULL, NULL, NULL, NULL},
    };
    static const struct daemon_spec spec = {
        .name = "noded",
        .summary = "the node's identity: registration, reports, signatures, unsealing",
        .interfaces = &node_interface,
        .interface_count = 1,
        .options = options,
        .socket_mode = 0666, /* who may call what is decided by credentials */
        .start = start,
        .stop = stop,
    };
    return daemon_main(&spec, argc, argv);
}
