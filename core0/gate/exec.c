/*
 * exec.c - a program in a container, over WebSocket (RFC 6455), subprotocol croft.exec.v1.
 *
 * Messages are binary, their first byte is the channel; contd's croft-exec speaks the same channels over a Unix socket with a head of five
 * bytes (org.croft.container.Exec). Here the one becomes the other. What one side does not take is not read from the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "gate.h"
#include "lib/http/ws_frame.h"

#define PROTOCOL "croft.exec.v1"
#define CHANNELS 4
#define CHANNEL_CONTROL 3
#define HEAD 5
#define PAYLOAD_MAX ((size_t)64 << 10) /* of a frame of croft-exec */
#define MESSAGE_MAX (PAYLOAD_MAX + 1)
#define WAITING_MAX ((size_t)128 << 10) /* bytes for croft-exec; then the caller is not read */
#define EXECS_MAX 64
#define EXECS_PER_CALLER 16
#define PING_US (20 * UINT64_C(1000000))

struct exec {
    struct exec *next;
    struct gate *gate;
    struct http_exchange *exchange; /* NULL: the caller is gone, or has been told the end */
    uint8_t caller[20];
    int fd; /* croft-exec; -1: closed */
    struct loop_io *io;
    struct loop_timer *ping;
    struct buffer from_caller; /* frames of WebSocket that are not whole */
    struct buffer message;     /* pieces of a message */
    bool in_message;
    struct buffer to_program; /* frames that croft-exec has not taken */
    struct buffer from_program;
    bool told;  /* croft-exec has said how it ended */
    bool ended; /* croft-exec is gone: what it said last goes to the caller, and then the end */
};

/* ---- the end ---- */

static void exec_free(struct exec *exec)
{
    struct exec **at = &exec->gate->execs;

    while (*at != NULL && *at != exec)
        at = &(*at)->next;
    if (*at != NULL)
        *at = exec->next;
    exec->gate->exec_count--;
    loop_io_del(exec->io);
    loop_timer_del(exec->ping);
    if (exec->fd >= 0)
        close(exec->fd); /* croft-exec sees that nobody is there, and ends what it started */
    buffer_done(&exec->from_caller);
    buffer_done(&exec->message);
    buffer_done(&exec->to_program);
    buffer_done(&exec->from_program);
    free(exec);
}

static void exec_gone(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    exec_free(data);
}

static int send_frame(struct exec *exec, enum ws_opcode opcode, const void *data, size_t len)
{
    struct buffer frame;

    buffer_init(&frame, 0);
    int r = ws_frame_append(&frame, opcode, data, len);
    if (r == 0)
        r = http_exchange_write(exec->exchange, frame.data, frame.len);
    buffer_done(&frame);
    return r;
}

static void exec_close(struct exec *exec, enum ws_status status)
{
    struct http_exchange *exchange = exec->exchange;
    uint8_t code[2] = {(uint8_t)(status >> 8), (uint8_t)status};

    send_frame(exec, WS_CLOSE, code,
               sizeof(code)); /* without room for it the connection just ends */
    exec_free(exec);
    http_exchange_finish(exchange);
}

/* ---- from the caller ---- */

static void update(struct exec *exec)
{
    bool reads = http_exchange_waiting(exec->exchange) <= HTTP_STREAM_MAX / 2;

    if (exec->io != NULL)
        loop_io_set(exec->io, (reads ? (uint32_t)EPOLLIN : 0) |
                                  (exec->to_program.len > 0 ? (uint32_t)EPOLLOUT : 0));
    http_exchange_hold(exec->exchange, exec->to_program.len > WAITING_MAX);
}

