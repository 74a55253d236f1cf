"""netd killed at any moment: the next one finds what it made, completes it, and removes what nobody asked for."""
import json
import os
import random
import re
import signal
import threading
import time

import pytest

from netlab import INTERNET, Namespace, Refused, port
from test_ports import Held

SECONDS = 70  # about, for the order in which files start


def picture(lab):
    """Everything that netd made in the kernel, comparable between runs."""
    links = lab.node.sh("ip -d -o link show | grep -E ' c[bv][0-9a-f]+[@:]'", check=False)
    links = sorted(re.sub(r"^\d+: |@if\d+|master \S+ state|link-netnsid \d+|(?<=\s)(min_|max_|forward_|hello|gc|tcn|topology|fdb|bridge_id|designated|root)\S* \S+",
                          " ", line).split(" numtxqueues")[0].split(" bridge ")[0] for line in links.splitlines())
    addresses = sorted(re.sub(r"^\d+: |valid_lft.*", "", line) for line in lab.node.sh("ip -o addr").splitlines()
                       if " cb" in line)
    return lab.ruleset(), [re.sub(r"\s+", " ", line) for line in links], addresses, lab.call("List")


def build(lab, spaces):
    """Two reservations; every call may be repeated."""
    for reservation, network, internal in ((1, "default", False), (1, "back", True), (2, "default", False)):
        lab.call("EnsureNetwork", reservation=reservation, network=network, internal=internal)
    for reservation, service, network in ((1, "a", "default"), (1, "a", "back"), (1, "b", "default"), (2, "c", "default")):
        lab.call("Attach", reservation=reservation, revision=1, service=service, network=network,
                 netns=spaces[service].path)
    lab.call("Expose", reservation=1, ports=[port(8080, "a"), port(8081, "b", protocol="udp")],
             names=[{"network": "default", "name": "b", "revision": 1, "service": "b"}])
    lab.call("Expose", reservation=2, ports=[port(8082, "c")], names=[])


def ready(lab):
    lab.dhcp(*lab.RA)
    lab.start()
    lab.online()
    return {name: Namespace(lab, name) for name in "abc"}


def test_a_killed_netd_finds_everything_and_no_connection_suffers(lab):
    spaces = ready(lab)
    build(lab, spaces)
    spaces["a"].serve()
    before = picture(lab)
    held, out = Held(lab.lanhost, lab.addresses()[0], 8080), Held(spaces["b"], INTERNET[0], 7000)
    for how in (signal.SIGKILL, signal.SIGTERM):
        lab.stop(how)
        assert held.lives() and out.lives(), "while no netd runs"
        lab.spawn_netd()
        lab.online()
        assert picture(lab) == before
        assert held.lives() and out.lives()
        build(lab, spaces)
        assert picture(lab) == before, "the same calls again change something"


def test_the_order_of_calls_does_not_show(lab):
    """Who came back first after trouble says nothing about rules: the same wishes, the same rules."""
    spaces = ready(lab)
    build(lab, spaces)
    wanted = picture(lab)
    for gone in ((1,), (2,), (1, 2), (2, 1)):
        for reservation in gone:
            lab.call("RemoveReservation", reservation=reservation)
        build(lab, spaces)
        assert picture(lab) == wanted, gone


@pytest.mark.parametrize("seed", range(6))
def test_killed_in_the_middle_it_ends_where_an_undisturbed_run_does(lab, seed):
    """Kills at moments spread over the work, again and again, then compares with a run that nobody disturbed."""
    spaces = ready(lab)
    build(lab, spaces)
    wanted = picture(lab)
    for reservation in (1, 2):
        lab.call("RemoveReservation", reservation=reservation)
    chance = random.Random(seed)
    kills = 0
    deadline = time.monotonic() + 30
    while kills < 8:
        assert time.monotonic() < deadline
        victim = lab.netd
        timer = threading.Timer(chance.random() * 0.04, lambda: victim.send_signal(signal.SIGKILL))
        timer.start()
        try:
            while victim.poll() is None:
                build(lab, spaces)
                for reservation in (2, 1) if chance.random() < 0.5 else (1,):
                    lab.call("RemoveReservation", reservation=reservation)
        except (ConnectionError, FileNotFoundError, Refused, json.JSONDecodeError) as e:
            assert not isinstance(e, Refused), e
        timer.join()
        lab.netd.wait(10)
        kills += 1
        lab.spawn_netd()
    lab.online()
    build(lab, spaces)
    assert picture(lab) == wanted
    for reservation in (1, 2):
        lab.call("RemoveReservation", reservation=reservation)
    assert lab.call("List") == {"networks": [], "attachments": [], "ports": []}
    assert " cb" not in lab.node.sh("ip -o link") and " cv" not in lab.node.sh("ip -o link")


