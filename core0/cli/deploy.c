/*
 * deploy.c - croft deploy: from a compose file to a running reservation.
 *
 * Read, show what it will do, seal to the node's key, write a large one to the hub first, propose (or update: the same project on
 * the same node), wait until the node says Active, and say where it answers.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/blob.h"
#include "cli/codes.h"
#include "cli/compose.h"
#include "cli/deploy_plan.h"
#include "cli/known.h"
#include "cli/node.h"
#include "cli/reservation.h"
#include "cli/tables.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/hpke.h"
#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/kv_name.h"

#define SALT_SIZE 32
#define SEALED_INLINE_MAX 1024
#define WAIT_DEFAULT_S 600
#define DEPLOY_BY_S                                                                                \
    UINT64_C(3600) /* how long a node may take before anyone may expire the proposal */
#define PROPOSAL                                                                                   \
    "(uint64,uint32,uint32,bytes32,bytes32,bytes,bytes32,bytes32,string[],uint64,uint64,uint32,"   \
    "bool)"

struct deploy {
    struct cli *cli;
    struct grid grid;
    struct node_record node;
    struct compose_result compose;
    struct buffer plain; /* salt ‖ specification */
    struct buffer sealed;
    uint64_t id; /* 0: a new reservation */
    uint32_t revision;
    uint8_t packed[32], content_hash[32], sealed_hash[32], blob[32];
    const char *hubs[3]; /* text of the command line or of compose.doc */
    size_t hub_count;
};

/* ---- reading ---- */

static yyjson_doc *read_json_beside(const char *path, const char *name, struct error *err)
{
    char full[PATH_MAX];
    cleanup_free char *text = NULL;
    size_t len;
    const char *slash = strrchr(path, '/');

    snprintf(full, sizeof(full), "%.*s%s", slash != NULL ? (int)(slash - path + 1) : 0, path, name);
    if (file_read(full, COMPOSE_FILE_MAX, &text, &len) < 0) {
        return NULL;
    }
    return json_parse(text, len, COMPOSE_FILE_MAX, "deploy.bad-lock", err);
}

static int read_dotenv(const char *path, struct compose_environment *environment)
{
    char full[PATH_MAX];
    cleanup_free char *text = NULL;
    size_t len;
    const char *slash = strrchr(path, '/');
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    if (doc == NULL) {
        return -ENOMEM;
    }
    snprintf(full, sizeof(full), "%.*s.env", slash != NULL ? (int)(slash - path + 1) : 0, path);
    yyjson_mut_doc_set_root(doc, yyjson_mut_obj(doc));
    int ret = file_read(full, COMPOSE_FILE_MAX, &text, &len) < 0
                  ? 0
                  : compose_env_file(text, len, doc, yyjson_mut_doc_get_root(doc));
    environment->dotenv = yyjson_mut_doc_imut_copy(doc, NULL);
    yyjson_mut_doc_free(doc);
    return ret;
}

static int read_compose(struct deploy *deploy, struct error *err)
{
    const char *path = deploy->cli->args[0];
    struct grid_resources capacity;
    struct compose_options options = {.path = path,
                                      .project = cli_option(deploy->cli, "--project-name"),
                                      .tenant_key = deploy->grid.key};
    cleanup_free char *text = NULL;
    size_t len;
    yyjson_mut_doc *file = NULL;

    int ret = file_read(path, COMPOSE_FILE_MAX, &text, &len);
    if (ret < 0) {
        return error_set(err, -ret, "deploy.no-file", "", "%s cannot be read: %s", path,
                         strerror(-ret));
    }
    if (read_dotenv(path, &options.environment) < 0) {
        return error_set(err, EINVAL, "deploy.bad-compose", "",
                         ".env has a line without NAME=value");
    }
    grid_resources_unpack(deploy->node.capacity, &capacity);
    options.ssd = capacity.ssd > 0;
    yyjson_doc *lock = read_json_beside(path, "croft.lock", err);
    options.lock = yyjson_doc_get_root(lock);
    ret = error_is_set(err) ? -EINVAL : compose_load(text, len, &options.environment, &file, err);
    if (ret == 0) {
        ret = compose_convert(yyjson_mut_doc_get_root(file), &options, &deploy->compose, err);
    }
    yyjson_mut_doc_free(file);
    yyjson_doc_free(lock);
    yyjson_doc_free(options.environment.dotenv);
    return ret;
}

