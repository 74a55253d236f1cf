"""Boot media that `croft farm media` makes, read by other people's tools, and a machine that joins with one's token."""
import json
import os
import stat
import struct
import subprocess

import pytest
from lab import cli

import primitives
from world import CHAIN_ID, wait

BASE = "console=tty0 panic=30"
ROOM = 4096


def program(line=BASE):
    """An EFI program as scripts/make-uki lays it out, with next to nothing in it."""
    sections = [(b".osrel", b"ID=croft\n"), (b".cmdline", line.encode().ljust(ROOM, b"\0")), (b".linux", os.urandom(100_000))]
    head = b"MZ".ljust(0x3c, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 0, 0)
    table, body = b"", b""
    start = len(head) + 40 * len(sections)
    for name, data in sections:
        table += name.ljust(8, b"\0") + struct.pack("<IIIIIIHHI", len(data), 0x1000, len(data), start + len(body), 0, 0, 0, 0, 0)
        body += data
    return head + table + body


def split(data):
    """(what is around the command line, the command line)"""
    at = data.index(BASE.encode())
    return data[:at] + data[at + ROOM:], data[at:at + ROOM].rstrip(b"\0").decode()


@pytest.fixture
def image(tmp_path):
    made = tmp_path / "image"
    made.mkdir()
    (made / "croft.efi").write_bytes(program())
    (made / "vmlinuz").write_bytes(b"kernel")
    (made / "initramfs.cpio.zst").write_bytes(b"initramfs")
    return made


@pytest.fixture
def farmer(world, tmp_path):
    return cli.Cli({"CROFT_CHAIN": world.url, "CROFT_CHAINID": CHAIN_ID, "CROFT_REGISTRY": world.registry,
                    "CROFT_KEY_FILE": tmp_path / "key0", "XDG_CONFIG_HOME": tmp_path}, tmp_path)


def media(farmer, image, form, output, *options, check=True):
    return farmer.run("farm", "media", 1, "--form", form, "--from", image, "--output", output, "--json",
                      "--set", "runmode=dev", "--set", "croft.chain=http://10.0.2.2:8545", *options, check=check)


def tokens(farmer):
    return farmer.json("farm", "show", 1)["tokens"]


def check_line(line, world, token=True):
    words = line.split()
    assert words[:2] == BASE.split()
    values = dict(word.split("=", 1) for word in words[2:])
    values["croft.registry"] = values["croft.registry"].lower()
    secret = values.pop("croft.join", None)
    assert values == {"farmer_id": "1", "croft.chainid": str(CHAIN_ID), "croft.registry": world.registry.lower(),
                      "runmode": "dev", "croft.chain": "http://10.0.2.2:8545"}
    assert (secret is not None) == token
    return secret


