// A tar stream is read as its writers meant it, and what climbs, lies or ends early is refused.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "lib/image/tar.h"
#include "lib/image/tree.h"

struct memory {
    uint8_t data[65536];
    size_t len;
    size_t at;
};

static ssize_t memory_read(void *source, void *data, size_t len)
{
    struct memory *memory = source;
    size_t left = memory->len - memory->at;
    /* Odd pieces, as a decoder gives them. */
    size_t take = len < 333 ? len : 333;
    take = take < left ? take : left;
    memcpy(data, memory->data + memory->at, take);
    memory->at += take;
    return (ssize_t)take;
}

static void seal(uint8_t *header)
{
    unsigned sum = 0;
    memset(header + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
}

static void put(struct memory *memory, char type, const char *name, const char *link,
                const char *content, size_t len)
{
    uint8_t *header = memory->data + memory->len;
    memset(header, 0, 512);
    memcpy(header, name, strlen(name) < 100 ? strlen(name) : 100);
    snprintf((char *)header + 100, 8, "%07o", 0640);
    snprintf((char *)header + 108, 8, "%07o", 1000);
    snprintf((char *)header + 116, 8, "%07o", 1001);
    snprintf((char *)header + 124, 12, "%011zo", len);
    snprintf((char *)header + 136, 12, "%011o", 1234567);
    header[156] = (uint8_t)type;
    memcpy(header + 157, link, strlen(link));
    memcpy(header + 257, "ustar\00000", 8);
    seal(header);
    memory->len += 512;
    memcpy(memory->data + memory->len, content, len);
    memory->len += (len + 511) / 512 * 512;
}

static struct memory *memory_new(void)
{
    struct memory *memory = calloc(1, sizeof(*memory));
    assert_non_null(memory);
    return memory;
}

static int next_of(struct memory *memory, struct tar **ret_tar, const struct tar_entry **ret_entry)
{
    struct error err = {0};
    assert_int_equal(tar_new(memory_read, memory, ret_tar), 0);
    int r = tar_next(*ret_tar, ret_entry, &err);
    assert_true((r < 0) == error_is_set(&err));
    return r;
}

static void test_file(void **state)
{
    struct memory *memory = memory_new();
    struct tar *tar;
    const struct tar_entry *entry;
    struct error err = {0};
    char data[64];

    (void)state;
    put(memory, '0', "./a//b/./c", "", "hello", 5);
    put(memory, '5', "/d/", "", "", 0);
    assert_int_equal(next_of(memory, &tar, &entry), 1);
    assert_string_equal(entry->path, "a/b/c");
    assert_int_equal(entry->type, TAR_FILE);
    assert_int_equal(entry->mode, 0640);
    assert_int_equal(entry->uid, 1000);
    assert_int_equal(entry->gid, 1001);
    assert_int_equal(entry->mtime, 1234567);
    assert_int_equal(entry->size, 5);
    assert_int_equal(tar_offset(tar), 512);
    assert_int_equal(tar_read(tar, data, 2, &err), 2);
    /* What was not read is skipped. */
    assert_int_equal(tar_next(tar, &entry, &err), 1);
    assert_string_equal(entry->path, "d");
    assert_int_equal(entry->type, TAR_FOLDER);
    assert_int_equal(tar_next(tar, &entry, &err), 0);
    tar_free(tar);
    free(memory);
}

static void test_pax(void **state)
{
    static const char records[] = "20 path=long/name/x\n30 mtime=1700000000.123456789\n10 size=7\n";
    struct memory *memory = memory_new();
    struct tar *tar;
    const struct tar_entry *entry;

    (void)state;
    /* The lengths above are part of what is tested: wrong ones are refused. */
    put(memory, 'x', "pax", "", "20 path=long/name/xy\n", 21);
    put(memory, '0', "a", "", "", 0);
    assert_int_equal(next_of(memory, &tar, &entry), -EBADMSG);
    tar_free(tar);
    memset(memory, 0, sizeof(*memory));
    put(memory, 'x', "pax", "", records, sizeof(records) - 1);
    put(memory, '0', "short", "", "1234567", 7);
    assert_int_equal(next_of(memory, &tar, &entry), 1);
    assert_string_equal(entry->path, "long/name/x");
    assert_int_equal(entry->mtime, 1700000000);
    assert_int_equal(entry->mtime_nsec, 123456789);
    assert_int_equal(entry->size, 7);
    tar_free(tar);
    memset(memory, 0, sizeof(*memory));
    put(memory, 'x', "pax", "", "25 SCHILY.xattr.user.a=b\n", 25);
    put(memory, '0', "a", "", "", 0);
    assert_int_equal(next_of(memory, &tar, &entry), 1);
    assert_int_equal(entry->xattr_count, 1);
    assert_string_equal(entry->xattrs[0].name, "user.a");
    assert_memory_equal(entry->xattrs[0].value, "b", 1);
    tar_free(tar);
    free(memory);
}

static void test_gnu_long_name(void **state)
{
    char name[301];
    struct memory *memory = memory_new();
    struct tar *tar;
    const struct tar_entry *entry;

    (void)state;
    memset(name, 'n', 200);
    name[150] = '/';
    name[200] = '\0';
    put(memory, 'L', "././@LongLink", "", name, 201);
    put(memory, '0', "cut", "", "", 0);
    assert_int_equal(next_of(memory, &tar, &entry), 1);
    assert_string_equal(entry->path, name);
    tar_free(tar);
    free(memory);
}

static void test_refused(void **state)
{
    static const struct {
        char type;
        const char *name;
        const char *link;
    } bad[] = {
        {'0', "../etc/passwd", ""},
        {'0', "a/../../b", ""},
        {'1', "a", "../b"},
        {'1', "a", ""},
        {'2', "a", ""},
        {'S', "sparse", ""},
        {'Z', "a", ""},
    };
    struct tar *tar;
    const struct tar_entry *entry;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct memory *memory = memory_new();
        put(memory, bad[i].type, bad[i].name, bad[i].link, "", 0);
        assert_int_equal(next_of(memory, &tar, &entry), -EBADMSG);
        tar_free(tar);
        free(memory);
    }
    struct memory *memory = memory_new();
    put(memory, '0', "a", "", "", 0);
    memory->data[0] = 'b'; /* the checksum is wrong now */
    assert_int_equal(next_of(memory, &tar, &entry), -EBADMSG);
    tar_free(tar);
    free(memory);
}

