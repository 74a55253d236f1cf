"""The node's gate as the world meets it: its key, challenges that are altered, used twice or too old, people who are somebody
else, logs and programs in containers to their ends, readers that stall, floods, and what a port scan finds. The client is the
tests' own (lab/gate.py); `croft` is tried where it matters that both agree."""
import hashlib
import json
import random
import re
import shlex
import socket
import ssl
import threading
import time

import pytest

from lab import gate as lab_gate, machine, node as lab_node, paths, ports, scan, tenants
from lab.gate import GateError, Gone

SECONDS = 350  # about, for the order in which files start

USER_NET = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56"]
LAN_ADDRESS = "192.168.50.20"
FARMER, TENANT, STRANGER = 1, 2, 4  # accounts of the chain
LINES = 300
# Lines of a known number, then whatever is written into the program's own output from beside it.
LOUD = {"image": "busybox", "command": ["sh", "-c", f"i=0; while [ $$i -lt {LINES} ]; do i=$$((i+1)); echo line $$i; done; "
                                        "echo oops >&2; exec sleep 100000"],
        "environment": {"COLOUR": "blue"}, "restart": "always"}
WEB = {"image": "busybox", "command": ["httpd", "-f", "-p", "80", "-h", "/tmp"], "user": "1234:1234"}
# The handshake, and the head of a request, take at most this (seconds).
PATIENCE = 10
CHALLENGE_LIFE = 60


class Place:
    """One node with a reservation of two services, its gate behind a port, and who calls there."""

    def __init__(self, node, segment):
        self.node, self.lan = node, segment
        self.port, self.web_port, self.udp_port = ports.free(), ports.free(), ports.free()
        node.machine.forward(self.port, lab_gate.PORT)
        node.machine.wait("listening", 120, service="gated")
        self.it = node.deploy({"loud": LOUD, "web": {**WEB, "ports": [f"{self.web_port}:80", f"{self.udp_port}:9053/udp"]}}, name="gate")
        self.id = self.it.id
        self.tenant, self.farmer, self.stranger = (self.person(account) for account in (TENANT, FARMER, STRANGER))

    def person(self, account):
        return lab_gate.Gate(self.port, lab_gate.read_key(self.node.grid.keys[account]))

    @property
    def agent(self):
        return self.node.agent

    def exec(self, *argv, service="loud", **options):
        return self.tenant.exec(self.id, *argv, service=service, **options)

    def run(self, *argv, **options):
        """A program without input, to its end."""
        with self.exec(*argv, **options) as it:
            it.control(eof=True)
            return it.finish()

    def say(self, text):
        """Has the service itself write that into its log."""
        status, _, err = self.run("sh", "-c", f"printf '%s\\n' {shlex.quote(text)} > /proc/1/fd/1")
        assert status == 0, err

    def say_as_noded(self, first, last, more=""):
        """Has noded's own log say a line for each of the numbers, with more behind it."""
        pid = self.agent.varlink("core0", "GetService", name="noded")["service"]["pid"]
        self.agent.sh(f"i={first}; while [ $i -le {last} ]; do echo said $i {more}; i=$((i+1)); done > /proc/{pid}/fd/1", timeout=240)

    def has_address6(self):
        """The node's own address in the segment's IPv6 network, once it has one."""
        def found():
            self.lan.advertise()
            return any(a.startswith(address) for link in self.agent.varlink("netd", "GetStatus")["links"] for a in link["addresses"])
        address = self.lan.address6()
        lab_node.wait_for(found, 60, f"no address {address}")
        return address

    def container(self, service="loud"):
        return next(c for c in self.agent.varlink("contd", "List")["containers"]
                    if (c["reservation"], c["service"]) == (self.id, service))

    def pids(self, command):
        """The host's numbers of the processes with exactly that command line."""
        rows = self.agent.run("/croft-test/busybox", "ps", "-o", "pid,args").out.splitlines()
        return [int(pid) for pid, args in (row.split(None, 1) for row in rows[1:] if len(row.split()) > 1)
                if args.strip() == command]

    def leftovers(self):
        """Sessions of exec as the node's folders and cgroups show them."""
        return self.agent.sh("ls /run/croft/exec; find /sys/fs/cgroup -type d -name 'exec-*'", check=False).out.split()

    def wait_nothing_left(self, *commands):
        """Long: under emulation each session costs a runc (a Go program) a second or two of the machine's one processor, and a caller
        who goes waits for that before the session ends."""
        lab_node.wait_for(lambda: not self.leftovers() and not any(self.pids(c) for c in commands), 120,
                          lambda: f"something is left: {self.leftovers()}, {[self.pids(c) for c in commands]}")

    def gated_pid(self):
        return self.agent.varlink("core0", "GetService", name="gated")["service"]["pid"]


