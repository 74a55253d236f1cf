"""`croft logs`, `croft exec` and what else asks a node's gate, as a person and a script use them, against a real node. What a gate
that behaves badly can do to them: tests/relay/test_gate_client.py; the gate itself: test_gate.py."""
import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from lab import cli, paths, ports, process
from lab.node import wait_for

SECONDS = 170  # about, for the order in which files start

PORT = 4443
ESCAPE = "\x1b[31mred"
# A few lines at its start, then one a second; the number of starts is kept on a volume.
TALKER = {
    "image": "busybox", "volumes": ["data:/data"], "restart": "always",
    "command": ["sh", "-c", "echo x >> /data/starts; n=$$(wc -l < /data/starts); for i in 1 2 3; do echo start $$n line $$i; done;"
                            " printf '\\033[31mred\\n'; echo oops >&2; i=0; while sleep 1; do i=$$((i+1)); echo start $$n tick $$i; done"]}
QUIET = {"image": "busybox", "command": ["sleep", "1000000"], "environment": {"COLOUR": "blue"}, "user": "1000:1000",
         "working_dir": "/tmp", "stop_grace_period": "1s"}


class Place:
    def __init__(self, node):
        self.node = node
        self.port = ports.free()
        node.machine.forward(self.port, PORT)
        node.machine.wait("listening", 120, service="gated")
        self.it = node.deploy({"talker": TALKER, "quiet": QUIET}, name="gatecli", volumes={"data": {}})
        self.tenant, self.farmer, self.stranger = (self.person(account) for account in (2, 1, 4))

    def person(self, account):
        one = self.node.grid.cli(account)
        return cli.Cli({**one.env, "CROFT_GATE": f"127.0.0.1:{self.port}"})

    def exec(self, *words, **options):
        return self.tenant.run("exec", self.it.id, "quiet", *words, timeout=120, check=False, **options)

    def popen(self, *args, **options):
        return subprocess.Popen([paths.CROFT, *map(str, args)], env={**os.environ, "NO_COLOR": "1", "TERM": "vt100",
                                                                     **self.tenant.env}, **options)


@pytest.fixture(scope="module")
def place(node):
    made = Place(node)
    yield made
    made.it.cancel()


def refused(person, *args, status):
    done = person.run(args[0], "--json", *args[1:], timeout=120, check=False)
    assert done.status == status and not done.out, done
    return json.loads(done.err.splitlines()[-1])["error"]["code"]


# -- logs

def test_a_log_is_read_in_part_by_lines_and_by_time(place):
    talker = lambda *options: place.tenant.run("logs", place.it.id, "talker", *options, timeout=120).out.splitlines()  # noqa: E731
    whole = wait_for(lambda: (lines := talker()) and "start 1 tick 2" in lines and lines, 60, "two ticks")
    assert [line for line in whole if "line" in line] == ["start 1 line 1", "start 1 line 2", "start 1 line 3"]
    assert ESCAPE in whole and "oops" in whole  # into a pipe as it is
    assert len(talker("--tail", "2")) == 2 and talker("--tail", "0") == []
    entries = [json.loads(line) for line in talker("--json")]
    assert {e["stream"] for e in entries if e["line"] == "oops"} == {"stderr"}
    tick = next(e for e in entries if e["line"] == "start 1 tick 1")
    since = talker("--since", f"@{tick['time'] // 1_000_000 + 1}")
    assert "start 1 line 1" not in since and since[-1].startswith("start 1 tick")
    assert talker("--since", "1h")[0] == "start 1 line 1"
    stamped = talker("--timestamps")[0].split(" ", 1)
    assert stamped[1] == "start 1 line 1" and stamped[0].startswith("20") and stamped[0].endswith("Z")
    assert refused(place.tenant, "logs", place.it.id, status=1) == "gate.which-service"
    assert refused(place.tenant, "logs", place.it.id, "nobody", status=1).split(".")[0] in ("gate", "container")
    assert refused(place.stranger, "logs", place.it.id, "talker", status=3) == "gate.not-allowed"
    assert refused(place.farmer, "logs", place.it.id, "talker", status=3) == "gate.not-allowed"


