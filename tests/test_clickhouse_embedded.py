"""clickhouse/embedded.py: ClickHouse's engine in process, by its HTTP interface."""

import base64
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from clickhouse_chain import HERE, ClickHouse
from helpers import ROOT, python, wait_until


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A ClickHouse, which the tests of this module share: each takes a database of its own."""
    database = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    yield database
    database.close()


CLIENT = """
import os, sys
import clickhouse_connect, pyarrow
from clickhouse_connect.driver.exceptions import DatabaseError
sys.path.insert(0, sys.argv[1])
from bridge.dsn import clickhouse
dsn, name = clickhouse(os.environ["CLICKHOUSE_DSN"]).url, sys.argv[2]
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
        [sys.executable, "-c", CLIENT, ROOT, database.name + "_client"],
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
    if os.environ.get("CLICKHOUSE_DSN"):
        pytest.skip("that is a server")
    database = ClickHouse(tmp_path)
    try:
        endless = threading.Thread(target=ask_for_ever, args=(database.url(),), daemon=True)
        endless.start()
        running = "SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%' AND query NOT LIKE '%LIKE%'"
        wait_until(lambda: database.query(running) == [["1"]], 20, database.process.log)
        database.process.signal(signal.SIGINT)
        assert database.process.ends_within(5) == 0
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
        done = python(HERE / "embedded.py", "--port", 0, "--data", tmp_path / data)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "choose another --data" in done.stderr
    assert (tmp_path / "data/engine").read_text() == "mine"


def test_one_embedded_engine_holds_a_folder(database):
    if not database.is_embedded:
        pytest.skip("that is a server")
    done = python(HERE / "embedded.py", "--port", 0, "--data", database.folder / "data")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "another process holds" in done.stderr
