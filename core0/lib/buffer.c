/*
 * buffer.c - see buffer.h.
 */
#include "lib/buffer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_FIRST 64 /* bytes of the first allocation */

void buffer_init(struct buffer *buf, size_t max)
{
    *buf = (struct buffer){.max = max != 0 ? max : BUFFER_MAX_DEFAULT};
}

void buffer_done(struct buffer *buf)
{
    if (buf == NULL)
        return;
    free(buf->data);
    *buf = (struct buffer){.max = buf->max};
}

void buffer_clear(struct buffer *buf)
{
    buf->len = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

int buffer_reserve(struct buffer *buf, size_t more)
{
    size_t max = buf->max != 0 ? buf->max : BUFFER_MAX_DEFAULT;
    size_t want;
    size_t capacity;
    uint8_t *data;

    if (buf->len > max || more > max - buf->len)
        return -EFBIG;
    want = buf->len + more;
    if (buf->data != NULL && want < buf->capacity)
        return 0;

    /* Doubling keeps appending linear; the extra byte is the terminator's. */
    capacity = buf->capacity < BUFFER_FIRST ? BUFFER_FIRST : buf->capacity;
    while (capacity <= want)
        capacity *= 2;
    if (capacity > max + 1)
        capacity = max + 1;
    data = realloc(buf->data, capacity);
    if (data == NULL)
        return -ENOMEM;
    if (buf->data == NULL)
        data[0] = '\0';
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int buffer_append(struct buffer *buf, const void *data, size_t len)
{
    int ret = buffer_reserve(buf, len);

    if (ret < 0)
        return ret;
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return 0;
}

int buffer_append_str(struct buffer *buf, const char *str)
{
    return buffer_append(buf, str, strlen(str));
}

int buffer_printf(struct buffer *buf, const char *fmt, ...)
{
    va_list args;
    int len;
    int ret;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0)
        return -EINVAL;

    ret = buffer_reserve(buf, (size_t)len);
    if (ret < 0)
        return ret;
    va_start(args, fmt);
    vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)len;
    return 0;
}

void buffer_consume(struct buffer *buf, size_t len)
{
    if (len >= buf->len) {
        buffer_clear(buf);
        return;
    }
    if (len == 0)
        return;
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
    buf->data[buf->len] = '\0';
}

uint8_t *buffer_steal(struct buffer *buf, size_t *ret_len)
{
    uint8_t *data = buf->data;

    if (ret_len != NULL)
        *ret_len = buf->len;
    *buf = (struct buffer){.max = buf->max};
    return data;
}
