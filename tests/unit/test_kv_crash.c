// Power cuts at every call that changes the disk: append, compaction, creation, recovery.
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
#include <time.h>

#include <cmocka.h>

#include "kv_disk.h"
#include "kv_model.h"

#define VALUE_MAX 30000u

static uint8_t value_buffer[VALUE_MAX];
static uint64_t base_seed;

static struct store_options options_for(struct disk *disk, enum store_sync sync,
                                        enum store_mode mode)
{
    return (struct store_options){.data = "/kv",
                                  .io = disk_io(disk),
                                  .mode = mode,
                                  .sync = sync,
                                  .max_value = VALUE_MAX,
                                  .segment_size = 60000,
                                  .descriptors = 2,
                                  .manual = true};
}

struct world {
    struct disk *disk;
    struct store *store;
    struct namespace *ns;
    struct model model;
    enum store_sync sync;
    uint64_t random;
    char when[240];
};

static struct world world;

static uint64_t next_random(void)
{
    world.random = world.random * 6364136223846793005u + 1442695040888963407u;
    return world.random >> 33;
}

static int world_open(struct world *w)
{
    struct store_options options =
        options_for(w->disk, w->sync, model_is_seq ? STORE_SEQ : STORE_USER);
    struct error err = {0};
    int ret = store_open(&options, &w->store, &err);

    if (ret < 0) {
        w->store = NULL;
        return ret;
    }
    ret = store_namespace_get(w->store, "default", 7, &w->ns);
    assert_int_equal(ret, 0);
    return 0;
}

static void world_abandon(struct world *w)
{
    if (w->store == NULL)
        return;
    store_namespace_put(w->ns);
    store_abandon(w->store);
    w->store = NULL;
}

/* One step of a random client. 0, or what the store said. */
static int step(struct world *w, bool with_compaction)
{
    uint64_t what = next_random() % 100;
    uint32_t key = (uint32_t)(next_random() % MODEL_KEYS);
    char name[32];
    uint32_t name_len = model_key(key, name);
    struct store_written written;
    uint64_t answered;
    int ret = 0;

    if (what < 70) {
        uint32_t len = (uint32_t)(next_random() % (what < 60 ? 200 : what < 67 ? 3000 : VALUE_MAX));
        uint8_t seed = (uint8_t)next_random();
        struct store_write write = {
            .key = name, .key_len = name_len, .value = value_buffer, .value_len = len, .time = 1};

        if (model_is_seq) { /* an id that is not there yet is made; one that was deleted stays so */
            struct store_info info;

            store_namespace_info(w->ns, &info);
            if (key >= info.next_id) {
                key = (uint32_t)info.next_id;
                write.key_len = 0;
            }
        }
        model_value(seed, len, value_buffer);
        ret = store_set(w->ns, &write, &written);
        /* A write that failed may have reached the disk: then it is one that was not answered. */
        if (ret == 0 && !written.unchanged)
            model_wrote(&w->model, key, len, seed, written.ticket);
        else if (ret == STORE_DISK_FAILED)
            model_wrote(&w->model, key, len, seed, UINT64_MAX);
        if (ret == STORE_NO_KEY)
            ret = 0;
    } else if (what < 85) {
        ret = store_del(w->ns, name, name_len, 0, &written);
        if (ret == 0)
            model_wrote(&w->model, key, MODEL_ABSENT, 0, written.ticket);
        if (ret == STORE_NO_KEY)
            ret = 0;
    } else if (what < 95) {
        ret = w->sync == STORE_SYNC_ALWAYS || what < 88 ? store_commit(w->store)
                                                        : store_submit(w->store);
        /* What is answered survives with `always`; with the others, what was committed. */
        if (w->sync == STORE_SYNC_ALWAYS || (ret == 0 && what < 88)) {
            store_answered(w->store, &answered);
            model_answered(&w->model, answered);
        }
    } else if (what < 97) {
        ret = store_tick(w->store);
    } else if (with_compaction) {
        ret = store_namespace_compact(w->ns);
    }
    return ret;
}

