"""Reads ClickHouse: describes a table, queries rows as Arrow, counts them. A source for bridge.feed.Feed."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import re

import pyarrow as pa

from bridge.columns import ROW, UNSHOWN, Column, shown_names
from bridge.sql import literal
from clickhouse.client import BAD_OPTIONS, ERRORS, READ_TIMEOUT_S, REFUSED, code, connect, words

CALL_LIMIT_S = 10  # a query that takes longer is given up, even when bytes still trickle in
NO_DATABASE, NO_TABLE, NO_COLUMN = 81, 60, {10, 16, 47}  # ClickHouse's codes
ALIAS = "__table__"  # the table's in SQL, where no column is shown under such a name
# Wider where the engine's sums overflow as rows leave a table with a limit (docs/engine-faults.md)
NUMBERS = dict.fromkeys(["Int8", "Int16", "Int32", "UInt8", "UInt16"], "int32")
NUMBERS |= {"Int64": "int64", "UInt32": "int64", "UInt64": "uint64"}
# A time as an integer, and an integer as a time, by the decimal digits of its seconds.
TO_INTEGER = {
    0: "toInt64(toUnixTimestamp({}))",
    3: "toUnixTimestamp64Milli(toDateTime64({}, 3))",
    6: "toUnixTimestamp64Micro(toDateTime64({}, 6))",
    9: "toUnixTimestamp64Nano(toDateTime64({}, 9))",
}
TO_TIME = {
    0: "toDateTime({})",
    3: "fromUnixTimestamp64Milli(toInt64({}))",
    6: "fromUnixTimestamp64Micro(toInt64({}))",
    9: "fromUnixTimestamp64Nano(toInt64({}))",
}
ARROW_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}


class Error(Exception):
    """What ClickHouse answered, with its `code`, or that it could not be reached (None).

    waiting: nothing can be read until a user has done something; outdated: the table was described before a change.
    """

    def __init__(self, text, number=None):
        super().__init__(text)
        self.code = number
        self.waiting = number in REFUSED | {NO_DATABASE, NO_TABLE} or text.startswith(BAD_OPTIONS)
        self.outdated = number in NO_COLUMN


def quoted(name):
    """A name as it stands in SQL: taken as it is, whatever its characters."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Reader:
    """One query at a time, in a thread. One whose query takes too long is left to itself and replaced."""

    def __init__(self, dsn):
        self.dsn, self.client, self.turn = dsn, None, asyncio.Lock()
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "reader")

    async def query(self, sql, columns=None):
        """The rows of a SELECT: an Arrow table of these Columns, or without them a list of tuples. Error if it fails.

        Bound: CALL_LIMIT_S, before that READ_TIMEOUT_S without a byte.
        """
        async with self.turn:
            try:
                work = asyncio.get_running_loop().run_in_executor(self.thread, self.exchange, sql, columns)
                self.client, rows = await asyncio.wait_for(work, CALL_LIMIT_S)
                return rows
            except TimeoutError:
                reason = f"a query took longer than {CALL_LIMIT_S} s"
            except RuntimeError as error:
                reason = f"no thread for a query: {error}"
            self.thread.shutdown(wait=False)
            self.thread = concurrent.futures.ThreadPoolExecutor(1, "reader")
            raise Error(reason)

    def exchange(self, sql, columns):
        """Runs in the thread: (client, rows). A client that failed is never used again."""
        client, self.client = self.client, None
        try:
            client = client or connect(self.dsn)
            # the database, too, gives up what nobody waits for any more; a user may not be allowed to say so
            limit = client.server_settings.get("max_execution_time")
            settings = {} if limit and limit.readonly else {"max_execution_time": READ_TIMEOUT_S}
            if columns is None:
                return client, client.query(sql, settings=settings).result_rows
            return client, arranged(client.query_arrow(sql, use_strings=True, settings=settings), columns)
        except (*ERRORS, pa.ArrowException) as error:
            if client is not None:
                client.close_connections()
            raise Error(self.dsn.hide(words(error)), code(error)) from None
        except ValueError as error:
            raise Error(self.dsn.hide(str(error))) from None

    def close(self):
        self.thread.shutdown(wait=False)


def arranged(rows, columns):
    """Rows with the types of these Columns; those that are equal in all columns get different values of ROW, too."""
    seen, hashes = collections.Counter(), []
    for number in rows.column(ROW).to_pylist():
        hashes.append((number + seen[number]) % 2**64)
        seen[number] += 1
    schema = pa.schema([(each.name, each.type) for each in columns] + [(ROW, pa.uint64()), (UNSHOWN, pa.int64())])
    return rows.set_column(len(columns), ROW, pa.array(hashes, pa.uint64())).cast(schema)


def column(name, kind):
    """The Column of a DESCRIBE row, and the condition under which it shows a value, or None: always."""
    kind = re.sub(r"^((LowCardinality|Nullable)\()+", "", kind)
    expression, base = f"{ALIAS}.{quoted(name)}", re.match(r"\w+", kind)[0]
    if base in NUMBERS:
        return Column(name, expression, pa.type_for_alias(NUMBERS[base])), None
    if base == "Bool":
        return Column(name, expression, pa.bool_()), None
    if base in ("Float32", "Float64", "BFloat16"):
        condition = f"isFinite({expression})"
        return Column(name, f"if({condition}, toFloat64({expression}), NULL)", pa.float64()), condition
    if base.startswith("Decimal"):
        return Column(name, f"toFloat64({expression})", pa.float64()), None
    if base in ("Date", "Date32"):
        return Column(name, f"toDate32({expression})", pa.date32()), None
    if base in ("DateTime", "DateTime64"):
        digits = digits_of(kind)
        return Column(name, f"toDateTime64({expression}, {digits}, 'UTC')", pa.timestamp(ARROW_UNITS[digits])), None
    to_text = {"String": "{}", "FixedString": "toStringCutToZero({})"}.get(base, "toString({})")
    text = to_text.format(expression)
    return Column(name, f"if(isValidUTF8({text}), {text}, NULL)", pa.string()), f"isValidUTF8({text})"


