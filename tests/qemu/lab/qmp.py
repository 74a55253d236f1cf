"""A small client of QEMU's machine protocol (QMP), with its events kept in a list."""
import json
import socket
import threading
import time


class QmpError(Exception):
    pass


class Qmp:
    def __init__(self, path, on_event=lambda event: None):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        self._file = self._sock.makefile("r")
        self._answer = None
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._on_event = on_event
        self.events = []
        self.closed = False
        self._file.readline()
        threading.Thread(target=self._read_loop, daemon=True).start()
        self("qmp_capabilities")

    def _read_loop(self):
        try:
            for line in self._file:
                message = json.loads(line)
                with self._changed:
                    if "event" in message:
                        message["host"] = time.monotonic()
                        self.events.append(message)
                    else:
                        self._answer = message
                    self._changed.notify_all()
                if "event" in message:
                    self._on_event(message)
        except (OSError, ValueError):
            pass
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def __call__(self, command, **arguments):
        with self._lock:
            self._answer = None
            request = {"execute": command, **({"arguments": arguments} if arguments else {})}
            self._sock.sendall(json.dumps(request).encode())
            with self._changed:
                self._changed.wait_for(lambda: self._answer or self.closed, 30)
                answer = self._answer
        if not answer:
            raise QmpError(f"{command}: no answer")
        if "error" in answer:
            raise QmpError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def monitor(self, line):
        """One command of the human monitor."""
        return self("human-monitor-command", **{"command-line": line})

    def wait(self, name, timeout, since=0):
        """Waits for an event of that name, at or after position `since` of the list."""
        def found():
            return next((e for e in self.events[since:] if e["event"] == name), None)
        with self._changed:
            self._changed.wait_for(lambda: found() or self.closed, timeout)
        if not found():
            raise TimeoutError(f"no {name} from QEMU within {timeout:.0f} s")
        return found()
