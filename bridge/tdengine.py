"""Reads TDengine: describes a table, queries rows as Arrow, counts them; errors in words.

taosws runs in a child process (child.py). The functions at the end of this file are what that process runs.
"""

import dataclasses
import re

import pyarrow as pa

from . import columns as col
from .child import Child, Lost
from .sql import UNITS_PER_S, literal, quoted, words

ROWS_AT_ONCE = 4096  # TDengine's block
TRANSPORT = ("0xE0", "0xe0")  # taosws' own codes: no connection, no reply; all others are TDengine's answers
NOW = "SELECT CAST(NOW() AS BIGINT)"  # of no table: in milliseconds
NO_TIME = "0x2669"  # "WINDOW is not supported in system table query"
WAITING = ("0x0388", "0x2603", "0x0357", "0x0351", NO_TIME)  # no such database or table, no access


class Error(Exception):
    """What TDengine answered, or that it could not be reached: `code` as "0x2603" or "", `away` when unreachable.

    waiting: nothing can be read until a user has done something; outdated: the table was described before a change.
    """

    def __init__(self, text):
        code = re.search(r"0x[0-9A-Fa-f]{4}", text)
        super().__init__(words(text))
        self.code = code[0] if code else ""
        self.away = self.code.startswith(TRANSPORT) or not self.code
        self.waiting = self.code in WAITING
        self.outdated = self.code == "0x2602"  # no such column


class Reader:
    """TDengine as seen by one child process: one connection, one query at a time."""

    def __init__(self, dsn):
        self.dsn, self.child = dsn, Child()

    async def query(self, sql, columns=None):
        """The rows of a SELECT: an Arrow table of these Columns, or without them a list of tuples. Error if it fails.

        Bound: the child's 8 s for a call that hangs, before that the DSN's read_timeout for a reply.
        """
        (result,) = await self.queries(sql, columns=columns)
        return result if columns is None else pa.ipc.open_stream(result).read_all()

    async def queries(self, *sqls, columns=None):
        """The results of several, in one call of the child: waking it costs more than a small query does."""
        try:
            results, failure = await self.child.call(_query, self.dsn.url, sqls, columns)
        except Lost as lost:
            raise Error(str(lost)) from None
        if failure:
            raise Error(self.dsn.hide(failure))
        return results

    def close(self):
        self.child.close()


