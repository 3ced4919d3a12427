"""Databases, tables and subtables, as they are kept in memory; storage.py keeps them on disk, too."""

import dataclasses
import json

from .types import BY_NUMBER, Column


@dataclasses.dataclass(eq=False)
class Database:
    name: str
    precision: int
    keep_ms: int
    tables: dict = dataclasses.field(default_factory=dict)  # name: Table or Subtable


@dataclasses.dataclass(eq=False)
class Table:
    """A plain table, or a supertable when tags is a list. `columns` is another list after a change of the table."""

    id: int
    database: Database
    name: str
    columns: list
    tags: list | None
    last_subtable: int = 0  # the highest number given to one
    newest: int | None = None  # no row is newer than this; None: not known yet
    expires_at: float = 0.0  # when rows older than KEEP are deleted next

    @property
    def table(self):
        """Where the rows and columns are; also a Subtable has this."""
        return self

    @property
    def keys(self):
        """The columns whose values make a row: the time, and the composite key if there is one."""
        return [self.columns[0], *(column for column in self.columns[1:2] if column.note)]


@dataclasses.dataclass(eq=False)
class Subtable:
    id: int
    table: Table  # the supertable
    name: str


def is_stable(found):
    return isinstance(found, Table) and found.tags is not None


def to_json(databases):
    """All but the subtables, which can be many."""
    found = []
    for each in databases.values():
        tables = [table for table in each.tables.values() if isinstance(table, Table)]
        values = [(table.id, table.name, table.columns, table.tags) for table in tables]
        found.append((each.name, each.precision, each.keep_ms, values))
    return json.dumps(found, default=lambda _: None)  # of a type the number will do


def from_json(text):
    databases = {}
    for *values, tables in json.loads(text):
        database = databases[values[0]] = Database(*values)
        for number, name, *lists in tables:
            columns, tags = (listed and [Column(c[0], BY_NUMBER[c[1][0]], *c[2:]) for c in listed] for listed in lists)
            database.tables[name] = Table(number, database, name, columns, tags)
    return databases
