"""gate.*: what a thousand readers cost that wait for a log's next line, and how long `croft exec … true` takes from end to end
beside `runc exec` of the same program in the same container, alternating. The node is a virtual machine; callers come through a
forwarded port."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import gate, grid, machine, node, paths, ports  # noqa: E402
from lab.bench import RUNS, figure, folder, images, median, save  # noqa: E402

SERVICE = {"image": "busybox", "command": ["sleep", "100000"]}
FOLLOWERS = 1000
LIMIT_MIB = 32
TENANT = 2
KEEP_ALIVE = 20  # seconds between signs of life, which make every connection send once


def cgroup_bytes(n, service):
    """All that the kernel counts for a service: its pages, its sockets, its descriptors."""
    return int(n.agent.text(f"/sys/fs/cgroup/system/{service}/memory.current"))


def resident_bytes(n, service):
    pid = n.agent.varlink("core0", "GetService", name=service)["service"]["pid"]
    fields = dict(line.split(":", 1) for line in n.agent.text(f"/proc/{pid}/status").splitlines())
    return (int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0])) << 10


def memory(n, caller, it):
    """Figures of FOLLOWERS idle followers of one log. The first opens what is there once for all, so it belongs to the state before."""
    links = [caller.follow(it.id, service="web", tail=0, follow=1)[0]]
    services = ("gated", "contd")
    time.sleep(2)
    before = {s: (cgroup_bytes(n, s), resident_bytes(n, s)) for s in services}
    for _ in range(FOLLOWERS):
        links.append(caller.follow(it.id, service="web", tail=0, follow=1)[0])
    time.sleep(KEEP_ALIVE + 5)
    grown = {s: (cgroup_bytes(n, s) - before[s][0], resident_bytes(n, s) - before[s][1]) for s in services}
    for link in links:
        link.socket.timeout = float("inf")
    alive = sum(1 for link in links if link.file.readline() == b"1\r\n")
    assert alive == len(links), f"{len(links) - alive} followers have lost their stream"
    for link in links:
        link.close()
    return {s: [round(v / (1 << 20), 2) for v in grown[s]] for s in services}


def bare_exec(n, it):
    """`runc exec` in the running container: seconds."""
    script = f"unset NOTIFY_SOCKET; exec runc --root /run/croft/runc exec {it.id}-1-web true"
    return n.agent.sh(script, timeout=60).us / 1e6


def round_trip(caller, it):
    """From a ping of WebSocket to its pong: seconds."""
    with caller.exec(it.id, "sleep", "100", service="web") as session:
        times = []
        for _ in range(RUNS):
            begun = time.monotonic()
            session.frame(gate.PING, b"")
            while session.receive()[0] != gate.PONG:
                pass
            times.append(time.monotonic() - begun)
    return median(times, 4)


def run():
    work = folder("gate")
    ours, bares, own = [], [], []
    with grid.Grid(work / "grid") as g:
        g.start()
        ids = images(g, ["busybox"])
        disk = machine.disk_create(work / "disk.img", 4096, "bench")
        with node.Node(g, work / "node", ids, disks=[disk]) as n:
            n.start()
            port = ports.free()
            n.machine.forward(port, gate.PORT)
            n.machine.wait("listening", 120, service="gated")
            caller = gate.Gate(port, gate.read_key(g.keys[TENANT]), timeout=120)
            croft = g.tenant()
            croft.env["CROFT_GATE"] = f"127.0.0.1:{port}"
            with n.deployed({"web": SERVICE}, name="gate") as it:
                for i in range(RUNS + 1):
                    begun = time.monotonic()
                    croft.run("exec", it.id, "web", "--", "true", timeout=120)
                    took = time.monotonic() - begun
                    bare = bare_exec(n, it)
                    begun = time.monotonic()
                    with caller.exec(it.id, "true", service="web") as session:
                        assert session.finish()[0] == 0
                    if i > 0:  # the first finds nothing in any cache
                        ours.append(took)
                        bares.append(bare)
                        own.append(time.monotonic() - begun)
                trip = round_trip(caller, it)
                grown = memory(n, caller, it)
    bare = median(bares)
    most = round(3 * bare + trip, 3)
    mib = round(grown["gated"][0] + grown["contd"][0], 2)
    save("gate", [
        figure("gate.exec_true", median(ours), "s", "runc exec true in the same container", bare,
               note=f"limit 3 x the baseline + one round trip of {trip} s = {most} s; median of {RUNS}, alternating; croft's own reading "
                    f"of the chain is part of it: the tests' client, which does not read it, takes {median(own)} s"),
        figure("gate.followers_1000", mib, "MiB",
               note=f"limit {LIMIT_MIB} MiB; growth of the services' memory.current by {FOLLOWERS} idle followers, kernel memory included: gated "
                    f"{grown['gated'][0]}, contd {grown['contd'][0]}; of it their own pages (RssAnon): {grown['gated'][1]}, {grown['contd'][1]}"),
    ])
    print(f"limits: exec {'kept' if median(ours) <= most else 'BROKEN'}, followers {'kept' if mib <= LIMIT_MIB else 'BROKEN'}; "
          f"time-outs scaled by {paths.SCALE}", flush=True)


if __name__ == "__main__":
    run()
