"""The power is cut in each phase of a registration, a deployment, an update, a cancel and a key rotation.

The disk forgets what was not flushed (lab/volatile.py), a daemon stands still at the phase until the cut (core0/lib/fault.h), and the next
boot converges: chain, node and disk agree. `make test` cuts at a few points, POINTS=all (`make soak S=power`) at every one.
"""
import collections
import json
import os
import threading

import pytest

from lab import agent as lab_agent, faults, machine as lab_machine, node as lab_node, ports, traces, volatile
from lab.node import wait_for

SECONDS = 135  # about, for the order in which files start

ALL = os.environ.get("POINTS") == "all"
STOP = {"stop_grace_period": "1s"}
# Of the volume: what was there at each start, so that a lost or a mixed-up volume shows.
SCRIPT = ("echo start >> /data/starts; sync; while :; do { printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; cat /data/starts; } | nc -l -p 80; done")

REGISTRATION = ["noded.identity.after", "noded.queue.register.after", "noded.delivered.register"]
STEPS = ["fetch", "open", "pull", "deploying", "network", "volume", "scratch", "prepare", "attach", "mount", "names", "start",
         "healthy", "expose", "settle", "active"]
DEPLOYMENT = ["imaged.pull.arrived", "storaged.volume.limited", "noded.queue.result.after", "provd.start.after", "provd.active.after"]
UPDATE = ["provd.quiesce.after", "provd.settle.after"]
# After a boot no container and no mount is left to be removed: only what lies on the disk.
CANCEL = ["provd.sweep.Remove.after", "provd.sweep.RemoveVolume.before"]
if ALL:
    REGISTRATION = ["noded.identity.before", "noded.identity.after", "noded.queue.register.before", "noded.queue.register.after",
                    "noded.delivered.register", "noded.queue.report.before", "noded.queue.report.after", "noded.delivered.report"]
    DEPLOYMENT = ["imaged.config.before", "imaged.pull.arrived", "storaged.volume.made", "storaged.volume.limited", "imaged.mount.lower",
                  "imaged.mount.overlay", "noded.queue.result.before", "noded.queue.result.after", "noded.delivered.result",
                  *(f"provd.{s}.{w}" for s in STEPS for w in ("before", "after"))]
    UPDATE = [f"provd.{s}.{w}" for s in ["fetch", "pull", "prepare", "mount", "quiesce", "start", "healthy", "expose", "settle", "active"]
              for w in ("before", "after")]


def arm_at_boot(machine, *points):
    """The machine's next boots stop at these points, once each boot: a service of the test's makes the files before any daemon starts."""
    if not points:
        machine.files.pop("etc/croft/services/arm.service", None)
        return
    script = f"mkdir -p -m 777 {faults.FOLDER}; chmod 777 {faults.FOLDER}; " + "; ".join(
        f"echo hold >{faults.FOLDER}/{p}" for p in points)
    machine.files["etc/croft/services/arm.service"] = (
        "[Unit]\nDescription=fault points\nBefore=storaged netd noded provd imaged contd\n[Service]\nType=oneshot\n"
        f"ExecStart=/croft-test/busybox sh -c \"{script}\"\n", 0o644)


def cut_at(node, points, mark):
    """Cuts the power at each point in turn; the boot after each cut is to stop at the next. Returns the mark of the last boot."""
    machine = node.machine
    for i, point in enumerate(points):
        faults.held(node, mark, point, 240)
        mark = machine.mark()
        machine.cut()
        arm_at_boot(machine, *points[i + 1:i + 2])
        machine.start()
    machine.wait_service("provd", 240, mark)
    return mark


def new_node(grid, images, folder, seed):
    folder.mkdir(parents=True)
    disk = lab_machine.disk_create(folder / "disk.img", 16384, "unused")
    store = volatile.Volatile(disk.path, seed)
    port = ports.free()
    node = lab_node.Node(grid, folder / "node", images, forwards={port: port}, volatile=[store], memory=1280)
    node.port, node.store = port, store
    return node


@pytest.fixture(scope="module")
def cut_node(grid, images, session_logs):
    """A node whose registration is cut short at every phase."""
    node = new_node(grid, images, session_logs / "power", 1)
    before = len(grid.farmer.json("node", "list"))
    arm_at_boot(node.machine, REGISTRATION[0])
    mark = node.machine.mark()
    node.machine.start()
    mark = cut_at(node, REGISTRATION, mark)
    node.number = grid.wait_node(node.machine, 240, mark)
    node._wait_addresses(mark, 240)
    node.made = len(grid.farmer.json("node", "list")) - before
    yield node
    node.stop()
    node.store.stop()


@pytest.fixture(scope="module")
def idle(cut_node):
    """What there is while nothing is reserved."""
    return traces.plain(traces.collect(cut_node.agent))


def services(node, greeting="first", **more):
    return {"web": {**STOP, **more, "image": "busybox", "command": ["sh", "-c", SCRIPT], "ports": [f"{node.port}:80"], "volumes": ["data:/data"],
                    "environment": {"GREETING": greeting}}}


def propose(node, greeting="first", **more):
    tenant = node.grid.tenant(node.project(services(node, greeting, **more), name="cut", volumes={"data": {}}, **{"x-croft": {"keep": "1s"}}))
    return lab_node.Deployed(node, None, tenant.json("deploy", "compose.yml", "--node", node.number, "--blobs", node.grid.hub.folder,
                                                     "--no-wait"))


def told_once(it):
    told = collections.Counter((t["revision"], t["state"]) for t in it.show()["transitions"])
    assert not [t for t, n in told.items() if n > 1], told


