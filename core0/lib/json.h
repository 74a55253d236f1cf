/*
 * json.h - thin helpers over yyjson: reading an object by a policy table, and RFC 8785 output.
 *
 * A table has one row per member: name, type, limits, and where the value goes. Members that no row names
 * are an error unless JSON_IGNORE_UNKNOWN is given. Strings point into the document.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/buffer.h"
#include "lib/error.h"

enum json_type {
    JSON_STRING, /* const char *; max = bytes without NUL (0: 4096); no NUL byte inside */
    JSON_INT,    /* int64_t within [min, max] (both 0: within +-2^53) */
    JSON_UINT,   /* uint64_t within [min, max] (max 0: 2^53 - 1) */
    JSON_BOOL,   /* bool */
    JSON_OBJECT, /* yyjson_val * */
    JSON_ARRAY,  /* yyjson_val *; max = elements (0: 1024) */
    JSON_ANY,    /* yyjson_val * */
};

struct json_field {
    const char *name;
    enum json_type type;
    size_t offset; /* of the destination in the caller's struct */
    bool required;
    int64_t min;
    uint64_t max;
};

#define JSON_IGNORE_UNKNOWN 1u

/* Fills `dest` (which holds the defaults) from `object`. What the error names: the member; its code is `code`. */
int json_read(yyjson_val *object, const struct json_field *fields, size_t count, unsigned flags,
              void *dest, const char *code, struct error *err);
/* Parses text with limits (bytes, depth 32). NULL and *err set on failure. Free with yyjson_doc_free. */
yyjson_doc *json_parse(const char *text, size_t len, size_t max_len, const char *code,
                       struct error *err);
/* Appends RFC 8785 canonical JSON. -EINVAL: a number that is no integer within +-(2^53 - 1), bad UTF-8. */
int json_canonical(yyjson_val *value, struct buffer *out);
/* 0 only if text is exactly its own canonical form. */
int json_is_canonical(const char *text, size_t len);
