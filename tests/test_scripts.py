"""What can be said of the scripts without a database: flags, errors, values, timestamps."""

import json
import pathlib
import re
import signal
import statistics
import subprocess
import sys

import pytest
from helpers import ROOT, free_port, python, refused, running, wait_until
from node_chain import is_there

import perspective_server
import producer
from bridge import columns, dsn, options, sql
from bridge.clock import Clock

MODULES = {"producer.py": producer, "perspective_server.py": perspective_server}
SCRIPTS = list(MODULES)
NODE = {"producer.py": "node/src/producer.js", "perspective_server.py": "node/src/server.js"}  # what behaves as it
START_NS = 1_795_411_690 * 10**9


def test_the_server_shows_the_tables_that_the_producer_makes():
    for name, (database, table, _) in perspective_server.DATASETS.items():
        made = producer.DATASETS[name]
        assert (made.database, made.table) == (database, table)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86_400)])
def test_history_is_a_number_of_seconds_minutes_hours_or_days(text, seconds):
    assert options.duration_s(text) == seconds


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_documentation_lists_each_flag_once_and_no_other(script, capsys, monkeypatch):
    text = (ROOT / "docs/operations.md").read_text().split(f"\n## {script}\n")[1].split("\n## ")[0]
    status, shown, _ = refused(MODULES[script].main, script, ["--help"], capsys, monkeypatch)
    assert status == 0
    flags = set(re.findall(r"(--[a-z-]+)", shown)) - {"--help"}
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `--")]
    assert sorted(re.findall(r"(--[a-z-]+)", "".join(table))) == sorted(flags)


BOTH = [
    ["--nonsense"],
    ["--nonsense", "x"],
    ["--interval"],
    ["--interval", "--database", "x"],
    ["--interval", "-1"],
    ["--interval", "soon"],
    ["--dataset", "bonds"],
    ["--database", "stocks`; DROP DATABASE power"],
    ["--database", ""],
    ["--database", "a" * 65],
    ["--dsn", "nonsense"],
    ["--dsn", "ws://root:sec/ret@localhost:6041"],
    ["--dsn", "ws://root:sec/ret#1@localhost:6041"],
    ["--dsn", "ws://root:sec/ret"],
    ["--password-file", "/nonexistent"],
    ["extra", "-x"],
]
OF_ONE = {
    "producer.py": [
        ["--rows", "0"],
        ["--rows", "500", "--backlog", "100"],
        ["--batches", "x"],
        ["--reset=1"],
    ],
    "perspective_server.py": [
        ["--port", "70000"],
        ["--limit", "0"],
        ["--table", "nodot"],
        *(["--history", text] for text in ("10", "0m", "-1m", "1.5h", "10 m", "1y", "")),
        ["--allow-origin", "localhost"],
        ["--prefix", "demo"],
        ["--keyfile", "/nonexistent"],
        ["--certfile", "/nonexistent", "--keyfile", "/nonexistent"],
        ["--log-level", "loud"],
    ],
}
OF_PYTHON = {"producer.py": [], "perspective_server.py": [["--source", "push"]]}


def one_line(script, flags, capsys, monkeypatch):
    """What is said of these flags."""
    status, shown, said = refused(MODULES[script].main, script, flags, capsys, monkeypatch)
    assert (status, shown, len(said.splitlines())) == (2, "", 1), (flags, said)
    assert "sec/ret" not in said, flags
    return said


# What the Node scripts say of each list of flags: [exit status, standard output, standard error].
NODE_REFUSALS = """
import fs from "node:fs";
import { producerOptions, serverOptions } from "./node/src/lib/options.js";
const datasets = { stocks: {}, meters: {} };
const found = [];
process.execArgv = []; // or parseArgs looks for flags where those of -e are
process.exit = (status) => {
  throw { status };
};
let [shown, said] = ["", ""];
const print = process.stdout.write.bind(process.stdout);
process.stdout.write = (text) => (shown += text);
process.stderr.write = (text) => (said += text);
const [script, ...lists] = JSON.parse(fs.readFileSync(0));
for (const flags of lists) {
  [shown, said] = ["", ""];
  process.argv = ["node", script, ...flags];
  try {
    (script.endsWith("producer.js") ? producerOptions : serverOptions)("", datasets);
    found.push([0, shown, said]);
  } catch (error) {
    found.push([error.status ?? error.stack, shown, said]);
  }
}
print(JSON.stringify(found));
"""


