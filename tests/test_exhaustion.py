"""Descriptors and disks that are used up: the scripts go on, and end cleanly."""

import os
import pathlib
import resource
import signal
import socket
import sys
import time

import pytest
from chain import SOURCES, Chain, assert_each_row_shown_once, children, stop_producers
from helpers import ROOT, Process, free_port, health, wait_until
from test_faults import SLOW, the_worker


@pytest.fixture
def chain(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        yield chain


def run(chain, shell, script, *args):
    """A script of ours, started by a line of bash in which "$@" is its command, in a Process."""
    program = ["bash", "-c", shell, "-", sys.executable, ROOT / script, "--database", chain.database.name, *args]
    process = Process(program, chain.folder, script[:-3], env={"TDENGINE_DSN": chain.dsn})
    chain.ended.callback(process.stop)
    return process


def serve(chain, shell):
    chain.port = free_port()
    server = run(chain, shell, "perspective_server.py", "--port", chain.port, "--limit", 100_000)
    wait_until(lambda: health(chain.port), 40, server.log)
    return server


def child_of(server):
    """Process id of what serves, below the supervisor."""
    (pid,) = children(server.pid, "perspective_server.py")
    return pid


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_silent_connections_beyond_the_limit_wait_and_cost_nothing(chain):
    server = serve(chain, 'ulimit -n 256; exec "$@"')
    chain.producer(*SLOW)
    chain.wait_for_rows(100, 30)
    shown = chain.table()["rows"]
    silent = [socket.create_connection(("127.0.0.1", chain.port), 10) for _ in range(300)]
    try:
        wait_until(lambda: "new connections have to wait" in server.stderr(), 30, server.log)
        pid, started = child_of(server), time.monotonic()
        before = cpu_s(pid)
        # answered again when the silent ones are closed, after 20 s without a request
        wait_until(lambda: health(chain.port), 60, server.log)
        assert cpu_s(pid) - before < 0.6 * (time.monotonic() - started)
    finally:
        for each in silent:
            each.close()
    wait_until(lambda: chain.table()["rows"] > shown, 30, server.log)
    assert len(server.stderr().splitlines()) < 20
    assert "Traceback" not in server.stderr()
    server.signal(signal.SIGTERM)
    assert server.wait(15) == 0, server.log()


@pytest.mark.parametrize("source", SOURCES)
def test_a_reader_that_dies_while_no_descriptor_is_free_comes_back(chain, source):
    chain.source = source
    server, producer = chain.server(), chain.producer(*SLOW)
    viewer = chain.viewer()
    chain.wait_for_rows(200, 30)
    reader = the_worker(server)
    pid = child_of(server)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(reader, signal.SIGKILL)
    time.sleep(4)  # the fault's length
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    chain.wait_for_rows(200, 40)
    assert "Traceback" not in server.stderr(), server.log()
    stop_producers(producer)
    assert_each_row_shown_once(chain, viewer, chain.database.count())
    server.signal(signal.SIGTERM)
    assert server.wait(15) == 0, server.log()


def test_a_sender_that_dies_while_no_descriptor_is_free_comes_back(chain):
    chain.server()
    viewer, producer = chain.viewer(), chain.producer(*SLOW)
    chain.wait_for_rows(200, 30)
    limits = resource.prlimit(producer.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(producer.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(the_worker(producer), signal.SIGKILL)
    time.sleep(4)  # the fault's length
    resource.prlimit(producer.pid, resource.RLIMIT_NOFILE, limits)
    chain.wait_for_rows(400, 40)
    stop_producers(producer)
    assert "Traceback" not in producer.stderr(), producer.log()
    assert_each_row_shown_once(chain, viewer, int(producer.stdout().split()[1]))


@pytest.mark.parametrize("end", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_scripts_go_on_when_nothing_can_be_reported(chain, end):
    server = serve(chain, f'exec "$@" {end}')
    producer = run(chain, f'exec "$@" {end}', "producer.py", *SLOW)
    chain.wait_for_rows(600, 40)
    for process in (producer, server):
        process.signal(signal.SIGTERM)
        assert process.wait(15) == 0, process.log()
    assert producer.stdout().startswith("sent "), producer.stdout()
