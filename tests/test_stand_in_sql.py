"""The stand-in's SQL through the real client: types, keys, names, the shapes our scripts send, and what it refuses."""

import itertools
import re
import threading
import time

import pytest
from stand_in import raw

NUMBERS = itertools.count()
OLD = "2026-11-23 05:28:10"  # T as a text
S = 10**9


class Database:
    """SQL in a database of its own, the connection's current one."""

    def __init__(self, client, options="PRECISION 'ns'"):
        self.client, self.name = client, f"d{next(NUMBERS)}"
        assert client.sql(f"CREATE DATABASE IF NOT EXISTS `{self.name}` {options}") == 0
        assert client.sql(f"USE {self.name}") == 0

    def __call__(self, text):
        return self.client.sql(text)

    def names(self, text):
        return self.client.call(f"[(f.name(), f.type()) for f in c.query({text!r}).fields]")


@pytest.fixture
def sql(client):
    """An empty database of nanoseconds."""
    return Database(client)


@pytest.fixture
def rows(sql):
    """t with three seconds of rows, st with two subtables; N is the time of the first row."""
    sql.n = n = time.time_ns() // (3600 * S) * 3600 * S
    sql("CREATE TABLE t (ts TIMESTAMP, a INT, b NCHAR(4), v VARCHAR(8))")
    sql(
        f"INSERT INTO t VALUES ({n}, 1, 'b', 'x') ({n + 1}, NULL, 'ü', NULL) "
        f"({n + S}, 3, NULL, 'y') ({n + 2 * S}, 4, 'c', '')"
    )
    sql("CREATE STABLE st (ts TIMESTAMP, x INT) TAGS (g INT, loc BINARY(8))")
    sql(
        f"INSERT INTO s1 USING st TAGS (1, 'A') VALUES ({n}, 1) ({n + S}, 2) "
        f"s2 USING st TAGS (2, NULL) VALUES ({n}, 10)"
    )
    return sql


# Types


LITERALS = [
    ("INT", "2.5", 3),
    ("INT", "-1.6", -2),
    ("INT", "'7'", "0x0216"),
    ("INT", "1e2", 100),
    ("INT", "null", None),
    ("INT", "2147483648", "0x0216"),
    ("INT", "'7x'", "0x0216"),
    ("TINYINT", "-128", -128),
    ("SMALLINT UNSIGNED", "65535", 65535),
    ("INT UNSIGNED", "-1", "0x0216"),
    ("BIGINT", "9007199254740993", 9007199254740993),
    ("BIGINT", "9223372036854775808", "0x0216"),
    ("BIGINT UNSIGNED", "18446744073709551615", 2**64 - 1),
    ("FLOAT", "0.1", 0.10000000149011612),
    ("FLOAT", "1e39", "0x0216"),
    ("DOUBLE", "-1.0e300", -1e300),
    ("BOOL", "true", True),
    ("BOOL", "FALSE", False),
    ("NCHAR(10)", "'it''s'", "it's"),
    ("NCHAR(10)", r"'a\nb'", "a\nb"),
    ("NCHAR(10)", "''", ""),
    ("NCHAR(4)", "'\U0001f600234'", "\U0001f600234"),
    ("NCHAR(4)", "'12345'", "0x2653"),
    ("VARCHAR(4)", "'éé'", "éé"),
    ("VARCHAR(4)", "'ééa'", "0x2653"),
    ("BINARY(4)", '"abcd"', "abcd"),
    ("TIMESTAMP", f"'{OLD}.000000001'", f"{OLD}.000000001 +00:00"),
    ("TIMESTAMP", "'2026-11-23T05:28:10Z'", f"{OLD} +00:00"),
    ("TIMESTAMP", f"'{OLD} +00:00'", "0x0216"),
]


