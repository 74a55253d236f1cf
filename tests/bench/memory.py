"""memory.idle, memory.pid1: of a registered node that runs nothing."""
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import grid, machine, node, paths  # noqa: E402
from lab.bench import figure, folder, save  # noqa: E402

IDLE_LIMIT, PID1_LIMIT = 64 << 20, 2 << 20


def unpacked():
    """Bytes of the initramfs once unpacked, the test archive's programs included."""
    image = subprocess.run(["zstd", "-dcq", paths.INITRAMFS], stdout=subprocess.PIPE, check=True).stdout
    tests = paths.agent().stat().st_size + len(open("/bin/busybox", "rb").read())
    return len(image) + tests


def run():
    work = folder("memory")
    with grid.Grid(work / "grid") as g:
        g.start()
        disk = machine.disk_create(work / "disk.img", 4096, "bench")
        with node.Node(g, work / "node", {}, disks=[disk]) as n:
            n.start()
            time.sleep(10)  # the figure is that of a node at rest
            memory = {line.split(":")[0]: int(line.split()[1]) << 10
                      for line in n.agent.text("/proc/meminfo").splitlines()}
            status = n.agent.text("/proc/1/status")
            rss = next(int(line.split()[1]) << 10 for line in status.splitlines()
                       if line.startswith("VmRSS:"))
    used = memory["MemTotal"] - memory["MemAvailable"]
    save("memory", [
        figure("memory.idle", used - unpacked(), "byte", "the limit", IDLE_LIMIT,
               note="MemTotal - MemAvailable - the unpacked image; the test agent runs too"),
        figure("memory.pid1", rss, "byte", "the limit", PID1_LIMIT, note="VmRSS of PID 1"),
    ])


if __name__ == "__main__":
    run()
