/*
 * exec.c - Exec: what a tenant's program runs as, and the croft-exec that carries it.
 *
 * The child that becomes croft-exec reads the tenant's files (/etc/passwd) and the bundle; what goes wrong there is told over the
 * session's own socket, so that contd answers at once and has nothing to remember. What contd watches is the child's end alone, for
 * the case that it was killed: then it kills what the session has started.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/contd.h"
#include "container/user.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

#define EXECS_MAX 64             /* on the node */
#define EXECS_RESERVATION_MAX 16 /* so that no tenant has them all */
#define ARGS_MAX 1024
#define CONFIG_MAX ((size_t)4 << 20)
#define KILL_MS 5000
#define LISTEN_FD 3
#define LOCK_FD 4

extern uid_t contd_uids_gated[2];

struct exec_session {
    struct exec_session *next;
    struct contd *contd;
    uint64_t reservation;
    char base[128];              /* <execs>/<name> */
    char cgroup[CONTD_PATH_MAX]; /* of the session */
};

struct exec_request {
    const struct instance *inst;
    yyjson_val *argv, *env;
    const char *user, *cwd;
    bool tty;
    uint64_t rows, columns;
    const char *base, *name;
};

/* ---- what is left of a session ---- */

static void session_clean(const char *base, const char *cgroup)
{
    static const char *const suffixes[] = {"sock", "json", "log", "pid", "tty", "lock"};
    char path[CONTD_PATH_MAX];

    if (cgroup[0] != '\0' && cgroup_destroy(cgroup, KILL_MS) < 0)
        log_warn("%s cannot be removed", cgroup);
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(path, sizeof(path), "%s.%s", base, suffixes[i]);
        unlink(path);
    }
}

/* A lock file holds the session's cgroup, and is locked while croft-exec lives. */
static void clean_dead(const char *folder, const char *file)
{
    char path[CONTD_PATH_MAX], base[CONTD_PATH_MAX];
    cleanup_free char *cgroup = NULL;
    size_t len;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ||
        file_read(path, sizeof(path), &cgroup, &len) < 0)
        return;
    snprintf(base, sizeof(base), "%.*s", (int)(strlen(path) - strlen(".lock")), path);
    session_clean(base, cgroup);
}

void exec_clean_all(struct contd *contd)
{
    DIR *dir = opendir(contd->opt.execs);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        const char *suffix = strrchr(entry->d_name, '.');

        if (suffix != NULL && strcmp(suffix, ".lock") == 0)
            clean_dead(contd->opt.execs, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
}

static void session_ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct exec_session *session = data, **at = &session->contd->execs;

    (void)child;
    (void)pid;
    while (*at != NULL && *at != session)
        at = &(*at)->next;
    if (*at != NULL)
        *at = session->next;
    /* one that ended by itself has left nothing */
    if (status != 0)
        session_clean(session->base, session->cgroup);
    free(session);
}

/* ---- the child ---- */

static void add_environment(yyjson_mut_doc *doc, yyjson_mut_val *process,
                            const struct exec_request *request)
{
    yyjson_mut_val *env = yyjson_mut_obj_get(process, "env");
    yyjson_val *item;
    size_t i, max;

    if (env == NULL)
        env = yyjson_mut_obj_add_arr(doc, process, "env");
    /* of two with one name runc takes the last */
    yyjson_arr_foreach(request->env, i, max, item)
    {
        yyjson_mut_arr_append(env, yyjson_val_mut_copy(doc, item));
    }
}

static int set_user(yyjson_mut_doc *doc, yyjson_mut_val *process,
                    const struct exec_request *request, uid_t *ret_uid, gid_t *ret_gid,
                    struct error *err)
{
    const struct instance *inst = request->inst;
    struct container_user user;
    int ret =
        user_resolve(inst->spec.rootfs, request->user != NULL ? request->user : inst->spec.user,
                     inst->uid_count, &user, err);

    if (ret < 0)
        return ret;
    *ret_uid = inst->uid_base + user.uid;
    *ret_gid = inst->uid_base + user.gid;
    yyjson_mut_obj_remove_key(process, "user");
    yyjson_mut_val *object = yyjson_mut_obj_add_obj(doc, process, "user");
    yyjson_mut_obj_add_uint(doc, object, "uid", user.uid);
    yyjson_mut_obj_add_uint(doc, object, "gid", user.gid);
    yyjson_mut_val *groups = yyjson_mut_obj_add_arr(doc, object, "additionalGids");
    for (size_t i = 0; i < user.group_count; i++)
        yyjson_mut_arr_add_uint(doc, groups, user.groups[i]);
    return 0;
}

/* The container's own process, but for what was asked for. */
static int write_process(const struct exec_request *request, uid_t *ret_uid, gid_t *ret_gid,
                         struct error *err)
{
    char path[CONTD_PATH_MAX];
    cleanup_free char *text = NULL, *json = NULL;
    size_t len;

