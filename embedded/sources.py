"""What a SELECT reads: a table, a supertable, a subtable, or a table of information_schema, as DuckDB knows it."""

import typing

from .catalog import Subtable, Table, is_stable
from .types import PRECISIONS, STAND_IN, VARCHAR, Column, TDengineError

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
    table = found.table
    columns = {column.name: (column.stored, column) for column in table.columns}
    tags = {column.name: (column.stored, column) for column in table.tags or ()}
    tbname = {"tbname": (blob(found.name.encode()) if table.tags is None else "n", TBNAME)}
    rows, names, precision = f"t{table.id}", f"g{table.id}", table.database.precision
    if isinstance(found, Subtable):
        return Source(columns, tags | tbname, rows, names, f"s = {found.id}", precision)
    return Source(columns | tags, tbname, rows, "" if table.tags is None else names, "", precision)


def system_rows(storage, name):
    """(names of columns, rows) of a table of information_schema, of which only some columns are there."""
    databases, topics = storage.databases.values(), storage.topics.topics.values()
    found = [(table.name, each.name, table) for each in databases for table in each.tables.values()]
    if name == "ins_databases":
        return ("name", "precision"), [(each.name, PRECISIONS[each.precision]) for each in databases]
    if name == "ins_stables":
        return ("stable_name", "db_name"), [row[:2] for row in found if is_stable(row[2])]
    if name == "ins_topics":
        return ("topic_name", "db_name", "sql"), [(each.name, each.table.database.name, each.text) for each in topics]
    if name == "ins_tables":
        plain = [
            (*row[:2], None, "NORMAL_TABLE") for row in found if isinstance(row[2], Table) and not is_stable(row[2])
        ]
        rows = [(*row[:2], row[2].table.name, "CHILD_TABLE") for row in found if isinstance(row[2], Subtable)]
        return ("table_name", "db_name", "stable_name", "type"), plain + rows
    raise TDengineError(0x2600, f"{name} is not known to this {STAND_IN}")


def find_source(session, name):
    """The Source behind a (database, table); TDengineError as TDengine's SELECT has it."""
    if name[0] == "information_schema":
        names, rows = system_rows(session.storage, name[1])
        rows = [*rows, [None] * len(names)]  # so that there is one; left out again by WHERE
        listed = [", ".join("NULL::BLOB" if value is None else blob(value.encode()) for value in row) for row in rows]
        columns = {each: (f"i{k}", Column(each, VARCHAR, 192)) for k, each in enumerate(names)}
        table = f"(VALUES ({'), ('.join(listed)})) i({', '.join(f'i{k}' for k in range(len(names)))})"
        return Source(columns, {}, table, where="i0 IS NOT NULL")
    try:
        return source_of(session.table_of(name))
    except TDengineError as error:
        if error.code not in (0x0388, 0x2603):
            raise
        raise TDengineError(error.code, f"Fail to get table info, error: {error.message}") from None
