"""Databases, tables and rows, kept by DuckDB in one file.

A plain table n of the catalog is DuckDB's table tn (c0, c1, ..), a supertable is tn (s, c0, c1, ..) for the rows of all
its subtables and gn (s, n, g0, ..) for the subtables' numbers, names and tags. Timestamps are integers.
"""

import contextlib
import pathlib
import threading

import duckdb

from . import catalog
from .catalog import Table
from .errors import TDengineError
from .rows import NOTHING

FILE = "stand-in.duckdb"
FIRST = """
CREATE TABLE IF NOT EXISTS catalog AS SELECT '[]' AS databases, 0 AS last_table;
CREATE TABLE IF NOT EXISTS topics (name VARCHAR, database VARCHAR, text VARCHAR);
"""
CONFIG = {"threads": 1, "memory_limit": "512MB"}
CONFIG |= {"default_null_order": "nulls_first_on_asc_last_on_desc"}  # NULL is less than all else


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
                self.load(opened.execute)
                self.opened = opened
            return self.opened

    def load(self, read):
        text, self.last_table = read("SELECT * FROM catalog").fetchone()
        self.databases = catalog.from_json(text)
        for database in self.databases.values():
            for table in database.tables.values():
                found = read(f"SELECT n, s FROM g{table.id}").fetchall() if table.tags else ()
                table.subtables = {name.decode(): number for name, number in found}
                table.last_number = max(table.subtables.values(), default=0)

    def database(self, name):
        if name not in self.databases:
            raise TDengineError(0x0388, "Database not exist")
        return self.databases[name]

    @contextlib.contextmanager
    def cursor(self):
        """For reading, which doesn't wait for who writes."""
        cursor = (self.opened or self.connection()).cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    @contextlib.contextmanager
    def transaction(self, changes_catalog=False):
        """Gives execute(sql): all of it or nothing is stored, `databases` included if that was changed, too."""
        with self.lock:
            execute = self.connection().execute
            try:
                execute("BEGIN")
                yield execute
                if changes_catalog:
                    values = [catalog.to_json(self.databases), self.last_table]
                    execute("UPDATE catalog SET databases = ?, last_table = ?", values)
                execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):  # a COMMIT that failed has rolled back already
                    execute("ROLLBACK")
                is_fatal = isinstance(error, duckdb.FatalException)  # which a full disk gives: no more works
                if changes_catalog or is_fatal:
                    self.opened = None
                raise

    def create_table(self, database, name, columns, tags):
        with self.transaction(changes_catalog=True) as execute:
            self.last_table += 1
            if tags is not None:
                execute(f"CREATE TABLE g{self.last_table} (s INTEGER, n BLOB, {definitions(tags)})")
            s = "" if tags is None else "s INTEGER, "
            execute(f"CREATE TABLE t{self.last_table} ({s}{definitions(columns)})")
            database.tables[name] = Table(self.last_table, database, name, columns, tags, newest=NOTHING)

    def drop(self, database, name=None):
        """Drops a table or subtable, or the whole database."""
        found = database.get(name)
        with self.transaction(changes_catalog=True) as execute:
            if found and found.number is not None:
                for letter in "tg":
                    execute(f"DELETE FROM {letter}{found.table.id} WHERE s = {found.number}")
                del found.table.subtables[name]
                return
            for table in [found.table] if found else list(database.tables.values()):
                execute(f"DROP TABLE t{table.id}; DROP TABLE IF EXISTS g{table.id}")
                del database.tables[table.name]
            if not found:
                del self.databases[database.name]

    def write(self, inserts, new_subtables=()):
        """Stores Rows in one transaction: a row whose key is there overwrites the columns given.

        new_subtables: (supertable, name, number, tag values) to be made first. Returns the number of rows.
        """
        for rows in inserts:
            rows.check()
        with self.lock:
            try:
                with self.transaction() as execute:
                    for table, name, number, tags in new_subtables:
                        marks = ", ".join(["?"] * (2 + len(tags)))
                        execute(f"INSERT INTO g{table.id} VALUES ({marks})", [number, name.encode(), *tags])
                    count = sum(rows.write(execute) for rows in inserts)
            except BaseException:
                for rows in inserts:
                    rows.table.newest = None  # a write that failed may have been stored: look it up
                raise
            for table, name, number, _ in new_subtables:
                table.subtables[name] = number
            self.topics.inserted(inserts)
            return count


def definitions(columns):
    return ", ".join(f"{column.stored} {column.duck}" for column in columns)
