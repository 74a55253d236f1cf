"""TLS: clients of all kinds, all workers, and a replica that knows its primary by its certificate."""
import os
import pathlib
import re
import socket
import ssl
import subprocess
import threading

import pytest
from kvlab import Client, Error


def make_certificate(folder, name, *options, addresses="DNS:localhost,IP:127.0.0.1"):
    """(certificate, key); signs itself unless options say otherwise."""
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName={addresses}", "-keyout", key, "-out", cert, *options],
                   check=True, capture_output=True)
    return cert, key


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path, "localhost")


def tls_client(port, trusted):
    c = Client.__new__(Client)
    context = ssl.create_default_context(cafile=trusted)
    c.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname="localhost")
    c.file = c.socket.makefile("rb")
    return c


def s_client(port, *options, send=b"PING\r\n"):
    client = subprocess.Popen(["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", *options],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        out, _ = client.communicate(send, timeout=10)
    except subprocess.TimeoutExpired:
        client.kill()
        out, _ = client.communicate()
    return out


def test_tls(kvd, certificate):
    cert, key = certificate
    s = kvd("--tls-cert", cert, "--tls-key", key, "--workers", "2", listen=("tcp:127.0.0.1:0", "plain:127.0.0.1:0"))
    for version in ("-tls1_2", "-tls1_3"):
        out = s_client(s.port, version, "-CAfile", str(cert), "-verify_return_error",
                       send=b"PING\r\nSET a b\r\nQUIT\r\n")
        assert out.startswith(b"+PONG\r\n") and out.endswith(b"+OK\r\n"), (version, out)
    assert s_client(s.port, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", send=b"PING\r\nQUIT\r\n") == b""
    done = subprocess.run(["redis-cli", "-p", str(s.port), "--tls", "--cacert", cert, "GET", "a"],
                          capture_output=True, text=True, timeout=10)
    assert done.stdout == "b\n", done
    # large values in both directions, and more answers than a TLS record holds
    c = tls_client(s.port, cert)
    value = bytes(range(256)) * 12000
    assert c("SET", "large", value) == b"large"
    assert c("GET", "large") == value
    c.socket.sendall(b"".join(c.pack("GET", "large") for _ in range(4)) + c.pack("PING"))
    assert [c.answer() for _ in range(5)] == [value] * 4 + ["PONG"]
    c.close()
    # plaintext on the TLS port gets no answer of ours; the plain port none of TLS
    plain = Client(("127.0.0.1", s.port))
    plain.socket.sendall(b"PING\r\n" * 10)
    try:
        assert b"PONG" not in plain.file.read()
    except ConnectionResetError:
        pass
    other = Client(("127.0.0.1", s.ports[1]))
    assert other("GET", "a") == b"b"
    other.close()
    assert s_client(s.ports[1]) == b""
    assert s.alive()


def test_a_key_that_is_not_the_certificates_is_refused(kvd, certificate, tmp_path):
    cert, _ = certificate
    wrong = tmp_path / "wrong.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", wrong], check=True)
    s = kvd("--tls-cert", cert, "--tls-key", wrong, start=False)
    with pytest.raises(AssertionError, match="kv.tls"):
        s.start()


def sockets_by_loop(pid):
    """How many sockets each event loop of the server watches."""
    folder = pathlib.Path(f"/proc/{pid}")
    sockets = {fd.name for fd in (folder / "fd").iterdir() if os.readlink(fd).startswith("socket:")}
    loops = [fd.name for fd in (folder / "fd").iterdir() if "eventpoll" in os.readlink(fd)]
    return sorted(len(sockets & set(re.findall(r"tfd:\s+(\d+)", (folder / "fdinfo" / loop).read_text()))) for loop in loops)


def test_tls_on_every_worker(kvd, certificate):
    cert, key = certificate
    s = kvd("--tls-cert", cert, "--tls-key", key, "--workers", "3")
    wrong = []

    def work(n):
        try:
            for turn in range(3):  # handshakes of one worker beside the traffic of the others
                c = tls_client(s.port, cert)
                for i in range(150):
                    value = os.urandom(1 + (n * 150 + i) % 3000)
                    assert c("SET", f"{n}-{i}", value) == f"{n}-{i}".encode()
                    assert c("GET", f"{n}-{i}") == value
                c.close()
        except (AssertionError, OSError, Error) as e:
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not wrong, wrong
    clients = [tls_client(s.port, cert) for _ in range(6)]
    assert [c("PING") for c in clients] == ["PONG"] * 6
    # two of the six on each worker, one listener on the main thread
    assert sockets_by_loop(s.process.pid) == [1, 2, 2, 2]
    for c in clients:
        c.close()


# ---- a replica ----

