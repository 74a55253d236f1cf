"""recovery.first_answer: from power-on after a cut to the container answering again, with its steps; beside it the least that any
system would have to do: the same machine, kernel, initramfs, disk and container, where the init is a script of twenty lines that mounts
the disk, gives the link its address and calls `runc run` on a copy of the same bundle. No identity, no chain, no proof, no verified image, no
firewall, no network of the container's own, no supervision: what Croft adds is all in the ratio. Both alternate, the power is cut each time."""
import json
import pathlib
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import grid, machine, node, paths, ports, volatile  # noqa: E402
from lab.bench import RUNS, figure, folder, images, median, save  # noqa: E402

SERVER = "while :; do printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello' | nc -l -p 80; done"
SERVICE = {"image": "busybox", "command": ["sh", "-c", SERVER]}
# In the order in which they come; each is an event, with what identifies it.
STEPS = (("core0_begins", "boot", {}), ("core0_ready", "boot", {"step": "ready"}), ("netd", "service", {"name": "netd", "state": "running"}),
         ("storaged", "service", {"name": "storaged", "state": "running"}), ("noded", "service", {"name": "noded", "state": "running"}),
         ("provd", "service", {"name": "provd", "state": "running"}), ("proof", "step", {"step": "fetch"}), ("opened", "step", {"step": "open"}),
         ("image_checked", "step", {"step": "pull"}), ("namespaces", "step", {"step": "prepare"}), ("image_mounted", "step", {"step": "mount"}),
         ("container_started", "process", {}))

BARE = """#!/croft-test/busybox sh
/croft-test/busybox --install -s /croft-test 2>/dev/null
export PATH=/croft-test:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm /dev/mqueue /run/disk
until [ -e DEVICE ]; do sleep 0.01; done
mount -t btrfs DEVICE /run/disk
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
echo "bare: runc"
runc --root /run/runc run --no-pivot -b /run/disk/bench bench </dev/null
echo "bare: ended"
sleep 1000
"""


def first_answer(url, started):
    """Seconds from the start of QEMU until the server answers. QEMU accepts connections before the guest does, so only an answer counts."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.read() == b"hello":
                    return time.monotonic() - started
        except OSError:
            pass
        if time.monotonic() - started > 180 * paths.SCALE:
            raise SystemExit("bench: no answer after the power came back")
        time.sleep(0.02)


def keep_bundle(n, it):
    """Copies root file system and configuration of the running container to the disk; gives the disk's device back."""
    found = n.agent.sh(f"find /run/croft/containers/{it.id}-1-web -name config.json").out.split()[0]
    config = n.agent.json(found)
    config["process"]["terminal"] = False
    config.pop("hooks", None)
    linux = config["linux"]
    linux["cgroupsPath"] = "/bench"
    linux["namespaces"] = [{"type": x["type"]} for x in linux["namespaces"] if x["type"] not in ("user", "network")]
    linux.pop("uidMappings", None)
    linux.pop("gidMappings", None)
    root = config["root"]["path"]
    root = root if root.startswith("/") else f"{found.rsplit('/', 1)[0]}/{root}"
    config["root"] = {"path": "rootfs", "readonly": False}
    config["mounts"] = [m for m in config["mounts"] if not m["source"].startswith("/run/croft") and not m["source"].startswith("/var")]
    config["process"]["args"] = [a.replace("-p 80", "-p 8080") for a in config["process"]["args"]]
    pool = n.agent.varlink("storaged", "GetStatus")["pools"][0]["path"]
    n.agent.sh(f"mkdir -p {pool}/bench && cp -a {root} {pool}/bench/rootfs && sync", timeout=120)
    n.agent.write(f"{pool}/bench/config.json", json.dumps(config))
    n.agent.sh("sync")
    return next(line.split(" - ")[1].split()[1] for line in n.agent.text("/proc/1/mountinfo").splitlines() if line.split()[4] == pool)


def run():
    work = folder("recovery")
    ours, bares, marks = [], [], {}
    with grid.Grid(work / "grid") as g:
        g.start()
        ids = images(g, ["busybox"])
        disk = machine.disk_create(work / "disk.img", 4096, "bench")
        store = volatile.Volatile(disk.path, 1)
        port, bare_port = ports.free(), ports.free()
        with node.Node(g, work / "node", ids, forwards={port: port}, volatile=[store]) as n:
            n.start()
            it = n.deploy({"web": {**SERVICE, "ports": [f"{port}:80"]}}, name="recovery")
            node.get(f"http://127.0.0.1:{port}/")
            device = keep_bundle(n, it)
            bare = machine.Machine(work / "bare", ["rdinit=/bare-init"], forwards={bare_port: 8080}, volatile=[store],
                                   files={"bare-init": (BARE.replace("DEVICE", device), 0o755)})
            for i in range(RUNS):
                n.machine.cut()
                bare.start()
                bares.append(first_answer(f"http://127.0.0.1:{bare_port}/", bare.started))
                bare.cut()
                mark = n.machine.mark()
                n.machine.start()
                ours.append(first_answer(f"http://127.0.0.1:{port}/", n.machine.started))
                for name, event, fields in STEPS:
                    e = n.machine.find(event, mark, **fields)
                    marks.setdefault(name, []).append(e["host"] - n.machine.started)
                print(f"run {i + 1}: {ours[-1]:.2f} s, bare {bares[-1]:.2f} s", flush=True)
        store.stop()
    figures = [figure("recovery.first_answer", median(ours), "s", "an init that only mounts the disk and calls runc run", median(bares),
                      note=f"wall time from the start of QEMU after a cut of power to the first HTTP answer, median of {RUNS}, alternating")]
    before = 0
    for name, event, fields in STEPS:
        at = median(marks[name])
        figures.append(figure(f"recovery.at.{name}", at, "s", note=f"wall time from the start of QEMU; {round(at - before, 3)} s after the step before"))
        before = at
    figures.append(figure("recovery.after_start", round(median(ours) - before, 3), "s", note="from the container's first process to the answer"))
    save("recovery", figures)


if __name__ == "__main__":
    run()
