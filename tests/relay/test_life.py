"""The life of a reservation on the chain, with a real noded that reports what the test says a workload does: money, time, late
reports, a retired node. Where the workload itself matters the tests are in tests/qemu/test_life.py."""
import json

import pytest
from lab import cli, proxy

from test_noded import Noded
from world import CHAIN_ID, varlink, wait

DAY = 86400
KEYS = {  # anvil's well-known ones; the first two are farmer and relay
    "farmer": "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "biller": "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "stranger": "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "tenant": "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
}
COMPOSE = {"name": "shop", "services": {"web": {"image": "ab" * 32, "command": ["true"], "volumes": ["data:/data"]}},
           "volumes": {"data": {"driver_opts": {"size": "1G"}}}, "x-croft": {"keep": "1h"}}
DISK = (1 << 30) + (128 << 20)  # the volume and the writable layer of the service


class Life:
    """Everybody, and a node whose results the test gives."""

    def __init__(self, world, tmp_path):
        self.world = world
        self.people = {}
        for name, key in KEYS.items():
            file = tmp_path / f"{name}.key"
            file.touch(mode=0o600)
            file.write_text(key + "\n")
            self.people[name] = cli.Cli({
                "CROFT_CHAIN": world.url, "CROFT_CHAINID": CHAIN_ID, "CROFT_REGISTRY": world.registry,
                "XDG_CONFIG_HOME": tmp_path / name, "XDG_STATE_HOME": tmp_path / name, "CROFT_KEY_FILE": file}, tmp_path)
        (tmp_path / "compose.yml").write_text(json.dumps(COMPOSE))
        self.addresses = {name: world.address_of(bytes.fromhex(key)).lower() for name, key in KEYS.items()}
        self.person("farmer").run("farm", "policy", 1, "--tenants", "any")
        world.start_relay()
        self.noded = Noded(world).give_token().start()
        self.noded.state_is("active")
        self.settled()

    def person(self, name):
        return self.people[name]

    def settled(self):
        wait("an empty queue", lambda: self.noded.status()["pending"] == 0)

    def deploy(self):
        """Proposed, and what the contract makes of it at once."""
        return self.person("tenant").json("deploy", "compose.yml", "--node", 1, "--no-wait")["reservation"]

    def says(self, number, state, reason="", revision=1, **more):
        """The node's result, on the chain."""
        answer = varlink(self.noded.socket, "org.croft.node.Submit", reservation=number, revision=revision, state=state,
                         reason=reason, **more)
        assert "error" not in answer, answer
        self.settled()
        return answer["parameters"]["nonce"]

    def active(self):
        number = self.deploy()
        self.says(number, 4)
        self.says(number, 5)
        assert self.state(number) == "Active"
        return number

    def show(self, number):
        return self.person("stranger").json("reservation", "show", number)

    def state(self, number):
        return self.show(number)["state"]

    def steps(self, number):
        return [t["state"] for t in self.show(number)["transitions"]]

    def used(self):
        return self.person("stranger").json("node", "show", 1)["used"]

    def refused(self, who, code, *arguments):
        done = self.person(who).run("reservation", *arguments, "--json", check=False)
        assert done.status == 3, done
        error = json.loads(done.err.splitlines()[-1])["error"]
        assert error["code"] == code and error["hint"], error

    def refusals(self):
        """Results that used their nonce without effect: (reservation, state, reason)."""
        found = self.world.events("ResultRefused(uint64,uint64,uint32,uint8,uint64,bytes32)")
        return [(int(log["topics"][2], 16), int(log["data"][66:130], 16),
                 bytes.fromhex(log["data"][194:258]).rstrip(b"\0").decode()) for log in found]

    def later(self, seconds):
        self.world.rpc("evm_increaseTime", hex(seconds))
        self.world.rpc("anvil_mine", "0x1")


@pytest.fixture
def life(world, tmp_path):
    return Life(world, tmp_path)


