"""Rows that TDengine pushes by data subscription (TMQ), instead of being polled for them.

A consumer that has died looks just like a quiet one, so the counts of stored rows are compared as with polling: what
is stored and was not pushed is read, and the consumer is replaced.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import threading
import time

import pyarrow as pa

from . import columns as col
from .consumer import CALL_LIMIT_S, take_arguments
from .feed import Feed
from .sql import quoted, topic_of

LOG = logging.getLogger("feed")
MISSED_S = 2  # until what is stored must have been pushed
START_S = 30  # until its first word: the subscribers of many tables start at once


class SubscribedFeed(Feed):
    """A Feed that is pushed its rows; until there is a subscription, and while it is lost, it polls."""

    kind = "subscribe"

    def __init__(self, dsn, *arguments, **options):
        super().__init__(*arguments, **options)
        self.dsn, self.process, self.pipe = dsn, None, None
        self.subscribed = self.caught_up = False  # caught up: a poll has shown what came before the subscription
        self.subscriptions = self.behind = 0
        self.missed_at, self.pushed, self.pending, self.pushing = None, False, [], asyncio.Lock()
        self.answer_by, self.trouble, self.topic_anew = 0.0, None, False

    async def tick(self):
        """Starts the subscriber or replaces one that is silent; polls while there is no subscription."""
        if self.shown is not None and self.process is None:
            self.subscribe()
        if self.process is not None and time.monotonic() > self.answer_by:
            self.unsubscribe("the subscriber does not answer and was ended")
        if not self.caught_up:
            subscribed, succeeded_at = self.subscribed, self.succeeded_at
            await super().tick()
            self.caught_up = subscribed and self.subscribed and self.succeeded_at != succeeded_at

    async def refresh(self, drop):
        shown = self.shown
        await super().refresh(drop)
        if shown is not self.shown:
            self.topic_anew = True
            self.unsubscribe("the table has changed")

    async def compare(self):
        self.uncompared = True  # also while nobody looks: nothing else finds what was not pushed
        await super().compare()

    async def show_more(self, comparison, shown):
        """What was stored but not pushed: shown, and the consumer is replaced when it brings nothing."""
        found = sum(more for _, more in comparison.more.values())
        if self.caught_up and not self.loading:
            self.counters.polls += 1
            self.succeeded_at = time.monotonic()
            self.behind = self.behind + 1 if found else 0
            if found and self.missed_at is None:
                self.missed_at = time.monotonic()
            if self.behind > 3 or (self.missed_at is not None and time.monotonic() - self.missed_at > MISSED_S):
                # a topic stays with the table that it was made on, which may have been dropped and made again
                self.topic_anew = not self.pushed
                self.unsubscribe("it missed rows")
        await super().show_more(comparison, shown)

    def subscribe(self):
        columns = self.source.columns
        if unread := [each.name for each in columns if not each.pushed]:
            self.lost(f"TDengine's client can't read a JSON column where rows are pushed: {', '.join(unread)}")
            return
        select = ", ".join(f"{each.expression} AS {quoted(each.name)}" for each in columns)
        topic = quoted(topic_of(self.source.database, self.source.table))
        arguments = (self.dsn.url, topic, f"SELECT {select} FROM {self.source.name}", columns, self.topic_anew)
        try:
            self.start_process(arguments)
        except (OSError, RuntimeError, MemoryError) as error:  # out of descriptors, memory, threads or processes
            self.trouble = f"no process for it can be started ({error})"
            return
        self.answer_by = time.monotonic() + START_S
        self.pushed = self.topic_anew = False
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self.hear)

    def start_process(self, arguments):
        """Hands the arguments over in a thread: a wide table's fill a pipe, and who writes waits for the process."""
        context = multiprocessing.get_context("spawn")
        (pipe, other_end), (taken, given) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        with other_end, taken:
            ends = (other_end, taken)
            process = context.Process(target=take_arguments, args=ends, daemon=True, name="subscriber")
            process.start()
        threading.Thread(target=give_arguments, args=(given, arguments), daemon=True).start()
        self.pipe, self.process = pipe, process

    def lost(self, why):
        """There is no subscription; what is news is logged."""
        self.subscribed = self.caught_up = False
        if why != self.trouble:
            LOG.warning("%s: no subscription (%s): polling until there is one", self.source, why)
        self.trouble = why

    def unsubscribe(self, why):
        """Ends the subscriber; the next tick starts a new one."""
        if self.process is None:
            return
        self.lost(why)
        asyncio.get_running_loop().remove_reader(self.pipe.fileno())
        self.process.kill()
        self.process.join(1)
        self.pipe.close()
        self.process = None

    def hear(self):
        """One message of the subscriber has come."""
        try:
            kind, *details = self.pipe.recv()
        except (EOFError, OSError):
            self.unsubscribe("the subscriber ended")
            return
        self.answer_by = time.monotonic() + CALL_LIMIT_S + 2
        if kind == "rows":
            self.missed_at, self.pushed = None, True
            self.pending.append(details[0])
            if not self.pushing.locked():
                asyncio.get_running_loop().create_task(self.push())
        elif kind == "subscribed":
            self.subscriptions += 1
            self.subscribed, self.trouble, self.missed_at = True, None, None
        elif kind == "failed":
            self.lost(self.dsn.hide(details[0]))

    async def push(self):
        """Shows what was pushed; what comes meanwhile is shown with the next update."""
        async with self.pushing:
            while self.pending and self.shown is not None:
                parts, self.pending = self.pending, []
                tables = [pa.ipc.open_stream(part).read_all() for part in parts]
                rows = pa.concat_tables(tables, promote_options="default")
                if col.UNSHOWN in rows.column_names:
                    k = rows.column_names.index(col.UNSHOWN)
                    rows = rows.set_column(k, col.UNSHOWN, rows.column(k).fill_null(0))
                rows = rows.sort_by([(self.shown.key[0], "descending")])
                try:
                    await self.put(self.shown.unseen(rows))
                except Exception:
                    LOG.exception("%s: pushed rows could not be shown; the counts will find them", self.source)

    def close(self):
        if self.process is not None:
            self.process.kill()

    def health(self):
        health = super().health() | {"subscriptions": self.subscriptions}
        if self.trouble and not health["error"]:
            health["error"] = f"no subscription ({self.trouble}): polling until there is one"
        return health


def give_arguments(given, arguments):
    with contextlib.suppress(OSError), given:  # the process has ended
        given.send(arguments)
