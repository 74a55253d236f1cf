// An error is set once, keeps its limits, and takes a prefix.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/error.h"

static void test_first_cause_stays(void **state)
{
    struct error err = {0};

    (void)state;
    assert_false(error_is_set(&err));
    assert_int_equal(error_set(&err, ENOENT, "a.first", "look", "no %s", "file"), -ENOENT);
    assert_int_equal(error_set(&err, EIO, "a.second", NULL, "later"), -EIO);
    assert_string_equal(err.code, "a.first");
    assert_string_equal(err.message, "no file");
    assert_string_equal(err.hint, "look");
    assert_int_equal(error_set(NULL, EIO, "a.b", NULL, "nobody asks"), -EIO);
    error_clear(&err);
    assert_false(error_is_set(&err));
    error_clear(NULL);
}

static void test_long_texts_are_cut(void **state)
{
    char text[1000];
    struct error err = {0};

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&err, EIO, text, text, "%s", text);
    assert_int_equal(strlen(err.code), ERROR_CODE_MAX);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
    error_prefix(&err, -1, "%s", text);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

static void test_prefix(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(error_prefix(&err, -5, "nothing"), -5);
    assert_false(error_is_set(&err));
    error_set(&err, EIO, "a.b", NULL, "inner");
    assert_int_equal(error_prefix(&err, -7, "outer %d", 3), -7);
    assert_string_equal(err.message, "outer 3: inner");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_cause_stays),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
