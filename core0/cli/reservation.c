/*
 * reservation.c - see reservation.h.
 */
#include "cli/reservation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/eth/address.h"
#include "lib/eth/heads.h"

#define CHANGED "Changed(uint64,uint64,uint32,uint8,uint64,uint64,bytes32,bytes32,address,uint64)"
#define CHANGED_DATA "(uint32,uint8,uint64,uint64,bytes32,bytes32,address,uint64)"
#define WINDOW 10000 /* blocks of one eth_getLogs: what public endpoints commonly allow */
#define HINT "croft reservation list shows yours"

const char *reservation_state_name(unsigned state)
{
    static const char *const names[] = {"None",      "Proposed", "Approved", "Funded",
                                        "Deploying", "Active",   "Grace",    "Suspended",
                                        "Closed",    "Rejected", "Expired",  "Failed"};
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

int reservation_read(const struct grid *grid, uint64_t id, struct reservation *ret_reservation,
                     struct error *err)
{
    struct abi_value argument = abi_uint(id);
    struct abi_decoded decoded;

    int ret = grid_view(grid, grid->reservations, "reservation(uint64)", &argument, 1,
                        "((address,uint64,uint32,uint32,uint32,uint64,bytes32))", &decoded, err);
    if (ret < 0) {
        return ret;
    }
    const struct abi_value *v = decoded.values[0].items;
    struct reservation reservation = {
        .id = id,
        .node = grid_uint(&v[1]),
        .current = (uint32_t)grid_uint(&v[2]),
        .candidate = (uint32_t)grid_uint(&v[3]),
        .last = (uint32_t)grid_uint(&v[4]),
    };
    memcpy(reservation.tenant, v[0].word + 12, 20);
    abi_decoded_done(&decoded);
    if (eth_address_is_zero(reservation.tenant)) {
        return error_set(err, ENOENT, "reservation.unknown", HINT,
                         "there is no reservation %" PRIu64, id);
    }
    *ret_reservation = reservation;
    return 0;
}

int reservation_read_revision(const struct grid *grid, uint64_t id, uint32_t revision,
                              struct reservation_revision *ret_revision, struct error *err)
{
    struct abi_value arguments[2] = {abi_uint(id), abi_uint(revision)};
    struct abi_decoded decoded;

    int ret =
        grid_view(grid, grid->reservations, "revision(uint64,uint32)", arguments, 2,
                  "((uint8,bool,bool,uint32,uint32,uint64,uint64,bytes32,bytes32))", &decoded, err);
    if (ret < 0) {
        return ret;
    }
    const struct abi_value *v = decoded.values[0].items;
    ret_revision->state = (unsigned)grid_uint(&v[0]);
    ret_revision->approve_by = grid_uint(&v[5]);
    ret_revision->deploy_by = grid_uint(&v[6]);
    memcpy(ret_revision->resources, v[7].word, 32);
    abi_decoded_done(&decoded);
    return 0;
}

/* ---- history ---- */

/* The reservation's Changed logs of all blocks, oldest first; windows are read backwards until its first proposal. */
static int all_logs(const struct grid *grid, uint64_t id, struct eth_log **ret_logs,
                    size_t *ret_count, struct error *err)
{
    struct eth_log *all = NULL;
    size_t all_count = 0;
    uint64_t to;
    int ret = grid_block_number(grid, &to, err);

    while (ret == 0) {
        struct eth_log *logs, *grown;
        size_t count;
        uint64_t from = to >= WINDOW ? to - WINDOW + 1 : 0;
        ret = grid_logs(grid, grid->reservations, CHANGED, 2, id, from, to, &logs, &count, err);
        if (ret < 0) {
            break;
        }
        grown = reallocarray(all, all_count + count + 1, sizeof(*all));
        if (grown == NULL) {
            eth_logs_free(logs, count);
            ret = error_set(err, ENOMEM, "cli.failed", "", "out of memory");
            break;
        }
        all = grown;
        memmove(all + count, all, all_count * sizeof(*all));
        if (count > 0) {
            memcpy(all, logs, count * sizeof(*all));
        }
        all_count += count;
        for (size_t i = 0; i < count; i++) {
            logs[i].data = NULL; /* moved */
        }
        eth_logs_free(logs, count);
        /* The first word is the revision, the second the state: 1 and Proposed is the beginning. */
        bool begun = all_count > 0 && all[0].data_len >= 64 && all[0].data[31] == 1 &&
                     all[0].data[63] == RESERVATION_PROPOSED;
        if (from == 0 || begun) {
            *ret_logs = all;
            *ret_count = all_count;
            return 0;
        }
        to = from - 1;
    }
    eth_logs_free(all, all_count);
    return ret;
}

int reservation_history(const struct grid *grid, uint64_t id, yyjson_mut_doc *doc,
                        yyjson_mut_val *list, struct error *err)
{
    struct eth_log *logs;
    size_t count;
    int ret = all_logs(grid, id, &logs, &count, err);

    if (ret != 0) {
        return ret;
    }
    for (size_t i = 0; i < count; i++) {
        struct abi_decoded decoded;
        char reason[33];
        if (abi_decode(CHANGED_DATA, logs[i].data, logs[i].data_len, &decoded) < 0) {
            ret = error_set(err, EBADMSG, "chain.bad-answer", "", "a log cannot be read");
            break;
        }
        const struct abi_value *v = decoded.values;
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, item, "revision", grid_uint(&v[0]));
        yyjson_mut_obj_add_str(doc, item, "state",
                               reservation_state_name((unsigned)grid_uint(&v[1])));
        eth_code_from_word(v[4].word, reason);
        yyjson_mut_obj_add_strcpy(doc, item, "reason", reason);
        grid_json_address(doc, item, "actor", v[6].word + 12);
        yyjson_mut_obj_add_uint(doc, item, "time", grid_uint(&v[7]));
        yyjson_mut_obj_add_uint(doc, item, "sequence", grid_uint(&v[2]));
        yyjson_mut_obj_add_uint(doc, item, "block", logs[i].block_number);
        abi_decoded_done(&decoded);
    }
    eth_logs_free(logs, count);
    return ret;
}

