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

struct showing {
    struct log_view view;
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
    int ret = log_view_take(&showing->view, data, len, showing->err);
    int written = write_out(showing); /* the good part of it first */
    return ret < 0 ? ret : written;
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
    struct buffer query;

    buffer_init(&query, 0);
    log_view_init(&showing.view);
    showing.view.json = gate->cli->json;
    showing.view.timestamps = cli_flag(gate->cli, "--timestamps");
    showing.view.terminal = isatty(STDOUT_FILENO) == 1;
    int ret = buffer_append_str(&query, path);
    if (ret >= 0 && service[0] != '\0') {
        ret = gate_query(&query, "service", service);
    }
    ret = ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret))
                  : add_options(gate->cli, &query, err);
    if (ret == 0) {
        ret = gate_stream(gate, method, (const char *)query.data, QUIET_US, on_data, &showing, err);
    }
    struct error end = {0};
    int ended = log_view_end(&showing.view, ret == 0 ? err : &end);
    int written = write_out(&showing);
    log_view_done(&showing.view);
    buffer_done(&query);
    return ret < 0 ? ret : ended < 0 ? ended : written;
}
