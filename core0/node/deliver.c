/*
 * deliver.c - gets the queue to the chain: through relays, or by itself, one message after the other.
 *
 * Until the registry has taken a message of this boot only one is under way: an older one of ours that a relay still holds may use
 * the same nonce, and then ours must be signed again before others follow it. Without a relay there is always one only, as the
 * account's nonce is that of the last mined transaction.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/fault.h"
#include "lib/http/url.h"
#include "lib/json.h"
#include "lib/log.h"
#include "node.h"

#define SECOND ((uint64_t)1000000)
#define REPEAT                                                                                     \
    (30 * SECOND) /* a relay that took it but did not bring it to the chain is told again */
#define RETRY_MAX (30 * SECOND)
#define RELAY_TIMEOUT (15 * SECOND)

static bool under_way(const struct queue_item *item, uint64_t now)
{
    return item->delivered_at != 0 && now - item->delivered_at <= REPEAT;
}

static struct queue_item *next_item(struct node *node)
{
    uint64_t now = loop_clock();
    bool alone = node->boot.relay_count == 0; /* pays itself: one after the other */
    struct queue_item *first = queue_first(&node->queue);
    if (node->joining && alone && under_way(&node->join, now))
        return NULL;
    if (node->joining && !under_way(&node->join, now) &&
        !(alone && first != NULL && under_way(first, now)))
        return &node->join;
    for (size_t i = 0; i < node->queue.count; i++) {
        struct queue_item *item = &node->queue.items[i];
        if (item->seen)
            continue;
        if (item->nonce == 0)
            return NULL;
        if (!under_way(item, now))
            return item;
        if (!node->queue.accepted || alone)
            return NULL;
    }
    return NULL;
}

static void retry_later(struct node *node)
{
    node->retry_backoff = node->retry_backoff * 2 < RETRY_MAX ? node->retry_backoff * 2 : RETRY_MAX;
    loop_timer_set(node->retry, loop_clock() + node->retry_backoff);
}

static void show(struct node *node, const struct error *err)
{
    if (strcmp(node->error.code, err->code) != 0)
        log_error(err, "relay");
    node_set_error(node, err);
    if (node->record.id == 0)
        node_set_state(node, NODE_UNREGISTERED, err->message);
}

/* {"code","message","hint"} of a relay that refuses. */
static void take_refusal(const struct http_response *response, struct error *err)
{
    yyjson_doc *doc = json_parse((const char *)response->body, response->body_len, 65536,
                                 "relay.bad-answer", NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *code = yyjson_get_str(yyjson_obj_get(root, "code"));
    const char *message = yyjson_get_str(yyjson_obj_get(root, "message"));
    const char *hint = yyjson_get_str(yyjson_obj_get(root, "hint"));
    if (code != NULL && strlen(code) <= ERROR_CODE_MAX && message != NULL)
        error_set(err, EPERM, code, hint != NULL ? hint : "", "%.300s", message);
    else
        error_set(err, EPROTO, "relay.bad-answer", "check croft.relay",
                  "the relay answered with status %d", response->status);
    yyjson_doc_free(doc);
}

void deliver_done(struct node *node, const struct error *err)
{
    bool join = node->delivering_nonce == 0;
    node->delivering = false;
    if (join && (!node->joining || (err != NULL && strncmp(err->code, "node.not-", 9) == 0)))
        err = NULL; /* approved or retired meanwhile: the next look tells */
    if (join)
        say_join_done(node, err);
    if (err != NULL) {
        show(node, err);
        if (join && !node->joining) { /* refused: what else there is to say does not wait for it */
            deliver_kick(node);
            return;
        }
        if (node->boot.relay_count > 0)
            node->relay = (node->relay + 1) % node->boot.relay_count;
        retry_later(node);
        return;
    }
    node->retry_backoff = SECOND / 2;
    for (size_t i = 0; !join && i < node->queue.count; i++) {
        if (node->queue.items[i].nonce == node->delivering_nonce) {
            fault_point("delivered.%s", grid_kinds[node->queue.items[i].message.kind].name);
            node->queue.items[i].delivered_at = loop_clock();
            node->queue.items[i].attempts++;
        }
    }
    if (strncmp(node->error.code, "relay.", 6) == 0 ||
        strcmp(node->error.code, "node.no-coin") == 0)
        node_set_error(node, NULL);
    node->backoff = SECOND / 5;
    chain_look_in(node, SECOND / 5);
    loop_timer_set(node->retry, loop_clock() + REPEAT + SECOND);
    deliver_kick(node);
}

static void on_relay(const struct http_response *response, const struct error *why, void *data)
{
    struct error err = {.code = ""};
    if (why != NULL)
        error_set(&err, EHOSTUNREACH, "relay.unreachable", "check croft.relay and the network",
                  "%s", why->message);
    else if (response->status / 100 != 2)
        take_refusal(response, &err);
    deliver_done(data, error_is_set(&err) ? &err : NULL);
}

static int post(struct node *node, const struct queue_item *item)
{
    struct buffer body;
    char url[1024];
    const char *base = node->boot.relays[node->relay];
    size_t len = strlen(base);
    buffer_init(&body, (size_t)2 * GRID_MESSAGE_MAX);
    snprintf(url, sizeof(url), "%s%sv1/%s", base, len > 0 && base[len - 1] == '/' ? "" : "/",
             grid_kinds[item->message.kind].name);
    int r = grid_message_to_json(&item->message, &body);
    if (r >= 0) {
        struct http_request request = {
            .url = url,
            .body = body.data,
            .body_len = body.len,
            .timeout_us = RELAY_TIMEOUT,
            .max_body = 65536,
            .done = on_relay,
            .user = node,
            .flags = HTTP_NO_REDIRECT,
        };
        r = http_request_start(node->http, &request, NULL);
    }
    buffer_done(&body);
    return r;
}

void deliver_kick(struct node *node)
{
    struct error err = {.code = ""};
    if (node->delivering || node->state == NODE_STOPPED)
        return;
    struct queue_item *item = next_item(node);
    if (item == NULL)
        return;
    node->delivering_nonce = item->nonce; /* a join: 0 */
    if (node->boot.relay_count == 0) {
        node->delivering = true; /* first: it may end at once */
        if (deliver_self(node, item) < 0) {
            node->delivering = false;
            retry_later(node);
        }
        return;
    }
    const char *url = node->boot.relays[node->relay];
    if (node->boot.run_mode != 2 && strncasecmp(url, "https:", 6) != 0 && !url_is_loopback(url)) {
        error_set(&err, EPERM, "relay.plain-refused", "use https, or runmode=dev",
                  "the relay is not encrypted");
        show(node, &err);
        return;
    }
    int r = post(node, item);
    if (r < 0) {
        error_set(&err, -r, "relay.unreachable", "check croft.relay",
                  "the relay's address is no URL");
        show(node, &err);
        retry_later(node);
        return;
    }
    node->delivering = true;
}

static void on_retry(struct loop_timer *timer, void *data)
{
    (void)timer;
    deliver_kick(data);
}

int deliver_start(struct node *node)
{
    node->retry_backoff = SECOND / 2;
    int r = http_client_new(node->loop, NULL, &node->http);
    return r < 0 ? r : loop_timer_add(node->loop, on_retry, node, &node->retry);
}