def test_a_terminal_shows_escape_sequences_as_text(place):
    ours, theirs = pty.openpty()
    p = place.popen("logs", place.it.id, "talker", "--tail", 1000, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):
        while select.select([ours], [], [], 60 * paths.SCALE)[0] and (piece := os.read(ours, 65536)):
            text += piece
    os.close(ours)
    assert p.wait(60 * paths.SCALE) == 0 and b"\\x1b[31mred\r\n" in text and b"\x1b" not in text


def test_a_follower_sees_a_restart_and_what_comes_after_it(place):
    with place.popen("logs", place.it.id, "talker", "--follow", "--tail", 1, stdout=subprocess.PIPE, text=True) as p:
        seen = [p.stdout.readline()]
        assert place.tenant.json("reservation", "restart", place.it.id, "talker", timeout=180)["restarted"] is True
        end = time.monotonic() + 90 * paths.SCALE
        while "start 2 tick 1\n" not in seen:
            assert time.monotonic() < end and p.poll() is None, seen
            seen.append(p.stdout.readline())
        p.terminate()
    lines = [line.strip() for line in seen]
    assert lines[0].startswith("start 1 tick") and lines.index("start 2 line 1") < lines.index("start 2 line 3")
    numbers = [int(line.split()[-1]) for line in lines if line.startswith("start 1 tick")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))  # not one missing, not one twice
    container = place.tenant.json("reservation", "show", place.it.id)["live"]["containers"]
    assert {c["service"]: c["state"] for c in container} == {"talker": "running", "quiet": "running"}


def test_followers_of_both_kinds_go_on_when_the_gate_is_started_again(place):
    """`croft logs` and `croft node logs`: what was written while there was no gate comes once, and nothing is said of it."""
    agent, files = place.node.agent, {}
    noded = agent.varlink("core0", "GetService", name="noded")["service"]["pid"]

    def heard(name):
        return [line.split("said ")[1] for line in files[name].read_text().splitlines() if "said " in line]

    agent.sh(f"echo begin > /proc/{noded}/fd/1")
    words = {"node": (place.farmer, ("node", "logs", place.node.number, "noded")), "tenant": (place.tenant, ("logs", place.it.id, "talker"))}
    followers = []
    try:
        for name, (person, command) in words.items():
            files[name] = place.node.folder / f"follow-{name}.log"
            followers.append(process.Process(f"croft {name}", [paths.CROFT, *map(str, command), "--follow", "--tail", "1"],
                                             files[name], env=person.env))
        for name in files:
            wait_for(lambda name=name: files[name].read_text().count("\n"), 60, f"{name}: no line")
        for round_ in range(2):
            mark = place.node.machine.mark()
            assert agent.kill("gated") == 1
            for n in range(3):
                agent.sh(f"echo said {3 * round_ + n} > /proc/{noded}/fd/1")
            place.node.machine.wait("listening", 120, mark, service="gated")
            wanted = [str(n) for n in range(3 * round_ + 3)]
            wait_for(lambda wanted=wanted: heard("node") == wanted, 90, lambda: files["node"].read_text())
            ticks = files["tenant"].read_text().count("tick")
            wait_for(lambda ticks=ticks: files["tenant"].read_text().count("tick") > ticks, 90, lambda: files["tenant"].read_text())
        assert all(f.alive() for f in followers)
    finally:
        for one in followers:
            one.stop()
    lines = files["tenant"].read_text().rsplit("\n", 1)[0].splitlines()
    numbers = [int(line.split()[-1]) for line in lines if "tick" in line]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), lines
    assert "croft:" not in files["node"].read_text()


# -- what a reservation is told

def limited(command, restart="always", **limits):
    return {"image": "busybox", "restart": restart, "command": ["sh", "-c", command], "deploy": {"resources": {"limits": {"cpus": "0.1", "memory": "48M", **limits}}}}


HOG = "sleep 3; x=x; while :; do x=$$x$$x; done"


