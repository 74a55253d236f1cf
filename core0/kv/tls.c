/*
 * tls.c - see tls.h.
 */
#include "tls.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

struct tls {
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificates; /* our own with its chain; a client's trusted ones */
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

static int failed(struct error *err, int r, const char *what, const char *path)
{
    char text[128];

    mbedtls_strerror(r, text, sizeof(text));
    return error_set(err, EINVAL, "kv.tls", "give a PEM file that kvd may read", "%s %s: %s", what,
                     path, text);
}

/* What both sides have. NULL: *err is set. */
static struct tls *tls_begin(int endpoint, struct error *err)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    int r;

    if (tls == NULL) {
        error_set(err, ENOMEM, "kv.no-memory", "", "no memory for TLS");
        return NULL;
    }
    mbedtls_ssl_config_init(&tls->config);
    mbedtls_x509_crt_init(&tls->certificates);
    mbedtls_pk_init(&tls->key);
    mbedtls_entropy_init(&tls->entropy);
    mbedtls_ctr_drbg_init(&tls->random);
    r = mbedtls_ctr_drbg_seed(&tls->random, mbedtls_entropy_func, &tls->entropy, NULL, 0);
    if (r == 0 && psa_crypto_init() != PSA_SUCCESS) /* TLS 1.3 counts on it */
        r = MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    if (r == 0)
        r = mbedtls_ssl_config_defaults(&tls->config, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                        MBEDTLS_SSL_PRESET_DEFAULT);
    if (r != 0) {
        failed(err, r, "TLS cannot start", "");
        tls_free(tls);
        return NULL;
    }
    mbedtls_ssl_conf_rng(&tls->config, mbedtls_ctr_drbg_random, &tls->random);
    mbedtls_ssl_conf_min_tls_version(&tls->config, MBEDTLS_SSL_VERSION_TLS1_2);
    return tls;
}

int tls_new(const char *cert_path, const char *key_path, struct tls **ret_tls, struct error *err)
{
    struct tls *tls = tls_begin(MBEDTLS_SSL_IS_SERVER, err);
    int r;

    if (tls == NULL)
        return -EINVAL;
    r = mbedtls_x509_crt_parse_file(&tls->certificates, cert_path);
    if (r != 0) {
        failed(err, r, "the certificate", cert_path);
        goto fail;
    }
    r = mbedtls_pk_parse_keyfile(&tls->key, key_path, NULL, mbedtls_ctr_drbg_random, &tls->random);
    if (r != 0) {
        failed(err, r, "the key", key_path);
        goto fail;
    }
    r = mbedtls_pk_check_pair(&tls->certificates.pk, &tls->key, mbedtls_ctr_drbg_random,
                              &tls->random);
    if (r != 0) {
        failed(err, r, "the key is not the certificate's:", key_path);
        goto fail;
    }
    r = mbedtls_ssl_conf_own_cert(&tls->config, &tls->certificates, &tls->key);
    if (r != 0) {
        failed(err, r, "the certificate", cert_path);
        goto fail;
    }
    *ret_tls = tls;
    return 0;

fail:
    tls_free(tls);
    return -EINVAL;
}

int tls_client_new(const char *trusted_path, struct tls **ret_tls, struct error *err)
{
    struct tls *tls = tls_begin(MBEDTLS_SSL_IS_CLIENT, err);
    int r;

    if (tls == NULL)
        return -EINVAL;
    r = mbedtls_x509_crt_parse_file(&tls->certificates, trusted_path);
    if (r != 0) {
        failed(err, r, "the trusted certificates", trusted_path);
        tls_free(tls);
        return -EINVAL;
    }
    mbedtls_ssl_conf_ca_chain(&tls->config, &tls->certificates, NULL);
    /* judged by tls_session_verify(): the library knows no certificate that is trusted by itself unless it signed itself */
    mbedtls_ssl_conf_authmode(&tls->config, MBEDTLS_SSL_VERIFY_OPTIONAL);
    *ret_tls = tls;
    return 0;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    mbedtls_ssl_config_free(&tls->config);
    mbedtls_x509_crt_free(&tls->certificates);
    mbedtls_pk_free(&tls->key);
    mbedtls_ctr_drbg_free(&tls->random);
    mbedtls_entropy_free(&tls->entropy);
    free(tls);
}

mbedtls_ssl_context *tls_session_new(struct tls *tls, const char *name)
{
    mbedtls_ssl_context *ssl = calloc(1, sizeof(*ssl));

    if (ssl == NULL)
        return NULL;
    mbedtls_ssl_init(ssl);
    if (mbedtls_ssl_setup(ssl, &tls->config) != 0 ||
        (name != NULL && mbedtls_ssl_set_hostname(ssl, name) != 0)) {
        tls_session_free(ssl);
        return NULL;
    }
    return ssl;
}

void tls_session_free(mbedtls_ssl_context *ssl)
{
    mbedtls_ssl_free(ssl);
    free(ssl);
}

int tls_session_verify(const struct tls *tls, const mbedtls_ssl_context *ssl)
{
    const mbedtls_x509_crt *peer = mbedtls_ssl_get_peer_cert(ssl);
    uint32_t wrong = mbedtls_ssl_get_verify_result(ssl);
    bool pinned = false;

    if (peer == NULL)
        return -EKEYREJECTED;
    for (const mbedtls_x509_crt *trusted = &tls->certificates; trusted != NULL && !pinned;
         trusted = trusted->next)
        pinned = trusted->raw.len == peer->raw.len &&
                 memcmp(trusted->raw.p, peer->raw.p, peer->raw.len) == 0;
    if (pinned) /* its signature over the handshake was checked: only its time is left */
        wrong &= MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE;
    return wrong == 0 ? 0 : -EKEYREJECTED;
}
