// What gated decides by itself: the target of a request, the challenges it gave, and the table of methods and roles.
// sources: core0/gate/query.c core0/gate/challenge.c core0/gate/method.c
// packages: mbedtls secp256k1
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gate/gate.h"

#define SECOND UINT64_C(1000000)

/* ---- the table ---- */

/* Only their places in the table count here. */
void logs_handle(struct request *request)
{
    (void)request;
}

void exec_handle(struct request *request)
{
    (void)request;
}

void status_handle(struct request *request)
{
    (void)request;
}

void restart_handle(struct request *request)
{
    (void)request;
}

void node_handle(struct request *request)
{
    (void)request;
}

void node_log_handle(struct request *request)
{
    (void)request;
}

static void test_table(void **state)
{
    static const struct {
        const char *http, *path, *name;
        enum role role;
        bool service;
        void (*handler)(struct request *);
    } rows[] = {
        {"GET", "/v1/logs", "logs", ROLE_TENANT, true, logs_handle},
        {"GET", "/v1/exec", "exec", ROLE_TENANT, true, exec_handle},
        {"GET", "/v1/status", "status", ROLE_TENANT, false, status_handle},
        {"POST", "/v1/restart", "restart", ROLE_TENANT, true, restart_handle},
        {"GET", "/v1/node", "node", ROLE_FARMER, false, node_handle},
        {"GET", "/v1/node/log", "node-log", ROLE_FARMER, false, node_log_handle},
    };
    static const struct {
        const char *http, *path;
        bool known;
    } absent[] = {
        {"POST", "/v1/logs", true},      {"GET", "/v1/restart", true}, {"DELETE", "/v1/node", true},
        {"get", "/v1/logs", true},       {"GET", "/v1/logs/", false},  {"GET", "/v1/LOGS", false},
        {"GET", "/v1", false},           {"GET", "/", false},          {"GET", "", false},
        {"GET", "/v1/node/", false},     {"GET", "//v1/node", false},  {"GET", "/v1/./node", false},
        {"GET", "/v1/challenge", false},
    };
    bool known;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct gate_method *method = method_find(rows[i].http, rows[i].path, &known);

        assert_non_null(method);
        assert_string_equal(method->name, rows[i].name);
        assert_true(strlen(method->name) <= GRID_ACCESS_METHOD_MAX);
        assert_int_equal(method->role, rows[i].role);
        assert_int_equal(method->service, rows[i].service);
        assert_true(method->handler == rows[i].handler);
    }
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        assert_null(method_find(absent[i].http, absent[i].path, &known));
        assert_int_equal(known, absent[i].known);
    }
}

/* ---- targets ---- */

static void test_query(void **state)
{
    static const char *const names[] = {"service", "arg", "n", NULL};
    static const char *const fewer[] = {"service", "n", NULL};
    struct query query;
    int64_t number = 7;
    bool flag = false;

    (void)state;
    assert_int_equal(
        query_parse("/v1/exec?service=w%65b&arg=&arg=a%20b+c%26%3D&arg=%E2%98%82&n=-12", &query),
        0);
    assert_string_equal(query.path, "/v1/exec");
    assert_int_equal(query.count, 5);
    assert_string_equal(query_get(&query, "service"), "web");
    assert_string_equal(query.parameters[1].value, "");
    assert_string_equal(query.parameters[2].value, "a b+c&=");
    assert_string_equal(query.parameters[3].value, "\xe2\x98\x82");
    assert_null(query_get(&query, "nothing"));
    assert_int_equal(query_only(&query, names), 0);
    assert_int_equal(query_only(&query, fewer), -EINVAL);
    assert_int_equal(query_get_number(&query, "n", -12, 0, &number), 1);
    assert_int_equal(number, -12);
    assert_int_equal(query_get_number(&query, "n", -11, 0, &number), -EINVAL);
    assert_int_equal(query_get_number(&query, "none", 0, 9, &number), 0);
    assert_int_equal(number, -12);
    assert_int_equal(query_get_number(&query, "service", 0, 9, &number), -EINVAL);
    assert_int_equal(query_get_flag(&query, "n", &flag), -EINVAL);
    query_done(&query);

    assert_int_equal(query_parse("/v1/node", &query), 0);
    assert_int_equal(query.count, 0);
    query_done(&query);
    assert_int_equal(query_parse("/v1/logs?follow=1&follow=0", &query), 0);
    assert_int_equal(query_get_flag(&query, "follow", &flag), 1);
    assert_true(flag);
    query_done(&query);
}

