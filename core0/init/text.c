/*
 * text.c - see text.h.
 */
#include "init/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Length of the well-formed sequence at text (Unicode 15, table 3-7), 0: none. *ret_control: a C1 character. */
static size_t text_sequence(const uint8_t *text, size_t len, int *ret_control)
{
    size_t want = text[0] >= 0xc2 && text[0] <= 0xdf   ? 2
                  : text[0] >= 0xe0 && text[0] <= 0xef ? 3
                  : text[0] >= 0xf0 && text[0] <= 0xf4 ? 4
                                                       : 0;

    *ret_control = 0;
    if (want == 0 || len < want)
        return 0;
    for (size_t i = 1; i < want; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    *ret_control = text[0] == 0xc2 && text[1] < 0xa0;
    return want;
}

size_t text_clean(char *dest, size_t size, const char *text, size_t len)
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t out = 0;

    for (size_t i = 0; i < len && out + 1 < size;) {
        int control = 0;
        size_t width;

        if (bytes[i] < 0x80) {
            bool control_byte = (bytes[i] < 0x20 && bytes[i] != '\t') || bytes[i] == 0x7f;

            dest[out++] = (char)(control_byte ? ' ' : bytes[i]);
            i++;
            continue;
        }
        width = text_sequence(bytes + i, len - i, &control);
        if (width == 0 || control != 0) {
            dest[out++] = (char)(control != 0 ? ' ' : '?');
            i += width != 0 ? width : 1;
            continue;
        }
        if (out + width >= size)
            break;
        memcpy(dest + out, bytes + i, width);
        out += width;
        i += width;
    }
    dest[out] = '\0';
    return out;
}

void text_hide_token(char *text)
{
    static const char key[] = "croft.join=";

    for (char *at = strstr(text, key); at != NULL; at = strstr(at, key)) {
        at += sizeof(key) - 1;
        while (*at != '\0' && *at != ' ' && *at != '\t' && *at != '\n' && *at != '\'')
            *at++ = '*';
    }
}
