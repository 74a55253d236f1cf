/*
 * server_certificate.c - see server_certificate.h.
 */
#include "node/server_certificate.h"

#include <errno.h>
#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <string.h>

#include "lib/crypto/hash.h"

#define ISSUER "CN=croft node"
#define SUBJECT "CN=croft kv"

static int take_key(const uint8_t scalar[32], mbedtls_pk_context *pk)
{
    int r = mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (r == 0)
        r = mbedtls_ecp_read_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*pk), scalar, 32);
    if (r == 0)
        r = mbedtls_ecp_keypair_calc_public(mbedtls_pk_ec(*pk), crypto_random_mbedtls, NULL);
    return r;
}

static int make_key(mbedtls_pk_context *pk)
{
    int r = mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (r == 0)
        r = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*pk), crypto_random_mbedtls,
                                NULL);
    return r;
}

/* mbedTLS writes DER to the end of its buffer. */
static int move_front(uint8_t *der, int len, size_t *ret_len)
{
    if (len <= 0)
        return len < 0 ? len : -EIO;
    memmove(der, der + SERVER_DER_MAX - len, (size_t)len);
    *ret_len = (size_t)len;
    return 0;
}

static int write_certificate(mbedtls_pk_context *issuer, mbedtls_pk_context *subject,
                             struct server_certificate *ret)
{
    mbedtls_x509write_cert cert;
    unsigned char serial[16];
    crypto_random(serial, sizeof(serial));
    serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and of full length */
    mbedtls_x509write_crt_init(&cert);
    mbedtls_x509write_crt_set_version(&cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&cert, subject);
    mbedtls_x509write_crt_set_issuer_key(&cert, issuer);
    int r = mbedtls_x509write_crt_set_serial_raw(&cert, serial, sizeof(serial));
    if (r == 0)
        r = mbedtls_x509write_crt_set_subject_name(&cert, SUBJECT);
    if (r == 0)
        r = mbedtls_x509write_crt_set_issuer_name(&cert, ISSUER);
    if (r == 0) /* RFC 5280, section 4.1.2.5, for a certificate without an end */
        r = mbedtls_x509write_crt_set_validity(&cert, "20000101000000", "99991231235959");
    if (r == 0)
        r = mbedtls_x509write_crt_set_basic_constraints(&cert, 0, -1);
    if (r == 0)
        r = move_front(ret->certificate,
                       mbedtls_x509write_crt_der(&cert, ret->certificate, SERVER_DER_MAX,
                                                 crypto_random_mbedtls, NULL),
                       &ret->certificate_len);
    mbedtls_x509write_crt_free(&cert);
    return r;
}

int server_certificate_issue(const uint8_t node_key[32], struct server_certificate *ret)
{
    mbedtls_pk_context issuer, subject;
    mbedtls_pk_init(&issuer);
    mbedtls_pk_init(&subject);
    int r = take_key(node_key, &issuer);
    if (r == 0)
        r = make_key(&subject);
    if (r == 0)
        r = write_certificate(&issuer, &subject, ret);
    if (r == 0)
        r = move_front(ret->key, mbedtls_pk_write_key_der(&subject, ret->key, SERVER_DER_MAX),
                       &ret->key_len);
    mbedtls_pk_free(&issuer);
    mbedtls_pk_free(&subject);
    return r == 0 ? 0 : -EIO;
}
