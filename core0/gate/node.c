/*
 * node.c - what a farmer sees of his machine: how it is, and its own log. Of what tenants run there he sees numbers and states.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"

#define KEEP_ALIVE_US (20 * UINT64_C(1000000))
#define NODE_LOGS_MAX 8 /* read at a time */
#define NDJSON "application/x-ndjson"

/* ---- how it is ---- */

/* Each daemon is asked once, and answers with what it may be asked by anybody on the node. */
static const struct {
    const char *member, *program, *method,
        *part; /* part: only that member of the answer; NULL: all */
} parts[] = {
    {"core", "core0", "org.croft.core.GetStatus", NULL},
    {"services", "core0", "org.croft.core.ListServices", "services"},
    {"node", "noded", "org.croft.node.GetStatus", NULL},
    {"storage", "storaged", "org.croft.storage.GetStatus", NULL},
    {"net", "netd", "org.croft.net.GetStatus", NULL},
    {"provision", "provd", "org.croft.provision.GetStatus", NULL},
    {"reservations", "provd", "org.croft.provision.List", "entries"},
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

static void ask_next(struct request *request);

/* A tenant's project, services and address are not the farmer's business. */
static yyjson_mut_val *without_tenants(yyjson_mut_doc *doc, yyjson_val *entries)
{
    static const char *const kept[] = {"reservation", "revision", "chainState", "step", "reason"};
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_val *entry;
    size_t i, max;

    yyjson_arr_foreach(entries, i, max, entry)
    {
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);

        for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++)
            yyjson_mut_obj_add_val(doc, item, kept[k],
                                   yyjson_val_mut_copy(doc, yyjson_obj_get(entry, kept[k])));
    }
    return list;
}

static void take_part(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_doc *doc = request->answer;
    const char *part = parts[request->step].part;
    yyjson_val *value = part != NULL ? yyjson_obj_get(parameters, part) : parameters;
    yyjson_mut_val *copy = part != NULL && strcmp(part, "entries") == 0
                               ? without_tenants(doc, value)
                               : yyjson_val_mut_copy(doc, value);

    yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), parts[request->step].member, copy);
    request->step++;
    ask_next(request);
}

static void ask_next(struct request *request)
{
    if (request->step < PARTS) {
        request_call(request, parts[request->step].program, parts[request->step].method, NULL,
                     take_part);
        return;
    }
    yyjson_mut_doc *doc = request->answer;
    request->answer = NULL;
    request_reply(request, doc);
}

void node_handle(struct request *request)
{
    yyjson_mut_val *root;

    request->answer = gate_parameters(&root);
    ask_next(request);
}

/* ---- its log ---- */

struct node_log {
    struct node_log *next;
    struct gate *gate;
    struct http_exchange *exchange;
    struct varlink_client *client;
    struct loop_timer *keep_alive;
    bool begun; /* the head of the answer was sent */
};

static void log_free(struct node_log *log)
{
    struct node_log **at = &log->gate->node_logs;

    while (*at != NULL && *at != log)
        at = &(*at)->next;
    if (*at != NULL)
        *at = log->next;
    varlink_client_free(log->client);
    loop_timer_del(log->keep_alive);
    free(log);
}

/* So that a reader who waits knows that the node is there, and we that he is. */
static void log_keep_alive(struct loop_timer *timer, void *data)
{
    struct node_log *log = data;

    if (log->begun && http_exchange_waiting(log->exchange) == 0)
        http_exchange_write(log->exchange, "\n", 1);
    loop_timer_in(timer, KEEP_ALIVE_US);
}

static void log_gone(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    log_free(data);
}

static void log_fail(struct node_log *log, const struct error *err)
{
    struct http_exchange *exchange = log->exchange;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = gate_parameters(&root);
    bool unknown = strcmp(err->code, "core.no-service") == 0;
    char *text;
    size_t len;

    yyjson_mut_obj_add_strcpy(doc, root, "code", err->code);
    yyjson_mut_obj_add_strcpy(doc, root, "message", err->message);
    yyjson_mut_obj_add_strcpy(doc, root, "hint", err->hint);
    text = yyjson_mut_write(doc, 0, &len);
    yyjson_mut_doc_free(doc);
    http_exchange_set_gone(exchange, NULL, NULL);
    log_free(log);
    http_exchange_reply(exchange, unknown ? 404 : 503, "application/json",
                        text != NULL ? text : "{}", text != NULL ? len : 2);
    free(text);
}

