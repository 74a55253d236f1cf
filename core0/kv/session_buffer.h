/*
 * session_buffer.h - a session's two buffers. Up to SESSION_BLOCK bytes come from the worker's free blocks; what is beyond is
 * taken from the memory budget.
 */
#pragma once

#include "session.h"

/* ---- requests ---- */
/* At least `capacity` bytes, never fewer than there are. False: the budget has none (s->starved_for says how much). */
bool session_in_grow(struct session *s, size_t capacity);
/* `data`, which may lie inside s->in, becomes the whole of s->in; nothing is kept when len is 0. 0 or -ENOMEM. */
int session_in_keep(struct session *s, const uint8_t *data, size_t len);
/* The same for a request that came inline and was decoded in place: it is kept as an array, so that it can be parsed again. */
int session_in_canonical(struct session *s, const uint8_t *data, size_t len,
                         const struct resp_request *request);
void session_in_free(struct session *s);

/* ---- answers ---- */
static inline size_t session_out_pending(const struct session *s)
{
    return s->out_end - s->out_start;
}
/* An index of `out` as a position in the stream of answers. */
static inline uint64_t session_out_stream(const struct session *s, size_t at)
{
    return s->out_position + (at - s->out_start);
}
/* Where the answer of the command at the head begins, or goes on after COMMAND_STEP; breaks the seal. */
size_t session_out_open(struct session *s);
bool session_out_room(struct session *s, size_t len); /* false: the budget has none */
void session_out_truncate(struct session *s, size_t end);
/* Forgets the holds whose tickets are answered. */
void session_out_release(struct session *s, uint64_t answered);
size_t session_out_limit(const struct session *s); /* bytes of `out` up to here may be sent */
/* The disk failed: what is held becomes one error, and the session ends behind it. */
void session_out_fail(struct session *s);
void session_out_trim(struct session *s); /* gives memory back when nothing waits */
void session_out_free(struct session *s);
