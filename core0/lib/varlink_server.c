/*
 * varlink_server.c - the server half of varlink.h.
 *
 * Invariants
 *  1. A connection has at most one call under way; what the peer pipelines stays in `in` until the call ends.
 *  2. A connection is freed only from its own io callback or by varlink_server_free: a method that replies to a
 *     dead peer never loses the ground under its feet.
 *  3. While a call is under way nothing is read, so a peer cannot make us store more than one message.
 */
#include "lib/varlink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/varlink_message.h"

#define VARLINK_MORE_WAITING ((size_t)1 << 20)
#define VARLINK_LISTEN_PAUSE_US 100000u /* after accept failed for want of descriptors or memory */
#define VARLINK_METHOD_MAX 256u         /* bytes of a method's full name */

struct varlink_listener {
    struct varlink_server *server;
    struct varlink_listener *next;
    struct loop_io *io;
    struct loop_timer *pause;
    char *path; /* NULL: given by descriptor */
    int fd;
};

struct varlink_connection {
    struct varlink_server *server;
    struct varlink_connection *next;
    struct varlink_connection *previous;
    struct loop_io *io;
    struct varlink_call *call;
    struct buffer in;
    struct buffer out;
    uid_t uid;
    int fd;
    bool ended;  /* the peer sends no more */
    bool broken; /* nothing can be sent any more */
};

struct varlink_call {
    struct varlink_connection *connection; /* NULL: the peer is gone */
    yyjson_doc *request;
    const char *interface; /* NULL: org.varlink.service */
    void (*on_gone)(struct varlink_call *, void *);
    void *gone_data;
    uid_t uid;
    bool more;
    bool oneway;
    bool in_method;
    bool answered;
};

struct varlink_server {
    struct loop *loop;
    struct varlink_identity identity;
    void *data;
    struct varlink_listener *listeners;
    struct varlink_connection *connections;
    size_t connection_count;
    size_t message_max;
};

/* ---- connections ---- */

static bool varlink_has_message(const struct varlink_connection *connection)
{
    return connection->in.len > 0 && memchr(connection->in.data, '\0', connection->in.len) != NULL;
}

static void varlink_connection_update(struct varlink_connection *connection)
{
    uint32_t events = 0;

    if (connection->call == NULL && !connection->ended)
        events |= EPOLLIN;
    /* A pipelined call that waits in `in` is taken up by the callback that EPOLLOUT brings at once. */
    if (connection->out.len > 0 || connection->broken ||
        (connection->call == NULL && varlink_has_message(connection)))
        events |= EPOLLOUT;
    loop_io_set(connection->io, events);
}

static void varlink_connection_flush(struct varlink_connection *connection)
{
    if (!connection->broken && varlink_send(connection->fd, &connection->out) < 0)
        connection->broken = true;
    if (connection->broken)
        buffer_done(&connection->out);
    varlink_connection_update(connection);
}

/* Parameters may hold keys: neither they nor the text they came as stay in memory that was freed. */
static void varlink_call_free(struct varlink_call *call)
{
    if (call->request->str_pool != NULL)
        explicit_bzero(call->request->str_pool, yyjson_doc_get_read_size(call->request));
    yyjson_doc_free(call->request);
    free(call);
}

static void varlink_connection_free(struct varlink_connection *connection)
{
    struct varlink_server *server = connection->server;
    struct varlink_call *call = connection->call;

    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    server->connection_count--;

    loop_io_del(connection->io);
    close(connection->fd);
    buffer_done(&connection->in);
    buffer_done(&connection->out);
    free(connection);

    if (call == NULL)
        return;
    call->connection = NULL;
    if (call->on_gone != NULL) {
        call->answered = true; /* a reply from inside on_gone must not free it a second time */
        call->on_gone(call, call->gone_data);
        varlink_call_free(call);
    }
}

/* ---- replies ---- */

/* The call is over: it leaves its connection, and goes when no method stands on it any more. */
static void varlink_call_end(struct varlink_call *call)
{
    struct varlink_connection *connection = call->connection;

    call->answered = true;
    call->connection = NULL;
    if (connection != NULL) {
        connection->call = NULL;
        varlink_connection_flush(connection);
    }
    if (!call->in_method)
        varlink_call_free(call);
}

