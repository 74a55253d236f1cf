// attack.h - what the parts of the attack program share.
//
//   attack [--enter PID NAMESPACES] [--uid N] NAME [ARGUMENT…] [, NAME ARGUMENT…]…
//
// Each attack runs in a process of its own and prints one line of JSON:
//   {"attack":"mknod","verdict":"refused","errno":"EPERM","detail":""}
// verdict: refused (errno says how), succeeded, killed (errno is the signal's number), slow (no end within 30 s). An attack
// that succeeds harms nothing: it opens and does not write, or undoes what it did; eaters stop at a refusal.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct attack {
    const char *name;
    int arguments; // at least
    // 0 or more: it succeeded; negative: -errno
    int (*fn)(char **argument);
};

// What the line says besides; the last call counts.
void detail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// The result of a system call as an attack gives it.
int outcome(long result);

extern const struct attack escapes[], neighbours[], network[], eaters[];
