"""What tests ask for by name."""

import pytest
from chain import Database


@pytest.fixture
def database(tmp_path):
    """A chain.Database: TDengine at TDENGINE_DSN, or else a stand-in on a free port, its name in use nowhere else."""
    database = Database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def source():
    """Where the server's rows come from, unless a test is parametrized over chain.SOURCES."""
    return "poll"


def pytest_collection_modifyitems(items):
    """Leaves out the Node pair's tests over the source that it has not: it only polls."""
    items[:] = [item for item in items if not ("test_node" in item.nodeid and source_of(item) == "subscribe")]


def source_of(item):
    return item.callspec.params.get("source") if hasattr(item, "callspec") else None
