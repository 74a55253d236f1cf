/*
 * gate.c - see gate.h.
 *
 * A node may have several addresses, of which only some can be reached from here. They are tried in their order, each with a
 * small lead over the next one (as RFC 8305 does with the addresses of one name), and the first that gives a good challenge is
 * taken. An address that answers with another key is passed over like one that does not answer: addresses are in use at many
 * places, private ones above all.
 */
#include "cli/gate.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/printable.h"
#include "lib/grid/access.h"
#include "lib/json.h"

#define LEAD_US 300000                     /* of an address over the next one */
#define CONNECT_US 5000000                 /* TCP and TLS with one address */
#define BODY_MAX ((size_t)64 * 1024)       /* of a challenge or a refusal */
#define ANSWER_US ((uint64_t)10 * 1000000) /* a challenge, and any answer that is not a stream */
#define ANSWER_MAX ((uint64_t)1 << 20)
#define AT_HEADER "Croft-Log-At"

int gate_init(struct gate *gate, const struct cli *cli, const struct grid *grid, uint64_t node,
              uint64_t reservation, struct error *err)
{
    const char *given = cli_option(cli, "--gate");

    *gate = (struct gate){.cli = cli,
                          .grid = grid,
                          .reservation = reservation,
                          .patience_us = 2 * ANSWER_US,
                          .answer_us = ANSWER_US};
    int ret = node_read(grid, node, &gate->node, err);
    if (ret < 0) {
        return ret;
    }
    given = given != NULL ? given : getenv("CROFT_GATE");
    if (given != NULL && given[0] != '\0') {
        if (gate_url_of_option(given, gate->urls[0]) < 0) {
            return error_set(err, EINVAL, "cli.bad-option", "",
                             "the gate is to be given as HOST:PORT, not \"%s\"", given);
        }
        gate->url_count = 1;
    }
    for (size_t i = 0; (given == NULL || given[0] == '\0') && i < gate->node.address_count; i++) {
        if (gate_url_of_host(gate->node.addresses[i], gate->urls[gate->url_count]) == 0) {
            gate->url_count++;
        }
    }
    if (gate->url_count == 0) {
        return error_set(err, EHOSTUNREACH, "gate.unreachable",
                         "behind a forward give --gate HOST:PORT",
                         "node %" PRIu64 " has registered no address", node);
    }
    ret = http_client_new(grid->loop, NULL, &gate->http);
    return ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret)) : 0;
}

void gate_done(struct gate *gate)
{
    http_client_free(gate->http);
    gate->http = NULL;
}

const char *gate_address(const struct gate *gate)
{
    return gate->urls[0] + strlen("https://");
}

/* ---- refusals ---- */

static bool is_code(const char *code)
{
    size_t area = strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789");
    size_t len = strlen(code);
    return area > 0 && code[area] == '.' && len > area + 1 && len <= ERROR_CODE_MAX &&
           strspn(code + area + 1, "abcdefghijklmnopqrstuvwxyz0123456789-") == len - area - 1;
}

static void copy_printable(const char *text, char *ret_text, size_t size)
{
    struct buffer shown;
    buffer_init(&shown, 0);
    if (printable_append(&shown, text, strlen(text)) >= 0 && shown.len > 0) {
        snprintf(ret_text, size, "%s", (const char *)shown.data);
    }
    buffer_done(&shown);
}

int gate_refusal(int status, const char *text, size_t len, struct error *err)
{
    struct {
        const char *code, *message, *hint;
    } in = {.hint = ""};
    static const struct json_field fields[] = {
        {"code", JSON_STRING, offsetof(__typeof__(in), code), true, 0, 0},
        {"message", JSON_STRING, offsetof(__typeof__(in), message), true, 0, 0},
        {"hint", JSON_STRING, offsetof(__typeof__(in), hint), false, 0, 0},
    };
    struct error ignored = {0};
    char message[sizeof(err->message)] = "", hint[sizeof(err->hint)] = "";
    yyjson_doc *doc = json_parse(text, len, BODY_MAX, "gate.bad-answer", &ignored);

    if (doc != NULL &&
        json_read(yyjson_doc_get_root(doc), fields, 3, JSON_IGNORE_UNKNOWN, &in, "gate.bad-answer",
                  &ignored) >= 0 &&
        is_code(in.code)) {
        copy_printable(in.message, message, sizeof(message));
        copy_printable(in.hint, hint, sizeof(hint));
        error_set(err, ECANCELED, in.code, hint, "%s", message);
    } else {
        error_set(err, EBADMSG, "gate.bad-answer",
                  "croft and the node may be of two versions: croft version, croft node show",
                  "the gate refuses with status %d and no reason that can be understood", status);
    }
    yyjson_doc_free(doc);
    return -ECANCELED;
}

