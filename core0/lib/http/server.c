/*
 * server.c - HTTP/1.1 server.
 *
 * A connection is READING (head, then body, into one buffer), HANDLED (the handler has the exchange), or WRITING (the answer).
 * Nothing is read while a request is handled or answered, so a peer that sends faster than it reads stops itself.
 */
#include "lib/http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buffer.h"

#define LISTENERS_MAX 4

enum state { READING, HANDLED, WRITING };

struct http_exchange {
    struct http_server *server;
    struct http_exchange *next, *previous;
    int fd;
    struct loop_io *io;
    struct loop_timer *timer;
    enum state state;
    char peer[INET6_ADDRSTRLEN];
    struct buffer in;
    struct buffer out;
    size_t sent;
    bool close;   /* after the answer */
    bool started; /* the first byte of a request is there */
    struct http_head head;
    char *text; /* copies of method and path, each ended by NUL */
    const char *path;
    void (*on_gone)(struct http_exchange *, void *);
    void *gone_data;
};

struct http_server {
    struct loop *loop;
    struct http_server_limits limits;
    http_handler_fn *handler;
    void *data;
    struct http_exchange *connections;
    unsigned count;
    struct {
        int fd;
        struct loop_io *io;
    } listeners[LISTENERS_MAX];
    size_t listener_count;
    struct loop_timer *resume; /* accepting again after the descriptors had run out */
};

int http_server_new(struct loop *loop, const struct http_server_limits *limits,
                    http_handler_fn *handler, void *data, struct http_server **ret_server)
{
    static const struct http_server_limits defaults = {
        .connections = 256,
        .per_address = 32,
        .head = 8192,
        .body = 65536,
        .request_us = 10000000,
        .idle_us = 30000000,
    };
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return -ENOMEM;
    server->loop = loop;
    server->handler = handler;
    server->data = data;
    server->limits = defaults;
    if (limits != NULL) {
        struct http_server_limits *own = &server->limits;
        own->connections = limits->connections > 0 ? limits->connections : own->connections;
        own->per_address = limits->per_address > 0 ? limits->per_address : own->per_address;
        own->head = limits->head > 0 ? limits->head : own->head;
        own->body = limits->body > 0 ? limits->body : own->body;
        own->request_us = limits->request_us > 0 ? limits->request_us : own->request_us;
        own->idle_us = limits->idle_us > 0 ? limits->idle_us : own->idle_us;
    }
    *ret_server = server;
    return 0;
}

static void connection_free(struct http_exchange *connection)
{
    struct http_server *server = connection->server;
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    server->count--;
    loop_io_del(connection->io);
    loop_timer_del(connection->timer);
    close(connection->fd);
    buffer_done(&connection->in);
    buffer_done(&connection->out);
    free(connection->text);
    free(connection);
}

/* The peer is gone: tell the handler if it still has the exchange. */
static void connection_lost(struct http_exchange *connection)
{
    if (connection->state == HANDLED && connection->on_gone != NULL)
        connection->on_gone(connection, connection->gone_data);
    connection_free(connection);
}

