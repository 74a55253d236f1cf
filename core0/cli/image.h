/*
 * image.h - what the files behind `croft image` share.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/verbs.h"
#include "lib/buffer.h"
#include "lib/crypto/hash.h"
#include "lib/error.h"
#include "lib/image/tree.h"

/* ---- image_stream.c: bytes of a file or a part of one, unpacked (gzip, zstd or as they are) and hashed on both sides ---- */
struct image_stream;

/* Reads `size` bytes of fd from `offset`. The descriptor stays the caller's. */
int image_stream_new(int fd, uint64_t offset, uint64_t size, struct image_stream **ret_stream);
void image_stream_free(struct image_stream *stream);
ssize_t image_stream_read(void *stream, void *data, size_t len); /* a tar_read_fn */
/* Reads the rest, then gives SHA-256 of the packed and the unpacked bytes. */
int image_stream_finish(struct image_stream *stream, uint8_t ret_packed[SHA256_SIZE],
                        uint8_t ret_unpacked[SHA256_SIZE]);

/* ---- image_source.c: named blobs in a folder or in an archive ---- */
struct image_source;

int image_source_open(const char *path, bool archive, struct image_source **ret_source,
                      struct error *err);
void image_source_free(struct image_source *source);
/* A descriptor (the caller's) and where the blob lies in it. */
int image_source_blob(struct image_source *source, const char *name, int *ret_fd,
                      uint64_t *ret_offset, uint64_t *ret_size, struct error *err);
int image_source_read(struct image_source *source, const char *name, size_t max, char **ret_data,
                      size_t *ret_len, struct error *err);

/* ---- image_spool.c: objects on their way into a hub's folder ---- */
struct image_spool;

/* What was kept is moved into place by _publish; anything else vanishes with _free. */
int image_spool_new(const char *hub, struct image_spool **ret_spool, struct error *err);
void image_spool_free(struct image_spool *spool);
typedef ssize_t image_content_fn(void *source, void *data, size_t len, struct error *err);
/* Reads one file's content: fills size, digest and, for a small one, content of the inode. */
int image_spool_file(struct image_spool *spool, image_content_fn *read, void *source,
                     struct tree_inode *inode, struct error *err);
struct image_totals {
    uint64_t objects;
    uint64_t new_objects;
    uint64_t bytes; /* of the objects and the metadata, unpacked: what a node needs */
};
/* Moves the objects that the tree names, then the metadata, then the configuration into the hub. */
int image_spool_publish(struct image_spool *spool, const struct tree *tree,
                        const struct buffer *metadata, const char *metadata_digest,
                        const struct buffer *config, const char *id,
                        struct image_totals *ret_totals, struct error *err);

/* ---- image_composefs.c ---- */
/* Writes the tree as a composefs metadata file (deterministic) and gives its fs-verity digest. */
int image_composefs(struct tree *tree, struct buffer *out, uint8_t ret_digest[VERITY_DIGEST_SIZE],
                    struct error *err);

/* ---- image_layers.c ---- */
/* Puts a tar stream onto the tree. plain: names that look like whiteouts are files. */
int image_layer_apply(struct tree *tree, struct image_spool *spool, struct image_stream *stream,
                      bool plain, struct error *err);
int image_folder_apply(struct tree *tree, struct image_spool *spool, const char *path,
                       struct error *err);

/* ---- image_lock.c: croft.lock, {"name":{"id":…,"hubs":[…]}} ---- */
int image_lock_write(const char *path, const char *name, const char *id, const char *const *hubs,
                     size_t hub_count, struct error *err);

/* ---- verbs ---- */
int image_run_convert(struct cli *cli, struct error *err);
int image_run_push(struct cli *cli, struct error *err);
int image_run_show(struct cli *cli, struct error *err);
int image_run_verify(struct cli *cli, struct error *err);
