/*
 * command_data.c - SET GET MGET DEL EXISTS CHECK LENGTH KEYTIME VERSION: one key, or several.
 */
#include <stdio.h>
#include <string.h>

#include "command.h"

#define CROWDED_US ((uint64_t)60 * 1000000) /* by then a compaction has ended, or there is none */
#define CROWDED_STEP_US ((uint64_t)20000)

/* The key argument, or an answer and false. */
static bool key_argument(struct session *s, const struct command_call *call, unsigned i,
                         const char *complaint, struct command_bytes *ret_key)
{
    *ret_key = command_arg(call, i);
    if (ret_key->len <= STORE_KEY_MAX)
        return true;
    reply_literal(s, complaint);
    return false;
}

/* The rest of SET: NX, XX, IFEQ version or 0-db's timestamp. False: answered. */
static bool set_condition(struct session *s, const struct command_call *call,
                          struct store_write *write)
{
    struct command_bytes word;
    uint64_t number;

    if (command_count(call) == 3)
        return true;
    word = command_arg(call, 3);
    if (command_count(call) == 5) {
        if (command_is(word, "IFEQ") &&
            command_number(command_arg(call, 4), UINT64_MAX, &write->version) == 0) {
            write->condition = STORE_SET_IFEQ;
            return true;
        }
    } else if (command_is(word, "NX")) {
        write->condition = STORE_SET_NX;
        return true;
    } else if (command_is(word, "XX")) {
        write->condition = STORE_SET_XX;
        return true;
    } else if (command_number(word, UINT32_MAX, &number) == 0) {
        write->time = (uint32_t)number;
        if (s->admin) /* replaying old data, as 0-db's own tools do */
            return true;
        reply_literal(s, "Permission denied");
        return false;
    }
    reply_error(s, "kv.bad-request", "SET takes NX, XX, IFEQ version or a time after the value");
    return false;
}

static enum command_result set_failed(struct session *s, const struct store_write *write,
                                      int result)
{
    struct store_info info;

    switch (result) {
    case STORE_CONDITION:
        /* that the condition fails shows what is there now: not before that is safe */
        command_hold_newest(s);
        reply_error(s, "kv.condition-failed", "the key is not as the condition wants it");
        return COMMAND_DONE;
    case STORE_INVALID:
    case STORE_NO_KEY: /* seq: no such id */
        store_namespace_info(s->ns, &info);
        if (info.properties.mode == STORE_SEQ)
            reply_literal(s, "Invalid key, only update authorized");
        else if (write->key_len == 0)
            reply_literal(s, "Invalid argument, key needed");
        else
            return command_failed(s, result);
        return COMMAND_DONE;
    default:
        return command_failed(s, result);
    }
}

/*
 * The namespace's share of the disk is full of dead records: the command waits, and nobody else does, until compaction has
 * made room. A client that writes faster than it is compacted is slowed down by that, never told that there is no space.
 */
static enum command_result crowded(struct session *s)
{
    uint64_t now = loop_clock();

    if (!s->progress.begun) {
        s->progress.begun = true;
        s->progress.a = now + CROWDED_US;
    }
    if (now >= s->progress.a)
        return command_failed(s, STORE_CROWDED);
    s->wait_until = now + CROWDED_STEP_US;
    return COMMAND_WAIT;
}

enum command_result command_set(struct session *s, const struct command_call *call)
{
    struct command_bytes key, value = command_arg(call, 2);
    struct store_write write = {.condition = STORE_SET_ALWAYS};
    struct store_written written;
    int r;

    if (!key_argument(s, call, 1, "Key too large", &key) || !set_condition(s, call, &write))
        return COMMAND_DONE;
    write.key = key.data;
    write.key_len = (uint32_t)key.len;
    write.value = value.data;
    write.value_len = (uint32_t)value.len;
    r = store_set(s->ns, &write, &written);
    if (r == STORE_CROWDED)
        return crowded(s);
    if (r < 0)
        return set_failed(s, &write, r);
    session_hold(s, written.ticket);
    if (written.unchanged)
        reply_null(s);
    else if (key.len > 0)
        (void)reply_bulk(s, key.data, key.len); /* has always room */
    else
        (void)reply_bulk(s, written.key, STORE_SEQ_KEY);
    return COMMAND_DONE;
}

/* One value, nil without one. COMMAND_DONE: answered, also by an error. */
static enum command_result get_one(struct session *s, struct command_bytes key)
{
    struct reply_value value;
    struct store_sink sink = reply_value_sink(&value, s);
    struct store_value found = {.ticket = 0};
    int r = store_get(s->ns, key.data, (uint32_t)key.len, &sink, &found);

    if (r == 0) {
        reply_value_done(&value);
        session_hold(s, found.ticket);
        return COMMAND_DONE;
    }
    reply_value_undo(&value);
    if (value.starved)
        return COMMAND_ROOM;
    if (r == STORE_NO_KEY) {
        command_hold_newest(s);
        reply_null(s);
        return COMMAND_DONE;
    }
    return command_failed(s, r);
}

