/*
 * log_view.h - the lines of a log as a gate sends them, shown as they come.
 *
 * The stream is a JSON object a line: {"time":microseconds,"stream":"stdout","line":"…"} of a container, with "level" (0 to 7, as
 * syslog counts) instead of "stream" of a node's own services; "more":true says that the line goes on in the next object; "at" names the place
 * behind the line, from which a later stream goes on; "lost" counts lines before it that nobody has any more. Empty lines keep a
 * connection alive.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/buffer.h"
#include "lib/error.h"

#define LOG_VIEW_LINE_MAX                                                                          \
    ((size_t)256 * 1024) /* bytes of one object: 16 KiB of text, each byte as \u00xx, fit well */

#define LOG_VIEW_AT_MAX 40

struct log_view {
    bool json;                /* objects as they came, one a line */
    bool timestamps;          /* before each line */
    bool terminal;            /* nothing that a terminal would obey */
    struct buffer partial;    /* what has come of the next object */
    struct buffer out;        /* what is to be written; the caller empties it */
    char open[16];            /* the stream whose line goes on; "" */
    char at[LOG_VIEW_AT_MAX]; /* of the last object that was shown; "": it had none */
    bool shown;               /* an object was */
    uint64_t lost;            /* lines, which the caller tells of and sets to 0 */
};

void log_view_init(struct log_view *view);
void log_view_done(struct log_view *view);
/* Takes the next bytes of the stream, appends to view->out. gate.bad-answer: not such a stream. */
int log_view_take(struct log_view *view, const void *data, size_t len, struct error *err);
/* The stream broke off and another will go on from view->at: what came of an object that was not shown comes again. */
void log_view_again(struct log_view *view);
/* Where the stream began, as the gate says: it counts until an object was shown. What is no place is passed over. */
void log_view_start(struct log_view *view, const char *at);
/* What comes is of another log: nothing of it was shown yet, and there is no place in it. */
void log_view_restart(struct log_view *view);
/* The stream is over: ends a line that goes on. gate.bad-answer when it ended within an object. */
int log_view_end(struct log_view *view, struct error *err);