@pytest.mark.parametrize("is_plain", [False, True])  # a row of literals only is read in another way
def test_literals_are_converted_to_the_column(sql, is_plain):
    for k, (type, literal, value) in enumerate(LITERALS):
        assert sql(f"CREATE TABLE t{k} (ts TIMESTAMP, x {type})") == 0
        found = sql(f"INSERT INTO t{k} VALUES ({time.time_ns() if is_plain else 'NOW'}, {literal})")
        if isinstance(value, str) and value.startswith("0x"):
            assert found.startswith(value), (type, literal, found)
            assert sql(f"SELECT x FROM t{k}") == [], (type, literal)
        else:
            assert found == 1, (type, literal, found)
            assert sql(f"SELECT x FROM t{k}") == [[value]], (type, literal)


def test_plain_rows_and_others_in_one_statement(sql):
    n = time.time_ns() // S * S
    sql("CREATE TABLE t (ts TIMESTAMP, x DOUBLE, v VARCHAR(9))")
    sql("CREATE TABLE u (ts TIMESTAMP, x INT)")
    text = f"""INSERT INTO t values( {n} ,1,'(2,"3")'),({n + 1},-.5,NULL) ({n + 2},1e-7,null)
        ({n + 3},2.,'a''b') /* , */ ({n + 4},-4, '') u VALUES ({n}, 1) ({n + 1}, 2) t (v, ts) VALUES ('x;', {n + 5});"""
    assert sql(text) == 8
    assert sql("SELECT x, v FROM t") == [[1, '(2,"3")'], [-0.5, None], [1e-7, None], [2, "a'b"], [-4, ""], [None, "x;"]]
    assert sql("SELECT COUNT(*) FROM u") == [[2]]
    for wrong in (f"({n}, 1)", f"({n}, 1, 'a', 2)", f"({n}, 1 'a')", f"({n}, 1, 'a'", f"({n}, 1, 'a')) ({n}, 1, 'a')"):
        assert sql(f"INSERT INTO t VALUES ({n + 6}, 1, 'a') {wrong}").startswith("0x"), wrong
    assert sql("SELECT COUNT(*) FROM t") == [[6]]


def test_decimals_bytes_and_json_tags_are_exact(sql):
    sql("CREATE TABLE d (ts TIMESTAMP, a DECIMAL(20, 4), b DECIMAL(5, 2), c VARBINARY(4))")
    assert sql("INSERT INTO d VALUES (NOW, 1234567890123456.7891, -2.345, '\\xff00') (NOW + 1s, NULL, NULL, 'ab')") == 2
    shown = "[[None if v is None else str(v) for v in row] for row in c.query('SELECT a, b, c FROM d')]"
    assert sql.client.call(shown) == [["1234567890123456.7891", "-2.35", "b'\\xff\\x00'"], [None, None, "b'ab'"]]
    assert sql("INSERT INTO d (ts, b) VALUES (NOW, 1000)").startswith("0x0216")
    assert [row[1] for row in sql("DESCRIBE d")] == ["TIMESTAMP", "DECIMAL(20, 4)", "DECIMAL(5, 2)", "VARBINARY"]
    sql("CREATE STABLE j (ts TIMESTAMP, x INT) TAGS (doc JSON)")
    assert sql("""INSERT INTO j1 USING j TAGS ('{"a": "ü"}') VALUES (NOW, 1)""") == 1
    assert sql("SELECT doc, x FROM j") == [['{"a":"ü"}', 1]]
    assert sql("CREATE TABLE w (ts TIMESTAMP, doc JSON)").startswith("0x2600")


def test_columns_as_bytes(rows):
    call = rows.client.call
    assert call(
        "[bytes(row[0]).hex() for row in c.query('SELECT CAST(v AS VARBINARY) FROM t WHERE v IS NOT NULL')]"
    ) == [*("78", "79", "")]
    assert (
        call("[bytes(row[0]) == b's1' for row in c.query('SELECT CAST(tbname AS VARBINARY) AS `n` FROM s1')]")
        == [True] * 2
    )
    assert rows("SELECT CAST(b AS VARBINARY) FROM t").startswith("0x2802")