def test_leftovers_that_nobody_asked_for_are_removed(lab):
    spaces = ready(lab)
    build(lab, spaces)
    wanted = picture(lab)
    lab.stop(signal.SIGKILL)
    lab.node.sh("ip link add cb0123456789a type bridge; ip link add cv0123456789a type veth peer name x9")
    lab.spawn_netd()
    lab.online()
    assert picture(lab) == wanted


def test_a_new_namespace_for_the_same_instance_is_plugged_in(lab):
    """contd made the container's namespace anew while the old one is still held by somebody."""
    spaces = ready(lab)
    build(lab, spaces)
    old = next(a for a in lab.call("List")["attachments"] if a["service"] == "b")
    fresh = Namespace(lab, "b2")
    now = lab.call("Attach", reservation=1, revision=1, service="b", network="default", netns=fresh.path)["attachment"]
    assert now == old
    assert "eth0" not in spaces["b"].sh("ip -o link")
    assert fresh.reaches(INTERNET[0])


def test_an_attachment_whose_namespace_is_gone_is_not_listed_and_comes_back(lab):
    spaces = ready(lab)
    build(lab, spaces)
    old = next(a for a in lab.call("List")["attachments"] if a["service"] == "b")
    spaces["b"].kill()
    lab.wait(lambda: not [a for a in lab.call("List")["attachments"] if a["service"] == "b"], "still listed")
    fresh = Namespace(lab, "b2")
    now = lab.call("Attach", reservation=1, revision=1, service="b", network="default", netns=fresh.path)["attachment"]
    assert now == old and fresh.reaches(INTERNET[0])


def test_requests_that_make_no_sense(lab):
    spaces = ready(lab)
    who = {"reservation": 1, "revision": 1, "service": "a"}
    for parameters, code in (
            ({**who, "network": "default", "netns": spaces["a"].path}, "net.no-network"),
            ({**who, "network": "x" * 64, "netns": "/"}, "net.bad-request"),
            ({**who, "reservation": 0, "network": "default", "netns": "/"}, "net.bad-request"),
            ({**who, "service": "A b", "network": "default", "netns": "/"}, "net.bad-request")):
        with pytest.raises(Refused) as refused:
            lab.call("Attach", **parameters)
        assert refused.value.code == code
    lab.call("EnsureNetwork", reservation=1, network="default", internal=False)
    for path in ("/nowhere", "/etc/passwd", f"/proc/{os.getpid()}/ns/mnt"):
        with pytest.raises(Refused) as refused:
            lab.call("Attach", **who, network="default", netns=path)
        assert refused.value.code == "net.bad-namespace"
    with pytest.raises(Refused) as refused:
        lab.call("EnsureNetwork", reservation=1, network="default", internal=True)
    assert refused.value.code == "net.conflict"
    lab.call("Detach", **who)
    lab.call("RemoveReservation", reservation=99)


def test_a_damaged_list_is_said_and_begun_anew(lab):
    spaces = ready(lab)
    build(lab, spaces)
    lab.stop(signal.SIGKILL)
    (lab.folder / "state.json").write_text('{"ula":1,"networks":[{"reservation":"x"}]}')
    lab.spawn_netd()
    lab.online()
    assert lab.call("List")["networks"] == []
    assert "cannot be read" in (lab.folder / "netd.log").read_text()
    build(lab, spaces)
    assert spaces["a"].reaches(INTERNET[0])
