/*
 * url.c - the parts of a URL.
 */
#include "lib/http/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

/* The host with its port begins at the result and has *ret_len bytes; NULL: no absolute URL. */
static const char *authority(const char *url, size_t *ret_len)
{
    const char *at = url;
    while (isalnum((unsigned char)*at) || *at == '+' || *at == '-' || *at == '.')
        at++;
    if (at == url || strncmp(at, "://", 3) != 0)
        return NULL;
    at += 3;
    size_t len = strcspn(at, "/?#\\");
    for (size_t i = len; i > 0; i--) {
        if (at[i - 1] == '@') {
            at += i;
            len -= i;
            break;
        }
    }
    if (len == 0)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (!isgraph((unsigned char)at[i]))
            return NULL;
    }
    *ret_len = len;
    return at;
}

int url_origin(const char *url, char ret_origin[URL_ORIGIN_MAX])
{
    size_t len;
    const char *host = authority(url, &len);
    if (host == NULL)
        return -EINVAL;
    size_t scheme = (size_t)(strstr(url, "://") - url) + 3;
    if (scheme + len >= URL_ORIGIN_MAX)
        return -EINVAL;
    memcpy(ret_origin, url, scheme);
    memcpy(ret_origin + scheme, host, len);
    ret_origin[scheme + len] = '\0';
    return 0;
}

bool url_is_loopback(const char *url)
{
    size_t len;
    const char *host = authority(url, &len);
    char name[64];
    struct in_addr address;
    if (host == NULL)
        return false;
    if (len >= 5 && strncmp(host, "[::1]", 5) == 0)
        return len == 5 || host[5] == ':';
    size_t name_len = strcspn(host, ":/?#");
    if (name_len > len)
        name_len = len;
    if (name_len >= sizeof(name))
        return false;
    memcpy(name, host, name_len);
    name[name_len] = '\0';
    if (strcasecmp(name, "localhost") == 0)
        return true;
    return inet_pton(AF_INET, name, &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}