    store_path(request->inst, "config.json", path);
    int ret = file_read(path, CONFIG_MAX, &text, &len);
    if (ret < 0)
        return error_set(err, -ret, "container.absent", "is the service still running?",
                         "the container is not there any more");
    yyjson_doc *config = yyjson_read(text, len, 0);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *process =
        yyjson_val_mut_copy(doc, yyjson_obj_get(yyjson_doc_get_root(config), "process"));
    if (!yyjson_mut_is_obj(process)) {
        ret = error_set(err, EIO, "container.internal", NULL, "the bundle has no process");
    } else {
        yyjson_mut_doc_set_root(doc, process);
        yyjson_mut_obj_remove_key(process, "args");
        yyjson_mut_obj_add_val(doc, process, "args", yyjson_val_mut_copy(doc, request->argv));
        add_environment(doc, process, request);
        if (request->cwd != NULL) {
            yyjson_mut_obj_remove_key(process, "cwd");
            yyjson_mut_obj_add_str(doc, process, "cwd", request->cwd);
        }
        yyjson_mut_obj_remove_key(process, "terminal");
        yyjson_mut_obj_add_bool(doc, process, "terminal", request->tty);
        if (request->tty) {
            yyjson_mut_val *size = yyjson_mut_obj_add_obj(doc, process, "consoleSize");

            yyjson_mut_obj_add_uint(doc, size, "height", request->rows);
            yyjson_mut_obj_add_uint(doc, size, "width", request->columns);
        }
        ret = set_user(doc, process, request, ret_uid, ret_gid, err);
    }
    if (ret == 0) {
        snprintf(path, sizeof(path), "%s.json", request->base);
        json = yyjson_mut_write(doc, 0, &len);
        ret = json != NULL ? file_write_atomic(path, json, len, 0600) : -ENOMEM;
        if (ret < 0)
            error_set(err, -ret, "container.exec-failed", "try again", "%s: %s", path,
                      strerror(-ret));
    }
    yyjson_mut_doc_free(doc);
    yyjson_doc_free(config);
    return ret;
}

static void child(const struct exec_request *request, int listener, int lock)
{
    const struct contd_options *opt = &request->inst->contd->opt;
    const char *argv[40], *program = yyjson_get_str(yyjson_arr_get_first(request->argv));
    char cgroup[CONTD_PATH_MAX], peer[16], uid_text[16], gid_text[16];
    struct error err = {0};
    uid_t uid = 0;
    gid_t gid = 0;
    size_t n = 0;

    worker_reset_signals();
    launch_enter_shims_cgroup(request->inst->contd);
    /* first out of the way of both places */
    listener = fcntl(listener, F_DUPFD, 16);
    lock = fcntl(lock, F_DUPFD, 16);
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    dup2(listener, LISTEN_FD);
    dup2(lock, LOCK_FD);
    syscall(SYS_close_range, (unsigned)LOCK_FD + 1, ~0u, 0);
    bool ok = write_process(request, &uid, &gid, &err) == 0;
    store_cgroup(request->inst, cgroup);
    snprintf(peer, sizeof(peer), "%u", contd_uids_gated[0]);
    snprintf(uid_text, sizeof(uid_text), "%u", uid);
    snprintf(gid_text, sizeof(gid_text), "%u", gid);
    const char *const fixed[] = {opt->exec,
                                 "--base",
                                 request->base,
                                 "--name",
                                 request->name,
                                 "--cgroup",
                                 cgroup,
                                 "--runc",
                                 opt->runc,
                                 "--root",
                                 opt->runc_root,
                                 "--id",
                                 request->inst->key.name,
                                 "--peer",
                                 peer,
                                 "--uid",
                                 uid_text,
                                 "--gid",
                                 gid_text,
                                 "--program",
                                 program};
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        argv[n++] = fixed[i];
    if (request->tty)
        argv[n++] = "--tty";
    const char *const why[] = {"--code", err.code, "--message", err.message, "--hint", err.hint};
    for (size_t i = 0; !ok && i < sizeof(why) / sizeof(why[0]); i++)
        argv[n++] = why[i];
    argv[n] = NULL;
    const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    execve(opt->exec, (char *const *)argv, (char *const *)env);
    _exit(127);
}

/* ---- contd's side ---- */

static int open_listener(const char *base, char path[CONTD_PATH_MAX])
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(path, CONTD_PATH_MAX, "%s.sock", base);
    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);
    int ret = fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
    umask(mask);
    if (ret == 0 && ((contd_uids_gated[0] != VARLINK_UID_END &&
                      chown(path, contd_uids_gated[0], (gid_t)-1) < 0) ||
                     listen(fd, 4) < 0))
        ret = -errno;
    return ret < 0 ? ret : file_fd_take(&fd);
}

static int open_lock(const char *base, const char *cgroup)
{
    char path[CONTD_PATH_MAX];

    snprintf(path, sizeof(path), "%s.lock", base);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return -errno;
    int ret = file_write_all(fd, cgroup, strlen(cgroup));
    return ret < 0 ? ret : file_fd_take(&fd);
}