@pytest.fixture(scope="module")
def place(grid, images, session_logs):
    with scan.Scanner(address=LAN_ADDRESS, router=False) as segment:
        disk = machine.disk_create(session_logs / "gate.img", 16 << 10, "gate")
        with lab_node.Node(grid, session_logs / "gate", images, disks=[disk], memory=1536,
                           net=[*USER_NET, *segment.qemu()]) as node:
            node.start()
            yield Place(node, segment)


@pytest.fixture(scope="module")
def early(place):
    """A challenge that is given at the start and used at the end."""
    return place.tenant.challenge(place.id), time.monotonic()


def entry(entries):
    """The next entry of a log that is followed; some signs of life may come before, but not for ever."""
    for _ in range(6):
        found = next(entries)
        if found:
            return found
    raise AssertionError("only signs of life, and no line")


def lines_until(entries, last):
    found = []
    while not found or found[-1] != last:
        found.append(entry(entries)["line"])
    return found


def refused(call, *args, code, status=None, **options):
    with pytest.raises(GateError) as e:
        call(*args, **options)
    assert e.value.code == code, e.value
    assert status in (None, e.value.status), e.value
    return e.value


# ---- the key


def test_the_key_is_the_registered_one_and_only_tls_1_3_is_spoken(place, early):
    selector = lab_gate.primitives.keccak256(b"node(uint64)")[:4]
    record = place.node.grid.rpc("eth_call", {"to": place.node.grid.registry,
                                              "data": "0x" + (selector + place.node.number.to_bytes(32, "big")).hex()}, "latest")
    with place.tenant.connect() as link:
        assert link.key_hash.hex() in record
        assert link.tls.version() == "TLSv1.3"
    with pytest.raises((ssl.SSLError, OSError)):
        place.tenant.connect(versions=(ssl.TLSVersion.TLSv1_2,) * 2)
    # Without TLS there is nothing to be had, not even a refusal in HTTP.
    with socket.create_connection(("127.0.0.1", place.port), lab_gate.TIMEOUT * paths.SCALE) as plain:
        plain.sendall(b"GET /v1/node HTTP/1.1\r\nHost: gate\r\n\r\n")
        answer = b""
        while part := plain.recv(4096):
            answer += part
        assert b"HTTP" not in answer


# ---- challenges


def test_a_challenge_is_what_the_chain_says(place):
    given = place.tenant.challenge(place.id)
    assert {k: given[k] for k in ("node", "reservation", "chainId")} == {
        "node": place.node.number, "reservation": place.id, "chainId": 31337}
    assert given["reservations"].lower() == place.node.grid.reservations.lower()
    assert re.fullmatch("0x[0-9a-f]{64}", given["nonce"])
    assert given["nonce"] != place.tenant.challenge(place.id)["nonce"]


def test_a_challenge_works_once_and_for_what_was_signed_only(place):
    tenant, bad = place.tenant, {"code": "gate.bad-challenge", "status": 401}
    fresh = tenant.challenge(place.id)
    assert tenant.call("status", place.id, "/v1/status", challenge=fresh)["reservation"] == place.id
    refused(tenant.call, "status", place.id, "/v1/status", challenge=fresh, **bad)
    # What the signature covers but not the challenge: the address that comes out is nobody's.
    for name, value in (("node", place.node.number + 1), ("reservation", place.id + 1), ("chainId", 1),
                        ("expires", fresh["expires"] + 1000), ("reservations", "0x" + "11" * 20)):
        other = tenant.challenge(place.id)
        refused(tenant.call, "status", place.id, "/v1/status", challenge={**other, name: value}, code="gate.not-allowed", status=403)
        # ... and the challenge is spent.
        refused(tenant.call, "status", place.id, "/v1/status", challenge=other, **bad)
    # Signed for one method, used for another.
    refused(tenant.call, "logs", place.id, "/v1/status", code="gate.not-allowed", status=403)
    refused(tenant.call, "status", place.id, "/v1/restart", "POST", {"service": "loud"}, code="gate.not-allowed", status=403)
    # For the node, used for a reservation, and the other way round.
    refused(tenant.call, "status", 0, "/v1/status", code="gate.not-allowed", status=403)
    refused(place.farmer.call, "node", place.id, "/v1/node", code="gate.not-allowed", status=403)


def test_forged_and_malformed_proofs_are_refused(place):
    tenant, bad = place.tenant, {"code": "gate.bad-challenge", "status": 401}

    def with_signature(alter):
        given = tenant.challenge(place.id)
        who = lab_gate.authorization(given, "status", tenant.key)
        return f"Authorization: {alter(who)}"
    for alter in (
            lambda who: who.rsplit("0x", 1)[0] + "0x" + "00" * 65,
            lambda who: who.rsplit("0x", 1)[0] + "0x" + "ff" * 65,
            lambda who: who[:-2] + "1d",
            lambda who: who[:-2],
            lambda who: who + "00",
            lambda who: who.replace("Croft ", "Bearer "),
            lambda who: who.replace("nonce=", "nonce=0x00,nonce="),
            lambda who: who.split(",")[0],
            lambda who: ""):
        refused(tenant.call, "status", place.id, "/v1/status", who=with_signature(alter), **bad)
    refused(tenant.call, "status", place.id, "/v1/status", who="", **bad)
    # A nonce that this node never gave, well signed: another node's, or one of before a restart.
    stranger = {**tenant.challenge(place.id), "nonce": "0x" + random.randbytes(32).hex()}
    refused(tenant.call, "status", place.id, "/v1/status", challenge=stranger, **bad)


