"""Disks below key-value namespaces and virtual disks: one that never answers, and one that gives errors under load."""
import errno
import pathlib
import socket
import sys
import threading

import pytest

from lab import machine as lab_machine, paths, volatile
from lab.agent import Varlink
from lab.node import ask_storaged, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "kv"))
from kvlab import Client, Error  # noqa: E402

SECONDS = 35  # about, for the order in which files start

MIB = 1 << 20
TENANT = f"0x{'aa' * 20}"


@pytest.fixture(scope="module")
def m(session_logs):
    """An ssd with the node's state; a disk that cannot be read at first (volatile0); an hdd (volatile1)."""
    folder = session_logs / "kv-bad-disks"
    folder.mkdir()
    fast = lab_machine.disk_create(folder / "ssd.img", 3072, "fast", "scsi", "rotation_rate=1")
    # Of the two hdds it becomes, the larger one is chosen for what is new.
    stores = [volatile.Volatile(lab_machine.disk_create(folder / f"bad{i}.img", size, "unused").path, i, device)
              for i, (size, device) in enumerate(((1024, "virtio-blk-pci"), (3072, "scsi-hd,bus=sas.0,rotation_rate=7200")))]
    stores[0].fail = lambda command, offset, length: errno.EIO
    with lab_machine.Machine(folder / "machine", ("runmode=dev",), disks=[fast], volatile=stores) as started:
        started.wait_service("storaged", 180)
        started.stores = stores
        yield started
    for store in stores:
        store.stop()


def ask(m, method, **parameters):
    return ask_storaged(m.agent, method, **parameters)


def ensure(m, name, kind, size=16 * MIB):
    return ask(m, "EnsureSpace", key=f"kv/{TENANT}/shop/{name}", kind=kind, size=size, mode="user", password="secret", public=False)


def disks(m):
    return {d["serial"]: d for d in ask(m, "GetStatus")["disks"]}


def client(m, space):
    """A connection that the node itself makes, as it lets nobody in. A server whose index moves to a faster disk that was found after it
    starts anew once, and its callers connect again."""
    b = "/croft-test/busybox"

    def connected():
        with socket.create_server(("127.0.0.1", 0)) as door:
            door.settimeout(60 * paths.SCALE)
            m.agent.sh(f"{b} nc 10.0.2.2 {door.getsockname()[1]} -e {b} nc 127.0.0.1 {space['port']} >/dev/null 2>&1 </dev/null &")
            c = Client.__new__(Client)
            c.socket, _ = door.accept()
        c.socket.settimeout(60 * paths.SCALE)
        c.file = c.socket.makefile("rb")
        try:
            return c("SELECT", space["namespace"], "secret") == "OK" and c
        except ConnectionError:
            return None
    return wait_for(connected, 60, "no connection")


def test_a_disk_that_never_answers_is_given_up(m):
    """Nobody waits for it for ever: it is told as failed, what does not need it goes on, and it is heard when it answers after all."""
    assert disks(m)["volatile0"]["state"] == "failed"
    answers = threading.Event()
    m.stores[0].fail = lambda command, offset, length: 0 if answers.wait() else errno.EIO
    mark = m.mark()
    try:
        m.agent.sh("croft disk list --check >/run/checked 2>&1 </dev/null &")
        made = ensure(m, "patient", "ssd")  # storage.busy at first; `created` is of the last question only
        key = f"kv/{TENANT}/shop/patient"
        assert [x["key"] for x in ask(m, "ListSpaces")["spaces"]].count(key) == 1
        m.wait("disk", 60, mark, name=disks(m)["volatile0"]["name"], state="failed")
        assert disks(m)["volatile0"]["detail"] == "does not answer"
        m.wait_console("storage.disk-failed", 30)
        wait_for(lambda: "volatile0" in m.agent.sh("cat /run/checked").out, 60, "whoever asked for a check is not answered")
        c = client(m, made)
        assert c("SET", "key", "value") == b"key"
        ask(m, "EnsureVolume", key=f"volume/{TENANT}/shop/v", kind="ssd", size=16 * MIB)
        ask(m, "RemoveVolume", key=f"volume/{TENANT}/shop/v")
    finally:
        answers.set()
        m.stores[0].fail = lambda command, offset, length: 0
    wait_for(lambda: disks(m)["volatile0"]["state"] == "pool", 120, "it is not taken when it answers")
    ask(m, "RemoveSpace", key=f"kv/{TENANT}/shop/patient")


def test_write_errors_under_load(m):
    """What was synced stays, nothing is acknowledged any more, all of it by its code; the other disk's server and disks go on."""
    kept, other = ensure(m, "kept", "hdd"), ensure(m, "other", "ssd")
    disk = {"key": f"volume/{TENANT}/shop/disk"}
    ask(m, "EnsureVirtualDisk", kind="hdd", size=64 * MIB, filesystem="ext4", **disk)
    path = ask(m, "AttachVirtualDisk", holder="1/web", **disk)["path"]
    m.agent.sh(f"echo synced >{path}/file; sync")
    slow, fast = client(m, kept), client(m, other)
    synced = {f"k{i}": f"value {i}".encode() * 100 for i in range(500)}
    for key, value in synced.items():
        assert slow("SET", key, value) == key.encode()
    m.agent.run("/croft-test/busybox", "sync")
    mark = m.mark()
    m.stores[1].fail = lambda command, offset, length: errno.EIO if command in (volatile.WRITE, volatile.FLUSH) else 0
    m.agent.sh(f"(while echo x >>{path}/more && sync {path}/more; do :; done; echo ended >/run/writer) >/dev/null 2>&1 </dev/null &")
    refused, number = None, 0
    while refused is None:  # under load until it is told
        try:
            slow("SET", f"late{number % 1000}", f"{number} ".encode() * 1000)
            number += 1
        except Error as e:
            refused = str(e)
    assert "kv.disk-failed" in refused or "kv.read-only" in refused, refused
    name = disks(m)["volatile1"]["name"]
    m.wait("health", 120, mark, name=name, health="failing")
    told = (f"disk {name} fails writes", f"disk {name} had an error")
    wait_for(lambda: any(text in m.console for text in told), 30, "the console does not tell it")
    wait_for(lambda: m.agent.exists("/run/writer"), 60, "who writes to the virtual disk is not told")
    slow = client(m, kept)
    assert {key: slow("GET", key) for key in synced} == synced
    late = slow.error("SET", "later", "x")
    assert "kv.read-only" in late or "kv.disk-failed" in late, late
    assert m.agent.sh(f"cat {path}/file").out == "synced\n"
    with pytest.raises(Varlink) as failed:
        m.agent.varlink("storaged", "EnsureSpace", 180, key=f"kv/{TENANT}/shop/third", kind="hdd", size=1 << 40, mode="user",
                        password="secret", public=False)
    assert failed.value.parameters["code"] == "storage.no-space"
    # Nobody else notices.
    assert fast("SET", "key", "value") == b"key" and fast("GET", "key") == b"value"
    # With the disk well again and the power off and on, what was synced is all there.
    m.stores[1].fail = lambda command, offset, length: 0
    mark = m.mark()
    m.cut()
    m.start()
    m.wait_service("storaged", 180, mark)
    kept = ensure(m, "kept", "hdd")
    slow = client(m, kept)
    assert {key: slow("GET", key) for key in synced} == synced
    assert slow("SET", "again", "x") == b"again"
    path = ask(m, "AttachVirtualDisk", holder="1/web", **disk)["path"]
    assert m.agent.sh(f"cat {path}/file").out == "synced\n"
