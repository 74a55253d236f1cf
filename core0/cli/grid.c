/*
 * grid.c - see grid.h.
 */
#include "cli/grid.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/settings.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/keystore.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/file.h"
#include "lib/loop.h"

#define BEHIND_TRIES 20 /* so often a block that is not there yet is asked for again */
#define BEHIND_PAUSE_NS 250000000L

/* From the terminal without echo, whatever standard input is (croft exec -i hands it on); NULL when there is none. */
static char *ask_password(void *data)
{
    struct termios old, quiet;
    char line[512];
    cleanup_close int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

    (void)data;
    if (fd < 0 || tcgetattr(fd, &old) < 0) {
        return NULL;
    }
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    dprintf(fd, "Password of the key file: ");
    tcsetattr(fd, TCSAFLUSH, &quiet);
    ssize_t len = read(fd, line, sizeof(line) - 1);
    tcsetattr(fd, TCSAFLUSH, &old);
    dprintf(fd, "\n");
    if (len <= 0) {
        return NULL;
    }
    line[len] = '\0';
    line[strcspn(line, "\n")] = '\0';
    char *copy = strdup(line);
    crypto_wipe(line, sizeof(line));
    return copy;
}

static void take_key_if_any(const struct settings *settings, struct grid *grid)
{
    const char *file = settings->values[SETTING_KEY_FILE];
    struct error ignored = {0};

    if (file != NULL && keystore_read_file(file, NULL, NULL, grid->key, &ignored) == 0) {
        grid->has_key = ecdsa_address(grid->key, grid->account) == 0;
    }
}

static int read_settings(const struct settings *settings, unsigned flags, struct grid *grid,
                         const char **ret_chain, struct error *err)
{
    const char *chain = settings_need(settings, SETTING_CHAIN, err);
    const char *id = settings_need(settings, SETTING_CHAINID, err);
    const char *registry = settings_need(settings, SETTING_REGISTRY, err);
    char *end;

    if (chain == NULL || id == NULL || registry == NULL) {
        return -ENOENT;
    }
    grid->chain_id = strtoull(id, &end, 10);
    if (*end != '\0' || grid->chain_id == 0 || eth_address_parse(registry, grid->registry) < 0) {
        return error_set(err, EINVAL, "cli.bad-config", "",
                         "chainid is to be a number and registry an address: \"%s\", \"%s\"", id,
                         registry);
    }
    *ret_chain = chain;
    if ((flags & GRID_KEY_IF_ANY) != 0) {
        take_key_if_any(settings, grid);
    }
    if ((flags & GRID_KEY) == 0) {
        return 0;
    }
    const char *file = settings_need(settings, SETTING_KEY_FILE, err);
    if (file == NULL) {
        return -ENOENT;
    }
    grid->key_file = strdup(file);
    int ret = keystore_read_file(file, ask_password, NULL, grid->key, err);
    if (ret < 0) {
        return ret;
    }
    grid->has_key = true;
    return ecdsa_address(grid->key, grid->account) < 0
               ? error_set(err, EINVAL, "key.bad-file", "", "%s holds no private key", file)
               : 0;
}

static int connect_chain(struct grid *grid, const char *chain, struct error *err)
{
    struct eth_rpc_options options = {.urls = chain, .plain_allowed = true};
    struct abi_decoded decoded;

    int ret = loop_new(&grid->loop);
    if (ret == 0) {
        ret = eth_rpc_new(grid->loop, &options, &grid->rpc, err);
    }
    if (ret == 0) {
        ret = eth_check_chain_id(grid->rpc, grid->chain_id, err);
    }
    if (ret == 0) {
        ret =
            grid_view(grid, grid->registry, "reservations()", NULL, 0, "(address)", &decoded, err);
    }
    if (ret != 0) {
        return ret;
    }
    memcpy(grid->reservations, decoded.values[0].word + 12, 20);
    abi_decoded_done(&decoded);
    return 0;
}

static int pin(struct grid *grid, struct error *err)
{
    int ret = grid_block_number(grid, &grid->block, err);

    grid->pinned = ret == 0;
    return ret;
}

