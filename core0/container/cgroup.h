/*
 * cgroup.h - the cgroups of containers, /croft/<reservation>/<instance> (cgroup v2).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Makes the folder (parents too) and hands the controllers on to what is made inside it. A controller that the kernel
 * does not have is passed over. 0 or -errno. */
int cgroup_make(const char *path);
/* Kills everything inside, waits (blocking, by the kernel's notice) until it is empty, removes it and what is below. 0 also when
 * it was never there; -ETIMEDOUT, -errno. */
int cgroup_destroy(const char *path, int timeout_ms);
/* Kills everything inside at once; 0, -ENOENT when it is not there. */
int cgroup_kill(const char *path);
/* Number of processes killed for want of memory; 0 when it cannot be told. */
uint64_t cgroup_oom_kills(const char *path);
/* How often a process was refused for the limit of processes; 0 when it cannot be told. */
uint64_t cgroup_pids_refused(const char *path);
/* True when the process is in this cgroup, or one below. `path` is the folder, `mount` the mount point above it. */
bool cgroup_has(const char *mount, const char *path, int pid);
