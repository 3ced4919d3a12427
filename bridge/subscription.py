"""Rows that TDengine pushes by data subscription (TMQ), instead of being polled for them.

A consumer that has died looks just like a quiet one, so the counts of stored rows are compared as with polling: what
is stored and was not pushed is read, and the consumer is replaced.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import secrets
import signal
import threading
import time

import pyarrow as pa

from . import child
from . import columns as col
from .feed import Feed
from .sql import quoted, topic_of
from .tdengine import TRANSPORT, Error

LOG = logging.getLogger("feed")
POLL_S = 0.2  # short: taosws holds the interpreter lock meanwhile, and TDengine now and then misses a wake-up
SILENT_S = 5  # without an answer to a poll: the consumer is dead, or as good as that
MISSED_S = 2  # until what is stored must have been pushed
CALL_LIMIT_S = 8  # a single call into taosws that takes longer has hung
START_S = 30  # until its first word: the subscribers of many tables start at once
TOPIC_S = 5  # tries to drop a topic that is still in use
RETRY_S, RARELY_S = 0.5, 30  # between tries; where they are refused each waits twice as long, up to the second
TOO_MANY = "SHOW TOPICS lists all, of other applications, too: DROP TOPIC those not needed, or raise tmqMaxTopicNum"


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
        self.subscribed = self.caught_up = False
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


def take_arguments(pipe, taken):
    with contextlib.suppress(EOFError):  # the server has ended
        run_subscriber(pipe, *taken.recv())


def run_subscriber(pipe, dsn, topic, select, columns, anew):
    """The subscriber's process: sends ("subscribed",), ("rows", Arrow bytes), ("quiet",) or ("failed", why).

    It ends when the server is gone, or by SIGALRM when a call hangs, whoever holds the interpreter lock.
    """
    child.prepare()
    import taosws  # here, so that only the child loads it

    pause_s = RETRY_S

    def send(*message):
        signal.alarm(0)  # bound: the server, which reads it or ends us
        pipe.send(message)
        signal.alarm(CALL_LIMIT_S)

    with contextlib.suppress(BrokenPipeError):
        while True:
            began = time.monotonic()
            try:
                send("quiet")
                make_topic(taosws.connect(dsn), topic, select, anew, lambda: send("quiet"))
                consume(taosws, dsn, topic, columns, send)
            except BrokenPipeError:
                raise
            except BaseException as error:  # taosws' PanicException is no Exception
                anew = isinstance(error, OtherColumns)
                reason, passes = reason_of(error)
                worked = time.monotonic() - began > RARELY_S
                pause_s = RETRY_S if passes or worked else min(2 * pause_s, RARELY_S)
            send("failed", reason)
            rest(pause_s, send)


def rest(seconds, send):
    """Waits; meanwhile the server hears that this process is alive."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        send("quiet")
        signal.alarm(0)
        time.sleep(min(left_s, CALL_LIMIT_S / 2))


def reason_of(error):
    """(why there is no subscription, in words; whether that may pass within a moment)."""
    if isinstance(error, (OtherColumns, TimeoutError)):
        return str(error), True
    found = Error(str(error) or type(error).__name__)
    if found.code.startswith(TRANSPORT):
        return f"TDengine does not answer: {found}", True
    if not found.code:  # the client's own
        return f"taosws failed: {found}", False
    return f"TDengine answered: {found}" + (f"; {TOO_MANY}" if found.code == "0x4004" else ""), False


class OtherColumns(Exception):
    """The topic is of another SELECT: an older one, or not ours."""


def make_topic(connection, topic, select, anew, alive):
    """Makes the topic when it is missing; anew: drops it first, unless another consumer uses it for TOPIC_S longer."""
    give_up_at = time.monotonic() + TOPIC_S
    while anew and time.monotonic() < give_up_at:
        try:
            connection.execute(f"DROP TOPIC IF EXISTS {topic}")
            break
        except Exception:  # for two seconds after a consumer has gone, too
            alive()
            time.sleep(0.2)
    connection.execute(f"CREATE TOPIC IF NOT EXISTS {topic} AS {select}")


def consume(taosws, dsn, topic, columns, send):
    """Subscribes, in a group of its own and from now on, and sends the rows until something fails."""
    group = f"group.id=perspective_{os.getpid()}_{secrets.token_hex(8)}"
    consumer = taosws.Consumer(dsn=f"{dsn}&{group}&auto.offset.reset=latest&enable.auto.commit=false")
    consumer.subscribe([topic.strip("`")])
    message = consumer.poll(POLL_S)  # "latest" is the time of the first poll
    send("subscribed")
    sent_at = answered_at = time.monotonic()
    names = [each.name for each in columns]
    while True:
        if message is not None:
            rows = []
            for block in message:
                if [field.name() for field in block.fields()] != names:
                    raise OtherColumns(f"topic {topic} does not have the columns of the table")
                rows += block.fetchall()
            send("rows", col.to_ipc(col.to_arrow(rows, columns)))
            consumer.commit(message)  # one that reconnects goes on from here; without a commit it would lose rows
            sent_at = answered_at = time.monotonic()
        elif time.monotonic() - sent_at > 1:
            send("quiet")
            sent_at = time.monotonic()
        signal.alarm(CALL_LIMIT_S)
        started = time.monotonic()
        message = consumer.poll(POLL_S)
        # None after half the time says that there are no rows; after all of it, that nobody has answered
        if time.monotonic() - started < 0.95 * POLL_S:
            answered_at = time.monotonic()
        elif message is None and time.monotonic() - answered_at > SILENT_S:
            raise TimeoutError(f"no answer for {SILENT_S} s")
