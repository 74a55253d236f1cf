/*
 * notify.h - sd_notify(3) without the library: readiness, status and facts told to core0.
 *
 * Beyond systemd's variables core0 understands
 *   X_CROFT_FACT=key=value   a fact for console and status: farm, node, address, state, … (empty value: gone)
 *   X_CROFT_ERROR=code: sentence   the program's last error (empty: cleared)
 *   X_CROFT_EVENT={json}     one event, copied to the events port with time and service
 */
#pragma once

struct error;

/* All return 0, 0 when NOTIFY_SOCKET is not set, or -errno. */
int notify_ready(void);
int notify_stopping(void);
int notify_watchdog(void);
__attribute__((format(printf, 1, 2))) int notify_status(const char *fmt, ...);
int notify_fact(const char *key, const char *value);
int notify_error(const struct error *err); /* NULL: cleared */
/* One event {"event":name,…}: json_members is "" or `"key":value,…` without braces. */
__attribute__((format(printf, 2, 3))) int notify_event(const char *name, const char *members_fmt,
                                                       ...);
/* Microseconds between two notify_watchdog() that core0 asks for (half of WATCHDOG_USEC), 0: none. */
unsigned long long notify_watchdog_interval(void);
