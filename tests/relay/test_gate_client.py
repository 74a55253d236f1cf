"""`croft logs`, `croft exec` and what else asks a node's gate, against a gate of the tests' own: everything that goes right byte
by byte, and a gate that lies, stalls, breaks off and sends what a terminal would obey. (A real node: tests/qemu/test_gate.py.)"""
import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import select
import signal
import socket
import ssl
import struct
import subprocess
import termios
import threading
import time

import pytest
from lab import cli, paths

import gatelab
import primitives
import world as lab
from gatelab import CONTROL, ERROR, INPUT, OUTPUT
from world import CHAIN_ID, FACTOR, wait

SECONDS = 40  # about, for the order in which files start

KEY = int("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", 16)
COMPOSE = json.dumps({"services": {"web": {"image": "ab" * 32, "command": ["true"]}}})


class Setting:
    """A chain, node 1 with the gate's key, reservation 1 of the key that is also the farmer's."""

    def __init__(self, folder):
        self.folder = folder
        self.world = lab.World(folder)
        self.world.create_farm()
        self.world.create_token()
        env = {"CROFT_CHAIN": self.world.url, "CROFT_CHAINID": CHAIN_ID, "CROFT_REGISTRY": self.world.registry,
               "XDG_CONFIG_HOME": folder, "XDG_STATE_HOME": folder, "CROFT_KEY_FILE": folder / "key0"}
        self.plain = cli.Cli(env, folder)
        self.plain.run("farm", "policy", 1, "--tenants", "any")
        self.reservations = self.plain.json("status")["reservations"].lower()
        self.net = f"127.{random.randrange(64, 255)}.{random.randrange(256)}"
        self.gate = gatelab.Gate(folder, 1, self.reservations)
        self.world.start_relay()
        self.register(b"node of the gate", self.gate.key_hash, ["192.0.2.1"])
        (folder / "compose.yml").write_text(COMPOSE)
        self.plain.run("deploy", "compose.yml", "--node", 1, "--no-wait")
        self.croft = cli.Cli({**env, "CROFT_GATE": f"127.0.0.1:{self.gate.port}"}, folder)

    def register(self, name, key_hash, addresses):
        private = primitives.keccak256(name)
        self.world.post("register", self.world.registration(private, token=self.world.token, tlsKeyHash="0x" + key_hash.hex(),
                                                            addresses=addresses))
        return wait("the node", lambda: self.world.node(self.world.address_of(private)).get("state") == 2
                    and self.world.node(self.world.address_of(private))["id"])

    def popen(self, *args, **options):
        return subprocess.Popen([paths.CROFT, *map(str, args)], cwd=self.folder,
                                env={**os.environ, "NO_COLOR": "1", "TERM": "xterm", **self.croft.env}, **options)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    lab.build_tools()
    made = Setting(tmp_path_factory.mktemp("gate"))
    yield made
    made.gate.close()
    made.world.stop()


@pytest.fixture
def gate(setting):
    gate = setting.gate
    gate.routes.clear()
    gate.requests.clear()
    gate.trouble.clear()
    gate.change = lambda challenge: challenge
    yield gate
    assert not gate.trouble


def error_of(done):
    return json.loads(done.err.splitlines()[-1])["error"]


# -- logs

ENTRIES = [{"time": 1795852800000042, "stream": "stdout", "line": "one"}, {"time": 1795852801000000, "stream": "stderr", "line": "two"},
           {"time": 1795852802000000, "stream": "stdout", "line": "thr", "more": True},
           {"time": 1795852802000001, "stream": "stdout", "line": "ee"}]


def test_logs_asks_for_what_was_said_and_proves_who_asks(setting, gate):
    def logs(request):
        assert gate.signed_by(request, KEY, "logs") and request.verb == "GET"
        request.lines([b"\n", *ENTRIES, b"\n"])
    gate.routes["/v1/logs"] = logs
    done = setting.croft.run("logs", 1, "web", "--tail", 5, "--since", "2026-11-28T08:00:00Z", "--follow")
    assert done.out == "one\ntwo\nthree\n" and not done.err, done
    assert gate.requests[-1].query == {"service": ["web"], "tail": ["5"], "since": ["1795852800000000"], "follow": ["1"]}
    assert len(gate.requests) == 2 and not gate.challenges
    done = setting.croft.run("logs", 1, "--timestamps")
    assert gate.requests[-1].query == {}
    assert done.out.splitlines() == ["2026-11-28T08:00:00.000042Z one", "2026-11-28T08:00:01.000000Z two",
                                     "2026-11-28T08:00:02.000000Z three"]
    done = setting.croft.run("logs", 1, "--json")
    assert [json.loads(line) for line in done.out.splitlines()] == ENTRIES
    before = time.time()
    setting.croft.run("logs", 1, "--since", "10m")
    assert abs(int(gate.requests[-1].query["since"][0]) / 1e6 - (before - 600)) < 60 * FACTOR
    for words in (["--tail", "-1"], ["--since", "yesterday"], ["--gate", "nowhere"], ["--gate", "http://x:1"]):
        assert setting.croft.run("logs", 1, *words, check=False).status == 2, words
    done = setting.croft.run("logs", 99, "--json", check=False)
    assert done.status == 3 and error_of(done)["code"] == "reservation.unknown"


