/*
 * logloss.h - whether a container writes so much that its log keeps it for a short while only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

/* A log that reaches further back than this is an ordinary one, though it is rotated now and then. */
#define LOGLOSS_KEPT_US (UINT64_C(3600) * 1000000)

/* Whether records of the log in `folder` were rotated away and what is left of it begins less than LOGLOSS_KEPT_US before
 * `now` (Unix microseconds): container.log-rotated. file_size: bytes at which a file of it is full. */
bool logloss_seen(const char *folder, uint64_t now, uint64_t file_size, struct error *ret_reason);
