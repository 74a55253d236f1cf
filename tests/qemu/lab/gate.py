"""A client of a node's gate, written from docs/formats.md and docs/gate.md alone, so that what `croft` and gated agree on is
seen by a third. It does what a well-behaved client does, and lets a test alter each step of it."""
import base64
import hashlib
import io
import json
import os
import pathlib
import socket
import ssl
import struct
import sys
import urllib.parse

from . import paths

sys.path[:0] = [str(paths.ROOT / "tests/vectors"), str(paths.ROOT / "tests/common")]
import primitives  # noqa: E402
from duplex import Duplex  # noqa: E402

PORT = 4443
TYPE = b"Access(uint64 node,uint64 reservation,string method,bytes32 nonce,uint64 expires)"
DOMAIN = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
INPUT, OUTPUT, ERROR, CONTROL = range(4)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
TIMEOUT = 60


class GateError(AssertionError):
    """The gate refused, or said something that its protocol does not know."""

    def __init__(self, status, answer):
        super().__init__(f"{status}: {answer}")
        self.status = status
        self.code = answer.get("code") if isinstance(answer, dict) else None
        self.message = answer.get("message") if isinstance(answer, dict) else answer


class Gone(AssertionError):
    """The gate closed the connection."""


# ---- who calls


def read_key(file):
    return int(pathlib.Path(file).read_text().strip().removeprefix("0x"), 16)


def _word(value):
    return value.to_bytes(32, "big")


def digest(challenge, method):
    """What is signed (EIP-712)."""
    h = primitives.keccak256
    domain = h(h(DOMAIN) + h(b"Croft Gate") + h(b"1") + _word(challenge["chainId"])
               + bytes(12) + bytes.fromhex(challenge["reservations"][2:]))
    message = h(h(TYPE) + _word(challenge["node"]) + _word(challenge["reservation"]) + h(method.encode())
                + bytes.fromhex(challenge["nonce"][2:]) + _word(challenge["expires"]))
    return h(b"\x19\x01" + domain + message)


def authorization(challenge, method, key):
    return f"Croft nonce={challenge['nonce']},signature=0x{primitives.sign(key, digest(challenge, method)).hex()}"


# ---- certificates


def _element(data, at):
    """A DER element at a place: where its content begins, and where it ends."""
    size, at = data[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7f
        size, at = int.from_bytes(data[at:at + count], "big"), at + count
    return at, at + size


def public_key(certificate):
    """The SubjectPublicKeyInfo of a certificate (RFC 5280, section 4.1), as DER."""
    at, _ = _element(certificate, 0)
    at, _ = _element(certificate, at)
    if certificate[at] == 0xa0:
        at = _element(certificate, at)[1]
    for _ in range(5):  # serialNumber, signature, issuer, validity, subject
        at = _element(certificate, at)[1]
    return certificate[at:_element(certificate, at)[1]]


# ---- connections


class Connection:
    """One TLS connection; requests one after another."""

    def __init__(self, port, host="127.0.0.1", timeout=TIMEOUT, versions=None, receive=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the key is looked at, see .key_hash
        context.minimum_version, context.maximum_version = versions or (ssl.TLSVersion.TLSv1_3,) * 2
        plain = socket.socket()
        if receive:  # of the socket's buffer: what a reader who does not read takes
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        plain.settimeout(timeout * paths.SCALE)
        try:
            plain.connect((host, port))
            self.tls = context.wrap_socket(plain, server_hostname=None)
        except BaseException:
            plain.close()
            raise
        self.socket = Duplex(self.tls, timeout * paths.SCALE)
        self.file = io.BufferedReader(self.socket)
        self.certificate = self.tls.getpeercert(binary_form=True)
        self.key_hash = hashlib.sha256(public_key(self.certificate)).digest()

    def close(self):
        """Hangs up without a word, as a program that is killed does."""
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, verb, target, headers=(), body=None):
        lines = [f"{verb} {target} HTTP/1.1", "Host: gate", *headers]
        if body is not None:
            body = json.dumps(body).encode() if not isinstance(body, bytes) else body
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        try:
            self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as e:
            raise Gone(f"{verb} {target}: {e}") from None

    def _line(self):
        try:
            line = self.file.readline(16384)
        except (ConnectionResetError, ssl.SSLError) as e:
            raise Gone(str(e)) from None
        if not line.endswith(b"\r\n"):
            raise Gone(f"the connection ended within a line: {line!r}")
        return line[:-2].decode("latin-1")

    def head(self):
        """Status and headers of an answer."""
        version, status, *_ = self._line().split(" ", 2)
        assert version == "HTTP/1.1", version
        headers = {}
        while line := self._line():
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        return int(status), headers

    def exact(self, size):
        data = self.file.read(size)
        if len(data) != size:
            raise Gone(f"{len(data)} bytes of {size} before the end")
        return data

    def chunks(self):
        """The chunks of an answer (RFC 9112, section 7.1) as they come."""
        while size := int(self._line(), 16):
            yield self.exact(size)
            assert self.exact(2) == b"\r\n"
        assert self._line() == ""

    def answer(self):
        """Status, headers and the whole body of an answer that has a length."""
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join(self.chunks())
        return status, headers, self.exact(int(headers["content-length"]))


class Gate:
    """The gate behind a port of loopback, as one person with a key (an integer) calls it."""

    def __init__(self, port, key, timeout=TIMEOUT):
        self.port, self.key, self.timeout = port, key, timeout

    def connect(self, **options):
        return Connection(self.port, timeout=self.timeout, **options)

    def challenge(self, reservation, link=None):
        own = link or self.connect()
        own.send("POST", "/v1/challenge", body={"reservation": reservation})
        status, _, body = own.answer()
        if not link:
            own.close()
        answer = json.loads(body)
        if status != 200:
            raise GateError(status, answer)
        return answer

    def open(self, method, reservation, target, verb="GET", body=None, link=None, headers=(), challenge=None, who=None):
        """Calls with a challenge of its own, or with a given one, or with whatever `who` says; returns the connection."""
        link = link or self.connect()
        if who is None:
            challenge = challenge or self.challenge(reservation, link)
            who = f"Authorization: {authorization(challenge, method, self.key)}"
        link.send(verb, target, [who, *headers] if who else headers, body)
        return link

    def call(self, *args, **options):
        """The answer's JSON; GateError for a refusal."""
        link = self.open(*args, **options)
        status, headers, body = link.answer()
        if "link" not in options:
            link.close()
        answer = json.loads(body) if headers["content-type"] == "application/json" else body
        if status != 200:
            raise GateError(status, answer)
        return answer

    # -- methods

    def status(self, reservation):
        return self.call("status", reservation, "/v1/status")

    def restart(self, reservation, service=""):
        return self.call("restart", reservation, "/v1/restart", "POST", {"service": service})

    def node(self):
        return self.call("node", 0, "/v1/node")

    def follow(self, reservation, connect=None, method="logs", path="/v1/logs", **query):
        """The connection, and the entries of a log as they come; None stands for a sign of life. Where it begins: link.start."""
        link = self.open(method, reservation, f"{path}?{urllib.parse.urlencode(query)}", link=self.connect(**(connect or {})))
        status, headers = link.head()
        if status != 200:
            raise GateError(status, json.loads(link.exact(int(headers["content-length"]))))
        assert headers["content-type"] == "application/x-ndjson", headers
        link.start = headers.get("croft-log-at")

        def entries():
            rest = b""
            for chunk in link.chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line) if line else None
            assert rest == b"", rest
        return link, entries()

    def logs(self, reservation, **query):
        """A log to its end."""
        link, entries = self.follow(reservation, **query)
        with link:
            return [e for e in entries if e]

    def node_log(self, service, **query):
        return self.logs(0, method="node-log", path="/v1/node/log", service=service, **query)

    def exec(self, reservation, *argv, env=(), link=None, **query):
        words = [*query.items(), *(("arg", a) for a in argv), *(("env", e) for e in env)]
        target = f"/v1/exec?{urllib.parse.urlencode(words, quote_via=urllib.parse.quote)}"
        return Exec(self, reservation, target, link)


