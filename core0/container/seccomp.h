/*
 * seccomp.h - Docker's default profile, resolved for one container.
 *
 * The profile (moby profiles/seccomp/default.json, taken at build time) says for each rule under which capabilities,
 * architectures and kernel it holds. The OCI runtime takes only rules, so the conditions are decided here: architecture x86_64 alone
 * (three architectures cost 13 ms a start), the running kernel, the container's capabilities.
 */
#pragma once

#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"

/* kernel: major << 8 | minor. The result belongs to `doc`, strings are copied. container.bad-seccomp */
int seccomp_resolve(yyjson_val *profile, uint64_t caps, unsigned kernel, yyjson_mut_doc *doc,
                    yyjson_mut_val **ret_seccomp, struct error *err);
/* "6.12.3-x" as 6 << 8 | 12; 0 when it is no version. */
unsigned seccomp_kernel(const char *release);
