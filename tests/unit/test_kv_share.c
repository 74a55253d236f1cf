// What namespaces of one store take of its disk: each its own share, whatever its neighbour does.
// sources: tests/unit/kv_disk.c core0/kv/io.c core0/kv/record.c core0/kv/record_crc.c
// sources: core0/kv/index.c core0/kv/index_slots.c core0/kv/index_snapshot.c core0/kv/namespace.c
// sources: core0/kv/segment.c core0/kv/recover.c core0/kv/recover_replay.c core0/kv/recover_tail.c
// sources: core0/kv/compact.c core0/kv/compact_copy.c core0/kv/store.c core0/kv/store_commit.c
// sources: core0/kv/store_namespace.c core0/kv/store_read.c core0/kv/store_scan.c core0/kv/store_write.c
// sources: core0/kv/store_buffer.c core0/kv/store_segment.c core0/kv/store_upkeep.c core0/kv/segment_file.c
// sources: core0/kv/store_follow.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kv_disk.h"

#include "kv/store.h"

#define SEGMENT 200000u
#define SIZE 1000000u
/* As a node promises it: space_cost() of core0/storage/space.c. */
#define SHARE (2u * SIZE + SEGMENT * 5 / 2)
#define VALUE 980u

static struct disk *disk;
static struct store *store;
static struct namespace *tenants[2]; /* one that writes for ever, and its neighbour */

static void open_store(void)
{
    struct store_options options = {.data = "/kv",
                                    .io = disk_io(disk),
                                    .sync = STORE_SYNC_EVERYSEC,
                                    .max_value = 100000,
                                    .segment_size = SEGMENT,
                                    .manual = true};
    struct error err = {0};

    if (store_open(&options, &store, &err) < 0)
        fail_msg("%s: %s", err.code, err.message);
}

static void take_handles(void)
{
    assert_int_equal(store_namespace_get(store, "one", 3, &tenants[0]), 0);
    assert_int_equal(store_namespace_get(store, "two", 3, &tenants[1]), 0);
}

static void put_handles(void)
{
    store_namespace_put(tenants[0]);
    store_namespace_put(tenants[1]);
}

/* The disk holds what both were promised and the store's own reserve: whoever takes more takes it from the other. */
static int setup(void **state)
{
    struct store_properties properties = {
        .mode = *state != NULL ? STORE_SEQ : STORE_USER, .maxsize = SIZE, .maxdisk = SHARE};

    disk = disk_new(1);
    open_store();
    assert_int_equal(store_namespace_create(store, "one", 3, &properties), 0);
    assert_int_equal(store_namespace_create(store, "two", 3, &properties), 0);
    disk_limit(disk, 2 * SHARE + SEGMENT + 65536);
    take_handles();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    put_handles();
    assert_int_equal(store_close(store), 0);
    assert_int_equal(disk_open_files(disk), 0);
    disk_free(disk);
    return 0;
}

static void check_share(struct namespace *ns)
{
    struct store_info info;

    store_namespace_info(ns, &info);
    assert_true(info.disk_claimed >= info.disk_bytes);
    assert_true(info.disk_claimed <= SHARE);
    assert_true(disk_used(disk) <= 2 * SHARE + SEGMENT + 65536);
}

/* As the server does it: who is crowded waits for the keeper. */
static int set(struct namespace *ns, const char *key, const char *value, uint32_t len)
{
    struct store_write write = {
        .key = key, .key_len = (uint32_t)strlen(key), .value = value, .value_len = len};
    struct store_written written;
    int result = store_set(ns, &write, &written);

    for (int tries = 0; result == STORE_CROWDED; tries++) {
        assert_true(tries < 50);
        check_share(ns);
        assert_int_equal(store_submit(store), 0);
        assert_int_equal(store_tick(store), 0);
        result = store_set(ns, &write, &written);
    }
    return result;
}

static int del(struct namespace *ns, const char *key)
{
    struct store_written written;
    int result = store_del(ns, key, (uint32_t)strlen(key), 0, &written);

    for (int tries = 0; result == STORE_CROWDED; tries++) {
        assert_true(tries < 50);
        assert_int_equal(store_submit(store), 0);
        assert_int_equal(store_tick(store), 0);
        result = store_del(ns, key, (uint32_t)strlen(key), 0, &written);
    }
    return result;
}

/* All of maxsize, to the last byte. */
static void fill(struct namespace *ns)
{
    static char value[VALUE];
    struct store_info info;
    char key[32];

    for (unsigned i = 0; i < SIZE / 1000; i++) {
        snprintf(key, sizeof(key), "neighbour-%010u", i);
        memset(value, 'a' + (int)(i % 26), sizeof(value));
        assert_int_equal(set(ns, key, value, VALUE), 0);
    }
    store_namespace_info(ns, &info);
    assert_int_equal(info.bytes, SIZE);
    assert_int_equal(set(ns, "x", "y", 1), STORE_OVER_QUOTA);
}

