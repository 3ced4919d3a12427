"""The stand-in's SQL through the real client: what was measured on TDengine and lies in the stand-in's part."""

import itertools
import threading
import time

import pytest
from stand_in import T, raw

NUMBERS = itertools.count()
OLD = "2026-11-23 05:28:10"  # T as a text


class Database:
    """SQL in a database of its own, the connection's current one."""

    def __init__(self, client, precision="ms"):
        self.client, self.name = client, f"d{next(NUMBERS)}"
        self(f"CREATE DATABASE {self.name} PRECISION '{precision}'")
        self(f"USE {self.name}")

    def __call__(self, text):
        return self.client.sql(text)

    def call(self, source):
        return self.client.call(source)


@pytest.fixture
def sql(client):
    """sql(text) gives rows, rows affected, or an error as text; tables t and st with subtables s1 and s2 are there."""
    sql = Database(client)
    sql("CREATE TABLE t (ts TIMESTAMP, a INT, b NCHAR(10))")
    sql("CREATE STABLE st (ts TIMESTAMP, x INT, f FLOAT) TAGS (g INT, loc BINARY(8))")
    return sql


def run(sql, steps):
    """Each step is a statement, or a statement and what it must give."""
    for step in steps:
        text, wanted = step if isinstance(step, tuple) else (step, None)
        found = sql(text)
        if wanted is None:
            assert not isinstance(found, str), (text, found)
        else:
            assert found == wanted, text


def at(ms):
    return T + ms


# Overwriting

ROWS = "SELECT CAST(ts AS BIGINT), a, b FROM t"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [f"INSERT INTO t VALUES ({T}, 1, 'x')", (f"INSERT INTO t VALUES ({T}, 2, 'y')", 1), (ROWS, [[T, 2, "y"]])],
            id="a later row replaces",
        ),
        pytest.param(
            [f"INSERT INTO t VALUES ({T}, 1, 'x')", f"INSERT INTO t (ts, a) VALUES ({T}, 3)", (ROWS, [[T, 3, "x"]])],
            id="columns not named keep their value",
        ),
        pytest.param(
            [
                f"INSERT INTO t VALUES ({T}, 1, 'x')",
                f"INSERT INTO t (b, ts) VALUES (NULL, {T})",
                (ROWS, [[T, 1, None]]),
            ],
            id="NULL of a later statement replaces",
        ),
        pytest.param(
            [f"INSERT INTO t (ts, b) VALUES ({T}, 'x')", (ROWS, [[T, None, "x"]])],
            id="columns not named of a new row are NULL",
        ),
        pytest.param(
            [(f"INSERT INTO t VALUES ({T}, 1, 'x') ({T}, 2, 'y')", 1), (ROWS, [[T, 2, "y"]])],
            id="within a statement the later row wins",
        ),
        pytest.param(
            [(f"INSERT INTO t VALUES ({T}, 1, 'x') ({T}, NULL, NULL)", 1), (ROWS, [[T, 1, "x"]])],
            id="within a statement NULL does not replace",
        ),
        pytest.param(
            [
                f"INSERT INTO t VALUES ({at(1)}, 1, 'x') ({at(3)}, 3, 'x')",
                (f"INSERT INTO t VALUES ({at(2)}, 20, 'y'), ({at(3)}, 30, 'y'), ({at(4)}, 40, 'y')", 3),
                (ROWS, [[at(1), 1, "x"], [at(2), 20, "y"], [at(3), 30, "y"], [at(4), 40, "y"]]),
            ],
            id="rows before, on and after those that are there",
        ),
        pytest.param(
            [
                (
                    f"INSERT INTO s1 USING st TAGS (1, 'A') VALUES ({T}, 1, 1) "
                    f"s2 USING st TAGS (2, 'B') VALUES ({T}, 2, 2)",
                    2,
                ),
                (f"INSERT INTO s1 VALUES ({T}, 10, 1) ({at(1)}, 11, 1) s2 VALUES ({T}, 20, 2)", 3),
                ("SELECT x, tbname FROM st ORDER BY x", [[10, "s1"], [11, "s1"], [20, "s2"]]),
            ],
            id="equal keys in different subtables are different rows",
        ),
        pytest.param(
            [
                f"INSERT INTO s1 USING st TAGS (1, 'A') VALUES ({T}, 1, 1)",
                f"INSERT INTO s1 USING st TAGS (9, 'Z') VALUES ({at(1)}, 2, 2)",
                ("SELECT DISTINCT g, loc FROM st", [[1, "A"]]),
            ],
            id="tags of a subtable that is there are kept",
        ),
        pytest.param(
            [
                f"INSERT INTO t VALUES ({T}, 1, 'x')",
                (f"INSERT INTO t VALUES ({at(1)}, 1, 'x') (0, 2, 'y')", "0x060B Timestamp data out of range"),
                ("SELECT COUNT(*) FROM t", [[1]]),
            ],
            id="a row out of range refuses the whole statement",
        ),
        pytest.param(
            [
                (f"INSERT INTO t VALUES ({T}, 1, 'x') nope VALUES ({T}, 1)", "0x2603 Table does not exist"),
                ("SELECT COUNT(*) FROM t", [[0]]),
            ],
            id="a wrong table refuses the whole statement",
        ),
    ],
)
def test_rows_of_equal_keys(sql, steps):
    run(sql, steps)


