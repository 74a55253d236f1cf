/*
 * helper.h - programs of BusyBox that run under netd (ntpd), and the socket on which they report.
 *
 * A helper runs netd itself as its script (helper_script_main); that copy sends what it was told to the running netd
 * and ends. A helper dies with netd (PR_SET_PDEATHSIG); one that ends by itself is started again, later each time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/error.h"
#include "lib/loop.h"

#define HELPER_SOCKET_ENV                                                                          \
    "CROFT_NETD_EVENTS" /* path of the socket; set: this process is a script */
#define HELPER_REPORT_MAX 256
#define HELPER_ARGS_MAX 24

struct helper_report {
    bool unsynchronised; /* ntpd has lost its servers */
    bool stepped;        /* ntpd has just set the clock, and keeps it once it has measured again */
    unsigned stratum;    /* 0: not said */
};

/* "EVENT STRATUM" of ntpd (fuzzed): step, stratum, periodic, unsync. -EBADMSG: anything else. */
int helper_report_parse(const char *text, size_t len, struct helper_report *ret_report);

struct helper_socket;

/* Calls fn for each report. Only reports of our own user and root count. */
int helper_socket_new(struct loop *loop, const char *path,
                      void (*fn)(const struct helper_report *, void *), void *data,
                      struct helper_socket **ret_socket, struct error *err);
void helper_socket_free(struct helper_socket *socket);
/* main() of the script: argv[1] is the event. Returns the exit status. */
int helper_script_main(int argc, char **argv);

struct helper;

/* busybox: path of the program; argv[0] is the applet. Starts at once. argv is copied. */
int helper_new(struct loop *loop, const char *busybox, const char *const *argv,
               struct helper **ret_helper);
/* Ends the program (SIGTERM) and forgets it. NULL is fine. */
void helper_free(struct helper *helper);
