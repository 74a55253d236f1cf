"""What provd believes of its chain: real proofs of a real chain, with an endpoint between that lies. Each lie is refused under its
code in the API and in the log, changes nothing of what runs, and the truth is taken again afterwards."""
import json

import pytest
from lab import proxy

import scene
from nodes import Provd
from world import World, wait

SECONDS = 90  # about, for the order in which files start


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with scene.Scene(tmp_path_factory.mktemp("chain")) as made:
        made.kept = made.propose()
        made.provd.step(made.kept, "pull")
        yield made


def ask(node, method, *params):
    """The chain's own answer, past the liar."""
    return node.world.rpc(method, *params)


# -- lies about headers and proofs: (method, lie, code)


def changed(member):
    return lambda n: lambda result, params: {**result, member: proxy.flip(result[member])}


def older_proof(node):
    """The true proof of the block before."""
    return lambda result, params: ask(node, "eth_getProof", params[0], params[1], hex(int(params[2], 16) - 1))


def proof_of_another_contract(node):
    other = {node.world.registry.lower(): node.world.reservations, node.world.reservations.lower(): node.world.registry}
    return lambda result, params: ask(node, "eth_getProof", other[params[0].lower()], params[1], params[2])


def in_proof(change):
    def lie(result, params):
        change(result)
        return result
    return lambda node: lie


def flip_last(nodes):
    nodes[-1] = proxy.flip(nodes[-1])


def claim(result):
    """The values that nobody believes by themselves, so that they may lie alone: the proof says otherwise."""
    for slot in result["storageProof"]:
        slot["value"] = "0x7"
        slot["proof"] = slot["proof"][:-1]


def exchange(result):
    """Each slot comes with the other one's true proof."""
    first, second = result["storageProof"][0], result["storageProof"][-1]
    first["proof"], second["proof"] = second["proof"], first["proof"]


PROOFS = {
    "state root": ("eth_getBlockByNumber", changed("stateRoot"), "chain.bad-header"),
    "time": ("eth_getBlockByNumber", lambda n: lambda r, p: {**r, "timestamp": hex(int(r["timestamp"], 16) + 1)}, "chain.bad-header"),
    "number": ("eth_getBlockByNumber", lambda n: lambda r, p: {**r, "number": hex(int(r["number"], 16) + 5)}, "chain.bad-header"),
    "hash": ("eth_getBlockByNumber", changed("hash"), "chain.bad-header"),
    "a field left out": ("eth_getBlockByNumber", lambda n: lambda r, p: {k: v for k, v in r.items() if k != "receiptsRoot"},
                         "chain.bad-header"),
    "account proof": ("eth_getProof", in_proof(lambda r: flip_last(r["accountProof"])), "chain.bad-proof"),
    "account proof cut": ("eth_getProof", in_proof(lambda r: r["accountProof"].pop()), "chain.bad-proof"),
    "storage proof": ("eth_getProof", in_proof(lambda r: flip_last(r["storageProof"][0]["proof"])), "chain.bad-proof"),
    "storage proof cut": ("eth_getProof", in_proof(claim), "chain.bad-proof"),
    "slots exchanged": ("eth_getProof", in_proof(exchange), "chain.bad-proof"),
    "proof of the block before": ("eth_getProof", older_proof, "chain.bad-proof"),
    "proof of another contract": ("eth_getProof", proof_of_another_contract, "chain.bad-proof"),
    "no proof": ("eth_getProof", lambda n: lambda r, p: {"storageProof": []}, "chain.bad-proof"),
}


# -- lies about the list: what eth_getLogs answers for the block of the newest proposal


def of(result, event):
    return [log for log in result if log["topics"][0] == event]


def left_out(index):
    return lambda result: result[:index] + result[index + 1:]


def word(log, index, value=None):
    """A word of a log's data, or the data with another one."""
    at = 2 + 64 * index
    return log["data"][at:at + 64] if value is None else log["data"][:at] + value + log["data"][at + 64:]


def exchanged(result):
    """Two changes change places: the second comes first, and has the first one's number."""
    first, second = of(result, scene.CHANGED)[:2]
    one, two = word(first, 2), word(second, 2)
    first["data"], second["data"] = word(first, 2, two), word(second, 2, one)
    return result


def altered(event, at, which=0):
    """One digit of a log of the event."""
    def lie(result):
        log = of(result, event)[which]
        log["data"] = proxy.flip(log["data"], at)
        return result
    return lie


def added(result):
    """A change that never was, instead of the last one."""
    result[-1]["data"] = word(result[-1], 1, f"{11:064x}")
    return result