def test_a_hundred_kilobytes_of_columns(sql):
    columns = ", ".join(f"`Column {k}` NCHAR(100)" for k in range(200))
    assert sql(f"CREATE TABLE `Wide Table` (ts TIMESTAMP, {columns})") == 0
    assert sql(f"INSERT INTO `Wide Table` VALUES (NOW, {', '.join(repr('x' * 100) for _ in range(200))})") == 1
    ((_, *values),) = sql("SELECT * FROM `Wide Table`")
    assert values == ["x" * 100] * 200


# Keys


def test_a_row_with_a_key_that_is_there_overwrites_the_columns_given(rows):
    n = rows.n
    assert rows(f"INSERT INTO t VALUES ({n}, 7, 'z', NULL) ({n - 1}, 0, 'o', NULL)") == 2
    assert rows(f"INSERT INTO t (ts, a) VALUES ({n + 1}, 8)") == 1
    assert rows(f"INSERT INTO t VALUES ({n + S}, 9, 'x', 'y') ({n + S}, NULL, 'w', NULL)") == 1
    found = [
        [n - 1, 0, "o", None],
        [n, 7, "z", None],
        [n + 1, 8, "ü", None],
        [n + S, 9, "w", "y"],
        [n + 2 * S, 4, "c", ""],
    ]
    assert rows("SELECT CAST(ts AS BIGINT), a, b, v FROM t") == found
    assert rows(f"INSERT INTO s1 USING st TAGS (9, 'Z') VALUES ({n}, 11) s2 VALUES ({n}, 12)") == 2
    assert rows("SELECT x, g, loc, tbname FROM st ORDER BY x") == [
        *([2, 1, "A", "s1"], [11, 1, "A", "s1"], [12, 2, None, "s2"])
    ]


def test_a_composite_key_tells_rows_of_one_time_apart(sql):
    sql("CREATE TABLE k (ts TIMESTAMP, id INT PRIMARY KEY, v FLOAT)")
    assert [row[3] for row in sql("DESCRIBE k")] == ["", "COMPOSITE KEY", ""]
    n = time.time_ns()
    assert sql(f"INSERT INTO k VALUES ({n}, 1, 1) ({n}, 2, 2) ({n}, 2, 3)") == 2
    assert sql(f"INSERT INTO k VALUES ({n}, 1, 5) ({n}, 3, 3)") == 2
    assert sql("SELECT id, v FROM k ORDER BY id") == [[1, 5.0], [2, 3.0], [3, 3.0]]
    assert sql(f"INSERT INTO k (ts, v) VALUES ({n}, 1)").startswith("0x0200")


def test_all_rows_of_a_statement_are_stored_or_none(rows):
    n = rows.n
    assert rows(f"INSERT INTO t VALUES ({n + 5}, 1, 'x', 'x') (0, 2, 'y', 'y')").startswith("0x060B")
    assert rows(f"INSERT INTO t VALUES ({n + 5}, 1, 'x', 'x') nope VALUES ({n}, 1)").startswith("0x2603")
    assert rows(f"INSERT INTO t VALUES ({n + 5}, 1, 'x', 'x') ({n + 6}, 1, 'x')").startswith("0x0216")
    assert rows("SELECT COUNT(*) FROM t") == [[4]]


@pytest.mark.parametrize(
    ("precision", "last"), [("ms", 31556995200000), ("us", 31556995200000000), ("ns", 9214646400000000000)]
)
def test_range_of_timestamps(client, precision, last):
    sql = Database(client, f"PRECISION '{precision}' KEEP 10d DURATION 1d")
    unit = {"ms": 1000, "us": 10**6, "ns": S}[precision]
    now = time.time_ns() * unit // S
    sql("CREATE TABLE t (ts TIMESTAMP, a INT)")
    assert sql(f"INSERT INTO t VALUES ({last}, 1) ({now - 9 * 86400 * unit}, 2) (NOW, 3) (NOW - 9d, 4)") == 4
    for wrong in (last + 1, now - 11 * 86400 * unit, "NOW - 11d"):
        assert sql(f"INSERT INTO t VALUES ({wrong}, 1)").startswith("0x060B")
    named = f"SELECT `precision` FROM information_schema.ins_databases WHERE name = '{sql.name}'"
    assert sql(named) == [[precision]]