HOSTILE = "\x1b]0;owned\x07\x1b[2Jtext\r\u009b31m\u202egnp \u00fc \x00\x7f"
SHOWN = "\\x1b]0;owned\\x07\\x1b[2Jtext\\x0d\\u009b31m\\u202egnp \u00fc \\x00\\x7f"


def on_terminal(setting, *args):
    """What the command prints on a terminal, and its status."""
    ours, theirs = pty.openpty()
    p = setting.popen(*args, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):
        while select.select([ours], [], [], 60 * FACTOR)[0] and (piece := os.read(ours, 65536)):
            text += piece
    os.close(ours)
    return text.decode(), p.wait(60 * FACTOR)


def test_a_terminal_shows_what_a_log_says_and_does_not_obey_it(setting, gate):
    gate.routes["/v1/logs"] = lambda request: request.lines([{"time": 1, "stream": "stdout", "line": HOSTILE}])
    text, status = on_terminal(setting, "logs", 1)
    assert (text, status) == (SHOWN + "\r\n", 0)
    text, status = on_terminal(setting, "logs", 1, "--json")
    assert status == 0 and not set("\x1b\x07\u009b\u202e") & set(text) and json.loads(text)["line"] == HOSTILE
    assert setting.croft.run("logs", 1).out == HOSTILE.replace("\r", "\n") + "\n"  # Python's text mode makes \r a line feed
    # A refusal is a stranger's text as well, wherever it is shown.
    gate.routes["/v1/logs"] = lambda request: request.refuse(404, "gate.not-found", "no \x1b[31mservice", "hint\x07")
    done = setting.croft.run("logs", 1, check=False)
    assert done.status == 1 and done.err == "croft: no \\x1b[31mservice (gate.not-found)\n  hint\\x07\n", done
    # So is the live status, as lines.
    gate.routes["/v1/status"] = lambda request: request.answer(200, {"containers": [{"name": HOSTILE}]})
    text, status = on_terminal(setting, "reservation", "show", 1)
    assert status == 0 and "owned" in text and "\x1b" not in text and "\u202e" not in text


def refused(setting, *args, status=1):
    done = setting.croft.run(args[0], "--json", *args[1:], check=False)
    assert done.status == status and len(done.err.splitlines()) == 1, done
    return error_of(done)["code"]


def test_answers_that_are_none(setting, gate):
    cases = {
        "no JSON": (b"hello\n", "gate.bad-answer"),
        "no entry": (b'{"line":1}\n', "gate.bad-answer"),
        "a list": (b"[]\n", "gate.bad-answer"),
        "no such level": (b'{"time":1,"level":8,"line":"x"}\n', "gate.bad-answer"),
        "no such stream": (b'{"time":1,"stream":"x","line":"x"}\n', "gate.bad-answer"),
        "no UTF-8": (b'{"time":1,"stream":"stdout","line":"\xff"}\n', "gate.bad-answer"),
        "a line without end": (b'{"time":1,"stream":"stdout","line":"' + b"x" * 400_000, "gate.bad-answer"),
        "an end within an entry": (b'{"time":1,"str', "gate.bad-answer"),
    }
    for what, (text, code) in cases.items():
        gate.routes["/v1/logs"] = lambda request, text=text: request.lines([ENTRIES[0], text])
        done = setting.croft.run("logs", 1, "--json", check=False)
        assert (done.status, error_of(done)["code"]) == (1, code), (what, done)
        assert json.loads(done.out) == ENTRIES[0], what  # what was good is shown

    def breaks_off(request):
        request.chunks()
        request.chunk(json.dumps(ENTRIES[0]).encode() + b"\n")
        raise gatelab.Gone
    gate.routes["/v1/logs"] = breaks_off
    done = setting.croft.run("logs", 1, "--json", check=False)
    assert (done.status, error_of(done)["code"]) == (1, "gate.lost") and json.loads(done.out) == ENTRIES[0], done
    refusals = {(403, "gate.not-allowed"): 3, (429, "gate.busy"): 1, (404, "gate.which-service"): 1, (503, "core.stopping"): 1}
    for (number, code), status in refusals.items():
        gate.routes["/v1/logs"] = lambda request, number=number, code=code: request.refuse(number, code)
        assert refused(setting, "logs", 1, status=status) == code
    for body in (b"", b"no", b"{}", b'{"code":"no code","message":"x"}', b'{"code":"a.b","message":5}'):
        gate.routes["/v1/logs"] = lambda request, body=body: request.answer(500, body)
        assert refused(setting, "logs", 1) == "gate.bad-answer", body
    # A redirection is not followed: who answers there?
    gate.routes["/v1/logs"] = lambda request: request.answer(302, b"", "Location: https://127.0.0.1:1/")
    assert refused(setting, "logs", 1) == "gate.bad-answer"


