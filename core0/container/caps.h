/*
 * caps.h - Linux capabilities by name, and the set a container gets as Docker computes it.
 */
#pragma once

#include <stdint.h>

#include "lib/error.h"

#define CAPS_COUNT 41 /* CAP_LAST_CAP of Linux 5.9 and later + 1 */

/* "CAP_CHOWN" of a number below CAPS_COUNT. */
const char *caps_name(unsigned number);
/* Number of "NET_ADMIN", "CAP_NET_ADMIN" or "net_admin"; -1: unknown. */
int caps_number(const char *name);
/* Docker's default set (moby oci/caps/defaults.go). */
uint64_t caps_default(void);
/* Docker's rules (moby oci/caps/utils.go TweakCapabilities): ALL in add: everything but what is dropped; ALL in drop:
 * only what is added; otherwise the default less drop plus add. container.bad-spec for an unknown name. */
int caps_compute(const char *const *add, const char *const *drop, uint64_t *ret_set,
                 struct error *err);
