"""TLS: clients of all kinds, all workers, and a replica that knows its primary by its certificate."""
import hashlib
import os
import pathlib
import re
import socket
import ssl
import subprocess
import threading

import pytest
from kvlab import Client, Error
from test_replica import eventually


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


# ---- namespaces that require TLS ----

REFUSED = "ERR kv.tls-required "


@pytest.fixture
def shut(kvd, certificate, tmp_path):
    """(server, local administrator, trusted certificate): "alice" and the public "words" require TLS, "bob" does not."""
    cert, key = certificate
    s = kvd("--tls-cert", cert, "--tls-key", key, "--workers", "2", password="root",
            listen=("either:127.0.0.1:0", "plain:127.0.0.1:0", f"unix:{tmp_path}/socket"))
    admin = Client(tmp_path / "socket")
    s.clients.append(admin)
    assert admin("AUTH", "root") == "OK"
    for name, public in (("alice", 0), ("bob", 0), ("words", 1)):
        admin("NSNEW", name)
        admin("NSSET", name, "password", f"{name}-password")
        admin("NSSET", name, "public", public)
        if name != "bob":
            assert admin("NSSET", name, "tls", 1) == "OK"
    return s, admin, cert


def plain_client(s, port):
    c = Client(("127.0.0.1", port))
    s.clients.append(c)
    return c


def secure(c, password):
    return hashlib.sha1(f"{c('AUTH', 'SECURE', 'CHALLENGE')}:{password}".encode()).hexdigest()


def test_required_refuses_plain_text(shut, tmp_path):
    s, admin, cert = shut
    for port in s.ports[:2]:
        c = plain_client(s, port)
        assert c.error("SELECT", "alice", "alice-password").startswith(REFUSED)
        assert c.error("SELECT", "alice", "SECURE", secure(c, "alice-password")).startswith(REFUSED)
        # It stayed where it was, and may do what it might.
        assert c.error("NSINFO", "alice") == "Namespace not found"
        assert c("DBSIZE") == 0
        assert c("SELECT", "bob", "bob-password") == "OK" and c("SET", "a", port) == b"a"
        # Who may know it anyhow is told, and who reads only too: what is public is not to be forged on its way either.
        assert c.error("SELECT", "words").startswith(REFUSED)
        assert c.error("SELECT", "words", "words-password").startswith(REFUSED)
        assert "tls_required: yes\n" in c("NSINFO", "words").decode()
        assert c("AUTH", "root") == "OK"
        assert c.error("SELECT", "alice").startswith(REFUSED)
    c = tls_client(s.port, cert)
    s.clients.append(c)
    assert c("SELECT", "alice", "alice-password") == "OK" and c("SET", "a", "by TLS") == b"a"
    assert c("SELECT", "words") == "OK" and c("GET", "a") is None
    local = Client(tmp_path / "socket")
    s.clients.append(local)
    assert local("SELECT", "alice", "alice-password") == "OK" and local("GET", "a") == b"by TLS"
    assert "tls_required: yes\n" in local("NSINFO", "alice").decode()
    assert "tls_required: no\n" in admin("NSINFO", "bob").decode()


def test_required_tells_nobody_that_it_exists(shut):
    """Whatever is said in plain text without the password has the answer of a name that nobody has, and as many tries."""
    s, _, _ = shut
    for port in s.ports[:2]:
        c = plain_client(s, port)
        for name in ("alice", "bob", "never"):
            assert c.error("SELECT", name) == "Namespace not found"
            assert c.error("SELECT", name, "wrong") == "Namespace not found"
            assert c.error("SELECT", name, "SECURE", secure(c, "wrong")) == "Namespace not found"
            assert c.error("NSINFO", name) == "Namespace not found"
        assert c.error("SELECT", "words", "wrong") == "Access denied"
        assert b"alice" not in c("NSLIST")
        for _ in range(8):
            c.error("SELECT", "alice", "wrong")
        with pytest.raises((Error, ConnectionError)):  # 3 * 2 + 1 + 8 before: the sixteenth
            c("SELECT", "alice", "wrong")
        assert c.closed()


