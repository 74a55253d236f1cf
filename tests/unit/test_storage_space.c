// Key-value namespaces: descriptions on a pool, what they promise, and the conversation with a kvd.
// sources: core0/storage/space.c core0/storage/space_talk.c core0/storage/key.c
// packages: yyjson mbedtls
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/file.h"
#include "storage/space.h"

#define KEY "kv/0x00000000000000000000000000000000000000aa/shop/cache"
#define MIB ((uint64_t)1 << 20)

static char folder[64];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/croft-space-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(folder);
}

static void open_pools(struct storage *storage, struct pool pools[2])
{
    char path[80];

    *storage = (struct storage){.pools = pools};
    pools[0] = (struct pool){.next = &pools[1], .disk = "vda"};
    pools[1] = (struct pool){.disk = "vdb"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%d", folder, i);
        assert_int_equal(mkdir(path, 0700), 0);
        pools[i].fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(pools[i].fd >= 0);
    }
}

static struct space make(const struct pool *pool, const char *key, uint64_t size)
{
    struct space space = {.size = size, .pool = pool};

    snprintf(space.key, sizeof(space.key), "%s", key);
    kv_name(key, space.name);
    return space;
}

static void test_a_description_is_found_again(void **state)
{
    struct storage storage;
    struct pool pools[2];
    struct space found, space;

    (void)state;
    open_pools(&storage, pools);
    assert_int_equal(space_find(&storage, KEY, &found), -ENOENT);
    assert_int_equal(space_reserved(&pools[1]), 0);
    space = make(&pools[1], KEY, 16 * MIB);
    space.seq = true;
    space.keep_until = 1800000000;
    assert_int_equal(space_save(&space), 0);
    assert_int_equal(space_find(&storage, KEY, &found), 0);
    assert_string_equal(found.key, KEY);
    assert_string_equal(found.name, space.name);
    assert_int_equal(found.size, 16 * MIB);
    assert_true(found.seq && !found.is_public && found.keep_until == 1800000000);
    assert_false(found.tls_required);
    assert_ptr_equal(found.pool, &pools[1]);
    assert_int_equal(space_reserved(&pools[0]), 0);
    assert_int_equal(space_reserved(&pools[1]),
                     2 * 16 * MIB + SPACE_SEGMENT_BYTES * 5 / 2 + SPACE_SERVER_BYTES);
    space.size = 32 * MIB;
    space.tls_required = true;
    assert_int_equal(space_save(&space), 0);
    assert_int_equal(space_find(&storage, KEY, &found), 0);
    assert_true(found.tls_required && found.size == 32 * MIB);
    space = make(&pools[1], KEY "2", MIB);
    assert_int_equal(space_save(&space), 0);
    assert_int_equal(space_reserved(&pools[1]),
                     space_cost(32 * MIB) + space_cost(MIB) + SPACE_SERVER_BYTES);
    assert_int_equal(space_sold(&pools[1]), 33 * MIB);
    assert_int_equal(space_forget(&found), 0);
    assert_int_equal(space_forget(&found), 0);
    assert_int_equal(space_forget(&space), 0);
    assert_int_equal(space_find(&storage, KEY, &found), -ENOENT);
    assert_int_equal(space_reserved(&pools[1]), 0);
    close(pools[0].fd);
    close(pools[1].fd);
}

static int parse(const char *text, const char *name)
{
    struct space space;

    return space_parse(text, strlen(text), name, &space);
}

static void test_what_is_no_description(void **state)
{
    static const char good[] =
        "{\"key\":\"" KEY "\",\"size\":5,\"mode\":\"user\",\"public\":true}\n";
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"key\":\"" KEY "\",\"size\":5,\"mode\":\"both\",\"public\":true}",
        "{\"key\":\"" KEY "\",\"size\":0,\"mode\":\"user\",\"public\":true}",
        "{\"key\":\"" KEY "\",\"size\":5,\"mode\":\"user\"}",
        "{\"key\":\"" KEY
        "\",\"size\":5,\"mode\":\"user\",\"public\":true,\"tlsRequired\":\"required\"}",
        "{\"key\":\"kv/a/../c\",\"size\":5,\"mode\":\"user\",\"public\":true}",
        "{\"key\":\"volume/a/b/c\",\"size\":5,\"mode\":\"user\",\"public\":true}",
    };
    char name[KV_NAME_LEN + 1];

    (void)state;
    kv_name(KEY, name);
    assert_int_equal(parse(good, name), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(bad[i], name), -EBADMSG);
    name[5] ^= 1; /* under another's name it would be promised twice */
    assert_int_equal(parse(good, name), -EBADMSG);
}

static void test_names_and_keys(void **state)
{
    static const uint8_t tenant[20] = {[19] = 0xaa};
    char key[KV_KEY_SIZE];
    char one[KV_NAME_LEN + 1], other[KV_NAME_LEN + 1];
    struct error err = {0};

    (void)state;
    kv_key(tenant, "shop", "cache", key);
    assert_string_equal(key, KEY);
    kv_name(key, one);
    assert_int_equal(strlen(one), KV_NAME_LEN);
    assert_memory_equal(one, "kv-", 3);
    kv_name(KEY "2", other);
    assert_string_not_equal(one, other);
    assert_int_equal(space_key_check(KEY, &err), 0);
    assert_int_equal(space_key_check("volume/a/b/c", &err), -EINVAL);
    assert_string_equal(err.code, "storage.bad-key");
}

