"""What the benchmarks share: the chain under measurement, shares of a core and memory from /proc, how figures are told.

A benchmark prints `machine:` and `TDengine:` lines and a Markdown row for each figure to standard output, the rest to
standard error.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from helpers import Process, free_port, health, wait_until  # noqa: E402

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STARTS_S = 30  # bound of the wait for a process to answer
OPENS_S = 60  # bound of the wait for all viewers of a load to open
QUERY_S = 60  # bound of a query; taosws can hang, so it runs in a process of its own
QUERY = """
import json, os, sys, taosws
connection = taosws.connect(os.environ["QUERY_DSN"])
print(json.dumps(list(connection.query(sys.argv[1])), default=str))
"""


class Unmeasured(Exception):
    """Why nothing could be measured and what to do, in one line."""


# Options


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def number(least, most, kind=int):
    def parse(text):
        with contextlib.suppress(ValueError):
            if least <= kind(text) <= most:
                return kind(text)
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from {least} to {most}")

    return parse


def parser(description, seconds=20):
    """The options that all benchmarks have; `seconds` is how long one window of measuring takes."""
    made = Parser(description=description.split("\n")[0], allow_abbrev=False)
    made.add_argument(
        "--dsn",
        default=os.environ.get("TDENGINE_DSN"),
        help="TDengine to measure against (default: $TDENGINE_DSN, else a stand-in of its own)",
    )
    made.add_argument(
        "--seconds",
        type=number(0.5, 60, float),
        default=seconds,
        metavar="S",
        help=f"length of one window of measuring (default: {seconds})",
    )
    return made


def run(main):
    """main()'s figures; ends with status 1 and one line when there are none to be had."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything that was started is ended
    try:
        main()
    except (Unmeasured, AssertionError, OSError, subprocess.SubprocessError) as error:
        text = str(error).strip() or type(error).__name__
        first, last = text.splitlines()[0], text.splitlines()[-1]
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {first}" + (f" ... {last}" if last != first else ""))
    except KeyboardInterrupt:
        sys.exit(1)


# What is measured


