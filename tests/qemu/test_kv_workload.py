"""Key-value namespaces as a workload: reserved by a compose file, used from another machine, kept and removed like volumes."""
import json
import socket
import ssl
import subprocess

import pytest

from lab import cli, faults, machine as lab_machine, paths, ports
from lab.agent import Varlink
from lab.node import ask_storaged, wait_for

SECONDS = 170  # about, for the order in which files start

MIB = 1 << 20
TENANT = "0x00000000000000000000000000000000000000aa"


def key(name, project="shop"):
    return f"kv/{TENANT}/{project}/{name}"


class Kv:
    """redis-cli against a forwarded port: each call is a connection of its own, as from a tenant's machine."""

    def __init__(self, port, namespace, password):
        self.port, self.namespace, self.password = port, namespace, password

    def talk(self, *lines, select=True):
        first = [f"SELECT {self.namespace} {self.password}"] if select else []
        done = subprocess.run(["redis-cli", "-p", str(self.port)], input="\n".join([*first, *lines, ""]), text=True,
                              capture_output=True, timeout=60 * paths.SCALE)
        return [line for line in done.stdout.splitlines() if line]

    def __call__(self, *lines):
        answers = self.talk(*lines)
        assert answers[:1] == ["OK"], answers
        return answers[1:]

    def wait(self, *lines):
        """Once it answers: the connection is refused, or not accepted yet, while its server starts."""
        found = []

        def ask():
            found[:] = self.talk(*lines)
            return found[:1] == ["OK"]
        wait_for(ask, 120, lambda: found)
        return found[1:]


# ---- storaged and kvd on a machine with an ssd and an hdd, without a chain


@pytest.fixture(scope="module")
def m(session_logs):
    """The hdd is plugged while it runs."""
    fast = lab_machine.disk_create(session_logs / "kv-ssd.img", 3072, "fast", "scsi", "rotation_rate=1")
    slow = lab_machine.disk_create(session_logs / "kv-hdd.img", 3072, "slow", "scsi", "rotation_rate=7200")
    with lab_machine.Machine(session_logs / "kv", ("runmode=dev",), disks=[fast]) as started:
        started.wait_service("storaged", 120)
        started.plug(slow)
        started.slow = slow
        wait_for(lambda: "hdd" in pools(started), 120, "the hdd becomes no pool")
        yield started


def ask(m, method, **parameters):
    return ask_storaged(m.agent, method, **parameters)


def ensure(m, name, kind="hdd", size=16 * MIB, **more):
    return ask(m, "EnsureSpace", **{"key": key(name), "kind": kind, "size": size, "mode": "user", "password": "secret",
                                    "public": False, **more})


def refusal(m, **more):
    with pytest.raises(Varlink) as refused:
        ensure(m, "refused", **more)
    return refused.value.parameters["code"]


def inside(m, port, *lines):
    """On the node itself: what kvd answers to lines typed at its port."""
    text = "\\r\\n".join([*lines, "QUIT"])
    return m.agent.sh(f"printf '{text}\\r\\n' | /croft-test/busybox nc 127.0.0.1 {port}").out


def service(m, pool):
    """At the node's start it comes with the certificate, which comes with noded."""
    try:
        return m.agent.varlink("core0", "GetService", name=f"kvd@{pool}")["service"]
    except Varlink as unknown:
        if unknown.parameters["code"] != "core.no-service":
            raise
        return {"state": "unknown"}


def pools(m):
    return {p["kind"]: p for p in ask(m, "GetStatus")["pools"]}


