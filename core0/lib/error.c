/*
 * error.c - see error.h.
 */
#include "lib/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int(error_set)(struct error *err, int ret, const char *code, const char *hint, const char *fmt, ...)
{
    /* The first cause is the one that a person needs; what fails on the way out is a consequence. */
    if (err != NULL && err->code[0] == '\0') {
        va_list args;

        snprintf(err->code, sizeof(err->code), "%s", code);
        snprintf(err->hint, sizeof(err->hint), "%s", hint != NULL ? hint : "");
        va_start(args, fmt);
        vsnprintf(err->message, sizeof(err->message), fmt, args);
        va_end(args);
    }
    return -ret;
}

int error_prefix(struct error *err, int ret, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    va_list args;
    size_t len;

    if (!error_is_set(err))
        return ret;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text) - 2, fmt, args);
    va_end(args);

    strcat(text, ": ");
    len = strlen(text);
    /* What no longer fits is cut at the end of the older part. */
    memmove(err->message + len, err->message, sizeof(err->message) - len);
    memcpy(err->message, text, len);
    err->message[sizeof(err->message) - 1] = '\0';
    return ret;
}

void error_clear(struct error *err)
{
    if (err != NULL)
        *err = (struct error){0};
}
