/*
 * server.c - HTTP/1.1 server.
 *
 * A connection is READING (head, then body, into one buffer), HANDLED (the handler has the exchange), WRITING (the answer),
 * STREAMING (the handler writes on) or UPGRADED (bytes both ways). Nothing is read while a request is handled or answered, so a peer
 * that sends faster than it reads stops itself.
 *
 * What a handler calls never calls back and never frees: sending, and with it learning that the peer is lost, happens in the
 * callbacks of descriptor and timer (http_exchange_reply() and _finish() may free, and are the handler's last words).
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
#include "lib/http/silence.h"
#include "lib/tls/transport.h"

#define LISTENERS_MAX 4

enum state { READING, HANDLED, WRITING, STREAMING, UPGRADED };

struct http_exchange {
    struct http_server *server;
    struct http_exchange *next, *previous;
    struct transport *transport;
    struct loop_io *io;
    struct loop_timer *timer;
    uint64_t
        stalls; /* STREAMING, UPGRADED: until then the peer must take something of what waits; 0: nothing waits */
    struct silence silence;
    enum state state;
    char peer[INET6_ADDRSTRLEN];
    char network[INET6_ADDRSTRLEN];
    struct buffer in;
    struct buffer out;
    size_t sent;
    bool close;       /* after the answer */
    bool started;     /* the first byte of a request is there */
    bool chunked;     /* STREAMING to a peer that knows chunks */
    bool held;        /* UPGRADED: the owner takes nothing now */
    bool finished;    /* STREAMING, UPGRADED: closes when all is sent; nobody is called any more */
    unsigned blocked; /* enum transport_wants of a write that must be tried again; 0: none */
    unsigned read_with;     /* the same of a read: TLS may have to write first */
    struct http_head *head; /* from a request's last byte to its answer; NULL: none */
    char *text;             /* copies of method and path, each ended by NUL */
    char *headers;          /* further ones of the answer; NULL: none */
    const char *path;
    void (*on_gone)(struct http_exchange *, void *);
    void *gone_data;
    http_drained_fn *on_drained;
    http_bytes_fn *on_data;
    void *stream_data;
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
    mbedtls_ssl_context *(*session_new)(void *);
    void *session_data;
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
        .stall_us = 60000000,
        .silence_us = 60000000,
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
        own->requesting = limits->requesting;
        own->requesting_per_address = limits->requesting_per_address;
        own->upgrades = limits->upgrades;
        own->stall_us = limits->stall_us > 0 ? limits->stall_us : own->stall_us;
        own->silence_us = limits->silence_us > 0 ? limits->silence_us : own->silence_us;
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
    transport_free(connection->transport);
    buffer_done(&connection->in);
    buffer_done(&connection->out);
    free(connection->head);
    free(connection->text);
    free(connection->headers);
    free(connection);
}

/* The peer is gone: tell the handler if it still has the exchange. */
static void connection_lost(struct http_exchange *connection)
{
    bool owned = connection->state == HANDLED ||
                 ((connection->state == STREAMING || connection->state == UPGRADED) &&
                  !connection->finished);
    if (owned && connection->on_gone != NULL)
        connection->on_gone(connection, connection->gone_data);
    connection_free(connection);
}

/* Of a stream, or another protocol: what waits must be taken, and what was sent must be acknowledged. */
static void watch_peer(struct http_exchange *connection)
{
    uint64_t end = connection->stalls, since = connection->silence.since;
    if (since != 0 && (end == 0 || since + connection->server->limits.silence_us < end))
        end = since + connection->server->limits.silence_us;
    if (end != 0)
        loop_timer_set(connection->timer, end);
    else
        loop_timer_stop(connection->timer);
}

static void watch_stall(struct http_exchange *connection)
{
    connection->stalls = loop_clock() + connection->server->limits.stall_us;
    watch_peer(connection);
}

