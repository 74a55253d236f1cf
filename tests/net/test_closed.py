"""What a container reaches: the internet and its own network; nothing of the farm, the node or other tenants."""
import pytest

from netlab import CLOSED, INTERNET, LANHOST, PORT

SECONDS = 50  # about, for the order in which files start


@pytest.mark.parametrize("address", INTERNET)
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_internet_answers(farm, address, kind):
    assert farm.a.reaches(address, kind=kind)


@pytest.mark.parametrize("address", [a for a in CLOSED if not a.startswith("169.254")])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_closed_ranges_are_closed(farm, address, kind):
    assert farm.node.reaches(address, kind=kind), "the host does not answer the node either"
    assert farm.a.cut_off(address, kind=kind)


@pytest.mark.parametrize("address", LANHOST)
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_farms_lan_is_closed_also_where_it_is_public(farm, address, kind):
    assert farm.node.reaches(address, kind=kind)
    assert farm.a.cut_off(address, kind=kind)


def test_link_local_is_closed(farm):
    farm.lanhost.sh("ip addr add 169.254.7.7/32 dev lo")
    farm.node.sh("ip route add 169.254.7.7 via 192.168.7.9")
    assert farm.node.reaches("169.254.7.7")
    assert farm.a.cut_off("169.254.7.7")


def test_every_address_of_the_node_is_closed(farm):
    farm.node.serve(7777)
    text = farm.node.sh("ip -o addr show")
    found = [(line.split()[1], line.split()[3].split("/")[0]) for line in text.splitlines()]
    found = [(dev, a) for dev, a in found if not a.startswith("127.") and a != "::1"]
    assert any(a.startswith("192.168.7.") for _, a in found)
    assert any(dev.startswith("cb") for dev, _ in found)
    for dev, address in found:
        if address.startswith("fe80:"):
            if dev.startswith("cb"):
                assert farm.a.cut_off(f"{address}%eth0", 7777), (dev, address)
            continue
        assert farm.node.reaches(address, 7777), "the control does not answer"
        for kind in ("tcp", "udp"):
            assert farm.a.cut_off(address, 7777, kind=kind), (dev, address)


def test_nothing_enters_the_node_from_outside(farm):
    farm.node.serve(7778)
    address = farm.addresses()[0]
    assert farm.node.reaches(address, 7778)
    assert farm.lanhost.cut_off(address, 7778)
    assert farm.lanhost.cut_off(address, 7778, kind="udp")
    assert farm.lanhost.cut_off(farm.addresses(family=6)[0], 7778)
    farm.lanhost.sh(f"ping -c 1 -W 2 {address}")
    farm.lanhost.sh(f"ping -c 1 -W 2 {farm.addresses(family=6)[0]}")


def test_the_gate_is_open_to_the_world_and_closed_to_containers(farm):
    farm.node.serve(4443)
    for family in (4, 6):
        assert farm.lanhost.reaches(farm.addresses(family=family)[0], 4443)
    assert farm.lanhost.cut_off(farm.addresses()[0], 4444)
    for line in farm.node.sh("ip -o addr show").splitlines():
        address = line.split()[3].split("/")[0]
        if not address.startswith(("127.", "::1", "fe80:")):
            assert farm.node.reaches(address, 4443), "the control does not answer"
            assert farm.a.cut_off(address, 4443), line


def test_services_of_a_network_reach_each_other(farm):
    for address in (farm.b.address4, farm.b.address6):
        assert farm.a.reaches(address)
        assert farm.a.reaches(address, kind="udp")


def test_other_reservations_are_closed(farm):
    for address in (farm.c.address4, farm.c.address6):
        assert farm.c.reaches(address), "the control does not answer"
        assert farm.a.cut_off(address)
        assert farm.a.cut_off(address, kind="udp")


def test_a_neighbour_on_the_lan_cannot_route_into_a_bridge(farm):
    """Someone on the farm's network sends to the private addresses through the node."""
    node4, node6 = farm.addresses()[0], farm.addresses(family=6)[0]
    farm.lanhost.sh(f"ip route add {farm.a.address4} via {node4}; ip -6 route add {farm.a.address6} via {node6}")
    assert farm.lanhost.cut_off(farm.a.address4)
    assert farm.lanhost.cut_off(farm.a.address6)


def test_an_internal_network_has_no_way_out(farm):
    inside = farm.container(3, "x", networks=("internal",))
    other = farm.container(3, "y", networks=("internal",))
    assert inside.reaches(other.address4) and inside.reaches(other.address6)
    # Without a route, and with one that the container makes itself.
    assert inside.cut_off(INTERNET[0])
    inside.sh(f"ip route add default via {inside.address4.rsplit('.', 1)[0]}.1 dev eth0")
    assert inside.cut_off(INTERNET[0])
    farm.call("RemoveReservation", reservation=3)


