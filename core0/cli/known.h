/*
 * known.h - which reservation this machine made for a project on a node: deploying it again is an update.
 *
 * Kept in ${XDG_STATE_HOME:-~/.local/state}/croft/deployments.json. Losing it costs nothing but naming the reservation by
 * --update; the chain does not know project names, they are sealed.
 */
#pragma once

#include "cli/grid.h"

uint64_t known_find(const struct grid *grid, uint64_t node, const char *project); /* 0: none */
void known_put(const struct grid *grid, uint64_t node, const char *project, uint64_t id);
