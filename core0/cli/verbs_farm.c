/*
 * verbs_farm.c - croft farm …: what a farmer does once, and when a new machine comes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/farm.h"
#include "cli/tables.h"
#include "lib/crypto/ecdsa.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"

#define FARM_TYPES "((address,string,(address,bool,uint32,uint32),uint32,uint32,uint32))"
#define POLICY_SIGNATURE "setFarmPolicy(uint64,(address,bool,uint32,uint32))"

int farm_read_farmer(const struct grid *grid, uint64_t farm, uint8_t ret_farmer[20],
                     struct error *err)
{
    struct abi_value argument = abi_uint(farm);
    struct abi_decoded decoded;

    int ret =
        grid_view(grid, grid->registry, "farm(uint64)", &argument, 1, FARM_TYPES, &decoded, err);
    if (ret == 0) {
        memcpy(ret_farmer, decoded.values[0].items[0].word + 12, 20);
        abi_decoded_done(&decoded);
    }
    return ret;
}

/* ---- show ---- */

static int farm_json(const struct grid *grid, uint64_t number, yyjson_mut_doc *doc,
                     yyjson_mut_val *root, struct error *err)
{
    struct abi_value argument = abi_uint(number);
    struct abi_decoded decoded;

    int ret =
        grid_view(grid, grid->registry, "farm(uint64)", &argument, 1, FARM_TYPES, &decoded, err);
    if (ret < 0) {
        return ret;
    }
    const struct abi_value *farm = decoded.values[0].items;
    if (eth_address_is_zero(farm[0].word + 12)) {
        abi_decoded_done(&decoded);
        return error_set(err, ENOENT, "chain.farm-unknown", "croft farm list shows all",
                         "there is no farm %" PRIu64, number);
    }
    yyjson_mut_obj_add_uint(doc, root, "farm", number);
    yyjson_mut_obj_add_strncpy(doc, root, "name", (const char *)farm[1].data, farm[1].len);
    grid_json_address(doc, root, "farmer", farm[0].word + 12);
    if (!eth_address_is_zero(farm[2].items[0].word + 12)) {
        grid_json_address(doc, root, "approver", farm[2].items[0].word + 12);
    }
    yyjson_mut_obj_add_str(doc, root, "tenants", grid_uint(&farm[2].items[1]) ? "any" : "listed");
    yyjson_mut_obj_add_uint(doc, root, "maxOpen", grid_uint(&farm[2].items[2]));
    yyjson_mut_obj_add_uint(doc, root, "maxChanges", grid_uint(&farm[2].items[3]));
    yyjson_mut_obj_add_uint(doc, root, "open", grid_uint(&farm[3]));
    yyjson_mut_obj_add_uint(doc, root, "changesToday", grid_uint(&farm[4]));
    yyjson_mut_obj_add_uint(doc, root, "pendingNodes", grid_uint(&farm[5]));
    abi_decoded_done(&decoded);
    ret = grid_view(grid, grid->registry, "billerOfFarm(uint64)", &argument, 1, "(address)",
                    &decoded, err);
    if (ret < 0) {
        return ret;
    }
    if (!eth_address_is_zero(decoded.values[0].word + 12)) {
        grid_json_address(doc, root, "biller", decoded.values[0].word + 12);
    }
    abi_decoded_done(&decoded);
    return 0;
}

static int add_addresses(const struct grid *grid, uint64_t number, const char *signature,
                         const char *name, yyjson_mut_doc *doc, yyjson_mut_val *root,
                         struct error *err)
{
    struct abi_value argument = abi_uint(number);
    struct abi_decoded decoded;
    char text[ETH_ADDRESS_TEXT];

    int ret =
        grid_view(grid, grid->registry, signature, &argument, 1, "(address[])", &decoded, err);
    if (ret < 0) {
        return ret;
    }
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, name);
    for (size_t i = 0; i < decoded.values[0].len; i++) {
        eth_address_format(decoded.values[0].items[i].word + 12, text);
        yyjson_mut_arr_add_strcpy(doc, list, text);
    }
    abi_decoded_done(&decoded);
    return 0;
}

