/*
 * keystore.c - Web3 Secret Storage version 3: one private key under a password.
 */
#include "lib/crypto/keystore.h"

#include <errno.h>
#include <fcntl.h>
#include <libscrypt.h>
#include <mbedtls/aes.h>
#include <mbedtls/pkcs5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"

#define BAD_FILE "key.bad-file"
#define FILE_MAX 16384
#define DERIVED_SIZE 32
#define SALT_MAX ((size_t)64)

static int bad_file(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, BAD_FILE,
                     "take a keystore file as geth, foundry or croft write it", "the key file %s",
                     what);
}

static int derive_scrypt(yyjson_val *params, const char *password, uint8_t ret_key[DERIVED_SIZE],
                         struct error *err)
{
    struct {
        uint64_t n, r, p, dklen;
        const char *salt;
    } in = {0};
    static const struct json_field fields[] = {
        {"n", JSON_UINT, offsetof(__typeof__(in), n), true, 2, 1 << 26},
        {"r", JSON_UINT, offsetof(__typeof__(in), r), true, 1, 64},
        {"p", JSON_UINT, offsetof(__typeof__(in), p), true, 1, 16},
        {"dklen", JSON_UINT, offsetof(__typeof__(in), dklen), true, DERIVED_SIZE, DERIVED_SIZE},
        {"salt", JSON_STRING, offsetof(__typeof__(in), salt), true, 0, 2 * SALT_MAX},
    };
    int r = json_read(params, fields, sizeof(fields) / sizeof(fields[0]), JSON_IGNORE_UNKNOWN, &in,
                      BAD_FILE, err);
    if (r < 0)
        return r;
    uint8_t salt[SALT_MAX];
    size_t salt_len = strlen(in.salt) / 2;
    if (hex_decode(in.salt, salt, salt_len) < 0)
        return bad_file(err, "has a salt that is not hexadecimal");
    if ((in.n & (in.n - 1)) != 0)
        return bad_file(err, "has an n that is no power of two");
    if (128 * in.n * in.r > KEYSTORE_MEMORY_MAX)
        return bad_file(err, "asks for more memory than 512 MiB");
    if (libscrypt_scrypt((const uint8_t *)password, strlen(password), salt, salt_len, in.n,
                         (uint32_t)in.r, (uint32_t)in.p, ret_key, DERIVED_SIZE) != 0)
        return error_set(err, ENOMEM, "key.no-memory", "",
                         "scrypt could not get %llu MiB of memory",
                         (unsigned long long)(128 * in.n * in.r >> 20));
    return 0;
}

static int derive_pbkdf2(yyjson_val *params, const char *password, uint8_t ret_key[DERIVED_SIZE],
                         struct error *err)
{
    struct {
        uint64_t c, dklen;
        const char *prf, *salt;
    } in = {0};
    static const struct json_field fields[] = {
        {"c", JSON_UINT, offsetof(__typeof__(in), c), true, 1, 10000000},
        {"dklen", JSON_UINT, offsetof(__typeof__(in), dklen), true, DERIVED_SIZE, DERIVED_SIZE},
        {"prf", JSON_STRING, offsetof(__typeof__(in), prf), true, 0, 32},
        {"salt", JSON_STRING, offsetof(__typeof__(in), salt), true, 0, 2 * SALT_MAX},
    };
    int r = json_read(params, fields, sizeof(fields) / sizeof(fields[0]), JSON_IGNORE_UNKNOWN, &in,
                      BAD_FILE, err);
    if (r < 0)
        return r;
    uint8_t salt[SALT_MAX];
    size_t salt_len = strlen(in.salt) / 2;
    if (strcmp(in.prf, "hmac-sha256") != 0 || hex_decode(in.salt, salt, salt_len) < 0)
        return bad_file(err, "has an unknown prf, or a salt that is not hexadecimal");
    if (mbedtls_pkcs5_pbkdf2_hmac_ext(MBEDTLS_MD_SHA256, (const unsigned char *)password,
                                      strlen(password), salt, salt_len, (unsigned)in.c,
                                      DERIVED_SIZE, ret_key) != 0)
        return error_set(err, EIO, BAD_FILE, "", "PBKDF2 failed");
    return 0;
}

static void aes_128_ctr(const uint8_t key[16], const uint8_t iv[16], const uint8_t in[32],
                        uint8_t ret_out[32])
{
    mbedtls_aes_context aes;
    uint8_t counter[16], stream[16];
    size_t offset = 0;
    memcpy(counter, iv, sizeof(counter));
    mbedtls_aes_init(&aes);
    if (mbedtls_aes_setkey_enc(&aes, key, 128) != 0 ||
        mbedtls_aes_crypt_ctr(&aes, 32, &offset, counter, stream, in, ret_out) != 0)
        abort();
    mbedtls_aes_free(&aes);
    crypto_wipe(stream, sizeof(stream));
}

