"""Every daemon of a node replaced by another build of it while containers run: what runs goes on, and nobody loses a line of a log
or a byte of a connection."""
import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

from lab import gate as lab_gate, machine, node as lab_node, paths, ports, process, traces
from lab.node import wait_for

SECONDS = 45  # about, for the order in which files start

NEWER = "newer"  # NEWER_VERSION of scripts/make/code.mk
TENANT = 2       # account of the chain
DAEMONS = ["netd", "imaged", "noded", "provd", "contd", "kvd", "gated", "storaged"]
VOLATILE = ["lastReport", "nonce", "uptime", "version"]  # of `croft node show`
STOP = {"stop_grace_period": "1s"}


def services(port):
    return {
        "echo": {**STOP, "image": "busybox", "command": ["nc", "-ll", "-p", "80", "-e", "cat"], "ports": [f"{port}:80"]},
        "count": {**STOP, "image": "busybox",
                  "command": ["sh", "-c", "i=0; while :; do echo line $$i; i=$$((i + 1)); sleep 0.05; done"]},
    }


class Background:
    """Work in a thread of its own until done(); what it died of is raised by whoever looks."""

    def __init__(self):
        self.failed, self.over = None, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.over.is_set():
                self.step()
        except BaseException as e:  # the test's thread tells it
            self.failed = e

    def look(self):
        if self.failed:
            raise self.failed

    def done(self):
        self.over.set()
        self.thread.join(60 * paths.SCALE)
        self.look()
        assert not self.thread.is_alive()


