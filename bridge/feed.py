"""Which rows to show next: those of the last second on each tick, all others by comparing counts once a second.

On each tick: the rows from the newest one shown on, up to one second ahead of the database's clock. Once a second:
counts of the stored rows are compared with what was shown, in all, then by hour, then by second; the rows of each
second that has more are read. So rows that come late, or from a clock that is ahead, or that were stored before the
start (--history) are all found in the same way. What does not fit the limit is counted as missed. While nobody looks
both come more rarely (polls.py).
"""

import asyncio
import contextlib
import logging
import time

from .columns import ROW, UNSHOWN, as_engine_times, perspective_type, to_ipc
from .health import Counters
from .late import Comparison, ranges_of
from .shown import HOUR, Shown

LOG = logging.getLogger("feed")
WINDOW_S = 1  # rows this far around the database's clock are read by the ticks, all others after comparing
LATE_S = 10  # after rows came late within the window, ticks read the whole window for so long
DESCRIBE_S, RETRY_S = 5, 0.5
SWEEP_S = 2  # counts are compared at least so often also where their sum is right
KNOWN_BY_SECOND_S = 20_000  # of the rows that are stored before the start; older ones are known by hour
CELLS_AT_ONCE = 200_000  # rows times columns that one query of the past reads
NO_MEMORY = "no memory for its rows is left: retrying (ulimit -v, or the machine's own)"


