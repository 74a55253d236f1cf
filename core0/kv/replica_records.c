/*
 * replica_records.c - takes a namespace's records over, with the primary's numbers.
 *
 * Invariant: a cursor is sent only when everything up to it is as safe as --sync says.
 */
#include "replica_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"

/* The primary allowed what we refuse: its limits were others then. They are taken over again once we are level. */
static bool relaxed(struct followed *f, int result)
{
    struct store_properties p;

    if (result != STORE_IS_LOCKED && result != STORE_IS_FROZEN && result != STORE_WORM &&
        result != STORE_OVER_QUOTA)
        return false;
    store_namespace_properties(f->ns, &p);
    p.lock = STORE_NORMAL;
    p.worm = false;
    p.maxsize = 0;
    f->level = false;
    return store_namespace_set(f->ns, &p) == 0;
}

static int apply_set(struct followed *f, struct store_write *write, uint64_t *ticket)
{
    struct store_written written = {.ticket = 0};
    int r;

    do {
        r = store_set(f->ns, write, &written);
    } while (r < 0 && relaxed(f, r));
    if (r == 0 && written.ticket > *ticket)
        *ticket = written.ticket;
    return r;
}

static int apply_del(struct followed *f, const struct store_write *write, uint64_t *ticket)
{
    struct store_written written = {.ticket = 0};
    int r;

    do {
        r = store_del(f->ns, write->key, write->key_len, write->number, &written);
    } while (r < 0 && relaxed(f, r));
    if (r == 0 && written.ticket > *ticket)
        *ticket = written.ticket;
    return r == STORE_NO_KEY ? 0 : r;
}

static int take_record(struct replica *replica, struct followed *f, uint64_t *ticket)
{
    uint8_t key[STORE_KEY_MAX];
    struct store_write write = {.key = key};
    const uint8_t *value;
    uint64_t time;
    int64_t count, len;
    size_t key_len;
    char type;
    int r = replica_client_count(&replica->client, 4, 4, &count);

    if (r < 0 || (r = replica_client_integer(&replica->client, &write.number)) < 0 ||
        (r = replica_client_bulk(&replica->client, key, sizeof(key), &key_len)) < 0 ||
        (r = replica_client_integer(&replica->client, &time)) < 0 ||
        (r = replica_client_head(&replica->client, &type, &len)) < 0)
        return r;
    if (type != '$' || time > UINT32_MAX)
        return -EPROTO;
    write.key_len = (uint32_t)key_len;
    write.time = (uint32_t)time;
    if (len < 0)
        return apply_del(f, &write, ticket);
    r = replica_client_bytes(&replica->client, (size_t)len, &value);
    if (r < 0)
        return r;
    write.value = value;
    write.value_len = (uint32_t)len;
    return apply_set(f, &write, ticket);
}

/* Until the store has answered the ticket, by its own policy. */
static int make_safe(struct replica *replica, uint64_t ticket)
{
    struct store *store = replica->server->store;
    uint64_t answered = 0, ignored;
    int r = store_submit(store);

    while (r >= 0) {
        struct pollfd fds[2] = {{.fd = replica->notify_fd, .events = POLLIN},
                                {.fd = replica->stop_fd, .events = POLLIN}};

        r = store_answered(store, &answered);
        if (r < 0 || answered >= ticket)
            break;
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return -errno;
        if (fds[1].revents != 0)
            return -ECANCELED;
        (void)!read(replica->notify_fd, &ignored, sizeof(ignored));
    }
    return r;
}

int replica_follow_again(struct replica *replica, struct followed *f)
{
    struct store_info info;

    f->level = false; /* the primary does not know us */
    if (f->ns == NULL)
        return 0;
    store_namespace_info(f->ns, &info);
    f->cursor = (struct store_cursor){.number = info.last_number};
    return make_safe(replica, store_namespace_ticket(f->ns));
}

/* One FOLLOW of a namespace. *ret_count: records that came. */
static int take_records(struct replica *replica, struct followed *f, int64_t *ret_count)
{
    char id[24], cursor[COMMAND_CURSOR_MAX];
    const struct replica_argument request[] = {
        {"FOLLOW", 6},
        {f->name, strlen(f->name)},
        {id, (size_t)snprintf(id, sizeof(id), "%" PRIu64, f->primary_id)},
        {cursor, command_cursor_format(&f->cursor, cursor)},
    };
    uint8_t text[COMMAND_CURSOR_MAX];
    struct store_cursor next;
    uint64_t ticket = 0;
    int64_t count;
    size_t len;
    int r = replica_client_send(&replica->client, request, 4);

    if (r == 0)
        r = replica_client_count(&replica->client, 2, 2, &count);
    if (r == 0)
        r = replica_client_bulk(&replica->client, text, sizeof(text), &len);
    if (r == 0 && command_cursor_parse((struct command_bytes){text, len}, &next) < 0)
        r = -EPROTO;
    if (r == 0)
        r = replica_client_count(&replica->client, 0, 1 << 20, ret_count);
    for (int64_t i = 0; r == 0 && i < *ret_count; i++)
        r = take_record(replica, f, &ticket);
    if (r == 0 && ticket > 0)
        r = make_safe(replica, ticket);
    if (r == 0)
        f->cursor = next;
    return r;
}

int replica_follow_namespace(struct replica *replica, struct followed *f)
{
    int64_t count = 1;
    int r = 0;

    if (f->hopeless || (f->level && f->cursor.number >= f->last_number))
        return 0;
    while (r == 0 && count > 0) {
        r = take_records(replica, f, &count);
        if (r == -EREMOTEIO && strstr(replica->client.error, "kv.stale-cursor") != NULL) {
            log_info("namespace %s: the primary has compacted what we lack; starting anew",
                     f->name);
            r = replica_followed_renew(replica, f);
            count = 1;
        } else if (r == -EREMOTEIO && strstr(replica->client.error, "kv.no-namespace") != NULL) {
            return 0; /* deleted meanwhile: the next list says so */
        } else if (r == STORE_INVALID) {
            f->hopeless = true;
            log_err("namespace %s cannot be followed (kv.bad-request): its records have lower "
                    "numbers than "
                    "ours; give the replica an empty data folder",
                    f->name);
            return -EPROTO; /* the rest of the answer is unread */
        }
    }
    if (r == 0)
        f->level = true;
    return r;
}
