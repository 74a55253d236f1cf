/*
 * gate_logs.c - see gate_logs.h.
 */
#include "cli/gate_logs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/log_view.h"
#include "cli/moment.h"
#include "lib/file.h"

#define QUIET_US ((uint64_t)65 * 1000000) /* a gate that has nothing to say says so every 20 s */
#define TAIL_MAX 1000000
/* So long a stream that broke off is asked for again: machines take minutes to start. */
#define AGAIN_US ((uint64_t)300 * 1000000)
#define TOLD_US ((uint64_t)5 * 1000000) /* after so long it is said */
#define PAUSE_NS 500000000L             /* between two attempts */

struct showing {
    struct gate *gate;
    struct log_view view;
    bool heard; /* bytes came of the stream that was asked for last */
    struct error *err;
};

static int write_out(struct showing *showing)
{
    int ret = file_write_all(STDOUT_FILENO, showing->view.out.data, showing->view.out.len);
    buffer_clear(&showing->view.out);
    return ret < 0 ? error_set(showing->err, -ret, "cli.failed", "",
                               "standard output takes nothing: %s", strerror(-ret))
                   : 0;
}

/* As JSON the entry itself says so. */
static void tell_lost(struct showing *showing)
{
    if (showing->view.lost > 0 && !showing->view.json) {
        fprintf(stderr, "croft: %" PRIu64 " lines are missing here: the node keeps the last ones\n",
                showing->view.lost);
    }
    showing->view.lost = 0;
}

/* Once for each time that the stream breaks off for longer. */
static void tell_waiting(const struct showing *showing, uint64_t lost_at, bool *told)
{
    if (*told || showing->view.json || loop_clock() - lost_at < TOLD_US) {
        return;
    }
    *told = true;
    fprintf(stderr, "croft: the node does not answer; it is asked again for %u minutes\n",
            (unsigned)(AGAIN_US / 60000000));
}

static int on_data(const void *data, size_t len, void *user)
{
    struct showing *showing = user;
    showing->heard = true;
    int ret = log_view_take(&showing->view, data, len, showing->err);
    tell_lost(showing);
    int written = write_out(showing); /* the good part of it first */
    return ret < 0 ? ret : written;
}

/* What passes while a gate, or a part of the node behind it, is replaced or started again. gate.busy: it may count the connection that
 * was lost until it notices, too. */
static bool is_passing(const struct error *err)
{
    static const char *const codes[] = {"gate.lost",      "gate.unreachable",    "gate.timeout",
                                        "gate.not-ready", "gate.farmer-unknown", "gate.busy",
                                        "gate.other-boot"};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(err->code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a stream that broke off can be gone on with: it has a place, or nothing was shown that could come twice. */
static bool can_go_on(const struct showing *showing)
{
    return showing->view.at[0] != '\0' || !showing->view.shown;
}

/* What is asked for next: from the place on where there is one, else the same as at first, of which nothing came. */
static int next_path(struct buffer *path, const struct showing *showing, const char *first,
                     const char *again)
{
    buffer_clear(path);
    if (showing->view.at[0] == '\0') {
        return buffer_append_str(path, first);
    }
    int ret = buffer_append_str(path, again);
    if (ret >= 0) {
        ret = gate_query(path, "after", showing->view.at);
    }
    return ret < 0 ? ret : gate_query(path, "follow", "1");
}

static int stream(struct showing *showing, const char *method, const char *path,
                  struct gate_start *ret_start, struct error *err)
{
    showing->heard = false;
    int ret = gate_stream(showing->gate, method, path, QUIET_US, on_data, showing, ret_start, err);
    log_view_start(&showing->view, ret_start->at);
    return ret;
}

/* Shows the stream that `first` asks for; one that broke off goes on behind the last line that came. `whole` asks for all that there
 * is: the node was started anew, and nothing of its new log was shown yet. */
static int show(struct showing *showing, const char *method, const char *first, const char *again,
                const char *whole, struct error *err)
{
    struct gate_start start;
    struct buffer path;

    buffer_init(&path, 0);
    int ret = stream(showing, method, first, &start, err);
    bool follows = cli_flag(showing->gate->cli, "--follow") && start.begun;
    uint64_t lost_at = loop_clock();
    bool told = false;
    while (ret < 0 && follows && can_go_on(showing) && is_passing(err) &&
           loop_clock() - lost_at < AGAIN_US) {
        if (strcmp(err->code, "gate.other-boot") == 0) {
            err->hint[0] = '\0'; /* it says how to ask the gate, which is done here */
            cli_print_error(showing->gate->cli, err);
            log_view_restart(&showing->view);
            first = whole;
        }
        log_view_again(&showing->view);
        tell_waiting(showing, lost_at, &told);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        ret = next_path(&path, showing, first, again);
        *err = (struct error){0};
        ret = ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret))
                      : stream(showing, method, (const char *)path.data, &start, err);
        if (showing->heard) {
            lost_at = loop_clock();
            told = false;
        }
    }
    buffer_done(&path);
    return ret;
}

