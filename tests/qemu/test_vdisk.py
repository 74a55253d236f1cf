"""Virtual disks: kept over detaching and power cycles, closed to the wrong key, absent from the raw disk, whole after kills."""
import base64
import mmap
import os
import time

import pytest
from lab import agent as lab_agent
from lab import faults, machine, paths
from lab.node import wait_for

SECONDS = 65  # about, for the order in which files start

MIB = 1 << 20
KEY, OTHER = os.urandom(32), os.urandom(32)
SECRET = "one tenant wrote this in plain text, 50 bytes long  "
CONTROL = "one neighbour wrote this, and nobody encrypted it."
RUN = "/run/croft/disks"

# Stands before the programs that storaged runs: dies with it before or after the real one, when a file asks for that.
WRAPPER = """#!/croft-test/busybox sh
b=/croft-test/busybox
case "$1" in luksFormat | open | resize) step=$1 ;; *) step=$($b basename $0) ;; esac
die() { $b rm -f /run/kill.$step.$1 && $b kill -9 $($b pidof storaged | $b tr ' ' '\\n' | $b sort -n | $b head -n 1); $b sleep 100; }
[ -e /run/kill.$step.before ] && die before
/croft-test/real/$($b basename $0) "$@" || exit
[ -e /run/kill.$step.after ] && die after
exit 0
"""


def wrapped():
    files = {}
    for package, program in (("cryptsetup", "cryptsetup"), ("e2fsprogs", "mke2fs")):
        real = paths.BUILD / "pkg" / package / "bin" / program
        files[f"croft-test/real/{program}"] = (real.read_bytes(), 0o755)
        files[f"usr/bin/{program}"] = (WRAPPER, 0o755)
    return files


class Storage:
    def __init__(self, m):
        self.machine, self.agent = m, m.agent

        self.kind = self.call("GetStatus")["pools"][0]["kind"]

    def call(self, method, timeout=120, **parameters):
        if isinstance(parameters.get("secret"), bytes):
            parameters["secret"] = base64.b64encode(parameters["secret"]).decode()
        return self.agent.varlink("storaged", method, timeout, **parameters)

    def fails(self, method, **parameters):
        """The code of the error that the call must answer with."""
        with pytest.raises(lab_agent.Varlink) as failed:
            self.call(method, **parameters)
        return failed.value.parameters["code"]

    def ensure(self, name, size, filesystem="ext4", **more):
        return self.call("EnsureVirtualDisk", key=key(name), kind=self.kind, size=size, filesystem=filesystem, **more)

    def attach(self, name, holder="1/web", **more):
        return self.call("AttachVirtualDisk", key=key(name), holder=holder, **more)["path"]

    def detach(self, name):
        self.call("DetachVirtualDisk", key=key(name))

    def volume(self, name):
        return next((v for v in self.call("ListVolumes")["volumes"] if v["key"] == key(name)), None)

    def sh(self, script, timeout=60, check=True):
        return self.agent.sh(script, timeout, check)

    def devices(self):
        """Loop and device-mapper devices that are up."""
        return self.sh("for d in /sys/block/loop*/loop /sys/block/dm-*/dm; do [ -e $d ] && echo $d; done; true").out.split()

    def back(self, since):
        """Waits for the next storaged, without core0's growing pauses."""
        self.machine.wait_service("storaged", 60, since, state="backoff")
        self.agent.varlink("core0", "StartService", name="storaged")
        self.wait_storaged(since)

    def wait_storaged(self, since):
        self.machine.wait_service("storaged", 60, since)


def key(name):
    return f"volume/0x{'ab' * 20}/shop/{name}"


@pytest.fixture(scope="module")
def disks(session_logs):
    disk = machine.disk_create(session_logs / "vdisk.img", 2048, "own")
    with machine.Machine(session_logs / "vdisk", ["runmode=dev"], disks=[disk], files=wrapped()) as m:
        m.wait_service("storaged", 120)
        yield Storage(m)


def test_data_outlives_the_holder_and_only_the_key_opens_it(disks):
    assert disks.ensure("safe", 96 * MIB, secret=KEY) == {"created": True}
    assert disks.ensure("safe", 96 * MIB, secret=KEY) == {"created": False}
    path = disks.attach("safe", secret=KEY)
    assert disks.attach("safe", secret=KEY) == path  # the same holder may ask again
    disks.sh(f"yes '{SECRET}' | dd of={path}/text bs=1M count=4 iflag=fullblock 2>/dev/null; sync; umask 0; mkdir {path}/d")
    assert disks.fails("AttachVirtualDisk", key=key("safe"), holder="2/web", secret=KEY) == "storage.in-use"
    assert disks.fails("RemoveVolume", key=key("safe")) == "storage.in-use"
    it = disks.volume("safe")
    assert (it["filesystem"], it["encrypted"], it["holder"]) == ("ext4", True, "1/web")
    disks.detach("safe")
    assert disks.devices() == [] and "holder" not in disks.volume("safe")
    assert disks.fails("AttachVirtualDisk", key=key("safe"), holder="2/web", secret=OTHER) == "storage.wrong-key"
    assert disks.fails("AttachVirtualDisk", key=key("safe"), holder="2/web") == "storage.no-key"
    assert disks.devices() == []
    path = disks.attach("safe", "2/web", secret=KEY)
    assert disks.sh(f"head -c 50 {path}/text").out == SECRET[:50]
    disks.detach("safe")


