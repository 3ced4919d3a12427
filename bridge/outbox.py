"""Batches on their way to a database: kept until they are confirmed, sent again as they are, never lost unreported.

    with Outbox(connect, (dsn,), insert, server="db.example") as outbox:
        outbox.put({"ts": [...], "value": [...]})

connect(*arguments) returns (handle, facts): the handle for insert, and what the sender should know of the database.
insert(handle, batch) stores a batch of at most ROWS_AT_ONCE rows. Both run in a child process (child.py), as they may
hang; after any error the handle is given up and made anew. A batch is a dict of columns, lists of equal length, with
its rows' timestamps: sent twice, it is stored once.
"""

import collections
import os
import threading
import time

from .child import Child, Lost
from .report import print_result, say

ROWS_AT_ONCE = 10_000  # in one call of insert
PARTS_AT_ONCE = 5  # of so many rows, in one call of the child
RETRY_S = 0.5
FINISH_S = 4.5  # for what is still kept when the outbox is closed
SAY_S, SAY_TERMINAL_S = 5, 0.5


class Refused(Exception):
    """What trying again can't mend: a refused login, a table of other columns; one line for the user, exit status."""

    def __init__(self, line, status=1):
        super().__init__(line)
        self.status = status


class Outbox:
    """Sends batches in order, from a thread, one call at a time.

    explain(text): a Refused when trying again can't help, else None. too_old(text): whether the database
    refuses rows because of their age: then the batch is dropped, and counted. once: (function, arguments) to be called
    in the child before the first connect.
    """

    def __init__(
        self,
        connect,
        arguments,
        insert,
        *,
        server,
        backlog=1_000_000,
        explain=None,
        too_old=None,
        once=None,
        hide=str,
        name="outbox",
    ):
        self.connect, self.arguments, self.insert, self.server = connect, arguments, insert, server
        self.backlog, self.explain, self.too_old, self.once = backlog, explain, too_old, once
        self.name, self.hide = name, hide
        self.child, self.changed = Child(), threading.Condition()
        self.kept, self.kept_rows = collections.deque(), 0
        self.batches = self.rows = self.retries = self.dropped_rows = self.connects = 0
        self.facts = self.failure = None
        self.connected = self.waiting = self.closed = False
        self.at_once, self.in_hand = ROWS_AT_ONCE, 0
        self.said_at, self.said_rows = time.monotonic(), 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        try:
            self.thread.start()
        except RuntimeError as error:
            self.failure = Refused(f"{error}: raise the limit of processes (ulimit -u)")
        return self

    def __exit__(self, kind, error, traceback):
        """Sends what is kept, for FINISH_S; Refused is kept for result()."""
        self.failure = error if isinstance(error, Refused) else self.failure
        self.close(0 if kind else FINISH_S)
        return isinstance(error, Refused)

    def result(self):
        """Reports how it ended; returns the exit status: 0, or 1 also when rows remain unsent."""
        if self.failure is not None:
            say(f"{self.name}: {self.failure}")
        if self.kept_rows:
            say(f"{self.name}: {self.kept_rows} rows not sent, or sent without confirmation")
        print_result(f"sent {self.rows} rows in {self.batches} batches")
        if self.failure is not None:
            return self.failure.status
        return 1 if self.kept_rows or self.dropped_rows else 0

    def has_room(self, rows):
        return self.kept_rows + rows <= self.backlog

    def put(self, batch):
        """Keeps a batch until it is confirmed. Refused when there is no going on, OverflowError when it doesn't fit."""
        rows = len(next(iter(batch.values())))
        with self.changed:
            self.check()
            if not self.has_room(rows):
                raise OverflowError(f"{self.kept_rows:,} rows are kept, --backlog is {self.backlog:,}")
            self.kept.append((rows, batch))
            self.kept_rows += rows
            self.changed.notify_all()

    def check(self):
        if self.failure is not None:
            raise self.failure

    def wait(self, seconds, until=lambda: False):
        """Waits, while batches are sent, and reports progress; ends early when until() holds. Refused as put()."""
        end = time.monotonic() + seconds
        with self.changed:
            while (left := end - time.monotonic()) > 0 and not until():
                self.check()
                self.changed.wait(min(left, 0.1))  # so that signals are seen
                self.report()
            self.check()

    def close(self, finish_s=FINISH_S):
        """Gives what is kept so long to be sent, then ends the child."""
        try:
            self.wait(finish_s, lambda: not self.kept)
        except Refused:
            pass
        finally:
            self.closed = True
            self.child.close()

    def run(self):
        """The thread: connects, sends the oldest batches, waits a little after a failure."""
        while not self.closed:
            with self.changed:
                # bound: the wait is repeated until something is kept, or the program ends
                self.changed.wait_for(lambda: self.kept or not self.connected, 1)
                count, parts = self.oldest()
            if self.connected and not count:
                continue
            try:
                failure = self.send(count, parts) if self.connected else self.open()
            except Lost as lost:
                failure = str(lost)
            except Exception as error:  # a fault of connect or insert themselves
                failure, self.failure = None, Refused(f"{type(error).__name__}: {error}")
            if failure and not self.closed:
                self.failed(self.hide(failure), count)
            with self.changed:
                self.changed.notify_all()
            if failure or self.failure:
                time.sleep(RETRY_S)

    def oldest(self):
        """The batches that go into one call, as parts of at most ROWS_AT_ONCE rows: after a pause many at once.

        What may be stored, because a call failed, makes the same parts again: a database may know them by that.
        """
        count, rows = 0, 0
        for size, _ in self.kept:
            full = count == self.in_hand if self.in_hand else count and rows + size > self.at_once
            if full:
                break
            count, rows = count + 1, rows + size
        batches = [batch for _, batch in list(self.kept)[:count]]
        if not batches:
            return 0, []
        merged = {name: [value for batch in batches for value in batch[name]] for name in batches[0]}
        starts = range(0, rows, ROWS_AT_ONCE)
        return count, [{name: merged[name][k : k + ROWS_AT_ONCE] for name in merged} for k in starts]

    def open(self):
        if self.once:
            _, failure = self.child.result(_call, *self.once)
            if failure:
                return failure
            self.once = None
        facts, failure = self.child.result(_open, self.connect, self.arguments)
        if failure is None:
            if self.waiting:
                say(f"connected to {self.server}, {self.kept_rows:,} kept rows to send")
            self.facts, self.connected, self.waiting = facts, True, False
            self.connects += 1
        return failure

    def send(self, count, parts):
        self.in_hand = count
        for k in range(0, len(parts), PARTS_AT_ONCE):  # a call must end within the child's limit
            _, failure = self.child.result(_send, self.insert, parts[k : k + PARTS_AT_ONCE])
            if failure:
                return failure
        self.batches += count
        self.rows += self.discard(count)
        self.at_once = ROWS_AT_ONCE
        return None

    def discard(self, count):
        with self.changed:
            self.in_hand = 0
            rows = sum(self.kept.popleft()[0] for _ in range(count))
            self.kept_rows -= rows
        return rows

    def failed(self, failure, count):
        self.connected = False
        if self.too_old and count and self.too_old(failure):
            if count > 1:
                self.at_once, self.in_hand = 1, 0  # which of them it is, is found one by one
            else:
                rows = self.discard(1)
                self.dropped_rows += rows
                say(f"{rows:,} rows dropped: older than {self.server} keeps rows ({failure})")
            return
        if refused := self.explain and self.explain(failure):
            self.failure = refused
            return
        self.retries += 1
        if not self.waiting:
            say(f"waiting for {self.server} ({failure}): retrying, rows are kept")
        self.waiting = True

    def report(self):
        """A line that refreshes on a terminal, one every 5 seconds otherwise."""
        terminal, passed = os.isatty(2), time.monotonic() - self.said_at
        if passed < (SAY_TERMINAL_S if terminal else SAY_S):
            return
        pace = (self.rows - self.said_rows) / passed
        text = f"{self.rows:,} rows sent, {pace:,.0f} rows/s, {self.kept_rows:,} kept, {self.retries} retries"
        say(text, end="" if terminal else "\n")
        self.said_at, self.said_rows = time.monotonic(), self.rows


_handle = None  # the child's: what connect() returned


def _call(function, arguments):
    """(what it returns, None), or (None, what failed)."""
    try:
        return function(*arguments), None
    except (ImportError, TypeError, NameError, AttributeError):  # a fault of the function itself
        raise
    except BaseException as error:  # taosws' PanicException is no Exception
        return None, str(error) or type(error).__name__


def _open(connect, arguments):
    global _handle
    _handle = None  # a connection that failed once is closed, never used again
    connected, failure = _call(connect, arguments)
    if failure:
        return None, failure
    _handle, facts = connected
    return facts, None


def _send(insert, parts):
    if _handle is None:
        return None, "its process was replaced while it was idle"
    return _call(lambda: [insert(_handle, part) for part in parts] and None, ())
