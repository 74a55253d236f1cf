// sources: core0/cli/image_lock.c
// packages: yyjson
// croft.lock: no name is lost, however many there are, and what could not be read again is not written.
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

#include "cli/image.h"
#include "lib/file.h"
#include "lib/json.h"

#define NAMES 1500

static char path[64];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/croft-lock-XXXXXX");
    int fd = mkstemp(path);
    close(fd);
    unlink(path);
    return fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

/* A file of somebody's with that many names, each as long as the padding. */
static void write_many(size_t count, int padding)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputc('{', f);
    for (size_t i = 0; i < count; i++)
        fprintf(f, "%s\"n%05zu%0*d\":{\"id\":\"00\",\"hubs\":[]}", i == 0 ? "" : ",", i, padding,
                0);
    fputs("}\n", f);
    assert_int_equal(fclose(f), 0);
}

static size_t names(void)
{
    cleanup_free char *text = NULL;
    size_t len;
    struct error err = {0};

    assert_int_equal(file_read(path, (size_t)2 << 20, &text, &len), 0);
    yyjson_doc *doc = json_parse(text, len, (size_t)2 << 20, "test", &err);
    assert_non_null(doc);
    size_t count = yyjson_obj_size(yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return count;
}

static void test_many_names_stay(void **state)
{
    struct error err = {0};

    (void)state;
    write_many(NAMES, 1);
    assert_int_equal(image_lock_write(path, "another", "11", NULL, 0, &err), 0);
    assert_int_equal(names(), NAMES + 1);
    assert_int_equal(image_lock_write(path, "another", "22", NULL, 0, &err), 0);
    assert_int_equal(names(), NAMES + 1);
}

static void test_a_file_too_large_to_be_read_again_is_not_written(void **state)
{
    struct error err = {0};

    (void)state;
    /* just below the limit as it is; with indentation it is beyond */
    write_many(NAMES, 650);
    assert_true(image_lock_write(path, "another", "11", NULL, 0, &err) < 0);
    assert_string_equal(err.code, "image.write-failed");
    assert_int_equal(names(), NAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_names_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_too_large_to_be_read_again_is_not_written,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
