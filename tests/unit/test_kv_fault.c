// Errors of the disk at every call: EIO once and for good, a full disk, a sync that fails.
// sources: tests/unit/kv_disk.c tests/unit/kv_model.c core0/kv/io.c core0/kv/record.c core0/kv/record_crc.c
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
#include "kv_model.h"

static uint8_t buffer[30000];
static struct model model;
static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 33;
}

static struct store_options options_for(struct disk *disk)
{
    return (struct store_options){.data = "/kv",
                                  .io = disk_io(disk),
                                  .sync = STORE_SYNC_ALWAYS,
                                  .max_value = sizeof(buffer),
                                  .segment_size = 60000,
                                  .descriptors = 2,
                                  .reserve = 130000,
                                  .manual = true};
}

/* A client that keeps going whatever the store says. What it says must be one of its words. */
static void drive(struct store *store, struct namespace *ns, unsigned steps, bool full_is_full)
{
    for (unsigned i = 0; i < steps; i++) {
        uint64_t what = next_random() % 100, answered;
        uint32_t key = (uint32_t)(next_random() % MODEL_KEYS);
        char name[32];
        uint32_t name_len = model_key(key, name);
        struct store_written written;
        int ret = 0;

        if (what < 70) {
            uint32_t len = (uint32_t)(next_random() % (what < 60 ? 300 : sizeof(buffer)));
            uint8_t seed = (uint8_t)next_random();
            struct store_write write = {
                .key = name, .key_len = name_len, .value = buffer, .value_len = len};

            model_value(seed, len, buffer);
            ret = store_set(ns, &write, &written);
            if (ret == 0 && !written.unchanged)
                model_wrote(&model, key, len, seed, written.ticket);
            else if (ret == STORE_DISK_FAILED && store_answered(store, &answered) != 0)
                model_wrote(&model, key, len, seed, UINT64_MAX);
        } else if (what < 80) {
            ret = store_del(ns, name, name_len, 0, &written);
            if (ret == 0)
                model_wrote(&model, key, MODEL_ABSENT, 0, written.ticket);
        } else if (what < 95) {
            ret = store_commit(store);
            store_answered(store, &answered);
            model_answered(&model, answered);
        } else if (what < 97) {
            ret = store_tick(store);
        } else {
            ret = store_namespace_compact(ns);
        }
        if (ret != 0 && ret != STORE_NO_KEY && ret != STORE_DISK_FAILED && ret != STORE_READ_ONLY &&
            ret != STORE_NO_SPACE)
            fail_msg("step %u: %d", i, ret);
        if (full_is_full && (ret == STORE_DISK_FAILED || ret == STORE_READ_ONLY)) {
            struct store_stats stats;

            store_stats(store, &stats);
            fail_msg("step %u: a full disk is taken for a failed one: %s", i, stats.failed_text);
        }
    }
}

/* The disk is repaired, the machine may lose power, and all that was answered is there. */
static void check_after(struct disk *disk, const char *when)
{
    struct store_options options = options_for(disk);
    struct store *store;
    struct namespace *ns;
    struct store_info info;
    struct error err = {0};

    disk_limit(disk, 0);
    disk_reboot(disk);
    if (store_open(&options, &store, &err) < 0)
        fail_msg("%s: does not open: %s", when, err.message);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    store_namespace_info(ns, &info);
    if (info.damaged != 0)
        fail_msg("%s: damaged", when);
    model_check(&model, ns, false, NULL, when);
    model_check_scan(&model, ns, when);
    store_namespace_put(ns);
    assert_int_equal(store_close(store), 0);
}

static void fail_everywhere(int error, enum disk_fault fault, uint64_t stride, const char *name)
{
    uint64_t n;

    for (n = 1;; n += stride) {
        struct disk *disk = disk_new(n);
        struct store_options options = options_for(disk);
        struct store *store;
        struct namespace *ns;
        struct error err = {0};
        bool failed;
        char when[120];

        snprintf(when, sizeof(when), "%s at call %lu", name, (unsigned long)n);
        random_state = 7;
        model_init(&model);
        disk_fail_at(disk, n, error, fault);
        if (store_open(&options, &store, &err) == 0) {
            assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
            drive(store, ns, 150, false);
            store_namespace_put(ns);
            if (n % 2 == 0)
                store_abandon(store);
            else if (store_close(store) == 0)
                model_answered(&model, UINT64_MAX - 1);
        } else {
            assert_true(error_is_set(&err));
        }
        failed = disk_has_failed(disk);
        assert_int_equal(disk_open_files(disk), 0);
        check_after(disk, when);
        disk_free(disk);
        if (!failed)
            break;
    }
    print_message("%s: up to call %lu\n", name, (unsigned long)n);
}

