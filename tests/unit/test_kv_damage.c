// Damage on the disk: every bit of a small segment, every byte of a large one, the other files, missing ones.
// sources: tests/unit/kv_disk.c core0/kv/io.c core0/kv/record.c core0/kv/record_crc.c
// sources: core0/kv/index.c core0/kv/index_slots.c core0/kv/index_snapshot.c core0/kv/namespace.c
// sources: core0/kv/segment.c core0/kv/recover.c core0/kv/recover_replay.c core0/kv/recover_tail.c
// sources: core0/kv/compact.c core0/kv/compact_copy.c core0/kv/store.c core0/kv/store_commit.c
// sources: core0/kv/store_namespace.c core0/kv/store_read.c core0/kv/store_scan.c core0/kv/store_write.c
// sources: core0/kv/store_buffer.c core0/kv/store_segment.c core0/kv/store_upkeep.c core0/kv/segment_file.c
// sources: core0/kv/store_follow.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kv_disk.h"

#include "kv/store.h"

#define KEYS 40

/* What each key must be: written `count` times, the last time with `len` bytes of `seed`, or deleted. */
static struct {
    uint32_t len;
    uint8_t seed;
    bool deleted;
} expected[KEYS];

static uint8_t buffer[40000];
static uint32_t got;

static void *reserve(void *ctx, uint32_t len)
{
    (void)ctx;
    got = len;
    return len <= sizeof(buffer) ? buffer : NULL;
}

static struct store_options options_for(struct disk *disk, enum store_mode mode,
                                        uint32_t segment_size)
{
    return (struct store_options){.data = "/kv",
                                  .io = disk_io(disk),
                                  .mode = mode,
                                  .sync = STORE_SYNC_ALWAYS,
                                  .max_value = 20000,
                                  .segment_size = segment_size,
                                  .manual = true};
}

static uint32_t key_of(enum store_mode mode, uint32_t key, char out[16])
{
    if (mode == STORE_USER)
        return (uint32_t)snprintf(out, 16, "k%u", key);
    memcpy(out, &key, 4);
    return 4;
}

static void put(struct namespace *ns, enum store_mode mode, uint32_t key, uint32_t len,
                uint8_t seed)
{
    char name[16];
    uint32_t name_len = key_of(mode, key, name);
    struct store_properties properties;
    struct store_written written;
    struct store_write write = {
        .key = name, .key_len = name_len, .value = buffer, .value_len = len, .time = 7};

    store_namespace_properties(ns, &properties);
    for (uint32_t i = 0; i < len; i++)
        buffer[i] = (uint8_t)(seed + i * 7);
    if (mode == STORE_SEQ && expected[key].len == 0 && !expected[key].deleted)
        write.key_len = 0;
    assert_int_equal(store_set(ns, &write, &written), 0);
    expected[key].len = len;
    expected[key].seed = seed;
    expected[key].deleted = false;
}

/* Another tenant's, which damage of the first one's must not touch. */
static void put_neighbour(struct store *store)
{
    struct store_write write = {.key = "key", .key_len = 3, .value = "right", .value_len = 5};
    struct store_properties properties = {.mode = STORE_USER, .is_public = true};
    struct store_written written;
    struct namespace *ns;

    assert_int_equal(store_namespace_create(store, "neighbour", 9, &properties), 0);
    assert_int_equal(store_namespace_get(store, "neighbour", 9, &ns), 0);
    assert_int_equal(store_set(ns, &write, &written), 0);
    store_namespace_put(ns);
}

static void check_neighbour(struct store *store, const char *when, uint64_t at)
{
    struct store_sink sink = {.reserve = reserve};
    struct store_value value;
    struct store_info info;
    struct namespace *ns;

    if (store_namespace_get(store, "neighbour", 9, &ns) != 0)
        fail_msg("%s at %lu: the neighbour is gone", when, (unsigned long)at);
    store_namespace_info(ns, &info);
    if (store_get(ns, "key", 3, &sink, &value) != 0 || got != 5 ||
        memcmp(buffer, "right", 5) != 0 || info.damaged != 0)
        fail_msg("%s at %lu: the neighbour is damaged", when, (unsigned long)at);
    store_namespace_put(ns);
}

