// The WebSocket client against peers in processes of their own: binary messages, headers, a pinned key, flow control both ways,
// and peers that behave badly.
// sources: tests/unit/tls_peer.c
// packages: curl c-ares mbedtls picohttpparser zlib
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/crypto/hash.h"
#include "lib/http/client.h"
#include "lib/http/ws.h"
#include "tls_peer.h"

/* ---- the peers; in processes of their own ---- */

#define UPGRADE                                                                                    \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: croft.test.v1\r\n\r\n"

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, FIN = 0x80 };

struct frame {
    unsigned opcode;
    size_t len;
    uint8_t *data;
};

static void read_frame(struct tls_peer *peer, struct frame *ret_frame)
{
    uint8_t head[2], more[8], mask[4];
    peer_read_all(peer, head, 2);
    size_t len = head[1] & 0x7f;
    if ((head[1] & 0x80) == 0)
        _exit(90); /* a client masks */
    if (len >= 126) {
        size_t bytes = len == 126 ? 2 : 8;
        peer_read_all(peer, more, bytes);
        len = 0;
        for (size_t i = 0; i < bytes; i++)
            len = len << 8 | more[i];
    }
    peer_read_all(peer, mask, 4);
    ret_frame->opcode = head[0];
    ret_frame->len = len;
    ret_frame->data = malloc(len + 1);
    peer_read_all(peer, ret_frame->data, len);
    for (size_t i = 0; i < len; i++)
        ret_frame->data[i] ^= mask[i % 4];
    ret_frame->data[len] = '\0';
}

static void write_frame(struct tls_peer *peer, unsigned opcode, const void *data, size_t len)
{
    uint8_t head[10] = {(uint8_t)opcode, (uint8_t)len};
    size_t size = 2;
    if (len > 65535) {
        head[1] = 127;
        for (size_t i = 0; i < 8; i++)
            head[9 - i] = (uint8_t)((uint64_t)len >> 8 * i);
        size = 10;
    } else if (len > 125) {
        head[1] = 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        size = 4;
    }
    peer_write(peer, head, size);
    peer_write(peer, data, len);
}

static void upgrade(struct tls_peer *peer)
{
    char head[4096];
    peer_head(peer, head, sizeof(head));
    peer_text(peer, UPGRADE);
}

/* Everything comes back, with a ping before each message whose pong must come before the next one. */
static int serve_echo(struct tls_peer *peer, void *data)
{
    char head[4096];
    (void)data;
    peer_head(peer, head, sizeof(head));
    if (strstr(head, "\r\nX-Test: value of it\r\n") == NULL ||
        strstr(head, "\r\nSec-WebSocket-Protocol: croft.test.v1\r\n") == NULL ||
        strncmp(head, "GET /path?arg=a%20b HTTP/1.1\r\n", 30) != 0)
        return 80;
    peer_text(peer, UPGRADE);
    for (int i = 0; i < 3; i++) {
        struct frame frame;
        char word[20];
        snprintf(word, sizeof(word), "ping%d", i);
        write_frame(peer, FIN | PING, word, 5);
        read_frame(peer, &frame);
        if (frame.opcode == (FIN | PONG)) {
            if (frame.len != 5 || memcmp(frame.data, word, 5) != 0)
                return 81;
            free(frame.data);
            read_frame(peer, &frame);
        } else {
            struct frame pong; /* the message was on its way before the ping came */
            read_frame(peer, &pong);
            if (pong.opcode != (FIN | PONG) || memcmp(pong.data, word, 5) != 0)
                return 82;
            free(pong.data);
        }
        if (frame.opcode != (FIN | BINARY))
            return 83;
        /* back in two fragments with a ping between them */
        write_frame(peer, BINARY, frame.data, frame.len / 2);
        write_frame(peer, FIN | PONG, "stray", 5);
        write_frame(peer, FIN, frame.data + frame.len / 2, frame.len - frame.len / 2);
        free(frame.data);
    }
    struct frame last;
    read_frame(peer, &last); /* a ping of the client's */
    if (last.opcode != (FIN | PING))
        return 84;
    write_frame(peer, FIN | PONG, last.data, last.len);
    free(last.data);
    write_frame(peer, FIN | CLOSE, "\x03\xe8", 2);
    return 0;
}

