"""Clients that are slow, huge, wrong or many: they cost what is stated, and the others do not notice."""
import os
import random
import socket
import threading
import time

import pytest
from kvlab import Client, Error

MIB = 1 << 20


def latency(server, seconds=1.0):
    """The worst of a well-behaved client's round trips meanwhile."""
    c = server.client()
    worst, end, n = 0, time.monotonic() + seconds, 0
    while time.monotonic() < end:
        begin = time.monotonic()
        c("SET", f"well-behaved{n}", n)
        assert c("GET", f"well-behaved{n}") == b"%d" % n
        worst = max(worst, time.monotonic() - begin)
        n += 1
    assert n > 10
    return worst


# Far above what a shared machine adds, far below what waiting for the other client would be.
UNDISTURBED = 5


def test_values_of_every_size(kvd):
    c = kvd().client()
    for size in (0, 1, 16383, 16384, 16385, 65536, MIB, 64 * MIB):
        value = os.urandom(size)
        assert c("SET", "v", value) == b"v"
        assert c("GET", "v") == value
    c.send("SET", "v", b"")
    c.answer()
    head = b"*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n" % (64 * MIB + 1)
    c.socket.sendall(head)
    with pytest.raises(Error, match="kv.protocol"):
        c.answer()
    assert c.closed()


def test_max_value(kvd):
    s = kvd("--max-value", "1000")
    c = s.client()
    assert c("SET", "a", "x" * 1000) == b"a"
    assert c.error("SET", "b", "x" * 1001).startswith("ERR kv.")
    assert s.client()("EXISTS", "b") == 0


def test_garbage(kvd):
    s = kvd()
    random.seed(5)
    for i in range(300):
        sock = socket.create_connection(("127.0.0.1", s.port), 10)
        data = bytes(random.randrange(256) for _ in range(random.randrange(1, 200)))
        if i % 3 == 0:
            data = b"*%d\r\n$%d\r\n" % (random.randrange(2000), random.randrange(100)) + data
        elif i % 3 == 1:
            data = bytearray(Client.pack("SET", "a", data))
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        try:
            sock.sendall(data)
            if i % 2:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
        except OSError:
            pass
        sock.close()
    assert s.client()("PING") == "PONG"


@pytest.mark.parametrize("data", [b"*1025\r\n", b"*-1\r\n", b"*1\r\n$-5\r\n", b"*1\r\n:3\r\n", b"x" * 70000, b'SET "a\r\n',
                                  b"*99999999999\r\n", b"*1\r\n$4\r\nPINGxx"])
def test_what_is_not_resp_is_said_and_ends_the_connection(kvd, data):
    s = kvd()
    c = s.client()
    c.socket.sendall(b"PING\r\n" + data)
    assert c.answer() == "PONG"
    with pytest.raises(Error, match="^ERR kv.protocol Protocol error"):
        c.answer()
    assert c.closed()
    assert s.client()("PING") == "PONG"


def test_http_ends_the_connection(kvd):
    s = kvd()
    c = s.client()
    c.socket.sendall(b"POST / HTTP/1.1\r\nHost: kvd\r\nContent-Length: 9\r\n\r\nSET a 1\r\n")
    with pytest.raises(Error, match="Command not supported"):
        c.answer()
    assert c.closed()
    assert s.client()("EXISTS", "a") == 0


def test_byte_by_byte(kvd):
    c = kvd().client()
    for byte in Client.pack("SET", "key", "v" * 100) + b"GET key\r\n":
        c.socket.sendall(bytes([byte]))
    assert c.answer() == b"key" and c.answer() == b"v" * 100


def test_half_closed_clients_get_their_answers(kvd):
    s = kvd(sync="always")
    sock = socket.create_connection(("127.0.0.1", s.port), 10)
    sock.sendall(b"".join(Client.pack("SET", f"k{i}", i) for i in range(1000)) + Client.pack("NSNEW", "late") + b"*1\r\n$4\r\nPI")
    sock.shutdown(socket.SHUT_WR)
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    assert data.count(b"$") == 1000 and data.endswith(b"+OK\r\n")


def test_a_slow_reader_costs_little_and_holds_nobody_up(kvd):
    s = kvd()
    c = s.client()
    c("SET", "large", os.urandom(MIB))
    before = s.memory()
    slow = [s.client() for _ in range(20)]
    for x in slow:
        x.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        x.socket.settimeout(0.5)
        try:
            x.socket.sendall(b"".join(Client.pack("GET", "large") for _ in range(2000)))
        except TimeoutError:
            pass
    assert latency(s) < UNDISTURBED
    assert s.memory() - before < 20 * (3 * MIB) + 16 * MIB
    # each of them still gets everything that was asked for in whole requests
    x = slow[0]
    x.socket.settimeout(10)
    for _ in range(50):
        assert len(x.answer()) == MIB


