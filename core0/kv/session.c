/*
 * session.c - see session.h: a session's life: read, execute, send, wait, end.
 */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "command.h"
#include "session_buffer.h"
#include "tls.h"

#define READS_PER_EVENT                                                                            \
    8 /* of a TLS session, which hides bytes from epoll; then the others have a turn */
#define TLS_HANDSHAKE 22 /* first byte of a client that speaks TLS */
#define REQUEST_BESIDE                                                                             \
    ((size_t)2 << 20) /* bytes of a request beside one value: MGET of 1,023 keys of 1 KiB */

static void session_event(struct loop_io *io, int fd, uint32_t events, void *data);

/* ---- lists ---- */

static void list_add(struct session *s, enum session_list list)
{
    struct session **head = &s->worker->lists[list];

    if (s->listed & 1u << list)
        return;
    s->listed |= 1u << list;
    s->nodes[list] = (struct session_node){.next = *head};
    if (*head != NULL)
        (*head)->nodes[list].previous = s;
    *head = s;
}

static void list_del(struct session *s, enum session_list list)
{
    struct session_node *node = &s->nodes[list];

    if (!(s->listed & 1u << list))
        return;
    s->listed &= ~(1u << list);
    if (node->previous != NULL)
        node->previous->nodes[list].next = node->next;
    else
        s->worker->lists[list] = node->next;
    if (node->next != NULL)
        node->next->nodes[list].previous = node->previous;
}

/* ---- begin and end ---- */

static void session_free(struct session *s)
{
    struct worker *worker = s->worker;

    if (s->listed & 1u << SESSION_STARVED)
        atomic_fetch_sub(&worker->server->memory.waiters, 1);
    for (int list = 0; list < SESSION_LISTS; list++)
        list_del(s, (enum session_list)list);
    command_abandon(s);
    session_enter(s, NULL, 0, false);
    loop_io_del(s->io);
    if (s->transport == NULL && s->fd >= 0)
        close(s->fd);
    transport_free(s->transport);
    session_in_free(s);
    session_out_free(s);
    atomic_fetch_sub(&worker->session_count, 1);
    atomic_fetch_sub(&worker->server->clients, 1);
    free(s);
}

void session_enter(struct session *s, struct namespace *ns, uint32_t id, bool writable)
{
    if (s->ns != NULL)
        store_namespace_put(s->ns);
    s->ns = ns;
    s->ns_id = id;
    s->writable = writable;
}

static void enter_default(struct session *s)
{
    struct store_info info;
    struct namespace *ns;

    if (store_namespace_get(s->worker->server->store, "default", 7, &ns) < 0)
        return; /* every command that wants one says so */
    store_namespace_info(ns, &info);
    session_enter(s, ns, info.id, s->admin);
}

/* Takes the descriptor over, also when it fails. */
static int open_transport(struct tls *tls, int fd, struct transport **ret_transport)
{
    mbedtls_ssl_context *ssl;

    if (tls == NULL)
        return transport_plain_new(fd, ret_transport);
    ssl = tls_session_new(tls, NULL);
    if (ssl == NULL) {
        close(fd);
        return -ENOMEM;
    }
    return transport_tls_new(ssl, fd, ret_transport);
}

/* A record of TLS begins with 22 (RFC 8446, 5.1), and no request of ours does. 0, -EAGAIN or what ends the session. */
static int choose_transport(struct session *s)
{
    uint8_t first;
    ssize_t n = recv(s->fd, &first, 1, MSG_PEEK);
    int fd = s->fd, r;

    if (n < 0)
        return errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
    if (n == 0)
        return -ECONNRESET;
    s->tls = first == TLS_HANDSHAKE;
    s->fd = -1;
    r = open_transport(s->tls ? s->either : NULL, fd, &s->transport);
    return r;
}

