/*
 * spec.h - the specification of a reservation: what a tenant sealed to this node.
 *
 * Format: docs/contracts.md, "Specification". Parsing is strict: an unknown member, a wrong type, a reference to
 * something that is not there or a sum that does not add up refuses the whole with provision.bad-specification or
 * provision.more-than-reserved. Strings and objects point into the document that the spec owns.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"

/* Generous for a compose project on one node, small enough that a hostile one costs little. */
#define SPEC_TEXT_MAX ((size_t)1 << 20)
#define SPEC_SERVICES_MAX 32
#define SPEC_NETWORKS_MAX 8
#define SPEC_VOLUMES_MAX 32
#define SPEC_KV_MAX 16
#define SPEC_KV_PASSWORD_MAX 63 /* what NSSET of kvd takes */
#define SPEC_KEY_SIZE 32        /* bytes of a virtual disk's key */
#define SPEC_EVERY_MIN_MS ((int64_t)60 * 1000)
#define SPEC_EVERY_MAX_MS ((uint64_t)366 * 86400 * 1000)
#define SPEC_SNAPSHOTS_MAX 128
#define SPEC_IMAGES_MAX 32
#define SPEC_HUBS_MAX 8
#define SPEC_PORTS_MAX 64
#define SPEC_MOUNTS_MAX 32
#define SPEC_DEPENDS_MAX 16
#define SPEC_ALIASES_MAX 8
#define SPEC_FILES_MAX 32
#define SPEC_NAME_MAX 63

/* What the contract holds in clear and the node holds the specification to. Bytes, thousandths of a core, counts. */
struct resources {
    uint32_t milli_cores;
    uint64_t memory;
    uint64_t ssd;
    uint64_t hdd;
    uint32_t addresses;
};

enum spec_wait { SPEC_WAIT_STARTED, SPEC_WAIT_HEALTHY, SPEC_WAIT_COMPLETED };

struct spec_image {
    const char *id; /* 64 hex digits */
    const char *hubs[SPEC_HUBS_MAX];
    size_t hub_count;
};

struct spec_network {
    const char *name;
    bool internal;
};

struct spec_volume {
    const char *name;
    uint64_t size;
    const char *kind;       /* "ssd" or "hdd" */
    const char *filesystem; /* "ext4", "btrfs", "raw": a virtual disk; NULL: a folder */
    const char *key;        /* base64 of SPEC_KEY_SIZE bytes; NULL: not encrypted */
    /* A snapshot each so many ms, of which so many stay; 0: none. Never of a virtual disk. */
    uint64_t snapshot_every;
    uint64_t snapshot_keep;
};

/* A namespace of the key-value server. */
struct spec_kv {
    const char *name;
    uint64_t size;
    const char *kind; /* "ssd" or "hdd" */
    const char *mode; /* "user" or "seq" */
    const char *password;
    bool is_public;     /* read without the password */
    uint64_t published; /* port of the node; 0: not published */
    const char *tls;    /* "required": plain text is refused; NULL: it is taken */
};

struct spec_port {
    uint16_t published;
    uint16_t target;
    const char *protocol; /* "tcp" or "udp" */
};

struct spec_mount {
    size_t volume; /* index into spec.volumes */
    const char *target;
    bool read_only;
};

struct spec_file {
    const char *data; /* base64 */
    const char *target;
    int64_t mode, uid, gid;
};

struct spec_attachment {
    size_t network; /* index into spec.networks */
    const char *aliases[SPEC_ALIASES_MAX];
    size_t alias_count;
};

struct spec_dependency {
    size_t service; /* index into spec.services */
    enum spec_wait wait;
};

struct spec_service {
    const char *name;
    size_t image;       /* index into spec.images */
    yyjson_val *object; /* the whole service object, for contd */
    uint64_t scratch;
    struct spec_port *ports;
    size_t port_count;
    struct spec_mount *mounts;
    size_t mount_count;
    struct spec_file *files;
    size_t file_count;
    struct spec_attachment *networks;
    size_t network_count;
    struct spec_dependency depends[SPEC_DEPENDS_MAX];
    size_t depend_count;
    yyjson_val *hosts; /* object or NULL */
};

struct spec {
    yyjson_doc *doc;
    const char *project;
    uint64_t keep_ms;
    bool replace;
    struct spec_image images[SPEC_IMAGES_MAX];
    size_t image_count;
    struct spec_network networks[SPEC_NETWORKS_MAX];
    size_t network_count;
    struct spec_volume volumes[SPEC_VOLUMES_MAX];
    size_t volume_count;
    struct spec_kv kv[SPEC_KV_MAX];
    size_t kv_count;
    struct spec_service services[SPEC_SERVICES_MAX];
    size_t service_count;
    size_t order[SPEC_SERVICES_MAX]; /* service indices, dependencies first; ties by name */
    struct resources resources;
};

/* Parses and checks `len` bytes of canonical JSON. The caller frees with spec_free. */
int spec_parse(const char *text, size_t len, struct spec **ret_spec, struct error *err);
void spec_free(struct spec *spec);

/* The kind of disk that the sums of resources leave for scratch space: "ssd" or "hdd". */
const char *spec_scratch_kind(const struct spec *spec);

/* resources as the contract packs them (docs/formats.md): 32 bytes. */
void resources_unpack(const uint8_t packed[32], struct resources *ret_resources);
bool resources_equal(const struct resources *a, const struct resources *b);