/* ---- what it will do ---- */

/* A member's text; "" where there is none, which the converter does not let happen. */
static const char *text_of(yyjson_mut_val *value)
{
    const char *text = yyjson_mut_get_str(value);
    return text != NULL ? text : "";
}

static int check_fits(const struct deploy *deploy, struct error *err)
{
    static const struct {
        const char *code, *name;
        size_t offset;
    } kinds[] = {
        {"provision.not-enough-cores", "cores", offsetof(struct grid_resources, milli_cores)},
        {"provision.not-enough-memory", "memory", offsetof(struct grid_resources, memory)},
        {"provision.not-enough-ssd", "ssd", offsetof(struct grid_resources, ssd)},
        {"provision.not-enough-hdd", "hdd", offsetof(struct grid_resources, hdd)},
    };
    struct grid_resources capacity, used;

    grid_resources_unpack(deploy->node.capacity, &capacity);
    grid_resources_unpack(deploy->node.reserved, &used);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        uint64_t have, taken, want;
        memcpy(&have, (const char *)&capacity + kinds[i].offset, sizeof(have));
        memcpy(&taken, (const char *)&used + kinds[i].offset, sizeof(taken));
        memcpy(&want, (const char *)&deploy->compose.resources + kinds[i].offset, sizeof(want));
        if (want > have) {
            bool cores = kinds[i].offset == offsetof(struct grid_resources, milli_cores);
            return error_set(err, ENOSPC, kinds[i].code, "choose another node: croft node list",
                             "node %" PRIu64 " has %s %s, the project wants %s",
                             deploy->node.number, cores ? cli_cores(have) : cli_bytes(have),
                             kinds[i].name, cores ? cli_cores(want) : cli_bytes(want));
        }
    }
    return 0;
}

/* ---- sealing ---- */

static int seal_info(const struct deploy *deploy, struct buffer *out)
{
    struct abi_value values[6] = {
        abi_uint(deploy->grid.chain_id),   abi_address(deploy->grid.reservations),
        abi_address(deploy->grid.account), abi_uint(deploy->node.number),
        abi_uint(deploy->node.key_epoch),  abi_uint(deploy->revision),
    };
    int ret = buffer_append_str(out, "croft-reservation-v1");
    return ret < 0 ? ret
                   : abi_encode("(uint256,address,address,uint64,uint32,uint32)", values, 6, out);
}

static int seal(struct deploy *deploy, struct error *err)
{
    uint8_t salt[SALT_SIZE];
    struct buffer info;
    char *text = yyjson_mut_write(deploy->compose.doc, 0, NULL);
    yyjson_doc *doc = text != NULL ? yyjson_read(text, strlen(text), 0) : NULL;
    int ret = -ENOMEM;

    buffer_init(&info, 0);
    crypto_random(salt, sizeof(salt));
    if (doc != NULL) {
        ret = buffer_append(&deploy->plain, salt, sizeof(salt));
    }
    if (ret == 0) {
        ret = json_canonical(yyjson_doc_get_root(doc), &deploy->plain);
    }
    if (ret == 0) {
        ret = seal_info(deploy, &info);
    }
    if (ret == 0) {
        ret = hpke_seal(deploy->node.sealing_key, info.data, info.len, NULL, 0, deploy->plain.data,
                        deploy->plain.len, &deploy->sealed);
    }
    buffer_done(&info);
    yyjson_doc_free(doc);
    free(text);
    if (ret < 0) {
        return error_set(err, -ret, "deploy.cannot-seal", "",
                         "the specification cannot be sealed: %s", strerror(-ret));
    }
    keccak256(deploy->plain.data, deploy->plain.len, deploy->content_hash);
    keccak256(deploy->sealed.data, deploy->sealed.len, deploy->sealed_hash);
    sha256(deploy->sealed.data, deploy->sealed.len, deploy->blob);
    grid_resources_pack(&deploy->compose.resources, deploy->packed);
    return 0;
}

