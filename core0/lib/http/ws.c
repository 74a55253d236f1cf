/*
 * ws.c - WebSocket client.
 *
 * libcurl connects and upgrades (CURLOPT_CONNECT_ONLY = 2); from then on the socket is watched by our loop, and frames are read
 * and written with curl_ws_recv and curl_ws_send. The easy handle must stay in its multi handle for as long as that.
 *
 * libcurl wants a frame that it took in part to be finished before the next one begins, and would break that rule itself with
 * the pongs that it sends on its own: those are switched off, and pongs stand in line with everything else here.
 */
#include "lib/http/ws.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "lib/http/curl_loop.h"
#include "lib/http/pin.h"
#include "lib/http/url.h"

#define CONTROL_MAX 125 /* bytes of a ping's content (RFC 6455 section 5.5) */
#define TURN_PIECES 16  /* pieces that are read before the loop has its turn again */

/* The frame that is under way, or to be sent next. */
enum frame { FRAME_NONE, FRAME_PONG, FRAME_PING, FRAME_MESSAGE };

struct ws {
    struct loop *loop;
    struct curl_loop *curl;
    struct connection *connection;
    struct loop_io *io;
    struct loop_timer *again; /* what lies in libcurl's buffers has no event of the socket */
    struct buffer in;
    struct buffer out; /* messages that the socket did not take yet, each behind its length */
    enum frame sending;
    size_t sent;               /* bytes of it that libcurl took */
    uint8_t ping[CONTROL_MAX]; /* content of the peer's last ping */
    size_t ping_len;
    bool pong_due, ping_due;
    bool binary, paused, wants_room;
    char *protocol;
    ws_fn *fn;
    void *user;
    bool open;
    bool *freed; /* set when ws_free is called from inside fn */
    char origin[URL_ORIGIN_MAX];
};

struct connection {
    struct curl_job job;
    struct curl_slist *headers;
    struct ws *ws;
};

int ws_assemble(struct buffer *message, const struct ws_piece *piece, const void *data, size_t len)
{
    if ((piece->flags & (CURLWS_PING | CURLWS_PONG)) != 0)
        return 0;
    if ((piece->flags & (piece->binary ? CURLWS_TEXT : CURLWS_BINARY)) != 0)
        return -EPROTO;
    if (len > WS_MESSAGE_MAX - message->len || piece->left > WS_MESSAGE_MAX)
        return -EMSGSIZE;
    int r = buffer_append(message, data, len);
    if (r < 0)
        return r;
    return piece->left == 0 && (piece->flags & CURLWS_CONT) == 0 ? 1 : 0;
}

/* true: the caller must not touch ws any more. */
static bool emit(struct ws *ws, enum ws_event event, const char *data, size_t len,
                 const struct error *err)
{
    bool freed = false;
    bool *outer = ws->freed;
    /* Until fn returns: below it is `outer` again, or ws is gone. */
    ws->freed = &freed; // cppcheck-suppress autoVariables
    ws->fn(ws, event, data, len, err, ws->user);
    if (freed) {
        if (outer != NULL)
            *outer = true;
        return true;
    }
    ws->freed = outer;
    return false;
}

static void close_with(struct ws *ws, const char *code, const char *what)
{
    struct error err = {.code = ""};
    error_set(&err, EHOSTUNREACH, code, "", "%s %s", ws->origin, what);
    ws->open = false;
    loop_io_del(ws->io);
    ws->io = NULL;
    loop_timer_stop(ws->again);
    emit(ws, WS_CLOSED, NULL, 0, &err);
}

static int watch(struct ws *ws, bool write)
{
    if (ws->io == NULL)
        return 0;
    return loop_io_set(ws->io, (ws->paused ? 0 : EPOLLIN) | (write ? EPOLLOUT : 0));
}

/* ---- sending ---- */

static size_t first_length(const struct ws *ws)
{
    uint32_t len;
    memcpy(&len, ws->out.data, sizeof(len));
    return len;
}

static enum frame next_frame(const struct ws *ws)
{
    return ws->pong_due      ? FRAME_PONG
           : ws->ping_due    ? FRAME_PING
           : ws->out.len > 0 ? FRAME_MESSAGE
                             : FRAME_NONE;
}