def page(node, timeout=180):
    return lab_node.get(f"http://127.0.0.1:{node.port}/", timeout).split()


def agree(node, it, revision):
    """Chain, node and disk: that revision runs, alone, on its volume; no message waits; nobody was told anything twice."""
    wait_for(lambda: (it.show()["state"].lower(), it.show()["revision"]) == ("active", revision), 240, f"not active: {it.show()}")
    wait_for(lambda: [(e["revision"], e["step"]) for e in node.entries() if e["reservation"] == it.id and e["step"] != "ended"]
             == [(revision, "running")], 240, "the node runs something else")
    wait_for(lambda: {v["key"].split("/")[0] + "/" + v["key"].split("/")[2] for v in node.agent.varlink("storaged", "ListVolumes")["volumes"]}
             == {"volume/cut", f"scratch/{revision}"}, 240, "other volumes are there")
    wait_for(lambda: node.agent.varlink("noded", "GetStatus")["pending"] == 0, 120, "messages wait")
    assert "error" not in str(node.agent.varlink("storaged", "ListVolumes"))
    told_once(it)


@pytest.fixture(scope="module")
def deployed(cut_node, idle):
    """A deployment that is cut short at every phase."""
    mark = cut_node.machine.mark()
    faults.hold(cut_node, DEPLOYMENT[:1])
    it = propose(cut_node)
    cut_at(cut_node, DEPLOYMENT, mark)
    return it


def test_a_registration_that_is_cut_short(grid, cut_node):
    """It is one node, with one identity, and what it has on its disk is what the chain knows."""
    assert cut_node.made == 1
    status = cut_node.agent.varlink("noded", "GetStatus")
    shown = grid.node(cut_node.number)
    assert shown["state"].lower() == "active" and status["node"] == cut_node.number
    assert shown["identity"].lower() == status["identity"].lower()
    wait_for(lambda: cut_node.agent.varlink("noded", "GetStatus")["pending"] == 0, 120, "messages wait")


def test_a_deployment_that_is_cut_short(cut_node, deployed):
    agree(cut_node, deployed, 1)
    assert set(page(cut_node)) == {"start"}


def test_an_update_that_is_cut_short(cut_node, deployed):
    """What was written and flushed before is there afterwards, whichever revision wrote it."""
    node = cut_node
    before = len(page(node))
    mark = node.machine.mark()
    faults.hold(node, UPDATE[:1])
    again = propose(node, "second")
    assert again.id == deployed.id
    cut_at(node, UPDATE, mark)
    agree(node, again, 2)
    assert len(page(node)) > before


def test_an_update_that_fails_and_is_cut_short(cut_node, deployed):
    """The elder had been stopped for it. After the boot it runs again although it was never started since: once the candidate has failed."""
    node = cut_node
    mark = node.machine.mark()
    faults.hold(node, ["provd.start.after"])
    again = propose(node, "sick", healthcheck={"test": ["CMD", "false"], "interval": "500ms", "timeout": "60s", "retries": 2})
    cut_at(node, ["provd.start.after"], mark)

    def failed():
        states = [t for t in again.show()["transitions"] if t["revision"] == 3 and t["state"].lower() == "failed"]
        return [t["reason"] for t in states]
    assert wait_for(failed, 240, f"the failure is not reported: {again.show()}") == ["container.unhealthy"]
    agree(node, again, 2)
    assert set(page(node)) == {"start"}


def test_a_key_rotation_that_is_cut_short(grid, cut_node, deployed):
    """Chain and disk agree on the last epoch; what was sealed before still opens, what is sealed now does too."""
    node = cut_node
    before = node.agent.varlink("noded", "GetStatus")["keys"]
    points = ["noded.key.made", "noded.queue.key-epoch.after", "noded.delivered.key-epoch"]
    mark = node.machine.mark()
    faults.hold(node, points[:1])

    def rotate():
        try:
            agent.varlink("noded", "RotateKey")
        except (lab_agent.AgentError, OSError):
            pass  # noded stands still before it answers
    agent = node.agent
    threading.Thread(target=rotate, daemon=True).start()
    mark = cut_at(node, points, mark)
    grid.wait_node(node.machine, 240, mark)
    newest = max(k["epoch"] for k in before) + 1

    def agreed():
        keys = node.agent.varlink("noded", "GetStatus")["keys"]
        return grid.node(node.number)["keyEpoch"] == newest == max(k["epoch"] for k in keys)
    wait_for(agreed, 240, f"the chain has {grid.node(node.number)}, the node {node.agent.varlink('noded', 'GetStatus')}")
    agree(node, deployed, 2)
    later = propose(node, "later")
    agree(node, later, 4)


def test_a_cancel_that_is_cut_short(cut_node, deployed, idle):
    node = cut_node
    mark = node.machine.mark()
    faults.hold(node, CANCEL[:1])
    node.grid.tenant().run("reservation", "cancel", deployed.id)
    mark = cut_at(node, CANCEL, mark)
    wait_for(lambda: not node.agent.varlink("storaged", "ListVolumes")["volumes"], 240, "volumes stay")
    deployed.cancel(240)
    wait_for(lambda: not node.agent.sh("ls /var/croft/logs").out.split(), 60, "logs of what has ended stay")
    node._wait_addresses(mark, 120)  # of the boot after the last cut
    told_once(deployed)
    left = traces.difference(idle, traces.plain(traces.collect(node.agent)))
    left.pop("processes", None)
    assert not left, json.dumps(left, indent=1)
