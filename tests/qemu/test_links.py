"""netd and the node's links, without any chain: leases that come, change and stay away, routers that
speak IPv6, addresses given by hand, and published ports that follow the address."""
import time

import pytest

from lab import lan as lab_lan, paths

USER_NET = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56"]


@pytest.fixture
def lan():
    with lab_lan.Lan(lease=12) as segment:
        yield segment


def links(m):
    # core0 is ready before its services are.
    m.wait("service", 60, name="netd", state="running")
    return {link["name"]: link for link in m.agent.varlink("netd", "GetStatus")["links"]}


def wait_address(m, name, prefix, timeout=40):
    """Waits until a link has an address that begins so, and returns all of its addresses."""
    end = time.monotonic() + timeout * paths.SCALE
    while True:
        found = links(m).get(name, {}).get("addresses", [])
        if any(a.startswith(prefix) for a in found):
            return found
        assert time.monotonic() < end, links(m)
        time.sleep(0.3)


def serve(m, port):
    """A container's network of our own making, with a server behind a published port."""
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
    lan.advertise()
    wait_address(m, "eth0", "2001:db8:50:1:")


def test_static_addresses(boot, lan):
    m = boot("runmode=dev", "croft.net=eth0,192.168.50.77/24,192.168.50.1,192.168.50.1", net=lan.qemu())
    m.wait("boot", 90, step="ready")
    wait_address(m, "eth0", "192.168.50.77/24")
    assert links(m)["eth0"]["gateway"] == "192.168.50.1" and links(m)["eth0"]["dns"] == ["192.168.50.1"]
    assert not lan.seen, "a link with a static address asked for a lease"


def test_no_link_at_all_boots(boot):
    m = boot("runmode=dev", net=[])
    m.wait("boot", 90, step="ready")
    assert not [n for n in links(m) if n != "lo"]
