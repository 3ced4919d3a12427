"""Calls that can hang live in a child process, which is ended and replaced when a call takes too long.

taosws holds Python's interpreter lock for as long as a call takes: no thread, timeout or signal handler of the same
process gets to run meanwhile, and a call to a server that accepts and then says nothing may never return.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

import pebble

PR_SET_PDEATHSIG = 1  # of Linux's prctl
WATCH_S = 1  # between two looks for the parent, where there is no such signal
START_S, SLACK_S = 20, 2  # for a process to start; for one that has been there to begin with a call
pebble.CONSTS.sleep_unit = 0.5  # how often its threads look whether a process has died: each look costs
pebble.CONSTS.term_timeout = 1  # between SIGTERM, which ends a hung call at once, and SIGKILL, for a frozen process


class Lost(Exception):
    """The child did not answer in time, or it died; the next call starts a new one."""


def end_with_parent():
    """This process ends when the one that started it does, however that was."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended just before
            os._exit(1)
        return

    def watch():
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare():
    """The first thing that a child does."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # signals to the whole group, such as Ctrl-C's, are the parent's to deal with
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it whoever holds the interpreter lock
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")  # taosws' threads only wake each other
    end_with_parent()


class Child:
    """One child process, one call at a time.

    A function that is called must be importable, its arguments and result picklable. What it raises is raised here.
    """

    def __init__(self, limit_s=8):
        self.limit_s, self.pool, self.closed = limit_s, None, False
        self.answered = False  # the process is known to have started
        self.turn = asyncio.Lock()

    def schedule(self, function, arguments):
        """(a Future of the call, the seconds until it must be done); Lost when no process can be started now."""
        if self.closed:
            raise Lost("it is closed")
        try:
            if self.pool is None or not self.pool.active:
                context = multiprocessing.get_context("spawn")
                self.pool, self.answered = pebble.ProcessPool(1, initializer=prepare, context=context), False
            future = self.pool.schedule(function, args=arguments, timeout=self.limit_s)
        except (OSError, RuntimeError, MemoryError) as error:  # out of descriptors, memory or processes
            raise self.lost(error) from None
        # pebble counts from when the function begins, which it does not in a process that is frozen
        return future, self.limit_s + (SLACK_S if self.answered else START_S)

    def result(self, function, *arguments):
        """function(*arguments) in the child, waited for; Lost after limit_s seconds, or when the child died."""
        future, limit_s = self.schedule(function, arguments)
        try:
            found = future.result(limit_s)
        except (Exception, concurrent.futures.CancelledError) as error:
            raise self.lost(error) from None
        self.answered = True
        return found

    async def call(self, function, *arguments):
        """The same for an event loop, which goes on meanwhile; other calls wait for their turn."""
        async with self.turn:
            future, limit_s = self.schedule(function, arguments)
            try:
                found = await asyncio.wait_for(asyncio.wrap_future(future), limit_s)
            except Exception as error:
                try:
                    raised = await asyncio.to_thread(self.lost, error)
                except RuntimeError:  # no thread can be started: it takes a moment of the loop's
                    raised = self.lost(error)
                raise raised from None
            self.answered = True
            return found

    def lost(self, error):
        """What is raised for an error of a call: the function's own, or Lost; then the process is ended."""
        if hasattr(error, "traceback"):  # pebble's mark of what the function itself has raised
            return error
        if isinstance(error, pebble.ProcessExpired):
            return Lost(f"its process ended (status {error.exitcode})")
        self.stop()
        if isinstance(error, TimeoutError):
            return Lost(f"a call did not return within {self.limit_s} s and was ended")
        return Lost(f"no process for it can be started ({str(error) or type(error).__name__})")

    def stop(self):
        pool, self.pool = self.pool, None
        if pool is not None:
            with contextlib.suppress(OSError, RuntimeError, TimeoutError):
                pool.stop()
                pool.join(2)

    def close(self):
        """Ends the child, whatever it does just now."""
        self.closed = True
        self.stop()
