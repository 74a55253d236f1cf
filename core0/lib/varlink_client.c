/*
 * varlink_client.c - the client half of varlink.h.
 *
 * Invariants
 *  1. Answers come in the order of the calls, so the pending calls are a queue and the first one is answered.
 *  2. A call that timed out stays in the queue without a callback until its late answer has been dropped.
 *  3. Callbacks run from the loop only, never inside varlink_client_call; one may free the client.
 */
#include "lib/varlink.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/varlink_message.h"

#define VARLINK_OUT_MAX (4 * VARLINK_MESSAGE_MAX)

struct varlink_pending {
    struct varlink_pending *next;
    varlink_reply_fn *fn; /* NULL: timed out */
    void *data;
    uint64_t deadline; /* 0: none */
};

struct varlink_client {
    struct loop *loop;
    char *path;
    struct loop_io *io;
    struct loop_timer *timer;
    struct varlink_pending *pending;
    struct varlink_pending **pending_tail;
    size_t pending_count;
    struct buffer in;
    struct buffer out;
    int fd;
    int lost_errno; /* not 0: the pending calls are to be answered with varlink.lost */
    int busy;       /* callbacks on the stack */
    bool freed;
};

struct varlink_answer {
    yyjson_val *parameters;
    const char *error;
    bool continues;
};

static const struct json_field varlink_answer_fields[] = {
    {"parameters", JSON_OBJECT, offsetof(struct varlink_answer, parameters), false, 0, 0},
    {"error", JSON_STRING, offsetof(struct varlink_answer, error), false, 1, 256},
    {"continues", JSON_BOOL, offsetof(struct varlink_answer, continues), false, 0, 0},
};

static int varlink_answer_read(yyjson_doc *doc, struct varlink_answer *ret_answer,
                               struct error *err)
{
    return json_read(yyjson_doc_get_root(doc), varlink_answer_fields,
                     sizeof(varlink_answer_fields) / sizeof(varlink_answer_fields[0]),
                     JSON_IGNORE_UNKNOWN, ret_answer, "varlink.message", err);
}

/* ---- connection ---- */

static void varlink_client_disconnect(struct varlink_client *client)
{
    loop_io_del(client->io);
    client->io = NULL;
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    buffer_clear(&client->in);
    buffer_clear(&client->out);
}

static void varlink_client_arm(struct varlink_client *client)
{
    uint64_t next = 0;

    if (client->lost_errno != 0) {
        loop_timer_in(client->timer, 0);
        return;
    }
    for (const struct varlink_pending *call = client->pending; call != NULL; call = call->next) {
        if (call->fn != NULL && call->deadline != 0 && (next == 0 || call->deadline < next))
            next = call->deadline;
    }
    if (next != 0)
        loop_timer_set(client->timer, next);
    else
        loop_timer_stop(client->timer);
}

static void varlink_client_lose(struct varlink_client *client, int error)
{
    varlink_client_disconnect(client);
    client->lost_errno = error;
    varlink_client_arm(client);
}

static void varlink_client_destroy(struct varlink_client *client)
{
    varlink_client_disconnect(client);
    loop_timer_del(client->timer);
    while (client->pending != NULL) {
        struct varlink_pending *call = client->pending;

        client->pending = call->next;
        free(call);
    }
    buffer_done(&client->in);
    buffer_done(&client->out);
    free(client->path);
    free(client);
}

/* Every callback goes through these two, so that a client freed inside one goes afterwards. False: gone. */
static void varlink_client_enter(struct varlink_client *client)
{
    client->busy++;
}

static bool varlink_client_leave(struct varlink_client *client)
{
    client->busy--;
    if (!client->freed)
        return true;
    if (client->busy == 0)
        varlink_client_destroy(client);
    return false;
}

static struct varlink_pending *varlink_client_take(struct varlink_client *client)
{
    struct varlink_pending *call = client->pending;

