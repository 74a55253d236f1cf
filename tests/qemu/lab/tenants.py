"""Tenants without a chain: the makers are called as provd calls them, with a folder of BusyBox and the attack program
(tests/attack) as every container's root."""
import io
import json
import pathlib
import subprocess
import tarfile
import time

from . import agent as lab_agent, paths

BASE = 0x20000000
WORK = "/var/croft/tenants-test"
BUSYBOX = "/croft-test/busybox"
ATTACK = "/croft-test/attack"


def attack_program():
    """The attack program, which `make tests-tools` builds."""
    return (paths.BUILD / "tests/attack").read_bytes()


def rootfs(**programs):
    """A root file system as it lies on disk for a container: BusyBox, and programs by name."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        def add(name, content=None, mode=0o755, link=None):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = mode, 1700000000
            entry.type = tarfile.SYMTYPE if link else tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.linkname, entry.size = link or "", len(content or b"")
            tar.addfile(entry, io.BytesIO(content or b""))
        add(".")
        for folder in ("bin", "proc", "sys", "dev", "etc", "root", "var", "var/web"):
            add(folder)
        add("tmp", mode=0o1777)
        add("bin/busybox", pathlib.Path("/bin/busybox").read_bytes())
        for applet in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
            if applet != "busybox":
                add(f"bin/{applet}", link="busybox")
        add("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/web:/bin/sh\n", 0o644)
        add("etc/group", b"root:x:0:\nweb:x:33:\nextra:x:44:web\n", 0o644)
        add("bin/data", b"no program")
        for name, program in programs.items():
            add(f"bin/{name}", program)
    return data.getvalue()


def verdicts(lines):
    """The lines that the attack program printed, read."""
    return [json.loads(line) for line in lines if line.startswith('{"attack"')]


def words(attacks):
    """Attacks as the program takes them: each a list of words, a comma between."""
    return [word for i, attack in enumerate(attacks) for word in ([","] if i else []) + list(map(str, attack))]


class Tenants:
    """The makers of a machine, ready for reservations. The machine has the attack program at ATTACK: `files`."""

    def __init__(self, m):
        self.machine, self.agent = m, m.agent
        self.agent.write("/run/rootfs.tar", rootfs(attack=attack_program()))

    @staticmethod
    def files():
        return {"croft-test/attack": (attack_program(), 0o755)}

    def tenant(self, reservation):
        return Tenant(self, reservation)

    def attack(self, attacks, *options, timeout=120):
        """Attacks (each a list of words) from the node itself, as root or as the program's options say: the controls."""
        found = []
        for i in range(0, len(attacks), 20):
            out = self.agent.run(ATTACK, *options, *words(attacks[i:i + 20]), timeout=timeout).out
            found += verdicts(out.splitlines())
        assert len(found) == len(attacks), found
        return found

    def background(self, path, *words):
        """Runs the program on the node beside the test; its pid. What it prints goes to path."""
        line = " ".join(map(str, words))
        return self.agent.sh(f"{ATTACK} {line} </dev/null >{path} 2>&1 & echo $!").out.strip()

    def wait_text(self, path, text, timeout=30):
        end = time.monotonic() + timeout * paths.SCALE
        while text not in (got := self.agent.text(path) if self.agent.exists(path) else ""):  # its shell makes it a moment later
            assert time.monotonic() < end, (path, got)
            time.sleep(0.1)
        return got


class Tenant:
    """One reservation, revision 1, with a range of ids and a network of its own."""

    def __init__(self, all_, reservation):
        self.all, self.agent, self.id = all_, all_.agent, reservation
        self.base = BASE + (reservation % 1000) * 65536
        self.root = f"{WORK}/{reservation}"
        self.network = self.agent.varlink("netd", "EnsureNetwork", reservation=reservation, network="default",
                                          internal=False)["network"]
        self.pins = {}
        self.attachments = {}
        self.agent.sh(f"{BUSYBOX} mkdir -p -m 711 {WORK}; {BUSYBOX} mkdir -p -m 755 {self.root}; "
                      f"{BUSYBOX} tar -xf /run/rootfs.tar -C {self.root}; "
                      f"{BUSYBOX} chown -hR {self.base}:{self.base} {self.root}", timeout=60)

    def key(self, service):
        return {"reservation": self.id, "revision": 1, "service": service}

    def call(self, method, service, timeout=60, **parameters):
        return self.agent.varlink("contd", method, timeout=timeout, **self.key(service), **parameters)

    def volume(self, name, size):
        """The path of a volume with a hard limit."""
        kind = next(p["kind"] for p in self.agent.varlink("storaged", "GetStatus")["pools"] if p["primary"])
        return self.agent.varlink("storaged", "EnsureVolume", key=f"volume/0x{self.id:040x}/project/{name}", kind=kind,
                                  size=size)["path"]

    def prepare(self, service):
        self.pins[service] = self.call("Prepare", service, uidBase=self.base, uidCount=65536)
        self.attachments[service] = self.agent.varlink(
            "netd", "Attach", **self.key(service), network="default", netns=self.pins[service]["netns"])["attachment"]

    def start(self, service, *command, mounts=(), **spec):
        """Starts a service; the node's number of its first process."""
        if service not in self.pins:
            self.prepare(service)
        return self.call("Start", service, rootfs=self.root, image={}, spec={"command": list(map(str, command)), **spec},
                         mounts=list(mounts), files=[], hosts={}, dns=[])["pid"]

    def get(self, service):
        found = self.agent.varlink("contd", "List")["containers"]
        return next((c for c in found if (c["reservation"], c["service"]) == (self.id, service)), None)

    def log(self, service):
        return [line["line"] for line in self.call("GetLog", service, tail=-1, since=0, follow=False)["lines"]]

    def wait(self, service, check, timeout=60):
        end = time.monotonic() + timeout * paths.SCALE
        while not check(got := self.get(service)):
            assert time.monotonic() < end, (got, self.log(service)[-20:])
            time.sleep(0.2)
        return got

    def wait_log(self, service, text, timeout=60):
        """The first line that holds the text."""
        end = time.monotonic() + timeout * paths.SCALE
        while not (found := [line for line in self.log(service) if text in line]):
            assert time.monotonic() < end, (self.get(service), self.log(service)[-20:])
            time.sleep(0.2)
        return found[0]

    def attack(self, service, attacks, timeout=120, **spec):
        """Attacks (each a list of words) from a container that does nothing else, until they are done; their verdicts."""
        self.start(service, "attack", *words(attacks), **spec)
        got = self.wait(service, lambda c: c["state"] in ("exited", "failed"), timeout)
        found = verdicts(self.log(service))
        self.remove(service)
        assert len(found) == len(attacks), (got, found)
        return found

    def remove(self, service):
        self.agent.varlink("netd", "Detach", **self.key(service))
        self.call("Remove", service, keepLog=False, timeout=90)
        self.pins.pop(service, None)

    def netns(self, service, script):
        """What a script of the tests' own BusyBox prints in a container's network namespace."""
        return self.agent.run(BUSYBOX, "nsenter", f"-n{self.pins[service]['netns']}", BUSYBOX, "sh", "-c", script).out
