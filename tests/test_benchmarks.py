"""Each benchmark runs with its shortest setting and tells its figures; how large they are is no matter here."""

import re
import subprocess

import pytest
from helpers import ROOT, python

RUNS = {  # script and shortest setting: figures it tells
    "server_share.py --viewers 0 --seconds 0.5": 1,
    "viewers.py --mode grouped --mode local --steps 2 --seconds 0.5": 2,
    "age.py --interval 50 --seconds 0.5": 2,
    "source.py --seconds 0.5": 4,
    "producer_speed.py --rows 20000": 2,
    "producer_beat.py --seconds 1": 2,
    "stand_in.py --batches 2 --seconds 0.5": 2,
    "chain_share.py --seconds 0.5": 1,
    "limit.py --limit 1000 --seconds 0.5": 2,
    "page.py --times 1": 1,
    "start.py --times 1": 1,
}
SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py") if path.name != "measure.py")


@pytest.mark.parametrize("command", RUNS)
def test_a_benchmark_tells_its_figures_and_where_they_were_measured(command):
    if command.startswith(("page.py", "start.py")):
        for needed in (".venv", "node_modules"):
            if not (ROOT / needed).is_dir():
                pytest.skip(f"no {needed} here: ./install.sh")
    done = python(*f"benchmarks/{command}".split(), timeout=100)
    assert done.returncode == 0, done.stderr
    machine, database, *rows = done.stdout.splitlines()
    assert re.match(r"machine: \d+ cores? of .+, Python 3\.", machine)
    assert re.match(r"TDengine: .+", database)
    assert len(rows) == RUNS[command], rows
    for row in rows:
        what, figure, _, verdict = (cell.strip() for cell in row.strip("|").split("|"))
        assert what
        assert re.search(r"\d", figure), row
        assert verdict in ("met", "**missed**", "not judged")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_says_how_it_is_used(script):
    if script == "pictures.py":
        pytest.importorskip("matplotlib", reason="benchmarks/requirements.txt is not installed")
    done = python(f"benchmarks/{script}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage:" in done.stdout
    assert python(f"benchmarks/{script}", "--no-such-flag").returncode == 2


def test_a_benchmark_says_in_one_line_that_no_tdengine_answers():
    done = python("benchmarks/server_share.py", "--dsn", "ws://root:secret@127.0.0.1:9/?conn_retries=1", timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"server_share\.py: ws://127\.0\.0\.1:9 answers: .+\n", done.stderr)
    assert "secret" not in done.stderr


def test_the_table_script_tells_how_it_is_used_and_refuses_what_it_does_not_know():
    def run(*args):
        return subprocess.run([ROOT / "benchmarks/run.sh", *args], capture_output=True, text=True, timeout=10)

    assert (run("--help").returncode, run("--help").stderr) == (0, "")
    for wrong in (["--fast"], ["--dsn"], ["extra"]):
        done = run(*wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done


def test_the_table_script_runs_every_benchmark():
    scripts = (ROOT / "benchmarks/run.sh").read_text().partition("<<'SCRIPTS'\n")[2].partition("SCRIPTS\n")[0]
    assert sorted(line.split()[0] + ".py" for line in scripts.splitlines()) == sorted(
        {command.split()[0] for command in RUNS}
    )
    assert set(SCRIPTS) == {command.split()[0] for command in RUNS} | {"pictures.py", "viewer_load.py"}
