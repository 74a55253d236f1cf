// What disks say of their health: pages as devices give them, with one thing changed at a time.
// sources: core0/storage/smart.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "storage/smart.h"

static void nvme_page(uint8_t log[512])
{
    memset(log, 0, 512);
    log[1] = 0x43; /* 323 K */
    log[2] = 0x01;
    log[3] = 100;
    log[4] = 10;
    log[5] = 7;
    log[128] = 0x10; /* 10,000 hours */
    log[129] = 0x27;
}

static void test_nvme(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        enum smart_health health;
    } cases[] = {
        {0, 1 << 0, SMART_FAILING}, {0, 1 << 1, SMART_WARNING}, {0, 1 << 2, SMART_FAILING},
        {0, 1 << 3, SMART_FAILING}, {0, 1 << 4, SMART_WARNING}, {0, 1 << 7, SMART_GOOD},
        {5, 99, SMART_GOOD},        {5, 100, SMART_WARNING},    {160, 1, SMART_WARNING},
    };
    uint8_t log[512];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct smart smart = {0};
        nvme_page(log);
        log[cases[i].at] = cases[i].value;
        assert_int_equal(smart_parse_nvme(log, sizeof(log), &smart), 0);
        assert_int_equal(smart.health, cases[i].health);
        assert_int_equal(smart.reason[0] != '\0', cases[i].health > SMART_GOOD);
        assert_true(smart.has_temperature && smart.temperature == 50);
        assert_true(smart.has_hours && smart.hours == 10000);
    }
    struct smart smart = {0};
    nvme_page(log);
    log[0] = 0xff; /* the worst is what is told */
    log[1] = log[2] = 0;
    assert_int_equal(smart_parse_nvme(log, sizeof(log), &smart), 0);
    assert_int_equal(smart.health, SMART_FAILING);
    assert_string_equal(smart.reason, "the medium is read-only");
    assert_false(smart.has_temperature); /* 0 K: the device does not say */
    assert_int_equal(smart_parse_nvme(log, 511, &smart), -EBADMSG);
}

static void ata_attribute(uint8_t data[512], size_t i, uint8_t id, uint64_t raw)
{
    uint8_t sum = 0;
    data[2 + 12 * i] = id;
    for (size_t b = 0; b < 6; b++)
        data[2 + 12 * i + 5 + b] = (uint8_t)(raw >> 8 * b);
    data[511] = 0;
    for (size_t b = 0; b < 511; b++)
        sum = (uint8_t)(sum + data[b]);
    data[511] = (uint8_t)-sum;
}

static void test_ata_data(void **state)
{
    uint8_t data[512] = {0x10};
    struct smart smart = {0};
    (void)state;
    ata_attribute(data, 0, 9, 20000);
    ata_attribute(data, 1, 190, 40);
    ata_attribute(data, 2, 194, 0x002d000e00000000 | 35); /* minimum and maximum above the value */
    ata_attribute(data, 3, 5, 0);
    ata_attribute(data, 29, 199, 12); /* errors of the cable: none of the disk's */
    assert_int_equal(smart_parse_ata_data(data, sizeof(data), &smart), 0);
    assert_int_equal(smart.health, SMART_GOOD);
    assert_true(smart.has_temperature && smart.temperature == 35);
    assert_true(smart.has_hours && smart.hours == 20000);
    static const uint8_t ids[] = {5, 197, 198};
    for (size_t i = 0; i < sizeof(ids); i++) {
        smart = (struct smart){0};
        ata_attribute(data, 3, ids[i], 8);
        assert_int_equal(smart_parse_ata_data(data, sizeof(data), &smart), 0);
        assert_int_equal(smart.health, SMART_WARNING);
        assert_int_equal(smart.reason[0], '8');
    }
    smart = (struct smart){0};
    data[100] ^= 1;
    assert_int_equal(smart_parse_ata_data(data, sizeof(data), &smart), -EBADMSG);
    assert_int_equal(smart.health, SMART_UNKNOWN);
}