static int varlink_call_write(struct varlink_call *call, const struct varlink_members *members,
                              yyjson_mut_doc *parameters)
{
    static const struct varlink_members broken = {.error =
                                                      "org.varlink.service.MethodNotImplemented"};
    size_t before;
    int ret;

    if (call->oneway || call->connection == NULL) {
        yyjson_mut_doc_free(parameters);
        return call->connection == NULL ? -EPIPE : 0;
    }
    before = call->connection->out.len;
    ret = varlink_message_append(&call->connection->out, members, parameters);
    if (ret < 0) {
        call->connection->out.len = before;
        /* A reply that cannot be written as JSON must still be a reply, or the caller waits for ever. */
        if (!members->continues &&
            varlink_message_append(&call->connection->out, &broken, NULL) < 0)
            call->connection->broken = true;
    }
    return ret;
}

void varlink_call_reply(struct varlink_call *call, yyjson_mut_doc *parameters)
{
    const struct varlink_members members = {0};

    if (call->answered) {
        yyjson_mut_doc_free(parameters);
        return;
    }
    varlink_call_write(call, &members, parameters);
    varlink_call_end(call);
}

int varlink_call_reply_more(struct varlink_call *call, yyjson_mut_doc *parameters)
{
    const struct varlink_members members = {.continues = true};
    int ret;

    if (call->answered || call->connection == NULL || call->connection->broken)
        ret = -EPIPE;
    else if (!call->more)
        ret = -EPROTO;
    else if (call->connection->out.len > VARLINK_MORE_WAITING)
        ret = -EAGAIN;
    else
        ret = 0;
    if (ret < 0) {
        yyjson_mut_doc_free(parameters);
        return ret;
    }
    ret = varlink_call_write(call, &members, parameters);
    varlink_connection_flush(call->connection);
    return ret;
}

void varlink_call_error(struct varlink_call *call, const char *name, yyjson_mut_doc *parameters)
{
    const struct varlink_members members = {.error = name};

    if (call->answered) {
        yyjson_mut_doc_free(parameters);
        return;
    }
    varlink_call_write(call, &members, parameters);
    varlink_call_end(call);
}

void varlink_call_error_str(struct varlink_call *call, const char *name, const char *member,
                            const char *value)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, member, value);
    varlink_call_error(call, name, doc);
}

void varlink_call_fail(struct varlink_call *call, const struct error *err)
{
    char name[VARLINK_METHOD_MAX + 8];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "code", error_is_set(err) ? err->code : "core.unknown");
    yyjson_mut_obj_add_strcpy(doc, root, "message", error_is_set(err) ? err->message : "failed");
    yyjson_mut_obj_add_strcpy(doc, root, "hint", error_is_set(err) ? err->hint : "");
    snprintf(name, sizeof(name), "%s.Failed",
             call->interface != NULL ? call->interface : "org.varlink.service");
    varlink_call_error(call, name, doc);
}

void varlink_call_invalid(struct varlink_call *call, const char *parameter)
{
    varlink_call_error_str(call, "org.varlink.service.InvalidParameter", "parameter", parameter);
}

uid_t varlink_call_uid(const struct varlink_call *call)
{
    return call->uid;
}

bool varlink_call_wants_more(const struct varlink_call *call)
{
    return call->more;
}

void varlink_call_set_gone(struct varlink_call *call,
                           void (*on_gone)(struct varlink_call *, void *), void *data)
{
    call->on_gone = on_gone;
    call->gone_data = data;
}

/* ---- dispatch ---- */

static bool varlink_may_call(const struct varlink_method *method, uid_t uid)
{
    if (uid == 0)
        return true;
    if (method->callers == NULL)
        return uid == geteuid();
    for (const uid_t *caller = method->callers; *caller != VARLINK_UID_END; caller++) {
        if (*caller == uid || *caller == VARLINK_UID_ANY)
            return true;
    }
    return false;
}

static const struct varlink_interface *varlink_find_interface(const struct varlink_server *server,
                                                              const char *method, size_t len)
{
    for (size_t i = 0; i < server->identity.interface_count; i++) {
        const struct varlink_interface *interface = &server->identity.interfaces[i];

        if (strlen(interface->name) == len && memcmp(interface->name, method, len) == 0)
            return interface;
    }
    return NULL;
}

