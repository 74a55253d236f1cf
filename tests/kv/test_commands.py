"""Every command: its answers and errors as 0-db's clients know them, and each difference that we state."""
import hashlib
import os
import pathlib
import random
import re
import struct
import threading
import time

import pytest
from kvlab import ROOT, Client, Error


@pytest.fixture
def c(kvd):
    return kvd().client()


# ---- what a client sends first ----

def test_ping_time_quit(c):
    assert c("PING") == "PONG"
    assert c("ping") == "PONG"
    seconds, micros = c("TIME")
    assert abs(int(seconds) - time.time()) < 5 and 0 <= int(micros) < 1000000
    assert c("QUIT") == "OK"
    assert c.closed()


def test_names_are_matched_whole(c):
    # 0-db takes any beginning of a name: "P" is PING there, "S" is SELECT or worse
    for word in ("P", "PIN", "PINGX", "GE", "S", ""):
        assert c.error(word) == "Command not supported"
    assert c.error("GET") == "Unexpected arguments"
    assert c.error("PING", "x") == "Unexpected arguments"


def test_inline(kvd):
    c = kvd().client()
    c.socket.sendall(b'PING\r\nSET "a key" \'value\'\n\r\nGET "a\\x20key"\r\nset x "\\"q\\""\r\nGET x\r\n')
    assert [c.answer() for _ in range(5)] == ["PONG", b"a key", b"value", b"x", b'"q"']


def many_commands(r):
    """Commands that a server looks ahead at: values of every size, other modes and namespaces, keys that are none, and what changes the keys."""
    keys = [b"%d" % i for i in range(40)] + [b"", b"k" * 1024, b"k" * 1025, os.urandom(1024)]
    ids = [struct.pack("<I", i) for i in range(6)] + [b"xyz"]
    yield from (("NSNEW", "counted"), ("NSSET", "counted", "mode", "seq"), ("NSNEW", "other"))
    for _ in range(3000):
        key, value = r.choice(keys), r.choice((b"", b"v", b"v" * 300, b"v" * 5000, b"v" * 70000)) + b"%d" % r.randrange(50)
        yield r.choice([("GET", key)] * 12 + [("EXISTS", key), ("LENGTH", key), ("CHECK", key), ("DEL", key), ("SET", key, value), ("SETX", key, value),
                       ("MGET", key, r.choice(keys)), ("GET", r.choice(ids)), ("SET", r.choice(ids), value), ("SET", b"", value), ("GET",),
                       ("NOPE", key), ("SELECT", r.choice(("default", "other", "counted", "none"))), ("PING",)]
                       + [("FLUSH",)] * (r.random() < 0.02))


def test_much_at_once_is_answered_as_one_by_one(kvd):
    """The server looks ahead at what waits: that may change no answer, wherever the stream is cut."""
    r = random.Random(4730)
    commands = list(many_commands(r))
    alone, together = kvd().client(), kvd().client()
    expected = []
    for command in commands:
        alone.send(*command)
        expected.append(alone.answer(nested=True))
    stream, got, sent = b"".join(Client.pack(*command) for command in commands), [], 0

    def send():
        nonlocal sent
        while sent < len(stream):
            size = r.choice((1, 7, 40, 500, 4000, 20000, 100000))
            together.socket.sendall(stream[sent:sent + size])
            sent += size

    sender = threading.Thread(target=send)
    sender.start()
    for i, command in enumerate(commands):
        got.append(together.answer(nested=True))
        assert str(got[-1]) == str(expected[i]), (i, command)
    sender.join()


# ---- SET and GET ----

def test_set_answers_the_key_and_nil_when_unchanged(c):
    assert c("SET", "key", "value") == b"key"
    assert c("SET", "key", "value") is None
    assert c("SETX", "key", "other") == b"key"
    assert c("GET", "key") == b"other"
    assert c("SET", "key", "value") == b"key"


