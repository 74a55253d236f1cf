/*
 * sweep.h - removes what the makers have and no deployment wants.
 *
 * Asks every maker for its list, compares, and sends one request after the other, in the order of the table in sweep.c. A failed
 * request is logged and asked again with the next sweep. Runs again by itself when a kept volume's time is over.
 */
#pragma once

#include "provision/provision.h"

struct sweep;

int sweep_new(struct provision *provision, struct sweep **ret_sweep);
void sweep_free(struct sweep *sweep);
/* Starts a sweep, or another one behind the one under way. */
void sweep_start(struct sweep *sweep);
