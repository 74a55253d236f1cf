/*
 * command_scan.c - SCAN RSCAN KSCAN KEYCUR HISTORY DATA INDEX: walks over records, and places of them.
 *
 * A cursor is a decimal number for clients: the record's number in its upper 64 bits and the store's hint in the lower. It
 * only rises from record to record, and a client that knows Redis' SCAN can read it as an integer.
 */
#include <stdio.h>
#include <string.h>

#include "command.h"

#define SCAN_ITEMS 512 /* per answer: at most half a mebibyte with the longest keys */
#define SCAN_ITEM_ROOM (STORE_KEY_MAX + 4 * RESP_HEAD_MAX)
#define SCAN_ROUNDS 16 /* bounded pieces of the store's work per turn, when all they met was dead */
#define KSCAN_ANSWER_MAX ((size_t)16 << 20)

__extension__ typedef unsigned __int128 wide;

/* ---- cursors ---- */

size_t command_cursor_format(const struct store_cursor *cursor, char ret_text[COMMAND_CURSOR_MAX])
{
    wide number = (wide)cursor->number << 64 | cursor->hint;
    char digits[COMMAND_CURSOR_MAX];
    size_t count = 0, len = 0;

    do {
        digits[count++] = (char)('0' + (int)(number % 10));
        number /= 10;
    } while (number > 0);
    while (count > 0)
        ret_text[len++] = digits[--count];
    return len;
}

int command_cursor_parse(struct command_bytes text, struct store_cursor *ret_cursor)
{
    wide number = 0;

    if (text.len == 0 || text.len > COMMAND_CURSOR_MAX - 1)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';

        if (digit > 9 || number > (~(wide)0 - digit) / 10)
            return -1;
        number = number * 10 + digit;
    }
    *ret_cursor =
        (struct store_cursor){.number = (uint64_t)(number >> 64), .hint = (uint64_t)number};
    return 0;
}

static void reply_cursor(struct session *s, const struct store_cursor *cursor)
{
    char text[COMMAND_CURSOR_MAX];
    size_t len = command_cursor_format(cursor, text);

    (void)reply_bulk(s, text, len); /* has always room */
}

/* ---- SCAN, RSCAN ---- */

struct scan {
    struct session *session;
    bool room; /* there was none */
};

static int scan_item(void *ctx, const struct store_item *item)
{
    struct scan *scan = ctx;
    struct session *s = scan->session;

    if (!reply_room(s, SCAN_ITEM_ROOM)) {
        scan->room = true;
        return 1;
    }
    reply_array(s, 3);
    (void)reply_bulk(s, item->key, item->key_len);
    reply_integer(s, item->value_len);
    reply_integer(s, item->time);
    s->progress.count++;
    return 0;
}

static enum command_result scan_answer(struct session *s, const struct store_cursor *cursor)
{
    char before[COMMAND_CURSOR_MAX + 2 * RESP_HEAD_MAX], text[COMMAND_CURSOR_MAX];
    size_t len = command_cursor_format(cursor, text);
    int n = snprintf(before, sizeof(before), "*2\r\n$%zu\r\n%.*s\r\n", len, (int)len, text);

    return reply_array_close(s, before, (size_t)n, s->progress.count) ? COMMAND_DONE : COMMAND_ROOM;
}

static enum command_result scan(struct session *s, const struct command_call *call, bool backwards)
{
    struct scan scan = {.session = s};
    struct store_cursor cursor = s->progress.cursor;

    if (!s->progress.begun && command_count(call) > 1 &&
        command_cursor_parse(command_arg(call, 1), &cursor) < 0) {
        reply_literal(s, "Invalid key format");
        return COMMAND_DONE;
    }
    s->progress.begun = true;
    for (int i = 0; i < SCAN_ROUNDS; i++) {
        bool more = false;
        int r;

        s->progress.count = 0;
        r = store_scan(s->ns, &cursor, backwards, SCAN_ITEMS, scan_item, &scan, &more, NULL);
        if (r < 0)
            return command_failed(s, r);
        command_hold_newest(s);
        if (s->progress.count > 0)
            return scan_answer(s, &cursor);
        if (scan.room)
            return COMMAND_ROOM;
        s->progress.cursor = cursor;
        if (!more) {
            reply_literal(s, "No more data");
            return COMMAND_DONE;
        }
    }
    return COMMAND_STEP;
}

enum command_result command_scan(struct session *s, const struct command_call *call)
{
    return scan(s, call, false);
}

