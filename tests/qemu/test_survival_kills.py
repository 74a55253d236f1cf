"""kill -9 of each daemon and of all at once, in every state; daemons that hang; PID 1 without memory.

Every case ends where an undisturbed run does, with the processes of the workload that they were. (A kill of each daemon while nothing
happens is in test_container.py, one of provd before and after each of its steps in test_faults.py.)
"""
import collections
import json
import resource
import signal
import time

import pytest

from lab import agent as lab_agent, faults, node as lab_node, paths, traces
from lab.node import wait_for

SECONDS = 330  # about, for the order in which files start

STOP = {"stop_grace_period": "1s"}
ANSWER = "while :; do printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello' | nc -l -p 80; done"
CHECK = {"test": ["CMD", "true"], "interval": "500ms", "timeout": "60s", "retries": 10, "start_period": "1m"}
ALL = faults.DAEMONS
# Seconds for what comes after twenty or thirty programs that are started anew, each half a second to two of an emulated processor.
LONG = 480

# Where provd is held, and who is killed meanwhile. Each daemon dies when something was just asked of it, or is just about to be.
DEPLOYMENT = {"provd.fetch.before": ("noded",), "provd.open.before": ("noded",), "provd.pull.before": ("imaged",),
              "provd.deploying.after": ("noded",), "provd.network.before": ("netd",), "provd.volume.before": ("storaged",),
              "provd.scratch.after": ("storaged",), "provd.prepare.after": ("contd",), "provd.attach.before": ("netd",),
              "provd.mount.before": ("imaged",), "provd.mount.after": ALL, "provd.start.before": ("contd",),
              "provd.start.after": ("contd", "imaged"), "provd.healthy.before": ALL, "provd.expose.before": ("netd",),
              "provd.active.before": ("noded",), "provd.active.after": ALL}
UPDATE = {"provd.pull.before": ("imaged",), "provd.quiesce.before": ("contd",), "provd.quiesce.after": ALL,
          "provd.start.after": ("contd",), "provd.expose.after": ("netd",), "provd.settle.before": ("storaged",), "provd.active.before": ALL}
CANCEL = {"provd.sweep.RemoveReservation.before": ("netd",), "provd.sweep.Remove.before": ("contd",), "provd.sweep.Remove.after": ALL,
          "provd.sweep.Unmount.before": ("imaged",), "provd.sweep.RemoveVolume.before": ("storaged",)}


def services(port):
    return {"web": {**STOP, "image": "busybox", "command": ["sh", "-c", ANSWER], "ports": [f"{port}:80"], "volumes": ["data:/data"],
                    "healthcheck": CHECK}}


@pytest.fixture(scope="module")
def stays(node):
    """A workload that runs through all of it; .same() says whether it is still the very same process."""
    with node.deployed({"web": {**STOP, "image": "busybox", "command": ["sh", "-c", ANSWER], "ports": [f"{node.ports[5]}:80"]}},
                       name="stays") as it:
        url = f"http://127.0.0.1:{node.ports[5]}/"
        assert lab_node.get(url) == "hello"

        def seen():
            c = next(c for c in node.agent.varlink("contd", "List")["containers"] if c["reservation"] == it.id)
            return c["pid"], c["restarts"], c["state"]
        before = seen()

        def same():
            assert seen() == before
            assert lab_node.get(url) == "hello"
        it.same = same
        yield it


@pytest.fixture(scope="module")
def undisturbed(node, stays):
    """The traces with a deployment that nothing disturbed, and after its end: its volume is kept."""
    with node.deployed(services(node.ports[4]), name="killed", volumes={"data": {}}):
        running = traces.plain(traces.collect(node.agent))
    return traces.plain(traces.collect(node.agent)), running


def equal(node, wanted):
    """What there is, is what there was."""
    wrong = traces.difference(wanted, traces.plain(traces.collect(node.agent)))
    wrong.pop("processes", None)
    assert not wrong, json.dumps(wrong, indent=1)


def fresh(node):
    """core0's back-off begins anew for everybody."""
    for daemon in ALL:
        node.agent.varlink("core0", "RestartService", name=daemon)
        time.sleep(0.2)
    faults.wait_back(node)
    # A provd that was just started walks through what runs already.
    wait_for(lambda: all(e["step"] in ("running", "ended") for e in node.entries()), 60, "it does not settle")


