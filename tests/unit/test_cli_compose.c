// sources: core0/cli/compose.c core0/cli/compose_service.c core0/cli/compose_plain.c core0/cli/compose_ports.c core0/cli/compose_mounts.c core0/cli/compose_limits.c core0/cli/compose_values.c core0/cli/compose_yaml.c core0/cli/compose_storage.c core0/cli/deploy_plan.c core0/cli/output.c core0/cli/printable.c core0/cli/codes.c core0/provision/spec.c core0/provision/spec_service.c core0/provision/spec_storage.c
// packages: libyaml mbedtls
/*
 * From a compose file to a specification that the node takes: what is converted, what is refused by its name, and that the
 * node's own parser accepts every result.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/compose.h"
#include "cli/deploy_plan.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/json.h"
#include "provision/spec.h"

#define ID "abababababababababababababababababababababababababababababababab"

static const char *variable(const char *name, void *data)
{
    (void)data;
    return strcmp(name, "PORT") == 0 ? "8080" : strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static const uint8_t tenant[32] = {7};
static const struct compose_environment environment = {.get = variable};

/* 0 with the specification, or -errno with err. */
static int convert(const char *yaml, struct compose_result *ret, struct error *err)
{
    static const char lock_text[] =
        "{\"nginx\":{\"id\":\"" ID "\",\"hubs\":[\"http://192.0.2.1\"]}}";
    struct compose_options options = {
        .path = "shop/compose.yml", .ssd = true, .environment = environment, .tenant_key = tenant};
    yyjson_mut_doc *file;
    yyjson_doc *lock = yyjson_read(lock_text, strlen(lock_text), 0);

    options.lock = yyjson_doc_get_root(lock);
    options.project = "shop";
    int r = compose_load(yaml, strlen(yaml), &environment, &file, err);
    if (r == 0) {
        r = compose_convert(yyjson_mut_doc_get_root(file), &options, ret, err);
        yyjson_mut_doc_free(file);
    }
    yyjson_doc_free(lock);
    return r;
}

static void to_spec(const char *yaml, struct spec **ret_spec)
{
    struct compose_result result;
    struct error err = {0};
    struct buffer canonical;

    if (convert(yaml, &result, &err) < 0) {
        fail_msg("%s: %s", err.code, err.message);
    }
    buffer_init(&canonical, 0);
    char *text = yyjson_mut_write(result.doc, 0, NULL);
    yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
    assert_int_equal(json_canonical(yyjson_doc_get_root(doc), &canonical), 0);
    if (spec_parse((const char *)canonical.data, canonical.len, ret_spec, &err) < 0) {
        fail_msg("%s: %s\n%s", err.code, err.message, text);
    }
    free(text);
    yyjson_doc_free(doc);
    yyjson_mut_doc_free(result.doc);
    buffer_done(&canonical);
}

static void refused(const char *yaml, const char *code, const char *named)
{
    struct compose_result result;
    struct error err = {0};

    if (convert(yaml, &result, &err) == 0) {
        fail_msg("taken: %s", yaml);
    }
    assert_string_equal(err.code, code);
    if (strstr(err.message, named) == NULL) {
        fail_msg("\"%s\" does not name %s", err.message, named);
    }
}

#define SERVICE(more) "services:\n  web:\n    image: nginx\n" more

