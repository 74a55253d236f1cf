/*
 * session_transport.c - see session_transport.h.
 */
#include "session_transport.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

struct tls {
    mbedtls_ssl_config config;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

struct transport {
    int fd;
    unsigned wants;
    mbedtls_ssl_context *ssl; /* NULL: plain */
    size_t unsent; /* length of the write that answered "later": TLS wants to see it again */
};

static int transport_new(int fd, struct transport **ret_transport)
{
    struct transport *transport = calloc(1, sizeof(*transport));

    if (transport == NULL) {
        close(fd);
        return -ENOMEM;
    }
    transport->fd = fd;
    *ret_transport = transport;
    return 0;
}

int transport_plain_new(int fd, struct transport **ret_transport)
{
    return transport_new(fd, ret_transport);
}

/* ---- TLS ---- */

static int tls_send(void *data, const unsigned char *bytes, size_t len)
{
    struct transport *transport = data;
    ssize_t n = send(transport->fd, bytes, len, MSG_NOSIGNAL);

    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int tls_receive(void *data, unsigned char *bytes, size_t len)
{
    struct transport *transport = data;
    ssize_t n = recv(transport->fd, bytes, len, 0);

    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_CONN_EOF;
}

/* What mbedTLS answered, as bytes or -errno. */
static ssize_t tls_result(struct transport *transport, int r)
{
    switch (r) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        transport->wants = TRANSPORT_READ;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        transport->wants = TRANSPORT_WRITE;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return 0;
    case MBEDTLS_ERR_SSL_CONN_EOF:
        return -ECONNRESET;
    default:
        return r >= 0 ? r : -EPROTO;
    }
}

static int tls_error(struct error *err, int r, const char *what, const char *path)
{
    char text[128];

    mbedtls_strerror(r, text, sizeof(text));
    return error_set(err, EINVAL, "kv.tls", "give a PEM file that kvd may read", "%s %s: %s", what,
                     path, text);
}

int tls_new(const char *cert_path, const char *key_path, struct tls **ret_tls, struct error *err)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    int r;

    if (tls == NULL)
        return error_set(err, ENOMEM, "kv.no-memory", "", "no memory for TLS");
    mbedtls_ssl_config_init(&tls->config);
    mbedtls_x509_crt_init(&tls->chain);
    mbedtls_pk_init(&tls->key);
    mbedtls_entropy_init(&tls->entropy);
    mbedtls_ctr_drbg_init(&tls->random);
    r = mbedtls_ctr_drbg_seed(&tls->random, mbedtls_entropy_func, &tls->entropy, NULL, 0);
    if (r == 0 && psa_crypto_init() != PSA_SUCCESS) /* TLS 1.3 counts on it */
        r = MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    if (r == 0)
        r = mbedtls_ssl_config_defaults(&tls->config, MBEDTLS_SSL_IS_SERVER,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (r != 0) {
        tls_error(err, r, "TLS cannot start", "");
        goto fail;
    }
    r = mbedtls_x509_crt_parse_file(&tls->chain, cert_path);
    if (r != 0) {
        tls_error(err, r, "the certificate", cert_path);
        goto fail;
    }
    r = mbedtls_pk_parse_keyfile(&tls->key, key_path, NULL, mbedtls_ctr_drbg_random, &tls->random);
    if (r != 0) {
        tls_error(err, r, "the key", key_path);
        goto fail;
    }
    r = mbedtls_pk_check_pair(&tls->chain.pk, &tls->key, mbedtls_ctr_drbg_random, &tls->random);
    if (r != 0) {
        tls_error(err, r, "the key is not the certificate's:", key_path);
        goto fail;
    }
    mbedtls_ssl_conf_rng(&tls->config, mbedtls_ctr_drbg_random, &tls->random);
    mbedtls_ssl_conf_min_tls_version(&tls->config, MBEDTLS_SSL_VERSION_TLS1_2);
    r = mbedtls_ssl_conf_own_cert(&tls->config, &tls->chain, &tls->key);
    if (r != 0) {
        tls_error(err, r, "the certificate", cert_path);
        goto fail;
    }
    *ret_tls = tls;
    return 0;

fail:
    tls_free(tls);
    return -EINVAL;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    mbedtls_ssl_config_free(&tls->config);
    mbedtls_x509_crt_free(&tls->chain);
    mbedtls_pk_free(&tls->key);
    mbedtls_ctr_drbg_free(&tls->random);
    mbedtls_entropy_free(&tls->entropy);
    free(tls);
}

int transport_tls_new(struct tls *tls, int fd, struct transport **ret_transport)
{
    struct transport *transport;
    int r = transport_new(fd, &transport);

    if (r < 0)
        return r;
    transport->ssl = calloc(1, sizeof(*transport->ssl));
    if (transport->ssl == NULL) {
        transport_free(transport);
        return -ENOMEM;
    }
    mbedtls_ssl_init(transport->ssl);
    if (mbedtls_ssl_setup(transport->ssl, &tls->config) != 0) {
        transport_free(transport);
        return -ENOMEM;
    }
    mbedtls_ssl_set_bio(transport->ssl, transport, tls_send, tls_receive, NULL);
    *ret_transport = transport;
    return 0;
}

/* ---- both ---- */

ssize_t transport_read(struct transport *transport, void *data, size_t len)
{
    ssize_t n;

    if (transport->ssl != NULL) /* does the handshake too, as far as it gets */
        return tls_result(transport, mbedtls_ssl_read(transport->ssl, data, len));
    do {
        n = recv(transport->fd, data, len, 0);
    } while (n < 0 && errno == EINTR);
    transport->wants = TRANSPORT_READ;
    return n >= 0 ? n : -errno;
}

ssize_t transport_write(struct transport *transport, const void *data, size_t len)
{
    ssize_t n;

    if (transport->ssl != NULL) {
        if (transport->unsent > 0)
            len = transport->unsent;
        else if (len > MBEDTLS_SSL_OUT_CONTENT_LEN)
            len = MBEDTLS_SSL_OUT_CONTENT_LEN;
        n = tls_result(transport, mbedtls_ssl_write(transport->ssl, data, len));
        transport->unsent = n == -EAGAIN ? len : 0;
        return n;
    }
    do {
        n = send(transport->fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    transport->wants = TRANSPORT_WRITE;
    return n >= 0 ? n : -errno;
}

unsigned transport_wants(const struct transport *transport)
{
    return transport->wants;
}

void transport_free(struct transport *transport)
{
    if (transport == NULL)
        return;
    if (transport->ssl != NULL) {
        mbedtls_ssl_close_notify(transport->ssl);
        mbedtls_ssl_free(transport->ssl);
        free(transport->ssl);
    }
    close(transport->fd);
    free(transport);
}
