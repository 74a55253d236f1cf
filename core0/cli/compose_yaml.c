/*
 * compose_yaml.c - a YAML document as JSON: libyaml reads it, scalars are interpolated and typed here.
 *
 * Types follow YAML 1.2's core schema: quoted scalars are strings; plain ones may be null, bool or integer. A fraction stays a
 * string, as "0.5" of cpus is exact and a double is not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "cli/compose.h"

#define BAD "deploy.bad-compose"

const char *compose_variable(const struct compose_environment *environment, const char *name)
{
    const char *value =
        environment->get != NULL ? environment->get(name, environment->data) : getenv(name);
    if (value == NULL && environment->dotenv != NULL) {
        value = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(environment->dotenv), name));
    }
    return value;
}

/* ---- ${…} ---- */

static size_t name_length(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && text[0] >= '0' && text[0] <= '9' ? 0 : len;
}

static int missing(struct error *err, const char *name, const char *why)
{
    return error_set(err, EINVAL, "deploy.missing-variable", "set it in the environment or in .env",
                     "the compose file wants %s: %s", name, why);
}

/* ${NAME<op>word}; text is behind "${", *ret_used includes the closing brace. Nested braces belong to the word. */
static int braces(const char *text, const struct compose_environment *environment,
                  struct buffer *out, size_t *ret_used, int depth, struct error *err);

static int interpolate(const char *text, size_t len, const struct compose_environment *environment,
                       struct buffer *out, int depth, struct error *err)
{
    for (size_t i = 0; i < len;) {
        size_t used = 1;
        int ret;
        if (text[i] != '$') {
            ret = buffer_append(out, text + i, 1);
        } else if (i + 1 < len && text[i + 1] == '$') {
            used = 2;
            ret = buffer_append_str(out, "$");
        } else if (i + 1 < len && text[i + 1] == '{') {
            ret = braces(text + i + 2, environment, out, &used, depth, err);
            used += 2;
        } else {
            char name[128];
            size_t n = name_length(text + i + 1);
            if (n == 0 || n >= sizeof(name)) {
                return error_set(err, EINVAL, BAD, "write $$ for a dollar sign",
                                 "a lone $ in \"%.60s\"", text);
            }
            memcpy(name, text + i + 1, n);
            name[n] = '\0';
            const char *value = compose_variable(environment, name);
            if (value == NULL) {
                return missing(err, name, "it is not set");
            }
            ret = buffer_append_str(out, value);
            used = n + 1;
        }
        if (ret < 0) {
            return ret;
        }
        i += used;
    }
    return 0;
}

static int braces(const char *text, const struct compose_environment *environment,
                  struct buffer *out, size_t *ret_used, int depth, struct error *err)
{
    char name[128];
    size_t n = name_length(text), at = n;
    int level = 1;

    if (n == 0 || n >= sizeof(name) || depth > COMPOSE_DEPTH_MAX) {
        return error_set(err, EINVAL, BAD, "", "${ without a name in \"%.60s\"", text);
    }
    memcpy(name, text, n);
    name[n] = '\0';
    bool colon = text[at] == ':';
    at += colon;
    char op = text[at];
    if (op == '}' && !colon) {
        const char *value = compose_variable(environment, name);
        *ret_used = at + 1;
        return value != NULL ? buffer_append_str(out, value) : missing(err, name, "it is not set");
    }
    if (op == '\0' || strchr("-?+", op) == NULL) {
        return error_set(err, EINVAL, BAD, "", "${%s is not closed or uses an unknown form", name);
    }
    size_t word = ++at;
    for (; text[at] != '\0' && level > 0; at++) {
        level += text[at] == '{' ? 1 : text[at] == '}' ? -1 : 0;
    }
    if (level > 0) {
        return error_set(err, EINVAL, BAD, "", "${%s is not closed", name);
    }
    *ret_used = at;
    size_t word_len = at - 1 - word;
    const char *value = compose_variable(environment, name);
    bool set = value != NULL && (!colon || value[0] != '\0');
    if (op == '+') {
        return set ? interpolate(text + word, word_len, environment, out, depth + 1, err) : 0;
    }
    if (set) {
        return buffer_append_str(out, value);
    }
    if (op == '?') {
        char why[160];
        snprintf(why, sizeof(why), "%.*s", (int)(word_len < 150 ? word_len : 150), text + word);
        return missing(err, name, why[0] != '\0' ? why : "it is not set");
    }
    return interpolate(text + word, word_len, environment, out, depth + 1, err);
}

int compose_interpolate(const char *text, const struct compose_environment *environment,
                        struct buffer *out, struct error *err)
{
    return interpolate(text, strlen(text), environment, out, 0, err);
}

/* ---- YAML ---- */

struct reader {
    yaml_document_t *document;
    yyjson_mut_doc *doc;
    const struct compose_environment *environment;
    size_t nodes;
};

static bool any_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

static yyjson_mut_val *typed(yyjson_mut_doc *doc, const char *text, size_t len)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    char *end;

    if (any_of(text, nulls)) {
        return yyjson_mut_null(doc);
    }
    if (any_of(text, trues) || any_of(text, falses)) {
        return yyjson_mut_bool(doc, any_of(text, trues));
    }
    if (len < 18 && strspn(text + (text[0] == '-'), "0123456789") == len - (text[0] == '-') &&
        text[len - 1] != '-') {
        long long number = strtoll(text, &end, text[0] == '0' ? 8 : 10);
        return number >= 0 ? yyjson_mut_uint(doc, (uint64_t)number) : yyjson_mut_sint(doc, number);
    }
    return yyjson_mut_strncpy(doc, text, len);
}

