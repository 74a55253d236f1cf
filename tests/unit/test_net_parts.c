// netd's parts without a kernel: addresses, boot.json, DHCP messages, names, and the choice of subnets and hosts.
// sources: core0/net/address.c core0/net/config.c core0/net/lease.c core0/net/dns.c core0/net/names.c core0/net/state.c core0/net/choose.c core0/net/helper.c
// packages: yyjson
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/config.h"
#include "net/dns.h"
#include "net/helper.h"
#include "net/lease.h"
#include "net/names.h"
#include "net/state.h"

static struct address prefix(const char *text)
{
    struct address address = {0};

    assert_int_equal(address_parse(text, strchr(text, '/') != NULL, &address), 0);
    return address;
}

static void test_addresses(void **state)
{
    static const char *const bad[] = {"",           "1.2.3",  "1.2.3.4/33",  "1.2.3.4/",
                                      "1.2.3.4/+1", "::/129", "1.2.3.4/1/2", "x"};
    struct address a = prefix("192.0.2.77/24"), net, b;
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    address_network(&a, &net);
    assert_string_equal(address_text_prefix(&net, text, sizeof(text)), "192.0.2.0/24");
    b = prefix("192.0.3.1");
    assert_true(address_in(&a, &net));
    assert_false(address_in(&b, &net));
    net = prefix("2001:db8::/61");
    b = prefix("2001:db8:0:7::1");
    assert_true(address_in(&b, &net));
    b = prefix("2001:db8:0:8::1");
    assert_false(address_in(&b, &net));
    a = prefix("10.0.0.0/8");
    b = prefix("10.9.0.0/16");
    assert_true(address_overlap(&a, &b) && address_overlap(&b, &a));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(address_parse(bad[i], true, &a), -EINVAL);
}

static void test_config(void **state)
{
    static const char good[] =
        "{\"net\":[{\"mode\":\"static\",\"interface\":\"bond0.7\",\"address\":\"192.0.2.5/"
        "24\",\"gateway\":\"192.0.2.1\","
        "\"dns\":[\"192.0.2.1\",\"2001:db8::1\"]}],\"vlan\":[{\"interface\":\"bond0\",\"id\":7}],"
        "\"bond\":[{\"name\":\"bond0\",\"mode\":\"802.3ad\",\"interfaces\":[\"eth0\",\"eth1\"]}],"
        "\"ntp\":[\"time.example\"],"
        "\"buildTime\":1760000000,\"other\":1}";
    static const char *const bad[] = {
        "",
        "[",
        "{\"net\":[{\"mode\":\"magic\"}]}",
        "{\"net\":[{\"mode\":\"static\",\"interface\":\"eth0\",\"address\":\"192.0.2.5\"}]}",
        "{\"net\":[{\"mode\":\"static\",\"interface\":\"../eth0\",\"address\":\"192.0.2.5/24\"}]}",
        "{\"net\":[{\"mode\":\"static\",\"interface\":\"eth0\",\"address\":\"192.0.2.5/"
        "24\",\"gateway\":\"::1\"}]}",
        "{\"vlan\":[{\"interface\":\"eth0\",\"id\":4095}]}",
        "{\"vlan\":[{\"interface\":\"a-very-long-name\",\"id\":1}]}",
        "{\"bond\":[{\"name\":\"bond0\",\"mode\":\"best\",\"interfaces\":[]}]}",
        "{\"ntp\":[\"-x\"]}",
    };
    struct config config;

    (void)state;
    assert_int_equal(config_parse(good, strlen(good), &config, NULL), 0);
    assert_false(config.dhcp);
    assert_int_equal(config.static_count, 1);
    assert_int_equal(config.statics[0].dns_count, 2);
    assert_string_equal(config.vlans[0].name, "bond0.7");
    assert_int_equal(config.bonds[0].mode, 4);
    assert_string_equal(config.bonds[0].interfaces[1], "eth1");
    assert_string_equal(config.ntp[0], "time.example");
    assert_int_equal(config.build_time, 1760000000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};

        assert_true(config_parse(bad[i], strlen(bad[i]), &config, &err) < 0);
        assert_string_equal(err.code, "net.bad-config");
        assert_true(config.dhcp && config.static_count == 0);
    }
}

