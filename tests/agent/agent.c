// The tests' hands inside a node: serves requests that arrive over the virtio-serial port
// org.croft.agent. It runs programs, reads and writes files, kills processes by name, and passes
// raw netlink and varlink requests on, and sets limits of processes, so that a test can look at the kernel without any tool in
// the product image. It knows nothing of Croft and is never part of the image.
//
// Frame, both ways: "CrfA", u32 length of what follows, u32 id, i32 op or status, then fields, each
// u32 length and bytes; all little-endian, as both ends are x86-64. Id 0 is the greeting: field 0
// is the boot id, so the tests know which boot answers. An answer has three fields: output, error
// output, and how many microseconds the request took, in decimal. Requests are served in their
// order, but for varlink calls: each has a thread, so that two can be under way.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME "org.croft.agent"
#define FRAME_MAX (64u << 20)
#define FIELDS_MAX 256
#define OUTPUT_MAX (32u << 20)
#define OP_UNIX 6

struct buffer {
    char *data;
    size_t size;
    size_t room;
};

struct request {
    uint32_t id;
    int32_t op;
    char *field[FIELDS_MAX + 1];
    uint32_t length[FIELDS_MAX];
    unsigned fields;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void buffer_add(struct buffer *b, const void *data, size_t size)
{
    if (size > b->room - b->size) {
        b->room = (b->size + size) * 2 + 4096;
        b->data = realloc(b->data, b->room);
        if (!b->data) {
            die("agent: memory");
        }
    }
    if (size) {
        memcpy(b->data + b->size, data, size);
    }
    b->size += size;
}

static void buffer_add_u32(struct buffer *b, uint32_t value)
{
    buffer_add(b, &value, sizeof value);
}

static void buffer_add_field(struct buffer *b, const void *data, size_t size)
{
    buffer_add_u32(b, (uint32_t)size);
    buffer_add(b, data, size);
}

static int64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t now_ms(void)
{
    return now_us() / 1000;
}

// Reads a whole file, also one of proc or sys that has no size. Returns 0 or -errno.
static int file_read(const char *path, struct buffer *b)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    char chunk[65536];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0 && b->size < OUTPUT_MAX) {
        buffer_add(b, chunk, (size_t)n);
    }
    int result = n < 0 ? -errno : 0;
    close(fd);
    return result;
}

static int file_write(const char *path, mode_t mode, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    const char *p = data;
    int result = 0;
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0) {
            result = -errno;
            break;
        }
        p += n;
        size -= (size_t)n;
    }
    if (close(fd) < 0 && !result) {
        result = -errno;
    }
    return result;
}

// Moves what is readable into the buffer. Returns false at the end of the file.
static bool drain(int fd, struct buffer *b)
{
    char chunk[65536];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (n == 0) {
            return false;
        }
        if (b->size < OUTPUT_MAX) {
            buffer_add(b, chunk, (size_t)n);
        }
    }
}

