"""One chain of its own for every test."""
import pytest

import world as lab


@pytest.fixture
def bare_world(tmp_path):
    """Contracts, and nothing else."""
    lab.build_tools()
    made = lab.World(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def world(bare_world):
    bare_world.create_farm()
    bare_world.create_token()
    return bare_world
