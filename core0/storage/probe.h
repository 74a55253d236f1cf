/*
 * probe.h - what lies on a disk, judged by its first and last MiB. See docs/decisions/0050-empty-disks.md.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "gpt.h"

enum probe_kind {
    PROBE_EMPTY,   /* nothing but zeros in either edge */
    PROBE_POOL,    /* holds a partition of ours */
    PROBE_MEDIUM,  /* what a machine boots Croft from: never touched */
    PROBE_FOREIGN, /* anything else */
};

struct probe_result {
    enum probe_kind kind;
    char what[96]; /* "ext4 file system", "partition table (GPT)", "unknown data at byte 4096" */
    struct gpt_partition partition; /* PROBE_POOL */
};

/* head and tail: the disk's first and last `edge` bytes (GPT_EDGE, less for a smaller disk). */
void probe_edges(const uint8_t *head, const uint8_t *tail, size_t edge, uint64_t disk_size,
                 uint32_t sector, struct probe_result *ret_result);
/* What `data` (the beginning of a disk or partition) is known to be, or NULL. */
const char *probe_name(const uint8_t *data, size_t len);
