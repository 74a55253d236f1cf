"""The figures of ten million keys, of a disk without cache, and of a compaction that runs meanwhile."""
import json
import os
import pathlib
import subprocess
import time

import kvlab
from lab import paths
from lab.bench import figure, folder, median
from servers import BASELINES, RUNS, SCALE, Baseline, benchmark, load, memory_of, ours, version

MANY = int(os.environ.get("KV_KEYS", "10000000"))
VALUE = 100
FIO_BYTES = int((1 << 30) * SCALE)


# ---- ten million keys ----

def settled(server):
    """A rewrite of the append-only file has a copy of its own."""
    c = server.client()
    while b"aof_rewrite_in_progress:1" in c("INFO", "persistence") or b"aof_rewrite_scheduled:1" in c("INFO", "persistence"):
        time.sleep(0.5)
    c.close()


def memory():
    """Once: what keys cost hardly differs from run to run."""
    theirs = {}
    for name in dict(BASELINES):
        server = Baseline(name, 1, "everysec")
        try:
            empty = memory_of(server.process)
            load(server, "fill", MANY, VALUE)
            settled(server)
            theirs[name] = memory_of(server.process) - empty
        finally:
            server.end()
            folder(f"kv/{name}-1")
    server = ours()
    try:
        empty = memory_of(server.process)
        load(server, "fill", MANY, VALUE)
        mine = memory_of(server.process) - empty
        index = server.fetch_metrics()['kvd_namespace_index_bytes{namespace="default"}']
    finally:
        server.end()
    best = min(theirs, key=theirs.get)
    return [figure("kv.memory", mine, "byte", f"{version(best)} aof everysec", theirs[best], "lower",
                   f"{MANY} keys of 16 bytes, values of {VALUE}; of one key {mine / MANY:.1f} against {theirs[best] / MANY:.1f}"),
            figure("kv.memory.index", round(index / MANY - 16, 1), "byte/key", "the limit beside the key", 40, "lower",
                   f"{MANY} keys of 16 bytes")]


def started(server):
    """Seconds until it listens."""
    begin = time.monotonic()
    server.start(timeout=300)
    return time.monotonic() - begin


def restart():
    """From the process's start until it listens; the files lie in the page cache."""
    server, present, absent = ours(), [], []
    load(server, "fill", MANY, VALUE)
    server.stop()
    for _ in range(RUNS):
        for times, keep in ((present, True), (absent, False)):
            for file in [] if keep else server.data.glob("*.index"):
                file.unlink()
            times.append(started(server))
            assert server.client()("DBSIZE") == MANY
            server.clients.pop().close()
            server.process.terminate()
            assert server.process.wait(120) == 0
    return [figure(f"kv.restart.{name}", round(MANY / median(times)), "key/s", "what is asked for", asked, "higher",
                   f"{MANY} keys; seconds: {sorted(round(t, 2) for t in times)}")
            for name, times, asked in (("index", present, 2000000), ("rebuild", absent, 500000))]


# ---- the disk ----

def fio(name, size, *options):
    """MiB/s of a sequential job over FIO_BYTES, its last sync included."""
    work = folder("kv/fio")
    run = ["fio", "--name=kv", f"--filename={work}/data", f"--rw={name}", f"--bs={size}", f"--size={FIO_BYTES}", "--ioengine=psync",
           "--output-format=json", *options]
    if name == "read":
        subprocess.run([*run, "--create_only=1"], check=True, stdout=subprocess.DEVNULL)
    job = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)["jobs"][0]
    (work / "data").unlink()
    return FIO_BYTES / (1 << 20) / (job["job_runtime"] / 1000)


def files_of(server):
    return [os.open(path, os.O_RDONLY) for path in pathlib.Path(server.data).glob("ns-*/*.seg")]


def sync(server):
    for fd in files_of(server):
        os.fdatasync(fd)
        os.close(fd)


def forget(server):
    """The next reads come from the disk."""
    sync(server)
    for fd in files_of(server):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def write_to_disk(size):
    """kvd's MiB/s and how often it synced; redis-benchmark's eight clients, and the last sync."""
    server = ours()
    try:
        requests = FIO_BYTES // size
        rate, _ = benchmark(server, requests, 1, "SET", "key:__rand_int__", clients=8, last="v" * (size - 12) + "__rand_int__")
        begin = time.monotonic()
        sync(server)
        took = requests / rate + time.monotonic() - begin
        return requests * size / (1 << 20) / took, max(1, server.fetch_metrics()["kvd_syncs_total"])
    finally:
        server.end()


def read_from_disk(size):
    server = ours()
    try:
        load(server, "fill", FIO_BYTES // size, size)
        forget(server)
        return load(server, "get", FIO_BYTES // size, size)[0] * size / (1 << 20)
    finally:
        server.end()


def disk(kind, size, label):
    """Against fio on the same disk: sequential, buffered, as many fdatasyncs as kvd makes; reads from an empty page cache."""
    mine, theirs, syncs = [], [], 1
    for _ in range(RUNS):
        if kind == "set":
            rate, syncs = write_to_disk(size)
            mine.append(rate)
            theirs.append(fio("write", size, f"--fdatasync={max(1, FIO_BYTES // size // syncs)}", "--end_fsync=1"))
        else:
            mine.append(read_from_disk(size))
            theirs.append(fio("read", size))
    return figure(f"kv.{kind}.{label}.disk", median(mine, 0), "MiB/s", "fio, sequential", median(theirs, 0), "higher",
                  f"runs: {sorted(round(m) for m in mine)} against {sorted(round(t) for t in theirs)}")


# ---- compaction ----

PACED_KEYS, PACED_VALUE, PACED_SECONDS = 20000, 4096, max(2, round(10 * SCALE))
SMALL_SEGMENTS = ("--max-value", 1 << 20, "--segment-size", 16 << 20)
ONE_SEGMENT = ("--max-value", 1 << 20, "--segment-size", (1 << 32) - 1)  # which never ends, so nothing is compacted


def paced(options, rate):
    """What the load at a rate measured, and how many segments were compacted meanwhile."""
    server = ours("everysec", 1, *options)
    try:
        load(server, "fill", PACED_KEYS, PACED_VALUE)
        load(server, "pace", 0, PACED_SECONDS // 2, PACED_KEYS, PACED_VALUE)  # leaves dead records to compact
        before = server.fetch_metrics()["kvd_compactions_total"]
        measured = load(server, "pace", rate, PACED_SECONDS, PACED_KEYS, PACED_VALUE)
        return measured, server.fetch_metrics()["kvd_compactions_total"] - before
    finally:
        server.end()


def compacting():
    full = median([paced(ONE_SEGMENT, 0)[0][0] for _ in range(min(3, RUNS))])
    rate, with_it, without, count = int(full / 2), [], [], 0
    for _ in range(RUNS):
        measured, compacted = paced(SMALL_SEGMENTS, rate)
        with_it.append(measured[3])
        count += compacted
        measured, compacted = paced(ONE_SEGMENT, rate)
        without.append(measured[3])
        assert compacted == 0
    assert count > 0, "nothing was compacted"
    return figure("kv.p999.compacting", median(with_it, 0), "us", "ourselves without compacting", median(without, 0), "lower",
                  f"{rate} requests a second, half of the most; {count} segments compacted in {RUNS} runs of {PACED_SECONDS} s; "
                  f"runs: {sorted(round(x) for x in with_it)} against {sorted(round(x) for x in without)}")
