"""Fault points of the node's daemons (core0/lib/fault.h): files that make a daemon kill itself beside one of its steps, or stand still there.

The folder is made by core0 and stays: each daemon sees it since its start, and would not see another one in its place."""
import signal

from . import agent as lab_agent, paths

FOLDER = "/run/croft/fault"
DAEMONS = ("netd", "storaged", "imaged", "contd", "noded", "provd")


def _fresh(node, *daemons):
    """A start that was asked for begins core0's back-off anew, which doubles with every death."""
    for daemon in daemons:
        mark = node.machine.mark()
        node.agent.varlink("core0", "RestartService", name=daemon)
        node.machine.wait_service(daemon, 60, mark)
    node.agent.sh(f"chmod 777 {FOLDER}")


def arm(node, steps):
    """provd dies before and after each of the steps, once; returns the points."""
    _fresh(node, "provd")
    points = [f"{FOLDER}/provd.{step}.{when}" for step in steps for when in ("before", "after")]
    for point in points:
        node.agent.write(point, "")
    return points


def died(node, points, mark):
    """Every point was passed, and provd really died there."""
    left = [p for p in points if node.agent.exists(p)]
    assert not left, left
    deaths = [e for e in node.machine.events[mark:]
              if e["event"] == "service" and e.get("name") == "provd" and e["state"] == "backoff"]
    assert len(deaths) >= len(points), deaths


def hold(node, points):
    """Daemons stop at these points ("provd.pull.before"), once each."""
    node.agent.sh(f"chmod 777 {FOLDER}")
    for point in points:
        node.agent.write(f"{FOLDER}/{point}", "hold")


def held(node, mark, point, timeout=120):
    """Waits until the daemon stands still at that point."""
    program, name = point.split(".", 1)
    return node.machine.wait("fault", timeout, mark, service=program, point=name)


def kill(node, *daemons):
    """kill -9 of each, as soon as it is back from the last time."""
    from .node import wait_for
    for daemon in daemons:
        wait_for(lambda d=daemon: node.agent.kill(d), 25, f"there is no {daemon} to kill")


def go_on(node, point):
    """Continues the daemon, once it has really stopped itself."""
    program = point.split(".", 1)[0]
    node.agent.sh(f"until grep -q 'State:.*T' /proc/$(pidof {program} | cut -d' ' -f1)/status; do :; done")
    node.agent.kill(point.split(".", 1)[0], signal.SIGCONT)


def wait_back(node, timeout=120):
    """Until every daemon answers again and provd believes its chain."""
    from .node import wait_for

    def back():
        try:
            for daemon, method in (("netd", "List"), ("storaged", "ListVolumes"), ("imaged", "List"), ("contd", "List"),
                                   ("noded", "GetStatus")):
                node.agent.varlink(daemon, method, 10 / paths.SCALE)
            return node.status()["state"] == "running"
        except (lab_agent.AgentError, lab_agent.Varlink):
            return False
    wait_for(back, timeout, "the daemons do not come back")
