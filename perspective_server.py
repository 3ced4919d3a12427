#!/usr/bin/env python3
"""Polls TDengine for the last second of rows and serves them as live Perspective tables.

    python perspective_server.py [--dataset stocks|meters|all] [--dsn DSN] [--interval MS] [--limit N] [--port P]
                                 [--source poll|subscribe] [--history 10m]

A reader process of its own talks to TDengine, because taosws holds Python's interpreter lock while it waits: a slow,
silent or dead database never stalls a viewer. Rows that were shown already are left out; the rest goes into a
Perspective table with a limit, which browsers read and subscribe to at /websocket. They may look, not touch.
With --source subscribe TDengine pushes the rows instead, and a poll once a second only looks whether all have come.
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
import multiprocessing
import os
import pathlib
import re
import secrets
import select
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse

import orjson
import perspective
import taosws
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.web
import tornado.websocket
from perspective.handlers.tornado import PerspectiveTornadoHandler

DEFAULT_DSN = "ws://root:taosdata@localhost:6041"
HERE = pathlib.Path(__file__).resolve().parent
CDN = "https://cdn.jsdelivr.net/npm/"
FILTER_HANDLER = b"this.parentNode.dataset.value=this.value"  # in @perspective-dev/viewer
LOG = logging.getLogger("perspective_server")

# Per dataset: database, table, its time column, what else tells rows of equal time apart, the Perspective table's
# name, and its columns with their types. INT UNSIGNED does not fit Perspective's 32-bit integer, float holds it.
DATASETS = {
    "stocks": {
        "database": "stocks",
        "table": "stocks_values",
        "time": "timestamp",
        "subtable": None,
        "name": "stock_values",
        "columns": {
            "timestamp": "datetime",
            "ticker": "string",
            "client": "string",
            "open": "float",
            "high": "float",
            "low": "float",
            "close": "float",
            "volume": "float",
            "date": "datetime",
        },
    },
    "meters": {
        "database": "power",
        "table": "meters",
        "time": "ts",
        "subtable": "tbname",
        "name": "meters_values",
        "columns": {
            "ts": "datetime",
            "current": "float",
            "voltage": "integer",
            "phase": "float",
            "groupid": "integer",
            "location": "string",
            "tbname": "string",
        },
    },
}

WINDOW_MS = 1000  # each poll asks for the last second, or back to the last poll that succeeded
CHECK_S = 1  # how often late rows are looked for
START_S, LOOK_BACK_S = 3, 10  # after the start, and after late rows, each poll looks at the whole window
REMEMBERED_ROWS, REMEMBERED_S = 300_000, 10_000  # bounds of what is remembered of the rows that were shown
LAG_MS = 60  # between a full interval and our poll
RETRY_S = 0.5  # after a poll that failed
STALE_S = 5  # without a new row
CALL_LIMIT_S = 8  # a single call into taosws that takes longer has hung
READ_TIMEOUT_S = 6  # taosws' own limit for one reply
ROWS_AT_ONCE = 4096  # read by a call: TDengine's block
UNITS_PER_MS = {"ms": 1, "us": 10**3, "ns": 10**6}

# --source subscribe
PUSH_POLL_S = 0.2  # short: taosws holds the interpreter lock meanwhile, and TDengine now and then misses a wake-up
SILENT_S = 5  # without an answer to a poll: the consumer is dead, or as good as that
PUT_S = 0.01  # least time between two updates of the Perspective table
GRACE_S = 0.5  # for rows that are on their way from TDengine
TOPIC_S = 5  # tries to drop a topic that is still in use

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


# The reader: a process of its own, which alone talks to TDengine


def prepare_reader():
    """What both kinds of reader do first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes, the server decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")  # of taosws: more than one only wake each other


