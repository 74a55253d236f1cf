"""Reads a newc archive, as the kernel does."""
import stat

HEADER = 110


def read(data):
    """{path: (mode, content, the thirteen fields of its header)}"""
    entries, at = {}, 0
    while True:
        if data[at:at + 6] != b"070701":
            raise ValueError(f"no member at {at}")
        fields = [int(data[at + 6 + i * 8:at + 14 + i * 8], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + HEADER:at + HEADER + name_size - 1].decode()
        at = (at + HEADER + name_size + 3) & ~3
        content = data[at:at + size]
        at = (at + size + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        entries[name] = (mode, content, fields)


def files(entries):
    return {name: content for name, (mode, content, _) in entries.items() if stat.S_ISREG(mode)}
