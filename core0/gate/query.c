/*
 * query.c - see query.h.
 */
#include "query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"

/* In place. */
static int decode(char *text)
{
    char *to = text;

    for (const char *at = text; *at != '\0'; at++) {
        if (*at != '%') {
            *to++ = *at;
            continue;
        }
        char digits[3] = {at[1], '\0', '\0'}, byte;
        if (at[1] != '\0')
            digits[1] = at[2];
        if (hex_decode(digits, &byte, 1) < 0 || byte == '\0')
            return -EINVAL;
        *to++ = byte;
        at += 2;
    }
    *to = '\0';
    return 0;
}

/* Only well-formed UTF-8 goes on: it becomes JSON. */
static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at != 0) {
        unsigned more = *at < 0x80                  ? 0
                        : *at >= 0xc2 && *at < 0xe0 ? 1
                        : *at >= 0xe0 && *at < 0xf0 ? 2
                        : *at >= 0xf0 && *at < 0xf5 ? 3
                                                    : 4;
        uint32_t point = more == 0 ? *at : *at & (0x3fu >> more);

        if (more == 4)
            return false;
        for (unsigned i = 1; i <= more; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (at[i] & 0x3fu);
        }
        if ((more == 2 && (point < 0x800 || (point >= 0xd800 && point < 0xe000))) ||
            (more == 3 && (point < 0x10000 || point > 0x10ffff)))
            return false;
        at += more + 1;
    }
    return true;
}

int query_parse(const char *target, struct query *ret_query)
{
    struct query *query = ret_query;

    memset(query, 0, sizeof(*query));
    query->text = strdup(target);
    if (query->text == NULL)
        return -ENOMEM;
    query->path = query->text;
    char *at = strchr(query->text, '?');
    if (at != NULL)
        *at++ = '\0';
    while (at != NULL && *at != '\0') {
        char *next = strchr(at, '&'), *value;

        if (next != NULL)
            *next++ = '\0';
        if (query->count == QUERY_PARAMETERS_MAX)
            return -EINVAL;
        value = strchr(at, '=');
        if (value == NULL)
            return -EINVAL;
        *value++ = '\0';
        if (decode(at) < 0 || decode(value) < 0 || !is_utf8(at) || !is_utf8(value))
            return -EINVAL;
        query->parameters[query->count++] = (struct query_parameter){at, value};
        at = next;
    }
    return 0;
}

void query_done(struct query *query)
{
    free(query->text);
    query->text = NULL;
    query->count = 0;
}

const char *query_get(const struct query *query, const char *name)
{
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->parameters[i].name, name) == 0)
            return query->parameters[i].value;
    }
    return NULL;
}

int query_get_number(const struct query *query, const char *name, int64_t min, int64_t max,
                     int64_t *ret_value)
{
    const char *text = query_get(query, name);
    char *end;

    if (text == NULL)
        return 0;
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (digits[0] < '0' || digits[0] > '9')
        return -EINVAL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max)
        return -EINVAL;
    *ret_value = value;
    return 1;
}

int query_get_flag(const struct query *query, const char *name, bool *ret_value)
{
    int64_t value = 0;
    int r = query_get_number(query, name, 0, 1, &value);

    if (r > 0)
        *ret_value = value != 0;
    return r;
}

int query_get_place(const struct query *query, const char *name, uint64_t log_max,
                    uint64_t position_min, uint64_t *ret_log, uint64_t *ret_position)
{
    const char *text = query_get(query, name);
    uint64_t parts[2];

    if (text == NULL)
        return 0;
    for (size_t i = 0; i < 2; i++) {
        char *end;

        if (text[0] < '0' || text[0] > '9')
            return -EINVAL;
        errno = 0;
        parts[i] = strtoull(text, &end, 10);
        if (errno != 0 || *end != (i == 0 ? '-' : '\0'))
            return -EINVAL;
        text = end + 1;
    }
    if (parts[0] == 0 || parts[0] > log_max || parts[1] < position_min)
        return -EINVAL;
    *ret_log = parts[0];
    *ret_position = parts[1];
    return 1;
}

int query_only(const struct query *query, const char *const *names)
{
    for (size_t i = 0; i < query->count; i++) {
        size_t n = 0;

        while (names[n] != NULL && strcmp(names[n], query->parameters[i].name) != 0)
            n++;
        if (names[n] == NULL)
            return -EINVAL;
    }
    return 0;
}
