// Reading with a limit, atomic writing, making and removing trees.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/file.h"

static char folder[64];

static const char *at(const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *buf = path[turn++ % 4];

    snprintf(buf, sizeof(path[0]), "%s/%s", folder, name);
    return buf;
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/croft-file-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(folder);
}

static void test_write_and_read(void **state)
{
    struct stat st;
    char *text;
    size_t len;

    (void)state;
    assert_int_equal(file_write_atomic(at("a"), "hello", 5, 0640), 0);
    assert_int_equal(stat(at("a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(file_read(at("a"), 5, &text, &len), 0);
    assert_int_equal(len, 5);
    assert_string_equal(text, "hello");
    free(text);
    assert_int_equal(file_read(at("a"), 4, &text, &len), -EFBIG);
    assert_int_equal(file_read(at("none"), 4, &text, &len), -ENOENT);
    assert_int_equal(file_write_atomic(at("a"), "", 0, 0600), 0);
    assert_int_equal(file_read(at("a"), 0, &text, &len), 0);
    assert_int_equal(len, 0);
    free(text);
    assert_int_equal(file_write_text(at("a"), "text"), 0);
    assert_int_equal(file_write_text(at("none"), "text"), -ENOENT);
    assert_int_equal(file_write_atomic(at("no/folder"), "", 0, 0600), -ENOENT);
}

static void test_a_file_without_a_size(void **state)
{
    char *text;
    size_t len;

    (void)state;
    assert_int_equal(file_read("/proc/self/stat", 100000, &text, &len), 0); /* /proc says size 0 */
    assert_true(len > 0 && text[len] == '\0');
    free(text);
    assert_int_equal(file_read("/proc/self/stat", 3, &text, &len), -EFBIG);
    assert_int_equal(file_read("/sys/kernel/uevent_seqnum", 64, &text, &len),
                     0); /* /sys says 4096 */
    assert_true(len >= 2 && text[len - 1] == '\n');
    free(text);
}

static void test_folders(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(file_mkdirs(at("x/y/z"), 0711), 0);
    assert_int_equal(file_mkdirs(at("x/y/z"), 0711), 0);
    assert_int_equal(stat(at("x/y"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_int_equal(file_write_atomic(at("x/file"), "1", 1, 0600), 0);
    assert_int_equal(file_mkdirs(at("x/file/z"), 0711), -ENOTDIR);
}

static void test_removing_a_tree_follows_no_link(void **state)
{
    (void)state;
    assert_int_equal(file_mkdirs(at("keep"), 0755), 0);
    assert_int_equal(file_write_atomic(at("keep/file"), "1", 1, 0600), 0);
    assert_int_equal(file_mkdirs(at("go/deep"), 0755), 0);
    assert_int_equal(symlink("../../keep", at("go/deep/link")), 0);
    assert_int_equal(file_write_atomic(at("go/file"), "1", 1, 0600), 0);
    assert_int_equal(file_remove_tree(at("go/")), 0);
    assert_int_equal(access(at("go"), F_OK), -1);
    assert_int_equal(access(at("keep/file"), F_OK), 0);
    assert_int_equal(file_remove_tree(at("go")), 0); /* absent is done */
    assert_int_equal(file_remove_tree(at("keep/file")), 0);
    assert_int_equal(access(at("keep/file"), F_OK), -1);
}

static void test_what_a_killed_writer_left(void **state)
{
    static const char *const stay[] = {"list.json", "list.json.abc",     "volume.sealed",
                                       ".hidden",   "list.json.abcdefg", "list.json.ab-def"};
    (void)state;
    assert_int_equal(file_remove_leftovers(at("absent")), -ENOENT);
    for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
        assert_int_equal(file_write_atomic(at(stay[i]), "1", 1, 0600), 0);
    assert_int_equal(file_write_atomic(at("list.json.emIM1A"), "1", 1, 0600), 0);
    assert_int_equal(file_remove_leftovers(folder), 1);
    assert_int_equal(access(at("list.json.emIM1A"), F_OK), -1);
    for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
        assert_int_equal(access(at(stay[i]), F_OK), 0);
    /* Of one file alone, with a name without a dot. */
    assert_int_equal(file_write_atomic(at("roster.GjlaoD"), "1", 1, 0600), 0);
    assert_int_equal(file_write_atomic(at("rosters.GjlaoD"), "1", 1, 0600), 0);
    assert_int_equal(file_write_atomic(at("list.json.emIM1A"), "1", 1, 0600), 0);
    assert_int_equal(file_write_atomic(at("roster"), "1", 1, 0600), 0);
    assert_int_equal(file_remove_leftovers_of(at("roster")), 1);
    assert_int_equal(access(at("roster.GjlaoD"), F_OK), -1);
    assert_int_equal(access(at("rosters.GjlaoD"), F_OK), 0);
    assert_int_equal(access(at("list.json.emIM1A"), F_OK), 0);
    assert_int_equal(access(at("roster"), F_OK), 0);
    assert_int_equal(file_remove_leftovers_of("roster"), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_without_a_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removing_a_tree_follows_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_killed_writer_left, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
