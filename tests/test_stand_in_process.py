"""The stand-in as a process: what it says, how it ends, what is left after kill -9, and a disk that is full."""

import collections
import os
import pathlib
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest
from chain import Chain, Database, children, listens, sent, stop_producers
from helpers import ROOT, free_port, python, refused, wait_until
from stand_in import Client, StandIn, memory_mb, raw

from embedded import __main__

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture
def stand_in(tmp_path):
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.stop()


@pytest.fixture
def connect(request):
    """connect(stand_in) gives a Client that is connected as `c`; all are ended at the end."""

    def connect(stand_in):
        client = Client(stand_in.port)
        request.addfinalizer(client.close)
        assert client.call("c = taosws.connect(DSN)") is None
        return client

    return connect


# Starting and ending


def bound_addresses(port):
    bound = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [fields[1] for fields in bound if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")]


def test_what_it_says_where_it_listens_and_that_its_folder_is_its_own(stand_in, connect, tmp_path):
    (line,) = stand_in.process.stdout().splitlines()
    assert line.startswith("stand-in for TDengine")
    assert f"listening on ws://127.0.0.1:{stand_in.port}, data in {tmp_path / 'data'}" in line
    assert bound_addresses(stand_in.port) == [f"0100007F:{stand_in.port:04X}"]  # on loopback only
    second = python("-m", "embedded", "--port", 0, "--data", tmp_path / "data")
    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert "choose another with --data" in second.stderr
    assert "Could not set lock" in second.stderr
    client = connect(stand_in)
    assert client.sql("CREATE DATABASE d") == 0
    stand_in.process.signal(signal.SIGTERM)
    assert stand_in.process.ends_within(2) == 0
    assert stand_in.process.stderr() == ""


def ended(args, capsys, monkeypatch):
    """Its exit status, as the system would have it, and what it has printed."""
    status, shown, said = refused(__main__.main, "embedded", args, capsys, monkeypatch)
    return (1, shown, f"{status}\n") if isinstance(status, str) else (status, shown, said)


def test_help_names_the_flags(capsys, monkeypatch):
    status, shown, _ = ended(["--help"], capsys, monkeypatch)
    assert status == 0
    for flag in ("--port", "--data", "--host", "--user", "--password-file"):
        assert flag in shown
    assert "not TDengine" in " ".join(shown.split())


def test_mistakes_end_in_one_line(tmp_path, capsys, monkeypatch):
    file, database = tmp_path / "file", tmp_path / "stand-in-3.duckdb"
    file.write_text("x")
    database.write_bytes(os.urandom(100_000))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for args, status, words in (
            (["--port", "x"], 2, "'x' is not a whole number from 0 to 65535"),
            (["--port", "65536"], 2, "is not a whole number"),
            (["--port", "-1"], 2, "--port"),
            (["--dat", "x"], 2, "unrecognized arguments"),
            (["extra"], 2, "unrecognized arguments"),
            (["--port", 0, "--data", file], 1, "choose another with --data"),
            (["--port", 0, "--data", file / "below"], 1, "choose another with --data"),
            (["--port", 0, "--data", "/proc/nope"], 1, "choose another with --data"),
            (["--port", 0, "--data", database.parent], 1, "choose another with --data"),  # its file is none
            (["--port", 0, "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1 port 0"),
            (["--port", port], 1, f"port {port}: choose others with --host, --port"),
            (["--port", 0, "--password-file", tmp_path / "none"], 1, "cannot read --password-file"),
        ):
            found, shown, said = ended(args, capsys, monkeypatch)
            assert (found, shown, len(said.splitlines())) == (status, "", 1), (args, said)
            assert words in said, args


def test_a_folder_that_cannot_be_written_ends_in_one_line(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    done = python("-m", "embedded", "--port", 0, "--data", tmp_path / "data")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "choose another with --data" in done.stderr


def test_a_user_and_password_of_ones_own(tmp_path):
    (tmp_path / "password").write_text("s3cret word\n")
    stand_in = StandIn(tmp_path, "--user", "me", "--password-file", tmp_path / "password")
    try:
        with raw(stand_in.port, connected=False) as client:
            assert client.connect("root", "taosdata")["code"] == 0x0351
            assert client.connect("me", "taosdata")["code"] == 0x0357
            assert client.connect("me", "s3cret word")["code"] == 0
            stand_in.process.signal(signal.SIGINT)
            assert stand_in.process.ends_within(2) == 0
        assert "s3cret" not in stand_in.process.log()
        assert stand_in.process.stderr() == ""
    finally:
        stand_in.stop()


# What was acknowledged stays

WRITER = """
import itertools, sys, time, taosws
connection = taosws.connect(sys.argv[1])
statement = connection.stmt2_statement()
statement.prepare("INSERT INTO d.t VALUES (?, ?)")
for k in itertools.count(int(sys.argv[2])):
    first = 1795411690000000000 + k * 100
    columns = [
        taosws.nanos_timestamps_to_column(list(range(first, first + 100))),
        taosws.big_ints_to_column([k] * 100),
    ]
    print("begun", k, flush=True)
    statement.bind([taosws.stmt2_bind_param_view(table_name="", tags=None, columns=columns)])
    if statement.execute() == 100:
        print("acknowledged", k, flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9(stand_in, connect, tmp_path):
    client = connect(stand_in)
    client.sql("CREATE DATABASE d PRECISION 'ns'")
    client.sql("CREATE TABLE d.t (ts TIMESTAMP, k BIGINT)")
    client.sql("CREATE STABLE d.m (ts TIMESTAMP, k BIGINT) TAGS (g INT)")
    client.close()
    acknowledged, next_k = set(), 0
    for round in range(3):
        with (tmp_path / f"writer-{round}").open("w") as out:
            args = [sys.executable, "-c", WRITER, f"ws://localhost:{stand_in.port}", str(next_k)]
            writer = subprocess.Popen(args, stdout=out, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            lines = (tmp_path / f"writer-{round}").read_text
            wait_until(lambda text=lines: text().count("acknowledged") > 10 + 7 * round, 20, "batches to be stored")  # noqa: B023
            stand_in.kill()
        finally:
            writer.kill()
            writer.wait()
        found = [line.split() for line in lines().splitlines() if len(line.split()) == 2]
        acknowledged |= {int(k) for what, k in found if what == "acknowledged"}
        next_k = 1 + max(int(k) for _, k in found)
        stand_in.start()
        client = connect(stand_in)
        stored = collections.Counter(k for (k,) in client.sql("SELECT k FROM d.t"))
        assert acknowledged <= set(stored)
        assert set(stored.values()) == {100}  # a batch is there as a whole or not at all
        assert len(set(stored) - acknowledged) <= round + 1  # stored, but its reply got lost
        assert client.sql(f"INSERT INTO d.s{round} USING d.m TAGS ({round}) VALUES (NOW, {round})") == 1
        assert client.sql("SELECT COUNT(*) FROM d.m") == [[round + 1]]
        client.close()


def test_databases_tables_tags_and_precisions_are_there_after_a_restart(stand_in, connect):
    client = connect(stand_in)
    steps = [
        "CREATE DATABASE d PRECISION 'us' KEEP 100",
        "CREATE TABLE d.`T x` (ts TIMESTAMP, `A b` NCHAR(5), c VARBINARY(4))",
        "CREATE STABLE d.m (ts TIMESTAMP, x INT) TAGS (g INT, loc NCHAR(4))",
        "INSERT INTO d.s1 USING d.m TAGS (1, '日本') VALUES (NOW, 1)",
        "INSERT INTO d.`T x` VALUES (1795411690000000, 'é', '\\xff')",
        "ALTER TABLE d.`T x` ADD COLUMN x DECIMAL(20, 4)",
        "ALTER TABLE d.`T x` DROP COLUMN c",
        "CREATE TABLE d.k (ts TIMESTAMP, id INT PRIMARY KEY, v FLOAT)",
        "CREATE TOPIC kept AS SELECT x FROM d.m",
        "CREATE DATABASE gone",
    ]
    for text in steps:
        assert isinstance(client.sql(text), int), text
    client.sql("DROP DATABASE gone")
    questions = [
        "SHOW TOPICS",
        "SELECT name, `precision` FROM information_schema.ins_databases",
        "DESCRIBE d.`T x`",
        "SELECT CAST(ts AS BIGINT), `A b` FROM d.`T x`",
        "SELECT tbname, g, loc, x FROM d.m",
    ]
    before = [client.sql(text) for text in questions]
    client.close()
    stand_in.kill()
    stand_in.start()
    client = connect(stand_in)
    assert [client.sql(text) for text in questions] == before
    assert client.sql("INSERT INTO d.k VALUES (1795411690000000, 1, 1) (1795411690000000, 2, 2)") == 2
    assert client.sql("INSERT INTO d.s1 VALUES (NOW - 101d, 1)") == "0x060B Timestamp data out of range"
    assert (
        client.sql("INSERT INTO d.`T x` VALUES (1795411690000000, NULL, NULL)") == 1
    )  # overwrites what was there before
    assert client.sql("SELECT COUNT(*) FROM d.`T x`") == [[1]]


# A full disk, played by the kernel's limit on the size of a file


def limit_files(stand_in, size):
    resource.prlimit(stand_in.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


PUT = """
import os, time
def put(rows=5000):
    statement = c.stmt2_statement()
    statement.prepare("INSERT INTO d.t VALUES (?, ?)")
    first = time.time_ns()
    columns = [
        taosws.nanos_timestamps_to_column(list(range(first, first + rows))),
        taosws.varchar_to_column([os.urandom(40).hex() for _ in range(rows)]),
    ]
    statement.bind([taosws.stmt2_bind_param_view(table_name="", tags=None, columns=columns)])
    return statement.execute()
"""


@pytest.fixture
def writer(stand_in, connect):
    """A Client in which put() stores 5,000 rows in d.t."""
    client = connect(stand_in)
    client.sql("CREATE DATABASE d PRECISION 'ns'")
    client.sql("CREATE TABLE d.t (ts TIMESTAMP, a VARCHAR(80))")
    client.call(PUT)
    return client


def put_until_full(writer):
    """Rows acknowledged before the first error, and that error's text."""
    stored = 0
    for _ in range(300):
        found = writer.call("put()")
        if found != 5000:
            return stored, found["message"]
        stored += found
    raise AssertionError("never full")


@pytest.mark.parametrize("fatal", [False, True], ids=["in its log", "in its checkpoint"])
def test_a_full_disk_is_told_and_it_goes_on_when_there_is_space(stand_in, writer, tmp_path, fatal):
    stored = 0
    if fatal:  # the file is larger than its log ever gets, so that only the file cannot grow
        while (tmp_path / "data/stand-in-3.duckdb").stat().st_size < 17 * 2**20:
            stored += writer.call("put()")
    limit_files(stand_in, (tmp_path / "data/stand-in-3.duckdb").stat().st_size if fatal else 3 * 2**20)
    more, message = put_until_full(writer)
    stored += more
    assert message.startswith("[0x020D]")
    assert "stand-in" in message
    assert ("checkpoint" in message) == fatal
    for _ in range(5):
        assert writer.call("put()") != 5000
    assert writer.sql("SELECT COUNT(*) FROM d.t") == [[stored]]  # reads are answered meanwhile
    (line,) = stand_in.process.stderr().splitlines()
    assert "the data folder cannot be written, is the disk full?" in line
    limit_files(stand_in, resource.RLIM_INFINITY)
    wait_until(lambda: writer.call("put()") == 5000, 10, stand_in.process.log)
    assert writer.call("put()") == 5000
    stored += 10_000
    assert writer.sql("SELECT COUNT(*) FROM d.t") == [[stored]]
    stand_in.kill()
    stand_in.start()
    writer.call("c = taosws.connect(DSN)")
    assert writer.sql("SELECT COUNT(*) FROM d.t") == [[stored]]


def test_the_producer_keeps_its_batches_while_the_disk_is_full(tmp_path):
    database = Database(tmp_path)
    if not database.is_stand_in:
        pytest.skip("a fault of the stand-in")
    try:
        with Chain(database, tmp_path) as chain:
            producer = chain.producer("--interval", 50)
            wait_until(lambda: "connected" in producer.stderr() or "rows" in producer.stderr(), 20, producer.log)
            wait_until(lambda: (tmp_path / "data/stand-in-3.duckdb.wal").exists(), 20, producer.log)
            pid, log = database.process.pid, tmp_path / "data/stand-in-3.duckdb.wal"
            wait_until(lambda: log.stat().st_size > 100_000, 20, producer.log)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 1000, resource.RLIM_INFINITY))
            wait_until(lambda: "0x020D" in producer.stderr(), 20, producer.log)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)
            size = log.stat().st_size
            wait_until(lambda: log.stat().st_size > size + 100_000, 30, producer.log)
            stop_producers(producer)
            assert database.count() == sent(producer)
    finally:
        database.close()


