"""Hubs that lie, stall, send too much or send elsewhere: nothing of it gets a name, the code says what was wrong, and the next hub
is asked."""
import os
import subprocess
import time

import pytest
from lab import agent as lab_agent
from lab import cli, hub as lab_hub, machine as lab_machine, paths

SECONDS = 40  # about, for the order in which files start
FOLDER = "/var/croft/images"
GUEST = "http://10.0.2.2"


def tree(folder, size):
    (folder / "many").mkdir(parents=True)
    for i in range(4):
        (folder / "many" / f"{i:02}").write_bytes(os.urandom(20000))
    (folder / "large").write_bytes(os.urandom(size))
    return folder


@pytest.fixture(scope="module")
def place(session_logs):
    """A machine without a farm, a folder with two images, and hubs over it."""
    folder = session_logs / "hubs"
    convert = cli.Cli({}, session_logs)
    good = lab_hub.Hub(folder / "hub")
    images = [convert.json("image", "convert", f"rootfs:{tree(session_logs / name, size)}", "--output", good.folder)["id"]
              for name, size in (("one", 1 << 20), ("two", 2 << 20))]
    bad, elsewhere = lab_hub.Hub(folder / "hub"), lab_hub.Hub(folder / "elsewhere")
    disk = lab_machine.disk_create(session_logs / "disk-hub.img", 1024, "disk")
    with lab_machine.Machine(session_logs / "machine-hub", ["runmode=dev"], disks=[disk]) as m:
        m.wait_service("imaged", 120)
        yield Place(m, good, bad, elsewhere, images)
    for h in (good, bad, elsewhere):
        h.stop()


class Place:
    def __init__(self, machine, good, bad, elsewhere, images):
        self.machine, self.good, self.bad, self.elsewhere = machine, good, bad, elsewhere
        self.one, self.two = images
        self.url = {h: f"{GUEST}:{h.port}" for h in (good, bad, elsewhere)}

    def pull(self, ident, *hubs, timeout=200):
        return self.machine.agent.varlink("imaged", "Pull", timeout=timeout, id=ident, hubs=[self.url[h] for h in hubs])

    def files(self, *kinds):
        return self.machine.agent.sh(f"cd {FOLDER} && find {' '.join(kinds or ('configs', 'meta', 'objects'))} -type f").out.split()

    def path(self, kind, ident=None):
        """An image's configuration, its metadata, or its largest object, as the hub has it."""
        root = self.good.folder
        if kind == "config":
            return f"images/{ident or self.one}.json"
        found = {}
        for i in (self.one, self.two):
            text = (root / f"images/{i}.json").read_text()
            found[i] = next(p for p in sorted((root / "meta").iterdir()) if p.name.split(".")[0] in text)
        if kind == "meta":
            return str(found[ident or self.one].relative_to(root))
        largest = sorted((root / "objects").rglob("*.zst"), key=lambda p: p.stat().st_size)[-2:]
        return str(largest[0 if (ident or self.one) == self.one else 1].relative_to(root))

    def data(self, path):
        return (self.good.folder / path).read_bytes()

    def used(self):
        """Bytes that the pool has taken."""
        free, total, size = map(int, self.machine.agent.sh(f"stat -f -c '%f %b %S' {FOLDER}").out.split())
        return (total - free) * size

    def clean(self):
        self.bad.altered.clear()
        self.machine.agent.varlink("imaged", "Collect", keep=[])
        assert self.files() == []


@pytest.fixture
def p(place):
    place.clean()
    yield place
    place.clean()


def refused(p, code, *hubs, ident=None):
    p.machine.agent.varlink("imaged", "Collect", keep=[])  # what was right of an earlier try is not asked for again
    with pytest.raises(lab_agent.Varlink, match=code.replace(".", r"\.")):
        p.pull(ident or p.one, *(hubs or (p.bad,)))
    assert p.files("configs") == []
    images = p.machine.agent.varlink("imaged", "List")
    assert images["images"] == [] and images["mounts"] == []


