"""Which seconds hold more rows, or fewer, than were shown: by comparing counts, by hour first and then by second."""

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

    async def run(self, sweep):
        """Fills what was set above; sweep: look at the newest hours by second, even if their counts are right."""
        first, end = self.live
        sides = ((None, first), (end, None))
        expected = [self.expected(*bounds) for bounds in sides]
        now, *stored = await self.source.glance(first, end)
        self.offset_s = now - time.time()
        differ = [await self.hours_that_differ(*each, sweep) for each in zip(sides, expected, stored, strict=True)]
        parted = {first // HOUR} & {end // HOUR} & set().union(*differ)  # an hour is compared as a whole
        for (begin, until), hours, rows in zip(sides, differ, stored, strict=True):
            for hour in sorted(hours | parted if rows else hours, reverse=True):
                since = max(hour * HOUR, hour * HOUR if begin is None else begin)
                before = min((hour + 1) * HOUR, (hour + 1) * HOUR if until is None else until)
                if since < before:
                    await self.compare_seconds(hour, since, before)

    async def hours_that_differ(self, bounds, expected, stored, sweep):
        """Hours on one side of the live seconds whose counts are not right; with a sweep the newest hours, too."""
        differ = set()
        if stored != sum(expected.values()):
            counts = await self.source.counts(HOUR, *bounds)
            differ = {hour for hour in counts | expected if counts.get(hour, 0) != expected.get(hour, 0)}
        if sweep and (stored or expected):  # an hour's count is right, too, when one row came late and another is gone
            differ |= set(sorted({second // HOUR for second in self.shown.seconds}, reverse=True)[:SWEPT_HOURS])
        return differ

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

    def hours(self):
        """{hour: how many rows more, or fewer, are stored}, of those whose seconds are not known."""
        return {hour: -left for hour, left in self.left.items() if left}

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
