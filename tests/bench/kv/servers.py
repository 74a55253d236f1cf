"""kvd and its baselines, each started from an empty folder, and the clients that load them."""
import os
import pathlib
import re
import resource
import subprocess
import time

import kvlab
from lab import paths
from lab.bench import RUNS as ALL_RUNS
from lab.bench import figure, folder, median

CLIENTS, KEYS = 50, 100000
RUNS = int(os.environ.get("KV_RUNS", ALL_RUNS))
SCALE = float(os.environ.get("KV_REQUESTS", "1"))
BASELINES = [(name, threads) for name in ("redis", "valkey") for threads in (1, 2)]


def build():
    """kvd, Valkey, and the client of our own."""
    subprocess.run(["make", "-C", paths.ROOT, "build/bin/kvd", "build/pkg/valkey.key"], check=True, stdout=subprocess.DEVNULL)
    (paths.BUILD / "bench").mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-o", paths.BUILD / "bench/load",
                    paths.ROOT / "tests/bench/kv/load.c"], check=True)
    # Debian's redis-server is a link to redis-check-rdb, which looks at its name. The link alone would be installed with a
    # service that runs on every developer's machine, so it is made here.
    link = paths.BUILD / "bench/redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to("/usr/bin/redis-check-rdb")


def binary(name):
    return paths.BUILD / ("bench/redis-server" if name == "redis" else "pkg/valkey/bin/valkey-server")


def version(name):
    text = subprocess.run([binary(name), "--version"], capture_output=True, text=True, check=True).stdout
    return f"{name} " + re.search(r"v=(\d+\.\d+)", text).group(1)


class Baseline:
    """Redis or Valkey, told to do what kvd does: an append-only file, no snapshots."""

    def __init__(self, name, threads, sync):
        self.work = folder(f"kv/{name}-{threads}")
        self.port = 20000 + os.getpid() % 20000
        self.process = subprocess.Popen(
            [binary(name), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.work, "--save", "", "--appendonly", "yes",
             "--appendfsync", sync, "--io-threads", str(threads), *(["--io-threads-do-reads", "yes"] if name == "redis" else []),
             "--daemonize", "no", "--logfile", self.work / "log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                c = self.client()
                assert c("PING") == "PONG"
                c.close()
                return
            except (OSError, kvlab.Error):
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.02)

    def client(self):
        return kvlab.Client(("127.0.0.1", self.port))

    def end(self):
        self.process.terminate()
        self.process.wait(120)


def ours(sync="everysec", workers=1, *options):
    """Plain files on the same file system as the baselines'."""
    return kvlab.Kvd(folder("kv/kvd"), "--workers", workers, *options, sync=sync, metrics=True).start()


def cpu_of(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process):
    """Resident bytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text()).group(1)) << 10


def benchmark(server, requests, pipeline, *command, clients=CLIENTS, last=None):
    """Requests per second, and the client's share of one processor. `last`: a last argument too long for a command line."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["redis-benchmark", "-p", str(server.port), "-c", str(clients), "-n", str(int(requests)), "-P", str(pipeline),
                           "-r", str(KEYS), "--csv", *(["-x"] if last else []), *command],
                          input=last, capture_output=True, text=True, timeout=600, check=True)
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    share = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took
    assert "rror" not in done.stdout, done.stdout
    # the last row: "command","rps",…
    return float(re.match(r'".*?","([\d.]+)"', done.stdout.strip().splitlines()[-1]).group(1)), share


def load(server, *arguments):
    """The numbers that our own client prints."""
    done = subprocess.run([paths.BUILD / "bench/load", str(server.port), *map(str, arguments)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return [float(n) for n in done.stdout.split()]


def contest(name, unit, measure, sync="everysec", better="higher", runs=RUNS, note=""):
    """kvd and its baselines in turns, each time from an empty folder. All baselines run once, and the two that do best go
    on; the better median of them counts."""
    mine, theirs = [], {}

    def once(make, values):
        server = make()
        try:
            values.append(measure(server))
        finally:
            server.end()

    for run in range(runs):
        for baseline in list(theirs) or BASELINES:
            once(lambda baseline=baseline: Baseline(*baseline, sync), theirs.setdefault(baseline, []))
        once(lambda: ours(sync), mine)
        if run == 0:
            for loser in sorted(theirs, key=lambda b: theirs[b][0], reverse=better == "lower")[:-2]:
                del theirs[loser]
    best = (max if better == "higher" else min)(theirs, key=lambda t: median(theirs[t]))
    return figure(name, median(mine, 0), unit, f"{version(best[0])} aof {sync}, io-threads {best[1]}", median(theirs[best], 0), better,
                  note or f"runs: {sorted(round(m) for m in mine)} against {sorted(round(t) for t in theirs[best])}")
