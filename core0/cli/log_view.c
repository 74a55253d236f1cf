/*
 * log_view.c - see log_view.h.
 */
#include "cli/log_view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "cli/moment.h"
#include "cli/printable.h"

#define OUT_MAX ((size_t)16 << 20)

struct entry {
    uint64_t time;
    int level;          /* -1: of a container */
    const char *source; /* the stream, or the level's name */
    const char *line;
    size_t len;
    bool more;
    const char *at; /* "": none */
    uint64_t lost;  /* lines before it */
};

void log_view_init(struct log_view *view)
{
    *view = (struct log_view){.json = false};
    buffer_init(&view->partial, LOG_VIEW_LINE_MAX);
    buffer_init(&view->out, OUT_MAX);
}

void log_view_done(struct log_view *view)
{
    buffer_done(&view->partial);
    buffer_done(&view->out);
}

static int bad(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "gate.bad-answer",
                     "croft and the node may be of two versions: croft version, croft node show",
                     "the node sends %s", what);
}

/* RFC 5424, section 6.2.1 */
static const char *const levels[] = {"emerg",   "alert",  "crit", "error",
                                     "warning", "notice", "info", "debug"};

/* It is sent back as it came, so it may hold nothing else than digits and '-'. */
static bool is_place(const char *at)
{
    return strlen(at) < LOG_VIEW_AT_MAX && at[strspn(at, "0123456789-")] == '\0';
}

static int read_entry(yyjson_val *root, struct entry *ret_entry)
{
    yyjson_val *time = yyjson_obj_get(root, "time"), *line = yyjson_obj_get(root, "line");
    yyjson_val *stream = yyjson_obj_get(root, "stream"), *level = yyjson_obj_get(root, "level");
    const char *source = yyjson_get_str(stream), *at = yyjson_get_str(yyjson_obj_get(root, "at"));

    if (stream == NULL && yyjson_is_uint(level) && yyjson_get_uint(level) < 8) {
        source = levels[yyjson_get_uint(level)];
    } else if (source == NULL || (strcmp(source, "stdout") != 0 && strcmp(source, "stderr") != 0)) {
        return -EBADMSG;
    }
    if (!yyjson_is_uint(time) || !yyjson_is_str(line) || (at != NULL && !is_place(at))) {
        return -EBADMSG;
    }
    *ret_entry = (struct entry){.time = yyjson_get_uint(time),
                                .level = stream == NULL ? (int)yyjson_get_uint(level) : -1,
                                .source = source,
                                .line = yyjson_get_str(line),
                                .len = yyjson_get_len(line),
                                .more = yyjson_get_bool(yyjson_obj_get(root, "more")),
                                .at = at != NULL ? at : "",
                                .lost = yyjson_get_uint(yyjson_obj_get(root, "lost"))};
    return 0;
}

static int show_json(struct log_view *view, const struct entry *entry)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    size_t len = 0;

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "time", entry->time);
    if (entry->level >= 0) {
        yyjson_mut_obj_add_int(doc, root, "level", entry->level);
    } else {
        yyjson_mut_obj_add_str(doc, root, "stream", entry->source);
    }
    if (entry->at[0] != '\0') {
        yyjson_mut_obj_add_str(doc, root, "at", entry->at);
    }
    if (entry->lost > 0) {
        yyjson_mut_obj_add_uint(doc, root, "lost", entry->lost);
    }
    yyjson_mut_obj_add_strn(doc, root, "line", entry->line, entry->len);
    if (entry->more) {
        yyjson_mut_obj_add_bool(doc, root, "more", true);
    }
    char *text = yyjson_mut_write(doc, view->terminal ? YYJSON_WRITE_ESCAPE_UNICODE : 0, &len);
    yyjson_mut_doc_free(doc);
    int ret = text != NULL ? buffer_append(&view->out, text, len) : -ENOMEM;
    free(text);
    return ret < 0 ? ret : buffer_append(&view->out, "\n", 1);
}

static int show_text(struct log_view *view, const struct entry *entry)
{
    char time[MOMENT_TEXT];
    bool goes_on = strcmp(view->open, entry->source) == 0;
    int ret = 0;

    if (view->open[0] != '\0' && !goes_on) {
        ret = buffer_append(&view->out, "\n", 1);
    }
    if (ret >= 0 && !goes_on && view->timestamps) {
        moment_format(entry->time, time);
        ret = buffer_printf(&view->out, "%s ", time);
    }
    if (ret >= 0 && !goes_on && entry->level >= 0) {
        ret = buffer_printf(&view->out, "%-7s ", entry->source);
    }
    if (ret >= 0) {
        ret = view->terminal ? printable_append(&view->out, entry->line, entry->len)
                             : buffer_append(&view->out, entry->line, entry->len);
    }
    view->open[0] = '\0';
    if (entry->more) {
        snprintf(view->open, sizeof(view->open), "%s", entry->source);
        return ret;
    }
    return ret < 0 ? ret : buffer_append(&view->out, "\n", 1);
}

static int show(struct log_view *view, const char *text, size_t len, struct error *err)
{
    struct entry entry;
    yyjson_doc *doc = yyjson_read(text, len, 0);

    if (doc == NULL || read_entry(yyjson_doc_get_root(doc), &entry) < 0) {
        yyjson_doc_free(doc);
        return bad(err, "a line that is no entry of a log");
    }
    int ret = view->json ? show_json(view, &entry) : show_text(view, &entry);
    if (ret >= 0) {
        snprintf(view->at, sizeof(view->at), "%s", entry.at);
        view->shown = true;
        view->lost += entry.lost;
    }
    yyjson_doc_free(doc);
    return ret < 0 ? error_set(err, ENOMEM, "cli.failed", "", "out of memory") : 0;
}

int log_view_take(struct log_view *view, const void *data, size_t len, struct error *err)
{
    const char *at = data, *end = at + len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t piece = newline != NULL ? (size_t)(newline - at) : (size_t)(end - at);
        int ret = buffer_append(&view->partial, at, piece);
        if (ret < 0) {
            return ret == -EFBIG ? bad(err, "an entry of a log that has no end")
                                 : error_set(err, ENOMEM, "cli.failed", "", "out of memory");
        }
        if (newline == NULL) {
            return 0;
        }
        if (view->partial.len > 0) {
            ret = show(view, (const char *)view->partial.data, view->partial.len, err);
            buffer_clear(&view->partial);
            if (ret < 0) {
                return ret;
            }
        }
        at = newline + 1;
    }
    return 0;
}

void log_view_again(struct log_view *view)
{
    buffer_clear(&view->partial);
}

void log_view_start(struct log_view *view, const char *at)
{
    if (!view->shown && view->at[0] == '\0' && is_place(at)) {
        snprintf(view->at, sizeof(view->at), "%s", at);
    }
}

void log_view_restart(struct log_view *view)
{
    view->at[0] = '\0';
    view->shown = false;
}

int log_view_end(struct log_view *view, struct error *err)
{
    if (view->open[0] != '\0') {
        view->open[0] = '\0';
        buffer_append(&view->out, "\n", 1);
    }
    return view->partial.len > 0 ? bad(err, "a log that ends within an entry") : 0;
}
