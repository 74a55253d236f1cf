"""noded on a folder instead of a pool, with a real chain and a real relay."""
import json
import os
import shutil
import signal
import subprocess

import pytest

import primitives
from nodes import Noded
from world import BIN, varlink, wait

SECONDS = 110  # about, for the order in which files start


def test_registers_with_a_token(world):
    world.start_relay()
    noded = Noded(world).give_token().start()
    status = noded.state_is("active")
    assert (status["farm"], status["node"], status["ephemeral"]) == (1, 1, False)
    assert [k["epoch"] for k in status["keys"]] == [1]
    record = wait("report", lambda: world.node(status["identity"])["nonce"] == 2 and world.node(status["identity"]))
    assert record["boot_id"] == "0x" + noded.boot["bootId"] + "00" * 16
    assert int(record["capacity"][26:42], 16) == noded.storaged.ssd
    assert int(record["capacity"][2:10], 16) == 1000 * os.cpu_count()
    secrets = [world.token.hex()]
    kept = json.loads((noded.pools / "a/identity/identity.json").read_text())
    share = (noded.pools / "a/identity/epoch-1.share").read_bytes()
    assert os.stat(noded.pools / "a/identity/epoch-1.share").st_mode & 0o777 == 0o600 and len(share) == 4096
    other = bytes.fromhex(kept["keys"][0]["share"])
    secrets += [kept["seed"], kept["keys"][0]["share"], share[:32].hex(), bytes(a ^ b for a, b in zip(share, other)).hex()]
    assert os.stat(noded.pools / "a/identity/identity.json").st_mode & 0o777 == 0o600
    for secret in secrets:
        assert secret not in noded.log() and secret not in json.dumps(noded.status())
        assert secret not in (noded.state / "queue.json").read_text()
    # killed and started again it is the same node and says nothing twice
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    noded.kill()
    noded.start()
    assert noded.state_is("active")["identity"] == status["identity"]
    assert world.used_nonces(1) == [1, 2]
    # a disk more: reported by itself
    noded.storaged.ssd = 20 << 30
    noded.kill()
    noded.start()
    wait("the new capacity", lambda: int(world.node(status["identity"])["capacity"][26:42], 16) == 20 << 30)


def test_says_which_image_runs(world):
    world.start_relay()
    noded = Noded(world).give_token().start()
    identity = noded.state_is("active")["identity"]
    assert world.node(identity)["image_digest"] == "0x" + "00" * 32  # not booted from an image
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    for text, shown in [("ab" * 32 + "\n", "ab"), ("cd" * 32 + "\n", "cd"), ("cd" * 31, "00"), ("cd" * 32 + "\nx", None)]:
        noded.kill()
        noded.digest.write_text(text)
        noded.start()
        wanted = "0x" + (shown or "00") * 32
        wait("the digest", lambda: world.node(identity)["image_digest"] == wanted)
        wait("an empty queue", lambda: noded.status()["pending"] == 0)
    assert noded.log().count("(node.bad-image)") == 2


def test_results_are_signed_once_and_survive(world):
    world.start_relay()
    noded = Noded(world).give_token().start()
    noded.state_is("active")
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    world.relay.kill()
    world.relay.wait()
    submit = dict(reservation=5, revision=1, state=4, reason="")
    first = varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"]
    assert first == 3
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == first
    second = varlink(noded.socket, "org.croft.node.Submit", **(submit | {"state": 11, "reason": "image.not-found"}))
    assert second["parameters"]["nonce"] == first + 1
    assert [r["nonce"] for r in varlink(noded.socket, "org.croft.node.GetPending")["parameters"]["reports"]] == [3, 4]
    noded.kill()
    noded.start()
    noded.state_is("active")
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == first
    world.start_relay()
    wait("both results", lambda: world.used_nonces(1) == [1, 2, 3, 4], 60)
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == first
    for wrong in [dict(state=6), dict(reservation=0), dict(reason="x" * 33), dict(more=1), dict(state="4")]:
        answer = varlink(noded.socket, "org.croft.node.Submit", **(submit | wrong))
        assert "error" in answer, wrong
    assert noded.status()["pending"] == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_joins_with_a_token_that_comes_later(world, restarted):
    """Pending, then given a token: Active without the farmer, and without a nonce."""
    world.start_relay()
    noded = Noded(world).start()
    identity = noded.state_is("pending")["identity"]
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    if restarted:
        noded.kill()
    noded.give_token()
    if restarted:
        noded.start()
    noded.state_is("active")
    assert world.node(identity)["nonce"] == 2
    changes = world.events("NodeStateChanged(uint64,uint8,address,uint64)")
    assert [int(log["data"][2:66], 16) for log in changes] == [1, 2]
    assert world.address_of(world.token)[2:].lower() in changes[1]["data"]
    wait("an empty journal", lambda: world.pending() == 0)
    assert world.token.hex() not in noded.log() + (world.folder / "relay/journal").read_text()


