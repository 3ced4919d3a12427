#!/usr/bin/env python3
"""Polls ClickHouse for the last second of rows and serves them as a live Perspective table.

    python perspective_server.py [--dsn DSN] [--interval MS] [--limit N] [--port P]

A reader thread talks to ClickHouse: a slow, silent or dead database never stalls a viewer. Rows come as Arrow and stay
Arrow; those that were shown already are left out; the rest goes into a Perspective table with a limit, which browsers
read and subscribe to at /websocket. They may look, not touch.
"""

import argparse
import asyncio
import base64
import collections
import concurrent.futures
import contextlib
import datetime
import hashlib
import ipaddress
import itertools
import json
import logging
import os
import pathlib
import re
import secrets
import signal
import socket
import ssl
import sys
import time
import urllib.parse

import clickhouse_connect
import perspective
import pyarrow
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.web
import tornado.websocket
import urllib3
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError
from clickhouse_connect.driver.httputil import get_pool_manager
from perspective.handlers.tornado import PerspectiveTornadoHandler

DEFAULT_DSN = "clickhouse://default@localhost:8123"
# What clickhouse-connect's client is told by other parts of a DSN, and so not by its options, or can't be told by text
OF_THE_DSN = {"host", "port", "user", "user_name", "username", "password", "database", "interface", "dsn"}
OF_THE_DSN |= {"settings", "headers", "pool_mgr", "token_provider", "dedicated_pool"}
HERE = pathlib.Path(__file__).resolve().parent.parent  # the page and node_modules are shared with the demo above
CDN = "https://cdn.jsdelivr.net/npm/"
FILTER_HANDLER = b"this.parentNode.dataset.value=this.value"  # in @perspective-dev/viewer
LOG = logging.getLogger("perspective_server")

DATABASE, TABLE = "stocks", "stock_values"  # in ClickHouse; Perspective's table has the same name
# The columns, as Perspective takes them in Arrow: datetimes of milliseconds, and UInt32, which does not fit
# Perspective's 32-bit integer, as floats.
COLUMNS = {
    "timestamp": "toDateTime64(t.timestamp, 3, 'UTC')",
    "ticker": "toString(t.ticker)",
    "client": "toString(t.client)",
    "open": "toFloat64(t.open)",
    "high": "toFloat64(t.high)",
    "low": "toFloat64(t.low)",
    "close": "toFloat64(t.close)",
    "volume": "toFloat64(t.volume)",
    "date": "toDate32(t.date)",
}
STAMP = "toUnixTimestamp64Nano(toDateTime64(t.timestamp, 9))"
# What tells rows apart: equal timestamps are two rows in ClickHouse.
KEY = "sipHash64(" + ", ".join(f"t.{column}" for column in COLUMNS) + ")"

WINDOW_MS = 1000  # each poll asks for the last second, or back to the last poll that succeeded
CHECK_S = 1  # how often late rows are looked for
REMEMBERED_ROWS, REMEMBERED_S = 300_000, 10_000  # bounds of what is remembered of the rows that were shown
LAG_MS = 60  # between a full interval and our poll
RETRY_S = 0.5  # after a poll that failed
STALE_S = 5  # without a new row
READ_TIMEOUT_S = 6  # ClickHouse's silence for so long is a failure
CALL_LIMIT_S = 10  # a query that takes longer is given up, even when bytes still trickle in

# What a viewer may ask, by the field number of Request in perspective.proto: see and subscribe. The viewer also asks
# for a port (5) to send edits through, by itself; it gets the number of one that isn't made.
ALLOWED = {
    3: "get_features", 4: "get_hosted_tables", 5: "table_make_port", 6: "table_make_view", 7: "table_schema",
    8: "table_size", 9: "table_validate_expr", 10: "view_column_paths", 11: "view_delete", 12: "view_dimensions",
    13: "view_expression_schema", 14: "view_get_config", 15: "view_schema", 16: "view_to_arrow",
    17: "server_system_info", 18: "view_collapse", 19: "view_expand", 20: "view_get_min_max", 21: "view_on_update",
    22: "view_remove_on_update", 23: "view_set_depth", 24: "view_to_columns_string", 25: "view_to_csv",
    26: "view_to_rows_string", 29: "table_on_delete", 30: "table_remove_delete", 34: "view_on_delete",
    35: "view_remove_delete", 36: "view_to_ndjson_string", 37: "remove_hosted_tables_update",
}  # fmt: skip
DENIED = {27: "make_table", 28: "table_delete", 31: "table_remove", 32: "table_replace", 33: "table_update"}
OF_A_VIEW = {10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 34, 35, 36}
CHANGES_A_VIEW = {18, 19, 23}
SUBSCRIBES = {21, 29, 34}
MAX_MESSAGE = 256 * 1024  # bytes of one request
MAX_VIEWS = 32  # per connection
MAX_SUBSCRIPTIONS = 128  # per connection
MAX_EXPRESSIONS = 8 * 1024  # bytes of all expressions in one request
MAX_UNSENT = 32 * 1024 * 1024  # bytes waiting for a viewer that reads too slowly
PING_S = 20  # between pings, and the time to answer one


# The reader: a thread, which alone talks to ClickHouse


class DatabaseError(Exception):
    """What ClickHouse or the way to it answered, in one line.

    `code` is ClickHouse's number of the error, "dsn" for unusable options in the DSN, or None.
    """

    def __init__(self, text, code=None):
        super().__init__(text)
        self.code = code


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


