/*
 * kernel_log.c - see kernel_log.h.
 */
#include "init/kernel_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init/text.h"

#define KERNEL_RECORD_MAX 8192u /* CONSOLE_EXT_LOG_MAX */

int kernel_log_open(void)
{
    int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

/* "6,339,5140900,-;text\n KEY=value\n" */
int kernel_log_parse(char *record, size_t len, uint64_t boot_us, char *text,
                     struct ring_line *ret_line)
{
    char *semicolon = memchr(record, ';', len);
    char *at = record;
    unsigned long long fields[3];
    char *end;

    if (semicolon == NULL)
        return -EINVAL;
    for (int i = 0; i < 3; i++) {
        fields[i] = strtoull(at, &end, 10);
        if (end == at || end > semicolon || (*end != ',' && *end != ';'))
            return -EINVAL;
        at = end + 1;
    }
    end = memchr(semicolon, '\n', len - (size_t)(semicolon - record));
    if (end == NULL)
        end = record + len;
    len = text_clean(text, RING_LINE_MAX, semicolon + 1, (size_t)(end - semicolon - 1));
    text_hide_token(text);
    *ret_line = (struct ring_line){
        .sequence = fields[1],
        .time_us = boot_us + fields[2],
        .level = (uint8_t)(fields[0] & 7),
        .len = (uint16_t)len,
        .text = text,
    };
    return 0;
}

int kernel_log_read(int fd, uint64_t boot_us, char *text, struct ring_line *ret_line)
{
    char record[KERNEL_RECORD_MAX + 1];

    for (;;) {
        ssize_t got = read(fd, record, KERNEL_RECORD_MAX);

        if (got < 0 &&
            (errno == EINTR || errno == EPIPE)) /* EPIPE: records were overwritten meanwhile */
            continue;
        if (got < 0)
            return errno == EAGAIN ? 0 : -errno;
        if (got == 0)
            return 0;
        record[got] = '\0';
        if (kernel_log_parse(record, (size_t)got, boot_us, text, ret_line) == 0)
            return 1;
    }
}
