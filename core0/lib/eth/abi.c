/*
 * abi.c - contract ABI: encoding and strict decoding by type strings.
 *
 * A type is walked as text. `dynamic` types (bytes, string, T[], and what contains them) stand behind an offset in the
 * head of their tuple; everything else stands in the head itself (Solidity documentation, "Formal Specification of the Encoding").
 */
#include "lib/eth/abi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/keccak.h"
#include "lib/eth/address.h"

#define DEPTH_MAX 8 /* tuples and arrays inside one another */

struct type {
    const char *text; /* begins here */
    size_t len;       /* including array suffixes */
};

/* ---- type strings ---- */

/* Length of the type at text, which ends at ',' or ')' of the level around it. 0: none. */
static size_t type_length(const char *text)
{
    int depth = 0;
    size_t len = 0;
    for (; text[len] != '\0'; len++) {
        if (text[len] == '(')
            depth++;
        else if ((text[len] == ')' && depth-- == 0) || (text[len] == ',' && depth == 0))
            break;
    }
    return depth <= 0 ? len : 0;
}

/* Splits T[] or T[n] into T and n. 1: array without length, 2: with; 0: no array; -EINVAL. */
static int type_array(struct type type, struct type *ret_element, size_t *ret_count)
{
    if (type.len < 3 || type.text[type.len - 1] != ']')
        return 0;
    size_t open = type.len - 2;
    while (open > 0 && type.text[open] != '[')
        open--;
    if (open == 0)
        return -EINVAL;
    ret_element->text = type.text;
    ret_element->len = open;
    size_t count = 0;
    for (size_t i = open + 1; i + 1 < type.len; i++) {
        if (type.text[i] < '0' || type.text[i] > '9' || count > 1024)
            return -EINVAL;
        count = count * 10 + (size_t)(type.text[i] - '0');
    }
    *ret_count = count;
    return open + 2 == type.len ? 1 : 2;
}

static bool type_is(struct type type, const char *name)
{
    return strlen(name) == type.len && memcmp(type.text, name, type.len) == 0;
}

enum kind { KIND_UINT, KIND_INT, KIND_LEFT, KIND_BYTES, KIND_STRING, KIND_TUPLE, KIND_ARRAY };

struct shape {
    enum kind kind;
    unsigned bytes; /* used bytes of an atomic word */
    bool boolean;
    struct type element; /* of an array; of a tuple: the text of its members */
    size_t count;        /* of a fixed array; SIZE_MAX: dynamic */
};

static unsigned number_after(struct type type, const char *prefix)
{
    size_t skip = strlen(prefix);
    unsigned number = 0;
    if (type.len <= skip || memcmp(type.text, prefix, skip) != 0)
        return 0;
    for (size_t i = skip; i < type.len; i++) {
        if (type.text[i] < '0' || type.text[i] > '9' || number > 256)
            return 0;
        number = number * 10 + (unsigned)(type.text[i] - '0');
    }
    return number;
}

static int shape_of(struct type type, struct shape *ret_shape)
{
    struct shape shape = {.count = SIZE_MAX};
    unsigned number;
    int r = type_array(type, &shape.element, &shape.count);
    if (r < 0)
        return r;
    if (r > 0) {
        shape.kind = KIND_ARRAY;
        if (r == 1)
            shape.count = SIZE_MAX;
    } else if (type.len >= 2 && type.text[0] == '(' && type.text[type.len - 1] == ')') {
        shape.kind = KIND_TUPLE;
        shape.element = (struct type){type.text + 1, type.len - 2};
    } else if (type_is(type, "bytes")) {
        shape.kind = KIND_BYTES;
    } else if (type_is(type, "string")) {
        shape.kind = KIND_STRING;
    } else if (type_is(type, "address")) {
        shape.kind = KIND_UINT;
        shape.bytes = 20;
    } else if (type_is(type, "bool")) {
        shape.kind = KIND_UINT;
        shape.bytes = 1;
        shape.boolean = true;
    } else if ((number = number_after(type, "uint")) > 0 && number <= 256 && number % 8 == 0) {
        shape.kind = KIND_UINT;
        shape.bytes = number / 8;
    } else if ((number = number_after(type, "int")) > 0 && number <= 256 && number % 8 == 0) {
        shape.kind = KIND_INT;
        shape.bytes = number / 8;
    } else if ((number = number_after(type, "bytes")) > 0 && number <= 32) {
        shape.kind = KIND_LEFT;
        shape.bytes = number;
    } else {
        return -EINVAL;
    }
    *ret_shape = shape;
    return 0;
}