static void del(struct namespace *ns, enum store_mode mode, uint32_t key)
{
    char name[16];
    struct store_written written;

    assert_int_equal(store_del(ns, name, key_of(mode, key, name), 0, &written), 0);
    expected[key].deleted = true;
}

/* A closed store with `keys` keys, some overwritten and some deleted. */
static struct disk *build(enum store_mode mode, uint32_t keys, uint32_t value,
                          uint32_t segment_size)
{
    struct disk *disk = disk_new(1);
    struct store_options options = options_for(disk, mode, segment_size);
    struct store *store;
    struct namespace *ns;

    memset(expected, 0, sizeof(expected));
    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    for (uint32_t key = 0; key < keys; key++)
        put(ns, mode, key, value + key, (uint8_t)key);
    assert_int_equal(store_commit(store), 0);
    for (uint32_t key = 0; key < keys; key += 3)
        put(ns, mode, key, value + 1, (uint8_t)(key + 100));
    for (uint32_t key = 1; key < keys; key += 5)
        del(ns, mode, key);
    store_namespace_put(ns);
    put_neighbour(store);
    assert_int_equal(store_close(store), 0);
    disk_reboot(disk);
    return disk;
}

struct seen {
    uint32_t right, damaged;
    struct store_info info;
};

/* Opens and reads everything: right, or reported. Nothing else, ever. */
static struct seen read_all(struct disk *disk, enum store_mode mode, uint32_t keys,
                            uint32_t segment_size, const char *when, uint64_t at)
{
    struct store_options options = options_for(disk, mode, segment_size);
    struct store_sink sink = {.reserve = reserve};
    struct seen seen = {0};
    struct store *store;
    struct namespace *ns;

    if (store_open(&options, &store, NULL) < 0)
        fail_msg("%s at %lu: the store does not open", when, (unsigned long)at);
    if (store_namespace_get(store, "default", 7, &ns) != 0)
        fail_msg("%s at %lu: no namespace", when, (unsigned long)at);
    for (uint32_t key = 0; key < keys; key++) {
        struct store_value value;
        char name[16];
        uint32_t name_len = key_of(mode, key, name);
        int ret = store_get(ns, name, name_len, &sink, &value);
        bool right = ret == (expected[key].deleted ? STORE_NO_KEY : 0);

        if (ret == 0 && right) {
            right = got == expected[key].len;
            for (uint32_t i = 0; right && i < got; i++)
                right = buffer[i] == (uint8_t)(expected[key].seed + i * 7);
        }
        if (!right && ret != STORE_DAMAGED)
            fail_msg("%s at %lu: key %u gives %d", when, (unsigned long)at, key, ret);
        seen.right += right;
        seen.damaged += !right;
    }
    store_namespace_info(ns, &seen.info);
    store_namespace_put(ns);
    check_neighbour(store, when, at);
    store_abandon(store);
    return seen;
}

static void flip(enum store_mode mode, uint32_t keys, uint32_t value, unsigned masks,
                 bool with_index)
{
    struct disk *disk = build(mode, keys, value, 60000);
    const char *path = disk_find(disk, "00000001.seg", 0);
    char name[128];
    int64_t size;
    uint32_t undetected = 0, served = 0;

    snprintf(name, sizeof(name), "%s", path);
    size = disk_size(disk, name);
    if (!with_index)
        disk_remove(disk, "/kv/ns-00000001.index");
    for (int64_t at = 0; at < size; at++)
        for (unsigned bit = 0; bit < masks; bit++) {
            uint8_t mask = (uint8_t)(masks == 8 ? 1u << bit : (unsigned)(at % 255 + 1));
            struct disk *copy = disk_copy(disk, (uint64_t)at);
            struct seen seen;

            uint8_t flipped = (uint8_t)(disk_peek(copy, name, (uint64_t)at) ^ mask);
            disk_poke(copy, name, (uint64_t)at, flipped);
            seen = read_all(copy, mode, keys, 60000, with_index ? "flipped, index" : "flipped",
                            (uint64_t)at);
            if (seen.damaged == 0 && seen.info.damaged == 0 && seen.info.cut_bytes == 0)
                undetected++;
            served += seen.right;
            disk_free(copy);
        }
    print_message("%ld bytes, %u flips each: %u keys right in all, %u flips without a word\n",
                  (long)size, masks, served, undetected);
    /* Without the index every header is read. A flip that nobody hears of is in a value that nobody
     * reads: one that was overwritten or deleted. */
    if (!with_index) {
        uint32_t dead = 0;

        for (uint32_t key = 0; key < keys; key++)
            if (key % 3 == 0 || key % 5 == 1)
                dead += value + key + 8;
        for (uint32_t key = 0; key < keys; key++)
            if (key % 3 == 0 && key % 5 == 1)
                dead += value + 8;
        assert_true(undetected <= dead * masks);
    }
    disk_free(disk);
}

