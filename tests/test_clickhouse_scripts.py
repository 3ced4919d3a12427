"""The scripts of clickhouse/ one by one: flags, errors, what they repeat, the embedded engine, Docker, run.sh."""

import ast
import functools
import http.server
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from chain import listens, sent
from clickhouse_chain import HERE, PYTHON, TABLE, Chain, ClickHouse, install
from helpers import ROOT, Process, free_port, health, wait_until

pytestmark = pytest.mark.timeout(700)  # the first test installs
SCRIPTS = ["producer.py", "perspective_server.py"]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A ClickHouse, which the tests of this module share: each takes a database of its own."""
    install()
    database = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    yield database
    database.close()


def script(name, *args, timeout=30, **env):
    """Runs a script of clickhouse/ to its end; CompletedProcess (text)."""
    install()
    return subprocess.run(
        [PYTHON, HERE / name, *map(str, args)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


# What is repeated


@functools.cache
def parts_of(path):
    """{name: source} of a script's functions, classes and constants, and of methods as Class.method."""
    source = path.read_text()
    lines, parts = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            parts[node.name] = node
            for method in getattr(node, "body", ()) if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    parts[f"{node.name}.{method.name}"] = method
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            parts[node.targets[0].id] = node
    # decorators, and comments at the ends of lines, belong to it
    first = {
        name: min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        for name, node in parts.items()
    }
    return {name: "\n".join(lines[first[name] - 1 : node.end_lineno]) for name, node in parts.items()}


SHARED = {
    "producer.py": [
        *("TICKERS", "CLIENTS", "FINISH_S", "READ_TIMEOUT_S", "say", "whole_number", "Parser", "Stop"),
        *(
            "Beat.__init__",
            "Beat.start",
            "Beat.stamps",
            "Producer.__init__",
            "Producer.finish",
            "Producer.wants_a_batch",
        ),
        *("Producer.show", "Producer.run"),
    ],
    "perspective_server.py": [
        *("CDN", "LOG", "ALLOWED", "DENIED", "OF_A_VIEW", "CHANGES_A_VIEW", "SUBSCRIBES", "MAX_MESSAGE", "MAX_VIEWS"),
        *("MAX_SUBSCRIPTIONS", "MAX_EXPRESSIONS", "MAX_UNSENT", "PING_S", "WINDOW_MS", "LAG_MS", "STALE_S", "Shown"),
        *("REMEMBERED_ROWS", "CHECK_S", "Feed.health"),
        *("varint", "fields", "encode", "expressions_of", "is_harmful", "parse_request", "is_address"),
        *("Viewers", "SharedView", "SharedViews", "Joined", "ViewerHandler"),
        *("Plain", "NotFound", "PageHandler", "HealthHandler", "PackageHandler", "make_app"),
        *("whole_number", "origin", "prefix", "Parser", "main"),
    ],
}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name in SCRIPTS for part in SHARED[name]])
def test_what_is_shared_with_the_root_is_equal_to_the_letter(name, part):
    assert parts_of(HERE / name)[part] == parts_of(ROOT / name)[part]


def test_every_class_and_function_of_the_viewers_side_is_held_equal():
    source = (ROOT / "perspective_server.py").read_text()
    side = source[source.index("# The viewers' side") : source.index("# Options, and how")]
    assert set(re.findall(r"^(?:def|class) (\w+)", side, re.MULTILINE)) <= set(SHARED["perspective_server.py"])


@pytest.mark.parametrize("part", ["DEFAULT_DSN", "connect", "is_loopback", "one_line", "split_dsn", "identifier"])
def test_what_both_scripts_repeat_is_equal(part):
    ours, theirs = (parts_of(HERE / name)[part] for name in SCRIPTS)
    assert ours == theirs


def test_the_server_reads_the_columns_that_the_producer_creates():
    columns = [list(ast.literal_eval(parts_of(HERE / name)["COLUMNS"].split("=", 1)[1].strip())) for name in SCRIPTS]
    assert columns[0] == columns[1]
    assert f'"{TABLE}"' in (ROOT / "perspective_server.py").read_text()  # the page's table has the same name there


def test_packages_in_both_requirements_have_the_same_version():
    ours, theirs = (
        dict(re.findall(r"^([\w-]+)==(.+)$", (folder / "requirements.txt").read_text(), re.MULTILINE))
        for folder in (HERE, ROOT)
    )
    shared = ours.keys() & theirs.keys()
    assert {"perspective-python", "tornado"} <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


