/*
 * spec.h - what Start was asked for, checked and merged with the image's defaults as Docker merges them.
 *
 * The input is the JSON of Start's parameters (docs/contracts.md, "Specification"): the tenant wrote the service object
 * and the image. Everything points into the document or is owned by the struct.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <yyjson.h>

#include "lib/error.h"

#define SPEC_START_MAX                                                                             \
    ((size_t)8 << 20) /* bytes of Start's parameters: files up to 4 MiB in base64 fit */
#define SPEC_FILES_BYTES_MAX ((size_t)4 << 20) /* they live in memory */
#define SPEC_MOUNTS_MAX 64
#define SPEC_MEMORY_MIN ((uint64_t)8 << 20) /* below, the runtime's own start is killed */

enum restart_policy { RESTART_NO, RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_UNLESS_STOPPED };

struct spec_mount {
    const char *source, *target;
    bool read_only;
    bool block; /* source is a block device of the node */
};

struct spec_tmpfs {
    const char *target;
    uint64_t size; /* bytes, 0: half of the memory limit */
};

struct spec_file {
    const char *target;
    const uint8_t *data;
    size_t len;
    mode_t mode;
    uint32_t uid, gid; /* as inside the container */
};

struct spec_host {
    const char *name, *address;
};

struct spec_health {
    const char **argv; /* ended by NULL; NULL: no health check */
    uint64_t interval, timeout, start_period, start_interval; /* us */
    unsigned retries;
};

struct container_spec {
    yyjson_doc *doc;
    struct spec_block *blocks; /* memory of the lists */

    const char *rootfs, *user, *cwd;
    const char **argv, **env; /* ended by NULL; env: "NAME=value" */
    const char **cap_add, **cap_drop;
    uint64_t caps; /* bit set of capability numbers */
    bool read_only;
    uint64_t milli_cores, memory, pids;
    struct spec_mount *mounts;
    struct spec_tmpfs *tmpfs;
    struct spec_file *files;
    struct spec_host *hosts;
    const char **dns; /* ended by NULL */
    size_t mount_count, tmpfs_count, file_count, host_count;
    struct spec_health health;
    enum restart_policy restart;
    uint64_t max_retries; /* 0: no limit */
    int stop_signal;
    uint64_t stop_grace; /* us */
};

/* container.bad-spec. Free with container_spec_done, also after a failure. */
int container_spec_parse(const char *json, size_t len, struct container_spec *ret_spec,
                         struct error *err);
void container_spec_done(struct container_spec *spec);

/* ---- between spec.c and spec_image.c ---- */

#define SPEC_BAD "container.bad-spec"
void *spec_alloc(struct container_spec *spec, size_t size); /* zeroed; freed with the spec; NULL */
__attribute__((format(printf, 2, 3))) const char *spec_printf(struct container_spec *spec,
                                                              const char *fmt, ...);
/* An array of strings without NUL bytes; NULL value: *ret_list stays NULL. */
int spec_strings(struct container_spec *spec, yyjson_val *value, const char *what, size_t max,
                 const char ***ret_list, struct error *err);
/* A member of the image's configuration: "Env" is found as "Env" and as "env". */
yyjson_val *spec_image_member(yyjson_val *image, const char *name);
int spec_merge_argv(struct container_spec *spec, yyjson_val *image, yyjson_val *entrypoint,
                    yyjson_val *command, struct error *err);
int spec_merge_env(struct container_spec *spec, yyjson_val *image, yyjson_val *environment,
                   struct error *err);
int spec_merge_health(struct container_spec *spec, yyjson_val *image, yyjson_val *health,
                      struct error *err);
/* "SIGTERM", "TERM", "15", "RTMIN+3"; -1: none */
int spec_signal(const char *text);
