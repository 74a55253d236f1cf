/*
 * hpke.c - RFC 9180 in base mode with one suite, over mbedTLS's X25519, HKDF and AES-GCM.
 *
 * One message per key schedule: the sequence number is 0, so the nonce is base_nonce itself.
 */
#include "lib/crypto/hpke.h"

#include <errno.h>
#include <mbedtls/ecdh.h>
#include <mbedtls/ecp.h>
#include <mbedtls/gcm.h>
#include <string.h>

#include "lib/crypto/hash.h"

#define AEAD_AES_256_GCM 2
#define KEY_SIZE_MAX 32
#define NONCE_SIZE 12
#define TAG_SIZE 16

/* suite ids of RFC 9180, sections 4.1 and 5.1 */
static const uint8_t kem_suite[] = {'K', 'E', 'M', 0x00, 0x20};
#define HPKE_SUITE_SIZE 10
static const uint8_t hpke_suite[HPKE_SUITE_SIZE] = {'H',  'P',  'K',  'E',  0x00,
                                                    0x20, 0x00, 0x01, 0x00, 0x00};

static int x25519_multiply(const uint8_t scalar[X25519_SIZE], const uint8_t *peer,
                           uint8_t ret_point[X25519_SIZE])
{
    uint8_t clamped[X25519_SIZE];
    memcpy(clamped, scalar, sizeof(clamped));
    clamped[0] &= 248;
    clamped[31] = (uint8_t)((clamped[31] & 127) | 64);

    mbedtls_ecp_group group;
    mbedtls_ecp_point point, product;
    mbedtls_mpi number;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&point);
    mbedtls_ecp_point_init(&product);
    mbedtls_mpi_init(&number);

    int r = mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_CURVE25519);
    if (r == 0)
        r = mbedtls_mpi_read_binary_le(&number, clamped, sizeof(clamped));
    if (r == 0 && peer != NULL)
        r = mbedtls_ecp_point_read_binary(&group, &point, peer, X25519_SIZE);
    if (r == 0)
        r = mbedtls_ecp_mul(&group, &product, &number, peer != NULL ? &point : &group.G,
                            crypto_random_mbedtls, NULL);
    size_t len = 0;
    uint8_t out[X25519_SIZE];
    if (r == 0)
        r = mbedtls_ecp_point_write_binary(&group, &product, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, out,
                                           sizeof(out));
    static const uint8_t zero[X25519_SIZE];
    if (r == 0 && (len != X25519_SIZE || crypto_equal(out, zero, sizeof(zero))))
        r = -1;
    if (r == 0)
        memcpy(ret_point, out, sizeof(out));
    mbedtls_mpi_free(&number);
    mbedtls_ecp_point_free(&product);
    mbedtls_ecp_point_free(&point);
    mbedtls_ecp_group_free(&group);
    crypto_wipe(out, sizeof(out));
    crypto_wipe(clamped, sizeof(clamped));
    return r == 0 ? 0 : -EINVAL;
}

int x25519_public(const uint8_t private_key[X25519_SIZE], uint8_t ret_public[X25519_SIZE])
{
    return x25519_multiply(private_key, NULL, ret_public);
}

int x25519_shared(const uint8_t private_key[X25519_SIZE], const uint8_t peer[X25519_SIZE],
                  uint8_t ret_shared[X25519_SIZE])
{
    return x25519_multiply(private_key, peer, ret_shared);
}

void x25519_generate(uint8_t ret_private[X25519_SIZE], uint8_t ret_public[X25519_SIZE])
{
    do
        crypto_random(ret_private, X25519_SIZE);
    while (x25519_public(ret_private, ret_public) < 0);
}

/* "HPKE-v1" ‖ suite ‖ label, then whatever follows: the input of every labelled step (RFC 9180, section 4). */
struct labeled {
    uint8_t data[256];
    size_t len;
};

static void labeled_add(struct labeled *labeled, const void *data, size_t len)
{
    memcpy(labeled->data + labeled->len, data, len);
    labeled->len += len;
}

static void labeled_start(struct labeled *labeled, const uint8_t *suite, size_t suite_len,
                          const char *label)
{
    labeled->len = 0;
    labeled_add(labeled, "HPKE-v1", 7);
    labeled_add(labeled, suite, suite_len);
    labeled_add(labeled, label, strlen(label));
}

