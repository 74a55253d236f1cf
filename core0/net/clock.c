/*
 * clock.c - see clock.h.
 */
#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"

#define STRATUM_UNSYNCHRONISED 16 /* RFC 5905 */

struct clock {
    struct loop *loop;
    const struct config *config;
    const char *busybox, *events;
    struct helper *ntpd;
    char servers[CONFIG_NTP_MAX][CONFIG_NTP_NAME_MAX]; /* of the running ntpd */
    size_t server_count;
    bool synchronised;
};

static void hold_bound(struct clock *clock)
{
    struct timespec now, bound = {.tv_sec = (time_t)clock->config->build_time};

    if (clock_gettime(CLOCK_REALTIME, &now) < 0 || now.tv_sec >= bound.tv_sec)
        return;
    clock->synchronised = false;
    if (clock_settime(CLOCK_REALTIME, &bound) < 0)
        log_warn("the clock stands before this image was built and cannot be set: %s",
                 strerror(errno));
    else
        log_warn("a time server named a moment before this image was built; it is not believed");
}

int clock_new(struct loop *loop, const struct config *config, const char *busybox,
              const char *events, struct clock **ret_clock)
{
    struct clock *clock = calloc(1, sizeof(*clock));

    if (clock == NULL)
        return -ENOMEM;
    clock->loop = loop;
    clock->config = config;
    clock->busybox = busybox;
    clock->events = events;
    hold_bound(clock);
    *ret_clock = clock;
    clock_set_servers(clock, NULL, 0);
    return 0;
}

void clock_free(struct clock *clock)
{
    if (clock == NULL)
        return;
    helper_free(clock->ntpd);
    free(clock);
}

static void start(struct clock *clock)
{
    const char *argv[HELPER_ARGS_MAX] = {"ntpd", "-n"};
    char self[256];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    size_t n = 2;

    if (len <= 0)
        return;
    self[len] = '\0';
    argv[n++] = "-S";
    argv[n++] = self;
    for (size_t i = 0; i < clock->server_count; i++) {
        argv[n++] = "-p";
        argv[n++] = clock->servers[i];
    }
    argv[n] = NULL;
    setenv(HELPER_SOCKET_ENV, clock->events, 1);
    if (helper_new(clock->loop, clock->busybox, argv, &clock->ntpd) < 0)
        log_warn("ntpd cannot be started");
    unsetenv(HELPER_SOCKET_ENV);
}

void clock_set_servers(struct clock *clock, const struct address *servers, size_t count)
{
    char wanted[CONFIG_NTP_MAX][CONFIG_NTP_NAME_MAX] = {{0}};
    size_t wanted_count = 0;

    if (clock->config->ntp_count > 0) {
        wanted_count = clock->config->ntp_count;
        memcpy(wanted, clock->config->ntp, sizeof(wanted));
    } else {
        for (size_t i = 0; i < count && wanted_count < CONFIG_NTP_MAX; i++)
            address_text(&servers[i], wanted[wanted_count++], CONFIG_NTP_NAME_MAX);
    }
    if (wanted_count == clock->server_count && memcmp(wanted, clock->servers, sizeof(wanted)) == 0)
        return;
    helper_free(clock->ntpd);
    clock->ntpd = NULL;
    memcpy(clock->servers, wanted, sizeof(wanted));
    clock->server_count = wanted_count;
    if (wanted_count > 0)
        start(clock);
}

void clock_report(struct clock *clock, const struct helper_report *report)
{
    struct timex kernel = {0};
    bool before = clock->synchronised;

    /* ntpd reports also while it only hopes; the kernel knows whether its clock is being kept. */
    clock->synchronised = !report->unsynchronised && report->stratum > 0 &&
                          report->stratum < STRATUM_UNSYNCHRONISED &&
                          adjtimex(&kernel) != TIME_ERROR;
    hold_bound(clock);
    if (clock->synchronised != before)
        log_info("the clock is %s", clock_state(clock));
}

const char *clock_state(const struct clock *clock)
{
    return clock->synchronised ? "synchronised" : "unsynchronised";
}
