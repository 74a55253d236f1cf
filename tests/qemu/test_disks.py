"""Every kind of disk in one machine: what each is taken for, disks that come, go, move and fail, and what their health says."""
import json
import subprocess

import pytest

from lab import agent as lab_agent, machine as lab_machine

SECONDS = 25  # about, for the order in which files start

CLI = "/usr/bin/croft"


def status(m):
    return m.agent.varlink("storaged", "GetStatus")


def disks(m):
    return {d["serial"]: d for d in status(m)["disks"]}


def pools(m):
    return {p["disk"]: p for p in status(m)["pools"]}


def pool_of(m, serial):
    return pools(m)[disks(m)[serial]["name"]]


def ensure(m, name, kind, size=64 << 20):
    key = f"volume/0x{1:040x}/disks/{name}"
    return key, m.agent.varlink("storaged", "EnsureVolume", 60, key=key, kind=kind, size=size)["path"]


def volumes(m):
    return {v["key"]: v for v in m.agent.varlink("storaged", "ListVolumes")["volumes"]}


def croft(m, *words):
    done = m.agent.run(CLI, *words, "--json", check=False, timeout=120)
    return done.status, json.loads(done.out if done.status == 0 else done.err)


@pytest.fixture(scope="module")
def rack(session_logs):
    folder = session_logs / "disks"
    folder.mkdir()

    def disk(serial, kind, options="", megabytes=512):
        return lab_machine.disk_create(folder / f"{serial}.img", megabytes, serial, kind, options)
    foreign = disk("foreign", "sata")
    subprocess.run(["/sbin/mkfs.ext4", "-q", foreign.path], check=True)
    own = [disk("nvme", "nvme", megabytes=2048), disk("spinning", "sata", "rotation_rate=7200"),
           disk("silent", "sata"), disk("flash", "scsi", "rotation_rate=1"), disk("turning", "scsi", "rotation_rate=10000"),
           disk("virtio", "virtio"), disk("stick", "usb"), foreign]
    with lab_machine.Machine(folder / "machine", ["runmode=dev"], disks=own, slots=2) as m:
        m.folder_of_disks, m.disk = folder, disk
        m.wait_service("storaged", 180)
        yield m


def test_each_disk_is_told_apart(rack):
    """By what it says of itself, and by the kernel where it says nothing; a USB disk is not asked for and stays as it is."""
    seen = disks(rack)
    assert {s: (d["bus"], d["kind"], d["state"]) for s, d in seen.items()} == {
        "nvme": ("nvme", "ssd", "pool"), "spinning": ("sata", "hdd", "pool"), "silent": ("sata", "hdd", "pool"),
        "flash": ("scsi", "ssd", "pool"), "turning": ("scsi", "hdd", "pool"), "virtio": ("virtio", "hdd", "pool"),
        "stick": ("usb", "hdd", "ignored"), "foreign": ("sata", "hdd", "foreign")}
    for serial, word in (("nvme", "device ssd"), ("spinning", "device hdd"), ("silent", "device nothing"), ("flash", "device ssd")):
        assert word in seen[serial]["basis"] and "measured" in seen[serial]["basis"], seen[serial]
    assert pool_of(rack, "nvme")["primary"]


def test_health(rack):
    """Where a device tells it: NVMe and ATA do in QEMU, SCSI and virtio do not, and then it is unknown rather than good."""
    seen = disks(rack)
    assert {s: d["health"] for s, d in seen.items()} == {
        "nvme": "good", "spinning": "good", "silent": "good", "foreign": "good",
        "flash": "unknown", "turning": "unknown", "virtio": "unknown", "stick": "unknown"}
    assert seen["nvme"]["temperature"] == 50 and seen["nvme"]["hours"] == 0 and seen["nvme"]["worn"] == 0
    assert seen["spinning"]["temperature"] == 31, seen["spinning"]


