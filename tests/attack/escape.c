// escape.c - ways out of a container that past advisories used, and doors to the kernel that it does not need.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

// ---- files

// PATH: at least one byte can be read.
static int attack_read(char **argument)
{
    static char text[16384]; // /dev/kmsg gives whole records only
    int fd = open(argument[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n < 0) {
        return -errno;
    }
    text[n] = 0;
    detail("%.200s", text);
    return n > 0 ? 0 : -ENODATA;
}

// PATH: opens for writing, writes nothing.
static int attack_write(char **argument)
{
    return outcome(open(argument[0], O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_APPEND));
}

// PATH WORD: writes it.
static int attack_put(char **argument)
{
    int fd = open(argument[0], O_WRONLY | O_CLOEXEC);

    return outcome(fd < 0 ? -1 : write(fd, argument[1], strlen(argument[1])));
}

// PATH: a folder is made and removed.
static int attack_mkdir(char **argument)
{
    int result = outcome(mkdir(argument[0], 0755));

    if (result == 0) {
        rmdir(argument[0]);
    }
    return result;
}

// PATH TYPE MAJOR MINOR: makes a node and opens it.
static int attack_mknod(char **argument)
{
    mode_t type = argument[1][0] == 'b' ? S_IFBLK : S_IFCHR;
    dev_t number = makedev((unsigned)atoi(argument[2]), (unsigned)atoi(argument[3]));

    unlink(argument[0]);
    if (mknod(argument[0], type | 0666, number) < 0) {
        return -errno;
    }
    int fd = open(argument[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = fd < 0 ? -errno : 0;
    detail("made");
    unlink(argument[0]);
    return result;
}

// Every descriptor but the streams, and where they lead. None: refused.
static int attack_descriptors(char **argument)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    char text[3000] = "", target[256], path[300];
    int count = 0;

    (void)argument;
    if (!dir) {
        return -errno;
    }
    while ((entry = readdir(dir))) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd <= 2 || fd == dirfd(dir)) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%d=%s ", fd, target);
        count++;
    }
    detail("%s", text);
    return count > 0 ? count : -ENOENT;
}

// The working directory lies outside of the root (CVE-2024-21626).
static int attack_cwd(char **argument)
{
    char here[1024];

    (void)argument;
    if (syscall(SYS_getcwd, here, sizeof here) < 0) {
        return -errno;
    }
    detail("%s", here);
    if (here[0] != '/') {
        return 0;
    }
    // One that the root does hold is not outside of it; otherwise ".." climbs past it.
    struct stat root, at;
    for (int i = 0; i < 64; i++) {
        if (chdir("..") < 0) {
            return -errno;
        }
    }
    return stat("/", &root) == 0 && stat(".", &at) == 0 && root.st_ino == at.st_ino &&
                   root.st_dev == at.st_dev
               ? -ENOENT
               : 0;
}

static bool names(pid_t pid, char *path, size_t size, const char *own)
{
    snprintf(path, size, "/proc/%d/exe", (int)pid);
    char target[300];
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    return n <= 0 || strcmp(target, own) != 0;
}

// CVE-2019-5736: waits for a program that is not our own to show up, as the runtime does when it enters the container, holds
// it by its /proc/PID/exe, and tries to write to it while it runs and once nobody runs it any more. SECONDS.
static int attack_exe(char **argument)
{
    time_t end = time(NULL) + atoi(argument[0]);
    int held[64], count = 0, seen = 0, last = ENOENT;
    char own[300] = "", path[300];

    alarm(0);
    (void)!readlink("/proc/self/exe", own, sizeof own - 1);
    // On a busy machine the moment in which there is something to hold comes late: up to eight times as long.
    while (time(NULL) < end || (count == 0 && time(NULL) < end + 7 * (time_t)atoi(argument[0]))) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc))) {
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
            if (pid <= 1 || !names(pid, path, sizeof path, own)) {
                continue;
            }
            seen++;
            int exe = open(path, O_PATH | O_CLOEXEC);
            if (exe < 0) {
                last = errno;
            } else if (count < 64) {
                held[count++] = exe;
            } else {
                close(exe);
            }
        }
        closedir(proc);
        for (int i = 0; i < count; i++) {
            snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
            if (open(path, O_WRONLY | O_CLOEXEC) >= 0) {
                detail("seen %d, held %d", seen, count);
                return 0;
            }
            last = errno;
        }
    }
    detail("seen %d, held %d", seen, count);
    return -last;
}

