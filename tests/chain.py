"""The whole chain as a user runs it: database, producer, server and viewer, and how their counts compare."""

import contextlib
import json
import os
import pathlib
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse

from counting_viewer import Viewer
from helpers import PATIENCE, ROOT, Process, free_port, health, proc, wait_until
from proxy import Proxy
from read_table import see

TABLES = {"stocks": "stocks_values", "meters": "meters"}  # of each dataset, in TDengine
SOURCES = ["poll", "subscribe"]  # how the server gets its rows: @pytest.mark.parametrize("source", SOURCES)
SHOWN = {"stocks": "stock_values", "meters": "meters_values"}  # of each dataset, in Perspective
# What perspective_server.py does, but what it starts need not import that again, half of what such a start costs.
SERVER = ["-c", "import sys, perspective_server as script; sys.argv[0] = script.__file__; sys.exit(script.main())"]
QUERIES = """
import json, os, sys, taosws
for line in sys.stdin:
    try:
        connection = taosws.connect(os.environ["QUERY_DSN"])
        answer = [list(connection.query(json.loads(line))), None]
    except Exception as error:
        answer = [None, f"{type(error).__name__}: {error}"]
    print(json.dumps(answer), flush=True)
"""


class Client:
    """taosws in a process of its own, as its calls can hang: started for the first query, and again after a hang."""

    def __init__(self, dsn):
        self.dsn, self.process, self.lock = dsn, None, threading.Lock()

    def query(self, sql):
        """(rows, None), or (None, the words of its error)."""
        with self.lock:
            if not self.process:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", QUERIES],
                    env={**os.environ, "QUERY_DSN": self.dsn},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            with contextlib.suppress(BrokenPipeError):  # it has died since the last one
                self.process.stdin.write(json.dumps(sql).encode() + b"\n")
                self.process.stdin.flush()
            answers, _, _ = select.select([self.process.stdout], [], [], PATIENCE * 30)
            line = self.process.stdout.readline() if answers else b""
            if line:
                return json.loads(line)
            self.close()
            return None, "no answer"

    def close(self):
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


class Database:
    """TDengine at TDENGINE_DSN, or else a stand-in of our own; `name` is a database that nothing else uses.

    `running`: a Database whose stand-in, if it is one, is used, too, and stays.
    """

    def __init__(self, folder, running=None):
        self.folder = folder
        self.name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        self.process = None
        self.dsn = os.environ.get("TDENGINE_DSN")
        self.is_stand_in = not self.dsn
        self.running = running
        if self.is_stand_in and running:
            self.dsn = running.dsn
        elif self.is_stand_in:
            self.dsn = f"ws://root:taosdata@127.0.0.1:{free_port()}"
            self.start()
        self.client = running.client if running else Client(self.dsn)

    def start(self):
        """Starts the stand-in, with what it stored before."""
        port = urllib.parse.urlsplit(self.dsn).port
        args = [sys.executable, "-m", "embedded", "--port", port, "--data", self.folder / "data"]
        self.process = Process(args, self.folder, "embedded")
        wait_until(lambda: listens(port) or not self.process.alive(), 20, self.process.log)
        assert self.process.alive(), self.process.log()

    def kill(self):
        """kill -9 of the stand-in."""
        self.process.signal(signal.SIGKILL)
        self.process.wait(10)

    def query(self, sql):
        """Rows of a SELECT as lists; [] of anything else. AssertionError with TDengine's words when it fails."""
        sql = sql.replace("{db}", self.name)
        rows, error = self.client.query(sql)
        assert error is None, f"{sql}: {error}"
        return rows

    @staticmethod
    def table(dataset):
        return TABLES[dataset]

    def count(self, dataset="stocks"):
        return self.query(f"SELECT COUNT(*) FROM {{db}}.{TABLES[dataset]}")[0][0]

    def drop_topics(self):
        """Whether no topic keeps the database any more; one that had a consumer up to now may do so for 2 s."""
        for (name,) in self.query("SHOW TOPICS"):
            if name.startswith(f"perspective_{self.name}_"):
                with contextlib.suppress(AssertionError):
                    self.query(f"DROP TOPIC IF EXISTS `{name}`")
        return not any(name.startswith(f"perspective_{self.name}_") for (name,) in self.query("SHOW TOPICS"))

    def close(self):
        if self.process:
            self.process.stop()
        elif not self.is_stand_in:
            wait_until(self.drop_topics, 20, "the database's topics to be dropped")
            self.query("DROP DATABASE IF EXISTS {db}")
        if not self.running:
            self.client.close()

    def proxy(self, certificate=None):
        """A Proxy in front of it, to be entered."""
        parts = urllib.parse.urlsplit(self.dsn)
        return Proxy(parts.hostname, parts.port or 6041, parts.scheme in ("wss", "https"), certificate)

    def through(self, proxy, password=None):
        """The DSN by way of a proxy, maybe with another password."""
        parts = urllib.parse.urlsplit(self.dsn)
        user = parts.netloc.rpartition("@")[0] or "root:taosdata"
        if password:
            user = f"{user.partition(':')[0]}:{password}"
        scheme = "wss" if proxy.certificate else "ws"
        return parts._replace(scheme=scheme, netloc=f"{user}@127.0.0.1:{proxy.port}").geturl()


