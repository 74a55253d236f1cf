/*
 * sweep.h - removes what the makers have and no deployment wants.
 *
 * Asks every maker for its list, compares, and sends one request after the other, in the order of the table in sweep.c. A failed
 * request is logged and asked again with the next sweep. Runs again by itself when a kept volume's time is over.
 *
 * Containers end side by side and in their own time: none is waited for. What one uses (mount, volume, virtual disk, user ids) is left
 * until it is gone; then the sweep runs again.
 */
#pragma once

#include "provision/provision.h"

struct sweep;

int sweep_new(struct provision *provision, struct sweep **ret_sweep);
void sweep_free(struct sweep *sweep);
/* Starts a sweep, or another one behind the one under way. */
void sweep_start(struct sweep *sweep);
/* Contd's Watch has told the containers: runs again when one that was leaving is gone. */
void sweep_look(struct sweep *sweep);
/* A container of the revision was there and unwanted when the last sweep looked. */
bool sweep_leaves(const struct sweep *sweep, uint64_t reservation, uint32_t revision);
