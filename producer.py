#!/usr/bin/env python3
"""Inserts random rows into TDengine on a steady beat, through a prepared statement of taosws.

    python producer.py [--dataset stocks|meters] [--dsn DSN] [--interval MS] [--rows N]

The main process makes a batch every interval and keeps it until TDengine has confirmed it; a sender process
of its own talks to TDengine, because a call into taosws that hangs can only be ended together with its process.
A batch that failed is sent again with the same timestamps: TDengine then overwrites, so no row is there twice.
"""

import argparse
import collections
import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import random
import re
import signal
import ssl
import sys
import time
import urllib.parse

import numpy as np
import taosws

DEFAULT_DSN = "ws://root:taosdata@localhost:6041"
TICKERS = ["AAPL.N", "AMZN.N", "QQQ.N", "NVDA.N", "TSLA.N", "FB.N", "MSFT.N", "TLT.N", "XIV.N", "YY.N", "CSCO.N"]
TICKERS += ["GOOGL.N", "PCLN.N"]
CLIENTS = ["Homer", "Marge", "Bart", "Lisa", "Maggie", "Moe", "Lenny", "Carl", "Krusty"]
LOCATIONS = ["San Francisco", "Los Angeles", "San Diego", "San Jose", "Palo Alto"]
LOCATIONS += ["Campbell", "Mountain View", "Sunnyvale", "Santa Clara", "Cupertino"]

ROWS_PER_BIND = 10_000  # of a larger batch, several binds are executed at once
CALL_LIMIT_S = 8  # a single call into taosws that takes longer has hung
READ_TIMEOUT_S = 6  # taosws' own limit for one reply: most silences end here, without losing the process
SENDER_LIMIT_S = 40  # without a word from the sender, although it ends itself sooner: it is frozen
RETRY_S = 0.5  # between two tries to connect
TOPIC_S = 10  # tries to drop a topic that is in use
SAY_AGAIN_S = 60  # that the backlog is full is told again when it wasn't for so long, or after a new connection
FINISH_S = 4.5  # what is kept is still sent for so long after SIGINT or SIGTERM
UNITS_PER_S = {"ms": 10**3, "us": 10**6, "ns": 10**9}
# Refused password or user, no permission, a column that the table hasn't, values that it can't hold, broken SQL:
# trying again can't help. Anything else (no connection, server starting, table dropped meanwhile) may pass.
HOPELESS = {"0x0357", "0x0351", "0x2644", "0x2602", "0x2653", "0x0216", "0x2600", "0x2605", "0x060B"}

# A topic on the table has a consumer, is being rebalanced after one has left, or is another than ours.
IN_USE = ("0x03EB", "0x03EF", "0x03ED")


# The datasets: how they are created, and a class that makes a batch of random columns


