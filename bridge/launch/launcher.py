"""run.sh, for TDengine and for ClickHouse: from the environment to one line a second, until something ends.

A demo is a module with FOLDER, add_arguments(parser), database(launcher) and start(launcher): see tdengine.py.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import socket

from .. import options
from . import Failed, Unusable, clean, complain, install, one_line, report, running
from .progress import Progress
from .watchdog import PRODUCER

LISTEN_LIMIT_S = 60  # until a database of ours listens
USUAL_ROWS, MOST_ROWS = 20_000, 60_000  # of a Perspective table: as perspective_server.py, and with --history


def duration(text):
    """A time as perspective_server.py takes it, unchanged."""
    options.duration_s(text)
    return text


def port_of(variable, default):
    """The port that an environment variable names."""
    with contextlib.suppress(argparse.ArgumentTypeError):
        return options.whole_number(1, 65535)(os.environ.get(variable) or str(default))
    raise Unusable(f"{variable}: '{os.environ[variable]}' is not a port")


def add_arguments(parser):
    """The flags that both demos have."""
    add = parser.add_argument
    add(
        "--port",
        type=options.whole_number(1, 65535),
        default=8080,
        metavar="P",
        help="where the page is (default 8080)",
    )
    add(
        "--history",
        type=duration,
        metavar="TIME",
        help="begin with what is stored of so long before, as 30s, 10m, 2h, 1d",
    )
    add(
        "--limit",
        type=options.whole_number(1, 10**8),
        metavar="N",
        help="rows a Perspective table holds, the newest (default 20000)",
    )
    add("--rows", type=options.whole_number(1, 10**8), metavar="N", help="rows a batch (default 250)")
    add(
        "--interval",
        type=options.whole_number(10, 60000),
        metavar="MS",
        help="between batches, and polls (default 250)",
    )
    add("--open", action="store_true", help="open the page in your browser once rows flow")
    add("--no-install", action="store_true", help="don't look whether everything is installed")
    add(
        "--clean", action="store_true", help="name and, after a question, remove what the demo has put into this folder"
    )


def flags(**values):
    """["--limit", 100] of limit=100; nothing for None and False."""
    found = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each not in (None, False):
                found += [f"--{name.replace('_', '-')}"] + ([] if each is True else [str(each)])
    return found


def listens(port, host="localhost"):
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 1).close()
        return True
    return False


def free_port(wanted):
    """That port, or another one when something listens on it."""
    if not listens(wanted, "127.0.0.1") and not listens(wanted):
        return wanted
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rows_of_history(args):
    """The rows that one producer makes in the time of --history, within bounds."""
    seconds = int(args.history[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[args.history[-1]]
    return min(MOST_ROWS, max(USUAL_ROWS, seconds * 1000 * (args.rows or 250) // (args.interval or 250)))


class Launcher:
    """One run of run.sh. `services` starts and ends processes, `python` is the environment's."""

    def __init__(self, demo, args, services):
        self.demo, self.args, self.services = demo, args, services
        self.folder = demo.FOLDER
        self.python, self.logs = self.folder / "venv/bin/python", self.folder / ".logs"
        self.env = {}  # of the services
        self.producers = []
        self.told = None  # the service whose end was reported
        self.guards = []  # tasks that keep a service alive, and fail when they can't

    async def run(self):
        install.prepare(self.folder)
        if getattr(self.args, "install", False):  # of ClickHouse's run.sh: only that
            return await self.install() or 0
        port = self.args.port
        if listens(port, "127.0.0.1") or listens(port):
            raise Failed(f"port {port} is taken: end what listens there, or choose another with --port")
        with self.own_logs():
            await self.install()
            await self.demo.database(self)
            await self.demo.start(self)
            return await self.watch()

    @contextlib.contextmanager
    def own_logs(self):
        """.logs for one demo at a time; of another one in this folder .logs/PORT."""
        with (self.logs / "lock").open("w") as first, contextlib.ExitStack() as second:
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.logs /= str(self.args.port)
                self.logs.mkdir(exist_ok=True)
                lock = second.enter_context((self.logs / "lock").open("w"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Failed(f"another demo with --port {self.args.port} starts in this folder") from None
                report(f"another demo runs in this folder: the logs of this one are in {self.short(self.logs)}")
            yield

    def short(self, path):
        return path.relative_to(self.folder)

    async def install(self):
        if self.args.no_install:
            if not os.access(self.python, os.X_OK):
                raise Failed(f"no {self.short(self.python)}: run ./install.sh, or leave out --no-install")
        elif not install.is_complete(self.folder):
            script = install.ROOT / "install.sh"
            status = await self.services.run("install.sh", script, *self.demo.INSTALL)
            if status != 0:
                raise Failed("", status or 1)

    async def start(self, name, *command, rank, env=None):
        """Starts a service of the demo, its log in .logs."""
        log, env = self.logs / f"{name}.log", self.env | (env or {})
        service = await self.services.start(name, *command, log=log, rank=rank, env=env, cwd=self.folder)
        self.producers += [service] if rank == PRODUCER else []
        return service

    async def probe(self, module, dsn):
        """(status, text) of the database at a DSN, see probe.py; found out by another process, as a call can hang."""
        log = self.logs / "probe.log"
        command = [self.python, "-m", module]
        status = await self.services.run("probe", *command, log=log, limit_s=8, env={"PROBE_DSN": dsn})
        if status is None:
            return 4, "no answer within 8 s"
        text = one_line((install.last_lines(log, 1) or ["no reason given"])[0])
        if status not in (0, 2, 3, 4):
            raise Failed(f"{self.short(self.python)} can't use its packages ({text}): run ./install.sh")
        return status, text

    async def until_listening(self, service, port):
        """Waits until a database of ours listens; Failed with the end of its log when it ends before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_LIMIT_S):
                while not listens(port, "127.0.0.1"):
                    if service.ended.done():
                        raise self.end_of(service)
                    await asyncio.sleep(0.03)
                return
        raise Failed(f"{service.name} does not listen after {LISTEN_LIMIT_S} s: see {self.short(service.log)}")

    def end_of(self, service):
        """Failed: a service has ended; the end of its log."""
        self.told = service
        head = f"{service.name} has ended with status {service.status}; the end of {self.short(service.log)}:"
        return Failed("\n".join([head, *service.last_lines()]), 2 if service.status == 2 else 1)  # 2: wrong arguments

    async def watch(self):
        """Until a service has ended; meanwhile shows what /healthz says."""
        progress = Progress(self.args, self.producers, self.short(self.logs))
        ended, showing = asyncio.ensure_future(self.services.first_ended()), asyncio.ensure_future(progress.show())
        tasks = [ended, showing, *self.guards]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self.end_of(ended.result())
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()

    def ended(self):
        """The producers' last lines; the exit status, 1 when one of them could not send all, which is said."""
        status = 0
        for service in self.producers:
            report(f"{service.name}: {one_line((service.last_lines(1) or [''])[0])}")
            status |= service.status == 1
            if service.status == 1 and service is not self.told:
                why = [line for line in service.last_lines() if line.startswith("producer.")]
                complain(f"run.sh: {service.name}: {one_line((why or ['it could not send all'])[-1])}")
        return status


def main(demo):
    """The exit status of run.sh."""
    parser = running.Parser(demo.PROG, demo.__doc__)
    demo.add_arguments(parser)
    add_arguments(parser)
    args = parser.parse_args()
    launcher = None

    async def work(services):
        nonlocal launcher
        demo.check(args)
        launcher = Launcher(demo, args, services)
        return await launcher.run()

    if args.clean:
        return clean.main()
    return running.run("run.sh", work, lambda: launcher.ended() if launcher else 0)
