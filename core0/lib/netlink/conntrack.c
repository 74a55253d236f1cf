/*
 * conntrack.c - see conntrack.h.
 *
 * The kernel can filter what it deletes by family and mark only, so the table is read and each entry that is to
 * go is deleted by its tuple. That is rare (a port or a reservation ends), and reading 100,000 entries takes 0.1 s.
 */
#include "lib/netlink/conntrack.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FLUSH_MAX 1000000 /* entries ended by one call; nf_conntrack_max is below */

static const struct netlink_policy entry_policy[] = {
    [CTA_TUPLE_ORIG] = {NETLINK_BYTES, 0, UINT16_MAX},
    [CTA_TUPLE_REPLY] = {NETLINK_BYTES, 0, UINT16_MAX},
    [CTA_ZONE] = {NETLINK_BYTES, 2, 2},
};
static const struct netlink_policy tuple_policy[] = {
    [CTA_TUPLE_IP] = {NETLINK_BYTES, 0, UINT16_MAX},
    [CTA_TUPLE_PROTO] = {NETLINK_BYTES, 0, UINT16_MAX},
};
static const struct netlink_policy ip_policy[] = {
    [CTA_IP_V4_SRC] = {NETLINK_BYTES, 4, 4},
    [CTA_IP_V4_DST] = {NETLINK_BYTES, 4, 4},
    [CTA_IP_V6_SRC] = {NETLINK_BYTES, 16, 16},
    [CTA_IP_V6_DST] = {NETLINK_BYTES, 16, 16},
};
static const struct netlink_policy proto_policy[] = {
    [CTA_PROTO_NUM] = {NETLINK_BYTES, 1, 1},
    [CTA_PROTO_SRC_PORT] = {NETLINK_BYTES, 2, 2},
    [CTA_PROTO_DST_PORT] = {NETLINK_BYTES, 2, 2},
};

static int parse_tuple(const struct netlink_attr *attr, uint8_t family,
                       struct conntrack_tuple *tuple, uint8_t *protocol)
{
    struct netlink_attr parts[COUNT(tuple_policy)], ip[COUNT(ip_policy)],
        proto[COUNT(proto_policy)];
    bool v4 = family == AF_INET;
    const struct netlink_attr *src = &ip[v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC];
    const struct netlink_attr *dst = &ip[v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST];

    if (attr->data == NULL ||
        netlink_parse(attr->data, attr->len, tuple_policy, COUNT(tuple_policy), parts) < 0 ||
        parts[CTA_TUPLE_IP].data == NULL || parts[CTA_TUPLE_PROTO].data == NULL ||
        netlink_parse(parts[CTA_TUPLE_IP].data, parts[CTA_TUPLE_IP].len, ip_policy,
                      COUNT(ip_policy), ip) < 0 ||
        netlink_parse(parts[CTA_TUPLE_PROTO].data, parts[CTA_TUPLE_PROTO].len, proto_policy,
                      COUNT(proto_policy), proto) < 0 ||
        src->data == NULL || dst->data == NULL || proto[CTA_PROTO_NUM].data == NULL)
        return -EBADMSG;
    memcpy(tuple->src, src->data, src->len);
    memcpy(tuple->dst, dst->data, dst->len);
    tuple->sport = netlink_attr_be16(&proto[CTA_PROTO_SRC_PORT]);
    tuple->dport = netlink_attr_be16(&proto[CTA_PROTO_DST_PORT]);
    *protocol = netlink_attr_u8(&proto[CTA_PROTO_NUM]);
    return 0;
}

