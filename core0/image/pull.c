/*
 * pull.c - fetches an image: configuration → metadata → every missing object → configuration written.
 *
 * One pull per image; who asks for an image that is being fetched waits for the same pull. An object is tried at one hub
 * after the other, first at the one that answered last. Nothing gets a name before it was checked, so that a pull
 * may die anywhere; what it had fetched is found by the next one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "image.h"
#include "lib/crypto/text.h"
#include "lib/fault.h"
#include "lib/file.h"
#include "lib/image/unpack.h"
#include "lib/log.h"

#define PROGRESS_US ((uint64_t)250000)
#define SLOWEST                                                                                    \
    1024u /* bytes per second of one file: a hub that trickles less for 30 s is left for the next */

struct waiter {
    struct waiter *next;
    struct pull *pull;
    struct varlink_call *call;
};

enum fetch_kind { FETCH_CONFIG, FETCH_META, FETCH_OBJECT };

/* One file on its way. */
struct fetch {
    struct fetch *next;
    struct pull *pull;
    enum fetch_kind kind;
    size_t index; /* of the object */
    size_t tries; /* hubs asked so far */
    size_t hub;   /* being asked */
    struct http_transfer *transfer;
    struct image_unpack *unpack;
    int fd;
    int write_error;
    uint64_t counted;  /* bytes added to the pull's progress */
    bool altered;      /* this hub gave other bytes than the digest says */
    bool ever_altered; /* any hub did */
    bool reached;      /* a hub answered at all */
    char reason[200];  /* of the last hub */
};

struct pull {
    struct pull *next;
    struct images *images;
    char id[IMAGE_ID_TEXT];
    char *hubs[IMAGE_HUBS_MAX];
    size_t hub_count;
    size_t hub; /* the one that answered last */
    struct waiter *waiters;
    struct loop_timer *progress;
    struct fetch *fetches;
    size_t running;
    struct buffer text; /* of the configuration */
    struct image_config config;
    struct erofs_object *objects;
    bool *fetched; /* by this pull */
    bool *missing; /* when the pull looked: the others are not looked at again */
    size_t count;
    size_t next_object;
    uint64_t objects_done;
    uint64_t bytes_done;
    uint64_t bytes_total;
    bool listed; /* the configuration was on the disk already */
    bool ended;
};

static void fetch_start(struct pull *pull, enum fetch_kind kind, size_t index);
static void fetch_try(struct fetch *fetch);
static void pull_objects(struct pull *pull);

const char *pull_id(const struct pull *pull)
{
    return pull->id;
}

const struct pull *pull_next(const struct pull *pull)
{
    return pull->next;
}

/* ---- answers ---- */

static yyjson_mut_doc *progress_doc(const struct pull *pull, bool done)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_bool(doc, root, "done", done);
    yyjson_mut_obj_add_uint(doc, root, "objects", pull->objects_done);
    yyjson_mut_obj_add_uint(doc, root, "objectsTotal", pull->count);
    yyjson_mut_obj_add_uint(doc, root, "bytes", pull->bytes_done);
    yyjson_mut_obj_add_uint(doc, root, "bytesTotal", pull->bytes_total);
    if (done)
        yyjson_mut_obj_add_val(doc, root, "config",
                               yyjson_val_mut_copy(doc, yyjson_doc_get_root(pull->config.doc)));
    return doc;
}

static void tell_progress(struct loop_timer *timer, void *data)
{
    struct pull *pull = data;
    for (struct waiter *waiter = pull->waiters; waiter != NULL; waiter = waiter->next)
        if (varlink_call_wants_more(waiter->call))
            (void)varlink_call_reply_more(waiter->call, progress_doc(pull, false));
    loop_timer_in(timer, PROGRESS_US);
}

/* ---- the end ---- */

static void fetch_free(struct fetch *fetch)
{
    struct fetch **at = &fetch->pull->fetches;
    while (*at != fetch)
        at = &(*at)->next;
    *at = fetch->next;
    if (fetch->transfer != NULL)
        http_transfer_cancel(fetch->transfer);
    if (fetch->fd >= 0)
        close(fetch->fd);
    image_unpack_free(fetch->unpack);
    fetch->pull->running--;
    free(fetch);
}

static void pull_free(void *data)
{
    struct pull *pull = data;
    loop_timer_del(pull->progress);
    for (size_t i = 0; i < pull->hub_count; i++)
        free(pull->hubs[i]);
    buffer_done(&pull->text);
    image_config_done(&pull->config);
    free(pull->objects);
    free(pull->fetched);
    free(pull->missing);
    free(pull);
}