enum command_result command_get(struct session *s, const struct command_call *call)
{
    struct command_bytes key;

    if (!key_argument(s, call, 1, "Invalid key", &key))
        return COMMAND_DONE;
    return get_one(s, key);
}

/* Value by value: what waits is sent in between, so that the answer needs the memory of its largest value only. */
enum command_result command_mget(struct session *s, const struct command_call *call)
{
    unsigned count = command_count(call);
    struct command_bytes key;
    enum command_result r;

    if (!s->progress.begun) {
        for (unsigned i = 1; i < count; i++) {
            if (!key_argument(s, call, i, "Invalid key", &key))
                return COMMAND_DONE;
        }
        reply_array(s, count - 1);
        s->progress.begun = true;
        s->progress.a = 1;
    }
    while (s->progress.a < count) {
        if (s->out_end - s->out_start > SESSION_OUT_SOFT)
            return COMMAND_DRAIN;
        if (!reply_room(s, 0)) {
            s->mark = s->out_end;
            return COMMAND_ROOM;
        }
        key = command_arg(call, (unsigned)s->progress.a);
        if (key.len == 0) {
            reply_null(s);
        } else {
            r = get_one(s, key);
            if (r == COMMAND_ROOM) {
                /* what is answered already stays: only this value is asked for again */
                s->mark = s->out_end;
                return COMMAND_ROOM;
            }
            if (r != COMMAND_DONE)
                return r;
        }
        s->progress.a++;
    }
    return COMMAND_DONE;
}

enum command_result command_del(struct session *s, const struct command_call *call)
{
    struct store_written written = {.ticket = 0};
    struct command_bytes key;
    int r;

    if (!key_argument(s, call, 1, "Invalid key", &key))
        return COMMAND_DONE;
    r = store_del(s->ns, key.data, (uint32_t)key.len, 0, &written);
    if (r == STORE_CROWDED)
        return crowded(s);
    if (r == 0)
        session_hold(s, written.ticket);
    else
        command_hold_newest(s);
    if (r == STORE_NO_KEY)
        reply_literal(s, "Key not found");
    else if (r == STORE_WORM)
        reply_literal(s, "Cannot delete a key when namespace is in worm mode");
    else if (r < 0)
        return command_failed(s, r);
    else
        reply_simple(s, "OK");
    return COMMAND_DONE;
}

enum command_result command_exists(struct session *s, const struct command_call *call)
{
    struct command_bytes key;
    uint64_t ticket = 0;
    int r;

    if (!key_argument(s, call, 1, "Invalid key", &key))
        return COMMAND_DONE;
    r = store_exists(s->ns, key.data, (uint32_t)key.len, &ticket);
    if (r < 0 && r != STORE_NO_KEY)
        return command_failed(s, r);
    if (r == 0)
        session_hold(s, ticket);
    else
        command_hold_newest(s);
    reply_integer(s, r == 0);
    return COMMAND_DONE;
}

enum command_result command_check(struct session *s, const struct command_call *call)
{
    struct command_bytes key;
    int r;

    if (!key_argument(s, call, 1, "Invalid key", &key))
        return COMMAND_DONE;
    r = store_check(s->ns, key.data, (uint32_t)key.len);
    command_hold_newest(s);
    if (r == STORE_NO_KEY)
        reply_null(s);
    else if (r == 0 || r == STORE_DAMAGED)
        reply_integer(s, r == 0);
    else
        return command_failed(s, r);
    return COMMAND_DONE;
}

/* What store_stat() knows of a key, one number of it. */
static enum command_result stat_one(struct session *s, const struct command_call *call,
                                    uint64_t (*which)(const struct store_value *))
{
    struct store_value found = {.ticket = 0};
    struct command_bytes key;
    int r;

    if (!key_argument(s, call, 1, "Invalid key", &key))
        return COMMAND_DONE;
    r = store_stat(s->ns, key.data, (uint32_t)key.len, &found);
    if (r < 0 && r != STORE_NO_KEY)
        return command_failed(s, r);
    if (r < 0) {
        command_hold_newest(s);
        reply_null(s);
        return COMMAND_DONE;
    }
    session_hold(s, found.ticket);
    reply_integer(s, which(&found));
    return COMMAND_DONE;
}

static uint64_t value_length(const struct store_value *value)
{
    return value->len;
}

static uint64_t value_time(const struct store_value *value)
{
    return value->time;
}

static uint64_t value_version(const struct store_value *value)
{
    return value->version;
}

enum command_result command_length(struct session *s, const struct command_call *call)
{
    return stat_one(s, call, value_length);
}

enum command_result command_keytime(struct session *s, const struct command_call *call)
{
    return stat_one(s, call, value_time);
}

enum command_result command_version(struct session *s, const struct command_call *call)
{
    return stat_one(s, call, value_version);
}