def kill_at(node, points, mark):
    """Holds provd at each of the points, in the order in which they come, and kills; a provd that was killed itself comes back and
    walks again."""
    left = dict(points)
    while left:
        event = node.machine.wait("fault", LONG, mark)
        mark = node.machine.events.index(event, mark) + 1
        point = f"{event['service']}.{event['point']}"
        victims = left.pop(point)
        time.sleep(0.1)  # until it has stopped itself
        faults.kill(node, *victims)
        if "provd" not in victims:
            faults.go_on(node, point)


def told_once(it):
    told = collections.Counter((t["revision"], t["state"]) for t in it.show()["transitions"])
    assert not [t for t, n in told.items() if n > 1], told


def propose(node, what, *more):
    tenant = node.grid.tenant(node.project(what, name="killed", volumes={"data": {}}))
    return lab_node.Deployed(node, None, tenant.json("deploy", "compose.yml", "--node", node.number, "--blobs", node.grid.hub.folder,
                                                     "--no-wait", *more))


def test_killed_in_a_deployment_an_update_and_a_cancel(node, stays, undisturbed):
    before, running = undisturbed
    fresh(node)
    mark = node.machine.mark()
    faults.hold(node, DEPLOYMENT)
    it = propose(node, services(node.ports[4]))
    kill_at(node, DEPLOYMENT, mark)
    node.grid.wait_reservation(it.id, "active", LONG)
    faults.wait_back(node)
    assert lab_node.get(f"http://127.0.0.1:{node.ports[4]}/") == "hello"
    equal(node, running)
    told_once(it)
    stays.same()

    fresh(node)
    mark = node.machine.mark()
    faults.hold(node, UPDATE)
    changed = services(node.ports[4])
    changed["web"]["environment"] = {"CHANGED": "yes"}
    propose(node, changed)
    kill_at(node, UPDATE, mark)
    wait_for(lambda: it.show()["revision"] == 2 and it.show()["state"].lower() == "active", LONG, "the update does not become active")
    faults.wait_back(node)
    wait_for(lambda: [e["revision"] for e in node.entries() if e["reservation"] == it.id and e["step"] != "ended"] == [2], LONG,
             "the first revision stays")
    assert lab_node.get(f"http://127.0.0.1:{node.ports[4]}/") == "hello"
    wait_for(lambda: not [c for c in node.agent.varlink("contd", "List")["containers"] if (c["reservation"], c["revision"]) == (it.id, 1)],
             LONG, "the first revision's container stays")
    told_once(it)
    stays.same()

    fresh(node)
    mark = node.machine.mark()
    faults.hold(node, CANCEL)
    node.grid.tenant().run("reservation", "cancel", it.id)
    kill_at(node, CANCEL, mark)
    faults.wait_back(node)
    it.cancel(LONG)
    equal(node, before)
    told_once(it)
    stays.same()


def test_an_update_keeps_the_ports_that_it_took(node, stays):
    """provd starts anew again and again just before it reports an update, so that both revisions walk at once, and netd answers late: the
    older one's set of ports was asked for first or not at all, and may never be what stays."""
    fresh(node)
    it = propose(node, services(node.ports[4]))
    node.grid.wait_reservation(it.id, "active", LONG)
    point = "provd.active.before"
    mark = node.machine.mark()
    faults.hold(node, [point])
    changed = services(node.ports[4])
    changed["web"]["environment"] = {"CHANGED": "yes"}
    propose(node, changed)
    faults.held(node, mark, point, LONG)
    node.agent.write("/run/slow", "")
    netd, busybox = "$(pidof netd)", "/croft-test/busybox"
    node.agent.sh(f"(while [ -e /run/slow ]; do kill -STOP {netd}; {busybox} sleep 0.2; kill -CONT {netd}; {busybox} sleep 0.01; done) "
                  ">/dev/null 2>&1 </dev/null &")
    try:
        for _ in range(8):
            mark = node.machine.mark()
            faults.hold(node, [point])
            node.agent.kill("provd")
            node.agent.varlink("core0", "RestartService", name="provd")
            fault = faults.held(node, mark, point, LONG)
            while not node.machine.find("step", mark, reservation=it.id, revision=2, step="expose"):  # another reservation came there first
                faults.hold(node, [point])
                faults.go_on(node, point)
                fault = faults.held(node, node.machine.events.index(fault, mark) + 1, point, LONG)
            exposed = [p["revision"] for p in node.agent.varlink("netd", "List", 60)["ports"] if p["reservation"] == it.id]
            assert exposed == [2], exposed
    finally:
        node.agent.sh(f"rm /run/slow; {busybox} sleep 1")  # the loop's last round wakes netd
    faults.go_on(node, point)
    wait_for(lambda: it.show()["revision"] == 2 and it.show()["state"].lower() == "active", LONG, "the update does not become active")
    assert lab_node.get(f"http://127.0.0.1:{node.ports[4]}/") == "hello"
    it.cancel(LONG)
    stays.same()