static void test_ata_status(void **state)
{
    /* As libata answers: descriptor format, "ATA PASS-THROUGH INFORMATION AVAILABLE". */
    uint8_t sense[22] = {0x72, 0x01, 0x00, 0x1d, 0, 0, 0, 0x0e, 0x09, 0x0c};
    uint8_t fixed[18] = {0x70};
    struct smart smart = {0};
    (void)state;
    assert_int_equal(smart_parse_ata_status(sense, sizeof(sense), &smart), -EBADMSG);
    sense[8 + 9] = 0x4f;
    sense[8 + 11] = 0xc2;
    assert_int_equal(smart_parse_ata_status(sense, sizeof(sense), &smart), 0);
    assert_int_equal(smart.health, SMART_GOOD);
    sense[8 + 9] = 0xf4;
    sense[8 + 11] = 0x2c;
    assert_int_equal(smart_parse_ata_status(sense, 21, &smart), -EBADMSG);
    assert_int_equal(smart_parse_ata_status(sense, sizeof(sense), &smart), 0);
    assert_int_equal(smart.health, SMART_FAILING);
    smart = (struct smart){0};
    fixed[10] = 0xf4;
    fixed[11] = 0x2c;
    assert_int_equal(smart_parse_ata_status(fixed, sizeof(fixed), &smart), 0);
    assert_int_equal(smart.health, SMART_FAILING);
    /* A disk that failed has no good word left in its attributes. */
    uint8_t data[512] = {0};
    assert_int_equal(smart_parse_ata_data(data, sizeof(data), &smart), 0);
    assert_int_equal(smart.health, SMART_FAILING);
}

static void test_scsi_log(void **state)
{
    uint8_t exceptions[] = {0x2f, 0, 0, 8, 0, 0, 3, 4, 0, 0, 38, 0};
    const uint8_t temperature[] = {0x0d, 0, 0, 12, 0, 0, 3, 2, 0, 41, 0, 1, 3, 2, 0, 65};
    const uint8_t background[] = {0x15, 0, 0, 8, 0, 0, 3, 4, 0, 1, 0, 0};
    struct smart smart = {0};
    (void)state;
    assert_int_equal(smart_parse_scsi_log(exceptions, sizeof(exceptions), &smart), 0);
    assert_int_equal(smart.health, SMART_GOOD);
    assert_true(smart.has_temperature && smart.temperature == 38);
    assert_int_equal(smart_parse_scsi_log(temperature, sizeof(temperature), &smart), 0);
    assert_int_equal(smart.temperature, 41);
    assert_int_equal(smart_parse_scsi_log(background, sizeof(background), &smart), 0);
    assert_true(smart.has_hours && smart.hours == 65536 / 60);
    exceptions[8] = 0x0b;
    assert_int_equal(smart_parse_scsi_log(exceptions, sizeof(exceptions), &smart), 0);
    assert_int_equal(smart.health, SMART_WARNING);
    exceptions[8] = 0x5d;
    exceptions[9] = 0x10;
    assert_int_equal(smart_parse_scsi_log(exceptions, sizeof(exceptions), &smart), 0);
    assert_int_equal(smart.health, SMART_FAILING);
    assert_string_equal(smart.reason, "the disk expects to fail (5D/10)");
    /* Lengths that do not fit. */
    exceptions[7] = 5;
    assert_int_equal(smart_parse_scsi_log(exceptions, sizeof(exceptions), &smart), -EBADMSG);
    exceptions[7] = 4;
    assert_int_equal(smart_parse_scsi_log(exceptions, sizeof(exceptions) - 1, &smart), -EBADMSG);
    assert_int_equal(smart_parse_scsi_log(exceptions, 3, &smart), -EBADMSG);
}

static void test_identify(void **state)
{
    uint8_t words[512] = {0};
    (void)state;
    assert_false(smart_identify_has_smart(words, sizeof(words)));
    words[164] = 1; /* has it, but switched off */
    assert_false(smart_identify_has_smart(words, sizeof(words)));
    words[170] = 1;
    assert_true(smart_identify_has_smart(words, sizeof(words)));
    assert_false(smart_identify_has_smart(words, 511));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nvme),       cmocka_unit_test(test_ata_data),
        cmocka_unit_test(test_ata_status), cmocka_unit_test(test_scsi_log),
        cmocka_unit_test(test_identify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
