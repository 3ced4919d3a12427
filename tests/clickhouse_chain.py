"""The chain with ClickHouse as a user runs it: database, producer, server and viewer, and how their counts compare."""

import base64
import os
import re
import secrets
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request

import chain
from helpers import ROOT, Process, free_port, wait_until
from proxy import Proxy

HERE = ROOT / "clickhouse"
TABLE = "stock_values"
COLUMNS = "timestamp {time}, ticker String, client String, open Float64, high Float64, low Float64, close Float64, "
COLUMNS += "volume UInt32, date Date"


class ClickHouse:
    """ClickHouse at CLICKHOUSE_DSN, or else an embedded engine of our own; `name` is a database in use nowhere else.

    `running`: a ClickHouse that is used, too, and stays.
    """

    def __init__(self, folder, running=None):
        self.folder, self.process = folder, None
        self.name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        self.dsn = running.dsn if running else os.environ.get("CLICKHOUSE_DSN")
        self.is_embedded = not self.dsn
        if self.is_embedded:
            self.dsn = f"clickhouse://default@127.0.0.1:{free_port()}"
            self.start()

    def start(self):
        """Starts the embedded engine, with what it stored before."""
        port = urllib.parse.urlsplit(self.dsn).port
        args = [sys.executable, HERE / "embedded.py", "--port", port, "--data", self.folder / "data"]
        self.process = Process(args, self.folder, "embedded")
        wait_until(lambda: " at http://" in self.process.stderr() or not self.process.alive(), 60, self.process.log)
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
            with urllib.request.urlopen(request, timeout=60) as response:
                return [line.split("\t") for line in response.read().decode().splitlines()]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{sql}: {error.read().decode()}") from None

    def create_table(self, engine="MergeTree ORDER BY timestamp", time="DateTime64(9, 'UTC')", name=TABLE):
        """The database, and in it a table that a user has made."""
        self.query("CREATE DATABASE IF NOT EXISTS {db}")
        self.query(f"CREATE TABLE {{db}}.{name} ({COLUMNS.format(time=time)}) ENGINE = {engine}")

    def count(self):
        return int(self.query(f"SELECT count() FROM {{db}}.{TABLE}")[0][0])

    def close(self):
        if self.is_embedded:
            self.process.stop()
        else:
            self.query("DROP DATABASE IF EXISTS {db} SYNC")

    def proxy(self, certificate=None):
        """A Proxy in front of it, to be entered."""
        parts = urllib.parse.urlsplit(self.url())
        return Proxy(parts.hostname, parts.port, tls=parts.scheme == "https", certificate=certificate)

    def through(self, proxy, user=None):
        """The DSN by way of a proxy, maybe with another user:password."""
        user = user or urllib.parse.urlsplit(self.dsn).netloc.rpartition("@")[0] or "default"
        return f"clickhouse://{user}@127.0.0.1:{proxy.port}"


class Chain(chain.Chain):
    """A chain.Chain on a ClickHouse."""

    def run(self, name, *args, dsn=None):
        return self.ends(Process([sys.executable, *args], self.folder, name, env={"CLICKHOUSE_DSN": dsn or self.dsn}))

    def producer(self, *args, dsn=None):
        return self.run("producer", HERE / "producer.py", "--database", self.database.name, *args, dsn=dsn)

    def server(self, *args, limit=100_000, dsn=None):
        """The limit holds all rows of a test, so that none has to be left out."""
        args = ["--port", "0", "--database", self.database.name, "--limit", limit, "--interval", 500, *args]
        process = self.run("server", HERE / "perspective_server.py", *args, dsn=dsn)
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 60, process.log)
        self.port = int(page[1])
        return process

    def wait_for_polls(self, polls=3):
        wait_until(lambda: self.table()["polls"] - self.table()["failed_polls"] >= polls, 60, self.health)


def assert_each_row_shown_once(chain, viewer, rows):
    """As many rows as were sent are stored, each with a timestamp of its own; the viewer saw each, none twice."""
    found = chain.database.query(f"SELECT count(), uniqExact(timestamp), sum(volume) FROM {{db}}.{TABLE}")
    stored, stamps, volume = map(int, found[0])
    assert (stored, stamps) == (rows, rows), f"of {rows} rows sent {stored} are stored, with {stamps} timestamps"
    wait_until(lambda: viewer.distinct() >= rows, 30, lambda: f"{rows} rows stored: {viewer.report()} {chain.health()}")
    chain.wait_for_polls(chain.table()["polls"] + 4)  # further polls must not show any again
    viewer.settle()
    report = viewer.report()
    assert (report["distinct"], report["twice"], report["volume"]) == (rows, 0, volume), (report, chain.health())
    assert chain.table()["rows"] == rows
