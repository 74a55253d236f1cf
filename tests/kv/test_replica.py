"""A replica has what its primary has, with the same versions, and says no to writers."""
import time

import pytest
from kvlab import Client, Error


def eventually(check, seconds=10):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except (Error, OSError):
            pass
        assert time.monotonic() < deadline, check
        time.sleep(0.02)


@pytest.fixture
def pair(kvd):
    def make(*options, sync="everysec"):
        primary = kvd(*options, password="root", sync=sync)
        # the same port after a restart
        primary.options[primary.options.index("tcp:127.0.0.1:0")] = f"tcp:127.0.0.1:{primary.port}"
        replica = kvd("--replica-of", f"tcp:127.0.0.1:{primary.port}", password="root", sync=sync)
        return primary, replica
    return make


def test_records_versions_and_namespaces(pair):
    primary, replica = pair()
    p, r = primary.admin(), replica.admin()
    for i in range(100):
        p("SET", f"k{i}", f"v{i}")
    p("SET", "k5", "changed")
    p("DEL", "k6")
    p("SET", "large", b"x" * 3000000)
    assert p("WAITREPLICAS", 1, 10000) == 1
    assert r("GET", "k5") == b"changed" and r("GET", "k6") is None and len(r("GET", "large")) == 3000000
    assert r("DBSIZE") == p("DBSIZE") == 100
    for key in ("k0", "k5", "k99", "large"):
        assert r("VERSION", key) == p("VERSION", key)
        assert r("KEYTIME", key) == p("KEYTIME", key)
    assert [x[0] for x in r("SCAN")[1]] == [x[0] for x in p("SCAN")[1]]

    p("NSNEW", "tenant")
    p("NSSET", "tenant", "password", "secret")
    p("NSSET", "tenant", "public", 0)
    p("NSSET", "tenant", "maxsize", 1000)
    p("SELECT", "tenant")
    p("SET", "a", "1")
    assert p("WAITREPLICAS", 1, 10000) == 1
    eventually(lambda: "data_limits_bytes: 1000\n" in r("NSINFO", "tenant").decode())
    user = replica.client()
    assert user.error("SELECT", "tenant", "wrong") == "Namespace not found"
    assert user("SELECT", "tenant", "secret") == "OK"
    assert user("GET", "a") == b"1"
    p("SELECT", "default")
    p("NSDEL", "tenant")
    eventually(lambda: b"tenant" not in r("NSLIST"))


def test_a_replica_takes_no_writes(pair):
    primary, replica = pair()
    primary.admin()("SET", "a", "1")
    r = replica.admin()
    for command in (("SET", "b", "1"), ("DEL", "a"), ("NSNEW", "x"), ("NSDEL", "x"), ("NSSET", "x", "public", 0), ("FLUSH",)):
        assert r.error(*command).startswith("ERR kv.replica "), command
    assert "role: replica" in r("INFO").decode()
    eventually(lambda: "replicas: 1" in primary.admin()("INFO").decode())


def test_waitreplicas_counts_what_is_held(pair):
    primary, replica = pair(sync="always")
    p = primary.admin()
    p("SET", "a", "1")
    assert p("WAITREPLICAS", 1, 10000) == 1
    begin = time.monotonic()
    assert p("WAITREPLICAS", 2, 300) == 1  # there is no second
    assert 0.25 < time.monotonic() - begin < 5
    assert p("WAITREPLICAS", 0, 0) == 1
    replica.kill()
    eventually(lambda: "replicas: 0" in p("INFO").decode())
    p("SET", "a", "2")
    assert p("WAITREPLICAS", 1, 200) == 0
    replica.start()
    assert p("WAITREPLICAS", 1, 10000) == 1
    replica.kill()
    replica.start()
    assert replica.admin()("GET", "a") == b"2"  # it was safe when it was counted
    assert p.error("WAITREPLICAS", "x", 1).startswith("ERR kv.bad-request")


def test_it_goes_on_after_interruptions(pair):
    primary, replica = pair()
    for round_ in range(4):
        p = primary.admin()
        for i in range(300):
            p.send("SET", f"r{round_}.{i}", i)
        for i in range(300):
            p.answer()
        if round_ % 2:
            replica.kill()
            replica.start()
        else:
            primary.kill()
            primary.start()
    p = primary.admin()
    assert p("WAITREPLICAS", 1, 15000) == 1
    r = replica.admin()
    assert r("DBSIZE") == p("DBSIZE") == 1200
    assert r("GET", "r3.299") == b"299"


