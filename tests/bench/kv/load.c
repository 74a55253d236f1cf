// load.c - the client of tests/bench/kv.py for what redis-benchmark cannot: keys in their order, and a load of a given rate.
//
//   load PORT fill COUNT VALUE            sets key:000000000000 and so on, pipelined; prints requests a second
//   load PORT get COUNT VALUE             gets them in the same order
//   load PORT pace RATE SECONDS COUNT VALUE
//       fifty clients set and get them at random, half and half, RATE requests a second (0: as many as they can);
//       prints "requests a second, p50, p99, p99.9, largest" with latencies in us, each from the moment when its turn
//       came, not from when there was a client for it: what waits behind a stall counts, too
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 50
#define KEY_LEN 16
#define WINDOW ((size_t)1 << 20) /* bytes of requests or answers under way when pipelined */

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* ---- requests and answers --------------------------------------------------------------------- */

/* A request for key `i`; values differ from write to write, so that each is written. */
static size_t request(char *out, bool set, uint64_t i, const char *value, size_t len,
                      uint64_t serial)
{
    size_t used;

    if (!set)
        return (size_t)sprintf(out, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012llu\r\n",
                               (unsigned long long)i);
    used = (size_t)sprintf(out, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012llu\r\n$%zu\r\n",
                           (unsigned long long)i, len);
    memcpy(out + used, value, len);
    if (len >= 16) {
        char tail[17];

        snprintf(tail, sizeof(tail), "%016llu", (unsigned long long)serial);
        memcpy(out + used + len - 16, tail, 16);
    }
    memcpy(out + used + len, "\r\n", 2);
    return used + len + 2;
}

/* Counts answers in a stream of them. */
struct answers {
    uint64_t count, missing;
    uint64_t skip; /* bytes of a value that are still to come */
    char line[64];
    size_t len;
};

static void answers_take(struct answers *a, const char *data, size_t len)
{
    while (len > 0) {
        if (a->skip > 0) {
            size_t part = a->skip < len ? (size_t)a->skip : len;

            a->skip -= part;
            data += part;
            len -= part;
            if (a->skip == 0)
                a->count++;
            continue;
        }
        if (a->len < sizeof(a->line) - 1)
            a->line[a->len++] = *data;
        len--;
        if (*data++ != '\n')
            continue;
        a->line[a->len] = '\0';
        a->len = 0;
        if (a->line[0] == '-' || a->line[0] == '*') {
            fprintf(stderr, "load: answered %s", a->line);
            exit(1);
        }
        if (a->line[0] == '$' && a->line[1] != '-') {
            a->skip = strtoull(a->line + 1, NULL, 10) + 2;
            continue;
        }
        if (a->line[0] == '$')
            a->missing++;
        a->count++;
    }
}

/* ---- in their order, pipelined ---------------------------------------------------------------- */

