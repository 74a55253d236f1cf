/*
 * text.h - hexadecimal and base64 (RFC 4648) as texts of keys, hashes and sealed bytes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"

/* ret_text has room for 2 * len + 1 bytes. Lower case, no prefix. */
void hex_encode(const void *data, size_t len, char *ret_text);
/* The same after "0x": 2 * len + 3 bytes. */
void hex_encode_0x(const void *data, size_t len, char *ret_text);
/* Exactly len bytes from text (an optional 0x, either case, nothing else). 0 or -EINVAL. */
int hex_decode(const char *text, void *ret_data, size_t len);
/* Any even number of digits, appended to out. 0, -EINVAL, -ENOMEM, -EFBIG. */
int hex_decode_buffer(const char *text, struct buffer *out);
int hex_append_0x(struct buffer *out, const void *data, size_t len);

/* With padding, one line. NULL: no memory. Free with free(). */
char *base64_encode(const void *data, size_t len);
/* Strict: padding needed, no white space, no stray bits. 0, -EINVAL, -ENOMEM. *ret_data: free(). */
int base64_decode(const char *text, size_t max, uint8_t **ret_data, size_t *ret_len);
