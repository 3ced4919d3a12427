"""--table: tables of one's own, with their types, keys and names, and nothing about them silently wrong."""

import contextlib
import random
import re
import time

import pytest
from chain import SOURCES, Chain, Database
from helpers import wait_until


@contextlib.contextmanager
def site_of(kind, shared_stand_in, folder, source):
    """A chain of this kind whose server shows all of TABLES, most of which have no rows yet."""
    folder.mkdir(exist_ok=True)
    database = Database(folder, shared_stand_in)
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    try:
        with kind(database, folder) as chain:
            chain.source = source
            for name, columns in TABLES.items():
                database.query(f"CREATE TABLE {{db}}.`{name}` ({columns})")
            insert(chain, "types", NULLS)
            quoted = [name if name.isascii() and name.isidentifier() else f"`{name}`" for name in TABLES]
            flags = ["--history", "5m", "--interval", 1000]  # fifteen tables are polled
            chain.running = chain.server_of(*(f"{{db}}.{name}" for name in quoted), flags=flags)
            yield chain
    finally:
        database.close()


@pytest.fixture(scope="module", params=SOURCES)
def site(request, shared_stand_in, tmp_path_factory):
    with site_of(Chain, shared_stand_in, tmp_path_factory.mktemp("site"), request.param) as site:
        yield site


@pytest.fixture
def chain(database, tmp_path, source):
    """A Chain of this test's own."""
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    with Chain(database, tmp_path) as chain:
        yield chain


def wait_for(chain, title, rows):
    wait_until(lambda: chain.health()["tables"][title]["rows"] == rows, 30, chain.health)
    return chain.health()["tables"][title]


def insert(chain, table, *rows):
    """Rows as texts, each with a time of its own."""
    stamp = time.time_ns() // 1000
    values = " ".join(f"({stamp + k}, {row})" for k, row in enumerate(rows))
    chain.database.query(f"INSERT INTO {{db}}.{table} VALUES {values}")


ALL = (
    "ts TIMESTAMP, b BOOL, i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, u8 TINYINT UNSIGNED, "
    "u16 SMALLINT UNSIGNED, u32 INT UNSIGNED, u64 BIGINT UNSIGNED, f FLOAT, d DOUBLE, v VARCHAR(20), n NCHAR(20), "
    "x VARBINARY(20), other TIMESTAMP, m DECIMAL(20, 4)"
)
LEAST = "true, -128, -32768, -2147483648, -9223372036854775807, 0, 0, 0, 0, -1.5, -1e300, '', '', '\\x', 0, -1.25"
MOST = "false, 127, 32767, 2147483647, 9223372036854775807, 255, 65535, 4294967295, 18446744073709551615, 1.5, 1e300, "
MOST += "'text', 'größe', '\\x00ff', 1795411690500000, 99999999.9999"
NULLS = ", ".join(["NULL"] * 16)
NAMES = ["`Machine Log`", "machines", "`Größe`", '`it\'s "so"`', "`a b`", "`<b>bold</b>`"]
TABLES = {  # name: columns
    "types": ALL,
    "devices": "ts TIMESTAMP, v INT, w INT) TAGS (site NCHAR(10), `group` INT",
    "composite": "ts TIMESTAMP, id INT PRIMARY KEY, v FLOAT",
    "composite text": "ts TIMESTAMP, id VARCHAR(20) PRIMARY KEY, v FLOAT",
    "big": "ts TIMESTAMP, n BIGINT, serial BIGINT UNSIGNED",
    "Wide Table": "ts TIMESTAMP, " + ", ".join(f"c{k} INT" for k in range(199)),
    "grows": "ts TIMESTAMP, a INT",
    "clocks": "ts TIMESTAMP, id INT PRIMARY KEY, v INT) TAGS (device INT",
    **dict.fromkeys([name.strip("`") for name in NAMES], "`Zeit` TIMESTAMP, `select` INT, `a.b` INT, `it's` NCHAR(5)"),
}
PERSPECTIVE = {"ts": "datetime", "other": "datetime", "b": "boolean", "f": "float", "d": "float", "m": "float"}
PERSPECTIVE |= dict.fromkeys(["v", "n", "x"], "string")


