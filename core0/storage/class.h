/*
 * class.h - is a disk an SSD or an HDD? The rule, as functions over what is known; see docs/decisions/0100-disk-class.md.
 *
 *   kept with the pool  >  the device's own statement  >  the kernel's flag
 *   and what is ssd by the last two, but reads like a disk with a moving head, is hdd.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLASS_TEXT 128 /* of a decision as it is kept */

enum class_said { CLASS_SAID_NOTHING, CLASS_SAID_SSD, CLASS_SAID_HDD };
enum class_seen { CLASS_SEEN_NOTHING, CLASS_SEEN_SOLID, CLASS_SEEN_ROTATING };

/* A read of 4 KiB at a random place, and one of the 4 KiB behind it, in microseconds. */
struct class_pair {
    uint32_t random_us;
    uint32_t next_us;
};

struct class_evidence {
    bool kernel_rotational; /* queue/rotational */
    enum class_said device;
    enum class_seen measured;
    struct class_pair typical; /* medians of what was measured */
};

/* "Block Device Characteristics" (SBC-4, VPD page B1h) and IDENTIFY DEVICE (ACS-4, word 217): any bytes are safe. */
enum class_said class_parse_vpd(const uint8_t *page, size_t len);
enum class_said class_parse_identify(const uint8_t *words, size_t len);

/*
 * What the pairs tell. The two reads of a pair come right after one another, so that whatever else the machine does
 * weighs on both; only a head that has to move makes the first so much slower. Too few pairs: nothing.
 */
enum class_seen class_judge(const struct class_pair *pairs, size_t count,
                            struct class_pair *ret_typical);
bool class_is_rotational(const struct class_evidence *evidence);
/* "hdd (kernel hdd, device none, measured rotating: 8300/120 us)": the first word is what counts. */
void class_format(const struct class_evidence *evidence, char ret_text[CLASS_TEXT]);
/* 0, or -EINVAL: neither begins it. */
int class_parse(const char *text, bool *ret_rotational);