# Flags and errors


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_flags_are_the_roots(name):
    ours = script(name, "--help").stdout
    theirs = subprocess.run(
        [sys.executable, ROOT / name, "--help"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    only_tdengine = {"--source", "--history"}
    assert set(re.findall(r"--[a-z-]+", ours)) == set(re.findall(r"--[a-z-]+", theirs)) - only_tdengine
    assert "CLICKHOUSE_DSN" in ours


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *((name, ["--nonsense"]) for name in SCRIPTS),
        *((name, ["--dsn", "ws://root:sec/ret@localhost:6041"]) for name in SCRIPTS),
        *((name, ["--dsn", "clickhouse://a:secret@localhost:notaport"]) for name in SCRIPTS),
        *((name, ["--dsn", "chdb://memory"]) for name in SCRIPTS),
        ("producer.py", ["--dataset", "meters"]),
        ("producer.py", ["--database", "a; DROP DATABASE b"]),
        ("producer.py", ["--rows", "500", "--backlog", "100"]),
        ("producer.py", ["--password-file", "/nonexistent"]),
        ("perspective_server.py", ["--port", "70000"]),
        ("perspective_server.py", ["--certfile", "/nonexistent"]),
        ("embedded.py", ["--port", "x"]),
        ("embedded.py", ["more"]),
    ],
)
def test_a_bad_flag_ends_in_one_line_and_status_2(name, flags):
    done = script(name, *flags)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "secret" not in done.stderr
    assert "sec/ret" not in done.stderr


def test_a_refused_password_ends_the_producer_and_is_told_by_the_server(database, tmp_path):
    with database.proxy() as proxy, Chain(database, tmp_path, database.through(proxy, "default:letmein")) as chain:
        producer = chain.producer()
        assert producer.wait(20) == 1
        assert "refuses this user or password" in producer.stderr()
        assert producer.stdout() == "sent 0 rows in 0 batches\n"
        server = chain.server()
        wait_until(lambda: chain.table()["error"], 20, server.log)
        assert "refuses this user or password" in chain.table()["error"]
        assert chain.health()["status"] == "waiting"
        assert "letmein" not in producer.log() + server.log() + json.dumps(chain.health())


def test_a_table_of_whole_seconds_is_kept_and_the_pace_refused(database, tmp_path):
    name = database.name + "_seconds"
    database.query(f"CREATE DATABASE {name}")
    columns = "timestamp DateTime('UTC'), ticker String, client String, open Float64, high Float64, low Float64, "
    columns += "close Float64, volume UInt32, date Date"
    database.query(f"CREATE TABLE {name}.{TABLE} ({columns}) ENGINE = MergeTree ORDER BY timestamp")
    database.query(f"INSERT INTO {name}.{TABLE} (ticker) VALUES ('mine')")
    done = script("producer.py", "--database", name, "--batches", 1, CLICKHOUSE_DSN=database.dsn)
    assert done.returncode == 2
    assert "can't have timestamps of their own" in done.stderr
    assert "WINDOW" not in database.query(f"SHOW CREATE TABLE {name}.{TABLE}")[0][0].upper()
    assert database.query(f"SELECT ticker FROM {name}.{TABLE}") == [["mine"]]
    done = script("producer.py", "--database", name, "--batches", 2, "--reset", CLICKHOUSE_DSN=database.dsn)
    assert (done.returncode, done.stdout) == (0, "sent 500 rows in 2 batches\n"), done.stderr
    assert database.query(f"SELECT count(), uniqExact(timestamp) FROM {name}.{TABLE}") == [["500", "500"]]
    database.query(f"DROP DATABASE {name} SYNC")


