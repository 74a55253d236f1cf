"""A node of a grid: its machine, its number on the chain, and deploying to it as a tenant does."""
import contextlib
import json
import pathlib
import time
import urllib.request

from . import agent as lab_agent
from . import machine as machine_module
from . import paths, proxy

# What QEMU's user network announces, with the interface identifier of the machine's MAC address.
IPV6 = "fec0::5054:ff:fe12:3456"


def wait_for(check, timeout, what):
    """Asks again and again until the answer is true, and gives it back. what: the words for the case that it does not become so, or a
    function that then finds them."""
    end = time.monotonic() + timeout * paths.SCALE
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.2)


def ask_storaged(agent, method, **parameters):
    """storaged's answer, asked for as provd does: what is busy passes, and is asked again."""
    found = []

    def answered():
        try:
            found.append(agent.varlink("storaged", method, 180, **parameters))
        except lab_agent.Varlink as refused:
            if refused.parameters["code"] != "storage.busy":
                raise
        return found
    return wait_for(answered, 180, method)[0]


def get(url, timeout=60):
    """The body of a page, once the server answers."""
    end = time.monotonic() + timeout * paths.SCALE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5 * paths.SCALE) as answer:
                return answer.read().decode()
        except OSError as e:
            if time.monotonic() > end:
                raise AssertionError(f"{url} does not answer: {e}") from None
            time.sleep(0.2)


def answers(url, timeout=3):
    """Whether a server answers now."""
    try:
        urllib.request.urlopen(url, timeout=timeout).close()
        return True
    except OSError:
        return False


class Deployed:
    """A reservation as `croft deploy` gave it back."""

    def __init__(self, node, folder, answer):
        self.node, self.folder, self.answer = node, folder, answer
        self.id = answer["reservation"]

    def show(self):
        return self.node.grid.reservation(self.id)

    def cancel(self, timeout=60):
        """Cancels (what ended by itself has nothing to cancel) and waits until no daemon of the node
        has anything of it any more."""
        done = self.node.grid.tenant().run("reservation", "cancel", self.id, check=False)
        assert done.status == 0 or "reservation.final" in done.err, done
        end = time.monotonic() + timeout * paths.SCALE
        while left := self._left():
            assert time.monotonic() < end, f"reservation {self.id} does not end: {left}"
            time.sleep(0.2)

    def _left(self):
        call = self.node.agent.varlink
        found = [e for e in self.node.entries() if e["step"] not in ("ended", "refused")]
        net, image = call("netd", "List"), call("imaged", "List")
        found += net["networks"] + net["attachments"] + net["ports"] + image["mounts"]
        found += call("contd", "List")["containers"]
        scratch = [v["key"] for v in call("storaged", "ListVolumes")["volumes"]
                   if v["key"].startswith(f"scratch/{self.id}/")]
        return [e for e in found if e["reservation"] == self.id] + scratch


def soon_stopped(service):
    """The service, with a grace period of a second when it says nothing of how it is stopped. Busybox's shell and its sleep are deaf to
    SIGTERM as a namespace's first process: every end of theirs would wait for the whole default of ten seconds, and only that."""
    deaf = service.get("image") == "busybox" and "stop_signal" not in service
    return {"stop_grace_period": "1s", **service} if deaf else service


class Node:
    """machine options as of Machine; the chain is reached through a proxy of its own (.proxy)."""

    def __init__(self, grid, folder, images, token=True, params=None, forwards=None, **options):
        self.grid, self.folder, self.images = grid, pathlib.Path(folder), images
        self.proxy = proxy.Proxy(grid.chain_port)
        join = grid.token() if token is True else token
        self.machine = machine_module.Machine(
            folder, grid.params(join, self.proxy.port, **(params or {})), forwards, **options)
        self.number = None
        self._projects = 0

    def start(self, timeout=120):
        mark = self.machine.mark()
        self.machine.start()
        self.number = self.grid.wait_node(self.machine, timeout)
        self._wait_addresses(mark, timeout)
        return self

    def stop(self):
        self.machine.stop()
        self.proxy.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    @property
    def agent(self):
        return self.machine.agent

    def entries(self):
        return self.agent.varlink("provd", "List")["entries"]

    def status(self):
        return self.agent.varlink("provd", "GetStatus")

    def reboot(self, timeout=180):
        """An orderly power cycle; returns the mark of the new boot's first event."""
        mark = self.machine.mark()
        self.machine.power_off()
        self.machine.start()
        self.machine.wait_service("provd", timeout, mark)
        self._wait_addresses(mark, timeout)
        return mark

    def cut(self, timeout=180):
        """The power goes and comes back; returns the mark of the new boot's first event."""
        mark = self.machine.mark()
        self.machine.cut()
        self.machine.start()
        self.machine.wait_service("provd", timeout, mark)
        self._wait_addresses(mark, timeout)
        return mark

    def _wait_addresses(self, mark, timeout):
        """Until the link has its address of the router's prefix too. It comes seconds after the lease,
        and brings a firewall rule that what lists the rules must not see come."""
        self.machine.wait("address", timeout, mark, address=IPV6)

    # -- deploying

    def project(self, services, name=None, **top):
        """Writes a compose file (YAML holds JSON) and its lock; returns the folder."""
        self._projects += 1
        name = name or f"p{self._projects}"
        folder = self.folder / f"project-{self._projects}-{name}"
        folder.mkdir(parents=True)
        compose = {"name": name, "services": {n: soon_stopped(s) for n, s in services.items()}, **top}
        (folder / "compose.yml").write_text(json.dumps(compose, indent=1))
        lock = {image: {"id": ident, "hubs": [self.grid.hub_url()]}
                for image, ident in self.images.items()}
        (folder / "croft.lock").write_text(json.dumps(lock))
        return folder

    def try_deploy(self, services, name=None, timeout=180, **top):
        """`croft deploy` as it ends, whatever the status."""
        folder = self.project(services, name, **top)
        done = self.grid.tenant(folder).run(
            "deploy", "compose.yml", "--node", self.number, "--blobs", self.grid.hub.folder, "--json",
            timeout=timeout, check=False)
        return folder, done

    def deploy(self, services, name=None, timeout=180, **top):
        folder, done = self.try_deploy(services, name, timeout, **top)
        if done.status:
            raise AssertionError(f"croft deploy: status {done.status}\n{done.out}{done.err}\n"
                                 + "\n".join(self.machine.console.splitlines()[-20:]))
        return Deployed(self, folder, json.loads(done.out))

    @contextlib.contextmanager
    def deployed(self, services, **options):
        """A reservation that is cancelled at the end."""
        it = self.deploy(services, **options)
        try:
            yield it
        finally:
            it.cancel()
