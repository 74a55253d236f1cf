/*
 * image_source.c - named blobs: files of a folder (OCI layout), or members of an archive of one (oci-archive, docker-archive).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image.h"
#include "lib/file.h"

#define MEMBERS_MAX ((size_t)65536)
#define LINKS_MAX 8

struct member {
    char *name;
    char *link; /* old `docker save` links equal layers; NULL: a file */
    uint64_t offset;
    uint64_t size;
};

struct image_source {
    int folder; /* -1: an archive */
    int archive;
    struct member *members;
    size_t count;
};

void image_source_free(struct image_source *source)
{
    if (source == NULL) {
        return;
    }
    for (size_t i = 0; i < source->count; i++) {
        free(source->members[i].name);
        free(source->members[i].link);
    }
    free(source->members);
    if (source->folder >= 0) {
        close(source->folder);
    }
    if (source->archive >= 0) {
        close(source->archive);
    }
    free(source);
}

static int add_member(struct image_source *source, const struct tar_entry *entry, uint64_t offset)
{
    if (source->count == MEMBERS_MAX) {
        return -E2BIG;
    }
    if ((source->count & (source->count + 1)) == 0 || source->members == NULL) {
        struct member *grown = realloc(source->members, (source->count * 2 + 2) * sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        source->members = grown;
    }
    struct member *member = &source->members[source->count];
    member->name = strdup(entry->path);
    member->link = NULL;
    member->offset = offset;
    member->size = entry->size;
    if (entry->type == TAR_HARDLINK) {
        member->link = strdup(entry->link);
    } else if (entry->type == TAR_SYMLINK) {
        /* Relative to the link's own folder. */
        const char *slash = strrchr(entry->path, '/');
        char joined[2 * TAR_PATH_MAX];
        char clean[TAR_PATH_MAX + 1];
        const char *target = entry->link;
        int base = slash != NULL ? (int)(slash - entry->path) : 0;
        while (strncmp(target, "../", 3) == 0) {
            target += 3;
            while (base > 0 && entry->path[--base] != '/') {
            }
        }
        snprintf(joined, sizeof(joined), "%.*s/%s", base, entry->path, target);
        member->link = tar_path_clean(joined, clean) == 0 ? strdup(clean) : NULL;
    }
    if (member->name == NULL || (entry->type != TAR_FILE && member->link == NULL)) {
        free(member->name);
        free(member->link);
        return entry->type == TAR_FILE ? -ENOMEM
                                       : 0; /* a link that leads nowhere is never asked for */
    }
    source->count++;
    return 0;
}

/* A packed archive cannot be read in any order: it is unpacked into a file without a name first. */
static int unpack_archive(int *fd, struct error *err)
{
    uint8_t magic[4] = {0};
    struct stat st;
    if (pread(*fd, magic, sizeof(magic), 0) < 0 || fstat(*fd, &st) < 0) {
        return error_set(err, errno, "image.read-failed", "", "the archive cannot be read: %s",
                         strerror(errno));
    }
    if (!(magic[0] == 0x1f && magic[1] == 0x8b) && !(magic[0] == 0x28 && magic[1] == 0xb5)) {
        return 0;
    }
    const char *folder = getenv("TMPDIR");
    cleanup_close int plain =
        open(folder != NULL ? folder : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (plain < 0) {
        return error_set(err, errno, "image.write-failed", "set TMPDIR", "no temporary file: %s",
                         strerror(errno));
    }
    struct image_stream *stream = NULL;
    int r = image_stream_new(*fd, 0, (uint64_t)st.st_size, &stream);
    uint8_t *data = malloc((size_t)1 << 17);
    r = data == NULL ? -ENOMEM : r;
    while (r == 0) {
        ssize_t n = image_stream_read(stream, data, (size_t)1 << 17);
        if (n <= 0) {
            r = (int)n;
            break;
        }
        r = file_write_all(plain, data, (size_t)n);
    }
    free(data);
    image_stream_free(stream);
    if (r < 0) {
        return error_set(err, -r, "image.bad-archive", "", "the archive cannot be unpacked: %s",
                         strerror(-r));
    }
    close(*fd);
    *fd = file_fd_take(&plain);
    return 0;
}

static int index_archive(struct image_source *source, struct error *err)
{
    struct stat st;
    struct image_stream *stream = NULL;
    struct tar *tar = NULL;
    const struct tar_entry *entry;
    int r = fstat(source->archive, &st) < 0 ? -errno : 0;
    if (r == 0) {
        r = image_stream_new(source->archive, 0, (uint64_t)st.st_size, &stream);
    }
    if (r == 0) {
        r = tar_new(image_stream_read, stream, &tar);
    }
    if (r < 0) {
        r = error_set(err, -r, "image.read-failed", "", "the archive cannot be read: %s",
                      strerror(-r));
    }
    while (r == 0 && (r = tar_next(tar, &entry, err)) == 1) {
        r = 0;
        if (entry->type == TAR_FILE || entry->type == TAR_HARDLINK || entry->type == TAR_SYMLINK) {
            r = add_member(source, entry, tar_offset(tar));
        }
        if (r < 0) {
            r = error_set(err, -r, "image.bad-archive", "", "the archive has too many members");
        }
    }
    tar_free(tar);
    image_stream_free(stream);
    return r;
}

int image_source_open(const char *path, bool archive, struct image_source **ret_source,
                      struct error *err)
{
    struct image_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    }
    source->folder = -1;
    source->archive = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | (archive ? 0 : O_DIRECTORY));
    int r =
        fd < 0 ? error_set(err, errno, "image.not-found", "", "%s: %s", path, strerror(errno)) : 0;
    if (r == 0 && !archive) {
        source->folder = fd;
    } else if (r == 0) {
        r = unpack_archive(&fd, err);
        source->archive = fd;
        r = r == 0 ? index_archive(source, err) : r;
    }
    if (r < 0) {
        image_source_free(source);
        return r;
    }
    *ret_source = source;
    return 0;
}

