/*
 * replica.c - the follower: keeps this server's namespaces and records like its primary's.
 *
 * States of a namespace: unknown (made, or emptied because the primary's is another one now) -> following (records are
 * applied with the primary's numbers) -> level (an empty answer came). A lost connection changes nothing: the cursor begins
 * again at the newest record we hold. Invariant: a cursor is sent only when everything up to it is as safe as --sync says.
 */
#include "replica.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "lib/file.h"
#include "lib/log.h"
#include "replica_client.h"

#define NAMESPACES_MAX 100000
#define STATE_MAX ((size_t)16 << 20)
#define LIST_WAIT_MS "1000"
#define RETRY_FIRST_MS 100
#define RETRY_MOST_MS 5000

struct followed {
    char name[STORE_NAME_MAX + 1];
    uint64_t primary_id;
    uint64_t last_number; /* of the primary, as of the last list */
    struct namespace *ns;
    struct store_cursor cursor;
    bool seen;     /* in the list that is being read */
    bool level;    /* the primary knows that we hold everything up to the cursor */
    bool hopeless; /* cannot be followed; said once */
};

struct replica {
    struct server *server;
    struct replica_options options;
    pthread_t thread;
    bool started;
    int stop_fd, notify_fd;
    struct replica_client client;
    struct followed *followed;
    size_t count;
    bool connected; /* for the log: said once per change */
};

/* ---- which of the primary's namespaces ours are: "<id> <name>" per line ---- */

static int state_save(struct replica *replica)
{
    struct buffer text;
    int r = 0;

    buffer_init(&text, STATE_MAX);
    for (size_t i = 0; i < replica->count && r >= 0; i++)
        r = buffer_printf(&text, "%" PRIu64 " %s\n", replica->followed[i].primary_id,
                          replica->followed[i].name);
    if (r >= 0)
        r = file_write_atomic(replica->options.state, text.data != NULL ? (char *)text.data : "",
                              text.len, 0600);
    buffer_done(&text);
    return r;
}

static struct followed *followed_add(struct replica *replica, const char *name, uint64_t id)
{
    struct followed *more;

    if (replica->count >= NAMESPACES_MAX)
        return NULL;
    more = realloc(replica->followed, (replica->count + 1) * sizeof(*more));
    if (more == NULL)
        return NULL;
    replica->followed = more;
    more += replica->count++;
    *more = (struct followed){.primary_id = id};
    snprintf(more->name, sizeof(more->name), "%s", name);
    return more;
}

static void state_load(struct replica *replica)
{
    char *text, *line, *rest, *end;
    size_t len;

    if (file_read(replica->options.state, STATE_MAX, &text, &len) < 0)
        return; /* a new replica */
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        uint64_t id = strtoull(line, &end, 10);

        if (*end == ' ' && strlen(end + 1) <= STORE_NAME_MAX)
            (void)followed_add(replica, end + 1, id);
    }
    free(text);
}

/* ---- our side of a namespace ---- */

static void followed_put(struct followed *f)
{
    if (f->ns != NULL)
        store_namespace_put(f->ns);
    f->ns = NULL;
}

/* Opens our namespace, at the newest record that it holds; 0 or a result of the store. */
static int followed_open(struct replica *replica, struct followed *f)
{
    struct store_info info;
    int r = store_namespace_get(replica->server->store, f->name, strlen(f->name), &f->ns);

    if (r < 0)
        return r;
    store_namespace_info(f->ns, &info);
    f->cursor = (struct store_cursor){.number = info.last_number};
    f->level = false;
    f->hopeless = false;
    return 0;
}

