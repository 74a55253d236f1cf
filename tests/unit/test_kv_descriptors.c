// Many segments and few descriptors: they are opened again as needed, also while files go away beneath readers.
// sources: tests/unit/kv_disk.c core0/kv/io.c core0/kv/record.c core0/kv/record_crc.c
// sources: core0/kv/index.c core0/kv/index_slots.c core0/kv/index_snapshot.c core0/kv/namespace.c
// sources: core0/kv/segment.c core0/kv/recover.c core0/kv/recover_replay.c core0/kv/recover_tail.c
// sources: core0/kv/compact.c core0/kv/compact_copy.c core0/kv/store.c core0/kv/store_commit.c
// sources: core0/kv/store_namespace.c core0/kv/store_read.c core0/kv/store_scan.c core0/kv/store_write.c
// sources: core0/kv/store_buffer.c core0/kv/store_segment.c core0/kv/store_upkeep.c core0/kv/segment_file.c
// sources: core0/kv/store_follow.c
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/file.h"

#include "kv_disk.h"

#include "kv/store.h"

#define DESCRIPTORS 3
#define BESIDE 3 /* the lock, and the two segments of a change from one to the next */
#define KEYS 200u
#define VALUE 9000u
#define ROUNDS 4000

struct place {
    uint8_t bytes[VALUE];
    uint32_t len;
};

static void *reserve(void *ctx, uint32_t len)
{
    struct place *place = ctx;

    place->len = len;
    return len <= sizeof(place->bytes) ? place->bytes : NULL;
}

static int put(struct namespace *ns, uint32_t key, uint8_t seed)
{
    struct store_written written;
    uint8_t bytes[VALUE];
    struct store_write write = {
        .key = &key, .key_len = sizeof(key), .value = bytes, .value_len = sizeof(bytes)};

    memset(bytes, seed, sizeof(bytes));
    memcpy(bytes, &key, sizeof(key));
    return store_set(ns, &write, &written);
}

/* The value is whole and of this key, whichever of those that it had. */
static bool is_right(const struct place *place, uint32_t key)
{
    if (place->len != VALUE || memcmp(place->bytes, &key, sizeof(key)) != 0)
        return false;
    for (uint32_t i = sizeof(key); i < VALUE; i++)
        if (place->bytes[i] != place->bytes[VALUE - 1])
            return false;
    return true;
}

static int get(struct namespace *ns, uint32_t key, struct place *place)
{
    struct store_sink sink = {.reserve = reserve, .ctx = place};
    struct store_value ignored;

    return store_get(ns, &key, sizeof(key), &sink, &ignored);
}

static int count_item(void *ctx, const struct store_item *item)
{
    unsigned *count = ctx;

    (void)item;
    ++*count;
    return 0;
}

static unsigned scan_all(struct namespace *ns, bool backwards)
{
    struct store_cursor cursor = {0};
    unsigned count = 0;
    bool more = true;

    while (more)
        assert_true(store_scan(ns, &cursor, backwards, 64, count_item, &count, &more, NULL) >= 0);
    return count;
}