def test_all_at_once_again_and_again_while_nothing_happens(node, stays, undisturbed):
    fresh(node)
    for _ in range(3):
        faults.kill(node, *ALL)
        faults.wait_back(node)
        stays.same()
    equal(node, undisturbed[0])


def service(node, name):
    return node.agent.varlink("core0", "GetService", name=name)["service"]


def test_a_daemon_that_hangs_is_ended_and_comes_back(node, stays):
    """Stopped, each says nothing to its watchdog: core0 ends it and starts another. Who calls meanwhile waits in the socket, which is
    core0's, and is answered by the successor. (storaged has 120 s: it goes the same way, and is stopped with the others.)"""
    fresh(node)
    before = {d: service(node, d) for d in ALL}
    for daemon in ALL:
        assert node.agent.kill(daemon, signal.SIGSTOP) >= 1
    # core0 and the workload do not wait for anybody.
    assert node.agent.varlink("core0", "GetStatus")["stage"] == "running"
    assert lab_node.get(f"http://127.0.0.1:{node.ports[5]}/") == "hello"
    identity = node.grid.node(node.number)["identity"]
    assert node.agent.varlink("noded", "GetStatus", 120)["identity"].lower() == identity.lower()
    for daemon in ALL:
        wait_for(lambda d=daemon: service(node, d).get("pid") not in (None, before[d].get("pid")), 200, f"{daemon} was not ended")
        assert service(node, daemon)["restarts"] > before[daemon]["restarts"]
    faults.wait_back(node, 180)
    lines = " ".join(x["text"] for x in node.agent.varlink("core0", "GetLog", service="core0", tail=200)["lines"])
    assert lines.count("watchdog") >= len(ALL), lines
    stays.same()


def test_a_hog_on_the_node_takes_nobody_with_it(node, stays):
    """A program without a limit takes all memory until the kernel ends it: it, and nobody else; core0 answers all the time."""
    before = {d: service(node, d)["restarts"] for d in ALL}
    boot = node.agent.boot_id()
    node.agent.sh("mkdir /sys/fs/cgroup/hog; (echo 0 >/sys/fs/cgroup/hog/cgroup.procs; "
                  "/croft-test/busybox awk 'BEGIN { s = \"x\"; while (1) s = s s }'; echo ended $? >/run/hog) >/dev/null 2>&1 </dev/null &")
    asked = 0
    end = time.monotonic() + LONG * paths.SCALE
    while not node.agent.exists("/run/hog"):
        assert node.agent.varlink("core0", "GetStatus", 60)["stage"] == "running"
        asked += 1
        assert time.monotonic() < end, "the hog does not end"
        time.sleep(0.2)
    assert asked and node.agent.text("/run/hog").split()[0] == "ended"
    assert node.agent.boot_id() == boot
    assert {d: service(node, d)["restarts"] for d in ALL} == before
    node.agent.sh("rmdir /sys/fs/cgroup/hog")
    stays.same()


def test_pid_1_that_gets_no_memory_goes_on(node, stays):
    """Its address space may not grow by a byte: what needs memory fails by its code or is put off, core0 does not end. What it starts
    meanwhile inherits that and comes back once there is memory. Then all is as before."""
    boot = node.agent.boot_id()
    node.agent.limit(1, resource.RLIMIT_AS, 1 << 20)
    try:
        for _ in range(3):
            for method, parameters in (("GetStatus", {}), ("ListServices", {}), ("GetLog", {"service": "kernel"}),
                                       ("GetLog", {"service": "core0"}), ("StartService", {"name": "kvd@none"}),
                                       ("GetService", {"name": "netd"}), ("NoSuchMethod", {})):
                try:
                    node.agent.varlink("core0", method, 20, **parameters)
                except (lab_agent.Varlink, lab_agent.AgentError):
                    pass  # refused, or the connection ended: but core0 lives
            node.agent.kill("imaged")
            node.agent.sh("for i in $(seq 2000); do echo '<6>noise' >/dev/kmsg; done")
            time.sleep(2)
    finally:
        node.agent.limit(1, resource.RLIMIT_AS, None)
    assert node.agent.boot_id() == boot and node.agent.varlink("core0", "GetStatus")["stage"] == "running"
    faults.wait_back(node, 120)
    stays.same()
    node.deploy(services(node.ports[4]), name="after", volumes={"data": {}}).cancel()
