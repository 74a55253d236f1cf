// sources: core0/provision/spec.c core0/provision/spec_service.c core0/provision/spec_storage.c
// packages: mbedtls
/*
 * What the node itself checks of volumes, virtual disks and namespaces in a specification, whoever wrote it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "provision/spec.h"

#define ID "abababababababababababababababababababababababababababababababab"
#define KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* A specification with these members `kv` and `volumes`, which use `ssd` and `hdd` bytes, and 4096 bytes of scratch on ssd. */
static int parse(const char *kv, const char *volumes, const char *mounts, uint64_t ssd,
                 uint64_t hdd, struct spec **ret_spec, struct error *err)
{
    char text[4096];
    int len = snprintf(
        text, sizeof(text),
        "{\"images\":{\"" ID "\":{\"hubs\":[]}},\"kv\":{%s},\"networks\":{},\"project\":\"shop\","
        "\"resources\":{\"addresses\":0,\"hdd\":%llu,\"memory\":8388608,\"milliCores\":1,"
        "\"ssd\":%llu},\"services\":{\"web\":{\"image\":\"" ID "\",\"mounts\":[%s],"
        "\"resources\":{\"memory\":8388608,\"milliCores\":1},\"scratch\":4096}},\"version\":1,"
        "\"volumes\":{%s}}",
        kv, (unsigned long long)hdd, (unsigned long long)ssd + 4096, mounts, volumes);
    assert_true(len > 0 && (size_t)len < sizeof(text));
    return spec_parse(text, (size_t)len, ret_spec, err);
}

static void test_taken(void **state)
{
    struct spec *spec = NULL;
    struct error err = {0};

    (void)state;
    int ret =
        parse("\"c\":{\"kind\":\"hdd\",\"mode\":\"seq\",\"password\":\"p\",\"published\":9900,"
              "\"size\":100}",
              "\"d\":{\"disk\":{\"filesystem\":\"btrfs\",\"key\":\"" KEY "\"},\"kind\":\"hdd\","
              "\"size\":8192},"
              "\"f\":{\"kind\":\"ssd\",\"size\":10,\"snapshots\":{\"every\":60000,\"keep\":128}}",
              "{\"target\":\"/d\",\"volume\":\"d\"},{\"target\":\"/f\",\"volume\":\"f\"},"
              "{\"target\":\"/g\",\"volume\":\"f\"}",
              10, 8292, &spec, &err);
    if (ret < 0) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(spec->volumes[0].filesystem, "btrfs");
    assert_string_equal(spec->volumes[0].key, KEY);
    assert_int_equal(spec->volumes[1].snapshot_every, 60000);
    assert_int_equal(spec->volumes[1].snapshot_keep, 128);
    assert_int_equal(spec->kv[0].size, 100);
    assert_int_equal(spec->kv[0].published, 9900);
    assert_false(spec->kv[0].is_public);
    assert_null(spec->kv[0].tls);
    assert_string_equal(spec_scratch_kind(spec), "ssd");
    spec_free(spec);
}

/* A namespace counts like a volume: forgotten in the sums, it is more than was reserved. */
static void test_sums(void **state)
{
    static const char kv[] =
        "\"c\":{\"kind\":\"hdd\",\"mode\":\"user\",\"password\":\"p\",\"size\":100}";
    struct spec *spec = NULL;
    static const uint64_t sums[][2] = {{0, 0}, {100, 0}, {0, 99}, {0, 101}};

    (void)state;
    for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
        struct error err = {0};
        assert_true(parse(kv, "", "", sums[i][0], sums[i][1], &spec, &err) < 0);
        assert_string_equal(err.code, "provision.more-than-reserved");
    }
    /* Scratch space that stands with the hdd. */
    struct error err = {0};
    assert_int_equal(parse(kv, "", "", (uint64_t)-4096, 4196, &spec, &err), 0);
    assert_string_equal(spec_scratch_kind(spec), "hdd");
    spec_free(spec);
}

static void test_tls_of_a_namespace(void **state)
{
    struct spec *spec = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(
        parse("\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096,"
              "\"tls\":\"required\"}",
              "", "", 4096, 0, &spec, &err),
        0);
    assert_string_equal(spec->kv[0].tls, "required");
    spec_free(spec);
}

