"""Published ports: from outside, from the node, through the hairpin; taken ports; connections that end with their rule."""
import sys

import pytest

from netlab import PORT, Refused, port


def outside(farm):
    return farm.addresses()[0], farm.addresses(family=6)[0]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("version", [0, 1])
def test_a_published_port_answers_from_the_lan(farm, kind, version):
    assert farm.lanhost.reaches(outside(farm)[version], 8080, kind=kind)


def test_the_container_sees_the_real_client(farm):
    assert "you are 192.168.7.9" in farm.lanhost.ask(outside(farm)[0], 8080)
    assert "you are 2001:db8:7::9" in farm.lanhost.ask(outside(farm)[1], 8080)


@pytest.mark.parametrize("version", [0, 1])
def test_the_node_itself_reaches_it(farm, version):
    assert farm.node.reaches(outside(farm)[version], 8080)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("who", ["a", "b", "c"])
def test_hairpin(farm, who, version):
    """The container itself, its neighbour, and another reservation: the port is open to the world."""
    assert getattr(farm, who).reaches(outside(farm)[version], 8080)


def test_another_port_does_not(farm):
    assert farm.lanhost.cut_off(outside(farm)[0], PORT)
    assert farm.lanhost.cut_off(outside(farm)[0], 8081)


def test_a_port_of_another_reservation_is_refused(farm):
    with pytest.raises(Refused) as refused:
        farm.call("Expose", reservation=2, names=[], ports=[port(9999, "c"), port(8080, "c")])
    assert refused.value.code == "net.port-in-use"
    assert not [p for p in farm.call("List")["ports"] if p["reservation"] == 2], "half of it was done"
    assert farm.lanhost.cut_off(outside(farm)[0], 9999)


@pytest.mark.parametrize("number,protocol", [(4443, "tcp"), (68, "udp"), (7779, "tcp")])
def test_a_port_of_the_node_is_refused(farm, number, protocol):
    if number == 7779:
        farm.node.serve(number)
    with pytest.raises(Refused) as refused:
        farm.call("Expose", reservation=2, names=[], ports=[port(number, "c", protocol=protocol)])
    assert refused.value.code == "net.port-in-use"


def test_the_port_of_names_can_be_published(farm):
    """netd's own sockets on the gateways are not in the way, and containers still ask their gateway."""
    farm.call("Expose", reservation=2, names=[], ports=[port(53, "c", protocol="udp")])
    assert farm.lanhost.reaches(outside(farm)[0], 53, kind="udp")
    from test_names import ask
    assert ask(farm.a, "b") == ["0", farm.b.address4]
    farm.call("Expose", reservation=2, names=[], ports=[])


@pytest.mark.parametrize("bad", [
    {"protocol": "sctp"}, {"published": 0}, {"published": 65536}, {"target": 0}, {"service": "../x"}, {"service": "nobody"},
    {"revision": 0}, {"more": 1}])
def test_bad_requests(farm, bad):
    with pytest.raises(Refused) as refused:
        farm.call("Expose", reservation=2, names=[], ports=[{**port(9000, "c"), **bad}])
    assert refused.value.code in ("net.bad-request", "net.no-attachment")


def test_a_port_twice_and_an_internal_network(farm):
    with pytest.raises(Refused) as refused:
        farm.call("Expose", reservation=2, names=[], ports=[port(9000, "c"), port(9000, "c", 81)])
    assert refused.value.code == "net.bad-request"
    farm.container(6, "hidden", networks=("internal",), serve=False)
    with pytest.raises(Refused) as refused:
        farm.call("Expose", reservation=6, names=[], ports=[port(9000, "hidden")])
    assert refused.value.code == "net.port-internal"
    farm.call("RemoveReservation", reservation=6)


HOLD = r"""
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
s.settimeout(2)
assert s.recv(200)
print("up", flush=True)
for line in sys.stdin:
    try:
        s.sendall(b"x")
        print("echo" if s.recv(10) == b"x" else "gone", flush=True)
    except OSError:
        print("gone", flush=True)
"""


class Held:
    """A connection that lives, and can be asked whether it does."""

    def __init__(self, namespace, address, number):
        import subprocess
        self.process = namespace.spawn(sys.executable, "-c", HOLD, address, str(number), stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n"

    def lives(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == "echo\n"


def test_connections_of_a_removed_port_end_and_others_live(farm):
    node4 = outside(farm)[0]
    farm.call("Expose", reservation=2, names=[], ports=[port(8200, "c"), port(8201, "c")])
    gone, stays, other = Held(farm.lanhost, node4, 8200), Held(farm.lanhost, node4, 8201), Held(farm.lanhost, node4, 8080)
    assert gone.lives() and stays.lives() and other.lives()
    farm.call("Expose", reservation=2, names=[], ports=[port(8201, "c")])
    assert not gone.lives()
    assert stays.lives() and other.lives()
    farm.call("Expose", reservation=2, names=[], ports=[])


def test_a_port_moves_to_the_next_revision(farm):
    node4 = outside(farm)[0]
    farm.call("Expose", reservation=2, names=[], ports=[port(8200, "c")])
    held = Held(farm.lanhost, node4, 8200)
    farm.container(2, "c", revision=2)
    farm.call("Expose", reservation=2, names=[], ports=[port(8200, "c", revision=2)])
    assert not held.lives()
    assert farm.lanhost.reaches(node4, 8200)
    farm.call("Detach", reservation=2, revision=2, service="c")
    assert farm.lanhost.cut_off(node4, 8200)
    farm.call("Expose", reservation=2, names=[], ports=[])


def test_the_end_of_a_reservation_leaves_nothing(lab):
    lab.dhcp(*lab.RA)
    lab.start()
    lab.online()
    before = (lab.ruleset(), lab.node.sh("ip -o link | sed 's/^[0-9]*: //'"), (lab.folder / "state.json").read_text()
              if (lab.folder / "state.json").exists() else None)
    a = lab.container(7, "a")
    b = lab.container(7, "b", networks=("default", "internal"))
    lab.call("Expose", reservation=7, ports=[port(8080, "a")], names=[])
    held = Held(lab.lanhost, lab.addresses()[0], 8080)
    out = Held(a, "203.0.113.9", PORT)
    assert held.lives() and out.lives()
    lab.call("RemoveReservation", reservation=7)
    assert not held.lives() and not out.lives()
    assert (lab.ruleset(), lab.node.sh("ip -o link | sed 's/^[0-9]*: //'")) == before[:2]
    assert lab.call("List") == {"networks": [], "attachments": [], "ports": []}
    assert "eth0" not in a.sh("ip -o link") and "eth1" not in b.sh("ip -o link")
    assert not [line for line in lab.node.sh("conntrack -L 2>/dev/null").splitlines() if a.address4 in line]
    # Again, as after a crash in between: nothing to do is no failure.
    lab.call("RemoveReservation", reservation=7)