static void test_replies(void **state)
{
    static const struct {
        const char *text;
        ssize_t used;
        char type;
        const char *value;
    } cases[] = {
        {"+OK\r\n", 5, '+', "OK"},
        {"-Permission denied\r\nmore", 20, '-', "Permission denied"},
        {":12\r\n", 5, ':', "12"},
        {"$3\r\nabc\r\n+", 9, '$', "abc"},
        {"$0\r\n\r\n", 6, '$', ""},
        {"$-1\r\n", 5, '$', NULL},
        {"", 0, 0, NULL},
        {"+OK", 0, 0, NULL},
        {"$3\r\nab", 0, 0, NULL},
        {"$3\r\nabcde", -EBADMSG, 0, NULL},
        {"$x\r\n", -EBADMSG, 0, NULL},
        {"$99999999\r\n", -EBADMSG, 0, NULL},
        {"OK\r\n", -EBADMSG, 0, NULL},
        {"+\n", -EBADMSG, 0, NULL},
        {"*1\r\n", -EBADMSG, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space_reply reply = {0};

        assert_int_equal(space_reply_read(cases[i].text, strlen(cases[i].text), &reply),
                         cases[i].used);
        if (cases[i].used <= 0)
            continue;
        assert_int_equal(reply.type, cases[i].type);
        if (cases[i].value == NULL) {
            assert_null(reply.text);
            continue;
        }
        assert_int_equal(reply.len, strlen(cases[i].value));
        assert_memory_equal(reply.text, cases[i].value, reply.len);
    }
}

struct heard {
    struct loop *loop;
    size_t count;
    char last[32];
    char code[64];
};

static void hear(const struct space_reply *replies, size_t count, const struct error *err,
                 void *data)
{
    struct heard *heard = data;

    heard->count = count;
    if (replies != NULL)
        snprintf(heard->last, sizeof(heard->last), "%.*s", (int)replies[count - 1].len,
                 replies[count - 1].text);
    else
        snprintf(heard->code, sizeof(heard->code), "%s", err->code);
    loop_exit(heard->loop, 0);
}

/* A server that says `answer` to whoever comes, in two pieces, and closes. */
static pid_t serve(const char *path, const char *answer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char bytes[256];
        int peer = accept(fd, NULL, NULL);
        size_t half = strlen(answer) / 2;

        if (peer < 0 || read(peer, bytes, sizeof(bytes)) <= 0 ||
            write(peer, answer, half) != (ssize_t)half || usleep(20000) != 0 ||
            write(peer, answer + half, strlen(answer) - half) < 0)
            _exit(1);
        _exit(0);
    }
    close(fd);
    return pid;
}

static struct heard talk(const char *answer, size_t count)
{
    struct heard heard = {.count = 0};
    struct space_talk *started = NULL;
    struct buffer request;
    struct error err = {0};
    char path[96];

    snprintf(path, sizeof(path), "%s/socket", folder);
    unlink(path);
    serve(path, answer);
    buffer_init(&request, 0);
    assert_int_equal(space_request(&request, (const char *const[]){"PING", "a b", NULL}), 0);
    assert_string_equal((const char *)request.data, "*2\r\n$4\r\nPING\r\n$3\r\na b\r\n");
    assert_int_equal(loop_new(&heard.loop), 0);
    assert_int_equal(
        space_talk_start(heard.loop, path, &request, count, hear, &heard, &started, &err), 0);
    assert_int_equal(loop_run(heard.loop), 0);
    loop_free(heard.loop);
    buffer_done(&request);
    return heard;
}

static void test_a_conversation(void **state)
{
    struct heard heard;
    struct space_talk *started = NULL;
    struct buffer request;
    struct error err = {0};

    (void)state;
    heard = talk("+OK\r\n-no\r\n$4\r\nlast\r\n", 3);
    assert_int_equal(heard.count, 3);
    assert_string_equal(heard.last, "last");
    heard = talk("+OK\r\n$4\r\nla", 2); /* it died over the answer */
    assert_string_equal(heard.code, "storage.busy");
    heard = talk("nonsense\r\n", 1);
    assert_string_equal(heard.code, "storage.busy");
    buffer_init(&request, 0);
    assert_int_equal(
        space_talk_start(NULL, "/nonexistent/socket", &request, 1, hear, NULL, &started, &err),
        -ENOENT);
    assert_string_equal(err.code, "storage.busy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_description_is_found_again, setup, teardown),
        cmocka_unit_test(test_what_is_no_description),
        cmocka_unit_test(test_names_and_keys),
        cmocka_unit_test(test_replies),
        cmocka_unit_test_setup_teardown(test_a_conversation, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
