"""What a container reaches: the internet, its own project, and nothing of the farm, the node or other
tenants, over IPv4 and IPv6. Every closed host answers the node itself, so that silence means closed."""
import pytest

from lab import netns

SECONDS = 115  # about, for the order in which files start

UDP = "timeout 2 tftp -g -r x -l /tmp/x {address} {port}"  # a datagram to any port
NC = "nc -w 4 {address} {port} </dev/null 2>&1 | head -c 100"


def inside(node, it, service, script, timeout=60):
    """Runs a script in the network namespace of a container, with the tests' own BusyBox."""
    path = f"/run/croft/containers/{it.id}-1-{service}/netns"
    return node.agent.run("/croft-test/busybox", "nsenter", f"-n{path}", "/croft-test/busybox", "sh",
                          "-c", script, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def pair(node):
    """Two reservations with a container each, the first with a published port."""
    server = {"image": "busybox", "command": ["sh", "-c", "while :; do echo inside | nc -l -p 7000; done"]}
    first = node.deploy({"a": {**server, "ports": [f"{node.ports[2]}:7000"]}, "b": server}, name="first")
    second = node.deploy({"c": server}, name="second")
    yield first, second
    second.cancel()
    first.cancel()


def says(node, it, service, address, port):
    return inside(node, it, service, NC.format(address=address, port=port)).out.strip()


@pytest.mark.parametrize("address", netns.INTERNET)
def test_the_internet_answers(node, pair, world, address):
    assert says(node, pair[0], "a", address, world.port) == f"this is {address}"
    world.heard.clear()
    inside(node, pair[0], "a", UDP.format(address=address, port=world.port))
    assert ("udp", address) in world.heard


@pytest.mark.parametrize("address", netns.CLOSED)
def test_closed_ranges_are_closed(node, pair, world, address):
    control = node.agent.sh(NC.format(address=address, port=world.port)).out.strip()
    assert control == f"this is {address}", "the host does not answer the node either"
    world.heard.clear()
    assert f"this is {address}" not in says(node, pair[0], "a", address, world.port)
    inside(node, pair[0], "a", UDP.format(address=address, port=world.port))
    assert not [h for h in world.heard if h[1] == address]


@pytest.mark.parametrize("address", ("10.0.2.2", "fec0::2"))
def test_the_farms_lan_is_closed(node, pair, world, address):
    """The host on the node's own link."""
    assert node.agent.sh(NC.format(address=address, port=world.port)).out.startswith("this is")
    assert "this is" not in says(node, pair[0], "a", address, world.port)


def test_a_link_local_neighbour_of_the_node_is_closed(node, pair):
    """The router of the node's own link, under its link-local address."""
    ping = "ping -6 -c 1 -W 2 fe80::2%eth0"
    assert node.agent.sh(ping, check=False).status == 0
    assert inside(node, pair[0], "a", ping).status != 0


def addresses(node):
    """All addresses of the node except loopback, as (link, address)."""
    text = node.agent.sh("ip -o addr show | awk '{print $2, $4}'").out
    found = [line.split() for line in text.splitlines()]
    return [(dev.rstrip(":"), a.split("/")[0]) for dev, a in found if not a.startswith(("127.", "::1"))]


def test_every_address_of_the_node_is_closed(node, pair):
    """A server on the node, on all its addresses: uplink, bridges of this tenant and of others, link-local."""
    pid = node.agent.sh("nc -ll -p 7777 -e /croft-test/busybox echo the node </dev/null >/dev/null 2>&1 & echo $!").out.strip()
    try:
        found = addresses(node)
        for prefix in ("10.0.2.", "100.", "fec0:", "fd"):
            assert [a for _, a in found if a.startswith(prefix)], found
        assert {dev for dev, a in found if a.startswith("fe80:")} >= {dev for dev, a in found if a.startswith("fd")}
        for dev, address in found:
            local = address.startswith("fe80:")
            control = node.agent.sh(NC.format(address=f"{address}%{dev}" if local else address, port=7777)).out
            assert "the node" in control, (dev, address)
            if local:
                address += "%eth0"
            assert "the node" not in says(node, pair[0], "a", address, 7777), (dev, address)
    finally:
        node.agent.sh(f"kill {pid}")


def attachment(node, it, service):
    return next(a for a in node.agent.varlink("netd", "List")["attachments"]
                if a["reservation"] == it.id and a["service"] == service)


def test_a_project_reaches_itself_by_name_and_no_other(node, pair):
    first, second = pair
    own, other = attachment(node, first, "b"), attachment(node, second, "c")
    assert says(node, first, "a", own["address4"].split("/")[0], 7000) == "inside"
    for address in (other["address4"], other["address6"]):
        address = address.split("/")[0]
        if address:
            assert says(node, first, "a", address, 7000) != "inside", address
            assert says(node, second, "c", address, 7000) == "inside", "the control does not answer"


def test_the_published_port_answers_from_outside_and_through_the_hairpin(node, pair):
    import socket
    with socket.create_connection(("127.0.0.1", node.ports[2]), 10) as s:
        s.settimeout(10)
        assert s.recv(100) == b"inside\n"


def test_a_forged_source_address_does_not_leave(node, pair, world):
    """Someone with NET_ADMIN in the namespace takes the address of another container."""
    first, second = pair
    other = attachment(node, second, "c")["address4"].split("/")[0]
    world.heard.clear()
    target = netns.INTERNET[0]
    inside(node, first, "b", f"ip addr add {other}/32 dev eth0; "
           f"ip route add {target}/32 dev eth0 src {other} via $(ip route | awk '/default/ {{print $3}}')")
    assert "this is" not in says(node, first, "b", target, world.port)
    inside(node, first, "b", f"ip route del {target}/32; ip addr del {other}/32 dev eth0")
    assert "this is" in says(node, first, "b", target, world.port), "the control does not answer"
