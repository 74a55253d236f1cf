/*
 * cgroup.c - see cgroup.h. Documentation/admin-guide/cgroup-v2.rst
 */
#include "init/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"

#define CGROUP_DEPTH 8

static int cgroup_path(const struct service *service, const char *file, char *buf, size_t size)
{
    int len;

    if (service->core->cgroup[0] == '\0')
        return -ENODEV;
    len = snprintf(buf, size, "%s/system/%s%s%s", service->core->cgroup, service->unit.name,
                   file[0] != '\0' ? "/" : "", file);
    return len > 0 && (size_t)len < size ? 0 : -ENAMETOOLONG;
}

/* Each controller alone: one that the kernel lacks must not take the others with it. */
static void cgroup_enable(const char *folder)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+io", "+cpuset"};
    char path[400];

    snprintf(path, sizeof(path), "%.300s/cgroup.subtree_control", folder);
    for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
        file_write_text(path, controllers[i]);
}

int cgroup_prepare(const struct core *core)
{
    static const char *const groups[] = {"system", "croft"};
    char path[300];

    if (core->cgroup[0] == '\0')
        return -ENODEV;
    cgroup_enable(core->cgroup);
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", core->cgroup, groups[i]);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return -errno;
        cgroup_enable(path);
    }
    return 0;
}

static void cgroup_write_number(int fd, const char *file, uint64_t value, uint64_t none,
                                const char *none_text)
{
    char text[32];

    if (value == none)
        snprintf(text, sizeof(text), "%s", none_text);
    else
        snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    file_write_text_at(fd, file, text);
}

/* Delegate=yes: the service may make groups of its own below (cgroup-v2.rst, "Delegation"). */
static void cgroup_delegate(int fd, uid_t owner, gid_t group)
{
    static const char *const files[] = {"", "cgroup.procs", "cgroup.threads",
                                        "cgroup.subtree_control"};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (fchownat(fd, files[i], owner, group, AT_EMPTY_PATH) < 0)
            return;
    }
}

int cgroup_open(struct service *service, uid_t owner, gid_t group)
{
    const struct unit *unit = &service->unit;
    char path[400];
    int fd;
    int ret = cgroup_path(service, "", path, sizeof(path));

    if (ret < 0)
        return ret;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    cgroup_write_number(fd, "memory.max", unit->memory_max, UNIT_INFINITY, "max");
    cgroup_write_number(fd, "memory.high", unit->memory_high, UNIT_INFINITY, "max");
    cgroup_write_number(fd, "pids.max", unit->tasks_max, UNIT_INFINITY, "max");
    cgroup_write_number(fd, "cpu.weight", unit->cpu_weight, 0, "100");
    cgroup_write_number(fd, "io.weight", unit->io_weight, 0, "100");
    /* A service that was killed for its memory is gone as a whole: half of it would be worse. */
    file_write_text_at(fd, "memory.oom.group", unit->delegate ? "0" : "1");
    if (unit->delegate)
        cgroup_delegate(fd, owner, group);
    return fd;
}

int cgroup_kill(const struct service *service)
{
    char path[400];
    int ret = cgroup_path(service, "cgroup.kill", path, sizeof(path));

    return ret < 0 ? ret : file_write_text(path, "1");
}

static int cgroup_signal_folder(const char *folder, int signo, int depth);

static int cgroup_signal_children(const char *folder, int signo, int depth)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int count = 0;

    if (dir == NULL)
        return -errno;
    while ((entry = readdir(dir)) != NULL) {
        char path[512];

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) < (int)sizeof(path)) {
            int one = cgroup_signal_folder(path, signo, depth + 1);

            count += one > 0 ? one : 0;
        }
    }
    closedir(dir);
    return count;
}