/* What the descriptor is to wake us for. */
static void connection_update(struct http_exchange *connection)
{
    bool reads = connection->state == READING ||
                 (connection->state == UPGRADED && !connection->held && !connection->finished);
    bool early = connection->in.len > 0 && (connection->started || connection->state == UPGRADED);
    /* a half-closed peer may still take its answer */
    uint32_t events = connection->state == WRITING ? 0 : EPOLLRDHUP;
    if (reads)
        events |= connection->read_with == TRANSPORT_WRITE ? EPOLLOUT : EPOLLIN;
    /* a request or bytes that came behind the last ones wait already: they have their turn when the loop comes round */
    if (reads && connection->read_with == 0 &&
        (early || transport_pending(connection->transport) > 0))
        events |= EPOLLOUT;
    if (connection->sent < connection->out.len || connection->finished)
        events |= connection->blocked == TRANSPORT_READ ? EPOLLIN : EPOLLOUT;
    loop_io_set(connection->io, events);
}

static void next_request(struct http_exchange *connection)
{
    connection->state = READING;
    connection->started = connection->in.len > 0;
    connection->on_gone = NULL;
    connection->finished = false;
    connection->read_with = 0;
    free(connection->head);
    connection->head = NULL;
    free(connection->text);
    connection->text = NULL;
    free(connection->headers);
    connection->headers = NULL;
    buffer_done(&connection->out);
    connection->sent = 0;
    transport_rest(connection->transport);
    loop_timer_set(connection->timer,
                   loop_clock() + (connection->started ? connection->server->limits.request_us
                                                       : connection->server->limits.idle_us));
    connection_update(connection);
}

/* Sends what the peer takes. False: it is lost, and nothing was freed. */
static bool send_some(struct http_exchange *connection)
{
    size_t before = connection->sent;
    connection->blocked = 0;
    if (connection->sent < connection->out.len)
        silence_writes(&connection->silence, loop_clock());
    while (connection->sent < connection->out.len) {
        ssize_t n = transport_write(connection->transport, connection->out.data + connection->sent,
                                    connection->out.len - connection->sent);
        if (n == -EAGAIN) {
            connection->blocked = transport_wants(connection->transport);
            break;
        }
        if (n <= 0)
            return false;
        connection->sent += (size_t)n;
    }
    /* TLS must see the bytes of a write that it wants again at the same place: they are moved between writes only */
    if (connection->blocked == 0) {
        buffer_done(&connection->out);
        connection->sent = 0;
    }
    if (connection->state != WRITING && connection->sent != before && connection->blocked != 0)
        watch_stall(connection);
    return true;
}

/* The whole answer. May free. */
static void write_more(struct http_exchange *connection)
{
    bool lost = !send_some(connection), all = connection->sent == connection->out.len;

    if (lost || (all && connection->close))
        connection_free(connection);
    else if (all)
        next_request(connection);
    else
        connection_update(connection);
}

/* A stream's waiting bytes. May free. */
static void stream_more(struct http_exchange *connection)
{
    if (!send_some(connection)) {
        connection_lost(connection);
        return;
    }
    if (connection->sent < connection->out.len) {
        connection_update(connection);
        return;
    }
    connection->stalls = 0;
    watch_peer(connection);
    if (connection->finished && (connection->close || connection->state == UPGRADED)) {
        connection_free(connection);
    } else if (connection->finished) {
        next_request(connection);
    } else {
        transport_rest(connection->transport);
        connection_update(connection);
        if (connection->on_drained != NULL)
            connection->on_drained(connection, connection->stream_data);
    }
}

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {101, "Switching Protocols"},
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
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

static const char *reason_of(int status)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}

/* consume: bytes of the request, dropped once the answer (which may quote them) is built. */
static void answer(struct http_exchange *connection, int status, const char *content_type,
                   const void *body, size_t len, size_t consume)
{
    connection->state = WRITING;
    connection->sent = 0;
    buffer_clear(&connection->out);
    int r = buffer_printf(&connection->out,
                          "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nContent-Type: %s\r\n%s%s\r\n",
                          status, reason_of(status), len, content_type,
                          connection->headers != NULL ? connection->headers : "",
                          connection->close ? "Connection: close\r\n" : "");
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
    if (connection->head == NULL)
        connection->head = malloc(sizeof(*connection->head));
    if (connection->head == NULL) {
        refuse(connection, 503);
        return;
    }
    const struct http_head *head = connection->head;
    int r =
        http_head_parse((const char *)connection->in.data, connection->in.len, connection->head);
    if (r < 0) {
        refuse(connection, -r);
        return;
    }
    if ((r == 0 && connection->in.len > limits->head) || (r == 1 && head->size > limits->head)) {
        refuse(connection, 431);
        return;
    }
    if (r == 0)
        return;
    if (head->upgrade && !limits->upgrades) {
        refuse(connection, 501);
        return;
    }
    if (head->content_length > limits->body) {
        refuse(connection, 413);
        return;
    }
    size_t whole = head->size + (size_t)head->content_length;
    if (connection->in.len < whole)
        return;

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
    connection_update(connection);
    connection->server->handler(connection, connection->server->data);
}

