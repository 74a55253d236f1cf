/*
 * verbs_reservation.c - croft reservation …
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/gate_live.h"
#include "cli/reservation.h"
#include "cli/tables.h"
#include "lib/eth/address.h"

/* The service's grace period is part of it. */
#define RESTART_US ((uint64_t)150 * 1000000)

/* Current and last revision; `state` is the current one's, or the last one's when all is over. */
static int reservation_json(const struct grid *grid, const struct reservation *reservation,
                            yyjson_mut_doc *doc, yyjson_mut_val *root, struct error *err)
{
    struct reservation_revision revision;
    uint32_t number = reservation->current != 0 ? reservation->current : reservation->last;

    int ret = reservation_read_revision(grid, reservation->id, number, &revision, err);
    if (ret < 0) {
        return ret;
    }
    yyjson_mut_obj_add_uint(doc, root, "reservation", reservation->id);
    yyjson_mut_obj_add_uint(doc, root, "node", reservation->node);
    grid_json_address(doc, root, "tenant", reservation->tenant);
    yyjson_mut_obj_add_uint(doc, root, "revision", number);
    yyjson_mut_obj_add_str(doc, root, "state", reservation_state_name(revision.state));
    grid_resources_json(doc, root, "resources", revision.resources);
    yyjson_mut_obj_add_uint(doc, root, "deployBy", revision.deploy_by);
    if (revision.state == RESERVATION_SUSPENDED) {
        yyjson_mut_obj_add_uint(doc, root, "payBy", revision.deploy_by);
    }
    if (reservation->candidate != 0) {
        ret = reservation_read_revision(grid, reservation->id, reservation->candidate, &revision,
                                        err);
        if (ret < 0) {
            return ret;
        }
        yyjson_mut_val *candidate = yyjson_mut_obj_add_obj(doc, root, "candidate");
        yyjson_mut_obj_add_uint(doc, candidate, "revision", reservation->candidate);
        yyjson_mut_obj_add_str(doc, candidate, "state", reservation_state_name(revision.state));
    }
    return 0;
}

static int finish(const struct cli *cli, struct grid *grid, yyjson_mut_doc *doc, int ret)
{
    grid_close(grid);
    if (ret < 0) {
        yyjson_mut_doc_free(doc);
        return ret;
    }
    return cli_print_result(cli, doc);
}

static int show(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct reservation reservation;
    uint64_t id;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &id, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY_IF_ANY | GRID_SNAPSHOT, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    ret = reservation_read(&grid, id, &reservation, err);
    if (ret == 0) {
        ret = reservation_json(&grid, &reservation, doc, root, err);
    }
    if (ret == 0) {
        yyjson_mut_val *history = yyjson_mut_arr(doc);
        ret = reservation_history(&grid, id, doc, history, err);
        uint64_t revision = yyjson_mut_get_uint(yyjson_mut_obj_get(root, "revision"));
        const char *reason = "";
        size_t i, max;
        yyjson_mut_val *item;
        yyjson_mut_arr_foreach(history, i, max, item)
        {
            if (yyjson_mut_get_uint(yyjson_mut_obj_get(item, "revision")) == revision) {
                reason = yyjson_mut_get_str(yyjson_mut_obj_get(item, "reason"));
            }
        }
        yyjson_mut_obj_add_strcpy(doc, root, "reason", reason);
        yyjson_mut_obj_add_val(doc, root, "transitions", history);
    }
    if (ret == 0 && grid.has_key && memcmp(grid.account, reservation.tenant, 20) == 0 &&
        reservation.current != 0 && !cli_flag(cli, "--chain-only")) {
        gate_live_add(cli, &grid, reservation.node, id, "status", "/v1/status", doc, root);
    }
    return finish(cli, &grid, doc, ret);
}

