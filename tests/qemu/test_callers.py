"""Who may call which method of which daemon: what docs/services.md says, tried by every user of the node."""
import re

import pytest

from lab import agent as lab_agent, machine, paths, tenants

SECONDS = 10  # about, for the order in which files start

STRANGERS = {"nobody": 65534, "container": tenants.BASE, "container's user": tenants.BASE + 1000}


def users():
    """name -> number, of the image."""
    lines = (paths.ROOT / "initramfs/etc/passwd").read_text().splitlines()
    return {line.split(":")[0]: int(line.split(":")[2]) for line in lines}


def table():
    """(program, method) -> the callers that the page names."""
    text = (paths.ROOT / "docs/services.md").read_text().split("## Who may call which method")[1].split("\n## ")[0]
    found = {}
    for line in text.splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            assert len(cells) == 3 and len(cells[0]) == 1, line
            for method in cells[1]:
                assert (cells[0][0], method) not in found, line
                found[cells[0][0], method] = set(cells[2])
    return found


@pytest.fixture(scope="module")
def node(session_logs):
    disk = machine.disk_create(session_logs / "callers.img", 16384, "callers")
    with machine.Machine(session_logs / "callers", ["runmode=dev"], disks=[disk], files=tenants.Tenants.files()) as m:
        for name in lab_agent.INTERFACES:
            if name != "core0":
                m.wait_service(name, 180)
        yield m


def methods(node, program):
    """What the program serves, by its own word."""
    name = f"org.croft.{lab_agent.INTERFACES[program]}"
    text = node.agent.varlink(program, "org.varlink.service.GetInterfaceDescription", interface=name)["description"]
    return [f"{name}.{method}" for method in re.findall(r"^method (\w+)", text, re.M)]


def test_the_page_names_every_method(node):
    served = {(program, method.rsplit(".", 1)[1]) for program in lab_agent.INTERFACES for method in methods(node, program)}
    assert served == set(table())
    assert {u for callers in table().values() for u in callers} <= set(users())


@pytest.mark.parametrize("user", [*(u for u in users() if u != "root" and u != "nobody"), *STRANGERS])
def test_exactly_the_callers_of_the_page_are_let_in(node, user):
    number = STRANGERS.get(user) or users()[user]
    page = table()
    wrong = []
    for program in lab_agent.INTERFACES:
        names = methods(node, program)
        attacks = tenants.words([["varlink", f"/run/croft/{program}", name] for name in names])
        found = tenants.verdicts(node.agent.run(tenants.ATTACK, "--uid", number, *attacks, timeout=120).out.splitlines())
        assert len(found) == len(names)
        for name, verdict in zip(names, found):
            callers = page[program, name.rsplit(".", 1)[1]]
            expected = user in callers
            refused = verdict["verdict"] == "refused" and verdict["errno"] in ("EPERM", "EACCES")
            if refused == expected or (not refused and verdict["verdict"] != "succeeded"):
                wrong.append((name, verdict))
    assert not wrong


def test_the_sockets_are_nobodys_to_replace(node):
    """No folder in which daemons meet is written by another than root."""
    listing = node.agent.sh("stat -c '%a %u %n' /run /run/croft /run/croft/* /var/croft /var/croft/state/* /tmp /dev/shm "
                            "/run/croft/pools/*/* 2>/dev/null").out.splitlines()
    numbers = users()
    for line in listing:
        mode, owner, path = line.split(None, 2)
        if path in ("/tmp", "/dev/shm"):
            assert mode == "700"
        elif path.startswith("/var/croft/state/"):
            assert mode == "700" and int(owner) == numbers[path.rsplit("/", 1)[1]] or owner == "0", line
        elif node.agent.sh(f"test -d {path}", check=False).status == 0:
            assert int(mode[-2]) & 2 == 0 and int(mode[-1]) & 2 == 0, line