static void test_places(void **state)
{
    static const char *const bad[] = {
        "",     "1",      "1-",    "-1",           "1--2",
        "0-5",  "1-0",    "1-2-3", "1-2x",         "x1-2",
        "1 -2", "1-%202", "+1-2",  "4294967296-1", "1-18446744073709551616"};
    struct query query;
    uint64_t revision = 7, position = 7;

    (void)state;
    assert_int_equal(query_parse("/v1/logs?after=4294967295-18446744073709551615", &query), 0);
    assert_int_equal(query_get_place(&query, "before", UINT32_MAX, 1, &revision, &position), 0);
    assert_int_equal(revision, 7);
    assert_int_equal(query_get_place(&query, "after", UINT32_MAX - 1, 1, &revision, &position),
                     -EINVAL);
    assert_int_equal(revision, 7);
    assert_int_equal(query_get_place(&query, "after", UINT32_MAX, 1, &revision, &position), 1);
    assert_int_equal(revision, UINT32_MAX);
    assert_true(position == UINT64_MAX);
    query_done(&query);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char target[64];

        snprintf(target, sizeof(target), "/v1/logs?after=%s", bad[i]);
        assert_int_equal(query_parse(target, &query), 0);
        assert_int_equal(query_get_place(&query, "after", UINT32_MAX, 1, &revision, &position),
                         -EINVAL);
        query_done(&query);
    }
    /* before the first line, where the first position is 0 */
    assert_int_equal(query_parse("/v1/node/log?after=281474976710655-0", &query), 0);
    assert_int_equal(
        query_get_place(&query, "after", (UINT64_C(1) << 48) - 1, 0, &revision, &position), 1);
    assert_true(revision == (UINT64_C(1) << 48) - 1 && position == 0);
    query_done(&query);
}

static void test_query_refuses(void **state)
{
    static const char *const bad[] = {
        "/?a",        "/?a=%",   "/?a=%4",        "/?a=%zz",       "/?a=%00",
        "/?%00=a",    "/?a=%ff", "/?a=%c0%80",    "/?a=%ed%a0%80", "/?a=%f4%90%80%80",
        "/?a=%e2%98", "/?a=%80", "/?a=%e0%80%80", "/?a=b&c",       "/?a=%f8%88%80%80%80",
    };
    static const char *const no_numbers[] = {
        "/?n=", "/?n=+1", "/?n=%201", "/?n=1x", "/?n=0x1", "/?n=-", "/?n=99999999999999999999"};
    struct query query;
    int64_t number;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(query_parse(bad[i], &query), -EINVAL);
        query_done(&query);
    }
    for (size_t i = 0; i < sizeof(no_numbers) / sizeof(no_numbers[0]); i++) {
        assert_int_equal(query_parse(no_numbers[i], &query), 0);
        assert_int_equal(query_get_number(&query, "n", INT64_MIN, INT64_MAX, &number), -EINVAL);
        query_done(&query);
    }
    /* as many as it holds, and one more */
    char *many = malloc(QUERY_PARAMETERS_MAX * 4 + 16);
    assert_non_null(many);
    strcpy(many, "/?");
    for (size_t i = 0; i < QUERY_PARAMETERS_MAX; i++)
        strcat(many, i == 0 ? "a=b" : "&a=b");
    assert_int_equal(query_parse(many, &query), 0);
    assert_int_equal(query.count, QUERY_PARAMETERS_MAX);
    query_done(&query);
    strcat(many, "&a=b");
    assert_int_equal(query_parse(many, &query), -EINVAL);
    query_done(&query);
    free(many);
}

/* ---- challenges ---- */

static struct challenge_store *new_store(void)
{
    struct challenge_store *store;

    assert_int_equal(challenge_store_new(&store), 0);
    return store;
}

static struct grid_challenge give(struct challenge_store *store, const char *peer, uint64_t now,
                                  uint64_t reservation)
{
    struct grid_challenge challenge = {.node = 1, .reservation = reservation, .chain_id = 31337};

    challenge_give(store, peer, now, 1800000000, &challenge);
    return challenge;
}

