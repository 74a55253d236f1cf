/*
 * heads.c - new blocks, by subscription or by asking.
 *
 * States: CONNECTING (a WebSocket is being opened) → SUBSCRIBED (eth_subscribe was answered) → back to WAITING when the connection
 * ends, then the next endpoint. Whenever it is not SUBSCRIBED a poll timer asks over HTTP. One timer drives everything that has a
 * deadline. Packets that just stay away are noticed after a ping, its pong and a poll: PING_INTERVAL + PONG_TIMEOUT +
 * ANSWER_TIMEOUT at the latest, which has to stay below 15 s.
 */
#include "lib/eth/heads.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/crypto/text.h"
#include "lib/http/ws.h"
#include "lib/json.h"

#define SECOND ((uint64_t)1000000)
#define CONNECT_TIMEOUT (3 * SECOND)
#define PING_INTERVAL (3 * SECOND)
#define PONG_TIMEOUT (3 * SECOND)
#define POLL_INTERVAL (5 * SECOND)
#define ANSWER_TIMEOUT (4 * SECOND) /* of a poll, until the chain counts as away */
#define RECONNECT_MIN (1 * SECOND)
#define RECONNECT_MAX (30 * SECOND)
#define SILENCE (30 * SECOND) /* without a head: is the subscription still alive? */
#define SUBSCRIBE_ID 1

enum state { WAITING, CONNECTING, SUBSCRIBED };

struct eth_heads {
    struct loop *loop;
    struct eth_rpc *rpc;
    struct loop_timer *timer;
    struct ws *ws;
    struct eth_rpc_request *request; /* a poll or a check that is under way */
    eth_heads_fn *fn;
    eth_heads_state_fn *state_fn;
    void *data;
    enum state state;
    size_t endpoint;
    uint64_t backoff;
    uint64_t connect_at, poll_at, answer_by, ping_at, pong_by, silent_at; /* 0: not due */
    uint64_t messages;
    uint64_t number;
    uint8_t hash[32];
    bool known; /* number and hash are of a head that was told */
    bool first; /* tell the next head even if it is the one before */
    bool told, told_reachable, told_subscribed;
};

static void on_timer(struct loop_timer *timer, void *data);
static void poll_now(struct eth_heads *heads);

static void arm(struct eth_heads *heads)
{
    const uint64_t times[] = {heads->connect_at, heads->poll_at, heads->answer_by,
                              heads->ping_at,    heads->pong_by, heads->silent_at};
    uint64_t soonest = UINT64_MAX;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        if (times[i] != 0 && times[i] < soonest)
            soonest = times[i];
    }
    if (soonest == UINT64_MAX)
        loop_timer_stop(heads->timer);
    else
        loop_timer_set(heads->timer, soonest);
}

static void tell_state(struct eth_heads *heads, bool reachable, const struct error *err)
{
    bool subscribed = heads->state == SUBSCRIBED;
    if (heads->told && heads->told_reachable == reachable && heads->told_subscribed == subscribed)
        return;
    heads->told = true;
    heads->told_reachable = reachable;
    heads->told_subscribed = subscribed;
    if (heads->state_fn != NULL)
        heads->state_fn(reachable, subscribed, err, heads->data);
}

/* A block's header as JSON, from either way. */
static int take_head(struct eth_heads *heads, yyjson_val *block)
{
    uint64_t number;
    uint8_t hash[32];
    if (eth_rpc_quantity(yyjson_obj_get(block, "number"), &number) < 0 ||
        eth_rpc_bytes(yyjson_obj_get(block, "hash"), hash, 32) < 0)
        return -EBADMSG;
    heads->silent_at = heads->state == SUBSCRIBED ? loop_clock() + SILENCE : 0;
    if (heads->known && !heads->first && memcmp(hash, heads->hash, 32) == 0)
        return 0;
    heads->known = true;
    heads->first = false;
    heads->number = number;
    memcpy(heads->hash, hash, 32);
    heads->fn(number, hash, heads->data);
    return 0;
}

/* ---- over HTTP ---- */