def test_who_follows_goes_on_where_a_stream_broke_off(setting, gate):
    whole = [{"time": 1, "stream": "stdout", "at": f"3-{i}", "line": f"line {i}"} for i in range(1, 7)]
    pieces = [b"\n", *(json.dumps(entry).encode() + b"\n" for entry in whole)]

    def logs(request):
        after = int(request.query["after"][0].split("-")[1]) if "after" in request.query else 0
        request.chunks()
        for piece in pieces[after + 1:after + 3]:
            request.chunk(piece)
        if after + 2 < len(whole):
            request.chunk(pieces[after + 3][:20])  # what was not whole comes again
            raise gatelab.Gone
        request.send(b"0\r\n\r\n")
    gate.routes["/v1/logs"] = logs
    done = setting.croft.run("logs", 1, "web", "--tail", "9", "--follow", "--json")
    assert [json.loads(line) for line in done.out.splitlines()] == whole and not done.err
    asked = [request.query for request in gate.requests if request.path == "/v1/logs"]
    assert asked == [{"service": ["web"], "tail": ["9"], "follow": ["1"]},
                     *({"service": ["web"], "after": [at], "follow": ["1"]} for at in ("3-2", "3-4"))]
    # Only who follows, and only while it may pass.
    done = setting.croft.run("logs", 1, "web", check=False)
    assert done.status == 1 and "gate.lost" in done.err and done.out == "line 1\nline 2\n"

    def refuses(request):
        if "after" in request.query:
            return request.refuse(404, "gate.not-found")
        return logs(request)
    gate.routes["/v1/logs"] = refuses
    done = setting.croft.run("logs", 1, "web", "--follow", check=False)
    assert done.status == 1 and "gate.not-found" in done.err and done.out == "line 1\nline 2\n"
    # A place is sent back, so it can hold nothing that would mean something there.
    for at in ("1-2&follow=0", "1-2 ", "1" * 40, "x"):
        gate.routes["/v1/logs"] = lambda request, at=at: request.lines([{**whole[0], "at": at}])
        assert refused(setting, "logs", 1) == "gate.bad-answer", at


def follow(request, start, pieces, whole=False):
    """A stream that says where it begins, then these; whole: it ends in good order, else it breaks off."""
    request.send(f"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCroft-Log-At: {start}\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n".encode())
    for piece in pieces:
        request.chunk(json.dumps(piece).encode() + b"\n")
    if not whole:
        raise gatelab.Gone
    request.send(b"0\r\n\r\n")


def told(done):
    return [line for line in done.err.splitlines() if line]


@pytest.mark.parametrize("words,path,kind", [(("node", "logs"), "/v1/node/log", {"level": 6}),
                                             (("logs",), "/v1/logs", {"stream": "stdout"})])
