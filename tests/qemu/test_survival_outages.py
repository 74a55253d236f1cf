"""What a node lives from is away for a while and comes back: the chain, the relay, the hub, DHCP with DNS, and the time.

What runs keeps running, what was missed is made up, and the chain is told of each state once."""
import collections
import signal
import time

import pytest

from lab import lan as lab_lan, machine as lab_machine, node as lab_node, paths
from lab.node import wait_for

SECONDS = 110  # about, for the order in which files start

STOP = {"stop_grace_period": "1s"}
IDLE = {"idle": {**STOP, "image": "busybox", "command": ["sleep", "100000"]}}


def serving(port):
    return {"web": {**STOP, "image": "busybox", "ports": [f"{port}:80"],
                    "command": ["sh", "-c", "while :; do printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello' | nc -l -p 80; done"]}}


@pytest.fixture(scope="module")
def web(node):
    """What runs all the time: a server, with where to reach it."""
    with node.deployed(serving(node.ports[5]), name="outlives") as it:
        it.url = f"http://127.0.0.1:{node.ports[5]}/"
        assert lab_node.get(it.url) == "hello"
        yield it


def process(node, it):
    """Its container: process and number of restarts."""
    c = next(c for c in node.agent.varlink("contd", "List")["containers"] if c["reservation"] == it.id)
    return c["pid"], c["restarts"], c["state"]


def propose(node, name, services=None):
    """A deployment for which nobody waits; its reservation."""
    tenant = node.grid.tenant(node.project(services or IDLE, name=name))
    return tenant.json("deploy", "compose.yml", "--node", node.number, "--blobs", node.grid.hub.folder, "--no-wait")["reservation"]


def told_once(node, number):
    told = collections.Counter((t["revision"], t["state"]) for t in node.grid.reservation(number)["transitions"])
    assert not [t for t, n in told.items() if n > 1], told
    return [state.lower() for _, state in told]


def gone(node, number):
    return not [e for e in node.entries() if e["reservation"] == number and e["step"] != "ended"] \
        and not [c for c in node.agent.varlink("contd", "List")["containers"] if c["reservation"] == number]


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_the_chain_is_away(node, web, how):
    """Meanwhile one reservation is cancelled, one is made, and one is made and cancelled again."""
    before, boot = process(node, web), node.agent.boot_id()
    ends = node.deploy(IDLE, name=f"chain-ends-{how}")
    mark = node.machine.mark()
    if how == "silent":
        node.proxy.blackhole()
    else:
        node.proxy.refuse()
    try:
        wait_for(lambda: node.status()["state"] != "running", 60, "the chain's absence was not noticed")
        made, undone = propose(node, f"chain-made-{how}"), propose(node, f"chain-undone-{how}")
        tenant = node.grid.tenant()
        tenant.run("reservation", "cancel", ends.id)
        tenant.run("reservation", "cancel", undone)
        node.grid.mine(5)
        time.sleep(3 * paths.SCALE)
        assert not gone(node, ends.id), "ended without a proof"
        assert process(node, web) == before and lab_node.get(web.url) == "hello"
        problems = [f for f in node.agent.varlink("core0", "ListServices")["services"] if f["name"] == "provd"]
        assert problems[0]["state"] == "running" and problems[0]["status"], problems
    finally:
        node.proxy.heal()
    node.machine.wait("process", 120, mark, reservation=made)
    node.grid.wait_reservation(made, "active", 120)
    wait_for(lambda: gone(node, ends.id) and gone(node, undone), 120, "what was cancelled meanwhile did not end")
    assert not node.machine.find("process", mark, reservation=undone), "what was over already was started"
    for number in (ends.id, made, undone, web.id):
        told_once(node, number)
    assert process(node, web) == before and node.agent.boot_id() == boot
    node.grid.tenant().run("reservation", "cancel", made)
    wait_for(lambda: gone(node, made), 120, "it does not end")