def one_line(error):
    """What ClickHouse or the way to it said, short."""
    text = " ".join(str(error).split())
    kinds = [r"DB::Exception: (.*?)(?: \(version |$)", r"\[Errno -?\d+\] ([^\"')]+)"]
    for kind in [*kinds, r"Caused by (.*?)\) executing HTTP", r"^Error (.*?) executing HTTP"]:
        if found := re.search(kind, text):
            return found[1][:200]
    return text[:200]


class Reader:
    """One query at a time, in a thread.

    A thread will do, where the client of TDengine needs a process: clickhouse-connect waits in sockets, without the
    interpreter's lock. One whose query takes too long is left to itself, where its socket's time limit ends it, and a
    new one takes its place.
    """

    def __init__(self, dsn):
        self.dsn, self.client = dsn, None
        self.turn = asyncio.Lock()
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "reader")

    def exchange(self, sql):
        """Runs in the thread. Connects when there is no connection; one that failed is never used again."""
        client, self.client = self.client, None
        try:
            client = client or connect(self.dsn)
            # the database, too, gives up what nobody waits for any more; a user may not be allowed to ask for it
            limit = client.server_settings.get("max_execution_time")
            settings = {} if limit and limit.readonly else {"max_execution_time": READ_TIMEOUT_S}
            table = client.query_arrow(sql, use_strings=True, settings=settings)
        except (ClickHouseError, urllib3.exceptions.HTTPError, OSError, pyarrow.ArrowException) as error:
            if client is not None:
                client.close_connections()
            raise DatabaseError(one_line(error), getattr(error, "code", None)) from None
        except ValueError as error:
            raise DatabaseError(str(error), "dsn") from None
        return client, table

    async def ask(self, sql):
        """The pyarrow.Table of a SELECT; DatabaseError when it failed."""
        async with self.turn:
            work = asyncio.get_running_loop().run_in_executor(self.thread, self.exchange, sql)
            try:
                self.client, table = await asyncio.wait_for(work, CALL_LIMIT_S)
            except TimeoutError:
                self.thread.shutdown(wait=False)
                self.thread = concurrent.futures.ThreadPoolExecutor(1, "reader")
                raise DatabaseError(f"a query took longer than {CALL_LIMIT_S} s") from None
        return table


# The feed: from the table in ClickHouse into the Perspective table, each row once


class Shown:
    """The keys of the rows that were shown, by second of their timestamp, so that the oldest can be forgotten."""

    def __init__(self):
        self.seconds, self.total = {}, 0

    def has(self, second, key):
        return key in self.seconds.get(second, ())

    def add(self, second, key):
        self.seconds.setdefault(second, set()).add(key)
        self.total += 1

    def of(self, second):
        return set(self.seconds.get(second, ()))

    def remove(self, second, keys):
        if second in self.seconds:  # not forgotten meanwhile
            self.seconds[second] -= keys
            self.total -= len(keys)

    def counts(self, first):
        return {second: len(keys) for second, keys in self.seconds.items() if second >= first and keys}

    def forget_oldest(self):
        """Keeps to the bounds; the second from which on all is still known, or None when nothing was forgotten."""
        first = None
        while self.total > REMEMBERED_ROWS and len(self.seconds) > 1 or len(self.seconds) > REMEMBERED_S:
            second = min(self.seconds)
            self.total -= len(self.seconds.pop(second))
            first = second + 1
        return first


