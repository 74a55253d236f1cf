/*
 * moment.h - points in time as people write them, and as logs show them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MOMENT_TEXT 32

/* "90s", "10m", "1h30m", "2d": that long before now. "2026-11-28T08:00:00Z", with a fraction or an offset (RFC 3339), a date
 * alone (its beginning, UTC), or "@1800000000": that very time. Microseconds since 1970. 0 or -EINVAL. */
int moment_parse(const char *text, uint64_t now_us, uint64_t *ret_us);
/* "2026-11-28T08:00:00.123456Z" */
void moment_format(uint64_t us, char ret_text[MOMENT_TEXT]);