def listens(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def children(pid, having=""):
    """Process ids of the children of pid that have this text in their command line."""
    found = []
    for task in pathlib.Path("/proc").glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return sorted(child for child in found if having in proc(child, "cmdline").decode())


def workers(pid, having="spawn_main"):
    """Process ids of all processes below pid that have this text in their command line."""
    below = children(pid)
    return sorted(set(children(pid, having)).union(*(workers(each, having) for each in below)))


def resident_mb(pid):
    """Megabytes of memory that a process occupies."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


class Chain:
    """Starts producers, servers and viewers on a Database; all are ended at the end of the `with` block."""

    source = "poll"  # how servers get their rows
    script = "producer.py"  # which fills the tables
    env = {}  # of what it starts
    has_workers = True  # processes of their own for what calls taosws

    def __init__(self, database, folder, dsn=None):
        self.database, self.folder, self.dsn = database, folder, dsn or database.dsn
        self.ended, self.started = contextlib.ExitStack(), []
        self.port, self.scheme, self.prefix = None, "http", ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started:  # all at once: each takes a while to end
            if process.alive():
                process.signal(signal.SIGTERM)
        self.ended.close()

    def ends(self, process):
        """A Process that ends with the `with` block."""
        self.started.append(process)
        self.ended.callback(process.stop)
        return process

    def run(self, name, *args, dsn=None, program=(sys.executable,), **env):
        env |= self.env | {"TDENGINE_DSN": dsn or self.dsn}
        return self.ends(Process([*program, *args], self.folder, name, env=env))

    def producer(self, *args, dsn=None):
        return self.run("producer", ROOT / self.script, "--database", self.database.name, *args, dsn=dsn)

    def server(self, *args, limit=100_000, dsn=None):
        """The limit holds all rows of a test, so that none has to be left out.

        Polls come half as often as usual: what they cost is much of what a test costs.
        """
        args = ["--source", self.source, "--interval", 500, *args]
        args = ["--port", "0", "--database", self.database.name, "--limit", limit, *args]
        return self.serve(*args, dsn=dsn)

    def serve(self, *args, dsn=None):
        process = self.run("server", *SERVER, *args, dsn=dsn)
        page = wait_until(lambda: re.search(r"page at https?://127\.0\.0\.1:(\d+)/", process.stderr()), 40, process.log)
        self.port = int(page[1])
        return process

    def server_of(self, *tables, flags=()):
        """A server of tables of one's own, `tables` as in {db}.`Machine Log`."""
        args = [arg for table in tables for arg in ("--table", table.replace("{db}", self.database.name))]
        return self.serve("--port", "0", "--source", self.source, *args, *flags)

    def see(self, title, **config):
        """What a viewer sees of a table: {"schema": ..., "columns": ...}; config as of a view."""
        return see(f"ws://127.0.0.1:{self.port}/websocket", title, 60 * PATIENCE, **config)

    def viewer(self, dataset="stocks", read_every=0):
        address = f"{self.scheme.replace('http', 'ws')}://127.0.0.1:{self.port}{self.prefix}/websocket"
        viewer = Viewer(address, SHOWN.get(dataset, dataset), read_every)
        self.ended.callback(viewer.close)
        return viewer

    def health(self):
        """/healthz, or AssertionError when it does not answer."""
        found = health(self.port)
        assert found, "no answer from /healthz"
        return found

    def table(self, dataset="stocks"):
        """One table's part of /healthz."""
        return self.health()["tables"][SHOWN[dataset]]

    def table_named(self, title):
        return self.health()["tables"][title]

    def wait_for_rows(self, more, timeout, dataset="stocks"):
        """Waits until the server has shown so many rows more than now."""
        least = self.table(dataset)["rows"] + more
        wait_until(lambda: self.table(dataset)["rows"] >= least, timeout, lambda: f"{more} rows more: {self.health()}")


@contextlib.contextmanager
def behind_a_proxy(kind, database, folder, certificate=None):
    """A chain of this kind that reaches the database by way of chain.proxy only: by wss with a certificate."""
    with database.proxy(certificate) as proxy, kind(database, folder, dsn=database.through(proxy)) as chain:
        chain.proxy = proxy
        yield chain


def sent(*producers):
    """Rows sent by producers that have ended, by the last line of each."""
    lines = [producer.stdout().splitlines()[-1] for producer in producers]
    found = [re.fullmatch(r"sent (\d+) rows in (\d+) batches", line) for line in lines]
    assert all(found), lines
    return sum(int(match[1]) for match in found)


def kept(producer):
    """Rows that the producer keeps, by the newest line of its display."""
    found = re.findall(r"([\d,]+) kept", producer.stderr())
    return int(found[-1].replace(",", "")) if found else 0


def is_connected(producer):
    """Whether its newest line about that says so."""
    log = producer.stderr()
    return log.rfind("connected to ") >= log.rfind("waiting for ")


def stop_producers(*producers, status=0):
    """SIGTERM; each sends what it has kept and ends with this status within 5 s, if it has no backlog."""
    for producer in producers:
        if status == 0:
            wait_until(lambda p=producer: kept(p) < 5000 and is_connected(p), 30, producer.log)
        producer.signal(signal.SIGTERM)
    for producer in producers:
        assert producer.ends_within(5) == status, producer.log()


def assert_each_row_shown_once(chain, viewer, rows, dataset="stocks"):
    """As many rows as were sent are stored, and the viewer was shown each of them, none twice."""
    assert chain.database.count(dataset) == rows
    wait_until(
        lambda: viewer.distinct() >= rows, 15, lambda: f"{rows} rows stored: {viewer.report()}, {chain.health()}"
    )
    polls = chain.table(dataset)["polls"]  # further polls must not show any again
    more = 6 if chain.source == "poll" else 2
    wait_until(lambda: chain.table(dataset)["polls"] >= polls + more, 15, f"{more} polls more")
    viewer.settle()
    report = viewer.report()
    assert (report["distinct"], report["twice"]) == (rows, 0), (rows, report, chain.health())
    assert chain.table(dataset)["rows"] == rows
    if dataset == "stocks":  # not just as many rows, but these
        ((volume,),) = chain.database.query("SELECT SUM(volume) FROM {db}.stocks_values")
        assert report["volume"] == volume