// SECONDS A B: swaps two names, for races between a check and a use (CVE-2021-30465).
static int attack_flip(char **argument)
{
    time_t end = time(NULL) + atoi(argument[0]);
    int count = 0;

    alarm(0);
    printf("flipping\n");
    fflush(stdout);
    while (time(NULL) < end) {
        if (syscall(SYS_renameat2, AT_FDCWD, argument[1], AT_FDCWD, argument[2],
                    2 /* RENAME_EXCHANGE */) < 0) {
            return -errno;
        }
        count++;
    }
    detail("%d", count);
    return 0;
}

// ---- mounts

// SOURCE TARGET TYPE [FLAGS]: bind, or a type.
static int attack_mount(char **argument)
{
    bool bind = strcmp(argument[2], "bind") == 0;
    int result = outcome(
        mount(argument[0], argument[1], bind ? NULL : argument[2], bind ? MS_BIND : 0, NULL));

    if (result == 0) {
        umount2(argument[1], MNT_DETACH);
    }
    return result;
}

// TYPE HOW PATH: mounts one without anything covered in it, and reads or writes a file of it (PATH relative).
static int attack_fresh(char **argument)
{
    char path[300];

    if (mount("none", "/tmp", argument[0], 0, NULL) < 0) {
        return -errno;
    }
    snprintf(path, sizeof path, "/tmp/%s", argument[2]);
    char *words[] = {path, NULL};
    int result = strcmp(argument[1], "read") == 0    ? attack_read(words)
                 : strcmp(argument[1], "mkdir") == 0 ? attack_mkdir(words)
                                                     : attack_write(words);
    umount2("/tmp", MNT_DETACH);
    return result;
}

static int attack_remount(char **argument)
{
    return outcome(mount(NULL, argument[0], NULL, MS_REMOUNT | MS_BIND, NULL));
}

// PATH: takes the cover off.
static int attack_umount(char **argument)
{
    return outcome(umount2(argument[0], MNT_DETACH));
}

static int attack_fsopen(char **argument)
{
    return outcome(syscall(SYS_fsopen, argument[0], 0));
}

static int attack_open_tree(char **argument)
{
    return outcome(syscall(SYS_open_tree, AT_FDCWD, argument[0], 1 /* OPEN_TREE_CLONE */));
}

static int attack_mount_setattr(char **argument)
{
    struct {
        uint64_t set, clr, propagation, userns;
    } attr = {.clr = 1 /* MOUNT_ATTR_RDONLY */};

    return outcome(syscall(SYS_mount_setattr, AT_FDCWD, argument[0], 0, &attr, sizeof attr));
}

static int attack_pivot_root(char **argument)
{
    (void)argument;
    (void)!unshare(CLONE_NEWNS); // where that is allowed, nobody else's root is to change
    return outcome(syscall(SYS_pivot_root, "/tmp", "/tmp"));
}

// ---- namespaces

// KIND: a new one.
static int attack_unshare(char **argument)
{
    static const struct {
        const char *name;
        int flag;
    } kinds[] = {{"user", CLONE_NEWUSER},    {"mount", CLONE_NEWNS}, {"net", CLONE_NEWNET},
                 {"pid", CLONE_NEWPID},      {"ipc", CLONE_NEWIPC},  {"uts", CLONE_NEWUTS},
                 {"cgroup", CLONE_NEWCGROUP}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, argument[0]) == 0) {
            return outcome(unshare(kinds[i].flag));
        }
    }
    return -EINVAL;
}

static int attack_clone_user(char **argument)
{
    (void)argument;
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);

    if (pid == 0) {
        _exit(0);
    }
    return outcome(pid);
}

static int attack_clone3_user(char **argument)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};

    (void)argument;
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        _exit(0);
    }
    return outcome(pid);
}

