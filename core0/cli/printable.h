/*
 * printable.h - text of strangers on a terminal (docs/decisions/0130).
 */
#pragma once

#include <stddef.h>

#include "lib/buffer.h"

/* Appends text with everything spelled out that a terminal would obey instead of showing: control characters (a tab stays),
 * those of ISO 6429's second set, marks that turn the direction of writing, and bytes that are no UTF-8. They appear as
 * \x1b or \u202e. 0, -ENOMEM, -EFBIG. */
int printable_append(struct buffer *out, const char *text, size_t len);
