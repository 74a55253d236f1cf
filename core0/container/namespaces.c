/*
 * namespaces.c - see namespaces.h.
 *
 * A child enters (or makes) the user namespace and makes the network namespace inside it; the parent, which stays
 * outside, writes the maps and binds both to files. They talk by one byte at a time over a socket pair.
 */
#include "container/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/file.h"

/* Where the child is; on a failure it sends the place instead, so that the parent can say what failed. */
enum step { STEP_OWNER = 1, STEP_USER, STEP_NETWORK, STEP_LOOPBACK, STEP_DONE };

static const char *const step_names[] = {
    [STEP_OWNER] = "becoming the range's first user",
    [STEP_USER] = "entering the user namespace",
    [STEP_NETWORK] = "making the network namespace",
    [STEP_LOOPBACK] = "bringing the loopback up",
    [STEP_DONE] = "finishing",
};

struct report {
    int step;
    int error; /* 0: this step is done */
};

static int loopback_up(void)
{
    struct ifreq request = {.ifr_flags = IFF_UP};
    cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    strcpy(request.ifr_name, "lo");
    return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* /proc/sys/net shows the network namespace of whoever looks. */
static void network_settings(void)
{
    static const char *const rows[][2] = {
        {"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
        {"/proc/sys/net/ipv4/ping_group_range",
         "0 65535"}, /* more than the range holds is EINVAL */
        /* The address is ours alone: duplicate address detection only holds the start back for a second. */
        {"/proc/sys/net/ipv6/conf/default/accept_dad", "0"},
        {"/proc/sys/net/ipv6/conf/default/dad_transmits", "0"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        file_write_text(rows[i][0], rows[i][1]);
}

static void tell(int fd, int step, int error)
{
    struct report report = {step, error};

    (void)!write(fd, &report, sizeof(report));
    if (error != 0)
        _exit(1);
}

/*
 * What the kernel counts by user - inotify instances, pending signals, namespaces - it counts again for the owner of the user
 * namespace. Were that root for all of them, one tenant could use up what every other tenant and the node's daemons
 * have; so each namespace belongs to the first id of its own range, which nobody outside of it is.
 */
static int become_owner(uint32_t base)
{
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};

    /* The namespace keeps the limit of its maker; how many processes there may be is the cgroup's to say. Where it may not be
     * lifted it is that of whoever started us. */
    setrlimit(RLIMIT_NPROC, &none);
    return syscall(SYS_setresgid, base, base, base) < 0 ||
                   syscall(SYS_setresuid, base, base, base) < 0
               ? -errno
               : 0;
}

static void child(int fd, int existing, uint32_t base)
{
    char go;

    tell(fd, STEP_OWNER, existing >= 0 ? 0 : -become_owner(base));
    int ret = existing >= 0 ? setns(existing, CLONE_NEWUSER) : unshare(CLONE_NEWUSER);
    tell(fd, STEP_USER, ret < 0 ? errno : 0);
    if (read(fd, &go, 1) != 1) /* the maps are written */
        _exit(1);
    tell(fd, STEP_NETWORK, unshare(CLONE_NEWNET) < 0 ? errno : 0);
    ret = loopback_up();
    network_settings();
    tell(fd, STEP_LOOPBACK, -ret);
    /* Lives until the parent has pinned what it made. */
    (void)!read(fd, &go, 1);
    _exit(0);
}

static int expect(int fd, int step, struct error *err)
{
    struct report report;
    ssize_t n = read(fd, &report, sizeof(report));

    if (n == (ssize_t)sizeof(report) && report.error == 0 && report.step == step)
        return 0;
    int error = n == (ssize_t)sizeof(report) && report.error != 0 ? report.error : EIO;
    return error_set(err, error, "container.namespace-failed", NULL, "%s: %s", step_names[step],
                     strerror(error));
}

static int write_map(pid_t pid, const char *name, uint32_t base, uint32_t count, struct error *err)
{
    char path[64], text[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    snprintf(text, sizeof(text), "0 %u %u\n", base, count);
    int ret = file_write_text(path, text);
    return ret < 0 ? error_set(err, -ret, "container.namespace-failed", NULL,
                               "writing %s of %u+%u: %s", name, base, count, strerror(-ret))
                   : 0;
}

static int pin(pid_t pid, const char *kind, const char *path, struct error *err)
{
    char source[64];

    snprintf(source, sizeof(source), "/proc/%d/ns/%s", (int)pid, kind);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || mount(source, path, NULL, MS_BIND, NULL) < 0)
        return error_set(err, errno, "container.namespace-failed", NULL,
                         "pinning the %s namespace to %s: %s", kind, path, strerror(errno));
    return 0;
}

static int parent(int fd, pid_t pid, bool own_maps, uint32_t base, uint32_t count,
                  const char *userns, const char *netns, struct error *err)
{
    int ret = expect(fd, STEP_OWNER, err);

    if (ret == 0)
        ret = expect(fd, STEP_USER, err);
    if (ret == 0 && own_maps)
        ret = write_map(pid, "uid_map", base, count, err);
    if (ret == 0 && own_maps)
        ret = write_map(pid, "gid_map", base, count, err);
    if (ret == 0 && write(fd, "g", 1) != 1)
        ret = -errno;
    if (ret == 0)
        ret = expect(fd, STEP_NETWORK, err);
    if (ret == 0)
        ret = expect(fd, STEP_LOOPBACK, err);
    if (ret == 0)
        ret = pin(pid, "user", userns, err);
    if (ret == 0)
        ret = pin(pid, "net", netns, err);
    return ret;
}

int namespaces_pin(const char *existing, uint32_t base, uint32_t count, const char *userns,
                   const char *netns, struct error *err)
{
    int pair[2];
    cleanup_close int user = existing != NULL ? open(existing, O_RDONLY | O_CLOEXEC) : -1;

    if (existing != NULL && user < 0)
        return error_set(err, errno, "container.namespace-failed", NULL, "opening %s: %s", existing,
                         strerror(errno));
    /* Packets, so that a report never comes in parts. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, errno, "container.namespace-failed", NULL, "socketpair: %s",
                         strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        child(pair[1], user, base);
    }
    close(pair[1]);
    int ret =
        pid < 0 ? -errno : parent(pair[0], pid, existing == NULL, base, count, userns, netns, err);
    close(pair[0]);
    if (pid > 0) {
        if (ret < 0)
            kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (ret < 0) {
        namespaces_unpin(netns);
        namespaces_unpin(userns);
        error_set(err, -ret, "container.namespace-failed", NULL, "making namespaces: %s",
                  strerror(-ret));
    }
    return ret;
}

void namespaces_unpin(const char *path)
{
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
    unlink(path);
}