/* Ours has nothing to do with the primary's any more: begin with an empty one. */
static int followed_renew(struct replica *replica, struct followed *f)
{
    struct store *store = replica->server->store;
    size_t len = strlen(f->name);
    int r;

    followed_put(f);
    r = store_namespace_delete(store, f->name, len);
    if (r == STORE_INVALID) { /* "default" cannot be deleted: its numbers go on behind ours */
        r = store_namespace_get(store, f->name, len, &f->ns);
        if (r == 0)
            r = store_namespace_flush(f->ns);
        followed_put(f);
    } else if (r == 0 || r == STORE_NO_NAMESPACE) {
        r = store_namespace_create(store, f->name, len, NULL);
    }
    if (r < 0)
        return r;
    r = followed_open(replica, f);
    f->cursor = (struct store_cursor){.number = 0};
    return r;
}

/* ---- answers of the primary ---- */

static int read_integer(struct replica *replica, uint64_t *ret_number)
{
    int64_t number;
    int r = replica_client_expect(&replica->client, ':', &number);

    if (r == 0)
        *ret_number = (uint64_t)number;
    return r;
}

static int read_bulk(struct replica *replica, void *ret_data, size_t max, size_t *ret_len)
{
    const uint8_t *data;
    int64_t len;
    int r = replica_client_expect(&replica->client, '$', &len);

    if (r < 0)
        return r;
    if ((uint64_t)len > max)
        return -EPROTO;
    r = replica_client_bytes(&replica->client, (size_t)len, &data);
    if (r < 0)
        return r;
    memcpy(ret_data, data, (size_t)len);
    *ret_len = (size_t)len;
    return 0;
}

static int read_count(struct replica *replica, int64_t least, int64_t most, int64_t *ret_count)
{
    int r = replica_client_expect(&replica->client, '*', ret_count);

    if (r < 0)
        return r;
    return *ret_count >= least && *ret_count <= most ? 0 : -EPROTO;
}

/* ---- the list of namespaces ---- */

static bool same_properties(const struct store_properties *a, const struct store_properties *b)
{
    return a->mode == b->mode && a->maxsize == b->maxsize && a->is_public == b->is_public &&
           a->worm == b->worm && a->lock == b->lock && a->secret_len == b->secret_len &&
           memcmp(a->secret, b->secret, a->secret_len) == 0;
}

/* One row of the list: our namespace exists, is the right one and has the same properties. */
static int take_namespace(struct replica *replica, const char *name, uint64_t id,
                          const struct store_properties *properties, uint64_t last_number,
                          bool *ret_changed)
{
    struct store_properties ours;
    struct followed *f = NULL;
    int r = 0;

    for (size_t i = 0; i < replica->count; i++) {
        if (strcmp(replica->followed[i].name, name) == 0)
            f = &replica->followed[i];
    }
    if (f == NULL) {
        f = followed_add(replica, name, id);
        if (f == NULL)
            return STORE_NO_MEMORY;
        *ret_changed = true;
        r = followed_renew(replica, f); /* what we had under this name was not the primary's */
    } else if (f->primary_id != id) {
        f->primary_id = id;
        *ret_changed = true;
        r = followed_renew(replica, f);
    } else if (f->ns == NULL) {
        r = followed_open(replica, f);
        if (r == STORE_NO_NAMESPACE)
            r = followed_renew(replica, f);
    }
    if (r < 0)
        return r;
    f->seen = true;
    f->last_number = last_number;
    store_namespace_properties(f->ns, &ours);
    if (!same_properties(&ours, properties) && (f->level || ours.mode != properties->mode))
        r = store_namespace_set(f->ns, properties);
    return r;
}

