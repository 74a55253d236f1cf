/*
 * kv_name.c - see kv_name.h.
 */
#include "lib/kv_name.h"

#include <stdio.h>
#include <string.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"

void kv_key(const uint8_t tenant[20], const char *project, const char *name,
            char ret_key[KV_KEY_SIZE])
{
    char text[43];

    hex_encode_0x(tenant, 20, text);
    snprintf(ret_key, KV_KEY_SIZE, "kv/%s/%.63s/%.63s", text, project, name);
}

void kv_name(const char *key, char ret_name[KV_NAME_LEN + 1])
{
    static const char domain[] = "croft key-value namespace\n";
    struct sha256 sha;
    uint8_t hash[SHA256_SIZE];

    sha256_init(&sha);
    sha256_update(&sha, domain, sizeof(domain) - 1);
    sha256_update(&sha, key, strlen(key));
    sha256_final(&sha, hash);
    snprintf(ret_name, KV_NAME_LEN + 1, "kv-");
    hex_encode(hash, 16, ret_name + 3);
}
