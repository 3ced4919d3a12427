"""The Node pair: the same counts as with the Python pair."""

import pytest
from chain import Chain, assert_each_row_shown_once, sent
from node_chain import NodeChain, skip_without_node
from test_counts import (  # noqa: F401 (pytest runs them with this module's chain)
    test_a_database_of_another_precision,
    test_an_existing_table_keeps_its_rows_unless_reset,
    test_both_datasets_at_once,
    test_rows_from_before_the_servers_start_are_not_shown,
    test_ten_times_the_default_pace,
    test_two_producers_at_once,
    test_two_subtables_with_the_same_timestamp,
    test_without_an_interval_rows_go_as_fast_as_they_are_taken,
)

skip_without_node()


@pytest.fixture
def chain(database, tmp_path, source):
    with NodeChain(database, tmp_path) as chain:
        yield chain


@pytest.mark.parametrize("dataset", ["stocks", "meters"])
def test_default_pace(chain, dataset):
    chain.server("--dataset", dataset, limit=4000)
    viewer = chain.viewer(dataset)
    producer = chain.producer("--dataset", dataset, "--batches", 40)
    assert producer.wait(40) == 0, producer.log()
    assert sent(producer) == 10_000
    assert_each_row_shown_once(chain, viewer, 10_000, dataset)
    assert chain.table(dataset)["full_polls"] == 0


def test_a_python_producer_and_a_node_producer_at_once(chain, database, tmp_path):
    """They write the same tables, and either server reads them."""
    chain.server(limit=20_000)
    viewer = chain.viewer()
    with Chain(database, tmp_path) as python_chain:
        producers = [chain.producer("--batches", 20), python_chain.producer("--batches", 20)]
        for producer in producers:
            assert producer.wait(40) == 0, producer.log()
        assert_each_row_shown_once(chain, viewer, sent(*producers))


@pytest.mark.parametrize("number", [2, 15])
def test_signals_end_both_cleanly(chain, number):
    server, producer = chain.server(), chain.producer()
    viewer = chain.viewer()
    chain.wait_for_rows(500, 30)
    producer.signal(number)
    assert producer.wait(6) == 0, producer.log()
    assert_each_row_shown_once(chain, viewer, sent(producer))
    server.signal(number)
    assert server.wait(3) == 0, server.log()
    assert viewer.process.wait(5) == 1
    assert "1001" in viewer.process.stderr()
