// A container's user, found in the image's passwd and group.
// sources: core0/container/user.c
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

#include "container/user.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# comment\n"
                             "broken\n"
                             "web:x:33:34::/var/web:/bin/sh\n"
                             "42:x:7:7::/odd:/bin/sh\n"
                             "big:x:70000:70000::/:/bin/sh\n"
                             "last:x:9:9::/last";
static const char group[] =
    "root:x:0:\nwww:x:34:\nextra:x:44:a,web\nmore:x:45:web,b\nnot:x:46:webb\nfar:x:99999:web\n";

static int find(const char *text, struct container_user *ret_user, struct error *err)
{
    return user_find(text, passwd, strlen(passwd), group, strlen(group), 65536, ret_user, err);
}

static void test_users(void **state)
{
    static const struct {
        const char *text;
        uint32_t uid, gid;
        size_t groups;
        const char *home;
    } rows[] = {
        {"", 0, 0, 1, "/root"},
        {"root", 0, 0, 1, "/root"},
        {"web", 33, 34, 3, "/var/web"},
        {"33", 33, 34, 3, "/var/web"},
        {"web:extra", 33, 44, 1, "/var/web"},
        {"web:5", 33, 5, 1, "/var/web"},
        {"1000", 1000, 0, 1, "/"},
        {"1000:2000", 1000, 2000, 1, "/"},
        {"42", 42, 0, 1, "/"},
        {"last", 9, 9, 1, "/last"},
        {"web:", 33, 34, 3, "/var/web"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct container_user user;
        struct error err = {0};

        if (find(rows[i].text, &user, &err) < 0)
            fail_msg("\"%s\": %s", rows[i].text, err.message);
        assert_int_equal(user.uid, rows[i].uid);
        assert_int_equal(user.gid, rows[i].gid);
        assert_int_equal(user.group_count, rows[i].groups);
        assert_int_equal(user.groups[0], user.gid);
        assert_string_equal(user.home, rows[i].home);
    }
}

static void test_users_that_are_not_there(void **state)
{
    static const char *const rows[] = {"nobody",     "web:nogroup", "big", "65536",
                                       "1000:65536", "99999999999", "-1",  ":x"};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct container_user user;
        struct error err = {0};

        if (find(rows[i], &user, &err) == 0)
            fail_msg("accepted: %s", rows[i]);
        assert_string_equal(err.code, "container.bad-user");
    }
}

static void test_without_files_only_numbers_work(void **state)
{
    struct container_user user;

    (void)state;
    assert_int_equal(user_find("5:6", NULL, 0, NULL, 0, 65536, &user, NULL), 0);
    assert_int_equal(user.uid, 5);
    assert_int_equal(user.gid, 6);
    assert_true(user_find("web", NULL, 0, NULL, 0, 65536, &user, NULL) < 0);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* An image whose /etc/passwd points out of it must not make us read the node's. */
static void test_links_stay_inside(void **state)
{
    char dir[] = "/tmp/croft-user-XXXXXX", path[128];
    struct container_user user;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/etc", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/etc/real", dir);
    write_text(path, "inside:x:12:12::/in:/bin/sh\n");
    snprintf(path, sizeof(path), "%s/etc/passwd", dir);
    assert_int_equal(symlink("/etc/real", path), 0);
    assert_int_equal(user_resolve(dir, "inside", 65536, &user, NULL), 0);
    assert_int_equal(user.uid, 12);
    unlink(path);
    assert_int_equal(symlink("../../../../../../../../etc/passwd", path), 0);
    /* The climbing link leads back to itself inside the root: no file, so no name. */
    assert_true(user_resolve(dir, "daemon", 65536, &user, NULL) < 0);
    unlink(path);
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_true(user_resolve(dir, "daemon", 65536, &user, NULL) < 0);
    unlink(path);
    snprintf(path, sizeof(path), "%s/etc/real", dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/etc", dir);
    rmdir(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_users_that_are_not_there),
        cmocka_unit_test(test_without_files_only_numbers_work),
        cmocka_unit_test(test_links_stay_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