static void test_dhcp_packet(void **state)
{
    struct dhcp_question question = {
        .type = DHCP_REQUEST, .xid = 0x01020304, .mac = {2, 0, 0, 0, 0, 1}};
    uint8_t packet[LEASE_PACKET_MAX];
    enum dhcp_type type;
    struct lease lease;
    FILE *file;
    size_t len;

    (void)state;
    question.requested = prefix("192.0.2.5");
    len = lease_write_packet(&question, packet, sizeof(packet));
    assert_int_equal(len, 328);
    /* Our own question is no answer. */
    assert_int_equal(lease_read_packet(packet, len, question.xid, question.mac, &type, &lease),
                     -EBADMSG);
    file = fopen("tests/fuzz/corpus/dhcp/routes", "rb");
    assert_non_null(file);
    len = fread(packet, 1, sizeof(packet), file);
    fclose(file);
    assert_int_equal(lease_read_packet(packet, len, question.xid, question.mac, &type, &lease), 0);
    assert_int_equal(type, DHCP_ACK);
    assert_int_equal(lease.address.prefix, 24);
    assert_int_equal(lease.seconds, 120);
    assert_int_equal(lease.renew, 60);
    assert_int_equal(lease.rebind, 105);
    assert_int_equal(lease.dns_count, 2);
    /* RFC 3442: the default route of option 121 replaces the router option. */
    assert_int_equal(lease.gateway.bytes[3], 254);
    /* Another's number, another's MAC, one byte less. */
    assert_int_equal(lease_read_packet(packet, len, 1, question.mac, &type, &lease), -EBADMSG);
    question.mac[5] = 2;
    assert_int_equal(lease_read_packet(packet, len, question.xid, question.mac, &type, &lease),
                     -EBADMSG);
    question.mac[5] = 1;
    assert_int_equal(lease_read_packet(packet, len - 1, question.xid, question.mac, &type, &lease),
                     -EBADMSG);
}

static void test_rdnss(void **state)
{
    uint8_t options[24] = {25, 3, 0, 0, 0, 0, 2, 88, 0x20, 1, 0x0d, 0xb8, [23] = 1};
    struct address servers[LEASE_LIST_MAX];
    uint32_t seconds = 0;
    size_t count = 0;

    (void)state;
    assert_int_equal(
        lease_parse_rdnss(options, sizeof(options), servers, LEASE_LIST_MAX, &count, &seconds), 0);
    assert_int_equal(count, 1);
    assert_int_equal(seconds, 600);
    options[1] = 0;
    assert_int_equal(
        lease_parse_rdnss(options, sizeof(options), servers, LEASE_LIST_MAX, &count, &seconds),
        -EBADMSG);
    options[1] = 4;
    assert_int_equal(
        lease_parse_rdnss(options, sizeof(options), servers, LEASE_LIST_MAX, &count, &seconds),
        -EBADMSG);
}

static void test_helper_report(void **state)
{
    struct helper_report report;

    (void)state;
    assert_int_equal(helper_report_parse("step 3", 6, &report), 0);
    assert_int_equal(report.stratum, 3);
    assert_false(report.unsynchronised);
    assert_true(report.stepped);
    assert_int_equal(helper_report_parse("stratum 3", 9, &report), 0);
    assert_false(report.stepped);
    assert_int_equal(helper_report_parse("unsync 16", 9, &report), 0);
    assert_true(report.unsynchronised);
    assert_int_equal(helper_report_parse("stepped 3", 9, &report), -EBADMSG);
    assert_int_equal(helper_report_parse("step 3x", 7, &report), -EBADMSG);
    assert_int_equal(helper_report_parse("step", 4, &report), -EBADMSG);
}

static struct network *add_network(struct state *s, uint64_t reservation, const char *name)
{
    static const uint8_t mac[6] = {2, 1, 2, 3, 4, 5};
    struct network *network = state_add_network(s);

    assert_non_null(network);
    network->reservation = reservation;
    snprintf(network->name, sizeof(network->name), "%s", name);
    assert_int_equal(state_choose_subnets(s, network, NULL, 0, mac), 0);
    return network;
}

