/*
 * dhcp_client.c - see dhcp_client.h.
 *
 *             +-- wish --> REBOOTING --NAK or silence--+
 *             |                 |                      v
 *   start ----+                 |ACK               SELECTING <------------------+
 *             |                 v                      |OFFER                   |
 *             |               BOUND <---ACK--- REQUESTING --NAK or silence------+
 *             |                T1|  ^                                           |
 *             |                  v  |ACK                                        |
 *             |              RENEWING --T2--> REBINDING --end of the lease------+
 *             +--------------------------------(NAK in either)------------------+
 */
#include "dhcp_client.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND ((uint64_t)1000000)
#define ASK_FIRST SECOND      /* between two questions; doubled each time … */
#define ASK_MAX (16 * SECOND) /* … up to this: a server that comes late is found soon */
#define SILENT_AFTER 3        /* questions without an answer, until that is told */
#define REQUEST_TRIES 4
#define REBOOT_TRIES 3
#define LEASE_LEAST 4 /* seconds; a shorter lease is one of these */
#define READ_MAX 32   /* packets per turn */

enum state { SELECTING, REQUESTING, REBOOTING, BOUND, RENEWING, REBINDING };

struct dhcp_client {
    struct loop *loop;
    struct loop_io *io;
    struct loop_timer *timer;
    dhcp_client_fn *fn;
    void *data;
    int fd, ifindex;
    uint8_t mac[6];
    enum state state;
    unsigned tries;
    uint32_t xid;
    uint64_t since; /* the first question of this round */
    struct address wish;
    struct lease lease;          /* offered (REQUESTING) or held (from BOUND on) */
    uint64_t renew, rebind, end; /* us, of a lease that ends */
};

/* UDP from port 67 to 68, not a fragment: the kernel passes nothing else up (classic BPF over the IP header). */
static struct sock_filter filter_code[] = {
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),
    BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
    BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 67 << 16 | 68, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, LEASE_PACKET_MAX),
    BPF_STMT(BPF_RET | BPF_K, 0),
};

/* A new round of questions: answers to earlier ones no longer fit. */
static void begin_round(struct dhcp_client *client, enum state state)
{
    client->state = state;
    client->tries = 0;
    client->since = loop_clock();
    (void)getrandom(&client->xid, sizeof(client->xid), 0);
}

static void send_everybody(struct dhcp_client *client, const struct dhcp_question *question)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_IP),
                             .sll_ifindex = client->ifindex,
                             .sll_halen = 6,
                             .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    uint8_t packet[LEASE_PACKET_MAX];
    size_t len = lease_write_packet(question, packet, sizeof(packet));

    /* A link that cannot send now is a question without an answer. */
    (void)sendto(client->fd, packet, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
}

static void send_server(struct dhcp_client *client, const struct dhcp_question *question)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(68)};
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(67)};
    uint8_t message[DHCP_MESSAGE_SIZE];
    size_t len = lease_write_message(question, message);
    int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return;
    memcpy(&own.sin_addr, client->lease.address.bytes, 4);
    memcpy(&server.sin_addr, client->lease.server.bytes, 4);
    /* The answer is read by the packet socket; this one only gives the packet its way. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, (struct sockaddr *)&own, sizeof(own)) == 0)
        (void)sendto(fd, message, len, 0, (struct sockaddr *)&server, sizeof(server));
    close(fd);
}

static void ask(struct dhcp_client *client)
{
    uint64_t elapsed = (loop_clock() - client->since) / SECOND;
    struct dhcp_question question = {
        .type = client->state == SELECTING ? DHCP_DISCOVER : DHCP_REQUEST,
        .xid = client->xid,
        .elapsed = elapsed > UINT16_MAX ? UINT16_MAX : (uint16_t)elapsed,
    };

    memcpy(question.mac, client->mac, sizeof(question.mac));
    /* RFC 2131, table 4: which fields say what in which state. */
    switch (client->state) {
    case SELECTING:
    case REBOOTING:
        question.requested = client->wish;
        break;
    case REQUESTING:
        question.requested = client->lease.address;
        question.server = client->lease.server;
        break;
    case BOUND:
    case RENEWING:
    case REBINDING:
        question.client = client->lease.address;
        break;
    }
    client->tries++;
    if (client->state == RENEWING && client->lease.server.family != 0)
        send_server(client, &question);
    else
        send_everybody(client, &question);
}

/* 1, 2, 4 … seconds, each up to a quarter longer: machines that started together do not ask together. */
static uint64_t pause_after(const struct dhcp_client *client)
{
    uint64_t pause = ASK_FIRST;
    uint8_t chance = 0;

    for (unsigned i = 1; i < client->tries && pause < ASK_MAX; i++)
        pause *= 2;
    (void)getrandom(&chance, sizeof(chance), 0);
    return pause + pause / 4 * chance / 255;
}

static void start_over(struct dhcp_client *client)
{
    begin_round(client, SELECTING);
    ask(client);
    loop_timer_in(client->timer, pause_after(client));
}

static void lose(struct dhcp_client *client)
{
    client->wish = client->lease.address;
    client->lease = (struct lease){0};
    start_over(client);
    client->fn(DHCP_EVENT_LOST, NULL, client->data);
}

/* Half of the time that is left until `next`, at least a second: RFC 2131, 4.4.5, made fit for short leases. */
static void ask_again_before(struct dhcp_client *client, uint64_t next)
{
    uint64_t now = loop_clock(), pause = next > now ? (next - now) / 2 : 0;

    if (pause < SECOND)
        pause = SECOND;
    loop_timer_set(client->timer, now + pause < next ? now + pause : next);
}

