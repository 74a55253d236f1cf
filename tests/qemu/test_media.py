"""A stick that `croft farm media` wrote, in a machine with nothing but firmware: it boots, joins and is left alone."""
import hashlib

import pytest

from lab import machine, paths

SECONDS = 10  # about, for the order in which files start

FIRMWARE = "/usr/share/ovmf/OVMF.fd"


@pytest.fixture
def image(tmp_path):
    """The image as built; its own command line gets what every emulated machine of the tests is given."""
    made = tmp_path / "image"
    made.mkdir()
    program = bytearray((paths.BUILD / "image/croft.efi").read_bytes())
    end = program.index(b"console=tty0")
    end = program.index(b"\0", end)
    extra = " ".join(["", "quiet", *machine.EMULATED]).encode()
    program[end:end + len(extra)] = extra
    (made / "croft.efi").write_bytes(program)
    return made


def test_a_stick_boots_a_machine_that_joins_the_farm(grid, logs, image):
    stick = logs / "stick.img"
    params = grid.params()
    done = grid.farmer.json("farm", "media", grid.farm, "--form", "usb", "--from", image, "--output", stick,
                            *(x for p in params if p.startswith(("runmode", "croft.chain=", "croft.trust", "croft.relay", "croft.address"))
                              for x in ("--set", p)))
    before = hashlib.sha256(stick.read_bytes()).digest()
    disk = machine.disk_create(logs / "disk.img", 8192, "data")
    with machine.Machine(logs / "node", firmware=FIRMWARE, agent=False,
                         disks=[machine.Disk(stick, "stick", "usb"), disk]) as m:
        event = m.wait("registered", 240, service="noded")
        assert event["farm"] == grid.farm
        node = grid.node(event["node"])
        assert node["state"].lower() == "active" and node["capacity"]["ssd"] + node["capacity"]["hdd"] > 4 << 30
    assert done["token"]["uses"] == 1
    assert hashlib.sha256(stick.read_bytes()).digest() == before, "the boot medium was written to"