/* What went wrong below HTTP, in words of gates. established: the gate had answered before. */
static int transport_error(const struct gate *gate, const struct error *cause, bool established,
                           struct error *err)
{
    const char *hint = gate->cli != NULL && cli_option(gate->cli, "--gate") != NULL
                           ? "check the forward"
                           : "croft node show tells the node's addresses; behind a forward give "
                             "--gate HOST:PORT";
    if (strcmp(cause->code, "http.wrong-key") == 0) {
        return error_set(err, EPROTO, "gate.wrong-key",
                         "it is another machine, or somebody is in between; nothing was told to it",
                         "%s", cause->message);
    }
    if (strcmp(cause->code, "http.timeout") == 0) {
        return error_set(err, ETIMEDOUT, "gate.timeout", hint, "%s", cause->message);
    }
    if (strcmp(cause->code, "http.too-big") == 0) {
        return error_set(err, EFBIG, "gate.bad-answer", "", "%s", cause->message);
    }
    if (established) {
        return error_set(err, ECONNRESET, "gate.lost", "try again", "the connection broke: %s",
                         cause->message);
    }
    return error_set(err, EHOSTUNREACH, "gate.unreachable", hint, "%s", cause->message);
}

/* ---- the challenge ---- */

struct race;
struct attempt {
    struct race *race;
    struct http_transfer *transfer;
    size_t index;
};

struct race {
    struct gate *gate;
    struct attempt attempts[NODE_ADDRESSES_MAX];
    size_t started, ended;
    struct loop_timer *next;
    bool won, failed; /* failed: it cannot be gone on */
    size_t winner;
    struct grid_challenge challenge;
    struct error err; /* of the address that got furthest */
    int rank;
};

/* The gate may lie: a challenge of another node would be signed for it. */
static int check_challenge(const struct gate *gate, const struct grid_challenge *challenge,
                           struct error *err)
{
    const char *what = challenge->node != gate->node.number          ? "node"
                       : challenge->reservation != gate->reservation ? "reservation"
                       : challenge->chain_id != gate->grid->chain_id ? "chain"
                       : memcmp(challenge->reservations, gate->grid->reservations, 20) != 0
                           ? "contract"
                           : NULL;
    return what == NULL ? 0
                        : error_set(err, EPROTO, "gate.wrong-challenge",
                                    "nothing was signed; the node is not to be trusted",
                                    "the challenge is for another %s than the one asked for", what);
}

static void remember(struct race *race, const struct error *err)
{
    static const char *const order[] = {"gate.unreachable", "gate.timeout", "gate.wrong-key"};
    int rank = 3; /* the node itself said something */
    for (int i = 0; i < 3; i++) {
        rank = strcmp(err->code, order[i]) == 0 ? i : rank;
    }
    if (!error_is_set(&race->err) || rank > race->rank) {
        race->err = *err;
        race->rank = rank;
    }
}

static void start_next(struct race *race);

static void on_challenge(const struct http_response *response, const struct error *cause,
                         void *user)
{
    struct attempt *attempt = user;
    struct race *race = attempt->race;
    struct error err = {0};
    const char *body = (const char *)response->body;
    int ret;

    attempt->transfer = NULL;
    race->ended++;
    if (race->won) {
        return;
    }
    if (cause != NULL) {
        ret = transport_error(race->gate, cause, false, &err);
    } else if (response->status != 200) {
        ret = gate_refusal(response->status, body, response->body_len, &err);
    } else {
        ret = grid_challenge_from_json(body, response->body_len, &race->challenge, &err);
        if (ret == 0) {
            ret = check_challenge(race->gate, &race->challenge, &err);
        }
    }
    if (ret == 0) {
        race->won = true;
        race->winner = attempt->index;
        return;
    }
    remember(race, &err);
    start_next(race);
}

