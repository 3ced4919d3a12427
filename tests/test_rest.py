"""POST /rest/sql as taosAdapter documents it, on the stand-in or on the TDengine of TDENGINE_DSN."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
from helpers import python


@pytest.fixture
def ask(database):
    """ask(sql, path, authorization=...): (HTTP status, JSON)."""
    parts = urllib.parse.urlsplit(database.dsn)
    user = f"{parts.username or 'root'}:{urllib.parse.unquote(parts.password or 'taosdata')}"
    ours = basic(user)
    scheme = "https" if parts.scheme in ("wss", "https") else "http"

    def ask(sql, path="", authorization=ours, method="POST"):
        headers = {"Authorization": authorization} if authorization else {}
        url = f"{scheme}://{parts.hostname}:{parts.port or 6041}/rest/sql{path.replace('{db}', database.name)}"
        text = sql.encode() if isinstance(sql, str) else sql
        data = text.replace(b"{db}", database.name.encode()) if method == "POST" else None
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as reply:
                return reply.status, json.loads(reply.read() or "null")
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else None

    ask("CREATE DATABASE {db} PRECISION 'us'")
    ask("CREATE TABLE {db}.t (ts TIMESTAMP, f FLOAT, s NCHAR(10), n BIGINT, b BOOL)")
    first = "(1767225600123456, 0.1, 'it''s', 9007199254740993, true)"
    ask(f"INSERT INTO {{db}}.t VALUES {first} (1767225601000000, NULL, NULL, NULL, NULL)")
    return ask


def basic(user):
    return "Basic " + base64.b64encode(user.encode()).decode()


def test_rows_with_their_columns(ask):
    status, reply = ask("SELECT * FROM {db}.t")
    assert (status, reply["code"], reply["rows"]) == (200, 0, 2)
    meta = [["ts", "TIMESTAMP", 8], ["f", "FLOAT", 4], ["s", "NCHAR", 10], ["n", "BIGINT", 8], ["b", "BOOL", 1]]
    assert reply["column_meta"] == meta
    assert reply["data"] == [
        ["2026-01-01T00:00:00.123456Z", 0.1, "it's", 9007199254740993, True],
        ["2026-01-01T00:00:01.000000Z", None, None, None, None],
    ]


def test_timestamps_as_numbers(ask):
    assert ask("SELECT CAST(ts AS BIGINT) FROM {db}.t LIMIT 1")[1]["data"] == [[1767225600123456]]


BIND_INFINITY = """
import sys, time, taosws
statement = taosws.connect(sys.argv[1]).stmt2_statement()
statement.prepare("INSERT INTO t (ts, f) VALUES (?, ?)")
columns = [taosws.micros_timestamps_to_column([time.time_ns() // 1000]), taosws.floats_to_column([float("inf")])]
statement.bind([taosws.stmt2_bind_param_view(None, None, columns)])
print(statement.execute())
"""


def test_an_answer_is_empty_when_a_value_is_no_number(ask, database):
    assert python("-c", BIND_INFINITY, f"{database.dsn}/{database.name}?read_timeout=10").stdout == "1\n"
    assert ask("SELECT * FROM {db}.t") == (200, None)
    guarded = ask("SELECT CASE WHEN f BETWEEN -3e38 AND 3e38 THEN f END FROM {db}.t")
    assert [value for (value,) in guarded[1]["data"]] == [0.1, None, None]


def test_the_database_comes_with_the_address_and_use_is_forgotten(ask):
    assert ask("SELECT COUNT(*) FROM t", "/{db}")[1]["data"] == [[2]]
    ask("USE {db}")
    assert ask("SELECT COUNT(*) FROM t")[1]["code"] == 0x2616
    assert ask("CREATE DATABASE IF NOT EXISTS {db}", "/there_is_none")[1]["code"] == 0


def test_rows_affected(ask):
    _, reply = ask("INSERT INTO {db}.t VALUES (NOW, 1, 'a', 1, false)")
    assert reply == {"code": 0, "column_meta": [["affected_rows", "INT", 4]], "data": [[1]], "rows": 1}


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT nothing FROM {db}.t", 0x2602),
        ("SELECT * FROM {db}.nothing", 0x2603),
        ("SELECT * FROM there_is_none.t", 0x0388),
        ("INSERT INTO {db}.t VALUES (NOW, 'x', 'a', 1, false)", 0x0216),
        ("INSERT INTO {db}.t VALUES (NOW, 1, 'longer than ten', 1, false)", 0x2653),
        ("NONSENSE", 0x2600),
    ],
)
def test_mistakes_have_status_200_and_a_code(ask, sql, code):
    status, reply = ask(sql)
    assert (status, reply["code"]) == (200, code)
    assert reply["desc"]


def test_who_may_not(ask):
    assert ask("SELECT 1", authorization=basic("root:wrong"))[1]["code"] == 0x0357
    for authorization in (None, "Basic", "Basic ###", "Basic " + base64.b64encode(b"\xff").decode(), "Digest x"):
        status, reply = ask("SELECT 1", authorization=authorization)
        assert (status, reply["code"] > 0) == (401, True), authorization


def test_bytes_that_are_no_utf8_and_exact_numbers(ask):
    """What a REST client can store in a VARCHAR, and what only CAST reads."""
    ask("CREATE TABLE {db}.x (ts TIMESTAMP, v VARCHAR(10), d DECIMAL(20, 4))")
    assert ask(b"INSERT INTO {db}.x VALUES (NOW, 'caf\xe9', 1234567890123456.7891)")[1]["code"] == 0
    assert ask("SELECT CAST(v AS VARBINARY), d FROM {db}.x")[1]["data"] == [["636166e9", "1234567890123456.7891"]]


def test_what_is_no_request(ask):
    assert ask("")[0] == 400
    assert ask(" \n ")[0] == 400
    assert ask("SELECT 1", method="GET")[0] in (404, 405)


def test_many_rows_in_one_answer(ask):
    first = 1767225600000000
    for k in range(0, 12_000, 4000):
        rows = " ".join(f"({first + i}, {i}, 'x', {i}, true)" for i in range(k, k + 4000))
        assert ask(f"INSERT INTO {{db}}.t VALUES {rows}")[1]["data"] == [[4000]]
    _, reply = ask(f"SELECT n FROM {{db}}.t WHERE ts < {first + 12_000} ORDER BY ts")
    assert [n for (n,) in reply["data"]] == list(range(12_000))