static void test_garbage_is_its_own(void **state)
{
    static char value[VALUE];
    char key[32];

    (void)state;
    for (unsigned i = 0; i < 20 * SHARE / VALUE; i++) {
        snprintf(key, sizeof(key), "mine-%015u", i * 7919 % 900);
        memset(value, 'a' + (int)(i % 26), sizeof(value));
        memcpy(value, &i, sizeof(i));
        assert_int_equal(set(tenants[0], key, value, VALUE), 0);
        if (i % 100 == 0) {
            check_share(tenants[0]);
            assert_int_equal(store_submit(store), 0);
        }
    }
    fill(tenants[1]);
    check_share(tenants[0]);
    check_share(tenants[1]);
    /* It is all there after a restart, and the shares are what they were. */
    put_handles();
    assert_int_equal(store_close(store), 0);
    open_store();
    take_handles();
    for (unsigned i = 0; i < 2; i++) {
        struct store_info info;

        store_namespace_info(tenants[i], &info);
        assert_int_equal(info.properties.maxdisk, SHARE);
        assert_int_equal(info.entries, i == 0 ? 900 : SIZE / 1000);
        check_share(tenants[i]);
    }
}

static void test_deletions_are_its_own(void **state)
{
    static const char value[VALUE];
    char key[32];

    (void)state;
    for (unsigned i = 0; i < 20 * SHARE / VALUE; i++) {
        snprintf(key, sizeof(key), "mine-%015u", i);
        assert_int_equal(set(tenants[0], key, value, VALUE), 0);
        assert_int_equal(del(tenants[0], key), 0);
        if (i % 100 == 0)
            assert_int_equal(store_submit(store), 0);
    }
    fill(tenants[1]);
    check_share(tenants[0]);
    check_share(tenants[1]);
}

/* Records of a byte take fifty: its share is full before its size is, and that is told to it alone. What is deleted makes room again once
 * compaction has come to its deletions, which are as large as such records. */
static void test_tiny_values_end_at_the_share(void **state)
{
    struct store_info info;
    char key[32];
    unsigned count = 0;
    int result = 0;

    (void)state;
    while (result == 0 && count < SIZE) {
        snprintf(key, sizeof(key), "%u", count);
        result = set(tenants[0], key, "x", 1);
        count += result == 0;
        if (count % 1000 == 0)
            assert_int_equal(store_submit(store), 0);
    }
    assert_int_equal(result, STORE_NO_SPACE);
    store_namespace_info(tenants[0], &info);
    assert_true(info.bytes < SIZE);
    assert_true(info.disk_bytes > SIZE);
    check_share(tenants[0]);
    fill(tenants[1]);
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "%u", i);
        assert_int_equal(del(tenants[0], key), 0);
    }
    check_share(tenants[0]);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "again-%u", i);
        assert_int_equal(set(tenants[0], key, "x", 1), 0);
    }
}

/* Ids that were given back leave slots: they count as well. */
static void test_slots_count(void **state)
{
    struct store_written written;
    struct store_info info;
    int result = 0;

    (void)state;
    for (unsigned i = 0; i < 1000000 && result == 0; i++) {
        struct store_write write = {.key = "", .value = "x", .value_len = 1};

        result = store_set(tenants[0], &write, &written);
        for (int tries = 0; result == STORE_CROWDED && tries < 50; tries++) {
            assert_int_equal(store_submit(store), 0);
            assert_int_equal(store_tick(store), 0);
            result = store_set(tenants[0], &write, &written);
        }
        if (result == 0 && i > 0) {
            uint8_t key[STORE_SEQ_KEY];

            memcpy(key, written.key, sizeof(key));
            assert_int_equal(store_del(tenants[0], key, sizeof(key), 0, &written) == 0 ? 0 : 1, 0);
        }
        if (i % 1000 == 0) {
            assert_int_equal(store_submit(store), 0);
            assert_int_equal(store_tick(store), 0);
        }
    }
    assert_int_equal(result, STORE_NO_SPACE);
    store_namespace_info(tenants[0], &info);
    assert_true(info.index_disk > 0);
    check_share(tenants[0]);
}

int main(void)
{
    static int seq;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_garbage_is_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deletions_are_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tiny_values_end_at_the_share, setup, teardown),
        cmocka_unit_test_prestate_setup_teardown(test_slots_count, setup, teardown, &seq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