static void test_everything(void **state)
{
    struct spec *spec;

    (void)state;
    to_spec(
        "name: shop\n"
        "x-defaults: &defaults\n  restart: always\n  labels: {team: a}\n"
        "services:\n"
        "  web:\n    <<: *defaults\n    image: nginx\n"
        "    command: [\"nginx\", \"-g\", \"daemon off;\"]\n"
        "    entrypoint: sh -c \"a 'b' c\"\n"
        "    environment: {GREETING: \"${NOBODY:-hello}\", N: 3, FLAG: true, MISSING: }\n"
        "    user: \"1000:1000\"\n    working_dir: /srv\n    read_only: true\n"
        "    ports: [\"${PORT}:80\", \"5353:53/udp\", \"9000-9001:90-91\", {target: 443, "
        "published: \"8443\"}]\n"
        "    volumes: [\"data:/data\", {type: volume, source: data, target: /ro, read_only: true},"
        " {type: tmpfs, target: /t, tmpfs: {size: 1M}}]\n"
        "    tmpfs: /run\n"
        "    networks: {front: {aliases: [www]}, default: }\n"
        "    depends_on: {db: {condition: service_healthy}}\n"
        "    healthcheck: {test: curl -f http://localhost/, interval: 1m30s, timeout: 500ms, "
        "retries: 3, start_period: 5s}\n"
        "    deploy: {resources: {limits: {cpus: \"0.25\", memory: 64M, pids: 100}}}\n"
        "    cap_add: [NET_ADMIN]\n    cap_drop: [ALL]\n    stop_signal: SIGQUIT\n"
        "    stop_grace_period: 1m\n    extra_hosts: [\"a:192.0.2.9\"]\n"
        "    configs: [page]\n    secrets: [{source: key, target: k, mode: 0440, uid: \"5\"}]\n"
        "  db:\n    image: " ID "\n    healthcheck: {test: [\"CMD\", \"true\"]}\n"
        "networks: {front: {internal: true}}\n"
        "volumes: {data: {driver_opts: {size: 2G, kind: hdd}}}\n"
        "configs: {page: {content: hi}}\nsecrets: {key: {content: s3cret}}\n"
        "x-croft: {keep: 48h, update: replace, scratch: 64M}\n",
        &spec);
    assert_string_equal(spec->project, "shop");
    assert_int_equal(spec->keep_ms, 48ULL * 3600 * 1000);
    assert_true(spec->replace);
    assert_int_equal(spec->service_count, 2);
    assert_int_equal(spec->image_count, 1);
    assert_string_equal(spec->images[0].hubs[0], "http://192.0.2.1");
    assert_int_equal(spec->resources.milli_cores, 750);
    assert_int_equal(spec->resources.memory, (64ULL << 20) + (256ULL << 20));
    assert_int_equal(spec->resources.ssd, 2 * (64ULL << 20));
    assert_int_equal(spec->resources.hdd, 2ULL << 30);
    /* db comes first: web waits for it. */
    assert_string_equal(spec->services[spec->order[0]].name, "db");
    const struct spec_service *web = &spec->services[spec->order[1]];
    assert_int_equal(web->port_count, 5);
    assert_int_equal(web->ports[0].published, 8080);
    assert_string_equal(web->ports[1].protocol, "udp");
    assert_int_equal(web->ports[3].target, 91);
    assert_int_equal(web->mount_count, 2);
    assert_true(web->mounts[1].read_only);
    assert_int_equal(web->file_count, 2);
    assert_string_equal(web->files[0].target, "/page");
    assert_string_equal(web->files[1].target, "/run/secrets/k");
    assert_int_equal(web->files[1].mode, 0440);
    yyjson_val *environment_of = yyjson_obj_get(web->object, "environment");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(environment_of, "GREETING")), "hello");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(environment_of, "FLAG")), "true");
    assert_null(yyjson_obj_get(environment_of, "MISSING"));
    yyjson_val *entrypoint = yyjson_obj_get(web->object, "entrypoint");
    assert_string_equal(yyjson_get_str(yyjson_arr_get(entrypoint, 2)), "a 'b' c");
    yyjson_val *health = yyjson_obj_get(web->object, "healthcheck");
    assert_int_equal(yyjson_get_uint(yyjson_obj_get(health, "interval")), 90000);
    assert_string_equal(yyjson_get_str(yyjson_arr_get(yyjson_obj_get(health, "test"), 0)),
                        "CMD-SHELL");
    assert_string_equal(
        yyjson_get_str(yyjson_obj_get(yyjson_obj_get(web->object, "restart"), "policy")), "always");
    spec_free(spec);
}

