/*
 * farm.h - what verbs of farms share.
 */
#pragma once

#include "cli/grid.h"

#define FARM_TOKEN_TEXT 65

struct farm_token {
    char text
        [FARM_TOKEN_TEXT]; /* the private key: shown once by `farm token`, never by `farm media`. Wipe it */
    uint8_t address[20];
    uint64_t uses, expires;
};

/* Who made the farm; all zero when there is none. */
int farm_read_farmer(const struct grid *grid, uint64_t farm, uint8_t ret_farmer[20],
                     struct error *err);

/* Makes a key and lists its address at the registry; --uses and --hours of the command line. */
int farm_token_make(const struct cli *cli, const struct grid *grid, uint64_t farm,
                    struct farm_token *ret_token, struct error *err);
#define FARM_TOKEN_OPTIONS                                                                         \
    {"--uses", "N", "how many machines may join with it (1)"},                                     \
    {                                                                                              \
        "--hours", "N", "how long it may be used (168)"                                            \
    }

/* verbs_media.c */
int farm_media(struct cli *cli, struct error *err);
extern const struct verb_option farm_media_options[];
