"""systemd's own varlink client against our daemons: an administrator uses it instead of a tool of ours."""
import json
import os
import subprocess
import time

import pytest
from lab import paths

BIN = paths.BUILD / "bin"
VARLINKCTL = "usr/bin/varlinkctl"
WAIT = 20 * paths.SCALE


def wait(condition, what):
    end = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


# A disk of 8 GiB whose file is a pipe that nobody writes.
SLOW_DISK = """
mount -t tmpfs none /sys
mkdir -p /sys/block/vda/queue /sys/block/vda/device
echo 16777216 > /sys/block/vda/size
echo 512 > /sys/block/vda/queue/logical_block_size
echo slow > /sys/block/vda/device/model
mount -t tmpfs none /dev
mkfifo /dev/vda
exec "$@"
"""


@pytest.fixture(scope="module")
def daemons(folder, spawn):
    """Sockets of the daemons that need no machine of their own, and of core0 in a name space: name -> path."""
    run = folder / "run"
    (run / "pools").mkdir(parents=True)
    boot = run / "boot.json"
    boot.write_text(json.dumps({
        "version": "test", "bootId": "0" * 32, "buildTime": 1760000000, "farmerId": 1, "runmode": "dev",
        "chain": ["http://127.0.0.1:9"], "chainId": 31337, "registry": "0x" + "11" * 20, "trust": {"mode": "rpc"},
        "relay": [], "hub": [], "net": [], "vlan": [], "bond": [], "disks": {"policy": "empty", "usb": False},
        "ntp": [], "errors": []}))
    extra = {"provd": ["--state", run / "state-provd", "--run", run],
             "imaged": ["--root", run / "images", "--run", run / "mounted"],
             "noded": ["--pools", run / "pools", "--state", run / "state-noded"],
             "contd": ["--run", run / "containers", "--logs", run / "logs", "--no-limits", "--seccomp", "none",
                       "--cgroup-mount", run / "cgroup"]}
    (run / "pools/a/identity").mkdir(parents=True)
    (run / "state-noded").mkdir()
    around = {"noded": {"env": {**os.environ, "CROFT_RUN": str(run), "CROFT_JOIN_TOKEN_FILE": str(run / "join.token")}}}
    sockets = {}
    for name, options in extra.items():
        sockets[name] = run / name
        spawn(name, BIN / name, "--socket", sockets[name], "--boot", boot, *options, **around.get(name, {}))
    # netd is the master of a network name space. storaged gets a machine whose only disk never answers, so that it goes on
    # waiting: without a disk it would make a pool in memory, which takes a real machine.
    sockets["netd"] = run / "netd"
    spawn("netd", "unshare", "--user", "--map-root-user", "--net", "--mount", "--kill-child", "--fork", BIN / "netd", "--socket", sockets["netd"],
          "--boot", boot, "--state", run / "netd.json", "--resolv-conf", run / "resolv.conf", "--events", run / "events",
          "--busybox", "/bin/busybox")
    sockets["storaged"] = run / "storaged"
    spawn("storaged", "unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", SLOW_DISK, "sh", BIN / "storaged",
          "--socket", sockets["storaged"], "--boot", boot)
    root = folder / "node"
    (root / "etc/croft/services").mkdir(parents=True)
    (root / "etc/croft/services/talk.service").write_text(
        "[Unit]\nDescription=says something\n[Service]\nType=simple\n"
        "ExecStart=/bin/sh -c 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done'\nStandardOutput=ring\n")
    spawn("core0", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", BIN / "core0",
          "--root", root)
    sockets["core0"] = root / "run/croft/core0"
    for name, path in sockets.items():
        wait(path.exists, f"{name}: {(folder / f'{name}.log').read_text()[-2000:]}")
    return sockets


INTERFACES = {"core0": "org.croft.core", "contd": "org.croft.container", "imaged": "org.croft.image",
              "provd": "org.croft.provision", "noded": "org.croft.node", "netd": "org.croft.net",
              "storaged": "org.croft.storage"}