static void read_more(struct http_exchange *connection)
{
    uint8_t data[16384];
    ssize_t n = transport_read(connection->transport, data, sizeof(data));
    connection->read_with = 0;
    if (n == -EAGAIN) {
        connection->read_with = transport_wants(connection->transport);
        connection_update(connection);
        return;
    }
    if (n <= 0) {
        connection_lost(connection);
        return;
    }
    if (connection->state == UPGRADED) {
        connection_update(connection);
        connection->on_data(connection, data, (size_t)n, connection->stream_data);
        return;
    }
    if (buffer_append(&connection->in, data, (size_t)n) < 0) {
        connection_lost(connection);
        return;
    }
    if (!connection->started) {
        connection->started = true;
        loop_timer_set(connection->timer, loop_clock() + connection->server->limits.request_us);
    }
    /* only what is more than this request makes the loop come round at once */
    loop_io_set(connection->io,
                transport_pending(connection->transport) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
    try_request(connection);
}

/* Bytes that belong to the new protocol came with the request for it. */
static bool give_early_bytes(struct http_exchange *connection)
{
    if (connection->in.len == 0)
        return false;
    size_t len;
    uint8_t *bytes = buffer_steal(&connection->in, &len);
    connection_update(connection);
    connection->on_data(connection, bytes, len, connection->stream_data);
    free(bytes);
    return true;
}

static void on_connection(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    struct http_exchange *connection = data;
    bool writes = connection->sent < connection->out.len || connection->finished;
    bool takes;
    switch (connection->state) {
    case READING:
        if (connection->started && (events & EPOLLOUT) != 0 && connection->read_with == 0 &&
            transport_pending(connection->transport) == 0) {
            loop_io_set(connection->io, EPOLLIN);
            try_request(connection);
        } else {
            read_more(connection);
        }
        break;
    case WRITING:
        if ((events & (EPOLLERR | EPOLLHUP)) != 0)
            connection_lost(connection);
        else
            write_more(connection);
        break;
    case HANDLED:
        if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0)
            connection_lost(connection);
        break;
    case STREAMING:
        if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0)
            connection_lost(connection);
        else if (writes)
            stream_more(connection);
        break;
    case UPGRADED:
        takes =
            writes && (events & (connection->blocked == TRANSPORT_READ ? EPOLLIN : EPOLLOUT)) != 0;
        /* While it is held only the end of the peer wakes us. */
        if ((events & (EPOLLERR | EPOLLHUP)) != 0 || (connection->finished && !writes) ||
            (connection->held && !takes))
            connection_lost(connection);
        else if (takes)
            stream_more(connection);
        else if (!give_early_bytes(connection))
            read_more(connection);
        break;
    }
}

static void on_stream_timeout(struct http_exchange *connection)
{
    uint64_t now = loop_clock();
    silence_ask(&connection->silence, now);
    bool silent = connection->silence.since != 0 &&
                  connection->silence.since + connection->server->limits.silence_us <= now;
    if (silent)
        silence_forget(&connection->silence);
    if (silent || (connection->stalls != 0 && connection->stalls <= now))
        connection_lost(connection);
    else
        watch_peer(connection);
}

static void on_timeout(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct http_exchange *connection = data;
    if (connection->state == READING && connection->started && connection->in.len > 0)
        refuse(connection, 408);
    else if (connection->state == STREAMING || connection->state == UPGRADED)
        on_stream_timeout(connection);
    else
        connection_lost(connection);
}

static void peer_name(const struct sockaddr_storage *address, socklen_t len, char *ret_name)
{
    if (getnameinfo((const struct sockaddr *)address, len, ret_name, INET6_ADDRSTRLEN, NULL, 0,
                    NI_NUMERICHOST) != 0)
        ret_name[0] = '\0';
}

