/*
 * loop.c - see loop.h: epoll, a heap of timers, signalfd, pidfds.
 *
 * Invariants
 *  1. A source that is deleted is marked dead at once and freed at the end of the outermost turn, so a
 *     callback may delete any source, and an event that epoll already returned for it is skipped.
 *  2. heap[i]->index == i for every armed timer; a stopped timer has index SIZE_MAX.
 *  3. The heap always has room for every timer that exists: arming one cannot fail.
 */
#include "lib/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOP_EVENTS 64 /* events taken from the kernel per turn */
#define LOOP_SIGNAL_MAX 65

enum loop_kind { LOOP_IO, LOOP_TIMER, LOOP_CHILD, LOOP_DEFER };

/* What every source begins with; all sources of a loop hang in one list, so that loop_free finds them. */
struct loop_source {
    struct loop *loop;
    struct loop_source *next;
    struct loop_source *previous;
    enum loop_kind kind;
    bool dead;
    void *data;
};

struct loop_io {
    struct loop_source source;
    loop_io_fn *fn;
    int fd;
    uint32_t events;
};

struct loop_timer {
    struct loop_source source;
    loop_timer_fn *fn;
    uint64_t deadline;
    size_t index;
};

struct loop_child {
    struct loop_source source;
    loop_child_fn *fn;
    struct loop_io *io;
    pid_t pid;
    int pidfd;
};

struct loop_defer {
    struct loop_source source;
    loop_defer_fn *fn;
};

struct loop_signal_slot {
    loop_signal_fn *fn;
    void *data;
};

struct loop {
    int epoll_fd;
    int signal_fd;
    struct loop_io *signal_io;
    sigset_t signals;
    struct loop_signal_slot slots[LOOP_SIGNAL_MAX];
    struct loop_source *sources;
    struct loop_source *graveyard; /* dead sources, linked by next */
    struct loop_source *deferred;  /* oldest first, linked by next */
    struct loop_source **deferred_tail;
    struct loop_timer **heap;
    size_t heap_len;
    size_t heap_capacity;
    size_t timer_count;
    uint64_t now;
    int depth; /* turns on the stack */
    bool exit_asked;
    int exit_code;
};

uint64_t loop_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t loop_now(const struct loop *loop)
{
    return loop->now;
}

/* ---- sources ---- */

static void *loop_source_new(struct loop *loop, enum loop_kind kind, size_t size, void *data)
{
    struct loop_source *source = calloc(1, size);

    if (source == NULL)
        return NULL;
    source->loop = loop;
    source->kind = kind;
    source->data = data;
    source->next = loop->sources;
    if (loop->sources != NULL)
        loop->sources->previous = source;
    loop->sources = source;
    return source;
}

static void loop_source_unlink(struct loop_source *source)
{
    if (source->previous != NULL)
        source->previous->next = source->next;
    else
        source->loop->sources = source->next;
    if (source->next != NULL)
        source->next->previous = source->previous;
    source->next = NULL;
    source->previous = NULL;
}

static void loop_bury(struct loop *loop)
{
    while (loop->graveyard != NULL) {
        struct loop_source *source = loop->graveyard;

        loop->graveyard = source->next;
        free(source);
    }
}

static void loop_source_kill(struct loop_source *source)
{
    struct loop *loop = source->loop;

    loop_source_unlink(source);
    source->dead = true;
    source->next = loop->graveyard;
    loop->graveyard = source;
    if (loop->depth == 0)
        loop_bury(loop);
}

/* ---- descriptors ---- */

int loop_io_add(struct loop *loop, int fd, uint32_t events, loop_io_fn *fn, void *data,
                struct loop_io **ret_io)
{
    struct loop_io *io = loop_source_new(loop, LOOP_IO, sizeof(*io), data);
    struct epoll_event event = {.events = events, .data.ptr = io};

    if (io == NULL)
        return -ENOMEM;
    io->fn = fn;
    io->fd = fd;
    io->events = events;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int ret = -errno;

        loop_source_unlink(&io->source);
        free(io);
        return ret;
    }
    if (ret_io != NULL)
        *ret_io = io;
    return 0;
}

int loop_io_set(struct loop_io *io, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = io};

    if (io->events == events)
        return 0;
    if (epoll_ctl(io->source.loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event) < 0)
        return -errno;
    io->events = events;
    return 0;
}

void loop_io_del(struct loop_io *io)
{
    if (io == NULL || io->source.dead)
        return;
    epoll_ctl(io->source.loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    loop_source_kill(&io->source);
}

/* ---- timers: a binary heap by deadline ---- */

static void loop_heap_place(struct loop *loop, struct loop_timer *timer, size_t index)
{
    loop->heap[index] = timer;
    timer->index = index;
}

static void loop_heap_up(struct loop *loop, struct loop_timer *timer, size_t index)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;

        if (loop->heap[parent]->deadline <= timer->deadline)
            break;
        loop_heap_place(loop, loop->heap[parent], index);
        index = parent;
    }
    loop_heap_place(loop, timer, index);
}