def test_a_wrong_token_leaves_it_pending(world):
    world.start_relay()
    noded = Noded(world).start()
    noded.state_is("pending")
    noded.give_token(primitives.keccak256(b"somebody's"))
    wait("refusal", lambda: "(join.token-unknown)" in noded.log())
    status = noded.status()
    assert status["state"] == "pending" and "token" in status["detail"]
    # refused once, and not asked for again and again; results and reports go on
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    assert noded.log().count("(join.token-unknown)") == 1
    world.transact("approve", ["uint64", "uint64"], [1, 0])
    assert "token" not in noded.state_is("active")["detail"]


def test_joins_by_itself_without_a_relay(world):
    noded = Noded(world, relay=[]).start()
    wait("the address to fund", lambda: "(node.no-coin)" in noded.log())
    world.rpc("anvil_setBalance", noded.status()["identity"], hex(10**18))
    noded.state_is("pending", 60)
    noded.give_token()
    noded.state_is("active", 90)


def test_waits_for_approval(world):
    world.start_relay()
    noded = Noded(world).start()
    status = noded.state_is("pending")
    assert status["detail"] == f"waiting for approval, node address {status['identity']}"
    world.transact("approve", ["uint64", "uint64"], [1, 0])
    noded.state_is("active")
    world.transact("retire", ["uint64"], [1])
    noded.kill()
    noded.start()
    noded.state_is("retired")


@pytest.mark.parametrize("change, code", [
    (dict(farmerId=None), "node.no-farm"),
    (dict(chainId=5), "chain.wrong-id"),
    (dict(registry="0x" + "77" * 20), "chain.no-contract"),
    (dict(runmode="prod"), "chain.plain-refused"),
    (dict(runmode="test", chain=["ws://127.0.0.1:9"]), "chain.plain-refused"),
    (dict(runmode="test", chain=["https://127.0.0.1:9"]), "chain.unreachable"),
    (dict(relay=[]), "node.no-coin"),
    (dict(relay=["http://127.0.0.1:9"]), "relay.unreachable"),
    (dict(farmerId=2), "relay.not-served"),
    (dict(errors=[{"code": "boot.unknown-parameter", "message": "runmod=dev", "hint": ""}]), "boot.unknown-parameter"),
])
def test_says_why_it_does_not_register(world, change, code):
    world.start_relay()
    noded = Noded(world, **change).give_token().start()
    wait(code, lambda: f"({code})" in noded.log())
    status = noded.status()
    assert status["state"] == "unregistered"
    if code == "node.no-coin":
        assert status["identity"] in status["detail"]
    answer = varlink(noded.socket, "org.croft.node.Submit", reservation=1, revision=1, state=4, reason="")
    assert answer["parameters"]["code"] == "node.not-registered"
    assert world.events("NodeRegistered(uint64,uint64,address)") == []


@pytest.mark.parametrize("trust", [{"mode": "quorum", "quorum": 2}, {"mode": "qbft", "file": "/etc/croft/validators"}])
def test_registers_with_every_trust(world, trust):
    """What is not built, or refused, keeps provd from running anything; the farmer sees the node all the same."""
    world.start_relay()
    noded = Noded(world, trust=trust).give_token().start()
    status = noded.state_is("active")
    assert world.node(status["identity"])["state"] == 2


def test_pays_itself_without_a_relay(world):
    noded = Noded(world, relay=[]).give_token().start()
    wait("the address to fund", lambda: "(node.no-coin)" in noded.log())
    identity = noded.status()["identity"]
    world.rpc("anvil_setBalance", identity, hex(10**18))
    noded.state_is("active", 60)
    wait("report", lambda: world.node(identity)["nonce"] == 2)
    for state in (4, 5):
        varlink(noded.socket, "org.croft.node.Submit", reservation=9, revision=1, state=state, reason="")
    wait("results", lambda: world.used_nonces(1) == [1, 2, 3, 4], 60)
    assert int(world.rpc("eth_getTransactionCount", identity, "latest"), 16) == 4


def test_wrong_token(world):
    world.start_relay()
    noded = Noded(world).give_token(primitives.keccak256(b"somebody's")).start()
    wait("refusal", lambda: "(join.token-unknown)" in noded.log())
    assert noded.status()["state"] == "unregistered"
    noded.kill()
    noded.give_token().start()
    noded.state_is("active")