static void mac_of(const uint8_t derived[DERIVED_SIZE], const uint8_t cipher[32],
                   uint8_t ret_mac[KECCAK256_SIZE])
{
    struct keccak keccak;
    keccak_init(&keccak);
    keccak_update(&keccak, derived + 16, 16);
    keccak_update(&keccak, cipher, 32);
    keccak_final(&keccak, ret_mac);
}

static const struct {
    const char *name;
    int (*derive)(yyjson_val *params, const char *password, uint8_t ret_key[DERIVED_SIZE],
                  struct error *err);
} kdfs[] = {{"scrypt", derive_scrypt}, {"pbkdf2", derive_pbkdf2}};

static int decrypt_doc(yyjson_val *root, const char *password, uint8_t ret_key[ECDSA_KEY_SIZE],
                       struct error *err)
{
    yyjson_val *crypto = yyjson_obj_get(root, "crypto");
    if (crypto == NULL)
        crypto = yyjson_obj_get(root, "Crypto"); /* as geth once wrote it */
    if (!yyjson_is_obj(crypto) || yyjson_get_uint(yyjson_obj_get(root, "version")) != 3)
        return bad_file(err, "is no keystore of version 3");
    struct {
        const char *cipher, *ciphertext, *kdf, *mac;
        yyjson_val *cipherparams, *kdfparams;
    } in = {0};
    static const struct json_field fields[] = {
        {"cipher", JSON_STRING, offsetof(__typeof__(in), cipher), true, 0, 32},
        {"ciphertext", JSON_STRING, offsetof(__typeof__(in), ciphertext), true, 0, 256},
        {"kdf", JSON_STRING, offsetof(__typeof__(in), kdf), true, 0, 32},
        {"mac", JSON_STRING, offsetof(__typeof__(in), mac), true, 0, 66},
        {"cipherparams", JSON_OBJECT, offsetof(__typeof__(in), cipherparams), true, 0, 0},
        {"kdfparams", JSON_OBJECT, offsetof(__typeof__(in), kdfparams), true, 0, 0},
    };
    int r = json_read(crypto, fields, sizeof(fields) / sizeof(fields[0]), JSON_IGNORE_UNKNOWN, &in,
                      BAD_FILE, err);
    if (r < 0)
        return r;
    uint8_t iv[16], cipher[32], mac[KECCAK256_SIZE];
    const char *iv_text = yyjson_get_str(yyjson_obj_get(in.cipherparams, "iv"));
    if (strcmp(in.cipher, "aes-128-ctr") != 0 || iv_text == NULL ||
        hex_decode(iv_text, iv, sizeof(iv)) < 0 ||
        hex_decode(in.ciphertext, cipher, sizeof(cipher)) < 0 ||
        hex_decode(in.mac, mac, sizeof(mac)) < 0)
        return bad_file(err, "has another cipher than aes-128-ctr, or a field of the wrong length");

    uint8_t derived[DERIVED_SIZE];
    r = -EBADMSG;
    for (size_t i = 0; i < sizeof(kdfs) / sizeof(kdfs[0]); i++) {
        if (strcmp(in.kdf, kdfs[i].name) == 0) {
            r = kdfs[i].derive(in.kdfparams, password, derived, err);
            if (r < 0)
                return r;
            break;
        }
    }
    if (r < 0)
        return bad_file(err, "has an unknown kdf");
    uint8_t expected[KECCAK256_SIZE], key[32];
    mac_of(derived, cipher, expected);
    if (!crypto_equal(expected, mac, sizeof(mac))) {
        crypto_wipe(derived, sizeof(derived));
        return error_set(err, EACCES, "key.wrong-password", "try the password again",
                         "the password does not open the key file");
    }
    aes_128_ctr(derived, iv, cipher, key);
    crypto_wipe(derived, sizeof(derived));
    if (!ecdsa_key_valid(key))
        return bad_file(err, "holds no valid secp256k1 key");
    memcpy(ret_key, key, sizeof(key));
    crypto_wipe(key, sizeof(key));
    return 0;
}

int keystore_decrypt(const char *text, size_t len, const char *password,
                     uint8_t ret_key[ECDSA_KEY_SIZE], struct error *err)
{
    yyjson_doc *doc = json_parse(text, len, FILE_MAX, BAD_FILE, err);
    if (doc == NULL)
        return -EBADMSG;
    int r = decrypt_doc(yyjson_doc_get_root(doc), password, ret_key, err);
    yyjson_doc_free(doc);
    return r;
}

