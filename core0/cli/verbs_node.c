/*
 * verbs_node.c - croft node …: what the registry knows of nodes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cli/farm.h"
#include "cli/gate_live.h"
#include "cli/gate_logs.h"
#include "cli/node.h"
#include "cli/tables.h"
#include "lib/eth/address.h"

#define NODE_TYPES                                                                                 \
    "((address,uint64,uint8,uint8,bool,uint64,uint64,uint64,uint32,bytes32,bytes32,bytes32,"       \
    "bytes32,bytes32,bytes32,bytes32,uint64,uint64,string[]))"

int node_read(const struct grid *grid, uint64_t number, struct node_record *ret_record,
              struct error *err)
{
    struct abi_value argument = abi_uint(number);
    struct abi_decoded decoded;
    struct node_record record = {.number = number};

    int ret =
        grid_view(grid, grid->registry, "node(uint64)", &argument, 1, NODE_TYPES, &decoded, err);
    if (ret < 0) {
        return ret;
    }
    const struct abi_value *v = decoded.values[0].items;
    memcpy(record.identity, v[0].word + 12, 20);
    record.farm = grid_uint(&v[1]);
    record.state = (unsigned)grid_uint(&v[2]);
    record.run_mode = (unsigned)grid_uint(&v[3]);
    record.ephemeral = grid_uint(&v[4]) != 0;
    record.nonce = grid_uint(&v[5]);
    record.last_report = grid_uint(&v[6]);
    record.key_epoch = (uint32_t)grid_uint(&v[8]);
    memcpy(record.boot_id, v[9].word, 32);
    memcpy(record.capacity, v[10].word, 32);
    memcpy(record.reserved, v[11].word, 32);
    memcpy(record.sealing_key, v[12].word, 32);
    memcpy(record.tls_key_hash, v[14].word, 32);
    memcpy(record.image_digest, v[15].word, 32);
    record.registered = grid_uint(&v[16]);
    record.replaced_by = grid_uint(&v[17]);
    for (size_t i = 0; i < v[18].len && i < NODE_ADDRESSES_MAX; i++) {
        size_t len = v[18].items[i].len;
        if (len < sizeof(record.addresses[0])) {
            memcpy(record.addresses[record.address_count++], v[18].items[i].data, len);
        }
    }
    abi_decoded_done(&decoded);
    if (record.state == 0) {
        return error_set(err, ENOENT, "node.unknown", "croft node list shows all",
                         "there is no node %" PRIu64, number);
    }
    *ret_record = record;
    return 0;
}

const char *node_state_name(unsigned state)
{
    static const char *const names[] = {"None", "Pending", "Active", "Retired"};
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static void node_json(const struct node_record *node, uint64_t interval, yyjson_mut_doc *doc,
                      yyjson_mut_val *root)
{
    static const char *const modes[] = {"prod", "test", "dev"};
    uint64_t now = (uint64_t)time(NULL);

    yyjson_mut_obj_add_uint(doc, root, "node", node->number);
    yyjson_mut_obj_add_uint(doc, root, "farm", node->farm);
    yyjson_mut_obj_add_str(doc, root, "state", node_state_name(node->state));
    yyjson_mut_obj_add_bool(doc, root, "online", node->last_report + 2 * interval >= now);
    grid_json_address(doc, root, "identity", node->identity);
    yyjson_mut_obj_add_str(doc, root, "runmode", node->run_mode < 3 ? modes[node->run_mode] : "?");
    yyjson_mut_obj_add_bool(doc, root, "ephemeral", node->ephemeral);
    grid_resources_json(doc, root, "capacity", node->capacity);
    grid_resources_json(doc, root, "used", node->reserved);
    yyjson_mut_val *addresses = yyjson_mut_obj_add_arr(doc, root, "addresses");
    for (size_t i = 0; i < node->address_count; i++) {
        yyjson_mut_arr_add_strcpy(doc, addresses, node->addresses[i]);
    }
    yyjson_mut_obj_add_uint(doc, root, "lastReport", node->last_report);
    yyjson_mut_obj_add_uint(doc, root, "registered", node->registered);
    yyjson_mut_obj_add_uint(doc, root, "keyEpoch", node->key_epoch);
    grid_json_hex(doc, root, "bootId", node->boot_id, 16);
    grid_json_hex(doc, root, "imageDigest", node->image_digest, 32);
    if (node->replaced_by != 0) {
        yyjson_mut_obj_add_uint(doc, root, "replacedBy", node->replaced_by);
    }
}

static int report_interval(const struct grid *grid, uint64_t *ret_seconds, struct error *err)
{
    struct abi_decoded decoded;
    int ret =
        grid_view(grid, grid->registry, "reportInterval()", NULL, 0, "(uint64)", &decoded, err);
    if (ret == 0) {
        *ret_seconds = grid_uint(&decoded.values[0]);
        abi_decoded_done(&decoded);
    }
    return ret;
}

/* Version and refusals are events: the last of each is asked for, newest blocks first, in windows that every endpoint serves. */
static int last_events(const struct grid *grid, const struct node_record *node, yyjson_mut_doc *doc,
                       yyjson_mut_val *root, struct error *err)
{
    static const struct {
        const char *event, *types, *member;
        size_t word;
    } wanted[] = {
        {"Reported(uint64,uint64,uint64,bytes32,bytes32)", "(uint64,uint64,bytes32,bytes32)",
         "version", 3},
        {"ReportRefused(uint64,uint64,bytes32)", "(uint64,bytes32)", "lastError", 1},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        struct eth_log log;
        struct abi_decoded decoded;
        int ret = grid_last_log(grid, grid->registry, wanted[i].event, node->number, &log, err);
        if (ret < 0) {
            return ret;
        }
        if (ret == 0) {
            continue;
        }
        ret = abi_decode(wanted[i].types, log.data, log.data_len, &decoded);
        if (ret == 0) {
            char text[33];
            eth_code_from_word(decoded.values[wanted[i].word].word, text);
            yyjson_mut_obj_add_strcpy(doc, root, wanted[i].member, text);
            abi_decoded_done(&decoded);
        }
        grid_log_done(&log);
    }
    return 0;
}

