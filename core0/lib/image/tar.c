/*
 * tar.c - reads tar streams: see tar.h.
 */
#include "lib/image/tar.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512

/* What an extended header says of the entry that follows. */
struct extra {
    bool has_path, has_link, has_size, has_uid, has_gid, has_mtime;
    uint64_t size;
    uint64_t uid;
    uint64_t gid;
    int64_t mtime;
    uint32_t mtime_nsec;
    char path[TAR_PATH_MAX + 1];
    char link[TAR_PATH_MAX + 1];
};

struct tar {
    tar_read_fn *read;
    void *source;
    uint64_t offset; /* bytes taken from the source */
    uint64_t left;   /* content of the current entry that was not read */
    uint64_t padding;
    bool ended;
    struct extra extra;
    struct tar_entry entry;
    uint8_t header[BLOCK];
};

static int bad(const struct tar *tar, struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "image.bad-archive", "was the archive written whole?",
                     "tar, byte %llu: %s", (unsigned long long)tar->offset, what);
}

int tar_new(tar_read_fn *read, void *source, struct tar **ret_tar)
{
    struct tar *tar = calloc(1, sizeof(*tar));
    if (tar == NULL)
        return -ENOMEM;
    tar->read = read;
    tar->source = source;
    *ret_tar = tar;
    return 0;
}

static void drop_xattrs(struct tar_entry *entry)
{
    for (size_t i = 0; i < entry->xattr_count; i++) {
        free(entry->xattrs[i].name);
        free(entry->xattrs[i].value);
    }
    entry->xattr_count = 0;
}

void tar_free(struct tar *tar)
{
    if (tar == NULL)
        return;
    drop_xattrs(&tar->entry);
    free(tar);
}

uint64_t tar_offset(const struct tar *tar)
{
    return tar->offset;
}

/* Fills data; 1, 0 at a clean end before the first byte, or -errno. */
static int take(struct tar *tar, void *data, size_t len, struct error *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = tar->read(tar->source, (uint8_t *)data + done, len - done);
        if (n < 0)
            return error_set(err, (int)-n, "image.read-failed", "",
                             "the archive cannot be read: %s", strerror((int)-n));
        if (n == 0)
            break;
        done += (size_t)n;
        tar->offset += (uint64_t)n;
    }
    if (done == 0)
        return 0;
    return done == len ? 1 : bad(tar, err, "the archive ends in the middle");
}

static int skip(struct tar *tar, uint64_t len, struct error *err)
{
    uint8_t scrap[8192];
    while (len > 0) {
        size_t part = len < sizeof(scrap) ? (size_t)len : sizeof(scrap);
        int r = take(tar, scrap, part, err);
        if (r < 0)
            return r;
        if (r == 0)
            return bad(tar, err, "the archive ends in the middle");
        len -= part;
    }
    return 0;
}

/* Octal digits, or GNU's base 256 (first bit set, big-endian). */
static int number(const uint8_t *field, size_t len, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (field[0] & 0x80) {
        if (field[0] & 0x40)
            return -EINVAL; /* negative */
        value = field[0] & 0x3f;
        for (size_t i = 1; i < len; i++) {
            if (value >> 55)
                return -EINVAL;
            value = value << 8 | field[i];
        }
        *ret_value = value;
        return 0;
    }
    size_t i = 0;
    while (i < len && field[i] == ' ')
        i++;
    for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
        if (value >> 60)
            return -EINVAL;
        value = value << 3 | (uint64_t)(field[i] - '0');
    }
    for (; i < len; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return -EINVAL;
    *ret_value = value;
    return 0;
}

static bool checksum_ok(const uint8_t *header)
{
    uint64_t wanted;
    if (number(header + 148, 8, &wanted) < 0)
        return false;
    uint64_t sum = 0;
    int64_t signed_sum = 0; /* old writers added signed characters */
    for (size_t i = 0; i < BLOCK; i++) {
        uint8_t byte = i >= 148 && i < 156 ? ' ' : header[i];
        sum += byte;
        signed_sum += (int8_t)byte;
    }
    return sum == wanted || (signed_sum >= 0 && (uint64_t)signed_sum == wanted);
}

int tar_path_clean(const char *path, char *ret_path)
{
    char clean[TAR_PATH_MAX + 1];
    size_t len = 0;
    size_t depth = 0;
    while (*path != '\0') {
        size_t part = strcspn(path, "/");
        if (part == 2 && path[0] == '.' && path[1] == '.')
            return -EINVAL;
        if (part > 0 && !(part == 1 && path[0] == '.')) {
            if (part > TAR_NAME_MAX || len + part + 2 > sizeof(clean) || ++depth > TAR_DEPTH_MAX)
                return -ENAMETOOLONG;
            if (len > 0)
                clean[len++] = '/';
            memcpy(clean + len, path, part);
            len += part;
        }
        path += part;
        path += strspn(path, "/");
    }
    clean[len] = '\0';
    memcpy(ret_path, clean, len + 1);
    return 0;
}

