/*
 * index_slots.c - see index_slots.h.
 */
#include "kv/index_slots.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kv/record.h"

#define SLOT_SIZE 16u
#define WRITE_SLOTS 4096u /* per write */

struct slots_one {
    uint32_t id;
    struct index_entry entry;
    bool used; /* in the table of pending ones */
};

struct slots {
    const struct io *io;
    int fd;
    struct slots_one *table; /* open addressing; room is a power of two */
    size_t room, count;
};

static uint32_t spread(uint32_t id)
{
    return id * 0x9e3779b1u;
}

static void slot_encode(uint32_t id, const struct index_entry *entry, uint8_t out[SLOT_SIZE])
{
    uint32_t words[4] = {htole32(entry->segment), htole32(entry->place), htole32(entry->value_len)};
    uint32_t little = htole32(id);

    words[3] = htole32(record_crc32c(record_crc32c(0, &little, 4), words, 12));
    memcpy(out, words, SLOT_SIZE);
}

static int slot_decode(uint32_t id, const uint8_t data[SLOT_SIZE], struct index_entry *ret)
{
    static const uint8_t empty[SLOT_SIZE];
    uint8_t expected[SLOT_SIZE];
    uint32_t words[4];
    struct index_entry entry;

    if (memcmp(data, empty, SLOT_SIZE) == 0)
        return 0;
    memcpy(words, data, sizeof(words));
    entry = (struct index_entry){
        .segment = le32toh(words[0]), .place = le32toh(words[1]), .value_len = le32toh(words[2])};
    slot_encode(id, &entry, expected);
    if (memcmp(expected, data, SLOT_SIZE) != 0)
        return -EBADMSG;
    *ret = entry;
    return 1;
}

int slots_open(const struct io *io, const char *folder, const char *path, bool fresh,
               struct slots **ret)
{
    struct slots *slots = calloc(1, sizeof(*slots));
    int fd, failed = 0;

    if (slots == NULL)
        return -ENOMEM;
    if (fresh) {
        failed = io->unlink(io, path);
        if (failed == -ENOENT)
            failed = 0;
    }
    fd = failed < 0 ? failed : io->open(io, path, IO_WRITE);
    if (fd == -ENOENT) {
        fd = io->open(io, path, IO_WRITE | IO_CREATE);
        if (fd >= 0) {
            failed = io->sync_dir(io, folder);
            if (failed < 0) {
                io->close(io, fd);
                fd = failed;
            }
        }
    }
    if (fd < 0) {
        free(slots);
        return fd;
    }
    slots->io = io;
    slots->fd = fd;
    *ret = slots;
    return 0;
}

void slots_close(struct slots *slots)
{
    if (slots == NULL)
        return;
    slots->io->close(slots->io, slots->fd);
    free(slots->table);
    free(slots);
}

static struct slots_one *pending(const struct slots *slots, uint32_t id)
{
    size_t at;

    if (slots->room == 0)
        return NULL;
    for (at = spread(id) & (slots->room - 1); slots->table[at].used;
         at = (at + 1) & (slots->room - 1))
        if (slots->table[at].id == id)
            return &slots->table[at];
    return &slots->table[at];
}

int slots_find(struct slots *slots, uint32_t id, struct index_entry *ret)
{
    const struct slots_one *one = pending(slots, id);
    struct index_entry entry = {0};
    uint8_t data[SLOT_SIZE];
    ssize_t n;
    int found = 1;

    if (one != NULL && one->used) {
        entry = one->entry;
    } else {
        n = slots->io->read(slots->io, slots->fd, data, sizeof(data), (uint64_t)id * SLOT_SIZE);
        if (n < 0)
            return (int)n;
        found = n < (ssize_t)sizeof(data) ? 0 : slot_decode(id, data, &entry);
    }
    if (found <= 0)
        return found;
    if (entry.value_len == SLOT_DELETED)
        return 0;
    *ret = entry;
    return 1;
}

static int grow(struct slots *slots)
{
    size_t room = slots->room == 0 ? 64 : slots->room * 2;
    struct slots old = *slots;

    if (slots->count * 4 < slots->room * 3)
        return 0;
    slots->table = calloc(room, sizeof(*slots->table));
    if (slots->table == NULL) {
        slots->table = old.table;
        return -ENOMEM;
    }
    slots->room = room;
    for (size_t i = 0; i < old.room; i++)
        if (old.table[i].used)
            *pending(slots, old.table[i].id) = old.table[i];
    free(old.table);
    return 0;
}

int slots_put(struct slots *slots, uint32_t id, const struct index_entry *entry)
{
    struct slots_one *one;

    if (grow(slots) < 0)
        return -ENOMEM;
    one = pending(slots, id);
    if (!one->used)
        slots->count++;
    *one = (struct slots_one){.id = id, .entry = *entry, .used = true};
    return 0;
}