def test_required_later_and_no_more(shut):
    """Who is in it already is refused from the next command on, and goes on where he was when it is taken back."""
    s, admin, cert = shut
    inside, other, encrypted = plain_client(s, s.ports[0]), plain_client(s, s.ports[1]), tls_client(s.port, cert)
    s.clients.append(encrypted)
    for c in (inside, other, encrypted):
        assert c("SELECT", "bob", "bob-password") == "OK"
    assert inside("SET", "a", "1") == b"a"
    assert admin("NSSET", "bob", "tls", 1) == "OK"
    for c in (inside, other):
        for command in (("GET", "a"), ("SET", "a", "2"), ("DEL", "a"), ("SCAN",), ("KSCAN", "a"), ("DBSIZE",), ("FLUSH",), ("MGET", "a"),
                        ("WAIT", "SET", 1000), ("HISTORY", "a"), ("SELECT", "bob")):
            assert c.error(*command).startswith(REFUSED), command
        assert c("PING") == "PONG"
        # Requests that come together are refused each.
        c.socket.sendall(c.pack("GET", "a") * 20 + c.pack("PING"))
        assert all(str(c.answer(True)).startswith(REFUSED) for _ in range(20)) and c.answer() == "PONG"
    assert encrypted("GET", "a") == b"1"
    assert admin("NSSET", "bob", "tls", 0) == "OK"
    for value, c in ((b"3", inside), (b"4", other), (b"5", encrypted)):
        assert c("SET", "a", value) == b"a" and c("GET", "a") == value
    for wrong in ("maybe", "2", "required"):
        assert admin.error("NSSET", "bob", "tls", wrong) == "Invalid value"
    assert admin.error("NSSET", "default", "tls", 1) == "Cannot update default namespace"
    assert inside.error("NSSET", "bob", "tls", 0) == "Permission denied"


def test_a_replica_requires_it_too(shut, kvd):
    s, admin, cert = shut
    replica = replica_of(kvd, s, cert)
    assert admin("SELECT", "alice") == "OK" and admin("SET", "a", "1") == b"a"
    assert admin("WAITREPLICAS", 1, 20000 * 3) == 1

    def answer(name):
        try:
            return replica.client()("SELECT", name, f"{name}-password")
        except Error as e:
            return str(e)

    def refused(name):
        return answer(name).startswith(REFUSED)
    eventually(lambda: refused("alice"))
    eventually(lambda: answer("bob") == "OK")
    inside = replica.client()
    assert inside("SELECT", "bob", "bob-password") == "OK"
    admin("NSSET", "bob", "tls", 1)
    admin("NSSET", "alice", "tls", 0)
    eventually(lambda: refused("bob") and answer("alice") == "OK")
    assert inside.error("DBSIZE").startswith(REFUSED)


def test_nobody_follows_it_in_plain_text(shut, kvd, tmp_path):
    """FOLLOW gives passwords and data: over a plain connection not while a namespace requires TLS, and the rest is not taken for deleted."""
    s, admin, _ = shut
    local = Client(tmp_path / "socket")
    s.clients.append(local)
    assert local("AUTH", "root") == "OK"
    ids = {row[0].decode(): row[1] for row in local("FOLLOW", 0, 0)[1]}
    plain = plain_client(s, s.ports[0])
    assert plain("AUTH", "root") == "OK"
    assert plain.error("FOLLOW", 0, 0).startswith(REFUSED)
    assert plain.error("FOLLOW", "alice", ids["alice"], 0).startswith(REFUSED)
    assert plain("FOLLOW", "bob", ids["bob"], 0)[1] == []

    replica = kvd("--replica-of", f"tcp:127.0.0.1:{s.ports[0]}", password="root")
    wait_for_log(replica, "kv.tls-required")
    assert replica.admin()("NSLIST") == [b"default"]
    required = [name for name in ids if name in ("alice", "words")]
    for name in required:
        assert admin("NSSET", name, "tls", 0) == "OK"
    assert admin("SELECT", "bob") == "OK" and admin("SET", "a", "1") == b"a"
    assert admin("WAITREPLICAS", 1, 20000 * 3) == 1
    seen = replica.admin()
    assert sorted(seen("NSLIST")) == sorted(name.encode() for name in ids)
    assert seen("SELECT", "bob") == "OK" and seen("GET", "a") == b"1"

    # While it follows: what is written from here on does not pass, and what it has stays.
    assert admin("NSSET", "bob", "tls", 1) == "OK"
    assert admin("SET", "a", "2") == b"a"
    assert admin("WAITREPLICAS", 1, 300) == 0
    assert sorted(seen("NSLIST")) == sorted(name.encode() for name in ids)
    assert seen("GET", "a") == b"1"
    assert admin("NSSET", "bob", "tls", 0) == "OK"
    assert admin("WAITREPLICAS", 1, 20000 * 3) == 1
    eventually(lambda: seen("GET", "a") == b"2")
