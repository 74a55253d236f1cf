/*
 * unpack.h - a zstd stream from a hub, unpacked with a limit while its fs-verity digest is computed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/image/verity.h"

struct image_unpack;

/* Takes a piece of the unpacked bytes; anything but 0 ends the unpacking with it. */
typedef int image_unpack_fn(const void *data, size_t len, void *user);

/* limit: bytes that may come out at most. `write` may be NULL. */
int image_unpack_new(uint64_t limit, image_unpack_fn *write, void *user,
                     struct image_unpack **ret_unpack);
void image_unpack_free(struct image_unpack *unpack);
/* 0, -EBADMSG: no zstd stream, -EFBIG: beyond the limit, or what write said. */
int image_unpack_feed(struct image_unpack *unpack, const void *data, size_t len);
/* 0, or -EBADMSG: the stream ended in the middle. */
int image_unpack_finish(struct image_unpack *unpack, uint8_t ret_digest[VERITY_DIGEST_SIZE],
                        uint64_t *ret_size);
