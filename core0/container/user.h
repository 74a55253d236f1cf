/*
 * user.h - the user of a container: "name", "uid", "name:group", "uid:gid", found in the image's own files.
 *
 * /etc/passwd and /etc/group are the tenant's: they are read inside the root file system only (openat2 with
 * RESOLVE_IN_ROOT), with limits, by pure functions.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define USER_GROUPS_MAX 64

struct container_user {
    uint32_t uid, gid;                /* as inside the container */
    uint32_t groups[USER_GROUPS_MAX]; /* supplementary, gid among them */
    size_t group_count;
    char home[256];
};

/* As Docker does (moby/sys/user GetExecUser): an empty text is root; a number needs no entry; a name does. Ids must be below id_count.
 * passwd and group may be NULL (no such file). container.bad-user. */
int user_find(const char *text, const char *passwd, size_t passwd_len, const char *group,
              size_t group_len, uint32_t id_count, struct container_user *ret_user,
              struct error *err);
/* The same with the files of a root file system. */
int user_resolve(const char *rootfs, const char *text, uint32_t id_count,
                 struct container_user *ret_user, struct error *err);
