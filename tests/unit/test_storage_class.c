// Is a disk an SSD or an HDD: what devices say, what a measurement tells, and who wins.
// sources: core0/storage/class.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "storage/class.h"

#define PAIRS 16

static void test_rotation_rates(void **state)
{
    static const struct {
        uint16_t rate;
        enum class_said said;
    } cases[] = {
        {0, CLASS_SAID_NOTHING},     {1, CLASS_SAID_SSD},      {2, CLASS_SAID_NOTHING},
        {0x400, CLASS_SAID_NOTHING}, {0x401, CLASS_SAID_HDD},  {5400, CLASS_SAID_HDD},
        {15000, CLASS_SAID_HDD},     {0xfffe, CLASS_SAID_HDD}, {0xffff, CLASS_SAID_NOTHING},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t page[64] = {0, 0xb1, 0, 60};
        uint8_t words[512] = {0};
        page[4] = (uint8_t)(cases[i].rate >> 8); /* SCSI is big-endian, ATA little-endian */
        page[5] = (uint8_t)cases[i].rate;
        words[434] = (uint8_t)cases[i].rate;
        words[435] = (uint8_t)(cases[i].rate >> 8);
        assert_int_equal(class_parse_vpd(page, sizeof(page)), cases[i].said);
        assert_int_equal(class_parse_identify(words, sizeof(words)), cases[i].said);
    }
    const uint8_t short_page[5] = {0, 0xb1, 0, 60, 0x1c};
    const uint8_t other_page[64] = {0, 0xb0, 0, 60, 0x1c, 0x20};
    assert_int_equal(class_parse_vpd(short_page, sizeof(short_page)), CLASS_SAID_NOTHING);
    assert_int_equal(class_parse_vpd(other_page, sizeof(other_page)), CLASS_SAID_NOTHING);
    assert_int_equal(class_parse_identify(other_page, sizeof(other_page)), CLASS_SAID_NOTHING);
}

static enum class_seen judge(uint32_t random_us, uint32_t next_us, size_t odd, uint32_t odd_us,
                             size_t count)
{
    struct class_pair pairs[PAIRS];
    struct class_pair typical;
    for (size_t i = 0; i < count; i++)
        pairs[i] = (struct class_pair){i < odd ? odd_us : random_us, next_us};
    return class_judge(pairs, count, &typical);
}

static void test_measurements(void **state)
{
    struct class_pair pairs[PAIRS];
    struct class_pair typical;
    (void)state;
    /* 7,200 turns: a seek, then the disk's buffer. Some reads may hit that by luck. */
    assert_int_equal(judge(12000, 150, 0, 0, PAIRS), CLASS_SEEN_ROTATING);
    assert_int_equal(judge(12000, 150, 4, 150, PAIRS), CLASS_SEEN_ROTATING);
    assert_int_equal(judge(12000, 150, 8, 150, PAIRS), CLASS_SEEN_NOTHING);
    assert_int_equal(judge(90, 60, 0, 0, PAIRS), CLASS_SEEN_SOLID);
    /* Flash that collects its garbage now and then. */
    assert_int_equal(judge(90, 60, 4, 20000, PAIRS), CLASS_SEEN_SOLID);
    /* A machine so busy that every read takes long, the second of a pair as long as the first. */
    assert_int_equal(judge(30000, 25000, 0, 0, PAIRS), CLASS_SEEN_SOLID);
    /* A sick disk that answered to a few. */
    assert_int_equal(judge(12000, 150, 0, 0, 7), CLASS_SEEN_NOTHING);
    for (size_t i = 0; i < PAIRS; i++)
        pairs[i] = (struct class_pair){(uint32_t)(PAIRS - i) * 1000, (uint32_t)i};
    (void)class_judge(pairs, PAIRS, &typical);
    assert_int_equal(typical.random_us, 9000);
    assert_int_equal(typical.next_us, 8);
}

static void test_who_wins(void **state)
{
    static const struct {
        struct class_evidence evidence;
        bool rotational;
    } cases[] = {
        /* The kernel's flag where the device says nothing. */
        {{.kernel_rotational = true}, true},
        {{.kernel_rotational = false}, false},
        /* The device against the flag. */
        {{.kernel_rotational = true, .device = CLASS_SAID_SSD}, false},
        {{.kernel_rotational = false, .device = CLASS_SAID_HDD}, true},
        /* What reads like a moving head is no SSD, whatever is claimed. */
        {{.device = CLASS_SAID_SSD, .measured = CLASS_SEEN_ROTATING}, true},
        {{.kernel_rotational = false, .measured = CLASS_SEEN_ROTATING}, true},
        /* What answers fast may be a cache, or a disk that never was written. */
        {{.device = CLASS_SAID_HDD, .measured = CLASS_SEEN_SOLID}, true},
        {{.kernel_rotational = true, .measured = CLASS_SEEN_SOLID}, true},
        {{.device = CLASS_SAID_SSD, .measured = CLASS_SEEN_NOTHING}, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[CLASS_TEXT];
        bool rotational = !cases[i].rotational;
        assert_int_equal(class_is_rotational(&cases[i].evidence), cases[i].rotational);
        /* What is kept reads back as the same. */
        class_format(&cases[i].evidence, text);
        assert_int_equal(class_parse(text, &rotational), 0);
        assert_int_equal(rotational, cases[i].rotational);
    }
}

static void test_what_is_kept(void **state)
{
    const struct class_evidence evidence = {
        true, CLASS_SAID_NOTHING, CLASS_SEEN_ROTATING, {UINT32_MAX, UINT32_MAX}};
    char text[CLASS_TEXT];
    bool rotational;
    (void)state;
    class_format(&evidence, text);
    assert_string_equal(
        text, "hdd (kernel hdd, device nothing, measured seeks, 4294967295/4294967295 us)");
    assert_int_equal(class_parse("", &rotational), -EINVAL);
    assert_int_equal(class_parse("ssd", &rotational), -EINVAL);
    assert_int_equal(class_parse("hddx (", &rotational), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation_rates),
        cmocka_unit_test(test_measurements),
        cmocka_unit_test(test_who_wins),
        cmocka_unit_test(test_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
