"""kv.*: kvd beside Redis 7 (Debian) and Valkey 8.1 (built from Debian's source) on the same machine, in turns; the better counts.

B=kv makes all figures; the command line names some: `tests/bench/kv.py set.p16 memory`. For tries KV_RUNS is the number of runs
(5), KV_REQUESTS scales the load, KV_KEYS is the number of keys of the figures with ten million.
"""
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "kv"), str(HERE.parent / "qemu"), str(HERE.parent / "kv")]
import heavy  # noqa: E402
from lab.bench import figure, median, save  # noqa: E402
from servers import KEYS, RUNS, SCALE, benchmark, build, contest, cpu_of, ours  # noqa: E402

REQUESTS = {1: 60000, 16: 400000, 64: 800000}
# its -t set repeats one value, which SET answers with nil unwritten: a value with a random tail is written every time
SET = ("SET", "key:__rand_int__", "v" * 88 + "__rand_int__")
GET = ("GET", "key:__rand_int__")


def small(kind, pipeline, sync, suffix=""):
    requests = REQUESTS[pipeline] * SCALE * (0.25 if sync == "always" else 1)

    def measure(server):
        # fill first: a GET that finds nothing and a SET of a new key are not what is asked for
        benchmark(server, KEYS * 3 * min(1, SCALE), 64, *SET)
        return benchmark(server, requests, pipeline, *(SET if kind == "set" else GET))[0]
    return contest(f"kv.{kind}.p{pipeline}{suffix}", "op/s", measure, sync)


def large(kind, size, label):
    value = "v" * (size - 12) + "__rand_int__"
    requests = max(200, (2 << 30) // size * SCALE)  # long enough for the client's share to say something
    shares = []

    def measure(server):
        if kind == "get":
            c = server.client()
            c("SET", "key:1", value)
            c.close()
            rate, share = benchmark(server, requests, 1, "GET", "key:1", clients=8)
        else:
            rate, share = benchmark(server, requests, 1, "SET", "key:__rand_int__", clients=8, last=value)
        shares.append(share)
        return rate * size / (1 << 20)
    made = contest(f"kv.{kind}.{label}", "MiB/s", measure)
    made["note"] += f"; the client took {median(shares, 2)} of a processor of {os.cpu_count()}"
    return made


def workers():
    """Ourselves with one worker and with two, at pipeline 64."""
    rates, shares, costs = {1: [], 2: []}, [], []
    for _ in range(RUNS):
        for count, into in rates.items():
            server = ours("everysec", count)
            try:
                before = cpu_of(server.process)
                rate, share = benchmark(server, REQUESTS[64] * SCALE, 64, *SET)
                into.append(rate)
                if count == 2:
                    shares.append(share)
                else:
                    costs.append((share, (cpu_of(server.process) - before) * rate / (REQUESTS[64] * SCALE)))
            finally:
                server.end()
    client, server = (median(x) for x in zip(*costs))
    return figure("kv.set.p64.workers2", median(rates[2], 0), "op/s", "ourselves with one worker", median(rates[1], 0), "higher",
                  f"the client took {median(shares, 2)} of a processor of {os.cpu_count()}. With one worker it took {client:.2f} and kvd {server:.2f}: "
                  f"what both take for a request leaves room for {os.cpu_count() / (client + server):.2f} times as many here; "
                  f"runs: {sorted(round(r) for r in rates[2])} against {sorted(round(r) for r in rates[1])}")


SIZES = (("64k", 64 << 10), ("1m", 1 << 20))
FIGURES = {
    **{f"{kind}.p{p}": lambda kind=kind, p=p: small(kind, p, "everysec") for kind in ("set", "get") for p in (1, 16, 64)},
    **{f"set.p{p}.always": lambda p=p: small("set", p, "always", ".always") for p in (1, 16, 64)},
    "workers": workers,
    **{f"{kind}.{label}": lambda kind=kind, size=size, label=label: large(kind, size, label) for kind in ("set", "get") for label, size in SIZES},
    **{f"{kind}.{label}.disk": lambda kind=kind, size=size, label=label: heavy.disk(kind, size, label)
       for kind in ("set", "get") for label, size in SIZES},
    "memory": heavy.memory,
    "restart": heavy.restart,
    "compacting": heavy.compacting,
}


def run(names):
    chosen = [n for n in FIGURES if not names or any(n == x or n.startswith(x + ".") for x in names)]
    build()
    figures = []
    for name in chosen:
        made = FIGURES[name]()
        figures += made if isinstance(made, list) else [made]
        print(figures[-1], flush=True)
    save("kv" if not names else "kv-part", figures)


if __name__ == "__main__":
    run(sys.argv[1:])
