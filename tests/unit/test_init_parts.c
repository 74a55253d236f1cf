// Small parts of core0: rings, text, the kernel's log, filters.
// sources: core0/init/ring.c core0/init/text.c core0/init/kernel_log.c core0/init/seccomp.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "init/kernel_log.h"
#include "init/ring.h"
#include "init/seccomp.h"
#include "init/text.h"

struct seen {
    uint64_t first;
    uint64_t last;
    size_t count;
    char text[RING_LINE_MAX + 1];
};

static bool see(const struct ring_line *line, void *data)
{
    struct seen *seen = data;

    if (seen->count++ == 0)
        seen->first = line->sequence;
    else
        assert_int_equal(line->sequence, seen->last + 1);
    seen->last = line->sequence;
    memcpy(seen->text, line->text, line->len);
    seen->text[line->len] = '\0';
    return true;
}

static void test_ring(void **state)
{
    struct ring ring;
    struct seen seen = {0};
    char large[3000];

    (void)state;
    ring_init(&ring, 5000);
    assert_int_equal(ring_tail(&ring, 10), 0);
    for (int i = 0; i < 10000; i++) {
        char text[32];
        int len = snprintf(text, sizeof(text), "line %d", i);

        ring_add(&ring, (uint64_t)i, 6, text, (size_t)len);
        assert_true(ring.capacity <= 5000);
    }
    ring_each(&ring, 0, see, &seen);
    assert_int_equal(seen.last, 9999);
    assert_int_equal(seen.count, ring.count);
    assert_true(seen.count > 150 && seen.count < 250);
    assert_string_equal(seen.text, "line 9999");
    seen = (struct seen){0};
    ring_each(&ring, ring_tail(&ring, 7), see, &seen);
    assert_int_equal(seen.count, 7);
    memset(large, 'x', sizeof(large));
    ring_add(&ring, 0, 3, large, sizeof(large));
    seen = (struct seen){0};
    ring_each(&ring, ring_tail(&ring, 1), see, &seen);
    assert_int_equal(strlen(seen.text), RING_LINE_MAX);
    ring_done(&ring);
}

static const char *clean(const char *text)
{
    static char buf[64];

    text_clean(buf, sizeof(buf), text, strlen(text));
    return buf;
}

static void test_text(void **state)
{
    char cut[8];
    char line[] = "a croft.join=0123 b croft.join= c croft.join=\"x\" d";

    (void)state;
    assert_string_equal(clean("plain \xc3\xb6 \xe2\x82\xac \xf0\x9f\x98\x80"),
                        "plain \xc3\xb6 \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(clean("a\033[2Jb\nc\x7f\td"), "a [2Jb c \td");
    assert_string_equal(clean("\xc2\x9b"
                              "31m"),
                        " 31m"); /* C1: CSI */
    assert_string_equal(clean("\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82"), "????"
                                                                                   "??"
                                                                                   "????"
                                                                                   "??");
    assert_int_equal(text_clean(cut, sizeof(cut), "123456\xe2\x82\xac", 9),
                     6); /* no half character */
    text_hide_token(line);
    assert_string_equal(line, "a croft.join=**** b croft.join= c croft.join=*** d");
}

static int kernel(const char *record, char *text, struct ring_line *line)
{
    char copy[256];

    strcpy(copy, record);
    return kernel_log_parse(copy, strlen(copy), 1000, text, line);
}

static void test_kernel_log(void **state)
{
    char text[RING_LINE_MAX];
    struct ring_line line;

    (void)state;
    assert_int_equal(kernel("30,339,5140900,-;eth0: link up\n SUBSYSTEM=net\n", text, &line), 0);
    assert_int_equal(line.level, 6);
    assert_int_equal(line.sequence, 339);
    assert_int_equal(line.time_us, 5141900);
    assert_string_equal(text, "eth0: link up");
    assert_int_equal(kernel("5,1,2,-;Kernel command line: croft.join=secret x", text, &line), 0);
    assert_string_equal(text, "Kernel command line: croft.join=****** x");
    assert_int_equal(kernel("nonsense", text, &line), -EINVAL);
    assert_int_equal(kernel("1,2;x", text, &line), -EINVAL);
    assert_int_equal(kernel(";", text, &line), -EINVAL);
}

/* What a child under the filter sees: errno of the call + 1, or 100 + the signal that ended it. */
static int under_filter(const char *const *words, size_t count, bool deny, int error, long call,
                        long argument)
{
    struct sock_filter program[SECCOMP_PROGRAM_MAX];
    size_t len;
    int status;
    pid_t pid;

    assert_int_equal(seccomp_build((char *const *)(uintptr_t)words, count, deny, error, program,
                                   SECCOMP_PROGRAM_MAX, &len),
                     0);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (seccomp_load(program, len) < 0)
            syscall(SYS_exit_group, 99);
        errno = 0;
        syscall(call, argument, NULL, NULL);
        syscall(SYS_exit_group, errno == EPERM ? 2 : 1);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_filters(void **state)
{
    static const char *const deny[] = {"getppid", "@mount"};
    static const char *const allow[] = {"getpid", "getppid"};
    struct sock_filter program[8];
    const char *bad = "nosuchcall";
    size_t len;

    (void)state;
    assert_true(seccomp_knows("openat2"));
    assert_true(seccomp_knows("@dangerous"));
    assert_false(seccomp_knows("@nothing"));
    assert_false(seccomp_knows("open at"));
    assert_int_equal(under_filter(deny, 2, true, EPERM, SYS_getppid, 0), 2);
    assert_int_equal(under_filter(deny, 2, true, EPERM, SYS_umount2, 0), 2);
    assert_int_equal(under_filter(deny, 2, true, EPERM, SYS_getpid, 0), 1);
    assert_int_equal(under_filter(deny, 2, true, 0, SYS_getppid, 0), 100 + 31); /* SIGSYS */
    assert_int_equal(under_filter(allow, 2, false, EPERM, SYS_getppid, 0), 1);
    assert_int_equal(under_filter(allow, 2, false, EPERM, SYS_getuid, 0), 2);
#if defined(__x86_64__)
    assert_int_equal(under_filter(deny, 2, true, EPERM, (1L << 30) + SYS_getpid, 0), 2); /* x32 */
#endif
    assert_int_equal(seccomp_build((char *const *)(uintptr_t)&bad, 1, true, 0, program, 8, &len),
                     -EINVAL);
    assert_int_equal(seccomp_build((char *const *)(uintptr_t)deny, 2, true, 0, program, 8, &len),
                     -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_kernel_log),
        cmocka_unit_test(test_filters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