void session_adopt(struct worker *worker, int fd, struct tls *tls, bool either, bool local)
{
    struct session *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        close(fd);
        goto refused;
    }
    s->worker = worker;
    s->local = local;
    s->either = either ? tls : NULL;
    s->fd = s->either != NULL ? fd : -1;
    s->tls = tls != NULL && !either;
    s->admin = worker->server->options.password[0] == '\0';
    if (s->either == NULL && open_transport(tls, fd, &s->transport) < 0)
        goto fail;
    if (loop_io_add(worker->loop, fd, EPOLLIN, session_event, s, &s->io) < 0)
        goto fail;
    enter_default(s);
    list_add(s, SESSION_ALL);
    return;

fail:
    if (s->fd >= 0)
        close(s->fd);
    transport_free(s->transport);
    free(s);
refused:
    atomic_fetch_sub(&worker->session_count, 1);
    atomic_fetch_sub(&worker->server->clients, 1);
}

void session_free_all(struct worker *worker)
{
    while (worker->lists[SESSION_ALL] != NULL)
        session_free(worker->lists[SESSION_ALL]);
}

enum command_result session_denied(struct session *s, const char *text)
{
    atomic_fetch_add_explicit(&s->worker->counters.unauthorized, 1, memory_order_relaxed);
    reply_literal(s, text);
    return ++s->denials >= SESSION_DENIALS_MAX ? COMMAND_CLOSE : COMMAND_DONE;
}

/* ---- executing ---- */

static void session_starve(struct session *s)
{
    struct server *server = s->worker->server;

    s->block = SESSION_STARVING;
    if (s->starved_since == 0)
        s->starved_since = loop_now(s->worker->loop);
    list_add(s, SESSION_STARVED);
    atomic_fetch_add(&server->memory.waiters, 1);
    /* given back between the refusal and this line: nobody would wake us */
    if (server->memory.max - atomic_load(&server->memory.used) >= s->starved_for)
        session_wake_starved(s->worker);
}

void session_wake_starved(struct worker *worker)
{
    struct session *s;

    while ((s = worker->lists[SESSION_STARVED]) != NULL) {
        list_del(s, SESSION_STARVED);
        atomic_fetch_sub(&worker->server->memory.waiters, 1);
        s->block = SESSION_GOING;
        list_add(s, SESSION_READY);
    }
}

/* There was no memory for an answer: answers that wait are sent first, then memory is waited for. */
static void session_lacks(struct session *s)
{
    if (session_out_pending(s) > 0)
        s->block = SESSION_DRAINING;
    else
        session_starve(s);
}

static void session_result(struct session *s, enum command_result result)
{
    switch (result) {
    case COMMAND_DONE:
        break;
    case COMMAND_DRAIN:
        s->block = SESSION_DRAINING;
        break;
    case COMMAND_STEP:
        s->block = SESSION_STEPPING;
        s->seal = session_out_stream(s, s->mark) + 1;
        list_add(s, SESSION_READY);
        break;
    case COMMAND_ROOM:
        session_out_truncate(s, s->mark);
        session_lacks(s);
        break;
    case COMMAND_WAIT:
        s->block = SESSION_WAITS;
        list_add(s, SESSION_WAITING);
        session_wake_late(s->worker);
        break;
    case COMMAND_CLOSE:
        s->block = SESSION_CLOSING;
        break;
    }
}

static void session_malformed(struct session *s, int r)
{
    static const char *const texts[] = {
        [-RESP_ERROR_FORM] = "this is not RESP2",
        [-RESP_ERROR_ARGUMENTS] = "more than 1024 arguments",
        [-RESP_ERROR_ARGUMENT] = "an argument is longer than the largest value",
        [-RESP_ERROR_REQUEST] = "the request is too long",
        [-RESP_ERROR_QUOTES] = "the quotes of an inline request do not match",
    };

    reply_error(s, "kv.protocol", "Protocol error: %s", texts[-r]);
    s->block = SESSION_CLOSING;
}

/*
 * Tells the store the keys of the next requests, as long as they are of two arguments: GET and its like, for which there is a value to
 * fetch (a write is compared by the checksum in the index and needs none). The second argument is a key with nearly all of them, and
 * does no harm where it is none. Returns the bytes that were looked at.
 */