class Feed:
    """Feeds one Perspective table with the rows of one table of a source, each once.

    source: describes, reads and counts a table, as tdengine.Table; read(source, where, limit): its newest rows, Arrow;
    show(ipc_bytes): a coroutine function that puts rows into the Perspective table.
    """

    kind = "poll"

    def __init__(self, source, read, show, limit, history_s=0, resumed=False):
        self.source, self.read, self.show, self.limit = source, read, show, limit
        self.history_s, self.resumed = history_s, resumed
        self.title, self.counters = source.title, Counters(self.kind)
        self.shown = self.start = self.began = None  # seconds: rows from `start` on are to be shown; began: ours
        self.before = {}  # {began: rows of that second that were stored already when this began}
        self.offset_s = 0.0  # the database's clock minus ours
        self.newest = None  # time of the newest row near the database's clock, in the table's units
        self.made_at = self.succeeded_at = time.monotonic()  # succeeded: up to when all rows were read, or pushed
        self.late_at, self.described_at, self.swept_at, self.retry_at = -LATE_S, 0.0, 0.0, 0.0
        self.ticked_at, self.pace = self.made_at, 0.0  # start of the last tick that succeeded; rows/s that it brought
        self.uncompared = True  # a tick has succeeded since the last comparison, or there was none
        self.sweeps = 0
        self.full = False  # a tick since the last comparison came back with `limit` new rows
        self.loading = True  # rows of the past, until the first comparison is done
        self.less = {}  # seconds in which fewer rows were stored than shown, when compared last
        self.held, self.turn = 0, asyncio.Lock()  # turn: only one of tick and comparison changes what is hosted

    async def tick(self):
        """One poll; what fails is counted, reported once, and tried again after RETRY_S."""
        started = time.monotonic()
        if started < self.retry_at:
            return
        self.counters.polls += 1
        with self.reported():
            if self.shown is None:
                await self.begin()
            rows = await self.read(self.source, self.window(), self.limit)
            new = self.shown.unseen(rows)
            self.full |= 0 < new.num_rows == self.limit
            await self.put(new)
            self.pace = new.num_rows / max(started - self.ticked_at, 0.01)
            self.succeeded_at = self.ticked_at = started
            self.uncompared = True
            self.succeeded()

    def succeeded(self):
        if self.counters.succeeded():
            LOG.info("%s: the database answers again", self.source)

    def window(self):
        """The condition of a tick, whose seconds become shown.live: from the newest row shown on.

        At most the last second: all of it after rows came late, more after a failure.
        """
        now = time.monotonic()
        first = time.time() + self.offset_s - WINDOW_S - (now - self.succeeded_at)
        first = max(int(first * self.source.units_per_s), self.start * self.source.units_per_s)
        if self.newest is not None and now - self.late_at > LATE_S:
            first = max(first, self.newest)
        end = int((time.time() + self.offset_s + WINDOW_S) * self.source.units_per_s)
        self.shown.live = range(first // self.source.units_per_s - WINDOW_S, end // self.source.units_per_s + 1)
        return self.source.within(first, end)

    async def begin(self):
        """Where the rows to be shown begin, and what is stored before that: those are not to be shown."""
        await self.source.describe()
        self.described_at = time.monotonic()
        now = await self.source.now()
        self.offset_s = now - time.time()
        self.began = int(now - WINDOW_S - (time.monotonic() - self.made_at))  # since then rows have been waited for
        self.before = await self.source.counts(1, self.began, self.began + WINDOW_S)
        if self.start is None:
            self.start = self.began - self.history_s
        shown = Shown(self.source.key, self.source.units_per_s)
        known_from = self.start - KNOWN_BY_SECOND_S
        for hour, rows in (await self.source.counts(HOUR, end=known_from)).items():
            shown.count_hour(hour, rows)
        for second, rows in (await self.source.counts(1, known_from, self.start)).items():
            shown.count(second, rows)
        self.shown, self.newest, self.loading = shown, None, True
        before = sum(shown.hours.values())
        hint = "is its producer running?" if self.source.dataset else "--history shows older ones"
        there = f"rows, but none since the start: {hint}" if before else "no rows yet"
        self.counters.note = f"{self.source} has {there}"

    async def put(self, rows):
        """Shows rows that are not shown yet, oldest first; when that fails they don't count as shown."""
        if not rows.num_rows:
            return
        shown = self.shown
        extra = [name for name in (UNSHOWN, ROW) if name in rows.column_names]
        unshown = sum(rows.column(UNSHOWN).to_pylist()) if UNSHOWN in extra else 0
        async with self.turn:
            if shown is not self.shown:  # the table has changed meanwhile
                return
            held, self.held = self.held, min(self.held + rows.num_rows, self.limit)  # or the past takes their place
            try:
                await self.show(to_ipc(as_engine_times(rows.drop_columns(extra))))
            except BaseException:
                shown.withdraw(rows)
                self.held = held
                raise
        self.counters.missed(values=unshown)
        self.counters.note = None
        newest_s = lag_s = None
        now = time.time() + self.offset_s
        end = (now + WINDOW_S) * self.source.units_per_s
        newest = max((at for at in shown.times(rows) if at < end), default=None)
        if newest is not None:
            newest_s = newest / self.source.units_per_s
            if now - newest_s < WINDOW_S + time.monotonic() - self.succeeded_at:
                lag_s = now - newest_s
                self.newest = max(newest, self.newest or newest)
        self.counters.arrived(rows.num_rows, newest_s, lag_s)

    async def compare(self):
        """Finds, once, what the ticks did not: shows it, or counts it as missed; notices rows that are gone."""
        with self.reported():
            shown = self.shown
            if shown is None or not self.uncompared:
                return
            self.uncompared = False
            now, started = int(time.time() + self.offset_s), time.monotonic()
            comparison = Comparison(self.source, shown, (now - WINDOW_S, now + WINDOW_S + 1))
            sweep = started - self.swept_at > SWEEP_S
            await comparison.run(self.sweeps if sweep else None)
            self.offset_s = comparison.offset_s
            if shown is not self.shown:  # the table has changed meanwhile
                return
            if sweep:  # rarely where it takes long
                self.swept_at = started + 10 * (time.monotonic() - started)
                self.sweeps += 1
            for hour, rows in comparison.hours.items():
                shown.count_hour(hour, rows)
                self.counters.missed(max(rows, 0))
            await self.show_more(comparison, shown)
            if shown is not self.shown:
                return
            await self.forget_fewer(comparison.fewer, shown)
            if shown is not self.shown:
                return
            if self.loading and comparison.more:
                self.counters.begin_pace()
            self.loading, self.counters.history = False, None
            self.succeeded()

    async def show_more(self, comparison, shown):
        """Reads and shows the rows that were not shown, the newest that fit; all others are missed."""
        room, held = 0 if self.full else self.limit, self.held if self.loading else 0
        self.full = False
        (sizes, left), alike = comparison.fit(room, self.began + WINDOW_S, held), {}
        if any(second >= self.began for second in sizes):
            self.late_at = time.monotonic()
        if self.loading and sum(sizes.values()) > self.limit // 10:
            self.counters.history = {"loaded": 0, "of": sum(sizes.values())}
            LOG.info("%s: loading %s stored rows", self.source, sum(sizes.values()))
        for first, end, rows in ranges_of(sizes, CELLS_AT_ONCE // len(self.source.columns)):
            found = await self.read(self.source, self.source.between(first, end), rows)
            if shown is not self.shown:
                return
            new = shown.unseen(found)
            if new.num_rows < found.num_rows:
                alike |= shown.alike(found)
            await self.put(new)
            if self.counters.history:
                self.counters.history["loaded"] += rows
        if shown is not self.shown:
            return
        for second, rows in left.items():  # now: what is counted can't be told from what is new any more
            self.leave_out(second, comparison.count(second, rows))
        for second, rows in alike.items():
            self.counters.missed(comparison.count(second, rows))

    def leave_out(self, second, rows):
        """Rows that don't fit the limit: missed, unless stored before this server's start and so just not wanted."""
        if self.loading and self.start <= second < self.began + WINDOW_S:
            older = rows if second < self.began else min(rows, self.before.get(second, 0))
            self.counters.rows += older if self.resumed else 0  # shown before the engine was replaced
            rows -= older
        self.counters.missed(rows)

    async def forget_fewer(self, fewer, shown):
        """Rows that are gone, when a second comparison says so, too: a count may be a little behind what was pushed."""
        for second in [second for second in fewer if second in self.less][:1000]:
            stored = fewer[second]
            known = set(shown.seconds.get(second, ()))
            if known and stored:
                found = await self.read(self.source, self.source.between(second, second + 1), self.limit)
                if shown is not self.shown:
                    return
                if found.num_rows == self.limit:
                    continue
                known -= {key for _, key in shown.keys(found)}
            shown.remove(second, known)
            if (counted := shown.counted.get(second, 0)) and stored < shown.expected(second):
                shown.count(second, -min(counted, shown.expected(second) - stored))
        self.less = fewer

    @contextlib.contextmanager
    def reported(self):
        """Counts and reports what the source raises; it is tried again."""
        try:
            yield
        except self.source.errors as error:
            self.counters.waiting |= error.waiting
            if error.outdated:
                self.described_at = 0.0
            self.failed(self.source.explain(error))
        except MemoryError:
            self.failed(NO_MEMORY)

    def failed(self, reason):
        self.retry_at = time.monotonic() + RETRY_S
        if self.counters.failed(reason):
            LOG.warning("%s: %s", self.source, reason)

    async def refresh(self, drop):
        """Begins anew when the table's columns changed, or it was dropped and made again; drop(): what is hosted."""
        if self.shown is None or time.monotonic() - self.described_at < DESCRIBE_S:
            return
        with self.reported():
            self.described_at = time.monotonic()
            if await self.source.describe():
                LOG.info("%s: its columns have changed, or it was made anew: loading it again", self.source)
                async with self.turn:
                    self.shown, self.held, self.resumed = None, 0, True
                    self.counters.begin_anew()
                    await drop()

    def health(self):
        """This table's part of /healthz."""
        columns = {column.name: perspective_type(column.type) for column in self.source.columns}
        return self.counters.as_json() | {
            "table": str(self.source),
            "held": self.held,
            "columns": columns,
            "time": self.source.key[0] if columns else None,
            "supertable": self.source.supertable,
            "dataset": self.source.dataset,
        }

    def close(self):
        """Ends what it started; a Feed that polls has started nothing."""
