"""A feed on a source whose clock goes as a test says, and programs of devices, outages and deletions for it."""

import asyncio
import collections
import random

import pyarrow as pa
from hypothesis import strategies as st

from bridge.feed import Feed

YEAR = 365 * 86_400


class Site:
    """A feed on a source; `stored`: rows, as (time, device); `shown` counts how often each was shown.

    pause_s: in which a subscriber brings rows before each comparison.
    source: one for bridge.feed.Feed that has columns ts and device, and also `clock` (seconds, to be set), `one_device`
    (no two rows may have one time) and the coroutine functions `read`, `store(rows)`, `delete(times)`, `fail(on)`.
    """

    def __init__(self, source, limit, history_s=0, feed=Feed, pause_s=0, **bounds):
        self.source, self.pause_s, self.bounds = source, pause_s, bounds
        self.stored, self.used = set(), set()  # used: a row that was deleted does not come again
        self.shown = collections.Counter()
        self.feed = feed(source, source.read, self.show, limit, history_s)

    async def show(self, ipc):
        await asyncio.sleep(0)
        table = pa.ipc.open_stream(ipc).read_all()
        times = table.column("ts").cast(pa.int64()).to_pylist()
        self.shown.update(zip(times, table.column("device").to_pylist(), strict=True))

    async def insert(self, devices, offset_s, rows, step=1):
        """So many rows of each device, their clocks wrong by offset_s, `step` of the source's units apart."""
        if self.source.one_device:  # all rows have times of their own
            devices = ["the only one"]
        now = int((self.source.clock + offset_s) * self.source.units_per_s)
        while not self.used.isdisjoint((now, device) for device in devices):
            now += 1
        new = {(now - k * step, device) for k in range(rows) for device in devices} - self.used
        self.used |= new
        self.stored |= new
        await self.source.store(sorted(new))
        return new

    async def delete(self, times):
        """Deletes the rows with these times, of all devices; returns them."""
        gone = {row for row in self.stored if row[0] in times}
        self.stored -= gone
        await self.source.delete(sorted(times))
        return gone

    async def tick(self):
        self.feed.retry_at = self.feed.swept_at = 0.0
        await self.feed.tick()
        for name, value in self.bounds.items():
            if self.feed.shown:
                setattr(self.feed.shown, name, value)

    async def pass_time(self, seconds):
        self.source.clock += seconds
        await asyncio.sleep(self.pause_s)
        await self.feed.compare()  # which also reads the clock
        await self.tick()

    async def settle(self):
        await self.source.fail(False)
        for _ in range(4):
            await self.pass_time(2)


clocks = st.one_of(st.sampled_from([0, 0.6, -7, 3600, -3600]), st.integers(-2 * YEAR, 2 * YEAR))
devices, paces = st.sampled_from(["a", "b", "ab"]), st.sampled_from([1, 7, 50])
steps = st.one_of(
    st.tuples(st.just("insert"), devices, clocks, st.integers(1, 40), paces),
    st.tuples(st.just("pass"), st.floats(0.05, 4)),
    st.tuples(st.just("together")),
    st.tuples(st.just("fail"), st.booleans()),
)
deletions = st.tuples(st.just("delete"), st.integers(1, 30))


def programs(least=0, most=60):
    """Half of them with deletions, of which the check is less strict."""
    return st.one_of(*(st.lists(each, min_size=least, max_size=most) for each in (steps, steps | deletions)))


async def run(site, program, seed):
    """(rows that were sent, rows that were deleted) after a program on a site, and once everything has come to rest."""
    chance = random.Random(seed)
    await site.insert(["old"], -5000, 20)
    await site.insert(["older"], -YEAR, 20)
    await site.tick()
    await site.pass_time(1)
    sent, deleted = set(), set()
    for what, *details in program:
        if what == "insert":
            sent |= await site.insert(*details)
        elif what == "pass":
            await site.pass_time(*details)
        elif what == "together":
            await asyncio.gather(site.feed.compare(), site.tick(), site.tick())
        elif what == "fail":
            await site.source.fail(*details)
        elif what == "delete":
            rows = chance.sample(sorted(site.stored), min(details[0], len(site.stored)))
            deleted |= await site.delete({time for time, _ in rows})
    await site.settle()
    return sent, deleted


def check(site, sent, deleted):
    """stored = shown + missed, none twice, none from before the start."""
    counters = site.feed.counters
    assert max(site.shown.values(), default=0) <= 1
    assert not set(site.shown) - sent, "only what came after the start"
    unshown = (sent & site.stored) - set(site.shown)
    if not deleted:
        assert counters.missed_rows == len(unshown)
        assert counters.rows == len(site.shown)
    # a row that comes while another one of its second is deleted may not be found: their counts are equal
    units = site.source.units_per_s
    late, gone = (collections.Counter(time // units for time, _ in rows) for rows in (unshown, deleted))
    assert (late - gone).total() <= counters.missed_rows <= len(unshown) + len(deleted)
