"""netd and the node's links, without any chain: leases that come, change and stay away, routers that
speak IPv6, addresses given by hand, and published ports that follow the address."""
import time

import pytest

from lab import lan as lab_lan, paths

SECONDS = 65  # about, for the order in which files start

USER_NET = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56"]


@pytest.fixture
def lan():
    with lab_lan.Lan(lease=12) as segment:
        yield segment


def links(m):
    # core0 is ready before its services are.
    m.wait_service("netd")
    return {link["name"]: link for link in m.agent.varlink("netd", "GetStatus")["links"]}


def wait_address(m, name, prefix, timeout=40, meanwhile=lambda: None):
    """Waits until a link has an address that begins so, and returns all of its addresses."""
    end = time.monotonic() + timeout * paths.SCALE
    while True:
        meanwhile()
        found = links(m).get(name, {}).get("addresses", [])
        if any(a.startswith(prefix) for a in found):
            return found
        assert time.monotonic() < end, links(m)
        time.sleep(0.3)


def serve(m, port):
    """A container's network of our own making, with a server behind a published port."""
    m.wait_service("contd")
    who = {"reservation": 900, "revision": 1, "service": "web"}
    m.agent.varlink("netd", "EnsureNetwork", reservation=900, network="default", internal=False)
    pins = m.agent.varlink("contd", "Prepare", **who, uidBase=0x20000000, uidCount=65536)
    m.agent.varlink("netd", "Attach", **who, network="default", netns=pins["netns"])
    m.agent.varlink("netd", "Expose", reservation=900, names=[], ports=[
        {"protocol": "tcp", "published": port, "target": 80, "revision": 1, "service": "web"}])
    m.agent.run("/croft-test/busybox", "nsenter", f"-n{pins['netns']}", "/croft-test/busybox", "sh", "-c",
                "(while :; do echo hello | nc -l -p 80; done) >/dev/null 2>&1 &")


def test_a_link_without_lease_holds_nothing_up(boot, lan):
    lan.address = None
    m = boot("runmode=dev", net=[*USER_NET, *lan.qemu()])
    m.wait("boot", 90, step="ready")
    wait_address(m, "eth0", "10.0.2.15/")
    lan.wait(lab_lan.DISCOVER)
    assert not [a for a in links(m)["eth1"]["addresses"] if not a.startswith("fe80")]
    assert links(m)["eth1"]["state"]
    # The server wakes up: the link comes too, without a reboot.
    lan.address = "192.168.50.20"
    wait_address(m, "eth1", "192.168.50.20/24", 90)


def test_a_lease_is_renewed_and_a_changed_address_followed_with_its_ports(boot, lan):
    m = boot("runmode=dev", net=[*USER_NET, *lan.qemu()])
    m.wait("boot", 90, step="ready")
    wait_address(m, "eth1", "192.168.50.20/24")
    serve(m, 8080)
    assert lan.knock("192.168.50.20", 8080)
    assert not lan.knock("192.168.50.20", 8081, 2)
    mark = len(lan.seen)
    lan.wait(lab_lan.REQUEST, 30, mark, "192.168.50.20")
    assert not [s for s in lan.seen[mark:] if s[0] == lab_lan.DISCOVER], "a renewal starts anew"
    # From now on the server refuses the old address (NAK) and offers another.
    mark = len(lan.seen)
    lan.address = "192.168.50.33"
    lan.wait(lab_lan.DISCOVER, 60, mark)
    found = wait_address(m, "eth1", "192.168.50.33/24", 60)
    assert not [a for a in found if a.startswith("192.168.50.20/")]
    assert lan.knock("192.168.50.33", 8080)
    assert not lan.knock("192.168.50.20", 8080, 2)


def test_a_router_advertisement_gives_an_address(boot, lan):
    m = boot("runmode=dev", net=lan.qemu())
    m.wait("boot", 90, step="ready")
    wait_address(m, "eth0", "192.168.50.20/24")
    # A router says it again and again (RFC 4861, section 6.2.4): the first may come before the link listens.
    wait_address(m, "eth0", "2001:db8:50:1:", meanwhile=lan.advertise)


def test_static_addresses(boot, lan):
    m = boot("runmode=dev", "croft.net=eth0,192.168.50.77/24,192.168.50.1,192.168.50.1", net=lan.qemu())
    m.wait("boot", 90, step="ready")
    wait_address(m, "eth0", "192.168.50.77/24")
    assert links(m)["eth0"]["gateway"] == "192.168.50.1" and links(m)["eth0"]["dns"] == ["192.168.50.1"]
    serve(m, 8080)
    assert lan.knock("192.168.50.77", 8080)
    assert not lan.seen, "a link with a static address asked for a lease"