/* Open addressing without marks for removed ones: those behind it move up. */
void slots_forget(struct slots *slots, uint32_t id)
{
    struct slots_one *one = pending(slots, id);
    size_t hole, at, mask = slots->room - 1;

    if (one == NULL || !one->used)
        return;
    hole = (size_t)(one - slots->table);
    for (at = (hole + 1) & mask; slots->table[at].used; at = (at + 1) & mask) {
        size_t home = spread(slots->table[at].id) & mask;

        if (((at - home) & mask) >= ((at - hole) & mask)) {
            slots->table[hole] = slots->table[at];
            hole = at;
        }
    }
    slots->table[hole].used = false;
    slots->count--;
}

size_t slots_pending(const struct slots *slots)
{
    return slots->count;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = ((const struct slots_one *)a)->id, y = ((const struct slots_one *)b)->id;

    return x < y ? -1 : x > y;
}

int slots_take(const struct slots *slots, bool (*may)(void *ctx, const struct index_entry *entry),
               void *ctx, struct slots_batch *ret)
{
    struct slots_batch batch = {.list = malloc((slots->count + 1) * sizeof(*batch.list))};

    if (batch.list == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < slots->room; i++)
        if (slots->table[i].used && may(ctx, &slots->table[i].entry))
            batch.list[batch.count++] = slots->table[i];
    qsort(batch.list, batch.count, sizeof(*batch.list), compare_ids);
    *ret = batch;
    return 0;
}

int slots_write(const struct slots *slots, const struct slots_batch *batch, bool sync)
{
    uint8_t *data = malloc((size_t)WRITE_SLOTS * SLOT_SIZE);
    int failed = data == NULL ? -ENOMEM : 0;

    for (size_t i = 0, run; failed == 0 && i < batch->count; i += run) {
        for (run = 0; run < WRITE_SLOTS && i + run < batch->count &&
                      batch->list[i + run].id == batch->list[i].id + run;
             run++)
            slot_encode(batch->list[i + run].id, &batch->list[i + run].entry,
                        data + run * SLOT_SIZE);
        failed = io_write(slots->io, slots->fd, data, run * SLOT_SIZE,
                          (uint64_t)batch->list[i].id * SLOT_SIZE);
    }
    free(data);
    if (failed == 0 && sync)
        failed = slots->io->sync(slots->io, slots->fd);
    return failed;
}

void slots_drop(struct slots *slots, struct slots_batch *batch, bool written)
{
    for (size_t i = 0; written && i < batch->count; i++) {
        const struct slots_one *one = pending(slots, batch->list[i].id);

        if (one != NULL && one->used && one->entry.segment == batch->list[i].entry.segment &&
            one->entry.place == batch->list[i].entry.place)
            slots_forget(slots, batch->list[i].id);
    }
    free(batch->list);
    *batch = (struct slots_batch){0};
}

int slots_walk(struct slots *slots,
               bool (*each)(void *ctx, uint32_t id, const struct index_entry *entry), void *ctx)
{
    uint8_t *data = malloc((size_t)WRITE_SLOTS * SLOT_SIZE);
    uint64_t id = 0;
    int ret = data == NULL ? -ENOMEM : 0;

    while (ret == 0) {
        ssize_t n = slots->io->read(slots->io, slots->fd, data, (size_t)WRITE_SLOTS * SLOT_SIZE,
                                    id * SLOT_SIZE);
        size_t count = n > 0 ? (size_t)n / SLOT_SIZE : 0;

        if (n < 0)
            ret = (int)n;
        for (size_t i = 0; ret == 0 && i < count; i++, id++) {
            const struct slots_one *one = pending(slots, (uint32_t)id);
            struct index_entry entry;
            int found;

            if (one != NULL && one->used)
                continue; /* given below */
            found = slot_decode((uint32_t)id, data + i * SLOT_SIZE, &entry);
            if (found < 0 || (found > 0 && !each(ctx, (uint32_t)id, &entry)))
                ret = -EBADMSG;
        }
        if (count < WRITE_SLOTS)
            break;
    }
    free(data);
    for (size_t i = 0; ret == 0 && i < slots->room; i++)
        if (slots->table[i].used && !each(ctx, slots->table[i].id, &slots->table[i].entry))
            ret = -EBADMSG;
    return ret;
}

uint64_t slots_memory(const struct slots *slots)
{
    return sizeof(*slots) + slots->room * sizeof(*slots->table);
}

uint64_t slots_extent(const struct slots *slots)
{
    uint64_t extent = (uint64_t)slots_file_size(slots) / SLOT_SIZE;

    for (size_t i = 0; i < slots->room; i++)
        if (slots->table[i].used && slots->table[i].id >= extent)
            extent = (uint64_t)slots->table[i].id + 1;
    return extent;
}

int64_t slots_file_size(const struct slots *slots)
{
    int64_t size = slots->io->size(slots->io, slots->fd);

    return size < 0 ? 0 : size;
}