class Feed:
    """Polls the table and feeds its Perspective table; counts what /healthz tells."""

    def __init__(self, database, reader, client, writer, limit, history_ms=0):
        self.name, self.database, self.source = TABLE, database, f"{database}.{TABLE}"
        self.quoted = f"`{database}`.{TABLE}"
        self.reader, self.client, self.writer, self.limit = reader, client, writer, limit
        self.history_ms = history_ms  # to be loaded by the first poll
        self.shown = Shown()
        self.table = self.start_ns = self.newest_ms = self.lag_ms = self.error = None
        self.checked_from = 0  # from this second on, every row that is stored should have been shown
        self.succeeded_at = time.monotonic()  # start of the last poll that succeeded; at first, of the server
        self.checked_at = self.retry_at = self.row_at = 0.0
        self.rows = self.polls = self.failed_polls = self.full_polls = self.reconnects = 0
        self.arrivals = collections.deque([(self.succeeded_at, 0)], 600)  # (when, rows in all) of the last seconds

    async def poll(self):
        """One tick: reads, shows what is new. Never two at a time: PeriodicCallback awaits it."""
        started = time.monotonic()
        if started < self.retry_at:
            return
        self.polls += 1
        try:
            await self.read(started)
        except DatabaseError as error:
            self.failed_polls += 1
            self.retry_at = time.monotonic() + RETRY_S
            reason = self.explain(error.code, str(error))
            if reason != self.error:
                LOG.warning("%s: %s (%s)", self.source, reason, error)
            self.error = reason
            return
        if self.error is not None:
            self.reconnects += 1
            LOG.info("%s: ClickHouse answers again", self.source)
        self.error, self.succeeded_at = None, started

    def explain(self, code, text):
        """What is wrong and what to do, in one line, for the log and the page; `code`: see DatabaseError."""
        if code == "dsn":
            return "CLICKHOUSE_DSN or --dsn has unusable options: correct them"
        if code in (192, 193, 194, 195, 497, 516):
            return "ClickHouse refuses this user or password: check CLICKHOUSE_DSN or --password-file"
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "ClickHouse's TLS certificate can't be trusted: name your CA's file in the DSN, as ?ca_cert=ca.pem"
        if code == 81:
            return f"ClickHouse has no database {self.database}: start producer.py, which makes it"
        if code == 60:
            return f"ClickHouse has no table {self.source}: start producer.py, which makes it"
        if code in (6, 16, 43, 47, 53, 70, 72):
            return f"table {self.source} has not the columns of this dataset"
        if code:
            return f"ClickHouse answers with its error {code}: see the server's log"
        return "ClickHouse does not answer: is it running? Trying on"

    async def read(self, started):
        passed_ms = int((started - self.succeeded_at) * 1000)
        if self.start_ns is None:  # rows from before the server's start, or before --history, are not shown
            now = await self.reader.ask("SELECT toUnixTimestamp64Nano(now64(9)) AS now")
            passed_ms = int((time.monotonic() - self.succeeded_at) * 1000)  # connecting took a while, too
            self.start_ns = now["now"][0].as_py() - (passed_ms + WINDOW_MS + self.history_ms) * 10**6
            self.checked_from = self.start_ns // 10**9 + 1
        # after a pause the window reaches back to the last poll that succeeded
        window_ms = WINDOW_MS if passed_ms < WINDOW_MS else passed_ms + WINDOW_MS
        times, _ = await self.show(f"t.timestamp >= now64(9) - INTERVAL {window_ms + self.history_ms} MILLISECOND")
        if self.history_ms:
            self.end_history(times)
        if started - self.checked_at > CHECK_S:
            self.checked_at = started
            await self.show_late_rows()

    def end_history(self, times):
        """The history is loaded: what is older than its newest `limit` rows is left out for good."""
        self.history_ms = 0
        self.arrivals.clear()
        self.arrivals.append((time.monotonic(), self.rows))  # it doesn't count for rows/s
        if len(times) == self.limit:
            self.start_ns = max(self.start_ns, times[-1])
            self.checked_from = max(self.checked_from, times[-1] // 10**9 + 1)
            self.full_polls = 0

    async def show(self, where):
        """Shows those of the newest rows that match which were not shown yet. Returns all (times, keys) that match."""
        found = await self.reader.ask(
            f"SELECT {', '.join(f'{sql} AS `{column}`' for column, sql in COLUMNS.items())}, "
            f"{STAMP} AS `_stamp`, {KEY} AS `_key` FROM {self.quoted} AS t "
            f"WHERE {where} ORDER BY t.timestamp DESC LIMIT {self.limit}"
        )
        times, keys = found["_stamp"].to_pylist(), found["_key"].to_pylist()
        new = []  # positions, oldest first
        for k in range(len(times) - 1, -1, -1):
            second = times[k] // 10**9
            if times[k] >= self.start_ns and not self.shown.has(second, keys[k]):
                self.shown.add(second, keys[k])
                new.append(k)
        if len(times) == self.limit and new and new[0] == len(times) - 1:
            self.full_polls += 1  # even the oldest one is new: older ones may have been left out
        if new:
            rows = found.select(list(COLUMNS)).take(new)
            await asyncio.get_running_loop().run_in_executor(self.writer, self.update, rows)
            now, newest_ms = time.monotonic(), times[new[-1]] // 10**6
            self.rows, self.row_at = self.rows + len(new), now
            self.newest_ms = max(newest_ms, self.newest_ms or 0)
            self.lag_ms = round(time.time() * 1000 - newest_ms)
            if self.rows == len(new):
                self.arrivals.clear()  # the pace is counted from the first rows on
            self.arrivals.append((now, self.rows))
            if (forgotten := self.shown.forget_oldest()) is not None:  # what is older can't be told apart any more
                self.start_ns = max(self.start_ns, forgotten * 10**9)
                self.checked_from = max(self.checked_from, forgotten)
        return times, keys

    def update(self, rows):
        """Runs in the one writer thread: concurrent writes would lose rows, and the event loop stays free."""
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows.combine_chunks())
        arrow = sink.getvalue().to_pybytes()
        if self.table is None:
            # Hosted with its first rows: an empty table with grouped views freezes the engine when rows arrive.
            self.table = self.client.table(arrow, limit=self.limit, name=self.name)
        else:
            self.table.update(arrow)

    async def show_late_rows(self):
        """Shows rows that came later than the window reaches, as when a producer sent what it had kept.

        Compares each second's count of different rows with what was shown of it, and reads from the first that differs
        to the last.
        """
        found = await self.reader.ask(
            f"SELECT intDiv({STAMP}, 1000000000) AS second, uniqExact({KEY}) AS count FROM {self.quoted} AS t "
            f"WHERE t.timestamp >= toDateTime64({self.checked_from}, 9) GROUP BY second"
        )
        stored = dict(zip(found["second"].to_pylist(), found["count"].to_pylist(), strict=True))
        shown = self.shown.counts(self.checked_from)
        differ = [second for second in stored | shown if stored.get(second) != shown.get(second)]
        if not differ:
            return
        first, last = min(differ), max(differ)
        shown = {second: self.shown.of(second) for second in range(first, last + 1)}
        times, keys = await self.show(
            f"t.timestamp >= toDateTime64({first}, 9) AND t.timestamp < toDateTime64({last + 1}, 9)"
        )
        if len(times) == self.limit:  # what is older does not fit the limit
            self.checked_from = times[-1] // 10**9 + 1
            return
        stored = {}
        for when, key in zip(times, keys, strict=True):
            stored.setdefault(when // 10**9, set()).add(key)
        for second, known in shown.items():
            if gone := known - stored.get(second, set()):
                self.shown.remove(second, gone)  # rows that are gone don't count any more

    def status(self):
        if not self.rows or self.error and self.error.startswith(("ClickHouse refuses", "ClickHouse has no")):
            return "waiting"
        return "ok" if time.monotonic() - self.row_at < STALE_S else "stale"

    def health(self):
        """This table's part of /healthz, see the README."""
        now = time.monotonic()
        arrivals = self.arrivals
        while len(arrivals) > 1 and now - arrivals[1][0] > 5:
            arrivals.popleft()
        (when, total), (last, _) = arrivals[0], arrivals[-1]
        passed = (last if now - last < 1 else now) - when  # to the last arrival: between two there are no rows yet
        newest = self.newest_ms and datetime.datetime.fromtimestamp(self.newest_ms / 1000, datetime.UTC)
        return {
            "status": self.status(),
            "source": "poll",
            "rows": self.rows,
            "rows_per_s": round((self.rows - total) / max(passed, 0.25), 1),
            "newest": newest and newest.isoformat(timespec="milliseconds"),
            "age_ms": newest and round(time.time() * 1000 - self.newest_ms),
            "lag_ms": self.lag_ms,
            "polls": self.polls,
            "failed_polls": self.failed_polls,
            "full_polls": self.full_polls,
            "reconnects": self.reconnects,
            "error": self.error,
        }


# The viewers' side: what they may ask, and the pages


def varint(message, at):
    """A protobuf varint of at most 64 bits: (value, position after it); ValueError when there is none."""
    value = 0
    for k in range(10):
        if at + k >= len(message):
            break
        value |= (message[at + k] & 127) << 7 * k
        if message[at + k] < 128:
            return value, at + k + 1
    raise ValueError("half a message")


def fields(message):
    """A protobuf message's fields as (number, int or bytes); ValueError for anything but varints and bytes."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        if not 8 <= tag < 2**32:  # the engine would look at the lower 32 bits only
            raise ValueError("not a request of Perspective's")
        value, at = varint(message, at)
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value
            if at > len(message):
                raise ValueError("half a message")
        elif tag & 7 != 0:
            raise ValueError("not a request of Perspective's")
        yield tag >> 3, value


def encode(*parts):
    """A protobuf message of (number, int or bytes)."""
    message = []
    for number, value in parts:
        length = value if isinstance(value, int) else len(value)
        for n in (number << 3 | (0 if isinstance(value, int) else 2), length):
            while n > 127:
                message.append(bytes([n & 127 | 128]))
                n >>= 7
            message.append(bytes([n]))
        if not isinstance(value, int):
            message.append(value)
    return b"".join(message)


def expressions_of(kind, body):
    """The expressions in a request to make a view or to validate expressions, as bytes."""
    if kind == 6:  # TableMakeViewReq.config.expressions
        entries = [entry for n, config in fields(body) if n == 2 for m, entry in fields(config) if m == 6]
    else:  # TableValidateExprReq.column_to_expr
        entries = [entry for n, entry in fields(body) if n == 1]
    return [
        expression for entry in entries for n, expression in fields(entry) if n == 2 and isinstance(expression, bytes)
    ]


def is_harmful(expression):
    """Whether it could stop the engine for everyone.

    By a loop (ExprTK bounds none), by an array (of any size), or by text that is made longer again and again: twenty
    times `s := concat(s, s)` take all memory.
    """
    words = re.findall(rb"[a-z_]+", expression.lower())
    loops = {b"while", b"for", b"repeat"}.intersection(words)
    longer = sum(map(words.count, (b"concat", b"replace", b"replace_all")))
    again = longer > 1 and (b":=" in expression or b"var" in words or longer > words.count(b"concat"))
    return bool(loops or again or b"var" in words and b"[" in expression)


def parse_request(message):
    """(message number, kind, entity id, body) of a Request; ValueError when it isn't exactly one request."""
    if not isinstance(message, bytes):
        raise ValueError("a text message")
    found = list(fields(message))
    head = {number: value for number, value in found if number in (1, 2)}
    kinds = [(number, value) for number, value in found if number not in (1, 2)]
    if len(kinds) != 1 or len(found) != len(head) + 1 or not isinstance(kinds[0][1], bytes):
        raise ValueError("not a request of Perspective's")
    if not isinstance(head.get(1, 0), int) or not isinstance(head.get(2, b""), bytes):
        raise ValueError("not a request of Perspective's")
    return head.get(1, 0), kinds[0][0], head.get(2, b""), kinds[0][1]


class Viewers:
    """Who is connected, and who may be."""

    def __init__(self, max_viewers, host, allow_origins, file_origin):
        self.connected, self.max_viewers = set(), max_viewers
        self.views = {}  # id of each open view: its connection
        self.allow_origins = {origin.rstrip("/").lower() for origin in allow_origins}
        self.file_origin = file_origin
        self.own_names = {host.lower(), socket.gethostname().lower()}

    def may_come_from(self, origin, host):
        """Whether a page of this origin may connect to us, whom it called by the Host header `host`.

        Not just "origin equals host": a hostile name can be made to point at 127.0.0.1 (DNS rebinding).
        """
        origin = origin.lower()
        if origin == "null":
            return self.file_origin  # pages opened from disk
        if origin in self.allow_origins:
            return True
        match = re.fullmatch(r"https?://(([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?)", origin)
        if match is None:
            return False
        name = match[2].strip("[]")
        if name in ("localhost", "127.0.0.1", "::1"):
            return True
        return match[1] == host.lower() and (name in self.own_names or is_address(name))


def is_address(name):
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


class SharedView:
    """A view in the server's own session: its name, how many use it, and its subscriptions to updates."""

    def __init__(self, key):
        self.key, self.name, self.users = key, secrets.token_hex(16).encode(), 0
        self.made = None  # task that tells whether the engine made it
        self.updates = {}  # body of the request to subscribe (it names the mode): its message number


class SharedViews:
    """Views of equal shape are made once, by the server itself, for all viewers that ask for them.

    On every update the engine works 2.5 ms for each grouped view, and 0.3 ms for each subscription to row deltas:
    a hundred viewers of one layout would need more than it can do. A viewer that collapses or expands rows
    gets a view of its own.
    """

    def __init__(self, server, executor, viewers):
        loop = asyncio.get_running_loop()
        self.session = server.new_session(lambda message: loop.call_soon_threadsafe(self.take, message))
        self.executor, self.viewers = executor, viewers
        self.shapes = {}  # (table, shape): SharedView
        self.numbers = itertools.count(1)  # of messages to the engine
        self.answers = {}  # message number of a request to make a view: future of the answer's kind
        self.subscribers = {}  # message number of a subscription: {(viewer, its message number): its name of the view}

    async def request(self, number, kind, entity, body):
        message = encode((1, number), (2, entity), (kind, body))
        await asyncio.wrap_future(self.executor.submit(self.session.handle_request, message))

    def take(self, message):
        """What the engine said: whether a view was made, or an update for all subscribers of a view."""
        found = dict(fields(message))
        number, (kind, body) = found.get(1, 0), next(part for part in found.items() if part[0] > 2)
        if number in self.answers:
            self.answers.pop(number).set_result(kind)
        for (viewer, viewers_number), name in list(self.subscribers.get(number, {}).items()):
            viewer.send(encode((1, viewers_number), (2, name), (kind, body)))

    async def join(self, table, config):
        """The SharedView of this shape, or None when the engine refuses to make it."""
        # maps (expressions 6, aggregates 7) come in any order; the order within the other fields means something
        shape = sorted(fields(config), key=lambda part: (part[0], part[1] if part[0] in (6, 7) else b""))
        key = (table, tuple(shape))
        if key not in self.shapes:
            view = self.shapes[key] = SharedView(key)
            self.viewers.views[view.name] = self
            view.made = asyncio.create_task(self.make(view, table, config))
        view = self.shapes[key]
        view.users += 1
        if await view.made:
            return view
        view.users -= 1
        return None

    async def make(self, view, table, config):
        number = next(self.numbers)
        answer = self.answers[number] = asyncio.get_running_loop().create_future()
        await self.request(number, 6, table, encode((1, view.name), (2, config)))
        made = await answer == 6  # bound: the engine answers while it handles the request
        if not made:
            del self.shapes[view.key], self.viewers.views[view.name]
        return made

    async def leave(self, view):
        view.users -= 1
        if not view.users:
            del self.shapes[view.key], self.viewers.views[view.name]
            await self.request(next(self.numbers), 11, view.name, b"")

    async def subscribe(self, view, mode, viewer, number, name):
        ours = view.updates.get(mode)
        if ours is None:
            ours = view.updates[mode] = next(self.numbers)
            self.subscribers[ours] = {(viewer, number): name}
            await self.request(ours, 21, view.name, mode)
        else:
            self.subscribers[ours][viewer, number] = name

    async def unsubscribe(self, view, viewer, number):
        for mode, ours in list(view.updates.items()):
            self.subscribers[ours].pop((viewer, number), None)
            if not self.subscribers[ours]:
                del view.updates[mode], self.subscribers[ours]
                await self.request(next(self.numbers), 22, view.name, encode((1, ours)))


class Joined:
    """A viewer's part in a shared view: the view, the request to make it, and its subscriptions."""

    def __init__(self, view, request):
        self.view, self.request = view, request
        self.updates, self.deletes = {}, {}  # message number: body


class ViewerHandler(PerspectiveTornadoHandler):
    """Perspective's handler for viewers that may look, not touch, and that can't use up the server."""

    def initialize(self, perspective_server, executor, viewers, shared):
        super().initialize(perspective_server=perspective_server, executor=executor)
        self.viewers, self.shared, self.session, self.refused = viewers, shared, None, False

    def set_default_headers(self):
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")

    def check_origin(self, origin):
        return self.viewers.may_come_from(origin, self.request.host)

    async def get(self):
        # Tornado asks check_origin only when Origin and Host differ, which they don't after DNS rebinding.
        origin = self.request.headers.get("Origin")
        if origin is not None and not self.check_origin(origin):
            self.set_status(403)
            self.finish("pages of this origin may not connect, see --allow-origin\n")
            return
        if len(self.viewers.connected) >= self.viewers.max_viewers:
            self.set_status(503)
            self.finish("too many viewers, see --max-viewers\n")
            return
        await super().get()

    def open(self):
        self.viewers.connected.add(self)
        self.peer = "{}:{}".format(*self.request.connection.context.address[:2])
        self.unsent = 0
        self.turn = asyncio.Lock()
        self.joined = {}  # the viewer's name of a view: Joined
        self.subscribed = {}  # message number of each subscription: the view or table
        self.unasked = set()  # numbers of messages that we sent in the viewer's name: their answers are kept back
        self.session = self.server.new_session(lambda message: self.loop.add_callback(self.answer, message))

    def answer(self, message):
        """What the engine said in this viewer's session."""
        if self.unasked and (number := dict(fields(message)).get(1)) in self.unasked:
            self.unasked.discard(number)
        else:
            self.send(message)

    def send(self, message):
        """Sends unless the viewer reads too slowly: Tornado would keep what it doesn't take, without a bound."""
        if self.refused:
            return
        if self.unsent + len(message) > MAX_UNSENT:
            self.refuse(1013, "reads too slowly")
            return
        with contextlib.suppress(tornado.websocket.WebSocketClosedError):
            self.unsent += len(message)
            self.write_message(message, binary=True).add_done_callback(lambda done: self.sent(len(message), done))

    def sent(self, size, done):
        self.unsent -= size
        done.cancelled() or done.exception()  # looked at: a connection that is lost is no error here

    def refuse(self, code, reason):
        """Closes the connection, once, with one line in the log; what it still sends is not looked at."""
        if not self.refused:
            self.refused = True
            LOG.warning("viewer %s refused: %s", self.peer, reason)
            self.close(code, reason)

    def refusal(self, number, kind, entity, body):
        """Why a request may not reach the engine, or None. ValueError when it is no request."""
        if kind not in ALLOWED:
            return f"request kind {DENIED.get(kind, 'unknown')} ({kind})"
        if kind in (6, 9):
            expressions = expressions_of(kind, body)
            if any(map(is_harmful, expressions)):
                return "an expression with a loop, an array, or text that grows again and again"
            if sum(map(len, expressions)) > MAX_EXPRESSIONS:
                return f"more than {MAX_EXPRESSIONS} bytes of expressions"
        if kind in SUBSCRIBES or kind == 4 and body:
            if number in self.subscribed or len(self.subscribed) == MAX_SUBSCRIPTIONS:
                return f"more than {MAX_SUBSCRIPTIONS} subscriptions, or two of one number"
            self.subscribed[number] = entity
        if kind == 6:
            parts = list(fields(body))
            name = dict(parts).get(1)
            if [number for number, _ in parts] not in ([1], [1, 2]) or len(name) < 8 or name in self.viewers.views:
                return "request kind table_make_view (6) without a view id of its own"
            if sum(owner is self for owner in self.viewers.views.values()) == MAX_VIEWS:
                return f"more than {MAX_VIEWS} views"
        elif kind in OF_A_VIEW and self.viewers.views.get(entity, self) is not self:
            return f"request kind {ALLOWED[kind]} ({kind}) for a view of another connection"
        return None

    async def on_message(self, message):
        """Tornado reads a connection's next message after this one's end: the order is kept, a flood waits outside."""
        if self.refused:
            return
        try:
            request = parse_request(message)
            reason = self.refusal(*request)
        except (ValueError, TypeError) as error:
            reason = str(error)
        if reason:
            self.refuse(1008, reason)
            return
        async with self.turn:
            try:
                await self.handle(message, *request)
            except Exception as error:  # whatever the engine says of a broken request concerns this viewer only
                self.refuse(1008, f"request failed: {str(error)[:80]}")

    async def ask(self, message):
        await asyncio.wrap_future(self.executor.submit(self.session.handle_request, message))

    async def handle(self, message, number, kind, entity, body):
        """Hands a request to the engine, or takes part in a shared view instead of making one."""
        joined = self.joined.get(entity)
        if kind in (22, 30, 35, 37):
            self.subscribed.pop(dict(fields(body)).get(1), None)
        elif kind == 11:
            self.subscribed = {n: of for n, of in self.subscribed.items() if of != entity}
        if kind == 5:  # the engine would keep each port for ever, and look at all of them at each update
            self.send(encode((1, number), (2, entity), (5, encode((1, 1)))))
        elif kind == 6:
            name, config = dict(fields(body))[1], dict(fields(body)).get(2, b"")
            if view := await self.shared.join(entity, config):
                self.viewers.views[name] = self
                self.joined[name] = Joined(view, message)
                self.send(encode((1, number), (2, entity), (6, encode((1, name)))))
            else:
                await self.ask(message)  # which tells the viewer what is wrong with it
        elif joined is None:
            await self.ask(message)
            if kind == 11:
                self.viewers.views.pop(entity, None)
        elif kind in CHANGES_A_VIEW:
            await self.part(entity)
            await self.ask(message)
        elif kind == 21:
            joined.updates[number] = body
            await self.shared.subscribe(joined.view, body, self, number, entity)
        elif kind == 34:
            joined.deletes[number] = body
        elif kind in (22, 35, 11):
            theirs = dict(fields(body)).get(1)
            joined.deletes.pop(theirs, None)
            if joined.updates.pop(theirs, None) is not None:
                await self.shared.unsubscribe(joined.view, self, theirs)
            if kind == 11:
                await self.leave(entity)
                del self.viewers.views[entity]
                for subscription in joined.deletes:
                    self.send(encode((1, subscription), (2, entity), (34, b"")))
            self.send(encode((1, number), (2, entity), (kind, b"")))
        else:
            await self.ask(encode((1, number), (2, joined.view.name), (kind, body)))

    async def leave(self, name):
        joined = self.joined.pop(name)
        for number in joined.updates:
            await self.shared.unsubscribe(joined.view, self, number)
        await self.shared.leave(joined.view)
        return joined

    async def part(self, name):
        """Gives the viewer a view of its own instead of the shared one, with the same subscriptions."""
        joined = await self.leave(name)
        self.unasked.add(parse_request(joined.request)[0])
        await self.ask(joined.request)
        for kind, subscriptions in ((21, joined.updates), (34, joined.deletes)):
            for number, body in subscriptions.items():
                await self.ask(encode((1, number), (2, name), (kind, body)))

    def on_close(self):
        self.viewers.connected.discard(self)
        if self.session is not None:
            asyncio.get_running_loop().create_task(self.end())

    async def end(self):
        async with self.turn:  # bound: one request; then the engine drops the session's views
            for name in list(self.joined):
                await self.leave(name)
            await asyncio.wrap_future(self.executor.submit(self.session.close))
        for name in [name for name, owner in self.viewers.views.items() if owner is self]:
            del self.viewers.views[name]


class Plain(tornado.web.RequestHandler):
    """What all answers share: no version banner, no guessing of types, errors of one line."""

    def set_default_headers(self):
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-cache")

    def write_error(self, status_code, **_):
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")


class NotFound(Plain):
    def prepare(self):
        raise tornado.web.HTTPError(404)


class PageHandler(Plain):
    """prsp-viewer.html, with a Content-Security-Policy that lets it run its own scripts and nothing else."""

    def initialize(self, packages):
        self.packages = packages

    def get(self):
        page = (HERE / "prsp-viewer.html").read_bytes()
        scripts = re.findall(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
        hashes = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts
        )
        # the viewer's text filters have one inline handler, which makes them as wide as their text
        handler = base64.b64encode(hashlib.sha256(FILTER_HANDLER).digest()).decode()
        cdn = "" if self.packages.is_dir() else " " + CDN.split("/npm/")[0]
        sockets = ""
        # the page's own address, and the one that ?server= names
        for host in (self.request.host, self.get_query_argument("server", "")):
            if re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", host):
                sockets += f" ws://{host} wss://{host} http://{host} https://{host}"
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; "
            f"script-src 'self' 'wasm-unsafe-eval' 'unsafe-hashes' 'sha256-{handler}' {hashes}{cdn}; "
            f"style-src 'self' 'unsafe-inline'{cdn}; img-src 'self' data: blob:; font-src 'self' data:{cdn}; "
            f"connect-src 'self'{sockets}{cdn}; "
            "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
        )
        self.finish(page)


