"""The files of kvd by a second implementation (formats.py): it reads what kvd wrote, and kvd reads what it wrote."""
import struct

import formats
import pytest

SECONDS = 6


def namespace(server, name):
    for folder in sorted(server.data.glob("ns-????????")):
        found = formats.read_descriptor(folder / "descriptor")
        if found["name"] == name:
            return folder, found
    raise AssertionError(name)


def test_what_kvd_wrote_reads(kvd):
    server = kvd()
    c = server.client()
    expected = {}
    for i in range(300):
        key, value = b"key-%d" % (i % 100), b"value %d " % i * (i % 7)
        if i % 11 == 10 and key in expected:
            c("DEL", key)
            expected.pop(key, None)
        else:
            c("SET", key, value)
            expected[key] = value
    assert c("NSNEW", "other") == "OK" and c("SELECT", "other") == "OK"
    c("SET", b"\x00\xff", b"\r\n")
    server.stop()

    folder, found = namespace(server, "default")
    assert (found["id"], found["mode"], found["deleted"], found["retire"], found["adopt"]) == (1, 0, 0, [], [])
    alive = formats.replay(folder, found["identity"])
    assert {key: value for key, (value, _) in alive.items()} == expected
    other, its = namespace(server, "other")
    assert formats.replay(other, its["identity"]) == {b"\x00\xff": (b"\r\n", 1)}
    assert formats.read_store(server.data / "store") > its["id"]

    # The saved index names the same records, at the places where they lie.
    index = formats.read_index(server.data / f"{folder.name}.index")
    segment = formats.read_segment(folder / "00000001.seg", found["identity"])
    places = {(segment["id"], at // 8): (key, value) for at, kind, key, value, *_ in segment["records"] if kind == formats.SET}
    assert index["identity"] == found["identity"] and set(index["keys"]) == set(expected)
    for key, (of, place, length) in index["keys"].items():
        assert places[of, place] == (key, expected[key]) and length == len(expected[key])
    # Each record names the one that set its key before, if it was not deleted; and a store at rest ends in a mark.
    last = {}
    for at, kind, key, _, _, _, previous in segment["records"]:
        if kind in (formats.SET, formats.DELETION):
            assert previous == last.get(key, (0, 0)), at
            last[key] = (segment["id"], at // 8) if kind == formats.SET else (0, 0)
    assert segment["records"][-1][1] == formats.MARK


def test_seq_slots_read(kvd):
    server = kvd("--mode", "seq")
    c = server.client()
    ids = [struct.unpack("<I", c("SET", b"", b"x%d" % i))[0] for i in range(20)]
    c("DEL", struct.pack("<I", ids[3]))
    server.stop()
    folder, found = namespace(server, "default")
    assert found["mode"] == 1
    slots = formats.read_slots(server.data / f"{folder.name}.slots")
    records = {at // 8: (kind, value) for at, kind, _, value, *_ in formats.read_segment(folder / "00000001.seg", found["identity"])["records"]}
    assert slots.pop(ids[3]) is None and set(slots) == set(ids) - {ids[3]}
    for id, (_, place, length) in slots.items():
        assert records[place] == (formats.SET, b"x%d" % id) and length == len(b"x%d" % id)


def test_kvd_reads_what_another_wrote(kvd):
    server = kvd(start=False)
    folder = server.data / "ns-00000001"
    folder.mkdir(parents=True)
    identity = 0x0123456789ABCDEF
    formats.write_store(server.data / "store", 2)
    described = dict.fromkeys(formats.FIELDS, 0) | {"id": 1, "identity": identity, "created": 1_800_000_000, "floor": 1, "base": 1,
                                                    "name": "default", "secret": b"", "retire": [], "adopt": []}
    formats.write_descriptor(folder / "descriptor", described)
    formats.write_segment(folder / "00000001.seg", 1, identity, 1, [
        (formats.SET, b"a", b"1", 1), (formats.SET, b"b", b"x" * 5000, 2), (formats.SET, b"a", b"2", 3), (formats.DELETION, b"c", b"", 4),
        (formats.MARK, b"", b"", 4)])
    c = server.start().client()
    assert (c("GET", "a"), c("GET", "b"), c("GET", "c")) == (b"2", b"x" * 5000, None)
    c("SET", "d", b"by kvd")
    server.stop()
    alive = formats.replay(folder, identity)
    assert alive == {b"a": (b"2", 3), b"b": (b"x" * 5000, 2), b"d": (b"by kvd", 5)}
    assert formats.read_descriptor(folder / "descriptor")["identity"] == identity


@pytest.mark.parametrize("where", ["value", "head"])
def test_both_see_the_same_damage(kvd, where):
    server = kvd()
    c = server.client()
    c("SET", "a", b"first")
    c("SET", "b", b"second")
    server.stop()
    folder, found = namespace(server, "default")
    path = folder / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[64 + {"value": 41, "head": 16}[where]] ^= 1  # of the first record: its value, its number
    path.write_bytes(data)
    with pytest.raises(AssertionError):
        formats.read_segment(path, found["identity"])
    server.start()
    c = server.client()
    assert "kv.damaged" in c.error("GET", "a")
    assert c("GET", "b") == b"second"
