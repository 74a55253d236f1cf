"""What becomes of a workload when the chain's mind changes: it is not paid, paid again, cancelled at each step of its way, its
update withdrawn or cancelled half way. What needs no machine is in tests/relay/test_life.py."""
import contextlib
import json
import threading

import pytest

from lab import node as lab_node, traces
from lab.node import wait_for

SECONDS = 215  # about, for the order in which files start

BILLER = 4  # account of the grid
STOP = {"stop_grace_period": "1s"}
# Every step that a first deployment passes and at which provd can be held; test_faults.py keeps the list complete.
STEPS = ["fetch", "open", "pull", "deploying", "network", "volume", "scratch", "prepare", "attach", "mount", "names",
         "depends", "start", "healthy", "expose", "settle", "active"]


def web(port, greeting="hello", **more):
    return {**STOP, "image": "busybox", "ports": [f"{port}:80"], "volumes": ["data:/data"],
            "command": ["sh", "-c", f"echo started >> /data/starts; echo line of {greeting}; while :; do "
                        f"{{ printf 'HTTP/1.0 200 OK\\r\\n\\r\\n{greeting}\\n'; cat /data/starts; }} | nc -l -p 80; done"],
            **more}


def starts(url):
    return lab_node.get(url).split().count("started")


class Background:
    """`croft deploy` on its way, as it waits until the reservation runs."""

    def __init__(self, node, services, **options):
        self.answer = None
        self.thread = threading.Thread(target=self._run, args=(node, services, options), daemon=True)
        self.thread.start()

    def _run(self, node, services, options):
        self.answer = node.try_deploy(services, **options)

    def end(self, timeout=120):
        self.thread.join(timeout)
        assert self.answer, "croft deploy does not end"
        return self.answer[1]


def newest(node):
    return max([r["reservation"] for r in node.grid.tenant().json("reservation", "list")], default=0)


def begun(node, before):
    return wait_for(lambda: (n := newest(node)) > before and n, 60, "no reservation was made")


def kept(node, project):
    """The volume of a project, as storaged has it."""
    return next((v for v in node.agent.varlink("storaged", "ListVolumes")["volumes"]
                 if v["key"].startswith("volume/") and v["key"].endswith(f"/{project}/data")), None)


def containers(node, number):
    return {(c["revision"], c["service"]): c for c in node.agent.varlink("contd", "List")["containers"]
            if c["reservation"] == number}


def left(node, number):
    """What the node still has of a reservation, but for its named volumes."""
    return lab_node.Deployed(node, None, {"reservation": number})._left()


def gone(node, number):
    wait_for(lambda: not left(node, number), 120, f"reservation {number} leaves something")


@pytest.fixture
def biller(node):
    """The farm has one; its words."""
    grid = node.grid
    address = grid.accounts[BILLER]
    grid.farmer.run("farm", "biller", grid.farm, address)
    yield lambda verb, number: grid.cli(BILLER).json("reservation", verb, number)
    grid.farmer.run("farm", "biller", grid.farm, "none")