/* Reads nothing for a while, pings meanwhile, and then counts everything. */
static int serve_slowly(struct tls_peer *peer, void *data)
{
    size_t wanted = *(size_t *)data, got = 0;
    int pongs = 0;
    upgrade(peer);
    for (int i = 0; i < 5; i++) {
        write_frame(peer, FIN | PING, "hello", 5);
        usleep(100000);
    }
    while (got < wanted || pongs == 0) {
        struct frame frame;
        read_frame(peer, &frame);
        if (frame.opcode == (FIN | PONG)) {
            if (frame.len != 5 || memcmp(frame.data, "hello", 5) != 0)
                return 80;
            pongs++;
        } else {
            for (size_t i = 0; i < frame.len; i++) {
                if (frame.data[i] != (uint8_t)((got + i) % 251))
                    return 81;
            }
            got += frame.len;
        }
        free(frame.data);
    }
    write_frame(peer, FIN | BINARY, "done", 4);
    write_frame(peer, FIN | CLOSE, "\x03\xe8", 2);
    return got == wanted ? 0 : 82;
}

/* Sends a lot at once and goes away. */
static int serve_flood(struct tls_peer *peer, void *data)
{
    size_t total = *(size_t *)data;
    uint8_t piece[10000];
    upgrade(peer);
    for (size_t at = 0; at < total; at += sizeof(piece)) {
        for (size_t i = 0; i < sizeof(piece); i++)
            piece[i] = (uint8_t)((at + i) % 251);
        write_frame(peer, FIN | BINARY, piece, sizeof(piece));
    }
    return 0;
}

struct bytes {
    const char *data;
    size_t len;
};

static int serve_bytes(struct tls_peer *peer, void *data)
{
    const struct bytes *bytes = data;
    char rest[100];
    upgrade(peer);
    peer_write(peer, bytes->data, bytes->len);
    while (peer_read(peer, rest, sizeof(rest)) > 0)
        ;
    return 0;
}

static int serve_text(struct tls_peer *peer, void *data)
{
    char head[4096];
    peer_head(peer, head, sizeof(head));
    peer_text(peer, data);
    return 0;
}

/* ---- the client ---- */

struct client {
    struct loop *loop;
    struct ws *ws;
    struct buffer in;
    int opened, messages, pongs, writable, closed;
    char code[40], header[80];
    int status;
};

static void on_event(struct ws *ws, enum ws_event event, const char *data, size_t len,
                     const struct error *err, void *user)
{
    struct client *c = user;
    if (event == WS_OPEN) {
        c->opened++;
    } else if (event == WS_MESSAGE) {
        c->messages++;
        assert_int_equal(buffer_append(&c->in, data, len), 0);
    } else if (event == WS_PONG) {
        c->pongs++;
    } else if (event == WS_WRITABLE) {
        c->writable++;
    } else {
        c->closed++;
        snprintf(c->code, sizeof(c->code), "%s", err->code);
        snprintf(c->header, sizeof(c->header), "%s", ws_header(ws, "croft-error"));
        c->status = ws_status(ws);
    }
}

static void client_start(struct client *c, const struct peer_server *server, const char *scheme,
                         const uint8_t *pin)
{
    static const char *const headers[] = {"X-Test: value of it", NULL};
    char url[100];
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u/path?arg=a%%20b", scheme, server->port);
    memset(c, 0, sizeof(*c));
    buffer_init(&c->in, 0);
    assert_int_equal(loop_new(&c->loop), 0);
    struct ws_options options = {.url = url,
                                 .connect_timeout_us = 20000000,
                                 .headers = headers,
                                 .protocol = "croft.test.v1",
                                 .pinned_key = pin,
                                 .binary = true,
                                 .fn = on_event,
                                 .user = c};
    assert_int_equal(ws_new(c->loop, &options, &c->ws), 0);
}

