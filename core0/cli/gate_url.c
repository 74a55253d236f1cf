/*
 * gate_url.c - the URLs of a gate's calls.
 *
 * Registered hosts come from whoever registered them: nothing but an address or a name gets into a URL.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/gate.h"
#include "lib/grid/access.h"

static int format_url(const char *host, size_t len, unsigned port, char ret_url[GATE_URL_MAX])
{
    bool six = memchr(host, ':', len) != NULL;

    if (len == 0 || len > 253) {
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        bool fits = six ? isxdigit((unsigned char)host[i]) || host[i] == ':' || host[i] == '.'
                        : isalnum((unsigned char)host[i]) || strchr("-._", host[i]) != NULL;
        if (host[i] == '\0' || !fits) {
            return -EINVAL;
        }
    }
    snprintf(ret_url, GATE_URL_MAX, six ? "https://[%.*s]:%u" : "https://%.*s:%u", (int)len, host,
             port);
    return 0;
}

int gate_url_of_host(const char *host, char ret_url[GATE_URL_MAX])
{
    return format_url(host, strlen(host), GRID_GATE_PORT, ret_url);
}

int gate_url_of_option(const char *text, char ret_url[GATE_URL_MAX])
{
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    char *end;

    if (colon == NULL || !isdigit((unsigned char)colon[1])) {
        return -EINVAL;
    }
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || port == 0 || port > 65535) {
        return -EINVAL;
    }
    if (text[0] == '[') {
        if (len < 2 || text[len - 1] != ']' || memchr(text, ':', len) == NULL) {
            return -EINVAL;
        }
        return format_url(text + 1, len - 2, (unsigned)port, ret_url);
    }
    return memchr(text, ':', len) != NULL ? -EINVAL
                                          : format_url(text, len, (unsigned)port, ret_url);
}

int gate_query(struct buffer *path, const char *name, const char *value)
{
    bool first = path->len == 0 || strchr((const char *)path->data, '?') == NULL;
    int ret = buffer_printf(path, "%c%s=", first ? '?' : '&', name);

    for (; ret >= 0 && *value != '\0'; value++) {
        bool plain = isalnum((unsigned char)*value) || strchr("-._~", *value) != NULL;
        ret = plain ? buffer_append(path, value, 1)
                    : buffer_printf(path, "%%%02X", (unsigned char)*value);
    }
    return ret < 0 ? ret : 0;
}

int gate_query_uint(struct buffer *path, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    return gate_query(path, name, text);
}
