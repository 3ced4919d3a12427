"""What goes wrong between TDengine and the scripts, and that nothing is lost, doubled or frozen by it.

The faults are played by a proxy (proxy.py) between the scripts and the database. Most of these tests wait, and can
run at the same time (pytest -n 8).
"""

import contextlib
import os
import pathlib
import random
import re
import resource
import signal
import threading
import time

import pytest
from chain import Chain, assert_each_row_shown_once, behind_a_proxy, kept, sent, stop_producers, workers
from helpers import get, health, promised, wait_until, work_s

from bridge import sql

SLOW = ["--rows", "100", "--interval", "500"]  # 200 rows/s: many tests share the machine


@pytest.fixture
def chain(database, tmp_path, source):
    """A chain that reaches the database by way of chain.proxy."""
    with behind_a_proxy(Chain, database, tmp_path) as chain:
        chain.source = source
        yield chain


@pytest.fixture
def chains(chain, database, tmp_path):
    """One chain a source, each with a server of its own, of which one producer is enough: what waits waits once."""
    with Chain(database, tmp_path, dsn=chain.dsn) as other:
        other.proxy, other.source = chain.proxy, "subscribe"
        yield [chain, other]


@pytest.fixture
def stand_in(database):
    """The database, where the test may kill it."""
    if not database.is_stand_in:
        pytest.skip("a TDengine that is not ours is not killed")
    return database


@contextlib.contextmanager
def timed_health(*chains):
    """Asks for /healthz ten times a second; yields the list of milliseconds that each answer took."""
    took, stop = [], threading.Event()

    def ask():
        while not stop.wait(0.1):
            for chain in chains:
                started = time.monotonic()
                answered = health(chain.port) is not None
                took.append((time.monotonic() - started) * 1000 if answered else float("inf"))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield took
    stop.set()
    thread.join(6)


def quiet_health(*chains):
    """Milliseconds that /healthz takes while nothing is wrong: what this machine needs just now."""
    with timed_health(*chains) as took:
        wait_until(lambda: len(took) >= 20, 20, "answers of /healthz")
    return took


def assert_as_quick(took, quiet):
    """The bound is 300 ms, or what a busy machine needs; a call of taosws that froze the server would take seconds."""
    assert percentile(took, 0.95) < max(300, 5 * percentile(quiet, 0.95))


def the_workers(process):
    """Process ids of the reader of a server, and of its subscriber; or of the sender of a producer."""
    return wait_until(lambda: workers(process.pid), 10, process.log)


def the_worker(process):
    return the_workers(process)[0]


def gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def lines_with(text, process):
    return [line for line in process.stderr().splitlines() if text in line]


def rows_sent(producer):
    """By the newest line of its display."""
    found = re.findall(r"([\d,]+) rows sent", producer.stderr())
    return int(found[-1].replace(",", "")) if found else 0


def percentile(values, share):
    return sorted(values)[int(len(values) * share)]


def wait_for_rows_of_each(chains, more, timeout):
    """Waits until each server has shown so many rows more than now."""
    least = [chain.table()["rows"] + more for chain in chains]
    for chain, rows in zip(chains, least, strict=True):
        wait_until(lambda c=chain, r=rows: c.table()["rows"] >= r, timeout, chain.health)


def assert_all_arrives(chain, viewer, *producers):
    """Ends the producers; what they sent is stored and was shown, each row once."""
    assert_all_arrives_at_each([chain], [viewer], *producers)


def assert_all_arrives_at_each(chains, viewers, *producers):
    stop_producers(*producers)
    for chain, viewer in zip(chains, viewers, strict=True):
        assert_each_row_shown_once(chain, viewer, sent(*producers))


# Slow, cut, silent