class HealthHandler(Plain):
    """State of the feeds as JSON; pages that may open the WebSocket may read it too."""

    def initialize(self, feeds, viewers):
        self.feeds, self.viewers = feeds, viewers

    def get(self):
        origin = self.request.headers.get("Origin")
        if origin and self.viewers.may_come_from(origin, self.request.host):
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Vary", "Origin")
        tables = {feed.name: feed.health() for feed in self.feeds}
        states = [table["status"] for table in tables.values()]
        status = next((state for state in ("waiting", "stale") if state in states), "ok")
        self.finish({"status": status, "tables": tables, "viewers": len(self.viewers.connected)})


class PackageHandler(Plain, tornado.web.StaticFileHandler):
    """The viewer's packages from node_modules in the CDN's path layout, or a redirect to the CDN."""

    async def get(self, path, include_body=True):
        match = re.fullmatch(
            r"(@perspective-dev/[a-z0-9-]+)@(\d+\.\d+\.\d+)/((?:[\w@-][\w.@-]*/)*[\w@-][\w.@-]*)", path
        )
        if match is None:
            raise tornado.web.HTTPError(404)
        name, version, file = match.groups()
        installed = None
        with contextlib.suppress(OSError, ValueError, KeyError):
            installed = json.loads(pathlib.Path(self.root, name, "package.json").read_bytes())["version"]
        if installed != version:
            self.redirect(CDN + path)
            return
        await super().get(f"{name}/{file}", include_body)

    @classmethod
    def get_absolute_path(cls, root, path):
        return os.path.realpath(os.path.join(root, path))  # so that links out of node_modules are noticed below

    def validate_absolute_path(self, root, absolute_path):
        return super().validate_absolute_path(os.path.realpath(root), absolute_path)

    def set_extra_headers(self, path):
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")  # the address holds the version


