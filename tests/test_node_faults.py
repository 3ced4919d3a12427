"""What goes wrong between TDengine and the Node pair, and that nothing is lost, doubled or frozen by it."""

import signal

import pytest
from chain import assert_each_row_shown_once, behind_a_proxy, sent, stop_producers
from helpers import wait_until
from node_chain import NodeChain, skip_without_node
from test_exhaustion import with_limit
from test_faults import (  # noqa: F401 (pytest runs them with this module's chain)
    SLOW,
    lines_with,
    stand_in,
    test_a_backlog_that_is_full_and_requests_and_replies_lost_on_their_way,
    test_a_table_of_more_columns_is_still_served_and_keeps_its_rows,
    test_database_killed_in_the_middle_of_a_batch_and_its_disk_full,
    test_database_that_accepts_and_says_nothing,
    test_faults_at_random,
    test_replies_that_take_a_second,
    test_stopped_while_the_database_is_away,
    test_table_of_other_columns_ends_the_producer_and_its_first_row_is_shown_though_late,
    test_table_or_database_dropped_while_running,
    test_the_database_comes_later_and_goes_and_comes_back,
    test_wrong_password,
)

skip_without_node()


@pytest.fixture
def chain(database, tmp_path, source):
    """A chain that reaches the database by way of chain.proxy."""
    with behind_a_proxy(NodeChain, database, tmp_path) as chain:
        yield chain


@pytest.fixture
def chains(chain):
    return [chain]  # it only polls


def test_descriptors_that_are_used_up_and_free_again_lose_nothing(chain):
    server, producer = chain.server(), chain.producer(*SLOW)
    viewer = chain.viewer()
    chain.wait_for_rows(100, 30)
    give_back = [with_limit(process.pid, "nofile", 3) for process in (server, producer)]
    chain.proxy.cut()
    wait_until(lambda: lines_with("EMFILE", server) and lines_with("EMFILE", producer), 20, server.log)
    for each in give_back:
        each()
    chain.wait_for_rows(200, 30)
    stop_producers(producer)
    assert_each_row_shown_once(chain, viewer, sent(producer))
    server.signal(signal.SIGTERM)
    assert server.ends_within(10) == 0, server.log()
