// WebSocket frames on the server's side (the example of RFC 6455 among them), and the frames between gated and croft-exec.
// sources: core0/exec/frame.c
// packages: mbedtls
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "exec/exec.h"
#include "lib/http/ws_frame.h"

#define MAX ((size_t)65537)

/* ---- WebSocket ---- */

/* A whole frame of `payload` zeros, with its length written in 7, 16 or 64 bits. Returns the length of its head. */
static size_t client_frame(uint8_t *data, unsigned first, int bits, uint64_t payload)
{
    size_t at = 2;

    data[0] = (uint8_t)first;
    data[1] = (uint8_t)(0x80 | (bits == 7 ? payload : bits == 16 ? 126 : 127));
    for (int shift = bits == 7 ? -8 : bits - 8; shift >= 0; shift -= 8)
        data[at++] = (uint8_t)(payload >> shift);
    memcpy(data + at, "\x01\x02\x03\x04", 4);
    return at + 4;
}

static void test_example(void **state)
{
    /* section 5.7: a single-frame masked text message */
    uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
    struct ws_frame frame;
    char accept[WS_ACCEPT_SIZE];

    (void)state;
    for (size_t len = 0; len < 6; len++)
        assert_int_equal(ws_frame_parse(hello, len, MAX, &frame), 0);
    assert_int_equal(ws_frame_parse(hello, 6, MAX, &frame), 1);
    assert_int_equal(frame.opcode, WS_TEXT);
    assert_true(frame.fin);
    assert_int_equal(frame.head, 6);
    assert_int_equal(frame.payload, 5);
    ws_frame_unmask(&frame, hello + frame.head);
    assert_memory_equal(hello + frame.head, "Hello", 5);
    /* section 1.3 */
    assert_int_equal(ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept), 0);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void test_keys_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "dGhlIHNhbXBsZSBub25jZQ",
                                      "dGhlIHNhbXBsZSBub25jZQ=",
                                      "dGhlIHNhbXBsZSBub25j",
                                      "dGhlIHNhbXBsZSBub25jZXM=",
                                      "dGhlIHNhbXBsZSBub25j Q==",
                                      "*GhlIHNhbXBsZSBub25jZQ=="};
    char accept[WS_ACCEPT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ws_accept(bad[i], accept), -EINVAL);
}

static void test_lengths(void **state)
{
    static const struct {
        int bits;
        uint64_t payload;
        int result;
    } cases[] = {
        {7, 0, 1},
        {7, 125, 1},
        {16, 126, 1},
        {16, 65535, 1},
        {64, 65536, 1},
        {64, MAX, 1},
        {64, MAX + 1, -EMSGSIZE},
        {64, UINT64_MAX, -EMSGSIZE},
        {64, UINT64_C(1) << 63, -EMSGSIZE},
    };
    uint8_t data[WS_FRAME_HEAD_MAX];
    struct ws_frame frame;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t head = client_frame(data, 0x82, cases[i].bits, cases[i].payload);

        assert_true(head <= WS_FRAME_HEAD_MAX);
        assert_int_equal(ws_frame_parse(data, head, MAX, &frame), cases[i].result);
        if (cases[i].result == 1) {
            assert_int_equal(frame.payload, cases[i].payload);
            assert_int_equal(frame.head, head);
            assert_int_equal(ws_frame_parse(data, head - 1, MAX, &frame), 0);
        }
    }
}

static void test_wrong_frames(void **state)
{
    /* reserved bits, unknown opcodes, control frames in pieces or long, no mask */
    static const uint8_t first[] = {0xc2, 0xa2, 0x92, 0x83, 0x87, 0x8b, 0x8f, 0x08, 0x09, 0x0a};
    uint8_t data[WS_FRAME_HEAD_MAX];
    struct ws_frame frame;

    (void)state;
    for (size_t i = 0; i < sizeof(first); i++) {
        size_t head = client_frame(data, first[i], 7, 1);
        assert_int_equal(ws_frame_parse(data, head, MAX, &frame), -EPROTO);
    }
    assert_int_equal(ws_frame_parse(data, client_frame(data, 0x89, 7, 125), MAX, &frame), 1);
    assert_int_equal(ws_frame_parse(data, client_frame(data, 0x89, 16, 126), MAX, &frame), -EPROTO);
    size_t head = client_frame(data, 0x82, 7, 5);
    data[1] &= 0x7f;
    assert_int_equal(ws_frame_parse(data, head, MAX, &frame), -EPROTO);
}

static void test_server_frames(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536, 70000};
    static const size_t heads[] = {2, 2, 2, 4, 4, 10, 10};
    uint8_t *payload = calloc(1, 70000);
    struct buffer out;

    (void)state;
    assert_non_null(payload);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        buffer_init(&out, 0);
        assert_int_equal(ws_frame_append(&out, WS_BINARY, payload, sizes[i]), 0);
        assert_int_equal(out.len, heads[i] + sizes[i]);
        assert_int_equal(out.data[0], 0x82);
        uint64_t len = out.data[1];
        assert_int_equal(len & 0x80, 0);
        for (size_t at = 2, told = len; told >= 126 && at < heads[i]; at++)
            len = (at == 2 ? 0 : len << 8) | out.data[at];
        assert_int_equal(len, sizes[i]);
        buffer_done(&out);
    }
    buffer_init(&out, 0);
    assert_int_equal(ws_frame_append_close(&out, WS_STATUS_TOO_BIG), 0);
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, "\x88\x02\x03\xf1", 4);
    buffer_done(&out);
    /* what does not fit is not begun */
    buffer_init(&out, 100);
    assert_true(ws_frame_append(&out, WS_BINARY, payload, 200) < 0);
    assert_int_equal(out.len, 0);
    buffer_done(&out);
    free(payload);
}