static void frame_done(struct ws *ws)
{
    if (ws->sending == FRAME_PONG)
        ws->pong_due = false;
    else if (ws->sending == FRAME_PING)
        ws->ping_due = false;
    else
        buffer_consume(&ws->out, sizeof(uint32_t) + first_length(ws));
    ws->sending = FRAME_NONE;
    ws->sent = 0;
}

/* 0, or -1 when the connection is over (and ws perhaps gone). */
static int flush(struct ws *ws)
{
    for (;;) {
        const uint8_t *data = ws->ping;
        size_t len = 0, sent = 0;
        unsigned flags = CURLWS_PING;
        if (ws->sending == FRAME_NONE)
            ws->sending = next_frame(ws);
        if (ws->sending == FRAME_NONE)
            break;
        if (ws->sending == FRAME_PONG) {
            len = ws->ping_len;
            flags = CURLWS_PONG;
        } else if (ws->sending == FRAME_MESSAGE) {
            data = ws->out.data + sizeof(uint32_t);
            len = first_length(ws);
            flags = ws->binary ? CURLWS_BINARY : CURLWS_TEXT;
        }
        CURLcode result = curl_ws_send(ws->connection->job.easy, data + ws->sent, len - ws->sent,
                                       &sent, 0, flags);
        ws->sent += sent;
        if (result == CURLE_AGAIN || (result == CURLE_OK && ws->sent < len))
            return watch(ws, true);
        if (result != CURLE_OK) {
            close_with(ws, "http.unreachable", "does not take messages any more");
            return -1;
        }
        frame_done(ws);
    }
    if (ws->wants_room) {
        ws->wants_room = false;
        if (emit(ws, WS_WRITABLE, NULL, 0, NULL) || !ws->open)
            return -1;
    }
    return watch(ws, next_frame(ws) != FRAME_NONE);
}

int ws_send(struct ws *ws, const void *data, size_t len)
{
    uint32_t head = (uint32_t)len;
    if (!ws->open)
        return -ENOTCONN;
    if (len > WS_QUEUE_MAX || ws->out.len + sizeof(head) + len > WS_QUEUE_MAX) {
        ws->wants_room = true;
        return -ENOBUFS;
    }
    int r = buffer_reserve(&ws->out, sizeof(head) + len);
    if (r < 0)
        return r;
    buffer_append(&ws->out, &head, sizeof(head));
    buffer_append(&ws->out, data, len);
    /* the loop sends it: nothing is called back from in here */
    return watch(ws, true);
}

size_t ws_room(struct ws *ws)
{
    size_t used = ws->out.len + sizeof(uint32_t);
    if (!ws->open)
        return 0;
    if (used >= WS_QUEUE_MAX / 2) {
        ws->wants_room = true;
        return 0;
    }
    return WS_QUEUE_MAX - used;
}

int ws_ping(struct ws *ws)
{
    if (!ws->open)
        return -ENOTCONN;
    ws->ping_due = true;
    return watch(ws, true);
}

/* ---- receiving ---- */

/* A piece of a ping: answered once it is whole. */
static void take_ping(struct ws *ws, const struct curl_ws_frame *frame, const char *data,
                      size_t len)
{
    if (ws->sending == FRAME_PONG)
        return; /* its content is still being sent; RFC 6455 section 5.5.3 lets one answer stand for several pings */
    size_t at = (size_t)frame->offset;
    if (at > CONTROL_MAX || len > CONTROL_MAX - at)
        return;
    memcpy(ws->ping + at, data, len);
    ws->ping_len = at + len;
    ws->pong_due = frame->bytesleft == 0;
}

