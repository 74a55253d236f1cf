"""contd alone, in a machine without chain, farm or images: a folder with BusyBox is every container's root.

What the machine that builds cannot show is shown here: limits, the shifted ids, what is left after the end."""
import base64
import time

import pytest

from lab import agent as lab_agent, machine, node as lab_node, paths, tenants

SECONDS = 180  # about, for the order in which files start
BOUNDS = True  # what is claimed of a node in seconds is held to: no third machine beside it

BASE = 0x20000000
WORK = "/var/croft/contd-test"
BUSYBOX = "/croft-test/busybox"


class Contd:
    """org.croft.container on a machine; every service belongs to reservation 12, revision 1."""

    def __init__(self, m):
        self.machine, self.agent = m, m.agent
        self.agent.write("/run/rootfs.tar", tenants.rootfs())
        self.agent.sh(f"{BUSYBOX} mkdir -p -m 711 {WORK}/rootfs; {BUSYBOX} tar -xf /run/rootfs.tar -C {WORK}/rootfs; "
                      f"{BUSYBOX} chown -hR {BASE}:{BASE} {WORK}/rootfs", timeout=60)

    def key(self, name):
        return {"reservation": 12, "revision": 1, "service": name}

    def call(self, method, timeout=60, **parameters):
        return self.agent.varlink("contd", method, timeout=timeout, **parameters)

    def prepare(self, name):
        return self.call("Prepare", **self.key(name), uidBase=BASE, uidCount=65536)

    def start(self, name, *command, image=None, mounts=(), files=(), hosts=None, **spec):
        return self.call("Start", **self.key(name), rootfs=f"{WORK}/rootfs", image=image or {},
                         spec={"command": list(command), **spec}, mounts=list(mounts), files=list(files),
                         hosts=hosts or {}, dns=["192.0.2.53"])["pid"]

    def run(self, name, *command, **options):
        self.prepare(name)
        return self.start(name, *command, **options)

    def sh(self, name, script, **options):
        return self.run(name, "sh", "-c", script, **options)

    def get(self, name):
        return next((c for c in self.call("List")["containers"] if c["service"] == name), None)

    def wait(self, name, check, timeout=60):
        end, got = time.monotonic() + timeout * paths.SCALE, None
        while time.monotonic() < end:
            try:
                got = self.get(name)
            except (lab_agent.AgentError, ConnectionError) as e:  # contd is on its way back
                got = e
            else:
                if got and check(got):
                    return got
            time.sleep(0.2)
        raise AssertionError(f"{name}: {got}")

    def end(self, name, timeout=60):
        """Waits until it has ended, gives how, and its lines."""
        got = self.wait(name, lambda c: c["state"] in ("exited", "failed"), timeout)
        return got, self.log(name)

    def log(self, name, tail=-1):
        lines = self.call("GetLog", **self.key(name), tail=tail, since=0, follow=False)["lines"]
        return [line["line"] for line in lines]

    def stop(self, name):
        self.call("Stop", **self.key(name))

    def remove(self, name, keep=False):
        self.call("Remove", **self.key(name), keepLog=keep)

    def failure(self, name, *command, **options):
        """Starts what cannot start; the error's code."""
        self.prepare(name)
        with pytest.raises(lab_agent.Varlink) as e:
            self.start(name, *command, **options)
        self.remove(name)
        return e.value.parameters["code"]

    def leftovers(self):
        """All that containers leave in the kernel and on file systems."""
        return self.agent.sh(
            "B=" + BUSYBOX + "; $B find /sys/fs/cgroup/croft -mindepth 1 -type d | $B grep -v '/shim$'; "
            "$B ls /run/croft/containers /run/croft/runc /var/croft/logs | $B grep -v -e : -e '^$'; "
            "$B grep -e /run/croft/containers /proc/self/mounts; "
            "for p in /proc/[0-9]*; do $B readlink $p/exe; done | $B grep -e shim -e runc; true").out


@pytest.fixture(scope="module")
def contd(session_logs):
    disk = machine.disk_create(session_logs / "contd.img", 4096, "contd")
    with machine.Machine(session_logs / "contd", disks=[disk]) as m:
        m.agent.boot_id(120)
        end = time.monotonic() + 120 * paths.SCALE
        while not m.agent.exists("/run/croft/contd"):
            assert time.monotonic() < end, m.console[-3000:]
            time.sleep(0.2)
        yield Contd(m)


