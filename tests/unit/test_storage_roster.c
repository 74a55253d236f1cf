// The list of named volumes that outlives a missing disk: what is written reads back, what is damaged is not taken.
// sources: core0/storage/roster.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "storage/roster.h"

#define POOL "8d9d8895-df7b-484d-a093-738126a72f2c"
#define COUNT 9
#define HEAD "croft-roster 1 7\n"
#define LINE POOL " ssd 1048576 0 volume/0xab/shop/data\n"

static void test_round_trip(void **state)
{
    struct roster roster = {.generation = 41};
    struct roster again;
    struct buffer text;
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        struct roster_entry entry = {.pool = POOL, .size = i << 40, .keep_until = -(int64_t)i};
        snprintf(entry.kind, sizeof(entry.kind), "%s", i % 2 == 0 ? "ssd" : "hdd");
        snprintf(entry.key, sizeof(entry.key), "volume/0x%0200zu/a/b", i);
        assert_int_equal(roster_add(&roster, &entry), 0);
    }
    buffer_init(&text, ROSTER_BYTES);
    assert_int_equal(roster_format(&roster, &text), 0);
    assert_int_equal(roster_parse((const char *)text.data, text.len, &again), 0);
    assert_int_equal(again.generation, 41);
    assert_int_equal(again.count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_string_equal(again.entries[i].key, roster.entries[i].key);
        assert_string_equal(again.entries[i].pool, POOL);
        assert_string_equal(again.entries[i].kind, roster.entries[i].kind);
        assert_int_equal(again.entries[i].size, roster.entries[i].size);
        assert_int_equal(again.entries[i].keep_until, roster.entries[i].keep_until);
    }
    /* Cut off anywhere: refused, unless exactly whole lines are left. */
    for (size_t len = 0; len < text.len; len++) {
        struct roster cut;
        bool whole = len > 0 && text.data[len - 1] == '\n';
        assert_int_equal(roster_parse((const char *)text.data, len, &cut), whole ? 0 : -EBADMSG);
        if (whole)
            roster_done(&cut);
    }
    buffer_done(&text);
    roster_done(&roster);
    roster_done(&again);
}

static void test_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        "croft-roster 2 7\n",
        "croft-roster 1 seven\n",
        "croft-roster 1 7 8\n",
        LINE,
        HEAD LINE "\n",
        HEAD POOL " ssd 1048576 0\n",
        HEAD POOL " tape 1048576 0 volume/0xab/shop/data\n",
        HEAD POOL " ssd 1048576 0 volume/0xab/shop/data more\n",
        HEAD "8d9d8895 ssd 1048576 0 volume/0xab/shop/data\n",
        HEAD POOL "0 ssd 1048576 0 volume/0xab/shop/data\n",
    };
    struct roster roster;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(roster_parse(texts[i], strlen(texts[i]), &roster), -EBADMSG);
    static const char nul[] = HEAD POOL " ssd 1 0 volume/\0/a/b/c\n";
    assert_int_equal(roster_parse(nul, sizeof(nul) - 1, &roster), -EBADMSG);
    assert_int_equal(roster_parse(HEAD LINE, strlen(HEAD LINE), &roster), 0);
    assert_int_equal(roster.count, 1);
    roster_done(&roster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