/* Answers everybody and takes the pull off the list; its memory goes at the end of the turn. err NULL: it is whole. */
static void pull_end(struct pull *pull, const struct error *err)
{
    if (pull->ended)
        return;
    pull->ended = true;
    for (struct fetch *fetch = pull->fetches, *next; fetch != NULL; fetch = next) {
        next = fetch->next;
        fetch_free(fetch);
    }
    struct pull **at = &pull->images->pulls;
    while (*at != pull)
        at = &(*at)->next;
    *at = pull->next;
    if (err != NULL) {
        log_error(err, pull->id);
        /* A full disk keeps nothing of what filled it, unless another pull may count on it. */
        for (size_t i = 0; strcmp(err->code, "image.no-space") == 0 &&
                           pull->images->pulls == NULL && i < pull->count;
             i++) {
            char path[128];
            store_object_path(pull->objects[i].digest, path);
            if (pull->fetched[i])
                (void)unlinkat(pull->images->root_fd, path, 0);
        }
    } else {
        log_info("image %s: %zu objects, %llu bytes fetched", pull->id, pull->count,
                 (unsigned long long)pull->bytes_done);
    }
    while (pull->waiters != NULL) {
        struct waiter *waiter = pull->waiters;
        pull->waiters = waiter->next;
        varlink_call_set_gone(waiter->call, NULL, NULL);
        if (err != NULL)
            varlink_call_fail(waiter->call, err);
        else
            varlink_call_reply(waiter->call, progress_doc(pull, true));
        free(waiter);
    }
    loop_timer_stop(pull->progress);
    if (loop_defer(daemon_loop(pull->images->daemon), pull_free, pull) < 0)
        log_warn("image %s: memory is kept", pull->id);
}

/* ---- the stages ---- */

static void pull_whole(struct pull *pull)
{
    struct error err = {0};
    /* One that is here whole is not written again: the disk's flushes would be most of a container's start. */
    bool as_it_was = pull->listed && pull->bytes_done == 0;
    if (!as_it_was && store_config_write(pull->images, pull->id, &pull->text, &err) < 0)
        pull_end(pull, &err);
    else
        pull_end(pull, NULL);
}

static int check_room(const struct pull *pull, uint64_t missing, struct error *err)
{
    struct statvfs fs;
    if (fstatvfs(pull->images->root_fd, &fs) < 0)
        return 0;
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (missing <= room)
        return 0;
    return error_set(err, ENOSPC, "image.no-space",
                     "use a smaller image, or a node with a larger disk",
                     "the image needs %llu bytes more and the disk has %llu",
                     (unsigned long long)missing, (unsigned long long)room);
}

/* The metadata is here: list what it needs. */
static void pull_list(struct pull *pull, int meta_fd)
{
    struct error err = {0};
    int r = store_objects(meta_fd, &pull->objects, &pull->count, &err);
    if (r == 0) {
        pull->fetched = calloc(pull->count + 1, sizeof(*pull->fetched));
        pull->missing = calloc(pull->count + 1, sizeof(*pull->missing));
        if (pull->fetched == NULL || pull->missing == NULL)
            r = error_set(&err, ENOMEM, "image.no-memory", "", "no memory");
    }
    uint64_t missing = 0;
    for (size_t i = 0; r == 0 && i < pull->count; i++) {
        char path[128];
        store_object_path(pull->objects[i].digest, path);
        pull->missing[i] = !store_has(pull->images, path);
        missing += pull->missing[i] ? pull->objects[i].size : 0;
    }
    if (r == 0)
        r = check_room(pull, missing, &err);
    if (r < 0) {
        pull_end(pull, &err);
        return;
    }
    pull->bytes_total = pull->bytes_done + missing;
    pull_objects(pull);
}

static void pull_objects(struct pull *pull)
{
    while (!pull->ended && pull->running < IMAGE_FETCHES_MAX && pull->next_object < pull->count) {
        char path[128];
        size_t index = pull->next_object++;
        store_object_path(pull->objects[index].digest, path);
        /* another pull may have brought it meanwhile */
        if (!pull->missing[index] || store_has(pull->images, path))
            pull->objects_done++;
        else
            fetch_start(pull, FETCH_OBJECT, index);
    }
    if (!pull->ended && pull->running == 0 && pull->next_object == pull->count)
        pull_whole(pull);
}

