/*
 * config.c - see config.h.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/json.h"

#define CODE "net.bad-config"
#define BOOT_MAX                                                                                   \
    ((size_t)256 << 10) /* bytes of boot.json; the command line it comes from has 2,047 */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* drivers/net/bonding: BOND_MODE_… in their order */
static const char *const bond_modes[] = {
    "balance-rr", "active-backup", "balance-xor", "broadcast",
    "802.3ad",    "balance-tlb",   "balance-alb",
};

static int take_name(char *dest, const char *name, struct error *err)
{
    size_t len = strlen(name);

    /* What the kernel takes (dev_valid_name), and nothing that means something in a path of /proc/sys. */
    if (len == 0 || len >= IF_NAMESIZE || strchr(name, '/') != NULL || strchr(name, ' ') != NULL ||
        strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err, EINVAL, CODE, NULL, "\"%.40s\" is no name of an interface", name);
    memcpy(dest, name, len + 1);
    return 0;
}

static int take_static(yyjson_val *value, struct config *config, struct error *err)
{
    struct {
        const char *mode, *interface, *address, *gateway;
        yyjson_val *dns;
    } row = {0};
    static const struct json_field fields[] = {
        {"mode", JSON_STRING, offsetof(__typeof__(row), mode), true, 0, 0},
        {"interface", JSON_STRING, offsetof(__typeof__(row), interface), true, 0, 0},
        {"address", JSON_STRING, offsetof(__typeof__(row), address), true, 0, 0},
        {"gateway", JSON_STRING, offsetof(__typeof__(row), gateway), false, 0, 0},
        {"dns", JSON_ARRAY, offsetof(__typeof__(row), dns), false, 0, 0},
    };
    struct config_static *entry;
    size_t index, max;
    yyjson_val *item;
    int r;

    if (config->static_count == CONFIG_STATIC_MAX)
        return error_set(err, E2BIG, CODE, NULL, "more than %d static addresses",
                         CONFIG_STATIC_MAX);
    entry = &config->statics[config->static_count];
    r = json_read(value, fields, COUNT(fields), JSON_IGNORE_UNKNOWN, &row, CODE, err);
    if (r == 0)
        r = take_name(entry->interface, row.interface, err);
    if (r < 0)
        return r;
    if (address_parse(row.address, true, &entry->address) < 0)
        return error_set(err, EINVAL, CODE, "write ADDRESS/LENGTH", "\"%.60s\" is no address",
                         row.address);
    if (row.gateway != NULL && row.gateway[0] != '\0' &&
        (address_parse(row.gateway, false, &entry->gateway) < 0 ||
         entry->gateway.family != entry->address.family))
        return error_set(err, EINVAL, CODE, NULL, "\"%.60s\" is no gateway for %.60s", row.gateway,
                         row.address);
    yyjson_arr_foreach(row.dns, index, max, item)
    {
        if (index == CONFIG_DNS_MAX)
            return error_set(err, E2BIG, CODE, NULL, "more than %d DNS servers", CONFIG_DNS_MAX);
        if (!yyjson_is_str(item) ||
            address_parse(yyjson_get_str(item), false, &entry->dns[index]) < 0)
            return error_set(err, EINVAL, CODE, NULL, "a DNS server of %s is no address",
                             entry->interface);
        entry->dns_count = index + 1;
    }
    config->static_count++;
    return 0;
}

static int take_net(yyjson_val *value, struct config *config, struct error *err)
{
    const char *mode = yyjson_get_str(yyjson_obj_get(value, "mode"));

    if (mode != NULL && strcmp(mode, "dhcp") == 0) {
        config->dhcp = true;
        return 0;
    }
    if (mode != NULL && strcmp(mode, "static") == 0)
        return take_static(value, config, err);
    return error_set(err, EINVAL, CODE, NULL,
                     "\"net\" holds a mode that is neither dhcp nor static");
}

static int take_vlan(yyjson_val *value, struct config *config, struct error *err)
{
    const char *interface = yyjson_get_str(yyjson_obj_get(value, "interface"));
    yyjson_val *id = yyjson_obj_get(value, "id");
    struct config_vlan *vlan;
    int n;

    if (config->vlan_count == CONFIG_VLAN_MAX)
        return error_set(err, E2BIG, CODE, NULL, "more than %d VLANs", CONFIG_VLAN_MAX);
    if (interface == NULL || !yyjson_is_uint(id) || yyjson_get_uint(id) < 1 ||
        yyjson_get_uint(id) > 4094)
        return error_set(err, EINVAL, CODE, NULL,
                         "a VLAN wants an interface and an id of 1 to 4094");
    vlan = &config->vlans[config->vlan_count];
    if (take_name(vlan->interface, interface, err) < 0)
        return -EINVAL;
    vlan->id = (uint16_t)yyjson_get_uint(id);
    n = snprintf(vlan->name, sizeof(vlan->name), "%.15s.%u", interface, vlan->id);
    if (n < 0 || (size_t)n >= sizeof(vlan->name))
        return error_set(err, EINVAL, CODE, NULL, "the name %s.%u is too long", vlan->interface,
                         vlan->id);
    config->vlan_count++;
    return 0;
}

