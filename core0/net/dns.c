/*
 * dns.c - see dns.h.
 */
#include "dns.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define CLASS_IN 1
#define FLAG_RESPONSE 0x80 /* third byte */
#define MASK_OPCODE 0x78
#define FLAG_AUTHORITATIVE 0x04
#define FLAG_RECURSION_WANTED 0x01
#define FLAG_RECURSION 0x80 /* fourth byte */
#define TTL 5

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static char letter(uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z')
        return (char)(byte + 32);
    if (byte <= 32 || byte >= 127 || byte == '.')
        return '?';
    return (char)byte;
}

/* A name without compression, which a question has no use for. Returns the offset behind it or -EBADMSG. */
static int read_name(const uint8_t *data, size_t len, size_t at, char *name)
{
    size_t out = 0;

    for (;;) {
        size_t label;

        if (at >= len)
            return -EBADMSG;
        label = data[at++];
        if (label == 0)
            break;
        if (label > 63 || label > len - at || out + label + 1 > DNS_NAME_MAX)
            return -EBADMSG;
        if (out > 0)
            name[out++] = '.';
        for (size_t i = 0; i < label; i++)
            name[out++] = letter(data[at + i]);
        at += label;
    }
    name[out] = '\0';
    return (int)at;
}

int dns_read_question(const uint8_t *data, size_t len, struct dns_question *ret_question)
{
    struct dns_question question;
    int at;

    if (len < DNS_HEADER || len > UINT16_MAX || (data[2] & (FLAG_RESPONSE | MASK_OPCODE)) != 0 ||
        get16(data + 4) != 1)
        return -EBADMSG;
    at = read_name(data, len, DNS_HEADER, question.name);
    if (at < 0 || len - (size_t)at < 4 || get16(data + at + 2) != CLASS_IN)
        return -EBADMSG;
    question.type = get16(data + at);
    question.end = (size_t)at + 4;
    *ret_question = question;
    return 0;
}

size_t dns_write_answer(const uint8_t *query, const struct dns_question *question, uint8_t rcode,
                        const struct address *addresses, size_t count, uint8_t *out, size_t max)
{
    uint8_t family = question->type == DNS_TYPE_A      ? AF_INET
                     : question->type == DNS_TYPE_AAAA ? AF_INET6
                                                       : 0;
    size_t at = question->end;
    uint16_t answers = 0;

    if (at > max)
        return 0;
    memcpy(out, query, at);
    out[2] = (uint8_t)(FLAG_RESPONSE | FLAG_AUTHORITATIVE | (query[2] & FLAG_RECURSION_WANTED));
    out[3] = (uint8_t)(FLAG_RECURSION | rcode);
    for (size_t i = 0; i < count; i++) {
        size_t size = address_size(&addresses[i]);

        if (addresses[i].family != family)
            continue;
        if (at + 12 + size > max)
            break;
        put16(out + at, 0xc000 | DNS_HEADER); /* the question's name */
        put16(out + at + 2, question->type);
        put16(out + at + 4, CLASS_IN);
        put16(out + at + 6, 0);
        put16(out + at + 8, TTL);
        put16(out + at + 10, (uint16_t)size);
        memcpy(out + at + 12, addresses[i].bytes, size);
        at += 12 + size;
        answers++;
    }
    put16(out + 4, 1);
    put16(out + 6, answers);
    put16(out + 8, 0);
    put16(out + 10, 0);
    return at;
}

bool dns_is_answer(const uint8_t *answer, size_t len, const uint8_t *query, size_t query_end)
{
    if (len < query_end || query_end < DNS_HEADER || memcmp(answer, query, 2) != 0 ||
        (answer[2] & FLAG_RESPONSE) == 0 || get16(answer + 4) != 1)
        return false;
    for (size_t i = DNS_HEADER; i < query_end; i++) {
        uint8_t a = answer[i], b = query[i];

        /* Lengths of labels are below the letters and type and class are not letters in any case that matters: a
         * server may answer in its own spelling. */
        if (a != b && !((a ^ b) == 0x20 && ((a | 0x20) >= 'a' && (a | 0x20) <= 'z')))
            return false;
    }
    return true;
}