int conntrack_parse(const uint8_t *body, size_t len, struct conntrack_entry *ret_entry)
{
    struct netlink_attr attrs[COUNT(entry_policy)];
    struct conntrack_entry entry = {0};
    struct nfgenmsg header;
    uint8_t protocol;

    if (len < sizeof(header))
        return -EBADMSG;
    memcpy(&header, body, sizeof(header));
    entry.family = header.nfgen_family;
    if ((entry.family != AF_INET && entry.family != AF_INET6) ||
        netlink_parse(body + sizeof(header), len - sizeof(header), entry_policy,
                      COUNT(entry_policy), attrs) < 0 ||
        parse_tuple(&attrs[CTA_TUPLE_ORIG], entry.family, &entry.original, &entry.protocol) < 0 ||
        parse_tuple(&attrs[CTA_TUPLE_REPLY], entry.family, &entry.reply, &protocol) < 0)
        return -EBADMSG;
    entry.zone = netlink_attr_be16(&attrs[CTA_ZONE]);
    *ret_entry = entry;
    return 0;
}

struct flush {
    bool (*match)(const struct conntrack_entry *entry, void *data);
    void *data;
    /* The original tuples of what is to go, as the kernel sent them: they go back unchanged. */
    struct doomed {
        uint8_t family;
        uint8_t *tuple;
        uint16_t len, zone;
    } * list;
    size_t count, capacity;
};

static int collect(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    struct flush *flush = user;
    struct netlink_attr attrs[COUNT(entry_policy)];
    struct conntrack_entry entry;
    uint8_t *copy;

    (void)header;
    if (conntrack_parse(body, len, &entry) < 0 || !flush->match(&entry, flush->data) ||
        flush->count == FLUSH_MAX)
        return 0;
    (void)netlink_parse(body + sizeof(struct nfgenmsg), len - sizeof(struct nfgenmsg), entry_policy,
                        COUNT(entry_policy), attrs);
    if (flush->count == flush->capacity) {
        size_t capacity = flush->capacity == 0 ? 64 : flush->capacity * 2;
        struct doomed *list = reallocarray(flush->list, capacity, sizeof(*list));

        if (list == NULL)
            return -ENOMEM;
        flush->list = list;
        flush->capacity = capacity;
    }
    copy = malloc(attrs[CTA_TUPLE_ORIG].len);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, attrs[CTA_TUPLE_ORIG].data, attrs[CTA_TUPLE_ORIG].len);
    flush->list[flush->count++] = (struct doomed){.family = entry.family,
                                                  .tuple = copy,
                                                  .len = attrs[CTA_TUPLE_ORIG].len,
                                                  .zone = entry.zone};
    return 0;
}

static void restart(void *user)
{
    struct flush *flush = user;

    while (flush->count > 0)
        free(flush->list[--flush->count].tuple);
}

static int end_one(struct netlink *netlink, const struct doomed *doomed)
{
    struct nfgenmsg body = {.nfgen_family = doomed->family, .version = NFNETLINK_V0};
    struct netlink_msg msg;
    int r;

    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, &body,
                      sizeof(body));
    netlink_put(&msg, CTA_TUPLE_ORIG | NLA_F_NESTED, doomed->tuple, doomed->len);
    if (doomed->zone != 0)
        netlink_put_be16(&msg, CTA_ZONE, doomed->zone);
    netlink_msg_end(&msg);
    r = netlink_request(netlink, &msg, "ending a connection", NULL);
    netlink_msg_done(&msg);
    return r == -ENOENT ? 0 : r; /* it ended by itself meanwhile */
}

int conntrack_flush(struct netlink *netlink,
                    bool (*match)(const struct conntrack_entry *entry, void *data), void *data,
                    struct error *err)
{
    struct flush flush = {.match = match, .data = data};
    struct nfgenmsg body = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0};
    struct netlink_msg msg;
    int r, count;

    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, 0, &body, sizeof(body));
    netlink_msg_end(&msg);
    r = netlink_dump(netlink, &msg, collect, restart, &flush, "reading the connections", err);
    netlink_msg_done(&msg);
    count = (int)flush.count;
    for (size_t i = 0; r >= 0 && i < flush.count; i++) {
        r = end_one(netlink, &flush.list[i]);
        if (r < 0)
            error_set(err, -r, "net.kernel", NULL, "ending a connection: %s", strerror(-r));
    }
    restart(&flush);
    free(flush.list);
    return r < 0 ? r : count;
}