static void client_end(struct client *c)
{
    ws_free(c->ws);
    loop_free(c->loop);
    buffer_done(&c->in);
}

#define UNTIL(c, condition)                                                                        \
    do {                                                                                           \
        uint64_t end_ = loop_clock() + 60000000;                                                   \
        while (!(condition) && loop_clock() < end_)                                                \
            loop_step((c)->loop, 50);                                                              \
        assert_true(condition);                                                                    \
    } while (0)

static void check_echo(int tls)
{
    struct client c;
    struct peer_server server;
    struct peer_options options = {.tls = tls, .serve = serve_echo};
    static const size_t sizes[] = {1, 300, 60000};
    peer_start(&options, &server);
    client_start(&c, &server, tls != 0 ? "wss" : "ws", tls != 0 ? server.key_hash : NULL);
    UNTIL(&c, c.opened);
    for (size_t i = 0; i < 3; i++) {
        char *out = malloc(sizes[i]);
        memset(out, 'a' + (int)i, sizes[i]);
        out[0] = '\0'; /* no text */
        assert_int_equal(ws_send(c.ws, out, sizes[i]), 0);
        UNTIL(&c, (size_t)c.messages == i + 1 || c.closed);
        assert_int_equal(c.in.len, sizes[i]);
        assert_memory_equal(c.in.data, out, sizes[i]);
        buffer_clear(&c.in);
        free(out);
    }
    int before = c.pongs;
    assert_int_equal(ws_ping(c.ws), 0);
    UNTIL(&c, c.closed);
    assert_int_equal(before, 3); /* the stray ones */
    assert_int_equal(c.pongs, 4);
    assert_string_equal(c.code, "http.unreachable");
    assert_int_equal(ws_send(c.ws, "x", 1), -ENOTCONN);
    assert_int_equal(ws_ping(c.ws), -ENOTCONN);
    client_end(&c);
    assert_int_equal(peer_end(&server), 0);
}

static void test_messages(void **state)
{
    (void)state;
    check_echo(0);
}

static void test_messages_over_tls(void **state)
{
    (void)state;
    check_echo(13);
}

/* The queue is bounded, tells when there is room, and a ping that comes while a frame is stuck does no harm. */
static void check_slow_reader(int tls)
{
    struct client c;
    struct peer_server server;
    size_t total = 12000000, sent = 0;
    struct peer_options options = {.tls = tls, .serve = serve_slowly, .data = &total};
    uint8_t piece[30000];
    int refused = 0;
    peer_start(&options, &server);
    client_start(&c, &server, tls != 0 ? "wss" : "ws", tls != 0 ? server.key_hash : NULL);
    UNTIL(&c, c.opened);
    while (sent < total && !c.closed) {
        size_t len = total - sent < sizeof(piece) ? total - sent : sizeof(piece);
        for (size_t i = 0; i < len; i++)
            piece[i] = (uint8_t)((sent + i) % 251);
        if (ws_room(c.ws) >= len) {
            assert_int_equal(ws_send(c.ws, piece, len), 0);
            sent += len;
            continue;
        }
        if (refused++ == 0)
            assert_int_equal(ws_send(c.ws, piece, WS_QUEUE_MAX), -ENOBUFS);
        int before = c.writable;
        UNTIL(&c, c.writable > before || c.closed);
    }
    assert_int_equal(sent, total);
    UNTIL(&c, c.messages == 1 || c.closed);
    assert_int_equal(c.messages, 1);
    assert_memory_equal(c.in.data, "done", 4);
    assert_true(refused > 10);
    client_end(&c);
    assert_int_equal(peer_end(&server), 0);
}

static void test_slow_reader(void **state)
{
    (void)state;
    check_slow_reader(0);
}

static void test_slow_reader_over_tls(void **state)
{
    (void)state;
    check_slow_reader(13);
}