static void test_cut_off(void **state)
{
    struct memory *memory = memory_new();
    struct tar *tar;
    const struct tar_entry *entry;
    struct error err = {0};

    (void)state;
    put(memory, '0', "a", "", "hello", 5);
    memory->len = 512 + 5; /* umoci insert ends its archives like this */
    assert_int_equal(next_of(memory, &tar, &entry), 1);
    assert_int_equal(tar_next(tar, &entry, &err), 0);
    tar_free(tar);
    memory->at = 0;
    memory->len = 512 + 4;
    assert_int_equal(next_of(memory, &tar, &entry), 1);
    assert_int_equal(tar_next(tar, &entry, &err), -EBADMSG);
    tar_free(tar);
    free(memory);
}

/* ---- layers ---- */

static struct tree_node *apply(struct tree *tree, enum tar_type type, const char *path,
                               const char *link)
{
    static struct tar_entry entry;
    struct error err = {0};
    struct tree_node *node;

    memset(&entry, 0, sizeof(entry));
    entry.type = type;
    entry.mode = 0755;
    snprintf(entry.path, sizeof(entry.path), "%s", path);
    snprintf(entry.link, sizeof(entry.link), "%s", link);
    assert_int_equal(tree_apply(tree, &entry, false, &node, &err), 0);
    return node;
}

static struct tree_node *find(struct tree *tree, const char *path)
{
    struct tree_node *node = tree->root;
    char part[256];
    while (node != NULL && *path != '\0') {
        size_t len = strcspn(path, "/");
        snprintf(part, sizeof(part), "%.*s", (int)len, path);
        node = tree_child(node, part);
        path += len + (path[len] == '/');
    }
    return node;
}

static void test_layers(void **state)
{
    struct tree *tree;

    (void)state;
    assert_int_equal(tree_new(&tree), 0);
    tree->layer = 1;
    apply(tree, TAR_FILE, "etc/a", "");
    apply(tree, TAR_FILE, "etc/b", "");
    apply(tree, TAR_FILE, "var/old/x", "");
    apply(tree, TAR_FILE, "var/old/y", "");
    apply(tree, TAR_FOLDER, "usr/lib", "");
    apply(tree, TAR_SYMLINK, "lib", "usr/lib");
    tree->layer = 2;
    assert_null(apply(tree, TAR_FILE, "etc/.wh.a", ""));
    apply(tree, TAR_FILE, "var/old/new",
          ""); /* before the opaque mark: of this layer, so it stays */
    assert_null(apply(tree, TAR_FILE, "var/old/.wh..wh..opq", ""));
    apply(tree, TAR_FILE, "lib/so", "");
    struct tree_node *first = find(tree, "etc/b");
    struct tree_node *link = apply(tree, TAR_HARDLINK, "etc/c", "etc/b");
    assert_ptr_equal(first->inode, link->inode);
    assert_null(find(tree, "etc/a"));
    assert_non_null(find(tree, "etc/b"));
    assert_null(find(tree, "var/old/x"));
    assert_non_null(find(tree, "var/old/new"));
    assert_non_null(find(tree, "usr/lib/so")); /* through the link, as in a running system */
    tree->layer = 3;
    apply(tree, TAR_FILE, "var", ""); /* a file takes the place of a folder */
    assert_int_equal(find(tree, "var")->child_count, 0);
    assert_null(apply(tree, TAR_FILE, ".wh.etc", ""));
    assert_null(find(tree, "etc"));
    tree_free(tree);
}

static void test_layer_errors(void **state)
{
    static struct tar_entry entry;
    struct error err = {0};
    struct tree *tree;
    struct tree_node *node;

    (void)state;
    assert_int_equal(tree_new(&tree), 0);
    tree->layer = 1;
    apply(tree, TAR_SYMLINK, "loop", "loop");
    entry.type = TAR_FILE;
    snprintf(entry.path, sizeof(entry.path), "loop/x");
    assert_int_equal(tree_apply(tree, &entry, false, &node, &err), -ELOOP);
    error_clear(&err);
    entry.type = TAR_HARDLINK;
    snprintf(entry.path, sizeof(entry.path), "y");
    snprintf(entry.link, sizeof(entry.link), "absent");
    assert_int_equal(tree_apply(tree, &entry, false, &node, &err), -ENOENT);
    error_clear(&err);
    apply(tree, TAR_FILE, "file", "");
    entry.type = TAR_FILE;
    snprintf(entry.path, sizeof(entry.path), "file/x");
    assert_int_equal(tree_apply(tree, &entry, false, &node, &err), -ENOTDIR);
    tree_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),          cmocka_unit_test(test_pax),
        cmocka_unit_test(test_gnu_long_name), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut_off),       cmocka_unit_test(test_layers),
        cmocka_unit_test(test_layer_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