def read_tables(pipe, dsn):
    """The reader: gets (database, SQL), tells ("rows", units per ms, columns) or ("failed", text).

    SQL's first column must be CAST(time AS BIGINT). One connection for all; after a failure the next request connects
    anew. It ends when the server is gone, or by SIGALRM when a call hangs.
    """
    prepare_reader()
    connection, precisions = None, {}

    def query(sql):
        rows = []
        signal.alarm(CALL_LIMIT_S)  # its default action ends the process, whoever holds the interpreter lock
        result = connection.query(sql)
        while some := list(itertools.islice(result, ROWS_AT_ONCE)):
            rows += some
            if len(some) < ROWS_AT_ONCE:
                break
            pipe.send(("reading",))
            signal.alarm(CALL_LIMIT_S)
        signal.alarm(0)
        return rows

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            database, sql = pipe.recv()  # bound: the server, which closes the pipe when it ends
            try:
                if connection is None:
                    signal.alarm(CALL_LIMIT_S)
                    connection, precisions = taosws.connect(dsn), {}
                rows = query(sql)
                if database not in precisions:  # asked afterwards: before, the database may not have been there yet
                    named = f"WHERE name = '{database}'"
                    for (precision,) in query(f"SELECT `precision` FROM information_schema.ins_databases {named}"):
                        precisions[database] = UNITS_PER_MS[precision]
                pipe.send(("rows", precisions.get(database), [list(column) for column in zip(*rows, strict=True)]))
            except taosws.Error as error:
                signal.alarm(CALL_LIMIT_S)  # closing waits too
                connection = None  # one that failed once is never used again
                signal.alarm(0)
                pipe.send(("failed", str(error)))


class TDengineError(Exception):
    """What TDengine or the way to it answered, in one line."""


class Reader:
    """The server's side of the reader: one request at a time, and a new process when the old one has died or hangs."""

    def __init__(self, target, *arguments):
        self.target, self.arguments, self.process = target, arguments, None
        self.turn, self.ended = threading.Lock(), False

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(
            target=self.target, args=(other_end, *self.arguments), daemon=True, name="reader"
        )
        self.process.start()
        other_end.close()
        self.told = select.poll()
        self.told.register(self.pipe, select.POLLIN)
        if self.ended:
            self.process.kill()

    def exchange(self, *request):
        """The reader's answer. Bound: CALL_LIMIT_S + 2 without any message."""
        try:
            if self.process is None and not self.ended:
                self.start()
            self.pipe.send(request)
            while self.told.poll(1000 * (CALL_LIMIT_S + 2)):
                message = self.pipe.recv()
                if message[0] != "reading":
                    return message
            raise EOFError
        except (EOFError, OSError):
            self.stop()
            return "failed", "the reader process ended or hung, a new one is started"

    def ask(self, database, sql):
        """(units per ms, columns as lists) of a SELECT; TDengineError when it failed."""
        with self.turn:
            kind, *answer = self.exchange(database, sql)
        if kind == "failed":
            raise TDengineError(answer[0])
        return answer

    def stop(self):
        if self.process is not None:
            self.kill()
            self.pipe.close()
            self.process = None

    def kill(self):
        """Also from another thread than the one that waits for an answer, which then hears that the process ended."""
        if (process := self.process) is not None:  # the other thread may be taking it away
            process.kill()
            process.join(1)

    def end(self):
        self.ended = True
        self.kill()


