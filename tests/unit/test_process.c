// Running a program: its output, its input, limits, time-outs, and what is said about its end.
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lib/loop.h"
#include "lib/process.h"

static void test_output_and_status(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "echo out; echo err >&2; exit 3", NULL};
    struct process_result result;

    (void)state;
    assert_int_equal(process_run(argv, NULL, &result), 0);
    assert_string_equal(result.out, "out\n");
    assert_string_equal(result.err, "err\n");
    assert_int_equal(WEXITSTATUS(result.status), 3);
    process_result_done(&result);
}

static void test_input_larger_than_a_pipe(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "wc -c; pwd; echo $A", NULL};
    const char *const env[] = {"A=b", "PATH=/bin:/usr/bin", NULL};
    char *in = calloc(1, 300000);
    const struct process_options options = {.in = in, .in_len = 300000, .dir = "/usr", .env = env};
    struct process_result result;

    (void)state;
    assert_int_equal(process_run(argv, &options, &result), 0);
    assert_string_equal(result.out, "300000\n/usr\nb\n");
    process_result_done(&result);
    free(in);
}

static void test_more_output_than_allowed_is_dropped_not_blocking(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c",
                                "head -c 500000 /dev/zero | tr '\\0' x; echo end >&2", NULL};
    const struct process_options options = {.max_output = 1000};
    struct process_result result;

    (void)state;
    assert_int_equal(process_run(argv, &options, &result), 0);
    assert_int_equal(result.out_len, 1000);
    assert_string_equal(result.err, "end\n");
    process_result_done(&result);
}

static void test_a_program_that_does_not_read_its_input(void **state)
{
    const char *const argv[] = {"/bin/true", NULL};
    char *in = calloc(1, 300000);
    const struct process_options options = {.in = in, .in_len = 300000};
    struct process_result result;

    (void)state;
    assert_int_equal(process_run(argv, &options, &result), 0);
    assert_int_equal(result.status, 0);
    process_result_done(&result);
    free(in);
}

static void test_timeout_and_grandchildren(void **state)
{
    const char *const slow[] = {"/bin/sleep", "30", NULL};
    const char *const parent[] = {"/bin/sh", "-c", "sleep 30 & echo done", NULL};
    const struct process_options options = {.timeout_us = 200000};
    struct process_result result;
    uint64_t begin = loop_clock();

    (void)state;
    assert_int_equal(process_run(slow, &options, &result), -ETIMEDOUT);
    /* A grandchild that keeps the pipe open is not waited for. */
    assert_int_equal(process_run(parent, NULL, &result), 0);
    assert_string_equal(result.out, "done\n");
    process_result_done(&result);
    assert_true(loop_clock() - begin < 20000000);
}

static void test_check_says_why(void **state)
{
    const char *const good[] = {"/bin/true", NULL};
    const char *const bad[] = {"/bin/sh", "-c", "echo first >&2; echo the reason >&2; exit 2",
                               NULL};
    const char *const killed[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
    const char *const missing[] = {"/nonexistent/program", NULL};
    struct error err = {0};

    (void)state;
    assert_int_equal(process_check(good, NULL, "t.fail", &err), 0);
    assert_false(error_is_set(&err));
    assert_int_equal(process_check(bad, NULL, "t.fail", &err), -EIO);
    assert_string_equal(err.message, "/bin/sh ended with 2: the reason");
    error_clear(&err);
    assert_int_equal(process_check(killed, NULL, "t.fail", &err), -EIO);
    assert_string_equal(err.message, "/bin/sh was killed by signal 9");
    error_clear(&err);
    assert_int_equal(process_check(missing, NULL, "t.fail", &err), -ENOENT);
    assert_string_equal(err.code, "t.fail");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_status),
        cmocka_unit_test(test_input_larger_than_a_pipe),
        cmocka_unit_test(test_more_output_than_allowed_is_dropped_not_blocking),
        cmocka_unit_test(test_a_program_that_does_not_read_its_input),
        cmocka_unit_test(test_timeout_and_grandchildren),
        cmocka_unit_test(test_check_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
