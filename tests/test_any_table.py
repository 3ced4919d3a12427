"""--table: tables of one's own, with their types, keys and names, and nothing about them silently wrong."""

import contextlib
import itertools
import random
import re
import time

import perspective
import pytest
from chain import SOURCES, Chain, Database
from helpers import wait_until

from bridge.columns import ROW, UNSHOWN


@contextlib.contextmanager
def sites_of(kind, sources, shared_stand_in, folder):
    """A chain of this kind for each source, on one database, each with a server of all TABLES, most without rows."""
    database = Database(folder, shared_stand_in)
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    quoted = [name if name.isascii() and name.isidentifier() else f"`{name}`" for name in TABLES]
    with contextlib.ExitStack() as ended:
        ended.callback(database.close)
        for name, columns in TABLES.items():
            database.query(f"CREATE TABLE {{db}}.`{name}` ({columns})")
        sites = [ended.enter_context(kind(database, folder)) for _ in sources]
        for ago_s in (400, 100):  # the first one is older than the servers' history
            insert(sites[0], "types", NULLS, ago_s=ago_s)
        for site, source in zip(sites, sources, strict=True):
            site.source = source
            flags = ["--history", "5m", "--interval", 1000]  # many tables are polled
            site.running = site.server_of(*(f"{{db}}.{name}" for name in quoted), flags=flags)
        yield sites


@pytest.fixture(scope="module")
def sites(shared_stand_in, tmp_path_factory):
    with sites_of(Chain, SOURCES, shared_stand_in, tmp_path_factory.mktemp("sites")) as sites:
        yield sites


@pytest.fixture
def chain(database, tmp_path):
    """A Chain of this test's own."""
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    with Chain(database, tmp_path) as chain:
        yield chain


def wait_for(chain, title, rows):
    wait_until(lambda: chain.health()["tables"][title]["rows"] == rows, 30, chain.health)
    return chain.health()["tables"][title]


def insert(chain, table, *rows, ago_s=0):
    """Rows as texts, each with a time of its own."""
    stamp = time.time_ns() // 1000 - ago_s * 10**6
    values = " ".join(f"({stamp + k}, {row})" for k, row in enumerate(rows))
    chain.database.query(f"INSERT INTO {{db}}.{table} VALUES {values}")


ALL = (
    "ts TIMESTAMP, b BOOL, i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, u8 TINYINT UNSIGNED, "
    "u16 SMALLINT UNSIGNED, u32 INT UNSIGNED, u64 BIGINT UNSIGNED, f FLOAT, d DOUBLE, v VARCHAR(20), n NCHAR(20), "
    "x VARBINARY(20), other TIMESTAMP, m DECIMAL(20, 4)"
)
LEAST = "true, -128, -32768, -2147483648, -9223372036854775807, 0, 0, 0, 0, -1.5, -1e300, '', '', '\\x', -1, -1.25"
MOST = "false, 127, 32767, 2147483647, 9223372036854775807, 255, 65535, 4294967295, 18446744073709551615, 1.5, 1e300, "
MOST += "'text', 'größe', '\\x00ff', 1795411690500000, 99999999.9999"
NULLS = ", ".join(["NULL"] * 16)
NAMES = ["`Machine Log`", '`it\'s <b>"Größe"</b>`']
RESERVED = ["__INDEX__", "__ROW_PATH__", "psp_okey", "psp_op", "psp_op_", "psp_strand_count", ROW, UNSHOWN, "tbname"]
WIDE = [f"größe_{k}".ljust(60, "x") for k in range(500)]
TABLES = {  # name: columns
    "types": ALL,
    "devices": "ts TIMESTAMP, v INT, w INT) TAGS (site NCHAR(10), `group` INT",
    "composite": "ts TIMESTAMP, id INT PRIMARY KEY, v FLOAT",
    "composite text": "ts TIMESTAMP, id VARCHAR(20) PRIMARY KEY, v FLOAT",
    "big": "ts TIMESTAMP, n BIGINT, serial BIGINT UNSIGNED",
    "Wide Table": "ts TIMESTAMP, " + ", ".join(f"`{name}` INT" for name in WIDE),
    "grows": "ts TIMESTAMP, a INT",
    "clocks": "ts TIMESTAMP, id INT PRIMARY KEY, v INT) TAGS (device INT",
    "reserved": f"ts TIMESTAMP, {', '.join(f'`{name}` INT' for name in RESERVED)}) TAGS (psp_pkey INT",
    **dict.fromkeys([name.strip("`") for name in NAMES], "`Zeit` TIMESTAMP, `select` INT, `a.b` INT, `it's` NCHAR(5)"),
}
PERSPECTIVE = {"ts": "datetime", "other": "datetime", "b": "boolean", "f": "float", "d": "float", "m": "float"}
PERSPECTIVE |= dict.fromkeys(["v", "n", "x"], "string")


