"""Conditional writes of concurrent clients, with the server killed meanwhile: every key's history is linearizable."""
import itertools
import random
import threading
import time

import pytest
from kvlab import Client, Error
from linear import linearizable

KEYS, CLIENTS, SECONDS, KILLS = 4, 6, 5, 4


def op(begin, end, kind, argument=None, result=None):
    return (begin, end, kind, argument, result)


def test_the_checker_itself():
    assert linearizable([])
    assert linearizable([op(0, 1, "set", "a", True), op(2, 3, "get", None, "a")])
    assert not linearizable([op(0, 1, "set", "a", True), op(2, 3, "get", None, None)])  # a lost write
    assert not linearizable([op(0, 1, "set", "a", True), op(2, 3, "set", "b", True), op(4, 5, "get", None, "a")])
    assert linearizable([op(0, 9, "set", "a", True), op(1, 2, "get", None, None), op(3, 4, "get", None, "a")])
    assert not linearizable([op(0, 9, "set", "a", True), op(1, 2, "get", None, "a"), op(3, 4, "get", None, None)])  # undone
    # two who both win the same condition
    assert not linearizable([op(0, 5, "nx", "a", True), op(0, 5, "nx", "b", True)])
    assert linearizable([op(0, 5, "nx", "a", True), op(0, 5, "nx", "b", False)])
    assert not linearizable([op(0, 1, "set", "a", True), op(2, 3, "version", None, 7), op(4, 9, "ifeq", ("b", 7), True),
                             op(4, 9, "ifeq", ("c", 7), True)])
    assert linearizable([op(0, 1, "set", "a", True), op(2, 3, "version", None, 7), op(4, 9, "ifeq", ("b", 7), True),
                         op(4, 9, "ifeq", ("c", 7), False)])
    assert not linearizable([op(0, 1, "set", "a", True), op(2, 3, "version", None, 7), op(4, 5, "ifeq", ("b", 7), False)])
    # a version that goes back
    assert not linearizable([op(0, 1, "set", "a", True), op(2, 3, "version", None, 7), op(4, 5, "set", "b", True),
                             op(6, 7, "version", None, 6)])
    # unknown outcomes may have happened or not, but not both
    assert linearizable([op(0, None, "set", "a"), op(1, 2, "get", None, None), op(3, 4, "get", None, "a")])
    assert linearizable([op(0, None, "set", "a"), op(1, 2, "get", None, None)])
    assert not linearizable([op(0, None, "set", "a"), op(1, 2, "get", None, "a"), op(3, 4, "get", None, None)])
    assert not linearizable([op(0, 1, "nx", "a", False)])


class Actor(threading.Thread):
    def __init__(self, server, number, history, stop):
        super().__init__()
        self.server, self.number, self.history, self.stopping = server, number, history, stop
        self.random = random.Random(number)
        self.values = (f"{number}.{i}" for i in itertools.count())
        self.seen = {}
        self.failure = None

    def one(self, client):
        key = f"key{self.random.randrange(KEYS)}"
        kind = self.random.choice(["get", "get", "version", "version", "ifeq", "ifeq", "ifeq", "ifeq", "nx", "xx", "set", "del"])
        argument = None
        request = {"get": ("GET", key), "version": ("VERSION", key), "del": ("DEL", key)}.get(kind)
        if request is None:
            value = next(self.values)
            argument = value
            request = ("SET", key, value)
            if kind == "ifeq":
                argument = (value, self.seen.get(key, 0))
                request += ("IFEQ", argument[1])
            elif kind != "set":
                request += (kind.upper(),)
        entry = [time.monotonic(), None, kind, argument, None]
        self.history[key].append(entry)
        try:
            answer = client(*request)
            if kind == "get":
                answer = answer.decode() if answer is not None else None
            elif kind == "version":
                self.seen[key] = answer or 0
            else:
                assert answer == (b"%s" % key.encode() if kind != "del" else "OK"), (request, answer)
                answer = True
        except Error as e:
            if not (kind == "del" and str(e) == "Key not found"):
                assert str(e).startswith("ERR kv.condition-failed "), (request, e)
                assert kind in ("nx", "xx", "ifeq")
            answer = False
        entry[4] = answer
        entry[1] = time.monotonic()

    def run(self):
        client = None
        while not self.stopping.is_set():
            try:
                client = client or Client(("127.0.0.1", self.server.port), timeout=5)
                self.one(client)
                time.sleep(self.random.random() * 0.004)
            except (OSError, ConnectionError):
                client = None
                time.sleep(0.005)
            except Exception as e:  # noqa: BLE001
                self.failure = e
                return


@pytest.mark.parametrize("workers", [1, 2])
def test_conditional_writes_are_linearizable(kvd, workers):
    s = kvd("--workers", workers, sync="always", listen=("tcp:127.0.0.1:0",))
    # the same port again after each kill
    s.options[s.options.index("tcp:127.0.0.1:0")] = f"tcp:127.0.0.1:{s.port}"
    history = {f"key{i}": [] for i in range(KEYS)}
    stop = threading.Event()
    actors = [Actor(s, i, history, stop) for i in range(CLIENTS)]
    for a in actors:
        a.start()
    for _ in range(KILLS):
        time.sleep(SECONDS / (KILLS + 1))
        s.kill()
        s.start()
    time.sleep(SECONDS / (KILLS + 1))
    stop.set()
    for a in actors:
        a.join()
        assert a.failure is None, a.failure
    done = sum(1 for ops in history.values() for o in ops if o[1] is not None)
    won = sum(1 for ops in history.values() for o in ops if o[2] == "ifeq" and o[4] is True)
    assert done > 200 and won > 20, (done, won)
    for key, ops in history.items():
        assert linearizable([tuple(o) for o in ops]), (key, len(ops))
