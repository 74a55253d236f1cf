/*
 * log.c - see log.h.
 */
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/error.h"

#define LOG_LINE_MAX 1000 /* bytes of the message, without prefix and newline */

static enum log_level log_max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_max_level = level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char line[LOG_LINE_MAX + 8];
    int saved_errno = errno;
    int prefix;
    size_t len;
    va_list args;

    if (level > log_max_level)
        return;

    prefix = snprintf(line, sizeof(line), "<%d>", (int)level);
    va_start(args, fmt);
    vsnprintf(line + prefix, LOG_LINE_MAX + 1, fmt, args);
    va_end(args);

    /* One message is one line and never steers a terminal, whatever a stranger put into it. */
    len = strlen(line);
    for (size_t i = (size_t)prefix; i < len; i++) {
        unsigned char byte = (unsigned char)line[i];
        if (byte < 0x20 || byte == 0x7f)
            line[i] = byte == '\t' ? ' ' : '?';
    }
    line[len++] = '\n';

    /* A single write: lines of several programs on one pipe do not mix. What cannot be written is lost. */
    while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
        ;
    errno = saved_errno;
}

void log_error(const struct error *err, const char *what)
{
    if (!error_is_set(err)) {
        log_line(LOG_LEVEL_ERROR, "%s: failed", what);
        return;
    }
    log_line(LOG_LEVEL_ERROR, "%s: %s (%s)%s%s", what, err->message, err->code,
             err->hint[0] != '\0' ? " - " : "", err->hint);
}
