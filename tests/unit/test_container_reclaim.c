// How many removed memory cgroups the kernel says it keeps.
// sources: core0/container/reclaim.c core0/container/worker.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "container/reclaim.h"

static void test_what_a_cgroup_stat_says(void **state)
{
    static const struct {
        const char *stat;
        uint64_t dying;
    } rows[] = {
        {"nr_descendants 3\nnr_subsys_memory 4\nnr_dying_descendants 9\nnr_dying_subsys_memory 17\n"
         "nr_subsys_pids 4\nnr_dying_subsys_pids 1\n",
         17},
        {"nr_descendants 3\nnr_dying_descendants 9\n", 0}, /* before Linux 6.12 */
        {"", 0},
        {"nr_dying_subsys_memory ", 0},
        {"nr_dying_subsys_memory x", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(reclaim_dying(rows[i].stat), rows[i].dying);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_a_cgroup_stat_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
