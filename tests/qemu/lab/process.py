"""Programs on the host that live as long as the test or the demonstration, with a log each."""
import ctypes
import os
import pathlib
import signal
import subprocess
import time

from . import paths, ports

_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class ProcessError(AssertionError):
    pass


def die_with_parent():
    """In a child before exec: SIGTERM when whoever started it is gone."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A started program. Its output goes to `log`; it gets SIGTERM when we die."""

    def __init__(self, name, command, log, env=None, cwd=None):
        self.name = name
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.command = [str(c) for c in command]
        self.env, self.cwd = env, cwd
        self.popen = None
        self.start()

    def start(self):
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.cwd,
                env={**os.environ, **self.env} if self.env else None,
                preexec_fn=die_with_parent)

    def alive(self):
        return self.popen.poll() is None

    def tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_port(self, port, timeout=30):
        try:
            ports.wait_open(port, timeout * paths.SCALE, self.alive)
        except TimeoutError:
            raise ProcessError(f"{self.name} does not listen:\n{self.tail()}") from None

    def wait_log(self, text, timeout=30):
        end = time.monotonic() + timeout * paths.SCALE
        while text not in self.log.read_text(errors="replace"):
            if not self.alive() or time.monotonic() > end:
                raise ProcessError(f"{self.name} never said {text!r}:\n{self.tail()}")
            time.sleep(0.05)

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            self.popen.send_signal(sig)

    def stop(self, timeout=5):
        """Asks it to end, and makes it end. Safe to call again."""
        if self.alive():
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()