def test_who_has_seen_no_line_yet_goes_on_where_the_stream_began(setting, gate, words, path, kind):
    def logs(request):
        asked.append(request.query)
        if len(asked) == 1:
            follow(request, "5-40", [])
        elif len(asked) == 2:
            request.refuse(429, "gate.busy")  # it counts the lost one still
        else:
            follow(request, "5-40", [{"time": 1, **kind, "at": "5-41", "line": "x"}], whole=True)
    asked = []
    gate.routes[path] = logs
    done = setting.croft.run(*words, 1, "web", "--follow", "--tail", 0)
    assert done.out.endswith("x\n") and not done.err, done
    again = {"service": ["web"], "after": ["5-40"], "follow": ["1"]}
    assert asked == [{"service": ["web"], "tail": ["0"], "follow": ["1"]}, again, again]
    # A gate that does not say where: of the same as at first nothing was shown.
    asked.clear()

    def older(request):
        asked.append(request.query)
        request.chunks()
        if len(asked) == 1:
            raise gatelab.Gone
        request.chunk(json.dumps({"time": 1, **kind, "line": "x"}).encode() + b"\n")
        raise gatelab.Gone
    gate.routes[path] = older
    done = setting.croft.run(*words, 1, "web", "--follow", check=False)
    # From then on there is no telling what would come twice.
    assert done.status == 1 and "gate.lost" in done.err and done.out.endswith("x\n") and len(asked) == 2, done
    assert asked[0] == asked[1]
    # Nobody waits for one who was never let in.
    gate.requests.clear()
    gate.routes[path] = lambda request: request.refuse(503, "gate.not-ready")
    done = setting.croft.run(*words, 1, "--follow", "--json", check=False)
    assert done.status == 1 and error_of(done)["code"] == "gate.not-ready", done
    assert len([r for r in gate.requests if r.path == path]) == 1


def test_what_is_missing_of_a_nodes_log_is_said(setting, gate):
    entries = [{"time": 1, "level": 6, "at": "5-41", "line": "a"}, {"time": 2, "level": 6, "at": "5-50", "lost": 8, "line": "b"},
               {"time": 3, "level": 6, "at": "6-3", "lost": 2, "line": "c"}]

    def logs(request):
        asked.append(request.query)
        if len(asked) == 1:
            follow(request, "5-40", entries[:1])
        elif len(asked) == 2:
            follow(request, "5-41", entries[1:2])
        elif len(asked) == 3:
            request.refuse(410, "gate.other-boot", "the node was started anew", "ask without after")
        else:
            follow(request, "6-0", entries[2:], whole=True)
    asked = []
    gate.routes["/v1/node/log"] = logs
    done = setting.croft.run("node", "logs", 1, "--follow", "--tail", 7)
    assert done.out == "info    a\ninfo    b\ninfo    c\n"
    assert told(done) == ["croft: 8 lines are missing here: the node keeps the last ones",
                          "croft: the node was started anew (gate.other-boot)",
                          "croft: 2 lines are missing here: the node keeps the last ones"], done
    # Of the new boot's log all that there is, whatever was asked for of the other's.
    assert asked == [{"tail": ["7"], "follow": ["1"]}, {"after": ["5-41"], "follow": ["1"]}, {"after": ["5-50"], "follow": ["1"]},
                     {"tail": ["1000000"], "follow": ["1"]}]
    asked.clear()
    done = setting.croft.run("node", "logs", 1, "--follow", "--json")
    assert [json.loads(line) for line in done.out.splitlines()] == entries
    assert [json.loads(line)["error"]["code"] for line in told(done)] == ["gate.other-boot"]


def test_lies_in_the_challenge_are_not_signed(setting, gate):
    gate.routes["/v1/logs"] = lambda request: request.lines([])
    lies = {"node": 2, "reservation": 2, "chainId": 1, "reservations": "0x" + "11" * 20}
    for name, value in lies.items():
        gate.change = lambda challenge, name=name, value=value: {**challenge, name: value}
        assert refused(setting, "logs", 1, status=3) == "gate.wrong-challenge", name
    for broken in ({"nonce": "0x12"}, {"node": "1"}, {"expires": -1}, {"nonce": None}):
        gate.change = lambda challenge, broken=broken: {**challenge, **broken}
        assert refused(setting, "logs", 1) == "gate.bad-answer", broken
    assert {r.path for r in gate.requests} == {"/v1/challenge"}  # nothing signed ever left
    gate.change = lambda challenge: challenge
    assert setting.croft.run("logs", 1).status == 0
    gate.routes["/v1/challenge"] = lambda request: request.refuse(429, "gate.busy")
    assert refused(setting, "logs", 1) == "gate.busy"


def test_another_key_or_an_older_tls_gets_nothing(setting, tmp_path):
    (tmp_path / "old").mkdir()
    other = gatelab.Gate(tmp_path, 1, setting.reservations)
    old = gatelab.Gate(tmp_path / "old", 1, setting.reservations, tls=ssl.TLSVersion.TLSv1_2)
    done = setting.croft.run("logs", 1, "--gate", f"127.0.0.1:{other.port}", "--json", check=False)
    assert done.status == 3 and error_of(done)["code"] == "gate.wrong-key", done
    done = setting.croft.run("exec", 1, "--gate", f"127.0.0.1:{other.port}", "--json", "--", "true", check=False)
    assert done.status == 125 and error_of(done)["code"] == "gate.wrong-key", done
    done = setting.croft.run("logs", 1, "--gate", f"127.0.0.1:{old.port}", "--json", check=False)
    assert done.status == 1 and error_of(done)["code"] == "gate.unreachable", done
    assert not other.requests and not old.requests
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and says nothing
        done = setting.croft.run("logs", 1, "--gate", f"127.0.0.1:{silent.getsockname()[1]}", "--json", check=False)
        assert done.status == 4 and error_of(done)["code"] == "gate.timeout", done
        port = silent.getsockname()[1]
    done = setting.croft.run("logs", 1, "--gate", f"127.0.0.1:{port}", "--json", check=False)
    assert done.status == 1 and error_of(done)["code"] == "gate.unreachable", done
    other.close()
    old.close()