int keystore_encrypt(const uint8_t key[ECDSA_KEY_SIZE], const char *password, unsigned log2_n,
                     struct buffer *out, struct error *err)
{
    if (log2_n < 1 || log2_n > 19)
        return error_set(err, EINVAL, BAD_FILE, "", "scrypt's cost is out of range");
    uint8_t salt[32], iv[16], id[16], derived[DERIVED_SIZE], cipher[32], mac[KECCAK256_SIZE];
    uint8_t address[ETH_ADDRESS_SIZE];
    if (ecdsa_address(key, address) < 0)
        return error_set(err, EINVAL, BAD_FILE, "", "the key is no valid secp256k1 key");
    crypto_random(salt, sizeof(salt));
    crypto_random(iv, sizeof(iv));
    crypto_random(id, sizeof(id));
    if (libscrypt_scrypt((const uint8_t *)password, strlen(password), salt, sizeof(salt),
                         (uint64_t)1 << log2_n, 8, 1, derived, sizeof(derived)) != 0)
        return error_set(err, ENOMEM, "key.no-memory", "", "scrypt could not get its memory");
    aes_128_ctr(derived, iv, key, cipher);
    mac_of(derived, cipher, mac);
    crypto_wipe(derived, sizeof(derived));

    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* a version 4 UUID, RFC 9562 */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    char text[33], salt_text[65], iv_text[33], cipher_text[65], mac_text[65], address_text[41];
    hex_encode(id, sizeof(id), text);
    hex_encode(salt, sizeof(salt), salt_text);
    hex_encode(iv, sizeof(iv), iv_text);
    hex_encode(cipher, sizeof(cipher), cipher_text);
    hex_encode(mac, sizeof(mac), mac_text);
    hex_encode(address, sizeof(address), address_text);
    int r =
        buffer_printf(out,
                      "{\"address\":\"%s\",\"crypto\":{\"cipher\":\"aes-128-ctr\","
                      "\"cipherparams\":{\"iv\":\"%s\"},\"ciphertext\":\"%s\",\"kdf\":\"scrypt\","
                      "\"kdfparams\":{\"dklen\":32,\"n\":%llu,\"p\":1,\"r\":8,\"salt\":\"%s\"},"
                      "\"mac\":\"%s\"},\"id\":\"%.8s-%.4s-%.4s-%.4s-%s\",\"version\":3}\n",
                      address_text, iv_text, cipher_text, 1ULL << log2_n, salt_text, mac_text, text,
                      text + 8, text + 12, text + 16, text + 20);
    return r < 0 ? error_set(err, -r, "key.no-memory", "", "no memory for the key file") : 0;
}

static int read_text(const char *path, char *text, size_t len, char *(*ask)(void *data), void *data,
                     uint8_t ret_key[ECDSA_KEY_SIZE], struct error *err)
{
    const char *start = text + strspn(text, " \t\r\n");
    if (*start == '{') {
        char *password = ask != NULL ? ask(data) : NULL;
        if (password == NULL)
            return error_set(err, EACCES, "key.no-password",
                             "run it on a terminal, or give a file with the plain key",
                             "%s is a keystore and its password is not known", path);
        int r = keystore_decrypt(text, len, password, ret_key, err);
        crypto_wipe(password, strlen(password));
        free(password);
        return error_prefix(err, r, "%s", path);
    }
    char *end = text + len;
    while (end > start && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' '))
        *--end = '\0';
    uint8_t key[ECDSA_KEY_SIZE];
    if (hex_decode(start, key, sizeof(key)) < 0 || !ecdsa_key_valid(key))
        return error_set(err, EBADMSG, BAD_FILE,
                         "a key file holds 64 hexadecimal digits, or a keystore",
                         "%s holds no private key", path);
    memcpy(ret_key, key, sizeof(key));
    crypto_wipe(key, sizeof(key));
    return 0;
}

int keystore_read_file(const char *path, char *(*ask)(void *data), void *data,
                       uint8_t ret_key[ECDSA_KEY_SIZE], struct error *err)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) < 0)
        return error_set(err, errno, "key.no-file", "name another file with CROFT_KEY_FILE",
                         "the key file %s cannot be opened: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size > FILE_MAX)
        return error_set(err, EINVAL, BAD_FILE, "", "%s is no key file", path);
    char text[FILE_MAX + 1];
    size_t len = 0;
    for (;;) {
        ssize_t got = read(fd, text + len, FILE_MAX - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, errno, "key.no-file", "", "%s cannot be read: %s", path,
                             strerror(errno));
        if (got == 0)
            break;
        len += (size_t)got;
    }
    text[len] = '\0';
    int r;
    /* A keystore is encrypted; the plain form must not be readable by anybody else. */
    if (text[strspn(text, " \t\r\n")] != '{' && (info.st_mode & 077) != 0)
        r = error_set(err, EACCES, "key.bad-permissions", "chmod 600 the file",
                      "%s holds a plain private key and others may read it", path);
    else
        r = read_text(path, text, len, ask, data, ret_key, err);
    crypto_wipe(text, sizeof(text));
    return r;
}