def test_a_biller_moves_it_and_nobody_else(life):
    shown = life.person("farmer").json("farm", "biller", 1, life.addresses["biller"])
    assert shown["biller"].lower() == life.addresses["biller"]
    assert life.person("stranger").json("farm", "show", 1)["biller"] == shown["biller"]
    done = life.person("stranger").run("farm", "biller", 1, life.addresses["stranger"], "--json", check=False)
    assert done.status == 3 and "chain.not-farmer" in done.err, done

    number = life.deploy()
    assert life.state(number) == "Approved"
    life.says(number, 4)  # not paid: the node's word has no effect
    assert life.refusals() == [(number, 4, "reservation.wrong-state")] and life.state(number) == "Approved"
    for who in ("stranger", "tenant", "farmer"):
        life.refused(who, "chain.not-biller", "fund", number)
    assert life.person("biller").json("reservation", "fund", number)["state"] == "Funded"
    # What noded said in vain it does not say again by itself; provd asks only once it is funded.
    life.noded.kill()
    (life.noded.state / "queue.json").unlink()
    life.noded.start()
    life.noded.state_is("active")
    life.says(number, 4)
    life.says(number, 5)

    life.refused("biller", "reservation.wrong-state", "suspend", number)  # Grace comes first
    assert life.person("biller").json("reservation", "grace", number, "--reason", "billing.card-expired")["state"] == "Grace"
    for who in ("stranger", "tenant", "farmer"):
        life.refused(who, "chain.not-biller", "suspend", number)
    assert life.person("biller").json("reservation", "fund", number)["state"] == "Active"
    life.person("biller").run("reservation", "grace", number)
    suspended = life.person("biller").json("reservation", "suspend", number)
    assert suspended["state"] == "Suspended" and suspended["payBy"] == suspended["deployBy"]
    assert life.used()["ssd"] == DISK and life.used()["milliCores"] == 500, life.used()  # all of it stays reserved
    life.says(number, 5)  # a late word of the node: said before, so nothing is signed
    life.says(number, 11, "container.exited")
    assert life.refusals()[-1] == (number, 11, "reservation.wrong-state") and life.state(number) == "Suspended"

    # Paid again: the same results once more, as another round.
    before = life.says(number, 5)
    assert life.person("biller").json("reservation", "fund", number)["state"] == "Funded"
    assert life.says(number, 4, round=1) > before
    assert life.says(number, 5, round=1) == life.says(number, 5, round=1)
    shown = life.show(number)
    assert life.steps(number) == ["Proposed", "Approved", "Funded", "Deploying", "Active", "Grace", "Active", "Grace",
                                  "Suspended", "Funded", "Deploying", "Active"]
    node = life.noded.status()["identity"].lower()
    actors = [t["actor"].lower() for t in shown["transitions"]]
    tenant, biller = life.addresses["tenant"], life.addresses["biller"]
    assert actors == [tenant, tenant, biller, node, node, *[biller] * 5, node, node]
    assert [t["reason"] for t in shown["transitions"]][5:10] == [
        "billing.card-expired", "billing.paid", "billing.unpaid", "billing.unpaid", "billing.paid"]
    assert all(t["time"] > 0 for t in shown["transitions"])


def test_what_is_shown_is_of_one_moment(life):
    """An update takes over between two questions of `croft reservation show` and of `list`: what they show is what was before it."""
    number = life.active()
    for kind, revision in (("show", 2), ("list", 3)):
        assert life.deploy() == number
        life.says(number, 4, revision=revision)
        with proxy.Proxy(int(life.world.url.rsplit(":", 1)[1].strip("/"))) as between:
            def takes_over(result, params, revision=revision):
                if params[0]["to"].lower() != life.world.registry.lower() and not done:
                    done.append(life.says(number, 5, revision=revision))
                return result
            done, between.lies["eth_call"] = [], takes_over
            words = ("show", number) if kind == "show" else ("list", "--all")
            person = cli.Cli({**life.person("stranger").env, "CROFT_CHAIN": f"http://127.0.0.1:{between.port}"})
            shown = person.json("reservation", *words)
        assert done
        shown = shown if kind == "show" else next(r for r in shown if r["reservation"] == number)
        assert (shown["state"], shown["revision"]) == ("Active", revision - 1), shown
        if kind == "show":
            assert [t["state"] for t in shown["transitions"]].count("Active") == 1 and shown["reason"] == "", shown
        now = life.show(number)
        assert (now["state"], now["revision"]) == ("Active", revision) and "Closed" in life.steps(number)