def test_the_wall_clock_does_not_count(place):
    """A challenge lives its minute however the clock is turned meanwhile."""
    given = place.tenant.challenge(place.id)
    place.agent.sh("date -s @$(( $(date +%s) + 86400 ))")
    try:
        assert place.tenant.call("status", place.id, "/v1/status", challenge=given)
        later = place.tenant.challenge(place.id)
        assert later["expires"] > given["expires"] + 80000
    finally:
        place.agent.sh("date -s @$(( $(date +%s) - 86400 ))")
    assert place.tenant.call("status", place.id, "/v1/status", challenge=later)


# ---- roles


def test_each_gets_what_the_table_says_and_nothing_else(place):
    no = {"code": "gate.not-allowed", "status": 403}
    tenants = [("logs", "/v1/logs?service=loud", "GET", None), ("exec", "/v1/exec?service=loud&arg=id", "GET", None),
               ("status", "/v1/status", "GET", None), ("restart", "/v1/restart", "POST", {"service": "loud"})]
    farmers = [("node", "/v1/node", "GET", None), ("node-log", "/v1/node/log?service=gated", "GET", None)]
    before = place.container()["pid"]
    for who in (place.stranger, place.farmer):
        for method, path, verb, body in tenants:
            mine = refused(who.call, method, place.id, path, verb, body, **no)
            # One that does not exist is refused in the same words: nothing is told about others' reservations.
            none = refused(who.call, method, 4711, path, verb, body, **no)
            assert mine.message == none.message
    for who in (place.stranger, place.tenant):
        for method, path, verb, body in farmers:
            refused(who.call, method, 0, path, verb, body, **no)
    assert place.container()["pid"] == before
    for verb, path, code, status in (("GET", "/v1/nothing", "gate.not-found", 404), ("POST", "/v1/logs", "gate.bad-method", 405),
                                     ("GET", "/v1/status?x=1", "gate.bad-request", 400), ("GET", "/v1/logs?tail=-1&service=loud", "gate.bad-request", 400),
                                     ("GET", "/v1/logs?service=%zz", "gate.bad-request", 400), ("GET", "/v1/logs?service=%00", "gate.bad-request", 400)):
        method = "logs" if "logs" in path else "status"
        refused(place.tenant.call, method, place.id, path, verb, code=code, status=status)
    assert "loud" in refused(place.tenant.call, "logs", place.id, "/v1/logs", code="gate.which-service", status=400).message
    refused(place.tenant.call, "logs", place.id, "/v1/logs?service=nosuch", code="gate.not-found", status=404)
    refused(place.tenant.call, "logs", place.id, "/v1/logs?service=loud&revision=9", code="gate.not-found", status=404)


def test_a_tenant_sees_his_reservation_and_a_farmer_his_machine(place):
    shown = place.tenant.status(place.id)
    assert {c["service"] for c in shown["containers"]} == {"loud", "web"}
    assert all(e["reservation"] == place.id for e in shown["entries"]) and shown["entries"]
    machine_ = place.farmer.node()
    assert {"gated", "noded", "provd"} <= {s["name"] for s in machine_["services"]}
    assert any(r["reservation"] == place.id for r in machine_["reservations"])
    # What runs there is the tenant's business.
    text = json.dumps(machine_)
    key = place.node.grid.accounts[TENANT].lower()
    assert key not in text.lower() and "COLOUR" not in text and '"loud"' not in text
    lines = place.farmer.node_log("gated", tail=50)
    assert any("4443" in e["line"] for e in lines) and all(isinstance(e["level"], int) for e in lines)
    assert len(place.farmer.node_log("kernel", tail=7)) == 7
    with pytest.raises(GateError) as e:
        place.farmer.node_log("loud")
    assert e.value.status == 404


# ---- logs


