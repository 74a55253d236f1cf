/*
 * challenge.c - see challenge.h.
 */
#include "challenge.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hash.h"

struct entry {
    struct grid_challenge challenge;
    uint64_t end; /* monotonic; 0: free */
    char peer[CHALLENGE_PEER_MAX];
};

struct challenge_store {
    struct entry entries[CHALLENGES_MAX];
};

int challenge_store_new(struct challenge_store **ret_store)
{
    struct challenge_store *store = calloc(1, sizeof(*store));

    if (store == NULL)
        return -ENOMEM;
    *ret_store = store;
    return 0;
}

void challenge_store_free(struct challenge_store *store)
{
    free(store);
}

/* A free place, else the peer's oldest when it has its share, else the oldest of all. */
static struct entry *place_for(struct challenge_store *store, const char *peer, uint64_t now)
{
    struct entry *free_one = NULL, *oldest = NULL, *own = NULL;
    unsigned count = 0;

    for (size_t i = 0; i < CHALLENGES_MAX; i++) {
        struct entry *entry = &store->entries[i];

        if (entry->end <= now) {
            free_one = free_one != NULL ? free_one : entry;
            continue;
        }
        if (oldest == NULL || entry->end < oldest->end)
            oldest = entry;
        if (strcmp(entry->peer, peer) == 0) {
            count++;
            if (own == NULL || entry->end < own->end)
                own = entry;
        }
    }
    if (count >= CHALLENGES_PER_PEER)
        return own;
    return free_one != NULL ? free_one : oldest;
}

void challenge_give(struct challenge_store *store, const char *peer, uint64_t now,
                    uint64_t now_unix, struct grid_challenge *challenge)
{
    struct entry *entry = place_for(store, peer, now);

    crypto_random(challenge->nonce, sizeof(challenge->nonce));
    challenge->expires = now_unix + CHALLENGE_LIFE_US / 1000000;
    entry->challenge = *challenge;
    entry->end = now + CHALLENGE_LIFE_US;
    snprintf(entry->peer, sizeof(entry->peer), "%s", peer);
}

int challenge_take(struct challenge_store *store, const uint8_t nonce[GRID_ACCESS_NONCE_SIZE],
                   uint64_t now, struct grid_challenge *ret_challenge)
{
    for (size_t i = 0; i < CHALLENGES_MAX; i++) {
        struct entry *entry = &store->entries[i];

        if (entry->end <= now ||
            !crypto_equal(entry->challenge.nonce, nonce, GRID_ACCESS_NONCE_SIZE))
            continue;
        *ret_challenge = entry->challenge;
        entry->end = 0;
        return 0;
    }
    return -ENOENT;
}