    client->pending = call->next;
    if (client->pending == NULL)
        client->pending_tail = &client->pending;
    client->pending_count--;
    return call;
}

/* ---- what the timer does: losses and time-outs ---- */

static bool varlink_client_answer_losses(struct varlink_client *client)
{
    struct error err = {0};
    size_t count = client->pending_count;

    error_set(&err, client->lost_errno, "varlink.lost", "the program may be restarting; try again",
              "%s: %s", client->path, strerror(client->lost_errno));
    client->lost_errno = 0;
    /* Only those that were under way: a callback may call again, and that is a new connection. */
    while (count-- > 0) {
        struct varlink_pending *call = varlink_client_take(client);
        varlink_reply_fn *fn = call->fn;
        void *data = call->data;

        free(call);
        if (fn == NULL)
            continue;
        varlink_client_enter(client);
        fn(NULL, &err, false, data);
        if (!varlink_client_leave(client))
            return false;
    }
    return true;
}

static struct varlink_pending *varlink_client_find_late(struct varlink_client *client)
{
    for (struct varlink_pending *call = client->pending; call != NULL; call = call->next) {
        if (call->fn != NULL && call->deadline != 0 && call->deadline <= loop_now(client->loop))
            return call;
    }
    return NULL;
}

static void varlink_client_timer(struct loop_timer *timer, void *data)
{
    struct varlink_client *client = data;
    struct varlink_pending *call;

    (void)timer;
    if (client->lost_errno != 0 && !varlink_client_answer_losses(client))
        return;
    while ((call = varlink_client_find_late(client)) != NULL) {
        varlink_reply_fn *fn = call->fn;
        struct error err = {0};

        error_set(&err, ETIMEDOUT, "varlink.timeout", NULL, "%s did not answer in time",
                  client->path);
        call->fn = NULL;
        varlink_client_enter(client);
        fn(NULL, &err, false, call->data);
        if (!varlink_client_leave(client))
            return;
    }
    varlink_client_arm(client);
}

/* ---- answers ---- */

/* One message without its NUL. -errno: not varlink, the connection must go. 1: the client is gone. */
static int varlink_client_handle(struct varlink_client *client, const char *text, size_t len)
{
    struct varlink_answer answer = {0};
    struct error err = {0};
    struct varlink_pending *call = client->pending;
    varlink_reply_fn *fn;
    void *data;
    yyjson_doc *doc;
    bool alive;

    if (call == NULL)
        return -EPROTO; /* an answer that nobody asked for */
    doc = json_parse(text, len, VARLINK_MESSAGE_MAX, "varlink.message", NULL);
    if (doc == NULL || varlink_answer_read(doc, &answer, NULL) < 0) {
        yyjson_doc_free(doc);
        return -EPROTO;
    }
    fn = call->fn;
    data = call->data;
    if (answer.error != NULL) {
        answer.continues = false;
        varlink_error_from_reply(answer.error, answer.parameters, &err);
        answer.parameters = NULL;
    }
    if (!answer.continues)
        free(varlink_client_take(client));
    if (fn == NULL) {
        yyjson_doc_free(doc);
        return 0;
    }
    if (answer.error == NULL && answer.parameters == NULL) {
        /* "parameters" may be left out when there are none; callbacks always get an object. */
        static const char empty[] = "{}";

        yyjson_doc_free(doc);
        doc = yyjson_read(empty, sizeof(empty) - 1, 0);
        answer.parameters = yyjson_doc_get_root(doc);
    }
    varlink_client_enter(client);
    fn(answer.parameters, answer.parameters == NULL ? &err : NULL, answer.continues, data);
    alive = varlink_client_leave(client);
    yyjson_doc_free(doc);
    return alive ? 0 : 1;
}