static int list(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct abi_decoded decoded;
    struct reservation reservation;
    uint64_t node, count = 0;
    bool all = cli_flag(cli, "--all");

    int ret = cli_option_uint(cli, "--node", 1, UINT64_MAX, 0, &node, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_SNAPSHOT | (all ? 0 : GRID_KEY), &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *array = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, array);
    ret = grid_view(&grid, grid.reservations, "reservationCount()", NULL, 0, "(uint64)", &decoded,
                    err);
    if (ret == 0) {
        count = grid_uint(&decoded.values[0]);
        abi_decoded_done(&decoded);
    }
    for (uint64_t id = 1; ret == 0 && id <= count; id++) {
        ret = reservation_read(&grid, id, &reservation, err);
        if (ret == 0 && (all || memcmp(reservation.tenant, grid.account, 20) == 0) &&
            (node == 0 || reservation.node == node)) {
            ret =
                reservation_json(&grid, &reservation, doc, yyjson_mut_arr_add_obj(doc, array), err);
        }
    }
    return finish(cli, &grid, doc, ret);
}

/* One call of the contract about one reservation; then how it stands. */
static int act(struct cli *cli, const char *signature, const struct abi_value *more, size_t count,
               bool of_revision, struct error *err)
{
    struct grid grid;
    struct reservation reservation;
    struct abi_value arguments[4];
    size_t used = 1;
    uint64_t id;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &id, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    ret = reservation_read(&grid, id, &reservation, err);
    if (ret == 0) {
        arguments[0] = abi_uint(id);
        if (of_revision) {
            /* What waits: the update, else what runs; the last one may have ended beside it. */
            arguments[used++] = abi_uint(reservation.candidate != 0 ? reservation.candidate
                                         : reservation.current != 0 ? reservation.current
                                                                    : reservation.last);
        }
        for (size_t i = 0; i < count; i++) {
            arguments[used++] = more[i];
        }
        ret = grid_send(&grid, grid.reservations, signature, arguments, used, NULL, err);
    }
    if (ret == 0) {
        ret = reservation_read(&grid, id, &reservation, err);
    }
    if (ret == 0) {
        ret = reservation_json(&grid, &reservation, doc, root, err);
    }
    return finish(cli, &grid, doc, ret);
}

static int cancel(struct cli *cli, struct error *err)
{
    return act(cli, "cancel(uint64)", NULL, 0, false, err);
}

static int withdraw(struct cli *cli, struct error *err)
{
    return act(cli, "withdraw(uint64)", NULL, 0, false, err);
}

static int approve(struct cli *cli, struct error *err)
{
    return act(cli, "approve(uint64,uint32)", NULL, 0, true, err);
}

static int reject(struct cli *cli, struct error *err)
{
    uint8_t word[32];
    const char *reason = cli_option(cli, "--reason");

    eth_code_to_word(reason != NULL ? reason : "reservation.rejected", word);
    struct abi_value value = abi_word(word);
    return act(cli, "reject(uint64,uint32,bytes32)", &value, 1, true, err);
}

static int bill(struct cli *cli, const char *signature, bool of_revision, const char *reason,
                struct error *err)
{
    uint8_t word[32];
    const char *given = cli_option(cli, "--reason");

    eth_code_to_word(given != NULL ? given : reason, word);
    struct abi_value value = abi_word(word);
    return act(cli, signature, &value, 1, of_revision, err);
}

static int fund(struct cli *cli, struct error *err)
{
    return bill(cli, "fund(uint64,uint32,bytes32)", true, "billing.paid", err);
}

static int grace(struct cli *cli, struct error *err)
{
    return bill(cli, "grace(uint64,bytes32)", false, "billing.unpaid", err);
}

static int suspend(struct cli *cli, struct error *err)
{
    return bill(cli, "suspend(uint64,bytes32)", false, "billing.unpaid", err);
}

static int expire(struct cli *cli, struct error *err)
{
    return act(cli, "expire(uint64,uint32)", NULL, 0, true, err);
}

static int close_retired(struct cli *cli, struct error *err)
{
    return act(cli, "closeRetired(uint64)", NULL, 0, false, err);
}

static int release(struct cli *cli, struct error *err)
{
    return act(cli, "release(uint64)", NULL, 0, false, err);
}

