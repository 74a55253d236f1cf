/*
 * client.h - HTTP client on libcurl's multi interface and our loop: many transfers at once over kept connections.
 *
 * TLS by mbedTLS with the image's certificate bundle. Redirects are followed for GET (at most 5, never from https to http).
 * Errors: http.unreachable (connect, name), http.timeout, http.too-big, http.tls, http.status (only with
 * HTTP_FAIL_ON_STATUS), http.bad-url, http.aborted (the sink refused), http.wrong-key (not the pinned one).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"

struct http_client;
struct http_transfer;

struct http_client_options {
    const char *ca_file;      /* NULL: $CROFT_CA_FILE, else /etc/ssl/certs/ca-certificates.crt */
    unsigned connections_max; /* per host; 0: 16. Further transfers wait their turn */
};

int http_client_new(struct loop *loop, const struct http_client_options *options,
                    struct http_client **ret_client);
void http_client_free(
    struct http_client *client); /* cancels every transfer; callbacks are not called */

/* Takes a piece of the body (status 2xx only). Anything but 0 ends the transfer with http.aborted. */
typedef int http_data_fn(const void *data, size_t len, void *user);

struct http_response {
    int status; /* 0: none came */
    const uint8_t *
        body; /* NULL with a sink (a refusal's body comes here up to 4 KiB); NUL follows; valid in the callback */
    size_t body_len;
    const char *content_type; /* "" if none */
    uint64_t received;        /* bytes of the body in all */
};
/* err NULL: a response came completely (whatever its status, unless HTTP_FAIL_ON_STATUS). */
typedef void http_done_fn(const struct http_response *response, const struct error *err,
                          void *user);

#define HTTP_FAIL_ON_STATUS 1u /* a status other than 2xx is the error http.status */
#define HTTP_NO_REDIRECT 2u

struct http_request {
    const char *method; /* NULL: GET, or POST with a body; "PUT", "HEAD" */
    const char *url;    /* http or https only */
    const void *body;   /* copied */
    size_t body_len;
    const char *content_type;    /* NULL: application/json */
    const char *const *headers;  /* "Name: value", ended by NULL; may be NULL */
    uint64_t timeout_us;         /* for all of it; 0: 60 s. UINT64_MAX: only the next two */
    uint64_t connect_timeout_us; /* 0: 10 s */
    uint64_t stall_timeout_us; /* slower than stall_rate for that long; 0: 30 s; UINT64_MAX: none */
    uint32_t stall_rate;       /* bytes per second; 0: 1 */
    const uint8_t *
        pinned_key; /* https: SHA-256 of the SubjectPublicKeyInfo that the peer must have, by TLS 1.3; its
                                  certificate is not looked at beyond that. NULL: the bundle of certificates decides */
    uint64_t
        max_body; /* bytes; 0: 1 MiB; UINT64_MAX: any. http.too-big beyond, also when Content-Length says so */
    http_data_fn *data; /* sink; NULL: collected in memory */
    http_done_fn *done; /* never called from inside http_request_start or _cancel */
    void *user;
    unsigned flags;
};

/* 0 or -errno (-EINVAL: URL). Strings are copied. *ret_transfer (may be NULL) lives until done was called. */
int http_request_start(struct http_client *client, const struct http_request *request,
                       struct http_transfer **ret_transfer);
void http_transfer_cancel(struct http_transfer *transfer); /* done is not called */
/* The status of the answer once its head has come, 0 before; also from inside done. *ret_value: its header `name`, "" if it has none;
 * valid until the transfer goes on. */
int http_transfer_head(const struct http_transfer *transfer, const char *name,
                       const char **ret_value);