@pytest.fixture(autouse=True)
def clean(contd):
    yield
    for c in contd.call("List")["containers"]:
        contd.call("Remove", timeout=90, reservation=c["reservation"], revision=c["revision"], service=c["service"],
                   keepLog=False)
    assert contd.leftovers() == ""


# ---- isolation


def test_the_network_namespace_belongs_to_the_user_namespace(contd):
    pins = contd.prepare("net")
    assert contd.prepare("net") == pins
    other = contd.prepare("net2")
    inode = contd.agent.sh(f"for f in {pins['userns']} {other['userns']} {pins['netns']} {other['netns']}; do "
                           f"{BUSYBOX} stat -c %i $f; done").out.split()
    assert inode[0] == inode[1] and inode[2] != inode[3]
    # sysfs can be mounted, port 80 bound by anybody, and loopback answers.
    contd.start("net", "sh", "-c", "ls /sys/class/net; echo hello | nc -l -p 80 & sleep 1; nc 127.0.0.1 80 </dev/null; "
                "cat /proc/sys/net/ipv4/ping_group_range", user="web")
    got, lines = contd.end("net")
    assert got["exitStatus"] == 0 and {"lo", "hello"} <= set(lines) and lines[-1].split() == ["0", "65535"]


def test_a_container_may_do_what_docker_allows(contd):
    contd.sh("may", """
        unshare -m true 2>/dev/null && echo unshare
        unshare -U true 2>/dev/null && echo userns
        mount -t tmpfs none /tmp 2>/dev/null && echo mount
        chroot / true && echo chroot
        chown web /tmp && echo chown
        cat /proc/cmdline | wc -c; head -c 1 /proc/kcore 2>/dev/null | wc -c; wc -c < /proc/keys
        echo 1 2>/dev/null > /proc/sys/kernel/sysrq && echo sysrq
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup
        mknod /tmp/d b 1 1 2>/dev/null && echo mknod
        grep -E 'Seccomp:|CapEff|CapInh' /proc/self/status | tr -s '\\t' ' '
        df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2
        ulimit -n; ulimit -Hn; ulimit -c
    """)
    got, lines = contd.end("may")
    assert got["exitStatus"] == 0
    assert lines == ["chroot", "chown", "0", "0", "0", "CapInh: 0000000000000000", "CapEff: 00000000a80425fb",
                     "Seccomp: 2", "65536", "1024", "524288", "0"]


def test_added_capabilities_open_their_system_calls(contd):
    contd.sh("admin", "mount -t tmpfs none /tmp && echo mounted; ip link add d0 type dummy 2>&1 | head -1",
             capAdd=["SYS_ADMIN"], capDrop=["NET_RAW"])
    assert contd.end("admin")[1][0] == "mounted"


def test_users_volumes_and_files(contd):
    """A volume's 0 is the container's 0; a secret is read by its owner and written by nobody."""
    contd.agent.sh(f"{BUSYBOX} mkdir -p {WORK}/vol; {BUSYBOX} chown 0:0 {WORK}/vol; echo old > {WORK}/vol/old")
    secret = {"target": "/run/secrets/key", "data": base64.b64encode(b"S3cret").decode(), "mode": 0o400, "uid": 33,
              "gid": 33}
    config = {"target": "/etc/site/page", "data": base64.b64encode(b"page\n").decode(), "mode": 0o444, "uid": 0, "gid": 0}
    mounts = [{"source": f"{WORK}/vol", "target": "/data", "readOnly": False},
              {"source": f"{WORK}/vol", "target": "/ro", "readOnly": True}]
    contd.sh("root", "id -u; cat /data/old /etc/site/page; stat -c '%u %a' /run/secrets/key; echo new > /data/new; "
             "touch /ro/x 2>/dev/null || echo ro; chmod 777 /run/secrets/key 2>/dev/null || echo locked; "
             "touch /root-file 2>/dev/null || echo readonly; touch /scratch/a && echo scratch",
             mounts=mounts, files=[secret, config], readOnly=True, tmpfs=[{"target": "/scratch", "size": 1 << 20}])
    got, lines = contd.end("root")
    assert lines == ["0", "old", "page", "33 400", "ro", "locked", "readonly", "scratch"], (got, lines)
    assert contd.agent.sh(f"{BUSYBOX} stat -c %u:%g {WORK}/vol/new").out.strip() == "0:0"
    contd.sh("web", "id; echo $HOME; cat /run/secrets/key; echo; echo out > /dev/stdout; cat /etc/hostname; "
             "grep db /etc/hosts; cat /etc/resolv.conf", files=[secret], user="web", hosts={"db": "10.9.8.7"})
    assert contd.end("web")[1] == ["uid=33(web) gid=33(web) groups=33(web),44(extra)", "/var/web", "S3cret", "out",
                                   "web", "10.9.8.7\tdb", "nameserver 192.0.2.53", "options ndots:0"]


