"""Half an hour of kvd at full load, with kills: what was acknowledged is there, memory is flat, no descriptor is left behind.

Three servers: one that is killed again and again (`always`), a replica that follows it over TLS through all of that, and one that lives from the
beginning to the end under everything that clients do. `make soak` runs it; MINUTES=n is its length. The result is a page for docs/soak.md.
"""
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/kv"))
from kvlab import Client, Error, Kvd  # noqa: E402

MINUTES = float(os.environ.get("MINUTES", "30"))
WARM = 0.2  # of the time: until caches are as full as they get
BATCH = 32
KEYS = 1500  # of each client
SEGMENT = 8 << 20
# What may come on top: the allocator's own unrest, measured over runs of a server that does the same for ever.
GROWTH = 1.10
GROWTH_BYTES = 8 << 20


class Wrong(Exception):
    """What must not be."""


def value_of(rng):
    size = rng.choice((10, 100, 100, 1000, 4000, 20000)) if rng.random() < 0.995 else 1 << 20
    return rng.randbytes(16) * (size // 16 + 1)


class Writer(threading.Thread):
    """Owns some keys, and knows what each must be: what was acknowledged last, or what is on its way."""

    def __init__(self, soak, server, name, password, kills):
        super().__init__(name=name, daemon=True)
        self.soak, self.server, self.password, self.kills = soak, server, password, kills
        self.rng = random.Random(name)
        self.known = {}  # key: the values that it may have
        self.batches = self.reads = 0

    def connect(self):
        c = Client(("127.0.0.1", self.server.port), timeout=60)
        if self.password:
            c("AUTH", self.password)
        return c

    def check(self, key, got):
        may = self.known.get(key, [None])
        if got not in may:
            raise Wrong(f"{self.name}: {key} is {len(got) if got is not None else 'nothing'}, none of {len(may)} values")
        self.known[key] = [got]
        self.reads += 1

    def check_all(self, c):
        keys = list(self.known)
        for i in range(0, len(keys), BATCH):
            part = keys[i:i + BATCH]
            c.socket.sendall(b"".join(c.pack("GET", k) for k in part))
            for k in part:
                self.check(k, c.answer())

    def turn(self, c):
        writes = []
        for key in sorted({f"{self.name}:{self.rng.randrange(KEYS)}" for _ in range(BATCH)}):
            value = None if self.rng.random() < 0.1 and None not in self.known.get(key, [None]) else value_of(self.rng)
            writes.append((key, value))
        for key, value in writes:
            self.known.setdefault(key, [None]).append(value)
        c.socket.sendall(b"".join(c.pack("DEL", k) if v is None else c.pack("SET", k, v) for k, v in writes))
        for key, value in writes:
            c.answer()
            self.known[key] = [value]
        key = self.rng.choice(list(self.known))
        self.check(key, c("GET", key))
        self.batches += 1

    def run(self):
        c = None
        while not self.soak.over.is_set():
            try:
                if c is None:
                    c = self.connect()
                    self.check_all(c)
                self.turn(c)
                if self.rng.random() < 0.01:
                    c.close()
                    c = None
            except (ConnectionError, OSError) as e:
                if not self.kills:
                    self.soak.wrong(f"{self.name}: {e}")
                    return
                c = None
                time.sleep(0.1)
            except (Wrong, Error, AssertionError) as e:
                self.soak.wrong(f"{self.name}: {e}")
                return
        if c is not None:
            c.close()


class Visitor(threading.Thread):
    """Everything else that clients do, on the server that lives: namespaces, walks, hostile ends, many connections."""

    def __init__(self, soak, server):
        super().__init__(name="visitor", daemon=True)
        self.soak, self.server, self.rounds = soak, server, 0

    def round(self, rng):
        name = f"visit-{rng.randrange(20)}"
        c = Client(("127.0.0.1", self.server.port), timeout=60)
        c("NSNEW", name)
        c("SELECT", name)
        if rng.random() < 0.3:
            c("NSSET", name, "mode", "seq")
            for _ in range(50):
                c("SET", "", "x" * rng.randrange(500))
        else:
            for i in range(50):
                c("SET", f"k{i}", "x" * rng.randrange(500))
            c("KSCAN", "k1")
            c("HISTORY", "k1")
        c("SCAN")
        c("RSCAN")
        c("NSINFO", name)
        if rng.random() < 0.5:
            c("RELOAD", name)
        c("SELECT", "default")
        c("NSDEL", name)
        many = [Client(("127.0.0.1", self.server.port)) for _ in range(30)]
        for m in many[:10]:
            m.socket.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1000000\r\nhalf")  # and away
        for m in many[10:20]:
            m.socket.sendall(m.pack("GET", "writer-0:1") * 50)  # never read
        for m in many:
            m.close()
        c.close()

    def run(self):
        rng = random.Random(1)
        while not self.soak.over.is_set():
            try:
                self.round(rng)
                self.rounds += 1
            except (OSError, Error, AssertionError) as e:
                self.soak.wrong(f"visitor: {e!r}")
                return
            time.sleep(0.2)


class Soak:
    def __init__(self, folder):
        self.folder = folder
        self.over = threading.Event()
        self.problems = []
        self.samples = {"lives": [], "replica": []}
        self.kills = 0

    def wrong(self, text):
        self.problems.append(text)
        self.over.set()

    def certificate(self):
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=primary", "-keyout", key, "-out", cert], check=True, capture_output=True)
        return cert, key

    def start(self):
        cert, key = self.certificate()
        common = ("--segment-size", SEGMENT, "--reserve", SEGMENT, "--max-value", 2 << 20, "--workers", 2)
        self.killed = Kvd(self.folder / "killed", *common, "--tls-cert", cert, "--tls-key", key, sync="always", password="root",
                          listen=("plain:127.0.0.1:0", "tcp:127.0.0.1:0")).start()
        for text, port in (("plain:127.0.0.1:0", self.killed.ports[0]), ("tcp:127.0.0.1:0", self.killed.ports[1])):
            self.killed.options[self.killed.options.index(text)] = text[:-1] + str(port)  # the same after a restart
        self.replica = Kvd(self.folder / "replica", *common, "--replica-of", f"tls:127.0.0.1:{self.killed.ports[1]}",
                           "--replica-tls-ca", cert, password="root").start()
        self.lives = Kvd(self.folder / "lives", *common).start()
        self.writers = [Writer(self, self.killed, f"killed-{i}", "root", True) for i in range(3)]
        self.writers += [Writer(self, self.lives, f"writer-{i}", None, False) for i in range(3)]
        self.visitor = Visitor(self, self.lives)

    def disk(self, server):
        total = 0
        for folder, _, names in os.walk(server.data):
            for name in names:
                try:
                    total += os.stat(f"{folder}/{name}").st_blocks * 512
                except FileNotFoundError:
                    pass  # a compaction took it meanwhile
        return total

    def sample(self, at):
        for name, server in (("lives", self.lives), ("replica", self.replica)):
            if not server.alive():
                self.wrong(f"{name} ended: {server.log.read_text()[-2000:]}")
                return
            self.samples[name].append({"at": at, "memory": server.memory(), "descriptors": server.descriptors(), "disk": self.disk(server)})

    def watch(self):
        begin = time.monotonic()
        length = MINUTES * 60
        next_sample = next_kill = begin + min(20.0, length / 10)
        rng = random.Random(7)
        while not self.over.is_set() and (now := time.monotonic()) < begin + length:
            if now >= next_sample:
                self.sample(now - begin)
                next_sample = now + min(15.0, length / 20)
            if now >= next_kill:
                self.killed.kill()
                self.killed.start(timeout=60)
                self.kills += 1
                next_kill = time.monotonic() + rng.uniform(5, 25)
            self.over.wait(0.5)
        self.over.set()

    def settle(self):
        """After the load: everything once more, and the replica has all of it."""
        for w in self.writers:
            w.join(120)
        self.visitor.join(120)
        for w in self.writers:
            c = w.connect()
            w.check_all(c)
            c.close()
        c = Client(("127.0.0.1", self.killed.port), timeout=60)
        c("AUTH", "root")
        if c("WAITREPLICAS", 1, 60000) != 1:
            raise Wrong("the replica is not level after a minute")
        r = Client(("127.0.0.1", self.replica.port), timeout=60)
        r("AUTH", "root")
        for w in self.writers[:3]:
            for key, may in w.known.items():
                if r("GET", key) not in may:
                    raise Wrong(f"the replica has another {key}")
        info = Client(("127.0.0.1", self.lives.port))("INFO").decode()
        for line in info.splitlines():
            if line.startswith("data_damaged:") and line != "data_damaged: 0":
                raise Wrong(line)

    def judge(self):
        for name, samples in self.samples.items():
            warm = [s for s in samples if s["at"] >= MINUTES * 60 * WARM]
            if len(warm) < 6:
                continue  # too short to say
            third = len(warm) // 3
            first, last = warm[:third], warm[-third:]
            for what, slack in (("memory", GROWTH_BYTES), ("descriptors", 8), ("disk", 16 * SEGMENT)):
                before, after = (statistics.median(s[what] for s in part) for part in (first, last))
                if after > before * GROWTH + slack:
                    raise Wrong(f"{name}: {what} grew from {before:.0f} to {after:.0f}")

    def page(self):
        def row(name, samples):
            cells = [name]
            for what, unit in (("memory", 1 << 20), ("descriptors", 1), ("disk", 1 << 20)):
                values = [s[what] / unit for s in samples]
                third = max(1, len(values) // 3)
                cells.append(" / ".join(f"{statistics.median(values[i:i + third]):.0f}" for i in (0, third, len(values) - third)))
                cells.append(f"{max(values):.0f}")
            return "| " + " | ".join(cells) + " |"

        lines = ["| server | memory, MiB: median of each third | most | descriptors | most | disk, MiB | most |", "|---|---|---|---|---|---|---|"]
        lines += [row(name, [s for s in samples if s["at"] >= MINUTES * 60 * WARM] or samples) for name, samples in self.samples.items() if samples]
        operations = sum(w.batches for w in self.writers) * BATCH
        lines += ["", f"{MINUTES:g} minutes, {self.kills} kills, about {operations:,} writes acknowledged one by one and {sum(w.reads for w in self.writers):,} values "
                  f"read and compared, {self.visitor.rounds:,} rounds of namespaces made, filled, walked, reloaded and deleted with 30 connections each."]
        return "\n".join(lines)

    def run(self):
        self.start()
        for t in [*self.writers, self.visitor]:
            t.start()
        try:
            self.watch()
            if not self.problems:
                self.settle()
                self.judge()
        except (Wrong, Error, OSError, AssertionError) as e:
            self.problems.append(repr(e))
        finally:
            self.over.set()
            for server in (self.killed, self.replica, self.lives):
                try:
                    server.end()
                except subprocess.TimeoutExpired:
                    self.problems.append(f"{server.folder.name} does not end")
        out = ROOT / "build/soak"
        out.mkdir(parents=True, exist_ok=True)
        (out / "kvd.json").write_text(json.dumps({"problems": self.problems, "samples": self.samples, "kills": self.kills}, indent=1))
        print(self.page())
        for p in self.problems:
            print("WRONG:", p)
        if self.problems:
            for server in (self.killed, self.replica, self.lives):
                print(f"-- {server.folder.name}\n{server.log.read_text()[-3000:]}")
        return 1 if self.problems else 0


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="croft-soak-", dir=os.environ.get("SOAK_DIR")))
    try:
        return Soak(folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
