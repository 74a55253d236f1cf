"""The main path: a compose file becomes running containers, is reachable, survives a power cycle, and
leaves nothing when it is cancelled."""
import json
import os
import pathlib
import subprocess
import time

import pytest

from lab import node as lab_node, paths, traces

SECONDS = 145  # about, for the order in which files start

BUSYBOX = pathlib.Path("/bin/busybox").read_bytes()
WEB = {
    "image": "nginx",
    "command": ["sh", "-euc", "echo started >> /data/starts; (echo \"$$GREETING\"; cat /data/starts; cat /data/ends || :)"
                " > /var/www/html/index.html; exec nginx -g 'daemon off;'"],
    "environment": {"GREETING": "hello"},
    "volumes": ["data:/data"],
    "healthcheck": {"test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"],
                    "interval": "1s", "timeout": "60s", "retries": 10, "start_period": "1m"},
    "restart": "always",
}
PEER = {
    "image": "busybox",
    "command": ["sh", "-c", "trap 'echo ended >> /data/ends; exit 0' USR1; while :; do sleep 1; done"],
    "stop_signal": "SIGUSR1",
    "volumes": ["data:/data"],
    "depends_on": {"web": {"condition": "service_healthy"}},
    "healthcheck": {"test": "wget -q -O - http://web/ | grep -q hello", "interval": "1s",
                    "timeout": "60s", "retries": 10, "start_period": "1m"},
}


def web(port):
    return {**WEB, "ports": [f"{port}:80"]}


def starts(text):
    return text.split().count("started")


def test_nginx_answers_survives_a_power_cycle_and_leaves_nothing(node):
    """Two services, so that the sealed specification is too long for a transaction and travels as
    a blob; the node fetches it and every object from the hub."""
    port = node.ports[0]
    url = f"http://127.0.0.1:{port}/"
    before = traces.collect(node.agent)
    node.grid.hub.paths.clear()

    it = node.deploy({"web": web(port), "peer": PEER}, name="shop", volumes={"data": {}})
    assert it.answer["state"].lower() == "active"
    assert any(p.startswith("blobs/") for p in node.grid.hub.paths)
    assert any(p.startswith("objects/") for p in node.grid.hub.paths)
    page = lab_node.get(url)
    assert page.startswith("hello\n") and starts(page) == 1
    services = {s["service"]: s for e in node.entries() if e["reservation"] == it.id
                for s in e["services"]}
    assert services["web"]["health"] == services["peer"]["health"] == "healthy"

    node.reboot()
    page = lab_node.get(url, 180)
    assert page.startswith("hello\n") and starts(page) == 2
    assert page.split().count("ended") == 1  # the node's end was announced by the service's own signal
    assert it.show()["state"].lower() == "active"
    node.machine.wait("process", 120, reservation=it.id)

    it.cancel()
    assert not lab_node.answers(url)
    assert it.show()["state"].lower() == "closed"
    left = traces.difference(before, traces.collect(node.agent))
    kept = [s for s in left.pop("subvolumes", {}).get("new", []) if "/volumes/" in s]
    assert len({s.rsplit("/", 1)[-1] for s in kept}) == 1, kept
    left.pop("processes", None)
    assert not left, json.dumps(left, indent=1)


def test_the_kept_volume_is_attached_again(node):
    """Same tenant, node, project and volume name."""
    port = node.ports[1]
    url = f"http://127.0.0.1:{port}/"
    with node.deployed({"web": web(port)}, name="kept", volumes={"data": {}}):
        assert starts(lab_node.get(url)) == 1
    with node.deployed({"web": web(port)}, name="kept", volumes={"data": {}}):
        assert starts(lab_node.get(url)) == 2
    with node.deployed({"web": web(port)}, name="other", volumes={"data": {}}):
        assert starts(lab_node.get(url)) == 1


