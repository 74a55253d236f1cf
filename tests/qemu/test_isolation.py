"""What a hostile tenant tries, from a container of ours on a whole node: each attack fails, and each is seen to work where
it may, so that a failure means something. tests/attack holds the attacks.

A row: the attack's words; how it may end in a container as it comes (default); the same in one that was given every capability
(all: "own" where it reaches nothing but the container's own namespaces); and how it must end for the node's own root, which is the
control. "succeeded" or the names of errors."""
import pytest

from lab import agent as lab_agent, machine, netns, tenants

SECONDS = 110  # about, for the order in which files start

KEY, NAME = 4711, "croft-victim"
ATTACKER, VICTIM = 12, 13
SERVER = 7000
NODE_SERVER = 7777

OK = "succeeded"
NO = "EPERM EACCES"
GONE = "ENOENT ESRCH"

# The processes of the other tenant. {pid}: its number on the node, {secret}: where its secret lies. The last column is what the
# node says to the same attack by the attacker's own user without a container around it: the second line.
NEIGHBOUR = {
    "environment": (("read", "/proc/{pid}/environ"), GONE, GONE, OK, NO),
    "memory": (("read", "/proc/{pid}/maps"), GONE, GONE, OK, NO),
    "its files": (("read", "/proc/{pid}/root/etc/passwd"), GONE, GONE, OK, NO),
    "its descriptors": (("read", "/proc/{pid}/fd/4"), GONE, GONE, OK, NO),
    "its root on the node": (("read", "{root}/etc/group"), GONE, GONE, OK, OK),
    "its volume": (("read", "{volume}/own"), GONE, GONE, OK, NO),
    "its log": (("read", "/var/croft/logs/13-1-victim/00000001.log"), GONE, GONE, OK, NO),
    "its specification": (("read", "/run/croft/containers/13-1-victim/start.json"), GONE, GONE, OK, NO),
    "kill": (("kill", "{pid}", "0"), GONE, GONE, OK, NO),
    "pidfd signal": (("pidfd-signal", "{pid}"), GONE, GONE, OK, NO),
    "ptrace": (("ptrace", "{pid}"), GONE, GONE, OK, NO),
    "its secret": (("mem", "{pid}", "{secret}"), GONE, GONE, OK, NO),
    # Not in our kernel at all: the row is for the day on which it is.
    "process_vm_readv": (("vm-read", "{pid}", "{secret}"), f"{GONE} ENOSYS", f"{GONE} ENOSYS", f"{OK} ENOSYS", f"{NO} ENOSYS"),
    "pidfd_getfd": (("pidfd-getfd", "{pid}"), GONE, GONE, OK, NO),
    "setpriority": (("priority", "{pid}"), GONE, GONE, OK, NO),
    "sched_setaffinity": (("affinity", "{pid}"), GONE, GONE, OK, NO),
    "prlimit": (("prlimit", "{pid}"), GONE, GONE, OK, NO),
    "user namespace": (("setns", "/proc/{pid}/ns/user"), GONE, GONE, OK, NO),
    "mount namespace": (("setns", "/proc/{pid}/ns/mnt"), GONE, GONE, OK, NO),
    "init's environment": (("read", "/proc/1/environ"), OK, OK, OK, NO),
}
# What is named in a namespace; the control is a process beside the victim.
NAMED = {
    "abstract socket": (("abstract", NAME), "ECONNREFUSED"),
    "System V memory": (("sysv", KEY), "ENOENT"),
    "message queue": (("mqueue", f"/{NAME}"), "ENOENT"),
    "shared memory": (("shm", f"/{NAME}"), "ENOENT"),
}
MASKED = "ENODATA ENOENT EACCES EPERM"
RO = "EROFS EACCES EPERM"
ESCAPES = {
    # mounts; first, so that what follows is tried with the covers off where they come off
    "mount tmpfs": (("mount", "none", "/tmp", "tmpfs"), NO, "own", OK),
    "mount proc": (("mount", "none", "/tmp", "proc"), NO, "own", OK),
    "mount sysfs": (("mount", "none", "/tmp", "sysfs"), NO, NO, OK),
    "mount cgroup": (("mount", "none", "/tmp", "cgroup"), NO, f"{NO} ENODEV EINVAL", f"{OK} ENODEV EINVAL EBUSY"),
    "mount cgroup2": (("mount", "none", "/tmp", "cgroup2"), NO, "own", OK),
    "mount devtmpfs": (("mount", "none", "/tmp", "devtmpfs"), NO, NO, OK),
    "mount a disk": (("mount", "/dev/vda", "/tmp", "btrfs"), NO, f"{NO} ENOENT ENOTBLK", f"{OK} EBUSY EINVAL"),
    "bind": (("mount", "/etc", "/tmp", "bind"), NO, "own", OK),
    **{f"cover of /proc/{name} taken off": (("umount", f"/proc/{name}"), f"{NO} ENOENT", "own EINVAL ENOENT", "EINVAL ENOENT")
       for name in ("kcore", "keys", "kallsyms", "cmdline", "sys", "sysrq-trigger", "interrupts")},
    "/sys made writable": (("remount", "/sys"), NO, "own", OK),
    "/sys/fs/cgroup made writable": (("mount-setattr", "/sys/fs/cgroup"), NO, "own", OK),
    "/proc made writable": (("mount-setattr", "/proc"), NO, "own", OK),
    **{f"fresh {kind}: {how} {path}": (("fresh", kind, how, path), NO, f"{NO} ENOENT {also}", f"{OK} ENOENT EPERM ENODATA")
       for kind, how, path, also in (
           ("proc", "read", "kcore", ""), ("proc", "read", "kmsg", ""), ("proc", "read", "cmdline", ""),
           ("proc", "write", "sysrq-trigger", ""), ("proc", "write", "sys/kernel/core_pattern", ""),
           ("proc", "write", "sys/vm/drop_caches", ""), ("proc", "write", "sys/kernel/hostname", "own"),
           ("sysfs", "write", "kernel/mm/transparent_hugepage/enabled", ""), ("sysfs", "write", "power/state", ""),
           ("cgroup2", "write", "cgroup.procs", ""), ("cgroup2", "write", "memory.max", ""),
           ("cgroup2", "write", "cgroup.kill", ""), ("cgroup2", "mkdir", "escape", ""))},
    "fsopen": (("fsopen", "tmpfs"), NO, "own", OK),
    "fsopen btrfs": (("fsopen", "btrfs"), NO, f"{NO} own", OK),
    "open_tree": (("open-tree", "/"), NO, "own", OK),
    "pivot_root": (("pivot-root",), NO, f"{NO} own EINVAL EBUSY", f"{OK} EINVAL EBUSY"),
    # procfs and sysfs
    "core_pattern": (("write", "/proc/sys/kernel/core_pattern"), RO, RO, OK),
    "modprobe": (("write", "/proc/sys/kernel/modprobe"), f"{RO} ENOENT", f"{RO} ENOENT", f"{OK} ENOENT"),
    "sysctl": (("write", "/proc/sys/vm/panic_on_oom"), RO, RO, OK),
    "sysrq-trigger": (("write", "/proc/sysrq-trigger"), f"{RO} ENOENT", f"{RO} ENOENT", f"{OK} ENOENT"),
    "binfmt_misc": (("write", "/proc/sys/fs/binfmt_misc/register"), f"{RO} ENOENT", f"{RO} ENOENT", f"{OK} ENOENT"),
    "kcore": (("read", "/proc/kcore"), MASKED, MASKED, f"{OK} EPERM ENOENT"),
    "kmsg": (("read", "/dev/kmsg"), MASKED, MASKED, OK),
    "proc kmsg": (("read", "/proc/kmsg"), MASKED, MASKED, f"{OK} EAGAIN"),
    "boot parameters": (("read", "/proc/cmdline"), MASKED, MASKED, OK),
    "keys": (("read", "/proc/keys"), MASKED, f"{MASKED} own", f"{OK} ENODATA ENOENT"),
    "kallsyms": (("read", "/proc/kallsyms"), MASKED, f"{MASKED} own", OK),
    "uevent_helper": (("write", "/sys/kernel/uevent_helper"), f"{RO} ENOENT", f"{RO} ENOENT", f"{OK} ENOENT EACCES"),
    "cgroup processes": (("put", "/sys/fs/cgroup/cgroup.procs", "0"), RO, RO, f"{OK} EBUSY"),
    "cgroup memory": (("write", "/sys/fs/cgroup/memory.max"), f"{RO} ENOENT", f"{RO} ENOENT", f"{OK} ENOENT EACCES"),
    "cgroup of its own": (("mkdir", "/sys/fs/cgroup/escape"), RO, RO, OK),
    "oom score": (("put", "/proc/self/oom_score_adj", "-1000"), NO, NO, OK),
    # namespaces
    **{f"unshare {kind}": (("unshare", kind), NO, "own", OK)
       for kind in ("user", "mount", "net", "pid", "ipc", "uts", "cgroup")},
    "clone with a user namespace": (("clone-user",), NO, "own", OK),
    "clone3 with a user namespace": (("clone3-user",), f"{NO} ENOSYS", "own ENOSYS", OK),
    "its own mount namespace again": (("setns", "/proc/self/ns/mnt"), NO, "own", OK),
    # devices
    "node of a disk": (("mknod", "/dev/croft-node", "b", "254", "0"), NO, NO, OK),
    "node of /dev/mem": (("mknod", "/dev/croft-node", "c", "1", "1"), NO, NO, f"{OK} ENXIO EPERM"),
    "node of /dev/null": (("mknod", "/dev/croft-node", "c", "1", "3"), NO, NO, OK),
    "node of fuse": (("mknod", "/dev/croft-node", "c", "10", "229"), NO, NO, f"{OK} ENODEV ENXIO"),
    "the disk": (("read", "/dev/vda"), "ENOENT", "ENOENT", OK),
    "device mapper": (("read", "/dev/mapper/control"), "ENOENT", "ENOENT", f"ENODATA EINVAL ENOENT {OK}"),
    # doors of the kernel
    "add_key": (("add-key",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS"),
    "keyctl": (("keyctl",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS"),
    "request_key": (("request-key",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS"),
    "bpf": (("bpf",), NO, NO, OK),
    "userfaultfd": (("userfaultfd",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS"),
    "io_uring": (("io-uring",), f"{NO} ENOSYS", f"{NO} ENOSYS", OK),
    "perf_event_open": (("perf",), NO, NO, OK),
    "open_by_handle_at": (("handle", "/etc/passwd"), NO, f"{NO} ESTALE EOPNOTSUPP", f"{OK} ESTALE EOPNOTSUPP other"),
    "kexec_load": (("kexec",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS EPERM"),
    "init_module": (("init-module",), f"{NO} ENOSYS", f"{NO} ENOSYS", "ENOSYS EPERM other"),
    "delete_module": (("delete-module",), f"{NO} ENOSYS", f"{NO} ENOSYS", "ENOSYS EPERM ENOENT"),
    "reboot": (("reboot",), NO, f"{NO} EINVAL", OK),
    "clock_settime": (("clock",), NO, NO, OK),
    "adjtimex": (("adjtime",), NO, NO, OK),
    "swapon": (("swapon",), NO, NO, OK),
    "acct": (("acct",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS"),
    "quotactl": (("quotactl",), f"{NO} ENOSYS", f"{NO} ENOSYS own", f"{OK} ENOSYS"),
    "the kernel's log": (("syslog",), NO, NO, OK),
    "iopl": (("iopl",), f"{NO} ENOSYS", f"{NO} ENOSYS", f"{OK} ENOSYS EPERM"),
    "sethostname": (("hostname",), NO, "own", OK),
    "vhangup": (("vhangup",), NO, NO, OK),
    "personality": (("personality",), NO, NO, OK),
    "vsock": (("socket", "40", "1", "0"), f"{NO} EAFNOSUPPORT", f"{NO} EAFNOSUPPORT", f"{OK} EAFNOSUPPORT ENODEV"),
    "audit": (("audit",), f"{NO} ECONNREFUSED EPROTONOSUPPORT", f"{NO} ECONNREFUSED EPROTONOSUPPORT", OK),
    # Families of sockets. Packet sockets are Docker's default and see the container's own link: test_frames_… says what they reach.
    "crypto of the kernel": (("socket", "38", "5", "0"), f"{NO} EAFNOSUPPORT", f"{NO} EAFNOSUPPORT", f"{OK} EAFNOSUPPORT"),
    "Bluetooth": (("socket", "31", "3", "0"), f"{NO} EAFNOSUPPORT", f"{NO} EAFNOSUPPORT", f"{OK} EAFNOSUPPORT"),
    "XDP": (("socket", "44", "3", "0"), f"{NO} EAFNOSUPPORT", f"{NO} EAFNOSUPPORT own", f"{OK} EAFNOSUPPORT"),
    "TIPC": (("socket", "30", "2", "0"), f"{NO} EAFNOSUPPORT", f"{NO} EAFNOSUPPORT", f"{OK} EAFNOSUPPORT"),
    "RDS": (("socket", "21", "5", "0"), f"{NO} EAFNOSUPPORT", f"{NO} EAFNOSUPPORT", f"{OK} EAFNOSUPPORT"),
    "packets": (("socket", "17", "3", "768"), "own", "own", OK),
    # The kernel's end is in the node's network namespace only (ECONNREFUSED), or there is one for each.
    **{f"netlink: {name}": (("netlink", number, "1"), f"{NO} EPROTONOSUPPORT ECONNREFUSED{also}",
                            f"{NO} EPROTONOSUPPORT ECONNREFUSED{also}", f"{OK} EPROTONOSUPPORT")
       for name, number, also in (("processes", "11", ""), ("crypto", "21", ""), ("SCSI", "18", ""), ("RDMA", "20", " own"),
                                  ("addresses", "0", " own"))},
    # the node's own
    **{f"socket of {name}": (("unix", f"/run/croft/{name}"), "ENOENT", "ENOENT", OK)
       for name in ("core0", "netd", "storaged", "imaged", "contd", "noded", "provd")},
    "descriptors that leaked": (("descriptors",), "ENOENT", "ENOENT", None),
    "working directory outside": (("cwd",), "ENOENT", "ENOENT", None),
}


def ended(verdict, allowed):
    """Whether the attack ended in one of the ways that are allowed."""
    how = OK if verdict["verdict"] == OK else verdict["errno"] if verdict["verdict"] == "refused" else verdict["verdict"]
    return how in allowed.split() or ("own" in allowed.split() and how == OK)


class Field:
    """Two tenants on one node: the victim's services, and what the attacks came to."""

    def __init__(self, m):
        self.all = tenants.Tenants(m)
        self.agent = m.agent
        self.attacker, self.victim = self.all.tenant(ATTACKER), self.all.tenant(VICTIM)
        volume = self.victim.volume("data", 64 << 20)
        self.agent.sh(f"echo own > {volume}/own; {tenants.BUSYBOX} chmod 600 {volume}/own")
        pid = self.victim.start("victim", "attack", "victim", KEY, NAME,
                                mounts=[{"source": volume, "target": "/data", "readOnly": False}])
        secret = self.victim.wait_log("victim", "ready").split()[1]
        # The attacks' own process is a child of the first: that one owns what is attacked.
        child = self.agent.text(f"/proc/{pid}/task/{pid}/children").split()[0]
        self.victim.start("server", "attack", "server", SERVER, "neighbour")
        self.victim.wait_log("server", "ready")
        self.pid, self.values = child, {"pid": child, "secret": secret, "root": self.victim.root, "volume": volume}
        self.rows = {**NEIGHBOUR, **ESCAPES}
        attacks = [[word.format(**self.values) for word in map(str, row[0])] for row in self.rows.values()]
        near = [[word.format(**self.values) for word in map(str, row[0])] for row in NEIGHBOUR.values()]
        self.default = self._run("default", attacks)
        self.capable = self._run("capable", attacks, capAdd=["ALL"])
        self.user = dict(zip(NEIGHBOUR, self.all.attack(near, "--uid", self.attacker.base)))
        self.root = dict(zip(self.rows, self.all.attack(attacks)))

    def _run(self, service, attacks, **spec):
        return dict(zip(self.rows, self.attacker.attack(service, attacks, timeout=240, **spec)))


@pytest.fixture(scope="module")
def node(session_logs):
    disk = machine.disk_create(session_logs / "isolation.img", 16384, "isolation")
    with machine.Machine(session_logs / "isolation", ["runmode=dev"], disks=[disk], files=tenants.Tenants.files()) as m:
        for name in ("storaged", "netd", "contd", "noded", "provd"):
            m.wait_service(name, 180)
        m.wait("address", 120, address="10.0.2.15")
        yield m


@pytest.fixture(scope="module")
def field(node):
    return Field(node)


@pytest.mark.parametrize("name", [*NEIGHBOUR, *ESCAPES])
def test_an_attack_fails(field, name):
    row = field.rows[name]
    assert ended(field.default[name], row[1]), field.default[name]
    assert ended(field.capable[name], row[2]), field.capable[name]


@pytest.mark.parametrize("name", [name for name, row in {**NEIGHBOUR, **ESCAPES}.items() if row[3]])
def test_the_same_succeeds_for_the_nodes_root(field, name):
    assert ended(field.root[name], field.rows[name][3]), field.root[name]


@pytest.mark.parametrize("name", NEIGHBOUR)
def test_the_second_line_holds_without_a_container_around_it(field, name):
    assert ended(field.user[name], NEIGHBOUR[name][4]), field.user[name]


def test_what_the_covers_hide_tells_nothing(field):
    """With the covers off, which takes CAP_SYS_ADMIN in the container: no address of the kernel, no key of anybody else."""
    symbols = field.capable["kallsyms"]["detail"].splitlines()[:-1]
    assert not symbols or {line.split()[0] for line in symbols} == {"0" * 16}
    keys = field.capable["keys"]["detail"].splitlines()
    assert all("_ses.12-1-" in line for line in keys), keys


def test_what_is_named_in_a_namespace_is_not_found(field):
    """Sockets and memory under a name, by kernel objects that files do not protect."""
    rows = [row[0] for row in NAMED.values()]
    found = field.attacker.attack("named", rows)
    control = field.all.attack(rows, "--enter", field.pid, "ipc,net,mnt")
    for verdict, seen, (_, allowed) in zip(found, control, NAMED.values()):
        assert ended(verdict, allowed), verdict
        assert ended(seen, OK), seen


# ---- the network


def test_addresses_that_are_closed(field, world):
    """The metadata, the farm's LAN, the node by every address that it has, the other tenant's container and bridge."""
    victim = field.victim.attachments["server"]
    network = field.victim.network
    pid = field.all.background("/run/server.log", "server", NODE_SERVER, "node")
    field.all.wait_text("/run/server.log", "ready")
    targets = [("169.254.169.254", world.port), ("10.0.2.2", world.port), ("fd12:3456::9", world.port), ("10.0.2.15", NODE_SERVER)]
    targets += [(victim[f"address{v}"].split("/")[0], SERVER) for v in (4, 6)]
    targets += [(t[f"gateway{v}"].split("/")[0], NODE_SERVER) for v in (4, 6) for t in (network, field.attacker.network)]
    # What is published or reachable on the node is not reached by way of the loopback either.
    targets += [("127.0.0.1", NODE_SERVER), ("::1", NODE_SERVER)]
    attacks = [["tcp", *target] for target in targets]
    attacks += [["udp", *target] for target in targets[:6] + targets[-2:]]  # one with many addresses answers from another
    try:
        for verdict, attack in zip(field.attacker.attack("reach", attacks, timeout=240), attacks):
            assert verdict["verdict"] == "refused" and verdict["errno"] != "EINVAL", (attack, verdict)
        for verdict, attack in zip(field.all.attack(attacks, timeout=240), attacks):
            assert verdict["verdict"] == OK and verdict["detail"], (attack, verdict)
    finally:
        field.agent.sh(f"kill {pid}")
    # And the attacker's network does work.
    assert field.attacker.attack("out", [["tcp", netns.INTERNET[0], world.port]])[0]["detail"].startswith("this is")


def frames(field, sibling):
    """name -> words of a frame, and whether it may arrive. The sibling stands for whoever shares a wire with the attacker."""
    own = field.attacker.attachments["spoof"]
    link = field.attacker.netns("spoof", "ip -6 -o addr show dev eth0")
    local = next(w for w in link.split() if w.startswith("fe80:")).split("/")[0]
    ip, ip6 = own["address4"].split("/")[0], own["address6"].split("/")[0]
    other, other6 = sibling["address4"].split("/")[0], sibling["address6"].split("/")[0]
    gateway, gateway6 = (field.attacker.network[f"gateway{v}"].split("/")[0] for v in (4, 6))
    mac, victim = "02:aa:bb:cc:dd:ee", field.victim.attachments["server"]["address4"].split("/")[0]
    return {
        "arp": (("arp", "own", ip, other), True),
        "ip": (("ip4", "own", ip, other), True),
        "ip6": (("ip6", "own", ip6, other6), True),
        "neighbour-solicitation": (("ns", "own", local, other6), True),
        "arp-for-gateway": (("arp", "own", gateway, other), False),
        "arp-for-sibling": (("arp", "own", other, gateway), False),
        "arp-for-victim": (("arp", "own", victim, gateway), False),
        "arp-frame-of-another": (("arp", mac, ip, other), False),
        "arp-message-of-another": (("arp-inside", mac, ip, other), False),
        "ip-of-sibling": (("ip4", "own", other, gateway), False),
        "ip-of-victim": (("ip4", "own", victim, gateway), False),
        "ip-of-internet": (("ip4", "own", netns.INTERNET[0], other), False),
        "ip-with-another-mac": (("ip4", mac, ip, other), False),
        "ip6-of-sibling": (("ip6", "own", other6, gateway6), False),
        "ip6-with-another-mac": (("ip6", mac, ip6, other6), False),
        "ip6-link-local-data": (("ip6", "own", local, other6), False),
        "router-advertisement": (("ra", "own", local, "::"), False),
        "router-advertisement-hidden": (("ra-hidden", "own", local, "::"), False),
        "advertisement-for-sibling": (("na", "own", ip6, other6), False),
        "advertisement-for-gateway": (("na", "own", local, gateway6), False),
        "redirect": (("redirect", "own", local, other6), False),
        "solicitation-of-sibling": (("ns", "own", other6, gateway6), False),
        "dhcp-server": (("dhcp", "own", ip, "255.255.255.255"), False),
        "dhcp-server-to-sibling": (("dhcp", "own", ip, other), False),
        "dhcp6-server": (("dhcp6", "own", ip6, other6), False),
        "vlan": (("vlan", "own", other, gateway), False),
        "unknown-protocol": (("odd", "own", "-", "-"), False),
        "last": (("ip4", "own", ip, other), True),
    }


def test_frames_with_another_name_on_them_do_not_arrive(field):
    """Heard by a container on the same bridge, on the bridge itself, and by the other tenant."""
    field.attacker.start("sibling", "sleep", 1000)
    field.attacker.prepare("spoof")
    table = frames(field, field.attacker.attachments["sibling"])
    ears = {"sibling": (field.attacker.get("sibling")["pid"], "eth0"), "bridge": (1, field.attacker.network["bridge"]),
            "victim": (field.victim.get("server")["pid"], "eth0")}
    pids = [field.all.background(f"/run/ear.{name}", "--enter", pid, "net", "sniff", device, 60)
            for name, (pid, device) in ears.items()]
    for name in ears:
        field.all.wait_text(f"/run/ear.{name}", "listening")
    sent = field.attacker.attack("spoof", [["frame", "eth0", name, *row[0]] for name, row in table.items()])
    assert all(v["verdict"] == OK for v in sent), sent
    heard = {}
    for name in ("sibling", "bridge"):
        line = tenants.verdicts(field.all.wait_text(f"/run/ear.{name}", "verdict", 90).splitlines())[0]
        heard[name] = set(line["detail"].rstrip(";").split(";"))
    assert heard["sibling"] == heard["bridge"] == {name for name, row in table.items() if row[1]}
    # From the node, so that the victim's ear is known to hear.
    field.all.attack([["frame", field.victim.network["bridge"], "last", "ip4", "own", "192.0.2.1", "192.0.2.2"]])
    heard = tenants.verdicts(field.all.wait_text("/run/ear.victim", "verdict", 90).splitlines())[0]
    assert heard["detail"] == "last;"
    field.agent.sh("".join(f"kill {pid} 2>/dev/null;" for pid in pids) + " true")


def test_raw_sockets_are_a_capability(field):
    """Docker's containers have it unless it is dropped, and then neither frames nor packets are made by hand."""
    raw = [["socket", 17, 3, 768], ["socket", 17, 2, 768], ["socket", 2, 3, 255], ["socket", 10, 3, 58]]
    assert {v["errno"] for v in field.attacker.attack("cooked", raw, capDrop=["NET_RAW"])} == {"EPERM"}
    assert {v["verdict"] for v in field.attacker.attack("raw", raw)} == {OK}


def test_what_the_kernel_tells_of_devices_is_not_for_containers(field):
    field.attacker.start("ear", "attack", "uevents", 8, capAdd=["ALL"])
    field.attacker.wait_log("ear", "listening")
    pid = field.all.background("/run/ear.node", "uevents", 60)
    field.all.wait_text("/run/ear.node", "listening")
    field.agent.sh("echo change > /sys/class/block/vda/uevent")
    heard = tenants.verdicts(field.all.wait_text("/run/ear.node", "verdict").splitlines())[0]
    assert "vda" in heard["detail"], heard
    field.attacker.wait("ear", lambda c: c["state"] in ("exited", "failed"))
    found = tenants.verdicts(field.attacker.log("ear"))[0]
    assert (found["verdict"], found["errno"]) == ("refused", "EAGAIN"), found
    field.attacker.remove("ear")
    field.agent.sh(f"kill {pid} 2>/dev/null; true")


# ---- past advisories


def test_the_runtime_is_not_overwritten(field):
    """CVE-2019-5736. A health check enters the container every second and runs /proc/self/exe, which is the runtime."""
    hash_ = "sha256sum /usr/bin/runc /usr/lib/croft/*"
    before = field.agent.sh(hash_).out
    found = field.attacker.attack(
        "exe", [["exe", 15]], capAdd=["ALL"], timeout=240,
        healthcheck={"test": ["CMD", "/proc/self/exe", "features"], "interval": 1000, "retries": 100})[0]
    seen, held = (int(w.rstrip(",")) for w in found["detail"].split()[1::2])
    assert found["verdict"] == "refused" and seen > 0 and held > 0, found
    assert field.agent.sh(hash_).out == before
    # What belongs to the container is overwritten by the same means.
    field.attacker.start("self", "sh", "-c", "cp /bin/attack /tmp/other; (/tmp/other eat-processor 3 1 &); sleep 1; "
                         "attack exe 10")
    got = field.attacker.wait("self", lambda c: c["state"] in ("exited", "failed"))
    assert tenants.verdicts(field.attacker.log("self"))[-1]["verdict"] == OK, (got, field.attacker.log("self"))
    field.attacker.remove("self")


@pytest.mark.parametrize("number", (3, 7, 8))
def test_a_working_directory_behind_a_descriptor(field, number):
    """CVE-2024-21626."""
    try:
        found = field.attacker.attack("cwd", [["cwd"], ["read", "../../../../../usr/lib/croft/core0"]],
                                      workingDir=f"/proc/self/fd/{number}")
    except lab_agent.Varlink as e:
        assert e.parameters["code"].startswith("container."), e
        field.attacker.remove("cwd")
    else:
        assert [v["verdict"] for v in found] == ["refused", "refused"], found


def test_mounts_race_with_symbolic_links(field):
    """CVE-2021-30465: while a container starts, its sibling swaps a folder of the shared volume, on which another volume is to
    be mounted, with a link out of it."""
    data, other = field.attacker.volume("data", 64 << 20), field.attacker.volume("other", 64 << 20)
    field.agent.sh(f"mkdir -p {data}/x; ln -s ../../../../../.. {data}/y; echo inside > {other}/mark; ln -s / {data}/z")
    before = field.agent.text("/proc/self/mounts")
    field.attacker.start("flip", "attack", "flip", 120, "/data/x", "/data/y",
                         mounts=[{"source": data, "target": "/data", "readOnly": False}])
    field.attacker.wait_log("flip", "flipping")
    during = field.agent.text("/proc/self/mounts")
    ends = []
    for i in range(8):
        service = f"race{i}"
        try:
            field.attacker.start(service, "sh", "-c", "cat /proc/self/mountinfo; ls /data/x/ /; ls / | grep -c croft-test",
                                 mounts=[{"source": data, "target": "/data", "readOnly": False},
                                         {"source": other, "target": "/data/x", "readOnly": False}])
        except lab_agent.Varlink as e:
            ends.append(e.parameters["code"])
        else:
            field.attacker.wait(service, lambda c: c["state"] in ("exited", "failed"))
            lines = field.attacker.log(service)
            mounts = [line.split()[4] for line in lines if " - " in line]
            ends.append("started")
            assert "croft-test" not in lines and lines[-1] == "0", lines
            assert {m for m in mounts if not m.startswith(("/proc", "/sys", "/dev", "/etc"))} <= {
                "/", "/data", "/data/x", "/data/y"}, mounts  # y: the folder itself is moved, with what is mounted on it
        assert field.agent.text("/proc/self/mounts").count("\n") <= during.count("\n") + 4, "a mount on the node"
        field.attacker.remove(service)
    assert ends
    field.attacker.remove("flip")
    assert sorted(field.agent.text("/proc/self/mounts").splitlines()) == sorted(before.splitlines())


@pytest.mark.parametrize("target", ("/proc", "/proc/sys/kernel", "/proc/self/attr", "/dev/../proc"))
def test_a_volume_does_not_cover_proc(field, target):
    """CVE-2019-16884, CVE-2023-27561 and their kin: what the runtime writes to or protects there would be the tenant's file."""
    data = field.attacker.volume("cover", 64 << 20)
    with pytest.raises(lab_agent.Varlink) as e:
        field.attacker.start("cover", "true", mounts=[{"source": data, "target": target, "readOnly": False}])
    assert e.value.parameters["code"].startswith("container."), e.value
    field.attacker.remove("cover")


SETTINGS = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/panic_on_oom",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/printk")


def test_what_the_runtime_writes_to_proc_is_not_redirected(field):
    """CVE-2025-52881: /proc of the image is a link to a folder of a shared volume, where a sibling swaps a real one with one full of
    links to what the node's kernel obeys. The runtime writes settings and labels there while a container starts."""
    data = field.attacker.volume("data", 64 << 20)
    fake = f"{data}/fake/sys/net/ipv4"
    field.agent.sh(f"rm -rf {data}/*; mkdir -p {data}/real {fake} {data}/fake/self/attr/apparmor {data}/fake/thread-self/attr; "
                   f"ln -s /proc/sysrq-trigger {fake}/ip_unprivileged_port_start; "
                   f"ln -s /proc/sys/kernel/core_pattern {fake}/ping_group_range; "
                   f"for f in self/attr/exec self/attr/apparmor/exec thread-self/attr/exec self/oom_score_adj; do "
                   f"ln -s /proc/sys/kernel/core_pattern {data}/fake/$f; done; "
                   f"cd {field.attacker.root}; rmdir proc; ln -s /data/real proc")
    before = [field.agent.text(path) for path in SETTINGS]
    mount = {"source": data, "target": "/data", "readOnly": False}
    ends = []
    try:
        for i in range(6):
            # Even rounds with a still folder, so that the link alone is tried too.
            if i == 1:
                field.agent.sh(f"cd {field.attacker.root}; rm proc; mkdir proc")
                field.attacker.start("swap", "attack", "flip", 120, "/data/real", "/data/fake", mounts=[mount])
                field.attacker.wait_log("swap", "flipping")
                field.agent.sh(f"cd {field.attacker.root}; rmdir proc; ln -s /data/real proc")
            try:
                found = field.attacker.attack(f"proc{i}", [["write", "/proc/sys/kernel/core_pattern"], ["write", "/proc/sysrq-trigger"],
                                                           ["read", "/proc/kcore"]], mounts=[mount])
            except lab_agent.Varlink as e:
                assert e.parameters["code"].startswith("container."), e
                ends.append(e.parameters["code"])
                field.attacker.remove(f"proc{i}")
            else:
                assert [v["verdict"] for v in found] == ["refused"] * 3, found
                ends.append("started")
            assert [field.agent.text(path) for path in SETTINGS] == before, ends
        assert "sysrq" not in field.agent.sh("dmesg").out
    finally:
        field.agent.sh(f"cd {field.attacker.root}; rm -rf proc; mkdir proc; chown {field.attacker.base}:{field.attacker.base} proc")
        if field.attacker.get("swap"):
            field.attacker.remove("swap")
    assert len(ends) == 6


def test_masks_are_not_redirected(field):
    """CVE-2025-31133, CVE-2025-52565: the image brings links where the runtime expects /dev/null, /dev/console and masked files."""
    field.agent.sh(f"cd {field.attacker.root}/dev && ln -sf /proc/sys/kernel/core_pattern null && "
                   "ln -sf /proc/sysrq-trigger console && ln -sf /proc/1/root pts && ln -sf / shm && ln -sf / mqueue")
    try:
        found = field.attacker.attack("masks", [["read", "/proc/interrupts"], ["write", "/proc/sys/kernel/core_pattern"],
                                                ["write", "/proc/sysrq-trigger"], ["read", "/proc/keys"], ["read", "/dev/null"],
                                                ["write", "/dev/null"]])
    finally:
        field.agent.sh(f"cd {field.attacker.root}/dev && rm -f null console pts shm mqueue")
    assert [v["verdict"] for v in found] == ["refused"] * 5 + [OK], found
