/*
 * ws.c - WebSocket client.
 *
 * libcurl connects and upgrades (CURLOPT_CONNECT_ONLY = 2); from then on the socket is watched by our loop, and frames are read
 * and written with curl_ws_recv and curl_ws_send. The easy handle must stay in its multi handle for as long as that.
 */
#include "lib/http/ws.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "lib/http/curl_loop.h"
#include "lib/http/url.h"

#define OUT_MAX 65536

struct ws {
    struct loop *loop;
    struct curl_loop *curl;
    struct connection *connection;
    struct loop_io *io;
    int fd;
    struct buffer in;
    struct buffer out; /* text messages, each ended by NUL, that the socket did not take yet */
    size_t out_sent;   /* bytes of the first one that libcurl took */
    ws_fn *fn;
    void *user;
    bool open;
    bool *freed; /* set when ws_free is called from inside fn */
    char origin[URL_ORIGIN_MAX];
};

struct connection {
    struct curl_job job;
    struct ws *ws;
};

int ws_assemble(struct buffer *message, const struct ws_piece *piece, const void *data, size_t len)
{
    if ((piece->flags & CURLWS_BINARY) != 0)
        return -EPROTO; /* JSON-RPC is text */
    if ((piece->flags & (CURLWS_PING | CURLWS_PONG)) != 0)
        return 0;
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
    emit(ws, WS_CLOSED, NULL, 0, &err);
}

/* 0, or -1 when the connection is over (and ws perhaps gone). */
static int flush(struct ws *ws)
{
    while (ws->out.len > 0) {
        const char *text = (const char *)ws->out.data;
        size_t len = strlen(text), sent = 0;
        CURLcode result = curl_ws_send(ws->connection->job.easy, text + ws->out_sent,
                                       len - ws->out_sent, &sent, 0, CURLWS_TEXT);
        ws->out_sent += sent;
        if (result == CURLE_AGAIN || (result == CURLE_OK && ws->out_sent < len))
            return loop_io_set(ws->io, EPOLLIN | EPOLLOUT);
        if (result != CURLE_OK) {
            close_with(ws, "http.unreachable", "does not take messages any more");
            return -1;
        }
        buffer_consume(&ws->out, len + 1);
        ws->out_sent = 0;
    }
    return loop_io_set(ws->io, EPOLLIN);
}

static void receive(struct ws *ws)
{
    char data[16384];
    for (;;) {
        size_t len = 0;
        const struct curl_ws_frame *frame = NULL;
        CURLcode result = curl_ws_recv(ws->connection->job.easy, data, sizeof(data), &len, &frame);
        if (result == CURLE_AGAIN)
            return;
        if (result != CURLE_OK || frame == NULL || (frame->flags & CURLWS_CLOSE) != 0) {
            close_with(ws, "http.unreachable", "closed the connection");
            return;
        }
        if ((frame->flags & CURLWS_PONG) != 0) {
            if (frame->bytesleft == 0 && emit(ws, WS_PONG, NULL, 0, NULL))
                return;
            continue;
        }
        struct ws_piece piece = {.flags = (unsigned)frame->flags, .left = (size_t)frame->bytesleft};
        int r = ws_assemble(&ws->in, &piece, data, len);
        if (r < 0) {
            close_with(ws, "http.too-big", "sends what is no text message of at most 1 MiB");
            return;
        }
        if (r == 1) {
            const char *text = ws->in.data != NULL ? (const char *)ws->in.data : "";
            if (emit(ws, WS_MESSAGE, text, ws->in.len, NULL))
                return;
            buffer_clear(&ws->in);
        }
        if (!ws->open)
            return;
    }
}

static void on_io(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    struct ws *ws = data;
    if ((events & EPOLLOUT) != 0 && flush(ws) < 0)
        return;
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
        receive(ws);
}

static void on_connected(struct curl_job *job, CURLcode result)
{
    struct ws *ws = ((struct connection *)job)->ws;
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (result != CURLE_OK) {
        close_with(ws, result == CURLE_OPERATION_TIMEDOUT ? "http.timeout" : "http.unreachable",
                   curl_easy_strerror(result));
        return;
    }
    if (curl_easy_getinfo(job->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
        fd == CURL_SOCKET_BAD || loop_io_add(ws->loop, fd, EPOLLIN, on_io, ws, &ws->io) < 0) {
        close_with(ws, "http.unreachable", "has no socket after the upgrade");
        return;
    }
    ws->fd = fd;
    ws->open = true;
    if (!emit(ws, WS_OPEN, NULL, 0, NULL) && ws->open)
        receive(ws); /* what came together with the upgrade lies in libcurl's buffer */
}

static void on_release(struct curl_job *job)
{
    free(job);
}

int ws_new(struct loop *loop, const char *url, uint64_t connect_timeout_us, ws_fn *fn, void *user,
           struct ws **ret_ws)
{
    struct ws *ws = calloc(1, sizeof(*ws));
    struct connection *connection = calloc(1, sizeof(*connection));
    CURL *easy = curl_easy_init();
    const char *ca_file = getenv("CROFT_CA_FILE");
    int r = -ENOMEM;
    if (ws == NULL || connection == NULL || easy == NULL)
        goto fail;
    r = url_origin(url, ws->origin);
    if (r < 0)
        goto fail;
    r = curl_loop_new(loop, 1, &ws->curl);
    if (r < 0)
        goto fail;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "ws,wss");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_CAINFO,
                     ca_file != NULL ? ca_file : "/etc/ssl/certs/ca-certificates.crt");
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 2L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(connect_timeout_us / 1000));
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK) {
        r = -EINVAL;
        goto fail;
    }
    ws->loop = loop;
    ws->fn = fn;
    ws->user = user;
    buffer_init(&ws->in, WS_MESSAGE_MAX + 1);
    buffer_init(&ws->out, (size_t)2 * OUT_MAX);
    connection->ws = ws;
    connection->job.easy = easy;
    connection->job.done = on_connected;
    connection->job.release = on_release;
    ws->connection = connection;
    curl_loop_add(ws->curl, &connection->job);
    *ret_ws = ws;
    return 0;
fail:
    if (ws != NULL)
        curl_loop_free(ws->curl);
    if (easy != NULL)
        curl_easy_cleanup(easy);
    free(connection);
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
    curl_loop_free(ws->curl);
    buffer_done(&ws->in);
    buffer_done(&ws->out);
    free(ws);
}

int ws_send(struct ws *ws, const char *text, size_t len)
{
    if (!ws->open)
        return -ENOTCONN;
    if (ws->out.len + len + 1 > OUT_MAX)
        return -ENOBUFS;
    int r = buffer_append(&ws->out, text, len);
    if (r >= 0)
        r = buffer_append(&ws->out, "", 1);
    /* the loop sends it: nothing is called back from in here */
    return r < 0 ? r : loop_io_set(ws->io, EPOLLIN | EPOLLOUT);
}

int ws_ping(struct ws *ws)
{
    size_t sent;
    if (!ws->open || ws->out_sent > 0)
        return -ENOTCONN;
    return curl_ws_send(ws->connection->job.easy, "", 0, &sent, 0, CURLWS_PING) == CURLE_OK
               ? 0
               : -EAGAIN;
}