static void test_defaults(void **state)
{
    struct spec *spec;

    (void)state;
    to_spec(SERVICE("    restart: no\n"), &spec);
    assert_int_equal(spec->resources.milli_cores, COMPOSE_MILLI_CORES_DEFAULT);
    assert_int_equal(spec->resources.memory, COMPOSE_MEMORY_DEFAULT);
    assert_int_equal(spec->resources.ssd, COMPOSE_SCRATCH_DEFAULT);
    assert_int_equal(spec->services[0].network_count, 1);
    spec_free(spec);
}

static void test_refusals(void **state)
{
    (void)state;
    refused(SERVICE("    build: .\n"), "deploy.unsupported-key", "build");
    refused(SERVICE("    privileged: true\n"), "deploy.unsupported-key", "privileged");
    refused(SERVICE("    volumes: [\"/etc:/etc\"]\n"), "deploy.unsupported-key",
            "folder of the host");
    refused(SERVICE("    ports: [\"127.0.0.1:80:80\"]\n"), "deploy.unsupported-key",
            "address of the host");
    refused(SERVICE("    ports: [\"80\"]\n"), "deploy.bad-compose", "published");
    refused(SERVICE("    ports: [\"70000:80\"]\n"), "deploy.bad-compose", "ports");
    refused(SERVICE("    deploy: {replicas: 2}\n"), "deploy.unsupported-key", "replicas");
    refused(SERVICE("    volumes: [\"data:/data\"]\n"), "deploy.bad-compose", "volumes");
    refused(SERVICE("    networks: [other]\n"), "deploy.bad-compose", "network");
    refused(SERVICE("    depends_on: [db]\n"), "deploy.bad-compose", "depends_on");
    refused(SERVICE("    environment: {A: $NOBODY}\n"), "deploy.missing-variable", "NOBODY");
    refused(SERVICE("    environment: {A: \"${EMPTY:?must be set}\"}\n"), "deploy.missing-variable",
            "must be set");
    refused("services:\n  web:\n    image: other\n", "image.not-locked", "other");
    refused("services: {}\n", "deploy.bad-compose", "services");
    refused("include: [x]\n" SERVICE(""), "deploy.unsupported-key", "include");
    refused("services:\n  a: {image: nginx}\n  a: {image: nginx}\n", "deploy.bad-compose", "twice");
    refused("a: [\n", "deploy.bad-compose", "line");
    refused("- a\n", "deploy.bad-compose", "mapping");
}

/* Nine levels of ten aliases each would be a thousand million nodes. */
static void test_aliases_are_bounded(void **state)
{
    char yaml[4096] = "x-0: &a0 [1,1,1,1,1,1,1,1,1,1]\n";

    (void)state;
    for (int i = 1; i < 9; i++) {
        size_t len = strlen(yaml);
        int written = snprintf(yaml + len, sizeof(yaml) - len, "x-%d: &a%d [*a%d", i, i, i - 1);
        for (int k = 0; k < 9; k++) {
            written += snprintf(yaml + len + written, sizeof(yaml) - len - (size_t)written, ",*a%d",
                                i - 1);
        }
        snprintf(yaml + len + written, sizeof(yaml) - len - (size_t)written, "]\n");
    }
    refused(yaml, "deploy.bad-compose", "too large");
}

