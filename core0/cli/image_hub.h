/*
 * image_hub.h - a hub as seen from the command line: a folder, or a web server that takes GET, HEAD and PUT.
 *
 * Paths inside are those of docs/images.md. Everything blocks. Errors: image.not-found, image.unreachable,
 * image.read-failed, image.write-failed.
 */
#pragma once

#include "cli/image.h"

struct image_hub;

/* Where the bytes of a file go; what `write` answers other than 0 ends the reading. */
struct image_sink {
    int (*write)(const void *data, size_t len, void *user);
    void *user;
    int result;
    struct waiting *waiting; /* image_hub.c's own */
};

int image_hub_open(const char *where, struct image_hub **ret_hub, struct error *err);
void image_hub_free(struct image_hub *hub);
/* 0, what the sink said, or -errno with *err. */
int image_hub_get(struct image_hub *hub, const char *path, struct image_sink *sink,
                  struct error *err);
int image_hub_read(struct image_hub *hub, const char *path, struct buffer *out, struct error *err);
int image_hub_has(struct image_hub *hub, const char *path, struct error *err); /* 1, 0, -errno */
int image_hub_put(struct image_hub *hub, const char *path, const void *data, size_t len,
                  struct error *err);