@pytest.mark.parametrize("how", ["silent", "dead"])
def test_the_relay_is_away(node, web, how):
    """The node runs what it is asked for and keeps what it has to say; with the relay it is said, in order and once."""
    before = process(node, web)
    relay, mark = node.grid.relay, node.machine.mark()
    relay.kill(signal.SIGSTOP if how == "silent" else signal.SIGKILL)
    try:
        made = propose(node, f"relay-{how}")
        node.machine.wait("process", 120, mark, reservation=made)
        wait_for(lambda: any(e["reservation"] == made and e["services"] and e["services"][0]["state"] == "running"
                             for e in node.entries()), 60, "it does not run without a relay")
        wait_for(lambda: node.agent.varlink("noded", "GetStatus")["pending"] > 0, 60, "nothing waits for the relay")
        # Funded on the chain, as nobody told it otherwise; said by the node itself what is missing.
        assert node.grid.reservation(made)["state"].lower() == "funded"
        if how == "dead":
            node.machine.wait_console("relay.unreachable", 60)
        assert process(node, web) == before
    finally:
        if how == "silent":
            relay.kill(signal.SIGCONT)
        else:
            relay.popen.wait()
            relay.start()
            relay.wait_port(node.grid.relay_port)
    node.grid.wait_reservation(made, "active", 120)
    states = told_once(node, made)
    assert states.index("deploying") < states.index("active"), states
    wait_for(lambda: node.agent.varlink("noded", "GetStatus")["pending"] == 0, 120, "messages are left")
    told_once(node, made)
    node.grid.tenant().run("reservation", "cancel", made)
    wait_for(lambda: gone(node, made), 120, "it does not end")
    assert process(node, web) == before


def test_the_hub_is_away(node, web):
    """An image that the node does not have waits for its hub; what runs does not care."""
    before, mark = process(node, web), node.machine.mark()
    hub = node.grid.hub
    hub.away = True
    try:
        # The large environment has the specification travel by the hub too.
        made = propose(node, "hub", {"idle": {**IDLE["idle"], "image": "nginx", "command": ["sleep", "100000"],
                                              "environment": {"FILLER": "x" * 2000}}})
        wait_for(lambda: any(e["reservation"] == made and "unreachable" in e["reason"] for e in node.entries()), 60,
                 "that the hub is missing is not said")
        time.sleep(5 * paths.SCALE)
        assert node.grid.reservation(made)["state"].lower() in ("funded", "deploying")
        assert process(node, web) == before and lab_node.get(web.url) == "hello"
        # What needs no hub is not held up by what does.
        other = node.deploy(IDLE, name="no-hub")
        other.cancel()
    finally:
        hub.away = False
    node.machine.wait("process", 180, mark, reservation=made)
    node.grid.wait_reservation(made, "active", 120)
    told_once(node, made)
    node.grid.tenant().run("reservation", "cancel", made)
    wait_for(lambda: gone(node, made), 120, "it does not end")
    assert process(node, web) == before


# ---- the farm's network, with a machine that has no chain: a container's network of our own making, as in test_links.py

@pytest.fixture(scope="module")
def farm(session_logs):
    with lab_lan.Lan(lease=12) as segment:
        segment.clock = time.time
        with lab_machine.Machine(session_logs / "outages", ["runmode=dev"], net=segment.qemu()) as m:
            m.wait("boot", 120, step="ready")
            m.wait_service("netd")
            m.lan = segment
            yield m


def link(m):
    return next(x for x in m.agent.varlink("netd", "GetStatus")["links"] if x["name"] == "eth0")


def processes(m):
    """Of netd, contd and the server."""
    found = m.agent.sh("pidof netd contd; for p in /proc/[0-9]*; do grep -q 'do [e]cho hello' $p/cmdline && echo $p; done; true").out.split()
    assert len(found) == 3, found
    return found


def has_lease(m):
    return any(a.startswith("192.168.50.20/") for a in link(m)["addresses"])


def test_dhcp_and_the_time_are_away(farm):
    """The lease runs out, its address goes, and with the server it comes back, with the ports that were published; netd and what
    runs behind the port are the same processes throughout. The clock goes on by itself and is set right afterwards."""
    from test_links import clock_of, serve, wait_time
    m = farm
    wait_for(lambda: has_lease(m), 60, "no lease")
    wait_time(m, "synchronised", 150)
    serve(m, 8080)
    assert m.lan.knock("192.168.50.20", 8080)
    pids = processes(m)
    m.lan.address, m.lan.clock = None, None
    wait_for(lambda: not has_lease(m), 90, "a lease that ran out is kept")
    began = clock_of(m)
    assert not m.lan.knock("192.168.50.20", 8080, 2)
    mark = len(m.lan.seen)
    m.lan.wait(lab_lan.DISCOVER, 60, mark)  # it goes on asking
    m.lan.address, m.lan.clock = "192.168.50.20", lambda: time.time() + 3600
    wait_for(lambda: has_lease(m), 90, "no lease again")
    assert m.lan.knock("192.168.50.20", 8080, 15)
    assert processes(m) == pids
    assert clock_of(m) >= began
    wait_for(lambda: abs(clock_of(m) - m.lan.clock()) < 60 * paths.SCALE, 300, "the clock was not set right")
