/*
 * main.c - gated: a node's only remote listener. See gate.h.
 *
 * It opens its port once noded knows the node's number and gives it the key of the listener: before that there is nobody whom a
 * caller could know it by.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "lib/crypto/hash.h"
#include "lib/eth/address.h"
#include "lib/log.h"
#include "lib/notify.h"

#define AGAIN_US UINT64_C(1000000)
#define CALL_US (30 * UINT64_C(1000000))
#define CONNECTIONS_MAX 4096
#define PER_ADDRESS_MAX 1280
/* Who is not at a stream or a program has proved nothing yet; a handshake takes some 40 KiB. */
#define REQUESTING_MAX 256
#define REQUESTING_PER_ADDRESS 64

static struct gate gate = {.opt = {.run = "/run/croft", .port = "4443"}};

static const struct daemon_option options[] = {
    {"--run", "DIR", "folder of the daemons' sockets", &gate.opt.run},
    {"--listen", "ADDRESS", "where to listen (every address)", &gate.opt.host},
    {"--port", "N", "TCP port (4443)", &gate.opt.port},
    {NULL, NULL, NULL, NULL},
};

static bool take_address(yyjson_val *status, const char *name, uint8_t ret_address[20])
{
    const char *text = yyjson_get_str(yyjson_obj_get(status, name));

    return text != NULL && eth_address_parse(text, ret_address) == 0;
}

bool gate_learn(struct gate *g, yyjson_val *status)
{
    struct gate_node node = {.id = yyjson_get_uint(yyjson_obj_get(status, "node")),
                             .chain_id = yyjson_get_uint(yyjson_obj_get(status, "chainId"))};

    if (node.id == 0 || node.chain_id == 0 ||
        !take_address(status, "reservations", node.reservations))
        return false;
    g->node = node;
    return true;
}

static void wait_more(const char *what)
{
    notify_status("waits for %s", what);
    loop_timer_in(gate.start_timer, AGAIN_US);
}

static void on_key(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    static const struct http_server_limits limits = {.connections = CONNECTIONS_MAX,
                                                     .per_address = PER_ADDRESS_MAX,
                                                     .requesting = REQUESTING_MAX,
                                                     .requesting_per_address =
                                                         REQUESTING_PER_ADDRESS,
                                                     .upgrades = true,
                                                     .head = (size_t)64 << 10,
                                                     .body = (size_t)16 << 10};
    const char *key = yyjson_get_str(yyjson_obj_get(parameters, "key"));
    struct error failed = {0};

    (void)more;
    (void)data;
    if (err != NULL || key == NULL) {
        wait_more("the node's key");
        return;
    }
    int r = gate_tls_new(key, &gate.tls, &failed);
    if (r == 0)
        r = http_server_new(gate.loop, &limits, request_handle, &gate, &gate.server);
    if (r == 0) {
        http_server_set_tls(gate.server, gate_tls_session, gate.tls);
        r = http_server_listen(gate.server, gate.opt.host, (uint16_t)atoi(gate.opt.port), NULL,
                               &failed);
    }
    if (r < 0) {
        log_error(&failed, "gated");
        notify_error(&failed);
        loop_exit(gate.loop, 1); /* core0 starts it again */
        return;
    }
    notify_status("listens on port %s", gate.opt.port);
    notify_event("listening", "\"port\":%s", gate.opt.port);
    log_info("listens on port %s as node %llu", gate.opt.port, (unsigned long long)gate.node.id);
}

static void on_status(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    (void)more;
    (void)data;
    if (err != NULL || !gate_learn(&gate, parameters))
        wait_more("the node's registration");
    else if (varlink_client_call(gate.noded, "org.croft.node.GetTlsKey", NULL, 0, CALL_US, on_key,
                                 NULL) < 0)
        wait_more("noded");
}

static void look(struct loop_timer *timer, void *data)
{
    (void)timer;
    (void)data;
    if (varlink_client_call(gate.noded, "org.croft.node.GetStatus", NULL, 0, CALL_US, on_status,
                            NULL) < 0)
        wait_more("noded");
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    char path[128];

    gate.loop = daemon_loop(daemon);
    gate.daemon = daemon;
    snprintf(path, sizeof(path), "%s/noded", gate.opt.run);
    int r = challenge_store_new(&gate.challenges);
    if (r == 0)
        r = varlink_client_new(gate.loop, path, &gate.noded);
    if (r == 0)
        r = loop_timer_add(gate.loop, look, NULL, &gate.start_timer);
    if (r == 0)
        r = logs_start(&gate);
    if (r < 0)
        return error_set(err, -r, "gate.start", NULL, "no memory: %s", strerror(-r));
    loop_timer_in(gate.start_timer, 0);
    *ret_state = &gate;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct daemon_spec spec = {
        .name = "gated",
        .summary = "a node's only remote listener",
        .options = options,
        .start = start,
    };

    return daemon_main(&spec, argc, argv);
}
