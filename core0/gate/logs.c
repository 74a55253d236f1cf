/*
 * logs.c - a container's log to many readers.
 *
 * A follower is a place in the log and a stream to its reader. It reads pages from contd, the next one when the reader has taken the
 * last, until it is level; then it lives on what its tap brings. A tap is one GetLog that follows an instance, however many followers
 * there are. A follower that cannot take what the tap brings, or has missed something, reads pages again: so a slow reader costs a
 * page of memory and loses nothing, and a contd that was replaced in between loses nothing either.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "lib/log.h"

#define PAGE ((uint64_t)64 << 10)              /* bytes of log that a follower asks for at a time */
#define FOLLOWERS_MAX 2048                     /* on the node */
#define FOLLOWERS_PER_CALLER 1100              /* of one address, so that no tenant has them all */
#define KEEP_ALIVE_US (10 * UINT64_C(1000000)) /* readers that wait are looked after */
#define AGAIN_US UINT64_C(300000)              /* after contd was lost */
#define CALL_US (30 * UINT64_C(1000000))
#define NDJSON "application/x-ndjson"

struct instance {
    uint64_t reservation, revision;
    char service[SERVICE_NAME_MAX + 1];
};

struct tap {
    struct tap *next;
    struct gate *gate;
    struct instance instance;
    struct varlink_client *client;
    struct loop_timer *again;
    bool known;        /* contd has answered: position is valid */
    bool ended;        /* nothing is written any more */
    uint64_t position; /* up to which it has brought everything */
    unsigned users;
};

struct follower {
    struct follower *next;
    struct gate *gate;
    struct http_exchange *exchange;
    struct tap *tap;               /* NULL: does not follow */
    struct varlink_client *client; /* while a page is on its way */
    struct loop_timer *again;
    struct instance instance;
    uint8_t caller[20];
    int64_t tail;
    uint64_t since, position; /* 0: nothing was read yet, and nothing was named as read */
    bool begun;               /* the head of the answer was sent */
    bool level;               /* has all that the tap has brought */
    bool quiet;               /* nothing was sent since the last look of the keep-alive */
    bool finished;            /* the tap ended: the next empty page is the last */
    bool reread;              /* the page on its way was asked for before the tap ended */
};

static void follower_read(struct follower *follower);

/* ---- lines ---- */

static void append_line(struct buffer *out, uint64_t revision, yyjson_val *line)
{
    yyjson_val *text = yyjson_obj_get(line, "line");
    size_t len;
    char *json = yyjson_val_write(text, 0, &len);

    if (json != NULL)
        buffer_printf(out, "{\"time\":%llu,\"stream\":\"%s\",\"at\":\"%llu-%llu\",\"line\":%s}\n",
                      (unsigned long long)yyjson_get_uint(yyjson_obj_get(line, "time")),
                      yyjson_equals_str(yyjson_obj_get(line, "stream"), "stderr") ? "stderr"
                                                                                  : "stdout",
                      (unsigned long long)revision,
                      (unsigned long long)yyjson_get_uint(yyjson_obj_get(line, "position")), json);
    free(json);
}

/* Those behind `after`. */
static void append_lines(struct buffer *out, uint64_t revision, yyjson_val *lines, uint64_t after)
{
    yyjson_val *line;
    size_t i, max;

    yyjson_arr_foreach(lines, i, max, line)
    {
        if (yyjson_get_uint(yyjson_obj_get(line, "position")) > after)
            append_line(out, revision, line);
    }
}

/* ---- taps ---- */

static void tap_open(struct tap *tap);

static void tap_release(struct tap *tap)
{
    struct tap **at = &tap->gate->taps;

    if (--tap->users > 0)
        return;
    while (*at != NULL && *at != tap)
        at = &(*at)->next;
    if (*at != NULL)
        *at = tap->next;
    varlink_client_free(tap->client);
    loop_timer_del(tap->again);
    free(tap);
}

