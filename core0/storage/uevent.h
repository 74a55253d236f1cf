/*
 * uevent.h - the kernel's word that a device came or went (Documentation/ABI, lib/kobject_uevent.c; netlink(7)).
 *
 * A message is "ACTION@path", then KEY=value strings, each ended by NUL. It is only a hint: what is true stands in
 * /sys/block, which is read again after it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/loop.h"

/* Does the message speak of a whole disk that came, went or changed? false too for what is no message at all. */
bool uevent_is_disk(const char *message, size_t len);

struct uevent;
typedef void uevent_fn(void *data);
/* Calls fn after disks came or went, once for what was reported at the same time. Events that were lost count too. */
int uevent_new(struct loop *loop, uevent_fn *fn, void *data, struct uevent **ret_uevent);