static int read_namespace(struct replica *replica, bool *ret_changed)
{
    struct store_properties p = {.mode = STORE_USER};
    uint64_t id = 0, mode = 0, is_public = 0, worm = 0, lock = 0, last = 0;
    char name[STORE_NAME_MAX + 1];
    size_t len = 0, secret_len = 0;
    int64_t count;
    int r = read_count(replica, 9, 9, &count);

    if (r == 0)
        r = read_bulk(replica, name, STORE_NAME_MAX, &len);
    if (r < 0 || (r = read_integer(replica, &id)) < 0 || (r = read_integer(replica, &mode)) < 0 ||
        (r = read_integer(replica, &p.maxsize)) < 0 ||
        (r = read_integer(replica, &is_public)) < 0 || (r = read_integer(replica, &worm)) < 0 ||
        (r = read_integer(replica, &lock)) < 0 ||
        (r = read_bulk(replica, p.secret, sizeof(p.secret), &secret_len)) < 0 ||
        (r = read_integer(replica, &last)) < 0)
        return r;
    if (mode > STORE_SEQ || lock > STORE_FROZEN || memchr(name, '\0', len) != NULL ||
        memchr(name, '\n', len) != NULL)
        return -EPROTO;
    name[len] = '\0';
    p.mode = (enum store_mode)mode;
    p.is_public = is_public != 0;
    p.worm = worm != 0;
    p.lock = (enum store_lock)lock;
    p.secret_len = (uint16_t)secret_len;
    return take_namespace(replica, name, id, &p, last, ret_changed);
}

static int drop_vanished(struct replica *replica, bool *ret_changed)
{
    for (size_t i = 0; i < replica->count;) {
        struct followed *f = &replica->followed[i];
        int r = 0;

        if (f->seen) {
            i++;
            continue;
        }
        followed_put(f);
        r = store_namespace_delete(replica->server->store, f->name, strlen(f->name));
        if (r < 0 && r != STORE_NO_NAMESPACE && r != STORE_INVALID)
            return r;
        *f = replica->followed[--replica->count];
        *ret_changed = true;
    }
    return 0;
}

static int take_list(struct replica *replica, uint64_t *token)
{
    bool changed = false;
    char text[24];
    const struct replica_argument request[] = {
        {"FOLLOW", 6},
        {text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, *token)},
        {LIST_WAIT_MS, sizeof(LIST_WAIT_MS) - 1},
    };
    int64_t count;
    int r = replica_client_send(&replica->client, request, 3);

    if (r == 0)
        r = read_count(replica, 2, 2, &count);
    if (r == 0)
        r = read_integer(replica, token);
    if (r == 0)
        r = read_count(replica, 0, NAMESPACES_MAX, &count);
    for (size_t i = 0; r == 0 && i < replica->count; i++)
        replica->followed[i].seen = false;
    for (int64_t i = 0; r == 0 && i < count; i++)
        r = read_namespace(replica, &changed);
    if (r == 0)
        r = drop_vanished(replica, &changed);
    if (r == 0 && changed)
        r = state_save(replica);
    return r;
}

/* ---- records ---- */

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
    int r = read_count(replica, 4, 4, &count);

    if (r < 0 || (r = read_integer(replica, &write.number)) < 0 ||
        (r = read_bulk(replica, key, sizeof(key), &key_len)) < 0 ||
        (r = read_integer(replica, &time)) < 0 ||
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
        r = read_count(replica, 2, 2, &count);
    if (r == 0)
        r = read_bulk(replica, text, sizeof(text), &len);
    if (r == 0 && command_cursor_parse((struct command_bytes){text, len}, &next) < 0)
        r = -EPROTO;
    if (r == 0)
        r = read_count(replica, 0, 1 << 20, ret_count);
    for (int64_t i = 0; r == 0 && i < *ret_count; i++)
        r = take_record(replica, f, &ticket);
    if (r == 0 && ticket > 0)
        r = make_safe(replica, ticket);
    if (r == 0)
        f->cursor = next;
    return r;
}

static int follow_namespace(struct replica *replica, struct followed *f)
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
            r = followed_renew(replica, f);
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

/* ---- the connection ---- */

static int authenticate(struct replica *replica)
{
    static const struct replica_argument challenge[] = {
        {"AUTH", 4}, {"SECURE", 6}, {"CHALLENGE", 9}};
    const char *password = replica->options.password;
    char nonce[SESSION_NONCE + 1], hash[41], ok[8];
    struct replica_argument answer[] = {{"AUTH", 4}, {"SECURE", 6}, {hash, 40}};
    int r;

    if (password[0] == '\0')
        return 0;
    r = replica_client_send(&replica->client, challenge, 3);
    if (r == 0)
        r = replica_client_simple(&replica->client, nonce, sizeof(nonce));
    if (r < 0)
        return r;
    command_secret((const uint8_t *)password, strlen(password), nonce, hash);
    r = replica_client_send(&replica->client, answer, 3);
    return r == 0 ? replica_client_simple(&replica->client, ok, sizeof(ok)) : r;
}