def test_unchanged_is_by_value_not_by_checksum(c):
    # two values with the same CRC-32 (0-db's) and two with the same CRC32C
    assert c("SET", "a", b"plumless") == b"a"
    assert c("SET", "a", b"buckeroo") == b"a"
    assert c("GET", "a") == b"buckeroo"
    for one, other in crc32c_collision():
        assert c("SET", "b", one) == b"b"
        assert c("SET", "b", other) == b"b"
        assert c("GET", "b") == other


def crc32c_collision():
    """Pairs that CRC32C cannot tell apart: adding a multiple of the polynomial changes nothing."""
    poly = 0x105ec76f1  # reflected 0x82f63b78 with its top bit, shifted into one piece
    one = bytes(8)
    bits = sum(((poly >> (32 - i)) & 1) << i for i in range(33))
    reflected = int("{:033b}".format((1 << 32) | 0x1EDC6F41)[::-1], 2)
    other = reflected.to_bytes(8, "little")
    assert crc32c(one) == crc32c(other), (bits, poly)
    yield one, other


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def test_binary_and_empty_values(c):
    key = bytes(range(256)) * 4
    assert c("SET", key, b"\r\n\0") == key
    assert c("GET", key) == b"\r\n\0"
    assert c("SET", "empty", "") == b"empty"
    assert c("GET", "empty") == b""
    assert c("LENGTH", "empty") == 0
    assert c("SET", "empty", "") is None


def test_limits_of_keys(c):
    assert c("SET", "k" * 1024, "v") == b"k" * 1024
    assert c.error("SET", "k" * 1025, "v") == "Key too large"
    assert c.error("SET", "", "v") == "Invalid argument, key needed"
    for command in ("GET", "DEL", "EXISTS", "CHECK", "LENGTH", "KEYTIME", "VERSION"):
        assert c.error(command, "k" * 1025) == "Invalid key", command
        assert c.error(command, "") == "Invalid argument", command


def test_get_mget_exists_del(c):
    assert c("GET", "none") is None
    assert c("EXISTS", "none") == 0
    c("SET", "a", "1")
    c("SET", "b", "2")
    assert c("EXISTS", "a") == 1
    assert c("MGET", "a", "none", "b") == [b"1", None, b"2"]
    assert c("MGET", *(["a"] * 1023)) == [b"1"] * 1023
    assert c("DEL", "a") == "OK"
    assert c.error("DEL", "a") == "Key not found"
    assert c("GET", "a") is None and c("EXISTS", "a") == 0 and c("MGET", "a", "b") == [None, b"2"]
    assert c("SET", "a", "1") == b"a"  # what was deleted is not "unchanged"


def test_time_length_check(kvd):
    c = kvd(password="root").admin()
    now = int(time.time())
    c("SET", "a", "hello")
    assert now <= c("KEYTIME", "a") <= now + 5
    assert c("LENGTH", "a") == 5
    assert c("CHECK", "a") == 1
    assert [c(x, "none") for x in ("KEYTIME", "LENGTH", "CHECK", "VERSION")] == [None] * 4
    assert c("SET", "old", "x", 1500000000) == b"old"  # 0-db's timestamp: administrators only
    assert c("KEYTIME", "old") == 1500000000


def test_timestamp_is_for_administrators(kvd):
    s = kvd(password="root")
    s.admin()("NSNEW", "open")
    c = s.client()
    c("SELECT", "open")
    assert c.error("SET", "a", "x", "1500000000") == "Permission denied"
    assert c.error("SET", "a", "x", "SOON").startswith("ERR kv.bad-request ")
    assert c.error("SET", "a", "x", "IFEQ", "x").startswith("ERR kv.bad-request ")
    assert c("EXISTS", "a") == 0


# ---- conditions ----

