"""What a tenant proposes is not what it should be: copied from another, too large, cut, or other bytes at the hub. provd, noded, the
relay and the chain are real; each case carries its code in the API, in the log and as the chain's reason, and leaves nothing."""
import json
import time

import pytest
from lab import forge, ports

import scene
from scene import RIGHT, specification
from world import wait

SECONDS = 110  # about, for the order in which files start

OTHER = "0x" + "11" * 20


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with scene.Scene(tmp_path_factory.mktemp("sealed")) as made:
        yield made


def asks(**more):
    """A specification that is right in itself, and asks for other resources than RIGHT."""
    whole = json.loads(specification())
    web = whole["services"]["web"]
    for name, value in more.items():
        whole["resources"][name] = value
        if name in ("milliCores", "memory"):
            web["resources"][name] = value
        if name == "hdd":
            web["scratch"] = value
    return specification(resources=whole["resources"], services=whole["services"])


def disk(kind, size):
    """With a volume more."""
    whole = json.loads(specification())
    whole["services"]["web"]["mounts"] = [{"volume": "v", "target": "/v", "readOnly": False}]
    whole["resources"][kind] += size
    return specification(resources=whole["resources"], services=whole["services"],
                         volumes={"v": {"kind": kind, "size": size}})


def shortened(sealed, by):
    return forge.Sealed(sealed.content, sealed.data[:-by])


def flipped(sealed, at):
    data = bytearray(sealed.data)
    data[at] ^= 1
    return forge.Sealed(sealed.content, bytes(data))


def inner(**changes):
    """A service's part of the specification changed, the sum left as it was."""
    whole = json.loads(specification())
    whole["services"]["web"]["resources"].update(changes)
    return specification(services=whole["services"])


FORGED = {
    "cut": ("provision.bad-specification", lambda n: n.propose(specification()[:-1])),
    "empty": ("provision.bad-specification", lambda n: n.propose(b"{}")),
    "not JSON": ("provision.bad-specification", lambda n: n.propose(b"\xff\x00")),
    "not canonical": ("provision.bad-specification", lambda n: n.propose(specification().replace(b",", b", ", 1))),
    "an unknown member": ("provision.bad-specification", lambda n: n.propose(specification(privileged=True))),
    "an unknown version": ("provision.bad-specification", lambda n: n.propose(specification(version=2))),
    "a number of 2^53": ("provision.bad-specification", lambda n: n.propose(specification(version=1 << 53))),
    "more cores": ("provision.more-than-reserved", lambda n: n.propose(asks(milliCores=21))),
    "more memory": ("provision.more-than-reserved", lambda n: n.propose(asks(memory=(16 << 20) + 4096))),
    "more hdd": ("provision.more-than-reserved", lambda n: n.propose(asks(hdd=2 << 20))),
    "a volume of ssd": ("provision.more-than-reserved", lambda n: n.propose(disk("ssd", 1 << 20))),
    "a volume of hdd": ("provision.more-than-reserved", lambda n: n.propose(disk("hdd", 1 << 20))),
    "fewer than reserved": ("provision.more-than-reserved", lambda n: n.propose(asks(milliCores=19))),
    "a service with more than the sum": ("provision.more-than-reserved", lambda n: n.propose(inner(memory=17 << 20))),
    "another commitment": ("provision.commitment-mismatch", lambda n: n.propose(committed=b"{}")),
    "another tenant's": ("node.cannot-open", lambda n: n.propose(tenant=OTHER)),
    "another node's": ("node.cannot-open", lambda n: n.propose(for_node=n.number + 1)),
    "another epoch's": ("node.cannot-open", lambda n: n.propose(for_epoch=2)),
    "another revision's": ("node.cannot-open", lambda n: n.propose(revision=2)),
    "another chain's": ("node.cannot-open", lambda n: n.propose(chain_id=1)),
    "another contract's": ("node.cannot-open", lambda n: n.propose(contract=n.world.registry)),
    "cut ciphertext": ("node.cannot-open", lambda n: forge.propose_sealed(n, shortened(forge.seal(n, specification()), 1), RIGHT)),
    "a flipped tag": ("node.cannot-open", lambda n: forge.propose_sealed(n, flipped(forge.seal(n, specification()), -1), RIGHT)),
    "a flipped key": ("node.cannot-open", lambda n: forge.propose_sealed(n, flipped(forge.seal(n, specification()), 3), RIGHT)),
    "one byte": ("node.cannot-open", lambda n: forge.propose_sealed(n, forge.Sealed(b"\1" * 32, b"\0"), RIGHT)),
}


def left(node):
    """What provd keeps of reservations on its disk."""
    slots = node.provd.state / "slots.json"
    kept = sorted(p.name for p in node.provd.state.glob("sealed-*"))
    return kept + (json.loads(slots.read_text()).get("slots", []) if slots.exists() else [])