static size_t session_look_ahead(struct session *s, uint8_t *data, size_t len,
                                 const struct resp_limits *limits)
{
    struct resp_request *ahead = s->worker->ahead;
    struct store_key keys[STORE_EXPECT_MAX];
    unsigned count = 0;
    size_t done = 0;

    while (count < STORE_EXPECT_MAX && done + 2 < len && memcmp(data + done, "*2\r", 3) == 0) {
        resp_request_reset(ahead);
        if (resp_parse(data + done, len - done, limits, ahead) != 1)
            break;
        keys[count++] = (struct store_key){.key = data + done + ahead->argv[1].offset,
                                           .len = ahead->argv[1].len};
        done += ahead->position;
    }
    if (count > 1 && s->ns != NULL)
        store_expect(s->ns, keys, count);
    return done;
}

/*
 * Executes the requests in data. Returns the bytes that are done with. *ret_again: the request at the returned place was
 * called and must be called again; worker->request holds its arguments.
 */
static size_t session_execute(struct session *s, uint8_t *data, size_t len, bool *ret_again)
{
    const struct server_options *options = &s->worker->server->options;
    const struct resp_limits limits = {.argument = options->max_value,
                                       .request = options->max_value + REQUEST_BESIDE};
    struct resp_request *request = s->worker->request;
    size_t done = 0, ahead = 0;

    *ret_again = false;
    while (done < len && s->block == SESSION_GOING) {
        enum command_result result;
        int r;

        if ((s->seal == 0 && session_out_pending(s) > SESSION_OUT_SOFT) ||
            !session_out_room(s, SESSION_ROOM)) {
            session_lacks(s);
            break;
        }
        if (done >= ahead && s->need == 0)
            ahead = done + session_look_ahead(s, data + done, len - done, &limits);
        resp_request_reset(request);
        request->need = s->need;
        request->scanned = s->scanned;
        s->mark = session_out_open(s);
        r = resp_parse(data + done, len - done, &limits, request);
        if (r == 0) {
            s->need = request->need;
            s->scanned = request->scanned;
            break;
        }
        s->need = 0;
        s->scanned = 0;
        s->request_deadline = 0;
        s->starved_since = 0;
        if (r < 0) {
            session_malformed(s, r);
            return len;
        }
        result = request->argc > 0 ? command_run(s, data + done, request) : COMMAND_DONE;
        session_result(s, result);
        if (result != COMMAND_DONE && result != COMMAND_CLOSE) {
            *ret_again = true;
            break;
        }
        done += request->position;
    }
    return s->block == SESSION_CLOSING ? len : done;
}

/* Executes what lies in data (the worker's scratch or s->in itself) and keeps the rest in s->in. */
static int session_process(struct session *s, uint8_t *data, size_t len)
{
    bool again;
    size_t done = session_execute(s, data, len, &again);
    int r = 0;

    if (again && data[done] != '*')
        r = session_in_canonical(s, data + done, len - done, s->worker->request);
    else
        r = session_in_keep(s, data + done, len - done);
    if (session_out_pending(s) > 0 || s->block == SESSION_CLOSING)
        list_add(s, SESSION_READY);
    return r;
}

/* ---- reading ---- */

static void session_expect(struct session *s)
{
    uint64_t allowance =
        s->worker->server->options.request_us + (uint64_t)s->need * 1000000 / SESSION_RATE;

    if (s->in_len == 0 || s->block != SESSION_GOING)
        s->request_deadline = 0;
    else if (s->request_deadline == 0 || s->need > s->expected)
        s->request_deadline = loop_now(s->worker->loop) + allowance;
    s->expected = s->need;
}

/* Room for what the request at the head still wants. False: starves or is too long. */
static bool session_in_prepare(struct session *s)
{
    size_t want = s->need;

    if (s->in == NULL)
        return true; /* the scratch will do */
    if (want == 0) { /* no announcement, a long line or many arguments: double */
        size_t max = s->worker->server->options.max_value + REQUEST_BESIDE;

        want = s->in_len == s->in_capacity ? s->in_capacity * 2 : s->in_capacity;
        want = want < max ? want : max;
    }
    if (session_in_grow(s, want))
        return true;
    session_starve(s);
    return false;
}

