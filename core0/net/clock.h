/*
 * clock.h - the node's time: BusyBox ntpd, its servers, and a bound below which the clock never falls.
 *
 * Servers are those of croft.ntp, else those of DHCP (option 42), else none. A time server that says a moment before
 * this image was built is wrong: the clock is put back to that bound, the node counts as unsynchronised, and the
 * servers are asked one by one, later each time, until one keeps the clock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "address.h"
#include "config.h"
#include "helper.h"
#include "lib/loop.h"

struct clock;

/* busybox: the program; events: the socket of the helpers. */
int clock_new(struct loop *loop, const struct config *config, const char *busybox,
              const char *events, struct clock **ret_clock);
void clock_free(struct clock *clock);
/*
 * The servers that DHCP names now, and how many ways lead out of the machine (links_ways()); ntpd is started, changed or
 * ended accordingly. Without a way it does not run: a first question that cannot be sent costs it 32 s. A way more while
 * the clock is not kept lets it ask anew, as the earlier question may have had none to its server.
 */
void clock_set_servers(struct clock *clock, const struct address *servers, size_t count,
                       size_t ways);
void clock_report(struct clock *clock, const struct helper_report *report);
const char *clock_state(const struct clock *clock); /* "unsynchronised" or "synchronised" */