def test_not_paid_and_paid_again(node, biller):
    port = node.ports[0]
    url = f"http://127.0.0.1:{port}/"
    last, mark = newest(node), node.machine.mark()
    node.grid.hub.paths.clear()
    deploy = Background(node, {"web": web(port)}, name="money", volumes={"data": {}})
    number = begun(node, last)
    state = node.grid.reservation(number)["state"]
    assert state == "Approved"
    node.machine.wait("block", 60, mark)  # provd has heard of it
    assert not [e for e in node.entries() if e["reservation"] == number] and not node.grid.hub.paths
    biller("fund", number)
    assert deploy.end().status == 0
    assert starts(url) == 1
    pid = containers(node, number)[1, "web"]["pid"]

    # Grace changes nothing for who runs, whoever restarts meanwhile.
    biller("grace", number)
    mark = node.machine.mark()
    node.agent.varlink("core0", "RestartService", name="provd")
    node.machine.wait_service("provd", 60, mark)
    wait_for(lambda: any(e["chainState"] == 6 for e in node.entries() if e["reservation"] == number), 60, "no Grace")
    wait_for(lambda: all(e["step"] == "running" for e in node.entries() if e["reservation"] == number), 60, "not running")
    biller("fund", number)
    wait_for(lambda: any(e["chainState"] == 5 for e in node.entries() if e["reservation"] == number), 60, "not Active")
    assert containers(node, number)[1, "web"]["pid"] == pid and starts(url) == 1

    # Suspended: everything goes but the volume, which nobody counts down.
    biller("grace", number)
    biller("suspend", number)
    gone(node, number)
    assert not lab_node.answers(url)
    volume = kept(node, "money")
    assert volume and volume.get("keepUntil") is None, volume
    node.reboot()
    wait_for(lambda: node.status()["state"] == "running", 60, "provd has no chain")
    assert not left(node, number) and kept(node, "money").get("keepUntil") is None
    assert node.grid.reservation(number)["state"] == "Suspended"

    # Paid again: the same revision is deployed anew, with its volume, and says so to the chain once more.
    biller("fund", number)
    node.grid.wait_reservation(number, "active", 180)
    assert starts(url) == 2
    states = [t["state"] for t in node.grid.reservation(number)["transitions"]]
    assert states == ["Proposed", "Approved", "Funded", "Deploying", "Active", "Grace", "Active", "Grace", "Suspended",
                      "Funded", "Deploying", "Active"]

    # An update that is under way when it is not paid ends; the service that was stopped for it comes back.
    slow = web(port, "slow", healthcheck={"test": ["CMD", "false"], "interval": "1s", "timeout": "60s", "retries": 1000})
    update = Background(node, {"web": slow}, name="money", volumes={"data": {}})
    wait_for(lambda: node.grid.reservation(number).get("candidate", {}).get("state") == "Approved", 60, "no update")
    biller("fund", number)
    wait_for(lambda: containers(node, number).get((2, "web"), {}).get("state") == "running", 120, "no second revision")
    assert containers(node, number)[1, "web"]["state"] == "exited"
    biller("grace", number)
    done = update.end()
    assert done.status == 3 or done.status == 1, done
    wait_for(lambda: (1, "web") in containers(node, number) and (2, "web") not in containers(node, number)
             and containers(node, number)[1, "web"]["state"] == "running", 120, "the first revision does not come back")
    assert lab_node.get(url).startswith("hello") and starts(url) == 4  # the update's own start is the third
    assert node.grid.reservation(number)["state"] == "Grace"
    biller("suspend", number)
    gone(node, number)
    node.grid.tenant().run("reservation", "cancel", number)
    assert wait_for(lambda: kept(node, "money").get("keepUntil"), 60, "the volume's time does not begin")


def test_an_update_withdrawn_half_way(node):
    """Its service has the old one's volume and is never healthy: the old one is back afterwards, with its ports, and no two
    of them wrote at once."""
    port = node.ports[1]
    url = f"http://127.0.0.1:{port}/"
    before = traces.collect(node.agent)
    with node.deployed({"web": web(port)}, name="withdrawn", volumes={"data": {}}) as it:
        with_it = traces.plain(traces.collect(node.agent))
        assert starts(url) == 1
        slow = web(port, "slow", healthcheck={"test": ["CMD", "false"], "interval": "1s", "timeout": "60s", "retries": 1000})
        update = Background(node, {"web": slow}, name="withdrawn", volumes={"data": {}})
        wait_for(lambda: containers(node, it.id).get((2, "web"), {}).get("state") == "running", 120, "no second revision")
        node.grid.tenant().run("reservation", "withdraw", it.id)
        assert update.end().status != 0
        wait_for(lambda: set(containers(node, it.id)) == {(1, "web")}
                 and containers(node, it.id)[1, "web"]["state"] == "running", 120, "the first revision does not come back")
        assert starts(url) == 3 and it.show()["state"] == "Active"
        wait_for(lambda: all(e["step"] == "running" for e in node.entries() if e["reservation"] == it.id), 60, "not running")
        wrong = traces.difference(with_it, traces.plain(traces.collect(node.agent)))
        wrong.pop("processes", None)
        assert not wrong, json.dumps(wrong, indent=1)

        # Cancelled while an update is under way: both revisions go.
        update = Background(node, {"web": slow}, name="withdrawn", volumes={"data": {}})
        wait_for(lambda: containers(node, it.id).get((3, "web"), {}).get("state") == "running", 120, "no third revision")
        it.cancel()
        assert update.end().status != 0
        assert not lab_node.answers(url)
    wrong = traces.difference(before, traces.collect(node.agent))
    wrong.pop("processes", None)
    assert [k for k in wrong] in ([], ["subvolumes"]), json.dumps(wrong, indent=1)


