"""Names: services of the own networks, nothing of the farm, the rest from the links' servers."""
import signal
import sys

import pytest

from test_ports import Held

SECONDS = 40  # about, for the order in which files start

QUERY = r"""
import os, socket, struct, sys
server, name, kind, tcp = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "tcp"
family = socket.AF_INET6 if ":" in server else socket.AF_INET
number = os.urandom(2)
q = number + b"\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l) + b"\0" + struct.pack(">HH", kind, 1)
s = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[5]))
s.connect((server, 53))
if tcp:
    s.sendall(struct.pack(">H", len(q))[:1]); s.sendall(struct.pack(">H", len(q))[1:] + q[:5]); s.sendall(q[5:])
    size = struct.unpack(">H", s.recv(2, socket.MSG_WAITALL))[0]
    a = s.recv(size, socket.MSG_WAITALL)
else:
    s.send(q)
    a = s.recv(65535)
assert a[:2] == number
rcode = a[3] & 15
count = struct.unpack(">H", a[6:8])[0]
at, found = len(q), []
for _ in range(count):
    at += 2 if a[at] >= 192 else a.index(0, at) + 1 - at
    t, c, ttl, size = struct.unpack(">HHIH", a[at:at + 10])
    data = a[at + 10:at + 10 + size]
    if t in (1, 28):
        found.append(socket.inet_ntop(socket.AF_INET if t == 1 else socket.AF_INET6, data))
    at += 10 + size
print(rcode, *sorted(found))
"""


def gateways(container):
    return container.address4.rsplit(".", 1)[0] + ".1", container.address6.rsplit("::", 1)[0] + "::1"


def ask(container, name, kind=1, tcp=False, server=None, timeout=8):
    done = container.sh(f"{sys.executable} -c '{QUERY}' {server or gateways(container)[0]} '{name}' {kind} "
                        f"{'tcp' if tcp else 'udp'} {timeout}", check=False, timeout=timeout + 20)
    return done.split()


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("version", [0, 1])
def test_a_service_finds_another(farm, tcp, version):
    server = gateways(farm.a)[version]
    assert ask(farm.a, "b", tcp=tcp, server=server) == ["0", farm.b.address4]
    assert ask(farm.a, "B", 28, tcp=tcp, server=server) == ["0", farm.b.address6]


def test_a_known_name_has_no_other_records(farm):
    assert ask(farm.a, "b", 15) == ["0"]


def test_names_of_other_reservations_do_not_exist(farm):
    assert ask(farm.c, "b") == ["3"]
    # Not even at the other's gateway, which does not answer.
    assert ask(farm.c, "b", server=gateways(farm.a)[0]) == []


@pytest.mark.parametrize("tcp", [False, True])
def test_the_world_has_names(farm, tcp):
    assert ask(farm.a, "example.test", tcp=tcp) == ["0", "203.0.113.9"]
    assert ask(farm.a, "example.test", 28, tcp=tcp) == ["0", "2001:db8:77::9"]


@pytest.mark.parametrize("name,kind", [("nas", 1), ("printer.local", 1), ("router.lan", 1), ("1.7.168.192.in-addr.arpa", 12),
                                       ("5.0.99.10.in-addr.arpa", 12), ("9.9.16.172.in-addr.arpa", 12),
                                       ("9.1.64.100.in-addr.arpa", 12)])
def test_names_of_the_farm_are_not_told(farm, name, kind):
    assert ask(farm.a, name, kind) == ["3"]


def test_public_reverse_names_are_asked_for(farm):
    """172.15 and 100.63 are public: the farm's resolver answers (here: that it knows nothing), not netd."""
    log = farm.folder / "dnsmasq.log"
    assert ask(farm.a, "9.9.15.172.in-addr.arpa", 12)[0] != "", log.read_text()[-500:]