def test_a_namespace_is_promised_made_and_removed(m):
    free = pools(m)["hdd"]["reserved"]
    made = ensure(m, "cache")
    assert made["created"] and made["namespace"].startswith("kv-") and 61000 <= made["port"] <= 61063
    again = ensure(m, "cache", size=32 * MIB)
    assert again == {**made, "created": False}
    pool = pools(m)["hdd"]
    assert pool["reserved"] - free >= 2 * 32 * MIB
    assert service(m, pool["uuid"])["state"] == "running"
    # Its data there, its index on the ssd, all its own, and no privilege with it.
    folders = [f"{pool['path']}/kv", f"{pools(m)['ssd']['path']}/kv-index/{pool['uuid']}"]
    look = m.agent.sh(f"ls -ldn {' '.join(folders)}; cat /proc/$(pidof kvd)/status").out
    for part in ["drwx------    1 107      107  "] * 2 + ["Uid:\t107\t107", "CapBnd:\t0000000000000000", "Seccomp:\t2",
                                                         "NoNewPrivs:\t1"]:
        assert part in look, (part, look)
        look = look.replace(part, "", 1)
    assert m.agent.exists(f"{folders[0]}/lock") and not m.agent.exists(f"{folders[0]}/ns-00000000.index")
    answer = inside(m, made["port"], f"SELECT {made['namespace']} secret", "SET a 1", "GET a")
    assert answer.split() == ["+OK", "$1", "a", "$1", "1", "+OK"], answer
    shown = json.loads(m.agent.sh(f"croft kv show {key('cache')} --json").out)
    assert shown["entries"] == 1 and shown["used"] == 2 and shown["size"] == 32 * MIB
    assert key("cache") in m.agent.sh("croft kv list --json").out
    ask(m, "RemoveSpace", key=key("cache"))
    ask(m, "RemoveSpace", key=key("cache"))
    assert ask(m, "ListSpaces")["spaces"] == [] and pools(m)["hdd"]["reserved"] == free
    wait_for(lambda: service(m, pool["uuid"])["state"] == "stopped", 60, "kvd does not stop")
    assert not m.agent.exists(f"{pool['path']}/kv")


SEGMENT = 67174400


def cost(size):
    """What a pool promises for a namespace: docs/decisions/0114."""
    return 2 * size + SEGMENT * 5 // 2


def test_every_byte_is_counted_once(m):
    """What is promised, may be promised, is the node's own and btrfs's is the whole pool; what is registered is what the contract
    counts of it and what may still be sold."""
    def look():
        status = ask(m, "GetStatus")
        for pool in status["pools"]:
            assert pool["size"] == pool["reserved"] + pool["free"] + pool["own"] + pool["overhead"], pool
        return status["hdd"], pools(m)["hdd"]

    registered, before = look()
    assert before["reserved"] == 0 and registered == before["free"]
    usable = before["free"]
    volume = f"volume/{TENANT}/shop/counted"
    ask(m, "EnsureVolume", key=volume, kind="hdd", size=5 * MIB)
    ensure(m, "counted", size=16 * MIB)
    ensure(m, "counted2", size=MIB + 1)
    registered, pool = look()
    once = SEGMENT + 32 * MIB  # for the server
    assert pool["reserved"] == 5 * MIB + cost(16 * MIB) + cost(MIB + 1) + once
    assert pool["free"] == usable - pool["reserved"]
    assert registered == pool["free"] + 5 * MIB + 16 * MIB + MIB + 1
    ensure(m, "counted", size=20 * MIB)
    registered, pool = look()
    assert registered == pool["free"] + 5 * MIB + 20 * MIB + MIB + 1
    assert pool["free"] == usable - 5 * MIB - cost(20 * MIB) - cost(MIB + 1) - once
    # The last byte is sold, and not one more.
    ask(m, "EnsureVolume", key=volume, kind="hdd", size=5 * MIB + pool["free"])
    assert look()[1]["free"] == 0
    with pytest.raises(Varlink) as refused:
        ask(m, "EnsureVolume", key=volume, kind="hdd", size=5 * MIB + pool["free"] + 4096)
    assert refused.value.parameters["code"] == "storage.no-space"
    ask(m, "RemoveVolume", key=volume)
    for name in ("counted", "counted2"):
        ask(m, "RemoveSpace", key=key(name))
    registered, pool = look()
    assert registered == usable and pool["free"] == usable and pool["reserved"] == 0


