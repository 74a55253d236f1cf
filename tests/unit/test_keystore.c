// Key files: the vectors of Web3 Secret Storage, and what must be refused.
// packages: mbedtls secp256k1 scrypt
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/crypto/keystore.h"
#include "lib/crypto/text.h"

static const char expected[] = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
static const char with_scrypt[] =
    "{\"crypto\":{\"cipher\":\"aes-128-ctr\",\"cipherparams\":{\"iv\":"
    "\"83dbcc02d8ccb40e466191a123791e0e\"},"
    "\"ciphertext\":\"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c\",\"kdf\":"
    "\"scrypt\","
    "\"kdfparams\":{\"dklen\":32,\"n\":262144,\"p\":8,\"r\":1,"
    "\"salt\":\"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19\"},"
    "\"mac\":\"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097\"},"
    "\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}";
static const char with_pbkdf2[] =
    "{\"crypto\":{\"cipher\":\"aes-128-ctr\",\"cipherparams\":{\"iv\":"
    "\"6087dab2f9fdbbfaddc31a909735c1e6\"},"
    "\"ciphertext\":\"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46\",\"kdf\":"
    "\"pbkdf2\","
    "\"kdfparams\":{\"c\":262144,\"dklen\":32,\"prf\":\"hmac-sha256\","
    "\"salt\":\"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd\"},"
    "\"mac\":\"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2\"},"
    "\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}";

static void assert_key(const uint8_t key[32])
{
    char text[65];
    hex_encode(key, 32, text);
    assert_string_equal(text, expected);
}

static void test_vectors(void **state)
{
    (void)state;
    uint8_t key[32];
    struct error err = {.code = ""};
    assert_int_equal(keystore_decrypt(with_scrypt, strlen(with_scrypt), "testpassword", key, &err),
                     0);
    assert_key(key);
    memset(key, 0, 32);
    assert_int_equal(keystore_decrypt(with_pbkdf2, strlen(with_pbkdf2), "testpassword", key, &err),
                     0);
    assert_key(key);
    assert_true(keystore_decrypt(with_pbkdf2, strlen(with_pbkdf2), "testpassworD", key, &err) < 0);
    assert_string_equal(err.code, "key.wrong-password");
}

static void test_round_trip(void **state)
{
    (void)state;
    struct buffer file;
    uint8_t key[32], again[32];
    struct error err = {.code = ""};
    ecdsa_key_generate(key);
    buffer_init(&file, 0);
    assert_int_equal(keystore_encrypt(key, "päss", 10, &file, &err), 0);
    assert_int_equal(keystore_decrypt((const char *)file.data, file.len, "päss", again, &err), 0);
    assert_memory_equal(key, again, 32);
    buffer_done(&file);
}

/* text with its first `from` replaced by `to` */
static char *changed(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *made = NULL;
    assert_non_null(at);
    assert_true(asprintf(&made, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
    return made;
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"\"n\":262144", "\"n\":262143"},
        {"\"n\":262144", "\"n\":67108864"},
        {"\"r\":1", "\"r\":0"},
        {"\"r\":1", "\"r\":4000000000"},
        {"\"dklen\":32", "\"dklen\":64"},
        {"aes-128-ctr", "aes-256-ctr"},
        {"\"version\":3", "\"version\":1"},
        {"ab0c", "xb0c"},
        {"83dbcc", "83db"},
        {"\"kdf\":\"scrypt\"", "\"kdf\":\"argon\""},
        {"{\"crypto\"", "[{\"crypto\""},
    };
    uint8_t key[32];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {.code = ""};
        char *text = changed(with_scrypt, cases[i].from, cases[i].to);
        assert_true(keystore_decrypt(text, strlen(text), "testpassword", key, &err) < 0);
        assert_string_equal(err.code, "key.bad-file");
        free(text);
    }
}

static char *password(void *data)
{
    return strdup(data);
}

static void test_files(void **state)
{
    (void)state;
    char path[] = "/tmp/croft-key-XXXXXX";
    uint8_t key[32];
    struct error err = {.code = ""};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, expected, 64), 64);
    assert_int_equal(write(fd, "\n", 1), 1);
    assert_int_equal(keystore_read_file(path, NULL, NULL, key, &err), 0);
    assert_key(key);
    assert_int_equal(chmod(path, 0640), 0);
    assert_true(keystore_read_file(path, NULL, NULL, key, &err) < 0);
    assert_string_equal(err.code, "key.bad-permissions");
    assert_null(strstr(err.message, "7a28"));
    error_clear(&err);
    /* a keystore may be read by others: it is encrypted */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, with_scrypt, strlen(with_scrypt), 0), strlen(with_scrypt));
    assert_int_equal(
        keystore_read_file(path, password, (void *)(uintptr_t) "testpassword", key, &err), 0);
    assert_key(key);
    assert_true(keystore_read_file(path, NULL, NULL, key, &err) < 0);
    assert_string_equal(err.code, "key.no-password");
    error_clear(&err);
    close(fd);
    unlink(path);
    assert_true(keystore_read_file(path, NULL, NULL, key, &err) < 0);
    assert_string_equal(err.code, "key.no-file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
