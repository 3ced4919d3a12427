"""Which rows of a table were shown, so that each is shown once; and how many are expected to be stored.

Rows are told apart by their key. Keys are kept by second of the rows' time. When there are too many, the second that
was not touched for longest keeps only its count, whatever its time: a device whose clock is years ahead pushes out
nobody. When there are too many of those, they are kept by hour.
"""

import collections

import pyarrow as pa

HOUR = 3600


class Shown:
    """The keys of the rows that were shown, and counts of those that are stored but not to be shown.

    key: names of the columns that tell rows apart, the time first; units_per_s: of the time column's integers.
    """

    def __init__(self, key, units_per_s, max_rows=300_000, max_seconds=10_000, max_counted=100_000):
        self.key, self.units_per_s = key, units_per_s
        self.max_rows, self.max_seconds, self.max_counted = max_rows, max_seconds, max_counted
        self.seconds = {}  # second: keys of its rows; the one touched last stands last
        self.counted = {}  # second: rows without keys
        self.by_hour = collections.Counter()  # hour: rows of which not even the second is known
        self.hours = collections.Counter()  # hour: all rows that are expected in it
        self.rows = 0  # in self.seconds
        self.live = range(0)  # seconds that are read again and again: their keys are kept

    def times(self, rows):
        """The times of an Arrow table's rows, in the table's units since 1970."""
        times = []
        for chunk in rows.column(self.key[0]).chunks:
            if len(chunk):  # Arrow's memory as it is: its to_pylist() takes twenty times as long
                values = memoryview(chunk.buffers()[1]).cast("q")
                times += values[chunk.offset : chunk.offset + len(chunk)].tolist()
        return times

    def keys(self, rows):
        """[(second, key)] of an Arrow table's rows, in their order."""
        times = self.times(rows)
        others = [rows.column(name).to_pylist() for name in self.key[1:]]
        keys = zip(times, *others, strict=True) if others else times
        return [(time // self.units_per_s, key) for time, key in zip(times, keys, strict=True)]

    def alike(self, rows):
        """{second: how many of an Arrow table's rows have the key of another one}: only one of those can be shown."""
        keys = self.keys(rows)
        seconds, distinct = [second for second, _ in keys], [second for second, _ in set(keys)]
        return collections.Counter(seconds) - collections.Counter(distinct)

    def unseen(self, rows):
        """The rows that were surely not shown yet, in reversed order; from now on they count as shown.

        Newest first, as a poll reads them, becomes oldest first, as they are to be put into a Perspective table.
        """
        new, before, known = [], None, None
        for k, (second, key) in enumerate(self.keys(rows)):
            if second != before:
                before, known = second, None
                if self.is_readable(second):
                    known = self.seconds[second] = self.seconds.pop(second, None) or set()
            if known is not None and key not in known:
                known.add(key)
                new.append(k)
                self.hours[second // HOUR] += 1
        self.rows += len(new)
        self.compact()
        return rows.take(pa.array(new[::-1], pa.int64()))

    def is_readable(self, second):
        """Whether a row of this second that was not shown can be told from those that were: all keys are known."""
        return not self.counted.get(second) and not self.by_hour[second // HOUR]

    def withdraw(self, rows):
        """These rows could not be shown: they don't count as shown any more."""
        for second, key in self.keys(rows):
            if key in self.seconds.get(second, ()):
                self.remove(second, {key})

    def remove(self, second, keys):
        """Rows that are gone."""
        keys = keys & self.seconds.get(second, set())
        if not keys:
            return
        self.seconds[second] -= keys
        self.rows -= len(keys)
        self.hours[second // HOUR] -= len(keys)

    def expected(self, second):
        """Rows that should be stored with a time in this second, as far as it is known by second."""
        return len(self.seconds.get(second, ())) + self.counted.get(second, 0)

    def count(self, second, rows):
        """So many more rows (or fewer) are stored in this second, without being shown."""
        self.counted[second] = self.counted.get(second, 0) + rows
        self.hours[second // HOUR] += rows

    def count_hour(self, hour, rows):
        self.by_hour[hour] += rows
        self.hours[hour] += rows

    def compact(self):
        """Keeps to the bounds: keys become counts, counts by second become counts by hour."""
        if self.rows > self.max_rows or len(self.seconds) > self.max_seconds:
            for second in [second for second in self.seconds if second not in self.live]:
                if self.rows <= self.max_rows * 0.9 and len(self.seconds) <= self.max_seconds * 0.9:
                    break
                if rows := len(self.seconds.pop(second)):
                    self.rows -= rows
                    self.counted[second] = self.counted.get(second, 0) + rows
        if len(self.counted) > self.max_counted:
            near = range(self.live.start // HOUR * HOUR, self.live.stop + HOUR)  # or what comes next could not be read
            for second in [second for second in self.counted if second not in near]:
                if len(self.counted) <= self.max_counted * 0.9:
                    break
                self.by_hour[second // HOUR] += self.counted.pop(second)