static int cgroup_signal_folder(const char *folder, int signo, int depth)
{
    cleanup_free char *text = NULL;
    char path[560];
    int count = 0;
    int ret;

    if (depth > CGROUP_DEPTH)
        return 0;
    snprintf(path, sizeof(path), "%.520s/cgroup.procs", folder);
    ret = file_read(path, 1u << 20, &text, NULL);
    if (ret < 0)
        return ret;
    for (char *at = text; *at != '\0';) {
        char *end;
        long pid = strtol(at, &end, 10);

        if (end == at)
            break;
        if (pid > 1) {
            kill((pid_t)pid, signo);
            count++;
        }
        at = end + (*end == '\n' ? 1 : 0);
    }
    ret = cgroup_signal_children(folder, signo, depth);
    return count + (ret > 0 ? ret : 0);
}

int cgroup_signal(const struct service *service, int signo)
{
    char path[400];
    int ret = cgroup_path(service, "", path, sizeof(path));

    return ret < 0 ? ret : cgroup_signal_folder(path, signo, 0);
}

int cgroup_signal_tree(const struct core *core, const char *path, int signo)
{
    char folder[400];

    if (core->cgroup[0] == '\0')
        return -ENODEV;
    snprintf(folder, sizeof(folder), "%s%s", core->cgroup, path);
    return cgroup_signal_folder(folder, signo, 0);
}

int cgroup_kill_tree(const struct core *core, const char *path)
{
    char file[400];

    if (core->cgroup[0] == '\0')
        return -ENODEV;
    snprintf(file, sizeof(file), "%s%s/cgroup.kill", core->cgroup, path);
    return file_write_text(file, "1");
}

/* The number behind "key " in a file of "key number" lines. */
static uint64_t cgroup_read_key(int fd, const char *key)
{
    char text[512];
    const char *line = text;
    ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
    size_t key_len = strlen(key);

    if (len <= 0)
        return 0;
    text[len] = '\0';
    while (line != NULL && *line != '\0') {
        if (strncmp(line, key, key_len) == 0 && line[key_len] == ' ')
            return strtoull(line + key_len + 1, NULL, 10);
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    return 0;
}

int cgroup_populated(const struct service *service, int *ret_fd)
{
    char path[400];
    int populated;
    int fd;
    int ret = cgroup_path(service, "cgroup.events", path, sizeof(path));

    if (ret < 0)
        return ret;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    populated = cgroup_read_key(fd, "populated") != 0 ? 1 : 0;
    if (ret_fd != NULL)
        *ret_fd = fd;
    else
        close(fd);
    return populated;
}

uint64_t cgroup_oom_kills(const struct service *service)
{
    cleanup_close int fd = -1;
    char path[400];

    if (cgroup_path(service, "memory.events", path, sizeof(path)) < 0)
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? 0 : cgroup_read_key(fd, "oom_kill");
}

uint64_t cgroup_memory(const struct service *service)
{
    cleanup_free char *text = NULL;
    char path[400];

    if (cgroup_path(service, "memory.current", path, sizeof(path)) < 0 ||
        file_read(path, 64, &text, NULL) < 0)
        return 0;
    return strtoull(text, NULL, 10);
}

void cgroup_remove(const struct service *service)
{
    char path[400];

    if (cgroup_path(service, "", path, sizeof(path)) == 0)
        rmdir(path);
}

bool cgroup_name_of_pid(const struct core *core, int pid, char *name, size_t size)
{
    static const char prefix[] = "/system/";
    cleanup_free char *text = NULL;
    char path[64];
    const char *line;
    size_t len;

    if (core->cgroup[0] == '\0')
        return false;
    snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
    if (file_read(path, 8192, &text, NULL) < 0)
        return false;
    line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (line == NULL)
        return false;
    line = strstr(line, "0::") + 3;
    if (strncmp(line, prefix, sizeof(prefix) - 1) != 0)
        return false;
    line += sizeof(prefix) - 1;
    len = strcspn(line, "/\n");
    if (len == 0 || len >= size)
        return false;
    memcpy(name, line, len);
    name[len] = '\0';
    return true;
}
