"""The build for debugging: STOP ends it, and the sanitizers have nothing to say about what it did until then."""
import os
import socket
import subprocess

import pytest
from kvlab import KVD_DEBUG, Client, Error


@pytest.fixture(autouse=True)
def sanitizers(monkeypatch):
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99")
    monkeypatch.setenv("UBSAN_OPTIONS", "print_stacktrace=1")


def stop(server, client):
    assert client("STOP") == "Stopping"
    assert client.closed()
    assert server.process.wait(60) == 0, server.log.read_text()
    assert "Sanitizer" not in server.log.read_text()


def test_stop_is_for_administrators_of_debug_builds(kvd):
    s = kvd(binary=KVD_DEBUG, password="root")
    c = s.client()
    assert c.error("STOP") == "Permission denied"
    c("AUTH", "root")
    stop(s, c)
    s = kvd()
    assert s.client().error("STOP") == "Unauthorized"
    assert s.alive()


def test_nothing_leaks(kvd, tmp_path):
    """Everything that has memory of its own: namespaces, walks, waits, large values, TLS, a replica, ends of every kind."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=kvd", "-keyout", key, "-out", cert], check=True, capture_output=True)
    small = ("--segment-size", 1 << 20, "--reserve", 1 << 20, "--max-value", 700000, "--workers", 2)
    s = kvd(*small, "--tls-cert", cert, "--tls-key", key, binary=KVD_DEBUG, password="root", metrics=True, sync="always",
            listen=("plain:127.0.0.1:0", "tcp:127.0.0.1:0"))
    replica = kvd(*small, "--replica-of", f"tls:127.0.0.1:{s.ports[1]}", "--replica-tls-ca", cert, binary=KVD_DEBUG, password="root")
    c = s.admin()
    for mode in ("user", "seq"):
        c("NSNEW", mode)
        c("NSSET", mode, "mode", mode)
        c("SELECT", mode)
        for i in range(300):
            c("SET", "" if mode == "seq" else f"k{i % 50}", os.urandom(9000 if i % 10 else 600000))
        for walk in ("SCAN", "RSCAN"):
            cursor = []
            try:
                while True:
                    cursor = [c(walk, *cursor)[0]]
            except Error as e:
                assert str(e) == "No more data"
        c("NSINFO", mode)
        c("RELOAD", mode)
    c("SELECT", "user")
    c("KSCAN", "k")
    c("HISTORY", "k1")
    c("DEL", "k1")
    for words in (["NSJUMP"], ["INDEX", "DIRTY"], ["SET", "a", "b", "IFEQ", 12345], ["SELECT", "none"], ["NOPE"], ["GET"]):
        c.error(*words)
    assert c("WAITREPLICAS", 1, 60000) == 1
    assert replica.admin()("DBSIZE") == 0
    s.fetch_metrics()
    waiting = s.client()
    waiting.send("WAIT", "*", 60000)
    half = s.client()
    half.socket.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$600000\r\nhalf")
    greedy = s.client(admin=True)
    greedy("SELECT", "user")
    greedy.socket.sendall(greedy.pack("GET", "k10") * 200)
    plain = Client(("127.0.0.1", s.ports[1]))  # no TLS where there must be
    plain.socket.sendall(b"PING\r\n")
    reset = socket.create_connection(("127.0.0.1", s.ports[1]))
    reset.sendall(b"\x16\x03\x01\x02\x00")  # a handshake that never goes on
    c("SELECT", "default")
    c("NSDEL", "seq")
    stop(replica, replica.admin())
    stop(s, c)
    for other in (reset, plain):
        other.close()
