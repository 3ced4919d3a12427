"""clickhouse/run.sh: what differs from run.sh above, by whose launcher it is started."""

import os
import signal
import socket
import subprocess

import pytest
from chain import listens
from clickhouse_chain import ClickHouse
from demo import ENDS_S, Demo, only_line, sent
from helpers import health, wait_until


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path, "clickhouse")
    yield demo
    demo.close()


@pytest.fixture
def database(tmp_path):
    database = ClickHouse(tmp_path)
    yield database
    database.close()


def test_rows_of_the_embedded_engine_are_shown_and_it_ends_as_a_whole(demo):
    # the second time with what the first has stored
    for flags, number in (([], signal.SIGINT), (["--history", "10m"], signal.SIGTERM)):
        process = demo.start(*flags)
        shown = demo.wait_for_rows(process)
        assert f"using ClickHouse's engine in process on port {demo.clickhouse_port}" in shown
        assert list(health(demo.port)["tables"]) == ["stock_values"]
        demo.end(process, number)
        assert sent(process.stdout()) > 0
        assert not listens(demo.clickhouse_port)


def test_the_death_of_a_service_ends_all(demo, database):
    process = demo.start(CLICKHOUSE_DSN=f"{database.dsn}/{database.name}")
    shown = demo.wait_for_rows(process)
    assert "(CLICKHOUSE_DSN)" in shown
    assert f"storing rows in {database.name}.stock_values there" in shown
    os.kill(demo.pid("producer.py"), signal.SIGKILL)
    demo.assert_ended(process, 1)
    assert "run.sh: producer has ended with status 137" in process.stderr()


def test_a_clickhouse_that_answers_already_is_used(demo, database):
    port = database.dsn.rpartition(":")[2]
    process = demo.start(CLICKHOUSE_PORT=port)
    assert f"which answers on localhost:{port}" in demo.wait_for_rows(process)
    demo.end(process)
    # unless the engine in process is insisted on
    process = demo.start("--embedded", CLICKHOUSE_PORT=port)
    wait_until(lambda: "(--embedded)" in process.stdout(), 30, process.log)
    demo.wait_for_rows(process)
    process.signal(signal.SIGTERM)
    assert process.ends_within(ENDS_S) == 0


def test_another_program_on_its_port(demo):
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = demo.start(CLICKHOUSE_PORT=other.getsockname()[1])
        wait_until(lambda: "something that is no ClickHouse" in process.stdout(), 60, lambda: demo.log(process))
        demo.end(process)


@pytest.mark.parametrize(
    ("dsn", "status", "words"),
    [
        ("clickhouse://a:secret@localhost:notaport", 2, "CLICKHOUSE_DSN"),
        (
            "http://a:secret@127.0.0.1:{free}",
            1,
            "no ClickHouse answers at http://127.0.0.1:{free} (Connection refused)",
        ),
        ("http://a:secret@127.0.0.1:{database}", 1, "refuses the user or password"),
    ],
    ids=["no DSN", "nothing there", "refused"],
)
def test_what_is_wrong_with_the_dsn_is_reported(demo, database, dsn, status, words):
    if not database.is_embedded:
        pytest.skip("another server may let that user in")
    ports = {"free": demo.clickhouse_port, "database": database.dsn.rpartition(":")[2]}
    done = demo.run("--no-install", "--port", demo.port, CLICKHOUSE_DSN=dsn.format(**ports))
    assert words.format(**ports) in only_line(done, status)
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["--dataset", "meters"],
        ["--port", "0"],
        ["--install", "--no-install"],
        ["--docker", "--embedded"],
    ],
    ids=" ".join,
)
def test_invalid_arguments(demo, args):
    only_line(demo.run(*args), status=2)


def test_installs_only_on_request_into_its_own_folder(demo):
    script = demo.folder / "install.sh"
    script.write_text('#!/bin/sh\necho "install.sh $*"\n')
    (demo.home / "requirements.txt").write_text("a-package-that-is-not-there==1.0\n")
    done = demo.run("--install")
    assert (done.returncode, done.stdout) == (0, "install.sh --clickhouse\n")
    assert demo.processes() == {}


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"]], ids=" ".join)
def test_runs_by_any_shell_through_a_link(demo, shell):
    for name in ("run.sh", "docker.sh"):
        (demo.outputs / name).symlink_to(demo.home / name)
        done = subprocess.run(
            [*shell, name, "--help"], cwd=demo.outputs, capture_output=True, text=True, timeout=60, check=True
        )
        assert "usage: " in done.stdout
