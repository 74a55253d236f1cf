/*
 * config.h - what boot.json says about the network: croft.net, croft.vlan, croft.bond, croft.ntp.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "lib/error.h"

#define CONFIG_STATIC_MAX 16
#define CONFIG_DNS_MAX 4
#define CONFIG_VLAN_MAX 16
#define CONFIG_BOND_MAX 4
#define CONFIG_BOND_LINKS_MAX 8
#define CONFIG_NTP_MAX 4
#define CONFIG_NTP_NAME_MAX 254

struct config_static {
    char interface[IF_NAMESIZE];
    struct address address; /* with prefix */
    struct address gateway; /* family 0: none */
    struct address dns[CONFIG_DNS_MAX];
    size_t dns_count;
};

struct config_vlan {
    char interface[IF_NAMESIZE];
    char name[IF_NAMESIZE]; /* "eth0.100" */
    uint16_t id;
};

struct config_bond {
    char name[IF_NAMESIZE];
    uint8_t mode; /* as the kernel numbers them */
    char interfaces[CONFIG_BOND_LINKS_MAX][IF_NAMESIZE];
    size_t interface_count;
};

struct config {
    bool dhcp; /* on every link that has no static address */
    struct config_static statics[CONFIG_STATIC_MAX];
    size_t static_count;
    struct config_vlan vlans[CONFIG_VLAN_MAX];
    size_t vlan_count;
    struct config_bond bonds[CONFIG_BOND_MAX];
    size_t bond_count;
    char ntp[CONFIG_NTP_MAX][CONFIG_NTP_NAME_MAX];
    size_t ntp_count;
    int64_t build_time; /* seconds since 1970: the clock never stands before it */
};

/* Text of boot.json. A wrong value is an error that names it; nothing is guessed. *ret_config holds DHCP everywhere
 * after an error, so that the caller can go on and the node stays reachable. */
int config_parse(const char *text, size_t len, struct config *ret_config, struct error *err);
int config_load(const char *path, struct config *ret_config, struct error *err);
