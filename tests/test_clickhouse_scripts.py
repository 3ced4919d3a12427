"""The scripts of clickhouse/ one by one: flags, errors, what they repeat, the embedded engine, Docker, run.sh."""

import ast
import base64
import contextlib
import functools
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import trustme
from chain import children, listens, sent
from clickhouse_chain import HERE, PYTHON, TABLE, Chain, ClickHouse, install
from helpers import ROOT, Process, free_port, health, wait_until
from proxy import Proxy

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
        *("TICKERS", "CLIENTS", "FINISH_S", "say", "whole_number", "Parser", "Stop"),
        *("Beat.__init__", "Beat.start", "Beat.stamps"),
        *("Producer.finish", "Producer.wants_a_batch", "Producer.show", "Producer.run"),
    ],
    "perspective_server.py": [
        *(
            "CDN",
            "FILTER_HANDLER",
            "LOG",
            "ALLOWED",
            "DENIED",
            "OF_A_VIEW",
            "CHANGES_A_VIEW",
            "SUBSCRIBES",
            "MAX_MESSAGE",
            "MAX_VIEWS",
        ),
        *("MAX_SUBSCRIPTIONS", "MAX_EXPRESSIONS", "MAX_UNSENT", "PING_S", "WINDOW_MS", "LAG_MS", "STALE_S", "Shown"),
        *("CHECK_S", "Feed.health"),
        *("varint", "fields", "encode", "expressions_of", "is_harmful", "parse_request", "is_address"),
        *("Viewers", "SharedView", "SharedViews", "Joined", "ViewerHandler"),
        *("Plain", "NotFound", "PageHandler", "HealthHandler", "PackageHandler", "make_app"),
        *("whole_number", "duration_ms", "origin", "prefix", "Parser", "main"),
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
    only_tdengine = {"--source"}  # ClickHouse has nothing to subscribe to
    assert set(re.findall(r"--[a-z-]+", ours)) >= set(re.findall(r"--[a-z-]+", theirs)) - only_tdengine
    assert "CLICKHOUSE_DSN" in ours


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *((name, ["--nonsense"]) for name in SCRIPTS),
        *((name, ["--dsn", "ws://root:sec/ret@localhost:6041"]) for name in SCRIPTS),
        *((name, ["--dsn", "clickhouse://a:secret@localhost:notaport"]) for name in SCRIPTS),
        *((name, ["--dsn", "chdb://memory"]) for name in SCRIPTS),
        *((name, ["--dsn", "http://a:secret@localhost?host=elsewhere"]) for name in SCRIPTS),
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
        server = chain.server("--log-level", "debug")
        wait_until(lambda: chain.table()["error"], 20, server.log)
        assert "refuses this user or password" in chain.table()["error"]
        assert chain.health()["status"] == "waiting"
        assert "letmein" not in producer.log() + server.log() + json.dumps(chain.health())


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ("?max_threads=2&secure=false&connect_timeout=5", 0, ""),
        ("?connect_timeout=soon", 2, "unusable options in the DSN"),
        ("?nonsense=1", 1, "Unknown setting 'nonsense'"),
    ],
)
def test_options_in_the_dsn_are_the_clients_or_settings(database, options, status, said):
    name = database.name + "_Options"  # ClickHouse tells capitals apart
    done = script("producer.py", "--database", name, "--batches", 1, CLICKHOUSE_DSN=database.dsn + options)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if status == 0:
        assert database.query(f"SELECT count() FROM {name}.{TABLE}") == [["250"]]
        database.query(f"DROP DATABASE {name} SYNC")


def test_the_server_tells_of_unusable_options_in_the_dsn(database, tmp_path):
    with Chain(database, tmp_path, database.dsn + "?compress=nonsense") as chain:
        server = chain.server()
        wait_until(lambda: chain.table()["error"], 20, server.log)
        assert "unusable options" in chain.table()["error"]
        assert chain.health()["status"] == "waiting"
        assert "Traceback" not in server.stderr()