class Stocks:
    database, table = "stocks", "stocks_values"
    create = (
        "CREATE TABLE IF NOT EXISTS {table} (`timestamp` TIMESTAMP, ticker NCHAR(10), client NCHAR(10), "
        "open FLOAT, high FLOAT, low FLOAT, close FLOAT, volume INT UNSIGNED, `date` TIMESTAMP)"
    )
    drop = "DROP TABLE IF EXISTS {table}"
    insert = "INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

    def __init__(self):
        self.random = np.random.default_rng()
        self.usual = self.random.uniform(20, 400, len(TICKERS))  # the price each ticker wanders around
        self.price = self.usual.copy()

    def make(self, rows):
        """Columns of `rows` trades as numpy arrays: a random walk per ticker, low <= open, close <= high."""
        ticker = self.random.integers(len(TICKERS), size=rows)
        moves = self.random.normal(0, 0.0008, rows)
        opening, closing = np.empty(rows), np.empty(rows)
        for k in range(len(TICKERS)):
            of_ticker = np.flatnonzero(ticker == k)
            if len(of_ticker):
                # drawn back to its usual price by a little, so that a demo left running stays below 500
                pull = 0.02 * np.log(self.usual[k] / self.price[k]) / len(of_ticker)
                walk = self.price[k] * np.exp(np.cumsum(moves[of_ticker] + pull))
                closing[of_ticker] = walk
                opening[of_ticker] = np.concatenate(([self.price[k]], walk[:-1]))
                self.price[k] = walk[-1]
        spread = self.random.uniform(0, 0.001, (2, rows))
        return {
            "ticker": ticker,
            "client": self.random.integers(len(CLIENTS), size=rows),
            "open": opening,
            "high": np.maximum(opening, closing) * (1 + spread[0]),
            "low": np.minimum(opening, closing) * (1 - spread[1]),
            "close": closing,
            "volume": self.random.integers(10_000, 100_001, rows),
        }

    @staticmethod
    def bind(stamps, batch, to_timestamps, units_per_s):
        """The batch as taosws wants it: one list a column."""
        per_day = 86400 * units_per_s
        columns = [
            to_timestamps(stamps.tolist()),
            taosws.nchar_to_column([TICKERS[k] for k in batch["ticker"].tolist()]),
            taosws.nchar_to_column([CLIENTS[k] for k in batch["client"].tolist()]),
            *(taosws.floats_to_column(batch[name].tolist()) for name in ("open", "high", "low", "close")),
            taosws.unsigned_ints_to_column(batch["volume"].tolist()),
            to_timestamps((stamps // per_day * per_day).tolist()),  # midnight UTC
        ]
        return [taosws.stmt2_bind_param_view(table_name="", tags=None, columns=columns)]


class Meters:
    database, table = "power", "meters"
    create = (
        "CREATE STABLE IF NOT EXISTS {table} (ts TIMESTAMP, current FLOAT, voltage INT, phase FLOAT) "
        "TAGS (groupid INT, location BINARY(16))"
    )
    drop = "DROP STABLE IF EXISTS {table}"
    insert = "INSERT INTO ? USING {table} (groupid, location) TAGS (?, ?) VALUES (?, ?, ?, ?)"

    def __init__(self):
        self.random = np.random.default_rng()
        meters = len(LOCATIONS)
        # every meter has a level of its own for current, voltage and phase, and wanders around it
        self.usual = self.random.uniform([5, 205, 0.1], [15, 220, 0.5], (meters, 3))
        self.level = self.usual.copy()

    def make(self, rows):
        """Columns of `rows` readings as numpy arrays, the meters taking turns; a random walk per meter."""
        turns = -(-rows // len(LOCATIONS))
        values = np.empty((turns, len(LOCATIONS), 3))
        steps = self.random.normal(0, [0.05, 0.15, 0.002], values.shape)
        for turn in range(turns):
            self.level += steps[turn] + 0.01 * (self.usual - self.level)
            values[turn] = self.level
        values = values.reshape(-1, 3)[:rows]
        return {
            "meter": np.arange(rows) % len(LOCATIONS),
            "current": np.maximum(values[:, 0], 0),
            "voltage": np.clip(np.rint(values[:, 1]), 200, 225).astype(int),
            "phase": np.maximum(values[:, 2], 0),
        }

    @staticmethod
    def bind(stamps, batch, to_timestamps, units_per_s):
        """All subtables of the batch in one bind: one view a subtable, with its name, tags and columns."""
        views = []
        for meter in range(min(len(LOCATIONS), len(stamps))):
            of_meter = batch["meter"] == meter
            columns = [
                to_timestamps(stamps[of_meter].tolist()),
                taosws.floats_to_column(batch["current"][of_meter].tolist()),
                taosws.ints_to_column(batch["voltage"][of_meter].tolist()),
                taosws.floats_to_column(batch["phase"][of_meter].tolist()),
            ]
            tags = [taosws.int_to_tag(meter), taosws.varchar_to_tag(LOCATIONS[meter])]
            views.append(taosws.stmt2_bind_param_view(table_name=f"d_{meter}", tags=tags, columns=columns))
        return views


DATASETS = {"stocks": Stocks, "meters": Meters}


# The sender: a process of its own, which alone talks to TDengine


def bounded(call, *arguments):
    """call(*arguments); a call that takes CALL_LIMIT_S is ended by the kernel, together with this process."""
    signal.alarm(CALL_LIMIT_S)  # SIGALRM is left at its default, which needs no interpreter lock
    try:
        return call(*arguments)
    finally:
        signal.alarm(0)


def precision_of(connection, database):
    """'ms', 'us' or 'ns', or None when the database does not exist."""
    sql = f"SELECT `precision` FROM information_schema.ins_databases WHERE name = '{database}'"
    rows = bounded(lambda: list(connection.query(sql)))
    return rows[0][0] if rows else None


def topic_of(database, table):
    """The topic that perspective_server.py --source subscribe makes on a table."""
    return f"perspective_{database}_{table}"


def drop_topic(connection, topic):
    """A topic keeps its table from being dropped. One in use is tried for TOPIC_S: servers that end leave it free."""
    if topic not in [name for (name,) in bounded(lambda: list(connection.query("SHOW TOPICS")))]:
        return
    give_up_at = time.monotonic() + TOPIC_S
    while True:
        try:
            bounded(connection.execute, f"DROP TOPIC IF EXISTS {topic}")
            say(f"--reset: dropped the topic {topic} too, which held the table")
            return
        except taosws.Error as error:
            if not re.search("|".join(IN_USE), str(error)) or time.monotonic() > give_up_at:
                raise
        time.sleep(0.2)


def open_statement(dsn, dataset, database, reset):
    """Connects, makes what is missing. Returns connection, statement and the database's timestamp units per second."""
    connection = bounded(taosws.connect, dsn)
    table = f"{database}.{dataset.table}"
    precision = precision_of(connection, database)
    if precision is None:
        bounded(connection.execute, f"CREATE DATABASE IF NOT EXISTS {database} PRECISION 'ns'")
        precision = precision_of(connection, database)  # another producer may have been faster
    if reset:
        drop_topic(connection, topic_of(database, dataset.table))
        bounded(connection.execute, dataset.drop.format(table=table))
    bounded(connection.execute, f"USE {database}")
    bounded(connection.execute, dataset.create.format(table=table))
    statement = bounded(connection.stmt2_statement)
    bounded(statement.prepare, dataset.insert.format(table=table))
    return connection, statement, UNITS_PER_S[precision]


def send_batches(pipe, dsn, dataset, database, reset):
    """The sender: gets (stamps in ns, batch), tells ("ready", units per s), ("sent",) or ("failed", code, text).

    After a failure it connects anew. It ends when the main process is gone, or by SIGALRM when a call hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both processes, the main one decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            connection, statement, units_per_s = open_statement(dsn, dataset, database, reset)
            reset = False
            to_timestamps = {
                10**3: taosws.millis_timestamps_to_column,
                10**6: taosws.micros_timestamps_to_column,
                10**9: taosws.nanos_timestamps_to_column,
            }[units_per_s]
            pipe.send(("ready", units_per_s))
            while True:
                stamps, batch = pipe.recv()  # bound: the main process, which closes the pipe when it ends
                stamps = stamps // (10**9 // units_per_s)
                for k in range(0, len(stamps), ROWS_PER_BIND):
                    part = {name: column[k : k + ROWS_PER_BIND] for name, column in batch.items()}
                    views = dataset.bind(stamps[k : k + ROWS_PER_BIND], part, to_timestamps, units_per_s)
                    bounded(statement.bind, views)
                bounded(statement.execute)
                pipe.send(("sent",))
        except (EOFError, BrokenPipeError):
            return
        except taosws.Error as error:
            text = str(error)
            code = re.search(r"0x[0-9A-Fa-f]{4}", text)
            signal.alarm(CALL_LIMIT_S)  # closing, which waits too, is bounded until the next try to connect
            statement = connection = None  # noqa: F841  (a connection that failed once is closed, never used again)
            pipe.send(("failed", code.group() if code else "", text))
            time.sleep(RETRY_S)


class Sender:
    """The main process' side of the sender: one message in flight, and a new process when the old one has died."""

    def __init__(self, *arguments):
        self.arguments = arguments
        self.reset = arguments[-1]
        self.start()

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        arguments = (other_end, *self.arguments[:-1], self.reset)
        self.process = context.Process(target=send_batches, args=arguments, daemon=True)
        self.process.start()
        other_end.close()
        self.idle, self.heard_at = False, time.monotonic()

    def messages(self, timeout_s):
        """What the sender said within timeout_s; ("died", exit code) when it has ended, and a new one is on its way."""
        if not multiprocessing.connection.wait([self.pipe], timeout_s):
            if not self.idle and time.monotonic() - self.heard_at > SENDER_LIMIT_S:
                self.process.kill()
            return []
        self.heard_at = time.monotonic()
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(1)
            message = ("died", self.process.exitcode)
            self.stop()
            self.start()
        self.idle = message[0] in ("ready", "sent")
        if message[0] == "ready":
            self.reset = False
        return [message]

    def send(self, batch):
        self.idle, self.heard_at = False, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died: messages() will tell
            self.pipe.send(batch)

    def stop(self):
        self.process.kill()
        self.process.join(1)
        self.pipe.close()


# The main process: makes batches on the beat, keeps them until they are confirmed


class Beat:
    """The times at which batches are due, and the timestamps that belong to them."""

    def __init__(self, interval_ms, rows):
        self.interval_ns, self.rows = interval_ms * 10**6, rows
        self.next_stamp = 0
        self.start()

    def start(self):
        """The first batch is due at the next full interval of the clock, shortly after which the server polls."""
        self.due = time.monotonic_ns()
        if self.interval_ns:
            self.due += self.interval_ns - time.time_ns() % self.interval_ns

    def step_ns(self, units_per_s):
        """Nanoseconds between two rows; ValueError when the database can't tell the rows of this pace apart."""
        unit_ns = 10**9 // units_per_s
        # without an interval rows are stamped as if a million came a second
        step_ns = self.interval_ns // self.rows // unit_ns * unit_ns if self.interval_ns else 1000
        if step_ns < unit_ns:
            raise ValueError(
                f"{self.rows} rows in {self.interval_ns // 10**6} ms can't have timestamps of their own in a database "
                f"of {unit_ns} ns precision: fewer --rows, a longer --interval, or a database of PRECISION 'ns'"
            )
        return step_ns

    def stamps(self, units_per_s):
        """Timestamps in ns since 1970 of the rows that are due now: distinct, spread over the interval that has passed.

        Each producer keeps to a random phase within the step between two rows, so that several at once don't collide.
        """
        step_ns, unit_ns = self.step_ns(units_per_s), 10**9 // units_per_s
        if not self.next_stamp:
            self.phase = random.randrange(step_ns // unit_ns) * unit_ns
        late_ns = time.monotonic_ns() - self.due if self.interval_ns else 0
        first = (time.time_ns() - late_ns - self.rows * step_ns) // step_ns * step_ns + self.phase
        first = max(first, self.next_stamp)  # also when the clock was set back
        self.next_stamp = first + self.rows * step_ns
        return first + np.arange(self.rows) * step_ns


def say(text, end="\n"):
    """A line on stderr; on a terminal it takes the place of the refreshing line."""
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)


def explain(code, text, server, table):
    """One line for an error that trying again can't mend, or None."""
    if code in ("0x0357", "0x0351"):
        return f"{server} refuses this user or password ({text}): check --dsn, TDENGINE_DSN or --password-file"
    if "certificate" in text or "tls_" in text:
        return f"can't trust {server} ({text}): name your CA's file in the DSN, as ?tls_ca=ca.pem"
    if code in HOPELESS or "mismatch" in text or "not match" in text:
        return f"{table} at {server} can't take these rows ({text}): a table of another shape? --reset makes it anew"
    if code in IN_USE:
        subscribed = "perspective_server.py --source subscribe, or what else is subscribed"
        return f"--reset: {table} at {server} has a topic that is in use ({text}): stop {subscribed}"
    return None


class Producer:
    """Makes batches on the beat, hands the oldest to the sender, keeps each until it is confirmed."""

    def __init__(self, args, dataset, sender, server, table):
        self.args, self.sender, self.server, self.table = args, sender, server, table
        self.random_rows, self.beat = dataset(), Beat(args.interval, args.rows)
        self.kept = collections.deque()  # batches not confirmed, oldest first: (stamps in ns, columns)
        self.in_flight = 0  # how many of them the sender has
        self.made = self.sent = self.retries = 0
        self.units_per_s = None  # the database's precision, known once the sender is ready
        self.waiting = self.paused = False
        self.full_at = -SAY_AGAIN_S  # when the backlog was full last
        self.finish_by = None
        self.shown_at, self.shown_sent = time.monotonic(), 0

    def finish(self, *_):
        """Signal handler: makes no more rows, sends what is kept for FINISH_S."""
        self.finish_by = time.monotonic() + FINISH_S

    def wants_a_batch(self):
        if not self.units_per_s or self.finish_by or self.made == self.args.batches > 0:
            return False
        # without an interval the pace is the sender's: one batch in flight, one ready
        return self.args.interval > 0 or len(self.kept) < 2

    def make_a_batch(self):
        if (len(self.kept) + 1) * self.args.rows > self.args.backlog:
            if time.monotonic() - self.full_at > SAY_AGAIN_S:
                say(f"--backlog is full ({len(self.kept) * self.args.rows:,} rows): no new rows until some are sent")
            self.paused, self.full_at = True, time.monotonic()
            self.beat.due = time.monotonic_ns()  # the beats of this pause are left out, not made up for
            return
        self.paused = False
        self.kept.append((self.beat.stamps(self.units_per_s), self.random_rows.make(self.args.rows)))
        self.made += 1
        self.beat.due += self.beat.interval_ns

    def oldest(self):
        """The oldest batches kept, as many as go into one bind: after a pause they catch up in a few calls."""
        self.in_flight = max(1, min(len(self.kept), ROWS_PER_BIND // self.args.rows))
        stamps, batches = zip(*itertools.islice(self.kept, self.in_flight), strict=True)
        return np.concatenate(stamps), {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}

    def take(self, kind, *details):
        """Deals with one message of the sender; SystemExit with a line for the user when there is no going on."""
        if kind == "ready":
            if self.waiting:
                say(f"connected to {self.server}, {len(self.kept) * self.args.rows:,} kept rows to send")
            self.waiting = False
            try:
                self.beat.step_ns(*details)
            except ValueError as error:
                raise Stop(2, f"{self.table}: {error}") from None
            if not self.units_per_s:
                self.beat.start()
            (self.units_per_s,) = details
        elif kind == "sent":
            for _ in range(self.in_flight):
                self.kept.popleft()
            self.sent += self.in_flight
        elif kind == "died" and (details[0] or 0) > 0:
            raise Stop(1, "the sender process failed, its error is above")
        else:
            code, text = details if kind == "failed" else ("", "a call did not return and was ended")
            if line := explain(code, text, self.server, self.table):
                raise Stop(1, line)
            self.retries += 1
            if not self.waiting:
                say(f"waiting for TDengine at {self.server} ({text}): is it running? Trying on, rows are kept")
                self.full_at = -SAY_AGAIN_S
            self.waiting = True

    def show(self):
        """A line that refreshes on a terminal, one every 5 seconds otherwise."""
        passed = time.monotonic() - self.shown_at
        if passed < (0.5 if sys.stderr.isatty() else 5):
            return
        rows = self.args.rows
        pace = (self.sent - self.shown_sent) * rows / passed
        kept = len(self.kept) * rows
        text = f"{self.sent * rows:,} rows sent, {pace:,.0f} rows/s, {kept:,} kept, {self.retries} retries"
        say(text, end="" if sys.stderr.isatty() else "\n")
        self.shown_at, self.shown_sent = time.monotonic(), self.sent

    def run(self):
        """Until --batches are sent, or until a signal and what was kept then is sent or FINISH_S have passed."""
        while not (self.finish_by and (not self.kept or time.monotonic() > self.finish_by)):
            if self.args.batches and self.sent == self.args.batches:
                return
            wanted = self.wants_a_batch()
            if wanted and time.monotonic_ns() >= self.beat.due:
                self.make_a_batch()
            if self.sender.idle and self.kept:
                self.sender.send(self.oldest())
            until_due = max(self.beat.due - time.monotonic_ns(), 0) / 1e9
            # bound of this wait: 0.1 s, so that signals and the display are looked at
            for message in self.sender.messages(min(until_due, 0.1) if wanted and not self.paused else 0.1):
                self.take(*message)
            self.show()


class Stop(Exception):
    """Ends the producer: exit status and a line for the user."""


def split_dsn(dsn, password_file):
    """The DSN with time limits, how to show it (no secrets), its database or ''. ValueError when it is unusable."""
    parts = urllib.parse.urlsplit(dsn)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise ValueError
    user, host = parts.netloc.rpartition("@")[::2]
    if password_file:
        password = pathlib.Path(password_file).read_text().rstrip("\r\n")
        user = f"{parts.username or 'root'}:{urllib.parse.quote(password, safe='')}"
    given = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme in ("wss", "https"):  # taosws looks at no certificate unless it is told to
        if given.get("tls_mode") == "none":
            del given["tls_mode"]
        else:
            verify = {"tls_mode": "verify_identity", "tls_ca": ssl.get_default_verify_paths().cafile or ""}
            given = verify | given
    # one quick try to connect: the sender tries again, and tells
    limits = {"read_timeout": READ_TIMEOUT_S, "conn_timeout": READ_TIMEOUT_S, "conn_retries": 1}
    limits |= {"retry_backoff_ms": 100, "retry_backoff_max_ms": 200}
    full = parts._replace(
        netloc=f"{user}@{host}" if user else host, path="", query=urllib.parse.urlencode(limits | given)
    )
    return full.geturl(), f"{parts.scheme}://{host}", parts.path.strip("/")


def whole_number(least):
    def parse(text):
        if not text.isdecimal() or not least <= int(text) <= 10**9:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} to 1000000000")
        return int(text)

    return parse


def identifier(text):
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a name (letters, digits, _; at most 64)")
    return text.lower()


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def parse_arguments(argv=None):
    parser = Parser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--dataset", choices=list(DATASETS), default="stocks", help="which rows (default: stocks)")
    add("--dsn", default=os.environ.get("TDENGINE_DSN") or DEFAULT_DSN, help=f"default: $TDENGINE_DSN or {DEFAULT_DSN}")
    add("--password-file", metavar="FILE", help="holds the password for the DSN, which then needs none")
    add("--database", type=identifier, help="default: the DSN's, or else the dataset's own")
    add(
        "--interval",
        type=whole_number(0),
        default=250,
        metavar="MS",
        help="between batches; 0: no pause (default: 250)",
    )
    add("--rows", type=whole_number(1), default=250, metavar="N", help="rows a batch (default: 250)")
    add("--batches", type=whole_number(0), default=0, metavar="N", help="stop after N batches (default: 0, never)")
    add("--backlog", type=whole_number(1), default=1_000_000, metavar="ROWS", help="kept while away (default: 1000000)")
    add("--reset", action="store_true", help="drop the dataset's table first, with all its rows")
    args = parser.parse_args(argv)
    if args.backlog < args.rows:
        parser.error("--backlog must hold at least one batch of --rows")
    try:
        args.dsn, args.server, dsn_database = split_dsn(args.dsn, args.password_file)
        args.database = args.database or identifier(dsn_database or DATASETS[args.dataset].database)
    except OSError as error:
        parser.error(f"can't read the password file {args.password_file}: {error.strerror}")
    except (ValueError, argparse.ArgumentTypeError):  # not shown: the DSN may hold a password
        parser.error("unusable DSN, one looks like ws://USER:PASSWORD@HOST:6041 (special characters as %XX)")
    return args


def main():
    args = parse_arguments()
    dataset = DATASETS[args.dataset]
    table = f"{args.database}.{dataset.table}"
    sender = Sender(args.dsn, dataset, args.database, args.reset)
    producer = Producer(args, dataset, sender, args.server, table)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, producer.finish)
    status = 0
    say(f"{args.rows} rows into {table} at {args.server} every {args.interval} ms")
    try:
        producer.run()
    except Stop as stop:
        status, line = stop.args
        say(f"producer.py: {line}")
    finally:
        sender.stop()
    if producer.kept:
        say(f"producer.py: {len(producer.kept) * args.rows} rows not sent")
        status = status or 1
    print(f"sent {producer.sent * args.rows} rows in {producer.sent} batches", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