static void test_subnets_never_overlap_and_are_the_same_each_time(void **state)
{
    struct state a = {0}, b = {0};

    (void)state;
    for (uint64_t i = 1; i <= 600; i++)
        add_network(&a, i, "default");
    for (size_t i = 0; i < a.network_count; i++)
        for (size_t j = 0; j < i; j++) {
            assert_false(address_overlap(&a.networks[i].gateway4, &a.networks[j].gateway4));
            assert_false(address_overlap(&a.networks[i].gateway6, &a.networks[j].gateway6));
            assert_string_not_equal(a.networks[i].bridge, a.networks[j].bridge);
        }
    assert_memory_equal(&add_network(&b, 1, "default")->gateway4, &a.networks[0].gateway4,
                        sizeof(struct address));
    assert_int_equal(a.networks[0].gateway4.bytes[0], 100);
    assert_int_equal(a.networks[0].gateway6.bytes[0], 0xfd);
    state_done(&a);
    state_done(&b);
}

static void test_subnets_keep_away_from_the_links(void **state)
{
    static const uint8_t mac[6] = {2};
    struct address busy[] = {prefix("100.64.0.9/10"), prefix("172.17.5.5/16"),
                             prefix("10.1.2.3/24")};
    struct state s = {0};
    struct network *network = state_add_network(&s);

    (void)state;
    network->reservation = 1;
    assert_int_equal(state_choose_subnets(&s, network, busy, 1, mac), 0);
    assert_int_equal(network->gateway4.bytes[0], 172);
    /* All pools are known to the links: a free part of one is taken. */
    assert_int_equal(state_choose_subnets(&s, network, busy, 3, mac), 0);
    for (size_t i = 0; i < 3; i++)
        assert_false(address_overlap(&network->gateway4, &busy[i]));
    state_done(&s);
}

/* The links know every range that bridges are numbered from: there is none left, and none is taken all the same. */
static void test_no_subnet_is_left(void **state)
{
    static const uint8_t mac[6] = {2};
    struct address busy[] = {prefix("100.64.0.1/10"), prefix("172.16.0.1/12"),
                             prefix("10.0.0.1/8")};
    struct state s = {0};
    struct network *network = state_add_network(&s);

    (void)state;
    network->reservation = 1;
    assert_int_equal(state_choose_subnets(&s, network, busy, 3, mac), -ENOSPC);
    busy[1] = prefix("172.16.0.1/13"); /* one half of it is free again */
    assert_int_equal(state_choose_subnets(&s, network, busy, 3, mac), 0);
    assert_in_range(network->gateway4.bytes[1], 24, 31);
    state_done(&s);
}

static void test_networks_fill_a_node_and_no_more(void **state)
{
    struct state s = {0};

    (void)state;
    for (unsigned i = 0; i < STATE_NETWORKS_MAX; i++)
        assert_non_null(state_add_network(&s));
    assert_null(state_add_network(&s));
    s.network_count--;
    assert_non_null(state_add_network(&s));
    state_done(&s);
}

static void add_host(struct state *s, uint32_t revision, const char *service, const char *network,
                     int expected)
{
    struct attachment *row = state_add_attachment(s);

    row->instance = (struct instance){.reservation = 1, .revision = revision};
    snprintf(row->instance.service, sizeof(row->instance.service), "%s", service);
    snprintf(row->network, sizeof(row->network), "%s", network);
    assert_int_equal(state_choose_host(s, row, STATE_HOSTS_MAX), expected);
}

static void test_the_order_of_additions_does_not_show(void **state)
{
    const struct port port = {.reservation = 2, .protocol = IPPROTO_UDP, .published = 80};
    const struct port other = {.reservation = 1, .protocol = IPPROTO_TCP, .published = 90};
    const struct port third = {.reservation = 3, .protocol = IPPROTO_TCP, .published = 81};
    struct state s = {0};

    (void)state;
    state_sort(&s);
    add_network(&s, 2, "default");
    add_network(&s, 1, "x");
    add_network(&s, 1, "default");
    add_host(&s, 2, "a", "x", 0);
    add_host(&s, 1, "b", "x", 0);
    add_host(&s, 1, "a", "x", 0);
    add_host(&s, 1, "a", "default", 0); /* eth1 */
    assert_int_equal(state_add_port(&s, &port), 0);
    assert_int_equal(state_add_port(&s, &other), 0);
    assert_int_equal(state_add_port(&s, &third), 0);
    state_sort(&s);
    assert_int_equal(s.networks[0].reservation, 1);
    assert_string_equal(s.networks[0].name, "default");
    assert_string_equal(s.networks[1].name, "x");
    assert_int_equal(s.networks[2].reservation, 2);
    assert_string_equal(s.attachments[0].network, "x");
    assert_string_equal(s.attachments[1].network, "default");
    assert_string_equal(s.attachments[2].instance.service, "b");
    assert_int_equal(s.attachments[3].instance.revision, 2);
    assert_int_equal(s.ports[0].published, 81);
    assert_int_equal(s.ports[1].published, 90);
    assert_int_equal(s.ports[2].protocol, IPPROTO_UDP);
    state_done(&s);
}