# What our scripts ask


def test_the_poll(rows):
    n = rows.n
    poll = f"SELECT CAST(`ts` AS BIGINT), `a` AS `x` FROM `{rows.name}`.`t` WHERE {{}} ORDER BY `ts` DESC LIMIT 2"
    assert rows(poll.format(f"`ts` >= {n}")) == [[n + 2 * S, 4], [n + S, 3]]
    assert rows(poll.format(f"(`ts` > {n} AND `ts` <= {n + S}) OR `ts` = {n}")) == [[n + S, 3], [n + 1, None]]
    assert rows(poll.format("`ts` >= NOW() - 2h AND `ts` < NOW() + 1s")) == [[n + 2 * S, 4], [n + S, 3]]
    assert rows(poll.format("`ts` >= NOW() + 1000000u - 1250a + 1d")) == []
    assert rows.names(poll.format(f"`ts` >= {n}")) == [["cast(`ts` as bigint)", "BIGINT"], ["x", "INT"]]


def test_counts_by_second_and_by_hour(rows):
    n = rows.n
    by = "SELECT CAST(_wstart AS BIGINT), COUNT(*) FROM t INTERVAL({})"
    assert rows(by.format("1s")) == [[n, 2], [n + S, 1], [n + 2 * S, 1]]
    assert rows(by.format("3600s")) == rows(by.format("1h")) == [[n, 4]]
    assert rows(f"SELECT CAST(_wstart AS BIGINT), COUNT(*) FROM st WHERE ts > {n} INTERVAL(1s)") == [[n + S, 1]]
    assert rows(f"SELECT COUNT(*) FROM t WHERE ts > {n}") == [[3]]


def test_devices_whose_clocks_are_years_off(client):
    sql = Database(client, "PRECISION 'ns' KEEP 36500d")
    sql("CREATE TABLE t (ts TIMESTAMP, a INT)")
    assert sql("INSERT INTO t VALUES (NOW + 730d, 1) (NOW - 730d, 2) (-1500000000, 3) (-1, 4)") == 4
    counted = sql("SELECT CAST(_wstart AS BIGINT), COUNT(*) FROM t WHERE ts < 0 INTERVAL(1s)")
    assert counted == [[-2 * S, 1], [-S, 1]]
    assert sql("DELETE FROM t WHERE ts < NOW() OR ts > NOW() + 1d") == 4


def test_which_tables_there_are(rows):
    where = f"WHERE db_name = '{rows.name}' AND"
    for name in ("t", "s1"):
        found = f"SELECT table_name FROM information_schema.ins_tables {where} table_name = '{name}'"
        assert rows(found) == [[name]]
    assert rows(f"SELECT stable_name FROM information_schema.ins_stables {where} stable_name = 'st'") == [["st"]]
    assert [row[:4] for row in rows(f"DESCRIBE `{rows.name}`.`st`")] == [
        ["ts", "TIMESTAMP", 8, ""],
        ["x", "INT", 4, ""],
        ["g", "INT", 4, "TAG"],
        ["loc", "VARCHAR", 8, "TAG"],
    ]
    assert rows("DESCRIBE nope") == "0x2603 Table does not exist"


QUERIES = [
    ("SELECT SUM(a), COUNT(a) FROM t", [[8, 3]]),
    ("SELECT SUM(a) FROM t WHERE a > 100", []),
    ("SELECT COUNT(*) FROM t WHERE a > 100", [[0]]),
    ("SELECT a FROM t ORDER BY a DESC LIMIT 3", [[4], [3], [1]]),
    ("SELECT a FROM t ORDER BY a LIMIT 2", [[None], [1]]),
    ("SELECT b FROM t WHERE b IS NOT NULL ORDER BY b", [["b"], ["c"], ["ü"]]),
    ("SELECT a FROM t WHERE a IS NULL OR ts > NOW + 1d", [[None]]),
    ("SELECT a FROM t WHERE NOT (a = 1) AND a IN (1, 4) AND a BETWEEN -1 AND 4.5", [[4]]),
    ("SELECT CASE WHEN a BETWEEN 2 AND 3 THEN a END FROM t WHERE a < 4 ORDER BY a", [[None], [3]]),
    ("SELECT x, g, tbname FROM s1", [[1, 1, "s1"], [2, 1, "s1"]]),
    ("SELECT x FROM st WHERE g = 2", [[10]]),
    ("SELECT tbname FROM t LIMIT 1", [["t"]]),
    ("SELECT a FROM t /* a comment */ LIMIT 1; nonsense", [[1]]),
    ("SELECT 1", [[1]]),
]


