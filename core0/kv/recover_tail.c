/*
 * recover_tail.c - finds where the log of a namespace ends, and cuts what a power cut left behind it.
 *
 * The tail is what no record claims to be synced (record.h, R3). It is cut at the first record in it that
 * does not verify, header or value: writes of a power cut reach the disk in any order, so nothing
 * behind that place was ever answered as durable. What lies before a claim is never cut: what does not
 * verify there is damage, is reported, and is left as it is.
 */
#include "kv/recover.h"

#include <errno.h>
#include <stdlib.h>

/* What the records of a segment claim: how far it is synced, and whether the ones before it are. */
struct claims {
    uint64_t synced;
    bool earlier;
};

static int claim(void *ctx, struct segment_walker *walker, const struct record *record,
                 const uint8_t *key, const uint8_t *value)
{
    struct claims *claims = ctx;

    (void)walker;
    (void)key;
    (void)value;
    if ((uint64_t)record->synced * 8 > claims->synced)
        claims->synced = (uint64_t)record->synced * 8;
    claims->earlier = claims->earlier || record->earlier_synced;
    return record->kind != RECORD_END;
}

/* The first place where header or value do not verify, or the end; whether the segment ends as it
 * should. */
struct verified {
    uint64_t end;
    bool sealed;
};

static int verified(void *ctx, struct segment_walker *walker, const struct record *record,
                    const uint8_t *key, const uint8_t *value)
{
    struct verified *verified = ctx;

    (void)key;
    (void)value;
    verified->end = walker->next;
    verified->sealed = record->kind == RECORD_END;
    return !verified->sealed;
}

static int drop_segment(struct namespace *ns, struct segment *segment)
{
    char path[PATH_LEN];

    ns->cut_bytes += segment->size;
    segment_path(ns, segment->id, "seg", path);
    segment_retire(ns, segment);
    return ns->store->io->unlink(ns->store->io, path);
}

/* Bytes that were written and are cut: not the zeros that were there before. */
static int count_cut(struct namespace *ns, const struct segment *segment, int fd, uint64_t from)
{
    uint8_t data[4096];
    uint64_t last = from;

    for (uint64_t at = from; at < segment->size;) {
        ssize_t n = ns->store->io->read(ns->store->io, fd, data, sizeof(data), at);

        if (n <= 0)
            return (int)n;
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != 0)
                last = at + (uint64_t)i + 1;
        at += (uint64_t)n;
    }
    ns->cut_bytes += last - from;
    return 0;
}

static int cut_segment(struct namespace *ns, struct segment *segment, uint64_t offset)
{
    const struct io *io = ns->store->io;
    int fd = segment_hold(ns, segment), failed;

    if (fd < 0)
        return fd;
    failed = count_cut(ns, segment, fd, offset);
    if (failed == 0)
        failed = io->truncate(io, fd, offset);
    if (failed == 0)
        segment->size = segment->written = segment->allocated = offset;
    segment_release(segment);
    return failed;
}

static int cut(struct namespace *ns, uint32_t at, uint64_t offset)
{
    const struct io *io = ns->store->io;
    struct segment *segment = ns->segments[at];
    int failed = 0;

    while (failed == 0 && ns->segment_count > at + 1) /* from the end: a half-way cut is one, too */
        failed = drop_segment(ns, ns->segments[ns->segment_count - 1]);
    if (failed == 0)
        failed = io->sync_dir(io, ns->folder);
    if (failed < 0)
        return failed;
    if (offset <= SEGMENT_HEADER && (segment->damaged || segment->size < SEGMENT_HEADER)) {
        failed = drop_segment(ns, segment); /* its making was cut */
        return failed < 0 ? failed : io->sync_dir(io, ns->folder);
    }
    if (offset < segment->size)
        failed = cut_segment(ns, segment, offset);
    return failed;
}

int recover_tail(struct namespace *ns, uint32_t start, uint64_t start_offset)
{
    const struct io *io = ns->store->io;
    struct claims *claims = calloc(ns->segment_count + 1, sizeof(*claims));
    uint32_t from = ns->segment_count;
    bool earlier = false;
    int failed = claims == NULL ? -ENOMEM : 0;

    while (failed == 0 && from > start && !earlier) {
        struct segment *segment = ns->segments[--from];
        uint64_t known =
            from == start && start_offset > SEGMENT_HEADER ? start_offset : SEGMENT_HEADER;
        const struct segment_walk walk = {
            .from = known, .end = segment->size, .flags = SEGMENT_SKIP_DAMAGE, .visit = claim};

        claims[from].synced = known;
        if (segment->next != 0) /* written by a compaction: synced before it was adopted */
            claims[from].synced = segment->size;
        else
            failed = namespace_walk(ns, segment, &walk, &claims[from]);
        earlier = claims[from].earlier;
    }
    for (uint32_t i = from; failed == 0 && i < ns->segment_count; i++) {
        struct segment *segment = ns->segments[i];
        struct verified found = {.end = claims[i].synced};
        const struct segment_walk walk = {.from = claims[i].synced,
                                          .end = segment->size,
                                          .flags = SEGMENT_CHECK_VALUES,
                                          .visit = verified};
        bool last = i + 1 == ns->segment_count;

        if (segment->next != 0 ||
            (claims[i].synced > SEGMENT_HEADER && claims[i].synced > segment->size))
            continue; /* the latter is shorter than it was: damage, met by the replay */
        failed = namespace_walk(ns, segment, &walk, &found);
        failed = failed == -EBADMSG ? 0 : failed;
        if (failed == 0 && found.sealed) /* what follows is space that was claimed and not used */
            segment->size = segment->written = segment->allocated = found.end;
        /* Without a header and all that could follow it: its making was cut. */
        if (failed == 0 && (found.end < segment->size || (!found.sealed && !last) ||
                            (segment->damaged && found.end <= SEGMENT_HEADER)))
            failed = cut(ns, i, found.end);
        else if (failed == 0)
            continue;
        break;
    }
    free(claims);
    /* A server that was killed left it to the kernel: V1. */
    for (uint32_t i = from; failed == 0 && i < ns->segment_count; i++) {
        int fd = segment_hold(ns, ns->segments[i]);

        failed = fd < 0 ? fd : io->sync(io, fd);
        if (fd >= 0)
            segment_release(ns->segments[i]);
    }
    return failed;
}
