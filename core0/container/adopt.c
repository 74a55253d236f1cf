/*
 * adopt.c - contd's start: what a predecessor left running is taken over, what it left half-made is removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/contd.h"
#include "container/namespaces.h"
#include "lib/file.h"
#include "lib/log.h"

#define WORD_MAX 64
#define SHIM_PID_WAIT_MS 2000

static int read_number(const struct instance *inst, const char *file, long *ret_first,
                       uint64_t *ret_second)
{
    char path[CONTD_PATH_MAX], *end;
    cleanup_free char *text = NULL;
    size_t len;

    store_path(inst, file, path);
    int ret = file_read(path, WORD_MAX, &text, &len);
    if (ret < 0)
        return ret;
    *ret_first = strtol(text, &end, 10);
    if (ret_second != NULL)
        *ret_second = strtoull(end, NULL, 10);
    return *ret_first > 1 ? 0 : -EINVAL;
}

/* A living shim holds the lock. */
static bool shim_lives(const struct instance *inst)
{
    char path[CONTD_PATH_MAX];

    store_path(inst, "lock", path);
    cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void shim_ended(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    (void)events;
    instance_refresh(data, true);
}

/* shim.pid is the first thing a shim-to-be writes; contd may have died between the fork and that. */
static int shim_watch(struct instance *inst)
{
    long pid = -1;

    for (int waited = 0; read_number(inst, "shim.pid", &pid, NULL) < 0; waited += 10) {
        if (waited >= SHIM_PID_WAIT_MS)
            return -ESRCH;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    inst->shim = (pid_t)pid;
    inst->shim_pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0u);
    if (inst->shim_pidfd < 0)
        return -errno;
    return loop_io_add(inst->contd->loop, inst->shim_pidfd, EPOLLIN, shim_ended, inst,
                       &inst->shim_io);
}

static uint64_t since_start(uint64_t unix_us)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    return now > unix_us ? now - unix_us : 0;
}

static void adopt_run(struct instance *inst)
{
    bool lives = shim_lives(inst);
    long pid;
    uint64_t at = 0;

    inst->phase = PHASE_STARTING;
    if (lives && shim_watch(inst) < 0)
        lives = shim_lives(inst);
    if (read_number(inst, "started", &pid, &at) == 0) {
        uint64_t age = since_start(at), now = loop_clock();

        inst->started_at = now > age ? now - age : 0;
        instance_started(inst, (pid_t)pid, true);
        log_info("%s: goes on as process %ld", inst->key.name, pid);
    }
    instance_refresh(inst, !lives);
    instance_advance(inst);
}

/* What our predecessor left of its own files when it was killed while it wrote (file_write_atomic()). The child that becomes a shim
 * may be writing others at this moment. */
static void remove_leftovers(const char *folder)
{
    static const char *const own[] = {"instance.json", "start.json", "state.json"};
    char pattern[CONTD_PATH_MAX + 32];

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        glob_t found;

        snprintf(pattern, sizeof(pattern), "%s/%s.??????", folder, own[i]);
        if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
            continue;
        for (size_t f = 0; f < found.gl_pathc; f++)
            unlink(found.gl_pathv[f]);
        globfree(&found);
    }
}

static int adopt_one(struct contd *contd, const struct instance_key *key)
{
    struct instance *inst;
    char path[CONTD_PATH_MAX];
    struct error err = {0};
    int ret = instance_new(contd, key, &inst);

    if (ret < 0)
        return ret;
    if (store_load(inst) < 0) {
        log_info("%s: half-made, is removed", key->name);
        if (clean_instance(inst, &err) < 0)
            log_error(&err, key->name);
        instance_free(inst);
        return 0;
    }
    store_path(inst, "", path);
    remove_leftovers(path);
    inst->watch = inotify_add_watch(contd->inotify, path, IN_MOVED_TO);
    if (inst->launched && inst->start != NULL)
        adopt_run(inst);
    else
        instance_advance(inst);
    return 0;
}

static bool is_known(const struct contd *contd, const char *name)
{
    for (const struct instance *inst = contd->instances; inst != NULL; inst = inst->next) {
        if (strcmp(inst->key.name, name) == 0)
            return true;
    }
    return false;
}

/* What stands in runc's state or in the cgroups without a folder of ours: instances of which only that is left. */
static void remove_strays(struct contd *contd, const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    struct instance_key key;
    struct error err = {0};

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct instance stray = {.contd = contd, .keep_log = true};

        if (store_key(entry->d_name, &key) < 0 || is_known(contd, key.name))
            continue;
        stray.key = key;
        log_warn("%s: a stray is removed", key.name);
        if (clean_instance(&stray, &err) < 0)
            log_error(&err, key.name);
        error_clear(&err);
    }
    if (dir != NULL)
        closedir(dir);
}

static void remove_stray_cgroups(struct contd *contd)
{
    char path[CONTD_PATH_MAX], below[CONTD_PATH_MAX];
    DIR *dir;
    struct dirent *entry;

    snprintf(path, sizeof(path), "%s%s", contd->opt.cgroup_mount, contd->opt.cgroup);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_type != DT_DIR ||
            strspn(entry->d_name, "0123456789") != strlen(entry->d_name) ||
            (size_t)snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >= sizeof(below))
            continue;
        remove_strays(contd, below);
        rmdir(below); /* succeeds only when nothing of the reservation is left */
    }
    if (dir != NULL)
        closedir(dir);
}

int adopt_all(struct contd *contd, struct error *err)
{
    struct dirent **names;
    int count = scandir(contd->opt.run, &names, NULL, alphasort);
    struct instance_key key;

    if (count < 0)
        return error_set(err, errno, "container.bad-folder", NULL, "reading %s: %s", contd->opt.run,
                         strerror(errno));
    for (int i = 0; i < count; i++) {
        int ret = store_key(names[i]->d_name, &key) == 0 ? adopt_one(contd, &key) : 0;

        if (ret < 0)
            log_err("%s: cannot be taken over: %s", names[i]->d_name, strerror(-ret));
        free(names[i]);
    }
    free(names);
    remove_strays(contd, contd->opt.runc_root);
    remove_stray_cgroups(contd);
    return 0;
}
