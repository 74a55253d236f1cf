"""A JSON-RPC endpoint between a node and its chain that counts, lies and plays dead, over HTTP and
WebSocket alike."""
import base64
import collections
import hashlib
import http.client
import http.server
import json
import os
import socket
import struct
import threading
import time

from . import ports

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Frames:
    """Reads and writes WebSocket frames (RFC 6455) on a socket; `masked` as a client must."""

    def __init__(self, sock, masked):
        self._file = sock.makefile("rb")
        self._sock, self._masked = sock, masked
        self._lock = threading.Lock()

    def _exact(self, size):
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def read(self):
        """The next whole message: (opcode, payload)."""
        kind, payload = None, b""
        while True:
            first, second = self._exact(2)
            size = second & 0x7f
            if size == 126:
                size = struct.unpack(">H", self._exact(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._exact(8))[0]
            key = self._exact(4) if second & 0x80 else None
            data = self._exact(size)
            if key:
                pad = (key * (size // 4 + 1))[:size]
                data = (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
            opcode = first & 0xf
            if opcode >= CLOSE:
                return opcode, data
            kind = kind if opcode == 0 else opcode
            payload += data
            if first & 0x80:
                return kind, payload

    def write(self, opcode, data):
        mask = 0x80 if self._masked else 0
        size = len(data)
        head = bytes([0x80 | opcode])
        if size < 126:
            head += bytes([mask | size])
        elif size < 65536:
            head += bytes([mask | 126]) + struct.pack(">H", size)
        else:
            head += bytes([mask | 127]) + struct.pack(">Q", size)
        if self._masked:
            head += b"\0\0\0\0"  # a mask of zeros leaves the data as it is
        with self._lock:
            self._sock.sendall(head + data)


def upgrade(host, port):
    """Opens a WebSocket as a client."""
    sock = socket.create_connection((host, port), 10)
    sock.settimeout(None)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                 f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                 "Sec-WebSocket-Version: 13\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError
        head += byte
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise OSError(head.decode(errors="replace"))
    return sock


class Proxy:
    """lies: {method: function(result, params) -> result}, changed at any time. Requests are counted
    by method in .counts; .log holds (time, method). upstream: the port that is asked. raw: what every POST is answered with
    instead, bytes or a function of the request."""

    def __init__(self, upstream_port, port=None):
        self.port = port or ports.free()
        self.counts = collections.Counter()
        self.log = []
        self.lies = {}
        self.told = collections.Counter()
        self.raw = None
        self.notifications = 0
        self.upstream = upstream_port
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._sockets = set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def setup(self):
                outer._sockets.add(self.request)
                super().setup()

            def handle(self):
                if not outer._refusing:
                    super().handle()

            def finish(self):
                outer._sockets.discard(self.request)
                super().finish()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer._open.wait()
                answer = outer._forward(body)
                outer._open.wait()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self):
                outer._open.wait()
                self.close_connection = True
                if self.headers.get("Upgrade", "").lower() != "websocket":
                    self.send_error(405)
                    return
                accept = base64.b64encode(hashlib.sha1(
                    self.headers["Sec-WebSocket-Key"].encode()
                    + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
                self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                                 + accept.encode() + b"\r\n\r\n")
                outer._bridge(self.request)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a node that hangs up is nobody's error

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    # -- what tests do

    def blackhole(self):
        """From now on nothing passes, and nothing is closed or refused."""
        self._open.clear()

    def refuse(self):
        """From now on every connection is closed at once, as where nothing listens; those that there are end."""
        self._refusing = True
        self.hang_up()

    def heal(self):
        self._refusing = False
        self._open.set()

    def hang_up(self):
        """Closes every connection."""
        for sock in list(self._sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def since(self, start):
        """Methods asked for since that time (time.monotonic)."""
        return collections.Counter(m for t, m in self.log if t >= start)

    # -- forwarding

    def _count(self, message):
        for request in message if isinstance(message, list) else [message]:
            method = request.get("method", "?")
            self.counts[method] += 1
            self.log.append((time.monotonic(), method))

    def _lie(self, requests, answer):
        """Changes the results of those answers whose method has a lie. A result that the lie leaves
        as it was is not counted as told."""
        answers = answer if isinstance(answer, list) else [answer]
        by_id = {json.dumps(r.get("id")): r for r in requests}
        for a in answers:
            request = by_id.get(json.dumps(a.get("id")), {})
            lie = self.lies.get(request.get("method"))
            if lie and a.get("result") is not None:
                before = json.dumps(a["result"])
                a["result"] = lie(json.loads(before), request.get("params", []))
                if json.dumps(a["result"]) != before:
                    self.told[request["method"]] += 1
        return answer

    def _forward(self, body):
        message = json.loads(body)
        self._count(message)
        if self.raw is not None:
            return self.raw(message) if callable(self.raw) else self.raw
        link = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        link.request("POST", "/", body, {"Content-Type": "application/json"})
        raw = link.getresponse().read()
        link.close()
        requests = message if isinstance(message, list) else [message]
        if any(r.get("method") in self.lies for r in requests):
            raw = json.dumps(self._lie(requests, json.loads(raw))).encode()
        return raw

    def _bridge(self, client):
        """Passes messages between a node's WebSocket and the chain's."""
        server = upgrade("127.0.0.1", self.upstream)
        node, chain = Frames(client, False), Frames(server, True)
        asked = {}

        def down():
            try:
                while True:
                    opcode, data = chain.read()
                    self._open.wait()
                    if opcode == TEXT:
                        message = json.loads(data)
                        if isinstance(message, dict) and "method" in message:
                            self.notifications += 1
                        elif isinstance(message, list):
                            requests = [asked.pop(json.dumps(m.get("id")), {}) for m in message]
                            data = json.dumps(self._lie(requests, message)).encode()
                        else:
                            request = asked.pop(json.dumps(message.get("id")), {})
                            if request.get("method") in self.lies:
                                data = json.dumps(self._lie([request], message)).encode()
                    node.write(opcode, data)
            except (EOFError, OSError, ValueError):
                pass
            finally:
                for s in (client, server):
                    try:
                        s.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

        threading.Thread(target=down, daemon=True).start()
        try:
            while True:
                opcode, data = node.read()
                self._open.wait()
                if opcode == TEXT:
                    message = json.loads(data)
                    self._count(message)
                    for request in message if isinstance(message, list) else [message]:
                        asked[json.dumps(request.get("id"))] = request
                chain.write(opcode, data)
        except (EOFError, OSError, ValueError):
            pass
        finally:
            server.close()


def flip(text, at=-1):
    """A hex string with one digit changed (the last one unless said otherwise)."""
    at %= len(text)
    digit = "0123456789abcdef"[int(text[at], 16) ^ 1]
    return text[:at] + digit + text[at + 1:]
