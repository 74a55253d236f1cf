/*
 * control.h - org.croft.core over varlink on /run/croft/core0.
 */
#pragma once

struct core;
struct error;
struct ring;

int control_open(struct core *core, struct error *err);
void control_close(struct core *core);
/* A line was added to a ring: whoever follows it hears of it at the end of the turn. */
void control_log_added(struct core *core, const char *service, const struct ring *ring);
