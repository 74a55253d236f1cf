"""Who a node takes for its farmer: gated before a provd whose endpoint lies. Whoever controls the endpoint names himself, in every way
that there is with a proof, and asks for the node's log: he is refused; the farmer is not, and is told why where nobody is let in."""
import contextlib
import json
import socket
import subprocess
import threading

import pytest
from lab import cli, gate as lab_gate

import primitives
import scene
from nodes import Provd
from world import BIN, CHAIN, CHAIN_ID, free_port, wait

FARMER, ATTACKER = 0, 3  # accounts
LINE = "what only the farmer reads"


class Core:
    """Answers org.croft.core.GetLog."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(8)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        answer = {"lines": [{"sequence": 1, "time": 1, "level": 6, "text": LINE}], "next": 2, "bootId": "12" * 16}
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            with peer:
                if peer.recv(65536).endswith(b"\0"):
                    peer.sendall(json.dumps({"parameters": answer}).encode() + b"\0")


class Gated:
    def __init__(self, noded):
        self.world, self.run = noded.world, noded.run
        self.process = None

    def start(self):
        self.port = free_port()
        self.process = self.world.spawn("gated", [BIN / "gated", "--socket", self.run / "gated", "--run", self.run,
                                                  "--listen", "127.0.0.1", "--port", self.port])
        wait("gate", lambda: self.world.alive(self.port))
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        (self.run / "gated").unlink(missing_ok=True)

    def log(self, account):
        """The node's log as that account gets it, or the code and the sentence with which it is refused."""
        try:
            lines = [e["line"] for e in lab_gate.Gate(self.port, int(scene.KEYS[account], 16)).node_log("core0")]
        except lab_gate.GateError as refused:
            return refused.code, refused.message
        assert lines == [LINE]
        return "read", None

    def code(self, account):
        return self.log(account)[0]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with scene.Scene(tmp_path_factory.mktemp("farmer")) as made:
        made.core = Core(made.noded.run / "core0")
        made.gated = Gated(made.noded).start()
        made.addresses = {account: made.world.accounts[account].lower().removeprefix("0x") for account in (FARMER, ATTACKER)}
        # Farm 2 is the attacker's, and so is farm 1 of a registry of his own.
        made.cli(ATTACKER).run("farm", "create", "his")
        out = subprocess.run([CHAIN / "scripts/deploy", "--rpc", made.world.url, "--key-file", made.world.folder / f"key-of-{ATTACKER}"],
                             check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
        made.his_registry = json.loads(out)["registry"]
        cli.Cli({**made.cli(ATTACKER).env, "CROFT_REGISTRY": made.his_registry}, None).run("farm", "create", "his")
        yield made
        made.core.socket.close()


def ask(node, *params):
    return node.world.rpc("eth_getProof", *params)


def slot_of_farm(number):
    return "0x" + primitives.keccak256(number.to_bytes(32, "big") + (4).to_bytes(32, "big")).hex()


@contextlib.contextmanager
def anew(node, *forget, gate=True, **boot):
    """provd (and gated) started anew, without these of its files; afterwards as it was before."""
    def start(provd):
        node.provd.kill()
        if gate:
            node.gated.kill()
        node.provd = provd.start()
        if gate:
            node.gated.start()
    before = node.provd
    for name in forget:
        (before.state / name).unlink()
    try:
        start(Provd(before.noded, before.boot["chain"], **boot))
        yield node.provd
    finally:
        node.proxy.lies.clear()
        node.proxy.heal()
        start(before)
        wait("the farmer", lambda: node.gated.code(FARMER) == "read", 60)


# ---- lies about the one slot: functions of the whole answer and what was asked for


def entry(result):
    return next(e for e in result["storageProof"] if int(e["key"], 16) == int(slot_of_farm(1), 16))


def own_name(node, result, params):
    """The attacker's address wherever the farmer's stands, in the value and in the proof's leaf."""
    text = json.dumps(entry(result))
    assert text.count(node.addresses[FARMER]) == 2, text
    return text.replace(node.addresses[FARMER], node.addresses[ATTACKER])


def own_farm(node, result, params):
    """A true proof: of farm 2, which is his."""
    true = ask(node, params[0], [slot_of_farm(2)], params[2])["storageProof"][0]
    assert node.addresses[ATTACKER] in true["value"]
    return json.dumps({**true, "key": entry(result)["key"]})


def other_registry(node, result, params):
    """A true proof of the same slot, of a registry of his own."""
    true = ask(node, node.his_registry, [slot_of_farm(1)], params[2])["storageProof"][0]
    assert node.addresses[ATTACKER] in true["value"]
    return json.dumps({**true, "key": entry(result)["key"]})


def own_slot(node, result, params):
    """The proof of the farm's entry is left out, and his own farm's stands there under its own name."""
    return json.dumps(ask(node, params[0], [slot_of_farm(2)], params[2])["storageProof"][0])


def no_slot(node, result, params):
    return None


def whole_other_registry(node, result, params):
    """All of the answer, the account too, is his registry's."""
    return ask(node, node.his_registry, params[1], params[2])


LIES = {lie.__name__: lie for lie in (own_name, own_farm, other_registry, own_slot, no_slot, whole_other_registry)}


def lies(node, what):
    def lie(result, params):
        if slot_of_farm(1) not in params[1]:
            return result
        told = LIES[what](node, result, params)
        if isinstance(told, dict):
            return told
        result["storageProof"] = [e for e in result["storageProof"] if e is not entry(result)]
        if told is not None:
            result["storageProof"].append(json.loads(told))
        return result
    node.proxy.told.clear()
    node.proxy.lies["eth_getProof"] = lie


def test_it_is_the_proved_one(node):
    assert node.gated.code(FARMER) == "read"
    code, message = node.gated.log(ATTACKER)
    assert code == "gate.not-allowed" and "farmer" in message
    assert node.provd.status()["farmer"].lower() == "0x" + node.addresses[FARMER]
    assert node.noded.status()["farmer"] is None  # nobody is named without a proof
    kept = json.loads((node.provd.state / "farmer.json").read_text())
    assert kept == {"chainId": CHAIN_ID, "registry": node.world.registry.lower()[2:], "farm": 1, "trust": "rpc",
                    "farmer": node.addresses[FARMER]}


@pytest.mark.parametrize("what", LIES)
def test_who_names_himself_is_refused(node, what):
    """To a node that knows no farmer yet: nobody is let in, with the reason, and not even with a restart of it."""
    lies(node, what)
    with anew(node, "farmer.json") as provd:
        provd.says("chain.bad-proof")
        assert node.proxy.told["eth_getProof"] >= 1
        for who in (ATTACKER, FARMER):
            code, message = node.gated.log(who)
            assert code == "gate.farmer-unknown" and "chain.bad-proof" in message, (who, code, message)
        assert provd.status().get("farmer") is None and not (provd.state / "farmer.json").exists()
        node.proxy.lies.clear()
        node.world.mine()
        wait("the farmer", lambda: node.gated.code(FARMER) == "read", 60)
        assert node.gated.code(ATTACKER) == "gate.not-allowed"


@pytest.mark.parametrize("what", LIES)
def test_who_names_himself_replaces_nobody(node, what):
    """To a node that has proved its farmer: he stays, also over a restart of all that knows him."""
    lies(node, what)
    with anew(node) as provd:
        provd.says("chain.bad-proof")
        assert node.gated.code(FARMER) == "read"
        assert node.gated.code(ATTACKER) == "gate.not-allowed"


def test_he_is_kept_without_a_chain(node):
    node.proxy.refuse()
    with anew(node) as provd:
        provd.says("chain.unreachable")
        assert node.gated.code(FARMER) == "read"
        assert node.gated.code(ATTACKER) == "gate.not-allowed"
        assert provd.status().get("block") is None


@pytest.mark.parametrize("member,value", [("farm", 2), ("chainId", 1), ("registry", "11" * 20), ("trust", "qbft"), ("farmer", "11" * 19),
                                          ("more", 1), (None, None)])
def test_what_was_kept_for_something_else_is_not_believed(node, member, value):
    """Another farm, chain, registry or trust, or a file that is damaged: as if there were none."""
    file = node.provd.state / "farmer.json"
    kept = json.loads(file.read_text())
    changed = json.dumps({**kept, member: value, **({"farmer": node.addresses[ATTACKER]} if member != "farmer" else {})}) if member else "{"
    node.proxy.refuse()
    node.provd.kill()
    file.write_text(changed)
    with anew(node) as provd:
        provd.says("chain.unreachable")
        for who in (ATTACKER, FARMER):
            code, message = node.gated.log(who)
            assert code == "gate.farmer-unknown" and "chain.unreachable" in message, (who, code, message)
    wait("what is kept", lambda: json.loads(file.read_text()) == kept)


def test_a_trust_that_cannot_prove_lets_nobody_in(node):
    """Also with what an earlier boot proved under another one."""
    with anew(node, trust={"mode": "quorum", "quorum": 2}) as provd:
        assert provd.status()["state"] == "refused"
        for who in (ATTACKER, FARMER):
            code, message = node.gated.log(who)
            assert code == "gate.farmer-unknown" and "chain.trust-unsupported" in message, (who, code, message)


def test_while_provd_is_away_the_proved_one_reads_why(node):
    """gated remembers whom it was told; one that was started meanwhile says that a part of the node does not answer."""
    assert node.gated.code(FARMER) == "read"
    node.provd.kill()
    try:
        assert node.gated.code(FARMER) == "read" and node.gated.code(ATTACKER) == "gate.not-allowed"
        node.gated.kill()
        node.gated.start()
        assert node.gated.code(FARMER) == node.gated.code(ATTACKER) == "gate.not-ready"
    finally:
        node.provd.start()
    wait("the farmer", lambda: node.gated.code(FARMER) == "read", 60)


# Last: the farm is another's then.
def test_another_farmer_on_the_chain_is_followed(node):
    """The contract gives no farm away; its storage says who the farmer is all the same. By a provd that runs on, within a minute and
    a half (WATCH_RECHECK_US and WATCH_VERIFY_US of core0/provision/watch.h)."""
    word = node.world.rpc("eth_getStorageAt", node.world.registry, slot_of_farm(1), "latest")
    assert word.endswith(node.addresses[FARMER])
    pid = node.provd.process.pid
    node.world.rpc("anvil_setStorageAt", node.world.registry, slot_of_farm(1), word[:-40] + node.addresses[ATTACKER])

    def followed():
        node.world.mine()
        return node.gated.code(ATTACKER) == "read"
    wait("the new farmer", followed, 180)
    assert node.gated.code(FARMER) == "gate.not-allowed"
    assert node.provd.process.pid == pid and node.provd.process.poll() is None
    assert json.loads((node.provd.state / "farmer.json").read_text())["farmer"] == node.addresses[ATTACKER]
