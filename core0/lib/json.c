/*
 * json.c - see json.h.
 */
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH_MAX 32
#define JSON_INT_MAX ((uint64_t)9007199254740991) /* 2^53 - 1: what every JSON reader keeps exact */
#define JSON_STRING_MAX 4096u
#define JSON_ARRAY_MAX 1024u

static const char *const json_type_names[] = {
    [JSON_STRING] = "a string",
    [JSON_INT] = "an integer",
    [JSON_UINT] = "an integer not below 0",
    [JSON_BOOL] = "true or false",
    [JSON_OBJECT] = "an object",
    [JSON_ARRAY] = "an array",
    [JSON_ANY] = "a value",
};

/* ---- reading by a table ---- */

static int json_bad_type(const struct json_field *field, const char *code, struct error *err)
{
    return error_set(err, EINVAL, code, NULL, "\"%s\" must be %s", field->name,
                     json_type_names[field->type]);
}

static int json_read_string(yyjson_val *value, const struct json_field *field, void *dest,
                            const char *code, struct error *err)
{
    size_t max = field->max != 0 ? (size_t)field->max : JSON_STRING_MAX;
    const char *str = yyjson_get_str(value);
    size_t len = yyjson_get_len(value);

    if (str == NULL)
        return json_bad_type(field, code, err);
    if (memchr(str, '\0', len) != NULL)
        return error_set(err, EINVAL, code, NULL, "\"%s\" holds a NUL byte", field->name);
    if (len > max)
        return error_set(err, EINVAL, code, NULL, "\"%s\" is longer than %zu bytes", field->name,
                         max);
    if (field->min > 0 && len < (size_t)field->min)
        return error_set(err, EINVAL, code, NULL, "\"%s\" is shorter than %zu bytes", field->name,
                         (size_t)field->min);
    memcpy(dest, &str, sizeof(str));
    return 0;
}

static int json_read_int(yyjson_val *value, const struct json_field *field, void *dest,
                         const char *code, struct error *err)
{
    bool unlimited = field->min == 0 && field->max == 0;
    int64_t min = unlimited ? -(int64_t)JSON_INT_MAX : field->min;
    int64_t max = unlimited ? (int64_t)JSON_INT_MAX : (int64_t)field->max;
    int64_t number;

    if (yyjson_is_uint(value)) {
        if (yyjson_get_uint(value) > INT64_MAX)
            return error_set(err, ERANGE, code, NULL, "\"%s\" is too large", field->name);
        number = (int64_t)yyjson_get_uint(value);
    } else if (yyjson_is_sint(value)) {
        number = yyjson_get_sint(value);
    } else {
        return json_bad_type(field, code, err);
    }
    if (number < min || number > max)
        return error_set(err, ERANGE, code, NULL, "\"%s\" is %lld, allowed are %lld to %lld",
                         field->name, (long long)number, (long long)min, (long long)max);
    memcpy(dest, &number, sizeof(number));
    return 0;
}

static int json_read_uint(yyjson_val *value, const struct json_field *field, void *dest,
                          const char *code, struct error *err)
{
    uint64_t min = field->min > 0 ? (uint64_t)field->min : 0;
    uint64_t max = field->max != 0 ? field->max : JSON_INT_MAX;
    uint64_t number;

    if (!yyjson_is_uint(value))
        return json_bad_type(field, code, err);
    number = yyjson_get_uint(value);
    if (number < min || number > max)
        return error_set(err, ERANGE, code, NULL, "\"%s\" is %llu, allowed are %llu to %llu",
                         field->name, (unsigned long long)number, (unsigned long long)min,
                         (unsigned long long)max);
    memcpy(dest, &number, sizeof(number));
    return 0;
}