static void next_request(struct http_exchange *connection)
{
    connection->state = READING;
    connection->started = connection->in.len > 0;
    connection->on_gone = NULL;
    free(connection->text);
    connection->text = NULL;
    buffer_clear(&connection->out);
    connection->sent = 0;
    loop_timer_set(connection->timer,
                   loop_clock() + (connection->started ? connection->server->limits.request_us
                                                       : connection->server->limits.idle_us));
    /* a request that came behind the last one waits in the buffer: it has its turn when the loop comes round */
    loop_io_set(connection->io, connection->started ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void write_more(struct http_exchange *connection)
{
    while (connection->sent < connection->out.len) {
        ssize_t n = send(connection->fd, connection->out.data + connection->sent,
                         connection->out.len - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            loop_io_set(connection->io, EPOLLOUT);
            return;
        }
        if (n < 0) {
            connection_free(connection);
            return;
        }
        connection->sent += (size_t)n;
    }
    if (connection->close)
        connection_free(connection);
    else
        next_request(connection);
}

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {400, "Bad Request"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

/* consume: bytes of the request, dropped once the answer (which may quote them) is built. */
static void answer(struct http_exchange *connection, int status, const char *content_type,
                   const void *body, size_t len, size_t consume)
{
    const char *reason = "Unknown";
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            reason = reasons[i].reason;
    }
    connection->state = WRITING;
    connection->sent = 0;
    buffer_clear(&connection->out);
    int r = buffer_printf(
        &connection->out, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nContent-Type: %s\r\n%s\r\n",
        status, reason, len, content_type, connection->close ? "Connection: close\r\n" : "");
    if (r >= 0 && len > 0)
        r = buffer_append(&connection->out, body, len);
    buffer_consume(&connection->in, consume);
    if (r < 0) {
        connection_free(connection);
        return;
    }
    loop_timer_set(connection->timer, loop_clock() + connection->server->limits.request_us);
    write_more(connection);
}

static void refuse(struct http_exchange *connection, int status)
{
    connection->close = true;
    answer(connection, status, "text/plain", "", 0, 0);
}

/* Hands the request over when it is complete. */
static void try_request(struct http_exchange *connection)
{
    const struct http_server_limits *limits = &connection->server->limits;
    if (connection->in.len == 0)
        return;
    int r =
        http_head_parse((const char *)connection->in.data, connection->in.len, &connection->head);
    if (r < 0) {
        refuse(connection, -r);
        return;
    }
    if ((r == 0 && connection->in.len > limits->head) ||
        (r == 1 && connection->head.size > limits->head)) {
        refuse(connection, 431);
        return;
    }
    if (r == 0)
        return;
    if (connection->head.content_length > limits->body) {
        refuse(connection, 413);
        return;
    }
    size_t whole = connection->head.size + (size_t)connection->head.content_length;
    if (connection->in.len < whole)
        return;

    const struct http_head *head = &connection->head;
    connection->text = malloc(head->method_len + head->path_len + 2);
    if (connection->text == NULL) {
        refuse(connection, 503);
        return;
    }
    memcpy(connection->text, head->method, head->method_len);
    connection->text[head->method_len] = '\0';
    char *path = connection->text + head->method_len + 1;
    memcpy(path, head->path, head->path_len);
    path[head->path_len] = '\0';
    connection->path = path;
    connection->close = !head->keep_alive;
    connection->state = HANDLED;
    loop_timer_stop(connection->timer);
    loop_io_set(connection->io, EPOLLRDHUP);
    connection->server->handler(connection, connection->server->data);
}

static void read_more(struct http_exchange *connection)
{
    char data[16384];
    ssize_t n = recv(connection->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n <= 0 || buffer_append(&connection->in, data, (size_t)n) < 0) {
        connection_lost(connection);
        return;
    }
    if (!connection->started) {
        connection->started = true;
        loop_timer_set(connection->timer, loop_clock() + connection->server->limits.request_us);
    }
    try_request(connection);
}

static void on_connection(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    struct http_exchange *connection = data;
    if (connection->state == READING && (events & EPOLLOUT) != 0) {
        loop_io_set(connection->io, EPOLLIN);
        try_request(connection);
    } else if (connection->state == READING)
        read_more(connection);
    else if (connection->state == WRITING && (events & (EPOLLERR | EPOLLHUP)) == 0)
        write_more(connection);
    else if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0)
        connection_lost(connection);
}

static void on_timeout(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct http_exchange *connection = data;
    if (connection->state == READING && connection->started)
        refuse(connection, 408);
    else
        connection_lost(connection);
}

static void peer_name(const struct sockaddr_storage *address, socklen_t len, char *ret_name)
{
    if (getnameinfo((const struct sockaddr *)address, len, ret_name, INET6_ADDRSTRLEN, NULL, 0,
                    NI_NUMERICHOST) != 0)
        ret_name[0] = '\0';
}

static bool too_many(struct http_server *server, const char *peer)
{
    unsigned same = 0;
    for (struct http_exchange *c = server->connections; c != NULL; c = c->next)
        same += strcmp(c->peer, peer) == 0;
    return server->count >= server->limits.connections || same >= server->limits.per_address;
}

static void add_connection(struct http_server *server, int fd, const char *peer)
{
    int one = 1;
    struct http_exchange *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->server = server;
    connection->fd = fd;
    memcpy(connection->peer, peer, sizeof(connection->peer));
    buffer_init(&connection->in, server->limits.head + server->limits.body + 32768);
    buffer_init(&connection->out, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (loop_timer_add(server->loop, on_timeout, connection, &connection->timer) < 0 ||
        loop_io_add(server->loop, fd, EPOLLIN, on_connection, connection, &connection->io) < 0) {
        loop_timer_del(connection->timer);
        close(fd);
        free(connection);
        return;
    }
    connection->next = server->connections;
    if (server->connections != NULL)
        server->connections->previous = connection;
    server->connections = connection;
    server->count++;
    loop_timer_set(connection->timer, loop_clock() + server->limits.idle_us);
}

static void on_accept(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)events;
    struct http_server *server = data;
    for (int i = 0; i < 16; i++) { /* not more at once: others want their turn */
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        char peer[INET6_ADDRSTRLEN];
        int accepted = accept4(fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                loop_io_set(io, 0); /* else the waiting peer would spin the loop */
                loop_timer_in(server->resume, 1000000);
            }
            return;
        }
        peer_name(&address, len, peer);
        if (too_many(server, peer))
            close(accepted);
        else
            add_connection(server, accepted, peer);
    }
}