static void start_next(struct race *race)
{
    struct gate *gate = race->gate;
    char url[GATE_URL_MAX + 32], body[64];

    if (race->started == gate->url_count) {
        return;
    }
    size_t index = race->started++;
    struct attempt *attempt = &race->attempts[index];
    *attempt = (struct attempt){.race = race, .index = index};
    snprintf(url, sizeof(url), "%s/v1/challenge", gate->urls[index]);
    int len = snprintf(body, sizeof(body), "{\"reservation\":%" PRIu64 "}", gate->reservation);
    struct http_request request = {.url = url,
                                   .body = body,
                                   .body_len = (size_t)len,
                                   .timeout_us = ANSWER_US,
                                   .connect_timeout_us = CONNECT_US,
                                   .max_body = BODY_MAX,
                                   .pinned_key = gate->node.tls_key_hash,
                                   .flags = HTTP_NO_REDIRECT,
                                   .done = on_challenge,
                                   .user = attempt};
    if (http_request_start(gate->http, &request, &attempt->transfer) < 0) {
        race->ended++;
    }
    loop_timer_set(race->next, loop_clock() + LEAD_US);
}

static void on_lead(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct race *race = data;
    if (!race->won) {
        start_next(race);
    }
}

static void on_patience(struct loop_timer *timer, void *data)
{
    (void)timer;
    ((struct race *)data)->failed = true;
}

static int run_race(struct race *race, struct error *err)
{
    struct gate *gate = race->gate;
    struct loop_timer *patience = NULL;
    int ret = loop_timer_add(gate->grid->loop, on_lead, race, &race->next);

    if (ret == 0) {
        ret = loop_timer_add(gate->grid->loop, on_patience, race, &patience);
    }
    if (ret == 0) {
        loop_timer_set(patience, loop_clock() + gate->patience_us);
        start_next(race);
    }
    while (ret == 0 && !race->won && !race->failed &&
           (race->ended < race->started || race->started < gate->url_count)) {
        ret = loop_step(gate->grid->loop, -1);
        ret = ret > 0 ? 0 : ret;
    }
    for (size_t i = 0; i < race->started; i++) {
        http_transfer_cancel(race->attempts[i].transfer);
    }
    loop_timer_del(race->next);
    loop_timer_del(patience);
    if (ret < 0) {
        return error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret));
    }
    if (race->won) {
        return 0;
    }
    if (!error_is_set(&race->err)) {
        return error_set(err, ETIMEDOUT, "gate.timeout", "",
                         "no address of node %" PRIu64 " answered in time", gate->node.number);
    }
    *err = race->err;
    return strcmp(err->code, "gate.timeout") == 0 ? -ETIMEDOUT : -EHOSTUNREACH;
}

int gate_authorize(struct gate *gate, const char *method, char ret_header[GATE_HEADER_MAX],
                   struct error *err)
{
    struct race race = {.gate = gate};
    uint8_t signature[GRID_ACCESS_SIGNATURE];
    char value[GRID_ACCESS_HEADER_MAX];

    int ret = run_race(&race, err);
    if (ret < 0) {
        return ret;
    }
    if (race.winner > 0) {
        memcpy(gate->urls[0], gate->urls[race.winner], sizeof(gate->urls[0]));
    }
    gate->url_count = 1;
    ret = grid_access_sign(&race.challenge, method, gate->grid->key, signature);
    if (ret < 0) {
        return error_set(err, -ret, "cli.failed", "", "the challenge cannot be signed");
    }
    grid_access_header_format(race.challenge.nonce, signature, value);
    snprintf(ret_header, GATE_HEADER_MAX, "Authorization: %s", value);
    return 0;
}

/* ---- calls ---- */

struct call {
    struct gate *gate;
    struct http_transfer *transfer;
    bool over;
    int ret;
    struct error *err;
    struct buffer answer;
    http_data_fn *data;
    void *user;
    struct loop_timer *quiet;
    uint64_t quiet_us;
    struct gate_start start;
};

/* While the transfer is there. */
static void look_at_head(struct call *call)
{
    const char *at;

    if (call->transfer != NULL) {
        call->start.begun = http_transfer_head(call->transfer, AT_HEADER, &at) == 200;
        if (strlen(at) < sizeof(call->start.at)) {
            memcpy(call->start.at, at, strlen(at) + 1);
        }
    }
}

