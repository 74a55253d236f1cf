/*
 * events.h - JSON lines to the virtio port "org.croft.events", for tests and measurements (docs/contracts.md).
 *
 * Without the port nothing happens. A host that does not read loses the oldest lines, never our time.
 */
#pragma once

#include <stddef.h>

struct core;

int events_open(struct core *core);
void events_close(struct core *core);
/* /sys is there now: is the port? Later ones are found by the kernel's uevents. */
void events_look(struct core *core);
void events_send_boot(struct core *core, const char *step);
void events_send_service(struct core *core, const char *name, const char *state);
/* {"event":event,key:value} */
void events_send_text(struct core *core, const char *service, const char *event, const char *key,
                      const char *value);
/* One event as a service wrote it (X_CROFT_EVENT=). What is no JSON object is dropped; 0 or -EINVAL. */
int events_send_json(struct core *core, const char *service, const char *json, size_t len);
/* Writes what the port takes now. */
void events_flush(struct core *core);