WORD = 64  # digits
LISTS = {
    "nothing in the block": lambda result: [],
    "the proposal left out": lambda result: [log for log in result if log["topics"][0] != scene.PROPOSED],
    "the first change left out": lambda result: [log for log in result if log is not of(result, scene.CHANGED)[0]],
    "the second change left out": lambda result: [log for log in result if log is not of(result, scene.CHANGED)[1]],
    "the last change left out": lambda result: [log for log in result if log is not of(result, scene.CHANGED)[-1]],
    "two changes exchanged": exchanged,
    "another revision": altered(scene.CHANGED, 2 + WORD - 1),
    "another state": altered(scene.CHANGED, 2 + 2 * WORD - 1, -1),
    "another sequence": altered(scene.CHANGED, 2 + 3 * WORD - 1, -1),
    "another previous block": altered(scene.CHANGED, 2 + 4 * WORD - 1),
    "another reason": altered(scene.CHANGED, 2 + 4 * WORD, -1),
    "another commitment": altered(scene.CHANGED, 2 + 5 * WORD, -1),
    "another time": altered(scene.CHANGED, 2 + 8 * WORD - 1, -1),
    "another content hash": altered(scene.PROPOSED, 2 + 4 * WORD - 1),
    "other resources": altered(scene.PROPOSED, 2 + 3 * WORD - 1),
    "other sealed bytes": altered(scene.PROPOSED, 2 + 13 * WORD + 9),
    "a failure that never was": added,
    "another tenant": lambda result: [
        {**log, "topics": [*log["topics"][:3], proxy.flip(log["topics"][3])]} if log["topics"][0] == scene.PROPOSED else log
        for log in result],
    "another reservation": lambda result: [{**log, "topics": [*log["topics"][:2], proxy.flip(log["topics"][2]), *log["topics"][3:]]}
                                           for log in result],
    "another contract's": lambda result: [{**log, "address": proxy.flip(log["address"])} for log in result],
    "another block's": lambda result: [{**log, "blockHash": proxy.flip(log["blockHash"])} for log in result],
    "taken back": lambda result: [{**log, "removed": True} for log in result],
}


def refused(node, what, method, lie, code):
    """While the lie is told, a new reservation is not begun, and the old one stays as it is."""
    node.proxy.told.clear()
    node.proxy.lies[method] = lie
    try:
        number = node.propose()
        node.provd.says(code)
        assert node.proxy.told[method] >= 1, what
        assert node.provd.status()["state"] == "waiting" and node.provd.status()["detail"], what
        entries = node.provd.entries()
        assert number not in entries and entries[node.kept]["step"] == "pull", (what, entries)
        assert f"({code})" in node.provd.log(), what
    finally:
        node.proxy.lies.clear()
    node.world.mine()  # a new block is looked at at once, whatever the pause after a failure
    node.provd.step(number, "pull")
    node.provd.says(None)
    node.cancel(number)
    wait("the end", lambda: number not in node.provd.entries())


@pytest.mark.parametrize("what", PROOFS)
def test_a_changed_header_or_proof_is_not_believed(node, what):
    method, lie, code = PROOFS[what]
    refused(node, what, method, lie(node), code)


@pytest.mark.parametrize("what", LISTS)
def test_a_changed_list_is_not_believed(node, what):
    def lie(result, params):
        return LISTS[what](result) if of(result, scene.PROPOSED) else result
    refused(node, what, "eth_getLogs", lie, "chain.bad-list")


def test_an_older_state_than_the_final_one_is_not_believed(node):
    """The endpoint goes back to a block of before, with true headers and true proofs."""
    node.world.mine(5)
    wait("finality", lambda: node.provd.status()["finalBlock"] >= int(ask(node, "eth_blockNumber"), 16) - 2)
    back = hex(node.provd.status()["finalBlock"] - 1)
    before = node.provd.status()["block"]
    node.proxy.lies["eth_getBlockByNumber"] = (
        lambda result, params: ask(node, "eth_getBlockByNumber", back, False) if params[0] == "latest" else result)
    try:
        number = node.propose()
        node.provd.says("chain.stale")
        assert node.provd.status()["block"] == before and number not in node.provd.entries()
        assert node.provd.entries()[node.kept]["step"] == "pull"
    finally:
        node.proxy.lies.clear()
    node.provd.step(number, "pull")
    node.cancel(number)


