// Hashes, keys, sealing and texts against the vectors of their standards and of docs/formats.md.
// packages: mbedtls secp256k1 scrypt
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/crypto/ecdsa.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/hpke.h"
#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"

static void assert_hex(const void *data, size_t len, const char *expected)
{
    char *text = malloc(2 * len + 1);
    hex_encode(data, len, text);
    assert_string_equal(text, strncmp(expected, "0x", 2) == 0 ? expected + 2 : expected);
    free(text);
}

static size_t from_hex(const char *text, uint8_t *to, size_t size)
{
    struct buffer bytes;
    buffer_init(&bytes, 0);
    assert_int_equal(hex_decode_buffer(text, &bytes), 0);
    assert_true(bytes.len <= size);
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
    size_t len = bytes.len;
    buffer_done(&bytes);
    return len;
}

static yyjson_doc *vectors(const char *name)
{
    char path[128], *text;
    size_t len;
    snprintf(path, sizeof(path), "tests/vectors/%s.json", name);
    assert_int_equal(file_read(path, 1 << 24, &text, &len), 0);
    yyjson_doc *doc = yyjson_read(text, len, 0);
    free(text);
    assert_non_null(doc);
    return doc;
}

static const char *str(yyjson_val *object, const char *name)
{
    const char *text = yyjson_get_str(yyjson_obj_get(object, name));
    assert_non_null(text);
    return text;
}

