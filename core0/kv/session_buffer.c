/*
 * session_buffer.c - see session_buffer.h, and the answers of session.h.
 */
#include "session_buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static size_t beyond(size_t capacity)
{
    return capacity > SESSION_BLOCK ? capacity : 0;
}

static void give(struct session *s, uint8_t *memory, size_t capacity)
{
    if (memory == NULL)
        return;
    if (beyond(capacity) == 0) {
        worker_block_give(s->worker, memory);
        return;
    }
    /* a few are kept for the next large values: fresh pages cost as much as a value's own way through memory */
    if (capacity <= WORKER_SPARE_MAX) {
        struct worker_spare *spare = &s->worker->spares[s->worker->turn % WORKER_SPARES], old;

        for (unsigned i = 0; i < WORKER_SPARES && spare->memory != NULL; i++) {
            if (s->worker->spares[i].memory == NULL)
                spare = &s->worker->spares[i];
        }
        old = *spare; /* in turn, so that sizes nobody wants any more go */
        *spare = (struct worker_spare){.memory = memory, .capacity = capacity};
        memory = old.memory;
    }
    free(memory);
    server_memory_give(s->worker->server, capacity);
}

/* Memory for `want` bytes, which become what it really has. The budget was asked for `want`. */
static uint8_t *take(struct session *s, size_t *want)
{
    for (unsigned i = 0; i < WORKER_SPARES; i++) {
        struct worker_spare *spare = &s->worker->spares[i];
        uint8_t *memory = spare->memory;

        if (memory != NULL && spare->capacity >= *want && spare->capacity / 4 <= *want &&
            memory_take(&s->worker->server->memory, spare->capacity - *want)) {
            *want = spare->capacity;
            spare->memory = NULL;
            return memory;
        }
    }
    return malloc(*want);
}

/* Makes *memory at least `want` bytes large, the first `used` of them kept. */
static bool grow(struct session *s, uint8_t **memory, size_t *capacity, size_t used, size_t want)
{
    struct memory *budget = &s->worker->server->memory;
    uint8_t *larger;

    if (*memory != NULL && want <= *capacity)
        return true;
    if (want <= SESSION_BLOCK) {
        *memory = worker_block_take(s->worker);
        *capacity = *memory != NULL ? SESSION_BLOCK : 0;
        return *memory != NULL;
    }
    s->starved_for = want;
    if (!memory_take(budget, want))
        return false;
    larger = take(s, &want);
    if (larger == NULL) {
        server_memory_give(s->worker->server, want);
        return false;
    }
    if (used > 0 && *memory != NULL)
        memcpy(larger, *memory, used);
    give(s, *memory, *capacity);
    *memory = larger;
    *capacity = want;
    return true;
}

/* ---- requests ---- */

bool session_in_grow(struct session *s, size_t capacity)
{
    return grow(s, &s->in, &s->in_capacity, s->in_len, capacity);
}

void session_in_free(struct session *s)
{
    give(s, s->in, s->in_capacity);
    s->in = NULL;
    s->in_len = 0;
    s->in_capacity = 0;
}

int session_in_keep(struct session *s, const uint8_t *data, size_t len)
{
    if (len == 0) {
        session_in_free(s);
        return 0;
    }
    if (s->in == NULL) {
        if (!session_in_grow(s, len))
            return -ENOMEM;
    } else if (len <= SESSION_BLOCK && s->in_capacity > SESSION_BLOCK && s->need <= SESSION_BLOCK) {
        /* a large request is done: its memory goes back at once */
        uint8_t *block = worker_block_take(s->worker);

        if (block == NULL)
            return -ENOMEM;
        memcpy(block, data, len);
        session_in_free(s);
        s->in = block;
        s->in_capacity = SESSION_BLOCK;
        s->in_len = len;
        return 0;
    }
    if (data != s->in)
        memmove(s->in, data, len);
    s->in_len = len;
    return 0;
}

