"""What noded and the relay keep on a disk, read and written by another implementation (docs/formats.md)."""
import hashlib
import json

import primitives
from test_noded import Noded
from world import CHAIN_ID, wait

SECONDS = 12


def derived(seed, label, order):
    return int.from_bytes(primitives.hkdf(seed, label, 48), "big") % (order - 1) + 1


def read_identity(folder):
    """Address, seed and private sealing keys by epoch; a key lies in two shares, or (older) as it is."""
    text = json.loads((folder / "identity.json").read_text())
    assert text["version"] == 1 and text["protection"] == "none"
    seed, keys = bytes.fromhex(text["seed"]), {}
    assert primitives.address(derived(seed, b"croft-identity-secp256k1-v1", primitives.SECP256K1.n)).hex() == text["address"][2:].lower()
    for key in text["keys"]:
        if "private" in key:
            private = bytes.fromhex(key["private"])
        else:
            other = (folder / f"epoch-{key['epoch']}.share").read_bytes()[:32]
            private = bytes(a ^ b for a, b in zip(bytes.fromhex(key["share"]), other, strict=True))
            assert primitives.x25519(private).hex() == key["public"]
        keys[key["epoch"]] = private
    assert list(keys) == sorted(keys) and keys
    return text["address"].lower(), seed, keys


def node_record(world, number):
    """Sealing key and hash of the TLS key, as the registry has them (word 13 and 15 of what node() answers)."""
    raw = world.view("node", ["uint64"], [number])
    return [raw[32 + 32 * i:64 + 32 * i] for i in range(18)]


def test_an_identity_is_read_by_another_and_read_from_another(world):
    world.start_relay()
    noded = Noded(world).give_token()
    seed, private = primitives.keccak256(b"seed of the test"), primitives.keccak256(b"sealing key of the test")
    address = "0x" + primitives.address(derived(seed, b"croft-identity-secp256k1-v1", primitives.SECP256K1.n)).hex()
    folder = noded.pools / "a/identity"
    (folder / "identity.json").write_text(json.dumps(
        {"version": 1, "protection": "none", "address": address, "generation": 1, "seed": seed.hex(),
         "keys": [{"epoch": 1, "created": 1_900_000_000, "private": private.hex()}]}))
    (folder / "identity.json").chmod(0o600)
    noded.start()
    assert noded.state_is("active")["identity"].lower() == address
    registered = node_record(world, world.node(address)["id"])
    assert primitives.x25519(private) in registered
    public = primitives.P256.public(derived(seed, b"croft-tls-p256-v1", primitives.P256.n))
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + public
    assert hashlib.sha256(spki).digest() in registered
    # As noded writes it: the same, and one that noded makes itself.
    assert read_identity(folder) == (address, seed, {1: private})
    noded.kill()
    for file in folder.iterdir():
        file.unlink()
    (noded.state / "queue.json").unlink(missing_ok=True)
    noded.start()
    made = wait("another identity", lambda: noded.status().get("identity", "").lower() not in ("", address) and noded.status()["identity"].lower())
    found, _, keys = read_identity(folder)
    assert found == made and list(keys) == [1]
    noded.state_is("active")
    assert primitives.x25519(keys[1]) in node_record(world, world.node(made)["id"])


def test_the_relays_journal_says_what_the_chain_has(world):
    world.start_relay()
    key = primitives.keccak256(b"node of the test")
    assert world.post("register", world.registration(key, token=world.token))[0] == 202
    number = wait("registration", lambda: world.node(world.address_of(key))["id"])
    body = world.report(key, number, 2)
    assert world.post("report", body)[0] == 202
    wait("report", lambda: world.node(world.address_of(key))["nonce"] == 2)
    lines = [json.loads(line) for line in (world.folder / "relay/journal").read_text().splitlines()]
    assert lines[0] == {"op": "open", "chainId": CHAIN_ID, "registry": world.registry.lower(), "account": lines[0]["account"]}
    received = {line["id"]: line for line in lines if line["op"] == "received"}
    assert [line["kind"] for line in received.values()] == ["register", "report"]
    assert list(received.values())[1]["body"] == body
    signed = [line for line in lines if line["op"] == "signed"]
    assert {line["id"] for line in signed} == set(received)
    for line in signed:  # the very transactions that the chain has
        hashed = "0x" + primitives.keccak256(bytes.fromhex(line["raw"][2:])).hex()
        known = world.rpc("eth_getTransactionByHash", hashed)
        assert int(known["nonce"], 16) == line["accountNonce"] and known["from"] == lines[0]["account"]
        assert int(known["maxFeePerGas"], 16) == line["maxFee"] and int(known["maxPriorityFeePerGas"], 16) == line["tip"]
    assert all(line["op"] in ("open", "received", "signed", "done") for line in lines)
