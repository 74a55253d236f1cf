/*
 * nft.h - nf_tables: a whole rule set as one transaction, rule by rule, expression by expression.
 *
 *   struct nft nft;
 *   nft_begin(&nft);
 *   nft_table_replace(&nft, NFPROTO_INET, "croft");
 *   nft_chain_base(&nft, "forward", "filter", NF_INET_FORWARD, 0, NF_DROP);
 *   nft_rule(&nft, "forward");
 *   nft_match_ct_state(&nft, NFT_STATE_ESTABLISHED | NFT_STATE_RELATED);
 *   nft_verdict(&nft, NF_ACCEPT, NULL);
 *   r = nft_commit(&nft, netlink, err);
 *
 * The kernel takes all of it or nothing; packets see the old rules or the new ones. Expressions belong to the last
 * nft_rule(). Sources: include/uapi/linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c.
 */
#pragma once

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/netlink/netlink.h"

/* From linux/netfilter.h, which cannot be included beside netinet/in.h. */
enum { NF_DROP = 0, NF_ACCEPT = 1 };
enum { NFPROTO_INET = 1, NFPROTO_IPV4 = 2, NFPROTO_BRIDGE = 7, NFPROTO_IPV6 = 10 };
/* The bridge family numbers its hooks alike. */
enum {
    NF_INET_PRE_ROUTING = 0,
    NF_INET_LOCAL_IN,
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING
};
/* enum nf_ip_hook_priorities */
#define NFT_PRIORITY_DSTNAT (-100)
#define NFT_PRIORITY_FILTER 0
#define NFT_PRIORITY_SRCNAT 100

/* Bits of NFT_CT_STATE: NF_CT_STATE_BIT() of enum ip_conntrack_info. */
#define NFT_STATE_INVALID (1u << 0)
#define NFT_STATE_ESTABLISHED (1u << 1)
#define NFT_STATE_RELATED (1u << 2)
#define NFT_STATE_NEW (1u << 3)

/* Types of set fields as nft(8) numbers them, so that `nft list ruleset` reads well. */
enum nft_field { NFT_FIELD_IPV4 = 7, NFT_FIELD_IPV6 = 8, NFT_FIELD_MAC = 9, NFT_FIELD_NAME = 41 };
#define NFT_FIELDS_MAX 3
#define NFT_NAME_LEN 16 /* of an interface in a register */
#define NFT_KEY_MAX 64  /* bytes of a set's key, each field padded to 4 */

struct nft {
    struct netlink_msg msg;
    uint8_t family;
    const char *table;
    bool in_rule, closed;
    uint32_t set_id;
};

void nft_begin(struct nft *nft);
void nft_done(struct nft *nft); /* frees without sending */
/* Closes the batch, so that its bytes can be compared; 0 or negative errno. Nothing may be added afterwards. */
int nft_status(struct nft *nft);
/* Sends and frees. */
int nft_commit(struct nft *nft, struct netlink *netlink, struct error *err);

/* What follows belongs to this table, which starts empty; whatever it held is gone with the commit. */
void nft_table_replace(struct nft *nft, uint8_t family, const char *name);
void nft_table_delete(struct nft *nft, uint8_t family, const char *name); /* absent: fine */
void nft_chain(struct nft *nft, const char *name);
void nft_chain_base(struct nft *nft, const char *name, const char *type, uint32_t hook,
                    int32_t priority, uint32_t policy);

/* Sets whose key is one or more fields. The returned number names it for nft_element and nft_match_set. */
uint32_t nft_set(struct nft *nft, const char *name, const enum nft_field *fields, size_t count);
/* values[i] has the size of field i; a name is padded. */
void nft_element(struct nft *nft, const char *set, uint32_t id, const enum nft_field *fields,
                 const void *const *values, size_t count);

void nft_rule(struct nft *nft, const char *chain);
/* Conditions; `equal` false: must differ. */
void nft_match_iifname(struct nft *nft, const char *name, bool prefix, bool equal);
void nft_match_oifname(struct nft *nft, const char *name, bool prefix, bool equal);
void nft_match_nfproto(struct nft *nft, uint8_t family);
void nft_match_ethertype(struct nft *nft, uint16_t type); /* bridge family */
void nft_match_l4proto(struct nft *nft, uint8_t protocol);
void nft_match_ct_state(struct nft *nft, uint32_t bits); /* any of them */
void nft_match_ct_status(struct nft *nft, uint32_t bits);
void nft_match_local_daddr(struct nft *nft); /* fib daddr type local */
/* Bytes of the packet: base NFT_PAYLOAD_…, compared with data. */
void nft_match_payload(struct nft *nft, uint32_t base, uint32_t offset, const void *data,
                       size_t len, bool equal);
/* The first `bits` bits at the offset equal those of `prefix`. */
void nft_match_prefix(struct nft *nft, uint32_t base, uint32_t offset, const uint8_t *prefix,
                      unsigned bits, size_t size);
/* Source or destination address of the packet inside a prefix; adds the family's condition. */
void nft_match_address(struct nft *nft, uint8_t af, bool source, const uint8_t *prefix,
                       unsigned bits);
void nft_match_port(struct nft *nft, uint8_t protocol, bool source, uint16_t port);
void nft_match_icmp_type(struct nft *nft, uint8_t protocol, uint8_t type);

/* A set that the packets fill: each element counts the connections, or the packets, of its key. */
uint32_t nft_set_counting(struct nft *nft, const char *name, enum nft_field field, uint32_t size);
/* Ends the conditions: true when the key, which is at the packet's offset in the network header, has more than `most`
 * connections with this one (nf_conncount). */
void nft_match_connections_over(struct nft *nft, const char *set, uint32_t id, uint32_t offset,
                                enum nft_field field, uint32_t most);

/* The bits of the mask at the offset are not all zero. */
void nft_match_any_bit(struct nft *nft, uint32_t base, uint32_t offset, const void *bits,
                       size_t len);
/* The packet has an IPv6 extension header of this number, anywhere in the chain of them. */
void nft_match_exthdr(struct nft *nft, uint8_t number);
/* Ends the conditions: true for what comes from an interface beyond `rate` packets a second, of which `burst` may come at
 * once. The set is one of nft_set_counting() by NFT_FIELD_NAME. */
void nft_match_rate_over(struct nft *nft, const char *set, uint32_t id, uint64_t rate,
                         uint32_t burst);

/* Keys for a set, in the order of its fields; then the lookup. */
struct nft_key {
    unsigned at; /* 4-byte registers used */
};
void nft_key_iifname(struct nft *nft, struct nft_key *key);
void nft_key_payload(struct nft *nft, struct nft_key *key, uint32_t base, uint32_t offset,
                     uint32_t len);
void nft_match_set(struct nft *nft, const char *set, uint32_t id, bool found);

/* Ends of a rule. */
void nft_verdict(struct nft *nft, int code,
                 const char *chain); /* NF_ACCEPT, NF_DROP, NFT_JUMP, NFT_RETURN */
void nft_reject(struct nft *nft);    /* administratively prohibited */
void nft_masquerade(struct nft *nft);
void nft_redirect(struct nft *nft, uint16_t port); /* to a program of this machine */
void nft_dnat(struct nft *nft, uint8_t af, const uint8_t *address, uint16_t port);