static void test_eio_once(void **state)
{
    (void)state;
    fail_everywhere(EIO, DISK_ONCE, 1, "EIO once");
}

static void test_eio_forever(void **state)
{
    (void)state;
    fail_everywhere(EIO, DISK_FOREVER, 1, "EIO from");
}

static void test_enospc(void **state)
{
    (void)state;
    fail_everywhere(ENOSPC, DISK_ONCE, 1, "ENOSPC once");
    fail_everywhere(ENOSPC, DISK_FOREVER, 1, "ENOSPC from");
}

/* A disk of a given size fills up: refused, never failed; deletes and compaction make room again. */
static void test_full(void **state)
{
    (void)state;
    for (uint64_t size = 280000; size < 400000; size += 7777) {
        struct disk *disk = disk_new(size);
        struct store_options options = options_for(disk);
        struct store_written written;
        struct store *store;
        struct namespace *ns;
        char name[32], when[64];
        unsigned refused = 0;

        snprintf(when, sizeof(when), "disk of %lu", (unsigned long)size);
        random_state = size;
        model_init(&model);
        disk_limit(disk, size);
        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
        drive(store, ns, 300, true);
        for (uint32_t key = 0; refused == 0; key++) { /* until it is full */
            struct store_write write = {
                .key = &key, .key_len = 4, .value = buffer, .value_len = 9999};
            int ret = store_set(ns, &write, &written);

            assert_true(ret == 0 || ret == STORE_NO_SPACE);
            refused += ret == STORE_NO_SPACE;
        }
        for (uint32_t key = 0; key < MODEL_KEYS; key++) {
            int ret = store_del(ns, name, model_key(key, name), 0, &written);

            if (ret == 0)
                model_wrote(&model, key, MODEL_ABSENT, 0, written.ticket);
            assert_true(ret == 0 || ret == STORE_NO_KEY);
        }
        for (uint32_t key = 0; store_del(ns, &key, 4, 0, &written) == 0; key++) {
        }
        assert_int_equal(store_commit(store), 0);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(store_namespace_compact(ns), 0);
        drive(store, ns, 20, true);
        {
            struct store_write write = {
                .key = "after", .key_len = 5, .value = buffer, .value_len = 9999};

            assert_int_equal(store_set(ns, &write, &written), 0);
        }
        model_check(&model, ns, true, NULL, when);
        store_namespace_put(ns);
        assert_int_equal(store_close(store), 0);
        check_after(disk, when);
        disk_free(disk);
    }
}

/* A sync that failed is not tried again: no other answer of success comes after it. */
static void test_sync_failed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct disk *disk = disk_new(seed);
        struct store_options options = options_for(disk);
        struct store_written written;
        struct store_value value;
        struct store_stats stats;
        struct store *store;
        struct namespace *ns;
        uint64_t before, after;
        struct store_write write = {.key = "a", .key_len = 1, .value = "1", .value_len = 1};

        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
        assert_int_equal(store_set(ns, &write, &written), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_answered(store, &before), 0);
        assert_true(before >= written.ticket);
        write.value = "2";
        assert_int_equal(store_set(ns, &write, &written), 0);
        disk_fail_at(disk, 2, EIO, DISK_ONCE); /* the write succeeds, the sync does not */
        assert_int_equal(store_commit(store), STORE_DISK_FAILED);
        assert_true(disk_has_failed(disk));
        for (unsigned i = 0; i < 3; i++) { /* the disk would work again */
            write.key = "b";
            assert_int_equal(store_set(ns, &write, &written), STORE_READ_ONLY);
            assert_int_equal(store_del(ns, "a", 1, 0, &written), STORE_READ_ONLY);
            assert_int_equal(store_namespace_create(store, "n", 1, NULL), STORE_READ_ONLY);
            assert_int_equal(store_submit(store), STORE_DISK_FAILED);
            assert_int_equal(store_commit(store), STORE_DISK_FAILED);
            assert_int_equal(store_answered(store, &after), STORE_DISK_FAILED);
            assert_int_equal(after, before);
        }
        /* What was not answered is shown with a ticket that never comes. */
        assert_int_equal(store_stat(ns, "a", 1, &value), 0);
        assert_true(value.ticket > after);
        store_stats(store, &stats);
        assert_int_equal(stats.failed, STORE_DISK_FAILED);
        assert_non_null(strstr(stats.failed_text, "sync"));
        store_namespace_put(ns);
        assert_int_equal(store_close(store), STORE_DISK_FAILED);
        disk_free(disk);
    }
}

