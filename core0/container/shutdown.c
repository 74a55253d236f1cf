/*
 * shutdown.c - the machine powers off: every container ends as its service asks, by its stop signal and grace period.
 *
 * A contd that is merely replaced leaves its containers alone. What has not ended when the time of contd's own service is
 * over, core0 asks with SIGTERM and then kills (init/stop.c).
 */
#include "container/contd.h"
#include "lib/daemon.h"
#include "lib/log.h"

/* No grace period holds up a machine for longer; TimeoutStopSec= of contd.service is above it. */
#define GRACE_MAX ((uint64_t)20 * 1000 * 1000)

static bool alive(const struct instance *inst)
{
    return inst->phase == PHASE_STARTING || inst->phase == PHASE_RUNNING;
}

bool shutdown_begin(void *state)
{
    struct contd *contd = state;
    unsigned count = 0;

    contd->machine_stops = true;
    for (struct instance *inst = contd->instances, *next; inst != NULL; inst = next) {
        next = inst->next;
        instance_hurry(inst, GRACE_MAX);
        inst->wanted = inst->again = false;
        if (alive(inst)) {
            count++;
            instance_advance(inst);
        }
    }
    if (count > 0)
        log_info("the machine stops: %u containers are asked to end", count);
    shutdown_check(contd);
    return true;
}

void shutdown_check(struct contd *contd)
{
    if (!contd->machine_stops)
        return;
    for (const struct instance *inst = contd->instances; inst != NULL; inst = inst->next) {
        if (alive(inst))
            return;
    }
    daemon_exit(contd->daemon);
}
