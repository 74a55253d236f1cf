"""A tenant that takes all it can get: the neighbour's service keeps answering, the node's daemons live and answer, and the
culprit's container carries the reason. tests/attack/eater.c takes; each eater has its own limit, named beside it."""
import time

import pytest

from lab import machine, netns, paths, tenants

SECONDS = 250  # about, for the order in which files start

CULPRIT, NEIGHBOUR = 12, 13
PORT = 7000
# Generous, as the machine is emulated on a busy one: what fails is a service that hangs.
BOUND = 10
DAEMONS = ("netd", "storaged", "imaged", "contd", "noded", "provd")
LIMITS = {"milliCores": 500, "memory": 96 << 20, "pids": 100}


class Field:
    def __init__(self, m):
        self.all = tenants.Tenants(m)
        self.machine, self.agent = m, m.agent
        self.culprit, self.neighbour = self.all.tenant(CULPRIT), self.all.tenant(NEIGHBOUR)
        self.neighbour.start("server", "attack", "server", PORT, "alive")
        self.neighbour.wait_log("server", "ready")
        self.address = self.neighbour.attachments["server"]["address4"].split("/")[0]
        self.volume = self.culprit.volume("data", 64 << 20)
        self.mount = {"source": self.volume, "target": "/data", "readOnly": False}
        self.services = self._services()

    def _services(self):
        found = self.agent.varlink("core0", "ListServices")["services"]
        return {s["name"]: (s["state"], s["pid"]) for s in found if s["name"] in DAEMONS}

    def all_is_well(self):
        """The neighbour answers, a new container of his starts, and every daemon answers as the process that it was."""
        begin = time.monotonic()
        got = self.all.attack([["tcp", self.address, PORT]])[0]
        assert got["detail"] == "alive", got
        assert time.monotonic() - begin < BOUND * paths.SCALE
        for daemon in DAEMONS:
            self.agent.varlink(daemon, "org.varlink.service.GetInfo", timeout=BOUND)
        assert self._services() == self.services
        assert (self.neighbour.get("server")["state"], self.neighbour.get("server")["restarts"]) == ("running", 0)

    def eat(self, service, *attack, holding=True, **spec):
        """Starts an eater and waits until it has what it gets."""
        spec = {"resources": LIMITS, **spec}
        self.culprit.start(service, "attack", *attack, mounts=[self.mount], **spec)
        if holding:
            return self.culprit.wait_log(service, "holding", 120)
        return None

    def end(self, service, timeout=120):
        """Waits for its end: what it came to, and its container."""
        got = self.culprit.wait(service, lambda c: c["state"] in ("exited", "failed"), timeout)
        found = tenants.verdicts(self.culprit.log(service))
        return (found[0] if found else None), got


@pytest.fixture(scope="module")
def field(session_logs):
    disk = machine.disk_create(session_logs / "eaters.img", 16384, "eaters")
    with machine.Machine(session_logs / "eaters", ["runmode=dev"], disks=[disk], files=tenants.Tenants.files(),
                         memory=1024) as m:
        for name in DAEMONS:
            m.wait_service(name, 180)
        m.wait("address", 120, address="10.0.2.15")
        yield Field(m)


@pytest.fixture(autouse=True)
def clean(field):
    yield
    for c in field.agent.varlink("contd", "List")["containers"]:
        if c["reservation"] == CULPRIT:
            field.culprit.remove(c["service"])
    field.all_is_well()


def test_fork_bomb(field):
    """pids.max of its cgroup."""
    field.eat("bomb", "eat-processes", 15, holding=False)
    got = field.culprit.wait("bomb", lambda c: c["reason"])
    assert (got["state"], got["reason"]) == ("running", "container.pids-limit"), got
    assert "100 processes" in got["message"]
    for _ in range(3):
        field.all_is_well()
    verdict, _ = field.end("bomb")
    assert (verdict["verdict"], verdict["errno"]) == ("refused", "EAGAIN")


def test_a_service_that_fails_for_its_processes_says_so(field):
    field.culprit.start("many", "sh", "-c", "for i in $(seq 200); do sleep 20 & done; exit 1", resources=LIMITS)
    _, got = field.end("many")
    assert (got["state"], got["reason"]) == ("failed", "container.pids-limit"), got


def test_memory_hog(field):
    """memory.max of its cgroup; the file in /dev/shm, which is memory, is counted too."""
    field.culprit.start("hog", "sh", "-c", "attack eat-file 5 /dev/shm/x; attack eat-memory 5; exit 1", resources=LIMITS)
    field.all_is_well()
    verdict, got = field.end("hog")
    assert verdict["errno"] in ("ENOSPC", "9") and got["reason"] == "container.oom-killed", (verdict, got)
    field.all_is_well()


def test_page_cache(field):
    """Files read and written are memory of whoever does it, and are given up again."""
    verdict = field.culprit.attack("cache", [["eat-file", 0, "/data/cache"], ["read", "/bin/busybox"]], resources=LIMITS,
                                   mounts=[field.mount])[0]
    assert verdict["errno"] in ("EDQUOT", "ENOSPC")
    field.all_is_well()


def test_disk_filler(field):
    """The volume's quota."""
    said = field.eat("disk", "eat-file", 10, "/data/x")
    assert 1 <= int(said.split()[1]) <= 64, said
    field.all_is_well()
    other = field.neighbour.volume("data", 64 << 20)
    field.agent.sh(f"dd if=/dev/zero of={other}/x bs=1M count=16 2>/dev/null; sync {other}/x; rm {other}/x")
    verdict, _ = field.end("disk")
    assert verdict["errno"] in ("EDQUOT", "ENOSPC"), verdict


