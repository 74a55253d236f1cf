/*
 * outlet.h - standard output or error as a place that may take nothing for a while, without holding the loop up.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/loop.h"

#define OUTLET_HIGH ((size_t)256 * 1024) /* bytes that wait: whoever produces is to pause */
#define OUTLET_LOW ((size_t)64 * 1024)   /* and may go on */

struct outlet {
    struct loop *loop;
    struct loop_io *io; /* NULL: it takes what it gets at once, as files do */
    int fd;             /* the one to write to */
    int own;            /* opened here, or -1 */
    struct buffer waiting;
    void (*changed)(void *data); /* less waits, or it has failed */
    void *data;
    int failed; /* a positive errno, EPIPE above all: what comes is thrown away */
};

/* fd: STDOUT_FILENO or STDERR_FILENO. Its file description is shared with others, a shell for one, and so stays as it is: the
 * pipe or terminal is opened once more, without blocking. 0 or -errno. */
int outlet_init(struct outlet *outlet, struct loop *loop, int fd, void (*changed)(void *data),
                void *data);
/* Writes what can be written, keeps the rest. 0 or -ENOMEM. */
int outlet_write(struct outlet *outlet, const void *data, size_t len);
/* Writes what waits, however long it takes, and lets go. */
void outlet_done(struct outlet *outlet);
