/*
 * control_log.c - see control_log.h.
 *
 * A follower holds the sequence of the next line it wants and no line itself: one that reads slowly loses what the
 * ring has dropped meanwhile, and sees the gap.
 */
#include "init/control_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "init/control.h"
#include "init/core.h"
#include "init/kernel_log.h"
#include "init/service.h"
#include "init/text.h"
#include "lib/json.h"

#define LOG_ANSWER_BYTES 262144u /* of text in one answer; each line counts LOG_LINE_COST more */
#define LOG_LINE_COST 32u
#define LOG_FOLLOWERS_MAX 32u
#define LOG_RETRY_US 100000u

struct follower {
    struct follower *next;
    struct core *core;
    struct varlink_call *call;
    const struct ring *ring; /* NULL: the kernel's log */
    uint64_t sequence;
    int fd;
    struct loop_io *io;
    struct loop_timer *retry; /* the peer has not read what it got: try again later */
    bool scheduled;
    bool gone; /* free it when the deferred call comes */
};

static struct follower *followers;
static size_t follower_count;

/* ---- answers ---- */

struct log_answer {
    const struct core *core;
    yyjson_mut_doc *doc;
    yyjson_mut_val *lines;
    size_t bytes;
    uint64_t next; /* sequence behind the last line */
};

static void log_answer_begin(struct log_answer *answer, const struct core *core, uint64_t next)
{
    yyjson_mut_val *root;

    *answer = (struct log_answer){.core = core, .doc = yyjson_mut_doc_new(NULL), .next = next};
    root = yyjson_mut_obj(answer->doc);
    yyjson_mut_doc_set_root(answer->doc, root);
    answer->lines = yyjson_mut_obj_add_arr(answer->doc, root, "lines");
}

static bool log_answer_full(const struct log_answer *answer)
{
    return answer->bytes > LOG_ANSWER_BYTES;
}

/* The document, to be handed over. */
static yyjson_mut_doc *log_answer_end(const struct log_answer *answer)
{
    yyjson_mut_val *root = yyjson_mut_doc_get_root(answer->doc);

    yyjson_mut_obj_add_uint(answer->doc, root, "next", answer->next);
    yyjson_mut_obj_add_strcpy(answer->doc, root, "bootId", answer->core->boot_id);
    return answer->doc;
}

static bool log_answer_add(const struct ring_line *line, void *data)
{
    struct log_answer *answer = data;
    yyjson_mut_val *entry;
    char text[RING_LINE_MAX + 1];
    size_t len;

    if (log_answer_full(answer))
        return false;
    len = text_clean(text, sizeof(text), line->text, line->len);
    entry = yyjson_mut_arr_add_obj(answer->doc, answer->lines);
    yyjson_mut_obj_add_uint(answer->doc, entry, "sequence", line->sequence);
    yyjson_mut_obj_add_uint(answer->doc, entry, "time", line->time_us);
    yyjson_mut_obj_add_uint(answer->doc, entry, "level", line->level);
    yyjson_mut_obj_add_strncpy(answer->doc, entry, "text", text, len);
    answer->bytes += len + LOG_LINE_COST;
    answer->next = line->sequence + 1;
    return true;
}

struct log_measure {
    size_t bytes;
    size_t limit; /* lines before it are left out */
    uint64_t first;
};

static bool log_measure_add(const struct ring_line *line, void *data)
{
    struct log_measure *measure = data;

    measure->bytes += line->len + LOG_LINE_COST;
    return true;
}

static bool log_measure_skip(const struct ring_line *line, void *data)
{
    struct log_measure *measure = data;

    if (measure->bytes <= measure->limit)
        return false;
    measure->bytes -= line->len + LOG_LINE_COST;
    measure->first = line->sequence + 1;
    return true;
}

/* From which line on the rest fits into one answer: the newest lines are the ones that are wanted. */
static uint64_t log_first_that_fits(const struct ring *ring, uint64_t sequence)
{
    struct log_measure measure = {.limit = LOG_ANSWER_BYTES, .first = sequence};

    ring_each(ring, sequence, log_measure_add, &measure);
    ring_each(ring, sequence, log_measure_skip, &measure);
    return measure.first;
}