def test_nobody_else_reads_what_a_container_was_given(contd):
    contd.run("given", "sleep", "1000")
    folder = "/run/croft/containers/12-1-given"
    modes = contd.agent.sh(f"{BUSYBOX} stat -f -c %T {folder}; {BUSYBOX} stat -c '%a %u' {folder}/*.json").out.split("\n")
    # instance, start, state and config
    assert modes == ["tmpfs", "600 0", "600 0", "600 0", "600 0", ""]


# ---- limits


def test_limits_are_those_of_the_cgroup(contd):
    contd.run("limit", "sleep", "1000", resources={"milliCores": 250, "memory": 64 << 20, "pids": 20})
    folder = "/sys/fs/cgroup/croft/12/12-1-limit"
    read = lambda name: contd.agent.text(f"{folder}/{name}").strip()  # noqa: E731
    assert read("cpu.max") == "25000 100000"
    assert read("memory.max") == str(64 << 20)
    assert read("pids.max") == "20"
    if contd.agent.exists(f"{folder}/memory.swap.max"):
        assert read("memory.swap.max") == "0"
    contd.sh("forks", "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo never", resources={"pids": 10})
    got, lines = contd.end("forks")
    assert got["exitStatus"] != 0 and "never" not in lines


def test_out_of_memory_is_said(contd):
    contd.sh("hog", "x=x; while :; do x=$x$x; done", resources={"memory": 32 << 20})
    got, _ = contd.end("hog")
    assert (got["reason"], got["exitStatus"], got["state"]) == ("container.oom-killed", 137, "failed")
    assert "32 MiB" in got["message"]


# ---- life and death


@pytest.mark.parametrize("command,code", [("nothing", "container.not-found"), ("/bin/data", "container.not-executable"),
                                          ("/etc/passwd", "container.not-executable"),
                                          ("/etc", "container.not-executable")])
def test_what_cannot_run_is_refused_in_words(contd, command, code):
    assert contd.failure("bad", command) == code


def test_bad_specifications_are_refused(contd):
    assert contd.failure("bad", "true", nonsense=1) == "container.bad-spec"
    assert contd.failure("bad", "true", user="stranger") == "container.bad-user"
    assert contd.failure("bad", "true", resources={"memory": 1}) == "container.bad-spec"


def test_exit_status_restarts_and_back_off(contd):
    contd.sh("again", "echo run; exit 3", restart={"policy": "on-failure", "maxRetries": 3})
    got = contd.wait("again", lambda c: c["state"] == "failed")
    lines = contd.call("GetLog", **contd.key("again"), tail=-1, since=0, follow=False)["lines"]
    assert (got["restarts"], got["exitStatus"], got["reason"]) == (3, 3, "container.exited")
    times = [line["time"] / 1e6 for line in lines if line["line"] == "run"]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert len(gaps) == 3 and all(gap > least for gap, least in zip(gaps, (0.1, 0.2, 0.4)))
    contd.sh("signal", "kill -SEGV $$; sleep 1; (sh -c 'kill -SEGV $$'); exit $?")
    assert contd.end("signal")[0]["exitStatus"] == 139
    contd.run("done", "true")
    got, _ = contd.end("done")
    assert got["done"] and got["state"] == "exited" and got["reason"] == ""