def test_garbage_is_its_own(m):
    """Overwritten with more than its whole share, a namespace takes no more of the disk than it was promised, and its neighbour fills
    its own to the end."""
    ensure(m, "loud", size=4 * MIB)
    made = ensure(m, "quiet", size=4 * MIB)
    names = {name: ensure(m, name, size=4 * MIB)["namespace"] for name in ("loud", "quiet")}
    size = 500000
    rounds = cost(4 * MIB) * 3 // 2 // (2 * size)
    script = (f"cd /tmp; for v in 1 2; do printf '*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n${size}\\r\\n' >set$v; "
              f"head -c {size} /dev/zero | tr '\\0' $v >>set$v; printf '\\r\\n' >>set$v; done; "
              f"(printf 'SELECT {names['loud']} secret\\r\\n'; for i in $(seq {rounds}); do cat set1 set2; done; printf 'QUIT\\r\\n') "
              f"| /croft-test/busybox nc 127.0.0.1 {made['port']} | sort | uniq -c")
    said = m.agent.sh(script, 300).out.split("\n")
    counts = {line.split()[1].strip(): int(line.split()[0]) for line in said if line.split()}
    assert counts == {"+OK": 2, "$1": 2 * rounds, "k": 2 * rounds}, said
    folder = f"{pools(m)['hdd']['path']}/kv"
    used = {line.split()[1].rsplit("/", 1)[1]: int(line.split()[0]) << 10
            for line in m.agent.sh(f"du -k -d 1 {folder}").out.splitlines() if "/ns-" in line}
    assert max(used.values()) <= cost(4 * MIB), used
    assert sum(used.values()) > 4 * MIB
    value = "x" * (1024 * 100 - 4)
    answer = inside(m, made["port"], f"SELECT {names['quiet']} secret", "SET full y")
    assert "full" in answer
    fill = (f"(printf 'SELECT {names['quiet']} secret\\r\\n'; for i in $(seq 1000 1039); do "
            f"printf \"*3\\r\\n\\$3\\r\\nSET\\r\\n\\$4\\r\\n$i\\r\\n\\${len(value)}\\r\\n\"; head -c {len(value)} /dev/zero "
            f"| tr '\\0' x; printf '\\r\\n'; done; printf 'QUIT\\r\\n') | /croft-test/busybox nc 127.0.0.1 {made['port']}")
    answers = m.agent.sh(fill, 120).out
    assert "no-space" not in answers and "No space" not in answers and answers.count("$4") == 40, answers[-500:]
    for name in names:
        ask(m, "RemoveSpace", key=key(name))


def test_what_cannot_be_is_refused(m):
    assert refusal(m, size=1 << 40) == "storage.no-space"
    assert refusal(m, size=1) == "storage.too-small"
    assert refusal(m, kind="tape") == "storage.bad-kind"
    assert refusal(m, mode="both") == "storage.bad-request"
    assert refusal(m, password="*") == "storage.bad-request"
    assert refusal(m, key="volume/a/b/c") == "storage.bad-key"
    assert refusal(m, key="kv/../../x") == "storage.bad-key"
    ensure(m, "refused")
    assert refusal(m, kind="ssd") == "storage.conflict"
    assert refusal(m, mode="seq") == "storage.conflict"
    assert refusal(m, size=MIB) == "storage.too-small"
    ask(m, "RemoveSpace", key=key("refused"))


