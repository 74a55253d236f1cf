"""Fixtures of the network tests: a farm per test, and one with two reservations for tests that only look."""
import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import netlab  # noqa: E402


def make():
    lab = netlab.Lab(tempfile.mkdtemp(prefix="croft-net-"))
    lab.farm()
    return lab


@pytest.fixture
def lab():
    lab = make()
    yield lab
    log = lab.folder / "netd.log"
    if log.exists():
        print(log.read_text()[-4000:])
    lab.close()


@pytest.fixture(scope="module")
def farm():
    """A node online, reservation 1 with services a and b, reservation 2 with c; a publishes 8080 on tcp and udp."""
    lab = make()
    lab.dhcp(*lab.RA)
    lab.start()
    lab.online()
    lab.a = lab.container(1, "a")
    lab.b = lab.container(1, "b")
    lab.c = lab.container(2, "c")
    lab.call("Expose", reservation=1, ports=[netlab.port(8080, "a"), netlab.port(8080, "a", protocol="udp")],
             names=[{"network": "default", "name": s, "revision": 1, "service": s} for s in ("a", "b")])
    yield lab
    lab.close()
