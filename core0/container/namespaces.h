/*
 * namespaces.h - the pinned user and network namespace of an instance.
 */
#pragma once

#include <stdint.h>

#include "lib/error.h"

/* Makes a network namespace owned by the user namespace (the only kind in which a container in that user namespace may
 * mount sysfs and bind port 80) and pins both to the files userns and netns. The loopback is up, any port may be bound and ping is allowed without
 * privileges, as Docker sets it. `existing`: a pinned user namespace to use; NULL: a new one that maps 0..count-1 to base... Blocking (some
 * milliseconds): for a worker. container.namespace-failed */
int namespaces_pin(const char *existing, uint32_t base, uint32_t count, const char *userns,
                   const char *netns, struct error *err);
/* Takes a pin and its file away; what is absent is fine. */
void namespaces_unpin(const char *path);
