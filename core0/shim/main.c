/*
 * main.c - croft-shim: one per running container. Starts it, keeps its log, keeps how it ended.
 *
 * It stands between contd and the container so that contd may be replaced or killed at any moment: it lives in a
 * cgroup and a session of its own, is the container's reaper, and reads both of its streams. All it says, it says
 * with files in the instance's folder, each renamed into place:
 *
 *   started   "<pid> <Unix us>\n"          the container's first process runs its own program
 *   exit      "exit <status> <Unix us>\n"   it ended; status as a shell gives it: 128 + signal when killed
 *             "failed <status> <Unix us>\n" and perhaps a sentence: it could not be started; without the sentence
 *             runc.log says why
 *
 * A lock on the folder's file `lock` is inherited from contd and held until the shim ends: who can take it knows
 * that no shim lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim/logfile.h"

#define READ_SIZE ((size_t)64 * 1024)
/* A descriptor that left the container (through a socket in a shared volume) may keep the pipe open for ever. */
#define DRAIN_MS UINT64_C(1000)
/* runc answers before the first process has made its last step, execve(2); seen to take well below a millisecond. */
#define EXEC_WAIT_STEPS 200
#define EXEC_WAIT_NS 250000

struct options {
    const char *dir, *logs, *runc, *root, *id;
    uid_t
        uid; /* who may open the streams again through /dev/stdout: the container's user, as the host sees it */
    gid_t gid;
    uint64_t log_size;
    unsigned log_files;
};

struct shim {
    struct options opt;
    struct logfile log;
    struct logfile_stream stream[2];
    int pipe[2]; /* read ends, -1 when ended */
};

static struct shim shim;

static uint64_t unix_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- files of the instance's folder ---- */

static void say(const char *name, const char *text)
{
    char path[4096], temporary[4096];

    snprintf(path, sizeof(path), "%s/%s", shim.opt.dir, name);
    snprintf(temporary, sizeof(temporary), "%s/.%s", shim.opt.dir, name);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    if (ok)
        (void)!rename(temporary, path);
}

static void say_end(const char *word, int status, const char *sentence)
{
    char text[640];

    snprintf(text, sizeof(text), "%s %d %llu\n%s", word, status, (unsigned long long)unix_us(),
             sentence);
    say("exit", text);
}

