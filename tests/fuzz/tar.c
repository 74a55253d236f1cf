// A layer from a stranger: entries put onto a tree, as the converter does.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/tar.h"
#include "lib/image/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t left;
};

static ssize_t input_read(void *source, void *data, size_t len)
{
    struct input *input = source;
    size_t take = len < input->left ? len : input->left;
    memcpy(data, input->data, take);
    input->data += take;
    input->left -= take;
    return (ssize_t)take;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct tar *tar;
    struct tree *tree;
    const struct tar_entry *entry;
    struct error err = {0};
    if (tar_new(input_read, &input, &tar) < 0)
        return 0;
    if (tree_new(&tree) < 0) {
        tar_free(tar);
        return 0;
    }
    for (int count = 0; count < 1000 && tar_next(tar, &entry, &err) == 1; count++) {
        struct tree_node *node;
        uint8_t content[100];
        tree->layer = 1 + (unsigned)count / 3;
        /* What a parser promises: clean names. */
        if (strstr(entry->path, "..") != NULL &&
            (strcmp(entry->path, "..") == 0 || strncmp(entry->path, "../", 3) == 0))
            abort();
        struct error apply_err = {0};
        (void)tree_apply(tree, entry, false, &node, &apply_err);
        (void)tar_read(tar, content, sizeof(content), &err);
        error_clear(&err);
    }
    tree_free(tree);
    tar_free(tar);
    return 0;
}
