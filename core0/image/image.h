/*
 * image.h - imaged: what it keeps on disk, what it fetches, what it mounts.
 *
 * On disk, below the root folder (/var/croft/images): configs/<id>.json, written last, so that an image whose
 * configuration is there was whole; meta/<digest> and objects/<aa>/<rest>, each with fs-verity on and checked before it
 * got its name.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/daemon.h"
#include "lib/http/client.h"
#include "lib/image/config.h"
#include "lib/image/erofs.h"

#define IMAGE_ROOT "/var/croft/images"
#define IMAGE_RUN "/run/croft/images"
#define IMAGE_UID_PROVD 106 /* initramfs/etc/passwd */
#define IMAGE_HUBS_MAX 8
#define IMAGE_FETCHES_MAX 16 /* at once, of one image */

struct pull;

struct images {
    struct daemon *daemon;
    struct http_client *http;
    const char *root;
    const char *run;
    int root_fd;
    struct pull *pulls;
    char *own_hubs[IMAGE_HUBS_MAX]; /* croft.hub: asked before those of the reservation */
    size_t own_hub_count;
};

/* ---- store.c ---- */
int store_open(struct images *images, struct error *err);
/* "meta/<hex>" and "objects/<aa>/<rest>". */
void store_meta_path(const uint8_t digest[VERITY_DIGEST_SIZE], char ret_path[128]);
void store_object_path(const uint8_t digest[VERITY_DIGEST_SIZE], char ret_path[128]);
bool store_has(const struct images *images, const char *path);
/* Configuration of an image that is here. image.not-found, image.bad-config. */
int store_config(const struct images *images, const char *id, struct image_config *ret_config,
                 struct error *err);
int store_config_write(const struct images *images, const char *id, const struct buffer *text,
                       struct error *err);
/* Opens the metadata file and checks what the kernel measures. image.not-found, image.digest-mismatch (it is removed then). */
int store_meta_open(const struct images *images, const uint8_t digest[VERITY_DIGEST_SIZE],
                    int *ret_fd, struct error *err);
/* All objects of an open metadata file. */
int store_objects(int meta_fd, struct erofs_object **ret_objects, size_t *ret_count,
                  struct error *err);
/* A file without a name in the folder of `path`, for store_keep. */
int store_begin(const struct images *images, const char *path, int *ret_fd, struct error *err);
/* Turns fs-verity on, compares what the kernel measures, and only then gives the file its name. Closes fd. */
int store_keep(const struct images *images, int fd, const char *path,
               const uint8_t digest[VERITY_DIGEST_SIZE], struct error *err);
int store_error(struct error *err, const char *what, int r); /* image.no-space, image.disk-failed */

/* ---- pull.c ---- */
void pull_request(struct images *images, const char *id, const char *const *hubs, size_t hub_count,
                  struct varlink_call *call);
const char *pull_id(const struct pull *pull);
const struct pull *pull_next(const struct pull *pull);

/* ---- mount.c ---- */
struct mount_request {
    int64_t reservation;
    int64_t revision;
    const char *service;
    const char *id;
    const char *scratch;
    uint64_t uid_base;
    uint64_t uid_count;
};
int mount_make(struct images *images, const struct mount_request *request, char *ret_rootfs,
               size_t size, struct image_config *ret_config, struct error *err);
int mount_remove(struct images *images, int64_t reservation, int64_t revision, const char *service,
                 struct error *err);
struct mount_entry {
    int64_t reservation;
    int64_t revision;
    char service[64];
    char id[IMAGE_ID_TEXT];
    char rootfs[256];
};
typedef int mount_fn(const struct mount_entry *entry, void *data);
int mount_each(const struct images *images, mount_fn *fn, void *data);
/* After a start: takes away what was half made. */
void mount_recover(const struct images *images);

/* ---- collect.c ---- */
typedef int image_fn(const char *id, void *data);
int collect_each(const struct images *images, image_fn *fn,
                 void *data); /* every configuration here */
int collect_run(struct images *images, const char *const *keep, size_t keep_count,
                uint64_t *ret_images, uint64_t *ret_objects, uint64_t *ret_bytes,
                struct error *err);

/* ---- service.c ---- */
extern const struct varlink_interface image_interface;