static int json_read_value(yyjson_val *value, const struct json_field *field, void *dest,
                           const char *code, struct error *err)
{
    size_t max = field->max != 0 ? (size_t)field->max : JSON_ARRAY_MAX;
    bool flag;

    switch (field->type) {
    case JSON_STRING:
        return json_read_string(value, field, dest, code, err);
    case JSON_INT:
        return json_read_int(value, field, dest, code, err);
    case JSON_UINT:
        return json_read_uint(value, field, dest, code, err);
    case JSON_BOOL:
        if (!yyjson_is_bool(value))
            return json_bad_type(field, code, err);
        flag = yyjson_get_bool(value);
        memcpy(dest, &flag, sizeof(flag));
        return 0;
    case JSON_OBJECT:
        if (!yyjson_is_obj(value))
            return json_bad_type(field, code, err);
        break;
    case JSON_ARRAY:
        if (!yyjson_is_arr(value))
            return json_bad_type(field, code, err);
        if (yyjson_arr_size(value) > max)
            return error_set(err, EINVAL, code, NULL, "\"%s\" has more than %zu elements",
                             field->name, max);
        break;
    case JSON_ANY:
        break;
    }
    memcpy(dest, &value, sizeof(void *));
    return 0;
}

static const struct json_field *json_find_field(const struct json_field *fields, size_t count,
                                                const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(fields[i].name) == len && memcmp(fields[i].name, name, len) == 0)
            return &fields[i];
    }
    return NULL;
}

/* A name that stands twice means different things to different readers. */
static bool json_is_repeated(yyjson_val *object, yyjson_val *until, const char *name, size_t len)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter)) != NULL && key != until) {
        if (yyjson_get_len(key) == len && memcmp(yyjson_get_str(key), name, len) == 0)
            return true;
    }
    return false;
}

int json_read(yyjson_val *object, const struct json_field *fields, size_t count, unsigned flags,
              void *dest, const char *code, struct error *err)
{
    yyjson_obj_iter iter;
    yyjson_val *key;

    if (!yyjson_is_obj(object))
        return error_set(err, EINVAL, code, NULL, "an object is expected");

    iter = yyjson_obj_iter_with(object);
    while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
        const char *name = yyjson_get_str(key);
        size_t len = yyjson_get_len(key);
        const struct json_field *field = json_find_field(fields, count, name, len);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        int ret;

        if (field == NULL) {
            if ((flags & JSON_IGNORE_UNKNOWN) != 0)
                continue;
            return error_set(err, EINVAL, code, NULL, "\"%.64s\" is not known here", name);
        }
        if (json_is_repeated(object, key, name, len))
            return error_set(err, EINVAL, code, NULL, "\"%s\" stands twice", field->name);
        /* varlink: a null is the same as a member that is absent */
        if (yyjson_is_null(value) && !field->required && field->type != JSON_ANY)
            continue;
        ret = json_read_value(value, field, (char *)dest + field->offset, code, err);
        if (ret < 0)
            return ret;
    }

    for (size_t i = 0; i < count; i++) {
        if (fields[i].required && yyjson_obj_get(object, fields[i].name) == NULL)
            return error_set(err, EINVAL, code, NULL, "\"%s\" is missing", fields[i].name);
    }
    return 0;
}

/* ---- parsing with limits ---- */

