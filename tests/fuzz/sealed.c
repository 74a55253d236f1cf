// Sealed bytes from a transaction or a hub: what was sealed to a key opens, the same with one byte changed does not, and any
// other bytes do not either.
// packages: mbedtls
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hpke.h"

static int open_with(const uint8_t key[32], const void *sealed, size_t len, const void *plain,
                     size_t plain_len)
{
    struct buffer out;

    buffer_init(&out, 0);
    int ret = hpke_open(key, "info", 4, NULL, 0, sealed, len, &out);
    if (ret == 0 &&
        (out.len != plain_len || (plain_len > 0 && memcmp(out.data, plain, plain_len) != 0)))
        abort();
    buffer_done(&out);
    return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[32] = {7}, ephemeral[32] = {9};
    static uint8_t public_key[32];
    static bool known;
    struct buffer sealed;

    if (!known && x25519_public(key, public_key) < 0)
        abort();
    known = true;
    if (open_with(key, data, size, NULL, 0) == 0)
        abort();
    buffer_init(&sealed, 0);
    if (hpke_seal_with(2, ephemeral, public_key, "info", 4, NULL, 0, data, size, &sealed) < 0 ||
        open_with(key, sealed.data, sealed.len, data, size) < 0)
        abort();
    /* Bit 255 of an X25519 public key means nothing (RFC 7748, section 5). */
    size_t at = size > 0 ? (size_t)data[0] * 7 % sealed.len : 0;
    sealed.data[at] ^= 1;
    if (open_with(key, sealed.data, sealed.len, NULL, 0) == 0)
        abort();
    buffer_done(&sealed);
    return 0;
}