def node(*args, **kwargs):
    return subprocess.run(["node", *args], cwd=ROOT, capture_output=True, text=True, timeout=120, **kwargs)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_bad_flag_ends_in_one_line_and_status_2_and_node_says_the_same(script, capsys, monkeypatch):
    bad = BOTH + OF_ONE[script]
    ours = [one_line(script, flags, capsys, monkeypatch) for flags in bad + OF_PYTHON[script]][: len(bad)]
    if not is_there():
        return
    done = node("--input-type=module", "-e", NODE_REFUSALS, input=json.dumps([NODE[script], *bad]))
    assert done.returncode == 0, done.stderr
    for flags, line, (status, shown, said) in zip(bad, ours, json.loads(done.stdout), strict=True):
        assert (status, shown, len(said.splitlines())) == (2, "", 1), (flags, said)
        if "keyfile" not in line:  # each TLS library has words of its own
            line = line.lower().replace(script, pathlib.Path(NODE[script]).name)
            assert said.lower().replace("'", "") == line.replace("'", ""), flags  # since Python 3.12 without quotes


@pytest.mark.parametrize("script", SCRIPTS)
def test_version_and_a_flag_too_many(script, capsys, monkeypatch):
    version = refused(MODULES[script].main, script, ["--version"], capsys, monkeypatch)
    assert version == (0, f"{script} {options.VERSION}\n", "")
    ended = [python(script, "--nonsense")]
    if is_there():
        ended.append(node(NODE[script], "--nonsense"))
        assert node(NODE[script], "--version").stdout == f"{pathlib.Path(NODE[script]).name} {options.VERSION}\n"
    for done in ended:
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_package_is_named_in_one_line(script, tmp_path):
    for package in ("taosws", "tornado"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('No module named it')")
    done = python(script, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "./install.sh" in done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://root:p%23%2F@localhost:6041/power", "ws://localhost:6041"),
        ("taosws://root:taosdata@[::1]:6041", "ws://[::1]:6041"),
        ("taos+ws://root:taosdata@db.example", "ws://db.example"),
        ("wss://u:p@a.example:6041,b.example:6041?token=geheim", "wss://a.example:6041,b.example:6041"),
    ],
)
def test_dsns_of_every_kind_are_taken_and_shown_without_secrets(text, shown):
    found = dsn.tdengine(text)
    assert found.shown == shown
    assert found.url.split("://")[0] in ("ws", "wss")
    assert found.hide(f"failed: {text}").count("geheim") == 0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("factory.sensors", ("factory", "sensors")),
        ("factory.`Machine Log`", ("factory", "Machine Log")),
        ("`Größe.1`.`a.b`", ("Größe.1", "a.b")),
        ("Factory.Sensors", ("Factory", "Sensors")),
    ],
)
def test_names_of_tables_are_taken_as_they_are(text, parts):
    assert sql.split_name(text) == parts


NODE_TOPICS = """
import fs from "node:fs";
import { topicOf } from "./node/src/lib/names.js";
console.log(JSON.stringify(JSON.parse(fs.readFileSync(0)).map((each) => topicOf(...each))));
"""


def test_topics_of_two_tables_are_two():
    names = [("stocks", "stocks_values"), ("a", "b_c"), ("a_b", "c"), ("a", "b"), ("a_", "b"), ("a", "_b")]
    names += [("a", letter * 190 + end) for letter in "bé" for end in "xy"] + [("_" * 64, "é" * 95)]
    topics = [sql.topic_of(*each) for each in names]
    assert len(set(topics)) == len(names)
    assert max(len(topic.encode()) for topic in topics) <= 64  # TDengine's bound for a consumer
    if is_there():
        found = node("--input-type=module", "-e", NODE_TOPICS, input=json.dumps(names))
        assert json.loads(found.stdout) == topics, found.stderr


