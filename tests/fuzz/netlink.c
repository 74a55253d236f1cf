// Messages of the kernel: whatever the bytes, every parser stays inside them. Also lines of /proc/net and our own list.
// sources: core0/net/ports.c core0/net/state.c core0/net/address.c
// packages: yyjson
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/netlink/conntrack.h"
#include "lib/netlink/rtnl.h"
#include "net/networks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int each(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    struct conntrack_entry entry;
    struct rtnl_address address;
    struct rtnl_route route;
    struct rtnl_link link;

    (void)header, (void)user;
    if (rtnl_link_parse(body, len, &link) == 0 &&
        (strlen(link.name) >= sizeof(link.name) || strlen(link.kind) >= sizeof(link.kind)))
        abort();
    if (rtnl_address_parse(body, len, &address) == 0 &&
        address.prefix > 8 * rtnl_family_size(address.family))
        abort();
    if (rtnl_route_parse(body, len, &route) == 0 && route.prefix > 128)
        abort();
    (void)conntrack_parse(body, len, &entry);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct address address;
    struct state state = {0};
    uint16_t port;
    unsigned status;
    char *line;

    (void)netlink_foreach(data, size, each, NULL);
    (void)each(NULL, data, size, NULL);
    line = malloc(size + 1);
    if (line == NULL)
        return 0;
    memcpy(line, data, size);
    line[size] = '\0';
    (void)ports_parse_line(line, AF_INET, &address, &port, &status);
    (void)ports_parse_line(line, AF_INET6, &address, &port, &status);
    if (state_parse(&state, line, size, NULL) == 0)
        state_done(&state);
    free(line);
    return 0;
}
