/*
 * segment.c - see segment.h.
 */
#include "kv/segment.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WALKER_BUFFER ((size_t)256 << 10)

static const char magic[8] = {'C', 'R', 'O', 'F', 'T', 'S', 'G', '1'};

struct segment *segment_new(uint32_t id)
{
    struct segment *segment = calloc(1, sizeof(*segment));

    if (segment != NULL) {
        segment->id = id;
        atomic_init(&segment->fd, -1);
        atomic_init(&segment->refs, 1);
    }
    return segment;
}

void segment_free(struct segment *segment)
{
    if (segment == NULL)
        return;
    free(segment->marks);
    free(segment);
}

void segment_header_encode(const struct segment *segment, uint64_t identity,
                           uint8_t out[SEGMENT_HEADER])
{
    uint32_t id = htole32(segment->id), crc;
    uint64_t words[3] = {htole64(identity), htole64(segment->first), htole64(segment->next)};

    memset(out, 0, SEGMENT_HEADER);
    memcpy(out, magic, sizeof(magic));
    memcpy(out + 8, &id, sizeof(id));
    memcpy(out + 16, words, sizeof(words));
    crc = htole32(record_crc32c(0, out, SEGMENT_HEADER - 4));
    memcpy(out + SEGMENT_HEADER - 4, &crc, sizeof(crc));
}

int segment_header_decode(const uint8_t data[SEGMENT_HEADER], uint64_t identity,
                          struct segment *segment)
{
    struct segment read = {.id = segment->id};
    uint8_t expected[SEGMENT_HEADER];
    uint64_t words[2];

    memcpy(words, data + 24, sizeof(words));
    read.first = le64toh(words[0]);
    read.next = le64toh(words[1]);
    segment_header_encode(&read, identity, expected);
    if (memcmp(expected, data, SEGMENT_HEADER) != 0 || (read.next != 0 && read.next <= read.first))
        return -EBADMSG;
    segment->first = read.first;
    segment->next = read.next;
    return 0;
}

void segment_note(struct segment *segment, uint64_t number, uint64_t offset)
{
    const struct segment_mark *last = segment->marks + segment->mark_count;

    if (segment->mark_count > 0 && offset < (uint64_t)last[-1].place * 8 + SEGMENT_MARK_EVERY)
        return;
    if (segment->mark_count == segment->mark_room) {
        uint32_t room = segment->mark_room * 2 + 4;
        struct segment_mark *marks = realloc(segment->marks, room * sizeof(*marks));

        if (marks == NULL)
            return;
        segment->marks = marks;
        segment->mark_room = room;
    }
    segment->marks[segment->mark_count++] =
        (struct segment_mark){.number = number, .place = (uint32_t)(offset / 8)};
}

uint64_t segment_seek(const struct segment *segment, uint64_t number)
{
    uint32_t low = 0, high = segment->mark_count;

    while (low < high) { /* the first mark above the number */
        uint32_t middle = low + (high - low) / 2;

        if (segment->marks[middle].number > number)
            high = middle;
        else
            low = middle + 1;
    }
    return low == 0 ? SEGMENT_HEADER : (uint64_t)segment->marks[low - 1].place * 8;
}

