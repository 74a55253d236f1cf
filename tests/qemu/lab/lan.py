"""An Ethernet segment played by this process: a router and DHCP server that tests direct, and a host
that knocks on ports. QEMU sends and receives its frames as UDP datagrams on loopback."""
import random
import socket
import struct
import threading
import time

from . import paths, ports

MAC = bytes.fromhex("525400aa0001")
BROADCAST = b"\xff" * 6
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = 1, 2, 3, 4, 5, 6, 7


def _sum(data):
    """The internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _ip(text):
    return socket.inet_aton(text)


class Lan:
    """address: what the server offers, None: it is silent. nak: it refuses requests for any address
    but that. seen: DHCP messages as (type, requested address, time). lease: seconds. vlan: the hosts of
    the segment speak only in frames with that tag; bare counts frames without the tag that they expect.
    clock: a function that gives the seconds since 1970 that the router serves by NTP, and names in its
    leases; None: no time here. asked: the addresses at which it was asked for the time."""

    def __init__(self, network="192.168.50", address="192.168.50.20", lease=3600, router=True, vlan=None):
        self.router_ip = f"{network}.1"
        self.host_ip = f"{network}.9"
        self.address, self.lease, self.router, self.vlan = address, lease, router, vlan
        self.clock, self.asked = None, []
        self.seen = []
        self.bare = 0
        self._here, self._there = ports.free(), {}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", self._here))
        self._macs = {}
        self._answers = set()
        self._refusals = set()
        self._changed = threading.Condition()
        threading.Thread(target=self._loop, daemon=True).start()

    def qemu(self, index=1):
        """Arguments for one more network card on this segment; every card hears every frame of ours."""
        there = self._there[index] = ports.free()
        return ["-netdev", f"socket,id=lan{index},udp=127.0.0.1:{self._here},"
                f"localaddr=127.0.0.1:{there}", "-device",
                f"virtio-net-pci,netdev=lan{index},mac=52:54:00:12:35:{index:02x}"]

    def stop(self):
        self._sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def _send(self, destination, kind, payload):
        tag = struct.pack(">HH", 0x8100, self.vlan) if self.vlan else b""
        frame = destination + MAC + tag + struct.pack(">H", kind) + payload
        for there in self._there.values():
            self._sock.sendto(frame.ljust(60, b"\0"), ("127.0.0.1", there))

    def _send_ip(self, mac, source, destination, protocol, payload):
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), random.getrandbits(16), 0, 64,
                           protocol, 0, _ip(source), _ip(destination))
        head = head[:10] + struct.pack(">H", _sum(head)) + head[12:]
        self._send(mac, 0x0800, head + payload)

    # -- receiving

    def _loop(self):
        try:
            while True:
                frame = self._sock.recv(65536)
                kind = struct.unpack(">H", frame[12:14])[0]
                tag = struct.unpack(">H", frame[14:16])[0] & 0xfff if kind == 0x8100 else None
                if tag != self.vlan:
                    self.bare += 1
                    continue
                if tag:
                    frame = frame[:12] + frame[16:]
                    kind = struct.unpack(">H", frame[12:14])[0]
                if kind == 0x0806:
                    self._arp(frame[14:42])
                elif kind == 0x0800:
                    self._ipv4(frame[6:12], frame[14:])
                else:
                    self._other(kind, frame[6:12], frame[14:])
        except OSError:
            pass

    def _arp(self, packet):
        operation, mac, ip, _, wanted = struct.unpack(">6xH6s4s6s4s", packet)
        with self._changed:
            if ip != bytes(4):
                self._macs[socket.inet_ntoa(ip)] = mac
            self._changed.notify_all()
        if operation == 1 and wanted in (_ip(self.router_ip), _ip(self.host_ip)):
            self._send(mac, 0x0806, struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, MAC, wanted, mac, ip))

    def _ipv4(self, mac, packet):
        size = (packet[0] & 15) * 4
        protocol, source = packet[9], socket.inet_ntoa(packet[12:16])
        body = packet[size:struct.unpack(">H", packet[2:4])[0]]
        if protocol == 17 and struct.unpack(">H", body[2:4])[0] == 67:
            self._dhcp(mac, body[8:])
        elif protocol == 17 and struct.unpack(">H", body[2:4])[0] == 123 and self.clock:
            self._ntp(mac, source, socket.inet_ntoa(packet[16:20]), body)
        else:
            self._heard(source, protocol, body)

    def _other(self, kind, mac, packet):
        """A frame of another kind."""

    def _heard(self, source, protocol, body):
        if protocol == 6:
            source_port, port, _, acked, _, flags = struct.unpack(">HHIIBB", body[:14])
            with self._changed:
                if flags & 0x12 == 0x12:
                    self._answers.add((source, source_port, port))
                elif flags & 4:
                    self._refusals.add((source, source_port))
                self._changed.notify_all()

    def _ntp(self, mac, source, own, body):
        """An answer of mode 4, stratum 2 (RFC 5905, 7.3)."""
        def stamp(seconds):
            return struct.pack(">Q", int((seconds + 2208988800) * (1 << 32)) & (1 << 64) - 1)
        port, question = body[:2], body[8:]
        if len(question) < 48 or question[0] & 7 != 3:
            return
        self.asked.append(own)
        now = self.clock()
        answer = bytes([question[0] & 0x38 | 4, 2, question[2], 0xec]) + struct.pack(">II", 0x100, 0x100) \
            + bytes([192, 0, 2, 1]) + stamp(now - 1) + question[40:48] + stamp(now) + stamp(now)
        self._send_ip(mac, own, source, 17, struct.pack(">H", 123) + port
                      + struct.pack(">HH", 8 + len(answer), 0) + answer)

    def _dhcp(self, mac, message):
        options, at = {}, 240
        while at < len(message) and message[at] != 255:
            if message[at]:
                options[message[at]] = message[at + 2:at + 2 + message[at + 1]]
                at += 1 + message[at + 1]
            at += 1
        kind = options.get(53, b"\0")[0]
        current = socket.inet_ntoa(message[12:16])
        asked = socket.inet_ntoa(options[50]) if 50 in options else current
        with self._changed:
            self.seen.append((kind, asked, time.monotonic()))
            self._changed.notify_all()
        if self.address is None or kind not in (DISCOVER, REQUEST):
            return
        answer = OFFER if kind == DISCOVER else ACK if asked == self.address else NAK
        reply = struct.pack(">BBBB4sHH4s4s4s4s16s192s4s", 2, 1, 6, 0, message[4:8], 0,
                            struct.unpack(">H", message[10:12])[0], bytes(4),
                            bytes(4) if answer == NAK else _ip(self.address), _ip(self.router_ip), bytes(4),
                            message[28:44], bytes(192), b"\x63\x82\x53\x63")
        reply += bytes([53, 1, answer, 54, 4]) + _ip(self.router_ip)
        if answer != NAK:
            reply += b"\x33\x04" + struct.pack(">I", self.lease) + b"\x01\x04\xff\xff\xff\0"
            if self.router:
                reply += b"\x03\x04" + _ip(self.router_ip) + b"\x06\x04" + _ip(self.router_ip)
            if self.clock:
                reply += b"\x2a\x04" + _ip(self.router_ip)
        reply += b"\xff"
        self._send_ip(BROADCAST, self.router_ip, "255.255.255.255", 17,
                      struct.pack(">HHHH", 67, 68, 8 + len(reply), 0) + reply)

    # -- what tests do

    def wait(self, kind, timeout=30, since=0, asked=None):
        """Waits for a DHCP message of that type at or after a position of .seen."""
        def found():
            return next((m for m in self.seen[since:] if m[0] == kind and asked in (None, m[1])), None)
        with self._changed:
            assert self._changed.wait_for(found, timeout * paths.SCALE), \
                f"no DHCP message {kind}: {self.seen}"
            return found()

    def advertise(self, prefix="2001:db8:50:1::", seconds=1800):
        """A router advertisement (RFC 4861) with a prefix for addresses of one's own."""
        source = socket.inet_pton(socket.AF_INET6, "fe80::5054:ff:feaa:1")
        target = socket.inet_pton(socket.AF_INET6, "ff02::1")
        body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, seconds, 0, 0)
        body += b"\1\1" + MAC
        body += struct.pack(">BBBBIII16s", 3, 4, 64, 0xc0, seconds, seconds, 0,
                            socket.inet_pton(socket.AF_INET6, prefix))
        pseudo = source + target + struct.pack(">IxxxB", len(body), 58)
        body = body[:2] + struct.pack(">H", _sum(pseudo + body)) + body[4:]
        self._send(bytes.fromhex("333300000001"), 0x86dd,
                   struct.pack(">IHBB", 0x60000000, len(body), 58, 255) + source + target + body)

    def _resolve(self, address, end):
        """The MAC that answers for an address now; None: nobody does."""
        request = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, MAC, _ip(self.host_ip), bytes(6),
                              _ip(address))
        with self._changed:
            self._macs.pop(address, None)
        while time.monotonic() < end:
            self._send(BROADCAST, 0x0806, request)
            with self._changed:
                self._changed.wait_for(lambda: address in self._macs, 1)
                if address in self._macs:
                    return self._macs[address]
        return None

    def _syn(self, mac, address, port, own):
        head = struct.pack(">HHIIBBHHH", own, port, random.getrandbits(32), 0, 0x50, 2, 8192, 0, 0)
        pseudo = _ip(self.host_ip) + _ip(address) + struct.pack(">HH", 6, len(head))
        head = head[:16] + struct.pack(">H", _sum(pseudo + head)) + head[18:]
        self._send_ip(mac, self.host_ip, address, 6, head)

    def knock(self, address, port, timeout=5):
        """Whether a TCP connection to that address is accepted (a SYN is answered by SYN and ACK)."""
        own = random.randint(40000, 60000)
        end = time.monotonic() + timeout * paths.SCALE
        while time.monotonic() < end:
            mac = self._resolve(address, end)
            if not mac:
                continue
            self._syn(mac, address, port, own)
            with self._changed:
                if self._changed.wait_for(lambda: (address, port, own) in self._answers, 1):
                    return True
        return False

    def _pace(self, mac, address, known, probe, timeout):
        """Until the node has looked at all that was sent before."""
        end = time.monotonic() + timeout * paths.SCALE
        with self._changed:
            self._answers.discard((address, known, probe))
        while True:
            self._syn(mac, address, known, probe)
            with self._changed:
                if self._changed.wait_for(lambda: (address, known, probe) in self._answers, 1):
                    return
            assert time.monotonic() < end, f"{address} port {known} fell silent before probe {probe}"

    def scan(self, address, known, timeout=60):
        """Every TCP port of an address: those that accept connections, and those that refuse them (which a
        firewall that drops does not). The port `known` is open: it is knocked at after each batch, and its
        answer shows that the batch before it was looked at, as frames keep their order."""
        mac = self._resolve(address, time.monotonic() + timeout * paths.SCALE)
        assert mac, f"nobody is {address}"
        self._refusals.clear()
        batch, own = 128, 33000
        for first in range(0, 1 << 16, batch):
            for port in range(first, first + batch):
                self._syn(mac, address, port, own)
            self._pace(mac, address, known, own + 1 + first // batch, timeout)
        return ({port for host, port, mine in self._answers if (host, mine) == (address, own)},
                {port for host, port in self._refusals if host == address})
