"""A disk whose cache forgets: a server of QEMU's network block protocol (NBD) on a Unix socket, over a file.

What was written since the last flush is on the disk only by luck when the power goes: cut() keeps a part of it that the seed
chooses and takes the rest back, in any order, as a real write cache may lose it. The same server answers with errors, is
read-only or has no room when a test says so. Protocol: https://github.com/NetworkBlockDevice/nbd, doc/proto.md.
"""
import os
import pathlib
import random
import socket
import struct
import tempfile
import threading

OPTION_MAGIC, REPLY_MAGIC = b"IHAVEOPT", 0x3e889045565a9
REQUEST, ANSWER = 0x25609513, 0x67446698
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACK, REPLY_INFO, UNSUPPORTED = 1, 3, (1 << 31) + 1
HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM = 1, 4, 8, 32
READ, WRITE, DISCONNECT, FLUSH, TRIM = range(5)
FUA = 1
EIO, EINVAL = 5, 22


class Volatile:
    """path: the file below. device: what the guest has of it, as QEMU writes it. seed: what the power cut keeps. fail: a function of (command, offset, length) that gives the errno
    with which that request ends, 0 for none; changed at any time. flushes, writes: how many there were."""

    def __init__(self, path, seed=0, device="virtio-blk-pci"):
        self.path = pathlib.Path(path)
        self.device = device
        self.fail = lambda command, offset, length: 0
        self.flushes = self.writes = self.refused = 0
        self.random = random.Random(seed)
        self._file = os.open(path, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self._lock = threading.Lock()
        self._pending = []  # (offset, before, after) of every write since the last flush
        self._folder = tempfile.mkdtemp(prefix="croft-nbd.")
        self._path = f"{self._folder}/socket"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self._path)
        self._server.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def drive(self, name):
        """QEMU's arguments for the disk below a device that says drive=<name>."""
        return ["-blockdev", f"driver=nbd,node-name={name},server.type=unix,server.path={self._path},"
                             "cache.direct=off,cache.no-flush=off,discard=unmap"]

    def cut(self):
        """The power is gone (QEMU is gone already): loses what luck does not keep. Returns (written, lost) since the last flush."""
        with self._lock:
            pending, self._pending = self._pending, []
            kept = [w for w in pending if self.random.random() < 0.5]
            for offset, before, _ in reversed(pending):
                os.pwrite(self._file, before, offset)
            for offset, _, after in kept:
                os.pwrite(self._file, after, offset)
            return len(pending), len(pending) - len(kept)

    def stop(self):
        self._server.close()
        os.close(self._file)
        pathlib.Path(self._path).unlink(missing_ok=True)
        os.rmdir(self._folder)

    # -- the protocol

    def _accept(self):
        try:
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
        except OSError:
            pass

    def _serve(self, client):
        stream = client.makefile("rb")

        def exact(size):
            data = stream.read(size)
            if len(data) < size:
                raise EOFError
            return data
        try:
            if self._negotiate(client, exact):
                while self._request(client, exact):
                    pass
        except (EOFError, OSError):
            pass
        finally:
            client.close()

    def _negotiate(self, client, exact):
        flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM
        client.sendall(b"NBDMAGIC" + OPTION_MAGIC + struct.pack(">H", 3))  # fixed newstyle, no zeroes
        exact(4)
        while True:
            magic, option, size = struct.unpack(">8sII", exact(16))
            data = exact(size)
            assert magic == OPTION_MAGIC and len(data) == size

            def reply(kind, body=b"", option=option):
                client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(body)) + body)
            if option == EXPORT_NAME:
                client.sendall(struct.pack(">QH", self._size, flags))
                return True
            if option == ABORT:
                reply(ACK)
                return False
            if option in (INFO, GO):
                reply(REPLY_INFO, struct.pack(">HQH", 0, self._size, flags))
                reply(ACK)
                if option == GO:
                    return True
            else:
                reply(UNSUPPORTED)

    def _request(self, client, exact):
        magic, flags, command, handle, offset, length = struct.unpack(">IHHQQI", exact(28))
        assert magic == REQUEST
        data = exact(length) if command == WRITE else b""
        if command == DISCONNECT:
            return False
        error, answer = self.fail(command, offset, length), b""
        if error:
            self.refused += 1
        else:
            try:
                error, answer = self._do(command, flags, offset, length, data)
            except OSError as e:
                error = e.errno
        client.sendall(struct.pack(">IIQ", ANSWER, error, handle) + (answer if not error else b""))
        return True

    def _do(self, command, flags, offset, length, data):
        with self._lock:
            if command == READ:
                return 0, os.pread(self._file, length, offset)
            if command == WRITE:
                self.writes += 1
                before = os.pread(self._file, length, offset)
                os.pwrite(self._file, data, offset)
                self._pending.append((offset, before, data))
                if flags & FUA:  # itself safe, whatever else waits; an earlier write to the same place is with it
                    self._pending = [w for w in self._pending
                                     if w[0] + len(w[2]) <= offset or w[0] >= offset + length]
                return 0, b""
            if command == FLUSH:
                self.flushes += 1
                self._pending.clear()
                return 0, b""
            return (0 if command == TRIM else EINVAL), b""  # to forget less than one may is always right
