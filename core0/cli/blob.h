/*
 * blob.h - sealed specifications at a hub: blobs/<SHA-256>.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"

/* Writes to DIR/blobs/<hex> (atomically) or PUTs to URL/blobs/<hex>. hash is the data's SHA-256. */
int blob_put(struct loop *loop, const char *to, const void *data, size_t len,
             const uint8_t hash[32], struct error *err);