/* ---- one thing at a time ----------------------------------------------------------------------- */

/* What fails: every call, or those that want space; once, or from there on. */
static const struct {
    int error;
    enum disk_fault fault;
    const char *name;
} faults[] = {{EIO, DISK_ONCE, "EIO once"},
              {EIO, DISK_FOREVER, "EIO from"},
              {ENOSPC, DISK_ONCE, "ENOSPC once"},
              {ENOSPC, DISK_FOREVER, "ENOSPC from"}};

#define FAULTS (sizeof(faults) / sizeof(faults[0]))

/* A disk on which a store was left in the middle of its work, with segments that are worth compacting. */
static struct disk *build_worn(enum store_mode mode)
{
    struct disk *disk = disk_new(3);
    struct store_options options = options_for(disk);
    struct store_written written;
    struct store *store;
    struct namespace *ns;

    options.mode = mode;
    model_is_seq = mode == STORE_SEQ;
    model_init(&model);
    assert_int_equal(store_open(&options, &store, NULL), 0);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    for (uint32_t i = 0; i < 400; i++) {
        uint32_t key = i < MODEL_KEYS ? i : i * 7 % MODEL_KEYS, len = i * 37 % 3000;
        char name[32];
        struct store_write write = {.key = name, .value = buffer, .value_len = len};

        write.key_len = model_key(key, name);
        if (mode == STORE_SEQ && i < MODEL_KEYS)
            write.key_len = 0;
        if (i > MODEL_KEYS && i % 9 == 0) {
            if (store_del(ns, name, model_key(key, name), 0, &written) == 0)
                model_wrote(&model, key, MODEL_ABSENT, 0, written.ticket);
            continue;
        }
        model_value((uint8_t)i, len, buffer);
        if (store_set(ns, &write, &written) == 0 && !written.unchanged)
            model_wrote(&model, key, len, (uint8_t)i, written.ticket);
        if (i == 150) /* an index to start from */
            assert_int_equal(store_namespace_compact(ns), 0);
    }
    assert_int_equal(store_commit(store), 0);
    model_answered(&model, UINT64_MAX - 1);
    store_namespace_put(ns);
    store_abandon(store);
    disk_reboot(disk);
    return disk;
}

static void check_whole(struct disk *disk, enum store_mode mode, const char *when)
{
    struct store_options options = options_for(disk);
    struct store *store;
    struct namespace *ns;
    struct store_info info;
    struct error err = {0};

    options.mode = mode;
    if (store_open(&options, &store, &err) < 0)
        fail_msg("%s: does not open: %s", when, err.message);
    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
    store_namespace_info(ns, &info);
    if (info.damaged != 0)
        fail_msg("%s: damaged", when);
    model_check(&model, ns, true, NULL, when);
    model_check_scan(&model, ns, when);
    store_namespace_put(ns);
    assert_int_equal(store_close(store), 0);
}