static void loop_heap_down(struct loop *loop, struct loop_timer *timer, size_t index)
{
    for (;;) {
        size_t child = index * 2 + 1;

        if (child >= loop->heap_len)
            break;
        if (child + 1 < loop->heap_len &&
            loop->heap[child + 1]->deadline < loop->heap[child]->deadline)
            child++;
        if (timer->deadline <= loop->heap[child]->deadline)
            break;
        loop_heap_place(loop, loop->heap[child], index);
        index = child;
    }
    loop_heap_place(loop, timer, index);
}

static void loop_heap_remove(struct loop *loop, struct loop_timer *timer)
{
    size_t index = timer->index;
    struct loop_timer *last;

    if (index == SIZE_MAX)
        return;
    last = loop->heap[--loop->heap_len];
    timer->index = SIZE_MAX;
    if (last == timer)
        return;
    if (index > 0 && loop->heap[(index - 1) / 2]->deadline > last->deadline)
        loop_heap_up(loop, last, index);
    else
        loop_heap_down(loop, last, index);
}

int loop_timer_add(struct loop *loop, loop_timer_fn *fn, void *data, struct loop_timer **ret_timer)
{
    struct loop_timer *timer;

    if (loop->timer_count == loop->heap_capacity) {
        size_t capacity = loop->heap_capacity == 0 ? 16 : loop->heap_capacity * 2;
        struct loop_timer **heap = realloc(loop->heap, capacity * sizeof(struct loop_timer *));

        if (heap == NULL)
            return -ENOMEM;
        loop->heap = heap;
        loop->heap_capacity = capacity;
    }
    timer = loop_source_new(loop, LOOP_TIMER, sizeof(*timer), data);
    if (timer == NULL)
        return -ENOMEM;
    timer->fn = fn;
    timer->index = SIZE_MAX;
    loop->timer_count++;
    *ret_timer = timer;
    return 0;
}

void loop_timer_set(struct loop_timer *timer, uint64_t deadline_us)
{
    struct loop *loop = timer->source.loop;

    if (timer->source.dead)
        return;
    loop_heap_remove(loop, timer);
    timer->deadline = deadline_us;
    loop_heap_up(loop, timer, loop->heap_len++);
}

void loop_timer_in(struct loop_timer *timer, uint64_t delay_us)
{
    loop_timer_set(timer, timer->source.loop->now + delay_us);
}

void loop_timer_stop(struct loop_timer *timer)
{
    if (timer != NULL && !timer->source.dead)
        loop_heap_remove(timer->source.loop, timer);
}

void loop_timer_del(struct loop_timer *timer)
{
    if (timer == NULL || timer->source.dead)
        return;
    loop_heap_remove(timer->source.loop, timer);
    timer->source.loop->timer_count--;
    loop_source_kill(&timer->source);
}

static void loop_run_timers(struct loop *loop)
{
    /* A timer that a callback sets to a time already past waits for the next turn when all that were armed
     * had theirs: timers cannot keep descriptors from being served. */
    for (size_t left = loop->heap_len; left > 0 && loop->heap_len > 0; left--) {
        struct loop_timer *timer = loop->heap[0];

        if (timer->deadline > loop->now)
            break;
        loop_heap_remove(loop, timer);
        timer->fn(timer, timer->source.data);
    }
}

/* ---- signals ---- */

static void loop_signal_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct loop *loop = data;
    struct signalfd_siginfo info;

    (void)io;
    (void)events;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo < LOOP_SIGNAL_MAX && loop->slots[info.ssi_signo].fn != NULL)
            loop->slots[info.ssi_signo].fn(loop, (int)info.ssi_signo,
                                           loop->slots[info.ssi_signo].data);
    }
}

int loop_signal_add(struct loop *loop, int signo, loop_signal_fn *fn, void *data)
{
    sigset_t one;
    int fd;
    int ret;

    if (signo <= 0 || signo >= LOOP_SIGNAL_MAX)
        return -EINVAL;
    sigemptyset(&one);
    sigaddset(&one, signo);
    if (sigprocmask(SIG_BLOCK, &one, NULL) < 0)
        return -errno;
    sigaddset(&loop->signals, signo);
    fd = signalfd(loop->signal_fd, &loop->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (loop->signal_io == NULL) {
        loop->signal_fd = fd;
        ret = loop_io_add(loop, fd, EPOLLIN, loop_signal_ready, loop, &loop->signal_io);
        if (ret < 0)
            return ret;
    }
    loop->slots[signo] = (struct loop_signal_slot){.fn = fn, .data = data};
    return 0;
}

/* ---- children ---- */

static void loop_child_end(struct loop_child *child)
{
    loop_io_del(child->io);
    close(child->pidfd);
    loop_source_kill(&child->source);
}

static void loop_child_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct loop_child *child = data;
    int status = 0;
    pid_t pid;

    (void)io;
    (void)fd;
    (void)events;
    do {
        pid = waitpid(child->pid, &status, WNOHANG);
    } while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return;
    /* ECHILD: somebody else reaped it. The owner must hear of the end all the same. */
    loop_child_end(child);
    child->fn(child, child->pid, pid < 0 ? 0 : status, child->source.data);
}

