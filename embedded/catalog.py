"""Databases, tables and subtables, as they are kept in memory; storage.py keeps them on disk, too."""

import dataclasses
import json
import typing

from .errors import refuse
from .types import BY_NUMBER, VARCHAR, Column

TBNAME = Column("tbname", VARCHAR, 270, stored="n")


@dataclasses.dataclass(eq=False)
class Table:
    """A plain table, or a supertable when tags is a list. `columns` is another list after a change of the table."""

    id: int  # when it was made
    database: "Database"
    name: str
    columns: list
    tags: list | None
    subtables: set = dataclasses.field(default_factory=set)  # their names
    expires_at: float = 0.0  # when rows older than KEEP are deleted next

    @property
    def keys(self):
        """The stored names of what tells rows apart: the subtable, the time, the composite key if there is one."""
        return ["n"] * (self.tags is not None) + ["c0"] + [column.stored for column in self.columns[1:2] if column.note]

    @property
    def source(self):
        """Its rows, in DuckDB's SQL."""
        return f"t{self.id}" if self.tags is None else f"t{self.id} JOIN s{self.id} USING (n)"

    def select(self, batch):
        """DuckDB's SELECT that gives the columns of an Arrow table named `batch` this table's types."""
        there = {*batch.column_names}
        columns = [each for each in (TBNAME, *(self.tags or ()), *self.columns) if each.stored in there]
        return f"SELECT {', '.join(f'{each.stored}::{each.duck} AS {each.stored}' for each in columns)} FROM batch"


class Found(typing.NamedTuple):
    """What a name stands for: a plain table, a supertable, or a subtable of it."""

    table: Table
    is_subtable: bool
    is_stable: bool


@dataclasses.dataclass(eq=False)
class Database:
    name: str
    precision: int
    keep_ms: int
    tables: dict = dataclasses.field(default_factory=dict)  # name: Table

    def get(self, name):
        """The Found of a name, or None."""
        if name in self.tables:
            return Found(self.tables[name], False, self.tables[name].tags is not None)
        return next((Found(table, True, False) for table in self.tables.values() if name in table.subtables), None)


def by_name(columns):
    return {column.name: column for column in columns}


def named(columns, name):
    """The column of that name, of by_name()'s; TDengineError when there is none."""
    refuse(name not in columns, 0x2602, f"Invalid column name: {name}")
    return columns[name]


def to_json(databases):
    found = []
    for each in databases.values():
        tables = [(t.id, t.name, t.columns, t.tags) for t in each.tables.values()]
        found.append((each.name, each.precision, each.keep_ms, tables))
    return json.dumps(found, default=lambda _: None)  # of a type the number will do


def from_json(text):
    databases = {}
    for *values, tables in json.loads(text):
        database = databases[values[0]] = Database(*values)
        for number, name, *lists in tables:
            columns, tags = (listed and [Column(c[0], BY_NUMBER[c[1][0]], *c[2:]) for c in listed] for listed in lists)
            database.tables[name] = Table(number, database, name, columns, tags)
    return databases