def test_logs_are_cut_by_tail_and_time_and_followed(place):
    tenant = place.tenant
    whole = tenant.logs(place.id, service="loud")
    out = [e["line"] for e in whole if e["stream"] == "stdout"]
    assert out[:LINES] == [f"line {i}" for i in range(1, LINES + 1)]
    assert [e["line"] for e in whole if e["stream"] == "stderr"] == ["oops"]
    assert [e["line"] for e in tenant.logs(place.id, service="loud", tail=3)] == [e["line"] for e in whole[-3:]]
    assert tenant.logs(place.id, service="loud", tail=0) == []
    since = whole[100]["time"]
    assert tenant.logs(place.id, service="loud", since=since) == [e for e in whole if e["time"] >= since]
    assert tenant.logs(place.id, service="loud", since=since, tail=2) == whole[-2:]
    # From behind a line that somebody has, exactly; the revision is part of the place.
    assert tenant.logs(place.id, service="loud", after=whole[100]["at"], tail=1) == whole[101:]
    assert tenant.logs(place.id, service="loud", after=whole[-1]["at"]) == []
    for wrong in ({"after": whole[0]["at"], "revision": 2}, {"after": "1"}):
        refused(tenant.logs, place.id, service="loud", code="gate.bad-request", **wrong)
    refused(tenant.logs, place.id, service="loud", after="9-1", code="gate.not-found")
    assert tenant.logs(place.id, service="web") == []
    # Strange bytes arrive as what they are, as far as JSON has them.
    link, entries = tenant.follow(place.id, service="loud", tail=1, follow=1)
    with link:
        assert entry(entries)["line"] == whole[-1]["line"]
        for text in ('quoted "and" \\ back', "tab\there", "grüße ☂", "\x1b[31mred"):
            place.say(text)
            assert entry(entries)["line"] == text
    # One of no words: signs of life come in between.
    link, entries = tenant.follow(place.id, service="web", follow=1)
    with link:
        assert next(entries) is None


def test_who_is_cut_off_before_the_first_line_has_a_place_too(place):
    link, entries = place.tenant.follow(place.id, service="loud", tail=0, follow=1)
    link.close()
    place.say("nobody hears")
    assert [e["line"] for e in place.tenant.logs(place.id, service="loud", after=link.start)] == ["nobody hears"]
    link, entries = place.tenant.follow(place.id, service="loud", tail=1, follow=1)
    with link:  # a line is a place by itself
        assert link.start is None and entry(entries)["line"] == "nobody hears"


def said(entries):
    """The numbers that say_as_noded() wrote, of these entries of noded's log."""
    return [int(e["line"].split()[1]) for e in entries if e["line"].startswith("said ")]


def test_the_nodes_log_is_gone_on_with_from_a_place(place):
    """As a container's: behind a line that somebody has comes exactly what stands behind it. What is not there any more is said."""
    say, farmer = place.say_as_noded, place.farmer
    link, entries = farmer.follow(0, method="node-log", path="/v1/node/log", service="noded", tail=0, follow=1)
    with link:
        say(1, 3)
        seen = []
        while said(seen) != [1, 2, 3]:
            seen.append(entry(entries))
    say(4, 6)
    read = lambda at, **more: farmer.node_log("noded", after=at, **more)  # noqa: E731
    lab_node.wait_for(lambda: said(read(seen[-1]["at"], tail=1)) == [4, 5, 6], 60, lambda: read(seen[-1]["at"]))
    assert said(read(link.start)) == [1, 2, 3, 4, 5, 6]  # from where the follower began
    later = read(seen[-1]["at"])
    assert not any("lost" in e for e in later)
    boot, position = later[-1]["at"].split("-")
    for wrong, code, status in ((f"{int(boot) ^ 1}-{position}", "gate.other-boot", 410), (f"{boot}-{int(position) + 10 ** 6}", "gate.bad-request", 400),
                                (f"{boot}-{1 << 53}", "gate.bad-request", 400), (f"{1 << 48}-1", "gate.bad-request", 400),
                                ("x", "gate.bad-request", 400), (f"0-{position}", "gate.bad-request", 400)):
        refused(read, wrong, code=code, status=status)
    # The kernel's has places as well. (Its clock is the one since the boot: the time of day is added at each reading.)
    kernel = farmer.node_log("kernel", tail=5)
    again = farmer.node_log("kernel", after=kernel[1]["at"])
    assert [(e["at"], e["line"]) for e in again[:3]] == [(e["at"], e["line"]) for e in kernel[2:]]
    # More than the ring holds: how many are missing is said, and so nothing is missing without a word.
    say(7, 8006)
    lab_node.wait_for(lambda: said(farmer.node_log("noded", tail=50))[-1:] == [8006], 120, "the lines do not come")
    rest = read(later[-1]["at"])
    numbers = [int(e["at"].split("-")[1]) for e in rest]
    assert rest[0]["lost"] == numbers[0] - 1 - int(position) and not any("lost" in e for e in rest[1:])
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and said(rest)[-1] == 8006


def test_a_reader_of_the_nodes_log_that_stalls_is_told_what_it_misses(place):
    """The ring goes on without it. It stays connected, and what it gets is whole but for what is counted."""
    count, more = 30000, "x" * 400  # 12 MB: several times what the ring and all buffers on the way hold
    link, entries = place.farmer.follow(0, {"receive": 4096}, method="node-log", path="/v1/node/log", service="noded", tail=0, follow=1)
    with link:
        at, missing = int(link.start.split("-")[1]), 0
        place.say_as_noded(1, count, more)
        for numbers in (range(1, count + 1), range(count + 1, count + 2)):
            while True:
                one = entry(entries)
                missing += one.get("lost", 0)
                assert int(one["at"].split("-")[1]) == at + one.get("lost", 0) + 1, one
                at += one.get("lost", 0) + 1
                if said([one]) == [numbers[-1]]:
                    break
            if numbers[-1] == count:
                place.say_as_noded(count + 1, count + 1)
    assert missing > 0  # else nothing stalled here