static void varlink_dispatch(struct varlink_server *server, struct varlink_call *call,
                             const char *method, yyjson_val *params)
{
    const char *dot = strrchr(method, '.');
    const struct varlink_interface *interface;

    if (strcmp(method, "org.varlink.service.GetInfo") == 0) {
        varlink_get_info(&server->identity, call);
        return;
    }
    if (strcmp(method, "org.varlink.service.GetInterfaceDescription") == 0) {
        varlink_get_description(&server->identity, call, params);
        return;
    }
    interface = dot != NULL ? varlink_find_interface(server, method, (size_t)(dot - method)) : NULL;
    if (interface == NULL) {
        char name[VARLINK_METHOD_MAX + 1];

        snprintf(name, sizeof(name), "%.*s", dot != NULL ? (int)(dot - method) : 0, method);
        varlink_call_error_str(call, "org.varlink.service.InterfaceNotFound", "interface", name);
        return;
    }
    call->interface = interface->name;
    for (size_t i = 0; i < interface->method_count; i++) {
        if (strcmp(interface->methods[i].name, method) != 0)
            continue;
        if (!varlink_may_call(&interface->methods[i], call->uid)) {
            varlink_call_error(call, "org.varlink.service.PermissionDenied", NULL);
            return;
        }
        interface->methods[i].fn(call, params, server->data);
        return;
    }
    varlink_call_error_str(call, "org.varlink.service.MethodNotFound", "method", method);
}

struct varlink_request {
    const char *method;
    yyjson_val *parameters;
    bool more;
    bool oneway;
    bool upgrade;
};

static const struct json_field varlink_request_fields[] = {
    {"method", JSON_STRING, offsetof(struct varlink_request, method), true, 1, VARLINK_METHOD_MAX},
    {"parameters", JSON_OBJECT, offsetof(struct varlink_request, parameters), false, 0, 0},
    {"more", JSON_BOOL, offsetof(struct varlink_request, more), false, 0, 0},
    {"oneway", JSON_BOOL, offsetof(struct varlink_request, oneway), false, 0, 0},
    {"upgrade", JSON_BOOL, offsetof(struct varlink_request, upgrade), false, 0, 0},
};

static const char varlink_empty_object[] = "{\"parameters\":{}}";

/* One message without its NUL. False: the peer does not speak varlink. */
static bool varlink_handle(struct varlink_connection *connection, const char *text, size_t len)
{
    struct varlink_request request = {0};
    yyjson_doc *empty = NULL;
    struct varlink_call *call;
    yyjson_doc *doc;

    doc = json_parse(text, len, connection->server->message_max, "varlink.message", NULL);
    if (doc == NULL)
        return false;
    if (json_read(yyjson_doc_get_root(doc), varlink_request_fields,
                  sizeof(varlink_request_fields) / sizeof(varlink_request_fields[0]), 0, &request,
                  "varlink.message", NULL) < 0 ||
        request.upgrade) {
        yyjson_doc_free(doc);
        return false;
    }
    if (request.parameters == NULL) {
        empty = yyjson_read(varlink_empty_object, sizeof(varlink_empty_object) - 1, 0);
        request.parameters = yyjson_obj_get(yyjson_doc_get_root(empty), "parameters");
    }
    call = calloc(1, sizeof(*call));
    if (call == NULL || request.parameters == NULL) {
        free(call);
        yyjson_doc_free(empty);
        yyjson_doc_free(doc);
        return false;
    }
    call->connection = connection;
    call->uid = connection->uid;
    call->more = request.more;
    call->oneway = request.oneway;
    call->in_method = true;
    connection->call = call;
    /* Only one document must live on; an empty one has no method name to keep. */
    if (empty != NULL) {
        char method[VARLINK_METHOD_MAX + 1];

        snprintf(method, sizeof(method), "%s", request.method);
        yyjson_doc_free(doc);
        call->request = empty;
        varlink_dispatch(connection->server, call, method, request.parameters);
    } else {
        call->request = doc;
        varlink_dispatch(connection->server, call, request.method, request.parameters);
    }
    call->in_method = false;
    if (call->answered)
        varlink_call_free(call);
    return true;
}

/* Takes up what is in the buffer. False: the connection must go. */
static bool varlink_connection_process(struct varlink_connection *connection)
{
    while (connection->call == NULL && connection->in.len > 0) {
        struct buffer *in = &connection->in;
        const uint8_t *nul = memchr(in->data, '\0', in->len);
        size_t len;

        if (nul == NULL)
            return in->len < in->max;
        len = (size_t)(nul - in->data);
        if (!varlink_handle(connection, (const char *)in->data, len))
            return false;
        explicit_bzero(in->data, len);
        buffer_consume(in, len + 1);
        /* Answers that pile up make a peer wait that sends without reading. */
        if (connection->out.len > VARLINK_MORE_WAITING)
            break;
    }
    varlink_shrink(&connection->in);
    return true;
}

