"""Bad input at the tenant's and the farmer's own machine: a code, a sentence, the right exit status, and nothing on the chain."""
import json

import pytest
from lab import cli

import primitives
from world import CHAIN_ID, wait

IMAGE = "ab" * 32
FINE = {"services": {"web": {"image": IMAGE, "command": ["true"]}}}


def service(**more):
    return json.dumps({"services": {"web": {**FINE["services"]["web"], **more}}})


@pytest.fixture
def tenant(world, tmp_path):
    """A tenant of a farm with one node, which is only a key: nothing will ever run there."""
    env = {"CROFT_CHAIN": world.url, "CROFT_CHAINID": CHAIN_ID, "CROFT_REGISTRY": world.registry, "XDG_CONFIG_HOME": tmp_path,
           "XDG_STATE_HOME": tmp_path, "CROFT_KEY_FILE": tmp_path / "key0"}
    farmer = cli.Cli(env, tmp_path)
    farmer.run("farm", "policy", 1, "--tenants", "any")
    world.start_relay()
    private = primitives.keccak256(b"node of the tenant")
    world.post("register", world.registration(private, token=world.token))
    wait("the node", lambda: world.node(world.address_of(private)).get("state") == 2)
    return farmer


def made(tenant):
    return tenant.json("status")["reservationsMade"]


def deploy(tenant, text, *options, env=None):
    (tenant.cwd / "compose.yml").write_text(text)
    one = cli.Cli({**tenant.env, **(env or {})}, tenant.cwd)
    return one.run("deploy", "compose.yml", "--node", 1, "--no-wait", "--json", *options, check=False)


BAD = {
    "unknown key": (service(privileged=True), 2, "deploy.unsupported-key", "services.web"),
    "unknown key inside": (service(healthcheck={"test": "true", "nope": 1}), 2, "deploy.unsupported-key", "nope"),
    "unknown key at the top": (json.dumps({**FINE, "include": ["x"]}), 2, "deploy.unsupported-key", "include"),
    "no YAML": ("services: [", 2, "deploy.bad-compose", ""),
    "a value of the wrong kind": (service(ports=["eighty:80"]), 2, "deploy.bad-compose", "services.web.ports"),
    "a variable that is not set": ("services: {web: {image: '${NOPE_NOT_SET}'}}", 2, "deploy.missing-variable", "NOPE_NOT_SET"),
    "an image that no lock names": ("services: {web: {image: ghost}}", 2, "image.not-locked", "ghost"),
    "more than the node has": (service(deploy={"resources": {"limits": {"memory": "64G"}}}), 3, "provision.not-enough-memory", ""),
    "more disk than the node has": (json.dumps({**FINE, "volumes": {"v": {"driver_opts": {"size": "900G"}}}, "services": {
        "web": {**FINE["services"]["web"], "volumes": ["v:/data"]}}}), 3, "provision.not-enough-ssd", ""),
}


def test_what_a_tenant_may_write_wrong(tenant):
    for what, (text, status, code, word) in BAD.items():
        done = deploy(tenant, text)
        assert done.status == status, (what, done)
        error = json.loads(done.err.splitlines()[-1])["error"]
        assert error["code"] == code and word in error["message"] and " " in error["message"], (what, error)
        assert error["hint"] or code == "deploy.bad-compose", (what, error)
        assert not done.out, (what, done)
    assert made(tenant) == 0
    # The control: what is right goes through.
    assert deploy(tenant, json.dumps(FINE)).status == 0 and made(tenant) == 1


def test_another_chain_than_the_one_that_was_named(tenant):
    done = deploy(tenant, json.dumps(FINE), env={"CROFT_CHAINID": "4242"})
    assert done.status == 3 and "chain.wrong-id" in done.err and "4242" in done.err, done
    assert made(tenant) == 0


def test_a_farm_of_the_same_name(tenant):
    done = tenant.run("farm", "create", "FARM", check=False)
    assert done.status == 3 and "chain.farm-exists" in done.err and "another farm has this name" in done.err, done
    assert len(tenant.json("farm", "list")) == 1


def test_a_chain_that_does_not_answer_is_a_failure(tenant):
    done = deploy(tenant, json.dumps(FINE), env={"CROFT_CHAIN": "http://127.0.0.1:9"})
    assert done.status == 1 and "chain.unreachable" in done.err, done