# ---- as somebody else ----

def test_a_forged_address_of_a_neighbour_does_not_leave(farm):
    for victim, target, length in ((farm.a.address4, INTERNET[0], 32), (farm.a.address6, INTERNET[2], 128)):
        farm.b.sh(f"ip addr add {victim}/{length} dev eth0 {'nodad' if length == 128 else ''}")
        try:
            assert farm.b.cut_off(target, source=victim)
            assert farm.b.cut_off(target, source=victim, kind="udp")
        finally:
            farm.b.sh(f"ip addr del {victim}/{length} dev eth0")
        assert farm.b.reaches(target), "the control does not answer"


def test_a_forged_address_from_outside_does_not_leave(farm):
    farm.b.sh("ip addr add 198.51.100.77/32 dev eth0")
    try:
        assert farm.b.cut_off(INTERNET[0], source="198.51.100.77")
    finally:
        farm.b.sh("ip addr del 198.51.100.77/32 dev eth0")


def test_a_forged_mac_says_nothing(farm):
    own = mac(farm.b)
    # Without down and up, which would take the IPv6 addresses away.
    farm.b.sh("ip link set eth0 address 02:de:ad:be:ef:01; ip neigh flush dev eth0")
    try:
        assert farm.b.cut_off(INTERNET[0])
        assert farm.b.cut_off(farm.a.address4)
        assert farm.b.cut_off(INTERNET[2])
    finally:
        farm.b.sh(f"ip link set eth0 address {own}; ip neigh flush dev eth0")
    assert farm.b.reaches(INTERNET[0]), "the control does not answer"


def mac(namespace):
    return namespace.sh("ip -o link show eth0").split("link/ether ")[1].split()[0]


def gateway(namespace):
    return namespace.address4.rsplit(".", 1)[0] + ".1"


def test_an_arp_answer_for_another_is_not_believed(farm):
    """b says that the gateway, and a, are at its own MAC."""
    for victim, asker in ((gateway(farm.a), farm.a), (farm.a.address4, None)):
        farm.b.sh(f"ip addr add {victim}/32 dev eth0")
        farm.b.sh(f"arping -U -c 3 -w 2 -I eth0 -s {victim} {victim}; arping -A -c 3 -w 2 -I eth0 -s {victim} {victim}",
                  check=False)
        try:
            seen = (asker or farm.node).sh("ip neigh show")
            assert mac(farm.b) not in "".join(line for line in seen.splitlines() if line.startswith(victim + " "))
        finally:
            farm.b.sh(f"ip addr del {victim}/32 dev eth0")
    assert farm.a.reaches(INTERNET[0])
    assert farm.lanhost.reaches(farm.addresses()[0], 8080)


SEND_ADVERTISEMENT = r"""
import socket, sys
target, source = sys.argv[1], sys.argv[2]
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.bind((source, 0))
mac = bytes.fromhex(sys.argv[3].replace(":", ""))
# Override, for everybody.
s.sendto(b"\x88\0\0\0\x20\0\0\0" + socket.inet_pton(socket.AF_INET6, target) + b"\2\1" + mac,
         ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"""


def test_a_neighbour_advertisement_for_another_is_not_believed(farm):
    import sys
    victim = farm.a.address6.rsplit("::", 1)[0] + "::1"
    farm.a.reaches(INTERNET[2])
    assert victim in farm.a.sh("ip -6 neigh show"), "the gateway is not known yet"
    farm.b.sh(f"{sys.executable} -c '{SEND_ADVERTISEMENT}' {victim} {farm.b.address6} {mac(farm.b)}")
    seen = [line for line in farm.a.sh("ip -6 neigh show").splitlines() if line.startswith(victim + " ")]
    assert seen and mac(farm.b) not in seen[0]


def test_a_router_advertisement_of_a_container_is_dropped(farm):
    farm.b.sh("ip addr add fd00:bad::1/64 dev eth0 nodad; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    process = farm.dnsmasq(farm.b, "eth0", "--port=0", "--enable-ra", "--dhcp-range=fd00:bad::,ra-only,64", "--ra-param=eth0,1,60",
                           name="rogue")
    try:
        import time
        time.sleep(3)
        assert "fd00:bad" not in farm.a.sh("ip -6 addr show dev eth0; ip -6 route")
        assert "fd00:bad" not in farm.node.sh("ip -6 addr; ip -6 route")
    finally:
        process.kill()
        farm.b.sh("ip addr del fd00:bad::1/64 dev eth0; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding; "
                  f"ip -6 route replace default via {farm.b.address6.rsplit('::', 1)[0]}::1 metric 100")


def test_port_is_the_names_server_only(farm):
    farm.node.serve(5353)
    assert farm.a.cut_off(gateway(farm.a), 5353)
    assert farm.a.cut_off(gateway(farm.a), PORT)
