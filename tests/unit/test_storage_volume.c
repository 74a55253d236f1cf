// sources: core0/storage/snapshot_due.c core0/storage/pool_plan.c
/*
 * What needs no disk: when a policy's next snapshot is due, and that a pool's shares add up to its size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/snapshot.h"

#define HOUR 3600
#define NOW ((int64_t)1800000000)

static void test_due(void **state)
{
    static const struct snapshot_policy hourly = {HOUR * 1000, 24};
    static const struct {
        int64_t born;
        struct snapshot snapshots[3];
        size_t count;
        uint64_t due;
    } cases[] = {
        /* A new volume's first comes after the first interval; an old one without any at once. */
        {NOW, {{"", 0, false}}, 0, HOUR},
        {NOW - 10, {{"", 0, false}}, 0, HOUR - 10},
        {NOW - HOUR, {{"", 0, false}}, 0, 0},
        {NOW - 9 * HOUR,
         {{"auto-a", NOW - 2 * HOUR, true}, {"auto-b", NOW - 100, true}},
         2,
         HOUR - 100},
        /* The machine was off for days: one is due, not many. */
        {NOW - 99 * HOUR, {{"auto-a", NOW - 50 * HOUR, true}}, 1, 0},
        /* What was made by hand does not put it off. */
        {NOW - 9 * HOUR, {{"auto-a", NOW - 2 * HOUR, true}, {"mine", NOW, false}}, 2, 0},
        /* A clock that was ahead: what was made then tells nothing, else there would be none for years. */
        {NOW - 9 * HOUR,
         {{"auto-a", NOW - 100, true}, {"auto-b", NOW + 1000 * HOUR, true}},
         2,
         HOUR - 100},
        {NOW + 1000 * HOUR, {{"auto-b", NOW + 1000 * HOUR, true}}, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(
            snapshot_due(&hourly, cases[i].born, cases[i].snapshots, cases[i].count, NOW),
            cases[i].due);
    /* Less than a second is a second. */
    assert_int_equal(snapshot_due(&(struct snapshot_policy){1, 1}, NOW, NULL, 0, NOW), 1);
}

static void test_shares(void **state)
{
    (void)state;
    for (uint64_t size = 1; size < (uint64_t)1 << 50; size += size / 3 + 12345) {
        uint64_t usable;
        uint64_t own;
        pool_plan(size, &usable, &own);
        if (usable == 0)
            continue; /* too small to lend anything */
        /* btrfs's own share is what the two leave over: a sixteenth, and at least 32 MiB. */
        assert_true(usable + own < size);
        uint64_t overhead = size - usable - own;
        assert_true(overhead >= (uint64_t)32 << 20 && overhead >= size / 16);
        assert_int_equal(usable % ((uint64_t)1 << 20), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