static void follower_free(struct follower *follower)
{
    struct follower **at = &follower->gate->followers;

    while (*at != NULL && *at != follower)
        at = &(*at)->next;
    if (*at != NULL)
        *at = follower->next;
    follower->gate->follower_count--;
    varlink_client_free(follower->client);
    loop_timer_del(follower->again);
    if (follower->tap != NULL)
        tap_release(follower->tap);
    free(follower);
}

static void follower_finish(struct follower *follower)
{
    struct http_exchange *exchange = follower->exchange;

    follower_free(follower);
    http_exchange_finish(exchange);
}

/* What the tap brought, to one who is level. */
static void follower_take(struct follower *follower, uint64_t from, uint64_t to,
                          const struct buffer *text)
{
    if (!follower->level)
        return;
    /* Behind, or ahead: a page of its own brought what the tap brings only now. A page from its own place is right for both. */
    if (follower->position != from || http_exchange_waiting(follower->exchange) > 0) {
        follower->level = false;
        if (http_exchange_waiting(follower->exchange) == 0)
            follower_read(follower);
        return; /* else on_drained reads */
    }
    if (http_exchange_write(follower->exchange, text->data, text->len) == 0) {
        follower->position = to;
        follower->quiet = false;
    } else {
        follower->level = false;
    }
}

static void tap_lost(struct tap *tap)
{
    tap->known = false;
    loop_timer_in(tap->again, AGAIN_US);
}

static void tap_answer(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct tap *tap = data;
    struct gate *gate = tap->gate;
    struct buffer text;
    bool first = !tap->known;
    uint64_t from = tap->position, to;

    if (err != NULL && strcmp(err->code, "container.absent") != 0) {
        tap_lost(tap);
        return;
    }
    tap->users++; /* the last follower may go meanwhile */
    buffer_init(&text, 0);
    to = err == NULL ? yyjson_get_uint(yyjson_obj_get(parameters, "position")) : from;
    tap->ended = !more;
    tap->known = true;
    tap->position = to;
    if (err == NULL)
        append_lines(&text, tap->instance.revision, yyjson_obj_get(parameters, "lines"),
                     first ? UINT64_MAX : from);
    for (struct follower *follower = gate->followers, *next; follower != NULL; follower = next) {
        next = follower->next;
        if (follower->tap != tap)
            continue;
        if (first || tap->ended) {
            follower->finished = tap->ended;
            follower->reread = follower->client != NULL;
            follower->level = false;
            if (http_exchange_waiting(follower->exchange) == 0)
                follower_read(follower);
        } else {
            follower_take(follower, from, to, &text);
        }
    }
    buffer_done(&text);
    tap_release(tap);
}

static void tap_open(struct tap *tap)
{
    char path[128];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = gate_parameters(&root);

    yyjson_mut_obj_add_uint(doc, root, "reservation", tap->instance.reservation);
    yyjson_mut_obj_add_uint(doc, root, "revision", tap->instance.revision);
    yyjson_mut_obj_add_strcpy(doc, root, "service", tap->instance.service);
    yyjson_mut_obj_add_int(doc, root, "tail", 0);
    yyjson_mut_obj_add_uint(doc, root, "since", 0);
    yyjson_mut_obj_add_bool(doc, root, "follow", true);
    varlink_client_free(tap->client);
    tap->client = NULL;
    tap->known = false;
    snprintf(path, sizeof(path), "%s/contd", tap->gate->opt.run);
    if (varlink_client_new(tap->gate->loop, path, &tap->client) < 0) {
        yyjson_mut_doc_free(doc);
        tap_lost(tap);
    } else if (varlink_client_call(tap->client, "org.croft.container.GetLog", doc, VARLINK_MORE, 0,
                                   tap_answer, tap) < 0) {
        tap_lost(tap);
    }
}

static void tap_again(struct loop_timer *timer, void *data)
{
    (void)timer;
    tap_open(data);
}

