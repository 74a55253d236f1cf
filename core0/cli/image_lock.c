/*
 * image_lock.c - croft.lock: the names that a compose file uses, and the images they stand for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/image.h"
#include "lib/file.h"
#include "lib/json.h"

#define LOCK_MAX ((size_t)1 << 20)

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Writes the members sorted, so that the file does not change with the order of commands. */
static int write_sorted(const char *path, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
    const char **names = calloc(yyjson_mut_obj_size(root) + 1, sizeof(*names));
    size_t count = 0;
    size_t index;
    size_t max;
    yyjson_mut_val *key;
    yyjson_mut_val *value;
    yyjson_mut_val *sorted = yyjson_mut_obj(doc);
    if (names == NULL) {
        return -ENOMEM;
    }
    yyjson_mut_obj_foreach(root, index, max, key, value)
    {
        names[count++] = yyjson_mut_get_str(key);
    }
    qsort(names, count, sizeof(names[0]), by_name);
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = yyjson_mut_obj_get(root, names[i]);
        yyjson_mut_obj_add_val(doc, sorted, names[i], yyjson_mut_val_mut_copy(doc, item));
    }
    free(names);
    yyjson_mut_doc_set_root(doc, sorted);
    size_t len;
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, &len);
    if (text == NULL) {
        return -ENOMEM;
    }
    if (len + 1 > LOCK_MAX) {
        free(text);
        return -EFBIG; /* nobody could read it again */
    }
    text[len] = '\n'; /* in the place of the NUL byte */
    int r = file_write_atomic(path, text, len + 1, 0644);
    free(text);
    return r;
}

int image_lock_write(const char *path, const char *name, const char *id, const char *const *hubs,
                     size_t hub_count, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t len = 0;
    yyjson_doc *old = NULL;
    int r = file_read(path, LOCK_MAX, &text, &len);
    if (r < 0 && r != -ENOENT) {
        return error_set(err, -r, "image.bad-lock", "", "%s: %s", path, strerror(-r));
    }
    if (r == 0) {
        old = json_parse(text, len, LOCK_MAX, "image.bad-lock", err);
        if (old == NULL || !yyjson_is_obj(yyjson_doc_get_root(old))) {
            yyjson_doc_free(old);
            return error_set(err, EBADMSG, "image.bad-lock", "", "%s is no object of names", path);
        }
    }
    yyjson_mut_doc *doc = old != NULL ? yyjson_doc_mut_copy(old, NULL) : yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = old != NULL ? yyjson_mut_doc_get_root(doc) : yyjson_mut_obj(doc);
    yyjson_mut_val *before = yyjson_mut_obj_get(yyjson_mut_obj_get(root, name), "hubs");
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    if (hub_count == 0 && before != NULL) {
        list = yyjson_mut_val_mut_copy(doc, before); /* known already and not said anew */
    }
    for (size_t i = 0; i < hub_count; i++) {
        yyjson_mut_arr_add_strcpy(doc, list, hubs[i]);
    }
    yyjson_mut_obj_remove_key(root, name);
    yyjson_mut_val *entry = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, entry, "id", id);
    yyjson_mut_obj_add_val(doc, entry, "hubs", list);
    yyjson_mut_obj_add_val(doc, root, name, entry);
    r = write_sorted(path, doc, root);
    yyjson_mut_doc_free(doc);
    yyjson_doc_free(old);
    return r < 0 ? error_set(err, -r, "image.write-failed", "", "%s: %s", path, strerror(-r)) : 0;
}
