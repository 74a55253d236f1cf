// sources: core0/cli/media_line.c core0/cli/media_efi.c core0/cli/media_usb.c core0/init/params.c core0/init/params_value.c core0/init/params_json.c core0/init/unit_value.c
// packages: zlib mbedtls
/*
 * Boot media: the line that is written is one that core0's own strict parser takes, and what is not refused here is
 * found in the file where a boot loader looks for it. tests/interop reads the stick with other people's tools.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/media.h"
#include "init/params.h"

#define REGISTRY "0x5fbdb2315678afecb367f032d93f642f64180aa3"
#define TOKEN "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct media_line a_line(void)
{
    struct media_line line = {.base = "console=tty0 panic=30",
                              .farm = 7,
                              .chain_id = 31337,
                              .chain = "https://chain.example",
                              .registry = REGISTRY,
                              .token = TOKEN};
    return line;
}

static const char *refused(const struct media_line *line)
{
    static struct error err;
    char text[MEDIA_LINE_MAX + 1];
    error_clear(&err);
    assert_true(media_line_write(line, text, &err) < 0);
    return err.code;
}

static void test_core0_takes_the_line(void **state)
{
    struct media_line line = a_line();
    char text[MEDIA_LINE_MAX + 1];
    struct params params;
    struct error err = {0};

    (void)state;
    line.settings[line.setting_count++] = "croft.relay=https://relay.example:8443";
    line.settings[line.setting_count++] = "croft.net=eth0,192.0.2.5/24,192.0.2.1,192.0.2.53";
    line.settings[line.setting_count++] = "croft.net=dhcp";
    line.settings[line.setting_count++] = "croft.disks=wipe+usb";
    assert_int_equal(media_line_write(&line, text, &err), 0);
    assert_string_equal(
        text, "console=tty0 panic=30 farmer_id=7 croft.chainid=31337 croft.registry=" REGISTRY
              " croft.chain=https://chain.example croft.relay=https://relay.example:8443"
              " croft.net=eth0,192.0.2.5/24,192.0.2.1,192.0.2.53 croft.net=dhcp"
              " croft.disks=wipe+usb croft.join=" TOKEN);
    params_init(&params);
    params_read_line(&params, text, strlen(text));
    params_check(&params);
    assert_int_equal(params.error_count, 0);
    assert_int_equal(params.farmer_id, 7);
    assert_string_equal(params.join, TOKEN);
    params_done(&params);
}

static void test_every_key_that_is_taken_is_known_to_core0(void **state)
{
    static const char *const settings[] = {
        "runmode=test",       "croft.trust=quorum:2",  "croft.chain=https://a.example",
        "croft.hub=http://h", "croft.relay=https://r", "croft.address=host.example",
        "croft.net=dhcp",     "croft.vlan=eth0.7",     "croft.bond=bond0,802.3ad,eth0+eth1",
        "croft.disks=none",   "croft.ntp=ntp.example", "croft.log=udp:192.0.2.9:514",
        "croft.console=ttyS1"};
    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        struct media_line line = a_line();
        char text[MEDIA_LINE_MAX + 1];
        struct params params;
        struct error err = {0};
        line.settings[line.setting_count++] = settings[i];
        assert_int_equal(media_line_write(&line, text, &err), 0);
        params_init(&params);
        params_read_line(&params, text, strlen(text));
        params_check(&params);
        if (params.error_count > 0) {
            fail_msg("%s: %s", settings[i], params.errors[0].message);
        }
        params_done(&params);
    }
}

static void test_what_is_refused(void **state)
{
    static const char *const settings[] = {
        "farmer_id=8",         "croft.join=" TOKEN,   "runmod=dev",      "croft.relay",
        "croft.relay=",        "croft.ntp=a b",       "croft.ntp=\"a\"", "croft.ntp=${x}",
        "croft.ntp=a\nreboot", "croft.registry=0x00", "init=/bin/sh",    "croft.relay=http://r"};
    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        struct media_line line = a_line();
        line.settings[line.setting_count++] = settings[i];
        assert_string_equal(refused(&line), "media.bad-parameter");
    }
    struct media_line twice = a_line();
    twice.settings[twice.setting_count++] = "croft.ntp=a";
    twice.settings[twice.setting_count++] = "croft.ntp=b";
    assert_string_equal(refused(&twice), "media.bad-parameter");
    struct media_line plain = a_line();
    plain.chain = "http://192.0.2.1:8545";
    assert_string_equal(refused(&plain), "media.bad-parameter");
    struct media_line again = a_line();
    again.base = "console=tty0 farmer_id=3";
    assert_string_equal(refused(&again), "media.bad-image");
}

static void test_plain_http_with_runmode_dev(void **state)
{
    struct media_line line = a_line();
    char text[MEDIA_LINE_MAX + 1];
    struct error err = {0};
    (void)state;
    line.chain = "ws://192.0.2.1:8545";
    line.settings[line.setting_count++] = "runmode=dev";
    assert_int_equal(media_line_write(&line, text, &err), 0);
}

static void test_a_line_ends_where_kernels_end(void **state)
{
    char value[MEDIA_LINE_MAX + 1], text[MEDIA_LINE_MAX + 1];
    struct media_line line = a_line();
    struct error err = {0};

    (void)state;
    assert_int_equal(media_line_write(&line, text, &err), 0);
    size_t room = MEDIA_LINE_MAX - strlen(text) - 1;
    memset(value, 'a', sizeof(value));
    memcpy(value, "croft.ntp=", 10);
    value[room] = '\0';
    line.settings[line.setting_count++] = value;
    assert_int_equal(media_line_write(&line, text, &err), 0);
    assert_int_equal(strlen(text), MEDIA_LINE_MAX);
    value[room] = 'a';
    value[room + 1] = '\0';
    assert_string_equal(refused(&line), "media.bad-parameter");
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

/* One section; its fields can be set wrong. */
static size_t a_program(uint8_t *data, const char *name, uint32_t size, uint32_t raw, uint32_t at)
{
    memset(data, 0, 512);
    memcpy(data, "MZ", 2);
    put32(data + 0x3c, 0x40);
    memcpy(data + 0x40, "PE\0\0", 4);
    data[0x46] = 1;
    memcpy(data + 0x58, name, strlen(name));
    put32(data + 0x60, size);
    put32(data + 0x68, raw);
    put32(data + 0x6c, at);
    return 512;
}

