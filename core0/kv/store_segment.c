/*
 * store_segment.c - the segments of a namespace: finding, adding and giving up, and walking through one.
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void segment_path(const struct namespace *ns, uint32_t id, const char *ending, char out[PATH_LEN])
{
    snprintf(out, PATH_LEN, "%.490s/%08x.%.4s", ns->folder, id, ending);
}

void index_path(const struct namespace *ns, const char *ending, char out[PATH_LEN])
{
    snprintf(out, PATH_LEN, "%.480s/ns-%08x.%.8s", ns->store->index, ns->d.id, ending);
}

static uint32_t by_id_at(const struct namespace *ns, uint32_t id)
{
    uint32_t low = 0, high = ns->segment_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (ns->by_id[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct segment *namespace_segment(const struct namespace *ns, uint32_t id)
{
    uint32_t at;

    /* Most look-ups are of the newest. */
    if (ns->segment_count > 0 && ns->segments[ns->segment_count - 1]->id == id)
        return ns->segments[ns->segment_count - 1];
    if (ns->moving_to != NULL && ns->moving_to->id == id)
        return ns->moving_to;
    at = by_id_at(ns, id);
    return at < ns->segment_count && ns->by_id[at]->id == id ? ns->by_id[at] : NULL;
}

struct segment *namespace_active(const struct namespace *ns)
{
    struct segment *last = ns->segment_count > 0 ? ns->segments[ns->segment_count - 1] : NULL;

    return last != NULL && !last->sealed ? last : NULL;
}

struct segment *namespace_segment_for(const struct namespace *ns, uint64_t number)
{
    uint32_t low = 0, high = ns->segment_count;

    while (low < high) { /* the first that ends above the number */
        uint32_t middle = low + (high - low) / 2;

        if (ns->segments[middle]->next != 0 && ns->segments[middle]->next <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ns->segment_count ? ns->segments[low] : NULL;
}

int namespace_segment_add(struct namespace *ns, struct segment *segment)
{
    uint32_t at, place;

    if (ns->segment_count == ns->segment_room) {
        uint32_t room = ns->segment_room * 2 + 4;
        struct segment **grown = realloc(ns->segments, room * sizeof(struct segment *));

        if (grown == NULL)
            return -ENOMEM;
        ns->segments = grown;
        grown = realloc(ns->by_id, room * sizeof(struct segment *));
        if (grown == NULL)
            return -ENOMEM;
        ns->by_id = grown;
        ns->segment_room = room;
    }
    at = by_id_at(ns, segment->id);
    memmove(&ns->by_id[at + 1], &ns->by_id[at],
            (ns->segment_count - at) * sizeof(struct segment *));
    ns->by_id[at] = segment;
    for (place = ns->segment_count; place > 0 && ns->segments[place - 1]->first > segment->first;)
        place--;
    memmove(&ns->segments[place + 1], &ns->segments[place],
            (ns->segment_count - place) * sizeof(struct segment *));
    ns->segments[place] = segment;
    ns->segment_count++;
    return 0;
}

void namespace_segment_remove(struct namespace *ns, struct segment *segment)
{
    uint32_t at = by_id_at(ns, segment->id), place = 0;

    while (place < ns->segment_count && ns->segments[place] != segment)
        place++;
    if (place == ns->segment_count)
        return;
    ns->segment_count--;
    memmove(&ns->by_id[at], &ns->by_id[at + 1],
            (ns->segment_count - at) * sizeof(struct segment *));
    memmove(&ns->segments[place], &ns->segments[place + 1],
            (ns->segment_count - place) * sizeof(struct segment *));
}

void segment_retire(struct namespace *ns, struct segment *segment)
{
    namespace_segment_remove(ns, segment);
    segment_put(ns, segment);
}

void segment_put(struct namespace *ns, struct segment *segment)
{
    if (atomic_fetch_sub(&segment->refs, 1) != 1)
        return;
    segment_close(ns->store, segment);
    segment_free(segment);
}

int namespace_walker_init(struct namespace *ns, struct segment *segment, uint64_t from,
                          uint64_t end, struct segment_walker *walker)
{
    int fd = segment_hold(ns, segment), failed;

    if (fd < 0)
        return fd;
    failed = segment_walker_init(walker, ns->store->io, fd, ns->identity, segment->id, from, end);
    if (failed < 0)
        segment_release(segment);
    return failed;
}

void namespace_walker_done(struct segment *segment, struct segment_walker *walker)
{
    segment_walker_done(walker);
    segment_release(segment);
}

int namespace_walk(struct namespace *ns, struct segment *segment, const struct segment_walk *walk,
                   void *ctx)
{
    struct segment_walker walker;
    int ret = namespace_walker_init(ns, segment, walk->from, walk->end, &walker);

    if (ret < 0)
        return ret;
    ret = segment_walk(&walker, walk, ctx);
    namespace_walker_done(segment, &walker);
    return ret;
}
