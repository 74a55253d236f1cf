/*
 * neighbour.c - a small server, who asks it, and tenants who take all they may; for neighbour.py.
 *
 *   serve PORT FILE          answers every request; one that begins with 'w' is first written to the file and synced
 *   ask ADDRESS PORT KIND SECONDS MS    asks every MS milliseconds, or as soon as it can; prints count and percentiles in us
 *   cpu PROCESSES            computes
 *   disk FILE BYTES PROCESSES    each writes a file over and over past the cache, and syncs small pieces of it
 *   net ADDRESS              sends UDP as fast as it goes
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST 64
#define BLOCK 4096
#define PIECE (1 << 20)
#define SAMPLES_MAX 200000

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static struct sockaddr_in address(const char *host, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    if (host != NULL && inet_pton(AF_INET, host, &at.sin_addr) != 1)
        fail(host);
    return at;
}

/* ---- the server: a process for each connection ---- */

static void answer(int fd, const char *file)
{
    char request[REQUEST], block[BLOCK];
    int one = 1, disk = open(file, O_RDWR | O_CREAT, 0600);

    if (disk < 0)
        fail(file);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (unsigned i = 0; recv(fd, request, REQUEST, MSG_WAITALL) == REQUEST; i++) {
        memset(block, (int)i, BLOCK);
        if (request[0] == 'w' &&
            (pwrite(disk, block, BLOCK, (off_t)(i % 256) * BLOCK) != BLOCK || fdatasync(disk) < 0))
            fail("write");
        if (send(fd, request, REQUEST, MSG_NOSIGNAL) != REQUEST)
            break;
    }
    exit(0);
}

static void serve(int port, const char *file)
{
    struct sockaddr_in at = address(NULL, port);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 16) < 0)
        fail("listen");
    puts("ready");
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && fork() == 0)
            answer(fd, file);
        close(fd);
    }
}

/* ---- who asks ---- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void ask(const char *host, int port, char kind, unsigned seconds, unsigned ms)
{
    static uint64_t samples[SAMPLES_MAX];
    char request[REQUEST] = {kind};
    struct sockaddr_in at = address(host, port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t count = 0;

    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    uint64_t end = now_us() + seconds * UINT64_C(1000000);
    for (uint64_t due = now_us(); count < SAMPLES_MAX;) {
        uint64_t begun = now_us();
        if (begun >= end)
            break;
        if (send(fd, request, REQUEST, MSG_NOSIGNAL) != REQUEST ||
            recv(fd, request, REQUEST, MSG_WAITALL) != REQUEST)
            fail("ask");
        samples[count++] = now_us() - begun;
        due = due + ms * 1000 > now_us() ? due + ms * 1000 : now_us();
        while (now_us() < due)
            usleep((useconds_t)(due - now_us()));
    }
    qsort(samples, count, sizeof(samples[0]), by_size);
    printf("{\"count\":%zu,\"p50\":%llu,\"p99\":%llu,\"max\":%llu}\n", count,
           (unsigned long long)samples[count / 2], (unsigned long long)samples[count * 99 / 100],
           (unsigned long long)samples[count - 1]);
}

/* ---- who takes ---- */

static void take_cpu(unsigned processes)
{
    for (unsigned i = 1; i < processes; i++) {
        if (fork() == 0)
            break;
    }
    for (volatile uint64_t n = 0;; n++)
        ;
}

static void take_disk(const char *name, off_t size, int processes)
{
    char *piece, file[256];
    int own = 0;

    for (; own + 1 < processes && fork() != 0; own++)
        ;
    snprintf(file, sizeof(file), "%s%d", name, own);
    int direct = open(file, O_RDWR | O_CREAT | O_DIRECT, 0600), synced = open(file, O_RDWR);

    if (direct < 0 || synced < 0 || posix_memalign((void **)&piece, BLOCK, PIECE) != 0)
        fail(file);
    for (uint64_t n = 0;; n++) {
        off_t at = (off_t)(n % (uint64_t)(size / PIECE)) * PIECE;
        memset(piece, (int)n, PIECE);
        if (pwrite(direct, piece, PIECE, at) != PIECE)
            fail("write");
        if (n % 4 == 0 && (pwrite(synced, piece, BLOCK, at) != BLOCK || fsync(synced) < 0))
            fail("sync");
    }
}

static void take_net(const char *host)
{
    char data[1400] = {0};
    struct sockaddr_in at = address(host, 9);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    for (;;)
        sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&at, sizeof(at));
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        serve(atoi(argv[2]), argv[3]);
    if (argc == 7 && strcmp(argv[1], "ask") == 0) {
        ask(argv[2], atoi(argv[3]), argv[4][0], (unsigned)atoi(argv[5]), (unsigned)atoi(argv[6]));
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "cpu") == 0)
        take_cpu((unsigned)atoi(argv[2]));
    if (argc == 5 && strcmp(argv[1], "disk") == 0)
        take_disk(argv[2], atoll(argv[3]), atoi(argv[4]));
    if (argc == 3 && strcmp(argv[1], "net") == 0)
        take_net(argv[2]);
    return 2;
}