static int take(struct challenge_store *store, const struct grid_challenge *challenge, uint64_t now,
                struct grid_challenge *ret_challenge)
{
    return challenge_take(store, challenge->nonce, now, ret_challenge);
}

static void test_challenge_is_used_once(void **state)
{
    struct challenge_store *store = new_store();
    struct grid_challenge taken, first = give(store, "192.0.2.1", SECOND, 3);
    struct grid_challenge second = give(store, "192.0.2.1", SECOND, 4);

    (void)state;
    assert_memory_not_equal(first.nonce, second.nonce, sizeof(first.nonce));
    assert_int_equal(first.expires, 1800000060);
    assert_int_equal(take(store, &first, 2 * SECOND, &taken), 0);
    assert_int_equal(taken.reservation, 3);
    assert_int_equal(taken.node, 1);
    assert_int_equal(take(store, &first, 2 * SECOND, &taken), -ENOENT);
    assert_int_equal(take(store, &second, 2 * SECOND, &taken), 0);
    assert_int_equal(taken.reservation, 4);
    second.nonce[31] ^= 1;
    assert_int_equal(take(store, &second, 2 * SECOND, &taken), -ENOENT);
    /* a place that is free holds a nonce of zeros, which is nobody's */
    memset(second.nonce, 0, sizeof(second.nonce));
    assert_int_equal(take(store, &second, 2 * SECOND, &taken), -ENOENT);
    challenge_store_free(store);
}

static void test_challenge_ends_by_the_monotonic_clock(void **state)
{
    struct challenge_store *store = new_store();
    struct grid_challenge taken, in_time = give(store, "192.0.2.1", SECOND, 3);
    struct grid_challenge late = give(store, "192.0.2.1", SECOND, 3);

    (void)state;
    assert_int_equal(take(store, &in_time, SECOND + CHALLENGE_LIFE_US - 1, &taken), 0);
    assert_int_equal(take(store, &late, SECOND + CHALLENGE_LIFE_US, &taken), -ENOENT);
    challenge_store_free(store);
}

/* Somebody who asks for many pushes out his own, and nobody else's. */
static void test_challenges_are_bounded_for_a_peer(void **state)
{
    struct challenge_store *store = new_store();
    struct grid_challenge taken, other = give(store, "2001:db8::9", SECOND, 9);
    struct grid_challenge own[CHALLENGES_PER_PEER + 1];

    (void)state;
    for (size_t i = 0; i < CHALLENGES_PER_PEER + 1; i++)
        own[i] = give(store, "192.0.2.1", SECOND + i, i + 1);
    for (size_t i = 0; i < 100000; i++)
        give(store, "192.0.2.7", 2 * SECOND, 1);
    assert_int_equal(take(store, &own[0], 3 * SECOND, &taken), -ENOENT);
    for (size_t i = 1; i < CHALLENGES_PER_PEER + 1; i++)
        assert_int_equal(take(store, &own[i], 3 * SECOND, &taken), 0);
    assert_int_equal(take(store, &other, 3 * SECOND, &taken), 0);
    challenge_store_free(store);
}

/* With all places taken by many peers, the oldest goes. */
static void test_challenges_are_bounded_in_all(void **state)
{
    struct challenge_store *store = new_store();
    struct grid_challenge taken, oldest = give(store, "2001:db8::9", SECOND, 9);
    struct grid_challenge next = give(store, "2001:db8::a", SECOND + 1, 9);
    char peer[CHALLENGE_PEER_MAX];

    (void)state;
    for (size_t i = 0; i < CHALLENGES_MAX - 1; i++) {
        snprintf(peer, sizeof(peer), "10.%zu.%zu.%zu", i >> 16, i >> 8 & 255, i & 255);
        give(store, peer, 2 * SECOND, 1);
    }
    assert_int_equal(take(store, &oldest, 3 * SECOND, &taken), -ENOENT);
    assert_int_equal(take(store, &next, 3 * SECOND, &taken), 0);
    challenge_store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_query_refuses),
        cmocka_unit_test(test_challenge_is_used_once),
        cmocka_unit_test(test_challenge_ends_by_the_monotonic_clock),
        cmocka_unit_test(test_challenges_are_bounded_for_a_peer),
        cmocka_unit_test(test_challenges_are_bounded_in_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
