/*
 * gate_live.h - what the node itself says, beside what the chain says of it.
 */
#pragma once

#include "cli/gate.h"

/* Adds "live" to root: the gate's answer, or {"error":{"code","message"}} when it gives none within a few seconds. Never
 * fails: the rest of what is shown comes from the chain and stands. */
void gate_live_add(const struct cli *cli, const struct grid *grid, uint64_t node,
                   uint64_t reservation, const char *method, const char *path, yyjson_mut_doc *doc,
                   yyjson_mut_val *root);
