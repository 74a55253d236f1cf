/*
 * tree.h - the files of an image in memory while its layers are put on top of one another.
 *
 * Layers follow the OCI image specification ("Image Layer Filesystem Changeset"): whiteouts, opaque whiteouts, files
 * that replace files. Names are clean (lib/image/tar.h). Contents are elsewhere, named by digest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/image/tar.h"
#include "lib/image/verity.h"

#define TREE_INLINE_MAX 64 /* bytes of a file that stay in the metadata, as mkcomposefs does */
#define TREE_NODES_MAX ((size_t)1 << 21) /* of one image */

struct tree_inode {
    unsigned refs;
    uint32_t mode; /* with the type */
    uint32_t uid;
    uint32_t gid;
    int64_t mtime;
    uint32_t mtime_nsec;
    uint32_t major;
    uint32_t minor;
    uint64_t size;
    char *target; /* of a symbolic link */
    uint8_t digest[VERITY_DIGEST_SIZE];
    uint8_t content[TREE_INLINE_MAX]; /* of a file of 1 to TREE_INLINE_MAX bytes */
    struct tar_xattr *xattrs;
    size_t xattr_count;
    void *user; /* for who walks the tree */
};

struct tree_node {
    struct tree_node *parent;
    char *name;
    struct tree_inode *inode;
    unsigned layer;              /* the last one that had it */
    struct tree_node **children; /* sorted by name, bytewise */
    size_t child_count;
    size_t child_capacity;
};

struct tree {
    struct tree_node *root;
    size_t nodes;
    unsigned layer; /* the one being put on, from 1 */
};

int tree_new(struct tree **ret_tree);
void tree_free(struct tree *tree);
/* Puts an entry into the tree: whiteouts (unless `plain`), folders, files and links. *ret_node: the file that was made, for
 * its digest and content; NULL for a whiteout. image.bad-archive. */
int tree_apply(struct tree *tree, const struct tar_entry *entry, bool plain,
               struct tree_node **ret_node, struct error *err);
/* NULL: no such child. */
struct tree_node *tree_child(const struct tree_node *folder, const char *name);
