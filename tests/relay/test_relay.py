"""croft-relay: what it refuses, and that it loses nothing, whenever it is killed."""
import signal

import pytest

import abi
import primitives
from world import wait

SECONDS = 60  # about, for the order in which files start

NODE = primitives.keccak256(b"a node of the test")
OTHER = primitives.keccak256(b"another node of the test")


def registered(world):
    world.start_relay()
    assert world.post("register", world.registration(NODE, token=world.token))[0] == 202
    identity = world.address_of(NODE)
    wait("registration", lambda: world.node(identity)["id"] == 1)
    wait("an empty journal", lambda: world.pending() == 0)
    return identity


def kill(world, number=signal.SIGKILL):
    world.relay.send_signal(number)
    world.relay.wait(10)


def test_registers_and_reports(world):
    identity = registered(world)
    assert world.node(identity)["state"] == 2
    assert world.post("report", world.report(NODE, 1, 2)) == (202, {"state": "queued"})
    wait("report", lambda: world.node(identity)["nonce"] == 2)
    # what the chain has already costs nothing more
    wait("an empty journal", lambda: world.pending() == 0)
    before = int(world.rpc("eth_blockNumber"), 16)
    assert world.post("report", world.report(NODE, 1, 2)) == (200, {"state": "done"})
    assert world.post("register", world.registration(NODE, token=world.token)) == (200, {"state": "done"})
    assert int(world.rpc("eth_blockNumber"), 16) == before
    # several at once, each waiting for the one before it
    world.rpc("evm_setAutomine", False)
    for nonce in range(3, 9):
        assert world.post("report", world.report(NODE, 1, nonce))[0] == 202, nonce
    world.rpc("evm_setAutomine", True)
    wait("reports", lambda: world.rpc("evm_mine") is not None and world.node(identity)["nonce"] == 8)
    assert world.used_nonces(1) == list(range(1, 9))


def test_refuses(world):
    registered(world)
    status, answer = world.post("register", world.registration(OTHER, token=OTHER))
    assert (status, answer["code"]) == (422, "join.token-unknown")
    status, answer = world.post("register", world.registration(OTHER, farm=2))
    assert (status, answer["code"]) == (403, "relay.not-served")
    status, answer = world.post("report", world.report(NODE, 1, 4))
    assert (status, answer["code"]) == (422, "node.nonce-gap")
    status, answer = world.post("report", world.report(OTHER, 1, 2))
    assert (status, answer["code"]) == (422, "node.unknown")
    forged = world.report(NODE, 1, 2)
    forged["message"]["uptime"] += 1
    assert world.post("report", forged)[0] == 422
    foreign = world.registration(OTHER)
    foreign["message"]["identity"] = world.address_of(NODE)
    assert world.post("register", foreign)[1]["code"] == "node.bad-signature"
    for body in ["", "{}", "[]", "{\"message\":{}}", b"\0", "{" * 100, world.report(NODE, 1, 2) | {"more": 1}]:
        assert world.post("report", body)[0] == 400, body
    assert world.post("report", "x" * 9000)[0] == 413
    assert world.post("nothing", {})[0] == 404
    # none of this reached the chain, and the relay still serves
    assert world.used_nonces(1) == [1]
    assert world.post("report", world.report(NODE, 1, 2))[0] == 202


@pytest.mark.parametrize("step", [None, "received", "signed", "sent", "mined"])
def test_takes_a_join(world, step):
    """A Pending node becomes Active by a token's signature, also when the relay is killed over it."""
    world.start_relay(*(["--fault", f"{step}:2"] if step else []))
    identity = world.address_of(NODE)
    assert world.post("register", world.registration(NODE))[0] == 202
    wait("registration", lambda: world.node(identity).get("state") == 1)
    wait("an empty journal", lambda: world.pending() == 0)
    join = world.join(world.token, 1, identity)
    for wrong, answer in [(world.join(OTHER, 1, identity), (422, "join.token-unknown")),
                          (world.join(world.token, 2, identity), (422, "node.bad-signature")),
                          (world.join(world.token, 1, world.address_of(OTHER)), (422, "node.unknown")),
                          (join | {"number": 0}, (400, "relay.bad-message")),
                          ({k: v for k, v in join.items() if k != "number"}, (400, "relay.bad-message"))]:
        status, body = world.post("join", wrong)
        assert (status, body["code"]) == answer
    assert world.node(identity)["state"] == 1

    kills = []

    def active():
        if world.relay.poll() is not None:
            kills.append(step)
            world.start_relay()
        world.post("join", join)
        return world.node(identity)["state"] == 2
    wait("the join", active)
    wait("an empty journal", lambda: world.relay.poll() is None and world.pending() == 0 or active() and False)
    assert kills == ([step] if step else [])
    assert world.post("join", join) == (200, {"state": "done"})
    assert len(world.events("NodeStateChanged(uint64,uint8,address,uint64)")) == 2
    assert world.node(identity)["nonce"] == 1


