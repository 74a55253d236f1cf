// Walking through a segment of kvd: any bytes, and records with a repaired checksum.
// sources: tests/unit/kv_disk.c core0/kv/io.c core0/kv/segment.c core0/kv/record.c core0/kv/record_crc.c
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/kv_disk.h"
#include "kv/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IDENTITY 0x1122334455667788u

static void walk(const struct io *io, int fd, size_t size)
{
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    uint64_t last = 0;
    int n;

    if (segment_walker_init(&walker, io, fd, IDENTITY, 1, size < 64 ? size : 64, size) < 0)
        abort();
    for (;;) {
        n = segment_walker_next(&walker, &record, &key, &value);
        if (n == -EBADMSG) {
            uint64_t from = walker.next;

            if (segment_walker_resync(&walker) != 0 || walker.next <= from || walker.next > size)
                abort();
            continue;
        }
        if (n < 0 || walker.next > size || walker.next < last)
            abort();
        if (n == 0)
            break;
        last = walker.next;
        if (record.key_len > RECORD_KEY_MAX || record.value_len > size)
            abort();
        if (segment_walker_check(&walker, &record, value) < 0)
            abort();
    }
    segment_walker_done(&walker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment segment = {.id = 1};
    struct disk *disk;
    const struct io *io;
    uint8_t *copy;
    int fd;

    if (size > 1 << 16)
        return 0;
    if (size >= SEGMENT_HEADER)
        segment_header_decode(data, IDENTITY, &segment);
    disk = disk_new(1);
    io = disk_io(disk);
    fd = io->open(io, "/1.seg", IO_WRITE | IO_CREATE);
    copy = malloc(size + 1);
    if (fd < 0 || copy == NULL || io_write(io, fd, data, size, 0) < 0)
        abort();
    walk(io, fd, size);
    memcpy(copy, data, size);
    /* Records behind one another, made to verify: their lengths and kinds are the input's. */
    for (size_t at = SEGMENT_HEADER; at + RECORD_HEADER <= size;) {
        struct record_position position = {.identity = IDENTITY, .segment = 1, .offset = at};
        uint16_t key_len = (uint16_t)((copy[at + 6] | copy[at + 7] << 8) % 1100);
        struct record record = {.kind = (enum record_kind)(copy[at + 5] % 6),
                                .key_len = key_len,
                                .value_len = (uint32_t)(copy[at + 8] | copy[at + 9] << 8),
                                .number = copy[at + 16]};

        if (at + RECORD_HEADER + key_len > size)
            break;
        record_encode(&record, copy + at + RECORD_HEADER, &position, copy + at);
        at += record_size(record.key_len, record.value_len);
    }
    if (io_write(io, fd, copy, size, 0) < 0)
        abort();
    walk(io, fd, size);
    free(copy);
    io->close(io, fd);
    disk_free(disk);
    return 0;
}