static int follow(struct replica *replica)
{
    uint64_t token = 0;
    int r = replica_client_open(&replica->client, replica->options.primary, replica->stop_fd,
                                replica->server->options.max_value);

    if (r == 0)
        r = authenticate(replica);
    if (r == 0)
        log_info("following %s", replica->options.primary);
    for (size_t i = 0; i < replica->count; i++)
        replica->followed[i].level = false; /* a new connection: the primary does not know us */
    while (r == 0) {
        r = take_list(replica, &token);
        if (r == 0)
            replica->connected = true;
        for (size_t i = 0; r == 0 && i < replica->count; i++)
            r = follow_namespace(replica, &replica->followed[i]);
    }
    replica_client_close(&replica->client);
    return r;
}

static void say(struct replica *replica, int r)
{
    struct error err = {.code = ""};

    if (r == -EREMOTEIO) {
        log_warn("%s answers: %s", replica->options.primary, replica->client.error);
        return;
    }
    store_error(r, &err);
    if (r == STORE_DISK_FAILED || r == STORE_READ_ONLY || r == STORE_NO_SPACE)
        log_error(&err, "the replica");
    else if (replica->connected)
        log_warn("%s is away: %s", replica->options.primary, strerror(-r));
}

static void *replica_main(void *data)
{
    struct replica *replica = data;
    int pause = RETRY_FIRST_MS;

    for (;;) {
        struct pollfd stop = {.fd = replica->stop_fd, .events = POLLIN};
        int r = follow(replica);

        if (r == -ECANCELED)
            break;
        if (replica->connected)
            pause = RETRY_FIRST_MS;
        say(replica, r);
        replica->connected = false;
        if (poll(&stop, 1, pause) > 0)
            break;
        pause = pause * 2 < RETRY_MOST_MS ? pause * 2 : RETRY_MOST_MS;
    }
    return NULL;
}

int replica_start(struct server *server, const struct replica_options *options, struct error *err)
{
    struct replica *replica = calloc(1, sizeof(*replica));
    int r;

    if (replica == NULL)
        return error_set(err, ENOMEM, "kv.no-memory", "", "no memory for the replica");
    server->replica = replica;
    replica->server = server;
    replica->options = *options;
    replica->client.fd = -1;
    replica->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    replica->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (replica->stop_fd < 0 || replica->notify_fd < 0)
        return error_set(err, errno, "kv.no-memory", "", "no descriptor for the replica");
    r = store_notify(server->store, replica->notify_fd);
    if (r < 0)
        return store_error(r, err);
    state_load(replica);
    r = -pthread_create(&replica->thread, NULL, replica_main, replica);
    if (r < 0)
        return error_set(err, -r, "kv.no-worker", "", "a thread cannot start: %s", strerror(-r));
    replica->started = true;
    return 0;
}

void replica_stop(struct server *server)
{
    struct replica *replica = server->replica;
    uint64_t one = 1;

    if (replica == NULL)
        return;
    if (replica->started) {
        if (write(replica->stop_fd, &one, sizeof(one)) < 0)
            log_err("the replica cannot be stopped: %s", strerror(errno));
        pthread_join(replica->thread, NULL);
    }
    store_notify_remove(server->store, replica->notify_fd);
    for (size_t i = 0; i < replica->count; i++)
        followed_put(&replica->followed[i]);
    free(replica->followed);
    if (replica->stop_fd >= 0)
        close(replica->stop_fd);
    if (replica->notify_fd >= 0)
        close(replica->notify_fd);
    free(
        replica); /* server->replica stays set: workers that still run refuse writes until they end */
}