@pytest.mark.parametrize(
    ("precision", "last", "too_far"),
    [
        ("ms", 31556995200000, 31556995200001),
        ("us", 31556995200000000, 31556995200000001),
        ("ns", 9214646400000000000, 9214646400000000001),
    ],
)
def test_range_of_timestamps(client, precision, last, too_far):
    sql = Database(client, precision)
    per_day = {"ms": 1000, "us": 10**6, "ns": 10**9}[precision] * 86400
    now = time.time_ns() // (10**9 * 86400 // per_day)
    sql("CREATE TABLE t (ts TIMESTAMP, a INT)")
    assert sql(f"INSERT INTO t VALUES ({last}, 1)") == 1
    assert sql(f"INSERT INTO t VALUES ({too_far}, 1)") == "0x060B Timestamp data out of range"
    assert sql(f"INSERT INTO t VALUES ({now - 3649 * per_day}, 1)") == 1
    assert sql(f"INSERT INTO t VALUES ({now - 3651 * per_day}, 1)") == "0x060B Timestamp data out of range"
    assert (
        sql(f"INSERT INTO t VALUES ({now - 10 * per_day}, 1) ({-(2**63)}, 1)") == "0x060B Timestamp data out of range"
    )


def test_keep_of_a_database_is_the_oldest_that_it_takes(client):
    name = f"d{next(NUMBERS)}"
    client.sql(f"CREATE DATABASE {name} KEEP 10 DURATION 2 BUFFER 64 VGROUPS 1 PRECISION 'ms'")
    client.sql(f"CREATE TABLE {name}.t (ts TIMESTAMP, a INT)")
    assert client.sql(f"INSERT INTO {name}.t VALUES (NOW - 9d, 1)") == 1
    assert client.sql(f"INSERT INTO {name}.t VALUES (NOW - 11d, 1)") == "0x060B Timestamp data out of range"


# Literals


@pytest.mark.parametrize(
    ("type", "literal", "value"),
    [
        ("INT", "1.5", 2),
        ("INT", "2.5", 3),
        ("INT", "-1.6", -2),
        ("INT", "-2.5", -3),
        ("INT", "'7'", 7),
        ("INT", "1e2", 100),
        ("INT", "null", None),
        ("INT", "2147483648", "int data overflow"),
        ("INT", "-2147483649", "int data overflow"),
        ("INT", "'7x'", "invalid int data"),
        ("TINYINT", "-128", -128),
        ("TINYINT", "128", "tinyint data overflow"),
        ("SMALLINT", "32767", 32767),
        ("BIGINT", "9223372036854775807", 2**63 - 1),
        ("BIGINT", "-9223372036854775808", -(2**63)),
        ("BIGINT", "9223372036854775808", "invalid bigint data"),
        ("TINYINT UNSIGNED", "255", 255),
        ("SMALLINT UNSIGNED", "65535", 65535),
        ("INT UNSIGNED", "4294967295", 4294967295),
        ("INT UNSIGNED", "-1", "invalid unsigned int data"),
        ("BIGINT UNSIGNED", "18446744073709551615", 2**64 - 1),
        ("FLOAT", "'1.5'", 1.5),
        ("FLOAT", "0.1", 0.10000000149011612),
        ("FLOAT", "1e39", "illegal float data"),
        ("DOUBLE", "-1.0e300", -1e300),
        ("DOUBLE", "7", 7.0),
        ("BOOL", "true", True),
        ("BOOL", "'true'", True),
        ("BOOL", "FALSE", False),
        ("BOOL", "2", True),
        ("BOOL", "0", False),
        ("BOOL", "-0.5", True),
        ("NCHAR(10)", "'it''s'", "it's"),
        ("NCHAR(10)", r"'it\'s'", "it's"),
        ("NCHAR(10)", '"dq"', "dq"),
        ("NCHAR(10)", r"'a\nb'", "a\nb"),
        ("NCHAR(10)", "' a  b '", " a  b "),
        ("NCHAR(10)", "'NULL'", "NULL"),
        ("NCHAR(10)", "NULL", None),
        ("NCHAR(10)", "''", ""),
        ("NCHAR(4)", "'日本株だ'", "日本株だ"),
        ("NCHAR(4)", "'\U0001f600234'", "\U0001f600234"),
        ("NCHAR(4)", "'12345'", "Value too long for column/tag: x"),
        ("VARCHAR(4)", "'éé'", "éé"),
        ("VARCHAR(4)", "'ééa'", "Value too long for column/tag: x"),
        ("BINARY(4)", "'abcd'", "abcd"),
    ],
)
def test_literals_are_converted_to_the_column(sql, type, literal, value):
    sql(f"CREATE TABLE l (ts TIMESTAMP, x {type})")
    found = sql(f"INSERT INTO l VALUES ({T}, {literal})")
    if isinstance(value, str) and isinstance(found, str):
        assert value in found
        assert found[:6] == ("0x2653" if "too long" in value else "0x0216")
        assert sql("SELECT x FROM l") == []
    else:
        assert found == 1
        assert sql("SELECT x FROM l") == [[value]]


@pytest.mark.parametrize(
    ("literal", "ms"),
    [
        (f"'{OLD}'", 0),
        (f"'{OLD}.001'", 1),
        (f"'{OLD}.0019999'", 1),
        (f"'{OLD}.5'", 500),
        ("'2026-11-23T05:28:10.002'", 2),
        ("'2026-11-23T05:28:10Z'", 0),
        ("'2026-11-23T05:28:10.003Z'", 3),
        ("'2026-11-23 06:28:10+01:00'", 0),
        ("'2026-11-23T06:28:10.004+01:00'", 4),
        ("'2026-11-23'", -(5 * 3600 + 28 * 60 + 10) * 1000),
        (str(at(7)), 7),
    ],
)
def test_timestamps_as_literals(sql, literal, ms):
    assert sql(f"INSERT INTO t VALUES ({literal}, 1, 'x')") == 1
    assert sql("SELECT CAST(ts AS BIGINT) FROM t") == [[at(ms)]]
    for condition in (
        f"ts = {literal}",
        f"{literal} = ts",
        f"ts >= {literal}",
        f"ts IN ({literal})",
        f"ts <= {literal}",
    ):
        assert sql(f"SELECT a FROM t WHERE {condition}") == [[1]], condition
    for condition in (f"ts <> {literal}", f"ts != {literal}", f"ts > {literal}", f"{literal} > ts"):
        assert sql(f"SELECT a FROM t WHERE {condition}") == [], condition
    assert sql(f"SELECT a FROM t WHERE ts BETWEEN {literal} AND {literal}") == [[1]]


