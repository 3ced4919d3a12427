#!/usr/bin/env python3
"""Inserts random rows into ClickHouse on a steady beat, column by column, with clickhouse-connect.

    python producer.py [--dsn DSN] [--interval MS] [--rows N]

The main thread makes a batch every interval and keeps it until ClickHouse has confirmed it; a sender thread talks
to ClickHouse. A batch that failed is looked for, and sent again with the same timestamps and the same deduplication
token when it is not there: ClickHouse then leaves out what it has already, so no row is there twice.
"""

import argparse
import collections
import contextlib
import datetime
import ipaddress
import itertools
import logging
import os
import pathlib
import queue
import random
import re
import secrets
import signal
import sys
import threading
import time
import urllib.parse

import clickhouse_connect
import numpy as np
import urllib3
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError
from clickhouse_connect.driver.httputil import get_pool_manager

DEFAULT_DSN = "clickhouse://default@localhost:8123"
# What clickhouse-connect's client is told by other parts of a DSN, and so not by its options, or can't be told by text
OF_THE_DSN = {"host", "port", "user", "user_name", "username", "password", "database", "interface", "dsn"}
OF_THE_DSN |= {"settings", "headers", "pool_mgr", "token_provider", "dedicated_pool"}
TICKERS = ["AAPL.N", "AMZN.N", "QQQ.N", "NVDA.N", "TSLA.N", "FB.N", "MSFT.N", "TLT.N", "XIV.N", "YY.N", "CSCO.N"]
TICKERS += ["GOOGL.N", "PCLN.N"]
CLIENTS = ["Homer", "Marge", "Bart", "Lisa", "Maggie", "Moe", "Lenny", "Carl", "Krusty"]

DATABASE, TABLE = "stocks", "stock_values"
COLUMNS = {
    "timestamp": "DateTime64(9, 'UTC')",
    "ticker": "String",
    "client": "String",
    "open": "Float64",
    "high": "Float64",
    "low": "Float64",
    "close": "Float64",
    "volume": "UInt32",
    "date": "Date",
}
# Without a window of its own, a MergeTree that isn't replicated doesn't know a batch by its token.
WINDOW = "non_replicated_deduplication_window = 1000"
CREATE = (
    "CREATE TABLE IF NOT EXISTS {table} ("
    + ", ".join(f"`{name}` {kind}" for name, kind in COLUMNS.items())
    + f") ENGINE = MergeTree ORDER BY timestamp SETTINGS {WINDOW}"
)
ROWS_PER_INSERT = 50_000  # of batches that wait, so many rows go into one insert
READ_TIMEOUT_S = 6  # ClickHouse's silence for so long is a failure
RETRY_S = 0.5  # between two tries to connect
SAY_AGAIN_S = 60  # that the backlog is full is told again when it wasn't for so long, or after a new connection
FINISH_S = 4.5  # what is kept is still sent for so long after SIGINT or SIGTERM
# Refused user or password, no permission, a column that the table hasn't, values that it can't hold, broken SQL:
# trying again can't help. Anything else (no connection, server starting, table dropped meanwhile) may pass.
REFUSED = {192, 193, 194, 195, 497, 516}
HOPELESS = {6, 16, 27, 36, 38, 41, 44, 47, 48, 50, 53, 62, 69, 70, 115, 164, 349, 407}


class Stocks:
    """Makes batches of random trades."""

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
    def columns(stamps, batch, units_per_s):
        """The batch as clickhouse-connect wants it, one sequence a column; stamps in ns, `units_per_s` the table's."""
        ticks = stamps // (10**9 // units_per_s)
        return [
            ticks.tolist(),
            [TICKERS[k] for k in batch["ticker"].tolist()],
            [CLIENTS[k] for k in batch["client"].tolist()],
            *(batch[name].tolist() for name in ("open", "high", "low", "close")),
            batch["volume"].tolist(),
            [time_to_date(stamps[-1])] * len(stamps),
        ]


