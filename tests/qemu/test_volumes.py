"""Volumes on a real disk: limits and numbers to the byte, resizing, snapshots, and what is left when storaged is killed."""
import contextlib
import threading
import time

import pytest

from lab import machine as lab_machine
from lab.agent import AgentError, Varlink
from lab.node import wait_for

SECONDS = 85  # about, for the order in which files start

MIB = 1 << 20
KEY = "volume/0x00000000000000000000000000000000000000aa/shop/data"


@pytest.fixture(scope="module")
def m(session_logs):
    """One machine with one disk for the whole file."""
    disk = lab_machine.disk_create(session_logs / "volumes.img", 2048, "own")
    with lab_machine.Machine(session_logs / "volumes", ("runmode=dev",), disks=[disk]) as started:
        started.wait_service("storaged", 120)
        yield started


def ask(m, method, **parameters):
    return m.agent.varlink("storaged", method, **parameters)


def pool(m):
    return ask(m, "GetStatus")["pools"][0]


def of(m, key=KEY):
    """The volume, with everything written counted."""
    m.agent.run("/croft-test/busybox", "sync")
    return next((v for v in ask(m, "ListVolumes")["volumes"] if v["key"] == key), None)


def names(m, key=KEY):
    return [s["name"] for s in ask(m, "ListSnapshots", key=key)["snapshots"]]


@contextlib.contextmanager
def refused(code):
    with pytest.raises(Varlink) as refusal:
        yield
    assert refusal.value.parameters["code"] == code, refusal.value.parameters


@pytest.fixture
def make(m):
    """make(key, size, …) → its folder; everything made goes at the end."""
    made = []

    def ensure(key=KEY, size=64 * MIB, **more):
        made.append(key)
        return ask(m, "EnsureVolume", key=key, kind=pool(m)["kind"], size=size, **more)
    yield ensure
    for key in made:
        ask(m, "RemoveVolume", key=key)


def write(m, path, mib):
    return m.agent.run("/croft-test/busybox", "dd", "if=/dev/urandom", f"of={path}", "bs=1M", f"count={mib}",
                       "conv=notrunc,fsync", check=False, timeout=120)


def adds_up(p):
    return p["size"] == p["reserved"] + p["free"] + p["own"] + p["overhead"]


def test_the_numbers_add_up_and_nothing_is_promised_twice(m, make):
    before, status = pool(m), ask(m, "GetStatus")
    assert adds_up(before), before
    assert {k: status[k] for k in ("ssd", "hdd")} == {"ssd": 0, "hdd": 0, before["kind"]: before["reserved"] + before["free"]}
    path = make(size=100 * MIB + 1)["path"]
    now = pool(m)
    assert adds_up(now) and now["reserved"] - before["reserved"] == 100 * MIB + 1, now
    assert now["free"] == before["free"] - 100 * MIB - 1
    assert ask(m, "GetStatus")[now["kind"]] == status[now["kind"]]  # what the chain hears of
    other = KEY + "2"
    with refused("storage.no-space"):
        make(other, now["free"] + 1)
    with refused("storage.no-space"):
        make(size=100 * MIB + 2 + now["free"])
    make(other, now["free"])  # the last byte
    full = pool(m)
    assert adds_up(full) and full["free"] == 0 and full["reserved"] == before["reserved"] + before["free"]
    with refused("storage.no-space"):
        make(size=100 * MIB + 2)
    with refused("storage.no-space"):
        make(KEY + "3", MIB)
    assert pool(m) == full | {"used": pool(m)["used"]}
    ask(m, "RemoveVolume", key=other)
    # What is written is the volume's to the byte, and nobody else's.
    empty, at_first = of(m), pool(m)
    assert empty["used"] == 0
    assert write(m, f"{path}/x", 8).status == 0
    written, then = of(m), pool(m)
    assert written["used"] == 8 * MIB, written
    assert then["usedByVolumes"] - at_first["usedByVolumes"] == 8 * MIB
    assert then["used"] - at_first["used"] >= 8 * MIB
    assert then["reserved"] == at_first["reserved"]


def test_resize(m, make):
    path = make(size=16 * MIB)["path"]
    assert write(m, f"{path}/x", 12).status == 0
    assert write(m, f"{path}/y", 8).status != 0  # beyond the limit
    m.agent.run("/croft-test/busybox", "rm", f"{path}/y")
    make(size=32 * MIB)
    assert of(m)["size"] == 32 * MIB
    assert write(m, f"{path}/y", 12).status == 0
    used = of(m)["used"]
    assert used == 24 * MIB
    with refused("storage.too-small"):
        ask(m, "ResizeVolume", key=KEY, size=used - 1)
    assert of(m)["size"] == 32 * MIB
    ask(m, "ResizeVolume", key=KEY, size=used + MIB)
    assert write(m, f"{path}/z", 4).status != 0
    m.agent.run("/croft-test/busybox", "rm", f"{path}/z", f"{path}/y")
    wait_for(lambda: of(m)["used"] == 12 * MIB, 60, "the space of removed files")
    free = pool(m)["free"]
    ask(m, "ResizeVolume", key=KEY, size=12 * MIB)
    assert pool(m)["free"] == free + 13 * MIB
    make(size=8 * MIB, atLeast=True)  # as after a restart of provd: not smaller than it is
    assert of(m)["size"] == 12 * MIB
    with refused("storage.not-found"):
        ask(m, "ResizeVolume", key=KEY + "9", size=MIB)
    shown = m.agent.run("croft", "volume", "list", "--json").out
    assert KEY in shown and '"size":12582912' in shown
    m.agent.run("croft", "volume", "resize", KEY, "20M")
    assert of(m)["size"] == 20 * MIB


