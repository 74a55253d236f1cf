"""What a container sees and may do, and what outlives the daemon that started it."""
import re
import time

import pytest

from lab import paths

SECONDS = 150  # about, for the order in which files start
BOUNDS = True  # what is claimed of a node in seconds is held to: no third machine beside it

# Docker's default capabilities: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
# net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
DOCKER_CAPS = 0x00000000a80425fb


def log(node, it, service):
    lines = node.agent.varlink("contd", "GetLog", reservation=it.id, revision=1, service=service,
                               tail=-1, since=0, follow=False)["lines"]
    return [line["line"] for line in lines]


def wait_log(node, it, service, check, timeout=30):
    end = time.monotonic() + timeout * paths.SCALE
    while True:
        lines = log(node, it, service)
        if check(lines):
            return lines
        assert time.monotonic() < end, lines
        time.sleep(0.3)


def container(node, it, service):
    return next(c for c in node.agent.varlink("contd", "List")["containers"]
                if c["reservation"] == it.id and c["service"] == service)


LOOK = r"""
echo "caps $(grep CapEff /proc/self/status | cut -f2)"
echo "nnp $(grep NoNewPrivs /proc/self/status | cut -f2)"
echo "seccomp $(grep Seccomp: /proc/self/status | cut -f2)"
echo "uid $(id -u):$(id -g)"
echo "map $(tr -s ' ' < /proc/self/uid_map)"
echo "cmdline $(cat /proc/cmdline 2>&1)"
echo "pid1 $(cat /proc/1/comm)"
echo "host $(cat /proc/sys/kernel/hostname)"
echo "env $COLOUR $PATH"
echo "dir $PWD"
mount -t tmpfs none /mnt 2>/dev/null && echo "mounted" || echo "mount refused"
echo 1 > /proc/sys/kernel/sysrq 2>/dev/null && echo "sysrq written" || echo "sysrq refused"
echo "kcore $(head -c 4 /proc/kcore 2>/dev/null | wc -c)"
echo "dev $(ls /dev | tr '\n' ' ')"
echo end
exec sleep 100000
"""


def test_a_container_is_as_docker_would_make_it(node):
    service = {"image": "busybox", "command": ["sh", "-c", LOOK.replace("$", "$$")],
               "environment": {"COLOUR": "green"}, "working_dir": "/tmp"}
    with node.deployed({"look": service}, name="look") as it:
        lines = wait_log(node, it, "look", lambda lines: "end" in lines)
        seen = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if " " in line}
        assert int(seen["caps"], 16) == DOCKER_CAPS
        assert seen["seccomp"] == "2" and seen["uid"] == "0:0"
        inside, outside, count = map(int, seen["map"].split())
        assert (inside, count) == (0, 65536) and outside >= 0x20000000
        assert "croft" not in seen["cmdline"]
        assert seen["env"] == "green /bin" and seen["dir"] == "/tmp"
        assert "mount refused" in lines and "sysrq refused" in lines
        assert seen["kcore"] == "0"
        assert not {"vda", "mem", "kmsg", "vport0p1"} & set(seen["dev"].split())
        # Nobody but root reads what was given to the container.
        modes = node.agent.sh("find /run/croft/containers -name config.json -exec stat -c %a {} +").out
        assert set(modes.split()) == {"600"}
        kind = node.agent.sh("stat -f -c %T /run/croft/containers").out.strip()
        assert kind == "tmpfs"


def test_user_and_dropped_capabilities(node):
    service = {"image": "busybox", "user": "1000:2000", "cap_drop": ["ALL"], "read_only": True,
               "tmpfs": ["/scratch"],
               "command": ["sh", "-c", "id -u; id -g; grep CapEff /proc/self/status | cut -f2; "
                           "touch /x 2>&1; touch /scratch/x && echo scratch; sleep 100000"]}
    with node.deployed({"user": service}, name="user") as it:
        lines = wait_log(node, it, "user", lambda lines: len(lines) >= 4)
        assert lines[:2] == ["1000", "2000"] and int(lines[2], 16) == 0
        assert "Read-only" in lines[3]


def test_a_container_over_its_memory_is_reported_as_such(node):
    hog = {"image": "busybox", "restart": "no",
           "command": ["sh", "-c", "sleep 3; x=x; while :; do x=$$x$$x; done"],
           "deploy": {"resources": {"limits": {"memory": "32M"}}}}
    with node.deployed({"hog": hog}, name="hog") as it:
        end = time.monotonic() + 90 * paths.SCALE
        while container(node, it, "hog")["reason"] != "container.oom-killed":
            assert time.monotonic() < end, container(node, it, "hog")
            time.sleep(0.5)


def test_the_stop_signal_and_the_grace_period(node):
    """One obeys its own signal and says so, the other is deaf and is killed after its grace period."""
    polite = {"image": "busybox", "stop_signal": "SIGUSR1", "stop_grace_period": "30s",
              "volumes": ["note:/note"],
              "command": ["sh", "-c", "trap 'echo usr1 > /note/x; sync; exit 0' USR1; "
                          "while :; do sleep 0.2; done"]}
    deaf = {"image": "busybox", "stop_grace_period": "2s",
            "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"]}
    it = node.deploy({"polite": polite, "deaf": deaf}, name="signals", volumes={"note": {}})
    start = time.monotonic()
    it.cancel()
    assert time.monotonic() - start < 25 * paths.SCALE
    read = {"image": "busybox", "volumes": ["note:/note"],
            "command": ["sh", "-c", "cat /note/x; sleep 100000"]}
    with node.deployed({"polite": read}, name="signals", volumes={"note": {}}) as it:
        assert wait_log(node, it, "polite", lambda lines: lines) == ["usr1"]


@pytest.mark.parametrize("daemon", ["netd", "storaged", "imaged", "contd", "provd", "noded"])
def test_a_workload_outlives_every_daemon(node, daemon):
    service = {"image": "busybox", "command": ["sleep", "100000"]}
    with node.deployed({"stay": service}, name=f"outlive-{daemon}") as it:
        before = container(node, it, "stay")
        mark = node.machine.mark()
        assert node.agent.kill(daemon) >= 1
        node.machine.wait("service", 30, mark, name=daemon)
        end = time.monotonic() + 60 * paths.SCALE
        while True:
            try:
                after = container(node, it, "stay")
                if node.status()["state"] == "running":
                    break
            except Exception as e:  # the daemon is on its way back
                last = e
                assert time.monotonic() < end, last
            time.sleep(0.3)
        assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])
        assert it.show()["state"].lower() == "active"