def test_each_type_is_shown_exactly(sites):
    for site in sites:
        wait_for(site, "types", 1)
    insert(sites[0], "types", LEAST, MOST)
    for site in sites:
        wait_for(site, "types", 3)
        assert_types_are_shown(site)


def assert_types_are_shown(site):
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
    assert columns["other"] == [-1, 1795411690500]  # of microseconds, rounded towards the past
    assert columns["m"] == [-1.25, 99999999.9999]
    assert site.health()["tables"]["types"]["unshown_values"] == 0


def test_rows_of_two_subtables_with_equal_values_are_two_rows_and_shown_once(sites):
    sent = 0
    for _ in range(8):
        stamp = time.time_ns() // 1000
        values = " ".join(f"({stamp + k}, 1, 1)" for k in range(20))
        into = " ".join(
            f"{{db}}.`Device {name}` USING {{db}}.devices TAGS ('here', 1) VALUES {values}" for name in ("a", "B")
        )
        sites[0].database.query(f"INSERT INTO {into}")
        sent += 40
    for site in sites:
        wait_for(site, "devices", sent)
    polls = [site.health()["tables"]["devices"]["polls"] for site in sites]
    for site, least in zip(sites, polls, strict=True):
        wait_until(lambda s=site, n=least: s.health()["tables"]["devices"]["polls"] > n + 4, 20, "more polls")
        wait_for(site, "devices", sent)
        found = site.see("devices", group_by=["tbname"], columns=["v"])
        assert found["columns"]["__ROW_PATH__"] == [[], ["Device B"], ["Device a"]]
        assert found["columns"]["v"] == [sent, sent / 2, sent / 2]
        assert site.see("devices")["schema"]["site"] == "string"


def test_a_composite_key_tells_rows_of_one_time_apart(sites):
    stamp, keys = time.time_ns() // 1000, {"composite": "{}", "composite text": "'k{}'"}
    for table, key in keys.items():
        rows = " ".join(f"({stamp}, {key.format(k)}, 1)" for k in range(40))
        sites[0].database.query(f"INSERT INTO {{db}}.`{table}` VALUES {rows}")
    for site, table in itertools.product(sites, keys):
        wait_for(site, table, 40)
        assert len(set(site.see(table)["columns"]["id"])) == 40


def test_whole_numbers_beyond_a_doubles_stay_apart(sites):
    numbers = [9007199254740993, 9007199254740992] * 10
    insert(sites[0], "big", *(f"{number}, {2**64 - 1 - number % 2}" for number in numbers))
    for site in sites:
        assert wait_for(site, "big", 20)["error"] is None
        found = site.see("big", group_by=["n"], columns=["ts"], aggregates={"ts": "count"})["columns"]
        assert found["__ROW_PATH__"][1:] == [[9007199254740992], [9007199254740993]]
        assert found["ts"] == [20, 10, 10]
        assert set(site.see("big")["columns"]["serial"]) == {2**64 - 1, 2**64 - 2}


YEAR_S = 365 * 86_400
OFFSETS_S = [0, 0.6, -7, 3600, -3600, -2 * YEAR_S, 2 * YEAR_S]  # of devices' clocks


