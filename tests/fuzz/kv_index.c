// The saved index of a namespace of kvd: any bytes, and blocks with a repaired checksum.
// sources: tests/unit/kv_disk.c core0/kv/io.c core0/kv/record.c core0/kv/record_crc.c
// sources: core0/kv/index.c core0/kv/index_slots.c core0/kv/index_snapshot.c core0/kv/namespace.c
// sources: core0/kv/segment.c core0/kv/recover.c core0/kv/recover_replay.c core0/kv/recover_tail.c
// sources: core0/kv/compact.c core0/kv/compact_copy.c core0/kv/store.c core0/kv/store_commit.c
// sources: core0/kv/store_namespace.c core0/kv/store_read.c core0/kv/store_scan.c core0/kv/store_write.c
// sources: core0/kv/store_buffer.c core0/kv/store_segment.c core0/kv/store_upkeep.c core0/kv/segment_file.c
// sources: core0/kv/store_follow.c
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/kv_disk.h"
#include "kv/index_snapshot.h"
#include "kv/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_head(void *ctx, const struct snapshot_head *head)
{
    (void)ctx;
    (void)head;
    return true;
}

static bool on_segment(void *ctx, const struct segment *segment, bool last)
{
    (void)ctx;
    (void)last;
    return segment->marks == NULL;
}

static void on_mark(void *ctx, uint64_t number, uint64_t offset)
{
    (void)ctx;
    (void)number;
    (void)offset;
}

static int on_entries(void *ctx, const struct index_item *items, size_t count)
{
    return index_put_all(ctx, items, count);
}

static void read_it(const struct io *io, const uint8_t *data, size_t size)
{
    struct index *index = index_new();
    struct snapshot_reader reader = {.head = on_head,
                                     .segment = on_segment,
                                     .mark = on_mark,
                                     .entries = on_entries,
                                     .ctx = index};
    struct snapshot_head head;
    struct index_entry entry;
    uint64_t at = 0, seen = 0;
    uint32_t len;
    int fd = io->open(io, "/index", IO_WRITE | IO_CREATE), ret;

    if (fd < 0 || index == NULL || io_write(io, fd, data, size, 0) < 0)
        abort();
    io->close(io, fd);
    ret = snapshot_read(io, "/index", &reader, &head);
    if (ret != 0 && ret != -EBADMSG)
        abort();
    while (index_walk(index, &at, &len, &entry) != NULL)
        seen++;
    if (seen != index_count(index))
        abort();
    index_free(index);
    io->unlink(io, "/index");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk *disk = disk_new(1);
    uint8_t *copy = malloc(size + 8);

    if (copy == NULL)
        abort();
    read_it(disk_io(disk), data, size);
    /* The same bytes as one block that verifies. */
    if (size <= 65536 && size > 8) {
        uint8_t place[8] = {0};
        uint32_t len = (uint32_t)(size - 8) | 0x80000000u, crc;

        memcpy(copy, data, size);
        crc = record_crc32c(record_crc32c(0, place, 8), copy + 8, size - 8);
        for (unsigned i = 0; i < 4; i++) {
            copy[i] = (uint8_t)(len >> (8 * i));
            copy[4 + i] = (uint8_t)(crc >> (8 * i));
        }
        read_it(disk_io(disk), copy, size);
    }
    free(copy);
    disk_free(disk);
    return 0;
}