def test_followers_survive_a_replaced_contd_and_lose_nothing(place):
    link, entries = place.tenant.follow(place.id, service="loud", tail=0, follow=1)
    with link:
        place.say("before")
        assert entry(entries)["line"] == "before"
        mark = place.node.machine.mark()
        assert place.agent.kill("contd") == 1
        place.node.machine.wait_service("contd", 60, mark)
        place.say("after")
        assert entry(entries)["line"] == "after"


def test_a_reader_that_stalls_holds_up_nobody_and_misses_nothing(place):
    """Two read the same: one takes nothing for a while. gated keeps no more than a page or two for it."""
    still_link, still = place.tenant.follow(place.id, service="loud", tail=0, follow=1, connect={"receive": 4096})
    live_link, live = place.tenant.follow(place.id, service="loud", tail=0, follow=1)
    words, count = "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz", 33000
    with still_link, live_link:
        place.say("begin")
        status, _, err = place.run("sh", "-c", f"yes {words} | head -n {count} > /proc/1/fd/1")
        assert status == 0, err
        place.say("finish")
        seen = lines_until(live, "finish")
        assert seen[0] == "begin" and seen[1:-1] == [words] * count
        # A third caller is served as ever, and the one that stalled gets all of it in the end.
        assert place.tenant.logs(place.id, service="loud", tail=1)[0]["line"] == "finish"
        assert lines_until(still, "finish") == seen


# ---- exec


def test_a_program_ends_with_its_status_and_its_words(place):
    assert place.run("true") == (0, b"", b"")
    assert place.run("sh", "-c", "echo out; echo err >&2; exit 42") == (42, b"out\n", b"err\n")
    assert place.run("sh", "-c", "kill -9 $$")[0] == 137
    odd = ["a b", "", "$(id)", 'quo"te', "grüße", "-x", "&=%"]
    assert place.run("sh", "-c", 'for a; do printf "%s|" "$a"; done', "sh", *odd)[1].decode() == "|".join(odd) + "|"
    assert place.run("sh", "-c", "echo $COLOUR $A $PATH", env=["A=1=2"])[1] == b"blue 1=2 /bin\n"
    assert place.run("pwd", workdir="/tmp")[1] == b"/tmp\n"
    assert place.run("id", "-u")[1] == b"0\n" and place.run("id", "-u", service="web")[1] == b"1234\n"
    assert place.run("sh", "-c", "id -u; id -g", user="77:88")[1] == b"77\n88\n"
    with pytest.raises(GateError) as e:
        place.run("nosuchprogram")
    assert e.value.code == "container.not-found", e.value
    with pytest.raises(GateError) as e:
        place.run("id", user="nosuchuser")
    assert e.value.code.startswith("container."), e.value
    refused(place.exec, code="gate.bad-request", status=400)
    refused(place.exec, "id", service="nosuch", code="gate.not-found", status=404)
    # Not by WebSocket, it is nothing.
    refused(place.tenant.call, "exec", place.id, "/v1/exec?service=loud&arg=id", code="gate.bad-request", status=400)
    place.wait_nothing_left()


def test_it_is_confined_as_its_container_is(place):
    own = place.container()["pid"]

    def confinement(pid):
        wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")
        status = dict(line.split(":\t", 1) for line in place.agent.text(f"/proc/{pid}/status").splitlines() if ":\t" in line)
        spaces = place.agent.sh(f"cd /proc/{pid}/ns; for n in user mnt pid net ipc uts cgroup; do readlink $n; done").out
        return {k: status[k] for k in wanted}, spaces, place.agent.text(f"/proc/{pid}/uid_map"), place.agent.text(f"/proc/{pid}/oom_score_adj")
    with place.exec("sleep", "4710") as it:
        pid = lab_node.wait_for(lambda: place.pids("sleep 4710"), 30, "the program does not run")[0]
        assert confinement(pid) == confinement(own)
        home, there = (place.agent.text(f"/proc/{p}/cgroup").strip() for p in (own, pid))
        assert there.startswith(home + "/") or there == home, (home, there)
        # Nothing of the node's is open in it but its three streams.
        assert sorted(place.agent.sh(f"ls /proc/{pid}/fd").out.split()) == ["0", "1", "2"]
        it.control(signal="TERM")
        assert it.finish()[0] == 143
    place.wait_nothing_left("sleep 4710")


