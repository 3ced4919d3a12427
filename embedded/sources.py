"""What a SELECT reads: a table, a supertable, a subtable, or a table of information_schema, as DuckDB knows it."""

import typing

from .catalog import Subtable, is_stable, table_of
from .types import STAND_IN, VARCHAR, Column, TDengineError

TBNAME = Column("tbname", VARCHAR, 270)


class Source(typing.NamedTuple):
    """columns: those of SELECT *; hidden: more that may be named; both {name: (DuckDB's SQL, Column)}."""

    columns: dict
    hidden: dict
    table: str
    tags: str = ""  # the table with the subtables' names and tags
    where: str = ""  # always holds
    precision: int = 0


def blob(value):
    """DuckDB's literal for bytes."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"


def source_of(found):
    """The Source of a Table or Subtable."""
    table = table_of(found)
    columns = {column.name: (column.stored, column) for column in table.columns}
    tags = {column.name: (column.stored, column) for column in table.tags or ()}
    tbname = {"tbname": (blob(found.name.encode()) if table.tags is None else "n", TBNAME)}
    rows, names, precision = f"t{table.id}", f"g{table.id}", table.database.precision
    if table.tags is None:
        return Source(columns, tbname, rows, precision=precision)
    if isinstance(found, Subtable):
        return Source(columns, tags | tbname, rows, names, f"s = {found.id}", precision)
    return Source(columns | tags, tbname, rows, names, precision=precision)


def system_rows(storage, name):
    """(names of columns, rows) of a table of information_schema, of which only some columns are there."""
    databases = storage.databases.values()
    tables = [table for database in databases for table in database.tables.values()]
    if name == "ins_databases":
        return ("name", "precision"), [(each.name, ("ms", "us", "ns")[each.precision]) for each in databases]
    if name == "ins_stables":
        rows = [(table.name, table.database.name) for table in tables if is_stable(table)]
        return ("stable_name", "db_name"), rows
    if name == "ins_topics":
        topics = storage.topics.topics.values()
        return ("topic_name", "db_name", "sql"), [(each.name, each.table.database.name, each.text) for each in topics]
    if name == "ins_tables":
        rows = []
        for table in tables:
            kind = (table.stable.name, "CHILD_TABLE") if isinstance(table, Subtable) else (None, "NORMAL_TABLE")
            rows += [] if is_stable(table) else [(table.name, table.database.name, *kind)]
        return ("table_name", "db_name", "stable_name", "type"), rows
    raise TDengineError(0x2600, f"{name} is not known to this {STAND_IN}")


def system_source(storage, name):
    names, rows = system_rows(storage, name)
    rows.append([None] * len(names))  # so that there is one; left out again by WHERE
    listed = [", ".join("NULL::BLOB" if value is None else blob(value.encode()) for value in row) for row in rows]
    stored = [f"i{k}" for k in range(len(names))]
    columns = {name: (sql, Column(name, VARCHAR, 192)) for name, sql in zip(names, stored, strict=True)}
    table = f"(VALUES ({'), ('.join(listed)})) i({', '.join(stored)})"
    return Source(columns, {}, table, where="i0 IS NOT NULL")


def find_source(session, name):
    """The Source behind a (database, table); TDengineError as TDengine's SELECT has it."""
    if name[0] == "information_schema":
        return system_source(session.storage, name[1])
    try:
        return source_of(session.table_of(name))
    except TDengineError as error:
        if error.code not in (0x0388, 0x2603):
            raise
        raise TDengineError(error.code, f"Fail to get table info, error: {error.message}") from None