/* The next member of a tuple's text; *at starts at 0. 1, 0 at the end, -EINVAL. */
static int member_next(struct type members, size_t *at, struct type *ret_type)
{
    if (*at >= members.len)
        return 0;
    size_t len = type_length(members.text + *at);
    if (len == 0 || len > members.len - *at)
        return -EINVAL;
    *ret_type = (struct type){members.text + *at, len};
    *at += len;
    if (*at < members.len)
        (*at)++; /* the comma */
    return 1;
}

static int count_members(struct type members)
{
    size_t at = 0;
    struct type member;
    int count = 0, r;
    while ((r = member_next(members, &at, &member)) == 1)
        count++;
    return r < 0 ? r : count;
}

/* Bytes in the head: 32 for a dynamic type (its offset), all of it for a static one. *ret_dynamic says which. */
static int head_size(struct type type, int depth, size_t *ret_size, bool *ret_dynamic)
{
    struct shape shape;
    size_t size = 0, inner;
    bool dynamic;
    int r = depth > DEPTH_MAX ? -EINVAL : shape_of(type, &shape);
    if (r < 0)
        return r;
    *ret_dynamic = false;
    *ret_size = 32;
    if (shape.kind == KIND_BYTES || shape.kind == KIND_STRING ||
        (shape.kind == KIND_ARRAY && shape.count == SIZE_MAX)) {
        *ret_dynamic = true;
        return 0;
    }
    if (shape.kind == KIND_ARRAY) {
        r = head_size(shape.element, depth + 1, &inner, &dynamic);
        if (r < 0)
            return r;
        *ret_dynamic = dynamic;
        *ret_size = dynamic ? 32 : inner * shape.count;
    } else if (shape.kind == KIND_TUPLE) {
        size_t at = 0;
        struct type member;
        while ((r = member_next(shape.element, &at, &member)) == 1) {
            r = head_size(member, depth + 1, &inner, &dynamic);
            if (r < 0)
                return r;
            *ret_dynamic |= dynamic;
            size += inner;
        }
        if (r < 0)
            return r;
        *ret_size = *ret_dynamic ? 32 : size;
    }
    return 0;
}

/* "name(…)" or "(…)" → the text between the outer brackets. */
static int top_members(const char *types, struct type *ret_members)
{
    const char *open = strchr(types, '(');
    size_t len = strlen(types);
    if (open == NULL || types[len - 1] != ')')
        return -EINVAL;
    *ret_members = (struct type){open + 1, len - (size_t)(open + 1 - types) - 1};
    return 0;
}

/* ---- values ---- */

struct abi_value abi_uint(uint64_t value)
{
    struct abi_value v = {.data = NULL};
    eth_word_from_uint64(value, v.word);
    return v;
}

struct abi_value abi_bool(bool value)
{
    return abi_uint(value ? 1 : 0);
}

struct abi_value abi_word(const uint8_t word[32])
{
    struct abi_value v = {.data = NULL};
    memcpy(v.word, word, 32);
    return v;
}

struct abi_value abi_address(const uint8_t address[20])
{
    struct abi_value v = {.data = NULL};
    memcpy(v.word + 12, address, 20);
    return v;
}

struct abi_value abi_bytes(const void *data, size_t len)
{
    return (struct abi_value){.data = data, .len = len};
}

struct abi_value abi_string(const char *text)
{
    return abi_bytes(text, strlen(text));
}

struct abi_value abi_items(struct abi_value *items, size_t count)
{
    return (struct abi_value){.items = items, .len = count};
}

int abi_get_uint(const struct abi_value *value, uint64_t *ret_value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < 32; i++) {
        if (i < 24 && value->word[i] != 0)
            return -EBADMSG;
        number = number << 8 | value->word[i];
    }
    *ret_value = number;
    return 0;
}

void abi_topic(const char *signature, uint8_t ret_topic[32])
{
    keccak256(signature, strlen(signature), ret_topic);
}

void abi_selector(const char *signature, uint8_t ret_selector[4])
{
    uint8_t hash[32];
    abi_topic(signature, hash);
    memcpy(ret_selector, hash, 4);
}

/* 0 if the bytes that the type does not use are clean. */
static int check_word(const struct shape *shape, const uint8_t word[32])
{
    uint8_t fill = 0;
    size_t from = 0, to = 32 - shape->bytes;
    if (shape->kind == KIND_LEFT) {
        from = shape->bytes;
        to = 32;
    } else if (shape->kind == KIND_INT && (word[to] & 0x80) != 0) {
        fill = 0xff;
    }
    for (size_t i = from; i < to; i++) {
        if (word[i] != fill)
            return -EBADMSG;
    }
    return shape->boolean && word[31] > 1 ? -EBADMSG : 0;
}

/* ---- encoding ---- */

