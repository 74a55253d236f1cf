// Learning of new blocks: by subscription within a second, and within 15 s when the connection turns into a black hole.
// packages: curl c-ares mbedtls zlib
#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/sha1.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/buffer.h"
#include "lib/crypto/text.h"
#include "lib/eth/heads.h"

#define SECOND ((uint64_t)1000000)
#define PEERS_MAX 32

/* An endpoint on our own loop: JSON-RPC over POST, and WebSocket with one subscription per connection. */
struct peer {
    struct endpoint *endpoint;
    int fd;
    struct loop_io *io;
    struct buffer in;
    int websocket, subscribed;
};

struct endpoint {
    struct loop *loop;
    int fd;
    uint16_t port;
    struct loop_io *io;
    struct peer peers[PEERS_MAX];
    size_t count;
    uint64_t block;
    int deaf;       /* connections stay open, nothing is answered: a black hole */
    int no_upgrade; /* serves POST only */
    int mute;       /* subscribed, answers pings, but tells no heads */
    int posts, connections;
};

static void out(struct peer *peer, const void *data, size_t len)
{
    if (send(peer->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
        abort();
}

static void frame(struct peer *peer, uint8_t opcode, const char *text)
{
    uint8_t head[4] = {(uint8_t)(0x80 | opcode), 126, 0, 0};
    size_t len = strlen(text);
    head[2] = (uint8_t)(len >> 8);
    head[3] = (uint8_t)len;
    if (len < 126) {
        head[1] = (uint8_t)len;
        out(peer, head, 2);
    } else {
        out(peer, head, 4);
    }
    out(peer, text, len);
}

static void block_json(uint64_t number, char *text, size_t size)
{
    snprintf(text, size, "{\"number\":\"0x%llx\",\"hash\":\"0x%064llx\"}",
             (unsigned long long)number, (unsigned long long)number);
}

static void tell_head(struct endpoint *endpoint)
{
    char block[200], text[400];
    block_json(endpoint->block, block, sizeof(block));
    snprintf(text, sizeof(text),
             "{\"jsonrpc\":\"2.0\",\"method\":\"eth_subscription\",\"params\":{\"subscription\":"
             "\"0x1\",\"result\":%s}}",
             block);
    for (size_t i = 0; i < endpoint->count; i++) {
        struct peer *peer = &endpoint->peers[i];
        if (peer->fd >= 0 && peer->subscribed && !endpoint->deaf && !endpoint->mute)
            frame(peer, 1, text);
    }
}

static void upgrade(struct peer *peer, const char *head)
{
    char key[128] = "", answer[400];
    uint8_t hash[20];
    const char *at = strstr(head, "Sec-WebSocket-Key: ");
    if (peer->endpoint->no_upgrade || at == NULL ||
        sscanf(at, "Sec-WebSocket-Key: %60s", key) != 1) {
        static const char no[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        out(peer, no, sizeof(no) - 1);
        return;
    }
    strcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    mbedtls_sha1((const unsigned char *)key, strlen(key), hash);
    char *accept = base64_encode(hash, 20);
    int len =
        snprintf(answer, sizeof(answer),
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n",
                 accept);
    free(accept);
    out(peer, answer, (size_t)len);
    peer->websocket = 1;
}

static void serve_post(struct peer *peer, const char *body)
{
    char block[200], text[400], answer[600];
    unsigned id = 0;
    const char *at = strstr(body, "\"id\":");
    peer->endpoint->posts++;
    if (at != NULL)
        sscanf(at, "\"id\":%u", &id);
    block_json(peer->endpoint->block, block, sizeof(block));
    int len =
        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%u,\"result\":%s}", id, block);
    len = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len,
                   text);
    out(peer, answer, (size_t)len);
}

/* One whole request or frame from the front of the buffer; 0: more is needed. */
static size_t serve_one(struct peer *peer)
{
    const uint8_t *data = peer->in.data;
    if (peer->websocket) {
        if (peer->in.len < 6)
            return 0;
        size_t len = data[1] & 127, head = 2;
        if (len == 126) {
            len = (size_t)data[2] << 8 | data[3];
            head = 4;
        }
        if (peer->in.len < head + 4 + len)
            return 0;
        if ((data[0] & 15) == 9) {
            frame(peer, 10, "");
        } else if ((data[0] & 15) == 1) {
            peer->subscribed = 1;
            frame(peer, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"0x1\"}");
        }
        return head + 4 + len;
    }
    const char *text = (const char *)data;
    const char *end = strstr(text, "\r\n\r\n");
    if (end == NULL)
        return 0;
    size_t size = (size_t)(end - text) + 4, body = 0;
    const char *length = strstr(text, "Content-Length: ");
    if (length != NULL && length < end)
        body = (size_t)atoi(length + 16);
    if (peer->in.len < size + body)
        return 0;
    if (strncmp(text, "POST", 4) == 0)
        serve_post(peer, end + 4);
    else
        upgrade(peer, text);
    return size + body;
}

static void on_peer(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)events;
    struct peer *peer = data;
    char bytes[4096];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n <= 0) {
        loop_io_del(peer->io);
        close(fd);
        peer->fd = -1;
        peer->subscribed = 0;
        return;
    }
    if (peer->endpoint->deaf)
        return;
    buffer_append(&peer->in, bytes, (size_t)n);
    for (size_t used; peer->in.len > 0 && (used = serve_one(peer)) > 0;)
        buffer_consume(&peer->in, used);
}

