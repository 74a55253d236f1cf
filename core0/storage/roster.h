/*
 * roster.h - which named volumes and key-value namespaces there are, on which pool: so that one whose disk is missing is known to be lost, and is
 * not made anew, empty, on another disk.
 *
 * Volumes describe themselves on their own pool; this list only remembers them for the time when that pool is not there.
 * A copy lies on each of the fastest pools, and the newest one counts. Scratch volumes are not in it: those of a missing disk may be made anew.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "gpt.h"
#include "lib/buffer.h"

#define ROSTER_MAX 65536                /* volumes of one node */
#define ROSTER_BYTES ((size_t)32 << 20) /* of a copy */

struct roster_entry {
    char pool[GPT_GUID_TEXT];
    char kind[4]; /* "ssd", "hdd" */
    uint64_t size;
    int64_t keep_until; /* as in struct volume */
    char key[256];
};

struct roster {
    uint64_t generation; /* 0: nothing was ever written */
    struct roster_entry *entries;
    size_t count;
};

/* A copy. 0, -EBADMSG or -ENOMEM; *ret_roster is ended by roster_done(). */
int roster_parse(const char *text, size_t len, struct roster *ret_roster);
int roster_format(const struct roster *roster, struct buffer *out);
int roster_add(struct roster *roster, const struct roster_entry *entry);
void roster_done(struct roster *roster);
