// Reading by a table with its refusals, and RFC 8785 with the vectors of its appendix that have no fractions.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/json.h"

struct record {
    const char *name;
    int64_t low;
    uint64_t size;
    bool flag;
    yyjson_val *list;
};

static const struct json_field fields[] = {
    {"name", JSON_STRING, offsetof(struct record, name), true, 1, 8},
    {"low", JSON_INT, offsetof(struct record, low), false, -5, 5},
    {"size", JSON_UINT, offsetof(struct record, size), false, 0, 0},
    {"flag", JSON_BOOL, offsetof(struct record, flag), false, 0, 0},
    {"list", JSON_ARRAY, offsetof(struct record, list), false, 0, 2},
};

static int read_record(const char *text, unsigned flags, struct record *record, struct error *err)
{
    static yyjson_doc *doc;

    yyjson_doc_free(doc);
    doc = json_parse(text, strlen(text), 1000, "t.json", err);
    if (doc == NULL)
        return -EINVAL;
    *record = (struct record){.size = 9};
    return json_read(yyjson_doc_get_root(doc), fields, 5, flags, record, "t.json", err);
}

static void test_read(void **state)
{
    struct record record;
    struct error err = {0};

    (void)state;
    assert_int_equal(
        read_record("{\"name\":\"ab\",\"low\":-5,\"flag\":true,\"list\":[1,2]}", 0, &record, &err),
        0);
    assert_string_equal(record.name, "ab");
    assert_int_equal(record.low, -5);
    assert_int_equal(record.size, 9); /* the default stays */
    assert_true(record.flag);
    assert_int_equal(yyjson_arr_size(record.list), 2);
    assert_int_equal(read_record("{\"name\":\"ab\",\"size\":null}", 0, &record, &err), 0);
    assert_int_equal(
        read_record("{\"name\":\"ab\",\"more\":1}", JSON_IGNORE_UNKNOWN, &record, &err), 0);
    assert_int_equal(read_record("{\"name\":\"ab\",\"size\":9007199254740991}", 0, &record, &err),
                     0);
    assert_int_equal(record.size, 9007199254740991);
}

static void test_read_refuses(void **state)
{
    static const char *const bad[][2] = {
        {"{}", "\"name\" is missing"},
        {"[]", "an object is expected"},
        {"{\"name\":1}", "\"name\" must be a string"},
        {"{\"name\":\"\"}", "\"name\" is shorter than 1 bytes"},
        {"{\"name\":\"123456789\"}", "\"name\" is longer than 8 bytes"},
        {"{\"name\":\"a\\u0000b\"}", "\"name\" holds a NUL byte"},
        {"{\"name\":\"a\",\"low\":6}", "\"low\" is 6, allowed are -5 to 5"},
        {"{\"name\":\"a\",\"low\":1.5}", "\"low\" must be an integer"},
        {"{\"name\":\"a\",\"low\":18446744073709551615}", "\"low\" is too large"},
        {"{\"name\":\"a\",\"size\":-1}", "\"size\" must be an integer not below 0"},
        {"{\"name\":\"a\",\"size\":9007199254740992}",
         "\"size\" is 9007199254740992, allowed are 0 to 9007199254740991"},
        {"{\"name\":\"a\",\"flag\":1}", "\"flag\" must be true or false"},
        {"{\"name\":\"a\",\"list\":[1,2,3]}", "\"list\" has more than 2 elements"},
        {"{\"name\":\"a\",\"what\":1}", "\"what\" is not known here"},
        {"{\"name\":\"a\",\"name\":\"b\"}", "\"name\" stands twice"},
    };
    struct record record;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};

        assert_true(read_record(bad[i][0], 0, &record, &err) < 0);
        assert_string_equal(err.message, bad[i][1]);
        assert_string_equal(err.code, "t.json");
    }
}

static void test_parse_limits(void **state)
{
    char deep[200];
    struct error err = {0};
    yyjson_doc *doc;

    (void)state;
    assert_null(json_parse("{}", 2, 1, "t.json", &err));
    memset(deep, '[', 33);
    memset(deep + 33, ']', 33);
    assert_null(json_parse(deep, 66, 1000, "t.json", NULL));
    doc = json_parse(deep + 1, 64, 1000, "t.json", NULL);
    assert_non_null(doc);
    yyjson_doc_free(doc);
    /* Brackets in strings are no depth, behind an escaped quote neither. */
    memset(deep, '[', 100);
    memcpy(deep, "\"\\\"", 3);
    deep[100] = '"';
    doc = json_parse(deep, 101, 1000, "t.json", NULL);
    assert_non_null(doc);
    yyjson_doc_free(doc);
    assert_null(json_parse("{\"a\":}", 6, 1000, "t.json", NULL));
    assert_null(json_parse("", 0, 1000, "t.json", NULL));
}

static void assert_canonical(const char *text, const char *expected)
{
    yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
    struct buffer out;

    assert_non_null(doc);
    buffer_init(&out, 0);
    if (expected == NULL) {
        assert_true(json_canonical(yyjson_doc_get_root(doc), &out) < 0);
    } else {
        assert_int_equal(json_canonical(yyjson_doc_get_root(doc), &out), 0);
        assert_string_equal((char *)out.data, expected);
        assert_int_equal(json_is_canonical(expected, strlen(expected)), 0);
    }
    buffer_done(&out);
    yyjson_doc_free(doc);
}

static void test_canonical(void **state)
{
    (void)state;
    assert_canonical(" { \"b\" : [ 1 , true , false ] , \"a\" : -7 } ",
                     "{\"a\":-7,\"b\":[1,true,false]}");
    assert_canonical("[null]", NULL);
    assert_canonical("\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\"",
                     "\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
    assert_canonical("\"\\b\\f\\t\\r\\u007f\\u0000\"", "\"\\b\\f\\t\\r\x7f\\u0000\"");
    /* RFC 8785 3.2.3: sorting by UTF-16 code units; the emoji (a surrogate pair) goes before U+FB33. */
    assert_canonical(
        "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet "
        "With Dagesh\","
        "\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\","
        "\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
        "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\","
        "\"\xc3\xb6\":\"Latin Small Letter O With Diaeresis\",\"\xe2\x82\xac\":\"Euro Sign\","
        "\"\xf0\x9f\x98\x80\":\"Emoji: Grinning Face\",\"\xef\xac\xb3\":\"Hebrew Letter Dalet With "
        "Dagesh\"}");
    assert_canonical("{\"ab\":1,\"a\":2,\"\":3}", "{\"\":3,\"a\":2,\"ab\":1}");
    assert_canonical("9007199254740991", "9007199254740991");
    assert_canonical("9007199254740992", NULL);
    assert_canonical("-9007199254740992", NULL);
    assert_canonical("1.0", NULL);
    assert_canonical("{\"a\":1,\"a\":2}", NULL);
    assert_int_equal(json_is_canonical("{\"b\":1,\"a\":2}", 13), -EINVAL);
    assert_int_equal(json_is_canonical("{\"a\":1 }", 8), -EINVAL);
    assert_int_equal(json_is_canonical("-0", 2), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_refuses),
        cmocka_unit_test(test_parse_limits),
        cmocka_unit_test(test_canonical),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
