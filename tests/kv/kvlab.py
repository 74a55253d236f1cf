"""A kvd of our own per test, and a client that shows answers exactly as they came."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KVD = pathlib.Path(os.environ.get("KVD", ROOT / "build/bin/kvd"))
# With STOP, and under the sanitizers: it tells what leaked when it ends.
KVD_DEBUG = ROOT / "build/test/kvd-debug"


class Error(Exception):
    """An error answer, without its '-'."""


class Client:
    """RESP2 over a socket: bytes as bytes, nil as None, arrays as lists, errors raised (inside arrays: returned)."""

    def __init__(self, address, timeout=20):
        if isinstance(address, tuple):
            self.socket = socket.create_connection(address, timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(str(address))
        self.file = self.socket.makefile("rb")

    @staticmethod
    def pack(*arguments):
        out = [b"*%d\r\n" % len(arguments)]
        for a in arguments:
            a = a if isinstance(a, bytes) else str(a).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(a), a))
        return b"".join(out)

    def send(self, *arguments):
        self.socket.sendall(self.pack(*arguments))

    def answer(self, nested=False):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            if nested:
                return Error(rest.decode())
            raise Error(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            n = int(rest)
            if n < 0:
                return None
            data = self.file.read(n + 2)
            if len(data) != n + 2:
                raise ConnectionError("closed")
            return data[:-2]
        assert kind == b"*", line
        return [self.answer(True) for _ in range(int(rest))]

    def __call__(self, *arguments):
        self.send(*arguments)
        return self.answer()

    def error(self, *arguments):
        """The words of the error that this must give."""
        try:
            got = self(*arguments)
        except Error as e:
            return str(e)
        raise AssertionError(f"{arguments!r} answered {got!r} instead of an error")

    def closed(self):
        """Whether the server ended the connection (and sent nothing more)."""
        self.socket.settimeout(10)
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True

    def close(self):
        self.file.close()
        self.socket.close()


class Kvd:
    def __init__(self, folder, *options, listen=("tcp:127.0.0.1:0",), password=None, metrics=False, sync="everysec",
                 binary=None):
        self.binary = binary or KVD
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.options = ["--sync", sync]
        for address in listen:
            self.options += ["--listen", address]
        self.listen = listen
        self.password = password
        if password:
            file = self.folder / "password"
            file.write_text(password + "\n")
            self.options += ["--admin-password-file", file]
        if metrics:
            self.options += ["--metrics", "127.0.0.1:0"]
        self.options += options
        self.log = self.folder / "kvd.log"
        self.process = None
        self.clients = []

    def start(self, timeout=20):
        self.log.write_text("")
        self.process = subprocess.Popen([self.binary, "--data", self.data, *map(str, self.options)],
                                        stderr=self.log.open("ab"), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + timeout
        while self.log.read_text().count("listening on") < len(self.listen):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"kvd did not start: {self.log.read_text()}")
            time.sleep(0.005)
        text = self.log.read_text()
        self.ports = [int(p) for p in re.findall(r"listening on \S+ \(port (\d+)\)", text)]
        if "--metrics" in self.options:
            while not (found := re.search(r"metrics on port (\d+)", self.log.read_text())):
                time.sleep(0.005)
            self.metrics_port = int(found.group(1))
        return self

    @property
    def port(self):
        return self.ports[0]

    def client(self, admin=None, **more):
        c = Client(("127.0.0.1", self.port), **more)
        self.clients.append(c)
        if admin if admin is not None else False:
            assert c("AUTH", self.password) == "OK"
        return c

    def admin(self):
        return self.client(admin=self.password is not None)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        """Asks it to end; it must do so by itself."""
        self.process.terminate()
        status = self.process.wait(20)
        assert status == 0, self.log.read_text()

    def alive(self):
        return self.process.poll() is None

    def end(self):
        for c in self.clients:
            c.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) << 10

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def fetch_metrics(self):
        s = socket.create_connection(("127.0.0.1", self.metrics_port), 10)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: kvd\r\nConnection: close\r\n\r\n")
        text = b""
        while chunk := s.recv(65536):
            text += chunk
        s.close()
        head, _, body = text.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        values = {}
        for line in body.decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = int(value)
        return values
