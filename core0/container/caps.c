/*
 * caps.c - see caps.h.
 */
#include "container/caps.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <strings.h>

/* linux/capability.h: the number is the place in the table. */
static const char *const names[CAPS_COUNT] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

static const char *const defaults[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
    "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_KILL",    "CAP_AUDIT_WRITE",
};

const char *caps_name(unsigned number)
{
    return number < CAPS_COUNT ? names[number] : NULL;
}

int caps_number(const char *name)
{
    for (int i = 0; i < CAPS_COUNT; i++) {
        if (strcasecmp(name, names[i]) == 0 || strcasecmp(name, names[i] + 4) == 0)
            return i;
    }
    return -1;
}

uint64_t caps_default(void)
{
    uint64_t set = 0;

    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
        set |= UINT64_C(1) << caps_number(defaults[i]);
    return set;
}

static int caps_read(const char *const *list, const char *what, uint64_t *ret_set, bool *ret_all,
                     struct error *err)
{
    *ret_set = 0;
    *ret_all = false;
    for (; list != NULL && *list != NULL; list++) {
        int number = caps_number(*list);

        if (strcasecmp(*list, "ALL") == 0)
            *ret_all = true;
        else if (number < 0)
            return error_set(err, EINVAL, "container.bad-spec", "see capabilities(7) for the names",
                             "%s: there is no capability \"%.64s\"", what, *list);
        else
            *ret_set |= UINT64_C(1) << number;
    }
    return 0;
}

int caps_compute(const char *const *add, const char *const *drop, uint64_t *ret_set,
                 struct error *err)
{
    uint64_t added = 0, dropped = 0;
    bool add_all = false, drop_all = false;
    int ret = caps_read(add, "capAdd", &added, &add_all, err);

    if (ret == 0)
        ret = caps_read(drop, "capDrop", &dropped, &drop_all, err);
    if (ret < 0)
        return ret;
    if (add_all)
        *ret_set = ((UINT64_C(1) << CAPS_COUNT) - 1) & ~dropped;
    else if (drop_all)
        *ret_set = added;
    else
        *ret_set = (caps_default() & ~dropped) | added;
    return 0;
}