static void disconnect(struct eth_heads *heads)
{
    ws_free(heads->ws);
    heads->ws = NULL;
    heads->state = WAITING;
    heads->ping_at = heads->pong_by = heads->silent_at = 0;
    heads->endpoint = (heads->endpoint + 1) % eth_rpc_endpoint_count(heads->rpc);
    heads->connect_at = loop_clock() + heads->backoff;
    heads->backoff = heads->backoff * 2 < RECONNECT_MAX ? heads->backoff * 2 : RECONNECT_MAX;
    heads->first = true;
    if (heads->poll_at == 0)
        heads->poll_at = loop_clock();
}

static void on_block(yyjson_val *block, const struct error *err, void *data)
{
    struct eth_heads *heads = data;
    heads->request = NULL;
    heads->answer_by = 0;
    if (heads->state != SUBSCRIBED)
        heads->poll_at = loop_clock() + POLL_INTERVAL;
    if (err != NULL) {
        tell_state(heads, heads->state == SUBSCRIBED, err);
        arm(heads);
        return;
    }
    /* a newer block than the subscription told means that it is deaf */
    uint64_t number;
    if (heads->state == SUBSCRIBED && heads->known && !heads->first &&
        eth_rpc_quantity(yyjson_obj_get(block, "number"), &number) == 0 &&
        number > heads->number + 1)
        disconnect(heads);
    tell_state(heads, true, NULL);
    arm(heads);
    /* while subscribed the subscription tells; an answer that crossed it may be older. Last: it may free us */
    if (heads->state != SUBSCRIBED || heads->first)
        take_head(heads, block);
}

static void poll_now(struct eth_heads *heads)
{
    heads->poll_at = 0;
    if (heads->request != NULL)
        return;
    if (eth_rpc_call(heads->rpc, -1, "eth_getBlockByNumber", "[\"latest\",false]", on_block, heads,
                     &heads->request) < 0)
        heads->poll_at = loop_clock() + POLL_INTERVAL;
    else
        heads->answer_by = loop_clock() + ANSWER_TIMEOUT;
}

/* The request goes on: an answer that comes later is as good. */
static void no_answer(struct eth_heads *heads)
{
    struct error err = {0};
    error_set(&err, ETIMEDOUT, "chain.unreachable", "",
              "the chain endpoint has not answered for %d seconds", (int)(ANSWER_TIMEOUT / SECOND));
    tell_state(heads, heads->state == SUBSCRIBED, &err);
}

/* ---- over WebSocket ---- */

static void on_subscribed(struct eth_heads *heads)
{
    heads->state = SUBSCRIBED;
    heads->backoff = RECONNECT_MIN;
    heads->poll_at = 0;
    heads->pong_by = 0; /* the answer came */
    heads->ping_at = loop_clock() + PING_INTERVAL;
    heads->silent_at = loop_clock() + SILENCE;
    heads->first = true;
    poll_now(heads); /* what happened while we did not listen */
    tell_state(heads, true, NULL);
}