static void test_values(void **state)
{
    static const struct {
        const char *text;
        int ret;
        uint64_t value;
    } durations[] = {
        {"1m30s", 0, 90000}, {"500ms", 0, 500}, {"1.5s", 0, 1500},
        {"1h", 0, 3600000},  {"1us", 0, 1},     {"10", -1, 0},
        {"", -1, 0},         {"5x", -1, 0},     {"s", -1, 0},
    };
    static const struct {
        const char *text;
        int ret;
        uint64_t value;
    } sizes[] = {
        {"1024", 0, 1024},
        {"1k", 0, 1024},
        {"128M", 0, 128ULL << 20},
        {"1.5gb", 0, 3ULL << 29},
        {"0", -1, 0},
        {"-1", -1, 0},
        {"1q", -1, 0},
        {"99999999999999999999t", -1, 0},
    };
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        int ret = compose_duration(durations[i].text, &value);
        assert_int_equal(ret == 0, durations[i].ret == 0);
        if (ret == 0) {
            assert_int_equal(value, durations[i].value);
        }
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int ret = compose_size(sizes[i].text, &value);
        assert_int_equal(ret == 0, sizes[i].ret == 0);
        if (ret == 0) {
            assert_int_equal(value, sizes[i].value);
        }
    }
    assert_int_equal(compose_cores("0.5", &value), 0);
    assert_int_equal(value, 500);
    assert_true(compose_cores("0", &value) < 0);
    assert_true(compose_cores("half", &value) < 0);
}

/* What the node refuses although it is JSON. */
static void test_spec_refusals(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "{\"version\":2}",
        "{ \"version\":1}",
        "",
        "{\"images\":{},\"networks\":{},\"project\":\"a\",\"resources\":{\"addresses\":0,\"hdd\":0,"
        "\"memory\":0,"
        "\"milliCores\":0,\"ssd\":0},\"services\":{},\"version\":1}",
        "{\"images\":{},\"networks\":{},\"project\":\"../"
        "a\",\"resources\":{\"addresses\":0,\"hdd\":0,\"memory\":0,"
        "\"milliCores\":0,\"ssd\":0},\"services\":{\"a\":{}},\"version\":1}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct spec *spec;
        struct error err = {0};
        assert_true(spec_parse(texts[i], strlen(texts[i]), &spec, &err) < 0);
        assert_string_equal(err.code, "provision.bad-specification");
    }
}

/* A specification whose parts use more, or less, than the sum that it was reserved with. */
static void test_more_than_reserved(void **state)
{
    static const char yaml[] =
        "services:\n  web:\n    image: nginx\n    volumes: ['v:/v']\nvolumes:\n  v: {}\n";
    static const char *const members[] = {"milliCores", "memory", "ssd", "hdd"};

    (void)state;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        for (int change = -1; change <= 1; change++) {
            struct compose_result result;
            struct error err = {0};
            struct buffer canonical;
            struct spec *spec = NULL;
            assert_int_equal(convert(yaml, &result, &err), 0);
            yyjson_mut_val *value = yyjson_mut_obj_get(
                yyjson_mut_obj_get(yyjson_mut_doc_get_root(result.doc), "resources"), members[i]);
            uint64_t now = yyjson_mut_get_uint(value);
            if (now == 0 && change < 0) {
                yyjson_mut_doc_free(result.doc);
                continue;
            }
            yyjson_mut_set_uint(value, now + (uint64_t)(int64_t)change);
            char *text = yyjson_mut_write(result.doc, 0, NULL);
            yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
            buffer_init(&canonical, 0);
            assert_int_equal(json_canonical(yyjson_doc_get_root(doc), &canonical), 0);
            int ret = spec_parse((const char *)canonical.data, canonical.len, &spec, &err);
            if (change == 0) {
                assert_int_equal(ret, 0);
                spec_free(spec);
            } else {
                assert_true(ret < 0);
                assert_string_equal(err.code, "provision.more-than-reserved");
            }
            buffer_done(&canonical);
            yyjson_doc_free(doc);
            free(text);
            yyjson_mut_doc_free(result.doc);
        }
    }
}

/* ---- volumes and namespaces ---- */

#define ON(top) "services:\n  web:\n    image: nginx\n" top

static const struct spec_volume *volume_of(const struct spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->volume_count; i++) {
        if (strcmp(spec->volumes[i].name, name) == 0) {
            return &spec->volumes[i];
        }
    }
    fail_msg("no volume %s", name);
    return NULL;
}

