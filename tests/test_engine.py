"""The engine's one thread, and the process that holds it, which may die at any moment."""

import asyncio
import multiprocessing
import os
import pathlib
import random
import signal
import socket
import sys
import threading
import time

import pytest
from engine_site import TABLE, engine_site, make_rows
from helpers import free_port, handles, proc, promised, running, wait_until

from bridge import child, shared_views
from bridge import perspective_pb2 as pb
from bridge.engine import Engine
from bridge.mark import Mark
from bridge.requests import Invalid

BACK_S = 2  # within which viewers are served again


# One thread


def in_engine(scene):
    """Runs the coroutine function scene(engine)."""

    async def play():
        engine = Engine(Mark())
        try:
            await asyncio.wait_for(scene(engine), 30)
        finally:
            engine.close()

    asyncio.run(play())


def test_all_calls_are_made_in_one_thread_and_their_results_and_errors_come_back():
    async def scene(engine):
        table = await engine.run(engine.client.table, make_rows(10, 1), limit=100, name=TABLE)
        assert await engine.request(("table_size",), None, table.size) == 10
        threads = await asyncio.gather(*(engine.run(threading.get_ident) for _ in range(3)))
        threads.append(await engine.request(("kind",), None, threading.get_ident))
        assert set(threads) == {engine.thread.ident}
        with pytest.raises(ZeroDivisionError):
            await engine.run(lambda: 1 / 0)
        assert engine.mark.read() is None

    in_engine(scene)


def test_updates_and_requests_take_turns_by_time():
    order, waiting = [], threading.Event()

    def work(name, seconds):
        order.append(name)
        time.sleep(seconds)

    def first():
        waiting.wait(30)
        work("first", 0.1)

    async def scene(engine):
        calls = [engine.run(first), *(engine.run(work, "update", 0.01) for _ in range(2))]
        calls += [engine.request(("kind",), None, work, "request", 0.05) for _ in range(8)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)
        waiting.set()
        await asyncio.gather(*tasks)

    in_engine(scene)
    assert order[1] == "request"  # the update before took longer than any request
    assert order.index("update") <= 6  # but not all of them go first
    assert len(order) == 11


def test_a_table_whose_updates_take_long_without_any_view_can_be_looked_at():
    async def scene(engine):
        await engine.run(engine.client.table, make_rows(10, 1), limit=100, name=TABLE)
        shared = shared_views.SharedViews(engine, {})
        await engine.run(time.sleep, shared_views.MAX_UPDATE_S)
        views = [pb.ViewConfig(group_by_depth=0, sort=[pb.ViewConfig.Sort(column="open", op=k)]) for k in range(1, 6)]
        for each in views[: shared_views.FEW]:
            await shared.join(TABLE, each, None)
        with pytest.raises(Invalid, match="at its limit"):
            await shared.join(TABLE, views[shared_views.FEW], None)

    in_engine(scene)


def test_a_requests_time_is_charged():
    charged = []

    async def scene(engine):
        await engine.request(("kind",), charged.append, time.sleep, 0.1)

    in_engine(scene)
    assert 0.1 <= charged[0] < 5


def test_an_engine_that_works_all_the_time_is_busy():
    async def scene(engine):
        assert not engine.busy
        while not engine.busy:  # bound: that of in_engine
            await engine.run(time.sleep, 0.5)

    in_engine(scene)


def test_the_mark_tells_what_is_in_hand_and_which_views_are_new():
    mark = Mark()
    assert mark.read() is None
    mark.begin("table_make_view", b"d" * 16, "bucket('é')" * 500)
    kind, digest, text, seconds = mark.read()
    assert (kind, digest) == ("table_make_view", b"d" * 16)
    assert text.startswith("bucket('é')bucket")
    assert 0 <= seconds < 5
    mark.end()
    assert mark.read() is None
    for k in range(200):
        mark.add_young(bytes([k]) * 16)
    assert mark.young()[:2] == [b"\0" * 16, b"\1" * 16]
    assert len(mark.young()) == Mark.MAX_YOUNG
    mark.grown_up()
    assert mark.young() == []


# The process


def back_within(site, pid, seconds=BACK_S):
    """Waits until another child than `pid` serves the table; how long that took."""
    started = time.monotonic()
    promised(lambda: site.health().get("pid", pid) != pid, seconds, site.log)
    promised(lambda: site.health().get("status") == "ok", seconds, site.log)
    return time.monotonic() - started


def assert_a_crash_is_held_against_its_request(site):
    pid = site.health()["pid"]
    assert site.engine("crash") is None
    back_within(site, pid)
    assert site.engine("crash") == 409
    assert site.health()["restarts"] == {"crashed": 1, "recycled": 0, "stuck": 0}
    (line,) = [line for line in site.log().splitlines() if " ERROR " in line]
    for words in ("SIGSEGV", "crash", 'bucket("ticker", 1)', "refused"):
        assert words in line


