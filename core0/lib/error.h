/*
 * error.h - what went wrong, for a program and for a person.
 *
 * A function that can fail for a reason a person must understand takes `struct error *err` as its last
 * argument, sets it exactly once, and returns a negative errno. `code` is stable (`area.reason`): the
 * same word appears in the API, the log, the metric and on the chain (there as bytes32, so it has at
 * most 32 bytes).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ERROR_CODE_MAX 32 /* bytes without the terminator: the chain's bytes32 */

struct error {
    char code[ERROR_CODE_MAX + 1]; /* "image.digest-mismatch"; empty: no error */
    char message[320];             /* one sentence: what is wrong, with the value that was wrong */
    char hint[200];                /* what to do; may be empty */
};

/* Sets *err (err may be NULL; an error that is already set is kept). `ret` is a positive errno.
 * Returns -ret, so that `return error_set(err, EINVAL, "x.y", "do this", "…", …)` works. */
__attribute__((format(printf, 5, 6))) int error_set(struct error *err, int ret, const char *code,
                                                    const char *hint, const char *fmt, ...);
#ifdef __clang_analyzer__
/* The analyzer reads one file at a time: what the line above promises it must see here. */
#define error_set(...)                                                                             \
    ({                                                                                             \
        int error_ret_ = error_set(__VA_ARGS__);                                                   \
        if (error_ret_ >= 0)                                                                       \
            __builtin_unreachable();                                                               \
        error_ret_;                                                                                \
    })
#endif

/* Puts "what: " before the message of an error that is set; returns `ret` unchanged. */
__attribute__((format(printf, 3, 4))) int error_prefix(struct error *err, int ret, const char *fmt,
                                                       ...);

static inline bool error_is_set(const struct error *err)
{
    return err != NULL && err->code[0] != '\0';
}

void error_clear(struct error *err);