static void test_bits(void **state)
{
    (void)state;
    flip(STORE_USER, 7, 20, 8, false);
    flip(STORE_USER, 7, 20, 8, true);
}

static void test_bytes(void **state)
{
    (void)state;
    flip(STORE_USER, 30, 150, 1, false);
    flip(STORE_USER, 30, 150, 1, true);
}

/* ---- a large segment ---------------------------------------------------------------------------- */

#define LARGE_KEYS 600u
#define LARGE_SEGMENT (3u << 20)
#define LARGE_RECORDS 1500u

struct large_record {
    uint64_t offset, end;
    uint32_t key_len;
    char key[16];
    bool alive, deleted;
};

static struct large_record large[LARGE_RECORDS];
static uint32_t large_count;

static int note_record(void *ctx, const struct store_item *item)
{
    struct large_record *record = &large[large_count++];

    (void)ctx;
    assert_true(large_count <= LARGE_RECORDS && item->key_len < sizeof(record->key));
    assert_int_equal(item->cursor.hint >> 32, 1);
    record->offset = (item->cursor.hint & UINT32_MAX) * 8;
    record->end = record->offset + ((40 + item->key_len + item->value_len + 7) & ~7u);
    record->key_len = item->key_len;
    record->deleted = item->deleted;
    memcpy(record->key, item->key, item->key_len);
    return 0;
}

static struct disk *build_large(struct store_options *options)
{
    struct disk *disk = disk_new(1);
    struct store_written written;
    struct store *store;
    struct namespace *ns;