static void test_keccak(void **state)
{
    (void)state;
    uint8_t hash[32], pieces[32], data[300];
    keccak256("", 0, hash);
    assert_hex(hash, 32, "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    keccak256("abc", 3, hash);
    assert_hex(hash, 32, "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
    /* any split of the input gives the same, at the block's edges too */
    memset(data, 0xa3, sizeof(data));
    for (size_t len = 130; len <= 275; len++) {
        keccak256(data, len, hash);
        for (size_t split = 0; split <= len; split += 7) {
            struct keccak keccak;
            keccak_init(&keccak);
            keccak_update(&keccak, data, split);
            keccak_update(&keccak, data + split, len - split);
            keccak_final(&keccak, pieces);
            assert_memory_equal(hash, pieces, 32);
        }
    }
}

static void test_hashes(void **state)
{
    (void)state;
    uint8_t out[64], ikm[80], salt[80], info[80];
    struct sha256 sha;
    sha256("abc", 3, out);
    assert_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_init(&sha);
    sha256_update(&sha, "a", 1);
    sha256_update(&sha, "bc", 2);
    sha256_final(&sha, out);
    assert_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    /* RFC 4231, test case 2 */
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
    assert_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    /* RFC 5869, A.1 and A.3 */
    memset(ikm, 0x0b, 22);
    from_hex("000102030405060708090a0b0c", salt, sizeof(salt));
    from_hex("f0f1f2f3f4f5f6f7f8f9", info, sizeof(info));
    uint8_t prk[32];
    hkdf_sha256_extract(salt, 13, ikm, 22, prk);
    hkdf_sha256_expand(prk, info, 10, out, 42);
    assert_hex(
        out, 42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    hkdf_sha256(ikm, 22, "", out, 42);
    assert_hex(
        out, 42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
    assert_true(crypto_equal("abc", "abc", 3));
    assert_false(crypto_equal("abc", "abd", 3));
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *text;
    } cases[] = {{"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
                 {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {"Z",        "Zg=", "Zh==", "Zm9=",  "Zm 8",
                                      "Zg==Zg==", "=",   "====", "Zm8=\n"};
    uint8_t *data;
    size_t len;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = base64_encode(cases[i].plain, strlen(cases[i].plain));
        assert_string_equal(text, cases[i].text);
        assert_int_equal(base64_decode(text, 100, &data, &len), 0);
        assert_int_equal(len, strlen(cases[i].plain));
        assert_memory_equal(data, cases[i].plain, len);
        free(data);
        free(text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(base64_decode(bad[i], 100, &data, &len), -EINVAL);
    assert_int_equal(base64_decode("Zm9v", 2, &data, &len), -EINVAL);
    uint8_t bytes[2];
    assert_int_equal(hex_decode("0xAb01", bytes, 2), 0);
    assert_int_equal(bytes[0], 0xab);
    assert_int_equal(hex_decode("ab1", bytes, 2), -EINVAL);
    assert_int_equal(hex_decode("ab0g", bytes, 2), -EINVAL);
    assert_int_equal(hex_decode("ab0102", bytes, 2), -EINVAL);
}

/* RFC 9180, A.1.1 (AES-128-GCM; the one difference to ours is a number and the length of the key) */
static void test_hpke_rfc(void **state)
{
    (void)state;
    uint8_t ephemeral[32], recipient[32], info[64], aad[16], plain[64];
    from_hex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736", ephemeral, 32);
    from_hex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d", recipient, 32);
    size_t info_len = from_hex("4f6465206f6e2061204772656369616e2055726e", info, sizeof(info));
    size_t aad_len = from_hex("436f756e742d30", aad, sizeof(aad));
    size_t len = from_hex("4265617574792069732074727574682c20747275746820626561757479", plain,
                          sizeof(plain));
    struct buffer out;
    buffer_init(&out, 0);
    assert_int_equal(
        hpke_seal_with(1, ephemeral, recipient, info, info_len, aad, aad_len, plain, len, &out), 0);
    assert_hex(out.data, out.len,
               "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
               "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e"
               "13c512a");
    buffer_done(&out);
}

/* Agreement; its values are checked by the vectors of HPKE around it. */
static void test_x25519(void **state)
{
    (void)state;
    uint8_t alice[32], bob[32], alice_public[32], bob_public[32], ab[32], ba[32], zero[32] = {0};
    x25519_generate(alice, alice_public);
    x25519_generate(bob, bob_public);
    assert_int_equal(x25519_shared(alice, bob_public, ab), 0);
    assert_int_equal(x25519_shared(bob, alice_public, ba), 0);
    assert_memory_equal(ab, ba, 32);
    assert_int_equal(x25519_shared(alice, zero, ab), -EINVAL); /* a point of small order */
}

static void test_sealed_vectors(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors("sealed");
    size_t index, max;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), index, max, item)
    {
        uint8_t recipient[32], public_key[32], ephemeral[32], info[1024];
        static uint8_t plain[65536], sealed[65536];
        struct buffer out;
        from_hex(str(item, "recipientPrivate"), recipient, 32);
        from_hex(str(item, "ephemeralPrivate"), ephemeral, 32);
        assert_int_equal(x25519_public(recipient, public_key), 0);
        assert_hex(public_key, 32, str(item, "recipientPublic"));
        size_t info_len = from_hex(str(item, "info"), info, sizeof(info));
        size_t sealed_len = from_hex(str(item, "sealed"), sealed, sizeof(sealed));
        size_t len = from_hex(str(item, "salt"), plain, sizeof(plain));
        size_t spec_len = strlen(str(item, "specification"));
        memcpy(plain + len, str(item, "specification"), spec_len);
        len += spec_len;

        buffer_init(&out, 0);
        assert_int_equal(
            hpke_seal_with(2, ephemeral, public_key, info, info_len, NULL, 0, plain, len, &out), 0);
        assert_int_equal(out.len, sealed_len);
        assert_memory_equal(out.data, sealed, sealed_len);
        buffer_clear(&out);
        assert_int_equal(hpke_open(recipient, info, info_len, NULL, 0, sealed, sealed_len, &out),
                         0);
        assert_int_equal(out.len, len);
        assert_memory_equal(out.data, plain, len);
        /* one changed byte anywhere opens nothing and leaves nothing behind */
        for (size_t i = 0; i < sealed_len; i += 13) {
            buffer_clear(&out);
            sealed[i] ^= 1;
            assert_int_equal(
                hpke_open(recipient, info, info_len, NULL, 0, sealed, sealed_len, &out), -EBADMSG);
            assert_int_equal(out.len, 0);
            sealed[i] ^= 1;
        }
        info[info_len - 1] ^= 1;
        assert_int_equal(hpke_open(recipient, info, info_len, NULL, 0, sealed, sealed_len, &out),
                         -EBADMSG);
        assert_int_equal(hpke_open(recipient, info, info_len, NULL, 0, sealed, 47, &out), -EBADMSG);
        buffer_done(&out);
    }
    yyjson_doc_free(doc);
}

static void test_keys(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors("keys");
    size_t index, max;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), index, max, item)
    {
        uint8_t seed[32], key[32], address[20];
        from_hex(str(item, "seed"), seed, 32);
        ecdsa_key_derive(seed, "croft-identity-secp256k1-v1", ECDSA_SECP256K1, key);
        assert_hex(key, 32, str(item, "identityPrivate"));
        assert_int_equal(ecdsa_address(key, address), 0);
        assert_hex(address, 20, str(item, "identityAddress"));
        ecdsa_key_derive(seed, "croft-tls-p256-v1", ECDSA_P256, key);
        assert_hex(key, 32, str(item, "tlsPrivate"));
    }
    yyjson_doc_free(doc);
}

static void test_signatures(void **state)
{
    (void)state;
    uint8_t key[32], digest[32], signature[65], address[20], signer[20];
    static const uint8_t order[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
                                      0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b,
                                      0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41};
    from_hex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", key, 32);
    assert_int_equal(ecdsa_address(key, address), 0);
    assert_hex(address, 20, "f39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    memset(digest, 0x5a, 32);
    assert_int_equal(ecdsa_sign(key, digest, signature), 0);
    assert_int_equal(ecdsa_recover(digest, signature, signer), 0);
    assert_memory_equal(signer, address, 20);
    digest[0] ^= 1;
    if (ecdsa_recover(digest, signature, signer) == 0)
        assert_memory_not_equal(signer, address, 20);
    digest[0] ^= 1;
    /* s' = n - s with the other parity is the same signature to plain ECDSA: refused */
    int borrow = 0;
    for (int i = 31; i >= 0; i--) {
        int difference = order[i] - signature[32 + i] - borrow;
        borrow = difference < 0;
        signature[32 + i] = (uint8_t)difference;
    }
    signature[64] = (uint8_t)(27 + 28 - signature[64]);
    assert_int_equal(ecdsa_recover(digest, signature, signer), -EBADMSG);
    signature[64] = 31;
    assert_int_equal(ecdsa_recover(digest, signature, signer), -EBADMSG);
    uint8_t zero[32] = {0};
    assert_false(ecdsa_key_valid(zero));
    assert_false(ecdsa_key_valid(order));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keccak), cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_texts),  cmocka_unit_test(test_hpke_rfc),
        cmocka_unit_test(test_x25519), cmocka_unit_test(test_sealed_vectors),
        cmocka_unit_test(test_keys),   cmocka_unit_test(test_signatures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
