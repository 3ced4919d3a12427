"""Databases, tables and rows, kept by DuckDB in one file.

A plain table n of the catalog is DuckDB's table tn (c0, c1, ..), a supertable is tn (n, g0, .., c0, ..) for the rows of
all its subtables, with the subtable's name and tags in each. Timestamps are integers.
"""

import contextlib
import pathlib
import threading
import time
import typing

import duckdb
import numpy as np

from . import catalog
from .catalog import TBNAME, Table
from .errors import TDengineError
from .types import UNITS_PER_S

FILE = "stand-in-2.duckdb"  # another name with another layout
CONFIG = {"threads": 1, "memory_limit": "512MB"}
CONFIG |= {"default_null_order": "nulls_first_on_asc_last_on_desc"}  # NULL is less than all else
FIRST = """
CREATE TABLE IF NOT EXISTS catalog AS SELECT '[]' AS databases, 0 AS last_table;
CREATE TABLE IF NOT EXISTS topics (name VARCHAR, database VARCHAR, text VARCHAR);
"""
LATEST = (31556995200000, 31556995200000000, 9214646400000000000)  # by precision; the first two are the year 2970
EXPIRES_S = 60  # rows older than KEEP are deleted that often
NOTHING = -(2**63)  # the newest time of a table without rows


class Storage:
    """All of it. Writes come one at a time, by transaction(); reads go through cursors of their own."""

    def __init__(self, folder):
        self.folder, self.lock = pathlib.Path(folder), threading.RLock()
        self.topics = None  # topics.Topics, which wants to know of inserts
        self.opened, self.databases, self.last_table = None, {}, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self.connection()

    def connection(self):
        """DuckDB's, which is opened, and the catalog read anew, after a failure; its error while it cannot be."""
        with self.lock:
            if self.opened is None:
                opened = duckdb.connect(str(self.folder / FILE), config=CONFIG)
                opened.execute(FIRST)
                text, self.last_table = opened.execute("SELECT * FROM catalog").fetchone()
                self.databases, self.opened = catalog.from_json(text), opened
            return self.opened

    def database(self, name):
        if name not in self.databases:
            raise TDengineError(0x0388, "Database not exist")
        return self.databases[name]

    def cursor(self):
        """For reading, which doesn't wait for who writes; to be entered."""
        return (self.opened or self.connection()).cursor()

    @contextlib.contextmanager
    def transaction(self, changes_catalog=False):
        """Gives execute(sql): all of it or nothing is stored, `databases` included if that was changed, too."""
        with self.lock:
            execute = self.connection().execute
            try:
                execute("BEGIN")
                yield execute
                if changes_catalog:
                    self.save_catalog(execute)
                execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):  # a COMMIT that failed has rolled back already
                    execute("ROLLBACK")
                is_fatal = isinstance(error, duckdb.FatalException)  # which a full disk gives: no more works
                if changes_catalog or is_fatal:
                    self.opened.close()  # DuckDB gives the same one again while it is open
                    self.opened = None
                raise

    def save_catalog(self, execute):
        execute("UPDATE catalog SET databases = ?, last_table = ?", [catalog.to_json(self.databases), self.last_table])

    def create_table(self, database, name, columns, tags):
        with self.transaction(changes_catalog=True) as execute:
            self.last_table += 1
            of_subtable = [] if tags is None else [TBNAME, *tags]
            stored = ", ".join(f"{column.stored} {column.duck}" for column in (*of_subtable, *columns))
            execute(f"CREATE TABLE t{self.last_table} ({stored})")
            database.tables[name] = Table(self.last_table, database, name, columns, tags, newest=NOTHING)

    def drop(self, database, name=None):
        """Drops a table or subtable, or the whole database."""
        found = database.get(name)
        with self.transaction(changes_catalog=True) as execute:
            if found and found.is_subtable:
                execute(f"DELETE FROM t{found.table.id} WHERE n = {blob(name)}")
                del found.table.subtables[name]
                return
            for table in [found.table] if found else list(database.tables.values()):
                execute(f"DROP TABLE t{table.id}")
                del database.tables[table.name]
            if not found:
                del self.databases[database.name]

    def write(self, inserts):
        """Stores Rows in one transaction: a row whose key is there overwrites the columns given. How many rows."""
        for rows in inserts:
            rows.check()
        with self.lock:
            try:
                with self.transaction() as execute:
                    count = sum(rows.write(execute) for rows in inserts)
                    if any(rows.subtables for rows in inserts):
                        self.save_catalog(execute)
            except BaseException:
                for rows in inserts:
                    rows.forget()
                raise
            self.topics.inserted(inserts)
            return count


