/*
 * access.c - proofs of callers to a node's gate.
 */
#include "lib/grid/access.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/eth/typed.h"
#include "lib/json.h"

const char grid_access_type[] =
    "Access(uint64 node,uint64 reservation,string method,bytes32 nonce,uint64 expires)";

int grid_access_digest(const struct grid_challenge *challenge, const char *method,
                       uint8_t ret_digest[32])
{
    struct eth_domain domain = {
        .name = "Croft Gate", .version = "1", .chain_id = challenge->chain_id};
    struct abi_value values[] = {
        abi_uint(challenge->node),  abi_uint(challenge->reservation), abi_string(method),
        abi_word(challenge->nonce), abi_uint(challenge->expires),
    };
    if (strlen(method) > GRID_ACCESS_METHOD_MAX)
        return -EINVAL;
    memcpy(domain.contract, challenge->reservations, ETH_ADDRESS_SIZE);
    return eth_typed_digest(&domain, grid_access_type, values, sizeof(values) / sizeof(values[0]),
                            ret_digest);
}

int grid_access_sign(const struct grid_challenge *challenge, const char *method,
                     const uint8_t key[ECDSA_KEY_SIZE],
                     uint8_t ret_signature[GRID_ACCESS_SIGNATURE])
{
    uint8_t digest[32];
    int r = grid_access_digest(challenge, method, digest);
    return r < 0 ? r : ecdsa_sign(key, digest, ret_signature);
}

int grid_access_signer(const struct grid_challenge *challenge, const char *method,
                       const uint8_t signature[GRID_ACCESS_SIGNATURE],
                       uint8_t ret_address[ETH_ADDRESS_SIZE])
{
    uint8_t digest[32];
    int r = grid_access_digest(challenge, method, digest);
    return r < 0 ? r : ecdsa_recover(digest, signature, ret_address);
}

/* ---- the header ---- */

#define SCHEME "Croft "
#define NONCE "nonce=0x"
#define SIGNATURE ",signature=0x"
#define NONCE_DIGITS ((size_t)2 * GRID_ACCESS_NONCE_SIZE)
#define SIGNATURE_DIGITS ((size_t)2 * GRID_ACCESS_SIGNATURE)

_Static_assert(sizeof(SCHEME NONCE SIGNATURE) + NONCE_DIGITS + SIGNATURE_DIGITS ==
                   GRID_ACCESS_HEADER_MAX,
               "the header's length");

void grid_access_header_format(const uint8_t nonce[GRID_ACCESS_NONCE_SIZE],
                               const uint8_t signature[GRID_ACCESS_SIGNATURE],
                               char ret_value[GRID_ACCESS_HEADER_MAX])
{
    char first[NONCE_DIGITS + 1], second[SIGNATURE_DIGITS + 1];
    hex_encode(nonce, GRID_ACCESS_NONCE_SIZE, first);
    hex_encode(signature, GRID_ACCESS_SIGNATURE, second);
    snprintf(ret_value, GRID_ACCESS_HEADER_MAX, SCHEME NONCE "%s" SIGNATURE "%s", first, second);
}

/* Digits of known length behind a fixed text. */
static int take(const char **at, const char *prefix, size_t digits, void *ret_data)
{
    char text[SIGNATURE_DIGITS + 1];
    size_t len = strlen(prefix);
    if (memcmp(*at, prefix, len) != 0)
        return -EINVAL;
    memcpy(text, *at + len, digits);
    text[digits] = '\0';
    *at += len + digits;
    return hex_decode(text, ret_data, digits / 2);
}

int grid_access_header_parse(const char *value, size_t len,
                             uint8_t ret_nonce[GRID_ACCESS_NONCE_SIZE],
                             uint8_t ret_signature[GRID_ACCESS_SIGNATURE])
{
    uint8_t nonce[GRID_ACCESS_NONCE_SIZE], signature[GRID_ACCESS_SIGNATURE];
    if (len != GRID_ACCESS_HEADER_MAX - 1 || strncasecmp(value, SCHEME, strlen(SCHEME)) != 0)
        return -EINVAL;
    const char *at = value + strlen(SCHEME);
    if (take(&at, NONCE, NONCE_DIGITS, nonce) < 0 ||
        take(&at, SIGNATURE, SIGNATURE_DIGITS, signature) < 0)
        return -EINVAL;
    memcpy(ret_nonce, nonce, sizeof(nonce));
    memcpy(ret_signature, signature, sizeof(signature));
    return 0;
}

/* ---- the challenge ---- */

int grid_challenge_to_json(const struct grid_challenge *challenge, struct buffer *out)
{
    char nonce[NONCE_DIGITS + 3], contract[2 * ETH_ADDRESS_SIZE + 3];
    hex_encode_0x(challenge->nonce, GRID_ACCESS_NONCE_SIZE, nonce);
    hex_encode_0x(challenge->reservations, ETH_ADDRESS_SIZE, contract);
    return buffer_printf(out,
                         "{\"node\":%" PRIu64 ",\"reservation\":%" PRIu64 ",\"nonce\":\"%s\","
                         "\"expires\":%" PRIu64 ",\"chainId\":%" PRIu64 ",\"reservations\":\"%s\"}",
                         challenge->node, challenge->reservation, nonce, challenge->expires,
                         challenge->chain_id, contract);
}

int grid_challenge_from_json(const char *text, size_t len, struct grid_challenge *ret_challenge,
                             struct error *err)
{
    struct {
        uint64_t node, reservation, expires, chain_id;
        const char *nonce, *reservations;
    } in = {0};
    static const struct json_field fields[] = {
        {"node", JSON_UINT, offsetof(__typeof__(in), node), true, 1, 0},
        {"reservation", JSON_UINT, offsetof(__typeof__(in), reservation), true, 0, 0},
        {"nonce", JSON_STRING, offsetof(__typeof__(in), nonce), true, 0, NONCE_DIGITS + 2},
        {"expires", JSON_UINT, offsetof(__typeof__(in), expires), true, 1, 0},
        {"chainId", JSON_UINT, offsetof(__typeof__(in), chain_id), true, 1, 0},
        {"reservations", JSON_STRING, offsetof(__typeof__(in), reservations), true, 0,
         2 * ETH_ADDRESS_SIZE + 2},
    };
    struct grid_challenge challenge;
    yyjson_doc *doc = json_parse(text, len, GRID_CHALLENGE_MAX, "gate.bad-answer", err);
    if (doc == NULL)
        return -EBADMSG;
    int r = json_read(yyjson_doc_get_root(doc), fields, sizeof(fields) / sizeof(fields[0]),
                      JSON_IGNORE_UNKNOWN, &in, "gate.bad-answer", err);
    if (r >= 0 && (hex_decode(in.nonce, challenge.nonce, GRID_ACCESS_NONCE_SIZE) < 0 ||
                   hex_decode(in.reservations, challenge.reservations, ETH_ADDRESS_SIZE) < 0))
        r = error_set(err, EBADMSG, "gate.bad-answer", "",
                      "the gate's challenge has a malformed nonce or contract");
    yyjson_doc_free(doc);
    if (r < 0)
        return r;
    challenge.node = in.node;
    challenge.reservation = in.reservation;
    challenge.expires = in.expires;
    challenge.chain_id = in.chain_id;
    *ret_challenge = challenge;
    return 0;
}
