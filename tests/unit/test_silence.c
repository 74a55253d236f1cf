// Peers that acknowledge nothing any more: what the kernel says of them, and what the HTTP server makes of it.
// packages: mbedtls picohttpparser
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/http/server.h"
#include "lib/http/silence.h"

#define SECOND UINT64_C(1000000)
#define SILENCE (SECOND)    /* of the server here */
#define LIMIT (30 * SECOND) /* for what must happen at last */
#define DESCRIPTORS 256     /* more than this process ever has */

/* ---- peers ---- */

static int dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* From now on its kernel drops whatever comes for it: nothing is acknowledged, and nobody is told. */
static void go_deaf(int fd)
{
    struct sock_filter drop = {.code = BPF_RET | BPF_K, .k = 0};
    struct sock_fprog program = {.len = 1, .filter = &drop};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
}

static void hear_again(int fd)
{
    int none = 0;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)), 0);
}

static int unacknowledged(int fd)
{
    int bytes = -1;
    assert_int_equal(ioctl(fd, SIOCOUTQ, &bytes), 0);
    return bytes;
}

static void wait_acknowledged(int fd)
{
    uint64_t end = loop_clock() + LIMIT;
    while (unacknowledged(fd) > 0 && loop_clock() < end)
        usleep(1000);
    assert_int_equal(unacknowledged(fd), 0);
}

/* ---- what the kernel says ---- */

struct pair {
    int here, there;
};

static void connect_pair(struct pair *ret_pair)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int one = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    ret_pair->there = dial(ntohs(at.sin_port));
    ret_pair->here = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(ret_pair->here >= 0);
    setsockopt(ret_pair->here, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    close(listener);
}

static void write_at(struct silence *silence, uint64_t when)
{
    silence_writes(silence, when);
    assert_int_equal(send(silence->fd, "x", 1, MSG_NOSIGNAL), 1);
}

static void test_the_time_begins_with_the_oldest_byte(void **state)
{
    struct pair pair;
    (void)state;
    connect_pair(&pair);
    struct silence silence = {.fd = pair.here};
    uint64_t now = loop_clock();
    silence_ask(&silence, now);
    assert_int_equal(silence.since, 0);
    write_at(&silence, now);
    assert_int_equal(silence.since, now);
    wait_acknowledged(pair.here);
    write_at(&silence, now + 5);
    assert_int_equal(silence.since, now + 5); /* the first one was acknowledged */
    wait_acknowledged(pair.here);
    silence_ask(&silence, now + 6);
    assert_int_equal(silence.since, 0);

    go_deaf(pair.there);
    now = loop_clock() + SECOND; /* later than any acknowledgement */
    write_at(&silence, now);
    write_at(&silence, now + SECOND);
    assert_int_equal(silence.since, now);
    silence_ask(&silence, loop_clock());
    assert_int_equal(silence.since, now);
    hear_again(pair.there);
    wait_acknowledged(pair.here);
    silence_ask(&silence, loop_clock());
    assert_int_equal(silence.since, 0);
    close(pair.here);
    close(pair.there);
}

/* One that takes a little and owes the rest is not dead. */
static void test_some_acknowledgement_is_a_sign(void **state)
{
    static char much[65536];
    struct pair pair;
    (void)state;
    connect_pair(&pair);
    struct silence silence = {.fd = pair.here};
    uint64_t now = loop_clock(), long_ago = now - (now > 3600 * SECOND ? 3600 * SECOND : now / 2);
    silence_writes(&silence, long_ago);
    while (send(pair.here, much, sizeof(much), MSG_NOSIGNAL) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
    assert_true(unacknowledged(pair.here) > 0);
    silence_ask(&silence, loop_clock());
    assert_true(silence.since > long_ago);
    close(pair.here);
    close(pair.there);
}

/* ---- what the server makes of it ---- */

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_exchange *stream;
    uint16_t port;
    int fd, own; /* the peer's, and the server's end of it */
    int gone, bytes;
};

static void on_gone(struct http_exchange *exchange, void *data)
{
    struct fixture *f = data;
    assert_ptr_equal(exchange, f->stream);
    f->stream = NULL;
    f->gone++;
}

static void on_bytes(struct http_exchange *exchange, const uint8_t *bytes, size_t len, void *data)
{
    struct fixture *f = data;
    (void)exchange;
    (void)bytes;
    f->bytes += (int)len;
}

static void handle(struct http_exchange *exchange, void *data)
{
    struct fixture *f = data;
    f->stream = exchange;
    http_exchange_set_gone(exchange, on_gone, f);
    if (strcmp(http_exchange_path(exchange), "/stream") == 0)
        http_exchange_stream(exchange, 200, "text/plain", NULL, NULL);
    else
        http_exchange_upgrade(exchange, "Upgrade: other\r\nConnection: Upgrade\r\n", on_bytes, NULL,
                              f);
}

