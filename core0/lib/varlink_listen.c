/*
 * varlink_listen.c - a Unix socket to listen on: folder, mode, and what an earlier program left behind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/varlink_message.h"

#define VARLINK_BACKLOG 64

/* A socket that nobody listens on is left over from a program that was killed. */
static int varlink_clear_path(const char *path, const struct sockaddr_un *addr, struct error *err)
{
    cleanup_close int fd = -1;
    struct stat st;

    if (lstat(path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, EEXIST, "varlink.listen", NULL, "%s exists and is no socket", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 &&
        (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN))
        return error_set(err, EADDRINUSE, "varlink.listen", NULL, "%s is in use by another program",
                         path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_set(err, errno, "varlink.listen", NULL, "%s cannot be replaced: %s", path,
                         strerror(errno));
    return 0;
}

static int varlink_make_folder(const struct sockaddr_un *addr)
{
    char folder[sizeof(addr->sun_path)];
    char *slash;

    memcpy(folder, addr->sun_path, sizeof(folder));
    slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder)
        return 0;
    *slash = '\0';
    return file_mkdirs(folder, 0755);
}

int varlink_listen(const char *path, mode_t mode, struct error *err)
{
    struct sockaddr_un addr;
    mode_t mask;
    int ret;
    int fd;

    ret = varlink_address(path, &addr);
    if (ret < 0)
        return error_set(err, -ret, "varlink.listen", NULL, "the socket path %s is too long", path);
    ret = varlink_make_folder(&addr);
    if (ret < 0)
        return error_set(err, -ret, "varlink.listen", NULL, "the folder of %s cannot be made: %s",
                         path, strerror(-ret));
    ret = varlink_clear_path(path, &addr, err);
    if (ret < 0)
        return ret;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, errno, "varlink.listen", NULL, "socket: %s", strerror(errno));

    /* The mask gives the socket its mode at birth: between bind and a chmod anybody could connect. */
    mask = umask(~mode & 0777);
    ret = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
    umask(mask);
    if (ret == 0 && listen(fd, VARLINK_BACKLOG) < 0)
        ret = -errno;
    if (ret < 0) {
        close(fd);
        return error_set(err, -ret, "varlink.listen", NULL, "%s: %s", path, strerror(-ret));
    }
    return fd;
}