def test_a_folder_and_a_disk_are_not_taken_for_each_other(disks):
    disks.call("EnsureVolume", key=key("folder"), kind=disks.kind, size=32 * MIB)
    assert disks.fails("AttachVirtualDisk", key=key("folder"), holder="1/web") == "storage.conflict"
    assert disks.fails("EnsureVirtualDisk", key=key("folder"), kind=disks.kind, size=32 * MIB, filesystem="ext4") == "storage.conflict"
    assert disks.fails("EnsureVolume", key=key("safe"), kind=disks.kind, size=96 * MIB) == "storage.conflict"
    assert disks.fails("EnsureVirtualDisk", key=key("safe"), kind=disks.kind, size=96 * MIB, filesystem="ext4") == "storage.conflict"
    assert disks.fails("EnsureVirtualDisk", key=key("x"), kind=disks.kind, size=96 * MIB, filesystem="xfs") == "storage.bad-filesystem"
    assert disks.fails("EnsureVirtualDisk", key=key("x"), kind=disks.kind, size=MIB, filesystem="ext4") == "storage.too-small"
    assert disks.fails("AttachVirtualDisk", key=key("x"), holder="1/web") == "storage.not-found"
    assert disks.volume("x") is None


def free(disks, path, blocks="%f"):
    return int(disks.sh(f"stat -f -c '{blocks} %S' {path} | {{ read f s; echo $((f * s)); }}").out)


@pytest.mark.parametrize(("filesystem", "size", "secret"), [("ext4", 128 * MIB, {"secret": KEY}), ("btrfs", 256 * MIB, {})],
                         ids=["ext4-luks", "btrfs"])
def test_it_grows_while_it_is_attached_and_gives_space_back(disks, filesystem, size, secret):
    disks.ensure("grows", size, filesystem, **secret)
    path = disks.attach("grows", **secret)
    before = free(disks, path)
    it = disks.volume("grows")
    assert it["filesystemSize"] - it["filesystemUsed"] == free(disks, path, "%a") and size // 2 < it["filesystemSize"] <= size
    disks.ensure("grows", size + 64 * MIB, filesystem, **secret)
    assert free(disks, path) > before + 48 * MIB
    assert disks.fails("EnsureVirtualDisk", key=key("grows"), kind=disks.kind, size=size, filesystem=filesystem, **secret) == "storage.too-small"
    disks.sh(f"dd if=/dev/urandom of={path}/big bs=1M count=40 2>/dev/null; sync")
    full = disks.volume("grows")["used"]
    assert full > 40 * MIB
    assert disks.volume("grows")["filesystemUsed"] > it["filesystemUsed"] + 36 * MIB
    disks.sh(f"rm {path}/big; sync")
    disks.detach("grows")  # which trims
    disks.sh("sync")
    assert "filesystemSize" not in disks.volume("grows")  # it is mounted no more
    assert disks.volume("grows")["used"] < full - 30 * MIB
    disks.call("RemoveVolume", key=key("grows"))


