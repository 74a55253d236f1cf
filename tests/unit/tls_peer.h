// A server of one connection in a process of its own: plain, or TLS with a self-signed P-256 certificate.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tls_peer;

struct peer_options {
    int tls; /* 0 plain, 12 or 13: TLS 1.2 or 1.3 only */
    int (*serve)(struct tls_peer *peer,
                 void *data); /* in the child; its result is the exit status */
    void *data;
};

struct peer_server {
    pid_t pid;
    uint16_t port;
    uint8_t key_hash[32]; /* SHA-256 of the certificate's SubjectPublicKeyInfo */
};

void peer_start(const struct peer_options *options, struct peer_server *ret_server);
int peer_end(const struct peer_server
                 *server); /* waits: the child's exit status, 100 + signal when killed */

/* In the child. Whatever fails ends it with status 99. */
size_t peer_read(struct tls_peer *peer, void *data, size_t size); /* at least 1 byte; 0: the end */
void peer_read_all(struct tls_peer *peer, void *data, size_t len);
void peer_write(struct tls_peer *peer, const void *data, size_t len);
void peer_text(struct tls_peer *peer, const char *text);
/* The head of a request, NUL-terminated. */
void peer_head(struct tls_peer *peer, char *ret_head, size_t size);
