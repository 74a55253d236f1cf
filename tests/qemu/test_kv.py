"""kvd on real file systems beneath which the power goes: at every flush of the disk, at once with the machine, and with a disk that is pulled.

The disk of the first two is one of QEMU's that writes down every write and flush in their order (blklogwrites). From that log each state is made that
the disk could have had after a cut, and kvd recovers from it on the host: e2fsck replays the journal as the kernel's mount would, and debugfs takes the
folder out. What was acknowledged before the cut is there, and nothing is served that was not written.
"""
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

from lab import machine as lab_machine, paths

sys.path.insert(0, str(paths.ROOT / "tests/kv"))
from kvlab import Client, Error, Kvd  # noqa: E402

SECONDS = 15  # about, for the order in which files start

CLIENTS = 4
KEYS = 25  # of each client
PORT = 9900
SMALL = ("--segment-size", "262144", "--reserve", "262144", "--max-value", "65536")
STATES = int(os.environ.get("KV_STATES", "100"))  # that are looked at, of all that the log has; 0: all
FLUSH, DISCARD = 1, 4  # Documentation/admin-guide/device-mapper/log-writes.rst of Linux, whose format it is
SECTOR = 512


# ---- the machine

class Logged(lab_machine.Machine):
    """With a disk whose writes and flushes are written down, besides the others."""

    def __init__(self, folder, image, log, **more):
        super().__init__(folder, ["runmode=dev"], **more)
        self.image, self.log = image, log

    def _command(self):
        return [*super()._command(),
                "-blockdev", f"driver=file,node-name=image,filename={self.image},cache.no-flush=on",
                "-blockdev", f"driver=file,node-name=log,filename={self.log},cache.no-flush=on",
                "-blockdev", f"driver=blklogwrites,node-name=logged,file=image,log=log,log-sector-size={SECTOR}",
                "-device", "virtio-blk-pci,drive=logged,serial=logged,write-cache=on"]


def ext4(path, megabytes):
    with open(path, "wb") as f:
        f.truncate(megabytes << 20)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-J", "size=4", path], check=True)
    return path


@pytest.fixture(scope="module")
def m(session_logs):
    folder = session_logs / "kv-disks"
    folder.mkdir()
    image, log = ext4(folder / "logged.img", 64), folder / "writes.log"
    shutil.copy(image, folder / "before.img")
    log.touch()
    with Logged(folder / "machine", image, log, slots=1) as started:
        started.wait_service("storaged", 180)
        started.wait_service("netd", 60)
        yield started


def device(m, serial):
    """Its name in /dev, from the kernel: this is not about what storaged makes of it."""
    found = m.agent.sh(f"for i in $(seq 300); do for d in /sys/block/*; do "
                       f"grep -qs {serial} $d/serial $d/device/vpd_pg80 && basename $d && exit; done; sleep 0.1; done", 60).out.split()
    assert found, f"no disk {serial}"
    return found[0]


class Server:
    """kvd in the node on a disk of its own. The node lets nobody in, so its clients' connections are made from inside."""

    def __init__(self, m, serial, port):
        self.m, self.port, self.folder = m, port, f"/tmp/{serial}"
        m.agent.sh(f"mkdir {self.folder}; mount -t ext4 /dev/{device(m, serial)} {self.folder}")
        m.agent.sh(f"/usr/lib/croft/kvd --data {self.folder}/kv --sync always --workers 2 --listen tcp:127.0.0.1:{port} "
                   f"{' '.join(SMALL)} >{self.folder}.log 2>&1 </dev/null &")
        m.agent.sh(f"for i in $(seq 300); do grep -q listening {self.folder}.log && exit; sleep 0.1; done; cat {self.folder}.log; exit 1", 60)
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.settimeout(60 * paths.SCALE)

    def client(self):
        b = "/croft-test/busybox"
        self.m.agent.sh(f"{b} nc 10.0.2.2 {self.door.getsockname()[1]} -e {b} nc 127.0.0.1 {self.port} >/dev/null 2>&1 </dev/null &")
        c = Client.__new__(Client)
        c.socket, _ = self.door.accept()
        c.socket.settimeout(60 * paths.SCALE)
        c.file = c.socket.makefile("rb")
        assert c("PING") == "PONG"
        return c