/* The recovery: it opens and all is there, or says why not and opens the next time. */
static void test_recovery(void **state)
{
    (void)state;
    for (int mode = STORE_USER; mode <= STORE_SEQ; mode++) {
        struct disk *worn = build_worn((enum store_mode)mode);

        for (size_t f = 0; f < FAULTS; f++) {
            uint64_t n = 0;

            for (bool failed = true; failed;) {
                struct disk *disk = disk_copy(worn, ++n);
                struct store_options options = options_for(disk);
                struct error err = {0};
                struct store *store;
                char when[120];

                snprintf(when, sizeof(when), "recovery %d, %s %lu", mode, faults[f].name,
                         (unsigned long)n);
                options.mode = (enum store_mode)mode;
                disk_fail_at(disk, n, faults[f].error, faults[f].fault);
                if (store_open(&options, &store, &err) == 0) {
                    struct namespace *ns;

                    failed = disk_has_failed(disk);
                    disk_fail_at(disk, 0, 0, DISK_NO_FAULT);
                    assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
                    model_check(&model, ns, true, NULL, when);
                    store_namespace_put(ns);
                    store_abandon(store);
                } else {
                    assert_true(error_is_set(&err));
                }
                assert_int_equal(disk_open_files(disk), 0);
                disk_reboot(disk);
                check_whole(disk, (enum store_mode)mode, when);
                disk_free(disk);
            }
            print_message("recovery, mode %d, %s: up to call %lu\n", mode, faults[f].name,
                          (unsigned long)n);
        }
        disk_free(worn);
    }
    model_is_seq = false;
}

/* A compaction: what fails in it takes nothing away, and a full disk is no failure. */
static void test_compaction(void **state)
{
    (void)state;
    for (int mode = STORE_USER; mode <= STORE_SEQ; mode++) {
        struct disk *worn = build_worn((enum store_mode)mode);

        for (size_t f = 0; f < FAULTS; f++) {
            uint64_t n = 0;

            for (bool failed = true; failed;) {
                struct disk *disk = disk_copy(worn, ++n);
                struct store_options options = options_for(disk);
                struct store_stats before, after;
                struct store *store;
                struct namespace *ns;
                char when[120];
                int ret;

                snprintf(when, sizeof(when), "compaction %d, %s %lu", mode, faults[f].name,
                         (unsigned long)n);
                options.mode = (enum store_mode)mode;
                assert_int_equal(store_open(&options, &store, NULL), 0);
                assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
                store_stats(store, &before);
                disk_fail_at(disk, n, faults[f].error, faults[f].fault);
                ret = store_namespace_compact(ns);
                failed = disk_has_failed(disk);
                disk_fail_at(disk, 0, 0, DISK_NO_FAULT);
                store_stats(store, &after);
                if (faults[f].error == ENOSPC && (ret != 0 || after.failed != 0))
                    fail_msg("%s: a full disk is taken for a failed one: %s", when,
                             after.failed_text);
                if (!failed)
                    assert_true(ret == 0 && after.compactions > before.compactions);
                model_check(&model, ns, true, NULL, when);
                if (faults[f].error == ENOSPC) { /* with space again it is made up for */
                    assert_int_equal(store_namespace_compact(ns), 0);
                    store_stats(store, &after);
                    assert_true(after.compactions > before.compactions);
                    model_check(&model, ns, true, NULL, when);
                }
                store_namespace_put(ns);
                if (n % 2 == 0)
                    store_close(store);
                else
                    store_abandon(store);
                assert_int_equal(disk_open_files(disk), 0);
                disk_reboot(disk);
                check_whole(disk, (enum store_mode)mode, when);
                disk_free(disk);
            }
            print_message("compaction, mode %d, %s: up to call %lu\n", mode, faults[f].name,
                          (unsigned long)n);
        }
        disk_free(worn);
    }
    model_is_seq = false;
}