/* After the cut: what the disk kept is opened, read, written to, closed and read again. */
static void after_cut(struct world *w, bool recovery_cut)
{
    disk_reboot(w->disk);
    if (recovery_cut) { /* the recovery itself loses power, at every place in turn */
        for (uint64_t n = 1; n < 60; n++) {
            bool cut;

            disk_cut_at(w->disk, n);
            if (world_open(w) == 0)
                world_abandon(w);
            cut = disk_is_cut(w->disk);
            disk_reboot(w->disk);
            if (!cut)
                break;
        }
    }
    if (world_open(w) < 0)
        fail_msg("%s: does not open", w->when);
    {
        struct store_info info;

        store_namespace_info(w->ns, &info);
        if (info.damaged != 0)
            fail_msg("%s: takes a torn tail for damage", w->when);
    }
    model_check(&w->model, w->ns, false, NULL, w->when);
    model_check_scan(&w->model, w->ns, w->when);
    for (int i = 0; i < 20; i++)
        assert_int_equal(step(w, false), 0);
    strcat(w->when, ", then written");
    model_check(&w->model, w->ns, true, NULL, w->when);
    strcat(w->when, ", closed and opened");
    store_namespace_put(w->ns);
    assert_int_equal(store_close(w->store), 0);
    w->store = NULL;
    disk_reboot(w->disk);
    assert_int_equal(world_open(w), 0);
    model_check(&w->model, w->ns, true, NULL, w->when);
    model_check_scan(&w->model, w->ns, w->when);
    world_abandon(w);
}

