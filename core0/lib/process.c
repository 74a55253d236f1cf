/*
 * process.c - see process.h.
 *
 * posix_spawn and poll: the caller has no second thread and waits for the end, so there is no loop here.
 */
#include "lib/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "lib/file.h"
#include "lib/loop.h"

#define PROCESS_TIMEOUT_US 60000000u
#define PROCESS_OUTPUT_MAX ((size_t)64 << 10)

extern char **environ;

enum process_stream { PROCESS_IN, PROCESS_OUT, PROCESS_ERR, PROCESS_STREAMS };

struct process_run {
    int ours[PROCESS_STREAMS];
    int theirs[PROCESS_STREAMS];
    int pidfd;
    pid_t pid;
    struct buffer output[PROCESS_STREAMS]; /* [PROCESS_IN] is not used */
    const char *in;
    size_t in_left;
};

static void process_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void process_done(struct process_run *run)
{
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        process_close(&run->ours[i]);
        process_close(&run->theirs[i]);
        buffer_done(&run->output[i]);
    }
    process_close(&run->pidfd);
}

static int process_open_streams(struct process_run *run, bool has_input)
{
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        int pair[2];

        if (i == PROCESS_IN && !has_input) {
            run->theirs[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
            if (run->theirs[i] < 0)
                return -errno;
            continue;
        }
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -errno;
        run->ours[i] = i == PROCESS_IN ? pair[1] : pair[0];
        run->theirs[i] = i == PROCESS_IN ? pair[0] : pair[1];
        if (fcntl(run->ours[i], F_SETFL, O_NONBLOCK) < 0)
            return -errno;
    }
    return 0;
}