@pytest.mark.parametrize(
    "text", [f"{OLD}.001 +00:00", "", "yesterday", "2026-13-45", f"{OLD} Z", "2026-11-23 25:00:00"]
)
def test_refused_timestamps(sql, text):
    assert sql(f"SELECT a FROM t WHERE ts >= '{text}'") == "0x0127 Invalid timestamp format"
    assert sql(f"INSERT INTO t VALUES ('{text}', 1, 'x')") == f"0x0216 syntax error near '{text}' (invalid timestamp)"


def test_a_text_of_digits_is_a_timestamp_in_values_only(sql):
    assert sql(f"INSERT INTO t VALUES ('{at(5)}', 1, 'x')") == 1
    assert sql("SELECT CAST(ts AS BIGINT) FROM t") == [[at(5)]]
    assert sql(f"SELECT a FROM t WHERE ts = '{at(5)}'") == "0x0127 Invalid timestamp format"


@pytest.mark.parametrize(("precision", "digits"), [("ms", 3), ("us", 6), ("ns", 9)])
def test_precision_of_texts_and_of_what_is_shown(client, precision, digits):
    sql = Database(client, precision)
    sql("CREATE TABLE t (ts TIMESTAMP, a INT)")
    sql(f"INSERT INTO t VALUES ('{OLD}.123456789999', 1)")
    stamp = T // 1000 * 10**digits + int("123456789"[:digits])
    assert sql("SELECT ts, CAST(ts AS BIGINT) FROM t") == [[f"{OLD}.{'123456789'[:digits]} +00:00", stamp]]
    assert sql(f"SELECT a FROM t WHERE ts = {stamp}") == [[1]]
    assert sql("SELECT `precision` FROM information_schema.ins_databases WHERE name = '" + sql.name + "'") == [
        [precision]
    ]
    assert sql("SELECT a FROM t WHERE ts >= 1000") == [[1]]


def test_milliseconds_are_too_old_for_a_database_of_nanoseconds(client):
    sql = Database(client, "ns")
    sql("CREATE TABLE t (ts TIMESTAMP, a INT)")
    assert sql(f"INSERT INTO t VALUES ({T}, 1)") == "0x060B Timestamp data out of range"


# NOW and durations


@pytest.mark.parametrize("now", ["NOW", "now", "NOW()", "Now ( )"])
def test_now_in_values_and_conditions(sql, now):
    assert sql(f"INSERT INTO t VALUES ({now} - 5s, 1, 'old') ({now}, 2, 'new')") == 2
    assert sql(f"SELECT b FROM t WHERE ts >= {now} - 1s") == [["new"]]
    assert sql(f"SELECT b FROM t WHERE ts < {now} - 4s AND ts > {now}-6s") == [["old"]]
    assert sql(f"SELECT COUNT(*) FROM t WHERE {now} - 1m < ts") == [[2]]
    ((stamp,),) = sql(f"SELECT CAST({now} AS BIGINT)")
    assert abs(stamp - time.time() * 1000) < 10_000


def test_rows_from_the_future_match_too(sql):
    sql("INSERT INTO t VALUES (NOW + 1h, 1, 'x')")
    assert sql("SELECT a FROM t WHERE ts >= NOW() - 1s") == [[1]]


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        ("1000000000b", 1000),
        ("1000000u", 1000),
        ("1000a", 1000),
        ("1s", 1000),
        ("1S", 1000),
        ("1m", 60_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("1w", 7 * 86_400_000),
        ("1s - 1s", 2000),
        ("1s + 1s", 0),
        ("500", 500),
        ("999u", 0),
        ("999999b", 0),
        ("1n", 31 * 86_400_000),
        ("1y", 365 * 86_400_000),
    ],
)
def test_durations(sql, duration, ms):
    sql(f"INSERT INTO t VALUES ({T}, 1, 'x')")
    assert sql(f"SELECT a FROM t WHERE ts = '{OLD}'") == [[1]]
    if duration[-1] in "ny":
        (((now, shifted),),) = (sql(f"SELECT CAST(NOW() AS BIGINT), CAST(NOW() - {duration} AS BIGINT)"),)
        assert abs(now - shifted - ms) <= 3 * 86_400_000
        return
    now, shifted = sql(f"SELECT CAST(NOW() AS BIGINT), CAST(NOW() - {duration} AS BIGINT)")[0]
    assert now - shifted == ms
    assert sql(f"SELECT CAST(ts - {duration} AS BIGINT) FROM t") == [[T - ms]]
    assert sql(f"SELECT a FROM t WHERE ts - {duration} = {T - ms}") == [[1]]


def test_today_is_midnight(sql):
    ((midnight, before),) = sql("SELECT CAST(TODAY() AS BIGINT), CAST(TODAY() - 1d AS BIGINT)")
    assert midnight % 86_400_000 == 0
    assert midnight - before == 86_400_000
    assert 0 <= time.time() * 1000 - midnight < 2 * 86_400_000


@pytest.mark.parametrize(
    ("text", "error"),
    [("SELECT NOW() - '1s'", "0x0200 Invalid operation"), ("SELECT a FROM t WHERE ts > NOW() - 1.5s", "0x2600")],
)
def test_refused_durations(sql, text, error):
    assert sql(text).startswith(error)


