"""What can be said of the scripts without a database: flags, errors, and that what they repeat is equal."""

import inspect
import re
import signal
import sys

import pytest
from helpers import ROOT, free_port, python, running, wait_until

import perspective_server
import producer

SCRIPTS = ["producer.py", "perspective_server.py"]


def section(script):
    """The README's part on one script."""
    return (ROOT / "README.md").read_text().split(f"\n### {script}\n")[1].split("\n### ")[0]


@pytest.mark.parametrize("name", ["split_dsn", "identifier", "Parser"])
def test_what_both_scripts_repeat_is_equal(name):
    ours, theirs = (inspect.getsource(getattr(module, name)) for module in (producer, perspective_server))
    assert re.sub("#.*", "", ours) == re.sub("#.*", "", theirs)


@pytest.mark.parametrize("dataset", ["stocks", "meters"])
def test_the_server_reads_the_columns_that_the_producer_creates(dataset):
    made, read = producer.DATASETS[dataset], perspective_server.DATASETS[dataset]
    assert (made.database, made.table) == (read["database"], read["table"])
    created = re.findall(r"`?(\w+)`? (?:TIMESTAMP|NCHAR|BINARY|FLOAT|INT)", made.create)
    assert [column for column in read["columns"] if column != "tbname"] == created
    assert read["time"] == created[0]


@pytest.mark.parametrize(("text", "ms"), [("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000)])
def test_history_is_a_number_of_seconds_minutes_hours_or_days(text, ms):
    assert perspective_server.parse_arguments(["--history", text]).history == ms


def test_both_scripts_know_the_topic_by_the_same_name():
    names = [module.topic_of("stocks", "stocks_values") for module in (producer, perspective_server)]
    assert names == ["perspective_stocks_stocks_values"] * 2


@pytest.mark.parametrize("dataset", ["stocks", "meters"])
def test_the_page_knows_the_tables_that_the_server_hosts(dataset):
    page = (ROOT / "prsp-viewer.html").read_text()
    assert perspective_server.DATASETS[dataset]["name"] in page


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_readme_lists_each_flag_once_and_no_other(script):
    flags = set(re.findall(r"(--[a-z-]+)", python(script, "--help").stdout)) - {"--help"}
    table = [line.split("|")[1] for line in section(script).splitlines() if line.startswith("| `--")]
    assert sorted(re.findall(r"(--[a-z-]+)", "".join(table))) == sorted(flags)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_readme_tells_the_defaults(script):
    told = dict(re.findall(r"\| `(--[a-z-]+) [^|]*` \| (\d+) \|", section(script)))
    defaults = dict(re.findall(r"(--[a-z-]+) [A-Z]+\s[^-]*?\(default:\s+(\d+)", python(script, "--help").stdout))
    assert told.items() <= defaults.items()
    assert len(told) >= 3


BAD = [
    ["--nonsense"],
    ["--interval", "-1"],
    ["--interval", "soon"],
    ["--dataset", "bonds"],
    ["--database", 'stocks"; DROP DATABASE power'],
    ["--database", "a.b"],
    ["--dsn", "nonsense"],
    ["--dsn", "ws://root:sec/ret@localhost:6041"],
    ["--password-file", "/nonexistent"],
    ["extra"],
]


@pytest.mark.parametrize("flags", BAD, ids=" ".join)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_bad_flag_ends_in_one_line_and_status_2(script, flags):
    done = python(script, *flags)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "sec/ret" not in done.stderr


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("producer.py", ["--rows", "0"]),
        ("producer.py", ["--rows", "500", "--backlog", "100"]),
        ("producer.py", ["--batches", "x"]),
        ("perspective_server.py", ["--port", "70000"]),
        ("perspective_server.py", ["--limit", "0"]),
        ("perspective_server.py", ["--source", "push"]),
        *(("perspective_server.py", ["--history", text]) for text in ("10", "0m", "-1m", "1.5h", "10 m", "1y", "")),
        ("perspective_server.py", ["--allow-origin", "localhost"]),
        ("perspective_server.py", ["--prefix", "demo"]),
        ("perspective_server.py", ["--certfile", "/nonexistent", "--keyfile", "/nonexistent"]),
    ],
)
def test_a_bad_flag_of_one_script_ends_in_one_line_and_status_2(script, flags):
    done = python(script, *flags)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_port_that_is_taken_ends_in_one_line_and_status_1(tmp_path):
    port = free_port()
    with running([sys.executable, "perspective_server.py", "--port", port], tmp_path) as first:
        wait_until(lambda: "page at" in first.stderr(), 20, first.log)
        done = python("perspective_server.py", "--port", port)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{port}" in done.stderr


def test_a_server_that_waits_for_its_first_poll_ends_on_a_signal(tmp_path):
    args = [sys.executable, "perspective_server.py", "--port", "0", "--interval", "60000"]
    with running(args, tmp_path) as server:
        wait_until(lambda: "page at" in server.stderr(), 20, server.log)
        server.signal(signal.SIGINT)
        assert server.wait(5) == 0


def test_stocks_walk_and_keep_low_and_high_around_open_and_close():
    stocks = producer.Stocks()
    batches = [stocks.make(250) for _ in range(40)]
    for batch in batches:
        assert (batch["low"] <= batch["open"]).all()
        assert (batch["low"] <= batch["close"]).all()
        assert (batch["high"] >= batch["open"]).all()
        assert (batch["high"] >= batch["close"]).all()
        assert (batch["high"] < 500).all()
        assert ((batch["volume"] >= 10_000) & (batch["volume"] <= 100_000)).all()
    first, second = batches[:2]
    for ticker in range(len(producer.TICKERS)):
        of_first, of_second = first["ticker"] == ticker, second["ticker"] == ticker
        if of_first.any() and of_second.any():
            assert first["close"][of_first][-1] == second["open"][of_second][0]


def test_meters_wander_around_a_level_of_their_own():
    meters = producer.Meters()
    batches = [meters.make(250) for _ in range(40)]
    assert all(((batch["voltage"] >= 200) & (batch["voltage"] <= 225)).all() for batch in batches)
    for name in ("current", "voltage", "phase"):
        of_meters = [[batch[name][batch["meter"] == meter] for batch in batches] for meter in range(10)]
        steps = max(
            abs(a - b) for series in of_meters for batch in series for a, b in zip(batch, batch[1:], strict=False)
        )
        levels = [sum(map(sum, series)) / sum(map(len, series)) for series in of_meters]
        assert max(levels) - min(levels) > steps


@pytest.mark.parametrize(
    ("units", "rows", "interval"), [(10**9, 250, 250), (10**6, 5000, 250), (10**3, 250, 250), (10**9, 5000, 0)]
)
def test_stamps_are_distinct_and_spread_over_the_interval(units, rows, interval):
    beat = producer.Beat(interval, rows)
    stamps = [stamp // (10**9 // units) for _ in range(20) for stamp in beat.stamps(units).tolist()]
    assert stamps == sorted(set(stamps))
    if interval:
        assert (stamps[rows - 1] - stamps[0]) / units == pytest.approx(interval / 1000, rel=0.01)


def test_a_pace_at_which_stamps_could_not_be_distinct_is_refused():
    with pytest.raises(ValueError, match="timestamps of their own"):
        producer.Beat(250, 251).stamps(10**3)
