/*
 * image_spool.c - objects on their way into a hub's folder.
 *
 * Everything is written below a hidden folder inside the hub (so that moving it is a rename) and moved when the image is
 * whole: objects first, then the metadata, the configuration last. A hub never names what it does not hold, and what
 * is not needed in the end is never seen.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "cli/image.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/image/config.h"

#define CHUNK ((size_t)1 << 17)
#define LEVEL 9 /* written once, fetched often */

struct image_spool {
    int hub;
    int folder;
    char name[32]; /* of the folder inside the hub */
    char *hub_path;
    ZSTD_CCtx *zstd;
    struct verity *verity;
    uint8_t in[CHUNK];
    uint8_t out[CHUNK];
};

static int fail(struct error *err, const char *what, int r)
{
    return error_set(err, -r,
                     r == -ENOSPC || r == -EDQUOT ? "image.no-space" : "image.write-failed", "",
                     "%s: %s", what, strerror(-r));
}

void image_spool_free(struct image_spool *spool)
{
    if (spool == NULL) {
        return;
    }
    if (spool->folder >= 0) {
        char path[4096];
        close(spool->folder);
        snprintf(path, sizeof(path), "%s/%s", spool->hub_path, spool->name);
        (void)file_remove_tree(path);
    }
    if (spool->hub >= 0) {
        close(spool->hub);
    }
    ZSTD_freeCCtx(spool->zstd);
    free(spool->verity);
    free(spool->hub_path);
    free(spool);
}