class Rows(typing.NamedTuple):
    """Rows for one table, an array or list a column; subtables: new ones, {name: tags' values}."""

    table: Table
    columns: list
    arrays: list
    subtables: dict

    def check(self):
        """TDengineError when a key is NULL or outside of what the database keeps."""
        for key in self.table.keys:
            array = self.arrays[self.columns.index(key)] if key in self.columns else [None]
            if None in array if isinstance(array, list) else np.ma.getmaskarray(array).any():
                raise TDengineError(0x0200, f"Primary {'key' if key.note else 'timestamp'} column should not be null")
        times, database = self.arrays[self.columns.index(self.table.columns[0])], self.table.database
        if times.min() < oldest_kept(database) or times.max() > LATEST[database.precision]:
            raise TDengineError(0x060B, "Timestamp data out of range")

    def batch(self):
        """{stored name: numpy array}, of rows with one key the last one; DuckDB reads it by its variable's name."""
        batch = {column.stored: as_numpy(array) for column, array in zip(self.columns, self.arrays, strict=True)}
        if (np.diff(batch["c0"]) > 0).all():
            return batch
        keys = zip(*(batch[name].tolist() for name in self.key_names()), strict=True)
        kept = np.array(sorted({key: at for at, key in enumerate(keys)}.values()))
        return {name: array[kept] for name, array in batch.items()}

    def key_names(self):
        return ["n"] * (self.table.tags is not None) + [key.stored for key in self.table.keys]

    def casts(self):
        """DuckDB's SELECT list that gives the columns of a batch the types of the table."""
        return ", ".join(f"CAST({column.stored} AS {column.duck}) AS {column.stored}" for column in self.columns)

    def write(self, execute):
        """Stores them; returns their number. Only rows not newer than all others are looked up first."""
        table, batch, now = self.table, self.batch(), time.monotonic()
        first, last, name = int(batch["c0"].min()), int(batch["c0"].max()), f"t{self.table.id}"
        if now > table.expires_at:
            execute(f"DELETE FROM {name} WHERE c0 < {oldest_kept(table.database)}")
            table.expires_at = now + EXPIRES_S
        if table.newest is None:
            (table.newest,) = execute(f"SELECT coalesce(max(c0), {NOTHING}) FROM {name}").fetchone()
        source = f"SELECT {self.casts()} FROM batch"
        if first > table.newest:
            execute(f"INSERT INTO {name} BY NAME {source}")
        else:
            match = "".join(f" AND t.{key} = b.{key}" for key in self.key_names())
            execute(
                f"MERGE INTO {name} t USING ({source}) b ON t.c0 BETWEEN {first} AND {last}{match}"
                " WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME"
            )
        table.newest = max(table.newest, last)
        table.subtables |= self.subtables
        return len(batch["c0"])

    def forget(self):
        """After a write that failed; it may have been stored nevertheless."""
        self.table.newest = None
        for name in self.subtables:
            self.table.subtables.pop(name, None)


def oldest_kept(database):
    """The oldest timestamp that the database's KEEP lets in."""
    units = UNITS_PER_S[database.precision]
    return time.time_ns() // (10**9 // units) - database.keep_ms * units // 1000


def as_numpy(array):
    """DuckDB reads numpy arrays."""
    if isinstance(array, list):
        filled = np.empty(len(array), np.object_)
        filled[:] = array
        return filled
    return array


def blob(text):
    """DuckDB's literal for the bytes of a text."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in text.encode()) + "'::BLOB"
