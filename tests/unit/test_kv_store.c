// The engine's interface: conditions, modes, scans, history, quotas, namespaces, several threads.
// sources: tests/unit/kv_disk.c core0/kv/io.c core0/kv/record.c core0/kv/record_crc.c
// sources: core0/kv/index.c core0/kv/index_slots.c core0/kv/index_snapshot.c core0/kv/namespace.c
// sources: core0/kv/segment.c core0/kv/recover.c core0/kv/recover_replay.c core0/kv/recover_tail.c
// sources: core0/kv/compact.c core0/kv/compact_copy.c core0/kv/store.c core0/kv/store_commit.c
// sources: core0/kv/store_namespace.c core0/kv/store_read.c core0/kv/store_scan.c core0/kv/store_write.c
// sources: core0/kv/store_buffer.c core0/kv/store_segment.c core0/kv/store_upkeep.c core0/kv/segment_file.c
// sources: core0/kv/store_follow.c
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/file.h"

#include "kv_disk.h"

#include "kv/record.h"
#include "kv/store.h"

static struct disk *disk;
static struct store *store;
static struct namespace *ns;
static char buffer[1 << 20];
static uint32_t got;

static void *reserve(void *ctx, uint32_t len)
{
    (void)ctx;
    got = len;
    return len <= sizeof(buffer) ? buffer : NULL;
}
static const struct store_sink sink = {.reserve = reserve};

static void open_store(enum store_mode mode, enum store_sync sync)
{
    struct store_options options = {.data = "/kv",
                                    .index = "/ssd",
                                    .io = disk_io(disk),
                                    .mode = mode,
                                    .sync = sync,
                                    .max_value = 100000,
                                    .segment_size = 200000,
                                    .manual = true};
    struct error err = {0};

    if (store_open(&options, &store, &err) < 0)
        fail_msg("%s: %s", err.code, err.message);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
}

static void close_store(void)
{
    store_namespace_put(ns);
    assert_int_equal(store_close(store), 0);
    disk_reboot(disk);
}