def test_a_disk_that_expects_to_fail_gets_nothing_new(rack):
    flaky = rack.disk("flaky", "nvme", megabytes=4096)
    mark = rack.mark()
    before = status(rack)
    rack.plug(flaky, 0)
    name = rack.wait("disk", 60, mark, state="pool")["name"]
    with_it = status(rack)
    assert with_it["ssd"] > before["ssd"] and with_it["hdd"] == before["hdd"]
    key, path = ensure(rack, "flaky", "ssd")  # the pool with the most left
    assert pools(rack)[name]["path"] in path
    # QEMU's property is the log page's byte: the spare blocks are used up.
    rack.qmp("qom-set", path="/machine/peripheral/flaky", property="smart_critical_warning", value=1)
    mark = rack.mark()
    code, listed = croft(rack, "disk", "list", "--check")
    assert code == 0 and [d for d in listed if d["serial"] == "flaky"][0]["health"] == "failing"
    rack.wait("health", 10, mark, name=name, health="failing")
    # What it has is still there and counted, what is free on it is not offered any more.
    assert before["ssd"] < status(rack)["ssd"] < with_it["ssd"]
    other, elsewhere = ensure(rack, "elsewhere", "ssd")
    assert pools(rack)[name]["path"] not in elsewhere
    assert ensure(rack, "flaky", "ssd")[1] == path
    for k in (key, other):
        rack.agent.varlink("storaged", "RemoveVolume", key=k)
    rack.pull(flaky)
    rack.wait("disk", 60, mark, name=name, state="gone")


@pytest.mark.parametrize("kind, slot", [("virtio", 1), ("nvme", 0), ("scsi", None)])
def test_a_disk_is_plugged_and_pulled_while_it_is_written(rack, kind, slot):
    """It is a pool at once. Pulled, its writer gets an error, its volume is lost, and everything else goes on."""
    others = disks(rack)
    disk = rack.disk(f"hot-{kind}", kind, megabytes=8192)
    mark = rack.mark()
    rack.plug(disk, slot)
    name = rack.wait("disk", 60, mark, state="pool")["name"]
    pool = pools(rack)[name]
    key, here = ensure(rack, f"hot-{kind}", pool["kind"])  # where the most is left
    assert here.startswith(pool["path"])
    rack.agent.write(f"{here}/kept", b"kept")
    rack.agent.sh(f"sync -f {here}/kept")
    rack.agent.sh(f"(while dd if=/dev/zero of={here}/x bs=64k count=64 conv=fsync; do :; done) >/run/writer 2>&1 & "
                  f"until [ -s {here}/x ]; do sleep 0.1; done")
    rack.pull(disk)
    rack.wait("disk", 60, mark, name=name, state="gone")
    rack.agent.sh("until ! pidof dd; do sleep 0.1; done")
    assert "error" in rack.agent.text("/run/writer").lower(), rack.agent.text("/run/writer")
    assert disks(rack) == others and name not in pools(rack)
    assert not rack.agent.exists(pool["path"])
    assert volumes(rack)[key]["error"] == "storage.volume-lost"
    with pytest.raises(lab_agent.Varlink, match="storage.volume-lost"):  # and not a new, empty one
        ensure(rack, f"hot-{kind}", pool["kind"])
    # The same disk again: with what it had.
    mark = rack.mark()
    rack.plug(disk, slot)
    name = rack.wait("disk", 60, mark, state="pool")["name"]
    again = pools(rack)[name]
    assert again["uuid"] == pool["uuid"] and again["kind"] == pool["kind"]
    assert ensure(rack, f"hot-{kind}", pool["kind"])[1] == here and rack.agent.text(f"{here}/kept") == "kept"
    rack.agent.varlink("storaged", "RemoveVolume", key=key)
    rack.pull(disk)
    rack.wait("disk", 60, mark, name=name, state="gone")
    assert key not in volumes(rack)


def test_wipe(rack):
    """What nobody wants becomes a pool; whatever is in use, or is not the disk that was meant, is refused with its code."""
    seen = disks(rack)
    name = {s: d["name"] for s, d in seen.items()}

    def refused(*words):
        code, answer = croft(rack, "disk", "wipe", *words)
        return code, answer["error"]["code"]
    assert refused(name["foreign"], "another") == (1, "storage.disk-unknown")
    assert refused(name["nvme"], "nvme", "--force") == (3, "storage.disk-protected")
    assert refused(name["stick"], "stick") == (3, "storage.disk-protected")
    key, path = ensure(rack, "kept", "hdd")
    pool = next(p for p in pools(rack).values() if path.startswith(p["path"]))
    serial = next(s for s, d in seen.items() if d["name"] == pool["disk"])
    assert refused(pool["disk"], serial) == (3, "storage.disk-in-use")
    rack.agent.sh(f"sleep 1000 <{path}/. >/dev/null 2>&1 & echo $! >/run/sleeper")
    assert refused(pool["disk"], serial, "--force") == (3, "storage.disk-busy")
    assert disks(rack)[serial]["state"] == "pool" and rack.agent.exists(path)
    rack.agent.sh("kill $(cat /run/sleeper)")
    code, answer = croft(rack, "disk", "wipe", pool["disk"], serial, "--force")
    assert code == 0 and answer["uuid"] != pool["uuid"] and not rack.agent.exists(path)
    assert key not in volumes(rack)  # thrown away on purpose: not lost
    code, answer = croft(rack, "disk", "wipe", name["foreign"], "foreign")
    assert code == 0 and pool_of(rack, "foreign")["uuid"] == answer["uuid"]
    assert [d["state"] for d in croft(rack, "disk", "list")[1] if d["serial"] == "foreign"] == ["pool"]


