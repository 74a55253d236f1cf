/*
 * erofs.c - lists the objects of a composefs metadata file: see erofs.h. Layout: the kernel's fs/erofs/erofs_fs.h.
 */
#include "lib/image/erofs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/crypto/text.h"

#define SUPER_AT 1024
#define SUPER_SIZE 128
#define MAGIC 0xe0f5e1e2u
#define SLOT 32 /* an inode's number counts slots of 32 bytes */
#define XATTR_HEADER 12
#define XATTR_TRUSTED 4 /* name index of "trusted." */

enum { LAYOUT_PLAIN = 0, LAYOUT_INLINE = 2, LAYOUT_CHUNKS = 4 };

struct walk {
    const uint8_t *data;
    size_t len;
    uint64_t block;
    uint64_t meta_at;
    uint64_t xattr_at;
    uint8_t *seen; /* a bit per slot */
    uint64_t slots;
    uint64_t *todo; /* folders to visit */
    size_t todo_count;
    size_t todo_capacity;
    struct erofs_object *objects;
    size_t count;
    size_t capacity;
};

struct inode {
    uint64_t at;
    uint64_t body; /* where xattrs begin */
    uint64_t xattr_len;
    uint64_t size;
    uint32_t raw_block;
    uint16_t mode;
    unsigned layout;
};

static uint64_t le(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static int bad(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "image.bad-metadata", "convert the image again",
                     "the image's metadata: %s", what);
}

/* len bytes at an offset, or NULL when they are not all there. */
static const uint8_t *span(const struct walk *walk, uint64_t at, uint64_t len)
{
    return at <= walk->len && len <= walk->len - at ? walk->data + at : NULL;
}

static int grow(void **array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity)
        return 0;
    size_t wanted = *capacity == 0 ? 256 : *capacity * 2;
    void *grown = realloc(*array, wanted * size);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *capacity = wanted;
    return 0;
}

static int inode_read(const struct walk *walk, uint64_t nid, struct inode *ret_inode,
                      struct error *err)
{
    struct inode inode = {.at = walk->meta_at + nid * SLOT};
    const uint8_t *at = nid < walk->slots ? span(walk, inode.at, SLOT) : NULL;
    if (at == NULL)
        return bad(err, "an inode lies outside");
    uint64_t format = le(at, 2);
    bool extended = (format & 1) != 0;
    uint64_t size = extended ? 64 : 32;
    if (span(walk, inode.at, size) == NULL)
        return bad(err, "an inode is cut off");
    inode.layout = (unsigned)(format >> 1) & 7;
    inode.mode = (uint16_t)le(at + 4, 2);
    inode.size = le(at + 8, extended ? 8 : 4);
    inode.raw_block = (uint32_t)le(at + 16, 4);
    inode.body = inode.at + size;
    uint64_t icount = le(at + 2, 2);
    inode.xattr_len = icount == 0 ? 0 : XATTR_HEADER + (icount - 1) * 4;
    if (span(walk, inode.body, inode.xattr_len) == NULL)
        return bad(err, "attributes are cut off");
    if (inode.layout != LAYOUT_PLAIN && inode.layout != LAYOUT_INLINE &&
        inode.layout != LAYOUT_CHUNKS)
        return bad(err, "an inode is compressed");
    *ret_inode = inode;
    return 0;
}

/* One attribute at `at` with `room` bytes left. Returns its padded size or 0; fills digest and redirect if it is theirs. */
struct found {
    const uint8_t *digest;
    bool metacopy;
    const uint8_t *redirect;
    size_t redirect_len;
};