static void on_accept(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)events;
    struct endpoint *endpoint = data;
    assert_true(endpoint->count < PEERS_MAX);
    struct peer *peer = &endpoint->peers[endpoint->count++];
    endpoint->connections++;
    peer->endpoint = endpoint;
    peer->fd = accept(fd, NULL, NULL);
    buffer_init(&peer->in, 0);
    assert_int_equal(loop_io_add(endpoint->loop, peer->fd, EPOLLIN, on_peer, peer, &peer->io), 0);
}

static void endpoint_start(struct endpoint *endpoint, struct loop *loop)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    memset(endpoint, 0, sizeof(*endpoint));
    endpoint->loop = loop;
    endpoint->block = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    endpoint->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(endpoint->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(endpoint->fd, 16), 0);
    assert_int_equal(getsockname(endpoint->fd, (struct sockaddr *)&address, &len), 0);
    endpoint->port = ntohs(address.sin_port);
    assert_int_equal(loop_io_add(loop, endpoint->fd, EPOLLIN, on_accept, endpoint, &endpoint->io),
                     0);
}

static void endpoint_stop(struct endpoint *endpoint)
{
    for (size_t i = 0; i < endpoint->count; i++) {
        if (endpoint->peers[i].fd >= 0) {
            loop_io_del(endpoint->peers[i].io);
            close(endpoint->peers[i].fd);
        }
        buffer_done(&endpoint->peers[i].in);
    }
    loop_io_del(endpoint->io);
    close(endpoint->fd);
}

/* ---- what heads tells ---- */

struct seen {
    uint64_t number;
    int calls, reachable, subscribed;
};

static void on_head(uint64_t number, const uint8_t hash[32], void *data)
{
    struct seen *seen = data;
    assert_int_equal(hash[31], number & 0xff);
    seen->number = number;
    seen->calls++;
}

static void on_state(bool reachable, bool subscribed, const struct error *err, void *data)
{
    struct seen *seen = data;
    assert_true(reachable || err != NULL);
    seen->reachable = reachable;
    seen->subscribed = subscribed;
}

struct world {
    struct loop *loop;
    struct endpoint a, b;
    struct eth_rpc *rpc;
    struct eth_heads *heads;
    struct seen seen;
};

static void world_start(struct world *world, int endpoints)
{
    char urls[128];
    memset(world, 0, sizeof(*world));
    assert_int_equal(loop_new(&world->loop), 0);
    endpoint_start(&world->a, world->loop);
    endpoint_start(&world->b, world->loop);
    snprintf(urls, sizeof(urls),
             endpoints == 2 ? "http://127.0.0.1:%u,http://127.0.0.1:%u" : "http://127.0.0.1:%u",
             world->a.port, world->b.port);
    struct eth_rpc_options options = {.urls = urls, .timeout_us = 6 * SECOND};
    assert_int_equal(eth_rpc_new(world->loop, &options, &world->rpc, NULL), 0);
    assert_int_equal(
        eth_heads_new(world->loop, world->rpc, on_head, on_state, &world->seen, &world->heads), 0);
}