static void varlink_connection_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct varlink_connection *connection = data;
    int got = 0;

    (void)io;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0 && (events & EPOLLIN) == 0) {
        varlink_connection_free(connection);
        return;
    }
    if (connection->out.len > 0)
        varlink_connection_flush(connection);
    if ((events & EPOLLIN) != 0 && connection->call == NULL)
        got = varlink_receive(fd, &connection->in);
    if (got == -ECONNRESET)
        connection->ended = true;
    else if (got < 0)
        connection->broken = true;
    if (!connection->broken && !varlink_connection_process(connection))
        connection->broken = true;
    /* Half closed: what was asked before is still answered. */
    if (connection->broken || (connection->ended && connection->call == NULL &&
                               connection->out.len == 0 && !varlink_has_message(connection))) {
        varlink_connection_free(connection);
        return;
    }
    varlink_connection_update(connection);
}

static int varlink_connection_new(struct varlink_server *server, int fd)
{
    struct varlink_connection *connection = calloc(1, sizeof(*connection));
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    int ret;

    if (connection == NULL)
        return -ENOMEM;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        ret = -errno;
        free(connection);
        return ret;
    }
    connection->server = server;
    connection->fd = fd;
    connection->uid = peer.uid;
    buffer_init(&connection->in, server->message_max);
    buffer_init(&connection->out, VARLINK_MESSAGE_MAX + 2 * VARLINK_MORE_WAITING);
    ret = loop_io_add(server->loop, fd, EPOLLIN, varlink_connection_ready, connection,
                      &connection->io);
    if (ret < 0) {
        free(connection);
        return ret;
    }
    connection->next = server->connections;
    if (server->connections != NULL)
        server->connections->previous = connection;
    server->connections = connection;
    server->connection_count++;
    return 0;
}

/* ---- listening ---- */

static void varlink_listener_resume(struct loop_timer *timer, void *data)
{
    struct varlink_listener *listener = data;

    (void)timer;
    loop_io_set(listener->io, EPOLLIN);
}

static void varlink_listener_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct varlink_listener *listener = data;
    struct varlink_server *server = listener->server;
    int peer;

    (void)events;
    peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0) {
        /* Out of descriptors: the socket stays readable, and asking again at once would spin. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            loop_io_set(io, 0);
            loop_timer_in(listener->pause, VARLINK_LISTEN_PAUSE_US);
        }
        return;
    }
    if (server->connection_count >= VARLINK_CONNECTIONS_MAX ||
        varlink_connection_new(server, peer) < 0)
        close(peer);
}

int varlink_server_add_fd(struct varlink_server *server, int listen_fd)
{
    struct varlink_listener *listener = calloc(1, sizeof(*listener));
    int ret;

    if (listener == NULL) {
        close(listen_fd);
        return -ENOMEM;
    }
    listener->server = server;
    listener->fd = listen_fd;
    ret = loop_timer_add(server->loop, varlink_listener_resume, listener, &listener->pause);
    if (ret == 0)
        ret = loop_io_add(server->loop, listen_fd, EPOLLIN, varlink_listener_ready, listener,
                          &listener->io);
    if (ret < 0) {
        loop_timer_del(listener->pause);
        close(listen_fd);
        free(listener);
        return ret;
    }
    listener->next = server->listeners;
    server->listeners = listener;
    return 0;
}

int varlink_server_listen(struct varlink_server *server, const char *path, mode_t mode,
                          struct error *err)
{
    int fd = varlink_listen(path, mode, err);
    int ret;

    if (fd < 0)
        return fd;
    ret = varlink_server_add_fd(server, fd);
    if (ret < 0)
        return error_set(err, -ret, "varlink.listen", NULL, "%s: %s", path, strerror(-ret));
    server->listeners->path = strdup(path);
    return 0;
}

int varlink_server_new(struct loop *loop, const char *product, const char *version,
                       const struct varlink_interface *interfaces, size_t count, void *data,
                       struct varlink_server **ret_server)
{
    struct varlink_server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return -ENOMEM;
    server->loop = loop;
    server->identity.product = product;
    server->identity.version = version;
    server->identity.interfaces = interfaces;
    server->identity.interface_count = count;
    server->data = data;
    server->message_max = VARLINK_MESSAGE_MAX;
    *ret_server = server;
    return 0;
}

void varlink_server_set_message_max(struct varlink_server *server, size_t max)
{
    server->message_max = max;
}

void varlink_server_free(struct varlink_server *server)
{
    if (server == NULL)
        return;
    while (server->listeners != NULL) {
        struct varlink_listener *listener = server->listeners;

        server->listeners = listener->next;
        loop_io_del(listener->io);
        loop_timer_del(listener->pause);
        close(listener->fd);
        if (listener->path != NULL)
            unlink(listener->path);
        free(listener->path);
        free(listener);
    }
    for (struct varlink_connection *connection = server->connections, *next; connection != NULL;
         connection = next) {
        next = connection->next;
        varlink_connection_free(connection);
    }
    free(server);
}
