// sources: core0/node/server_certificate.c
// packages: mbedtls
// What noded gives key-value servers: a key of their own, and a certificate that only the node's key can have signed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

#include "lib/crypto/hash.h"
#include "node/server_certificate.h"

/* As core0/gate/tls.c makes its own: the certificate that clients trust. */
static void make_node(const uint8_t scalar[32], mbedtls_x509_crt *ret)
{
    mbedtls_pk_context pk;
    mbedtls_x509write_cert cert;
    unsigned char serial = 1, der[1024];

    mbedtls_pk_init(&pk);
    assert_int_equal(mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(mbedtls_ecp_read_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk), scalar, 32),
                     0);
    assert_int_equal(
        mbedtls_ecp_keypair_calc_public(mbedtls_pk_ec(pk), crypto_random_mbedtls, NULL), 0);
    mbedtls_x509write_crt_init(&cert);
    mbedtls_x509write_crt_set_version(&cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&cert, &pk);
    mbedtls_x509write_crt_set_issuer_key(&cert, &pk);
    assert_int_equal(mbedtls_x509write_crt_set_serial_raw(&cert, &serial, 1), 0);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&cert, "CN=croft node"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&cert, "CN=croft node"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&cert, "20000101000000", "99991231235959"),
                     0);
    assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&cert, 1, 0), 0);
    int len = mbedtls_x509write_crt_der(&cert, der, sizeof(der), crypto_random_mbedtls, NULL);
    assert_true(len > 0);
    mbedtls_x509_crt_init(ret);
    assert_int_equal(mbedtls_x509_crt_parse_der(ret, der + sizeof(der) - len, (size_t)len), 0);
    mbedtls_x509write_crt_free(&cert);
    mbedtls_pk_free(&pk);
}

static void test_only_the_nodes_key_signs_it(void **state)
{
    static const uint8_t one[32] = {1, 2, 3}, two[32] = {4, 5, 6};
    struct server_certificate made, again;
    mbedtls_x509_crt leaf, node, stranger;
    mbedtls_pk_context key;
    uint32_t flags;

    (void)state;
    assert_int_equal(psa_crypto_init(), PSA_SUCCESS);
    assert_int_equal(server_certificate_issue(one, &made), 0);
    assert_int_equal(server_certificate_issue(one, &again), 0);
    assert_true(made.key_len != again.key_len || memcmp(made.key, again.key, made.key_len) != 0);
    mbedtls_x509_crt_init(&leaf);
    assert_int_equal(mbedtls_x509_crt_parse_der(&leaf, made.certificate, made.certificate_len), 0);
    mbedtls_pk_init(&key);
    assert_int_equal(
        mbedtls_pk_parse_key(&key, made.key, made.key_len, NULL, 0, crypto_random_mbedtls, NULL),
        0);
    assert_int_equal(mbedtls_pk_check_pair(&leaf.pk, &key, crypto_random_mbedtls, NULL), 0);
    assert_int_equal(leaf.MBEDTLS_PRIVATE(ca_istrue), 0);
    make_node(one, &node);
    make_node(two, &stranger);
    assert_int_equal(mbedtls_x509_crt_verify(&leaf, &node, NULL, NULL, &flags, NULL, NULL), 0);
    assert_true(mbedtls_x509_crt_verify(&leaf, &stranger, NULL, NULL, &flags, NULL, NULL) != 0);
    mbedtls_x509_crt_free(&leaf);
    mbedtls_x509_crt_free(&node);
    mbedtls_x509_crt_free(&stranger);
    mbedtls_pk_free(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_nodes_key_signs_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