int session_in_canonical(struct session *s, const uint8_t *data, size_t len,
                         const struct resp_request *request)
{
    size_t size = RESP_HEAD_MAX, at;
    uint8_t *copy, head[RESP_HEAD_MAX];
    int r;

    for (uint32_t i = 0; i < request->argc; i++)
        size += RESP_HEAD_MAX + request->argv[i].len + 2;
    size += len - request->position;
    copy = malloc(size);
    if (copy == NULL)
        return -ENOMEM;
    at = resp_head('*', request->argc, copy);
    for (uint32_t i = 0; i < request->argc; i++) {
        size_t n = resp_head('$', request->argv[i].len, head);

        memcpy(copy + at, head, n);
        at += n;
        memcpy(copy + at, data + request->argv[i].offset, request->argv[i].len);
        at += request->argv[i].len;
        copy[at++] = '\r';
        copy[at++] = '\n';
    }
    memcpy(copy + at, data + request->position, len - request->position);
    at += len - request->position;
    session_in_free(s);
    r = session_in_keep(s, copy, at);
    free(copy);
    return r;
}

/* ---- answers: the buffer ---- */

bool session_out_room(struct session *s, size_t len)
{
    size_t pending = session_out_pending(s), want = pending + len;

    if (s->out != NULL && s->out_capacity - s->out_end >= len)
        return true;
    if (s->out != NULL && s->out_start > 0) {
        memmove(s->out, s->out + s->out_start, pending);
        s->mark -= s->out_start;
        s->out_end = pending;
        s->out_start = 0;
        if (s->out_capacity - s->out_end >= len)
            return true;
    }
    /* one large value is given exactly its place; many small answers double */
    if (want > SESSION_BLOCK && len < s->out_capacity)
        want = want > s->out_capacity * 2 ? want : s->out_capacity * 2;
    return grow(s, &s->out, &s->out_capacity, s->out_end, want);
}

void session_out_truncate(struct session *s, size_t end)
{
    s->out_end = end;
    while (s->hold_count > 0 &&
           s->holds[s->hold_count - 1].position >= session_out_stream(s, end) &&
           s->holds[s->hold_count - 1].turn == s->worker->turn)
        s->hold_count--;
}

void session_out_trim(struct session *s)
{
    if (s->out_start != s->out_end || s->out == NULL)
        return;
    session_out_free(s);
}

void session_out_free(struct session *s)
{
    give(s, s->out, s->out_capacity);
    s->out = NULL;
    s->out_start = 0;
    s->out_end = 0;
    s->out_capacity = 0;
    s->mark = 0;
}

/* ---- answers: holding back ---- */

void session_hold(struct session *s, uint64_t ticket)
{
    struct session_hold *last = s->hold_count > 0 ? &s->holds[s->hold_count - 1] : NULL;

    if (ticket <= s->worker->answered)
        return;
    s->worker->submit = true;
    /* what one turn writes is answered together: one hold is enough. Without a free place the last one covers more. */
    if (last != NULL && (last->turn == s->worker->turn || s->hold_count == SESSION_HOLDS)) {
        if (ticket > last->ticket)
            last->ticket = ticket;
        return;
    }
    s->holds[s->hold_count++] = (struct session_hold){
        .position = session_out_stream(s, s->mark), .ticket = ticket, .turn = s->worker->turn};
}

void session_out_release(struct session *s, uint64_t answered)
{
    unsigned gone = 0;

    while (gone < s->hold_count && s->holds[gone].ticket <= answered)
        gone++;
    if (gone == 0)
        return;
    memmove(s->holds, s->holds + gone, (s->hold_count - gone) * sizeof(s->holds[0]));
    s->hold_count -= gone;
}

size_t session_out_open(struct session *s)
{
    size_t begin =
        s->seal != 0 ? s->out_start + (size_t)(s->seal - 1 - s->out_position) : s->out_end;

    s->seal = 0;
    return begin;
}

size_t session_out_limit(const struct session *s)
{
    uint64_t limit = session_out_stream(s, s->out_end);

    if (s->hold_count > 0)
        limit = s->holds[0].position;
    if (s->seal != 0 && s->seal - 1 < limit)
        limit = s->seal - 1;
    return s->out_start + (size_t)(limit - s->out_position);
}