def test_an_update_replaces_the_revision_and_keeps_the_volume(node):
    """The same project name again; the candidate that fails leaves the old one answering. The volume follows the one that runs."""
    def volume():
        return next(v for v in node.agent.varlink("storaged", "ListVolumes")["volumes"]
                    if v["key"].endswith("/update/data"))
    port = node.ports[4]
    url = f"http://127.0.0.1:{port}/"
    second = {**web(port), "environment": {"GREETING": "changed"}}
    sick = {**web(port), "healthcheck": {**WEB["healthcheck"], "test": ["CMD", "false"], "retries": 2,
                                         "start_period": "0s"}}
    with node.deployed({"web": web(port)}, name="update", volumes={"data": {}}) as first:
        assert lab_node.get(url).startswith("hello")
        assert volume()["size"] == 1 << 30 and "snapshotKeep" not in volume()
        larger = {"data": {"driver_opts": {"size": "2G", "snapshots": "every 1h keep 3"}}}
        again = node.deploy({"web": second}, name="update", volumes=larger)
        assert again.id == first.id
        page = lab_node.get(url)
        assert page.startswith("changed") and starts(page) == 2
        grown = volume()
        assert (grown["size"], grown["snapshotEvery"], grown["snapshotKeep"]) == (2 << 30, 3600000, 3)
        node.agent.varlink("storaged", "SnapshotVolume", key=grown["key"], name="mine")
        pid = next(c["pid"] for c in node.agent.varlink("contd", "List")["containers"]
                   if c["reservation"] == again.id and c["state"] == "running")
        inside = ["/croft-test/busybox", "nsenter", "-t", pid, "-m", "-U", "-S", "0", "-G", "0", "/bin/sh", "-c"]
        assert node.agent.run(*inside, "ls /run/snapshots/data/mine").out == node.agent.run(*inside, "ls /data").out
        assert node.agent.run(*inside, "touch /run/snapshots/data/mine/x", check=False).status != 0
        # Half of it, and no snapshots, for one that will not run.
        _, done = node.try_deploy({"web": sick}, name="update", volumes={"data": {"driver_opts": {"size": "512M"}}})
        assert done.status == 1 and "unhealthy" in done.out + done.err
        assert lab_node.get(url).startswith("changed")
        assert first.show()["state"].lower() == "active"
        assert volume() == grown | {"used": volume()["used"], "snapshots": 1}


def test_an_unhealthy_service_fails_with_its_reason(node):
    sick = {"image": "busybox", "command": ["sleep", "1000"],
            "healthcheck": {"test": ["CMD", "false"], "interval": "500ms", "timeout": "5s", "retries": 2}}
    folder, done = node.try_deploy({"sick": sick}, name="sick")
    assert done.status == 1, done
    assert "unhealthy" in done.out + done.err


def test_a_crashing_container_is_restarted_with_back_off(node):
    # Each start leaves a line with the time since boot in the log.
    crash = {"image": "busybox", "command": ["sh", "-c", "cut -d' ' -f1 /proc/uptime; exit 3"],
             "restart": "always"}
    with node.deployed({"crash": crash}, name="crash") as it:
        end = time.monotonic() + 60 * paths.SCALE
        times = []
        while len(times) < 4 and time.monotonic() < end:
            lines = node.agent.varlink("contd", "GetLog", reservation=it.id, revision=1,
                                       service="crash", tail=-1, since=0, follow=False)["lines"]
            times = [float(line["line"]) for line in lines]
            time.sleep(0.5)
        gaps = [b - a for a, b in zip(times, times[1:])]
        assert len(gaps) >= 3 and all(gap >= 0.1 * 2 ** i for i, gap in enumerate(gaps)), times


def test_too_much_memory_is_refused_by_the_chain_before_anything_is_made(node):
    before = traces.collect(node.agent)
    greedy = {"image": "busybox", "command": ["sleep", "1"],
              "deploy": {"resources": {"limits": {"memory": "64G"}}}}
    _, done = node.try_deploy({"greedy": greedy}, name="greedy")
    assert done.status == 3, done
    assert "not-enough-memory" in done.out + done.err
    left = traces.difference(before, traces.collect(node.agent)).get("mounts", {})
    assert not left.get("new"), left