def time_to_date(stamp_ns):
    return datetime.datetime.fromtimestamp(int(stamp_ns) // 10**9, datetime.UTC).date()


# The sender: a thread, which alone talks to ClickHouse


def connect(dsn):
    """A client of clickhouse-connect, which waits for READ_TIMEOUT_S at most.

    Options in the DSN are the client's, such as ca_cert, or else ClickHouse's settings; ValueError for unusable ones.
    """
    for name in ("clickhouse_connect", "urllib3"):  # each failure is told by us, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    parts = urllib.parse.urlsplit(dsn)
    options = {"connect_timeout": READ_TIMEOUT_S, "send_receive_timeout": READ_TIMEOUT_S}
    options |= urllib.parse.parse_qsl(parts.query)
    secure = options.pop("secure", "").lower() in ("1", "true", "yes", "on") or parts.scheme.endswith("s")
    # no proxy of http_proxy's for this machine's own ClickHouse
    pool = {"pool_mgr": get_pool_manager()} if is_loopback(parts.hostname) and not secure else {"dedicated_pool": True}
    try:
        return clickhouse_connect.get_client(
            dsn=parts._replace(path="", query="").geturl(),
            interface="https" if secure else "http",
            autogenerate_session_id=False,
            generic_args=options,
            **pool,
        )
    except (ProgrammingError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"unusable options in the DSN ({one_line(error)})") from None


def is_loopback(host):
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def prepare_table(client, database, reset):
    """Makes what is missing. Returns what the table is like.

    Its timestamp units per second; whether it is a MergeTree without replicas; whether it knows batches again.
    """
    table, where = f"`{database}`.{TABLE}", f"WHERE database = '{database}'"
    columns = f"SELECT name, type FROM system.columns {where} AND table = '{TABLE}'"
    kinds = dict(client.query(columns).result_rows)
    if reset and kinds:
        client.command(f"DROP TABLE IF EXISTS {table} SYNC")
        kinds = {}
    if not kinds:
        # looked for first: who may use a database may not make one
        if not client.query(f"SELECT name FROM system.databases WHERE name = '{database}'").result_rows:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        client.command(CREATE.format(table=table))
        kinds = dict(client.query(columns).result_rows)
    kind = kinds.get("timestamp", "")
    digits = re.search(r"DateTime64\((\d)", kind)
    if not digits and "DateTime" not in kind:
        raise Stop(
            1, f"{table} has no column timestamp of type DateTime64: another table's name? --reset makes it anew"
        )
    engines = client.query(f"SELECT engine_full FROM system.tables {where} AND name = '{TABLE}'").result_rows
    engine = engines[0][0] if engines else ""
    alone = "MergeTree" in engine.split("(")[0] and not engine.startswith(("Replicated", "Shared"))
    knows = re.search(r"\bnon_replicated_deduplication_window = [1-9]", engine)
    return 10 ** int(digits[1] if digits else 0), alone, knows


class Sender(threading.Thread):
    """Gets batches one by one and tells about them: ("ready", units per s), ("sent",) or ("failed", code, text).

    A thread will do, where the client of TDengine needs a process: clickhouse-connect waits in sockets, without the
    interpreter's lock. After a failure it connects anew. It is a daemon: the program may end while it waits.
    """

    def __init__(self, dsn, dataset, database, reset):
        super().__init__(daemon=True, name="sender")
        self.dsn, self.dataset, self.database, self.reset = dsn, dataset, database, reset
        self.batches, self.told = queue.SimpleQueue(), queue.SimpleQueue()
        self.idle = False
        self.unsure = None  # token of a batch that may be stored: its insert was not confirmed
        self.start()

    def run(self):
        while True:
            client = None
            try:
                client = connect(self.dsn)
                units_per_s, alone, knows = prepare_table(client, self.database, self.reset)
                self.reset = False
                self.told.put(("ready", units_per_s))
                while True:
                    batch = self.batches.get()  # bound: a daemon, ended with the program
                    if alone and not knows:
                        self.give_window(client)
                        knows = True
                    self.insert(client, alone, units_per_s, *batch)
                    self.told.put(("sent",))
            except (ClickHouseError, urllib3.exceptions.HTTPError, OSError) as error:
                self.told.put(("failed", getattr(error, "code", None), one_line(error)))
                time.sleep(RETRY_S)
            except Exception as error:  # whatever it is, the main thread ends the program with it
                self.told.put(("died", Stop(2, str(error)) if client is None else error))
                return
            finally:
                if client is not None:
                    client.close_connections()

    def give_window(self, client):
        """Lets a MergeTree that a user has made know batches by their tokens."""
        try:
            client.command(f"ALTER TABLE `{self.database}`.{TABLE} MODIFY SETTING {WINDOW}")
            say(f"{self.database}.{TABLE} knows a batch again from now on, so that none is stored twice: {WINDOW}")
        except ClickHouseError as error:
            say(f"{self.database}.{TABLE} can't be given {WINDOW} ({one_line(error)}): a batch may be stored twice")

    def insert(self, client, alone, units_per_s, stamps, batch, token):
        """Stores a batch; one of which it isn't sure that it is not there yet is looked for first."""
        again = self.unsure == token
        if again and self.is_stored(client, units_per_s, stamps, batch):
            return
        self.unsure = token
        unit = {1: "DateTime('UTC')"}.get(units_per_s, f"DateTime64({len(str(units_per_s)) - 1}, 'UTC')")
        for each in (token, f"{token}-2"):
            client.insert(
                TABLE,
                self.dataset.columns(stamps, batch, units_per_s),
                database=self.database,
                column_names=list(COLUMNS),
                column_type_names=[unit, *list(COLUMNS.values())[1:]],
                column_oriented=True,
                # confirmed when it is stored, and not stored again when it comes again
                settings={"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": each},
            )
            # ClickHouse writes the token first: killed just then, it knows the token of rows that it has not
            if not again or not alone or self.is_stored(client, units_per_s, stamps, batch):
                break
        self.unsure = None

    def is_stored(self, client, units_per_s, stamps, batch):
        """Whether the batch's last row is there; ClickHouse stores a batch as a whole."""
        last = int(stamps[-1]) // (10**9 // units_per_s) * (10**9 // units_per_s)
        row = f"ticker = '{TICKERS[batch['ticker'][-1]]}' AND client = '{CLIENTS[batch['client'][-1]]}'"
        found = client.query(
            f"SELECT count() FROM `{self.database}`.{TABLE} "
            f"WHERE timestamp = fromUnixTimestamp64Nano({last}) AND {row} AND volume = {batch['volume'][-1]}"
        )
        return found.result_rows[0][0] > 0

    def messages(self, timeout_s):
        """What the sender said within timeout_s."""
        try:
            message = self.told.get(timeout=timeout_s) if timeout_s > 0 else self.told.get_nowait()
        except queue.Empty:
            return []
        self.idle = message[0] in ("ready", "sent")
        return [message]

    def send(self, batch):
        self.idle = False
        self.batches.put(batch)


def one_line(error):
    """What ClickHouse or the way to it said, short."""
    text = " ".join(str(error).split())
    kinds = [r"DB::Exception: (.*?)(?: \(version |$)", r"\[Errno -?\d+\] ([^\"')]+)"]
    for kind in [*kinds, r"Caused by (.*?)\) executing HTTP", r"^Error (.*?) executing HTTP"]:
        if found := re.search(kind, text):
            return found[1][:200]
    return text[:200]


# The main thread: makes batches on the beat, keeps them until they are confirmed


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
        """Nanoseconds between two rows; ValueError when the table can't tell the rows of this pace apart."""
        unit_ns = 10**9 // units_per_s
        # without an interval rows are stamped as if a million came a second
        step_ns = self.interval_ns // self.rows // unit_ns * unit_ns if self.interval_ns else 1000
        if step_ns < unit_ns:
            raise ValueError(
                f"{self.rows} rows in {self.interval_ns // 10**6} ms can't have timestamps of their own in a table "
                f"of {unit_ns} ns precision: fewer --rows, a longer --interval, or a DateTime64(9) (--reset)"
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
    if code in REFUSED:
        return f"{server} refuses this user or password ({text}): check --dsn, CLICKHOUSE_DSN or --password-file"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"{server}'s certificate can't be trusted ({text}): name your CA's file in the DSN, as ?ca_cert=ca.pem"
    if code in HOPELESS:
        return (
            f"{table} at {server} can't take these rows ({text}): "
            "a table of another shape, which --reset makes anew, or options in the DSN?"
        )
    return None


class Producer:
    """Makes batches on the beat, hands them to the sender one by one, keeps each until it is confirmed."""

    def __init__(self, args, dataset, sender, server, table):
        self.args, self.sender, self.server, self.table = args, sender, server, table
        self.random_rows, self.beat = dataset(), Beat(args.interval, args.rows)
        self.kept = collections.deque()  # batches not confirmed, oldest first: (stamps in ns, columns, token)
        self.made = self.sent = self.retries = 0
        self.in_flight = 0  # batches that the sender was given as one
        self.units_per_s = None  # the table's precision, known once the sender is ready
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
        batch = self.random_rows.make(self.args.rows)
        self.kept.append((self.beat.stamps(self.units_per_s), batch, secrets.token_hex(16)))
        self.made += 1
        self.beat.due += self.beat.interval_ns

    def oldest(self):
        """The oldest batches kept, as one: after a pause they catch up in a few calls.

        Those that have failed are the same again, because their token stands for just these rows.
        """
        self.in_flight = self.in_flight or max(1, min(len(self.kept), ROWS_PER_INSERT // self.args.rows))
        stamps, batches, tokens = zip(*itertools.islice(self.kept, self.in_flight), strict=True)
        columns = {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}
        return np.concatenate(stamps), columns, tokens[0]

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
            self.in_flight = 0
        elif kind == "died":
            raise details[0]
        else:
            code, text = details
            if line := explain(code, text, self.server, self.table):
                raise Stop(1, line)
            self.retries += 1
            if not self.waiting:
                say(f"waiting for ClickHouse at {self.server} ({text}): is it running? Trying on, rows are kept")
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
    """The DSN, how to show it (no secrets), its database or ''. ValueError when it is unusable."""
    parts = urllib.parse.urlsplit(dsn)
    if not re.fullmatch(r"(clickhouse(db)?|http)s?|clickhouse(db)?\+https?", parts.scheme) or not parts.hostname:
        raise ValueError
    if parts.port == 0 or "@" in parts.path:
        raise ValueError
    if OF_THE_DSN.intersection(dict(urllib.parse.parse_qsl(parts.query))):
        raise ValueError
    user, host = parts.netloc.rpartition("@")[::2]
    if password_file:
        password = pathlib.Path(password_file).read_text().rstrip("\r\n")
        user = f"{parts.username or 'default'}:{urllib.parse.quote(password, safe='')}"
    full = parts._replace(netloc=f"{user}@{host}" if user else host, path="")
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
    return text


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def parse_arguments(argv=None):
    parser = Parser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--dataset", choices=["stocks"], default="stocks", help="there is one here (default: stocks)")
    add(
        "--dsn",
        default=os.environ.get("CLICKHOUSE_DSN") or DEFAULT_DSN,
        help=f"default: $CLICKHOUSE_DSN or {DEFAULT_DSN}",
    )
    add("--password-file", metavar="FILE", help="holds the password for the DSN, which then needs none")
    add("--database", type=identifier, help="default: the DSN's, or else stocks")
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
        args.database = args.database or identifier(dsn_database or DATABASE)
    except OSError as error:
        parser.error(f"can't read the password file {args.password_file}: {error.strerror}")
    except (ValueError, argparse.ArgumentTypeError):  # not shown: the DSN may hold a password
        parser.error("unusable DSN, one looks like clickhouse://USER:PASSWORD@HOST:8123 (special characters as %XX)")
    return args


def main():
    args = parse_arguments()
    table = f"{args.database}.{TABLE}"
    sender = Sender(args.dsn, Stocks, args.database, args.reset)
    producer = Producer(args, Stocks, sender, args.server, table)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, producer.finish)
    status = 0
    say(f"{args.rows} rows into {table} at {args.server} every {args.interval} ms")
    try:
        producer.run()
    except Stop as stop:
        status, line = stop.args
        say(f"producer.py: {line}")
    if producer.kept:
        say(f"producer.py: {len(producer.kept) * args.rows} rows not sent")
        status = status or 1
    print(f"sent {producer.sent * args.rows} rows in {producer.sent} batches", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
