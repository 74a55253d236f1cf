"""A gate of the tests' own: TLS with a key of its own, challenges, a WebSocket, and every way of behaving badly. It is what
`croft logs` and `croft exec` are held against where a real node would be too well-behaved."""
import base64
import hashlib
import http
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
from duplex import Duplex  # noqa: E402
import abi
import primitives
from world import CHAIN_ID, word

TYPE = b"Access(uint64 node,uint64 reservation,string method,bytes32 nonce,uint64 expires)"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
INPUT, OUTPUT, ERROR, CONTROL = range(4)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Gone(Exception):
    pass


def make_key(folder):
    """(certificate and key as files, SHA-256 of the SubjectPublicKeyInfo)"""
    folder = pathlib.Path(folder)
    key, cert = folder / "gate.key", folder / "gate.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-subj", "/CN=nobody", "-days", "1"], check=True, capture_output=True)
    spki = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    return cert, key, hashlib.sha256(spki).digest()


class Request:
    def __init__(self, link, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.link = link
        self.verb, target, _ = lines[0].split(" ")
        parts = urllib.parse.urlsplit(target)
        self.path = parts.path
        self.query = urllib.parse.parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
        self.body = body

    # -- answers

    def send(self, data):
        try:
            self.link.sendall(data)
        except OSError:
            raise Gone from None

    def answer(self, status, body, *headers):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        reason = http.HTTPStatus(status).phrase
        self.send("\r\n".join([f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(text)}", *headers, "", ""]).encode() + text)

    def refuse(self, status, code, message="no", hint="ask"):
        error = {"code": code, "message": message, "hint": hint}
        self.answer(status, error, "Croft-Error: " + json.dumps(error))

    def chunks(self):
        self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def lines(self, entries):
        """A whole log."""
        self.chunks()
        for entry in entries:
            self.chunk(entry if isinstance(entry, bytes) else json.dumps(entry).encode() + b"\n")
        self.send(b"0\r\n\r\n")

    # -- WebSocket

    def upgrade(self, protocol="croft.exec.v1"):
        accept = base64.b64encode(hashlib.sha1(self.headers["sec-websocket-key"].encode() + GUID).digest()).decode()
        self.send("\r\n".join(["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
                               f"Sec-WebSocket-Accept: {accept}", f"Sec-WebSocket-Protocol: {protocol}", "", ""]).encode())

    def frame(self, opcode, data, fin=True):
        size = len(data)
        head = bytes([opcode | (0x80 if fin else 0)])
        head += bytes([size]) if size < 126 else struct.pack(">BH", 126, size) if size < 65536 else struct.pack(">BQ", 127, size)
        self.send(head + data)

    def message(self, channel, data):
        self.frame(BINARY, bytes([channel]) + data)

    def control(self, **values):
        self.message(CONTROL, json.dumps(values).encode())

    def exit(self, status):
        self.control(exit=status)
        self.frame(CLOSE, b"\x03\xe8")

    def read_exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                piece = self.link.recv(size - len(data))
            except OSError:
                raise Gone from None
            if not piece:
                raise Gone
            data += piece
        return data

    def read_frame(self):
        first, second = self.read_exactly(2)
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self.read_exactly(2 if size == 126 else 8), "big")
        mask = self.read_exactly(4)
        data = self.read_exactly(size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return first & 0xF, (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")

    def read_message(self):
        """(channel, bytes), or (CONTROL, object); pings are answered on the way."""
        while True:
            opcode, data = self.read_frame()
            if opcode == PING:
                self.frame(PONG, data)
            elif opcode == BINARY:
                return (CONTROL, json.loads(data[1:])) if data[0] == CONTROL else (data[0], data[1:])
            elif opcode == CLOSE:
                raise Gone


class Gate:
    """routes: path -> function(request); challenge: changes what is handed out."""

    def __init__(self, folder, node, reservations, address="127.0.0.1", port=0, tls=ssl.TLSVersion.TLSv1_3):
        self.node, self.reservations = node, reservations
        self.cert, self.key, self.key_hash = make_key(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cert, self.key)
        self.context.minimum_version = self.context.maximum_version = tls
        self.socket = socket.create_server((address, port))
        self.port = self.socket.getsockname()[1]
        self.routes = {}
        self.change = lambda challenge: challenge
        self.challenges, self.requests, self.trouble = {}, [], []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                link, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        try:
            link.settimeout(120)
            with self.context.wrap_socket(link, server_side=True) as tls:
                shared = Duplex(tls, 120)
                while True:
                    self.one(shared)
        except (OSError, Gone):
            pass
        except Exception as e:  # told by the test, which would otherwise only see a lost connection
            self.trouble.append(repr(e))
            link.close()

    def one(self, link):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = link.recv(1)
            if not piece:
                raise Gone
            head += piece
        request = Request(link, head[:-4], b"")
        request.body = request.read_exactly(int(request.headers.get("content-length", 0)))
        self.requests.append(request)
        if request.path == "/v1/challenge" and "/v1/challenge" not in self.routes:
            nonce = os.urandom(32)
            challenge = {"node": self.node, "reservation": json.loads(request.body)["reservation"], "nonce": "0x" + nonce.hex(),
                         "expires": int(time.time()) + 60, "chainId": CHAIN_ID, "reservations": self.reservations}
            self.challenges[challenge["nonce"]] = dict(challenge)
            request.answer(200, self.change(challenge))
            return
        self.routes[request.path](request)

    def signed_by(self, request, private, method):
        """Is the header a signature of this key over a challenge of ours, for this method? It is deterministic (RFC 6979)."""
        text = request.headers["authorization"]
        assert text.startswith("Croft nonce=0x") and ",signature=0x" in text, text
        nonce, signature = text[len("Croft nonce="):].split(",signature=")
        challenge = self.challenges.pop(nonce)  # good once
        kind = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
        domain = primitives.keccak256(primitives.keccak256(kind) + primitives.keccak256(b"Croft Gate") + primitives.keccak256(b"1")
                                      + word(CHAIN_ID) + word(self.reservations))
        data = primitives.keccak256(TYPE) + abi.encode(["uint64", "uint64"], [challenge["node"], challenge["reservation"]]) \
            + primitives.keccak256(method.encode()) + bytes.fromhex(nonce[2:]) + abi.encode(["uint64"], [challenge["expires"]])
        wanted = primitives.sign(private, primitives.keccak256(b"\x19\x01" + domain + primitives.keccak256(data)))
        return signature == "0x" + (wanted if isinstance(wanted, bytes) else b"".join(wanted)).hex()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept, too
        self.socket.close()
