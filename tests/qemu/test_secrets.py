"""Secrets are where they belong and nowhere else: those of a tenant (environment, secret file, password of a namespace), of the
node (seed, keys) and of its join token. Every place where something could be left is searched for them, before and after daemons
that hold them were ended by a signal that leaves a core file elsewhere."""
import base64
import json
import secrets
import signal

import pytest

from lab import node as lab_node

SECONDS = 80  # about, for the order in which files start

DAEMONS = ("noded", "provd", "contd", "imaged", "storaged", "netd", "gated")
# Where each kind may lie: folders that only root or their one daemon can open.
TENANTS = ("/run/croft/containers/",)
IDENTITY = ("/identity/",)
TOKEN = ("/run/croft/join.token",)


def forms(secret):
    """A secret as it would stand in a text: as it is, hex, base64."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    return [raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode().rstrip("=")] + \
        ([] if isinstance(secret, bytes) else [secret])


class Planted:
    """What to look for: name -> (patterns, places where it may be)."""

    def __init__(self, node, it, env, file):
        self.node, self.it = node, it
        identity = json.loads(node.agent.sh("cat /run/croft/pools/*/identity/identity.json").out)
        tls = node.agent.varlink("noded", "GetTlsKey")["key"]
        token = next(p for p in node.machine.params if p.startswith("croft.join=")).split("=")[1]
        self.secrets = {
            "environment": (forms(env), TENANTS),
            "file": (forms(file), TENANTS),
            "seed": (forms(bytes.fromhex(identity["seed"])), IDENTITY),
            "TLS key": (forms(bytes.fromhex(tls)), ()),
            "join token": (forms(bytes.fromhex(token.removeprefix("0x"))), TOKEN),
        }

    def look(self, patterns, which):
        """Those files of a list (a shell's words that print it) that hold one of the patterns. Lines end at NUL too: grep
        looks at nothing behind one."""
        words = " ".join(f"-e {p}" for p in patterns)
        return set(self.node.agent.sh(
            f"{which} | while read -r f; do tr '\\000' '\\n' < \"$f\" 2>/dev/null | grep -qF {words} && echo \"$f\"; done",
            timeout=300, check=False).out.split())

    def files(self, patterns):
        """Every file outside of /proc and /sys that holds one of them; objects of images are the hub's, by their digest."""
        return self.look(patterns, "find /run /var /etc /tmp /root /dev/shm -type f -not -path '*/images/objects/*'")

    def processes(self, patterns):
        """Arguments and environments that hold one of them: those of others, and those of the container itself."""
        found = self.look(patterns, "ls /proc/[0-9]*/cmdline /proc/[0-9]*/environ")
        own = self.node.agent.sh(f"cat /sys/fs/cgroup/croft/{self.it.id}/*/cgroup.procs", check=False).out.split()
        its = {f for f in found if f.endswith("/environ") and f.split("/")[2] in own}
        return found - its, its

    def logs(self):
        """All that the node has said, by its logs, its console and its events."""
        text = self.node.machine.console + (self.node.machine.folder / "events.jsonl").read_text()
        services = [s["name"] for s in self.node.agent.varlink("core0", "ListServices")["services"]]
        for name in [*services, "core0", "kernel"]:
            text += "\n".join(e["text"] for e in self.node.agent.varlink("core0", "GetLog", service=name)["lines"])
        return text

    def check(self):
        said = self.logs()
        for name, (patterns, places) in self.secrets.items():
            # A process of the test's own search holds the words for as long as it runs.
            found = {f for f in self.files(patterns) if not any(p in f for p in places)}
            assert not found, (name, found)
            found, _ = self.processes(patterns)
            mine = {f for f in found if self.is_search(f)}
            assert not found - mine, (name, found - mine)
            assert not [p for p in patterns if p in said], name

    def is_search(self, path):
        return not self.node.agent.exists(path)  # it has ended: it was the shell that searched


@pytest.fixture(scope="module")
def planted(node):
    env, file = "env-" + secrets.token_hex(16), "file-" + secrets.token_hex(16)
    folder = node.folder / "secrets"
    folder.mkdir()
    (folder / "key").write_text(file)
    service = {"image": "busybox", "command": ["sh", "-c", "cat /run/secrets/key > /dev/null; exec sleep 100000"],
               "environment": {"PASSWORD": env}, "secrets": ["key"]}
    with node.deployed({"keeper": service}, name="secrets", secrets={"key": {"file": str(folder / "key")}}) as it:
        yield Planted(node, it, env, file)


def test_the_search_finds_what_is_there(planted):
    """Or the others would show nothing."""
    patterns, places = planted.secrets["environment"]
    assert any(f.startswith(places[0]) for f in planted.files(patterns))
    assert planted.processes(patterns)[1], "the container's own environment"
    patterns, places = planted.secrets["seed"]
    assert any(places[0] in f for f in planted.files(patterns))
    planted.node.agent.write("/tmp/control", "core0 said " + patterns[0])
    assert "/tmp/control" in planted.files(patterns)
    planted.node.agent.sh("rm /tmp/control")


def test_secrets_are_where_they_belong(planted):
    planted.check()


def test_what_may_be_read_is_its_owners_alone(planted):
    """The places that were excepted above: nobody but their owner opens them."""
    agent = planted.node.agent
    for path in agent.sh(f"ls -d /run/croft/containers/{planted.it.id}-*/*.json /run/croft/pools/*/identity /run/croft/pools/*/identity/*").out.split():
        mode = int(agent.sh(f"stat -c %a {path}").out, 8)
        assert mode & 0o077 == 0, (path, oct(mode))


def test_a_crash_leaves_no_secret(planted):
    """Each daemon is ended by SIGSEGV and by SIGABRT: no core file, and what is said of it holds nothing of it."""
    agent, node = planted.node.agent, planted.node
    for name in DAEMONS:
        for sig in (signal.SIGSEGV, signal.SIGABRT):
            pid = agent.varlink("core0", "GetService", name=name)["service"]["pid"]
            limits = agent.sh(f"grep 'Max core file size' /proc/{pid}/limits").out.split()
            assert limits[4] == limits[5] == "0", (name, limits)
            # A start that was asked for begins core0's back-off anew.
            mark = node.machine.mark()
            agent.varlink("core0", "RestartService", name=name)
            node.machine.wait_service(name, 60, mark)
            mark = node.machine.mark()
            assert agent.kill(name, sig)
            node.machine.wait_service(name, 60, mark)
    lab_node.wait_for(lambda: any(e["reservation"] == planted.it.id and e["step"] == "running" for e in node.entries()), 60,
                      "the reservation runs on")
    cores = agent.sh("find / -xdev -type f -name 'core*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/usr/*'; "
                     "find /run /var/croft /tmp -type f -name 'core*' 2>/dev/null", check=False).out.split()
    assert not cores, cores
    planted.check()