/* ---- following ---- */

static void follower_free(struct follower *follower)
{
    struct follower **at = &followers;

    while (*at != NULL && *at != follower)
        at = &(*at)->next;
    if (*at != NULL)
        *at = follower->next;
    follower_count--;
    loop_io_del(follower->io);
    loop_timer_del(follower->retry);
    if (follower->fd >= 0)
        close(follower->fd);
    free(follower);
}

static void follower_gone(struct varlink_call *call, void *data)
{
    struct follower *follower = data;

    (void)call;
    if (follower->scheduled) {
        /* The deferred call still points here. */
        follower->gone = true;
        loop_timer_stop(follower->retry);
        loop_io_del(follower->io);
        follower->io = NULL;
        return;
    }
    follower_free(follower);
}

static void follower_read_kernel(struct follower *follower, struct log_answer *answer)
{
    uint64_t boot_us = core_realtime() - loop_clock();
    char text[RING_LINE_MAX];
    struct ring_line line;

    while (!log_answer_full(answer) && kernel_log_read(follower->fd, boot_us, text, &line) > 0) {
        if (line.sequence >= follower->sequence)
            log_answer_add(&line, answer);
    }
}

static void follower_push(struct follower *follower)
{
    struct log_answer answer;
    int ret;

    log_answer_begin(&answer, follower->core, follower->sequence);
    if (follower->ring != NULL)
        ring_each(follower->ring, follower->sequence, log_answer_add, &answer);
    else
        follower_read_kernel(follower, &answer);
    if (answer.next == follower->sequence) {
        yyjson_mut_doc_free(answer.doc);
        return;
    }
    ret = varlink_call_reply_more(follower->call, log_answer_end(&answer));
    if (ret == -EAGAIN && follower->ring != NULL) {
        loop_timer_in(follower->retry, LOG_RETRY_US);
        return;
    }
    follower->sequence = answer.next;
    /* More than fits into one answer is in the ring. */
    if (follower->ring != NULL && follower->ring->next_sequence > follower->sequence)
        loop_timer_in(follower->retry, 0);
}

static void follower_deferred(void *data)
{
    struct follower *follower = data;

    follower->scheduled = false;
    if (follower->gone)
        follower_free(follower);
    else
        follower_push(follower);
}

static void follower_retry(struct loop_timer *timer, void *data)
{
    (void)timer;
    follower_push(data);
}

static void follower_kernel_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    (void)events;
    follower_push(data);
}

void control_log_added(struct core *core, const char *service, const struct ring *ring)
{
    (void)service;
    for (struct follower *follower = followers; follower != NULL; follower = follower->next) {
        if (follower->ring == ring && !follower->scheduled && !follower->gone &&
            loop_defer(core->loop, follower_deferred, follower) == 0)
            follower->scheduled = true;
    }
}

static int follower_new(struct core *core, struct varlink_call *call, const struct ring *ring,
                        int fd, struct follower **ret_follower)
{
    struct follower *follower;
    int ret;

    if (follower_count >= LOG_FOLLOWERS_MAX)
        return -EBUSY;
    follower = calloc(1, sizeof(*follower));
    if (follower == NULL)
        return -ENOMEM;
    follower->core = core;
    follower->call = call;
    follower->ring = ring;
    follower->fd = fd;
    ret = loop_timer_add(core->loop, follower_retry, follower, &follower->retry);
    if (ret == 0 && fd >= 0)
        ret = loop_io_add(core->loop, fd, EPOLLIN, follower_kernel_ready, follower, &follower->io);
    if (ret < 0) {
        loop_timer_del(follower->retry);
        free(follower);
        return ret;
    }
    follower->next = followers;
    followers = follower;
    follower_count++;
    varlink_call_set_gone(call, follower_gone, follower);
    *ret_follower = follower;
    return 0;
}

/* ---- the method ---- */

struct log_request {
    const char *service;
    uint64_t tail;
    uint64_t from; /* UINT64_MAX: the tail is asked for */
};