static void test_storage(void **state)
{
    struct spec *spec;
    uint8_t key[32];

    (void)state;
    to_spec(ON("volumes:\n"
               "  plain: {driver_opts: {size: 1M, kind: ssd, snapshots: every 1h keep 24}}\n"
               "  other: {driver_opts: {size: 1M, snapshot_every: 90s, snapshot_keep: \"3\"}}\n"
               "  disk: {driver_opts: {size: 2G, kind: hdd, encrypted: \"true\"}}\n"
               "  open: {driver_opts: {size: 1G, kind: hdd, filesystem: raw}}\n"
               "  off: {driver_opts: {size: 1G, kind: hdd, encrypted: false}}\n"
               "x-croft:\n  kv:\n"
               "    cache: {size: 3G, kind: hdd, mode: seq, password: \"pw${PORT}\", port: 9900}\n"
               "    words: {password: x, public: true, tls: optional}\n"
               "    shut: {password: x, tls: required}\n"),
            &spec);
    assert_int_equal(volume_of(spec, "plain")->snapshot_every, 3600000);
    assert_int_equal(volume_of(spec, "plain")->snapshot_keep, 24);
    assert_null(volume_of(spec, "plain")->filesystem);
    assert_int_equal(volume_of(spec, "other")->snapshot_every, 90000);
    assert_int_equal(volume_of(spec, "other")->snapshot_keep, 3);
    assert_string_equal(volume_of(spec, "disk")->filesystem, "ext4");
    assert_string_equal(volume_of(spec, "open")->filesystem, "raw");
    assert_null(volume_of(spec, "open")->key);
    assert_string_equal(volume_of(spec, "off")->filesystem, "ext4");
    assert_null(volume_of(spec, "off")->key);
    /* The key is that of project and name, so that another machine of the tenant finds it again. */
    hkdf_sha256(tenant, 32, "croft-volume-v1/shop/disk", key, sizeof(key));
    char *expected = base64_encode(key, sizeof(key));
    assert_string_equal(volume_of(spec, "disk")->key, expected);
    free(expected);
    assert_int_equal(spec->kv_count, 3);
    assert_string_equal(spec->kv[0].name, "cache");
    assert_string_equal(spec->kv[0].mode, "seq");
    assert_string_equal(spec->kv[0].password, "pw8080");
    assert_int_equal(spec->kv[0].published, 9900);
    assert_false(spec->kv[0].is_public);
    assert_string_equal(spec->kv[2].name,
                        "words"); /* in the order of their names: it is canonical */
    assert_string_equal(spec->kv[2].mode, "user");
    assert_int_equal(spec->kv[2].published, 0);
    assert_true(spec->kv[2].is_public);
    assert_null(spec->kv[0].tls);
    assert_string_equal(spec->kv[1].tls, "required");
    assert_null(spec->kv[2].tls);
    assert_int_equal(spec->resources.hdd, 7ULL << 30);
    assert_int_equal(spec->resources.ssd, (2ULL << 20) + (2ULL << 30) + COMPOSE_SCRATCH_DEFAULT);
    assert_string_equal(spec_scratch_kind(spec), "ssd");
    spec_free(spec);
}

/* A namespace needs no service: cores and memory are nobody's, its storage is what is reserved. */
static void test_namespace_alone(void **state)
{
    struct spec *spec;

    (void)state;
    to_spec("x-croft: {kv: {c: {size: 3G, kind: hdd, password: p, port: 9900}}}\n", &spec);
    assert_int_equal(spec->service_count, 0);
    assert_int_equal(spec->kv_count, 1);
    assert_int_equal(spec->resources.milli_cores, 0);
    assert_int_equal(spec->resources.memory, 0);
    assert_int_equal(spec->resources.ssd, 0);
    assert_int_equal(spec->resources.hdd, 3ULL << 30);
    spec_free(spec);
    refused("x-croft: {kv: {}}\n", "deploy.bad-compose", "services");
    refused("volumes: {v: {}}\n", "deploy.bad-compose", "services");
}