int image_source_blob(struct image_source *source, const char *name, int *ret_fd,
                      uint64_t *ret_offset, uint64_t *ret_size, struct error *err)
{
    char clean[TAR_PATH_MAX + 1];
    int r = tar_path_clean(name, clean);
    if (r == 0 && source->folder >= 0) {
        struct stat st;
        int fd = openat(source->folder, clean, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
            *ret_fd = fd;
            *ret_offset = 0;
            *ret_size = (uint64_t)st.st_size;
            return 0;
        }
        r = fd < 0 ? -errno : -EINVAL;
        if (fd >= 0) {
            close(fd);
        }
        return error_set(err, -r, "image.not-found", "was it copied whole?", "%.120s: %s", name,
                         strerror(-r));
    }
    const char *wanted = clean;
    for (int hop = 0; r == 0 && hop < LINKS_MAX; hop++) {
        const struct member *found = NULL;
        for (size_t i = source->count;
             i-- > 0 && found == NULL;) { /* of two of one name the last counts */
            found = strcmp(source->members[i].name, wanted) == 0 ? &source->members[i] : NULL;
        }
        if (found == NULL) {
            break;
        }
        if (found->link != NULL) {
            wanted = found->link;
            continue;
        }
        int fd = dup(source->archive);
        if (fd < 0) {
            return error_set(err, errno, "image.read-failed", "", "%s", strerror(errno));
        }
        *ret_fd = fd;
        *ret_offset = found->offset;
        *ret_size = found->size;
        return 0;
    }
    return error_set(err, ENOENT, "image.not-found", "was it written whole?",
                     "the archive holds no %.120s", name);
}

int image_source_read(struct image_source *source, const char *name, size_t max, char **ret_data,
                      size_t *ret_len, struct error *err)
{
    uint64_t offset;
    uint64_t size;
    int fd = -1;
    int r = image_source_blob(source, name, &fd, &offset, &size, err);
    if (r < 0) {
        return r;
    }
    cleanup_close int closing = fd;
    if (size > max) {
        return error_set(err, EFBIG, "image.bad-layout", "", "%.120s is too large", name);
    }
    char *data = malloc((size_t)size + 1);
    if (data == NULL) {
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    }
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(closing, data + done, (size_t)size - done, (off_t)(offset + done));
        if (n <= 0) {
            free(data);
            return error_set(err, EIO, "image.read-failed", "", "%.120s cannot be read", name);
        }
        done += (size_t)n;
    }
    data[size] = '\0';
    *ret_data = data;
    *ret_len = (size_t)size;
    return 0;
}