// PATH: joins it.
static int attack_setns(char **argument)
{
    int fd = open(argument[0], O_RDONLY | O_CLOEXEC);

    return outcome(fd < 0 ? -1 : setns(fd, 0));
}

// ---- doors to the kernel

static int attack_keyring(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_add_key, "user", "croft-attack", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int attack_keyctl(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_SESSION_KEYRING, 0));
}

static int attack_request_key(char **argument)
{
    (void)argument;
    int result = outcome(syscall(SYS_request_key, "user", "croft-none", NULL, 0));
    return result == -126 /* ENOKEY: it was asked */ ? 0 : result;
}

static int attack_bpf(char **argument)
{
    char attr[128] = {0};

    (void)argument;
    attr[0] = 2; // BPF_MAP_TYPE_ARRAY: type, key size, value size, entries
    attr[4] = 4;
    attr[8] = 4;
    attr[12] = 1;
    return outcome(syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, attr, sizeof attr));
}

static int attack_userfaultfd(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_userfaultfd, O_CLOEXEC));
}

static int attack_io_uring(char **argument)
{
    char params[120] = {0};

    (void)argument;
    return outcome(syscall(SYS_io_uring_setup, 4, params));
}

static int attack_perf(char **argument)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};

    (void)argument;
    return outcome(syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0));
}

// The "shocker" of 2014: the root of the file system that holds PATH, by its handle.
static int attack_handle(char **argument)
{
    struct {
        unsigned bytes;
        int type;
        unsigned char data[128];
    } handle = {.bytes = 128};
    int id, fd = open(argument[0], O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, argument[0], &handle, &id, 0) < 0) {
        handle.bytes = 8;
        handle.type = 1;
        memset(handle.data, 0, sizeof handle.data);
        handle.data[0] = 2;
    }
    return outcome(syscall(SYS_open_by_handle_at, fd, &handle, O_RDONLY));
}

static int attack_kexec(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

static int attack_init_module(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_init_module, "", 0, ""));
}

static int attack_delete_module(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_delete_module, "croft_none", O_NONBLOCK));
}

static int attack_reboot(char **argument)
{
    (void)argument;
    return outcome(
        syscall(SYS_reboot, 0xfee1dead, 0x28121969, 0 /* RB_DISABLE_CAD: harmless */, NULL));
}

static int attack_clock(char **argument)
{
    struct timespec now;

    (void)argument;
    clock_gettime(CLOCK_REALTIME, &now);
    return outcome(clock_settime(CLOCK_REALTIME, &now));
}

static int attack_adjtime(char **argument)
{
    struct timex t = {.modes = ADJ_TICK, .tick = 10000};

    (void)argument;
    int result = adjtimex(&t);
    return result < 0 ? -errno : 0;
}

static int attack_swapon(char **argument)
{
    (void)argument;
    int result = outcome(syscall(SYS_swapon, "/croft-none", 0));
    return result == -ENOENT ? 0 : result; // looked for: it would have been allowed
}

static int attack_acct(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_acct, NULL));
}

static int attack_quotactl(char **argument)
{
    (void)argument;
    int result = outcome(syscall(SYS_quotactl, 0x80000100 /* Q_SYNC */, NULL, 0, NULL));
    return result;
}

static int attack_syslog(char **argument)
{
    char text[64];

    (void)argument;
    return outcome(syscall(SYS_syslog, 3 /* SYSLOG_ACTION_READ_ALL */, text, sizeof text));
}

static int attack_iopl(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_iopl, 3));
}

static int attack_hostname(char **argument)
{
    char name[65];

    (void)argument;
    gethostname(name, sizeof name);
    return outcome(sethostname(name, strlen(name)));
}

static int attack_vhangup(char **argument)
{
    (void)argument;
    // A process without a terminal has nothing to hang up, so that this is harmless.
    return outcome(syscall(SYS_vhangup));
}

static int attack_personality(char **argument)
{
    (void)argument;
    return outcome(syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */));
}

static int attack_modify_ldt(char **argument)
{
    char buffer[64];

    (void)argument;
    return outcome(syscall(SYS_modify_ldt, 0, buffer, sizeof buffer));
}