each = pytest.mark.parametrize("name", sorted(INTERFACES))


@pytest.fixture
def ctl(systemd, daemons):
    def run(verb, name, *args, status=0, options=()):
        done = systemd.run(VARLINKCTL, *options, verb, daemons[name], *args)
        assert (done.returncode == 0) == (status == 0), f"{verb} {name} {args}: {done}"
        return done
    return run


@each
def test_info_names_us_and_the_interface(ctl, name):
    info = json.loads(ctl("info", name, options=["--json=short"]).stdout)
    assert INTERFACES[name] in info["interfaces"] and "org.varlink.service" in info["interfaces"]
    assert info["vendor"] and info["product"] and info["version"]
    listed = ctl("list-interfaces", name).stdout.split()
    assert set(listed) == set(info["interfaces"])


@each
def test_the_description_parses_and_says_what_the_file_says(ctl, systemd, name):
    source = (paths.ROOT / f"core0/interfaces/{INTERFACES[name]}.varlink").read_text()
    done = ctl("introspect", name, INTERFACES[name])
    assert not done.stderr, done  # what it cannot parse, it shows raw
    shown = done.stdout
    for kind in ("method", "type", "error"):
        wanted = [line.split("(")[0] for line in source.splitlines() if line.startswith(kind + " ")]
        got = [line.split("(")[0].strip() for line in shown.splitlines() if line.startswith(kind + " ")]
        assert [w.strip() for w in wanted] == got, kind
    methods = ctl("list-methods", name, INTERFACES[name]).stdout.split()
    assert {f"{INTERFACES[name]}.{line[7:].split('(')[0].strip()}" for line in source.splitlines()
            if line.startswith("method ")} == set(methods)


@pytest.mark.parametrize("path", sorted((paths.ROOT / "core0/interfaces").glob("*.varlink")), ids=lambda p: p.stem)
def test_every_interface_is_valid(systemd, path):
    done = systemd.run(VARLINKCTL, "validate-idl", path)
    assert done.returncode == 0 and not done.stderr, done


def test_the_service_interface_describes_itself(ctl):
    assert "method GetInterfaceDescription" in ctl("introspect", "contd", "org.varlink.service").stdout


def test_a_call_answers(ctl):
    status = json.loads(ctl("call", "core0", "org.croft.core.GetStatus", "{}").stdout)
    assert status["version"] and status["uptime"] > 0
    services = json.loads(ctl("call", "core0", "org.croft.core.ListServices", "{}").stdout)["services"]
    assert "talk" in [s["name"] for s in services]
    assert json.loads(ctl("call", "contd", "org.croft.container.List", "{}").stdout) == {"containers": [], "logs": []}


def test_a_call_of_each_daemon_answers(ctl):
    """What each of them knows of the little that it was given."""
    def call(name, method, **parameters):
        return json.loads(ctl("call", name, f"{INTERFACES[name]}.{method}", json.dumps(parameters)).stdout)
    node = call("noded", "GetStatus")
    assert len(node["identity"]) == 42 and node["farm"] == 1 and node["state"] != "active"
    assert "reports" in call("noded", "GetPending")
    net = call("netd", "GetStatus")
    assert net["online"] is False
    assert call("netd", "List") == {"networks": [], "attachments": [], "ports": []}
    storage = call("storaged", "GetStatus")
    (disk,) = storage["disks"]
    assert (disk["name"], disk["size"], disk["kind"], disk["model"]) == ("vda", 8 << 30, "ssd", "slow")
    assert storage["pools"] == []


