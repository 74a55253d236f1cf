"""noded and provd on a folder instead of a machine: all of a node that needs no kernel of its own."""
import json
import os
import pathlib
import socket

from world import BIN, CHAIN_ID, Storaged, varlink, wait


def listens(path):
    """A socket is there before somebody listens on it."""
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


class Noded:
    def __init__(self, world, pools=("a",), **boot):
        self.world = world
        self.run = world.folder / "run"
        self.pools = self.run / "pools"
        for pool in pools:
            (self.pools / pool / "identity").mkdir(parents=True)
        self.state = world.folder / "state"
        self.state.mkdir()
        self.storaged = Storaged(self.run / "storaged")
        self.socket = self.run / "noded"
        self.token = self.run / "join.token"
        boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        self.boot = {"version": "test", "bootId": boot_id, "farmerId": 1, "runmode": "dev", "chain": [world.url],
                     "chainId": CHAIN_ID, "registry": world.registry, "trust": {"mode": "rpc"},
                     "relay": [f"http://127.0.0.1:{world.relay_port}"], "address": "192.0.2.7", "hub": [], "errors": []}
        self.boot.update(boot)
        self.digest = self.run / "image-digest"
        self.process = None

    def start(self):
        (self.run / "boot.json").write_text(json.dumps(self.boot))
        self.process = self.world.spawn(
            "noded", [BIN / "noded", "--socket", self.socket, "--boot", self.run / "boot.json", "--pools", self.pools,
                      "--state", self.state, "--image-digest", self.digest],
            env=os.environ | {"CROFT_RUN": str(self.run), "CROFT_JOIN_TOKEN_FILE": str(self.token)})
        wait("socket", lambda: listens(self.socket))
        return self

    def give_token(self, token=None):
        self.token.write_text((token or self.world.token).hex() + "\n")
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def status(self):
        return varlink(self.socket, "org.croft.node.GetStatus")["parameters"]

    def state_is(self, state, seconds=20):
        return wait(state, lambda: self.status()["state"] == state and self.status(), seconds)

    def log(self):
        return (self.world.folder / "noded.log").read_text()


class Provd:
    """provd beside a noded that is Active. What it asks storaged, netd, imaged and contd for finds nobody: a specification
    that is believed stops at its first image (step `pull`). chain: URLs that it sees instead of the chain itself."""

    def __init__(self, noded, chain=None, **boot):
        self.noded, self.world = noded, noded.world
        self.socket = noded.run / "provd"
        self.state = self.world.folder / "state-provd"
        self.boot = {**noded.boot, **boot}
        if chain:
            self.boot["chain"] = chain
        self.process = None

    def start(self):
        boot = self.noded.run / "boot-provd.json"
        boot.write_text(json.dumps(self.boot))
        self.process = self.world.spawn("provd", [BIN / "provd", "--socket", self.socket, "--boot", boot, "--state", self.state,
                                                  "--run", self.noded.run])
        wait("socket", lambda: listens(self.socket))
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def status(self):
        return varlink(self.socket, "org.croft.provision.GetStatus")["parameters"]

    def entries(self):
        """Without those that only wait for the sweep, which has no makers to ask here."""
        return {e["reservation"]: e for e in varlink(self.socket, "org.croft.provision.List")["parameters"]["entries"]
                if e["step"] != "ended"}

    def says(self, code, seconds=30):
        """Waits until the status tells that code (None: no error at all)."""
        return wait(code, lambda: self.status().get("code") == code and self.status(), seconds)

    def step(self, reservation, step, seconds=30):
        return wait(f"{step} of {reservation}", lambda: self.entries().get(reservation, {}).get("step") == step
                    and self.entries()[reservation], seconds)

    def log(self):
        return (self.world.folder / "provd.log").read_text()
