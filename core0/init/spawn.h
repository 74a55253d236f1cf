/*
 * spawn.h - from fork to exec: everything a service file says about the process.
 */
#pragma once

#include "init/service.h"

/*
 * Starts the service's program in its cgroup. *ret_pid on success. What fails in the child ends it with one of the
 * exit codes below and a line in its log, as an ordinary failure of the service.
 */
int spawn_service(struct service *service, pid_t *ret_pid, struct error *err);

/* What a child's exit code means when it never reached its program (systemd.exec(5) numbers); NULL: its own. */
const char *spawn_exit_reason(int code);