def test_rows_of_equal_timestamps_are_all_shown(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        producer = chain.producer("--batches", "1")
        assert producer.wait(20) == 0
        chain.server()
        wait_until(lambda: chain.table()["polls"] > 2, 20, lambda: chain.health())
        before = chain.table()["rows"]
        prices = ", ".join(f"(now64(9), 'AAPL.N', 'Homer', {k}, 1, 1, 1, 1, today())" for k in range(20))
        database.query(f"INSERT INTO {{db}}.{TABLE} VALUES {prices}")
        wait_until(lambda: chain.table()["rows"] >= before + 20, 20, lambda: chain.health())
        assert sent(producer) == 250


def test_a_port_that_is_taken_ends_in_one_line_and_status_1(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        chain.server()
        done = script("perspective_server.py", "--port", chain.port, CLICKHOUSE_DSN=database.dsn)
    assert done.returncode == 1
    assert f"{chain.port}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# The embedded engine

CLIENT = """
import os, sys
import clickhouse_connect, pyarrow
from clickhouse_connect.driver.exceptions import DatabaseError
sys.path.insert(0, sys.argv[1])
from producer import split_dsn
dsn, name = split_dsn(os.environ["CLICKHOUSE_DSN"], None)[0], sys.argv[2]
client = clickhouse_connect.get_client(dsn=dsn)
client.command(f"CREATE DATABASE {name}")
client.command(f"CREATE TABLE {name}.t (n UInt32, s String) ENGINE = MergeTree ORDER BY n")
for packing in (False, "lz4", "zstd", "gzip"):
    other = clickhouse_connect.get_client(dsn=dsn, compress=packing, database=name)
    done = other.insert("t", [[1, "a; FORMAT Native\\n'"], [2, "\\u00fc"]], column_names=["n", "s"])
    assert done.written_rows == 2, (packing, done.summary)
assert client.query(f"SELECT count(), max(s) FROM {name}.t").result_rows == [(8, "\\u00fc")]
assert client.query("SELECT {a:String} || '; -- x'", {"a": "it's"}).result_rows == [("it's; -- x",)]
table = client.query_arrow(f"SELECT n FROM {name}.t WHERE n = 2", settings={"max_threads": 1})
assert isinstance(table, pyarrow.Table) and table["n"].to_pylist() == [2] * 4
assert client.query("SELECT getSetting('max_block_size') AS x", settings={"max_block_size": 7}).result_rows == [(7,)]
assert client.query("SELECT getSetting('max_block_size') AS x").result_rows != [(7,)]
for sql, code in (("SELECT * FROM nothing.t", 81), (f"SELECT * FROM {name}.nothing", 60), ("SELEC 1", 62),
                  (f"SELECT nothing FROM {name}.t", 47), ("SELECT 1; SELECT 2", 62)):
    try:
        client.command(sql)
    except DatabaseError as error:
        assert error.code == code, (sql, error.code)
    else:
        raise AssertionError(sql)
client.command(f"DROP DATABASE {name} SYNC")
print("passed", client.server_version)
"""


def test_an_unmodified_client_works_with_the_embedded_engine(database):
    done = subprocess.run(
        [PYTHON, "-c", CLIENT, HERE, database.name + "_client"],
        env={**os.environ, "CLICKHOUSE_DSN": database.dsn},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("passed"), done.stderr


def test_the_embedded_engine_refuses_pages_and_what_it_cannot_do(database):
    if not database.is_embedded:
        pytest.skip("that is a server")

    def post(sql, headers=None):
        try:
            with urllib.request.urlopen(
                urllib.request.Request(database.url(), sql.encode(), headers or {}), timeout=10
            ) as got:
                return got.status, got.headers.get("X-ClickHouse-Exception-Code")
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("X-ClickHouse-Exception-Code")

    assert post("SELECT 1") == (200, None)
    assert post("SELECT ';' -- ; SELECT 2\n;") == (200, None)
    assert post("SELECT 1", {"Origin": "https://evil.example"})[0] == 403
    assert post("SELECT 1", {"Host": "evil.example:8123"})[0] == 403
    assert post("SELECT 1; DROP TABLE x") == (400, "62")
    for sql in (
        "SET max_threads = 1",
        "CREATE TEMPORARY TABLE t (n Int8)",
        "SELECT * FROM file('/etc/passwd', LineAsString)",
    ):
        assert post(sql)[1] == "48"
    assert post("SELECT 1 INTO OUTFILE '/tmp/never'")[1] == "48"


def test_one_embedded_engine_holds_a_folder(database):
    if not database.is_embedded:
        pytest.skip("that is a server")
    done = script("embedded.py", "--port", 0, "--data", database.folder / "data")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "another process holds" in done.stderr


# docker.sh, against a docker command that records the calls


@pytest.fixture
def docker(tmp_path):
    folder = tmp_path / "a docker"
    (folder / "bin").mkdir(parents=True)
    command = folder / "bin/docker"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fake_docker.py" "$@"\n')
    command.chmod(0o755)
    shutil.copy(HERE / "docker.sh", folder)
    return folder


def run_docker(folder, *args, port, **state):
    start = {"container": None, "images": [], "fail": {}, "hang": [], "on_start": "running", "version": "Docker 28"}
    (folder / "state.json").write_text(json.dumps(start | state))
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "FAKE_DOCKER": str(folder)}
    env |= {"CLICKHOUSE_PORT": str(port), "CLICKHOUSE_WAIT_S": "1"}
    return subprocess.run(
        [folder / "docker.sh", *args],
        cwd="/",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_docker_starts_on_loopback_with_a_password_that_only_a_file_knows(docker):
    keys, port = [], free_port()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            keys.append(self.headers["X-ClickHouse-Key"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"26.9.6.6\n")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        first = run_docker(docker, port=port)
        again = run_docker(docker, port=port)
        server.shutdown()
    assert (first.returncode, again.returncode) == (0, 0), (first, again)
    assert "ClickHouse 26.9.6.6 answers" in first.stdout
    password = (docker / ".password").read_text()
    assert stat.S_IMODE((docker / ".password").stat().st_mode) == 0o600
    assert len(password) == 48
    assert set(keys) == {password}
    calls = (docker / "calls.jsonl").read_text()
    assert password not in calls + first.stdout + first.stderr
    (run, _) = [call for call in map(json.loads, calls.splitlines()) if call[0] == "run"]
    assert [run[k + 1] for k, word in enumerate(run) if word == "--publish"] == [f"127.0.0.1:{port}:8123"]
    assert re.fullmatch(r"clickhouse/clickhouse-server:\d+\.\d+\.\d+\.\d+", run[-1])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"fail": {"info": "Cannot connect to the Docker daemon at unix:///x"}}, "daemon is not running"),
        ({"fail": {"info": "permission denied while trying to connect to the Docker daemon socket"}}, "no permission"),
        ({"fail": {"pull": "manifest unknown"}}, "there is no image"),
        ({"fail": {"run": "Bind for 127.0.0.1:8123 failed: port is already allocated"}}, "is taken"),
        ({"on_start": "exited"}, "has ended before ClickHouse answered"),
        ({}, "does not answer a query on port"),
    ],
)
def test_each_failure_of_docker_is_told_in_a_line(docker, state, said):
    done = run_docker(docker, port=free_port(), **state)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[0]


