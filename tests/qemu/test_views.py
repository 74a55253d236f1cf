"""What each daemon sees of the file system: all of it read-only but what its service file names, no process of others, no
device. Each thing is tried from inside of the daemon's mount namespace, as its own user and as root, and where it may work."""
import re

import pytest

from lab import machine, paths, tenants

SECONDS = 20  # about, for the order in which files start

STRICT = ("noded", "provd", "gated", "netd", "kvd@")
PEERS = ("storaged", "imaged", "contd")
KERNELS = {"/proc", "/sys", "/dev"}
# Where a program would leave something that stays, or that another program believes.
PLACES = ("/", "/usr/lib/croft", "/usr/bin", "/etc", "/etc/croft/services", "/run", "/run/croft", "/run/croft/containers", "/var",
          "/var/croft", "/var/croft/state", "/var/croft/images", "/run/croft/images/views-test", "/run/croft/disks/views-test", "/tmp", "/dev", "/dev/shm", "/sys/fs/cgroup")


def unit(name):
    """key -> words of the service file."""
    text = (paths.ROOT / f"initramfs/services/{name}.service").read_text()
    return {key: value.split() for key, value in re.findall(r"^(\w+)=(.*)$", text, re.M)}


def writable(name):
    """The paths that the file leaves to the service."""
    keys = unit(name)
    return ([p.lstrip("-") for p in keys.get("ReadWritePaths", [])] + [f"/run/{p}" for p in keys.get("RuntimeDirectory", [])]
            + [f"/var/croft/state/{p}" for p in keys.get("StateDirectory", [])])


class Views:
    def __init__(self, m):
        self.machine, self.agent = m, m.agent
        self.all = tenants.Tenants(m)
        kind = next(p["kind"] for p in self.agent.varlink("storaged", "GetStatus")["pools"] if p["primary"])
        self.agent.varlink("storaged", "EnsureSpace", key="kv/0x" + "0" * 39 + "1/views/cache", kind=kind, size=256 << 20, mode="user",
                           password="secret", public=False, timeout=120)
        services = self.agent.varlink("core0", "ListServices")["services"]
        self.pids = {re.sub("@.*", "@", s["name"]): s.get("pid") for s in services}
        lines = (paths.ROOT / "initramfs/etc/passwd").read_text().splitlines()
        self.users = {line.split(":")[0]: int(line.split(":")[2]) for line in lines}

    def user(self, name):
        return self.users[unit(name).get("User", ["root"])[0]]

    def attack(self, name, attacks, uid=0):
        """Attacks from inside of a service's namespace."""
        return self.all.attack(attacks, "--enter", self.pids[name], "mnt", "--uid", uid)

    def mounts(self, pid):
        """(path, options, optional fields) of each mount."""
        found = []
        for line in self.agent.text(f"/proc/{pid}/mountinfo").splitlines():
            words = line.split()
            found.append((words[4], words[5].split(","), words[6:words.index("-")]))
        return found


# What a container may not even ask the kernel for, whatever its own filter says; and what works on as root of the node.
DENIED = [["init-module"], ["delete-module"], ["swapon"], ["iopl"], ["kexec"], ["acct"], ["vhangup"], ["syslog"], ["clock"],
          ["handle", "/etc/passwd"], ["io-uring"]]
KEPT = [["mkdir", "/run/views-contd"], ["unshare", "mount"], ["unshare", "user"], ["mount", "none", "/tmp", "tmpfs"]]
# And what it may ask for, and has no capability for: a raw socket and the system clock by adjtimex(2).
UNABLE = [["socket", "17", "3", "768"], ["adjtime"]]


def like_contd():
    """A service with contd's rights that tries what it must not do."""
    text = (paths.ROOT / "initramfs/services/contd.service").read_text()
    text = re.sub(r"\n\[Socket\].*", "", text, flags=re.S)
    for key in ("Type", "Restart", "RestartSec", "WatchdogSec", "Requires", "After"):
        text = re.sub(rf"^{key}=.*\n", "", text, flags=re.M)
    attacks = " ".join(tenants.words(DENIED + KEPT + UNABLE))
    return re.sub(r"^ExecStart=.*$", f"Type=oneshot\nExecStart={tenants.ATTACK} {attacks}", text, flags=re.M).encode()


