/*
 * hash.c - SHA-256, HMAC, HKDF over mbedTLS; random bytes from the kernel.
 */
#include "lib/crypto/hash.h"

#include <errno.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/md.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

_Static_assert(sizeof(mbedtls_sha256_context) <= sizeof(((struct sha256 *)0)->state),
               "struct sha256 has no room for mbedTLS's context");

static mbedtls_sha256_context *context_of(struct sha256 *sha)
{
    return (mbedtls_sha256_context *)(void *)&sha->state;
}

/* mbedTLS's software hashes cannot fail; a build where they do must not run. */
static void must(int result)
{
    if (result != 0)
        abort();
}

void sha256_init(struct sha256 *sha)
{
    mbedtls_sha256_init(context_of(sha));
    must(mbedtls_sha256_starts(context_of(sha), 0));
}

void sha256_update(struct sha256 *sha, const void *data, size_t len)
{
    must(mbedtls_sha256_update(context_of(sha), data, len));
}

void sha256_final(struct sha256 *sha, uint8_t ret_hash[SHA256_SIZE])
{
    must(mbedtls_sha256_finish(context_of(sha), ret_hash));
    mbedtls_sha256_free(context_of(sha));
}

void sha256(const void *data, size_t len, uint8_t ret_hash[SHA256_SIZE])
{
    must(mbedtls_sha256(data, len, ret_hash, 0));
}

static const mbedtls_md_info_t *sha256_info(void)
{
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    if (info == NULL)
        abort();
    return info;
}

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t ret_mac[SHA256_SIZE])
{
    must(mbedtls_md_hmac(sha256_info(), key, key_len, data, len, ret_mac));
}

void hkdf_sha256_extract(const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                         uint8_t ret_prk[SHA256_SIZE])
{
    must(mbedtls_hkdf_extract(sha256_info(), salt, salt_len, ikm, ikm_len, ret_prk));
}

void hkdf_sha256_expand(const uint8_t prk[SHA256_SIZE], const void *info, size_t info_len,
                        void *ret_out, size_t out_len)
{
    must(mbedtls_hkdf_expand(sha256_info(), prk, SHA256_SIZE, info, info_len, ret_out, out_len));
}

void hkdf_sha256(const void *ikm, size_t ikm_len, const char *label, void *ret_out, size_t out_len)
{
    uint8_t prk[SHA256_SIZE];
    hkdf_sha256_extract(NULL, 0, ikm, ikm_len, prk);
    hkdf_sha256_expand(prk, label, strlen(label), ret_out, out_len);
    crypto_wipe(prk, sizeof(prk));
}

void crypto_random(void *ret_data, size_t len)
{
    uint8_t *bytes = ret_data;
    while (len > 0) {
        ssize_t got = getrandom(bytes, len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        bytes += got;
        len -= (size_t)got;
    }
}

int crypto_random_mbedtls(void *unused, unsigned char *ret_data, size_t len)
{
    (void)unused;
    crypto_random(ret_data, len);
    return 0;
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *left = a;
    const volatile uint8_t *right = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < len; i++)
        difference = (uint8_t)(difference | (left[i] ^ right[i]));
    return difference == 0;
}

void crypto_wipe(void *data, size_t len)
{
    mbedtls_platform_zeroize(data, len);
}
