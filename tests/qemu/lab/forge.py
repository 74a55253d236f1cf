"""A tenant who writes his proposal himself instead of having `croft deploy` make an honest one: any
specification, sealed with any context, under any commitment. Made with the second implementation of the
formats (tests/vectors), and signed by a development account of the chain."""
import hashlib
import pathlib
import secrets
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "vectors"))
import abi  # noqa: E402
import primitives  # noqa: E402

PROPOSAL = ["uint64", "uint32", "uint32", "bytes32", "bytes32", "bytes", "bytes32", "bytes32",
            ("array", "string"), "uint64", "uint64", "uint32", "bool"]
PROPOSED = ["uint64", "uint64", "address", "uint32", "uint32", "bytes32", "bytes32", "bytes32", "bytes32",
            "uint64", "uint64", "uint32", "bool", "bytes", ("array", "string")]
BOUND = ["uint256", "address", "address", "uint64", "uint32", "uint32"]
# Words of the registry's answer to node(uint64), after the offset of the tuple.
KEY_EPOCH, SEALING_KEY = 8, 12


def packed(milli_cores=500, memory=256 << 20, ssd=0, hdd=0, addresses=0):
    """Resources as the contract takes them (docs/formats.md)."""
    return b"".join(v.to_bytes(size, "big") for v, size in
                    ((milli_cores, 4), (memory, 8), (ssd, 8), (hdd, 8), (addresses, 4)))


def _address(text):
    return bytes.fromhex(text[2:])


def record(node):
    """The words of the registry's record of the node."""
    grid = node.grid
    words = bytes.fromhex(grid.rpc("eth_call", {
        "to": grid.registry, "data": "0x" + abi.call("node", ["uint64"], [node.number]).hex()}, "latest")[2:])
    return [words[at:at + 32] for at in range(32, len(words), 32)]


class Sealed:
    """What a proposal carries: its content hash and its sealed bytes."""

    def __init__(self, content, data):
        self.content, self.data = content, data


def account_of(node, number=2):
    return node.grid.rpc("eth_accounts")[number]


def keys_of(node):
    """(epoch, public sealing key) that the registry shows now."""
    word = record(node)
    return int.from_bytes(word[KEY_EPOCH], "big"), word[SEALING_KEY]


def seal(node, specification, tenant=None, revision=1, committed=None, for_node=None, for_epoch=None, chain_id=None,
         contract=None, key=None):
    """Seals with the node's key, or with `key`, an epoch and its public key. Everything after the specification is what it
    is sealed for when that is not the truth; committed: other bytes than the sealed ones under the content hash."""
    grid = node.grid
    epoch, public = key or keys_of(node)
    salt = secrets.token_bytes(32)
    info = b"croft-reservation-v1" + abi.encode(BOUND, [
        chain_id or int(grid.rpc("eth_chainId"), 16), _address(contract or grid.reservations),
        _address(tenant or account_of(node)), for_node or node.number, for_epoch or epoch, revision])
    sealed = primitives.hpke_seal(public, secrets.token_bytes(32), info, b"", salt + specification)
    return Sealed(primitives.keccak256(salt + (committed or specification)), sealed)


def _call(node, sealed, resources, epoch, hubs, blob, seconds):
    kept, keccak = sealed.data, bytes(32)
    if hubs:
        keccak = primitives.keccak256(sealed.data)
        blob = blob or hashlib.sha256(sealed.data).digest()
        kept = b""
    until = int(node.grid.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + seconds
    return abi.call("propose", [PROPOSAL], [[
        node.number, epoch or keys_of(node)[0], 1, resources or packed(), sealed.content, kept, keccak, blob or bytes(32),
        [h.encode() for h in hubs], until, until, 0, False]])


def propose_sealed(node, sealed, resources=None, epoch=None, sender=2, hubs=(), blob=None, seconds=3600, check=True):
    """Proposes what was sealed; returns the reservation's number. hubs: the bytes are not sent along, but lie there, under
    the SHA-256 of them or `blob`. check False: the receipt, whatever it says."""
    grid = node.grid
    call = _call(node, sealed, resources, epoch, hubs, blob, seconds)
    sent = {"from": account_of(node, sender), "to": grid.reservations, "data": "0x" + call.hex(), "gas": hex(3000000)}
    if check:
        grid.rpc("eth_call", sent, "latest")  # what the contract refuses is an error with its reason
    done = grid.rpc("eth_sendTransaction", sent)
    end = time.monotonic() + 60
    while not (receipt := grid.rpc("eth_getTransactionReceipt", done)):
        assert time.monotonic() < end, "the proposal is not mined"
        time.sleep(0.1)
    if not check:
        return receipt
    assert receipt["status"] == "0x1", receipt
    proposed = "0x" + abi.topic("Proposed", PROPOSED).hex()
    return next(int(log["topics"][2], 16) for log in receipt["logs"] if log["topics"][0] == proposed)


def refusal(node, sealed, resources=None, epoch=None, sender=2, hubs=(), blob=None, seconds=3600):
    """The code with which the contract refuses the proposal; None: it does not."""
    grid = node.grid
    call = _call(node, sealed, resources, epoch, hubs, blob, seconds)
    try:
        grid.rpc("eth_call", {"from": account_of(node, sender), "to": grid.reservations, "data": "0x" + call.hex()}, "latest")
        return None
    except AssertionError as e:
        word = str(e).split("'data': '0xdd61b58c", 1)[1][:64]  # Refused(bytes32)
        return bytes.fromhex(word).rstrip(b"\0").decode()


def propose(node, specification, resources=None, **forged):
    """Proposes to the node; returns the reservation's number. specification: bytes; forged: as of seal()."""
    epoch = forged["key"][0] if forged.get("key") else None
    return propose_sealed(node, seal(node, specification, **forged), resources, epoch)
