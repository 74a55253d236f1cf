"""Reads what ships and proves how it was built."""
import hashlib
import pathlib
import stat
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import elf  # noqa: E402
import initramfs  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = ROOT / "build/image"
ENTRIES = initramfs.read((IMAGE / "initramfs.cpio").read_bytes())
PROGRAMS = {name: data for name, data in initramfs.files(ENTRIES).items() if data[:4] == b"\x7fELF"}


def test_the_programs_are_there():
    for name in ("usr/lib/croft/core0", "usr/bin/busybox", "usr/bin/runc", "usr/bin/btrfs", "usr/bin/mkfs.btrfs", "usr/bin/mke2fs"):
        assert name in PROGRAMS
    assert ENTRIES["init"][1] == b"usr/lib/croft/core0"


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_hardening(name):
    program = elf.Elf(PROGRAMS[name])
    assert program.type == elf.ET_DYN, "position independent"
    assert not program.find(elf.PT_INTERP), "static: no loader"
    assert not [value for tag, value in program.dynamic() if tag in (elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH)], "static: no library"
    assert program.flags(elf.DT_FLAGS_1) & elf.DF_1_PIE, "static PIE"
    assert not program.flags(elf.DT_FLAGS) & elf.DF_TEXTREL and elf.DT_TEXTREL not in dict(program.dynamic()), "no relocation of code"
    assert program.find(elf.PT_GNU_RELRO), "read-only after relocation"
    assert program.flags(elf.DT_FLAGS) & elf.DF_BIND_NOW or program.flags(elf.DT_FLAGS_1) & elf.DF_1_NOW, "bound at start"
    stack, = program.find(elf.PT_GNU_STACK)
    assert not stack[1] & elf.PF_X, "no executable stack"
    for segment in program.segments:
        assert not (segment[1] & elf.PF_W and segment[1] & elf.PF_X), "nothing writable and executable"
    assert program.guards() >= 10, "stack protector"


def test_nothing_is_setuid_and_root_owns_all():
    for name, (mode, _, fields) in ENTRIES.items():
        assert not mode & (stat.S_ISUID | stat.S_ISGID), name
        assert fields[2] == fields[3] == 0, name
        assert stat.S_ISLNK(mode) or name == "tmp" or not mode & stat.S_IWOTH, name


def test_order_and_time_are_fixed():
    names = list(ENTRIES)
    assert names == sorted(names)
    assert len({fields[5] for _, _, fields in ENTRIES.values()}) == 1


def test_the_digest_names_kernel_and_files():
    """Recomputed from what ships (docs/formats.md, section 12)."""
    def sha256(data):
        return hashlib.sha256(data).hexdigest()
    text = f"croft-image-v1 {sha256((IMAGE / 'vmlinuz').read_bytes())}\n"
    for path in sorted(set(ENTRIES) - {"etc/croft/image-digest"}):
        mode, data, fields = ENTRIES[path]
        text += f"{mode:06o} {fields[9]}:{fields[10]} {sha256(data)} {path}\n"
    mode, carried, _ = ENTRIES["etc/croft/image-digest"]
    assert carried.decode() == sha256(text.encode()) + "\n" == (IMAGE / "image-digest").read_text()
    assert stat.S_IMODE(mode) == 0o644


def test_no_path_of_the_build_machine_ships():
    for name, data in PROGRAMS.items():
        assert str(ROOT).encode() + b"/" not in data, name


def test_size():
    total = sum((IMAGE / name).stat().st_size for name in ("vmlinuz", "initramfs.cpio.zst"))
    assert total <= 30_000_000
    assert len(PROGRAMS["usr/lib/croft/core0"]) <= 400_000


def test_sizes_table_is_sorted_and_true():
    rows = [line.split("\t") for line in (IMAGE / "SIZES.tsv").read_text().splitlines()]
    sizes = [int(size) for size, _ in rows]
    assert sizes == sorted(sizes, reverse=True)
    table = {path: int(size) for size, path in rows}
    for name, data in initramfs.files(ENTRIES).items():
        assert table["/" + name] == len(data)


def test_efi_sections():
    """The command line's section is 4 KiB, zero-padded, and within what the kernel takes."""
    data = (IMAGE / "croft.efi").read_bytes()
    pe = int.from_bytes(data[0x3C:0x40], "little")
    count, optional = int.from_bytes(data[pe + 6:pe + 8], "little"), int.from_bytes(data[pe + 20:pe + 22], "little")
    sections = {}
    for i in range(count):
        row = data[pe + 24 + optional + 40 * i:][:40]
        sections[row[:8].rstrip(b"\0").decode()] = tuple(int.from_bytes(row[at:at + 4], "little") for at in (8, 12, 16, 20))
    assert {".cmdline", ".initrd", ".linux", ".osrel", ".uname"} <= sections.keys()
    _, _, size, offset = sections[".cmdline"]
    cmdline = data[offset:offset + 4096]
    text = cmdline.rstrip(b"\0")
    assert size >= 4096 and 0 < len(text) <= 2047 and b"\0" not in text
    for name, path in ((".linux", "vmlinuz"), (".initrd", "initramfs.cpio.zst")):
        virtual, _, _, at = sections[name]
        content = (IMAGE / path).read_bytes()
        assert virtual >= len(content) and data[at:at + len(content)] == content
    ranges = sorted((address, address + virtual) for virtual, address, _, _ in sections.values())
    assert all(end <= start for (_, end), (start, _) in zip(ranges, ranges[1:])), "sections overlap"
