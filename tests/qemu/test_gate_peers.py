"""Who is at the other end of the gate: peers that die without a word, and another node whose challenges are no use here."""
import time

import pytest

from lab import gate as lab_gate, levels, machine, node as lab_node, paths, ports
from lab.gate import GateError
from lab.node import wait_for

SECONDS = 140  # about, for the order in which files start

TENANT = 2  # account of the chain
FOLLOWERS = 8
# What docs/gate.md states (seconds): after a sign of life, which comes this often, so long without an acknowledgement.
SIGN, PATIENCE = 20, 60
SLOW = 20  # what the machine and the test may take to get to it, times paths.SCALE
IDLE = "sleep 4730"
LOUD = "yes 4731"
QUIET = {"image": "busybox", "stop_grace_period": "1s", "command": ["sh", "-c", "echo begin; exec sleep 100000"]}


class Place:
    """A node with two networks; the second one can be made a black hole: its frames are held, and no link goes down."""

    def __init__(self, grid, images, folder):
        self.port, self.doomed_port = ports.free(), ports.free()
        net = ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:{lab_gate.PORT}",
               "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56",
               "-netdev", f"user,id=net1,net=10.0.3.0/24,ipv6=off,hostfwd=tcp:127.0.0.1:{self.doomed_port}-:{lab_gate.PORT}",
               "-device", "virtio-net-pci,netdev=net1,mac=52:54:00:12:34:57"]
        self.node = lab_node.Node(grid, folder / "peers", images, memory=1536, net=net,
                                  disks=[machine.disk_create(folder / "peers.img", 16 << 10, "peers")])
        key = lab_gate.read_key(grid.keys[TENANT])
        self.gate, self.doomed = lab_gate.Gate(self.port, key), lab_gate.Gate(self.doomed_port, key)

    def start(self):
        self.node.start()
        self.node.machine.wait("listening", 120, service="gated")
        wait_for(lambda: any(a.startswith("10.0.3.15/") for link in self.agent.varlink("netd", "GetStatus")["links"]
                             for a in link["addresses"]), 120, "no address in the second network")
        self.it = self.node.deploy({"quiet": QUIET}, name="peers")

    @property
    def agent(self):
        return self.node.agent

    def dies(self):
        self.node.machine.qmp("object-add", **{"qom-type": "filter-buffer", "id": "hole", "netdev": "net1", "queue": "all",
                                               "interval": 4_000_000_000})

    def lives_again(self):
        self.node.machine.qmp("object-del", id="hole")

    def connections(self):
        """Those that the gate has, by the kernel's list; 01: established (tcp_states.h)."""
        rows = [line.split() for name in ("tcp", "tcp6") for line in self.agent.text(f"/proc/net/{name}").splitlines()[1:]]
        return sum(row[1].endswith(f":{lab_gate.PORT:04X}") and row[3] == "01" for row in rows)

    def told(self):
        """What the kernel knows of the gate's connections, and what gated has said lately."""
        rows = [line for name in ("tcp", "tcp6") for line in self.agent.text(f"/proc/net/{name}").splitlines() if f":{lab_gate.PORT:04X} " in line]
        return "\n".join(rows + [str(e) for e in self.node.machine.events if e.get("service") == "gated"][-20:])

    def size(self):
        """Memory (KiB) and descriptors of gated and contd."""
        return {name: found for (name, _), found in levels.programs(self.agent).items() if name in ("gated", "contd")}

    def running(self, command):
        rows = self.agent.run("/croft-test/busybox", "ps", "-o", "args").out.splitlines()
        return [row for row in rows if row.strip() == command]

    def sessions(self):
        return self.agent.sh("ls /run/croft/exec; find /sys/fs/cgroup -type d -name 'exec-*'", check=False).out.split()

    def follow(self, gate, count):
        """So many followers, which have the first line."""
        found = []
        for _ in range(count):
            link, entries = gate.follow(self.it.id, follow=1)
            assert next(e for e in entries if e)["line"] == "begin"
            found.append((link, entries))
        return found


@pytest.fixture(scope="module")
def place(grid, images, session_logs):
    it = Place(grid, images, session_logs)
    with it.node:
        it.start()
        yield it


def test_dead_peers_are_noticed_and_give_everything_back(place):
    """Readers that wait, a program that waits and one that pours out: their peer is gone, and nobody says so."""
    for link, _ in place.follow(place.doomed, FOLLOWERS):  # so that the second time nothing is new to anybody
        link.close()
    wait_for(lambda: place.connections() == 0, 60, "who hung up is kept")
    [(link, entries)] = place.follow(place.gate, 1)
    before = place.size()
    dead = place.follow(place.doomed, FOLLOWERS)
    idle = place.doomed.exec(place.it.id, "sh", "-c", f"echo go; exec {IDLE}")
    idle.until(b"go\n")
    during = place.size()
    assert during["gated"]["descriptors"] >= before["gated"]["descriptors"] + FOLLOWERS + 1
    assert during["gated"]["memory"] > before["gated"]["memory"] + 64
    assert place.running(IDLE) and place.sessions()
    # Last, as it is let go for what nobody takes, too.
    loud = place.doomed.exec(place.it.id, *LOUD.split())
    loud.until(b"4731\n")
    place.dies()
    begun = time.monotonic()
    assert place.connections() == FOLLOWERS + 3
    try:
        wait_for(lambda: place.connections() == 1, SIGN + PATIENCE + SLOW, lambda: f"not one connection alone:\n{place.told()}")
        took = time.monotonic() - begun
        assert took < SIGN + PATIENCE + SLOW * paths.SCALE, took
        wait_for(lambda: not place.running(IDLE) and not place.running(LOUD) and not place.sessions(), 30,
                 f"their programs are kept: {place.sessions()}")
        wait_for(lambda: {n: s["descriptors"] for n, s in place.size().items()}
                 == {n: s["descriptors"] for n, s in before.items()}, 30, f"descriptors are kept: {before}, {place.size()}")
        after = place.size()
        assert after["gated"]["memory"] < before["gated"]["memory"] + 64, (before, during, after)
    finally:
        place.lives_again()
    # Who lives was told that all the while, and is served as ever.
    assert next(entries) is None
    link.close()
    for one in [idle, loud, *(link for link, _ in dead)]:
        one.close()
    assert place.doomed.logs(place.it.id)[0]["line"] == "begin"


def test_another_nodes_challenge_is_no_use_here(place, node):
    """Two real nodes of one grid: what is signed for one is refused by the other, and so is one's nonce in the other's name."""
    port = ports.free()
    node.machine.forward(port, lab_gate.PORT)
    node.machine.wait("listening", 120, service="gated")
    assert node.number != place.node.number
    here, there = place.gate, lab_gate.Gate(port, place.gate.key)
    given = there.challenge(place.it.id)
    assert given["node"] == node.number and given["reservation"] == place.it.id
    lies = [given, {**given, "node": place.node.number}, {**here.challenge(place.it.id), "node": node.number}]
    for challenge, code in zip(lies, ("gate.bad-challenge", "gate.bad-challenge", "gate.not-allowed")):
        with pytest.raises(GateError) as e:
            here.call("status", place.it.id, "/v1/status", challenge=challenge)
        assert e.value.code == code, (challenge, e.value)
    # It had not been used up by being shown elsewhere; there nobody has such a reservation.
    with pytest.raises(GateError) as e:
        there.call("status", place.it.id, "/v1/status", challenge=given)
    assert e.value.code == "gate.not-allowed", e.value
    assert here.status(place.it.id)["containers"]
