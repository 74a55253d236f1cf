"""provd killed at each of its own fault points: afterwards everything is as in an undisturbed run."""
import json

import pytest

from lab import faults, traces
from lab.node import wait_for

SECONDS = 245  # about, for the order in which files start

# Neither shell nor sleep ends on SIGTERM as a namespace's first process.
STOP = {"stop_grace_period": "1s"}
SERVICES = {
    "web": {**STOP, "image": "busybox", "volumes": ["data:/data"],
            "command": ["sh", "-c", "while :; do echo here | nc -l -p 80; done"],
            # Patient, as the machine that emulates the node may be busy.
            "healthcheck": {"test": ["CMD", "true"], "interval": "500ms", "timeout": "60s", "retries": 10,
                            "start_period": "1m"}},
    "peer": {**STOP, "image": "busybox", "command": ["sleep", "100000"],
             "depends_on": {"web": {"condition": "service_healthy"}}},
}
# Steps that a first deployment passes, in provd's order, those of an update that fails, and those that other
# tests cross; a step that is new in provd's table fails the test below until it is sorted in.
FIRST = ["fetch", "open", "pull", "deploying", "network", "volume", "scratch", "prepare", "attach", "mount",
         "names", "depends", "start", "healthy", "expose", "settle", "active"]
FAILING = ["quiesce", "resume", "failed"]
ELSEWHERE = {"disk", "plug",  # test_vdisk.py
             "space", "settle-disk", "settle-space"}  # test_kv_workload.py


def services(node):
    return {name: {**s, "ports": [f"{node.ports[3]}:80"]} if name == "web" else s
            for name, s in SERVICES.items()}


@pytest.fixture(scope="module")
def undisturbed(node):
    """The traces of a deployment that nothing disturbed, and of the node before."""
    before = traces.collect(node.agent)
    with node.deployed(services(node), name="calm", volumes={"data": {}}):
        with_it = traces.collect(node.agent)
    node.agent.varlink("storaged", "ListVolumes")
    return traces.plain(before), traces.plain(with_it)


def test_the_steps_are_those_of_provds_table(node):
    assert set(node.agent.varlink("provd", "ListSteps")["steps"]) == {*FIRST, *FAILING, *ELSEWHERE}


def only_first_runs(node, number):
    entries = [e for e in node.entries() if e["reservation"] == number and e["step"] not in ("ended", "refused")]
    scratch = [v["key"] for v in node.agent.varlink("storaged", "ListVolumes")["volumes"]
               if v["key"].startswith(f"scratch/{number}/2/")]
    return (not scratch and [e["revision"] for e in entries] == [1]
            and all(s["state"] == "running" for s in entries[0]["services"]))


def same(undisturbed, node):
    wrong = traces.difference(undisturbed[1], traces.plain(traces.collect(node.agent)))
    wrong.pop("processes", None)
    assert not wrong, json.dumps(wrong, indent=1)


@pytest.mark.parametrize("steps", [FIRST[i:i + 2] for i in range(0, len(FIRST), 2)], ids="-".join)
def test_killed_before_and_after_two_steps(node, undisturbed, steps):
    """Four deaths in one deployment: before and after each of two steps."""
    points, mark = faults.arm(node, steps), node.machine.mark()
    with node.deployed(services(node), name="calm", volumes={"data": {}}) as it:
        assert it.answer["state"].lower() == "active"
        faults.died(node, points, mark)
        same(undisturbed, node)
    # The chain saw each state once.
    states = [t["state"] for t in it.show()["transitions"]]
    assert len(states) == len(set(map(str, states))), states


def test_killed_at_each_step_of_an_update_that_fails(node, undisturbed):
    """The service that writes the volume is stopped for its successor, which is never healthy, and started
    again; provd dies before and after each of those steps."""
    sick = services(node)
    sick["web"] = {**sick["web"], "healthcheck": {"test": ["CMD", "false"], "interval": "500ms",
                                                  "timeout": "60s", "retries": 2}}
    with node.deployed(services(node), name="calm", volumes={"data": {}}) as it:
        points, mark = faults.arm(node, FAILING), node.machine.mark()
        _, done = node.try_deploy(sick, name="calm", volumes={"data": {}})
        assert done.status == 1 and "unhealthy" in done.out + done.err, done
        node.machine.wait("process", 120, mark, reservation=it.id, revision=1, service="web")
        # The candidate's remains go once its failure is final, two blocks later.
        wait_for(lambda: only_first_runs(node, it.id), 120, "the first revision does not run alone again")
        faults.died(node, points, mark)
        assert it.show()["state"].lower() == "active"
        same(undisturbed, node)
