"""How a node joins a farm, and how it stays out."""
import time

import pytest

from lab import gate as lab_gate, node as lab_node, paths, ports

SECONDS = 45  # about, for the order in which files start


def nodes(grid):
    return grid.farmer.json("node", "list", "--farm", grid.farm)


def test_a_token_makes_the_node_active_with_what_it_has(node):
    shown = node.grid.node(node.number)
    assert shown["state"].lower() == "active" and shown["farm"] == node.grid.farm
    assert shown["capacity"]["milliCores"] == 2000
    assert 1 << 30 < shown["capacity"]["memory"] <= 1536 << 20
    assert shown["imageDigest"].removeprefix("0x") == (paths.IMAGE / "image-digest").read_text().strip()
    assert 32 << 30 < shown["capacity"]["ssd"] + shown["capacity"]["hdd"] <= 64 << 30


def test_the_token_is_nowhere_to_be_read(node):
    """Not on the console, not in a log, not in boot.json, not in another daemon's reach."""
    token = next(p for p in node.machine.params if p.startswith("croft.join=")).split("=")[1]
    assert token not in node.machine.console
    assert token not in node.agent.text("/run/croft/boot.json")
    found = node.agent.sh(f"grep -rl {token} /run /etc /var/croft 2>/dev/null", check=False).out.split()
    assert set(found) <= {"/run/croft/join.token"}, found
    if found:
        assert node.agent.sh("stat -c %a /run/croft/join.token").out.strip() == "600"
    log = (node.machine.folder / "events.jsonl").read_text()
    assert token not in log


def test_approval_by_the_farmer(grid, images, logs):
    """Without a token the node waits, says so, and starts to take reservations once approved. Its
    identity lives in memory, as it has no disk; a farmer sees that."""
    with lab_node.Node(grid, logs / "node", images, token=None) as n:
        n.machine.start()
        n.machine.wait_service("noded", 90)
        end = time.monotonic() + 60 * paths.SCALE
        while True:
            status = n.agent.varlink("noded", "GetStatus")
            if status["state"] == "pending":
                break
            assert time.monotonic() < end, status
            time.sleep(0.3)
        assert status["ephemeral"]
        number = status["node"]
        assert n.grid.node(number)["state"].lower() == "pending"
        mark = n.machine.mark()
        grid.farmer.run("farm", "approve", number)
        n.machine.wait("registered", 60, mark, service="noded")
        assert n.grid.node(number)["state"].lower() == "active"
        assert n.agent.varlink("noded", "GetStatus")["state"] == "active"


@pytest.mark.parametrize("changes,code", [
    ({"croft_join": "11" * 32}, "join.token-unknown"),
    ({"croft_chainid": 4242}, "chain.wrong-id"),
])
def test_a_wrong_token_or_chain_is_said_and_nothing_is_registered(grid, images, logs, changes, code):
    before = len(nodes(grid))
    with lab_node.Node(grid, logs / "node", images, params=changes) as n:
        n.machine.start()
        n.machine.wait_console(code, 120)
        assert not n.machine.find("registered")
        assert len(nodes(grid)) == before


def test_a_duplicate_farm_name_is_refused(grid):
    done = grid.farmer.run("farm", "create", "LAB", check=False)
    assert done.status == 3 and "farm-exists" in done.out + done.err


def test_an_identity_outlives_the_boot(node):
    """The same node number after a power cycle, and a boot id on the chain that is the new one."""
    number, boot = node.number, node.agent.boot_id()
    mark = node.reboot()
    event = node.machine.wait("registered", 120, mark, service="noded")
    assert event["node"] == number and node.agent.boot_id() != boot


def test_a_trust_that_is_not_built_registers_and_runs_nothing(grid, images, logs):
    with lab_node.Node(grid, logs / "node", images, params={"croft_trust": "quorum:2"}) as n:
        n.start()
        assert n.grid.node(n.number)["state"].lower() == "active"
        end = time.monotonic() + 30 * paths.SCALE
        while n.status()["state"] != "refused":
            assert time.monotonic() < end, n.status()
            time.sleep(0.3)
        assert "quorum" in n.status()["detail"]
        n.machine.wait_console("chain.trust-unsupported", 30)
        assert n.entries() == []
        # Nor does it take anybody's word for who its farmer is, and says so to whoever calls.
        port = ports.free()
        n.machine.forward(port, lab_gate.PORT)
        n.machine.wait("listening", 60, service="gated")
        for account in (1, 4):  # the farmer, and somebody
            with pytest.raises(lab_gate.GateError) as refused:
                lab_gate.Gate(port, lab_gate.read_key(grid.keys[account])).node()
            assert refused.value.code == "gate.farmer-unknown" and "chain.trust-unsupported" in refused.value.message


def test_plain_http_to_the_chain_is_for_development_only(grid, images, logs):
    before = len(nodes(grid))
    with lab_node.Node(grid, logs / "node", images, params={"runmode": "test"}) as n:
        n.machine.start()
        n.machine.wait("boot", 90, step="ready")
        n.machine.wait_console("boot.plain-http", 60)
        time.sleep(3 * paths.SCALE)
        assert not n.machine.find("registered") and len(nodes(grid)) == before