#define V(members) "\"d\":{" members "}"
#define ONCE "{\"target\":\"/d\",\"volume\":\"d\"}"

static void test_refused(void **state)
{
    static const struct {
        const char *kv, *volumes, *mounts, *named;
    } cases[] = {
        {"", V("\"colour\":1,\"kind\":\"ssd\",\"size\":4096"), "", "colour"},
        {"", V("\"kind\":\"xxx\",\"size\":4096"), "", "volumes.kind"},
        {"", V("\"disk\":{},\"kind\":\"ssd\",\"size\":4096"), "", "filesystem"},
        {"", V("\"disk\":{\"filesystem\":\"xfs\"},\"kind\":\"ssd\",\"size\":4096"), "",
         "volumes.disk.filesystem"},
        {"", V("\"disk\":{\"filesystem\":\"raw\",\"more\":1},\"kind\":\"ssd\",\"size\":4096"), "",
         "more"},
        {"", V("\"disk\":{\"filesystem\":\"raw\"},\"kind\":\"ssd\",\"size\":4095"), "",
         "volumes.size"},
        {"", V("\"disk\":{\"filesystem\":\"raw\",\"key\":\"AAAA\"},\"kind\":\"ssd\",\"size\":4096"),
         "", "volumes.disk.key"},
        {"",
         V("\"disk\":{\"filesystem\":\"raw\",\"key\":\"not base64\"},\"kind\":\"ssd\","
           "\"size\":4096"),
         "", "volumes.disk.key"},
        {"",
         V("\"disk\":{\"filesystem\":\"raw\"},\"kind\":\"ssd\",\"size\":4096,"
           "\"snapshots\":{\"every\":60000,\"keep\":1}"),
         "", "volumes.snapshots"},
        {"", V("\"kind\":\"ssd\",\"size\":4096,\"snapshots\":{\"every\":59999,\"keep\":1}"), "",
         "every"},
        {"", V("\"kind\":\"ssd\",\"size\":4096,\"snapshots\":{\"every\":60000,\"keep\":0}"), "",
         "keep"},
        {"", V("\"kind\":\"ssd\",\"size\":4096,\"snapshots\":{\"every\":60000,\"keep\":129}"), "",
         "keep"},
        {"", V("\"kind\":\"ssd\",\"size\":4096,\"snapshots\":{\"every\":60000}"), "", "keep"},
        {"", V("\"disk\":{\"filesystem\":\"raw\"},\"kind\":\"ssd\",\"size\":4096"),
         ONCE ",{\"target\":\"/e\",\"volume\":\"d\"}", "mounted twice"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"size\":4096}", "", "", "kv.password"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"*\",\"size\":4096}", "", "",
         "kv.password"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"list\",\"password\":\"p\",\"size\":4096}", "", "",
         "kv.mode"},
        {"\"c\":{\"kind\":\"xxx\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096}", "", "",
         "kv.kind"},
        {"\"C\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096}", "", "",
         "kv"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"published\":0,"
         "\"size\":4096}",
         "", "", "published"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096,\"worm\":"
         "true}",
         "", "", "worm"},
        /* One way to say it: a specification is canonical. */
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096,\"tls\":"
         "\"optional\"}",
         "", "", "kv.tls"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096,\"tls\":"
         "\"\"}",
         "", "", "kv.tls"},
        {"\"c\":{\"kind\":\"ssd\",\"mode\":\"user\",\"password\":\"p\",\"size\":4096,\"tls\":"
         "true}",
         "", "", "tls"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct spec *spec = NULL;
        if (parse(cases[i].kv, cases[i].volumes, cases[i].mounts, 4096, 0, &spec, &err) == 0) {
            fail_msg("taken: %s %s", cases[i].kv, cases[i].volumes);
        }
        assert_string_equal(err.code, "provision.bad-specification");
        if (strstr(err.message, cases[i].named) == NULL) {
            fail_msg("\"%s\" does not name %s", err.message, cases[i].named);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_tls_of_a_namespace),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
