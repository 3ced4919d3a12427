"""run.sh, for TDengine and for ClickHouse: from the environment to one line a second, until something ends.

A demo is a module with FOLDER, add_arguments(parser), database(launcher) and start(launcher): see tdengine.py.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys

from .. import options
from . import Failed, Unusable, clean, complain, install, report, running
from .watchdog import PRODUCER

ROWS_LIMIT_S = 60  # until rows flow
HINT_S = 4  # until it is reported what the services wait for
LISTEN_LIMIT_S = 60  # until a database of ours listens
USUAL_ROWS, MOST_ROWS = 20_000, 60_000  # of a Perspective table: as perspective_server.py, and with --history
RUNS = ("ok", "incomplete")


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


def one_line(text):
    return " ".join(str(text).split())


async def health(port):
    """The server's /healthz; None when it does not answer."""
    with contextlib.suppress(OSError, ValueError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET /healthz HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n".encode())
                found = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
                return found if isinstance(found, dict) and isinstance(found.get("tables"), dict) else None
            finally:
                writer.close()
    return None


class Launcher:
    """One run of run.sh. `services` starts and ends processes, `python` is the environment's."""

    def __init__(self, demo, args, services):
        self.demo, self.args, self.services = demo, args, services
        self.folder = demo.FOLDER
        self.python, self.logs = self.folder / "venv/bin/python", self.folder / ".logs"
        self.env = {}  # of the services
        self.producers = []
        self.guards = []  # tasks that keep a service alive, and fail when they can't
        self.reported = set()

    def report_once(self, name, line):
        if line and (name, line) not in self.reported:
            self.reported.add((name, line))
            complain(f"{name}: {one_line(line)}")

    async def run(self):
        install.prepare(self.folder)
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

    async def probe(self, kind, dsn):
        """(status, text) of the database at a DSN, see probe.py; asked by another process, as a call can hang."""
        log = self.logs / "probe.log"
        command = [self.python, "-m", "bridge.launch.probe", kind]
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
        head = f"{service.name} has ended with status {service.status}; the end of {self.short(service.log)}:"
        return Failed("\n".join([head, *service.last_lines()]))

    async def watch(self):
        """Until a service has ended; meanwhile shows what /healthz says."""
        ended, showing = asyncio.ensure_future(self.services.first_ended()), asyncio.ensure_future(self.show())
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

    async def show(self):
        await self.until_rows()
        url = f"http://localhost:{self.args.port}/"
        report(f"page at {url}")
        if self.args.open:
            open_browser(url)
        terminal = sys.stdout is not None and sys.stdout.isatty()
        try:
            while True:
                await asyncio.sleep(1)
                line = summary(await health(self.args.port))
                if terminal:
                    report(f"\r{line[: shutil.get_terminal_size().columns - 1]}\033[K", end="")
                else:
                    report(line)
        finally:
            if terminal:
                report("")

    async def until_rows(self):
        """Waits until the page has something to show; reports what is waited for."""
        loop = asyncio.get_running_loop()
        start, state = loop.time(), None
        while loop.time() - start < ROWS_LIMIT_S:
            state = await health(self.args.port)
            late = loop.time() - start > HINT_S
            if state and all(self.is_ready(table, late) for table in state["tables"].values()) and state["tables"]:
                return
            if late:
                self.hint(state)
            await asyncio.sleep(0.05)
        why = state["status"] if state else "the server does not answer"
        raise Failed(f"no rows after {ROWS_LIMIT_S} s ({why}): see the logs in {self.short(self.logs)}")

    def is_ready(self, table, late):
        """A table of the demo's own has rows; one of the user's may have none yet, which is reported."""
        if table.get("status") in RUNS:
            return True
        own = getattr(self.args, "table", None) and table.get("dataset") is None
        if own and late:
            self.report_once("perspective_server", table.get("error") or f"{table.get('table')} has no new rows")
        return own and late

    def hint(self, state):
        """Reports what the server and the producers wait for."""
        for table in (state or {"tables": {}})["tables"].values():
            self.report_once("perspective_server", table.get("error"))
        for service in self.producers:
            waiting = [line for line in service.last_lines() if line.startswith("waiting")]
            self.report_once(service.name, waiting[-1] if waiting else None)

    def ended(self):
        """The producers' last lines; the exit status, 1 when one of them could not send all."""
        status = 0
        for service in self.producers:
            report(f"{service.name}: {one_line((service.last_lines(1) or [''])[0])}")
            status |= service.status == 1
        return status


def summary(state):
    """One line of what /healthz says."""
    if state is None:
        return "the server does not answer"
    tables = state["tables"].values()
    pace, rows = (sum(table.get(name) or 0 for table in tables) for name in ("rows_per_s", "rows"))
    line = f"{pace:,.1f} rows/s, {rows:,} rows total"
    if state.get("status") == "incomplete":
        missed, unshown = (sum(table.get(name) or 0 for table in tables) for name in ("missed_rows", "unshown_values"))
        line += f" (incomplete: {missed:,} rows and {unshown:,} values could not be shown)"
    elif state.get("status") != "ok":
        why = next(filter(None, (table.get("error") for table in tables)), None)
        line += f" ({state.get('status')}: {one_line(why)})" if why else f" ({state.get('status')})"
    return line


def open_browser(url):
    """In a process that outlives us: the browser is the user's."""
    names = [os.environ.get("BROWSER"), "open" if sys.platform == "darwin" else None, "wslview", "xdg-open"]
    for name in filter(None, names):
        if program := shutil.which(name):
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            subprocess.Popen([program, url], start_new_session=True, **streams)
            return
    complain("run.sh: no program to open a browser with was found (BROWSER names one)")


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
