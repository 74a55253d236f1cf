// neighbour.c - attacks on the processes of somebody else, and the victim that they are tried on.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

static char secret[] = "what-the-neighbour-keeps";

static pid_t process(const char *text)
{
    return (pid_t)strtol(text, NULL, 10);
}

// PID SIGNAL (0: only asks)
static int attack_kill(char **argument)
{
    return outcome(kill(process(argument[0]), atoi(argument[1])));
}

static int attack_ptrace(char **argument)
{
    pid_t pid = process(argument[0]);

    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) {
        return -errno;
    }
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return 0;
}

// PID ADDRESS: reads the victim's memory.
static int attack_vm_read(char **argument)
{
    char data[sizeof secret] = "";
    struct iovec to = {data, sizeof data};
    struct iovec from = {(void *)strtoul(argument[1], NULL, 16), sizeof data};
    ssize_t n = process_vm_readv(process(argument[0]), &to, 1, &from, 1, 0);

    data[sizeof data - 1] = 0;
    detail("%s", data);
    return outcome(n);
}

// PID ADDRESS: the same by the file.
static int attack_mem(char **argument)
{
    char path[64], data[sizeof secret] = "";

    snprintf(path, sizeof path, "/proc/%s/mem", argument[0]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, data, sizeof data, (off_t)strtoul(argument[1], NULL, 16));
    data[sizeof data - 1] = 0;
    detail("%s", data);
    return outcome(n);
}

static int attack_pidfd_getfd(char **argument)
{
    long pidfd = syscall(SYS_pidfd_open, process(argument[0]), 0);

    return outcome(pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, (int)pidfd, 0, 0));
}

static int attack_pidfd_signal(char **argument)
{
    long pidfd = syscall(SYS_pidfd_open, process(argument[0]), 0);

    return outcome(pidfd < 0 ? -1 : syscall(SYS_pidfd_send_signal, (int)pidfd, 0, NULL, 0));
}

static int attack_priority(char **argument)
{
    return outcome(syscall(SYS_setpriority, 0 /* PRIO_PROCESS */, process(argument[0]), 19));
}

static int attack_affinity(char **argument)
{
    unsigned long mask[16] = {1};

    return outcome(syscall(SYS_sched_setaffinity, process(argument[0]), sizeof mask, mask));
}

static int attack_prlimit(char **argument)
{
    uint64_t old[2];

    return outcome(syscall(SYS_prlimit64, process(argument[0]), 7 /* RLIMIT_NOFILE */, NULL, old));
}

// NAME: an abstract Unix socket
static int attack_abstract(char **argument)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(argument[0]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path + 1, argument[0], len);
    return outcome(fd < 0 ? -1
                          : connect(fd, (struct sockaddr *)&addr,
                                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)));
}

// PATH: a Unix socket
static int attack_unix(char **argument)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(addr.sun_path, argument[0], sizeof addr.sun_path - 1);
    return outcome(fd < 0 ? -1 : connect(fd, (struct sockaddr *)&addr, sizeof addr));
}

// SOCKET METHOD: calls it without parameters. Refused: the daemon does not let this user call it.
static int attack_varlink(char **argument)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 20};
    static char answer[65536];
    char request[300];
    size_t len = 0;
    ssize_t n;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(addr.sun_path, argument[0], sizeof addr.sun_path - 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        return -errno;
    }
    int size =
        snprintf(request, sizeof request, "{\"method\":\"%s\",\"parameters\":{}}", argument[1]);
    if (send(fd, request, (size_t)size + 1, MSG_NOSIGNAL) < 0) {
        return -errno;
    }
    while ((n = recv(fd, answer + len, sizeof answer - 1 - len, 0)) > 0) {
        len += (size_t)n;
        if (memchr(answer, 0, len) || len == sizeof answer - 1) {
            break;
        }
    }
    if (n <= 0) {
        return n < 0 ? -errno : -ECONNRESET;
    }
    detail("%.200s", answer);
    return strstr(answer, "org.varlink.service.PermissionDenied") ? -EPERM : 0;
}

static int attack_sysv(char **argument)
{
    return outcome(shmget((key_t)strtol(argument[0], NULL, 10), 0, 0));
}

static int attack_mqueue(char **argument)
{
    return outcome(mq_open(argument[0], O_RDONLY | O_CLOEXEC));
}

static int attack_shm(char **argument)
{
    return outcome(shm_open(argument[0], O_RDONLY, 0));
}

// KEY NAME: owns one of everything that could be attacked, and says where its secret lies. Stays.
static int be_victim(char **argument)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[64];
    size_t len = strlen(argument[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    alarm(0);
    memcpy(addr.sun_path + 1, argument[1], len);
    if (bind(fd, (struct sockaddr *)&addr,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) < 0 ||
        listen(fd, 5) < 0) {
        return -errno;
    }
    if (shmget((key_t)strtol(argument[0], NULL, 10), 4096, IPC_CREAT | 0666) < 0) {
        return -errno;
    }
    snprintf(path, sizeof path, "/%s", argument[1]);
    if (mq_open(path, O_RDWR | O_CREAT, 0666, NULL) < 0 ||
        shm_open(path, O_RDWR | O_CREAT, 0666) < 0) {
        return -errno;
    }
    printf("ready %p\n", (void *)secret);
    fflush(stdout);
    for (;;) {
        pause();
    }
}

// PID …: several ways at once are several attacks; each takes the process' number as the node knows it.
const struct attack neighbours[] = {
    {"kill", 2, attack_kill},
    {"ptrace", 1, attack_ptrace},
    {"vm-read", 2, attack_vm_read},
    {"mem", 2, attack_mem},
    {"pidfd-getfd", 1, attack_pidfd_getfd},
    {"pidfd-signal", 1, attack_pidfd_signal},
    {"priority", 1, attack_priority},
    {"affinity", 1, attack_affinity},
    {"prlimit", 1, attack_prlimit},
    {"abstract", 1, attack_abstract},
    {"unix", 1, attack_unix},
    {"varlink", 2, attack_varlink},
    {"sysv", 1, attack_sysv},
    {"mqueue", 1, attack_mqueue},
    {"shm", 1, attack_shm},
    {"victim", 2, be_victim},
    {NULL, 0, NULL},
};
