"""What a node believes of its chain: proofs, lies, forged proposals, silence, and how much it asks."""
import json
import time

import pytest

from lab import forge, paths, proxy, traces
from lab.node import wait_for

SECONDS = 165  # about, for the order in which files start
BOUNDS = True  # what is claimed of a node in seconds is held to: no third machine beside it

IDLE = {"idle": {"image": "busybox", "command": ["sleep", "100000"]}}
# Requests of a node in a minute in which nothing concerns it, at a block every second, which no real chain has: a proof
# per block for provd, a round that goes the whole way every 20 s, and what noded asks besides. Seen: 70.
IDLE_LIMIT = 100


def first_storage_node(result):
    proof = result["storageProof"][0]["proof"]
    proof[-1] = proxy.flip(proof[-1])
    return result


def last_account_node(result):
    result["accountProof"][-1] = proxy.flip(result["accountProof"][-1])
    return result


def state_root(result):
    return {**result, "stateRoot": proxy.flip(result["stateRoot"])}


def log_data(result):
    """One digit of the last word of the data of the newest log."""
    if result:
        result[-1]["data"] = proxy.flip(result[-1]["data"])
    return result


def log_missing(result):
    return result[:-1]


LIES = {
    "header": {"eth_getBlockByNumber": lambda r, p: state_root(r),
               "eth_getBlockByHash": lambda r, p: state_root(r)},
    "account-proof": {"eth_getProof": lambda r, p: last_account_node(r)},
    "storage-proof": {"eth_getProof": lambda r, p: first_storage_node(r)},
    "log": {"eth_getLogs": lambda r, p: log_data(r)},
    "log-left-out": {"eth_getLogs": lambda r, p: log_missing(r)},
}


def specification(**changes):
    """A specification that is right in all but the changes."""
    image = "ab" * 32
    whole = {"version": 1, "project": "forged", "images": {image: {"hubs": ["http://10.0.2.2:1"]}},
             "networks": {"default": {"internal": False}},
             "services": {"web": {"image": image, "resources": {"milliCores": 500, "memory": 256 << 20,
                                                                "pids": 64}, "scratch": 1 << 20}},
             "resources": {"milliCores": 500, "memory": 256 << 20, "ssd": 0, "hdd": 1 << 20, "addresses": 0}}
    return json.dumps({**whole, **changes}, sort_keys=True, separators=(",", ":")).encode()


RIGHT = forge.packed(hdd=1 << 20)
OTHER = "0x" + "11" * 20
FORGED = {
    "truncated": ("provision.bad-specification", lambda n: forge.propose(n, specification()[:-1], RIGHT)),
    "unknown-member": ("provision.bad-specification",
                       lambda n: forge.propose(n, specification(privileged=True), RIGHT)),
    "not-json": ("provision.bad-specification", lambda n: forge.propose(n, b"\xff\x00", RIGHT)),
    "more-than-reserved": ("provision.more-than-reserved", lambda n: forge.propose(n, specification())),
    "another-commitment": ("provision.commitment-mismatch",
                           lambda n: forge.propose(n, specification(), RIGHT, committed=b"{}")),
    "another-tenant's": ("node.cannot-open",
                         lambda n: forge.propose(n, specification(), RIGHT, tenant=OTHER)),
    "another-revision's": ("node.cannot-open",
                           lambda n: forge.propose(n, specification(), RIGHT, revision=2)),
}


def test_a_forged_proposal_is_refused_with_its_reason(node):
    """What no honest `croft deploy` writes: the reason stands on the chain and on the console, and nothing
    was made for it. The file's first test, so that nothing is just ending meanwhile."""
    before = traces.collect(node.agent)
    for name, (code, forged) in FORGED.items():
        number = forged(node)
        shown = node.grid.wait_reservation(number, "failed", 120)
        assert shown["reason"] == code, (name, shown)
        wait_for(lambda: code in node.machine.console, 30, f"{name}: {code} is not on the console")
    left = traces.difference(before, traces.collect(node.agent))
    left.pop("processes", None)
    assert not left, json.dumps(left, indent=1)


@pytest.mark.parametrize("lie", LIES)
def test_one_changed_byte_is_not_believed(node, lie):
    """While the endpoint lies, a new reservation does not run; once it is honest, it does."""
    tenant = node.grid.tenant(node.project(IDLE, name=f"lie-{lie}"))
    node.proxy.told.clear()
    node.proxy.lies.update(LIES[lie])
    mark = node.machine.mark()
    try:
        done = tenant.json("deploy", "compose.yml", "--node", node.number, "--blobs",
                           node.grid.hub.folder, "--no-wait")
        wait_for(lambda: sum(node.proxy.told.values()) >= 2, 30, "the lie was never asked for")
        time.sleep(3 * paths.SCALE)
        assert not node.machine.find("process", mark)
        assert not [e for e in node.entries() if e["reservation"] == done["reservation"]]
    finally:
        node.proxy.lies.clear()
    node.machine.wait("process", 120, mark, reservation=done["reservation"])
    node.grid.wait_reservation(done["reservation"], "active", 60)
    tenant.run("reservation", "cancel", done["reservation"])


def test_a_change_is_learned_of_within_a_second(node):
    """Timed on the host: from the block with the proposal to provd's event."""
    tenant = node.grid.tenant(node.project(IDLE, name="quick"))
    mark = node.machine.mark()
    done = tenant.json("deploy", "compose.yml", "--node", node.number, "--blobs",
                       node.grid.hub.folder, "--no-wait")
    mined = time.monotonic()
    event = node.machine.wait("block", 30, mark, service="provd")
    assert event["host"] - mined < 1 * paths.SCALE
    node.grid.wait_reservation(done["reservation"], "active", 120)
    tenant.run("reservation", "cancel", done["reservation"])


def test_a_chain_that_went_silent_is_noticed_within_15_seconds(node):
    """Nothing is closed or refused, packets just stay away; workloads keep running meanwhile."""
    with node.deployed(IDLE, name="silence") as it:
        node.proxy.blackhole()
        try:
            start = time.monotonic()
            wait_for(lambda: node.status()["state"] != "running", 20, "the silence was not noticed")
            assert time.monotonic() - start < 15 * paths.SCALE
            entry = [e for e in node.entries() if e["reservation"] == it.id][0]
            assert entry["services"][0]["state"] == "running"
        finally:
            node.proxy.heal()
        wait_for(lambda: node.status()["state"] == "running", 60, "the chain was not taken back")
        before = node.status()["block"]
        wait_for(lambda: node.status()["block"] > before, 30, "no block after the silence")


def test_requests_of_an_idle_minute_are_bounded(node):
    start = time.monotonic()
    time.sleep(60)
    asked = node.proxy.since(start)
    assert 0 < sum(asked.values()) <= IDLE_LIMIT, asked