static int setup(void **state)
{
    (void)state;
    disk = disk_new(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(disk_open_files(disk), 0);
    disk_free(disk);
    return 0;
}

static int set(const char *key, const char *value, enum store_condition condition, uint64_t version,
               struct store_written *ret)
{
    struct store_write write = {.key = key,
                                .key_len = (uint32_t)strlen(key),
                                .value = value,
                                .value_len = (uint32_t)strlen(value),
                                .time = 1234,
                                .condition = condition,
                                .version = version};

    return store_set(ns, &write, ret);
}

static void assert_value(const char *key, const char *value)
{
    struct store_value read;

    assert_int_equal(store_get(ns, key, (uint32_t)strlen(key), &sink, &read), 0);
    assert_int_equal(got, strlen(value));
    assert_memory_equal(buffer, value, got);
}

static void test_conditions(void **state)
{
    struct store_written first, second, third;
    struct store_value value;

    (void)state;
    open_store(STORE_USER, STORE_SYNC_ALWAYS);
    assert_int_equal(set("a", "1", STORE_SET_XX, 0, &first), STORE_CONDITION);
    assert_int_equal(set("a", "1", STORE_SET_IFEQ, 5, &first), STORE_CONDITION);
    assert_int_equal(set("a", "1", STORE_SET_NX, 0, &first), 0);
    assert_int_equal(set("a", "2", STORE_SET_NX, 0, &second), STORE_CONDITION);
    assert_int_equal(set("a", "1", STORE_SET_NX, 0, &second),
                     STORE_CONDITION); /* same value, too */
    assert_value("a", "1");
    assert_int_equal(set("a", "2", STORE_SET_IFEQ, 0, &second), STORE_CONDITION);
    assert_int_equal(set("a", "2", STORE_SET_IFEQ, first.version, &second), 0);
    assert_true(second.version > first.version);
    assert_int_equal(set("a", "3", STORE_SET_IFEQ, first.version, &third), STORE_CONDITION);
    assert_int_equal(set("a", "2", STORE_SET_IFEQ, second.version, &third), 0);
    assert_true(third.unchanged);
    assert_int_equal(third.version, second.version);
    assert_int_equal(set("a", "3", STORE_SET_XX, 0, &third), 0);
    assert_int_equal(store_del(ns, "a", 1, 0, &second), 0);
    assert_int_equal(store_del(ns, "a", 1, 0, &second), STORE_NO_KEY);
    assert_int_equal(store_get(ns, "a", 1, &sink, &value), STORE_NO_KEY);
    assert_int_equal(set("a", "4", STORE_SET_IFEQ, third.version, &first), STORE_CONDITION);
    assert_int_equal(set("a", "4", STORE_SET_IFEQ, 0, &first), 0);
    assert_true(first.version > third.version); /* never used again, also after a deletion */
    assert_int_equal(store_stat(ns, "a", 1, &value), 0);
    assert_int_equal(value.version, first.version);
    assert_int_equal(value.len, 1);
    assert_int_equal(value.time, 1234);
    close_store();
}

/* Two values of the same length and checksum are two values. */
static void test_unchanged(void **state)
{
    struct store_written written;
    uint8_t a[12] = {0}, b[12] = {0};
    bool found = false;

    (void)state;
    open_store(STORE_USER, STORE_SYNC_NONE);
    /* CRC32C is linear: with 8 free bytes, one that solves for the other 4 always exists. Search it in
     * the difference: 4 bytes of any value and their own checksum's inverse. */
    memcpy(a, "collision", 9);
    for (uint64_t bits = 1; bits != 0 && !found; bits <<= 1) {
        uint32_t want = record_crc32c(0, a, sizeof(a));

        memcpy(b, a, sizeof(b));
        memcpy(b, &bits, 8);
        /* Gauss over the 32 bits of the last 4 bytes. */
        uint32_t rows[32], unit[32], rest = 0, solution = 0;
        uint32_t base;

        memset(b + 8, 0, 4);
        base = record_crc32c(0, b, sizeof(b));
        for (unsigned i = 0; i < 32; i++) {
            uint32_t one = 1u << i;

            memcpy(b + 8, &one, 4);
            rows[i] = record_crc32c(0, b, sizeof(b)) ^ base;
            unit[i] = one;
        }
        rest = base ^ want;
        for (unsigned bit = 0; bit < 32; bit++) {
            unsigned pivot = bit;

            while (pivot < 32 && (rows[pivot] >> bit & 1) == 0)
                pivot++;
            assert_true(pivot < 32);
            uint32_t row = rows[pivot], which = unit[pivot];

            rows[pivot] = rows[bit];
            unit[pivot] = unit[bit];
            rows[bit] = row;
            unit[bit] = which;
            for (unsigned i = 0; i < 32; i++)
                if (i != bit && (rows[i] >> bit & 1) != 0) {
                    rows[i] ^= row;
                    unit[i] ^= which;
                }
        }
        for (unsigned bit = 0; bit < 32; bit++)
            if ((rest >> bit & 1) != 0)
                solution ^= unit[bit];
        memcpy(b + 8, &solution, 4);
        found = record_crc32c(0, b, sizeof(b)) == want && memcmp(a, b, sizeof(a)) != 0;
    }
    assert_true(found);
    struct store_write write = {.key = "k", .key_len = 1, .value = a, .value_len = sizeof(a)};

    assert_int_equal(store_set(ns, &write, &written), 0);
    assert_false(written.unchanged);
    assert_int_equal(store_set(ns, &write, &written), 0);
    assert_true(written.unchanged);
    write.value = b;
    assert_int_equal(store_set(ns, &write, &written), 0);
    assert_false(written.unchanged);
    struct store_value value;

    assert_int_equal(store_get(ns, "k", 1, &sink, &value), 0);
    assert_memory_equal(buffer, b, sizeof(b));
    close_store();
}

struct list {
    uint64_t numbers[64];
    char keys[64][8];
    uint32_t count;
};

static int list_each(void *ctx, const struct store_item *item)
{
    struct list *list = ctx;

    assert_true(list->count < 64 && item->key_len < 8);
    list->numbers[list->count] = item->cursor.number;
    memcpy(list->keys[list->count], item->key, item->key_len);
    list->keys[list->count++][item->key_len] = '\0';
    return 0;
}

static void test_scan_and_history(void **state)
{
    struct store_cursor cursor = {0}, at = {0};
    struct list list = {0}, back = {0}, keys = {0};
    struct store_written written;
    struct store_value value;
    uint64_t walk = 0;
    bool more;

    (void)state;
    open_store(STORE_USER, STORE_SYNC_ALWAYS);
    for (unsigned i = 0; i < 30; i++) {
        char key[8], text[32];

        snprintf(key, sizeof(key), "k%u", i % 10);
        snprintf(text, sizeof(text), "value %u", i);
        assert_int_equal(set(key, text, STORE_SET_ALWAYS, 0, &written), 0);
    }
    assert_int_equal(store_del(ns, "k3", 2, 0, &written), 0);
    assert_int_equal(store_scan(ns, &cursor, false, 4, list_each, &list, &more, NULL), 4);
    assert_true(more);
    at = cursor;
    /* Compaction moves all of it; the cursor still names the same place. */
    for (unsigned i = 0; i < 4; i++) {
        memset(buffer, 'x', 90000);
        struct store_write write = {
            .key = "big", .key_len = 3, .value = buffer, .value_len = 90000 + i};

        assert_int_equal(store_set(ns, &write, &written), 0);
    }
    assert_int_equal(store_namespace_compact(ns), 0);
    struct store_info info;

    store_namespace_info(ns, &info);
    assert_int_equal(info.entries, 10);
    assert_true(info.disk_bytes < 250000);
    assert_int_equal(store_scan(ns, &cursor, false, 100, list_each, &list, &more, NULL), 6);
    assert_false(more);
    assert_int_equal(list.count, 10);
    for (uint32_t i = 0; i < 9; i++) {
        char key[8];

        snprintf(key, sizeof(key), "k%u", i < 3 ? i : i + 1);
        assert_string_equal(list.keys[i], key);
        assert_true(i == 0 || list.numbers[i] > list.numbers[i - 1]);
    }
    cursor = at;
    cursor.hint = 0x7777777777777777; /* only a hint */
    list.count = 4;
    assert_int_equal(store_scan(ns, &cursor, false, 100, list_each, &list, &more, NULL), 6);
    cursor = (struct store_cursor){0};
    assert_int_equal(store_scan(ns, &cursor, true, 100, list_each, &back, &more, NULL), 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_string_equal(back.keys[i], list.keys[9 - i]);
    assert_int_equal(store_stat(ns, "k5", 2, &value), 0);
    cursor = value.cursor;
    back.count = 0;
    assert_int_equal(store_scan(ns, &cursor, true, 2, list_each, &back, &more, NULL), 2);
    assert_string_equal(back.keys[0], "k4");
    assert_string_equal(back.keys[1], "k2");
    assert_int_equal(store_keys(ns, "k", 1, &walk, list_each, &keys), 0);
    assert_int_equal(keys.count, 9);

    /* The compaction took the history; what is written after it has one. */
    cursor = (struct store_cursor){0};
    assert_int_equal(store_history(ns, "k5", 2, &cursor, &sink, &value), 0);
    assert_memory_equal(buffer, "value 25", 8);
    assert_int_equal(cursor.number, 0);
    assert_int_equal(set("k5", "newer", STORE_SET_ALWAYS, 0, &written), 0);
    assert_int_equal(set("k5", "newest", STORE_SET_ALWAYS, 0, &written), 0);
    const char *expected[] = {"newest", "newer", "value 25"};

    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(store_history(ns, "k5", 2, &cursor, &sink, &value), 0);
        assert_int_equal(got, strlen(expected[i]));
        assert_memory_equal(buffer, expected[i], got);
        assert_int_equal(cursor.number != 0, i < 2);
    }
    struct store_place place;
    struct store_item item;
    char key[STORE_KEY_MAX];

    assert_int_equal(store_locate(ns, &value.cursor, &place), 0);
    assert_int_equal(store_raw(ns, place.segment, place.offset, key, &item, &sink, &value), 0);
    assert_memory_equal(buffer, "value 25", 8);
    assert_int_equal(store_raw(ns, place.segment, place.offset + 8, key, &item, &sink, &value),
                     STORE_DAMAGED);
    close_store();
}

static void test_seq(void **state)
{
    struct store_written written;
    struct store_value value;
    uint32_t id;

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        if (round == 2)
            disk_remove(disk, "/ssd/ns-00000001.slots");
        if (round == 2)
            disk_remove(disk, "/ssd/ns-00000001.index");
        open_store(STORE_SEQ, STORE_SYNC_EVERYSEC);
        for (uint32_t i = 0; i < 500; i++) {
            uint32_t text = round * 500 + i;
            struct store_write write = {.value = &text, .value_len = 4};

            assert_int_equal(store_set(ns, &write, &written), 0);
            memcpy(&id, written.key, 4);
            assert_int_equal(id, text);
        }
        for (uint32_t i = 0; i < 200; i++) {
            uint32_t text = round * 1000000 + i;
            struct store_write write = {.key = &i, .key_len = 4, .value = &text, .value_len = 4};

            if (i % 3 == 1) { /* deleted in the first round: an id is not made by a client */
                int ret = store_del(ns, &i, 4, 0, &written);

                assert_int_equal(ret, round == 0 ? 0 : STORE_NO_KEY);
                assert_int_equal(store_set(ns, &write, &written), STORE_NO_KEY);
                continue;
            }
            assert_int_equal(store_set(ns, &write, &written), 0);
            assert_int_equal(written.unchanged, round == 0);
        }
        if (round == 1)
            assert_int_equal(store_namespace_compact(ns), 0);
        for (unsigned again = 0; again < 2; again++) {
            for (uint32_t i = 0; i < (round + 1) * 500; i++) {
                int ret = store_get(ns, &i, 4, &sink, &value);
                uint32_t text;

                memcpy(&text, buffer, 4);
                assert_int_equal(ret, i < 200 && i % 3 == 1 ? STORE_NO_KEY : 0);
                if (ret == 0)
                    assert_int_equal(text, i < 200 ? round * 1000000 + i : i);
            }
            if (again == 0 && round != 1) {
                close_store();
                open_store(STORE_SEQ, STORE_SYNC_EVERYSEC);
            } else if (again == 0) {
                assert_int_equal(store_namespace_reload(ns), 0);
            }
        }
        struct store_info info;

        store_namespace_info(ns, &info);
        assert_int_equal(info.entries, (round + 1) * 500 - 67);
        assert_int_equal(info.bytes, info.entries * 8);
        close_store();
    }
    open_store(STORE_SEQ, STORE_SYNC_EVERYSEC);
    id = 5000;
    assert_int_equal(store_get(ns, &id, 4, &sink, &value), STORE_NO_KEY);
    assert_int_equal(store_get(ns, &id, 3, &sink, &value), STORE_INVALID);
    assert_int_equal(store_namespace_flush(ns), 0);
    struct store_write write = {.value = "x", .value_len = 1};

    assert_int_equal(store_set(ns, &write, &written), 0);
    memcpy(&id, written.key, 4);
    assert_int_equal(id, 0);
    assert_true(written.version > 1500);
    close_store();
}

