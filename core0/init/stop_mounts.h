/*
 * stop_mounts.h - unmounting everything at the end.
 */
#pragma once

#include <stddef.h>

struct core;

void stop_mounts_all(struct core *core);
/* The mount point of one line of mountinfo(5), octal escapes undone, into buf. NULL: not such a line. */
const char *stop_mounts_point(const char *line, char *buf, size_t size);
