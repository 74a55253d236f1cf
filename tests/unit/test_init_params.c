// Boot parameters: what they mean, who wins, and that nothing unknown is passed over.
// sources: core0/init/params.c core0/init/params_value.c core0/init/params_json.c core0/init/unit_value.c
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "init/params.h"

#define TOKEN "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define GOOD                                                                                       \
    "farmer_id=3 runmode=dev croft.chain=http://10.0.2.2:8545,ws://[::1]:8546/x "                  \
    "croft.chainid=31337 "                                                                         \
    "croft.registry=0x5FbDB2315678afecb367f032d93F642f64180aa3 croft.trust=rpc "

static struct params params;

static int setup(void **state)
{
    (void)state;
    params_init(&params);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    params_done(&params);
    return 0;
}

static void line(const char *text)
{
    params_read_line(&params, text, strlen(text));
}

static bool has_error(const char *code, const char *part)
{
    for (size_t i = 0; i < params.error_count && i < PARAMS_ERRORS_MAX; i++) {
        if (strcmp(params.errors[i].code, code) == 0 &&
            strstr(params.errors[i].message, part) != NULL)
            return true;
    }
    return false;
}

static void test_all_keys(void **state)
{
    (void)state;
    line("console=ttyS0 root=/dev/sda module.option=1 " GOOD "croft.join=0x" TOKEN
         " croft.relay=https://r.example,http://10.0.0.1:9 "
         "croft.address=node.example croft.hub=http://hub/x "
         "croft.net=eth0,192.0.2.5/24,192.0.2.1,1.1.1.1,8.8.8.8 "
         "croft.net=dhcp croft.vlan=eth0.12 croft.bond=bond0,802.3ad,eth1+eth2 "
         "croft.disks=wipe+usb croft.ntp=a.example,192.0.2.9 "
         "croft.log=udp:[2001:db8::1]:514 croft.console=ttyS1,115200\n");
    params_check(&params);
    assert_int_equal(params.error_count, 0);
    assert_int_equal(params.farmer_id, 3);
    assert_int_equal(params.runmode, PARAMS_DEV);
    assert_int_equal(params.chain.count, 2);
    assert_int_equal(params.chain_id, 31337);
    assert_string_equal(params.join, TOKEN);
    assert_int_equal(params.relay.count, 2);
    assert_int_equal(params.net.count, 2);
    assert_int_equal(params.disks, PARAMS_DISKS_WIPE);
    assert_true(params.disks_usb);
    assert_string_equal(params.log_host, "2001:db8::1");
    assert_int_equal(params.log_port, 514);
    assert_true(params_match(&params, "runmode=dev"));
    assert_false(params_match(&params, "!runmode=dev"));
    assert_true(params_match(&params, "farmer_id=3"));
    assert_false(params_match(&params, "anything"));
}

static void test_json(void **state)
{
    yyjson_mut_doc *doc;
    yyjson_doc *read;
    char *text;

    (void)state;
    line(GOOD "croft.join=" TOKEN
              " croft.net=eth0,192.0.2.5/24,192.0.2.1,1.1.1.1 croft.vlan=eth0.12 "
              "croft.bond=bond0,802.3ad,eth1+eth2 croft.nonsense=1");
    doc = params_to_json(&params, "1.0", "abc", 1760000000);
    text = yyjson_mut_write(doc, 0, NULL);
    assert_null(strstr(text, TOKEN));
    read = yyjson_read(text, strlen(text), 0);
#define AT(pointer) yyjson_ptr_get(yyjson_doc_get_root(read), pointer)
    assert_int_equal(yyjson_get_uint(AT("/farmerId")), 3);
    assert_string_equal(yyjson_get_str(AT("/chain/1")), "ws://[::1]:8546/x");
    assert_string_equal(yyjson_get_str(AT("/trust/mode")), "rpc");
    assert_string_equal(yyjson_get_str(AT("/net/0/address")), "192.0.2.5/24");
    assert_string_equal(yyjson_get_str(AT("/net/0/dns/0")), "1.1.1.1");
    assert_int_equal(yyjson_get_uint(AT("/vlan/0/id")), 12);
    assert_string_equal(yyjson_get_str(AT("/bond/0/interfaces/1")), "eth2");
    assert_true(yyjson_is_null(AT("/address")));
    assert_int_equal(yyjson_arr_size(AT("/relay")), 0);
    assert_string_equal(yyjson_get_str(AT("/errors/0/code")), "boot.unknown-parameter");
    yyjson_doc_free(read);
    yyjson_mut_doc_free(doc);
    free(text);
}

