// Server and clients against each other in one loop, and the server against bytes that are no varlink.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/varlink.h"

static struct loop *loop;
static struct varlink_server *server;
static char path[64];
static struct varlink_call *kept;
static int gone;

static void on_echo(struct varlink_call *call, yyjson_val *params, void *data)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    assert_ptr_equal(data, &server);
    yyjson_mut_doc_set_root(doc, yyjson_val_mut_copy(doc, params));
    varlink_call_reply(call, doc);
}

static void on_fail(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};

    (void)params;
    (void)data;
    error_set(&err, EIO, "test.broken", "mend it", "it is broken");
    varlink_call_fail(call, &err);
    varlink_call_reply(call, NULL); /* a second answer changes nothing */
}

static void on_gone(struct varlink_call *call, void *data)
{
    (void)data;
    assert_ptr_equal(call, kept);
    kept = NULL;
    gone++;
}

static void on_keep(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)data;
    kept = call;
    if (yyjson_obj_get(params, "watched") != NULL)
        varlink_call_set_gone(call, on_gone, NULL);
}

static void on_many(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    (void)data;
    if (!varlink_call_wants_more(call)) {
        assert_int_equal(varlink_call_reply_more(call, NULL), -EPROTO);
        varlink_call_error(call, "org.varlink.service.ExpectedMore", NULL);
        return;
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(varlink_call_reply_more(call, NULL), 0);
    varlink_call_reply(call, NULL);
}

static void on_bad_text(struct varlink_call *call, yyjson_val *params, void *data)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    (void)params;
    (void)data;
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "text", "\xff\xfe");
    varlink_call_reply(call, doc);
}

static const uid_t nobody[] = {65534, VARLINK_UID_END};
static const struct varlink_method methods[] = {
    {"org.test.Echo", on_echo, NULL},        {"org.test.Fail", on_fail, NULL},
    {"org.test.Keep", on_keep, NULL},        {"org.test.Many", on_many, NULL},
    {"org.test.BadText", on_bad_text, NULL}, {"org.test.Others", on_echo, nobody},
};
static const struct varlink_interface interfaces[] = {
    {"org.test", "interface org.test\nmethod Echo() -> ()\n", methods, 6},
};

static int setup(void **state)
{
    struct error err = {0};

    (void)state;
    gone = 0;
    kept = NULL;
    snprintf(path, sizeof(path), "/tmp/croft-varlink-%d", (int)getpid());
    if (loop_new(&loop) < 0 ||
        varlink_server_new(loop, "test", "1", interfaces, 1, &server, &server) < 0)
        return -1;
    return varlink_server_listen(server, path, 0600, &err);
}

static int teardown(void **state)
{
    (void)state;
    varlink_server_free(server);
    loop_free(loop);
    return access(path, F_OK) == 0;
}

struct answer {
    int count;
    int open;
    char code[40];
    char text[64];
};

static void on_answer(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct answer *answer = data;

    answer->count++;
    answer->open = more;
    if (err != NULL)
        snprintf(answer->code, sizeof(answer->code), "%s", err->code);
    else if (yyjson_obj_get(parameters, "text") != NULL)
        snprintf(answer->text, sizeof(answer->text), "%s",
                 yyjson_get_str(yyjson_obj_get(parameters, "text")));
}

static yyjson_mut_doc *with_text(const char *text)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "text", text);
    return doc;
}

static void turn_until(const int *value, int wanted)
{
    for (int i = 0; i < 200 && *value != wanted; i++)
        loop_step(loop, 10);
    assert_int_equal(*value, wanted);
}

static void test_calls_are_answered_in_order(void **state)
{
    struct answer answers[50] = {0};
    struct varlink_client *client;
    char text[16];

    (void)state;
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof(text), "%d", i);
        assert_int_equal(varlink_client_call(client, i == 7 ? "org.test.Fail" : "org.test.Echo",
                                             with_text(text), 0, 0, on_answer, &answers[i]),
                         0);
    }
    turn_until(&answers[49].count, 1);
    assert_string_equal(answers[31].text, "31");
    assert_string_equal(answers[7].code, "test.broken");
    varlink_client_free(client);
}

static void test_large_messages(void **state)
{
    struct answer answer = {0};
    struct varlink_client *client;
    char *large = malloc(3000000);

    (void)state;
    memset(large, 'x', 2999999);
    large[2999999] = '\0';
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    assert_int_equal(
        varlink_client_call(client, "org.test.Echo", with_text(large), 0, 0, on_answer, &answer),
        0);
    turn_until(&answer.count, 1);
    assert_int_equal(strlen(answer.text), sizeof(answer.text) - 1);
    varlink_client_free(client);
    free(large);
}