static void test_quota_and_locks(void **state)
{
    struct store_properties properties = {.mode = STORE_USER, .maxsize = 30};
    struct store_written written;
    struct store_value value;
    struct store_info info;

    (void)state;
    open_store(STORE_USER, STORE_SYNC_ALWAYS);
    store_namespace_put(ns);
    assert_int_equal(store_namespace_create(store, "q", 1, &properties), 0);
    assert_int_equal(store_namespace_create(store, "q", 1, &properties), STORE_EXISTS);
    assert_int_equal(store_namespace_get(store, "q", 1, &ns), 0);
    assert_int_equal(set("aaaaa", "0123456789", STORE_SET_ALWAYS, 0, &written), 0); /* 15 */
    assert_int_equal(set("bbbbb", "0123456789", STORE_SET_ALWAYS, 0, &written), 0); /* 30 */
    assert_int_equal(set("c", "", STORE_SET_ALWAYS, 0, &written), STORE_OVER_QUOTA);
    assert_int_equal(set("bbbbb", "0123456789x", STORE_SET_ALWAYS, 0, &written), STORE_OVER_QUOTA);
    assert_int_equal(set("bbbbb", "x123456789", STORE_SET_ALWAYS, 0, &written), 0);
    assert_int_equal(set("bbbbb", "012345678", STORE_SET_ALWAYS, 0, &written), 0); /* 29 */
    assert_int_equal(set("c", "", STORE_SET_ALWAYS, 0, &written), 0);              /* 30 */
    store_namespace_info(ns, &info);
    assert_int_equal(info.bytes, 30);
    assert_int_equal(store_del(ns, "aaaaa", 5, 0, &written), 0);
    store_namespace_info(ns, &info);
    assert_int_equal(info.bytes, 15);
    assert_int_equal(info.entries, 2);
    properties.lock = STORE_LOCKED;
    assert_int_equal(store_namespace_set(ns, &properties), 0);
    assert_int_equal(set("d", "", STORE_SET_ALWAYS, 0, &written), STORE_IS_LOCKED);
    assert_int_equal(store_del(ns, "c", 1, 0, &written), STORE_IS_LOCKED);
    assert_int_equal(store_namespace_flush(ns), STORE_IS_LOCKED);
    assert_int_equal(store_stat(ns, "c", 1, &value), 0);
    properties.lock = STORE_FROZEN;
    assert_int_equal(store_namespace_set(ns, &properties), 0);
    assert_int_equal(store_stat(ns, "c", 1, &value), STORE_IS_FROZEN);
    properties.lock = STORE_NORMAL;
    properties.worm = true;
    assert_int_equal(store_namespace_set(ns, &properties), 0);
    assert_int_equal(set("c", "1", STORE_SET_ALWAYS, 0, &written), STORE_WORM);
    assert_int_equal(set("c", "", STORE_SET_ALWAYS, 0, &written), 0);
    assert_int_equal(store_del(ns, "c", 1, 0, &written), STORE_WORM);
    assert_int_equal(set("new", "1", STORE_SET_ALWAYS, 0, &written), 0);
    properties.mode = STORE_SEQ;
    assert_int_equal(store_namespace_set(ns, &properties), STORE_NOT_EMPTY);
    memset(buffer, 'k', 2000);
    struct store_write write = {.key = buffer, .key_len = 1025, .value = "", .value_len = 0};

    assert_int_equal(store_set(ns, &write, &written), STORE_TOO_LARGE);
    write.key_len = 0;
    assert_int_equal(store_set(ns, &write, &written), STORE_INVALID);
    properties.mode = STORE_USER;
    properties.worm = false;
    properties.maxsize = 0;
    assert_int_equal(store_namespace_set(ns, &properties), 0);
    write.key_len = 1024;
    write.value = buffer;
    write.value_len = 100000;
    assert_int_equal(store_set(ns, &write, &written), 0);
    memset(buffer, 0, sizeof(buffer));
    char key[1024];

    memset(key, 'k', sizeof(key));
    assert_int_equal(store_get(ns, key, sizeof(key), &sink, &value), 0);
    assert_int_equal(got, 100000);
    assert_int_equal(store_check(ns, key, sizeof(key)), 0);
    write.value_len = 100001;
    assert_int_equal(store_set(ns, &write, &written), STORE_TOO_LARGE);
    assert_int_equal(store_namespace_delete(store, "q", 1), 0);
    assert_int_equal(store_set(ns, &write, &written), STORE_TOO_LARGE);
    assert_int_equal(set("x", "", STORE_SET_ALWAYS, 0, &written), STORE_NO_NAMESPACE);
    assert_int_equal(store_stat(ns, "c", 1, &value), STORE_NO_NAMESPACE);
    store_namespace_put(ns);
    assert_int_equal(store_namespace_get(store, "q", 1, &ns), STORE_NO_NAMESPACE);
    assert_int_equal(store_namespace_create(store, "q", 1, NULL), 0);
    assert_int_equal(store_namespace_get(store, "q", 1, &ns), 0);
    store_namespace_info(ns, &info);
    assert_int_equal(info.entries, 0);
    assert_int_equal(info.id, 3);
    assert_int_equal(store_namespace_delete(store, "default", 7), STORE_INVALID);
    close_store();
    assert_true(disk_size(disk, "/kv/ns-00000002/descriptor") < 0);
}

