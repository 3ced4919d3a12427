"""Descriptors, processes, memory and disks that are used up: the scripts go on, and end cleanly."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from chain import Chain, assert_each_row_shown_once, children, sent, stop_producers, workers
from helpers import ROOT, Process, free_port, health, wait_until
from test_faults import SLOW, the_worker

# Root may start any number of processes; this user has none yet, and reads what root may read.
ANOTHER_USER = "setpriv --reuid=54321 --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override"
ANOTHER_USER = ANOTHER_USER if os.geteuid() == 0 else ""


@pytest.fixture
def chain(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        yield chain


def run(chain, shell, script, *args):
    """A script of ours, started by a line of bash in which "$@" is its command, in a Process."""
    program = ["bash", "-c", shell, "-", sys.executable, ROOT / script, "--database", chain.database.name, *args]
    return chain.ends(Process(program, chain.folder, script[:-3], env={"TDENGINE_DSN": chain.dsn}))


def serve(chain, shell):
    chain.port = free_port()
    server = run(chain, shell, "perspective_server.py", "--port", chain.port, "--limit", 100_000)
    wait_until(lambda: health(chain.port), 40, server.log)
    return server


def child_of(server):
    """Process id of what serves, below the supervisor."""
    (pid,) = children(server.pid, "perspective_server")
    return pid


def with_limit(pid, what, least):
    """Gives a process another limit, as of "nofile"; returns what gives the old one back."""

    def prlimit(*flags):
        owner = ANOTHER_USER.split() if os.stat(f"/proc/{pid}").st_uid != os.geteuid() else []
        done = subprocess.run(
            [*owner, "prlimit", "--pid", str(pid), *flags], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    before = prlimit(f"--{what}", "--output=SOFT", "--noheadings")
    prlimit(f"--{what}={least}:")
    return lambda: prlimit(f"--{what}={before}:")


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
    assert server.ends_within(15) == 0, server.log()


def test_readers_and_a_sender_that_die_while_no_descriptor_is_free_come_back(chain, database, tmp_path):
    with Chain(database, tmp_path) as other:
        other.source = "subscribe"
        chains = [chain, other]
        servers, producer = [each.server() for each in chains], chain.producer(*SLOW)
        viewers = [each.viewer() for each in chains]
        for each in chains:
            each.wait_for_rows(200, 30)
        wait_until(lambda: len(workers(servers[1].pid)) == 2, 20, servers[1].log)  # a reader and a subscriber
        mortal = [pid for process in (*servers, producer) for pid in workers(process.pid)]
        give_back = [with_limit(pid, "nofile", 3) for pid in (*map(child_of, servers), producer.pid)]
        for pid in mortal:
            os.kill(pid, signal.SIGKILL)
        time.sleep(4)  # the fault's length
        for each in give_back:
            each()
        for each in chains:
            each.wait_for_rows(400, 40)
        stop_producers(producer)
        for process in (*servers, producer):
            assert "Traceback" not in process.stderr(), process.log()
        for each, viewer in zip(chains, viewers, strict=True):
            assert_each_row_shown_once(each, viewer, sent(producer))
        for server in servers:
            server.signal(signal.SIGTERM)
            assert server.ends_within(15) == 0, server.log()


def test_scripts_go_on_when_nothing_can_be_reported(chain):
    """Where standard error is closed, or every write to it fails: a full disk, a pipe that nobody reads."""
    ends = ("2>/dev/full", "2>&-", "2> >(true)")
    producers = [run(chain, f'exec "$@" {end}', "producer.py", *SLOW) for end in ends]
    for end in ends:
        server = serve(chain, f'exec "$@" {end}')
        chain.wait_for_rows(600, 40)
        server.signal(signal.SIGTERM)
        assert server.ends_within(15) == 0, server.log()
    for producer in producers:
        producer.signal(signal.SIGTERM)
        assert producer.ends_within(15) == 0, producer.log()
        assert producer.stdout().startswith("sent "), producer.stdout()


@pytest.mark.parametrize(("what", "least"), [("nofile", 3), ("nproc", 1)])
def test_what_dies_while_no_process_can_be_started_comes_back(chain, what, least):
    if ANOTHER_USER and not shutil.which("setpriv"):
        pytest.skip("no setpriv to become a user with")
    server = serve(chain, f'exec {ANOTHER_USER} "$@"')
    producer = chain.producer(*SLOW)
    chain.wait_for_rows(100, 30)
    give_back = with_limit(child_of(server), what, least)
    os.kill(the_worker(server), signal.SIGKILL)
    wait_until(lambda: "no process for it can be started" in server.stderr(), 20, server.log)
    give_back()
    chain.wait_for_rows(100, 30)
    give_back = with_limit(server.pid, what, least)
    os.kill(child_of(server), signal.SIGKILL)
    wait_until(lambda: "is left to start the server" in server.stderr(), 20, server.log)
    give_back()
    wait_until(lambda: (health(chain.port) or {}).get("status") == "ok", 30, server.log)
    chain.wait_for_rows(100, 30)
    stop_producers(producer)
    assert "Traceback" not in server.stderr(), server.log()
    assert len(server.stderr().splitlines()) < 20
    server.signal(signal.SIGTERM)
    assert server.ends_within(15) == 0, server.log()


def test_with_too_little_address_space_little_is_said_and_the_end_is_clean(chain):
    assert chain.producer(*SLOW, "--batches", 10).wait(30) == 0
    servers = []
    for kb in (500_000, 600_000):
        flags = ["--port", free_port(), "--history", "1h"]
        servers.append(run(chain, f'ulimit -v {kb}; exec "$@"', "perspective_server.py", *flags))
    time.sleep(4)  # of polls, or retries
    for server in servers:
        server.signal(signal.SIGTERM)
        assert server.wait(15) in (0, 1), server.log()
        assert "Traceback" not in server.stderr(), server.log()
        assert len(server.stderr().splitlines()) < 30, server.log()


def test_batches_of_many_times_the_limit_are_sent_and_take_bounded_memory(chain):
    rows = 100_000  # a million takes a minute on a busy machine
    server = chain.server(limit=10_000)
    # times that begin a tenth of a second before the batch is due are surely after the server's start
    producer = chain.producer("--rows", rows, "--interval", 100, "--batches", 1)
    assert producer.wait(90) == 0, producer.log()
    assert sent(producer) == rows == chain.database.count()
    wait_until(lambda: chain.table()["rows"] + chain.table()["missed_rows"] == rows, 30, chain.health)
    assert chain.table()["held"] == 10_000
    for pid in workers(server.pid, ""):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 10**6


def test_a_child_that_is_ended_while_it_starts_prints_no_last_line(chain):
    producer = chain.run("producer", ROOT / "producer.py", dsn=f"ws://127.0.0.1:{free_port()}")
    wait_until(lambda: workers(producer.pid), 20, producer.log)
    os.killpg(producer.pid, signal.SIGTERM)
    assert producer.ends_within(15) == 0, producer.log()
    assert producer.stdout() == "sent 0 rows in 0 batches\n"