static void test_more(void **state)
{
    struct answer answer = {0};
    struct answer wrong = {0};
    struct varlink_client *client;

    (void)state;
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    assert_int_equal(
        varlink_client_call(client, "org.test.Many", NULL, VARLINK_MORE, 0, on_answer, &answer), 0);
    turn_until(&answer.count, 4);
    assert_int_equal(answer.open, 0);
    assert_int_equal(varlink_client_call(client, "org.test.Many", NULL, 0, 0, on_answer, &wrong),
                     0);
    turn_until(&wrong.count, 1);
    assert_string_equal(wrong.code, "varlink.expected-more");
    varlink_client_free(client);
}

static void test_standard_errors(void **state)
{
    static const char *const calls[][2] = {
        {"org.test.Nothing", "varlink.method-not-found"},
        {"org.other.Echo", "varlink.interface-not-found"},
        {"nonsense", "varlink.interface-not-found"},
        {"org.varlink.service.GetInterfaceDescription", "varlink.invalid-parameter"},
        {"org.test.BadText", "varlink.method-not-implemented"},
    };
    struct varlink_client *client;

    (void)state;
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct answer answer = {0};

        assert_int_equal(varlink_client_call(client, calls[i][0], NULL, 0, 0, on_answer, &answer),
                         0);
        turn_until(&answer.count, 1);
        assert_string_equal(answer.code, calls[i][1]);
    }
    varlink_client_free(client);
}

static void test_timeout_and_late_answer(void **state)
{
    struct answer slow = {0};
    struct answer next = {0};
    struct varlink_client *client;

    (void)state;
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    assert_int_equal(varlink_client_call(client, "org.test.Keep", NULL, 0, 30000, on_answer, &slow),
                     0);
    assert_int_equal(
        varlink_client_call(client, "org.test.Echo", with_text("next"), 0, 0, on_answer, &next), 0);
    turn_until(&slow.count, 1);
    assert_string_equal(slow.code, "varlink.timeout");
    assert_int_equal(next.count, 0);
    varlink_call_reply(kept, with_text("late"));
    turn_until(&next.count, 1);
    assert_string_equal(next.text,
                        "next"); /* the late answer was dropped, not taken for this one */
    assert_int_equal(slow.count, 1);
    varlink_client_free(client);
}

static void test_a_peer_that_goes_away(void **state)
{
    struct answer answer = {0};
    struct varlink_client *client;
    yyjson_mut_doc *watched = yyjson_mut_doc_new(NULL);

    (void)state;
    yyjson_mut_doc_set_root(watched, yyjson_mut_obj(watched));
    yyjson_mut_obj_add_bool(watched, yyjson_mut_doc_get_root(watched), "watched", true);
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    assert_int_equal(
        varlink_client_call(client, "org.test.Keep", watched, 0, 0, on_answer, &answer), 0);
    for (int i = 0; i < 20 && kept == NULL; i++)
        loop_step(loop, 10);
    assert_non_null(kept);
    varlink_client_free(client);
    turn_until(&gone, 1);

    /* Without on_gone the call stays valid, and its answer goes nowhere. */
    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    assert_int_equal(varlink_client_call(client, "org.test.Keep", NULL, 0, 0, on_answer, &answer),
                     0);
    for (int i = 0; i < 20 && kept == NULL; i++)
        loop_step(loop, 10);
    varlink_client_free(client);
    for (int i = 0; i < 5; i++)
        loop_step(loop, 5);
    assert_int_equal(varlink_call_reply_more(kept, NULL), -EPIPE);
    varlink_call_reply(kept, with_text("nobody"));
    assert_int_equal(answer.count, 0);
}

static void test_a_lost_server(void **state)
{
    struct answer first = {0};
    struct answer second = {0};
    struct error err = {0};
    struct varlink_client *client;

    (void)state;
    assert_int_equal(varlink_client_new(loop, "/tmp/croft-varlink-nobody", &client), 0);
    assert_int_equal(varlink_client_call(client, "org.test.Echo", NULL, 0, 0, on_answer, &first),
                     0);
    assert_int_equal(first.count, 0); /* never from inside the call */
    turn_until(&first.count, 1);
    assert_string_equal(first.code, "varlink.lost");
    varlink_client_free(client);

    assert_int_equal(varlink_client_new(loop, path, &client), 0);
    assert_int_equal(varlink_client_call(client, "org.test.Keep", NULL, 0, 0, on_answer, &second),
                     0);
    for (int i = 0; i < 20 && kept == NULL; i++)
        loop_step(loop, 10);
    varlink_server_free(server);
    turn_until(&second.count, 1);
    assert_string_equal(second.code, "varlink.lost");
    varlink_call_reply(kept, NULL);
    assert_int_equal(varlink_server_new(loop, "test", "1", interfaces, 1, &server, &server), 0);
    assert_int_equal(varlink_server_listen(server, path, 0600, &err), 0);
    first.count = 0; /* it connects again by itself */
    assert_int_equal(
        varlink_client_call(client, "org.test.Echo", with_text("again"), 0, 0, on_answer, &first),
        0);
    turn_until(&first.count, 1);
    varlink_client_free(client);
}

