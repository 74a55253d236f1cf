"""Free TCP ports on loopback. They are taken below the range from which the kernel gives ports to
outgoing connections, so that none is lost between choosing and use."""
import random
import socket
import time

_given = set()


def free():
    for _ in range(1000):
        port = random.randint(20000, 31999)
        if port in _given:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no free port on loopback")


def wait_open(port, timeout, alive=lambda: True, host="127.0.0.1"):
    """Waits until somebody accepts connections; gives up when alive() says so."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and alive():
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {host}:{port}")