/* A file of 32 bytes, as they are, in hex and in base64, is the same key; anything else is none. */
static void test_key_files(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } files[] = {
        {"abcdefghijklmnopqrstuvwxyz012345", true},
        {"6162636465666768696a6b6c6d6e6f707172737475767778797a303132333435\n", true},
        {"YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=\n", true},
        {"", false},
        {"\n", false},
        {"abcdefghijklmnopqrstuvwxyz01234", false},
        {"6162636465666768696a6b6c6d6e6f707172737475767778797a3031323334\n", false},
        {"YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNA==\n", false},
        {"YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU2\n", false},
    };
    char path[] = "/tmp/croft-key-XXXXXX", yaml[300];
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    snprintf(yaml, sizeof(yaml),
             ON("volumes: {d: {driver_opts: {encrypted: true, key_file: %s}}}\n"), path);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        size_t len = strlen(files[i].text);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, files[i].text, len, 0), (ssize_t)len);
        if (!files[i].good) {
            refused(yaml, "deploy.bad-compose", "volumes.d.key_file");
            continue;
        }
        struct spec *spec;
        to_spec(yaml, &spec);
        assert_string_equal(spec->volumes[0].key, "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=");
        spec_free(spec);
    }
    /* A password's file may end in a line feed, which is not part of it. */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, "s e\n", 4, 0), 4);
    snprintf(yaml, sizeof(yaml), ON("x-croft: {kv: {c: {password_file: %s}}}\n"), path);
    struct spec *spec;
    to_spec(yaml, &spec);
    assert_string_equal(spec->kv[0].password, "s e");
    spec_free(spec);
    close(fd);
    unlink(path);
}

#define VOLUME(options) ON("volumes: {d: {driver_opts: {" options "}}}\n")
#define KV(options) ON("x-croft: {kv: {c: {" options "}}}\n")

