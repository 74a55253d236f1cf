"""A disk that is slow, and a tenant who has written much more than it takes: only who asks for that data waits for it. And a disk that
stops answering while its pool is mounted: only what lies on it waits."""
import threading

import pytest

from lab import machine as lab_machine
from lab.agent import Varlink
from lab.node import wait_for

SECONDS = 150  # about, for the order in which files start

MIB = 1 << 20
FULL = "volume/0x00000000000000000000000000000000000000aa/shop/full"
OTHER = "volume/0x00000000000000000000000000000000000000bb/shop/other"
DIRTY = 80  # MiB that are in memory only
SLOW = 512 << 10  # bytes that the disk then writes in a second
QUEUE = 4  # requests, of 128 KiB, that wait inside of the disk: a real one's few also hold up who comes after them


class Call(threading.Thread):
    """A call of storaged that may take its time."""

    def __init__(self, m, method, **parameters):
        super().__init__(daemon=True)
        self.ask, self.answer, self.error = lambda: m.agent.varlink("storaged", method, timeout=600, **parameters), None, None
        self.start()

    def run(self):
        try:
            self.answer = self.ask()
        except Varlink as e:
            self.error = e

    def ended(self):
        """Waits; its answer."""
        self.join(600)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.answer


def throttle(m, rate, disk="disk0", reads=0):
    """Bytes that the disk writes and reads in a second; 0: as many as it can."""
    m.qmp("block_set_io_throttle", device=disk, bps=0, bps_rd=reads, bps_wr=rate, iops=0, iops_rd=0, iops_wr=0)


@pytest.fixture
def m(boot, logs):
    disk = lab_machine.disk_create(logs / "own.img", 2048, "own")
    started = boot("runmode=dev", disks=[disk])
    started.wait_service("storaged", 120)
    return started


def dirty(m):
    """Bytes that are not on the disk."""
    words = m.agent.sh("grep -E '^(Dirty|Writeback):' /proc/meminfo").out.split()
    return (int(words[1]) + int(words[4])) << 10


def ask(m, method, **parameters):
    return m.agent.varlink("storaged", method, timeout=600, **parameters)


def fill(m):
    """A volume of which more is in memory than the disk takes in a minute."""
    kind = ask(m, "GetStatus")["pools"][0]["kind"]
    path = ask(m, "EnsureVolume", key=FULL, kind=kind, size=256 * MIB)["path"]
    m.agent.sh(f"echo 128 >/sys/block/vda/queue/max_sectors_kb; echo {QUEUE} >/sys/block/vda/queue/nr_requests")
    throttle(m, SLOW)
    m.agent.sh(f"dd if=/dev/urandom of={path}/x bs=1M count={DIRTY}")
    return kind


def others(m, kind):
    """Every call about another tenant's volume, one after the other; yields the name of each once it was answered."""
    for what, more in (("EnsureVolume", {"kind": kind, "size": 64 * MIB}), ("KeepVolume", {"until": 2000000000}), ("ResizeVolume", {"size": 128 * MIB}),
                       ("SnapshotVolume", {"name": "one"}), ("RemoveSnapshot", {"name": "one"}), ("RemoveVolume", {})):
        ask(m, what, key=OTHER, **more)
        yield what


def test_nobody_waits_for_data_of_another(m):
    """One after the other, while all of it is in memory."""
    kind = fill(m)
    for what in others(m, kind):
        assert dirty(m) > DIRTY * MIB // 4, f"{what} waited until it was written, or the test began too late"


@pytest.mark.parametrize(("method", "parameters"), [("SnapshotVolume", {"name": "one"}), ("ResizeVolume", {"size": 128 * MIB})])
def test_nobody_waits_with_who_waits_for_it(m, method, parameters):
    kind = fill(m)
    waits = Call(m, method, key=FULL, **parameters)
    ask(m, "GetStatus")
    ask(m, "EnsureVolume", key=OTHER, kind=kind, size=64 * MIB)
    assert waits.is_alive(), "it had ended before the other's volume was made"
    with pytest.raises(Varlink) as e:
        m.agent.varlink("storaged", "RemoveVolume", timeout=0, key=FULL)
    assert e.value.parameters["code"] == "storage.busy"
    throttle(m, 0)
    waits.ended()
    volume = next(v for v in ask(m, "ListVolumes")["volumes"] if v["key"] == FULL)
    assert volume["used"] >= DIRTY * MIB and volume["size"] == parameters.get("size", 256 * MIB)
    ask(m, "RemoveVolume", key=FULL)


# ---- a disk that stops


def volumes(m):
    return {v["key"]: v for v in ask(m, "ListVolumes")["volumes"]}


def code_of(m, method, **parameters):
    """The code with which the call is refused at once, or None."""
    try:
        m.agent.varlink("storaged", method, timeout=0, **parameters)
    except Varlink as e:
        return e.parameters["code"]
    return None


def test_a_disk_that_stops_answering_takes_only_what_lies_on_it(boot, logs):
    disks = [lab_machine.disk_create(logs / f"{name}.img", 2048, name) for name in ("one", "two")]
    m = boot("runmode=dev", disks=disks)
    m.wait_service("storaged", 120)
    pools = {p["uuid"]: p for p in ask(m, "GetStatus")["pools"]}
    kind = next(iter(pools.values()))["kind"]
    assert len(pools) == 2 and all(p["kind"] == kind for p in pools.values())
    keys = [FULL + str(i) for i in range(4)]
    for key in keys:
        ask(m, "EnsureVolume", key=key, kind=kind, size=256 * MIB)
    second = next(p for p in pools.values() if not p["primary"])
    there = [key for key, v in volumes(m).items() if v["pool"] == second["uuid"]]
    assert 0 < len(there) < len(keys)
    m.agent.sh(f"echo kept >{volumes(m)[there[0]]['path']}/x; sync")

    mark, pid = m.mark(), m.agent.sh("pidof storaged").out
    disk = "disk" + str("ab".index(second["disk"][-1]))
    throttle(m, 1, disk, 1)
    # From the moment that a look at it is late nobody is sent there.
    wait_for(lambda: code_of(m, "RemoveSnapshot", key=there[0], name="none") == "storage.busy", 60, "it is never late")
    list(others(m, kind))  # everybody else goes on: each call is answered
    assert not m.find("pool", mark, uuid=second["uuid"]), "it was silent already: the test shows nothing"
    m.wait("pool", 200, mark, uuid=second["uuid"], state="does not answer")
    listed = volumes(m)
    assert {k for k, v in listed.items() if v.get("error") == "storage.disk-failed"} == set(there)
    assert [p["uuid"] for p in ask(m, "GetStatus")["pools"]] == [u for u in pools if u != second["uuid"]]
    assert {d["name"]: d["detail"] for d in ask(m, "GetStatus")["disks"]}[second["disk"]] == "does not answer"
    for method, parameters in (("EnsureVolume", {"kind": kind, "size": 256 * MIB}), ("ResizeVolume", {"size": 512 * MIB})):
        with pytest.raises(Varlink) as e:
            ask(m, method, key=there[0], **parameters)
        assert e.value.parameters["code"] == "storage.disk-failed"
    list(others(m, kind))  # everybody else goes on: each call is answered

    throttle(m, 0, disk)
    m.wait("pool", 60, mark, uuid=second["uuid"], state="pool")
    assert not [v for v in volumes(m).values() if v.get("error")]
    assert not ask(m, "EnsureVolume", key=there[0], kind=kind, size=256 * MIB)["created"]
    assert m.agent.text(volumes(m)[there[0]]["path"] + "/x") == "kept\n"
    assert m.agent.sh("pidof storaged").out == pid