static int process_spawn(struct process_run *run, const char *const *argv,
                         const struct process_options *options)
{
    const char *const *env = options->env != NULL ? options->env : (const char *const *)environ;
    char *const *arguments;
    char *const *environment;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t defaults;
    int ret;

    /* POSIX takes both without const and changes neither. */
    memcpy(&arguments, &argv, sizeof(void *));
    memcpy(&environment, &env, sizeof(void *));
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    for (int i = 0; i < PROCESS_STREAMS; i++)
        posix_spawn_file_actions_adddup2(&actions, run->theirs[i], i);
    if (options->dir != NULL)
        posix_spawn_file_actions_addchdir_np(&actions, options->dir);
    /* The caller blocks what its loop handles; the program must not inherit that. */
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    ret = posix_spawn(&run->pid, argv[0], &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -ret;
}

/* Takes what is there; what is beyond the limit is read and dropped, or the program would block. */
static void process_read(struct process_run *run, int stream)
{
    struct buffer *output = &run->output[stream];
    char chunk[4096];
    ssize_t got = read(run->ours[stream], chunk, sizeof(chunk));

    if (got > 0) {
        size_t room = output->max - output->len;

        buffer_append(output, chunk, (size_t)got < room ? (size_t)got : room);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        process_close(&run->ours[stream]);
    }
}

static void process_write(struct process_run *run)
{
    ssize_t done = write(run->ours[PROCESS_IN], run->in, run->in_left);

    if (done > 0) {
        run->in += done;
        run->in_left -= (size_t)done;
    } else if (done < 0 && errno != EAGAIN && errno != EINTR) {
        run->in_left = 0; /* it does not want to read: its own matter */
    }
    if (run->in_left == 0)
        process_close(&run->ours[PROCESS_IN]);
}

/* Until the program has ended. A grandchild that keeps the pipes open is not waited for. */
static int process_pump(struct process_run *run, uint64_t deadline)
{
    bool ended = false;

    while (!ended) {
        struct pollfd polled[PROCESS_STREAMS + 1] = {
            {.fd = run->ours[PROCESS_IN], .events = POLLOUT},
            {.fd = run->ours[PROCESS_OUT], .events = POLLIN},
            {.fd = run->ours[PROCESS_ERR], .events = POLLIN},
            {.fd = run->pidfd, .events = POLLIN},
        };
        uint64_t now = loop_clock();

        if (now >= deadline)
            return -ETIMEDOUT;
        if (poll(polled, PROCESS_STREAMS + 1, (int)((deadline - now) / 1000 + 1)) < 0) {
            if (errno != EINTR)
                return -errno;
            continue;
        }
        if (polled[PROCESS_IN].revents != 0)
            process_write(run);
        if (polled[PROCESS_OUT].revents != 0)
            process_read(run, PROCESS_OUT);
        if (polled[PROCESS_ERR].revents != 0)
            process_read(run, PROCESS_ERR);
        /* Its last words are in the pipes by now: they are read before the end counts. */
        ended = polled[PROCESS_STREAMS].revents != 0 &&
                (polled[PROCESS_OUT].revents & POLLIN) == 0 &&
                (polled[PROCESS_ERR].revents & POLLIN) == 0;
    }
    return 0;
}

static char *process_take(struct buffer *output, size_t *ret_len)
{
    char *text = (char *)buffer_steal(output, ret_len);

    return text != NULL ? text : calloc(1, 1);
}

int process_run(const char *const *argv, const struct process_options *options,
                struct process_result *ret_result)
{
    static const struct process_options defaults = {0};
    struct process_run run = {.pidfd = -1};
    void (*old_pipe)(int);
    uint64_t deadline;
    int status = 0;
    int ret;

    if (options == NULL)
        options = &defaults;
    deadline = loop_clock() + (options->timeout_us != 0 ? options->timeout_us : PROCESS_TIMEOUT_US);
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        run.ours[i] = -1;
        run.theirs[i] = -1;
        buffer_init(&run.output[i],
                    options->max_output != 0 ? options->max_output : PROCESS_OUTPUT_MAX);
    }
    run.in = options->in;
    run.in_left = options->in != NULL ? options->in_len : 0;

    ret = process_open_streams(&run, run.in_left > 0);
    if (ret == 0)
        ret = process_spawn(&run, argv, options);
    if (ret < 0) {
        process_done(&run);
        return ret;
    }
    for (int i = 0; i < PROCESS_STREAMS; i++)
        process_close(&run.theirs[i]);

    old_pipe = signal(SIGPIPE, SIG_IGN);
    run.pidfd = (int)syscall(SYS_pidfd_open, run.pid, 0);
    ret = run.pidfd < 0 ? -errno : process_pump(&run, deadline);
    signal(SIGPIPE, old_pipe);

    if (ret < 0)
        kill(run.pid, SIGKILL);
    while (waitpid(run.pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (ret == 0) {
        struct process_result result = {.status = status};

        result.out = process_take(&run.output[PROCESS_OUT], &result.out_len);
        result.err = process_take(&run.output[PROCESS_ERR], &result.err_len);
        if (result.out == NULL || result.err == NULL) {
            process_result_done(&result);
            ret = -ENOMEM;
        } else {
            *ret_result = result;
        }
    }
    process_done(&run);
    return ret;
}

void process_result_done(struct process_result *result)
{
    if (result == NULL)
        return;
    free(result->out);
    free(result->err);
    *result = (struct process_result){0};
}

/* The last line that says something. Cuts text in place. */
static const char *process_last_line(char *text)
{
    size_t len = strlen(text);
    char *newline;

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        text[--len] = '\0';
    newline = strrchr(text, '\n');
    return newline != NULL ? newline + 1 : text;
}

int process_check(const char *const *argv, const struct process_options *options, const char *code,
                  struct error *err)
{
    struct process_result result = {0};
    const char *said;
    int ret = process_run(argv, options, &result);

    if (ret == -ETIMEDOUT)
        return error_set(err, ETIMEDOUT, code, NULL, "%s did not end in time", argv[0]);
    if (ret < 0)
        return error_set(err, -ret, code, NULL, "%s could not be run: %s", argv[0], strerror(-ret));
    if (WIFEXITED(result.status) && WEXITSTATUS(result.status) == 0) {
        process_result_done(&result);
        return 0;
    }

    said = process_last_line(result.err);
    if (WIFSIGNALED(result.status))
        ret = error_set(err, EIO, code, NULL, "%s was killed by signal %d%s%s", argv[0],
                        WTERMSIG(result.status), said[0] != '\0' ? ": " : "", said);
    else
        ret = error_set(err, EIO, code, NULL, "%s ended with %d%s%s", argv[0],
                        WEXITSTATUS(result.status), said[0] != '\0' ? ": " : "", said);
    process_result_done(&result);
    return ret;
}
