"""What a whole node refuses: each with its reason at the tenant, on the console, in the API and on the chain, and nothing of it is
left in the kernel or on the disk."""
import contextlib
import json

import pytest

from lab import faults, forge, gate as lab_gate, ports, tenants, traces
from lab.node import wait_for

SECONDS = 155  # about, for the order in which files start
HEALTHY = {"healthcheck": {"test": ["CMD", "true"], "interval": "500ms", "timeout": "60s", "retries": 10, "start_period": "1m"}}


def idle(seconds=100000, **more):
    return {"idle": {"image": "busybox", "command": ["sleep", str(seconds)], "stop_grace_period": "1s", **more}}


@pytest.fixture
def unchanged(node):
    """The node is afterwards as it was before."""
    before = traces.collect(node.agent)
    yield
    wait_for(lambda: not [e for e in node.entries()], 120, "something is still there")
    end, left = [], None
    for _ in range(30):  # what ended goes within seconds
        left = traces.difference(before, traces.collect(node.agent))
        left.pop("processes", None)
        if not left:
            return
        end.append(left)
    assert not left, json.dumps(left, indent=1)


def refused(node, done, code, status, number=None):
    """At the tenant; and, once there is a reservation, on the chain, on the console and in the API."""
    assert done.status == status, done
    assert code in done.err + done.out, done
    if number is None:
        return
    shown = node.grid.reservation(number)
    assert shown["reason"] == code, shown
    wait_for(lambda: f"({code})" in node.machine.console, 30, f"{code} is not on the console")
    assert f"({code})" in node.agent.varlink("core0", "GetStatus")["lastError"]


def failed_id(node, mark, code):
    return node.machine.wait("state", 60, mark, state="failed", reason=code)["reservation"]


# ---- ports, user ids, addresses, and what a service may not be


def test_a_port_that_another_reservation_has(node, unchanged):
    port = node.ports[2]
    with node.deployed(idle(ports=[f"{port}:80"]), name="first"):
        mark = node.machine.mark()
        _, done = node.try_deploy(idle(ports=[f"{port}:80"]), name="second")
        refused(node, done, "net.port-in-use", 1, failed_id(node, mark, "net.port-in-use"))


@pytest.mark.parametrize("port", ["4443:80", "68:80/udp"])
def test_a_port_of_the_nodes_own(node, unchanged, port):
    mark = node.machine.mark()
    _, done = node.try_deploy(idle(ports=[port]), name="own")
    refused(node, done, "net.port-in-use", 1, failed_id(node, mark, "net.port-in-use"))


@contextlib.contextmanager
def only(node, what, count):
    """The node has so many of something, and not its thousands."""
    path = f"/run/croft/fault/{what}"
    node.agent.sh(f"echo {count} > {path}")
    try:
        yield
    finally:
        node.agent.sh(f"rm -f {path}", check=False)


@pytest.mark.parametrize("what, code, status", [("provd.uid-ranges", "provision.no-uid-range", 3), ("netd.networks", "net.too-many-networks", 1)])
def test_none_is_left_for_a_second(node, unchanged, what, code, status):
    """With one range of user ids, one network, instead of 4,096: the second reservation has none, and gets one once the first is gone."""
    with only(node, what, 1):
        with node.deployed(idle(), name="has") as first:
            mark = node.machine.mark()
            _, done = node.try_deploy(idle(), name="has-not")
            refused(node, done, code, status, failed_id(node, mark, code))
            assert first.show()["state"].lower() == "active"
        with node.deployed(idle(), name="has-now"):
            pass


def test_no_address_of_a_network_is_left(node, unchanged):
    """With two addresses instead of 253: a project of three services is refused as a whole, one of two runs."""
    def services(count):
        return {f"s{i}": idle()["idle"] for i in range(count)}

    with only(node, "netd.hosts", 2):
        mark = node.machine.mark()
        _, done = node.try_deploy(services(3), name="crowd")
        refused(node, done, "net.no-address", 1, failed_id(node, mark, "net.no-address"))
        with node.deployed(services(2), name="pair"):
            pass