static void test_defaults(void **state)
{
    (void)state;
    line("console=ttyS0 quiet");
    params_check(&params);
    assert_int_equal(params.error_count, 0);
    assert_int_equal(params.runmode, PARAMS_PROD);
    assert_int_equal(params.trust, PARAMS_TRUST_QUORUM);
    assert_int_equal(params.quorum, 2);
    assert_int_equal(params.farmer_id, 0);
}

static void test_values_that_do_not_parse(void **state)
{
    static const char *const bad[] = {
        "farmer_id=-1",
        "farmer_id=0",
        "farmer_id=1x",
        "farmer_id=",
        "farmer_id=9007199254740992",
        "runmode=fast",
        "runmode=DEV",
        "croft.chain=ftp://x",
        "croft.chain=http://",
        "croft.chain=http://a,,http://b",
        "croft.chain=http://a_b:99999",
        "croft.chain=http://x:",
        "croft.chainid=zero",
        "croft.registry=0x12",
        "croft.trust=all",
        "croft.trust=quorum:0",
        "croft.trust=qbft:",
        "croft.join=short",
        "croft.relay=ws://x",
        "croft.address=a..b",
        "croft.net=eth0",
        "croft.net=eth0,1.2.3.4,1.2.3.1",
        "croft.net=eth0,1.2.3.4/33,1.2.3.1",
        "croft.net=waytoolonginterface0,1.2.3.4/24,1.2.3.1",
        "croft.vlan=eth0.4095",
        "croft.vlan=eth0.0",
        "croft.vlan=eth0",
        "croft.bond=b,mode9,eth0",
        "croft.bond=b,802.3ad,",
        "croft.disks=some",
        "croft.disks=wipe+nvme",
        "croft.ntp=-a",
        "croft.log=tcp:1.2.3.4:5",
        "croft.log=udp:name.example:514",
        "croft.log=udp:1.2.3.4",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char key[64];

        strcpy(key, bad[i]);
        key[strcspn(key, "=")] = '\0';
        params_init(&params);
        line(bad[i]);
        assert_int_equal(params.error_count, 1);
        assert_true(has_error("boot.bad-parameter", key));
        params_done(&params);
    }
}

static void test_unknown_ones_are_named_without_their_value(void **state)
{
    char *arguments[] = {(char *)"runmod", (char *)"quiett", NULL};
    char *environment[] = {(char *)"HOME=/",
                           (char *)"TERM=linux",
                           (char *)"BOOT_IMAGE=/vmlinuz",
                           (char *)"BOOTIF=01-aa",
                           (char *)"farmer_id=1",
                           (char *)"runmod=dev",
                           (char *)"crof.join=" TOKEN,
                           NULL};

    (void)state;
    line("croft.jion=" TOKEN " croft.=1 croft.join");
    assert_int_equal(params.error_count, 3);
    assert_true(has_error("boot.unknown-parameter", "croft.jion is not known"));
    assert_true(has_error("boot.bad-parameter", "croft.join has no value"));
    params_read_handed(&params, arguments, environment);
    assert_int_equal(params.error_count, 7);
    assert_true(has_error("boot.unknown-parameter", "quiett"));
    assert_true(has_error("boot.unknown-parameter", "runmod is"));
    for (size_t i = 0; i < params.error_count; i++)
        assert_null(strstr(params.errors[i].message, TOKEN));
}

