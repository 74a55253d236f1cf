/*
 * store.c - images on disk: see image.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "lib/crypto/text.h"
#include "lib/fault.h"
#include "lib/file.h"
#include "lib/log.h"

int store_error(struct error *err, const char *what, int r)
{
    bool full = r == -ENOSPC || r == -EDQUOT;
    return error_set(err, -r, full ? "image.no-space" : "image.disk-failed",
                     full ? "use a smaller image, or a node with a larger disk"
                          : "look at the node's disks",
                     "%s: %s", what, strerror(-r));
}

static int make_folder(int at, const char *name)
{
    return mkdirat(at, name, 0711) < 0 && errno != EEXIST ? -errno : 0;
}

int store_open(struct images *images, struct error *err)
{
    static const char *const folders[] = {"configs", "meta", "objects"};
    int r = file_mkdirs(images->root, 0711);
    if (r == 0 && (images->root_fd = open(images->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = -errno;
    for (size_t i = 0; r == 0 && i < sizeof(folders) / sizeof(folders[0]); i++)
        r = make_folder(images->root_fd, folders[i]);
    if (r == 0)
        r = file_mkdirs(images->run, 0711);
    return r < 0 ? store_error(err, images->root, r) : 0;
}

void store_meta_path(const uint8_t digest[VERITY_DIGEST_SIZE], char ret_path[128])
{
    char hex[VERITY_DIGEST_TEXT];
    hex_encode(digest, VERITY_DIGEST_SIZE, hex);
    snprintf(ret_path, 128, "meta/%s", hex);
}

void store_object_path(const uint8_t digest[VERITY_DIGEST_SIZE], char ret_path[128])
{
    char hex[VERITY_DIGEST_TEXT];
    hex_encode(digest, VERITY_DIGEST_SIZE, hex);
    snprintf(ret_path, 128, "objects/%.2s/%s", hex, hex + 2);
}

/* The power went soon after a file was kept: its fs-verity digest was on the disk, its bytes were not yet. open() says it in one of these ways. */
static bool is_torn(int error)
{
    return error == EINVAL || error == EUCLEAN || error == EBADMSG || error == EFBIG;
}

bool store_has(const struct images *images, const char *path)
{
    int fd = openat(images->root_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        return true;
    }
    if (is_torn(errno) && unlinkat(images->root_fd, path, 0) == 0)
        log_warn("%s was not whole and is fetched again", path);
    return false;
}

int store_config(const struct images *images, const char *id, struct image_config *ret_config,
                 struct error *err)
{
    char path[128];
    cleanup_free char *text = NULL;
    size_t len;
    snprintf(path, sizeof(path), "configs/%s.json", id);
    int r = file_read_at(images->root_fd, path, IMAGE_CONFIG_MAX, &text, &len);
    if (r == -ENOENT)
        return error_set(err, ENOENT, "image.not-found", "pull it first",
                         "the image %s is not here", id);
    if (r < 0)
        return store_error(err, path, r);
    struct image_config config;
    r = image_config_read(text, len, &config, err);
    if (r == 0 && strcmp(config.id, id) != 0) {
        image_config_done(&config);
        (void)unlinkat(images->root_fd, path, 0);
        r = error_set(err, EBADMSG, "image.digest-mismatch", "pull it again",
                      "the configuration of %s was altered", id);
    }
    if (r == 0)
        *ret_config = config;
    return r;
}

int store_config_write(const struct images *images, const char *id, const struct buffer *text,
                       struct error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/configs/%s.json", images->root, id);
    fault_point("config.before");
    int r = file_write_atomic(path, text->data, text->len, 0644);
    return r < 0 ? store_error(err, path, r) : 0;
}

int store_meta_open(const struct images *images, const uint8_t digest[VERITY_DIGEST_SIZE],
                    int *ret_fd, struct error *err)
{
    char path[128];
    uint8_t measured[VERITY_DIGEST_SIZE];
    store_meta_path(digest, path);
    cleanup_close int fd = openat(images->root_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ENOENT, "image.not-found", "pull the image", "%s is not here", path);
    int r = fd < 0 ? -errno : 0;
    if (r < 0 && !is_torn(-r))
        return store_error(err, path, r);
    if (r == 0)
        r = verity_measure(fd, measured);
    if (r == 0 && memcmp(measured, digest, VERITY_DIGEST_SIZE) != 0)
        r = -EBADMSG;
    if (r < 0) {
        (void)unlinkat(images->root_fd, path, 0);
        return error_set(err, EBADMSG, "image.digest-mismatch", "pull the image again",
                         "%s was altered, or is not whole: %s", path, strerror(-r));
    }
    *ret_fd = file_fd_take(&fd);
    return 0;
}

int store_objects(int meta_fd, struct erofs_object **ret_objects, size_t *ret_count,
                  struct error *err)
{
    struct stat st;
    if (fstat(meta_fd, &st) < 0)
        return store_error(err, "metadata", -errno);
    if (st.st_size <= 0 || (uint64_t)st.st_size > EROFS_METADATA_MAX)
        return error_set(err, EBADMSG, "image.bad-metadata", "",
                         "the metadata has an impossible size");
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, meta_fd, 0);
    if (data == MAP_FAILED)
        return store_error(err, "metadata", -errno);
    int r = erofs_objects(data, (size_t)st.st_size, ret_objects, ret_count, err);
    munmap(data, (size_t)st.st_size);
    return r;
}

/* "objects/ab/cdef" → its folder, which is made. */
static int folder_of(const struct images *images, const char *path, char folder[128])
{
    const char *slash = strrchr(path, '/');
    snprintf(folder, 128, "%.*s", (int)(slash - path), path);
    return make_folder(images->root_fd, folder);
}

int store_begin(const struct images *images, const char *path, int *ret_fd, struct error *err)
{
    char folder[128];
    int r = folder_of(images, path, folder);
    int fd = r < 0 ? -1 : openat(images->root_fd, folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0)
        return store_error(err, folder, r < 0 ? r : -errno);
    *ret_fd = fd;
    return 0;
}

int store_keep(const struct images *images, int fd, const char *path,
               const uint8_t digest[VERITY_DIGEST_SIZE], struct error *err)
{
    char self[64];
    uint8_t measured[VERITY_DIGEST_SIZE];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    cleanup_close int reader = open(self, O_RDONLY | O_CLOEXEC);
    int r = reader < 0 ? -errno : 0;
    close(fd); /* fs-verity is refused while anybody can write */
    if (r == 0)
        r = verity_enable(reader);
    if (r == -ENOTTY || r == -EOPNOTSUPP)
        return error_set(err, -r, "image.no-verity", "the pool must be btrfs",
                         "%s: the file system has no fs-verity", images->root);
    if (r == 0)
        r = verity_measure(reader, measured);
    if (r < 0)
        return store_error(err, path, r);
    if (memcmp(measured, digest, VERITY_DIGEST_SIZE) != 0)
        return error_set(err, EBADMSG, "image.digest-mismatch", "",
                         "%s: the disk gave back other bytes", path);
    snprintf(self, sizeof(self), "/proc/self/fd/%d", reader);
    if (linkat(AT_FDCWD, self, images->root_fd, path, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
        return store_error(err, path, -errno);
    return 0;
}
