/*
 * gate_logs.c - see gate_logs.h.
 */
#include "cli/gate_logs.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/log_view.h"
#include "cli/moment.h"
#include "lib/file.h"

#define QUIET_US ((uint64_t)65 * 1000000) /* a gate that has nothing to say says so every 20 s */
#define TAIL_MAX 1000000
#define AGAIN_US ((uint64_t)60 * 1000000) /* so long a stream that broke off is asked for again */
#define PAUSE_NS 500000000L               /* between two attempts */

struct showing {
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

static int on_data(const void *data, size_t len, void *user)
{
    struct showing *showing = user;
    showing->heard = true;
    int ret = log_view_take(&showing->view, data, len, showing->err);
    int written = write_out(showing); /* the good part of it first */
    return ret < 0 ? ret : written;
}

/* What passes while a gate, or a part of the node behind it, is replaced or started again. */
static bool is_passing(const struct error *err)
{
    static const char *const codes[] = {"gate.lost", "gate.unreachable", "gate.timeout",
                                        "gate.not-ready"};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(err->code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Shows the stream that `first` asks for; one that broke off goes on behind the last line that came, where lines say their place. */
static int show(struct gate *gate, const char *method, const char *first, const char *again,
                struct showing *showing, struct error *err)
{
    struct buffer path;

    buffer_init(&path, 0);
    int ret = gate_stream(gate, method, first, QUIET_US, on_data, showing, err);
    uint64_t lost_at = loop_clock();
    while (ret < 0 && cli_flag(gate->cli, "--follow") && showing->view.at[0] != '\0' &&
           is_passing(err) && loop_clock() - lost_at < AGAIN_US) {
        log_view_again(&showing->view);
        showing->heard = false;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        buffer_clear(&path);
        ret = buffer_append_str(&path, again);
        if (ret >= 0) {
            ret = gate_query(&path, "after", showing->view.at);
        }
        if (ret >= 0) {
            ret = gate_query(&path, "follow", "1");
        }
        *err = (struct error){0};
        ret = ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret))
                      : gate_stream(gate, method, (const char *)path.data, QUIET_US, on_data,
                                    showing, err);
        lost_at = showing->heard ? loop_clock() : lost_at;
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

int gate_logs_show(struct gate *gate, const char *method, const char *path, const char *service,
                   struct error *err)
{
    struct showing showing = {.err = err};
    struct buffer query, again;

    buffer_init(&query, 0);
    buffer_init(&again, 0);
    log_view_init(&showing.view);
    showing.view.json = gate->cli->json;
    showing.view.timestamps = cli_flag(gate->cli, "--timestamps");
    showing.view.terminal = isatty(STDOUT_FILENO) == 1;
    int ret = buffer_append_str(&query, path);
    if (ret >= 0 && service[0] != '\0') {
        ret = gate_query(&query, "service", service);
    }
    if (ret >= 0) {
        ret = buffer_append_str(&again, (const char *)query.data);
    }
    ret = ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret))
                  : add_options(gate->cli, &query, err);
    if (ret == 0) {
        ret = show(gate, method, (const char *)query.data, (const char *)again.data, &showing, err);
    }
    struct error end = {0};
    int ended = log_view_end(&showing.view, ret == 0 ? err : &end);
    int written = write_out(&showing);
    log_view_done(&showing.view);
    buffer_done(&query);
    buffer_done(&again);
    return ret < 0 ? ret : ended < 0 ? ended : written;
}
