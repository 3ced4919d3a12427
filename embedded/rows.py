"""Rows on their way into DuckDB: one a key, within KEEP, overwriting what is there."""

import time
import typing

import numpy as np

from .catalog import Table
from .errors import TDengineError
from .types import UNITS_PER_S

LATEST = (31556995200000, 31556995200000000, 9214646400000000000)  # by precision; the first two are the year 2970
EXPIRES_S = 60  # rows older than KEEP are deleted that often
NOTHING = -(2**63)  # the newest time of a table without rows


class Rows(typing.NamedTuple):
    """Rows for one table, an array or list a column; subtables: the number of each row's subtable, or None."""

    table: Table
    subtables: object
    columns: list
    arrays: list

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
        batch |= {} if self.subtables is None else {"s": self.subtables}
        if (np.diff(batch["c0"]) > 0).all():
            return batch
        keys = zip(*(batch[name].tolist() for name in self.key_names()), strict=True)
        kept = np.array(sorted({key: at for at, key in enumerate(keys)}.values()))
        return {name: array[kept] for name, array in batch.items()}

    def key_names(self):
        return ["s"] * (self.subtables is not None) + [key.stored for key in self.table.keys]

    def casts(self, names):
        """DuckDB's SELECT list that gives columns of a batch the types of the table."""
        types = {"s": "INTEGER"} | {column.stored: column.duck for column in self.table.columns}
        return ", ".join(f"CAST({name} AS {types[name]}) AS {name}" for name in names)

    def write(self, execute):
        """Stores them; returns their number. Only rows not newer than all others are looked up first."""
        table, batch, now = self.table, self.batch(), time.monotonic()
        first, last, name = int(batch["c0"].min()), int(batch["c0"].max()), f"t{self.table.id}"
        if now > table.expires_at:
            execute(f"DELETE FROM {name} WHERE c0 < {oldest_kept(table.database)}")
            table.expires_at = now + EXPIRES_S
        if table.newest is None:
            (table.newest,) = execute(f"SELECT coalesce(max(c0), {NOTHING}) FROM {name}").fetchone()
        source = f"SELECT {self.casts(batch)} FROM batch"
        if first > table.newest:
            execute(f"INSERT INTO {name} BY NAME {source}")
        else:
            match = "".join(f" AND t.{key} = b.{key}" for key in self.key_names())
            execute(
                f"MERGE INTO {name} t USING ({source}) b ON t.c0 BETWEEN {first} AND {last}{match}"
                " WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME"
            )
        table.newest = max(table.newest, last)
        return len(batch["c0"])


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
