"""A development chain with the contracts, and nodes that are only keys: what the tests of relay and noded stand on."""
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHAIN = ROOT / "chain"
BIN = ROOT / "build/bin"
sys.path.insert(0, str(ROOT / "tests/vectors"))
import abi  # noqa: E402
import primitives  # noqa: E402

CHAIN_ID = 31337
FACTOR = float(os.environ.get("TEST_TIME_FACTOR", "1"))
TYPES = {
    "register": ("Registration", [("uint64", "farm"), ("address", "identity"), ("uint64", "nonce"),
                                  ("bytes32", "bootId"), ("string[]", "addresses"), ("bytes32", "tlsKeyHash"),
                                  ("bytes32", "sealingKey"), ("uint32", "keyEpoch"), ("uint8", "runMode"),
                                  ("bytes32", "imageDigest"), ("bytes32", "capacity"), ("bool", "ephemeral")]),
    "report": ("Report", [("uint64", "node"), ("uint64", "nonce"), ("bytes32", "bootId"), ("uint64", "uptime"),
                          ("bytes32", "capacity"), ("bytes32", "version")]),
    "join": ("Join", [("uint64", "farm"), ("address", "node")]),
}
BOOT_ID = "0x" + "11" * 16 + "00" * 16
CAPACITY = "0x" + (4000).to_bytes(4, "big").hex() + (1 << 32).to_bytes(8, "big").hex() + (1 << 34).to_bytes(8, "big").hex() \
    + "00" * 12


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(what, condition, seconds=30):
    deadline = time.monotonic() + seconds * FACTOR
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)


def word(value):
    if isinstance(value, bool):
        return int(value).to_bytes(32, "big")
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    if isinstance(value, list):
        return primitives.keccak256(b"".join(primitives.keccak256(v.encode()) for v in value))
    raw = bytes.fromhex(value[2:])
    return raw.rjust(32, b"\0")


def struct_hash(type_string, values):
    return primitives.keccak256(primitives.keccak256(type_string.encode()) + b"".join(word(v) for v in values))


def digest(contract, type_string, values):
    domain = primitives.keccak256(
        primitives.keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        + primitives.keccak256(b"Croft") + primitives.keccak256(b"1") + word(CHAIN_ID) + word(contract))
    return primitives.keccak256(b"\x19\x01" + domain + struct_hash(type_string, values))


def sign(private, hashed):
    signature = primitives.sign(int.from_bytes(private, "big"), hashed)
    return "0x" + (signature if isinstance(signature, bytes) else b"".join(signature)).hex()