def test_conditional_writes(c):
    failed = "ERR kv.condition-failed "
    assert c.error("SET", "a", "1", "XX").startswith(failed)
    assert c("SET", "a", "1", "NX") == b"a"
    assert c.error("SET", "a", "1", "NX").startswith(failed)  # never nil, even with the same value
    assert c.error("SET", "a", "2", "nx").startswith(failed)
    version = c("VERSION", "a")
    assert c.error("SET", "a", "2", "IFEQ", version + 1).startswith(failed)
    assert c("SET", "a", "2", "IFEQ", version) == b"a"
    assert c("VERSION", "a") > version
    assert c.error("SET", "a", "3", "IFEQ", version).startswith(failed)
    assert c("SET", "a", "2", "XX") is None  # the condition holds, the value is the same
    assert c("SET", "a", "4", "XX") == b"a"
    assert c("SET", "new", "1", "IFEQ", 0) == b"new"
    assert c.error("SET", "new", "2", "IFEQ", 0).startswith(failed)
    assert c("GET", "a") == b"4" and c("GET", "new") == b"1"


# ---- walking ----

def walk(c, command):
    found, cursor = [], []
    while True:
        try:
            step = c(command, *cursor)
        except Error as e:
            assert str(e) == "No more data"
            return found
        assert len(step) == 2 and step[1]
        cursor = [step[0]]
        found += step[1]


def test_scan(c):
    assert c.error("SCAN") == "No more data"
    for i in range(2000):
        c.send("SET", f"key{i}", "x" * (i % 50))
    for i in range(2000):
        c.answer()
    for i in range(0, 2000, 2):
        c.send("DEL", f"key{i}")
    for i in range(0, 2000, 2):
        c.answer()
    c("SET", "key1", "changed")
    found = walk(c, "SCAN")
    assert [f[0] for f in found] == [b"key%d" % i for i in range(3, 2000, 2)] + [b"key1"]
    assert found[0][1:2] == [3] and abs(found[0][2] - time.time()) < 60
    assert walk(c, "SCANX") == found
    assert walk(c, "RSCAN") == found[::-1]
    assert c.error("SCAN", "x") == "Invalid key format"
    assert c.error("SCAN", "9" * 60) == "Invalid key format"


def test_cursors_rise_and_survive_changes(c):
    for i in range(10):
        c("SET", f"k{i}", "v")
    cursors = [int(c("KEYCUR", f"k{i}")) for i in range(10)]
    assert cursors == sorted(cursors) and len(set(cursors)) == 10
    assert c.error("KEYCUR", "none") == "Key not found"
    c("DEL", "k4")
    c("SET", "k5", "w")
    # from a deleted key's cursor on: nothing that came later is missed
    assert [x[0] for x in c("SCAN", cursors[4])[1]] == [b"k6", b"k7", b"k8", b"k9", b"k5"]
    assert [x[0] for x in c("RSCAN", cursors[4])[1]] == [b"k3", b"k2", b"k1", b"k0"]


def test_kscan_is_a_prefix_match_without_a_cursor(c):
    assert c.error("KSCAN", "a") == "No keys match"
    for i in range(3000):
        c.send("SET", f"a{i}", "v")
    for i in range(3000):
        c.answer()
    c("SET", "b", "v")
    zero, keys = c("KSCAN", "a1")
    assert zero == b"0"
    assert sorted(keys) == sorted(b"a%d" % i for i in range(3000) if str(i).startswith("1"))
    assert c("KSCAN", "b")[1] == [b"b"]
    assert c.error("KSCAN", "*") == "No keys match"  # no pattern


def test_kscan_says_when_there_is_too_much(c):
    keys = [b"k%06d" % i + b"x" * 1000 for i in range(17500)]
    for at in range(0, len(keys), 500):
        c.socket.sendall(b"".join(Client.pack("SET", k, "") for k in keys[at:at + 500]))
        assert [c.answer() for _ in keys[at:at + 500]] == keys[at:at + 500]
    c.socket.sendall(Client.pack("PING") + Client.pack("KSCAN", "k") + Client.pack("KSCAN", "k00000") + Client.pack("PING"))
    assert c.answer() == "PONG"
    with pytest.raises(Error, match="^ERR kv.too-large "):
        c.answer()
    assert sorted(c.answer()[1]) == keys[:10] and c.answer() == "PONG"
    assert sorted(c("KSCAN", "k00")[1]) == keys[:10000]


