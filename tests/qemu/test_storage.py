"""Disks that are ours, disks that are not, and limits that hold."""
import hashlib
import subprocess

from lab import machine as lab_machine

SECONDS = 105  # about, for the order in which files start

FILL = {"image": "busybox", "volumes": ["full:/full"], "restart": "no",
        "command": ["sh", "-c", "dd if=/dev/urandom of=/full/x bs=1M count=200 2>&1; "
                                "cp /proc/sys/kernel/random/boot_id /tmp/full; sleep 100000"]}
NEIGHBOUR = {"image": "busybox", "volumes": ["calm:/calm"], "restart": "no",
             "command": ["sh", "-c", "sleep 100000"]}


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def foreign(path, kind):
    """A disk on which somebody else has something."""
    disk = lab_machine.disk_create(path, 256, kind)
    if kind == "ext4":
        subprocess.run(["/sbin/mkfs.ext4", "-q", path], check=True)
    elif kind == "gpt":
        with open(path, "r+b") as f:  # the protective MBR and a GPT header, no partition
            f.seek(446)
            f.write(bytes.fromhex("00000200eeffffff01000000ffff0700"))
            f.seek(510)
            f.write(b"\x55\xaaEFI PART\0\0\1\0\x5c\0\0\0")
    elif kind == "luks":
        with open(path, "r+b") as f:
            f.write(b"LUKS\xba\xbe\0\2" + bytes(504))
    elif kind == "text":
        with open(path, "r+b") as f:
            f.seek(1 << 20)
            f.write(b"somebody's notes, without any signature\n" * 100)
    return disk


def disks(agent):
    return {d["serial"]: d for d in agent.varlink("storaged", "GetStatus")["disks"]}


def test_foreign_disks_are_not_touched(boot, logs):
    """Beside an empty one, which is taken. Without croft.disks=wipe not a byte changes."""
    strangers = [foreign(logs / f"{k}.img", k) for k in ("ext4", "gpt", "luks")]
    own = lab_machine.disk_create(logs / "own.img", 2048, "own")
    before = [digest(d.path) for d in strangers]
    m = boot("runmode=dev", disks=[*strangers, own])
    m.wait_service("storaged", 120)
    seen = disks(m.agent)
    assert seen["own"]["state"] == "pool"
    for d in strangers:
        assert seen[d.serial]["state"] == "foreign" and seen[d.serial]["detail"], seen[d.serial]
    m.power_off()
    assert [digest(d.path) for d in strangers] == before


def test_wipe_takes_foreign_disks(boot, logs):
    stranger = foreign(logs / "ext4.img", "ext4")
    stranger.path.open("r+b").truncate(2048 << 20)
    m = boot("runmode=dev", "croft.disks=wipe", disks=[stranger])
    m.wait_service("storaged", 120)
    assert disks(m.agent)["ext4"]["state"] == "pool"


def test_none_uses_no_disk_and_the_pool_lies_in_memory(boot, logs):
    own = lab_machine.disk_create(logs / "own.img", 2048, "own")
    m = boot("runmode=dev", "croft.disks=none", disks=[own])
    m.wait_service("storaged", 120)
    status = m.agent.varlink("storaged", "GetStatus")
    assert status["ephemeral"] and [p["disk"] for p in status["pools"]] == ["zram0"]
    m.power_off()
    assert not any(own.path.read_bytes())


def test_a_pool_is_taken_back(boot, logs):
    own = lab_machine.disk_create(logs / "own.img", 2048, "own")
    m = boot("runmode=dev", disks=[own])
    m.wait_service("storaged", 120)
    first = m.agent.varlink("storaged", "GetStatus")["pools"]
    mark = m.mark()
    m.power_off()
    m.start()
    m.wait_service("storaged", 120, mark)
    again = m.agent.varlink("storaged", "GetStatus")["pools"]
    assert [p["uuid"] for p in first] == [p["uuid"] for p in again]


def test_a_disk_that_fails_does_not_stop_the_boot(boot, logs):
    """Every read of it is an I/O error. It is named with its reason; the other one is the pool."""
    own = lab_machine.disk_create(logs / "own.img", 2048, "own")
    sick = lab_machine.disk_create(logs / "sick.img", 512, "sick")
    rules = logs / "blkdebug.conf"
    rules.write_text('[inject-error]\nevent = "none"\niotype = "read"\nerrno = "5"\n')
    m = boot("runmode=dev", disks=[sick._replace(path=f"blkdebug:{rules}:{sick.path}"), own])
    m.wait_service("storaged", 120)
    seen = disks(m.agent)
    assert seen["own"]["state"] == "pool"
    assert seen["sick"]["state"] == "failed" and "error" in seen["sick"]["detail"].lower(), seen
    m.power_off()
    assert not any(sick.path.read_bytes())


def test_a_claim_cut_off_midway_is_completed(boot, logs):
    """The table's copy at the end is what is written first: with it alone the disk is ours already."""
    own = lab_machine.disk_create(logs / "own.img", 512, "own")
    m = boot("runmode=dev", disks=[own])
    m.wait_service("storaged", 120)
    m.power_off()
    with open(own.path, "r+b") as f:
        f.write(bytes(3 << 20))  # primary table, and the beginning of the partition
    mark = m.mark()
    m.start()
    m.wait_service("storaged", 120, mark)
    assert disks(m.agent)["own"]["state"] == "failed"  # a pool that somebody hurt: not made anew
    m.power_off()
    with open(own.path, "r+b") as f:
        f.write(bytes(1 << 20))
        f.seek(65 << 20)
        f.write(bytes(4096))
    mark = m.mark()
    m.start()
    m.wait_service("storaged", 120, mark)
    seen = disks(m.agent)["own"]
    assert seen["state"] == "pool", seen
    m.power_off()
    with open(own.path, "rb") as f:
        assert f.read(520)[510:] == b"\x55\xaaEFI PART"


def wait_running(node, it, count, since):
    """Waits until so many containers of the reservation were started in this boot."""
    for _ in range(count):
        found = node.machine.wait("process", 120, since, reservation=it.id)
        since = node.machine.events.index(found) + 1


def test_a_volume_ends_at_its_limit_and_the_neighbour_writes_on(node):
    """The limit is one of the disk, so it holds after a power cycle too."""
    volumes = {name: {"driver_opts": {"size": "64m"}} for name in ("full", "calm")}
    with node.deployed({"fill": FILL, "calm": NEIGHBOUR}, name="quota", volumes=volumes) as it:
        def exec_in(service, script):
            pid = next(c["pid"] for c in node.agent.varlink("contd", "List")["containers"]
                       if c["reservation"] == it.id and c["service"] == service)
            return node.agent.run("/croft-test/busybox", "nsenter", "-t", pid, "-m", "-U", "-S", "0", "-G", "0",
                                  "/bin/sh", "-c",
                                  script, check=False, timeout=120)

        def check():
            exec_in("fill", "until cmp -s /proc/sys/kernel/random/boot_id /tmp/full; do sleep 0.2; done")
            size = int(exec_in("fill", "sync; stat -c %s /full/x").out)
            assert 48 << 20 < size <= 64 << 20
            over = exec_in("fill", "dd if=/dev/urandom of=/full/y bs=1M count=64")
            assert over.status and ("space" in over.err.lower() or "quota" in over.err.lower()), over
            fine = exec_in("calm", "dd if=/dev/urandom of=/calm/x bs=1M count=32 && sync && rm /calm/x")
            assert fine.status == 0, fine
        node.machine.wait("process", 60, reservation=it.id)
        check()
        mark = node.reboot()
        wait_running(node, it, 2, mark)
        check()
