/*
 * smart.c - see smart.h.
 */
#include "smart.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *smart_health_name(enum smart_health health)
{
    static const char *const names[] = {"unknown", "good", "warning", "failing"};
    return names[health];
}

void smart_raise(struct smart *smart, enum smart_health health, const char *fmt, ...)
{
    va_list args;
    if (health <= smart->health)
        return;
    smart->health = health;
    va_start(args, fmt);
    vsnprintf(smart->reason, sizeof(smart->reason), fmt, args);
    va_end(args);
}

static void good(struct smart *smart)
{
    smart_raise(smart, SMART_GOOD, "%s", "");
}

static uint64_t little(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    while (size-- > 0)
        value = value << 8 | at[size];
    return value;
}

static uint64_t big(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

static void set_temperature(struct smart *smart, int celsius)
{
    if (celsius < -60 || celsius > 150)
        return;
    smart->has_temperature = true;
    smart->temperature = celsius;
}

static void set_hours(struct smart *smart, uint64_t hours)
{
    smart->has_hours = true;
    smart->hours = hours;
}

/* ---- NVMe ---- */

static const struct {
    uint8_t bit;
    enum smart_health health;
    const char *reason;
} nvme_warnings[] = {
    {1 << 3, SMART_FAILING, "the medium is read-only"},
    {1 << 2, SMART_FAILING, "the device is not reliable any more"},
    {1 << 0, SMART_FAILING, "the spare blocks are used up"},
    {1 << 4, SMART_WARNING, "the memory that survives a power cut failed"},
    {1 << 1, SMART_WARNING, "too hot or too cold"},
};

int smart_parse_nvme(const uint8_t *log, size_t len, struct smart *smart)
{
    if (len < 512)
        return -EBADMSG;
    unsigned kelvin = (unsigned)little(log + 1, 2);
    uint64_t media_errors = little(log + 160, 8);
    good(smart);
    for (size_t i = 0; i < sizeof(nvme_warnings) / sizeof(nvme_warnings[0]); i++)
        if ((log[0] & nvme_warnings[i].bit) != 0)
            smart_raise(smart, nvme_warnings[i].health, "%s", nvme_warnings[i].reason);
    if (media_errors > 0)
        smart_raise(smart, SMART_WARNING, "%llu reads or writes failed in the medium",
                    (unsigned long long)media_errors);
    if (log[5] >= 100)
        smart_raise(smart, SMART_WARNING, "its endurance is used up (%u %%)", log[5]);
    if (kelvin != 0)
        set_temperature(smart, (int)kelvin - 273);
    set_hours(smart, little(log + 128, 8));
    smart->has_worn = true;
    smart->worn = log[5];
    return 0;
}

/* ---- ATA ---- */

#define ATA_ATTRIBUTES 30
#define ATA_ATTRIBUTE_SIZE 12

/* The few attributes that every maker counts in the same way. */
static const struct {
    uint8_t id;
    const char *what;
} ata_counts[] = {
    {5, "sectors were replaced"},
    {197, "sectors wait to be replaced"},
    {198, "sectors cannot be read"},
};

static void ata_attribute(const uint8_t *at, struct smart *smart)
{
    uint64_t raw = little(at + 5, 6);
    for (size_t i = 0; i < sizeof(ata_counts) / sizeof(ata_counts[0]); i++)
        if (at[0] == ata_counts[i].id && (raw & 0xffffffff) != 0)
            smart_raise(smart, SMART_WARNING, "%llu %s", (unsigned long long)(raw & 0xffffffff),
                        ata_counts[i].what);
    /* Makers put minimum and maximum into the upper bytes. */
    if (at[0] == 194 || (at[0] == 190 && !smart->has_temperature))
        set_temperature(smart, (int8_t)at[5]);
    if (at[0] == 9)
        set_hours(smart, raw & 0xffffffff);
}

int smart_parse_ata_data(const uint8_t *data, size_t len, struct smart *smart)
{
    uint8_t sum = 0;
    if (len < 512)
        return -EBADMSG;
    for (size_t i = 0; i < 512; i++)
        sum = (uint8_t)(sum + data[i]);
    if (sum != 0)
        return -EBADMSG;
    good(smart);
    for (size_t i = 0; i < ATA_ATTRIBUTES; i++)
        ata_attribute(data + 2 + i * ATA_ATTRIBUTE_SIZE, smart);
    return 0;
}

/* LBA mid and high: C24Fh all is well, 2CF4h a threshold was crossed (ACS-4, table 155). */
int smart_parse_ata_status(const uint8_t *sense, size_t len, struct smart *smart)
{
    unsigned lba = 0;
    if (len >= 22 && (sense[0] & 0x7f) == 0x72 && sense[8] == 0x09)
        lba = (unsigned)sense[8 + 11] << 8 | sense[8 + 9];
    else if (len >= 12 && (sense[0] & 0x7f) == 0x70)
        lba = (unsigned)sense[11] << 8 | sense[10];
    if (lba != 0xc24f && lba != 0x2cf4)
        return -EBADMSG;
    good(smart);
    if (lba == 0x2cf4)
        smart_raise(smart, SMART_FAILING, "the disk expects to fail");
    return 0;
}

bool smart_identify_has_smart(const uint8_t *words, size_t len)
{
    const size_t supported = (size_t)2 * 82;
    const size_t enabled = (size_t)2 * 85;
    return len >= 512 && (words[supported] & 1) != 0 && (words[enabled] & 1) != 0;
}

/* ---- SCSI ---- */

static void scsi_parameter(uint8_t page, unsigned code, const uint8_t *data, size_t len,
                           struct smart *smart)
{
    if (page == 0x0d && code == 0 && len >= 2 && data[1] != 0xff)
        set_temperature(smart, data[1]);
    if (page == 0x15 && code == 0 && len >= 4)
        set_hours(smart, big(data, 4) / 60);
    if (page != 0x2f || code != 0 || len < 3)
        return;
    good(smart);
    if (data[0] == 0x5d)
        smart_raise(smart, SMART_FAILING, "the disk expects to fail (5D/%02X)", data[1]);
    if (data[0] == 0x0b)
        smart_raise(smart, SMART_WARNING, "the disk warns (0B/%02X)", data[1]);
    if (data[2] != 0xff && !smart->has_temperature)
        set_temperature(smart, data[2]);
}

int smart_parse_scsi_log(const uint8_t *page, size_t len, struct smart *smart)
{
    if (len < 4 || (page[0] & 0x40) != 0 || big(page + 2, 2) > len - 4)
        return -EBADMSG; /* bit 6: the page has a subpage, and none was asked for */
    const uint8_t *end = page + 4 + big(page + 2, 2);
    for (const uint8_t *at = page + 4; end - at >= 4;) {
        size_t size = at[3];
        if (size > (size_t)(end - at) - 4)
            return -EBADMSG;
        scsi_parameter(page[0] & 0x3f, (unsigned)big(at, 2), at + 4, size, smart);
        at += 4 + size;
    }
    return 0;
}