@pytest.mark.parametrize("key", ["privileged", "devices", "no_such_key"])
def test_an_unknown_compose_key_is_refused_by_name(node, key):
    value = {"privileged": True, "devices": ["/dev/sda:/dev/sda"]}.get(key, 1)
    _, done = node.try_deploy({"web": {"image": "busybox", key: value}}, name="unknown")
    assert done.status == 2, done
    assert key in done.err + done.out


def test_a_missing_image_is_named(node):
    node.images["ghost"] = "0" * 64
    try:
        _, done = node.try_deploy({"web": {"image": "ghost", "command": ["true"]}}, name="ghost")
    finally:
        del node.images["ghost"]
    assert done.status == 1, done
    assert "image.not-found" in done.out + done.err


def convert(node, name, files):
    """An image of its own with these programs, so that the node has none of its objects yet; its id."""
    tree = node.grid.hub.folder.parent / f"{name}-tree"
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
        (tree / path).chmod(0o755)
    return node.grid.tenant(paths.ROOT / "tests/agent").json(
        "image", "convert", f"rootfs:{tree}", "--output", node.grid.hub.folder)["id"]


def test_a_full_disk_fails_with_its_reason(node):
    """The node has no room for the image: said to the tenant, on the chain and on the console, and
    what was fetched of it is gone again."""
    before, mark = traces.collect(node.agent), node.machine.mark()
    node.images["bulky"] = convert(node, "bulky", {"bin/sh": BUSYBOX, "bulk": os.urandom(96 << 20)})
    # Less than 64 MiB is left of what images may take.
    node.agent.sh("cd /var/croft/images; m=32768; while [ $m -ge 64 ]; do "
                  "fallocate -l ${m}M fill-$m 2>/dev/null || rm -f fill-$m; m=$((m / 2)); done")
    try:
        _, done = node.try_deploy({"web": {"image": "bulky", "command": ["sleep", "1000"]}}, name="bulky")
    finally:
        node.agent.sh("rm /var/croft/images/fill-*")
        del node.images["bulky"]
    assert done.status == 1, done
    assert "image.no-space" in done.out + done.err
    failed = node.machine.find("state", mark, state="failed", reason="image.no-space")
    assert node.grid.reservation(failed["reservation"])["reason"] == "image.no-space"
    assert "image.no-space" in node.machine.console
    left = traces.difference(before, traces.collect(node.agent))
    left.pop("processes", None)
    assert not left, json.dumps(left, indent=1)


def test_a_changed_object_is_refused_by_the_node(node, images):
    """The hub hands out another (well compressed) object under the digest of a real one."""
    hub = node.grid.hub
    node.images["tampered"] = convert(node, "tampered", {"bin/sh": BUSYBOX + b"tampered later"})
    objects = sorted((hub.folder / "objects").rglob("*.zst"), key=lambda p: p.stat().st_mtime)
    path = str(objects[-1].relative_to(hub.folder))
    evil = subprocess.run(["zstd", "-c"], input=BUSYBOX + b"tampered now!!", capture_output=True,
                          check=True).stdout
    hub.altered[path] = evil
    try:
        _, done = node.try_deploy({"web": {"image": "tampered", "command": ["/bin/sh", "-c", "sleep 100"]}},
                                  name="tampered")
        assert done.status == 1, done
        assert "image.digest-mismatch" in done.out + done.err
        hub.altered.clear()
        # The very same with the right bytes runs: it was the bytes, nothing else.
        with node.deployed({"web": {"image": "tampered", "command": ["/bin/sh", "-c", "sleep 100"]}},
                           name="tampered"):
            pass
    finally:
        hub.altered.clear()
        del node.images["tampered"]