static void on_resume(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct http_server *server = data;
    for (size_t i = 0; i < server->listener_count; i++)
        loop_io_set(server->listeners[i].io, EPOLLIN);
}

int http_server_listen(struct http_server *server, const char *host, uint16_t port,
                       uint16_t *ret_port, struct error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[6];
    int one = 1;
    if (server->listener_count == LISTENERS_MAX)
        return error_set(err, ENOSPC, "http.listen", "", "too many listeners");
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host != NULL ? host : "::", service, &hints, &found) != 0)
        return error_set(err, EINVAL, "http.listen", "give a numeric address",
                         "%s is no address to listen on", host != NULL ? host : "::");
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    int r = fd < 0 ? -errno : 0;
    if (r == 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, 64) < 0 ||
            getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
            r = -errno;
    }
    freeaddrinfo(found);
    struct loop_io *io = NULL;
    if (r == 0 && server->resume == NULL)
        r = loop_timer_add(server->loop, on_resume, server, &server->resume);
    if (r == 0)
        r = loop_io_add(server->loop, fd, EPOLLIN, on_accept, server, &io);
    if (r < 0) {
        if (fd >= 0)
            close(fd);
        return error_set(err, -r, "http.listen", "is another program using the port?",
                         "cannot listen on %s port %u: %s", host != NULL ? host : "::", port,
                         strerror(-r));
    }
    server->listeners[server->listener_count].fd = fd;
    server->listeners[server->listener_count++].io = io;
    /* r is 0 here, so getsockname() filled it: -errno is never 0, which the analyzer does not know. */
    if (ret_port != NULL)
        // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage)
        *ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                      : ((struct sockaddr_in *)&bound)->sin_port);
    return 0;
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    for (struct http_exchange *c = server->connections, *next; c != NULL; c = next) {
        next = c->next;
        connection_free(c);
    }
    for (size_t i = 0; i < server->listener_count; i++) {
        loop_io_del(server->listeners[i].io);
        close(server->listeners[i].fd);
    }
    loop_timer_del(server->resume);
    free(server);
}

const char *http_exchange_method(const struct http_exchange *exchange)
{
    return exchange->text;
}

const char *http_exchange_path(const struct http_exchange *exchange)
{
    return exchange->path;
}

const char *http_exchange_header(const struct http_exchange *exchange, const char *name)
{
    /* values point into the buffer and are ended by CR: the first caller makes it a NUL */
    for (size_t i = 0; i < exchange->head.header_count; i++) {
        const struct http_header *header = &exchange->head.headers[i];
        if (header->name_len == strlen(name) &&
            strncasecmp(header->name, name, header->name_len) == 0) {
            size_t end =
                (size_t)(header->value - (const char *)exchange->in.data) + header->value_len;
            exchange->in.data[end] = '\0';
            return header->value;
        }
    }
    return NULL;
}

const uint8_t *http_exchange_body(const struct http_exchange *exchange, size_t *ret_len)
{
    *ret_len = (size_t)exchange->head.content_length;
    return exchange->in.data + exchange->head.size;
}

const char *http_exchange_peer(const struct http_exchange *exchange)
{
    return exchange->peer;
}

void http_exchange_set_gone(struct http_exchange *exchange,
                            void (*on_gone)(struct http_exchange *, void *), void *data)
{
    exchange->on_gone = on_gone;
    exchange->gone_data = data;
}

void http_exchange_reply(struct http_exchange *exchange, int status, const char *content_type,
                         const void *body, size_t len)
{
    answer(exchange, status, content_type, body, len,
           exchange->head.size + (size_t)exchange->head.content_length);
}
