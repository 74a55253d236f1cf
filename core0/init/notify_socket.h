/*
 * notify_socket.h - the other end of sd_notify(3): who sent it is what the kernel says (SCM_CREDENTIALS), and a process
 * speaks for the service whose cgroup it is in.
 */
#pragma once

#include <stddef.h>

struct core;
struct error;
struct service;

int notify_socket_open(struct core *core, struct error *err);
void notify_socket_close(struct core *core);
/* One datagram: lines of NAME=value. Unknown names are passed over, as sd_notify(3) asks. */
void notify_socket_handle(struct service *service, const char *text, size_t len);