def test_large_values_stay_within_the_stated_memory(kvd):
    """Forty clients send and fetch 8 MiB each over a budget of 64 MiB: all are served, none holds more than that."""
    s = kvd("--max-value", 16 * MIB, "--max-memory", 64 * MIB, "--segment-size", 64 * MIB)
    value = os.urandom(8 * MIB)
    failures = []
    s.client()("SET", "warm", value)
    before = s.memory()
    peak = [0]
    done = threading.Event()

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], s.memory())

    def work(i):
        try:
            c = Client(("127.0.0.1", s.port), timeout=60)
            assert c("SET", f"k{i}", b"%04d" % i + value) == b"k%d" % i
            assert c("GET", f"k{i}") == b"%04d" % i + value
            c.close()
        except Exception as e:  # noqa: BLE001
            failures.append(repr(e))

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    done.set()
    watcher.join()
    assert not failures
    # the budget, and what the engine says it keeps for itself (its buffers and the cache of newest records)
    assert peak[0] - before < 64 * MIB + 80 * MIB, (before >> 20, peak[0] >> 20)


def test_a_request_that_never_ends_is_ended(kvd):
    s = kvd("--request-timeout", "1", metrics=True)
    idle, dribble, half = s.client(), s.client(), s.client()
    half.socket.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$50000\r\nxxxx")
    begin = time.monotonic()
    ended = False
    while time.monotonic() - begin < 8 and not ended:
        try:
            dribble.socket.sendall(b"x")
            time.sleep(0.1)
            dribble.socket.sendall(b"x")
        except OSError:
            ended = True
    assert ended
    assert half.closed()
    assert idle("PING") == "PONG"  # to be idle is allowed
    assert s.fetch_metrics()["kvd_clients_timed_out_total"] >= 2


def test_an_answer_that_is_never_taken_is_ended(kvd):
    s = kvd("--request-timeout", "1", metrics=True)
    c = s.client()
    c("SET", "large", bytes(4 * MIB))
    stuck = s.client()
    stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.send("GET", "large")
    stuck.socket.sendall(Client.pack("GET", "large") * 20)
    deadline = time.monotonic() + 10
    while s.fetch_metrics()["kvd_clients_timed_out_total"] == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert s.fetch_metrics()["kvd_clients_timed_out_total"] == 1
    assert s.fetch_metrics()["kvd_connection_memory_bytes"] == 0


def test_a_thousand_connections(kvd):
    s = kvd("--workers", "2")
    before_memory, before_fds = s.memory(), s.descriptors()
    sockets = [socket.create_connection(("127.0.0.1", s.port), 20) for _ in range(1000)]
    for i, x in enumerate(sockets):
        x.sendall(Client.pack("SET", f"k{i}", "v"))
    for i, x in enumerate(sockets):
        assert x.recv(100).endswith(b"k%d\r\n" % i)
    # idle ones keep no buffers
    assert s.memory() - before_memory < 12 * MIB
    assert latency(s, 0.5) < UNDISTURBED
    for x in sockets:
        x.close()
    deadline = time.monotonic() + 10
    while s.descriptors() > before_fds + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert s.descriptors() <= before_fds + 2


def test_max_clients(kvd):
    s = kvd("--max-clients", "5")
    held = [s.client() for _ in range(5)]
    assert all(x("PING") == "PONG" for x in held)
    sixth = s.client()
    with pytest.raises(Error, match="^ERR kv.too-many-clients"):
        sixth.answer()
    assert sixth.closed()
    held[0].close()
    deadline = time.monotonic() + 5
    while True:
        c = s.client()
        try:
            assert c("PING") == "PONG"
            break
        except (Error, OSError):
            assert time.monotonic() < deadline


def test_connections_that_vanish_leave_nothing(kvd):
    s = kvd(sync="always", metrics=True)
    s.client()("SET", "large", bytes(MIB))
    fds = s.descriptors()
    for i in range(200):
        c = Client(("127.0.0.1", s.port))
        c.socket.sendall(Client.pack("SET", f"k{i}", "v" * 1000) * 3 + Client.pack("GET", "large") * 3 + b"*3\r\n$3\r\nSE")
        # a reset instead of a goodbye
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()
    deadline = time.monotonic() + 10
    while (s.descriptors() > fds or s.fetch_metrics()["kvd_connection_memory_bytes"] > 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert s.descriptors() <= fds
    assert s.fetch_metrics()["kvd_connection_memory_bytes"] == 0
    assert s.client()("PING") == "PONG"