def test_queries(rows):
    assert [(text, found) for text, result in QUERIES if (found := rows(text)) != result] == []


def test_it_names_itself_a_stand_in_and_tells_the_time(sql):
    assert "stand-in" in sql("SELECT SERVER_VERSION()")[0][0]
    assert abs(sql("SELECT CAST(NOW() AS BIGINT)")[0][0] / 1000 - time.time()) < 10


def test_rows_deleted_by_time(rows):
    assert rows(f"DELETE FROM t WHERE ts >= {rows.n + S}") == 2
    assert rows(f"DELETE FROM s1 WHERE ts < {rows.n + S}") == 1
    assert rows("DELETE FROM st") == 2
    assert rows("DELETE FROM t WHERE a = 1").startswith("0x2654")
    assert rows("SELECT COUNT(*) FROM t") == [[2]]


def test_columns_added_and_dropped(rows):
    assert rows("ALTER TABLE t ADD COLUMN `Neu x` DOUBLE") == 0
    assert rows(f"INSERT INTO t (ts, `Neu x`) VALUES ({rows.n}, 0.5)") == 1
    assert rows("ALTER TABLE t DROP COLUMN a") == 0
    assert rows("SELECT b, `Neu x` FROM t LIMIT 1") == [["b", 0.5]]
    assert rows("SELECT a FROM t").startswith("0x2602")
    assert [row[0] for row in rows("DESCRIBE t")] == ["ts", "b", "v", "Neu x"]
    assert rows("ALTER STABLE st ADD COLUMN y INT") == 0
    assert rows("SELECT y FROM s1 LIMIT 1") == [[None]]
    for wrong in ("DROP COLUMN ts", "DROP COLUMN nope", "ADD COLUMN b INT", "MODIFY COLUMN b NCHAR(9)"):
        assert rows(f"ALTER TABLE t {wrong}").startswith("0x26")


# Names


def test_quoted_names_are_kept_and_others_folded(sql):
    assert sql("CREATE TABLE `Größe der Maschine` (TS TIMESTAMP, `Bc` INT, `a.b` INT, `select` INT)") == 0
    assert sql(f"INSERT INTO `{sql.name}`.`Größe der Maschine` VALUES (NOW, 1, 2, 3)") == 1
    assert sql("SELECT `Bc`, `a.b`, `select`, tbname FROM `Größe der Maschine`") == [[1, 2, 3, "Größe der Maschine"]]
    assert sql("SELECT Bc FROM `Größe der Maschine`").startswith("0x2602")
    assert sql("CREATE TABLE T1 (ts TIMESTAMP, Open INT, `Open` INT)") == 0
    assert sql("SELECT open FROM t1") == []
    assert sql("SELECT open FROM `T1`").startswith("0x2603")
    assert sql("CREATE TABLE `a;b'c\"d<b>` (ts TIMESTAMP, a INT)") == 0
    assert sql("SELECT a FROM `a;b'c\"d<b>`") == []


def test_reserved_words_need_back_quotes(sql):
    for name in "machines composite timestamp table interval precision tags".split():
        assert sql(f"CREATE TABLE w (ts TIMESTAMP, {name} INT)").startswith(f'0x2600 syntax error near "{name} int)"')
        assert sql(f"CREATE TABLE {name} (ts TIMESTAMP, a INT)").startswith("0x2600"), name
        assert sql(f"CREATE TABLE `{name}` (ts TIMESTAMP, `{name}` INT)") == 0, name
        assert sql(f"SELECT `{name}` FROM `{name}`") == [], name
        assert sql(f"SELECT {name} FROM `{name}`").startswith("0x2600"), name


