"""One chain of its own for every test."""
import pytest

import world as lab


@pytest.fixture
def world(tmp_path):
    lab.build_tools()
    made = lab.World(tmp_path)
    made.create_farm()
    made.create_token()
    yield made
    made.stop()