static void test_the_section_is_found(void **state)
{
    uint8_t data[512];
    size_t offset, room, len;

    (void)state;
    len = a_program(data, ".cmdline", 64, 64, 256);
    assert_int_equal(media_efi_find(data, len, &offset, &room), 0);
    assert_int_equal(offset, 256);
    assert_int_equal(room, 64);
    for (size_t cut = 0; cut < 256 + 64; cut++) {
        assert_int_equal(media_efi_find(data, cut, &offset, &room), -EBADMSG);
    }
    len = a_program(data, ".cmdline", 64, 64, 500);
    assert_int_equal(media_efi_find(data, len, &offset, &room), -EBADMSG);
    len = a_program(data, ".cmdline", 64, 64, UINT32_MAX);
    assert_int_equal(media_efi_find(data, len, &offset, &room), -EBADMSG);
    len = a_program(data, ".cmdlin", 64, 64, 256);
    assert_int_equal(media_efi_find(data, len, &offset, &room), -EBADMSG);
}

static void test_the_stick_holds_the_program(void **state)
{
    char path[] = "/tmp/croft-media-XXXXXX";
    size_t len = 100001;
    uint8_t *program = malloc(len), *back = malloc(len), sector[512];
    uint64_t size;
    int fd = mkstemp(path);

    (void)state;
    unlink(path);
    for (size_t i = 0; i < len; i++) {
        program[i] = (uint8_t)(i * 7 + i / 251);
    }
    assert_int_equal(media_usb_write(fd, program, len, &size), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), size);
    assert_int_equal(pread(fd, sector, 512, 2048 * 512), 512);
    uint32_t fat = sector[36] | (uint32_t)sector[37] << 8;
    off_t data = (off_t)(2048 + 32 + 2 * fat) * 512;
    assert_int_equal(pread(fd, back, len, data + (5 - 2) * 512), len);
    assert_memory_equal(back, program, len);
    assert_int_equal(media_usb_write(fd, program, 0, &size), -EFBIG);
    close(fd);
    free(program);
    free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_core0_takes_the_line),
        cmocka_unit_test(test_every_key_that_is_taken_is_known_to_core0),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_plain_http_with_runmode_dev),
        cmocka_unit_test(test_a_line_ends_where_kernels_end),
        cmocka_unit_test(test_the_section_is_found),
        cmocka_unit_test(test_the_stick_holds_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
