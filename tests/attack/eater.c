// eater.c - takes as much of one thing as there is, keeps it for a while, and gives it back.
//
// Each says how much it got. The result is that of the first refusal; one that was never refused succeeded.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

// Keeps what it has until the time is over, and says so, so that the test can look.
static void hold(const char *seconds, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void hold(const char *seconds, const char *fmt, ...)
{
    va_list args;
    char text[256];

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    detail("%s", text);
    printf("holding %s\n", text);
    fflush(stdout);
    sleep((unsigned)atoi(seconds));
}

// SECONDS: a fork bomb; every process forks for ever.
static int eat_processes(char **argument)
{
    time_t end = time(NULL) + atoi(argument[0]);
    int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    alarm(0);
    signal(SIGCHLD, SIG_IGN);
    while (time(NULL) < end) {
        pid_t pid = fork();
        if (pid < 0) {
            __atomic_store_n(&counts[1], errno, __ATOMIC_RELAXED);
            __atomic_add_fetch(&counts[2], 1, __ATOMIC_RELAXED);
        } else if (pid > 0) {
            __atomic_add_fetch(&counts[0], 1, __ATOMIC_RELAXED);
        } else {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        }
    }
    detail("%d made, %d refused", counts[0], counts[2]);
    return -counts[1];
}

// SECONDS: memory, touched. Ends by being killed where there is a limit.
static int eat_memory(char **argument)
{
    size_t total = 0;

    alarm(0);
    for (;;) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            break;
        }
        memset(p, 1, 1 << 20);
        detail("%zu MiB", ++total);
    }
    int result = -errno;
    hold(argument[0], "%zu MiB", total);
    return result;
}

// SECONDS PATH: a file until it is refused.
static int eat_file(char **argument)
{
    static char block[1 << 20];
    size_t total = 0;
    ssize_t n;
    int fd = open(argument[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    alarm(0);
    if (fd < 0) {
        return -errno;
    }
    memset(block, 0x5a, sizeof block);
    for (size_t i = 0; (n = write(fd, block, sizeof block)) > 0; i++) {
        memcpy(block, &i, sizeof i); // nothing that compresses to nothing
        total += (size_t)n;
    }
    int result = -errno;
    if (fsync(fd) < 0) {
        result = -errno;
    }
    hold(argument[0], "%zu MiB", total >> 20);
    unlink(argument[1]);
    return result;
}

// SECONDS FOLDER MAX: empty files until one is refused, or there are so many.
static int eat_inodes(char **argument)
{
    char path[300];
    int made, most = atoi(argument[2]), result = 0;

    alarm(0);
    mkdir(argument[1], 0755);
    for (made = 0; made < most; made++) {
        snprintf(path, sizeof path, "%s/%d-and-a-long-name-that-needs-its-room-in-the-tree",
                 argument[1], made);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            result = -errno;
            break;
        }
        close(fd);
    }
    hold(argument[0], "%d files", made);
    for (int i = 0; i < made; i++) {
        snprintf(path, sizeof path, "%s/%d-and-a-long-name-that-needs-its-room-in-the-tree",
                 argument[1], i);
        unlink(path);
    }
    return result;
}

// SECONDS: descriptors, in as many processes as it takes, 8 at most.
static int eat_descriptors(char **argument)
{
    struct rlimit limit;
    int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    alarm(0);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int p = 0; p < 8; p++) {
        if (fork() == 0) {
            // What they hold is the kernel's memory and counts for none of them: without this the one that counts may be ended first.
            int first = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
            if (first < 0 || write(first, "1000", 4) != 4 || close(first) < 0) {
                _exit(1);
            }
            while (open("/dev/null", O_RDONLY) >= 0) {
                __atomic_add_fetch(&counts[0], 1, __ATOMIC_RELAXED);
            }
            __atomic_store_n(&counts[1], errno, __ATOMIC_RELAXED);
            __atomic_add_fetch(&counts[2], 1, __ATOMIC_RELAXED);
            sleep((unsigned)atoi(argument[0]) + 60);
            _exit(0);
        }
    }
    // Until every process was refused, or killed.
    for (int i = 0; i < 300 && counts[2] < 8 && kill(0, 0) == 0; i++) {
        usleep(100000);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
            __atomic_add_fetch(&counts[2], 1, __ATOMIC_RELAXED);
        }
    }
    hold(argument[0], "%d descriptors", counts[0]);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    return -counts[1];
}

// SECONDS: inotify instances, in as many processes as it takes.
static int eat_inotify(char **argument)
{
    struct rlimit limit;
    int made = 0, result = 0;

    alarm(0);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (; made < 20000; made++) {
        if (inotify_init1(IN_CLOEXEC) < 0) {
            result = -errno;
            break;
        }
    }
    hold(argument[0], "%d instances", made);
    return result;
}

