/*
 * session_transport.h - how a session's bytes travel: plain socket or TLS, behind one small table.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "lib/error.h"

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

/* TLS 1.2 and 1.3, as server (tls_new()) and as client (tls_client_new()) that calls `name`, a host or an address. `tls` must outlive
 * it. Takes the descriptor over, also when it fails. */
struct tls;
int transport_tls_new(struct tls *tls, int fd, struct transport **ret_transport);
int transport_tls_connect(struct tls *tls, const char *name, int fd,
                          struct transport **ret_transport);
/* For clients, before the first byte: 0 when the other side is who it must be; -EAGAIN (then transport_wants()), -EKEYREJECTED, or
 * another -errno. Nothing to do without TLS. */
int transport_handshake(struct transport *transport);