int grid_open(const struct cli *cli, unsigned flags, struct grid *ret_grid, struct error *err)
{
    struct settings settings;
    struct grid grid = {0};
    const char *chain = NULL;

    int ret = settings_read(cli, &settings, err);
    if (ret < 0) {
        return ret;
    }
    ret = read_settings(&settings, flags, &grid, &chain, err);
    if (ret == 0) {
        ret = connect_chain(&grid, chain, err);
    }
    if (ret == 0 && (flags & GRID_SNAPSHOT) != 0) {
        ret = pin(&grid, err);
    }
    settings_done(&settings);
    if (ret < 0) {
        grid_close(&grid);
        return ret;
    }
    *ret_grid = grid;
    return 0;
}

void grid_close(struct grid *grid)
{
    crypto_wipe(grid->key, sizeof(grid->key));
    eth_rpc_free(grid->rpc);
    loop_free(grid->loop);
    free(grid->key_file);
    *grid = (struct grid){0};
}

int grid_view(const struct grid *grid, const uint8_t contract[20], const char *signature,
              const struct abi_value *values, size_t count, const char *result_types,
              struct abi_decoded *ret_decoded, struct error *err)
{
    char block[24] = "latest";

    if (grid->pinned) {
        snprintf(block, sizeof(block), "0x%" PRIx64, grid->block);
    }
    for (int left = grid->pinned ? BEHIND_TRIES : 0;; left--) {
        int ret = eth_rpc_view(grid->rpc, contract, signature, values, count, block, result_types,
                               ret_decoded, err);
        /* One endpoint may be several machines, of which one has not got the block yet. */
        if (ret == 0 || left == 0 || strcmp(err->code, "chain.refused") != 0) {
            return ret;
        }
        *err = (struct error){0};
        nanosleep(&(struct timespec){.tv_nsec = BEHIND_PAUSE_NS}, NULL);
    }
}

int grid_send(const struct grid *grid, const uint8_t contract[20], const char *signature,
              const struct abi_value *values, size_t count, struct eth_receipt *ret_receipt,
              struct error *err)
{
    struct eth_sender sender = {.rpc = grid->rpc, .chain_id = grid->chain_id};
    struct eth_receipt receipt;
    struct buffer data;

    memcpy(sender.key, grid->key, sizeof(sender.key));
    buffer_init(&data, 0);
    int ret = abi_encode_call(signature, values, count, &data);
    if (ret < 0) {
        error_set(err, -ret, "cli.failed", "", "%s cannot be encoded", signature);
    } else {
        ret = eth_send(&sender, contract, data.data, data.len, &receipt, err);
    }
    crypto_wipe(sender.key, sizeof(sender.key));
    buffer_done(&data);
    if (ret < 0) {
        return ret;
    }
    if (ret_receipt != NULL) {
        *ret_receipt = receipt;
    } else {
        eth_receipt_done(&receipt);
    }
    return 0;
}

const struct eth_log *grid_find_log(const struct eth_receipt *receipt, const char *event)
{
    uint8_t topic[32];
    abi_topic(event, topic);
    for (size_t i = 0; i < receipt->log_count; i++) {
        if (receipt->logs[i].topic_count > 0 &&
            memcmp(receipt->logs[i].topics[0], topic, 32) == 0) {
            return &receipt->logs[i];
        }
    }
    return NULL;
}

uint64_t grid_uint(const struct abi_value *value)
{
    uint64_t number = 0;
    return abi_get_uint(value, &number) < 0 ? 0 : number;
}

uint64_t grid_topic_uint(const struct eth_log *log, size_t topic)
{
    struct abi_value value = abi_word(log->topics[topic]);
    return grid_uint(&value);
}

/* ---- logs ---- */

#define LOG_WINDOW 10000 /* blocks of one eth_getLogs: what public endpoints commonly allow */

int grid_block_number(const struct grid *grid, uint64_t *ret_number, struct error *err)
{
    yyjson_doc *doc;

    if (grid->pinned) {
        *ret_number = grid->block;
        return 0;
    }
    int ret = eth_rpc_blocking(grid->rpc, "eth_blockNumber", "[]", &doc, err);
    if (ret < 0) {
        return ret;
    }
    ret = eth_rpc_quantity(eth_rpc_result(doc), ret_number);
    yyjson_doc_free(doc);
    return ret < 0 ? error_set(err, EBADMSG, "chain.bad-answer", "", "eth_blockNumber is no number")
                   : 0;
}