def digest(m, path):
    return m.agent.run("/croft-test/busybox", "md5sum", path).out.split()[0]


def test_snapshots(m, make):
    path = make(size=64 * MIB, snapshotEvery=3600000, snapshotKeep=3)
    folder, path = path["snapshots"], path["path"]
    write(m, f"{path}/x", 8)
    old, used = digest(m, f"{path}/x"), of(m)["used"]
    m.agent.run("croft", "volume", "snapshot", KEY, "--name", "one")
    assert of(m)["used"] == used, "a snapshot itself costs the tenant nothing"
    write(m, f"{path}/x", 8)
    new = digest(m, f"{path}/x")
    assert new != old and digest(m, f"{folder}/one/x") == old
    assert of(m)["used"] >= used + 8 * MIB  # what only the snapshot has counts too
    assert m.agent.run("/croft-test/busybox", "touch", f"{folder}/one/y", check=False).status != 0
    with refused("storage.snapshot-exists"):
        ask(m, "SnapshotVolume", key=KEY, name="one")
    for bad in ("auto-x", "../x", "", "A"):
        with refused("storage.bad-snapshot"):
            ask(m, "SnapshotVolume", key=KEY, name=bad)
    with refused("storage.no-snapshot"):
        ask(m, "RestoreSnapshot", key=KEY, name="two")
    # A container that has it mounted is not robbed of it.
    m.agent.sh(f"mkdir -p /run/there && mount --bind {path} /run/there")
    with refused("storage.volume-in-use"):
        ask(m, "RestoreSnapshot", key=KEY, name="one")
    m.agent.sh("umount /run/there")
    assert digest(m, f"{path}/x") == new
    ask(m, "RestoreSnapshot", key=KEY, name="one")
    assert digest(m, f"{path}/x") == old and names(m) == ["one"]
    wait_for(lambda: of(m)["used"] == used, 60, "the space of what was replaced")
    # The limit is still that of the volume.
    assert write(m, f"{path}/y", 80).status != 0
    m.agent.run("/croft-test/busybox", "rm", f"{path}/y")
    ask(m, "RemoveSnapshot", key=KEY, name="one")
    ask(m, "RemoveSnapshot", key=KEY, name="one")
    wait_for(lambda: of(m)["used"] == 8 * MIB, 60, "the space of the snapshot")
    scratch = "scratch/1/1/web"
    make(scratch, MIB)
    with refused("storage.no-snapshots"):
        ask(m, "SnapshotVolume", key=scratch)


def test_a_policy_makes_and_takes_away(m, make):
    for bad in ({"snapshotEvery": 999, "snapshotKeep": 1}, {"snapshotEvery": 1000}, {"snapshotEvery": 1000,
                                                                                    "snapshotKeep": 129}):
        with refused("storage.bad-snapshot"):
            make(**bad)
    make(snapshotEvery=1000, snapshotKeep=2)
    ask(m, "SnapshotVolume", key=KEY, name="mine")

    def automatic():
        return [n for n in names(m) if n.startswith("auto-")]
    wait_for(lambda: len(automatic()) == 2, 60, "two snapshots")
    first = automatic()
    half = m.agent.sh("ls /run/croft/pools/*/roster").out.split()[0] + ".GjlaoD"  # as one that was killed while it wrote leaves
    m.agent.write(half, "half")
    mark = m.mark()
    m.agent.kill("storaged")  # the timer is the next one's too
    m.wait_service("storaged", 60, mark)
    assert not m.agent.exists(half)
    wait_for(lambda: len(automatic()) == 2 and not set(automatic()) & set(first), 60, "newer ones")
    volume = of(m)
    assert (volume["snapshotEvery"], volume["snapshotKeep"]) == (1000, 2)
    # A volume that is only kept stays as it is.
    ask(m, "KeepVolume", key=KEY, until=int(time.time()) + 1000)
    last = automatic()
    m.agent.run("/croft-test/busybox", "sleep", "2.5")
    assert automatic() == last
    make()
    assert names(m) == ["mine"] and "snapshotEvery" not in of(m)