uint64_t segment_seek_back(const struct segment *segment, uint64_t offset)
{
    uint32_t low = 0, high = segment->mark_count;

    while (low < high) { /* the first mark at or behind the offset */
        uint32_t middle = low + (high - low) / 2;

        if ((uint64_t)segment->marks[middle].place * 8 >= offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low == 0 ? SEGMENT_HEADER : (uint64_t)segment->marks[low - 1].place * 8;
}

/* ---- walking ---------------------------------------------------------------------------------- */

int segment_walker_init(struct segment_walker *walker, const struct io *io, int fd,
                        uint64_t identity, uint32_t segment, uint64_t offset, uint64_t end)
{
    size_t room = end < WALKER_BUFFER ? (size_t)end : WALKER_BUFFER;

    *walker = (struct segment_walker){.io = io,
                                      .fd = fd,
                                      .at = {.identity = identity, .segment = segment},
                                      .next = offset,
                                      .end = end,
                                      .room = room,
                                      .buffer = malloc(room + 1)};
    return walker->buffer != NULL ? 0 : -ENOMEM;
}

void segment_walker_done(struct segment_walker *walker)
{
    free(walker->buffer);
    walker->buffer = NULL;
}

/* Makes the buffer hold [offset, offset + want), or as much of it as there is. Returns how much. */
static ssize_t fill(struct segment_walker *walker, uint64_t offset, size_t want)
{
    size_t len = walker->room;
    ssize_t n;

    if (offset >= walker->end)
        return 0;
    if (want > walker->end - offset)
        want = (size_t)(walker->end - offset);
    if (offset < walker->from || offset + want > walker->from + walker->have) {
        if (len > walker->end - offset)
            len = (size_t)(walker->end - offset);
        walker->have = 0;
        n = walker->io->read(walker->io, walker->fd, walker->buffer, len, offset);
        if (n < 0)
            return n;
        walker->from = offset;
        walker->have = (size_t)n;
    }
    return (ssize_t)(walker->have - (offset - walker->from) < want
                         ? walker->have - (offset - walker->from)
                         : want);
}

int segment_walker_next(struct segment_walker *walker, struct record *ret, const uint8_t **ret_key,
                        const uint8_t **ret_value)
{
    struct record record;
    uint64_t size;
    ssize_t n;
    int failed;

    walker->at.offset = walker->next;
    if (walker->next >= walker->end)
        return 0;
    n = fill(walker, walker->next, RECORD_HEAD_MAX);
    if (n < 0)
        return (int)n;
    failed = record_decode(walker->buffer + (walker->next - walker->from), (size_t)n, &walker->at,
                           &record);
    if (failed < 0)
        return -EBADMSG;
    size = record_size(record.key_len, record.value_len);
    if (size > walker->end - walker->next)
        return -EBADMSG;
    *ret_value = NULL;
    if (size <= WALKER_BUFFER / 4 && size <= walker->room) {
        n = fill(walker, walker->next, (size_t)size);
        if (n < 0)
            return (int)n;
        if ((uint64_t)n < size)
            return -EBADMSG;
        *ret_value =
            walker->buffer + (walker->next - walker->from) + RECORD_HEADER + record.key_len;
    }
    *ret = record;
    *ret_key = walker->buffer + (walker->next - walker->from) + RECORD_HEADER;
    walker->next += size;
    return 1;
}

int segment_walker_resync(struct segment_walker *walker)
{
    while (walker->next < walker->end) {
        const uint8_t *found;
        struct record record;
        ssize_t n;

        walker->next += 8;
        walker->at.offset = walker->next;
        n = fill(walker, walker->next, RECORD_HEAD_MAX);
        if (n < 0)
            return (int)n;
        found = walker->buffer + (walker->next - walker->from);
        if (n > 4 && found[4] == RECORD_MAGIC &&
            record_decode(found, (size_t)n, &walker->at, &record) == 0)
            break;
    }
    if (walker->next > walker->end)
        walker->next = walker->end;
    return 0;
}

int segment_walker_check(struct segment_walker *walker, const struct record *record,
                         const uint8_t *value)
{
    uint64_t offset = walker->at.offset + RECORD_HEADER + record->key_len;
    uint64_t left = record->value_len, pad;
    uint32_t crc = 0;

    pad = record_size(record->key_len, record->value_len) - RECORD_HEADER - record->key_len - left;
    if (value != NULL)
        return record_value_is_good(record, value, (size_t)pad);
    while (left > 0) {
        ssize_t n = fill(walker, offset, left > walker->room ? walker->room : (size_t)left);

        if (n <= 0)
            return (int)n;
        crc = record_crc32c(crc, walker->buffer + (offset - walker->from), (size_t)n);
        offset += (uint64_t)n;
        left -= (uint64_t)n;
    }
    if (crc != record->body)
        return 0;
    for (; pad > 0; pad--, offset++) {
        ssize_t n = fill(walker, offset, 1);

        if (n < 0)
            return (int)n;
        if (n == 0 || walker->buffer[offset - walker->from] != 0)
            return 0;
    }
    return 1;
}

int segment_walk(struct segment_walker *walker, const struct segment_walk *walk, void *ctx)
{
    int n = 1;

    while (n > 0) {
        const uint8_t *key, *value;
        struct record record;

        n = segment_walker_next(walker, &record, &key, &value);
        if (n > 0 && (walk->flags & SEGMENT_CHECK_VALUES) != 0) {
            n = segment_walker_check(walker, &record, value);
            n = n == 0 ? -EBADMSG : n;
            key = value != NULL ? key : NULL; /* what was read through the buffer took its place */
        }
        if (n == -EBADMSG && (walk->flags & (SEGMENT_SKIP_DAMAGE | SEGMENT_TELL_DAMAGE)) != 0) {
            n = segment_walker_resync(walker);
            if (n == 0 && (walk->flags & SEGMENT_TELL_DAMAGE) != 0)
                n = walk->visit(ctx, walker, NULL, NULL, NULL);
            else if (n == 0)
                n = 1;
        } else if (n > 0) {
            n = walk->visit(ctx, walker, &record, key, value);
        }
    }
    return n;
}
