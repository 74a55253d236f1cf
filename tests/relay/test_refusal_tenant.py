"""What a farm does not take from a tenant: `croft` says it under the contract's code with status 3, nothing is on the chain, and the
node never hears of it."""
import json

import pytest

import scene
from world import varlink, wait

SECONDS = 65  # about, for the order in which files start

FINE = {"services": {"web": {"image": scene.IMAGE, "command": ["true"],
                             "deploy": {"resources": {"limits": {"cpus": "0.01", "memory": "16M"}}}}}}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with scene.Scene(tmp_path_factory.mktemp("tenant")) as made:
        (made.world.folder / "croft.lock").write_text(json.dumps({scene.IMAGE: {"id": scene.IMAGE, "hubs": ["http://127.0.0.1:9"]}}))
        yield made


def deploy(node, name, account=2):
    (node.world.folder / "compose.yml").write_text(json.dumps({"name": name, **FINE}))
    return node.cli(account, node.world.folder).run("deploy", "compose.yml", "--node", node.number, "--no-wait", "--json",
                                                    "--blobs", node.hub.folder, "--hub", f"http://127.0.0.1:{node.hub.port}",
                                                    check=False)


def made(node):
    return node.cli(2).json("status")["reservationsMade"]


def policy(node, *options):
    node.cli(0).run("farm", "policy", 1, *options)


def refused(node, done, code):
    assert done.status == 3, done
    error = json.loads(done.err.splitlines()[-1])["error"]
    assert error["code"] == code and " " in error["message"] and error["hint"], error
    assert not done.out, done


def test_a_tenant_that_is_not_listed(node):
    before = made(node)
    policy(node, "--tenants", node.world.accounts[3])
    try:
        refused(node, deploy(node, "stranger"), "reservation.tenant-not-listed")
        assert made(node) == before and not node.provd.entries()
        # Whoever is on the list may.
        done = deploy(node, "friend", account=3)
        assert done.status == 0, done
        number = json.loads(done.out)["reservation"]
        node.provd.step(number, "pull")
        # And is off it from now on: what he has goes on, a change of it is refused.
        policy(node, "--tenants", node.world.accounts[2])
        assert node.provd.entries()[number]["step"] == "pull"
        node.cancel(number, account=3)
        wait("the end", lambda: not node.provd.entries())
    finally:
        policy(node, "--tenants", "any")


def test_too_many_open_reservations(node):
    policy(node, "--tenants", "any", "--max-open", 1)
    try:
        done = deploy(node, "first")
        assert done.status == 0, done
        number = json.loads(done.out)["reservation"]
        before = made(node)
        refused(node, deploy(node, "second"), "reservation.open-limit")
        assert made(node) == before
        node.cancel(number)
        done = deploy(node, "third")
        assert done.status == 0, done
        node.cancel(json.loads(done.out)["reservation"])
    finally:
        policy(node, "--tenants", "any")


def test_too_many_changes_a_day(node):
    policy(node, "--tenants", "any", "--max-changes", 1)
    try:
        numbers = []
        done = deploy(node, "today")
        while done.status == 0 and len(numbers) < 5:
            numbers.append(json.loads(done.out)["reservation"])
            done = deploy(node, f"today-{len(numbers)}")
        before = made(node)
        refused(node, done, "reservation.change-limit")
        assert made(node) == before and len(numbers) <= 1
        # To end what one has is no change that is counted.
        for number in numbers:
            node.cancel(number)
        policy(node, "--tenants", "any", "--max-changes", 100)
        done = deploy(node, "more")
        assert done.status == 0, done
        node.cancel(json.loads(done.out)["reservation"])
    finally:
        policy(node, "--tenants", "any")


def test_one_update_at_a_time(node):
    """An update waits for a running revision, and a second one for the end of the first."""
    done = deploy(node, "twice")
    assert done.status == 0, done
    number = json.loads(done.out)["reservation"]
    refused(node, deploy(node, "twice"), "reservation.not-active")
    for state in (4, 5):
        varlink(node.noded.socket, "org.croft.node.Submit", reservation=number, revision=1, state=state, reason="")
    wait("Active", lambda: node.changes(number)[-1][0] == "active")
    done = deploy(node, "twice")
    assert done.status == 0 and json.loads(done.out)["reservation"] == number, done
    changes = node.changes(number)
    refused(node, deploy(node, "twice"), "reservation.has-candidate")
    assert node.changes(number) == changes
    node.cancel(number)
    wait("the end", lambda: not node.provd.entries())


def test_a_tenants_clock_that_is_wrong(node):
    """By the chain's time his proposal is over before it is made. The chain's clock is moved, which is the same from here."""
    before = made(node)
    node.world.rpc("evm_increaseTime", hex(86400))
    node.world.rpc("evm_mine")
    done = deploy(node, "too-late")
    refused(node, done, "reservation.bad-time")
    assert "clock" in done.err and made(node) == before


def test_a_node_that_is_retired_takes_nothing(node):
    wait("the end of all", lambda: not node.provd.entries())
    before = made(node)
    node.cli(0).run("node", "retire", node.number)
    refused(node, deploy(node, "late"), "node.not-active")
    assert made(node) == before
    status = wait("retired", lambda: node.provd.status()["state"] == "stopped" and node.provd.status(), 90)
    assert status["state"] == "stopped" and not node.provd.entries()