def test_history_ends(c):
    for i in range(4):
        c("SET", "a", f"v{i}")
        c("SET", "other", f"o{i}")
    values, cursor = [], []
    while True:
        before, when, value = c("HISTORY", "a", *cursor)
        assert abs(int(when) - time.time()) < 60
        values.append(value)
        if before is None:
            break
        cursor = [before]
    assert values == [b"v3", b"v2", b"v1", b"v0"]
    assert c.error("HISTORY", "none") == "Key not found"
    assert c.error("HISTORY", "a", "0") == "No more history"
    assert c.error("HISTORY", "a", "x") == "Invalid arguments"
    # a cursor of another key shows nothing of it
    other = c("HISTORY", "other")[0]
    try:
        assert not c("HISTORY", "a", other)[2].startswith(b"o")
    except Error:
        pass


# ---- seq mode ----

def test_seq_mode(kvd):
    c = kvd("--mode", "seq").client()
    assert c("SET", "", "first") == struct.pack("<I", 0)
    assert c("SET", "", "second") == struct.pack("<I", 1)
    assert c("GET", struct.pack("<I", 1)) == b"second"
    assert c("SET", struct.pack("<I", 1), "changed") == struct.pack("<I", 1)
    assert c("SET", struct.pack("<I", 1), "changed") is None
    assert c.error("SET", struct.pack("<I", 7), "x") == "Invalid key, only update authorized"
    assert c.error("SET", "abc", "x") == "Invalid key, only update authorized"
    assert c("DEL", struct.pack("<I", 0)) == "OK"
    assert c("SET", "", "third") == struct.pack("<I", 2)
    assert c("DBSIZE") == 2
    assert c.error("KSCAN", "a") == "Index running mode doesn't support this feature"
    assert [x[0] for x in walk(c, "SCAN")] == [struct.pack("<I", 1), struct.pack("<I", 2)]
    assert "mode: sequential" in c("NSINFO", "default").decode()
    assert "sequential_key_size: 4" in c("INFO").decode()


# ---- namespaces ----

def test_nsnew_nsdel(c):
    assert c("NSNEW", "one") == "OK"
    assert c.error("NSNEW", "one") == "This namespace is not available"
    assert c.error("NSNEW", "n" * 129) == "Namespace too long"
    assert c.error("NSNEW", "../up") == "This name is not allowed"
    assert c.error("NSNEW", "a b") == "This name is not allowed"
    assert c("NSNEW", "n" * 128) == "OK"
    assert c("SELECT", "one") == "OK"
    c("SET", "a", "1")
    assert c.error("NSDEL", "one") == "Cannot remove namespace you're currently using."
    assert c.error("NSDEL", "default") == "Cannot remove default namespace"
    assert c.error("NSDEL", "none") == "This namespace doesn't exists"
    c("SELECT", "default")
    assert c("EXISTS", "a") == 0
    assert c("NSDEL", "one") == "OK"
    assert c.error("SELECT", "one") == "Namespace not found"
    assert c("NSNEW", "one") == "OK"
    c("SELECT", "one")
    assert c("DBSIZE") == 0


def test_a_deleted_namespace_ends_its_sessions(kvd):
    s = kvd()
    admin, user = s.client(), s.client()
    admin("NSNEW", "gone")
    user("SELECT", "gone")
    user("SET", "a", "1")
    admin("NSDEL", "gone")
    assert user.error("GET", "a") == "Your active namespace is not available anymore (probably removed)."
    assert user.closed()


def test_nslist_nsinfo_dbsize(c):
    c("NSNEW", "one")
    assert sorted(c("NSLIST")) == [b"default", b"one"]
    c("SELECT", "one")
    c("SET", "key", "12345")
    assert c("DBSIZE") == 1
    info = dict(line.split(": ", 1) for line in c("NSINFO", "one").decode().splitlines()[1:])
    assert info["name"] == "one" and info["entries"] == "1" and info["data_size_bytes"] == "8"
    assert info["public"] == "yes" and info["password"] == "no" and info["mode"] == "userkey"
    assert info["worm"] == "no" and info["locked"] == "no" and info["data_limits_bytes"] == "0"
    assert c.error("NSINFO", "none") == "Namespace not found"


