"""docs/formats-kv.md, read and written a second time: what kvd leaves on a disk, without a line of its code."""
import struct

TABLE = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)

SET, DELETION, MARK, END = 1, 2, 3, 4


def crc32c(*parts):
    crc = 0xFFFFFFFF
    for part in parts:
        for byte in part:
            crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, kind):
        values = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return values if len(values) > 1 else values[0]

    def bytes(self, count):
        self.at += count
        return self.data[self.at - count : self.at]


def checked(data, magic):
    """Without its checksum, behind its magic."""
    assert data[:8] == magic, data[:8]
    assert crc32c(data[:-4]) == struct.unpack("<I", data[-4:])[0], "the checksum is another one"
    return Reader(data[8:-4])


def read_store(path):
    return checked(path.read_bytes(), b"CROFTST1").take("I" if path.stat().st_size == 16 else "Q")


def write_store(path, next_id):
    data = b"CROFTST1" + struct.pack("<Q", next_id)
    path.write_bytes(data + struct.pack("<I", crc32c(data)))


DESCRIPTOR = "IQBBBBQQIQQQQ"
FIELDS = "id identity deleted mode flags lock created maxsize floor base next_id compacted_to swaps".split()


def read_descriptor(path):
    r = checked(path.read_bytes(), b"CROFTNS1")
    found = dict(zip(FIELDS, r.take(DESCRIPTOR)))
    found["name"] = r.bytes(r.take("B")).decode()
    found["secret"] = r.bytes(r.take("H"))
    for what in ("retire", "adopt"):
        found[what] = [r.take("I") for _ in range(r.take("B"))]
    found["maxdisk"] = r.take("Q") if found["flags"] & 4 else 0
    assert r.at == len(r.data)
    return found


def write_descriptor(path, d):
    data = b"CROFTNS1" + struct.pack("<" + DESCRIPTOR, *(d[f] for f in FIELDS))
    data += bytes([len(d["name"])]) + d["name"].encode() + struct.pack("<H", len(d["secret"])) + d["secret"]
    for what in ("retire", "adopt"):
        data += bytes([len(d[what])]) + b"".join(struct.pack("<I", id) for id in d[what])
    if d["flags"] & 4:
        data += struct.pack("<Q", d["maxdisk"])
    path.write_bytes(data + struct.pack("<I", crc32c(data)))


def record_bytes(kind, key, value, number, time, identity, segment, offset, synced=0, all_synced=True, previous=(0, 0)):
    tail = struct.pack("<BBHIIQIIII", 0xC7, kind | (0x80 if all_synced else 0), len(key), len(value), crc32c(value), number, time, synced, *previous)
    head = crc32c(tail, key, struct.pack("<QIQ", identity, segment, offset))
    whole = struct.pack("<I", head) + tail + key + value
    return whole + bytes(-len(whole) % 8)


def read_segment(path, identity):
    """Its header, and every record until the end: (offset, kind, key, value, number, synced, previous)."""
    data = path.read_bytes()
    assert data[:8] == b"CROFTSG1" and crc32c(data[:60]) == struct.unpack_from("<I", data, 60)[0]
    id, zero, of, first, next = struct.unpack_from("<IIQQQ", data, 8)
    assert zero == 0 and of == identity and f"{id:08x}" == path.stem and not any(data[40:60])
    records, at = [], 64
    while at < len(data):
        head, magic, kind, key_len, value_len, body, number, time, synced, *previous = struct.unpack_from("<IBBHIIQIIII", data, at)
        key, value = data[at + 40 : at + 40 + key_len], data[at + 40 + key_len : at + 40 + key_len + value_len]
        assert magic == 0xC7 and head == crc32c(data[at + 4 : at + 40], key, struct.pack("<QIQ", identity, id, at)), f"record at {at}"
        assert body == crc32c(value), f"value at {at}"
        end = at + 40 + key_len + value_len
        assert not any(data[end : end + -end % 8])
        assert synced * 8 <= at
        records.append((at, kind & 0x7F, key, value, number, synced * 8, tuple(previous)))
        at = end + -end % 8
    return {"id": id, "first": first, "next": next, "records": records}


def write_segment(path, id, identity, first, records):
    """records: (kind, key, value, number). Returns the place of each key's last record."""
    header = b"CROFTSG1" + struct.pack("<IIQQQ", id, 0, identity, first, 0)
    header += bytes(60 - len(header))
    data, last = header + struct.pack("<I", crc32c(header)), {}
    for kind, key, value, number in records:
        at = len(data)
        data += record_bytes(kind, key, value, number, 1_800_000_000, identity, id, at, synced=at // 8, previous=last.get(key, (0, 0)))
        if kind in (SET, DELETION):
            last[key] = (id, at // 8)
    path.write_bytes(data)
    return last


def read_index(path):
    """The joined bytes of the blocks, parsed."""
    data, at, joined, last = path.read_bytes(), 0, b"", False
    while not last:
        length, crc = struct.unpack_from("<II", data, at)
        last, length = bool(length & 0x80000000), length & 0x7FFFFFFF
        piece = data[at + 8 : at + 8 + length]
        assert crc == crc32c(struct.pack("<Q", at), piece), f"block at {at}"
        joined += piece
        at += 8 + length
    assert at == len(data)
    r = Reader(joined)
    assert r.bytes(8) == b"CROFTIX1"
    found = dict(zip("identity swaps mode segment offset number next_id entries".split(), r.take("QQIIQQQQ")))
    found["segments"] = []
    for _ in range(r.take("I")):
        segment = dict(zip("id first next size".split(), r.take("IQQQ")))
        segment["marks"] = [r.take("QI") for _ in range(r.take("I"))]
        found["segments"].append(segment)
    found["keys"] = {}
    while found["mode"] == 0 and r.at < len(joined):
        key_len, segment, place, length, _check = r.take("HIIII")
        found["keys"][r.bytes(key_len)] = (segment, place, length)
    return found


def read_slots(path):
    """id -> (segment, place, length) of what is alive, None of what was deleted."""
    data, found = path.read_bytes(), {}
    for id in range(len(data) // 16):
        segment, place, length, crc = struct.unpack_from("<IIII", data, id * 16)
        if (segment, place, length, crc) == (0, 0, 0, 0):
            continue
        assert crc == crc32c(struct.pack("<I", id), data[id * 16 : id * 16 + 12]), f"slot {id}"
        found[id] = None if length == 0xFFFFFFFF else (segment, place, length)
    return found


def replay(folder, identity):
    """What the segments of a namespace say is alive: key -> (value, version)."""
    alive, last = {}, 0
    for path in sorted(folder.glob("*.seg")):
        for _, kind, key, value, number, _, _ in read_segment(path, identity)["records"]:
            assert number >= last
            last = number
            if kind == SET:
                alive[key] = (value, number)
            elif kind == DELETION:
                alive.pop(key, None)
    return alive
