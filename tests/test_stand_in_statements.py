"""Prepared statements against the stand-in, and the ways to connect to it, through the real client."""

import itertools

import pytest
from stand_in import T, error_text

NUMBERS = itertools.count()
COLUMNS = "taosws.millis_timestamps_to_column({}), taosws.ints_to_column({}), taosws.nchar_to_column({})"


@pytest.fixture
def call(client):
    """Runs Python; an error comes back as text. t and st are there in a database of its own."""
    name = f"p{next(NUMBERS)}"
    for text in (
        f"CREATE DATABASE {name}",
        f"USE {name}",
        "CREATE TABLE t (ts TIMESTAMP, a INT, b NCHAR(4))",
        "CREATE STABLE st (ts TIMESTAMP, x INT) TAGS (g INT, loc BINARY(8))",
    ):
        assert client.sql(text) == 0

    def run(source):
        found = client.call(source)
        return error_text(found) or found

    run.database, run.sql = name, client.sql
    return run


def columns(times, ints, texts):
    return COLUMNS.format(times, ints, texts)


def prepare(call, text):
    call("s = c.stmt2_statement()")
    return call(f"s.prepare({text!r})")


def bind(call, times, ints, texts):
    """The columns of t, bound to what the next execute() stores."""
    return bind_columns(call, columns(times, ints, texts))


def bind_columns(call, made):
    return call(f"s.bind([taosws.stmt2_bind_param_view(table_name='', tags=None, columns=[{made}])])")


ROWS = "SELECT CAST(ts AS BIGINT), a, b FROM t ORDER BY ts"


def test_rows_are_bound_and_counted(call):
    assert prepare(call, "INSERT INTO t VALUES (?, ?, ?)") is None
    assert bind(call, [T, T + 1], [1, None], ["x", None]) is None
    assert call("s.execute()") == 2
    assert bind(call, [T + 2], [None], ["日本株だ"]) is None
    assert call("s.execute()") == 1
    assert call("s.affect_rows()") == 3
    assert call.sql(ROWS) == [[T, 1, "x"], [T + 1, None, None], [T + 2, None, "日本株だ"]]


def test_several_binds_before_one_execute(call):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    bind(call, [T, T + 1], [1, 2], ["x", "y"])
    bind(call, [T + 1, T + 2], [20, 30], [None, "z"])
    assert call("s.execute()") == 3  # distinct keys
    assert call.sql(ROWS) == [[T, 1, "x"], [T + 1, 20, None], [T + 2, 30, "z"]]


def test_equal_keys_in_a_bind_the_later_wins_also_with_null(call):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    bind(call, [T, T, T + 1, T], [1, 2, 3, 4], ["a", "b", "c", None])
    assert call("s.execute()") == 2
    assert call.sql(ROWS) == [[T, 4, None], [T + 1, 3, "c"]]
    bind(call, [T], [5], ["z"])
    assert call("s.execute()") == 1  # an overwrite counts like a new row
    assert call.sql(ROWS) == [[T, 5, "z"], [T + 1, 3, "c"]]


def test_only_the_columns_named_are_written(call):
    call.sql(f"INSERT INTO t VALUES ({T}, 1, 'x')")
    prepare(call, "INSERT INTO t (b, ts) VALUES (?, ?)")
    bind_columns(call, f"taosws.nchar_to_column(['y', 'z']), taosws.millis_timestamps_to_column([{T}, {T + 1}])")
    assert call("s.execute()") == 2
    assert call.sql(ROWS) == [[T, 1, "y"], [T + 1, None, "z"]]


def test_a_failed_bind_makes_the_next_execute_fail_and_the_statement_goes_on(call):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    assert bind(call, [T], [1], ["12345"]) == "0x2653 Value too long for column/tag: b"
    assert call("s.execute()").startswith("0x022A")
    bind(call, [T], [1], ["1234"])
    assert call("s.execute()") == 1


def test_execute_without_a_bind_is_an_error_not_a_hang(call):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    assert isinstance(call("s.execute()"), str)
    bind(call, [T], [1], ["x"])
    assert call("s.execute()") == 1
    assert isinstance(call("s.execute()"), str)


def test_out_of_range_is_told_by_execute(call):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    assert bind(call, [T, 0], [1, 2], ["x", "y"]) is None
    assert call("s.execute()").startswith("0x060B")
    assert call.sql("SELECT COUNT(*) FROM t") == [[0]]