// FAMILY TYPE PROTOCOL
static int attack_socket(char **argument)
{
    return outcome(socket(atoi(argument[0]), atoi(argument[1]), atoi(argument[2])));
}

// Asks the kernel's audit for its state, as auditctl does.
static int attack_audit(char **argument)
{
    struct {
        struct nlmsghdr header;
    } request = {{.nlmsg_len = sizeof request,
                  .nlmsg_type = AUDIT_GET,
                  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK}};
    char answer[1024];
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);

    (void)argument;
    if (fd < 0 || send(fd, &request, sizeof request, 0) < 0) {
        return -errno;
    }
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
    if (n < 0) {
        return -errno;
    }
    if (header->nlmsg_type == NLMSG_ERROR) {
        return *(const int *)(answer + sizeof *header);
    }
    return 0;
}

// PROTOCOL GROUP: a netlink socket that listens to a group, and a message that means nothing to who answers there.
static int attack_netlink(char **argument)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = (unsigned)atoi(argument[1])};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, atoi(argument[0]));

    struct nlmsghdr nothing = {.nlmsg_len = sizeof nothing, .nlmsg_type = NLMSG_NOOP};

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        return -errno;
    }
    addr.nl_groups = 0;
    return outcome(sendto(fd, &nothing, sizeof nothing, 0, (struct sockaddr *)&addr, sizeof addr));
}

// SECONDS: what the kernel tells of devices. Says "listening"; the first event ends it.
static int attack_uevents(char **argument)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    struct timeval wait = {.tv_sec = atoi(argument[0])};
    char text[2048];

    alarm(0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0) {
        return -errno;
    }
    printf("listening\n");
    fflush(stdout);
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    if (n < 0) {
        return -errno;
    }
    text[n] = 0;
    detail("%s", text);
    return 0;
}

const struct attack escapes[] = {
    {"read", 1, attack_read},
    {"write", 1, attack_write},
    {"put", 2, attack_put},
    {"mkdir", 1, attack_mkdir},
    {"mknod", 4, attack_mknod},
    {"descriptors", 0, attack_descriptors},
    {"cwd", 0, attack_cwd},
    {"exe", 1, attack_exe},
    {"flip", 3, attack_flip},
    {"mount", 3, attack_mount},
    {"fresh", 3, attack_fresh},
    {"remount", 1, attack_remount},
    {"umount", 1, attack_umount},
    {"fsopen", 1, attack_fsopen},
    {"open-tree", 1, attack_open_tree},
    {"mount-setattr", 1, attack_mount_setattr},
    {"pivot-root", 0, attack_pivot_root},
    {"unshare", 1, attack_unshare},
    {"clone-user", 0, attack_clone_user},
    {"clone3-user", 0, attack_clone3_user},
    {"setns", 1, attack_setns},
    {"add-key", 0, attack_keyring},
    {"keyctl", 0, attack_keyctl},
    {"request-key", 0, attack_request_key},
    {"bpf", 0, attack_bpf},
    {"userfaultfd", 0, attack_userfaultfd},
    {"io-uring", 0, attack_io_uring},
    {"perf", 0, attack_perf},
    {"handle", 1, attack_handle},
    {"kexec", 0, attack_kexec},
    {"init-module", 0, attack_init_module},
    {"delete-module", 0, attack_delete_module},
    {"reboot", 0, attack_reboot},
    {"clock", 0, attack_clock},
    {"adjtime", 0, attack_adjtime},
    {"swapon", 0, attack_swapon},
    {"acct", 0, attack_acct},
    {"quotactl", 0, attack_quotactl},
    {"syslog", 0, attack_syslog},
    {"iopl", 0, attack_iopl},
    {"hostname", 0, attack_hostname},
    {"vhangup", 0, attack_vhangup},
    {"personality", 0, attack_personality},
    {"modify-ldt", 0, attack_modify_ldt},
    {"socket", 3, attack_socket},
    {"audit", 0, attack_audit},
    {"netlink", 2, attack_netlink},
    {"uevents", 1, attack_uevents},
    {NULL, 0, NULL},
};