/* 0 or a negative errno: the session is over. */
static int session_read(struct session *s)
{
    if (s->transport == NULL) {
        int chosen = choose_transport(s);

        if (chosen < 0)
            return chosen == -EAGAIN ? 0 : chosen;
    }
    for (int i = 0; i < (s->tls ? READS_PER_EVENT : 1); i++) {
        uint8_t *at;
        size_t space;
        ssize_t n;
        int r;

        if (s->block != SESSION_GOING || s->eof || !session_in_prepare(s))
            return 0;
        at = s->in != NULL ? s->in + s->in_len : s->worker->scratch;
        space = s->in != NULL ? s->in_capacity - s->in_len : SESSION_BLOCK;
        s->read_wants_write = false;
        n = transport_read(s->transport, at, space);
        if (n == -EAGAIN) {
            s->read_wants_write = transport_wants(s->transport) == TRANSPORT_WRITE;
            return 0;
        }
        if (n < 0)
            return (int)n;
        if (n == 0) {
            s->eof = true;
            list_add(s, SESSION_READY);
            return 0;
        }
        atomic_fetch_add_explicit(&s->worker->counters.received, (uint64_t)n, memory_order_relaxed);
        if (s->in != NULL) {
            s->in_len += (size_t)n;
            if (s->in_len < s->need)
                r = 0;
            else
                r = session_process(s, s->in, s->in_len);
        } else {
            r = session_process(s, at, (size_t)n);
        }
        if (r < 0)
            return r;
        session_expect(s);
    }
    /* TLS may hold more that epoll does not know of */
    if (s->tls && s->block == SESSION_GOING)
        list_add(s, SESSION_READY);
    return 0;
}

/* ---- sending ---- */

static int session_send(struct session *s)
{
    struct worker *worker = s->worker;
    uint64_t now = loop_now(worker->loop), credit = worker->server->options.request_us;
    size_t limit;

    session_out_release(s, worker->answered);
    if (s->hold_count > 0 && worker->failed)
        session_out_fail(s);
    limit = session_out_limit(s);
    s->want_write = false;
    s->write_wants_read = false;
    while (s->out_start < limit) {
        ssize_t n = transport_write(s->transport, s->out + s->out_start, limit - s->out_start);

        if (n == -EAGAIN) {
            s->write_wants_read = transport_wants(s->transport) == TRANSPORT_READ;
            s->want_write = !s->write_wants_read;
            if (s->out_deadline == 0)
                s->out_deadline = now + credit;
            break;
        }
        if (n < 0)
            return (int)n;
        s->out_start += (size_t)n;
        s->out_position += (uint64_t)n;
        atomic_fetch_add_explicit(&worker->counters.sent, (uint64_t)n, memory_order_relaxed);
        if (s->out_deadline != 0) { /* what is taken buys time, at SESSION_RATE */
            s->out_deadline += (uint64_t)n * 1000000 / SESSION_RATE;
            if (s->out_deadline > now + credit)
                s->out_deadline = now + credit;
        }
    }
    if (!s->want_write && !s->write_wants_read)
        s->out_deadline = 0;
    session_out_trim(s);
    return 0;
}

static int session_events(struct session *s)
{
    uint32_t events = 0;

    if ((s->block == SESSION_GOING && !s->eof && !s->read_wants_write) || s->write_wants_read)
        events |= EPOLLIN;
    if (s->want_write || s->read_wants_write)
        events |= EPOLLOUT;
    if (s->block == SESSION_WAITS && !s->eof)
        events |= EPOLLRDHUP;
    return loop_io_set(s->io, events);
}

/* Sends, goes on with what waited, and asks for the events that matter next. The session may be gone afterwards. */
static void session_go(struct session *s)
{
    int r = session_send(s);

    if (r == 0 && s->block == SESSION_DRAINING && session_out_pending(s) == 0)
        s->block = SESSION_GOING;
    if (s->block == SESSION_STEPPING)
        s->block = SESSION_GOING;
    if (r == 0 && s->block == SESSION_GOING && s->in_len > 0 && s->in_len >= s->need)
        r = session_process(s, s->in, s->in_len);
    session_expect(s);
    if (r == 0 && s->tls) /* it may hold bytes that epoll does not know of */
        r = session_read(s);
    if (r == 0 && session_out_pending(s) == 0 &&
        (s->block == SESSION_CLOSING || (s->eof && s->block == SESSION_GOING)))
        r = -ESHUTDOWN;
    if (r < 0) {
        session_free(s);
        return;
    }
    if (s->hold_count > 0)
        list_add(s, SESSION_HELD);
    if (session_events(s) < 0)
        session_free(s);
}