def test_nsset_properties(kvd):
    s = kvd()
    c = s.client()
    c("NSNEW", "one")
    c("SELECT", "one")
    assert c("NSSET", "one", "maxsize", 16) == "OK"
    assert c("SET", "k1", "0123456789") == b"k1"  # 12 of 16: keys count too
    assert c.error("SET", "k2", "abc") == "No space left on this namespace"
    assert c("SET", "k2", "ab") == b"k2"  # exactly full
    assert c("SET", "k2", "xy") == b"k2"  # replaced by as much
    assert c("SET", "k1", "0") == b"k1"  # shrunk
    assert c("SET", "k3", "0123456") == b"k3"
    assert c.error("SET", "k4", "") == "No space left on this namespace"
    assert "space_available: 0\n" in c("NSINFO", "one").decode()
    assert c("NSSET", "one", "maxsize", 0) == "OK"

    assert c("NSSET", "one", "worm", 1) == "OK"
    assert c.error("SET", "k1", "other") == "Namespace is protected by worm mode"
    assert c.error("DEL", "k1") == "Cannot delete a key when namespace is in worm mode"
    assert c("SET", "fresh", "1") == b"fresh"
    assert c("NSSET", "one", "worm", 0) == "OK"

    assert c("NSSET", "one", "lock", 1) == "OK"
    assert c.error("SET", "k1", "other") == "Namespace is temporarily locked (read-only)"
    assert c.error("DEL", "k1") == "Namespace is temporarily locked (read-only)"
    assert c("GET", "k1") == b"0"
    assert c("NSSET", "one", "lock", 0) == "OK"

    frozen = "Namespace is temporarily frozen (read-write disabled)"
    assert c("NSSET", "one", "freeze", 1) == "OK"
    for command in (("SET", "k1", "x"), ("GET", "k1"), ("DEL", "k1"), ("EXISTS", "k1"), ("LENGTH", "k1"),
                    ("SCAN",), ("HISTORY", "k1")):
        assert c.error(*command) == frozen, command
    assert c("NSSET", "one", "freeze", 0) == "OK"
    assert c("GET", "k1") == b"0"

    assert c.error("NSSET", "one", "mode", "seq") == "Cannot change mode of used namespace"
    assert c.error("NSSET", "one", "mode", "odd") == "Invalid property value (expected: user, seq)"
    assert c.error("NSSET", "one", "colour", "red") == "Invalid property"
    assert c.error("NSSET", "one", "public", "maybe") == "Invalid value"
    assert c.error("NSSET", "one", "maxsize", "4" * 64) == "Invalid value"
    assert c.error("NSSET", "none", "public", 0) == "Namespace not found"
    assert c.error("NSSET", "default", "maxsize", 5) == "Cannot update default namespace"
    c("NSNEW", "two")
    assert c("NSSET", "two", "mode", "seq") == "OK"
    c("SELECT", "two")
    assert c("SET", "", "x") == struct.pack("<I", 0)

    s.stop()
    s.start()
    c = s.client()
    c("SELECT", "one")
    assert c("GET", "k1") == b"0"
    assert "mode: sequential" in c("NSINFO", "two").decode()


def test_flush_and_reload(c):
    c("NSNEW", "one")
    c("SELECT", "one")
    c("SET", "a", "1")
    assert c.error("FLUSH") == "Flushing public namespace denied"
    c("NSSET", "one", "password", "secret")
    assert c.error("FLUSH") == "Flushing public namespace denied"
    c("NSSET", "one", "public", 0)
    assert c("RELOAD", "one") == "OK"
    assert c("GET", "a") == b"1"
    assert c("FLUSH") == "OK"
    assert c("GET", "a") is None and c("DBSIZE") == 0
    assert c("SET", "a", "2") == b"a"
    assert c.error("RELOAD", "none") == "Namespace not found"
    assert c.error("RELOAD", "one", "more") == "Unexpected arguments"


