/*
 * service.c - org.croft.node: what other daemons may ask. Typed requests only: nobody gets bytes of his own signed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gen/interfaces.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/hpke.h"
#include "lib/crypto/text.h"
#include "lib/eth/abi.h"
#include "lib/eth/address.h"
#include "lib/json.h"
#include "lib/log.h"
#include "node.h"
#include "node/server_certificate.h"

#define SEALED_MAX ((size_t)4 << 20)
#define NEEDED_MAX 4096 /* epochs: as many as provd has revisions */

static void reply(struct varlink_call *call, yyjson_mut_doc *doc)
{
    varlink_call_reply(call, doc);
}

static void add_optional(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                         uint64_t value)
{
    if (value != 0)
        yyjson_mut_obj_add_uint(doc, object, name, value);
    else
        yyjson_mut_obj_add_null(doc, object, name);
}

static void add_address(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, bool there,
                        const uint8_t address[20])
{
    char text[ETH_ADDRESS_TEXT];
    eth_address_format(address, text);
    if (there)
        yyjson_mut_obj_add_strcpy(doc, object, name, text);
    else
        yyjson_mut_obj_add_null(doc, object, name);
}

static void get_status(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    struct node *node = data;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *keys = yyjson_mut_arr(doc);
    char identity[ETH_ADDRESS_TEXT] = "";
    yyjson_mut_doc_set_root(doc, root);
    if (node->has_identity)
        eth_address_format(node->identity.address, identity);
    yyjson_mut_obj_add_str(doc, root, "state", node_state_name(node->state));
    yyjson_mut_obj_add_strcpy(doc, root, "detail",
                              node->error.code[0] != '\0' ? node->error.message : node->detail);
    if (node->error.code[0] != '\0')
        yyjson_mut_obj_add_strcpy(doc, root, "code", node->error.code);
    add_optional(doc, root, "farm", node->boot.farm);
    add_optional(doc, root, "node", node->record.id);
    yyjson_mut_obj_add_strcpy(doc, root, "identity", identity);
    add_address(doc, root, "registry", node->boot.has_registry, node->boot.registry);
    add_address(doc, root, "reservations", node->chain_checked, node->chain.reservations);
    yyjson_mut_obj_add_null(doc, root,
                            "farmer"); /* provd proves it; who reads it here gets no guess */
    add_optional(doc, root, "chainId", node->boot.chain_id);
    yyjson_mut_obj_add_bool(doc, root, "ephemeral", node->ephemeral);
    /* pools of another node, which are left alone */
    yyjson_mut_obj_add_strcpy(doc, root, "foreign", node->identity.foreign);
    for (size_t i = 0; node->has_identity && i < node->identity.key_count; i++) {
        char text[65];
        yyjson_mut_val *key = yyjson_mut_arr_add_obj(doc, keys);
        hex_encode(node->identity.keys[i].public_key, 32, text);
        yyjson_mut_obj_add_uint(doc, key, "epoch", node->identity.keys[i].epoch);
        yyjson_mut_obj_add_strcpy(doc, key, "publicKey", text);
        yyjson_mut_obj_add_sint(doc, key, "created", node->identity.keys[i].created);
    }
    yyjson_mut_obj_add_val(doc, root, "keys", keys);
    uint64_t last = queue_last_nonce(&node->queue);
    add_optional(doc, root, "nonce",
                 node->has_record ? (last > node->record.nonce ? last : node->record.nonce) + 1
                                  : 0);
    yyjson_mut_obj_add_uint(doc, root, "pending", queue_waiting(&node->queue));
    reply(call, doc);
}

static void fail(struct varlink_call *call, const char *code, const char *message, const char *hint)
{
    struct error err = {.code = ""};
    error_set(&err, EPERM, code, hint, "%s", message);
    varlink_call_fail(call, &err);
}

static bool ready(struct varlink_call *call, const struct node *node)
{
    if (node->record.id != 0 && node->chain_checked && node->state != NODE_STOPPED &&
        node->state != NODE_RETIRED)
        return true;
    fail(call, "node.not-registered", "the node is not registered with a farm", "");
    return false;
}

/* info = "croft-reservation-v1" ‖ abi.encode(chainId, reservations, tenant, node, keyEpoch, revision) */
static int build_info(const struct node *node, const uint8_t tenant[20], uint32_t epoch,
                      uint32_t revision, struct buffer *out)
{
    struct abi_value values[] = {abi_uint(node->chain.chain_id),
                                 abi_address(node->chain.reservations),
                                 abi_address(tenant),
                                 abi_uint(node->record.id),
                                 abi_uint(epoch),
                                 abi_uint(revision)};
    int r = buffer_append_str(out, "croft-reservation-v1");
    return r < 0 ? r : abi_encode("(uint256,address,address,uint64,uint32,uint32)", values, 6, out);
}

