"""When batches are due, and the timestamps that belong to their rows: each row its own, or it would be overwritten."""

import random
import signal
import time

from .outbox import Refused
from .report import say

FULL_S = 60  # that the backlog is full is reported again when it wasn't for so long, or after a new connection


class Clock:
    """Batches of `rows` rows every `interval_ms`, stamped in steps that a database of `units_per_s` can tell apart.

    The first batch is due at the next full interval of the clock, shortly after which a server polls. ValueError when
    the rows of this pace could not have timestamps of their own.
    """

    def __init__(self, interval_ms, rows, units_per_s=10**9):
        self.interval_ns, self.rows = interval_ms * 10**6, rows
        unit_ns = 10**9 // units_per_s
        # without an interval rows are stamped as if a million came a second
        self.step_ns = self.interval_ns // rows // unit_ns * unit_ns if interval_ms else 1000
        if self.step_ns < unit_ns:
            raise ValueError(
                f"{rows} rows in {interval_ms} ms can't have timestamps of their own in a database of {unit_ns} ns "
                "precision: fewer --rows, a longer --interval, or a database of PRECISION 'ns'"
            )
        # a random phase within the step: two producers at once don't collide
        self.phase_ns = random.randrange(self.step_ns // unit_ns) * unit_ns
        self.next_stamp = 0
        self.due_ns = time.monotonic_ns()
        if self.interval_ns:
            self.due_ns += self.interval_ns - time.time_ns() % self.interval_ns

    def until_due_s(self):
        return max(self.due_ns - time.monotonic_ns(), 0) / 1e9

    def skip(self):
        """The batch that is due is not made; nor are those that fall due until now made up for."""
        self.due_ns = max(self.due_ns, time.monotonic_ns())

    def stamps(self):
        """Timestamps in ns since 1970 of the batch that is due, spread over the interval that has passed."""
        late_ns = time.monotonic_ns() - self.due_ns if self.interval_ns else 0
        first = (time.time_ns() - late_ns - self.rows * self.step_ns) // self.step_ns * self.step_ns + self.phase_ns
        first = max(first, self.next_stamp)  # also when the clock was set back
        self.next_stamp = first + self.rows * self.step_ns
        self.due_ns += self.interval_ns
        return range(first, self.next_stamp, self.step_ns)


def batches(outbox, args):
    """Yields the timestamps of each batch when it is due, until args.batches are made or SIGINT or SIGTERM comes.

    Waits first for the outbox to be connected: its facts are the database's timestamp units per second. While the
    backlog is full no batches are due. Refused when rows could not be told apart at this pace, or as Outbox.put.
    """
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    while not stopped and outbox.facts is None:
        outbox.wait(1, lambda: stopped or outbox.facts is not None)
    if stopped:
        return
    try:
        clock = Clock(args.interval, args.rows, outbox.facts)
    except ValueError as error:
        raise Refused(str(error), 2) from None
    made, full_at, connects = 0, -FULL_S, 0
    while not stopped and (not args.batches or made < args.batches):
        outbox.wait(clock.until_due_s(), lambda: stopped)
        if not args.interval:  # the pace is the sender's: one batch on its way, one ready
            outbox.wait(1, lambda: stopped or len(outbox.kept) < 2)
            if len(outbox.kept) >= 2:
                continue
        if stopped:
            return
        if not outbox.has_room(args.rows):
            if time.monotonic() - full_at > FULL_S or connects != outbox.connects:
                say(f"--backlog is full ({outbox.kept_rows:,} rows): no new rows until some are sent")
            full_at, connects = time.monotonic(), outbox.connects
            clock.skip()
            outbox.wait(0.1, lambda: stopped)
            continue
        yield clock.stamps()
        made += 1
    while args.batches and outbox.kept and not stopped:
        outbox.wait(1, lambda: stopped or not outbox.kept)
