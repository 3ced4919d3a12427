"""What the benchmarks share: the chain under measurement, shares of a core, memory, and the row that is printed.

    python benchmarks/measure.py    # the machine, and the head of the table whose rows the benchmarks print

They measure against the stand-in, or against the TDengine that TDENGINE_DSN names, in a database of their own.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import pebble  # noqa: E402
from chain import Chain, Database, children  # noqa: E402
from helpers import wait_until  # noqa: E402

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROWS_S = 60  # bound of the wait for rows to be shown
HEAD = "| measure | database | figure | bound | |\n|---|---|---|---|---|"


class Unmeasured(Exception):
    """Why nothing could be measured, in one line."""


# Options


def number(least, most, kind=int):
    def parse(text):
        with contextlib.suppress(ValueError):
            if least <= kind(text) <= most:
                return kind(text)
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from {least} to {most}")

    return parse


def parser(doc, seconds=20):
    made = argparse.ArgumentParser(description=doc.split("\n")[0], allow_abbrev=False)
    help_text = f"how long each figure is measured (default: {seconds})"
    made.add_argument("--seconds", type=number(0.2, 600, float), default=seconds, metavar="S", help=help_text)
    return made


def run(main):
    """Prints main()'s rows; status 1 and one line when something can't be measured."""
    try:
        main()
    except (Unmeasured, AssertionError, OSError, TimeoutError, subprocess.SubprocessError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {lines[0]}" + (f" ... {lines[-1]}" if lines[1:] else ""))
    except KeyboardInterrupt:
        sys.exit(1)


# What is measured


@contextlib.contextmanager
def chain():
    """(a Chain of tests/chain.py on a database of its own, the database's name and version); all ends afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        database = Database(pathlib.Path(folder))
        database.name = f"bench_{os.getpid()}_{secrets.token_hex(3)}"
        where = "stand-in"
        if not database.is_stand_in:
            where = f"TDengine {database.query('SELECT SERVER_VERSION()')[0][0]}"
        try:
            with Chain(database, pathlib.Path(folder)) as made:
                yield made, where
        finally:
            database.close()


def start(made, *, viewers=0, interval=250, rows_per_s=1000, limit=1000, source="poll"):
    """(producer, server), started, with a full table; the producer's batches come at the server's interval."""
    producer = made.producer("--interval", interval, "--rows", max(rows_per_s * interval // 1000, 1))
    server = made.server("--interval", interval, "--source", source, "--max-viewers", 100 + viewers, limit=limit)
    wait_until(lambda: made.table()["held"] >= limit, ROWS_S, lambda: f"{limit} rows to be shown: {made.health()}")
    if source == "subscribe":
        wait_until(lambda: made.table()["subscriptions"], ROWS_S, made.health)
    return producer, server


def in_child(function, *args, timeout):
    """The function's result from a process of its own, which is ended after `timeout` s: taosws can hang."""
    with pebble.ProcessPool(1, context=multiprocessing.get_context("spawn")) as pool:
        return pool.schedule(function, args=args, timeout=timeout).result()


# Shares of a core, and memory


def family(pid):
    """A process and all below it: the server is a supervisor's child and has a reader, the producer has a sender."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found


def cpu_s(pids):
    """Seconds of processor time, of user and system, that these processes have used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / TICKS_PER_S


def memory_mb(*pids):
    """Memory of these processes, without the pages of files, which the machine takes back and gives again as it likes.

    What several share is counted once (proportional set size).
    """
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            kib += int(re.search(r"^Pss_Anon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    return kib / 1024


@contextlib.contextmanager
def share(pid):
    """Yields a function that returns the share of one core which the process and all below it had in the block."""
    pids, started, seen = family(pid), time.monotonic(), []
    before = cpu_s(pids)
    yield lambda: seen[0]
    seen.append((cpu_s(pids) - before) / (time.monotonic() - started))
    if set(family(pid)) != set(pids):
        raise Unmeasured("a process was replaced meanwhile")


def pin(pids, cores):
    """Keeps processes with all their threads to these cores."""
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


# Results


def machine():
    cpu = platform.machine()
    with contextlib.suppress(OSError, TypeError):
        cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {cpu}, {gib:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def note(text):
    """Progress, for a person who waits."""
    print(text, file=sys.stderr, flush=True)


def row(measure, database, figure, bound="", met=None):
    """Prints one row of the table; met: None where there is no bound, or it can't be judged here."""
    verdict = {True: "met", False: "**missed**", None: ""}[met]
    print(f"| {measure} | {database} | {figure} | {bound} | {verdict} |", flush=True)


if __name__ == "__main__":
    print(f"{machine()}\n\n{HEAD}")