def test_much_goes_through_both_ways_at_once(place):
    data = random.randbytes(1 << 20)
    with place.exec("cat") as it:
        def feed():
            it.send(data)
            it.control(eof=True)
        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        status, out, err = it.finish()
        feeder.join(lab_gate.TIMEOUT)
    assert (status, err) == (0, b"") and hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    # A program that reads nothing holds up its own caller only, and its end is told all the same.
    with place.exec("sh", "-c", "sleep 1; echo done") as it:
        it.send(bytes(256 << 10))
        assert it.finish() == (0, b"done\n", b"")
    status, out, _ = place.run("sh", "-c", "yes | head -c 3000000; exit 3")
    assert status == 3 and out == b"y\n" * 1500000


def test_a_terminal_has_a_size_that_follows_and_signals_that_arrive(place):
    with place.exec("sh", "-c", "stty size; tty; echo $TERM; while read -r x; do echo got $x; $x size; done; exit 9",
                    tty=1, rows=33, columns=99, term="vt220") as it:
        seen = it.until(b"vt220\r\n")
        assert b"33 99\r\n" in seen and b"/dev/pts/" in seen
        it.control(resize={"rows": 50, "columns": 160})
        it.send(b"stty\n")
        assert b"got stty\r\n" in it.until(b"50 160\r\n")
        it.send(b"\x04")  # VEOF
        assert it.finish()[0] == 9
    # Ctrl-C is a byte that the terminal turns into a signal; without one the signal is sent by its name.
    with place.exec("sh", "-c", "echo go; sleep 4713", tty=1) as it:
        it.until(b"go")
        it.send(b"\x03")
        assert it.finish()[0] == 130
    for name, number in (("INT", 2), ("TERM", 15), ("HUP", 1), ("USR1", 10), ("KILL", 9)):
        with place.exec("sh", "-c", "echo go; exec sleep 4713") as it:
            it.until(b"go")
            it.control(signal=name)
            assert it.finish()[0] == 128 + number
    place.wait_nothing_left("sleep 4713")


@pytest.mark.parametrize("tty", [0, 1])
def test_hanging_up_leaves_no_process(place, tty):
    """Not the program, not what it put into the background, a session of its own or beyond the reach of signals."""
    script = "trap '' HUP TERM INT; setsid sleep 4714 & (trap '' HUP; exec sleep 4715) >/dev/null 2>&1 & (sleep 4716 &) ; echo go; sleep 4717"
    names = [f"sleep {n}" for n in range(4714, 4718)]
    it = place.exec("sh", "-c", script, tty=tty)
    it.until(b"go")
    lab_node.wait_for(lambda: all(place.pids(n) for n in names), 30, "the programs do not run")
    it.close()
    place.wait_nothing_left(*names)
    assert place.container()["state"] == "running"
    # The program's own end takes along what it left behind, too.
    assert place.run("sh", "-c", "sleep 4714 >/dev/null 2>&1 & exit 5")[0] == 5
    place.wait_nothing_left(*names)


def test_sessions_outlive_contd_and_end_with_gated(place):
    with place.exec("sh", "-c", "while read -r x; do echo got $x; done") as it:
        it.send(b"one\n")
        it.until(b"got one")
        mark = place.node.machine.mark()
        assert place.agent.kill("contd") == 1
        place.node.machine.wait_service("contd", 60, mark)
        it.send(b"two\n")
        it.until(b"got two")
        it.control(eof=True)
        assert it.finish()[0] == 0
    it = place.exec("sh", "-c", "echo go; sleep 4718")
    it.until(b"go")
    given, mark = place.tenant.challenge(place.id), place.node.machine.mark()
    assert place.agent.kill("gated") == 1
    with pytest.raises((Gone, OSError)):
        it.finish()
    place.node.machine.wait("listening", 60, mark, service="gated")
    place.wait_nothing_left("sleep 4718")
    # Its challenges went with it: what it gave is like another node's now.
    refused(place.tenant.call, "status", place.id, "/v1/status", challenge=given, code="gate.bad-challenge", status=401)
    assert place.tenant.status(place.id)["containers"]


