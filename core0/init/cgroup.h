/*
 * cgroup.h - one control group (version 2) per service: /system/<name> below the mount.
 *
 * Without a cgroup file system (core0 in a name space of a machine that has none) everything here answers
 * -ENODEV and the supervisor falls back to process groups.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "init/service.h"

/* Makes /system and /croft and hands the controllers down. */
int cgroup_prepare(const struct core *core);
/* Makes the service's group, writes its limits, and returns a descriptor of its folder for clone3, or -errno. */
int cgroup_open(struct service *service, uid_t owner, gid_t group);
int cgroup_kill(const struct service *service);
/* Signals every process of the group. */
int cgroup_signal(const struct service *service, int signo);
/* 1: processes are in it, 0: none. *ret_fd: cgroup.events, for EPOLLPRI (the caller closes it); may be NULL. */
int cgroup_populated(const struct service *service, int *ret_fd);
/* Processes that the kernel killed for want of memory since the group was made. */
uint64_t cgroup_oom_kills(const struct service *service);
/* bytes; 0: not known. */
uint64_t cgroup_memory(const struct service *service);
void cgroup_remove(const struct service *service);
/* The service's name in "0::/system/<name>[/…]" of /proc/<pid>/cgroup. */
bool cgroup_name_of_pid(const struct core *core, int pid, char *name, size_t size);
/* All processes of a whole tree below the mount, "/croft": signalled. Number of processes, or -errno. */
int cgroup_signal_tree(const struct core *core, const char *path, int signo);
int cgroup_kill_tree(const struct core *core, const char *path);
