/*
 * process.h - start a program of another package and read what it says.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"

struct process_result {
    int status; /* as of waitpid(2) */
    char *out;  /* standard output, NUL-terminated, at most max_output bytes; free() */
    size_t out_len;
    char *err; /* the same for standard error */
    size_t err_len;
};

struct process_options {
    const char *const *env; /* NULL: the caller's */
    const char *dir;        /* NULL: the caller's */
    const void *in;         /* standard input; NULL: /dev/null */
    size_t in_len;
    uint64_t timeout_us; /* then SIGKILL and -ETIMEDOUT; 0: 60 s */
    size_t max_output;   /* bytes per stream; what is more is dropped; 0: 64 KiB */
};

/* Runs argv[0] (a path) to its end, blocking. 0 when it could be run (look at status), or -errno. */
int process_run(const char *const *argv, const struct process_options *options,
                struct process_result *ret_result);
void process_result_done(struct process_result *result);
/* As process_run, but an exit status other than 0 is an error whose message holds the last line of stderr. */
int process_check(const char *const *argv, const struct process_options *options, const char *code,
                  struct error *err);