def test_a_geometry_is_shown_exactly():
    texts = json.loads((ROOT / "tests/geometries.json").read_text())  # {text: bytes as a real TDengine has them}
    values = [*map(bytes.fromhex, texts.values()), None, b"\1\2\0\0\0\xff\xff\xff\xff", b"\1\11\0\0\0", b""]
    column = columns.column("g", "GEOMETRY(200)", "ms")
    shown = columns.to_arrow([(value,) for value in values], [column])
    assert column.expression == "`g`"
    assert shown.column("g").to_pylist() == [*texts, None, None, None, None]
    assert shown.column(columns.UNSHOWN).to_pylist()[len(texts) :] == [0, 1, 1, 1]


def test_a_port_that_is_taken_ends_in_one_line_and_one_that_waits_for_its_first_poll_on_a_signal(tmp_path):
    port = free_port()
    args = [sys.executable, "perspective_server.py", "--port", port, "--interval", "60000"]
    with running(args, tmp_path) as first:
        wait_until(lambda: "page at" in first.stderr(), 40, first.log)
        done = python("perspective_server.py", "--port", port)
        first.signal(signal.SIGINT)
        assert first.ends_within(15) == 0
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{port}" in done.stderr


def stamps(batch, rows=250):
    return range(START_NS + batch * 250_000_000, START_NS + (batch + 1) * 250_000_000, 250_000_000 // rows)


def test_stocks_move_visibly_and_keep_low_and_high_around_open_and_close():
    stocks = producer.Stocks(7)
    batches = [stocks.gen_data(stamps(k)) for k in range(80)]  # 20 s
    closes = {}
    for batch in batches:
        for row in zip(*(batch[name] for name in ("ticker", "open", "high", "low", "close")), strict=True):
            ticker, opening, high, low, close = row
            assert 0 < low <= min(opening, close) <= max(opening, close) <= high < 600
            assert not closes.get(ticker) or closes[ticker][-1] == opening
            closes.setdefault(ticker, []).append(close)
        assert all(10_000 <= volume <= 100_000 for volume in batch["volume"])
    assert set(closes) == set(producer.TICKERS)
    assert statistics.median(max(each) / min(each) for each in closes.values()) > 1.01


def test_a_seed_repeats_the_values():
    for dataset in producer.DATASETS.values():
        first, again, other = (dataset(seed).gen_data(stamps(0)) for seed in (5, 5, 6))
        assert first == again != other


def test_meters_wander_around_a_level_of_their_own():
    meters = producer.Meters(7)
    batches = [meters.gen_data(stamps(k)) for k in range(40)]
    assert all(200 <= voltage <= 225 for batch in batches for voltage in batch["voltage"])
    for name in ("current", "phase"):
        series = [[v for b in batches for v, of in zip(b[name], b["meter"], strict=True) if of == m] for m in range(10)]
        steps = [abs(a - b) for values in series for a, b in zip(values, values[1:], strict=False)]
        levels = [statistics.mean(values) for values in series]
        assert max(levels) - min(levels) > statistics.median(steps)


@pytest.mark.parametrize(
    ("units", "rows", "interval"), [(10**9, 250, 250), (10**6, 5000, 250), (10**3, 250, 250), (10**9, 5000, 0)]
)
def test_stamps_are_distinct_and_spread_over_the_interval(units, rows, interval):
    clock = Clock(interval, rows, units)
    found = [stamp // (10**9 // units) for _ in range(20) for stamp in clock.stamps()]
    assert found == sorted(set(found))
    if interval:
        assert (found[rows - 1] - found[0]) / units == pytest.approx(interval / 1000, rel=0.01)


def test_a_pace_at_which_stamps_could_not_be_distinct_is_refused():
    with pytest.raises(ValueError, match="timestamps of their own"):
        Clock(250, 251, 10**3)