static int give_program(struct exec *exec)
{
    while (exec->to_program.len > 0) {
        ssize_t n = send(exec->fd, exec->to_program.data, exec->to_program.len,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        buffer_consume(&exec->to_program, (size_t)n);
    }
    buffer_done(&exec->to_program);
    return 0;
}

/* A whole message. 0 or the status to close with. */
static int take_message(struct exec *exec, const uint8_t *data, size_t len)
{
    uint8_t head[HEAD];

    if (len == 0 || data[0] >= CHANNELS || (data[0] != 0 && data[0] != CHANNEL_CONTROL))
        return WS_STATUS_PROTOCOL;
    len--;
    head[0] = data[0];
    for (size_t i = 0; i < 4; i++)
        head[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    if (buffer_append(&exec->to_program, head, sizeof(head)) < 0 ||
        buffer_append(&exec->to_program, data + 1, len) < 0)
        return WS_STATUS_TOO_BIG;
    return 0;
}

/* One frame, unmasked. 0, the status to close with, or -1: the caller said goodbye. */
static int take_frame(struct exec *exec, const struct ws_frame *frame, const uint8_t *payload)
{
    switch (frame->opcode) {
    case WS_CLOSE:
        return -1;
    case WS_PING:
        send_frame(exec, WS_PONG_FRAME, payload, frame->payload);
        return 0;
    case WS_PONG_FRAME:
        return 0;
    case WS_BINARY:
        if (exec->in_message)
            return WS_STATUS_PROTOCOL;
        if (frame->fin)
            return take_message(exec, payload, frame->payload);
        break;
    case WS_CONTINUATION:
        if (!exec->in_message)
            return WS_STATUS_PROTOCOL;
        break;
    default:
        return WS_STATUS_PROTOCOL;
    }
    if (exec->message.len + frame->payload > MESSAGE_MAX ||
        buffer_append(&exec->message, payload, frame->payload) < 0)
        return WS_STATUS_TOO_BIG;
    exec->in_message = !frame->fin;
    if (!frame->fin)
        return 0;
    int r = take_message(exec, exec->message.data, exec->message.len);
    buffer_done(&exec->message);
    return r;
}

static void on_bytes(struct http_exchange *exchange, const uint8_t *bytes, size_t len, void *data)
{
    struct exec *exec = data;
    struct ws_frame frame;
    size_t used = 0;
    int r;

    (void)exchange;
    if (buffer_append(&exec->from_caller, bytes, len) < 0) {
        exec_close(exec, WS_STATUS_TOO_BIG);
        return;
    }
    while ((r = ws_frame_parse(exec->from_caller.data + used, exec->from_caller.len - used,
                               MESSAGE_MAX, &frame)) > 0 &&
           exec->from_caller.len - used >= frame.head + frame.payload) {
        uint8_t *payload = exec->from_caller.data + used + frame.head;

        ws_frame_unmask(&frame, payload);
        r = take_frame(exec, &frame, payload);
        used += frame.head + frame.payload;
        if (r != 0) {
            exec_close(exec, r > 0 ? (enum ws_status)r : WS_STATUS_NORMAL);
            return;
        }
    }
    buffer_consume(&exec->from_caller, used);
    if (exec->from_caller.len == 0)
        buffer_done(&exec->from_caller);
    if (r < 0 || give_program(exec) < 0)
        exec_close(exec, r == -EMSGSIZE ? WS_STATUS_TOO_BIG
                         : r < 0        ? WS_STATUS_PROTOCOL
                                        : WS_STATUS_NORMAL);
    else
        update(exec);
}

/* ---- from the program ---- */

/* Whole frames become messages, as far as the caller takes them. */
static int give_caller(struct exec *exec)
{
    size_t used = 0;
    int r = 0;

    while (r == 0 && exec->from_program.len - used >= HEAD) {
        uint8_t *at = exec->from_program.data + used;
        size_t len = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];

        if (len > PAYLOAD_MAX || at[0] >= CHANNELS)
            return -EPROTO;
        if (exec->from_program.len - used - HEAD < len)
            break;
        uint8_t channel = at[0];
        at[HEAD - 1] = channel; /* the message is the channel and what follows the head */
        r = send_frame(exec, WS_BINARY, at + HEAD - 1, len + 1);
        if (r == -EAGAIN) {
            at[HEAD - 1] = (uint8_t)len;
            break;
        }
        exec->told = exec->told || channel == CHANNEL_CONTROL;
        used += HEAD + len;
    }
    buffer_consume(&exec->from_program, used);
    if (exec->from_program.len == 0)
        buffer_done(&exec->from_program);
    return r == -EAGAIN ? 0 : r;
}

static void say_lost(struct exec *exec)
{
    static const char text[] = "\003{\"error\":{\"code\":\"container.exec-lost\",\"message\":\"the "
                               "program's session ended without "
                               "a word\",\"hint\":\"run it again\"}}";

    send_frame(exec, WS_BINARY, text, sizeof(text) - 1);
}

static bool has_whole_frame(const struct exec *exec)
{
    const uint8_t *at = exec->from_program.data;

    return exec->from_program.len >= HEAD &&
           exec->from_program.len - HEAD >=
               ((size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4]);
}

/* True: all was told, and the session is over. */
static bool end_if_told(struct exec *exec)
{
    if (!exec->ended || exec->from_program.len > 0)
        return false;
    if (!exec->told)
        say_lost(exec);
    exec_close(exec, WS_STATUS_NORMAL);
    return true;
}

static void on_program(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct exec *exec = data;
    uint8_t bytes[16384];
    ssize_t n = 1;

    (void)io;
    if ((events & EPOLLOUT) != 0)
        give_program(exec); /* that it is gone is seen by reading */
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            n = 1;
        else if (n > 0 && buffer_append(&exec->from_program, bytes, (size_t)n) < 0)
            n = -1;
    }
    if (n <= 0) {
        exec->ended = true;
        loop_io_del(exec->io); /* its hang-up would wake us for ever */
        exec->io = NULL;
    }
    if (give_caller(exec) < 0) {
        exec_close(exec, WS_STATUS_PROTOCOL);
        return;
    }
    if (exec->ended && !has_whole_frame(exec))
        buffer_done(&exec->from_program); /* it was cut off in the middle of one */
    if (!end_if_told(exec))
        update(exec);
}