def listens(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


class Chain:
    """TDengine (or a stand-in), and the scripts on a database of their own; all is ended and dropped at the end.

    Use: `with Chain(dsn) as chain:`. The processes are helpers.Process; self.database_process is None with a DSN.
    """

    def __init__(self, dsn=None):
        self.dsn = dsn
        self.database = f"benchmark_{os.getpid()}_{secrets.token_hex(3)}"
        self.ended = contextlib.ExitStack()
        self.processes = []  # all that were started, the dead ones too
        self.database_process = self.server_process = self.port = None

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.ended.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            if self.dsn:
                self.ended.callback(self.drop)
            else:
                port = free_port()
                self.dsn = f"ws://root:taosdata@127.0.0.1:{port}"
                self.database_process = self.start("stand-in", "-m", "embedded", "--port", port, "--data", self.folder)
                self.wait_for(self.database_process, lambda: listens(port), "the stand-in to listen")
            self.version = self.query("SELECT SERVER_VERSION()")[0][0]
        except BaseException:
            self.ended.close()
            raise
        return self

    def __exit__(self, *_):
        self.ended.close()

    def start(self, name, *args, **env):
        """A Python process that is ended with the chain. The DSN goes by the environment: it may hold a password."""
        env = {"TDENGINE_DSN": self.dsn or "", **env}
        process = Process([sys.executable, *map(str, args)], self.folder, name, cwd=ROOT, env=env)
        self.ended.callback(process.stop)
        self.processes.append(process)
        return process

    def wait_for(self, process, condition, what, timeout=STARTS_S):
        """Waits for condition(); Unmeasured with the process' last words when it has ended, or after the timeout."""

        def met_or_dead():
            return condition() or not process.alive()

        with contextlib.suppress(AssertionError):
            wait_until(met_or_dead, timeout, what)
        if found := condition():
            return found
        words = (process.stderr().strip().splitlines() or ["nothing"])[-1]
        how = f"not within {timeout} s" if process.alive() else "the process has ended"
        raise Unmeasured(f"waited for {what}: {how}; it said: {words}")

    def producer(self, *args):
        return self.start("producer", ROOT / "producer.py", "--database", self.database, *args)

    def server(self, *args):
        self.port = free_port()
        args = ["--database", self.database, "--port", self.port, "--max-viewers", 2000, *args]
        self.server_process = self.start("server", ROOT / "perspective_server.py", *args)
        return self.server_process

    def load(self, mode="grouped"):
        """Viewers on the server, as many as measure() asks for."""
        load = Load(f"ws://127.0.0.1:{self.port}/websocket", mode, self.folder)
        self.ended.callback(load.stop)
        return load

    def health(self):
        """The table's part of /healthz; all zero while the server does not answer."""
        found = health(self.port)
        return found["tables"]["stock_values"] if found else {"rows": 0, "full_polls": 0}

    def wait_for_rows(self, rows, timeout=STARTS_S):
        """Waits until the server has shown so many rows in all."""
        self.wait_for(self.server_process, lambda: self.health()["rows"] >= rows, f"{rows:,} rows to be shown", timeout)

    def query(self, sql):
        """Rows of a query as lists; Unmeasured with TDengine's words when it fails."""
        try:
            done = subprocess.run(
                [sys.executable, "-c", QUERY, sql],
                env={**os.environ, "QUERY_DSN": self.dsn},
                capture_output=True,
                text=True,
                timeout=QUERY_S,
            )
        except subprocess.TimeoutExpired:
            raise Unmeasured(f"no answer from {self.address()} within {QUERY_S} s") from None
        if done.returncode:
            raise Unmeasured(f"{self.address()} answers: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}")
        return json.loads(done.stdout)

    def count(self):
        return self.query(f"SELECT COUNT(*) FROM {self.database}.stocks_values")[0][0]

    def drop(self):
        """The database, and the topic that keeps it from being dropped, also for 2 s after its server has ended."""
        give_up_at = time.monotonic() + STARTS_S
        for what in (
            f"TOPIC IF EXISTS perspective_{self.database}_stocks_values",
            f"DATABASE IF EXISTS {self.database}",
        ):
            while time.monotonic() < give_up_at:
                try:
                    self.query(f"DROP {what}")
                    break
                except Unmeasured:
                    time.sleep(0.5)

    def address(self):
        parts = urllib.parse.urlsplit(self.dsn)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def dsn_of_database(self):
        """The DSN with the benchmark's database in it."""
        return urllib.parse.urlsplit(self.dsn)._replace(path=f"/{self.database}").geturl()

    def stand_in(self):
        """Whether the database is the stand-in, also one that was started by someone else."""
        return self.database_process is not None or "stand-in" in self.version.lower()


class Load:
    """viewer_load.py, running; its pid is there to be pinned."""

    def __init__(self, url, mode, folder):
        self.errors = folder / "load.err"
        with self.errors.open("ab") as err:
            self.popen = subprocess.Popen(
                [sys.executable, ROOT / "benchmarks/viewer_load.py", url, "--mode", mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
            )
        self.pid = self.popen.pid

    def measure(self, viewers, seconds):
        """What so many viewers saw in so many seconds; Unmeasured when one was refused or cut off."""
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(f"{viewers} {seconds}\n".encode())
            self.popen.stdin.flush()
        answers, _, _ = select.select([self.popen.stdout], [], [], seconds + OPENS_S)
        line = self.popen.stdout.readline() if answers else b""
        if not line:
            words = self.errors.read_text().strip().splitlines() or [f"no answer within {seconds + OPENS_S} s"]
            raise Unmeasured(f"{viewers} viewers: {words[-1]}")
        found = json.loads(line)
        if found["failed"]:
            raise Unmeasured(f"{viewers} viewers: {found['failed']}")
        return found

    def stop(self):
        self.popen.kill()
        self.popen.communicate()


# Shares of a core, and memory


def family(pid):
    """The process and its living descendants: the server's reader and the producer's sender are its children."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid):
    """User and system time of the process and its descendants so far."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, pathlib.Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / TICKS_PER_S


def memory_mb(pid):
    """Proportional set size of the process and its descendants: memory that several share is counted once."""
    kib = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            kib += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{each}/smaps_rollup").read_text(), re.M)[1])
    return kib / 1024


class Window:
    """Counts processor time of processes from its making on: `shares()` gives each one's share of one core."""

    def __init__(self, **pids):
        self.pids, self.started = pids, time.monotonic()
        self.before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def shares(self):
        self.passed_s = time.monotonic() - self.started
        return {name: (cpu_seconds(pid) - self.before[name]) / self.passed_s for name, pid in self.pids.items()}


def ages_and_share(chain, server, seconds):
    """(ages in ms of the newest row on arrival, server's share of a core), one viewer being sent row deltas."""
    load = chain.load("local")
    load.measure(1, 0.5)
    window = Window(server=server.pid)
    seen = load.measure(1, seconds)
    share = window.shares()["server"]
    if not seen["ages_ms"]:
        raise Unmeasured(f"no row reached the viewer within {seconds} s")
    return seen["ages_ms"], share


def pin(pid, cores):
    """Keeps the process and all its threads to these cores; children that it starts later inherit that."""
    for each in family(pid):
        for task in pathlib.Path(f"/proc/{each}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), cores)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


# Telling


def note(text):
    """Progress, for a person who waits."""
    print(text, file=sys.stderr, flush=True)


def machine():
    """Cores, processor, memory, system and Python in one line."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, TypeError):
        cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{cores} cores of {cpu}, {gib:.0f} GiB, {system}, Python {platform.python_version()}"


def tell_where(chain):
    print(f"machine: {machine()}")
    print(f"TDengine: {chain.version}", flush=True)


def tell(measure, figure, bound, met):
    """One row: what, the figure with its unit, the bound, and whether it is met (None: not to be judged here)."""
    verdict = {True: "met", False: "**missed**", None: "not judged"}[met]
    print(f"| {measure} | {figure} | {bound} | {verdict} |", flush=True)