/* Somebody who has a network of IPv6 has 2^64 addresses. */
static void network_name(const struct sockaddr_storage *address, const char *peer, char *ret_name)
{
    struct in6_addr network;
    if (address->ss_family != AF_INET6 ||
        IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)address)->sin6_addr)) {
        snprintf(ret_name, INET6_ADDRSTRLEN, "%s", peer);
        return;
    }
    network = ((const struct sockaddr_in6 *)address)->sin6_addr;
    memset(network.s6_addr + 8, 0, 8);
    if (inet_ntop(AF_INET6, &network, ret_name, INET6_ADDRSTRLEN) == NULL)
        ret_name[0] = '\0';
}

static bool too_many(struct http_server *server, const char *network)
{
    const struct http_server_limits *limits = &server->limits;
    unsigned same = 0, requesting = 0, requesting_same = 0;
    for (struct http_exchange *c = server->connections; c != NULL; c = c->next) {
        bool own = strcmp(c->network, network) == 0;
        bool at_request = c->state != STREAMING && c->state != UPGRADED;
        same += own;
        requesting += at_request;
        requesting_same += own && at_request;
    }
    return server->count >= limits->connections || same >= limits->per_address ||
           (limits->requesting > 0 && requesting >= limits->requesting) ||
           (limits->requesting_per_address > 0 &&
            requesting_same >= limits->requesting_per_address);
}

/* Takes the descriptor over, also when it fails. */
static int open_transport(struct http_server *server, int fd, struct transport **ret_transport)
{
    if (server->session_new == NULL)
        return transport_plain_new(fd, ret_transport);
    mbedtls_ssl_context *ssl = server->session_new(server->session_data);
    if (ssl == NULL) {
        close(fd);
        return -ENOMEM;
    }
    return transport_tls_new(ssl, fd, ret_transport);
}

