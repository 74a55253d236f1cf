/*
 * log.h - lines for core0's ring: "<LEVEL>message" on standard error (sd-daemon(3) prefixes).
 *
 * Programs log, the library does not. A line is at most 1,000 bytes; control characters are replaced.
 */
#pragma once

struct error;

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

/* Lines above this level are dropped; LOG_LEVEL_INFO at start. */
void log_set_level(enum log_level level);
__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *fmt, ...);
/* "what: message (code) - hint" */
void log_error(const struct error *err, const char *what);

#define log_err(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
