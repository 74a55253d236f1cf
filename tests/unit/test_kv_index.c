// kvd's index by itself: many keys, so that its arrays become mappings of their own, against a plain table.
// sources: core0/kv/index.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kv/index.h"

#define KEYS 250000u /* the arena passes 4 MiB at about 130,000 */

/* Keys of all lengths around the words that they are compared by. */
static uint32_t key_of(uint32_t i, char key[64])
{
    uint32_t len = (uint32_t)snprintf(key, 64, "%u", i);

    for (uint32_t more = i % 23; more > 0; more--)
        key[len++] = (char)('a' + more);
    return len;
}

static struct index_entry entry_of(uint32_t i, uint32_t round)
{
    return (struct index_entry){.segment = i % 7 + 1,
                                .place = i + 1,
                                .value_len = round,
                                .check = (i * 2654435761u) & INDEX_CHECK_MASK};
}

static void assert_has(const struct index *index, uint32_t i, uint32_t round)
{
    struct index_entry expected = entry_of(i, round), found;
    char key[64];

    assert_true(index_find(index, key, key_of(i, key), &found));
    assert_memory_equal(&found, &expected, sizeof(found));
}

static void one_by_one(void **state)
{
    struct index *index = index_new();
    struct index_entry entry;
    char key[64];

    (void)state;
    assert_non_null(index);
    for (uint32_t i = 0; i < KEYS; i++) {
        entry = entry_of(i, 1);
        assert_int_equal(index_put(index, key, key_of(i, key), &entry), 0);
    }
    assert_int_equal(index_count(index), KEYS);
    for (uint32_t i = 0; i < KEYS; i += 3)
        assert_true(index_remove(index, key, key_of(i, key)));
    for (uint32_t i = 0; i < KEYS; i++) {
        if (i % 3 != 0)
            assert_has(index, i, 1);
        else
            assert_false(index_find(index, key, key_of(i, key), &entry));
    }
    /* keys that differ in one byte only, at either end */
    assert_false(index_find(index, "x2345678", 8, &entry));
    index_clear(index);
    assert_int_equal(index_count(index), 0);
    assert_false(index_find(index, key, key_of(1, key), &entry));
    entry = entry_of(5, 9);
    assert_int_equal(index_put(index, key, key_of(5, key), &entry), 0);
    assert_has(index, 5, 9);
    index_free(index);
}

static void keys_that_nearly_agree(void **state)
{
    struct index *index = index_new();
    struct index_entry entry, found;
    char key[40];

    (void)state;
    assert_non_null(index);
    for (uint32_t len = 1; len < sizeof(key); len++)
        for (uint32_t at = 0; at <= len; at++) { /* at == len: all the same */
            memset(key, 'k', sizeof(key));
            if (at < len)
                key[at] = 'K';
            entry = entry_of(len * 100 + at, 2);
            assert_int_equal(index_put(index, key, len, &entry), 0);
        }
    for (uint32_t len = 1; len < sizeof(key); len++)
        for (uint32_t at = 0; at <= len; at++) {
            memset(key, 'k', sizeof(key));
            if (at < len)
                key[at] = 'K';
            entry = entry_of(len * 100 + at, 2);
            assert_true(index_find(index, key, len, &found));
            assert_memory_equal(&found, &entry, sizeof(found));
        }
    index_free(index);
}

/* The same from lumps of any size, each with its first key once more at its end: the later one counts. */
static void many_together(void **state)
{
    static char keys[200][64];
    static uint8_t rounds[KEYS];
    struct index_item items[200];
    struct index *index = index_new();
    struct index_entry entry;
    uint64_t at = 0, seen = 0;
    uint32_t done = 0, len;

    (void)state;
    assert_non_null(index);
    index_expect(index, KEYS);
    while (done < KEYS) {
        uint32_t first = done, some = done % 197 + 1, count = 0;

        for (; count < some && done < KEYS; count++, done++) {
            rounds[done] = 1;
            items[count] = (struct index_item){
                .key = keys[count], .len = key_of(done, keys[count]), .entry = entry_of(done, 1)};
        }
        rounds[first] = 2;
        items[count] = items[0];
        items[count++].entry = entry_of(first, 2);
        assert_int_equal(index_put_all(index, items, count), 0);
    }
    assert_int_equal(index_put_all(index, items, 0), 0);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_has(index, i, rounds[i]);
    while (index_walk(index, &at, &len, &entry) != NULL)
        seen++;
    assert_int_equal(seen, KEYS);
    assert_int_equal(index_count(index), KEYS);
    index_free(index);
}

/* Several at once are what they are one by one, and those that are not there leave no trace. */
static void found_together(void **state)
{
    static char keys[INDEX_TOGETHER][64];
    struct index_entry found[INDEX_TOGETHER], entry;
    struct index_key wanted[INDEX_TOGETHER];
    struct index *index = index_new();
    uint32_t done = 0;

    (void)state;
    assert_non_null(index);
    assert_int_equal(index_find_all(index, wanted, 0, found), 0);
    for (uint32_t i = 0; i < KEYS; i++) {
        entry = entry_of(i, 1);
        if (i % 3 != 0)
            assert_int_equal(index_put(index, keys[0], key_of(i, keys[0]), &entry), 0);
    }
    while (done < KEYS) {
        uint32_t some = done % INDEX_TOGETHER + 1, count = 0, first = done, at = 0;

        for (; count < some && done < KEYS; count++, done++)
            wanted[count] =
                (struct index_key){.key = keys[count], .len = key_of(done, keys[count])};
        memset(found, 0xee, sizeof(found));
        uint32_t n = index_find_all(index, wanted, count, found);
        for (uint32_t i = first; i < done; i++) {
            if (i % 3 == 0)
                continue;
            entry = entry_of(i, 1);
            assert_true(at < n);
            assert_memory_equal(&found[at++], &entry, sizeof(entry));
        }
        assert_int_equal(at, n);
    }
    index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(keys_that_nearly_agree),
        cmocka_unit_test(many_together),
        cmocka_unit_test(found_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
