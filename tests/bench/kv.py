"""kv.*: kvd beside Debian's redis-server, both with redis-benchmark, in turns on the same machine.

B=kv makes all figures; the command line names some: `tests/bench/kv.py set.p16 large`. KV_REQUESTS scales the load.
"""
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "kv"))
import kvlab  # noqa: E402
from lab import paths  # noqa: E402
from lab.bench import RUNS, figure, folder, median, save  # noqa: E402

CLIENTS, KEYS = 50, 100000
REQUESTS = {1: 60000, 16: 400000, 64: 800000}
SCALE = float(os.environ.get("KV_REQUESTS", "1"))


def redis_server():
    """Debian's redis-server is a link to redis-check-rdb, which looks at its name. The link alone would be installed with a
    service that runs on every developer's machine, so it is made here."""
    link = paths.BUILD / "bench/redis-server"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to("/usr/bin/redis-check-rdb")
    return link


class Redis:
    """The baseline, told to do what kvd does: an append-only file, no snapshots."""

    def __init__(self, work, sync, threads):
        self.port = 20000 + os.getpid() % 20000
        self.process = subprocess.Popen(
            [redis_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", work, "--save", "", "--appendonly", "yes",
             "--appendfsync", {"everysec": "everysec", "always": "always"}[sync], "--io-threads", str(threads),
             "--io-threads-do-reads", "yes", "--daemonize", "no", "--logfile", work / "log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                c = kvlab.Client(("127.0.0.1", self.port))
                assert c("PING") == "PONG"
                c.close()
                return
            except (OSError, kvlab.Error):
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.02)

    def end(self):
        self.process.terminate()
        self.process.wait(30)


def redis_version():
    text = subprocess.run([redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return "redis " + re.search(r"v=(\d+\.\d+)", text).group(1)


def ours(work, sync, workers=1):
    """Plain files on the same file system as the baseline's."""
    return kvlab.Kvd(work, "--workers", workers, sync=sync).start()


def cpu_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def benchmark(server, requests, pipeline, *command, clients=CLIENTS, last=None):
    """Requests per second, and the client's share of one processor. `last`: a last argument too long for a command line."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["redis-benchmark", "-p", str(server.port), "-c", str(clients), "-n", str(int(requests)), "-P", str(pipeline),
                           "-r", str(KEYS), "--csv", *(["-x"] if last else []), *command],
                          input=last, capture_output=True, text=True, timeout=600, check=True)
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    share = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took
    # the last row: "command","rps",…
    row = done.stdout.strip().splitlines()[-1]
    assert "rror" not in done.stdout, done.stdout
    return float(re.match(r'".*?","([\d.]+)"', row).group(1)), share


# its -t set repeats one value, which SET answers with nil unwritten: a value with a random tail is written every time
SET = ("SET", "key:__rand_int__", "v" * 88 + "__rand_int__")
GET = ("GET", "key:__rand_int__")


def turns(name, sync, measure, note="", threads=(1,)):
    """Both in turns, RUNS times, each time from an empty folder; the baseline's best number of io-threads counts."""
    mine, theirs = [], {t: [] for t in threads}
    for run in range(RUNS):
        for t in threads:
            server = Redis(folder(f"kv/redis-{t}"), sync, t)
            try:
                theirs[t].append(measure(server))
            finally:
                server.end()
        server = ours(folder("kv/kvd"), sync)
        try:
            mine.append(measure(server))
        finally:
            server.end()
    best = max(theirs, key=lambda t: median(theirs[t]))
    return figure(name, median(mine, 0), "op/s", f"{redis_version()} aof {sync}, io-threads {best}", median(theirs[best], 0), "higher",
                  note or f"runs: {sorted(round(m) for m in mine)} against {sorted(round(t) for t in theirs[best])}")


def small(kind, pipeline, sync, suffix=""):
    requests = REQUESTS[pipeline] * SCALE * (0.25 if sync == "always" else 1)

    def measure(server):
        # fill first: a GET that finds nothing and a SET of a new key are not what is asked for
        benchmark(server, KEYS * 3 * min(1, SCALE), 64, *SET)
        return benchmark(server, requests, pipeline, *(SET if kind == "set" else GET))[0]
    return turns(f"kv.{kind}.p{pipeline}{suffix}", sync, measure, threads=(1, 2) if pipeline > 1 else (1,))


def large(kind, size, label):
    value = "v" * (size - 12) + "__rand_int__"
    requests = max(200, (256 << 20) // size * SCALE)

    def measure(server):
        if kind == "get":
            c = kvlab.Client(("127.0.0.1", server.port))
            c("SET", "key:1", value)
            c.close()
            rate, _ = benchmark(server, requests, 1, "GET", "key:1", clients=8)
        else:
            rate, _ = benchmark(server, requests, 1, "SET", "key:__rand_int__", clients=8, last=value)
        return rate * size / (1 << 20)
    f = turns(f"kv.{kind}.{label}", "everysec", measure)
    return {**f, "unit": "MiB/s"}


def workers():
    """Ourselves with one worker and with two, at pipeline 64."""
    one, two, shares = [], [], []
    for _ in range(RUNS):
        for count, into in ((1, one), (2, two)):
            server = ours(folder("kv/kvd"), "everysec", count)
            try:
                rate, share = benchmark(server, REQUESTS[64] * SCALE, 64, *SET)
                into.append(rate)
                if count == 2:
                    shares.append(share)
            finally:
                server.end()
    return figure("kv.set.p64.workers2", median(two, 0), "op/s", "ourselves with one worker", median(one, 0), "higher",
                  f"the client took {median(shares, 2)} of a processor of {os.cpu_count()}")


FIGURES = {
    **{f"{kind}.p{p}": lambda kind=kind, p=p: small(kind, p, "everysec") for kind in ("set", "get") for p in (1, 16, 64)},
    **{f"set.p{p}.always": lambda p=p: small("set", p, "always", ".always") for p in (1, 16, 64)},
    "workers": workers,
    **{f"{kind}.{label}": lambda kind=kind, size=size, label=label: large(kind, size, label)
       for kind in ("set", "get") for label, size in (("64k", 64 << 10), ("1m", 1 << 20))},
}


def run(names):
    chosen = [n for n in FIGURES if not names or any(n == x or n.startswith(x + ".") for x in names)]
    subprocess.run(["make", "-C", paths.ROOT, "build/bin/kvd"], check=True, stdout=subprocess.DEVNULL)
    figures = []
    for name in chosen:
        figures.append(FIGURES[name]())
        print(figures[-1], flush=True)
    save("kv" if not names else "kv-part", figures)


if __name__ == "__main__":
    run(sys.argv[1:])