def test_a_tenant_is_told_which_limit_was_met(place):
    """Active on the chain all the while, as each service comes back or runs on."""
    services = {"hog": limited(HOG, memory="32M"),
                "bomb": limited("for i in $$(seq 200); do sleep 100000 & done; wait", pids=50),
                "filler": {**limited("dd if=/dev/zero of=/data/x bs=1M; sleep 1000000"), "volumes": ["data:/data"]},
                "scribe": {**limited("dd if=/dev/zero of=/x bs=1M; sleep 1000000"), "x-croft": {"scratch": "64M"}},
                "disker": {**limited("dd if=/dev/zero of=/data/x bs=1M; sleep 1000000"), "volumes": ["disk:/data"]},
                "talker": limited(f"yes {'x' * 1000} | head -n 24000; sleep 1000000"),
                "calm": {**limited("sleep 1000000"), "volumes": ["rest:/data"]}}
    volumes = {name: {"driver_opts": {"size": "64M"}} for name in ("data", "rest")}
    volumes["disk"] = {"driver_opts": {"size": "64M", "filesystem": "ext4"}}
    wanted = {("hog", "container.oom-killed"), ("bomb", "container.pids-limit"), ("data", "storage.volume-full"),
              ("disk", "storage.volume-full"), ("scribe", "storage.volume-full"), ("talker", "container.log-rotated")}
    seen = set()
    with place.node.deployed(services, name="limits", volumes=volumes) as it:
        def told():
            shown = place.tenant.json("reservation", "show", it.id)
            assert shown["state"] == "Active", shown
            reasons = shown["live"].get("reasons", [])
            assert all(r["message"] for r in reasons), reasons
            seen.update((r.get("service") or r.get("volume"), r["code"]) for r in reasons)
            return wanted <= seen
        wait_for(told, 240, lambda: seen)
        assert {name for name, _ in seen} == {"hog", "bomb", "data", "disk", "scribe", "talker"}, seen
        live = place.tenant.json("reservation", "show", it.id)["live"]
        assert {v.get("volume") for v in live["volumes"]} == {"data", "rest", "disk", None}, live["volumes"]
        assert "live" not in place.stranger.json("reservation", "show", it.id)


def test_a_service_that_gives_up_leaves_its_reason_on_the_chain(place):
    it = place.node.deploy({"hog": limited(HOG, restart="no", memory="32M")}, name="gives-up")
    wait_for(lambda: place.tenant.json("reservation", "show", it.id)["state"] == "Failed", 180,
             lambda: place.tenant.json("reservation", "show", it.id))
    assert place.tenant.json("reservation", "show", it.id)["reason"] == "container.oom-killed"


# -- exec

def test_status_words_and_streams_are_the_commands(place):
    done = place.exec("--", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.status, done.out, done.err) == (42, "out\n", "err\n")
    done = place.exec("--env", "SIZE=a b", "--", "sh", "-c", 'echo "$COLOUR $SIZE $1"; id -u; pwd', "sh", "c'  d")
    assert (done.status, done.out) == (0, "blue a b c'  d\n1000\n/tmp\n"), done
    done = place.exec("--user", "0", "--workdir", "/etc", "--", "sh", "-c", "id -u; pwd")
    assert (done.status, done.out) == (0, "0\n/etc\n"), done
    assert place.exec("--", "sh", "-c", "kill -9 $$").status == 128 + 9
    done = place.exec("--", "cat")  # without -i there is nothing to read
    assert (done.status, done.out) == (0, "")
    done = place.exec("--json", "--", "/no/such/program")
    assert done.status in (125, 126, 127) and not done.out, done
    assert refused(place.tenant, "exec", place.it.id, "--", "true", status=125) == "gate.which-service"
    assert refused(place.stranger, "exec", place.it.id, "quiet", "--", "true", status=125) == "gate.not-allowed"
    assert refused(place.farmer, "exec", place.it.id, "quiet", "--", "true", status=125) == "gate.not-allowed"


