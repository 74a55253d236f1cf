// sources: core0/provision/keys_needed.c core0/provision/ledger.c
// packages: yyjson mbedtls
// Which old sealing keys are needed: by what is not final, and by what the contract still takes.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "provision/keys.h"

#define DAY 86400u

static struct ledger_content contents[5];
static struct ledger_revision revisions[5];
static struct ledger latest, final;

/* Epochs of the five: 3, 1, 3, 5, 2; the second has ended. */
static int setup(void **state)
{
    static const uint32_t epochs[5] = {3, 1, 3, 5, 2};
    static const enum chain_state states[5] = {CHAIN_ACTIVE, CHAIN_CLOSED, CHAIN_SUSPENDED,
                                               CHAIN_PROPOSED, CHAIN_FUNDED};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        contents[i] = (struct ledger_content){.key_epoch = epochs[i]};
        revisions[i] = (struct ledger_revision){
            .id = i + 1, .revision = 1, .state = states[i], .content = &contents[i]};
    }
    latest = (struct ledger){.sequence = 9, .revisions = revisions, .count = 5};
    final = (struct ledger){.sequence = 9};
    return 0;
}

static void needed(uint64_t time, size_t count, const uint32_t *expected)
{
    struct watch_status status = {.key_epoch = 5, .key_since = 1000, .final_time = time};
    uint32_t *epochs;
    size_t found;
    assert_int_equal(keys_needed(&latest, &final, &status, &epochs, &found), 0);
    assert_int_equal(found, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(epochs[i], expected[i]);
    free(epochs);
}

static void not_now(struct watch_status status)
{
    uint32_t *epochs;
    size_t found;
    assert_int_equal(keys_needed(&latest, &final, &status, &epochs, &found), -EAGAIN);
}

static void test_what_is_not_final_and_for_a_day_the_previous_one(void **state)
{
    (void)state;
    needed(1000, 3, (uint32_t[]){2, 3, 4});
    needed(1000 + DAY - 1, 3, (uint32_t[]){2, 3, 4});
    needed(1000 + DAY, 2, (uint32_t[]){2, 3});
    revisions[0].state = CHAIN_FAILED;
    needed(1000 + DAY, 2, (uint32_t[]){2, 3}); /* the suspended one may be paid again */
    revisions[2].state = CHAIN_EXPIRED;
    needed(1000 + DAY, 1, (uint32_t[]){2});
    revisions[4].state = CHAIN_REJECTED;
    needed(1000 + DAY, 0, NULL);
}

static void test_nothing_is_said_of_what_may_be_taken_back(void **state)
{
    (void)state;
    not_now((struct watch_status){.key_epoch = 5, .key_since = 1000, .final_time = 999});
    not_now((struct watch_status){.key_epoch = 0, .key_since = 0, .final_time = 5000});
    final.sequence = 8;
    not_now((struct watch_status){.key_epoch = 5, .key_since = 1000, .final_time = 9000});
    final.sequence = 9;
    revisions[0].content = NULL;
    not_now((struct watch_status){.key_epoch = 5, .key_since = 1000, .final_time = 9000});
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_not_final_and_for_a_day_the_previous_one),
        TEST(test_nothing_is_said_of_what_may_be_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