static int finish(const struct cli *cli, struct grid *grid, yyjson_mut_doc *doc, int ret)
{
    grid_close(grid);
    if (ret < 0) {
        yyjson_mut_doc_free(doc);
        return ret;
    }
    return cli_print_result(cli, doc);
}

static int farm_show(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t number;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &number, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_SNAPSHOT, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    ret = farm_json(&grid, number, doc, root, err);
    if (ret == 0) {
        ret = add_addresses(&grid, number, "tenantsOf(uint64)", "listed", doc, root, err);
    }
    if (ret == 0) {
        ret = add_addresses(&grid, number, "tokensOf(uint64)", "tokens", doc, root, err);
    }
    return finish(cli, &grid, doc, ret);
}

static int farm_list(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct abi_decoded decoded;

    int ret = grid_open(cli, GRID_SNAPSHOT, &grid, err);
    if (ret < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, list);
    ret = grid_view(&grid, grid.registry, "farmCount()", NULL, 0, "(uint64)", &decoded, err);
    if (ret == 0) {
        uint64_t count = grid_uint(&decoded.values[0]);
        abi_decoded_done(&decoded);
        for (uint64_t i = 1; ret == 0 && i <= count; i++) {
            ret = farm_json(&grid, i, doc, yyjson_mut_arr_add_obj(doc, list), err);
        }
    }
    return finish(cli, &grid, doc, ret);
}

/* ---- create and policy ---- */

static int set_policy(const struct cli *cli, const struct grid *grid, uint64_t farm,
                      struct error *err)
{
    const char *tenants = cli_option(cli, "--tenants"), *approver = cli_option(cli, "--approver");
    uint8_t approver_address[20] = {0};
    uint64_t max_open, max_changes;

    int ret = cli_option_uint(cli, "--max-open", 1, UINT32_MAX, 256, &max_open, err);
    if (ret == 0) {
        ret = cli_option_uint(cli, "--max-changes", 1, UINT32_MAX, 1000, &max_changes, err);
    }
    if (ret != 0) {
        return ret;
    }
    if (approver != NULL && eth_address_parse(approver, approver_address) < 0) {
        return error_set(err, EINVAL, "cli.bad-option", "", "--approver is no address: %s",
                         approver);
    }
    bool any = tenants != NULL && strcmp(tenants, "any") == 0;
    struct abi_value policy[4] = {abi_address(approver_address), abi_bool(any), abi_uint(max_open),
                                  abi_uint(max_changes)};
    struct abi_value arguments[2] = {abi_uint(farm), abi_items(policy, 4)};
    ret = grid_send(grid, grid->registry, POLICY_SIGNATURE, arguments, 2, NULL, err);
    for (size_t i = 0; ret == 0 && !any; i++) {
        uint8_t tenant[20];
        const char *text = cli_option_at(cli, "--tenants", i);
        if (text == NULL) {
            break;
        }
        if (eth_address_parse(text, tenant) < 0) {
            return error_set(err, EINVAL, "cli.bad-option", "",
                             "--tenants takes any or an address, not %s", text);
        }
        struct abi_value listed[3] = {abi_uint(farm), abi_address(tenant), abi_bool(true)};
        ret = grid_send(grid, grid->registry, "listTenant(uint64,address,bool)", listed, 3, NULL,
                        err);
    }
    return ret;
}

static bool policy_given(const struct cli *cli)
{
    return cli_flag(cli, "--tenants") || cli_flag(cli, "--approver") ||
           cli_flag(cli, "--max-open") || cli_flag(cli, "--max-changes");
}