def test_rows_of_any_clocks_are_shown_once_or_counted(sites):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, sent, viewers = random.Random(seed), 0, []
    for site in sites:  # what is stored before is not wanted
        wait_until(lambda s=site: s.table_named("clocks")["polls"] > 1, 20, site.health)
    for _ in range(40):
        device = chance.randrange(len(OFFSETS_S) + 1)
        offset_s = [*OFFSETS_S, chance.uniform(-2 * YEAR_S, 2 * YEAR_S)][device]
        now_us, rows = time.time_ns() // 1000 + int(offset_s * 10**6), chance.randint(1, 30)
        stamps = [now_us - chance.randrange(3 * 10**6) for _ in range(rows)]
        values = " ".join(f"({stamp}, {sent + k}, {k})" for k, stamp in enumerate(stamps))
        into = f"{{db}}.clock_{device} USING {{db}}.clocks TAGS ({device}) VALUES {values}"
        sites[0].database.query(f"INSERT INTO {into}")
        sent += rows
        viewers = viewers or [site.viewer("clocks") for site in sites]
        time.sleep(chance.choice([0, 0, 0.05, 0.3]))

    def counted(site):
        table = site.table_named("clocks")
        return table["rows"] + table["missed_rows"]

    for site, viewer in zip(sites, viewers, strict=True):
        wait_until(lambda s=site: counted(s) == sent, 30, lambda s=site: (seed, sent, s.table_named("clocks")))
        wait_until(lambda s=site, v=viewer: v.distinct() == s.table_named("clocks")["rows"], 30, viewer.log)
        assert viewer.report()["twice"] == 0, seed


def test_names_of_any_kind(sites):
    for name in NAMES:
        insert(sites[0], name, "1, 2, 'x'", "3, 4, 'y'")
    for site in sites:
        for name in NAMES:
            wait_for(site, name.strip("`"), 2)
            assert list(site.see(name.strip("`"))["columns"]) == ["Zeit", "select", "a.b", "it's"]
        lines = site.running.stderr().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\d .* [A-Z]+ ", line) for line in lines), lines


def test_columns_with_names_that_perspective_or_the_bridge_use(sites):
    into = "{{db}}.`Reserved {0}` USING {{db}}.reserved TAGS ({0}) VALUES ({1}, {2})"
    values = ", ".join(map(str, range(len(RESERVED))))
    for k in range(1, 4):  # Perspective's own columns are there from the second update on
        stamp = time.time_ns() // 1000
        inserts = " ".join(into.format(device, stamp, values) for device in (5, 6))
        sites[0].database.query(f"INSERT INTO {inserts}")
        for site in sites:
            assert wait_for(site, "reserved", 2 * k)["unshown_values"] == 0
    shown = [f"{name}_" for name in RESERVED]
    shown[3:5] = ["psp_op__", "psp_op___"]  # psp_op_ is a column's own name
    for site in sites:
        columns = site.see("reserved")["columns"]
        assert list(columns) == ["ts", *shown, "psp_pkey_", "tbname"]
        assert [columns[name] for name in shown] == [[k] * 6 for k in range(len(RESERVED))]
        assert sorted(columns["psp_pkey_"]) == [5] * 3 + [6] * 3
        assert sorted(columns["tbname"]) == ["Reserved 5"] * 3 + ["Reserved 6"] * 3
        found = site.see("reserved", group_by=["psp_pkey_"], columns=["psp_strand_count_", "__ROW_PATH___"])["columns"]
        assert found == {"__ROW_PATH__": [[], [5], [6]], "psp_strand_count_": [30, 15, 15], "__ROW_PATH___": [6, 3, 3]}


def test_a_wide_table(sites):
    """As the viewer shows it: with an aggregate for each column, which takes more than most requests may."""
    insert(sites[0], "`Wide Table`", *[", ".join(["7"] * len(WIDE))] * 10)
    for site in sites:
        wait_for(site, "Wide Table", 10)
        found = site.see("Wide Table", columns=WIDE, aggregates=dict.fromkeys(WIDE, "sum"))["columns"]
        assert [list(found), found[WIDE[-1]]] == [WIDE, [7] * 10]
        with pytest.raises(perspective.PerspectiveError, match="can be grouped"):
            site.see("Wide Table", columns=WIDE, group_by=WIDE[:1])
        wait_until_subscribed(site, "Wide Table")


