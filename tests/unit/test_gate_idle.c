// What one waiting reader costs gated in memory of its own: a server with gated's TLS in one process, readers in another.
// sources: core0/gate/tls.c
// packages: mbedtls picohttpparser
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <psa/crypto.h>

#include "gate/gate.h"
#include "lib/crypto/hash.h"

#define KEY "1111111111111111111111111111111111111111111111111111111111111111"
#define READERS 100
#define BURST 60000 /* bytes to each: what a reader of a log gets before it waits */
#define MOST                                                                                       \
    26 /* KiB of the server's own pages for each; it was 21.6, and 37.4 when buffers were kept */

/* ---- the server, in a process of its own ---- */

struct streams {
    struct http_exchange *all[READERS + 1];
    size_t count;
};

static void write_all(struct streams *streams, char mark, size_t len)
{
    char *text = malloc(len);

    memset(text, mark, len);
    for (size_t i = 0; i < streams->count; i++)
        http_exchange_write(streams->all[i], text, len);
    free(text);
}

static void handle(struct http_exchange *exchange, void *data)
{
    struct streams *streams = data;
    const char *path = http_exchange_path(exchange);

    if (strcmp(path, "/stream") == 0) {
        if (streams->count == READERS + 1)
            _exit(95);
        streams->all[streams->count++] = exchange;
        http_exchange_stream(exchange, 200, "text/plain", NULL, NULL);
        return;
    }
    if (strcmp(path, "/burst") == 0)
        write_all(streams, '*', BURST);
    else if (strcmp(path, "/tick") == 0)
        write_all(streams, '#', 1);
    http_exchange_reply(exchange, 200, "text/plain", "@", 1);
}

static _Noreturn void serve(int report)
{
    static struct streams streams;
    struct http_server_limits limits = {.connections = READERS + 8, .per_address = READERS + 8};
    struct http_server *server;
    struct gate_tls *tls;
    struct loop *loop;
    struct error err = {0};
    uint16_t port;

    alarm(300);
    signal(SIGPIPE, SIG_IGN);
    if (loop_new(&loop) < 0 || gate_tls_new(KEY, &tls, &err) < 0 ||
        http_server_new(loop, &limits, handle, &streams, &server) < 0)
        _exit(99);
    http_server_set_tls(server, gate_tls_session, tls);
    if (http_server_listen(server, "127.0.0.1", 0, &port, &err) < 0 ||
        write(report, &port, sizeof(port)) != sizeof(port))
        _exit(98);
    loop_run(loop);
    _exit(97);
}

/* ---- readers ---- */

struct reader {
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
};

static mbedtls_ssl_config config;
static pid_t server;
static uint16_t port;

static void get(struct reader *reader, const char *path)
{
    char text[128];
    int len = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: gate\r\n\r\n", path);

    assert_int_equal(mbedtls_ssl_write(&reader->ssl, (unsigned char *)text, (size_t)len), len);
}

/* Reads until it has seen so many of the mark. */
static void until(struct reader *reader, char mark, size_t count)
{
    unsigned char data[16384];

    while (count > 0) {
        int n = mbedtls_ssl_read(&reader->ssl, data, sizeof(data));
        assert_true(n > 0);
        for (int i = 0; i < n; i++) {
            if (data[i] == mark) {
                assert_true(count > 0);
                count--;
            }
        }
    }
}

static void reader_start(struct reader *reader)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    reader->net.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(reader->net.fd, (struct sockaddr *)&at, sizeof(at)), 0);
    mbedtls_ssl_init(&reader->ssl);
    assert_int_equal(mbedtls_ssl_setup(&reader->ssl, &config), 0);
    assert_int_equal(mbedtls_ssl_set_hostname(&reader->ssl, NULL), 0);
    mbedtls_ssl_set_bio(&reader->ssl, &reader->net, mbedtls_net_send, mbedtls_net_recv, NULL);
    assert_int_equal(mbedtls_ssl_handshake(&reader->ssl), 0);
}

/* Until the head of the answer is there: then the server has the stream. */
static void follow(struct reader *reader)
{
    get(reader, "/stream");
    until(reader, '\n', 4);
}

static void reader_end(struct reader *reader)
{
    close(reader->net.fd);
    mbedtls_ssl_free(&reader->ssl);
}

/* The server answers in turns of its loop: when it has answered twice, the turn before is over. */
static void tell(struct reader *control, const char *path)
{
    get(control, path);
    until(control, '@', 1);
    get(control, "/nothing");
    until(control, '@', 1);
}

static double pages_kib(void)
{
    char path[64], line[256];
    unsigned long kib = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)server);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
            break;
    }
    fclose(file);
    assert_true(kib > 0);
    return (double)kib;
}

static void assert_cheap(double before, const char *when)
{
    double each = (pages_kib() - before) / READERS;

    print_message("%s: %.1f KiB for each reader\n", when, each);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator keeps what is freed, and shadows it */
    assert_true(each > 0 && each < MOST);
#endif
}

static void test_a_waiting_reader_costs_little(void **state)
{
    static struct reader control, readers[READERS + 1];

    (void)state;
    reader_start(&control);
    reader_start(&readers[0]); /* what is there once for all */
    follow(&readers[0]);
    tell(&control, "/burst");
    until(&readers[0], '*', BURST);
    double before = pages_kib();
    for (size_t i = 1; i <= READERS; i++) {
        reader_start(&readers[i]);
        follow(&readers[i]);
    }
    tell(&control, "/tick");
    for (size_t i = 0; i <= READERS; i++)
        until(&readers[i], '#', 1);
    tell(&control, "/nothing");
    assert_cheap(before, "new");
    tell(&control, "/burst");
    for (size_t i = 0; i <= READERS; i++)
        until(&readers[i], '*', BURST);
    tell(&control, "/nothing");
    assert_cheap(before, "after much was sent");
    for (size_t i = 0; i <= READERS; i++)
        reader_end(&readers[i]);
    reader_end(&control);
}

static int set_up(void **state)
{
    int report[2];

    (void)state;
    assert_int_equal(pipe(report), 0);
    server = fork();
    assert_true(server >= 0);
    if (server == 0)
        serve(report[1]);
    close(report[1]);
    assert_int_equal(read(report[0], &port, sizeof(port)), sizeof(port));
    close(report[0]);
    assert_int_equal(psa_crypto_init(), PSA_SUCCESS);
    mbedtls_ssl_config_init(&config);
    assert_int_equal(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    mbedtls_ssl_conf_rng(&config, crypto_random_mbedtls, NULL);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    mbedtls_ssl_config_free(&config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_waiting_reader_costs_little)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
