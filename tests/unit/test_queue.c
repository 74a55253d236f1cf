// sources: core0/node/queue.c
// packages: yyjson mbedtls secp256k1
// noded's queue: what is seen, taken back, final, and whose the chain's last message is.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/queue.h"

static const uint8_t ours[32] = {1}, before[32] = {2}, foreign[32] = {3}, registry[20] = {4};
static char path[64];
static struct queue queue;
static struct error err;

static int setup(void **state)
{
    (void)state;
    char folder[] = "/tmp/croft-queue-XXXXXX";
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/queue.json", folder);
    assert_int_equal(queue_open(&queue, path, ours, 7, registry, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    return 0;
}

static int add(enum grid_kind kind, uint64_t nonce)
{
    struct grid_message message;
    grid_message_init(&message, kind);
    grid_message_set_uint(&message, "nonce", nonce);
    grid_message_set_word(&message, "bootId", ours);
    if (kind == GRID_RESULT) {
        grid_message_set_uint(&message, "reservation", nonce);
        grid_message_set_uint(&message, "revision", 1);
        grid_message_set_uint(&message, "state", 5);
    }
    return queue_add(&queue, &message, 0, &err);
}

static void settle(uint64_t chain, uint64_t final, const uint8_t boot_id[32])
{
    assert_int_equal(queue_settle(&queue, chain, final, boot_id, &err), 0);
}

static void test_a_message_stays_until_it_is_final(void **state)
{
    (void)state;
    add(GRID_REPORT, 1);
    add(GRID_RESULT, 2);
    queue.items[1].delivered_at = 9;
    settle(1, 0, ours);
    assert_true(queue.accepted && queue.reported);
    assert_int_equal(queue.count, 2);
    assert_int_equal(queue_waiting(&queue), 1);
    assert_false(queue_has(&queue, GRID_REPORT)); /* the next one may be said */
    assert_int_equal(queue_first(&queue)->nonce, 2);
    settle(2, 1, ours);
    assert_int_equal(queue.count, 1);
    assert_null(queue_first(&queue));
    assert_int_equal(queue_last_nonce(&queue), 2); /* never signed twice */
    /* taken back: it waits again, with its nonce, and is delivered at once */
    settle(1, 1, ours);
    assert_int_equal(queue_first(&queue)->nonce, 2);
    assert_int_equal(queue_first(&queue)->delivered_at, 0);
    settle(2, 2, ours);
    assert_int_equal(queue.count, 0);
    assert_int_equal(queue_find_result(&queue, 2, 1, 5, 0), 2);
    /* a block below the final one went: said again, it is signed anew */
    settle(1, 1, ours);
    assert_int_equal(queue_find_result(&queue, 2, 1, 5, 0), 0);
}

static void test_whose_the_last_message_is(void **state)
{
    (void)state;
    assert_true(queue_is_ours(&queue, 4, before)); /* nothing of this boot was accepted yet */
    add(GRID_REPORT, 5);
    add(GRID_RESULT, 6);
    settle(6, 4, ours);
    assert_false(queue_is_ours(&queue, 7, foreign));
    assert_false(queue_is_ours(&queue, 6, foreign));
    assert_true(queue_is_ours(&queue, 4, before)); /* taken back */
    settle(4, 4, before);
    assert_false(queue.accepted);
    assert_int_equal(queue_waiting(&queue), 2);
    /* not accepted any more: another message with the nonce of ours is a reason to sign again, not to stop */
    settle(5, 4, foreign);
    assert_int_equal(queue.items[0].nonce, 0);
    assert_int_equal(queue.items[1].nonce, 6);
}

static void test_what_is_remembered_over_a_start(void **state)
{
    (void)state;
    struct queue again;
    add(GRID_REGISTER, 1);
    add(GRID_RESULT, 2);
    settle(2, 1, ours);
    assert_int_equal(queue_open(&again, path, ours, 7, registry, &err), 0);
    assert_true(again.accepted);
    assert_int_equal(again.reached, 2);
    assert_int_equal(again.count, 1);
    assert_int_equal(again.items[0].nonce, 2);
    assert_false(again.items[0].seen); /* the first look at the chain tells */
    assert_int_equal(queue_open(&again, path, foreign, 7, registry, &err), 0);
    assert_false(again.accepted);
    assert_int_equal(again.count, 1);
    assert_int_equal(queue_open(&again, path, ours, 8, registry, &err), 0);
    assert_int_equal(again.count, 0);
    assert_int_equal(queue_clear(&queue, &err), 0);
    assert_int_equal(queue_open(&again, path, ours, 7, registry, &err), 0);
    assert_false(again.accepted);
    assert_int_equal(again.count, 0);
}

/* Suspended and funded again, a revision is deployed anew: the same results once more are other results. */
static void test_a_result_of_another_round_is_another_result(void **state)
{
    (void)state;
    struct grid_message message;
    struct queue again;
    add(GRID_RESULT, 2); /* reservation 2, round 0 */
    grid_message_copy(&queue.items[0].message, &message);
    assert_int_equal(queue_find_result(&queue, 2, 1, 5, 1), 0);
    grid_message_set_uint(&message, "nonce", 3);
    assert_int_equal(queue_add(&queue, &message, 1, &err), 0);
    assert_int_equal(queue_find_result(&queue, 2, 1, 5, 0), 2);
    assert_int_equal(queue_find_result(&queue, 2, 1, 5, 1), 3);
    /* also over a start, while it waits and when it is done */
    assert_int_equal(queue_open(&again, path, ours, 7, registry, &err), 0);
    assert_int_equal(queue_find_result(&again, 2, 1, 5, 1), 3);
    settle(3, 3, ours);
    assert_int_equal(queue.count, 0);
    assert_int_equal(queue_open(&again, path, ours, 7, registry, &err), 0);
    assert_int_equal(queue_find_result(&again, 2, 1, 5, 0), 2);
    assert_int_equal(queue_find_result(&again, 2, 1, 5, 1), 3);
    assert_int_equal(queue_find_result(&again, 2, 1, 5, 2), 0);
}

static void test_what_is_seen_makes_room(void **state)
{
    (void)state;
    for (uint64_t nonce = 1; nonce <= QUEUE_MAX; nonce++)
        assert_int_equal(add(GRID_RESULT, nonce), 0);
    assert_int_equal(add(GRID_RESULT, QUEUE_MAX + 1), -ENOSPC);
    settle(1, 0, ours);
    assert_int_equal(add(GRID_RESULT, QUEUE_MAX + 1), 0);
    assert_int_equal(queue.count, QUEUE_MAX);
    assert_int_equal(queue.items[0].nonce, 2);
    assert_int_equal(queue.items[QUEUE_MAX - 1].nonce, QUEUE_MAX + 1);
    assert_int_equal(queue_find_result(&queue, 1, 1, 5, 0), 1);
    error_clear(&err);
    assert_int_equal(add(GRID_RESULT, QUEUE_MAX + 2), -ENOSPC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_message_stays_until_it_is_final),
        TEST(test_whose_the_last_message_is),
        TEST(test_what_is_remembered_over_a_start),
        TEST(test_a_result_of_another_round_is_another_result),
        TEST(test_what_is_seen_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