def test_the_addresses_are_tried_until_one_has_the_key(setting, tmp_path):
    """Of four registered addresses the first takes connections and says nothing, the second refuses them, at the third sits
    somebody else, and the fourth is the node."""
    net = setting.net
    (tmp_path / "other").mkdir()
    silent = socket.create_server((f"{net}.1", 4443))
    other = gatelab.Gate(tmp_path / "other", 2, setting.reservations, (f"{net}.3"), port=4443)
    right = gatelab.Gate(tmp_path, 2, setting.reservations, f"{net}.4", port=4443)
    node = setting.register(b"node of many addresses", right.key_hash, [f"{net}.{i}" for i in (1, 2, 3, 4)])
    right.node = node
    right.routes["/v1/node/log"] = lambda request: request.lines([{"time": 1, "level": 6, "line": "up"}])
    done = setting.plain.run("node", "logs", node, "core0")
    assert done.out == "info    up\n" and right.requests[-1].query == {"service": ["core0"]}, done
    assert not other.requests
    # Without the right one, the most telling reason is the one that is said.
    right.close()
    done = setting.plain.run("node", "logs", node, "--json", check=False)
    assert done.status == 3 and error_of(done)["code"] == "gate.wrong-key", done
    other.close()
    silent.close()


# -- the rest of the calls

def test_what_the_node_says_stands_beside_the_chain(setting, gate):
    def signed(method, body):
        def route(request):
            assert gate.signed_by(request, KEY, method)
            request.answer(200, body)
        return route
    gate.routes["/v1/status"] = signed("status", {"containers": [{"service": "web", "state": "running"}]})
    gate.routes["/v1/node"] = signed("node", {"hardware": {"cores": 4}})
    gate.routes["/v1/restart"] = signed("restart", {})
    shown = setting.croft.json("reservation", "show", 1)
    assert shown["live"] == {"containers": [{"service": "web", "state": "running"}]} and shown["transitions"]
    assert setting.croft.json("node", "show", 1)["live"] == {"hardware": {"cores": 4}}
    assert setting.croft.json("reservation", "restart", 1, "web")["restarted"] is True
    assert gate.requests[-1].verb == "POST" and json.loads(gate.requests[-1].body) == {"service": "web"}
    setting.croft.json("reservation", "restart", 1)
    assert json.loads(gate.requests[-1].body) == {}
    # Who is neither the farmer nor the tenant is not told, and nobody is asked.
    count = len(gate.requests)
    stranger = cli.Cli({**setting.croft.env, "CROFT_KEY_FILE": setting.folder / "key1"}, setting.folder)
    for one in (stranger, cli.Cli({**setting.croft.env, "CROFT_KEY_FILE": ""}, setting.folder)):
        assert "live" not in one.json("node", "show", 1) and "live" not in one.json("reservation", "show", 1)
    assert "live" not in setting.croft.json("node", "show", 1, "--chain-only")
    assert len(gate.requests) == count
    # A node that does not answer costs a few seconds, and nothing else.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for words in (["node", "show", 1], ["reservation", "show", 1]):
            shown = setting.croft.json(*words, "--gate", f"127.0.0.1:{silent.getsockname()[1]}")
            assert shown["live"]["error"]["code"] == "gate.timeout" and shown["state"], shown
    gate.routes["/v1/node"] = lambda request: request.refuse(503, "core.stopping", "it stops")
    assert setting.croft.json("node", "show", 1)["live"]["error"] == {"code": "core.stopping", "message": "it stops"}


# -- exec

def exec_route(gate, talk):
    def route(request):
        assert gate.signed_by(request, KEY, "exec")
        request.upgrade()
        talk(request)
    gate.routes["/v1/exec"] = route


def until_eof(request):
    data, controls = b"", []
    while True:
        channel, value = request.read_message()
        if channel == INPUT:
            data += value
        else:
            controls.append(value)
            if value.get("eof"):
                return data, controls


