"""The chain with ClickHouse: what is sent is stored and shown, each row once, whatever happens in between."""

import asyncio
import pathlib
import shutil
import signal

import pytest
from chain import sent, stop_producers
from clickhouse_chain import TABLE, Chain, ClickHouse, assert_each_row_shown_once, install
from helpers import ROOT, wait_until
from security_viewers import bare, connect, honest

from perspective_server import encode

pytestmark = pytest.mark.timeout(700)  # the first test installs
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def database(tmp_path):
    install()
    database = ClickHouse(tmp_path)
    yield database
    database.close()


def test_two_producers_every_row_is_stored_and_shown_once(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        chain.server()
        assert chain.health()["status"] == "waiting"  # on a fresh ClickHouse, without the database
        producers = [chain.producer("--rows", rows) for rows in (250, 100)]
        viewer = chain.viewer("--read-every", "0.1")
        wait_until(lambda: chain.table()["rows"] >= 4000, 40, lambda: chain.health())
        assert chain.health()["status"] == "ok"
        assert chain.table()["age_ms"] < 5000
        stop_producers(*producers)
        assert_each_row_shown_once(chain, viewer, sent(*producers))


@pytest.mark.parametrize("engine", [None, "MergeTree ORDER BY timestamp"])
def test_batches_that_were_sent_again_are_stored_once(database, tmp_path, engine):
    if engine:  # a user's own table, which doesn't know a batch again
        database.create_table(engine)
    with Chain(database, tmp_path) as chain, database.proxy() as proxy:
        chain.server()
        viewer = chain.viewer()
        producer = chain.producer(dsn=database.through(proxy))
        wait_until(lambda: chain.table()["rows"] >= 1000, 40, lambda: (chain.health(), producer.log()))
        # clickhouse-connect itself sends again once: two replies lost are one that it hands on
        faults = [proxy.lose_replies, proxy.cut_requests, proxy.cut, lambda: proxy.lose_replies(2)]
        for fault in faults if engine is None else [faults[0], faults[3]]:
            connections = proxy.connections
            fault()
            wait_until(lambda c=connections: proxy.connections > c, 15, lambda: producer.log())
            chain.wait_for_rows(1000, 20)
        stop_producers(producer)
        assert_each_row_shown_once(chain, viewer, sent(producer))


def test_a_batch_whose_confirmation_came_too_late_is_found_instead_of_sent_again(database, tmp_path):
    database.create_table("Memory")  # it knows no batch again
    with Chain(database, tmp_path) as chain, database.proxy() as proxy:
        producer = chain.producer(dsn=database.through(proxy) + "?send_receive_timeout=1")
        wait_until(lambda: stored_rows(database) >= 500, 60, producer.log)
        proxy.delay(3)
        wait_until(lambda: "waiting for ClickHouse" in producer.stderr(), 20, producer.log)
        proxy.go_on()
        wait_until(lambda: "connected to" in producer.stderr(), 20, producer.log)
        stop_producers(producer)
        assert database.counts()[:2] == (sent(producer), sent(producer))


def stored_rows(database):
    return int(database.query(f"SELECT count() FROM {{db}}.{TABLE}")[0][0])


def test_rows_that_come_later_than_the_window_reaches_are_shown(database, tmp_path):
    with Chain(database, tmp_path) as chain, database.proxy() as proxy:
        chain.server()
        viewer = chain.viewer()
        producer = chain.producer(dsn=database.through(proxy))
        wait_until(lambda: chain.table()["rows"] >= 500, 40, lambda: (chain.health(), producer.log()))
        proxy.refuse()  # only for the producer, which keeps its rows
        wait_until(lambda: chain.table()["age_ms"] > 3500, 20, lambda: chain.health())
        proxy.go_on()
        chain.wait_for_rows(2500, 20)
        stop_producers(producer)
        assert_each_row_shown_once(chain, viewer, sent(producer))


def test_a_silent_database_stalls_no_viewer_and_no_row_is_missed(database, tmp_path):
    with Chain(database, tmp_path) as chain, database.proxy() as proxy:
        chain.server(dsn=database.through(proxy))
        producer = chain.producer()
        viewer = chain.viewer("--read-every", "0.05")
        wait_until(lambda: viewer.report() and viewer.report()["reads"] > 5, 40, lambda: chain.health())
        polls = chain.table()["failed_polls"]
        proxy.silent()
        reads = viewer.report()["reads"]
        wait_until(lambda: chain.table()["failed_polls"] > polls, 30, "a poll that failed")
        assert viewer.report()["reads"] > reads + 20
        assert viewer.report()["read_ms_max"] < 2000  # the silence takes 6 s
        proxy.go_on()
        wait_until(lambda: chain.table()["reconnects"], 30, lambda: chain.health())
        proxy.delay(0.5)
        chain.wait_for_rows(500, 30)
        proxy.go_on()
        stop_producers(producer)
        assert_each_row_shown_once(chain, viewer, sent(producer))


def test_a_database_that_is_killed_and_comes_back_loses_nothing(database, tmp_path):
    if not database.is_embedded:
        pytest.skip("that server is not ours to kill")
    with Chain(database, tmp_path) as chain:
        chain.server()
        producer = chain.producer()
        viewer = chain.viewer()
        wait_until(lambda: viewer.distinct() >= 1000, 40, lambda: chain.health())
        database.kill()
        wait_until(lambda: "waiting for ClickHouse" in producer.stderr(), 20, producer.log)
        wait_until(lambda: chain.table()["error"], 20, lambda: chain.health())
        assert "ClickHouse does not answer" in chain.table()["error"]
        database.start()
        wait_until(lambda: "connected to" in producer.stderr(), 20, producer.log)
        chain.wait_for_rows(1000, 20)
        stop_producers(producer)
        assert_each_row_shown_once(chain, viewer, sent(producer))


def test_a_producer_that_is_killed_leaves_whole_batches_which_are_shown(database, tmp_path):
    with Chain(database, tmp_path) as chain, database.proxy() as proxy:
        chain.server()
        producer = chain.producer(dsn=database.through(proxy))
        viewer = chain.viewer()
        wait_until(lambda: viewer.distinct() >= 1000, 40, lambda: chain.health())
        proxy.delay(5)  # one batch is stored, and its reply on its way
        rows = stored_rows(database)
        wait_until(lambda: stored_rows(database) > rows, 20, producer.log)
        producer.signal(signal.SIGKILL)
        producer.wait(5)
        second = chain.producer("--batches", "4")
        assert second.wait(30) == 0, second.log()
        rows = stored_rows(database)
        assert rows % 250 == 0
        assert_each_row_shown_once(chain, viewer, rows)


def test_hostile_viewers_are_refused_while_an_honest_one_is_served(database, tmp_path):
    hosted, hostile = TABLE.encode(), [(kind, b"") for kind in (27, 28, 31, 32, 33)]

    async def play(chain):
        async with honest(chain.port):
            for kind, body in hostile:
                async with bare(chain.port) as attacker:
                    await attacker.send(encode((1, 1), (2, hosted), (kind, body)))
                    assert await attacker.closed() == 1008
            for origin in ("https://evil.example", f"http://evil.example:{chain.port}"):
                with pytest.raises(Exception, match="403"):
                    await connect(chain.port, origin)

    with Chain(database, tmp_path) as chain:
        server = chain.server(limit=1000)
        chain.producer()
        wait_until(lambda: chain.health()["status"] == "ok", 40, lambda: chain.health())
        asyncio.run(asyncio.wait_for(play(chain), 60))
        assert "Traceback" not in server.stderr()


def test_the_page_shows_rows_of_clickhouse_in_a_browser(database, tmp_path):
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no chromium on PATH"
    if not pathlib.Path(ROOT, "node_modules/@perspective-dev/viewer").is_dir():
        pytest.skip("the viewer's packages are not installed (npm was not there)")
    with Chain(database, tmp_path) as chain, sync_playwright() as playwright:
        chain.server(limit=1000)
        producer = chain.producer()
        wait_until(lambda: chain.health()["status"] == "ok", 40, lambda: (chain.health(), producer.log()))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{chain.port}/")
            # evaluate, not wait_for_function: the page's Content-Security-Policy allows no eval
            rows = "document.querySelector('perspective-viewer').getTable().then(table => table.size(), () => 0)"
            ready = "!!document.querySelector('perspective-viewer')?.getTable"
            wait_until(lambda: page.evaluate(ready) and page.evaluate(rows) >= 1000, 60, page.content)
            texts = "[...document.querySelectorAll('perspective-viewer *')].map(e => e.shadowRoot ?? e)"
            shown = f"{texts}.map(e => e.textContent).join(' ')"
            wait_until(lambda: "AAPL.N" in page.evaluate(shown), 60, lambda: page.evaluate(shown)[:2000])
        finally:
            browser.close()