/* ---- blob ---- */

/* Hubs of the images serve the blob too when --blobs names a folder: it is one of theirs. */
static int place_blob(struct deploy *deploy, struct error *err)
{
    const char *to = cli_option(deploy->cli, "--blobs");
    yyjson_mut_val *images =
        yyjson_mut_obj_get(yyjson_mut_doc_get_root(deploy->compose.doc), "images");
    size_t i, max, h, hub_max;
    yyjson_mut_val *name, *image, *hub;

    if (to == NULL) {
        return error_set(
            err, EINVAL, "deploy.blob-needed",
            "--blobs DIR of a hub, or --blobs URL that takes PUT",
            "the sealed specification has %zu bytes, more than travel in a transaction",
            deploy->sealed.len);
    }
    int ret =
        blob_put(deploy->grid.loop, to, deploy->sealed.data, deploy->sealed.len, deploy->blob, err);
    if (ret < 0) {
        return ret;
    }
    if (strncmp(to, "http://", 7) == 0 || strncmp(to, "https://", 8) == 0) {
        deploy->hubs[deploy->hub_count++] = to;
    }
    yyjson_mut_obj_foreach(images, i, max, name, image)
    {
        yyjson_mut_arr_foreach(yyjson_mut_obj_get(image, "hubs"), h, hub_max, hub)
        {
            bool known = deploy->hub_count == 3;
            for (size_t k = 0; k < deploy->hub_count; k++) {
                known = known || strcmp(deploy->hubs[k], yyjson_mut_get_str(hub)) == 0;
            }
            if (!known) {
                deploy->hubs[deploy->hub_count++] = yyjson_mut_get_str(hub);
            }
        }
    }
    for (size_t k = 0; k < 3; k++) {
        const char *more = cli_option_at(deploy->cli, "--hub", k);
        if (more != NULL && deploy->hub_count < 3) {
            deploy->hubs[deploy->hub_count++] = more;
        }
    }
    if (deploy->hub_count == 0) {
        return error_set(err, EINVAL, "deploy.no-hub",
                         "give --hub URL: where the node finds the folder of --blobs",
                         "no hub address is known that serves the blob");
    }
    return 0;
}

/* ---- the transaction ---- */

/* Disk is kept reserved for named volumes and namespaces only: without any, all is free when the reservation ends. */
static uint64_t keep_seconds(const struct deploy *deploy)
{
    yyjson_mut_val *root = yyjson_mut_doc_get_root(deploy->compose.doc);
    bool named = yyjson_mut_obj_size(yyjson_mut_obj_get(root, "volumes")) > 0 ||
                 yyjson_mut_obj_size(yyjson_mut_obj_get(root, "kv")) > 0;
    return named ? (deploy->compose.keep_ms + 999) / 1000 : 0;
}

