"""A week of a node, compressed: deployments, updates and cancels in random order, with random faults, from a printed seed.

Rounds of a few changes that run at once. Beside a round something may go wrong: daemons are killed, one or all at once, or stand still; the
chain, the relay or the hub is away for a while; the power is cut, with a disk that loses what was not flushed. After every round chain, node
and what runs agree on what was asked for. Every few rounds everything is cancelled, and what is left is compared with what was left after
the first rounds: mounts, control groups, links, rules, subvolumes, files, processes; memory and descriptors of every program; the kernel's objects.

`make soak S=week`; COUNT= changes (1000), SEED= of the run, MINUTES= at most (none). The result is a page for docs/soak.md.
"""
import collections
import json
import os
import pathlib
import random
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import agent as lab_agent, cli, grid as lab_grid, levels, machine, node as lab_node, paths, ports, traces, volatile  # noqa: E402
from lab.bench import folder, images  # noqa: E402

COUNT = int(os.environ.get("COUNT") or 1000)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
MINUTES = float(os.environ.get("MINUTES") or 1e9)
WIDTH = 12  # changes of a round at most, each of another project
REST = 8  # rounds between two looks at what is left
WARM = 3  # looks until everything was used once and caches are as large as they get
DAEMONS = ("netd", "storaged", "imaged", "contd", "noded", "provd")
TENANTS = (2, 4, 5, 6, 7, 8) * 2  # accounts, one for each project that lives at a time
FAULTS = collections.OrderedDict(none=35, kill=25, everyone=8, hang=6, chain=8, relay=6, hub=5, cut=7)
# What may be more at the end than after the warm-up, of one life of a program or one boot: an allocator's unrest, not a leak.
GROWTH_KIB, GROWTH_DESCRIPTORS, GROWTH_KERNEL_KIB, GROWTH_OBJECTS = 1024, 4, 12288, 40


class Wrong(Exception):
    """What must not be."""


def say(*words):
    print(f"{time.monotonic() - START:7.0f}", *words, flush=True)


class Project:
    """One tenant's project: what was asked of it last, and so what must be."""

    def __init__(self, week, slot):
        self.week, self.slot, self.generation = week, slot, 0
        self.id = self.wants = None  # wants: None, or the services of the revision that must run
        self.revision = 0
        self.failing = None  # a revision that must fail
        self.ended = False  # at the last look, and not to be
        self.over = []  # reservations of which nothing may be left

    @property
    def name(self):
        return f"slot{self.slot}-{self.generation}"

    def croft(self, *words, cwd=None, check=True):
        return self.week.grid.cli(TENANTS[self.slot], cwd).run(*words, "--json", timeout=120, check=check)


