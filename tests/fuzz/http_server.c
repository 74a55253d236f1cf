// A server against any bytes, in two pieces: it answers or hangs up, and a good caller is served afterwards.
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/http/server.h"

static void on_request(struct http_exchange *exchange, void *data)
{
    size_t len;
    const uint8_t *body = http_exchange_body(exchange, &len);
    const char *header = http_exchange_header(exchange, "Authorization");
    volatile uint8_t sum = 0;

    (void)data;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + body[i]);
    if (strlen(http_exchange_method(exchange)) == 0 || strlen(http_exchange_path(exchange)) == 0)
        abort();
    http_exchange_reply(exchange, 200, "text/plain", header != NULL ? header : "",
                        header != NULL ? strlen(header) : 0);
}

static int caller(uint16_t port)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct linger hard = {1, 0}; /* no ports that wait */
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) < 0 ||
        connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
        abort();
    return fd;
}

static void turn(struct loop *loop)
{
    for (int i = 0; i < 4; i++)
        loop_step(loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static struct http_server *server;
    static uint16_t port;
    static const char good[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static unsigned runs;
    char reply[4096];

    if (loop == NULL) {
        const struct http_server_limits limits = {.upgrades = true,
                                                  .connections = 8,
                                                  .per_address = 8,
                                                  .head = 2048,
                                                  .body = 4096,
                                                  .request_us = 1000000,
                                                  .idle_us = 1000000};
        if (loop_new(&loop) < 0 || http_server_new(loop, &limits, on_request, NULL, &server) < 0 ||
            http_server_listen(server, "127.0.0.1", 0, &port, NULL) < 0)
            abort();
    }
    size_t cut = size > 0 ? data[0] % size : 0;
    int fd = caller(port);
    turn(loop);
    if (send(fd, data, cut, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
        turn(loop);
        (void)!send(fd, data + cut, size - cut, MSG_NOSIGNAL | MSG_DONTWAIT);
        turn(loop);
        while (recv(fd, reply, sizeof(reply), MSG_DONTWAIT) > 0)
            turn(loop);
    }
    close(fd);
    turn(loop);
    if (runs++ % 64 == 0) {
        fd = caller(port);
        turn(loop);
        if (send(fd, good, sizeof(good) - 1, MSG_NOSIGNAL) < 0)
            abort();
        turn(loop);
        if (recv(fd, reply, sizeof(reply), MSG_DONTWAIT) < 12 ||
            memcmp(reply, "HTTP/1.1 200", 12) != 0)
            abort();
        close(fd);
        turn(loop);
    }
    return 0;
}
