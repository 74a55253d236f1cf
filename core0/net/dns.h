/*
 * dns.h - DNS messages (RFC 1035): reading a question, writing a short answer. Functions over buffers, fuzzed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

#define DNS_HEADER 12
#define DNS_NAME_MAX 255 /* as text, with a dot between labels, without the last one */
#define DNS_UDP_MAX 4096 /* what is relayed over UDP; larger answers come over TCP */
#define DNS_TYPE_A 1
#define DNS_TYPE_NS 2
#define DNS_TYPE_SOA 6
#define DNS_TYPE_PTR 12
#define DNS_TYPE_AAAA 28
#define DNS_TYPE_DS 43
#define DNS_TYPE_DNSKEY 48
#define DNS_RCODE_OK 0
#define DNS_RCODE_FORMAT 1
#define DNS_RCODE_FAILURE 2
#define DNS_RCODE_NO_NAME 3
#define DNS_RCODE_REFUSED 5

struct dns_question {
    char name[DNS_NAME_MAX +
              1]; /* lower case; bytes that are no printable ASCII are written as '?' */
    uint16_t type;
    size_t end; /* offset behind the question */
};

/* A standard query with exactly one question of class IN. -EBADMSG: anything else. */
int dns_read_question(const uint8_t *data, size_t len, struct dns_question *ret_question);

/* Writes an answer to the query: its header and question, and an address record for each address of the asked type.
 * Returns its length; 0: does not fit. TTL: 5 seconds, since containers come and go. */
size_t dns_write_answer(const uint8_t *query, const struct dns_question *question, uint8_t rcode,
                        const struct address *addresses, size_t count, uint8_t *out, size_t max);

/* Does this answer belong to the query: same id, a response, the same question byte for byte (letters' case apart). */
bool dns_is_answer(const uint8_t *answer, size_t len, const uint8_t *query, size_t query_end);