static void append_line(struct buffer *out, yyjson_val *line)
{
    size_t len;
    char *json = yyjson_val_write(yyjson_obj_get(line, "text"), 0, &len);

    if (json != NULL)
        buffer_printf(out, "{\"time\":%llu,\"level\":%d,\"line\":%s}\n",
                      (unsigned long long)yyjson_get_uint(yyjson_obj_get(line, "time")),
                      (int)yyjson_get_int(yyjson_obj_get(line, "level")), json);
    free(json);
}

/* core0 drops what a slow reader does not take; the numbers of its lines would show the gap. A reader that is a stream behind is let go. */
static void log_answer(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct node_log *log = data;
    struct buffer text;
    yyjson_val *line;
    size_t i, max;

    if (err != NULL && !log->begun) {
        log_fail(log, err);
        return;
    }
    struct http_exchange *exchange = log->exchange;
    if (!log->begun) {
        log->begun = true;
        http_exchange_stream(exchange, 200, NDJSON, NULL, NULL);
    }
    buffer_init(&text, 0);
    yyjson_arr_foreach(yyjson_obj_get(parameters, "lines"), i, max, line)
    {
        append_line(&text, line);
    }
    bool ok = text.len == 0 || http_exchange_write(exchange, text.data, text.len) == 0;
    buffer_done(&text);
    if (!ok || !more || err != NULL) {
        http_exchange_set_gone(exchange, NULL, NULL);
        log_free(log);
        http_exchange_finish(exchange);
    }
}

void node_log_handle(struct request *request)
{
    struct gate *gate = request->gate;
    const char *service = query_get(&request->query, "service");
    int64_t tail = 1000;
    bool follow = false;
    char path[128];
    unsigned count = 0;
    yyjson_mut_val *root;

    for (const struct node_log *other = gate->node_logs; other != NULL; other = other->next)
        count++;
    if (query_get_number(&request->query, "tail", 0, 1000000, &tail) < 0 ||
        query_get_flag(&request->query, "follow", &follow) < 0) {
        request_fail_with(request, "gate.bad-request", "use croft node logs",
                          "tail and follow are numbers");
        return;
    }
    struct node_log *log = count < NODE_LOGS_MAX ? calloc(1, sizeof(*log)) : NULL;
    snprintf(path, sizeof(path), "%s/core0", gate->opt.run);
    if (log == NULL || loop_timer_add(gate->loop, log_keep_alive, log, &log->keep_alive) < 0 ||
        varlink_client_new(gate->loop, path, &log->client) < 0) {
        if (log != NULL)
            loop_timer_del(log->keep_alive);
        free(log);
        request_fail_with(request, "gate.busy", "end one of them, or try again later",
                          "the node's log is being read by too many");
        return;
    }
    yyjson_mut_doc *doc = gate_parameters(&root);
    yyjson_mut_obj_add_strcpy(doc, root, "service",
                              service != NULL && service[0] != '\0' ? service : "core0");
    yyjson_mut_obj_add_int(doc, root, "tail", tail);
    loop_timer_in(log->keep_alive, KEEP_ALIVE_US);
    log->gate = gate;
    log->next = gate->node_logs;
    gate->node_logs = log;
    log->exchange = request_detach(request);
    http_exchange_set_gone(log->exchange, log_gone, log);
    if (varlink_client_call(log->client, "org.croft.core.GetLog", doc, follow ? VARLINK_MORE : 0, 0,
                            log_answer, log) < 0) {
        struct error err = {0};

        error_set(&err, ENOMEM, "gate.not-ready", "try again", "the node is out of memory");
        log_fail(log, &err);
    }
}