/* A decimal number of a pax record, with a fraction where ret_nsec is given. */
static int pax_number(const char *text, int64_t *ret_value, uint32_t *ret_nsec)
{
    bool negative = *text == '-' && ret_nsec != NULL;
    int64_t value = 0;
    uint32_t nsec = 0;
    if (negative)
        text++;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (value > (INT64_MAX - 9) / 10)
            return -EINVAL;
        value = value * 10 + (*text - '0');
    }
    if (*text == '.' && ret_nsec != NULL) {
        uint32_t unit = 100000000;
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
            nsec += (uint32_t)(*text - '0') * unit;
    }
    if (*text != '\0')
        return -EINVAL;
    if (negative) { /* before 1970: whole seconds downwards, nanoseconds upwards */
        value = -value;
        if (nsec > 0) {
            value--;
            nsec = 1000000000 - nsec;
        }
    }
    *ret_value = value;
    if (ret_nsec != NULL)
        *ret_nsec = nsec;
    return 0;
}

static int pax_xattr(struct tar *tar, const char *name, const char *value, size_t len,
                     struct error *err)
{
    struct tar_entry *entry = &tar->entry;
    if (*name == '\0' || strlen(name) > TAR_NAME_MAX || len > 65536)
        return bad(tar, err, "an extended attribute is too long");
    if (entry->xattr_count == TAR_XATTRS_MAX)
        return bad(tar, err, "a file has too many extended attributes");
    for (size_t i = 0; i < entry->xattr_count; i++)
        if (strcmp(entry->xattrs[i].name, name) == 0)
            return bad(tar, err, "an extended attribute comes twice");
    struct tar_xattr *xattr = &entry->xattrs[entry->xattr_count];
    xattr->name = strdup(name);
    xattr->value = malloc(len + 1);
    xattr->len = len;
    entry->xattr_count++;
    if (xattr->name == NULL || xattr->value == NULL)
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    memcpy(xattr->value, value, len);
    return 0;
}

static int pax_text(struct tar *tar, const char *value, size_t len, char *ret_text,
                    struct error *err)
{
    if (len > TAR_PATH_MAX || strlen(value) != len)
        return bad(tar, err, "a name is too long or holds NUL");
    memcpy(ret_text, value, len + 1);
    return 0;
}

/* One record; value is ended by NUL. */
static int pax_record(struct tar *tar, const char *key, const char *value, size_t len,
                      struct error *err)
{
    static const char xattr[] = "SCHILY.xattr.";
    struct extra *extra = &tar->extra;
    int64_t signed_value = 0;
    if (strcmp(key, "path") == 0) {
        extra->has_path = true;
        return pax_text(tar, value, len, extra->path, err);
    }
    if (strcmp(key, "linkpath") == 0) {
        extra->has_link = true;
        return pax_text(tar, value, len, extra->link, err);
    }
    if (strncmp(key, xattr, sizeof(xattr) - 1) == 0)
        return pax_xattr(tar, key + sizeof(xattr) - 1, value, len, err);
    if (strncmp(key, "GNU.sparse.", 11) == 0)
        return bad(tar, err, "sparse files are not supported");
    const struct {
        const char *key;
        uint64_t *value;
        bool *has;
    } numbers[] = {
        {"size", &extra->size, &extra->has_size},
        {"uid", &extra->uid, &extra->has_uid},
        {"gid", &extra->gid, &extra->has_gid},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(key, numbers[i].key) != 0)
            continue;
        if (pax_number(value, &signed_value, NULL) < 0)
            return bad(tar, err, "an extended header holds no number");
        *numbers[i].value = (uint64_t)signed_value;
        *numbers[i].has = true;
        return 0;
    }
    if (strcmp(key, "mtime") == 0) {
        if (pax_number(value, &extra->mtime, &extra->mtime_nsec) < 0)
            return bad(tar, err, "an extended header holds no time");
        extra->has_mtime = true;
    }
    return 0; /* atime, ctime, uname, comment, … are of no use to an image */
}