static void test_storage_refusals(void **state)
{
    static const struct {
        const char *yaml, *code, *named;
    } cases[] = {
        {VOLUME("colour: red"), "deploy.unsupported-key", "volumes.d asks for with: colour"},
        {VOLUME("size: many"), "deploy.bad-compose", "volumes.d.size"},
        {VOLUME("kind: tape"), "deploy.bad-compose", "volumes.d.kind"},
        {VOLUME("encrypted: perhaps"), "deploy.bad-compose", "volumes.d.encrypted"},
        {VOLUME("filesystem: xfs"), "deploy.bad-compose", "volumes.d.filesystem"},
        {VOLUME("encrypted: true, size: 5000"), "deploy.bad-compose", "volumes.d.size"},
        {VOLUME("key_file: k"), "deploy.bad-compose", "volumes.d.key_file"},
        {VOLUME("encrypted: true, key_file: /nowhere/k"), "deploy.no-file", "/nowhere/k"},
        {VOLUME("encrypted: true, snapshots: every 1h keep 2"), "deploy.bad-compose",
         "volumes.d.snapshots"},
        {VOLUME("snapshots: daily"), "deploy.bad-compose", "volumes.d.snapshots"},
        {VOLUME("snapshots: every 1h keep 2 more"), "deploy.bad-compose", "volumes.d.snapshots"},
        {VOLUME("snapshots: every 1h keep 0"), "deploy.bad-compose", "volumes.d.snapshots"},
        {VOLUME("snapshots: every 1h keep 129"), "deploy.bad-compose", "volumes.d.snapshots"},
        {VOLUME("snapshots: every 59s keep 1"), "deploy.bad-compose", "volumes.d.snapshots"},
        {VOLUME("snapshots: every 1h keep 1, snapshot_keep: 2"), "deploy.bad-compose",
         "volumes.d.snapshot_keep"},
        {VOLUME("snapshot_every: 1h"), "deploy.bad-compose", "volumes.d.snapshot_every"},
        {VOLUME("snapshot_keep: 1"), "deploy.bad-compose", "volumes.d.snapshot_every"},
        {ON("volumes: {d: {driver: nfs}}\n"), "deploy.unsupported-key", "driver"},
        {ON("volumes: {d: {driver_opts: [size]}}\n"), "deploy.bad-compose", "volumes.d"},
        {KV("password: a, colour: red"), "deploy.unsupported-key", "x-croft.kv.c"},
        {KV("size: 1G"), "deploy.bad-compose", "x-croft.kv.c.password"},
        {KV("password: \"\""), "deploy.bad-compose", "x-croft.kv.c.password"},
        {KV("password: \"*\""), "deploy.bad-compose", "x-croft.kv.c.password"},
        {KV("password: "
            "1234567890123456789012345678901234567890123456789012345678901234"),
         "deploy.bad-compose", "x-croft.kv.c.password"},
        {KV("password: a, password_file: b"), "deploy.bad-compose", "x-croft.kv.c.password_file"},
        {KV("password: a, mode: list"), "deploy.bad-compose", "x-croft.kv.c.mode"},
        {KV("password: a, port: 0"), "deploy.bad-compose", "x-croft.kv.c.port"},
        {KV("password: a, port: 65536"), "deploy.bad-compose", "x-croft.kv.c.port"},
        {KV("password: a, public: 1"), "deploy.bad-compose", "x-croft.kv.c.public"},
        {KV("password: a, tls: maybe"), "deploy.bad-compose", "x-croft.kv.c.tls"},
        {KV("password: a, tls: true"), "deploy.bad-compose", "x-croft.kv.c.tls"},
        {KV("password: a, tls: [required]"), "deploy.bad-compose", "x-croft.kv.c.tls"},
        {KV("password: a, kind: tape"), "deploy.bad-compose", "x-croft.kv.c.kind"},
        {ON("x-croft: {kv: {C: {password: a}}}\n"), "deploy.bad-compose", "x-croft.kv"},
        {ON("x-croft: {kv: [c]}\n"), "deploy.bad-compose", "x-croft.kv"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refused(cases[i].yaml, cases[i].code, cases[i].named);
    }
}

/* The plan names what is made, and neither key nor password. */
static void test_plan(void **state)
{
    struct compose_result result;
    struct error err = {0};
    char *text = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(
        convert(ON("volumes:\n"
                   "  d: {driver_opts: {size: 2G, kind: hdd, encrypted: true, filesystem: btrfs}}\n"
                   "  s: {driver_opts: {size: 1M, kind: ssd, snapshots: every 90m keep 5}}\n"
                   "x-croft: {kv: {c: {size: 1G, password: s3cret, port: 9900}}}\n"),
                &result, &err),
        0);
    FILE *out = open_memstream(&text, &len);
    deploy_plan_print(&result, out);
    fclose(out);
    assert_non_null(
        strstr(text, "d                2.0 GiB on hdd, virtual disk (btrfs, encrypted)"));
    assert_non_null(strstr(text, "a snapshot every 90 min, the last 5 stay"));
    assert_non_null(strstr(text, "c                1.0 GiB on ssd, mode user"));
    assert_non_null(strstr(text, "port 9900"));
    assert_null(strstr(text, "s3cret"));
    yyjson_mut_val *volumes = yyjson_mut_obj_get(yyjson_mut_doc_get_root(result.doc), "volumes");
    yyjson_mut_val *disk = yyjson_mut_obj_get(yyjson_mut_obj_get(volumes, "d"), "disk");
    assert_null(strstr(text, yyjson_mut_get_str(yyjson_mut_obj_get(disk, "key"))));
    free(text);
    yyjson_mut_doc_free(result.doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_more_than_reserved),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_aliases_are_bounded),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_spec_refusals),
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_namespace_alone),
        cmocka_unit_test(test_key_files),
        cmocka_unit_test(test_storage_refusals),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
