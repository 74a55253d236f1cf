/*
 * quantity.c - JSON-RPC's encodings: quantities ("0x1f") and data ("0x00ff").
 */
#include <errno.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/eth/rpc.h"

int eth_quantity_parse(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (text[0] != '0' || text[1] != 'x' || text[2] == '\0' || strlen(text) > 18)
        return -EINVAL;
    for (const char *c = text + 2; *c != '\0'; c++) {
        unsigned digit;
        if (*c >= '0' && *c <= '9')
            digit = (unsigned)(*c - '0');
        else if (*c >= 'a' && *c <= 'f')
            digit = (unsigned)(*c - 'a') + 10;
        else if (*c >= 'A' && *c <= 'F')
            digit = (unsigned)(*c - 'A') + 10;
        else
            return -EINVAL;
        value = value << 4 | digit;
    }
    *ret_value = value;
    return 0;
}

/* The text of a string without NUL bytes inside, else NULL. */
static const char *text_of(yyjson_val *value)
{
    const char *text = yyjson_get_str(value);
    return text != NULL && strlen(text) == yyjson_get_len(value) ? text : NULL;
}

int eth_rpc_quantity(yyjson_val *value, uint64_t *ret_value)
{
    const char *text = text_of(value);
    return text == NULL ? -EINVAL : eth_quantity_parse(text, ret_value);
}

int eth_rpc_bytes(yyjson_val *value, void *ret_data, size_t len)
{
    const char *text = text_of(value);
    if (text == NULL || text[0] != '0' || text[1] != 'x')
        return -EINVAL;
    return hex_decode(text, ret_data, len);
}

int eth_rpc_bytes_buffer(yyjson_val *value, struct buffer *out)
{
    const char *text = text_of(value);
    if (text == NULL || text[0] != '0' || text[1] != 'x')
        return -EINVAL;
    return hex_decode_buffer(text, out);
}