def test_replies_that_take_a_second(chains):
    chain, seconds = chains[0], 8
    servers, producer = [each.server() for each in chains], chain.producer(*SLOW)
    viewers = [each.viewer(read_every=0.1) for each in chains]
    wait_for_rows_of_each(chains, 200, 30)
    for viewer in viewers:
        wait_until(lambda v=viewer: v.report()["reads"] > 10, 20, viewer.log)
    samples, quiet, quiet_ms = [], quiet_health(*chains), [viewer.report()["read_ms_99"] for viewer in viewers]
    before = chain.database.count()
    with timed_health(*chains) as took:
        chain.proxy.delay(1)
        time.sleep(seconds)  # the fault's length
        made = kept(producer) + chain.database.count() - before  # it kept its pace: many batches go into one call
        assert made > seconds * 200 * 0.7, producer.log()
        chain.proxy.go_on()
        before = chain.database.count()
        while len(samples) < 3:  # it catches up, in order: what is stored never lacks an older row
            stamps = chain.database.query("SELECT CAST(`timestamp` AS BIGINT) FROM {db}.stocks_values")
            if len(stamps) > before:
                samples.append((len(stamps), max(stamps)[0]))
            before = len(stamps)
        wait_until(lambda: kept(producer) < 500, 60, producer.log)
        reads = [viewer.report() for viewer in viewers]
    for count, newest in samples:
        sql = f"SELECT COUNT(*) FROM {{db}}.stocks_values WHERE `timestamp` <= {newest}"
        assert chain.database.query(sql) == [[count]]
    assert_all_arrives_at_each(chains, viewers, producer)
    print(f"/healthz: median {percentile(took, 0.5):.1f}, 99 % {percentile(took, 0.99):.1f}, max {max(took):.1f} ms")
    print(f"viewers' reads: {reads}")
    assert len(took) > 30
    assert_as_quick(took, quiet)
    slowest_ms, bound_ms = max(read["read_ms_99"] for read in reads), max(300, 3 * max(quiet_ms))
    if slowest_ms >= bound_ms:  # one read of each hundred: it may be the machine that was slow
        bound_ms += work_s() * 1000
    assert slowest_ms < bound_ms
    assert all(server.alive() for server in servers)


def test_the_database_comes_later_and_goes_and_comes_back(chains):
    """At last producers send what they kept, while servers, slowly, look for late rows: each is shown once."""
    proxy = chains[0].proxy
    proxy.refuse()
    servers, producer = [chain.server() for chain in chains], chains[0].producer(*SLOW)
    viewers = [chain.viewer() for chain in chains]
    wait_until(lambda: lines_with("waiting for TDengine", producer), 10, producer.log)
    deadline = time.monotonic() + 4  # several tries
    while time.monotonic() < deadline:
        assert {chain.health()["status"] for chain in chains} == {"waiting"}
        time.sleep(0.5)
    for chain in chains:
        assert b"perspective-viewer" in get(f"http://127.0.0.1:{chain.port}/")
        assert chain.table()["error"]
    proxy.go_on()
    wait_for_rows_of_each(chains, 100, 10)
    for process, text in (
        (producer, "waiting for TDengine"),
        *((each, "TDengine does not answer") for each in servers),
    ):
        assert len(lines_with(text, process)) == 1, process.log()
    states = []

    def status_of(chain):
        states.append(chain.health()["status"])
        return states[-1]

    for is_long in (False, True):
        reconnects = [chain.table()["reconnects"] for chain in chains]
        proxy.refuse()
        for chain in chains:
            wait_until(lambda c=chain: c.table()["error"], 30, chain.health)
        for chain in chains if is_long else ():
            promised(lambda c=chain: status_of(c) == "stale", 9, "stale after 5 s without a row")
        before = [chain.table()["rows"] for chain in chains]
        proxy.go_on()
        for chain, rows in zip(chains, before, strict=True):
            promised(lambda c=chain, r=rows: c.table()["rows"] > r, 3, "rows again")
            promised(lambda c=chain: status_of(c) == "ok", 5, "ok again")
    assert set(states) <= {"ok", "stale"}
    for chain, count in zip(chains, reconnects, strict=True):
        promised(lambda c=chain, n=count: c.table()["reconnects"] > n, 3, "a poll, where rows came by comparing counts")
        assert chain.table()["reconnects"] == count + 1
        if chain.source == "subscribe":  # a new one takes some seconds
            wait_until(lambda c=chain: c.table()["error"] is None and c.table()["subscriptions"], 30, chain.health)
    assert len(lines_with("waiting for TDengine", producer)) > 1
    other = chains[0].producer("--rows", 20, "--interval", 100)
    wait_until(lambda: rows_sent(other), 30, other.log)
    proxy.refuse()
    time.sleep(2)
    proxy.go_on()
    proxy.delay(0.1)
    time.sleep(3)
    proxy.go_on()
    assert_all_arrives_at_each(chains, viewers, producer, other)


