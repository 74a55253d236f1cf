/*
 * text.h - text from outside made fit for terminals and JSON.
 */
#pragma once

#include <stddef.h>

/*
 * Copies at most size - 1 bytes and ends with NUL: valid UTF-8 stays, control characters (C0 but the tab, DEL, C1) become blanks,
 * bytes that are no UTF-8 become '?'. Returns the length.
 */
size_t text_clean(char *dest, size_t size, const char *text, size_t len);
/* Replaces the value of every "croft.join=…" by asterisks of the same length, in place. */
void text_hide_token(char *text);
