// sources: core0/kv/namespace.c core0/kv/record.c core0/kv/record_crc.c
// The descriptor of a namespace: what stands in it is read again, and what lies on disks since before a flag existed reads as ever.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kv/namespace.h"
#include "kv/record.h"

#define FLAGS 22 /* where the byte of flags stands */

static struct namespace_descriptor tenant(void)
{
    struct namespace_descriptor d = {.id = 7, .identity = 99, .name = "tenant", .floor = 1};

    d.properties = (struct store_properties){.maxsize = 5000, .secret_len = 8};
    memcpy(d.properties.secret, "password", 8);
    return d;
}

static void test_every_flag_is_read_again(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags < 16; flags++) {
        struct namespace_descriptor d = tenant(), again;
        uint8_t bytes[NAMESPACE_DESCRIPTOR_MAX];

        d.properties.is_public = (flags & 1) != 0;
        d.properties.worm = (flags & 2) != 0;
        d.properties.maxdisk = (flags & 4) != 0 ? 1 << 20 : 0;
        d.properties.tls_required = (flags & 8) != 0;
        size_t len = namespace_encode(&d, bytes);
        assert_int_equal(bytes[FLAGS], flags);
        assert_int_equal(namespace_decode(bytes, len, &again), 0);
        assert_int_equal(again.properties.is_public, d.properties.is_public);
        assert_int_equal(again.properties.worm, d.properties.worm);
        assert_int_equal(again.properties.maxdisk, d.properties.maxdisk);
        assert_int_equal(again.properties.tls_required, d.properties.tls_required);
        assert_int_equal(again.properties.maxsize, 5000);
        assert_memory_equal(again.properties.secret, "password", 8);
    }
}

/* Written by a kvd that knew no such flag: the bytes are those that are written today, and nothing is required. */
static void test_an_old_one_reads_as_before(void **state)
{
    static const uint8_t old[] =
        "CROFTNS1\x01\0\0\0\xd7\x83#"
        "\x11\xc6\xb0O\xb9\0\0\x01\0\xfcN\x03k\0\0\0\0\x88\x13\0\0\0\0\0\0\x01\0\0\0"
        "\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07"
        "default\x08\0password\0\0"
        "1\xe2V\xee";
    struct namespace_descriptor d;
    uint8_t again[NAMESPACE_DESCRIPTOR_MAX];

    (void)state;
    assert_int_equal(namespace_decode(old, sizeof(old) - 1, &d), 0);
    assert_string_equal(d.name, "default");
    assert_true(d.properties.is_public);
    assert_false(d.properties.tls_required);
    assert_int_equal(namespace_encode(&d, again), sizeof(old) - 1);
    assert_memory_equal(again, old, sizeof(old) - 1);
}

static void test_a_flag_that_nobody_knows_is_no_descriptor(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 8; bit++) {
        struct namespace_descriptor d = tenant(), again;
        uint8_t bytes[NAMESPACE_DESCRIPTOR_MAX];
        size_t len = namespace_encode(&d, bytes);

        bytes[FLAGS] = (uint8_t)(1u << bit);
        uint32_t crc = record_crc32c(0, bytes, len - 4);
        for (unsigned i = 0; i < 4; i++)
            bytes[len - 4 + i] = (uint8_t)(crc >> (8 * i));
        /* 4 announces a number that is not there. */
        assert_int_equal(namespace_decode(bytes, len, &again), bit < 4 && bit != 2 ? 0 : -EBADMSG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_flag_is_read_again),
        cmocka_unit_test(test_an_old_one_reads_as_before),
        cmocka_unit_test(test_a_flag_that_nobody_knows_is_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