# ---- load, and what it may leave

class Load(threading.Thread):
    """A client with keys of its own. `written[key]`: its values in their order, each with where the log was when it was acknowledged."""

    def __init__(self, client, number, place, rounds):
        super().__init__(daemon=True)
        self.client, self.number, self.place, self.rounds = client, number, place, rounds
        self.written = {f"{number}-{i}": [] for i in range(KEYS)}
        self.answers = []  # that were no success
        self.acknowledged = 0

    def run(self):
        rng = random.Random(self.number)
        try:
            for _ in range(self.rounds):
                batch = []
                for key in rng.sample(sorted(self.written), 8):
                    value = None if rng.random() < 0.15 else rng.randbytes(rng.choice((10, 100, 1000, 5000, 20000)))
                    self.written[key].append([value, None])
                    batch.append((key, len(self.written[key]) - 1, value))
                self.client.socket.sendall(b"".join(self.client.pack("DEL", k) if v is None else self.client.pack("SET", k, v) for k, _, v in batch))
                for key, n, _ in batch:
                    try:
                        self.client.answer()
                    except Error as e:
                        if str(e) != "Key not found":
                            self.answers.append(str(e))
                            continue
                    self.written[key][n][1] = self.place()
                    self.acknowledged += 1
        except (OSError, ValueError):
            pass  # the server or its machine is gone


def allowed(history, upto):
    """The values that a key may have when the log ends at `upto` (None: all of it)."""
    newest = max((i for i, (_, at) in enumerate(history) if at is not None and (upto is None or at <= upto)), default=-1)
    return ([None] if newest < 0 else []) + [v for v, _ in history[max(newest, 0):]]


def recover(image, loads, upto, folder, what):
    """A server on the host takes over what an image of the disk holds."""
    done = subprocess.run(["/sbin/e2fsck", "-fy", image], capture_output=True, text=True)
    assert done.returncode in (0, 1), (what, done.stdout, done.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["/sbin/debugfs", "-R", f"rdump /kv {folder}", image], check=True, capture_output=True)
    if (folder / "kv").exists():
        (folder / "kv").rename(folder / "data")
    server = Kvd(folder, *SMALL, sync="always").start(timeout=60 * paths.SCALE)
    try:
        c = server.client()
        keys = [(k, h) for load in loads for k, h in load.written.items()]
        c.socket.sendall(b"".join(c.pack("GET", k) for k, _ in keys))
        for key, history in keys:
            got = c.answer()  # an error (kv.damaged) fails the test
            may = allowed(history, upto)
            assert got in may, f"{what}: {key} is {got and got[:16]} ({got and len(got)} bytes), none of the {len(may)} values that it may have"
        assert "\ndamaged_ranges: 0\n" in c("NSINFO", "default").decode(), what
    finally:
        server.end()


# ---- the log

def entries(log):
    """(end, flags, offset, data) of each entry: a sector with sector, sectors, flags and length; the data follows."""
    with open(log, "rb") as f:
        magic, version, _, sector = struct.unpack("<QQQI", f.read(28))
        assert (magic, version, sector) == (0x6A736677736872, 1, SECTOR)
        at = SECTOR
        size = os.fstat(f.fileno()).st_size
        while at + SECTOR <= size:
            f.seek(at)
            number, count, flags, _ = struct.unpack("<QQQQ", f.read(32))
            at += SECTOR
            data = b""
            if not flags & DISCARD and count:
                f.seek(at)
                data = f.read(count * SECTOR)
                at += count * SECTOR
                if len(data) < count * SECTOR:
                    return  # the machine was killed in it
            yield at, flags, number * SECTOR, data