static void cut_everywhere(enum store_sync sync, unsigned steps, uint64_t stride, bool recovery_cut,
                           const char *name)
{
    struct timespec start, now;
    uint64_t n, runs = 0;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (n = 1;; n += stride) {
        bool cut;

        snprintf(world.when, sizeof(world.when), "%s, seed %lu, cut at call %lu", name,
                 (unsigned long)base_seed, (unsigned long)n);
        world.disk = disk_new(base_seed + n);
        world.sync = sync;
        world.random = base_seed; /* the same client each time */
        model_init(&world.model);
        disk_cut_at(world.disk, n);
        if (world_open(&world) == 0) {
            for (unsigned i = 0; i < steps && !disk_is_cut(world.disk); i++) {
                if (i % 80 == 79) { /* a clean end and a start in between */
                    store_namespace_put(world.ns);
                    if (store_close(world.store) == 0)
                        model_answered(&world.model, UINT64_MAX - 1);
                    world.store = NULL;
                    if (world_open(&world) < 0)
                        break;
                    /* The tickets of a new store begin anew. */
                    model_answered(&world.model, 0);
                }
                step(&world, true);
            }
        }
        cut = disk_is_cut(world.disk);
        world_abandon(&world);
        after_cut(&world, recovery_cut);
        assert_int_equal(disk_open_files(world.disk), 0);
        disk_free(world.disk);
        runs++;
        if (!cut)
            break;
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    print_message("%s: %lu power cuts, up to call %lu\n", name, (unsigned long)runs,
                  (unsigned long)n);
}

static void test_always(void **state)
{
    (void)state;
    cut_everywhere(STORE_SYNC_ALWAYS, 300, 1, false, "always");
}

static void test_everysec(void **state)
{
    (void)state;
    cut_everywhere(STORE_SYNC_EVERYSEC, 300, 1, false, "everysec");
}

static void test_none(void **state)
{
    (void)state;
    cut_everywhere(STORE_SYNC_NONE, 300, 2, false, "none");
}

static void test_seq(void **state)
{
    (void)state;
    model_is_seq = true;
    cut_everywhere(STORE_SYNC_ALWAYS, 300, 1, false, "seq, always");
    cut_everywhere(STORE_SYNC_EVERYSEC, 300, 2, true, "seq, everysec, and in the recovery");
    model_is_seq = false;
}

static void test_recovery(void **state)
{
    (void)state;
    cut_everywhere(STORE_SYNC_ALWAYS, 300, 5, true, "always, and in the recovery");
}

/* ---- namespaces ------------------------------------------------------------------------------- */

/* What the administrator was told of each step, in order; a step that was cut may or may not be. */
enum { CREATE_A, SET_A, CREATE_B, SET_B, LIMIT_B, FLUSH_B, SET_B2, DELETE_A, CREATE_A2, STEPS };

static int admin_set(struct store *store, const char *name, const char *value)
{
    struct store_write write = {.key = "key", .key_len = 3, .value = value, .value_len = 1};
    struct store_written written;
    struct namespace *ns;
    int ret = store_namespace_get(store, name, 1, &ns);

    if (ret < 0)
        return ret;
    ret = store_set(ns, &write, &written);
    store_namespace_put(ns);
    return ret < 0 ? ret : store_commit(store);
}

static int admin_step(struct store *store, int step)
{
    struct store_properties properties = {.maxsize = 100};
    struct namespace *ns;
    int ret;

    switch (step) {
    case CREATE_A:
    case CREATE_A2:
        return store_namespace_create(store, "a", 1, NULL);
    case CREATE_B:
        return store_namespace_create(store, "b", 1, NULL);
    case SET_A:
        return admin_set(store, "a", "1");
    case SET_B:
        return admin_set(store, "b", "2");
    case SET_B2:
        return admin_set(store, "b", "3");
    case DELETE_A:
        return store_namespace_delete(store, "a", 1);
    default:
        ret = store_namespace_get(store, "b", 1, &ns);
        if (ret < 0)
            return ret;
        ret = step == LIMIT_B ? store_namespace_set(ns, &properties) : store_namespace_flush(ns);
        store_namespace_put(ns);
        return ret;
    }
}

static char admin_byte;

static void *admin_reserve(void *ctx, uint32_t len)
{
    (void)ctx;
    return len == 1 ? &admin_byte : NULL;
}

/* 0: no such namespace, '-': no key, otherwise its value. */
static char admin_look(struct store *store, const char *name, struct store_info *ret)
{
    struct store_sink sink = {.reserve = admin_reserve};
    struct store_value value;
    struct namespace *ns;
    int got;

    if (store_namespace_get(store, name, 1, &ns) != 0)
        return 0;
    store_namespace_info(ns, ret);
    got = store_get(ns, "key", 3, &sink, &value);
    store_namespace_put(ns);
    if (got != 0 && got != STORE_NO_KEY)
        fail_msg("%s: reading %s: %d", world.when, name, got);
    return got == 0 ? admin_byte : '-';
}

/* What is to be seen after so many steps. */
static bool admin_fits(unsigned steps, char a, char b, const struct store_info *info_b)
{
    static const struct {
        char a, b;
        uint64_t maxsize;
    } after[STEPS + 1] = {{0, 0, 0},     {'-', 0, 0},     {'1', 0, 0},     {'1', '-', 0},
                          {'1', '2', 0}, {'1', '2', 100}, {'1', '-', 100}, {'1', '3', 100},
                          {0, '3', 100}, {'-', '3', 100}};

    return a == after[steps].a && b == after[steps].b &&
           (b == 0 || info_b->properties.maxsize == after[steps].maxsize);
}

static void test_namespaces(void **state)
{
    uint64_t n;

    (void)state;
    for (uint64_t round = 0; round < 3; round++)
        for (n = 1;; n++) {
            struct disk *disk = disk_new(base_seed + n + round * 1000);
            struct store_options options = options_for(disk, STORE_SYNC_ALWAYS, STORE_USER);
            struct store_info info_a, info_b = {0};
            struct store *store;
            unsigned done = 0;
            bool cut;
            char a, b;

            snprintf(world.when, sizeof(world.when), "namespaces, seed %lu, cut at %lu",
                     (unsigned long)base_seed, (unsigned long)n);
            disk_cut_at(disk, n);
            if (store_open(&options, &store, NULL) == 0) {
                while (done < STEPS && admin_step(store, (int)done) == 0)
                    done++;
                store_abandon(store);
            }
            cut = disk_is_cut(disk);
            disk_reboot(disk);
            if (round == 1) { /* once more, in the recovery */
                disk_cut_at(disk, n % 13 + 1);
                if (store_open(&options, &store, NULL) == 0)
                    store_abandon(store);
                disk_reboot(disk);
            }
            if (store_open(&options, &store, NULL) != 0)
                fail_msg("%s: does not open", world.when);
            a = admin_look(store, "a", &info_a);
            b = admin_look(store, "b", &info_b);
            if (!admin_fits(done, a, b, &info_b) &&
                (done == STEPS || !admin_fits(done + 1, a, b, &info_b)))
                fail_msg("%s: after %u steps a is %d, b is %d", world.when, done, a, b);
            if (b != 0 && a != 0 && info_a.id == info_b.id)
                fail_msg("%s: an id was used twice", world.when);
            assert_int_equal(store_close(store), 0);
            disk_free(disk);
            if (!cut)
                break;
        }
    print_message("namespaces: up to call %lu\n", (unsigned long)n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_always), cmocka_unit_test(test_everysec),
        cmocka_unit_test(test_none),   cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_seq),    cmocka_unit_test(test_namespaces),
    };
    const char *seed = getenv("KV_SEED");

    base_seed = seed != NULL ? strtoull(seed, NULL, 10) : 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
