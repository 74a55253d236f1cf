/*
 * server.c - see server.h: listeners, accepting, the memory budget, start and end.
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "command.h"
#include "lib/http/server.h"
#include "lib/log.h"
#include "replica.h"
#include "session.h"
#include "tls.h"

#define ACCEPTS_PER_TURN 64 /* so that a flood of connections leaves room for signals and metrics */
#define DESCRIPTORS_BESIDE 256u /* for segments, listeners and metrics */

/* ---- the memory budget ---- */

bool memory_take(struct memory *memory, size_t len)
{
    size_t used = atomic_load_explicit(&memory->used, memory_order_relaxed);

    do {
        if (len > memory->max - used)
            return false;
    } while (!atomic_compare_exchange_weak(&memory->used, &used, used + len));
    return true;
}

static void wake_starved(struct worker *worker, void *data, uint64_t argument)
{
    (void)data;
    (void)argument;
    session_wake_starved(worker);
}

void server_memory_give(struct server *server, size_t len)
{
    if (len == 0)
        return;
    atomic_fetch_sub(&server->memory.used, len);
    if (atomic_load(&server->memory.waiters) == 0)
        return;
    for (unsigned i = 0; i < server->worker_count; i++)
        (void)worker_post(&server->workers[i], wake_starved, NULL, 0);
}

/* ---- accepting ---- */

static void adopt(struct worker *worker, void *data, uint64_t argument)
{
    const struct server_listener *listener = data;

    session_adopt(worker, (int)argument, listener->tls ? worker->server->tls : NULL,
                  listener->either, listener->local);
}

static struct worker *pick_worker(struct server *server)
{
    struct worker *best = &server->workers[0];

    for (unsigned i = 1; i < server->worker_count; i++) {
        if (atomic_load_explicit(&server->workers[i].session_count, memory_order_relaxed) <
            atomic_load_explicit(&best->session_count, memory_order_relaxed))
            best = &server->workers[i];
    }
    return best;
}

static void refuse(struct server *server, int fd)
{
    static const char text[] =
        "-ERR kv.too-many-clients the server has as many clients as it takes\r\n";

    /* best effort: the connection is closed either way */
    (void)!send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    atomic_fetch_add_explicit(&server->clients_refused, 1, memory_order_relaxed);
}

static void accepted(struct server_listener *listener, int fd)
{
    struct server *server = listener->server;
    struct worker *worker;
    int one = 1;

    if (atomic_load(&server->clients) >= server->options.max_clients) {
        refuse(server, fd);
        return;
    }
    if (!listener->local) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    worker = pick_worker(server);
    /* counted here, so that two accepts of one turn see each other */
    atomic_fetch_add(&server->clients, 1);
    atomic_fetch_add(&worker->session_count, 1);
    atomic_fetch_add_explicit(&server->clients_lifetime, 1, memory_order_relaxed);
    if (worker_post(worker, adopt, listener, (uint64_t)fd) < 0) {
        atomic_fetch_sub(&server->clients, 1);
        atomic_fetch_sub(&worker->session_count, 1);
        refuse(server, fd);
    }
}

/* Out of descriptors the queue of the kernel would wake us for ever: give one up, take the caller, tell him, close. */
static void shed(struct server_listener *listener)
{
    struct server *server = listener->server;
    int fd;

    if (server->spare_fd < 0)
        return;
    close(server->spare_fd);
    fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        refuse(server, fd);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void listener_ready(struct loop_io *io, int listen_fd, uint32_t events, void *data)
{
    struct server_listener *listener = data;

    (void)io;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            shed(listener);
        else if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return;
        else if (fd >= 0)
            accepted(listener, fd);
    }
}

/* ---- listening ---- */

static int listen_error(struct error *err, int r, const char *what)
{
    return error_set(err, r, "kv.listen",
                     "give tcp:ADDRESS:PORT, plain:ADDRESS:PORT or unix:PATH that is free, or fd:N",
                     "cannot listen on %s: %s", what, strerror(r));
}

static int listen_unix(struct server_listener *listener, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    mode_t mask;
    int fd, r = 0;

    if (strlen(path) >= sizeof(address.sun_path) || path[0] == '\0')
        return -EINVAL;
    memcpy(address.sun_path, path, strlen(path) + 1);
    /* what a killed server left behind; anything but a socket is somebody's file */
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode))
        unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    mask = umask(0117); /* owner and group, as the daemons' own sockets */
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1024) < 0)
        r = -errno;
    umask(mask);
    if (r < 0) {
        close(fd);
        return r;
    }
    memcpy(listener->path, address.sun_path, sizeof(listener->path));
    listener->local = true;
    return fd;
}

static int listen_tcp(const char *text)
{
    struct sockaddr_storage address;
    socklen_t len;
    int one = 1, fd, r = address_parse(text, true, &address, &len);

    if (r < 0)
        return r;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 1024) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* A socket that somebody else made and keeps, as core0 does with ListenStream=: callers wait in it while kvd is replaced. */