@pytest.fixture(scope="module")
def views(session_logs):
    disk = machine.disk_create(session_logs / "views.img", 16384, "views")
    files = {**tenants.Tenants.files(), "etc/croft/services/like-contd.service": (like_contd(), 0o644)}
    with machine.Machine(session_logs / "views", ["runmode=dev"], disks=[disk], files=files) as m:
        for name in (*STRICT[:-1], *PEERS):
            m.wait_service(name, 180)
        yield Views(m)


def refused(found, *errors):
    return [v for v in found if v["verdict"] != "refused" or v["errno"] not in errors]


@pytest.mark.parametrize("name", STRICT)
def test_all_but_what_the_file_names_is_read_only(views, name):
    """Also to root, who could write there by the modes of the files: it is the view that refuses."""
    may = writable(name)
    places = [p for p in PLACES if p not in may]
    # Mounts bring their own flags: a volume, an image, a pool that comes later is out of sight instead.
    views.agent.sh("mkdir -p /run/croft/disks/views-test /run/croft/images/views-test; "
                   "mount -t tmpfs none /run/croft/disks/views-test; mount -t tmpfs none /run/croft/images/views-test")
    found = views.attack(name, [["mkdir", p.rstrip("/") + "/views-test"] for p in places])
    views.agent.sh("umount /run/croft/disks/views-test; umount /run/croft/images/views-test; "
                   "rmdir /run/croft/disks/views-test /run/croft/images/views-test")
    assert not refused(found, "EROFS", "ENOENT"), found
    assert found[0]["errno"] == "EROFS" and sum(v["errno"] == "EROFS" for v in found) >= 12, found
    files = [["write", p] for p in ("/etc/passwd", "/etc/croft/services/contd.service", "/usr/lib/croft/seccomp.json",
                                    "/sys/kernel/mm/transparent_hugepage/enabled")]
    if name == "netd":
        files = files[:3]  # /proc and /sys hold what it sets
    assert not refused(views.attack(name, files), "EROFS"), files
    own = views.user(name)
    if own != 0:
        assert not refused(views.attack(name, [["remount", "/"], ["mount-setattr", "/"], ["umount", "/dev"]], own), "EPERM")
    # By the table of mounts: nothing is writable that is not named, and nothing of it shows on the node.
    ignored = [*may, "/proc", *unit(name)["InaccessiblePaths"], *(["/sys"] if name == "netd" else [])]
    assert not [(path, options) for path, options, _ in views.mounts(views.pids[name])
                if "rw" in options and not any(path == p or path.startswith(p + "/") for p in ignored)]
    assert not [path for path, _, fields in views.mounts(views.pids[name]) if any(f.startswith("shared:") for f in fields)]


@pytest.mark.parametrize("name", STRICT)
def test_what_the_file_names_can_be_written(views, name):
    own = views.user(name)
    for path in writable(name):
        if path == "/run/croft/pools":  # each pool's folder of it
            pool = views.agent.sh("ls /run/croft/pools").out.split()[0]
            path = f"/run/croft/pools/{pool}/" + ("kv" if name == "kvd@" else "identity")
        if path != "/run/croft/fault":
            assert views.attack(name, [["mkdir", f"{path}/views-test"]], own)[0]["verdict"] == "succeeded", path
        assert views.attack(name, [["mkdir", f"{path}/views-test"]])[0]["verdict"] == "succeeded", path


def test_the_same_succeeds_for_the_nodes_root(views):
    found = views.all.attack([["mkdir", p.rstrip("/") + "/views-test"] for p in PLACES])
    assert not [v for v in found if v["verdict"] != "succeeded" and v["errno"] != "ENOENT"], found
    assert views.all.attack([["write", "/etc/croft/services/contd.service"]])[0]["verdict"] == "succeeded"


@pytest.mark.parametrize("name", STRICT)
def test_no_process_and_no_device_of_others(views, name):
    own = views.user(name)
    proc = [["read", f"/proc/{pid}/{file}"] for pid in (1, views.pids["storaged"]) for file in ("status", "environ", "maps")]
    if own != 0:
        assert not refused(views.attack(name, proc, own), "ENOENT")
        rest = [["read", f"/proc/{file}"] for file in ("meminfo", "mounts2", "sys/kernel/core_pattern", "kallsyms", "keys")]
        assert not refused(views.attack(name, rest, own), "ENOENT")
    devices = [["read", f"/dev/{d}"] for d in ("vda", "kmsg", "mem", "mapper/control", "console", "btrfs-control")]
    assert not refused(views.attack(name, devices), "ENOENT")
    assert {v["errno"] for v in views.all.attack(devices[:2])} == {""}
    good = views.attack(name, [["read", "/dev/zero"], ["read", "/proc/self/status"]], own)
    assert [v["verdict"] for v in good] == ["succeeded"] * 2, good