static int propose(struct deploy *deploy, struct error *err)
{
    static const uint8_t zero[32];
    bool by_blob = deploy->sealed.len > SEALED_INLINE_MAX;
    struct abi_value hubs[3];
    struct eth_receipt receipt;
    uint64_t now = (uint64_t)time(NULL);

    if (by_blob) {
        int ret = place_blob(deploy, err);
        if (ret < 0) {
            return ret;
        }
    }
    for (size_t i = 0; i < deploy->hub_count; i++) {
        hubs[i] = abi_string(deploy->hubs[i]);
    }
    struct abi_value proposal[13] = {
        abi_uint(deploy->node.number),
        abi_uint(deploy->node.key_epoch),
        abi_uint(deploy->revision),
        abi_word(deploy->packed),
        abi_word(deploy->content_hash),
        abi_bytes(deploy->sealed.data, by_blob ? 0 : deploy->sealed.len),
        abi_word(deploy->sealed_hash),
        abi_word(by_blob ? deploy->blob : zero),
        abi_items(hubs, deploy->hub_count),
        abi_uint(now + DEPLOY_BY_S),
        abi_uint(now + DEPLOY_BY_S * 2),
        abi_uint(keep_seconds(deploy)),
        abi_bool(deploy->compose.replace),
    };
    struct abi_value arguments[2] = {abi_uint(deploy->id), abi_items(proposal, 13)};
    int ret = deploy->id != 0
                  ? grid_send(&deploy->grid, deploy->grid.reservations,
                              "update(uint64," PROPOSAL ")", arguments, 2, &receipt, err)
                  : grid_send(&deploy->grid, deploy->grid.reservations, "propose(" PROPOSAL ")",
                              &arguments[1], 1, &receipt, err);
    if (ret < 0) {
        return ret;
    }
    const struct eth_log *log = grid_find_log(
        &receipt, "Proposed(uint64,uint64,address,uint32,uint32,bytes32,bytes32,bytes32,bytes32,"
                  "uint64,uint64,uint32,bool,bytes,string[])");
    deploy->id = log != NULL && log->topic_count > 2 ? grid_topic_uint(log, 2) : 0;
    eth_receipt_done(&receipt);
    return deploy->id != 0 ? 0
                           : error_set(err, EBADMSG, "chain.bad-answer", "",
                                       "the transaction shows no proposal");
}

/* The reservation that already holds this project on this node, if it still runs. */
static int find_existing(struct deploy *deploy, struct error *err)
{
    struct reservation reservation;
    uint64_t id;
    struct error ignored = {0};

    int ret = cli_option_uint(deploy->cli, "--update", 1, UINT64_MAX, 0, &id, err);
    if (ret < 0) {
        return ret;
    }
    bool asked = id != 0;
    deploy->revision = 1;
    if (!asked) {
        id = known_find(&deploy->grid, deploy->node.number, deploy->compose.project);
    }
    if (id == 0) {
        return 0;
    }
    ret = reservation_read(&deploy->grid, id, &reservation, asked ? err : &ignored);
    if (ret < 0) {
        return asked ? ret : 0;
    }
    bool ours = memcmp(reservation.tenant, deploy->grid.account, 20) == 0 &&
                reservation.node == deploy->node.number;
    if (asked && (!ours || reservation.current == 0)) {
        return error_set(err, EINVAL, "reservation.wrong-state", "",
                         "reservation %" PRIu64 " is over, another tenant's or on another node",
                         id);
    }
    if (ours && reservation.current != 0) {
        deploy->id = id;
        deploy->revision = reservation.last + 1;
    }
    return 0;
}

/* ---- waiting and telling ---- */

static void tell_state(unsigned state, void *data)
{
    struct deploy *deploy = data;
    yyjson_mut_val *services =
        yyjson_mut_obj_get(yyjson_mut_doc_get_root(deploy->compose.doc), "services");
    size_t i, max;
    yyjson_mut_val *name, *service;

    yyjson_mut_obj_foreach(services, i, max, name, service)
    {
        cli_progress(deploy->cli, "  %-16s %s", text_of(name), reservation_state_name(state));
        cli_progress_end(deploy->cli);
    }
}

static void namespace_of(const struct deploy *deploy, const char *name,
                         char ret_name[KV_NAME_LEN + 1])
{
    char key[KV_KEY_SIZE];

    kv_key(deploy->grid.account, deploy->compose.project, name, key);
    kv_name(key, ret_name);
}

