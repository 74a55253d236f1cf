"""The host's end of the test agent (tests/agent/agent.c, which describes the frames)."""
import collections
import json
import os
import queue
import shlex
import signal
import struct
import threading
import time

MAGIC = b"CrfA"
EXEC, READ, WRITE, KILL, NETLINK, UNIX, LIMIT = range(1, 8)

# The interface that each program serves.
INTERFACES = {"core0": "core", "netd": "net", "storaged": "storage", "imaged": "image",
              "contd": "container", "noded": "node", "provd": "provision"}

Result = collections.namedtuple("Result", "status out err us")


class AgentError(Exception):
    """The agent did not answer, or answered with an errno."""


class Varlink(Exception):
    """A varlink call answered with an error; .error is its name, .parameters what came with it."""

    def __init__(self, error, parameters):
        super().__init__(f"{error}: {parameters}")
        self.error, self.parameters = error, parameters


class Agent:
    def __init__(self, sock, scale=1.0):
        self._sock = sock
        self._scale = scale
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._gone = False
        self._answers = {}  # of each request under way, by its number
        self._greeted = threading.Condition()
        self._boot = None
        self._id = 0
        self._reader = threading.Thread(target=self._read_loop, daemon=True)
        self._reader.start()

    # -- receiving

    def _exact(self, size):
        data = b""
        while len(data) < size:
            part = self._sock.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data

    def _read_loop(self):
        try:
            while True:
                window = self._exact(4)
                while window != MAGIC:
                    window = window[1:] + self._exact(1)
                body = self._exact(struct.unpack("<I", self._exact(4))[0])
                ident, status = struct.unpack_from("<Ii", body)
                fields, at = [], 8
                while at < len(body):
                    size = struct.unpack_from("<I", body, at)[0]
                    fields.append(body[at + 4:at + 4 + size])
                    at += 4 + size
                if ident == 0:
                    with self._greeted:
                        self._boot = fields[0].decode().strip()
                        self._greeted.notify_all()
                else:
                    with self._lock:
                        answer = self._answers.get(ident)
                    if answer:
                        answer.put((status, fields))
        except (EOFError, OSError):
            with self._lock:
                self._gone = True
                for answer in self._answers.values():
                    answer.put(None)

    # -- the boot that answers

    def forget(self):
        """The machine was reset: nothing answers until the next greeting."""
        with self._greeted:
            self._boot = None

    def boot_id(self, timeout=60):
        """Waits until an agent is there; returns the boot id of its machine."""
        with self._greeted:
            if not self._greeted.wait_for(lambda: self._boot, timeout * self._scale):
                raise AgentError("the test agent did not greet")
            return self._boot

    # -- requests

    def _call(self, op, fields, timeout):
        self.boot_id()
        answer = queue.Queue()
        with self._lock:
            if self._gone:
                raise AgentError("the machine is gone")
            self._id += 1
            ident = self._id
            self._answers[ident] = answer
            body = struct.pack("<Ii", ident, op)
            for f in fields:
                f = f.encode() if isinstance(f, str) else f
                body += struct.pack("<I", len(f)) + f
        try:
            with self._sending:
                self._sock.sendall(MAGIC + struct.pack("<I", len(body)) + body)
            answer = answer.get(timeout=timeout)
        except queue.Empty:
            raise AgentError(f"no answer within {timeout:.0f} s") from None
        finally:
            with self._lock:
                del self._answers[ident]
        if answer is None:
            raise AgentError("the machine is gone")
        return answer

    def run(self, *argv, stdin=b"", timeout=30, check=True):
        """Runs a program in the node. With check, a status other than 0 raises."""
        limit = timeout * self._scale
        status, (out, err, us) = self._call(
            EXEC, [str(int(limit * 1000)), stdin, *map(str, argv)], limit + 30 * self._scale)
        if status < 0:
            raise AgentError(f"{shlex.join(map(str, argv))}: {os.strerror(-status)}")
        result = Result(status, out.decode(errors="replace"), err.decode(errors="replace"), int(us))
        if check and status:
            raise AgentError(f"{shlex.join(map(str, argv))}: status {status}\n{result.out}{result.err}")
        return result

    def sh(self, script, timeout=30, check=True):
        """Runs a script with the test archive's own BusyBox shell."""
        return self.run("/croft-test/busybox", "sh", "-c", script, timeout=timeout, check=check)

    def _simple(self, op, fields, what, timeout=30):
        status, answer = self._call(op, fields, timeout * self._scale)
        if status < 0:
            raise AgentError(f"{what}: {os.strerror(-status)}")
        return status, answer[0]

    def read(self, path):
        return self._simple(READ, [path], path)[1]

    def text(self, path):
        return self.read(path).decode()

    def json(self, path):
        return json.loads(self.read(path))

    def exists(self, path):
        return self.run("/croft-test/busybox", "test", "-e", path, check=False).status == 0

    def write(self, path, data, mode=0o644):
        self._simple(WRITE, [path, f"{mode:o}", data], path)

    def kill(self, name, sig=signal.SIGKILL):
        """Signals every process of that name; returns their number."""
        return self._simple(KILL, [str(int(sig)), name], name)[0]

    def limit(self, pid, resource, value):
        """Sets a limit (resource.RLIMIT_…) of a running process; None: no limit."""
        self._simple(LIMIT, [str(pid), str(int(resource)), "max" if value is None else str(value)], f"limit of {pid}")

    def netlink(self, protocol, request):
        """Raw answer of the kernel to one netlink request."""
        return self._simple(NETLINK, [str(protocol), request], "netlink")[1]

    def unix(self, path, request, timeout=30):
        limit = timeout * self._scale
        return self._simple(UNIX, [path, str(int(limit * 1000)), request], path, timeout + 10)[1]

    def varlink(self, program, method, timeout=30, **parameters):
        """Calls a method of one of our daemons, as root; `method` in full or without the
        program's own interface."""
        if "." not in method:
            method = f"org.croft.{INTERFACES[program]}.{method}"
        request = json.dumps({"method": method, "parameters": parameters}).encode() + b"\0"
        end = time.monotonic() + timeout * self._scale
        while True:
            answer = self.unix(f"/run/croft/{program}", request, timeout)
            if not answer.endswith(b"\0"):
                raise AgentError(f"{method}: connection closed after {answer!r}")
            reply = json.loads(answer.split(b"\0")[0])
            found = reply.get("parameters", {})
            if "error" not in reply:
                return found
            # As provd does: a storaged that was just started has not found its disks yet.
            if found.get("code") != "storage.busy" or time.monotonic() > end:
                raise Varlink(reply["error"], found)
            time.sleep(0.2)