def digits_of(kind):
    """0, 3, 6 or 9: so many decimal digits of a second hold each time of a DateTime or DateTime64(N)."""
    precision = re.match(r"DateTime64\((\d)", kind)
    return 0 if precision is None else max(3, -(-int(precision[1]) // 3) * 3)


class Table:
    """A table or view of ClickHouse: its columns as DESCRIBE names them, and counts of its rows.

    Times are seconds since 1970, UTC. Its time is the first DateTime or DateTime64 column. Rows with equal timestamps
    are different rows, and so are rows that are equal in all columns.
    """

    errors, supertable = Error, False

    def __init__(self, reader, database, name, title=None, dataset=None):
        self.reader, self.database, self.table = reader, database, name
        self.title, self.dataset = title or name, dataset
        self.name = f"{quoted(database)}.{quoted(name)} AS {ALIAS}"
        self.columns, self.created, self.units_per_s = (), None, 0

    def __str__(self):
        return f"{self.database}.{self.table}"

    async def describe(self):
        """Reads columns and precision; True when they differ from before. Error when there is no such table."""
        described = await self.reader.query(f"DESCRIBE TABLE {self.name.removesuffix(f' AS {ALIAS}')}")
        created = await self.reader.query(
            f"SELECT toString(uuid) FROM system.tables WHERE database = {literal(self.database)} "
            f"AND name = {literal(self.table)}"
        )
        kinds = {name: kind for name, kind, default, *_ in described if default != "EPHEMERAL"}
        time = next((name for name in kinds if kinds[name].startswith("DateTime")), None)
        if time is None:
            raise Error(f"{self} has no column of type DateTime64 or DateTime", NO_TABLE)
        shown, found = shown_names(kinds), [column(name, kind) for name, kind in kinds.items()]
        columns = tuple(dataclasses.replace(each, name=shown[each.name]) for each, _ in found)
        changed = (columns, created) != (self.columns, self.created)
        self.columns, self.created = columns, created
        self.digits = digits_of(kinds[time])
        self.units_per_s, self.time = 10**self.digits, f"{ALIAS}.{quoted(time)}"
        self.key = [shown[time], ROW]
        unshown = " + ".join(f"ifNull(NOT {condition}, 0)" for _, condition in found if condition) or "0"
        extra = [f"sipHash64(tuple({ALIAS}.*)) AS {quoted(ROW)}", f"toInt64({unshown}) AS {quoted(UNSHOWN)}"]
        self.select = ", ".join([f"{each.expression} AS {quoted(each.name)}" for each in columns] + extra)
        return changed

    async def now(self):
        """The database's clock in seconds."""
        ((now,),) = await self.reader.query("SELECT toUnixTimestamp64Micro(now64(6))")
        return now / 10**6

    def within(self, first=None, end=None):
        """A condition: first <= time < end, both in the table's units or None."""
        last = 2**63 - 1 if self.digits else 2**32 - 1
        bounds = [
            f"{self.time} {sign} {TO_TIME[self.digits].format(min(max(at, 0 if not self.digits else -last), last))}"
            for sign, at in ((">=", first), ("<", end))
            if at is not None
        ]
        return " AND ".join(bounds) or "1"

    def between(self, first=None, end=None):
        """A condition: first <= time < end, both whole seconds or None."""
        return self.within(*(at if at is None else int(at) * self.units_per_s for at in (first, end)))

    async def glance(self, first, end):
        """(the database's clock in seconds, rows with a time before `first`, rows from `end` on)."""
        counts = []
        for condition in (self.between(end=first), self.between(first=end)):
            counts += await self.reader.query(f"SELECT count() FROM {self.name} WHERE {condition}")
        return await self.now(), *(rows for (rows,) in counts)

    async def counts(self, step, first=None, end=None):
        """{k: rows stored with k * step <= time < (k + 1) * step}, for those with any."""
        time, units = TO_INTEGER[self.digits].format(self.time), step * self.units_per_s
        found = await self.reader.query(  # intDiv alone would round times before 1970 up
            f"SELECT intDiv({time} - positiveModulo({time}, {units}), {units}) AS k, count() FROM {self.name} "
            f"WHERE {self.between(first, end)} GROUP BY k"
        )
        return dict(found)

    def explain(self, error):
        """What is wrong and what to do, in one line, for the log and the page."""
        text, start = str(error), ": start producer.py, which makes it" if self.dataset else ": check --table"
        if text.startswith(BAD_OPTIONS):
            return f"{text}: correct CLICKHOUSE_DSN or --dsn"
        if error.code in REFUSED:
            return f"ClickHouse refuses this user or password: check CLICKHOUSE_DSN or --password-file ({text})"
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "ClickHouse's TLS certificate can't be trusted: name your CA's file in the DSN, as ?ca_cert=ca.pem"
        if error.code == NO_DATABASE:
            return f"ClickHouse has no database {self.database}{start}"
        if error.code == NO_TABLE:
            return text if text.startswith(f"{self} has no") else f"ClickHouse has no table {self}{start}"
        if error.code:
            return f"ClickHouse answered: {text}"
        return f"ClickHouse does not answer: is it running? Retrying ({text})"