@pytest.mark.parametrize(
    ("dsn", "file", "login"),
    [
        ("clickhouse://us%40er:p%2Fw%25@127.0.0.1:{port}/some", None, "us@er:p/w%"),
        ("http://127.0.0.1:{port}", "p/w%:@\n", "default:p/w%:@"),
        ("clickhouse+http://someone@127.0.0.1:{port}", "secret", "someone:secret"),
    ],
)
@pytest.mark.parametrize("name", SCRIPTS)
def test_user_and_password_of_the_dsn_reach_clickhouse(name, dsn, file, login, tmp_path):
    (tmp_path / "password").write_text(file or "")
    with answering(b"nothing of ClickHouse's") as (port, requests):
        flags = ["--dsn", dsn.format(port=port), *(["--password-file", tmp_path / "password"] if file else [])]
        process = Process([PYTHON, HERE / name, *flags, *(["--port", 0] * (name != SCRIPTS[0]))], tmp_path)
        try:
            wait_until(lambda: "version query" in process.stderr() or not process.alive(), 30, process.log)
        finally:
            process.stop()
    assert base64.b64decode(requests[0]["Authorization"].split()[1]).decode() == login
    assert "p/w" not in process.log() + process.stdout()
    assert "secret" not in process.stderr()


@contextlib.contextmanager
def answering(body, port=0):
    """An HTTP server that answers with this body, or what it makes of a request: (port, headers of the requests)."""
    requests = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(self.headers)
            sql = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = body(sql) if callable(body) else body
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, requests
        server.shutdown()


def test_over_tls_with_the_ca_file_that_the_dsn_names(database, tmp_path):
    if not database.is_embedded:
        pytest.skip("that server has a way to it of its own")
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Proxy("127.0.0.1", urllib.parse.urlsplit(database.dsn).port, certificate=context) as proxy:
        name, host = database.name + "_tls", f"127.0.0.1:{proxy.port}"
        for dsn in (f"https://{host}?ca_cert=", f"clickhouse://{host}?secure=true&ca_cert="):
            done = script("producer.py", "--database", name, "--batches", 1, "--dsn", f"{dsn}{tmp_path / 'ca.pem'}")
            assert done.returncode == 0, done.stderr
        assert database.query(f"SELECT count() FROM {name}.{TABLE}") == [["500"]]
        done = script("producer.py", "--database", name, "--batches", 1, "--dsn", f"https://{host}")
        assert done.returncode == 1
        assert "certificate can't be trusted" in done.stderr
        with Chain(database, tmp_path, f"https://{host}") as chain:
            server = chain.server()
            wait_until(lambda: chain.table()["error"], 20, server.log)
            assert "certificate can't be trusted" in chain.table()["error"]


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


