/*
 * ring.c - see ring.h.
 */
#include "init/ring.h"

#include <stdlib.h>
#include <string.h>

#define RING_FIRST 4096u

struct ring_header {
    uint64_t time_us;
    uint16_t len;
    uint8_t level;
    uint8_t unused[5];
};

void ring_init(struct ring *ring, size_t max)
{
    *ring = (struct ring){.max = max};
}

void ring_done(struct ring *ring)
{
    free(ring->data);
    *ring = (struct ring){.max = ring->max};
}

static void ring_copy_out(const struct ring *ring, size_t offset, void *to, size_t len)
{
    size_t first = ring->capacity - offset;

    if (first > len)
        first = len;
    memcpy(to, ring->data + offset, first);
    memcpy((uint8_t *)to + first, ring->data, len - first);
}

static void ring_copy_in(struct ring *ring, size_t offset, const void *from, size_t len)
{
    size_t first = ring->capacity - offset;

    if (first > len)
        first = len;
    memcpy(ring->data + offset, from, first);
    memcpy(ring->data, (const uint8_t *)from + first, len - first);
}

static void ring_drop_oldest(struct ring *ring)
{
    struct ring_header header;
    size_t size;

    ring_copy_out(ring, ring->head, &header, sizeof(header));
    size = sizeof(header) + header.len;
    ring->head = (ring->head + size) % ring->capacity;
    ring->used -= size;
    ring->count--;
}

/* Room for `want` bytes besides what is kept, as far as the limit allows. */
static void ring_grow(struct ring *ring, size_t want)
{
    size_t capacity = ring->capacity != 0 ? ring->capacity : RING_FIRST;
    uint8_t *data;

    while (capacity < ring->used + want && capacity < ring->max)
        capacity *= 2;
    if (capacity > ring->max)
        capacity = ring->max;
    if (capacity <= ring->capacity)
        return;
    data = malloc(capacity);
    if (data == NULL)
        return;
    if (ring->used > 0)
        ring_copy_out(ring, ring->head, data, ring->used);
    free(ring->data);
    ring->data = data;
    ring->capacity = capacity;
    ring->head = 0;
}

void ring_add(struct ring *ring, uint64_t time_us, uint8_t level, const char *text, size_t len)
{
    struct ring_header header = {.time_us = time_us, .level = level};
    size_t size;
    size_t tail;

    if (len > RING_LINE_MAX)
        len = RING_LINE_MAX;
    header.len = (uint16_t)len;
    size = sizeof(header) + len;
    ring->next_sequence++;

    if (ring->used + size > ring->capacity)
        ring_grow(ring, size);
    if (size > ring->capacity) {
        /* No memory at all: nothing older may stand in front of the gap. */
        ring->count = 0;
        ring->used = 0;
        return;
    }
    while (ring->used + size > ring->capacity)
        ring_drop_oldest(ring);
    tail = (ring->head + ring->used) % ring->capacity;
    ring_copy_in(ring, tail, &header, sizeof(header));
    ring_copy_in(ring, (tail + sizeof(header)) % ring->capacity, text, len);
    ring->used += size;
    ring->count++;
}

void ring_each(const struct ring *ring, uint64_t sequence,
               bool (*fn)(const struct ring_line *line, void *data), void *data)
{
    uint64_t at = ring->next_sequence - ring->count;
    size_t offset = ring->head;

    for (size_t i = 0; i < ring->count; i++, at++) {
        char text[RING_LINE_MAX];
        struct ring_header header;
        struct ring_line line;

        ring_copy_out(ring, offset, &header, sizeof(header));
        if (at >= sequence) {
            ring_copy_out(ring, (offset + sizeof(header)) % ring->capacity, text, header.len);
            line = (struct ring_line){
                .sequence = at,
                .time_us = header.time_us,
                .level = header.level,
                .len = header.len,
                .text = text,
            };
            if (!fn(&line, data))
                return;
        }
        offset = (offset + sizeof(header) + header.len) % ring->capacity;
    }
}

uint64_t ring_tail(const struct ring *ring, uint64_t tail)
{
    return ring->next_sequence - (tail < ring->count ? tail : ring->count);
}