@pytest.mark.parametrize("name,method,parameters,code", [
    ("netd", "RemoveReservation", {"reservation": 7}, None),
    ("netd", "EnsureNetwork", {"reservation": 0, "network": "default", "internal": False}, "net.bad-request"),
    ("netd", "Attach", {"reservation": 1}, "net.bad-request"),
    # While its disk has not answered, nobody knows what there is.
    ("storaged", "ListVolumes", {}, "storage.busy"),
    ("storaged", "RemoveVolume", {"key": "volume/0x00/p/v"}, "storage.busy"),
    ("storaged", "EnsureVolume", {"key": "volume/0x00/p/v", "kind": "ssd", "size": 1 << 20}, "storage.busy"),
    ("storaged", "EnsureVolume", {"key": "volume/0x00/p/v", "kind": 3, "size": 1 << 20}, "storage.bad-request"),
    ("noded", "Submit", {"reservation": 1, "revision": 1, "state": "Active", "reason": ""}, "node.bad-request"),
])
def test_a_daemon_does_it_or_says_why_not(ctl, name, method, parameters, code):
    """varlinkctl shows the one error of the interface, and its members."""
    done = ctl("call", name, f"{INTERFACES[name]}.{method}", json.dumps(parameters), status=1 if code else 0)
    if code:
        assert f"{INTERFACES[name]}.Failed" in done.stderr, done
        failed = json.loads(done.stdout)
        assert set(failed) == {"code", "message", "hint"} and failed["message"], failed
        assert failed["code"] == code, failed


def test_a_call_changes_something(ctl):
    def state():
        answer = ctl("call", "core0", "org.croft.core.GetService", '{"name":"talk"}').stdout
        return json.loads(answer)["service"]["state"]
    ctl("call", "core0", "org.croft.core.StopService", '{"name":"talk"}')
    wait(lambda: state() == "stopped", "the service does not stop")
    ctl("call", "core0", "org.croft.core.StartService", '{"name":"talk"}')
    wait(lambda: state() == "running", "the service does not start")


def lines_of(command, enough):
    """The JSON objects (RFC 7464) that a command goes on to print, until enough(them)."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
        try:
            os.set_blocking(running.stdout.fileno(), False)
            text, found = b"", []
            end = time.monotonic() + WAIT
            while not enough(found):
                assert time.monotonic() < end and running.poll() is None, (found, text)
                text += running.stdout.read() or b""
                *whole, text = text.split(b"\n")
                found += [json.loads(part.strip(b"\x1e")) for part in whole if part.strip(b"\x1e")]
                time.sleep(0.05)
            return found
        finally:
            running.kill()


def test_more_brings_what_is_added(systemd, daemons):
    answers = lines_of(systemd.command(VARLINKCTL, "--more", "--json=short", "call", daemons["core0"],
                                       "org.croft.core.GetLog", '{"service":"talk","tail":3}'),
                       lambda found: len(found) >= 3)
    lines = [line for answer in answers for line in answer["lines"]]
    numbers = [line["sequence"] for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_more_without_changes_waits(systemd, daemons):
    command = systemd.command(VARLINKCTL, "--more", "--json=short", "call", daemons["contd"],
                              "org.croft.container.Watch", "{}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
        assert json.loads(running.stdout.readline().strip(b"\x1e")) == {"containers": []}
        time.sleep(0.5)
        assert running.poll() is None, "the list ended by itself"
        running.kill()


@pytest.mark.parametrize("method,parameters,error", [
    ("org.croft.core.Nope", "{}", "org.varlink.service.MethodNotFound"),
    ("org.croft.nope.GetStatus", "{}", "org.varlink.service.InterfaceNotFound"),
    ("org.croft.core.GetService", '{"name":7}', "org.varlink.service.InvalidParameter"),
    ("org.croft.core.GetService", "{}", "org.varlink.service.InvalidParameter"),
    ("org.croft.core.GetLog", '{"service":"talk","tail":"many"}', "org.varlink.service.InvalidParameter"),
    ("org.croft.core.GetService", '{"name":"nobody"}', "org.croft.core."),
])
def test_a_wrong_call_gets_the_right_error(ctl, method, parameters, error):
    done = ctl("call", "core0", method, parameters, status=1)
    assert error in done.stderr, done


def test_a_wrong_interface_cannot_be_described(ctl):
    assert "InterfaceNotFound" in ctl("introspect", "core0", "org.croft.nope", status=1).stderr