def test_services_that_do_not_want_to_end_hold_up_nobody(node):
    """Three want an hour to end. Their reservation is cancelled: they are asked together, the port is free at once, a neighbour
    comes and goes meanwhile, and half a minute is all they get; what they use stays until then."""
    port = node.ports[3]
    url = f"http://127.0.0.1:{port}/"
    deaf = {"image": "busybox", "stop_grace_period": "1h", "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}
    services = {name: dict(deaf) for name in ("one", "two", "three")}
    services["one"].update(ports=[f"{port}:80"], volumes=["disk:/data"])
    before = traces.collect(node.agent)
    it = node.deploy(services, name="deaf", volumes={"disk": {"driver_opts": {"size": "64M", "filesystem": "ext4"}}})
    node.grid.tenant().run("reservation", "cancel", it.id)
    wait_for(lambda: {c["state"] for c in containers(node, it.id).values()} == {"stopping"}
             and len(containers(node, it.id)) == 3, 60, "they are not asked together")
    # A contd that comes meanwhile reads the hour from the disk, and is told of the half minute again.
    mark = node.machine.mark()
    assert node.agent.kill("contd") >= 1
    node.machine.wait_service("contd", 60, mark)
    wait_for(lambda: {c["state"] for c in containers(node, it.id).values()} == {"stopping"}, 60, "contd's successor does not know that they are to go")
    with node.deployed({"web": web(port)}, name="neighbour", volumes={"data": {}}):
        assert starts(url) == 1
    gone(node, it.id)
    disk = next(v for v in node.agent.varlink("storaged", "ListVolumes")["volumes"] if v["key"].endswith("/deaf/disk"))
    assert not disk.get("holder"), disk
    wrong = traces.difference(before, traces.collect(node.agent))
    wrong.pop("processes", None)
    assert set(wrong) <= {"subvolumes"}, json.dumps(wrong, indent=1)


@contextlib.contextmanager
def held(node, step):
    """provd stands still before that step of the next deployment, and goes on at the end."""
    point = f"/run/croft/fault/provd.{step}.before"
    node.agent.sh("chmod 777 /run/croft/fault")
    node.agent.write(point, "hold")
    try:
        yield lambda: wait_for(lambda: not node.agent.exists(point), 90, f"provd does not come to {step}")
    finally:
        node.agent.kill("provd", 18)  # SIGCONT
        node.agent.sh("rm -f /run/croft/fault/*")


def test_cancelled_at_each_step_of_its_deployment(node):
    """provd is held before the step, the tenant cancels, and provd goes on without knowing. The node's reports that come late
    change nothing, and nothing stays but the volume."""
    port = node.ports[2]
    services = {"web": web(port), "peer": {**STOP, "image": "busybox", "command": ["sleep", "100000"],
                                           "depends_on": {"web": {"condition": "service_started"}}}}
    with node.deployed(services, name="each", volumes={"data": {}}):
        pass  # makes the volume, so that every round leaves the same
    before = traces.collect(node.agent)
    for step in STEPS:
        last = newest(node)
        with held(node, step) as reached:
            deploy = Background(node, services, name="each", volumes={"data": {}})
            number = begun(node, last)
            reached()
            node.grid.tenant().run("reservation", "cancel", number)
        assert deploy.end().status != 0, step
        gone(node, number)
        shown = node.grid.reservation(number)
        states = [t["state"] for t in shown["transitions"]]
        # Before `deploying` the chain saw nothing of it, after it one Deploying; never anything after Closed.
        wanted = ["Proposed", "Approved", "Funded", "Closed"]
        if STEPS.index(step) > STEPS.index("deploying"):
            wanted.insert(3, "Deploying")
        assert states in (wanted, ["Proposed", "Approved", "Funded", "Closed"]), (step, states)
        assert not lab_node.answers(f"http://127.0.0.1:{port}/"), step
    wait_for(lambda: node.agent.varlink("noded", "GetStatus")["pending"] == 0, 60, "reports wait")
    wrong = traces.difference(before, traces.collect(node.agent))
    wrong.pop("processes", None)
    assert not wrong, json.dumps(wrong, indent=1)
