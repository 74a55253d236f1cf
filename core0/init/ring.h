/*
 * ring.h - the last lines of one service, in bounded memory.
 *
 * Records lie one behind the other in a ring of bytes; a new one pushes out the oldest. The memory starts small
 * and doubles up to the limit, so a quiet service costs little.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_LINE_MAX 1024u /* bytes of one line; what is longer is cut */

struct ring {
    uint8_t *data;
    size_t capacity;
    size_t max;
    size_t head; /* offset of the oldest record */
    size_t used;
    size_t count;
    uint64_t next_sequence; /* of the next line, from 0: seen gaps are lines that were lost */
};

struct ring_line {
    uint64_t sequence;
    uint64_t time_us; /* CLOCK_REALTIME */
    uint8_t level;    /* 0 … 7 as in syslog */
    uint16_t len;
    const char *text; /* not ended by NUL; valid until the callback returns */
};

void ring_init(struct ring *ring, size_t max);
void ring_done(struct ring *ring);
/* Never fails: without memory the line is counted and lost. */
void ring_add(struct ring *ring, uint64_t time_us, uint8_t level, const char *text, size_t len);
/* Calls fn for the lines from the `sequence` on, oldest first, until it returns false. */
void ring_each(const struct ring *ring, uint64_t sequence,
               bool (*fn)(const struct ring_line *line, void *data), void *data);
/* Sequence of the first of the last `tail` lines. */
uint64_t ring_tail(const struct ring *ring, uint64_t tail);