def test_history_shows_what_was_stored_before_the_start(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        assert chain.producer("--batches", "8").wait(40) == 0
        database.query(f"INSERT INTO {{db}}.{TABLE} (timestamp, ticker) VALUES (now64(9) - INTERVAL 1 HOUR, 'OLD')")
        chain.server("--history", "10m", limit=1500)
        wait_until(lambda: chain.table()["polls"] > 2, 20, lambda: chain.health())
        assert chain.table()["rows"] == 1500  # the newest of 2000 that the limit holds
        assert chain.table()["full_polls"] == 0
        chain.producer("--batches", "2")
        wait_until(lambda: chain.table()["rows"] >= 2000, 20, lambda: chain.health())


def test_rows_that_come_late_are_shown_also_when_they_are_the_first(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        assert chain.producer("--batches", "1").wait(20) == 0  # makes the table
        database.query(f"TRUNCATE TABLE {{db}}.{TABLE}")
        chain.server("--interval", "50")
        wait_until(lambda: chain.table()["polls"] > 60, 60, lambda: chain.health())  # for longer than a window
        before = chain.table()["rows"]
        stamp = "now64(9) - INTERVAL 1500 MILLISECOND"
        database.query(f"INSERT INTO {{db}}.{TABLE} VALUES ({stamp}, 'AAPL.N', 'Homer', 1, 1, 1, 1, 1, today())")
        wait_until(lambda: chain.table()["rows"] == before + 1, 20, lambda: chain.health())


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
    assert post("SELECT 1", {"Sec-Fetch-Site": "cross-site"})[0] == 403  # what a browser says of an image's address
    for sql in (
        "SELECT 1; DROP TABLE x",
        "SELECT 1 # '\n; SELECT 2 # '",
        "SELECT $$'$$; SELECT 2 --'",
        "SELECT 1\0; SELECT 2",
        "",
        ";",
        "\x01\x02",
    ):
        assert post(sql) == (400, "62"), sql
    for sql in (
        "SET max_threads = 1",
        "CREATE TEMPORARY TABLE t (n Int8)",
        "SELECT * FROM file('/etc/passwd', LineAsString)",
        "SELECT * FROM `file`($$/etc/passwd$$, LineAsString)",
        "CREATE TABLE t (s String) ENGINE = File(LineAsString, '/etc/passwd')",
        "SELECT 1 INTO OUTFILE '/tmp/never'",
        "SYSTEM SHUTDOWN",
    ):
        assert post(sql)[1] == "48", sql
    assert post("SELECT 1", {"Content-Encoding": "gzip"})[1] == "354"
    assert post("SELECT 1", {"Content-Encoding": "br"})[1] == "48"
    wrong = base64.b64encode(b"default:wrong").decode()
    for headers in ({"Authorization": f"Basic {wrong}"}, {"X-ClickHouse-Key": "x"}, {"X-ClickHouse-User": "someone"}):
        assert post("SELECT 1", headers) == (403, "516")
    assert "Traceback" not in database.process.stderr()


def test_a_link_changes_nothing_and_settings_last_for_one_request(database):
    if not database.is_embedded:
        pytest.skip("that is a server")
    name = database.name + "_link"
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"{database.url()}?query=CREATE+DATABASE+{name}", timeout=10)
    with urllib.request.urlopen(f"{database.url()}?query=SELECT+1", timeout=10) as answer:
        assert answer.read() == b"1\n"
    urllib.request.urlopen(f"{database.url()}?readonly=1&max_memory_usage=1000000", b"SELECT 1", timeout=10).close()
    database.query(f"CREATE DATABASE {name}")
    database.query(f"DROP DATABASE {name} SYNC")


def test_inserts_bring_their_data_along_in_every_way(database):
    name = database.name + "_ways"
    database.query(f"CREATE DATABASE {name}")
    database.query(f"CREATE TABLE {name}.t (n Int32, s String) ENGINE = MergeTree ORDER BY n")
    into = f"INSERT INTO {name}.t"
    database.query(f"{into} VALUES (1, 'a FORMAT b\n;')")
    database.query(f'{into} /* FORMAT Null */ FORMAT CSV\n2,"b;"\n3,c')
    database.query(f'{into} (s, n) FORMAT JSONEachRow {{"n": 4, "s": "d"}}')
    database.query(f"{into} SELECT 5, 'e'")
    rows = [["1", "a FORMAT b\\n;"], ["2", "b;"], ["3", "c"], ["4", "d"], ["5", "e"]]
    assert database.query(f"SELECT * FROM {name}.t ORDER BY n") == rows
    for sql in (
        f"INSERT INTO {name}.nothing FORMAT CSV\n1,a",
        f"{into} FORMAT Nonsense\nx",
        f"{into} FORMAT Native\nx",
    ):
        with pytest.raises(AssertionError, match="DB::Exception"):
            database.query(sql)
    assert len(database.query(f"SELECT * FROM {name}.t")) == 5
    database.query(f"DROP DATABASE {name} SYNC")


def test_the_embedded_engine_ends_while_a_statement_runs(tmp_path):
    install()
    if os.environ.get("CLICKHOUSE_DSN"):
        pytest.skip("that is a server")
    database = ClickHouse(tmp_path)
    try:
        endless = threading.Thread(target=ask_for_ever, args=(database.url(),), daemon=True)
        endless.start()
        running = "SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%' AND query NOT LIKE '%LIKE%'"
        wait_until(lambda: database.query(running) == [["1"]], 20, database.process.log)
        database.process.signal(signal.SIGINT)
        started = time.monotonic()
        assert database.process.wait(10) == 0
        assert time.monotonic() - started < 5
        assert "Traceback" not in database.process.stderr()
    finally:
        database.close()


def ask_for_ever(url):
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(
            url, b"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1", timeout=60
        )


def test_a_folder_that_is_no_engines_ends_in_one_line(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/engine").write_text("mine")
    for data in ("data", "data/engine"):
        done = script("embedded.py", "--port", 0, "--data", tmp_path / data)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "choose another --data" in done.stderr
    assert (tmp_path / "data/engine").read_text() == "mine"


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
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_docker_starts_on_loopback_with_a_password_that_only_a_file_knows(docker):
    port = free_port()
    with answering(b"26.9.6.6\n", port) as (_, requests):
        first = run_docker(docker, port=port)
        again = run_docker(docker, port=port)
    assert (first.returncode, again.returncode) == (0, 0), (first, again)
    assert "ClickHouse 26.9.6.6 answers" in first.stdout
    password = (docker / ".password").read_text()
    assert stat.S_IMODE((docker / ".password").stat().st_mode) == 0o600
    assert len(password) == 48
    assert {request["X-ClickHouse-Key"] for request in requests} == {password}
    calls = (docker / "calls.jsonl").read_text()
    assert password not in calls + first.stdout + first.stderr
    (run, _) = [call for call in map(json.loads, calls.splitlines()) if call[0] == "run"]
    assert [run[k + 1] for k, word in enumerate(run) if word == "--publish"] == [f"127.0.0.1:{port}:8123"]
    assert re.fullmatch(r"clickhouse/clickhouse-server:\d+\.\d+\.\d+\.\d+", run[-1])


IMAGE = re.search(r"clickhouse/clickhouse-server:[\d.]+", (HERE / "docker.sh").read_text())[0]


@pytest.mark.parametrize(
    ("state", "said", "status"),
    [
        ({"fail": {"info": "Cannot connect to the Docker daemon at unix:///x"}}, "daemon is not running", 4),
        ({"fail": {"info": "permission denied while trying to connect to the Docker daemon"}}, "no permission", 5),
        ({"fail": {"run": "Bind for 127.0.0.1:8123 failed: port is already allocated"}}, "is taken", 6),
        ({"fail": {"pull": "dial tcp: lookup registry-1.docker.io: no such host"}}, "no network", 7),
        ({"fail": {"pull": "manifest unknown"}}, "there is no image", 8),
        ({"container": {"state": "running", "image": "mine:1", "settings": ""}}, "another image, mine:1", 9),
        ({"container": {"state": "running", "image": IMAGE, "settings": "1 x"}}, "with other settings", 9),
        ({"on_start": "exited"}, "has ended before ClickHouse answered", 10),
        ({}, "does not answer a query on port", 10),
    ],
)
def test_each_failure_of_docker_is_told_in_a_line_and_by_a_status(docker, state, said, status):
    done = run_docker(docker, port=free_port(), **state)
    assert done.returncode == status
    first, *rest = done.stderr.splitlines()
    assert said in first
    assert rest == (["the log of taosd"] if status == 10 else [])


def test_docker_refuses_another_password_and_keeps_the_data_when_it_stops(docker):
    port = free_port()
    (docker / ".password").write_text("of the container that runs")
    with answering(b"Code: 516. DB::Exception: default: Authentication failed (AUTHENTICATION_FAILED)", port):
        done = run_docker(docker, port=port, version="podman version 5.4.0")
    assert done.returncode == 10
    assert "refuses the password in .password" in done.stderr
    assert (docker / ".password").read_text() == "of the container that runs"
    assert stat.S_IMODE((docker / ".password").stat().st_mode) == 0o600
    assert run_docker(docker, "--no-pull", port=port).returncode == 8
    assert run_docker(docker, "--stop", port=port, container={"state": "exited"}).returncode == 0
    words = {word for line in (docker / "calls.jsonl").read_text().splitlines() for word in json.loads(line)}
    assert not {"volume", "-v", "--volumes"} & words
    assert f"docker.io/{IMAGE}" in words  # Podman is told the registry


def test_docker_keeps_the_data_in_a_folder_and_fills_a_table(docker, database):
    name = database.name + "_bench"  # instead of test: that one is in the container

    def answer(sql):
        if b"version" in sql:
            return b"26.9.6.6\n"
        lines = database.query(sql.decode().replace("test.", f"{name}.").replace("EXISTS test", f"EXISTS {name}"))
        return "".join("\t".join(line) + "\n" for line in lines).encode()

    port = free_port()
    with answering(answer, port):
        done = run_docker(docker, "--data", "my data", "--benchmark", port=port)
    assert done.returncode == 0, done
    (run,) = [call for call in map(json.loads, (docker / "calls.jsonl").read_text().splitlines()) if call[0] == "run"]
    assert run[run.index("--volume") + 1] == f"{docker}/my data:/var/lib/clickhouse"
    shown = re.search(r"--query '(.*)'", done.stdout)[1].replace("test.", f"{name}.")
    assert sum(int(count) for _, count, _ in database.query(shown)) == 1_000_000
    database.query(f"DROP DATABASE {name} SYNC")


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


@pytest.mark.parametrize(
    ("dsn", "status", "said"),
    [
        ("clickhouse://a:secret@localhost:notaport", 2, "CLICKHOUSE_DSN"),
        (
            "http://a:secret@127.0.0.1:{free}",
            1,
            "no ClickHouse answers at http://127.0.0.1:{free} (Connection refused)",
        ),
        ("http://a:secret@127.0.0.1:{database}", 1, "refuses the user or password"),
    ],
)
def test_run_says_what_is_wrong_with_the_dsn(database, dsn, status, said):
    ports = {"free": free_port(), "database": urllib.parse.urlsplit(database.dsn).port}
    if not database.is_embedded:
        pytest.skip("another server may let that user in")
    done = run_script("--port", free_port(), CLICKHOUSE_DSN=dsn.format(**ports))
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
    assert said.format(**ports) in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_run_says_that_its_port_is_taken():
    with answering(b"") as (port, _):
        done = run_script("--port", port)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert f"port {port} is taken" in done.stderr


def run_script(*args, **env):
    install()
    return subprocess.run(
        [HERE / "run.sh", *map(str, args)],
        cwd="/",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_run_shows_rows_of_the_embedded_engine_and_ends_as_a_whole(tmp_path):
    install()
    folder = tmp_path / "a copy/clickhouse"
    folder.mkdir(parents=True)
    for name in (*SCRIPTS, "embedded.py", "run.sh", "docker.sh", "requirements.txt"):
        shutil.copy(HERE / name, folder)
    (folder / ".venv").symlink_to(HERE / ".venv")
    port, clickhouse_port = free_port(), free_port()
    command = ["env", "-u", "CLICKHOUSE_DSN", f"CLICKHOUSE_PORT={clickhouse_port}", folder / "run.sh", "--port", port]
    sent_before = 0
    # the second time with what the first has stored
    for flags, number in (([], signal.SIGINT), (["--history", "10m"], signal.SIGTERM)):
        run = Process([*command, *flags], tmp_path, "run", cwd="/")
        try:
            wait_until(lambda run=run: run.stdout().count(" rows/s, ") > 1 or not run.alive(), 90, run.log)
            assert "using ClickHouse's engine in process" in run.stdout(), run.log()
            (table,) = health(port)["tables"].values()
            assert table["rows"] > sent_before
            run.signal(number)
            assert run.wait(9) == 0, run.log()
            sent_before = int(re.search(r"^producer: sent (\d+) rows", run.stdout(), re.MULTILINE)[1])
            assert sent_before > 0
            assert not run.stderr()
            assert not listens(port)
            assert not listens(clickhouse_port)
        finally:
            run.stop()


def test_run_ends_as_a_whole_when_a_part_ends(database, tmp_path):
    folder = tmp_path / "clickhouse"
    folder.mkdir()
    for name in (*SCRIPTS, "embedded.py", "run.sh", "requirements.txt"):
        shutil.copy(HERE / name, folder)
    (folder / ".venv").symlink_to(HERE / ".venv")
    port = free_port()
    run = Process(
        [folder / "run.sh", "--port", port], tmp_path, "run", env={"CLICKHOUSE_DSN": database.dsn + f"/{database.name}"}
    )
    try:
        wait_until(lambda: run.stdout().count(" rows/s, ") > 0 or not run.alive(), 90, run.log)
        assert "(CLICKHOUSE_DSN)" in run.stdout(), run.log()
        (producer,) = children(run.pid, "producer.py")
        os.kill(producer, signal.SIGKILL)
        assert run.wait(10) == 1
        assert run.stderr().startswith("run.sh: producer has ended with status 137")
        assert not listens(port)
    finally:
        run.stop()
        database.query("DROP DATABASE IF EXISTS {db} SYNC")
