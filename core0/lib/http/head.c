/*
 * head.c - the head of a request: picohttpparser splits it, the rules that keep two servers from reading one stream
 * differently (request smuggling, RFC 9112 section 11.2) are here.
 */
#include <errno.h>
#include <picohttpparser.h>
#include <string.h>
#include <strings.h>

#include "lib/http/server.h"

static int is_name(const struct phr_header *header, const char *name)
{
    return header->name != NULL && header->name_len == strlen(name) &&
           strncasecmp(header->name, name, header->name_len) == 0;
}

static int parse_length(const struct phr_header *header, uint64_t *ret_length)
{
    uint64_t length = 0;
    if (header->value_len == 0 || header->value_len > 15)
        return -400;
    for (size_t i = 0; i < header->value_len; i++) {
        if (header->value[i] < '0' || header->value[i] > '9')
            return -400;
        length = length * 10 + (uint64_t)(header->value[i] - '0');
    }
    *ret_length = length;
    return 0;
}

int http_head_parse(const char *data, size_t len, struct http_head *ret_head)
{
    struct phr_header headers[HTTP_HEADERS_MAX];
    struct http_head head = {.keep_alive = 1};
    size_t count = HTTP_HEADERS_MAX;
    int lengths = 0, hosts = 0;
    int size = phr_parse_request(data, len, &head.method, &head.method_len, &head.path,
                                 &head.path_len, &head.minor, headers, &count, 0);
    if (size == -2)
        return 0;
    if (size < 0)
        return -400;
    if (head.method_len == 0 || head.path_len == 0 || head.path[0] != '/')
        return -400;
    if (head.minor == 0)
        head.keep_alive = 0;
    for (size_t i = 0; i < count; i++) {
        const struct phr_header *header = &headers[i];
        if (header->name == NULL)
            return -400; /* a folded line */
        head.headers[i] = (struct http_header){.name = header->name,
                                               .name_len = header->name_len,
                                               .value = header->value,
                                               .value_len = header->value_len};
        if (is_name(header, "transfer-encoding"))
            return -411;
        if (is_name(header, "content-length")) {
            if (lengths++ > 0)
                return -400;
            int r = parse_length(header, &head.content_length);
            if (r < 0)
                return r;
        }
        if (is_name(header, "host") && hosts++ > 0)
            return -400;
        if (is_name(header, "connection") && header->value_len == 5 &&
            strncasecmp(header->value, "close", 5) == 0)
            head.keep_alive = 0;
        if (is_name(header, "upgrade"))
            head.upgrade = 1;
    }
    if (head.minor == 1 && hosts == 0)
        return -400; /* RFC 9112 section 3.2 */
    head.header_count = count;
    head.size = (size_t)size;
    *ret_head = head;
    return 1;
}