def test_now_has_the_database_s_precision(client):
    sql = Database(client, "ns")
    sql("CREATE TABLE t (ts TIMESTAMP, a INT)")
    assert sql("INSERT INTO t VALUES (NOW(), 1)") == 1
    ((stamp, now),) = sql("SELECT CAST(ts AS BIGINT), CAST(NOW() AS BIGINT) FROM t WHERE ts >= NOW() - 10s")
    assert abs(stamp - time.time_ns()) < 10 * 10**9
    assert now >= stamp


def test_the_connection_s_time_zone(stand_in, client):
    client.call(f"z = taosws.connect(f'ws://root:taosdata@localhost:{stand_in.port}?timezone=Asia/Tokyo')")
    name = f"d{next(NUMBERS)}"
    client.sql(f"CREATE DATABASE {name}", "z")
    client.sql(f"CREATE TABLE {name}.t (ts TIMESTAMP, a INT)", "z")
    assert client.sql(f"INSERT INTO {name}.t VALUES ('2026-11-23 14:28:10', 1)", "z") == 1
    assert client.sql(f"SELECT CAST(ts AS BIGINT) FROM {name}.t WHERE ts = '2026-11-23 14:28:10'", "z") == [[T]]
    assert client.sql(f"SELECT ts FROM {name}.t", "z") == [["2026-11-23 14:28:10 JST"]]
    ((midnight,),) = client.sql("SELECT CAST(TODAY() AS BIGINT)", "z")
    assert (midnight + 9 * 3_600_000) % 86_400_000 == 0


# Names

NAMES = "[f.name() for f in c.query({!r}).fields]"


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ("TS, `a`, t.b", ["ts", "a", "b"]),
        ("COUNT(*)", ["count(*)"]),
        ("max( A )", ["max( a )"]),
        ("CAST(`ts` AS BIGINT)", ["cast(`ts` as bigint)"]),
        ("a  +  1", ["a  +  1"]),
        ("'Lit', 1, NULL", ["'Lit'", "1", "null"]),
        ("a AS Y, a z, a AS `Q r`, COUNT", "0x2602 Invalid column name: count"),
        ("a AS Y, a z, a AS `Q r`", ["y", "z", "Q r"]),
        ("a AS " + "x" * 70, ["x" * 64]),
        ("LAST_ROW(*)", ["last_row(ts)", "last_row(a)", "last_row(b)"]),
        ("Last(*)", ["last(ts)", "last(a)", "last(b)"]),
        ("FIRST(*)", ["first(ts)", "first(a)", "first(b)"]),
        ("tbname, TBNAME", ["tbname", "tbname"]),
        ("a 'x'", "0x2600"),
    ],
)
def test_names_of_result_columns(sql, items, names):
    sql(f"INSERT INTO t VALUES ({T}, 1, 'x')")
    text = f"SELECT {items} FROM t"
    if isinstance(names, list):
        assert sql.call(NAMES.format(text)) == names
    else:
        assert sql(text).startswith(names)


@pytest.mark.parametrize(
    ("items", "kinds"),
    [
        ("COUNT(*), SUM(a), AVG(a)", ["BIGINT", "BIGINT", "DOUBLE"]),
        ("MAX(a), MIN(a), FIRST(b), LAST(b)", ["INT", "INT", "NCHAR", "NCHAR"]),
        ("a + 1, ts + 1s, 7", ["DOUBLE", "TIMESTAMP", "BIGINT"]),
        ("CAST(ts AS BIGINT), tbname", ["BIGINT", "BINARY"]),
    ],
)
def test_types_of_result_columns(sql, items, kinds):
    sql(f"INSERT INTO t VALUES ({T}, 1, 'x')")
    assert sql.call(f"[f.type() for f in c.query('SELECT {items} FROM t').fields]") == kinds


def test_names_are_folded_and_back_quoted_ones_are_kept(sql):
    run(
        sql,
        [
            "CREATE TABLE T1 (TS TIMESTAMP, `Bc` INT, `order` INT)",
            f"INSERT INTO t1 VALUES ({T}, 1, 2)",
            ("SELECT `Bc`, `order` FROM T1", [[1, 2]]),
            ("SELECT Bc FROM t1", "0x2602 Invalid column name: bc"),
            ("SELECT a FROM `T1`", "0x2603 Fail to get table info, error: Table does not exist"),
            "CREATE TABLE `S1` (ts TIMESTAMP, a INT)",
            ("SELECT a FROM s1", "0x2603 Fail to get table info, error: Table does not exist"),
            ("SELECT a FROM `S1`", []),
            (f"SELECT t.a, x.a FROM {sql.name}.t x", "0x2603 Table does not exist"),
            (f"SELECT x.a FROM {sql.name}.t x", []),
        ],
    )
    assert sql(f"SELECT {sql.name}.t.a FROM t").startswith("0x2600")


@pytest.mark.parametrize("name", ["timestamp", "table", "select", "tags"])
def test_words_that_need_back_quotes(sql, name):
    assert sql(f"CREATE TABLE w (ts TIMESTAMP, {name} INT)").startswith(f'0x2600 syntax error near "{name} int)"')
    assert sql(f"CREATE TABLE w (ts TIMESTAMP, `{name}` INT)") == 0
    assert sql(f"SELECT `{name}` FROM w") == []


def test_words_that_need_none(sql):
    names = "open close high low volume date current phase client ticker location voltage".split()
    assert sql(f"CREATE TABLE w (ts TIMESTAMP, {', '.join(name + ' INT' for name in names)})") == 0
    assert sql(f"SELECT {', '.join(names)} FROM w WHERE {names[0]} > 1") == []


# Queries


