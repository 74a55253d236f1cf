"""Every daemon replaced by another build of it while containers run."""
import json
import re
import socket

from lab import paths, traces
from lab.node import wait_for

SECONDS = 100  # about, for the order in which files start

STOP = {"stop_grace_period": "1s"}
DAEMONS = ["netd", "imaged", "noded", "provd", "contd", "storaged"]  # the last one takes most others with it when it starts again
TALK = {
    "echo": {**STOP, "image": "busybox", "command": ["nc", "-lk", "-p", "80", "-e", "cat"]},
    "count": {**STOP, "image": "busybox", "command": ["sh", "-c", "i=0; while :; do echo line $$i; i=$$((i + 1)); sleep 0.1; done"]},
}


class Talk:
    """One connection that is kept."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60 * paths.SCALE)
        self.socket.settimeout(60 * paths.SCALE)
        self.said = 0

    def __call__(self):
        self.said += 1
        word = b"word %d\n" % self.said
        self.socket.sendall(word)
        heard = b""
        while not heard.endswith(b"\n"):
            part = self.socket.recv(4096)
            assert part, "the connection was closed"
            heard += part
        assert heard == word, heard


def follow(node, number, name):
    """Follows the log of `count` from the node itself, into a file."""
    request = json.dumps({"method": "org.croft.container.GetLog", "more": True, "parameters": {
        "reservation": number, "revision": 1, "service": "count", "tail": 0, "since": 0, "follow": True}})
    node.agent.write(f"/run/{name}.ask", request.encode() + b"\0")
    node.agent.sh(f"(cat /run/{name}.ask; sleep 100000) | setsid /croft-test/busybox nc local:/run/croft/contd "
                  f"> /run/{name} 2>/dev/null & echo")


def lines(text):
    return [int(n) for n in re.findall(r"line (\d+)", text)]


def state_of(node, number):
    """What the daemons know of it; the same after each of them was replaced."""
    call = node.agent.varlink
    own = [c for c in call("contd", "List")["containers"] if c["reservation"] == number]
    net = call("netd", "List")
    return {
        "containers": [{k: v for k, v in c.items() if k in ("service", "state", "pid", "restarts", "startedAt")} for c in own],
        "net": {k: [x for x in net[k] if x.get("reservation") == number] for k in ("networks", "attachments", "ports")},
        "mounts": [m for m in call("imaged", "List")["mounts"] if m["reservation"] == number],
        "volumes": sorted(v["key"] for v in call("storaged", "ListVolumes")["volumes"]),
        "identity": call("noded", "GetStatus")["identity"],
        "entry": [(e["chainState"], e["step"]) for e in node.entries() if e["reservation"] == number],
    }


def replace(node, name):
    """Another build of a daemon in place of the one that runs, as docs/services.md says."""
    mark = node.machine.mark()
    before = node.agent.varlink(name, "org.varlink.service.GetInfo")["version"]
    assert before != "newer"
    node.agent.write(f"/usr/lib/croft/.{name}", (paths.BUILD / "newer" / name).read_bytes(), 0o755)
    node.agent.sh(f"mv /usr/lib/croft/.{name} /usr/lib/croft/{name}")
    node.agent.varlink("core0", "RestartService", name=name)
    node.machine.wait_service(name, 120, mark)
    assert node.agent.varlink(name, "org.varlink.service.GetInfo")["version"] == "newer"


def test_each_daemon_is_replaced_while_containers_run(node):
    """No container starts again, no line of a log is lost, and a connection through a published port lives on."""
    port = node.ports[3]
    services = {**TALK, "echo": {**TALK["echo"], "ports": [f"{port}:80"]}}
    with node.deployed(services, name="talk") as it:
        talk = Talk(port)
        talk()
        follow(node, it.id, "follow")
        wait_for(lambda: len(lines(node.agent.text("/run/follow"))) > 5, 60, "nothing is followed")
        before, found = state_of(node, it.id), traces.plain(traces.collect(node.agent))
        for name in DAEMONS:
            seen = len(lines(node.agent.text("/run/follow")))
            replace(node, name)
            talk()
            wait_for(lambda: node.status()["state"] == "running" and state_of(node, it.id) == before, 120,
                     f"after {name} something is not as it was")
            talk()
            if name == "contd":
                # Who followed has lost the connection, and asks again from what he has.
                had = lines(node.agent.text("/run/follow"))
                follow(node, it.id, "again")
                wait_for(lambda: lines(node.agent.text("/run/again")), 60, "nothing is followed")
            elif name != "storaged":
                wait_for(lambda: len(lines(node.agent.text("/run/follow"))) > seen, 60, f"the log stops with {name}")
        wrong = traces.difference(found, traces.plain(traces.collect(node.agent)))
        wrong.pop("processes", None)
        assert not wrong, json.dumps(wrong, indent=1)
        # Every line once, in order, in the log that contd keeps; what was followed is a part of it without a hole.
        whole = [int(n["line"].split()[1]) for n in node.agent.varlink(
            "contd", "GetLog", reservation=it.id, revision=1, service="count", tail=-1, since=0, follow=False)["lines"]]
        assert whole == list(range(len(whole))) and len(whole) > had[-1]
        assert had == list(range(had[0], had[-1] + 1))
        # The new ones do what the old ones did.
        again = node.deploy(services, name="talk")
        assert again.id == it.id and it.show()["revision"] == 2
    node.agent.sh("for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2>/dev/null) in *local:/run/croft/contd*) "
                  "kill ${p#/proc/} ;; esac; done; rm -f /run/follow* /run/again*")