def test_only_root_wipes(rack):
    def as_noded(*words):
        return rack.agent.run("/croft-test/busybox", "start-stop-daemon", "-S", "-c", "105:105", "-x", CLI, "--", "disk",
                              *words, "--json", check=False)
    assert as_noded("list").status == 0
    refused = as_noded("wipe", disks(rack)["virtio"]["name"], "virtio")
    assert json.loads(refused.err)["error"]["code"] == "varlink.permission-denied", refused


def test_everything_is_found_again_in_other_slots(rack):
    """Other names, other controllers that say other things of them: the pools, their classes and their volumes are the same."""
    before = {s: pool_of(rack, s) for s, d in disks(rack).items() if d["state"] == "pool"}
    key, path = ensure(rack, "moved", "ssd")
    rack.agent.write(f"{path}/x", b"still here")
    rack.agent.sh(f"sync -f {path}/x")
    away, there = ensure(rack, "away", "hdd")
    missing = next(s for s, p in before.items() if there.startswith(p["path"]))
    mark = rack.mark()
    rack.power_off()
    by_serial = {d.serial: d for d in rack.disks}
    swapped = {"virtio": ("nvme", ""), "spinning": ("scsi", "rotation_rate=1"), "flash": ("sata", "rotation_rate=5400"),
               "nvme": ("virtio", "")}
    rack.disks = [d._replace(kind=swapped.get(s, (d.kind,))[0], options=swapped.get(s, (0, d.options))[1])
                  for s, d in reversed(by_serial.items()) if s != missing]
    rack.disks.append(rack.disk("first", "nvme", "bus=slot0,id=first", megabytes=16384))
    rack.start()
    rack.wait_service("storaged", 180, mark)
    seen = disks(rack)
    for serial, pool in before.items():
        if serial == missing:
            continue
        now = pool_of(rack, serial)
        assert (now["uuid"], now["kind"]) == (pool["uuid"], pool["kind"]), (serial, seen[serial])
    for serial, (bus, _) in swapped.items():
        assert serial == missing or (seen[serial]["bus"], seen[serial]["kind"]) == (bus, before[serial]["kind"])
    assert seen["flash"]["bus"] == "sata" and seen["flash"]["kind"] == "ssd"
    assert pool_of(rack, "first")["primary"] and len(pools(rack)) == len(before)
    # The disk that is missing takes down what lay on it, and no other.
    assert rack.agent.text(f"{path}/x") == "still here" and "error" not in volumes(rack)[key]
    assert volumes(rack)[away]["error"] == "storage.volume-lost"
    with pytest.raises(lab_agent.Varlink, match="storage.volume-lost"):
        ensure(rack, "away", "hdd")
    rack.agent.varlink("storaged", "RemoveVolume", key=away)
    assert away not in volumes(rack) and away != ensure(rack, "away", "hdd")[1]


def test_without_its_primary_disk_the_node_starts_again_from_the_next(rack):
    first = next(d for d in rack.disks if d.serial == "first")
    before = pools(rack)
    key, path = ensure(rack, "other", "hdd")
    mark = rack.mark()
    rack.pull(first)
    rack.wait("pool", 60, mark, state="lost")
    rack.agent.forget()
    rack.wait_service("storaged", 180, mark)
    assert pool_of(rack, "nvme")["primary"] and "first" not in disks(rack)
    assert {p["uuid"] for p in status(rack)["pools"]} == {p["uuid"] for n, p in before.items() if not p["primary"]}
    assert volumes(rack)[key]["path"] == path