static int session_begin(struct exec_request *request, char socket_path[CONTD_PATH_MAX],
                         struct error *err)
{
    struct contd *contd = request->inst->contd;
    struct exec_session *session = calloc(1, sizeof(*session));
    struct loop_child *watch;
    uint8_t random[8];
    char name[32], hex[17], cgroup[CONTD_PATH_MAX];

    if (session == NULL)
        return error_set(err, ENOMEM, "container.busy", NULL, "no memory");
    crypto_random(random, sizeof(random));
    hex_encode(random, sizeof(random), hex);
    snprintf(name, sizeof(name), "exec-%s", hex);
    store_cgroup(request->inst, cgroup);
    session->contd = contd;
    session->reservation = request->inst->key.reservation;
    snprintf(session->base, sizeof(session->base), "%s/%s", contd->opt.execs, hex);
    if ((size_t)snprintf(session->cgroup, sizeof(session->cgroup), "%s/%s", cgroup, name) >=
        sizeof(session->cgroup))
        session->cgroup[0] = '\0';
    request->base = session->base;
    request->name = name;
    cleanup_close int lock = open_lock(session->base, session->cgroup);
    cleanup_close int listener = lock < 0 ? lock : open_listener(session->base, socket_path);
    pid_t pid = listener >= 0 ? fork() : -1;
    if (pid == 0)
        child(request, listener, lock);
    request->base = request->name = NULL; /* this function's own */
    int ret = listener < 0 ? listener : pid < 0 ? -errno : 0;
    if (ret == 0)
        ret = loop_child_add(contd->loop, pid, session_ended, session, &watch);
    if (ret < 0) {
        session_clean(session->base, "");
        free(session);
        return error_set(err, -ret, "container.exec-failed", "try again",
                         "no session can be made: %s", strerror(-ret));
    }
    session->next = contd->execs;
    contd->execs = session;
    return 0;
}

static bool are_strings(yyjson_val *array, size_t min)
{
    yyjson_val *item;
    size_t i, max;

    if (yyjson_arr_size(array) < min)
        return false;
    yyjson_arr_foreach(array, i, max, item)
    {
        if (!yyjson_is_str(item) || strlen(yyjson_get_str(item)) != yyjson_get_len(item))
            return false;
    }
    return true;
}

static bool has_room(const struct contd *contd, uint64_t reservation)
{
    unsigned all = 0, own = 0;

    for (const struct exec_session *s = contd->execs; s != NULL; s = s->next) {
        all++;
        own += s->reservation == reservation;
    }
    return all < EXECS_MAX && own < EXECS_RESERVATION_MAX;
}

void method_exec(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct contd *contd = data;
    struct instance_key key;
    struct members {
        yyjson_val *argv, *env;
        const char *user, *cwd;
        bool tty;
        uint64_t rows, columns;
    } members = {.rows = 24, .columns = 80};
    static const struct json_field fields[] = {
        {"argv", JSON_ARRAY, offsetof(struct members, argv), true, 1, ARGS_MAX},
        {"env", JSON_ARRAY, offsetof(struct members, env), false, 0, ARGS_MAX},
        {"user", JSON_STRING, offsetof(struct members, user), false, 0, 128},
        {"workingDir", JSON_STRING, offsetof(struct members, cwd), false, 1, 4096},
        {"tty", JSON_BOOL, offsetof(struct members, tty), false, 0, 0},
        {"rows", JSON_UINT, offsetof(struct members, rows), false, 1, UINT16_MAX},
        {"columns", JSON_UINT, offsetof(struct members, columns), false, 1, UINT16_MAX},
    };
    char socket_path[CONTD_PATH_MAX];
    struct error err = {0};

    if (!method_key(call, params, &key))
        return;
    if (json_read(params, fields, sizeof(fields) / sizeof(fields[0]), JSON_IGNORE_UNKNOWN, &members,
                  "container.bad-call", &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    struct instance *inst = instance_find(contd, &key);
    struct exec_request request = {.inst = inst,
                                   .argv = members.argv,
                                   .env = members.env,
                                   .user = members.user,
                                   .cwd = members.cwd,
                                   .tty = members.tty,
                                   .rows = members.rows,
                                   .columns = members.columns};
    if (!are_strings(members.argv, 1) || !are_strings(members.env, 0) ||
        (members.cwd != NULL && members.cwd[0] != '/'))
        error_set(&err, EINVAL, "container.bad-call", "give a program and absolute folders",
                  "argv and env are texts, workingDir begins with /");
    else if (inst == NULL || inst->phase != PHASE_RUNNING)
        error_set(&err, ENOENT, "container.not-running",
                  "croft reservation show tells how the service is",
                  "the service is not running now");
    else if (!has_room(contd, key.reservation))
        error_set(&err, EBUSY, "container.busy", "end one of them, or try again later",
                  "too many programs are run in containers already");
    else
        session_begin(&request, socket_path, &err);
    if (err.code[0] != '\0') {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "socket", socket_path);
    varlink_call_reply(call, doc);
}
