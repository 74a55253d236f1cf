"""Fixtures of the tests that boot machines: a log folder per test, kept on failure; one grid (chain,
contracts, relay, hub) and one node for the whole session; images made once."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "qemu"))
from lab import cli, grid as lab_grid, machine, netns, node as lab_node, paths, ports  # noqa: E402

machine.PACKED = False
_failed = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        _failed.append(item.nodeid)
        item.stash[FAILED] = True
        report.sections += [(f"Last words of {m.folder.name}", m.last_words()) for m in list(machine.RUNNING)]


FAILED = pytest.StashKey()
_layout = paths.BUILD / "tests/oci"


def pytest_collection_finish(session):
    """Once it is known what runs: fetch what needs the outside, then leave it behind."""
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or not used & {"logs", "grid", "session_logs"}:
        return
    paths.BUILD.mkdir(exist_ok=True)
    with open(paths.BUILD / "tests.lock", "w") as lock:  # other files' tests may start at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "images" in used:
            subprocess.run([paths.ROOT / "scripts/oci-nginx", _layout], check=True)
        if "grid" in used:
            lab_grid.chain_tools()
        paths.agent()
    netns.enter()


def _folder(name):
    folder = paths.LOGS / re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def logs(request):
    """The test's own folder for logs, disks and sockets; it stays when the test fails."""
    folder = _folder(request.node.nodeid.split("qemu/")[-1])
    yield folder
    if not request.node.stash.get(FAILED, False):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def boot(logs):
    """boot(params…, **options) starts a machine of the test's own."""
    machines = []

    def start(*params, **options):
        folder = logs / f"machine{len(machines)}" if machines else logs / "machine"
        m = machine.Machine(folder, params, **options)
        machines.append(m)
        return m.start()
    yield start
    for m in machines:
        m.stop()


@pytest.fixture(scope="session")
def session_logs():
    # Several sessions may run in one checkout, so each has a folder of its own. Those of one `make test` are kept together.
    for old in paths.LOGS.glob("session-*"):
        if "CROFT_TEST_RUN" not in os.environ and not pathlib.Path("/proc", old.name.split("-")[1]).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = _folder(f"session-{os.getpid()}")
    yield folder
    if not _failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def grid(session_logs):
    with lab_grid.Grid(session_logs / "grid") as g:
        yield g.start()


@pytest.fixture(scope="session")
def world():
    """Hosts of the internet and of every closed range, as a guest sees them."""
    w = netns.World()
    yield w
    w.stop()


@pytest.fixture(scope="session")
def images(grid, session_logs):
    """The images of the tests in the grid's hub: name -> id."""
    convert = cli.Cli({}, session_logs)
    return {name: convert.json("image", "convert", f"oci:{_layout}:{name}", "--output",
                               grid.hub.folder, timeout=300)["id"] for name in ("nginx", "busybox")}


@pytest.fixture(scope="session")
def node(grid, images, session_logs):
    """The session's node: one disk, registered by a token, its chain behind node.proxy. node.ports
    are TCP ports that reach it under the same number from outside."""
    # Large, as the chain counts a kept volume as reserved until its time is over; sparse, so it costs nothing.
    disk = machine.disk_create(session_logs / "disk.img", 64 << 10, "session")
    free = [ports.free() for _ in range(6)]
    with lab_node.Node(grid, session_logs / "node", images, forwards={p: p for p in free},
                       disks=[disk], memory=1536) as n:
        n.ports = free
        yield n.start()
