/*
 * worker.h - blocking work in a forked copy of the program, so that the loop never waits.
 *
 * Making namespaces, removing cgroups and health checks are sequences of blocking steps; in a child they stay straight
 * lines, and what they read (a tenant's files) cannot harm the daemon.
 */
#pragma once

#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"

struct worker;

/* Runs in the child. Its result, within int, and err reach worker_done_fn. */
typedef int worker_fn(void *data, struct error *err);
/* Runs in the program. A child that died or took too long: a negative result and err "container.internal". */
typedef void worker_done_fn(int result, const struct error *err, void *data);

/* The child sees a copy of `data` as it is now. On failure *err is set and nothing is called. */
int worker_start(struct loop *loop, worker_fn *fn, void *data, uint64_t timeout_us,
                 worker_done_fn *done, void *done_data, struct worker **ret_worker,
                 struct error *err);
/* Kills the child; done is not called. NULL is fine. */
void worker_cancel(struct worker *worker);
/* In a forked child: signals as a program expects them at its start. */
void worker_reset_signals(void);
