/*
 * key.c - the keys by which provd knows volumes and namespaces (docs/contracts.md): never a path that climbs.
 */
#include <string.h>

#include "storage.h"

/* Names of tenants, projects, volumes and services: what compose allows, and no folder of that name climbs. */
static bool is_key_part(const char *part, size_t len)
{
    if (len == 0 || len > 64 || part[0] == '.' || part[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", part[i]) ==
            NULL)
            return false;
    return true;
}

bool volume_key_is_valid(const char *key)
{
    const char *at = key;
    size_t parts = 0;
    bool good = strlen(key) < sizeof(((struct volume *)NULL)->key);
    for (; good; at++) {
        size_t len = strcspn(at, "/");
        good = is_key_part(at, len);
        parts++;
        at += len;
        if (*at == '\0')
            break;
    }
    return good && parts == 4;
}
