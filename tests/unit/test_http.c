// The HTTP client and server against each other, and against peers that behave badly.
// packages: curl c-ares mbedtls picohttpparser zlib
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/buffer.h"
#include "lib/http/client.h"
#include "lib/http/server.h"
#include "lib/http/url.h"

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    uint16_t port;
    int requests, done, gone;
    struct http_exchange *held;
    char code[64];
    int status;
    struct buffer body;
};

static void on_gone(struct http_exchange *exchange, void *data)
{
    struct fixture *f = data;
    assert_ptr_equal(exchange, f->held);
    f->held = NULL;
    f->gone++;
}

static void handle(struct http_exchange *exchange, void *data)
{
    struct fixture *f = data;
    size_t len;
    const uint8_t *body = http_exchange_body(exchange, &len);
    const char *path = http_exchange_path(exchange);
    f->requests++;
    if (strcmp(path, "/echo") == 0) {
        http_exchange_reply(exchange, 200, "text/plain", body, len);
    } else if (strcmp(path, "/header") == 0) {
        const char *value = http_exchange_header(exchange, "x-test");
        http_exchange_reply(exchange, 200, "text/plain", value, strlen(value));
    } else if (strncmp(path, "/big/", 5) == 0) {
        size_t size = (size_t)atoi(path + 5);
        char *data_out = malloc(size + 1);
        memset(data_out, 'x', size);
        http_exchange_reply(exchange, 200, "text/plain", data_out, size);
        free(data_out);
    } else if (strcmp(path, "/stream") == 0) {
        f->held = exchange;
        http_exchange_set_gone(exchange, on_gone, f);
        http_exchange_stream(exchange, 200, "text/plain", NULL, NULL);
    } else if (strcmp(path, "/hold") == 0) {
        f->held = exchange;
        http_exchange_set_gone(exchange, on_gone, f);
    } else {
        http_exchange_reply(exchange, 404, "text/plain", "nothing here", 12);
    }
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err = {.code = ""};
    static const struct http_server_limits limits = {.body = 1000,
                                                     .head = 2000,
                                                     .request_us = 300000,
                                                     .idle_us = 500000,
                                                     .connections = 40,
                                                     .per_address = 40};
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(http_server_new(f->loop, &limits, handle, f, &f->server), 0);
    assert_int_equal(http_server_listen(f->server, "127.0.0.1", 0, &f->port, &err), 0);
    assert_int_equal(http_client_new(f->loop, NULL, &f->client), 0);
    buffer_init(&f->body, 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_client_free(f->client);
    http_server_free(f->server);
    loop_free(f->loop);
    buffer_done(&f->body);
    free(f);
    return 0;
}

static void on_done(const struct http_response *response, const struct error *err, void *user)
{
    struct fixture *f = user;
    f->done++;
    f->status = response->status;
    snprintf(f->code, sizeof(f->code), "%s", err != NULL ? err->code : "");
    buffer_clear(&f->body);
    if (response->body != NULL)
        buffer_append(&f->body, response->body, response->body_len);
    buffer_append(&f->body, "", 0);
}

static void run(struct fixture *f, int done)
{
    uint64_t end = loop_clock() + 10000000;
    while (f->done < done && loop_clock() < end)
        loop_step(f->loop, 100);
    assert_int_equal(f->done, done);
}

static struct http_transfer *start(struct fixture *f, const char *path, struct http_request request)
{
    char url[200];
    struct http_transfer *transfer;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", f->port, path);
    request.url = url;
    if (request.done == NULL)
        request.done = on_done;
    request.user = request.user != NULL ? request.user : f;
    assert_int_equal(http_request_start(f->client, &request, &transfer), 0);
    return transfer;
}

static void test_requests(void **state)
{
    struct fixture *f = *state;
    start(f, "/echo", (struct http_request){.body = "hello", .body_len = 5});
    run(f, 1);
    assert_int_equal(f->status, 200);
    assert_int_equal(f->body.len, 5);
    assert_memory_equal(f->body.data, "hello", 5);
    start(f, "/none", (struct http_request){0});
    run(f, 2);
    assert_int_equal(f->status, 404);
    assert_string_equal(f->code, "");
    start(f, "/none", (struct http_request){.flags = HTTP_FAIL_ON_STATUS});
    run(f, 3);
    assert_string_equal(f->code, "http.status");
    static const char *const headers[] = {"X-Test: value of it", NULL};
    start(f, "/header", (struct http_request){.headers = headers});
    run(f, 4);
    assert_memory_equal(f->body.data, "value of it", 11);
    for (int i = 0; i < 100; i++)
        start(f, "/big/50000", (struct http_request){0});
    run(f, 104);
    assert_int_equal(f->body.len, 50000);
    assert_int_equal(f->requests, 104);
}

static void test_limits_of_the_client(void **state)
{
    struct fixture *f = *state;
    start(f, "/big/5000", (struct http_request){.max_body = 4999});
    run(f, 1);
    assert_string_equal(f->code, "http.too-big");
    start(f, "/big/5000", (struct http_request){.max_body = 5000});
    run(f, 2);
    assert_string_equal(f->code, "");
    start(f, "/hold", (struct http_request){.timeout_us = 100000});
    run(f, 3);
    assert_string_equal(f->code, "http.timeout");
    for (int i = 0; i < 50 && f->held != NULL; i++)
        loop_step(f->loop, 20);
    assert_int_equal(f->gone, 1); /* the server's handler is told */
    struct http_request bad = {.url = "file:///etc/passwd", .done = on_done, .user = f};
    assert_int_equal(http_request_start(f->client, &bad, NULL), -EINVAL);
    bad.url = "http://";
    assert_int_equal(http_request_start(f->client, &bad, NULL), -EINVAL);
    struct http_request closed = {.url = "http://127.0.0.1:1/", .done = on_done, .user = f};
    assert_int_equal(http_request_start(f->client, &closed, NULL), 0);
    run(f, 4);
    assert_string_equal(f->code, "http.unreachable");
}

struct sink {
    struct fixture *f;
    size_t bytes, stop_at;
    struct http_transfer *cancel;
};

static int on_data(const void *data, size_t len, void *user)
{
    struct sink *sink = user;
    assert_int_equal(((const char *)data)[0], 'x');
    sink->bytes += len;
    if (sink->cancel != NULL) {
        http_transfer_cancel(sink->cancel);
        sink->cancel = NULL;
        /* and a new one from inside of libcurl */
        start(sink->f, "/echo", (struct http_request){.body = "y", .body_len = 1});
    }
    return sink->stop_at > 0 && sink->bytes >= sink->stop_at;
}

static void on_sink_done(const struct http_response *response, const struct error *err, void *user)
{
    struct sink *sink = user;
    on_done(response, err, sink->f);
}

static void test_sink(void **state)
{
    struct fixture *f = *state;
    struct sink sink = {.f = f};
    start(f, "/big/300000",
          (struct http_request){.data = on_data, .done = on_sink_done, .user = &sink});
    run(f, 1);
    assert_int_equal(sink.bytes, 300000);
    /* a refusal never reaches the sink */
    start(f, "/none", (struct http_request){.data = on_data, .done = on_sink_done, .user = &sink});
    run(f, 2);
    assert_int_equal(sink.bytes, 300000);
    assert_memory_equal(f->body.data, "nothing here", 12);
    sink.stop_at = 300001;
    start(f, "/big/300000",
          (struct http_request){.data = on_data, .done = on_sink_done, .user = &sink});
    run(f, 3);
    assert_string_equal(f->code, "http.aborted");
    /* cancelled from inside its own sink: silent, and what was started there runs */
    sink = (struct sink){.f = f};
    sink.cancel =
        start(f, "/big/300000",
              (struct http_request){.data = on_data, .done = on_sink_done, .user = &sink});
    run(f, 4);
    assert_int_equal(f->body.len, 1);
    http_transfer_cancel(start(f, "/hold", (struct http_request){0}));
    start(f, "/echo", (struct http_request){.body = "z", .body_len = 1});
    run(f, 5);
}

/* ---- bad peers: bytes in, what comes back ---- */

static int dial(const struct fixture *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* The answer's text until the server closes or 1 s has passed; *ret_closed says which. */
static size_t talk(struct fixture *f, int fd, const char *text, size_t len, char *answer,
                   size_t size, int *ret_closed)
{
    uint64_t end = loop_clock() + 1000000;
    size_t got = 0;
    *ret_closed = 0;
    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
    while (loop_clock() < end && !*ret_closed) {
        loop_step(f->loop, 10);
        ssize_t n = recv(fd, answer + got, size - 1 - got, MSG_DONTWAIT);
        if (n > 0)
            got += (size_t)n;
        else if (n == 0 || errno == ECONNRESET)
            *ret_closed = 1;
    }
    answer[got] = '\0';
    return got;
}

/* Only those at a request count: a stream takes nobody's place, and goes on while they fill theirs. */
static void test_streams_beside_requests(void **state)
{
    struct fixture *f = *state;
    static const struct http_server_limits limits = {.requesting = 3, .idle_us = 5000000};
    static const char request[] = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n";
    struct error err = {.code = ""};
    char answer[512], byte;
    int streams[2], silent[5], lost = 0, closed;
    http_server_free(f->server);
    assert_int_equal(http_server_new(f->loop, &limits, handle, f, &f->server), 0);
    assert_int_equal(http_server_listen(f->server, "127.0.0.1", 0, &f->port, &err), 0);
    for (size_t i = 0; i < 2; i++) {
        streams[i] = dial(f);
        talk(f, streams[i], request, strlen(request), answer, sizeof(answer), &closed);
        assert_int_equal(closed, 0);
        assert_non_null(strstr(answer, "Transfer-Encoding: chunked"));
    }
    for (size_t i = 0; i < 5; i++)
        silent[i] = dial(f);
    assert_int_equal(http_exchange_write(f->held, "hello", 5), 0);
    size_t got = talk(f, streams[1], "", 0, answer, sizeof(answer), &closed);
    assert_int_equal(closed, 0);
    assert_memory_equal(answer, "5\r\nhello\r\n", got);
    http_exchange_finish(f->held);
    talk(f, streams[1], "", 0, answer, sizeof(answer), &closed);
    assert_string_equal(answer, "0\r\n\r\n");
    for (size_t i = 0; i < 5; i++) {
        ssize_t n = recv(silent[i], &byte, 1, MSG_DONTWAIT);
        lost += n == 0 || (n < 0 && errno == ECONNRESET);
        close(silent[i]);
    }
    assert_int_equal(lost, 2);
    f->held = NULL;
    for (size_t i = 0; i < 2; i++)
        close(streams[i]);
}

static void test_bad_peers(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *status;
    } cases[] = {
        {"nonsense\r\n\r\n", "400"},
        {" / HTTP/1.1\r\nHost: a\r\n\r\n", "400"}, /* no method */
        {"GET / HTTP/1.1\r\n\r\n", "400"},         /* no Host */
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
        {"GET http://x/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
         "411"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
         "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "413"},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "501"},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", "400"},
        {"GET /echo HTTP/1.1\r\nHost: a\r\n", "408"}, /* and then nothing */
    };
    char answer[4096];
    int closed;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = dial(f);
        talk(f, fd, cases[i].text, strlen(cases[i].text), answer, sizeof(answer), &closed);
        assert_true(closed);
        if (strncmp(answer + 9, cases[i].status, 3) != 0)
            fail_msg("%s\nwas answered with %s", cases[i].text, answer);
        close(fd);
    }
    assert_int_equal(f->requests, 0);
    char *big = malloc(5000);
    int len = snprintf(big, 5000, "GET / HTTP/1.1\r\nHost: a\r\nX: %03000d\r\n\r\n", 1);
    int fd = dial(f);
    talk(f, fd, big, (size_t)len, answer, sizeof(answer), &closed);
    assert_memory_equal(answer + 9, "431", 3);
    close(fd);
    free(big);
    /* two requests in one packet are answered in turn; then the idle connection is closed */
    static const char two[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nonePOST "
                              "/echo HTTP/1.1\r\nHost: a\r\n"
                              "Content-Length: 3\r\n\r\ntwo";
    fd = dial(f);
    talk(f, fd, two, sizeof(two) - 1, answer, sizeof(answer), &closed);
    assert_true(closed);
    assert_non_null(strstr(answer, "\r\n\r\none"));
    assert_non_null(strstr(strstr(answer, "one"), "\r\n\r\ntwo"));
    close(fd);
}

static void test_too_many_connections(void **state)
{
    struct fixture *f = *state;
    int fds[60];
    char byte;
    int closed = 0;
    for (int i = 0; i < 60; i++)
        fds[i] = dial(f);
    for (int i = 0; i < 20; i++)
        loop_step(f->loop, 5);
    for (int i = 0; i < 60; i++) {
        ssize_t n = recv(fds[i], &byte, 1, MSG_DONTWAIT);
        closed += n == 0 || (n < 0 && errno == ECONNRESET);
        close(fds[i]);
    }
    assert_int_equal(closed, 20);
}

static void test_urls(void **state)
{
    (void)state;
    char origin[URL_ORIGIN_MAX];
    assert_int_equal(url_origin("https://user:key@host.example:8443/secret?token=1", origin), 0);
    assert_string_equal(origin, "https://host.example:8443");
    assert_int_equal(url_origin("host/path", origin), -EINVAL);
    assert_int_equal(url_origin("http:///path", origin), -EINVAL);
    assert_true(url_is_loopback("http://127.9.8.7:1/"));
    assert_true(url_is_loopback("http://localhost"));
    assert_true(url_is_loopback("ws://[::1]:80/"));
    assert_false(url_is_loopback("ws://[::1].example/"));
    assert_false(url_is_loopback("http://127.0.0.1.example/"));
    assert_false(url_is_loopback("http://localhost@evil.example/"));
    assert_false(url_is_loopback("http://128.0.0.1/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits_of_the_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sink, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_peers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_streams_beside_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_connections, set_up, tear_down),
        cmocka_unit_test(test_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
