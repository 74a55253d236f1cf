"""Servers of the key-value tests: each test has what it starts ended, and its log shown when it fails."""
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import kvlab  # noqa: E402


@pytest.fixture
def kvd():
    """kvd(option…, listen=…, password=…): a server that runs until the test is over."""
    folder = tempfile.mkdtemp(prefix="croft-kv-")
    made = []

    def make(*options, start=True, **more):
        server = kvlab.Kvd(f"{folder}/{len(made)}", *options, **more)
        made.append(server)
        return server.start() if start else server

    yield make
    try:
        for server in made:
            server.end()
    finally:
        for server in made:
            if server.log.exists():
                print(server.log.read_text()[-4000:])
        shutil.rmtree(folder, ignore_errors=True)