@pytest.fixture
def rows(sql):
    """t with six rows, some of them NULL; st with two subtables."""
    values = [(1, "'b'"), (None, "'a'"), (3, None), (2, "'B'"), (3, "'c'"), (None, None)]
    values = " ".join(f"({at(k)}, {'NULL' if a is None else a}, {b or 'NULL'})" for k, (a, b) in enumerate(values))
    sql(f"INSERT INTO t VALUES {values}")
    sql(
        f"INSERT INTO s1 USING st TAGS (1, 'A') VALUES ({T}, 1, 0.5) ({at(1)}, 2, 1.5) ({at(1000)}, NULL, 2.5) "
        f"s2 USING st TAGS (2, NULL) VALUES ({T}, 10, 10) ({at(2000)}, 20, NULL)"
    )
    return sql


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("SELECT a FROM t", [[1], [None], [3], [2], [3], [None]]),
        ("SELECT a, b FROM t ORDER BY ts DESC LIMIT 2", [[None, None], [3, "c"]]),
        ("SELECT a FROM t ORDER BY a, ts", [[None], [None], [1], [2], [3], [3]]),
        ("SELECT a FROM t ORDER BY a DESC, ts", [[3], [3], [2], [1], [None], [None]]),
        ("SELECT b FROM t WHERE b IS NOT NULL ORDER BY b", [["B"], ["a"], ["b"], ["c"]]),
        ("SELECT a FROM t LIMIT 2 OFFSET 1", [[None], [3]]),
        ("SELECT a FROM t LIMIT 1, 2", [[None], [3]]),
        ("SELECT a FROM t LIMIT 0", []),
        ("SELECT a FROM t LIMIT 2 OFFSET 100", []),
        ("SELECT a FROM t WHERE a <> 3", [[1], [2]]),
        ("SELECT a FROM t WHERE a != 3 AND a > 1", [[2]]),
        ("SELECT b FROM t WHERE a IS NULL", [["a"], [None]]),
        ("SELECT b FROM t WHERE a IS NULL AND b IS NOT NULL", [["a"]]),
        ("SELECT a FROM t WHERE b <> 'x'", [[1], [None], [2], [3]]),
        ("SELECT a FROM t WHERE b = 'b'", [[1]]),
        ("SELECT a FROM t WHERE a IN (1, 2)", [[1], [2]]),
        ("SELECT a FROM t WHERE a NOT IN (1, 2)", [[3], [3]]),
        ("SELECT a FROM t WHERE b IN ('b', 'c')", [[1], [3]]),
        ("SELECT a FROM t WHERE a BETWEEN 2 AND 3", [[3], [2], [3]]),
        ("SELECT a FROM t WHERE a NOT BETWEEN 2 AND 3", [[1]]),
        ("SELECT b FROM t WHERE b LIKE 'b%'", [["b"], ["B"]]),
        ("SELECT b FROM t WHERE b LIKE '%\\_'", []),
        ("SELECT b FROM t WHERE b LIKE '_'", [["b"], ["a"], ["B"], ["c"]]),
        ("SELECT b FROM t WHERE b NOT LIKE 'b'", [["a"], ["c"]]),
        ("SELECT a FROM t WHERE a = 1 OR b = 'c'", [[1], [3]]),
        ("SELECT a FROM t WHERE NOT a = 3", [[1], [2]]),
        ("SELECT a FROM t WHERE (a = 1 OR a = 2) AND b = 'B'", [[2]]),
        ("SELECT a FROM t WHERE a = NULL", []),
        ("SELECT a + 1, a * 2, a - 1, a / 2, -a FROM t WHERE a = 3 LIMIT 1", [[4.0, 6.0, 2.0, 1.5, -3.0]]),
        ("SELECT a FROM t WHERE a + 1 = 3", [[2]]),
        ("SELECT a FROM t WHERE a > 2.5", [[3], [3]]),
        ("SELECT a FROM t WHERE a >= '3'", [[3], [3]]),
        ("SELECT 1, 'x', NULL", [[1, "x", None]]),
        ("SELECT a, 1, 'x' FROM t LIMIT 1", [[1, 1, "x"]]),
        ("SELECT DISTINCT a FROM t WHERE a > 2", [[3]]),
        ("SELECT tbname FROM t LIMIT 1", [["t"]]),
        ("SELECT a FROM t LIMIT 1; nonsense", [[1]]),
        ("select A from T where TS <= '2026-11-23 05:28:10';", [[1]]),
        ("SELECT a /* a comment */ FROM t -- another\n LIMIT 1", [[1]]),
        # Aggregates
        ("SELECT COUNT(*), COUNT(a), COUNT(b), SUM(a), MIN(a), MAX(a) FROM t", [[6, 4, 4, 9, 1, 3]]),
        ("SELECT AVG(a) FROM t", [[2.25]]),
        ("SELECT MIN(b), MAX(b) FROM t", [["B", "c"]]),
        ("SELECT FIRST(a), LAST(a), FIRST(b), LAST(b) FROM t", [[1, 3, "b", "c"]]),
        ("SELECT LAST_ROW(a), LAST_ROW(b) FROM t", [[None, None]]),
        ("SELECT LAST_ROW(*) FROM t", [["2026-11-23 05:28:10.005 +00:00", None, None]]),
        ("SELECT LAST(*) FROM t", [["2026-11-23 05:28:10.005 +00:00", 3, "c"]]),
        ("SELECT FIRST(*) FROM t", [["2026-11-23 05:28:10 +00:00", 1, "b"]]),
        ("SELECT COUNT(*), MAX(a) FROM t WHERE a > 100", [[0, None]]),
        ("SELECT COUNT(*) FROM t WHERE a > 100", [[0]]),
        ("SELECT MAX(a) FROM t WHERE a > 100", []),
        ("SELECT LAST_ROW(*) FROM t WHERE a > 100", []),
        ("SELECT LAST(ts) FROM t WHERE a = 2", [["2026-11-23 05:28:10.003 +00:00"]]),
        ("SELECT MAX(a) - MIN(a) FROM t", [[2.0]]),
        ("SELECT SUM(a + 1) FROM t", [[13.0]]),
        ("SELECT a, COUNT(*) FROM t GROUP BY a ORDER BY a", [[None, 2], [1, 1], [2, 1], [3, 2]]),
        ("SELECT COUNT(*) c, a FROM t GROUP BY a ORDER BY c DESC, a LIMIT 2", [[2, None], [2, 3]]),
        ("SELECT a FROM t GROUP BY a ORDER BY a", [[None], [1], [2], [3]]),
        ("SELECT COUNT(*) FROM t WHERE a > 100 GROUP BY a", []),
        ("SELECT _wstart, COUNT(*) FROM t INTERVAL(1s)", [["2026-11-23 05:28:10 +00:00", 6]]),
        (
            "SELECT CAST(_wstart AS BIGINT), COUNT(*), AVG(a) FROM t INTERVAL(2a)",
            [[T, 2, 1.0], [at(2), 2, 2.5], [at(4), 2, 3.0]],
        ),
        (
            f"SELECT CAST(_wstart AS BIGINT), CAST(_wend AS BIGINT), COUNT(*) FROM t WHERE ts >= {at(2)} INTERVAL(2a)",
            [[at(2), at(4), 2], [at(4), at(6), 2]],
        ),
        # Supertables
        (
            "SELECT * FROM st ORDER BY ts, x LIMIT 2",
            [[OLD + " +00:00", 1, 0.5, 1, "A"], [OLD + " +00:00", 10, 10.0, 2, None]],
        ),
        ("SELECT * FROM s1 LIMIT 1", [[OLD + " +00:00", 1, 0.5]]),
        ("SELECT x, g, loc, tbname FROM s2", [[10, 2, None, "s2"], [20, 2, None, "s2"]]),
        ("SELECT x FROM s1 WHERE g = 1", [[1], [2], [None]]),
        ("SELECT x FROM s1 WHERE g = 2", []),
        ("SELECT x FROM st WHERE tbname = 's2' ORDER BY ts", [[10], [20]]),
        ("SELECT x FROM st WHERE g IN (1) ORDER BY ts", [[1], [2], [None]]),
        ("SELECT COUNT(*), SUM(x) FROM st", [[5, 33]]),
        ("SELECT COUNT(*) FROM s2", [[2]]),
        ("SELECT g, COUNT(*), AVG(x), MAX(f) FROM st GROUP BY g ORDER BY g", [[1, 3, 1.5, 2.5], [2, 2, 15.0, 10.0]]),
        ("SELECT loc, COUNT(*), AVG(x) FROM st GROUP BY loc ORDER BY loc", [[None, 2, 15.0], ["A", 3, 1.5]]),
        ("SELECT tbname, LAST_ROW(x) FROM st GROUP BY tbname ORDER BY tbname", [["s1", None], ["s2", 20]]),
        ("SELECT tbname, LAST(x), FIRST(x) FROM st GROUP BY tbname ORDER BY tbname", [["s1", 2, 1], ["s2", 20, 10]]),
        ("SELECT DISTINCT tbname, g FROM st ORDER BY g", [["s1", 1], ["s2", 2]]),
        (
            "SELECT _wstart, COUNT(*) FROM st INTERVAL(1s)",
            [[f"2026-11-23 05:28:{10 + k} +00:00", n] for k, n in ((0, 3), (1, 1), (2, 1))],
        ),
        (
            "SELECT _wstart, tbname, SUM(x) FROM st WHERE x > 1 PARTITION BY tbname INTERVAL(1h) ORDER BY tbname",
            [["2026-11-23 05:00:00 +00:00", "s1", 2], ["2026-11-23 05:00:00 +00:00", "s2", 30]],
        ),
        (
            "SELECT LAST_ROW(*), tbname FROM st GROUP BY tbname ORDER BY tbname",
            [["2026-11-23 05:28:11 +00:00", None, 2.5, "s1"], ["2026-11-23 05:28:12 +00:00", 20, None, "s2"]],
        ),
        ("SELECT LAST_ROW(ts) FROM st", [["2026-11-23 05:28:12 +00:00"]]),
        ("SELECT SUM(x) FROM st WHERE loc = 'A' AND ts < '2026-11-23 05:28:11'", [[3]]),
    ],
)
def test_queries(rows, text, result):
    assert rows(text) == result


