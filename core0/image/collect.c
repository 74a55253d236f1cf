/*
 * collect.c - removes images that nobody needs: configurations first, then what no configuration left names.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "lib/crypto/text.h"
#include "lib/log.h"

struct needed {
    const struct images *images;
    struct erofs_object *objects; /* sorted before it is searched */
    size_t count;
    size_t capacity;
    uint8_t (*metas)[VERITY_DIGEST_SIZE];
    size_t meta_count;
    char (*mounted)[IMAGE_ID_TEXT];
    size_t mounted_count;
    const char *const *keep;
    size_t keep_count;
    uint64_t images_removed;
    uint64_t objects_removed;
    uint64_t bytes_removed;
    int failed; /* an image whose needs are unknown: then no object goes */
};

static DIR *open_folder(const struct images *images, const char *name)
{
    int fd = openat(images->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL && fd >= 0)
        close(fd);
    return dir;
}

int collect_each(const struct images *images, image_fn *fn, void *data)
{
    DIR *dir = open_folder(images, "configs");
    if (dir == NULL)
        return -errno;
    int r = 0;
    for (struct dirent *item; r == 0 && (item = readdir(dir)) != NULL;) {
        char id[IMAGE_ID_TEXT];
        if (strlen(item->d_name) != IMAGE_ID_TEXT - 1 + 5 ||
            strcmp(item->d_name + IMAGE_ID_TEXT - 1, ".json") != 0)
            continue;
        snprintf(id, sizeof(id), "%.64s", item->d_name);
        if (image_id_check(id, NULL) == 0)
            r = fn(id, data);
    }
    closedir(dir);
    return r;
}

static int note_mount(const struct mount_entry *entry, void *data)
{
    struct needed *needed = data;
    void *grown = realloc(needed->mounted, (needed->mounted_count + 1) * sizeof(*needed->mounted));
    if (grown == NULL)
        return -ENOMEM;
    needed->mounted = grown;
    memcpy(needed->mounted[needed->mounted_count++], entry->id, IMAGE_ID_TEXT);
    return 0;
}

static bool is_kept(const struct needed *needed, const char *id)
{
    for (size_t i = 0; i < needed->keep_count; i++)
        if (strcmp(needed->keep[i], id) == 0)
            return true;
    for (size_t i = 0; i < needed->mounted_count; i++)
        if (strcmp(needed->mounted[i], id) == 0)
            return true;
    for (const struct pull *pull = needed->images->pulls; pull != NULL; pull = pull_next(pull))
        if (strcmp(pull_id(pull), id) == 0)
            return true;
    return false;
}

static int add_needs(struct needed *needed, const struct image_config *config)
{
    struct error err = {0};
    void *grown = realloc(needed->metas, (needed->meta_count + 1) * sizeof(*needed->metas));
    if (grown == NULL)
        return -ENOMEM;
    needed->metas = grown;
    memcpy(needed->metas[needed->meta_count++], config->digest, VERITY_DIGEST_SIZE);
    int fd;
    int r = store_meta_open(needed->images, config->digest, &fd, &err);
    if (r < 0)
        return r;
    struct erofs_object *objects;
    size_t count;
    r = store_objects(fd, &objects, &count, &err);
    close(fd);
    if (r < 0)
        return r;
    grown = realloc(needed->objects, (needed->count + count + 1) * sizeof(*objects));
    if (grown != NULL) {
        needed->objects = grown;
        memcpy(needed->objects + needed->count, objects, count * sizeof(*objects));
        needed->count += count;
    }
    free(objects);
    return grown == NULL ? -ENOMEM : 0;
}

static int judge(const char *id, void *data)
{
    struct needed *needed = data;
    struct error err = {0};
    struct image_config config;
    char path[128];
    if (!is_kept(needed, id)) {
        snprintf(path, sizeof(path), "configs/%s.json", id);
        if (unlinkat(needed->images->root_fd, path, 0) == 0)
            needed->images_removed++;
        return 0;
    }
    int r = store_config(needed->images, id, &config, &err);
    if (r == 0) {
        r = add_needs(needed, &config);
        image_config_done(&config);
    }
    if (r < 0)
        needed->failed = r;
    return 0;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct erofs_object *)a)->digest,
                  ((const struct erofs_object *)b)->digest, VERITY_DIGEST_SIZE);
}

static void remove_file(struct needed *needed, DIR *dir, const char *name)
{
    struct stat st;
    if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        unlinkat(dirfd(dir), name, 0) == 0) {
        needed->objects_removed++;
        needed->bytes_removed += (uint64_t)st.st_size;
    }
}

static void sweep_objects(struct needed *needed)
{
    for (unsigned first = 0; first < 256; first++) {
        char folder[32];
        snprintf(folder, sizeof(folder), "objects/%02x", first);
        DIR *dir = open_folder(needed->images, folder);
        if (dir == NULL)
            continue;
        for (struct dirent *item; (item = readdir(dir)) != NULL;) {
            struct erofs_object wanted = {.digest = {(uint8_t)first}};
            if (item->d_name[0] == '.')
                continue;
            if (hex_decode(item->d_name, wanted.digest + 1, VERITY_DIGEST_SIZE - 1) < 0 ||
                needed->count == 0 ||
                bsearch(&wanted, needed->objects, needed->count, sizeof(wanted), by_digest) == NULL)
                remove_file(needed, dir, item->d_name);
        }
        closedir(dir);
        (void)unlinkat(needed->images->root_fd, folder, AT_REMOVEDIR); /* where nothing is left */
    }
}

static void sweep_metas(struct needed *needed)
{
    DIR *dir = open_folder(needed->images, "meta");
    if (dir == NULL)
        return;
    for (struct dirent *item; (item = readdir(dir)) != NULL;) {
        uint8_t digest[VERITY_DIGEST_SIZE];
        bool found = false;
        if (item->d_name[0] == '.')
            continue;
        bool good = hex_decode(item->d_name, digest, sizeof(digest)) == 0;
        for (size_t i = 0; good && !found && i < needed->meta_count; i++)
            found = memcmp(needed->metas[i], digest, sizeof(digest)) == 0;
        if (!found)
            remove_file(needed, dir, item->d_name);
    }
    closedir(dir);
}

int collect_run(struct images *images, const char *const *keep, size_t keep_count,
                uint64_t *ret_images, uint64_t *ret_objects, uint64_t *ret_bytes, struct error *err)
{
    struct needed needed = {.images = images, .keep = keep, .keep_count = keep_count};
    int r = mount_each(images, note_mount, &needed);
    r = r == 0 ? collect_each(images, judge, &needed) : r;
    /* What a pull has fetched is named by no configuration yet: the objects wait for the next time. */
    if (r == 0 && needed.failed == 0 && images->pulls == NULL) {
        if (needed.count > 0)
            qsort(needed.objects, needed.count, sizeof(*needed.objects), by_digest);
        sweep_objects(&needed);
        sweep_metas(&needed);
    }
    free(needed.objects);
    free(needed.metas);
    free(needed.mounted);
    if (r < 0)
        return store_error(err, images->root, r);
    *ret_images = needed.images_removed;
    *ret_objects = needed.objects_removed;
    *ret_bytes = needed.bytes_removed;
    return 0;
}
