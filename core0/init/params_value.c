/*
 * params_value.c - see params_value.h.
 */
#include "init/params_value.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PARAMS_NUMBER_MAX ((uint64_t)9007199254740991) /* 2^53 - 1 */
#define PARAMS_HOST_MAX 253u                           /* RFC 1035 2.3.4, as text */
#define PARAMS_VALUE_MAX 512u

static bool params_is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool params_is_hex(char byte)
{
    return params_is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

static bool params_is_alnum(char byte)
{
    return params_is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

bool params_is_number(const char *text, uint64_t *ret_number)
{
    uint64_t number = 0;

    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (!params_is_digit(*text))
            return false;
        number = number * 10 + (uint64_t)(*text - '0');
        if (number > PARAMS_NUMBER_MAX)
            return false;
    }
    if (number == 0)
        return false;
    *ret_number = number;
    return true;
}

bool params_is_ip(const char *text)
{
    struct in6_addr addr;

    return inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;
}

/* RFC 1123 2.1: labels of letters, digits and hyphens. */
static bool params_is_host_name(const char *text, size_t len)
{
    size_t label = 0;

    if (len == 0 || len > PARAMS_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool edge = i == 0 || text[i - 1] == '.' || i + 1 == len || text[i + 1] == '.';

        if (text[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if (!params_is_alnum(text[i]) && (text[i] != '-' || edge) && text[i] != '_')
            return false;
        if (++label > 63)
            return false;
    }
    return true;
}

bool params_is_host(const char *text)
{
    return params_is_ip(text) || params_is_host_name(text, strlen(text));
}

static bool params_is_port(const char *text, size_t len)
{
    char copy[8];
    uint64_t port;

    if (len == 0 || len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return params_is_number(copy, &port) && port <= 65535;
}

/* host, host:port, [v6], [v6]:port */
static bool params_is_authority(const char *text, size_t len)
{
    char host[64];
    const char *colon;

    if (len > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', len);
        size_t inside;
        size_t rest;

        if (close == NULL)
            return false;
        inside = (size_t)(close - text) - 1;
        if (inside >= sizeof(host))
            return false;
        memcpy(host, text + 1, inside);
        host[inside] = '\0';
        rest = len - inside - 2;
        return params_is_ip(host) &&
               (rest == 0 || (close[1] == ':' && params_is_port(close + 2, rest - 1)));
    }
    colon = memchr(text, ':', len);
    if (colon == NULL)
        return params_is_host_name(text, len);
    return params_is_host_name(text, (size_t)(colon - text)) &&
           params_is_port(colon + 1, len - (size_t)(colon - text) - 1);
}

bool params_is_url(const char *text, const char *schemes)
{
    const char *separator = strstr(text, "://");
    const char *scheme = separator != NULL ? schemes : "";
    const char *authority;

    if (strlen(text) > PARAMS_VALUE_MAX)
        return false;
    for (const char *byte = text; *byte != '\0'; byte++) {
        if (*byte <= ' ' || *byte == 0x7f || *byte == '"' || *byte == '\\')
            return false;
    }
    while (*scheme != '\0') {
        size_t len = strcspn(scheme, " ");

        if (len == (size_t)(separator - text) && memcmp(scheme, text, len) == 0) {
            authority = separator + 3;
            return params_is_authority(authority, strcspn(authority, "/?#"));
        }
        scheme += len;
        scheme += strspn(scheme, " ");
    }
    return false;
}

bool params_is_plain_url(const char *text)
{
    return strncmp(text, "http:", 5) == 0 || strncmp(text, "ws:", 3) == 0;
}

bool params_is_interface(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len >= IF_NAMESIZE || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!params_is_alnum(text[i]) && strchr("_.-@", text[i]) == NULL)
            return false;
    }
    return true;
}

bool params_is_eth_address(const char *text)
{
    if (strlen(text) != 42 || text[0] != '0' || text[1] != 'x')
        return false;
    for (size_t i = 2; i < 42; i++) {
        if (!params_is_hex(text[i]))
            return false;
    }
    return true;
}

/* Cuts `text` in place at every separator. Returns the number of parts, 0 if there are more than max. */
static size_t params_split(char *text, char separator, char **parts, size_t max)
{
    size_t count = 0;

    for (;;) {
        char *end = strchr(text, separator);

        if (count == max)
            return 0;
        parts[count++] = text;
        if (end == NULL)
            return count;
        *end = '\0';
        text = end + 1;
    }
}

static bool params_is_prefix(char *text)
{
    char *slash = strchr(text, '/');
    struct in6_addr addr;
    uint64_t len;

    if (slash == NULL)
        return false;
    *slash = '\0';
    if (!params_is_number(slash + 1, &len))
        return false;
    if (inet_pton(AF_INET, text, &addr) == 1)
        return len <= 32;
    return inet_pton(AF_INET6, text, &addr) == 1 && len <= 128;
}

bool params_is_net(const char *text)
{
    char copy[PARAMS_VALUE_MAX];
    char *parts[8];
    size_t count;

    if (strcmp(text, "dhcp") == 0)
        return true;
    if (strlen(text) >= sizeof(copy))
        return false;
    memcpy(copy, text, strlen(text) + 1);
    count = params_split(copy, ',', parts, 8);
    if (count < 3 || !params_is_interface(parts[0]) || !params_is_prefix(parts[1]))
        return false;
    for (size_t i = 2; i < count; i++) {
        if (!params_is_ip(parts[i]))
            return false;
    }
    return true;
}

bool params_is_vlan(const char *text)
{
    const char *dot = strrchr(text, '.');
    char name[IF_NAMESIZE];
    uint64_t id;

    if (dot == NULL || (size_t)(dot - text) >= sizeof(name))
        return false;
    memcpy(name, text, (size_t)(dot - text));
    name[dot - text] = '\0';
    return params_is_interface(name) && params_is_number(dot + 1, &id) && id >= 1 && id <= 4094;
}

bool params_is_bond(const char *text)
{
    static const char *const modes[] = {"balance-rr", "active-backup", "balance-xor", "broadcast",
                                        "802.3ad",    "balance-tlb",   "balance-alb"};
    char copy[PARAMS_VALUE_MAX];
    char *parts[3];
    char *links[8];
    size_t count;
    bool known = false;

    if (strlen(text) >= sizeof(copy))
        return false;
    memcpy(copy, text, strlen(text) + 1);
    if (params_split(copy, ',', parts, 3) != 3 || !params_is_interface(parts[0]))
        return false;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        known = known || strcmp(modes[i], parts[1]) == 0;
    count = params_split(parts[2], '+', links, 8);
    for (size_t i = 0; i < count; i++) {
        if (!params_is_interface(links[i]))
            return false;
    }
    return known && count > 0;
}
