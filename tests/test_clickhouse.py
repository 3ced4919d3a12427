"""The chain with ClickHouse: what is sent is stored and shown, each row once, whatever happens in between.

What the bridge promises for every source is tested with TDengine.
"""

import asyncio
import datetime
import signal

import pytest
from chain import sent, stop_producers
from clickhouse_chain import TABLE, Chain, ClickHouse, assert_each_row_shown_once
from helpers import wait_until

from bridge import dsn
from bridge.columns import ROW, UNSHOWN
from clickhouse import making
from clickhouse.client import connect
from clickhouse.source import Reader, Table

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    database = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    yield database
    database.close()


@pytest.fixture
def database(request, tmp_path):
    """A ClickHouse, shared but by the tests that are marked own_stand_in."""
    own = request.node.get_closest_marker("own_stand_in")
    database = ClickHouse(tmp_path, None if own else request.getfixturevalue("shared"))
    yield database
    database.close()


@pytest.fixture
def chain(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        yield chain


def test_every_row_of_two_producers_is_shown_once_and_a_silent_database_stalls_no_viewer(chain):
    with chain.database.proxy() as proxy:
        chain.server(dsn=chain.database.through(proxy))
        assert chain.health()["status"] == "waiting"  # on a fresh ClickHouse, without the database
        producers = [chain.producer("--rows", rows) for rows in (250, 100)]
        viewer = chain.viewer(read_every=0.05)
        wait_until(lambda: viewer.report() and viewer.report()["reads"] > 5, 60, chain.health)
        assert chain.health()["status"] == "ok"
        polls = chain.table()["failed_polls"]
        proxy.silent()
        reads = viewer.report()["reads"]
        wait_until(lambda: chain.table()["failed_polls"] > polls, 30, "a poll that failed")
        assert viewer.report()["reads"] > reads + 20
        assert viewer.report()["read_ms_max"] < 3000  # the silence takes 6 s
        proxy.go_on()
        wait_until(lambda: chain.table()["reconnects"], 30, chain.health)
        chain.wait_for_rows(500, 30)
        stop_producers(*producers)
        assert_each_row_shown_once(chain, viewer, sent(*producers))


@pytest.mark.parametrize("engine", [None, "MergeTree ORDER BY timestamp"])
def test_batches_that_were_sent_again_are_stored_once(chain, engine):
    if engine:  # a user's own table, which doesn't know a batch again
        chain.database.create_table(engine)
    with chain.database.proxy() as proxy:
        producer = chain.producer(dsn=chain.database.through(proxy))
        rows_stored(chain.database, 1000, producer)
        # clickhouse-connect itself sends again once: two replies lost are one that it hands on
        faults = [proxy.lose_replies, proxy.cut_requests, proxy.cut, lambda: proxy.lose_replies(2)]
        for fault in faults if engine is None else [faults[0], faults[3]]:
            connections = proxy.connections
            fault()
            wait_until(lambda c=connections: proxy.connections > c, 15, producer.log)
            rows_stored(chain.database, 1000, producer)
        stop_producers(producer)
        ((stored, stamps),) = chain.database.query(f"SELECT count(), uniqExact(timestamp) FROM {{db}}.{TABLE}")
        assert (int(stored), int(stamps)) == (sent(producer), sent(producer))


def rows_stored(database, more, producer):
    """Waits until so many rows more are stored than now."""
    find = f"SELECT coalesce(sum(total_rows), 0) FROM system.tables WHERE database = '{{db}}' AND name = '{TABLE}'"
    least = int(database.query(find)[0][0]) + more
    wait_until(lambda: int(database.query(find)[0][0]) >= least, 60, producer.log)


def test_a_batch_whose_confirmation_came_too_late_is_found_instead_of_sent_again(chain):
    chain.database.create_table("Memory")  # it knows no batch again
    with chain.database.proxy() as proxy:
        producer = chain.producer(dsn=chain.database.through(proxy) + "?send_receive_timeout=1")
        wait_until(lambda: chain.database.count() >= 500, 60, producer.log)
        proxy.delay(3)
        wait_until(lambda: "waiting for ClickHouse" in producer.stderr(), 20, producer.log)
        proxy.go_on()
        wait_until(lambda: "connected to" in producer.stderr(), 20, producer.log)
        stop_producers(producer)
        assert chain.database.count() == sent(producer)


def test_a_batch_of_which_clickhouse_knows_the_token_but_not_the_rows_is_stored(database):
    columns = {"timestamp": "DateTime64(9)", "ticker": "String", "client": "String", "volume": "UInt32"}
    batch = {
        "timestamp": [10**18 + k for k in range(3)],
        "ticker": ["it's"] * 3,
        "client": ["c"] * 3,
        "volume": [7] * 3,
    }

    def insert():
        target = making.Target(connect(dsn.clickhouse(database.dsn)), database.name, TABLE, columns, "p")
        used = []
        for token in target.tokens(batch):
            rows = ", ".join(f"(fromUnixTimestamp64Nano({stamp}), 'it\\'s', 'c', 7)" for stamp in batch["timestamp"])
            settings = {"insert_deduplicate": 1, "insert_deduplication_token": token}
            target.client.command(f"INSERT INTO {target.name} VALUES {rows}", settings=settings)
            used.append(token)
        return len(used)

    assert insert() == 1
    assert insert() == 0
    database.query(f"ALTER TABLE {{db}}.{TABLE} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    assert insert() == 2
    assert database.count() == 3


@pytest.mark.own_stand_in
def test_a_database_that_is_killed_and_comes_back_loses_nothing(chain):
    database = chain.database
    if not database.is_embedded:
        pytest.skip("that server is not ours to kill")
    chain.server()
    producer = chain.producer()
    viewer = chain.viewer()
    wait_until(lambda: viewer.distinct() >= 1000, 60, chain.health)
    database.kill()
    wait_until(lambda: "waiting for ClickHouse" in producer.stderr(), 20, producer.log)
    wait_until(lambda: chain.table()["error"], 20, chain.health)
    assert "ClickHouse does not answer" in chain.table()["error"]
    database.start()
    wait_until(lambda: "connected to" in producer.stderr(), 30, producer.log)
    chain.wait_for_rows(1000, 60)
    stop_producers(producer)
    assert_each_row_shown_once(chain, viewer, sent(producer))


def test_a_producer_that_is_killed_leaves_whole_batches(chain):
    chain.database.create_table()
    with chain.database.proxy() as proxy:
        producer = chain.producer(dsn=chain.database.through(proxy))
        wait_until(lambda: chain.database.count() >= 750, 60, producer.log)  # so it is connected, and two are confirmed
        proxy.delay(5)  # one batch is stored, and its reply on its way
        rows = chain.database.count()
        wait_until(lambda: chain.database.count() > rows, 40, producer.log)
        producer.signal(signal.SIGKILL)
        producer.wait(5)
        assert chain.database.count() % 250 == 0


def insert(database, *rows, table=TABLE):
    """Rows as (timestamp's SQL, open)."""
    values = ", ".join(f"({stamp}, 'AAPL.N', 'Homer', {opening}, 1, 1, 1, 1, today())" for stamp, opening in rows)
    database.query(f"INSERT INTO {{db}}.{table} VALUES {values}")


CLOCKS = {"nanoseconds": "DateTime64(9)", "tokyo": "DateTime64(4, 'Asia/Tokyo')", "seconds": "DateTime"}


def test_history_shows_the_newest_rows_that_fit_and_live_rows_follow(chain):
    assert chain.producer("--batches", "8").wait(60) == 0
    insert(chain.database, ("now() - INTERVAL 1 HOUR", 1))
    chain.server("--history", "10m", limit=1500)
    wait_until(lambda: chain.table()["rows"] == 1500, 30, chain.health)  # of 2000
    assert chain.table()["missed_rows"] == 0
    chain.producer("--batches", "2")
    wait_until(lambda: chain.table()["rows"] == 2000, 30, chain.health)


KINDS = {  # type: (value in SQL, what a viewer gets)
    "Int64": ("-9007199254740993", -9007199254740993),
    "UInt64": ("18446744073709551615", 18446744073709551615),
    "Int128": ("170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
    "Bool": ("true", True),
    "Float32": ("0.5", 0.5),
    "Nullable(Float64)": ("NULL", None),
    "Float64": ("nan", None),
    "Decimal(20, 4)": ("12.25", 12.25),
    "String": ("'\\xff'", None),
    "LowCardinality(Nullable(String))": ("'ü'", "ü"),
    "FixedString(4)": ("'ab'", "ab"),
    "Enum8('x' = 1)": ("'x'", "x"),
    "UUID": ("'61f0c404-5cb3-11e7-907b-a6006ad3dba0'", "61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
    "IPv4": ("'127.0.0.1'", "127.0.0.1"),
    "Date": ("'2026-01-02'", datetime.date(2026, 1, 2)),
    "Nullable(DateTime64(3, 'UTC'))": ("'2026-01-02 03:04:05.678'", datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)),
    "Array(Int32)": ("[1, 2]", "[1,2]"),
    "Map(String, UInt8)": ("{'a': 1}", "{'a':1}"),
}


RESERVED = ["__INDEX__", "psp_op", "psp_strand_count", ROW, UNSHOWN]


def test_columns_of_every_kind_and_rows_of_any_clock_of_tables_of_ones_own(chain):
    for name, time in CLOCKS.items():
        chain.database.create_table(time=time, name=name)
    names = assert_columns_of_every_kind_are_read(chain)
    tables = [flag for name in ("It's mine", *CLOCKS) for flag in ("--table", f"{chain.database.name}.{name}")]
    server = chain.server(*tables, "--history", "9999d")
    assert_columns_of_every_kind_are_shown_and_changes_noticed(chain, names)
    assert_rows_of_any_clock_are_all_shown_also_those_that_are_equal(chain)
    assert "Traceback" not in server.stderr()


def assert_columns_of_every_kind_are_read(chain):
    database = chain.database
    columns = ", ".join(f"c{k} {kind}" for k, kind in enumerate(KINDS))
    columns = f"`a b` UInt8, at DateTime64(6, 'UTC'), {columns}, twice Int32 MATERIALIZED 2, other Int32 ALIAS 3"
    columns += "".join(f", `{name}` Int32 MATERIALIZED 4" for name in [*RESERVED, "k", "t"])
    database.query(f"CREATE TABLE {{db}}.`It's mine` ({columns}) ENGINE = MergeTree ORDER BY `a b`")
    values = ", ".join(value for value, _ in KINDS.values())
    database.query(f"INSERT INTO {{db}}.`It's mine` VALUES (1, '2026-01-02 03:04:05.678901', {values})")
    expected = {"a b": 1, "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)}
    expected |= {f"c{k}": value for k, (_, value) in enumerate(KINDS.values())} | {"twice": 2, "other": 3}
    expected |= {f"{name}_": 4 for name in RESERVED} | {"k": 4, "t": 4}

    async def read():
        reader = Reader(dsn.clickhouse(database.dsn))
        table = Table(reader, database.name, "It's mine")
        await table.describe()
        return await reader.query(f"SELECT {table.select} FROM {table.name} WHERE {table.between()}", table.columns)

    (row,) = asyncio.run(read()).to_pylist()
    assert row.pop(UNSHOWN) == 2  # NaN, and what is not UTF-8
    row.pop(ROW)
    assert row == expected
    return list(expected)


def assert_columns_of_every_kind_are_shown_and_changes_noticed(chain, names):
    database = chain.database
    wait_until(lambda: chain.health()["tables"]["It's mine"]["rows"], 30, chain.health)
    table = chain.health()["tables"]["It's mine"]
    assert (table["unshown_values"], table["status"], list(table["columns"])) == (2, "incomplete", names)
    # a column more, and the table made anew
    database.query("ALTER TABLE {db}.`It's mine` ADD COLUMN more String DEFAULT 'x'")
    wait_until(lambda: "more" in chain.health()["tables"]["It's mine"]["columns"], 30, chain.health)
    wait_until(lambda: chain.health()["tables"]["It's mine"]["rows"] == 1, 30, chain.health)
    database.query("DROP TABLE {db}.`It's mine` SYNC")
    wait_until(lambda: "has no table" in (chain.health()["tables"]["It's mine"]["error"] or ""), 30, chain.health)
    database.query("CREATE TABLE {db}.`It's mine` (n Int8, at DateTime) ENGINE = MergeTree ORDER BY at")
    database.query("INSERT INTO {db}.`It's mine` VALUES (1, now())")
    wait_until(lambda: list(chain.health()["tables"]["It's mine"]["columns"]) == ["n", "at"], 30, chain.health)
    wait_until(lambda: chain.health()["tables"]["It's mine"]["rows"] == 1, 30, chain.health)


def assert_rows_of_any_clock_are_all_shown_also_those_that_are_equal(chain):
    shifts = ["", "- INTERVAL 90 SECOND", "- INTERVAL 30 DAY", "+ INTERVAL 1 HOUR", "+ INTERVAL 1 YEAR"]
    shifts += ["+ INTERVAL 2 YEAR", "- INTERVAL 2 YEAR"]
    rows = [(f"now() {shift}", k // 2) for shift in shifts for k in range(6)]  # three pairs of equal rows each

    def wait_for_each(what):
        for name in CLOCKS:
            wait_until(lambda n=name: what(chain.table_named(n)), 60, chain.health)

    wait_for_each(lambda table: table["polls"] - table["failed_polls"] >= 3)
    for name in CLOCKS:
        insert(chain.database, *rows, table=name)
    wait_for_each(lambda table: table["rows"] >= len(rows))
    for name in CLOCKS:
        insert(chain.database, *rows[:12], table=name)  # the same again, maybe in another second
        insert(chain.database, ("toDateTime('1970-01-01 00:00:00', 'UTC')", 1), table=name)
    wait_for_each(lambda table: table["rows"] >= len(rows) + 13)
    polls = max(chain.table_named(name)["polls"] for name in CLOCKS)
    wait_for_each(lambda table: table["polls"] - table["failed_polls"] >= polls + 12)
    for name in CLOCKS:
        table = chain.table_named(name)
        assert (table["rows"], table["missed_rows"], table["error"]) == (len(rows) + 13, 0, None)
