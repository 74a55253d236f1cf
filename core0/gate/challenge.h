/*
 * challenge.h - the challenges that were handed out and not used yet.
 *
 * One is good for one call, for the reservation that was named, until its time is over by the monotonic clock: whatever happens to
 * the wall clock, a challenge lives CHALLENGE_LIFE_US and no longer. The store has a fixed size; when it is full, the oldest goes.
 */
#pragma once

#include <stdint.h>

#include "lib/grid/access.h"

#define CHALLENGE_LIFE_US UINT64_C(60000000)
#define CHALLENGES_MAX 4096
#define CHALLENGES_PER_PEER 64 /* further ones take the place of that peer's oldest */
#define CHALLENGE_PEER_MAX 46  /* a numeric address and the NUL */

struct challenge_store;

int challenge_store_new(struct challenge_store **ret_store);
void challenge_store_free(struct challenge_store *store);
/* Fills nonce and expires (now_unix and a life) of *challenge, whose other members are set, and keeps it. now: microseconds. */
void challenge_give(struct challenge_store *store, const char *peer, uint64_t now,
                    uint64_t now_unix, struct grid_challenge *challenge);
/* Takes the challenge of that nonce out. 0, or -ENOENT: never given, used, forgotten or too old. */
int challenge_take(struct challenge_store *store, const uint8_t nonce[GRID_ACCESS_NONCE_SIZE],
                   uint64_t now, struct grid_challenge *ret_challenge);