static void receive(struct ws *ws)
{
    char data[16384];
    for (int i = 0; i < TURN_PIECES; i++) {
        size_t len = 0;
        const struct curl_ws_frame *frame = NULL;
        CURLcode result = curl_ws_recv(ws->connection->job.easy, data, sizeof(data), &len, &frame);
        if (result == CURLE_AGAIN)
            return;
        if (result != CURLE_OK || frame == NULL || (frame->flags & CURLWS_CLOSE) != 0) {
            close_with(ws, "http.unreachable", "closed the connection");
            return;
        }
        if ((frame->flags & CURLWS_PING) != 0) {
            take_ping(ws, frame, data, len);
            if (ws->pong_due)
                watch(ws, true);
            continue;
        }
        if ((frame->flags & CURLWS_PONG) != 0) {
            if (frame->bytesleft == 0 && (emit(ws, WS_PONG, NULL, 0, NULL) || !ws->open))
                return;
            continue;
        }
        struct ws_piece piece = {.flags = (unsigned)frame->flags,
                                 .left = (size_t)frame->bytesleft,
                                 .binary = ws->binary};
        int r = ws_assemble(&ws->in, &piece, data, len);
        if (r < 0) {
            close_with(ws, "http.too-big",
                       ws->binary ? "sends what is no binary message of at most 1 MiB"
                                  : "sends what is no text message of at most 1 MiB");
            return;
        }
        if (r == 1) {
            const char *text = ws->in.data != NULL ? (const char *)ws->in.data : "";
            if (emit(ws, WS_MESSAGE, text, ws->in.len, NULL))
                return;
            buffer_clear(&ws->in);
        }
        if (!ws->open || ws->paused)
            return;
    }
    loop_timer_set(ws->again, loop_clock());
}

static void on_again(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct ws *ws = data;
    if (ws->open && !ws->paused)
        receive(ws);
}

void ws_pause(struct ws *ws, bool paused)
{
    if (!ws->open || ws->paused == paused)
        return;
    ws->paused = paused;
    watch(ws, next_frame(ws) != FRAME_NONE);
    if (!paused)
        loop_timer_set(ws->again, loop_clock());
}

static void on_io(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    struct ws *ws = data;
    if ((events & EPOLLOUT) != 0 && flush(ws) < 0)
        return;
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0)
        return;
    if (ws->paused) { /* it is over, which the loop would say again and again: what still lies there is read later */
        loop_io_del(ws->io);
        ws->io = NULL;
        return;
    }
    receive(ws);
}

/* ---- the connection ---- */

