"""Images: every byte is checked before it has a name, and again by the kernel when it is read."""
import os
import time

import pytest
from lab import agent as lab_agent
from lab import cli, hub as lab_hub, machine as lab_machine, paths, ports

SECONDS = 40  # about, for the order in which files start

UID = 0x20000000
FOLDER = "/var/croft/images"


def make_files(folder):
    """60 objects of 20 kB, one of 3 MB, a small file that stays in the metadata, links."""
    (folder / "many").mkdir(parents=True)
    for i in range(60):
        (folder / "many" / f"{i:02}").write_bytes(os.urandom(20000))
    (folder / "large").write_bytes(os.urandom(3 << 20))
    (folder / "small").write_text("small\n")
    (folder / "link").symlink_to("large")
    os.link(folder / "large", folder / "other-name")


@pytest.fixture
def hub(logs):
    h = lab_hub.Hub(logs / "hub")
    yield h
    h.stop()


@pytest.fixture
def image(logs, hub):
    make_files(logs / "rootfs")
    return cli.Cli({}, logs).json("image", "convert", f"rootfs:{logs / 'rootfs'}", "--output", hub.folder)


@pytest.fixture
def node(boot, logs):
    disk = lab_machine.disk_create(logs / "disk.img", 1024, "disk")
    m = boot("runmode=dev", disks=[disk])
    m.wait_service("imaged", 120)
    return m


def url(hub):
    return f"http://10.0.2.2:{hub.port}"


def pull(node, ident, *hubs):
    return node.agent.varlink("imaged", "Pull", timeout=120, id=ident, hubs=list(hubs))


def fails(code, *args):
    with pytest.raises(lab_agent.Varlink, match=code.replace(".", r"\.")):
        pull(*args)


def images(node):
    return {i["id"]: i["complete"] for i in node.agent.varlink("imaged", "List")["images"]}


def mount(node, ident, service="web"):
    kind = node.agent.varlink("storaged", "GetStatus")["pools"][0]["kind"]
    scratch = node.agent.varlink("storaged", "EnsureVolume", key=f"scratch/7/1/{service}", kind=kind,
                                 size=16 << 20)["path"]
    return node.agent.varlink("imaged", "Mount", reservation=7, revision=1, service=service, id=ident,
                              scratch=scratch, uidBase=UID, uidCount=65536)["rootfs"]


def objects(hub):
    return sorted(p for p in (hub.folder / "objects").rglob("*.zst"))


def test_pulled_mounted_written_unmounted(node, hub, image, logs):
    answer = pull(node, image["id"], url(hub))
    assert answer["done"] and answer["objects"] == image["objects"] == 61
    assert images(node) == {image["id"]: True}
    asked = len(hub.paths)
    pull(node, image["id"], url(hub))
    assert len(hub.paths) == asked  # all of it was here
    root = mount(node, image["id"])
    assert mount(node, image["id"]) == root
    a = node.agent
    assert a.read(f"{root}/large") == (logs / "rootfs/large").read_bytes()
    assert a.text(f"{root}/small") == "small\n"
    a.sh(f"echo new >> {root}/small; rm {root}/many/00; echo x > {root}/many/new")
    assert a.sh(f"stat -c %u {root}").out.strip() == str(UID)
    # What was written lies in the scratch volume; the next mount shows it again.
    a.varlink("imaged", "Unmount", reservation=7, revision=1, service="web")
    assert "7-1-web" not in a.text("/proc/mounts") and not a.exists("/run/croft/images/7-1-web")
    a.varlink("imaged", "Unmount", reservation=7, revision=1, service="web")
    mount(node, image["id"])
    assert a.text(f"{root}/small") == "small\nnew\n" and not a.exists(f"{root}/many/00")
    a.varlink("imaged", "Unmount", reservation=7, revision=1, service="web")
    assert a.varlink("imaged", "Collect", keep=[])["images"] == 1
    assert a.sh(f"find {FOLDER} -type f | wc -l").out.strip() == "0"


def test_an_object_altered_at_the_hub_is_refused(node, hub, image):
    first, second = objects(hub)[:2]
    name = str(first.relative_to(hub.folder))
    hub.altered[name] = second.read_bytes()
    fails("image.digest-mismatch", node, image["id"], url(hub))
    assert images(node) == {}
    assert not node.agent.exists(f"{FOLDER}/{name[:-4]}")
    hub.altered[name] = first.read_bytes()[:-10]
    fails("image.digest-mismatch", node, image["id"], url(hub))
    hub.altered[name] = None
    fails("image.not-found", node, image["id"], url(hub))
    config = f"images/{image['id']}.json"
    hub.altered = {config: (hub.folder / config).read_bytes().replace(b"amd64", b"arm64")}
    fails("image.digest-mismatch", node, image["id"], url(hub))
    hub.altered = {}
    assert pull(node, image["id"], url(hub))["done"]


