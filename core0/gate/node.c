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

/*
 * A place in it, "BOOT-POSITION", is the sequence of the next line in core0's ring, and which boot that ring is of: the first 48 bits
 * of the boot id (all random), as a number, so that a place consists of digits as a container's does.
 *
 * core0 is asked once for all that comes. A reader that does not take it is not kept up with: the call is given up, and made again
 * from the first line that was not sent once he has taken what was.
 */
#define BOOT_DIGITS 12
#define BOOT_MAX ((UINT64_C(1) << 48) - 1)
#define POSITION_MAX (UINT64_C(1) << 52)
#define NOWHERE UINT64_MAX

struct node_log {
    struct node_log *next;
    struct gate *gate;
    struct http_exchange *exchange;
    struct varlink_client *client; /* NULL: the reader has to take what was sent first */
    struct loop_timer *keep_alive;
    char service[SERVICE_NAME_MAX + 1];
    int64_t tail;
    uint64_t boot; /* of the place that was asked for, then of every answer; 0: not known yet */
    uint64_t from; /* sequence of the next line; NOWHERE: the tail is asked for */
    bool follow;
    bool pages; /* not followed, and asked for from a place: answer by answer until nothing comes */
    bool begun; /* the head of the answer was sent */
};

static void log_read(struct node_log *log);

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

static void log_fail(struct node_log *log, int status, const struct error *err)
{
    struct http_exchange *exchange = log->exchange;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = gate_parameters(&root);
    char *text;
    size_t len;

    yyjson_mut_obj_add_strcpy(doc, root, "code", err->code);
    yyjson_mut_obj_add_strcpy(doc, root, "message", err->message);
    yyjson_mut_obj_add_strcpy(doc, root, "hint", err->hint);
    text = yyjson_mut_write(doc, 0, &len);
    yyjson_mut_doc_free(doc);
    http_exchange_set_gone(exchange, NULL, NULL);
    log_free(log);
    http_exchange_reply(exchange, status, "application/json", text != NULL ? text : "{}",
                        text != NULL ? len : 2);
    free(text);
}

/* Before the head is sent the reader is told why; then he sees that the end is missing, and may ask again. */
static void log_break(struct node_log *log, const struct error *err)
{
    struct http_exchange *exchange = log->exchange;

    if (!log->begun) {
        log_fail(log, strcmp(err->code, "core.no-service") == 0 ? 404 : 503, err);
        return;
    }
    http_exchange_set_gone(exchange, NULL, NULL);
    log_free(log);
    http_exchange_abort(exchange);
}

static void log_drained(struct http_exchange *exchange, void *data)
{
    struct node_log *log = data;

    (void)exchange;
    if (log->client == NULL)
        log_read(log);
}

/* "lost": so many lines before this one were not kept until they could be read. */
static void append_line(struct node_log *log, struct buffer *out, yyjson_val *line)
{
    uint64_t sequence = yyjson_get_uint(yyjson_obj_get(line, "sequence"));
    size_t len;
    char *json = yyjson_val_write(yyjson_obj_get(line, "text"), 0, &len);

    if (json != NULL) {
        buffer_printf(out, "{\"time\":%llu,\"level\":%d,\"at\":\"%llu-%llu\",",
                      (unsigned long long)yyjson_get_uint(yyjson_obj_get(line, "time")),
                      (int)yyjson_get_int(yyjson_obj_get(line, "level")),
                      (unsigned long long)log->boot, (unsigned long long)sequence + 1);
        if (sequence > log->from)
            buffer_printf(out, "\"lost\":%llu,", (unsigned long long)(sequence - log->from));
        buffer_printf(out, "\"line\":%s}\n", json);
    }
    free(json);
    log->from = sequence + 1;
}

static uint64_t boot_number(yyjson_val *parameters)
{
    const char *id = yyjson_get_str(yyjson_obj_get(parameters, "bootId"));
    char digits[BOOT_DIGITS + 1];

    snprintf(digits, sizeof(digits), "%s", id != NULL ? id : "");
    return strtoull(digits, NULL, 16);
}

/* Checks the place against what core0 has, and sends the head with the place from which the log is read. False: it was refused. */
static bool log_begin(struct node_log *log, yyjson_val *parameters)
{
    uint64_t boot = boot_number(parameters);
    uint64_t next = yyjson_get_uint(yyjson_obj_get(parameters, "next"));
    yyjson_val *first = yyjson_arr_get_first(yyjson_obj_get(parameters, "lines"));
    struct error err = {0};
    char line[80];

    if (log->from == NOWHERE) {
        log->from = first != NULL ? yyjson_get_uint(yyjson_obj_get(first, "sequence")) : next;
    } else if (log->boot != boot) {
        error_set(&err, ESTALE, "gate.other-boot", "ask without after for the log of this boot",
                  "the node was started anew since: the log of then is gone");
        log_fail(log, gate_status_of(err.code), &err);
        return false;
    } else if (log->from > next) {
        error_set(&err, EINVAL, "gate.bad-request", "give what stands as \"at\" in an entry",
                  "after is no place in this log");
        log_fail(log, gate_status_of(err.code), &err);
        return false;
    }
    log->boot = boot;
    log->begun = true;
    snprintf(line, sizeof(line), GATE_AT_HEADER ": %llu-%llu\r\n", (unsigned long long)boot,
             (unsigned long long)log->from);
    http_exchange_set_headers(log->exchange, line);
    http_exchange_stream(log->exchange, 200, NDJSON, log_drained, log);
    return true;
}