def dies(m, point, method, **parameters):
    """storaged is killed at that point of the method, and comes back."""
    m.agent.sh(f"touch /run/croft/fault/storaged.{point}")
    mark = m.mark()
    with pytest.raises((AgentError, Varlink)):
        ask(m, method, **parameters)
    assert not m.agent.exists(f"/run/croft/fault/storaged.{point}"), point
    m.wait_service("storaged", 60, mark, state="backoff")
    m.agent.varlink("core0", "StartService", name="storaged")  # not after a pause that grows with every death
    m.wait_service("storaged", 60, mark)


def dies_with_its_child(m, point, method, **parameters):
    """storaged is killed while its child stands at that point, and comes back."""
    m.agent.write(f"/run/croft/fault/storaged.{point}", "hold")
    mark = m.mark()
    asking = threading.Thread(target=lambda: dies_asking(m, method, **parameters), daemon=True)
    asking.start()
    m.wait("fault", 60, mark, point=point)
    m.agent.kill("storaged")
    m.wait_service("storaged", 60, mark, state="backoff")
    m.agent.varlink("core0", "StartService", name="storaged")
    m.wait_service("storaged", 60, mark)
    asking.join(60)
    assert not asking.is_alive()


def dies_asking(m, method, **parameters):
    with contextlib.suppress(AgentError, Varlink):
        m.agent.varlink("storaged", method, **parameters)


def test_killed_at_every_step(m, make):
    """What was asked for is there or not, never half; asked for again it is done."""
    path = make(size=32 * MIB)["path"]
    write(m, f"{path}/x", 4)
    old = digest(m, f"{path}/x")
    for point in ("snapshot.made", "snapshot.counted"):
        dies_with_its_child(m, point, "SnapshotVolume", key=KEY, name=point.replace(".", "-"))
        assert point.replace(".", "-") in names(m)
        assert of(m)["used"] == 4 * MIB
        # The child alone: the call says that it was cut off, and what was made counts as it should.
        m.agent.sh(f"touch /run/croft/fault/storaged.{point}")
        with refused("storage.failed"):
            ask(m, "SnapshotVolume", key=KEY, name="alone")
        assert "alone" in names(m) and of(m)["used"] == 4 * MIB
        ask(m, "RemoveSnapshot", key=KEY, name="alone")
    dies(m, "snapshot.removed", "RemoveSnapshot", key=KEY, name="snapshot-made")
    assert names(m) == ["snapshot-counted"]
    wait_for(lambda: of(m)["used"] == 4 * MIB, 60, "the removed snapshot's block")
    write(m, f"{path}/x", 4)
    new = digest(m, f"{path}/x")
    for point in ("restore.made", "restore.described", "restore.exchanged"):
        dies(m, point, "RestoreSnapshot", key=KEY, name="snapshot-counted")
        assert digest(m, f"{path}/x") == (old if point == "restore.exchanged" else new), point
        assert of(m)["size"] == 32 * MIB
        assert m.agent.run("/croft-test/busybox", "ls", "-A", path + "/..").out.split() == [path.split("/")[-1]]
    wait_for(lambda: of(m)["used"] == 4 * MIB, 60, "the space of what was replaced")
    for point, size, result in (("resize.described", 40, 40), ("resize.limited", 8, 40), ("resize.described", 16, 16)):
        dies(m, point, "ResizeVolume", key=KEY, size=size * MIB)
        assert of(m)["size"] == result * MIB, (point, size)
        assert adds_up(pool(m))
        over = write(m, f"{path}/y", result - 3)
        assert over.status != 0, "the limit is what the volume says"
        m.agent.run("/croft-test/busybox", "rm", f"{path}/y")
        assert write(m, f"{path}/y", result - 5).status == 0
        m.agent.run("/croft-test/busybox", "rm", f"{path}/y")
        wait_for(lambda: of(m)["used"] == 4 * MIB, 60, "the space of removed files")
    dies(m, "volume.removed", "RemoveVolume", key=KEY)
    assert of(m) is None
    left = m.agent.run("/croft-test/busybox", "ls", "-A", pool(m)["path"] + "/snapshots").out
    assert not left.strip(), left


def test_after_a_reboot(m, make):
    volume = make(size=48 * MIB, snapshotEvery=3600000, snapshotKeep=5)
    write(m, f"{volume['path']}/x", 4)
    content = digest(m, f"{volume['path']}/x")
    ask(m, "SnapshotVolume", key=KEY, name="kept")
    before, numbers = of(m), pool(m)
    mark = m.mark()
    m.power_off()
    m.start()
    m.wait_service("storaged", 120, mark)
    assert of(m) == before
    now = pool(m)
    assert adds_up(now) and (now["reserved"], now["free"]) == (numbers["reserved"], numbers["free"])
    assert names(m) == ["kept"] and digest(m, f"{volume['snapshots']}/kept/x") == content
    assert write(m, f"{volume['path']}/y", 46).status != 0
