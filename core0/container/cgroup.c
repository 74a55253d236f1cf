/*
 * cgroup.c - see cgroup.h.
 */
#include "container/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/file.h"

#define PATH_LEN 512
#define FILE_LEN_MAX 4096
#define DEPTH_MAX 16 /* a container that may mount cgroups can nest its own */

int cgroup_make(const char *path)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+io"};
    char control[PATH_LEN];
    int ret = file_mkdirs(path, 0755);

    if (ret < 0)
        return ret;
    snprintf(control, sizeof(control), "%s/cgroup.subtree_control", path);
    for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
        file_write_text(control, controllers[i]);
    return 0;
}

int cgroup_kill(const char *path)
{
    char control[PATH_LEN];

    snprintf(control, sizeof(control), "%s/cgroup.kill", path);
    return file_write_text(control, "1");
}

static uint64_t read_member(const char *text, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, len) == 0 && line[len] == ' ')
            return strtoull(line + len + 1, NULL, 10);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* cgroup.events is signalled with POLLPRI whenever it changes (kernel: Documentation/admin-guide/cgroup-v2.rst). */
static int wait_empty(const char *path, int timeout_ms)
{
    char events[PATH_LEN], text[FILE_LEN_MAX];
    int64_t end = now_ms() + timeout_ms;

    snprintf(events, sizeof(events), "%s/cgroup.events", path);
    cleanup_close int fd = open(events, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

        if (n < 0)
            return -errno;
        text[n] = '\0';
        if (read_member(text, "populated") == 0)
            return 0;
        int64_t left = end - now_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd wait = {fd, POLLPRI, 0};
        if (poll(&wait, 1, (int)left) < 0 && errno != EINTR)
            return -errno;
    }
}

static int remove_below(const char *path, int depth)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char child[PATH_LEN];

    if (dir == NULL)
        return errno == ENOENT ? 0 : -errno;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0 || depth >= DEPTH_MAX)
            continue;
        if ((size_t)snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) < sizeof(child))
            remove_below(child, depth + 1);
    }
    closedir(dir);
    return rmdir(path) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_destroy(const char *path, int timeout_ms)
{
    int ret = cgroup_kill(path);

    if (ret == 0)
        ret = wait_empty(path, timeout_ms);
    if (ret < 0)
        return ret == -ENOENT ? 0 : ret;
    return remove_below(path, 0);
}

static uint64_t read_count(const char *path, const char *file, const char *name)
{
    char events[PATH_LEN];
    cleanup_free char *text = NULL;
    size_t len;

    snprintf(events, sizeof(events), "%s/%s", path, file);
    if (file_read(events, FILE_LEN_MAX, &text, &len) < 0)
        return 0;
    return read_member(text, name);
}

uint64_t cgroup_oom_kills(const char *path)
{
    return read_count(path, "memory.events", "oom_kill");
}

uint64_t cgroup_pids_refused(const char *path)
{
    return read_count(path, "pids.events", "max");
}

bool cgroup_has(const char *mount, const char *path, int pid)
{
    char file[64];
    cleanup_free char *text = NULL;
    size_t len, mount_len = strlen(mount);

    snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
    if (strncmp(path, mount, mount_len) != 0 || file_read(file, FILE_LEN_MAX, &text, &len) < 0)
        return false;
    const char *inside = path + mount_len, *at = strstr(text, "0::");
    size_t inside_len = strlen(inside);
    return at != NULL && strncmp(at + 3, inside, inside_len) == 0 &&
           (at[3 + inside_len] == '\n' || at[3 + inside_len] == '/');
}