def test_a_pulled_disk_takes_only_its_own_server(m):
    fast = ensure(m, "fast", kind="ssd")
    slow = ensure(m, "kept")
    uuids = {kind: p["uuid"] for kind, p in pools(m).items()}
    assert fast["port"] != slow["port"]
    inside(m, fast["port"], f"SELECT {fast['namespace']} secret", "SET a fast")
    inside(m, slow["port"], f"SELECT {slow['namespace']} secret", "SET a slow")
    m.agent.run("/croft-test/busybox", "sync")  # an answer promises that within a second
    m.pull(m.slow)
    wait_for(lambda: "hdd" not in pools(m), 60, "the pool is still there")
    wait_for(lambda: service(m, uuids["hdd"])["state"] == "stopped", 60, "its kvd is not stopped")
    assert service(m, uuids["ssd"])["state"] == "running"
    assert "fast" in inside(m, fast["port"], f"SELECT {fast['namespace']} secret", "GET a")
    # It is known to be lost, and not made a second time elsewhere.
    assert refusal(m, key=key("kept"), kind="ssd") == "storage.volume-lost"
    listed = {s["key"]: s.get("error") for s in ask(m, "ListSpaces")["spaces"]}
    assert listed == {key("fast"): None, key("kept"): "storage.volume-lost"}
    assert all(v["key"] != key("kept") for v in ask(m, "ListVolumes")["volumes"])
    ask(m, "RemoveSpace", key=key("fast"))
    m.plug(m.slow)
    wait_for(lambda: "hdd" in pools(m), 120, "the hdd is not taken back")
    wait_for(lambda: service(m, uuids["hdd"])["state"] == "running", 60, "its kvd is not started again")
    assert "slow" in inside(m, slow["port"], f"SELECT {slow['namespace']} secret", "GET a")


def test_killed_at_any_time(m):
    """storaged between its steps, kvd under a request: what was promised is found again, what was written too."""
    made = ensure(m, "kept")
    inside(m, made["port"], f"SELECT {made['namespace']} secret", "SET a kept")
    for _ in range(2):
        m.agent.kill("kvd")
        m.agent.kill("storaged")
        assert ensure(m, "kept") == {**made, "created": False}
        assert "kept" in inside(m, made["port"], f"SELECT {made['namespace']} secret", "GET a")
    mark = m.mark()
    m.power_off()
    m.disks.append(m.slow)  # from now on it is there from the beginning
    m.start()
    m.wait_service("storaged", 120, mark)
    pool = pools(m)["hdd"]["uuid"]
    wait_for(lambda: service(m, pool)["state"] == "running", 60, "kvd is not started again")
    answer = ensure(m, "kept")
    assert answer["namespace"] == made["namespace"] and not answer["created"]
    assert "kept" in inside(m, answer["port"], f"SELECT {made['namespace']} secret", "GET a")


# ---- a whole node


def kv(published, **more):
    return {"x-croft": {"kv": {"cache": {"size": "16MiB", "mode": "user", "password": "open",
                                         "port": published, **more}}}}


def app(port):
    """A service that is healthy when the namespace's server answers by its name, and by no other port."""
    check = f"printf 'PING\\r\\nQUIT\\r\\n' | nc -w 9 cache {port} | grep -q PONG && ! nc -w 9 cache 61000 </dev/null"
    return {"app": {"image": "busybox", "stop_grace_period": "1s", "command": ["sleep", "100000"],
                    "healthcheck": {"test": check, "interval": "1s", "timeout": "60s", "retries": 10,
                                    "start_period": "1m"}}}


def answers(port):
    with socket.socket() as s:
        s.settimeout(3 * paths.SCALE)
        try:
            s.connect(("127.0.0.1", port))
            s.sendall(b"PING\r\n")
            return s.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def test_a_tenant_uses_it_from_another_machine(node):
    port, direct = node.ports[2], ports.free()
    node.machine.forward(direct, 61000)
    it = node.deploy(app(port), name="kv", **kv(port))
    space = it.answer["kv"]["cache"]
    assert space["port"] == port
    cache = Kv(port, space["namespace"], "open")
    assert cache("SET key value", "GET key") == ["key", "value"]
    assert answers(port) and not answers(direct)
    # A wrong password and a name that is somebody else's are answered as a name that nobody has.
    nobody = cache.talk("SELECT kv-00000000000000000000000000000000 open", select=False)
    assert "Namespace not found" in nobody[0]
    assert Kv(port, space["namespace"], "wrong").talk() == nobody
    assert cache.talk(f"SELECT {space['namespace']}", select=False) == nobody
    assert cache.talk("NSLIST", select=False) == ["default"]
    # Nobody is administrator.
    assert cache.talk(f"NSSET {space['namespace']} maxsize 0", select=False) == ["Permission denied"]
    # The limit: sixteen of seventeen do not fit, as keys count too.
    megabyte = "x" * MIB
    said = cache(*[f"SET big{i} {megabyte}" for i in range(17)])
    assert sum(s.startswith("big") for s in said) == 15 and "No space left on this namespace" in said, said
    _, done = node.try_deploy(app(port), name="thief", **kv(port))
    assert done.status == 1 and "port" in done.out + done.err, done
    node.agent.kill("kvd")
    assert cache.wait("GET key") == ["value"]
    node.reboot()
    assert cache.wait("GET key") == ["value"]
    it.cancel()
    wait_for(lambda: not answers(port), 60, "the port still answers")