static int farm_create(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct eth_receipt receipt;
    yyjson_mut_val *root;

    int ret = grid_open(cli, GRID_KEY, &grid, err);
    if (ret < 0) {
        return ret;
    }
    struct abi_value name = abi_string(cli->args[0]);
    ret = grid_send(&grid, grid.registry, "createFarm(string)", &name, 1, &receipt, err);
    yyjson_mut_doc *doc = grid_json(&root);
    if (ret == 0) {
        const struct eth_log *log = grid_find_log(&receipt, "FarmCreated(uint64,address,string)");
        uint64_t farm = log != NULL && log->topic_count > 1 ? grid_topic_uint(log, 1) : 0;
        eth_receipt_done(&receipt);
        yyjson_mut_obj_add_uint(doc, root, "farm", farm);
        yyjson_mut_obj_add_strcpy(doc, root, "name", cli->args[0]);
        grid_json_address(doc, root, "farmer", grid.account);
        if (policy_given(cli)) {
            ret = set_policy(cli, &grid, farm, err);
        }
    }
    return finish(cli, &grid, doc, ret);
}

static int farm_policy(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t farm;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &farm, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    ret = set_policy(cli, &grid, farm, err);
    if (ret == 0) {
        ret = farm_json(&grid, farm, doc, root, err);
    }
    return finish(cli, &grid, doc, ret);
}

/* ---- biller ---- */

static int farm_biller(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t farm;
    uint8_t address[20] = {0};
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &farm, err);
    if (ret == 0 && strcmp(cli->args[1], "none") != 0 &&
        eth_address_parse(cli->args[1], address) < 0) {
        ret = error_set(err, EINVAL, "cli.bad-option", "croft farm biller 1 none takes it away",
                        "the biller is an address or none, not %s", cli->args[1]);
    }
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    struct abi_value arguments[2] = {abi_uint(farm), abi_address(address)};
    yyjson_mut_doc *doc = grid_json(&root);
    ret = grid_send(&grid, grid.registry, "setBiller(uint64,address)", arguments, 2, NULL, err);
    if (ret == 0) {
        ret = farm_json(&grid, farm, doc, root, err);
    }
    return finish(cli, &grid, doc, ret);
}

/* ---- tokens ---- */

static int token_revoke(const struct grid *grid, const char *text, yyjson_mut_doc *doc,
                        yyjson_mut_val *root, struct error *err)
{
    uint8_t address[20];
    if (eth_address_parse(text, address) < 0) {
        return error_set(err, EINVAL, "cli.bad-option", "croft farm show lists the tokens",
                         "--revoke takes the token's address, not %s", text);
    }
    struct abi_value token = abi_address(address);
    grid_json_address(doc, root, "revoked", address);
    return grid_send(grid, grid->registry, "revokeToken(address)", &token, 1, NULL, err);
}

int farm_token_make(const struct cli *cli, const struct grid *grid, uint64_t farm,
                    struct farm_token *ret_token, struct error *err)
{
    struct farm_token token = {0};
    uint64_t hours;
    uint8_t key[32];

    int ret = cli_option_uint(cli, "--uses", 1, UINT32_MAX, 1, &token.uses, err);
    if (ret == 0) {
        ret = cli_option_uint(cli, "--hours", 1, UINT64_C(24) * 366, UINT64_C(24) * 7, &hours, err);
    }
    if (ret != 0) {
        return ret;
    }
    token.expires = (uint64_t)time(NULL) + hours * 3600;
    ecdsa_key_generate(key);
    ecdsa_address(key, token.address);
    hex_encode(key, sizeof(key), token.text);
    crypto_wipe(key, sizeof(key));
    struct abi_value arguments[4] = {abi_uint(farm), abi_address(token.address),
                                     abi_uint(token.expires), abi_uint(token.uses)};
    ret = grid_send(grid, grid->registry, "createToken(uint64,address,uint64,uint32)", arguments, 4,
                    NULL, err);
    if (ret == 0) {
        *ret_token = token;
    }
    crypto_wipe(&token, sizeof(token));
    return ret;
}