static uint64_t xattr_read(const struct walk *walk, uint64_t at, uint64_t room, struct found *found)
{
    const uint8_t *entry = room >= 4 ? span(walk, at, 4) : NULL;
    if (entry == NULL)
        return 0;
    uint64_t name_len = entry[0];
    uint64_t value_len = le(entry + 2, 2);
    uint64_t size = 4 + name_len + value_len;
    entry = size <= room ? span(walk, at, size) : NULL;
    if (entry == NULL)
        return 0;
    const uint8_t *name = entry + 4;
    const uint8_t *value = name + name_len;
    if (entry[1] == XATTR_TRUSTED && name_len == 16 && memcmp(name, "overlay.metacopy", 16) == 0) {
        found->metacopy = true;
        /* struct ovl_metacopy: version 0, length, flags, algorithm (1: SHA-256), digest. */
        if (value_len == 36 && value[0] == 0 && value[1] == 36 && value[3] == 1)
            found->digest = value + 4;
    } else if (entry[1] == XATTR_TRUSTED && name_len == 16 &&
               memcmp(name, "overlay.redirect", 16) == 0) {
        found->redirect = value;
        found->redirect_len = (size_t)value_len;
    }
    return (size + 3) & ~(uint64_t)3;
}

static int add_object(struct walk *walk, const struct inode *inode, struct error *err)
{
    struct found found = {0};
    if (inode->xattr_len > 0) {
        uint64_t end = inode->body + inode->xattr_len;
        uint64_t shared = walk->data[inode->body + 4];
        uint64_t at = inode->body + XATTR_HEADER;
        if (at + shared * 4 > end)
            return bad(err, "shared attributes are cut off");
        for (uint64_t i = 0; i < shared; i++, at += 4) {
            uint64_t shared_at = walk->xattr_at + le(walk->data + at, 4) * 4;
            if (xattr_read(walk, shared_at, shared_at < walk->len ? walk->len - shared_at : 0,
                           &found) == 0)
                return bad(err, "a shared attribute lies outside");
        }
        while (at < end) {
            uint64_t step = xattr_read(walk, at, end - at, &found);
            if (step == 0)
                return bad(err, "an attribute is cut off");
            at += step;
        }
    }
    if (!found.metacopy && found.redirect == NULL)
        return 0; /* empty, or its content lies in the metadata itself */
    if (found.digest == NULL)
        return bad(err, "a file names no digest");
    char hex[VERITY_DIGEST_TEXT];
    char path[VERITY_DIGEST_TEXT + 2];
    hex_encode(found.digest, VERITY_DIGEST_SIZE, hex);
    int path_len = snprintf(path, sizeof(path), "/%.2s/%s", hex, hex + 2);
    if (found.redirect == NULL || found.redirect_len != (size_t)path_len ||
        memcmp(found.redirect, path, (size_t)path_len) != 0)
        return bad(err, "a file's object is not named by its digest");
    if (walk->count >= EROFS_OBJECTS_MAX)
        return bad(err, "too many files");
    if (grow((void **)&walk->objects, &walk->capacity, walk->count, sizeof(*walk->objects)) < 0)
        return error_set(err, ENOMEM, "image.no-memory", "",
                         "no memory for an image of that many files");
    memcpy(walk->objects[walk->count].digest, found.digest, VERITY_DIGEST_SIZE);
    walk->objects[walk->count++].size = inode->size;
    return 0;
}

static int visit(struct walk *walk, uint64_t nid, struct error *err)
{
    if (nid >= walk->slots)
        return bad(err, "an inode lies outside");
    if (walk->seen[nid / 8] & (1u << (nid % 8)))
        return 0;
    walk->seen[nid / 8] |= (uint8_t)(1u << (nid % 8));
    struct inode inode = {0};
    int r = inode_read(walk, nid, &inode, err);
    if (r < 0)
        return r;
    if (S_ISREG(inode.mode))
        return add_object(walk, &inode, err);
    if (!S_ISDIR(inode.mode))
        return 0;
    if (grow((void **)&walk->todo, &walk->todo_capacity, walk->todo_count, sizeof(*walk->todo)) < 0)
        return error_set(err, ENOMEM, "image.no-memory", "",
                         "no memory for an image of that many folders");
    walk->todo[walk->todo_count++] = nid;
    return 0;
}