def test_stops_when_another_machine_has_its_identity(world):
    world.start_relay()
    noded = Noded(world).give_token().start()
    status = noded.state_is("active")
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    noded.kill()
    # the copy: same disk, another boot, no memory of ours
    queue = (noded.state / "queue.json").read_text()
    (noded.state / "queue.json").unlink()
    ours = noded.boot["bootId"]
    noded.boot["bootId"] = "ab" * 16
    noded.start()
    wait("the copy's report", lambda: world.node(status["identity"])["boot_id"].startswith("0x" + "ab" * 16))
    noded.kill()
    noded.boot["bootId"] = ours
    (noded.state / "queue.json").write_text(queue)
    noded.start()
    noded.state_is("stopped")
    assert "(node.identity-conflict)" in noded.log()
    answer = varlink(noded.socket, "org.croft.node.Submit", reservation=1, revision=1, state=4, reason="")
    assert answer["parameters"]["code"] == "node.not-registered"


@pytest.mark.parametrize("paid_by", ["relay", "itself"])
def test_repeats_what_a_reorganisation_took_back(world, paid_by):
    """Without the relay's memory: the same message with the same nonce, as long as it is in no final block."""
    noded = Noded(world, **({} if paid_by == "relay" else {"relay": []})).give_token()
    if paid_by == "relay":
        world.start_relay()
    noded.start()
    if paid_by == "itself":
        wait("the address to fund", lambda: "(node.no-coin)" in noded.log())
        world.rpc("anvil_setBalance", noded.status()["identity"], hex(10**18))
    identity = noded.state_is("active", 60)["identity"]
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    before = world.rpc("evm_snapshot")
    submit = dict(reservation=5, revision=1, state=4, reason="")
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == 3
    wait("the result", lambda: world.node(identity)["nonce"] == 3 and noded.status()["pending"] == 0)
    first = world.events("NonceUsed(uint64,uint64,bytes32)")[-1]["data"]
    if paid_by == "relay":
        world.relay.kill()
        world.relay.wait()
        shutil.rmtree(world.folder / "relay")
    assert world.rpc("evm_revert", before) is True
    assert world.used_nonces(1) == [1, 2]
    if paid_by == "relay":
        world.start_relay()
    # provd's repetition is the message that is known already
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == 3
    wait("the result again", lambda: world.used_nonces(1) == [1, 2, 3], 60)
    assert world.events("NonceUsed(uint64,uint64,bytes32)")[-1]["data"] == first
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    assert json.loads((noded.state / "queue.json").read_text())["pending"]
    for _ in range(3):
        world.rpc("evm_mine")
    wait("a final queue", lambda: not json.loads((noded.state / "queue.json").read_text())["pending"], 40)
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == 3


def test_a_reorganisation_is_not_another_machine(world):
    """The first message of a boot is taken back: the chain shows the boot before, and this one goes on."""
    world.start_relay()
    noded = Noded(world).give_token().start()
    status = noded.state_is("active")
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    noded.kill()
    before = world.rpc("evm_snapshot")
    noded.boot["bootId"] = "cd" * 16
    noded.start()
    wait("the first report", lambda: world.node(status["identity"])["boot_id"].startswith("0x" + "cd" * 16))
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    # Also the relay has seen it. One that had not would wait for its transaction to be mined, as a real chain keeps what a
    # reorganisation takes out of a block, and send it again after a minute and a half; anvil forgets it.
    wait("the relay", lambda: world.pending() == 0)
    world.rpc("evm_revert", before)
    submit = dict(reservation=5, revision=1, state=4, reason="")
    assert varlink(noded.socket, "org.croft.node.Submit", **submit)["parameters"]["nonce"] == 4
    wait("both", lambda: world.used_nonces(1) == [1, 2, 3, 4])
    assert noded.state_is("active") and "(node.identity-conflict)" not in noded.log()


def test_reboot_takes_the_nonce_from_the_chain(world):
    world.start_relay()
    noded = Noded(world).give_token().start()
    status = noded.state_is("active")
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    noded.kill()
    (noded.state / "queue.json").unlink()
    noded.boot["bootId"] = "cd" * 16
    noded.start()
    wait("the first report of the boot", lambda: world.node(status["identity"])["nonce"] == 3)
    noded.state_is("active")