def test_a_raw_disk_is_as_large_as_promised_and_no_larger(disks):
    """Filled to the last byte it takes nothing from the pool beyond its limit, and a discard gives it back."""
    disks.ensure("raw", 64 * MIB, "raw", secret=KEY)
    device = disks.attach("raw", secret=KEY)
    name = os.path.basename(device)
    assert disks.agent.text(f"/sys/block/{name}/size").strip() == str(64 * MIB // 512)
    assert disks.agent.text(f"/sys/block/{name}/queue/logical_block_size").strip() == "4096"
    over = disks.sh(f"dd if=/dev/urandom of={device} bs=1M count=65 oflag=direct", check=False)
    assert over.status and "No space" in over.err, over
    disks.sh("sync")
    written = disks.volume("raw")["used"]
    assert 64 * MIB <= written <= 66 * MIB
    disks.sh(f"blkdiscard -o {16 * MIB} -l {32 * MIB} {device}; sync")
    assert disks.volume("raw")["used"] < written - 28 * MIB
    disks.detach("raw")
    disks.call("RemoveVolume", key=key("raw"))


def killed(disks, step, call, *arguments):
    """Calls while storaged is killed beside a program that it runs; its successor cleans up without being asked."""
    disks.agent.write(f"/run/kill.{step}", b"")
    mark = disks.machine.mark()
    with pytest.raises(lab_agent.AgentError):
        call(*arguments, secret=KEY)
    disks.back(mark)
    end = time.monotonic() + 60 * paths.SCALE
    while disks.devices():
        assert time.monotonic() < end, disks.devices()
        time.sleep(0.1)


def test_nothing_stays_half_made(disks):
    for step in ("luksFormat.before", "luksFormat.after", "open.after", "mke2fs.before", "mke2fs.after"):
        killed(disks, step, disks.ensure, "killed", 32 * MIB)
    disks.ensure("killed", 32 * MIB, secret=KEY)
    for step in ("open.before", "open.after"):
        killed(disks, step, disks.attach, "killed")
    disks.sh(f"echo whole > {disks.attach('killed', secret=KEY)}/file")
    mark = disks.machine.mark()
    disks.agent.kill("storaged")  # what is attached stays attached
    disks.back(mark)
    assert disks.sh(f"cat {disks.attach('killed', secret=KEY)}/file").out == "whole\n"
    disks.detach("killed")
    disks.call("RemoveVolume", key=key("killed"))
    assert disks.devices() == []


def holds(path, *needles):
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return [data.find(n) >= 0 for n in needles]


def test_the_raw_disk_holds_no_plain_text_and_a_power_cycle_loses_nothing(disks):
    folder = disks.call("EnsureVolume", key=key("control"), kind=disks.kind, size=32 * MIB)["path"]
    disks.sh(f"yes '{CONTROL}' | dd of={folder}/text bs=1M count=4 iflag=fullblock 2>/dev/null; sync")
    disks.attach("safe", secret=KEY)  # and it is attached when the machine goes off
    disks.machine.power_off()
    found = holds(disks.machine.disks[0].path, (CONTROL + "\n").encode() * 3, b"LUKS\xba\xbe\0\2", SECRET.encode(), KEY, base64.b64encode(KEY))
    assert found == [True, True, False, False, False]
    mark = disks.machine.mark()
    disks.machine.start()
    disks.agent = disks.machine.agent
    disks.wait_storaged(mark)
    path = disks.attach("safe", "3/db", secret=KEY)
    assert disks.sh(f"cat {path}/text | head -c 50; ls {path}").out == SECRET[:50] + "d\nlost+found\ntext\n"
    disks.detach("safe")
    disks.call("RemoveVolume", key=key("safe"))
    assert disks.volume("safe") is None


STOP = {"stop_grace_period": "1s"}
WRITER = {**STOP, "image": "busybox", "volumes": ["safe:/safe", "raw:/dev/raw"],
          "command": ["sh", "-c", "cat /safe/text || echo first > /safe/text; head -c 7 /dev/raw; echo second > /dev/raw; "
                                  "sync; echo ready > /tmp/ready; sleep 100000"]}
VOLUMES = {"safe": {"driver_opts": {"size": "64m", "encrypted": "true"}},
           "raw": {"driver_opts": {"size": "32m", "encrypted": "true", "filesystem": "raw"}}}


def test_a_reservation_holds_its_disks_while_it_runs(node):
    """Mounted in a container without privileges, closed and kept at the end, and found by the next reservation of the project;
    though provd dies before and after each of its steps for them."""
    def disks_of(name):
        return {v["key"].rsplit("/")[-1]: v for v in node.agent.varlink("storaged", "ListVolumes")["volumes"]
                if f"/{name}/" in v["key"] and v["key"].startswith("volume/")}

    def exec_in(it, script, check=True):
        pid = next(c["pid"] for c in node.agent.varlink("contd", "List")["containers"] if c["reservation"] == it.id)
        return node.agent.run("/croft-test/busybox", "nsenter", "-t", pid, "-m", "-U", "-S", "0", "-G", "0", "/bin/sh", "-c", script,
                              timeout=60, check=check)

    for text in ("", "first\nsecond\n"):
        points, mark = faults.arm(node, ["disk", "plug"]), node.machine.mark()
        with node.deployed({"web": WRITER}, name="disks", volumes=VOLUMES) as it:
            faults.died(node, points, mark)
            exec_in(it, "until [ -e /tmp/ready ]; do sleep 0.2; done")
            held = disks_of("disks")
            assert {n: v["holder"] for n, v in held.items()} == dict.fromkeys(VOLUMES, f"{it.id}/web")
            assert exec_in(it, "cat /safe/text; head -c 7 /dev/raw").out == "first\nsecond\n"
            log = node.agent.varlink("contd", "GetLog", reservation=it.id, revision=1, service="web", tail=100,
                                       since=0, follow=False)
            assert all(line in str(log) for line in text.splitlines()), log
            # Its own device and no other, and the raw bytes of neither.
            assert exec_in(it, "mknod /tmp/vda b 254 0", check=False).status
            assert exec_in(it, "ls /dev/dm-0 /dev/loop0", check=False).status
        wait_for(lambda: all("holder" not in v and "keepUntil" in v for v in disks_of("disks").values()), 60,
                 "the disks stay attached")
