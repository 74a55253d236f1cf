/*
 * main.c - croft-relay, which `croft relay` runs: options, key, chain, and the loop.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/keystore.h"
#include "lib/daemon.h"
#include "lib/eth/abi.h"
#include "lib/eth/address.h"
#include "lib/eth/send.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "relay.h"

#define SECOND ((uint64_t)1000000)
#define GWEI ((uint64_t)1000000000)

static const char help[] =
    "usage: croft relay --farm N [--farm N]… [OPTION]…\n"
    "Takes signed messages of nodes over HTTP, pays for their transactions, and loses none.\n\n"
    "  --listen ADDRESS:PORT   where nodes reach it (127.0.0.1:8180)\n"
    "  --farm N                serve this farm; repeatable\n"
    "  --open                  serve every farm\n"
    "  --chain URL[,URL…]      chain endpoints ($CROFT_CHAIN)\n"
    "  --chain-id N            ($CROFT_CHAINID)\n"
    "  --registry 0x…          address of the registry ($CROFT_REGISTRY)\n"
    "  --key-file FILE         key that pays: 64 hex digits or a keystore ($CROFT_KEY_FILE)\n"
    "  --state DIR             folder of the journal (./croft-relay)\n"
    "  --replace-after SECONDS raise the fee of what is not mined by then (30)\n"
    "  --max-fee GWEI          never pay more per gas (500)\n"
    "  --per-node N            messages a minute of one node, after ten minutes' worth at once "
    "(60)\n"
    "  --final N|finalized     blocks below the latest that a reorganisation does not reach (2), "
    "or the chain's word\n"
    "  --help, --version\n\n"
    "example: CROFT_KEY_FILE=relay.key croft relay --farm 1 --listen 0.0.0.0:8180 --state "
    "/var/lib/croft-relay\n";

struct options {
    const char *listen, *chain, *chain_id, *registry, *key_file, *state, *replace_after, *max_fee,
        *per_node, *final, *fault;
};

static const char *const step_names[STEP_COUNT] = {
    [STEP_RECEIVED] = "received", [STEP_SIGNED] = "signed", [STEP_SENT] = "sent",
    [STEP_REPLACED] = "replaced", [STEP_MINED] = "mined",   [STEP_FINAL] = "final",
};

void relay_step(struct relay *relay, enum relay_step step)
{
    /* SIGKILL, as a machine's end would be: no handler, no flushing */
    if (relay->fault_count > 0 && relay->fault_step == step && --relay->fault_count == 0)
        raise(SIGKILL);
}

static int wrong(const char *what)
{
    fprintf(stderr, "croft relay: %s\nTry: croft relay --help\n", what);
    return 2;
}

static int parse_number(const char *text, uint64_t max, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || text[0] < '0' || text[0] > '9' || number > max)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

static int parse_final(struct relay *relay, const char *text)
{
    relay->final_depth = RELAY_FINALIZED;
    return strcmp(text, "finalized") == 0 ? 0 : parse_number(text, 1000000, &relay->final_depth);
}