class Table:
    """A table, supertable or subtable of TDengine: its columns as DESCRIBE names them, and counts of its rows.

    Times are seconds since 1970, UTC. `created` changes when the table was dropped and made again. dates: names of
    TIMESTAMP columns that stand for calendar dates.
    """

    errors = Error

    def __init__(self, reader, database, name, title=None, dataset=None, dates=()):
        self.reader, self.database, self.table = reader, database, name
        self.title, self.dataset, self.dates = title or name, dataset, dates
        self.name = f"{quoted(database)}.{quoted(name)}"
        self.columns, self.created, self.supertable, self.units_per_s = (), None, False, 0

    def __str__(self):
        return f"{self.database}.{self.table}"

    async def describe(self):
        """Reads columns, key and precision; True when they differ from before. Error when there is no such table."""
        of = f"FROM information_schema.{{}} WHERE db_name = {literal(self.database)} AND {{}} = "
        of += literal(self.table)
        described, supertables, tables, precisions = await self.reader.queries(
            f"DESCRIBE {self.name}",
            f"SELECT create_time {of.format('ins_stables', 'stable_name')}",
            f"SELECT create_time {of.format('ins_tables', 'table_name')}",
            f"SELECT `precision` FROM information_schema.ins_databases WHERE name = {literal(self.database)}",
        )
        supertable, created = bool(supertables), supertables or tables
        if described[0][1] != "TIMESTAMP":
            raise Error(f"[{NO_TIME}] {self} is a system table")
        if not precisions or not created:
            raise Error(f"[0x2603] {self} was dropped while it was described")
        precision = precisions[0][0]
        keys = [row[0] for row in described if row[3] in ("COMPOSITE KEY", "PRIMARY KEY")]
        subtable = (col.TBNAME,) if supertable else ()
        shown = col.shown_names([row[0] for row in described], [each.name for each in subtable])
        columns = [col.column(name, kind, precision, name in keys, name in self.dates) for name, kind, *_ in described]
        columns = (*(dataclasses.replace(each, name=shown[each.name]) for each in columns), *subtable)
        found = (columns, str(created), supertable)
        changed = found != (self.columns, self.created, self.supertable)
        self.columns, self.created, self.supertable = found
        self.units_per_s = UNITS_PER_S[precision]
        self.time = quoted(described[0][0])
        # what tells two rows apart: the time, a composite key, and in a supertable the subtable
        self.key = [shown[name] for name in (described[0][0], *keys)] + [each.name for each in subtable]
        self.select = ", ".join(each.expression for each in columns)
        return changed

    async def now(self):
        """The database's clock in seconds."""
        ((now,),) = await self.reader.query(NOW)
        return now / 1000

    def within(self, first=None, end=None):
        """A condition: first <= time < end, both in the table's units or None."""
        bounds = [f"{self.time} {sign} {at}" for sign, at in ((">=", first), ("<", end)) if at is not None]
        return " AND ".join(bounds) or f"{self.time} IS NOT NULL"

    def between(self, first=None, end=None):
        """A condition: first <= time < end, both whole seconds or None."""
        return self.within(*(at if at is None else int(at) * self.units_per_s for at in (first, end)))

    async def glance(self, first, end):
        """(the database's clock in seconds, rows with a time before `first`, rows from `end` on)."""
        outside = self.between(end=first), self.between(first=end)
        counts = [f"SELECT COUNT(*) FROM {self.name} WHERE {condition}" for condition in outside]
        ((now,),), *found = await self.reader.queries(NOW, *counts)
        return now / 1000, *(rows[0][0] if rows else 0 for rows in found)

    async def counts(self, step, first=None, end=None):
        """{k: rows stored with k * step <= time < (k + 1) * step}, for those with any."""
        found = await self.reader.query(
            f"SELECT CAST(_wstart AS BIGINT), COUNT(*) FROM {self.name} WHERE {self.between(first, end)} "
            f"INTERVAL({step}s)"
        )
        return {start // self.units_per_s // step: rows for start, rows in found}

    def explain(self, error):
        """What is wrong and what to do, in one line, for the log and the page."""
        text = str(error)
        if error.code in ("0x0357", "0x0351"):
            return "TDengine refuses this user or password: check TDENGINE_DSN or --password-file"
        if "certificate" in text or "tls_" in text:
            return "TDengine's TLS certificate can't be trusted: name your CA's file in the DSN, as ?tls_ca=ca.pem"
        start = ": start producer.py, which makes it" if self.dataset else ": check --table; names are taken as given"
        if error.code == "0x0388":
            return f"TDengine has no database {self.database}{start}"
        if error.code == "0x2603":
            return f"TDengine has no table {self}{start}"
        if error.code == NO_TIME:
            return f"{self} is not a table with a time column: check --table"
        if error.away:
            return f"TDengine does not answer: is it running? Retrying ({text})"
        return f"TDengine answered: {text}"


_connection = None  # the child's, for all its queries


def _query(url, sqls, columns):
    """(rows or Arrow bytes of each, None), or (None, what failed). A connection that failed is never used again."""
    global _connection
    import taosws  # here, so that only the child loads it

    try:
        if _connection is None:
            _connection = taosws.connect(url)
        results = [list(_connection.query(sql)) for sql in sqls]
        return results if columns is None else [col.to_ipc(col.to_arrow(rows, columns)) for rows in results], None
    except BaseException as error:  # taosws' PanicException is no Exception
        if not re.search("0x26|0x0388", str(error)):  # TDengine's answers that say nothing of the connection
            _connection = None
        kind = "" if isinstance(error, taosws.Error) else f"{type(error).__name__}: "
        return None, kind + (str(error) or "no reason given")