def test_a_statement_of_the_old_kind_is_refused_in_words(call):
    assert "stand-in" in call("getattr(c, 'statement')()")


UNPREPARED = [
    ("INSERT INTO t VALUES (?, ?)", "0x0216 Syntax error in SQL"),
    ("INSERT INTO t VALUES (?, ?, ?, ?)", "0x263F Illegal number of columns"),
    ("INSERT INTO nope VALUES (?, ?)", "0x022B Table does not exist"),
    ("INSERT INTO nope.t VALUES (?, ?)", "0x0388 Database not exist"),
    ("INSERT INTO t VALUES (?, ?", "0x0216"),
    ("INSERT INTO ? USING st TAGS (1, 'x') VALUES (?, ?)", "0x0216 syntax error"),
    ("INSERT INTO t VALUES (?, 1, ?)", "0x0216 syntax error"),
    ("INSERT INTO t (ts, nope) VALUES (?, ?)", "0x2602"),
    ("INSERT INTO st VALUES (?, ?)", "0x0216"),
    ("SELECT a FROM t WHERE ts > ?", "0x0216"),
    ("CREATE TABLE u (ts TIMESTAMP, a INT)", "0x0216"),
    ("nonsense", "0x0216"),
    ("", "0x"),
]


def test_what_cannot_be_prepared(call):
    for text, error in UNPREPARED:
        assert prepare(call, text).startswith(error), text
        assert call.sql("SELECT COUNT(*) FROM t") == [[0]], text  # the connection goes on


def test_columns_of_a_wrong_type_are_refused(call):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    for wrong in ("taosws.nchar_to_column(['x'])", "taosws.floats_to_column([1.5])", "taosws.big_ints_to_column([1])"):
        made = f"[taosws.millis_timestamps_to_column([{T}]), {wrong}, taosws.nchar_to_column(['x'])]"
        found = call(f"s.bind([taosws.stmt2_bind_param_view(table_name='', tags=None, columns={made})])")
        assert isinstance(found, str), wrong


def test_bits_are_taken_as_they_are(call):
    """As TDengine does it: a negative INT bound to an INT UNSIGNED column."""
    call.sql("CREATE TABLE u (ts TIMESTAMP, n INT UNSIGNED)")
    prepare(call, "INSERT INTO u VALUES (?, ?)")
    made = f"[taosws.millis_timestamps_to_column([{T}]), taosws.ints_to_column([-5])]"
    assert call(f"s.bind([taosws.stmt2_bind_param_view(table_name='', tags=None, columns={made})])") is None
    assert call("s.execute()") == 1
    assert call.sql("SELECT n FROM u") == [[4294967291]]


def view(name, tags, times, ints):
    made = f"[taosws.millis_timestamps_to_column({times}), taosws.ints_to_column({ints})]"
    tags = "None" if tags is None else f"[taosws.int_to_tag({tags[0]}), taosws.varchar_to_tag({tags[1]!r})]"
    return f"taosws.stmt2_bind_param_view(table_name={name!r}, tags={tags}, columns={made})"


USING = "INSERT INTO ? USING st (g, loc) TAGS (?, ?) VALUES (?, ?)"
NAMED = USING.replace("VALUES", "(ts, x) VALUES")
METERS = "SELECT tbname, g, loc, CAST(ts AS BIGINT), x FROM st ORDER BY tbname, ts"


def test_subtables_are_made_by_binds_of_v2(call):
    prepare(call, USING)
    views = [view("s1", (1, "A"), [T, T + 1], [1, 2]), view("s2", (2, "B"), [T], [3]), view("S1", (9, "Z"), [T], [10])]
    assert call(f"s.bind([{', '.join(views)}])") is None
    assert call("s.execute()") == 3  # S1 is s1, and its first row is there twice
    assert call.sql(METERS) == [["s1", 1, "A", T, 10], ["s1", 1, "A", T + 1, 2], ["s2", 2, "B", T, 3]]
    assert call(f"s.bind([{view('s1', (5, 'X'), [T + 2], [4])}])") is None
    assert call("s.execute()") == 1
    assert call.sql("SELECT g, loc FROM s1 LIMIT 1") == [[1, "A"]]
    assert call(f"s.bind([{view('s3', (1, '123456789'), [T], [1])}])") == "0x2653 Value too long for column/tag: loc"