static void on_message(struct eth_heads *heads, const char *text, size_t len)
{
    yyjson_doc *doc = json_parse(text, len, WS_MESSAGE_MAX, "chain.bad-answer", NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *method = yyjson_get_str(yyjson_obj_get(root, "method"));
    if (doc == NULL) {
        disconnect(heads);
    } else if (method != NULL && strcmp(method, "eth_subscription") == 0) {
        yyjson_val *params = yyjson_obj_get(root, "params");
        arm(heads);
        take_head(heads, yyjson_obj_get(params, "result"));
        yyjson_doc_free(doc);
        return; /* heads may be gone */
    } else if (yyjson_get_uint(yyjson_obj_get(root, "id")) == SUBSCRIBE_ID) {
        if (yyjson_is_str(yyjson_obj_get(root, "result")))
            on_subscribed(heads);
        else
            disconnect(heads); /* it serves no subscriptions */
    }
    yyjson_doc_free(doc);
    arm(heads);
}

static void on_ws(struct ws *ws, enum ws_event event, const char *text, size_t len,
                  const struct error *err, void *data)
{
    static const char subscribe[] =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_subscribe\",\"params\":[\"newHeads\"]}";
    struct eth_heads *heads = data;
    (void)err;
    if (event == WS_MESSAGE) {
        on_message(heads, text, len);
        return;
    }
    if (event == WS_OPEN) {
        heads->messages++;
        heads->pong_by = loop_clock() + PONG_TIMEOUT; /* for the answer to the subscription */
        if (ws_send(ws, subscribe, sizeof(subscribe) - 1) < 0)
            disconnect(heads);
    } else if (event == WS_PONG) {
        heads->pong_by = 0;
    } else if (event == WS_CLOSED) {
        disconnect(heads);
    }
    arm(heads);
}

/* The endpoint's WebSocket form in memory of the caller's. */
static char *ws_form(const char *url)
{
    char *form = NULL;
    const char *rest = strstr(url, "://");
    bool secure = strncasecmp(url, "https", 5) == 0 || strncasecmp(url, "wss", 3) == 0;
    if (asprintf(&form, "%s%s", secure ? "wss" : "ws", rest) < 0)
        return NULL;
    return form;
}

static void connect_now(struct eth_heads *heads)
{
    char *url = ws_form(eth_rpc_endpoint(heads->rpc, heads->endpoint));
    heads->connect_at = 0;
    heads->state = CONNECTING;
    struct ws_options options = {
        .url = url, .connect_timeout_us = CONNECT_TIMEOUT, .fn = on_ws, .user = heads};
    if (url == NULL || ws_new(heads->loop, &options, &heads->ws) < 0)
        disconnect(heads);
    free(url);
}

static bool due(uint64_t *at, uint64_t now)
{
    if (*at == 0 || *at > now)
        return false;
    *at = 0;
    return true;
}

static void on_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct eth_heads *heads = data;
    uint64_t now = loop_clock();
    if (due(&heads->pong_by, now))
        disconnect(heads);
    if (due(&heads->ping_at, now) && heads->ws != NULL) {
        if (ws_ping(heads->ws) == 0 && heads->pong_by == 0)
            heads->pong_by = now + PONG_TIMEOUT;
        heads->ping_at = now + PING_INTERVAL;
    }
    if (due(&heads->answer_by, now))
        no_answer(heads);
    if (due(&heads->silent_at, now)) {
        heads->silent_at = now + SILENCE;
        poll_now(heads);
    }
    if (due(&heads->connect_at, now))
        connect_now(heads);
    if (due(&heads->poll_at, now))
        poll_now(heads);
    arm(heads);
}

int eth_heads_new(struct loop *loop, struct eth_rpc *rpc, eth_heads_fn *fn,
                  eth_heads_state_fn *state_fn, void *data, struct eth_heads **ret_heads)
{
    struct eth_heads *heads = calloc(1, sizeof(*heads));
    if (heads == NULL)
        return -ENOMEM;
    int r = loop_timer_add(loop, on_timer, heads, &heads->timer);
    if (r < 0) {
        free(heads);
        return r;
    }
    heads->loop = loop;
    heads->rpc = rpc;
    heads->fn = fn;
    heads->state_fn = state_fn;
    heads->data = data;
    heads->backoff = RECONNECT_MIN;
    heads->connect_at = heads->poll_at = loop_clock();
    /* an endpoint that says ws is the first choice */
    for (size_t i = eth_rpc_endpoint_count(rpc); i-- > 0;) {
        if (strncasecmp(eth_rpc_endpoint(rpc, i), "ws", 2) == 0)
            heads->endpoint = i;
    }
    arm(heads);
    *ret_heads = heads;
    return 0;
}

void eth_heads_free(struct eth_heads *heads)
{
    if (heads == NULL)
        return;
    ws_free(heads->ws);
    eth_rpc_cancel(heads->request);
    loop_timer_del(heads->timer);
    free(heads);
}

uint64_t eth_heads_requests(const struct eth_heads *heads)
{
    return heads->messages;
}
