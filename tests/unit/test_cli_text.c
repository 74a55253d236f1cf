// What `croft` shows of strangers' text on a terminal, and how it reads points in time.
// sources: core0/cli/printable.c core0/cli/moment.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/moment.h"
#include "cli/printable.h"

static void test_printable(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        const char *shown;
    } cases[] = {
        {"plain text\twith a tab", 21, "plain text\twith a tab"},
        {"gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80", 10, "gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80"},
        {"\x1b[2J\x1b]0;title\x07", 14, "\\x1b[2J\\x1b]0;title\\x07"},
        {"a\rb\nc\0d\x7f", 8, "a\\x0db\\x0ac\\x00d\\x7f"},
        {"\xc2\x9b"
         "31m",
         5, "\\u009b31m"}, /* CSI as one character */
        {"\x9b"
         "31m",
         4, "\\x9b31m"}, /* and as one byte */
        {"a\xe2\x80\xae"
         "b",
         5, "a\\u202eb"}, /* right to left */
        {"\xc0\x9b\xe0\x80\x9b\xed\xa0\x80", 8, "\\xc0\\x9b\\xe0\\x80\\x9b\\xed\\xa0\\x80"},
        {"end \xe2\x82", 6, "end \\xe2\\x82"}, /* cut off */
        {"\xf5\xff", 2, "\\xf5\\xff"},
        {"", 0, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out;
        buffer_init(&out, 0);
        assert_true(printable_append(&out, cases[i].text, cases[i].len) >= 0);
        assert_int_equal(out.len, strlen(cases[i].shown));
        assert_memory_equal(out.data != NULL ? (const char *)out.data : "", cases[i].shown,
                            out.len);
        buffer_done(&out);
    }
}

#define NOW 1800000000000000ULL

static void test_moments(void **state)
{
    static const struct {
        const char *text;
        uint64_t us;
    } good[] = {
        {"10m", NOW - 600000000ULL},
        {"1h30m", NOW - 5400000000ULL},
        {"1w2d3h4m5s", NOW - 788645000000ULL},
        {"0s", NOW},
        {"99999w", 0},
        {"@1700000000", 1700000000000000ULL},
        {"1970-01-01", 0},
        {"2026-11-28T08:00:00Z", 1795852800000000ULL},
        {"2026-11-28 08:00:00.5z", 1795852800500000ULL},
        {"2026-11-28T09:30:00.123456789+01:30", 1795852800123456ULL},
        {"2026-11-28T00:00:00-08:00", 1795852800000000ULL},
        {"2024-02-29", 1709164800000000ULL},
    };
    static const char *const bad[] = {
        "",
        "10",
        "m",
        "10x",
        "30m1h",
        "1h1h",
        "-10m",
        "1.5h",
        "@",
        "@1x",
        "@9999999999999",
        "2026-13-01",
        "2026-02-29",
        "2026-11-31",
        "2026-11-28T08:00",
        "2026-11-28T08:00:00",
        "2026-11-28T25:00:00Z",
        "2026-11-28T08:00:00Zx",
        "2026-11-28T08:00:00.Z",
        "2026-11-28T08:00:00+0100",
        "2026-1-1",
        "yesterday",
        "1969-12-31",
        "10m ",
        "1111111111111s",
    };
    char text[MOMENT_TEXT];
    uint64_t us;
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (moment_parse(good[i].text, NOW, &us) != 0 || us != good[i].us) {
            fail_msg("%s: %llu", good[i].text, (unsigned long long)us);
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (moment_parse(bad[i], NOW, &us) != -EINVAL) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    moment_format(1795852800000042ULL, text);
    assert_string_equal(text, "2026-11-28T08:00:00.000042Z");
    moment_format(UINT64_MAX, text); /* a liar's time fits, too */
    assert_true(strlen(text) < MOMENT_TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
