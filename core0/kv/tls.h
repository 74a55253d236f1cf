/*
 * tls.h - what TLS connections share: certificates, keys, random numbers. TLS 1.2 and 1.3 only.
 *
 * One `struct tls` serves all threads: mbedTLS is built with locks (packages/mbedtls).
 */
#pragma once

#include <mbedtls/ssl.h>

#include "lib/error.h"

struct tls;

/* For servers: certificate (with its chain) and key, PEM. kv.tls. */
int tls_new(const char *cert_path, const char *key_path, struct tls **ret_tls, struct error *err);
/* For clients: PEM of the authorities that the server's certificate must come from, or of that very certificate: then its name does not
 * matter. kv.tls. */
int tls_client_new(const char *trusted_path, struct tls **ret_tls, struct error *err);
void tls_free(struct tls *tls);

/* `name`: the host or address that a client calls, and that the certificate must name; NULL: we are the server. NULL without memory. */
mbedtls_ssl_context *tls_session_new(struct tls *tls, const char *name);
void tls_session_free(mbedtls_ssl_context *ssl);
/* After a client's handshake: 0, or -EKEYREJECTED. */
int tls_session_verify(const struct tls *tls, const mbedtls_ssl_context *ssl);
