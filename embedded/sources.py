"""What a SELECT reads: a table, a supertable, a subtable, or a table of information_schema, as DuckDB knows it."""

import typing

from .errors import STAND_IN, TDengineError
from .types import PRECISIONS, VARCHAR, Column

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


def source_of(name, found):
    """The Source of a Found."""
    table, number = found
    columns = {column.name: (column.stored, column) for column in table.columns}
    tags = {column.name: (column.stored, column) for column in table.tags or ()}
    tbname = {"tbname": (blob(name.encode()) if table.tags is None else "n", TBNAME)}
    rows, names, precision = f"t{table.id}", f"g{table.id}", table.database.precision
    if number is not None:
        return Source(columns, tags | tbname, rows, names, f"s = {number}", precision)
    return Source(columns | tags, tbname, rows, "" if table.tags is None else names, "", precision)


def system_rows(storage, name):
    """(names of columns, rows) of a table of information_schema, of which only some columns are there.

    create_time is no time: a text that differs when a table was dropped and made again.
    """
    databases, topics = storage.databases.values(), storage.topics.topics.values()
    tables = [table for database in databases for table in database.tables.values()]
    if name == "ins_databases":
        return ("name", "precision"), [(each.name, PRECISIONS[each.precision]) for each in databases]
    if name == "ins_stables":
        rows = [(each.name, each.database.name, str(each.id)) for each in tables if each.tags]
        return ("stable_name", "db_name", "create_time"), rows
    if name == "ins_topics":
        return ("topic_name", "db_name", "sql"), [(each.name, each.table.database.name, each.text) for each in topics]
    if name == "ins_tables":
        rows = [(each.name, each.database.name, None, "NORMAL_TABLE", str(each.id)) for each in tables if not each.tags]
        for each in tables:
            for name, number in each.subtables.items():
                rows.append((name, each.database.name, each.name, "CHILD_TABLE", f"{each.id}.{number}"))
        return ("table_name", "db_name", "stable_name", "type", "create_time"), rows
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
        return source_of(name[1], session.find(name))
    except TDengineError as error:
        if error.code not in (0x0388, 0x2603):
            raise
        raise TDengineError(error.code, f"Fail to get table info, error: {error.message}") from None