static void log_finish(struct node_log *log)
{
    struct http_exchange *exchange = log->exchange;

    http_exchange_set_gone(exchange, NULL, NULL);
    log_free(log);
    http_exchange_finish(exchange);
}

static void log_answer(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct node_log *log = data;
    yyjson_val *line;
    struct buffer text;
    size_t i, max;

    if (err != NULL) {
        log_break(log, err);
        return;
    }
    if (!log->begun && !log_begin(log, parameters))
        return;
    uint64_t before = log->from;
    buffer_init(&text, 0);
    yyjson_arr_foreach(yyjson_obj_get(parameters, "lines"), i, max, line)
    {
        append_line(log, &text, line);
    }
    bool some = text.len > 0;
    bool taken = http_exchange_write(log->exchange, text.data, text.len) == 0;
    buffer_done(&text);
    if (!taken && http_exchange_waiting(log->exchange) == 0) {
        struct error none = {0};

        error_set(&none, ENOMEM, "gate.not-ready", "try again", "the node is out of memory");
        log_break(log, &none);
        return;
    }
    if (!taken)
        log->from = before;
    if (!taken || (log->pages && some)) {
        varlink_client_free(log->client);
        log->client = NULL; /* log_drained goes on */
    } else if (!more) {
        log_finish(log);
    }
}

/* Asks core0, for what comes behind the last line that was sent. */
static void log_read(struct node_log *log)
{
    struct error err = {0};
    char path[128];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = gate_parameters(&root);

    yyjson_mut_obj_add_strcpy(doc, root, "service", log->service);
    if (log->from != NOWHERE)
        yyjson_mut_obj_add_uint(doc, root, "from", log->from);
    else
        yyjson_mut_obj_add_int(doc, root, "tail", log->tail);
    snprintf(path, sizeof(path), "%s/core0", log->gate->opt.run);
    int r = varlink_client_new(log->gate->loop, path, &log->client);
    if (r < 0)
        yyjson_mut_doc_free(doc);
    else
        r = varlink_client_call(log->client, "org.croft.core.GetLog", doc,
                                log->follow ? VARLINK_MORE : 0, 0, log_answer, log);
    if (r < 0) {
        error_set(&err, ENOMEM, "gate.not-ready", "try again", "the node is out of memory");
        log_break(log, &err);
    }
}

/* 0, or -EINVAL and the request was answered. */
static int log_options(struct request *request, struct node_log *log)
{
    const char *service = query_get(&request->query, "service");
    int after = query_get_place(&request->query, "after", BOOT_MAX, 0, &log->boot, &log->from);

    if (query_get_number(&request->query, "tail", 0, 1000000, &log->tail) < 0 ||
        query_get_flag(&request->query, "follow", &log->follow) < 0) {
        request_fail_with(request, "gate.bad-request", "use croft node logs",
                          "tail and follow are numbers");
        return -EINVAL;
    }
    if (after < 0 || (after > 0 && log->from > POSITION_MAX)) {
        request_fail_with(request, "gate.bad-request", "give what stands as \"at\" in an entry",
                          "after is no place in this log");
        return -EINVAL;
    }
    service = service != NULL && service[0] != '\0' ? service : "core0";
    if ((size_t)snprintf(log->service, sizeof(log->service), "%s", service) >=
        sizeof(log->service)) {
        request_fail_with(request, "gate.not-found", "croft node show lists its services",
                          "the node has no such service");
        return -EINVAL;
    }
    log->pages = after > 0 && !log->follow;
    return 0;
}

void node_log_handle(struct request *request)
{
    struct gate *gate = request->gate;
    struct node_log given = {.gate = gate, .tail = 1000, .from = NOWHERE};
    unsigned count = 0;

    if (log_options(request, &given) < 0)
        return;
    for (const struct node_log *other = gate->node_logs; other != NULL; other = other->next)
        count++;
    struct node_log *log = count < NODE_LOGS_MAX ? malloc(sizeof(*log)) : NULL;
    if (log != NULL)
        *log = given;
    if (log == NULL || loop_timer_add(gate->loop, log_keep_alive, log, &log->keep_alive) < 0) {
        free(log);
        request_fail_with(request, "gate.busy", "end one of them, or try again later",
                          "the node's log is being read by too many");
        return;
    }
    loop_timer_in(log->keep_alive, KEEP_ALIVE_US);
    log->next = gate->node_logs;
    gate->node_logs = log;
    log->exchange = request_detach(request);
    http_exchange_set_gone(log->exchange, log_gone, log);
    log_read(log);
}