def test_stop_signal_grace_and_start_again(contd):
    polite = ("sh", "-c", "trap 'echo asked; exit 0' USR1; echo up; while :; do sleep 0.1; done")
    contd.run("polite", *polite, stopSignal="SIGUSR1", stopGracePeriod=60000)
    contd.wait("polite", lambda c: contd.log("polite") == ["up"])
    contd.stop("polite")
    got = contd.get("polite")
    assert (got["state"], got["exitStatus"], contd.log("polite")) == ("exited", 0, ["up", "asked"])
    assert contd.start("polite", *polite, stopSignal="SIGUSR1", stopGracePeriod=60000) > 1
    contd.sh("deaf", "trap '' TERM; while :; do sleep 0.1; done", stopGracePeriod=1000)
    begin = time.monotonic()
    contd.stop("deaf")
    assert time.monotonic() - begin > 0.9
    assert contd.get("deaf")["exitStatus"] == 137


def test_removals_that_nobody_waits_for(contd):
    """They run side by side, whatever grace each has; asked again they change nothing, but for a shorter grace, which holds at once."""
    deaf = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
    names = ["deaf0", "deaf1"]
    for name in names:
        contd.run(name, *deaf, stopGracePeriod=3600000)
        contd.wait(name, lambda c, name=name: contd.log(name) == ["up"])
    for _ in range(2):
        for name in names:
            contd.call("Remove", **contd.key(name), keepLog=False, wait=False)
    assert [contd.get(name)["state"] for name in names] == ["stopping"] * 2
    assert contd.agent.kill("contd") >= 1  # its successor knows that they are to go
    for name in names:
        contd.wait(name, lambda c: c["state"] == "stopping")
    contd.call("Remove", **contd.key("deaf0"), keepLog=False, grace=0)
    assert contd.get("deaf0") is None and contd.get("deaf1")["state"] == "stopping"
    contd.call("Remove", **contd.key("deaf1"), keepLog=False, wait=False, grace=60000)
    contd.call("Remove", **contd.key("deaf1"), keepLog=False, grace=500)
    assert contd.get("deaf1") is None
    with pytest.raises(lab_agent.Varlink) as e:
        contd.call("Remove", **contd.key("deaf1"), keepLog=False, grace=3600001)
    assert e.value.parameters["code"] == "container.bad-call"


def test_health(contd):
    contd.sh("well", "sleep 2; touch /tmp/well; sleep 1000",
             healthcheck={"test": ["CMD-SHELL", "test -e /tmp/well || { echo not yet; exit 1; }"], "interval": 1000,
                          "retries": 2, "startPeriod": 60000})
    assert contd.get("well")["health"] == "starting"
    contd.wait("well", lambda c: c["health"] == "healthy")
    contd.agent.sh(f"{BUSYBOX} rm {WORK}/rootfs/tmp/well")
    got = contd.wait("well", lambda c: c["health"] == "unhealthy")
    assert got["state"] == "running" and "not yet" in got["message"]


def test_a_health_check_that_hangs_is_killed(contd):
    contd.run("hang", "sleep", "1000", image={"Healthcheck": {"Test": ["CMD", "sleep", "77"], "Interval": 1000000000,
                                                               "Timeout": 1000000000, "Retries": 2}})
    contd.wait("hang", lambda c: c["health"] == "unhealthy", 90)
    for _ in range(10):
        procs = contd.agent.sh(f"{BUSYBOX} grep -l 77 /proc/[0-9]*/cmdline 2>/dev/null | {BUSYBOX} xargs -r -n1 "
                               f"{BUSYBOX} cat 2>/dev/null | {BUSYBOX} tr '\\0' ' ' | {BUSYBOX} grep -c '^sleep 77'",
                               check=False).out.strip()
        assert int(procs or 0) <= 1, "checks pile up"
        time.sleep(0.3)