def test_database_that_accepts_and_says_nothing(chains, database):
    """From the start, and later; then one server's database answers again, another one's has its connection cut."""
    with contextlib.ExitStack() as stack:
        proxies = [chains[0].proxy, *(stack.enter_context(database.proxy()) for _ in chains[1:])]
        for chain, proxy in zip(chains, proxies, strict=True):
            proxy.silent()
            chain.dsn = database.through(proxy)
        servers, producer = [chain.server() for chain in chains], chains[0].producer(*SLOW)
        viewers = [chain.viewer() for chain in chains]

        def wait_until_told(times, within_s):
            for process in servers:
                text = "TDengine does not answer"
                promised(lambda p=process, t=text: len(lines_with(t, p)) == times, within_s, process.log)
            promised(lambda: len(lines_with("waiting for TDengine", producer)) == times, within_s, producer.log)

        def answer_again(cut):
            for proxy in cut:
                proxy.cut()
            for proxy in proxies:
                proxy.go_on()

        wait_until_told(1, 10 + work_s())  # they have just started
        assert {chain.health()["status"] for chain in chains} == {"waiting"}
        answer_again(proxies)
        wait_for_rows_of_each(chains, 200, 20)
        quiet = quiet_health(*chains)
        with timed_health(*chains) as took:
            for proxy in proxies:
                proxy.silent()
            wait_until_told(2, 10)
            time.sleep(8)  # several tries to connect run into it, too
            assert {chain.health()["status"] for chain in chains} == {"stale"}
            answer_again(proxies[1:])
        assert_as_quick(took, quiet)
        wait_for_rows_of_each(chains, 100, 15)
        assert len(lines_with("waiting for TDengine", producer)) == 2
        assert_all_arrives_at_each(chains, viewers, producer)


def test_a_backlog_that_is_full_and_requests_and_replies_lost_on_their_way(chain):
    """A batch whose reply is lost is stored and sent again; one of which half arrives is not stored and sent again.

    That the backlog is full is said once for each time, also while a slow database keeps it full.
    """
    chain.server(dsn=chain.database.dsn)  # so that it is the producer's replies that are lost
    viewer, producer = chain.viewer(), chain.producer("--rows", 100, "--backlog", 1000)
    chain.wait_for_rows(200, 30)
    chain.proxy.refuse()
    wait_until(lambda: lines_with("--backlog is full (1,000 rows)", producer), 15, producer.log)
    time.sleep(1)
    chain.proxy.go_on()
    chain.wait_for_rows(2000, 20)
    chain.proxy.refuse()
    wait_until(lambda: len(lines_with("waiting for TDengine", producer)) == 2, 15, producer.log)
    # said at the second connection, if it was still full then, or now
    wait_until(lambda: len(lines_with("--backlog is full", producer)) == 2, 15, producer.log)
    assert kept(producer) <= 1000
    chain.proxy.go_on()
    chain.wait_for_rows(2000, 20)
    chain.proxy.delay(0.8)  # more than a second for a call: less than what is made meanwhile
    wait_until(lambda: len(lines_with("--backlog is full", producer)) == 3, 15, producer.log)
    stored = chain.database.count()
    wait_until(lambda: chain.database.count() > stored + 2000, 40, producer.log)
    assert len(lines_with("--backlog is full", producer)) == 3
    chain.proxy.go_on()
    for fault in (chain.proxy.lose_replies, chain.proxy.cut_requests):
        fault()
        wait_until(lambda: not (chain.proxy.lost_replies or chain.proxy.half_requests), 20, producer.log)
        chain.wait_for_rows(400, 20)
    said = producer.stderr().count(" kept,")  # a line every 5 s: the one after next is of what comes after the faults
    wait_until(lambda: producer.stderr().count(" kept,") > said + 1 and kept(producer) < 400, 30, producer.log)
    assert_all_arrives(chain, viewer, producer)


# The database dies, is not there, or is another one


