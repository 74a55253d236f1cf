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

#define LIE_DELAY_MIN ((uint64_t)1000000)   /* us before ntpd asks again after a lie … */
#define LIE_DELAY_MAX ((uint64_t)300000000) /* … doubled each time up to this */
#define STEP_DELAY_US ((uint64_t)100000)    /* from a step to the new measurement */
#define TURN_US                                                                                    \
    ((uint64_t)60000000) /* for one server alone to prove itself; ntpd needs about 10 s */

/*
 * How a lie is left behind. ntpd does not say which of its servers it followed, and what it measured before the
 * clock was put back is worthless. So it is ended, and after a delay the servers are asked one at a time, each next
 * one after a lie or a silence, until one keeps the clock. That one is kept until it is lost or the list changes.
 * Two servers that contradict one another are as silent to ntpd, which follows none: they are tried in the same way.
 */
struct clock {
    struct loop *loop;
    const struct config *config;
    const char *busybox, *events;
    struct helper *ntpd;                               /* NULL: none, or not yet again */
    char servers[CONFIG_NTP_MAX][CONFIG_NTP_NAME_MAX]; /* that are known */
    size_t server_count;
    size_t ways;              /* out of the machine */
    struct loop_timer *timer; /* ntpd is due again, or the turn of a server is over */
    uint64_t delay;           /* us, of the last lie; 0: none since the clock was kept */
    bool one_by_one;
    bool measured_anew; /* after a step; until the clock is kept */
    size_t turn;        /* of servers[] */
    bool synchronised;
};

/* Puts the clock back to the bound when it stands below. Whether it did. */
static bool hold_bound(const struct clock *clock)
{
    struct timespec now, bound = {.tv_sec = (time_t)clock->config->build_time};

    if (clock_gettime(CLOCK_REALTIME, &now) < 0 || now.tv_sec >= bound.tv_sec)
        return false;
    if (clock_settime(CLOCK_REALTIME, &bound) < 0)
        log_warn("the clock stands before this image was built and cannot be set: %s",
                 strerror(errno));
    return true;
}

static void on_timer(struct loop_timer *timer, void *data);

int clock_new(struct loop *loop, const struct config *config, const char *busybox,
              const char *events, struct clock **ret_clock)
{
    struct clock *clock = calloc(1, sizeof(*clock));

    if (clock == NULL)
        return -ENOMEM;
    if (loop_timer_add(loop, on_timer, clock, &clock->timer) < 0) {
        free(clock);
        return -ENOMEM;
    }
    clock->loop = loop;
    clock->config = config;
    clock->busybox = busybox;
    clock->events = events;
    (void)hold_bound(clock); /* a machine whose battery is empty */
    *ret_clock = clock;
    clock_set_servers(clock, NULL, 0, 0);
    return 0;
}

void clock_free(struct clock *clock)
{
    if (clock == NULL)
        return;
    loop_timer_del(clock->timer);
    helper_free(clock->ntpd);
    free(clock);
}

/*
 * ntpd has set the clock and would keep it after a next measurement, half a minute later. One that starts now measures
 * three times in as many seconds.
 */
static void measure_anew(struct clock *clock)
{
    clock->measured_anew = true;
    loop_timer_in(clock->timer, STEP_DELAY_US);
    helper_free(clock->ntpd);
    clock->ntpd = NULL;
}

/* Unless the clock is kept by then, it is another server's turn. */
static void give_turn(struct clock *clock)
{
    if (clock->one_by_one || clock->server_count > 1)
        loop_timer_in(clock->timer, TURN_US);
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
        if (clock->one_by_one && i != clock->turn)
            continue;
        argv[n++] = "-p";
        argv[n++] = clock->servers[i];
    }
    argv[n] = NULL;
    setenv(HELPER_SOCKET_ENV, clock->events, 1);
    if (helper_new(clock->loop, clock->busybox, argv, &clock->ntpd) < 0)
        log_warn("ntpd cannot be started");
    unsetenv(HELPER_SOCKET_ENV);
    give_turn(clock);
}

static void end(struct clock *clock)
{
    loop_timer_stop(clock->timer);
    helper_free(clock->ntpd);
    clock->ntpd = NULL;
}

static void next_server(struct clock *clock)
{
    clock->turn = clock->one_by_one ? (clock->turn + 1) % clock->server_count : 0;
    clock->one_by_one = true;
}

static void on_timer(struct loop_timer *timer, void *data)
{
    struct clock *clock = data;

    (void)timer;
    if (clock->ntpd != NULL) {
        end(clock);
        next_server(clock);
    }
    start(clock);
}

static void after_lie(struct clock *clock)
{
    clock->synchronised = false;
    if (clock->ntpd == NULL)
        return; /* the last words of one that was ended */
    end(clock);
    next_server(clock);
    clock->delay = clock->delay == 0 ? LIE_DELAY_MIN : clock->delay * 2;
    if (clock->delay > LIE_DELAY_MAX)
        clock->delay = LIE_DELAY_MAX;
    log_warn("a time server named a moment before this image was built; it is not believed, "
             "%s is asked in %llu s",
             clock->servers[clock->turn], (unsigned long long)(clock->delay / 1000000));
    loop_timer_in(clock->timer, clock->delay);
}

void clock_set_servers(struct clock *clock, const struct address *servers, size_t count,
                       size_t ways)
{
    char wanted[CONFIG_NTP_MAX][CONFIG_NTP_NAME_MAX] = {{0}};
    size_t wanted_count = 0;
    bool more = ways > clock->ways && !clock->synchronised;

    clock->ways = ways;
    if (clock->config->ntp_count > 0) {
        wanted_count = clock->config->ntp_count;
        memcpy(wanted, clock->config->ntp, sizeof(wanted));
    } else {
        for (size_t i = 0; i < count && wanted_count < CONFIG_NTP_MAX; i++)
            address_text(&servers[i], wanted[wanted_count++], CONFIG_NTP_NAME_MAX);
    }
    if (wanted_count == clock->server_count &&
        memcmp(wanted, clock->servers, sizeof(wanted)) == 0) {
        /* After a lie the timer says when it is due. */
        if (more && clock->delay == 0 && wanted_count > 0) {
            end(clock);
            start(clock);
        }
        return;
    }
    end(clock);
    clock->one_by_one = false;
    clock->delay = 0;
    memcpy(clock->servers, wanted, sizeof(wanted));
    clock->server_count = wanted_count;
    if (wanted_count > 0 && ways > 0)
        start(clock);
}

void clock_report(struct clock *clock, const struct helper_report *report)
{
    struct timex kernel = {0};
    bool before = clock->synchronised;

    if (hold_bound(clock)) {
        after_lie(clock);
    } else {
        /* ntpd reports also while it only hopes; the kernel knows whether its clock is being kept. */
        clock->synchronised = clock->ntpd != NULL && !report->unsynchronised &&
                              report->stratum > 0 && report->stratum < STRATUM_UNSYNCHRONISED &&
                              adjtimex(&kernel) != TIME_ERROR;
        if (clock->synchronised) {
            clock->delay = 0;
            clock->measured_anew = false;
            loop_timer_stop(clock->timer);
        } else if (report->stepped && !clock->measured_anew && clock->ntpd != NULL) {
            measure_anew(clock);
        } else if (before) {
            give_turn(clock);
        }
    }
    if (clock->synchronised != before)
        log_info("the clock is %s", clock_state(clock));
}

const char *clock_state(const struct clock *clock)
{
    return clock->synchronised ? "synchronised" : "unsynchronised";
}