def test_logs_are_rotated_and_whole(contd):
    contd.sh("talk", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf '\\377\\0bin\\n'; echo err >&2; printf end")
    _, lines = contd.end("talk")
    assert "".join(line for line in lines if set(line) == {"x"}) == "x" * 40000
    assert max(map(len, lines)) <= 16384
    assert "\ufffd\0bin" in lines and "err" in lines and lines[-1] == "end"
    assert contd.log("talk", tail=1) == ["end"]
    contd.sh("flood", "seq 1 40000 | sed 's/$/ " + "x" * 500 + "/'", resources={"milliCores": 2000})
    contd.end("flood", 180)
    size = int(contd.agent.sh(f"{BUSYBOX} du -sk /var/croft/logs/12-1-flood").out.split()[0])
    assert size <= 17 * 1024
    assert [line.split()[0] for line in contd.log("flood", tail=3)] == ["39998", "39999", "40000"]
    contd.remove("talk", keep=True)
    assert contd.log("talk")[-1] == "end"
    contd.remove("talk")
    with pytest.raises(lab_agent.Varlink):
        contd.log("talk")


# ---- what outlives contd


def test_no_line_is_lost_while_contd_dies(contd):
    """Numbered lines, then status 7; contd is killed again and again, and is away at the end."""
    contd.run("stay", "sleep", "1000", healthcheck={"test": ["CMD", "true"], "interval": 2000})
    stay = contd.wait("stay", lambda c: c["health"] == "healthy")
    contd.sh("count", "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); [ $((i%300)) = 0 ] && sleep 0.5; done; exit 7")
    for _ in range(4):
        assert contd.agent.kill("contd") >= 1
        time.sleep(1.2)
    got = contd.wait("count", lambda c: c["state"] == "failed", 120)
    assert got["exitStatus"] == 7
    assert contd.log("count") == [str(i) for i in range(3000)]
    now = contd.wait("stay", lambda c: c["health"] == "healthy")
    assert (now["pid"], now["restarts"]) == (stay["pid"], 0)


def test_a_killed_shim_is_noticed(contd):
    contd.run("orphan", "sleep", "1000", restart={"policy": "always"})
    pid = contd.get("orphan")["pid"]
    shim = contd.agent.text("/run/croft/containers/12-1-orphan/shim.pid").strip()
    contd.agent.sh(f"{BUSYBOX} kill -9 {shim}")
    got = contd.wait("orphan", lambda c: c["restarts"] == 1 and c["state"] == "running")
    assert got["pid"] != pid and got["reason"] == "container.shim-lost"


def test_half_made_things_are_removed_at_the_next_start(contd):
    contd.prepare("whole")
    contd.agent.sh(f"""set -e; B={BUSYBOX}; D=/run/croft/containers/12-1-half
        $B mkdir -p $D /sys/fs/cgroup/croft/77/77-1-stray; $B touch $D/netns; $B mount --bind /proc/self/ns/net $D/netns""")
    contd.agent.kill("contd")
    contd.wait("whole", lambda c: c["state"] == "prepared")
    assert not contd.agent.exists("/run/croft/containers/12-1-half")
    assert not contd.agent.exists("/sys/fs/cgroup/croft/77")


def test_removed_memory_cgroups_do_not_pile_up(contd):
    """The kernel keeps one until the last page that is charged to it is gone, and blocks of btrfs's trees go by reclaim only."""
    def dying():
        return int(dict(line.split() for line in contd.agent.text("/sys/fs/cgroup/croft/cgroup.stat").splitlines())["nr_dying_subsys_memory"])

    contd.agent.sh(f"""set -e; B={BUSYBOX}; mkdir -p {WORK}/many
        for c in $($B seq 60); do
            G=/sys/fs/cgroup/croft/gone$c; mkdir $G {WORK}/many/$c
            $B sh -c 'echo 0 >'$G'/cgroup.procs; for f in $({BUSYBOX} seq 60); do echo {"x" * 900} >{WORK}/many/'$c'/$f; done'
            $B rmdir $G
        done; sync""", timeout=120)
    mark = dying()
    for _ in range(3):
        contd.agent.sh("sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1", timeout=60)
    left = dying()
    assert left > 16, f"{mark}, and {left} once caches were dropped: the test has nothing to show"
    assert contd.agent.sh(f"cat {WORK}/many/60/60").out == "x" * 900 + "\n"
    lab_node.wait_for(lambda: dying() <= 16, 300, lambda: f"{left} stayed, and {dying()} still do")
    contd.agent.sh(f"rm -r {WORK}/many")


def test_the_same_call_twice_and_another_one(contd):
    pid = contd.run("twice", "sleep", "1000")
    assert contd.start("twice", "sleep", "1000") == pid
    with pytest.raises(lab_agent.Varlink, match="container.conflict"):
        contd.start("twice", "sleep", "1001")
    with pytest.raises(lab_agent.Varlink, match="container.conflict"):
        contd.call("Prepare", **contd.key("other"), uidBase=BASE + 65536, uidCount=65536)
    contd.remove("twice")
    contd.remove("twice")

