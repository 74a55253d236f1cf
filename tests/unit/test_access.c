// Proofs of callers to a gate: the vectors of tests/vectors/access.json, and what must be refused.
// packages: mbedtls secp256k1
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yyjson.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/file.h"
#include "lib/grid/access.h"

static yyjson_doc *vectors(void)
{
    char *text;
    size_t len;
    assert_int_equal(file_read("tests/vectors/access.json", 1 << 20, &text, &len), 0);
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

static void read_challenge(yyjson_val *vector, struct grid_challenge *ret_challenge)
{
    size_t len;
    char *text = yyjson_val_write(yyjson_obj_get(vector, "challenge"), 0, &len);
    assert_non_null(text);
    assert_int_equal(grid_challenge_from_json(text, len, ret_challenge, NULL), 0);
    /* there and back: the same text */
    struct buffer again;
    buffer_init(&again, 0);
    assert_true(grid_challenge_to_json(ret_challenge, &again) >= 0);
    assert_string_equal((const char *)again.data, text);
    buffer_done(&again);
    free(text);
}

static void test_vectors(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors();
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    size_t index, max;
    assert_string_equal(grid_access_type, str(root, "typeString"));
    yyjson_arr_foreach(yyjson_obj_get(root, "cases"), index, max, item)
    {
        struct grid_challenge challenge;
        uint8_t key[32], digest[32], expected[32], signature[65], wanted[65], signer[20], who[20];
        uint8_t nonce[32];
        char header[GRID_ACCESS_HEADER_MAX];
        const char *method = str(item, "method");
        read_challenge(item, &challenge);
        assert_int_equal(hex_decode(str(item, "private"), key, 32), 0);
        assert_int_equal(hex_decode(str(item, "digest"), expected, 32), 0);
        assert_int_equal(hex_decode(str(item, "signature"), wanted, 65), 0);
        assert_int_equal(hex_decode(str(item, "signer"), who, 20), 0);
        assert_int_equal(grid_access_digest(&challenge, method, digest), 0);
        assert_memory_equal(digest, expected, 32);
        assert_int_equal(grid_access_sign(&challenge, method, key, signature), 0);
        assert_memory_equal(signature, wanted, 65);
        assert_int_equal(grid_access_signer(&challenge, method, signature, signer), 0);
        assert_memory_equal(signer, who, 20);
        grid_access_header_format(challenge.nonce, signature, header);
        assert_string_equal(header, str(item, "header"));
        assert_int_equal(grid_access_header_parse(header, strlen(header), nonce, signature), 0);
        assert_memory_equal(nonce, challenge.nonce, 32);
        assert_memory_equal(signature, wanted, 65);
    }
    assert_int_equal(max, 4);
    yyjson_doc_free(doc);
}

/* Whatever a challenge is bound to: with another value the signature is somebody else's. */
static void test_bound(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors();
    yyjson_val *item = yyjson_arr_get(yyjson_obj_get(yyjson_doc_get_root(doc), "cases"), 0);
    struct grid_challenge good, other;
    uint8_t signature[65], who[20], signer[20], digest[32];
    read_challenge(item, &good);
    assert_int_equal(hex_decode(str(item, "signature"), signature, 65), 0);
    assert_int_equal(hex_decode(str(item, "signer"), who, 20), 0);
    for (int change = 0; change < 7; change++) {
        other = good;
        other.node += change == 0;
        other.reservation += change == 1;
        other.nonce[31] ^= change == 2;
        other.expires += change == 3;
        other.chain_id += change == 4;
        other.reservations[0] ^= change == 5;
        int r = grid_access_signer(&other, change == 6 ? "exec" : str(item, "method"), signature,
                                   signer);
        assert_true(r == -EBADMSG || memcmp(signer, who, 20) != 0);
    }
    assert_int_equal(grid_access_digest(&good, "a-method-with-a-name-that-is-too-long", digest),
                     -EINVAL);
    yyjson_doc_free(doc);
}

static void test_header(void **state)
{
    (void)state;
    uint8_t nonce[32], signature[65], n[32], s[65];
    char good[GRID_ACCESS_HEADER_MAX], bad[GRID_ACCESS_HEADER_MAX + 1];
    memset(nonce, 0xab, sizeof(nonce));
    memset(signature, 0xcd, sizeof(signature));
    grid_access_header_format(nonce, signature, good);
    size_t len = strlen(good);
    assert_int_equal(len, GRID_ACCESS_HEADER_MAX - 1);
    memcpy(bad, good, len + 1);
    memcpy(bad, "cROFT", 5);
    assert_int_equal(grid_access_header_parse(bad, len, n, s), 0);
    assert_memory_equal(n, nonce, 32);
    assert_memory_equal(s, signature, 65);
    /* one byte away from the right one, anywhere */
    for (size_t i = 0; i < len; i++) {
        memcpy(bad, good, len + 1);
        bad[i] = i % 2 == 0 ? 'z' : '\0';
        assert_int_equal(grid_access_header_parse(bad, len, n, s), -EINVAL);
    }
    for (size_t shorter = 0; shorter < len; shorter++)
        assert_int_equal(grid_access_header_parse(good, shorter, n, s), -EINVAL);
    snprintf(bad, sizeof(bad), "%s ", good);
    assert_int_equal(grid_access_header_parse(bad, len + 1, n, s), -EINVAL);
}

static void test_bad_challenges(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"node\":1}",
        "{\"node\":0,\"reservation\":1,\"nonce\":\"0x00\",\"expires\":1,\"chainId\":1,"
        "\"reservations\":\"0xe7f1725e7734ce288f8367e1bb143e90bb3f0512\"}",
        "{\"node\":1,\"reservation\":1,"
        "\"nonce\":\"0xeda076b719b4b9a754017b367870c45c3f7dc1fea6fb3f08397026262a34aa3\","
        "\"expires\":1,\"chainId\":1,"
        "\"reservations\":\"0xe7f1725e7734ce288f8367e1bb143e90bb3f0512\"}",
        "{\"node\":1,\"reservation\":-1,"
        "\"nonce\":\"0xeda076b719b4b9a754017b367870c45c3f7dc1fea6fb3f08397026262a34aa3c\","
        "\"expires\":1,\"chainId\":1,"
        "\"reservations\":\"0xe7f1725e7734ce288f8367e1bb143e90bb3f0512\"}",
        "{\"node\":1,\"reservation\":1,"
        "\"nonce\":\"0xeda076b719b4b9a754017b367870c45c3f7dc1fea6fb3f08397026262a34aa3c\","
        "\"expires\":\"1\",\"chainId\":1,"
        "\"reservations\":\"0xe7f1725e7734ce288f8367e1bb143e90bb3f0512\"}",
        "{\"node\":1,\"reservation\":1,"
        "\"nonce\":\"0xeda076b719b4b9a754017b367870c45c3f7dc1fea6fb3f08397026262a34aa3c\","
        "\"expires\":1,\"chainId\":1,\"reservations\":\"0xe7f1\"}",
    };
    struct grid_challenge challenge;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {.code = ""};
        assert_true(grid_challenge_from_json(bad[i], strlen(bad[i]), &challenge, &err) < 0);
        assert_string_equal(err.code, "gate.bad-answer");
    }
    char large[GRID_CHALLENGE_MAX + 2];
    memset(large, ' ', sizeof(large));
    assert_true(grid_challenge_from_json(large, sizeof(large), &challenge, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_bad_challenges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
