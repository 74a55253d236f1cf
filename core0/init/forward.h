/*
 * forward.h - croft.log=udp:ADDRESS:PORT: every log line as a syslog datagram (RFC 5424, RFC 5426).
 */
#pragma once

#include <stddef.h>

struct core;

int forward_open(struct core *core);
/* Sends and forgets: a datagram that cannot go now is lost. */
void forward_line(struct core *core, const char *service, int level, const char *text, size_t len);
