"""The Node pair: what the Python pair promises about rows, run with Node's producer and server."""

import subprocess

import pytest
from chain import SHOWN, Chain, assert_each_row_shown_once, sent
from helpers import wait_until
from node_chain import NODE, NodeChain, skip_without_node
from test_counts import (  # noqa: F401 (pytest runs them with this module's chain)
    test_history_is_there_with_the_first_rows_and_live_rows_follow_in_milliseconds,
    test_of_a_history_larger_than_the_limit_the_newest_rows_are_shown,
    test_rows_from_before_the_servers_start_are_not_shown,
    test_two_producers_of_each_dataset_at_ten_times_the_default_pace_and_rows_that_are_special,
    test_while_nobody_looks_polls_come_rarely_and_no_row_is_missed,
)

skip_without_node()


@pytest.fixture
def chain(database, tmp_path, source):
    with NodeChain(database, tmp_path) as chain:
        yield chain


@pytest.fixture
def chains(chain):
    return [chain]  # it only polls


@pytest.mark.timeout(300)
def test_the_modules_by_themselves():
    done = subprocess.run(["npm", "test", "--prefix", NODE], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout


VIEWS = {  # of each dataset; maxima, as a sum of floats depends on the order in which two producers' rows come
    "stocks": {"group_by": ["ticker", "client"], "aggregates": dict.fromkeys(["open", "high", "low", "close"], "max")},
    "meters": {"group_by": ["location"], "aggregates": dict.fromkeys(["current", "phase"], "max")},
}


def test_each_server_shows_the_same_of_the_same_rows_which_both_producers_send_at_once(chain, database, tmp_path):
    chain.server("--dataset", "all")
    with Chain(database, tmp_path) as python_chain:
        python_chain.server("--dataset", "all")
        viewer = chain.viewer()
        for dataset, view in VIEWS.items():
            producers = [each.producer("--dataset", dataset, "--batches", 4) for each in (chain, python_chain)]
            for producer in producers:
                assert producer.wait(40) == 0, producer.log()
            assert sent(*producers) == 2000
            for each in (chain, python_chain):
                wait_until(lambda each=each, dataset=dataset: each.table(dataset)["rows"] == 2000, 20, each.health)
            assert chain.see(SHOWN[dataset], **view) == python_chain.see(SHOWN[dataset], **view)
            keys = ("columns", "time", "supertable", "dataset", "table", "rows", "held")
            assert [chain.table(dataset)[key] for key in keys] == [python_chain.table(dataset)[key] for key in keys]
        assert chain.health().keys() == python_chain.health().keys()
        assert chain.table().keys() == python_chain.table().keys()
    assert_each_row_shown_once(chain, viewer, 2000)


@pytest.mark.parametrize("dataset", ["stocks", "meters"])
def test_a_seed_makes_the_same_rows_again(chain, dataset):
    columns = {"stocks": "ticker, `close`, volume", "meters": "location, voltage, phase"}[dataset]
    found = []
    for _ in range(2):
        producer = chain.producer("--dataset", dataset, "--batches", 1, "--seed", 7, "--reset")
        assert producer.wait(30) == 0, producer.log()
        table = chain.database.table(dataset)
        key = {"stocks": "`timestamp`", "meters": "ts"}[dataset]
        found.append(chain.database.query(f"SELECT {columns} FROM {{db}}.{table} ORDER BY {key}"))
    assert len(found[0]) == 250
    assert found[0] == found[1]
