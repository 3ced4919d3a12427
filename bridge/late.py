"""Which seconds hold more rows, or fewer, than were shown: by comparing counts, by hour first and then by second."""

import collections
import time

from .shown import HOUR

SWEPT_HOURS = 3  # the newest


class Comparison:
    """One comparison of what a source stores with what was shown, outside the `live` seconds (first, end).

    In those, rows come and are read just now; each is compared when it has left them. Counts of what was shown are
    taken before the source is queried: rows that are shown meanwhile must not pass for rows that are gone.
    """

    def __init__(self, source, shown, live):
        self.source, self.shown, self.live = source, shown, live
        self.more = {}  # second: (stored, how many of them were not shown)
        self.fewer = {}  # second: stored
        self.left = {}  # hour: rows whose second is not known, and that were not found stored yet
        self.offset_s = None  # the database's clock minus ours
        self.parts = collections.Counter()  # hour: how many parts of it were compared

    async def run(self, sweep):
        """Fills what was set above; sweep: look at the newest hours by second, even if their counts are right."""
        first, end = self.live
        sides = ((None, first), (end, None))
        hours = [self.expected(*bounds) for bounds in sides]
        now, *rows = await self.source.glance(first, end)
        self.offset_s = now - time.time()
        for bounds, expected, found in zip(sides, hours, rows, strict=True):
            if not found and not expected:
                self.parts[(end if bounds[0] else first) // HOUR] += 1
                continue
            differ = set()
            if found != sum(expected.values()):
                stored = await self.source.counts(HOUR, *bounds)
                differ = {hour for hour in stored | expected if stored.get(hour, 0) != expected.get(hour, 0)}
            if sweep:  # an hour's count is right, too, when one row came late and another is gone
                differ |= set(sorted({second // HOUR for second in self.shown.seconds}, reverse=True)[:SWEPT_HOURS])
            for hour in sorted(differ, reverse=True):
                begin = max(hour * HOUR, bounds[0] if bounds[0] is not None else hour * HOUR)
                until = min((hour + 1) * HOUR, bounds[1] if bounds[1] is not None else (hour + 1) * HOUR)
                if begin < until:
                    await self.compare_seconds(hour, begin, until)

    def expected(self, first=None, end=None):
        """{hour: rows expected in it with first <= second < end}; one of both is None."""
        edge = end if first is None else first
        hours = {}
        for hour, rows in self.shown.hours.items():
            if hour == edge // HOUR:  # of the hour at the edge only a part
                if first is None:
                    rows -= sum(map(self.shown.expected, range(edge, (hour + 1) * HOUR)))
                else:
                    rows = sum(map(self.shown.expected, range(edge, (hour + 1) * HOUR)))
            elif (hour < edge // HOUR) != (first is None):
                continue
            if rows:
                hours[hour] = rows
        return hours

    async def compare_seconds(self, hour, first, end):
        shown = self.shown
        known = {second: rows for second in range(first, end) if (rows := shown.expected(second))}
        left = self.left.setdefault(hour, shown.by_hour[hour])  # an hour may be compared in two parts
        unknown = shown.by_hour[hour] > 0
        stored = await self.source.counts(1, first, end)
        for second in stored | known:
            rows, expected = stored.get(second, 0), known.get(second, 0)
            if unknown and second not in shown.seconds:
                left -= rows - expected  # whatever is here is among the rows known by hour only
            elif rows > expected:
                self.more[second] = rows, rows - expected
            elif rows < expected:
                self.fewer[second] = rows
        self.left[hour] = left
        self.parts[hour] += 1

    def hours(self):
        """{hour: how many rows more, or fewer, are stored}, of those whose seconds are not known."""
        first, end = self.live
        both = {first // HOUR} & {end // HOUR}  # the live seconds part it in two
        return {hour: -left for hour, left in self.left.items() if left and self.parts[hour] == 1 + (hour in both)}

    def fit(self, room):
        """({second: rows to be read}, of those that were not shown the newest `room`; {second: others})."""
        sizes, left = {}, {}
        for second in sorted(self.more, reverse=True):
            stored, more = self.more[second]
            more = min(more, stored - self.shown.expected(second))  # a tick may have shown some meanwhile
            if more <= 0:
                continue
            fit = min(more, max(room, 0)) if self.shown.is_readable(second) else 0
            room -= fit
            if fit:
                sizes[second] = stored if fit == more else fit
            if fit < more:
                left[second] = more - fit
        return sizes, left


def ranges_of(sizes, most):
    """[(first, end, rows)] of {second: rows}: seconds that are read together, `most` rows at once or 1,000.

    Oldest first, but the newest of all at the beginning: a Perspective table drops what was put into it first, so the
    past goes in from old to new, and only the rows that make the page show something at once come before.
    """
    ranges = []
    for second in sorted(sizes):
        if ranges and ranges[-1][1] == second and ranges[-1][2] + sizes[second] <= max(most, 1000):
            first, _, rows = ranges.pop()
            ranges.append((first, second + 1, rows + sizes[second]))
        else:
            ranges.append((second, second + 1, sizes[second]))
    return ranges[-1:] + ranges[:-1]
