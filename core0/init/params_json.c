/*
 * params_json.c - /run/croft/boot.json from what was parsed; the format stands in docs/contracts.md.
 */
#include <string.h>

#include "init/params.h"

static void params_add_list(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                            const struct unit_list *list)
{
    yyjson_mut_val *array = yyjson_mut_arr(doc);

    for (size_t i = 0; i < list->count; i++)
        yyjson_mut_arr_add_strcpy(doc, array, list->items[i]);
    yyjson_mut_obj_add_val(doc, object, name, array);
}

static void params_add_str(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                           const char *value)
{
    if (value != NULL)
        yyjson_mut_obj_add_strcpy(doc, object, name, value);
    else
        yyjson_mut_obj_add_null(doc, object, name);
}

static void params_add_number(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                              uint64_t value)
{
    if (value != 0)
        yyjson_mut_obj_add_uint(doc, object, name, value);
    else
        yyjson_mut_obj_add_null(doc, object, name);
}

/* The next part of a comma separated text, copied into the document. */
static yyjson_mut_val *params_next_part(yyjson_mut_doc *doc, const char **text)
{
    size_t len = strcspn(*text, ",+");
    yyjson_mut_val *part = yyjson_mut_strncpy(doc, *text, len);

    *text += len;
    if (**text != '\0')
        (*text)++;
    return part;
}

static void params_add_net(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct params *params)
{
    yyjson_mut_val *array = yyjson_mut_arr(doc);

    for (size_t i = 0; i < params->net.count; i++) {
        const char *text = params->net.items[i];
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, array);
        yyjson_mut_val *dns;

        if (strcmp(text, "dhcp") == 0) {
            yyjson_mut_obj_add_str(doc, entry, "mode", "dhcp");
            continue;
        }
        yyjson_mut_obj_add_str(doc, entry, "mode", "static");
        yyjson_mut_obj_add_val(doc, entry, "interface", params_next_part(doc, &text));
        yyjson_mut_obj_add_val(doc, entry, "address", params_next_part(doc, &text));
        yyjson_mut_obj_add_val(doc, entry, "gateway", params_next_part(doc, &text));
        dns = yyjson_mut_obj_add_arr(doc, entry, "dns");
        while (*text != '\0')
            yyjson_mut_arr_append(dns, params_next_part(doc, &text));
    }
    if (params->net.count == 0) {
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, array);

        yyjson_mut_obj_add_str(doc, entry, "mode", "dhcp");
    }
    yyjson_mut_obj_add_val(doc, root, "net", array);
}

static void params_add_vlan_bond(yyjson_mut_doc *doc, yyjson_mut_val *root,
                                 const struct params *params)
{
    yyjson_mut_val *vlans = yyjson_mut_obj_add_arr(doc, root, "vlan");
    yyjson_mut_val *bonds = yyjson_mut_obj_add_arr(doc, root, "bond");

    for (size_t i = 0; i < params->vlan.count; i++) {
        const char *text = params->vlan.items[i];
        const char *dot = strrchr(text, '.');
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, vlans);
        uint64_t id = 0;

        for (const char *digit = dot + 1; *digit != '\0'; digit++)
            id = id * 10 + (uint64_t)(*digit - '0');
        yyjson_mut_obj_add_val(doc, entry, "interface",
                               yyjson_mut_strncpy(doc, text, (size_t)(dot - text)));
        yyjson_mut_obj_add_uint(doc, entry, "id", id);
    }
    for (size_t i = 0; i < params->bond.count; i++) {
        const char *text = params->bond.items[i];
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, bonds);
        yyjson_mut_val *links;

        yyjson_mut_obj_add_val(doc, entry, "name", params_next_part(doc, &text));
        yyjson_mut_obj_add_val(doc, entry, "mode", params_next_part(doc, &text));
        links = yyjson_mut_obj_add_arr(doc, entry, "interfaces");
        while (*text != '\0')
            yyjson_mut_arr_append(links, params_next_part(doc, &text));
    }
}

static void params_add_trust(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct params *params)
{
    static const char *const modes[] = {"rpc", "quorum", "qbft"};
    yyjson_mut_val *trust = yyjson_mut_obj_add_obj(doc, root, "trust");

    yyjson_mut_obj_add_str(doc, trust, "mode", modes[params->trust]);
    if (params->trust == PARAMS_TRUST_QUORUM)
        yyjson_mut_obj_add_uint(doc, trust, "quorum", params->quorum);
    if (params->trust == PARAMS_TRUST_QBFT)
        params_add_str(doc, trust, "file", params->qbft_file);
}

static void params_add_errors(yyjson_mut_doc *doc, yyjson_mut_val *root,
                              const struct params *params)
{
    yyjson_mut_val *array = yyjson_mut_obj_add_arr(doc, root, "errors");

    for (size_t i = 0; i < params->error_count && i < PARAMS_ERRORS_MAX; i++) {
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, array);

        yyjson_mut_obj_add_strcpy(doc, entry, "code", params->errors[i].code);
        yyjson_mut_obj_add_strcpy(doc, entry, "message", params->errors[i].message);
        yyjson_mut_obj_add_strcpy(doc, entry, "hint", params->errors[i].hint);
    }
}

yyjson_mut_doc *params_to_json(const struct params *params, const char *version,
                               const char *boot_id, int64_t build_time)
{
    static const char *const policies[] = {"empty", "wipe", "none"};
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *disks;

    if (root == NULL) {
        yyjson_mut_doc_free(doc);
        return NULL;
    }
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "version", version);
    yyjson_mut_obj_add_strcpy(doc, root, "bootId", boot_id);
    yyjson_mut_obj_add_int(doc, root, "buildTime", build_time);
    params_add_number(doc, root, "farmerId", params->farmer_id);
    yyjson_mut_obj_add_str(doc, root, "runmode", params_runmode_name(params));
    params_add_list(doc, root, "chain", &params->chain);
    params_add_number(doc, root, "chainId", params->chain_id);
    params_add_str(doc, root, "registry", params->registry);
    params_add_trust(doc, root, params);
    params_add_list(doc, root, "relay", &params->relay);
    params_add_str(doc, root, "address", params->address);
    params_add_list(doc, root, "hub", &params->hub);
    params_add_net(doc, root, params);
    params_add_vlan_bond(doc, root, params);
    disks = yyjson_mut_obj_add_obj(doc, root, "disks");
    yyjson_mut_obj_add_str(doc, disks, "policy", policies[params->disks]);
    yyjson_mut_obj_add_bool(doc, disks, "usb", params->disks_usb);
    params_add_list(doc, root, "ntp", &params->ntp);
    if (params->log_host != NULL) {
        yyjson_mut_val *log = yyjson_mut_obj_add_obj(doc, root, "log");

        yyjson_mut_obj_add_str(doc, log, "protocol", "udp");
        params_add_str(doc, log, "host", params->log_host);
        yyjson_mut_obj_add_uint(doc, log, "port", params->log_port);
    } else {
        yyjson_mut_obj_add_null(doc, root, "log");
    }
    params_add_str(doc, root, "console", params->console);
    params_add_errors(doc, root, params);
    return doc;
}
