"""Each benchmark runs with a tiny setting and prints its rows; how good the figures are does not matter here."""

import re
import sys

import pytest
from helpers import ROOT, python

RUNS = {  # script and tiny setting: rows that it prints
    "share.py --viewers 2 --seconds 0.3": 1,
    "viewers.py --steps 2 --seconds 0.3": 2,
    "rush.py --viewers 5": 1,
    "age.py --source subscribe --interval 100 --seconds 1": 1,
    "stand_in.py --rows 5000 --seconds 0.3": 3,
    "page.py --times 1 --seconds 0.3": 3,
    "soak.py --minutes 0.01": 5,
    "pictures.py --steps 1 --seconds 0.3": 1,
}
SHARED = {"measure.py", "load.py"}


@pytest.mark.parametrize("command", RUNS)
def test_a_benchmark_prints_its_rows(command, tmp_path):
    args = command.split()
    if args[0] == "pictures.py":
        pytest.importorskip("matplotlib", reason="benchmarks/requirements.txt is not installed")
        args += ["--out", tmp_path]
    done = python(ROOT / "benchmarks" / args[0], *args[1:], timeout=170, env={"TDENGINE_DSN": ""})
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert len(rows) == RUNS[command], rows
    for row in rows:
        measure, database, figure, _, verdict = (cell.strip() for cell in row.strip("|").split("|"))
        assert measure
        assert database == "stand-in"
        assert re.search(r"\d", figure), row
        assert verdict in ("met", "**missed**", "")
    if args[0] == "pictures.py":
        assert (tmp_path / "cost-viewers.png").read_bytes().startswith(b"\x89PNG")


def test_every_benchmark_is_run_here_and_has_its_figures():
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")} - SHARED
    assert scripts == {command.split()[0] for command in RUNS}
    figures = (ROOT / "docs/figures.md").read_text()
    assert set(re.findall(r"benchmarks/(\w+\.py)", figures)) == scripts | SHARED - {"load.py"}


def test_the_head_of_the_table_fits_the_rows():
    machine, _, head, line = python(ROOT / "benchmarks/measure.py").stdout.splitlines()
    assert re.match(r"\d+ cores of .+, Python 3\.", machine)
    assert head.count("|") == line.count("|") == 6


def test_a_benchmark_reports_in_one_line_that_no_tdengine_answers():
    dsn = "ws://root:secret@127.0.0.1:9/?conn_retries=1"
    done = python("benchmarks/share.py", timeout=100, env={"TDENGINE_DSN": dsn})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "secret" not in done.stderr


def test_a_page_that_nobody_serves_is_named_in_one_line():
    done = python("benchmarks/page.py", "--url", "http://127.0.0.1:9/", timeout=100)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "http://127.0.0.1:9/" in done.stderr
    done = python("benchmarks/page.py", "--url", "http://127.0.0.1:9/", "--first", timeout=100)
    assert (done.returncode, "choose one" in done.stderr) == (2, True), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_shares_and_memory_hold_all_processes_below_one():
    code = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import measure
burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
process = subprocess.Popen([sys.executable, "-c", burn])
measure.wait_until(lambda: len(measure.family(process.pid)) == 2, 20, "a child")
before = measure.cpu_s(measure.family(process.pid))
measure.wait_until(lambda: measure.cpu_s(measure.family(process.pid)) > before + 0.2, 30, "its child's work")
assert measure.memory_mb(*measure.family(process.pid)) > measure.memory_mb(process.pid) > 1
for pid in reversed(measure.family(process.pid)):
    subprocess.run(["kill", str(pid)])
process.wait(10)
"""
    done = python("-c", code, timeout=90)
    assert done.returncode == 0, done.stderr
