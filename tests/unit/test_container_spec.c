// What a container shall be: specification and image merged, refused, and written as an OCI bundle.
// sources: core0/container/spec.c core0/container/spec_image.c core0/container/caps.c core0/container/bundle.c core0/container/seccomp.c core0/container/user.c
// packages: yyjson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "container/bundle.h"
#include "container/caps.h"
#include "container/seccomp.h"
#include "container/spec.h"

#define HEAD "{\"reservation\":1,\"revision\":1,\"service\":\"web\",\"rootfs\":\"/r\","

static int parse(const char *image, const char *service, const char *more,
                 struct container_spec *ret_spec, struct error *err)
{
    char text[8192];

    snprintf(text, sizeof(text), HEAD "\"image\":%s,\"spec\":%s%s}", image, service, more);
    return container_spec_parse(text, strlen(text), ret_spec, err);
}

static void good(const char *image, const char *service, const char *more,
                 struct container_spec *ret_spec)
{
    struct error err = {0};

    if (parse(image, service, more, ret_spec, &err) < 0)
        fail_msg("%s: %s", err.code, err.message);
}

static void assert_list(const char *const *list, const char *expected)
{
    char joined[1024] = "";

    for (; *list != NULL; list++) {
        strcat(joined, *list);
        strcat(joined, "|");
    }
    assert_string_equal(joined, expected);
}

/* ---- merging ---- */

