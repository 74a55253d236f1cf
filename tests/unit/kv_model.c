/*
 * kv_model.c - see kv_model.h.
 */
#include "kv_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void model_init(struct model *model)
{
    memset(model, 0, sizeof(*model));
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        model->versions[key][0] = (struct model_version){.len = MODEL_ABSENT};
        model->count[key] = 1;
    }
}

void model_value(uint8_t seed, uint32_t len, uint8_t *out)
{
    uint32_t state = seed * 2654435761u + len;

    for (uint32_t i = 0; i < len; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = (uint8_t)(state >> 24);
    }
}

bool model_is_seq;

uint32_t model_key(uint32_t key, char out[32])
{
    if (model_is_seq) {
        memcpy(out, &key, STORE_SEQ_KEY);
        return STORE_SEQ_KEY;
    }
    return (uint32_t)snprintf(out, 32, "key-%0*u", (int)(key % 9) + 1, key);
}

void model_wrote(struct model *model, uint32_t key, uint32_t len, uint8_t seed, uint64_t ticket)
{
    struct model_version *versions = model->versions[key];

    if (model->count[key] == MODEL_VERSIONS) { /* the oldest that cannot matter any more */
        memmove(&versions[0], &versions[1], (MODEL_VERSIONS - 1) * sizeof(versions[0]));
        model->count[key]--;
    }
    versions[model->count[key]++] =
        (struct model_version){.order = ++model->order, .ticket = ticket, .len = len, .seed = seed};
}

void model_answered(struct model *model, uint64_t ticket)
{
    for (uint32_t key = 0; key < MODEL_KEYS; key++)
        for (uint32_t i = 0; i < model->count[key]; i++)
            if (model->versions[key][i].ticket <= ticket)
                model->versions[key][i].ticket = 0;
}

static uint8_t read_buffer[1u << 20];
static uint32_t read_len;

static void *reserve(void *ctx, uint32_t len)
{
    (void)ctx;
    read_len = len;
    return len < sizeof(read_buffer) ? read_buffer : NULL;
}

/* Whether this version is what was read. */
static bool is_it(const struct model_version *version, bool absent)
{
    static uint8_t expected[1u << 20];

    if (absent || version->len == MODEL_ABSENT)
        return absent && version->len == MODEL_ABSENT;
    if (version->len != read_len)
        return false;
    model_value(version->seed, version->len, expected);
    return memcmp(expected, read_buffer, read_len) == 0;
}

#define ORDERS 4096

void model_check(struct model *model, struct namespace *ns, bool exact, uint32_t *damage,
                 const char *when)
{
    static uint32_t fits[ORDERS + 1]; /* keys that are as they were after so many writes */
    struct store_sink sink = {.reserve = reserve};
    uint32_t checked = 0;
    uint64_t reached;

    assert_true(model->order < ORDERS);
    memset(fits, 0, sizeof(fits));
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        const struct model_version *versions = model->versions[key];
        uint32_t count = model->count[key], newest = 0;
        struct store_value value;
        char name[32];
        uint32_t len = model_key(key, name);
        int ret = store_get(ns, name, len, &sink, &value);
        bool any = false;

        for (uint32_t i = 0; i < count; i++)
            if (versions[i].ticket == 0)
                newest = i;
        if (ret == STORE_DAMAGED && damage != NULL) {
            ++*damage;
            continue;
        }
        if (ret != 0 && ret != STORE_NO_KEY)
            fail_msg("%s: reading key %u: %d", when, key, ret);
        checked++;
        for (uint32_t i = exact ? count - 1 : newest; i < count; i++) {
            uint64_t from = i == 0 ? 0 : versions[i].order;
            uint64_t to = i + 1 < count ? versions[i + 1].order : model->order + 1;

            if (!is_it(&versions[i], ret == STORE_NO_KEY))
                continue;
            any = true;
            for (uint64_t order = from; order < to; order++)
                fits[order]++;
        }
        if (!any)
            fail_msg("%s: key %u is %s, which it was not after it was answered (%u of %u)", when,
                     key, ret == 0 ? "a value" : "absent", newest, count);
    }
    /* A beginning of what was written: there is a moment after which all of it is what there is. */
    for (reached = model->order; fits[reached] < checked; reached--)
        if (reached == 0)
            fail_msg("%s: a write is there that came after one that is not", when);
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        struct model_version *versions = model->versions[key];
        uint32_t at = model->count[key] - 1;

        while (at > 0 && versions[at].order > reached)
            at--;
        versions[0] = versions[at];
        versions[0].ticket = 0;
        model->count[key] = 1;
    }
}

struct scanned {
    uint64_t number;
    uint32_t count;
    bool backwards;
};

static int scan_each(void *ctx, const struct store_item *item)
{
    struct scanned *scanned = ctx;

    if (scanned->number != 0)
        assert_true(scanned->backwards ? item->cursor.number < scanned->number
                                       : item->cursor.number > scanned->number);
    scanned->number = item->cursor.number;
    scanned->count++;
    return 0;
}

void model_check_scan(struct model *model, struct namespace *ns, const char *when)
{
    struct scanned forwards = {0}, backwards = {.backwards = true};
    struct store_cursor cursor = {0};
    struct store_info info;
    bool more = true;

    (void)model;
    while (more)
        assert_true(store_scan(ns, &cursor, false, 7, scan_each, &forwards, &more, NULL) >= 0);
    cursor = (struct store_cursor){0};
    for (more = true; more;) {
        cursor.hint = 0;
        assert_true(store_scan(ns, &cursor, true, 5, scan_each, &backwards, &more, NULL) >= 0);
    }
    store_namespace_info(ns, &info);
    if (forwards.count != info.entries || backwards.count != info.entries)
        fail_msg("%s: %u and %u scanned of %lu", when, forwards.count, backwards.count,
                 (unsigned long)info.entries);
}