def test_an_object_altered_on_the_disk_is_an_error_when_it_is_read(node, hub, image):
    """The kernel's own check: with another content under its name, and without fs-verity."""
    pull(node, image["id"], url(hub))
    root = mount(node, image["id"])
    a = node.agent
    a.sh(f"cd {FOLDER}/objects && f=$(find . -type f -size +1000k) && cp $f /run/large && rm $f && cp /run/large $f")
    node.agent.sh("echo 3 > /proc/sys/vm/drop_caches")
    refused = a.sh(f"cat {root}/large > /dev/null", check=False)
    assert refused.status and "Input/output error" in refused.err
    for i in range(60):
        a.read(f"{root}/many/{i:02}")
    # Metadata that was altered is noticed before it is mounted, and fetched again by the next pull.
    a.varlink("imaged", "Unmount", reservation=7, revision=1, service="web")
    a.sh(f"cd {FOLDER}/meta && f=$(ls) && cp $f /run/meta && rm $f && cp /run/meta $f")
    with pytest.raises(lab_agent.Varlink, match="image.digest-mismatch"):
        mount(node, image["id"])
    assert not a.exists("/run/croft/images/7-1-web")
    pull(node, image["id"], url(hub))
    mount(node, image["id"])


def test_a_hub_that_is_away(node, hub, image):
    away = f"http://10.0.2.2:{ports.free()}"
    fails("image.unreachable", node, image["id"], away)
    assert pull(node, image["id"], away, url(hub))["done"]


def test_a_pull_killed_midway_is_completed(node, hub, image):
    """What was fetched stays and is not asked for again; what was half fetched has no name."""
    held = {str(p.relative_to(hub.folder)): None for p in objects(hub)[30:]}
    hub.altered = dict(held)
    fails("image.not-found", node, image["id"], url(hub))
    assert node.agent.kill("imaged") == 1
    end = time.monotonic() + 30 * paths.SCALE
    while True:
        try:
            assert images(node) == {}
            break
        except lab_agent.AgentError:
            assert time.monotonic() < end
            time.sleep(0.1)
    there = set(node.agent.sh(f"cd {FOLDER} && find objects -type f").out.split())
    assert there
    hub.altered = {}
    before = len(hub.paths)
    assert pull(node, image["id"], url(hub))["done"]
    assert not there & {p.removesuffix(".zst") for p in hub.paths[before:]}


@pytest.mark.parametrize("torn", ["meta", "objects"])
def test_the_power_goes_before_the_bytes_are_on_the_disk(node, hub, image, torn):
    """Names and fs-verity's digests are written with the pool's own metadata, and the data a little later."""
    node.agent.sh("echo 100000 >/proc/sys/vm/dirty_writeback_centisecs; echo 100000 >/proc/sys/vm/dirty_expire_centisecs")
    kind = node.agent.varlink("storaged", "GetStatus")["pools"][0]["kind"]
    node.qmp("block_set_io_throttle", device="disk0", bps=0, bps_rd=0, bps_wr=2 << 20, iops=0, iops_rd=0, iops_wr=0)
    if torn == "meta":
        hub.altered = {str(p.relative_to(hub.folder)): None for p in objects(hub)}
        fails("image.not-found", node, image["id"], url(hub))
    else:
        pull(node, image["id"], url(hub))
    node.agent.varlink("storaged", "EnsureVolume", key="scratch/7/1/other", kind=kind, size=16 << 20)  # commits
    mark = node.mark()
    node.cut()
    node.start()
    node.wait_service("imaged", 120, mark)
    hub.altered, before = {}, len(hub.paths)
    pull(node, image["id"], url(hub))
    assert images(node) == {image["id"]: True}
    assert [p for p in hub.paths[before:] if p.startswith(torn)], f"none was torn: {hub.paths[before:]}"
    mount(node, image["id"])


def test_no_room(boot, hub, logs):
    """imaged's share of a small pool is full: a clear reason, and nothing of it stays."""
    (logs / "big").mkdir()
    with open(logs / "big/zeros", "wb") as f:
        f.truncate(150 << 20)
    (logs / "big/first").write_bytes(os.urandom(100000))
    big = cli.Cli({}, logs).json("image", "convert", f"rootfs:{logs / 'big'}", "--output", hub.folder)
    disk = lab_machine.disk_create(logs / "disk.img", 400, "disk")
    m = boot("runmode=dev", disks=[disk])
    m.wait_service("imaged", 120)
    fails("image.no-space", m, big["id"], url(hub))
    assert images(m) == {}
    assert m.agent.sh(f"find {FOLDER}/objects {FOLDER}/configs -type f | wc -l").out.strip() == "0"
