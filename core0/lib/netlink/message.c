/*
 * message.c - building and parsing netlink messages; see netlink.h.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "lib/netlink/netlink.h"

/* The kernel's NLA_ macros compute in signed numbers. */
#define ATTR_HEADER sizeof(struct nlattr)
#define ATTR_ALIGN(len) (((len) + 3u) & ~(size_t)3u)
#define ATTR_TYPE(type) ((uint16_t)((type)&0x3fffu))

static const uint8_t zeros[NLMSG_ALIGNTO];

static void fail(struct netlink_msg *msg, int status)
{
    if (msg->status == 0)
        msg->status = status;
}

static void append(struct netlink_msg *msg, const void *data, size_t len)
{
    int r;

    if (msg->status < 0 || len == 0)
        return;
    r = buffer_append(&msg->buf, data, len);
    if (r < 0)
        fail(msg, r);
}

static void pad(struct netlink_msg *msg)
{
    size_t over = msg->buf.len % NLMSG_ALIGNTO;

    if (over != 0)
        append(msg, zeros, NLMSG_ALIGNTO - over);
}

void netlink_msg_init(struct netlink_msg *msg)
{
    *msg = (struct netlink_msg){0};
    buffer_init(&msg->buf, NETLINK_MESSAGE_MAX);
}

void netlink_msg_done(struct netlink_msg *msg)
{
    buffer_done(&msg->buf);
}

int netlink_msg_status(const struct netlink_msg *msg)
{
    return msg->status;
}

void netlink_msg_begin(struct netlink_msg *msg, uint16_t type, uint16_t flags, const void *body,
                       size_t body_len)
{
    struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = flags};

    pad(msg);
    msg->header = msg->buf.len;
    msg->depth = 0;
    append(msg, &header, sizeof(header));
    append(msg, body, body_len);
    pad(msg);
}

void netlink_msg_end(struct netlink_msg *msg)
{
    uint32_t len;

    if (msg->depth != 0)
        fail(msg, -EINVAL);
    if (msg->status < 0)
        return;
    len = (uint32_t)(msg->buf.len - msg->header);
    memcpy(msg->buf.data + msg->header + offsetof(struct nlmsghdr, nlmsg_len), &len, sizeof(len));
    pad(msg);
}

void netlink_put(struct netlink_msg *msg, uint16_t attr, const void *data, size_t len)
{
    struct nlattr header = {.nla_type = attr};

    if (len > UINT16_MAX - ATTR_HEADER) {
        fail(msg, -EMSGSIZE);
        return;
    }
    header.nla_len = (uint16_t)(ATTR_HEADER + len);
    append(msg, &header, sizeof(header));
    append(msg, data, len);
    pad(msg);
}

void netlink_put_u8(struct netlink_msg *msg, uint16_t attr, uint8_t value)
{
    netlink_put(msg, attr, &value, sizeof(value));
}

void netlink_put_u16(struct netlink_msg *msg, uint16_t attr, uint16_t value)
{
    netlink_put(msg, attr, &value, sizeof(value));
}

void netlink_put_u32(struct netlink_msg *msg, uint16_t attr, uint32_t value)
{
    netlink_put(msg, attr, &value, sizeof(value));
}

void netlink_put_be16(struct netlink_msg *msg, uint16_t attr, uint16_t value)
{
    netlink_put_u16(msg, attr, htons(value));
}

void netlink_put_be32(struct netlink_msg *msg, uint16_t attr, uint32_t value)
{
    netlink_put_u32(msg, attr, htonl(value));
}

void netlink_put_be64(struct netlink_msg *msg, uint16_t attr, uint64_t value)
{
    value = htobe64(value);
    netlink_put(msg, attr, &value, sizeof(value));
}

void netlink_put_str(struct netlink_msg *msg, uint16_t attr, const char *value)
{
    netlink_put(msg, attr, value, strlen(value) + 1);
}

void netlink_nest_begin_raw(struct netlink_msg *msg, uint16_t attr, const void *data, size_t len)
{
    struct nlattr header = {.nla_type = attr};

    if (msg->depth == NETLINK_NEST_MAX) {
        fail(msg, -EINVAL);
        return;
    }
    msg->nest[msg->depth++] = msg->buf.len;
    append(msg, &header, sizeof(header));
    append(msg, data, len);
    pad(msg);
}

