/*
 * stop.h - the orderly end: services in reverse order, everything else, mounts, then power off or reboot.
 */
#pragma once

#include "init/core.h"
#include "lib/daemon.h"

#define STOP_FILE DAEMON_MACHINE_STOPS

/* Begins it; the first order counts. */
void stop_begin(struct core *core, enum core_end end);
/* From the supervisor: no service runs any more. */
void stop_services_gone(struct core *core);
/* A child was reaped: perhaps it was the last. */
void stop_child_gone(struct core *core);
