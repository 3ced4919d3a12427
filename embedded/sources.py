"""What a SELECT reads: a table, a supertable, a subtable, or a table of information_schema, as DuckDB knows it."""

import typing

from .errors import STAND_IN, SYNTAX, TDengineError
from .types import PRECISIONS, VARCHAR, Column

TBNAME = Column("tbname", VARCHAR, 270)


class Source(typing.NamedTuple):
    """columns: those of SELECT *; hidden: more that may be named; both {name: (DuckDB's SQL, Column)}."""

    table: str
    columns: dict
    hidden: dict
    tags: str = ""  # joined: the table with the subtables' names and tags
    where: str = "true"  # always holds
    precision: int = 0


def blob(value):
    """DuckDB's literal for bytes."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"


def find_source(session, name):
    """The Source behind a (database, table)."""
    if name[0] == "information_schema":
        return system_source(session.storage, name[1])
    table, number = found = session.find(name)
    columns = {column.name: (column.stored, column) for column in table.columns}
    tags = {column.name: (column.stored, column) for column in table.tags or ()}
    precision = table.database.precision
    if table.tags is None:
        return Source(f"t{table.id}", columns, {"tbname": (blob(name[1].encode()), TBNAME)}, precision=precision)
    tbname, joined = {"tbname": ("n", TBNAME)}, f" JOIN g{table.id} USING (s)"
    if found.is_stable:
        return Source(f"t{table.id}", columns | tags, tbname, joined, precision=precision)
    return Source(f"t{table.id}", columns, tags | tbname, joined, f"s = {number}", precision)


def system_source(storage, name):
    """A table of information_schema, of which only some columns are there.

    create_time is no time: a text that differs when a table was dropped and made again.
    """
    databases = storage.databases.values()
    tables = [table for database in databases for table in database.tables.values()]
    if name == "ins_databases":
        names, rows = ("name", "precision"), [(each.name, PRECISIONS[each.precision]) for each in databases]
    elif name == "ins_stables":
        names = ("stable_name", "db_name", "create_time")
        rows = [(each.name, each.database.name, str(each.id)) for each in tables if each.tags]
    elif name == "ins_tables":
        names = ("table_name", "db_name", "create_time")
        rows = [(each.name, each.database.name, str(each.id)) for each in tables if not each.tags]
        for each in tables:
            rows += [(name, each.database.name, f"{each.id}.{number}") for name, number in each.subtables.items()]
    else:
        raise TDengineError(SYNTAX, f"syntax error: {name} is not known to this {STAND_IN}")
    columns = {each: (f"i{k}", Column(each, VARCHAR, 192)) for k, each in enumerate(names)}
    listed = [", ".join(blob(value.encode()) for value in row) for row in rows]
    listed.append(", ".join(["NULL::BLOB"] * len(names)))  # so that there is a row; left out again by WHERE
    table = f"(VALUES ({'), ('.join(listed)})) i({', '.join(f'i{k}' for k in range(len(names)))})"
    return Source(table, columns, {}, where="i0 IS NOT NULL")
