"""provd's fault points: files that make it kill itself beside one of its steps."""


def arm(node, steps):
    """provd dies before and after each of the steps, once; returns the points."""
    # A start that was asked for begins core0's back-off anew, which doubles with every death.
    mark = node.machine.mark()
    node.agent.varlink("core0", "RestartService", name="provd")
    node.machine.wait_service("provd", 60, mark)
    node.agent.sh("mkdir -p /run/croft/fault; chmod 777 /run/croft/fault")
    points = [f"/run/croft/fault/provd.{step}.{when}" for step in steps for when in ("before", "after")]
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
    node.agent.sh("rmdir /run/croft/fault", check=False)
