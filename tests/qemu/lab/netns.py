"""A network of the tests' own: the session moves into a fresh network namespace, where nothing but
loopback exists, no port can collide and no packet can leave. Loopback carries the addresses of a
stand-in for the internet and of hosts in every closed range; QEMU's user network connects guests to
whatever address they ask for, so to a guest they are hosts of the world."""
import ctypes
import os
import socket
import subprocess
import threading

from . import ports

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

# Documentation ranges (RFC 5737, RFC 3849) stand in for the internet.
INTERNET = ("203.0.113.9", "198.51.100.9", "2001:db8:77::9")
CLOSED = ("10.99.0.5", "172.16.9.9", "172.31.255.9", "192.168.77.5", "100.64.1.9", "100.127.255.9",
          "169.254.7.7", "169.254.169.254", "fd12:3456::9", "fc00::9")
_libc = ctypes.CDLL(None, use_errno=True)


def enter():
    """Moves this process into the namespace. Only before the first thread starts."""
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWNET | (CLONE_NEWUSER if uid else 0)) != 0:
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
    if uid:
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{file}", "w") as f:
                f.write(text)
    ip = ["/bin/busybox", "ip"]
    subprocess.run([*ip, "link", "set", "lo", "up"], check=True)
    for address in (*INTERNET, *CLOSED):
        length = "128" if ":" in address else "32"
        subprocess.run([*ip, "addr", "add", f"{address}/{length}", "dev", "lo"], check=True)


class World:
    """Listens on one TCP and UDP port of every address; whoever connects is told so, and noted."""

    def __init__(self):
        self.port = ports.free()
        self.heard = []
        self._sockets = []
        for address in (*INTERNET, *CLOSED, "127.0.0.1", "::1"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                s = socket.socket(family, kind)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((address, self.port))
                self._sockets.append(s)
                if kind == socket.SOCK_STREAM:
                    s.listen(64)
                    serve = self._serve_tcp
                else:
                    serve = self._serve_udp
                threading.Thread(target=serve, args=(s, address), daemon=True).start()

    def _serve_tcp(self, s, address):
        try:
            while True:
                connection, _ = s.accept()
                self.heard.append(("tcp", address))
                connection.sendall(f"this is {address}\n".encode())
                connection.close()
        except OSError:
            pass

    def _serve_udp(self, s, address):
        try:
            while True:
                _, peer = s.recvfrom(2048)
                self.heard.append(("udp", address))
                s.sendto(f"this is {address}\n".encode(), peer)
        except OSError:
            pass

    def stop(self):
        for s in self._sockets:
            s.close()
