"""Images as other people's programs make and store them: umoci, skopeo, composefs, and a web server that takes PUT."""
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import threading

import pytest
from lab import paths, ports

sys.path.insert(0, str(paths.ROOT / "tests/vectors"))
import canonical  # noqa: E402

NAMES = ("busybox", "nginx")


def convert(croft, source, hub):
    return croft.json("image", "convert", source, "--output", hub, timeout=120)["id"]


@pytest.fixture(scope="module")
def ids(croft, layout, folder):
    """The images of umoci's layout, converted into a hub: name -> id."""
    return {name: convert(croft, f"oci:{layout}:{name}", folder / "hub") for name in NAMES}


def skopeo(source, destination, *options):
    done = subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *options, source, destination],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def copies(layout, folder):
    """What skopeo makes of umoci's images: name of the form -> format of the source as `croft` wants it."""
    for name in NAMES:
        here = folder / f"copies-{name}"
        here.mkdir()
        skopeo(f"oci:{layout}:{name}", f"oci-archive:{here}/oci.tar:{name}")
        skopeo(f"oci:{layout}:{name}", f"docker-archive:{here}/docker.tar:{name}:latest")
        # Layers are packed anew only when they were not packed, as in a docker-archive.
        skopeo(f"docker-archive:{here}/docker.tar:{name}:latest", f"oci:{here}/zstd:{name}", "--dest-compress-format", "zstd")
        skopeo(f"docker-archive:{here}/docker.tar:{name}:latest", f"oci:{here}/plain:{name}",
               "--dest-oci-accept-uncompressed-layers")
    return {"oci-archive": "oci-archive:{}/oci.tar", "docker-archive": "docker-archive:{}/docker.tar",
            "zstd": "oci:{0}/zstd:{1}", "plain": "oci:{0}/plain:{1}"}