int loop_child_add(struct loop *loop, pid_t pid, loop_child_fn *fn, void *data,
                   struct loop_child **ret_child)
{
    struct loop_child *child;
    int ret;

    child = loop_source_new(loop, LOOP_CHILD, sizeof(*child), data);
    if (child == NULL)
        return -ENOMEM;
    child->fn = fn;
    child->pid = pid;
    child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (child->pidfd < 0) {
        ret = -errno;
        goto fail;
    }
    ret = loop_io_add(loop, child->pidfd, EPOLLIN, loop_child_ready, child, &child->io);
    if (ret < 0) {
        close(child->pidfd);
        goto fail;
    }
    if (ret_child != NULL)
        *ret_child = child;
    return 0;

fail:
    loop_source_unlink(&child->source);
    free(child);
    return ret;
}

void loop_child_del(struct loop_child *child)
{
    if (child != NULL && !child->source.dead)
        loop_child_end(child);
}

/* ---- deferred calls ---- */

int loop_defer(struct loop *loop, loop_defer_fn *fn, void *data)
{
    struct loop_defer *defer = calloc(1, sizeof(*defer));

    if (defer == NULL)
        return -ENOMEM;
    defer->source.kind = LOOP_DEFER;
    defer->source.data = data;
    defer->fn = fn;
    *loop->deferred_tail = &defer->source;
    loop->deferred_tail = &defer->source.next;
    return 0;
}

static void loop_run_deferred(struct loop *loop)
{
    struct loop_source *list = loop->deferred;

    /* What a deferred call defers runs at the end of the next turn. */
    loop->deferred = NULL;
    loop->deferred_tail = &loop->deferred;
    while (list != NULL) {
        struct loop_defer *defer = (struct loop_defer *)list;

        list = list->next;
        defer->fn(defer->source.data);
        free(defer);
    }
}

/* ---- turns ---- */

int loop_new(struct loop **ret_loop)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL)
        return -ENOMEM;
    loop->signal_fd = -1;
    loop->deferred_tail = &loop->deferred;
    sigemptyset(&loop->signals);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        int ret = -errno;

        free(loop);
        return ret;
    }
    loop->now = loop_clock();
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    for (struct loop_source *source = loop->sources, *next; source != NULL; source = next) {
        next = source->next;
        if (source->kind == LOOP_CHILD)
            close(((struct loop_child *)source)->pidfd);
        free(source);
    }
    loop_bury(loop);
    while (loop->deferred != NULL) {
        struct loop_source *source = loop->deferred;

        loop->deferred = source->next;
        free(source);
    }
    if (loop->signal_fd >= 0)
        close(loop->signal_fd);
    close(loop->epoll_fd);
    free(loop->heap);
    free(loop);
}

/* Milliseconds for epoll, rounded up: a timer never fires early. */
static int loop_timeout(const struct loop *loop, int timeout_ms)
{
    uint64_t now;
    uint64_t wait;

    if (loop->deferred != NULL)
        return 0;
    if (loop->heap_len == 0)
        return timeout_ms;
    now = loop_clock();
    if (loop->heap[0]->deadline <= now)
        return 0;
    wait = (loop->heap[0]->deadline - now + 999) / 1000;
    if (wait > 3600000)
        wait = 3600000;
    return timeout_ms >= 0 && (uint64_t)timeout_ms < wait ? timeout_ms : (int)wait;
}

int loop_step(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[LOOP_EVENTS];
    int count;

    if (loop->exit_asked)
        return 1;
    count = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS, loop_timeout(loop, timeout_ms));
    if (count < 0 && errno != EINTR)
        return -errno;

    loop->now = loop_clock();
    loop->depth++;
    for (int i = 0; i < count; i++) {
        struct loop_io *io = events[i].data.ptr;

        if (!io->source.dead)
            io->fn(io, io->fd, events[i].events, io->source.data);
    }
    loop_run_timers(loop);
    loop_run_deferred(loop);
    loop->depth--;
    if (loop->depth == 0)
        loop_bury(loop);
    return loop->exit_asked ? 1 : 0;
}

int loop_run(struct loop *loop)
{
    int ret;

    do {
        ret = loop_step(loop, -1);
    } while (ret == 0);
    if (ret < 0)
        return ret;
    loop->exit_asked = false;
    return loop->exit_code;
}

void loop_exit(struct loop *loop, int code)
{
    loop->exit_asked = true;
    loop->exit_code = code;
}
