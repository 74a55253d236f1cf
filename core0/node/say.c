/*
 * say.c - makes the node's messages: fills them in from what we are, signs them and puts them into the queue.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/crypto/hash.h"
#include "lib/eth/address.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "node.h"

#define SECOND ((uint64_t)1000000)
#define JOIN_AGAIN (600 * SECOND) /* a token that was refused is tried again */

int say_enqueue(struct node *node, struct grid_message *message, uint32_t round,
                uint64_t *ret_nonce, struct error *err)
{
    uint64_t last = queue_last_nonce(&node->queue);
    uint64_t nonce = (last > node->record.nonce ? last : node->record.nonce) + 1;
    grid_message_set_uint(message, "nonce", nonce);
    grid_message_set_word(message, "bootId", node->boot.boot_id);
    int r = grid_message_sign(message, &node->chain, node->identity.key);
    if (r < 0)
        return error_set(err, -r, "node.cannot-sign", "", "a message cannot be signed");
    fault_point("queue.%s.before", grid_kinds[message->kind].name);
    r = queue_add(&node->queue, message, round, err);
    if (r < 0)
        return r;
    fault_point("queue.%s.after", grid_kinds[message->kind].name);
    if (ret_nonce != NULL)
        *ret_nonce = nonce;
    node->backoff = SECOND / 5; /* what is said is looked for at once */
    deliver_kick(node);
    return 0;
}

static void say(struct node *node, struct grid_message *message)
{
    struct error err = {.code = ""};
    if (say_enqueue(node, message, 0, NULL, &err) < 0) {
        log_error(&err, grid_kinds[message->kind].name);
        node_set_error(node, &err);
    }
}

static int set_hosts(const struct node *node, struct grid_message *message)
{
    const char *hosts[GRID_ADDRESSES_MAX];
    for (size_t i = 0; i < node->host_count; i++)
        hosts[i] = node->hosts[i];
    return grid_message_set_hosts(message, hosts, node->host_count);
}

static int read_token(uint8_t ret_key[32], struct error *err)
{
    const char *path = getenv("CROFT_JOIN_TOKEN_FILE"); /* tests run beside an installed Croft */
    return boot_read_token(path != NULL ? path : "/run/croft/join.token", ret_key, err);
}

void say_registration(struct node *node)
{
    struct grid_message message;
    struct error err = {.code = ""};
    uint8_t token[32], digest[32];
    const struct sealing_key *key = identity_current(&node->identity);
    grid_message_init(&message, GRID_REGISTER);
    grid_message_set_uint(&message, "farm", node->boot.farm);
    grid_message_set_address(&message, "identity", node->identity.address);
    grid_message_set_word(&message, "tlsKeyHash", node->identity.tls_key_hash);
    grid_message_set_word(&message, "sealingKey", key->public_key);
    grid_message_set_uint(&message, "keyEpoch", key->epoch);
    grid_message_set_uint(&message, "runMode", node->boot.run_mode);
    grid_message_set_word(&message, "imageDigest", node->image_digest);
    grid_message_set_word(&message, "capacity", node->capacity);
    grid_message_set_uint(&message, "ephemeral", node->ephemeral);
    if (set_hosts(node, &message) < 0)
        return;
    int r = read_token(token, &err);
    if (r == 1) {
        if (grid_join_digest(&node->chain, node->boot.farm, node->identity.address, digest) == 0 &&
            ecdsa_sign(token, digest, message.join) == 0)
            message.joined = true;
        crypto_wipe(token, sizeof(token));
    } else if (r < 0) {
        log_error(&err, "join token");
        node_set_error(node, &err);
        node_set_state(node, NODE_UNREGISTERED, err.message);
        return;
    }
    say(node, &message);
}

/* A Pending node with a token: it got the token after its registration, or somebody who saw the registration submitted it without.
 * It needs no nonce and no disk: it is said as long as the node is Pending. */
void say_join_if_pending(struct node *node)
{
    uint8_t token[32];
    struct error err = {.code = ""};
    struct queue_item *item = &node->join;
    if (node->record.state != 1) {
        node->joining = false;
        return;
    }
    if (node->joining ||
        (node->join_refused_at != 0 && loop_clock() - node->join_refused_at < JOIN_AGAIN))
        return;
    int r = read_token(token, &err);
    if (r < 0) {
        if (strcmp(node->error.code, err.code) != 0)
            log_error(&err, "join token");
        node_set_error(node, &err);
    }
    if (r <= 0)
        return;
    memset(item, 0, sizeof(*item));
    grid_message_init(&item->message, GRID_JOIN);
    item->message.number = node->record.id;
    grid_message_set_uint(&item->message, "farm", node->record.farm);
    grid_message_set_address(&item->message, "node", node->identity.address);
    node->joining = grid_message_sign(&item->message, &node->chain, token) == 0;
    crypto_wipe(token, sizeof(token));
    node->backoff = SECOND / 5;
}

void say_join_done(struct node *node, const struct error *err)
{
    if (err == NULL) {
        node->join.delivered_at = loop_clock();
        node->join.attempts++;
        return;
    }
    /* what the contract refuses now it refuses for long; what did not arrive is delivered again */
    if (strncmp(err->code, "join.", 5) == 0) {
        node->joining = false;
        node->join_refused_at = loop_clock();
    }
}

void say_report(struct node *node)
{
    struct grid_message message;
    struct timespec since_boot;
    uint8_t version[32];
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    eth_code_to_word(daemon_version(), version);
    grid_message_init(&message, GRID_REPORT);
    grid_message_set_uint(&message, "node", node->record.id);
    grid_message_set_uint(&message, "uptime", (uint64_t)since_boot.tv_sec);
    grid_message_set_word(&message, "capacity", node->capacity);
    grid_message_set_word(&message, "version", version);
    say(node, &message);
}

void say_profile(struct node *node)
{
    struct grid_message message;
    grid_message_init(&message, GRID_PROFILE);
    grid_message_set_uint(&message, "node", node->record.id);
    grid_message_set_word(&message, "tlsKeyHash", node->identity.tls_key_hash);
    grid_message_set_uint(&message, "runMode", node->boot.run_mode);
    grid_message_set_word(&message, "imageDigest", node->image_digest);
    if (set_hosts(node, &message) == 0)
        say(node, &message);
}

void say_key_epoch(struct node *node)
{
    struct grid_message message;
    const struct sealing_key *key = identity_current(&node->identity);
    grid_message_init(&message, GRID_KEY_EPOCH);
    grid_message_set_uint(&message, "node", node->record.id);
    grid_message_set_word(&message, "sealingKey", key->public_key);
    grid_message_set_uint(&message, "keyEpoch", key->epoch);
    say(node, &message);
}
