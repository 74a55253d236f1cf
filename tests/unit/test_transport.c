// TLS over a transport that rests: records that are half there, half read or half sent survive it, and what is empty costs no pages.
// sources: core0/gate/tls.c
// packages: mbedtls picohttpparser
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <mbedtls/ssl.h>

#include "gate/gate.h"
#include "lib/crypto/hash.h"
#include "lib/tls/transport.h"

#define KEY "1111111111111111111111111111111111111111111111111111111111111111"
#define RECORD 16000 /* bytes of content: one record, over four pages */
#define PAGE 4096

/* Two ends, and between them the test, which carries as many bytes as it likes. */
struct fixture {
    struct gate_tls *tls;
    mbedtls_ssl_config config;
    mbedtls_ssl_context *session; /* the server's */
    struct transport *server, *client;
    int server_wire, client_wire; /* the test's side of each end's socket */
    uint8_t sent[RECORD], got[RECORD];
};

static void pair(int ret_fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds),
                     0);
}

/* At most that many bytes; how many there were. */
static size_t carry(int from, int to, size_t most)
{
    uint8_t bytes[4096];
    size_t done = 0;

    while (done < most) {
        size_t want = most - done < sizeof(bytes) ? most - done : sizeof(bytes);
        ssize_t n = recv(from, bytes, want, 0);
        if (n <= 0)
            break;
        assert_int_equal(send(to, bytes, (size_t)n, MSG_NOSIGNAL), n);
        done += (size_t)n;
    }
    return done;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err = {0};
    int server[2], client[2], done = 0;

    assert_int_equal(gate_tls_new(KEY, &f->tls, &err), 0);
    mbedtls_ssl_config_init(&f->config);
    assert_int_equal(mbedtls_ssl_config_defaults(&f->config, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    mbedtls_ssl_conf_rng(&f->config, crypto_random_mbedtls, NULL);
    mbedtls_ssl_conf_authmode(&f->config, MBEDTLS_SSL_VERIFY_NONE);
    pair(server);
    pair(client);
    f->server_wire = server[1];
    f->client_wire = client[1];
    f->session = gate_tls_session(f->tls);
    assert_non_null(f->session);
    assert_int_equal(transport_tls_new(f->session, server[0], &f->server), 0);
    mbedtls_ssl_context *ssl = calloc(1, sizeof(*ssl));
    mbedtls_ssl_init(ssl);
    assert_int_equal(mbedtls_ssl_setup(ssl, &f->config), 0);
    assert_int_equal(mbedtls_ssl_set_hostname(ssl, NULL), 0);
    assert_int_equal(transport_tls_new(ssl, client[0], &f->client), 0);
    for (int i = 0; i < 20 && done < 2; i++) {
        done = transport_handshake(f->client) == 0;
        carry(f->client_wire, f->server_wire, SIZE_MAX);
        done += transport_handshake(f->server) == 0;
        carry(f->server_wire, f->client_wire, SIZE_MAX);
    }
    assert_int_equal(done, 2);
    for (size_t i = 0; i < RECORD; i++)
        f->sent[i] = (uint8_t)(i * 7 + i / 256 + 1);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    transport_free(f->server);
    transport_free(f->client);
    close(f->server_wire);
    close(f->client_wire);
    mbedtls_ssl_config_free(&f->config);
    gate_tls_free(f->tls);
    free(f);
    return 0;
}

static void assert_arrived(struct fixture *f)
{
    assert_memory_equal(f->got, f->sent, RECORD);
}

static void test_a_record_half_received(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(transport_write(f->client, f->sent, RECORD), RECORD);
    assert_int_equal(carry(f->client_wire, f->server_wire, RECORD - PAGE), RECORD - PAGE);
    assert_int_equal(transport_read(f->server, f->got, RECORD), -EAGAIN);
    transport_rest(f->server);
    assert_true(carry(f->client_wire, f->server_wire, SIZE_MAX) > PAGE);
    assert_int_equal(transport_read(f->server, f->got, RECORD), RECORD);
    assert_arrived(f);
}

static void test_a_record_half_read(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(transport_write(f->client, f->sent, RECORD), RECORD);
    carry(f->client_wire, f->server_wire, SIZE_MAX);
    assert_int_equal(transport_read(f->server, f->got, 100), 100);
    transport_rest(f->server);
    assert_int_equal(transport_pending(f->server), RECORD - 100);
    assert_int_equal(transport_read(f->server, f->got + 100, RECORD - 100), RECORD - 100);
    assert_arrived(f);
}

static void test_a_record_half_sent(void **state)
{
    struct fixture *f = *state;
    int records = 0, whole;
    ssize_t n;

    while ((n = transport_write(f->server, f->sent, RECORD)) == RECORD)
        records++; /* as many as the socket takes */
    assert_int_equal(n, -EAGAIN);
    transport_rest(f->server);
    for (whole = 0; whole <= records;) {
        carry(f->server_wire, f->client_wire, RECORD);
        if (n == -EAGAIN)
            n = transport_write(f->server, f->sent, RECORD);
        ssize_t read = transport_read(f->client, f->got, RECORD);
        if (read == -EAGAIN)
            continue;
        assert_int_equal(read, RECORD);
        assert_arrived(f);
        memset(f->got, 0, RECORD);
        whole++;
    }
    assert_int_equal(n, RECORD);
}

/* Pages of the buffer that are in memory. */
static unsigned resident(const unsigned char *buffer)
{
    uintptr_t from = (uintptr_t)buffer & ~(uintptr_t)(PAGE - 1);
    unsigned char there[8] = {0};
    unsigned count = 0;

    assert_int_equal(mincore((void *)from, (uintptr_t)buffer + RECORD - from, there), 0);
    for (size_t i = 0; i < sizeof(there); i++)
        count += there[i] & 1;
    return count;
}

static void both_ways(struct fixture *f)
{
    assert_int_equal(transport_write(f->client, f->sent, RECORD), RECORD);
    carry(f->client_wire, f->server_wire, SIZE_MAX);
    assert_int_equal(transport_read(f->server, f->got, RECORD), RECORD);
    assert_arrived(f);
    memset(f->got, 0, RECORD);
    assert_int_equal(transport_write(f->server, f->sent, RECORD), RECORD);
    carry(f->server_wire, f->client_wire, SIZE_MAX);
    assert_int_equal(transport_read(f->client, f->got, RECORD), RECORD);
    assert_arrived(f);
    memset(f->got, 0, RECORD);
}

static void test_empty_buffers_are_given_back(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(sysconf(_SC_PAGESIZE), PAGE);
    for (int i = 0; i < 3; i++) {
        both_ways(f);
        assert_true(resident(f->session->MBEDTLS_PRIVATE(in_buf)) >= 4);
        assert_true(resident(f->session->MBEDTLS_PRIVATE(out_buf)) >= 4);
        transport_rest(f->server);
        /* those at both ends, which are others' too */
        assert_true(resident(f->session->MBEDTLS_PRIVATE(in_buf)) <= 2);
        assert_true(resident(f->session->MBEDTLS_PRIVATE(out_buf)) <= 2);
    }
}

static void test_small_answers_do_not_undo_it(void **state)
{
    struct fixture *f = *state;

    transport_rest(f->server);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(transport_write(f->server, "\n", 1), 1);
        carry(f->server_wire, f->client_wire, SIZE_MAX);
        assert_int_equal(transport_read(f->client, f->got, RECORD), 1);
        transport_rest(f->server);
    }
    assert_true(resident(f->session->MBEDTLS_PRIVATE(out_buf)) <= 2);
    both_ways(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_record_half_received, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_half_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_half_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_buffers_are_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_small_answers_do_not_undo_it, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
