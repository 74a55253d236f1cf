/*
 * console.h - what a person in front of the machine sees.
 *
 * On a serial line (and in a log file) every change is a line; on a screen the whole state is drawn anew. Nothing
 * that a service says can steer the terminal, and no terminal that does not read can hold core0 up.
 */
#pragma once

#include <stddef.h>

struct core;
struct service;

int console_open(struct core *core);
void console_close(struct core *core);
/* All of these do nothing before console_open. */
void console_line(struct core *core, const char *service, const char *text, size_t len);
void console_service_changed(struct core *core, const struct service *service);
void console_changed(struct core *core); /* a fact or an error: the screen is drawn anew */
/* At the very end: writes what is queued, waiting at most 100 ms. */
void console_flush(struct core *core);