// Runs argv with the given standard input. A grandchild that keeps the pipes open does not hold
// the answer back: what counts is the end of the child itself.
static int run(char **argv, const char *input, size_t input_size, int timeout_ms,
               struct buffer *out, struct buffer *err)
{
    int in_pipe[2], out_pipe[2], err_pipe[2], exec_pipe[2];
    if (pipe2(in_pipe, O_CLOEXEC) || pipe2(out_pipe, O_CLOEXEC) || pipe2(err_pipe, O_CLOEXEC) ||
        pipe2(exec_pipe, O_CLOEXEC)) {
        die("agent: pipe");
    }
    pid_t pid = fork();
    if (pid < 0) {
        die("agent: fork");
    }
    if (pid == 0) {
        setsid();
        signal(SIGPIPE, SIG_DFL);
        dup2(in_pipe[0], 0);
        dup2(out_pipe[1], 1);
        dup2(err_pipe[1], 2);
        execvp(argv[0], argv);
        int e = errno;
        (void)!write(exec_pipe[1], &e, sizeof e);
        _exit(127);
    }
    close(in_pipe[0]);
    close(out_pipe[1]);
    close(err_pipe[1]);
    close(exec_pipe[1]);
    fcntl(in_pipe[1], F_SETFL, O_NONBLOCK);
    fcntl(out_pipe[0], F_SETFL, O_NONBLOCK);
    fcntl(err_pipe[0], F_SETFL, O_NONBLOCK);
    int exec_error = 0;
    (void)!read(exec_pipe[0], &exec_error, sizeof exec_error);
    close(exec_pipe[0]);

    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        die("agent: pidfd_open");
    }
    struct pollfd p[4] = {{pidfd, POLLIN, 0},
                          {out_pipe[0], POLLIN, 0},
                          {err_pipe[0], POLLIN, 0},
                          {input_size ? in_pipe[1] : -1, POLLOUT, 0}};
    if (!input_size) {
        close(in_pipe[1]);
    }
    int64_t end = now_ms() + timeout_ms;
    bool late = false;
    for (;;) {
        int64_t left = end - now_ms();
        if (left <= 0 && !late) {
            late = true;
            kill(-pid, SIGKILL);
        }
        if (poll(p, 4, late ? 1000 : (int)left) < 0 && errno != EINTR) {
            die("agent: poll");
        }
        if (p[1].revents && !drain(out_pipe[0], out)) {
            p[1].fd = -1;
        }
        if (p[2].revents && !drain(err_pipe[0], err)) {
            p[2].fd = -1;
        }
        if (p[3].revents) {
            ssize_t n = write(in_pipe[1], input, input_size);
            if (n > 0) {
                input += n;
                input_size -= (size_t)n;
            }
            if (!input_size || (n < 0 && errno != EAGAIN)) {
                close(in_pipe[1]);
                p[3].fd = -1;
            }
        }
        if (p[0].revents) {
            break;
        }
    }
    drain(out_pipe[0], out);
    drain(err_pipe[0], err);
    int status;
    waitpid(pid, &status, 0);
    close(pidfd);
    close(out_pipe[0]);
    close(err_pipe[0]);
    if (p[3].fd >= 0) {
        close(in_pipe[1]);
    }
    if (exec_error) {
        return -exec_error;
    }
    if (late) {
        return 124;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Sends a signal to every process whose comm, or the last part of whose argv[0], is name.
// Returns their number.
static int kill_named(int sig, const char *name)
{
    DIR *proc = opendir("/proc");
    if (!proc) {
        return -errno;
    }
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(proc))) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid <= 0 || *end || pid == getpid()) {
            continue;
        }
        char path[64];
        struct buffer comm = {0}, args = {0};
        snprintf(path, sizeof path, "/proc/%ld/comm", pid);
        bool match = file_read(path, &comm) == 0 && comm.size == strlen(name) + 1 &&
                     memcmp(comm.data, name, comm.size - 1) == 0;
        snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
        if (!match && file_read(path, &args) == 0 && args.size) {
            args.data[args.size - 1] = 0;
            const char *slash = strrchr(args.data, '/');
            match = strcmp(slash ? slash + 1 : args.data, name) == 0;
        }
        free(comm.data);
        free(args.data);
        if (match && kill((pid_t)pid, sig) == 0) {
            count++;
        }
    }
    closedir(proc);
    return count;
}

// Sends one netlink request and collects the answer up to NLMSG_DONE, an error or an answer of one
// part.
static int netlink(int protocol, const void *request, size_t size, struct buffer *out)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) {
        return -errno;
    }
    struct timeval limit = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int result = send(fd, request, size, 0) < 0 ? -errno : 0;
    bool more = result == 0;
    while (more) {
        static _Alignas(struct nlmsghdr) char chunk[1 << 18];
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0) {
            result = n < 0 ? -errno : 0;
            break;
        }
        buffer_add(out, chunk, (size_t)n);
        size_t left = (size_t)n;
        for (size_t at = 0; at + sizeof(struct nlmsghdr) <= (size_t)n;) {
            const struct nlmsghdr *h = (const struct nlmsghdr *)(chunk + at);
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR ||
                !(h->nlmsg_flags & NLM_F_MULTI)) {
                more = false;
            }
            size_t step = NLMSG_ALIGN(h->nlmsg_len);
            if (step < sizeof *h || step > left) {
                break;
            }
            at += step;
            left -= step;
        }
    }
    close(fd);
    return result;
}