@pytest.mark.own_stand_in
def test_database_killed_in_the_middle_of_a_batch_and_its_disk_full(chain, stand_in):
    chain.server()
    viewer, producer = chain.viewer(), chain.producer("--rows", 1000, "--interval", 400)
    for pause in (0.0, 2.0):
        chain.wait_for_rows(2000, 40)
        stand_in.kill()
        time.sleep(pause)
        stand_in.start()
    chain.wait_for_rows(2000, 40)
    # a file of the stand-in's may not grow any more
    waits = len(lines_with("waiting for TDengine", producer))
    resource.prlimit(stand_in.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    wait_until(lambda: len(lines_with("waiting for TDengine", producer)) > waits, 20, producer.log)
    time.sleep(2)
    if stand_in.process.alive():
        resource.prlimit(stand_in.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        assert "Traceback" not in stand_in.process.stderr()
        stand_in.start()
    chain.wait_for_rows(2000, 40)
    assert_all_arrives(chain, viewer, producer)


def test_wrong_password(chain):
    dsn = chain.database.through(chain.proxy, password="not-the-password")
    producer = chain.producer(dsn=dsn)
    assert producer.ends_within(15) == 1
    (line,) = lines_with("refuses this user or password", producer)
    assert producer.stdout() == "sent 0 rows in 0 batches\n"
    server = chain.server(dsn=dsn)
    wait_until(lambda: "password" in (chain.table()["error"] or ""), 10, server.log)
    polls = chain.table()["polls"]
    wait_until(lambda: chain.table()["polls"] > polls + 2, 10, "it tries on")
    assert chain.health()["status"] == "waiting"
    assert len(lines_with("refuses this user or password", server)) == 1
    for process in (producer, server):
        assert "not-the-password" not in process.log()
        assert "Traceback" not in process.stderr()


# With a topic on it a database can't be dropped.
@pytest.mark.parametrize(
    ("source", "what"),
    [("poll", "DATABASE {db}"), ("subscribe", "TABLE {db}.stocks_values")],
)
def test_table_or_database_dropped_while_running(chain, what):
    server = chain.server()
    producer = chain.producer(*SLOW)
    chain.wait_for_rows(200, 30)
    lines = len(lines_with("TDengine has no", server))
    chain.database.query(f"DROP {what}")
    wait_until(lambda: lines_with("loading it again", server), 20, chain.health)  # made again by the producer
    assert chain.table()["rows_per_s"] >= 0
    chain.wait_for_rows(400, 20)
    stop_producers(producer)
    chain.database.query(f"DROP {what}")
    wait_until(lambda: chain.health()["status"] == "waiting", 10, server.log)
    no = "TDengine has no " + what.split()[0].lower()
    wait_until(lambda: no in (chain.table()["error"] or ""), 20, server.log)
    again = chain.producer(*SLOW)
    wait_until(lambda: chain.health()["status"] == "ok", 20, server.log)
    wait_until(lambda: len(lines_with("loading it again", server)) == 2, 20, chain.health)
    chain.wait_for_rows(100, 20)
    stop_producers(again)
    viewer = chain.viewer()
    wait_until(lambda: viewer.distinct() == chain.database.count(), 20, viewer.log)
    assert viewer.report()["twice"] == 0
    # each time at most one line, or two where the database is there again a little before its table
    assert len(lines_with("TDengine has no", server)) <= lines + 2 * (1 + ("DATABASE" in what)), server.log()


# The scripts' own processes die


def test_reader_subscriber_sender_or_producer_killed_or_frozen(chains):
    chain = chains[0]
    servers, producer = [each.server() for each in chains], chain.producer(*SLOW)
    viewers = [each.viewer() for each in chains]
    wait_for_rows_of_each(chains, 200, 30)
    count = {"poll": 1, "subscribe": 2}  # with a subscriber beside the reader
    for number, limit in ((signal.SIGKILL, 2), (signal.SIGSTOP, 13)):  # 8 s, 2 s for a call to begin, its end
        before, subscriptions = [], []
        for each, server in zip(chains, servers, strict=True):
            wait_until(lambda s=server, n=count[each.source]: len(workers(s.pid)) == n, 20, server.log)
            if each.source == "subscribe":  # a dead one is no quiet one: its rows are pushed again by the next
                wait_until(lambda c=each: c.table()["error"] is None, 20, server.log)
            before.append(set(workers(server.pid)))
            subscriptions.append(each.table().get("subscriptions"))
        for worker in (*set().union(*before), the_worker(producer)):
            os.kill(worker, number)
        for each, server, old in zip(chains, servers, before, strict=True):
            n = count[each.source]
            promised(lambda s=server, b=old, n=n: len(set(workers(s.pid)) - b) == n, limit, server.log)
        wait_for_rows_of_each(chains, 200, 20 if number == signal.SIGKILL else 50)
        for each, server, old in zip(chains, servers, subscriptions, strict=True):
            if each.source == "subscribe":
                wait_until(lambda c=each, n=old: c.table()["subscriptions"] > n, 15, server.log)
    stop_producers(producer)
    wait_until(lambda: chain.table()["rows"] >= sent(producer), 15, chain.health)
    lost = chain.producer(*SLOW)
    chain.wait_for_rows(200, 30)
    sender = the_worker(lost)
    lost.signal(signal.SIGKILL)
    wait_until(lambda: gone(sender), 10, "its sender ends too")
    again = chain.producer(*SLOW)
    chain.wait_for_rows(200, 30)
    stop_producers(again)
    stored = chain.database.count()
    assert stored >= sent(producer, again) + 200
    for each, viewer in zip(chains, viewers, strict=True):
        assert_each_row_shown_once(each, viewer, stored)


# The end, while the database is away


def test_stopped_while_the_database_is_away(chain):
    """A producer whose database comes back at once sends what it has kept; else it and a server end all the same."""
    servers, producers = [chain.server() for _ in range(2)], [chain.producer(*SLOW) for _ in range(3)]
    for producer in producers:
        wait_until(lambda p=producer: rows_sent(p), 30, producer.log)
    chain.wait_for_rows(200, 30)
    chain.proxy.refuse()
    time.sleep(3)  # rows to be kept
    producers[0].signal(signal.SIGTERM)
    chain.proxy.go_on()
    assert producers[0].ends_within(5) == 0, producers[0].log()
    for fault, producer, server in zip((chain.proxy.refuse, chain.proxy.silent), producers[1:], servers, strict=True):
        rows = rows_sent(producer)
        wait_until(lambda p=producer, n=rows: rows_sent(p) > n and kept(p) < 500, 30, producer.log)
        fault()
        time.sleep(2)  # rows to be kept
        stop_producers(producer, status=1)
        (line,) = lines_with("rows not sent", producer)
        assert int(re.search(r"(\d+) rows not sent", line)[1]) >= 200
        server.signal(signal.SIGTERM)
        assert server.ends_within(5) == 0, server.log()
        chain.proxy.go_on()
    # at most the batch that was on its way may each time have arrived without being confirmed
    assert chain.database.count() - sent(*producers) in (0, 100, 200)


# A topic keeps its table from being dropped


def test_a_topic_of_other_columns_is_made_anew_and_reset_drops_it_once_its_server_has_ended(chain):
    chain.source = "subscribe"
    assert chain.producer("--batches", 1).wait(30) == 0
    topic, select = sql.topic_of(chain.database.name, "stocks_values"), "`timestamp`, ticker FROM {db}.stocks_values"
    chain.database.query(f"CREATE TOPIC {topic} AS SELECT {select}")
    server, datasets = chain.server("--dataset", "all"), ["stocks", "meters"]
    producers = [chain.producer("--dataset", dataset, *SLOW) for dataset in datasets]
    viewer = chain.viewer()
    wait_until(lambda: chain.table()["subscriptions"] > 1 and chain.table()["error"] is None, 30, server.log)
    wait_until(lambda: chain.table()["lag_ms"] < 1000, 15, chain.health)
    wait_until(lambda: chain.table("meters")["subscriptions"] == 1, 30, chain.health)
    again = ["--batches", 2, "--reset"]
    refused = chain.producer(*again)
    assert refused.wait(25) == 1, refused.log()
    (line,) = lines_with("producer.py:", refused)
    assert "end perspective_server.py --source subscribe" in line
    assert server.alive()
    stop_producers(*producers)
    wait_until(lambda: viewer.distinct() == chain.table()["rows"] >= sent(producers[0]), 15, viewer.log)
    assert viewer.report()["twice"] == 0
    assert chain.database.count() == 250 + sent(producers[0])
    assert chain.database.count("meters") == sent(producers[1])
    waiting = [chain.producer("--dataset", dataset, *again) for dataset in datasets]  # while it is in use
    time.sleep(1)
    server.stop()
    for producer, dataset in zip(waiting, datasets, strict=True):
        assert producer.wait(20) == 0, producer.log()
        assert chain.database.count(dataset) == 500


# Tables and databases that rows don't fit


def test_table_of_other_columns_ends_the_producer_and_its_first_row_is_shown_though_late(chain):
    chain.database.query("CREATE DATABASE {db} PRECISION 'ns'")
    chain.database.query("CREATE TABLE {db}.stocks_values (`timestamp` TIMESTAMP, ticker NCHAR(4), volume FLOAT)")
    server, producer = chain.server(), chain.producer()
    assert producer.ends_within(15) == 1, producer.log()
    (line,) = lines_with(f"{chain.script}:", producer)
    for words in ("client is missing", "ticker is NCHAR(4) where NCHAR(10) is sent", "volume is FLOAT"):
        assert words in line
    wait_until(lambda: chain.table()["polls"] >= 1, 20, "a first poll")
    time.sleep(4)  # so that a row of 3 seconds ago is one of after the server's start, and of before the last poll
    chain.database.query("INSERT INTO {db}.stocks_values VALUES (NOW() - 3s, 'A', 1.5)")
    wait_until(lambda: chain.table()["rows"] == 1, 15, server.log)


def test_a_table_of_more_columns_is_still_served_and_keeps_its_rows(chain):
    assert chain.producer("--batches", 1).wait(30) == 0
    chain.database.query("ALTER TABLE {db}.stocks_values ADD COLUMN note NCHAR(10)")
    producer = chain.producer("--batches", 2)
    assert producer.wait(30) == 0, producer.log()
    assert chain.database.count() == 750


# All of it, at random


@pytest.mark.own_stand_in
def test_faults_at_random(chains):
    chain = chains[0]
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(10**9))
    seconds = int(os.environ.get("FAULTS_SECONDS") or 15)
    print(f"FAULTS_SEED={seed} FAULTS_SECONDS={seconds}")
    chance = random.Random(seed)
    servers = [each.server() for each in chains]
    viewers, producers = [each.viewer() for each in chains], [chain.producer(*SLOW) for _ in range(2)]
    wait_for_rows_of_each(chains, 200, 30)
    killable = chain.database.is_stand_in

    def kill_database():
        if killable:
            chain.database.kill()
            time.sleep(chance.uniform(0, 2))
            chain.database.start()

    faults = {
        "slow": lambda: chain.proxy.delay(chance.uniform(0.1, 1)),
        "cut": chain.proxy.cut,
        "silent": chain.proxy.silent,
        "refuse": chain.proxy.refuse,
        "lost replies": lambda: chain.proxy.lose_replies(chance.randint(1, 3)),
        "cut requests": lambda: chain.proxy.cut_requests(chance.randint(1, 3)),
        "database killed": kill_database,
    }
    if chain.has_workers:
        faults["reader killed"] = lambda: os.kill(chance.choice(the_workers(chance.choice(servers))), signal.SIGKILL)
        faults["sender killed"] = lambda: os.kill(the_worker(chance.choice(producers)), signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        name = chance.choice(list(faults))
        lasts = chance.choice([0.1, 0.5, 1, 3, 9])
        print(f"{time.strftime('%H:%M:%S')} {name} for {lasts} s", flush=True)
        faults[name]()
        time.sleep(lasts)
        chain.proxy.go_on()
        time.sleep(chance.uniform(0, 2))
    wait_for_rows_of_each(chains, 100, 30)
    for producer in producers:  # a call that hangs is over
        rows = rows_sent(producer)
        wait_until(lambda p=producer, n=rows: rows_sent(p) > n, 60, producer.log)
    # a stopped producer has 5 s for what it has kept
    wait_until(lambda: max(map(kept, producers)) < 1000, 60, lambda: [producer.log() for producer in producers])
    assert_all_arrives_at_each(chains, viewers, *producers)