static void test_argv_merges_as_docker_does(void **state)
{
    static const struct {
        const char *image, *service, *argv;
    } rows[] = {
        {"{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "{}", "e|c|"},
        {"{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "{\"command\":[\"x\",\"y\"]}", "e|x|y|"},
        {"{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "{\"entrypoint\":[\"f\"]}", "f|"},
        {"{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "{\"entrypoint\":[\"f\"],\"command\":[\"g\"]}",
         "f|g|"},
        {"{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "{\"entrypoint\":[],\"command\":[\"g\"]}",
         "g|"},
        {"{\"Cmd\":[\"c\"]}", "{\"command\":[\"x\"]}", "x|"},
        {"{\"entrypoint\":[\"e\"],\"cmd\":[\"c\"]}", "{}", "e|c|"},
        {"{\"config\":{\"Cmd\":[\"c\"]}}", "{}", "c|"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct container_spec spec;

        good(rows[i].image, rows[i].service, "", &spec);
        assert_list((const char *const *)spec.argv, rows[i].argv);
        container_spec_done(&spec);
    }
}

static void test_environment_overrides_by_name(void **state)
{
    struct container_spec spec;

    (void)state;
    good("{\"Cmd\":[\"c\"],\"Env\":[\"A=1\",\"PATH=/p\",\"AB=2\"]}",
         "{\"environment\":{\"A\":\"x=y\",\"N\":\"\"}}", "", &spec);
    assert_list((const char *const *)spec.env, "PATH=/p|A=x=y|AB=2|N=|");
    container_spec_done(&spec);
    good("{\"Cmd\":[\"c\"]}", "{}", "", &spec);
    assert_int_equal(strncmp(spec.env[0], "PATH=/usr/local/sbin:", 21), 0);
    container_spec_done(&spec);
}

static void test_health_comes_from_service_and_image(void **state)
{
    struct container_spec spec;

    (void)state;
    good("{\"Cmd\":[\"c\"],\"Healthcheck\":{\"Test\":[\"CMD-SHELL\",\"true\"],\"Interval\":"
         "2000000000,\"Retries\":7}}",
         "{}", "", &spec);
    assert_list((const char *const *)spec.health.argv, "/bin/sh|-c|true|");
    assert_int_equal(spec.health.interval, 2000000);
    assert_int_equal(spec.health.timeout, 30000000);
    assert_int_equal(spec.health.retries, 7);
    container_spec_done(&spec);
    good("{\"Cmd\":[\"c\"],\"Healthcheck\":{\"Test\":[\"CMD\",\"a\"],\"Interval\":2000000000}}",
         "{\"healthcheck\":{\"test\":[\"CMD\",\"b\",\"c\"],\"timeout\":1500}}", "", &spec);
    assert_list((const char *const *)spec.health.argv, "b|c|");
    assert_int_equal(spec.health.interval, 2000000);
    assert_int_equal(spec.health.timeout, 1500000);
    assert_int_equal(spec.health.retries, 3);
    container_spec_done(&spec);
    good("{\"Cmd\":[\"c\"],\"Healthcheck\":{\"Test\":[\"CMD\",\"a\"]}}",
         "{\"healthcheck\":{\"disable\":true}}", "", &spec);
    assert_null(spec.health.argv);
    container_spec_done(&spec);
    good("{\"Cmd\":[\"c\"],\"Healthcheck\":{\"Test\":[\"NONE\"]}}", "{}", "", &spec);
    assert_null(spec.health.argv);
    container_spec_done(&spec);
}

static void test_defaults(void **state)
{
    struct container_spec spec;

    (void)state;
    good("{\"Cmd\":[\"c\"],\"User\":\"web\",\"WorkingDir\":\"/w\",\"StopSignal\":\"SIGQUIT\"}",
         "{}", "", &spec);
    assert_string_equal(spec.user, "web");
    assert_string_equal(spec.cwd, "/w");
    assert_int_equal(spec.stop_signal, 3);
    assert_int_equal(spec.stop_grace, 10000000);
    assert_int_equal(spec.caps, 0xa80425fb);
    assert_int_equal(spec.memory, 256 << 20);
    assert_int_equal(spec.restart, RESTART_NO);
    container_spec_done(&spec);
    good("{\"Cmd\":[\"c\"],\"User\":\"web\"}", "{\"user\":\"0\",\"stopSignal\":\"RTMIN+3\"}", "",
         &spec);
    assert_string_equal(spec.user, "0");
    assert_int_equal(spec.stop_signal, 37);
    container_spec_done(&spec);
}

static void test_files_are_decoded(void **state)
{
    struct container_spec spec;

    (void)state;
    good("{\"Cmd\":[\"c\"]}", "{}",
         ",\"files\":[{\"target\":\"/"
         "a\",\"data\":\"aGVsbG8=\",\"mode\":256,\"uid\":5,\"gid\":6},{\"target\":\"/"
         "b\",\"data\":\"\"}]",
         &spec);
    assert_int_equal(spec.file_count, 2);
    assert_int_equal(spec.files[0].len, 5);
    assert_memory_equal(spec.files[0].data, "hello", 5);
    assert_int_equal(spec.files[0].mode, 0400);
    assert_int_equal(spec.files[1].len, 0);
    container_spec_done(&spec);
}

/* ---- refusals ---- */

static void test_bad_specifications_are_refused(void **state)
{
    static const struct {
        const char *image, *service, *more;
    } rows[] = {
        {"{}", "{}", ""},
        {"{\"Cmd\":[\"\"]}", "{}", ""},
        {"{\"Cmd\":[1]}", "{}", ""},
        {"{\"Cmd\":[\"a\\u0000b\"]}", "{}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"unknown\":1}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"user\":1}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"workingDir\":\"rel\"}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"environment\":{\"A=B\":\"c\"}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"environment\":{\"A\":\"x\\u0000y\"}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"restart\":{\"policy\":\"sometimes\"}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"resources\":{\"memory\":1048576}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"resources\":{\"milliCores\":0}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"capAdd\":[\"FLY\"]}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"stopSignal\":\"SIGNOTHING\"}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"stopSignal\":\"65\"}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"healthcheck\":{\"test\":[\"CMD\"]}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"healthcheck\":{\"test\":[\"curl\"]}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"tmpfs\":[{\"target\":\"/\"}]}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"tmpfs\":[{\"target\":\"/a/../b\"}]}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"extraHosts\":{\"a\":\"nowhere\"}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{\"extraHosts\":{\"a b\":\"1.2.3.4\"}}", ""},
        {"{\"Cmd\":[\"c\"]}", "{}", ",\"dns\":[\"one\"]"},
        {"{\"Cmd\":[\"c\"]}", "{}", ",\"mounts\":[{\"source\":\"rel\",\"target\":\"/a\"}]"},
        {"{\"Cmd\":[\"c\"]}", "{}", ",\"mounts\":[{\"source\":\"/a\",\"target\":\"/a/..\"}]"},
        {"{\"Cmd\":[\"c\"]}", "{}", ",\"files\":[{\"target\":\"/a\",\"data\":\"a\"}]"},
        {"{\"Cmd\":[\"c\"]}", "{}", ",\"files\":[{\"target\":\"/a\",\"data\":\"a=bc\"}]"},
        {"{\"Cmd\":[\"c\"]}", "{}",
         ",\"files\":[{\"target\":\"/a\",\"data\":\"YQ==\",\"mode\":4095}]"},
        {"{\"Cmd\":[\"c\"]}", "{}", ",\"more\":1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct container_spec spec;
        struct error err = {0};

        if (parse(rows[i].image, rows[i].service, rows[i].more, &spec, &err) == 0)
            fail_msg("accepted: %s %s %s", rows[i].image, rows[i].service, rows[i].more);
        assert_string_equal(err.code, "container.bad-spec");
        assert_true(err.message[0] != '\0');
        container_spec_done(&spec);
    }
}

/* ---- capabilities ---- */

static void test_capabilities_as_docker_computes_them(void **state)
{
    static const char *const all[] = {"ALL", NULL}, *const admin[] = {"net_admin", NULL},
                             *const chown_[] = {"CAP_CHOWN", NULL};
    uint64_t set, everything = (UINT64_C(1) << CAPS_COUNT) - 1;

    (void)state;
    assert_int_equal(caps_compute(NULL, NULL, &set, NULL), 0);
    assert_int_equal(set, 0xa80425fb);
    assert_int_equal(caps_compute(admin, chown_, &set, NULL), 0);
    assert_int_equal(set, (UINT64_C(0xa80425fb) | 1u << 12) & ~UINT64_C(1));
    assert_int_equal(caps_compute(admin, all, &set, NULL), 0);
    assert_int_equal(set, 1u << 12);
    assert_int_equal(caps_compute(all, chown_, &set, NULL), 0);
    assert_int_equal(set, everything & ~UINT64_C(1));
    assert_int_equal(caps_compute(NULL, all, &set, NULL), 0);
    assert_int_equal(set, 0);
}

/* ---- seccomp ---- */

static const char profile[] =
    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,\"archMap\":[],\"syscalls\":["
    "{\"names\":[\"always\"],\"action\":\"SCMP_ACT_ALLOW\"},"
    "{\"names\":[\"arm\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"arm64\"]}},"
    "{\"names\":[\"amd\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"amd64\","
    "\"x32\"]},\"comment\":\"c\"},"
    "{\"names\":[\"admin\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_"
    "ADMIN\"]}},"
    "{\"names\":[\"noadmin\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38,\"excludes\":{\"caps\":"
    "[\"CAP_SYS_ADMIN\"]}},"
    "{\"names\":[\"new\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"4.8\"}},"
    "{\"names\":[\"both\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_CHOWN\"]},"
    "\"excludes\":{\"arches\":[\"amd64\"]}}"
    "]}";

static void assert_seccomp(uint64_t caps, unsigned kernel, const char *expected)
{
    yyjson_doc *in = yyjson_read(profile, strlen(profile), 0);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *out, *rule, *rules;
    char names[256] = "";
    size_t i, max;

    assert_non_null(in);
    assert_int_equal(seccomp_resolve(yyjson_doc_get_root(in), caps, kernel, doc, &out, NULL), 0);
    rules = yyjson_mut_obj_get(out, "syscalls");
    yyjson_mut_arr_foreach(rules, i, max, rule)
    {
        strcat(names,
               yyjson_mut_get_str(yyjson_mut_arr_get_first(yyjson_mut_obj_get(rule, "names"))));
        strcat(names, " ");
        assert_null(yyjson_mut_obj_get(rule, "includes"));
        assert_null(yyjson_mut_obj_get(rule, "comment"));
    }
    assert_string_equal(names, expected);
    assert_int_equal(yyjson_mut_arr_size(yyjson_mut_obj_get(out, "architectures")), 1);
    assert_int_equal(yyjson_mut_get_int(yyjson_mut_obj_get(out, "defaultErrnoRet")), 1);
    yyjson_doc_free(in);
    yyjson_mut_doc_free(doc);
}

static void test_seccomp_follows_capabilities_and_kernel(void **state)
{
    (void)state;
    assert_seccomp(caps_default(), seccomp_kernel("6.12.3-croft"), "always amd noadmin new ");
    assert_seccomp(caps_default() | UINT64_C(1) << 21, seccomp_kernel("6.12.3"),
                   "always amd admin new ");
    assert_seccomp(caps_default(), seccomp_kernel("4.7"), "always amd noadmin ");
    assert_int_equal(seccomp_kernel("6.12.117"), 6 << 8 | 12);
    assert_int_equal(seccomp_kernel("x"), 0);
}

/* ---- bundle ---- */

static void test_bundle(void **state)
{
    struct container_spec spec;
    struct container_user user = {
        .uid = 33, .gid = 33, .groups = {33, 44}, .group_count = 2, .home = "/var/web"};
    struct bundle bundle = {.spec = &spec,
                            .user = &user,
                            .hostname = "web",
                            .userns = "/u",
                            .netns = "/n",
                            .cgroup = "/croft/1/1-1-web",
                            .etc = "/e",
                            .files = "/f"};
    char *json;
    size_t len;

    (void)state;
    good("{\"Cmd\":[\"c\"]}",
         "{\"resources\":{\"milliCores\":250,\"memory\":33554432,\"pids\":9},\"readOnly\":true}",
         ",\"mounts\":[{\"source\":\"/v\",\"target\":\"/data\"}],\"files\":[{\"target\":\"/etc/"
         "hosts\",\"data\":\"\"}]",
         &spec);
    assert_int_equal(bundle_config(&bundle, &json, &len, NULL), 0);
    yyjson_doc *doc = yyjson_read(json, len, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);

    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(root, "/linux/resources/cpu/quota")), 25000);
    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(root, "/linux/resources/memory/limit")),
                     33554432);
    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(root, "/linux/resources/memory/swap")),
                     33554432);
    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(root, "/linux/resources/pids/limit")), 9);
    assert_string_equal(yyjson_get_str(yyjson_ptr_get(root, "/linux/cgroupsPath")),
                        "/croft/1/1-1-web");
    assert_string_equal(yyjson_get_str(yyjson_ptr_get(root, "/linux/namespaces/0/path")), "/u");
    assert_string_equal(yyjson_get_str(yyjson_ptr_get(root, "/linux/namespaces/1/path")), "/n");
    assert_true(yyjson_get_bool(yyjson_ptr_get(root, "/root/readonly")));
    /* A user other than root has capabilities to lose only. */
    assert_int_equal(yyjson_arr_size(yyjson_ptr_get(root, "/process/capabilities/bounding")), 14);
    assert_null(yyjson_ptr_get(root, "/process/capabilities/effective"));
    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(root, "/process/user/additionalGids/1")), 44);
    /* What the service mounts itself is not mounted by us. */
    assert_non_null(strstr(json, "\"/etc/hostname\""));
    assert_null(strstr(json, "/e/hosts"));
    assert_non_null(strstr(json, "/proc/cmdline"));
    assert_non_null(strstr(json, "\"idmap\""));
    yyjson_doc_free(doc);
    free(json);
    container_spec_done(&spec);
}