class Talk(Background):
    """One connection to the echo, kept for the whole test: each word is on its way to the container or back all the time."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60 * paths.SCALE)
        self.socket.settimeout(60 * paths.SCALE)
        self.file = self.socket.makefile("rb")
        self.words = 0
        super().__init__()

    def step(self):
        word = b"word %d %s\n" % (self.words, b"x" * (self.words % 700))
        self.socket.sendall(word)
        heard = self.file.readline()
        assert heard == word, f"{heard!r} came back instead of word {self.words}"
        self.words += 1

    def goes_on(self):
        """Until a word has gone both ways since now."""
        at = self.words + 1  # the one that is under way may have been on its way back already
        wait_for(lambda: self.look() or self.words > at, 60, "nothing comes back any more")


class Knock(Background):
    """One new connection after another."""

    def __init__(self, port):
        self.port, self.count = port, 0
        super().__init__()

    def step(self):
        with socket.create_connection(("127.0.0.1", self.port), 60 * paths.SCALE) as link:
            link.settimeout(60 * paths.SCALE)
            link.sendall(b"knock\n")
            assert link.makefile("rb").readline() == b"knock\n", f"connection {self.count} was refused"
        self.count += 1
        self.over.wait(0.05)

    def goes_on(self):
        at = self.count + 1
        wait_for(lambda: self.look() or self.count > at, 60, "no new connection is taken any more")


class Reader(Background):
    """Follows a log through the gate. Cut off, it asks again from behind the last line that it has."""

    def __init__(self, gate, reservation):
        self.gate, self.reservation = gate, reservation
        self.numbers, self.at, self.cuts = [], None, 0
        super().__init__()

    def step(self):
        try:
            link, entries = self.gate.follow(self.reservation, service="count", follow=1, **({"after": self.at} if self.at else {}))
        except (lab_gate.Gone, OSError):  # it is on its way back
            return self.over.wait(0.2)
        except lab_gate.GateError as e:
            assert e.code == "gate.not-ready", e
            return self.over.wait(0.2)
        with link:
            try:
                for entry in entries:
                    if entry:
                        self.numbers.append(int(entry["line"].removeprefix("line ")))
                        self.at = entry["at"]
                    if self.over.is_set():
                        return None
            except lab_gate.Gone:
                pass
            self.cuts += 1

    def goes_on(self):
        seen = len(self.numbers)
        wait_for(lambda: self.look() or len(self.numbers) > seen, 60, "no line comes any more")

    def whole(self):
        assert self.numbers == list(range(len(self.numbers))), next(
            (f"line {i} is followed by {n}" for i, n in enumerate(self.numbers) if i != n), None)


class Place:
    def __init__(self, node):
        self.node, self.agent = node, node.agent
        self.port, self.kv_port = node.ports
        gate_port = ports.free()
        node.machine.forward(gate_port, lab_gate.PORT)
        node.machine.wait("listening", 120, service="gated")
        self.gate = lab_gate.Gate(gate_port, lab_gate.read_key(node.grid.keys[TENANT]))
        self.gate_port = gate_port

    # -- the programs

    def services(self):
        return {s["name"]: s for s in self.agent.varlink("core0", "ListServices")["services"]}

    def service_of(self, program):
        """Its service: of kvd an instance for each pool."""
        return next(name for name in self.services() if name.split("@")[0] == program and not name.endswith("@"))

    def pids(self):
        return {name: s["pid"] for name, s in self.services().items()}

    def build(self, program, pid):
        """Which build the running program says it is, and the digest of the file that it really runs."""
        digest = self.agent.sh(f"sha256sum < /proc/{pid}/exe").out.split()[0]
        if program == "kvd":
            info = subprocess.run(["redis-cli", "-p", str(self.kv_port), "INFO"], text=True, capture_output=True,
                                  timeout=60 * paths.SCALE, check=True).stdout
            return re.search(r"server_revision: (\S+)", info).group(1), digest
        if program == "gated":  # it has no socket: what the file says of itself
            return self.agent.run(f"/proc/{pid}/exe", "--version").out.split()[1], digest
        return self.agent.varlink(program, "org.varlink.service.GetInfo")["version"], digest

    # -- what is there

    def state(self, number):
        """What the daemons and the chain know of the reservation and the node."""
        call = self.agent.varlink
        own = [c for c in call("contd", "List")["containers"] if c["reservation"] == number]
        net = call("netd", "List")
        node = call("noded", "GetStatus")
        return {
            "containers": [{k: c[k] for k in ("service", "state", "health", "pid", "restarts")} for c in own],
            "started": [self.agent.text(f"/proc/{c['pid']}/stat").rsplit(")", 1)[1].split()[19] for c in own],
            "net": {k: [x for x in net[k] if x.get("reservation") == number] for k in ("networks", "attachments", "ports")},
            "mounts": [m for m in call("imaged", "List")["mounts"] if m["reservation"] == number],
            "volumes": sorted(v["key"] for v in call("storaged", "ListVolumes")["volumes"]),
            "spaces": sorted((s["namespace"], s["port"]) for s in call("storaged", "ListSpaces")["spaces"]),
            "node": {k: node[k] for k in ("state", "node", "identity", "registry", "keys", "ephemeral", "foreign", "farm")},
            "entry": [(e["chainState"], e["step"]) for e in self.node.entries() if e["reservation"] == number],
            "chain": [(r["state"], r["transitions"]) for r in [self.node.grid.reservation(number)]],
            "registered": self.registered(),
        }

    def registered(self):
        """The node as the chain has it, but when it reported last, and how often."""
        return {k: v for k, v in self.node.grid.node(self.node.number).items() if k not in VOLATILE}

    def is_again(self, before, number, program):
        last = {}

        def same():
            last.clear()
            last.update(self.state(number))
            return self.node.status()["state"] == "running" and last == before
        try:
            wait_for(same, 120, "")
        except AssertionError:
            raise AssertionError(f"after {program}: {[(k, before[k], last[k]) for k in last if last[k] != before[k]]}") from None

    def replace(self, program):
        """As docs/services.md says."""
        name, newer = self.service_of(program), (paths.BUILD / "newer" / program).read_bytes()
        before = self.pids()
        version, digest = self.build(program, before[name])
        assert version != NEWER and digest == hashlib.sha256((paths.BUILD / "bin" / program).read_bytes()).hexdigest()
        self.agent.write(f"/usr/lib/croft/.{program}", newer, 0o755)
        self.agent.sh(f"mv /usr/lib/croft/.{program} /usr/lib/croft/{program}")
        mark = self.node.machine.mark()
        self.agent.varlink("core0", "RestartService", name=name, timeout=60)
        self.node.machine.wait_service(name, 120, mark)
        now = self.pids()
        assert now.pop(name) != before.pop(name) and now == before, f"with {program} another service began anew"
        wait_for(lambda: self.answers(program), 60, f"{program} does not answer")
        assert self.build(program, self.pids()[name]) == (NEWER, hashlib.sha256(newer).hexdigest())

    def answers(self, program):
        return program != "kvd" or self.kv("PING") == ["PONG"]

    def kv(self, *lines):
        done = subprocess.run(["redis-cli", "-p", str(self.kv_port)], input="\n".join([*lines, ""]), text=True, capture_output=True,
                              timeout=60 * paths.SCALE)
        return [line for line in done.stdout.splitlines() if line]


@pytest.fixture(scope="module")
def place(grid, images, session_logs):
    disk = machine.disk_create(session_logs / "replace.img", 16 << 10, "replace")
    free = [ports.free() for _ in range(2)]
    with lab_node.Node(grid, session_logs / "replace", images, forwards={p: p for p in free}, disks=[disk], memory=1536) as node:
        node.ports = free
        yield Place(node.start())


def test_each_daemon_is_replaced_while_containers_run(place):
    """No container starts again, no line of a log is lost or told twice, and a connection through a published port lives on."""
    node, agent = place.node, place.agent
    more = {"x-croft": {"keep": "0s", "kv": {"cache": {"size": "16MiB", "password": "open", "mode": "user", "port": place.kv_port}}}}
    with node.deployed(services(place.port), name="talk", **more) as it:
        space = it.answer["kv"]["cache"]["namespace"]
        assert place.kv(f"SELECT {space} open", "SET kept value") == ["OK", "kept"]
        talk, knock, reader = watched = Talk(place.port), Knock(place.port), Reader(place.gate, it.id)
        croft = process.Process("croft logs", [paths.CROFT, "logs", it.id, "count", "--follow", "--gate", f"127.0.0.1:{place.gate_port}"],
                                node.folder / "follow.log", env=node.grid.tenant().env)
        for one in watched:
            one.goes_on()
        before, found = place.state(it.id), traces.plain(traces.collect(agent))
        for program in DAEMONS:
            cuts = reader.cuts
            place.replace(program)
            for one in watched:
                one.goes_on()
            assert reader.cuts - cuts == (program == "gated"), f"{program} cut the reader off {reader.cuts - cuts} times"
            place.is_again(before, it.id, program)
        assert place.kv(f"SELECT {space} open", "GET kept") == ["OK", "value"]
        for one in watched:
            one.done()
        reader.whole()
        # So does `croft logs --follow`: it asks again by itself, and says nothing of it.
        croft.wait_log(f"line {reader.numbers[-1]}\n", 60)
        croft.stop()
        shown = croft.log.read_text().rsplit("\n", 1)[0].splitlines()
        assert shown == [f"line {i}" for i in range(len(shown))]
        wrong = traces.difference(found, traces.plain(traces.collect(agent)))
        wrong.pop("processes", None)
        assert not wrong, json.dumps(wrong, indent=1)
        # The log that contd keeps has every line once and in order, and more than what was followed.
        kept = [int(n["line"].split()[1]) for n in agent.varlink(
            "contd", "GetLog", reservation=it.id, revision=1, service="count", tail=-1, since=0, follow=False)["lines"]]
        assert kept == list(range(len(kept))) and len(kept) >= len(reader.numbers)
        # The new ones do what the old ones did.
        again = node.deploy(services(place.port), name="talk", **more)
        assert again.id == it.id and it.show()["revision"] == 2
        Talk(place.port).done()


def test_what_contd_runs_is_replaced_while_containers_run(place):
    """croft-shim, croft-exec and runc: what was started by the old ones goes on, what begins afterwards is the new ones' work, and a
    log that both kept is whole."""
    node, agent = place.node, place.agent
    newer = {"/usr/lib/croft/croft-shim": (paths.BUILD / "debug/croft-shim").read_bytes(),
             "/usr/lib/croft/croft-exec": (paths.BUILD / "debug/croft-exec").read_bytes()}

    def running(program):
        """The digests of the files that processes of this program really run."""
        return set(agent.sh(f"for p in /proc/[0-9]*; do case $(readlink $p/exe) in */{program}*) sha256sum < $p/exe;; esac; done").out.split()) - {"-"}

    def digest(data):
        return hashlib.sha256(data).hexdigest()

    with node.deployed(services(place.port), name="tools") as it:
        talk, reader = Talk(place.port), Reader(place.gate, it.id)
        person = node.grid.tenant()
        words = ["--gate", f"127.0.0.1:{place.gate_port}"]
        session = subprocess.Popen([paths.CROFT, "exec", str(it.id), "echo", "-i", *words, "--", "cat"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **person.env})

        def speaks(word):
            session.stdin.write(word + "\n")
            session.stdin.flush()
            assert session.stdout.readline() == word + "\n"
        speaks("before")
        before = place.state(it.id)
        old = {name: running(name) for name in ("croft-shim", "croft-exec")}
        for path, data in newer.items():
            assert digest(data) != agent.sh(f"sha256sum < {path}").out.split()[0]
            agent.write(f"{path}.new", data, 0o755)
            agent.sh(f"mv {path}.new {path}")
        agent.sh("cp -p /usr/bin/runc /usr/bin/runc.new; echo another file >> /usr/bin/runc.new; mv /usr/bin/runc.new /usr/bin/runc")
        speaks("after")
        for one in (talk, reader):
            one.goes_on()
        assert place.state(it.id) == before
        assert {name: running(name) for name in old} == old
        assert person.run("exec", it.id, "count", *words, "--", "sha256sum", "/proc/self/exe", check=False).status == 0
        with subprocess.Popen([paths.CROFT, "exec", str(it.id), "count", "-i", *words, "--", "cat"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env={**os.environ, **person.env}) as second:
            wait_for(lambda: running("croft-exec") == old["croft-exec"] | {digest(newer["/usr/lib/croft/croft-exec"])}, 60,
                     lambda: running("croft-exec"))
            second.stdin.close()
            assert second.wait(60 * paths.SCALE) == 0
        person.run("reservation", "restart", it.id, "count", *words, timeout=180)
        wait_for(lambda: digest(newer["/usr/lib/croft/croft-shim"]) in running("croft-shim"), 60, lambda: running("croft-shim"))
        assert old["croft-shim"] < running("croft-shim")  # the other container's
        speaks("at the end")
        session.stdin.close()
        assert session.wait(60 * paths.SCALE) == 0
        for one in (talk, reader):
            one.goes_on()
            one.done()
        begins = [i for i, n in enumerate(reader.numbers) if n == 0]
        assert len(begins) == 2 and reader.numbers == [*range(begins[1]), *range(len(reader.numbers) - begins[1])]