/* The disk is full to any degree when a compaction begins, and fills while it copies. */
static void test_full_compaction(void **state)
{
    struct disk *worn = build_worn(STORE_USER);
    unsigned done = 0, not_done = 0;

    (void)state;
    for (uint64_t room = 0; room < 140000; room += 1777) {
        struct disk *disk = disk_copy(worn, room + 1);
        struct store_options options = options_for(disk);
        struct store_stats stats;
        struct store *store;
        struct namespace *ns;
        char when[64];

        snprintf(when, sizeof(when), "compaction with %lu bytes", (unsigned long)room);
        assert_int_equal(store_open(&options, &store, NULL), 0);
        assert_int_equal(store_namespace_get(store, "default", 7, &ns), 0);
        disk_limit(disk, disk_used(disk) + room);
        assert_int_equal(store_namespace_compact(ns), 0);
        store_stats(store, &stats);
        assert_int_equal(stats.failed, 0);
        done += stats.compactions > 0;
        not_done += stats.compactions == 0;
        model_check(&model, ns, true, NULL, when);
        store_namespace_put(ns);
        assert_int_equal(store_close(store), 0);
        disk_reboot(disk);
        check_whole(disk, STORE_USER, when);
        disk_free(disk);
    }
    assert_true(done > 0 && not_done > 0);
    disk_free(worn);
}

/* What an administrator does, step by step; a step that fails has happened or not. */
static int admin_step(struct store *store, unsigned step)
{
    struct store_properties properties = {.maxsize = 100};
    struct namespace *ns;
    int ret;

    if (step == 0 || step == 4)
        return store_namespace_create(store, "n", 1, NULL);
    if (step == 3)
        return store_namespace_delete(store, "n", 1);
    ret = store_namespace_get(store, "n", 1, &ns);
    if (ret < 0)
        return ret;
    ret = step == 1 ? store_namespace_set(ns, &properties) : store_namespace_flush(ns);
    store_namespace_put(ns);
    return ret;
}

/* What is to be seen after so many steps: whether it is there, and its limit. */
static const struct {
    bool there;
    uint64_t maxsize;
} admin_after[] = {{false, 0}, {true, 0}, {true, 100}, {true, 100}, {false, 0}, {true, 0}};

static bool admin_fits(struct store *store, unsigned steps)
{
    struct store_info info = {0};
    struct namespace *ns;
    bool there = store_namespace_get(store, "n", 1, &ns) == 0;

    if (there) {
        store_namespace_info(ns, &info);
        store_namespace_put(ns);
    }
    return there == admin_after[steps].there &&
           info.properties.maxsize == admin_after[steps].maxsize;
}

static void test_namespaces(void **state)
{
    (void)state;
    for (size_t f = 0; f < FAULTS; f++) {
        uint64_t n = 0;

        for (bool failed = true; failed;) {
            struct disk *disk = disk_new(++n);
            struct store_options options = options_for(disk);
            unsigned steps = 0;
            struct store *store;
            int ret = 0;

            assert_int_equal(store_open(&options, &store, NULL), 0);
            disk_fail_at(disk, n, faults[f].error, faults[f].fault);
            while (steps < 5 && (ret = admin_step(store, steps)) == 0)
                steps++;
            failed = disk_has_failed(disk);
            if (!failed && steps < 5)
                fail_msg("%s %lu: step %u gives %d", faults[f].name, (unsigned long)n, steps, ret);
            disk_fail_at(disk, 0, 0, DISK_NO_FAULT);
            if (faults[f].error == ENOSPC && steps < 5) {
                struct store_stats stats;

                assert_int_equal(ret, STORE_NO_SPACE);
                store_stats(store, &stats);
                assert_int_equal(stats.failed, 0);
                assert_true(
                    admin_fits(store, steps)); /* nothing has happened, and the next try works */
                while (steps < 5 && admin_step(store, steps) == 0)
                    steps++;
                assert_int_equal(steps, 5);
            }
            store_abandon(store);
            assert_int_equal(disk_open_files(disk), 0);
            disk_reboot(disk);
            assert_int_equal(store_open(&options, &store, NULL), 0);
            if (!admin_fits(store, steps) && (steps == 5 || !admin_fits(store, steps + 1)))
                fail_msg("%s %lu: after %u steps", faults[f].name, (unsigned long)n, steps);
            assert_int_equal(store_close(store), 0);
            disk_free(disk);
        }
        print_message("namespaces, %s: up to call %lu\n", faults[f].name, (unsigned long)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eio_once),    cmocka_unit_test(test_eio_forever),
        cmocka_unit_test(test_enospc),      cmocka_unit_test(test_full),
        cmocka_unit_test(test_sync_failed), cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_compaction),  cmocka_unit_test(test_full_compaction),
        cmocka_unit_test(test_namespaces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
