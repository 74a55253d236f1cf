/*
 * seccomp.h - SystemCallFilter=: a classic BPF program from names and @groups (seccomp(2), seccomp_filter.rst).
 *
 * libseccomp alone is larger than PID 1 may be. What a service file can say is a set of system call numbers of one
 * architecture, and a set is a list of ranges: that needs no library (docs/decisions).
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#define SECCOMP_PROGRAM_MAX 1024u /* instructions; a set of n ranges needs 2n + 8 */

/* True for a system call's name of this architecture, or "@group". */
bool seccomp_knows(const char *word);
/*
 * Makes the program for the words: with `deny` these are refused and all others allowed, else the reverse (execve,
 * exit, exit_group and rt_sigreturn are then always allowed, or nothing could start). Refused calls answer `error`,
 * or with 0 kill the process. Calls of other architectures always kill. -EINVAL: a word is not known, -E2BIG.
 */
int seccomp_build(char *const *words, size_t count, bool deny, int error,
                  struct sock_filter *program, size_t max, size_t *ret_len);
/* Loads it into the calling process. 0 or -errno. Safe between fork and exec. */
int seccomp_load(const struct sock_filter *program, size_t len);