def test_distinct_tags_are_those_of_subtables_without_rows_too(rows):
    rows("CREATE TABLE s3 USING st TAGS (3, 'C')")
    assert rows("SELECT DISTINCT tbname, g FROM st ORDER BY g") == [["s1", 1], ["s2", 2], ["s3", 3]]
    assert rows("SELECT DISTINCT loc FROM st WHERE g > 1 ORDER BY loc") == [[None], ["C"]]
    assert rows("SELECT DISTINCT tbname FROM st WHERE x > 5") == [["s2"]]
    assert rows("SELECT tbname FROM s3") == []
    assert len(rows("SELECT tbname FROM st")) == 5


def test_groups_are_not_cut_by_a_limit_without_order(rows):
    assert len(rows("SELECT a, COUNT(*) FROM t GROUP BY a LIMIT 1")) == 4


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT a, COUNT(*) FROM t", "0x260C Not a single-group group function"),
        ("SELECT MAX(ts) FROM t", "0x2802 Invalid parameter data type : max"),
        ("SELECT SUM(b) FROM t", "0x2802 Invalid parameter data type : sum"),
        ("SELECT nope(a) FROM t", "0x0374 Func not exists"),
        ("SELECT a FROM t LIMIT -1", '0x2600 syntax error near "-1"'),
        ("SELECT a FROM t WHERE", "0x2601 Incomplete SQL statement"),
        ("SELECT", "0x2601 Incomplete SQL statement"),
        ("-- nothing", "0x2601 Incomplete SQL statement"),
        ("/* nothing */", "0x2601 Incomplete SQL statement"),
        ("", "0xFFFF message length is too short"),
        ("SELEC 1", '0x2600 syntax error near "selec 1"'),
        ("SELECT A, B C D FROM t", '0x2600 syntax error near "d from t"'),
        ("SELECT nope FROM t", "0x2602 Invalid column name: nope"),
        ("SELECT a FROM t WHERE nope > 1", "0x2602 Invalid column name: nope"),
        ("SELECT a FROM t ORDER BY nope", "0x2602 Invalid column name: nope"),
        ("SELECT g FROM t", "0x2602 Invalid column name: g"),
        ("INSERT INTO t (ts, nope) VALUES (1, 1)", "0x2602 Invalid column name: nope"),
        ("INSERT INTO t (a, b) VALUES (1, 'x')", "0x0200 Primary timestamp column should not be null"),
        (f"INSERT INTO t VALUES ({T}, 1)", "0x0216 syntax error near ')' (, expected)"),
        ("INSERT INTO t VALUES (?, ?, ?)", "0x0216 syntax error near '?, ?, ?)' (? only used in stmt)"),
        ("INSERT INTO nope VALUES (1, 1)", "0x2603 Table does not exist"),
        ("CREATE DATABASE x PRECISION 'xx'", "0x2619 Invalid option precision: xx"),
        ("CREATE TABLE n (ts TIMESTAMP, a INT, A INT)", "0x263C Duplicated column names"),
        ("CREATE TABLE n (ts TIMESTAMP)", "0x263F Illegal number of columns"),
        ("CREATE TABLE n (a INT, ts TIMESTAMP)", "0x2641 First column must be timestamp"),
        ("CREATE TABLE n USING st TAGS (1)", "0x260D Tags number not matched"),
        (f"INSERT INTO n USING st TAGS (1) VALUES ({T}, 1, 1)", "0x260D Tags number not matched"),
        (
            f"INSERT INTO n USING st TAGS (1, '123456789') VALUES ({T}, 1, 1)",
            "0x2653 Value too long for column/tag: loc",
        ),
        ("USE nope", "0x0388 Database not exist"),
        ("SHOW TABLES FROM x", "0x2600"),
    ],
)
def test_errors(rows, text, error):
    assert rows(text).startswith(error)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM t UNION SELECT a FROM t",
        "SELECT a FROM (SELECT a FROM t)",
        "SELECT t.a FROM t JOIN t x ON t.ts = x.ts",
        "SELECT a FROM t, s1",
        "SELECT STDDEV(a) FROM t",
        "SELECT ABS(a) FROM t",
        "SELECT a, MAX(a) FROM t",
        "SELECT CASE WHEN a = 1 THEN 2 END FROM t",
        "SELECT COUNT(*) FROM t SESSION(ts, 1s)",
        "SELECT COUNT(*) FROM t STATE_WINDOW(a)",
        "SELECT COUNT(*) FROM t INTERVAL(1s) FILL(NULL)",
        "SELECT COUNT(*) FROM t INTERVAL(1n)",
        "SELECT COUNT(*) FROM t INTERVAL(1w)",
        "SELECT COUNT(*) FROM t INTERVAL(1s) SLIDING(500a)",
        "SELECT COUNT(*) FROM t GROUP BY a HAVING COUNT(*) > 1",
        "SELECT a FROM t WHERE b MATCH 'x'",
        "SELECT a FROM st PARTITION BY tbname",
        "SELECT a FROM t SLIMIT 1",
        "SELECT CAST(a AS VARCHAR(3)) FROM t",
        "SELECT * FROM information_schema.ins_databases",
        "SELECT * FROM performance_schema.perf_apps",
        "ALTER TABLE t ADD COLUMN c INT",
        "ALTER DATABASE x KEEP 10",
        "CREATE USER u PASS 'p'",
        "GRANT ALL ON x TO u",
        "EXPLAIN SELECT a FROM t",
        "SHOW CREATE TABLE t",
        "SHOW DNODES",
        "DROP TABLE t, s1",
        "CREATE TABLE j (ts TIMESTAMP, a DECIMAL(10, 2))",
        "CREATE TABLE j (ts TIMESTAMP, a VARCHAR)",
        "CREATE TABLE j (ts TIMESTAMP, a INT PRIMARY KEY)",
        "CREATE DATABASE j COMP 2",
        "INSERT INTO t FILE 'x.csv'",
        "TRIM DATABASE x",
    ],
)
def test_sql_outside_the_part_is_refused_by_name(rows, text):
    found = rows(text)
    assert found.startswith("0x2600 syntax error near ")
    assert "stand-in" in found