int reservation_reason(const struct grid *grid, uint64_t id, uint32_t revision, char ret_reason[33],
                       struct error *err)
{
    struct eth_log *logs;
    size_t count;
    int ret = all_logs(grid, id, &logs, &count, err);

    if (ret != 0) {
        return ret;
    }
    ret_reason[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        struct abi_decoded decoded;
        if (abi_decode(CHANGED_DATA, logs[i].data, logs[i].data_len, &decoded) == 0) {
            if (grid_uint(&decoded.values[0]) == revision) {
                eth_code_from_word(decoded.values[4].word, ret_reason);
            }
            abi_decoded_done(&decoded);
        }
    }
    eth_logs_free(logs, count);
    return 0;
}

/* ---- waiting ---- */

struct wait {
    bool changed;
};

static void on_head(uint64_t number, const uint8_t hash[32], void *data)
{
    struct wait *wait = data;
    (void)number;
    (void)hash;
    wait->changed = true;
}

static void on_reachable(bool reachable, bool subscribed, const struct error *err, void *data)
{
    struct wait *wait = data;
    (void)subscribed;
    (void)err;
    wait->changed = wait->changed || reachable;
}

int reservation_wait(const struct grid *grid, uint64_t id, uint32_t revision, uint64_t timeout_s,
                     void (*tell)(unsigned state, void *data), void *data, unsigned *ret_state,
                     struct error *err)
{
    struct wait wait = {.changed = true};
    struct eth_heads *heads;
    unsigned told = 0;
    uint64_t end = loop_clock() + timeout_s * 1000 * 1000;

    int ret = eth_heads_new(grid->loop, grid->rpc, on_head, on_reachable, &wait, &heads);
    if (ret < 0) {
        return error_set(err, -ret, "chain.unreachable", "", "the chain cannot be followed");
    }
    while (ret >= 0) {
        struct reservation_revision now;
        if (wait.changed) {
            wait.changed = false;
            ret = reservation_read_revision(grid, id, revision, &now, err);
            if (ret == 0 && now.state != told) {
                told = now.state;
                tell(told, data);
            }
            if (ret == 0 && (told == RESERVATION_ACTIVE || told >= RESERVATION_FIRST_FINAL)) {
                *ret_state = told;
                break;
            }
            continue;
        }
        uint64_t clock = loop_clock();
        if (clock >= end) {
            ret = error_set(
                err, ETIMEDOUT, "deploy.timed-out",
                "croft reservation show tells how it goes on; cancel it if it is not wanted",
                "reservation %" PRIu64 " is still %s", id, reservation_state_name(told));
            break;
        }
        ret = loop_step(grid->loop, (int)((end - clock) / 1000 + 1));
    }
    eth_heads_free(heads);
    return ret < 0 ? ret : 0;
}