/* As varlink_client_handle. */
static int varlink_client_process(struct varlink_client *client)
{
    while (client->in.len > 0) {
        const uint8_t *nul = memchr(client->in.data, '\0', client->in.len);
        size_t used;
        int ret;

        if (nul == NULL)
            break;
        used = (size_t)(nul - client->in.data) + 1;
        ret = varlink_client_handle(client, (const char *)client->in.data, used - 1);
        if (ret != 0)
            return ret;
        buffer_consume(&client->in, used);
    }
    varlink_shrink(&client->in);
    return 0;
}

static void varlink_client_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct varlink_client *client = data;
    int ret = 0;

    (void)io;
    if ((events & EPOLLOUT) != 0)
        ret = varlink_send(fd, &client->out);
    if (ret >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        ret = varlink_receive(fd, &client->in);
        if (ret > 0)
            ret = varlink_client_process(client);
        if (ret > 0)
            return;
    }
    if (ret < 0) {
        varlink_client_lose(client, -ret);
        return;
    }
    /* A callback may have made a call on a connection of its own making. */
    if (client->io != NULL)
        loop_io_set(client->io, client->out.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
    varlink_client_arm(client);
}

static int varlink_client_connect(struct varlink_client *client)
{
    struct sockaddr_un addr;
    int ret = varlink_address(client->path, &addr);
    int fd;

    if (ret < 0)
        return ret;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        ret = -errno;
        close(fd);
        return ret;
    }
    ret = loop_io_add(client->loop, fd, EPOLLIN, varlink_client_ready, client, &client->io);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    client->fd = fd;
    return 0;
}

/* ---- public ---- */

int varlink_client_new(struct loop *loop, const char *path, struct varlink_client **ret_client)
{
    struct varlink_client *client = calloc(1, sizeof(*client));
    int ret;

    if (client == NULL)
        return -ENOMEM;
    client->loop = loop;
    client->fd = -1;
    client->pending_tail = &client->pending;
    buffer_init(&client->in, VARLINK_MESSAGE_MAX);
    buffer_init(&client->out, VARLINK_OUT_MAX);
    client->path = strdup(path);
    ret = client->path == NULL ? -ENOMEM
                               : loop_timer_add(loop, varlink_client_timer, client, &client->timer);
    if (ret < 0) {
        free(client->path);
        free(client);
        return ret;
    }
    *ret_client = client;
    return 0;
}

void varlink_client_free(struct varlink_client *client)
{
    if (client == NULL)
        return;
    if (client->busy > 0) {
        client->freed = true;
        return;
    }
    varlink_client_destroy(client);
}