def test_an_internal_network_knows_itself_and_not_the_world(farm):
    x = farm.container(4, "x", networks=("internal",), serve=False)
    farm.call("Expose", reservation=4, ports=[], names=[{"network": "internal", "name": "x", "revision": 1, "service": "x"}])
    assert ask(x, "x") == ["0", x.address4]
    assert ask(x, "example.test") == ["3"]
    farm.call("RemoveReservation", reservation=4)


def test_a_service_of_two_networks_finds_the_names_of_both(farm):
    both = farm.container(5, "both", networks=("front", "back"), serve=False)
    front = farm.container(5, "f", networks=("front",), serve=False)
    back = farm.container(5, "k", networks=("back",), serve=False)
    farm.call("Expose", reservation=5, ports=[], names=[
        {"network": "front", "name": "f", "revision": 1, "service": "f"},
        {"network": "back", "name": "k", "revision": 1, "service": "k"}])
    assert ask(both, "f") == ["0", front.address4]
    assert ask(both, "k") == ["0", back.address4]
    assert ask(front, "k") == ["3"]
    farm.call("RemoveReservation", reservation=5)


def test_rubbish_is_survived_and_a_flood_starves_no_neighbour(farm):
    farm.a.sh(f"""{sys.executable} -c '
import os, random, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(3000):
    s.sendto(os.urandom(random.randrange(1, 600)), ("{gateways(farm.a)[0]}", 53))
q = b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + b"\\4slow\\4test\\0\\0\\1\\0\\1"
for i in range(3000):
    s.sendto(os.urandom(2) + q, ("{gateways(farm.a)[0]}", 53))
'""")
    assert ask(farm.c, "example.test") == ["0", "203.0.113.9"]


def test_without_a_server_the_answer_is_failure(lab):
    lab.dnsmasq(lab.router, "sw", "--dhcp-range=192.168.7.50,192.168.7.60", "--port=0", "--dhcp-option=6,192.168.7.1")
    lab.start()
    lab.wait(lab.addresses, "no address")
    a = lab.container(1, "a", serve=False)
    assert ask(a, "example.test") == ["2"]
    assert ask(a, "example.test", tcp=True) == ["2"]
    assert (lab.folder / "resolv.conf").read_text() == "nameserver 192.168.7.1\n"


@pytest.mark.parametrize("how", ["silent", "dead"])
def test_the_servers_are_away_and_come_back(lab, how):
    """Names of the own services go on, names of the world fail in a bounded time and are there again with the server; what is
    connected stays so, and netd is the same process. (Three questions of 2 s each to a silent server; clients of the
    usual libraries wait 10 s and more.)"""
    dhcp = lab.dnsmasq(lab.router, "sw", "--dhcp-range=192.168.7.50,192.168.7.60", "--port=0", "--dhcp-option=6,192.168.7.1")
    options = ("--address=/example.test/203.0.113.9", "--except-interface=lo")
    server = lab.dnsmasq(lab.router, "sw", *options, name="server")
    lab.start()
    lab.wait(lab.addresses, "no address")
    a, b = lab.container(1, "a"), lab.container(1, "b")
    lab.call("Expose", reservation=1, ports=[], names=[{"network": "default", "name": "b", "revision": 1, "service": "b"}])
    lab.wait(lambda: ask(a, "example.test") == ["0", "203.0.113.9"], "the world has no names")
    held = Held(a, "203.0.113.9", 7000)
    before = lab.netd.pid
    if how == "silent":
        server.send_signal(signal.SIGSTOP)
    else:
        server.kill()
        server.wait()
    for _ in range(2):
        for tcp in (False, True):
            assert ask(a, "example.test", tcp=tcp, timeout=30) == ["2"]
            assert ask(a, "b", tcp=tcp) == ["0", b.address4]
    assert held.lives() and lab.netd.poll() is None
    if how == "silent":
        server.send_signal(signal.SIGCONT)
    else:
        lab.dnsmasq(lab.router, "sw", *options, name="server")
    lab.wait(lambda: ask(a, "example.test") == ["0", "203.0.113.9"], "the world has no names again")
    assert held.lives() and lab.netd.pid == before and lab.netd.poll() is None and dhcp.poll() is None
