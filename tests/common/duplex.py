"""TLS that one thread reads from while another writes.

OpenSSL's connections do not stand that by themselves: Python 3.13 has a lock for it, Debian 12's Python has none, and now and then a record
was lost or sent twice. A lock held over a read that waits would hold up the writer, so the socket does not wait; poll does."""
import io
import select
import ssl
import threading
import time

TURN = 1  # seconds until readiness is looked at again, whatever the other thread did


class Duplex(io.RawIOBase):
    """Of an ssl.SSLSocket, which is closed with it. timeout: seconds for one piece in either direction, then TimeoutError."""

    def __init__(self, tls, timeout):
        super().__init__()
        self.tls, self.timeout = tls, timeout
        self._one_at_a_time, self._sending = threading.Lock(), threading.Lock()
        tls.setblocking(False)

    def _tried(self, attempt):
        end = time.monotonic() + self.timeout
        while True:
            try:
                with self._one_at_a_time:
                    return attempt()
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            poll = select.poll()
            poll.register(self.tls.fileno(), wanted)
            if not poll.poll(TURN * 1000) and time.monotonic() > end:
                raise TimeoutError("the other side does nothing")

    def recv(self, size):
        return self._tried(lambda: self.tls.recv(size))

    def sendall(self, data):
        with self._sending:  # one whole frame after the other
            while data:
                data = data[self._tried(lambda: self.tls.send(data)):]

    # -- io.RawIOBase, so that io.BufferedReader can stand in front

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.recv(len(buffer))
        buffer[:len(piece)] = piece
        return len(piece)

    def close(self):
        if not self.closed:
            self.tls.close()
        super().close()