def test_a_namespace_alone(node):
    """No service: storage is what is reserved, in the contract too, and it answers as any other."""
    port = node.ports[2]
    it = node.deploy({}, name="alone", **kv(port))
    shown = it.show()
    assert it.answer["services"] == {} and shown["state"] == "Active", shown
    space = it.answer["kv"]["cache"]
    assert Kv(port, space["namespace"], "open").wait("SET key value", "GET key") == ["key", "value"]
    node.reboot()
    assert Kv(port, space["namespace"], "open").wait("GET key") == ["value"]
    it.cancel()
    wait_for(lambda: not answers(port), 60, "the port still answers")


def test_tls_by_the_registered_key(node, logs):
    """The published port takes TLS for who trusts the node's own certificate, got through the gate; another node's is refused."""
    port, gate = node.ports[2], ports.free()
    node.machine.forward(gate, 4443)
    node.machine.wait("listening", 120, service="gated")
    with node.deployed({}, name="tls", **kv(port)) as it:
        space = it.answer["kv"]["cache"]
        tenant = node.grid.tenant()
        pem = logs / "node.pem"
        asking = cli.Cli({**tenant.env, "CROFT_GATE": f"127.0.0.1:{gate}"})
        asking.run("kv", "certificate", it.id, "--output", pem)
        assert asking.json("kv", "certificate", it.id)["certificate"] == pem.read_text()
        shown = node.agent.sh("croft kv list --json").out
        assert next(s for s in json.loads(shown) if s["namespace"] == space["namespace"])["tls"] is True
        # It is that of the gate, whose key croft has compared with the chain's.
        assert ssl.PEM_cert_to_DER_cert(pem.read_text()) == ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", gate)))
        lines = f"SELECT {space['namespace']} open\nSET key secret\nGET key\n"
        done = subprocess.run(["redis-cli", "--tls", "--cacert", pem, "-p", str(port)], input=lines, text=True, capture_output=True,
                              timeout=60 * paths.SCALE)
        assert done.stdout.split() == ["OK", "key", "secret"], done
        context = ssl.create_default_context(cafile=pem)
        context.check_hostname = False
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60)) as s:
            s.sendall(f"SELECT {space['namespace']} open\r\nGET key\r\n".encode())
            said = b""
            while b"secret" not in said:
                part = s.recv(100)
                assert part, said
                said += part
        other = logs / "other.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=croft node", "-keyout", logs / "other.key", "-out", other], check=True, capture_output=True)
        wrong = ssl.create_default_context(cafile=other)
        wrong.check_hostname = False
        with pytest.raises(ssl.SSLError):
            wrong.wrap_socket(socket.create_connection(("127.0.0.1", port), 60))
        # Plain text is still taken, until the tenant requires TLS; a wrong password is no other answer then.
        plain = Kv(port, space["namespace"], "open")
        assert plain("GET key") == ["secret"]
        required = kv(port)
        required["x-croft"]["kv"]["cache"]["tls"] = "required"
        node.deploy({}, name="tls", **required)
        assert plain.talk("GET key")[0].startswith("ERR kv.tls-required "), plain.talk("GET key")
        assert "Namespace not found" in Kv(port, space["namespace"], "wrong").talk()[0]
        done = subprocess.run(["redis-cli", "--tls", "--cacert", pem, "-p", str(port)], input=lines, text=True, capture_output=True,
                              timeout=60 * paths.SCALE)
        assert done.stdout.split()[0] == "OK" and done.stdout.split()[-1] == "secret", done
        shown = json.loads(node.agent.sh("croft kv list --json").out)
        assert next(s for s in shown if s["namespace"] == space["namespace"])["tlsRequired"] is True
        # Taken back by an update that leaves it out: plain text is served again, and what was written is there.
        node.deploy({}, name="tls", **kv(port))
        assert plain("GET key") == ["secret"]
        shown = json.loads(node.agent.sh("croft kv list --json").out)
        assert next(s for s in shown if s["namespace"] == space["namespace"])["tlsRequired"] is False


