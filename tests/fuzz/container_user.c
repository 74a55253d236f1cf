// An image's /etc/passwd and /etc/group: first line the user asked for, then both files, parted by a NUL byte.
// sources: core0/container/user.c
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "container/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = memchr(data, '\n', size);
    size_t len = line != NULL ? (size_t)(line - data) : 0;
    struct container_user user;
    struct error err = {0};
    char text[128];

    if (line == NULL || len >= sizeof(text))
        return 0;
    memcpy(text, data, len);
    text[len] = '\0';
    const uint8_t *passwd = line + 1, *end = data + size;
    const uint8_t *part = memchr(passwd, '\0', (size_t)(end - passwd));
    const uint8_t *group = part != NULL ? part + 1 : end;
    if (user_find(text, (const char *)passwd, (size_t)((part != NULL ? part : end) - passwd),
                  (const char *)group, (size_t)(end - group), 65536, &user, &err) == 0) {
        if (user.uid >= 65536 || user.gid >= 65536 || user.group_count > USER_GROUPS_MAX ||
            memchr(user.home, '\0', sizeof(user.home)) == NULL)
            abort();
    } else if (!error_is_set(&err)) {
        abort();
    }
    return 0;
}
