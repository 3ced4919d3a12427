"""Which seconds hold more rows, or fewer, than were shown: by comparing counts, by hour first and then by second."""

import itertools
import time

from .shown import HOUR

QUERY = 100  # what a query costs, as so many counts of a second
SWEEP = 3 * (HOUR + QUERY)  # what a sweep may cost: three hours that have rows in each second, or more hours


class Comparison:
    """One comparison of what a source stores with what was shown, outside the `live` seconds (first, end).

    In those, rows come and are read just now; each is compared when it has left them. Counts of what was shown are
    taken before the source is queried: rows that are shown meanwhile must not pass for rows that are gone.
    """

    def __init__(self, source, shown, live):
        self.source, self.shown, self.live = source, shown, live
        self.more = {}  # second: (stored, how many of them were not shown)
        self.fewer = {}  # second: stored
        self.hours = {}  # hour: how many rows more, or fewer, are stored, of those whose seconds are not known
        self.offset_s = None  # the database's clock minus ours

    async def run(self, sweep=None):
        """Fills what was set above; sweep: its number, when also counts are looked at whose sum is right.

        A sum is right, too, when one row came late and another is gone.
        """
        first, end = self.live
        sides = ((None, first), (end, None))
        expected = [self.expected(*bounds) for bounds in sides]
        now, *stored = await self.source.glance(first, end)
        self.offset_s = now - time.time()
        differ = set()
        for bounds, hours, rows in zip(sides, expected, stored, strict=True):
            if rows != sum(hours.values()) or (sweep is not None and rows):
                counts = await self.source.counts(HOUR, *bounds)
                differ |= {hour for hour in counts | hours if counts.get(hour, 0) != hours.get(hour, 0)}
        if sweep is not None:
            differ |= self.swept(sweep)
        for hour in sorted(differ, reverse=True):
            await self.compare_seconds(hour, stored)

    def swept(self, sweep):
        """Hours to be compared by second: the newest, as many as a sweep may cost, and one of the others in turn."""
        rows, by_hour = self.shown.hours, self.shown.by_hour
        hours = sorted((hour for hour in rows if rows[hour] > by_hour[hour]), reverse=True)
        costs = itertools.accumulate(min(rows[hour], HOUR) + QUERY for hour in hours)
        newest = sum(cost <= SWEEP for cost in costs)
        swept, others = set(hours[:newest]), hours[newest:]
        if others:
            swept.add(others[sweep % len(others)])
        return swept

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

    async def compare_seconds(self, hour, rows_of_sides):
        """The whole hour, outside the live seconds: only all of it tells how many of unknown second are stored."""
        shown = self.shown
        first, end = hour * HOUR, (hour + 1) * HOUR
        parts = (first, min(end, self.live[0])), (max(first, self.live[1]), end)
        known = {second: shown.expected(second) for part in parts for second in range(*part)}
        left, unknown, stored = shown.by_hour[hour], shown.by_hour[hour] > 0, {}
        for part, rows in zip(parts, rows_of_sides, strict=True):
            if rows and part[0] < part[1]:
                stored |= await self.source.counts(1, *part)
        for second, expected in known.items():
            rows = stored.get(second, 0)
            if unknown and second not in shown.seconds:
                left -= rows - expected  # whatever is here is among the rows known by hour only
            elif rows > expected:
                self.more[second] = rows, rows - expected
            elif rows < expected:
                self.fewer[second] = rows
        if left:
            self.hours[hour] = -left

    def fit(self, room, began, held):
        """({second: rows to be read}, of those that were not shown the newest `room`; {second: others}).

        Those with a time before second `began` leave room for the rows that are `held`, others take their place.
        """
        sizes, left = {}, {}
        for second in sorted(self.more, reverse=True):
            stored, more = self.more[second]
            more = min(more, stored - self.shown.expected(second))  # a tick may have shown some meanwhile
            if more <= 0:
                continue
            free = max(room if second >= began else room - held, 0)
            fit = min(more, free) if self.shown.is_readable(second) else 0
            room -= fit
            if fit:
                sizes[second] = stored if fit == more else fit + self.shown.expected(second)  # the newest may be shown
            if fit < more:
                left[second] = more - fit
        return sizes, left

    def count(self, second, rows):
        """Counts so many rows as stored without being shown, at most those that are; returns how many."""
        # less than 0: what was read holds rows that came, while others are gone, after they were counted
        rows = max(min(rows, self.more[second][0] - self.shown.expected(second)), 0)
        if rows:
            self.shown.count(second, rows)
        return rows


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