/* "<length> <key>=<value>\n", the length being that of the whole record. */
static int pax_parse(struct tar *tar, char *data, size_t len, struct error *err)
{
    size_t at = 0;
    while (at < len) {
        size_t record = 0;
        size_t digits = 0;
        while (at + digits < len && data[at + digits] >= '0' && data[at + digits] <= '9' &&
               digits < 9)
            record = record * 10 + (size_t)(data[at + digits++] - '0');
        if (digits == 0 || record > len - at || record < digits + 4 || data[at + digits] != ' ' ||
            data[at + record - 1] != '\n')
            return bad(tar, err, "an extended header is malformed");
        char *key = data + at + digits + 1;
        char *end = data + at + record - 1;
        char *equals = memchr(key, '=', (size_t)(end - key));
        if (equals == NULL || memchr(key, '\0', (size_t)(equals - key)) != NULL)
            return bad(tar, err, "an extended header is malformed");
        *equals = '\0';
        *end = '\0';
        int r = pax_record(tar, key, equals + 1, (size_t)(end - equals - 1), err);
        if (r < 0)
            return r;
        at += record;
    }
    return 0;
}

/* Reads the whole content of a header entry. *ret_data: free(). */
static int read_extra(struct tar *tar, uint64_t size, char **ret_data, struct error *err)
{
    if (size > TAR_PAX_MAX)
        return bad(tar, err, "an extended header is too long");
    char *data = malloc((size_t)size + 1);
    if (data == NULL)
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    int r = size == 0 ? 1 : take(tar, data, (size_t)size, err);
    if (r > 0)
        r = skip(tar, (BLOCK - size % BLOCK) % BLOCK, err);
    else if (r == 0)
        r = bad(tar, err, "the archive ends in the middle");
    if (r < 0) {
        free(data);
        return r;
    }
    data[size] = '\0';
    *ret_data = data;
    return 0;
}

static int take_header_entry(struct tar *tar, char type, uint64_t size, struct error *err)
{
    char *data = NULL;
    int r = read_extra(tar, size, &data, err);
    if (r < 0)
        return r;
    if (type == 'x') {
        r = pax_parse(tar, data, (size_t)size, err);
    } else if (type == 'L' || type == 'K') {
        size_t len = strlen(data);
        r = pax_text(tar, data, len, type == 'L' ? tar->extra.path : tar->extra.link, err);
        if (type == 'L')
            tar->extra.has_path = true;
        else
            tar->extra.has_link = true;
    } /* 'g', for the whole archive: comments and times, of no use to an image */
    free(data);
    return r;
}

/* A field of the header that is ended by NUL only when it is shorter. */
static void field_text(const uint8_t *field, size_t len, char *ret_text)
{
    size_t n = strnlen((const char *)field, len);
    memcpy(ret_text, field, n);
    ret_text[n] = '\0';
}

static int entry_names(struct tar *tar, struct error *err)
{
    const uint8_t *h = tar->header;
    char raw[TAR_PATH_MAX + 1];
    struct tar_entry *entry = &tar->entry;
    if (tar->extra.has_path) {
        memcpy(raw, tar->extra.path, sizeof(raw));
    } else {
        size_t at = 0;
        if (memcmp(h + 257, "ustar\0", 6) == 0 && h[345] != '\0') {
            field_text(h + 345, 155, raw);
            at = strlen(raw);
            raw[at++] = '/';
        }
        field_text(h, 100, raw + at);
    }
    size_t raw_len = strlen(raw);
    bool slash = raw_len > 0 && raw[raw_len - 1] == '/';
    if (raw_len == 0 || tar_path_clean(raw, entry->path) < 0)
        return bad(tar, err, "a name climbs out of the archive, or is empty or too long");
    /* Before POSIX a folder was a file whose name ends with a slash. */
    if (entry->type == TAR_FILE && slash)
        entry->type = TAR_FOLDER;
    if (entry->path[0] == '\0' && entry->type != TAR_FOLDER)
        return bad(tar, err, "the root is no folder");
    if (tar->extra.has_link)
        memcpy(raw, tar->extra.link, sizeof(raw));
    else
        field_text(h + 157, 100, raw);
    entry->link[0] = '\0';
    if (entry->type == TAR_SYMLINK)
        memcpy(entry->link, raw, strlen(raw) + 1);
    else if (entry->type == TAR_HARDLINK && tar_path_clean(raw, entry->link) < 0)
        return bad(tar, err, "a link's target climbs out of the archive");
    if ((entry->type == TAR_SYMLINK || entry->type == TAR_HARDLINK) && entry->link[0] == '\0')
        return bad(tar, err, "a link has no target");
    return 0;
}

