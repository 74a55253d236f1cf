// sources: core0/cli/status.c core0/cli/codes.c
/*
 * The exit status of `croft` follows from the error's code alone (interfaces.md: 0 done, 1 failed, 2 wrong use, 3 refused
 * by policy or chain, 4 timed out).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/codes.h"
#include "cli/verbs.h"

static int status(int ret, const char *code)
{
    struct error err = {0};
    snprintf(err.code, sizeof(err.code), "%s", code);
    return (int)cli_status_of(ret, &err);
}

static void test_what_the_caller_wrote_is_wrong_use(void **state)
{
    static const char *const codes_of_use[] = {"cli.wrong-use",      "cli.bad-option",
                                               "cli.not-set",        "deploy.unsupported-key",
                                               "deploy.bad-compose", "deploy.missing-variable",
                                               "deploy.blob-needed", "image.not-locked"};
    (void)state;
    for (size_t i = 0; i < sizeof(codes_of_use) / sizeof(codes_of_use[0]); i++) {
        assert_int_equal(status(-EINVAL, codes_of_use[i]), CLI_USAGE);
    }
}

static void test_refusals(void **state)
{
    static const char *const refused[] = {"chain.farm-exists",      "chain.not-farmer",
                                          "join.token-used",        "provision.more-than-reserved",
                                          "chain.wrong-id",         "chain.reverted",
                                          "reservation.not-active", "node.unknown",
                                          "gate.not-allowed",       "gate.wrong-key"};
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(status(-EPERM, refused[i]), CLI_REFUSED);
    }
}

static void test_failures_and_time(void **state)
{
    (void)state;
    assert_int_equal(status(0, ""), CLI_DONE);
    assert_int_equal(status(-ECANCELED, "image.not-found"), CLI_FAILED);
    assert_int_equal(status(-ECANCELED, "container.unhealthy"), CLI_FAILED);
    assert_int_equal(status(-EHOSTUNREACH, "chain.unreachable"), CLI_FAILED);
    assert_int_equal(status(-EIO, "chain.not"),
                     CLI_FAILED); /* a prefix of a prefix is another word */
    assert_int_equal(status(-ETIMEDOUT, "deploy.timed-out"), CLI_TIMED_OUT);
    assert_int_equal(status(-ETIMEDOUT, "chain.timeout"), CLI_TIMED_OUT);
    assert_int_equal(status(-EHOSTUNREACH, "gate.timeout"), CLI_TIMED_OUT);
    assert_int_equal(status(-ECONNRESET, "gate.lost"), CLI_FAILED);
    assert_int_equal(status(-ECANCELED, "gate.which-service"), CLI_FAILED);
    assert_int_equal(status(-ECANCELED, "reservation.deploy-by"), CLI_TIMED_OUT);
}

/* No reason of a node or a contract is taken for a wrong use: the caller could not know. */
static void test_no_code_of_the_chain_is_wrong_use(void **state)
{
    static const char *const areas[] = {"chain",   "join", "node",      "provision", "reservation",
                                        "storage", "net",  "container", "gate"};
    (void)state;
    for (size_t i = 0; i < code_count; i++) {
        bool theirs = false;
        for (size_t a = 0; a < sizeof(areas) / sizeof(areas[0]); a++) {
            size_t len = strlen(areas[a]);
            theirs =
                theirs || (strncmp(codes[i].code, areas[a], len) == 0 && codes[i].code[len] == '.');
        }
        if (!theirs) {
            continue;
        }
        int is = status(-ECANCELED, codes[i].code);
        assert_true(is == CLI_FAILED || is == CLI_REFUSED || is == CLI_TIMED_OUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_caller_wrote_is_wrong_use),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_failures_and_time),
        cmocka_unit_test(test_no_code_of_the_chain_is_wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