static void session_event(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct session *s = data;
    int r = 0;

    (void)io;
    (void)fd;
    if (events & (EPOLLERR | EPOLLHUP) && (s->block != SESSION_GOING || s->eof))
        r = -ECONNRESET; /* nobody is there to be answered */
    if (events & EPOLLRDHUP) {
        s->eof = true;
        if (s->job ==
            NULL) /* who only waits for somebody else is gone; work under way is answered */
            r = -ECONNRESET;
    }
    if (r == 0 &&
        events & (EPOLLIN | EPOLLHUP | EPOLLERR | (s->read_wants_write ? EPOLLOUT : 0u)) &&
        s->block == SESSION_GOING && !s->eof)
        r = session_read(s);
    if (r < 0) {
        session_free(s);
        return;
    }
    if (events & (EPOLLOUT | EPOLLRDHUP) || s->write_wants_read || s->block != SESSION_GOING)
        list_add(s, SESSION_READY);
    else if (!(s->listed & 1u << SESSION_READY) && session_events(s) < 0)
        session_free(s);
}

/* ---- per turn and per second ---- */

void session_flush_ready(struct worker *worker)
{
    struct store *store = worker->server->store;
    uint64_t answered = worker->answered;
    struct session *s;

    if (worker->submit && store_submit(store) < 0)
        worker->failed = true;
    worker->submit = false;
    if (store_answered(store, &answered) < 0)
        worker->failed = true;
    if (answered != worker->answered || worker->failed) {
        worker->answered = answered;
        while ((s = worker->lists[SESSION_HELD]) != NULL) {
            list_del(s, SESSION_HELD);
            list_add(s, SESSION_READY);
        }
        command_answered(worker);
    }
    /* what becomes ready meanwhile has its turn after the next events */
    while ((s = worker->lists[SESSION_READY]) != NULL) {
        list_del(s, SESSION_READY);
        list_add(s, SESSION_TURN);
    }
    while ((s = worker->lists[SESSION_TURN]) != NULL) {
        list_del(s, SESSION_TURN);
        session_go(s);
    }
}

void session_wake(struct session *s)
{
    if (s->block != SESSION_WAITS)
        return;
    s->block = SESSION_GOING;
    s->progress.woken = true;
    list_del(s, SESSION_WAITING);
    list_add(s, SESSION_READY);
}

void session_wake_late(struct worker *worker)
{
    uint64_t now = loop_clock(), next = UINT64_MAX;
    struct session *s = worker->lists[SESSION_WAITING], *after;

    for (; s != NULL; s = after) {
        after = s->nodes[SESSION_WAITING].next;
        if (s->wait_until <= now) {
            session_wake(s);
            s->progress.woken = false;
        } else if (s->wait_until < next) {
            next = s->wait_until;
        }
    }
    if (next != UINT64_MAX)
        loop_timer_set(worker->alarm, next);
    else
        loop_timer_stop(worker->alarm);
}

void session_tick_all(struct worker *worker)
{
    uint64_t now = loop_now(worker->loop);
    struct session *after;

    for (struct session *s = worker->lists[SESSION_ALL]; s != NULL; s = after) {
        after = s->nodes[SESSION_ALL].next;
        /* who waits for memory and holds some may be what the others wait for */
        if ((s->request_deadline != 0 && s->request_deadline < now) ||
            (s->out_deadline != 0 && s->out_deadline < now) ||
            (s->block == SESSION_STARVING && s->in_capacity + s->out_capacity > 2 * SESSION_BLOCK &&
             s->starved_since + worker->server->options.request_us < now)) {
            atomic_fetch_add_explicit(&worker->counters.timed_out, 1, memory_order_relaxed);
            session_free(s);
        }
    }
}