    *options = options_for(disk, STORE_USER, LARGE_SEGMENT);
    assert_int_equal(store_open(options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    for (uint32_t i = 0; i < LARGE_KEYS * 2; i++) {
        char key[16];
        struct store_write write = {.key = key,
                                    .key_len = (uint32_t)snprintf(key, 16, "k%u", i % LARGE_KEYS),
                                    .value = buffer,
                                    .value_len = i % 50 == 0 ? 18000 : i * 7 % 3000};

        for (uint32_t b = 0; b < write.value_len; b++)
            buffer[b] = (uint8_t)(i + b * 13);
        assert_int_equal(store_set(ns, &write, &written), 0);
        if (i % 7 == 0)
            assert_int_equal(store_del(ns, key, write.key_len, 0, &written), 0);
    }
    store_namespace_put(ns);
    assert_int_equal(store_close(store), 0);
    disk_reboot(disk);
    return disk;
}

/* What two ways to a record say: its key, where it is alive, and its place. */
static int read_both(struct namespace *ns, const struct large_record *record)
{
    struct store_sink sink = {.reserve = reserve};
    struct store_value value;
    struct store_item item;
    char key[STORE_KEY_MAX];
    int raw = store_raw(ns, 1, record->offset, key, &item, &sink, &value);

    if (record->alive && store_get(ns, record->key, record->key_len, &sink, &value) != raw)
        return 1;
    return raw;
}

/* Every byte of a segment of more than 2 MiB, one after another, beneath a store that is open and has nothing in memory: the
 * record in which it lies is refused, and is right again with the byte. */
static void test_large(void **state)
{
    struct store_options options;
    struct disk *disk = build_large(&options);
    struct store_follower *follower;
    struct store_cursor cursor = {0};
    const char *path;
    char name[128];
    struct store *store;
    struct namespace *ns;
    uint64_t end = 64;
    bool more = true;

    (void)state;
    path = disk_find(disk, "00000001.seg", 0);
    snprintf(name, sizeof(name), "%s", path);
    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    assert_int_equal(store_follower_new(ns, &follower), 0);
    large_count = 0;
    while (more)
        assert_true(store_follow(follower, &cursor, 100, note_record, NULL, &more) >= 0);
    store_follower_free(follower);
    for (uint32_t i = 0; i < large_count; i++) {
        struct store_value value;

        assert_int_equal(large[i].offset, end); /* no byte belongs to nobody */
        end = large[i].end;
        large[i].alive = store_stat(ns, large[i].key, large[i].key_len, &value) == 0 &&
                         (value.cursor.hint & UINT32_MAX) * 8 == large[i].offset;
    }
    assert_true(end > (2u << 20) && disk_size(disk, name) >= (int64_t)end &&
                disk_size(disk, name) < (int64_t)end + 128);
    for (uint32_t i = 0; i < large_count; i++) {
        for (uint64_t at = large[i].offset; at < large[i].end; at++) {
            uint8_t right = disk_peek(disk, name, at);

            /* Zeros behind a deletion's key: nothing reads them but compaction, which wants them. */
            if (large[i].deleted && at >= large[i].offset + 40 + large[i].key_len)
                break;
            disk_poke(disk, name, at, (uint8_t)(right ^ (1u << (at * 5 % 8))));
            if (read_both(ns, &large[i]) != STORE_DAMAGED)
                fail_msg("byte %lu, record %u of %u: not refused", (unsigned long)at, i,
                         large_count);
            disk_poke(disk, name, at, right);
        }
        assert_int_equal(read_both(ns, &large[i]), 0);
    }
    print_message("%lu bytes of %u records, each flipped\n", (unsigned long)end - 64, large_count);
    store_namespace_put(ns);
    store_abandon(store);
    /* What no read meets, the recovery does: the header, and the record at the end. */
    for (uint64_t at = 0; at < (uint64_t)disk_size(disk, name); at = at == 63 ? end : at + 1) {
        struct disk *copy = disk_copy(disk, 1);
        struct store_info info;

        options.io = disk_io(copy);
        disk_poke(copy, name, at, (uint8_t)(disk_peek(copy, name, at) ^ 0x20));
        disk_remove(copy, "/kv/ns-00000001.index");
        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
        store_namespace_info(ns, &info);
        if (info.damaged == 0 && info.cut_bytes == 0)
            fail_msg("byte %lu: not reported", (unsigned long)at);
        store_namespace_put(ns);
        store_abandon(store);
        disk_free(copy);
    }
    disk_free(disk);
}

static void test_seq(void **state)
{
    (void)state;
    flip(STORE_SEQ, 9, 30, 2, false);
    flip(STORE_SEQ, 9, 30, 2, true);
}

/* Files that are only a saving, or have a second source: everything is still right. */
static void test_index(void **state)
{
    (void)state;
    for (int mode = STORE_USER; mode <= STORE_SEQ; mode++) {
        struct disk *disk = build((enum store_mode)mode, 12, 30, 60000);
        const char *names[] = {"/kv/ns-00000001.index", "/kv/ns-00000001.slots", "/kv/store"};

        for (unsigned i = 0; i < 3; i++)
            for (int64_t bit = 0; bit < disk_size(disk, names[i]) * 8; bit++) {
                struct disk *copy = disk_copy(disk, 1);
                struct seen seen;
                int64_t at = bit / 8;

                disk_poke(copy, names[i], (uint64_t)at,
                          (uint8_t)(disk_peek(copy, names[i], (uint64_t)at) ^ (1u << (bit % 8))));
                seen = read_all(copy, (enum store_mode)mode, 12, 60000, names[i], (uint64_t)at);
                if (seen.damaged != 0)
                    fail_msg("%s at %ld: %u keys damaged", names[i], (long)at, seen.damaged);
                disk_free(copy);
            }
        for (unsigned i = 0; i < 3; i++) /* and shorter, to nothing */
            for (int64_t size = disk_size(disk, names[i]) - 1; size >= 0; size--) {
                struct disk *copy = disk_copy(disk, 1);
                struct seen seen;

                disk_chop(copy, names[i], (uint64_t)size);
                seen = read_all(copy, (enum store_mode)mode, 12, 60000, names[i], (uint64_t)size);
                if (seen.damaged != 0)
                    fail_msg("%s cut to %ld: %u keys damaged", names[i], (long)size, seen.damaged);
                disk_free(copy);
            }
        disk_free(disk);
    }
}

/* The descriptor: that namespace is shown and refused, the others live. */
static void test_descriptor(void **state)
{
    struct disk *disk = build(STORE_USER, 5, 30, 60000);
    struct store_options options;
    struct store *store;
    char name[] = "/kv/ns-00000003/descriptor";

    (void)state;
    options = options_for(disk, STORE_USER, 60000);
    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_create(store, "other", 5, NULL), 0);
    {
        struct namespace *ns;
        struct store_written written;
        struct store_write write = {.key = "a", .key_len = 1, .value = "b", .value_len = 1};

        assert_int_equal(store_namespace_get(store, "other", 5, &ns), 0);
        assert_int_equal(store_set(ns, &write, &written), 0);
        store_namespace_put(ns);
    }
    assert_int_equal(store_close(store), 0);
    disk_reboot(disk);
    for (int64_t bit = 0; bit <= disk_size(disk, name) * 9; bit++) {
        int64_t size = disk_size(disk, name), at = bit < size * 8 ? bit / 8 : bit - size * 8;
        struct disk *copy = disk_copy(disk, 1);
        struct namespace *ns;
        struct store_info info;
        struct store_value value;
        struct seen seen;

        if (bit < size * 8)
            disk_poke(copy, name, (uint64_t)at,
                      (uint8_t)(disk_peek(copy, name, (uint64_t)at) ^ (1u << (bit % 8))));
        else if (at < size)
            disk_chop(copy, name, (uint64_t)at);
        else
            disk_remove(copy, name); /* with segments, that is damage, too */
        seen = read_all(copy, STORE_USER, 5, 60000, "descriptor", (uint64_t)at);
        assert_int_equal(seen.damaged, 0);
        options = options_for(copy, STORE_USER, 60000);
        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "other", 5, &ns), STORE_NO_NAMESPACE);
        assert_int_equal(store_namespace_get(store, "damaged-3", 9, &ns), 0);
        store_namespace_info(ns, &info);
        assert_true(info.descriptor_damaged && info.damaged > 0);
        assert_int_equal(store_stat(ns, "a", 1, &value), STORE_IS_FROZEN);
        store_namespace_put(ns);
        store_abandon(store);
        assert_true(disk_size(copy, "/kv/ns-00000003/00000001.seg") > 0);
        disk_free(copy);
    }
    disk_free(disk);
}