def replica_of(kvd, primary, trusted, *options):
    return kvd("--replica-of", f"tls:127.0.0.1:{primary.port}", "--replica-tls-ca", trusted, *options, password="root")


def admin_over_tls(server, trusted):
    c = tls_client(server.port, trusted)
    server.clients.append(c)
    assert c("AUTH", "root") == "OK"
    return c


def wait_for_log(server, text, seconds=30):
    deadline = threading.Event()
    for _ in range(seconds * 50):
        if text in server.log.read_text():
            return
        deadline.wait(0.02)
    raise AssertionError(server.log.read_text())


def test_replica_over_tls(kvd, tmp_path):
    authority, authority_key = make_certificate(tmp_path, "authority")
    cert, key = make_certificate(tmp_path, "primary", "-CA", authority, "-CAkey", authority_key, "-addext", "basicConstraints=CA:FALSE")
    other, _ = make_certificate(tmp_path, "other")
    primary = kvd("--tls-cert", cert, "--tls-key", key, "--workers", "2", password="root")
    p = admin_over_tls(primary, authority)
    p("SET", "large", b"x" * 3000000)

    by_authority = replica_of(kvd, primary, authority)
    by_certificate = replica_of(kvd, primary, cert, "--replica-tls-name", "nobody.example")  # the certificate itself: any name
    assert p("WAITREPLICAS", 2, 20000) == 2
    for replica in (by_authority, by_certificate):
        assert len(replica.admin()("GET", "large")) == 3000000

    wrong_name = replica_of(kvd, primary, authority, "--replica-tls-name", "nobody.example")
    stranger = replica_of(kvd, primary, other)
    for replica in (wrong_name, stranger):
        wait_for_log(replica, "kv.tls")
        assert replica.admin()("GET", "large") is None
        assert "following" not in replica.log.read_text()
    p("SET", "after", "1")
    assert p("WAITREPLICAS", 3, 300) == 2


def test_a_replica_does_not_speak_first_to_a_plain_server(kvd, certificate):
    """Without TLS on the other side nothing is said, the password least of all."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    kvd("--replica-of", f"tls:127.0.0.1:{listener.getsockname()[1]}", "--replica-tls-ca", certificate[0], password="root")
    peer, _ = listener.accept()
    peer.settimeout(20)
    first = peer.recv(5)
    assert first[:1] == b"\x16", first  # a TLS handshake (RFC 8446, 5.1)
    peer.sendall(b"+OK\r\n" * 100)
    rest = b""
    try:
        while data := peer.recv(65536):
            rest += data
    except ConnectionError:
        pass
    assert b"AUTH" not in first + rest
    peer.close()
    listener.close()


@pytest.mark.parametrize("options", [
    ["--replica-of", "tls:127.0.0.1:1"],
    ["--replica-of", "tcp:127.0.0.1:1", "--replica-tls-ca", "x"],
    ["--replica-of", "127.0.0.1:1"],
    ["--replica-tls-name", "x"],
    ["--replica-of", "tls:127.0.0.1:1", "--replica-tls-ca", "/nonexistent"],
])
def test_options_of_a_replica_are_checked(kvd, options):
    s = kvd(*options, start=False)
    with pytest.raises(AssertionError, match="did not start"):
        s.start()
    assert "replica" in s.log.read_text() or "kv.tls" in s.log.read_text()


def test_either(kvd, certificate):
    """One port for both: the first byte tells, whenever it comes; a client that says nothing costs nothing but its descriptor."""
    cert, key = certificate
    s = kvd("--tls-cert", cert, "--tls-key", key, "--workers", "2", listen=("either:127.0.0.1:0",))
    silent = socket.create_connection(("127.0.0.1", s.port), 60)
    gone = socket.create_connection(("127.0.0.1", s.port), 60)
    gone.close()
    plain = Client(("127.0.0.1", s.port))
    assert plain("SET", "key", "plain") == b"key"
    secret = tls_client(s.port, cert)
    assert secret("GET", "key") == b"plain"
    assert secret("SET", "key", "x" * 1000000) == b"key"
    assert plain("GET", "key") == b"x" * 1000000
    silent.sendall(b"PING\r\n")
    assert silent.recv(7) == b"+PONG\r\n"
    for first in (b"\x16", b"\x16\x03\x01\x00\x00", b"\x15\x03\x03\x00\x02\x01\x00"):
        with socket.create_connection(("127.0.0.1", s.port), 60) as half:
            half.sendall(first)
    assert plain("PING") == "PONG" and secret("PING") == "PONG"
    done = subprocess.run(["redis-cli", "--tls", "--cacert", cert, "-p", str(s.port), "PING"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "PONG\n", done
    silent.close()