static int add_options(const struct cli *cli, struct buffer *path, struct error *err)
{
    const char *since = cli_option(cli, "--since");
    uint64_t tail, from;
    struct timespec now;

    int ret = cli_option_uint(cli, "--tail", 0, TAIL_MAX, UINT64_MAX, &tail, err);
    if (ret < 0) {
        return ret;
    }
    if (tail != UINT64_MAX) {
        ret = gate_query_uint(path, "tail", tail);
    }
    if (ret >= 0 && since != NULL) {
        clock_gettime(CLOCK_REALTIME, &now);
        if (moment_parse(since, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
                         &from) < 0) {
            return error_set(err, EINVAL, "cli.bad-option",
                             "2026-11-28T08:00:00Z, 2026-11-28, @1800000000, 10m, 1h30m, 2d",
                             "--since is no time and no duration: \"%s\"", since);
        }
        ret = gate_query_uint(path, "since", from);
    }
    if (ret >= 0 && cli_flag(cli, "--follow")) {
        ret = gate_query(path, "follow", "1");
    }
    return ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret)) : 0;
}

static int add_service(struct buffer *path, const char *target, const char *service)
{
    int ret = buffer_append_str(path, target);
    return ret >= 0 && service[0] != '\0' ? gate_query(path, "service", service) : ret;
}

int gate_logs_show(struct gate *gate, const char *method, const char *path, const char *service,
                   struct error *err)
{
    struct showing showing = {.gate = gate, .err = err};
    struct buffer query, again, whole;

    buffer_init(&query, 0);
    buffer_init(&again, 0);
    buffer_init(&whole, 0);
    log_view_init(&showing.view);
    showing.view.json = gate->cli->json;
    showing.view.timestamps = cli_flag(gate->cli, "--timestamps");
    showing.view.terminal = isatty(STDOUT_FILENO) == 1;
    int ret = add_service(&query, path, service);
    if (ret >= 0) {
        ret = add_service(&again, path, service);
    }
    if (ret >= 0) {
        ret = add_service(&whole, path, service);
    }
    if (ret >= 0) {
        ret = gate_query_uint(&whole, "tail", TAIL_MAX);
    }
    if (ret >= 0) {
        ret = gate_query(&whole, "follow", "1");
    }
    ret = ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret))
                  : add_options(gate->cli, &query, err);
    if (ret == 0) {
        ret = show(&showing, method, (const char *)query.data, (const char *)again.data,
                   (const char *)whole.data, err);
    }
    struct error end = {0};
    int ended = log_view_end(&showing.view, ret == 0 ? err : &end);
    int written = write_out(&showing);
    log_view_done(&showing.view);
    buffer_done(&query);
    buffer_done(&again);
    buffer_done(&whole);
    return ret < 0 ? ret : ended < 0 ? ended : written;
}