static int take_bond(yyjson_val *value, struct config *config, struct error *err)
{
    const char *name = yyjson_get_str(yyjson_obj_get(value, "name"));
    const char *mode = yyjson_get_str(yyjson_obj_get(value, "mode"));
    yyjson_val *interfaces = yyjson_obj_get(value, "interfaces"), *item;
    struct config_bond *bond;
    size_t index, max, number = 0;

    if (config->bond_count == CONFIG_BOND_MAX)
        return error_set(err, E2BIG, CODE, NULL, "more than %d bonds", CONFIG_BOND_MAX);
    bond = &config->bonds[config->bond_count];
    if (name == NULL || take_name(bond->name, name, err) < 0)
        return error_set(err, EINVAL, CODE, NULL, "a bond wants a name");
    while (mode != NULL && number < COUNT(bond_modes) && strcmp(mode, bond_modes[number]) != 0)
        number++;
    if (mode == NULL || number == COUNT(bond_modes))
        return error_set(err, EINVAL, CODE, "balance-rr, active-backup, 802.3ad, …",
                         "bond %s: unknown mode \"%.40s\"", name, mode != NULL ? mode : "");
    bond->mode = (uint8_t)number;
    yyjson_arr_foreach(interfaces, index, max, item)
    {
        if (index == CONFIG_BOND_LINKS_MAX)
            return error_set(err, E2BIG, CODE, NULL, "bond %s has too many links", name);
        if (!yyjson_is_str(item) ||
            take_name(bond->interfaces[index], yyjson_get_str(item), err) < 0)
            return error_set(err, EINVAL, CODE, NULL, "bond %s: a link has no name", name);
        bond->interface_count = index + 1;
    }
    config->bond_count++;
    return 0;
}

static int take_ntp(yyjson_val *value, struct config *config, struct error *err)
{
    const char *name = yyjson_get_str(value);

    if (config->ntp_count == CONFIG_NTP_MAX)
        return error_set(err, E2BIG, CODE, NULL, "more than %d time servers", CONFIG_NTP_MAX);
    if (name == NULL || name[0] == '\0' || name[0] == '-' || strlen(name) >= CONFIG_NTP_NAME_MAX)
        return error_set(err, EINVAL, CODE, NULL, "a time server is no host");
    strcpy(config->ntp[config->ntp_count++], name);
    return 0;
}

static const struct {
    const char *key;
    int (*take)(yyjson_val *value, struct config *config, struct error *err);
} lists[] = {
    {"net", take_net},
    {"vlan", take_vlan},
    {"bond", take_bond},
    {"ntp", take_ntp},
};

int config_parse(const char *text, size_t len, struct config *ret_config, struct error *err)
{
    struct config config = {0};
    yyjson_doc *doc = json_parse(text, len, BOOT_MAX, CODE, err);
    int r = doc == NULL ? -EINVAL : 0;

    for (size_t i = 0; r == 0 && i < COUNT(lists); i++) {
        yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(doc), lists[i].key), *item;
        size_t index, max;

        yyjson_arr_foreach(list, index, max, item)
        {
            if (r == 0)
                r = lists[i].take(item, &config, err);
        }
    }
    if (r == 0) {
        config.build_time = yyjson_get_sint(yyjson_obj_get(yyjson_doc_get_root(doc), "buildTime"));
        /* No word about addresses: every link asks. */
        if (config.static_count == 0)
            config.dhcp = true;
        *ret_config = config;
    } else {
        *ret_config = (struct config){.dhcp = true};
    }
    yyjson_doc_free(doc);
    return r;
}

int config_load(const char *path, struct config *ret_config, struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    int r = file_read(path, BOOT_MAX, &text, &len);

    if (r < 0) {
        *ret_config = (struct config){.dhcp = true};
        return error_set(err, -r, CODE, NULL, "%s: %s", path, strerror(-r));
    }
    r = config_parse(text, len, ret_config, err);
    free(text);
    return r;
}