static void on_bound_time(struct dhcp_client *client)
{
    uint64_t now = loop_clock();

    if (now >= client->end) {
        lose(client);
        return;
    }
    if (now >= client->rebind) {
        if (client->state != REBINDING)
            begin_round(client, REBINDING);
        ask(client);
        ask_again_before(client, client->end);
        return;
    }
    if (client->state != RENEWING)
        begin_round(client, RENEWING);
    ask(client);
    ask_again_before(client, client->rebind);
}

static void on_time(struct loop_timer *timer, void *data)
{
    struct dhcp_client *client = data;

    (void)timer;
    if (client->state >= BOUND) {
        on_bound_time(client);
        return;
    }
    if ((client->state == REQUESTING && client->tries >= REQUEST_TRIES) ||
        (client->state == REBOOTING && client->tries >= REBOOT_TRIES)) {
        start_over(client);
        return;
    }
    ask(client);
    loop_timer_in(client->timer, pause_after(client));
    if (client->state == SELECTING && client->tries == SILENT_AFTER + 1)
        client->fn(DHCP_EVENT_SILENT, NULL, client->data);
}

static void hold(struct dhcp_client *client, const struct lease *lease)
{
    uint64_t now = loop_clock();
    struct address server = client->lease.server;

    client->lease = *lease;
    if (client->lease.server.family == 0)
        client->lease.server = server;
    client->state = BOUND;
    if (lease->seconds == LEASE_FOREVER) {
        loop_timer_stop(client->timer);
    } else {
        uint64_t seconds = lease->seconds < LEASE_LEAST ? LEASE_LEAST : lease->seconds;

        client->end = now + seconds * SECOND;
        client->rebind =
            now + (seconds == lease->seconds ? lease->rebind : seconds * 7 / 8) * SECOND;
        client->renew = now + (seconds == lease->seconds ? lease->renew : seconds / 2) * SECOND;
        loop_timer_set(client->timer, client->renew);
    }
    client->fn(DHCP_EVENT_BOUND, &client->lease, client->data);
}

static void on_offer(struct dhcp_client *client, const struct lease *lease)
{
    /* The first offer is taken; one without its server's name cannot be asked for. */
    if (client->state != SELECTING || lease->server.family == 0)
        return;
    client->lease = *lease;
    client->state = REQUESTING;
    client->tries = 0;
    ask(client);
    loop_timer_in(client->timer, pause_after(client));
}

/* Does this server have a say in the address that is asked for or held. */
static bool is_our_server(const struct dhcp_client *client, const struct lease *lease)
{
    if (client->state == REBOOTING || client->state == REBINDING || lease->server.family == 0)
        return true;
    return address_equal(&client->lease.server, &lease->server);
}

static void on_nak(struct dhcp_client *client, const struct lease *lease)
{
    /* Another server of the network that does not know our address is not to be heard. */
    if (client->state == SELECTING || client->state == BOUND || !is_our_server(client, lease))
        return;
    if (client->state == REQUESTING) {
        start_over(client);
        return;
    }
    if (client->state == REBOOTING)
        client->lease.address = (struct address){0};
    lose(client);
}

static void on_ack(struct dhcp_client *client, const struct lease *lease)
{
    if (client->state == SELECTING || client->state == BOUND || !is_our_server(client, lease))
        return;
    hold(client, lease);
}

static void on_packet(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct dhcp_client *client = data;

    (void)io, (void)events;
    for (int i = 0; i < READ_MAX; i++) {
        uint8_t packet[LEASE_PACKET_MAX];
        enum dhcp_type type;
        struct lease lease;
        ssize_t n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);

        if (n < 0)
            return;
        if (lease_read_packet(packet, (size_t)n, client->xid, client->mac, &type, &lease) < 0)
            continue;
        if (type == DHCP_OFFER)
            on_offer(client, &lease);
        else if (type == DHCP_ACK)
            on_ack(client, &lease);
        else
            on_nak(client, &lease);
        /* The callback may have ended this client; what else waits brings us here again. */
        return;
    }
}

int dhcp_client_new(struct loop *loop, int ifindex, const uint8_t mac[6],
                    const struct address *wish, dhcp_client_fn *fn, void *data,
                    struct dhcp_client **ret_client)
{
    struct sock_fprog filter = {.len = sizeof(filter_code) / sizeof(filter_code[0]),
                                .filter = filter_code};
    struct sockaddr_ll own = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = ifindex};
    struct dhcp_client *client = calloc(1, sizeof(*client));
    int r = 0;

    if (client == NULL)
        return -ENOMEM;
    client->loop = loop;
    client->fn = fn;
    client->data = data;
    client->ifindex = ifindex;
    client->wish = *wish;
    memcpy(client->mac, mac, sizeof(client->mac));
    /* Protocol 0 until the filter stands: nothing unfiltered is ever queued. */
    client->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0 ||
        setsockopt(client->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ||
        bind(client->fd, (struct sockaddr *)&own, sizeof(own)) < 0)
        r = -errno;
    if (r == 0)
        r = loop_timer_add(loop, on_time, client, &client->timer);
    if (r == 0)
        r = loop_io_add(loop, client->fd, EPOLLIN, on_packet, client, &client->io);
    if (r < 0) {
        dhcp_client_free(client);
        return r;
    }
    begin_round(client, wish->family != 0 ? REBOOTING : SELECTING);
    ask(client);
    loop_timer_in(client->timer, pause_after(client));
    *ret_client = client;
    return 0;
}

void dhcp_client_free(struct dhcp_client *client)
{
    if (client == NULL)
        return;
    loop_io_del(client->io);
    loop_timer_del(client->timer);
    if (client->fd >= 0)
        close(client->fd);
    free(client);
}