void session_out_fail(struct session *s)
{
    s->out_end = session_out_limit(s);
    s->hold_count = 0;
    s->block = SESSION_CLOSING;
    if (session_out_room(s, SESSION_ROOM))
        reply_error(s, "kv.disk-failed",
                    "the disk failed before this was safe: it may or may not be there");
}

/* ---- answers: words ---- */

static void append(struct session *s, const void *data, size_t len)
{
    memcpy(s->out + s->out_end, data, len);
    s->out_end += len;
}

static void line(struct session *s, char type, const char *text, size_t len)
{
    append(s, &type, 1);
    append(s, text, len);
    append(s, "\r\n", 2);
}

void reply_simple(struct session *s, const char *text)
{
    line(s, '+', text, strlen(text));
}

void reply_literal(struct session *s, const char *text)
{
    atomic_fetch_add_explicit(&s->worker->counters.failed, 1, memory_order_relaxed);
    line(s, '-', text, strlen(text));
}

void reply_error(struct session *s, const char *code, const char *fmt, ...)
{
    char text[640];
    int len = snprintf(text, sizeof(text), "ERR %s ", code), more;
    va_list args;

    va_start(args, fmt);
    more = vsnprintf(text + len, sizeof(text) - (size_t)len, fmt, args);
    va_end(args);
    if (more > 0)
        len += more;
    if ((size_t)len >= sizeof(text))
        len = sizeof(text) - 1;
    for (int i = 0; i < len; i++) {
        if ((unsigned char)text[i] < ' ')
            text[i] = ' '; /* a line break would be an answer of its own */
    }
    atomic_fetch_add_explicit(&s->worker->counters.failed, 1, memory_order_relaxed);
    line(s, '-', text, (size_t)len);
}

void reply_null(struct session *s)
{
    append(s, "$-1\r\n", 5);
}

static void head(struct session *s, char type, uint64_t number)
{
    s->out_end += resp_head(type, number, s->out + s->out_end);
}

void reply_integer(struct session *s, uint64_t number)
{
    head(s, ':', number);
}

void reply_array(struct session *s, uint64_t count)
{
    head(s, '*', count);
}

bool reply_room(struct session *s, size_t len)
{
    return session_out_room(s, len + SESSION_ROOM);
}

bool reply_bulk(struct session *s, const void *data, size_t len)
{
    if (!reply_room(s, len))
        return false;
    head(s, '$', len);
    append(s, data, len);
    append(s, "\r\n", 2);
    return true;
}

bool reply_array_close(struct session *s, const void *before, size_t before_len, uint64_t count)
{
    uint8_t text[RESP_HEAD_MAX];
    size_t len = resp_head('*', count, text), items;

    if (!reply_room(s, len + before_len))
        return false;
    items = s->out_end - s->mark;
    memmove(s->out + s->mark + before_len + len, s->out + s->mark, items);
    if (before_len > 0)
        memcpy(s->out + s->mark, before, before_len);
    memcpy(s->out + s->mark + before_len, text, len);
    s->out_end += before_len + len;
    return true;
}

/* ---- answers: values straight from the store ---- */

static void *value_reserve(void *ctx, uint32_t len)
{
    struct reply_value *value = ctx;
    struct session *s = value->session;
    size_t at;

    /* may move `out`, and with it what `begin` counts from */
    at = value->begin - s->mark;
    if (!reply_room(s, (size_t)len + RESP_HEAD_MAX)) {
        value->starved = true;
        return NULL;
    }
    value->begin = s->mark + at;
    s->out_end = value->begin;
    head(s, '$', len);
    s->out_end += len;
    return s->out + s->out_end - len;
}

struct store_sink reply_value_sink(struct reply_value *value, struct session *s)
{
    *value = (struct reply_value){.session = s, .begin = s->out_end};
    return (struct store_sink){.reserve = value_reserve, .ctx = value};
}

void reply_value_done(struct reply_value *value)
{
    append(value->session, "\r\n", 2);
}

void reply_value_undo(struct reply_value *value)
{
    value->session->out_end = value->begin;
}
