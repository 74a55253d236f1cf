/*
 * image_composefs.c - the tree of an image as a composefs metadata file, by libcomposefs.
 */
#include <errno.h>
#include <libcomposefs/lcfs-writer.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "cli/image.h"
#include "lib/crypto/text.h"

static int set_content(struct lcfs_node_s *node, struct tree_inode *inode)
{
    if (inode->size == 0) {
        return 0;
    }
    if (inode->size <= TREE_INLINE_MAX) {
        return lcfs_node_set_content(node, inode->content, (size_t)inode->size);
    }
    char hex[VERITY_DIGEST_TEXT];
    char payload[VERITY_DIGEST_TEXT + 2];
    hex_encode(inode->digest, VERITY_DIGEST_SIZE, hex);
    snprintf(payload, sizeof(payload), "%.2s/%s", hex, hex + 2);
    lcfs_node_set_fsverity_digest(node, inode->digest);
    return lcfs_node_set_payload(node, payload);
}

static int set_inode(struct lcfs_node_s *node, struct tree_inode *inode)
{
    struct timespec mtime = {.tv_sec = (time_t)inode->mtime, .tv_nsec = (long)inode->mtime_nsec};
    if (lcfs_node_try_set_mode(node, inode->mode) < 0) {
        return -1;
    }
    lcfs_node_set_uid(node, inode->uid);
    lcfs_node_set_gid(node, inode->gid);
    lcfs_node_set_mtime(node, &mtime);
    if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode)) {
        lcfs_node_set_rdev64(node, makedev(inode->major, inode->minor));
    }
    if (S_ISLNK(inode->mode) || S_ISREG(inode->mode)) {
        lcfs_node_set_size(node, inode->size);
    }
    for (size_t i = 0; i < inode->xattr_count; i++) {
        const struct tar_xattr *xattr = &inode->xattrs[i];
        if (lcfs_node_set_xattr(node, xattr->name, (const char *)xattr->value, xattr->len) < 0) {
            return -1;
        }
    }
    if (S_ISLNK(inode->mode)) {
        return lcfs_node_set_symlink_payload(node, inode->target);
    }
    return S_ISREG(inode->mode) ? set_content(node, inode) : 0;
}

/* A node and all below it; NULL: errno says why. */
static struct lcfs_node_s *build(struct tree_node *from)
{
    struct lcfs_node_s *node = lcfs_node_new();
    if (node == NULL) {
        return NULL;
    }
    if (!S_ISDIR(from->inode->mode) && from->inode->user != NULL) {
        /* The first name of an inode, in the order of the walk, holds it; the others are links to it. */
        lcfs_node_make_hardlink(node, from->inode->user);
        return node;
    }
    from->inode->user = node;
    int r = set_inode(node, from->inode);
    for (size_t i = 0; r == 0 && i < from->child_count; i++) {
        struct lcfs_node_s *child = build(from->children[i]);
        r = child == NULL ? -1 : lcfs_node_add_child(node, child, from->children[i]->name);
        if (r < 0 && child != NULL) {
            lcfs_node_unref(child);
        }
    }
    if (r < 0) {
        int saved = errno;
        lcfs_node_unref(node);
        errno = saved;
        return NULL;
    }
    return node;
}

static ssize_t write_buffer(void *file, void *data, size_t len)
{
    int r = buffer_append(file, data, len);
    if (r < 0) {
        errno = -r;
        return -1;
    }
    return (ssize_t)len;
}

int image_composefs(struct tree *tree, struct buffer *out, uint8_t ret_digest[VERITY_DIGEST_SIZE],
                    struct error *err)
{
    struct lcfs_write_options_s options = {
        .format = LCFS_FORMAT_EROFS,
        .version = LCFS_DEFAULT_VERSION_MIN,
        .max_version = LCFS_DEFAULT_VERSION_MAX,
        .digest_out = ret_digest,
        .file = out,
        .file_write_cb = write_buffer,
    };
    struct lcfs_node_s *root = build(tree->root);
    int r = root == NULL ? -1 : lcfs_write_to(root, &options);
    int saved = errno;
    if (root != NULL) {
        lcfs_node_unref(root);
    }
    if (r < 0) {
        return error_set(err, saved != 0 ? saved : EIO, "image.bad-files", "",
                         "the image's files cannot be described: %s", strerror(saved));
    }
    return 0;
}
