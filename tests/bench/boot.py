"""boot.core0_ready and boot.registered: from power-on, alternating with the same kernel, initramfs and
QEMU command whose init only prints. Wall time as the host sees it; the steps by the guest's clock."""
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import grid, machine, paths  # noqa: E402
from lab.bench import RUNS, figure, folder, median, save  # noqa: E402


def print_init():
    program = paths.BUILD / "tests/print-init"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", program,
                    paths.ROOT / "tests/bench/print-init.c"], check=True)
    return program.read_bytes()


def boot(path, g, init, printing):
    params = g.params(g.token(uses=1), croft_address=None)
    m = machine.Machine(path, [*params, *(["rdinit=/print-init"] if printing else [])], agent=False,
                        files={"print-init": (init, 0o755)})
    with m:
        if printing:
            while "print-init: running" not in m.console:
                if time.monotonic() - m.started > 60 * paths.SCALE:
                    raise SystemExit("bench: the printing init never ran\n" + m.console[-2000:])
                time.sleep(0.002)
            return time.monotonic() - m.started, None, None, []
        ready = m.wait("boot", 120, step="ready")
        registered = m.wait("registered", 180)
        return (ready["host"] - m.started, registered["host"] - m.started,
                (ready["t"], registered["t"]), list(m.events))


def run():
    work = folder("boot")
    init = print_init()
    prints, readies, registereds, steps = [], [], [], {}
    with grid.Grid(work / "grid") as g:
        g.start()
        for i in range(RUNS):
            prints.append(boot(work / f"print{i}", g, init, True)[0])
            ready, registered, _, events = boot(work / f"core0{i}", g, init, False)
            readies.append(ready)
            registereds.append(registered)
            for e in events:
                name = {"boot": e.get("step"), "address": "address",
                        "registered": "registered"}.get(e["event"])
                if e["event"] == "service":
                    name = f"{e.get('name')}-{e.get('state')}"
                if name:
                    steps.setdefault(name, []).append(e["t"] / 1e6)
    base = median(prints)
    figures = [
        figure("boot.core0_ready", median(readies), "s", "same kernel and initramfs, init only prints",
               base, note=f"wall time from the start of QEMU, median of {RUNS}, alternating"),
        figure("boot.registered", median(registereds), "s",
               "same kernel and initramfs, init only prints", base,
               note=f"wall time from the start of QEMU, median of {RUNS}, alternating"),
    ]
    for name, times in sorted(steps.items(), key=lambda item: median(item[1])):
        figures.append(figure(f"boot.step.{name}", median(times), "s",
                              note="the guest's clock since its kernel started"))
    save("boot", figures)


if __name__ == "__main__":
    run()
