/*
 * nft.c - see nft.h.
 */
#include "lib/netlink/nft.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* All comparisons use this register; keys of sets start at the first 4-byte one. */
#define REG NFT_REG_1
#define FIRST_REG32 NFT_REG32_00

static void message(struct nft *nft, uint16_t type, uint16_t flags)
{
    struct nfgenmsg body = {.nfgen_family = nft->family, .version = NFNETLINK_V0};

    netlink_msg_begin(&nft->msg, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &body,
                      sizeof(body));
}

/* A rule stays open for its expressions until something else begins. */
static void close_rule(struct nft *nft)
{
    if (!nft->in_rule)
        return;
    netlink_nest_end(&nft->msg);
    netlink_msg_end(&nft->msg);
    nft->in_rule = false;
}

static void marker(struct nft *nft, uint16_t type)
{
    struct nfgenmsg body = {.version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};

    netlink_msg_begin(&nft->msg, type, 0, &body, sizeof(body));
    netlink_msg_end(&nft->msg);
}

void nft_begin(struct nft *nft)
{
    *nft = (struct nft){0};
    netlink_msg_init(&nft->msg);
    marker(nft, NFNL_MSG_BATCH_BEGIN);
}

void nft_done(struct nft *nft)
{
    netlink_msg_done(&nft->msg);
}

int nft_status(struct nft *nft)
{
    if (!nft->closed) {
        close_rule(nft);
        marker(nft, NFNL_MSG_BATCH_END);
        nft->closed = true;
    }
    return netlink_msg_status(&nft->msg);
}

int nft_commit(struct nft *nft, struct netlink *netlink, struct error *err)
{
    int r;

    (void)nft_status(nft);
    r = netlink_batch(netlink, &nft->msg, "replacing the firewall's rules", err);
    nft_done(nft);
    return r;
}

static void table_message(struct nft *nft, uint16_t type, uint16_t flags)
{
    message(nft, type, flags);
    netlink_put_str(&nft->msg, NFTA_TABLE_NAME, nft->table);
    netlink_put_be32(&nft->msg, NFTA_TABLE_FLAGS, 0);
    netlink_msg_end(&nft->msg);
}

void nft_table_delete(struct nft *nft, uint8_t family, const char *name)
{
    close_rule(nft);
    nft->family = family;
    nft->table = name;
    /* Deleting what is absent fails, making what is there does not. */
    table_message(nft, NFT_MSG_NEWTABLE, NLM_F_CREATE);
    table_message(nft, NFT_MSG_DELTABLE, 0);
}

void nft_table_replace(struct nft *nft, uint8_t family, const char *name)
{
    nft_table_delete(nft, family, name);
    table_message(nft, NFT_MSG_NEWTABLE, NLM_F_CREATE);
}