static void on_drained(struct http_exchange *exchange, void *data)
{
    struct exec *exec = data;

    (void)exchange;
    if (give_caller(exec) < 0)
        exec_close(exec, WS_STATUS_PROTOCOL);
    else if (!end_if_told(exec))
        update(exec);
}

static void on_ping(struct loop_timer *timer, void *data)
{
    struct exec *exec = data;

    if (http_exchange_waiting(exec->exchange) == 0)
        send_frame(exec, WS_PING, "", 0);
    loop_timer_in(timer, PING_US);
}

/* ---- the method ---- */

static int connect_program(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (path == NULL || strlen(path) >= sizeof(addr.sun_path))
        return -EINVAL;
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int r = -errno;

        if (fd >= 0)
            close(fd);
        return r;
    }
    return fd;
}

/* The exchange speaks WebSocket from now on. */
static void begin(struct request *request, struct exec *exec, const char *accept)
{
    char headers[256];

    snprintf(headers, sizeof(headers),
             "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
             "Sec-WebSocket-Protocol: " PROTOCOL "\r\n",
             accept);
    memcpy(exec->caller, request->address, sizeof(exec->caller));
    exec->gate = request->gate;
    exec->next = exec->gate->execs;
    exec->gate->execs = exec;
    exec->gate->exec_count++;
    buffer_init(&exec->from_caller, 2 * (MESSAGE_MAX + WS_FRAME_HEAD_MAX) + 16384);
    buffer_init(&exec->message, MESSAGE_MAX);
    buffer_init(&exec->to_program, 4 * WAITING_MAX);
    buffer_init(&exec->from_program, 4 * WAITING_MAX);
    loop_timer_in(exec->ping, PING_US);
    exec->exchange = request_detach(request);
    http_exchange_upgrade(exec->exchange, headers, on_bytes, on_drained, exec);
    http_exchange_set_gone(exec->exchange, exec_gone, exec);
}