static void open_sealed(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct node *node = data;
    struct {
        const char *tenant, *sealed;
        uint64_t epoch, revision;
    } in = {0};
    static const struct json_field fields[] = {
        {"tenant", JSON_STRING, offsetof(__typeof__(in), tenant), true, 0, 42},
        {"keyEpoch", JSON_UINT, offsetof(__typeof__(in), epoch), true, 1, UINT32_MAX},
        {"revision", JSON_UINT, offsetof(__typeof__(in), revision), true, 1, UINT32_MAX},
        {"sealed", JSON_STRING, offsetof(__typeof__(in), sealed), true, 0, SEALED_MAX / 3 * 4 + 4},
    };
    struct error err = {.code = ""};
    uint8_t tenant[20], *sealed = NULL;
    size_t sealed_len;
    struct buffer info, plain;
    if (json_read(params, fields, 4, 0, &in, "node.bad-request", &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    if (!ready(call, node))
        return;
    if (eth_address_parse(in.tenant, tenant) < 0) {
        varlink_call_invalid(call, "tenant");
        return;
    }
    if (base64_decode(in.sealed, SEALED_MAX, &sealed, &sealed_len) < 0) {
        varlink_call_invalid(call, "sealed");
        return;
    }
    const struct sealing_key *key = identity_key(&node->identity, (uint32_t)in.epoch);
    buffer_init(&info, 1024);
    buffer_init(&plain, SEALED_MAX);
    int r = key == NULL
                ? -ENOKEY
                : build_info(node, tenant, (uint32_t)in.epoch, (uint32_t)in.revision, &info);
    if (r >= 0)
        r = hpke_open(key->private_key, info.data, info.len, NULL, 0, sealed, sealed_len, &plain);
    if (r < 0) {
        fail(call, "node.cannot-open",
             r == -ENOKEY
                 ? "the node has no key of this epoch (any more)"
                 : "the specification was not sealed to this node, tenant, epoch and revision",
             "deploy it again with a current croft");
    } else {
        char *text = base64_encode(plain.data, plain.len);
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strcpy(doc, root, "plaintext", text != NULL ? text : "");
        if (text != NULL)
            crypto_wipe(text, strlen(text));
        free(text);
        reply(call, doc);
    }
    if (plain.data != NULL)
        crypto_wipe(plain.data, plain.len);
    buffer_done(&plain);
    buffer_done(&info);
    free(sealed);
}

static void submit(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct node *node = data;
    struct {
        uint64_t reservation, revision, state, round;
        const char *reason;
    } in = {.reason = ""};
    static const struct json_field fields[] = {
        {"reservation", JSON_UINT, offsetof(__typeof__(in), reservation), true, 1, 0},
        {"revision", JSON_UINT, offsetof(__typeof__(in), revision), true, 1, UINT32_MAX},
        {"state", JSON_UINT, offsetof(__typeof__(in), state), true, 4, 11},
        {"reason", JSON_STRING, offsetof(__typeof__(in), reason), true, 0, ERROR_CODE_MAX},
        {"round", JSON_UINT, offsetof(__typeof__(in), round), false, 0, UINT32_MAX},
    };
    struct error err = {.code = ""};
    struct grid_message message;
    uint8_t reason[32];
    if (json_read(params, fields, 5, 0, &in, "node.bad-request", &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    if (in.state != 4 && in.state != 5 && in.state != 11) {
        varlink_call_invalid(call, "state");
        return;
    }
    if (!ready(call, node))
        return;
    uint64_t nonce = queue_find_result(&node->queue, in.reservation, (uint32_t)in.revision,
                                       (unsigned)in.state, (uint32_t)in.round);
    if (nonce == 0) {
        grid_message_init(&message, GRID_RESULT);
        eth_code_to_word(in.reason, reason);
        grid_message_set_uint(&message, "node", node->record.id);
        grid_message_set_uint(&message, "reservation", in.reservation);
        grid_message_set_uint(&message, "revision", in.revision);
        grid_message_set_uint(&message, "state", in.state);
        grid_message_set_word(&message, "reason", reason);
        if (say_enqueue(node, &message, (uint32_t)in.round, &nonce, &err) < 0) {
            varlink_call_fail(call, &err);
            return;
        }
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "nonce", nonce);
    reply(call, doc);
}

struct needed {
    uint64_t current;
    yyjson_val *epochs;
};

static bool key_needed(const struct sealing_key *key, const void *data)
{
    const struct needed *needed = data;
    size_t i, max;
    yyjson_val *epoch;
    if (key->epoch >= needed->current)
        return true;
    yyjson_arr_foreach(needed->epochs, i, max, epoch)
    {
        if (yyjson_get_uint(epoch) == key->epoch)
            return true;
    }
    return false;
}

static void keep_keys(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct node *node = data;
    struct needed in = {0};
    static const struct json_field fields[] = {
        {"current", JSON_UINT, offsetof(struct needed, current), true, 1, UINT32_MAX},
        {"epochs", JSON_ARRAY, offsetof(struct needed, epochs), true, 0, NEEDED_MAX},
    };
    struct error err = {.code = ""};
    size_t i, max;
    yyjson_val *epoch;
    if (json_read(params, fields, 2, 0, &in, "node.bad-request", &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_arr_foreach(in.epochs, i, max, epoch)
    {
        /* A word that does not read must not be taken for a key that nobody needs. */
        if (!yyjson_is_uint(epoch)) {
            varlink_call_invalid(call, "epochs");
            return;
        }
    }
    if (!ready(call, node))
        return;
    int r = identity_forget(node->pools, &node->identity, key_needed, &in, &err);
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    if (r > 0)
        log_info("%d old sealing keys destroyed", r);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "destroyed", (uint64_t)r);
    reply(call, doc);
}

static void rotate_key(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct node *node = data;
    struct error err = {.code = ""};
    uint32_t epoch;
    (void)params;
    if (!ready(call, node))
        return;
    if (chain_rotate_key(node, &epoch, &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "epoch", epoch);
    reply(call, doc);
}

static void get_pending(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    struct node *node = data;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *reports = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    for (size_t i = 0; i < node->queue.count; i++) {
        const struct grid_message *message = &node->queue.items[i].message;
        bool result = message->kind == GRID_RESULT;
        if (node->queue.items[i].seen)
            continue;
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, reports);
        yyjson_mut_obj_add_uint(doc, item, "nonce", node->queue.items[i].nonce);
        yyjson_mut_obj_add_str(doc, item, "kind", grid_kinds[message->kind].name);
        add_optional(doc, item, "reservation",
                     result ? grid_message_uint(message, "reservation") : 0);
        add_optional(doc, item, "revision", result ? grid_message_uint(message, "revision") : 0);
        add_optional(doc, item, "state", result ? grid_message_uint(message, "state") : 0);
    }
    yyjson_mut_obj_add_val(doc, root, "reports", reports);
    reply(call, doc);
}

static void get_tls_key(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    struct node *node = data;
    uint8_t key[32];
    char text[65];
    if (!node->has_identity) {
        fail(call, "node.not-registered", "the node has no identity yet", "try again");
        return;
    }
    identity_tls_key(&node->identity, key);
    hex_encode(key, sizeof(key), text);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "key", text);
    crypto_wipe(key, sizeof(key));
    crypto_wipe(text, sizeof(text));
    reply(call, doc);
}

static void issue_server_certificate(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    struct node *node = data;
    struct server_certificate made;
    uint8_t key[32];
    if (!node->has_identity) {
        fail(call, "node.not-registered", "the node has no identity yet", "try again");
        return;
    }
    identity_tls_key(&node->identity, key);
    int r = server_certificate_issue(key, &made);
    crypto_wipe(key, sizeof(key));
    char *certificate = r == 0 ? base64_encode(made.certificate, made.certificate_len) : NULL;
    char *secret = r == 0 ? base64_encode(made.key, made.key_len) : NULL;
    crypto_wipe(&made, sizeof(made));
    if (certificate == NULL || secret == NULL) {
        fail(call, "node.failed", "no certificate can be made", "try again");
    } else {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strcpy(doc, root, "certificate", certificate);
        yyjson_mut_obj_add_strcpy(doc, root, "key", secret);
        crypto_wipe(secret, strlen(secret));
        reply(call, doc);
    }
    free(certificate);
    free(secret);
}

/* Only provd opens and submits, only gated serves with the key of the listener; the user ids are those of the image's passwd file. */
static const uid_t only_provd[] = {106, VARLINK_UID_END};
static const uid_t only_root[] = {VARLINK_UID_END};
static const uid_t only_gated[] = {108, VARLINK_UID_END};
static const uid_t watchers[] = {106, 108, VARLINK_UID_END};

static const struct varlink_method methods[] = {
    {"org.croft.node.GetStatus", get_status, watchers},
    {"org.croft.node.Open", open_sealed, only_provd},
    {"org.croft.node.Submit", submit, only_provd},
    {"org.croft.node.KeepKeys", keep_keys, only_provd},
    {"org.croft.node.RotateKey", rotate_key, only_root},
    {"org.croft.node.GetPending", get_pending, only_provd},
    {"org.croft.node.GetTlsKey", get_tls_key, only_gated},
    {"org.croft.node.IssueServerCertificate", issue_server_certificate, only_root},
};

const struct varlink_interface node_interface = {
    .name = "org.croft.node",
    .description = varlink_org_croft_node,
    .methods = methods,
    .method_count = sizeof(methods) / sizeof(methods[0]),
};