/* ---- croft-exec ---- */

static void test_exec_frames(void **state)
{
    uint8_t *data = malloc(FRAME_MAX + 10);
    struct buffer out;
    enum channel channel;
    size_t payload;

    (void)state;
    assert_non_null(data);
    memset(data, 'x', FRAME_MAX + 10);
    buffer_init(&out, 0);
    assert_int_equal(frame_append(&out, CHANNEL_ERR, data, FRAME_MAX + 10), 0);
    assert_int_equal(frame_parse(out.data, out.len, &channel, &payload), 1);
    assert_int_equal(channel, CHANNEL_ERR);
    assert_int_equal(payload, FRAME_MAX);
    assert_int_equal(frame_parse(out.data, FRAME_HEAD + FRAME_MAX - 1, &channel, &payload), 0);
    buffer_consume(&out, FRAME_HEAD + FRAME_MAX);
    assert_int_equal(frame_parse(out.data, out.len, &channel, &payload), 1);
    assert_int_equal(payload, 10);
    buffer_done(&out);
    assert_int_equal(frame_append(&out, CHANNEL_OUT, data, 0), 0);
    assert_int_equal(out.len, FRAME_HEAD);
    buffer_done(&out);
    assert_int_equal(frame_parse((const uint8_t *)"\4", 1, &channel, &payload), -EPROTO);
    assert_int_equal(frame_parse((const uint8_t *)"\0\0\1\0\1", 5, &channel, &payload), -EPROTO);
    assert_int_equal(frame_parse((const uint8_t *)"\0\xff\xff\xff\xff", 5, &channel, &payload),
                     -EPROTO);
    assert_int_equal(frame_parse((const uint8_t *)"", 0, &channel, &payload), 0);
    free(data);
}

static void test_control(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"eof\":false}",
        "{\"eof\":1}",
        "{\"signal\":\"NONE\"}",
        "{\"signal\":9}",
        "{\"signal\":\"\"}",
        "{\"resize\":{\"rows\":0,\"columns\":1}}",
        "{\"resize\":{\"rows\":1}}",
        "{\"resize\":{\"rows\":65536,\"columns\":1}}",
        "{\"resize\":{\"rows\":-1,\"columns\":1}}",
        "{\"resize\":[]}",
        "{\"eof\":true,\"signal\":\"INT\"}",
        "{\"exit\":0}",
        "{\"eof\":true",
    };
    static const char resize[] = "{\"resize\":{\"rows\":24,\"columns\":65535}}";
    static const char interrupt[] = "{\"signal\":\"INT\"}", kill_it[] = "{\"signal\":\"SIGKILL\"}";
    static const char eof[] = "{\"eof\":true}";
    struct control control;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(control_parse(bad[i], strlen(bad[i]), &control), -EINVAL);
    assert_int_equal(control_parse(resize, strlen(resize), &control), 0);
    assert_int_equal(control.kind, CONTROL_RESIZE);
    assert_int_equal(control.rows, 24);
    assert_int_equal(control.columns, 65535);
    assert_int_equal(control_parse(interrupt, strlen(interrupt), &control), 0);
    assert_int_equal(control.kind, CONTROL_SIGNAL);
    assert_int_equal(control.signal, SIGINT);
    assert_int_equal(control_parse(kill_it, strlen(kill_it), &control), 0);
    assert_int_equal(control.signal, SIGKILL);
    assert_int_equal(control_parse(eof, strlen(eof), &control), 0);
    assert_int_equal(control.kind, CONTROL_EOF);
}

static void test_last_words(void **state)
{
    struct buffer out;
    struct error err = {0};

    (void)state;
    buffer_init(&out, 0);
    assert_int_equal(control_append_exit(&out, 137), 0);
    assert_memory_equal(out.data, "\3\0\0\0\x0c{\"exit\":137}", 17);
    buffer_done(&out);
    error_set(&err, EIO, "container.exec-failed", "try \"again\"", "no");
    assert_int_equal(control_append_error(&out, &err), 0);
    assert_int_equal(out.data[0], CHANNEL_CONTROL);
    static const char text[] = "{\"error\":{\"code\":\"container.exec-failed\",\"message\":\"no\","
                               "\"hint\":\"try \\\"again\\\"\"}}";
    assert_int_equal(out.len, FRAME_HEAD + strlen(text));
    assert_memory_equal(out.data + FRAME_HEAD, text, strlen(text));
    buffer_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),       cmocka_unit_test(test_keys_are_refused),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_wrong_frames),
        cmocka_unit_test(test_server_frames), cmocka_unit_test(test_exec_frames),
        cmocka_unit_test(test_control),       cmocka_unit_test(test_last_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
