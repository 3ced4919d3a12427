"""What /healthz and the page say of one table: how many rows, how old, what could not be shown, what is wrong."""

import collections
import datetime
import statistics
import time

STALE_S, STALE_MOST_S = 5, 600  # least and most time without a row after which a table is stale
RECENT_S = 60  # what could not be shown makes a table incomplete for so long
PACE_S = 5  # the pace is taken over so long
STEADY_S = 2.5  # rows that come with such pauses come steadily: so they are shown while nobody looks


class Counters:
    """Counters of one table; ages and lags go by arrival, so that a device's wrong clock does not spoil them."""

    def __init__(self, source):
        self.source = source
        self.begin_anew()
        self.polls = self.failed_polls = self.reconnects = 0
        self.missed_rows = self.unshown_values = 0
        self.newest_s = self.lag_s = self.error = self.note = self.history = None
        self.waiting = True  # for the first rows, or for something that only a user can mend
        self.incomplete_at = -RECENT_S  # when a row or a value could not be shown last
        self.gaps, self.row_at = collections.deque(maxlen=20), None  # gaps: seconds that polls found no rows for
        self.polled_at = time.monotonic()

    def succeeded(self):
        """A poll has come back; True when the one before had failed."""
        again, self.error = self.error is not None, None
        self.reconnects += again
        self.polled_at = time.monotonic()
        return again

    def failed(self, reason):
        """A poll has failed; True when that is news."""
        news, self.error = reason != self.error, reason
        self.failed_polls += 1
        return news

    def arrived(self, rows, newest_s=None, lag_s=None):
        """Rows are shown; newest_s and lag_s: of the newest one with a time near the database's clock, if any."""
        now = time.monotonic()
        if self.row_at is not None:
            self.gaps.append(max(self.polled_at - self.row_at, 0))
        self.arrivals.append((now, self.rows + rows))
        self.rows, self.row_at, self.waiting = self.rows + rows, now, False
        if newest_s is not None:
            self.newest_s = max(newest_s, self.newest_s or newest_s)
        if lag_s is not None:
            self.lag_s = max(lag_s, 0)

    def begin_anew(self):
        """Rows count from none on: the table was made, or made anew."""
        self.rows = 0
        self.arrivals = collections.deque(maxlen=600)  # (when, rows by then): the pace counts from the first one on

    def begin_pace(self):
        """What came up to now were rows of the past: the pace is that of what comes from now on."""
        self.arrivals.clear()

    def missed(self, rows=0, values=0):
        """So many more rows, or values of rows, could not be shown."""
        self.missed_rows, self.unshown_values = self.missed_rows + rows, self.unshown_values + values
        if rows or values:
            self.incomplete_at = time.monotonic()

    def stale_after_s(self):
        """A table whose rows come rarely is not stale after the pause that is usual for it."""
        usual = statistics.median(self.gaps) if self.gaps else 0
        return min(max(5 * usual, STALE_S), STALE_MOST_S)

    def status(self):
        now = time.monotonic()
        if self.row_at is None or self.waiting:
            return "waiting"
        if now - self.row_at > self.stale_after_s():
            return "stale"
        return "incomplete" if now - self.incomplete_at < RECENT_S else "ok"

    def rows_per_s(self):
        if not self.arrivals:
            return 0.0
        now = time.monotonic()
        while len(self.arrivals) > 1 and now - self.arrivals[1][0] > PACE_S:
            self.arrivals.popleft()
        after_pause = len(self.arrivals) > 2 and self.arrivals[1][0] - self.arrivals[0][0] > STEADY_S
        (first, before), (last, _) = self.arrivals[1 if after_pause else 0], self.arrivals[-1]
        # to the last arrival, as between two of them there are no rows yet
        passed = (last if now - last < STEADY_S else now) - first
        return round((self.rows - before) / max(passed, 0.25), 1)

    def as_json(self):
        """This table's part of /healthz, see docs/operations.md."""
        newest = None
        if self.newest_s is not None:
            newest = datetime.datetime.fromtimestamp(self.newest_s, datetime.UTC).isoformat(timespec="milliseconds")
        age_s = None if self.row_at is None else time.monotonic() - self.row_at + (self.lag_s or 0)
        return {
            "status": self.status(),
            "source": self.source,
            "rows": self.rows,
            "rows_per_s": self.rows_per_s(),
            "newest": newest,
            "age_ms": None if age_s is None else round(age_s * 1000),
            "lag_ms": None if self.lag_s is None else round(self.lag_s * 1000),
            "polls": self.polls,
            "failed_polls": self.failed_polls,
            "reconnects": self.reconnects,
            "missed_rows": self.missed_rows,
            "unshown_values": self.unshown_values,
            "history": self.history,
            "error": self.error or self.note,
        }