static pid_t read_pid(void)
{
    char path[4096], text[32] = {0};

    snprintf(path, sizeof(path), "%s/pid", shim.opt.dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    return pid > 1 ? (pid_t)pid : -1;
}

/* ---- the container's streams ---- */

/* One read of a stream; closes it at its end. */
static void stream_read(int which)
{
    static char data[READ_SIZE];
    ssize_t n = read(shim.pipe[which], data, sizeof(data));

    if (n > 0) {
        logfile_feed(&shim.log, &shim.stream[which], unix_us(), data, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(shim.pipe[which]);
        shim.pipe[which] = -1;
    }
}

/* Waits for one of the streams or for `fd` (-1: none); returns true when fd is readable. */
static bool streams_turn(int fd, int timeout_ms)
{
    struct pollfd fds[3] = {{shim.pipe[0], POLLIN, 0}, {shim.pipe[1], POLLIN, 0}, {fd, POLLIN, 0}};

    if (poll(fds, 3, timeout_ms) <= 0)
        return false;
    for (int i = 0; i < 2; i++) {
        if (shim.pipe[i] >= 0 && fds[i].revents != 0)
            stream_read(i);
    }
    return fds[2].revents != 0;
}

static void streams_drain(void)
{
    uint64_t end = unix_us() + DRAIN_MS * 1000;

    while (shim.pipe[0] >= 0 || shim.pipe[1] >= 0) {
        uint64_t now = unix_us();

        if (now >= end)
            break;
        streams_turn(-1, (int)((end - now) / 1000) + 1);
    }
    for (int i = 0; i < 2; i++)
        logfile_flush(&shim.log, &shim.stream[i], unix_us());
}

/* ---- the container ---- */

/* Runs runc to its end; its streams are the container's. Returns its exit status. */
static int runc_run(const int out[2])
{
    char log[4096], pid_file[4096];
    int status;

    snprintf(log, sizeof(log), "%s/runc.log", shim.opt.dir);
    snprintf(pid_file, sizeof(pid_file), "%s/pid", shim.opt.dir);
    unlink(log);
    unlink(pid_file);
    pid_t pid = fork();
    if (pid < 0)
        return 126;
    if (pid == 0) {
        sigset_t none;
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        /* what is ignored stays ignored through execve(2), in the container too */
        for (int signo = 1; signo < 32; signo++)
            signal(signo, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        dup2(null, 0);
        dup2(out[0], 1);
        dup2(out[1], 2);
        execl(shim.opt.runc, shim.opt.runc, "--root", shim.opt.root, "--log", log, "--log-format",
              "json", "run", "--detach", "--bundle", shim.opt.dir, "--pid-file", pid_file,
              shim.opt.id, (char *)NULL);
        _exit(127);
    }
    /* Only runc is reaped here: a container that ends at once stays a zombie until its number is known. */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* runc's init is called "runc:[2:INIT]" until it has become the container's program; nothing tells of that moment.
 * False: it ended under that name, so execve(2) failed. */
static bool wait_for_exec(pid_t pid)
{
    char path[64], text[64];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    for (int i = 0; i < EXEC_WAIT_STEPS; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

        if (fd >= 0)
            close(fd);
        text[n > 0 ? n : 0] = '\0';
        if (strstr(text, " (runc:[") == NULL)
            return true;
        if (strstr(text, ") Z ") != NULL)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = EXEC_WAIT_NS}, NULL);
    }
    return true;
}

/* Reaps everybody; true once `pid` was among them. */
static bool reap(pid_t pid, int *ret_status)
{
    int status;
    pid_t ended;
    bool found = false;

    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
        if (ended == pid) {
            *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            found = true;
        }
    }
    return found || (ended < 0 && errno == ECHILD);
}

static int run(void)
{
    int out[2], ends[2][2];
    char text[64], sentence[512];
    sigset_t child;

    for (int i = 0; i < 2; i++) {
        shim.stream[i].is_error = i == 1;
        if (pipe2(ends[i], O_CLOEXEC) < 0 || fchown(ends[i][1], shim.opt.uid, shim.opt.gid) < 0)
            return 1;
        shim.pipe[i] = ends[i][0];
        out[i] = ends[i][1];
        fcntl(shim.pipe[i], F_SETFL, O_NONBLOCK);
    }
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL);
    int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        return 1;

    int status = runc_run(out);
    close(out[0]);
    close(out[1]);
    pid_t pid = status == 0 ? read_pid() : -1;
    if (pid < 0) {
        /* What runc wrote to the container's streams stands in runc.log too. */
        say_end("failed", status, "");
        return 0;
    }
    if (!wait_for_exec(pid)) {
        ssize_t n = read(shim.pipe[1], sentence, sizeof(sentence) - 1);

        sentence[n > 0 ? n : 0] = '\0';
        say_end("failed", 255, sentence);
        return 0;
    }
    snprintf(text, sizeof(text), "%d %llu\n", (int)pid, (unsigned long long)unix_us());
    say("started", text);

    status = 255;
    while (!reap(pid, &status)) {
        struct signalfd_siginfo info;

        if (streams_turn(signals, -1))
            (void)!read(signals, &info, sizeof(info));
    }
    streams_drain();
    say_end("exit", status, "");
    return 0;
}

static void parse(int argc, char **argv)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"--dir", &shim.opt.dir},
                 {"--logs", &shim.opt.logs},
                 {"--runc", &shim.opt.runc},
                 {"--root", &shim.opt.root},
                 {"--id", &shim.opt.id}};

    for (int i = 1; i + 1 < argc; i += 2) {
        for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
            if (strcmp(argv[i], texts[t].name) == 0)
                *texts[t].text = argv[i + 1];
        }
        if (strcmp(argv[i], "--uid") == 0)
            shim.opt.uid = (uid_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--gid") == 0)
            shim.opt.gid = (gid_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--log-size") == 0)
            shim.opt.log_size = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--log-files") == 0)
            shim.opt.log_files = (unsigned)strtoul(argv[i + 1], NULL, 10);
    }
}

int main(int argc, char **argv)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};

    shim.opt.log_size = 4 << 20;
    shim.opt.log_files = 4;
    parse(argc, argv);
    if (!shim.opt.dir || !shim.opt.logs || !shim.opt.runc || !shim.opt.root || !shim.opt.id) {
        fprintf(stderr, "croft-shim - keeps one container and its log; started by contd\n"
                        "usage: croft-shim --dir DIR --logs DIR --runc FILE --root DIR --id ID "
                        "[--uid N] [--gid N]\n"
                        "                  [--log-size BYTES] [--log-files N]\n");
        return 2;
    }
    /* The lock on the instance is ours alone, not runc's. */
    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    /* It ends when its container ends, never before. */
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    /* A log that cannot be written (a disk that failed) is no reason for the container to stop. */
    logfile_open(&shim.log, shim.opt.logs, shim.opt.log_size, shim.opt.log_files);
    if (run() != 0) {
        say_end("failed", 125, "the streams could not be made");
        return 1;
    }
    return 0;
}