// SECONDS: pseudo terminals.
static int eat_ptys(char **argument)
{
    struct rlimit limit;
    int made = 0, result = 0;

    alarm(0);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (; made < 20000; made++) {
        if (open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC) < 0) {
            result = -errno;
            break;
        }
    }
    hold(argument[0], "%d terminals", made);
    return result;
}

// SECONDS: pending signals.
static int eat_signals(char **argument)
{
    sigset_t all;
    int made = 0, result = 0;

    alarm(0);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (; made < 200000; made++) {
        union sigval value = {.sival_int = made};
        if (sigqueue(getpid(), SIGRTMIN + 1, value) < 0) {
            result = -errno;
            break;
        }
    }
    hold(argument[0], "%d signals", made);
    return result;
}

// SECONDS NETWORK COUNT: begins so many connections by datagrams, "203.0.113." and ports of all kinds, and all of them again while it holds
// them: the kernel forgets one of which it saw nothing for 30 s.
static int eat_connections(char **argument)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), count = atoi(argument[2]), refused = 0,
        result = 0;
    time_t end = 0;

    alarm(0);
    while (end == 0 || time(NULL) < end) {
        for (int i = 0; i < count && (end == 0 || time(NULL) < end); i++) {
            struct sockaddr_in to = {.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)(1024 + i / 250))};
            char text[32];
            snprintf(text, sizeof text, "%s%d", argument[1], 1 + i % 250);
            inet_pton(AF_INET, text, &to.sin_addr);
            if (sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) < 0) {
                result = -errno;
                refused++;
            }
        }
        if (end == 0) {
            detail("%d begun, %d refused", count, refused);
            printf("holding %d begun, %d refused\n", count, refused);
            fflush(stdout);
            end = time(NULL) + atoi(argument[0]);
        }
    }
    return result;
}

// SECONDS ADDRESS4 ADDRESS6: first pieces of datagrams whose rest never comes, as fast as they go.
static int eat_fragments(char **argument)
{
    time_t begin = time(NULL), end = begin + atoi(argument[0]);
    int fd4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW),
        fd6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_FRAGMENT);
    struct sockaddr_in to4 = {.sin_family = AF_INET};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
    static uint8_t packet4[1400], packet6[1360];
    bool said = false;
    unsigned sent = 0;

    alarm(0);
    if (fd4 < 0 || fd6 < 0) {
        return -errno;
    }
    inet_pton(AF_INET, argument[1], &to4.sin_addr);
    inet_pton(AF_INET6, argument[2], &to6.sin6_addr);
    packet4[0] = 0x45;
    packet4[6] = 0x20; // more fragments
    packet4[8] = 64;
    packet4[9] = IPPROTO_UDP;
    memcpy(packet4 + 16, &to4.sin_addr,
           4); // the kernel fills in the source, the length and the checksum
    packet6[0] = IPPROTO_UDP;
    packet6[3] = 1; // more fragments
    while (time(NULL) < end) {
        sent++;
        packet4[4] = (uint8_t)(sent >> 8);
        packet4[5] = (uint8_t)sent;
        memcpy(packet6 + 4, &sent, sizeof sent);
        (void)!sendto(fd4, packet4, sizeof packet4, 0, (struct sockaddr *)&to4, sizeof to4);
        (void)!sendto(fd6, packet6, sizeof packet6, 0, (struct sockaddr *)&to6, sizeof to6);
        if (!said && sent >= 20000) {
            hold("0", "%u sent", sent);
            said = true;
        }
    }
    detail("%u sent", sent);
    return said ? 0 : -ETIMEDOUT;
}

// SECONDS: lines into the log as fast as they go.
static int eat_log(char **argument)
{
    time_t end = time(NULL) + atoi(argument[0]);
    char line[1024];
    size_t lines = 0;

    alarm(0);
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    while (time(NULL) < end) {
        for (int i = 0; i < 64; i++, lines++) {
            if (write(1, line, sizeof line) < 0) {
                return -errno;
            }
        }
    }
    detail("%zu lines", lines);
    return 0;
}

// SECONDS: a processor, or all of them by threads of the caller's choice: one process each.
static int eat_processor(char **argument)
{
    time_t end = time(NULL) + atoi(argument[0]);

    alarm(0);
    for (int i = 1; i < atoi(argument[1]); i++) {
        if (fork() == 0) {
            break;
        }
    }
    for (volatile unsigned long n = 0; time(NULL) < end; n++) {
    }
    return 0;
}

const struct attack eaters[] = {
    {"eat-processes", 1, eat_processes},
    {"eat-memory", 1, eat_memory},
    {"eat-file", 2, eat_file},
    {"eat-inodes", 3, eat_inodes},
    {"eat-descriptors", 1, eat_descriptors},
    {"eat-inotify", 1, eat_inotify},
    {"eat-ptys", 1, eat_ptys},
    {"eat-signals", 1, eat_signals},
    {"eat-connections", 3, eat_connections},
    {"eat-fragments", 3, eat_fragments},
    {"eat-log", 1, eat_log},
    {"eat-processor", 2, eat_processor},
    {NULL, 0, NULL},
};