static int set_up(void **state)
{
    static struct fixture f;
    static const struct http_server_limits limits = {.upgrades = true, .silence_us = SILENCE};
    struct error err = {.code = ""};
    memset(&f, 0, sizeof(f));
    assert_int_equal(loop_new(&f.loop), 0);
    assert_int_equal(http_server_new(f.loop, &limits, handle, &f, &f.server), 0);
    assert_int_equal(http_server_listen(f.server, "127.0.0.1", 0, &f.port, &err), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_server_free(f->server);
    loop_free(f->loop);
    close(f->fd);
    return 0;
}

/* The server's descriptor is in this process, too: the one whose peer is ours. */
static int other_end(int fd)
{
    struct sockaddr_in own, peer;
    socklen_t len = sizeof(own);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    for (int other = 3; other < DESCRIPTORS; other++) {
        len = sizeof(peer);
        if (other != fd && getpeername(other, (struct sockaddr *)&peer, &len) == 0 &&
            peer.sin_family == AF_INET && peer.sin_port == own.sin_port)
            return other;
    }
    fail_msg("the server has no such connection");
    return -1;
}

static void begin(struct fixture *f, const char *request)
{
    char answer[512];
    uint64_t end = loop_clock() + LIMIT;
    unsigned never = 0;
    f->fd = dial(f->port);
    assert_int_equal(send(f->fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    while (recv(f->fd, answer, sizeof(answer), MSG_DONTWAIT) < 0 && loop_clock() < end)
        loop_step(f->loop, 10);
    assert_non_null(f->stream);
    f->own = other_end(f->fd);
    /* A kernel that takes its time, and no end of it. */
    assert_int_equal(setsockopt(f->own, IPPROTO_TCP, TCP_USER_TIMEOUT, &never, sizeof(never)), 0);
}

/* The server's end, also one that is closed and still tries to send. The list is no snapshot: while connections of others come and go it shows
 * a row twice, or not. */
static bool kernel_has(const struct fixture *f)
{
    char line[512];
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    bool found = false;
    unsigned here, there;
    assert_int_equal(getsockname(f->fd, (struct sockaddr *)&peer, &len), 0);
    FILE *file = fopen("/proc/net/tcp", "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        found = found || (sscanf(line, " %*u: %*x:%x %*x:%x", &here, &there) == 2 &&
                          here == f->port && there == ntohs(peer.sin_port));
    fclose(file);
    return found;
}

static void step_until(struct fixture *f, uint64_t end)
{
    while (f->gone == 0 && loop_clock() < end)
        loop_step(f->loop, 10);
}

static void peer_dies(struct fixture *f)
{
    /* Who acknowledges may be as quiet as he likes, with a sign of life and without. */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(http_exchange_write(f->stream, "\n", 1), 0);
        step_until(f, loop_clock() + SILENCE / 2);
        assert_int_equal(f->gone, 0);
    }
    step_until(f, loop_clock() + 2 * SILENCE);
    assert_int_equal(f->gone, 0);
    assert_int_equal(unacknowledged(f->own), 0);
    bool had = false;
    for (uint64_t end = loop_clock() + LIMIT; !had && loop_clock() < end;)
        had = kernel_has(f);
    assert_true(had);
    /* So may the dead, as long as they owe nothing. */
    go_deaf(f->fd);
    step_until(f, loop_clock() + 2 * SILENCE);
    assert_int_equal(f->gone, 0);
    /* From the first sign that he owes the time runs, and further ones do not lengthen it. */
    uint64_t begun = loop_clock();
    while (f->gone == 0 && loop_clock() < begun + LIMIT) {
        assert_int_equal(http_exchange_write(f->stream, "\n", 1), 0);
        step_until(f, loop_clock() + SILENCE / 4);
    }
    assert_int_equal(f->gone, 1);
    assert_true(loop_clock() - begun >= SILENCE);
    /* It was dropped, not left to the kernel to try on. */
    assert_false(kernel_has(f));
    hear_again(f->fd);
}

static void test_a_dead_reader_is_let_go(void **state)
{
    begin(*state, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    peer_dies(*state);
}

static void test_a_dead_user_of_another_protocol_is_let_go(void **state)
{
    struct fixture *f = *state;
    begin(f, "GET /other HTTP/1.1\r\nHost: a\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n");
    assert_int_equal(send(f->fd, "hello", 5, MSG_NOSIGNAL), 5);
    for (uint64_t end = loop_clock() + LIMIT; f->bytes < 5 && loop_clock() < end;)
        loop_step(f->loop, 10);
    assert_int_equal(f->bytes, 5);
    peer_dies(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_time_begins_with_the_oldest_byte),
        cmocka_unit_test(test_some_acknowledgement_is_a_sign),
        cmocka_unit_test_setup_teardown(test_a_dead_reader_is_let_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_dead_user_of_another_protocol_is_let_go, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