@pytest.mark.parametrize("args", [["--nonsense"], ["--data"], ["--native"]])
def test_docker_says_what_is_unusable(docker, args):
    done = run_docker(docker, *args, port=free_port())
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


# run.sh


@pytest.mark.parametrize(
    "args", [["--nonsense"], ["--dataset", "meters"], ["--port", "0"], ["--install", "--no-install"]]
)
def test_run_says_what_is_unusable(args):
    done = subprocess.run([HERE / "run.sh", *args], capture_output=True, text=True, timeout=30, cwd="/")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_run_shows_rows_of_the_embedded_engine_and_ends_as_a_whole(tmp_path):
    install()
    folder = tmp_path / "a copy/clickhouse"
    folder.mkdir(parents=True)
    for name in (*SCRIPTS, "embedded.py", "run.sh", "docker.sh", "requirements.txt"):
        shutil.copy(HERE / name, folder)
    (folder / ".venv").symlink_to(HERE / ".venv")
    port, clickhouse_port = free_port(), free_port()
    command = ["env", "-u", "CLICKHOUSE_DSN", f"CLICKHOUSE_PORT={clickhouse_port}"]
    run = Process([*command, folder / "run.sh", "--port", port], tmp_path, "run", cwd="/")
    try:
        wait_until(lambda: run.stdout().count(" rows/s, ") > 1 or not run.alive(), 60, run.log)
        assert "using ClickHouse's engine in process" in run.stdout(), run.log()
        assert health(port)["status"] == "ok"
        run.signal(signal.SIGINT)
        assert run.wait(9) == 0, run.log()
        assert re.search(r"^producer: sent \d+ rows", run.stdout(), re.MULTILINE), run.log()
        assert not run.stderr()
        assert not listens(port)
        assert not listens(clickhouse_port)
    finally:
        run.stop()
