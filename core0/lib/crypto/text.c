/*
 * text.c - hexadecimal and base64.
 */
#include "lib/crypto/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static const char *skip_prefix(const char *text)
{
    return text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? text + 2 : text;
}

void hex_encode(const void *data, size_t len, char *ret_text)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        *ret_text++ = digits[bytes[i] >> 4];
        *ret_text++ = digits[bytes[i] & 15];
    }
    *ret_text = '\0';
}

void hex_encode_0x(const void *data, size_t len, char *ret_text)
{
    ret_text[0] = '0';
    ret_text[1] = 'x';
    hex_encode(data, len, ret_text + 2);
}

int hex_decode(const char *text, void *ret_data, size_t len)
{
    text = skip_prefix(text);
    if (strlen(text) != 2 * len)
        return -EINVAL;
    for (size_t i = 0; i < 2 * len; i++) {
        if (digit_value(text[i]) < 0)
            return -EINVAL;
    }
    uint8_t *bytes = ret_data;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)((unsigned)digit_value(text[2 * i]) << 4 |
                             (unsigned)digit_value(text[2 * i + 1]));
    return 0;
}

int hex_decode_buffer(const char *text, struct buffer *out)
{
    text = skip_prefix(text);
    size_t len = strlen(text);
    if (len % 2 != 0)
        return -EINVAL;
    int r = buffer_reserve(out, len / 2);
    if (r < 0)
        return r;
    size_t start = out->len;
    for (size_t i = 0; i < len; i += 2) {
        int high = digit_value(text[i]);
        int low = digit_value(text[i + 1]);
        if (high < 0 || low < 0) {
            out->len = start;
            return -EINVAL;
        }
        uint8_t byte = (uint8_t)(high << 4 | low);
        r = buffer_append(out, &byte, 1);
        if (r < 0) {
            out->len = start;
            return r;
        }
    }
    return 0;
}

int hex_append_0x(struct buffer *out, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    int r = buffer_reserve(out, 2 * len + 2);
    if (r < 0)
        return r;
    r = buffer_append(out, "0x", 2);
    for (size_t i = 0; i < len && r >= 0; i++) {
        char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        r = buffer_append(out, pair, 2);
    }
    return r < 0 ? r : 0;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    if (len > SIZE_MAX / 4 * 3 - 8)
        return NULL;
    char *text = malloc((len + 2) / 3 * 4 + 1);
    if (text == NULL)
        return NULL;
    char *to = text;
    for (size_t i = 0; i < len; i += 3) {
        size_t rest = len - i;
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (rest > 1)
            group |= (uint32_t)bytes[i + 1] << 8;
        if (rest > 2)
            group |= bytes[i + 2];
        *to++ = alphabet[group >> 18];
        *to++ = alphabet[group >> 12 & 63];
        *to++ = '=';
        *to++ = '=';
        if (rest > 1)
            to[-2] = alphabet[group >> 6 & 63];
        if (rest > 2)
            to[-1] = alphabet[group & 63];
    }
    *to = '\0';
    return text;
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

int base64_decode(const char *text, size_t max, uint8_t **ret_data, size_t *ret_len)
{
    size_t len = strlen(text);
    if (len % 4 != 0)
        return -EINVAL;
    size_t padding = 0;
    if (len > 0 && text[len - 1] == '=')
        padding = text[len - 2] == '=' ? 2 : 1;
    size_t size = len / 4 * 3 - padding;
    if (size > max)
        return -EINVAL;
    uint8_t *data = malloc(size + 1);
    if (data == NULL)
        return -ENOMEM;
    uint32_t group = 0;
    size_t at = 0;
    for (size_t i = 0; i < len - padding; i++) {
        int value = sextet(text[i]);
        if (value < 0)
            goto invalid;
        group = group << 6 | (uint32_t)value;
        if (i % 4 == 3) {
            data[at++] = (uint8_t)(group >> 16);
            data[at++] = (uint8_t)(group >> 8);
            data[at++] = (uint8_t)group;
            group = 0;
        }
    }
    if (padding == 1) {
        if ((group & 3) != 0)
            goto invalid;
        data[at++] = (uint8_t)(group >> 10);
        data[at++] = (uint8_t)(group >> 2);
    } else if (padding == 2) {
        if ((group & 15) != 0)
            goto invalid;
        data[at++] = (uint8_t)(group >> 4);
    }
    data[at] = '\0';
    *ret_data = data;
    *ret_len = at;
    return 0;
invalid:
    free(data);
    return -EINVAL;
}
