"""Sent = stored = distinct rows shown, none of them twice: the whole chain, counted at each end."""

import re
import time

import pytest
from chain import SHOWN, Chain, assert_each_row_shown_once, resident_mb, sent, stop_producers, workers
from helpers import python, wait_until

ALL = ["stocks", "meters"]


@pytest.fixture
def chain(database, tmp_path, source):
    with Chain(database, tmp_path) as chain:
        chain.source = source
        yield chain


@pytest.fixture
def chains(chain, database, tmp_path):
    """One chain a source, of the same rows."""
    with Chain(database, tmp_path) as other:
        other.source = "subscribe"
        yield [chain, other]


BIND_NO_NUMBER = """
import sys, time
import taosws

connection = taosws.connect(sys.argv[1])
statement = connection.stmt2_statement()
statement.prepare("INSERT INTO stocks_values (`timestamp`, ticker, open, high, volume) VALUES (?, ?, ?, ?, ?)")
stamps = taosws.nanos_timestamps_to_column([time.time_ns(), time.time_ns() + 1])
values = [taosws.floats_to_column([float(text), 1.5]) for text in ("nan", "inf")]
names, volumes = taosws.nchar_to_column(["NONE", "ONE"]), taosws.unsigned_ints_to_column([1, 1])
statement.bind([taosws.stmt2_bind_param_view(None, None, [stamps, names, *values, volumes])])
print(statement.execute())
"""


def test_two_producers_of_each_dataset_at_ten_times_the_default_pace_and_rows_that_are_special(chains):
    viewers = {}
    for chain in chains:
        chain.server("--dataset", "all")
        viewers |= {(chain, dataset): chain.viewer(dataset) for dataset in ALL}
    producers = [chain.producer("--dataset", dataset, "--batches", 8) for dataset in ALL]
    quick = [chain.producer("--dataset", dataset, "--rows", 2500, "--batches", 6) for dataset in ALL]
    for producer in producers + quick:
        assert producer.wait(60) == 0, producer.log()
        assert sent(producer) == (15_000 if producer in quick else 2000)
    for (chain, dataset), viewer in viewers.items():
        assert_each_row_shown_once(chain, viewer, 17_000, dataset)
    # the same time in ten subtables
    stamp = time.time_ns()
    values = " ".join(f"{{db}}.d_{k} VALUES ({stamp}, {10 + k}, 210, 0.3)" for k in range(10))
    chain.database.query(f"INSERT INTO {values}")
    same = chain.database.query(f"SELECT tbname FROM {{db}}.meters WHERE ts = {stamp}")
    assert len({name for (name,) in same}) == 10
    # a row whose float is no number is shown and holds nothing up
    dsn = f"{chain.database.dsn}/{chain.database.name}?read_timeout=10"
    done = python("-c", BIND_NO_NUMBER, dsn)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    for (chain, dataset), viewer in viewers.items():
        assert_each_row_shown_once(chain, viewer, {"stocks": 17_002, "meters": 17_010}[dataset], dataset)
        assert (chain.table(dataset)["missed_rows"], chain.table(dataset)["error"]) == (0, None)
    for chain in chains:
        assert set(chain.health()["tables"]) == {SHOWN[dataset] for dataset in ALL}


def test_without_an_interval_rows_go_as_fast_as_they_are_taken_and_memory_stays_flat(chain):
    producer = chain.producer("--interval", 0, "--rows", 1000)

    def rows():
        found = re.findall(r"([\d,]+) rows sent", producer.stderr())
        return int(found[-1].replace(",", "")) if found else 0

    def memory_mb():
        return [resident_mb(pid) for pid in (producer.pid, *workers(producer.pid))]

    wait_until(lambda: rows() > 10_000, 30, producer.log)
    rows_before, before = rows(), memory_mb()
    wait_until(lambda: rows() > rows_before + 50_000, 60, producer.log)
    after = memory_mb()
    stop_producers(producer)
    assert sent(producer) == chain.database.count()
    assert len(before) == len(after) == 2
    # 50,000 rows are 4 MB as numpy columns, and 20 MB as Python objects
    assert sum(after) < sum(before) + 3, (before, after)


def test_while_nobody_looks_polls_come_rarely_and_no_row_is_missed(chain):
    def polls():
        before = chain.table()["polls"]
        time.sleep(6)  # the span in which they are counted
        return chain.table()["polls"] - before

    chain.server("--interval", 250, limit=20_000)
    producers = [chain.producer("--rows", 50)]
    chain.wait_for_rows(1, 30)
    rare = polls()
    stop_producers(*producers)
    paused = polls()  # nobody looks, and nobody can know how many rows will come
    producers.append(chain.producer("--rows", 1000, "--batches", 16))  # 8,000 in two seconds
    assert producers[-1].wait(30) == 0
    viewer = chain.viewer()
    producers.append(chain.producer("--rows", 50))
    wait_until(viewer.distinct, 20, viewer.log)
    assert 0 < rare < 0.75 * min(paused, polls())
    stop_producers(*producers[2:])
    rows = sent(*producers)
    wait_until(lambda: chain.table()["rows"] == rows, 20, chain.health)
    assert chain.database.count() == rows
    assert chain.table()["missed_rows"] == 0


