"""Join tokens that let nobody in: used up, expired, revoked, of another farm, made up, and signatures seen in somebody else's
transaction. Said by the contract, at the relay, and by a real noded on its console and in its API."""
import pytest

import primitives
from nodes import Noded
from world import wait

SEEN = primitives.keccak256(b"a node that joined")
NEW = primitives.keccak256(b"a node that saw it")
STRANGER = primitives.keccak256(b"nobody's token")
OTHER_FARM = primitives.keccak256(b"a token of farm 2")


def key_of(world):
    return bytes.fromhex(world.address_of(world.token)[2:])


def use_up(world):
    world.create_token(uses=1, token=world.token)
    assert world.post("register", world.registration(SEEN, token=world.token))[0] == 202
    wait("the other node", lambda: world.node(world.address_of(SEEN)).get("state") == 2)
    return world.token


def expire(world):
    now = int(world.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    world.create_token(token=world.token, expires=now + 3600)
    world.rpc("evm_increaseTime", hex(3601))
    world.rpc("evm_mine")
    return world.token


def revoke(world):
    world.create_token(token=world.token)
    world.transact("revokeToken", ["address"], [key_of(world)])
    return world.token


def of_another_farm(world):
    world.create_farm("another")
    world.create_token(token=OTHER_FARM, farm=2)
    return OTHER_FARM


TOKENS = {"used up": (use_up, "join.token-used"), "expired": (expire, "join.token-expired"),
          "revoked": (revoke, "join.token-unknown"), "of another farm": (of_another_farm, "join.token-unknown"),
          "made up": (lambda world: STRANGER, "join.token-unknown")}


@pytest.fixture
def world(bare_world):
    bare_world.create_farm()
    bare_world.start_relay()
    return bare_world


@pytest.mark.parametrize("what", TOKENS)
def test_a_token_that_does_not_let_in(world, what):
    prepare, code = TOKENS[what]
    token = prepare(world)
    registered = len(world.events("NodeRegistered(uint64,uint64,address)"))
    # At the relay, which asks the contract before it pays.
    status, answer = world.post("register", world.registration(NEW, token=token))
    assert (status, answer["code"]) == (422, code) and answer["message"]
    # The node itself: it says why, registers nothing, and says it once.
    noded = Noded(world).give_token(token).start()
    wait(code, lambda: f"({code})" in noded.log())
    status = noded.status()
    assert status["state"] == "unregistered" and status["code"] == code and status["detail"], status
    assert len(world.events("NodeRegistered(uint64,uint64,address)")) == registered
    assert token.hex() not in noded.log()
    wait("an empty journal", lambda: world.pending() == 0)
    # A right one, and the same machine joins.
    good = primitives.keccak256(b"the right one")
    world.create_token(token=good)
    noded.kill()
    noded.give_token(good).start()
    assert "code" not in noded.state_is("active")


def test_a_signature_that_was_seen_lets_nobody_else_in(world):
    """Everybody reads it in the transaction: it names the node, the farm, the chain and the registry."""
    world.create_token(token=world.token)
    joined = world.registration(SEEN, token=world.token)
    assert world.post("register", joined)[0] == 202
    wait("the node", lambda: world.node(world.address_of(SEEN)).get("state") == 2)
    # Under another node's registration.
    stolen = world.registration(NEW) | {"join": joined["join"]}
    assert world.post("register", stolen)[1]["code"] == "join.token-unknown"
    # For a node that waits: as its own join.
    assert world.post("register", world.registration(NEW))[0] == 202
    wait("the other", lambda: world.node(world.address_of(NEW)).get("state") == 1)
    join = world.join(world.token, 2, world.address_of(SEEN))
    join["message"]["node"] = world.address_of(NEW)
    assert world.post("join", join)[1]["code"] == "join.token-unknown"
    seen = {"message": {"farm": 1, "node": world.address_of(NEW)}, "signature": joined["join"], "number": 2}
    assert world.post("join", seen)[1]["code"] == "join.token-unknown"
    # The very same registration once more changes nothing and costs no use.
    before = world.view("token", ["address"], [key_of(world)])
    assert world.post("register", joined) == (200, {"state": "done"})
    assert world.view("token", ["address"], [key_of(world)]) == before
    assert world.node(world.address_of(NEW))["state"] == 1
    # A retired node is not brought back by what it said once.
    world.transact("retire", ["uint64"], [1])
    world.post("register", joined)
    assert world.node(world.address_of(SEEN))["state"] == 3


@pytest.mark.parametrize("changed", ["chain id", "registry"])
def test_another_chains_registration_is_not_taken(world, monkeypatch, changed):
    """The same words, signed for another chain id or another registry."""
    world.create_token(token=world.token)
    with monkeypatch.context() as elsewhere:
        if changed == "chain id":
            elsewhere.setattr("world.CHAIN_ID", 1)
        else:
            elsewhere.setattr(world, "registry", "0x" + "77" * 20)
        body = world.registration(NEW, token=world.token)
    assert world.post("register", body)[1]["code"] == "node.bad-signature"
    assert world.events("NodeRegistered(uint64,uint64,address)") == []
    assert world.post("register", world.registration(NEW, token=world.token))[0] == 202
