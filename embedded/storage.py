"""Databases, tables and rows, kept by DuckDB in one file.

A plain table n of the catalog is DuckDB's table tn (c0, c1, ..), a supertable is tn (s, c0, c1, ..) for the rows of all
its subtables and gn (s, n, g0, ..) for the subtables' numbers, names and tags. Timestamps are integers.
"""

import contextlib
import dataclasses
import json
import pathlib
import threading
import time
import weakref

import duckdb
import numpy as np

from . import times
from .types import BY_NUMBER, Column, TDengineError

FILE = "stand-in.duckdb"
CATALOG = """
CREATE TABLE IF NOT EXISTS databases (name VARCHAR, precision INTEGER, keep_ms BIGINT, created_ms BIGINT);
CREATE TABLE IF NOT EXISTS tables (id INTEGER, database VARCHAR, name VARCHAR, columns VARCHAR, tags VARCHAR);
CREATE TABLE IF NOT EXISTS topics (name VARCHAR, database VARCHAR, text VARCHAR);
"""


class UnusableFolder(Exception):
    """The data folder cannot be used; the text says why."""


@dataclasses.dataclass
class Database:
    name: str
    precision: int
    keep_ms: int
    created_ms: int
    tables: dict = dataclasses.field(default_factory=dict)  # name: Table or Subtable


@dataclasses.dataclass
class Table:
    """A plain table, or a supertable when tags is a list."""

    id: int
    database: Database
    name: str
    columns: list
    tags: list | None
    subtables: dict = dataclasses.field(default_factory=dict)  # name: Subtable
    last_subtable: int = 0  # the highest number given to one
    newest: int | None = None  # no row is newer than this; None: not known yet


@dataclasses.dataclass
class Subtable:
    id: int
    stable: Table
    name: str


@dataclasses.dataclass
class Rows:
    """Rows to be stored in one table: values by column index; subtables: the number of each row's subtable, or None."""

    table: Table
    subtables: object
    indices: list
    arrays: list