static yyjson_mut_val *scalar(struct reader *reader, const yaml_node_t *node, struct error *err)
{
    const char *text = (const char *)node->data.scalar.value;
    struct buffer out;
    yyjson_mut_val *value = NULL;

    buffer_init(&out, COMPOSE_FILE_MAX);
    if (strlen(text) != node->data.scalar.length) {
        error_set(err, EINVAL, BAD, "", "a text holds a zero byte");
    } else if (compose_interpolate(text, reader->environment, &out, err) == 0) {
        const char *result = out.data != NULL ? (const char *)out.data : "";
        value = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE
                    ? typed(reader->doc, result, out.len)
                    : yyjson_mut_strncpy(reader->doc, result, out.len);
    }
    buffer_done(&out);
    return value;
}

static yyjson_mut_val *convert(struct reader *reader, int index, int depth, struct error *err);

/* Members of `from` that `into` does not have yet. */
static void merge(yyjson_mut_doc *doc, yyjson_mut_val *into, yyjson_mut_val *from)
{
    size_t i, max;
    yyjson_mut_val *key, *value;
    yyjson_mut_obj_foreach(from, i, max, key, value)
    {
        if (yyjson_mut_obj_get(into, yyjson_mut_get_str(key)) == NULL) {
            yyjson_mut_obj_add(into, yyjson_mut_val_mut_copy(doc, key),
                               yyjson_mut_val_mut_copy(doc, value));
        }
    }
}

static int merge_all(struct reader *reader, yyjson_mut_val *into, yyjson_mut_val *from,
                     struct error *err)
{
    size_t i, max;
    yyjson_mut_val *item;

    if (yyjson_mut_is_obj(from)) {
        merge(reader->doc, into, from);
        return 0;
    }
    if (!yyjson_mut_is_arr(from)) {
        return error_set(err, EINVAL, BAD, "", "<< wants a mapping, or a list of them");
    }
    yyjson_mut_arr_foreach(from, i, max, item)
    {
        if (!yyjson_mut_is_obj(item)) {
            return error_set(err, EINVAL, BAD, "", "<< wants a mapping, or a list of them");
        }
        merge(reader->doc, into, item);
    }
    return 0;
}

static yyjson_mut_val *mapping(struct reader *reader, const yaml_node_t *node, int depth,
                               struct error *err)
{
    yyjson_mut_val *object = yyjson_mut_obj(reader->doc), *merged = NULL;

    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(reader->document, pair->key);
        if (key == NULL || key->type != YAML_SCALAR_NODE) {
            error_set(err, EINVAL, BAD, "", "a key is not a text");
            return NULL;
        }
        const char *name = (const char *)key->data.scalar.value;
        yyjson_mut_val *value = convert(reader, pair->value, depth + 1, err);
        if (value == NULL) {
            return NULL;
        }
        if (strcmp(name, "<<") == 0) {
            merged = value;
        } else if (yyjson_mut_obj_get(object, name) != NULL) {
            error_set(err, EINVAL, BAD, "", "the key %s stands twice", name);
            return NULL;
        } else {
            yyjson_mut_obj_add(object, yyjson_mut_strcpy(reader->doc, name), value);
        }
    }
    return merged != NULL && merge_all(reader, object, merged, err) < 0 ? NULL : object;
}

static yyjson_mut_val *convert(struct reader *reader, int index, int depth, struct error *err)
{
    const yaml_node_t *node = yaml_document_get_node(reader->document, index);

    if (node == NULL || ++reader->nodes > COMPOSE_NODES_MAX || depth > COMPOSE_DEPTH_MAX) {
        error_set(err, EINVAL, BAD, "", "the compose file is too large or too deep");
        return NULL;
    }
    if (node->type == YAML_SCALAR_NODE) {
        return scalar(reader, node, err);
    }
    if (node->type == YAML_MAPPING_NODE) {
        return mapping(reader, node, depth, err);
    }
    yyjson_mut_val *list = yyjson_mut_arr(reader->doc);
    for (const yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        yyjson_mut_val *value = convert(reader, *item, depth + 1, err);
        if (value == NULL) {
            return NULL;
        }
        yyjson_mut_arr_append(list, value);
    }
    return list;
}

int compose_load(const char *text, size_t len, const struct compose_environment *environment,
                 yyjson_mut_doc **ret_doc, struct error *err)
{
    yaml_parser_t parser;
    yaml_document_t document;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = NULL;

    if (doc == NULL || yaml_parser_initialize(&parser) == 0) {
        yyjson_mut_doc_free(doc);
        return error_set(err, ENOMEM, "cli.failed", "", "out of memory");
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    if (yaml_parser_load(&parser, &document) == 0) {
        error_set(err, EINVAL, BAD, "", "line %zu: %s", parser.problem_mark.line + 1,
                  parser.problem != NULL ? parser.problem : "no YAML");
    } else {
        struct reader reader = {&document, doc, environment, 0};
        if (yaml_document_get_root_node(&document) == NULL) {
            error_set(err, EINVAL, BAD, "", "the compose file is empty");
        } else {
            root = convert(&reader, 1, 0, err);
        }
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    if (root == NULL || !yyjson_mut_is_obj(root)) {
        yyjson_mut_doc_free(doc);
        return error_set(err, EINVAL, BAD, "", "the compose file is no mapping");
    }
    yyjson_mut_doc_set_root(doc, root);
    *ret_doc = doc;
    return 0;
}