static int follow_each(void *ctx, const struct store_item *item)
{
    struct list *list = ctx;

    list_each(ctx, item);
    if (item->deleted)
        strcat(list->keys[list->count - 1], "-");
    return 0;
}

static void test_follow(void **state)
{
    struct store_cursor cursor = {0}, old;
    struct list list = {0};
    struct store_written written;
    struct store_follower *follower;
    bool more;

    (void)state;
    open_store(STORE_USER, STORE_SYNC_ALWAYS);
    assert_int_equal(store_follower_new(ns, &follower), 0);
    assert_int_equal(set("a", "1", STORE_SET_ALWAYS, 0, &written), 0);
    /* Not answered yet: a replica must not know it. */
    assert_int_equal(store_follow(follower, &cursor, 10, follow_each, &list, &more), 0);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(store_follow(follower, &cursor, 10, follow_each, &list, &more), 1);
    old = cursor;
    assert_int_equal(set("a", "2", STORE_SET_ALWAYS, 0, &written), 0);
    assert_int_equal(store_del(ns, "a", 1, 0, &written), 0);
    struct store_write write = {
        .key = "b", .key_len = 1, .value = "v", .value_len = 1, .number = 77};

    assert_int_equal(store_set(ns, &write, &written), 0);
    write.number = 70; /* numbers rise */
    write.value = "w";
    assert_int_equal(store_set(ns, &write, &written), STORE_INVALID);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(store_follow(follower, &cursor, 10, follow_each, &list, &more), 3);
    assert_string_equal(list.keys[2], "a-");
    assert_int_equal(list.numbers[3], 77);
    memset(buffer, 1, 90000);
    for (unsigned i = 0; i < 5; i++) {
        write =
            (struct store_write){.key = "c", .key_len = 1, .value = buffer, .value_len = 80000 + i};
        assert_int_equal(store_set(ns, &write, &written), 0);
    }
    /* The deletion of "a" is kept for a follower that is there; without one it goes. */
    assert_int_equal(store_follow(follower, &old, 1, follow_each, &list, &more), 1);
    assert_int_equal(store_namespace_compact(ns), 0);
    assert_int_equal(store_follow(follower, &old, 10, follow_each, &list, &more), 3);
    assert_string_equal(list.keys[list.count - 3], "a-");
    store_follower_free(follower);
    memset(buffer, 2, 90000);
    for (unsigned i = 0; i < 5; i++) {
        write =
            (struct store_write){.key = "c", .key_len = 1, .value = buffer, .value_len = 70000 + i};
        assert_int_equal(store_set(ns, &write, &written), 0);
    }
    assert_int_equal(store_namespace_compact(ns), 0);
    old = (struct store_cursor){.number = 2};
    assert_int_equal(store_follower_new(ns, &follower), 0);
    assert_int_equal(store_follow(follower, &old, 10, follow_each, &list, &more),
                     STORE_STALE_CURSOR);
    store_follower_free(follower);
    close_store();
}