def test_a_vlan_is_a_link_of_its_own(boot):
    with lab_lan.Lan(vlan=5) as lan:
        lan.clock = time.time
        m = boot("runmode=dev", "croft.vlan=eth0.5", net=lan.qemu())
        m.wait("boot", 90, step="ready")
        wait_address(m, "eth0.5", "192.168.50.20/24")
        assert not [a for a in links(m)["eth0"]["addresses"] if not a.startswith("fe80")]
        assert links(m)["eth0.5"]["gateway"] == "192.168.50.1"
        # The link below asks for a lease of its own; its first question may be lost while it comes up.
        end = time.monotonic() + 30 * paths.SCALE
        while not lan.bare:
            assert time.monotonic() < end, "the link below the VLAN was never heard: does the segment tell tags apart?"
            time.sleep(0.2)
        serve(m, 8080)
        assert lan.knock("192.168.50.20", 8080)
        assert not lan.knock("192.168.50.20", 8081, 2)
        end = time.monotonic() + 30 * paths.SCALE
        while lan.router_ip not in lan.asked:
            assert time.monotonic() < end, "the time server that the lease names was not asked"
            time.sleep(0.2)


def test_a_bond_lives_on_when_a_link_is_lost(boot, lan):
    m = boot("runmode=dev", "croft.bond=bond0,active-backup,eth0+eth1", net=[*lan.qemu(1), *lan.qemu(2)])
    m.wait("boot", 90, step="ready")
    wait_address(m, "bond0", "192.168.50.20/24")
    assert m.agent.text("/sys/class/net/bond0/bonding/mode").split() == ["active-backup", "1"]
    assert set(m.agent.text("/sys/class/net/bond0/bonding/slaves").split()) == {"eth0", "eth1"}
    assert not links(m)["eth0"]["addresses"] and not links(m)["eth1"]["addresses"]
    serve(m, 8080)
    assert lan.knock("192.168.50.20", 8080)
    for index, other in ((1, 2), (2, 1)):
        m.qmp("set_link", name=f"lan{index}", up=False)
        m.qmp("set_link", name=f"lan{other}", up=True)
        assert lan.knock("192.168.50.20", 8080, 15), m.agent.text("/proc/net/bonding/bond0")


def clock_of(m):
    return int(m.agent.sh("date +%s").out)


def wait_time(m, wanted, timeout):
    end = time.monotonic() + timeout * paths.SCALE
    while True:
        m.wait_service("netd")
        found = m.agent.varlink("netd", "GetStatus")["time"]
        if found == wanted:
            return
        assert time.monotonic() < end, found
        time.sleep(0.5)


def test_the_clock_follows_a_time_server(boot, lan):
    # croft.ntp comes before what the lease names: this server is not the router.
    ahead = 40 * 86400
    lan.clock = lambda: time.time() + ahead
    # A machine whose battery is empty starts long before its image was built.
    m = boot("runmode=dev", f"croft.ntp={lan.host_ip}", net=[*lan.qemu(), "-rtc", "base=2001-01-01T00:00:00"])
    m.wait("boot", 90, step="ready")
    assert clock_of(m) >= m.agent.json("/run/croft/boot.json")["buildTime"]
    wait_time(m, "synchronised", 150)
    assert abs(clock_of(m) - lan.clock()) < 30 * paths.SCALE
    assert set(lan.asked) == {lan.host_ip}


def test_a_time_before_the_image_was_built_is_not_believed_and_an_honest_one_heals(boot, lan):
    lan.clock = lambda: 1_000_000_000
    m = boot("runmode=dev", net=lan.qemu())
    m.wait("boot", 90, step="ready")
    built = m.agent.json("/run/croft/boot.json")["buildTime"]
    assert built > lan.clock()
    wait_address(m, "eth0", "192.168.50.20/24")
    end = time.monotonic() + 60 * paths.SCALE
    while "not believed" not in str(m.agent.varlink("core0", "GetLog", service="netd")["lines"]):
        assert time.monotonic() < end, lan.asked
        time.sleep(0.5)
    assert clock_of(m) >= built
    assert m.agent.varlink("netd", "GetStatus")["time"] == "unsynchronised"
    ahead = 40 * 86400
    lan.clock = lambda: time.time() + ahead
    wait_time(m, "synchronised", 150)
    assert abs(clock_of(m) - lan.clock()) < 30 * paths.SCALE


def test_no_link_at_all_boots(boot):
    m = boot("runmode=dev", net=[])
    m.wait("boot", 90, step="ready")
    assert not [n for n in links(m) if n != "lo"]
