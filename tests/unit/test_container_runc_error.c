// runc's sentences, as seen with runc 1.5.2, in our words.
// sources:
// packages: yyjson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/runc_error.h"

#define CHAIN "runc run failed: unable to start container process: error during container init: "

static void test_translation(void **state)
{
    static const struct {
        const char *text, *code;
    } rows[] = {
        {CHAIN "exec: \"nope\": executable file not found in $PATH", "container.not-found"},
        {CHAIN "exec: \"/bin/nope\": stat /bin/nope: no such file or directory",
         "container.not-found"},
        {CHAIN "exec: \"/bin/x\": permission denied", "container.not-executable"},
        {CHAIN "exec: \"/etc\": is a directory", "container.not-executable"},
        {"exec /bin/badscript: no such file or directory", "container.not-found"},
        {"exec /bin/badformat: exec format error", "container.not-executable"},
        {"runc run failed: unable to start container process: container init was OOM-killed "
         "(memory limit too low?)",
         "container.oom-killed"},
        {"something new", "container.start-failed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct error err = {0};

        runc_error_translate(rows[i].text, "/bin/x", &err);
        assert_string_equal(err.code, rows[i].code);
        assert_true(err.message[0] != '\0');
    }
}

static void test_the_last_error_of_the_log_counts(void **state)
{
    static const char log[] = "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}\n"
                              "{\"level\":\"error\",\"msg\":\"first\"}\n"
                              "not json\n"
                              "{\"level\":\"error\",\"msg\":\"second\"}\n"
                              "{\"level\":\"info\",\"msg\":\"i\"}";
    char text[64];

    (void)state;
    runc_error_last(log, strlen(log), text, sizeof(text));
    assert_string_equal(text, "second");
    runc_error_last("", 0, text, sizeof(text));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_translation),
        cmocka_unit_test(test_the_last_error_of_the_log_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