def test_history_is_there_with_the_first_rows_and_live_rows_follow_in_milliseconds(chains):
    """Of stocks by polling, of meters by subscription; in a database of another precision than the producer's own."""
    database, datasets = chains[0].database, dict(zip(ALL, chains, strict=False))
    database.query("CREATE DATABASE {db} PRECISION 'ms'")

    def send_batches(batches):
        producers = [chain.producer("--dataset", dataset, "--batches", batches) for dataset, chain in datasets.items()]
        for producer in producers:
            assert producer.wait(30) == 0, producer.log()

    send_batches(8)
    time.sleep(2)  # not a wait for anything: the rows must be older than a poll's window
    viewers = {}
    for dataset, chain in datasets.items():
        chain.server("--dataset", dataset, "--history", "10m", limit=20_000)
        wait_until(lambda c=chain, d=dataset: c.table(d)["rows"] == 2000, 20, chain.health)
        viewers[dataset] = chain.viewer(dataset)
        wait_until(lambda d=dataset: viewers[d].distinct() == 2000, 20, viewers[dataset].log)
        assert chain.table(dataset)["rows_per_s"] == 0
    send_batches(8)
    for dataset, chain in datasets.items():
        assert_each_row_shown_once(chain, viewers[dataset], 4000, dataset)
    ((found,),) = database.query("SELECT `precision` FROM information_schema.ins_databases WHERE name = '{db}'")
    assert found == "ms"
    producer = chains[0].producer("--rows", 251)
    assert producer.ends_within(15) == 2, producer.log()
    assert "can't have timestamps of their own" in producer.stderr()
    assert producer.stdout() == "sent 0 rows in 0 batches\n"


def test_of_a_history_larger_than_the_limit_the_newest_rows_are_shown(chain):
    chain.database.query("CREATE DATABASE {db} PRECISION 'us'")  # the producer's third kind of timestamps
    assert chain.producer("--batches", 8).wait(30) == 0
    chain.server("--history", "1h", limit=1000)
    wait_until(lambda: chain.table()["rows"], 20, chain.health)
    viewer = chain.viewer()
    wait_until(lambda: viewer.distinct() == 1000, 20, viewer.log)
    polls = chain.table()["polls"]
    wait_until(lambda: chain.table()["polls"] >= polls + 4, 15, "more polls, and a look for late rows")
    assert chain.table()["rows"] == viewer.distinct() == 1000
    assert chain.table()["missed_rows"] == 0
    newest = chain.database.query("SELECT volume FROM {db}.stocks_values ORDER BY `timestamp` DESC LIMIT 1000")
    assert viewer.report()["volume"] == sum(volume for (volume,) in newest)
    assert chain.producer("--batches", 4).wait(30) == 0
    wait_until(lambda: viewer.distinct() == 2000, 15, viewer.log)
    assert chain.table()["rows"] == 2000


def test_two_servers_that_subscribe_each_get_every_row_and_update_at_most_every_10_ms(chain):
    chain.source = "subscribe"
    chain.server()
    one, first_port = chain.viewer(), chain.port
    chain.server()
    other, second_port = chain.viewer(), chain.port
    producer = chain.producer("--batches", 12)
    assert producer.wait(40) == 0, producer.log()
    for viewer, port in ((one, first_port), (other, second_port)):
        chain.port = port
        assert_each_row_shown_once(chain, viewer, 3000)
        assert chain.table()["source"] == "subscribe"
        wait_until(lambda: chain.table()["subscriptions"] >= 1, 20, chain.health)
        assert chain.table()["lag_ms"] < 5000
        wait_until(lambda: chain.table()["error"] is None, 20, chain.health)
    started, updates = time.monotonic(), other.report()["updates"]
    producers = [chain.producer("--interval", 0, "--rows", 1, "--batches", 100) for _ in range(2)]
    for producer in producers:
        assert producer.wait(100) == 0, producer.log()
    wait_until(lambda: other.distinct() == 3200, 20, other.log)
    assert other.report()["updates"] - updates <= 100 * (time.monotonic() - started)
    assert_each_row_shown_once(chain, other, 3200)


def test_rows_from_before_the_servers_start_are_not_shown(chains):
    chain = chains[0]
    assert chain.producer("--batches", 8).wait(30) == 0
    time.sleep(3)  # not a wait for anything: the rows must be older than the window reaches
    viewers = [each.server() and each.viewer() for each in chains]
    for each in chains:
        wait_until(lambda c=each: "is its producer running?" in (c.table()["error"] or ""), 15, each.health)
    producer = chain.producer("--batches", 8)
    assert producer.wait(30) == 0, producer.log()
    for viewer in viewers:
        wait_until(lambda v=viewer: v.distinct() >= 2000, 15, viewer.log)
    time.sleep(2)  # more polls, and a look for late rows
    for each, viewer in zip(chains, viewers, strict=True):
        assert each.table()["rows"] == viewer.distinct() == 2000