def test_a_server_is_back_after_a_crash_unless_it_dies_again_and_again(tmp_path):
    with engine_site(tmp_path, "--interval", 60_000) as site:
        assert_a_crash_is_held_against_its_request(site)
        for _ in range(2):  # as the kernel does when memory is short: not the fault of the request
            pid = site.health()["pid"]
            assert site.engine("kill") is None
            back_within(site, pid)
        pid = site.health()["pid"]
        assert site.engine("update") is None  # the fault of the views that are new
        back_within(site, pid)
        assert "died (SIGSEGV) in update, which is refused" in site.log()
        assert "giving up" not in site.log()  # it has died four times
        for _ in range(6):
            pid = wait_until(lambda: site.health().get("pid") or not site.process.alive(), 10, site.log)
            if not site.process.alive():
                break
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: site.health().get("pid") != pid, 10, site.log)
        assert site.process.ends_within(10) == 1
        assert "giving up" in site.log()


def test_a_server_whose_engine_hangs_is_replaced_and_the_child_ends_with_its_parent(tmp_path):
    with engine_site(tmp_path, "--stuck", 1) as site:
        pid = site.health()["pid"]
        assert site.engine("hang") is None
        back_within(site, pid, 10)
        assert site.health()["restarts"]["stuck"] == 1
        assert site.engine("hang") == 409
        pid = site.health()["pid"]
        site.process.signal(signal.SIGKILL)
        wait_until(lambda: not proc(pid, "cmdline"), 10, f"process {pid} lives on")


def test_a_server_that_grows_is_replaced(tmp_path):
    flags = ["--max-memory", 250, "--texts", "--rows", 500, "--interval", 10]
    with engine_site(tmp_path, *flags) as site:
        wait_until(lambda: site.health().get("restarts", {}).get("recycled"), 60, site.log)
        rows = wait_until(lambda: site.health().get("rows"), 10, site.log)
        wait_until(lambda: site.health().get("rows", 0) > rows, 10, site.log)
        assert "had more than 250 MB" in site.log()
        assert "refused from now on" not in site.log()


def test_signals_end_it_with_status_0_whenever_they_come(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in [signal.SIGINT, signal.SIGTERM] * 2:
        with engine_site(tmp_path, ready=False) as site:
            wait_until(lambda: b"\x00" in proc(site.process.pid, "cmdline"), 10, site.log)
            wait_until(lambda: handles(site.process.pid, signal.SIGTERM), 20, site.log)
            time.sleep(chance.uniform(0, 0.4))
            site.process.signal(number)
            assert site.process.ends_within(10) == 0, site.process.log()
            assert "Traceback" not in site.log()


def test_a_port_that_is_taken_is_one_line_and_status_1(tmp_path):
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        args = [sys.executable, pathlib.Path(__file__).with_name("engine_site.py"), taken.getsockname()[1]]
        with running(args, tmp_path) as process:
            assert process.wait(20) == 1
            (line,) = process.stderr().splitlines()
            assert "can't listen on 127.0.0.1:" in line


def test_an_error_of_the_servers_own_ends_it(tmp_path):
    with engine_site(tmp_path, "--limit", -5, ready=False) as site:
        assert site.process.wait(20) == 1
        assert "giving up" not in site.log()


def test_the_parent_takes_next_to_no_time(tmp_path):
    def nanoseconds(pid):
        return int(proc(pid, "schedstat").split()[0])

    def waits(pid):
        (line,) = [line for line in proc(pid, "status").splitlines() if line.startswith(b"voluntary_ctxt_switches")]
        return int(line.split()[1])

    with engine_site(tmp_path, "--interval", 50) as site:
        pids, started = (site.process.pid, site.health()["pid"]), time.monotonic()
        before, waited = [nanoseconds(pid) for pid in pids], waits(pids[0])
        time.sleep(3)  # what it takes in this time is measured
        parent, child = (nanoseconds(pid) - since for pid, since in zip(pids, before, strict=True))
        assert waits(pids[0]) - waited < 2 * (time.monotonic() - started)  # it looks once a second
        assert parent < 0.05 * child  # which updates twenty times a second, for nobody


def grandchild(connection):
    child.end_with_parent()
    connection.send(os.getpid())
    time.sleep(60)


def parent(connection):
    context = multiprocessing.get_context("fork")
    context.Process(target=grandchild, args=(connection,)).start()
    time.sleep(60)


def test_other_children_can_end_with_their_parent_too():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=parent, args=(theirs,))
    process.start()
    assert ours.poll(10)
    pid = ours.recv()
    process.kill()
    process.join(10)
    wait_until(lambda: not proc(pid, "cmdline"), 10, f"process {pid} lives on")
