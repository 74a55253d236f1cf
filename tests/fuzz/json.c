// JSON from outside: parsed, read by a table, written canonically; what is canonical parses to itself.
// packages: yyjson
#include <stdint.h>
#include <stdlib.h>

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record record = {0};
    struct error err = {0};
    struct buffer out;
    yyjson_doc *doc = json_parse((const char *)data, size, 1 << 20, "t.json", &err);

    if (doc == NULL)
        return 0;
    json_read(yyjson_doc_get_root(doc), fields, 5, JSON_IGNORE_UNKNOWN, &record, "t.json", &err);
    buffer_init(&out, 0);
    if (json_canonical(yyjson_doc_get_root(doc), &out) == 0 &&
        json_is_canonical((const char *)out.data, out.len) != 0)
        abort();
    buffer_done(&out);
    yyjson_doc_free(doc);
    return 0;
}
