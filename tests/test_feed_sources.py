"""The programs of tests/feed_site.py on databases: TDengine or the stand-in, polled and subscribed; ClickHouse."""

import asyncio
import contextlib
import functools
import itertools
import multiprocessing
import resource
import time

import hypothesis
import pytest
from clickhouse_chain import ClickHouse
from feed_site import Site, check, programs, run
from helpers import wait_until
from hypothesis import strategies as st

from bridge import dsn as dsns
from bridge import tdengine
from bridge.consumer import run_subscriber
from bridge.sql import literal
from bridge.subscription import SubscribedFeed
from clickhouse import source as clickhouse
from clickhouse.perspective_server import read_clickhouse
from perspective_server import read_tdengine

PRECISIONS = {"ms": 3, "us": 6, "ns": 9}
SERIAL = itertools.count()
MEMORY_MB = 100  # bound of what all programs need, with devices years apart


class Clocked:
    """What a database does not have: a clock that goes ahead when a test says so, and a way to it that can be cut."""

    ahead_s = 0.0

    def attach(self, proxy, direct):
        self.proxy, self.direct = proxy, direct
        return self

    @property
    def clock(self):
        return time.time() + self.ahead_s

    @clock.setter
    def clock(self, now):
        self.ahead_s = now - time.time()

    async def now(self):
        return await super().now() + self.ahead_s

    async def glance(self, first, end):
        now, *rows = await super().glance(first, end)
        return now + self.ahead_s, *rows

    async def fail(self, on):
        self.proxy.refuse() if on else self.proxy.go_on()


class TDengineTable(Clocked, tdengine.Table):
    """shape: "supertable" with a subtable a device, "composite" key of time and device, or "plain"."""

    read = staticmethod(read_tdengine)

    async def make(self, shape):
        self.shape, self.one_device = shape, shape == "plain"
        device = {"supertable": "v INT) TAGS (device NCHAR(20)", "composite": "device VARCHAR(20) PRIMARY KEY, v INT"}
        columns = device.get(shape, "device NCHAR(20), v INT")
        await self.direct.queries(f"CREATE TABLE {self.name} (ts TIMESTAMP, {columns})")
        await self.describe()

    async def store(self, rows):
        values = [f"{self.name} VALUES", *(f"({at}, {literal(device)}, 1)" for at, device in rows)]
        if self.shape == "supertable":
            of = f"`{self.database}`.`{self.table} {{0}}` USING {self.name} TAGS ('{{0}}')"
            values = [f"{of.format(device)} VALUES ({at}, 1)" for at, device in rows]
        await self.direct.queries(f"INSERT INTO {' '.join(values)}")

    async def delete(self, times):
        await self.direct.queries(*(f"DELETE FROM {self.name} WHERE ts = {at}" for at in times))


class ClickHouseTable(Clocked, clickhouse.Table):
    one_device, read = False, staticmethod(read_clickhouse)

    async def make(self, digits):
        self.sql_name = self.name.removesuffix(f" AS {clickhouse.ALIAS}")
        columns = f"ts DateTime64({digits}, 'UTC'), device String"
        self.direct(f"CREATE TABLE {self.sql_name} ({columns}) ENGINE = MergeTree ORDER BY ts")
        await self.describe()

    async def store(self, rows):
        moment = clickhouse.TO_TIME[self.digits].format
        values = ", ".join(f"({moment(at)}, {literal(device)})" for at, device in rows)
        self.direct(f"INSERT INTO {self.sql_name} VALUES {values}")

    async def delete(self, times):
        these = ", ".join(map(clickhouse.TO_TIME[self.digits].format, times))
        self.direct(f"ALTER TABLE {self.sql_name} DELETE WHERE ts IN ({these}) SETTINGS mutations_sync = 2")


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def try_programs(make_site, proxy, examples):
    """make_site(precision, shape, limit): a coroutine function; so many programs run on its sites, one by one."""
    with asyncio.Runner() as loop:

        async def example(program, seed, precision, shape, limit):
            site = await make_site(precision, shape, limit)
            try:
                check(site, *await run(site, program, seed))
            finally:
                site.feed.close()
                proxy.go_on()

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],  # to shrink a failure would take many minutes
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(
            programs(10, 20),
            st.integers(),
            st.sampled_from(list(PRECISIONS)),
            st.sampled_from(["supertable", "composite", "plain"]),
            st.sampled_from([5, 60, 10_000]),
        )
        def every_row_is_shown_once_or_counted(program, seed, precision, shape, limit):
            loop.run(example(program, seed, precision, shape, limit))

        before = peak_mb()
        every_row_is_shown_once_or_counted()
        assert peak_mb() - before < MEMORY_MB


@pytest.mark.parametrize(("source", "examples"), [("poll", 5), ("subscribe", 2)])
def test_tdengine(database, source, examples):
    with database.proxy() as proxy, contextlib.ExitStack() as ended:
        direct, through = (tdengine.Reader(dsns.tdengine(dsn)) for dsn in (database.dsn, database.through(proxy)))
        for reader in (direct, through):
            ended.callback(reader.close)
        for precision in PRECISIONS:
            name = f"{database.name}_{precision}"
            database.query(f"CREATE DATABASE {name} PRECISION '{precision}'")
            ended.callback(database.query, f"DROP DATABASE {name}")
        ended.callback(lambda: wait_until(database.drop_topics, 20, "the topics to be dropped"))

        async def make_site(precision, shape, limit):
            table = TDengineTable(through, f"{database.name}_{precision}", f"t{next(SERIAL)}").attach(proxy, direct)
            await table.make(shape)
            if source == "poll":
                return Site(table, limit)
            return Site(table, limit, feed=functools.partial(SubscribedFeed, through.dsn), pause_s=1)

        try_programs(make_site, proxy, examples)


def test_what_tdengine_refuses_a_subscriber_is_told_in_its_words_and_tried_more_and_more_rarely(database):
    pipe, other_end = multiprocessing.Pipe(duplex=False)
    arguments = (other_end, dsns.tdengine(database.dsn).url, "t", f"SELECT * FROM {database.name}.nosuch", (), False)
    process = multiprocessing.get_context("spawn").Process(target=run_subscriber, args=arguments, daemon=True)
    database.query("CREATE DATABASE {db}")
    process.start()
    try:
        failed_at = []
        while len(failed_at) < 4 and pipe.poll(30):
            kind, *details = pipe.recv()
            if kind == "failed":
                failed_at.append(time.monotonic())
                assert details[0].startswith("TDengine answered: [0x2603] "), details
                assert details[0].endswith("Table does not exist"), details
        assert failed_at[-1] - failed_at[0] > 4  # 1 + 2 + 4, less what the first one took to come here
    finally:
        process.kill()
        process.join()


def test_clickhouse(tmp_path):
    with contextlib.closing(ClickHouse(tmp_path)) as database, database.proxy() as proxy:
        database.query("CREATE DATABASE {db}")
        reader = clickhouse.Reader(dsns.clickhouse(database.through(proxy)))

        async def make_site(precision, shape, limit):
            table = ClickHouseTable(reader, database.name, f"t{next(SERIAL)}").attach(proxy, database.query)
            await table.make(PRECISIONS[precision])
            return Site(table, limit)

        try_programs(make_site, proxy, 5)
        reader.close()
