/*
 * session.h - one client's connection: bytes in, commands, answers out in the order of the requests.
 *
 * Numbered invariants
 *  1. A session belongs to one worker thread; nothing else touches it. Other threads post to the worker (server.h).
 *  2. Answers are written into `out` at once, in order. What is not as durable as the policy says is held back: bytes from
 *     a hold's position on are not sent before the store has answered its ticket. When the disk failed they never are.
 *  3. No request is executed while more than SESSION_OUT_SOFT bytes of answers wait: a slow reader stops itself, and
 *     what it costs is SESSION_OUT_SOFT plus one value.
 *  4. Bytes beyond SESSION_BLOCK in either direction are taken from the server's memory budget before they are
 *     allocated; a session that gets none waits, and tries again when some come back.
 *  5. A request stays at the head of the input until its command is done; a command that must wait is called again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/loop.h"
#include "resp.h"
#include "server.h"
#include "store.h"

#define SESSION_OUT_SOFT ((size_t)1024 * 1024) /* answers that may wait before requests do */
#define SESSION_ROOM ((size_t)4096) /* room every command finds in `out`: a key or an error fits */
#define SESSION_HOLDS 16
#define SESSION_NONCE 16       /* hex digits of AUTH SECURE CHALLENGE, as 0-db */
#define SESSION_DENIALS_MAX 16 /* wrong passwords after which the connection is closed */
#define SESSION_RATE                                                                               \
    ((uint64_t)64 * 1024) /* bytes a second that a peer must read or send on average */

/* Why a session does not go on with its next request. */
enum session_block {
    SESSION_GOING,
    SESSION_DRAINING, /* until answers have been sent */
    SESSION_STEPPING, /* a long command lets others have a turn */
    SESSION_STARVING, /* until there is memory */
    SESSION_WAITS,    /* for an event or its deadline: WAIT, WAITREPLICAS, FOLLOW, a job */
    SESSION_CLOSING,  /* nothing more is executed; what may be sent is sent, then it is closed */
};

/* What a command says to its session. */
enum command_result {
    COMMAND_DONE,  /* answered */
    COMMAND_DRAIN, /* call again when answers have been sent */
    COMMAND_STEP,  /* call again in the next turn; what is written so far is not sent yet */
    COMMAND_ROOM,  /* call again when there is memory: nothing of this call was kept */
    COMMAND_WAIT,  /* call again when session_wake() was called or wait_until has passed */
    COMMAND_CLOSE, /* answered; close the connection behind the answer */
};

struct command;

struct session_node {
    struct session *next, *previous;
};

struct session_hold {
    uint64_t position; /* of the stream of answers */
    uint64_t ticket;
    uint64_t turn; /* of the worker, when it was made */
};

struct session {
    struct worker *worker;
    struct loop_io *io;
    struct transport *transport;
    struct session_node nodes[SESSION_LISTS];
    unsigned listed; /* bits of enum session_list */
    bool local;      /* over a Unix socket */
    bool tls;
    struct tls *
        either; /* the client's first byte decides whether it speaks TLS; transport is NULL until then */
    int fd;                                  /* until then ours */
    bool eof;                                /* the peer sends nothing more */
    bool read_wants_write, write_wants_read; /* TLS */
    bool want_write;                         /* the socket is full */
    enum session_block block;

    uint8_t *in; /* unfinished requests; NULL while there are none */
    size_t in_len, in_capacity;
    size_t need, scanned;      /* of the request at the head, see resp.h */
    size_t expected;           /* `need` when the deadline was set */
    uint64_t request_deadline; /* us; 0: no request has begun */
    size_t starved_for;        /* bytes that the budget did not have */
    uint64_t starved_since;    /* us; 0: the last request found what it wanted */

    uint8_t *out;
    size_t out_start, out_end, out_capacity;
    uint64_t out_position; /* of out[out_start] in the stream of answers */
    size_t mark;           /* out_end when the command was called: where its answer begins */
    uint64_t seal;         /* 1 + position from which an unfinished answer is not sent; 0: none */
    uint64_t out_deadline; /* us; 0: nothing waits */
    struct session_hold holds[SESSION_HOLDS];
    unsigned hold_count;

    /* who and where */
    struct namespace *ns;
    uint32_t ns_id;
    bool admin;
    bool writable;
    unsigned denials;
    char nonce[SESSION_NONCE + 1]; /* "": none */

    /* of the command at the head, zero when it begins */
    const struct command *command;
    struct session_progress {
        uint64_t a, b;
        struct store_cursor cursor;
        uint64_t count;
        bool begun;
        bool woken;
    } progress;
    uint64_t wait_until; /* us; of COMMAND_WAIT */
    struct command_job *job;
    struct follower *follower;
    bool waits_for_replicas;
};

/* ---- for workers (on their threads) ---- */
void session_adopt(struct worker *worker, int fd, struct tls *tls, bool either, bool local);
void session_flush_ready(struct worker *worker); /* at the end of every turn */
void session_wake_starved(struct worker *worker);
void session_tick_all(struct worker *worker); /* once a second: deadlines */
void session_wake_late(
    struct worker *worker); /* the waiting ones whose time is over; sets the alarm anew */
void session_free_all(struct worker *worker);

/* Calls a waiting command again in this turn. */
void session_wake(struct session *session);

/* ---- answers; the first group has always room (SESSION_ROOM) ---- */
void reply_simple(struct session *session, const char *text);  /* "+text" */
void reply_literal(struct session *session, const char *text); /* "-text": 0-db's own words */
/* "-ERR code sentence" */
__attribute__((format(printf, 3, 4))) void reply_error(struct session *session, const char *code,
                                                       const char *fmt, ...);
void reply_null(struct session *session);
void reply_integer(struct session *session, uint64_t number);
void reply_array(struct session *session, uint64_t count);

/* False: no memory now; the command answers COMMAND_ROOM (its answer so far is taken back). */
bool reply_room(struct session *session, size_t len);
bool reply_bulk(struct session *session, const void *data, size_t len);

/* Where store_get() puts a value: a bulk string in `out`. After success reply_value_done(); after a failure
 * reply_value_undo(). */
struct reply_value {
    struct session *session;
    size_t begin;
    bool starved; /* there was no memory: not the store's fault */
};
struct store_sink reply_value_sink(struct reply_value *value, struct session *session);
void reply_value_done(struct reply_value *value);
void reply_value_undo(struct reply_value *value);

/* The answer of the running command shows what has this ticket: it waits until the store has answered it. */
void session_hold(struct session *session, uint64_t ticket);
/* Moves a session to a namespace (a reference is taken over); ns NULL: back to none. */
/* Puts `before` and the head of an array of `count` in front of what was written since the mark. False: no memory. */
bool reply_array_close(struct session *session, const void *before, size_t before_len,
                       uint64_t count);
void session_enter(struct session *session, struct namespace *ns, uint32_t id, bool writable);
/* A wrong password. Answers; COMMAND_CLOSE when it was one too many. */
enum command_result session_denied(struct session *session, const char *text);
