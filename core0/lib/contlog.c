/*
 * contlog.c - see contlog.h.
 */
#include "lib/contlog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

size_t contlog_head(char head[CONTLOG_HEAD_MAX], uint64_t time, bool is_error, bool partial)
{
    int len = snprintf(head, CONTLOG_HEAD_MAX, "%" PRIu64 " %c%c ", time, is_error ? 'e' : 'o',
                       partial ? '+' : '.');

    return len > 0 ? (size_t)len : 0;
}

ssize_t contlog_parse(const char *data, size_t len, struct contlog_record *ret_record,
                      size_t *ret_skip)
{
    const char *end = memchr(data, '\n', len);
    uint64_t time = 0;
    size_t at = 0;

    if (end == NULL)
        return 0;
    size_t line = (size_t)(end - data);
    while (at < line && at < 19 && data[at] >= '0' && data[at] <= '9')
        time = time * 10 + (uint64_t)(data[at++] - '0');
    if (at == 0 || line - at < 4 || data[at] != ' ' ||
        (data[at + 1] != 'o' && data[at + 1] != 'e') ||
        (data[at + 2] != '.' && data[at + 2] != '+') || data[at + 3] != ' ') {
        *ret_skip = line + 1;
        return -EBADMSG;
    }
    *ret_record = (struct contlog_record){.time = time,
                                          .is_error = data[at + 1] == 'e',
                                          .partial = data[at + 2] == '+',
                                          .text = data + at + 4,
                                          .len = line - at - 4};
    return (ssize_t)(line + 1);
}

int64_t contlog_number(const char *name)
{
    int64_t number = 0;

    if (strlen(name) != 12 || strcmp(name + 8, ".log") != 0)
        return -1;
    for (int i = 0; i < 8; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        number = number * 10 + (name[i] - '0');
    }
    return number;
}

void contlog_name(char name[CONTLOG_NAME_MAX], uint32_t number)
{
    snprintf(name, CONTLOG_NAME_MAX, "%08u.log", number % 100000000u);
}
