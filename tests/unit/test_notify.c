// What programs tell core0: log lines and datagrams, byte for byte.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/error.h"
#include "lib/log.h"
#include "lib/notify.h"

static int receiver;
static char received[8192];

static int setup(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char name[64];
    int len = snprintf(name, sizeof(name), "@croft-notify-%d", (int)getpid());

    (void)state;
    memcpy(addr.sun_path, name, (size_t)len);
    addr.sun_path[0] = '\0';
    receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return bind(receiver, (const struct sockaddr *)&addr,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len));
}

static int teardown(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    return close(receiver);
}

static const char *next(void)
{
    ssize_t len = recv(receiver, received, sizeof(received) - 1, 0);

    received[len > 0 ? len : 0] = '\0';
    return received;
}

static void test_messages(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(notify_ready(), 0);
    assert_string_equal(next(), "READY=1");
    assert_int_equal(notify_status("%d of %d", 1, 2), 0);
    assert_string_equal(next(), "STATUS=1 of 2");
    assert_int_equal(notify_fact("farm", "7"), 0);
    assert_string_equal(next(), "X_CROFT_FACT=farm=7");
    assert_int_equal(notify_fact("farm", NULL), 0);
    assert_string_equal(next(), "X_CROFT_FACT=farm=");
    error_set(&err, EIO, "a.b", "do this", "it broke");
    assert_int_equal(notify_error(&err), 0);
    assert_string_equal(next(), "X_CROFT_ERROR=a.b: it broke");
    assert_int_equal(notify_error(NULL), 0);
    assert_string_equal(next(), "X_CROFT_ERROR=");
    assert_int_equal(notify_event("step", "\"us\":%d", 5), 0);
    assert_string_equal(next(), "X_CROFT_EVENT={\"event\":\"step\",\"us\":5}");
    assert_int_equal(notify_event("bare", "%s", ""), 0);
    assert_string_equal(next(), "X_CROFT_EVENT={\"event\":\"bare\"}");
    assert_int_equal(notify_watchdog(), 0);
    assert_string_equal(next(), "WATCHDOG=1");
}

static void test_a_value_cannot_start_another_variable(void **state)
{
    (void)state;
    notify_status("%s", "fine\nREADY=1");
    assert_string_equal(next(), "STATUS=fine READY=1");
}

static void test_limits_and_absence(void **state)
{
    char *large = malloc(10000);

    (void)state;
    memset(large, 'x', 9999);
    large[9999] = '\0';
    assert_int_equal(notify_event("big", "\"a\":\"%s\"", large), -EMSGSIZE);
    assert_string_equal(next(), "");
    assert_int_equal(notify_status("%s", large), 0);
    assert_true(strlen(next()) < 4096);
    free(large);
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(notify_ready(), 0);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(notify_ready(), -EINVAL);
}

static void test_watchdog_interval(void **state)
{
    char pid[24];

    (void)state;
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(notify_watchdog_interval(), 0);
    setenv("WATCHDOG_USEC", "3000000", 1);
    assert_int_equal(notify_watchdog_interval(), 1500000);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_watchdog_interval(), 1500000);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(notify_watchdog_interval(), 0);
    setenv("WATCHDOG_USEC", "-3", 1);
    assert_int_equal(notify_watchdog_interval(), 0);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void test_log_lines(void **state)
{
    struct error err = {0};
    char text[4096];
    char large[3000];
    int saved = dup(STDERR_FILENO);
    int pair[2];
    ssize_t len;

    (void)state;
    assert_int_equal(pipe(pair), 0);
    dup2(pair[1], STDERR_FILENO);
    log_info("hello %s", "wor\nld\033[1m");
    log_debug("not shown");
    error_set(&err, EIO, "a.b", "do this", "it broke");
    log_error(&err, "netd");
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    log_warn("%s", large);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pair[1]);
    len = read(pair[0], text, sizeof(text) - 1);
    assert_true(len > 0);
    text[len] = '\0';
    close(pair[0]);
    assert_non_null(strstr(text, "<6>hello wor?ld?[1m\n"));
    assert_null(strstr(text, "not shown"));
    assert_non_null(strstr(text, "<3>netd: it broke (a.b) - do this\n"));
    assert_int_equal(strlen(strstr(text, "<4>")), 3 + 1000 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_value_cannot_start_another_variable, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_limits_and_absence, setup, teardown),
        cmocka_unit_test(test_watchdog_interval),
        cmocka_unit_test(test_log_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