static void test_bound(void **state)
{
    struct disk *disk = disk_new(1);
    struct store_options options = {.data = "/kv",
                                    .io = disk_io(disk),
                                    .max_value = VALUE,
                                    .segment_size = 40000,
                                    .reserve = 40000,
                                    .cache = 1,
                                    .descriptors = DESCRIPTORS,
                                    .manual = true};
    static struct place place;

    (void)state;
    for (int sync = STORE_SYNC_ALWAYS; sync <= STORE_SYNC_NONE; sync++) {
        struct store_stats stats;
        struct store_info info;
        struct store *store;
        struct namespace *ns;

        options.sync = (enum store_sync)sync;
        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
        for (uint32_t key = 0; key < KEYS; key++) {
            assert_int_equal(put(ns, key, (uint8_t)(key + (unsigned)sync)), 0);
            if (sync == STORE_SYNC_NONE) {
                assert_int_equal(store_submit(store), 0);
                assert_int_equal(store_tick(store), 0);
            } else {
                assert_int_equal(store_commit(store), 0);
            }
            assert_true(disk_open_files(disk) <= DESCRIPTORS + BESIDE);
        }
        store_namespace_info(ns, &info);
        assert_true(info.segments > 40);
        for (uint32_t key = 0; key < KEYS; key++) {
            assert_int_equal(get(ns, (key * 77) % KEYS, &place), 0);
            assert_true(is_right(&place, (key * 77) % KEYS));
            assert_true(disk_open_files(disk) <= DESCRIPTORS + BESIDE);
        }
        assert_int_equal(scan_all(ns, false), KEYS);
        assert_int_equal(scan_all(ns, true), KEYS);
        for (uint32_t key = 0; key < KEYS; key += 2)
            assert_int_equal(put(ns, key, (uint8_t)(key + 100)), 0);
        assert_int_equal(store_namespace_compact(ns), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(scan_all(ns, false), KEYS);
        store_stats(store, &stats);
        assert_true(stats.descriptors <= DESCRIPTORS + BESIDE - 1);
        assert_true(stats.compactions > 0);
        assert_int_equal(store_namespace_reload(ns), 0);
        assert_true(disk_open_files(disk) <= DESCRIPTORS + BESIDE);
        assert_int_equal(scan_all(ns, true), KEYS);
        store_namespace_put(ns);
        assert_int_equal(store_close(store), 0);
        assert_int_equal(disk_open_files(disk), 0);
    }
    disk_free(disk);
}

/* A file that is gone and was not retired is damage, and that of its keys alone. */
static void test_file_lost(void **state)
{
    struct disk *disk = disk_new(1);
    struct store_options options = {.data = "/kv",
                                    .io = disk_io(disk),
                                    .max_value = VALUE,
                                    .segment_size = 40000,
                                    .cache = 1,
                                    .descriptors = 1,
                                    .manual = true};
    static struct place place;
    unsigned right = 0, damaged = 0;
    struct store *store;
    struct namespace *ns;

    (void)state;
    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    for (uint32_t key = 0; key < 20; key++)
        assert_int_equal(put(ns, key, 1), 0);
    assert_int_equal(store_commit(store), 0);
    disk_remove(disk, "/kv/ns-00000001/00000002.seg");
    for (uint32_t key = 0; key < 20; key++) {
        int ret = get(ns, key, &place);

        assert_true(ret == STORE_DAMAGED || (ret == 0 && is_right(&place, key)));
        right += ret == 0;
        damaged += ret != 0;
    }
    assert_true(right > 10 && damaged > 0 && damaged <= 4);
    store_namespace_put(ns);
    store_close(store);
    disk_free(disk);
}

static struct namespace *shared;
static atomic_bool over;
static atomic_uint wrong, seen;

static void *read_run(void *ctx)
{
    struct place *place = malloc(sizeof(*place));
    unsigned x = (unsigned)(uintptr_t)ctx;

    while (place != NULL && !atomic_load(&over)) {
        uint32_t key;
        int ret;

        x = x * 1103515245u + 12345u;
        key = (x >> 16) % KEYS;
        ret = get(shared, key, place);
        if (ret == 0 ? !is_right(place, key) : ret != STORE_NO_KEY)
            atomic_fetch_add(&wrong, 1);
        if (ret == 0)
            atomic_fetch_add(&seen, 1);
    }
    free(place);
    return NULL;
}

/* Readers while FLUSH, compaction and eviction take descriptors and files from beneath them. */
static void test_races(void **state)
{
    char folder[] = "/tmp/croft-kv-XXXXXX", path[64];
    pthread_t readers[3];
    struct store *store;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/kv", folder);
    struct store_options options = {.data = path,
                                    .sync = STORE_SYNC_NONE,
                                    .max_value = VALUE,
                                    .segment_size = 65536,
                                    .reserve = 65536,
                                    .cache = 1,
                                    .descriptors = 1,
                                    .manual = true};

    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &shared), 0);
    for (uintptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_run, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(put(shared, (i * 7) % KEYS, (uint8_t)i), 0);
        if (i % 20 == 0)
            assert_int_equal(store_commit(store), 0);
        if (i % 300 == 299)
            assert_int_equal(store_namespace_compact(shared), 0);
        if (i % 500 == 499)
            assert_int_equal(store_namespace_flush(shared), 0);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(wrong, 0);
    assert_true(seen > 0);
    store_namespace_put(shared);
    assert_int_equal(store_close(store), 0);
    file_remove_tree(folder);
}

#define LONG_S 60 /* far more than a machine needs, and the end of a test that failed */

static atomic_bool unlinked, closing, written; /* the first: by the compaction, a segment */
static atomic_uint given_up;
static pthread_t compactor;

static bool becomes_true(atomic_bool *what)
{
    for (unsigned i = 0; i < LONG_S * 1000 && !atomic_load(what); i++)
        usleep(1000);
    return atomic_load(what);
}

static int unlink_noted(const struct io *io, const char *path)
{
    int failed = io_kernel.unlink(&io_kernel, path);

    (void)io;
    if (failed == 0 && strstr(path, ".seg") != NULL)
        atomic_store(&unlinked, true);
    return failed;
}

/* What a compaction has unlinked is closed when somebody has written. */
static void close_slowly(const struct io *io, int fd)
{
    (void)io;
    if (atomic_load(&unlinked) && pthread_equal(pthread_self(), compactor)) {
        atomic_store(&closing, true);
        if (!becomes_true(&written))
            atomic_fetch_add(&given_up, 1);
    }
    io_kernel.close(&io_kernel, fd);
}

static void *compact_run(void *ctx)
{
    (void)ctx;
    compactor = pthread_self();
    return store_namespace_compact(shared) < 0 ? (void *)1 : NULL;
}

/* The last close of a large file takes long: nobody who begins a segment meanwhile waits for it. */
static void test_close_holds_up_nobody(void **state)
{
    char folder[] = "/tmp/croft-kv-XXXXXX", path[64];
    struct io io = io_kernel;
    struct store_info before, after;
    pthread_t thread;
    struct store *store;
    void *failed;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/kv", folder);
    io.close = close_slowly;
    io.unlink = unlink_noted;
    struct store_options options = {.data = path,
                                    .io = &io,
                                    .sync = STORE_SYNC_NONE,
                                    .max_value = VALUE,
                                    .segment_size = 65536,
                                    .reserve = 65536,
                                    .cache = 1,
                                    .manual = true};

    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &shared), 0);
    for (unsigned i = 0; i < 4 * KEYS; i++) {
        assert_int_equal(put(shared, i % KEYS, (uint8_t)i), 0);
        assert_int_equal(store_submit(store), 0);
    }
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(pthread_create(&thread, NULL, compact_run, NULL), 0);
    assert_true(becomes_true(&closing));
    store_namespace_info(shared, &before);
    for (unsigned i = 0; i < KEYS; i++) {
        assert_int_equal(put(shared, i, (uint8_t)(i + 1)), 0);
        assert_int_equal(store_submit(store), 0);
    }
    store_namespace_info(shared, &after);
    assert_true(after.segments > before.segments + 10);
    atomic_store(&written, true);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_int_equal(given_up, 0);
    store_namespace_put(shared);
    assert_int_equal(store_close(store), 0);
    file_remove_tree(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_file_lost),
        cmocka_unit_test(test_races),
        cmocka_unit_test(test_close_holds_up_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