int image_spool_new(const char *hub, struct image_spool **ret_spool, struct error *err)
{
    struct image_spool *spool = calloc(1, sizeof(*spool));
    if (spool == NULL) {
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    }
    spool->hub = -1;
    spool->folder = -1;
    spool->hub_path = strdup(hub);
    spool->zstd = ZSTD_createCCtx();
    spool->verity = malloc(sizeof(*spool->verity));
    int r = spool->hub_path == NULL || spool->zstd == NULL || spool->verity == NULL ? -ENOMEM : 0;
    if (r == 0) {
        ZSTD_CCtx_setParameter(spool->zstd, ZSTD_c_compressionLevel, LEVEL);
        ZSTD_CCtx_setParameter(spool->zstd, ZSTD_c_checksumFlag, 1);
        r = file_mkdirs(hub, 0755);
    }
    if (r == 0 && (spool->hub = open(hub, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        r = -errno;
    }
    snprintf(spool->name, sizeof(spool->name), ".convert-%ld", (long)getpid());
    if (r == 0 && mkdirat(spool->hub, spool->name, 0755) < 0) {
        r = -errno;
    }
    if (r == 0 &&
        (spool->folder = openat(spool->hub, spool->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        r = -errno;
    }
    if (r < 0) {
        image_spool_free(spool);
        return fail(err, hub, r);
    }
    *ret_spool = spool;
    return 0;
}

/* Packs len bytes into fd; `last` ends the frame. */
static int pack(struct image_spool *spool, int fd, const void *data, size_t len, bool last)
{
    ZSTD_inBuffer in = {data, len, 0};
    for (;;) {
        ZSTD_outBuffer out = {spool->out, sizeof(spool->out), 0};
        size_t left =
            ZSTD_compressStream2(spool->zstd, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left)) {
            return -EIO;
        }
        int r = file_write_all(fd, spool->out, out.pos);
        if (r < 0) {
            return r;
        }
        if (last ? left == 0 : in.pos == in.size) {
            return 0;
        }
    }
}

int image_spool_file(struct image_spool *spool, image_content_fn *read, void *source,
                     struct tree_inode *inode, struct error *err)
{
    char hex[VERITY_DIGEST_TEXT];
    cleanup_close int fd = -1;
    int r = 0;
    uint64_t size = 0;
    verity_init(spool->verity);
    ZSTD_CCtx_reset(spool->zstd, ZSTD_reset_session_only);
    for (;;) {
        ssize_t n = read(source, spool->in, sizeof(spool->in), err);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            break;
        }
        for (ssize_t i = 0; i < n && size + (uint64_t)i < TREE_INLINE_MAX; i++) {
            inode->content[size + (uint64_t)i] = spool->in[i];
        }
        size += (uint64_t)n;
        verity_update(spool->verity, spool->in, (size_t)n);
        /* A small file stays in the metadata; until it is known to be larger nothing is written. */
        if (fd < 0 && size > TREE_INLINE_MAX) {
            fd = openat(spool->folder, "next", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
            if (fd < 0) {
                return fail(err, spool->hub_path, -errno);
            }
            if (size > (uint64_t)n) {
                r = pack(spool, fd, inode->content, (size_t)(size - (uint64_t)n), false);
            }
        }
        if (fd >= 0 && r == 0) {
            r = pack(spool, fd, spool->in, (size_t)n, false);
        }
        if (r < 0) {
            return fail(err, spool->hub_path, r);
        }
    }
    inode->size = size;
    verity_final(spool->verity, inode->digest);
    if (fd < 0) {
        return 0;
    }
    r = pack(spool, fd, NULL, 0, true);
    hex_encode(inode->digest, VERITY_DIGEST_SIZE, hex);
    if (r == 0 && renameat(spool->folder, "next", spool->folder, hex) < 0) {
        r = -errno;
    }
    return r < 0 ? fail(err, spool->hub_path, r) : 0;
}

static int make_folder(int at, const char *name)
{
    return mkdirat(at, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Moves one object into place unless it is there. 1: moved, 0: was there. */
static int place(struct image_spool *spool, const char *hex)
{
    char path[96];
    snprintf(path, sizeof(path), "objects/%.2s", hex);
    int r = make_folder(spool->hub, path);
    if (r < 0) {
        return r;
    }
    snprintf(path, sizeof(path), "objects/%.2s/%s.zst", hex, hex + 2);
    if (faccessat(spool->hub, path, F_OK, 0) == 0) {
        return 0;
    }
    return renameat(spool->folder, hex, spool->hub, path) < 0 ? -errno : 1;
}

static int place_node(struct image_spool *spool, const struct tree_node *node,
                      struct image_totals *totals)
{
    const struct tree_inode *inode = node->inode;
    if (S_ISREG(inode->mode) && inode->size > TREE_INLINE_MAX) {
        char hex[VERITY_DIGEST_TEXT];
        hex_encode(inode->digest, VERITY_DIGEST_SIZE, hex);
        /* `done-` marks what was counted: an object of several files counts once. */
        char mark[VERITY_DIGEST_TEXT + 8];
        snprintf(mark, sizeof(mark), "done-%s", hex);
        int fd = openat(spool->folder, mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0) {
            return errno == EEXIST ? 0 : -errno;
        }
        close(fd);
        int r = place(spool, hex);
        if (r < 0) {
            return r;
        }
        totals->objects++;
        totals->new_objects += (uint64_t)r;
        totals->bytes += inode->size;
    }
    for (size_t i = 0; i < node->child_count; i++) {
        int r = place_node(spool, node->children[i], totals);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int place_data(struct image_spool *spool, const char *name, const void *data, size_t len)
{
    cleanup_close int fd =
        openat(spool->folder, "data", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : file_write_all(fd, data, len);
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
    }
    if (r == 0 && renameat(spool->folder, "data", spool->hub, name) < 0) {
        r = -errno;
    }
    return r;
}

int image_spool_publish(struct image_spool *spool, const struct tree *tree,
                        const struct buffer *metadata, const char *metadata_digest,
                        const struct buffer *config, const char *id,
                        struct image_totals *ret_totals, struct error *err)
{
    struct image_totals totals = {.bytes = metadata->len};
    char name[128];
    int r = make_folder(spool->hub, "objects");
    r = r == 0 ? make_folder(spool->hub, "meta") : r;
    r = r == 0 ? make_folder(spool->hub, "images") : r;
    /* Contents before names: after a loss of power no name stands for an empty file. */
    if (r == 0 && syncfs(spool->hub) < 0) {
        r = -errno;
    }
    r = r == 0 ? place_node(spool, tree->root, &totals) : r;
    size_t bound = ZSTD_compressBound(metadata->len);
    void *packed = malloc(bound);
    r = r == 0 && packed == NULL ? -ENOMEM : r;
    if (r == 0) {
        ZSTD_CCtx_reset(spool->zstd, ZSTD_reset_session_only);
        size_t len = ZSTD_compress2(spool->zstd, packed, bound, metadata->data, metadata->len);
        snprintf(name, sizeof(name), "meta/%s.zst", metadata_digest);
        r = ZSTD_isError(len) ? -EIO : place_data(spool, name, packed, len);
    }
    free(packed);
    if (r == 0) {
        snprintf(name, sizeof(name), "images/%s.json", id);
        r = place_data(spool, name, config->data, config->len);
    }
    if (r < 0) {
        return fail(err, spool->hub_path, r);
    }
    *ret_totals = totals;
    return 0;
}