class Storage:
    """All of it. Writes come one at a time, through `connection` under `lock`; reads go through cursors of their own.

    After some failures, a full disk among them, DuckDB works no more until its file is opened anew: see reopened().
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.lock = threading.RLock()
        self.topics = None  # tmq.Topics, which wants to know of inserts
        self.databases = {}
        self.streams = weakref.WeakSet()  # results that are read piece by piece, which hold cursors
        self.broken, self.retry_at, self.failure = False, 0.0, None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.opened = self.open()
            self.opened.execute(CATALOG)
            self.load()
        except FileExistsError:
            raise UnusableFolder(f"{self.folder} is not a folder") from None
        except (OSError, duckdb.Error) as error:
            text = getattr(error, "strerror", None) or str(error).splitlines()[0]
            if "Could not set lock" in text:
                raise UnusableFolder(f"{self.folder} is in use by another stand-in") from None
            raise UnusableFolder(f"{self.folder} cannot be used: {text}") from None

    def open(self):
        return duckdb.connect(str(self.folder / FILE), config={"threads": 1, "memory_limit": "512MB"})

    @property
    def connection(self):
        return self.reopened() if self.broken else self.opened

    def cursor(self):
        return self.connection.cursor()

    def reopened(self):
        """The connection, opened anew; DuckDB's error while it cannot be."""
        with self.lock:
            if not self.broken:
                return self.opened
            self.opened = None
            for stream in list(self.streams):
                stream.close()
            connection = self.open()  # still the broken one as long as anybody has a cursor
            connection.execute("SELECT count(*) FROM databases")
            self.opened, self.broken = connection, False
            return connection

    def load(self):
        read = self.connection.execute
        for name, precision, keep_ms, created_ms in read("SELECT * FROM databases").fetchall():
            self.databases[name] = Database(name, precision, keep_ms, created_ms)
        for number, database, name, columns, tags in read("SELECT * FROM tables").fetchall():
            tags = columns_from_json(tags, is_tag=True) if tags else None
            table = Table(number, self.databases[database], name, columns_from_json(columns), tags)
            table.database.tables[name] = table
            if tags is not None:
                for subtable_id, subtable_name in read(f"SELECT s, n FROM g{number}").fetchall():
                    self.remember(Subtable(subtable_id, table, subtable_name))
        self.next_table = 1 + max((table.id for table in self.all_tables()), default=0)

    def all_tables(self):
        for database in self.databases.values():
            yield from (table for table in database.tables.values() if isinstance(table, Table))

    def remember(self, subtable):
        subtable.stable.subtables[subtable.name] = subtable
        subtable.stable.last_subtable = max(subtable.stable.last_subtable, subtable.id)
        subtable.stable.database.tables[subtable.name] = subtable

    def close(self):
        with self.lock:
            if self.opened is not None:
                self.opened.close()

    def transaction(self, steps):
        """Runs steps(execute): all of it or nothing is stored."""
        if time.monotonic() < self.retry_at:
            raise self.failure
        execute = self.connection.execute
        try:
            execute("BEGIN")
            result = steps(execute)
            execute("COMMIT")
        except duckdb.FatalException as error:
            # for a second nothing is written, so that reads are answered while the disk is full
            self.broken, self.retry_at, self.failure = True, time.monotonic() + 1, duckdb.IOException(str(error))
            raise
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # a COMMIT that failed has rolled back already
                execute("ROLLBACK")
            raise
        return result

    # Databases and tables

    def database(self, name):
        found = self.databases.get(name)
        if found is None:
            raise TDengineError(0x0388, "Database not exist")
        return found

    def create_database(self, name, precision, keep_ms):
        with self.lock:
            if name in self.databases:
                raise TDengineError(0x0381, "Database already exists")
            database = Database(name, precision, keep_ms, times.now(0))
            values = [name, precision, keep_ms, database.created_ms]
            self.transaction(lambda execute: execute("INSERT INTO databases VALUES (?, ?, ?, ?)", values))
            self.databases[name] = database

    def drop_database(self, name):
        with self.lock:
            database = self.database(name)
            tables = [table for table in database.tables.values() if isinstance(table, Table)]

            def steps(execute):
                for table in tables:
                    self.drop_stored(execute, table)
                execute("DELETE FROM databases WHERE name = ?", [name])

            self.transaction(steps)
            del self.databases[name]

    def drop_stored(self, execute, table):
        execute(f"DROP TABLE t{table.id}")
        if table.tags is not None:
            execute(f"DROP TABLE g{table.id}")
        execute("DELETE FROM tables WHERE id = ?", [table.id])

    def create_table(self, database, name, columns, tags):
        with self.lock:
            if name in database.tables:
                is_stable = isinstance(database.tables[name], Table) and database.tables[name].tags is not None
                if is_stable and tags is not None:
                    raise TDengineError(0x0360, "STable already exists")
                raise TDengineError(0x0603, "Table already exists")
            table = Table(self.next_table, database, name, columns, tags, newest=-(2**63))

            def steps(execute):
                definitions = [f"c{k} {column.type.duck}" for k, column in enumerate(columns)]
                if tags is not None:
                    definitions.insert(0, "s INTEGER")
                    tag_definitions = [f"g{k} {column.type.duck}" for k, column in enumerate(tags)]
                    execute(f"CREATE TABLE g{table.id} (s INTEGER, n VARCHAR, {', '.join(tag_definitions)})")
                execute(f"CREATE TABLE t{table.id} ({', '.join(definitions)})")
                execute(
                    "INSERT INTO tables VALUES (?, ?, ?, ?, ?)",
                    [table.id, database.name, name, columns_to_json(columns), columns_to_json(tags) if tags else None],
                )

            self.transaction(steps)
            self.next_table += 1
            database.tables[name] = table

    def drop_table(self, database, name):
        with self.lock:
            found = database.tables.get(name)
            if found is None:
                raise TDengineError(0x2603, "Table does not exist")
            if isinstance(found, Subtable):
                stable = found.stable

                def steps(execute):
                    execute(f"DELETE FROM t{stable.id} WHERE s = {found.id}")
                    execute(f"DELETE FROM g{stable.id} WHERE s = {found.id}")

                self.transaction(steps)
                del stable.subtables[name]
            else:
                self.transaction(lambda execute: self.drop_stored(execute, found))
                for subtable in found.subtables:
                    del database.tables[subtable]
            del database.tables[name]

    # Rows

    def write(self, rows_of_tables, new_subtables=()):
        """Stores rows in one transaction: a row whose key is there overwrites the columns given.

        new_subtables: (Subtable, tag values) to be made first. Returns the number of rows, equal keys counted once.
        """
        with self.lock:

            def steps(execute):
                for stable in {subtable.stable.id: subtable.stable for subtable, _ in new_subtables}.values():
                    self.write_subtables(execute, stable, [new for new in new_subtables if new[0].stable is stable])
                return [self.write_rows(execute, rows) for rows in rows_of_tables]

            try:
                written = self.transaction(steps)
            except BaseException:
                for rows in rows_of_tables:
                    rows.table.newest = None  # a write that failed may have been stored: look it up
                raise
            for subtable, _ in new_subtables:
                self.remember(subtable)
            for rows, (_, newest) in zip(rows_of_tables, written, strict=True):
                rows.table.newest = max(rows.table.newest, newest)
            if self.topics is not None:
                self.topics.inserted(rows_of_tables)
            return sum(count for count, _ in written)

    def write_subtables(self, execute, stable, new):
        """Stores numbers, names and tags of new subtables of one supertable."""
        columns = zip(*((subtable.id, subtable.name, *tags) for subtable, tags in new), strict=True)
        names = ["s", "n", *(f"g{k}" for k in range(len(stable.tags)))]
        types = ["INTEGER", "VARCHAR", *(column.type.duck for column in stable.tags)]
        batch = {name: as_numpy(list(values)) for name, values in zip(names, columns, strict=True)}
        casts = [f"CAST({name} AS {type})" for name, type in zip(names, types, strict=True)]
        execute(f"INSERT INTO g{stable.id} SELECT {', '.join(casts)} FROM batch")
        del batch  # DuckDB finds it by its name

    def write_rows(self, execute, rows):
        """(rows stored, newest timestamp). Only rows not newer than all others are looked up first."""
        table, keys = rows.table, rows.arrays[rows.indices.index(0)]
        batch = {f"c{index}": as_numpy(array) for index, array in zip(rows.indices, rows.arrays, strict=True)}
        if rows.subtables is not None:
            batch["s"] = rows.subtables
        kept = last_of_each_key(keys, rows.subtables)
        if kept is not None:
            batch = {name: array[kept] for name, array in batch.items()}
        count, first, newest = len(batch["c0"]), int(keys.min()), int(keys.max())
        if table.newest is None:
            (table.newest,) = execute(f"SELECT coalesce(max(c0), {-(2**63)}) FROM t{table.id}").fetchone()
        if first <= table.newest:
            batch = self.overwrite(execute, table, batch, first, newest)
        if batch is not None:
            casts = [f"CAST({name} AS {duck_type(table, name)}) AS {name}" for name in batch]
            execute(f"INSERT INTO t{table.id} ({', '.join(batch)}) SELECT {', '.join(casts)} FROM batch")
        return count, newest

    def overwrite(self, execute, table, batch, first, newest):
        """Overwrites the rows that are there already. Returns what is left to be inserted, or None."""
        batch["i"] = np.arange(len(batch["c0"]), dtype=np.int64)
        of_subtable = " AND t.s = b.s" if "s" in batch else ""
        match = f"t.c0 BETWEEN {first} AND {newest} AND t.c0 = b.c0{of_subtable}"
        there = execute(f"SELECT b.i FROM t{table.id} t, batch b WHERE {match}").fetchnumpy()["i"]
        if len(there):
            names = [name for name in batch if name not in ("c0", "s", "i")]
            changes = ", ".join(f"{name} = CAST(b.{name} AS {duck_type(table, name)})" for name in names)
            if changes:
                execute(f"UPDATE t{table.id} t SET {changes} FROM batch b WHERE {match}")
            left = np.ones(len(batch["i"]), bool)
            left[there] = False
            if not left.any():
                return None
            batch = {name: array[left] for name, array in batch.items()}
        del batch["i"]
        return batch

    def delete(self, table, where):
        """Deletes rows by DuckDB's condition on r; returns how many."""
        with self.lock:
            sql = f"DELETE FROM t{table.id} AS r WHERE {where}"
            return self.transaction(lambda execute: execute(sql).fetchone()[0])