/* Who pauses gets nothing, and everything afterwards, also what lies in buffers when the peer is gone already. */
static void test_pause(void **state)
{
    (void)state;
    for (int tls = 0; tls <= 13; tls += 13) {
        for (size_t total = 100000; total <= 5000000; total *= 50) {
            struct client c;
            struct peer_server server;
            struct peer_options options = {.tls = tls, .serve = serve_flood, .data = &total};
            peer_start(&options, &server);
            client_start(&c, &server, tls != 0 ? "wss" : "ws", tls != 0 ? server.key_hash : NULL);
            UNTIL(&c, c.opened);
            ws_pause(c.ws, true);
            size_t before = c.in.len;
            for (int i = 0; i < 10; i++)
                loop_step(c.loop, 20);
            assert_int_equal(c.in.len, before);
            while (c.in.len < total && !c.closed) {
                ws_pause(c.ws, false);
                loop_step(c.loop, 50);
                ws_pause(c.ws, true);
                loop_step(c.loop, 0);
            }
            assert_int_equal(c.in.len, total);
            for (size_t i = 0; i < total; i++) {
                if (c.in.data[i] != i % 251)
                    fail_msg("byte %zu differs", i);
            }
            ws_pause(c.ws, false);
            UNTIL(&c, c.closed);
            client_end(&c);
            assert_int_equal(peer_end(&server), 0);
        }
    }
}

static void test_keys(void **state)
{
    (void)state;
    static const struct {
        int tls;
        bool right;
        const char *code;
    } cases[] = {
        {13, false, "http.wrong-key"},
        {12, true, "http.unreachable"}, /* an older TLS than the one that is asked for */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c;
        struct peer_server server;
        struct bytes nothing = {"", 0};
        struct peer_options options = {.tls = cases[i].tls, .serve = serve_bytes, .data = &nothing};
        uint8_t pin[32];
        peer_start(&options, &server);
        memcpy(pin, server.key_hash, 32);
        pin[31] ^= !cases[i].right;
        client_start(&c, &server, "wss", pin);
        UNTIL(&c, c.closed);
        assert_int_equal(c.opened, 0);
        assert_string_equal(c.code, cases[i].code);
        client_end(&c);
        peer_end(&server); /* it may have been cut off anywhere */
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *code, *header;
        int status;
    } cases[] = {
        {"HTTP/1.1 403 No\r\nCroft-Error: {\"code\":\"gate.not-allowed\"}\r\nContent-Length: "
         "0\r\n\r\n",
         "http.status", "{\"code\":\"gate.not-allowed\"}", 403},
        {"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n", "http.status", "", 200},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
         "http.status", "", 101}, /* without the subprotocol */
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Protocol: croft.other\r\n\r\n",
         "http.status", "", 101},
        {"SSH-2.0-nobody\r\n", "http.unreachable", "", 0},
        {"", "http.unreachable", "", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c;
        struct peer_server server;
        struct peer_options options = {
            .tls = 13, .serve = serve_text, .data = (void *)(uintptr_t)cases[i].answer};
        peer_start(&options, &server);
        client_start(&c, &server, "wss", server.key_hash);
        UNTIL(&c, c.closed);
        assert_int_equal(c.opened, 0);
        if (strcmp(c.code, cases[i].code) != 0)
            fail_msg("case %zu: %s, status %d", i, c.code, c.status);
        assert_string_equal(c.header, cases[i].header);
        assert_int_equal(c.status, cases[i].status);
        client_end(&c);
        assert_int_equal(peer_end(&server), 0);
    }
}