def make_app(server, executor, viewers, shared, feeds, packages, prefix=""):
    """The Tornado application: `prefix`/ the page, /websocket, /healthz and /npm/."""
    prefix = re.escape(prefix)
    return tornado.web.Application(
        [
            (rf"{prefix}/", PageHandler, {"packages": packages}),
            (rf"{prefix}/healthz", HealthHandler, {"feeds": feeds, "viewers": viewers}),
            (rf"{prefix}/npm/(.*)", PackageHandler, {"path": str(packages)}),
            (
                rf"{prefix}/websocket",
                ViewerHandler,
                {"perspective_server": server, "executor": executor, "viewers": viewers, "shared": shared},
            ),
        ],
        default_handler_class=NotFound,
        websocket_max_message_size=MAX_MESSAGE,
        websocket_ping_interval=PING_S,
        websocket_ping_timeout=PING_S,
    )


# Options, and how the parts are put together


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


def whole_number(least, most):
    def parse(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} to {most}")
        return int(text)

    return parse


def duration_ms(text):
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 30s, 10m, 2h or 1d")
    return int(match[1]) * {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[match[2]]


def identifier(text):
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a name (letters, digits, _; at most 64)")
    return text


def origin(text):
    if not re.fullmatch(r"https?://[^/?#@\s]+/?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not an origin such as https://demo.example")
    return text


def prefix(text):
    if not re.fullmatch(r"(/[\w.~-]+)*/?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a path such as /demo")
    return text.rstrip("/")


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
    add("--interval", type=whole_number(10, 60_000), default=250, metavar="MS", help="between polls (default: 250)")
    add("--source", choices=["poll"], default="poll", help="there is one here (default: poll)")
    add("--history", type=duration_ms, default=0, metavar="TIME", help="show rows of so long before the start, as 10m")
    add("--limit", type=whole_number(1, 10**8), default=1000, metavar="N", help="rows a table holds (default: 1000)")
    add("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=whole_number(0, 65535), default=8080, metavar="P", help="default: 8080")
    add("--allow-origin", type=origin, action="append", default=[], metavar="ORIGIN", help="pages that may connect too")
    add("--no-file-origin", action="store_true", help="refuse pages opened from disk")
    add("--prefix", type=prefix, default="", metavar="/PATH", help="where a proxy has put us, as /demo")
    add("--certfile", metavar="FILE", help="certificate chain (PEM) to serve https:// and wss:// with")
    add("--keyfile", metavar="FILE", help="its private key (PEM)")
    add("--max-viewers", type=whole_number(0, 10**5), default=200, metavar="N", help="connections (default: 200)")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info", help="default: info")
    args = parser.parse_args(argv)
    try:
        args.dsn, args.server, args.dsn_database = split_dsn(args.dsn, args.password_file)
        args.dsn_database = args.dsn_database and identifier(args.dsn_database)
    except OSError as error:
        parser.error(f"can't read the password file {args.password_file}: {error.strerror}")
    except (ValueError, argparse.ArgumentTypeError):  # not shown: the DSN may hold a password
        parser.error("unusable DSN, one looks like clickhouse://USER:PASSWORD@HOST:8123 (special characters as %XX)")
    args.tls = None
    if args.certfile or args.keyfile:
        try:
            args.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            args.tls.load_cert_chain(args.certfile, args.keyfile)
        except (OSError, TypeError) as error:
            parser.error(f"unusable --certfile or --keyfile: {error}")
    return args


async def serve(args):
    """Runs until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = perspective.Server()
    client = server.new_local_client()
    reader = Reader(args.dsn)
    writer = concurrent.futures.ThreadPoolExecutor(1, "writer")
    executor = concurrent.futures.ThreadPoolExecutor(4, "viewers")
    viewers = Viewers(args.max_viewers, args.host, args.allow_origin, not args.no_file_origin)
    database = args.database or args.dsn_database or DATABASE
    feed = Feed(database, reader, client, writer, args.limit, args.history)
    shared = SharedViews(server, executor, viewers)
    app = make_app(server, executor, viewers, shared, [feed], HERE / "node_modules", args.prefix)
    http = tornado.httpserver.HTTPServer(
        app, ssl_options=args.tls, idle_connection_timeout=60, body_timeout=10, max_body_size=64 * 1024
    )
    sockets = tornado.netutil.bind_sockets(args.port, args.host)
    http.add_sockets(sockets)
    scheme, port = "https" if args.tls else "http", sockets[0].getsockname()[1]
    LOG.info(
        "page at %s://%s:%s%s/, polling %s every %s ms",
        scheme,
        args.host,
        port,
        args.prefix,
        args.server,
        args.interval,
    )
    polls = tornado.ioloop.PeriodicCallback(feed.poll, args.interval)
    # The producer's batches are due at full intervals of the clock: we look shortly after.
    lag_ms = min(LAG_MS, 0.4 * args.interval)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), (lag_ms - time.time() * 1000) % args.interval / 1000)
    polls.start()
    await stop.wait()
    polls.stop()
    http.stop()
    for viewer in list(viewers.connected):
        viewer.close(1001, "server stops")
    await asyncio.sleep(0.1)  # for the close frames


def main():
    args = parse_arguments()
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    status = 0
    try:
        asyncio.run(serve(args))
    except OSError as error:
        trouble = f"can't listen on {args.host}:{args.port} ({error.strerror})"
        print(f"perspective_server.py: {trouble}: choose another --host or --port", file=sys.stderr)
        status = 1
    sys.stderr.flush()
    os._exit(status)  # not waiting for threads of the engine, which nothing could end


if __name__ == "__main__":
    main()
