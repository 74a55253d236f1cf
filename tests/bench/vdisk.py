"""vdisk.*: fio inside a node, on a virtual disk and on a file of the same pool. The disk without a key is what the product adds
below its file system's place; with the key comes dm-crypt, whose own share is shown apart, against the same disk over dm-linear: under
emulation the cipher is not to be judged."""
import base64
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import machine, paths  # noqa: E402
from lab.bench import figure, folder, median, save  # noqa: E402

MIB = 1 << 20
SIZE = 256 * MIB
RUNS = 5
SECONDS = 4  # of each measurement
# An emulated disk reads as fast as the host's memory. What is sequential is also measured on one that does what a SATA SSD does.
BOUND = 500 * MIB
PATTERNS = {"random read 4 KiB": ("randread", "4k", 8), "random write 4 KiB": ("randwrite", "4k", 8),
            "sequential read 1 MiB": ("read", "1m", 4), "sequential write 1 MiB": ("write", "1m", 4)}
BOUNDED = [name for name in PATTERNS if name.startswith("sequential")]


def fio_program():
    subprocess.run([sys.executable, paths.ROOT / "scripts/packages.py", "build", "fio"], check=True)
    return (paths.BUILD / "pkg/fio/bin/fio").read_bytes()


def linear_program():
    path = folder("vdisk-linear") / "dm-linear"
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-static", "-s", "-o", path, paths.ROOT / "tests/bench/dm-linear.c"], check=True)
    return path.read_bytes()


def fio(agent, path, rw, block, depth, *more):
    """Bytes per second; direct, several at a time."""
    done = agent.run("/croft-test/fio", "--name=x", f"--filename={path}", f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}",
                     "--ioengine=io_uring", "--direct=1", f"--size={SIZE}", "--output-format=json", *more, timeout=300)
    job = json.loads(done.out[done.out.index("{"):])["jobs"][0]
    return max(job["read"]["bw_bytes"], job["write"]["bw_bytes"])


def raw_disk(m, kind, name, secret=None):
    """The disk's device."""
    more = {"secret": base64.b64encode(secret).decode()} if secret else {}
    key = f"volume/0x{'ab' * 20}/bench/{name}"
    m.agent.varlink("storaged", "EnsureVirtualDisk", 300, key=key, kind=kind, size=SIZE, filesystem="raw", **more)
    return m.agent.varlink("storaged", "AttachVirtualDisk", 300, key=key, holder="1/bench", **more)["path"]


def pool_file(m, kind):
    """A file like that of a disk, which is not attached: the same pool, limits and flags, and nothing above it."""
    key = f"volume/0x{'ab' * 20}/bench/file"
    raw_disk(m, kind, "file")
    m.agent.varlink("storaged", "DetachVirtualDisk", key=key)
    return next(v["path"] for v in m.agent.varlink("storaged", "ListVolumes")["volumes"] if v["key"] == key) + "/disk"


def queues(m, name, secret, off):
    """dm-crypt's own queues of the open disk, off as the product has them, or on."""
    m.agent.run("/usr/bin/cryptsetup", "refresh", name, "--allow-discards", "--key-file=-", "--keyfile-size=32",
                *(["--perf-no_read_workqueue", "--perf-no_write_workqueue"] if off else []), stdin=secret)


def run():
    work = folder("vdisk")
    disk = machine.disk_create(work / "disk.img", 4096, "bench")
    with machine.Machine(work / "machine", ["runmode=dev"], disks=[disk],
                         files={"croft-test/fio": (fio_program(), 0o755), "croft-test/dm-linear": (linear_program(), 0o755)}) as m:
        m.wait_service("storaged", 120)
        pool = m.agent.varlink("storaged", "GetStatus")["pools"][0]
        secret = os.urandom(32)
        places = {"pool": pool_file(m, pool["kind"]), "plain": raw_disk(m, pool["kind"], "plain"),
                  "encrypted": raw_disk(m, pool["kind"], "encrypted", secret)}
        # The cipher's disk and this one differ in the cipher alone.
        places["linear"] = m.agent.run("/croft-test/dm-linear", "bench-linear", raw_disk(m, pool["kind"], "linear")).out.strip()
        places["queued"] = places["encrypted"]
        mapping = m.agent.text(f"/sys/block/{os.path.basename(places['encrypted'])}/dm/name").strip()
        for path in dict.fromkeys(places.values()):  # everything is there before anything is measured
            fio(m.agent, path, "write", "1m", 4)
        seen = {(p, name): [] for p in places for name in PATTERNS}
        seen.update({("bounded " + p, name): [] for p in places for name in BOUNDED})
        for _ in range(RUNS):
            for name, (rw, block, depth) in PATTERNS.items():
                for place, path in places.items():
                    if place in ("encrypted", "queued"):
                        queues(m, mapping, secret, place == "encrypted")
                    seen[place, name].append(fio(m.agent, path, rw, block, depth, f"--runtime={SECONDS}", "--time_based"))
            m.qmp("block_set_io_throttle", device="disk0", bps=BOUND, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)
            for name in BOUNDED:
                for place in ("pool", "plain", "linear"):
                    seen["bounded " + place, name].append(fio(m.agent, places[place], *PATTERNS[name], f"--runtime={SECONDS}", "--time_based"))
            m.qmp("block_set_io_throttle", device="disk0", bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)
    figures = []
    for name in BOUNDED:
        word = "vdisk." + name.replace(" ", "_").replace("_MiB", "m") + ".bounded"
        pool, plain, linear = (median([v / MIB for v in seen["bounded " + place, name]]) for place in ("pool", "plain", "linear"))
        for place, value in (("", plain), (".linear", linear)):
            figures.append(figure(word + place, value, "MiB/s", "a file of the same pool, written in place", pool, "higher",
                                  f"the disk bounded to {BOUND // MIB} MiB/s, as a SATA SSD is"))
    for name in PATTERNS:
        word = "vdisk." + name.replace(" ", "_").replace("_KiB", "k").replace("_MiB", "m")
        pool, plain, encrypted, linear, queued = (median([v / MIB for v in seen[place, name]]) for place in places)
        figures.append(figure(word, plain, "MiB/s", "a file of the same pool, written in place", pool, "higher",
                              f"virtual disk without a key, fio direct, median of {RUNS}, alternating"))
        figures.append(figure(word + ".linear", linear, "MiB/s", "a file of the same pool, written in place", pool, "higher",
                              "the same over dm-linear: what device mapper costs, cipher apart"))
        figures.append(figure(word + ".with_key", encrypted, "MiB/s", "the same disk over dm-linear", linear, "higher",
                              "dm-crypt's own share, in an emulated processor"))
        figures.append(figure(word + ".without_queues", encrypted, "MiB/s", "the same with dm-crypt's own queues", queued, "higher",
                              "why the product switches them off, or not"))
    save("vdisk", figures)


if __name__ == "__main__":
    run()