static void in_order(uint16_t port, bool set, uint64_t count, size_t len)
{
    int fd = dial(port);
    size_t used = 0, sent = 0, each = (set ? len : 0) + 128, answer = (set ? 32 : len + 16);
    char *out = malloc(WINDOW + each), *in = malloc(WINDOW), *value = malloc(len + 1);
    struct answers answers = {0};
    uint64_t begun = now_ns(), asked = 0, ahead = WINDOW / (set ? each : answer) + 1;

    if (out == NULL || in == NULL || value == NULL)
        fail("memory");
    memset(value, 'v', len);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (answers.count < count) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (used == sent) {
            used = sent = 0;
            for (; asked < count && asked < answers.count + ahead && used < WINDOW; asked++)
                used += request(out + used, set, asked, value, len, asked);
        }
        if (used > sent) {
            n = send(fd, out + sent, used - sent, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                fail("send");
            if (n > 0)
                sent += (size_t)n;
            if (used > sent)
                wait.events |= POLLOUT;
        }
        if (poll(&wait, 1, 60000) <= 0)
            fail("no answer");
        if ((wait.revents & ~POLLOUT) == 0)
            continue;
        n = recv(fd, in, WINDOW, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            fail("recv");
        if (n > 0)
            answers_take(&answers, in, (size_t)n);
    }
    if (!set && answers.missing > 0) {
        fprintf(stderr, "load: %llu keys are missing\n", (unsigned long long)answers.missing);
        exit(1);
    }
    printf("%.0f\n", (double)count * 1e9 / (double)(now_ns() - begun));
    free(out);
    free(in);
    free(value);
    close(fd);
}

/* ---- at a rate -------------------------------------------------------------------------------- */

struct client {
    int fd;
    uint64_t due; /* of what it has asked; 0: nothing */
    struct answers answers;
};

static int by_value(const void *a, const void *b)
{
    uint32_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

static void pace(uint16_t port, uint64_t rate, uint64_t seconds, uint64_t keys, size_t len)
{
    struct client clients[CLIENTS] = {0}, *idle[CLIENTS];
    uint64_t room = (rate > 0 ? rate : 1000000) * (seconds + 1), done = 0, asked = 0,
             random = 88172645463325252u;
    uint32_t *latencies = malloc(room * sizeof(*latencies));
    char *out = malloc(len + 128), *value = malloc(len + 1), in[16384];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    unsigned idle_count = 0;
    uint64_t begun, end, now;

    if (latencies == NULL || out == NULL || value == NULL || epoll < 0)
        fail("memory");
    memset(value, 'v', len);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = &clients[i]}};

        clients[i].fd = dial(port);
        epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
        idle[idle_count++] = &clients[i];
    }
    begun = now = now_ns();
    end = begun + seconds * 1000000000u;
    while (now < end || idle_count < CLIENTS) {
        struct epoll_event events[CLIENTS];
        struct timespec wait = {.tv_sec = 1};
        uint64_t next = rate > 0 ? begun + asked * 1000000000u / rate : now;
        int count;

        while (idle_count > 0 && next <= now && next < end && asked < room) {
            struct client *client = idle[--idle_count];
            size_t used;

            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            used = request(out, (random >> 40 & 1) != 0, random % keys, value, len, random);
            client->due = next;
            if (send(client->fd, out, used, MSG_NOSIGNAL) != (ssize_t)used)
                fail("send");
            asked++;
            next = rate > 0 ? begun + asked * 1000000000u / rate : now;
        }
        if (idle_count > 0 && next > now && next < end) {
            wait.tv_sec = (time_t)((next - now) / 1000000000u);
            wait.tv_nsec = (long)((next - now) % 1000000000u);
        }
        count = epoll_pwait2(epoll, events, CLIENTS, &wait, NULL);
        now = now_ns();
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            uint64_t before = client->answers.count;
            ssize_t n = recv(client->fd, in, sizeof(in), 0);

            if (n <= 0)
                fail("recv");
            answers_take(&client->answers, in, (size_t)n);
            if (client->answers.count == before)
                continue;
            latencies[done++] = (uint32_t)((now - client->due) / 1000);
            idle[idle_count++] = client;
        }
    }
    qsort(latencies, done, sizeof(*latencies), by_value);
    printf("%.0f %u %u %u %u\n", (double)done * 1e9 / (double)(now - begun), latencies[done / 2],
           latencies[done * 99 / 100], latencies[done * 999 / 1000], latencies[done - 1]);
}

int main(int argc, char **argv)
{
    uint64_t number[5] = {0};

    for (int i = 1; i < argc && i < 7; i++)
        if (i != 2)
            number[i < 2 ? 0 : i - 2] = strtoull(argv[i], NULL, 10);
    if (argc == 5 && (strcmp(argv[2], "fill") == 0 || strcmp(argv[2], "get") == 0))
        in_order((uint16_t)number[0], argv[2][0] == 'f', number[1], (size_t)number[2]);
    else if (argc == 7 && strcmp(argv[2], "pace") == 0)
        pace((uint16_t)number[0], number[1], number[2], number[3], (size_t)number[4]);
    else
        return 2;
    return 0;
}
