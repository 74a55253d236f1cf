/*
 * netlink.h - the small layer under rtnetlink, nf_tables and conntrack: building, sending and parsing messages.
 *
 * A message is built in a buffer whose error sticks: puts need no check, netlink_msg_status() tells at the end.
 * Attributes that come in are read by a policy table with sizes; what does not fit its row fails the parse, what no
 * row names is passed over, since newer kernels say more. Requests are answered by the kernel inside sendmsg(2), so
 * they block only for copying. Events come on sockets of their own. The kernel's own sentence about a refusal
 * (extended ack) ends up in struct error with code "net.kernel".
 * Source: Documentation/userspace-api/netlink/intro.rst, RFC 3549.
 */
#pragma once

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/error.h"

#define NETLINK_MESSAGE_MAX ((size_t)4 << 20) /* bytes of one batch that we send */
#define NETLINK_NEST_MAX 8

/* ---- building ---- */

struct netlink_msg {
    struct buffer buf;
    int status;    /* first failure, negative errno */
    size_t header; /* offset of the message under construction */
    size_t nest[NETLINK_NEST_MAX];
    unsigned depth;
};

void netlink_msg_init(struct netlink_msg *msg);
void netlink_msg_done(struct netlink_msg *msg);
/* Starts a message; `body` is the family's fixed header (struct ifinfomsg, nfgenmsg, …). */
void netlink_msg_begin(struct netlink_msg *msg, uint16_t type, uint16_t flags, const void *body,
                       size_t body_len);
void netlink_msg_end(struct netlink_msg *msg);
int netlink_msg_status(const struct netlink_msg *msg); /* 0 or negative errno */

void netlink_put(struct netlink_msg *msg, uint16_t attr, const void *data, size_t len);
void netlink_put_u8(struct netlink_msg *msg, uint16_t attr, uint8_t value);
void netlink_put_u16(struct netlink_msg *msg, uint16_t attr, uint16_t value);
void netlink_put_u32(struct netlink_msg *msg, uint16_t attr, uint32_t value);
void netlink_put_be16(struct netlink_msg *msg, uint16_t attr, uint16_t value);
void netlink_put_be32(struct netlink_msg *msg, uint16_t attr, uint32_t value);
void netlink_put_be64(struct netlink_msg *msg, uint16_t attr, uint64_t value);
void netlink_put_str(struct netlink_msg *msg, uint16_t attr, const char *value); /* with its NUL */
void netlink_nest_begin(struct netlink_msg *msg, uint16_t attr); /* sets NLA_F_NESTED */
/* Without NLA_F_NESTED and with raw bytes before the attributes (VETH_INFO_PEER wants an ifinfomsg). */
void netlink_nest_begin_raw(struct netlink_msg *msg, uint16_t attr, const void *data, size_t len);
void netlink_nest_end(struct netlink_msg *msg);

/* ---- parsing (safe on any bytes) ---- */

enum netlink_kind { NETLINK_NONE = 0, NETLINK_BYTES, NETLINK_TEXT };

/* One row per attribute type; sizes in bytes. NETLINK_TEXT: without the NUL, which is required and the only one. */
struct netlink_policy {
    enum netlink_kind kind;
    uint16_t min, max;
};

struct netlink_attr {
    const uint8_t *data; /* NULL: absent */
    uint16_t len;
};

/* Fills attrs[0 … count-1] by policy[0 … count-1]. The last of several equal attributes counts.
 * -EBADMSG: a header that does not fit, or a size outside its row. */
int netlink_parse(const void *data, size_t len, const struct netlink_policy *policy, size_t count,
                  struct netlink_attr *attrs);
uint8_t netlink_attr_u8(const struct netlink_attr *attr);
uint16_t netlink_attr_u16(const struct netlink_attr *attr);
uint32_t netlink_attr_u32(const struct netlink_attr *attr);
uint16_t netlink_attr_be16(const struct netlink_attr *attr);
uint32_t netlink_attr_be32(const struct netlink_attr *attr);

/* Calls fn for each attribute of an array (same rules). fn's negative result stops and is returned. */
typedef int netlink_attr_fn(uint16_t type, const struct netlink_attr *attr, void *data);
int netlink_attr_foreach(const void *data, size_t len, netlink_attr_fn *fn, void *user);

/* body: what follows nlmsghdr. A negative result stops and is returned. */
typedef int netlink_message_fn(const struct nlmsghdr *header, const uint8_t *body, size_t len,
                               void *data);
int netlink_foreach(const void *data, size_t len, netlink_message_fn *fn, void *user);

/* ---- sockets ---- */

struct netlink;

int netlink_open(int protocol, struct netlink **ret_netlink);
/* groups: numbers (RTNLGRP_…), ended by 0. Non-blocking; read with netlink_receive. */
int netlink_open_events(int protocol, const unsigned *groups, struct netlink **ret_netlink);
void netlink_free(struct netlink *netlink);
int netlink_fd(const struct netlink *netlink);

/* Sends the one message in `msg` (flags get REQUEST and ACK) and waits for its acknowledgement. On failure *err
 * says `what` was tried, what the kernel answered, and why. err may be NULL. */
int netlink_request(struct netlink *netlink, struct netlink_msg *msg, const char *what,
                    struct error *err);
/* The same, with fn called for the answer that comes before the acknowledgement. */
int netlink_query(struct netlink *netlink, struct netlink_msg *msg, netlink_message_fn *fn,
                  void *user, const char *what, struct error *err);
/* Sends a dump request and calls fn for every answer. -EINTR is handled inside: the dump is taken again, after
 * `restart` (may be NULL) was called so that what fn has collected can be thrown away. */
int netlink_dump(struct netlink *netlink, struct netlink_msg *msg, netlink_message_fn *fn,
                 void (*restart)(void *user), void *user, const char *what, struct error *err);
/* Sends a batch of nfnetlink messages as one transaction: all or nothing. */
int netlink_batch(struct netlink *netlink, struct netlink_msg *msg, const char *what,
                  struct error *err);
/* Reads what waits. 0; -ENOBUFS: events were lost, dump again. */
int netlink_receive(struct netlink *netlink, netlink_message_fn *fn, void *user);
