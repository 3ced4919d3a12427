"""The Node pair: the same counts as with the Python pair."""

import json
import shutil
import signal
import subprocess

import pytest
from chain import Chain, assert_each_row_shown_once, sent
from helpers import ROOT
from node_chain import NODE, NodeChain, skip_without_node
from test_counts import (  # noqa: F401 (pytest runs them with this module's chain)
    test_a_database_of_another_precision,
    test_an_existing_table_keeps_its_rows_unless_reset,
    test_both_datasets_at_once,
    test_default_pace,
    test_rows_from_before_the_servers_start_are_not_shown,
    test_ten_times_the_default_pace,
    test_two_producers_at_once,
    test_two_subtables_with_the_same_timestamp,
    test_without_an_interval_rows_go_as_fast_as_they_are_taken,
)
from test_run import Demo, only_line
from test_run import sent as sent_in

skip_without_node()


@pytest.fixture
def chain(database, tmp_path, source):
    with NodeChain(database, tmp_path) as chain:
        yield chain


def test_a_python_producer_and_a_node_producer_at_once(chain, database, tmp_path):
    """They write the same tables, and either server reads them."""
    chain.server(limit=20_000)
    viewer = chain.viewer()
    with Chain(database, tmp_path) as python_chain:
        producers = [chain.producer("--batches", 20), python_chain.producer("--batches", 20)]
        for producer in producers:
            assert producer.wait(40) == 0, producer.log()
        assert_each_row_shown_once(chain, viewer, sent(*producers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_both_cleanly(chain, number):
    server, producer = chain.server(), chain.producer()
    viewer = chain.viewer()
    chain.wait_for_rows(500, 30)
    producer.signal(number)
    assert producer.wait(6) == 0, producer.log()
    assert_each_row_shown_once(chain, viewer, sent(producer))
    server.signal(number)
    assert server.wait(3) == 0, server.log()
    assert viewer.process.wait(5) == 1
    assert "1001" in viewer.process.stderr()


# Its own checks, and run.sh --node


def test_the_linter_has_nothing_to_say():
    done = subprocess.run(["npm", "run", "--silent", "lint"], cwd=NODE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_its_parts():
    done = subprocess.run(["npm", "test", "--silent"], cwd=NODE, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


@pytest.fixture
def demo(tmp_path):
    """A copy of the demo with node/, its packages linked."""
    demo = Demo(tmp_path)
    shutil.copytree(NODE, demo.folder / "node", ignore=shutil.ignore_patterns("node_modules"))
    (demo.folder / "node/node_modules").symlink_to(NODE / "node_modules")
    yield demo
    demo.close()


@pytest.mark.parametrize("dataset", ["stocks", "all"])
def test_run_sh_runs_the_node_pair(demo, dataset):
    process = demo.start("--node", "--dataset", dataset)
    demo.wait_for_rows(process)
    lines = list(demo.processes().values())
    assert [line for line in lines if "node/server.js" in line]
    assert len([line for line in lines if "node/producer.js" in line]) == (2 if dataset == "all" else 1)
    assert not [line for line in lines if "producer.py" in line or "perspective_server.py" in line]
    process.signal(signal.SIGINT)
    demo.assert_ended(process, 0)
    assert sent_in(process.stdout()) > 0


@pytest.mark.parametrize("part", ["producer.js", "server.js"])
def test_run_sh_ends_when_a_part_of_the_node_pair_dies(demo, part):
    process = demo.start("--node")
    demo.wait_for_rows(process)
    subprocess.run(["kill", "-9", str(demo.pid(f"node/{part}"))], check=True)
    demo.assert_ended(process, 1)
    assert "has ended with status 137" in process.stderr()


def test_run_sh_says_what_is_missing_for_the_node_pair(demo, tmp_path):
    old = tmp_path / "bin"
    old.mkdir()
    (old / "node").write_text("#!/bin/sh\necho v18.20.8\n")
    (old / "node").chmod(0o755)
    path = f"{old}:{demo.environ['PATH']}"
    assert "this is 18.20.8" in only_line(demo.run("--node", "--no-install", "--port", demo.port, PATH=path))
    (demo.folder / "node/node_modules").unlink()
    assert "npm ci" in only_line(demo.run("--node", "--no-install", "--port", demo.port))


def test_the_server_without_its_packages_ends_in_one_line(demo):
    for name in ("node/node_modules", "node_modules"):  # Node looks in the folders above, too
        (demo.folder / name).unlink(missing_ok=True)
    done = subprocess.run(["node", demo.folder / "node/server.js"], capture_output=True, text=True, timeout=20)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "npm ci" in done.stderr


def test_a_port_that_is_taken_ends_in_one_line(chain):
    chain.server()
    done = subprocess.run(
        ["node", NODE / "server.js", "--port", str(chain.port)], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert str(chain.port) in done.stderr


def test_the_same_versions_of_perspective_everywhere():
    versions = set()
    for folder in (ROOT, NODE):
        for name, version in json.loads((folder / "package.json").read_text())["dependencies"].items():
            if name.startswith("@perspective-dev/"):
                versions.add(version)
    lock = json.loads((NODE / "package-lock.json").read_text())["packages"]
    versions |= {entry["version"] for name, entry in lock.items() if "@perspective-dev/" in name}
    assert len(versions) == 1, versions
