/*
 * address.c - see address.h.
 */
#include "address.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

int address_split(const char *text, char ret_host[ADDRESS_HOST_MAX], const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;

    if (colon == NULL || colon[1] == '\0' || len >= ADDRESS_HOST_MAX)
        return -EINVAL;
    if (len > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        len -= 2;
    }
    memcpy(ret_host, text, len);
    ret_host[len] = '\0';
    *ret_port = colon + 1;
    return 0;
}

int address_parse(const char *text, bool to_listen, struct sockaddr_storage *ret,
                  socklen_t *ret_len)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    char host[ADDRESS_HOST_MAX];
    const char *port;
    int r = address_split(text, host, &port);

    if (r < 0)
        return r;
    if ((host[0] == '\0' && !to_listen) ||
        getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) != 0)
        return -EINVAL;
    memcpy(ret, found->ai_addr, found->ai_addrlen);
    *ret_len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}
