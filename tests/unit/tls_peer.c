// A server of one connection; see tls_peer.h.
#include "tls_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <mbedtls/ecp.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

#include "lib/crypto/hash.h"

struct tls_peer {
    int fd;
    int tls;
    mbedtls_ssl_context ssl;
};

struct identity {
    mbedtls_pk_context key;
    mbedtls_x509_crt certificate;
};

static void make_identity(struct identity *identity, uint8_t ret_hash[32])
{
    uint8_t der[2048], spki[256];
    mbedtls_x509write_cert write;
    mbedtls_pk_init(&identity->key);
    mbedtls_x509_crt_init(&identity->certificate);
    assert_int_equal(psa_crypto_init(), PSA_SUCCESS);
    assert_int_equal(mbedtls_pk_setup(&identity->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)),
                     0);
    assert_int_equal(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(identity->key),
                                         crypto_random_mbedtls, NULL),
                     0);
    int len = mbedtls_pk_write_pubkey_der(&identity->key, spki, sizeof(spki));
    assert_true(len > 0);
    sha256(spki + sizeof(spki) - len, (size_t)len, ret_hash);
    mbedtls_x509write_crt_init(&write);
    mbedtls_x509write_crt_set_version(&write, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&write, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&write, &identity->key);
    mbedtls_x509write_crt_set_issuer_key(&write, &identity->key);
    mbedtls_x509write_crt_set_subject_name(&write, "CN=nobody");
    mbedtls_x509write_crt_set_issuer_name(&write, "CN=nobody");
    mbedtls_x509write_crt_set_validity(&write, "20000101000000", "20010101000000"); /* long over */
    uint8_t serial[] = {1};
    mbedtls_x509write_crt_set_serial_raw(&write, serial, sizeof(serial));
    len = mbedtls_x509write_crt_der(&write, der, sizeof(der), crypto_random_mbedtls, NULL);
    assert_true(len > 0);
    mbedtls_x509write_crt_free(&write);
    assert_int_equal(
        mbedtls_x509_crt_parse_der(&identity->certificate, der + sizeof(der) - len, (size_t)len),
        0);
}

static _Noreturn void child(int listener, const struct peer_options *options,
                            struct identity *identity)
{
    struct tls_peer peer = {.tls = options->tls};
    mbedtls_ssl_config config;
    alarm(60);
    signal(SIGPIPE, SIG_IGN);
    peer.fd = accept(listener, NULL, NULL);
    close(listener);
    if (peer.fd < 0)
        _exit(99);
    if (options->tls != 0) {
        mbedtls_ssl_protocol_version version =
            options->tls == 12 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3;
        mbedtls_ssl_init(&peer.ssl);
        mbedtls_ssl_config_init(&config);
        mbedtls_net_context net = {.fd = peer.fd};
        if (mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_SERVER,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT))
            _exit(98);
        mbedtls_ssl_conf_rng(&config, crypto_random_mbedtls, NULL);
        mbedtls_ssl_conf_min_tls_version(&config, version);
        mbedtls_ssl_conf_max_tls_version(&config, version);
        if (mbedtls_ssl_conf_own_cert(&config, &identity->certificate, &identity->key) ||
            mbedtls_ssl_setup(&peer.ssl, &config))
            _exit(98);
        mbedtls_ssl_set_bio(&peer.ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
        if (mbedtls_ssl_handshake(&peer.ssl) != 0)
            _exit(97);
        int status = options->serve(&peer, options->data);
        mbedtls_ssl_close_notify(&peer.ssl);
        _exit(status);
    }
    _exit(options->serve(&peer, options->data));
}

void peer_start(const struct peer_options *options, struct peer_server *ret_server)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    struct identity identity;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    ret_server->port = ntohs(at.sin_port);
    make_identity(&identity, ret_server->key_hash);
    ret_server->pid = fork();
    assert_true(ret_server->pid >= 0);
    if (ret_server->pid == 0)
        child(listener, options, &identity);
    close(listener);
    mbedtls_x509_crt_free(&identity.certificate);
    mbedtls_pk_free(&identity.key);
}

int peer_end(const struct peer_server *server)
{
    int status = 0;
    assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

size_t peer_read(struct tls_peer *peer, void *data, size_t size)
{
    if (peer->tls == 0) {
        ssize_t n = recv(peer->fd, data, size, 0);
        return n > 0 ? (size_t)n : 0;
    }
    int n = mbedtls_ssl_read(&peer->ssl, data, size);
    return n > 0 ? (size_t)n : 0;
}

void peer_read_all(struct tls_peer *peer, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t n = peer_read(peer, (uint8_t *)data + at, len - at);
        if (n == 0)
            _exit(99);
        at += n;
    }
}

void peer_write(struct tls_peer *peer, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = peer->tls == 0
                        ? send(peer->fd, (const uint8_t *)data + at, len - at, 0)
                        : mbedtls_ssl_write(&peer->ssl, (const uint8_t *)data + at, len - at);
        if (n <= 0)
            _exit(99);
        at += (size_t)n;
    }
}

void peer_text(struct tls_peer *peer, const char *text)
{
    peer_write(peer, text, strlen(text));
}

void peer_head(struct tls_peer *peer, char *ret_head, size_t size)
{
    size_t len = 0;
    while (len < 4 || memcmp(ret_head + len - 4, "\r\n\r\n", 4) != 0) {
        if (len + 1 == size || peer_read(peer, ret_head + len, 1) != 1)
            _exit(99);
        len++;
    }
    ret_head[len] = '\0';
}