def stop_relay(node):
    node.world.relay.kill()
    node.world.relay.wait()


def all_refused(node, numbers):
    """While no report reaches the chain the API tells every reason; then the chain does, and the node forgets all of it."""
    for name, (code, number) in numbers.items():
        entry = node.provd.step(number, "failed", 60)
        assert entry["reason"] == code and " " in entry["message"], (name, entry)
        assert f"reservation {number} revision 1 fails at " in node.provd.log(), name
    node.world.start_relay()
    for name, (code, number) in numbers.items():
        changes = wait(name, lambda n=number: len(node.changes(n)) > 4 and node.changes(n), 90)
        assert changes[-2:] == [("deploying", ""), ("failed", code)], (name, changes)
    node.world.rpc("anvil_mine", "0x3")
    wait("the end of all", lambda: not node.provd.entries())
    wait("nothing left", lambda: not left(node))


def test_a_forged_proposal_has_its_reason_everywhere(node):
    stop_relay(node)
    numbers = {name: (code, forged(node)) for name, (code, forged) in FORGED.items()}
    all_refused(node, numbers)


def test_a_copy_opens_nothing(node):
    """An honest proposal that everybody can read: the same bytes from another tenant, and for the next key epoch."""
    sealed = forge.seal(node, specification())
    honest = forge.propose_sealed(node, sealed, RIGHT)
    node.provd.step(honest, "pull")
    stop_relay(node)
    copied = {"by another tenant": ("node.cannot-open", forge.propose_sealed(node, sealed, RIGHT, sender=3))}
    # Read by himself once more, it is no copy: the very same content may be proposed twice.
    twice = forge.propose_sealed(node, sealed, RIGHT)
    node.provd.step(twice, "pull")
    assert node.provd.entries()[honest]["step"] == "pull"
    node.cancel(honest)
    node.cancel(twice)
    all_refused(node, copied)


def grow_old(node):
    """The node's current key becomes a month older: it makes the next epoch's."""
    epoch = forge.keys_of(node)[0]
    node.noded.kill()
    file = node.noded.pools / "a/identity/identity.json"
    known = json.loads(file.read_text())
    for key in known["keys"]:
        key["created"] = int(time.time()) - 31 * 86400
    known["generation"] += 1
    file.write_text(json.dumps(known))
    node.noded.start()
    wait("the next epoch", lambda: forge.keys_of(node)[0] == epoch + 1, 60)


def test_a_key_epoch_is_bound_too(node):
    """The previous epoch is still taken; what was sealed in it opens under no other epoch; an older one is refused by the chain."""
    first = forge.seal(node, specification())
    grow_old(node)
    late = forge.propose_sealed(node, first, RIGHT, epoch=1)
    node.provd.step(late, "pull")
    node.cancel(late)
    stop_relay(node)
    numbers = {"an earlier epoch's": ("node.cannot-open", forge.propose_sealed(node, first, RIGHT, epoch=2))}
    all_refused(node, numbers)
    grow_old(node)
    for epoch in (1, 4):
        assert forge.refusal(node, first, RIGHT, epoch=epoch) == "reservation.key-epoch"


# ---- the sealed specification lies at a hub


def redirect(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    return answer


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(65536))
    except OSError:
        pass


def shorter_than_said(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 10)


class Blob:
    """A proposal whose bytes lie at hubs. hubs: addresses, ours if none is given."""

    def __init__(self, node, answers=None, hubs=None, seconds=3600):
        self.sealed = forge.seal(node, specification())
        self.path = "blobs/" + forge.hashlib.sha256(self.sealed.data).hexdigest()
        if answers is not None:
            node.hub.altered[self.path] = answers(self.sealed.data) if callable(answers) else answers
        self.number = forge.propose_sealed(node, self.sealed, RIGHT, hubs=hubs or [f"http://127.0.0.1:{node.hub.port}"],
                                           seconds=seconds)


def trick(answer):
    return lambda data: lambda handler: answer(handler)


ALTERED = {
    "one byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "nothing": lambda data: b"",
    "another one": lambda data: b"x" * len(data),
    "without an end": trick(endless),
}


def test_other_bytes_at_the_hub_are_refused(node):
    stop_relay(node)
    numbers = {what: ("provision.blob-mismatch", Blob(node, answers).number) for what, answers in ALTERED.items()}
    all_refused(node, numbers)


