"""The node's own links: leases that come, change and stay away, routers that speak IPv6, addresses by hand."""
import json
import re
import signal
import sys
import time

from netlab import INTERNET, ROOT, port

SECONDS = 90  # about, for the order in which files start


class Dhcpd:
    """The scripted server on the router."""

    def __init__(self, lab, address="192.168.7.50", lease=6, own="192.168.7.1", name="dhcpd", namespace=None, interface="sw"):
        self.lab, self.config, self.log = lab, lab.folder / f"{name}.json", lab.folder / f"{name}.log"
        self.log.write_text("")
        self.set(address=address, lease=lease)
        import subprocess
        self.process = (namespace or lab.router).spawn(
            sys.executable, str(ROOT / "tests/net/dhcpd.py"), interface, own, str(self.config), str(self.log),
            stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def set(self, **values):
        self.values = {**getattr(self, "values", {}), **values}
        self.config.with_suffix(".new").write_text(json.dumps(self.values))
        self.config.with_suffix(".new").rename(self.config)

    def seen(self):
        return self.log.read_text().splitlines()


def test_a_lease_gives_address_route_and_servers(lab):
    lab.dhcp("--dhcp-option=42,192.168.7.1", *lab.RA)
    lab.start()
    lab.online()
    link = lab.link()
    assert lab.addresses()[0] in {f"192.168.7.{n}" for n in range(50, 61)}  # both ends of the range are given out
    assert link["mode"] == "dhcp" and link["state"] == "address from DHCP"
    assert link["gateway"] == "192.168.7.1" and "192.168.7.1" in link["dns"]
    assert lab.addresses(family=6)[0].startswith("2001:db8:7:")
    assert lab.node.reaches(INTERNET[0]) and lab.node.reaches(INTERNET[2])
    lab.wait(lambda: "nameserver 192.168.7.1" in (lab.folder / "resolv.conf").read_text(), "no resolv.conf")
    assert lab.call("GetStatus")["online"] is True


def test_dns_servers_of_a_router_advertisement_count_and_expire(lab):
    lab.dnsmasq(lab.router, "sw", "--port=0", "--enable-ra", "--dhcp-range=::,constructor:sw,ra-stateless,64,600",
                "--dhcp-option=option6:dns-server,[2001:db8:7::1]")
    lab.start()
    lab.wait(lambda: "2001:db8:7::1" in lab.link()["dns"], "the server was not taken")
    assert "nameserver 2001:db8:7::1" in (lab.folder / "resolv.conf").read_text()


def test_no_lease_stops_nobody(lab):
    lab.start()
    a = lab.container(1, "a")
    b = lab.container(1, "b")
    assert a.reaches(b.address4)
    lab.wait(lambda: lab.link()["state"] == "no DHCP server answers", "silence is not told")
    assert lab.call("GetStatus")["online"] is False
    # The server wakes up: everything comes without anybody's help.
    lab.dhcp()
    lab.wait(lambda: a.reaches(INTERNET[0]), "the node did not come online", 40)


def test_a_router_that_speaks_late_is_heard(lab):
    server = lab.dhcp()
    lab.start()
    lab.wait(lab.addresses, "no address")
    assert not lab.addresses(family=6)
    server.kill()
    server.wait()
    lab.dhcp(*lab.RA, name="second")
    lab.wait(lambda: lab.addresses(family=6), "the advertisement was not taken", 30)
    a = lab.container(1, "a", serve=False)
    lab.wait(lambda: a.reaches(INTERNET[2]), "no way out over IPv6")


def test_two_servers_give_one_address(lab):
    first, second = Dhcpd(lab, lease=6), Dhcpd(lab, "192.168.7.77", 6, "192.168.7.9", "other", lab.lanhost, "eth0")
    lab.start()
    lab.wait(lab.addresses, "no address")
    time.sleep(8)  # over a renewal
    own = lab.addresses()
    assert own in (["192.168.7.50"], ["192.168.7.77"])
    chosen = first if own == ["192.168.7.50"] else second
    assert [line for line in chosen.seen() if "unicast" in line], "the renewal did not go to the server"


def test_a_lease_is_renewed_then_rebound_then_lost(lab):
    server = Dhcpd(lab)
    lab.start()
    lab.wait(lab.addresses, "no address")
    lab.wait(lambda: "request 192.168.7.50 unicast" in server.seen(), "no renewal", 6)
    assert not [s for s in server.seen()[1:] if s.startswith("discover")], "a renewal began anew"
    server.set(silent=True)
    begin = len(server.seen())
    lab.wait(lambda: "request 192.168.7.50 broadcast" in server.seen()[begin:], "no rebinding", 10)
    lab.wait(lambda: not lab.addresses(), "an address that ran out is still used", 10)
    lab.wait(lambda: [s for s in server.seen()[begin:] if s.startswith("discover")], "it does not ask again", 10)
    server.set(silent=False)
    lab.wait(lambda: lab.addresses() == ["192.168.7.50"], "it does not come back", 20)


def test_a_refusal_and_a_changed_address_are_followed_by_the_ports(lab):
    server = Dhcpd(lab)
    lab.start()
    lab.wait(lab.addresses, "no address")
    a = lab.container(1, "a")
    lab.call("Expose", reservation=1, ports=[port(8080, "a")], names=[])
    assert lab.lanhost.reaches("192.168.7.50", 8080)
    server.set(address="192.168.7.60")
    lab.wait(lambda: lab.addresses() == ["192.168.7.60"], "the new address was not taken", 15)
    assert lab.lanhost.reaches("192.168.7.60", 8080)
    assert lab.lanhost.cut_off("192.168.7.50", 8080)
    assert a.reaches(INTERNET[0])


def test_a_cable_that_is_moved_brings_another_network(lab):
    lab.dhcp()
    lab.start()
    lab.wait(lab.addresses, "no address")
    old = lab.addresses()
    lab.router.sh("ip link set to-node down")
    lab.wait(lambda: lab.link()["state"] == "no carrier", "the carrier's loss is not seen")
    assert lab.addresses() == old, "a cable that is out for a moment costs the address"
    lab.router.sh("ip link set to-node nomaster; ip addr add 192.168.99.1/24 dev to-node; ip link set to-node up")
    lab.dnsmasq(lab.router, "to-node", "--port=0", "--dhcp-authoritative", "--dhcp-range=192.168.99.50,192.168.99.60", name="moved")
    lab.wait(lambda: any(a.startswith("192.168.99.") for a in lab.addresses()), "the new network was not taken", 30)


def test_a_second_link_that_appears_late_is_used_and_one_that_goes_is_forgotten(lab):
    lab.dhcp()
    lab.start()
    lab.wait(lab.addresses, "no address")
    lab.wire(lab.router, "to-second", lab.node, "lan1")
    lab.router.sh("ip link set to-second up; ip addr add 192.168.99.1/24 dev to-second")
    lab.dnsmasq(lab.router, "to-second", "--port=0", "--dhcp-range=192.168.99.50,192.168.99.60", name="second")
    lab.wait(lambda: lab.addresses("lan1"), "the second link got nothing", 30)
    lab.router.sh("ip link del to-second")
    lab.wait(lambda: lab.link("lan1") is None, "the link is still listed")
    assert lab.addresses()


def test_static_addresses(lab):
    server = Dhcpd(lab)
    lab.start({"net": [{"mode": "static", "interface": "lan0", "address": "192.168.7.77/24", "gateway": "192.168.7.1",
                        "dns": ["192.168.7.1"]},
                       {"mode": "static", "interface": "lan0", "address": "2001:db8:7::77/64", "gateway": "2001:db8:7::1"}]})
    lab.wait(lambda: lab.addresses() == ["192.168.7.77"] and lab.addresses(family=6) == ["2001:db8:7::77"], "no address")
    assert lab.link()["mode"] == "static" and lab.link()["dns"] == ["192.168.7.1"]
    assert lab.node.reaches(INTERNET[0]) and lab.node.reaches(INTERNET[2])
    time.sleep(2)
    assert not server.seen(), "a link with a static address asked for a lease"


def test_a_wrong_configuration_is_said_and_the_node_asks(lab):
    lab.dhcp()
    lab.start({"net": [{"mode": "static", "interface": "lan0", "address": "192.168.7.777/24"}]})
    lab.wait(lab.addresses, "no address")
    assert "192.168.7.777/24" in (lab.folder / "netd.log").read_text()


def test_a_gateway_beyond_the_own_network(lab):
    """As hosters do: a /32 and a router that is not in it."""
    lab.router.sh("ip route add 192.168.200.5/32 dev sw")
    lab.start({"net": [{"mode": "static", "interface": "lan0", "address": "192.168.200.5/32", "gateway": "192.168.7.1"}]})
    lab.wait(lambda: lab.node.reaches(INTERNET[0]), "no way out")


def test_a_bridge_avoids_the_networks_of_the_links(lab):
    lab.start({"net": [{"mode": "static", "interface": "lan0", "address": "100.64.3.5/24", "gateway": "100.64.3.1"}]})
    lab.wait(lambda: lab.addresses() == ["100.64.3.5"], "no address")
    network = lab.call("EnsureNetwork", reservation=1, network="default", internal=False)["network"]
    assert network["subnet4"].startswith("172.")


def test_a_restart_keeps_the_address_and_asks_for_it(lab):
    server = Dhcpd(lab, lease=60)
    lab.start()
    lab.wait(lab.addresses, "no address")
    lab.stop(signal.SIGKILL)
    begin = len(server.seen())
    assert "192.168.7.50" in lab.node.sh("ip addr show lan0")
    lab.spawn_netd()
    lab.wait(lambda: len(server.seen()) > begin, "it does not ask")
    assert server.seen()[begin] == "request 192.168.7.50 broadcast"
    lab.wait(lambda: lab.addresses() == ["192.168.7.50"] and lab.link()["state"] == "address from DHCP", "no address")


def test_addresses_are_told(lab):
    lab.dhcp()
    lab.start()
    told = []

    def heard():
        told.append(lab.notify.recv(8192).decode())
        return "X_CROFT_FACT=addresses=192.168.7." in told[-1]
    lab.wait(heard, "the fact is not told")
    assert any('"event":"address"' in t and '"interface":"lan0"' in t for t in told)


def test_time_servers_of_dhcp_reach_ntpd_and_its_report_netd(lab):
    """Debian's BusyBox has no ntpd: a script of that name notes what it was given and reports as ntpd would."""
    fake = lab.folder / "busybox"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {lab.folder}/ntpd.log\nstratum=16 "$3" unsync && echo told >> {lab.folder}/ntpd.log\n'
                    "exec sleep 1000\n")
    fake.chmod(0o755)
    lab.busybox = str(fake)
    lab.dhcp("--dhcp-option=42,192.168.7.1")
    lab.start()
    lab.wait(lambda: (lab.folder / "ntpd.log").exists() and "told" in (lab.folder / "ntpd.log").read_text(), "nothing was told")
    assert "-p 192.168.7.1" in (lab.folder / "ntpd.log").read_text()
    assert lab.call("GetStatus")["time"] == "unsynchronised"
    assert "cannot be read" not in (lab.folder / "netd.log").read_text()