static int encode_sequence(const struct type *types, const struct abi_value *values, size_t count,
                           bool repeat, int depth, struct buffer *out);

static int put_word(struct buffer *out, uint64_t value)
{
    uint8_t word[32];
    eth_word_from_uint64(value, word);
    return buffer_append(out, word, 32);
}

static int encode_tuple(struct type members, const struct abi_value *values, size_t count,
                        int depth, struct buffer *out)
{
    int expected = count_members(members);
    if (expected < 0 || (size_t)expected != count)
        return -EINVAL;
    struct type *types = calloc(count + 1, sizeof(*types));
    if (types == NULL)
        return -ENOMEM;
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        (void)member_next(members, &at, &types[i]);
    int r = encode_sequence(types, values, count, false, depth, out);
    free(types);
    return r;
}

static int encode_value(struct type type, const struct abi_value *value, int depth,
                        struct buffer *out)
{
    static const uint8_t zero[32];
    struct shape shape;
    int r = shape_of(type, &shape);
    if (r < 0)
        return r;
    switch (shape.kind) {
    case KIND_UINT:
    case KIND_INT:
    case KIND_LEFT:
        return check_word(&shape, value->word) < 0 ? -EINVAL : buffer_append(out, value->word, 32);
    case KIND_BYTES:
    case KIND_STRING:
        r = put_word(out, value->len);
        if (r >= 0 && value->len > 0)
            r = buffer_append(out, value->data, value->len);
        if (r >= 0 && value->len % 32 != 0)
            r = buffer_append(out, zero, 32 - value->len % 32);
        return r;
    case KIND_TUPLE:
        return encode_tuple(shape.element, value->items, value->len, depth + 1, out);
    case KIND_ARRAY:
        if (shape.count == SIZE_MAX)
            r = put_word(out, value->len);
        else if (shape.count != value->len)
            r = -EINVAL;
        return r < 0 ? r
                     : encode_sequence(&shape.element, value->items, value->len, true, depth + 1,
                                       out);
    }
    return -EINVAL;
}

/* Heads, then tails. repeat: types[0] is the type of all. */
static int encode_sequence(const struct type *types, const struct abi_value *values, size_t count,
                           bool repeat, int depth, struct buffer *out)
{
    size_t heads = 0, size;
    bool dynamic;
    int r = depth > DEPTH_MAX ? -EINVAL : 0;
    for (size_t i = 0; i < count && r >= 0; i++) {
        r = head_size(types[repeat ? 0 : i], depth, &size, &dynamic);
        heads += size;
    }
    if (r < 0)
        return r;
    struct buffer tails;
    buffer_init(&tails, 0);
    for (size_t i = 0; i < count && r >= 0; i++) {
        struct type type = types[repeat ? 0 : i];
        r = head_size(type, depth, &size, &dynamic);
        if (r >= 0 && !dynamic)
            r = encode_value(type, &values[i], depth, out);
        else if (r >= 0) {
            r = put_word(out, heads + tails.len);
            if (r >= 0)
                r = encode_value(type, &values[i], depth, &tails);
        }
    }
    if (r >= 0 && tails.len > 0)
        r = buffer_append(out, tails.data, tails.len);
    buffer_done(&tails);
    return r < 0 ? r : 0;
}

int abi_encode(const char *types, const struct abi_value *values, size_t count, struct buffer *out)
{
    struct type members;
    int r = top_members(types, &members);
    return r < 0 ? r : encode_tuple(members, values, count, 0, out);
}

int abi_encode_call(const char *signature, const struct abi_value *values, size_t count,
                    struct buffer *out)
{
    uint8_t selector[4];
    abi_selector(signature, selector);
    int r = buffer_append(out, selector, 4);
    return r < 0 ? r : abi_encode(signature, values, count, out);
}

/* ---- decoding ---- */

struct block {
    struct block *next;
    _Alignas(16) uint8_t bytes[];
};

struct reader {
    struct block *memory;
    size_t values; /* left to hand out: an array of arrays in few bytes must not become gigabytes */
};

static void *take(struct reader *reader, size_t size)
{
    struct block *block = calloc(1, sizeof(*block) + size);
    if (block == NULL)
        return NULL;
    block->next = reader->memory;
    reader->memory = block;
    return block->bytes;
}

static struct abi_value *take_values(struct reader *reader, size_t count)
{
    if (count > reader->values)
        return NULL;
    reader->values -= count;
    return take(reader, (count + 1) * sizeof(struct abi_value));
}