static void world_stop(struct world *world)
{
    eth_heads_free(world->heads);
    eth_rpc_free(world->rpc);
    endpoint_stop(&world->a);
    endpoint_stop(&world->b);
    loop_free(world->loop);
}

/* Microseconds until heads knows of the block; UINT64_MAX: not in time. */
static uint64_t until(struct world *world, uint64_t block, uint64_t limit)
{
    uint64_t start = loop_clock();
    while (world->seen.number != block) {
        if (loop_clock() - start > limit)
            return UINT64_MAX;
        loop_step(world->loop, 20);
    }
    return loop_clock() - start;
}

static void until_subscribed(struct world *world)
{
    uint64_t end = loop_clock() + 5 * SECOND;
    while ((!world->seen.subscribed || world->seen.number == 0) && loop_clock() < end)
        loop_step(world->loop, 20);
    assert_true(world->seen.subscribed);
}

static void test_subscription(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, 1);
    until_subscribed(&world);
    assert_int_equal(world.seen.number, 1);
    for (uint64_t block = 2; block < 10; block++) {
        world.a.block = block;
        tell_head(&world.a);
        assert_true(until(&world, block, SECOND) < SECOND);
    }
    /* a reorganisation lowers the number and is told as well */
    world.a.block = 8;
    tell_head(&world.a);
    assert_true(until(&world, 8, SECOND) < SECOND);
    /* quiet while subscribed: two requests at the start, none for heads */
    int posts = world.a.posts;
    uint64_t end = loop_clock() + SECOND;
    while (loop_clock() < end)
        loop_step(world.loop, 50);
    assert_int_equal(world.a.posts, posts);
    assert_true(eth_rpc_requests(world.rpc) <= 3);
    world_stop(&world);
}

static void test_a_quiet_connection_stays(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, 1);
    until_subscribed(&world);
    /* longer than a ping and its pong take, without a block */
    uint64_t end = loop_clock() + 8 * SECOND;
    while (loop_clock() < end)
        loop_step(world.loop, 50);
    assert_true(world.seen.subscribed);
    assert_int_equal(eth_heads_requests(world.heads), 1);
    world_stop(&world);
}

static void test_black_hole(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, 2);
    until_subscribed(&world);
    /* the connection is not reset, it only never answers again; the other endpoint lives */
    world.a.deaf = 1;
    world.a.block = world.b.block = 5;
    tell_head(&world.b);
    assert_true(until(&world, 5, 15 * SECOND) < 15 * SECOND);
    /* and from then on by subscription to the other one */
    until_subscribed(&world);
    world.b.block = 6;
    tell_head(&world.b);
    assert_true(until(&world, 6, SECOND) < SECOND);
    world_stop(&world);
}

static void test_black_hole_without_another(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, 1);
    until_subscribed(&world);
    assert_true(world.seen.reachable);
    world.a.deaf = 1;
    uint64_t end = loop_clock() + 15 * SECOND;
    while (world.seen.reachable && loop_clock() < end)
        loop_step(world.loop, 20);
    assert_false(world.seen.reachable);
    /* it answers again */
    world.a.deaf = 0;
    world.a.block = 7;
    assert_true(until(&world, 7, 15 * SECOND) < 15 * SECOND);
    assert_true(world.seen.reachable);
    world_stop(&world);
}

static void test_closed_and_back(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, 1);
    until_subscribed(&world);
    for (size_t i = 0; i < world.a.count; i++) {
        if (world.a.peers[i].fd >= 0)
            shutdown(world.a.peers[i].fd, SHUT_RDWR);
    }
    world.a.block = 9;
    assert_true(until(&world, 9, 6 * SECOND) < 6 * SECOND);
    until_subscribed(&world);
    world_stop(&world);
}

static void test_without_websocket(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, 1);
    world.a.no_upgrade = 1;
    assert_true(until(&world, 1, 5 * SECOND) < 5 * SECOND);
    assert_false(world.seen.subscribed);
    world.a.block = 2;
    assert_true(until(&world, 2, 7 * SECOND) < 7 * SECOND);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subscription),    cmocka_unit_test(test_a_quiet_connection_stays),
        cmocka_unit_test(test_black_hole),      cmocka_unit_test(test_black_hole_without_another),
        cmocka_unit_test(test_closed_and_back), cmocka_unit_test(test_without_websocket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