def test_after_a_lie_the_servers_are_asked_one_by_one(lab):
    """The lab cannot set a clock, so a bound in the future makes every answer a lie. tests/qemu has a server that
    becomes honest."""
    fake, log = lab.folder / "busybox", lab.folder / "ntpd.log"
    fake.write_text(f'#!/bin/sh\necho "$(date +%s.%N) $*" >> {log}\nstratum=2 "$3" step\nexec sleep 1000\n')
    fake.chmod(0o755)
    lab.busybox = str(fake)
    # One way out of the machine from the beginning: each more would have ntpd ask anew.
    lab.start({"ntp": ["192.0.2.7", "192.0.2.8"], "buildTime": 4102444800,
               "net": [{"mode": "static", "interface": "lan0", "address": "192.168.7.77/24"}]})

    def starts():
        lines = log.read_text().splitlines() if log.exists() else []
        return [(float(line.split()[0]), re.findall(r"-p (\S+)", line)) for line in lines]
    lab.wait(lambda: len(starts()) >= 4, "ntpd is not started again")
    found = starts()
    assert [servers for _, servers in found[:4]] == [
        ["192.0.2.7", "192.0.2.8"], ["192.0.2.7"], ["192.0.2.8"], ["192.0.2.7"]]
    gaps = [b[0] - a[0] for a, b in zip(found, found[1:])]
    assert all(gap >= least for gap, least in zip(gaps, (1, 2, 4))), gaps
    assert lab.call("GetStatus")["time"] == "unsynchronised"
    assert "not believed, 192.0.2.8 is asked in 2 s" in (lab.folder / "netd.log").read_text()


