"""The node's identity and its keys on real disks: two epochs at once and the end of the old one, a disk of another node, two halves of
one node at once, and what becomes of a node whose disks are all lost."""
import base64
import json
import mmap
import secrets

import pytest

from lab import forge, grid as lab_grid, machine, node as lab_node, paths
from lab.agent import Varlink
from lab.node import wait_for

SECONDS = 170  # about, for the order in which files start

PREVIOUS_KEY = 13  # word of the registry's answer
IDLE = {"idle": {"image": "busybox", "command": ["sleep", "100000"], "stop_grace_period": "1s"}}


@pytest.fixture(scope="module")
def grid(session_logs):
    """One of its own: its chain's clock is put forward by a day."""
    with lab_grid.Grid(session_logs / "identity-grid", behind=25 * 3600) as g:
        yield g.start()


@pytest.fixture(scope="module")
def images(grid):
    return {"busybox": grid.cli(0).json("image", "convert", f"oci:{paths.BUILD / 'tests/oci'}:busybox", "--output",
                                        grid.hub.folder, timeout=300)["id"]}


@pytest.fixture(scope="module")
def disks(session_logs):
    """Of the node: two; of another one: the third."""
    return [machine.disk_create(session_logs / f"identity-{name}.img", 4 << 10, name) for name in ("one", "two", "other")]


@pytest.fixture(scope="module")
def node(grid, images, disks, session_logs):
    with lab_node.Node(grid, session_logs / "identity-node", images, disks=disks[:2], memory=1536) as n:
        yield n.start()


def keys(node):
    return {k["epoch"]: k["publicKey"] for k in node.agent.varlink("noded", "GetStatus")["keys"]}


