/*
 * capacity.c - what the machine offers: cores and memory from the kernel, disks from storaged, addresses from netd.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "lib/grid/resources.h"
#include "lib/log.h"
#include "node.h"

#define MIB ((uint64_t)1 << 20)
/* Kept for the node's own programs: the measured idle node needs far less, page cache and bursts the rest. */
#define OWN_MEMORY (256 * MIB)
#define ASK_TIMEOUT_US ((uint64_t)5000000)

static uint64_t memory_total(void)
{
    struct sysinfo info;
    return sysinfo(&info) < 0 ? 0 : (uint64_t)info.totalram * info.mem_unit;
}

static void pack(uint64_t ssd, uint64_t hdd, bool ephemeral, uint8_t ret_capacity[32])
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t memory = memory_total();
    uint64_t own = memory / 4 < OWN_MEMORY ? memory / 4 : OWN_MEMORY;
    memory -= own;
    if (ephemeral) /* the pool lies in memory: what it may grow to cannot be promised twice */
        memory -= ssd < memory / 2 ? ssd : memory / 2;
    memory = memory / MIB * MIB; /* small differences between two boots are no change */
    const struct grid_resources capacity = {.milli_cores =
                                                cores > 0 ? (uint64_t)cores * 1000 : 1000,
                                            .memory = memory,
                                            .ssd = ssd,
                                            .hdd = hdd};
    grid_resources_pack(&capacity, ret_capacity);
}

static void on_storage(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    (void)more;
    struct node *node = data;
    uint8_t capacity[32];
    if (err != NULL) {
        log_warn("storaged does not say what disks there are: %s", err->message);
        return;
    }
    node->ephemeral = yyjson_get_bool(yyjson_obj_get(parameters, "ephemeral"));
    pack(yyjson_get_uint(yyjson_obj_get(parameters, "ssd")),
         yyjson_get_uint(yyjson_obj_get(parameters, "hdd")), node->ephemeral, capacity);
    if (!node->has_capacity || memcmp(capacity, node->capacity, 32) != 0) {
        memcpy(node->capacity, capacity, 32);
        node->has_capacity = true;
        capacity_changed(node);
    }
}

static bool usable(const char *text, bool *ret_global)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        uint32_t a = ntohl(v4.s_addr);
        *ret_global = !((a >> 24) == 10 || (a >> 20) == 0xac1 || (a >> 16) == 0xc0a8 ||
                        (a >> 22) == (0x64400000u >> 22));
        return (a >> 24) != 127 && (a >> 16) != 0xa9fe && a != 0;
    }
    if (inet_pton(AF_INET6, text, &v6) != 1)
        return false;
    *ret_global = (v6.s6_addr[0] & 0xfe) != 0xfc;
    return !IN6_IS_ADDR_LOOPBACK(&v6) && !IN6_IS_ADDR_LINKLOCAL(&v6);
}

/* Global addresses first, then private ones; at most four. */
static void on_net(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    (void)more;
    struct node *node = data;
    char hosts[GRID_ADDRESSES_MAX][GRID_HOST_MAX + 1] = {{0}};
    size_t count = 0, i, j, max, inner;
    yyjson_val *link, *address;
    if (err != NULL)
        return;
    for (int global = 1; global >= 0; global--) {
        yyjson_arr_foreach(yyjson_obj_get(parameters, "links"), i, max, link)
        {
            yyjson_arr_foreach(yyjson_obj_get(link, "addresses"), j, inner, address)
            {
                char text[64];
                bool is_global = false;
                snprintf(text, sizeof(text), "%s",
                         yyjson_get_str(address) != NULL ? yyjson_get_str(address) : "");
                text[strcspn(text, "/")] = '\0';
                if (usable(text, &is_global) && is_global == (global == 1) &&
                    count < GRID_ADDRESSES_MAX)
                    memcpy(hosts[count++], text, sizeof(text));
            }
        }
    }
    if (count != node->host_count || memcmp(hosts, node->hosts, sizeof(hosts)) != 0) {
        memcpy(node->hosts, hosts, sizeof(hosts));
        node->host_count = count;
        capacity_changed(node);
    }
}

void capacity_look(struct node *node)
{
    varlink_client_call(node->storaged, "org.croft.storage.GetStatus", NULL, 0, ASK_TIMEOUT_US,
                        on_storage, node);
    if (node->boot.address == NULL)
        varlink_client_call(node->netd, "org.croft.net.GetStatus", NULL, 0, ASK_TIMEOUT_US, on_net,
                            node);
}

int capacity_start(struct node *node)
{
    const char *folder = getenv("CROFT_RUN"); /* tests run beside an installed Croft */
    char path[256];
    if (folder == NULL)
        folder = "/run/croft";
    snprintf(path, sizeof(path), "%s/storaged", folder);
    int r = varlink_client_new(node->loop, path, &node->storaged);
    snprintf(path, sizeof(path), "%s/netd", folder);
    if (r == 0)
        r = varlink_client_new(node->loop, path, &node->netd);
    if (r == 0 && node->boot.address != NULL) {
        snprintf(node->hosts[0], sizeof(node->hosts[0]), "%s", node->boot.address);
        node->host_count = 1;
    }
    if (r == 0)
        capacity_look(node);
    return r;
}