static void test_broken_frames(void **state)
{
    (void)state;
    static const struct {
        struct bytes bytes;
        const char *code;
    } cases[] = {
        {{"\x81\x02hi", 4}, "http.too-big"},                     /* text where binary is spoken */
        {{"\x82\x82\x01\x02\x03\x04hi", 8}, "http.unreachable"}, /* masked */
        {{"\xf2\x02hi", 4}, "http.unreachable"},                 /* reserved bits */
        {{"\x83\x02hi", 4}, "http.unreachable"},                 /* reserved opcode */
        {{"\x80\x02hi", 4}, "http.unreachable"},                 /* goes on with nothing */
        {{"\x09\x02hi", 4}, "http.unreachable"},                 /* a ping in pieces */
        {{"\x89\x7e\x00\xc8", 4}, "http.unreachable"},           /* a ping of 200 bytes */
        {{"\x82\x7f\x00\x00\x00\x00\x00\x20\x00\x00x", 11}, "http.too-big"}, /* 2 MiB announced */
        {{"\x82\x7f\xff\x00\x00\x00\x00\x20\x00\x00x", 11}, "http.unreachable"}, /* negative */
        {{"\x02\x01"
          "a\x82\x01"
          "b",
          6},
         "http.unreachable"}, /* a message inside of a message */
        {{"\x88\x02\x03\xe8", 4}, "http.unreachable"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c;
        struct peer_server server;
        struct bytes bytes = cases[i].bytes;
        struct peer_options options = {.serve = serve_bytes, .data = &bytes};
        peer_start(&options, &server);
        client_start(&c, &server, "ws", NULL);
        UNTIL(&c, c.closed);
        if (strcmp(c.code, cases[i].code) != 0 || c.messages != 0)
            fail_msg("case %zu: %s, %d messages", i, c.code, c.messages);
        client_end(&c);
        assert_int_equal(peer_end(&server), 0);
    }
}

/* ---- the pinned key of plain requests ---- */

struct answer {
    int done, status;
    char code[40], body[40];
};

static void on_done(const struct http_response *response, const struct error *err, void *user)
{
    struct answer *answer = user;
    answer->done++;
    answer->status = response->status;
    snprintf(answer->code, sizeof(answer->code), "%s", err != NULL ? err->code : "");
    snprintf(answer->body, sizeof(answer->body), "%s",
             response->body != NULL ? (const char *)response->body : "");
}

static void test_pinned_requests(void **state)
{
    (void)state;
    static const struct {
        int tls;
        bool pinned, right;
        const char *code, *body;
    } cases[] = {
        {13, true, true, "", "fine"},
        {13, true, false, "http.wrong-key", ""},
        {13, false, false, "http.tls", ""}, /* without a pin the certificate must be somebody's */
        {12, true, true, "http.tls", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        static char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
        struct peer_options options = {.tls = cases[i].tls, .serve = serve_text, .data = text};
        struct peer_server server;
        struct loop *loop;
        struct http_client *client;
        struct answer answer = {0};
        uint8_t pin[32];
        char url[60];
        peer_start(&options, &server);
        memcpy(pin, server.key_hash, 32);
        pin[0] ^= !cases[i].right;
        snprintf(url, sizeof(url), "https://127.0.0.1:%u/", server.port);
        assert_int_equal(loop_new(&loop), 0);
        assert_int_equal(http_client_new(loop, NULL, &client), 0);
        struct http_request request = {.url = url,
                                       .pinned_key = cases[i].pinned ? pin : NULL,
                                       .stall_timeout_us = UINT64_MAX,
                                       .max_body = 100,
                                       .done = on_done,
                                       .user = &answer};
        assert_int_equal(http_request_start(client, &request, NULL), 0);
        uint64_t end = loop_clock() + 60000000;
        while (!answer.done && loop_clock() < end)
            loop_step(loop, 50);
        assert_int_equal(answer.done, 1);
        assert_string_equal(answer.code, cases[i].code);
        assert_string_equal(answer.body, cases[i].body);
        http_client_free(client);
        loop_free(loop);
        peer_end(&server); /* it may have been cut off anywhere */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),        cmocka_unit_test(test_messages_over_tls),
        cmocka_unit_test(test_slow_reader),     cmocka_unit_test(test_slow_reader_over_tls),
        cmocka_unit_test(test_pause),           cmocka_unit_test(test_keys),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_broken_frames),
        cmocka_unit_test(test_pinned_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
