/*
 * gate_exec.h - a command in a container, with this side's standard streams (subprotocol croft.exec.v1).
 */
#pragma once

#include "cli/gate.h"

#define GATE_EXEC_PROTOCOL "croft.exec.v1"

struct gate_exec {
    const char *service; /* "": the only one */
    const char *const *argv;
    size_t argc;
    bool tty;
    bool input; /* standard input goes along; else the command finds it closed */
};

/* Runs it to its end. The command's own status, or -errno with *err. With --user, --workdir and --env of the command line. */
int gate_exec_run(struct gate *gate, const struct gate_exec *exec, struct error *err);
