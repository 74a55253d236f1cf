/*
 * tls.c - TLS 1.3 with the node's own key, in a certificate that signs itself: callers know the key from the chain and look at
 * nothing else of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

#include "gate.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"

#define PEM_LINE 64

struct gate_tls {
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
};

/* ---- key and certificate ---- */

static int take_key(struct gate_tls *tls, const char *hex)
{
    uint8_t scalar[32];
    int r = hex_decode(hex, scalar, sizeof(scalar)) < 0 ? MBEDTLS_ERR_PK_KEY_INVALID_FORMAT : 0;

    if (r == 0)
        r = mbedtls_pk_setup(&tls->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (r == 0)
        r = mbedtls_ecp_read_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(tls->key), scalar,
                                 sizeof(scalar));
    if (r == 0)
        r = mbedtls_ecp_keypair_calc_public(mbedtls_pk_ec(tls->key), crypto_random_mbedtls, NULL);
    crypto_wipe(scalar, sizeof(scalar));
    return r;
}

static int make_certificate(struct gate_tls *tls)
{
    static const char name[] = "CN=croft node";
    mbedtls_x509write_cert cert;
    unsigned char serial[16], der[1024];

    crypto_random(serial, sizeof(serial));
    serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and of full length */
    mbedtls_x509write_crt_init(&cert);
    mbedtls_x509write_crt_set_version(&cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&cert, &tls->key);
    mbedtls_x509write_crt_set_issuer_key(&cert, &tls->key);
    int r = mbedtls_x509write_crt_set_serial_raw(&cert, serial, sizeof(serial));
    if (r == 0)
        r = mbedtls_x509write_crt_set_subject_name(&cert, name);
    if (r == 0)
        r = mbedtls_x509write_crt_set_issuer_name(&cert, name);
    /* the node's clock may be years off: RFC 5280, section 4.1.2.5, for a certificate without an end */
    if (r == 0)
        r = mbedtls_x509write_crt_set_validity(&cert, "20000101000000", "99991231235959");
    /* What noded signs with the same key for the key-value servers is taken by who trusts this one. */
    if (r == 0)
        r = mbedtls_x509write_crt_set_basic_constraints(&cert, 1, 0);
    if (r == 0)
        r = mbedtls_x509write_crt_der(&cert, der, sizeof(der), crypto_random_mbedtls, NULL);
    mbedtls_x509write_crt_free(&cert);
    if (r < 0)
        return r;
    return mbedtls_x509_crt_parse_der(&tls->certificate, der + sizeof(der) - r, (size_t)r);
}

static int configure(struct gate_tls *tls)
{
    int r = mbedtls_ssl_config_defaults(&tls->config, MBEDTLS_SSL_IS_SERVER,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (r != 0)
        return r;
    mbedtls_ssl_conf_rng(&tls->config, crypto_random_mbedtls, NULL);
    mbedtls_ssl_conf_min_tls_version(&tls->config, MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_max_tls_version(&tls->config, MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_new_session_tickets(&tls->config, 0);
    return mbedtls_ssl_conf_own_cert(&tls->config, &tls->certificate, &tls->key);
}

int gate_tls_new(const char *key, struct gate_tls **ret_tls, struct error *err)
{
    struct gate_tls *tls = calloc(1, sizeof(*tls));
    char text[128];
    int r;

    if (tls == NULL)
        return error_set(err, ENOMEM, "gate.tls", NULL, "no memory");
    mbedtls_ssl_config_init(&tls->config);
    mbedtls_x509_crt_init(&tls->certificate);
    mbedtls_pk_init(&tls->key);
    r = psa_crypto_init() == PSA_SUCCESS ? 0 : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    if (r == 0)
        r = take_key(tls, key);
    if (r == 0)
        r = make_certificate(tls);
    if (r == 0)
        r = configure(tls);
    if (r != 0) {
        mbedtls_strerror(r, text, sizeof(text));
        gate_tls_free(tls);
        return error_set(err, EINVAL, "gate.tls", "restart the node", "TLS cannot start: %s", text);
    }
    *ret_tls = tls;
    return 0;
}

char *gate_tls_certificate(const struct gate_tls *tls)
{
    char *text = base64_encode(tls->certificate.raw.p, tls->certificate.raw.len);
    size_t len = text != NULL ? strlen(text) : 0;
    struct buffer pem;
    int r = text != NULL ? 0 : -ENOMEM;

    buffer_init(&pem, 0);
    if (r == 0)
        r = buffer_printf(&pem, "-----BEGIN CERTIFICATE-----\n");
    for (size_t at = 0; at < len && r >= 0; at += PEM_LINE)
        r = buffer_printf(&pem, "%.*s\n", PEM_LINE, text + at);
    if (r >= 0)
        r = buffer_printf(&pem, "-----END CERTIFICATE-----\n");
    if (r >= 0)
        r = buffer_append(&pem, "", 1);
    free(text);
    if (r < 0)
        buffer_done(&pem);
    return r < 0 ? NULL : (char *)pem.data;
}

void gate_tls_free(struct gate_tls *tls)
{
    if (tls == NULL)
        return;
    mbedtls_ssl_config_free(&tls->config);
    mbedtls_x509_crt_free(&tls->certificate);
    mbedtls_pk_free(&tls->key);
    free(tls);
}

mbedtls_ssl_context *gate_tls_session(void *data)
{
    struct gate_tls *tls = data;
    mbedtls_ssl_context *ssl = calloc(1, sizeof(*ssl));

    if (ssl == NULL)
        return NULL;
    mbedtls_ssl_init(ssl);
    if (mbedtls_ssl_setup(ssl, &tls->config) != 0) {
        mbedtls_ssl_free(ssl);
        free(ssl);
        return NULL;
    }
    return ssl;
}