static int entry_numbers(struct tar *tar, uint64_t size, struct error *err)
{
    const uint8_t *h = tar->header;
    const struct extra *extra = &tar->extra;
    struct tar_entry *entry = &tar->entry;
    uint64_t mode;
    uint64_t uid;
    uint64_t gid;
    uint64_t mtime;
    uint64_t major = 0;
    uint64_t minor = 0;
    if (number(h + 100, 8, &mode) < 0 || number(h + 108, 8, &uid) < 0 ||
        number(h + 116, 8, &gid) < 0)
        return bad(tar, err, "a header holds no number");
    if (number(h + 136, 12, &mtime) < 0 || mtime > INT64_MAX)
        mtime = 0; /* a negative time in base 256: before 1970 */
    if ((entry->type == TAR_CHAR || entry->type == TAR_BLOCK) &&
        (number(h + 329, 8, &major) < 0 || number(h + 337, 8, &minor) < 0 || major > 0xfff ||
         minor > 0xfffff))
        return bad(tar, err, "a device has no number");
    uid = extra->has_uid ? extra->uid : uid;
    gid = extra->has_gid ? extra->gid : gid;
    if (uid >= UINT32_MAX || gid >= UINT32_MAX)
        return bad(tar, err, "an owner's number is too large");
    entry->mode = (uint32_t)mode & 07777;
    entry->uid = (uint32_t)uid;
    entry->gid = (uint32_t)gid;
    entry->mtime = extra->has_mtime ? extra->mtime : (int64_t)mtime;
    entry->mtime_nsec = extra->has_mtime ? extra->mtime_nsec : 0;
    entry->major = (uint32_t)major;
    entry->minor = (uint32_t)minor;
    entry->size = entry->type == TAR_FILE ? size : 0;
    return 0;
}

static int entry_type(char flag, enum tar_type *ret_type)
{
    static const struct {
        char flag;
        enum tar_type type;
    } types[] = {{'0', TAR_FILE},     {'\0', TAR_FILE},   {'7', TAR_FILE},
                 {'1', TAR_HARDLINK}, {'2', TAR_SYMLINK}, {'3', TAR_CHAR},
                 {'4', TAR_BLOCK},    {'5', TAR_FOLDER},  {'6', TAR_FIFO}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (types[i].flag == flag) {
            *ret_type = types[i].type;
            return 0;
        }
    return -EINVAL;
}

static bool is_zero_block(const uint8_t *header)
{
    for (size_t i = 0; i < BLOCK; i++)
        if (header[i] != 0)
            return false;
    return true;
}

/* Some writers (umoci insert) end the archive with the last file's last byte. That is an end like any other. */
static int skip_padding(struct tar *tar)
{
    uint8_t scrap[BLOCK];
    while (tar->padding > 0) {
        ssize_t n = tar->read(tar->source, scrap, (size_t)tar->padding);
        if (n < 0)
            return (int)n;
        if (n == 0) {
            tar->ended = true;
            break;
        }
        tar->offset += (uint64_t)n;
        tar->padding -= (uint64_t)n;
    }
    tar->padding = 0;
    return 0;
}

int tar_next(struct tar *tar, const struct tar_entry **ret_entry, struct error *err)
{
    int r = skip(tar, tar->left, err);
    tar->left = 0;
    if (r == 0 && (r = skip_padding(tar)) < 0)
        return error_set(err, -r, "image.read-failed", "", "the archive cannot be read: %s",
                         strerror(-r));
    drop_xattrs(&tar->entry);
    memset(&tar->extra, 0, offsetof(struct extra, path));
    while (r == 0 && !tar->ended) {
        r = take(tar, tar->header, BLOCK, err);
        if (r <= 0 || is_zero_block(tar->header)) {
            tar->ended = true;
            return r < 0 ? r : 0;
        }
        uint64_t size;
        if (!checksum_ok(tar->header) || number(tar->header + 124, 12, &size) < 0)
            return bad(tar, err, "a header is malformed");
        char flag = (char)tar->header[156];
        if (flag == 'x' || flag == 'g' || flag == 'L' || flag == 'K') {
            r = take_header_entry(tar, flag, size, err);
            continue;
        }
        if (entry_type(flag, &tar->entry.type) < 0)
            return bad(tar, err, "an entry is of an unknown type");
        if (tar->extra.has_size)
            size = tar->extra.size;
        if (size > INT64_MAX / 2)
            return bad(tar, err, "a size is impossible");
        r = entry_names(tar, err);
        if (r == 0)
            r = entry_numbers(tar, size, err);
        if (r < 0)
            return r;
        /* A hard link's size repeats its target's without any content; other kinds have none either. */
        if (tar->entry.type == TAR_FILE) {
            tar->left = size;
            tar->padding = (BLOCK - size % BLOCK) % BLOCK;
        }
        *ret_entry = &tar->entry;
        return 1;
    }
    return r;
}

ssize_t tar_read(struct tar *tar, void *data, size_t len, struct error *err)
{
    if (len > tar->left)
        len = (size_t)tar->left;
    if (len > SSIZE_MAX)
        len = SSIZE_MAX;
    if (len == 0)
        return 0;
    int r = take(tar, data, len, err);
    if (r <= 0)
        return r < 0 ? r : bad(tar, err, "the archive ends in the middle");
    tar->left -= len;
    return (ssize_t)len;
}
