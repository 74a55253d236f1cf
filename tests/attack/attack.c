// attack.c - see attack.h: the table, and how an attack is run.
#define _GNU_SOURCE
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_MAX 30
#define DETAIL_MAX 4096

struct shared {
    int result;
    bool done;
    char detail[DETAIL_MAX];
};

static struct shared *shared;

void detail(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(shared->detail, DETAIL_MAX, fmt, args);
    va_end(args);
}

int outcome(long result)
{
    return result < 0 ? -errno : 0;
}

// musl has no strerrorname_np().
static const char *errno_name(int number)
{
#define ROW(e)                                                                                     \
    case e:                                                                                        \
        return #e
    switch (number) {
        ROW(EPERM);
        ROW(ENOENT);
        ROW(ESRCH);
        ROW(EIO);
        ROW(ENXIO);
        ROW(EBADF);
        ROW(EAGAIN);
        ROW(ENOMEM);
        ROW(EACCES);
        ROW(EFAULT);
        ROW(EBUSY);
        ROW(EEXIST);
        ROW(ENODEV);
        ROW(ENOTDIR);
        ROW(EINVAL);
        ROW(ENFILE);
        ROW(EMFILE);
        ROW(ETXTBSY);
        ROW(EFBIG);
        ROW(ENOSPC);
        ROW(EROFS);
        ROW(EDQUOT);
        ROW(ENOSYS);
        ROW(ELOOP);
        ROW(ENODATA);
        ROW(EOPNOTSUPP);
        ROW(EPROTONOSUPPORT);
        ROW(ESOCKTNOSUPPORT);
        ROW(EAFNOSUPPORT);
        ROW(EADDRNOTAVAIL);
        ROW(ENETUNREACH);
        ROW(ENETDOWN);
        ROW(ECONNREFUSED);
        ROW(ECONNRESET);
        ROW(EHOSTUNREACH);
        ROW(ETIMEDOUT);
        ROW(EUSERS);
    default:
        return "other";
    }
#undef ROW
}

static const struct attack *find(const char *name)
{
    const struct attack *const tables[] = {escapes, neighbours, network, eaters};

    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const struct attack *a = tables[t]; a->name; a++) {
            if (strcmp(a->name, name) == 0) {
                return a;
            }
        }
    }
    return NULL;
}

static void say(const char *name, const char *verdict, const char *how)
{
    printf("{\"attack\":\"%s\",\"verdict\":\"%s\",\"errno\":\"%s\",\"detail\":\"", name, verdict,
           how);
    for (const char *p = shared->detail; *p; p++) {
        if (*p == '"' || *p == '\\') {
            printf("\\%c", *p);
        } else if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e) {
            printf("\\u%04x", (unsigned char)*p);
        } else {
            putchar(*p);
        }
    }
    printf("\"}\n");
    fflush(stdout);
}

static void run(const char *name, char **argument, int count)
{
    const struct attack *attack = find(name);
    int status;

    memset(shared, 0, sizeof *shared);
    if (!attack || count < attack->arguments) {
        say(name, "unknown", "");
        return;
    }
    pid_t pid = fork();
    if (pid < 0) {
        say(name, "refused", errno_name(errno));
        return;
    }
    if (pid == 0) {
        alarm(SECONDS_MAX);
        shared->result = attack->fn(argument);
        shared->done = true;
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!shared->done) {
        char text[16];
        int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        snprintf(text, sizeof text, "%d", sig);
        say(name, sig == SIGALRM ? "slow" : "killed", text);
    } else if (shared->result < 0) {
        say(name, "refused", errno_name(-shared->result));
    } else {
        say(name, "succeeded", "");
    }
}

// Into namespaces of a process, for the controls: "net,ipc,mnt,uts,pid".
static void enter(const char *pid, const char *kinds)
{
    char path[64], *copy = strdup(kinds), *save = NULL;
    int fds[8], count = 0;

    for (char *kind = strtok_r(copy, ",", &save); kind && count < 8;
         kind = strtok_r(NULL, ",", &save)) {
        snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, kind);
        fds[count] = open(path, O_RDONLY | O_CLOEXEC);
        if (fds[count++] < 0) {
            perror(path);
            exit(2);
        }
    }
    for (int i = 0; i < count; i++) {
        if (setns(fds[i], 0) < 0) {
            perror("setns");
            exit(2);
        }
        close(fds[i]);
    }
    free(copy);
}

int main(int argc, char **argv)
{
    int at = 1;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (;;) {
        if (argc > at + 2 && strcmp(argv[at], "--enter") == 0) {
            enter(argv[at + 1], argv[at + 2]);
            at += 3;
        } else if (argc > at + 1 && strcmp(argv[at], "--uid") == 0) {
            unsigned id = (unsigned)strtoul(argv[at + 1], NULL, 10);
            if (setgroups(0, NULL) < 0 || setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0) {
                perror("setresuid");
                return 2;
            }
            at += 2;
        } else {
            break;
        }
    }
    while (at < argc) {
        char *words[64];
        int count = 0;
        for (; at < argc && strcmp(argv[at], ",") != 0; at++) {
            if (count < 63) {
                words[count++] = argv[at];
            }
        }
        at++;
        words[count] = NULL;
        if (count > 0) {
            run(words[0], words + 1, count - 1);
        }
    }
    return 0;
}