# What can't be said


@pytest.mark.parametrize("redirected", [">/dev/full 2>&1", ">&- 2>&-", "| true"])
def test_it_works_on_when_what_it_says_cannot_be_written(tmp_path, redirected):
    port = free_port()
    stand_in = shlex.join([sys.executable, "-m", "embedded", "--port", str(port), "--data", str(tmp_path / "data")])
    command = f"{'' if '|' in redirected else 'exec '}{stand_in} {redirected}"
    popen = subprocess.Popen(["sh", "-c", command], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), 20, "the stand-in to listen")
        with raw(port) as client:
            assert client.query("CREATE DATABASE d")["code"] == 0
            limited = children(popen.pid, "embedded") or [popen.pid]
            resource.prlimit(limited[0], resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
            wait_until(lambda: client.query(f"CREATE DATABASE d{time.time_ns()}")["code"] == 0x020D, 20, "a full disk")
            resource.prlimit(limited[0], resource.RLIMIT_FSIZE, UNLIMITED)
            wait_until(lambda: client.query("CREATE DATABASE IF NOT EXISTS e")["code"] == 0, 20, "an answer")
        os.kill(limited[0], signal.SIGTERM)
        assert popen.wait(10) == 0
    finally:
        popen.kill()
        popen.wait()


# Rows older than KEEP


def test_rows_older_than_keep_are_deleted(stand_in, connect, tmp_path):
    client = connect(stand_in)
    client.sql("CREATE DATABASE d KEEP 1d DURATION 1h")
    client.sql("CREATE TABLE d.t (ts TIMESTAMP, a INT)")
    soon = time.time_ns() // 10**6 - 86_398_000
    client.sql(f"INSERT INTO d.t VALUES ({soon}, 1) (NOW, 2)")
    assert client.sql("SELECT COUNT(*) FROM d.t") == [[2]]
    wait_until(lambda: client.sql(f"INSERT INTO d.t VALUES ({soon}, 1)") != 1, 10, "a day to be over")
    stand_in.kill()  # then it deletes with the first insert, not once a minute
    stand_in.start()
    client = connect(stand_in)
    client.sql("INSERT INTO d.t VALUES (NOW, 3)")
    assert client.sql("SELECT a FROM d.t") == [[2], [3]]


# Sizes


def test_large_results_are_read(stand_in, connect, writer):
    for _ in range(10):
        assert writer.call("put(10_000)") == 10_000
    before = memory_mb(stand_in.pid)
    assert writer.call("sum(1 for _ in c.query('SELECT * FROM d.t'))", timeout=60) == 100_000
    assert writer.call("len({row[0] for row in c.query('SELECT CAST(ts AS BIGINT) FROM d.t')})", timeout=60) == 100_000
    assert memory_mb(stand_in.pid) - before < 200
    # a result that nobody reads to its end, and one whose client is gone, hold up nobody
    writer.call("half = c.query('SELECT * FROM d.t'); next(iter(half))")
    other = connect(stand_in)
    other.call("half = c.query('SELECT * FROM d.t'); next(iter(half))")
    other.close()
    assert writer.call("put(10_000)") == 10_000
    assert writer.sql("SELECT COUNT(*) FROM d.t") == [[110_000]]