void netlink_nest_begin(struct netlink_msg *msg, uint16_t attr)
{
    netlink_nest_begin_raw(msg, (uint16_t)(attr | NLA_F_NESTED), NULL, 0);
}

void netlink_nest_end(struct netlink_msg *msg)
{
    uint16_t len;
    size_t start;

    if (msg->depth == 0)
        fail(msg, -EINVAL);
    if (msg->status < 0)
        return;
    start = msg->nest[--msg->depth];
    if (msg->buf.len - start > UINT16_MAX) {
        fail(msg, -EMSGSIZE);
        return;
    }
    len = (uint16_t)(msg->buf.len - start);
    memcpy(msg->buf.data + start + offsetof(struct nlattr, nla_len), &len, sizeof(len));
}

int netlink_attr_foreach(const void *data, size_t len, netlink_attr_fn *fn, void *user)
{
    const uint8_t *p = data;

    while (len >= sizeof(struct nlattr)) {
        struct nlattr header;
        struct netlink_attr attr;
        size_t step;
        int r;

        memcpy(&header, p, sizeof(header));
        if (header.nla_len < sizeof(header) || header.nla_len > len)
            return -EBADMSG;
        attr.data = p + sizeof(header);
        attr.len = (uint16_t)(header.nla_len - sizeof(header));
        r = fn(ATTR_TYPE(header.nla_type), &attr, user);
        if (r < 0)
            return r;
        step = ATTR_ALIGN((size_t)header.nla_len);
        if (step >= len)
            return 0;
        p += step;
        len -= step;
    }
    return len == 0 ? 0 : -EBADMSG;
}

struct parse {
    const struct netlink_policy *policy;
    size_t count;
    struct netlink_attr *attrs;
};

static int parse_one(uint16_t type, const struct netlink_attr *attr, void *user)
{
    const struct parse *parse = user;
    const struct netlink_policy *row;
    size_t len = attr->len;

    if (type >= parse->count || parse->policy[type].kind == NETLINK_NONE)
        return 0;
    row = &parse->policy[type];
    if (row->kind == NETLINK_TEXT) {
        if (len == 0 || memchr(attr->data, '\0', len) != attr->data + len - 1)
            return -EBADMSG;
        len--;
    }
    if (len < row->min || len > row->max)
        return -EBADMSG;
    parse->attrs[type] = *attr;
    return 0;
}

int netlink_parse(const void *data, size_t len, const struct netlink_policy *policy, size_t count,
                  struct netlink_attr *attrs)
{
    struct parse parse = {.policy = policy, .count = count, .attrs = attrs};

    memset(attrs, 0, count * sizeof(*attrs));
    return netlink_attr_foreach(data, len, parse_one, &parse);
}

uint8_t netlink_attr_u8(const struct netlink_attr *attr)
{
    return attr->data != NULL && attr->len >= 1 ? attr->data[0] : 0;
}

uint16_t netlink_attr_u16(const struct netlink_attr *attr)
{
    uint16_t value = 0;

    if (attr->data != NULL && attr->len >= sizeof(value))
        memcpy(&value, attr->data, sizeof(value));
    return value;
}

uint32_t netlink_attr_u32(const struct netlink_attr *attr)
{
    uint32_t value = 0;

    if (attr->data != NULL && attr->len >= sizeof(value))
        memcpy(&value, attr->data, sizeof(value));
    return value;
}

uint16_t netlink_attr_be16(const struct netlink_attr *attr)
{
    return ntohs(netlink_attr_u16(attr));
}

uint32_t netlink_attr_be32(const struct netlink_attr *attr)
{
    return ntohl(netlink_attr_u32(attr));
}

int netlink_foreach(const void *data, size_t len, netlink_message_fn *fn, void *user)
{
    const uint8_t *p = data;

    while (len >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr header;
        size_t step;
        int r;

        memcpy(&header, p, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > len)
            return -EBADMSG;
        r = fn(&header, p + sizeof(header), header.nlmsg_len - sizeof(header), user);
        if (r < 0)
            return r;
        step = NLMSG_ALIGN((size_t)header.nlmsg_len);
        if (step >= len)
            return 0;
        p += step;
        len -= step;
    }
    return len == 0 ? 0 : -EBADMSG;
}