def test_an_endpoint_of_several_machines_may_be_behind(life):
    """The block that was named is not there yet, three times: it is asked for again. Never there: that is told."""
    number = life.deploy()
    with proxy.Proxy(int(life.world.url.rsplit(":", 1)[1].strip("/"))) as between:
        def behind(message):
            if message["method"] == "eth_call" and message["params"][1] != "latest" and len(asked) < times:
                asked.append(message["params"][1])
                return json.dumps({"jsonrpc": "2.0", "id": message["id"],
                                   "error": {"code": -32000, "message": "header not found"}}).encode()
            between.raw = None
            try:
                return between._forward(json.dumps(message).encode())
            finally:
                between.raw = behind
        person = cli.Cli({**life.person("stranger").env, "CROFT_CHAIN": f"http://127.0.0.1:{between.port}"})
        asked, times, between.raw = [], 3, behind
        assert person.json("reservation", "show", number)["state"] == "Funded" and len(asked) == 3
        asked, times = [], 1000
        done = person.run("reservation", "show", number, "--json", check=False)
        assert done.status != 0 and "chain.refused" in done.err and "header not found" in done.err, done
        assert len(set(asked)) == 1 and 3 < len(asked) < 100


def test_what_is_suspended_too_long_ends_and_its_disk_too(life):
    life.person("farmer").run("farm", "biller", 1, life.addresses["biller"])
    number = life.deploy()
    life.person("biller").run("reservation", "fund", number)
    life.says(number, 4)
    life.says(number, 5)
    life.person("biller").run("reservation", "grace", number)
    life.later(30 * DAY)  # runs on however long nobody suspends it
    life.refused("stranger", "reservation.wrong-state", "expire", number)
    life.person("biller").run("reservation", "suspend", number)
    life.refused("stranger", "reservation.not-due", "expire", number)
    life.later(7 * DAY + 5)
    life.refused("biller", "reservation.too-late", "fund", number)
    assert life.person("stranger").json("reservation", "expire", number)["state"] == "Closed"
    last = life.show(number)["transitions"][-1]
    assert last["reason"] == "reservation.pay-by" and last["actor"].lower() == life.addresses["stranger"]
    assert life.used()["ssd"] == DISK and life.used()["milliCores"] == 0  # its volumes are kept for their hour
    life.refused("stranger", "reservation.not-due", "release", number)
    life.later(3600 + 5)
    life.person("stranger").run("reservation", "release", number)
    assert life.used()["ssd"] == 0
    life.refused("stranger", "reservation.not-due", "release", number)


def test_paid_again_and_the_node_never_answers(life):
    life.person("farmer").run("farm", "biller", 1, life.addresses["biller"])
    number = life.deploy()
    life.person("biller").run("reservation", "fund", number)
    life.says(number, 4)
    life.says(number, 5)
    life.later(3 * DAY)  # beyond what its tenant had set for the first time
    for verb in ("grace", "suspend", "fund"):
        life.person("biller").run("reservation", verb, number)
    life.refused("stranger", "reservation.not-due", "expire", number)
    life.later(DAY + 5)
    assert life.person("stranger").json("reservation", "expire", number)["state"] == "Expired"
    assert life.used()["ssd"] == DISK and life.used()["milliCores"] == 0  # it ran once: its volume is kept


def test_a_node_that_never_answers(life):
    number = life.deploy()
    assert life.state(number) == "Funded" and life.used()["milliCores"] == 500
    life.refused("stranger", "reservation.not-due", "expire", number)
    life.later(7 * DAY + 5)
    assert life.person("stranger").json("reservation", "expire", number)["state"] == "Expired"
    last = life.show(number)["transitions"][-1]
    assert last["reason"] == "reservation.deploy-by" and last["actor"].lower() == life.addresses["stranger"]
    assert not any(life.used().values()), life.used()  # nothing ran, so nothing is kept
    # It answers after all: each report is used up and changes nothing.
    for state in (4, 5, 11):
        life.says(number, state)
    assert life.refusals() == [(number, state, "reservation.final") for state in (4, 5, 11)]
    assert life.steps(number) == ["Proposed", "Approved", "Funded", "Expired"]
    assert not any(life.used().values()), life.used()


