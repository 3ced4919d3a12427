"""The one thread that calls Perspective's engine, which crashes when it is called from several.

    engine = Engine(mark)
    table = await engine.run(engine.client.table, rows, limit=1000, name="stock_values")
    await engine.run(table.update, more_rows)

What changes tables goes through `run`, what viewers request through `request`. When both wait, they take turns by time:
an engine at its limit updates less often, with more rows each, and still answers viewers.
"""

import asyncio
import collections
import errno
import functools
import math
import os
import threading
import time

import perspective

MAX_WAITING = 20_000  # calls
LOAD_S = 5  # over which the share of time that the engine works is averaged
AT_LIMIT = 0.8  # of it
NO_THREAD = os.strerror(errno.EAGAIN)  # what the engine says when it can't start one, for want of memory


class Overloaded(Exception):
    """More calls wait than would ever be answered in time."""


class Engine:
    """Perspective's `server` and a `client` of it, to be called by `run` alone."""

    def __init__(self, mark):
        self.mark = mark
        self.server = perspective.Server()
        self.client = self.server.new_local_client()
        self.changes = 0  # updates begun: what was read before the last one is out of date
        self.update_s = 0.0  # how long the last update took
        self.after_update = []  # functions to be called in the engine's thread after each update
        self.updates, self.requests = collections.deque(), collections.deque()
        self.ready, self.closed = threading.Condition(), False
        self.updated_at = self.worked_at = time.monotonic()
        self.worked = 0.0
        self.thread = threading.Thread(target=self.work, daemon=True, name="engine")
        self.thread.start()

    async def run(self, function, *args, **kwargs):
        """The result of function(*args, **kwargs), called in the engine's thread; its exceptions as they are."""
        return await self.put(self.updates, ("update",), functools.partial(function, *args, **kwargs))

    async def request(self, hand, charge, function, *args):
        """The same for what changes no table; `hand` is (kind, digest, text) for the mark, charge(seconds) its cost."""
        return await self.put(self.requests, hand, functools.partial(function, *args), charge)

    async def put(self, calls, hand, call, charge=None):
        if len(calls) >= MAX_WAITING:
            raise Overloaded
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with self.ready:
            calls.append((hand, call, loop, done, charge))
            self.ready.notify()
        return await done

    def next_call(self):
        """Blocks until there is one; None when the engine is closed."""
        with self.ready:
            while not self.closed:
                if self.updates and (not self.requests or time.monotonic() - self.updated_at >= self.update_s):
                    return self.updates.popleft(), True
                if self.requests:
                    return self.requests.popleft(), False
                self.ready.wait()
        return None

    def work(self):
        while (found := self.next_call()) is not None:
            (hand, call, loop, done, charge), changes = found
            self.changes += changes
            started = time.monotonic()
            self.mark.begin(*hand)
            result = error = None
            try:
                result = call()
            except BaseException as raised:  # a panic of the engine's is no Exception
                error = MemoryError(str(raised)) if NO_THREAD in str(raised) else raised
            for follow in self.after_update if changes else ():
                follow()
            self.mark.end()
            now = time.monotonic()
            self.count(started, now, changes)
            loop.call_soon_threadsafe(finish, done, result, error, charge, now - started)

    def count(self, started, now, changes):
        if changes:
            self.mark.grown_up()
            self.updated_at, self.update_s = now, now - started
        self.worked = self.worked * math.exp((self.worked_at - now) / LOAD_S) + now - started
        self.worked_at = now

    @property
    def load(self):
        """Share of the last seconds in which the engine worked, 0 to about 1."""
        return self.worked * math.exp((self.worked_at - time.monotonic()) / LOAD_S) / LOAD_S

    @property
    def busy(self):
        """Whether it is at its limit."""
        return self.load > AT_LIMIT

    def close(self):
        """No more calls; the one in hand is not waited for."""
        with self.ready:
            self.closed = True
            self.ready.notify_all()


def finish(done, result, error, charge, seconds):
    if charge is not None:
        charge(seconds)
    if done.cancelled():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