def answer(handler, body=b"", length=None, status=200, headers=()):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    try:
        handler.wfile.write(body)
    except OSError:
        pass


def endless(piece):
    def send(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(piece)
        except OSError:
            pass
    return send


def bomb(size):
    """A frame of zstd that is small and unpacks to that much."""
    return subprocess.run(["zstd", "-q", "-c", "--stream-size=%d" % size], input=bytes(size), stdout=subprocess.PIPE, check=True).stdout


def test_one_image_under_the_name_of_another(p):
    """Configuration, metadata and object: each is a real one, of the other image."""
    for kind in ("config", "meta", "object"):
        p.bad.altered[p.path(kind)] = p.data(p.path(kind, p.two))
        refused(p, "image.digest-mismatch")
        p.bad.altered.clear()
    # Both of the other's: still not this image.
    p.bad.altered = {p.path("config"): p.data(p.path("config", p.two)), p.path("meta"): p.data(p.path("meta", p.two))}
    refused(p, "image.digest-mismatch")


def test_tampered_files(p):
    for kind in ("config", "meta", "object"):
        whole = p.data(p.path(kind))
        for what, data in (("a bit", whole[:len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1:]),
                           ("cut", whole[:-7]), ("longer", whole + b"x" * 9), ("empty", b""), ("no zstd", b"x" * len(whole))):
            p.bad.altered = {p.path(kind): data}
            refused(p, "image.digest-mismatch")
            assert what


def test_too_much(p):
    """A body without an end, a length that lies, and little that unpacks to a lot."""
    for kind in ("config", "meta", "object"):
        for what, send in (("endless", endless(b"x" * 65536)),
                           ("says a lot", lambda h: answer(h, b"x", length=1 << 40))):
            p.bad.altered = {p.path(kind): send}
            refused(p, "image.digest-mismatch")
            assert what
    used = p.used()
    for kind in ("meta", "object"):
        p.bad.altered = {p.path(kind): bomb(1 << 30)}
        refused(p, "image.digest-mismatch")
    assert p.used() - used < 64 << 20


def test_errors_and_other_places(p):
    """What a hub answers instead of a file; where it points to is not asked."""
    for status in (404, 403, 500, 301, 302, 307):
        for kind in ("config", "object"):
            there = p.path(kind)
            (p.elsewhere.folder / there).parent.mkdir(parents=True, exist_ok=True)
            (p.elsewhere.folder / there).write_bytes(p.data(there))
            where = [("Location", f"{p.url[p.elsewhere]}/{there}")] if status // 100 == 3 else []
            p.bad.altered = {there: lambda h, s=status, w=where: answer(h, length=0, status=s, headers=w)}
            refused(p, "image.not-found")
    assert p.elsewhere.paths == []


def test_the_next_hub_is_asked(p):
    """Three hubs at once are bad in three ways, and the fourth is good: broken off, silent for ever, a byte now and then."""
    def silent(handler):
        try:
            handler.rfile.read()
        except OSError:
            pass

    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x")
                time.sleep(1)
        except OSError:
            pass
    hubs = [lab_hub.Hub(p.good.folder) for _ in range(3)]
    try:
        for h, send in zip(hubs, (lambda x: answer(x, b"x" * 10, length=1000), silent, trickle)):
            h.altered[p.path("object")] = send
            p.url[h] = f"{GUEST}:{h.port}"
        start = time.monotonic()
        assert p.pull(p.one, *hubs, p.good, timeout=300)["done"]
        assert time.monotonic() - start < 200 * paths.SCALE
        assert all(p.path("object") in h.paths for h in hubs)
        # Another pull runs meanwhile, and is not held up by it: one image, one hub that lies.
        p.bad.altered = {p.path("object", p.two): b"x"}
        assert p.pull(p.two, p.bad, p.good)["done"]
    finally:
        for h in hubs:
            h.stop()
