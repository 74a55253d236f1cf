"""A DHCP server that does what its file says, for what dnsmasq never does: leases of seconds, refusals on command.

    dhcpd.py INTERFACE OWN-ADDRESS CONFIG LOG

CONFIG is read for every message: {"address": …, "lease": seconds, "silent": bool}. A request for another address than
the configured one is refused (NAK). LOG gets a line per message: type, requested or used address, unicast or not.
"""
import json
import pathlib
import socket
import struct
import sys

interface, own, config, log = sys.argv[1:5]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
s.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
s.bind(("0.0.0.0", 67))
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
NAMES = {DISCOVER: "discover", REQUEST: "request"}
print("ready", flush=True)
while True:
    data, anc, _, peer = s.recvmsg(2000, 200)
    to = next(socket.inet_ntoa(c[2][8:12]) for c in anc)
    options, at = {}, 240
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        options[data[at]] = data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    kind = options[53][0]
    used = socket.inet_ntoa(data[12:16])
    wanted = socket.inet_ntoa(options[50]) if 50 in options else used
    with open(log, "a") as f:
        print(NAMES.get(kind, kind), wanted, "unicast" if to != "255.255.255.255" else "broadcast", file=f)
    now = json.loads(pathlib.Path(config).read_text())
    chosen = socket.inet_ntoa(options[54]) if 54 in options else own
    if now.get("silent") or chosen != own:
        continue
    kind = OFFER if kind == DISCOVER else ACK if wanted == now["address"] else NAK
    given = now["address"] if kind != NAK else "0.0.0.0"
    reply = struct.pack(">BBBB4sHH4s4s4s4s16s64s128s4s", 2, 1, 6, 0, data[4:8], 0, 0, data[12:16] if kind == ACK else b"\0" * 4,
                        socket.inet_aton(given), b"\0" * 4, b"\0" * 4, data[28:44], b"", b"", data[236:240])
    reply += bytes([53, 1, kind, 54, 4]) + socket.inet_aton(own)
    if kind != NAK:
        reply += b"\x33\4" + struct.pack(">I", now["lease"]) + b"\1\4\xff\xff\xff\0" + b"\3\4" + socket.inet_aton("192.168.7.1")
        reply += b"\6\4" + socket.inet_aton("192.168.7.1") + b"\x2a\4" + socket.inet_aton("192.168.7.1")
    reply += b"\xff"
    s.sendto(reply, (used if used != "0.0.0.0" and kind == ACK else "255.255.255.255", 68))
