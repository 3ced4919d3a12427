"""Databases, tables and rows, kept by DuckDB in one file.

A plain table k of the catalog is DuckDB's table tk (c0, c1, ..); a supertable is tk (n, c0, c1, ..) for the rows of all
its subtables, n their names, and sk (n, g0, ..) for the subtables' tags. Timestamps are integers.
"""

import contextlib
import pathlib
import threading
import time
import typing

import duckdb
import pyarrow as pa

from . import catalog
from .catalog import TBNAME, Table
from .errors import refuse
from .types import UNITS_PER_S

FILE = "stand-in-3.duckdb"  # another name with another layout
CONFIG = {"threads": 1, "memory_limit": "512MB"}
CONFIG |= {"default_null_order": "nulls_first_on_asc_last_on_desc"}  # NULL is less than all else
CONFIG |= {"disabled_optimizers": "compressed_materialization"}  # which takes 0.5 s for 2,000 columns
FIRST = """
CREATE TABLE IF NOT EXISTS catalog AS SELECT '[]' AS databases;
CREATE TABLE IF NOT EXISTS topics (name VARCHAR PRIMARY KEY, database VARCHAR, text VARCHAR);
"""
LATEST = (31556995200000, 31556995200000000, 9214646400000000000)  # by precision; the first two are the year 2970
UPSERT = "WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME"
EXPIRES_S = 60  # rows older than KEEP are deleted that often


class Storage:
    """All of it. Writes come one at a time, by transaction(); reads go through cursors of their own."""

    def __init__(self, folder):
        self.folder, self.lock = pathlib.Path(folder), threading.RLock()
        self.topics = None  # topics.Topics, which wants to know of inserts
        self.opened, self.databases = None, {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.connection()

    def connection(self):
        """DuckDB's, which is opened, and the catalog read anew, after a failure; its error while it cannot be."""
        with self.lock:
            if self.opened is None:
                opened = duckdb.connect(str(self.folder / FILE), config=CONFIG)
                opened.execute(FIRST)
                self.databases = catalog.from_json(*opened.execute("SELECT * FROM catalog").fetchone())
                tables = [table for each in self.databases.values() for table in each.tables.values() if table.tags]
                for table in tables:
                    names = opened.execute(f"SELECT n FROM s{table.id}").fetchall()
                    table.subtables = {name.decode() for (name,) in names}
                self.opened = opened
            return self.opened

    def database(self, name):
        refuse(name not in self.databases, 0x0388, "Database not exist")
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
                    execute("UPDATE catalog SET databases = ?", [catalog.to_json(self.databases)])
                execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):  # a COMMIT that failed has rolled back already
                    execute("ROLLBACK")
                is_fatal = isinstance(error, duckdb.FatalException)  # which a full disk gives: no more works
                if changes_catalog or is_fatal:
                    self.opened.close()  # DuckDB gives the same one again while it is open
                    self.opened = None
                raise

    def create_table(self, database, name, columns, tags):
        columns = [column._replace(stored=f"c{k}") for k, column in enumerate(columns)]
        tags = tags and [tag._replace(stored=f"g{k}") for k, tag in enumerate(tags)]
        stored = {"t": columns} if tags is None else {"t": [TBNAME, *columns], "s": [TBNAME, *tags]}
        with self.transaction(changes_catalog=True) as execute:
            table = database.tables[name] = Table(time.time_ns(), database, name, columns, tags)
            for letter, listed in stored.items():
                declared = ", ".join(f"{column.stored} {column.duck}" for column in listed)
                execute(f"CREATE TABLE {letter}{table.id} ({declared})")

    def drop(self, database, name=None):
        """Drops a table or subtable, or the whole database."""
        found = database.get(name)
        with self.transaction(changes_catalog=True) as execute:
            if found and found.is_subtable:
                at = f"{found.table.id} WHERE n = {blob(name)}"
                execute(f"DELETE FROM t{at}; DELETE FROM s{at}")
                found.table.subtables.remove(name)
                return
            for table in [found.table] if found else list(database.tables.values()):
                execute(f"DROP TABLE t{table.id}; DROP TABLE IF EXISTS s{table.id}")
                del database.tables[table.name]
            if not found:
                del self.databases[database.name]

    def write(self, inserts):
        """Stores Rows in one transaction: a row whose key is there overwrites the columns given. How many rows."""
        with self.transaction() as execute:
            count = sum(rows.write(execute) for rows in inserts)
        for rows in inserts:
            rows.table.subtables |= rows.subtables.keys()
        self.topics.inserted(inserts)
        return count


class Rows(typing.NamedTuple):
    """Rows for one table, no two of one key, with DuckDB's names of columns; subtables: new ones, {name: its tags}."""

    table: Table
    batch: pa.Table
    subtables: dict

    def write(self, execute):
        """Stores them; returns their number. Only rows not newer than all others are looked up."""
        table, batch, name, database = self.table, self.batch, f"t{self.table.id}", self.table.database
        units_per_s = UNITS_PER_S[database.precision]
        oldest = time.time_ns() // (10**9 // units_per_s) - database.keep_ms * units_per_s // 1000
        stamps = batch["c0"].to_numpy()
        first, last = int(stamps.min()), int(stamps.max())
        refuse(first < oldest or last > LATEST[database.precision], 0x060B, "Timestamp data out of range")
        if time.monotonic() > table.expires_at:
            execute(f"DELETE FROM {name} WHERE c0 < {oldest}")
            table.expires_at = time.monotonic() + EXPIRES_S
        source = table.select(batch)
        if not execute(f"SELECT 1 FROM {name} WHERE c0 >= {first} LIMIT 1").fetchone():
            execute(f"INSERT INTO {name} BY NAME {source}")
        else:
            match = " AND ".join(f"t.{key} = b.{key}" for key in table.keys)
            execute(f"MERGE INTO {name} t USING ({source}) b ON t.c0 BETWEEN {first} AND {last} AND {match} {UPSERT}")
        for batch in self.subtables.values():
            execute(f"INSERT INTO s{table.id} BY NAME {table.select(batch)} WHERE n NOT IN (SELECT n FROM s{table.id})")
        return len(self.batch)


def blob(text):
    """DuckDB's literal for the bytes of a text."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in text.encode()) + "'::BLOB"
