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
    def keys(self):
        """The columns whose values make a row: the time, and the composite key if there is one."""
        return [self.columns[0], *(column for column in self.columns[1:2] if column.note)]


@dataclasses.dataclass(eq=False)
class Subtable:
    id: int
    stable: Table
    name: str

    @property
    def database(self):
        return self.stable.database


def is_stable(found):
    return isinstance(found, Table) and found.tags is not None


def table_of(found):
    """The Table that holds the rows and columns of a Table or Subtable."""
    return found.stable if isinstance(found, Subtable) else found


def to_json(databases):
    """All but the subtables, which can be many."""

    def plain(columns):
        return columns and [[c.name, c.type.number, c.length, c.scale, c.note, c.stored] for c in columns]

    found = []
    for each in databases.values():
        tables = [table for table in each.tables.values() if isinstance(table, Table)]
        values = [[table.id, table.name, plain(table.columns), plain(table.tags)] for table in tables]
        found.append([each.name, each.precision, each.keep_ms, values])
    return json.dumps(found)


def from_json(text):
    databases = {}
    for name, precision, keep_ms, tables in json.loads(text):
        databases[name] = database = Database(name, precision, keep_ms)
        for table_id, table_name, *lists in tables:
            columns, tags = (
                values and [Column(name, BY_NUMBER[number], *rest) for name, number, *rest in values]
                for values in lists
            )
            database.tables[table_name] = Table(table_id, database, table_name, columns, tags)
    return databases