# ---- who may what ----

def sha1(text):
    return hashlib.sha1(text.encode()).hexdigest()


def test_auth(kvd):
    s = kvd(password="right")
    c = s.client()
    assert c.error("NSNEW", "x") == "Permission denied"
    assert c.error("AUTH", "wrong") == "Access denied"
    assert c.error("AUTH", "righ") == "Access denied"
    assert c.error("AUTH", "right", "x") == "Only SECURE extra method supported"
    assert c.error("AUTH", "SECURE", "0" * 40) == "No CHALLENGE requested, secure authentication not available"
    nonce = c("AUTH", "SECURE", "CHALLENGE")
    assert re.fullmatch("[0-9a-f]{16}", nonce)
    assert c.error("AUTH", "SECURE", sha1(f"{nonce}:wrong")) == "Access denied"
    # a challenge is for one answer only
    assert c.error("AUTH", "SECURE", sha1(f"{nonce}:right")).startswith("No CHALLENGE requested")
    nonce = c("AUTH", "SECURE", "CHALLENGE")
    assert c("AUTH", "SECURE", sha1(f"{nonce}:right")) == "OK"
    assert c("NSNEW", "x") == "OK"
    assert s.client()("AUTH", "right") if False else True
    other = s.client()
    assert other("AUTH", "right") == "OK"


def test_without_a_password_everybody_is_administrator(c):
    assert c.error("AUTH", "x") == "Authentication disabled"
    assert c("NSNEW", "x") == "OK"


def test_guessing_ends_the_connection(kvd):
    c = kvd(password="right").client()
    for _ in range(16):
        assert c.error("AUTH", "wrong") == "Access denied"
    assert c.closed()


def test_default_namespace_is_the_administrators(kvd):
    s = kvd(password="right")
    c = s.client()
    assert c.error("SET", "a", "1") == "Namespace is in read-only mode"
    assert c.error("DEL", "a") == "Namespace is in read-only mode"
    assert c("GET", "a") is None
    assert c("SELECT", "default") == "OK"
    assert c.error("SET", "a", "1") == "Namespace is in read-only mode"
    assert c.error("SELECT", "default", "wrong") == "Access denied"
    assert c("SELECT", "default", "right") == "OK"
    assert c("SET", "a", "1") == b"a"
    assert c.error("NSNEW", "x") == "Permission denied"  # a writer of default, not an administrator


@pytest.fixture
def tenants(kvd):
    """Two tenants with a private namespace each, one public with a password, one open."""
    s = kvd(password="root", sync="none")
    admin = s.admin()
    for name in ("alice", "bob", "shared", "open"):
        admin("NSNEW", name)
    for name in ("alice", "bob"):
        admin("NSSET", name, "password", f"{name}-password")
        admin("NSSET", name, "public", 0)
    admin("NSSET", "shared", "password", "shared-password")
    return s, admin