def test_a_session_that_speaks_wrongly_is_ended(place):
    def wrong(say):
        it = place.exec("sh", "-c", "echo go; sleep 4719")
        it.until(b"go")
        say(it)
        # A close with a status that tells of the mistake, or the bare end, or an error as the last word; never an exit.
        last = b""
        try:
            for _ in range(100):
                kind, payload = it.receive()
                if kind == lab_gate.CLOSE:
                    assert payload[:2] != b"\x03\xe8" or b'"error"' in last, payload
                    break
                last = payload
        except (Gone, OSError):
            pass
        it.close()
    wrong(lambda it: it.frame(lab_gate.BINARY, b"\0x", mask=False))
    wrong(lambda it: it.frame(lab_gate.BINARY, b"\0x", reserved=4))
    wrong(lambda it: it.frame(lab_gate.TEXT, b"hello"))
    wrong(lambda it: it.frame(3, b"hello"))
    wrong(lambda it: it.frame(lab_gate.PING, bytes(126)))
    wrong(lambda it: it.frame(0, b"a continuation of nothing"))
    wrong(lambda it: it.frame(lab_gate.BINARY, bytes(1 << 20)))
    wrong(lambda it: it.frame(lab_gate.BINARY, b"\x09x"))
    wrong(lambda it: it.frame(lab_gate.BINARY, b"\x03not json"))
    wrong(lambda it: it.link.socket.sendall(b"\x82\xff" + b"\xff" * 8 + bytes(4)))
    place.wait_nothing_left("sleep 4719")
    # A message in pieces, with a ping between them, is one.
    with place.exec("cat") as it:
        it.frame(lab_gate.BINARY, b"\0hel", fin=False)
        it.frame(lab_gate.PING, b"are you there")
        it.frame(0, b"lo\n")
        while (answer := it.receive())[0] == lab_gate.PING:
            pass
        assert answer == (lab_gate.PONG, b"are you there")
        assert it.until(b"hello\n") == b"hello\n"


# ---- restart


def test_a_service_is_restarted_by_its_tenant(place):
    before, web = place.container()["pid"], place.container("web")["pid"]
    refused(place.tenant.restart, place.id, code="gate.which-service", status=400)
    refused(place.tenant.restart, place.id, "nosuch", code="gate.not-found", status=404)
    link, entries = place.tenant.follow(place.id, service="loud", tail=0, follow=1)
    with link:
        assert place.tenant.restart(place.id, "loud") == {}
        lab_node.wait_for(lambda: place.container()["state"] == "running" and place.container()["pid"] != before, 60,
                          "it was not restarted")
        while (found := entry(entries))["stream"] != "stdout":
            pass  # the two streams have no common order
        assert found["line"] == "line 1"
    assert place.container("web")["pid"] == web


# ---- croft