static int raw(const void *bytes, size_t len, char *reply, size_t size)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    ssize_t got = -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    if (send(fd, bytes, len, MSG_NOSIGNAL) < 0)
        got = 0;
    for (int i = 0; i < 10; i++) {
        loop_step(loop, 2);
        got = recv(fd, reply, size - 1, 0);
        if (got >= 0)
            break;
    }
    reply[got > 0 ? got : 0] = '\0';
    close(fd);
    loop_step(loop, 5);
    return (int)got;
}

static void test_hostile_bytes(void **state)
{
    static const char oneway[] =
        "{\"method\":\"org.test.Echo\",\"oneway\":true}\0{\"method\":\"org.test.Fail\"}";
    unsigned random = 12345;
    char bytes[600];
    char reply[1000];

    (void)state;
    assert_int_equal(raw("\0", 1, reply, sizeof(reply)), 0);
    assert_int_equal(raw("{}\0", 3, reply, sizeof(reply)), 0);
    assert_int_equal(raw("{\"method\":1}\0", 13, reply, sizeof(reply)), 0);
    assert_int_equal(raw("{\"method\":\"a.b\",\"upgrade\":true}\0", 32, reply, sizeof(reply)), 0);
    assert_true(raw("{\"method\":\"a.b\",\"parameters\":null}\0", 35, reply, sizeof(reply)) > 0);
    assert_non_null(strstr(reply, "InterfaceNotFound"));
    assert_int_equal(raw("no end of message", 17, reply, sizeof(reply)), -1);
    assert_true(raw(oneway, sizeof(oneway), reply, sizeof(reply)) > 0);
    assert_null(strstr(reply, "parameters\":{}}"));
    assert_non_null(strstr(reply, "org.test.Failed"));
    for (int i = 0; i < 300; i++) {
        for (size_t j = 0; j < sizeof(bytes); j++) {
            random = random * 1103515245u + 12345u;
            bytes[j] = (char)(random >> 16);
        }
        raw(bytes, sizeof(bytes), reply, sizeof(reply));
    }
    varlink_server_set_message_max(server, 100);
    memset(bytes, 'x', sizeof(bytes));
    assert_int_equal(raw(bytes, sizeof(bytes), reply, sizeof(reply)), 0); /* too long: closed */
}

static void test_too_many_connections(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fds[VARLINK_CONNECTIONS_MAX + 5];
    size_t closed = 0;

    (void)state;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(fds[i], (const struct sockaddr *)&addr, sizeof(addr)), 0);
        loop_step(loop, 5);
    }
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        char byte;

        closed += recv(fds[i], &byte, 1, 0) == 0;
        close(fds[i]);
    }
    assert_int_equal(closed, 5);
    for (int i = 0; i < 80; i++)
        loop_step(loop, 0);
    assert_true(raw("{\"method\":\"org.varlink.service.GetInfo\"}\0", 41, (char[1000]){0}, 1000) >
                0);
}

static void test_blocking_call(void **state)
{
    struct error err = {0};
    yyjson_doc *reply = NULL;
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        for (int i = 0; i < 3; i++)
            loop_step(loop, 2000);
        loop_step(loop, 2000);
        loop_step(loop, 500);
        _exit(0);
    }
    assert_int_equal(
        varlink_call_blocking(path, "org.test.Echo", with_text("hi"), 5000, &reply, &err), 0);
    assert_string_equal(
        yyjson_get_str(yyjson_ptr_get(yyjson_doc_get_root(reply), "/parameters/text")), "hi");
    yyjson_doc_free(reply);
    assert_int_equal(varlink_call_blocking(path, "org.test.Fail", NULL, 5000, &reply, &err),
                     -EREMOTEIO);
    assert_string_equal(err.code, "test.broken");
    assert_string_equal(err.hint, "mend it");
    waitpid(pid, &status, 0);
    error_clear(&err);
    assert_int_equal(varlink_call_blocking(path, "org.test.Echo", NULL, 100, &reply, &err),
                     -ETIMEDOUT);
    assert_string_equal(err.code, "varlink.timeout");
    error_clear(&err);
    assert_int_equal(varlink_call_blocking("/tmp/croft-nobody", "a.b", NULL, 100, &reply, &err),
                     -ENOENT);
    assert_string_equal(err.code, "varlink.lost");
}

static void test_a_socket_in_use_is_not_taken(void **state)
{
    struct varlink_server *other;
    struct error err = {0};

    (void)state;
    assert_int_equal(varlink_server_new(loop, "t", "1", interfaces, 1, NULL, &other), 0);
    assert_int_equal(varlink_server_listen(other, path, 0600, &err), -EADDRINUSE);
    varlink_server_free(other);
    assert_int_equal(access(path, F_OK), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_calls_are_answered_in_order),
        TEST(test_large_messages),
        TEST(test_more),
        TEST(test_standard_errors),
        TEST(test_timeout_and_late_answer),
        TEST(test_a_peer_that_goes_away),
        TEST(test_a_lost_server),
        TEST(test_hostile_bytes),
        TEST(test_too_many_connections),
        TEST(test_blocking_call),
        TEST(test_a_socket_in_use_is_not_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
