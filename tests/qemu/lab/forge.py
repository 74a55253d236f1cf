"""A tenant who writes his proposal himself instead of having `croft deploy` make an honest one: any
specification, sealed with any context, under any commitment. Made with the second implementation of the
formats (tests/vectors), and signed by a development account of the chain."""
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


def propose(node, specification, resources=None, tenant=None, revision=1, committed=None, key=None):
    """Proposes to the node; returns the reservation's number. specification: bytes. tenant, revision:
    for whom it is sealed, when that is not the truth. committed: other bytes than the sealed ones under
    the commitment. key: (epoch, public key) instead of the node's current one."""
    grid = node.grid
    account = grid.rpc("eth_accounts")[2]
    word = record(node)
    epoch, public = key or (int.from_bytes(word[KEY_EPOCH], "big"), word[SEALING_KEY])
    salt = secrets.token_bytes(32)
    info = b"croft-reservation-v1" + abi.encode(BOUND, [
        int(grid.rpc("eth_chainId"), 16), _address(grid.reservations), _address(tenant or account),
        node.number, epoch, revision])
    sealed = primitives.hpke_seal(public, secrets.token_bytes(32), info, b"",
                                  salt + specification)
    content = primitives.keccak256(salt + (committed or specification))
    until = int(grid.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 3600
    call = abi.call("propose", [PROPOSAL], [[
        node.number, epoch, 1, resources or packed(), content, sealed, bytes(32), bytes(32), [],
        until, until, 0, False]])
    done = grid.rpc("eth_sendTransaction", {"from": account, "to": grid.reservations,
                                            "data": "0x" + call.hex()})
    end = time.monotonic() + 60
    while not (receipt := grid.rpc("eth_getTransactionReceipt", done)):
        assert time.monotonic() < end, "the proposal is not mined"
        time.sleep(0.1)
    assert receipt["status"] == "0x1", receipt
    proposed = "0x" + abi.topic("Proposed", PROPOSED).hex()
    return next(int(log["topics"][2], 16) for log in receipt["logs"] if log["topics"][0] == proposed)
