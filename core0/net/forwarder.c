/*
 * forwarder.c - see forwarder.h.
 *
 * A query is one question on its way: from a client (a datagram, or a connection) to a server and back. A listener is
 * one network's four sockets.
 */
#include "forwarder.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns.h"
#include "lib/log.h"
#include "names.h"

#define QUERIES_MAX 512            /* in flight, of the node */
#define QUERIES_NETWORK_MAX 128    /* in flight, of one network: a neighbour still gets answers */
#define TRY_US ((uint64_t)2000000) /* until the next server is asked */
#define TRIES_MAX 3
#define CONNECTION_US ((uint64_t)15000000) /* a client's connection, whole life */
#define SERVERS_MAX 3
#define BATCH 64 /* datagrams read before other sources have their turn */
#define DNS_PORT 53

enum { UDP4, UDP6, TCP4, TCP6, SOCKETS };

struct listener {
    struct forwarder *forwarder;
    struct listener *next;
    uint64_t reservation;
    char network[STATE_SERVICE_MAX + 1];
    struct address gateway4, gateway6;
    unsigned index; /* of the bridge: one made anew under the same name is another */
    int fd[SOCKETS];
    struct loop_io *io[SOCKETS];
    unsigned queries;
};

struct query {
    struct listener *listener;
    struct query *next;
    bool tcp;
    int client; /* tcp: the connection; udp: the listener's socket (not ours) */
    struct loop_io *client_io;
    struct sockaddr_storage peer;
    socklen_t peer_len;
    struct loop_timer *timer;
    uint64_t deadline;
    int server;
    struct loop_io *server_io;
    unsigned tries;
    uint8_t client_id[2];
    struct dns_question question;
    bool asked;       /* the whole question is here */
    uint8_t *message; /* tcp: with two bytes of length in front */
    size_t len, sent;
    uint8_t *answer; /* the same */
    size_t answer_len, answer_sent;
};

struct forwarder {
    struct loop *loop;
    struct state *state;
    const struct links *links;
    struct listener *listeners;
    struct query *queries;
    unsigned count;
};

static void query_free(struct query *query)
{
    struct forwarder *forwarder = query->listener->forwarder;

    for (struct query **at = &forwarder->queries; *at != NULL; at = &(*at)->next) {
        if (*at == query) {
            *at = query->next;
            forwarder->count--;
            query->listener->queries--;
            break;
        }
    }
    loop_io_del(query->client_io);
    loop_io_del(query->server_io);
    loop_timer_del(query->timer);
    if (query->tcp && query->client >= 0)
        close(query->client);
    if (query->server >= 0)
        close(query->server);
    free(query->message);
    free(query->answer);
    free(query);
}

static struct query *query_new(struct listener *listener, bool tcp, loop_timer_fn *on_time)
{
    struct forwarder *forwarder = listener->forwarder;
    struct query *query;

    if (forwarder->count >= QUERIES_MAX || listener->queries >= QUERIES_NETWORK_MAX)
        return NULL;
    query = calloc(1, sizeof(*query));
    if (query == NULL)
        return NULL;
    query->listener = listener;
    query->tcp = tcp;
    query->client = query->server = -1;
    query->next = forwarder->queries;
    forwarder->queries = query;
    forwarder->count++;
    listener->queries++;
    query->deadline = loop_clock() + CONNECTION_US;
    if (loop_timer_add(forwarder->loop, on_time, query, &query->timer) < 0) {
        query_free(query);
        return NULL;
    }
    return query;
}

/* ---- answering the client ---- */

static void flush_answer(struct query *query)
{
    while (query->answer_sent < query->answer_len) {
        ssize_t n = send(query->client, query->answer + query->answer_sent,
                         query->answer_len - query->answer_sent, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            (void)loop_io_set(query->client_io, EPOLLOUT);
            return;
        }
        if (n <= 0)
            break;
        query->answer_sent += (size_t)n;
    }
    /* One question a connection: a client that has more opens another. */
    query_free(query);
}