def test_tenants_do_not_see_each_other(tenants):
    s, admin = tenants
    alice, bob, nobody = s.client(), s.client(), s.client()
    assert alice("SELECT", "alice", "alice-password") == "OK"
    nonce = bob("AUTH", "SECURE", "CHALLENGE")
    assert bob("SELECT", "bob", "SECURE", sha1(f"{nonce}:bob-password")) == "OK"
    assert alice("SET", "secret", "of alice") == b"secret"
    assert bob("GET", "secret") is None
    public = [b"default", b"open", b"shared"]
    assert sorted(alice("NSLIST")) == sorted(public + [b"alice"])
    assert sorted(bob("NSLIST")) == sorted(public + [b"bob"])
    assert sorted(nobody("NSLIST")) == public
    assert sorted(admin("NSLIST")) == sorted(public + [b"alice", b"bob"])
    # not even by its name: a foreign one answers as one that never was
    for who in (bob, nobody):
        for command in (("SELECT", "{}"), ("SELECT", "{}", "guess"), ("NSINFO", "{}")):
            foreign = who.error(*(x.format("alice") for x in command))
            missing = who.error(*(x.format("never") for x in command))
            assert foreign == missing == "Namespace not found"
        nonce = who("AUTH", "SECURE", "CHALLENGE")
        assert who.error("SELECT", "alice", "SECURE", sha1(f"{nonce}:x")) == "Namespace not found"
        for command in (("NSSET", "alice", "maxsize", 1), ("NSDEL", "alice"), ("RELOAD", "alice"),
                        ("FOLLOW", "alice", 2, 0), ("NSNEW", "alice"), ("DATA", "RAW", 1, 0)):
            assert who.error(*command) == "Permission denied"
    assert alice("NSINFO", "alice").startswith(b"# namespace\nname: alice\n")
    assert admin("NSINFO", "alice").startswith(b"# namespace\nname: alice\n")
    # own ones stay own, and are lost by moving away
    assert alice("SELECT", "alice") == "OK" and alice("SET", "secret", "2") == b"secret"
    assert alice("SELECT", "open") == "OK"
    assert alice.error("SELECT", "alice") == "Namespace not found"
    assert b"alice" not in alice("NSLIST")


def test_a_public_namespace_with_a_password_is_read_only_without_it(tenants):
    s, _ = tenants
    writer, reader = s.client(), s.client()
    assert writer("SELECT", "shared", "shared-password") == "OK"
    assert writer("SET", "a", "1") == b"a"
    assert reader.error("SELECT", "shared", "wrong") == "Access denied"
    assert reader("SELECT", "shared") == "OK"
    assert reader("GET", "a") == b"1"
    for command in (("SET", "a", "2"), ("DEL", "a"), ("FLUSH",)):
        assert reader.error(*command) == "Namespace is in read-only mode"


def test_a_private_namespace_without_a_password_is_the_administrators(tenants):
    s, admin = tenants
    admin("NSNEW", "closed")
    admin("NSSET", "closed", "public", 0)
    assert s.client().error("SELECT", "closed") == "Namespace not found"
    assert s.client().error("SELECT", "closed", "") == "Invalid argument"
    assert admin("SELECT", "closed") == "OK"


def test_password_cleared_and_changed(tenants):
    s, admin = tenants
    admin("NSSET", "alice", "password", "new")
    assert s.client().error("SELECT", "alice", "alice-password") == "Namespace not found"
    assert s.client()("SELECT", "alice", "new") == "OK"
    admin("NSSET", "alice", "public", 1)
    admin("NSSET", "alice", "password", "*")
    c = s.client()
    assert c("SELECT", "alice") == "OK"
    assert c("SET", "a", "1") == b"a"


# ---- WAIT ----

def test_wait(kvd):
    s = kvd("--workers", "2")
    waiter, other, elsewhere = s.client(), s.client(), s.client()
    elsewhere("NSNEW", "far")
    elsewhere("SELECT", "far")
    assert waiter.error("WAIT", "NONSENSE") == "Unknown command to watch"
    assert waiter.error("WAIT", "SET", 99) == "Invalid timeout"
    assert waiter.error("WAIT", "SET", 1800001) == "Invalid timeout"
    begin = time.monotonic()
    assert waiter.error("WAIT", "SET", 150) == "Timeout"
    assert 0.14 < time.monotonic() - begin < 3
    waiter.send("WAIT", "SET", 10000)
    time.sleep(0.1)
    elsewhere("SET", "a", "1")  # another namespace
    other("GET", "a")  # another command
    waiter.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        waiter.socket.recv(1)
    waiter.socket.settimeout(10)
    other("SET", "a", "1")
    waiter.file = waiter.socket.makefile("rb")
    assert waiter.answer() == "SET"
    waiter.send("WAIT", "*", 10000)
    time.sleep(0.1)
    other("PING")
    assert waiter.answer() == "PING"
    # requests behind a WAIT wait with it
    waiter.socket.sendall(Client.pack("WAIT", "DEL", 5000) + Client.pack("PING"))
    time.sleep(0.1)
    other("DEL", "a")
    assert [waiter.answer(), waiter.answer()] == ["DEL", "PONG"]