def test_croft_speaks_with_it(place):
    """The product's own client, with the same results."""
    grid = place.node.grid
    tenant, farmer = grid.tenant(), grid.farmer
    for who in (tenant, farmer):
        who.env["CROFT_GATE"] = f"127.0.0.1:{place.port}"
    done = tenant.run("exec", place.id, "loud", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")
    done = tenant.run("logs", place.id, "loud", "--tail", 5)
    assert sorted((done.out + done.err).splitlines()) == sorted(e["line"] for e in place.tenant.logs(place.id, service="loud", tail=5))
    refusal = farmer.run("exec", place.id, "loud", "--", "true", check=False)
    assert refusal.status != 0 and "gate.not-allowed" in refusal.err
    assert "gated" in farmer.run("node", "show", place.node.number).out or farmer.json("node", "show", place.node.number)
    assert farmer.run("node", "logs", place.node.number, "gated", "--tail", 3).out


# ---- floods and the outside


def silent(port, count):
    """Connections that say nothing: those that the gate has not closed at once."""
    links = []
    for _ in range(count):
        link = socket.socket()
        link.settimeout(30 * paths.SCALE)
        link.connect(("127.0.0.1", port))
        links.append(link)
    return links


def ends(link):
    """Whether the peer closes, however it says so."""
    try:
        while link.recv(4096):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def test_those_who_say_nothing_or_too_slowly_or_too_much_are_let_go(place):
    """A handshake that does not begin, a head that trickles, a head and a body that are too long."""
    mute = silent(place.port, 1)[0]
    trickle = place.tenant.connect()
    trickle.socket.sendall(b"POST /v1/challenge HT")
    begun = time.monotonic()
    while time.monotonic() - begun < 4 * PATIENCE * paths.SCALE:
        try:
            trickle.socket.sendall(b"T")
        except OSError:
            break
        time.sleep(0.5)
    else:
        pytest.fail("a head that never ends is waited for without end")
    assert ends(mute)
    mute.close()
    trickle.close()
    with place.tenant.connect() as link:
        try:
            link.send("GET", "/v1/logs?" + "a" * 70000)
            assert link.head()[0] == 431
        except (Gone, OSError):
            pass  # it does not read the rest, so that its answer may be lost
    with place.tenant.connect() as link:
        link.send("POST", "/v1/challenge", ["Content-Type: application/json", "Content-Length: 100000000"])
        assert link.head()[0] == 413
    for body in (b"", b"[]", b"{", b'{"reservation":-1}', b'{"reservation":"1"}', b'{"reservation":1e99}', b"\xff"):
        with place.tenant.connect() as link:
            link.send("POST", "/v1/challenge", body=body)
            status, _, answer = link.answer()
            assert (status, json.loads(answer)["code"]) == (400, "gate.bad-request"), body


def counter(agent, file, group, name):
    """One of the kernel's counters of its network (Documentation/networking/snmp_counter.rst)."""
    names, values = (line.split() for line in agent.text(f"/proc/net/{file}").splitlines() if line.startswith(f"{group}:"))
    return int(dict(zip(names, values))[name])


def dropped(agent):
    """Connections that the kernel refused as a listener had too many that were not taken up."""
    return counter(agent, "netstat", "TcpExt", "ListenOverflows")


def taken(agent):
    """Connections that listeners got."""
    return counter(agent, "snmp", "Tcp", "PassiveOpens")


def test_a_flood_is_bounded_and_disturbs_nobody_who_is_in(place):
    link, entries = place.tenant.follow(place.id, service="loud", tail=0, follow=1)
    before, had = dropped(place.agent), taken(place.agent)
    with link, place.exec("cat") as it:
        flood = silent(place.port, 200)  # thrice what one address may have at a request
        it.send(b"still here\n")
        assert it.until(b"still here\n")
        # QEMU's forward queues one: the host's kernel, which counts some 70 overflows here where the guest has none, offers the others again
        # after 1, 3, 7, 15, 31 and 63 seconds. The gate's time begins when it has them.
        lab_node.wait_for(lambda: taken(place.agent) - had >= len(flood), 120, "the machine was not offered all")
        # All are let go within their time, so that the next caller is served; none was lost in the kernel, which would have who comes with a flood wait.
        assert all(ends(f) for f in flood)
        assert dropped(place.agent) == before
        for f in flood:
            f.close()
        place.say("and now")
        assert entry(entries)["line"] == "and now"
    assert place.tenant.status(place.id)


def test_the_programs_of_one_tenant_are_counted(place):
    running = []
    try:
        with pytest.raises(GateError) as e:
            for _ in range(64):
                running.append(place.exec("sleep", "4720"))
        assert (e.value.status, e.value.code) == (429, "gate.busy"), e.value
        assert 8 <= len(running) <= 32
    finally:
        for it in running:
            it.close()
    place.wait_nothing_left("sleep 4720")
    assert place.run("true")[0] == 0


def test_a_scan_finds_the_gate_and_published_ports_only(place):
    """Every TCP port of the node's address in a network, from a host of that network."""
    lab_node.wait_for(lambda: any(a.startswith(LAN_ADDRESS) for link in place.agent.varlink("netd", "GetStatus")["links"]
                                  for a in link["addresses"]), 60, "no address from the segment")
    found, refusing = place.lan.scan(LAN_ADDRESS, lab_gate.PORT)
    assert found == {lab_gate.PORT, place.web_port}
    assert not refusing, "a port is closed, but not silent"


def test_the_same_over_ipv6(place):
    place.has_address6()
    found, refusing = place.lan.scan(place.lan.address6(), lab_gate.PORT)
    assert found == {lab_gate.PORT, place.web_port}
    assert not refusing, "a port is closed, but not silent"


@pytest.mark.parametrize("family", [4, 6])
def test_no_datagram_is_answered_but_at_a_published_port(place, family):
    """Not with an error either. A program in a container that answers everything shows that the scan would see it."""
    address = LAN_ADDRESS if family == 4 else place.has_address6()
    with place.exec("sh", "-c", "cat > /tmp/attack && chmod 755 /tmp/attack", service="web") as it:
        it.send(tenants.attack_program())
        it.control(eof=True)
        assert it.finish()[0] == 0
    with place.exec("/tmp/attack", "server", "9053", "heard", service="web") as it:
        it.until(b"ready")
        assert place.lan.scan_udp(address, lab_gate.PORT) == {(17, place.udp_port)}
    place.wait_nothing_left()


def test_a_container_does_not_reach_the_gate(place):
    """By the node's addresses and by its own gateway, while the same way leads to a published port."""
    gateway = place.run("sh", "-c", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'")[1].decode().strip()
    assert gateway
    for address in (gateway, LAN_ADDRESS, "10.0.2.15"):
        status, out, err = place.run("sh", "-c", f"nc -w 3 {address} {lab_gate.PORT} </dev/null")
        assert status != 0, (address, out, err)
    assert place.run("sh", "-c", f"nc -w 10 {LAN_ADDRESS} {place.web_port} </dev/null")[0] == 0


def test_an_old_challenge_is_refused(place, early):
    given, when = early
    time.sleep(max(0, CHALLENGE_LIFE + 3 - (time.monotonic() - when)))
    refused(place.tenant.call, "status", place.id, "/v1/status", challenge=given, code="gate.bad-challenge", status=401)


def test_the_end_of_a_reservation_ends_its_readers_and_programs(place):
    """Last, as the others need it."""
    link, entries = place.tenant.follow(place.id, service="loud", tail=0, follow=1)
    it = place.exec("sh", "-c", "echo go; sleep 4721")
    it.until(b"go")
    with link:
        place.it.cancel()
        assert not [e for e in entries if e]
    try:
        assert it.finish()[0] in (128 + 9, 128 + 15)
    except (Gone, GateError):
        pass
    refused(place.tenant.call, "logs", place.id, "/v1/logs?service=loud", code="gate.not-allowed", status=403)
    place.wait_nothing_left("sleep 4721")
