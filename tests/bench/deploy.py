"""deploy.block_to_process: from the node's learning of the block to the container's first process, the
image already present (another reservation holds it: an image that nobody needs is removed), by events inside the node; deploy.api_to_process: from provd's first call of a maker
(imaged's, for the image that is there) to the same; deploy.start_to_process: from its call of contd's Start.
Beside them a bare `runc run` of the same bundle in the same machine, alternating."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import grid, machine, node  # noqa: E402
from lab.bench import RUNS, figure, folder, host_load, images, median, save  # noqa: E402

SERVICE = {"image": "busybox", "command": ["sleep", "1000"]}
COPY = "/run/croft-bench"


def image_is_there(n):
    return [i["complete"] for i in n.agent.varlink("imaged", "List")["images"]] == [True]


def bare_run(n, it):
    """`runc run` of the deployed bundle with a cgroup of its own, until its first process runs (--detach, as otherwise the
    program's own life would count): seconds."""
    bundle = f"/run/croft/containers/{it.id}-1-web"
    found = n.agent.sh(f"find {bundle} -name config.json").out.split()[0]
    config = n.agent.json(found)
    config["process"]["terminal"] = False
    config["linux"]["cgroupsPath"] = "/croft-bench"
    config.pop("hooks", None)
    root = config["root"]["path"]
    if not root.startswith("/"):
        config["root"]["path"] = f"{found.rsplit('/', 1)[0]}/{root}"
    n.agent.sh(f"mkdir -p {COPY}")
    n.agent.write(f"{COPY}/config.json", json.dumps(config))
    # Streams as a service's: the agent's pipes would stay open as long as the container lives. With NOTIFY_SOCKET, which
    # the agent has from core0, runc would wait for the container's READY=1.
    n.agent.write(f"{COPY}/run", f"unset NOTIFY_SOCKET\nexec runc --root {COPY}/state run --detach -b {COPY} bench </dev/null >{COPY}/log 2>&1\n")
    took = n.agent.sh(f". {COPY}/run").us / 1e6
    n.agent.run("runc", "--root", f"{COPY}/state", "delete", "--force", "bench")
    return took


def run():
    work = folder("deploy")
    totals, apis, starts, bares, steps = [], [], [], [], {}
    with grid.Grid(work / "grid") as g:
        g.start()
        ids = images(g, ["busybox"])
        disk = machine.disk_create(work / "disk.img", 4096, "bench")
        with node.Node(g, work / "node", ids, disks=[disk]) as n:
            n.start()
            n.deploy({"web": SERVICE}, name="holder")
            for i in range(RUNS):
                assert image_is_there(n)
                mark = n.machine.mark()
                with n.deployed({"web": SERVICE}, name=f"run{i}") as it:
                    process = n.machine.wait("process", 60, mark, reservation=it.id)
                    block = n.machine.find("block", mark)
                    totals.append((process["t"] - block["t"]) / 1e6)
                    begun = {e["step"]: e["t"] - e["us"] for e in n.machine.events[mark:]
                             if e["event"] == "step" and e["reservation"] == it.id}
                    apis.append((process["t"] - begun["pull"]) / 1e6)
                    starts.append((process["t"] - begun["start"]) / 1e6)
                    for e in n.machine.events[mark:]:
                        if e["event"] == "step" and e["reservation"] == it.id and e["t"] <= process["t"]:
                            steps.setdefault(e["step"], []).append(e["us"] / 1e6)
                    bares.append(bare_run(n, it))
    load = host_load()
    figures = [figure(f"deploy.{name}_to_process", median(times), "s", "runc run of the same bundle", median(bares),
                      note=f"median of {RUNS}, alternating, in the same machine; load of the host {load}")
               for name, times in (("block", totals), ("api", apis), ("start", starts))]
    for name, times in steps.items():
        figures.append(figure(f"deploy.step.{name}", median(times, 6), "s"))
    save("deploy", figures)


if __name__ == "__main__":
    run()