static void test_hosts_fill_a_network_and_no_more(void **state)
{
    bool used[256] = {false};
    struct state s = {0};
    char service[16];

    (void)state;
    for (unsigned i = 0; i < 253; i++) {
        snprintf(service, sizeof(service), "s%u", i);
        add_host(&s, 1, service, "default", 0);
        assert_in_range(s.attachments[i].host, 2, 254);
        assert_false(used[s.attachments[i].host]);
        used[s.attachments[i].host] = true;
    }
    add_host(&s, 1, "more", "default", -ENOSPC);
    s.attachment_count--;
    add_host(&s, 1, "s0", "back", 0);
    assert_string_equal(s.attachments[0].interface, "eth0");
    assert_string_equal(s.attachments[253].interface, "eth1");
    state_done(&s);
}

static void test_the_list_survives_the_file(void **state)
{
    struct port port = {.reservation = 1,
                        .protocol = IPPROTO_TCP,
                        .published = 80,
                        .target = 8080,
                        .revision = 1,
                        .service = "a",
                        .local = true,
                        .inside = true};
    struct name name = {
        .reservation = 1, .network = "default", .name = "a", .revision = 1, .service = "a"};
    char path[] = "/tmp/test-net-XXXXXX";
    struct state a = {.path = path}, b;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    add_network(&a, 1, "default")->internal = true;
    add_host(&a, 1, "a", "default", 0);
    assert_int_equal(state_add_port(&a, &port), 0);
    assert_int_equal(state_add_name(&a, &name), 0);
    assert_int_equal(state_save(&a, NULL), 0);
    assert_int_equal(state_load(&b, path, NULL), 0);
    assert_memory_equal(a.networks, b.networks, sizeof(*a.networks));
    assert_memory_equal(a.attachments, b.attachments, sizeof(*a.attachments));
    assert_int_equal(b.port_count, 1);
    assert_int_equal(b.ports[0].published, 80);
    assert_int_equal(b.ports[0].target, 8080);
    assert_int_equal(b.ports[0].protocol, IPPROTO_TCP);
    assert_true(b.ports[0].local && b.ports[0].inside);
    assert_string_equal(b.ports[0].service, "a");
    assert_string_equal(b.names[0].name, "a");
    assert_int_equal(b.names[0].revision, 1);
    assert_memory_equal(a.ula, b.ula, sizeof(a.ula));
    state_drop_published(&b, 1);
    assert_int_equal(b.port_count + b.name_count, 0);
    state_done(&a);
    state_done(&b);
    unlink(path);
}

static enum names_verdict look_up(struct state *s, const char *text, uint16_t type, size_t *count)
{
    struct dns_question question = {.type = type};
    struct address found[NAMES_ADDRESSES_MAX], nobody = {0};

    snprintf(question.name, sizeof(question.name), "%s", text);
    return names_look_up(s, &s->networks[0], &nobody, &question, found, NAMES_ADDRESSES_MAX, count);
}

static void test_names(void **state)
{
    static const char *const farm[] = {"nas",
                                       "x.local",
                                       "local",
                                       "fritz.box",
                                       "5.1.168.192.in-addr.arpa",
                                       "1.16.172.in-addr.arpa",
                                       "31.172.in-addr.arpa",
                                       "64.100.in-addr.arpa",
                                       "1.0.d.f.ip6.arpa"};
    static const char *const world[] = {"example.org",
                                        "xlocal.org",
                                        "1.15.172.in-addr.arpa",
                                        "1.32.172.in-addr.arpa",
                                        "63.100.in-addr.arpa",
                                        "128.100.in-addr.arpa",
                                        "1.8.b.d.0.1.0.0.2.ip6.arpa",
                                        ""};
    struct name name = {
        .reservation = 1, .network = "default", .name = "web", .revision = 1, .service = "a"};
    struct state s = {0};
    size_t count;

    (void)state;
    add_network(&s, 1, "default");
    add_host(&s, 1, "a", "default", 0);
    assert_int_equal(state_add_name(&s, &name), 0);
    assert_int_equal(look_up(&s, "web", DNS_TYPE_A, &count), NAMES_HERE);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < sizeof(farm) / sizeof(farm[0]); i++)
        assert_int_equal(look_up(&s, farm[i], DNS_TYPE_A, &count), NAMES_NOBODY);
    for (size_t i = 0; i < sizeof(world) / sizeof(world[0]); i++)
        assert_int_equal(look_up(&s, world[i], DNS_TYPE_PTR, &count), NAMES_FORWARD);
    assert_int_equal(look_up(&s, "org", DNS_TYPE_NS, &count), NAMES_FORWARD);
    s.networks[0].internal = true;
    assert_int_equal(look_up(&s, "example.org", DNS_TYPE_A, &count), NAMES_NOBODY);
    state_done(&s);
}