/* ikm of any length: HMAC over the pieces without joining them is not offered by hash.h, so long ones are hashed through
 * a buffer. */
static int labeled_extract(const uint8_t *suite, size_t suite_len, const char *label,
                           const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                           uint8_t ret_prk[SHA256_SIZE])
{
    struct labeled prefix;
    labeled_start(&prefix, suite, suite_len, label);
    struct buffer joined;
    buffer_init(&joined, 0);
    int r = buffer_append(&joined, prefix.data, prefix.len);
    if (r >= 0 && ikm_len > 0)
        r = buffer_append(&joined, ikm, ikm_len);
    if (r >= 0) {
        hkdf_sha256_extract(salt, salt_len, joined.data, joined.len, ret_prk);
        crypto_wipe(joined.data, joined.len);
    }
    buffer_done(&joined);
    return r < 0 ? r : 0;
}

/* info has at most 65 bytes here. */
static void labeled_expand(const uint8_t prk[SHA256_SIZE], const uint8_t *suite, size_t suite_len,
                           const char *label, const void *info, size_t info_len, void *ret_out,
                           size_t out_len)
{
    struct labeled full = {.len = 0};
    uint8_t length[2] = {(uint8_t)(out_len >> 8), (uint8_t)out_len};
    labeled_add(&full, length, sizeof(length));
    struct labeled prefix;
    labeled_start(&prefix, suite, suite_len, label);
    labeled_add(&full, prefix.data, prefix.len);
    labeled_add(&full, info, info_len);
    hkdf_sha256_expand(prk, full.data, full.len, ret_out, out_len);
}

/* ExtractAndExpand of DHKEM (section 4.1). */
static int kem_secret(const uint8_t dh[X25519_SIZE], const uint8_t enc[X25519_SIZE],
                      const uint8_t public_key[X25519_SIZE], uint8_t ret_secret[32])
{
    uint8_t prk[SHA256_SIZE];
    int r = labeled_extract(kem_suite, sizeof(kem_suite), "eae_prk", NULL, 0, dh, X25519_SIZE, prk);
    if (r < 0)
        return r;
    uint8_t context[2 * X25519_SIZE];
    memcpy(context, enc, X25519_SIZE);
    memcpy(context + X25519_SIZE, public_key, X25519_SIZE);
    labeled_expand(prk, kem_suite, sizeof(kem_suite), "shared_secret", context, sizeof(context),
                   ret_secret, 32);
    crypto_wipe(prk, sizeof(prk));
    return 0;
}

/* KeySchedule in base mode: no psk, no psk_id (section 5.1). */
static int key_schedule(unsigned aead, const uint8_t secret[32], const void *info, size_t info_len,
                        uint8_t *ret_key, size_t key_size, uint8_t ret_nonce[NONCE_SIZE])
{
    uint8_t context[1 + 2 * SHA256_SIZE] = {0};
    uint8_t prk[SHA256_SIZE];
    uint8_t suite[HPKE_SUITE_SIZE];
    size_t size = sizeof(suite);
    memcpy(suite, hpke_suite, size);
    suite[size - 1] = (uint8_t)aead;
    int r = labeled_extract(suite, size, "psk_id_hash", NULL, 0, NULL, 0, context + 1);
    if (r >= 0)
        r = labeled_extract(suite, size, "info_hash", NULL, 0, info, info_len,
                            context + 1 + SHA256_SIZE);
    if (r >= 0)
        r = labeled_extract(suite, size, "secret", secret, 32, NULL, 0, prk);
    if (r < 0)
        return r;
    labeled_expand(prk, suite, size, "key", context, sizeof(context), ret_key, key_size);
    labeled_expand(prk, suite, size, "base_nonce", context, sizeof(context), ret_nonce, NONCE_SIZE);
    crypto_wipe(prk, sizeof(prk));
    return 0;
}

