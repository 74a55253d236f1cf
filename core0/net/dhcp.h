/*
 * dhcp.h - BusyBox helpers under netd: udhcpc per link and ntpd, and the socket on which both report.
 *
 * Each helper runs netd as its script (dhcp_script_main); the copy sends what it was told to the running netd and
 * ends. A helper dies with netd (PR_SET_PDEATHSIG); one that ends by itself is started again, later each time.
 */
#pragma once

#include "lease.h"
#include "lib/error.h"
#include "lib/loop.h"

#define DHCP_SOCKET_ENV "CROFT_NETD_EVENTS" /* path of the socket; set: this process is a script */

struct dhcp_socket;

/* Calls fn for each report. Only reports of our own user and root count. */
int dhcp_socket_new(struct loop *loop, const char *path, void (*fn)(const struct lease *, void *),
                    void *data, struct dhcp_socket **ret_socket, struct error *err);
void dhcp_socket_free(struct dhcp_socket *socket);
/* main() of the script: argv[1] is the event. Returns the exit status. */
int dhcp_script_main(int argc, char **argv);

struct helper;

#define HELPER_ARGS_MAX 24

/* busybox: path of the program; argv[0] is the applet. Starts at once. argv is copied. */
int helper_new(struct loop *loop, const char *busybox, const char *const *argv, struct helper **ret_helper);
/* Ends the program (SIGTERM) and forgets it. NULL is fine. */
void helper_free(struct helper *helper);
