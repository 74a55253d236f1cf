"""The harness itself, with a machine that has nothing but our kernel and the test agent as init."""
import struct

import pytest

from lab import agent, machine

SECONDS = 10  # about, for the order in which files start


@pytest.fixture
def bare(boot):
    return boot("rdinit=/croft-test/agent", files={"greeting": ("from the archive\n", 0o640)})


def test_agent_serves_every_request(bare):
    """One boot, all operations, each with its failure."""
    a = bare.agent
    assert len(a.boot_id()) == 36
    assert a.text("/greeting") == "from the archive\n"
    assert a.run("/croft-test/busybox", "cat", stdin=b"x" * 300_000).out == "x" * 300_000
    done = a.sh("echo out; echo err >&2; exit 7", check=False)
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")
    with pytest.raises(agent.AgentError, match="status 7"):
        a.sh("exit 7")
    with pytest.raises(agent.AgentError, match="No such file"):
        a.run("/missing")
    with pytest.raises(agent.AgentError, match="No such file"):
        a.read("/missing")
    assert a.run("/croft-test/busybox", "sleep", "60", timeout=0.5, check=False).status == 124
    assert a.sh("sleep 60 & echo early").out == "early\n"
    assert a.kill("sleep") == 1
    assert a.kill("nobody") == 0
    a.write("/new", b"\0\1", 0o751)
    assert a.read("/new") == b"\0\1" and a.sh("stat -c %a /new").out == "751\n"
    links = a.netlink(0, struct.pack("<IHHII", 20, 18, 0x301, 1, 0) + bytes(4))
    assert b"lo\0" in links


def test_a_missing_event_is_a_failure_with_the_console(bare):
    bare.agent.sh("echo the last words > /dev/console")
    with pytest.raises(machine.MachineError, match="the last words"):
        bare.wait("never", 0.5)


def test_events_are_lines_of_json(bare):
    write = ("for p in /sys/class/virtio-ports/*; do read n < $p/name; "
             "[ $n = org.croft.events ] && echo '%s' > /dev/${p##*/}; done; true")
    bare.agent.sh(write % "{not json")
    bare.agent.sh(write % '{"t":1,"service":"x","event":"seen"}')
    assert bare.wait("seen", 5)["service"] == "x"
    assert bare.garbled == [b"{not json\n"]