#define COPIED 400u

/* A copy as a replica makes it. */
struct copy {
    uint64_t last;
    bool has[COPIED];
    unsigned value[COPIED];
};

static int copy_each(void *ctx, const struct store_item *item)
{
    struct copy *copy = ctx;
    uint32_t key;

    assert_int_equal(item->key_len, sizeof(key));
    memcpy(&key, item->key, sizeof(key));
    assert_true(key < COPIED && item->cursor.number > copy->last);
    copy->last = item->cursor.number;
    copy->has[key] = !item->deleted;
    copy->value[key] = item->value_len;
    return 0;
}

/* A copy of a namespace in which everything moves: whatever is compacted on the way, it ends as the original. */
static void test_copy(void **state)
{
    static struct copy copy;
    unsigned begun = 0;

    (void)state;
    for (unsigned step = 1; step < 60; step += 7) { /* records taken between two compactions */
        struct store_cursor cursor = {0};
        struct store_follower *follower;
        struct store_written written;
        unsigned random = step;
        bool more = true;
        int last = 1;

        open_store(STORE_USER, STORE_SYNC_EVERYSEC);
        for (unsigned i = 0; i < 3000; i++) {
            uint32_t key = (random = random * 1103515245u + 12345u) >> 16;
            struct store_write write = {.key = &key,
                                        .key_len = sizeof(key),
                                        .value = buffer,
                                        .value_len = 1 + (random >> 8) % 4000};

            key %= COPIED;
            if (random % 5 == 0)
                store_del(ns, &key, sizeof(key), 0, &written);
            else
                assert_int_equal(store_set(ns, &write, &written), 0);
        }
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_namespace_compact(ns), 0); /* drops deletions: nobody follows yet */
        memset(&copy, 0, sizeof(copy));
        assert_int_equal(store_follower_new(ns, &follower), 0);
        for (unsigned turn = 0; last > 0 || turn <= 200; turn++) {
            int taken = store_follow(follower, &cursor, step, copy_each, &copy, &more);

            if (taken == STORE_STALE_CURSOR) {
                begun++;
                cursor = (struct store_cursor){0};
                memset(&copy, 0, sizeof(copy));
                continue;
            }
            assert_true(taken >= 0);
            last = taken;
            if (turn < 200) {
                uint32_t key = turn * 3 % COPIED;
                struct store_write write = {
                    .key = &key, .key_len = sizeof(key), .value = buffer, .value_len = 3000 + turn};

                if (turn % 2 == 0)
                    store_del(ns, &key, sizeof(key), 0, &written);
                else
                    assert_int_equal(store_set(ns, &write, &written), 0);
                if (turn % 20 == 0)
                    assert_int_equal(store_namespace_compact(ns), 0);
                assert_int_equal(store_commit(store), 0);
            }
        }
        for (uint32_t key = 0; key < COPIED; key++) {
            struct store_value value;
            int ret = store_stat(ns, &key, sizeof(key), &value);

            assert_int_equal(ret, copy.has[key] ? 0 : STORE_NO_KEY);
            if (ret == 0)
                assert_int_equal(value.len, copy.value[key]);
        }
        if (step == 1) { /* FLUSH takes what the copy has */
            assert_int_equal(store_namespace_flush(ns), 0);
            assert_int_equal(store_follow(follower, &cursor, 10, copy_each, &copy, &more),
                             STORE_STALE_CURSOR);
            cursor = (struct store_cursor){0};
            assert_int_equal(store_follow(follower, &cursor, 10, copy_each, &copy, &more), 0);
        }
        store_follower_free(follower);
        close_store();
        disk_free(disk);
        disk = disk_new(step);
    }
    assert_int_equal(begun, 0); /* it was there all the time */
}