int varlink_client_call(struct varlink_client *client, const char *method,
                        yyjson_mut_doc *parameters, unsigned flags, uint64_t timeout_us,
                        varlink_reply_fn *fn, void *data)
{
    const struct varlink_members members = {
        .method = method,
        .more = (flags & VARLINK_MORE) != 0,
    };
    struct varlink_pending *call;
    int ret;

    if (client->freed || client->pending_count >= VARLINK_PENDING_MAX) {
        yyjson_mut_doc_free(parameters);
        return client->freed ? -ENOTCONN : -ENOBUFS;
    }
    call = calloc(1, sizeof(*call));
    if (call == NULL) {
        yyjson_mut_doc_free(parameters);
        return -ENOMEM;
    }
    if (client->fd < 0 && client->lost_errno == 0) {
        ret = varlink_client_connect(client);
        if (ret < 0)
            client->lost_errno = -ret;
    }
    ret = varlink_message_append(&client->out, &members, parameters);
    if (ret < 0) {
        free(call);
        return ret;
    }
    call->fn = fn;
    call->data = data;
    if (timeout_us != 0)
        call->deadline = loop_clock() + timeout_us;
    *client->pending_tail = call;
    client->pending_tail = &call->next;
    client->pending_count++;

    if (client->lost_errno != 0) {
        buffer_clear(&client->out); /* goes nowhere: it will be answered with varlink.lost */
    } else {
        ret = varlink_send(client->fd, &client->out);
        if (ret < 0)
            varlink_client_lose(client, -ret);
        else
            loop_io_set(client->io, ret > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
    varlink_client_arm(client);
    return 0;
}

/* ---- blocking ---- */

static int varlink_wait(int fd, short events, uint64_t deadline)
{
    for (;;) {
        struct pollfd polled = {.fd = fd, .events = events};
        uint64_t now = loop_clock();
        int ret;

        if (now >= deadline)
            return -ETIMEDOUT;
        ret = poll(&polled, 1, (int)((deadline - now) / 1000 + 1));
        if (ret > 0)
            return 0;
        if (ret < 0 && errno != EINTR)
            return -errno;
    }
}

static int varlink_exchange(int fd, struct buffer *out, struct buffer *in, uint64_t deadline)
{
    int ret;

    while ((ret = varlink_send(fd, out)) > 0) {
        ret = varlink_wait(fd, POLLOUT, deadline);
        if (ret < 0)
            return ret;
    }
    while (ret >= 0) {
        ret = varlink_receive(fd, in);
        if (ret > 0 && memchr(in->data, '\0', in->len) != NULL)
            return 0;
        if (ret == 0)
            ret = varlink_wait(fd, POLLIN, deadline);
    }
    return ret;
}

static int varlink_connect_blocking(const char *path, struct error *err)
{
    struct sockaddr_un addr;
    int ret = varlink_address(path, &addr);
    int fd;

    if (ret < 0)
        return error_set(err, -ret, "varlink.lost", NULL, "the socket path %s is too long", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, errno, "varlink.lost", NULL, "socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        ret = error_set(err, errno, "varlink.lost", "is the program running?", "%s: %s", path,
                        strerror(errno));
        close(fd);
        return ret;
    }
    return fd;
}

static int varlink_blocking_answer(const struct buffer *in, yyjson_doc **ret_reply,
                                   struct error *err)
{
    struct varlink_answer answer = {0};
    yyjson_doc *doc = json_parse((const char *)in->data, strlen((const char *)in->data),
                                 VARLINK_MESSAGE_MAX, "varlink.message", err);
    int ret;

    if (doc == NULL)
        return -EPROTO;
    ret = varlink_answer_read(doc, &answer, err);
    if (ret == 0 && answer.error != NULL)
        ret = varlink_error_from_reply(answer.error, answer.parameters, err);
    if (ret < 0) {
        yyjson_doc_free(doc);
        return ret;
    }
    *ret_reply = doc;
    return 0;
}

int varlink_call_blocking(const char *path, const char *method, yyjson_mut_doc *parameters,
                          int timeout_ms, yyjson_doc **ret_reply, struct error *err)
{
    const struct varlink_members members = {.method = method};
    uint64_t deadline = loop_clock() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000;
    cleanup_close int fd = -1;
    struct buffer out;
    struct buffer in;
    int ret;

    buffer_init(&out, VARLINK_MESSAGE_MAX);
    buffer_init(&in, VARLINK_MESSAGE_MAX);
    ret = varlink_message_append(&out, &members, parameters);
    if (ret < 0) {
        error_set(err, -ret, "varlink.message", NULL, "the call of %s cannot be written: %s",
                  method, strerror(-ret));
        goto out;
    }
    fd = varlink_connect_blocking(path, err);
    if (fd < 0) {
        ret = fd;
        goto out;
    }
    ret = varlink_exchange(fd, &out, &in, deadline);
    if (ret == -ETIMEDOUT)
        error_set(err, ETIMEDOUT, "varlink.timeout", NULL, "%s did not answer in time", path);
    else if (ret < 0)
        error_set(err, -ret, "varlink.lost", NULL, "%s: %s", path, strerror(-ret));
    else
        ret = varlink_blocking_answer(&in, ret_reply, err);
out:
    buffer_done(&out);
    buffer_done(&in);
    return ret;
}