/* The parser has no limit of depth of its own, and what walks its result recurses: count brackets first. */
static bool json_is_too_deep(const char *text, size_t len)
{
    size_t depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char byte = text[i];

        if (in_string) {
            if (byte == '\\')
                i++;
            else if (byte == '"')
                in_string = false;
        } else if (byte == '"') {
            in_string = true;
        } else if (byte == '{' || byte == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return true;
        } else if ((byte == '}' || byte == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

yyjson_doc *json_parse(const char *text, size_t len, size_t max_len, const char *code,
                       struct error *err)
{
    /* Without YYJSON_READ_INSITU the text is only read. */
    const union {
        const char *given;
        char *taken;
    } input = {.given = text};
    yyjson_read_err reason = {0};
    yyjson_doc *doc;

    if (len > max_len) {
        error_set(err, EFBIG, code, NULL, "JSON text of %zu bytes is longer than %zu", len,
                  max_len);
        return NULL;
    }
    if (json_is_too_deep(text, len)) {
        error_set(err, EINVAL, code, NULL, "JSON text is nested deeper than %d", JSON_DEPTH_MAX);
        return NULL;
    }
    doc = yyjson_read_opts(input.taken, len, YYJSON_READ_NOFLAG, NULL, &reason);
    if (doc == NULL)
        error_set(err, EINVAL, code, NULL, "not JSON: %s at byte %zu",
                  reason.msg != NULL ? reason.msg : "empty", reason.pos);
    return doc;
}

/* ---- RFC 8785 ---- */

static size_t json_utf8_next(const uint8_t *bytes, size_t len, uint32_t *ret_point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t point;
    size_t want;

    if (bytes[0] < 0x80) {
        *ret_point = bytes[0];
        return 1;
    }
    if (bytes[0] >= 0xf0 && bytes[0] < 0xf8) {
        want = 4;
        point = bytes[0] & 0x07u;
    } else if (bytes[0] >= 0xe0 && bytes[0] < 0xf0) {
        want = 3;
        point = bytes[0] & 0x0fu;
    } else if (bytes[0] >= 0xc0 && bytes[0] < 0xe0) {
        want = 2;
        point = bytes[0] & 0x1fu;
    } else {
        return 0;
    }
    if (len < want)
        return 0;
    for (size_t i = 1; i < want; i++) {
        if ((bytes[i] & 0xc0u) != 0x80u)
            return 0;
        point = point << 6 | (bytes[i] & 0x3fu);
    }
    if (point < least[want] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    *ret_point = point;
    return want;
}

/* RFC 8785 3.2.2.2: the two-character escapes where they exist, \u00xx for other control characters. */
static int json_canonical_string(const char *str, size_t len, struct buffer *out)
{
    const uint8_t *bytes = (const uint8_t *)str;
    int ret = buffer_append(out, "\"", 1);

    for (size_t i = 0; i < len && ret == 0;) {
        static const char escapes[] = "\b\f\n\r\t\"\\";
        static const char letters[] = "bfnrt\"\\";
        uint32_t point = 0;
        size_t width = json_utf8_next(bytes + i, len - i, &point);
        const char *found;

        if (width == 0)
            return -EINVAL;
        found = point != 0 && point < 0x80 ? strchr(escapes, (int)point) : NULL;
        if (found != NULL)
            ret = buffer_printf(out, "\\%c", letters[found - escapes]);
        else if (point < 0x20)
            ret = buffer_printf(out, "\\u%04x", (unsigned)point);
        else
            ret = buffer_append(out, bytes + i, width);
        i += width;
    }
    return ret < 0 ? ret : buffer_append(out, "\"", 1);
}

/*
 * RFC 8785 3.2.3 sorts by UTF-16 code units. That differs from the order of UTF-8 bytes only where a
 * character beyond U+FFFF (a surrogate, D800-DFFF) meets one of U+E000-U+FFFF.
 */
static uint32_t json_utf16_rank(uint32_t point)
{
    if (point >= 0x10000)
        return 0xd800 + ((point - 0x10000) >> 10);
    return point;
}

static int json_compare_keys(const void *a, const void *b)
{
    yyjson_val *const *key_a = a;
    yyjson_val *const *key_b = b;
    const uint8_t *bytes_a = (const uint8_t *)yyjson_get_str(*key_a);
    const uint8_t *bytes_b = (const uint8_t *)yyjson_get_str(*key_b);
    size_t left_a = yyjson_get_len(*key_a);
    size_t left_b = yyjson_get_len(*key_b);

    while (left_a > 0 && left_b > 0) {
        uint32_t point_a = 0;
        uint32_t point_b = 0;
        size_t width_a = json_utf8_next(bytes_a, left_a, &point_a);
        size_t width_b = json_utf8_next(bytes_b, left_b, &point_b);

        if (width_a == 0 || width_b == 0)
            return 0; /* refused when it is written */
        if (point_a != point_b) {
            uint32_t rank_a = json_utf16_rank(point_a);
            uint32_t rank_b = json_utf16_rank(point_b);

            if (rank_a != rank_b)
                return rank_a < rank_b ? -1 : 1;
            return point_a < point_b ? -1 : 1;
        }
        bytes_a += width_a;
        bytes_b += width_b;
        left_a -= width_a;
        left_b -= width_b;
    }
    return left_a == left_b ? 0 : left_a < left_b ? -1 : 1;
}

static int json_canonical_value(yyjson_val *value, struct buffer *out, int depth);

static int json_canonical_object(yyjson_val *object, struct buffer *out, int depth)
{
    size_t count = yyjson_obj_size(object);
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val **keys = calloc(count + 1, sizeof(void *));
    int ret;

    if (keys == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        keys[i] = yyjson_obj_iter_next(&iter);
    qsort(keys, count, sizeof(void *), json_compare_keys);

    ret = buffer_append(out, "{", 1);
    for (size_t i = 0; i < count && ret == 0; i++) {
        if (i > 0 && json_compare_keys(&keys[i - 1], &keys[i]) == 0)
            ret = -EINVAL; /* the same name twice */
        if (ret == 0 && i > 0)
            ret = buffer_append(out, ",", 1);
        if (ret == 0)
            ret = json_canonical_string(yyjson_get_str(keys[i]), yyjson_get_len(keys[i]), out);
        if (ret == 0)
            ret = buffer_append(out, ":", 1);
        if (ret == 0)
            ret = json_canonical_value(yyjson_obj_iter_get_val(keys[i]), out, depth + 1);
    }
    free(keys);
    return ret < 0 ? ret : buffer_append(out, "}", 1);
}

static int json_canonical_array(yyjson_val *array, struct buffer *out, int depth)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(array);
    int ret = buffer_append(out, "[", 1);
    bool first = true;
    yyjson_val *element;

    while (ret == 0 && (element = yyjson_arr_iter_next(&iter)) != NULL) {
        if (!first)
            ret = buffer_append(out, ",", 1);
        if (ret == 0)
            ret = json_canonical_value(element, out, depth + 1);
        first = false;
    }
    return ret < 0 ? ret : buffer_append(out, "]", 1);
}

static int json_canonical_value(yyjson_val *value, struct buffer *out, int depth)
{
    if (depth > JSON_DEPTH_MAX)
        return -EINVAL;
    if (yyjson_is_obj(value))
        return json_canonical_object(value, out, depth);
    if (yyjson_is_arr(value))
        return json_canonical_array(value, out, depth);
    if (yyjson_is_str(value))
        return json_canonical_string(yyjson_get_str(value), yyjson_get_len(value), out);
    if (yyjson_is_bool(value))
        return buffer_append_str(out, yyjson_get_bool(value) ? "true" : "false");
    if (yyjson_is_uint(value) && yyjson_get_uint(value) <= JSON_INT_MAX)
        return buffer_printf(out, "%llu", (unsigned long long)yyjson_get_uint(value));
    if (yyjson_is_sint(value) && yyjson_get_sint(value) >= -(int64_t)JSON_INT_MAX)
        return buffer_printf(out, "%lld", (long long)yyjson_get_sint(value));
    return -EINVAL;
}

int json_canonical(yyjson_val *value, struct buffer *out)
{
    if (value == NULL)
        return -EINVAL;
    return json_canonical_value(value, out, 0);
}

int json_is_canonical(const char *text, size_t len)
{
    struct buffer out;
    yyjson_doc *doc;
    int ret;

    doc = json_parse(text, len, BUFFER_MAX_DEFAULT, "json.syntax", NULL);
    if (doc == NULL)
        return -EINVAL;
    buffer_init(&out, 0);
    ret = json_canonical(yyjson_doc_get_root(doc), &out);
    if (ret == 0 && (out.len != len || memcmp(out.data, text, len) != 0))
        ret = -EINVAL;
    buffer_done(&out);
    yyjson_doc_free(doc);
    return ret;
}