// Sends bytes to a Unix stream socket and reads up to and including the first 0 byte (varlink's
// end of message) or the end of the stream.
static int unix_call(const char *path, const void *request, size_t size, int timeout_ms,
                     struct buffer *out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int result = 0;
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        send(fd, request, size, MSG_NOSIGNAL) < 0) {
        result = -errno;
    }
    while (result == 0) {
        char chunk[65536];
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0) {
            result = n < 0 ? -errno : 0;
            break;
        }
        buffer_add(out, chunk, (size_t)n);
        if (memchr(chunk, 0, (size_t)n)) {
            break;
        }
    }
    close(fd);
    return result;
}

static int op_exec(const struct request *r, struct buffer *out, struct buffer *err)
{
    if (r->fields < 3) {
        return -EINVAL;
    }
    return run((char **)&r->field[2], r->field[1], r->length[1], atoi(r->field[0]), out, err);
}

static int op_read(const struct request *r, struct buffer *out, struct buffer *err)
{
    (void)err;
    return r->fields == 1 ? file_read(r->field[0], out) : -EINVAL;
}

static int op_write(const struct request *r, struct buffer *out, struct buffer *err)
{
    (void)out;
    (void)err;
    return r->fields == 3 ? file_write(r->field[0], (mode_t)strtoul(r->field[1], NULL, 8),
                                       r->field[2], r->length[2])
                          : -EINVAL;
}

static int op_kill(const struct request *r, struct buffer *out, struct buffer *err)
{
    (void)out;
    (void)err;
    return r->fields == 2 ? kill_named(atoi(r->field[0]), r->field[1]) : -EINVAL;
}

static int op_netlink(const struct request *r, struct buffer *out, struct buffer *err)
{
    (void)err;
    return r->fields == 2 ? netlink(atoi(r->field[0]), r->field[1], r->length[1], out) : -EINVAL;
}

static int op_unix(const struct request *r, struct buffer *out, struct buffer *err)
{
    (void)err;
    return r->fields == 3
               ? unix_call(r->field[0], r->field[2], r->length[2], atoi(r->field[1]), out)
               : -EINVAL;
}

// The limit of a running process, soft and hard: pid, resource, value ("max": none).
static int op_limit(const struct request *r, struct buffer *out, struct buffer *err)
{
    (void)out;
    (void)err;
    if (r->fields != 3) {
        return -EINVAL;
    }
    rlim_t value =
        strcmp(r->field[2], "max") == 0 ? RLIM_INFINITY : strtoull(r->field[2], NULL, 10);
    const struct rlimit limit = {.rlim_cur = value, .rlim_max = RLIM_INFINITY};
    return prlimit(atoi(r->field[0]), atoi(r->field[1]), &limit, NULL) < 0 ? -errno : 0;
}

static int (*const ops[])(const struct request *, struct buffer *, struct buffer *) = {
    [1] = op_exec,    [2] = op_read,       [3] = op_write, [4] = op_kill,
    [5] = op_netlink, [OP_UNIX] = op_unix, [7] = op_limit,
};

static void write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            die("agent: write");
        }
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
}

static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;

static void frame_send(int fd, uint32_t id, int32_t status, const struct buffer *a,
                       const struct buffer *b, int64_t us)
{
    struct buffer frame = {0};
    char time[24];
    int digits = snprintf(time, sizeof time, "%lld", (long long)us);
    buffer_add(&frame, "CrfA", 4);
    buffer_add_u32(&frame, (uint32_t)(20 + a->size + b->size) + (uint32_t)digits);
    buffer_add_u32(&frame, id);
    buffer_add_u32(&frame, (uint32_t)status);
    buffer_add_field(&frame, a->data, a->size);
    buffer_add_field(&frame, b->data, b->size);
    buffer_add_field(&frame, time, (size_t)digits);
    pthread_mutex_lock(&sending);
    write_all(fd, frame.data, frame.size);
    pthread_mutex_unlock(&sending);
    free(frame.data);
}