def test_an_approver_who_never_answers(life):
    life.person("farmer").run("farm", "policy", 1, "--tenants", "any", "--approver", life.addresses["biller"])
    number = life.deploy()
    assert life.state(number) == "Proposed"
    life.refused("stranger", "chain.not-approver", "approve", number)
    life.refused("stranger", "reservation.not-due", "expire", number)
    life.later(7 * DAY + 5)
    life.refused("biller", "reservation.too-late", "approve", number)
    assert life.person("stranger").json("reservation", "expire", number)["state"] == "Expired"
    assert life.show(number)["reason"] == "reservation.approve-by" and not any(life.used().values())


@pytest.mark.parametrize("until", ["Proposed", "Approved", "Funded", "Deploying", "Active", "Grace", "Suspended"])
def test_cancelled_in_every_state_and_a_report_that_comes_late(life, until):
    """The late reports are those of a node that has not heard of it yet."""
    if until == "Proposed":
        life.person("farmer").run("farm", "policy", 1, "--tenants", "any", "--approver", life.addresses["biller"])
    if until in ("Approved", "Grace", "Suspended"):
        life.person("farmer").run("farm", "biller", 1, life.addresses["biller"])
    number = life.deploy()
    if until in ("Grace", "Suspended"):
        life.person("biller").run("reservation", "fund", number)
    if until in ("Deploying", "Active", "Grace", "Suspended"):
        life.says(number, 4)
    if until in ("Active", "Grace", "Suspended"):
        life.says(number, 5)
    if until in ("Grace", "Suspended"):
        life.person("biller").run("reservation", "grace", number)
    if until == "Suspended":
        life.person("biller").run("reservation", "suspend", number)
    assert life.state(number) == until
    life.refused("stranger", "chain.not-tenant", "cancel", number)
    assert life.person("tenant").json("reservation", "cancel", number)["state"] == "Closed"
    steps = life.steps(number)
    kept = DISK if until in ("Deploying", "Active", "Grace", "Suspended") else 0
    assert steps[-2:] == [until, "Closed"] and life.used()["ssd"] == kept and life.used()["milliCores"] == 0
    late = [state for state in (4, 5, 11) if not (state == 4 and kept) and not (state == 5 and until in
                                                                               ("Active", "Grace", "Suspended"))]
    for state in late:
        life.says(number, state)
    assert life.refusals() == [(number, state, "reservation.final") for state in late]
    assert life.steps(number) == steps and life.used()["ssd"] == kept
    life.refused("tenant", "reservation.final", "cancel", number)


def test_an_update_withdrawn_and_its_late_report(life):
    number = life.active()
    assert life.deploy() == number
    life.says(number, 4, revision=2)
    shown = life.show(number)
    assert shown["state"] == "Active" and shown["candidate"] == {"revision": 2, "state": "Deploying"}
    assert life.used()["ssd"] == 2 * DISK
    life.person("tenant").run("reservation", "withdraw", number)
    life.says(number, 5, revision=2)
    assert life.refusals() == [(number, 5, "reservation.final")]
    shown = life.show(number)
    assert shown["state"] == "Active" and shown["revision"] == 1 and "candidate" not in shown
    assert life.used()["ssd"] == DISK
    life.refused("tenant", "reservation.no-candidate", "withdraw", number)
    assert life.deploy() == number and life.show(number)["candidate"]["revision"] == 3
    # Cancelled while an update is under way: both revisions end.
    life.person("tenant").run("reservation", "cancel", number)
    assert life.steps(number)[-2:] == ["Closed", "Closed"] and life.used()["milliCores"] == 0


def test_a_node_that_is_retired_while_it_runs(life):
    number = life.active()
    life.refused("stranger", "reservation.node-not-retired", "close", number)
    life.person("farmer").run("node", "retire", 1)
    assert life.state(number) == "Active"  # the chain does nothing by itself
    assert life.person("stranger").json("reservation", "close", number)["state"] == "Closed"
    assert life.show(number)["reason"] == "node.retired" and not any(life.used().values())
    done = life.person("tenant").run("deploy", "compose.yml", "--node", 1, "--no-wait", "--json", check=False)
    assert done.status == 3 and "node.not-active" in done.err or "node.retired" in done.err, done
