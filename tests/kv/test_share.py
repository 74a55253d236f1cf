"""A namespace's share of the disk: who overwrites for ever takes nothing of it from a neighbour, and waits instead of being refused."""
import pathlib
import threading

SEGMENT = 4 << 20
SIZE = 4 << 20
SHARE = 2 * SIZE + SEGMENT * 5 // 2


def on_disk(folder):
    return sum(f.stat().st_blocks * 512 for f in pathlib.Path(folder).rglob("*") if f.is_file())


def info(client, name):
    return dict(line.split(": ", 1) for line in client("NSINFO", name).decode().splitlines() if ": " in line)


def test_overwriting_for_ever(kvd):
    server = kvd("--segment-size", SEGMENT, "--max-value", 1 << 20)
    for name in ("one", "two"):
        c = server.client()
        c("NSNEW", name)
        c("NSSET", name, "maxsize", SIZE)
        assert c("NSSET", name, "maxdisk", SHARE) == "OK"
    problems, over = [], threading.Event()

    def overwrite():
        c = server.client()
        c("SELECT", "one")
        try:
            for i in range(20 * SHARE // (16 * 100000)):
                c.socket.sendall(b"".join(c.pack("SET", f"k{k}", bytes([i % 256, k]) * 50000) for k in range(16)))
                for _ in range(16):
                    c.answer()
        except Exception as e:  # noqa: BLE001 (told by the test)
            problems.append(repr(e))
        over.set()

    thread = threading.Thread(target=overwrite)
    thread.start()
    c = server.client()
    most = 0
    while not over.wait(0.05):
        most = max(most, int(info(c, "one")["disk_claimed_bytes"]))
    thread.join()
    assert problems == []
    assert SIZE < most <= SHARE, most
    c.socket.settimeout(60)
    c("SELECT", "two")
    for i in range(SIZE // 100000):
        assert c("SET", f"n{i:05}", bytes([i]) * (100000 - 6)) == f"n{i:05}".encode()
    for name in ("one", "two"):
        assert int(info(c, name)["disk_limit_bytes"]) == SHARE
        assert int(info(c, name)["disk_claimed_bytes"]) <= SHARE
    assert on_disk(server.data) <= 2 * SHARE + SEGMENT
    # The limit is there after a restart.
    server.kill()
    server.start()
    c = server.client()
    assert int(info(c, "one")["disk_limit_bytes"]) == SHARE and int(info(c, "two")["entries"]) == SIZE // 100000


def test_what_cannot_fit_is_refused_to_it_alone(kvd):
    """Two-byte values: what lives takes more than the share has."""
    server = kvd("--segment-size", 1 << 20, "--max-value", 100000)
    for name in ("tiny", "other"):
        c = server.client()
        c("NSNEW", name)
        c("NSSET", name, "maxdisk", 4 << 20)
    c.socket.settimeout(120)
    c("SELECT", "tiny")
    refused = None
    for i in range(0, 200000, 1000):
        c.socket.sendall(b"".join(c.pack("SET", f"{k}", "xx") for k in range(i, i + 1000)))
        answers = []
        for _ in range(1000):
            try:
                answers.append(c.answer())
            except Exception as e:  # noqa: BLE001
                refused = str(e)
        if refused:
            break
    assert refused and "kv.no-space" in refused, refused
    c("SELECT", "other")
    assert c("SET", "key", "x" * 90000) == b"key"
