/*
 * roster.c - the text of a roster: see roster.h.
 *
 *   croft-roster 1 <generation>
 *   <uuid of the pool> <kind> <size> <keep until> <key>
 */
#include "roster.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 400

void roster_done(struct roster *roster)
{
    free(roster->entries);
    *roster = (struct roster){0};
}

int roster_add(struct roster *roster, const struct roster_entry *entry)
{
    if (roster->count == ROSTER_MAX)
        return -E2BIG;
    /* Grown by doubling: full when the count is a power of two. */
    if ((roster->count & (roster->count - 1)) == 0) {
        size_t room = roster->count == 0 ? 1 : 2 * roster->count;
        struct roster_entry *grown = realloc(roster->entries, room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        roster->entries = grown;
    }
    roster->entries[roster->count++] = *entry;
    return 0;
}

static int parse_entry(const char *line, struct roster *roster)
{
    struct roster_entry entry = {0};
    unsigned long long size;
    long long keep;
    int end = 0;
    if (sscanf(line, "%36s %3s %llu %lld %255s%n", entry.pool, entry.kind, &size, &keep, entry.key,
               &end) != 5 ||
        line[end] != '\0' || strlen(entry.pool) != GPT_GUID_TEXT - 1 ||
        (strcmp(entry.kind, "ssd") != 0 && strcmp(entry.kind, "hdd") != 0))
        return -EBADMSG;
    entry.size = size;
    entry.keep_until = keep;
    return roster_add(roster, &entry);
}

int roster_parse(const char *text, size_t len, struct roster *ret_roster)
{
    struct roster roster = {0};
    bool first = true;
    int r = len == 0 ? -EBADMSG : 0;
    while (r == 0 && len > 0) {
        char line[LINE_MAX_BYTES];
        const char *newline = memchr(text, '\n', len);
        size_t size = newline == NULL ? len : (size_t)(newline - text);
        if (newline == NULL || size >= sizeof(line) || memchr(text, '\0', size) != NULL) {
            r = -EBADMSG; /* cut off, or nothing of ours */
            break;
        }
        memcpy(line, text, size);
        line[size] = '\0';
        unsigned long long generation;
        int end = 0;
        if (!first)
            r = parse_entry(line, &roster);
        else if (sscanf(line, "croft-roster 1 %llu%n", &generation, &end) != 1 || line[end] != '\0')
            r = -EBADMSG;
        else
            roster.generation = generation;
        first = false;
        text += size + 1;
        len -= size + 1;
    }
    if (r < 0)
        roster_done(&roster);
    else
        *ret_roster = roster;
    return r;
}

int roster_format(const struct roster *roster, struct buffer *out)
{
    int r = buffer_printf(out, "croft-roster 1 %llu\n", (unsigned long long)roster->generation);
    for (size_t i = 0; r >= 0 && i < roster->count; i++) {
        const struct roster_entry *entry = &roster->entries[i];
        r = buffer_printf(out, "%s %s %llu %lld %s\n", entry->pool, entry->kind,
                          (unsigned long long)entry->size, (long long)entry->keep_until,
                          entry->key);
    }
    return r < 0 ? r : 0;
}
