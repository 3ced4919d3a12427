"""What tests ask for by name."""

import os
import pathlib
import sys

import pytest
from chain import Chain, Database
from stand_in import Client, StandIn
from xdist.scheduler import LoadScopeScheduling

WITHOUT = str(pathlib.Path(__file__).parent / "without")
sys.path.insert(0, WITHOUT)
# also for all processes that tests start
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [WITHOUT, os.environ.get("PYTHONPATH")]))
Chain.env = {"PYTHONPATH": os.pathsep.join([f"{WITHOUT}_numpy", os.environ["PYTHONPATH"]])}


@pytest.fixture(scope="session")
def shared_stand_in(tmp_path_factory):
    """A chain.Database whose stand-in, if it is one, all tests of this process of pytest's share: starts take time."""
    database = Database(tmp_path_factory.mktemp("shared"))
    yield database
    database.close()


@pytest.fixture
def database(request, tmp_path):
    """A chain.Database, its name in use nowhere else: TDengine at TDENGINE_DSN, or the shared stand-in.

    Tests that kill it, or fill its disk, are marked own_stand_in and have one of their own; TDengine is not killed.
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
LONG_FIRST = """page node_page faults any_table security node_security minimal viewers node_viewers node_any_table
    stand_in_tmq install node_faults clickhouse clickhouse_scripts counts tdengine_server stand_in_attacks node
    exhaustion guides clone deploy feed_sources benchmarks run""".split()
# These mostly wait for what is promised to happen in time.
WAIT = """faults node_faults counts tdengine_server node exhaustion security node_security stand_in_tmq copying
    clickhouse feed_sources""".split()
# One process each: their tests share a site, a database or an environment, which takes seconds to make.
TOGETHER = """page node_page security node_security smuggling minimal tdengine_server stand_in_sql stand_in_statements
    stand_in_attacks stand_in_tmq any_table node_any_table viewers node_viewers clickhouse clickhouse_scripts
    clickhouse_embedded install""".split()


def pytest_collection_modifyitems(items):
    # The Node pair only polls.
    items[:] = [item for item in items if not ("test_node" in item.nodeid and source_of(item) == "subscribe")]
    order = {subject: k for k, subject in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: order.get(subject_of(item.nodeid), len(order)))


def subject_of(nodeid):
    """faults of tests/test_faults.py::test_..."""
    return pathlib.Path(nodeid.partition("::")[0]).stem.removeprefix("test_")


def source_of(item):
    return item.callspec.params.get("source") if hasattr(item, "callspec") else None


class Scheduling(LoadScopeScheduling):
    """Tests go to the next process that is free, those of a file of TOGETHER as one.

    The first processes, one more than there are cores, prefer tests that compute; the others prefer tests that wait.
    """

    def _assign_work_unit(self, node):
        wait = int(node.gateway.id.removeprefix("gw")) > os.cpu_count()
        first = next((scope for scope in self.workqueue if (subject_of(scope) in WAIT) == wait), None)
        if first:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid):
        return nodeid.partition("::")[0] if subject_of(nodeid) in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)