/* A block device is a node of the container's own, one rule for exactly it, and never a mapped folder. */
static void test_block_device(void **state)
{
    struct container_spec spec;
    struct container_user user = {.home = "/"};
    const struct bundle_device numbers[] = {{0, 0}, {253, 7}};
    struct bundle bundle = {.spec = &spec,
                            .user = &user,
                            .hostname = "web",
                            .cgroup = "/c",
                            .etc = "/e",
                            .devices = "/devs",
                            .numbers = numbers};
    char *json;
    size_t len;

    (void)state;
    good("{\"Cmd\":[\"c\"]}", "{\"resources\":{\"milliCores\":250,\"memory\":33554432,\"pids\":9}}",
         ",\"mounts\":[{\"source\":\"/v\",\"target\":\"/data\"},{\"source\":\"/dev/"
         "dm-7\",\"target\":"
         "\"/dev/raw\",\"block\":true,\"readOnly\":true}]",
         &spec);
    assert_int_equal(bundle_config(&bundle, &json, &len, NULL), 0);
    yyjson_doc *doc = yyjson_read(json, len, 0);
    yyjson_val *rules = yyjson_ptr_get(yyjson_doc_get_root(doc), "/linux/resources/devices");

    assert_int_equal(yyjson_arr_size(rules), 2);
    assert_false(yyjson_get_bool(yyjson_ptr_get(rules, "/0/allow")));
    assert_true(yyjson_get_bool(yyjson_ptr_get(rules, "/1/allow")));
    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(rules, "/1/major")), 253);
    assert_int_equal(yyjson_get_uint(yyjson_ptr_get(rules, "/1/minor")), 7);
    assert_string_equal(yyjson_get_str(yyjson_ptr_get(rules, "/1/access")), "r");
    assert_non_null(strstr(json, "\"/devs/1\""));
    assert_null(strstr(json, "/dev/dm-7"));
    yyjson_doc_free(doc);
    free(json);
    container_spec_done(&spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argv_merges_as_docker_does),
        cmocka_unit_test(test_environment_overrides_by_name),
        cmocka_unit_test(test_health_comes_from_service_and_image),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_files_are_decoded),
        cmocka_unit_test(test_bad_specifications_are_refused),
        cmocka_unit_test(test_capabilities_as_docker_computes_them),
        cmocka_unit_test(test_seccomp_follows_capabilities_and_kernel),
        cmocka_unit_test(test_bundle),
        cmocka_unit_test(test_block_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
