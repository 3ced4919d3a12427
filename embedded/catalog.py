"""Databases, tables and subtables, as they are kept in memory; storage.py keeps them on disk, too."""

import dataclasses
import json
import typing

from .errors import TDengineError
from .types import BY_NUMBER, VARCHAR, Column

TBNAME = Column("tbname", VARCHAR, 270, stored="n")


@dataclasses.dataclass(eq=False)
class Table:
    """A plain table, or a supertable when tags is a list. `columns` is another list after a change of the table."""

    id: int
    database: "Database"
    name: str
    columns: list
    tags: list | None
    subtables: dict = dataclasses.field(default_factory=dict)  # name: its tags' values
    newest: int | None = None  # no row is newer than this; None: not known yet
    expires_at: float = 0.0  # when rows older than KEEP are deleted next

    @property
    def keys(self):
        """The columns whose values make a row: the time, and the composite key if there is one."""
        return [self.columns[0], *(column for column in self.columns[1:2] if column.note)]


class Found(typing.NamedTuple):
    """What a name stands for: a plain table, a supertable, or a subtable of it."""

    table: Table
    is_subtable: bool

    @property
    def is_stable(self):
        return self.table.tags is not None and not self.is_subtable


@dataclasses.dataclass(eq=False)
class Database:
    name: str
    precision: int
    keep_ms: int
    tables: dict = dataclasses.field(default_factory=dict)  # name: Table

    def get(self, name):
        """The Found of a name, or None."""
        if name in self.tables:
            return Found(self.tables[name], False)
        return next((Found(table, True) for table in self.tables.values() if name in table.subtables), None)


def named(columns, name):
    """The column of that name; TDengineError when there is none."""
    for column in columns:
        if column.name == name:
            return column
    raise TDengineError(0x2602, f"Invalid column name: {name}")


def to_json(databases):
    found = []
    for each in databases.values():
        tables = [(t.id, t.name, t.columns, t.tags, list(t.subtables.items())) for t in each.tables.values()]
        found.append((each.name, each.precision, each.keep_ms, tables))
    # of a type the number will do
    return json.dumps(found, default=lambda value: value.decode("latin-1") if isinstance(value, bytes) else None)


def from_json(text):
    databases = {}
    for *values, tables in json.loads(text):
        database = databases[values[0]] = Database(*values)
        for number, name, *lists, subtables in tables:
            columns, tags = (listed and [Column(c[0], BY_NUMBER[c[1][0]], *c[2:]) for c in listed] for listed in lists)
            table = database.tables[name] = Table(number, database, name, columns, tags)
            for subtable, given in subtables:
                is_bytes = [isinstance(v, str) and tag.type.duck == "BLOB" for v, tag in zip(given, tags, strict=True)]
                values = [v.encode("latin-1") if bytes else v for v, bytes in zip(given, is_bytes, strict=True)]
                table.subtables[subtable] = values
    return databases