class Week:
    def __init__(self, work):
        self.random = random.Random(SEED)
        self.work = work
        self.changes, self.faults, self.failed_as_wanted = collections.Counter(), collections.Counter(), 0
        self.rests, self.boots = [], 0
        self.lost = [0, 0]
        self.grid = lab_grid.Grid(work / "grid", relay_options=("--per-node", "6000")).start()
        self.images = images(self.grid, ["busybox"])
        disk = machine.disk_create(work / "disk.img", 65536, "unused")
        self.disk = volatile.Volatile(disk.path, SEED)
        self.ports = [ports.free() for _ in TENANTS]
        self.node = lab_node.Node(self.grid, work / "node", self.images, forwards={p: p for p in self.ports}, volatile=[self.disk],
                                  memory=3072, cpus=8)
        self.node.start()
        self.projects = [Project(self, i) for i in range(len(TENANTS))]

    def stop(self):
        self.node.stop()
        self.disk.stop()
        self.grid.stop()

    # -- changes

    def service(self, project, sick=False):
        r = self.random
        service = {"image": "busybox", "command": ["sleep", str(r.randrange(100000, 200000))], "stop_grace_period": "1s",
                   "restart": r.choice(("no", "always")), "deploy": {"resources": {"limits": {"memory": "24M", "cpus": "0.2"}}}}
        if r.random() < 0.4:
            service["volumes"] = ["data:/data"]
        if r.random() < 0.3:
            service["ports"] = [f"{self.ports[project.slot]}:80"]
        if r.random() < 0.3 or sick:
            service["healthcheck"] = {"test": ["CMD", "false" if sick else "true"], "interval": "1s" if sick else "20s", "timeout": "60s",
                                      "retries": 2 if sick else 20, "start_period": "0s" if sick else "1m"}
        if r.random() < 0.3:
            service["networks"] = ["default", "inner"]
        return service

    def compose(self, project, sick):
        services = {"one": self.service(project, sick)}
        if self.random.random() < 0.35:
            services["two"] = {k: v for k, v in self.service(project).items() if k not in ("ports", "volumes")}
            services["two"]["environment"] = {"FILLER": "x" * self.random.choice((0, 1500))}  # large ones travel by the hub
        return {"services": services, "volumes": {"data": {"driver_opts": {"size": "64M"}}}, "networks": {"inner": {}},
                "x-croft": {"keep": "1s", "update": self.random.choice(("parallel", "replace")), "scratch": "64M"}}

    def put(self, project, kind, sick):
        what = self.compose(project, sick)
        if kind == "deploy":
            project.generation += 1
        cwd = self.node.project(name=project.name, **what)
        more = ("--update", project.id) if kind == "update" else ()
        done = json.loads(project.croft("deploy", "compose.yml", "--node", self.node.number, "--blobs", self.grid.hub.folder,
                                        "--no-wait", *more, cwd=cwd).out)
        project.id = done["reservation"]
        project.revision += 1
        if kind == "deploy":
            project.revision = 1
        if sick:
            project.failing = (project.id, project.revision)
        else:
            project.wants, project.running = sorted(what["services"]), project.revision

    def change(self, project):
        if project.wants is None:
            kind = "deploy"
        else:
            kind = self.random.choice(("update", "update", "cancel"))
        sick = kind != "cancel" and self.random.random() < 0.12
        self.changes[kind] += 1
        if kind == "cancel":
            self.cancel(project)
        else:
            self.put(project, kind, sick)
        return f"{kind}{' that fails' if sick else ''} of {project.name}"

    def cancel(self, project):
        project.croft("reservation", "cancel", project.id)
        project.over.append(project.id)
        project.wants = None

    # -- faults

    def fault(self, kind):
        n, r = self.node, self.random
        self.faults[kind] += 1
        time.sleep(r.random() * 6)
        if kind == "kill":
            for daemon in r.sample(DAEMONS, r.choice((1, 1, 2))):
                n.agent.kill(daemon)
        elif kind == "everyone":
            for daemon in r.sample(DAEMONS, len(DAEMONS)):
                n.agent.kill(daemon)
        elif kind == "hang":
            daemon = r.choice(DAEMONS)
            n.agent.kill(daemon, 19)
            time.sleep(5 + r.random() * 5)
            n.agent.kill(daemon, 18)
        elif kind == "chain":
            n.proxy.blackhole()
            time.sleep(5 + r.random() * 15)
            n.proxy.heal()
        elif kind == "relay":
            self.grid.relay.kill()
            time.sleep(r.random() * 10)
            self.grid.relay.start()
        elif kind == "hub":
            self.grid.hub.away = True
            time.sleep(5 + r.random() * 10)
            self.grid.hub.away = False
        elif kind == "cut":
            written, lost = n.machine.cut()[0]
            self.lost[0] += written
            self.lost[1] += lost
            n.machine.start()
            n.agent.boot_id(180)
            self.boots += 1

    # -- what must be

    def left(self):
        """What is not yet as it must be; empty when chain and node agree with what was asked for."""
        wrong = []
        entries = self.node.entries()
        for p in self.projects:
            mine = [e for e in entries if e["reservation"] == p.id and e["step"] not in ("ended", "refused")]
            shown = self.grid.reservation(p.id) if p.id and (p.wants or p.failing or p.over) else None
            if p.failing:
                states = {t["revision"]: t for t in shown["transitions"]}
                if states.get(p.failing[1], {}).get("state", "").lower() != "failed":
                    wrong.append(f"{p.name}: revision {p.failing[1]} has not failed: {states.get(p.failing[1])}")
                    continue
                if states[p.failing[1]]["reason"] != "container.unhealthy":
                    raise Wrong(f"{p.name} failed for {states[p.failing[1]]['reason']}")
            if p.wants:
                if shown["state"].lower() != "active" or shown["revision"] != p.running:
                    # Twice: anvil changes its state a moment before it counts the block, so that one look may see the half of an update.
                    if shown["state"].lower() in ("failed", "closed", "cancelled") and p.ended:
                        raise Wrong(f"{p.name} is {shown['state']}: {shown['reason']}")
                    p.ended = shown["state"].lower() in ("failed", "closed", "cancelled")
                    wrong.append(f"{p.name}: {shown['state']} revision {shown['revision']}, wanted {p.running}")
                    continue
                p.ended = False
                if [(e["revision"], e["step"]) for e in mine] != [(p.running, "running")]:
                    wrong.append(f"{p.name}: the node has {[(e['revision'], e['step']) for e in mine]}, wanted {p.running}")
                elif sorted((s["service"], s["state"]) for s in mine[0]["services"]) != [(s, "running") for s in p.wants]:
                    wrong.append(f"{p.name}: {mine[0]['services']}")
            elif mine:
                wrong.append(f"{p.name}: the node still has {[(e['revision'], e['step']) for e in mine]}")
        return wrong or self.remains()

    def remains(self):
        """What the makers have of reservations that are over, or of revisions that do not run."""
        call = self.node.agent.varlink
        runs = {p.id: p.running for p in self.projects if p.wants}
        net = call("netd", "List")
        found = [("container", c["reservation"], c["revision"]) for c in call("contd", "List")["containers"]]
        found += [("mount", m["reservation"], m["revision"]) for m in call("imaged", "List")["mounts"]]
        found += [("attachment", a["reservation"], a["revision"]) for a in net["attachments"]]
        found += [("network", x["reservation"], runs.get(x["reservation"])) for x in net["networks"] + net["ports"]]
        for v in call("storaged", "ListVolumes")["volumes"]:
            if v["key"].startswith("scratch/"):
                found.append(("scratch", *map(int, v["key"].split("/")[1:3])))
        return [f for f in found if f[2] is None or runs.get(f[1]) != f[2]]

    def settle(self, timeout=300):
        end, tell = time.monotonic() + timeout * paths.SCALE, time.monotonic() + 60
        left = ["nothing was asked yet"]
        while True:
            try:
                left = self.left()
                if not left:
                    break
            except (lab_agent.AgentError, lab_agent.Varlink) as e:
                left = [str(e)]  # a daemon is on its way back
            if time.monotonic() > end:
                raise Wrong("it does not settle:\n" + "\n".join(map(str, left)))
            if time.monotonic() > tell:
                say("waits for:", *map(str, left[:3]))
                tell += 60
            time.sleep(0.5)
        for p in self.projects:
            if p.failing:
                self.failed_as_wanted += 1
            p.failing, p.over = None, []

    def once(self):
        """Of every revision the chain knows each state at most once."""
        for p in self.projects:
            if p.id:
                told = collections.Counter((t["revision"], t["state"]) for t in self.grid.reservation(p.id)["transitions"])
                twice = [t for t, n in told.items() if n > 1]
                if twice:
                    raise Wrong(f"{p.name}: told twice: {twice}")

    # -- looks at what is left

    def rest(self):
        for p in self.projects:
            if p.wants:
                self.changes["cancel"] += 1
                self.cancel(p)
        self.settle()
        self.kept_is_gone()
        look = levels.everything(self.node.agent)
        look["boot"], look["changes"] = self.boots, sum(self.changes.values())
        self.rests.append(look)
        (self.work / "looks.jsonl").open("a").write(json.dumps({**look, "programs": {f"{n}-{p}": v for (n, p), v in look["programs"].items()}}) + "\n")
        say("rest", len(self.rests), {n: (v["memory"], v["descriptors"]) for (n, _), v in look["programs"].items()})
        if len(self.rests) > WARM:
            wrong = traces.difference(self.rests[WARM - 1]["traces"], look["traces"])
            wrong.pop("processes", None) if not wrong.get("processes", {}).get("new") else None
            if wrong:
                raise Wrong("left behind: " + json.dumps(wrong, indent=1)[:6000])

    def kept_is_gone(self):
        """The volumes of cancelled projects are kept for a second and then go."""
        lab_node.wait_for(lambda: not [v for v in self.node.agent.varlink("storaged", "ListVolumes")["volumes"]
                                       if v["key"].startswith(("volume/", "scratch/"))], 120, "volumes stay after their time")

    def grown(self):
        """What grew within one life of a program, or one boot, between the first and the last look at it after the warm-up."""
        found = []
        first, last = {}, {}
        for look in self.rests[1:]:
            for (name, pid), v in look["programs"].items():
                key = (look["boot"], name, pid)
                first.setdefault(key, (look["changes"], v))
                last[key] = (look["changes"], v)
        for key, (changes, v) in first.items():
            until, w = last[key]
            if w["memory"] - v["memory"] > GROWTH_KIB or w["descriptors"] - v["descriptors"] > GROWTH_DESCRIPTORS:
                found.append(f"{key[1]} (boot {key[0]}): {v} grew to {w} in {until - changes} changes")
        for boot in {look["boot"] for look in self.rests}:
            of_boot = [look for look in self.rests if look["boot"] == boot][1:]
            for name in of_boot[0]["kernel"] if len(of_boot) > 1 else ():
                a, b = of_boot[0]["kernel"][name], of_boot[-1]["kernel"][name]
                if b - a > (GROWTH_KERNEL_KIB if name[0].isupper() else GROWTH_OBJECTS):
                    found.append(f"kernel, {name} (boot {boot}): {a} grew to {b}")
        return found

    # -- the whole

    def round(self, number):
        kind = self.random.choices(list(FAULTS), FAULTS.values())[0]
        at = [time.monotonic()]
        did = [self.change(p) for p in self.random.sample(self.projects, WIDTH - self.random.randrange(5))]
        at.append(time.monotonic())
        if kind != "none":
            self.fault(kind)
        at.append(time.monotonic())
        self.settle()
        at.append(time.monotonic())
        self.once()
        at.append(time.monotonic())
        spent = " + ".join(f"{b - a:.0f}" for a, b in zip(at, at[1:]))
        say(f"round {number}, {kind}, {spent} s:", "; ".join(did))

    def run(self):
        number = 0
        while sum(self.changes.values()) < COUNT and time.monotonic() - START < MINUTES * 60:
            number += 1
            self.round(number)
            if number % REST == 0:
                self.rest()
        self.rest()
        return self.grown()

    def page(self):
        total = sum(self.changes.values())
        lines = [f"{total} changes ({', '.join(f'{n} {k}s' for k, n in sorted(self.changes.items()))}; {self.failed_as_wanted} of them failed as "
                 f"they should), seed {SEED}, {(time.monotonic() - START) / 60:.0f} minutes, {self.boots} power cuts in which {self.lost[1]} of "
                 f"{self.lost[0]} writes that were not flushed were lost.", "",
                 "Faults: " + ", ".join(f"{k} {n}" for k, n in self.faults.items()) + ".", "",
                 "| program | memory at rest, KiB: first, median, last look | descriptors: first, median, last |", "|---|---|---|"]
        for name in DAEMONS + ("core0",):
            seen = [v for look in self.rests[1:] for (n, _), v in look["programs"].items() if n == name]
            if seen:
                cell = [" / ".join(str(x) for x in (seen[0][k], round(statistics.median(v[k] for v in seen)), seen[-1][k]))
                        for k in ("memory", "descriptors")]
                lines.append(f"| {name} | {cell[0]} | {cell[1]} |")
        return "\n".join(lines)


def main():
    say(f"COUNT={COUNT} SEED={SEED} MINUTES={MINUTES:.0f}")
    week, wrong = Week(folder("week")), []
    try:
        wrong = week.run()
    except (Wrong, AssertionError, lab_agent.AgentError, lab_agent.Varlink, cli.CliError, TimeoutError) as e:
        wrong = [f"{type(e).__name__}: {e}"]
        try:
            (week.work / "ledger.json").write_text(json.dumps(week.node.entries(), indent=1))
            for d in DAEMONS + ("core0", "kernel"):
                lines = week.node.agent.varlink("core0", "GetLog", service=d, tail=300)["lines"]
                (week.work / f"{d}.log").write_text("\n".join(f"{x['time']} {x['text']}" for x in lines))
        except Exception as more:  # the machine may be what is wrong
            wrong.append(f"and its logs could not be had: {more}")
    finally:
        page = week.page()
        week.stop()
    print(page)
    print("\n".join(wrong) or "Nothing was wrong: nothing grew, and nothing was left behind.")
    sys.exit(bool(wrong))


START = time.monotonic()
if __name__ == "__main__":
    main()