int ws_status(const struct ws *ws)
{
    long status = 0;
    curl_easy_getinfo(ws->connection->job.easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

const char *ws_header(const struct ws *ws, const char *name)
{
    struct curl_header *header;
    CURLHcode result =
        curl_easy_header(ws->connection->job.easy, name, 0, CURLH_HEADER | CURLH_1XX, -1, &header);
    return result == CURLHE_OK ? header->value : "";
}

static void refused(struct ws *ws, CURLcode result)
{
    if (result == CURLE_OPERATION_TIMEDOUT)
        close_with(ws, "http.timeout", "did not answer in time");
    else if (result == CURLE_SSL_PINNEDPUBKEYNOTMATCH)
        close_with(ws, "http.wrong-key", "shows another key than the one that it must have");
    else if (result == CURLE_HTTP_RETURNED_ERROR)
        close_with(ws, "http.status", "refuses the WebSocket");
    else
        close_with(ws, "http.unreachable", curl_easy_strerror(result));
}

static void on_connected(struct curl_job *job, CURLcode result)
{
    struct ws *ws = ((struct connection *)job)->ws;
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (result != CURLE_OK) {
        refused(ws, result);
        return;
    }
    if (ws_status(ws) != 101) { /* an end without an answer is no error to libcurl */
        close_with(ws, "http.unreachable", "closed the connection");
        return;
    }
    if (ws->protocol != NULL &&
        strcmp(ws_header(ws, "Sec-WebSocket-Protocol"), ws->protocol) != 0) {
        close_with(ws, "http.status", "does not speak the WebSocket protocol that was asked for");
        return;
    }
    if (curl_easy_getinfo(job->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
        fd == CURL_SOCKET_BAD || loop_io_add(ws->loop, fd, EPOLLIN, on_io, ws, &ws->io) < 0) {
        close_with(ws, "http.unreachable", "has no socket after the upgrade");
        return;
    }
    ws->open = true;
    if (!emit(ws, WS_OPEN, NULL, 0, NULL) && ws->open && !ws->paused)
        receive(ws); /* what came together with the upgrade lies in libcurl's buffer */
}

static void on_release(struct curl_job *job)
{
    struct connection *connection = (struct connection *)job;
    curl_slist_free_all(connection->headers);
    free(connection);
}

static int add_header(struct connection *connection, const char *line)
{
    struct curl_slist *list = curl_slist_append(connection->headers, line);
    if (list == NULL)
        return -ENOMEM;
    connection->headers = list;
    return 0;
}

static int set_headers(struct connection *connection, const struct ws_options *options)
{
    char line[128];
    int r = 0;
    for (size_t i = 0; r == 0 && options->headers != NULL && options->headers[i] != NULL; i++)
        r = add_header(connection, options->headers[i]);
    if (r == 0 && options->protocol != NULL) {
        snprintf(line, sizeof(line), "Sec-WebSocket-Protocol: %s", options->protocol);
        r = add_header(connection, line);
        connection->ws->protocol = strdup(options->protocol);
        if (connection->ws->protocol == NULL)
            r = -ENOMEM;
    }
    if (connection->headers != NULL)
        curl_easy_setopt(connection->job.easy, CURLOPT_HTTPHEADER, connection->headers);
    return r;
}

static int set_options(struct connection *connection, const struct ws_options *options)
{
    CURL *easy = connection->job.easy;
    const char *ca_file = getenv("CROFT_CA_FILE");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "ws,wss");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_CAINFO,
                     ca_file != NULL ? ca_file : "/etc/ssl/certs/ca-certificates.crt");
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 2L);
    curl_easy_setopt(easy, CURLOPT_WS_OPTIONS, (long)CURLWS_NOAUTOPONG);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(options->connect_timeout_us / 1000));
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "croft");
    if (curl_easy_setopt(easy, CURLOPT_URL, options->url) != CURLE_OK)
        return -EINVAL;
    int r = options->pinned_key != NULL ? curl_pin(easy, options->pinned_key) : 0;
    return r < 0 ? r : set_headers(connection, options);
}

int ws_new(struct loop *loop, const struct ws_options *options, struct ws **ret_ws)
{
    struct ws *ws = calloc(1, sizeof(*ws));
    struct connection *connection = calloc(1, sizeof(*connection));
    CURL *easy = curl_easy_init();
    int r = -ENOMEM;
    if (ws == NULL || connection == NULL || easy == NULL)
        goto fail;
    r = url_origin(options->url, ws->origin);
    if (r < 0)
        goto fail;
    r = curl_loop_new(loop, 1, &ws->curl);
    if (r < 0)
        goto fail;
    ws->loop = loop;
    ws->fn = options->fn;
    ws->user = options->user;
    ws->binary = options->binary;
    buffer_init(&ws->in, WS_MESSAGE_MAX + 1);
    buffer_init(&ws->out, WS_QUEUE_MAX);
    connection->ws = ws;
    connection->job.easy = easy;
    connection->job.done = on_connected;
    connection->job.release = on_release;
    ws->connection = connection;
    r = loop_timer_add(loop, on_again, ws, &ws->again);
    if (r >= 0)
        r = set_options(connection, options);
    if (r < 0)
        goto fail;
    curl_loop_add(ws->curl, &connection->job);
    *ret_ws = ws;
    return 0;
fail:
    if (connection != NULL)
        curl_slist_free_all(connection->headers);
    if (easy != NULL)
        curl_easy_cleanup(easy);
    free(connection);
    if (ws != NULL) {
        loop_timer_del(ws->again);
        curl_loop_free(ws->curl);
        free(ws->protocol);
    }
    free(ws);
    return r;
}

void ws_free(struct ws *ws)
{
    if (ws == NULL)
        return;
    if (ws->freed != NULL)
        *ws->freed = true;
    loop_io_del(ws->io);
    loop_timer_del(ws->again);
    curl_loop_free(ws->curl);
    buffer_done(&ws->in);
    buffer_done(&ws->out);
    free(ws->protocol);
    free(ws);
}