static void add_namespaces(const struct deploy *deploy, yyjson_mut_doc *doc, yyjson_mut_val *root,
                           const char *address)
{
    yyjson_mut_val *spaces = yyjson_mut_obj_get(yyjson_mut_doc_get_root(deploy->compose.doc), "kv");
    yyjson_mut_val *name, *space;
    size_t i, max;

    if (yyjson_mut_obj_size(spaces) == 0) {
        return;
    }
    yyjson_mut_val *list = yyjson_mut_obj_add_obj(doc, root, "kv");
    yyjson_mut_obj_foreach(spaces, i, max, name, space)
    {
        yyjson_mut_val *entry = yyjson_mut_obj(doc);
        yyjson_mut_val *port = yyjson_mut_obj_get(space, "published");
        char namespace[KV_NAME_LEN + 1];

        namespace_of(deploy, text_of(name), namespace);
        yyjson_mut_obj_add(list, yyjson_mut_strcpy(doc, yyjson_mut_get_str(name)), entry);
        yyjson_mut_obj_add_strcpy(doc, entry, "namespace", namespace);
        yyjson_mut_obj_add_strcpy(doc, entry, "address", address);
        if (port != NULL) {
            yyjson_mut_obj_add_uint(doc, entry, "port", yyjson_mut_get_uint(port));
        }
    }
}

static yyjson_mut_doc *result_json(const struct deploy *deploy, const char *state)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = grid_json(&root);
    const char *address = deploy->node.address_count > 0 ? deploy->node.addresses[0] : "";
    size_t i, max, p, port_max;
    yyjson_mut_val *name, *service, *port;

    yyjson_mut_obj_add_uint(doc, root, "reservation", deploy->id);
    yyjson_mut_obj_add_uint(doc, root, "revision", deploy->revision);
    yyjson_mut_obj_add_strcpy(doc, root, "state", state);
    yyjson_mut_val *services = yyjson_mut_obj_add_obj(doc, root, "services");
    yyjson_mut_obj_foreach(
        yyjson_mut_obj_get(yyjson_mut_doc_get_root(deploy->compose.doc), "services"), i, max, name,
        service)
    {
        yyjson_mut_val *entry = yyjson_mut_obj(doc);
        yyjson_mut_obj_add(services, yyjson_mut_strcpy(doc, yyjson_mut_get_str(name)), entry);
        yyjson_mut_obj_add_strcpy(doc, entry, "address", address);
        yyjson_mut_val *ports = yyjson_mut_obj_add_arr(doc, entry, "ports");
        yyjson_mut_arr_foreach(yyjson_mut_obj_get(service, "ports"), p, port_max, port)
        {
            yyjson_mut_arr_append(ports, yyjson_mut_val_mut_copy(doc, port));
        }
    }
    add_namespaces(deploy, doc, root, address);
    return doc;
}

static void print_addresses(const struct deploy *deploy)
{
    const char *address = deploy->node.address_count > 0 ? deploy->node.addresses[0] : "?";
    size_t i, max, p, port_max;
    yyjson_mut_val *name, *service, *space, *port;

    printf("reservation %" PRIu64 " runs\n", deploy->id);
    yyjson_mut_obj_foreach(
        yyjson_mut_obj_get(yyjson_mut_doc_get_root(deploy->compose.doc), "services"), i, max, name,
        service)
    {
        yyjson_mut_arr_foreach(yyjson_mut_obj_get(service, "ports"), p, port_max, port)
        {
            printf("%s answers at %s:%" PRIu64 "/%s\n", text_of(name), address,
                   yyjson_mut_get_uint(yyjson_mut_obj_get(port, "published")),
                   text_of(yyjson_mut_obj_get(port, "protocol")));
        }
    }
    yyjson_mut_obj_foreach(yyjson_mut_obj_get(yyjson_mut_doc_get_root(deploy->compose.doc), "kv"),
                           i, max, name, space)
    {
        char namespace[KV_NAME_LEN + 1];

        namespace_of(deploy, text_of(name), namespace);
        port = yyjson_mut_obj_get(space, "published");
        printf("%s is the namespace %s", text_of(name), namespace);
        if (port != NULL) {
            printf(" at %s:%" PRIu64, address, yyjson_mut_get_uint(port));
        }
        printf("\n");
    }
}

