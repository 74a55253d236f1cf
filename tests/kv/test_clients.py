"""Other people's clients: redis-cli, redis-benchmark, redis-py with hiredis, openssl; and Prometheus' form."""
import re
import socket
import ssl
import stat
import subprocess
import time

import hiredis
import pytest
import redis
from kvlab import Client


def cli(server, *arguments, stdin=None, more=()):
    done = subprocess.run(["redis-cli", "-p", str(server.port), *more, *arguments], input=stdin, text=True,
                          capture_output=True, timeout=20)
    return done.stdout.rstrip("\n")


def test_redis_cli(kvd):
    s = kvd()
    assert cli(s, "PING") == "PONG"
    assert cli(s, "SET", "greeting", "hello") == "greeting"
    assert cli(s, "GET", "greeting") == "hello"
    assert cli(s, "--no-raw", "SET", "greeting", "hello") == "(nil)"
    assert cli(s, "--no-raw", "EXISTS", "greeting") == "(integer) 1"
    assert cli(s, "-x", "SET", "big", stdin="x" * 100000) == "big"
    assert cli(s, "--no-raw", "LENGTH", "big") == "(integer) 100000"
    assert cli(s, stdin="SET a 1\nGET a\nNSLIST\n").split() == ["a", "1", "default"]
    assert "ERR kv.condition-failed" in cli(s, "SET", "a", "2", "NX")
    # what a script with --pipe sends
    mass = "".join(f"*3\r\n$3\r\nSET\r\n${len(f'm{i}')}\r\nm{i}\r\n$1\r\n{i % 10}\r\n" for i in range(5000))
    done = subprocess.run(["redis-cli", "-p", str(s.port), "--pipe"], input=mass, text=True, capture_output=True, timeout=30)
    assert cli(s, "DBSIZE") == "5003", done


def test_redis_benchmark(kvd):
    s = kvd("--workers", "2")
    for pipeline in ("1", "64"):
        done = subprocess.run(["redis-benchmark", "-p", str(s.port), "-q", "-n", "20000", "-P", pipeline, "-r", "1000",
                               "SET", "key:__rand_int__", "v" * 88 + "__rand_int__"],
                              capture_output=True, text=True, timeout=60)
        assert re.search(r"[\d.]+ requests per second", done.stdout), done
        done = subprocess.run(["redis-benchmark", "-p", str(s.port), "-q", "-n", "20000", "-P", pipeline, "-r", "1000",
                               "-t", "ping,set,get"], capture_output=True, text=True, timeout=60)
        assert "rror" not in done.stdout, done.stdout
    assert Client(("127.0.0.1", s.port))("DBSIZE") >= 900


def test_redis_py(kvd):
    s = kvd(password="root")
    r = redis.Redis(port=s.port, password=None, decode_responses=False)
    assert r.ping() is True
    assert isinstance(r.connection_pool.get_connection("x")._parser, redis.connection.HiredisParser)
    with pytest.raises(redis.ResponseError, match="Namespace is in read-only mode"):
        r.set("a", "1")
    r = redis.Redis(port=s.port, password="root")  # sends AUTH first
    # redis-py makes a truth value of what SET answers; under its other name it is left alone, as with 0-db
    assert r.execute_command("SETX", "a", "1") == b"a"
    assert r.get("a") == b"1"
    assert r.mget("a", "b") == [b"1", None]
    assert r.exists("a") == 1
    pipe = r.pipeline(transaction=False)
    for i in range(1000):
        pipe.execute_command("SETX", f"p{i}", i)
    assert pipe.execute() == [b"p%d" % i for i in range(1000)]
    cursor, items = r.execute_command("SCAN", "0")  # redis-py reads the cursor as a number
    assert isinstance(cursor, int) and items[0][0] == b"a"
    assert r.execute_command("SCAN", str(cursor))[1][0][0] == b"p%d" % (len(items) - 1)
    with pytest.raises(redis.ResponseError, match="^kv.condition-failed "):
        r.execute_command("SET", "p1", "x", "NX")


def test_hiredis_reads_every_kind_of_answer(kvd):
    s = kvd()
    sock = socket.create_connection(("127.0.0.1", s.port), 10)
    reader = hiredis.Reader()
    sock.sendall(b"".join(Client.pack(*c) for c in (("SET", "a", "1"), ("SCAN",), ("HISTORY", "a"), ("NSLIST",), ("HELP",),
                                                      ("GET", "none"), ("NOPE",), ("DBSIZE",), ("TIME",))))
    got = []
    while len(got) < 9:
        reader.feed(sock.recv(65536))
        while (answer := reader.gets()) is not False:
            got.append(answer)
    assert got[0] == b"a" and got[1][1][0][0] == b"a" and got[2][0] is None and got[3] == [b"default"]
    assert got[5] is None and isinstance(got[6], hiredis.ReplyError) and got[7] == 1 and len(got[8]) == 2


def test_unix_socket(kvd, tmp_path):
    path = tmp_path / "kv.sock"
    s = kvd(listen=(f"unix:{path}", "tcp:127.0.0.1:0"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    c = Client(path)
    assert c("SET", "a", "1") == b"a"
    done = subprocess.run(["redis-cli", "-s", path, "GET", "a"], capture_output=True, text=True, timeout=10)
    assert done.stdout == "1\n"
    c.close()
    s.kill()  # the socket stays behind, and does not keep the next one out
    assert path.exists()
    s.start()
    c = Client(path)
    assert c("GET", "a") == b"1"
    c.close()
    s.stop()
    assert not path.exists()


# ---- metrics ----

def test_metrics(kvd):
    s = kvd(metrics=True)
    c = s.client()
    c("NSNEW", 'od"d\\name')
    c("SELECT", 'od"d\\name')
    c("SET", "a", "12345")
    c("GET", "a")
    c("GET", "none")
    c.error("NOPE")
    values = s.fetch_metrics()
    assert values["kvd_commands_total"] >= 5
    assert values["kvd_commands_failed_total"] == 1
    assert values["kvd_clients"] == 1
    assert values["kvd_sets_total"] == 1 and values["kvd_gets_total"] == 2 and values["kvd_hits_total"] == 1
    assert values["kvd_disk_failed"] == 0 and values["kvd_disk_free_bytes"] > 0
    odd = '{namespace="od\\"d\\\\name"}'
    assert values["kvd_namespace_keys" + odd] == 1
    assert values["kvd_namespace_data_bytes" + odd] == 6
    before = values["kvd_received_bytes_total"]
    c("PING")
    assert s.fetch_metrics()["kvd_received_bytes_total"] > before


def test_options_are_checked(kvd):
    for options in (["--sync", "sometimes"], ["--mode", "odd"], ["--workers", "0"], ["--max-value", "99999999"],
                    ["--max-memory", "1000"], ["--tls-cert", "x"], ["--nope"], ["--listen", "carrier:pigeon"]):
        s = kvd(*options, start=False)
        begin = time.monotonic()
        with pytest.raises(AssertionError, match="did not start"):
            s.start()
        assert time.monotonic() - begin < 10 and s.log.read_text(), options
