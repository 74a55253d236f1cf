// The URLs of gates: what a node has registered as its address, and what is asked for, gets in as nothing but itself.
// sources: core0/cli/gate_url.c
// packages: yyjson
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/gate.h"

static void test_hosts(void **state)
{
    static const struct {
        const char *host, *url;
    } cases[] = {
        {"192.0.2.1", "https://192.0.2.1:4443"},
        {"2001:db8::1", "https://[2001:db8::1]:4443"},
        {"::ffff:192.0.2.1", "https://[::ffff:192.0.2.1]:4443"},
        {"node_1.example-farm.net", "https://node_1.example-farm.net:4443"},
        {"", NULL},
        {"user@host", NULL},
        {"host/path", NULL},
        {"host:80", NULL}, /* a name with a port, or an address? neither */
        {"host?x", NULL},
        {"host#x", NULL},
        {"a b", NULL},
        {"a\nb", NULL},
        {"[::1]", NULL},
        {"fe80::1%eth0", NULL},
        {"h\xc3\xb6st", NULL},
    };
    char url[GATE_URL_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int ret = gate_url_of_host(cases[i].host, url);
        if (ret != (cases[i].url != NULL ? 0 : -EINVAL) ||
            (ret == 0 && strcmp(url, cases[i].url) != 0)) {
            fail_msg("%s: %d %s", cases[i].host, ret, url);
        }
    }
}

static void test_options(void **state)
{
    static const struct {
        const char *option, *url;
    } cases[] = {
        {"127.0.0.1:4443", "https://127.0.0.1:4443"},
        {"localhost:1", "https://localhost:1"},
        {"[::1]:65535", "https://[::1]:65535"},
        {"localhost", NULL},
        {"localhost:", NULL},
        {"localhost:0", NULL},
        {":4443", NULL},
        {"localhost:65536", NULL},
        {"localhost:44x", NULL},
        {"::1:4443", NULL},
        {"[localhost]:1", NULL},
        {"[::1:4443", NULL},
        {"https://x:1", NULL},
        {"x:-1", NULL},
        {"a/b:1", NULL},
        {"[]:1", NULL},
    };
    char url[GATE_URL_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int ret = gate_url_of_option(cases[i].option, url);
        if (ret != (cases[i].url != NULL ? 0 : -EINVAL) ||
            (ret == 0 && strcmp(url, cases[i].url) != 0)) {
            fail_msg("%s: %d %s", cases[i].option, ret, url);
        }
    }
}

static void test_queries(void **state)
{
    struct buffer path;
    (void)state;
    buffer_init(&path, 0);
    buffer_append_str(&path, "/v1/exec");
    assert_int_equal(gate_query(&path, "arg", "a b&c=d?#%\n\xc3\xbc~"), 0);
    assert_int_equal(gate_query(&path, "arg", ""), 0);
    assert_int_equal(gate_query_uint(&path, "rows", UINT64_MAX), 0);
    assert_string_equal((const char *)path.data,
                        "/v1/exec?arg=a%20b%26c%3Dd%3F%23%25%0A%C3%BC~&arg=&rows="
                        "18446744073709551615");
    buffer_done(&path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