def test_each_type_is_shown_exactly(site):
    wait_for(site, "types", 1)
    insert(site, "types", LEAST, MOST)
    wait_for(site, "types", 3)
    found = site.see("types", sort=[["ts", "asc"]])
    names = [column.split()[0] for column in ALL.split(", ") if not column.startswith("4)")]
    assert found["schema"] == {name: PERSPECTIVE.get(name, "integer") for name in names}
    columns = {name: values[1:] for name, values in found["columns"].items()}
    assert [values[0] for name, values in found["columns"].items() if name != "ts"] == [None] * 16
    assert columns["b"] == [True, False]
    assert columns["i8"] == [-128, 127]
    assert columns["i16"] == [-(2**15), 2**15 - 1]
    assert columns["i32"] == [-(2**31), 2**31 - 1]
    assert columns["i64"] == [-(2**63) + 1, 2**63 - 1]
    assert [columns[f"u{bits}"][1] for bits in (8, 16, 32, 64)] == [2**bits - 1 for bits in (8, 16, 32, 64)]
    assert columns["f"] == [-1.5, 1.5]
    assert columns["d"] == [-1e300, 1e300]
    assert columns["v"] == ["", "text"]
    assert columns["n"] == ["", "größe"]
    assert columns["x"] == ["", "00ff"]
    assert columns["other"] == [0, 1795411690500]
    assert columns["m"] == [-1.25, 99999999.9999]
    assert site.health()["tables"]["types"]["unshown_values"] == 0


def test_rows_of_two_subtables_with_equal_values_are_two_rows_and_shown_once(site):
    sent = 0
    for _ in range(8):
        stamp = time.time_ns() // 1000
        values = " ".join(f"({stamp + k}, 1, 1)" for k in range(20))
        into = " ".join(
            f"{{db}}.`Device {name}` USING {{db}}.devices TAGS ('here', 1) VALUES {values}" for name in ("a", "B")
        )
        site.database.query(f"INSERT INTO {into}")
        sent += 40
    wait_for(site, "devices", sent)
    polls = site.health()["tables"]["devices"]["polls"]
    wait_until(lambda: site.health()["tables"]["devices"]["polls"] > polls + 4, 20, "more polls")
    wait_for(site, "devices", sent)
    found = site.see("devices", group_by=["tbname"], columns=["v"])
    assert found["columns"]["__ROW_PATH__"] == [[], ["Device B"], ["Device a"]]
    assert found["columns"]["v"] == [sent, sent / 2, sent / 2]
    assert site.see("devices")["schema"]["site"] == "string"


@pytest.mark.parametrize(
    ("table", "values"), [("composite", range(40)), ("composite text", [f"'k{k}'" for k in range(40)])]
)
def test_a_composite_key_tells_rows_of_one_time_apart(site, table, values):
    stamp = time.time_ns() // 1000
    rows = " ".join(f"({stamp}, {value}, 1)" for value in values)
    site.database.query(f"INSERT INTO {{db}}.`{table}` VALUES {rows}")
    wait_for(site, table, 40)
    assert len(set(site.see(table)["columns"]["id"])) == 40


def test_whole_numbers_beyond_a_doubles_stay_apart(site):
    numbers = [9007199254740993, 9007199254740992] * 10
    insert(site, "big", *(f"{number}, {2**64 - 1 - number % 2}" for number in numbers))
    assert wait_for(site, "big", 20)["error"] is None
    found = site.see("big", group_by=["n"], columns=["ts"], aggregates={"ts": "count"})["columns"]
    assert found["__ROW_PATH__"][1:] == [[9007199254740992], [9007199254740993]]
    assert found["ts"] == [20, 10, 10]
    assert set(site.see("big")["columns"]["serial"]) == {2**64 - 1, 2**64 - 2}


def test_sums_are_those_of_the_rows_that_a_table_holds(chain):
    kinds = ["TINYINT", "SMALLINT", "INT", "BIGINT"]
    kinds += [f"{kind} UNSIGNED" for kind in kinds] + ["FLOAT"]
    columns = ", ".join(f"c{k} {kind}" for k, kind in enumerate(kinds))
    chain.database.query(f"CREATE TABLE {{db}}.sums (ts TIMESTAMP, {columns})")
    chain.server_of("{db}.sums", flags=["--limit", "40"])
    for batch in range(6):
        insert(chain, "sums", *[", ".join([str((k * 37 + batch * 11) % 127)] * 9) for k in range(20)])
        wait_for(chain, "sums", 20 * (batch + 1))
    found = chain.see("sums")["columns"]
    total = chain.see("sums", group_by=["c0"], columns=[f"c{k}" for k in range(9)])["columns"]
    for name in found.keys() - {"ts"}:
        assert total[name][0] == sum(found[name]), name


YEAR_S = 365 * 86_400
OFFSETS_S = [0, 0.6, -7, 3600, -3600, -2 * YEAR_S, 2 * YEAR_S]  # of devices' clocks


