/*
 * server_worker.c - one thread with an event loop: takes posts, drives its sessions, sends answers at the end of a turn.
 *
 * A turn is: events (requests are read and executed), posts of other threads, then everything that the turn made ready:
 * the engine is told once that the turn's writes may go, and each session sends what it has with one call.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/log.h"
#include "server.h"
#include "session.h"

#define WORKER_BLOCKS_KEPT 256 /* free blocks kept for the next busy session: 4 MiB */
#define WORKER_TICK ((uint64_t)1000000)

uint8_t *worker_block_take(struct worker *worker)
{
    if (worker->block_count > 0)
        return worker->blocks[--worker->block_count];
    return malloc(SESSION_BLOCK);
}

void worker_block_give(struct worker *worker, uint8_t *block)
{
    if (block == NULL)
        return;
    if (worker->block_count < WORKER_BLOCKS_KEPT)
        worker->blocks[worker->block_count++] = block;
    else
        free(block);
}

int worker_post(struct worker *worker, worker_fn *fn, void *data, uint64_t argument)
{
    uint64_t one = 1;
    bool wake;

    pthread_mutex_lock(&worker->lock);
    if (worker->post_count == worker->post_capacity) {
        size_t capacity = worker->post_capacity == 0 ? 64 : worker->post_capacity * 2;
        struct worker_post *posts = realloc(worker->posts, capacity * sizeof(*posts));

        if (posts == NULL) {
            pthread_mutex_unlock(&worker->lock);
            return -ENOMEM;
        }
        worker->posts = posts;
        worker->post_capacity = capacity;
    }
    wake = worker->post_count == 0;
    worker->posts[worker->post_count++] =
        (struct worker_post){.fn = fn, .data = data, .argument = argument};
    pthread_mutex_unlock(&worker->lock);
    if (wake && write(worker->wake_fd, &one, sizeof(one)) < 0)
        return -errno;
    return 0;
}

static void worker_take_posts(struct worker *worker)
{
    struct worker_post *posts;
    size_t count, capacity;

    pthread_mutex_lock(&worker->lock);
    posts = worker->posts;
    count = worker->post_count;
    capacity = worker->post_capacity;
    worker->posts = worker->taken;
    worker->post_capacity = worker->taken_capacity;
    worker->post_count = 0;
    pthread_mutex_unlock(&worker->lock);
    for (size_t i = 0; i < count; i++)
        posts[i].fn(worker, posts[i].data, posts[i].argument);
    worker->taken = posts;
    worker->taken_capacity = capacity;
}

static void worker_woken(struct loop_io *io, int fd, uint32_t events, void *data)
{
    uint64_t count;

    (void)io;
    (void)events;
    if (read(fd, &count, sizeof(count)) <= 0) /* an eventfd is empty after one */
        return;
    worker_take_posts(data);
    /* what the store has just made safe is sent before more is read: those clients go on while we work for others */
    session_flush_ready(data);
}

static void worker_tick(struct loop_timer *timer, void *data)
{
    struct worker *worker = data;

    session_tick_all(worker);
    loop_timer_in(timer, WORKER_TICK);
}

static void worker_alarm(struct loop_timer *timer, void *data)
{
    (void)timer;
    session_wake_late(data);
}

static void *worker_main(void *data)
{
    struct worker *worker = data;

    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        int r = loop_step(worker->loop, worker->lists[SESSION_READY] != NULL ? 0 : -1);

        if (r < 0) {
            log_err("worker %u: %s", worker->index, strerror(-r));
            break;
        }
        session_flush_ready(worker);
        worker->turn++;
    }
    worker_take_posts(worker); /* jobs that came back hold namespaces */
    session_free_all(worker);
    return NULL;
}

int worker_start(struct worker *worker, struct server *server, unsigned index, struct error *err)
{
    int r;

    worker->server = server;
    worker->index = index;
    worker->wake_fd = -1;
    pthread_mutex_init(&worker->lock, NULL);
    worker->scratch = malloc(SESSION_BLOCK);
    worker->request = malloc(sizeof(*worker->request));
    worker->ahead = malloc(sizeof(*worker->ahead));
    worker->blocks = calloc(WORKER_BLOCKS_KEPT, sizeof(*worker->blocks));
    if (worker->scratch == NULL || worker->request == NULL || worker->ahead == NULL ||
        worker->blocks == NULL)
        return error_set(err, ENOMEM, "kv.no-memory", "", "no memory for a worker");
    r = loop_new(&worker->loop);
    if (r == 0) {
        worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = worker->wake_fd < 0 ? -errno : 0;
    }
    if (r == 0)
        r = loop_io_add(worker->loop, worker->wake_fd, EPOLLIN, worker_woken, worker, NULL);
    if (r == 0)
        r = loop_timer_add(worker->loop, worker_tick, worker, &worker->timer);
    if (r == 0)
        r = loop_timer_add(worker->loop, worker_alarm, worker, &worker->alarm);
    if (r == 0)
        r = store_notify(server->store, worker->wake_fd);
    if (r == 0) {
        loop_timer_set(worker->timer, loop_clock() + WORKER_TICK);
        r = -pthread_create(&worker->thread, NULL, worker_main, worker);
    }
    if (r < 0)
        return error_set(err, -r, "kv.no-worker", "", "a worker cannot start: %s", strerror(-r));
    worker->started = true;
    return 0;
}

static void worker_nothing(struct worker *worker, void *data, uint64_t argument)
{
    (void)worker;
    (void)data;
    (void)argument;
}

void worker_join(struct worker *worker)
{
    uint64_t one = 1;

    if (worker->started) {
        atomic_store(&worker->stop, true);
        /* the descriptor itself, so that it cannot fail for memory */
        if (worker_post(worker, worker_nothing, NULL, 0) < 0 &&
            write(worker->wake_fd, &one, sizeof(one)) < 0)
            log_err("worker %u cannot be woken: %s", worker->index, strerror(errno));
        pthread_join(worker->thread, NULL);
        worker->started = false;
    }
    loop_free(worker->loop);
    if (worker->wake_fd >= 0) {
        store_notify_remove(worker->server->store, worker->wake_fd);
        close(worker->wake_fd);
    }
    while (worker->block_count > 0)
        free(worker->blocks[--worker->block_count]);
    free(worker->blocks);
    for (unsigned i = 0; i < WORKER_SPARES; i++)
        free(worker->spares[i].memory);
    free(worker->scratch);
    free(worker->request);
    free(worker->ahead);
    free(worker->posts);
    free(worker->taken);
    pthread_mutex_destroy(&worker->lock);
}