def test_waiting_clients_that_leave_are_forgotten(kvd):
    s = kvd()
    for _ in range(20):
        c = s.client()
        c.send("WAIT", "SET", 60000)
    time.sleep(0.2)
    for c in s.clients:
        c.close()
    s.clients.clear()
    c = s.client()
    deadline = time.monotonic() + 10
    while b"\nclients: 1\n" not in c("INFO") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"\nclients: 1\n" in c("INFO")
    assert c("SET", "a", "1") == b"a"


# ---- the rest ----

def test_refused_by_code(c):
    assert c("HOOKS") == []
    assert c.error("INDEX", "DIRTY").startswith("ERR kv.not-supported ")
    assert c.error("INDEX", "DIRTY", "RESET").startswith("ERR kv.not-supported ")
    assert c.error("INDEX", "OTHER") == "Unknown INDEX subcommand"
    assert c.error("NSJUMP").startswith("ERR kv.not-supported ")
    assert c.error("STOP") == "Unauthorized"  # only debug builds
    assert c("PING") == "PONG"


def test_data_raw_is_our_place(c):
    c("SET", "a", "hello")
    segment, offset, checksum = c("DATA", "PLACE", "a")
    key, previous, crc, flags, when, value = c("DATA", "RAW", segment, offset)
    assert (key, previous, crc, flags, value) == (b"a", None, checksum, 0, b"hello")
    assert abs(when - time.time()) < 60
    assert c.error("DATA", "RAW", segment, offset + 8).startswith("ERR kv.")
    assert c.error("DATA", "RAW", segment + 100, 0).startswith("ERR kv.")
    assert c.error("DATA", "PLACE", "none") == "Key not found"
    assert c.error("DATA", "EXPORT", 0, 0) == "Unknown DATA subcommand"


def test_info(c):
    text = c("INFO").decode()
    for field in ("server_name", "uptime", "boot_time", "clients_lifetime", "commands_executed", "commands_failed",
                  "commands_unauthorized", "network_rx_bytes", "network_tx_bytes", "data_disk_write_bytes"):
        assert re.search(rf"^{field}: ", text, re.M), field


def test_help_and_documentation_name_every_command(c):
    rows = [line.decode().split()[0] for line in c("HELP")]
    text = (ROOT / "docs/kv-protocol.md").read_text().partition("## Commands")[2].partition("## Metrics")[0]
    documented = set(re.findall(r"^\| `([A-Z]+)[ `]", text, re.M))
    assert set(rows) == documented
    asked = ("PING TIME AUTH SET SETX GET MGET DEL EXISTS CHECK SCAN SCANX RSCAN KSCAN HISTORY KEYCUR LENGTH KEYTIME "
             "INFO STOP DBSIZE NSNEW NSDEL NSINFO NSLIST NSSET NSJUMP SELECT RELOAD FLUSH WAIT HOOKS INDEX DATA")
    assert set(asked.split()) <= set(rows)


def test_answers_keep_their_order(kvd):
    """Pipelined, mixed, with always: what waits for the disk holds back what comes behind it, and nothing overtakes."""
    c = kvd(sync="always").client()
    requests, expected = [], []
    for i in range(500):
        requests += [Client.pack("SET", f"k{i}", i), Client.pack("GET", f"k{i}"), Client.pack("PING"),
                     Client.pack("GET", "none"), Client.pack("DEL", f"k{i}"), Client.pack("DEL", f"k{i}")]
        expected += [b"k%d" % i, b"%d" % i, "PONG", None, "OK", "Key not found"]
    sender = threading.Thread(target=c.socket.sendall, args=(b"".join(requests),))
    sender.start()
    got = []
    for _ in expected:
        try:
            got.append(c.answer())
        except Error as e:
            got.append(str(e))
    sender.join()
    assert got == expected
