/*
 * resp.h - requests and answers of the Redis protocol, version 2 (RESP2), as bytes.
 *
 * A request is an array of bulk strings ("*2\r\n$3\r\nGET\r\n$1\r\na\r\n") or one inline line ("GET a\r\n") as redis-cli's
 * users and telnet type it. The parser is a function over (buffer, length): it allocates nothing and copies nothing, an
 * argument is an offset into the buffer. It remembers how far it came, so a request that arrives in many pieces is read
 * once. Source: the protocol specification at redis.io ("Redis serialization protocol specification").
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESP_ARGS_MAX 1024 /* MGET of 1,023 keys, as 0-db */
#define RESP_LINE_MAX 32   /* bytes of a "*N\r\n" or "$N\r\n" line: far more than a number needs */
#define RESP_INLINE_MAX ((size_t)64 * 1024) /* bytes of an inline request; Redis' own limit */

struct resp_limits {
    size_t argument; /* bytes of one argument */
    size_t request;  /* bytes of a whole request, its protocol bytes included; at most UINT32_MAX */
};

struct resp_argument {
    uint32_t offset; /* into the buffer that was parsed */
    uint32_t len;
};

/* Progress of one request. Zeroed by resp_request_reset() before the first byte of each. */
struct resp_request {
    uint32_t argc;   /* arguments so far */
    uint32_t wanted; /* arguments announced; 0: not known yet */
    size_t position; /* bytes understood; the request's whole size once resp_parse answered 1 */
    size_t need;     /* total bytes after which resp_parse can go on; 0: the next byte may do */
    size_t scanned;  /* bytes already searched for the end of a line */
    struct resp_argument argv[RESP_ARGS_MAX];
};

void resp_request_reset(struct resp_request *request);

/* What is wrong with a request; the connection cannot go on after it. */
enum resp_error {
    RESP_ERROR_FORM = -1,      /* not RESP2 */
    RESP_ERROR_ARGUMENTS = -2, /* more than RESP_ARGS_MAX */
    RESP_ERROR_ARGUMENT = -3,  /* an argument longer than limits->argument */
    RESP_ERROR_REQUEST = -4,   /* longer than limits->request or RESP_INLINE_MAX */
    RESP_ERROR_QUOTES = -5,    /* an inline request whose quotes do not match */
};

/*
 * 1: whole, `position` bytes of it, argc may be 0 (an empty line: skip it). 0: more bytes are needed. Else a resp_error.
 * `data` must begin with the bytes of the earlier calls for this request (they may lie elsewhere in memory). An inline
 * request is decoded in place, which is why data is not const; nothing beyond `position` is touched.
 */
int resp_parse(uint8_t *data, size_t len, const struct resp_limits *limits,
               struct resp_request *request);

/* ---- numbers inside arguments ---- */

/* Whole decimal text into a number: no sign, no spaces, no empty text. 0 or -EINVAL. */
int resp_number(const uint8_t *data, size_t len, uint64_t max, uint64_t *ret_number);

/* ---- heads of answers: each writes at most RESP_HEAD_MAX bytes and returns how many ---- */

#define RESP_HEAD_MAX 24

size_t resp_head(char type, uint64_t number,
                 uint8_t ret_head[RESP_HEAD_MAX]); /* "$12\r\n", "*3\r\n", ":7\r\n" */
