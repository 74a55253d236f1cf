"""Writes newc cpio archives, the form the kernel unpacks as an initramfs."""
import stat


class Archive:
    """Collects files in order; bytes() gives the archive. Parent folders are added by themselves."""

    def __init__(self):
        self._parts = []
        self._seen = set()
        self._inode = 0x43000000  # far from the image's own, in case they are compared

    def _entry(self, path, mode, data=b"", device=(0, 0)):
        self._inode += 1
        name = path.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + name
        for part in (head, data):
            self._parts.append(part + b"\0" * (-len(part) % 4))

    def _parents(self, path):
        names = path.split("/")[:-1]
        for i in range(1, len(names) + 1):
            self.folder("/".join(names[:i]))

    def folder(self, path, mode=0o755):
        path = path.strip("/")
        if path in self._seen:
            return
        self._parents(path)
        self._seen.add(path)
        self._entry(path, stat.S_IFDIR | mode)

    def file(self, path, data, mode=0o644):
        path = path.strip("/")
        self._parents(path)
        self._entry(path, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)

    def link(self, path, target):
        path = path.strip("/")
        self._parents(path)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, major, minor, mode=0o600):
        path = path.strip("/")
        self._parents(path)
        self._entry(path, stat.S_IFCHR | mode, b"", (major, minor))

    def bytes(self):
        tail = Archive()
        tail._entry("TRAILER!!!", 0)
        body = b"".join(self._parts + tail._parts)
        return body + b"\0" * (-len(body) % 512)


def append(base, archive):
    """The initramfs `base` (compressed or not) with one more archive behind it. The kernel accepts
    an uncompressed archive only at a multiple of four bytes."""
    return base + b"\0" * (-len(base) % 512) + archive.bytes()