/* Shorter files and missing ones, where the index knows how much there was. */
static void test_missing(void **state)
{
    struct disk *disk = build(STORE_USER, KEYS, 700, 29000);
    char name[] = "/kv/ns-00000001/00000001.seg";

    (void)state;
    assert_true(disk_size(disk, "/kv/ns-00000001/00000002.seg") > 0);
    for (unsigned i = 1; i <= 2; i++) {
        name[strlen(name) - 5] = (char)('0' + i);
        for (int64_t size = disk_size(disk, name) - 1; size >= -1; size -= size > 40 ? 37 : 1) {
            for (unsigned rebuilt = 0; rebuilt < 2; rebuilt++) {
                struct disk *copy = disk_copy(disk, 1);
                struct seen seen;

                if (size < 0)
                    disk_remove(copy, name);
                else
                    disk_chop(copy, name, (uint64_t)size);
                /* Without the index the end of the last segment is nobody's knowledge. */
                if (rebuilt && i == 1)
                    disk_remove(copy, "/kv/ns-00000001.index");
                seen = read_all(copy, STORE_USER, KEYS, 29000, "chopped", (uint64_t)size);
                /* The last 40 bytes are a mark: with it goes nothing but what it said. */
                if (seen.info.damaged == 0 &&
                    (i == 1 || size < disk_size(disk, name) - 40 || seen.right < KEYS))
                    fail_msg("segment %u chopped to %ld: not reported", i, (long)size);
                disk_free(copy);
            }
        }
    }
    disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),    cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_large),   cmocka_unit_test(test_seq),
        cmocka_unit_test(test_index),   cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
