"""Keeps a server alive whose engine may crash: the server runs in a child process, which is replaced when it dies.

    status = supervisor.run(serve, args)

`serve(args, place)` is a coroutine function that runs until `place.stopping` is set. The parent never calls the engine;
it holds the listening sockets, so a new child goes on at the same port within a fraction of a second.
"""

import asyncio
import collections
import contextlib
import errno
import logging
import mmap
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time

import tornado.netutil

from .child import end_with_parent
from .mark import Mark

LOG = logging.getLogger(__name__)
CHECK_S = 1  # between two looks at the child's memory and at what it has in hand
STUCK_S = 60  # for one call into the engine
STOP_S = 5  # for the child to end by itself
QUIET_S = 60  # between two lines about one thing
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
MAX_DEATHS, DEATHS_S = 5, 60  # more deaths in so many seconds: give up
FAULTS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Place:
    """What a child finds: sockets, a mark for its engine, and what became of the children before it."""

    def __init__(self, sockets):
        self.sockets, self.mark = sockets, Mark()
        self.banned = {}  # digest of each request that killed an engine: its kind
        self.restarts = {"crashed": 0, "recycled": 0, "stuck": 0}
        self.started = time.monotonic()
        self.stopping = None  # asyncio.Event, in the child: SIGINT or SIGTERM came

    @property
    def age_ms(self):
        return int((time.monotonic() - self.started) * 1000)


def is_shortage(error):
    """Whether there is no descriptor, memory or process left at the moment."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in SHORTAGES or "new thread" in str(error)


def try_fork():
    """OSError when no process can be started: multiprocessing would leave its pipes open then."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def resident_mb(pid):
    """Memory of a process in MB, 0 when it can't be read."""
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        if sys.platform == "linux":
            with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # looked at each second, for days
                return int(file.read().split()[1]) * mmap.PAGESIZE / 2**20
        if int(time.monotonic()) % 10 == 0:  # starting ps costs
            return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)], timeout=5)) / 1024
    return 0


def run(serve, args):
    """Serves until SIGINT or SIGTERM; the exit status. Needs args.host, args.port and args.max_memory (MB).

    Call it before a thread or an engine has been started: the children are forked.
    """
    return Supervisor(serve, args).run()


class Supervisor:
    """Starts children one after the other."""

    def __init__(self, serve, args):
        self.serve, self.args = serve, args
        self.child, self.stopping, self.deaths = None, False, collections.deque(maxlen=MAX_DEATHS + 1)
        self.warned_at = -QUIET_S

    def run(self):
        for number in SIGNALS:
            signal.signal(number, self.stop)
        try:
            sockets = tornado.netutil.bind_sockets(self.args.port, self.args.host)
        except OSError as error:
            where = f"{self.args.host}:{self.args.port}"
            LOG.error("can't listen on %s (%s): choose another --host or --port", where, error.strerror or error)
            return 1
        self.place = Place(sockets)
        while not self.stopping:
            try:
                self.start()
            except OSError:
                self.wait_for_room()
                continue
            reason = self.watch()
            code = self.child.exitcode
            if self.stopping or reason is None and code == 0:
                return 0
            if code == os.EX_TEMPFAIL:
                self.wait_for_room()
                continue
            if code > 0:  # it has said what is wrong
                return code
            self.bury(reason, signal.Signals(-code))
            if len(self.deaths) > MAX_DEATHS and self.deaths[-1] - self.deaths[0] < DEATHS_S:
                LOG.error("the server died %s times within a minute: giving up", len(self.deaths))
                return 1
        return 0

    def stop(self, *_):
        self.stopping = True
        if self.child is not None and self.child.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGTERM)

    def start(self):
        self.place.mark.end()
        self.place.mark.grown_up()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child handles them
        try:
            try_fork()
            self.child = multiprocessing.get_context("fork").Process(target=self.serve_in_child, name="server")
            self.child.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def wait_for_room(self):
        """Waits a little; one line a minute."""
        if time.monotonic() - self.warned_at > QUIET_S:
            LOG.error("no process, descriptor or memory is left to start the server: retrying")
            self.warned_at = time.monotonic()
        time.sleep(CHECK_S)

    def serve_in_child(self):
        end_with_parent()

        async def serve():
            loop = asyncio.get_running_loop()
            self.place.stopping = asyncio.Event()
            for number in SIGNALS:
                loop.add_signal_handler(number, self.place.stopping.set)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            status = await self.serve(self.args, self.place)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):  # None when it was closed at the start
                    stream.flush()
            os._exit(status or 0)  # not waiting for threads, which nothing could end

        try:
            asyncio.run(serve())
        except (OSError, RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            os._exit(os.EX_TEMPFAIL)

    def watch(self):
        """Waits for the child's end; "recycled" or "stuck" when the child had to be killed."""
        reason = stop_at = None
        while not select.select([self.child.sentinel], [], [], CHECK_S)[0]:
            if self.stopping:
                stop_at = stop_at or time.monotonic() + STOP_S
                if time.monotonic() > stop_at:
                    self.child.kill()
            elif resident_mb(self.child.pid) > self.args.max_memory:
                reason = "recycled"
                self.child.kill()
            elif (call := self.place.mark.read()) and call[3] > STUCK_S:
                reason = "stuck"
                self.child.kill()
        self.child.join()
        return reason

    def bury(self, reason, number):
        """Notes why a child died, and bans the request that the engine had in hand, if that is the reason."""
        place, call = self.place, self.place.mark.read()
        self.deaths.append(time.monotonic())
        reason = reason or "crashed"
        place.restarts[reason] += 1
        culprit = ""
        if call and (number in FAULTS or reason == "stuck" or reason == "recycled" and call[3] > CHECK_S):
            kind, digest, text, _ = call
            digests = [digest] if any(digest) else place.mark.young()  # an update: by the views that are new
            place.banned.update(dict.fromkeys(digests, kind))
            culprit = (
                f" in {kind}{': ' if text else ''}{text}, which is refused from now on" if digests else f" in {kind}"
            )
        words = {"crashed": f"died ({number.name})", "recycled": f"had more than {self.args.max_memory} MB"}
        LOG.error("the server %s%s: it starts anew", words.get(reason, f"hung for {STUCK_S} s"), culprit)