class Exec:
    """A program in a container, by WebSocket."""

    def __init__(self, gate, reservation, target, link=None):
        token = base64.b64encode(os.urandom(16))
        self.link = gate.open("exec", reservation, target, link=link, headers=[
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {token.decode()}", "Sec-WebSocket-Protocol: croft.exec.v1"])
        status, headers = self.link.head()
        if status != 101:
            answer = json.loads(self.link.exact(int(headers["content-length"])))
            # A client that is shown no body of a refused upgrade reads the same in one header.
            assert json.loads(headers["croft-error"])["code"] == answer["code"], headers
            self.link.close()
            raise GateError(status, answer)
        assert headers["sec-websocket-accept"] == base64.b64encode(hashlib.sha1(token + GUID).digest()).decode()
        assert headers["sec-websocket-protocol"] == "croft.exec.v1"
        self.pings = 0

    def close(self):
        self.link.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- frames (RFC 6455, section 5)

    def frame(self, kind, payload, fin=True, mask=True, reserved=0):
        size, key = len(payload), os.urandom(4)
        head = bytes([(0x80 if fin else 0) | reserved << 4 | kind])
        bit = 0x80 if mask else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 1 << 16:
            head += struct.pack(">BH", bit | 126, size)
        else:
            head += struct.pack(">BQ", bit | 127, size)
        if mask:
            pad = (key * (size // 4 + 1))[:size]
            payload = key + (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
        self.link.socket.sendall(head + payload)

    def receive(self):
        """Kind and payload of the next frame."""
        first, size = self.link.exact(2)
        assert first & 0xf0 == 0x80 and size < 128, (first, size)  # whole, nothing reserved, not masked
        if size == 126:
            size = struct.unpack(">H", self.link.exact(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.link.exact(8))[0]
        return first & 15, self.link.exact(size)

    # -- what a client says and hears

    def send(self, data, piece=32 << 10):
        for at in range(0, len(data), piece):
            self.frame(BINARY, bytes([INPUT]) + data[at:at + piece])

    def control(self, **what):
        self.frame(BINARY, bytes([CONTROL]) + json.dumps(what).encode())

    def messages(self):
        """Channel and bytes, until the gate closes in good order."""
        while True:
            kind, payload = self.receive()
            if kind == PING:
                self.frame(PONG, payload)
                self.pings += 1
            elif kind == CLOSE:
                assert struct.unpack(">H", payload[:2])[0] == 1000, payload
                self.frame(CLOSE, payload[:2])
                return
            elif kind != PONG:
                assert kind == BINARY and payload, (kind, payload)
                yield payload[0], payload[1:]

    def until(self, text):
        """Reads what the program prints until it has printed that."""
        seen = b""
        for channel, data in self.messages():
            assert channel != CONTROL, data
            seen += data
            if text in seen:
                return seen
        raise Gone(f"the end came before {text!r}: {seen!r}")

    def finish(self):
        """What the program printed (both channels) and its status; GateError if it could not be run."""
        out, end = {OUTPUT: b"", ERROR: b""}, None
        for channel, data in self.messages():
            assert end is None, "something follows the last word"
            if channel == CONTROL:
                end = json.loads(data)
            else:
                out[channel] += data
        self.close()
        assert end is not None, "the end was not told"
        if "error" in end:
            raise GateError(101, end["error"])
        return end["exit"], out[OUTPUT], out[ERROR]