def test_flushed_and_made_again(pair):
    primary, replica = pair()
    p, r = primary.admin(), replica.admin()
    p("NSNEW", "n")
    p("NSSET", "n", "password", "x")
    p("NSSET", "n", "public", 0)
    p("SELECT", "n")
    p("SET", "old", "1")
    assert p("WAITREPLICAS", 1, 10000) == 1
    p("FLUSH")
    p("SET", "new", "2")
    assert p("WAITREPLICAS", 1, 10000) == 1
    r("SELECT", "n")
    assert r("GET", "old") is None and r("GET", "new") == b"2"
    p("SELECT", "default")
    p("NSDEL", "n")
    p("NSNEW", "n")
    p("SELECT", "n")
    p("SET", "third", "3")
    assert p("WAITREPLICAS", 1, 10000) == 1
    r = replica.admin()
    r("SELECT", "n")
    assert r("GET", "new") is None and r("GET", "third") == b"3"


def test_limits_that_came_later_do_not_stop_it(pair):
    """The list shows the newest properties, the records are older: worm, lock and maxsize must not refuse them."""
    primary, replica = pair()
    replica.kill()
    p = primary.admin()
    p("NSNEW", "n")
    p("SELECT", "n")
    for value in ("1", "2", "3" * 100, "4"):
        p("SET", "a", value)
    p("NSSET", "n", "worm", 1)
    p("NSSET", "n", "maxsize", 10)
    p("NSSET", "n", "lock", 1)
    replica.start()
    assert p("WAITREPLICAS", 1, 10000) == 1
    r = replica.admin()
    r("SELECT", "n")
    assert r("GET", "a") == b"4"
    eventually(lambda: all(x in r("NSINFO", "n").decode() for x in ("worm: yes", "locked: yes", "data_limits_bytes: 10\n")))


def test_seq_mode(pair):
    primary, replica = pair("--mode", "seq")
    p = primary.admin()
    ids = [p("SET", "", f"v{i}") for i in range(50)]
    p("SET", ids[3], "changed")
    p("DEL", ids[4])
    assert p("WAITREPLICAS", 1, 10000) == 1
    r = replica.admin()
    assert r("GET", ids[3]) == b"changed" and r("GET", ids[4]) is None and r("GET", ids[49]) == b"v49"
    assert r("DBSIZE") == p("DBSIZE") == 49
    assert r("VERSION", ids[3]) == p("VERSION", ids[3])
    p("SET", "", "later")
    assert p("WAITREPLICAS", 1, 10000) == 1
    replica.kill()
    replica.start()
    r = replica.admin()
    assert [x[0] for x in r("SCAN")[1]] == [x[0] for x in p("SCAN")[1]]


def test_only_administrators_follow(pair):
    primary, _ = pair()
    c = Client(("127.0.0.1", primary.port))
    assert c.error("FOLLOW", 0, 0) == "Permission denied"
    assert c.error("FOLLOW", "default", 1, 0) == "Permission denied"
    c.close()


def test_a_wrong_password_is_said(kvd, pair, tmp_path):
    primary, _ = pair()
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    lost = kvd("--replica-of", f"tcp:127.0.0.1:{primary.port}", "--replica-password-file", wrong, password="root")
    eventually(lambda: "Access denied" in lost.log.read_text())
    assert lost.client()("PING") == "PONG"


def info(client, field):
    return int(next(line.split(": ")[1] for line in client("NSINFO", "default").decode().splitlines() if line.startswith(field + ": ")))


def churn(client, keys, rounds):
    """Writes and deletes until most of it is dead, in more than one segment."""
    for i in range(rounds):
        client.socket.sendall(b"".join(client.pack("SET", f"k{n}", bytes([i % 256]) * 3000) for n in range(keys)))
        assert [client.answer() for _ in range(keys)] == [f"k{n}".encode() for n in range(keys)]
        for n in range(i % 3, keys, 3):
            client("DEL", f"k{n}")


def test_a_replica_that_comes_late_or_was_away(kvd):
    """The primary has compacted deletions: who comes then gets all of it, and who was away begins anew, also in `default`."""
    small = ("--segment-size", 1 << 20, "--reserve", 1 << 20, "--max-value", 100000)
    primary = kvd(*small, password="root")
    p = primary.admin()
    churn(p, 300, 12)
    eventually(lambda: info(p, "compacted_to") > 1000)  # far more records than one answer of FOLLOW holds
    replica = kvd(*small, "--replica-of", f"tcp:127.0.0.1:{primary.port}", password="root")

    def level():
        assert p("WAITREPLICAS", 1, 20000) == 1
        r = replica.admin()
        assert r("DBSIZE") == p("DBSIZE")
        for n in range(300):
            assert r("GET", f"k{n}") == p("GET", f"k{n}") and r("VERSION", f"k{n}") == p("VERSION", f"k{n}")
        assert "cannot be followed" not in replica.log.read_text()

    level()
    replica.kill()
    before = info(p, "last_number")
    churn(p, 300, 12)
    for n in range(0, 300, 2):
        if p("EXISTS", f"k{n}"):
            p("DEL", f"k{n}")
    churn(p, 100, 12)
    eventually(lambda: info(p, "compacted_to") > before)
    replica.start()
    level()
    assert "starting anew" in replica.log.read_text()