static bool instance_equal(const struct instance *a, const struct instance *b)
{
    return a->reservation == b->reservation && a->revision == b->revision &&
           strcmp(a->service, b->service) == 0;
}

static struct tap *tap_get(struct gate *gate, const struct instance *instance)
{
    for (struct tap *tap = gate->taps; tap != NULL; tap = tap->next) {
        if (!tap->ended && instance_equal(&tap->instance, instance)) {
            tap->users++;
            return tap;
        }
    }
    struct tap *tap = calloc(1, sizeof(*tap));
    if (tap == NULL || loop_timer_add(gate->loop, tap_again, tap, &tap->again) < 0) {
        free(tap);
        return NULL;
    }
    tap->gate = gate;
    tap->instance = *instance;
    tap->users = 1;
    tap->next = gate->taps;
    gate->taps = tap;
    tap_open(tap);
    return tap;
}

/* ---- pages ---- */

static void follower_drained(struct http_exchange *exchange, void *data);

/* Sends the head. With a place, where nothing was found to show: from there on nothing will be missed. */
static void follower_begin(struct follower *follower, uint64_t place)
{
    char line[80];

    follower->begun = true;
    if (place > 0) {
        snprintf(line, sizeof(line), GATE_AT_HEADER ": %llu-%llu\r\n",
                 (unsigned long long)follower->instance.revision, (unsigned long long)place);
        http_exchange_set_headers(follower->exchange, line);
    }
    http_exchange_stream(follower->exchange, 200, NDJSON, follower_drained, follower);
}

static void follower_page(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct follower *follower = data;
    struct buffer text;
    uint64_t position;

    (void)more;
    varlink_client_free(follower->client);
    follower->client = NULL;
    if (err != NULL && strcmp(err->code, "container.absent") == 0) {
        if (!follower->begun)
            follower_begin(follower, 0);
        follower_finish(follower); /* it was removed with its log */
        return;
    }
    if (err != NULL) {
        loop_timer_in(follower->again, AGAIN_US);
        return;
    }
    position = yyjson_get_uint(yyjson_obj_get(parameters, "position"));
    buffer_init(&text, 0);
    append_lines(&text, follower->instance.revision, yyjson_obj_get(parameters, "lines"), 0);
    bool some = position != follower->position;
    follower->position = position;
    if (!follower->begun)
        follower_begin(follower, text.len == 0 ? position : 0);
    if (text.len > 0) {
        follower->quiet = false;
        http_exchange_write(follower->exchange, text.data, text.len);
    }
    buffer_done(&text);
    if (some) {
        if (http_exchange_waiting(follower->exchange) == 0)
            follower_read(follower);
        return; /* else on_drained reads on */
    }
    if (follower->reread) {
        follower->reread = false;
        follower_read(follower);
    } else if (follower->tap == NULL || follower->finished)
        follower_finish(follower);
    else if (follower->tap->known && position < follower->tap->position)
        follower_read(follower);
    else
        follower->level = follower->tap->known;
}

static void follower_read(struct follower *follower)
{
    char path[128];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc;

    if (follower->client != NULL)
        return;
    doc = gate_parameters(&root);
    yyjson_mut_obj_add_uint(doc, root, "reservation", follower->instance.reservation);
    yyjson_mut_obj_add_uint(doc, root, "revision", follower->instance.revision);
    yyjson_mut_obj_add_strcpy(doc, root, "service", follower->instance.service);
    yyjson_mut_obj_add_int(doc, root, "tail", follower->position == 0 ? follower->tail : -1);
    yyjson_mut_obj_add_uint(doc, root, "since", follower->since);
    yyjson_mut_obj_add_bool(doc, root, "follow", false);
    yyjson_mut_obj_add_uint(doc, root, "after", follower->position);
    yyjson_mut_obj_add_uint(doc, root, "bytes", PAGE);
    snprintf(path, sizeof(path), "%s/contd", follower->gate->opt.run);
    if (varlink_client_new(follower->gate->loop, path, &follower->client) < 0) {
        yyjson_mut_doc_free(doc);
        loop_timer_in(follower->again, AGAIN_US);
    } else if (varlink_client_call(follower->client, "org.croft.container.GetLog", doc, 0, CALL_US,
                                   follower_page, follower) < 0) {
        varlink_client_free(follower->client);
        follower->client = NULL;
        loop_timer_in(follower->again, AGAIN_US);
    }
}

