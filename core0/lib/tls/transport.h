/*
 * transport.h - how a connection's bytes travel: plain socket or TLS.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include <mbedtls/ssl.h>

struct transport;

/* What the descriptor must become ready for before a call that answered -EAGAIN is tried again. */
enum transport_wants { TRANSPORT_READ = 1, TRANSPORT_WRITE = 2 };

/* Bytes, 0 at the end of the stream, -EAGAIN (then transport_wants()), or another -errno: the session is over. */
ssize_t transport_read(struct transport *transport, void *data, size_t len);
/* Bytes, -EAGAIN or another -errno. After -EAGAIN the next call must begin with the same bytes (TLS has sealed them). */
ssize_t transport_write(struct transport *transport, const void *data, size_t len);
/* Of the last call that answered -EAGAIN: enum transport_wants. TLS may want to write in order to read. */
unsigned transport_wants(const struct transport *transport);
/* Says goodbye where the protocol has a word for it, closes the descriptor. NULL is fine. */
void transport_free(struct transport *transport);

/* Takes the descriptor over, also when it fails. */
int transport_plain_new(int fd, struct transport **ret_transport);

/* A TLS session (server or client, set up and allocated with malloc(3)) over the descriptor. Takes both over, also when it fails;
 * the configuration of the session must outlive it. */
int transport_tls_new(mbedtls_ssl_context *ssl, int fd, struct transport **ret_transport);
/* Before the first byte, for who wants to know when it is done: 0; -EAGAIN (then transport_wants()), or another -errno. Nothing to
 * do without TLS. transport_read() and transport_write() do it too. */
int transport_handshake(struct transport *transport);
/* Bytes that were received and decrypted already: reading gives them without the descriptor becoming ready. */
size_t transport_pending(const struct transport *transport);
/* The connection has nothing to do for now: the pages of record buffers that hold nothing go back to the kernel. Costs nothing when little was
 * sent and nothing received since the last time, and does nothing while a record is half there or half sent. */
void transport_rest(struct transport *transport);
