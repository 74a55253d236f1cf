"""croft-relay: what it refuses, and that it loses nothing, whenever it is killed."""
import signal

import pytest

import primitives
from world import wait

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
    statuses = [world.post("report", world.report(NODE, 1, 5))[0] for _ in range(70)]
    assert statuses.count(429) > 0 and statuses[0] == 422
    assert world.post("register", world.registration(OTHER, token=world.token))[0] == 202  # others do not suffer


@pytest.mark.parametrize("step", ["received", "received:3", "signed", "signed:2", "sent", "sent:4", "replaced", "mined", "mined:2"])
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
    wait("an empty journal", lambda: again() or world.pending() == 0)
    assert world.used_nonces(1) == list(range(1, last + 1))
    assert len(world.events("Reported(uint64,uint64,uint64,bytes32,bytes32)")) == last - 1
    assert kills == [step]
    # the account has no gap left: the next report arrives as usual
    world.rpc("evm_setAutomine", True)
    assert world.post("report", world.report(NODE, 1, last + 1))[0] == 202
    wait("one more", lambda: world.node(identity)["nonce"] == last + 1)


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