def test_inode_eater(field):
    """Files without content cost what they take in btrfs's trees, which the quota counts."""
    said = field.eat("inodes", "eat-inodes", 1, "/data/many", 20000, holding=True)
    field.all_is_well()
    verdict, _ = field.end("inodes", 240)
    status = field.agent.varlink("storaged", "GetStatus")["pools"][0]
    assert status["used"] < status["size"] / 2, (said, verdict, status)


def test_log_filler(field):
    """Four files of a fixed size, whatever is written."""
    field.eat("log", "eat-log", 10, holding=False, resources={**LIMITS, "milliCores": 2000})
    for _ in range(3):
        field.all_is_well()
    field.culprit.wait("log", lambda c: c["state"] in ("exited", "failed"), 120)
    used = int(field.agent.sh("du -sk /var/croft/logs/12-1-log").out.split()[0])
    assert 1024 < used <= 17 * 1024, used


def test_a_service_that_runs_is_told_what_its_log_lost(field):
    """From the log itself, so another contd says the same; a log of which nothing was removed gives no reason."""
    line = "x" * 4000
    wrote = "yes {} | head -n {}; echo wrote >&2; sleep 100000"
    field.culprit.start("brief", "sh", "-c", wrote.format(line, 100), resources=LIMITS)
    field.culprit.wait_log("brief", "wrote", 120)
    field.culprit.start("talker", "sh", "-c", wrote.format(line, 6000), resources=LIMITS)
    got = field.culprit.wait("talker", lambda c: c["reason"], 120)
    assert (got["state"], got["reason"]) == ("running", "container.log-rotated"), got
    assert " MiB before that are gone" in got["message"], got
    assert field.culprit.get("brief")["reason"] == "", field.culprit.get("brief")


def test_descriptor_eater(field):
    """Open files are memory of their cgroup; the machine has no other bound that one tenant could reach for all."""
    field.eat("files", "eat-descriptors", 10)
    for _ in range(3):
        field.all_is_well()
    # A daemon that is not root opens files as before.
    assert field.all.attack([["read", "/etc/passwd"]], "--uid", 106)[0]["verdict"] == "succeeded"
    field.end("files", 180)


@pytest.mark.parametrize("eater,limit", [("eat-inotify", 1024), ("eat-ptys", 256), ("eat-signals", 100000)])
def test_what_the_kernel_counts_by_user_is_counted_by_tenant(field, eater, limit):
    """inotify instances, pseudo terminals, pending signals: the tenant reaches its bound, and another has its own."""
    said = field.eat("first", eater, 30)
    got = int(said.split()[1])
    assert 10 <= got <= limit, said
    # The neighbour gets as much while the culprit keeps its own.
    field.neighbour.start("second", "attack", eater, 1, resources=LIMITS)
    second = int(field.neighbour.wait_log("second", "holding").split()[1])
    field.neighbour.remove("second")
    assert second >= got * 9 // 10, (got, second)
    # So does the node's root: core0 and contd watch their files by inotify.
    own = field.all.attack([[eater, 0]])[0]
    assert int(own["detail"].split()[0]) >= min(got, 256), own
    field.all_is_well()


def test_connection_table(field, world):
    """A bound for each container: what another begins finds room."""
    # A link behind which nobody is, so that the connections are the node's alone and not QEMU's.
    field.agent.sh("ip link add sink type bridge; ip link set sink up; ip addr add 198.51.100.254/24 dev sink")
    table = int(field.agent.text("/proc/sys/net/netfilter/nf_conntrack_max"))
    said = field.eat("connections", "eat-connections", 10, "198.51.100.", 30000)
    count = int(field.agent.text("/proc/sys/net/netfilter/nf_conntrack_count"))
    assert 3000 < count < 4096 + 1000 and count < table, (said, count, table)
    field.all_is_well()
    got = field.neighbour.attack("out", [["tcp", netns.INTERNET[0], world.port], ["udp", netns.INTERNET[0], world.port]])
    assert [v["verdict"] for v in got] == ["succeeded"] * 2, got
    # Its own next connection is what is refused.
    assert field.culprit.attack("more", [["tcp", netns.INTERNET[0], world.port]])[0]["verdict"] == "succeeded"
    field.end("connections", 180)
    field.agent.sh("ip link del sink")


def test_fragments(field):
    """Datagrams in pieces wait for the rest in one queue for all: what a container may put there is bounded, and not for long."""
    # A link behind which nobody is and nobody is asked for: what is sent there is counted and gone.
    field.agent.sh("ip link add sink type bridge; ip link set sink up arp off; ip addr add 198.51.100.254/24 dev sink; "
                   "ip -6 addr add 2001:db8:77::254/64 dev sink")
    counter = "/sys/class/net/sink/statistics/tx_bytes"

    def waiting():
        line = next(w for w in field.agent.text("/proc/net/sockstat").splitlines() if w.startswith("FRAG:"))
        return int(line.split()[4])
    try:
        field.eat("pieces", "eat-fragments", 60, "198.51.100.9", "2001:db8:77::9", resources={**LIMITS, "milliCores": 1000})
        most = int(field.agent.text("/proc/sys/net/ipv4/ipfrag_high_thresh"))
        for _ in range(3):
            assert 0 < waiting() < most / 4, waiting()
            for version, address in (("", "198.51.100.9"), ("-6", "2001:db8:77::9")):
                before = int(field.agent.text(counter))
                # Nobody answers there, so ping fails; what was sent is counted by the interface.
                field.neighbour.netns("server", f"ping {version} -c 3 -W 1 -s 4000 {address} || true")
                sent = int(field.agent.text(counter)) - before
                assert sent >= 3 * 4000, (version, sent)
            field.all_is_well()
        assert field.culprit.get("pieces")["state"] == "running"
    finally:
        field.agent.sh("ip link del sink")
