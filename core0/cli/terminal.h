/*
 * terminal.h - this side's terminal while a program at the other end uses it.
 */
#pragma once

#include <stdbool.h>

struct terminal_size {
    unsigned rows, columns;
};

/* Puts the terminal on standard input into raw mode. It is given back by terminal_restore, at exit, and by the handlers of
 * signals that kill (SIGSEGV and the like), which the caller does not see. 0 or -errno. */
int terminal_raw(void);
void terminal_restore(void);
/* As the terminal of standard output (else input) says; false: there is none, or it does not know. */
bool terminal_size_get(struct terminal_size *ret_size);