/* A copy that begins anew takes its original's numbers again, also after a restart and behind a lock. */
static void test_restart(void **state)
{
    struct store_written written;
    struct store_properties properties;
    struct store_info info;

    (void)state;
    open_store(STORE_USER, STORE_SYNC_ALWAYS);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(
            set(i % 2 == 0 ? "a" : "b", i % 3 == 0 ? "1" : "2", STORE_SET_ALWAYS, 0, &written), 0);
    close_store();
    open_store(STORE_USER, STORE_SYNC_ALWAYS); /* with a saved index */
    store_namespace_properties(ns, &properties);
    properties.lock = STORE_LOCKED;
    assert_int_equal(store_namespace_set(ns, &properties), 0);
    assert_int_equal(store_namespace_flush(ns), STORE_IS_LOCKED);
    assert_int_equal(store_namespace_restart(ns), 0);
    store_namespace_info(ns, &info);
    assert_int_equal(info.entries, 0);
    assert_int_equal(info.last_number, 0);
    properties.lock = STORE_NORMAL;
    assert_int_equal(store_namespace_set(ns, &properties), 0);
    for (unsigned round = 0; round < 2; round++) {
        struct store_write write = {
            .key = "k", .key_len = 1, .value = "v", .value_len = 1, .number = 3 + round};

        close_store();
        open_store(STORE_USER, STORE_SYNC_ALWAYS);
        store_namespace_info(ns, &info);
        assert_int_equal(info.damaged, 0);
        assert_int_equal(info.entries, round);
        assert_int_equal(info.last_number, round == 0 ? 0 : 3);
        assert_int_equal(store_set(ns, &write, &written), 0);
        assert_int_equal(written.version, 3 + round);
    }
    close_store();
}

