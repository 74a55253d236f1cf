/*
 * replica_list.c - which namespaces the primary has, which of ours they are, and their properties.
 *
 * The state file has a line "<id> <name>" per namespace: the primary's id, so that one that was deleted and made again is known.
 */
#include "replica_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/file.h"

#define NAMESPACES_MAX 100000
#define STATE_MAX ((size_t)16 << 20)
#define LIST_WAIT_MS "1000"

/* ---- the state file ---- */

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

void replica_state_load(struct replica *replica)
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

void replica_followed_put(struct followed *f)
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

int replica_followed_renew(struct replica *replica, struct followed *f)
{
    struct store *store = replica->server->store;
    size_t len = strlen(f->name);
    int r;

    replica_followed_put(f);
    r = store_namespace_delete(store, f->name, len);
    if (r == STORE_INVALID) { /* "default" cannot be deleted */
        r = store_namespace_get(store, f->name, len, &f->ns);
        if (r == 0)
            r = store_namespace_restart(f->ns);
        replica_followed_put(f);
    } else if (r == 0 || r == STORE_NO_NAMESPACE) {
        r = store_namespace_create(store, f->name, len, NULL);
    }
    if (r < 0)
        return r;
    r = followed_open(replica, f);
    f->cursor = (struct store_cursor){.number = 0};
    return r;
}

/* ---- the list ---- */

static bool same_properties(const struct store_properties *a, const struct store_properties *b)
{
    return a->mode == b->mode && a->maxsize == b->maxsize && a->is_public == b->is_public &&
           a->worm == b->worm && a->tls_required == b->tls_required && a->lock == b->lock &&
           a->secret_len == b->secret_len && memcmp(a->secret, b->secret, a->secret_len) == 0;
}

/* One row of the list: our namespace exists, is the right one and has the same properties. */
static int take_namespace(struct replica *replica, const char *name, uint64_t id,
                          struct store_properties *properties, uint64_t last_number,
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
        r = replica_followed_renew(replica,
                                   f); /* what we had under this name was not the primary's */
    } else if (f->primary_id != id) {
        f->primary_id = id;
        *ret_changed = true;
        r = replica_followed_renew(replica, f);
    } else if (f->ns == NULL) {
        r = followed_open(replica, f);
        if (r == STORE_NO_NAMESPACE)
            r = replica_followed_renew(replica, f);
    }
    if (r < 0)
        return r;
    f->seen = true;
    f->last_number = last_number;
    store_namespace_properties(f->ns, &ours);
    properties->maxdisk = ours.maxdisk; /* of this disk, not of the primary's */
    if (!same_properties(&ours, properties) && (f->level || ours.mode != properties->mode))
        return store_namespace_set(f->ns, properties);
    if (ours.tls_required !=
        properties->tls_required) { /* this one cannot wait until we are level */
        ours.tls_required = properties->tls_required;
        r = store_namespace_set(f->ns, &ours);
    }
    return r;
}

static int read_namespace(struct replica *replica, bool *ret_changed)
{
    struct store_properties p = {.mode = STORE_USER};
    uint64_t id = 0, mode = 0, is_public = 0, worm = 0, lock = 0, last = 0, tls = 0;
    char name[STORE_NAME_MAX + 1];
    size_t len = 0, secret_len = 0;
    int64_t count;
    int r = replica_client_count(&replica->client, 9, 10, &count);

    if (r == 0)
        r = replica_client_bulk(&replica->client, name, STORE_NAME_MAX, &len);
    if (r < 0 || (r = replica_client_integer(&replica->client, &id)) < 0 ||
        (r = replica_client_integer(&replica->client, &mode)) < 0 ||
        (r = replica_client_integer(&replica->client, &p.maxsize)) < 0 ||
        (r = replica_client_integer(&replica->client, &is_public)) < 0 ||
        (r = replica_client_integer(&replica->client, &worm)) < 0 ||
        (r = replica_client_integer(&replica->client, &lock)) < 0 ||
        (r = replica_client_bulk(&replica->client, p.secret, sizeof(p.secret), &secret_len)) < 0 ||
        (r = replica_client_integer(&replica->client, &last)) < 0 ||
        (count == 10 && (r = replica_client_integer(&replica->client, &tls)) < 0))
        return r;
    if (mode > STORE_SEQ || lock > STORE_FROZEN || memchr(name, '\0', len) != NULL ||
        memchr(name, '\n', len) != NULL)
        return -EPROTO;
    name[len] = '\0';
    p.mode = (enum store_mode)mode;
    p.is_public = is_public != 0;
    p.worm = worm != 0;
    p.tls_required = tls != 0;
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
        replica_followed_put(f);
        r = store_namespace_delete(replica->server->store, f->name, strlen(f->name));
        if (r < 0 && r != STORE_NO_NAMESPACE && r != STORE_INVALID)
            return r;
        *f = replica->followed[--replica->count];
        *ret_changed = true;
    }
    return 0;
}

int replica_take_list(struct replica *replica, uint64_t *token)
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
        r = replica_client_count(&replica->client, 2, 2, &count);
    if (r == 0)
        r = replica_client_integer(&replica->client, token);
    if (r == 0)
        r = replica_client_count(&replica->client, 0, NAMESPACES_MAX, &count);
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
