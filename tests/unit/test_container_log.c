// A container's log: records, rotation, and what is left of them after a torn write.
// sources: core0/shim/logfile.c
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

#include "lib/contlog.h"
#include "lib/file.h"
#include "shim/logfile.h"

static char folder[] = "/tmp/croft-log-XXXXXX";
static struct logfile_stream out, err;

static int setup(void **state)
{
    (void)state;
    memcpy(folder, "/tmp/croft-log-XXXXXX", sizeof(folder));
    memset(&out, 0, sizeof(out));
    memset(&err, 0, sizeof(err));
    err.is_error = true;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(folder);
}

static char *read_log(uint32_t number, size_t *ret_len)
{
    char name[CONTLOG_NAME_MAX], path[128], *data;

    contlog_name(name, number);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return file_read(path, 64 << 20, &data, ret_len) == 0 ? data : NULL;
}

static void feed(struct logfile *log, struct logfile_stream *stream, const char *text)
{
    logfile_feed(log, stream, 1000, text, strlen(text));
}

static void assert_log(uint32_t number, const char *expected)
{
    size_t len;
    char *data = read_log(number, &len);

    assert_non_null(data);
    assert_string_equal(data, expected);
    free(data);
}

static void test_records(void **state)
{
    struct logfile log;

    (void)state;
    assert_int_equal(logfile_open(&log, folder, 1 << 20, 4), 0);
    feed(&log, &out, "one\ntw");
    feed(&log, &err, "bad\n");
    feed(&log, &out, "o\n\nrest");
    logfile_flush(&log, &out, 2000);
    logfile_flush(&log, &err, 2000);
    logfile_close(&log);
    assert_log(1, "1000 o. one\n1000 e. bad\n1000 o. two\n1000 o. \n2000 o. rest\n");
}

static void test_long_and_binary_lines(void **state)
{
    struct logfile log;
    char *line = malloc(40001), *data;
    size_t len, at = 0, skip, total = 0, records = 0;
    struct contlog_record record;
    ssize_t n;

    (void)state;
    for (size_t i = 0; i < 40000; i++)
        line[i] = (char)(i % 251 == '\n' ? 0 : i % 251);
    line[40000] = '\n';
    assert_int_equal(logfile_open(&log, folder, 1 << 20, 4), 0);
    logfile_feed(&log, &out, 5, line, 7);
    logfile_feed(&log, &out, 5, line + 7, 40001 - 7);
    logfile_close(&log);
    data = read_log(1, &len);
    while ((n = contlog_parse(data + at, len - at, &record, &skip)) > 0) {
        assert_true(record.len <= CONTLOG_LINE_MAX);
        assert_memory_equal(record.text, line + total, record.len);
        total += record.len;
        at += (size_t)n;
        records++;
        assert_int_equal(record.partial, total < 40000);
    }
    assert_int_equal(total, 40000);
    assert_int_equal(records, 3);
    assert_int_equal(at, len);
    free(line);
    free(data);
}

static void test_rotation_is_bounded(void **state)
{
    struct logfile log;
    char text[64];
    size_t len;

    (void)state;
    assert_int_equal(logfile_open(&log, folder, 1000, 3), 0);
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "line %d\n", i);
        feed(&log, &out, text);
    }
    uint32_t last = log.number;
    logfile_close(&log);
    assert_true(last > 3);
    assert_null(read_log(last - 3, &len));
    for (uint32_t number = last - 2; number <= last; number++) {
        char *data = read_log(number, &len);

        assert_non_null(data);
        assert_true(len <= 1000);
        assert_int_equal(data[len - 1], '\n');
        if (number == last)
            assert_non_null(strstr(data, "line 499\n"));
        free(data);
    }
    /* A new run goes on in the last file. */
    assert_int_equal(logfile_open(&log, folder, 1000, 3), 0);
    assert_int_equal(log.number, last);
    logfile_close(&log);
}

static void test_a_torn_record_is_closed(void **state)
{
    struct logfile log;
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/00000007.log", folder);
    assert_int_equal(file_write_atomic(path, "1 o. whole\n22 o. ha", 19, 0600), 0);
    assert_int_equal(logfile_open(&log, folder, 1 << 20, 4), 0);
    feed(&log, &out, "next\n");
    logfile_close(&log);
    assert_log(7, "1 o. whole\n22 o. ha\n1000 o. next\n");
}

static void test_parse_refuses_what_is_no_record(void **state)
{
    static const char *const bad[] = {"\n",        "x\n",       "12\n",     "12 o\n",
                                      "12 x. a\n", "12 o? a\n", "12 o.a\n", " o. a\n"};
    struct contlog_record record;
    size_t skip;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(contlog_parse(bad[i], strlen(bad[i]), &record, &skip), -EBADMSG);
        assert_int_equal(skip, strlen(bad[i]));
    }
    assert_int_equal(contlog_parse("12 o. a", 7, &record, &skip), 0);
    assert_int_equal(contlog_parse("12 e+ ab\nxx", 11, &record, &skip), 9);
    assert_true(record.is_error && record.partial && record.time == 12 && record.len == 2);
    assert_int_equal(contlog_number("00000012.log"), 12);
    assert_int_equal(contlog_number("0000012.log"), -1);
    assert_int_equal(contlog_number("0000001x.log"), -1);
}

static int count_lost(const char *data)
{
    int count = 0;

    for (const char *at = data; (at = strstr(at, "were lost")) != NULL; at++)
        count++;
    return count;
}

/* A full disk: what does not fit is dropped in whole records, and said once there is room. */
static void test_no_space(void **state)
{
    struct logfile log;
    struct logfile full;
    size_t len;

    (void)state;
    assert_int_equal(logfile_open(&log, folder, 1 << 20, 4), 0);
    full = log;
    full.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full.fd >= 0);
    feed(&full, &out, "gone\n");
    assert_true(full.dropped > 0);
    close(full.fd);
    full.fd = log.fd;
    feed(&full, &out, "here\n");
    assert_int_equal(full.dropped, 0);
    logfile_close(&full);
    char *data = read_log(1, &len);
    assert_null(strstr(data, "gone"));
    assert_non_null(strstr(data, "o. here\n"));
    assert_int_equal(count_lost(data), 1);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_and_binary_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_torn_record_is_closed, setup, teardown),
        cmocka_unit_test(test_parse_refuses_what_is_no_record),
        cmocka_unit_test_setup_teardown(test_no_space, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