static int parse_fault(struct relay *relay, const char *text)
{
    size_t len = strcspn(text, ":");
    uint64_t count = 1;
    for (int step = 0; step < STEP_COUNT; step++) {
        if (strlen(step_names[step]) == len && memcmp(step_names[step], text, len) == 0) {
            if (text[len] == ':' && parse_number(text + len + 1, 1000, &count) < 0)
                return -EINVAL;
            relay->fault_step = (enum relay_step)step;
            relay->fault_count = (unsigned)count;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_options(int argc, char **argv, struct options *options, struct relay *relay)
{
    enum {
        OPT_LISTEN = 1,
        OPT_FARM,
        OPT_OPEN,
        OPT_CHAIN,
        OPT_CHAIN_ID,
        OPT_REGISTRY,
        OPT_KEY,
        OPT_STATE,
        OPT_REPLACE,
        OPT_MAX_FEE,
        OPT_PER_NODE,
        OPT_FINAL,
        OPT_FAULT,
        OPT_HELP,
        OPT_VERSION
    };
    static const struct option table[] = {
        {"listen", required_argument, NULL, OPT_LISTEN},
        {"farm", required_argument, NULL, OPT_FARM},
        {"open", no_argument, NULL, OPT_OPEN},
        {"chain", required_argument, NULL, OPT_CHAIN},
        {"chain-id", required_argument, NULL, OPT_CHAIN_ID},
        {"registry", required_argument, NULL, OPT_REGISTRY},
        {"key-file", required_argument, NULL, OPT_KEY},
        {"state", required_argument, NULL, OPT_STATE},
        {"replace-after", required_argument, NULL, OPT_REPLACE},
        {"max-fee", required_argument, NULL, OPT_MAX_FEE},
        {"per-node", required_argument, NULL, OPT_PER_NODE},
        {"final", required_argument, NULL, OPT_FINAL},
        {"fault", required_argument, NULL, OPT_FAULT},
        {"help", no_argument, NULL, OPT_HELP},
        {"version", no_argument, NULL, OPT_VERSION},
        {NULL, 0, NULL, 0},
    };
    const char **texts[] = {
        [OPT_LISTEN] = &options->listen,         [OPT_CHAIN] = &options->chain,
        [OPT_CHAIN_ID] = &options->chain_id,     [OPT_REGISTRY] = &options->registry,
        [OPT_KEY] = &options->key_file,          [OPT_STATE] = &options->state,
        [OPT_REPLACE] = &options->replace_after, [OPT_MAX_FEE] = &options->max_fee,
        [OPT_PER_NODE] = &options->per_node,     [OPT_FINAL] = &options->final,
        [OPT_FAULT] = &options->fault,
    };
    int c;
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == OPT_HELP) {
            fputs(help, stdout);
            exit(0);
        } else if (c == OPT_VERSION) {
            printf("croft-relay %s\n", daemon_version());
            exit(0);
        } else if (c == OPT_OPEN) {
            relay->open = true;
        } else if (c == OPT_FARM) {
            if (relay->farm_count == RELAY_FARMS_MAX ||
                parse_number(optarg, (uint64_t)1 << 53, &relay->farms[relay->farm_count++]) < 0)
                return wrong("--farm wants a number");
        } else if (c > 0 && c < OPT_HELP) {
            *texts[c] = optarg;
        } else {
            return wrong("unknown option");
        }
    }
    if (optind != argc)
        return wrong("too many arguments");
    return 0;
}

static char *ask_password(void *data)
{
    (void)data;
    char *typed = isatty(STDIN_FILENO) ? getpass("password of the key file: ") : NULL;
    return typed != NULL ? strdup(typed) : NULL;
}

static int read_contracts(struct relay *relay, struct error *err)
{
    struct abi_decoded decoded;
    int r = eth_check_chain_id(relay->rpc, relay->chain.chain_id, err);
    if (r < 0)
        return r;
    r = eth_rpc_view(relay->rpc, relay->chain.registry, "reservations()", NULL, 0, "latest",
                     "(address)", &decoded, err);
    if (r < 0)
        return r;
    memcpy(relay->chain.reservations, decoded.values[0].word + 12, 20);
    abi_decoded_done(&decoded);
    return 0;
}

static void on_signal(struct loop *loop, int signo, void *data)
{
    (void)signo;
    (void)data;
    loop_exit(loop, 0); /* nothing to finish: everything is in the journal */
}

static int run(struct relay *relay, const struct options *options, const char *host, uint16_t port,
               struct error *err)
{
    char path[4096];
    struct eth_rpc_options rpc = {
        .urls = options->chain, .plain_allowed = true, .timeout_us = 10 * SECOND};
    int r = keystore_read_file(options->key_file, ask_password, NULL, relay->key, err);
    if (r < 0)
        return r;
    (void)ecdsa_address(relay->key, relay->account);
    r = loop_new(&relay->loop);
    if (r == 0)
        r = loop_signal_add(relay->loop, SIGTERM, on_signal, NULL);
    if (r == 0)
        r = loop_signal_add(relay->loop, SIGINT, on_signal, NULL);
    if (r < 0)
        return error_set(err, -r, "relay.no-memory", "", "no event loop: %s", strerror(-r));
    r = eth_rpc_new(relay->loop, &rpc, &relay->rpc, err);
    if (r >= 0)
        r = read_contracts(relay, err);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/journal", options->state);
    r = file_mkdirs(options->state, 0700);
    if (r < 0)
        return error_set(err, -r, "relay.no-journal", "name another folder with --state",
                         "%s cannot be made: %s", options->state, strerror(-r));
    r = journal_open(relay, path, err);
    if (r < 0)
        return r;
    if (relay->entry_count > 0)
        log_info("%zu messages wait in the journal", relay->entry_count);
    r = submit_start(relay);
    if (r >= 0)
        r = serve_start(relay, host, port, err);
    if (r < 0)
        return r;
    char account[ETH_ADDRESS_TEXT];
    eth_address_format(relay->account, account);
    log_info("paying from %s", account);
    notify_ready();
    return loop_run(relay->loop);
}

static int split_listen(const char *text, char *host, size_t size, uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    if (colon == NULL || len == 0 || parse_number(colon + 1, 65535, &port) < 0)
        return -EINVAL;
    if (text[0] == '[' && colon[-1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= size)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    *ret_port = (uint16_t)port;
    return 0;
}

int main(int argc, char **argv)
{
    static struct relay relay;
    struct options options = {
        .listen = "127.0.0.1:8180",
        .chain = getenv("CROFT_CHAIN"),
        .chain_id = getenv("CROFT_CHAINID"),
        .registry = getenv("CROFT_REGISTRY"),
        .key_file = getenv("CROFT_KEY_FILE"),
        .state = "croft-relay",
        .replace_after = "30",
        .max_fee = "500",
        .per_node = "60",
        .final = "2", /* as nodes with croft.trust=rpc */
    };
    struct error err = {.code = ""};
    char host[64];
    uint16_t port;
    uint64_t seconds, gwei;
    int status = parse_options(argc, argv, &options, &relay);
    if (status != 0)
        return status;
    if (relay.farm_count == 0 && !relay.open)
        return wrong("name the farms to serve with --farm, or --open for all");
    if (options.chain == NULL || options.chain_id == NULL || options.registry == NULL ||
        options.key_file == NULL)
        return wrong("chain, chain id, registry and key file are needed");
    if (parse_number(options.chain_id, (uint64_t)1 << 53, &relay.chain.chain_id) < 0 ||
        eth_address_parse(options.registry, relay.chain.registry) < 0 ||
        split_listen(options.listen, host, sizeof(host), &port) < 0 ||
        parse_number(options.replace_after, 86400, &seconds) < 0 ||
        parse_number(options.max_fee, 1000000, &gwei) < 0 ||
        parse_number(options.per_node, 60000, &relay.per_node) < 0 || relay.per_node == 0 ||
        parse_final(&relay, options.final) < 0 ||
        (options.fault != NULL && parse_fault(&relay, options.fault) < 0))
        return wrong("an option has a value that does not parse");
    relay.replace_after_us = seconds * SECOND;
    relay.max_fee_cap = gwei * GWEI;
    int r = run(&relay, &options, host, port, &err);
    crypto_wipe(relay.key, sizeof(relay.key));
    if (r < 0) {
        if (!error_is_set(&err))
            error_set(&err, -r, "relay.failed", "", "%s", strerror(-r));
        log_error(&err, "croft relay");
        return 1;
    }
    return r;
}
