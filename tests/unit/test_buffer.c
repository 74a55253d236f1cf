// A buffer grows, ends with NUL, keeps its limit, and drops from the front.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buffer.h"

static void test_append_and_consume(void **state)
{
    struct buffer buf;
    uint8_t *stolen;
    size_t len;

    (void)state;
    buffer_init(&buf, 0);
    assert_int_equal(buffer_append_str(&buf, "hello "), 0);
    assert_int_equal(buffer_printf(&buf, "%s %d", "world", 7), 0);
    assert_string_equal((char *)buf.data, "hello world 7");
    buffer_consume(&buf, 6);
    assert_string_equal((char *)buf.data, "world 7");
    buffer_consume(&buf, 100);
    assert_int_equal(buf.len, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buffer_append(&buf, "0123456789", 10), 0);
    assert_int_equal(buf.len, 10000);
    assert_int_equal(buf.data[10000], 0);
    stolen = buffer_steal(&buf, &len);
    assert_int_equal(len, 10000);
    assert_null(buf.data);
    free(stolen);
    buffer_done(&buf);
}

static void test_limit(void **state)
{
    struct buffer buf;

    (void)state;
    buffer_init(&buf, 100);
    for (int i = 0; i < 10; i++)
        assert_int_equal(buffer_append(&buf, "0123456789", 10), 0);
    assert_int_equal(buffer_append(&buf, "x", 1), -EFBIG);
    assert_int_equal(buffer_printf(&buf, "%d", 1), -EFBIG);
    assert_int_equal(buffer_reserve(&buf, SIZE_MAX), -EFBIG);
    assert_int_equal(buf.len, 100);
    assert_int_equal(buffer_append(&buf, NULL, 0), 0);
    buffer_clear(&buf);
    assert_int_equal(buffer_append(&buf, "x", 1), 0);
    buffer_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_consume),
        cmocka_unit_test(test_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
