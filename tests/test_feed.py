"""Which rows a feed shows, for any mixture of clocks: shown once, or counted as missed."""

import asyncio
import collections
import functools
import multiprocessing
import time

import hypothesis
import pyarrow as pa
import pytest
from feed_site import Site, check, programs, run
from hypothesis import strategies as st

from bridge import columns as col
from bridge import tdengine
from bridge.health import Counters
from bridge.late import Comparison
from bridge.shown import HOUR, Shown
from bridge.subscription import SubscribedFeed

UNITS = 1000  # of times, a second


class MemorySource:
    """A source whose rows are in a set, and whose clock goes only when it is told to."""

    name = title = table = "memory"
    time, key, units_per_s, dataset = "ts", ["ts", "device"], UNITS, None
    supertable, errors, one_device = True, tdengine.Error, False
    columns = (tdengine.col.Column("ts", "", pa.timestamp("ms")),)

    def __init__(self):
        self.rows, self.clock, self.failing = set(), 1_800_000_000.0, False

    async def store(self, rows):
        self.rows.update(rows)

    async def delete(self, times):
        self.rows = {row for row in self.rows if row[0] not in times}

    async def fail(self, on):
        self.failing = on

    def check(self):
        if self.failing:
            raise tdengine.Error("[0xE002] away")

    async def describe(self):
        self.check()
        return False

    async def now(self):
        self.check()
        return self.clock

    def between(self, first=None, end=None):
        return (first if first is None else first * UNITS, end if end is None else end * UNITS)

    def within(self, first, end):
        return first, end

    def matching(self, first, end):
        self.check()
        return [key for key in self.rows if (first is None or key[0] >= first) and (end is None or key[0] < end)]

    async def read(self, _, where, limit):
        await asyncio.sleep(0)
        keys = sorted(self.matching(*where), reverse=True)[:limit]
        times, devices = zip(*keys, strict=True) if keys else ((), ())
        return pa.table({"ts": pa.array(times, pa.int64()).cast(pa.timestamp("ms")), "device": pa.array(devices)})

    async def glance(self, first, end):
        sides = self.between(end=first), self.between(first=end)
        return self.clock, *(len(self.matching(*bounds)) for bounds in sides)

    async def counts(self, step, first=None, end=None):
        return collections.Counter(time // UNITS // step for time, _ in self.matching(*self.between(first, end)))

    def explain(self, error):
        return str(error)


# Fewer rows are stored then than were counted and shown: none of them is missed.
GONE_BEFORE_IT_IS_COUNTED = [("pass", 0.5), ("insert", "a", 0, 15, 1), ("pass", 0.5), ("delete", 1)]
GONE_BEFORE_IT_IS_COUNTED += [("insert", "a", 0, 8, 1), ("insert", "a", 0.6, 22, 7), ("insert", "b", 0, 32, 7)]


@hypothesis.settings(max_examples=100, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.example(60, GONE_BEFORE_IT_IS_COUNTED, 0)
@hypothesis.given(st.sampled_from([5, 60, 10_000]), programs(), st.integers())
def test_every_row_is_shown_once_or_counted_as_missed(limit, program, seed):
    site = Site(MemorySource(), limit)
    check(site, *asyncio.run(run(site, program, seed)))


@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.example([("insert", "a", 6, 1, 1), ("pass", 2.0), ("insert", "b", 0, 31, 1), ("pass", 2.0)], 0)
@hypothesis.given(programs(), st.integers())
def test_a_feed_that_remembers_little_shows_none_twice_and_counts_the_others(program, seed):
    program = [step for step in program if step[0] != "delete"]
    bounds = {"max_rows": 30, "max_seconds": 5, "max_counted": 5}
    site = Site(MemorySource(), 10_000, **bounds)
    check(site, *asyncio.run(run(site, program, seed)))


def test_of_a_second_that_a_tick_showed_a_part_of_the_rest_is_loaded_as_far_as_it_fits():
    async def rows_of_three_seconds_with_room_for_those_of_one_and_a_bit():
        started = time.monotonic()
        site = Site(MemorySource(), 1200, history_s=3600)
        site.source.clock += 0.6
        await site.insert("a", 0, 3000)
        await site.tick()
        assert 900 < site.feed.held < 1100 + 1000 * (time.monotonic() - started)  # rows of each ms that it took, too
        site.feed.offset_s += 2  # as if the two seconds had been waited for
        await site.pass_time(2)
        await site.pass_time(2)
        return site

    site = asyncio.run(rows_of_three_seconds_with_room_for_those_of_one_and_a_bit())
    assert len(site.shown) == site.feed.held == 1200
    assert site.feed.counters.missed_rows == 0


@pytest.mark.parametrize("history_s", [0, 3600])
def test_rows_that_come_while_the_past_is_not_loaded_yet_fit_as_all_that_come_later(history_s):
    """On a busy machine the first comparison is late, and finds rows that no tick has shown."""

    async def more_than_the_limit_before_the_first_comparison():
        site = Site(MemorySource(), 40, history_s)
        await site.insert("a", -300, 60)
        await site.tick()
        for _ in range(2):
            site.source.clock += 2
            site.feed.offset_s += 2  # as if as many seconds had been waited for
            await site.insert("a", 0, 20)
            await site.tick()
        await site.insert("b", -1.5, 20)
        await site.pass_time(3)
        await site.pass_time(3)
        return site

    site = asyncio.run(more_than_the_limit_before_the_first_comparison())
    assert sum(device == "b" for _, device in site.shown) == 20
    assert site.feed.counters.missed_rows == 0
    assert site.feed.held == 40


def test_rows_that_nothing_tells_apart_are_counted_as_missed_once():
    async def two_rows_of_each_time():
        site, found = Site(MemorySource(), 1000, history_s=600), []
        site.source.key = ["ts"]
        await site.insert("ab", -300, 20)
        await site.tick()
        for _ in range(3):
            await site.insert("ab", 0, 10, 7)
            for _ in range(3):
                await site.pass_time(2)
            found.append((len(site.shown), site.feed.counters.missed_rows))
        return found

    assert asyncio.run(two_rows_of_each_time()) == [(30, 30), (40, 40), (50, 50)]


def test_rows_of_the_last_second_fill_the_limit_before_older_ones_when_the_beginning_takes_long():
    async def rows_between_what_a_late_tick_and_what_the_comparison_look_at():
        site = Site(MemorySource(), 100, history_s=600)
        site.source.clock += 0.9
        newest = await site.insert("a", -0.8, 35)
        await site.insert("b", -1, 200)
        counts = site.source.counts

        async def slow_counts(*arguments, **bounds):
            await asyncio.sleep(0.2)
            return await counts(*arguments, **bounds)

        site.source.counts = slow_counts
        await site.tick()
        site.source.counts = counts
        site.feed.offset_s = site.source.clock + 1.02 - time.time()
        await site.feed.compare()
        await site.pass_time(2)
        await site.pass_time(2)
        return newest <= set(site.shown), len(site.shown)

    assert asyncio.run(rows_between_what_a_late_tick_and_what_the_comparison_look_at()) == (True, 100)


@pytest.mark.parametrize(("stored_before", "missed"), [(True, 0), (False, 5)])
def test_rows_of_the_second_before_the_start_are_missed_if_they_came_after_it(stored_before, missed):
    async def rows_that_do_not_fit():
        site = Site(MemorySource(), 5)
        if not stored_before:
            await site.tick()
        await site.insert("a", -1.5, 10)
        await site.tick()
        await site.pass_time(2)
        await site.pass_time(2)
        return site

    site = asyncio.run(rows_that_do_not_fit())
    assert (len(site.shown), site.feed.counters.missed_rows) == (5, missed)


def test_rows_that_come_at_once_into_a_second_that_had_rows_before_the_start_are_missed():
    async def rows_beside_older_ones():
        site = Site(MemorySource(), 100)
        await site.insert(["old"], -5000, 20)
        await site.tick()
        await site.insert(["new"], -5000, 3)
        await site.pass_time(2)
        return site

    assert asyncio.run(rows_beside_older_ones()).feed.counters.missed_rows == 3


@pytest.mark.parametrize("rows", [3, 4000])  # an hour
@pytest.mark.parametrize("gone", [0, 6, 7])  # an hour's number
def test_a_late_row_is_found_while_a_row_of_another_second_is_deleted(rows, gone):
    async def one_for_one():
        site = Site(MemorySource(), 100_000)
        await site.tick()
        hours = [await site.insert("a", -3600 * k - 60, rows, 500) for k in range(8)]
        await site.pass_time(2)
        late = await site.insert("a", -3600 * 7 - 60, 1)
        await site.delete([min(time for time, _ in hours[gone])])
        for _ in range(6 if rows > HOUR and gone == 7 else 2):  # or when the hour's turn comes
            await site.pass_time(2)
        return late <= set(site.shown)

    assert asyncio.run(one_for_one())


def insert(source, device, offset_s, rows):
    now = int((source.clock + offset_s) * UNITS)
    source.rows.update((now - k, device) for k in range(rows))


def test_rows_known_by_hour_are_compared_by_the_whole_hour_which_the_live_seconds_part_in_two():
    source, shown = MemorySource(), Shown(["ts", "device"], UNITS)
    source.clock += 1800
    now = int(source.clock)
    insert(source, "before", -600, 10)
    shown.count_hour(now // HOUR, 10)
    insert(source, "ahead", 600, 1)
    comparison = Comparison(source, shown, (now - 1, now + 2))
    asyncio.run(comparison.run())
    assert comparison.hours == {now // HOUR: 1}


def test_rows_that_become_known_by_hour_while_their_hour_is_compared_are_not_missed():
    source, shown = MemorySource(), Shown(["ts", "device"], UNITS)
    now, counts = int(source.clock) + 1800, source.counts

    async def counts_while_a_tick_ends(step, *bounds):
        found = await counts(step, *bounds)
        if step == 1:
            shown.max_counted = 0
            shown.compact()
        return found

    source.counts = counts_while_a_tick_ends
    insert(source, "late", 1000, 1)
    insert(source, "ahead", 2400, 3)
    shown.count(now + 599, 2)
    shown.count(now + 600, 1)
    comparison = Comparison(source, shown, (now - 1, now + 2))
    asyncio.run(comparison.run())
    assert (comparison.hours, list(comparison.more)) == ({}, [now - 800])


class Subscribed(SubscribedFeed):
    """As if a consumer was subscribed, whose messages a test sends; counts how often it was replaced."""

    def __init__(self, *arguments):
        super().__init__(None, *arguments)
        self.subscribed, self.replaced = True, 0
        self.pipe, self.consumer = multiprocessing.Pipe(duplex=False)

    def subscribe(self):
        pass

    def unsubscribe(self, why):
        self.missed_at, self.replaced = None, self.replaced + 1


@pytest.mark.parametrize(("message", "replaced"), [("rows", 0), ("subscribed", 0), ("quiet", 1)])
def test_a_consumer_is_replaced_when_what_is_stored_is_not_pushed_soon(message, replaced):
    async def rows_that_a_comparison_finds_first():
        site = Site(MemorySource(), 1000, feed=Subscribed)
        for _ in range(2):  # once it has looked at what there is
            await site.pass_time(2)
        await site.insert("a", -5, 3)
        await site.pass_time(2)
        assert (len(site.shown), site.feed.caught_up, site.feed.replaced) == (3, True, 0)
        site.feed.consumer.send((message, col.to_ipc(await site.source.read(None, (None, None), 3))))
        site.feed.hear()
        site.feed.missed_at = site.feed.missed_at and site.feed.missed_at - 3
        await site.pass_time(2)
        await site.settle()
        return site.feed.replaced, max(site.shown.values())

    assert asyncio.run(rows_that_a_comparison_finds_first()) == (replaced, 1)


def test_a_table_whose_pushed_rows_can_not_be_read_is_polled_and_that_is_said_once(caplog):
    async def rows_of_a_table_with_a_json_tag():
        site = Site(MemorySource(), 1000, feed=functools.partial(SubscribedFeed, None))
        site.source.columns += (col.column("j", "JSON(4096)", "ms"),)
        for _ in range(3):
            await site.insert("a", 0, 3)
            await site.pass_time(1)
        return len(site.shown), site.feed.process, site.feed.health()

    shown, process, health = asyncio.run(rows_of_a_table_with_a_json_tag())
    (line,) = [record.getMessage() for record in caplog.records if "no subscription" in record.getMessage()]
    assert (shown, process, health["subscriptions"]) == (9, None, 0)
    assert health["error"] in line
    assert "can't read a JSON column where rows are pushed: j): polling" in line


@pytest.mark.parametrize(
    ("ages_s", "pace"),
    [([1, 0.75, 0.5, 0.25, 0], 1000), ([20, 0.5, 0.25, 0], 1000), ([20, 10, 0], 25), ([9, 8, 7, 6], 0)],
    ids=["steady", "after a pause", "rare", "stopped"],
)
def test_the_pace_is_that_of_the_last_seconds_and_counts_anew_after_a_pause(ages_s, pace):
    counters, now = Counters("poll"), time.monotonic()
    counters.arrivals = collections.deque((now - age, 250 * k) for k, age in enumerate(ages_s))
    counters.rows = 250 * (len(ages_s) - 1)
    assert counters.rows_per_s() == pytest.approx(pace, abs=pace / 50)


def test_rows_of_the_past_are_no_pace():
    async def paces():
        site, found = Site(MemorySource(), 10_000, history_s=600), []
        await site.insert("a", -60, 5000)
        await site.tick()
        await site.pass_time(1)
        assert len(site.shown) == 5000
        found.append(site.feed.counters.rows_per_s())
        for _ in range(2):
            await site.insert("a", 0, 250)
            await site.tick()
        return [*found, site.feed.counters.rows_per_s()]

    before, after = asyncio.run(paces())
    assert before == 0
    assert 0 < after <= 1000  # at least a quarter of a second is taken for it