def test_rows_of_any_clocks_are_shown_once_or_counted(site):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, sent, viewer = random.Random(seed), 0, None
    wait_until(lambda: site.table_named("clocks")["polls"] > 1, 20, site.health)  # what is stored before is not wanted
    for _ in range(80):
        device = chance.randrange(len(OFFSETS_S) + 1)
        offset_s = [*OFFSETS_S, chance.uniform(-2 * YEAR_S, 2 * YEAR_S)][device]
        now_us, rows = time.time_ns() // 1000 + int(offset_s * 10**6), chance.randint(1, 30)
        stamps = [now_us - chance.randrange(3 * 10**6) for _ in range(rows)]
        values = " ".join(f"({stamp}, {sent + k}, {k})" for k, stamp in enumerate(stamps))
        site.database.query(f"INSERT INTO {{db}}.clock_{device} USING {{db}}.clocks TAGS ({device}) VALUES {values}")
        sent += rows
        viewer = viewer or site.viewer("clocks")
        time.sleep(chance.choice([0, 0, 0.05, 0.3]))

    def counted():
        table = site.table_named("clocks")
        return table["rows"] + table["missed_rows"]

    wait_until(lambda: counted() == sent, 30, lambda: (seed, sent, site.table_named("clocks")))
    wait_until(lambda: viewer.distinct() == site.table_named("clocks")["rows"], 30, viewer.log)
    assert viewer.report()["twice"] == 0, seed


def test_names_of_any_kind(site):
    for name in NAMES:
        insert(site, f"`{name.strip('`')}`", "1, 2, 'x'", "3, 4, 'y'")
    for name in NAMES:
        wait_for(site, name.strip("`"), 2)
        assert list(site.see(name.strip("`"))["columns"]) == ["Zeit", "select", "a.b", "it's"]
    lines = site.running.stderr().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d .* [A-Z]+ ", line) for line in lines), lines


def test_a_wide_table(site):
    insert(site, "`Wide Table`", *[", ".join(["7"] * 199)] * 10)
    wait_for(site, "Wide Table", 10)
    assert site.see("Wide Table")["columns"]["c198"] == [7] * 10
    if site.source == "subscribe":
        wait_until(lambda: site.table_named("Wide Table")["subscriptions"] >= 1, 20, site.health)


def test_a_column_added_or_a_table_made_anew_is_noticed(site):
    insert(site, "grows", "1", "2")
    wait_for(site, "grows", 2)
    if site.source == "subscribe":
        wait_until(lambda: site.table_named("grows")["subscriptions"] == 1, 20, site.health)
    site.database.query("ALTER TABLE {db}.grows ADD COLUMN b INT")
    wait_until(lambda: "b" in site.table_named("grows")["columns"], 20, site.health)
    insert(site, "grows", "3, 4")
    wait_for(site, "grows", 3)
    found = site.see("grows", sort=[["a", "asc"]])["columns"]
    assert (found["a"], found["b"]) == ([1, 2, 3], [None, None, 4])
    if site.source == "poll":  # a topic keeps TDengine from dropping its columns
        site.database.query("ALTER TABLE {db}.grows DROP COLUMN a")
        wait_until(lambda: "a" not in site.table_named("grows")["columns"], 20, site.health)
        wait_for(site, "grows", 3)
    site.database.query("DROP TABLE {db}.grows")
    site.database.query("CREATE TABLE {db}.grows (ts TIMESTAMP, b INT)")
    insert(site, "grows", "9")
    wait_for(site, "grows", 1)
    assert site.see("grows")["columns"]["b"] == [9]


def test_two_tables_of_one_name_and_a_dataset(chain, database):
    other = f"{database.name}_x"
    database.query(f"CREATE DATABASE {other}")
    try:
        for each in (database.name, other):
            database.query(f"CREATE TABLE {each}.same (ts TIMESTAMP, v INT)")
        chain.server_of(f"{database.name}.same", f"{other}.same", flags=["--dataset", "stocks"])
        wait_until(lambda: len(chain.health()["tables"]) == 3, 20, chain.health)
        assert set(chain.health()["tables"]) == {"stock_values", f"{database.name}.same", f"{other}.same"}
    finally:
        database.query(f"DROP DATABASE {other}")


def test_a_table_that_has_only_old_rows_says_so_and_history_shows_them(chain):
    chain.database.query("CREATE TABLE {db}.old (ts TIMESTAMP, v INT)")
    stamp = time.time_ns() // 1000 - 600 * 10**6
    chain.database.query(f"INSERT INTO {{db}}.old VALUES ({stamp}, 1) ({stamp + 1}, 2)")
    chain.server_of("{db}.old", "{db}.nosuch")
    wait_until(lambda: "--history" in (chain.table_named("old")["error"] or ""), 20, chain.health)
    wait_until(lambda: "no table" in (chain.table_named("nosuch")["error"] or ""), 20, chain.health)
    assert "producer.py" not in str(chain.health())
    chain.server_of("{db}.old", flags=["--history", "1h"])
    wait_for(chain, "old", 2)
