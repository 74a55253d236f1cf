/*
 * query.h - the target of a request: path and query parameters (RFC 3986, section 3.4; names and values percent-encoded,
 * "+" is a plus).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUERY_PARAMETERS_MAX 512

struct query_parameter {
    const char *name, *value; /* decoded, ended by NUL, in the query's own memory */
};

struct query {
    char *text;
    const char *path; /* as sent: no path of ours needs escapes */
    struct query_parameter parameters[QUERY_PARAMETERS_MAX];
    size_t count;
};

/* 0; -EINVAL: malformed, a NUL byte, not UTF-8, too many; -ENOMEM. query_done() in any case. */
int query_parse(const char *target, struct query *ret_query);
void query_done(struct query *query);
/* The first of that name, or NULL. */
const char *query_get(const struct query *query, const char *name);
/* A whole number within [min, max]: 1, 0: absent (*ret_value stays), -EINVAL. */
int query_get_number(const struct query *query, const char *name, int64_t min, int64_t max,
                     int64_t *ret_value);
/* "1": true, "0": false. As query_get_number. */
int query_get_flag(const struct query *query, const char *name, bool *ret_value);
/* A place in a log as entries name it, "LOG-POSITION", both in decimal: which log it is in (a revision's, a boot's; 1 to log_max), and
 * where there (from position_min on). As query_get_number. */
int query_get_place(const struct query *query, const char *name, uint64_t log_max,
                    uint64_t position_min, uint64_t *ret_log, uint64_t *ret_position);
/* 0 only if every parameter has one of these names (ended by NULL). */
int query_only(const struct query *query, const char *const *names);
