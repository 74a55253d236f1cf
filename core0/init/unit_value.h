/*
 * unit_value.h - the kinds of values in service files, each a function over a string.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "init/unit.h"

/* All return 0, -EINVAL (does not parse), -E2BIG (too many words) or -ENOMEM. */
int unit_value_bool(const char *text, bool *ret_value);
int unit_value_uint(const char *text, unsigned base, uint64_t *ret_value);
/* "90", "90s", "1min 30s", "100ms", "infinity" -> microseconds. */
int unit_value_time(const char *text, uint64_t *ret_us);
/* "64M", "1G", "4096", "infinity" -> bytes; suffixes are powers of 1024. */
int unit_value_size(const char *text, uint64_t *ret_bytes);
/* "SIGTERM", "TERM" or "15". */
int unit_value_signal(const char *text, int *ret_signal);
/* "EPERM", or "1". */
int unit_value_errno(const char *text, int *ret_errno);
/* Splits at blanks; "…" and '…' quote, \ escapes. Appends to the list; an empty text empties it. */
int unit_value_words(const char *text, struct unit_list *list);
/* "CAP_NET_ADMIN CAP_NET_RAW", "~CAP_SYS_BOOT" (all but), "" (none) -> one bit each. */
int unit_value_caps(const char *text, uint64_t *ret_caps);

/* Writes text with the specifiers of systemd.unit(5) that an instance has: %i what stands behind the @ of `name`, %p what
 * stands before it, %n the name, %% a percent sign. -EINVAL: another one; -E2BIG: longer than size. */
int unit_value_expand(const char *text, const char *name, char *ret_text, size_t size);

int unit_list_add(struct unit_list *list, const char *word);
void unit_list_done(struct unit_list *list);
bool unit_list_has(const struct unit_list *list, const char *word);
