// The library against the vectors of another implementation (tests/vectors/generate.py) that no other test reads.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/contlog.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/grid/resources.h"
#include "lib/json.h"

static yyjson_doc *vectors(const char *name)
{
    char path[128], *text;
    size_t len;
    snprintf(path, sizeof(path), "tests/vectors/%s.json", name);
    assert_int_equal(file_read(path, 1 << 20, &text, &len), 0);
    yyjson_doc *doc = yyjson_read(text, len, 0);
    free(text);
    assert_non_null(doc);
    return doc;
}

static uint64_t number(yyjson_val *item, const char *name)
{
    return yyjson_get_uint(yyjson_obj_get(item, name));
}

static void test_resources(void **state)
{
    yyjson_doc *doc = vectors("resources");
    size_t i, max;
    yyjson_val *item;

    (void)state;
    assert_true(yyjson_arr_size(yyjson_doc_get_root(doc)) > 3);
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, max, item)
    {
        const struct grid_resources in = {.milli_cores = number(item, "milliCores"),
                                          .memory = number(item, "memory"),
                                          .ssd = number(item, "ssd"),
                                          .hdd = number(item, "hdd"),
                                          .addresses = number(item, "addresses")};
        struct grid_resources out;
        uint8_t expected[32], packed[32];
        assert_int_equal(hex_decode(yyjson_get_str(yyjson_obj_get(item, "packed")), expected, 32),
                         0);
        grid_resources_pack(&in, packed);
        assert_memory_equal(packed, expected, 32);
        grid_resources_unpack(expected, &out);
        assert_memory_equal(&in, &out, sizeof(in));
    }
    yyjson_doc_free(doc);
}

static void test_canonical_json(void **state)
{
    yyjson_doc *doc = vectors("canonical-json");
    yyjson_val *accepted = yyjson_obj_get(yyjson_doc_get_root(doc), "accepted");
    yyjson_val *refused = yyjson_obj_get(yyjson_doc_get_root(doc), "refused");
    size_t i, max;
    yyjson_val *item;

    (void)state;
    assert_true(yyjson_arr_size(accepted) > 5 && yyjson_arr_size(refused) > 10);
    yyjson_arr_foreach(accepted, i, max, item)
    {
        const char *input = yyjson_get_str(yyjson_obj_get(item, "input"));
        yyjson_val *output = yyjson_obj_get(item, "output");
        yyjson_doc *read = json_parse(input, strlen(input), 65536, "test", NULL);
        struct buffer out;
        assert_non_null(read);
        buffer_init(&out, 0);
        assert_int_equal(json_canonical(yyjson_doc_get_root(read), &out), 0);
        assert_int_equal(out.len, yyjson_get_len(output));
        assert_memory_equal(out.data, yyjson_get_str(output), out.len);
        assert_int_equal(json_is_canonical((const char *)out.data, out.len), 0);
        buffer_done(&out);
        yyjson_doc_free(read);
    }
    yyjson_arr_foreach(refused, i, max, item)
    {
        const char *input =
            yyjson_get_str(yyjson_is_str(item) ? item : yyjson_obj_get(item, "input"));
        yyjson_doc *read = json_parse(input, strlen(input), 65536, "test", NULL);
        struct buffer out;
        buffer_init(&out, 0);
        if (read != NULL && json_canonical(yyjson_doc_get_root(read), &out) == 0)
            fail_msg("%s is taken", input);
        assert_int_not_equal(json_is_canonical(input, strlen(input)), 0);
        buffer_done(&out);
        yyjson_doc_free(read);
    }
    yyjson_doc_free(doc);
}

static size_t bytes(yyjson_val *hex, uint8_t *out)
{
    size_t len = (yyjson_get_len(hex) - 2) / 2;
    assert_int_equal(hex_decode(yyjson_get_str(hex), out, len), 0);
    return len;
}

static void test_container_log(void **state)
{
    static uint8_t expected[20000], text[20000];
    yyjson_doc *doc = vectors("container-log");
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    struct contlog_record record;
    size_t i, max, skip;

    (void)state;
    assert_true(yyjson_arr_size(yyjson_obj_get(root, "records")) > 3);
    yyjson_arr_foreach(yyjson_obj_get(root, "records"), i, max, item)
    {
        char head[CONTLOG_HEAD_MAX];
        size_t text_len = bytes(yyjson_obj_get(item, "text"), text);
        size_t len = bytes(yyjson_obj_get(item, "record"), expected);
        uint64_t time = strtoull(yyjson_get_str(yyjson_obj_get(item, "time")), NULL, 10);
        bool is_error = yyjson_equals_str(yyjson_obj_get(item, "stream"), "stderr");
        bool partial = yyjson_get_bool(yyjson_obj_get(item, "partial"));
        size_t head_len = contlog_head(head, time, is_error, partial);
        assert_int_equal(head_len + text_len + 1, len);
        assert_memory_equal(head, expected, head_len);
        assert_memory_equal(text, expected + head_len, text_len);
        assert_int_equal(contlog_parse((const char *)expected, len, &record, &skip), len);
        assert_int_equal(record.time, time);
        assert_int_equal(record.is_error, is_error);
        assert_int_equal(record.partial, partial);
        assert_int_equal(record.len, text_len);
        assert_memory_equal(record.text, text, text_len);
    }
    yyjson_arr_foreach(yyjson_obj_get(root, "refused"), i, max, item)
    {
        size_t len = bytes(item, expected);
        assert_int_equal(contlog_parse((const char *)expected, len, &record, &skip), -EBADMSG);
        assert_int_equal(skip, len);
    }
    yyjson_arr_foreach(yyjson_obj_get(root, "unfinished"), i, max, item) assert_int_equal(
        contlog_parse((const char *)expected, bytes(item, expected), &record, &skip), 0);
    yyjson_doc_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resources),
        cmocka_unit_test(test_canonical_json),
        cmocka_unit_test(test_container_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
