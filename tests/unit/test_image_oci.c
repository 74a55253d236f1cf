// An image's configuration has one form and one id; OCI's JSON is read with its traps.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/image/config.h"
#include "lib/image/oci.h"

#define DIGEST "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"

static const uint8_t digest[VERITY_DIGEST_SIZE] = {1, 2, 3};

static void test_build(void **state)
{
    static const char oci[] =
        "{\"Env\":[\"PATH=/"
        "bin\"],\"Cmd\":[\"sh\"],\"Entrypoint\":null,\"User\":\"\",\"Hostname\":\"x\","
        "\"Volumes\":{\"/data\":{}},\"OnBuild\":[],\"Labels\":{\"b\":\"2\",\"a\":\"1\"},"
        "\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],\"Interval\":30000000000,\"Timeout\":0,"
        "\"Unknown\":1}}";
    static const char wanted[] =
        "{\"Cmd\":[\"sh\"],\"Env\":[\"PATH=/"
        "bin\"],\"Healthcheck\":{\"Interval\":30000000000,\"Test\":[\"CMD\",\"x\"]},"
        "\"Labels\":{\"a\":\"1\",\"b\":\"2\"},\"Volumes\":{\"/"
        "data\":{}},\"architecture\":\"amd64\",\"metadata\":"
        "{\"digest\":\"0102030000000000000000000000000000000000000000000000000000000000\",\"size\":"
        "4096},\"os\":\"linux\"}";
    struct buffer out;
    struct error err = {0};
    struct image_config config;

    (void)state;
    buffer_init(&out, 0);
    yyjson_doc *doc = yyjson_read(oci, strlen(oci), 0);
    assert_int_equal(
        image_config_build(yyjson_doc_get_root(doc), "amd64", "linux", digest, 4096, &out, &err),
        0);
    assert_string_equal((char *)out.data, wanted);
    assert_int_equal(image_config_read((char *)out.data, out.len, &config, &err), 0);
    assert_memory_equal(config.digest, digest, sizeof(digest));
    assert_int_equal(config.size, 4096);
    char id[IMAGE_ID_TEXT];
    image_id(wanted, strlen(wanted), id);
    assert_string_equal(config.id, id);
    image_config_done(&config);
    yyjson_doc_free(doc);
    buffer_done(&out);
}

#define META "\"metadata\":{\"digest\":\"" DIGEST "\",\"size\":4096}"

static void test_refused_config(void **state)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"architecture\":\"amd64\",\"os\":\"linux\"}",
        "{\"architecture\":\"amd64\"," META ",\"os\":\"linux\",\"History\":[]}",
        "{ \"architecture\":\"amd64\"," META ",\"os\":\"linux\"}",
        "{\"os\":\"linux\",\"architecture\":\"amd64\"," META "}",
        "{\"Env\":[],\"architecture\":\"amd64\"," META ",\"os\":\"linux\"}",
        "{\"Env\":[\"A=\\u0000\"],\"architecture\":\"amd64\"," META ",\"os\":\"linux\"}",
        "{\"Cmd\":\"sh\",\"architecture\":\"amd64\"," META ",\"os\":\"linux\"}",
        "{\"Volumes\":{\"/a\":{\"x\":1}},\"architecture\":\"amd64\"," META ",\"os\":\"linux\"}",
        "{\"architecture\":\"amd64\",\"metadata\":{\"digest\":\"zz\",\"size\":4096},\"os\":"
        "\"linux\"}",
        "{\"architecture\":\"amd64\",\"metadata\":{\"digest\":\"" DIGEST
        "\",\"size\":0},\"os\":\"linux\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        struct image_config config;
        assert_true(image_config_read(bad[i], strlen(bad[i]), &config, &err) < 0);
        assert_string_equal(err.code, "image.bad-config");
    }
    static const char good[] = "{\"architecture\":\"amd64\"," META ",\"os\":\"linux\"}";
    struct error err = {0};
    struct image_config config;
    assert_int_equal(image_config_read(good, strlen(good), &config, &err), 0);
    image_config_done(&config);
}

static void test_index(void **state)
{
    static const char index[] =
        "{\"schemaVersion\":2,\"manifests\":["
        "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:" DIGEST
        "\",\"size\":7,"
        "\"annotations\":{\"org.opencontainers.image.ref.name\":\"one\"}},"
        "{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"sha256:" DIGEST
        "\",\"size\":8,"
        "\"platform\":{\"architecture\":\"amd64\",\"os\":\"linux\"},"
        "\"annotations\":{\"org.opencontainers.image.ref.name\":\"reg.example/x:two\"}}]}";
    struct oci_descriptor found;
    struct error err = {0};

    (void)state;
    assert_int_equal(oci_index_find(index, strlen(index), "one", "amd64", 0, &found, &err), 0);
    assert_int_equal(found.size, 7);
    assert_int_equal(found.is_index, 0);
    assert_int_equal(oci_index_find(index, strlen(index), "two", "amd64", 0, &found, &err), 0);
    assert_int_equal(found.is_index, 1);
    assert_int_equal(oci_index_find(index, strlen(index), NULL, "amd64", 1, &found, &err), 0);
    assert_int_equal(found.size, 8);
    assert_true(oci_index_find(index, strlen(index), "three", "amd64", 0, &found, &err) < 0);
    assert_string_equal(err.code, "image.not-found");
    error_clear(&err);
    /* Without a tag it must be plain which one is meant. */
    assert_true(oci_index_find(index, strlen(index), NULL, "amd64", 0, &found, &err) < 0);
}

static void test_docker(void **state)
{
    static const char text[] =
        "[{\"Config\":\"c.json\",\"RepoTags\":[\"reg:5000/x:1\"],\"Layers\":[\"a/layer.tar\"]},"
        "{\"Config\":\"d.json\",\"RepoTags\":[\"y:2\"],\"Layers\":[]}]";
    struct docker_manifest manifest;
    struct error err = {0};

    (void)state;
    assert_int_equal(docker_manifest_read(text, strlen(text), "reg:5000/x:1", &manifest, &err), 0);
    assert_string_equal(manifest.config, "c.json");
    assert_int_equal(manifest.layer_count, 1);
    docker_manifest_done(&manifest);
    assert_int_equal(docker_manifest_read(text, strlen(text), "2", &manifest, &err), 0);
    assert_string_equal(manifest.config, "d.json");
    docker_manifest_done(&manifest);
    assert_true(docker_manifest_read(text, strlen(text), NULL, &manifest, &err) < 0);
    assert_string_equal(err.code, "image.not-found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build),
        cmocka_unit_test(test_refused_config),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_docker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
