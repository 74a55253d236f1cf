/*
 * tree.c - the files of an image in memory: see tree.h.
 */
#include "lib/image/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define LINKS_MAX 40 /* symbolic links followed on the way to one name, as the kernel does */

static int no_memory(struct error *err)
{
    return error_set(err, ENOMEM, "image.no-memory", "", "no memory for the image's files");
}

static void inode_unref(struct tree_inode *inode)
{
    if (inode == NULL || --inode->refs > 0)
        return;
    for (size_t i = 0; i < inode->xattr_count; i++) {
        free(inode->xattrs[i].name);
        free(inode->xattrs[i].value);
    }
    free(inode->xattrs);
    free(inode->target);
    free(inode);
}

/* Position of a name among the children: where it is, or where it belongs. */
static size_t child_index(const struct tree_node *folder, const char *name, size_t len,
                          bool *ret_found)
{
    size_t low = 0;
    size_t high = folder->child_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *other = folder->children[middle]->name;
        int order = strncmp(other, name, len);
        if (order == 0 && other[len] != '\0')
            order = 1;
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

static struct tree_node *child_of(const struct tree_node *folder, const char *name, size_t len)
{
    bool found;
    size_t index = child_index(folder, name, len, &found);
    return found ? folder->children[index] : NULL;
}

struct tree_node *tree_child(const struct tree_node *folder, const char *name)
{
    return child_of(folder, name, strlen(name));
}

/* Frees a node that hangs on nothing, and all below it. Depth is bounded by TAR_DEPTH_MAX and the links followed. */
static void node_free(struct tree *tree, struct tree_node *node)
{
    if (node == NULL)
        return;
    for (size_t i = 0; i < node->child_count; i++)
        node_free(tree, node->children[i]);
    inode_unref(node->inode);
    free(node->children);
    free(node->name);
    free(node);
    tree->nodes--;
}

static void node_remove(struct tree *tree, struct tree_node *node)
{
    struct tree_node *parent = node->parent;
    bool found;
    size_t index = child_index(parent, node->name, strlen(node->name), &found);
    memmove(&parent->children[index], &parent->children[index + 1],
            (--parent->child_count - index) * sizeof(struct tree_node *));
    node_free(tree, node);
}

static struct tree_inode *inode_new(uint32_t mode)
{
    struct tree_inode *inode = calloc(1, sizeof(*inode));
    if (inode != NULL) {
        inode->refs = 1;
        inode->mode = mode;
    }
    return inode;
}

/* Takes the inode over, also when it fails. NULL: no memory. */
static struct tree_node *node_add(struct tree *tree, struct tree_node *parent, const char *name,
                                  size_t len, struct tree_inode *inode)
{
    struct tree_node *node = calloc(1, sizeof(*node));
    char *copy = strndup(name, len);
    bool room = true;
    if (parent != NULL && parent->child_count == parent->child_capacity) {
        size_t capacity = parent->child_capacity == 0 ? 8 : parent->child_capacity * 2;
        struct tree_node **grown =
            reallocarray(parent->children, capacity, sizeof(struct tree_node *));
        if (grown != NULL) {
            parent->children = grown;
            parent->child_capacity = capacity;
        }
        room = grown != NULL;
    }
    if (node == NULL || copy == NULL || inode == NULL || !room || tree->nodes >= TREE_NODES_MAX) {
        free(node);
        free(copy);
        inode_unref(inode);
        return NULL;
    }
    node->parent = parent;
    node->name = copy;
    node->inode = inode;
    node->layer = tree->layer;
    tree->nodes++;
    if (parent != NULL) {
        bool found;
        size_t index = child_index(parent, name, len, &found);
        memmove(&parent->children[index + 1], &parent->children[index],
                (parent->child_count - index) * sizeof(struct tree_node *));
        parent->children[index] = node;
        parent->child_count++;
    }
    return node;
}

int tree_new(struct tree **ret_tree)
{
    struct tree *tree = calloc(1, sizeof(*tree));
    if (tree == NULL)
        return -ENOMEM;
    tree->root = node_add(tree, NULL, "", 0, inode_new(S_IFDIR | 0755));
    if (tree->root == NULL) {
        free(tree);
        return -ENOMEM;
    }
    *ret_tree = tree;
    return 0;
}

void tree_free(struct tree *tree)
{
    if (tree == NULL)
        return;
    node_free(tree, tree->root);
    free(tree);
}

/*
 * The folder that holds the last part of a clean path, following symbolic links inside the tree as a program in the
 * image would; missing folders are made with 0755. `rest` is what is left of the path before the last part.
 */
static int walk(struct tree *tree, struct tree_node *from, const char *path, size_t len, int *links,
                size_t depth, struct tree_node **ret_folder, struct error *err)
{
    struct tree_node *at = from;
    const char *end = path + len;
    while (path < end) {
        size_t part = strcspn(path, "/");
        if (part > (size_t)(end - path))
            part = (size_t)(end - path);
        if (part == 2 && path[0] == '.' && path[1] == '.') {
            at = at->parent != NULL ? at->parent : at;
        } else if (part > 0 && !(part == 1 && path[0] == '.')) {
            struct tree_node *next = child_of(at, path, part);
            if (next == NULL) {
                if (part > TAR_NAME_MAX)
                    return error_set(err, ENAMETOOLONG, "image.bad-archive", "",
                                     "a name is too long");
                next = node_add(tree, at, path, part, inode_new(S_IFDIR | 0755));
                if (next == NULL)
                    return no_memory(err);
            }
            if (S_ISLNK(next->inode->mode)) {
                const char *target = next->inode->target;
                if (--*links < 0 || depth > LINKS_MAX)
                    return error_set(err, ELOOP, "image.bad-archive", "",
                                     "too many symbolic links on the way to a name");
                int r = walk(tree, target[0] == '/' ? tree->root : at, target, strlen(target),
                             links, depth + 1, &next, err);
                if (r < 0)
                    return r;
            }
            if (!S_ISDIR(next->inode->mode))
                return error_set(err, ENOTDIR, "image.bad-archive", "",
                                 "'%.100s' in the archive lies below a file", path);
            at = next;
            size_t deep = 0;
            for (const struct tree_node *up = at; up != NULL; up = up->parent)
                deep++;
            if (deep > TAR_DEPTH_MAX + 2)
                return error_set(err, ENAMETOOLONG, "image.bad-archive", "",
                                 "folders lie too deep");
        }
        path += part;
        while (path < end && *path == '/')
            path++;
    }
    *ret_folder = at;
    return 0;
}

/* Splits a clean path into its folder in the tree and its last part. */
static int locate(struct tree *tree, const char *path, struct tree_node **ret_folder,
                  const char **ret_name, struct error *err)
{
    const char *slash = strrchr(path, '/');
    int links = LINKS_MAX;
    *ret_name = slash != NULL ? slash + 1 : path;
    return walk(tree, tree->root, path, slash != NULL ? (size_t)(slash - path) : 0, &links, 0,
                ret_folder, err);
}

/* Removes what lower layers put there; what this layer has stays, whatever order its entries come in. */
static void remove_lower(struct tree *tree, struct tree_node *node)
{
    if (node->layer < tree->layer) {
        /* A folder that only came to life as a parent in this layer has children of this layer. */
        for (size_t i = node->child_count; i-- > 0;)
            remove_lower(tree, node->children[i]);
        if (node->child_count == 0)
            node_remove(tree, node);
        return;
    }
    for (size_t i = node->child_count; i-- > 0;)
        remove_lower(tree, node->children[i]);
}

static int take_xattrs(struct tree_inode *inode, const struct tar_entry *entry)
{
    if (entry->xattr_count == 0)
        return 0;
    inode->xattrs = calloc(entry->xattr_count, sizeof(*inode->xattrs));
    if (inode->xattrs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < entry->xattr_count; i++) {
        const struct tar_xattr *from = &entry->xattrs[i];
        /* A user namespace may set no others; security.selinux and the like are of the machine that packed. */
        if (strncmp(from->name, "user.", 5) != 0 && strcmp(from->name, "security.capability") != 0)
            continue;
        struct tar_xattr *to = &inode->xattrs[inode->xattr_count++];
        to->name = strdup(from->name);
        to->value = malloc(from->len + 1);
        to->len = from->len;
        if (to->name == NULL || to->value == NULL)
            return -ENOMEM;
        memcpy(to->value, from->value, from->len);
    }
    return 0;
}

static struct tree_inode *inode_from(const struct tar_entry *entry)
{
    static const uint32_t types[] = {
        [TAR_FILE] = S_IFREG, [TAR_HARDLINK] = S_IFREG, [TAR_SYMLINK] = S_IFLNK,
        [TAR_CHAR] = S_IFCHR, [TAR_BLOCK] = S_IFBLK,    [TAR_FOLDER] = S_IFDIR,
        [TAR_FIFO] = S_IFIFO,
    };
    struct tree_inode *inode =
        inode_new(types[entry->type] | (entry->type == TAR_SYMLINK ? 0777 : entry->mode));
    if (inode == NULL)
        return NULL;
    inode->uid = entry->uid;
    inode->gid = entry->gid;
    inode->mtime = entry->mtime;
    inode->mtime_nsec = entry->mtime_nsec;
    inode->major = entry->major;
    inode->minor = entry->minor;
    inode->size = entry->size;
    if (entry->type == TAR_SYMLINK) {
        inode->target = strdup(entry->link);
        inode->size = strlen(entry->link);
    }
    if ((entry->type == TAR_SYMLINK && inode->target == NULL) || take_xattrs(inode, entry) < 0) {
        inode_unref(inode);
        return NULL;
    }
    return inode;
}

static int hardlink_inode(struct tree *tree, const struct tar_entry *entry,
                          struct tree_inode **ret_inode, struct error *err)
{
    struct tree_node *folder;
    const char *name;
    int r = locate(tree, entry->link, &folder, &name, err);
    if (r < 0)
        return r;
    struct tree_node *target = tree_child(folder, name);
    if (target == NULL || S_ISDIR(target->inode->mode))
        return error_set(err, ENOENT, "image.bad-archive", "",
                         "the hard link '%.100s' has no target", entry->path);
    target->inode->refs++;
    *ret_inode = target->inode;
    return 0;
}

int tree_apply(struct tree *tree, const struct tar_entry *entry, bool plain,
               struct tree_node **ret_node, struct error *err)
{
    *ret_node = NULL;
    if (entry->path[0] == '\0') {
        struct tree_inode *inode = inode_from(entry);
        if (inode == NULL)
            return no_memory(err);
        inode_unref(tree->root->inode);
        tree->root->inode = inode;
        return 0;
    }
    struct tree_node *folder;
    const char *name;
    int r = locate(tree, entry->path, &folder, &name, err);
    if (r < 0)
        return r;
    if (!plain && strcmp(name, OPAQUE) == 0) {
        for (size_t i = folder->child_count; i-- > 0;)
            remove_lower(tree, folder->children[i]);
        return 0;
    }
    if (!plain && strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0) {
        struct tree_node *gone = tree_child(folder, name + strlen(WHITEOUT));
        if (gone != NULL)
            remove_lower(tree, gone);
        return 0;
    }
    struct tree_inode *inode = NULL;
    if (entry->type == TAR_HARDLINK)
        r = hardlink_inode(tree, entry, &inode, err);
    else if ((inode = inode_from(entry)) == NULL)
        r = no_memory(err);
    if (r < 0)
        return r;
    struct tree_node *old = tree_child(folder, name);
    if (old != NULL && S_ISDIR(old->inode->mode) && S_ISDIR(inode->mode)) {
        inode_unref(old->inode);
        old->inode = inode;
        old->layer = tree->layer;
        *ret_node = old;
        return 0;
    }
    if (old != NULL)
        node_remove(tree, old);
    *ret_node = node_add(tree, folder, name, strlen(name), inode);
    return *ret_node == NULL ? no_memory(err) : 0;
}