/* The number at data + offset, which must be below `limit`. */
static int read_number(const uint8_t *data, size_t len, size_t offset, size_t limit,
                       size_t *ret_number)
{
    struct abi_value value = {.data = NULL};
    uint64_t number;
    if (len < 32 || offset > len - 32)
        return -EBADMSG;
    memcpy(value.word, data + offset, 32);
    if (abi_get_uint(&value, &number) < 0 || number > limit)
        return -EBADMSG;
    *ret_number = number;
    return 0;
}

static int decode_sequence(struct reader *reader, struct type types, bool repeat, size_t count,
                           const uint8_t *data, size_t len, int depth, struct abi_value *values);

/* data: where the value begins (behind its offset, for a dynamic one). */
static int decode_value(struct reader *reader, struct type type, const uint8_t *data, size_t len,
                        int depth, struct abi_value *ret_value)
{
    struct shape shape;
    size_t count;
    int r = depth > DEPTH_MAX ? -EINVAL : shape_of(type, &shape);
    if (r < 0)
        return r;
    if (shape.kind == KIND_BYTES || shape.kind == KIND_STRING) {
        r = read_number(data, len, 0, len, &count);
        if (r < 0)
            return r;
        size_t padded = (count + 31) / 32 * 32;
        if (padded > len - 32)
            return -EBADMSG;
        for (size_t i = count; i < padded; i++) {
            if (data[32 + i] != 0)
                return -EBADMSG;
        }
        uint8_t *copy = take(reader, count + 1);
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, data + 32, count);
        ret_value->data = copy;
        ret_value->len = count;
        return 0;
    }
    if (shape.kind == KIND_ARRAY) {
        size_t skip = 0, size;
        bool dynamic;
        count = shape.count;
        r = head_size(shape.element, depth, &size, &dynamic);
        if (r < 0)
            return r;
        if (shape.count == SIZE_MAX) {
            r = read_number(data, len, 0, len, &count);
            if (r < 0)
                return r;
            skip = 32;
        }
        if (size == 0 || count > (len - skip) / size) /* an element takes its head at least */
            return -EBADMSG;
        ret_value->items = take_values(reader, count);
        if (ret_value->items == NULL)
            return -EBADMSG;
        ret_value->len = count;
        return decode_sequence(reader, shape.element, true, count, data + skip, len - skip,
                               depth + 1, ret_value->items);
    }
    if (shape.kind == KIND_TUPLE) {
        r = count_members(shape.element);
        if (r < 0)
            return r;
        ret_value->items = take_values(reader, (size_t)r);
        if (ret_value->items == NULL)
            return -EBADMSG;
        ret_value->len = (size_t)r;
        return decode_sequence(reader, shape.element, false, (size_t)r, data, len, depth + 1,
                               ret_value->items);
    }
    if (len < 32 || check_word(&shape, data) < 0)
        return -EBADMSG;
    memcpy(ret_value->word, data, 32);
    return 0;
}

static int decode_sequence(struct reader *reader, struct type types, bool repeat, size_t count,
                           const uint8_t *data, size_t len, int depth, struct abi_value *values)
{
    size_t at = 0, head = 0;
    struct type type = types;
    int r = depth > DEPTH_MAX ? -EINVAL : 0;
    for (size_t i = 0; i < count && r >= 0; i++) {
        size_t size, offset = head;
        bool dynamic;
        if (!repeat && member_next(types, &at, &type) != 1)
            return -EINVAL;
        r = head_size(type, depth, &size, &dynamic);
        if (r < 0)
            return r;
        if (size > len || head > len - size)
            return -EBADMSG;
        if (dynamic) {
            r = read_number(data, len, head, len, &offset);
            if (r < 0)
                return r;
        }
        r = decode_value(reader, type, data + offset, len - offset, depth, &values[i]);
        head += size;
    }
    return r;
}

static void free_blocks(struct block *block)
{
    while (block != NULL) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

int abi_decode(const char *types, const uint8_t *data, size_t len, struct abi_decoded *ret_decoded)
{
    struct reader reader = {.values = ABI_VALUES_MAX};
    struct type members;
    int r = top_members(types, &members);
    int count = r < 0 ? r : count_members(members);
    if (count < 0)
        return count;
    struct abi_value *values = take_values(&reader, (size_t)count);
    if (values == NULL)
        return -ENOMEM;
    r = decode_sequence(&reader, members, false, (size_t)count, data, len, 0, values);
    if (r < 0) {
        free_blocks(reader.memory);
        return r;
    }
    *ret_decoded =
        (struct abi_decoded){.values = values, .count = (size_t)count, .memory = reader.memory};
    return 0;
}

void abi_decoded_done(struct abi_decoded *decoded)
{
    if (decoded != NULL) {
        free_blocks(decoded->memory);
        *decoded = (struct abi_decoded){.values = NULL};
    }
}