/* ---- threads, on the real disk ---------------------------------------------------------------- */

#define WORKERS 3
#define ROUNDS 1500

static struct store *shared;
static struct namespace *shared_ns;

/* Counts up one counter with IFEQ, and writes keys of its own; waits for the answers. */
static void *worker_run(void *ctx)
{
    uintptr_t number = (uintptr_t)ctx, won = 0;
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    char place[64];
    struct store_value value;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct store_written written = {0};
        char key[32], text[32];
        struct store_sink to = {.reserve = NULL};
        int ret;

        (void)to;
        snprintf(key, sizeof(key), "w%u-%u", (unsigned)number, i % 100);
        snprintf(text, sizeof(text), "%u", i);
        struct store_write write = {.key = key,
                                    .key_len = (uint32_t)strlen(key),
                                    .value = text,
                                    .value_len = (uint32_t)strlen(text)};

        if (store_set(shared_ns, &write, &written) != 0)
            return (void *)UINTPTR_MAX;
        ret = store_stat(shared_ns, "counter", 7, &value);
        if (ret != 0)
            return (void *)UINTPTR_MAX;
        snprintf(place, sizeof(place), "%u of %u", i, (unsigned)number);
        write = (struct store_write){.key = "counter",
                                     .key_len = 7,
                                     .value = place,
                                     .value_len = (uint32_t)strlen(place),
                                     .condition = STORE_SET_IFEQ,
                                     .version = value.version};
        ret = store_set(shared_ns, &write, &written);
        if (ret == 0)
            won++;
        else if (ret != STORE_CONDITION)
            return (void *)UINTPTR_MAX;
        if (i % 50 == 0) {
            uint64_t answered = 0;
            struct pollfd poll_fd = {.fd = event, .events = POLLIN};

            store_notify(shared, event);
            store_submit(shared);
            while (store_answered(shared, &answered) == 0 && answered < written.ticket) {
                uint64_t count;

                if (poll(&poll_fd, 1, 5000) <= 0 || read(event, &count, sizeof(count)) < 0)
                    return (void *)UINTPTR_MAX;
            }
            store_notify_remove(shared, event);
        }
    }
    close(event);
    return (void *)won;
}

