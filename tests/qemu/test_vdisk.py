"""Virtual disks: kept over detaching and power cycles, closed to the wrong key, absent from the raw disk, whole after kills."""
import base64
import mmap
import os
import time

import pytest
from lab import agent as lab_agent
from lab import machine, paths

SECONDS = 100  # about, for the order in which files start

MIB = 1 << 20
KEY, OTHER = os.urandom(32), os.urandom(32)
SECRET = "one tenant wrote this in plain text, 50 bytes long  "
CONTROL = "one neighbour wrote this, and nobody encrypted it."
RUN = "/run/croft/disks"

# Stands before the programs that storaged runs: dies with it before or after the real one, when a file asks for that.
WRAPPER = """#!/croft-test/busybox sh
b=/croft-test/busybox
case "$1" in luksFormat | open | resize) step=$1 ;; *) step=$($b basename $0) ;; esac
die() { $b rm -f /run/kill.$step.$1 && $b kill -9 $($b pidof storaged); $b sleep 100; }
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


class Node:
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

    def wait_storaged(self, since):
        self.machine.wait_service("storaged", 60, since)


def key(name):
    return f"volume/0x{'ab' * 20}/shop/{name}"


@pytest.fixture(scope="module")
def node(session_logs):
    disk = machine.disk_create(session_logs / "vdisk.img", 2048, "own")
    with machine.Machine(session_logs / "vdisk", ["runmode=dev"], disks=[disk], files=wrapped()) as m:
        m.wait_service("storaged", 120)
        yield Node(m)


def test_data_outlives_the_holder_and_only_the_key_opens_it(node):
    assert node.ensure("safe", 96 * MIB, secret=KEY) == {"created": True}
    assert node.ensure("safe", 96 * MIB, secret=KEY) == {"created": False}
    path = node.attach("safe", secret=KEY)
    assert node.attach("safe", secret=KEY) == path  # the same holder may ask again
    node.sh(f"yes '{SECRET}' | dd of={path}/text bs=1M count=4 iflag=fullblock 2>/dev/null; sync; umask 0; mkdir {path}/d")
    assert node.fails("AttachVirtualDisk", key=key("safe"), holder="2/web", secret=KEY) == "storage.in-use"
    assert node.fails("RemoveVolume", key=key("safe")) == "storage.in-use"
    it = node.volume("safe")
    assert (it["filesystem"], it["encrypted"], it["holder"]) == ("ext4", True, "1/web")
    node.detach("safe")
    assert node.devices() == [] and "holder" not in node.volume("safe")
    assert node.fails("AttachVirtualDisk", key=key("safe"), holder="2/web", secret=OTHER) == "storage.wrong-key"
    assert node.fails("AttachVirtualDisk", key=key("safe"), holder="2/web") == "storage.no-key"
    assert node.devices() == []
    path = node.attach("safe", "2/web", secret=KEY)
    assert node.sh(f"head -c 50 {path}/text").out == SECRET[:50]
    node.detach("safe")


def test_a_folder_and_a_disk_are_not_taken_for_each_other(node):
    node.call("EnsureVolume", key=key("folder"), kind=node.kind, size=32 * MIB)
    assert node.fails("AttachVirtualDisk", key=key("folder"), holder="1/web") == "storage.conflict"
    assert node.fails("EnsureVirtualDisk", key=key("folder"), kind=node.kind, size=32 * MIB, filesystem="ext4") == "storage.conflict"
    assert node.fails("EnsureVolume", key=key("safe"), kind=node.kind, size=96 * MIB) == "storage.conflict"
    assert node.fails("EnsureVirtualDisk", key=key("safe"), kind=node.kind, size=96 * MIB, filesystem="ext4") == "storage.conflict"
    assert node.fails("EnsureVirtualDisk", key=key("x"), kind=node.kind, size=96 * MIB, filesystem="xfs") == "storage.bad-filesystem"
    assert node.fails("EnsureVirtualDisk", key=key("x"), kind=node.kind, size=MIB, filesystem="ext4") == "storage.too-small"
    assert node.fails("AttachVirtualDisk", key=key("x"), holder="1/web") == "storage.not-found"
    assert node.volume("x") is None


def free(node, path):
    return int(node.sh(f"stat -f -c '%f %S' {path} | {{ read f s; echo $((f * s)); }}").out)


@pytest.mark.parametrize(("filesystem", "size", "secret"), [("ext4", 128 * MIB, {"secret": KEY}), ("btrfs", 256 * MIB, {})],
                         ids=["ext4-luks", "btrfs"])
def test_it_grows_while_it_is_attached_and_gives_space_back(node, filesystem, size, secret):
    node.ensure("grows", size, filesystem, **secret)
    path = node.attach("grows", **secret)
    before = free(node, path)
    node.ensure("grows", size + 64 * MIB, filesystem, **secret)
    assert free(node, path) > before + 48 * MIB
    assert node.fails("EnsureVirtualDisk", key=key("grows"), kind=node.kind, size=size, filesystem=filesystem, **secret) == "storage.too-small"
    node.sh(f"dd if=/dev/urandom of={path}/big bs=1M count=40 2>/dev/null; sync")
    full = node.volume("grows")["used"]
    assert full > 40 * MIB
    node.sh(f"rm {path}/big; sync")
    node.detach("grows")  # which trims
    node.sh("sync")
    assert node.volume("grows")["used"] < full - 30 * MIB
    node.call("RemoveVolume", key=key("grows"))


def test_a_raw_disk_is_as_large_as_promised_and_no_larger(node):
    """Filled to the last byte it takes nothing from the pool beyond its limit, and a discard gives it back."""
    node.ensure("raw", 64 * MIB, "raw", secret=KEY)
    device = node.attach("raw", secret=KEY)
    name = os.path.basename(device)
    assert node.agent.text(f"/sys/block/{name}/size").strip() == str(64 * MIB // 512)
    assert node.agent.text(f"/sys/block/{name}/queue/logical_block_size").strip() == "4096"
    over = node.sh(f"dd if=/dev/urandom of={device} bs=1M count=65 oflag=direct", check=False)
    assert over.status and "No space" in over.err, over
    node.sh("sync")
    written = node.volume("raw")["used"]
    assert 64 * MIB <= written <= 66 * MIB
    node.sh(f"blkdiscard -o {16 * MIB} -l {32 * MIB} {device}; sync")
    assert node.volume("raw")["used"] < written - 28 * MIB
    node.detach("raw")
    node.call("RemoveVolume", key=key("raw"))


def killed(node, step, call, *arguments):
    """Calls while storaged is killed beside a program that it runs; its successor cleans up without being asked."""
    node.agent.write(f"/run/kill.{step}", b"")
    mark = node.machine.mark()
    with pytest.raises(lab_agent.AgentError):
        call(*arguments, secret=KEY)
    node.wait_storaged(mark)
    end = time.monotonic() + 60 * paths.SCALE
    while node.devices():
        assert time.monotonic() < end, node.devices()
        time.sleep(0.1)


def test_nothing_stays_half_made(node):
    for step in ("luksFormat.before", "luksFormat.after", "open.after", "mke2fs.before", "mke2fs.after"):
        killed(node, step, node.ensure, "killed", 32 * MIB)
    node.ensure("killed", 32 * MIB, secret=KEY)
    for step in ("open.before", "open.after"):
        killed(node, step, node.attach, "killed")
    node.sh(f"echo whole > {node.attach('killed', secret=KEY)}/file")
    mark = node.machine.mark()
    node.agent.kill("storaged")  # what is attached stays attached
    node.wait_storaged(mark)
    assert node.sh(f"cat {node.attach('killed', secret=KEY)}/file").out == "whole\n"
    node.detach("killed")
    node.call("RemoveVolume", key=key("killed"))
    assert node.devices() == []


def holds(path, *needles):
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return [data.find(n) >= 0 for n in needles]


def test_the_raw_disk_holds_no_plain_text_and_a_power_cycle_loses_nothing(node):
    folder = node.call("EnsureVolume", key=key("control"), kind=node.kind, size=32 * MIB)["path"]
    node.sh(f"yes '{CONTROL}' | dd of={folder}/text bs=1M count=4 iflag=fullblock 2>/dev/null; sync")
    node.attach("safe", secret=KEY)  # and it is attached when the machine goes off
    node.machine.power_off()
    found = holds(node.machine.disks[0].path, CONTROL.encode() * 10, b"LUKS\xba\xbe\0\2", SECRET.encode(), KEY, base64.b64encode(KEY))
    assert found == [True, True, False, False, False]
    mark = node.machine.mark()
    node.machine.start()
    node.agent = node.machine.agent
    node.wait_storaged(mark)
    path = node.attach("safe", "3/db", secret=KEY)
    assert node.sh(f"cat {path}/text | head -c 50; ls {path}").out == SECRET[:50] + "d\nlost+found\ntext\n"
    node.detach("safe")
    node.call("RemoveVolume", key=key("safe"))
    assert node.volume("safe") is None