def test_words_that_need_none(sql):
    names = "open close high low volume date current phase client ticker location voltage id".split()
    assert sql(f"CREATE TABLE w (ts TIMESTAMP, {', '.join(name + ' INT' for name in names)})") == 0
    assert sql(f"SELECT {', '.join(names)} FROM w WHERE {names[0]} > 1") == []


# What it refuses


MISTAKES = [
    ("SELECT a, COUNT(*) FROM t", "0x2600"),
    ("SELECT SUM(b) FROM t", "0x2802"),
    ("SELECT SUM(ts) FROM t", "0x2802"),
    ("SELECT CAST(d AS BIGINT) FROM e", "0x2802"),
    ("SELECT CAST(f AS BIGINT) FROM e", "0x2802"),
    ("SELECT * FROM read_csv('/etc/passwd')", "0x2603"),
    ("SELECT a FROM t WHERE", "0x2601"),
    ("SELECT", "0x2601"),
    ("-- nothing", "0x2601"),
    ("SELEC 1", "0x2600"),
    ("SELECT nope FROM t", "0x2602"),
    ("SELECT g FROM t", "0x2602"),
    ("SELECT a FROM nope.t", "0x0388"),
    ("SELECT a FROM t WHERE ts > 'nonsense'", "0x2600"),
    ("INSERT INTO t VALUES (?, ?, ?, ?)", "0x0216"),
    ("INSERT INTO t (a) VALUES (1)", "0x0200"),
    ("INSERT INTO st VALUES (NOW, 1)", "0x0216"),
    ("INSERT INTO n USING st TAGS (1) VALUES (NOW, 1)", "0x260D"),
    ("INSERT INTO n USING st TAGS (1, '123456789') VALUES (NOW, 1)", "0x2653"),
    ("CREATE TABLE t (ts TIMESTAMP, a INT)", "0x0603"),
    ("CREATE TABLE n (ts TIMESTAMP, a INT, A INT)", "0x263C"),
    ("CREATE TABLE n (ts TIMESTAMP)", "0x263F"),
    ("CREATE TABLE n (a INT, ts TIMESTAMP)", "0x2641"),
    ("CREATE DATABASE x PRECISION 'xx'", "0x2600"),
    ("DROP TABLE nope", "0x2603"),
    ("DROP STABLE t", "0x0362"),
    ("DROP DATABASE nope", "0x0388"),
    ("USE nope", "0x0388"),
]


def test_mistakes_get_tdengine_s_code(rows):
    rows("CREATE TABLE e (ts TIMESTAMP, d DECIMAL(5, 2), f FLOAT)")
    found = [(text, code, str(rows(text))) for text, code in MISTAKES]
    assert [each for each in found if not each[2].startswith(each[1])] == []


OUTSIDE = [
    "SELECT a FROM t UNION SELECT a FROM t",
    "SELECT a FROM (SELECT a FROM t)",
    "SELECT a FROM t JOIN t x ON t.ts = x.ts",
    "SELECT a FROM t, s1",
    "SELECT a b FROM t",
    "SELECT a + 1 FROM t",
    "SELECT a FROM t WHERE a * 2 > 1",
    "SELECT a FROM t WHERE a - 1 > 1",
    "SELECT a, read_text('/etc/passwd') FROM t",
    "SELECT LAST_ROW(*) FROM t",
    "SELECT DISTINCT a FROM t",
    "SELECT COUNT(*) FROM t INTERVAL(1n)",
    "SELECT COUNT(*) FROM t INTERVAL(1w)",
    "SELECT COUNT(*) FROM t INTERVAL(1s) SLIDING(500a)",
    "SELECT COUNT(*) FROM t PARTITION BY a",
    "SELECT a, COUNT(*) FROM t GROUP BY a",
    "SELECT MAX(a) FROM t",
    "SELECT a FROM t LIMIT 1 OFFSET 1",
    "SELECT COUNT(*) FROM t INTERVAL(1s) LIMIT 1",
    "SELECT CAST(a AS DOUBLE) FROM t",
    "CREATE TABLE n USING st TAGS (1, 'x')",
    "SHOW TABLES",
    "SELECT a FROM t WHERE b LIKE 'x'",
    "SELECT a FROM t WHERE a = 'x'::BLOB",
    "SELECT a FROM t LIMIT -1",
    "SELECT * FROM information_schema.ins_users",
    "ALTER DATABASE x KEEP 10",
    "CREATE USER u PASS 'p'",
    "SHOW CREATE TABLE t",
    "DROP TABLE t, s1",
    "CREATE TABLE j (ts TIMESTAMP, a VARCHAR)",
    "CREATE TABLE j (ts TIMESTAMP, a GEOMETRY(10))",
    "CREATE DATABASE j COMP 2",
    "INSERT INTO t FILE 'x.csv'",
    "PRAGMA database_list",
    "ATTACH 'x.db'",
]


