/*
 * ecdsa.c - signatures and addresses over libsecp256k1.
 */
#include "lib/crypto/ecdsa.h"

#include <errno.h>
#include <mbedtls/bignum.h>
#include <mbedtls/ecp.h>
#include <secp256k1.h>
#include <secp256k1_recovery.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/keccak.h"

/* One context per program, blinded against side channels once; all of our programs have one thread. */
static secp256k1_context *context(void)
{
    static secp256k1_context *shared;
    if (shared == NULL) {
        uint8_t seed[32];
        shared = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
        crypto_random(seed, sizeof(seed));
        if (shared == NULL || !secp256k1_context_randomize(shared, seed))
            abort();
        crypto_wipe(seed, sizeof(seed));
    }
    return shared;
}

bool ecdsa_key_valid(const uint8_t key[ECDSA_KEY_SIZE])
{
    return secp256k1_ec_seckey_verify(context(), key) == 1;
}

void ecdsa_key_generate(uint8_t ret_key[ECDSA_KEY_SIZE])
{
    do
        crypto_random(ret_key, ECDSA_KEY_SIZE);
    while (!ecdsa_key_valid(ret_key));
}

void ecdsa_key_derive(const uint8_t seed[32], const char *label, enum ecdsa_curve curve,
                      uint8_t ret_key[ECDSA_KEY_SIZE])
{
    uint8_t wide[48];
    hkdf_sha256(seed, 32, label, wide, sizeof(wide));
    mbedtls_ecp_group group;
    mbedtls_mpi number, modulus;
    mbedtls_ecp_group_init(&group);
    mbedtls_mpi_init(&number);
    mbedtls_mpi_init(&modulus);
    if (mbedtls_ecp_group_load(&group, curve == ECDSA_P256 ? MBEDTLS_ECP_DP_SECP256R1
                                                           : MBEDTLS_ECP_DP_SECP256K1) != 0 ||
        mbedtls_mpi_read_binary(&number, wide, sizeof(wide)) != 0 ||
        mbedtls_mpi_sub_int(&modulus, &group.N, 1) != 0 ||
        mbedtls_mpi_mod_mpi(&number, &number, &modulus) != 0 ||
        mbedtls_mpi_add_int(&number, &number, 1) != 0 ||
        mbedtls_mpi_write_binary(&number, ret_key, ECDSA_KEY_SIZE) != 0)
        abort(); /* only memory or a build of mbedTLS without the curve */
    mbedtls_mpi_free(&modulus);
    mbedtls_mpi_free(&number);
    mbedtls_ecp_group_free(&group);
    crypto_wipe(wide, sizeof(wide));
}

static void serialize(const secp256k1_pubkey *public_key, uint8_t ret_public[64])
{
    uint8_t full[65];
    size_t len = sizeof(full);
    secp256k1_ec_pubkey_serialize(context(), full, &len, public_key, SECP256K1_EC_UNCOMPRESSED);
    memcpy(ret_public, full + 1, 64);
}

static void address_of(const uint8_t public_key[64], uint8_t ret_address[ETH_ADDRESS_SIZE])
{
    uint8_t hash[KECCAK256_SIZE];
    keccak256(public_key, 64, hash);
    memcpy(ret_address, hash + 12, ETH_ADDRESS_SIZE);
}

int ecdsa_public(const uint8_t key[ECDSA_KEY_SIZE], uint8_t ret_public[64])
{
    secp256k1_pubkey public_key;
    if (!secp256k1_ec_pubkey_create(context(), &public_key, key))
        return -EINVAL;
    serialize(&public_key, ret_public);
    return 0;
}

int ecdsa_address(const uint8_t key[ECDSA_KEY_SIZE], uint8_t ret_address[ETH_ADDRESS_SIZE])
{
    uint8_t public_key[64];
    int r = ecdsa_public(key, public_key);
    if (r < 0)
        return r;
    address_of(public_key, ret_address);
    return 0;
}

int ecdsa_sign(const uint8_t key[ECDSA_KEY_SIZE], const uint8_t digest[32],
               uint8_t ret_signature[ECDSA_SIGNATURE_SIZE])
{
    secp256k1_ecdsa_recoverable_signature signature;
    int recovery = 0;
    if (!secp256k1_ecdsa_sign_recoverable(context(), &signature, digest, key, NULL, NULL))
        return -EINVAL;
    secp256k1_ecdsa_recoverable_signature_serialize_compact(context(), ret_signature, &recovery,
                                                            &signature);
    ret_signature[64] = (uint8_t)(27 + recovery);
    return 0;
}

int ecdsa_recover(const uint8_t digest[32], const uint8_t signature[ECDSA_SIGNATURE_SIZE],
                  uint8_t ret_address[ETH_ADDRESS_SIZE])
{
    int recovery = signature[64] >= 27 ? signature[64] - 27 : signature[64];
    secp256k1_ecdsa_recoverable_signature recoverable;
    secp256k1_ecdsa_signature plain;
    secp256k1_pubkey public_key;
    if (recovery > 1 || !secp256k1_ecdsa_recoverable_signature_parse_compact(
                            context(), &recoverable, signature, recovery))
        return -EBADMSG;
    secp256k1_ecdsa_recoverable_signature_convert(context(), &plain, &recoverable);
    if (secp256k1_ecdsa_signature_normalize(context(), NULL, &plain)) /* s was in the upper half */
        return -EBADMSG;
    if (!secp256k1_ecdsa_recover(context(), &public_key, &recoverable, digest))
        return -EBADMSG;
    uint8_t bytes[64];
    serialize(&public_key, bytes);
    address_of(bytes, ret_address);
    return 0;
}
