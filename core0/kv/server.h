/*
 * server.h - the key-value server: listeners on the main thread, sessions on N workers, one memory budget.
 *
 * The main thread accepts, serves the metrics page and takes signals; a worker is a thread with an event loop of its own
 * that owns its sessions. Threads speak to a worker only by worker_post(). TLS sessions of all workers share one
 * configuration: mbedTLS is built with locks (packages/mbedtls).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"
#include "lib/tls/transport.h"
#include "store.h"

#define SERVER_LISTENERS_MAX 16
#define SERVER_WORKERS_MAX 64
#define SERVER_PASSWORD_MAX 128 /* bytes, as 0-db */
#define SESSION_BLOCK                                                                              \
    ((size_t)16 * 1024) /* what a busy session has in each direction without asking */

#define WORKER_SPARES 8
#define WORKER_SPARE_MAX ((size_t)2 << 20) /* bytes of each: at most 16 MiB a worker */

struct session;
struct worker;

/* Lists of a worker that a session may be in. */
enum session_list {
    SESSION_ALL,
    SESSION_READY,   /* has answers to send or requests to go on with, after this turn */
    SESSION_TURN,    /* of these, those whose turn it is now */
    SESSION_HELD,    /* waits for the store to answer a ticket */
    SESSION_STARVED, /* waits for the memory budget */
    SESSION_WAITING, /* inside WAIT, WAITREPLICAS, FOLLOW */
    SESSION_LISTS
};

struct server_options {
    const char
        *listeners[SERVER_LISTENERS_MAX]; /* "tcp:ADDR:PORT", "plain:ADDR:PORT", "unix:PATH" */
    unsigned listener_count;
    unsigned workers;
    enum store_mode mode; /* of new namespaces */
    size_t max_value;     /* bytes of one value */
    size_t max_memory;    /* bytes of all connections' buffers beyond their first block */
    unsigned max_clients;
    const char *tls_cert; /* both or none */
    const char *tls_key;
    const char *metrics; /* "ADDR:PORT" or NULL */
    uint64_t
        request_us; /* a request must be whole this long after its first byte; answers must move as often */
    char password[SERVER_PASSWORD_MAX + 1]; /* the administrator's; "": everybody is one */
};

/* Bytes in use against a limit; waiters are woken when some come back. */
struct memory {
    atomic_size_t used;
    size_t max;
    atomic_uint waiters;
};

/* What the metrics page and INFO count. Written by workers, each its own; summed by the reader. */
struct worker_counters {
    atomic_uint_fast64_t commands, failed, unauthorized, timed_out, received, sent;
};

typedef void worker_fn(struct worker *worker, void *data, uint64_t argument);

struct worker_post {
    worker_fn *fn;
    void *data;
    uint64_t argument;
};

struct worker {
    struct server *server;
    unsigned index;
    pthread_t thread;
    bool started;
    struct loop *loop;
    int wake_fd; /* eventfd */
    pthread_mutex_t lock;
    struct worker_post *posts; /* under lock */
    size_t post_count, post_capacity;
    struct worker_post
        *taken; /* the worker's own: the queue of the turn before, its memory used again */
    size_t taken_capacity;
    atomic_bool stop;
    atomic_uint session_count;
    struct session *lists[SESSION_LISTS];
    uint64_t turn;
    uint64_t answered;        /* ticket, as of the last flush */
    bool submit;              /* this turn wrote something */
    bool failed;              /* the store's disk failed, as of the last flush */
    struct loop_timer *timer; /* looks for sessions whose time is over, once a second */
    struct loop_timer *alarm; /* the earliest end of a WAIT */
    uint8_t *scratch;         /* SESSION_BLOCK bytes that idle sessions read into */
    struct resp_request *request;
    struct resp_request *ahead; /* of a request that is only looked at */
    void **blocks;              /* free blocks of SESSION_BLOCK bytes */
    size_t block_count;
    struct worker_spare { /* large buffers that nobody has now */
        uint8_t *memory;
        size_t capacity;
    } spares[WORKER_SPARES];
    struct worker_counters counters;
};

struct replica;
struct followers;
struct command_jobs;
struct http_server;

struct server {
    struct server_options options;
    struct store *store;
    struct loop *loop;
    struct tls *tls;
    struct memory memory;
    struct worker workers[SERVER_WORKERS_MAX];
    unsigned worker_count;
    struct server_listener {
        struct server *server;
        int fd;
        struct loop_io *io;
        bool tls, local;
        bool either;    /* plain text as well */
        char path[108]; /* of a Unix socket, removed at the end */
    } listeners[SERVER_LISTENERS_MAX];
    unsigned listener_count;
    int spare_fd; /* given up to accept and close a connection when descriptors run out */
    atomic_uint clients;
    atomic_uint_fast64_t clients_lifetime;
    atomic_uint_fast64_t clients_refused;
    atomic_uint waiters; /* sessions inside WAIT, all workers */
    uint64_t started_s;  /* Unix time */
    struct http_server *http;
    uint16_t metrics_port;
    struct replica *replica; /* we follow; NULL: we are the primary */
    struct followers *followers;
    struct command_jobs *jobs;
    struct loop_io *stop_io;
    int stop_fd; /* eventfd: somebody asked the server to end */
};

int server_new(const struct server_options *options, struct store *store, struct loop *loop,
               struct server **ret_server, struct error *err);
int server_listen(struct server *server, struct error *err); /* the doors open */
void server_free(struct server *server);
/* The port of a tcp listener (for ":0"). */
uint16_t server_port(const struct server *server, unsigned listener);

/* From any thread: ends the loop of the main thread. */
void server_stop(struct server *server);

/* ---- workers (server_worker.c) ---- */
int worker_start(struct worker *worker, struct server *server, unsigned index, struct error *err);
void worker_join(struct worker *worker); /* asks it to end and waits */
/* From any thread: runs fn on the worker's thread. Drops the post when memory is out (posts are hints or retried). */
int worker_post(struct worker *worker, worker_fn *fn, void *data, uint64_t argument);
uint8_t *worker_block_take(struct worker *worker); /* SESSION_BLOCK bytes or NULL */
void worker_block_give(struct worker *worker, uint8_t *block);

/* ---- the memory budget ---- */
bool memory_take(struct memory *memory, size_t len);
/* Gives back; wakes the sessions that starve, of every worker. */
void server_memory_give(struct server *server, size_t len);
