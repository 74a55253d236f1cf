/*
 * store_follow.c - copies of a namespace elsewhere: what they hold, and what must be kept for them.
 *
 * A copy takes every record in the order of the numbers. A record that is overwritten may be missing: the newer one
 * comes later. A deletion after which nothing came must not be missing, or the copy keeps the key for ever.
 *
 * Invariants
 *  F1  A compaction keeps deletions above the number of every follower that was there when it began.
 *  F2  A follower that came, or began again, while a compaction was under way may have read the old segments and the
 *      new one: it is told to begin anew when that compaction dropped a deletion. From then on its number
 *      is 0, so that the next compaction keeps all, and it is told so once.
 *  F3  Who was away is judged by the descriptor's `compacted_to`: below it deletions were dropped.
 */
#include "kv/store_internal.h"

#include <stdlib.h>

struct store_follower {
    struct namespace *ns;
    struct store_follower *next; /* of the namespace; its lock guards all of this */
    uint64_t number;             /* the copy holds everything up to here */
    uint64_t since;              /* compactions that had begun when it came */
    bool begun;                  /* it has asked */
    bool broken;                 /* it must begin anew */
};

int store_follower_new(struct namespace *ns, struct store_follower **ret)
{
    struct store_follower *follower = calloc(1, sizeof(*follower));

    if (follower == NULL)
        return STORE_NO_MEMORY;
    follower->ns = store_namespace_ref(ns);
    pthread_mutex_lock(&ns->lock);
    follower->since = ns->compactions;
    follower->next = ns->followers;
    ns->followers = follower;
    pthread_mutex_unlock(&ns->lock);
    *ret = follower;
    return 0;
}

void store_follower_free(struct store_follower *follower)
{
    struct namespace *ns;

    if (follower == NULL)
        return;
    ns = follower->ns;
    pthread_mutex_lock(&ns->lock);
    for (struct store_follower **at = &ns->followers; *at != NULL; at = &(*at)->next)
        if (*at == follower) {
            *at = follower->next;
            break;
        }
    pthread_mutex_unlock(&ns->lock);
    free(follower);
    store_namespace_put(ns);
}

bool store_follower_is_gone(struct store_follower *follower)
{
    bool is_gone;

    pthread_mutex_lock(&follower->ns->lock);
    is_gone = follower->ns->gone;
    pthread_mutex_unlock(&follower->ns->lock);
    return is_gone;
}

/* Whether the copy may go on from a number. ns->lock held. */
static bool may_go_on(struct store_follower *follower, uint64_t number)
{
    const struct namespace *ns = follower->ns;

    if (follower->begun && !follower->broken && number >= follower->number) {
        follower->number = number;
        return true;
    }
    /* Above our last number is what we lost in a power cut: the same numbers will be other records. */
    if (number != 0 && (follower->broken || number < ns->d.compacted_to || number > ns->number))
        return false;
    if (number < follower->number) /* compactions that are under way counted on more */
        follower->since = ns->compactions;
    follower->number = number;
    follower->begun = true;
    follower->broken = false;
    return true;
}

int store_follow(struct store_follower *follower, struct store_cursor *cursor, uint32_t max,
                 int (*each)(void *ctx, const struct store_item *item), void *ctx, bool *ret_more)
{
    struct namespace *ns = follower->ns;
    bool goes_on;

    pthread_mutex_lock(&ns->lock);
    goes_on = may_go_on(follower, cursor->number);
    pthread_mutex_unlock(&ns->lock);
    return goes_on ? namespace_scan_all(ns, cursor, max, each, ctx, ret_more) : STORE_STALE_CURSOR;
}

uint64_t followers_hold(const struct namespace *ns)
{
    uint64_t lowest = UINT64_MAX;

    for (const struct store_follower *f = ns->followers; f != NULL; f = f->next)
        if (f->number < lowest)
            lowest = f->number;
    return lowest;
}

void followers_break(struct namespace *ns, uint64_t since, uint64_t below)
{
    for (struct store_follower *f = ns->followers; f != NULL; f = f->next)
        if (f->since >= since && f->number < below && f->begun) {
            f->broken = true;
            f->number = 0;
        }
}