@pytest.mark.parametrize("name", PEERS)
def test_who_mounts_for_the_node_cannot_write_to_its_image(views, name):
    found = views.attack(name, [["mkdir", f"{p}/views-test"] for p in ("", "/usr/lib/croft", "/usr/bin", "/etc", "/etc/croft/services",
                                                                       "/var", "/root")])
    assert not refused(found, "EROFS"), found
    found = views.attack(name, [["mkdir", f"{p}/views-test"] for p in ("/run", "/var/croft", "/sys/fs/cgroup")])
    assert not [v for v in found if v["verdict"] != "succeeded"], found
    root = next(m for m in views.mounts(views.pids[name]) if m[0] == "/")
    assert "ro" in root[1] and root[2][0].startswith("shared:"), root


def test_what_is_mounted_on_the_node_comes_and_goes_in_every_view(views):
    """Or a pool that is plugged in would be nobody's, and one that is taken out would be held by those who do not use it."""
    path = "/run/croft/pools/views-test"

    def seen():
        return {name for name in (*STRICT, *PEERS) if path in (p for p, _, _ in views.mounts(views.pids[name]))}
    views.agent.sh(f"mkdir {path}; mount -t tmpfs none {path}")
    assert seen() == {*STRICT, *PEERS}
    views.agent.sh(f"umount {path}")
    assert not seen()
    # A mount that a daemon makes for the node is the node's; one in a slave is its own.
    for name, there in (("contd", True), ("noded", False)):
        views.agent.run(tenants.BUSYBOX, "nsenter", f"-m/proc/{views.pids[name]}/ns/mnt", "/bin/busybox", "mount", "-t", "tmpfs",
                        "none", path)
        assert (path in (p for p, _, _ in views.mounts(1))) == there
        views.agent.run(tenants.BUSYBOX, "nsenter", f"-m/proc/{views.pids[name]}/ns/mnt", "/bin/busybox", "umount", path)
    views.agent.sh(f"rmdir {path}")


def test_what_contd_may_not_do(views):
    """Tried by a service with the very lines of contd's file; and by the node's root, for whom the same attacks are no nonsense."""
    views.machine.wait_service("like-contd", 120, state="done")
    lines = views.agent.varlink("core0", "GetLog", service="like-contd")["lines"]
    found = tenants.verdicts([line["text"] for line in lines])
    assert len(found) == len(DENIED + KEPT + UNABLE), found
    assert not refused(found[:len(DENIED)], "EPERM"), found
    assert {v["verdict"] for v in found[len(DENIED):-len(UNABLE)]} == {"succeeded"}, found
    assert not refused(found[-len(UNABLE):], "EPERM"), found
    control = views.all.attack(DENIED + UNABLE)
    assert not [v for v in control if v["verdict"] == "refused" and v["errno"] == "EPERM" and v["attack"] not in ("iopl", "kexec")]


def test_what_contd_has_its_containers_have_not_lost(views):
    """Its filter and its lack of capabilities are below them; set-user-id and every capability of their own namespace are not."""
    def status(pid):
        return dict(line.split(":\t", 1) for line in views.agent.text(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    contd = status(views.pids["contd"])
    assert contd["Seccomp_filters"] == "1" and contd["NoNewPrivs"] == "0", contd
    assert int(contd["CapBnd"], 16) & (1 << 16 | 1 << 17 | 1 << 22 | 1 << 25) == 0, contd  # MODULE, RAWIO, BOOT, TIME
    tenant = views.all.tenant(12)
    inside = status(tenant.start("all", "sleep", 1000, capAdd=["ALL"]))
    assert inside["Seccomp_filters"] == "2" and inside["NoNewPrivs"] == "0", inside
    assert int(inside["CapEff"], 16) & (1 << 22 | 1 << 25 | 1 << 12) == 1 << 22 | 1 << 25 | 1 << 12, inside
    tenant.remove("all")