/* A service of a running reservation begins anew; the chain hears nothing of it. */
static int restart(struct cli *cli, struct error *err)
{
    struct grid grid;
    struct gate gate;
    struct reservation reservation;
    uint64_t id;
    yyjson_mut_val *root;
    yyjson_doc *answer = NULL;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &id, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root), *body = grid_json(&root);
    if (cli->arg_count > 1) {
        yyjson_mut_obj_add_str(body, root, "service", cli->args[1]);
    }
    char *text = yyjson_mut_write(body, 0, NULL);
    yyjson_mut_doc_free(body);
    ret = reservation_read(&grid, id, &reservation, err);
    if (ret == 0) {
        ret = gate_init(&gate, cli, &grid, reservation.node, id, err);
    }
    if (ret == 0) {
        gate.answer_us = RESTART_US;
        cli_progress(cli, "restart of reservation %" PRIu64 ": its container ends", id);
        ret = gate_call(&gate, "restart", "/v1/restart", text != NULL ? text : "{}", &answer, err);
        cli_progress_end(cli);
        gate_done(&gate);
        yyjson_doc_free(answer);
    }
    free(text);
    root = yyjson_mut_doc_get_root(doc);
    yyjson_mut_obj_add_uint(doc, root, "reservation", id);
    if (cli->arg_count > 1) {
        yyjson_mut_obj_add_str(doc, root, "service", cli->args[1]);
    }
    yyjson_mut_obj_add_bool(doc, root, "restarted", true);
    return finish(cli, &grid, doc, ret);
}

static const struct verb_option show_options[] = {
    {"--chain-only", NULL, "do not ask the node itself"},
    GATE_OPTION,
    {NULL, NULL, NULL},
};
static const struct verb_option restart_options[] = {
    GATE_OPTION,
    {NULL, NULL, NULL},
};
static const struct verb_option list_options[] = {
    {"--node", "NODE", "only those on this node"},
    {"--all", NULL, "everybody's, not only yours"},
    {NULL, NULL, NULL},
};
static const struct verb_option reject_options[] = {
    {"--reason", "CODE", "area.reason, at most 32 bytes (reservation.rejected)"},
    {NULL, NULL, NULL},
};

static const struct verb_option fund_options[] = {
    {"--reason", "CODE", "area.reason, at most 32 bytes (billing.paid)"},
    {NULL, NULL, NULL},
};
static const struct verb_option unpaid_options[] = {
    {"--reason", "CODE", "area.reason, at most 32 bytes (billing.unpaid)"},
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"reservation", "list", "", "your reservations", "croft reservation list --node 1",
     list_options, 0, 0, false, list},
    {"reservation", "show", "ID",
     "a reservation with every transition, who made it and when; its tenant also sees what the "
     "node "
     "says",
     "croft reservation show 12 --json", show_options, 1, 1, false, show},
    {"reservation", "restart", "ID [SERVICE]", "end a service's container and start it again",
     "croft reservation restart 12 web", restart_options, 1, 2, false, restart},
    {"reservation", "cancel", "ID", "end it; its volumes are kept for a while",
     "croft reservation cancel 12", NULL, 1, 1, false, cancel},
    {"reservation", "withdraw", "ID", "take back an update that is under way",
     "croft reservation withdraw 12", NULL, 1, 1, false, withdraw},
    {"reservation", "approve", "ID", "approve its last revision (by the farm's approver)",
     "croft reservation approve 12", NULL, 1, 1, false, approve},
    {"reservation", "reject", "ID", "reject its last revision (by the farm's approver)",
     "croft reservation reject 12 --reason budget.exceeded", reject_options, 1, 1, false, reject},
    {"reservation", "fund", "ID",
     "it is paid: deploy it, run on, or deploy it again (by the farm's biller)",
     "croft reservation fund 12", fund_options, 1, 1, false, fund},
    {"reservation", "grace", "ID",
     "it is not paid, and runs on for now; an update under way ends (by the farm's biller)",
     "croft reservation grace 12", unpaid_options, 1, 1, false, grace},
    {"reservation", "suspend", "ID",
     "stop it after its grace; volumes stay, and it can be paid for 7 days (by the farm's biller)",
     "croft reservation suspend 12 --reason billing.unpaid", unpaid_options, 1, 1, false, suspend},
    {"reservation", "expire", "ID", "end a revision whose time has passed (by anyone)",
     "croft reservation expire 12", NULL, 1, 1, false, expire},
    {"reservation", "close", "ID", "end what is left of it on a node that was retired (by anyone)",
     "croft reservation close 12", NULL, 1, 1, false, close_retired},
    {"reservation", "release", "ID",
     "free the disk that its volumes held, once their time has passed",
     "croft reservation release 12", NULL, 1, 1, false, release},
};

const struct verb_table verbs_reservation = {verbs, sizeof(verbs) / sizeof(verbs[0])};
