/*
 * loop.h - one event loop per program: descriptors, deadlines, signals, children.
 *
 * Single-threaded. Every source may be deleted from inside any callback, its own included: memory goes
 * back after the current turn. Time is CLOCK_MONOTONIC in microseconds; deadlines are absolute.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct loop;
struct loop_io;
struct loop_timer;
struct loop_signal;
struct loop_child;

typedef void loop_io_fn(struct loop_io *io, int fd, uint32_t events, void *data);
typedef void loop_timer_fn(struct loop_timer *timer, void *data);
typedef void loop_signal_fn(struct loop *loop, int signo, void *data);
/* status as of waitpid(2). */
typedef void loop_child_fn(struct loop_child *child, pid_t pid, int status, void *data);
typedef void loop_defer_fn(void *data);

int loop_new(struct loop **ret_loop);
void loop_free(
    struct loop *loop); /* frees the remaining sources, closes none of their descriptors */

int loop_run(struct loop *loop); /* until loop_exit; returns its code or -errno */
int loop_step(struct loop *loop,
              int timeout_ms); /* one turn; -1 waits. 0, 1 = exit was asked, -errno */
void loop_exit(struct loop *loop, int code);
uint64_t loop_now(const struct loop *loop); /* start of this turn, us */
uint64_t loop_clock(void);                  /* now, us */

/* events: EPOLLIN | EPOLLOUT | …; EPOLLERR and EPOLLHUP always come. The descriptor stays the caller's. */
int loop_io_add(struct loop *loop, int fd, uint32_t events, loop_io_fn *fn, void *data,
                struct loop_io **ret_io);
int loop_io_set(struct loop_io *io, uint32_t events);
void loop_io_del(struct loop_io *io); /* NULL is fine */

/* A timer starts stopped. It fires once per loop_timer_set. */
int loop_timer_add(struct loop *loop, loop_timer_fn *fn, void *data, struct loop_timer **ret_timer);
void loop_timer_set(struct loop_timer *timer, uint64_t deadline_us);
void loop_timer_in(struct loop_timer *timer, uint64_t delay_us); /* from loop_now() */
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_del(struct loop_timer *timer);

/* Blocks the signal and delivers it by signalfd. One callback per signal number. */
int loop_signal_add(struct loop *loop, int signo, loop_signal_fn *fn, void *data);

/* Watches a child of ours through a pidfd and reaps it. Fires once, then the source is gone. */
int loop_child_add(struct loop *loop, pid_t pid, loop_child_fn *fn, void *data,
                   struct loop_child **ret_child);
void loop_child_del(struct loop_child *child); /* stops watching; does not kill or reap */

/* Runs fn at the end of this turn. */
int loop_defer(struct loop *loop, loop_defer_fn *fn, void *data);