def test_a_failed_update_grows_nothing(node):
    """Volume, virtual disk and namespace keep their sizes while an update may still fail, and have the new ones once it runs."""
    def storage(size):
        options = {"driver_opts": {"size": f"{size}M"}}
        return {"volumes": {"data": options, "disk": {"driver_opts": {"size": f"{size}M", "encrypted": "true"}}},
                "x-croft": {"kv": {"cache": {"size": f"{size}M", "password": "open"}}}}

    def sizes():
        call = node.agent.varlink
        found = [(v["key"], v["size"]) for v in call("storaged", "ListVolumes")["volumes"]]
        found += [(s["key"], s["size"]) for s in call("storaged", "ListSpaces")["spaces"]]
        return {k.rsplit("/", 1)[1]: size // MIB for k, size in found if "/grows/" in k}

    app = {"image": "busybox", "stop_grace_period": "1s", "command": ["sleep", "100000"], "volumes": ["data:/data", "disk:/disk"]}
    sick = {**app, "healthcheck": {"test": ["CMD", "false"], "interval": "1s", "retries": 2, "start_period": "0s"}}
    with node.deployed({"app": app}, name="grows", **storage(64)) as it:
        assert sizes() == {"data": 64, "disk": 64, "cache": 64}
        _, done = node.try_deploy({"app": sick}, name="grows", **storage(96))
        assert done.status == 1 and "unhealthy" in done.out + done.err
        assert it.show()["state"].lower() == "active"
        assert sizes() == {"data": 64, "disk": 64, "cache": 64}
        # provd dies before and after each of the steps that make them larger, and comes back to what is left to do.
        points, mark = faults.arm(node, ["settle", "settle-disk", "settle-space"]), node.machine.mark()
        node.deploy({"app": app}, name="grows", **storage(96))
        faults.died(node, points, mark)
        assert sizes() == {"data": 96, "disk": 96, "cache": 96}


def spaces(node, name):
    return [s for s in node.agent.varlink("storaged", "ListSpaces")["spaces"] if s["namespace"] == name]


def test_made_once_kept_and_removed(node):
    """provd is killed at the fault points of its step; the next deployment finds what the first one wrote; with keep 0 it goes."""
    port = node.ports[2]
    points, mark = faults.arm(node, ["space"]), node.machine.mark()
    it = node.deploy(app(port), name="kept-kv", **kv(port))
    faults.died(node, points, mark)
    name = it.answer["kv"]["cache"]["namespace"]
    assert len(spaces(node, name)) == 1
    assert Kv(port, name, "open")("SET again found", "GET again") == ["again", "found"]
    it.cancel()
    wait_for(lambda: "keepUntil" in spaces(node, name)[0], 60, "it is not kept")
    again = node.deploy(app(port), name="kept-kv", **{"x-croft": {**kv(port)["x-croft"], "keep": "0s"}})
    assert again.answer["kv"]["cache"]["namespace"] == name
    assert Kv(port, name, "open")("GET again") == ["found"]
    again.cancel()
    wait_for(lambda: not spaces(node, name), 90, "the namespace is still there")