def test_a_hub_that_does_not_deliver_is_waited_for(node):
    """Said with its reason, and asked again; once the bytes are there, it goes on. What is elsewhere is not looked for there."""
    elsewhere = scene.lab_hub.Hub(node.world.folder / "elsewhere")
    (elsewhere.folder / "secret").write_text("the router's page")
    try:
        away = {"absent": Blob(node, lambda data: None),
                "sent elsewhere": Blob(node, trick(redirect(f"http://127.0.0.1:{elsewhere.port}/secret"))),
                "sent to a file": Blob(node, trick(redirect("file:///etc/passwd"))),
                "broken off": Blob(node, trick(shorter_than_said)),
                "no web server": Blob(node, hubs=[f"http://127.0.0.1:{ports.free()}"]),
                "no address at all": Blob(node, hubs=["file:///etc/passwd"])}
        for what, blob in away.items():
            entry = wait(what, lambda b=blob: node.provd.entries().get(b.number, {}).get("reason") == "provision.blob-unreachable"
                         and node.provd.entries()[b.number])
            assert entry["step"] == "fetch" and entry["message"], (what, entry)
        assert elsewhere.paths == []
        for what in ("absent", "sent elsewhere", "broken off"):
            node.hub.altered[away[what].path] = away[what].sealed.data
            node.provd.step(away[what].number, "pull", 60)
        for blob in away.values():
            node.cancel(blob.number)
        wait("the end of all", lambda: not node.provd.entries() and not left(node))
    finally:
        elsewhere.stop()


def test_the_next_hub_is_asked(node):
    """Behind one that lies, one that is silent for ever, and one that is not there."""
    def silent(handler):
        try:
            handler.rfile.read()
        except OSError:
            pass
    silent_hub, lying_hub = (scene.lab_hub.Hub(node.world.folder / name) for name in ("silent", "lying"))
    try:
        sealed = forge.seal(node, specification())
        path = "blobs/" + forge.hashlib.sha256(sealed.data).hexdigest()
        lying_hub.altered[path] = b"x" * len(sealed.data)
        silent_hub.altered[path] = silent
        node.hub.altered[path] = sealed.data
        number = forge.propose_sealed(node, sealed, RIGHT, hubs=[f"http://127.0.0.1:{h.port}" for h in
                                                                  (lying_hub, silent_hub, node.hub)])
        node.provd.step(number, "pull", 90)
        assert lying_hub.paths and silent_hub.paths
        node.cancel(number)
        wait("the end", lambda: not node.provd.entries())
    finally:
        silent_hub.stop()
        lying_hub.stop()


def test_a_deadline_that_passes_has_the_reason(node):
    """Nobody gives the bytes until the time is over: the node says so, and the chain has it."""
    ahead = max(int(node.world.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16) - int(time.time()), 0)
    blob = Blob(node, lambda data: None, seconds=20)  # the chain's seconds, which many quick blocks let run ahead
    wait("the failure", lambda: f"reservation {blob.number} revision 1 fails at fetch" in node.provd.log()
         and "(provision.timed-out)" in node.provd.log(), 60 + ahead)
    node.world.rpc("anvil_mine", "0x3")
    changes = wait("the chain's end", lambda: node.changes(blob.number)[-1][0] == "failed" and node.changes(blob.number), 60)
    assert changes[-1][1] == "provision.timed-out", changes
    wait("the end", lambda: not node.provd.entries() and not left(node))


def test_what_the_contract_does_not_even_take(node):
    """Too large for a transaction, without bytes and hubs, with four hubs, with a hub's address too long, without a hash."""
    sealed = forge.seal(node, specification())
    large = forge.Sealed(sealed.content, bytes(1025))
    url = "http://127.0.0.1:1"
    sealed_wrong, content_wrong, time_wrong = (f"reservation.bad-{what}" for what in ("sealed", "content", "time"))
    for what, (code, seal, more) in {
            "1,025 bytes": (sealed_wrong, large, {}), "no bytes": (sealed_wrong, forge.Sealed(sealed.content, b""), {}),
            "four hubs": (sealed_wrong, sealed, {"hubs": [url] * 4}),
            "a long hub": (sealed_wrong, sealed, {"hubs": [url + "/" + "x" * 250]}),
            "no content hash": (content_wrong, forge.Sealed(bytes(32), sealed.data), {}),
            "no time": (time_wrong, sealed, {"seconds": -1}), "eight days": (time_wrong, sealed, {"seconds": 8 * 86400})}.items():
        assert forge.refusal(node, seal, RIGHT, **more) == code, what
        receipt = forge.propose_sealed(node, seal, RIGHT, check=False, **more)
        assert receipt["status"] == "0x0" and not receipt["logs"], what
    assert forge.refusal(node, sealed, RIGHT) is None
    exact = forge.propose_sealed(node, forge.Sealed(sealed.content, bytes(1024)), RIGHT, check=False)
    assert exact["status"] == "0x1"