/* Sends the answer (without the length in front) with the client's number, and ends the query. */
static void finish(struct query *query, const uint8_t *answer, size_t len)
{
    loop_io_del(query->server_io);
    query->server_io = NULL;
    if (query->server >= 0)
        close(query->server);
    query->server = -1;
    if (!query->tcp) {
        uint8_t copy[DNS_UDP_MAX];

        if (len >= DNS_HEADER && len <= sizeof(copy)) {
            memcpy(copy, answer, len);
            memcpy(copy, query->client_id, sizeof(query->client_id));
            (void)sendto(query->client, copy, len, MSG_DONTWAIT, (struct sockaddr *)&query->peer,
                         query->peer_len);
        }
        query_free(query);
        return;
    }
    free(query->answer);
    query->answer = malloc(len + 2);
    if (query->answer == NULL || len > UINT16_MAX) {
        query_free(query);
        return;
    }
    query->answer[0] = (uint8_t)(len >> 8);
    query->answer[1] = (uint8_t)len;
    memcpy(query->answer + 2, answer, len);
    memcpy(query->answer + 2, query->client_id, sizeof(query->client_id));
    query->answer_len = len + 2;
    query->answer_sent = 0;
    flush_answer(query);
}

static const uint8_t *question_bytes(const struct query *query)
{
    return query->message + (query->tcp ? 2 : 0);
}

static size_t question_len(const struct query *query)
{
    return query->len - (query->tcp ? 2 : 0);
}

static void finish_code(struct query *query, uint8_t rcode)
{
    uint8_t answer[DNS_HEADER + DNS_NAME_MAX + 8];
    size_t len = dns_write_answer(question_bytes(query), &query->question, rcode, NULL, 0, answer,
                                  sizeof(answer));

    finish(query, answer, len);
}

/* ---- asking a server ---- */

static void ask_next(struct query *query);

static void on_server_udp(struct query *query)
{
    uint8_t answer[DNS_UDP_MAX];
    ssize_t n = recv(query->server, answer, sizeof(answer), MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            ask_next(query); /* for example: the server's port is closed */
        return;
    }
    /* An answer that is not ours leaves the question open: it may be somebody's guess. */
    if ((size_t)n <= sizeof(answer) &&
        dns_is_answer(answer, (size_t)n, question_bytes(query), query->question.end))
        finish(query, answer, (size_t)n);
}

static void on_server_tcp(struct query *query, uint32_t events)
{
    size_t wanted;
    ssize_t n;

    if ((events & EPOLLOUT) != 0 && query->sent < query->len) {
        n = send(query->server, query->message + query->sent, query->len - query->sent,
                 MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            ask_next(query);
            return;
        }
        query->sent += n > 0 ? (size_t)n : 0;
        if (query->sent == query->len)
            (void)loop_io_set(query->server_io, EPOLLIN);
        return;
    }
    if (query->answer == NULL && (query->answer = calloc(1, 2 + UINT16_MAX)) == NULL) {
        query_free(query);
        return;
    }
    wanted = query->answer_len < 2 ? 2 : 2 + ((size_t)query->answer[0] << 8 | query->answer[1]);
    n = recv(query->server, query->answer + query->answer_len, wanted - query->answer_len,
             MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        ask_next(query);
        return;
    }
    query->answer_len += (size_t)n;
    if (query->answer_len < 2)
        return;
    wanted = 2 + ((size_t)query->answer[0] << 8 | query->answer[1]);
    if (query->answer_len < wanted)
        return;
    if (dns_is_answer(query->answer + 2, wanted - 2, question_bytes(query), query->question.end)) {
        uint8_t *answer = query->answer;

        query->answer = NULL;
        finish(query, answer + 2, wanted - 2);
        free(answer);
        return;
    }
    ask_next(query);
}

static void on_server(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct query *query = data;

    (void)io, (void)fd;
    if (query->tcp)
        on_server_tcp(query, events);
    else
        on_server_udp(query);
}