def test_no_private_network_left(node, unchanged):
    """The farm's networks take all that is private: there is none for a bridge, until one of them is no more."""
    taken = ("100.64.0.1/10", "172.16.0.1/12", "10.200.0.1/8")
    link = node.agent.sh(f"{tenants.BUSYBOX} ip -o -4 addr show scope global | {tenants.BUSYBOX} head -n 1").out.split()[1]
    for address in taken:
        node.agent.sh(f"{tenants.BUSYBOX} ip addr add {address} dev {link} noprefixroute")
    try:
        mark = node.machine.mark()
        _, done = node.try_deploy(idle(), name="no-network")
        refused(node, done, "net.no-subnet", 1, failed_id(node, mark, "net.no-subnet"))
        node.agent.sh(f"{tenants.BUSYBOX} ip addr del {taken[0]} dev {link}")
        with node.deployed(idle(), name="has-network"):
            pass
    finally:
        for address in taken:
            node.agent.sh(f"{tenants.BUSYBOX} ip addr del {address} dev {link}", check=False)


SERVICES = {
    "no program": ({"command": ["/no/such/program"]}, "container.not-found"),
    "no executable": ({"command": ["/proc/version"]}, "container.not-executable"),
    "no user": ({"user": "nobody-of-this-name"}, "container.bad-user"),
}


@pytest.mark.parametrize("what", SERVICES)
def test_a_service_that_cannot_run(node, unchanged, what):
    more, code = SERVICES[what]
    mark = node.machine.mark()
    _, done = node.try_deploy({"web": {"image": "busybox", "command": ["sleep", "1"], **more}}, name="cannot")
    refused(node, done, code, 1, failed_id(node, mark, code))


ENDS = {
    "container.oom-killed": {"command": ["sh", "-c", "x=$$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 1000"],
                             "deploy": {"resources": {"limits": {"memory": "24M"}}}},
    "container.exited": {"command": ["sh", "-c", "sleep 1; exit 7"]},
}


@pytest.mark.parametrize("code", ENDS)
def test_a_service_that_ends(node, unchanged, code):
    """Killed for its memory, or by itself with an error: the reservation carries the reason, whether it was Active before or not."""
    mark = node.machine.mark()
    _, done = node.try_deploy({"web": {"image": "busybox", "restart": "no", **ENDS[code]}}, name="ends")
    assert done.status == 0 or (done.status == 1 and code in done.err + done.out), done
    shown = node.grid.wait_reservation(failed_id(node, mark, code), "failed", 60)
    assert shown["reason"] == code, shown
    assert code in node.machine.console


@pytest.mark.parametrize("resource,code", [("milli_cores", "provision.not-enough-cores"), ("memory", "provision.not-enough-memory"),
                                           ("ssd", "provision.not-enough-ssd"), ("hdd", "provision.not-enough-hdd"),
                                           ("addresses", "provision.not-enough-addresses")])
def test_more_than_the_node_has_is_not_taken_by_the_chain(node, resource, code):
    """From a tenant who does not ask first: the contract says the same as croft does."""
    much = {"milli_cores": 4_000_000, "addresses": 1}.get(resource, 1 << 45)
    sealed = forge.seal(node, b"{}")
    before = [e["reservation"] for e in node.entries()]
    assert forge.refusal(node, sealed, forge.packed(**{resource: much})) == code
    receipt = forge.propose_sealed(node, sealed, forge.packed(**{resource: much}), check=False)
    assert receipt["status"] == "0x0" and not receipt["logs"]
    assert [e["reservation"] for e in node.entries()] == before


# ---- the chain


@contextlib.contextmanager
def by_hand(node):
    """Blocks come with transactions only, and no report reaches the chain, so that a branch can be taken back."""
    grid = node.grid
    grid.relay.stop()
    grid.rpc("evm_setAutomine", True)
    try:
        yield grid
    finally:
        grid.rpc("evm_setIntervalMining", grid.block_seconds)
        grid.relay.start()
        grid.relay.wait_port(grid.relay_port)