# Databases and tables


def test_databases_and_tables_made_and_dropped(sql):
    name = f"d{next(NUMBERS)}"
    run(
        sql,
        [
            (f"DROP DATABASE {name}", "0x0388 Database not exist"),
            (f"DROP DATABASE IF EXISTS {name}", 0),
            (f"CREATE DATABASE {name.upper()} PRECISION 'us'", 0),
            (f"CREATE DATABASE {name}", "0x0381 Database already exists"),
            (f"CREATE DATABASE IF NOT EXISTS {name} PRECISION 'ns'", 0),
            (f"SELECT `precision` FROM information_schema.ins_databases WHERE name = '{name}'", [["us"]]),
            (f"CREATE TABLE {name}.t (ts TIMESTAMP, a INT)", 0),
            (f"CREATE TABLE {name}.t (ts TIMESTAMP, a INT)", "0x0603 Table already exists"),
            (f"CREATE TABLE IF NOT EXISTS {name}.t (ts TIMESTAMP, other INT)", 0),
            (f"SELECT a FROM {name}.t", []),
            (f"DROP STABLE {name}.t", "0x0362 STable not exist"),
            (f"CREATE TABLE {name}.m (ts TIMESTAMP, a INT) TAGS (g INT)", 0),
            (f"CREATE STABLE {name}.m (ts TIMESTAMP, a INT) TAGS (g INT)", "0x0360 STable already exists"),
            (f"CREATE STABLE IF NOT EXISTS {name}.m (ts TIMESTAMP, a INT) TAGS (g INT)", 0),
            (f"CREATE TABLE {name}.m1 USING {name}.m TAGS (1)", 0),
            (f"CREATE TABLE {name}.m1 USING {name}.m TAGS (1)", "0x0603 Table already exists"),
            (f"CREATE TABLE IF NOT EXISTS {name}.m1 USING {name}.m TAGS (2)", 0),
            (f"INSERT INTO {name}.m1 VALUES ({T}000, 7)", 1),
            (f"INSERT INTO {name}.m2 USING {name}.m (g) TAGS (2) VALUES ({T}000, 8)", 1),
            (f"SELECT a, g FROM {name}.m ORDER BY a", [[7, 1], [8, 2]]),
            (f"DROP TABLE {name}.m1", 0),
            (f"SELECT a, g FROM {name}.m ORDER BY a", [[8, 2]]),
            (f"SELECT a FROM {name}.m1", "0x2603 Fail to get table info, error: Table does not exist"),
            (f"DROP TABLE {name}.m", 0),
            (f"SELECT a FROM {name}.m2", "0x2603 Fail to get table info, error: Table does not exist"),
            (f"DROP TABLE {name}.m", "0x2603 Table does not exist"),
            (f"DROP STABLE {name}.m", "0x0362 STable not exist"),
            (f"DROP STABLE IF EXISTS {name}.m", 0),
            (f"DROP TABLE IF EXISTS {name}.m", 0),
            (f"DROP DATABASE {name}", 0),
            (f"SELECT a FROM {name}.t", "0x0388 Fail to get table info, error: Database not exist"),
        ],
    )


