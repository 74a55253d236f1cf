"""A farm in network namespaces: a node with netd, a router that serves DHCP and router advertisements, hosts of the
farm, and hosts of the internet. Nobody needs to be root: everything lives in one user namespace.

    node --lan0-- [br: farm's switch] -- router -- world (203.0.113.9, 2001:db8:77::9, and hosts in closed ranges)
                        |
                      lanhost
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
NETD = pathlib.Path(os.environ.get("NETD", ROOT / "build/bin/netd"))
BUSYBOX = "/bin/busybox"
INTERNET = ("203.0.113.9", "198.51.100.9", "2001:db8:77::9")
# Hosts in ranges that are closed to containers. The node itself reaches each: silence means closed, not absent.
CLOSED = ("10.99.0.5", "172.16.9.9", "172.31.255.9", "192.168.77.5", "100.64.1.9", "100.127.255.9", "169.254.7.7",
          "198.18.0.9", "fd12:3456::9", "fc00::9", "fec0::9", "64:ff9b::a63:5", "2002:a63:5::9")
LANHOST = ("192.168.7.9", "2001:db8:7::9")
PORT = 7000

SERVER = r"""
import socket, sys, threading, select, struct
port = int(sys.argv[1])
socks = []
for family, any_ in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            s.setsockopt(socket.IPPROTO_IP, 8, 1)
        s.bind((any_, port))
        if kind == socket.SOCK_STREAM:
            s.listen(64)
        socks.append(s)
def hold(c):
    # Echoes until the peer ends: a connection that lives.
    try:
        while True:
            data = c.recv(1000)
            if not data:
                break
            c.sendall(data)
    except OSError:
        pass
    c.close()
print("ready", flush=True)
while True:
    for s in select.select(socks, [], [])[0]:
        if s.type == socket.SOCK_STREAM:
            c, peer = s.accept()
            c.sendall(("this is %s, you are %s\n" % (c.getsockname()[0], peer[0])).encode())
            threading.Thread(target=hold, args=(c,), daemon=True).start()
        else:
            data, anc, _, peer = s.recvmsg(2000, 200)
            print("udp from", peer[0], flush=True)
            s.sendmsg([b"udp to " + peer[0].encode()], anc, 0, peer)
"""

CLIENT = r"""
import socket, sys
kind, address, port, source = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[5]))
try:
    if source:
        s.bind((source, 0))
    info = socket.getaddrinfo(address, port, family, s.type)[0][4]
    s.connect(info)
    if kind == "udp":
        s.send(b"x")
        s.settimeout(float(sys.argv[5]) / 2)
        try:
            print(s.recv(200).decode().strip())
            sys.exit()
        except TimeoutError:
            s.send(b"x")
    print(s.recv(200).decode().strip())
except OSError as e:
    print("nothing:", type(e).__name__, e)