def test_a_chain_id_that_changes_is_noticed(node):
    """It was right at the start; the endpoint is asked again, and what it said meanwhile is no longer followed."""
    node.proxy.lies["eth_chainId"] = lambda result, params: "0x1092"
    node.proxy.hang_up()
    try:
        node.provd.says("chain.wrong-id", 90)
        assert "4242" in node.provd.status()["detail"]
        number = node.propose()
        node.provd.says("chain.wrong-id")
        assert number not in node.provd.entries() and node.provd.entries()[node.kept]["step"] == "pull"
    finally:
        node.proxy.lies.clear()
    node.provd.step(number, "pull", 90)  # the id is asked for every minute at the latest
    node.cancel(number)


def test_another_chain_behind_the_same_endpoint_is_not_followed(node, tmp_path):
    """All of it is honest, has this chain's id and contracts at the same addresses, and more blocks; but it is another chain. It
    has no reservation of this node's, and not even the node."""
    with scene.ended(World(tmp_path)) as other:
        assert other.registry == node.world.registry
        other.create_farm()
        other.rpc("anvil_mine", hex(int(ask(node, "eth_blockNumber"), 16) + 50))
        ours, node.proxy.upstream = node.proxy.upstream, other.port
        node.proxy.hang_up()
        try:
            node.provd.says("chain.stale", 90)
            assert node.provd.entries()[node.kept]["step"] == "pull"
        finally:
            node.proxy.upstream = ours
            node.proxy.hang_up()
    node.provd.says(None, 60)


def test_what_was_believed_outlives_the_program(node):
    """The final mark is on disk: provd that is started anew refuses what it refused before."""
    back = ask(node, "eth_blockNumber")
    node.cancel(node.propose())
    node.world.mine(5)
    lists = node.provd.state / "lists.json"
    wait("the mark on disk", lambda: json.loads(lists.read_text())["finalBlock"] > int(back, 16))
    node.provd.kill()
    node.proxy.lies["eth_getBlockByNumber"] = (
        lambda result, params: ask(node, "eth_getBlockByNumber", back, False) if params[0] == "latest" else result)
    try:
        node.provd.start()
        node.provd.says("chain.stale")
        assert node.provd.entries()[node.kept]["step"] == "pull"  # what it knows goes on
    finally:
        node.proxy.lies.clear()
    node.provd.says(None, 60)


def test_answers_that_are_none(node):
    """Not JSON, no answer's shape, a JSON-RPC error, HTTP 500: said, nothing is lost."""
    for what, raw, code in (("not JSON", b"<html>", "chain.unreachable"),
                            ("another's answer", b'{"jsonrpc":"2.0","id":99999999,"result":"0x1"}', "chain.unreachable"),
                            ("an error", None, "chain.refused")):
        node.proxy.raw = raw if raw is not None else (
            lambda request: json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": "no"}}).encode())
        try:
            node.world.mine(1)
            node.provd.says(code, 60)
            assert node.provd.entries()[node.kept]["step"] == "pull", what
        finally:
            node.proxy.raw = None
        node.world.mine(1)
        node.provd.says(None, 60)


def test_a_second_endpoint_of_another_chain_is_not_followed(node):
    """The first endpoint goes away in the middle of it all: whoever answers instead says first which chain he serves."""
    second = proxy.Proxy(node.world.port)
    first, node.provd = node.provd, None
    first.kill()
    try:
        node.provd = Provd(node.noded, [f"http://127.0.0.1:{p.port}" for p in (node.proxy, second)]).start()
        node.provd.says(None)
        node.provd.step(node.kept, "pull")
        second.lies["eth_chainId"] = lambda result, params: "0x1092"
        node.proxy.raw = b""
        number = node.propose()
        node.provd.says("chain.wrong-id", 60)
        assert second.told["eth_chainId"] and number not in node.provd.entries()
        assert node.provd.entries()[node.kept]["step"] == "pull"
        second.lies.clear()
        node.provd.step(number, "pull", 60)
        node.cancel(number)
    finally:
        node.proxy.raw = None
        second.stop()


# Last: a number that it took back waits for the sweep, which has no makers to ask here, and would hold up who gets it next.
def test_a_reorganisation_is_followed(node):
    """Above the final block, down to the very list that is final: what the branch that is gone had proposed is not wanted any more.
    What happens to a workload, and to another one of the same number: tests/qemu/test_refusal_node.py."""
    node.world.mine(5)
    wait("finality", lambda: node.provd.status()["finalBlock"] >= int(ask(node, "eth_blockNumber"), 16) - 2)
    snapshot = ask(node, "evm_snapshot")
    gone = node.propose()
    node.provd.step(gone, "pull")
    assert ask(node, "evm_revert", snapshot) is True
    node.world.mine()
    wait("its end", lambda: gone not in node.provd.entries())
    assert node.provd.entries()[node.kept]["step"] == "pull"
    node.provd.says(None)
    assert node.provd.status()["state"] == "running"
