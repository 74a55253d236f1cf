// When a container's log counts as one that loses what is written.
// sources: core0/container/logloss.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "container/logloss.h"
#include "lib/contlog.h"
#include "lib/file.h"

#define SECOND UINT64_C(1000000)
#define THEN (UINT64_C(1800000000) * SECOND)
#define FILE_SIZE (UINT64_C(4) << 20)

static char folder[] = "/tmp/croft-log-XXXXXX";

static int setup(void **state)
{
    (void)state;
    memcpy(folder, "/tmp/croft-log-XXXXXX", sizeof(folder));
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(folder);
}

static void put(uint32_t number, const char *text)
{
    char name[CONTLOG_NAME_MAX], path[128];

    contlog_name(name, number);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static bool seen(uint64_t now, struct error *err)
{
    *err = (struct error){0};
    return logloss_seen(folder, now, FILE_SIZE, err);
}

static void test_a_whole_log_loses_nothing(void **state)
{
    struct error err;

    (void)state;
    assert_false(seen(THEN, &err));
    put(1, "1800000000000000 o. first\n");
    put(2, "1800000001000000 o. second\n");
    assert_false(seen(THEN + SECOND, &err));
    file_remove_tree(folder);
    assert_false(seen(THEN + SECOND, &err));
}

static void test_a_short_log_says_what_is_gone(void **state)
{
    struct error err;

    (void)state;
    put(4, "1800000000000000 o. oldest\n1800000007000000 o. later\n");
    put(5, "1800000008000000 e. newest\n");
    assert_true(seen(THEN + 42 * SECOND, &err));
    assert_string_equal(err.code, "container.log-rotated");
    assert_non_null(strstr(err.message, " 42 s back"));
    assert_non_null(strstr(err.message, "about 12 MiB"));
    /* The clock was set back. */
    assert_true(seen(THEN - SECOND, &err));
    assert_non_null(strstr(err.message, " 0 s back"));
}

static void test_a_log_of_an_hour_is_an_ordinary_one(void **state)
{
    struct error err;

    (void)state;
    put(2, "1800000000000000 o. oldest\n");
    assert_true(seen(THEN + LOGLOSS_KEPT_US - 1, &err));
    assert_false(seen(THEN + LOGLOSS_KEPT_US, &err));
}

static void test_what_is_no_record_is_passed_over(void **state)
{
    struct error err;

    (void)state;
    put(2, "torn\n1800000000000000 o. oldest\n");
    assert_true(seen(THEN, &err));
    put(2, "torn\n");
    assert_false(seen(THEN, &err));
    put(2, "");
    assert_false(seen(THEN, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_whole_log_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_short_log_says_what_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_log_of_an_hour_is_an_ordinary_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_record_is_passed_over, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
