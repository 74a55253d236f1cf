/*
 * watchdog.h - the machine's hardware watchdog: fed from the event loop, so that a core0 that hangs ends in a reset.
 */
#pragma once

#include <stdint.h>

struct core;

#define WATCHDOG_TIMEOUT_S 30

/* Finds the best one and starts it; writes to core->previous_end when it was what reset the machine. */
int watchdog_open(struct core *core);
const char *watchdog_identity(const struct core *core); /* NULL: none */
/* The machine is about to be switched off by us: no reset any more. */
void watchdog_disarm(struct core *core);
/* Seconds until it bites; for the test hook. */
void watchdog_set_timeout(struct core *core, int seconds);
/* How good a watchdog of this identity is, lower is better; sysfs tells identities without opening (which starts it). */
int watchdog_rank(const char *identity);