def test_sql_outside_the_part_is_refused_by_name(rows):
    refused = re.compile("0x(2600|0216) syntax error.*stand-in", re.DOTALL)
    assert [(text, found) for text in OUTSIDE if not refused.match(found := str(rows(text)))] == []


def test_databases_and_tables_made_and_dropped(sql):
    name = f"d{next(NUMBERS)}"
    for text, wanted in [
        (f"DROP DATABASE IF EXISTS {name}", 0),
        (f"CREATE DATABASE {name.upper()} KEEP 30d VGROUPS 3 REPLICA 3 BUFFER 64", 0),
        (f"CREATE DATABASE {name}", "0x0381 Database already exists"),
        (f"CREATE TABLE IF NOT EXISTS {name}.t (ts TIMESTAMP, a INT)", 0),
        (f"CREATE TABLE IF NOT EXISTS {name}.t (ts TIMESTAMP, other INT)", 0),
        (f"SELECT a FROM {name}.t", []),
        (f"CREATE TABLE {name}.m (ts TIMESTAMP, a INT) TAGS (g INT)", 0),
        (f"INSERT INTO {name}.m1 USING {name}.m TAGS (1) VALUES (NOW, 6)", 1),
        (f"DELETE FROM {name}.m1", 1),
        (f"INSERT INTO {name}.m1 VALUES (NOW, 7) {name}.m2 USING {name}.m (g) TAGS (2) VALUES (NOW, 8)", 2),
        (f"SELECT a, g FROM {name}.m ORDER BY a", [[7, 1], [8, 2]]),
        (f"DROP TABLE {name}.m1", 0),
        (f"SELECT a, g FROM {name}.m", [[8, 2]]),
        (f"DROP STABLE {name}.m", 0),
        (f"SELECT a FROM {name}.m2", "0x2603 Table does not exist"),
        (f"DROP STABLE IF EXISTS {name}.m", 0),
        (f"DROP TABLE IF EXISTS {name}.m", 0),
        (f"DROP DATABASE {name}", 0),
        (f"SELECT a FROM {name}.t", "0x0388 Database not exist"),
    ]:
        assert sql(text) == wanted, text


def test_connections_that_make_the_same_subtables_at_once(rows, stand_in):
    def insert(number):
        with raw(stand_in.port) as connection:
            for k in range(30):
                into = f"{rows.name}.n{k % 10} USING {rows.name}.st TAGS ({k % 10}, 'N')"
                values = f"({rows.n + 1000 * number + k}, 1)"
                replies.append(connection.query(f"INSERT INTO {into} VALUES {values}")["affected_rows"])

    replies = []
    threads = [threading.Thread(target=insert, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert replies == [1] * 120
    assert rows("SELECT COUNT(*) FROM st WHERE loc IS NOT NULL AND x = 1") == [[121]]  # one is from before
    found = rows(f"SELECT table_name FROM information_schema.ins_tables WHERE db_name = '{rows.name}'")
    assert len(found) == 13  # with s1, s2 and t
