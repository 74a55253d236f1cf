/*
 * compose.h - from a compose file (Compose Specification) to the specification of a reservation (docs/contracts.md).
 *
 * What the node cannot do is refused by its name (deploy.unsupported-key), never left out silently; keys that begin with x- are
 * passed over, x-croft is ours: keep, update, scratch and kv at the top, scratch in a service.
 */
#pragma once

#include <stdint.h>
#include <yyjson.h>

#include "cli/grid.h"
#include "lib/buffer.h"
#include "lib/error.h"

#define COMPOSE_FILE_MAX ((size_t)1 << 20)
#define COMPOSE_NODES_MAX 20000 /* after aliases: a file of 100 lines can stand for billions */
#define COMPOSE_DEPTH_MAX 24

#define COMPOSE_MILLI_CORES_DEFAULT 500
#define COMPOSE_MEMORY_DEFAULT ((uint64_t)256 << 20)
#define COMPOSE_SCRATCH_DEFAULT ((uint64_t)128 << 20)
#define COMPOSE_VOLUME_DEFAULT ((uint64_t)1 << 30)
#define COMPOSE_PIDS_DEFAULT 1024
#define COMPOSE_KEEP_DEFAULT_MS ((uint64_t)24 * 3600 * 1000)

/* Where names come from: the process's environment, then the .env file beside the compose file. */
struct compose_environment {
    yyjson_doc *dotenv;                               /* an object, or NULL */
    const char *(*get)(const char *name, void *data); /* NULL: getenv */
    void *data;
};
const char *compose_variable(const struct compose_environment *environment, const char *name);

/* compose_yaml.c: YAML (one document, aliases and << resolved, ${…} replaced) as JSON. */
int compose_load(const char *text, size_t len, const struct compose_environment *environment,
                 yyjson_mut_doc **ret_doc, struct error *err);
/* Replaces $NAME, ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?error}, ${NAME:+other}, $$. Appends to out. */
int compose_interpolate(const char *text, const struct compose_environment *environment,
                        struct buffer *out, struct error *err);

/* compose_values.c: the small languages inside. Each: 0 or -EINVAL. */
int compose_duration(const char *text, uint64_t *ret_ms); /* "1m30s", "500ms" */
int compose_size(const char *text, uint64_t *ret_bytes);  /* "128M", "1gb", "1024" */
int compose_cores(const char *text, uint64_t *ret_milli); /* "0.5" */
int compose_words(const char *text, yyjson_mut_doc *doc,
                  yyjson_mut_val *list); /* POSIX shell quoting, nothing expanded */
/* Lines NAME=VALUE of an env file into an object of doc. */
int compose_env_file(const char *text, size_t len, yyjson_mut_doc *doc, yyjson_mut_val *object);

/* What the file is turned into with. */
struct compose_options {
    const char *path;    /* of the compose file: files named in it lie relative to it */
    const char *project; /* --project-name; NULL: `name:` of the file, else its folder's name */
    bool ssd;            /* volumes without a kind, and scratch space, go on ssd (else hdd) */
    struct compose_environment environment;
    const uint8_t
        *tenant_key;  /* 32 bytes of the chain key; NULL: none, no disk's key is made of it */
    yyjson_val *lock; /* croft.lock: {"name":{"id":…,"hubs":[…]}}; NULL: image ids only */
};

struct compose_result {
    yyjson_mut_doc *doc; /* the specification */
    struct grid_resources resources;
    char project[64];
    uint64_t keep_ms;
    bool replace;
};
int compose_convert(yyjson_mut_val *file, const struct compose_options *options,
                    struct compose_result *ret_result, struct error *err);

/* Shared by the converters. */
struct compose_context {
    const struct compose_options *options;
    yyjson_mut_doc *doc;
    yyjson_mut_val *spec, *images;
    const char *service; /* the one being converted */
    uint64_t scratch;    /* default of this file */
};
int compose_unsupported(struct error *err, const char *where, const char *key);
int compose_bad(struct error *err, const char *where, const char *why);
bool compose_name_ok(const char *name); /* [a-z0-9][a-z0-9_-]{0,62} */
/* The text of a scalar: numbers and booleans as they are written. NULL: not a scalar. */
const char *compose_scalar(yyjson_mut_val *value, char *space, size_t size);
/* Reads a file named in the compose file, relative to it. */
int compose_read_file(const struct compose_context *context, const char *name, char **ret_text,
                      size_t *ret_len, struct error *err);
/* compose_storage.c: `volumes` of the file, and the value of x-croft.kv */
int compose_read_volumes(struct compose_context *context, yyjson_mut_val *file, struct error *err);
int compose_read_kv(struct compose_context *context, yyjson_mut_val *given, struct error *err);
/* compose_service.c */
int compose_service(struct compose_context *context, const char *name, yyjson_mut_val *service,
                    yyjson_mut_val *file, yyjson_mut_val *out, struct error *err);
