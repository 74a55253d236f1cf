/*
 * typed.c - EIP-712.
 */
#include "lib/eth/typed.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/keccak.h"

#define TYPE_MAX 48

/* Hashes or copies one member into its word (EIP-712, "Definition of encodeData"). */
static int encode_member(const char *type, const struct abi_value *value, uint8_t ret_word[32])
{
    char inner[TYPE_MAX];
    size_t len = strlen(type);
    if (strcmp(type, "bytes") == 0 || strcmp(type, "string") == 0) {
        keccak256(value->data, value->len, ret_word);
        return 0;
    }
    if (len < 2 || type[len - 1] != ']') {
        memcpy(ret_word, value->word, 32);
        return 0;
    }
    size_t open = len;
    while (open > 0 && type[open - 1] != '[')
        open--;
    if (open == 0 || open - 1 >= sizeof(inner))
        return -EINVAL;
    memcpy(inner, type, open - 1);
    inner[open - 1] = '\0';
    struct keccak keccak;
    keccak_init(&keccak);
    for (size_t i = 0; i < value->len; i++) {
        uint8_t word[32];
        int r = encode_member(inner, &value->items[i], word);
        if (r < 0)
            return r;
        keccak_update(&keccak, word, 32);
    }
    keccak_final(&keccak, ret_word);
    return 0;
}

int eth_typed_struct_hash(const char *type, const struct abi_value *values, size_t count,
                          uint8_t ret_hash[32])
{
    struct keccak keccak;
    uint8_t word[32];
    keccak256(type, strlen(type), word);
    keccak_init(&keccak);
    keccak_update(&keccak, word, 32);

    const char *at = strchr(type, '(');
    if (at == NULL)
        return -EINVAL;
    at++;
    size_t index = 0;
    while (*at != ')') {
        size_t type_len = strcspn(at, " ,)");
        char name[TYPE_MAX];
        if (at[type_len] != ' ' || type_len == 0 || type_len >= sizeof(name) || index >= count)
            return -EINVAL;
        memcpy(name, at, type_len);
        name[type_len] = '\0';
        int r = encode_member(name, &values[index++], word);
        if (r < 0)
            return r;
        keccak_update(&keccak, word, 32);
        at += strcspn(at, ",)");
        if (*at == ',')
            at++;
        else if (*at == '\0')
            return -EINVAL;
    }
    if (index != count)
        return -EINVAL;
    keccak_final(&keccak, ret_hash);
    return 0;
}

void eth_domain_separator(const struct eth_domain *domain, uint8_t ret_separator[32])
{
    struct abi_value values[] = {abi_string(domain->name), abi_string(domain->version),
                                 abi_uint(domain->chain_id), abi_address(domain->contract)};
    int r = eth_typed_struct_hash(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        values, 4, ret_separator);
    assert(r == 0); /* the type string is a constant */
    (void)r;
}

int eth_typed_digest(const struct eth_domain *domain, const char *type,
                     const struct abi_value *values, size_t count, uint8_t ret_digest[32])
{
    uint8_t joined[66] = {0x19, 0x01};
    int r = eth_typed_struct_hash(type, values, count, joined + 34);
    if (r < 0)
        return r;
    eth_domain_separator(domain, joined + 2);
    keccak256(joined, sizeof(joined), ret_digest);
    return 0;
}
