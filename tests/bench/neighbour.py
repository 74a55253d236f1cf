"""neighbour.*: what one tenant notices of another who takes all that his reservation gives him. One node, two reservations. A's server
answers small requests, half of which it first writes to its volume and syncs; B computes, writes to its disk, sends, and all of it at
once. Each round measures A alone and beside each of B's loads; B's services are frozen while they are not wanted. Who asks is a
process of the node itself, so that nothing outside the machine is measured."""
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import machine, paths, tenants  # noqa: E402
from lab.bench import RUNS, figure, folder, host_load, median, save  # noqa: E402

QUIET, GREEDY = 12, 13
PORT = 7000
SECONDS = 5  # of each measurement
EVERY = 10  # ms between two requests, so that A stays below its own limit: who is throttled alone already notices no neighbour
LIMIT = 2
# One processor, as QEMU emulates all of a machine in one thread and gives each that is busy a turn of 100 ms (TCG_KICK_PERIOD): with two, who
# waits for the other's disk or timer interrupt waits for the emulator. And so the host's second processor is left to be the disk.
CPUS = 1
# A's reservation has half of it, B's the rest.
OURS = {"milliCores": 500, "memory": 96 << 20, "pids": 100}
THEIRS = {"cpu": {"milliCores": 250, "memory": 64 << 20, "pids": 20},
          "disk": {"milliCores": 125, "memory": 128 << 20, "pids": 20},
          "net": {"milliCores": 125, "memory": 64 << 20, "pids": 20}}
FILE, WRITERS = 16 << 20, 4
# What the disk does in a second, as an emulated one is as fast as the host's memory: the disk is to be what is scarce, not the processor.
DISK = {"bps": 48 << 20, "iops": 1500}
SINK = "198.51.100"  # a link behind which nobody is
LOADS = {"alone": (), "cpu": ("cpu",), "disk": ("disk",), "net": ("net",), "all": ("cpu", "disk", "net")}
KINDS = {"echo": "e", "write": "w"}
SERVICES = ("netd", "storaged", "imaged", "contd", "noded", "provd")
TOOL = "croft-test/neighbour"


def program():
    path = paths.BUILD / "tests/neighbour"
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", path, paths.ROOT / "tests/bench/neighbour.c"], check=True)
    return path.read_bytes()


class Place:
    def __init__(self, m, tool):
        self.agent = m.agent
        self.all = tenants.Tenants(m)
        self.agent.write("/run/rootfs.tar", tenants.rootfs(neighbour=tool))
        self.quiet, self.greedy = self.all.tenant(QUIET), self.all.tenant(GREEDY)
        self.agent.sh(f"ip link add sink type bridge; ip link set sink arp off; ip link set sink up; ip addr add {SINK}.254/24 dev sink")
        volume = self.mount(self.quiet)
        self.quiet.start("server", "neighbour", "serve", PORT, "/data/x", mounts=[volume], resources=OURS)
        self.quiet.wait_log("server", "ready")
        self.address = self.quiet.attachments["server"]["address4"].split("/")[0]
        words = {"cpu": ("cpu", 4), "disk": ("disk", "/data/x", FILE, WRITERS), "net": ("net", f"{SINK}.7")}
        volume = self.mount(self.greedy)
        self.groups = {}
        for load, limits in THEIRS.items():
            pid = self.greedy.start(load, "neighbour", *words[load], mounts=[volume], resources=limits)
            group = self.agent.text(f"/proc/{pid}/cgroup").strip().split("::")[1]
            self.groups[load] = f"/sys/fs/cgroup{group}"
            self.freeze(load, True)

    def mount(self, tenant):
        return {"source": tenant.volume("data", 128 << 20), "target": "/data", "readOnly": False}

    def freeze(self, load, frozen):
        self.agent.write(f"{self.groups[load]}/cgroup.freeze", "1" if frozen else "0")

    def used(self, load):
        """Microseconds of processor, bytes written and bytes sent so far."""
        cpu = dict(line.split() for line in self.agent.text(f"{self.groups[load]}/cpu.stat").splitlines())
        disk = sum(int(word[7:]) for word in self.agent.text(f"{self.groups[load]}/io.stat").split() if word.startswith("wbytes="))
        sink = int(self.agent.text("/sys/class/net/sink/statistics/tx_bytes"))
        return int(cpu["usage_usec"]), disk, sink

    def measure(self, loads):
        """Percentiles of both kinds of request while these loads run, and what each load took, per second."""
        for load in loads:
            self.freeze(load, False)
        time.sleep(1)
        before = {load: self.used(load) for load in loads}
        begun = time.monotonic()
        asks = " & ".join(f"/{TOOL} ask {self.address} {PORT} {letter} {SECONDS} {EVERY} >/run/ask-{kind}" for kind, letter in KINDS.items())
        self.agent.sh(f"{asks} & wait", timeout=SECONDS + 60)
        took = time.monotonic() - begun
        taken = {load: [(b - a) / took for a, b in zip(before[load], self.used(load))] for load in loads}
        for load in loads:
            self.freeze(load, True)
        return {kind: json.loads(self.agent.text(f"/run/ask-{kind}")) for kind in KINDS}, taken


def said(load, taken):
    """What the load took, for the note."""
    cores, disk, net = taken[load][0] / 1e6, taken[load][1] / (1 << 20), taken[load][2] / (1 << 20)
    return {"cpu": f"{cores:.2f} cores", "disk": f"{disk:.1f} MiB/s and {cores:.2f} cores", "net": f"{net:.1f} MiB/s and {cores:.2f} cores"}[load]


def run():
    work = folder("neighbour")
    tool = program()
    disk = machine.disk_create(work / "disk.img", 4096, "bench")
    seen = {load: {kind: [] for kind in KINDS} for load in LOADS}
    takes = {}
    with machine.Machine(work / "machine", ["runmode=dev"], disks=[disk], cpus=CPUS, files={**tenants.Tenants.files(), TOOL: (tool, 0o755)}) as m:
        for name in SERVICES:
            m.wait_service(name, 180)
        m.wait("address", 120, address="10.0.2.15")
        m.qmp("block_set_io_throttle", device="disk0", bps_rd=0, bps_wr=0, iops_rd=0, iops_wr=0, **DISK)
        place = Place(m, tool)
        place.measure(())
        for _ in range(RUNS):
            for load, parts in LOADS.items():
                got, taken = place.measure(parts)
                for kind in KINDS:
                    seen[load][kind].append(got[kind])
                for part in parts:
                    takes.setdefault(load, []).append(f"{part} {said(part, taken)}")
                print(load, {k: (v["count"], v["p50"], v["p99"]) for k, v in got.items()}, {p: said(p, taken) for p in parts}, flush=True)
    figures, kept, busy = [], True, host_load()
    for kind in KINDS:
        def p(load, which):
            return median([one[which] for one in seen[load][kind]], 0)
        for load in list(LOADS)[1:]:
            f = figure(f"neighbour.{kind}_p99.{load}", p(load, "p99"), "us", "the same without a neighbour", p("alone", "p99"),
                       note=f"limit {LIMIT} x; median of {RUNS}, alternating, {SECONDS} s each; p50 {p(load, 'p50'):.0f} against "
                            f"{p('alone', 'p50'):.0f} us; last time the neighbour took: {', '.join(takes[load][-len(LOADS[load]):])}; load of the host {busy}")
            kept = kept and f["ratio"] <= LIMIT
            figures.append(f)
    save("neighbour", figures)
    print(f"limit of {LIMIT}: {'kept' if kept else 'BROKEN'}", flush=True)


if __name__ == "__main__":
    run()
