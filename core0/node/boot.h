/*
 * boot.h - what noded needs of /run/croft/boot.json (docs/contracts.md) and the join token.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/grid/message.h"

#define BOOT_RELAYS_MAX 8

struct boot {
    uint8_t boot_id[32]; /* 16 bytes, then zeros */
    uint64_t farm;       /* 0: none */
    unsigned run_mode;   /* 0 prod, 1 test, 2 dev */
    char *chain;         /* URLs separated by commas; NULL: none */
    uint64_t chain_id;   /* 0: none */
    uint8_t registry[20];
    bool has_registry;
    char *relays[BOOT_RELAYS_MAX];
    size_t relay_count;
    char *address;       /* croft.address; NULL: none */
    char *trust;         /* rpc, quorum, qbft: says which block is final */
    struct error failed; /* first of "errors": the node does not register */
};

int boot_read(const char *path, struct boot *ret_boot, struct error *err);
void boot_done(struct boot *boot);
/* The key in a token file. 1: read, 0: there is none, -errno with join.bad-token. */
int boot_read_token(const char *path, uint8_t ret_key[32], struct error *err);
/* What the build says about the image that runs: SHA-256 in hex (docs/formats.md, section 12). 1: read, 0: there is none (not
 * booted from an image), -errno with node.bad-image. */
int boot_read_image_digest(const char *path, uint8_t ret_digest[32], struct error *err);
