/*
 * blob.c - see blob.h.
 */
#include "cli/blob.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/http/client.h"

struct put {
    bool done;
    struct error error;
};

static void on_done(const struct http_response *response, const struct error *err, void *user)
{
    struct put *put = user;
    (void)response;
    put->done = true;
    if (err != NULL) {
        put->error = *err;
    }
}

static int put_url(struct loop *loop, const char *url, const void *data, size_t len,
                   struct error *err)
{
    struct http_client_options options = {0};
    struct http_client *client;
    struct put put = {0};
    struct http_request request = {.method = "PUT",
                                   .url = url,
                                   .body = data,
                                   .body_len = len,
                                   .content_type = "application/octet-stream",
                                   .done = on_done,
                                   .user = &put,
                                   .flags = HTTP_FAIL_ON_STATUS};

    int ret = http_client_new(loop, &options, &client);
    if (ret < 0) {
        return error_set(err, -ret, "cli.failed", "", "no HTTP client: %s", strerror(-ret));
    }
    ret = http_request_start(client, &request, NULL);
    while (ret >= 0 && !put.done) {
        ret = loop_step(loop, -1);
    }
    http_client_free(client);
    if (ret < 0) {
        return error_set(err, -ret, "deploy.blob-refused", "", "%s cannot be written", url);
    }
    if (error_is_set(&put.error)) {
        *err = put.error;
        return -EIO;
    }
    return 0;
}

int blob_put(struct loop *loop, const char *to, const void *data, size_t len,
             const uint8_t hash[32], struct error *err)
{
    char path[PATH_MAX], name[65];
    size_t to_len = strlen(to);
    const char *slash = to_len > 0 && to[to_len - 1] == '/' ? "" : "/";

    hex_encode(hash, 32, name);
    if (strncmp(to, "http://", 7) == 0 || strncmp(to, "https://", 8) == 0) {
        snprintf(path, sizeof(path), "%s%sblobs/%s", to, slash, name);
        return put_url(loop, path, data, len, err);
    }
    snprintf(path, sizeof(path), "%s%sblobs", to, slash);
    int ret = file_mkdirs(path, 0755);
    if (ret == 0) {
        snprintf(path, sizeof(path), "%s%sblobs/%s", to, slash, name);
        ret = file_write_atomic(path, data, len, 0644);
    }
    return ret < 0 ? error_set(err, -ret, "deploy.blob-refused", "", "%s cannot be written: %s",
                               path, strerror(-ret))
                   : 0;
}
