"""A whole node without a machine: chain, relay, noded, provd behind a lying proxy, a hub, and a tenant who forges."""
import contextlib
import ctypes
import json
import types

from lab import cli, forge, hub as lab_hub, proxy

import abi
from nodes import Noded, Provd
from world import CHAIN_ID, World, wait

PROPOSED = "0x" + abi.topic("Proposed", forge.PROPOSED).hex()
CHANGED = "0x" + abi.topic("Changed", ["uint64", "uint64", "uint32", "uint8", "uint64", "uint64", "bytes32", "bytes32", "address",
                                       "uint64"]).hex()
# Little, so that many fit at once.
RIGHT = forge.packed(milli_cores=20, memory=16 << 20, hdd=1 << 20)
IMAGE = "ab" * 32
# anvil's well-known development keys.
KEYS = ["ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"]
STATES = {1: "proposed", 2: "approved", 3: "funded", 4: "deploying", 5: "active", 8: "closed", 9: "rejected", 10: "expired", 11: "failed"}


def clock_is_kept():
    """Whether a time server keeps this machine's clock, as the kernel knows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.adjtimex(ctypes.create_string_buffer(512)) != 5


def specification(**changes):
    """A specification that is right for RIGHT in all but the changes."""
    whole = {"version": 1, "project": "forged", "images": {IMAGE: {"hubs": ["http://127.0.0.1:9"]}},
             "networks": {"default": {"internal": False}},
             "services": {"web": {"image": IMAGE, "resources": {"milliCores": 20, "memory": 16 << 20, "pids": 64},
                                  "scratch": 1 << 20}},
             "resources": {"milliCores": 20, "memory": 16 << 20, "ssd": 0, "hdd": 1 << 20, "addresses": 0}}
    return json.dumps({**whole, **changes}, sort_keys=True, separators=(",", ":")).encode()


@contextlib.contextmanager
def ended(world):
    try:
        yield world
    finally:
        world.stop()


class Scene:
    """.world, .noded (Active), .provd behind .proxy, .hub. forge.py sees us as a node: .grid, .number."""

    def __init__(self, folder):
        self.world = World(folder)
        self.world.mine = lambda blocks=1: self.world.rpc("anvil_mine", hex(blocks))
        self.world.reservations = self.world.contracts["reservations"]
        self.grid = types.SimpleNamespace(rpc=self.world.rpc, registry=self.world.registry, reservations=self.world.reservations)
        self.proxy = self.hub = None
        try:
            self.world.create_farm()
            self.world.create_token()
            self.cli(0).run("farm", "policy", 1, "--tenants", "any")
            self.world.start_relay()
            self.noded = Noded(self.world).give_token().start()
            self.noded.state_is("active")
            self.number = self.noded.status()["node"]
            self.proxy = proxy.Proxy(self.world.port)
            self.hub = lab_hub.Hub(self.world.folder / "hub")
            self.provd = Provd(self.noded, [f"ws://127.0.0.1:{self.proxy.port}", f"http://127.0.0.1:{self.proxy.port}"]).start()
            wait("a proved list", lambda: self.provd.status()["state"] == "running")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.world.stop()
        if self.proxy:
            self.proxy.stop()
        if self.hub:
            self.hub.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def cli(self, account, cwd=None):
        """`croft` with the key of a development account: 0 is the farmer, 2 the tenant of forge.py."""
        key = self.world.folder / f"key-of-{account}"
        key.touch(mode=0o600)
        key.write_text(KEYS[account] + "\n")
        return cli.Cli({"CROFT_CHAIN": self.world.url, "CROFT_CHAINID": CHAIN_ID, "CROFT_REGISTRY": self.world.registry,
                        "XDG_CONFIG_HOME": self.world.folder, "XDG_STATE_HOME": self.world.folder, "CROFT_KEY_FILE": key}, cwd)

    def propose(self, text=None, resources=RIGHT, **forged):
        return forge.propose(self, text or specification(), resources, **forged)

    def cancel(self, number, account=2):
        done = self.world.rpc("eth_sendTransaction", {
            "from": self.world.accounts[account], "to": self.world.reservations, "gas": hex(1000000),
            "data": "0x" + abi.call("cancel", ["uint64"], [number]).hex()})
        receipt = wait("receipt", lambda: self.world.rpc("eth_getTransactionReceipt", done))
        assert receipt["status"] == "0x1", receipt

    def changes(self, number):
        """[(state, reason)] of a reservation, in order."""
        logs = self.world.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.world.reservations,
                                              "topics": [CHANGED, None, f"0x{number:064x}"]})
        words = [[log["data"][2 + 64 * i:66 + 64 * i] for i in range(8)] for log in logs]
        return [(STATES[int(w[1], 16)], bytes.fromhex(w[4]).rstrip(b"\0").decode()) for w in words]
