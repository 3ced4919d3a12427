"""The chain with ClickHouse as a user runs it: database, producer, server and viewer, and how their counts compare."""

import base64
import contextlib
import fcntl
import functools
import os
import re
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

from chain import Viewer, listens
from helpers import ROOT, Process, free_port, health, wait_until
from proxy import Proxy

HERE = ROOT / "clickhouse"
PYTHON = HERE / ".venv/bin/python"
TABLE = "stock_values"
INSTALL_S = 600  # chdb's wheel is a large one


@functools.cache
def install():
    """clickhouse/.venv as a user gets it; quick when it is there. One of the tests' processes does it, others wait."""
    (HERE / ".logs").mkdir(exist_ok=True)
    with (HERE / ".logs/tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # bound: INSTALL_S of whoever holds it
        done = subprocess.run([HERE / "run.sh", "--install"], capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, done


class ClickHouse:
    """ClickHouse at CLICKHOUSE_DSN, or else an embedded engine of our own; `name` is a database in use nowhere else."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        self.dsn = os.environ.get("CLICKHOUSE_DSN")
        self.is_embedded = not self.dsn
        if self.is_embedded:
            self.dsn = f"clickhouse://default@127.0.0.1:{free_port()}"
            self.start()

    def start(self):
        """Starts the embedded engine, with what it stored before."""
        port = urllib.parse.urlsplit(self.dsn).port
        args = [PYTHON, HERE / "embedded.py", "--port", port, "--data", self.folder / "data"]
        self.process = Process(args, self.folder, "embedded")
        wait_until(lambda: listens(port) or not self.process.alive(), 40, self.process.log)
        wait_until(lambda: " at http://" in self.process.stderr() or not self.process.alive(), 40, self.process.log)
        assert self.process.alive(), self.process.log()

    def kill(self):
        """kill -9 of the embedded engine."""
        self.process.signal(signal.SIGKILL)
        self.process.wait(10)

    def url(self):
        parts = urllib.parse.urlsplit(self.dsn)
        secure = parts.scheme.endswith("s")
        return f"{'https' if secure else 'http'}://{parts.hostname}:{parts.port or (8443 if secure else 8123)}/"

    def query(self, sql):
        """The answer to a statement, its lines split at tabs. AssertionError with ClickHouse's words when it fails."""
        parts = urllib.parse.urlsplit(self.dsn)
        user = f"{urllib.parse.unquote(parts.username or 'default')}:{urllib.parse.unquote(parts.password or '')}"
        headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
        request = urllib.request.Request(self.url(), sql.replace("{db}", self.name).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return [line.split("\t") for line in response.read().decode().splitlines()]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{sql}: {error.read().decode()}") from None

    def create_table(self, engine):
        """The database, and in it a table that a user has made."""
        self.query("CREATE DATABASE {db}")
        columns = "timestamp DateTime64(9, 'UTC'), ticker String, client String, open Float64, high Float64, "
        columns += "low Float64, close Float64, volume UInt32, date Date"
        self.query(f"CREATE TABLE {{db}}.{TABLE} ({columns}) ENGINE = {engine}")

    def counts(self):
        """(rows, different timestamps, sum of volume) that are stored."""
        (row,) = self.query(f"SELECT count(), uniqExact(timestamp), sum(volume) FROM {{db}}.{TABLE}")
        return tuple(map(int, row))

    def close(self):
        if self.is_embedded:
            self.process.stop()
        else:
            self.query("DROP DATABASE IF EXISTS {db} SYNC")

    def proxy(self):
        """A Proxy in front of it, to be entered."""
        parts = urllib.parse.urlsplit(self.url())
        return Proxy(parts.hostname, parts.port, tls=parts.scheme == "https")

    def through(self, proxy, user=None):
        """The DSN by way of a proxy, maybe with another user:password."""
        user = user or urllib.parse.urlsplit(self.dsn).netloc.rpartition("@")[0] or "default"
        return f"clickhouse://{user}@127.0.0.1:{proxy.port}"


class Chain:
    """Starts producers, servers and viewers on a ClickHouse; all are ended at the end of the `with` block."""

    def __init__(self, database, folder, dsn=None):
        self.database, self.folder, self.dsn = database, folder, dsn or database.dsn
        self.ended = contextlib.ExitStack()
        self.port = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.close()

    def run(self, name, *args, dsn=None):
        process = Process([PYTHON, *args], self.folder, name, env={"CLICKHOUSE_DSN": dsn or self.dsn})
        self.ended.callback(process.stop)
        return process

    def producer(self, *args, dsn=None):
        return self.run("producer", HERE / "producer.py", "--database", self.database.name, *args, dsn=dsn)

    def server(self, *args, limit=100_000, dsn=None):
        """The limit holds all rows of a test, so that none has to be left out."""
        args = ["--port", "0", "--database", self.database.name, "--limit", limit, *args]
        process = self.run("server", HERE / "perspective_server.py", *args, dsn=dsn)
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 20, process.log)
        self.port = int(page[1])
        return process

    def viewer(self, *args):
        url = f"ws://127.0.0.1:{self.port}/websocket"
        process = Process([sys.executable, ROOT / "tests/viewer.py", url, TABLE, *args], self.folder, "viewer")
        self.ended.callback(process.stop)
        return Viewer(process)

    def health(self):
        """/healthz, or AssertionError when it does not answer."""
        found = health(self.port)
        assert found, "no answer from /healthz"
        return found

    def table(self):
        return self.health()["tables"][TABLE]

    def wait_for_rows(self, more, timeout):
        """Waits until the server has shown so many rows more than now."""
        least = self.table()["rows"] + more
        wait_until(lambda: self.table()["rows"] >= least, timeout, lambda: f"{more} rows more: {self.health()}")


def assert_each_row_shown_once(chain, viewer, rows):
    """As many rows as were sent are stored, each with a timestamp of its own; the viewer saw each, none twice."""
    stored, stamps, volume = chain.database.counts()
    assert (stored, stamps) == (rows, rows), f"of {rows} rows sent {stored} are stored, with {stamps} timestamps"
    wait_until(lambda: viewer.distinct() >= rows, 15, lambda: f"{rows} rows stored: {viewer.report()} {chain.health()}")
    polls = chain.table()["polls"]  # further polls must not show any again
    wait_until(lambda: chain.table()["polls"] >= polls + 6, 15, "six polls more")
    reports = len(viewer.process.stdout().splitlines())
    wait_until(lambda: len(viewer.process.stdout().splitlines()) >= reports + 2, 15, "a fresh report of the viewer")
    report = viewer.report()
    assert (report["distinct"], report["twice"], report["volume"]) == (rows, 0, volume), (report, chain.health())
    assert chain.table()["rows"] == rows