def states(log, image):
    """Replays the log into `image`; stops after each flush with where that is, and the writes up to the next one."""
    flushes = [[0, []]]
    for end, flags, offset, data in entries(log):
        if flags & FLUSH:
            flushes.append([end, []])
        if data:
            flushes[-1][1].append((offset, data))
    with open(image, "r+b") as f:
        for end, after in flushes:
            f.flush()
            yield end, after, len(flushes)
            for offset, data in after:
                f.seek(offset)
                f.write(data)


def tear(image, writes, rng):
    """Of what was not flushed, any sectors have reached the disk."""
    chance = rng.random()
    with open(image, "r+b") as f:
        for offset, data in writes:
            for at in range(0, len(data), SECTOR):
                if rng.random() < chance:
                    f.seek(offset + at)
                    f.write(data[at:at + SECTOR])


# ---- tests

def test_a_disk_pulled_while_writing(m, logs):
    """Nothing that it holds is lost, nothing is acknowledged any more, and reads are right or refused."""
    disk = lab_machine.Disk(ext4(logs / "pulled.img", 64), "pulled", "scsi", "")
    m.plug(disk)
    server = Server(m, "pulled", PORT)
    loads = [Load(server.client(), n, lambda: 0, 100000) for n in range(CLIENTS)]
    other = server.client()
    for load in loads:
        load.start()
    while sum(load.acknowledged for load in loads) < 400:
        threading.Event().wait(0.05)
    m.pull(disk)
    for load in loads:
        load.join(60 * paths.SCALE)
        assert not load.is_alive()
        assert all("kv.disk-failed" in a or "kv.read-only" in a for a in load.answers), load.answers[:3]
    late = other.error("SET", "late", "1")
    assert "kv.read-only" in late or "kv.disk-failed" in late, late
    assert "data_disk_failed: yes" in other("INFO").decode()
    refused = served = 0
    for load in loads:
        for key, history in load.written.items():
            try:
                got = other("GET", key)
            except Error as e:  # what was not safe when the disk went is never shown, and the connection ends
                assert "kv.disk-failed" in str(e), e
                other, refused = server.client(), refused + 1
            else:
                assert got in allowed(history, None), key
                served += 1
    assert served > 0, refused
    m.agent.kill("kvd")
    m.agent.sh("umount -l /tmp/pulled", check=False)
    recover(disk.path, loads, None, logs / "pulled", "the pulled disk")


def test_power_cut_at_every_flush(m, logs):
    """The machine is killed under load; then every state of its disk, and torn ones between them."""
    server = Server(m, "logged", PORT + 1)
    loads = [Load(server.client(), n, lambda: m.log.stat().st_size, 100000) for n in range(CLIENTS)]
    for load in loads:
        load.start()
    while sum(load.acknowledged for load in loads) < 1200:
        threading.Event().wait(0.05)
    m.process.kill()
    m.process.wait()
    for load in loads:
        load.join(60 * paths.SCALE)
    recover(m.image, loads, None, logs / "now", "the machine was killed")

    work, copy, rng = logs / "work.img", logs / "copy.img", random.Random(1)
    shutil.copy(m.folder.parent / "before.img", work)
    looked = 0
    for n, (end, after, count) in enumerate(states(m.log, work)):
        last = n + 1 == count
        if STATES and not last and n % max(1, count // STATES):
            continue
        for torn in (False, True) if looked % 2 == 0 or last else (False,):
            subprocess.run(["cp", "--sparse=always", work, copy], check=True)
            if torn:
                tear(copy, after, rng)
            recover(copy, loads, end, logs / "then", f"flush {n} of {count}{', torn' if torn else ''}")
        looked += 1
    print(f"{sum(load.acknowledged for load in loads)} writes acknowledged, {count} flushes, {looked} states looked at, every second torn, too")
    assert looked > 20