static void test_threads(void **state)
{
    enum store_sync policies[] = {STORE_SYNC_ALWAYS, STORE_SYNC_EVERYSEC};

    (void)state;
    for (unsigned p = 0; p < 2; p++) {
        char folder[] = "/tmp/croft-kv-XXXXXX", path[64];
        pthread_t threads[WORKERS];
        struct store_written written;
        struct store_write write = {.key = "counter", .key_len = 7, .value = "0", .value_len = 1};
        struct store_info info;
        uintptr_t won = 0;
        uint64_t before;

        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/kv", folder);
        struct store_options options = {.data = path,
                                        .sync = policies[p],
                                        .max_value = 1000,
                                        .segment_size = 65536,
                                        .reserve = 65536};

        assert_int_equal(store_open(&options, &shared, NULL), 0);
        {
            struct store *other;
            struct error err = {0};

            assert_int_equal(store_open(&options, &other, &err), -EBUSY);
            assert_string_equal(err.code, "kv.in-use");
        }
        assert_int_equal(store_namespace_get(shared, "default", 7, &shared_ns), 0);
        assert_int_equal(store_set(shared_ns, &write, &written), 0);
        before = written.version;
        for (uintptr_t i = 0; i < WORKERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, worker_run, (void *)i), 0);
        for (unsigned i = 0; i < 10; i++) {
            assert_int_equal(store_namespace_compact(shared_ns), 0);
            if (i == 5)
                assert_int_equal(store_namespace_reload(shared_ns), 0);
        }
        for (unsigned i = 0; i < WORKERS; i++) {
            void *result;

            pthread_join(threads[i], &result);
            assert_true(result != (void *)UINTPTR_MAX);
            won += (uintptr_t)result;
        }
        store_namespace_info(shared_ns, &info);
        assert_int_equal(info.entries, 1 + WORKERS * 100);
        /* Every IFEQ that won, and every write of an own key, is one record. */
        assert_int_equal(info.last_number - before, won + WORKERS * ROUNDS);
        store_namespace_put(shared_ns);
        assert_int_equal(store_close(shared), 0);
        options.manual = true;
        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
        for (unsigned w = 0; w < WORKERS; w++)
            for (unsigned i = 0; i < 100; i++) {
                char key[32], text[32];

                snprintf(key, sizeof(key), "w%u-%u", w, i);
                snprintf(text, sizeof(text), "%u", ROUNDS - 100 + i);
                assert_value(key, text);
            }
        store_namespace_put(ns);
        assert_int_equal(store_close(store), 0);
        file_remove_tree(folder);
    }
}

/* The instruction and the table agree, and both with the standard's vectors. */
static void test_checksum(void **state)
{
    uint8_t data[10000];

    (void)state;
    memset(data, 0, 32);
    assert_int_equal(record_crc32c(0, data, 32), 0x8a9136aa); /* RFC 3720, B.4 */
    memset(data, 0xff, 32);
    assert_int_equal(record_crc32c(0, data, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(record_crc32c(0, data, 32), 0x46dd794e);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 131 + i / 7);
    for (size_t len = 0; len < sizeof(data); len += len < 64 ? 1 : 61)
        for (size_t from = 0; from < 9 && from + len < sizeof(data); from += 3) {
            uint32_t whole = record_crc32c(0, data + from, len);

            assert_int_equal(whole, record_crc32c_table(0, data + from, len));
            assert_int_equal(whole, record_crc32c(record_crc32c(0, data + from, len / 3),
                                                  data + from + len / 3, len - len / 3));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum),
        cmocka_unit_test_setup_teardown(test_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_and_history, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seq, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quota_and_locks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_follow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