# The feed: from one table of TDengine into one Perspective table, each row once


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
    """Polls one dataset's table and feeds its Perspective table; counts what /healthz tells.

    A poll is plain code that runs in a thread, from the question to the Perspective table: each hand-over to the event
    loop and back costs more than what is done in between. `writing` is the lock of whoever writes.
    """

    def __init__(self, dataset, database, reader, client, writing, limit, history_ms=0):
        self.name, self.columns = dataset["name"], dataset["columns"]
        self.database, self.source = database, f"{database}.{dataset['table']}"
        self.time, self.subtable = f"`{dataset['time']}`", dataset["subtable"]
        self.reader, self.client, self.writing, self.limit = reader, client, writing, limit
        self.history_ms = history_ms  # to be loaded by the first poll
        self.shown = Shown()
        self.table = self.start_ms = self.newest_ms = self.lag_ms = self.error = self.units_per_ms = None
        self.checked_from = 0  # from this second on, every row that is stored should have been shown
        self.succeeded_at = time.monotonic()  # start of the last poll that succeeded; at first, of the server
        self.look_back_until = self.succeeded_at + START_S  # until then polls look for late rows in the whole window
        self.checked_at = self.retry_at = self.row_at = 0.0
        self.rows = self.polls = self.failed_polls = self.full_polls = self.reconnects = 0
        self.arrivals = collections.deque([(self.succeeded_at, 0)], 600)  # (when, rows in all) of the last seconds
        self.due = threading.Event()  # a poll is

    def watch(self):
        """Polls when that is due; to be called again and again. What falls due meanwhile is left out."""
        self.due.wait()
        self.poll()
        self.due.clear()

    def poll(self):
        """Reads, shows what is new."""
        started = time.monotonic()
        if started < self.retry_at:
            return
        self.polls += 1
        try:
            self.read(started)
        except TDengineError as error:
            self.failed_polls += 1
            self.retry_at = time.monotonic() + RETRY_S
            reason = self.explain(str(error))
            if reason != self.error:
                LOG.warning("%s: %s (%s)", self.source, reason, error)
            self.error = reason
            return
        if self.error is not None:
            self.reconnects += 1
            LOG.info("%s: TDengine answers again", self.source)
        self.error, self.succeeded_at = None, started

    def explain(self, text):
        """What is wrong and what to do, in one line, for the log and the page."""
        if "0x0357" in text or "0x0351" in text:
            return "TDengine refuses this user or password: check TDENGINE_DSN or --password-file"
        if "certificate" in text or "tls_" in text:
            return "TDengine's TLS certificate can't be trusted: name your CA's file in the DSN, as ?tls_ca=ca.pem"
        if "0x0388" in text:
            return f"TDengine has no database {self.database}: start producer.py, which makes it"
        if "0x2603" in text:
            return f"TDengine has no table {self.source}: start producer.py, which makes it"
        if "0x2602" in text:
            return f"table {self.source} has not the columns of this dataset"
        return "TDengine does not answer: is it running? Trying on"

    def read(self, started):
        passed_ms = int((started - self.succeeded_at) * 1000)
        if self.start_ms is None:  # rows from before the server's start, or before --history, are not shown
            _, ((now_ms,),) = self.reader.ask(self.database, "SELECT CAST(NOW() AS BIGINT)")
            passed_ms = int((time.monotonic() - self.succeeded_at) * 1000)  # the reader had to start, too
            self.start_ms = now_ms - passed_ms - WINDOW_MS - self.history_ms
            self.checked_from = self.start_ms // 1000 + 1
        stored = known = None
        if self.units_per_ms and started - self.checked_at > CHECK_S:  # also before the first row: it may come late
            counted_from, known, stored = self.checked_from, self.count_shown(), self.count_stored()
            self.checked_at = started
        # after a pause the window reaches back to the last poll that succeeded
        window_ms = WINDOW_MS if passed_ms < WINDOW_MS else passed_ms + WINDOW_MS
        window = f"{self.time} >= NOW() - {window_ms + self.history_ms}a"
        if self.newest_ms is None or started < self.look_back_until:
            keys = self.show(window)
            if self.history_ms:
                self.end_history(keys)
        else:
            self.show_newest(window)
        # not when the oldest were forgotten meanwhile: then these counts can't be compared
        if stored is not None and counted_from == self.checked_from and not known <= stored <= self.count_shown():
            self.show_late_rows()

    def end_history(self, keys):
        """The history is loaded: what is older than its newest `limit` rows is left out for good."""
        self.history_ms = 0
        self.arrivals = collections.deque([(time.monotonic(), self.rows)], 600)  # it doesn't count for rows/s
        if len(keys) == self.limit:
            oldest = self.time_of(keys[-1])
            self.start_ms = max(self.start_ms, oldest // self.units_per_ms)
            self.checked_from = max(self.checked_from, oldest // self.units_per_ms // 1000 + 1)
            self.full_polls = 0

    def newest(self, columns, where):
        """The columns of the newest `limit` rows that match, newest first; [] when there are none."""
        sql = f"SELECT {columns} FROM {self.source} WHERE {where} ORDER BY {self.time} DESC LIMIT {self.limit}"
        units_per_ms, found = self.reader.ask(self.database, sql)
        if units_per_ms is None:
            raise TDengineError("[0x0388] dropped while it was read")
        self.units_per_ms = units_per_ms
        return found

    def show_newest(self, window):
        """Shows the rows of the window from the newest that was shown on: one query, and few rows that come again."""
        since = f"{window} AND {self.time} >= {self.newest_ms * self.units_per_ms}"
        rows = self.newest(self.expressions(), since)
        per_s, keys = 1000 * self.units_per_ms, self.keys(rows)
        if len(keys) == self.limit and not self.shown.has(rows[0][-1] // per_s, keys[-1]):
            self.full_polls += 1  # even the oldest one is new: older ones may have been left out
        self.put(rows, self.start_ms * self.units_per_ms, per_s)

    def show(self, where):
        """Shows those of the newest rows that match which were not shown yet. Returns the keys of all that match.

        Asks for the keys first and then for whole rows: three of four rows in the window were shown before.
        """
        stamp = f"CAST({self.time} AS BIGINT)"
        found = self.newest(f"{stamp}, {self.subtable}" if self.subtable else stamp, where)
        keys = self.keys(found)
        first, per_s = self.start_ms * self.units_per_ms, 1000 * self.units_per_ms
        new = [
            time_of_row
            for time_of_row, key in zip(found[0] if found else [], keys, strict=True)
            if time_of_row >= first and not self.shown.has(time_of_row // per_s, key)
        ]
        if len(keys) == self.limit and new and new[-1] == found[0][-1]:
            self.full_polls += 1  # even the oldest one is new: older ones may have been left out
        if new:
            between = f"{self.time} >= {new[-1]} AND {self.time} <= {new[0]}"
            self.put(self.newest(self.expressions(), between), first, per_s)
        return keys

    def keys(self, columns):
        """What tells rows apart: (timestamp, subtable), or just the timestamp in a plain table."""
        if not columns:
            return []
        return list(zip(columns[0], columns[-1], strict=True)) if self.subtable else columns[0]

    def time_of(self, key):
        return key[0] if self.subtable else key

    def expressions(self, named=False):
        """The SELECT list; timestamps as integers, which cost a tenth of parsing the client's strings."""
        quoted = {column: column if column == self.subtable else f"`{column}`" for column in self.columns}
        return ", ".join(
            f"CAST({quoted[column]} AS BIGINT)" + f" AS {quoted[column]}" * named
            if kind == "datetime"
            else quoted[column]
            for column, kind in self.columns.items()
        )

    def put(self, columns, first, per_s):
        """Puts the rows that were not shown yet into the Perspective table, oldest first."""
        times, keys = columns[0] if columns else [], self.keys(columns)
        with self.writing:
            new = []
            for k in range(len(keys) - 1, -1, -1):
                second = times[k] // per_s
                if times[k] >= first and not self.shown.has(second, keys[k]):
                    self.shown.add(second, keys[k])
                    new.append(k)
            if new:
                self.update(columns, new)
                self.account(len(new), max(times) // self.units_per_ms)

    def account(self, rows, newest_ms):
        """Keeps account of rows that were just shown."""
        now = time.monotonic()
        self.rows, self.row_at = self.rows + rows, now
        self.newest_ms = max(newest_ms, self.newest_ms or 0)
        self.lag_ms = round(time.time() * 1000 - newest_ms)
        if self.rows == rows:
            self.arrivals = collections.deque([(now, rows)], 600)  # the pace is counted from the first rows on
        else:
            self.arrivals.append((now, self.rows))
        if (forgotten := self.shown.forget_oldest()) is not None:  # what is older can't be told apart any more
            self.start_ms = max(self.start_ms, forgotten * 1000)
            self.checked_from = max(self.checked_from, forgotten)

    def update(self, columns, new):
        """Puts rows into the Perspective table; one at a time of all feeds: concurrent writes would lose rows."""
        batch = {}
        for (column, kind), values in zip(self.columns.items(), columns, strict=True):
            batch[column] = [values[k] for k in new]
            if kind == "datetime":  # Perspective's datetimes are milliseconds
                batch[column] = [value if value is None else value // self.units_per_ms for value in batch[column]]
        rows = orjson.dumps(batch).decode()  # Perspective would make the same of lists, but takes long over each float
        if self.table is None:
            # Hosted with its first rows: an empty table with grouped views freezes the engine when rows arrive.
            # Arrow bytes carry the types, which a table made of plain columns would have to guess.
            first = perspective.Server().new_local_client().table(self.columns)
            first.update(rows, format="columns")
            arrow = first.view(columns=list(self.columns)).to_arrow()
            self.table = self.client.table(arrow, limit=self.limit, name=self.name)
        else:
            self.table.update(rows, format="columns")

    def count_shown(self):
        with self.writing:
            return sum(self.shown.counts(self.checked_from).values())

    def count_stored(self):
        first = self.checked_from * 1000 * self.units_per_ms
        sql = f"SELECT COUNT(*) FROM {self.source} WHERE {self.time} >= {first}"
        _, columns = self.reader.ask(self.database, sql)
        return columns[0][0]

    def show_late_rows(self):
        """Rows came later than the window reaches (a producer sent what it had kept), or rows were dropped.

        Compares each second's count with what was shown of it, and reads from the first that differs to the last.
        """
        per_s = 1000 * self.units_per_ms
        sql = f"SELECT CAST(_wstart AS BIGINT), COUNT(*) FROM {self.source} "
        sql += f"WHERE {self.time} >= {self.checked_from * per_s} INTERVAL(1s)"
        _, found = self.reader.ask(self.database, sql)
        stored = {start // per_s: count for start, count in zip(*found, strict=True)}
        with self.writing:
            shown = self.shown.counts(self.checked_from)
        differ = [second for second in stored | shown if stored.get(second) != shown.get(second)]
        if not differ:
            return
        self.look_back_until = max(self.look_back_until, time.monotonic() + LOOK_BACK_S)  # more may come
        first, last = min(differ), max(differ)
        with self.writing:
            shown = {second: self.shown.of(second) for second in range(first, last + 1)}
        keys = self.show(f"{self.time} >= {first * per_s} AND {self.time} < {(last + 1) * per_s}")
        if len(keys) == self.limit:  # what is older does not fit the limit
            self.checked_from = self.time_of(keys[-1]) // per_s + 1
            return
        stored = set(keys)
        with self.writing:
            for second, known in shown.items():  # as known before: what came while we read is not among the keys
                if gone := known - stored:
                    self.shown.remove(second, gone)  # rows that are gone don't count any more

    def end(self):
        """Ends the process that it asks, for good."""
        self.reader.end()

    def status(self):
        if not self.rows or self.error and self.error.startswith(("TDengine refuses", "TDengine has no")):
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


# The other source: TDengine pushes rows by data subscription (TMQ), --source subscribe


def topic_of(database, table):
    """The topic on a table. It is made when it is missing, and stays: servers share it, each in a group of its own."""
    return f"perspective_{database}_{table}"


def read_topic(pipe, dsn, topic, select, columns, anew):
    """The subscriber, a process of its own: tells ("subscribed",), then ("rows", columns) as they come, newest first.

    Otherwise it tells ("quiet",) at least once a second, and ("failed", what, text) before it subscribes anew. It ends
    when the server is gone, or by SIGALRM when a call hangs. anew: the topic is made anew, too.
    """
    prepare_reader()

    def tell(*what):
        signal.alarm(0)  # bound: the server, which takes it or ends us
        pipe.send(what)
        signal.alarm(CALL_LIMIT_S)

    with contextlib.suppress(BrokenPipeError):
        while True:
            try:
                tell("quiet")
                make_topic(dsn, topic, select, anew, tell)
                tell("quiet")
                push_rows(dsn, topic, columns, tell)
            except BrokenPipeError:
                raise
            except BaseException as error:  # a panic in taosws is no Exception
                signal.alarm(CALL_LIMIT_S)  # for closing, at the end of this block
                text, anew = str(error), isinstance(error, OtherColumns)
                code = re.search("0x[0-9A-Fa-f]{4}", text)
                what = text if isinstance(error, TDengineError) else f"error {code[0] if code else 'of taosws'}"
            tell("failed", what, text)
            signal.alarm(0)
            time.sleep(RETRY_S)


class OtherColumns(TDengineError):
    """The topic is of another select: an older one, or not ours."""


def push_rows(dsn, topic, columns, tell):
    """Subscribes, in a group of its own and from now on, and tells the rows until something fails."""
    group = f"group.id=perspective_{secrets.token_hex(8)}"
    consumer = taosws.Consumer(dsn=f"{dsn}&{group}&auto.offset.reset=latest&enable.auto.commit=false")
    consumer.subscribe([topic])
    message = consumer.poll(PUSH_POLL_S)  # "latest" is the time of the first poll
    tell("subscribed")
    told_at = answered_at = time.monotonic()
    while True:
        if message is not None:
            rows = []
            for block in message:
                if [field.name() for field in block.fields()] != columns:
                    raise OtherColumns(f"topic {topic} has not the columns of this dataset")
                rows += block.fetchall()
            rows.sort(key=lambda row: row[0], reverse=True)
            tell("rows", [list(column) for column in zip(*rows, strict=True)])
            consumer.commit(message)  # one that reconnects goes on from here; without a commit it would lose rows
            told_at = answered_at = time.monotonic()
        elif time.monotonic() - told_at > 1:
            tell("quiet")
            told_at = time.monotonic()
        signal.alarm(CALL_LIMIT_S)
        started = time.monotonic()
        message = consumer.poll(PUSH_POLL_S)
        # None after half the time says that there are no rows; after all of it, that nobody has answered.
        if time.monotonic() - started < 0.8 * PUSH_POLL_S:
            answered_at = time.monotonic()
        elif message is None and time.monotonic() - answered_at > SILENT_S:
            raise TDengineError(f"no answer for {SILENT_S} s")


def make_topic(dsn, topic, select, anew, tell):
    """Makes the topic when it is missing; anew: drops it first, unless another consumer uses it for TOPIC_S longer."""
    connection = taosws.connect(dsn)
    give_up_at = time.monotonic() + TOPIC_S
    while anew and time.monotonic() < give_up_at:
        try:
            connection.execute(f"DROP TOPIC IF EXISTS {topic}")
            break
        except taosws.Error:  # for two seconds after a consumer has left, too
            tell("quiet")
            time.sleep(0.2)
    connection.execute(f"CREATE TOPIC IF NOT EXISTS {topic} AS {select}")


class Subscriber(Reader):
    """The server's side of the subscriber: what it tells, and a new process when the old one has died or hangs."""

    def messages(self):
        """Waits for a message, and takes what has come meanwhile. Bound: CALL_LIMIT_S + 2."""
        told = []
        try:
            if self.process is None and not self.ended:
                self.start()
                self.arguments = (*self.arguments[:-1], False)
            while self.told.poll(0 if told else 1000 * (CALL_LIMIT_S + 2)) and len(told) < 100:
                told.append(self.pipe.recv())
            if told:
                return told
        except (EOFError, OSError):
            pass
        self.stop()
        return [*told, ("failed", "the subscriber process ended or hung", "a new one is started")]

    def renew(self, topic_too):
        """Ends the process: messages() starts a new one, with a new consumer."""
        self.arguments = (*self.arguments[:-1], topic_too)
        self.kill()


class PushedFeed(Feed):
    """Feeds a Perspective table with the rows that TDengine pushes.

    While there is no subscription it polls like any Feed, once a second. When one begins, a last poll shows what was
    stored until then, and rows that come twice are left out. From then on only counts are compared: a consumer that has
    died looks just like a quiet one.
    """

    def __init__(self, dsn, *arguments):
        super().__init__(*arguments)
        topic = topic_of(self.database, self.source.partition(".")[2])
        select = f"SELECT {self.expressions(named=True)} FROM {self.source}"
        self.look_back_until = float("inf")
        self.subscriber = Subscriber(read_topic, dsn, topic, select, list(self.columns), False)
        self.live, self.changing = threading.Event(), threading.Lock()  # live: rows are shown as they come
        self.subscriptions = self.subscribed = self.behind = 0  # subscribed: number of the one we have, or 0
        self.delivered, self.pushed_at = False, 0.0
        self.trouble, self.trouble_text = None, "there was no answer yet"  # why there is no subscription
        self.polls_without = 0  # polls that succeeded without one
        self.due.set()

    def follow(self):
        """Deals with what the subscriber tells; to be called again and again."""
        told = self.subscriber.messages()
        started, rows = time.monotonic(), []
        for kind, *details in told:
            if kind == "rows" and self.subscribed:
                while self.subscribed and not self.live.wait(0.1):
                    pass  # bound: the poll that is due succeeds, or the subscription is lost
                rows.append(details[0])
            elif kind == "subscribed":
                self.subscriptions += 1
                self.subscribed, self.delivered = self.subscriptions, False
                self.due.set()
            elif kind == "failed":
                self.lose(*details)
        if rows and self.live.is_set():
            self.delivered, self.pushed_at = True, started
            columns = [list(itertools.chain(*parts)) for parts in zip(*reversed(rows), strict=True)]
            self.put(columns, self.start_ms * self.units_per_ms, 1000 * self.units_per_ms)
            time.sleep(max(started + PUT_S - time.monotonic(), 0))

    def watch(self):
        """Polls when that is due, or after CHECK_S; to be called again and again. None that is due is left out."""
        self.due.wait(CHECK_S)
        self.due.clear()
        self.poll()

    def read(self, started):
        if self.live.is_set():
            counted_from, asked_at = self.checked_from, time.monotonic()
            known, stored = self.count_shown(), self.count_stored()
            if not known <= stored <= self.count_shown():
                # for rows on their way; and a count may be a little behind what was pushed
                time.sleep(GRACE_S)
            if stored <= self.count_shown() and (stored >= known or self.count_stored() >= known):
                self.behind = 0
                return
            if counted_from != self.checked_from:  # the oldest were forgotten meanwhile: these counts can't be compared
                return
            self.behind += 1
            if self.pushed_at < asked_at:
                LOG.warning("%s: the subscription tells nothing of rows that are stored, or gone: anew", self.source)
                # the second one in a row that tells nothing: the topic is of a table that was dropped and made again
                self.subscriber.renew(topic_too=not self.delivered)
                self.lose("it missed rows")
            elif self.behind < 3:  # a flood takes its time
                return
        subscribed = self.subscribed
        super().read(started)
        with self.changing:
            if subscribed and subscribed == self.subscribed:
                self.live.set()
                self.trouble, self.polls_without = None, 0
                return
        self.polls_without += 1
        if self.polls_without == 3:  # not just until there is one
            LOG.warning("%s: polling every %s s, no subscription: %s", self.source, CHECK_S, self.trouble_text)

    def lose(self, why, text=""):
        """There is no subscription any more. text: what only the log may tell."""
        with self.changing:
            self.subscribed = 0
            self.live.clear()
            self.trouble, self.trouble_text = why, f"{why} {text}".strip()

    def end(self):
        super().end()
        self.subscriber.end()

    def health(self):
        """As of any feed, and how many times it has subscribed."""
        health = super().health() | {"source": "subscribe", "subscriptions": self.subscriptions}
        if self.trouble and not self.error:
            health["error"] = f"no subscription ({self.trouble}): polling every {CHECK_S} s until there is one"
        return health


def again_and_again(step):
    """Calls step() for ever; what it raises is logged and does not end it, as with a PeriodicCallback."""
    while True:
        try:
            step()
        except Exception:
            LOG.exception("failed, trying on")
            time.sleep(RETRY_S)


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
    # one quick try to connect: the next poll tries again
    limits = {"read_timeout": READ_TIMEOUT_S, "conn_timeout": READ_TIMEOUT_S, "conn_retries": 1}
    limits |= {"retry_backoff_ms": 100, "retry_backoff_max_ms": 200}
    full = parts._replace(
        netloc=f"{user}@{host}" if user else host, path="", query=urllib.parse.urlencode(limits | given)
    )
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
    return text.lower()


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
    add("--dataset", choices=[*DATASETS, "all"], default="stocks", help="which tables (default: stocks)")
    add("--dsn", default=os.environ.get("TDENGINE_DSN") or DEFAULT_DSN, help=f"default: $TDENGINE_DSN or {DEFAULT_DSN}")
    add("--password-file", metavar="FILE", help="holds the password for the DSN, which then needs none")
    add("--database", type=identifier, help="default: the DSN's, or else the dataset's own")
    add("--interval", type=whole_number(10, 60_000), default=250, metavar="MS", help="between polls (default: 250)")
    add(
        "--source",
        choices=["poll", "subscribe"],
        default="poll",
        help="ask for rows, or be pushed them (default: poll)",
    )
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
        parser.error("unusable DSN, one looks like ws://USER:PASSWORD@HOST:6041 (special characters as %XX)")
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
    reader, writing = Reader(read_tables, args.dsn), threading.Lock()
    executor = concurrent.futures.ThreadPoolExecutor(4, "viewers")
    viewers = Viewers(args.max_viewers, args.host, args.allow_origin, not args.no_file_origin)
    chosen = DATASETS.values() if args.dataset == "all" else [DATASETS[args.dataset]]
    feeds = []
    for each in chosen:
        database = args.database or args.dsn_database or each["database"]
        arguments = (each, database, reader, client, writing, args.limit, args.history)
        feeds.append(PushedFeed(args.dsn, *arguments) if args.source == "subscribe" else Feed(*arguments))
    shared = SharedViews(server, executor, viewers)
    app = make_app(server, executor, viewers, shared, feeds, HERE / "node_modules", args.prefix)
    http = tornado.httpserver.HTTPServer(
        app, ssl_options=args.tls, idle_connection_timeout=60, body_timeout=10, max_body_size=64 * 1024
    )
    sockets = tornado.netutil.bind_sockets(args.port, args.host)
    http.add_sockets(sockets)
    scheme, port = "https" if args.tls else "http", sockets[0].getsockname()[1]
    LOG.info(
        "page at %s://%s:%s%s/, %s",
        scheme,
        args.host,
        port,
        args.prefix,
        f"polling {args.server} every {args.interval} ms" if args.source == "poll" else f"subscribed at {args.server}",
    )
    if args.source == "subscribe":
        await serve_pushed(feeds, stop)
    else:
        await serve_polled(feeds, stop, args.interval)
    http.stop()
    for viewer in list(viewers.connected):
        viewer.close(1001, "server stops")
    await asyncio.sleep(0.1)  # for the close frames
    logging.disable()  # what ends from here on has not failed
    for feed in feeds:
        feed.end()


def start_threads(*steps):
    for step in steps:
        threading.Thread(target=again_and_again, args=(step,), daemon=True).start()


async def serve_polled(feeds, stop, interval_ms):
    start_threads(*(feed.watch for feed in feeds))
    polls = [tornado.ioloop.PeriodicCallback(feed.due.set, interval_ms) for feed in feeds]
    # The producer's batches are due at full intervals of the clock: we look shortly after.
    lag_ms = min(LAG_MS, 0.4 * interval_ms)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), (lag_ms - time.time() * 1000) % interval_ms / 1000)
    for poll in polls:
        poll.start()
    await stop.wait()
    for poll in polls:
        poll.stop()


async def serve_pushed(feeds, stop):
    start_threads(*(step for feed in feeds for step in (feed.follow, feed.watch)))
    await stop.wait()


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
