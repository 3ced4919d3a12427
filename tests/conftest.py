"""What tests ask for by name."""

import os
import pathlib
import sys

import pytest
from chain import Database
from stand_in import Client, StandIn
from xdist.scheduler import LoadScopeScheduling

WITHOUT = str(pathlib.Path(__file__).parent / "without")
sys.path.insert(0, WITHOUT)
# of all that tests start
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [WITHOUT, os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def shared_stand_in(tmp_path_factory):
    """A chain.Database whose stand-in, if it is one, all tests of this process of pytest's share: starts take time."""
    database = Database(tmp_path_factory.mktemp("shared"))
    yield database
    database.close()


@pytest.fixture
def database(request, tmp_path):
    """A chain.Database, its name in use nowhere else: TDengine at TDENGINE_DSN, or the shared stand-in.

    Tests that kill it, or fill its disk, are marked own_stand_in and have one of their own.
    """
    if request.node.get_closest_marker("own_stand_in"):
        database, shared = Database(tmp_path), None
    else:
        shared = request.getfixturevalue("shared_stand_in")
        database = Database(tmp_path, shared)
    yield database
    database.close()
    if shared and shared.process:
        assert shared.process.alive(), shared.process.log()


@pytest.fixture
def source():
    """Where the server's rows come from, unless a test is parametrized over chain.SOURCES."""
    return "poll"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A StandIn for all tests of a module."""
    stand_in = StandIn(tmp_path_factory.mktemp("stand_in"))
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module")
def client(stand_in):
    """A Client of it whose `c` is a connection."""
    client = Client(stand_in.port)
    client.call("c = taosws.connect(DSN)")
    yield client
    client.close()


# What takes longest comes first, so that no process is left alone with it at the end.
LONG_FIRST = ["test_page", "test_node_page", "test_faults", "test_any_table", "test_security", "test_node_security"]
LONG_FIRST += ["test_minimal", "test_viewers", "test_node_viewers", "test_node_any_table", "test_node_faults"]
LONG_FIRST += ["test_counts", "test_node", "test_exhaustion", "test_guides", "test_clone", "test_deploy"]
LONG_FIRST += ["test_feed_sources", "test_install", "test_benchmarks", "test_stand_in_tmq", "test_clickhouse"]
# These mostly wait for what is promised to happen in time.
WAIT = ["test_faults", "test_node_faults", "test_counts", "test_node", "test_exhaustion", "test_security"]
WAIT += ["test_node_security", "test_stand_in_tmq", "test_copying", "test_clickhouse", "test_feed_sources"]
# One process each: their tests share a site, which takes seconds to start and works as long as it is there.
TOGETHER = ["test_page", "test_node_page", "test_security", "test_node_security", "test_smuggling", "test_minimal"]
TOGETHER += ["test_tdengine_server", "test_stand_in_sql", "test_stand_in_statements", "test_stand_in_attacks"]
TOGETHER += ["test_any_table", "test_node_any_table", "test_viewers", "test_node_viewers"]


def pytest_collection_modifyitems(items):
    # The Node pair only polls.
    items[:] = [item for item in items if not ("test_node" in item.nodeid and source_of(item) == "subscribe")]
    items.sort(key=lambda item: LONG_FIRST.index(item.path.stem) if item.path.stem in LONG_FIRST else len(LONG_FIRST))


def source_of(item):
    return item.callspec.params.get("source") if hasattr(item, "callspec") else None


class Scheduling(LoadScopeScheduling):
    """Tests go to the next process that is free, those of a file of TOGETHER as one.

    As many processes as there are cores have those first that compute, the others those that mostly wait.
    """

    def _assign_work_unit(self, node):
        wait = int(node.gateway.id.removeprefix("gw")) >= os.cpu_count()
        first = next((scope for scope in self.workqueue if (self.file(scope) in WAIT) == wait), None)
        if first:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    @staticmethod
    def file(nodeid):
        return pathlib.Path(nodeid.partition("::")[0]).stem

    def _split_scope(self, nodeid):
        return nodeid.partition("::")[0] if self.file(nodeid) in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)
