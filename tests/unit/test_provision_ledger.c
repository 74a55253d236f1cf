// sources: core0/provision/ledger.c core0/provision/ledger_json.c core0/provision/slots.c
// packages: mbedtls
/*
 * The node's list: what the contracts' own story (tests/vectors) folds to, and that no byte of it can be changed unseen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/file.h"
#include "lib/json.h"
#include "provision/ledger.h"
#include "provision/slots.h"

struct story {
    yyjson_doc *doc;
    struct ledger_scope scope;
    struct eth_log *logs;
    size_t count;
    uint64_t block;
};

static yyjson_doc *load(const char *name)
{
    char *text;
    size_t len;
    char path[256];
    struct error err = {0};

    snprintf(path, sizeof(path), "tests/vectors/%s", name);
    assert_int_equal(file_read(path, 8 << 20, &text, &len), 0);
    yyjson_doc *doc = json_parse(text, len, 8 << 20, "test", &err);
    free(text);
    assert_non_null(doc);
    return doc;
}

static void decode(yyjson_val *value, void *out, size_t len)
{
    assert_int_equal(hex_decode(yyjson_get_str(value), out, len), 0);
}

/* All of the story's logs of Reservations, as if they were of one block. */
static void read_story(struct story *story)
{
    size_t i, max, t, topics;
    yyjson_val *item, *topic;

    story->doc = load("story.json");
    yyjson_val *root = yyjson_doc_get_root(story->doc);
    yyjson_val *logs = yyjson_obj_get(root, "logs");
    yyjson_doc *sealed = load("sealed.json");
    yyjson_val *first = yyjson_arr_get_first(yyjson_doc_get_root(sealed));
    story->scope.chain_id = yyjson_get_uint(yyjson_obj_get(first, "chainId"));
    story->scope.node = yyjson_get_uint(yyjson_obj_get(first, "node"));
    decode(yyjson_obj_get(first, "reservations"), story->scope.reservations, 20);
    yyjson_doc_free(sealed);
    story->block = 7;
    story->logs = calloc(yyjson_arr_size(logs), sizeof(*story->logs));
    yyjson_arr_foreach(logs, i, max, item)
    {
        struct eth_log *log = &story->logs[story->count++];
        const char *data = yyjson_get_str(yyjson_obj_get(item, "data"));
        memcpy(log->address, story->scope.reservations, 20);
        log->block_number = story->block;
        yyjson_arr_foreach(yyjson_obj_get(item, "topics"), t, topics, topic)
        {
            decode(topic, log->topics[log->topic_count++], 32);
        }
        log->data_len = (strlen(data) - 2) / 2;
        log->data = malloc(log->data_len + 1);
        assert_int_equal(hex_decode(data, log->data, log->data_len), 0);
    }
}

static void free_story(struct story *story)
{
    for (size_t i = 0; i < story->count; i++) {
        free(story->logs[i].data);
    }
    free(story->logs);
    yyjson_doc_free(story->doc);
}

/* 0 and the ledger, or -errno. */
static int fold(const struct story *story, struct ledger *ret_ledger)
{
    struct ledger_change *changes;
    size_t count;
    struct error err = {0};
    int ret = ledger_changes_from_logs(&story->scope, story->block, story->logs, story->count,
                                       &changes, &count, &err);
    if (ret < 0) {
        return ret;
    }
    ledger_init(ret_ledger, &story->scope);
    for (size_t i = 0; ret == 0 && i < count; i++) {
        ret = ledger_apply(ret_ledger, &changes[i], &err);
    }
    ledger_changes_free(changes, count);
    if (ret < 0) {
        ledger_done(ret_ledger);
    }
    return ret;
}

static void test_story(void **state)
{
    struct story story = {0};
    struct ledger ledger;
    uint8_t head[32], commitment[32];

    (void)state;
    read_story(&story);
    yyjson_val *root = yyjson_doc_get_root(story.doc);
    decode(yyjson_obj_get(root, "head"), head, 32);
    decode(yyjson_obj_get(root, "commitment"), commitment, 32);
    assert_int_equal(fold(&story, &ledger), 0);
    assert_memory_equal(ledger.head, head, 32);
    assert_int_equal(ledger.sequence, 4);
    struct ledger_revision *entry = ledger_find(&ledger, 1, 1);
    assert_non_null(entry);
    assert_int_equal(entry->state, CHAIN_DEPLOYING);
    assert_memory_equal(entry->commitment, commitment, 32);
    assert_non_null(entry->content);
    assert_ptr_equal(ledger_current(&ledger, 1), entry);
    assert_null(ledger_current(&ledger, 2));
    ledger_done(&ledger);
    free_story(&story);
}

/* Words of the logs that neither head nor commitment covers; all others must be refused when any byte changes. */
static bool hint(const struct eth_log *log, size_t byte)
{
    size_t word = byte / 32;
    bool changed = log->topic_count == 3;
    if (changed) {
        return word == 3 || word == 6 || word == 7; /* previousBlock, actor, time */
    }
    return (word >= 6 && word <= 9) ||
           word == 5; /* blob, times, keep, replace: checked elsewhere or hints */
}