def test_a_server_is_asked_once_there_is_a_way_to_it(lab):
    """Not before there is an address, and anew when there is one more way while the clock is not kept."""
    fake, log = lab.folder / "busybox", lab.folder / "ntpd.log"
    fake.write_text(f'#!/bin/sh\nip -o addr show dev lan0 scope global >> {log}; echo asked >> {log}\nexec sleep 1000\n')
    fake.chmod(0o755)
    lab.busybox = str(fake)
    lab.start({"ntp": ["192.0.2.7"]})
    time.sleep(2)  # nobody gives the node an address
    assert not log.exists()
    lab.dhcp()
    lab.wait(lambda: log.exists() and "asked" in log.read_text(), "no server is asked", 60)
    assert "192.168.7." in log.read_text().split("asked")[0]
    before = log.read_text().count("asked")
    lab.node.sh("ip addr add 192.0.2.55/24 dev lan0")
    lab.wait(lambda: log.read_text().count("asked") > before, "not asked anew", 20)


def test_a_bridges_address_is_no_source_towards_the_farm(lab):
    """A link with a site-local address only (QEMU's user network): by RFC 6724 a bridge's would be preferred."""
    lab.router.sh("ip addr del 2001:db8:7::1/64 dev sw; ip addr add fec0:0:0:7::1/64 dev sw nodad")
    lab.dhcp(*lab.RA)
    lab.start()
    lab.online()
    lab.call("EnsureNetwork", reservation=1, network="default", internal=False)
    container = lab.container(1, "a", serve=False)
    own = lab.addresses(family=6)[0]
    assert own.startswith("fec0:")
    for who in (lab.node, container):
        assert who.ask(INTERNET[2]).endswith(f"you are {own}")


def test_the_node_reaches_its_own_addresses(lab):
    lab.node.sh("ip link set lo down")
    lab.dhcp(*lab.RA)
    lab.start()
    lab.online()
    lab.node.serve()
    for address in ("127.0.0.1", "::1", *lab.addresses(), *lab.addresses(family=6)):
        assert lab.node.reaches(address)
