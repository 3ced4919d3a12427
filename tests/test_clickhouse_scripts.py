"""The scripts of clickhouse/ one by one: flags, errors, how the database is reached."""

import asyncio
import base64
import contextlib
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import urllib.parse

import pytest
import trustme
from clickhouse_chain import HERE, TABLE, Chain, ClickHouse
from helpers import Process, refused, wait_until
from proxy import Proxy

import perspective_server as root_server
import producer as root_producer
from bridge import dsn
from clickhouse import perspective_server, producer
from clickhouse.source import Error, Reader, Table

MODULES = {"producer.py": producer, "perspective_server.py": perspective_server}
ROOTS = {"producer.py": root_producer, "perspective_server.py": root_server}
SCRIPTS = list(MODULES)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A ClickHouse, which the tests of this module share: each takes a database of its own."""
    database = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    yield database
    database.close()


def script(name, *args, timeout=60, **env):
    """Runs a script in its own folder, as the README says, to its end; CompletedProcess (text)."""
    return subprocess.run(
        [sys.executable, name, *map(str, args)],
        cwd=HERE,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_flags_are_the_roots(name, capsys, monkeypatch):
    status, ours, _ = refused(MODULES[name].main, name, ["--help"], capsys, monkeypatch)
    _, theirs, _ = refused(ROOTS[name].main, name, ["--help"], capsys, monkeypatch)
    only_tdengine = {"--source", "--database-options"}  # ClickHouse has nothing to subscribe to
    assert status == 0
    assert set(re.findall(r"--[a-z-]+", ours)) >= set(re.findall(r"--[a-z-]+", theirs)) - only_tdengine
    assert "CLICKHOUSE_DSN" in ours


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *((name, ["--nonsense"]) for name in SCRIPTS),
        *((name, ["more"]) for name in SCRIPTS),
        *((name, ["--dsn", "ws://root:sec/ret@localhost:6041"]) for name in SCRIPTS),
        *((name, ["--dsn", "clickhouse://a:secret@localhost:notaport"]) for name in SCRIPTS),
        *((name, ["--dsn", "chdb://memory"]) for name in SCRIPTS),
        *((name, ["--dsn", "http://a:secret@localhost?host=elsewhere"]) for name in SCRIPTS),
        ("producer.py", ["--dataset", "meters"]),
        ("producer.py", ["--database", "a`b"]),
        ("producer.py", ["--rows", "500", "--backlog", "100"]),
        ("producer.py", ["--password-file", "/nonexistent"]),
        ("perspective_server.py", ["--port", "70000"]),
        ("perspective_server.py", ["--certfile", "/nonexistent"]),
    ],
)
def test_a_bad_flag_ends_in_one_line_and_status_2(name, flags, capsys, monkeypatch):
    status, shown, said = refused(MODULES[name].main, name, flags, capsys, monkeypatch)
    assert (status, shown, len(said.splitlines())) == (2, "", 1), said
    assert "secret" not in said
    assert "sec/ret" not in said


def test_a_word_too_many_ends_the_engine_in_its_own_folder():
    done = script("embedded.py", "more")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr


def told_by_the_server(dsn_text):
    """What its source says of the error with this DSN."""

    async def describe():
        table = Table(Reader(dsn.clickhouse(dsn_text)), "stocks", TABLE)
        with pytest.raises(Error) as raised:
            await table.describe()
        return table.explain(raised.value)

    return asyncio.run(describe())


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


def test_the_server_tells_of_unusable_options_in_the_dsn(database):
    assert "unusable options" in told_by_the_server(database.dsn + "?compress=nonsense")


@pytest.mark.parametrize(
    ("name", "dsn", "file", "login"),
    [
        (SCRIPTS[0], "clickhouse://us%40er:p%2Fw%25@127.0.0.1:{port}/some", None, "us@er:p/w%"),
        (SCRIPTS[1], "http://127.0.0.1:{port}", "p/w%:@\n", "default:p/w%:@"),
        (SCRIPTS[0], "clickhouse+http://someone@127.0.0.1:{port}", "secret", "someone:secret"),
    ],
)
def test_user_and_password_of_the_dsn_reach_clickhouse(name, dsn, file, login, tmp_path):
    (tmp_path / "password").write_text(file or "")
    with answering(b"nothing of ClickHouse's") as (port, requests):
        flags = ["--dsn", dsn.format(port=port), *(["--password-file", tmp_path / "password"] if file else [])]
        process = Process([sys.executable, HERE / name, *flags, *(["--port", 0] * (name != SCRIPTS[0]))], tmp_path)
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
        for way in (f"https://{host}?ca_cert=", f"clickhouse://{host}?secure=true&ca_cert="):
            done = script("producer.py", "--database", name, "--batches", 1, "--dsn", f"{way}{tmp_path / 'ca.pem'}")
            assert done.returncode == 0, done.stderr
        assert database.query(f"SELECT count() FROM {name}.{TABLE}") == [["500"]]
        done = script("producer.py", "--database", name, "--batches", 1, "--dsn", f"https://{host}")
        assert done.returncode == 1
        assert "certificate can't be trusted" in done.stderr
        assert "certificate can't be trusted" in told_by_the_server(f"https://{host}")


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