def wait_until_subscribed(site, title):
    if site.source == "subscribe":
        wait_until(lambda: site.table_named(title)["subscriptions"] >= 1, 20, site.health)


def test_a_column_added_or_a_table_made_anew_is_noticed(sites):
    database = sites[0].database
    insert(sites[0], "grows", "1", "2")
    for site in sites:
        wait_for(site, "grows", 2)
        wait_until_subscribed(site, "grows")
    database.query("ALTER TABLE {db}.grows ADD COLUMN b INT")
    for site in sites:
        wait_until(lambda s=site: "b" in s.table_named("grows")["columns"], 20, site.health)
    insert(sites[0], "grows", "3, 4")
    for site in sites:
        wait_for(site, "grows", 3)
        found = site.see("grows", sort=[["a", "asc"]])["columns"]
        assert (found["a"], found["b"]) == ([1, 2, 3], [None, None, 4])
    database.query("DROP TABLE {db}.grows")
    database.query("CREATE TABLE {db}.grows (ts TIMESTAMP, b INT)")
    insert(sites[0], "grows", "9")
    for site in sites:
        wait_until(lambda s=site: "a" not in s.table_named("grows")["columns"], 20, site.health)
        wait_for(site, "grows", 1)
        assert site.see("grows")["columns"]["b"] == [9]


def test_sums_with_a_limit_two_tables_of_one_name_a_dataset_old_rows_and_no_table(chain, database):
    """One server of all of them: what a site's server can't show, which has --history and rows within its limit."""
    kinds = ["TINYINT", "SMALLINT", "INT", "BIGINT"]
    kinds += [f"{kind} UNSIGNED" for kind in kinds] + ["FLOAT"]
    columns = ", ".join(f"c{k} {kind}" for k, kind in enumerate(kinds))
    database.query(f"CREATE TABLE {{db}}.sums (ts TIMESTAMP, {columns})")
    database.query("CREATE TABLE {db}.old (ts TIMESTAMP, v INT)")
    stamp = time.time_ns() // 1000 - 600 * 10**6
    database.query(f"INSERT INTO {{db}}.old VALUES ({stamp}, 1) ({stamp + 1}, 2)")
    other = f"{database.name}_x"
    database.query(f"CREATE DATABASE {other}")
    try:
        same = [f"{name}.same" for name in (database.name, other)]
        for table in same:
            database.query(f"CREATE TABLE {table} (ts TIMESTAMP, v INT)")
        flags = ["--dataset", "stocks", "--limit", "40", "--interval", 500]
        others = {"old": "--history", "nosuch": "no table", "ins_tables": "not a table with a time column"}
        names = ["{db}.sums", "{db}.old", "{db}.nosuch", "information_schema.ins_tables"]
        chain.server_of(*same, *names, flags=flags)
        wait_until(lambda: len(chain.health()["tables"]) == 7, 20, chain.health)
        assert set(chain.health()["tables"]) == {"stock_values", *same, "sums", *others}
        for title, words in others.items():
            wait_until(lambda t=title, w=words: w in (chain.table_named(t)["error"] or ""), 20, chain.health)
            assert "producer.py" not in chain.table_named(title)["error"]
        assert_sums_are_those_of_the_rows_held(chain)
        # a topic of a server that subscribes would keep TDengine from dropping a column
        database.query("ALTER TABLE {db}.sums DROP COLUMN c8")
        wait_until(lambda: "c8" not in chain.table_named("sums")["columns"], 20, chain.health)
        wait_until(lambda: chain.table_named("sums")["held"] == 40, 20, chain.health)
    finally:
        database.query(f"DROP DATABASE {other}")


def assert_sums_are_those_of_the_rows_held(chain):
    for batch in range(4):
        insert(chain, "sums", *[", ".join([str((k * 37 + batch * 11) % 127)] * 9) for k in range(20)])
        wait_for(chain, "sums", 20 * (batch + 1))
    found = chain.see("sums")["columns"]
    total = chain.see("sums", group_by=["c0"], columns=[f"c{k}" for k in range(9)])["columns"]
    for name in found.keys() - {"ts"}:
        assert total[name][0] == sum(found[name]), name