static void test_no_byte_can_change(void **state)
{
    struct story story = {0};
    uint8_t head[32];
    size_t accepted = 0, tried = 0;

    (void)state;
    read_story(&story);
    decode(yyjson_obj_get(yyjson_doc_get_root(story.doc), "head"), head, 32);
    for (size_t l = 0; l < story.count; l++) {
        for (size_t b = 0; b < story.logs[l].data_len; b++) {
            struct ledger ledger;
            story.logs[l].data[b] ^= 1;
            int ret = fold(&story, &ledger);
            bool same = ret == 0 && memcmp(ledger.head, head, 32) == 0;
            if (same && !hint(&story.logs[l], b)) {
                fail_msg("log %zu byte %zu (word %zu) changed unseen", l, b, b / 32);
            }
            accepted += same;
            tried++;
            if (ret == 0) {
                ledger_done(&ledger);
            }
            story.logs[l].data[b] ^= 1;
        }
    }
    assert_true(tried > 1000);
    assert_true(accepted < tried / 3);
    free_story(&story);
}

static void test_left_out(void **state)
{
    struct story story = {0};
    struct ledger ledger;
    uint8_t head[32];

    (void)state;
    read_story(&story);
    decode(yyjson_obj_get(yyjson_doc_get_root(story.doc), "head"), head, 32);
    for (size_t l = 0; l < story.count; l++) {
        struct story less = story;
        struct eth_log *logs = calloc(story.count, sizeof(*logs));
        memcpy(logs, story.logs, story.count * sizeof(*logs));
        memmove(&logs[l], &logs[l + 1], (story.count - l - 1) * sizeof(*logs));
        less.logs = logs;
        less.count--;
        int ret = fold(&less, &ledger);
        if (ret == 0) {
            assert_memory_not_equal(ledger.head, head, 32);
            ledger_done(&ledger);
        }
        free(logs);
    }
    free_story(&story);
}

static void test_heads_of_vectors(void **state)
{
    yyjson_doc *doc = load("head.json");
    uint8_t head[32] = {0}, expected[32];
    size_t i, max;
    yyjson_val *item;

    (void)state;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, max, item)
    {
        struct ledger_change change = {0};
        change.sequence = yyjson_get_uint(yyjson_obj_get(item, "sequence"));
        change.id = strtoull(yyjson_get_str(yyjson_obj_get(item, "id")), NULL, 10);
        change.revision = (uint32_t)yyjson_get_uint(yyjson_obj_get(item, "revision"));
        change.state = (enum chain_state)yyjson_get_uint(yyjson_obj_get(item, "state"));
        eth_code_to_word(yyjson_get_str(yyjson_obj_get(item, "reason")), change.reason);
        decode(yyjson_obj_get(item, "commitment"), change.commitment, 32);
        decode(yyjson_obj_get(item, "head"), expected, 32);
        ledger_fold(head, &change);
        assert_memory_equal(head, expected, 32);
    }
    yyjson_doc_free(doc);
}

static void test_json_round(void **state)
{
    struct story story = {0};
    struct ledger ledger, again;
    struct error err = {0};

    (void)state;
    read_story(&story);
    assert_int_equal(fold(&story, &ledger), 0);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, ledger_to_json(&ledger, doc));
    char *text = yyjson_mut_write(doc, 0, NULL);
    yyjson_doc *read = yyjson_read(text, strlen(text), 0);
    assert_int_equal(ledger_from_json(yyjson_doc_get_root(read), &again, &err), 0);
    yyjson_mut_doc *doc2 = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc2, ledger_to_json(&again, doc2));
    char *text2 = yyjson_mut_write(doc2, 0, NULL);
    assert_string_equal(text, text2);
    /* A damaged file is refused, not half read. */
    for (size_t i = 0; i < strlen(text); i += 7) {
        char keep = text[i];
        struct ledger damaged;
        text[i] = '#';
        yyjson_doc *bad = yyjson_read(text, strlen(text), 0);
        if (bad != NULL && ledger_from_json(yyjson_doc_get_root(bad), &damaged, &err) == 0) {
            ledger_done(&damaged); /* inside a text of a hub or reason any byte may stand */
        }
        yyjson_doc_free(bad);
        text[i] = keep;
    }
    free(text);
    free(text2);
    yyjson_mut_doc_free(doc);
    yyjson_mut_doc_free(doc2);
    yyjson_doc_free(read);
    ledger_done(&ledger);
    ledger_done(&again);
    free_story(&story);
}