/* The farmer sees what the node itself says, too. */
static int add_live(const struct cli *cli, const struct grid *grid, const struct node_record *node,
                    yyjson_mut_doc *doc, yyjson_mut_val *root, struct error *err)
{
    uint8_t farmer[20];

    if (!grid->has_key || node->state != NODE_ACTIVE || cli_flag(cli, "--chain-only")) {
        return 0;
    }
    int ret = farm_read_farmer(grid, node->farm, farmer, err);
    if (ret == 0 && memcmp(farmer, grid->account, 20) == 0) {
        gate_live_add(cli, grid, node->number, 0, "node", "/v1/node", doc, root);
    }
    return ret;
}

static int node_show(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct node_record node;
    uint64_t number, interval = 0;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &number, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY_IF_ANY | GRID_SNAPSHOT, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    ret = node_read(&grid, number, &node, err);
    if (ret == 0) {
        ret = report_interval(&grid, &interval, err);
    }
    if (ret == 0) {
        node_json(&node, interval, doc, root);
        ret = last_events(&grid, &node, doc, root, err);
    }
    if (ret == 0) {
        ret = add_live(cli, &grid, &node, doc, root, err);
    }
    grid_close(&grid);
    if (ret < 0) {
        yyjson_mut_doc_free(doc);
        return ret;
    }
    return cli_print_result(cli, doc);
}

static int node_list(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct abi_decoded decoded;
    struct node_record node;
    uint64_t farm, count = 0, interval = 0;

    int ret = cli_option_uint(cli, "--farm", 1, UINT64_MAX, 0, &farm, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_SNAPSHOT, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, list);
    ret = grid_view(&grid, grid.registry, "nodeCount()", NULL, 0, "(uint64)", &decoded, err);
    if (ret == 0) {
        count = grid_uint(&decoded.values[0]);
        abi_decoded_done(&decoded);
        ret = report_interval(&grid, &interval, err);
    }
    for (uint64_t i = 1; ret == 0 && i <= count; i++) {
        ret = node_read(&grid, i, &node, err);
        if (ret == 0 && (farm == 0 || node.farm == farm)) {
            node_json(&node, interval, doc, yyjson_mut_arr_add_obj(doc, list));
        }
    }
    grid_close(&grid);
    if (ret < 0) {
        yyjson_mut_doc_free(doc);
        return ret;
    }
    return cli_print_result(cli, doc);
}

static int node_retire(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t number;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &number, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    struct abi_value argument = abi_uint(number);
    ret = grid_send(&grid, grid.registry, "retire(uint64)", &argument, 1, NULL, err);
    grid_close(&grid);
    if (ret < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    yyjson_mut_obj_add_uint(doc, root, "node", number);
    yyjson_mut_obj_add_str(doc, root, "state", "Retired");
    return cli_print_result(cli, doc);
}

static int node_logs(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct gate gate;
    uint64_t number;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &number, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    ret = gate_init(&gate, cli, &grid, number, 0, err);
    if (ret == 0) {
        ret = gate_logs_show(&gate, "node-log", "/v1/node/log",
                             cli->arg_count > 1 ? cli->args[1] : "", err);
        gate_done(&gate);
    }
    grid_close(&grid);
    return ret;
}

static const struct verb_option show_options[] = {
    {"--chain-only", NULL, "do not ask the node itself"},
    GATE_OPTION,
    {NULL, NULL, NULL},
};
static const struct verb_option logs_options[] = {
    GATE_LOGS_OPTIONS,
    {NULL, NULL, NULL},
};
static const struct verb_option list_options[] = {
    {"--farm", "FARM", "only the nodes of this farm"},
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"node", "list", "", "nodes with what they offer", "croft node list --farm 1", list_options, 0,
     0, false, node_list},
    {"node", "show", "NODE", "a node as the registry knows it; its farmer also sees what it says",
     "croft node show 1", show_options, 1, 1, false, node_show},
    {"node", "logs", "NODE [SERVICE]",
     "the log of a node, of one of its services, or of its kernel (by its farmer)",
     "croft node logs 1 provd --follow --tail 100", logs_options, 1, 2, false, node_logs},
    {"node", "retire", "NODE", "take a node out of the farm for good", "croft node retire 3", NULL,
     1, 1, false, node_retire},
};

const struct verb_table verbs_node = {verbs, sizeof(verbs) / sizeof(verbs[0])};
