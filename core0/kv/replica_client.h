/*
 * replica_client.h - the replica's connection to its primary: requests out, answers in, with a way to end a wait.
 *
 * Blocking for its own thread; `stop_fd` (an eventfd) ends every wait with -ECANCELED. An answer that is not what was asked for is
 * -EPROTO: the connection is given up and made anew.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/tls/transport.h"

struct tls;

struct replica_client {
    int fd; /* the transport's */
    struct transport *transport;
    int stop_fd;
    uint8_t *data;
    size_t start, end, capacity;
    size_t value_max; /* bytes of a bulk string that are taken */
    char error[256];  /* of the last answer that was one, without its '-' */
};

/* Where the primary is. */
struct replica_primary {
    const char *address; /* "tcp:ADDR:PORT", "tls:ADDR:PORT" or "unix:PATH" */
    const char *trusted; /* PEM file, for tls: see tls_client_new() */
    const char *name;    /* that the certificate must have; NULL: the address */
};

/* `tls` NULL: without it. 0 or -errno; -EKEYREJECTED: it is not the primary that was meant. */
int replica_client_open(struct replica_client *client, const struct replica_primary *primary,
                        struct tls *tls, int stop_fd, size_t value_max);
void replica_client_close(struct replica_client *client);

struct replica_argument {
    const void *data;
    size_t len;
};
int replica_client_send(struct replica_client *client, const struct replica_argument *arguments,
                        unsigned count);
/* The head of the next element: its type in *ret_type, its number (length, count, integer; -1: nil) in *ret_number. An error
 * answer is -EREMOTEIO, its text in client->error. */
int replica_client_head(struct replica_client *client, char *ret_type, int64_t *ret_number);
int replica_client_expect(struct replica_client *client, char type, int64_t *ret_number);
/* The bytes of a bulk string whose head was read; valid until the next call. */
int replica_client_bytes(struct replica_client *client, size_t len, const uint8_t **ret_data);
/* "+text": 0 when it is that text. */
int replica_client_simple(struct replica_client *client, char *ret_text, size_t size);

/* Whole elements: an integer, a bulk string of at most `max` bytes, the head of an array. 0, or -errno as above. */
int replica_client_integer(struct replica_client *client, uint64_t *ret_number);
int replica_client_bulk(struct replica_client *client, void *ret_data, size_t max, size_t *ret_len);
int replica_client_count(struct replica_client *client, int64_t least, int64_t most,
                         int64_t *ret_count);