def test_identity_lives_on_every_pool(world):
    world.start_relay()
    noded = Noded(world, pools=("a", "b", "c")).give_token().start()
    identity = noded.state_is("active")["identity"]
    files = [noded.pools / p / "identity/identity.json" for p in "abc"]
    assert len({f.read_text() for f in files}) == 1
    noded.kill()
    # a lost disk and an older copy are made whole
    files[0].unlink()
    old = json.loads(files[1].read_text())
    old["generation"] -= 1
    old["keys"][0]["created"] = 7
    files[1].write_text(json.dumps(old))
    noded.start()
    assert noded.state_is("active")["identity"] == identity
    assert len({f.read_text() for f in files}) == 1
    noded.kill()
    # another node's disk is left alone
    other = subprocess.run([BIN / "noded", "--version"], stdout=subprocess.PIPE, timeout=10)
    assert other.returncode == 0
    files[2].write_text("damaged")
    noded.start()
    assert noded.state_is("active")["identity"] == identity
    assert files[2].read_text() == "damaged"
    assert "left alone: pool c" in noded.log() and noded.status()["foreign"] == "c"


def test_a_new_key_when_it_is_asked_for_and_the_end_of_old_ones(world):
    world.start_relay()
    noded = Noded(world, pools=("a", "b")).give_token().start()
    noded.state_is("active")
    wait("an empty queue", lambda: noded.status()["pending"] == 0)

    def call(method, **parameters):
        answer = varlink(noded.socket, f"org.croft.node.{method}", **parameters)
        return answer.get("error"), answer["parameters"]

    def epochs():
        return [k["epoch"] for k in noded.status()["keys"]]

    def shares():
        return [sorted(f.name for f in (noded.pools / p / "identity").glob("*.share")) for p in "ab"]

    def known():
        raw = world.view("node", ["uint64"], [1])
        return int.from_bytes(raw[32 + 32 * 8:64 + 32 * 8], "big"), raw[32 + 32 * 12:64 + 32 * 12].hex()

    def rotate():
        error, made = call("RotateKey")
        assert error is None, made
        wait("the chain's epoch", lambda: known() == (made["epoch"], noded.status()["keys"][-1]["publicKey"]))
        wait("an empty queue", lambda: noded.status()["pending"] == 0)
        return made["epoch"]

    assert rotate() == 2 and rotate() == 3 and epochs() == [1, 2, 3]
    # While a new key waits for the chain there is no other one; a restart does not lose it.
    world.relay.kill()
    world.relay.wait()
    assert call("RotateKey") == (None, {"epoch": 4})
    error, why = call("RotateKey")
    assert error and why["code"] == "node.busy" and why["hint"], why
    noded.kill()
    noded.start()
    noded.state_is("active")
    assert epochs() == [1, 2, 3, 4]
    world.start_relay()
    wait("the chain's epoch", lambda: known()[0] == 4)
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    # What provd says: these are needed, by what runs or for a day; every other older one goes, on every pool.
    for wrong in (dict(current=4), dict(current=0, epochs=[]), dict(current=4, epochs=["2"]), dict(current=4, epochs=[-1])):
        assert call("KeepKeys", **wrong)[0], wrong
    assert epochs() == [1, 2, 3, 4]
    assert call("KeepKeys", current=3, epochs=[1, 2]) == (None, {"destroyed": 0})
    assert call("KeepKeys", current=4, epochs=[1, 3]) == (None, {"destroyed": 1}) and epochs() == [1, 3, 4]
    assert call("KeepKeys", current=4, epochs=[1, 3]) == (None, {"destroyed": 0})
    assert shares() == [["epoch-1.share", "epoch-3.share", "epoch-4.share"]] * 2
    assert call("KeepKeys", current=4, epochs=[]) == (None, {"destroyed": 2}) and epochs() == [4]
    # A word from beyond what is known does not touch the current key.
    assert call("KeepKeys", current=2**32 - 1, epochs=[]) == (None, {"destroyed": 0}) and epochs() == [4]
    noded.kill()
    noded.start()
    noded.state_is("active")
    assert epochs() == [4] and shares() == [["epoch-4.share"]] * 2


def test_survives_kills_at_any_time(world):
    world.start_relay()
    noded = Noded(world).give_token()
    for i in range(12):
        noded.start()
        noded.process.send_signal(signal.SIGSTOP)
        noded.process.send_signal(signal.SIGCONT)
        try:
            noded.process.wait(0.05 + 0.08 * i)
        except subprocess.TimeoutExpired:
            pass
        noded.kill()
    noded.start()
    status = noded.state_is("active")
    wait("an empty queue", lambda: noded.status()["pending"] == 0)
    nonces = world.used_nonces(1)
    assert nonces == list(range(1, len(nonces) + 1)) and len(nonces) <= 3, nonces
    assert world.node(status["identity"])["state"] == 2