MAGIC = {"zstd": b"\x28\xb5\x2f\xfd", "plain": None}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "zstd", "plain"])
def test_every_form_of_an_image_has_the_same_id(croft, folder, copies, ids, form, name):
    here = folder / f"copies-{name}"
    if form in MAGIC:
        largest = max((here / form / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size).read_bytes()
        if MAGIC[form]:
            assert largest[:4] == MAGIC[form], "skopeo packed the layer otherwise"
        else:
            assert largest[257:262] == b"ustar", "skopeo packed the layer"
    assert convert(croft, copies[form].format(here, name), folder / "hub-copies") == ids[name]


def verity(data):
    """The fs-verity digest (SHA-256, blocks of 4,096 bytes, no salt): Documentation/filesystems/fsverity.rst of the kernel."""
    level = data
    while True:
        level = b"".join(hashlib.sha256(level[i:i + 4096].ljust(4096, b"\0")).digest() for i in range(0, len(level), 4096))
        if len(level) <= 32:
            break
    root = level if data else bytes(32)
    return hashlib.sha256(struct.pack("<BBBB4sQ64s32s144s", 1, 1, 12, 0, b"", len(data), root, b"", b"")).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_the_id_is_what_another_computes(layout, folder, ids, name):
    """From the OCI configuration alone, by the rules of docs/images.md; and every digest of the hub anew."""
    blob = lambda digest: (layout / "blobs" / digest.replace(":", "/")).read_bytes()  # noqa: E731
    index = json.loads((layout / "index.json").read_text())
    manifest = next(m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == name)
    config = json.loads(blob(json.loads(blob(manifest["digest"]))["config"]["digest"]))
    hub = folder / "hub"
    whole = json.loads((hub / f"images/{ids[name]}.json").read_text())
    metadata = subprocess.run(["zstd", "-dc", hub / f"meta/{whole['metadata']['digest']}.zst"], check=True, capture_output=True).stdout
    kept = ("Env", "Entrypoint", "Cmd", "User", "WorkingDir", "StopSignal", "Healthcheck", "Volumes", "ExposedPorts", "Labels")
    expected = {member: config["config"][member] for member in kept if config["config"].get(member)}
    expected |= {"architecture": config["architecture"], "os": config["os"], "metadata": {"digest": verity(metadata), "size": len(metadata)}}
    text = canonical.canonical(json.dumps(expected))
    assert text == (hub / f"images/{ids[name]}.json").read_bytes()
    assert hashlib.sha256(text).hexdigest() == ids[name]
    objects = sorted((hub / "objects").glob("*/*.zst"), key=lambda p: p.stat().st_size)
    assert len(objects) > 10
    for path in [*objects[:40], objects[-1]]:
        data = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
        assert verity(data) == path.parent.name + path.stem, path


def test_an_archive_with_one_byte_changed_is_refused(croft, folder, copies):
    data = bytearray((folder / "copies-busybox/oci.tar").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "changed.tar").write_bytes(data)
    done = croft.run("image", "convert", f"oci-archive:{folder}/changed.tar", "--output", folder / "hub-changed", check=False)
    assert done.status == 1 and "image." in done.err, done
    assert not list((folder / "hub-changed").glob("images/*"))


def awkward(root):
    """A tree with everything that has a form of its own in the metadata."""
    (root / "a/b/empty").mkdir(parents=True)
    for path, data in (("empty", b""), ("inline", b"x" * 64), ("object", b"x" * 65), ("a/two", os.urandom(200_000)),
                       ("a/" + "n" * 255, b"a long name")):
        (root / path).write_bytes(data)
    shutil.copyfile(root / "a/two", root / "a/same")
    os.symlink("../inline", root / "a/link")
    os.symlink("/" + "t" * 1000, root / "a/far")
    os.mkfifo(root / "a/fifo")
    os.chmod(root / "inline", 0o4755)
    os.chmod(root / "a/b", 0o1777)
    for i in range(300):
        (root / f"a/b/file{i:03}").write_bytes(b"%d" % i * 40)
    for path, name, value in (("inline", "user.note", b"hello"), ("a", "user.empty", b""), ("object", "user.long", b"v" * 300)):
        os.setxattr(root / path, name, value)
    if os.geteuid() == 0:
        os.chown(root / "object", 1000, 33)
        os.setxattr(root / "object", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    for path in ("a", "inline", "object"):
        os.utime(root / path, ns=(1_700_000_000_123_456_789,) * 2)


@pytest.mark.parametrize("name", ["awkward", "nginx"])
def test_the_metadata_is_what_mkcomposefs_makes(composefs, croft, layout, tmp_path, name):
    root = tmp_path / "root"
    if name == "awkward":
        root.mkdir()
        awkward(root)
    else:
        subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{layout}:{name}", tmp_path / "bundle"], check=True,
                       capture_output=True)
        root = tmp_path / "bundle/rootfs"
    ident = convert(croft, f"rootfs:{root}", tmp_path / "hub")
    ours = json.loads((tmp_path / f"hub/images/{ident}.json").read_text())["metadata"]
    made = composefs.run("usr/bin/mkcomposefs", "--print-digest", root, tmp_path / "theirs")
    assert made.returncode == 0, made
    theirs = (tmp_path / "theirs").read_bytes()
    packed = tmp_path / f"hub/meta/{ours['digest']}.zst"
    unpacked = subprocess.run(["zstd", "-dc", packed], check=True, capture_output=True).stdout
    assert ours["size"] == len(theirs) == len(unpacked)
    assert unpacked == theirs
    assert ours["digest"] == made.stdout.strip()


def test_hard_links_survive_composefs_own_dump(composefs, croft, tmp_path):
    # mkcomposefs takes a folder's hard links for files of their own; its dump format has them.
    (tmp_path / "root/sub").mkdir(parents=True)
    (tmp_path / "root/one").write_bytes(b"y" * 100)
    os.link(tmp_path / "root/one", tmp_path / "root/sub/two")
    ident = convert(croft, f"rootfs:{tmp_path}/root", tmp_path / "hub")
    digest = json.loads((tmp_path / f"hub/images/{ident}.json").read_text())["metadata"]["digest"]
    subprocess.run(["zstd", "-dq", tmp_path / f"hub/meta/{digest}.zst", "-o", tmp_path / "ours"], check=True)
    dump = composefs.run("usr/bin/composefs-info", "dump", tmp_path / "ours")
    assert dump.returncode == 0, dump
    lines = dict(line.split(" ", 1) for line in dump.stdout.splitlines())
    assert lines["/sub/two"].split()[1].startswith("@"), dump.stdout
    assert lines["/one"].split()[2] == "2", dump.stdout
    (tmp_path / "dump").write_text(dump.stdout)
    made = composefs.run("usr/bin/mkcomposefs", "--from-file", "--print-digest-only", tmp_path / "dump")
    assert made.stdout.strip() == digest, made


class Store(http.server.BaseHTTPRequestHandler):
    """A web server as buckets are: PUT stores, HEAD and GET answer, nothing else."""
    protocol_version = "HTTP/1.1"
    root = None
    log = []

    def log_message(self, *args):
        pass

    def _path(self):
        assert ".." not in self.path
        return pathlib.Path(f"{self.root}{self.path}")

    def _answer(self, status, data=b"", length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self):
        path = self._path()
        self.log.append(("HEAD", self.path))
        self._answer(200 if path.is_file() else 404, length=path.stat().st_size if path.is_file() else 0)

    def do_GET(self):
        path = self._path()
        self.log.append(("GET", self.path))
        if path.is_file():
            self._answer(200, path.read_bytes())
        else:
            self._answer(404)

    def do_PUT(self):
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.log.append(("PUT", self.path))
        self._path().parent.mkdir(parents=True, exist_ok=True)
        self._path().write_bytes(data)
        self._answer(201)


@pytest.fixture
def store(tmp_path):
    handler = type("Handler", (Store,), {"root": tmp_path / "store", "log": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", ports.free()), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/bucket"
    server.folder, server.log = tmp_path / "store/bucket", handler.log
    yield server
    server.shutdown()
    server.server_close()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_push_to_a_web_server_and_verify_over_it(croft, folder, ids, store, tmp_path):
    hub = tmp_path / "hub"
    shutil.copytree(folder / "hub", hub)
    ident = ids["busybox"]
    croft.run("image", "push", ident, "--from", hub, "--to", store.url)
    mine, theirs = contents(hub), contents(store.folder)
    assert set(theirs) < set(mine), "what another image needs was pushed too, or something of its own"
    assert f"images/{ident}.json" in theirs and all(mine[name] == data for name, data in theirs.items())
    puts = [path for verb, path in store.log if verb == "PUT"]
    assert puts[-1].endswith(f"images/{ident}.json"), "the name was there before what it names"
    croft.run("image", "verify", ident, "--hub", store.url)
    # Again: nothing is sent that is there.
    store.log.clear()
    croft.run("image", "push", ident, "--from", hub, "--to", store.url)
    assert not [path for verb, path in store.log if verb == "PUT" and "/objects/" in path]
    # And back, into a folder.
    croft.run("image", "push", ident, "--from", store.url, "--to", tmp_path / "back")
    assert contents(tmp_path / "back") == theirs
    one = next(p for p in sorted((store.folder / "objects").rglob("*.zst")))
    one.write_bytes(one.read_bytes()[:-1] + bytes([one.read_bytes()[-1] ^ 1]))
    done = croft.run("image", "verify", ident, "--hub", store.url, check=False)
    assert done.status == 1 and "image." in done.err, done
    one.unlink()
    done = croft.run("image", "verify", ident, "--hub", store.url, check=False)
    assert done.status == 1 and "image.not-found" in done.err, done