int grid_logs(const struct grid *grid, const uint8_t contract[20], const char *event,
              size_t key_topic, uint64_t key, uint64_t from, uint64_t to, struct eth_log **ret_logs,
              size_t *ret_count, struct error *err)
{
    struct buffer params;
    uint8_t topic[32];
    yyjson_doc *doc = NULL;

    abi_topic(event, topic);
    buffer_init(&params, 0);
    buffer_append_str(&params, "[{\"address\":\"");
    hex_append_0x(&params, contract, 20);
    buffer_append_str(&params, "\",\"topics\":[\"");
    hex_append_0x(&params, topic, 32);
    buffer_printf(&params, "\",%s\"0x%064" PRIx64 "\"]", key_topic == 2 ? "null," : "", key);
    int ret = buffer_printf(
        &params, ",\"fromBlock\":\"0x%" PRIx64 "\",\"toBlock\":\"0x%" PRIx64 "\"}]", from, to);
    if (ret == 0) {
        ret = eth_rpc_blocking(grid->rpc, "eth_getLogs", (const char *)params.data, &doc, err);
    }
    buffer_done(&params);
    if (ret < 0) {
        return error_set(err, -ret, "cli.failed", "", "logs cannot be read: %s", strerror(-ret));
    }
    ret = eth_logs_from_json(eth_rpc_result(doc), ret_logs, ret_count, err);
    yyjson_doc_free(doc);
    return ret;
}

int grid_last_log(const struct grid *grid, const uint8_t contract[20], const char *event,
                  uint64_t key, struct eth_log *ret_log, struct error *err)
{
    uint64_t to;
    int ret = grid_block_number(grid, &to, err);

    while (ret == 0) {
        struct eth_log *logs;
        size_t count;
        uint64_t from = to >= LOG_WINDOW ? to - LOG_WINDOW + 1 : 0;
        ret = grid_logs(grid, contract, event, 1, key, from, to, &logs, &count, err);
        if (ret < 0) {
            return ret;
        }
        if (count > 0) {
            *ret_log = logs[count - 1];
            logs[count - 1].data = NULL; /* moved */
            eth_logs_free(logs, count);
            return 1;
        }
        eth_logs_free(logs, count);
        if (from == 0) {
            return 0;
        }
        to = from - 1;
    }
    return ret;
}

void grid_log_done(struct eth_log *log)
{
    free(log->data);
    log->data = NULL;
}

/* ---- resources ---- */

static const struct {
    size_t field;
    const char *name;
} resource_fields[] = {
    {offsetof(struct grid_resources, milli_cores), "milliCores"},
    {offsetof(struct grid_resources, memory), "memory"},
    {offsetof(struct grid_resources, ssd), "ssd"},
    {offsetof(struct grid_resources, hdd), "hdd"},
    {offsetof(struct grid_resources, addresses), "addresses"},
};
#define RESOURCES (sizeof(resource_fields) / sizeof(resource_fields[0]))

void grid_resources_json(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                         const uint8_t packed[32])
{
    struct grid_resources resources;
    yyjson_mut_val *inner = yyjson_mut_obj_add_obj(doc, object, name);

    grid_resources_unpack(packed, &resources);
    for (size_t i = 0; i < RESOURCES; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&resources + resource_fields[i].field, sizeof(value));
        yyjson_mut_obj_add_uint(doc, inner, resource_fields[i].name, value);
    }
}

/* ---- JSON ---- */

yyjson_mut_doc *grid_json(yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL) {
        abort(); /* a command line without a few hundred bytes has nobody to tell */
    }
    *ret_root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *ret_root);
    return doc;
}

void grid_json_address(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                       const uint8_t address[20])
{
    char text[ETH_ADDRESS_TEXT];
    eth_address_format(address, text);
    yyjson_mut_obj_add_strcpy(doc, object, name, text);
}

void grid_json_hex(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, const void *data,
                   size_t len)
{
    char text[2 * 64 + 3];
    hex_encode_0x(data, len <= 64 ? len : 64, text);
    yyjson_mut_obj_add_strcpy(doc, object, name, text);
}