static int token_create(const struct cli *cli, const struct grid *grid, uint64_t farm,
                        yyjson_mut_doc *doc, yyjson_mut_val *root, struct error *err)
{
    struct farm_token token;

    int ret = farm_token_make(cli, grid, farm, &token, err);
    if (ret != 0) {
        return ret;
    }
    yyjson_mut_obj_add_strcpy(doc, root, "token", token.text);
    grid_json_address(doc, root, "address", token.address);
    yyjson_mut_obj_add_uint(doc, root, "farm", farm);
    yyjson_mut_obj_add_uint(doc, root, "uses", token.uses);
    yyjson_mut_obj_add_uint(doc, root, "expires", token.expires);
    crypto_wipe(&token, sizeof(token));
    return 0;
}

static int farm_token(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t farm;
    yyjson_mut_val *root;
    const char *revoke = cli_option(cli, "--revoke");

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &farm, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    ret = revoke != NULL ? token_revoke(&grid, revoke, doc, root, err)
                         : token_create(cli, &grid, farm, doc, root, err);
    return finish(cli, &grid, doc, ret);
}

/* ---- approve ---- */

static int farm_approve(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t node, replaces;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &node, err);
    if (ret == 0) {
        ret = cli_option_uint(cli, "--replaces", 1, UINT64_MAX, 0, &replaces, err);
    }
    if (ret != 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    struct abi_value arguments[2] = {abi_uint(node), abi_uint(replaces)};
    ret = grid_send(&grid, grid.registry, "approve(uint64,uint64)", arguments, 2, NULL, err);
    yyjson_mut_doc *doc = grid_json(&root);
    yyjson_mut_obj_add_uint(doc, root, "node", node);
    yyjson_mut_obj_add_str(doc, root, "state", "Active");
    if (replaces != 0) {
        yyjson_mut_obj_add_uint(doc, root, "replaces", replaces);
    }
    return finish(cli, &grid, doc, ret);
}

#define POLICY_OPTIONS                                                                             \
    {"--tenants", "any|ADDRESS", "who may reserve; may be repeated"},                              \
        {"--approver", "ADDRESS", "who approves every reservation; left out: nobody has to"},      \
        {"--max-open", "N", "open reservations of the farm (256)"},                                \
    {                                                                                              \
        "--max-changes", "N", "proposals and updates a day (1000)"                                 \
    }
static const struct verb_option policy_options[] = {POLICY_OPTIONS, {NULL, NULL, NULL}};
static const struct verb_option token_options[] = {
    FARM_TOKEN_OPTIONS,
    {"--revoke", "ADDRESS", "take a token back instead"},
    {NULL, NULL, NULL},
};
static const struct verb_option approve_options[] = {
    {"--replaces", "NODE", "the node whose place it takes; that one is retired"},
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"farm", "create", "NAME", "create a farm that belongs to your key",
     "croft farm create \"Hill farm\" --tenants any", policy_options, 1, 1, false, farm_create},
    {"farm", "list", "", "all farms", "croft farm list", NULL, 0, 0, false, farm_list},
    {"farm", "show", "FARM", "a farm with its tenants and tokens", "croft farm show 1", NULL, 1, 1,
     false, farm_show},
    {"farm", "policy", "FARM", "who may reserve, and how much",
     "croft farm policy 1 --tenants 0x70997970C51812dc3A010C7d01b50e0d17dc79C8", policy_options, 1,
     1, false, farm_policy},
    {"farm", "biller", "FARM ADDRESS|none",
     "who says which reservations are paid; none: what is approved counts as paid",
     "croft farm biller 1 0x70997970C51812dc3A010C7d01b50e0d17dc79C8", NULL, 2, 2, false,
     farm_biller},
    {"farm", "token", "FARM", "make a join token for new machines, or revoke one",
     "croft farm token 1 --uses 10 --hours 24", token_options, 1, 1, false, farm_token},
    {"farm", "media", "FARM", "make boot media that carry the farm's parameters and a join token",
     "croft farm media 1 --form usb --from build/image --output stick.img --uses 10",
     farm_media_options, 1, 1, false, farm_media},
    {"farm", "approve", "NODE", "take a waiting node into the farm",
     "croft farm approve 7 --replaces 3", approve_options, 1, 1, false, farm_approve},
};

const struct verb_table verbs_farm = {verbs, sizeof(verbs) / sizeof(verbs[0])};