// The port reads 0 bytes while no one is connected on the host's side.
static void read_all(int fd, void *data, size_t size)
{
    char *p = data;
    while (size) {
        ssize_t n = read(fd, p, size);
        if (n < 0 && errno != EINTR) {
            die("agent: read");
        }
        if (n == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        }
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
}

// Splits the body of a frame into fields, each closed with a 0 byte in its own copy. Returns false
// when lengths do not add up.
static bool request_parse(struct request *r, const char *body, uint32_t size)
{
    if (size < 8) {
        return false;
    }
    memcpy(&r->id, body, 4);
    memcpy(&r->op, body + 4, 4);
    uint32_t at = 8;
    while (at < size && r->fields < FIELDS_MAX) {
        uint32_t length;
        if (size - at < 4) {
            return false;
        }
        memcpy(&length, body + at, 4);
        at += 4;
        if (length > size - at) {
            return false;
        }
        char *copy = malloc((size_t)length + 1);
        if (!copy) {
            die("agent: memory");
        }
        memcpy(copy, body + at, length);
        copy[length] = 0;
        r->field[r->fields] = copy;
        r->length[r->fields++] = length;
        at += length;
    }
    return at == size;
}

struct work {
    int fd;
    struct request request;
};

static void *work_do(void *data)
{
    struct work *work = data;
    const struct request *r = &work->request;
    struct buffer out = {0}, err = {0};
    int64_t start = now_us();
    int32_t status = r->op == 0 ? -EBADMSG
                     : r->op < 0 || (size_t)r->op >= sizeof ops / sizeof *ops
                         ? -ENOSYS
                         : ops[r->op](r, &out, &err);
    frame_send(work->fd, r->id, status, &out, &err, now_us() - start);
    for (unsigned i = 0; i < r->fields; i++) {
        free(r->field[i]);
    }
    free(out.data);
    free(err.data);
    free(work);
    return NULL;
}

static void serve(int fd)
{
    for (;;) {
        char window[4] = {0};
        while (memcmp(window, "CrfA", 4) != 0) {
            memmove(window, window + 1, 3);
            read_all(fd, window + 3, 1);
        }
        uint32_t size;
        read_all(fd, &size, sizeof size);
        if (size > FRAME_MAX) {
            continue;
        }
        char *body = malloc(size);
        if (!body) {
            die("agent: memory");
        }
        read_all(fd, body, size);
        struct work *work = calloc(1, sizeof *work);
        if (!work) {
            die("agent: memory");
        }
        work->fd = fd;
        bool whole = request_parse(&work->request, body, size);
        free(body);
        pthread_t thread;
        if (!whole) {
            work->request.op = 0;
        }
        if (work->request.op != OP_UNIX || pthread_create(&thread, NULL, work_do, work) != 0) {
            work_do(work);
        } else {
            pthread_detach(thread);
        }
    }
}

// Finds the port by its name, since the number of a port depends on what else the machine has.
static int port_open(void)
{
    DIR *ports = opendir("/sys/class/virtio-ports");
    if (!ports) {
        return -1;
    }
    int fd = -1;
    struct dirent *entry;
    while (fd < 0 && (entry = readdir(ports))) {
        char path[300];
        struct buffer name = {0};
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        if (file_read(path, &name) == 0 && name.size == strlen(PORT_NAME) + 1 &&
            memcmp(name.data, PORT_NAME, name.size - 1) == 0) {
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            fd = open(path, O_RDWR | O_CLOEXEC);
        }
        free(name.data);
    }
    closedir(ports);
    return fd;
}

// As PID 1 of a machine that has nothing but this agent (the harness's own tests): mounts what the
// agent needs and stays.
static void become_init(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
}

int main(void)
{
    if (getpid() == 1) {
        become_init();
    }
    signal(SIGPIPE, SIG_IGN);
    int fd = -1;
    for (int i = 0; fd < 0 && i < 100; i++) {
        fd = port_open();
        if (fd < 0) {
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    if (fd < 0) {
        die("agent: no port " PORT_NAME);
    }
    struct buffer boot_id = {0}, nothing = {0};
    file_read("/proc/sys/kernel/random/boot_id", &boot_id);
    frame_send(fd, 0, 0, &boot_id, &nothing, 0);
    free(boot_id.data);
    serve(fd);
}