static int read_entries(struct walk *walk, const uint8_t *block, uint64_t len, struct error *err)
{
    uint64_t names = len >= 12 ? le(block + 8, 2) : 0;
    if (names < 12 || names % 12 != 0 || names > len)
        return bad(err, "a folder's entries are malformed");
    for (uint64_t at = 0; at < names; at += 12) {
        uint64_t name = le(block + at + 8, 2);
        uint64_t end = at + 12 < names ? le(block + at + 20, 2) : len;
        if (name < names || name >= len || end <= name || end > len)
            return bad(err, "a folder's entry has no name");
        int r = visit(walk, le(block + at, 8), err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_folder(struct walk *walk, uint64_t nid, struct error *err)
{
    struct inode inode = {0};
    int r = inode_read(walk, nid, &inode, err);
    if (r < 0)
        return r;
    if (inode.layout == LAYOUT_CHUNKS || inode.size > walk->len)
        return bad(err, "a folder's data is malformed");
    uint64_t blocks = (inode.size + walk->block - 1) / walk->block;
    for (uint64_t i = 0; r == 0 && i < blocks; i++) {
        uint64_t len =
            inode.size - i * walk->block < walk->block ? inode.size - i * walk->block : walk->block;
        uint64_t at = inode.layout == LAYOUT_INLINE && i + 1 == blocks
                          ? inode.body + inode.xattr_len
                          : ((uint64_t)inode.raw_block + i) * walk->block;
        const uint8_t *data = span(walk, at, len);
        r = data == NULL ? bad(err, "a folder's data lies outside")
                         : read_entries(walk, data, len, err);
    }
    return r;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct erofs_object *)a)->digest,
                  ((const struct erofs_object *)b)->digest, VERITY_DIGEST_SIZE);
}

/* Sorts and keeps each object once. */
static int settle(struct walk *walk, struct error *err)
{
    size_t kept = 0;
    if (walk->count > 0)
        qsort(walk->objects, walk->count, sizeof(*walk->objects), by_digest);
    for (size_t i = 0; i < walk->count; i++) {
        if (kept > 0 && by_digest(&walk->objects[kept - 1], &walk->objects[i]) == 0) {
            if (walk->objects[kept - 1].size != walk->objects[i].size)
                return bad(err, "an object has two sizes");
            continue;
        }
        walk->objects[kept++] = walk->objects[i];
    }
    walk->count = kept;
    return 0;
}

int erofs_objects(const uint8_t *data, size_t len, struct erofs_object **ret_objects,
                  size_t *ret_count, struct error *err)
{
    struct walk walk = {.data = data, .len = len};
    const uint8_t *super = span(&walk, SUPER_AT, SUPER_SIZE);
    if (super == NULL || le(super, 4) != MAGIC)
        return bad(err, "it is no EROFS file system");
    if (super[12] < 9 || super[12] > 16)
        return bad(err, "its block size is impossible");
    walk.block = (uint64_t)1 << super[12];
    walk.meta_at = le(super + 40, 4) * walk.block;
    walk.xattr_at = le(super + 44, 4) * walk.block;
    walk.slots = walk.meta_at < len ? (len - walk.meta_at) / SLOT : 0;
    walk.seen = calloc(1, (size_t)walk.slots / 8 + 1);
    int r = walk.seen == NULL ? error_set(err, ENOMEM, "image.no-memory", "", "no memory") : 0;
    if (r == 0)
        r = visit(&walk, le(super + 14, 2), err);
    while (r == 0 && walk.todo_count > 0)
        r = read_folder(&walk, walk.todo[--walk.todo_count], err);
    if (r == 0)
        r = settle(&walk, err);
    free(walk.seen);
    free(walk.todo);
    if (r < 0) {
        free(walk.objects);
        return r;
    }
    *ret_objects = walk.objects;
    *ret_count = walk.count;
    return 0;
}