def test_limits_a_node(world):
    registered(world)
    kill(world)
    world.start_relay("--per-node", "6")
    statuses = [world.post("report", world.report(NODE, 1, 5))[0] for _ in range(70)]
    assert statuses.count(429) > 0 and statuses[0] == 422
    assert world.post("register", world.registration(OTHER, token=world.token))[0] == 202  # others do not suffer


@pytest.mark.parametrize("step", ["received", "received:3", "signed", "signed:2", "sent", "sent:4", "replaced", "mined", "mined:2",
                                  "final", "final:3"])
def test_loses_nothing_when_killed(world, step):
    """Killed at a step of its own table, with mining stopped and the fee then too low: every report is on the chain exactly once."""
    identity = registered(world)
    kill(world)
    world.rpc("evm_setAutomine", False)
    last, kills = 6, []
    world.start_relay("--replace-after", "1", "--fault", step)

    def again():
        if world.relay.poll() is not None:
            assert world.relay.returncode == -signal.SIGKILL
            kills.append(step)
            world.start_relay("--replace-after", "1")

    for nonce in range(2, last + 1):
        def accepted():
            again()
            return world.post("report", world.report(NODE, 1, nonce))[0] in (200, 202)
        wait("acceptance", accepted)
    # nobody mines what is offered: the base fee has risen above it
    for _ in range(3):
        world.rpc("anvil_setNextBlockBaseFeePerGas", hex(60 * 10**9))
        world.rpc("evm_mine")
    assert world.node(identity)["nonce"] == 1

    def arrived():
        again()
        world.rpc("evm_mine")
        return world.node(identity)["nonce"] == last
    wait("reports", arrived, 60)
    wait("an empty journal", lambda: again() or world.rpc("evm_mine") and world.pending() == world.confirming() == 0)
    assert world.used_nonces(1) == list(range(1, last + 1))
    assert len(world.events("Reported(uint64,uint64,uint64,bytes32,bytes32)")) == last - 1
    assert kills == [step]
    # the account has no gap left: the next report arrives as usual
    world.rpc("evm_setAutomine", True)
    assert world.post("report", world.report(NODE, 1, last + 1))[0] == 202
    wait("one more", lambda: world.node(identity)["nonce"] == last + 1)


def finish(world):
    """Two blocks more: what the chain has is final, and the journal has nothing left to remember."""
    wait("the end of what waits", lambda: world.pending() == 0)
    for _ in range(2):
        world.rpc("evm_mine")
    wait("the end of what is confirmed", lambda: world.confirming() == 0)


@pytest.mark.parametrize("killed", [False, True])
def test_a_reorganisation_costs_time_only(world, killed):
    """What the chain had and has no more is sent again, also by a relay that was killed in between."""
    identity = registered(world)
    finish(world)
    before = world.rpc("evm_snapshot")
    for nonce in (2, 3):  # a block each: none of them is final
        assert world.post("report", world.report(NODE, 1, nonce))[0] == 202
    wait("reports", lambda: world.node(identity)["nonce"] == 3)
    wait("the relay's notice", lambda: world.pending() == 0)
    assert world.confirming() == 2
    if killed:
        kill(world)
    assert world.rpc("evm_revert", before) is True
    assert world.node(identity)["nonce"] == 1
    if killed:
        world.start_relay()
    wait("reports again", lambda: world.node(identity)["nonce"] == 3)
    assert world.used_nonces(1) == [1, 2, 3]
    finish(world)
    assert len(world.events("Reported(uint64,uint64,uint64,bytes32,bytes32)")) == 2
    # and what was final is forgotten: a relay that starts anew has nothing to say
    kill(world)
    world.start_relay()
    assert (world.pending(), world.confirming()) == (0, 0)