static void add_connection(struct http_server *server, int fd, const char *peer,
                           const char *network)
{
    int one = 1;
    unsigned patience = (unsigned)(server->limits.silence_us / 1000);
    struct http_exchange *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    if (open_transport(server, fd, &connection->transport) < 0) {
        free(connection);
        return;
    }
    connection->server = server;
    connection->silence.fd = fd;
    connection->started = server->session_new != NULL; /* the handshake is part of the request */
    memcpy(connection->peer, peer, sizeof(connection->peer));
    memcpy(connection->network, network, sizeof(connection->network));
    buffer_init(&connection->in, server->limits.head + server->limits.body + 32768);
    buffer_init(&connection->out, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
    if (loop_timer_add(server->loop, on_timeout, connection, &connection->timer) < 0 ||
        loop_io_add(server->loop, fd, EPOLLIN, on_connection, connection, &connection->io) < 0) {
        loop_timer_del(connection->timer);
        transport_free(connection->transport);
        free(connection);
        return;
    }
    connection->next = server->connections;
    if (server->connections != NULL)
        server->connections->previous = connection;
    server->connections = connection;
    server->count++;
    loop_timer_set(connection->timer,
                   loop_clock() +
                       (connection->started ? server->limits.request_us : server->limits.idle_us));
}

static void on_accept(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)events;
    struct http_server *server = data;
    for (int i = 0; i < 16; i++) { /* not more at once: others want their turn */
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof(address);
        char peer[INET6_ADDRSTRLEN], network[INET6_ADDRSTRLEN];
        int accepted = accept4(fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                loop_io_set(io, 0); /* else the waiting peer would spin the loop */
                loop_timer_in(server->resume, 1000000);
            }
            return;
        }
        peer_name(&address, len, peer);
        network_name(&address, peer, network);
        if (too_many(server, network))
            close(accepted);
        else
            add_connection(server, accepted, peer, network);
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

void http_server_set_tls(struct http_server *server, mbedtls_ssl_context *(*session_new)(void *),
                         void *data)
{
    server->session_new = session_new;
    server->session_data = data;
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
    if (exchange->head == NULL)
        return NULL;
    /* values point into the buffer and are ended by CR: the first caller makes it a NUL */
    for (size_t i = 0; i < exchange->head->header_count; i++) {
        const struct http_header *header = &exchange->head->headers[i];
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
    *ret_len = (size_t)exchange->head->content_length;
    return exchange->in.data + exchange->head->size;
}

const char *http_exchange_peer(const struct http_exchange *exchange)
{
    return exchange->peer;
}

const char *http_exchange_peer_network(const struct http_exchange *exchange)
{
    return exchange->network;
}

void http_exchange_set_gone(struct http_exchange *exchange,
                            void (*on_gone)(struct http_exchange *, void *), void *data)
{
    exchange->on_gone = on_gone;
    exchange->gone_data = data;
}

void http_exchange_set_headers(struct http_exchange *exchange, const char *lines)
{
    free(exchange->headers);
    exchange->headers = strdup(lines);
}

void http_exchange_reply(struct http_exchange *exchange, int status, const char *content_type,
                         const void *body, size_t len)
{
    answer(exchange, status, content_type, body, len,
           exchange->head->size + (size_t)exchange->head->content_length);
}

/* ---- streams ---- */

/* The request is done with; its answer begins with this head. */
static void stream_begin(struct http_exchange *exchange, enum state state, const char *head,
                         http_drained_fn *on_drained, void *data)
{
    buffer_consume(&exchange->in, exchange->head->size + (size_t)exchange->head->content_length);
    if (exchange->in.len == 0)
        buffer_done(&exchange->in); /* streams are long, and many */
    free(exchange->head);
    exchange->head = NULL;
    exchange->state = state;
    exchange->on_drained = on_drained;
    exchange->stream_data = data;
    exchange->sent = 0;
    buffer_clear(&exchange->out);
    /* without memory for the head nothing is sent, and the peer is let go when its time is over */
    (void)buffer_append_str(&exchange->out, head);
    watch_stall(exchange);
    connection_update(exchange);
}

void http_exchange_stream(struct http_exchange *exchange, int status, const char *content_type,
                          http_drained_fn *on_drained, void *data)
{
    char head[512];
    exchange->chunked = exchange->head->minor >= 1;
    exchange->close = exchange->close || !exchange->chunked;
    snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n%s%s%s\r\n", status,
             reason_of(status), content_type,
             exchange->chunked ? "Transfer-Encoding: chunked\r\n" : "",
             exchange->headers != NULL ? exchange->headers : "",
             exchange->close ? "Connection: close\r\n" : "");
    stream_begin(exchange, STREAMING, head, on_drained, data);
}

void http_exchange_upgrade(struct http_exchange *exchange, const char *headers,
                           http_bytes_fn *on_data, http_drained_fn *on_drained, void *data)
{
    char head[512];
    snprintf(head, sizeof(head), "HTTP/1.1 101 %s\r\n%s\r\n", reason_of(101), headers);
    exchange->on_data = on_data;
    exchange->chunked = false;
    exchange->held = false;
    stream_begin(exchange, UPGRADED, head, on_drained, data);
}

size_t http_exchange_waiting(const struct http_exchange *exchange)
{
    return exchange->out.len - exchange->sent;
}

int http_exchange_write(struct http_exchange *exchange, const void *data, size_t len)
{
    if (http_exchange_waiting(exchange) > HTTP_STREAM_MAX)
        return -EAGAIN;
    if (len == 0)
        return 0;
    if (exchange->blocked == 0 && exchange->sent > 0) {
        buffer_consume(&exchange->out, exchange->sent);
        exchange->sent = 0;
    }
    size_t before = exchange->out.len;
    int r = exchange->chunked ? buffer_printf(&exchange->out, "%zx\r\n", len) : 0;
    if (r >= 0)
        r = buffer_append(&exchange->out, data, len);
    if (r >= 0 && exchange->chunked)
        r = buffer_append_str(&exchange->out, "\r\n");
    if (r < 0) {
        exchange->out.len = before;
        return -ENOMEM;
    }
    if (before == exchange->sent)
        watch_stall(exchange);
    connection_update(exchange);
    return 0;
}

void http_exchange_finish(struct http_exchange *exchange)
{
    if (exchange->state == STREAMING && exchange->chunked &&
        buffer_append_str(&exchange->out, "0\r\n\r\n") < 0)
        exchange->close = true; /* the peer sees that the end is missing */
    exchange->finished = true;
    exchange->on_gone = NULL;
    watch_stall(exchange);
    connection_update(exchange);
}

void http_exchange_abort(struct http_exchange *exchange)
{
    exchange->on_gone = NULL;
    connection_free(exchange);
}

void http_exchange_hold(struct http_exchange *exchange, bool hold)
{
    exchange->held = hold;
    connection_update(exchange);
}