def test_ten_megabytes_through_pipes_both_ways(place):
    data = random.Random(7).randbytes(10 << 20)
    p = place.popen("exec", place.it.id, "quiet", "-i", "--", "sh", "-c", "tee /proc/self/fd/2 | sha256sum",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = p.communicate(data, timeout=400 * paths.SCALE)
    assert p.returncode == 0 and out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert hashlib.sha256(err).digest() == hashlib.sha256(data).digest()


def test_signals_reach_a_command_without_a_terminal(place):
    p = place.popen("exec", place.it.id, "quiet", "--", "sh", "-c",
                    "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.2; done",
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    p.terminate()
    assert p.stdout.read() == b"got it\n" and p.wait(60 * paths.SCALE) == 9


class Terminal:
    """A person's terminal with a shell in the container."""

    def __init__(self, place, rows, columns):
        self.ours, self.theirs = pty.openpty()
        self.size(rows, columns)
        self.before = termios.tcgetattr(self.theirs)
        self.process = place.popen("exec", place.it.id, "quiet", "--", "sh", stdin=self.theirs, stdout=self.theirs,
                                   stderr=self.theirs, start_new_session=True)
        self.text = b""

    def size(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.ours, text.encode())

    def until(self, wanted):
        """Reads up to the wanted words, which are then behind us."""
        end = time.monotonic() + 60 * paths.SCALE
        while wanted not in self.text:
            assert time.monotonic() < end and select.select([self.ours], [], [], 60 * paths.SCALE)[0], self.text
            self.text += os.read(self.ours, 65536)
        self.text = self.text.split(wanted, 1)[1]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


def test_a_shell_on_a_terminal(place):
    one = Terminal(place, 33, 101)
    try:
        one.until(b"$ ")
        one.type("stty size; echo $TERM; tty\r")
        one.until(b"33 101\r\n")
        one.until(b"vt100\r\n/dev/pts/")
        one.until(b"$ ")
        one.size(20, 60)
        os.kill(one.process.pid, signal.SIGWINCH)
        one.type("until stty size|grep -q '^20 60$'; do sleep 0.1; done; echo resized\r")
        one.until(b"\nresized\r\n")
        one.until(b"$ ")
        # The shell edits its line in raw mode: what is typed before it has left that is no line for cat.
        one.type("echo begun; cat; echo after $?\r")
        one.until(b"\nbegun\r\n")
        one.type("some words\r")
        one.until(b"some words\r\nsome words\r\n")
        one.type("\x03")  # Ctrl-C ends the cat, and neither the shell nor croft
        one.until(b"^C")
        one.until(b"$ ")  # else the cat, which has its signal and has not run yet, may take the next line with it
        one.type("echo status $?\r")
        one.until(b"status 130\r\n")
        assert termios.tcgetattr(one.theirs) != one.before
        one.type("exit 5\r")
        assert one.process.wait(60 * paths.SCALE) == 5
        assert termios.tcgetattr(one.theirs) == one.before
    finally:
        one.close()


# -- the node

def test_a_farmer_sees_what_the_machine_says(place):
    number = place.node.number
    shown = place.farmer.json("node", "show", number)
    assert shown["state"] == "Active" and shown["live"]["services"] and "error" not in shown["live"], shown
    assert "live" not in place.tenant.json("node", "show", number)
    lines = place.farmer.run("node", "logs", number, "core0", "--tail", 20, timeout=120).out.splitlines()
    assert 0 < len(lines) <= 20 and all(line.split()[0] in ("error", "warning", "notice", "info", "debug") for line in lines), lines
    assert place.farmer.run("node", "logs", number, "kernel", "--tail", 5, timeout=120).out
    done = place.tenant.run("node", "logs", number, "--json", check=False)
    assert done.status == 3 and "gate.not-allowed" in done.err, done


# -- last, as it starts the machine anew

def test_a_follower_of_the_nodes_log_stays_over_a_restart_of_the_machine(place):
    """It says that the node does not answer and that its log is another one, and shows that from its first line."""
    node, number = place.node, place.node.number
    out, err = node.folder / "reboot.out", node.folder / "reboot.err"
    with out.open("w") as o, err.open("w") as e:
        p = subprocess.Popen([paths.CROFT, "node", "logs", str(number), "core0", "--follow", "--tail", "1"], stdout=o, stderr=e,
                             env={**os.environ, **place.farmer.env})
    try:
        wait_for(lambda: out.read_text().count("\n"), 60, "no line")
        before = len(out.read_text())
        node.machine.power_off()
        wait_for(lambda: "does not answer" in err.read_text(), 60, lambda: err.read_text())
        mark = node.machine.mark()
        node.machine.start()
        node.machine.wait("listening", 120, mark, service="gated")
        wait_for(lambda: "core0 is ready" in out.read_text()[before:], 120, lambda: (out.read_text(), err.read_text()))
        assert p.poll() is None
    finally:
        p.terminate()
        p.wait(60)
    said = err.read_text().splitlines()
    assert len(said) == 2 and "does not answer" in said[0] and said[1].endswith("(gate.other-boot)"), said
    lines = out.read_text()[before:].splitlines()
    whole = place.farmer.run("node", "logs", number, "core0", timeout=120).out.splitlines()
    first = next(i for i, line in enumerate(lines) if line == whole[0])  # what the old boot said at its end comes before
    assert lines[first:] == whole[:len(lines) - first]
