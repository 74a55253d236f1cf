/*
 * bundle.h - the OCI runtime configuration (config.json) of one container.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "container/spec.h"
#include "container/user.h"
#include "lib/error.h"

struct bundle_device {
    unsigned major, minor;
};

struct bundle {
    const struct container_spec *spec;
    const struct container_user *user;
    const char *hostname;
    const char *userns, *netns; /* paths of the pinned namespaces */
    const char *cgroup;         /* path inside the cgroup file system, from / on */
    const char *etc;            /* folder with hosts, hostname, resolv.conf */
    const char *
        files; /* folder with the configs and secrets, named by their place in the list: "0", "1", … */
    const char *
        devices; /* folder with the nodes of block devices, named by their place among the mounts */
    const struct bundle_device *numbers; /* of those, one per mount */
    yyjson_val *seccomp;                 /* Docker's profile; NULL: none (tests) */
    unsigned kernel;                     /* major << 8 | minor */
    bool no_limits; /* a machine without cgroup controllers and CAP_SYS_RESOURCE (tests) */
};

/* JSON text, free with free(). */
int bundle_config(const struct bundle *bundle, char **ret_json, size_t *ret_len, struct error *err);