def test_a_subtable_dropped_between_two_executes_is_made_again(call):
    prepare(call, USING)
    call(f"s.bind([{view('s1', (1, 'A'), [T], [1])}])")
    assert call("s.execute()") == 1
    call.sql("DROP TABLE s1")
    call(f"s.bind([{view('s1', (2, 'B'), [T], [7])}])")
    assert call("s.execute()") == 1
    assert call.sql(METERS) == [["s1", 2, "B", T, 7]]


PLAIN = "CREATE TABLE t (ts TIMESTAMP, a INT, b NCHAR(4))"
STABLE = "CREATE STABLE st (ts TIMESTAMP, x INT) TAGS (g INT, loc BINARY(8))"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (["DROP TABLE t"], "0x0216"),
        (["DROP TABLE t", PLAIN], "0x0216"),
        (["ALTER TABLE t ADD COLUMN c INT"], "0x0216"),
        (["ALTER TABLE t DROP COLUMN b"], "0x0216"),
        (["DROP DATABASE {db}"], "0x0216"),
        (["DROP DATABASE {db}", "CREATE DATABASE {db}", PLAIN], "0x0216"),
        (["DROP STABLE st"], None),
    ],
)
def test_a_statement_does_not_outlive_a_change_of_its_table(call, changes, code):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    bind(call, [T], [1], ["x"])
    assert call("s.execute()") == 1
    for change in changes:
        assert call.sql(change.format(db=call.database)) == 0
    bind(call, [T], [1], ["x"])
    found = call("s.execute()")
    assert found == 1 if code is None else found.startswith(code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (["DROP STABLE st"], "0x0216"),
        (["DROP STABLE st", STABLE], "0x0115"),
        (["DROP DATABASE {db}"], "0x0216"),
        (["DROP DATABASE {db}", "CREATE DATABASE {db}", STABLE], "0x0115"),
        (["ALTER STABLE st ADD COLUMN y INT"], "0x0216"),
        (["DROP TABLE t"], None),
    ],
)
def test_nor_one_of_its_supertable(call, changes, code):
    prepare(call, NAMED)
    call(f"s.bind([{view('s1', (1, 'A'), [T], [1])}])")
    assert call("s.execute()") == 1
    for change in changes:
        assert call.sql(change.format(db=call.database)) == 0
    call(f"s.bind([{view('s1', (1, 'A'), [T], [1])}])")
    found = call("s.execute()")
    assert found == 1 if code is None else found.startswith(code)
    if code:  # a new one goes on, once the table is there
        call.sql(f"CREATE DATABASE IF NOT EXISTS {call.database}")
        call.sql(STABLE.replace("STABLE", "STABLE IF NOT EXISTS", 1))
        assert prepare(call, NAMED) is None
        assert call(f"s.bind([{view('s1', (1, 'A'), [T], [1])}])") is None
        assert call("s.execute()") == 1


def test_a_table_of_another_shape(call):
    call.sql("CREATE TABLE other (ts TIMESTAMP, price FLOAT)")
    assert prepare(call, "INSERT INTO other (ts, a) VALUES (?, ?)").startswith("0x2602")
    assert prepare(call, "INSERT INTO other (ts, price) VALUES (?, ?)") is None
    made = f"taosws.millis_timestamps_to_column([{T}]), taosws.ints_to_column([1])"
    assert bind_columns(call, made).startswith("0x0200")