/* Everything up to the AEAD: from the private key of one side and the public key of the other. */
static int derive(unsigned aead, const uint8_t private_key[X25519_SIZE],
                  const uint8_t peer[X25519_SIZE], const uint8_t enc[X25519_SIZE],
                  const uint8_t recipient[X25519_SIZE], const void *info, size_t info_len,
                  mbedtls_gcm_context *gcm, uint8_t ret_nonce[NONCE_SIZE])
{
    uint8_t dh[X25519_SIZE], secret[32], key[KEY_SIZE_MAX];
    size_t key_size = aead == AEAD_AES_256_GCM ? 32 : 16;
    int r = x25519_shared(private_key, peer, dh);
    if (r >= 0)
        r = kem_secret(dh, enc, recipient, secret);
    if (r >= 0)
        r = key_schedule(aead, secret, info, info_len, key, key_size, ret_nonce);
    if (r >= 0 && mbedtls_gcm_setkey(gcm, MBEDTLS_CIPHER_ID_AES, key, (unsigned)key_size * 8) != 0)
        r = -EIO;
    crypto_wipe(dh, sizeof(dh));
    crypto_wipe(secret, sizeof(secret));
    crypto_wipe(key, sizeof(key));
    return r;
}

int hpke_seal_with(unsigned aead, const uint8_t ephemeral[X25519_SIZE],
                   const uint8_t public_key[X25519_SIZE], const void *info, size_t info_len,
                   const void *aad, size_t aad_len, const void *plain, size_t plain_len,
                   struct buffer *out)
{
    uint8_t enc[X25519_SIZE], nonce[NONCE_SIZE];
    int r = x25519_public(ephemeral, enc);
    if (r < 0)
        return r;
    r = buffer_reserve(out, plain_len + HPKE_OVERHEAD);
    if (r < 0)
        return r;
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    r = derive(aead, ephemeral, public_key, enc, public_key, info, info_len, &gcm, nonce);
    if (r >= 0) {
        uint8_t *cipher = out->data + out->len + X25519_SIZE;
        memcpy(out->data + out->len, enc, X25519_SIZE);
        if (mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, plain_len, nonce, NONCE_SIZE, aad,
                                      aad_len, plain, cipher, TAG_SIZE, cipher + plain_len) != 0)
            r = -EIO;
        else
            out->len += plain_len + HPKE_OVERHEAD;
    }
    mbedtls_gcm_free(&gcm);
    if (out->data != NULL)
        out->data[out->len] = '\0';
    return r < 0 ? r : 0;
}

int hpke_seal(const uint8_t public_key[X25519_SIZE], const void *info, size_t info_len,
              const void *aad, size_t aad_len, const void *plain, size_t plain_len,
              struct buffer *out)
{
    uint8_t private_key[X25519_SIZE], unused[X25519_SIZE];
    x25519_generate(private_key, unused);
    int r = hpke_seal_with(AEAD_AES_256_GCM, private_key, public_key, info, info_len, aad, aad_len,
                           plain, plain_len, out);
    crypto_wipe(private_key, sizeof(private_key));
    return r;
}

int hpke_open(const uint8_t private_key[X25519_SIZE], const void *info, size_t info_len,
              const void *aad, size_t aad_len, const void *sealed, size_t sealed_len,
              struct buffer *out)
{
    if (sealed_len < HPKE_OVERHEAD)
        return -EBADMSG;
    const uint8_t *enc = sealed;
    const uint8_t *cipher = enc + X25519_SIZE;
    size_t plain_len = sealed_len - HPKE_OVERHEAD;
    uint8_t public_key[X25519_SIZE], nonce[NONCE_SIZE];
    int r = x25519_public(private_key, public_key);
    if (r < 0)
        return r;
    r = buffer_reserve(out, plain_len + 1);
    if (r < 0)
        return r;
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    r = derive(AEAD_AES_256_GCM, private_key, enc, enc, public_key, info, info_len, &gcm, nonce);
    if (r == -EINVAL) /* the sender's key is of small order */
        r = -EBADMSG;
    if (r >= 0 &&
        mbedtls_gcm_auth_decrypt(&gcm, plain_len, nonce, NONCE_SIZE, aad, aad_len,
                                 cipher + plain_len, TAG_SIZE, cipher, out->data + out->len) != 0)
        r = -EBADMSG;
    if (r >= 0)
        out->len += plain_len;
    mbedtls_gcm_free(&gcm);
    if (out->data != NULL)
        out->data[out->len] = '\0';
    return r < 0 ? r : 0;
}