static void test_final_is_final(void **state)
{
    struct story story = {0};
    struct ledger ledger;
    struct error err = {0};

    (void)state;
    read_story(&story);
    assert_int_equal(fold(&story, &ledger), 0);
    struct ledger_change change = {
        .block = 9, .id = 1, .revision = 1, .state = CHAIN_CLOSED, .sequence = 5};
    memcpy(change.commitment, ledger_find(&ledger, 1, 1)->commitment, 32);
    assert_int_equal(ledger_apply(&ledger, &change, &err), 0);
    assert_null(ledger_current(&ledger, 1));
    change.sequence = 6;
    change.state = CHAIN_ACTIVE;
    assert_true(ledger_apply(&ledger, &change, &err) < 0);
    assert_string_equal(err.code, "chain.bad-list");
    ledger_done(&ledger);
    free_story(&story);
}

static void change_to(struct ledger *ledger, enum chain_state to, uint64_t time)
{
    struct error err = {0};
    struct ledger_change change = {.block = 9,
                                   .id = 1,
                                   .revision = 1,
                                   .state = to,
                                   .sequence = ledger->sequence + 1,
                                   .time = time};
    memcpy(change.commitment, ledger_find(ledger, 1, 1)->commitment, 32);
    assert_int_equal(ledger_apply(ledger, &change, &err), 0);
}

/* Each time it is paid again it is another round, with a day to deploy it; Grace and back is none. */
static void test_suspended_and_paid_again(void **state)
{
    struct story story = {0};
    struct ledger ledger, again;
    struct error err = {0};

    (void)state;
    read_story(&story);
    assert_int_equal(fold(&story, &ledger), 0);
    struct ledger_revision *entry = ledger_find(&ledger, 1, 1);
    uint64_t proposed = entry->content->deploy_by;
    change_to(&ledger, CHAIN_ACTIVE, 100);
    change_to(&ledger, CHAIN_GRACE, 200);
    assert_true(chain_state_runs(entry->state));
    change_to(&ledger, CHAIN_ACTIVE, 300);
    assert_int_equal(entry->round, 0);
    change_to(&ledger, CHAIN_GRACE, 400);
    change_to(&ledger, CHAIN_SUSPENDED, 500);
    assert_false(chain_state_runs(entry->state));
    assert_false(chain_state_final(entry->state));
    assert_ptr_equal(ledger_current(&ledger, 1), entry);
    assert_int_equal(entry->content->deploy_by, proposed);
    change_to(&ledger, CHAIN_FUNDED, 600);
    assert_int_equal(entry->round, 1);
    assert_int_equal(entry->content->deploy_by, 600 + 86400);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, ledger_to_json(&ledger, doc));
    yyjson_doc *read = yyjson_mut_doc_imut_copy(doc, NULL);
    assert_int_equal(ledger_from_json(yyjson_doc_get_root(read), &again, &err), 0);
    assert_int_equal(ledger_find(&again, 1, 1)->round, 1);
    assert_int_equal(ledger_find(&again, 1, 1)->content->deploy_by, 600 + 86400);
    yyjson_mut_doc_free(doc);
    yyjson_doc_free(read);
    ledger_done(&ledger);
    ledger_done(&again);
    free_story(&story);
}

static void test_slots(void **state)
{
    struct story story = {0};
    uint8_t slots[2][32], expected[32], value[32];
    size_t i, max, seen = 0;
    yyjson_val *item;

    (void)state;
    read_story(&story);
    slot_list(story.scope.node, slots);
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(story.doc), "storage"), i, max, item)
    {
        const char *field = yyjson_get_str(yyjson_obj_get(item, "field"));
        decode(yyjson_obj_get(item, "slot"), expected, 32);
        decode(yyjson_obj_get(item, "value"), value, 32);
        if (strcmp(field, "sequence and lastBlock") == 0) {
            assert_memory_equal(slots[0], expected, 32);
            assert_int_equal(slot_uint64(value, 0), 4);
            assert_int_equal(slot_uint64(value, 64), 120);
            seen++;
        } else if (strcmp(field, "head") == 0) {
            assert_memory_equal(slots[1], expected, 32);
            seen++;
        } else if (strcmp(field, "nonce, lastReport, keySince, keyEpoch") == 0) {
            uint8_t slot[32];
            uint32_t epoch;
            uint64_t since;
            slot_node_key(story.scope.node, slot);
            slot_node_key_unpack(value, &epoch, &since);
            assert_memory_equal(slot, expected, 32);
            assert_int_equal(epoch, 2);
            assert_int_equal(since,
                             slot_uint64(value, 64)); /* the story's last report came with it */
            seen++;
        } else if (strcmp(field, "farmer, open, day, changes") == 0) {
            uint8_t slot[32], named[20], farmer[20];
            slot_farm(1, slot);
            slot_farm_unpack(value, farmer);
            decode(yyjson_obj_get(yyjson_doc_get_root(story.doc), "farmer"), named, 20);
            assert_memory_equal(slot, expected, 32);
            assert_memory_equal(farmer, named, 20);
            seen++;
        }
    }
    assert_int_equal(seen, 4);
    free_story(&story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_story),
        cmocka_unit_test(test_no_byte_can_change),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_heads_of_vectors),
        cmocka_unit_test(test_json_round),
        cmocka_unit_test(test_final_is_final),
        cmocka_unit_test(test_suspended_and_paid_again),
        cmocka_unit_test(test_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
