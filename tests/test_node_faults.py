"""The Node pair under the same faults as the Python pair."""

import pytest
from chain import sent, stop_producers
from helpers import wait_until
from node_chain import NodeChain, skip_without_node
from test_faults import (  # noqa: F401 (pytest runs them with this module's chain)
    SLOW,
    assert_all_arrives,
    lines_with,
    stand_in,
    test_backlog_full,
    test_backlog_full_is_said_once_while_a_slow_database_keeps_it_full,
    test_connection_cut_and_the_database_away,
    test_database_killed_in_the_middle_of_a_batch,
    test_database_that_accepts_and_says_nothing,
    test_disk_full,
    test_late_rows_that_come_between_two_reads_are_shown_once,
    test_pace_too_fast_for_the_databases_precision,
    test_replies_that_take_a_second_for_a_minute,
    test_requests_and_replies_lost_on_their_way,
    test_silent_from_the_start,
    test_stopped_while_the_database_is_away,
    test_table_or_database_dropped_while_running,
    test_what_was_kept_is_still_sent_after_sigterm,
    test_wrong_password,
)

skip_without_node()


@pytest.fixture
def chain(database, tmp_path, source):
    """A chain that reaches the database by way of chain.proxy."""
    with database.proxy() as proxy, NodeChain(database, tmp_path, dsn=database.through(proxy)) as chain:
        chain.proxy = proxy
        yield chain


def test_table_of_another_shape(chain):
    chain.database.query("CREATE DATABASE {db} PRECISION 'ns'")
    chain.database.query("CREATE TABLE {db}.stocks_values (`timestamp` TIMESTAMP, price FLOAT)")
    producer = chain.producer()
    assert producer.wait(15) == 1, producer.log()
    assert "another shape" in producer.stderr()


def test_database_comes_later(chain):
    chain.proxy.refuse()
    server, producer = chain.server(), chain.producer(*SLOW)
    viewer = chain.viewer()
    for process, text in ((producer, "waiting for TDengine"), (server, "TDengine does not answer")):
        wait_until(lambda p=process, t=text: lines_with(t, p), 10, process.log)
    polls = chain.table()["failed_polls"]
    wait_until(lambda: chain.table()["failed_polls"] >= polls + 5, 20, "it tries on")
    assert chain.health()["status"] == "waiting"
    chain.proxy.go_on()
    chain.wait_for_rows(100, 20)
    for process, text in ((producer, "waiting for TDengine"), (server, "TDengine does not answer")):
        assert len(lines_with(text, process)) == 1, process.log()
    assert_all_arrives(chain, viewer, producer)


def test_what_has_piled_up_is_sent_quickly_when_the_database_is_back(chain):
    producer = chain.producer("--rows", "10", "--interval", "20")
    wait_until(lambda: lines_with("rows sent", producer), 30, producer.log)
    chain.proxy.refuse()
    wait_until(lambda: kept_rows(producer) > 3000, 60, producer.log)
    chain.proxy.go_on()
    wait_until(lambda: lines_with("connected to", producer), 10, producer.log)
    stop_producers(producer)  # a batch a request would take longer than is left then
    assert sent(producer) == chain.database.count()


def kept_rows(producer):
    lines = lines_with(" kept, ", producer)
    return int(lines[-1].split(" kept, ")[0].split(", ")[-1].replace(",", "")) if lines else 0