static const struct json_field log_fields[] = {
    {"service", JSON_STRING, offsetof(struct log_request, service), true, 1, UNIT_NAME_MAX},
    {"from", JSON_UINT, offsetof(struct log_request, from), false, 0, 0},
    {"tail", JSON_UINT, offsetof(struct log_request, tail), false, 0, 1000000},
};
#define LOG_FIELDS (sizeof(log_fields) / sizeof(log_fields[0]))

/* The kernel's lines. How many there are of which the last are wanted is only known after reading them all. What does not fit stays
 * to be read from fd. */
static void log_answer_kernel(struct log_answer *answer, int fd, const struct log_request *request)
{
    uint64_t boot_us = core_realtime() - loop_clock();
    bool tail = request->from == UINT64_MAX;
    char text[RING_LINE_MAX];
    struct ring_line line;
    uint64_t count = 0;

    while (tail && kernel_log_read(fd, boot_us, text, &line) > 0)
        count++;
    if (tail && lseek(fd, 0, SEEK_SET) < 0)
        return;
    uint64_t skip = count > request->tail ? count - request->tail : 0;
    while (!log_answer_full(answer) && kernel_log_read(fd, boot_us, text, &line) > 0) {
        answer->next = line.sequence + 1;
        if (tail ? skip == 0 : line.sequence >= request->from)
            log_answer_add(&line, answer);
        skip -= skip > 0;
    }
}

static void log_answer_ring(struct log_answer *answer, const struct ring *ring,
                            const struct log_request *request)
{
    uint64_t first = request->from != UINT64_MAX
                         ? request->from
                         : log_first_that_fits(ring, ring_tail(ring, request->tail));

    ring_each(ring, first, log_answer_add, answer);
}

static const struct ring *log_find_ring(const struct core *core, const char *name)
{
    const struct service *service = service_find(core, name);

    if (strcmp(name, "core0") == 0)
        return &core->log;
    return service != NULL ? &service->log : NULL;
}

void control_get_log(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct log_request request = {.tail = UINT64_MAX, .from = UINT64_MAX};
    struct core *core = data;
    struct follower *follower;
    const struct ring *ring;
    struct log_answer answer;
    struct error err = {0};
    int fd = -1;

    if (json_read(params, log_fields, LOG_FIELDS, 0, &request, "core.no-service", &err) < 0) {
        bool from = yyjson_obj_get(params, "from") != NULL && request.from == UINT64_MAX;

        varlink_call_invalid(call, request.service == NULL ? "service" : from ? "from" : "tail");
        return;
    }
    ring = log_find_ring(core, request.service);
    if (strcmp(request.service, "kernel") == 0) {
        ring = NULL;
        fd = kernel_log_open();
    }
    if (ring == NULL && fd < 0) {
        error_set(&err, ENOENT, "core.no-service",
                  "ListServices names all; besides them core0 and kernel",
                  "there is no log of the name %s", request.service);
        varlink_call_fail(call, &err);
        return;
    }

    log_answer_begin(&answer, core, ring != NULL ? ring->next_sequence : 0);
    if (ring != NULL)
        log_answer_ring(&answer, ring, &request);
    else
        log_answer_kernel(&answer, fd, &request);
    if (!varlink_call_wants_more(call)) {
        if (fd >= 0)
            close(fd);
        varlink_call_reply(call, log_answer_end(&answer));
        return;
    }
    if (follower_new(core, call, ring, fd, &follower) < 0) {
        if (fd >= 0)
            close(fd);
        yyjson_mut_doc_free(answer.doc);
        error_set(&err, EBUSY, "core.busy", "end one of them", "%u logs are being followed already",
                  LOG_FOLLOWERS_MAX);
        varlink_call_fail(call, &err);
        return;
    }
    follower->sequence = answer.next;
    varlink_call_reply_more(call, log_answer_end(&answer));
    /* More than fits into one answer is in the ring. (The kernel's descriptor says so by itself.) */
    if (ring != NULL && ring->next_sequence > follower->sequence)
        loop_timer_in(follower->retry, 0);
}
