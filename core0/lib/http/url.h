/*
 * url.h - the parts of a URL that our programs look at.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define URL_ORIGIN_MAX 300

/* scheme://host[:port] of an absolute URL, without user, path and query: those may hold a key and must not reach a log.
 * 0 or -EINVAL. */
int url_origin(const char *url, char ret_origin[URL_ORIGIN_MAX]);
/* Is the host 127.0.0.0/8, ::1 or localhost? */
bool url_is_loopback(const char *url);
