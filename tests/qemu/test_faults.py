"""provd killed at each of its own fault points: afterwards everything is as in an undisturbed run."""
import json

import pytest

from lab import traces

SECONDS = 350  # about, for the order in which files start

SERVICES = {
    "web": {"image": "busybox", "volumes": ["data:/data"],
            "command": ["sh", "-c", "while :; do echo here | nc -l -p 80; done"],
            # Patient, as the machine that emulates the node may be busy.
            "healthcheck": {"test": ["CMD", "true"], "interval": "500ms", "timeout": "60s", "retries": 10,
                            "start_period": "1m"}},
    "peer": {"image": "busybox", "command": ["sleep", "100000"],
             "depends_on": {"web": {"condition": "service_healthy"}}},
}
# Steps that a first deployment passes, in provd's order. What `ListSteps` has beyond these belongs to
# updates and failures; a step that is new in provd's table fails the test below until it is sorted in.
FIRST = ["fetch", "open", "pull", "deploying", "network", "volume", "scratch", "prepare", "attach", "mount",
         "names", "depends", "start", "healthy", "expose", "active"]
OTHERS = {"quiesce", "resume", "failed"}


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
    assert set(node.agent.varlink("provd", "ListSteps")["steps"]) == set(FIRST) | OTHERS


@pytest.mark.parametrize("steps", list(zip(FIRST[::2], FIRST[1::2], strict=True)), ids="-".join)
def test_killed_before_and_after_two_steps(node, undisturbed, steps):
    """Four deaths in one deployment: before and after each of two steps."""
    node.agent.sh("mkdir -p /run/croft/fault; chmod 777 /run/croft/fault")
    points = [f"/run/croft/fault/provd.{step}.{when}" for step in steps for when in ("before", "after")]
    for point in points:
        node.agent.write(point, "")
    mark = node.machine.mark()
    with node.deployed(services(node), name="calm", volumes={"data": {}}) as it:
        assert it.answer["state"].lower() == "active"
        # Every point was passed, and provd really died there.
        assert not any(node.agent.exists(p) for p in points)
        deaths = [e for e in node.machine.events[mark:]
                  if e["event"] == "service" and e.get("name") == "provd" and e["state"] == "backoff"]
        assert len(deaths) >= len(points), deaths
        node.agent.sh("rmdir /run/croft/fault", check=False)
        here = traces.plain(traces.collect(node.agent))
        wrong = traces.difference(undisturbed[1], here)
        wrong.pop("processes", None)
        assert not wrong, json.dumps(wrong, indent=1)
    # The chain saw each state once.
    states = [t["state"] for t in it.show()["transitions"]]
    assert len(states) == len(set(map(str, states))), states