def test_all_types_are_bound(call):
    types = "d DECIMAL(20, 4), e DECIMAL(5, 2), v VARBINARY(4), u BIGINT UNSIGNED, b BOOL, c VARCHAR(8)"
    call.sql(f"CREATE TABLE every_type (ts TIMESTAMP, {types})")
    assert prepare(call, "INSERT INTO every_type VALUES (?, ?, ?, ?, ?, ?, ?)") is None
    call("from decimal import Decimal as D")
    made = (
        f"taosws.millis_timestamps_to_column([{T}, {T + 1}]), "
        "taosws.decimal_to_column([D('1234567890123456.7891'), None]), "
        "taosws.decimal64_to_column([D('-2.5'), None]), taosws.varbinary_to_column([b'\\xff', None]), "
        "taosws.unsigned_big_ints_to_column([18446744073709551615, None]), taosws.bools_to_column([True, None]), "
        "taosws.varchar_to_column(['é', None])"
    )
    assert bind_columns(call, made) is None
    assert call("s.execute()") == 2
    rows = "c.query('SELECT d, e, v, u, b, c FROM every_type')"
    shown = f"[[None if v is None else str(v) for v in row] for row in {rows}]"
    whole = ["1234567890123456.7891", "-2.50", "b'\\xff'", "18446744073709551615", "True", "é"]
    assert call(shown) == [whole, [None] * 6]
    made = made.replace("D('-2.5')", "D('1000')")
    assert bind_columns(call, made) is None
    assert call("s.execute()").startswith("0x0216")


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 4095, 4096, 4097, 10_000])
def test_any_number_of_rows_goes_in_and_out(call, rows):
    prepare(call, "INSERT INTO t VALUES (?, ?, ?)")
    made = (
        f"taosws.millis_timestamps_to_column(list(range({T}, {T + rows}))), "
        f"taosws.ints_to_column([None if k % 7 == 3 else k for k in range({rows})]), "
        f"taosws.nchar_to_column([None if k % 5 == 2 else 'é' * (k % 5) for k in range({rows})])"
    )
    assert call(f"s.bind([taosws.stmt2_bind_param_view(table_name='', tags=None, columns=[{made}])])") is None
    assert call("s.execute()") == rows
    call(f"found = list(c.query({ROWS!r}))")
    wanted = f"[({T} + k, None if k % 7 == 3 else k, None if k % 5 == 2 else 'é' * (k % 5)) for k in range({rows})]"
    assert call(f"found == {wanted}") is True


# Connections


def connect(call, port, source):
    return call(f"x = taosws.connect({source.format(port=port)})")


WAYS = [
    "'ws://root:taosdata@localhost:{port}'",
    "'ws://127.0.0.1:{port}'",
    "'taosws://root:taosdata@localhost:{port}'",
    "'http://root:taosdata@localhost:{port}'",
    "host='localhost', port={port}",
    "host='localhost', port={port}, user='root', password='taosdata'",
]


def test_ways_to_connect(call, stand_in):
    for source in WAYS:
        assert connect(call, stand_in.port, source) is None, source
        assert call("list(x.query('SELECT 1'))") == [[1]], source


def test_a_database_in_the_dsn_is_the_current_one_also_for_cursors(call, stand_in):
    call.sql(f"INSERT INTO t VALUES ({T}, 1, 'x')")
    for source in (
        f"'ws://localhost:{{port}}/{call.database}'",
        f"host='localhost', port={{port}}, database='{call.database}'",
    ):
        assert connect(call, stand_in.port, source) is None
        assert call("list(x.query('SELECT a FROM t'))") == [[1]]
        call("k = x.cursor()")
        call("k.execute('SELECT ts, a FROM t')")
        assert call("[str(row[0])[:19] for row in k.fetchall()]") == ["2026-11-23 05:28:10"]
    refused = connect(call, stand_in.port, f"'ws://localhost:{{port}}/{call.database.upper()}'")
    assert refused == "0x0388 Database not exist"


def test_a_cursor_is_a_connection_of_its_own(call, stand_in):
    connect(call, stand_in.port, "'ws://localhost:{port}'")
    call(f"x.execute('USE {call.database}')")
    call("k = x.cursor()")
    assert "0x2616" in call("k.execute('SELECT a FROM t')")
    assert call(f"k.execute('INSERT INTO {call.database}.t VALUES ({T}, 5, NULL)')") == 1
    assert call(f"k.execute('SELECT a FROM {call.database}.t')") == 0
    assert call("k.fetchall()") == [[5]]
    assert call("list(x.query('SELECT a FROM t'))") == [[5]]


REFUSED = [
    ("'ws://root:wrong@localhost:{port}'", "0x0357"),
    ("'ws://nobody:taosdata@localhost:{port}'", "0x0351"),
    ("'ws://root:taosdata@localhost:{port}/nope'", "0x0388"),
]


def test_refused_connections(call, stand_in):
    for source, code in REFUSED:
        assert connect(call, stand_in.port, source).startswith(code), source
