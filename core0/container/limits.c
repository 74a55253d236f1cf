/*
 * limits.c - what the kernel counted when a container reached one of its limits.
 */
#include <errno.h>
#include <inttypes.h>

#include "container/cgroup.h"
#include "container/contd.h"

bool limits_reached(const struct instance *inst, struct error *ret_reason)
{
    char cgroup[CONTD_PATH_MAX];

    store_cgroup(inst, cgroup);
    if (cgroup_oom_kills(cgroup) > 0) {
        error_set(ret_reason, ENOMEM, "container.oom-killed", "give the service more memory",
                  "more memory was needed than the %" PRIu64 " MiB it may have",
                  inst->spec.memory >> 20);
        return true;
    }
    uint64_t refused = cgroup_pids_refused(cgroup);
    if (refused > 0) {
        error_set(ret_reason, EAGAIN, "container.pids-limit", "give the service more pids",
                  "it wanted more than the %" PRIu64 " processes it may have, %" PRIu64 " times",
                  inst->spec.pids, refused);
        return true;
    }
    return false;
}