def test_the_current_database(client):
    client.call("own = taosws.connect(DSN)")
    one, two = f"d{next(NUMBERS)}", f"d{next(NUMBERS)}"
    for text, wanted in [
        ("SELECT DATABASE()", [[None]]),
        (f"CREATE DATABASE {one}", 0),
        ("SELECT a FROM t", "0x2616 Database not specified"),
        ("CREATE TABLE t (ts TIMESTAMP, a INT)", "0x2616 Database not specified"),
        ("DROP TABLE t", "0x2616 Database not specified"),
        (f"INSERT INTO t VALUES ({T}, 1)", "0x0200 db is not specified"),
        ("SHOW TABLES", '0x2600 syntax error near "database not specified"'),
        (f"USE {one.upper()}", 0),
        ("SELECT DATABASE()", [[one]]),
        (f"USE {two}", "0x0388 Database not exist"),
        ("SELECT DATABASE()", [[one]]),
        ("CREATE TABLE t (ts TIMESTAMP, a INT)", 0),
        (f"DROP DATABASE {one}", 0),
        ("SELECT DATABASE()", [[one]]),
        ("SELECT a FROM t", "0x0388 Fail to get table info, error: Database not exist"),
        (f"CREATE DATABASE {one}", 0),
        ("CREATE TABLE t (ts TIMESTAMP, a INT)", 0),
        (f"INSERT INTO t VALUES ({T}, 1)", 1),
    ]:
        assert client.sql(text, "own") == wanted, text


def test_show_and_describe(rows):
    assert rows("SHOW DATABASES")[:2] == [["information_schema"], ["performance_schema"]]
    assert [rows.name] in rows("SHOW DATABASES")
    assert sorted(rows("SHOW TABLES")) == [["s1"], ["s2"], ["t"]]
    assert rows("SHOW STABLES") == [["st"]]
    assert [row[:4] for row in rows("DESCRIBE st")] == [
        ["ts", "TIMESTAMP", 8, ""],
        ["x", "INT", 4, ""],
        ["f", "FLOAT", 4, ""],
        ["g", "INT", 4, "TAG"],
        ["loc", "VARCHAR", 8, "TAG"],
    ]
    assert rows("DESCRIBE nope") == "0x2603 Table does not exist"
    assert rows.call("[f.name() for f in c.query('DESCRIBE t').fields]") == [
        *("field", "type", "length", "note", "encode", "compress", "level")
    ]


def test_rows_deleted_by_time(rows):
    assert rows(f"DELETE FROM t WHERE ts >= {at(4)}") == 2
    assert rows("SELECT a FROM t") == [[1], [None], [3], [2]]
    assert rows(f"INSERT INTO t VALUES ({at(4)}, 9, 'n')") == 1
    assert rows(f"DELETE FROM s1 WHERE ts < {at(1000)}") == 2
    assert rows("SELECT COUNT(*) FROM st") == [[3]]
    assert rows("DELETE FROM st") == 3
    assert rows("DELETE FROM t WHERE a = 1").startswith("0x2654")
    assert rows("SELECT COUNT(*) FROM t") == [[5]]


def test_it_names_itself_a_stand_in(sql):
    ((version,),) = sql("SELECT SERVER_VERSION()")
    assert "stand-in" in version


def test_connections_that_make_the_same_subtables_at_once(rows, stand_in):
    def insert(number):
        with raw(stand_in.port) as connection:
            for k in range(30):
                into = f"{rows.name}.n{k % 10} USING {rows.name}.st TAGS ({k % 10}, 'N')"
                values = f"({at(1000 * number + k)}, 1, 1)"
                replies.append(connection.query(f"INSERT INTO {into} VALUES {values}")["affected_rows"])

    replies = []
    threads = [threading.Thread(target=insert, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert replies == [1] * 120
    assert rows("SELECT COUNT(*) FROM st WHERE loc = 'N'") == [[120]]
    assert len(rows("SELECT DISTINCT tbname, g FROM st WHERE loc = 'N'")) == 10