def on_disk(disk, needle):
    """Whether the disk has these bytes anywhere, as they are or in hex."""
    with open(disk.path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        return m.find(needle) >= 0 or m.find(needle.hex().encode()) >= 0


def shares(node, epoch):
    """Both shares of a key, and the key."""
    folder = node.agent.sh("ls -d /run/croft/pools/*/identity").out.split()[0]
    listed = next(k for k in node.agent.json(f"{folder}/identity.json")["keys"] if k["epoch"] == epoch)
    first, second = bytes.fromhex(listed["share"]), node.agent.read(f"{folder}/epoch-{epoch}.share")[:32]
    return first, second, bytes(a ^ b for a, b in zip(first, second))


def specification(node):
    """What runs, as `croft deploy` would write it."""
    image = node.images["busybox"]
    kind = "hdd" if node.grid.node(node.number)["capacity"]["ssd"] == 0 else "ssd"
    return kind, json.dumps({
        "version": 1, "project": "forged", "images": {image: {"hubs": [node.grid.hub_url()]}},
        "networks": {"default": {"internal": False}},
        "services": {"idle": {"image": image, "command": ["sleep", "100000"], "networks": {"default": {}},
                              "resources": {"milliCores": 500, "memory": 256 << 20, "pids": 64},
                              "scratch": 32 << 20, "stopGracePeriod": 1000}},
        "resources": {"milliCores": 500, "memory": 256 << 20, "ssd": 0, "addresses": 0, "hdd": 0, kind: 32 << 20},
    }, sort_keys=True, separators=(",", ":")).encode()


def test_reservations_of_two_epochs_and_the_end_of_the_old_key(node, disks):
    with node.deployed(IDLE, name="first"):
        first = keys(node)
        assert list(first) == [1]
        assert node.agent.varlink("noded", "RotateKey") == {"epoch": 2}
        wait_for(lambda: node.grid.node(node.number)["keyEpoch"] == 2, 60, "the chain has no second epoch")
        assert keys(node)[2] == forge.record(node)[forge.SEALING_KEY].hex()
        assert forge.record(node)[PREVIOUS_KEY].hex() == first[1]

        # Sealed to the new key by croft, to the old one by a tenant who has read it before: both run beside the first.
        with node.deployed(IDLE, name="second"):
            kind, spec = specification(node)
            sized = forge.packed(**{kind: 32 << 20})
            former = (1, bytes.fromhex(first[1]))
            # Time enough for a chain that is a day behind the node's clock.
            old = forge.propose_sealed(node, forge.seal(node, spec, key=former), sized, epoch=1, seconds=30 * 3600)
            node.grid.wait_reservation(old, "active", 120)
            running = {e["reservation"] for e in node.entries() if e["step"] == "running"}
            assert len(running) == 3 and old in running
            one, two, private = shares(node, 1)
            node.agent.run("/croft-test/busybox", "sync")
            assert all(on_disk(d, two) for d in disks[:2]) and any(on_disk(d, one) for d in disks[:2])

            # The day is over: the contract takes the old key no more, what runs goes on and so needs it.
            node.grid.rpc("evm_increaseTime", hex(24 * 3600 + 60))
            node.grid.mine(4)
            assert forge.refusal(node, forge.seal(node, spec, key=former), sized, epoch=1) == "reservation.key-epoch"
            node.grid.tenant().run("reservation", "cancel", old)
            wait_for(lambda: old not in {e["reservation"] for e in node.entries()}, 60, "it does not end")
            assert list(keys(node)) == [1, 2]
    # Nothing of epoch 1 is left: its key goes by itself, from every disk.
    wait_for(lambda: list(keys(node)) == [2], 150, "the old key stays")
    assert "epoch-1" not in node.agent.sh("ls /run/croft/pools/*/identity").out
    node.agent.run("/croft-test/busybox", "sync")
    for disk in disks[:2]:
        assert not on_disk(disk, two), disk
        assert not on_disk(disk, private), disk
    # A chain whose clock is a day off made nobody report without end.
    assert int.from_bytes(forge.record(node)[5], "big") < 40
    # What was sealed to it opens nowhere any more, while the new one opens.
    tenant = node.grid.rpc("eth_accounts")[2]
    for epoch, public, code in ((1, first[1], "node.cannot-open"), (2, keys(node)[2], None)):
        info = b"croft-reservation-v1" + forge.abi.encode(forge.BOUND, [
            lab_grid.CHAIN_ID, bytes.fromhex(node.grid.reservations[2:]), bytes.fromhex(tenant[2:]), node.number, epoch, 1])
        sealed = forge.primitives.hpke_seal(bytes.fromhex(public), secrets.token_bytes(32), info, b"", b"plain" * 9)
        asked = dict(tenant=tenant, keyEpoch=epoch, revision=1, sealed=base64.b64encode(sealed).decode())
        if code:
            with pytest.raises(Varlink) as refused:
                node.agent.varlink("noded", "Open", **asked)
            assert refused.value.parameters["code"] == code
        else:
            assert base64.b64decode(node.agent.varlink("noded", "Open", **asked)["plaintext"]) == b"plain" * 9


def identity_files(agent, folder):
    return agent.sh(f"cd {folder} && for f in *; do echo $f; md5sum < $f; stat -c '%Y %i' $f; done").out


def test_a_disk_of_another_node_is_left_alone_and_named(node, disks, boot):
    """It has run elsewhere, so that it carries an identity of its own."""
    other = boot(disks=disks[2:])
    other.wait_service("noded", 120)
    status = other.agent.varlink("noded", "GetStatus")
    theirs = other.agent.sh("ls -d /run/croft/pools/*/identity").out.strip()
    before = identity_files(other.agent, theirs)
    other.power_off()

    identity = node.agent.varlink("noded", "GetStatus")["identity"]
    assert status["identity"] != identity
    node.machine.disks = list(disks)
    node.reboot()
    now = node.agent.varlink("noded", "GetStatus")
    assert now["identity"] == identity and now["state"] == "active" and now["node"] == node.number
    assert now["foreign"] in theirs and now["foreign"]
    assert "node.foreign-pool" in node.machine.console and now["foreign"] in node.machine.console
    assert node.agent.varlink("noded", "RotateKey")["epoch"] == 3  # what is written to all pools is not written to that one
    wait_for(lambda: node.grid.node(node.number)["keyEpoch"] == 3, 60, "the chain has no third epoch")
    assert identity_files(node.agent, theirs) == before
    assert node.grid.node(node.number)["ephemeral"] is False


def test_of_two_halves_the_elder_stops(node, disks, images, session_logs):
    """Each disk in a machine of its own. The one that has reported stops with its workloads when the other one reports; both
    have kept the identity although a disk is lost to them."""
    identity = node.agent.varlink("noded", "GetStatus")["identity"]
    it = node.deploy(IDLE, name="halved")
    node.machine.power_off()
    node.machine.disks = [disks[0]]
    mark = node.machine.mark()
    node.machine.start()
    node.machine.wait("process", 180, mark, reservation=it.id)
    assert node.agent.varlink("noded", "GetStatus")["identity"] == identity
    wait_for(lambda: node.agent.varlink("noded", "GetStatus")["pending"] == 0, 60, "reports wait")

    with lab_node.Node(node.grid, session_logs / "identity-half", images, token=None, disks=[disks[1]], memory=1536) as half:
        half.start()
        assert half.number == node.number
        assert half.agent.varlink("noded", "GetStatus")["identity"] == identity
        half.machine.wait("process", 180, reservation=it.id)
        wait_for(lambda: node.agent.varlink("noded", "GetStatus")["state"] == "stopped", 150, "the elder does not stop")
        wait_for(lambda: node.status()["state"] == "stopped"
                 and not node.agent.varlink("contd", "List")["containers"], 150, "the elder runs on")
        assert "node.identity-conflict" in node.machine.console
        # Also when provd starts again, which remembers nothing.
        mark = node.machine.mark()
        node.agent.varlink("core0", "RestartService", name="provd")
        node.machine.wait_service("provd", 60, mark)
        wait_for(lambda: node.status()["state"] == "stopped", 60, "provd runs again")
        assert not node.agent.varlink("contd", "List")["containers"]
        assert half.agent.varlink("noded", "GetStatus")["state"] == "active"
        assert [c["state"] for c in half.agent.varlink("contd", "List")["containers"]] == ["running"]
        assert it.show()["state"] == "Active"
    node.machine.stop()


def test_all_disks_lost_and_taken_back_without_any(node, grid, images, session_logs):
    """The new machine has no disk at all: ephemeral, and the chain says so. It takes the old one's place by its farmer's word."""
    with lab_node.Node(grid, session_logs / "identity-new", images, token=None, memory=1536) as new:
        new.machine.start()
        new.machine.wait_service("noded", 120)
        number = wait_for(lambda: new.agent.varlink("noded", "GetStatus").get("node"), 120, "it does not register")
        shown = grid.node(number)
        assert number != node.number and shown["state"] == "Pending" and shown["ephemeral"] is True
        assert shown["identity"] != grid.node(node.number)["identity"]
        mark = new.machine.mark()
        grid.farmer.run("farm", "approve", number, "--replaces", node.number)
        new.number = grid.wait_node(new.machine, 120, mark)
        assert new.number == number
        old = grid.node(node.number)
        assert old["state"] == "Retired" and old["replacedBy"] == number
        assert grid.node(number)["state"] == "Active"
        # What was reserved on the old one is closed by anybody's word, and can be had on the new one.
        left = [r for r in grid.tenant().json("reservation", "list", "--node", node.number) if r["state"] == "Active"]
        assert left
        for one in left:
            assert grid.cli(5).json("reservation", "close", one["reservation"])["state"] == "Closed"
        assert not any(grid.node(node.number)["used"].values())
        with new.deployed(IDLE, name="again") as it:
            assert it.answer["state"].lower() == "active"