static void on_socket(struct request *request, yyjson_val *parameters)
{
    struct exec *exec = calloc(1, sizeof(*exec));
    const char *key = http_exchange_header(request->exchange, "sec-websocket-key");
    char accept[WS_ACCEPT_SIZE];
    int r = exec != NULL && key != NULL && ws_accept(key, accept) == 0
                ? connect_program(yyjson_get_str(yyjson_obj_get(parameters, "socket")))
                : -ENOMEM;

    if (r >= 0) {
        exec->fd = r;
        r = loop_io_add(request->gate->loop, exec->fd, EPOLLIN, on_program, exec, &exec->io);
        if (r == 0)
            r = loop_timer_add(request->gate->loop, on_ping, exec, &exec->ping);
        if (r < 0) {
            loop_io_del(exec->io);
            close(exec->fd);
        }
    }
    if (r < 0) {
        free(exec);
        request_fail_with(request, "gate.not-ready", "try again", "the session cannot be reached");
        return;
    }
    begin(request, exec, accept);
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (list != NULL && *list != '\0') {
        list += strspn(list, ", \t");
        if (strncasecmp(list, word, len) == 0 && strchr(", \t", list[len]) != NULL)
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

static bool is_upgrade(const struct request *request)
{
    const struct http_exchange *exchange = request->exchange;
    const char *key = http_exchange_header(exchange, "sec-websocket-key");
    const char *version = http_exchange_header(exchange, "sec-websocket-version");
    char accept[WS_ACCEPT_SIZE];

    return has_word(http_exchange_header(exchange, "upgrade"), "websocket") &&
           has_word(http_exchange_header(exchange, "connection"), "upgrade") && version != NULL &&
           strcmp(version, "13") == 0 && key != NULL && ws_accept(key, accept) == 0 &&
           has_word(http_exchange_header(exchange, "sec-websocket-protocol"), PROTOCOL);
}

/* The parameters of contd's Exec. False: the request was answered. */
static bool add_program(struct request *request, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
    const struct query *query = &request->query;
    yyjson_mut_val *argv = yyjson_mut_obj_add_arr(doc, root, "argv");
    yyjson_mut_val *env = yyjson_mut_obj_add_arr(doc, root, "env");
    const char *term = query_get(query, "term"), *user = query_get(query, "user"),
               *workdir = query_get(query, "workdir");
    int64_t rows = 24, columns = 80;
    bool tty = false, ok = query_get_flag(query, "tty", &tty) >= 0 &&
                           query_get_number(query, "rows", 1, UINT16_MAX, &rows) >= 0 &&
                           query_get_number(query, "columns", 1, UINT16_MAX, &columns) >= 0;

    if (tty && term != NULL && strlen(term) < 64) {
        char text[80];

        snprintf(text, sizeof(text), "TERM=%s", term);
        yyjson_mut_arr_add_strcpy(doc, env, text);
    }
    for (size_t i = 0; i < query->count; i++) {
        const struct query_parameter *p = &query->parameters[i];

        if (strcmp(p->name, "arg") == 0)
            yyjson_mut_arr_add_strcpy(doc, argv, p->value);
        else if (strcmp(p->name, "env") == 0) {
            yyjson_mut_arr_add_strcpy(doc, env, p->value);
            ok = ok && strchr(p->value, '=') != NULL;
        }
    }
    if (user != NULL)
        yyjson_mut_obj_add_strcpy(doc, root, "user", user);
    if (workdir != NULL)
        yyjson_mut_obj_add_strcpy(doc, root, "workingDir", workdir);
    yyjson_mut_obj_add_bool(doc, root, "tty", tty);
    yyjson_mut_obj_add_int(doc, root, "rows", rows);
    yyjson_mut_obj_add_int(doc, root, "columns", columns);
    if (!ok || yyjson_mut_arr_size(argv) == 0) {
        yyjson_mut_doc_free(doc);
        request_fail_with(request, "gate.bad-request",
                          "croft exec RESERVATION -- PROGRAM [ARGUMENT…]",
                          "the call names no program, or has a malformed parameter");
        return false;
    }
    return true;
}

void exec_handle(struct request *request)
{
    const struct gate *gate = request->gate;
    unsigned own = 0;
    yyjson_mut_val *root;

    for (const struct exec *e = gate->execs; e != NULL; e = e->next)
        own += memcmp(e->caller, request->address, sizeof(e->caller)) == 0;
    if (gate->exec_count >= EXECS_MAX || own >= EXECS_PER_CALLER) {
        request_fail_with(request, "gate.busy", "end one of them, or try again later",
                          "too many programs are run in containers already");
        return;
    }
    if (!is_upgrade(request)) {
        request_fail_with(request, "gate.bad-request", "use croft exec",
                          "this wants WebSocket, version 13, with the subprotocol " PROTOCOL);
        return;
    }
    yyjson_mut_doc *doc = gate_instance(request, &root);
    if (add_program(request, doc, root))
        request_call(request, "contd", "org.croft.container.Exec", doc, on_socket);
}
