"""A host of the segment that looks at every port of a node: TCP over IPv4 and IPv6, and UDP as far as silence tells."""
import random
import socket
import struct
import time

from . import paths
from .lan import MAC, Lan, _ip, _sum

PREFIX = "2001:db8:50:1::"
HOST = PREFIX + "9"
SOLICIT, ADVERTISE = 135, 136  # RFC 4861, section 4
OWN = 33000                    # the port that the scan comes from
PROBES = 34000                 # and those of the knocks in between, which are not those of scan()
BATCH = 128
# Whoever serves names or the time answers one of these; anybody else gets the first.
NAMES = bytes.fromhex("123401000001000000000000") + b"\x07version\x04bind\0" + b"\0\x10\0\x03"
TIME = b"\x23" + bytes(47)


def _ip6(text):
    return socket.inet_pton(socket.AF_INET6, text)


class Scanner(Lan):
    """answered: (protocol, port) of what came back for the scan by UDP: 17 from a port itself, 1 and 58 as an error of ICMP."""

    def __init__(self, *args, **options):
        self.answered = set()
        super().__init__(*args, **options)

    def address6(self, index=1):
        """What a card of this segment makes of the prefix (RFC 4291, appendix A)."""
        return socket.inet_ntop(socket.AF_INET6, _ip6(PREFIX)[:8] + bytes.fromhex(f"505400fffe1235{index:02x}"))

    # -- IPv6

    def _send_ip6(self, mac, source, destination, kind, payload):
        self._send(mac, 0x86dd, struct.pack(">IHBB16s16s", 6 << 28, len(payload), kind, 255, _ip6(source), _ip6(destination)) + payload)

    @staticmethod
    def _summed(source, destination, kind, payload, at):
        """The payload with its checksum, which covers a pseudo header (RFC 8200, section 8.1), at a place."""
        total = _sum(_ip6(source) + _ip6(destination) + struct.pack(">II", len(payload), kind) + payload)
        return payload[:at] + struct.pack(">H", total) + payload[at + 2:]

    def _neighbour(self, mac, destination, kind, flags, target, option):
        body = struct.pack(">BBHI16sBB6s", kind, 0, 0, flags, _ip6(target), option, 1, MAC)
        self._send_ip6(mac, HOST, destination, 58, self._summed(HOST, destination, 58, body, 2))

    def _other(self, kind, mac, packet):
        if kind != 0x86dd:
            return
        source, body = socket.inet_ntop(socket.AF_INET6, packet[8:24]), packet[40:40 + struct.unpack(">H", packet[4:6])[0]]
        if packet[6] == 58 and body[0] == SOLICIT and body[8:24] == _ip6(HOST) and packet[8:24] != bytes(16):
            self._neighbour(mac, source, ADVERTISE, 0x60000000, HOST, 2)
        elif packet[6] == 58 and body[0] == ADVERTISE:
            with self._changed:
                self._macs[socket.inet_ntop(socket.AF_INET6, body[8:24])] = mac
                self._changed.notify_all()
        else:
            self._heard(source, packet[6], body)

    def _heard(self, source, protocol, body):
        if len(body) < 8:
            return
        if protocol == 17 and struct.unpack(">H", body[2:4])[0] == OWN:
            self.answered.add((17, struct.unpack(">H", body[:2])[0]))
        elif (protocol, body[0]) in ((1, 3), (58, 1)):  # destination unreachable, with the head of what was sent
            inner = body[8 + (20 if protocol == 1 else 40):]
            self.answered.add((protocol, struct.unpack(">H", inner[2:4])[0]))
        else:
            super()._heard(source, protocol, body)

    def _resolve(self, address, end):
        if ":" not in address:
            return super()._resolve(address, end)
        wanted = _ip6(address)
        group = "ff02::1:ff" + wanted[13:14].hex() + ":" + wanted[14:].hex()
        with self._changed:
            self._macs.pop(address, None)
        while time.monotonic() < end:
            self._neighbour(b"\x33\x33\xff" + wanted[13:], group, SOLICIT, 0, address, 1)
            with self._changed:
                if self._changed.wait_for(lambda: address in self._macs, 1):
                    return self._macs[address]
        return None

    def _syn(self, mac, address, port, own):
        if ":" not in address:
            return super()._syn(mac, address, port, own)
        head = struct.pack(">HHIIBBHHH", own, port, random.getrandbits(32), 0, 0x50, 2, 8192, 0, 0)
        return self._send_ip6(mac, HOST, address, 6, self._summed(HOST, address, 6, head, 16))

    # -- UDP

    def _datagram(self, mac, address, port):
        text = TIME if port == 123 else NAMES
        head = struct.pack(">HHHH", OWN, port, 8 + len(text), 0) + text
        if ":" in address:
            self._send_ip6(mac, HOST, address, 17, self._summed(HOST, address, 17, head, 6))
        else:
            self._send_ip(mac, self.host_ip, address, 17, head)  # without a checksum, as IPv4 allows

    def scan_udp(self, address, known, timeout=60):
        """What answers a datagram to any port of an address: see .answered. Silence means closed, dropped, or a program that has
        nothing to say. `known` is as for scan()."""
        mac = self._resolve(address, time.monotonic() + timeout * paths.SCALE)
        assert mac, f"nobody is {address}"
        self.answered.clear()
        for first in range(0, 1 << 16, BATCH):
            for port in range(first, first + BATCH):
                self._datagram(mac, address, port)
            self._pace(mac, address, known, PROBES + first // BATCH, timeout)
        return set(self.answered)
