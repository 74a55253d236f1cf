// The event loop: order of timers, sources deleted inside callbacks, signals, children, deferred calls.
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/loop.h"

static struct loop *loop;
static int order[256];
static size_t order_count;

static int setup(void **state)
{
    (void)state;
    order_count = 0;
    return loop_new(&loop);
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void note(int what)
{
    assert_true(order_count < sizeof(order) / sizeof(order[0]));
    order[order_count++] = what;
}

static void on_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    note((int)(intptr_t)data);
}

static void test_timers_fire_in_order_of_deadlines(void **state)
{
    struct loop_timer *timers[100];
    uint64_t base = loop_clock();

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(loop_timer_add(loop, on_timer, (void *)(intptr_t)i, &timers[i]), 0);
        loop_timer_set(timers[i], base + 100000);
    }
    /* Set anew in another order, every third stopped. */
    for (int i = 0; i < 100; i++) {
        loop_timer_set(timers[(i * 37) % 100], base + (uint64_t)((i * 37) % 100) * 10);
    }
    for (int i = 0; i < 100; i += 3)
        loop_timer_stop(timers[i]);
    loop_timer_del(timers[1]);
    while (order_count < 65 && loop_step(loop, 200) == 0)
        ;
    assert_int_equal(order_count, 65);
    for (size_t i = 1; i < order_count; i++)
        assert_true(order[i - 1] < order[i]);
    assert_true(loop_clock() >= base + 980);
}

static void on_rearm(struct loop_timer *timer, void *data)
{
    (void)data;
    note(1);
    loop_timer_set(timer, 0);
}

static void on_readable(struct loop_io *io, int fd, uint32_t events, void *data)
{
    char byte;

    (void)io;
    (void)events;
    (void)data;
    assert_int_equal(read(fd, &byte, 1), 1);
    note(2);
    loop_exit(loop, 42);
}

static void test_a_timer_that_rearms_itself_starves_nobody(void **state)
{
    struct loop_timer *timer;
    int pair[2];

    (void)state;
    assert_int_equal(pipe(pair), 0);
    assert_int_equal(loop_timer_add(loop, on_rearm, NULL, &timer), 0);
    loop_timer_set(timer, 0);
    assert_int_equal(loop_io_add(loop, pair[0], EPOLLIN, on_readable, NULL, NULL), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_int_equal(loop_run(loop), 42);
    assert_true(order_count <= 4);
    close(pair[0]);
    close(pair[1]);
}

static struct loop_io *both[2];

static void on_delete_both(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    (void)events;
    (void)data;
    note(3);
    loop_io_del(both[0]);
    loop_io_del(both[1]);
}

static void test_sources_may_be_deleted_in_callbacks(void **state)
{
    int pair[2][2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pair[i]), 0);
        assert_int_equal(write(pair[i][1], "x", 1), 1);
        assert_int_equal(loop_io_add(loop, pair[i][0], EPOLLIN, on_delete_both, NULL, &both[i]), 0);
    }
    assert_int_equal(loop_step(loop, 100), 0);
    assert_int_equal(loop_step(loop, 0), 0);
    assert_int_equal(order_count,
                     1); /* the other one was ready too and must not be called any more */
    for (int i = 0; i < 2; i++) {
        close(pair[i][0]);
        close(pair[i][1]);
    }
}

static void on_signal(struct loop *which, int signo, void *data)
{
    (void)data;
    note(signo);
    loop_exit(which, 0);
}

static void test_signals(void **state)
{
    (void)state;
    assert_int_equal(loop_signal_add(loop, SIGUSR1, on_signal, NULL), 0);
    assert_int_equal(loop_signal_add(loop, SIGUSR2, on_signal, NULL), 0);
    assert_int_equal(loop_signal_add(loop, 0, on_signal, NULL), -EINVAL);
    kill(getpid(), SIGUSR2);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(order[0], SIGUSR2);
}

static void on_child(struct loop_child *child, pid_t pid, int status, void *data)
{
    (void)child;
    assert_int_equal(pid, *(pid_t *)data);
    note(WEXITSTATUS(status));
    loop_exit(loop, 0);
}

static void test_children(void **state)
{
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(23);
    assert_true(pid > 0);
    assert_int_equal(loop_child_add(loop, pid, on_child, &pid, NULL), 0);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(order[0], 23);
    assert_int_equal(waitpid(pid, NULL, 0), -1);
}

static void on_defer(void *data)
{
    note((int)(intptr_t)data);
    if (data == (void *)1)
        assert_int_equal(loop_defer(loop, on_defer, (void *)3), 0);
}

static void test_deferred_calls_run_at_the_end_of_the_turn(void **state)
{
    (void)state;
    assert_int_equal(loop_defer(loop, on_defer, (void *)1), 0);
    assert_int_equal(loop_defer(loop, on_defer, (void *)2), 0);
    assert_int_equal(loop_step(loop, -1), 0);
    assert_int_equal(order_count, 2);
    assert_int_equal(loop_step(loop, -1), 0);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 2);
    assert_int_equal(order[2], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timers_fire_in_order_of_deadlines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_timer_that_rearms_itself_starves_nobody, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_sources_may_be_deleted_in_callbacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_children, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deferred_calls_run_at_the_end_of_the_turn, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
