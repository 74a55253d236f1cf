/*
 * printable.c - see printable.h.
 */
#include "cli/printable.h"

#include <stdbool.h>
#include <stdint.h>

/* The character that begins at text and its bytes; 0 bytes: no UTF-8 (RFC 3629, section 4). */
static size_t decode(const unsigned char *text, size_t len, uint32_t *ret_character)
{
    unsigned char first = text[0];
    size_t size = first < 0x80   ? 1
                  : first < 0xc2 ? 0
                  : first < 0xe0 ? 2
                  : first < 0xf0 ? 3
                  : first < 0xf5 ? 4
                                 : 0;
    uint32_t character = size == 1 ? first : first & (0x7fU >> size);

    if (size == 0 || size > len) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = character << 6 | (text[i] & 0x3fU);
    }
    bool longer = (size == 3 && character < 0x800) || (size == 4 && character < 0x10000);
    if (longer || character > 0x10ffff || (character >= 0xd800 && character < 0xe000)) {
        return 0;
    }
    *ret_character = character;
    return size;
}

static bool obeyed(uint32_t c)
{
    return (c < 0x20 && c != '\t') || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f || c == 0x061c ||
           c == 0x2028 || c == 0x2029;
}

int printable_append(struct buffer *out, const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t plain = 0; /* where what is to be copied as it is begins */
    int ret = 0;

    for (size_t at = 0; at < len && ret >= 0;) {
        uint32_t character = 0;
        size_t size = decode(bytes + at, len - at, &character);
        if (size > 0 && !obeyed(character)) {
            at += size;
            continue;
        }
        ret = buffer_append(out, text + plain, at - plain);
        if (ret >= 0) {
            ret = size > 1 ? buffer_printf(out, "\\u%04x", (unsigned)character)
                           : buffer_printf(out, "\\x%02x", bytes[at]);
        }
        at += size > 0 ? size : 1;
        plain = at;
    }
    return ret < 0 ? ret : buffer_append(out, text + plain, len - plain);
}