def test_takes_back_a_registration(world):
    """The registration itself is in the blocks that go, with everything that builds on it."""
    before = world.rpc("evm_snapshot")
    identity = registered(world)
    assert world.post("report", world.report(NODE, 1, 2))[0] == 202
    wait("report", lambda: world.node(identity)["nonce"] == 2 and world.pending() == 0)
    assert world.rpc("evm_revert", before) is True
    assert world.node(identity) == dict(id=0)
    wait("both again", lambda: world.node(identity).get("nonce") == 2)
    assert world.node(identity)["state"] == 2
    finish(world)


def test_a_reorganisation_below_the_final_block_leaves_no_gap(world):
    """Deeper than what the relay remembers: its account goes on, and the node's repetition arrives."""
    identity = registered(world)
    finish(world)
    before = world.rpc("evm_snapshot")
    assert world.post("report", world.report(NODE, 1, 2))[0] == 202
    wait("report", lambda: world.node(identity)["nonce"] == 2)
    finish(world)
    assert world.post("report", world.report(NODE, 1, 3))[0] == 202
    wait("report", lambda: world.node(identity)["nonce"] == 3 and world.pending() == 0)
    assert world.rpc("evm_revert", before) is True

    def again():
        for nonce in (2, 3):
            world.post("report", world.report(NODE, 1, nonce))
        return world.node(identity)["nonce"] == 3
    wait("both reports", again)
    finish(world)


def test_gives_up_what_the_contract_refuses_by_now(world):
    """A token that is revoked before its registration is mined: that transaction is paid for once, not for ever."""
    token = primitives.keccak256(b"a token that is revoked")
    world.create_token(1, token)
    world.start_relay()
    account = world.status()["account"]
    world.rpc("evm_setAutomine", False)
    assert world.post("register", world.registration(NODE, token=token))[0] == 202
    wait("its transaction", lambda: world.rpc("eth_getTransactionCount", account, "pending") == "0x1")
    world.rpc("eth_sendTransaction", {
        "from": world.accounts[0], "to": world.registry, "gas": hex(1000000), "maxFeePerGas": hex(300 * 10**9),
        "maxPriorityFeePerGas": hex(200 * 10**9),
        "data": "0x" + abi.call("revokeToken", ["address"], [bytes.fromhex(world.address_of(token)[2:])]).hex()})
    world.rpc("evm_mine")
    wait("its end", lambda: world.pending() == 0)
    assert world.node(world.address_of(NODE)) == dict(id=0)
    assert b"(join.token-unknown)" in (world.folder / "relay.log").read_bytes()
    assert world.rpc("eth_getTransactionCount", account, "latest") == "0x1"
    world.rpc("evm_setAutomine", True)
    # nothing is in the way of the next
    assert world.post("register", world.registration(NODE, token=world.token))[0] == 202
    wait("registration", lambda: world.node(world.address_of(NODE))["id"] == 1)


def test_survives_a_torn_journal(world):
    identity = registered(world)
    world.rpc("evm_setAutomine", False)
    assert world.post("report", world.report(NODE, 1, 2))[0] == 202
    kill(world)
    journal = world.folder / "relay/journal"
    with journal.open("ab") as file:
        file.write(b'{"op":"received","id":9,"kind":"rep')
    world.start_relay()
    world.rpc("evm_setAutomine", True)
    wait("report", lambda: world.rpc("evm_mine") is not None and world.node(identity)["nonce"] == 2)
    kill(world)
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], b"nonsense", *lines[1:]]))
    world.start_relay()
    assert world.relay.wait(10) == 1  # it does not go on as if nothing had been there


def test_ends_on_sigterm(world):
    world.start_relay()
    kill(world, signal.SIGTERM)
    assert world.relay.returncode == 0


def test_needs_the_right_chain(world):
    world.start_relay("--chain-id", "1")
    assert world.relay.wait(20) == 1
    assert b"chain.wrong-id" in (world.folder / "relay.log").read_bytes()
