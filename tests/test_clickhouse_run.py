"""clickhouse/run.sh: what differs from run.sh above, by whose launcher it is started."""

import os
import signal
import socket

import pytest
from chain import listens
from clickhouse_chain import ClickHouse
from demo import Demo, as_health, only_line, refused_arguments, sent, table
from helpers import health

from bridge.launch import launcher
from clickhouse import launch


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


def test_the_clickhouse_that_is_named_or_answers_already_is_used(demo, database):
    port, dsn = database.dsn.rpartition(":")[2], f"{database.dsn}/{database.name}"
    told = "import os, signal; print(os.environ['CLICKHOUSE_DSN'], flush=True); signal.pause()"
    demo.fake_services(as_health(table(dataset="stocks")), told)
    process = demo.start(CLICKHOUSE_DSN=dsn)
    shown = demo.wait_for_rows(process)
    assert "(CLICKHOUSE_DSN)" in shown
    assert f"storing rows in {database.name}.stock_values there" in shown
    os.kill(demo.pid("producer.py"), signal.SIGKILL)  # the death of a service ends all
    demo.assert_ended(process, 1)
    assert demo.errors(process) == [
        "run.sh: producer has ended with status 137; the end of .logs/producer.log:",
        dsn,
    ]

    if database.is_embedded:  # another server may let that user in
        dsn = f"http://a:secret@127.0.0.1:{port}"
        assert "refuses the user or password" in refusal_of_dsn(demo, dsn, 1)

    process = demo.start(CLICKHOUSE_PORT=port)
    assert f"which answers on localhost:{port}" in demo.wait_for_rows(process)
    demo.end(process)
    # unless the engine in process is insisted on
    process = demo.start("--embedded", CLICKHOUSE_PORT=port)
    assert "(--embedded)" in demo.wait_for_rows(process)
    demo.end(process)


def test_another_program_on_its_port(demo):
    demo.fake_services(as_health(table(dataset="stocks")))
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = demo.start(CLICKHOUSE_PORT=other.getsockname()[1])
        assert "something that is no ClickHouse" in demo.wait_for_rows(process)
        demo.end(process)


def refusal_of_dsn(demo, dsn, status):
    """The one line that says why a CLICKHOUSE_DSN with password `secret` can't be used."""
    done = demo.run("--no-install", "--port", demo.port, CLICKHOUSE_DSN=dsn)
    assert "secret" not in done.stdout + done.stderr
    return only_line(done, status)


def test_what_is_wrong_with_the_dsn_is_reported(demo):
    assert "CLICKHOUSE_DSN" in refusal_of_dsn(demo, "clickhouse://a:secret@localhost:notaport", 2)
    address = f"127.0.0.1:{demo.clickhouse_port}"
    line = refusal_of_dsn(demo, f"http://a:secret@{address}", 1)
    assert f"no ClickHouse answers at http://{address} (Connection refused)" in line


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
def test_invalid_arguments(args, capsys, monkeypatch):
    refused_arguments("run.sh", lambda: launcher.main(launch), args, capsys, monkeypatch)


def test_installs_only_on_request_into_its_own_folder(demo):
    script = demo.folder / "install.sh"
    script.write_text('#!/bin/sh\necho "install.sh $*"\n')
    (demo.home / "requirements.txt").write_text("a-package-that-is-not-there==1.0\n")
    done = demo.run("--install")
    assert (done.returncode, done.stdout) == (0, "install.sh --clickhouse\n")
    assert demo.processes() == {}
