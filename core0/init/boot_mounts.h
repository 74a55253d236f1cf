/*
 * boot_mounts.h - the file systems of the kernel, and the way out of the initramfs.
 */
#pragma once

#include "lib/error.h"

/*
 * Makes the root a mount of its own: pivot_root(2) refuses the initramfs, and runc needs it. Before anything else is
 * mounted.
 */
int boot_leave_initramfs(struct error *err);
/* Mounts what the table says; what is optional may be missing. *ret_cgroup: true if cgroup2 is there. */
int boot_mount_all(struct error *err);
