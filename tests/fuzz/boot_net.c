// netd's view of /run/croft/boot.json: addresses, VLANs, bonds, time servers.
// sources: core0/net/config.c core0/net/address.c
// packages: yyjson
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    struct error err = {0};

    if (config_parse((const char *)data, size, &config, &err) < 0) {
        if (!error_is_set(&err))
            abort();
        return 0;
    }
    for (size_t i = 0; i < config.vlan_count; i++) {
        if (config.vlans[i].id < 1 || config.vlans[i].id > 4094 ||
            strlen(config.vlans[i].name) > 15)
            abort();
    }
    for (size_t i = 0; i < config.bond_count; i++) {
        if (config.bonds[i].interface_count > CONFIG_BOND_LINKS_MAX)
            abort();
    }
    return 0;
}
