/*
 * gate_logs.h - what `croft logs` and `croft node logs` share.
 */
#pragma once

#include "cli/gate.h"

/* Options of both. */
#define GATE_LOGS_OPTIONS                                                                          \
    {"--follow", NULL, "stay, and show what comes"},                                               \
        {"--tail", "N", "only the last N lines of what there is"},                                 \
        {"--timestamps", NULL, "show when each line was written"}, GATE_OPTION

/* Reads the options, asks for `path` (method: that of the gate) with service ("" for the only one) and shows it. */
int gate_logs_show(struct gate *gate, const char *method, const char *path, const char *service,
                   struct error *err);
