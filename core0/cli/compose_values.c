/*
 * compose_values.c - durations, sizes, cores, command lines and env files of the Compose Specification.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/compose.h"

#define VALUE_MAX ((uint64_t)1 << 53)

/* Digits with an optional fraction, times `scale`; *at moves behind them. */
static int decimal(const char **at, uint64_t scale, uint64_t *ret_value)
{
    const char *p = *at;
    uint64_t whole = 0, part = 0, divisor = 1;

    if (!isdigit((unsigned char)*p)) {
        return -EINVAL;
    }
    for (; isdigit((unsigned char)*p); p++) {
        whole = whole * 10 + (uint64_t)(*p - '0');
        if (whole > VALUE_MAX / scale) {
            return -EINVAL;
        }
    }
    if (*p == '.') {
        for (p++; isdigit((unsigned char)*p); p++) {
            if (divisor < 1000000) {
                part = part * 10 + (uint64_t)(*p - '0');
                divisor *= 10;
            }
        }
    }
    /* part < 10^6 and scale <= 2^42 (a tebibyte): the product stays below 2^62. */
    uint64_t value = whole * scale + part * scale / divisor;
    if (value > VALUE_MAX) {
        return -EINVAL;
    }
    *ret_value = value;
    *at = p;
    return 0;
}

struct unit {
    const char *name;
    uint64_t scale;
};

static const struct unit *find_unit(const struct unit *units, size_t count, const char *text,
                                    size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(units[i].name) == len && strncasecmp(units[i].name, text, len) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

int compose_duration(const char *text, uint64_t *ret_ms)
{
    static const struct unit units[] = {
        {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000},
    };
    uint64_t total = 0;

    if (*text == '\0') {
        return -EINVAL;
    }
    while (*text != '\0') {
        const char *digits = text;
        uint64_t value;
        if (decimal(&text, 1, &value) < 0) {
            return -EINVAL;
        }
        size_t len = strspn(text, "hmsu");
        const struct unit *unit = find_unit(units, sizeof(units) / sizeof(units[0]), text, len);
        if (unit == NULL || decimal(&digits, unit->scale, &value) < 0) {
            return -EINVAL;
        }
        total += value;
        text += len;
    }
    *ret_ms = (total + 999) / 1000;
    return 0;
}

int compose_size(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"b", 1},
        {"k", 1 << 10},
        {"kb", 1 << 10},
        {"kib", 1 << 10},
        {"m", 1 << 20},
        {"mb", 1 << 20},
        {"mib", 1 << 20},
        {"g", 1 << 30},
        {"gb", 1 << 30},
        {"gib", 1 << 30},
        {"t", (uint64_t)1 << 40},
        {"tb", (uint64_t)1 << 40},
        {"tib", (uint64_t)1 << 40},
    };
    const char *digits = text;
    uint64_t value;

    if (decimal(&text, 1, &value) < 0) {
        return -EINVAL;
    }
    const struct unit *unit =
        find_unit(units, sizeof(units) / sizeof(units[0]), text, strlen(text));
    if (unit == NULL || decimal(&digits, unit->scale, &value) < 0 || value == 0) {
        return -EINVAL;
    }
    *ret_bytes = value;
    return 0;
}

int compose_cores(const char *text, uint64_t *ret_milli)
{
    uint64_t value;
    if (decimal(&text, 1000, &value) < 0 || *text != '\0' || value == 0 || value > 4096000) {
        return -EINVAL;
    }
    *ret_milli = value;
    return 0;
}

/* One word of a command line; quotes as in POSIX shell 2.2, nothing is expanded. */
static int word(const char **at, struct buffer *out)
{
    const char *p = *at;
    int ret = 0;

    while (*p != '\0' && !isspace((unsigned char)*p) && ret == 0) {
        if (*p == '\'') {
            size_t len = strcspn(++p, "'");
            if (p[len] == '\0') {
                return -EINVAL; /* before p is moved: nothing is behind the end */
            }
            ret = buffer_append(out, p, len);
            p += len + 1;
        } else if (*p == '"') {
            for (p++; *p != '"' && ret == 0; p++) {
                if (*p == '\\' && p[1] != '\0' && strchr("\"\\$`", p[1]) != NULL) {
                    p++;
                }
                ret = *p == '\0' ? -EINVAL : buffer_append(out, p, 1);
                if (ret < 0) {
                    return ret;
                }
            }
            p++;
        } else {
            if (*p == '\\' && p[1] != '\0') {
                p++;
            }
            ret = buffer_append(out, p++, 1);
        }
    }
    *at = p;
    return ret;
}

int compose_words(const char *text, yyjson_mut_doc *doc, yyjson_mut_val *list)
{
    for (;;) {
        struct buffer out;
        while (isspace((unsigned char)*text)) {
            text++;
        }
        if (*text == '\0') {
            return 0;
        }
        buffer_init(&out, 0);
        int ret = word(&text, &out);
        if (ret == 0 &&
            !yyjson_mut_arr_add_strncpy(
                doc, list, (const char *)(out.data != NULL ? out.data : (const uint8_t *)""),
                out.len)) {
            ret = -ENOMEM;
        }
        buffer_done(&out);
        if (ret < 0) {
            return ret;
        }
    }
}

/* ---- env files ---- */

static int env_line(const char *line, size_t len, yyjson_mut_doc *doc, yyjson_mut_val *object)
{
    size_t name_end = 0, start;

    while (len > 0 && isspace((unsigned char)line[len - 1])) {
        len--;
    }
    while (len > 0 && isspace((unsigned char)*line)) {
        line++;
        len--;
    }
    if (len == 0 || *line == '#') {
        return 0;
    }
    if (len > 7 && strncmp(line, "export ", 7) == 0) {
        line += 7;
        len -= 7;
    }
    while (name_end < len && (isalnum((unsigned char)line[name_end]) || line[name_end] == '_')) {
        name_end++;
    }
    if (name_end == 0 || name_end == len || line[name_end] != '=') {
        return -EINVAL;
    }
    start = name_end + 1;
    char quote = '\0';
    if (start < len) {
        quote = line[start];
    }
    if ((quote == '"' || quote == '\'') && len - start >= 2 && line[len - 1] == quote) {
        start++;
        len--;
    }
    yyjson_mut_val *key = yyjson_mut_strncpy(doc, line, name_end);
    yyjson_mut_val *value = yyjson_mut_strncpy(doc, line + start, len - start);
    yyjson_mut_obj_remove_strn(object, line, name_end);
    return yyjson_mut_obj_add(object, key, value) ? 0 : -ENOMEM;
}

int compose_env_file(const char *text, size_t len, yyjson_mut_doc *doc, yyjson_mut_val *object)
{
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t line_len = newline != NULL ? (size_t)(newline - (text + at)) : len - at;
        int ret = env_line(text + at, line_len, doc, object);
        if (ret < 0) {
            return ret;
        }
        at += line_len + 1;
    }
    return 0;
}