def test_exec_hands_on_words_streams_and_status(setting, gate):
    def talk(request):
        data, _ = until_eof(request)
        request.message(OUTPUT, b"out\n" + data)
        request.message(ERROR, b"err\x9b\n" if data else b"err\n")
        request.exit(42)
    exec_route(gate, talk)
    words = ["sh", "-c", "echo 'a b' & $X; \u00fc", "", "-n", "--json", "--", "100%"]
    done = setting.croft.run("exec", 1, "web", "--user", "www-data:33", "--workdir", "/a b", "--env", "A=1", "--env", "B=x=y &", "--",
                             *words, check=False)
    assert (done.status, done.out, done.err) == (42, "out\n", "err\n"), done  # standard input was not asked for: the command finds it closed
    assert gate.requests[-1].query == {"service": ["web"], "user": ["www-data:33"], "workdir": ["/a b"], "env": ["A=1", "B=x=y &"],
                                       "arg": words}
    p = setting.popen("exec", 1, "-i", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = p.communicate(b"input\x00", timeout=60 * FACTOR)
    assert (p.returncode, out, err) == (42, b"out\ninput\x00", b"err\x9b\n")
    p = setting.popen("exec", 1, "-i", "--", "cat", stdin=open(setting.folder / "compose.yml", "rb"), stdout=subprocess.PIPE)
    assert p.communicate(timeout=60 * FACTOR)[0] == b"out\n" + COMPOSE.encode()
    for words in (["exec", 1], ["exec", 1, "web"], ["exec", 1, "--"], ["exec", "--", "x"], ["exec", 1, "a", "b", "--", "x"],
                  ["exec", 1, "-x", "--", "x"], ["exec", 1, "-tT", "--", "x"], ["exec", "x", "--", "x"],
                  ["exec", 1, "--env", "A", "--", "x"]):
        done = setting.croft.run(*words, check=False)
        assert done.status == 125 and done.err.startswith("croft: "), (words, done)


def test_ten_megabytes_go_both_ways_at_once(setting, gate):
    data = random.Random(1).randbytes(10 << 20)

    def talk(request):
        lock, received = threading.Lock(), hashlib.sha256()

        def send():
            for at in range(0, len(data), 50000):
                with lock:
                    request.message(OUTPUT, data[at:at + 50000])
        thread = threading.Thread(target=send)
        thread.start()
        while True:
            channel, value = request.read_message()
            if channel == CONTROL and value.get("eof"):
                break
            received.update(value)
        thread.join()
        request.message(ERROR, received.hexdigest().encode())
        request.exit(0)
    exec_route(gate, talk)
    p = setting.popen("exec", 1, "-i", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = p.communicate(data, timeout=300 * FACTOR)
    assert p.returncode == 0 and err.decode() == hashlib.sha256(data).hexdigest() and out == data


def test_who_does_not_read_holds_the_gate_up_and_not_the_memory(setting, gate):
    sent, go_on = [0], threading.Event()

    def talk(request):
        until_eof(request)
        piece = bytes(60000)
        for _ in range(1000):
            request.message(OUTPUT, piece)
            sent[0] += len(piece)
        request.exit(0)
    exec_route(gate, talk)
    p = setting.popen("exec", 1, "--", "yes", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    wait("the gate to be held up", lambda: sent[0] > 0 and [time.sleep(0.5), sent[0]][1] == sent[0])
    held = sent[0]
    assert held < 30_000_000  # what lies in the buffers of two sockets, a pipe and the queue
    resident = int(open(f"/proc/{p.pid}/statm").read().split()[1]) * 4096
    assert resident < 32 << 20
    go_on.set()
    assert len(p.stdout.read()) == 60_000_000 and p.wait(60 * FACTOR) == 0
    # And a reader that goes away ends it, as it ends every program.
    p = setting.popen("exec", 1, "--", "yes", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert p.stdout.read(10)
    p.stdout.close()
    assert p.wait(60 * FACTOR) == -signal.SIGPIPE


def test_signals_go_to_the_command_and_the_third_to_ourselves(setting, gate):
    seen, started = [], threading.Event()

    def talk(request):
        request.message(OUTPUT, b"ready\n")
        while True:
            channel, value = request.read_message()
            if channel == CONTROL and "signal" in value:
                seen.append(value["signal"])
                if value["signal"] == "TERM":
                    request.exit(128 + 15)
                    return
            started.set()
    exec_route(gate, talk)

    def start():
        p = setting.popen("exec", 1, "--", "x", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert p.stdout.readline() == b"ready\n"
        return p
    p = start()
    for number, name in ((signal.SIGUSR1, "USR1"), (signal.SIGHUP, "HUP"), (signal.SIGTERM, "TERM")):
        p.send_signal(number)
        wait(name, lambda name=name: seen and seen[-1] == name or p.poll() is not None)
    assert p.wait(60 * FACTOR) == 143 and seen == ["USR1", "HUP", "TERM"]
    seen.clear()
    p = start()
    for count in (1, 2):
        p.send_signal(signal.SIGINT)
        wait("the signal", lambda count=count: len(seen) == count)
    p.send_signal(signal.SIGINT)
    assert p.wait(60 * FACTOR) == -signal.SIGINT and seen == ["INT", "INT"]


class Terminal:
    """croft exec on a terminal of its own, as a person has it."""

    def __init__(self, setting, *args, rows=33, columns=101):
        self.ours, self.theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.theirs)
        self.process = setting.popen("exec", 1, *args, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
                                     start_new_session=True)
        self.text = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, wanted):
        end = time.monotonic() + 60 * FACTOR
        while wanted not in self.text:
            assert time.monotonic() < end and select.select([self.ours], [], [], 60 * FACTOR)[0], self.text
            self.text += os.read(self.ours, 65536)

    def restored(self):
        return termios.tcgetattr(self.theirs) == self.before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(setting, gate):
    made = []

    def make(*args, **options):
        made.append(Terminal(setting, *args, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def test_a_terminal_is_handed_on_whole_and_given_back(gate, terminal):
    got = []

    def talk(request):
        request.message(OUTPUT, b"\x1b[1mready\x1b[0m\r\n")
        while True:
            channel, value = request.read_message()
            got.append((channel, value))
            if channel == INPUT and b"q" in value:
                request.exit(7)
                return
    exec_route(gate, talk)
    one = terminal("web", "--", "top")
    one.read_until(b"\x1b[1mready\x1b[0m\r\n")  # to the program's own output the terminal listens
    query = gate.requests[-1].query
    assert (query["tty"], query["rows"], query["columns"], query["term"]) == (["1"], ["33"], ["101"], ["xterm"])
    assert not one.restored()
    os.write(one.ours, b"\x03\x1a\x04\r")  # Ctrl-C, Ctrl-Z, Ctrl-D, Enter: bytes for the other side
    wait("the bytes", lambda: b"".join(v for c, v in got if c == INPUT) == b"\x03\x1a\x04\r")
    one.resize(20, 60)
    os.kill(one.process.pid, signal.SIGWINCH)
    wait("the size", lambda: (CONTROL, {"resize": {"rows": 20, "columns": 60}}) in got)
    os.write(one.ours, b"q")
    assert one.process.wait(60 * FACTOR) == 7 and one.restored()
    assert not any(c == CONTROL and ("eof" in v or "signal" in v) for c, v in got)


def test_however_it_ends_the_terminal_is_given_back(gate, terminal):
    def talk(request):
        request.message(OUTPUT, b"ready\r\n")
        while True:
            channel, value = request.read_message()
            if value == b"x":
                raise gatelab.Gone
            if value == b"c":
                request.control(error={"code": "container.not-found", "message": "no such program", "hint": ""})
    exec_route(gate, talk)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT):
        one = terminal("--", "top")
        one.read_until(b"ready\r\n")
        assert not one.restored()
        one.process.send_signal(number)
        assert one.process.wait(60 * FACTOR) == -number and one.restored(), number
    for byte, code in ((b"x", b"gate.lost"), (b"c", b"container.not-found")):
        one = terminal("--", "top")
        one.read_until(b"ready\r\n")
        os.write(one.ours, byte)
        assert one.process.wait(60 * FACTOR) == 125 and one.restored()
        one.read_until(b"(" + code + b")")
    # Stopped and continued, as by a shell: raw again.
    one = terminal("--", "top")
    one.read_until(b"ready\r\n")
    one.process.send_signal(signal.SIGTSTP)
    wait("the stop", lambda: open(f"/proc/{one.process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
    assert one.restored()
    one.process.send_signal(signal.SIGCONT)
    wait("the raw mode", lambda: not one.restored())
    # -T on a terminal: none at the other side, and Ctrl-C is a signal of ours that goes over as one.
    one = terminal("-T", "--", "top")
    one.read_until(b"ready\r\r\n")
    assert one.restored() and "tty" not in gate.requests[-1].query


def test_broken_frames_and_messages_end_it_with_125(setting, gate):
    cases = {
        "text": lambda r: r.frame(gatelab.TEXT, b"hello"),
        "no channel": lambda r: r.frame(gatelab.BINARY, b""),
        "an unknown channel": lambda r: r.message(9, b"x"),
        "our own channel": lambda r: r.message(INPUT, b"x"),
        "a control that is no JSON": lambda r: r.message(CONTROL, b"{"),
        "a status that is none": lambda r: r.control(exit=300),
        "a negative status": lambda r: r.control(exit=-1),
        "a reserved opcode": lambda r: r.frame(3, b"x"),
        "a masked frame": lambda r: r.send(b"\x82\x81abcdx"),
        "2 MiB at once": lambda r: r.message(OUTPUT, bytes(2 << 20)),
        "an end without a status": lambda r: r.frame(gatelab.CLOSE, b"\x03\xe8"),
        "half a frame": lambda r: r.send(b"\x82\x7e\x01"),
        "a ping too large": lambda r: r.send(b"\x89\x7e\x00\xff" + bytes(255)),
    }
    for what, act in cases.items():
        def talk(request, act=act):
            until_eof(request)
            act(request)
            raise gatelab.Gone
        exec_route(gate, talk)
        done = setting.croft.run("exec", 1, "--json", "--", "x", check=False)
        assert done.status == 125 and error_of(done)["code"] in ("gate.bad-answer", "gate.lost"), (what, done)
    # Refused before it begins: the reason stands in a header.
    for number, code in ((403, "gate.not-allowed"), (404, "gate.which-service"), (401, "gate.bad-challenge")):
        gate.routes["/v1/exec"] = lambda request, number=number, code=code: request.refuse(number, code, "because \x1b[1m")
        done = setting.croft.run("exec", 1, "--json", "--", "x", check=False)
        assert done.status == 125 and error_of(done) == {"code": code, "message": "because \\x1b[1m", "hint": "ask"}, done
    gate.routes["/v1/exec"] = lambda request: request.answer(403, b"")  # a proxy, say
    assert refused(setting, "exec", 1, "--", "x", status=125) == "gate.not-allowed"
    gate.routes["/v1/exec"] = lambda request: request.answer(500, b"")
    assert refused(setting, "exec", 1, "--", "x", status=125) == "gate.bad-answer"
    gate.routes["/v1/exec"] = lambda request: request.upgrade("croft.other.v1")
    assert refused(setting, "exec", 1, "--", "x", status=125) == "gate.lost"


def keystore(file, key, password):
    """Web3 Secret Storage, version 3, with PBKDF2."""
    salt, iv = os.urandom(32), os.urandom(16)
    derived = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1000, 32)
    cipher = subprocess.run(["openssl", "enc", "-aes-128-ctr", "-K", derived[:16].hex(), "-iv", iv.hex()],
                            input=key.to_bytes(32, "big"), capture_output=True, check=True).stdout
    kdf = {"c": 1000, "dklen": 32, "prf": "hmac-sha256", "salt": salt.hex()}
    file.write_text(json.dumps({"version": 3, "id": "0", "crypto": {
        "cipher": "aes-128-ctr", "cipherparams": {"iv": iv.hex()}, "ciphertext": cipher.hex(), "kdf": "pbkdf2", "kdfparams": kdf,
        "mac": primitives.keccak256(derived[16:] + cipher).hex()}}))


def test_the_password_comes_from_the_terminal_and_not_from_what_is_handed_on(setting, gate, tmp_path):
    def talk(request):
        request.message(OUTPUT, until_eof(request)[0])
        request.exit(0)
    exec_route(gate, talk)
    keystore(tmp_path / "key.json", KEY, "a secret")
    ours, theirs = pty.openpty()
    p = setting.popen("exec", 1, "-i", "--key-file", tmp_path / "key.json", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                      start_new_session=True, preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0))
    text = b""
    while b"Password" not in text:
        assert select.select([ours], [], [], 60 * FACTOR)[0]
        text += os.read(ours, 1000)
    wait("the echo to be off", lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO)
    os.write(ours, b"a secret\n")
    assert p.communicate(b"a secret, or not\n", timeout=60 * FACTOR)[0] == b"a secret, or not\n" and p.returncode == 0
    assert b"secret" not in text + os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)
    # Nobody to ask: it is said, and what would ask only if it can leaves it out.
    done = setting.croft.run("logs", 1, "--key-file", tmp_path / "key.json", check=False)
    assert done.status == 1 and "key.no-password" in done.err, done
    assert "live" not in setting.croft.json("reservation", "show", 1, "--key-file", tmp_path / "key.json")
