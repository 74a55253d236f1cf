/*
 * runc_error.h - runc's sentences in our words.
 */
#pragma once

#include <stddef.h>

#include "lib/error.h"

/* The last error in runc's JSON log; text has room for `size`. Empty when there is none. */
void runc_error_last(const char *log, size_t len, char *text, size_t size);
/* Sets err from such a sentence. `program`: what was to be run. */
void runc_error_translate(const char *text, const char *program, struct error *err);