static void on_answer(const struct http_response *response, const struct error *cause, void *user)
{
    struct call *call = user;
    const char *body = (const char *)response->body;

    look_at_head(call);
    call->transfer = NULL;
    call->over = true;
    if (cause != NULL) {
        call->ret = error_is_set(call->err) ? -ECANCELED /* the sink has said why */
                                            : transport_error(call->gate, cause, true, call->err);
    } else if (response->status != 200) {
        call->ret = gate_refusal(response->status, body, response->body_len, call->err);
    } else if (call->data == NULL) {
        call->ret = buffer_append(&call->answer, body, response->body_len);
    }
}

static int on_piece(const void *data, size_t len, void *user)
{
    struct call *call = user;
    loop_timer_set(call->quiet, loop_clock() + call->quiet_us);
    return call->data(data, len, call->user);
}

static void on_quiet(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct call *call = data;
    call->over = true;
    call->ret =
        error_set(call->err, ECONNRESET, "gate.lost", "try again",
                  "nothing was heard of the gate for %u s", (unsigned)(call->quiet_us / 1000000));
}

/* Runs the request to its end; call->ret and *err tell how it ended. */
static int run_call(struct gate *gate, const char *method, const char *path, const char *body,
                    struct call *call, struct error *err)
{
    char header[GATE_HEADER_MAX];
    const char *headers[] = {header, NULL};
    struct buffer url;

    int ret = gate_authorize(gate, method, header, err);
    if (ret < 0) {
        return ret;
    }
    buffer_init(&url, 0);
    ret = buffer_printf(&url, "%s%s", gate->urls[0], path);
    struct http_request request = {
        .url = (const char *)url.data,
        .body = body,
        .body_len = body != NULL ? strlen(body) : 0,
        .headers = headers,
        .timeout_us = call->data != NULL ? UINT64_MAX : gate->answer_us,
        .connect_timeout_us = CONNECT_US,
        .stall_timeout_us = UINT64_MAX,
        .max_body = call->data != NULL ? UINT64_MAX : ANSWER_MAX,
        .pinned_key = gate->node.tls_key_hash,
        .flags = HTTP_NO_REDIRECT,
        .data = call->data != NULL ? on_piece : NULL,
        .done = on_answer,
        .user = call,
    };
    call->gate = gate;
    call->err = err;
    if (ret >= 0 && call->data != NULL) {
        ret = loop_timer_add(gate->grid->loop, on_quiet, call, &call->quiet);
    }
    if (ret >= 0) {
        ret = http_request_start(gate->http, &request, &call->transfer);
    }
    if (ret >= 0 && call->quiet != NULL) {
        loop_timer_set(call->quiet, loop_clock() + call->quiet_us);
    }
    while (ret >= 0 && !call->over) {
        ret = loop_step(gate->grid->loop, -1);
    }
    if (ret < 0) {
        call->ret = error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret));
    }
    look_at_head(call);
    http_transfer_cancel(call->transfer);
    loop_timer_del(call->quiet);
    buffer_done(&url);
    return call->ret < 0 ? call->ret : 0;
}

int gate_call(struct gate *gate, const char *method, const char *path, const char *body,
              yyjson_doc **ret_answer, struct error *err)
{
    struct call call = {0};

    buffer_init(&call.answer, ANSWER_MAX);
    int ret = run_call(gate, method, path, body, &call, err);
    if (ret == 0) {
        *ret_answer = json_parse(call.answer.len > 0 ? (const char *)call.answer.data : "",
                                 call.answer.len, ANSWER_MAX, "gate.bad-answer", err);
        if (*ret_answer != NULL && !yyjson_is_obj(yyjson_doc_get_root(*ret_answer))) {
            yyjson_doc_free(*ret_answer);
            *ret_answer = NULL;
            error_set(err, EBADMSG, "gate.bad-answer", "", "the gate's answer is no object");
        }
        ret = *ret_answer != NULL ? 0 : -EBADMSG;
    }
    buffer_done(&call.answer);
    return ret;
}

int gate_stream(struct gate *gate, const char *method, const char *path, uint64_t quiet_us,
                http_data_fn *data, void *user, struct gate_start *ret_start, struct error *err)
{
    struct call call = {.data = data, .user = user, .quiet_us = quiet_us};
    int ret = run_call(gate, method, path, NULL, &call, err);
    *ret_start = call.start;
    return ret;
}