static void test_a_local_port_is_a_name_at_the_gateway(void **state)
{
    const struct port cache = {.reservation = 1,
                               .protocol = IPPROTO_TCP,
                               .published = 9900,
                               .target = STATE_LOCAL_FIRST,
                               .revision = 1,
                               .service = "cache",
                               .local = true,
                               .inside = true};
    struct port other = cache;
    struct state s = {0};
    size_t count;

    (void)state;
    add_network(&s, 1, "default");
    add_network(&s, 2, "default");
    assert_int_equal(look_up(&s, "cache", DNS_TYPE_A, &count), NAMES_NOBODY);
    assert_int_equal(state_add_port(&s, &cache), 0);
    assert_int_equal(look_up(&s, "cache", DNS_TYPE_A, &count), NAMES_HERE);
    assert_int_equal(count, 2);
    /* another reservation's, and a container's port, are no names */
    other.reservation = 2;
    strcpy(other.service, "foreign");
    assert_int_equal(state_add_port(&s, &other), 0);
    other.reservation = 1;
    other.local = other.inside = false;
    strcpy(other.service, "web");
    assert_int_equal(state_add_port(&s, &other), 0);
    assert_int_equal(look_up(&s, "foreign", DNS_TYPE_A, &count), NAMES_NOBODY);
    assert_int_equal(look_up(&s, "web", DNS_TYPE_A, &count), NAMES_NOBODY);
    state_drop_published(&s, 1);
    assert_int_equal(look_up(&s, "cache", DNS_TYPE_A, &count), NAMES_NOBODY);
    state_done(&s);
}

static void test_dns_messages(void **state)
{
    uint8_t query[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\3wWw\7example\0\0\x1c\0\1";
    size_t len = sizeof(query) - 1, out;
    struct address addresses[] = {prefix("192.0.2.1"), prefix("2001:db8::1")};
    struct dns_question question;
    uint8_t answer[512];

    (void)state;
    assert_int_equal(dns_read_question(query, len, &question), 0);
    assert_string_equal(question.name, "www.example");
    assert_int_equal(question.type, DNS_TYPE_AAAA);
    out = dns_write_answer(query, &question, DNS_RCODE_OK, addresses, 2, answer, sizeof(answer));
    assert_int_equal(out, len + 12 + 16);
    assert_int_equal(answer[7], 1);
    assert_true(dns_is_answer(answer, out, query, question.end));
    answer[13] ^= 0x20;
    assert_true(dns_is_answer(answer, out, query, question.end));
    answer[14] = 'x';
    assert_false(dns_is_answer(answer, out, query, question.end));
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(dns_read_question(query, cut, &question), -EBADMSG);
    query[2] = 0x80;
    assert_int_equal(dns_read_question(query, len, &question), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_dhcp_packet),
        cmocka_unit_test(test_rdnss),
        cmocka_unit_test(test_helper_report),
        cmocka_unit_test(test_subnets_never_overlap_and_are_the_same_each_time),
        cmocka_unit_test(test_subnets_keep_away_from_the_links),
        cmocka_unit_test(test_no_subnet_is_left),
        cmocka_unit_test(test_networks_fill_a_node_and_no_more),
        cmocka_unit_test(test_the_order_of_additions_does_not_show),
        cmocka_unit_test(test_hosts_fill_a_network_and_no_more),
        cmocka_unit_test(test_the_list_survives_the_file),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_a_local_port_is_a_name_at_the_gateway),
        cmocka_unit_test(test_dns_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
