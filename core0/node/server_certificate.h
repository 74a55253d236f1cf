/*
 * server_certificate.h - certificates for servers of this node that tenants reach from elsewhere, signed by the node's registered TLS key.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SERVER_DER_MAX 1024

struct server_certificate {
    uint8_t certificate[SERVER_DER_MAX], key[SERVER_DER_MAX]; /* DER */
    size_t certificate_len, key_len;
};

/* A new P-256 key, and a certificate for it without an end. The issuer's name is that of gated's certificate (core0/gate/tls.c),
 * so a client that trusts that one takes this one. 0 or -EIO. */
int server_certificate_issue(const uint8_t node_key[32], struct server_certificate *ret);
