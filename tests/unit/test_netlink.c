// Messages are built as the kernel reads them, and read by their policy.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/netlink/netlink.h"

static const struct netlink_policy policy[] = {
    [1] = {NETLINK_BYTES, 4, 4},
    [2] = {NETLINK_TEXT, 1, 5},
    [3] = {NETLINK_BYTES, 0, 100},
};

static void test_build_and_parse(void **state)
{
    struct netlink_attr attrs[4], inner[4];
    struct netlink_msg msg;
    struct nlmsghdr header;
    const uint8_t *body;

    (void)state;
    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, 7, 0, "abcd", 4);
    netlink_put_be32(&msg, 1, 0x01020304);
    netlink_put_str(&msg, 2, "name");
    netlink_nest_begin(&msg, 3);
    netlink_put_u32(&msg, 1, 5);
    netlink_nest_end(&msg);
    netlink_put_u8(&msg, 9, 1); /* unknown to the policy */
    netlink_msg_end(&msg);
    assert_int_equal(netlink_msg_status(&msg), 0);
    memcpy(&header, msg.buf.data, sizeof(header));
    assert_int_equal(header.nlmsg_len, 16 + 4 + 8 + 12 + 12 + 8);
    body = msg.buf.data + sizeof(header) + 4;
    assert_int_equal(netlink_parse(body, header.nlmsg_len - 20, policy, 4, attrs), 0);
    assert_int_equal(netlink_attr_be32(&attrs[1]), 0x01020304);
    assert_string_equal((const char *)attrs[2].data, "name");
    assert_int_equal(netlink_parse(attrs[3].data, attrs[3].len, policy, 4, inner), 0);
    assert_int_equal(netlink_attr_u32(&inner[1]), 5);
    netlink_msg_done(&msg);
}

static void test_sizes_outside_the_policy(void **state)
{
    struct netlink_attr attrs[4];
    struct netlink_msg msg;

    (void)state;
    for (int which = 0; which < 4; which++) {
        netlink_msg_init(&msg);
        netlink_msg_begin(&msg, 7, 0, NULL, 0);
        if (which == 0)
            netlink_put_u16(&msg, 1, 1);
        else if (which == 1)
            netlink_put_str(&msg, 2, "too long");
        else if (which == 2)
            netlink_put(&msg, 2, "abc", 3); /* no NUL */
        else
            netlink_put(&msg, 2, "a\0c", 4);
        netlink_msg_end(&msg);
        assert_int_equal(netlink_parse(msg.buf.data + 16, msg.buf.len - 16, policy, 4, attrs),
                         -EBADMSG);
        netlink_msg_done(&msg);
    }
}

static void test_failures_stick(void **state)
{
    struct netlink_msg msg;

    (void)state;
    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, 7, 0, NULL, 0);
    netlink_nest_begin(&msg, 3);
    netlink_msg_end(&msg);
    assert_int_equal(netlink_msg_status(&msg), -EINVAL);
    netlink_msg_done(&msg);
    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, 7, 0, NULL, 0);
    for (int i = 0; i <= NETLINK_NEST_MAX; i++)
        netlink_nest_begin(&msg, 3);
    assert_int_equal(netlink_msg_status(&msg), -EINVAL);
    netlink_msg_done(&msg);
}

static int count(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    (void)header, (void)body, (void)len;
    ++*(int *)user;
    return 0;
}

static void test_message_lengths_that_lie(void **state)
{
    struct nlmsghdr headers[2] = {{.nlmsg_len = 16}, {.nlmsg_len = 17}};
    int seen = 0;

    (void)state;
    assert_int_equal(netlink_foreach(headers, 16, count, &seen), 0);
    assert_int_equal(seen, 1);
    assert_int_equal(netlink_foreach(headers, 32, count, &seen), -EBADMSG);
    headers[0].nlmsg_len = 3;
    assert_int_equal(netlink_foreach(headers, 32, count, &seen), -EBADMSG);
    assert_int_equal(netlink_foreach(headers, 7, count, &seen), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_and_parse),
        cmocka_unit_test(test_sizes_outside_the_policy),
        cmocka_unit_test(test_failures_stick),
        cmocka_unit_test(test_message_lengths_that_lie),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