enum command_result command_rscan(struct session *s, const struct command_call *call)
{
    return scan(s, call, true);
}

/* ---- KSCAN ---- */

static int kscan_item(void *ctx, const struct store_item *item)
{
    struct scan *scan = ctx;
    struct session *s = scan->session;

    if (s->out_end - s->mark + item->key_len > KSCAN_ANSWER_MAX)
        return STORE_TOO_LARGE;
    if (!reply_bulk(s, item->key, item->key_len)) {
        scan->room = true;
        return STORE_NO_MEMORY;
    }
    s->progress.count++;
    return 0;
}

/* One answer, however many keys: 0-db has no cursor here. The store walks in pieces, the others have their turn in between. */
enum command_result command_kscan(struct session *s, const struct command_call *call)
{
    static const char before[] = "*2\r\n$1\r\n0\r\n";
    struct command_bytes prefix = command_arg(call, 1);
    struct scan scan = {.session = s};
    struct store_info info;
    int r;

    if (!s->progress.begun) {
        store_namespace_info(s->ns, &info);
        if (info.properties.mode != STORE_USER) {
            reply_literal(s, "Index running mode doesn't support this feature");
            return COMMAND_DONE;
        }
        s->progress.begun = true;
    }
    r = store_keys(s->ns, prefix.data, (uint32_t)prefix.len, &s->progress.a, kscan_item, &scan);
    if (r == 1)
        return COMMAND_STEP;
    command_hold_newest(s);
    if (r == 0 && s->progress.count > 0) {
        if (reply_array_close(s, before, sizeof(before) - 1, s->progress.count))
            return COMMAND_DONE;
        r = STORE_NO_MEMORY;
    }
    if (r < 0)
        s->out_end = s->mark;
    if (r == STORE_TOO_LARGE)
        reply_error(s, "kv.too-large", "more than 16 MiB of keys: give a longer prefix, or SCAN");
    else if (r == 0)
        reply_literal(s, "No keys match");
    else if (r < 0)
        return command_failed(s, r);
    return COMMAND_DONE;
}

/* ---- KEYCUR, HISTORY ---- */

enum command_result command_keycur(struct session *s, const struct command_call *call)
{
    struct command_bytes key = command_arg(call, 1);
    struct store_value found = {.ticket = 0};
    int r = key.len <= STORE_KEY_MAX ? store_stat(s->ns, key.data, (uint32_t)key.len, &found)
                                     : STORE_NO_KEY;

    if (r == STORE_NO_KEY)
        reply_literal(s, "Key not found");
    else if (r < 0)
        return command_failed(s, r);
    else
        reply_cursor(s, &found.cursor);
    if (r == 0)
        session_hold(s, found.ticket);
    else
        command_hold_newest(s);
    return COMMAND_DONE;
}

/* The value comes last in the answer, but the place before it is known only with the value: the answer is put together
 * behind the value and turned round. */
enum command_result command_history(struct session *s, const struct command_call *call)
{
    struct command_bytes key = command_arg(call, 1);
    struct store_cursor cursor = {.number = 0};
    struct store_value found = {.ticket = 0};
    struct reply_value value;
    struct store_sink sink;
    char head[COMMAND_CURSOR_MAX + 64], text[COMMAND_CURSOR_MAX], when[16];
    size_t len, items;
    int r, n, when_len;

    if (command_count(call) == 3 && command_cursor_parse(command_arg(call, 2), &cursor) < 0) {
        reply_literal(s, "Invalid arguments");
        return COMMAND_DONE;
    }
    if (command_count(call) == 3 && cursor.number == 0) {
        reply_literal(s, "No more history");
        return COMMAND_DONE;
    }
    sink = reply_value_sink(&value, s);
    r = key.len <= STORE_KEY_MAX
            ? store_history(s->ns, key.data, (uint32_t)key.len, &cursor, &sink, &found)
            : STORE_NO_KEY;
    if (r < 0) {
        reply_value_undo(&value);
        if (value.starved)
            return COMMAND_ROOM;
        if (r != STORE_NO_KEY)
            return command_failed(s, r);
        command_hold_newest(s);
        reply_literal(s, command_count(call) == 2 ? "Key not found" : "No more history");
        return COMMAND_DONE;
    }
    reply_value_done(&value);
    session_hold(s, found.ticket);
    len = command_cursor_format(&cursor, text);
    when_len = snprintf(when, sizeof(when), "%u", found.time);
    if (cursor.number != 0)
        n = snprintf(head, sizeof(head), "*3\r\n$%zu\r\n%.*s\r\n$%d\r\n%s\r\n", len, (int)len, text,
                     when_len, when);
    else
        n = snprintf(head, sizeof(head), "*3\r\n$-1\r\n$%d\r\n%s\r\n", when_len, when);
    if (!reply_room(s, (size_t)n))
        return COMMAND_ROOM;
    items = s->out_end - s->mark;
    memmove(s->out + s->mark + n, s->out + s->mark, items);
    memcpy(s->out + s->mark, head, (size_t)n);
    s->out_end += (size_t)n;
    return COMMAND_DONE;
}