def commands(node, number):
    """What runs of a reservation: the arguments of each container's first process."""
    pids = [c["pid"] for c in node.agent.varlink("contd", "List")["containers"]
            if c["reservation"] == number and c["state"] == "running"]
    return [node.agent.text(f"/proc/{pid}/cmdline").replace("\0", " ").strip() for pid in pids]


def propose(node, seconds):
    tenant = node.grid.tenant(node.project(idle(seconds), name=f"branch-{seconds}"))
    return tenant.json("deploy", "compose.yml", "--node", node.number, "--blobs", node.grid.hub.folder, "--no-wait")["reservation"]


def test_a_reorganisation_is_followed(node, unchanged):
    """Above the final block: what ran by the branch that is gone ends, although the new branch has a reservation of the very same
    number; what runs is the new branch's. Below it nothing is believed: the next test."""
    with node.deployed(idle(99), name="bystander") as bystander:
        node.grid.mine(4)
        with by_hand(node) as grid:
            snapshot = grid.rpc("evm_snapshot")
            gone = propose(node, 101)
            wait_for(lambda: "sleep 101" in commands(node, gone), 60, "the first branch's does not run")
            assert grid.rpc("evm_revert", snapshot) is True
            snapshot = grid.rpc("evm_snapshot")
            grid.rpc("evm_mine")
            wait_for(lambda: not commands(node, gone) and gone not in [e["reservation"] for e in node.entries()], 60,
                     "what the reorganisation took back still runs")
            # Another one in its place, seen before the node knew that the first is gone.
            assert propose(node, 102) == gone
            wait_for(lambda: "sleep 102" in commands(node, gone), 60, "the second branch's does not run")
            assert grid.rpc("evm_revert", snapshot) is True
            assert propose(node, 103) == gone
            wait_for(lambda: commands(node, gone) == ["sleep 103"], 90, f"it is {commands(node, gone)} that runs")
            assert commands(node, bystander.id) == ["sleep 99"]
        node.grid.wait_reservation(gone, "active", 120)
        assert commands(node, gone) == ["sleep 103"]
        node.grid.tenant().run("reservation", "cancel", gone)
        wait_for(lambda: not commands(node, gone), 60, "it does not end")


def test_a_reorganisation_is_remembered_by_who_comes_after(node, unchanged):
    """provd dies when it has seen that the number is another proposal's and has removed nothing yet: the next one knows, too."""
    with by_hand(node) as grid:
        snapshot = grid.rpc("evm_snapshot")
        gone = propose(node, 201)
        wait_for(lambda: "sleep 201" in commands(node, gone), 60, "the first branch's does not run")
        mark = node.machine.mark()
        faults.hold(node, ["provd.sweep.Remove.before"])
        assert grid.rpc("evm_revert", snapshot) is True
        assert propose(node, 202) == gone
        node.machine.wait("fault", 90, mark)
        assert commands(node, gone) == ["sleep 201"]
        faults.kill(node, "provd")
        wait_for(lambda: commands(node, gone) == ["sleep 202"], 120, lambda: f"it is {commands(node, gone)} that runs")
    node.grid.wait_reservation(gone, "active", 120)
    assert commands(node, gone) == ["sleep 202"]
    node.grid.tenant().run("reservation", "cancel", gone)
    wait_for(lambda: not commands(node, gone), 60, "it does not end")


def test_below_the_final_block_nothing_is_believed(node, unchanged):
    """An endpoint that goes back: its code on the console and in the API; what runs goes on."""
    with node.deployed(idle(), name="goes-on") as it:
        node.grid.mine(4)
        wait_for(lambda: node.status()["finalBlock"] >= node.grid.block_number() - 8, 60, "no finality")
        back = hex(node.status()["finalBlock"] - 1)
        old = node.grid.rpc("eth_getBlockByNumber", back, False)
        node.proxy.lies["eth_getBlockByNumber"] = lambda result, params: old if params[0] == "latest" else result
        try:
            wait_for(lambda: node.status().get("code") == "chain.stale", 60, "it is believed")
            wait_for(lambda: "chain.stale" in node.machine.console, 30, "chain.stale is not on the console")
            assert commands(node, it.id) == ["sleep 100000"]
        finally:
            node.proxy.lies.clear()
        wait_for(lambda: node.status().get("code") is None and node.status()["state"] == "running", 60, "it does not recover")


