/*
 * names.h - what a name means to a container: a service of its networks, nothing, or a question for the world.
 */
#pragma once

#include "dns.h"
#include "state.h"

enum names_verdict {
    NAMES_HERE,   /* answered with the addresses (perhaps none of the asked type) */
    NAMES_NOBODY, /* does not exist, and the world is not asked */
    NAMES_FORWARD,
};

#define NAMES_ADDRESSES_MAX 64

/* `network`: where the question came in; `source`: who asks, so that a container of several networks finds the names
 * of all of them whichever gateway it asks. */
enum names_verdict names_look_up(struct state *state, const struct network *network,
                                 const struct address *source, const struct dns_question *question,
                                 struct address *addresses, size_t max, size_t *ret_count);