/* The configuration is here and checked. */
static void pull_meta(struct pull *pull)
{
    struct error err = {0};
    int fd;
    if (store_meta_open(pull->images, pull->config.digest, &fd, &err) < 0) {
        /* Absent, or altered and removed: either way it is fetched. */
        fetch_start(pull, FETCH_META, 0);
        return;
    }
    pull_list(pull, fd);
    close(fd);
}

static void pull_config(void *data)
{
    struct pull *pull = data;
    struct error err = {0};
    char path[128];
    cleanup_free char *text = NULL;
    size_t len;
    if (pull->ended)
        return;
    snprintf(path, sizeof(path), "configs/%s.json", pull->id);
    if (store_config(pull->images, pull->id, &pull->config, &err) == 0) {
        if (file_read_at(pull->images->root_fd, path, IMAGE_CONFIG_MAX, &text, &len) == 0 &&
            buffer_append(&pull->text, text, len) == 0) {
            pull->listed = true;
            pull_meta(pull);
            return;
        }
        image_config_done(&pull->config);
    }
    fetch_start(pull, FETCH_CONFIG, 0);
}

/* ---- one file ---- */

static void fetch_names(const struct fetch *fetch, char path[128], const uint8_t **ret_digest,
                        uint64_t *ret_size)
{
    const struct pull *pull = fetch->pull;
    *ret_digest = NULL;
    *ret_size = IMAGE_CONFIG_MAX;
    if (fetch->kind == FETCH_CONFIG) {
        snprintf(path, 128, "images/%s.json", pull->id);
    } else if (fetch->kind == FETCH_META) {
        store_meta_path(pull->config.digest, path);
        *ret_digest = pull->config.digest;
        *ret_size = pull->config.size;
    } else {
        store_object_path(pull->objects[fetch->index].digest, path);
        *ret_digest = pull->objects[fetch->index].digest;
        *ret_size = pull->objects[fetch->index].size;
    }
}

static int fetch_write(const void *data, size_t len, void *user)
{
    struct fetch *fetch = user;
    fetch->write_error = file_write_all(fetch->fd, data, len);
    if (fetch->write_error == 0) {
        fetch->counted += len;
        fetch->pull->bytes_done += len;
    }
    return fetch->write_error;
}

static int fetch_data(const void *data, size_t len, void *user)
{
    struct fetch *fetch = user;
    int r = image_unpack_feed(fetch->unpack, data, len);
    if ((r == -EBADMSG || r == -EFBIG) && fetch->write_error == 0)
        fetch->altered = true;
    return r;
}

/* Forgets what came from a hub that did not deliver. */
static void fetch_reset(struct fetch *fetch)
{
    image_unpack_free(fetch->unpack);
    fetch->unpack = NULL;
    if (fetch->fd >= 0)
        close(fetch->fd);
    fetch->fd = -1;
    fetch->pull->bytes_done -= fetch->counted;
    fetch->counted = 0;
}

/* Everything came: is it what its name says? 0, or -errno with err for what is not the hub's fault; -EAGAIN: try another. */
static int fetch_settle(struct fetch *fetch, const struct http_response *response,
                        struct error *err)
{
    struct pull *pull = fetch->pull;
    char path[128];
    const uint8_t *digest;
    uint64_t size;
    fetch_names(fetch, path, &digest, &size);
    if (fetch->kind == FETCH_CONFIG) {
        char id[IMAGE_ID_TEXT];
        image_id(response->body, response->body_len, id);
        if (strcmp(id, pull->id) != 0) {
            fetch->ever_altered = true;
            snprintf(fetch->reason, sizeof(fetch->reason), "the configuration does not match");
            return -EAGAIN;
        }
        buffer_clear(&pull->text);
        int r = buffer_append(&pull->text, response->body, response->body_len);
        return r < 0 ? store_error(err, path, r)
                     : image_config_read((const char *)pull->text.data, pull->text.len,
                                         &pull->config, err);
    }
    uint8_t got[VERITY_DIGEST_SIZE];
    uint64_t got_size = 0;
    int r = image_unpack_finish(fetch->unpack, got, &got_size);
    if (r < 0 || got_size != size || memcmp(got, digest, VERITY_DIGEST_SIZE) != 0) {
        fetch->ever_altered = true;
        snprintf(fetch->reason, sizeof(fetch->reason), "%s does not match its digest", path);
        return -EAGAIN;
    }
    int fd = fetch->fd;
    fetch->fd = -1;
    r = store_keep(pull->images, fd, path, digest, err);
    if (r == 0 && fetch->kind == FETCH_OBJECT)
        pull->fetched[fetch->index] = true;
    return r;
}

