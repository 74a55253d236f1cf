// Logs as croft shows them: the place from which a stream that broke off is gone on with, and lines that are missing.
// sources: core0/cli/log_view.c core0/cli/moment.c core0/cli/printable.c
// packages: yyjson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/log_view.h"

static void take(struct log_view *view, const char *text)
{
    struct error err = {0};

    assert_int_equal(log_view_take(view, text, strlen(text), &err), 0);
}

static void assert_shown(struct log_view *view, const char *wanted)
{
    assert_string_equal(view->out.len > 0 ? (const char *)view->out.data : "", wanted);
    buffer_clear(&view->out);
}

static void test_the_place_follows_what_was_shown(void **state)
{
    struct log_view view;

    (void)state;
    log_view_init(&view);
    assert_false(view.shown);
    log_view_start(&view, "9-1&x=1"); /* it would be sent back */
    assert_string_equal(view.at, "");
    log_view_start(&view, "9-1");
    assert_string_equal(view.at, "9-1");
    take(&view, "\n{\"time\":1,\"level\":6,\"at\":\"9-2\",\"line\":\"a\"}\n{\"time\":1,");
    assert_string_equal(view.at, "9-2");
    assert_true(view.shown);
    log_view_again(&view); /* the half of an entry is not waited for */
    log_view_start(&view, "9-1");
    assert_string_equal(view.at, "9-2");
    take(&view, "{\"time\":1,\"level\":4,\"at\":\"9-3\",\"line\":\"b\"}\n");
    assert_shown(&view, "info    a\nwarning b\n");
    log_view_restart(&view);
    assert_false(view.shown);
    assert_string_equal(view.at, "");
    log_view_start(&view, "7-0");
    assert_string_equal(view.at, "7-0");
    log_view_done(&view);
}

/* A gate that names no places: what it sent cannot be gone on with, and where it began means nothing any more. */
static void test_an_entry_without_a_place(void **state)
{
    struct log_view view;

    (void)state;
    log_view_init(&view);
    take(&view, "{\"time\":1,\"level\":6,\"line\":\"a\"}\n");
    assert_true(view.shown);
    log_view_start(&view, "9-1");
    assert_string_equal(view.at, "");
    log_view_done(&view);
}

static void test_missing_lines_are_counted(void **state)
{
    static const char text[] =
        "{\"time\":1,\"level\":6,\"at\":\"9-5\",\"lost\":3,\"line\":\"a\"}\n"
        "{\"time\":1,\"level\":6,\"at\":\"9-6\",\"line\":\"b\"}\n"
        "{\"time\":1,\"level\":6,\"at\":\"9-9\",\"lost\":2,\"line\":\"c\"}\n";
    struct log_view view;

    (void)state;
    log_view_init(&view);
    take(&view, text);
    assert_int_equal(view.lost, 5);
    assert_shown(&view, "info    a\ninfo    b\ninfo    c\n");
    view.json = true;
    take(&view, text);
    assert_shown(&view, text);
    log_view_done(&view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_place_follows_what_was_shown),
        cmocka_unit_test(test_an_entry_without_a_place),
        cmocka_unit_test(test_missing_lines_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