static int connect_server(struct query *query, const struct address *server)
{
    struct sockaddr_storage to;
    socklen_t len = address_socket(server, DNS_PORT, &to);
    uint32_t events = query->tcp ? EPOLLOUT : EPOLLIN;

    query->server = socket(
        server->family, (query->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (query->server < 0 ||
        (connect(query->server, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS))
        return -errno;
    if (!query->tcp && send(query->server, query->message, query->len, MSG_NOSIGNAL) < 0)
        return -errno;
    return loop_io_add(query->listener->forwarder->loop, query->server, events, on_server, query,
                       &query->server_io);
}

static void ask_next(struct query *query)
{
    struct address servers[SERVERS_MAX];
    size_t count = links_dns(query->listener->forwarder->links, servers, SERVERS_MAX);
    uint8_t *message = query->message + (query->tcp ? 2 : 0);

    for (;;) {
        loop_io_del(query->server_io);
        query->server_io = NULL;
        if (query->server >= 0)
            close(query->server);
        query->server = -1;
        query->sent = query->answer_len = 0;
        if (count == 0 || query->tries >= TRIES_MAX) {
            finish_code(query, DNS_RCODE_FAILURE);
            return;
        }
        /* Another number each time: an answer that was guessed for one try does not fit the next. */
        (void)getrandom(message, 2, 0);
        if (connect_server(query, &servers[query->tries++ % count]) == 0) {
            loop_timer_in(query->timer, TRY_US);
            return;
        }
    }
}

static void on_time(struct loop_timer *timer, void *data)
{
    struct query *query = data;

    (void)timer;
    if (!query->asked || query->answer_len > query->answer_sent ||
        (query->tcp && loop_clock() > query->deadline))
        query_free(query);
    else
        ask_next(query);
}

/* The question is whole: answer it, or pass it on. */
static void take_question(struct query *query)
{
    struct listener *listener = query->listener;
    struct state *state = listener->forwarder->state;
    struct network *network = state_network(state, listener->reservation, listener->network);
    struct address found[NAMES_ADDRESSES_MAX], source = {0};
    uint8_t answer[DNS_UDP_MAX];
    size_t count = 0;

    query->asked = true;
    if (network == NULL ||
        dns_read_question(question_bytes(query), question_len(query), &query->question) < 0) {
        query_free(query);
        return;
    }
    memcpy(query->client_id, question_bytes(query), sizeof(query->client_id));
    if (query->peer.ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const void *)&query->peer;

        address_set(&source, AF_INET, &in4->sin_addr, 32);
    } else if (query->peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&query->peer;

        address_set(&source, AF_INET6, &in6->sin6_addr, 128);
    }
    switch (names_look_up(state, network, &source, &query->question, found, NAMES_ADDRESSES_MAX,
                          &count)) {
    case NAMES_HERE:
        finish(query, answer,
               dns_write_answer(question_bytes(query), &query->question, DNS_RCODE_OK, found, count,
                                answer, query->tcp ? sizeof(answer) : 512));
        break;
    case NAMES_NOBODY:
        finish_code(query, DNS_RCODE_NO_NAME);
        break;
    case NAMES_FORWARD:
        ask_next(query);
        break;
    }
}

/* ---- clients ---- */

static void on_datagram(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct listener *listener = data;

    (void)io, (void)events;
    for (int i = 0; i < BATCH; i++) {
        uint8_t message[DNS_UDP_MAX];
        struct sockaddr_storage peer = {0};
        socklen_t peer_len = sizeof(peer);
        ssize_t n = recvfrom(fd, message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC,
                             (struct sockaddr *)&peer, &peer_len);
        struct query *query;

        if (n < 0)
            return;
        if ((size_t)n < DNS_HEADER || (size_t)n > sizeof(message))
            continue;
        query = query_new(listener, false, on_time);
        if (query == NULL)
            continue;
        query->client = fd;
        query->peer = peer;
        query->peer_len = peer_len;
        query->message = malloc((size_t)n);
        if (query->message == NULL) {
            query_free(query);
            continue;
        }
        memcpy(query->message, message, (size_t)n);
        query->len = (size_t)n;
        take_question(query);
    }
}

static void on_client(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct query *query = data;
    size_t wanted = query->len < 2 ? 2 : 2 + ((size_t)query->message[0] << 8 | query->message[1]);
    ssize_t n;

    (void)io, (void)events;
    if (query->asked) {
        if (query->answer_len > query->answer_sent)
            flush_answer(query);
        else if ((events & (EPOLLHUP | EPOLLERR)) != 0)
            query_free(query);
        return;
    }
    n = recv(fd, query->message + query->len, wanted - query->len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        query_free(query);
        return;
    }
    query->len += (size_t)n;
    if (query->len < 2)
        return;
    wanted = 2 + ((size_t)query->message[0] << 8 | query->message[1]);
    if (wanted < 2 + DNS_HEADER) {
        query_free(query);
    } else if (query->len == wanted) {
        (void)loop_io_set(query->client_io, 0);
        take_question(query);
    }
}

static void on_connection(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct listener *listener = data;
    struct sockaddr_storage peer = {0};
    socklen_t peer_len = sizeof(peer);
    int client = accept4(fd, (struct sockaddr *)&peer, &peer_len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct query *query;

    (void)io, (void)events;
    if (client < 0)
        return;
    query = query_new(listener, true, on_time);
    if (query == NULL) {
        close(client);
        return;
    }
    query->client = client;
    query->peer = peer;
    query->peer_len = peer_len;
    query->message = calloc(1, 2 + UINT16_MAX);
    if (query->message == NULL || loop_io_add(listener->forwarder->loop, client, EPOLLIN, on_client,
                                              query, &query->client_io) < 0) {
        query_free(query);
        return;
    }
    loop_timer_in(query->timer, CONNECTION_US);
}

/* ---- listeners ---- */

static void listener_free(struct listener *listener)
{
    struct forwarder *forwarder = listener->forwarder;
    struct query *query = forwarder->queries;

    while (query != NULL) {
        struct query *next = query->next;

        if (query->listener == listener)
            query_free(query);
        query = next;
    }
    for (int i = 0; i < SOCKETS; i++) {
        loop_io_del(listener->io[i]);
        if (listener->fd[i] >= 0)
            close(listener->fd[i]);
    }
    free(listener);
}

static int listen_one(struct listener *listener, int which, const char *bridge)
{
    bool v4 = which == UDP4 || which == TCP4, tcp = which == TCP4 || which == TCP6;
    struct sockaddr_storage address;
    socklen_t len =
        address_socket(v4 ? &listener->gateway4 : &listener->gateway6, DNS_PORT, &address);
    int on = 1;
    int fd = socket(v4 ? AF_INET : AF_INET6,
                    (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    listener->fd[which] = fd;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, bridge, (socklen_t)strlen(bridge)) < 0 ||
        (!v4 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
        bind(fd, (struct sockaddr *)&address, len) < 0 || (tcp && listen(fd, 32) < 0))
        return -errno;
    return loop_io_add(listener->forwarder->loop, fd, EPOLLIN, tcp ? on_connection : on_datagram,
                       listener, &listener->io[which]);
}

static void listener_new(struct forwarder *forwarder, const struct network *network, unsigned index)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    int r = 0;

    if (listener == NULL)
        return;
    listener->forwarder = forwarder;
    listener->reservation = network->reservation;
    strcpy(listener->network, network->name);
    listener->gateway4 = network->gateway4;
    listener->gateway6 = network->gateway6;
    listener->index = index;
    for (int i = 0; i < SOCKETS; i++)
        listener->fd[i] = -1;
    for (int i = 0; i < SOCKETS && r == 0; i++)
        r = listen_one(listener, i, network->bridge);
    if (r < 0) {
        log_warn("network %s of reservation %llu has no names: %s", network->name,
                 (unsigned long long)network->reservation, strerror(-r));
        listener_free(listener);
        return;
    }
    listener->next = forwarder->listeners;
    forwarder->listeners = listener;
}

static bool is_current(const struct forwarder *forwarder, const struct listener *listener)
{
    const struct network *network =
        state_network(forwarder->state, listener->reservation, listener->network);

    return network != NULL && address_equal(&network->gateway4, &listener->gateway4) &&
           if_nametoindex(network->bridge) == listener->index;
}

static bool is_served(const struct forwarder *forwarder, const struct network *network)
{
    for (const struct listener *l = forwarder->listeners; l != NULL; l = l->next)
        if (l->reservation == network->reservation && strcmp(l->network, network->name) == 0)
            return true;
    return false;
}

void forwarder_follow(struct forwarder *forwarder)
{
    struct listener **at = &forwarder->listeners;

    while (*at != NULL) {
        struct listener *listener = *at;

        if (is_current(forwarder, listener)) {
            at = &listener->next;
            continue;
        }
        *at = listener->next;
        listener_free(listener);
    }
    for (size_t i = 0; i < forwarder->state->network_count; i++) {
        const struct network *network = &forwarder->state->networks[i];
        unsigned index = if_nametoindex(network->bridge);

        if (index != 0 && !is_served(forwarder, network))
            listener_new(forwarder, network, index);
    }
}

int forwarder_new(struct loop *loop, struct state *state, const struct links *links,
                  struct forwarder **ret_forwarder)
{
    struct forwarder *forwarder = calloc(1, sizeof(*forwarder));

    if (forwarder == NULL)
        return -ENOMEM;
    forwarder->loop = loop;
    forwarder->state = state;
    forwarder->links = links;
    *ret_forwarder = forwarder;
    return 0;
}

void forwarder_free(struct forwarder *forwarder)
{
    if (forwarder == NULL)
        return;
    while (forwarder->listeners != NULL) {
        struct listener *listener = forwarder->listeners;

        forwarder->listeners = listener->next;
        listener_free(listener);
    }
    free(forwarder);
}
