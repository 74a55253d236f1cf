"""A machine whose clock is wrong by years, and nobody corrects it: it says so, registers, runs what it is told to, keeps what it
promised to keep, and ends nothing because of a time that it does not know."""
import time

import pytest

from lab import machine, node as lab_node
from lab.node import wait_for

SECONDS = 30  # about, for the order in which files start
YEARS = {"behind": "2001-01-01T00:00:00", "ahead": "2037-01-01T00:00:00"}
USER_NET = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56"]
WRITER = {"web": {"image": "busybox", "stop_grace_period": "1s", "volumes": ["data:/data"],
                  "command": ["sh", "-c", "echo started >> /data/starts; cat /data/starts; sleep 100000"]}}


def rtc(when):
    return [*USER_NET, "-rtc", f"base={when}"]


def clock(node):
    return int(node.agent.sh("date +%s").out)


def starts(node, reservation):
    lines = node.agent.varlink("contd", "GetLog", reservation=reservation, revision=1, service="web", tail=-1, since=0,
                               follow=False)["lines"]
    return [line["line"] for line in lines].count("started")


@pytest.fixture(scope="module")
def years(grid, images, session_logs):
    """One node with one disk, booted with its clock in the past first, and then in the future."""
    disk = machine.disk_create(session_logs / "disk-clock.img", 8 << 10, "clock")
    with lab_node.Node(grid, session_logs / "node-clock", images, disks=[disk], memory=1536, net=rtc(YEARS["behind"])) as n:
        yield n.start()


def said(node, word):
    status = wait_for(lambda: node.status().get("code") == "node.clock-wrong" and node.status(), 60, "the clock is not noticed")
    assert word in status["detail"] and status["state"] == "running", status
    wait_for(lambda: "node.clock-wrong" in node.machine.console, 30, "node.clock-wrong is not on the console")
    assert node.agent.varlink("netd", "GetStatus")["time"] == "unsynchronised"


def test_a_clock_of_long_ago(years):
    """It begins with the day the image was built; the node joins, and a reservation runs and ends as always."""
    built = years.agent.json("/run/croft/boot.json")["buildTime"]
    assert built <= clock(years) < built + 3600
    if time.time() - built > 2 * 3600:
        said(years, "behind")
    assert years.grid.node(years.number)["state"].lower() == "active"
    with years.deployed(WRITER, name="kept", volumes={"data": {}}) as it:
        wait_for(lambda: starts(years, it.id) == 1, 30, "it does not run")


def test_a_clock_of_years_ahead(years):
    """What is kept for a day is not thrown away because the clock says that the day is over, and a proposal is not too late. Reports
    go on, at their pace."""
    kept = [v["key"] for v in years.agent.varlink("storaged", "ListVolumes")["volumes"] if v["key"].startswith("volume/")]
    assert len(kept) == 1
    mark = years.machine.mark()
    years.machine.power_off()
    years.machine.net = rtc(YEARS["ahead"])
    years.machine.start()
    years.machine.wait_service("provd", 180, mark)
    assert clock(years) > time.time() + 9 * 365 * 86400
    said(years, "ahead")
    years.machine.wait("swept", 120, mark, service="provd")
    volumes = years.agent.varlink("storaged", "ListVolumes")["volumes"]
    assert kept[0] in [v["key"] for v in volumes], volumes
    nonce = years.agent.varlink("noded", "GetStatus")["nonce"]
    with years.deployed(WRITER, name="kept", volumes={"data": {}}) as it:
        wait_for(lambda: starts(years, it.id) == 2, 30, "the volume is not the one that was kept")
        assert it.show()["state"].lower() == "active"
    # A report for each of Deploying and Active; none because of a day that passed in a moment.
    wait_for(lambda: years.agent.varlink("noded", "GetStatus")["pending"] == 0, 60, "reports do not reach the chain")
    assert years.agent.varlink("noded", "GetStatus")["nonce"] - nonce <= 4
