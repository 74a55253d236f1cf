/*
 * codes.h - sentences for codes that arrive without one: from a contract, or as the reason of a transition.
 *
 * The table is the source of the table in docs/errors.md (croft codes prints it; a test compares).
 */
#pragma once

#include <stddef.h>

struct code {
    const char *code;
    const char *message; /* one sentence, no value in it */
    const char *hint;    /* what to do */
};

extern const struct code codes[];
extern const size_t code_count;
const struct code *code_find(const char *code); /* NULL: not known */