"""


class Namespace:
    """A network namespace, held by a sleeping process of the lab's user namespace."""

    def __init__(self, lab, name, first=False):
        self.lab = lab
        self.name = name
        command = ["unshare", "-n", "sleep", "infinity"]
        if first:
            command = ["unshare", "-Urnm", "--propagation", "private", "sleep", "infinity"]
        else:
            command = [*lab.first.enter(), *command]
        self.process = subprocess.Popen(command)
        lab.processes.append(self.process)
        self.pid = self.process.pid
        own = os.readlink(f"/proc/{'self' if first else lab.first.pid}/ns/net")
        deadline = time.monotonic() + 10
        while self.pid and time.monotonic() < deadline:
            if os.readlink(f"/proc/{self.pid}/ns/net") != own and self._sleeps():
                break
            time.sleep(0.005)
        else:
            raise RuntimeError(f"namespace {name} did not appear")
        self.sh("ip link set lo up")

    def _sleeps(self):
        return pathlib.Path(f"/proc/{self.pid}/comm").read_text().strip() == "sleep"

    @property
    def path(self):
        return f"/proc/{self.pid}/ns/net"

    def enter(self):
        return ["nsenter", "-t", str(self.pid), "-U", "--preserve-credentials", "-m", "-n"]

    def sh(self, script, check=True, timeout=20):
        done = subprocess.run([*self.enter(), "sh", "-c", script], capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {script}: {done.stdout}{done.stderr}")
        return done.stdout

    def spawn(self, *command, **options):
        process = subprocess.Popen([*self.enter(), *command], **options)
        self.lab.processes.append(process)
        return process

    def serve(self, port=PORT):
        process = self.spawn(sys.executable, "-c", SERVER, str(port), stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    def ask(self, address, port=PORT, kind="tcp", source="", timeout=8):
        """What the other side says, or "nothing: …"."""
        return subprocess.run([*self.enter(), sys.executable, "-c", CLIENT, kind, address, str(port), source, str(timeout)],
                              capture_output=True, text=True, timeout=timeout + 10).stdout.strip()

    def reaches(self, address, port=PORT, kind="tcp", **options):
        """Patient: a first packet may wait for a neighbour that has to be found anew, for some seconds."""
        return not self.ask(address, port, kind, **options).startswith("nothing")

    def cut_off(self, address, port=PORT, kind="tcp", **options):
        """Nothing comes back. Every use has a control beside it that something would."""
        return self.ask(address, port, kind, timeout=0.8, **options).startswith("nothing")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Lab:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []
        self.first = Namespace(self, "node", first=True)
        self.node = self.first
        self.netd = None
        self.busybox = BUSYBOX
        self.containers = {}

    # ---- wiring ----

    def wire(self, a, a_name, b, b_name):
        a.sh(f"ip link add {a_name} type veth peer name {b_name} netns {b.pid}")

    def farm(self):
        """The topology of the picture, without DHCP."""
        self.router, self.world, self.lanhost = (Namespace(self, n) for n in ("router", "world", "lanhost"))
        self.router.sh("ip link add sw type bridge mcast_snooping 0; ip link set sw up")
        for other, name in ((self.node, "lan0"), (self.lanhost, "eth0")):
            self.wire(self.router, f"to-{other.name}", other, name)
            self.router.sh(f"ip link set to-{other.name} master sw up")
        # The kernel's own waits, seconds before each address of its own, are not what is tested.
        self.node.sh("echo 0 > /proc/sys/net/ipv6/conf/lan0/dad_transmits; "
                     "echo 0 > /proc/sys/net/ipv6/conf/lan0/router_solicitation_delay")
        self.wire(self.router, "wan", self.world, "eth0")
        self.router.sh("ip addr add 192.168.7.1/24 dev sw; ip addr add 2001:db8:7::1/64 dev sw nodad; "
                       "ip link set wan up; ip addr add 192.0.2.1/30 dev wan; ip addr add 2001:db8:ff::1/64 dev wan nodad; "
                       "ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8:ff::2; "
                       "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
        self.world.sh("ip link set eth0 up; ip addr add 192.0.2.2/30 dev eth0; ip addr add 2001:db8:ff::2/64 dev eth0 nodad; "
                      "ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:ff::1; " +
                      "; ".join(f"ip addr add {a}/{128 if ':' in a else 32} dev lo {'nodad' if ':' in a else ''}"
                                for a in INTERNET + CLOSED))
        # A node's own link-local range is on its link: this host must be there for the control to reach it.
        self.lanhost.sh("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra; ip link set eth0 up; ip addr add 192.168.7.9/24 dev eth0; "
                        "ip addr add 2001:db8:7::9/64 dev eth0 nodad; ip route add default via 192.168.7.1; "
                        "ip -6 route add default via 2001:db8:7::1")
        self.world.serve()
        self.lanhost.serve()

    def dnsmasq(self, namespace, interface, *options, name="dnsmasq"):
        log = open(self.folder / f"{name}.log", "w")
        process = namespace.spawn(
            "dnsmasq", "-d", "--conf-file=/dev/null", f"--interface={interface}", "--bind-interfaces", "--no-hosts",
            "--no-resolv", "--pid-file=", f"--dhcp-leasefile={self.folder}/{name}.leases", "--log-dhcp", *options,
            stdout=log, stderr=log)
        return process

    def dhcp(self, *options, lease="2m", first=50, last=60, **more):
        return self.dnsmasq(self.router, "sw", f"--dhcp-range=192.168.7.{first},192.168.7.{last},255.255.255.0,{lease}",
                            "--dhcp-authoritative", "--no-ping", "--address=/example.test/203.0.113.9",
                            "--address=/example.test/2001:db8:77::9", *options, **more)

    RA = ("--enable-ra", "--dhcp-range=::,constructor:sw,ra-only,64,600")

    # ---- the node ----

    def start(self, boot=None):
        boot = {"net": [{"mode": "dhcp"}], "vlan": [], "bond": [], "ntp": [], "buildTime": 1, **(boot or {})}
        (self.folder / "boot.json").write_text(json.dumps(boot))
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (self.folder / "notify").unlink(missing_ok=True)
        self.notify.bind(str(self.folder / "notify"))
        self.notify.settimeout(10)
        self.spawn_netd()

    def spawn_netd(self):
        with open(self.folder / "netd.log", "a") as log:
            self.netd = self.node.spawn(
                str(NETD), "--boot", str(self.folder / "boot.json"), "--socket", str(self.folder / "netd"), "--events",
                str(self.folder / "events"), "--state", str(self.folder / "state.json"), "--resolv-conf",
                str(self.folder / "resolv.conf"), "--busybox", self.busybox, "--debug", stdout=log, stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify")})
        self.wait(lambda: "READY=1" in self.notify.recv(8192).decode(), "netd is not ready")

    def stop(self, how=signal.SIGTERM):
        self.netd.send_signal(how)
        self.netd.wait(10)

    def call(self, method, **parameters):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(str(self.folder / "netd"))
            s.sendall(json.dumps({"method": "org.croft.net." + method, "parameters": parameters}).encode() + b"\0")
            data = b""
            while not data.endswith(b"\0"):
                part = s.recv(65536)
                if not part:
                    raise ConnectionError("netd hung up")
                data += part
        answer = json.loads(data[:-1])
        if "error" in answer:
            raise Refused(answer)
        return answer.get("parameters", {})

    def link(self, name="lan0"):
        return next((link for link in self.call("GetStatus")["links"] if link["name"] == name), None)

    def addresses(self, name="lan0", family=4):
        found = (self.link(name) or {}).get("addresses", [])
        return [a.split("/")[0] for a in found if (":" in a) == (family == 6) and not a.startswith("fe80:")]

    def wait(self, condition, message, timeout=20):
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(message)
            time.sleep(0.05)

    def online(self):
        """Until the node has both families' addresses."""
        self.wait(lambda: self.addresses(family=4) and self.addresses(family=6) and self.link()["gateway"],
                  "the node got no addresses")

    # ---- containers ----

    def container(self, reservation, service, networks=("default",), revision=1, serve=True):
        """A namespace that stands for a container, attached, with a server."""
        namespace = Namespace(self, f"{reservation}-{service}")
        namespace.attachments = []
        for network in networks:
            internal = network.startswith("internal")
            self.call("EnsureNetwork", reservation=reservation, network=network, internal=internal)
            namespace.attachments.append(self.call(
                "Attach", reservation=reservation, revision=revision, service=service, network=network,
                netns=namespace.path)["attachment"])
        namespace.address4 = namespace.attachments[0]["address4"]
        namespace.address6 = namespace.attachments[0]["address6"]
        if serve:
            namespace.serve()
        return namespace

    def ruleset(self):
        """The rules as nft(8) prints them."""
        return self.node.sh("nft -s list ruleset")

    def close(self):
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Refused(Exception):
    def __init__(self, answer):
        self.code = answer["parameters"].get("code")
        super().__init__(f"{self.code}: {answer['parameters'].get('message')}")


def port(published, service, target=PORT, protocol="tcp", revision=1):
    return {"protocol": protocol, "published": published, "target": target, "revision": revision, "service": service}
