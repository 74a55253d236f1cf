/*
 * class.c - see class.h.
 */
#include "class.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDENTIFY_RATE ((size_t)2 * 217) /* where the word lies */
#define PAIRS_MIN 8
#define PAIRS_MAX 64
/* The shortest seek with half a turn that a disk for sale needs is above this; no flash needs it. */
#define SEEK_US 2000
/* What lies right behind the last read is in the disk's own buffer already. */
#define SEEK_FACTOR 4

/* The two standards count alike: 1 is no rotation, 0401h to FFFEh are turns a minute, the rest says nothing. */
static enum class_said said(unsigned rate)
{
    if (rate == 1)
        return CLASS_SAID_SSD;
    return rate >= 0x401 && rate <= 0xfffe ? CLASS_SAID_HDD : CLASS_SAID_NOTHING;
}

enum class_said class_parse_vpd(const uint8_t *page, size_t len)
{
    if (len < 6 || page[1] != 0xb1)
        return CLASS_SAID_NOTHING;
    return said((unsigned)page[4] << 8 | page[5]);
}

enum class_said class_parse_identify(const uint8_t *words, size_t len)
{
    if (len < 512)
        return CLASS_SAID_NOTHING;
    return said(words[IDENTIFY_RATE] | (unsigned)words[IDENTIFY_RATE + 1] << 8);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

enum class_seen class_judge(const struct class_pair *pairs, size_t count,
                            struct class_pair *ret_typical)
{
    uint32_t first[PAIRS_MAX];
    uint32_t second[PAIRS_MAX];
    size_t seeks = 0;
    if (count > PAIRS_MAX)
        count = PAIRS_MAX;
    *ret_typical = (struct class_pair){0};
    if (count < PAIRS_MIN)
        return CLASS_SEEN_NOTHING;
    for (size_t i = 0; i < count; i++) {
        first[i] = pairs[i].random_us;
        second[i] = pairs[i].next_us;
        if (pairs[i].random_us >= SEEK_US && pairs[i].random_us / SEEK_FACTOR >= pairs[i].next_us)
            seeks++;
    }
    qsort(first, count, sizeof(first[0]), by_value);
    qsort(second, count, sizeof(second[0]), by_value);
    *ret_typical = (struct class_pair){first[count / 2], second[count / 2]};
    if (seeks >= count - count / 4)
        return CLASS_SEEN_ROTATING;
    return seeks <= count / 4 ? CLASS_SEEN_SOLID : CLASS_SEEN_NOTHING;
}

bool class_is_rotational(const struct class_evidence *evidence)
{
    bool claimed = evidence->device == CLASS_SAID_NOTHING ? evidence->kernel_rotational
                                                          : evidence->device == CLASS_SAID_HDD;
    return claimed || evidence->measured == CLASS_SEEN_ROTATING;
}

void class_format(const struct class_evidence *evidence, char ret_text[CLASS_TEXT])
{
    static const char *const device[] = {"nothing", "ssd", "hdd"};
    static const char *const measured[] = {"unclear", "no seeks", "seeks"};
    snprintf(ret_text, CLASS_TEXT, "%s (kernel %s, device %s, measured %s, %u/%u us)",
             class_is_rotational(evidence) ? "hdd" : "ssd",
             evidence->kernel_rotational ? "hdd" : "ssd", device[evidence->device],
             measured[evidence->measured], evidence->typical.random_us, evidence->typical.next_us);
}

int class_parse(const char *text, bool *ret_rotational)
{
    bool ssd = strncmp(text, "ssd ", 4) == 0;
    if (!ssd && strncmp(text, "hdd ", 4) != 0)
        return -EINVAL;
    *ret_rotational = !ssd;
    return 0;
}
