/*
 * verbs_gate.c - croft logs, croft exec: a tenant's own containers, through their node's gate.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "cli/gate_exec.h"
#include "cli/gate_logs.h"
#include "cli/reservation.h"
#include "cli/tables.h"

/* The first argument's reservation and its node. */
static int open_reservation(struct cli *cli, struct grid *grid, struct gate *gate,
                            struct error *err)
{
    struct reservation reservation;
    uint64_t id;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &id, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, grid, err)) < 0) {
        return ret;
    }
    ret = reservation_read(grid, id, &reservation, err);
    if (ret == 0) {
        ret = gate_init(gate, cli, grid, reservation.node, id, err);
    }
    if (ret < 0) {
        grid_close(grid);
    }
    return ret;
}

static int logs(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct gate gate;

    int ret = open_reservation(cli, &grid, &gate, err);
    if (ret < 0) {
        return ret;
    }
    ret = gate_logs_show(&gate, "logs", "/v1/logs", cli->arg_count > 1 ? cli->args[1] : "", err);
    gate_done(&gate);
    grid_close(&grid);
    return ret;
}

static int run_exec(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct gate gate;
    bool terminals = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
    bool tty = cli_flag(cli, "-t") || cli_flag(cli, "--tty");

    if (!cli->dashes || cli->before_dashes < 1 || cli->before_dashes > 2 ||
        cli->before_dashes == cli->arg_count) {
        return error_set(err, EINVAL, "cli.wrong-use", cli->verb->example,
                         "exec takes: RESERVATION [SERVICE] -- COMMAND [ARGUMENT…]");
    }
    if (tty && cli_flag(cli, "-T")) {
        return error_set(err, EINVAL, "cli.wrong-use", "", "-t and -T exclude one another");
    }
    struct gate_exec exec = {
        .service = cli->before_dashes > 1 ? cli->args[1] : "",
        .argv = &cli->args[cli->before_dashes],
        .argc = cli->arg_count - cli->before_dashes,
        .tty = tty || (terminals && !cli_flag(cli, "-T")),
    };
    exec.input = exec.tty || cli_flag(cli, "-i");
    int ret = open_reservation(cli, &grid, &gate, err);
    if (ret < 0) {
        return ret;
    }
    ret = gate_exec_run(&gate, &exec, err);
    gate_done(&gate);
    grid_close(&grid);
    return ret;
}

static const struct verb_option logs_options[] = {
    {"--since", "TIME|AGO", "2026-11-28T08:00:00Z, 2026-11-28, @SECONDS, or 10m, 1h30m, 2d"},
    GATE_LOGS_OPTIONS,
    {NULL, NULL, NULL},
};
static const struct verb_option exec_options[] = {
    {"-t", NULL, "with a terminal of its own, as is usual when croft runs in one"},
    {"--tty", NULL, "the same as -t"},
    {"-T", NULL, "without a terminal"},
    {"-i", NULL, "hand standard input on; implied by a terminal"},
    {"--user", "USER[:GROUP]", "instead of the service's user"},
    {"--workdir", "DIR", "instead of the service's working_dir"},
    {"--env", "NAME=VALUE", "besides the service's environment; may be repeated"},
    GATE_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"", "logs", "RESERVATION [SERVICE]", "what a service has written, and writes",
     "croft logs 12 web --follow --tail 100", logs_options, 1, 2, false, logs},
    {"", "exec", "RESERVATION [SERVICE] [options] -- COMMAND…",
     "run a command in a service's container; its status is the command's, 125 a failure of "
     "croft's",
     "croft exec 12 web -- sh -c 'ps; df'", exec_options, 1, CLI_ARGS_MAX, VERB_OWN_STATUS,
     run_exec},
};

const struct verb_table verbs_gate = {verbs, sizeof(verbs) / sizeof(verbs[0])};