/* What follows when a file is here. */
static void fetch_arrived(struct fetch *fetch)
{
    struct pull *pull = fetch->pull;
    enum fetch_kind kind = fetch->kind;
    pull->hub = fetch->hub;
    if (kind == FETCH_OBJECT)
        pull->objects_done++;
    fetch_free(fetch);
    if (kind == FETCH_OBJECT)
        pull_objects(pull);
    else
        pull_meta(pull);
}

static void fetch_done(const struct http_response *response, const struct error *http_err,
                       void *user)
{
    struct fetch *fetch = user;
    struct pull *pull = fetch->pull;
    struct error err = {0};
    fetch->transfer = NULL;
    if (fetch->write_error != 0) {
        (void)store_error(&err, "an object cannot be written", fetch->write_error);
        pull_end(pull, &err);
        return;
    }
    if (response != NULL && response->status > 0)
        fetch->reached = true;
    if (fetch->altered) {
        fetch->ever_altered = true;
        snprintf(fetch->reason, sizeof(fetch->reason), "what it sends is not what the digest says");
    } else if (http_err != NULL) {
        /* Longer than it can be is as wrong as other bytes. */
        fetch->ever_altered |= strcmp(http_err->code, "http.too-big") == 0;
        snprintf(fetch->reason, sizeof(fetch->reason), "%.190s", http_err->message);
    } else if (response != NULL) {
        int r = fetch_settle(fetch, response, &err);
        if (r == 0) {
            fault_point("pull.arrived");
            fetch_arrived(fetch);
            return;
        }
        if (r != -EAGAIN) {
            pull_end(pull, &err);
            return;
        }
    }
    log_warn("image %.12s: %s: %s", pull->id, pull->hubs[fetch->hub], fetch->reason);
    fetch_reset(fetch);
    fetch_try(fetch);
}

static void fetch_failed(struct fetch *fetch)
{
    struct error err = {0};
    char path[128];
    const uint8_t *digest;
    uint64_t size;
    fetch_names(fetch, path, &digest, &size);
    if (fetch->pull->hub_count == 0)
        (void)error_set(&err, EINVAL, "image.not-found", "name a hub for it",
                        "no hub is named for %s", fetch->pull->id);
    else if (fetch->ever_altered)
        (void)error_set(&err, EBADMSG, "image.digest-mismatch",
                        "push the image again, or name another hub", "%.90s: %.190s", path,
                        fetch->reason);
    else if (fetch->reached)
        (void)error_set(&err, ENOENT, "image.not-found",
                        "push the image to a hub that the reservation names",
                        "no hub has %.90s: %.190s", path, fetch->reason);
    else
        (void)error_set(&err, EHOSTUNREACH, "image.unreachable", "is the hub running?", "%.190s",
                        fetch->reason);
    pull_end(fetch->pull, &err);
}

static void fetch_try(struct fetch *fetch)
{
    struct pull *pull = fetch->pull;
    struct error err = {0};
    char path[128];
    const uint8_t *digest;
    uint64_t size;
    if (fetch->tries == pull->hub_count) {
        fetch_failed(fetch);
        return;
    }
    fetch->hub = fetch->tries == 0 ? pull->hub : (fetch->hub + 1) % pull->hub_count;
    fetch->tries++;
    fetch_names(fetch, path, &digest, &size);
    fetch->altered = false;
    int r = 0;
    char *url = NULL;
    if (asprintf(&url, "%s/%s%s", pull->hubs[fetch->hub], path,
                 fetch->kind == FETCH_CONFIG ? "" : ".zst") < 0)
        r = error_set(&err, ENOMEM, "image.no-memory", "", "no memory");
    if (r == 0 && fetch->kind != FETCH_CONFIG) {
        r = store_begin(pull->images, path, &fetch->fd, &err);
        if (r == 0 && image_unpack_new(size, fetch_write, fetch, &fetch->unpack) < 0)
            r = error_set(&err, ENOMEM, "image.no-memory", "", "no memory");
    }
    if (r < 0) {
        free(url);
        pull_end(pull, &err);
        return;
    }
    struct http_request request = {
        .url = url,
        .timeout_us = UINT64_MAX,
        .stall_rate = SLOWEST,
        /* zstd adds a little to what does not compress. */
        .max_body = fetch->kind == FETCH_CONFIG ? IMAGE_CONFIG_MAX : size + size / 64 + 65536,
        .data = fetch->kind == FETCH_CONFIG ? NULL : fetch_data,
        .done = fetch_done,
        .user = fetch,
        /* A hub is where the tenant said; it does not send this node's requests somewhere else. */
        .flags = HTTP_FAIL_ON_STATUS | HTTP_NO_REDIRECT,
    };
    r = http_request_start(pull->images->http, &request, &fetch->transfer);
    free(url);
    if (r < 0) {
        snprintf(fetch->reason, sizeof(fetch->reason), "%.150s is no address of a hub",
                 pull->hubs[fetch->hub]);
        fetch_reset(fetch);
        fetch_try(fetch);
    }
}