def test_a_stick_reads_as_one_and_its_token_lets_a_machine_in(world, farmer, image, tmp_path):
    stick, partition, out = tmp_path / "stick.img", tmp_path / "esp", tmp_path / "out.efi"
    done = media(farmer, image, "usb", stick, "--uses", 2, "--hours", 5)
    assert stat.S_IMODE(stick.stat().st_mode) == 0o600 and stick.stat().st_size < 48 << 20

    table = json.loads(subprocess.run(["sfdisk", "--json", stick], check=True, capture_output=True).stdout)["partitiontable"]
    verified = subprocess.run(["sfdisk", "--verify", stick], capture_output=True, text=True)
    assert verified.returncode == 0 and "No errors detected" in verified.stdout, verified
    (esp,) = table["partitions"]
    assert table["label"] == "gpt" and esp["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    data = stick.read_bytes()
    partition.write_bytes(data[esp["start"] * 512:(esp["start"] + esp["size"]) * 512])
    checked = subprocess.run(["fsck.vfat", "-n", "-v", partition], capture_output=True, text=True)
    assert checked.returncode == 0 and "32 bit" in checked.stdout, checked
    subprocess.run(["mcopy", "-n", "-i", partition, "::EFI/BOOT/BOOTX64.EFI", out], check=True)
    around, line = split(out.read_bytes())
    assert around == split((image / "croft.efi").read_bytes())[0]
    secret = check_line(line, world)

    answer = json.loads(done.out)
    assert secret not in done.out + done.err
    assert answer["token"]["address"].lower() == world.address_of(bytes.fromhex(secret)).lower()
    assert answer["token"]["address"] in tokens(farmer) and answer["token"]["uses"] == 2
    world.start_relay()
    private = primitives.keccak256(b"machine of the stick")
    status, registered = world.post("register", world.registration(private, token=bytes.fromhex(secret)))
    assert status in (200, 202), registered
    wait("the node", lambda: world.node(world.address_of(private)).get("state") == 2)


def test_a_folder_for_network_boot(world, farmer, image, tmp_path):
    folder = tmp_path / "tftp"
    done = media(farmer, image, "pxe", folder)
    for name in ("vmlinuz", "initramfs.cpio.zst"):
        assert (folder / name).read_bytes() == (image / name).read_bytes()
    ipxe = (folder / "boot.ipxe").read_text().splitlines()
    assert ipxe[0] == "#!ipxe" and ipxe[2:] == ["initrd initramfs.cpio.zst", "boot"]
    assert ipxe[1].startswith("kernel vmlinuz initrd=initramfs.cpio.zst ")
    secret = check_line(ipxe[1].split(" ", 3)[3], world)
    linux = dict(line.strip().split(" ", 1) for line in (folder / "pxelinux.cfg/default").read_text().splitlines())
    assert (linux["KERNEL"], linux["INITRD"]) == ("vmlinuz", "initramfs.cpio.zst")
    assert check_line(linux["APPEND"], world) == secret
    assert check_line(split((folder / "croft.efi").read_bytes())[1], world) == secret
    assert secret not in done.out + done.err
    holding = {p.name for p in folder.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()}
    assert holding == {"boot.ipxe", "default", "croft.efi"}
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in folder.rglob("*") if p.name in holding)


def test_a_medium_without_a_token(world, farmer, image, tmp_path):
    before = tokens(farmer)
    done = media(farmer, image, "efi", tmp_path / "out.efi", "--no-token")
    check_line(split((tmp_path / "out.efi").read_bytes())[1], world, token=False)
    assert "token" not in json.loads(done.out) and tokens(farmer) == before


@pytest.mark.parametrize("form,spoil,options,status,code", [
    ("usb", "croft.efi", (), 1, "media.bad-image"),
    ("pxe", "vmlinuz", (), 1, "media.bad-image"),
    ("usb", None, ("--set", "croft.nope=1"), 2, "media.bad-parameter"),
    ("usb", None, ("--set", "croft.join=" + "0" * 64), 2, "media.bad-parameter"),
    ("usb", None, ("--uses", "0"), 2, "cli.bad-option"),
    ("floppy", None, (), 2, "cli.wrong-use"),
])
def test_what_cannot_be_made_leaves_no_token_and_no_medium(world, farmer, image, tmp_path, form, spoil, options, status, code):
    if spoil:
        (image / spoil).unlink()
    before = tokens(farmer)
    output = tmp_path / "medium"
    done = media(farmer, image, form, output, *options, check=False)
    assert done.status == status and code in done.err, done
    assert tokens(farmer) == before
    assert not output.exists() or not [p for p in output.rglob("*") if p.is_file()]


def test_a_stranger_to_the_farm_gets_no_medium(world, farmer, image, tmp_path):
    stranger = cli.Cli({**farmer.env, "CROFT_KEY_FILE": str(tmp_path / "key1")}, tmp_path)
    done = media(stranger, image, "usb", tmp_path / "stick", check=False)
    assert done.status == 3 and "chain.not-farmer" in done.err, done
    assert not (tmp_path / "stick").exists()