static void follower_again(struct loop_timer *timer, void *data)
{
    (void)timer;
    follower_read(data);
}

static void follower_drained(struct http_exchange *exchange, void *data)
{
    struct follower *follower = data;

    (void)exchange;
    if (!follower->level)
        follower_read(follower);
}

static void follower_gone(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    follower_free(data);
}

/* ---- the method ---- */

static bool has_room(const struct request *request)
{
    const struct gate *gate = request->gate;
    unsigned own = 0;

    for (const struct follower *f = gate->followers; f != NULL; f = f->next)
        own += memcmp(f->caller, request->address, sizeof(f->caller)) == 0;
    return gate->follower_count < FOLLOWERS_MAX && own < FOLLOWERS_PER_CALLER;
}

void logs_handle(struct request *request)
{
    struct gate *gate = request->gate;
    struct follower *follower = NULL;
    int64_t tail = -1, since = 0;
    bool follow = false;

    if (query_get_number(&request->query, "tail", 0, 1000000000, &tail) < 0 ||
        query_get_number(&request->query, "since", 0, INT64_C(1) << 52, &since) < 0 ||
        query_get_flag(&request->query, "follow", &follow) < 0) {
        request_fail_with(request, "gate.bad-request", "use croft logs",
                          "tail, since and follow are numbers");
        return;
    }
    if (!has_room(request)) {
        request_fail_with(request, "gate.busy", "end some, or try again later",
                          "too many logs are being read");
        return;
    }
    follower = calloc(1, sizeof(*follower));
    if (follower == NULL ||
        loop_timer_add(gate->loop, follower_again, follower, &follower->again) < 0) {
        free(follower);
        request_fail_with(request, "gate.busy", "try again later", "the node is out of memory");
        return;
    }
    follower->gate = gate;
    follower->tail = tail;
    follower->since = (uint64_t)since;
    follower->position = request->after;
    follower->instance.reservation = request->challenge.reservation;
    follower->instance.revision = request->revision;
    memcpy(follower->instance.service, request->service, sizeof(request->service));
    memcpy(follower->caller, request->address, sizeof(follower->caller));
    follower->next = gate->followers;
    gate->followers = follower;
    gate->follower_count++;
    follower->exchange = request_detach(request);
    http_exchange_set_gone(follower->exchange, follower_gone, follower);
    if (follow)
        follower->tap = tap_get(gate, &follower->instance);
    follower_read(follower); /* the head of the answer goes with the first page */
}

/* ---- readers that wait ---- */

/* Who got nothing since the last look gets an empty line, and is passed over at the next: so nobody goes without a byte for more than twice
 * KEEP_ALIVE_US, and the idle are written to half as often as they are looked at. */
static void keep_alive(struct loop_timer *timer, void *data)
{
    struct gate *gate = data;

    for (struct follower *f = gate->followers; f != NULL; f = f->next) {
        bool due = f->quiet && f->begun && http_exchange_waiting(f->exchange) == 0;
        f->quiet = !due || http_exchange_write(f->exchange, "\n", 1) < 0;
    }
    loop_timer_in(timer, KEEP_ALIVE_US);
}

int logs_start(struct gate *gate)
{
    int r = loop_timer_add(gate->loop, keep_alive, gate, &gate->keep_alive);

    if (r == 0)
        loop_timer_in(gate->keep_alive, KEEP_ALIVE_US);
    return r;
}