def test_another_chain_id_is_said_and_nothing_ends(node):
    with node.deployed(idle(), name="same-chain") as it:
        node.proxy.lies["eth_chainId"] = lambda result, params: "0x1092"
        node.proxy.hang_up()
        try:
            wait_for(lambda: node.status().get("code") == "chain.wrong-id", 90, "another chain is followed")
            wait_for(lambda: "chain.wrong-id" in node.machine.console, 30, "chain.wrong-id is not on the console")
            assert commands(node, it.id) == ["sleep 100000"]
        finally:
            node.proxy.lies.clear()
        wait_for(lambda: node.status().get("code") is None and node.status()["state"] == "running", 60, "it does not recover")


# ---- who the farmer is

FARM, NO_FARMER = "0x79831e63", "gate.farmer-unknown"  # selector of farm(uint64); docs/formats.md, section 8
STATE = "/var/croft/state/provd/farmer.json"


def log_of(node, port, account):
    """The node's log as an account of the chain gets it from the gate: "read", or the code it is refused with, or how the connection ends:
    gated listens once the node is registered."""
    try:
        return "read" if lab_gate.Gate(port, lab_gate.read_key(node.grid.keys[account])).node_log("core0", tail=1) else "nothing"
    except lab_gate.GateError as refused:
        return refused.code
    except OSError as e:
        return str(e)


def test_whoever_has_the_endpoint_is_no_farmer(node):
    """He names himself in every answer that names the farmer, whatever is asked, to a node whose daemons all start anew. Each lie with a
    proof, and what is kept: tests/relay/test_refusal_farmer.py."""
    farmer, attacker = 1, 4
    name, own = (node.grid.accounts[account].lower().removeprefix("0x") for account in (farmer, attacker))

    def lie(result, params):
        return json.loads(json.dumps(result).replace(name, own))

    def start_anew(forget):
        told = node.proxy.told["eth_getProof"]
        for daemon in ("provd", "noded", "gated"):
            mark = node.machine.mark()
            if forget and daemon == "provd":
                node.agent.sh(f"rm -f {STATE}")
            node.agent.varlink("core0", "RestartService", name=daemon)
            node.machine.wait_service(daemon, 60, mark)
        node.machine.wait("listening", 60, mark, service="gated")
        # Of this lie: a chain that answers with the state of another block is no attacker.
        wait_for(lambda: node.proxy.told["eth_getProof"] > told and node.status().get("code") == "chain.bad-proof", 60,
                 "the lie is believed, or not told")
    port = ports.free()
    node.machine.forward(port, lab_gate.PORT)
    wait_for(lambda: log_of(node, port, farmer) == "read", 60, "the farmer is not let in")
    assert name in node.agent.text(STATE)
    assert name in node.grid.rpc("eth_call", {"to": node.grid.registry, "data": FARM + f"{node.grid.farm:064x}"}, "latest")
    node.proxy.told.clear()
    node.proxy.lies.update({"eth_call": lie, "eth_getProof": lie})
    try:
        start_anew(forget=False)
        assert log_of(node, port, farmer) == "read" and log_of(node, port, attacker) == "gate.not-allowed"
        start_anew(forget=True)
        assert log_of(node, port, attacker) == log_of(node, port, farmer) == NO_FARMER
        # As `croft` tells it, and its exit status.
        done = node.grid.farmer.run("node", "logs", node.number, "--gate", f"127.0.0.1:{port}", check=False)
        assert done.status == 1 and NO_FARMER in done.err and "chain.bad-proof" in done.err, done
    finally:
        node.proxy.lies.clear()
    wait_for(lambda: log_of(node, port, farmer) == "read", 90, "the farmer is not let in")
    assert log_of(node, port, attacker) == "gate.not-allowed"
    assert node.status()["farmer"].lower() == "0x" + name
