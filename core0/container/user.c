/*
 * user.c - see user.h.
 */
#include "container/user.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/file.h"

#define FILE_MAX ((size_t)1 << 20) /* an /etc/passwd beyond a megabyte is no /etc/passwd */
#define LINE_FIELDS 7

/* ---- lines of passwd(5) and group(5) ---- */

struct field {
    const char *text;
    size_t len;
};

/* Cuts the next line into fields; returns their number, 0 at the end. */
static size_t next_line(const char **at, const char *end, struct field fields[LINE_FIELDS])
{
    while (*at < end) {
        const char *line_end = memchr(*at, '\n', (size_t)(end - *at));
        const char *p = *at;
        size_t count = 0;

        if (line_end == NULL)
            line_end = end;
        *at = line_end < end ? line_end + 1 : end;
        while (count < LINE_FIELDS) {
            const char *colon = memchr(p, ':', (size_t)(line_end - p));
            const char *stop = colon != NULL ? colon : line_end;

            fields[count++] = (struct field){p, (size_t)(stop - p)};
            if (colon == NULL)
                break;
            p = colon + 1;
        }
        if (count >= 3)
            return count;
    }
    return 0;
}

static bool field_is(const struct field *field, const char *text, size_t len)
{
    return field->len == len && memcmp(field->text, text, len) == 0;
}

static bool number_of(const char *text, size_t len, uint32_t *ret_number)
{
    uint64_t number = 0;

    if (len == 0 || len > 10)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    if (number > UINT32_MAX)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

static bool field_number(const struct field *field, uint32_t *ret_number)
{
    return number_of(field->text, field->len, ret_number);
}

static bool list_has(const struct field *list, const char *name, size_t len)
{
    const char *p = list->text, *end = list->text + list->len;

    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end;

        if ((size_t)(stop - p) == len && memcmp(p, name, len) == 0)
            return true;
        p = stop + 1;
    }
    return false;
}

/* ---- what the words mean ---- */

static int bad(struct error *err, const char *what, const char *text, size_t len)
{
    return error_set(err, EINVAL, "container.bad-user", "use a name of the image, or a number",
                     "the image has no %s \"%.*s\"", what, (int)(len < 64 ? len : 64), text);
}

static void add_group(struct container_user *user, uint32_t gid)
{
    for (size_t i = 0; i < user->group_count; i++) {
        if (user->groups[i] == gid)
            return;
    }
    if (user->group_count < USER_GROUPS_MAX)
        user->groups[user->group_count++] = gid;
}

/* *ret_name: the account's name, empty when the number has no entry. */
static int find_account(const char *text, size_t len, const char *passwd, size_t passwd_len,
                        struct container_user *user, struct field *ret_name, struct error *err)
{
    struct field fields[LINE_FIELDS];
    const char *at = passwd, *end = passwd != NULL ? passwd + passwd_len : NULL;
    uint32_t number = 0;
    bool numeric = len == 0 || number_of(text, len, &number);
    size_t count;

    *ret_name = (struct field){text, 0};
    while (passwd != NULL && (count = next_line(&at, end, fields)) > 0) {
        uint32_t uid, gid;

        if (count < 4 || !field_number(&fields[2], &uid) || !field_number(&fields[3], &gid))
            continue;
        if (numeric ? uid != number : !field_is(&fields[0], text, len))
            continue;
        user->uid = uid;
        user->gid = gid;
        *ret_name = fields[0];
        if (count >= 6 && fields[5].len > 0 && fields[5].len < sizeof(user->home) &&
            memchr(fields[5].text, '\0', fields[5].len) == NULL) {
            memcpy(user->home, fields[5].text, fields[5].len);
            user->home[fields[5].len] = '\0';
        }
        return 0;
    }
    if (!numeric)
        return bad(err, "user", text, len);
    user->uid = number;
    return 0;
}

static int find_group(const char *text, size_t len, const char *group, size_t group_len,
                      uint32_t *ret_gid, struct error *err)
{
    struct field fields[LINE_FIELDS];
    const char *at = group, *end = group != NULL ? group + group_len : NULL;

    if (number_of(text, len, ret_gid))
        return 0;
    while (group != NULL && next_line(&at, end, fields) > 0) {
        if (field_is(&fields[0], text, len) && field_number(&fields[2], ret_gid))
            return 0;
    }
    return bad(err, "group", text, len);
}

static void find_memberships(const struct field *name, const char *group, size_t group_len,
                             struct container_user *user)
{
    struct field fields[LINE_FIELDS];
    const char *at = group, *end = group != NULL ? group + group_len : NULL;
    size_t count;
    uint32_t gid;

    while (group != NULL && (count = next_line(&at, end, fields)) > 0) {
        if (count >= 4 && field_number(&fields[2], &gid) &&
            list_has(&fields[3], name->text, name->len))
            add_group(user, gid);
    }
}

int user_find(const char *text, const char *passwd, size_t passwd_len, const char *group,
              size_t group_len, uint32_t id_count, struct container_user *ret_user,
              struct error *err)
{
    struct container_user user = {.home = "/"};
    const char *colon = strchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    struct field name;
    int ret = find_account(text, len, passwd, passwd_len, &user, &name, err);

    if (ret == 0 && colon != NULL && colon[1] != '\0')
        ret = find_group(colon + 1, strlen(colon + 1), group, group_len, &user.gid, err);
    if (ret < 0)
        return ret;
    add_group(&user, user.gid);
    if (name.len > 0 && (colon == NULL || colon[1] == '\0'))
        find_memberships(&name, group, group_len, &user);
    /* An id outside the range does not exist in the container's user namespace. */
    for (size_t i = 0; i < user.group_count; i++) {
        if (user.groups[i] >= id_count)
            user.groups[i--] = user.groups[--user.group_count];
    }
    if (user.uid >= id_count || user.gid >= id_count)
        return error_set(err, ERANGE, "container.bad-user", "use an id within the range",
                         "user %u:%u is beyond the container's %u ids", user.uid, user.gid,
                         id_count);
    *ret_user = user;
    return 0;
}

static int read_inside(int root, const char *path, char **ret_data, size_t *ret_len)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    struct stat st;
    cleanup_close int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 0 ||
        (size_t)st.st_size > FILE_MAX)
        return -EINVAL;
    char *data = malloc((size_t)st.st_size + 1);
    if (data == NULL)
        return -ENOMEM;
    ssize_t n = read(fd, data, (size_t)st.st_size);
    if (n < 0) {
        int ret = -errno;

        free(data);
        return ret;
    }
    data[n] = '\0';
    *ret_data = data;
    *ret_len = (size_t)n;
    return 0;
}

int user_resolve(const char *rootfs, const char *text, uint32_t id_count,
                 struct container_user *ret_user, struct error *err)
{
    cleanup_free char *passwd = NULL;
    cleanup_free char *group = NULL;
    size_t passwd_len = 0, group_len = 0;
    cleanup_close int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        return error_set(err, errno, "container.bad-rootfs", NULL,
                         "cannot open the root file system %s: %s", rootfs, strerror(errno));
    /* An image without these files is fine as long as only numbers are asked for. */
    read_inside(root, "etc/passwd", &passwd, &passwd_len);
    read_inside(root, "etc/group", &group, &group_len);
    return user_find(text, passwd, passwd_len, group, group_len, id_count, ret_user, err);
}
