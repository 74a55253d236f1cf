// sources: core0/kv/resp.c
// The parser of the key-value server's requests: what is taken, what is refused, and that pieces make the same request.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// cmocka wants those first
#include <cmocka.h>

#include "kv/resp.h"

static const struct resp_limits limits = {.argument = 100, .request = 1000};
static struct resp_request request;

static int parse(uint8_t *data, size_t len)
{
    resp_request_reset(&request);
    return resp_parse(data, len, &limits, &request);
}

static void expect_argument(const uint8_t *data, unsigned i, const char *text, size_t len)
{
    assert_true(i < request.argc);
    assert_int_equal(request.argv[i].len, len);
    assert_memory_equal(data + request.argv[i].offset, text, len);
}

static void test_array(void **state)
{
    uint8_t data[] = "*3\r\n$3\r\nSET\r\n$2\r\n\0\n\r\n$0\r\n\r\n*1\r\n";
    size_t first = sizeof("*3\r\n$3\r\nSET\r\n$2\r\n\0\n\r\n$0\r\n\r\n") - 1;

    (void)state;
    assert_int_equal(parse(data, sizeof(data) - 1), 1);
    assert_int_equal(request.position, first);
    assert_int_equal(request.argc, 3);
    expect_argument(data, 0, "SET", 3);
    expect_argument(data, 1, "\0\n", 2);
    expect_argument(data, 2, "", 0);
}

static void test_pieces(void **state)
{
    uint8_t data[] = "*2\r\n$3\r\nGET\r\n$12\r\nabcdefghijkl\r\n";
    size_t len = sizeof(data) - 1;

    (void)state;
    for (size_t cut = 1; cut < len; cut++) {
        resp_request_reset(&request);
        assert_int_equal(resp_parse(data, cut, &limits, &request), 0);
        if (request.need != 0)
            assert_true(request.need > cut && request.need <= len);
        assert_int_equal(resp_parse(data, len, &limits, &request), 1);
        assert_int_equal(request.position, len);
        expect_argument(data, 1, "abcdefghijkl", 12);
    }
}

static void test_need(void **state)
{
    uint8_t data[] = "*1\r\n$50\r\nx";

    (void)state;
    assert_int_equal(parse(data, sizeof(data) - 1), 0);
    assert_int_equal(request.need, 4 + 5 + 50 + 2);
}

static void test_inline(void **state)
{
    uint8_t plain[] = "  set  a\tb \r\nPING\n";
    uint8_t quoted[] = "SET \"a\\x00\\n\\\"b\" 'it\\'s' \"\"\n";
    uint8_t open[] = "SET \"a\r\n", glued[] = "SET \"a\"b\r\n", empty[] = "\r\n";

    (void)state;
    assert_int_equal(parse(plain, sizeof(plain) - 1), 1);
    assert_int_equal(request.position, 13);
    assert_int_equal(request.argc, 3);
    expect_argument(plain, 0, "set", 3);
    expect_argument(plain, 2, "b", 1);
    assert_int_equal(parse(quoted, sizeof(quoted) - 1), 1);
    assert_int_equal(request.argc, 4);
    expect_argument(quoted, 1, "a\0\n\"b", 5);
    expect_argument(quoted, 2, "it's", 4);
    expect_argument(quoted, 3, "", 0);
    assert_int_equal(parse(open, sizeof(open) - 1), RESP_ERROR_QUOTES);
    assert_int_equal(parse(glued, sizeof(glued) - 1), RESP_ERROR_QUOTES);
    assert_int_equal(parse(empty, sizeof(empty) - 1), 1);
    assert_int_equal(request.argc, 0);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        int result;
    } rows[] = {
        {"*1025\r\n", RESP_ERROR_ARGUMENTS},
        {"*1\r\n$101\r\n", RESP_ERROR_ARGUMENT},
        {"*-1\r\n", RESP_ERROR_FORM},
        {"*\r\n", RESP_ERROR_FORM},
        {"*1x\r\n", RESP_ERROR_FORM},
        {"*1\r\r", RESP_ERROR_FORM},
        {"*1\r\n:1\r\n", RESP_ERROR_FORM},
        {"*1\r\n$-1\r\n", RESP_ERROR_FORM},
        {"*1\r\n$1\r\nabc\r\n", RESP_ERROR_FORM},
        {"*99999999999999999999999\r\n", RESP_ERROR_FORM},
        {"*000000000000000000000000000000000000000000\r\n", RESP_ERROR_FORM},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t copy[64];

        memcpy(copy, rows[i].text, strlen(rows[i].text));
        assert_int_equal(parse(copy, strlen(rows[i].text)), rows[i].result);
    }
}

static void test_request_limit(void **state)
{
    uint8_t data[2000];
    size_t len = 0;
    int r;

    (void)state;
    memcpy(data, "*20\r\n", 5);
    len = 5;
    for (int i = 0; i < 20; i++) {
        memcpy(data + len, "$90\r\n", 5);
        memset(data + len + 5, 'x', 90);
        memcpy(data + len + 95, "\r\n", 2);
        len += 97;
    }
    r = parse(data, len);
    assert_int_equal(r, RESP_ERROR_REQUEST);
    memset(data, 'x', sizeof(data));
    assert_int_equal(parse(data, sizeof(data)), RESP_ERROR_REQUEST); /* an endless line */
    assert_int_equal(parse(data, 999), 0);
}

static void test_number(void **state)
{
    uint64_t n = 1;

    (void)state;
    assert_int_equal(resp_number((const uint8_t *)"0", 1, 10, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(resp_number((const uint8_t *)"18446744073709551615", 20, UINT64_MAX, &n), 0);
    assert_true(n == UINT64_MAX);
    assert_int_equal(resp_number((const uint8_t *)"18446744073709551616", 20, UINT64_MAX, &n), -22);
    assert_int_equal(resp_number((const uint8_t *)"11", 2, 10, &n), -22);
    assert_int_equal(resp_number((const uint8_t *)"-1", 2, 10, &n), -22);
    assert_int_equal(resp_number((const uint8_t *)"", 0, 10, &n), -22);
    assert_int_equal(resp_number((const uint8_t *)" 1", 2, 10, &n), -22);
}

static void test_head(void **state)
{
    uint8_t head[RESP_HEAD_MAX];

    (void)state;
    assert_int_equal(resp_head('$', 0, head), 4);
    assert_memory_equal(head, "$0\r\n", 4);
    assert_int_equal(resp_head(':', UINT64_MAX, head), 23);
    assert_memory_equal(head, ":18446744073709551615\r\n", 23);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_array),   cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_need),    cmocka_unit_test(test_inline),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_request_limit),
        cmocka_unit_test(test_number),  cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
