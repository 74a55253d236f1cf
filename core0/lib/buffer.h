/*
 * buffer.h - a growable run of bytes with a limit.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t
        *data; /* always followed by a NUL byte that is not counted, once anything was appended */
    size_t len;
    size_t capacity;
    size_t max; /* bytes; 0: BUFFER_MAX_DEFAULT. Growing beyond it answers -EFBIG */
};

#define BUFFER_MAX_DEFAULT ((size_t)64 << 20)

void buffer_init(struct buffer *buf, size_t max);
void buffer_done(struct buffer *buf);                /* frees; usable again after buffer_init */
void buffer_clear(struct buffer *buf);               /* len = 0, memory kept */
int buffer_reserve(struct buffer *buf, size_t more); /* 0, -ENOMEM, -EFBIG */
int buffer_append(struct buffer *buf, const void *data, size_t len);
int buffer_append_str(struct buffer *buf, const char *str);
__attribute__((format(printf, 2, 3))) int buffer_printf(struct buffer *buf, const char *fmt, ...);
void buffer_consume(struct buffer *buf, size_t len); /* drops len bytes from the front */
/* Hands the memory over to the caller (free()); the buffer is empty afterwards. */
uint8_t *buffer_steal(struct buffer *buf, size_t *ret_len);