static void test_a_bad_token_is_not_shown(void **state)
{
    (void)state;
    line("croft.join=" TOKEN "ff");
    assert_true(has_error("boot.bad-parameter", "croft.join=(not shown)"));
}

static void test_the_command_line_wins(void **state)
{
    static const char file[] =
        "# farm\n  farmer_id=1  "
        "\r\nrunmode=test\ncroft.net=eth0,192.0.2.5/24,192.0.2.1\ncroft.hub=http://file\n";
    static const char chain[] = "croft.chain=https://built.in\ncroft.chainid=1\n";

    (void)state;
    params_read_file(&params, PARAMS_SOURCE_DEFAULTS, chain, sizeof(chain) - 1);
    params_read_file(&params, PARAMS_SOURCE_FILE, file, sizeof(file) - 1);
    line("farmer_id=2 croft.net=dhcp croft.chain=https://a croft.chain=https://b");
    assert_int_equal(params.error_count, 0);
    assert_int_equal(params.farmer_id, 2);
    assert_int_equal(params.runmode, PARAMS_TEST);
    assert_int_equal(params.net.count, 1);
    assert_string_equal(params.net.items[0], "dhcp");
    assert_int_equal(params.chain.count, 2);
    assert_string_equal(params.chain.items[0], "https://a");
    assert_int_equal(params.chain_id, 1);
    assert_string_equal(params.hub.items[0], "http://file");
}

static void test_repeated_and_files(void **state)
{
    static const char file[] = "quiet\nfarmer_id\nrunmode=dev\nrunmode=dev\n";

    (void)state;
    line("farmer_id=1 farmer_id=1");
    assert_true(has_error("boot.repeated-parameter", "farmer_id"));
    params_read_file(&params, PARAMS_SOURCE_FILE, file, sizeof(file) - 1);
    assert_true(has_error("boot.unknown-parameter", "quiet is not known (boot.conf)"));
    assert_true(has_error("boot.bad-parameter", "farmer_id has no value"));
    assert_true(has_error("boot.repeated-parameter", "runmode stands twice on boot.conf"));
}

static void test_quotes_length_and_the_rest_for_init(void **state)
{
    char large[PARAMS_LINE_MAX + 10];

    (void)state;
    line("\"croft.hub=http://a\" x=\"croft.nonsense=1 croft.more=2\" -- croft.disks=some");
    assert_int_equal(params.error_count, 0);
    assert_string_equal(params.hub.items[0], "http://a");
    memset(large, 'x', sizeof(large));
    params_read_line(&params, large, PARAMS_LINE_MAX);
    assert_int_equal(params.error_count, 0);
    params_read_line(&params, large, PARAMS_LINE_MAX + 1);
    assert_true(has_error("boot.too-long", "2048"));
}

static void test_what_depends_on_the_run_mode(void **state)
{
    (void)state;
    line("runmode=prod farmer_id=1 croft.chain=http://a croft.relay=http://b croft.hub=http://c "
         "croft.trust=rpc");
    params_check(&params);
    assert_int_equal(params.error_count, 3); /* that the trust is refused is provd's to say */
    assert_true(has_error("boot.plain-http", "croft.chain"));
    assert_true(has_error("boot.plain-http", "croft.relay"));
    assert_true(has_error("boot.no-chain", "croft.chainid"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_keys),
        TEST(test_json),
        TEST(test_defaults),
        TEST(test_values_that_do_not_parse),
        TEST(test_unknown_ones_are_named_without_their_value),
        TEST(test_a_bad_token_is_not_shown),
        TEST(test_the_command_line_wins),
        TEST(test_repeated_and_files),
        TEST(test_quotes_length_and_the_rest_for_init),
        TEST(test_what_depends_on_the_run_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