void nft_chain(struct nft *nft, const char *name)
{
    close_rule(nft);
    message(nft, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    netlink_put_str(&nft->msg, NFTA_CHAIN_TABLE, nft->table);
    netlink_put_str(&nft->msg, NFTA_CHAIN_NAME, name);
    netlink_msg_end(&nft->msg);
}

void nft_chain_base(struct nft *nft, const char *name, const char *type, uint32_t hook,
                    int32_t priority, uint32_t policy)
{
    close_rule(nft);
    message(nft, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    netlink_put_str(&nft->msg, NFTA_CHAIN_TABLE, nft->table);
    netlink_put_str(&nft->msg, NFTA_CHAIN_NAME, name);
    netlink_nest_begin(&nft->msg, NFTA_CHAIN_HOOK);
    netlink_put_be32(&nft->msg, NFTA_HOOK_HOOKNUM, hook);
    netlink_put_be32(&nft->msg, NFTA_HOOK_PRIORITY, (uint32_t)priority);
    netlink_nest_end(&nft->msg);
    netlink_put_be32(&nft->msg, NFTA_CHAIN_POLICY, policy);
    netlink_put_str(&nft->msg, NFTA_CHAIN_TYPE, type);
    netlink_msg_end(&nft->msg);
}

/* ---- sets ---- */

static uint32_t field_size(enum nft_field field)
{
    switch (field) {
    case NFT_FIELD_IPV4:
        return 4;
    case NFT_FIELD_MAC:
        return 6;
    case NFT_FIELD_IPV6:
    case NFT_FIELD_NAME:
        return 16;
    }
    return 0;
}

static uint32_t padded(uint32_t size)
{
    return (size + 3) & ~3u;
}

uint32_t nft_set(struct nft *nft, const char *name, const enum nft_field *fields, size_t count)
{
    uint32_t type = 0, size = 0;

    close_rule(nft);
    for (size_t i = 0; i < count; i++) {
        type = type << 6 | (uint32_t)fields[i]; /* as nft(8) packs concatenated types */
        size += count > 1 ? padded(field_size(fields[i])) : field_size(fields[i]);
    }
    nft->set_id++;
    message(nft, NFT_MSG_NEWSET, NLM_F_CREATE);
    netlink_put_str(&nft->msg, NFTA_SET_TABLE, nft->table);
    netlink_put_str(&nft->msg, NFTA_SET_NAME, name);
    netlink_put_be32(&nft->msg, NFTA_SET_FLAGS, count > 1 ? NFT_SET_CONCAT : 0);
    netlink_put_be32(&nft->msg, NFTA_SET_KEY_TYPE, type);
    netlink_put_be32(&nft->msg, NFTA_SET_KEY_LEN, size);
    netlink_put_be32(&nft->msg, NFTA_SET_ID, nft->set_id);
    if (count > 1) {
        netlink_nest_begin(&nft->msg, NFTA_SET_DESC);
        netlink_nest_begin(&nft->msg, NFTA_SET_DESC_CONCAT);
        for (size_t i = 0; i < count; i++) {
            netlink_nest_begin(&nft->msg, NFTA_LIST_ELEM);
            netlink_put_be32(&nft->msg, NFTA_SET_FIELD_LEN, field_size(fields[i]));
            netlink_nest_end(&nft->msg);
        }
        netlink_nest_end(&nft->msg);
        netlink_nest_end(&nft->msg);
    }
    netlink_msg_end(&nft->msg);
    return nft->set_id;
}

void nft_element(struct nft *nft, const char *set, uint32_t id, const enum nft_field *fields,
                 const void *const *values, size_t count)
{
    uint8_t key[NFT_KEY_MAX] = {0};
    size_t at = 0;

    close_rule(nft);
    for (size_t i = 0; i < count; i++) {
        uint32_t size = field_size(fields[i]);

        if (fields[i] == NFT_FIELD_NAME)
            snprintf((char *)key + at, NFT_NAME_LEN, "%s", (const char *)values[i]);
        else
            memcpy(key + at, values[i], size);
        at += count > 1 ? padded(size) : size;
    }
    message(nft, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
    netlink_put_str(&nft->msg, NFTA_SET_ELEM_LIST_TABLE, nft->table);
    netlink_put_str(&nft->msg, NFTA_SET_ELEM_LIST_SET, set);
    netlink_put_be32(&nft->msg, NFTA_SET_ELEM_LIST_SET_ID, id);
    netlink_nest_begin(&nft->msg, NFTA_SET_ELEM_LIST_ELEMENTS);
    netlink_nest_begin(&nft->msg, NFTA_LIST_ELEM);
    netlink_nest_begin(&nft->msg, NFTA_SET_ELEM_KEY);
    netlink_put(&nft->msg, NFTA_DATA_VALUE, key, at);
    netlink_nest_end(&nft->msg);
    netlink_nest_end(&nft->msg);
    netlink_nest_end(&nft->msg);
    netlink_msg_end(&nft->msg);
}

/* ---- rules ---- */

void nft_rule(struct nft *nft, const char *chain)
{
    close_rule(nft);
    message(nft, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    netlink_put_str(&nft->msg, NFTA_RULE_TABLE, nft->table);
    netlink_put_str(&nft->msg, NFTA_RULE_CHAIN, chain);
    netlink_nest_begin(&nft->msg, NFTA_RULE_EXPRESSIONS);
    nft->in_rule = true;
}

static void begin(struct nft *nft, const char *name)
{
    netlink_nest_begin(&nft->msg, NFTA_LIST_ELEM);
    netlink_put_str(&nft->msg, NFTA_EXPR_NAME, name);
    netlink_nest_begin(&nft->msg, NFTA_EXPR_DATA);
}

static void end(struct nft *nft)
{
    netlink_nest_end(&nft->msg);
    netlink_nest_end(&nft->msg);
}

static void value(struct nft *nft, uint16_t attr, const void *data, size_t len)
{
    netlink_nest_begin(&nft->msg, attr);
    netlink_put(&nft->msg, NFTA_DATA_VALUE, data, len);
    netlink_nest_end(&nft->msg);
}

static void compare(struct nft *nft, const void *data, size_t len, bool equal)
{
    begin(nft, "cmp");
    netlink_put_be32(&nft->msg, NFTA_CMP_SREG, REG);
    netlink_put_be32(&nft->msg, NFTA_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
    value(nft, NFTA_CMP_DATA, data, len);
    end(nft);
}

static void mask(struct nft *nft, const void *bits, size_t len)
{
    static const uint8_t zeros[16];

    begin(nft, "bitwise");
    netlink_put_be32(&nft->msg, NFTA_BITWISE_SREG, REG);
    netlink_put_be32(&nft->msg, NFTA_BITWISE_DREG, REG);
    netlink_put_be32(&nft->msg, NFTA_BITWISE_LEN, (uint32_t)len);
    value(nft, NFTA_BITWISE_MASK, bits, len);
    value(nft, NFTA_BITWISE_XOR, zeros, len);
    end(nft);
}

static void meta(struct nft *nft, uint32_t key, uint32_t reg)
{
    begin(nft, "meta");
    netlink_put_be32(&nft->msg, NFTA_META_KEY, key);
    netlink_put_be32(&nft->msg, NFTA_META_DREG, reg);
    end(nft);
}

static void payload(struct nft *nft, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
    begin(nft, "payload");
    netlink_put_be32(&nft->msg, NFTA_PAYLOAD_DREG, reg);
    netlink_put_be32(&nft->msg, NFTA_PAYLOAD_BASE, base);
    netlink_put_be32(&nft->msg, NFTA_PAYLOAD_OFFSET, offset);
    netlink_put_be32(&nft->msg, NFTA_PAYLOAD_LEN, len);
    end(nft);
}

static void match_name(struct nft *nft, uint32_t key, const char *name, bool prefix, bool equal)
{
    char padded_name[NFT_NAME_LEN] = {0};

    snprintf(padded_name, sizeof(padded_name), "%s", name);
    meta(nft, key, REG);
    /* A prefix is a comparison of fewer bytes. */
    compare(nft, padded_name, prefix ? strlen(padded_name) : sizeof(padded_name), equal);
}

void nft_match_iifname(struct nft *nft, const char *name, bool prefix, bool equal)
{
    match_name(nft, NFT_META_IIFNAME, name, prefix, equal);
}

void nft_match_oifname(struct nft *nft, const char *name, bool prefix, bool equal)
{
    match_name(nft, NFT_META_OIFNAME, name, prefix, equal);
}

void nft_match_nfproto(struct nft *nft, uint8_t family)
{
    meta(nft, NFT_META_NFPROTO, REG);
    compare(nft, &family, sizeof(family), true);
}

void nft_match_ethertype(struct nft *nft, uint16_t type)
{
    uint16_t wire = htons(type);

    meta(nft, NFT_META_PROTOCOL, REG);
    compare(nft, &wire, sizeof(wire), true);
}

void nft_match_l4proto(struct nft *nft, uint8_t protocol)
{
    meta(nft, NFT_META_L4PROTO, REG);
    compare(nft, &protocol, sizeof(protocol), true);
}

static void match_ct(struct nft *nft, uint32_t key, uint32_t bits)
{
    uint32_t zero = 0;

    begin(nft, "ct");
    netlink_put_be32(&nft->msg, NFTA_CT_KEY, key);
    netlink_put_be32(&nft->msg, NFTA_CT_DREG, REG);
    end(nft);
    mask(nft, &bits, sizeof(bits));
    compare(nft, &zero, sizeof(zero), false);
}

void nft_match_ct_state(struct nft *nft, uint32_t bits)
{
    match_ct(nft, NFT_CT_STATE, bits);
}

void nft_match_ct_status(struct nft *nft, uint32_t bits)
{
    match_ct(nft, NFT_CT_STATUS, bits);
}

void nft_match_local_daddr(struct nft *nft)
{
    uint32_t local = 2; /* RTN_LOCAL, host byte order */

    begin(nft, "fib");
    netlink_put_be32(&nft->msg, NFTA_FIB_DREG, REG);
    netlink_put_be32(&nft->msg, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    netlink_put_be32(&nft->msg, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
    end(nft);
    compare(nft, &local, sizeof(local), true);
}

void nft_match_payload(struct nft *nft, uint32_t base, uint32_t offset, const void *data,
                       size_t len, bool equal)
{
    payload(nft, base, offset, (uint32_t)len, REG);
    compare(nft, data, len, equal);
}

void nft_match_prefix(struct nft *nft, uint32_t base, uint32_t offset, const uint8_t *prefix,
                      unsigned bits, size_t size)
{
    uint8_t bytes[16] = {0}, masks[16] = {0};

    for (unsigned bit = 0; bit < bits && bit < 8 * size; bit++)
        masks[bit / 8] = (uint8_t)(masks[bit / 8] | 0x80u >> (bit % 8));
    for (size_t i = 0; i < size; i++)
        bytes[i] = prefix[i] & masks[i];
    payload(nft, base, offset, (uint32_t)size, REG);
    if (bits < 8 * size)
        mask(nft, masks, size);
    compare(nft, bytes, size, true);
}

void nft_match_address(struct nft *nft, uint8_t af, bool source, const uint8_t *prefix,
                       unsigned bits)
{
    bool v4 = af == AF_INET;

    if (nft->family == NFPROTO_INET)
        nft_match_nfproto(nft, v4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
    else
        nft_match_ethertype(nft, v4 ? 0x0800 : 0x86dd);
    nft_match_prefix(nft, NFT_PAYLOAD_NETWORK_HEADER, v4 ? (source ? 12 : 16) : (source ? 8 : 24),
                     prefix, bits, v4 ? 4 : 16);
}

void nft_match_port(struct nft *nft, uint8_t protocol, bool source, uint16_t port)
{
    uint16_t wire = htons(port);

    nft_match_l4proto(nft, protocol);
    nft_match_payload(nft, NFT_PAYLOAD_TRANSPORT_HEADER, source ? 0 : 2, &wire, sizeof(wire), true);
}

void nft_match_icmp_type(struct nft *nft, uint8_t protocol, uint8_t type)
{
    nft_match_l4proto(nft, protocol);
    nft_match_payload(nft, NFT_PAYLOAD_TRANSPORT_HEADER, 0, &type, sizeof(type), true);
}

void nft_key_iifname(struct nft *nft, struct nft_key *key)
{
    meta(nft, NFT_META_IIFNAME, FIRST_REG32 + key->at);
    key->at += NFT_NAME_LEN / 4;
}

void nft_key_payload(struct nft *nft, struct nft_key *key, uint32_t base, uint32_t offset,
                     uint32_t len)
{
    payload(nft, base, offset, len, FIRST_REG32 + key->at);
    key->at += padded(len) / 4;
}

void nft_match_set(struct nft *nft, const char *set, uint32_t id, bool found)
{
    begin(nft, "lookup");
    netlink_put_str(&nft->msg, NFTA_LOOKUP_SET, set);
    netlink_put_be32(&nft->msg, NFTA_LOOKUP_SREG, FIRST_REG32);
    netlink_put_be32(&nft->msg, NFTA_LOOKUP_SET_ID, id);
    netlink_put_be32(&nft->msg, NFTA_LOOKUP_FLAGS, found ? 0 : NFT_LOOKUP_F_INV);
    end(nft);
}

uint32_t nft_set_counting(struct nft *nft, const char *name, enum nft_field field, uint32_t size)
{
    close_rule(nft);
    nft->set_id++;
    message(nft, NFT_MSG_NEWSET, NLM_F_CREATE);
    netlink_put_str(&nft->msg, NFTA_SET_TABLE, nft->table);
    netlink_put_str(&nft->msg, NFTA_SET_NAME, name);
    netlink_put_be32(&nft->msg, NFTA_SET_FLAGS, NFT_SET_EVAL);
    netlink_put_be32(&nft->msg, NFTA_SET_KEY_TYPE, (uint32_t)field);
    netlink_put_be32(&nft->msg, NFTA_SET_KEY_LEN, field_size(field));
    netlink_put_be32(&nft->msg, NFTA_SET_ID, nft->set_id);
    netlink_nest_begin(&nft->msg, NFTA_SET_DESC);
    netlink_put_be32(&nft->msg, NFTA_SET_DESC_SIZE, size);
    netlink_nest_end(&nft->msg);
    netlink_msg_end(&nft->msg);
    return nft->set_id;
}

void nft_match_connections_over(struct nft *nft, const char *set, uint32_t id, uint32_t offset,
                                enum nft_field field, uint32_t most)
{
    struct nft_key key = {0};

    nft_key_payload(nft, &key, NFT_PAYLOAD_NETWORK_HEADER, offset, field_size(field));
    begin(nft, "dynset");
    netlink_put_str(&nft->msg, NFTA_DYNSET_SET_NAME, set);
    netlink_put_be32(&nft->msg, NFTA_DYNSET_SET_ID, id);
    netlink_put_be32(&nft->msg, NFTA_DYNSET_OP, NFT_DYNSET_OP_ADD);
    netlink_put_be32(&nft->msg, NFTA_DYNSET_SREG_KEY, FIRST_REG32);
    netlink_nest_begin(&nft->msg, NFTA_DYNSET_EXPR);
    netlink_put_str(&nft->msg, NFTA_EXPR_NAME, "connlimit");
    netlink_nest_begin(&nft->msg, NFTA_EXPR_DATA);
    netlink_put_be32(&nft->msg, NFTA_CONNLIMIT_COUNT, most);
    netlink_put_be32(&nft->msg, NFTA_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
    netlink_nest_end(&nft->msg);
    netlink_nest_end(&nft->msg);
    end(nft);
}

void nft_match_any_bit(struct nft *nft, uint32_t base, uint32_t offset, const void *bits,
                       size_t len)
{
    const uint8_t none[16] = {0};

    payload(nft, base, offset, (uint32_t)len, REG);
    mask(nft, bits, len);
    compare(nft, none, len, false);
}

void nft_match_exthdr(struct nft *nft, uint8_t number)
{
    const uint8_t present = 1;

    begin(nft, "exthdr");
    netlink_put_be32(&nft->msg, NFTA_EXTHDR_DREG, REG);
    netlink_put_u8(&nft->msg, NFTA_EXTHDR_TYPE, number);
    netlink_put_be32(&nft->msg, NFTA_EXTHDR_OFFSET, 0);
    netlink_put_be32(&nft->msg, NFTA_EXTHDR_LEN, 1);
    netlink_put_be32(&nft->msg, NFTA_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
    netlink_put_be32(&nft->msg, NFTA_EXTHDR_OP, NFT_EXTHDR_OP_IPV6);
    end(nft);
    compare(nft, &present, 1, true);
}

void nft_match_rate_over(struct nft *nft, const char *set, uint32_t id, uint64_t rate,
                         uint32_t burst)
{
    struct nft_key key = {0};

    nft_key_iifname(nft, &key);
    begin(nft, "dynset");
    netlink_put_str(&nft->msg, NFTA_DYNSET_SET_NAME, set);
    netlink_put_be32(&nft->msg, NFTA_DYNSET_SET_ID, id);
    netlink_put_be32(&nft->msg, NFTA_DYNSET_OP, NFT_DYNSET_OP_ADD);
    netlink_put_be32(&nft->msg, NFTA_DYNSET_SREG_KEY, FIRST_REG32);
    netlink_nest_begin(&nft->msg, NFTA_DYNSET_EXPR);
    netlink_put_str(&nft->msg, NFTA_EXPR_NAME, "limit");
    netlink_nest_begin(&nft->msg, NFTA_EXPR_DATA);
    netlink_put_be64(&nft->msg, NFTA_LIMIT_RATE, rate);
    netlink_put_be64(&nft->msg, NFTA_LIMIT_UNIT, 1); /* of so many seconds */
    netlink_put_be32(&nft->msg, NFTA_LIMIT_BURST, burst);
    netlink_put_be32(&nft->msg, NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
    netlink_put_be32(&nft->msg, NFTA_LIMIT_FLAGS, NFT_LIMIT_F_INV);
    netlink_nest_end(&nft->msg);
    netlink_nest_end(&nft->msg);
    end(nft);
}

void nft_verdict(struct nft *nft, int code, const char *chain)
{
    begin(nft, "immediate");
    netlink_put_be32(&nft->msg, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    netlink_nest_begin(&nft->msg, NFTA_IMMEDIATE_DATA);
    netlink_nest_begin(&nft->msg, NFTA_DATA_VERDICT);
    netlink_put_be32(&nft->msg, NFTA_VERDICT_CODE, (uint32_t)code);
    if (chain != NULL)
        netlink_put_str(&nft->msg, NFTA_VERDICT_CHAIN, chain);
    netlink_nest_end(&nft->msg);
    netlink_nest_end(&nft->msg);
    end(nft);
}

void nft_reject(struct nft *nft)
{
    begin(nft, "reject");
    netlink_put_be32(&nft->msg, NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
    netlink_put_u8(&nft->msg, NFTA_REJECT_ICMP_CODE, NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
    end(nft);
}

void nft_masquerade(struct nft *nft)
{
    begin(nft, "masq");
    end(nft);
}

static void immediate(struct nft *nft, uint32_t reg, const void *data, size_t len)
{
    begin(nft, "immediate");
    netlink_put_be32(&nft->msg, NFTA_IMMEDIATE_DREG, reg);
    value(nft, NFTA_IMMEDIATE_DATA, data, len);
    end(nft);
}

void nft_redirect(struct nft *nft, uint16_t port)
{
    uint16_t wire = htons(port);

    immediate(nft, NFT_REG_1, &wire, sizeof(wire));
    begin(nft, "redir");
    netlink_put_be32(&nft->msg, NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
    end(nft);
}

void nft_dnat(struct nft *nft, uint8_t af, const uint8_t *address, uint16_t port)
{
    uint16_t wire = htons(port);

    immediate(nft, NFT_REG_1, address, af == AF_INET ? 4 : 16);
    immediate(nft, NFT_REG_2, &wire, sizeof(wire));
    begin(nft, "nat");
    netlink_put_be32(&nft->msg, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    netlink_put_be32(&nft->msg, NFTA_NAT_FAMILY, af == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
    netlink_put_be32(&nft->msg, NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
    netlink_put_be32(&nft->msg, NFTA_NAT_REG_PROTO_MIN, NFT_REG_2);
    end(nft);
}