static int listen_given(struct server_listener *listener, const char *text)
{
    int domain, listens = 0, fd;
    socklen_t len = sizeof(int);
    uint64_t number;

    if (resp_number((const uint8_t *)text, strlen(text), 1023, &number) < 0 ||
        number <= STDERR_FILENO)
        return -EINVAL;
    fd = (int)number;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
        return -errno;
    len = sizeof(domain);
    if (listens == 0 || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
        return -EINVAL;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    listener->local = domain == AF_UNIX;
    return fd;
}

static int listener_add(struct server *server, const char *text, struct error *err)
{
    struct server_listener *listener = &server->listeners[server->listener_count];
    int fd = -EINVAL, r;

    listener->server = server;
    if (strncmp(text, "unix:", 5) == 0) {
        fd = listen_unix(listener, text + 5);
    } else if (strncmp(text, "tcp:", 4) == 0) {
        fd = listen_tcp(text + 4);
        listener->tls = server->tls != NULL;
    } else if (strncmp(text, "either:", 7) == 0) {
        fd = listen_tcp(text + 7);
        listener->tls = listener->either = server->tls != NULL;
    } else if (strncmp(text, "plain:", 6) == 0) {
        fd = listen_tcp(text + 6);
    } else if (strncmp(text, "fd:", 3) == 0) {
        fd = listen_given(listener, text + 3);
        listener->tls = !listener->local && server->tls != NULL;
    }
    if (fd < 0)
        return listen_error(err, -fd, text);
    listener->fd = fd;
    server->listener_count++;
    r = loop_io_add(server->loop, fd, EPOLLIN, listener_ready, listener, &listener->io);
    return r < 0 ? listen_error(err, -r, text) : 0;
}

uint16_t server_port(const struct server *server, unsigned listener)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage space;
    } address = {.space = {.ss_family = AF_UNSPEC}};
    socklen_t len = sizeof(address);

    if (listener >= server->listener_count ||
        getsockname(server->listeners[listener].fd, &address.any, &len) < 0)
        return 0;
    if (address.any.sa_family == AF_INET)
        return ntohs(address.v4.sin_port);
    return address.any.sa_family == AF_INET6 ? ntohs(address.v6.sin6_port) : 0;
}

/* ---- start and end ---- */

/* As many descriptors as we may have, and no more clients than they allow. */
static void raise_descriptors(struct server *server)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < (rlim_t)server->options.max_clients + DESCRIPTORS_BESIDE) {
        unsigned fit = limit.rlim_cur / 2 > DESCRIPTORS_BESIDE
                           ? (unsigned)limit.rlim_cur - DESCRIPTORS_BESIDE
                           : DESCRIPTORS_BESIDE;
        log_warn("room for %u clients: the limit of open files is %llu", fit,
                 (unsigned long long)limit.rlim_cur);
        server->options.max_clients = fit;
    }
}

static void stop_asked(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct server *server = data;

    (void)io;
    (void)fd;
    (void)events;
    loop_exit(server->loop, 0);
}

void server_stop(struct server *server)
{
    uint64_t one = 1;

    if (write(server->stop_fd, &one, sizeof(one)) < 0)
        log_err("the server cannot be stopped: %s", strerror(errno));
}

int server_new(const struct server_options *options, struct store *store, struct loop *loop,
               struct server **ret_server, struct error *err)
{
    struct server *server = calloc(1, sizeof(*server));
    int r = 0;

    if (server == NULL)
        return error_set(err, ENOMEM, "kv.no-memory", "", "no memory for the server");
    server->options = *options;
    server->store = store;
    server->loop = loop;
    server->memory.max = options->max_memory;
    server->started_s = (uint64_t)time(NULL);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    raise_descriptors(server);
    if (followers_new(server) < 0 || server->stop_fd < 0 ||
        loop_io_add(loop, server->stop_fd, EPOLLIN, stop_asked, server, &server->stop_io) < 0)
        r = error_set(err, ENOMEM, "kv.no-memory", "", "no memory for the server");
    if (r == 0)
        r = command_jobs_start(server, err);
    if (r == 0 && options->tls_cert != NULL)
        r = tls_new(options->tls_cert, options->tls_key, &server->tls, err);
    for (unsigned i = 0; r == 0 && i < options->workers; i++) {
        server->worker_count++;
        r = worker_start(&server->workers[i], server, i, err);
    }
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int server_listen(struct server *server, struct error *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < server->options.listener_count; i++)
        r = listener_add(server, server->options.listeners[i], err);
    return r;
}

void server_free(struct server *server)
{
    if (server == NULL)
        return;
    for (unsigned i = 0; i < server->listener_count; i++) {
        loop_io_del(server->listeners[i].io);
        close(server->listeners[i].fd);
        if (server->listeners[i].path[0] != '\0')
            unlink(server->listeners[i].path);
    }
    http_server_free(server->http);
    replica_stop(server);
    /* jobs post to workers: they end first */
    command_jobs_stop(server);
    for (unsigned i = 0; i < server->worker_count; i++)
        worker_join(&server->workers[i]);
    followers_free(server);
    tls_free(server->tls);
    loop_io_del(server->stop_io);
    if (server->stop_fd >= 0)
        close(server->stop_fd);
    if (server->spare_fd >= 0)
        close(server->spare_fd);
    free(server);
}