/* ---- DATA, INDEX ---- */

static enum command_result data_raw(struct session *s, const struct command_call *call)
{
    uint64_t segment, offset;
    struct reply_value value;
    struct store_sink sink;
    struct store_item item = {.key = NULL};
    struct store_value found = {.ticket = 0};
    struct store_place place = {.segment = 0};
    uint8_t key[STORE_KEY_MAX], head[2 * STORE_KEY_MAX];
    size_t len, items;
    int r;

    if (command_number(command_arg(call, 2), UINT32_MAX, &segment) < 0 ||
        command_number(command_arg(call, 3), UINT64_MAX, &offset) < 0) {
        reply_literal(s, "Invalid arguments");
        return COMMAND_DONE;
    }
    sink = reply_value_sink(&value, s);
    r = store_raw(s->ns, (uint32_t)segment, offset, key, &item, &sink, &found);
    if (r == 0)
        r = store_locate(s->ns, &item.cursor, &place);
    if (r < 0) {
        reply_value_undo(&value);
        if (value.starved)
            return COMMAND_ROOM;
        if (r != STORE_NO_KEY)
            return command_failed(s, r);
        reply_error(s, "kv.no-record", "no record begins there");
        return COMMAND_DONE;
    }
    if (item.deleted && s->out_end == s->mark)
        reply_null(s);
    else
        reply_value_done(&value);
    session_hold(s, found.ticket);
    len = resp_head('*', 6, head);
    len += resp_head('$', item.key_len, head + len);
    memcpy(head + len, key, item.key_len);
    len += item.key_len;
    /* no previous offset: what came before a record is found by HISTORY */
    len +=
        (size_t)snprintf((char *)head + len, sizeof(head) - len, "\r\n$-1\r\n:%u\r\n:%d\r\n:%u\r\n",
                         place.checksum, item.deleted, item.time);
    if (!reply_room(s, len))
        return COMMAND_ROOM;
    items = s->out_end - s->mark;
    memmove(s->out + s->mark + len, s->out + s->mark, items);
    memcpy(s->out + s->mark, head, len);
    s->out_end += len;
    return COMMAND_DONE;
}

static enum command_result data_place(struct session *s, struct command_bytes key)
{
    struct store_value found = {.ticket = 0};
    struct store_place place = {.segment = 0};
    int r = key.len <= STORE_KEY_MAX ? store_stat(s->ns, key.data, (uint32_t)key.len, &found)
                                     : STORE_NO_KEY;

    if (r == 0)
        r = store_locate(s->ns, &found.cursor, &place);
    if (r == STORE_NO_KEY) {
        reply_literal(s, "Key not found");
        return COMMAND_DONE;
    }
    if (r < 0)
        return command_failed(s, r);
    session_hold(s, found.ticket);
    reply_array(s, 3);
    reply_integer(s, place.segment);
    reply_integer(s, place.offset);
    reply_integer(s, place.checksum);
    return COMMAND_DONE;
}

enum command_result command_data(struct session *s, const struct command_call *call)
{
    struct command_bytes word = command_arg(call, 1);

    if (command_is(word, "RAW") && command_count(call) == 4)
        return data_raw(s, call);
    if (command_is(word, "PLACE") && command_count(call) == 3)
        return data_place(s, command_arg(call, 2));
    reply_literal(s, "Unknown DATA subcommand");
    return COMMAND_DONE;
}

enum command_result command_index(struct session *s, const struct command_call *call)
{
    if (!command_is(command_arg(call, 1), "DIRTY"))
        reply_literal(s, "Unknown INDEX subcommand");
    else
        reply_error(
            s, "kv.not-supported",
            "there are no index files to list: a replica follows by record numbers (FOLLOW)");
    return COMMAND_DONE;
}