static void fetch_start(struct pull *pull, enum fetch_kind kind, size_t index)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    if (fetch == NULL) {
        struct error err = {0};
        (void)error_set(&err, ENOMEM, "image.no-memory", "", "no memory");
        pull_end(pull, &err);
        return;
    }
    fetch->pull = pull;
    fetch->kind = kind;
    fetch->index = index;
    fetch->fd = -1;
    fetch->next = pull->fetches;
    pull->fetches = fetch;
    pull->running++;
    fetch_try(fetch);
}

/* ---- who asks ---- */

static void waiter_gone(struct varlink_call *call, void *data)
{
    struct waiter *gone = data;
    struct pull *pull = gone->pull;
    (void)call;
    struct waiter **at = &pull->waiters;
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    free(gone);
    if (pull->waiters == NULL) {
        struct error err = {0};
        (void)error_set(&err, ECANCELED, "image.cancelled", "",
                        "nobody waits for the image any more");
        pull_end(pull, &err);
    }
}

static int add_waiter(struct pull *pull, struct varlink_call *call)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter == NULL)
        return -ENOMEM;
    waiter->pull = pull;
    waiter->call = call;
    waiter->next = pull->waiters;
    pull->waiters = waiter;
    varlink_call_set_gone(call, waiter_gone, waiter);
    return 0;
}

/* A hub that is named twice is asked once. */
static int add_hub(struct pull *pull, const char *hub)
{
    size_t len = strlen(hub);
    while (len > 0 && hub[len - 1] == '/')
        len--;
    for (size_t i = 0; i < pull->hub_count; i++)
        if (strlen(pull->hubs[i]) == len && strncmp(pull->hubs[i], hub, len) == 0)
            return 0;
    if (pull->hub_count == IMAGE_HUBS_MAX)
        return 0;
    pull->hubs[pull->hub_count] = strndup(hub, len);
    return pull->hubs[pull->hub_count++] == NULL ? -ENOMEM : 0;
}

static int pull_new(struct images *images, const char *id, const char *const *hubs,
                    size_t hub_count, struct pull **ret_pull)
{
    struct pull *pull = calloc(1, sizeof(*pull));
    if (pull == NULL)
        return -ENOMEM;
    pull->images = images;
    snprintf(pull->id, sizeof(pull->id), "%s", id);
    buffer_init(&pull->text, IMAGE_CONFIG_MAX);
    int r = loop_timer_add(daemon_loop(images->daemon), tell_progress, pull, &pull->progress);
    for (size_t i = 0; r == 0 && i < images->own_hub_count; i++)
        r = add_hub(pull, images->own_hubs[i]);
    for (size_t i = 0; r == 0 && i < hub_count; i++)
        r = add_hub(pull, hubs[i]);
    /* The first step comes from the loop: nobody is answered from inside a call to here. */
    if (r == 0)
        r = loop_defer(daemon_loop(images->daemon), pull_config, pull);
    if (r < 0) {
        pull_free(pull);
        return r;
    }
    loop_timer_in(pull->progress, PROGRESS_US);
    pull->next = images->pulls;
    images->pulls = pull;
    *ret_pull = pull;
    return 0;
}

void pull_request(struct images *images, const char *id, const char *const *hubs, size_t hub_count,
                  struct varlink_call *call)
{
    struct error err = {0};
    struct pull *pull = images->pulls;
    while (pull != NULL && strcmp(pull->id, id) != 0)
        pull = pull->next;
    int r = 0;
    if (pull == NULL)
        r = pull_new(images, id, hubs, hub_count, &pull);
    if (r == 0)
        r = add_waiter(pull, call);
    if (r < 0) {
        (void)error_set(&err, -r, "image.no-memory", "", "%s", strerror(-r));
        varlink_call_fail(call, &err);
    }
}