class World:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.spawn("anvil", [CHAIN / "node_modules/.bin/anvil", "--port", self.port, "--chain-id", CHAIN_ID])
        wait("chain", lambda: self.alive(self.port))
        self.accounts = self.rpc("eth_accounts")
        key = self.folder / "key0"
        key.touch(mode=0o600)
        key.write_text("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n")
        self.relay_key = self.folder / "key1"
        self.relay_key.touch(mode=0o600)
        self.relay_key.write_text("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d\n")
        out = subprocess.run([CHAIN / "scripts/deploy", "--rpc", self.url, "--key-file", key], check=True,
                             stdout=subprocess.PIPE, text=True, timeout=120).stdout
        self.contracts = json.loads(out)
        self.registry = self.contracts["registry"]
        self.token = primitives.keccak256(b"token of the test")
        self.relay_port = free_port()
        self.relay = None

    def spawn(self, name, command, **options):
        log = open(self.folder / f"{name}.log", "ab")
        p = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, **options)
        log.close()
        self.processes.append(p)
        return p

    def stop(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.kill()
            p.wait()

    @staticmethod
    def alive(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    # -- chain

    def rpc(self, method, *params):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        link.request("POST", "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}),
                     {"Content-Type": "application/json"})
        answer = json.loads(link.getresponse().read())
        link.close()
        assert "error" not in answer, answer
        return answer["result"]

    def transact(self, function, kinds, values):
        data = abi.call(function, kinds, values)
        hashed = self.rpc("eth_sendTransaction", {"from": self.accounts[0], "to": self.registry,
                                                  "data": "0x" + data.hex(), "gas": hex(1000000)})
        receipt = wait("receipt", lambda: self.rpc("eth_getTransactionReceipt", hashed))
        assert receipt["status"] == "0x1", receipt

    def view(self, function, kinds, values):
        data = abi.call(function, kinds, values)
        return bytes.fromhex(self.rpc("eth_call", {"to": self.registry, "data": "0x" + data.hex()}, "latest")[2:])

    def create_farm(self, name="farm"):
        self.transact("createFarm", ["string"], [name.encode()])

    def create_token(self, uses=100, token=None, farm=1, expires=9999999999):
        self.transact("createToken", ["uint64", "address", "uint64", "uint32"],
                      [farm, bytes.fromhex(self.address_of(token or self.token)[2:]), expires, uses])

    @staticmethod
    def address_of(private):
        made = primitives.address(int.from_bytes(private, "big"))
        return "0x" + made.hex() if isinstance(made, bytes) else made

    def node(self, identity):
        """(id, farm, state, nonce, boot id, capacity) of an identity; id 0: not registered."""
        number = int.from_bytes(self.view("nodeByIdentity", ["address"], [bytes.fromhex(identity[2:])]), "big")
        if number == 0:
            return dict(id=0)
        raw = self.view("node", ["uint64"], [number])
        field = [raw[32 + 32 * i:64 + 32 * i] for i in range(18)]
        return dict(id=number, farm=int.from_bytes(field[1], "big"), state=int.from_bytes(field[2], "big"),
                    nonce=int.from_bytes(field[5], "big"), boot_id="0x" + field[9].hex(), capacity="0x" + field[10].hex(),
                    image_digest="0x" + field[15].hex())

    def events(self, signature):
        topic = "0x" + primitives.keccak256(signature.encode()).hex()
        return self.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "topics": [topic]})

    def used_nonces(self, node):
        return [int(log["data"][2:66], 16) for log in self.events("NonceUsed(uint64,uint64,bytes32)")
                if int(log["topics"][1], 16) == node]

    # -- messages

    def message(self, kind, private, **values):
        name, members = TYPES[kind]
        full = {member: values[member] for _, member in members}
        type_string = f"{name}({','.join(f'{t} {m}' for t, m in members)})"
        hashed = digest(self.registry, type_string, list(full.values()))
        return {"message": full, "signature": sign(private, hashed)}

    def registration(self, private, farm=1, token=None, **changes):
        identity = self.address_of(private)
        values = dict(farm=farm, identity=identity, nonce=1, bootId=BOOT_ID, addresses=["192.0.2.1"],
                      tlsKeyHash="0x" + "22" * 32, sealingKey="0x" + "33" * 32, keyEpoch=1, runMode=2,
                      imageDigest="0x" + "00" * 32, capacity=CAPACITY, ephemeral=False)
        values.update(changes)
        body = self.message("register", private, **values)
        if token:
            body["join"] = sign(token, digest(self.registry, "Join(uint64 farm,address node)", [farm, identity]))
        return body

    def report(self, private, node, nonce, **changes):
        values = dict(node=node, nonce=nonce, bootId=BOOT_ID, uptime=nonce * 10, capacity=CAPACITY,
                      version="0x" + b"test".hex().ljust(64, "0"))
        values.update(changes)
        return self.message("report", private, **values)

    def join(self, token, number, identity, farm=1):
        return self.message("join", token, farm=farm, node=identity) | {"number": number}

    # -- relay

    def start_relay(self, *options):
        self.relay = self.spawn("relay", [BIN / "croft-relay", "--farm", 1, "--listen", f"127.0.0.1:{self.relay_port}",
                                          "--state", self.folder / "relay", "--chain", self.url, "--chain-id", CHAIN_ID,
                                          "--registry", self.registry, "--key-file", self.relay_key, *options])
        wait("relay", lambda: self.alive(self.relay_port) or self.relay.poll() is not None)

    def post(self, kind, body):
        """(status, answer); (0, None) when the relay died over it."""
        link = http.client.HTTPConnection("127.0.0.1", self.relay_port, timeout=20)
        try:
            text = body if isinstance(body, (bytes, str)) else json.dumps(body)
            link.request("POST", f"/v1/{kind}", text, {"Content-Type": "application/json"})
            response = link.getresponse()
            return response.status, json.loads(response.read() or "null")
        except (ConnectionError, http.client.HTTPException):
            return 0, None
        finally:
            link.close()

    def pending(self):
        """Messages that are not on the chain yet; None: the relay does not answer."""
        return (self.status() or {}).get("pending")

    def confirming(self):
        """Messages that are on the chain, but in no block that is final."""
        return (self.status() or {}).get("confirming")

    def status(self):
        link = http.client.HTTPConnection("127.0.0.1", self.relay_port, timeout=20)
        try:
            link.request("GET", "/v1/status")
            return json.loads(link.getresponse().read())
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            link.close()


class Storaged:
    """Answers org.croft.storage.GetStatus, which is all that noded asks."""

    def __init__(self, path, ssd=10 << 30, hdd=10 << 30):
        self.ssd, self.hdd = ssd, hdd
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(8)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        held = b""
        while data := peer.recv(65536):
            held += data
            while b"\0" in held:
                _, held = held.split(b"\0", 1)
                peer.sendall(json.dumps({"parameters": {"ssd": self.ssd, "hdd": self.hdd, "ephemeral": False, "disks": [],
                                                        "pools": []}}).encode() + b"\0")


def varlink(path, method, **parameters):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(str(path))
        s.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
        held = b""
        while not held.endswith(b"\0"):
            data = s.recv(65536)
            assert data, "the daemon closed the connection"
            held += data
    return json.loads(held[:-1])


def build_tools():
    if not (CHAIN / "node_modules/.bin/anvil").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=CHAIN, check=True, stdout=subprocess.DEVNULL)
    assert shutil.which("node")