static int wait_active(struct deploy *deploy, struct error *err)
{
    uint64_t timeout;
    unsigned state;
    char reason[33];

    int ret = cli_option_uint(deploy->cli, "--timeout", 1, 86400, WAIT_DEFAULT_S, &timeout, err);
    if (ret == 0) {
        ret = reservation_wait(&deploy->grid, deploy->id, deploy->revision, timeout, tell_state,
                               deploy, &state, err);
    }
    if (ret < 0) {
        return ret;
    }
    if (state == RESERVATION_ACTIVE) {
        if (deploy->cli->json) {
            return cli_print_json(result_json(deploy, reservation_state_name(state)));
        }
        print_addresses(deploy);
        return 0;
    }
    ret = reservation_reason(&deploy->grid, deploy->id, deploy->revision, reason, err);
    if (ret < 0) {
        return ret;
    }
    const struct code *known = code_find(reason);
    return error_set(err, ECANCELED, reason[0] != '\0' ? reason : "deploy.refused",
                     known != NULL ? known->hint : "croft reservation show has the whole history",
                     "reservation %" PRIu64 " is %s: %s", deploy->id, reservation_state_name(state),
                     known != NULL       ? known->message
                     : reason[0] != '\0' ? reason
                                         : "no reason was given");
}

static int run(struct deploy *deploy, struct error *err)
{
    uint64_t number;
    const char *node = cli_option(deploy->cli, "--node");

    if (node == NULL) {
        return error_set(err, EINVAL, "cli.wrong-use", "croft node list shows the nodes",
                         "deploy wants --node N");
    }
    int ret = cli_option_uint(deploy->cli, "--node", 1, UINT64_MAX, 0, &number, err);
    if (ret < 0 || (ret = grid_open(deploy->cli, GRID_KEY, &deploy->grid, err)) < 0 ||
        (ret = node_read(&deploy->grid, number, &deploy->node, err)) < 0 ||
        (ret = read_compose(deploy, err)) < 0 || (ret = check_fits(deploy, err)) < 0 ||
        (ret = find_existing(deploy, err)) < 0) {
        return ret;
    }
    fprintf(stderr, "%s %s on node %" PRIu64 " (farm %" PRIu64 ")\n",
            deploy->id != 0 ? "Update" : "Deploy", deploy->compose.project, deploy->node.number,
            deploy->node.farm);
    deploy_plan_print(&deploy->compose, stderr);
    if (cli_flag(deploy->cli, "--dry-run")) {
        return deploy->cli->json ? cli_print_json(result_json(deploy, "Planned")) : 0;
    }
    if ((ret = seal(deploy, err)) < 0 || (ret = propose(deploy, err)) < 0) {
        return ret;
    }
    known_put(&deploy->grid, deploy->node.number, deploy->compose.project, deploy->id);
    if (cli_flag(deploy->cli, "--no-wait")) {
        return cli_print_result(deploy->cli, result_json(deploy, "Proposed"));
    }
    return wait_active(deploy, err);
}

static int deploy(struct cli *cli, struct error *err)
{
    struct deploy work = {.cli = cli};

    buffer_init(&work.plain, 0);
    buffer_init(&work.sealed, 0);
    int ret = run(&work, err);
    if (work.plain.data != NULL) {
        crypto_wipe(work.plain.data, work.plain.len);
    }
    buffer_done(&work.plain);
    buffer_done(&work.sealed);
    yyjson_mut_doc_free(work.compose.doc);
    if (work.grid.loop != NULL) {
        grid_close(&work.grid);
    }
    return ret;
}

static const struct verb_option options[] = {
    {"--node", "N", "the node that is to run it"},
    {"--blobs", "URL|DIR",
     "where a sealed specification of more than 1,024 bytes is written first"},
    {"--hub", "URL", "a hub that serves the blobs; may be repeated"},
    {"--project-name", "NAME", "instead of the file's name: or its folder's"},
    {"--update", "ID", "update this reservation, whatever this machine remembers"},
    {"--timeout", "SECONDS", "how long to wait until it runs (600)"},
    {"--no-wait", NULL, "propose and leave"},
    {"--dry-run", NULL, "only show what it would do"},
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"", "deploy", "FILE", "run a compose file on a node; again: an update",
     "croft deploy compose.yml --node 1 --blobs /srv/hub", options, 1, 1, false, deploy},
};

const struct verb_table verbs_deploy = {verbs, sizeof(verbs) / sizeof(verbs[0])};
