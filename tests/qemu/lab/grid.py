"""The world around a node: a development chain with the contracts, a relay, a hub, a farm, and the
keys of farmer and tenant. Everything listens on loopback on free ports and ends with stop()."""
import contextlib
import http.client
import json
import pathlib
import subprocess
import time

from . import cli, hub, paths, ports, process

CHAIN_ID = 31337
GUEST_HOST = "10.0.2.2"  # the host's loopback as QEMU's user network shows it
BLOCK_SECONDS = 1


def chain_tools():
    """The chain's tools from npm, as the lock file pins them."""
    anvil = paths.CHAIN / "node_modules/.bin/anvil"
    if not anvil.exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=paths.CHAIN, check=True,
                       stdout=subprocess.DEVNULL)
    return anvil


class Grid:
    """start() brings up everything; the single steps serve those who want less."""

    def __init__(self, folder, block_seconds=BLOCK_SECONDS, behind=0, relay_options=()):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.block_seconds = block_seconds
        self.behind = behind  # seconds that the chain's clock is behind, so that a test can put it forward to the right time
        self.relay_options = relay_options  # further ones of `croft relay`
        self.processes = []
        self.hub = None
        self.relay = None
        self.farm = None

    # -- start and stop

    def start(self):
        try:
            self.start_chain()
            self.deploy_contracts()
            self.hub = hub.Hub(self.folder / "hub")
            self.create_farm("lab")
            self.start_relay()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        if self.hub:
            self.hub.stop()
            self.hub = None
        for p in reversed(self.processes):
            p.stop()
        self.processes.clear()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def spawn(self, name, command, **options):
        p = process.Process(name, command, self.folder / f"{name}.log", **options)
        self.processes.append(p)
        return p

    # -- chain

    def start_chain(self):
        """anvil with its well-known development keys; a block at every transaction and every
        `block_seconds` besides, as finality is counted in blocks."""
        self.chain_port = ports.free()
        accounts = self.folder / "accounts.json"
        self.anvil = self.spawn("anvil", [
            chain_tools(), "--host", "127.0.0.1", "--port", self.chain_port, "--chain-id", CHAIN_ID,
            "--block-time", self.block_seconds, "--mixed-mining", "--config-out", accounts,
            *(["--timestamp", int(time.time()) - self.behind] if self.behind else [])])
        self.anvil.wait_port(self.chain_port)
        self.chain = f"http://127.0.0.1:{self.chain_port}"
        known = self.wait_written(accounts)
        self.accounts = known["available_accounts"]
        self.keys = []
        for i, key in enumerate(known["private_keys"]):
            file = self.folder / f"key{i}"
            file.touch(mode=0o600)
            file.write_text(key + "\n")
            self.keys.append(file)

    def wait_written(self, path, timeout=60):
        """anvil listens before it has written its accounts."""
        end = time.monotonic() + timeout * paths.SCALE
        while True:
            with contextlib.suppress(OSError, ValueError):
                return json.loads(path.read_text())
            assert self.anvil.popen.poll() is None and time.monotonic() < end, f"{path.name} is not written"
            time.sleep(0.05)

    def deploy_contracts(self):
        out = subprocess.run([paths.CHAIN / "scripts/deploy", "--rpc", self.chain,
                              "--key-file", self.keys[0]], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
        contracts = json.loads(out)
        self.registry, self.reservations = contracts["registry"], contracts["reservations"]

    def rpc(self, method, *params):
        link = http.client.HTTPConnection("127.0.0.1", self.chain_port, timeout=30)
        link.request("POST", "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                              "params": params}),
                     {"Content-Type": "application/json"})
        answer = json.loads(link.getresponse().read())
        link.close()
        if "error" in answer:
            raise process.ProcessError(f"{method}: {answer['error']}")
        return answer["result"]

    def mine(self, blocks=1):
        self.rpc("anvil_mine", hex(blocks))

    def block_number(self):
        return int(self.rpc("eth_blockNumber"), 16)

    # -- people

    def env(self, account):
        return {"CROFT_CHAIN": self.chain, "CROFT_CHAINID": CHAIN_ID,
                "CROFT_REGISTRY": self.registry, "CROFT_KEY_FILE": self.keys[account],
                "XDG_STATE_HOME": self.folder / "home", "XDG_CONFIG_HOME": self.folder / "home"}

    def cli(self, account, cwd=None):
        return cli.Cli(self.env(account), cwd)

    @property
    def farmer(self):
        return self.cli(1)

    def tenant(self, cwd=None):
        return self.cli(2, cwd)

    def create_farm(self, name):
        """A farm that takes every tenant."""
        self.farm = self.farmer.json("farm", "create", name, "--tenants", "any")["farm"]

    def token(self, uses=100):
        return self.farmer.json("farm", "token", self.farm, "--uses", uses)["token"]

    # -- relay

    def start_relay(self):
        self.relay_port = ports.free()
        self.relay = self.spawn("relay", [
            paths.CROFT, "relay", "--farm", self.farm, "--listen", f"127.0.0.1:{self.relay_port}",
            "--state", self.folder / "relay", *self.relay_options], env=self.cli(3).env)
        self.relay.wait_port(self.relay_port)

    # -- nodes

    def params(self, token=None, chain_port=None, **changes):
        """Boot parameters of a node of this grid. changes: croft_trust="…" replaces croft.trust,
        None leaves a parameter out."""
        port = chain_port or self.chain_port
        wanted = {
            "farmer_id": self.farm, "runmode": "dev",
            "croft.chain": f"ws://{GUEST_HOST}:{port},http://{GUEST_HOST}:{port}",
            "croft.chainid": CHAIN_ID, "croft.registry": self.registry, "croft.trust": "rpc",
            "croft.relay": f"http://{GUEST_HOST}:{self.relay_port}" if self.relay else None,
            "croft.join": token, "croft.address": "127.0.0.1",
        }
        wanted.update({k.replace("croft_", "croft."): v for k, v in changes.items()})
        return [f"{k}={v}" for k, v in wanted.items() if v is not None]

    def hub_url(self):
        """The hub's address as a node reaches it."""
        return f"http://{GUEST_HOST}:{self.hub.port}"

    def wait_node(self, machine, timeout=90, since=0):
        """Waits until the machine's node is registered; returns its number."""
        event = machine.wait("registered", timeout, since, service="noded")
        return event["node"]

    def node(self, number):
        return self.farmer.json("node", "show", number, "--chain-only")

    def reservation(self, number):
        return self.tenant().json("reservation", "show", number, "--chain-only")

    def wait_reservation(self, number, state, timeout=60):
        """Waits until the chain has the reservation in that state (by its name, in lower case)."""
        end = time.monotonic() + timeout * paths.SCALE
        while True:
            shown = self.reservation(number)
            if str(shown["state"]).lower() == state:
                return shown
            if time.monotonic() > end:
                raise AssertionError(f"reservation {number} is {shown['state']} "
                                     f"({shown.get('reason')}), not {state}")
            time.sleep(0.2)
