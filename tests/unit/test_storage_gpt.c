// A partition table of ours is found again in any state that an interruption leaves; foreign disks are told apart.
// sources: core0/storage/gpt.c core0/storage/probe.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "storage/gpt.h"
#include "storage/probe.h"

#define DISK ((uint64_t)256 << 20)

struct disk {
    uint8_t head[GPT_EDGE];
    uint8_t tail[GPT_EDGE];
    struct gpt_partition partition;
};

static struct disk *disk_new(uint64_t size, uint32_t sector)
{
    static const uint8_t guids[2][GPT_GUID_SIZE] = {{1}, {2}};
    struct disk *disk = calloc(1, sizeof(*disk));
    assert_non_null(disk);
    if (sector != 0)
        assert_int_equal(gpt_build(disk->head, disk->tail, GPT_EDGE, size, sector, guids[0],
                                   guids[1], &disk->partition),
                         0);
    return disk;
}

static void test_guid(void **state)
{
    char text[GPT_GUID_TEXT];
    uint8_t guid[GPT_GUID_SIZE];

    (void)state;
    gpt_guid_format(gpt_type_pool, text);
    assert_string_equal(text, "e0adbe27-aff4-4f94-9b1a-39ef952c51eb");
    assert_int_equal(gpt_guid_parse(text, guid), 0);
    assert_memory_equal(guid, gpt_type_pool, GPT_GUID_SIZE);
    assert_int_equal(gpt_guid_parse("e0adbe27-aff4-4f94-9b1a-39ef952c51e", guid), -EINVAL);
    assert_int_equal(gpt_guid_parse("e0adbe27+aff4-4f94-9b1a-39ef952c51eb", guid), -EINVAL);
}

static void test_build_and_find(void **state)
{
    static const uint32_t sectors[] = {512, 4096};
    struct gpt_partition found;
    bool repair;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct disk *disk = disk_new(DISK, sectors[i]);
        assert_int_equal(disk->partition.start, 1 << 20);
        assert_int_equal(disk->partition.size % (1 << 20), 0);
        assert_true(disk->partition.start + disk->partition.size <= DISK - 33 * 512);
        assert_int_equal(
            gpt_find(disk->head, disk->tail, GPT_EDGE, DISK, sectors[i], &found, &repair), 1);
        assert_false(repair);
        assert_int_equal(found.number, 1);
        assert_int_equal(found.start, disk->partition.start);
        assert_int_equal(found.size, disk->partition.size);
        assert_memory_equal(found.guid, disk->partition.guid, GPT_GUID_SIZE);
        /* Cut off after the backup table, the first that is written. */
        memset(disk->head, 0, GPT_EDGE);
        memset(&found, 0, sizeof(found));
        assert_int_equal(
            gpt_find(disk->head, disk->tail, GPT_EDGE, DISK, sectors[i], &found, &repair), 1);
        assert_true(repair);
        assert_int_equal(found.start, disk->partition.start);
        /* The end is gone as well: nothing of ours. */
        memset(disk->tail, 0, GPT_EDGE);
        assert_int_equal(
            gpt_find(disk->head, disk->tail, GPT_EDGE, DISK, sectors[i], &found, &repair), 0);
        free(disk);
    }
}

static void test_one_wrong_bit_is_no_table(void **state)
{
    struct disk *disk = disk_new(DISK, 512);
    struct gpt_partition found;
    bool repair;

    (void)state;
    memset(disk->tail, 0, GPT_EDGE);
    for (size_t at = 512; at < 512 + 92; at++) { /* the header */
        disk->head[at] ^= 1;
        assert_int_equal(gpt_find(disk->head, disk->tail, GPT_EDGE, DISK, 512, &found, &repair), 0);
        disk->head[at] ^= 1;
    }
    for (size_t at = 1024; at < 1024 + 256; at++) { /* the first entries */
        disk->head[at] ^= 0x80;
        assert_int_equal(gpt_find(disk->head, disk->tail, GPT_EDGE, DISK, 512, &found, &repair), 0);
        disk->head[at] ^= 0x80;
    }
    assert_int_equal(gpt_find(disk->head, disk->tail, GPT_EDGE, DISK, 512, &found, &repair), 1);
    free(disk);
}

static void test_probe(void **state)
{
    struct disk *disk = disk_new(DISK, 0);
    struct probe_result result;

    (void)state;
    probe_edges(disk->head, disk->tail, GPT_EDGE, DISK, 512, &result);
    assert_int_equal(result.kind, PROBE_EMPTY);
    /* A byte anywhere in either edge, known to nobody. */
    static const size_t places[] = {0, 300000, GPT_EDGE - 1};
    for (size_t i = 0; i < 3; i++) {
        disk->head[places[i]] = 1;
        probe_edges(disk->head, disk->tail, GPT_EDGE, DISK, 512, &result);
        assert_int_equal(result.kind, PROBE_FOREIGN);
        disk->head[places[i]] = 0;
        disk->tail[places[i]] = 1;
        probe_edges(disk->head, disk->tail, GPT_EDGE, DISK, 512, &result);
        assert_int_equal(result.kind, PROBE_FOREIGN);
        disk->tail[places[i]] = 0;
    }
    memcpy(disk->head, "LUKS\xba\xbe", 6);
    probe_edges(disk->head, disk->tail, GPT_EDGE, DISK, 512, &result);
    assert_string_equal(result.what, "LUKS volume");
    memset(disk->head, 0, GPT_EDGE);
    memcpy(disk->head + 32769, "CD001", 5);
    memcpy(disk->head + 32808, "CROFT", 5);
    probe_edges(disk->head, disk->tail, GPT_EDGE, DISK, 512, &result);
    assert_int_equal(result.kind, PROBE_MEDIUM);
    free(disk);
    disk = disk_new(DISK, 512);
    probe_edges(disk->head, disk->tail, GPT_EDGE, DISK, 512, &result);
    assert_int_equal(result.kind, PROBE_POOL);
    free(disk);
}

static void test_boot_partition(void **state)
{
    static const uint8_t other[GPT_GUID_SIZE] = {3};
    struct disk *disk = disk_new(DISK, 512);

    (void)state;
    assert_true(gpt_has_partition(disk->head, GPT_EDGE, DISK, 512, disk->partition.guid));
    assert_false(gpt_has_partition(disk->head, GPT_EDGE, DISK, 512, other));
    free(disk);
}

static void test_small(void **state)
{
    static const uint8_t guid[GPT_GUID_SIZE] = {1};
    struct disk *disk = disk_new(DISK, 0);

    (void)state;
    assert_int_equal(
        gpt_build(disk->head, disk->tail, GPT_EDGE, 8 << 20, 512, guid, guid, &disk->partition),
        -ENOSPC);
    assert_int_equal(
        gpt_build(disk->head, disk->tail, GPT_EDGE, DISK, 513, guid, guid, &disk->partition),
        -EINVAL);
    free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guid),  cmocka_unit_test(test_build_and_find),
        cmocka_unit_test(test_probe), cmocka_unit_test(test_one_wrong_bit_is_no_table),
        cmocka_unit_test(test_small), cmocka_unit_test(test_boot_partition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
