/*
 * kernel_log.h - the kernel's log (/dev/kmsg), without the join token that its command line carries.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "init/ring.h"

/* A descriptor that reads the log from its oldest record, non-blocking, or -errno. */
int kernel_log_open(void);
/*
 * Reads one record: 1, 0 when there is no more now, or -errno. `text` holds the line (RING_LINE_MAX bytes); boot_us is
 * what CLOCK_REALTIME said when CLOCK_MONOTONIC was 0.
 */
int kernel_log_read(int fd, uint64_t boot_us, char *text, struct ring_line *ret_line);
/* The record's text as read from /dev/kmsg (Documentation/ABI/testing/dev-kmsg). 0 or -EINVAL. */
int kernel_log_parse(char *record, size_t len, uint64_t boot_us, char *text,
                     struct ring_line *ret_line);
