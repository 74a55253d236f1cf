/*
 * image_hub.c - a hub as seen from the command line: a folder, or a web server that takes GET, HEAD and PUT.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/image_hub.h"
#include "lib/file.h"
#include "lib/http/client.h"
#include "lib/loop.h"

#define BODY_MAX ((uint64_t)8 << 30)

/* How the request under way ended; a hub has one at a time. */
struct waiting {
    bool done;
    int status;
    struct error err;
};

struct image_hub {
    char *where;
    bool web;
    struct loop *loop;
    struct http_client *client;
    struct waiting waiting;
};

void image_hub_free(struct image_hub *hub)
{
    if (hub == NULL) {
        return;
    }
    http_client_free(hub->client);
    loop_free(hub->loop);
    free(hub->where);
    free(hub);
}

int image_hub_open(const char *where, struct image_hub **ret_hub, struct error *err)
{
    struct image_hub *hub = calloc(1, sizeof(*hub));
    int r = hub == NULL || (hub->where = strdup(where)) == NULL ? -ENOMEM : 0;
    if (r == 0) {
        size_t len = strlen(hub->where);
        while (len > 1 && hub->where[len - 1] == '/') {
            hub->where[--len] = '\0';
        }
        hub->web = strncmp(where, "http://", 7) == 0 || strncmp(where, "https://", 8) == 0;
    }
    if (r == 0 && hub->web) {
        r = loop_new(&hub->loop);
        r = r == 0 ? http_client_new(hub->loop, NULL, &hub->client) : r;
    }
    if (r < 0) {
        image_hub_free(hub);
        return error_set(err, -r, "image.no-memory", "", "%s", strerror(-r));
    }
    *ret_hub = hub;
    return 0;
}

static void on_done(const struct http_response *response, const struct error *err, void *user)
{
    struct waiting *waiting = user;
    waiting->done = true;
    waiting->status = response != NULL ? response->status : 0;
    if (err != NULL) {
        waiting->err = *err;
    }
}

/* Runs one request to its end. The status, or -errno. */
static int request(struct image_hub *hub, struct http_request *http, const char *path,
                   struct error *err)
{
    char *url = NULL;
    if (asprintf(&url, "%s/%s", hub->where, path) < 0) {
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    }
    struct waiting *waiting = &hub->waiting;
    *waiting = (struct waiting){0};
    http->url = url;
    http->timeout_us = UINT64_MAX;
    http->max_body = BODY_MAX;
    if (http->user == NULL) {
        http->user = waiting;
        http->done = on_done;
    } else {
        ((struct image_sink *)http->user)->waiting = waiting;
    }
    struct http_transfer *transfer = NULL;
    int r = http_request_start(hub->client, http, &transfer);
    bool started = r == 0;
    while (r == 0 && !waiting->done) {
        r = loop_step(hub->loop, -1);
        r = r < 0 ? r : 0;
    }
    if (started && !waiting->done) {
        http_transfer_cancel(transfer); /* its sink is the caller's and ends with this call */
    }
    if (r < 0) {
        r = error_set(err, -r, "image.unreachable", "", "%s: %s", url, strerror(-r));
    } else if (error_is_set(&waiting->err) && strcmp(waiting->err.code, "http.aborted") != 0) {
        r = error_set(err, EIO, "image.unreachable", "is the hub running?", "%.150s: %.120s", url,
                      waiting->err.message);
    } else {
        r = waiting->status;
    }
    free(url);
    return r;
}

static int sink_data(const void *data, size_t len, void *user)
{
    struct image_sink *sink = user;
    sink->result = sink->result == 0 ? sink->write(data, len, sink->user) : sink->result;
    return sink->result;
}

static void sink_done(const struct http_response *response, const struct error *err, void *user)
{
    on_done(response, err, ((struct image_sink *)user)->waiting);
}

int image_hub_get(struct image_hub *hub, const char *path, struct image_sink *sink,
                  struct error *err)
{
    sink->result = 0;
    if (hub->web) {
        struct http_request http = {.data = sink_data, .user = sink, .done = sink_done};
        int status = request(hub, &http, path, err);
        if (status < 0) {
            return status;
        }
        if (sink->result != 0) {
            return sink->result;
        }
        if (status / 100 != 2) {
            return error_set(err, ENOENT, "image.not-found", "was it pushed there?",
                             "%.100s/%.100s: HTTP status %d", hub->where, path, status);
        }
        return 0;
    }
    char full[4096];
    snprintf(full, sizeof(full), "%s/%s", hub->where, path);
    cleanup_close int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set(err, errno, errno == ENOENT ? "image.not-found" : "image.read-failed",
                         "was it pushed there?", "%.250s: %s", full, strerror(errno));
    }
    static uint8_t data[1 << 17];
    ssize_t n;
    while ((n = read(fd, data, sizeof(data))) > 0) {
        int r = sink->write(data, (size_t)n, sink->user);
        if (r != 0) {
            return r;
        }
    }
    return n < 0
               ? error_set(err, errno, "image.read-failed", "", "%.250s: %s", full, strerror(errno))
               : 0;
}

static int append(const void *data, size_t len, void *user)
{
    return buffer_append(user, data, len);
}

int image_hub_read(struct image_hub *hub, const char *path, struct buffer *out, struct error *err)
{
    struct image_sink sink = {.write = append, .user = out};
    int r = image_hub_get(hub, path, &sink, err);
    if (r < 0 && !error_is_set(err)) {
        return error_set(err, -r, "image.too-large", "", "%s is too large", path);
    }
    return r;
}

int image_hub_has(struct image_hub *hub, const char *path, struct error *err)
{
    if (hub->web) {
        struct http_request http = {.method = "HEAD"};
        int status = request(hub, &http, path, err);
        return status < 0 ? status : status / 100 == 2;
    }
    char full[4096];
    snprintf(full, sizeof(full), "%s/%s", hub->where, path);
    return access(full, F_OK) == 0;
}

int image_hub_put(struct image_hub *hub, const char *path, const void *data, size_t len,
                  struct error *err)
{
    if (hub->web) {
        struct http_request http = {.method = "PUT",
                                    .body = data,
                                    .body_len = len,
                                    .content_type = "application/octet-stream"};
        int status = request(hub, &http, path, err);
        if (status >= 0 && status / 100 != 2) {
            return error_set(err, EIO, "image.write-failed", "does the server take PUT?",
                             "%.100s/%.100s: HTTP status %d", hub->where, path, status);
        }
        return status < 0 ? status : 0;
    }
    char full[4096];
    snprintf(full, sizeof(full), "%s/%s", hub->where, path);
    char *slash = strrchr(full, '/');
    *slash = '\0';
    int r = file_mkdirs(full, 0755);
    *slash = '/';
    r = r == 0 ? file_write_atomic(full, data, len, 0644) : r;
    return r < 0 ? error_set(err, -r, "image.write-failed", "", "%.250s: %s", full, strerror(-r))
                 : 0;
}
