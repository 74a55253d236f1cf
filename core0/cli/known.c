/*
 * known.c - see known.h.
 */
#include "cli/known.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/eth/address.h"
#include "lib/file.h"

#define FILE_MAX ((size_t)16 << 20)

static bool folder(char path[PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (state != NULL && state[0] != '\0') {
        snprintf(path, PATH_MAX, "%s/croft", state);
    } else if (home != NULL && home[0] != '\0') {
        snprintf(path, PATH_MAX, "%s/.local/state/croft", home);
    } else {
        return false;
    }
    return file_mkdirs(path, 0700) == 0;
}

static void key_of(const struct grid *grid, uint64_t node, const char *project, char key[256])
{
    char contract[ETH_ADDRESS_TEXT], tenant[ETH_ADDRESS_TEXT];
    eth_address_format(grid->reservations, contract);
    eth_address_format(grid->account, tenant);
    snprintf(key, 256, "%" PRIu64 "/%s/%s/%" PRIu64 "/%s", grid->chain_id, contract, tenant, node,
             project);
}

static yyjson_doc *load(const char *path)
{
    cleanup_free char *text = NULL;
    size_t len;
    return file_read(path, FILE_MAX, &text, &len) < 0 ? NULL : yyjson_read(text, len, 0);
}

uint64_t known_find(const struct grid *grid, uint64_t node, const char *project)
{
    char dir[PATH_MAX], path[PATH_MAX + 32], key[256];

    if (!folder(dir)) {
        return 0;
    }
    snprintf(path, sizeof(path), "%s/deployments.json", dir);
    key_of(grid, node, project, key);
    yyjson_doc *doc = load(path);
    uint64_t id = yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(doc), key));
    yyjson_doc_free(doc);
    return id;
}

void known_put(const struct grid *grid, uint64_t node, const char *project, uint64_t id)
{
    char dir[PATH_MAX], path[PATH_MAX + 32], lock_path[PATH_MAX + 32], key[256];
    cleanup_free char *text = NULL;
    cleanup_close int lock = -1;

    if (!folder(dir)) {
        return;
    }
    snprintf(path, sizeof(path), "%s/deployments.json", dir);
    snprintf(lock_path, sizeof(lock_path), "%s/deployments.lock", dir);
    key_of(grid, node, project, key);
    /* Two deployments at once write one after the other. */
    lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0) {
        return;
    }
    yyjson_doc *old = load(path);
    yyjson_mut_doc *doc = old != NULL ? yyjson_doc_mut_copy(old, NULL) : yyjson_mut_doc_new(NULL);
    yyjson_doc_free(old);
    if (doc == NULL) {
        return;
    }
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    if (!yyjson_mut_is_obj(root)) {
        root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
    }
    yyjson_mut_obj_remove_str(root, key);
    yyjson_mut_obj_add_uint(doc, root, key, id);
    size_t len = 0;
    text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, &len);
    yyjson_mut_doc_free(doc);
    if (text != NULL) {
        (void)file_write_atomic(path, text, len, 0600); /* a convenience: --update does without */
    }
}