def duck_type(table, name):
    return "INTEGER" if name == "s" else table.columns[int(name[1:])].type.duck


def as_numpy(array):
    """DuckDB reads numpy arrays; text comes as lists."""
    if isinstance(array, list):
        filled = np.empty(len(array), np.object_)
        filled[:] = array
        return filled
    return array


def last_of_each_key(keys, subtables):
    """Indices of the rows that stay when a later row replaces an earlier one of the same key; None: all stay."""
    keys = np.ma.getdata(keys)
    if subtables is None:
        if len(keys) < 2 or (np.diff(keys) > 0).all():
            return None
        order = np.argsort(keys, kind="stable")
        last = np.append(keys[order][1:] != keys[order][:-1], True)
    else:
        order = np.lexsort((keys, subtables))  # stable
        ordered, of_subtable = keys[order], subtables[order]
        last = np.append((ordered[1:] != ordered[:-1]) | (of_subtable[1:] != of_subtable[:-1]), True)
        if last.all():
            return None
    return np.sort(order[last])


def columns_to_json(columns):
    return json.dumps([[column.name, column.type.number, column.length] for column in columns])


def columns_from_json(text, is_tag=False):
    return [Column(name, BY_NUMBER[number], length, is_tag) for name, number, length in json.loads(text)]
