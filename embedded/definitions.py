"""CREATE, DROP, ALTER, USE, DESCRIBE, SHOW and DELETE. Each function stands behind its statement's first word."""

import dataclasses

from . import insert
from .catalog import Database, is_stable, table_of
from .select import Result, Select
from .sources import system_rows
from .types import BY_NAME, DECIMAL, DECIMAL64, JSON, NCHAR, PRECISIONS, TIMESTAMP, VARCHAR, Column, TDengineError

KEEP_MS = 3650 * 86_400_000
NUMBERS = ("buffer", "vgroups", "replica", "wal_level", "wal_retention_period", "pages", "cachesize", "duration")
SYSTEM_DATABASES = ("information_schema", "performance_schema")


def create(session, parser):
    what = parser.one_of("database", "table", "stable", "topic")
    if_not_exists = parser.accept("if", "not", "exists")
    if what == "topic":
        return session.storage.topics.create(session, parser, if_not_exists)
    if what == "database":
        return create_database(session.storage, parser, if_not_exists)
    name = parser.table_name()
    database = session.database_of(name)
    if parser.is_next("using"):
        using = insert.Using(session, parser)
        parser.end()
        if name[1] in database.tables and not if_not_exists:
            raise TDengineError(0x0603, "Table already exists")
        if name[1] not in database.tables:
            session.storage.write([], [using.new_subtable(name[1])])
        return 0
    columns = parser.listed(lambda: parse_column(parser))
    tags = parser.listed(lambda: parse_column(parser)) if parser.accept("tags") else None
    parser.end()
    if tags is None and what == "stable":
        raise parser.refused()
    check_columns(columns, tags or [])
    if name[1] not in database.tables:
        stored = [dataclasses.replace(column, stored=f"c{k}") for k, column in enumerate(columns)]
        marked = tags and [dataclasses.replace(c, stored=f"g{k}", note="TAG") for k, c in enumerate(tags)]
        session.storage.create_table(database, name[1], stored, marked)
    elif not if_not_exists:
        both = tags and is_stable(database.tables[name[1]])
        raise TDengineError(*((0x0360, "STable already exists") if both else (0x0603, "Table already exists")))
    return 0


def parse_column(parser):
    name, word = parser.name(), parser.expect_kind("word")
    type = BY_NAME.get(word.upper() + " UNSIGNED" * parser.accept("unsigned"))
    if word == "integer" and type is None:
        type = BY_NAME["INT"]
    length = scale = 0
    if type is DECIMAL or type is DECIMAL64:
        length, scale = (*parser.listed(lambda: parser.expect_kind("int")), 0)[:2]
        type = DECIMAL64 if length <= 18 else DECIMAL
    elif type is JSON:
        length = 4095
    elif type and type.width == 0:
        (length,) = parser.listed(lambda: parser.expect_kind("int"))
    note = "COMPOSITE KEY" if parser.accept("primary", "key") or parser.accept("composite", "key") else ""
    if type is None or length > (38 if type.is_decimal else 16379 if type is NCHAR else 65517) or scale > length:
        raise parser.refused()
    return Column(name, type, length, scale, note)


def check_columns(columns, tags):
    if columns[0].type is not TIMESTAMP:
        raise TDengineError(0x2641, "First column must be timestamp")
    if len(columns) < 2 or len(columns) > 4096:
        raise TDengineError(0x263F, "Illegal number of columns")
    if len({column.name for column in (*columns, *tags)}) < len(columns) + len(tags):
        raise TDengineError(0x263C, "Duplicated column names")
    key_types = ("INT", "INT UNSIGNED", "BIGINT", "BIGINT UNSIGNED", "VARCHAR")
    keys = [k for k, column in enumerate(columns) if column.note]
    if keys not in ([], [1]) or keys and columns[1].type.name not in key_types or JSON in [c.type for c in columns]:
        raise TDengineError(0x2600, "syntax error near a column that can't be one, or no key")
    if any(tag.type.is_decimal for tag in tags) or JSON in [tag.type for tag in tags] and len(tags) > 1:
        raise TDengineError(0x2600, "syntax error near a tag that can't be one")


def create_database(storage, parser, if_not_exists):
    name, precision, keep_ms = parser.name(), 0, KEEP_MS
    while parser.token.kind != "end":
        option = parser.one_of("precision", "keep", *NUMBERS)
        if option == "precision":
            text = parser.expect_kind("text")
            if text not in PRECISIONS:
                raise TDengineError(0x2619, f"Invalid option precision: {text}")
            precision = PRECISIONS[text]
            continue
        token = parser.next()
        if token.kind not in ("int", "duration"):
            raise parser.refused(token)
        if option == "keep":
            keep_ms = min(token.value * 86_400_000 if token.kind == "int" else token.value // 10**6, 2**53)
    with storage.lock:
        if name not in storage.databases and name not in SYSTEM_DATABASES:
            with storage.change():
                storage.databases[name] = Database(name, precision, keep_ms)
        elif not if_not_exists:
            raise TDengineError(0x0381, "Database already exists")
    return 0


def drop(session, parser):
    storage, what = session.storage, parser.one_of("database", "table", "stable", "topic")
    if_exists = parser.accept("if", "exists")
    if what in ("topic", "database"):
        name = parser.name()
        parser.end()
        if what == "topic":
            storage.topics.drop(name, if_exists)
        elif not (if_exists and name not in storage.databases):
            database = storage.database(name)
            storage.topics.refuse_drop(database)
            storage.drop_tables([table for table in database.tables.values() if table_of(table) is table], database)
        return 0
    name = parser.table_name()
    parser.end()
    database = session.database_of(name)
    found = database.tables.get(name[1])
    if found is None and if_exists:
        return 0
    if what == "stable" and not is_stable(found):
        raise TDengineError(0x0362, "STable not exist")
    if found is None:
        raise TDengineError(0x2603, "Table does not exist")
    if is_stable(found):
        storage.topics.refuse_drop(database, found)
    storage.drop_tables([found])
    return 0


def alter(session, parser):
    parser.one_of("table", "stable")
    table = session.table_of(parser.table_name())
    if table_of(table) is not table:
        raise parser.refused()
    what, _ = parser.one_of("add", "drop"), parser.expect("column")
    columns = list(table.columns)
    if what == "add":
        column = parse_column(parser)
        number = 1 + max(int(each.stored[1:]) for each in columns)
        columns.append(dataclasses.replace(column, stored=f"c{number}"))
        check_columns(columns, table.tags or [])
        change = f"ADD COLUMN c{number} {column.duck}"
    else:
        column = session.column_of(table.columns, parser.name())
        columns.remove(column)
        if column in table.keys:
            raise TDengineError(0x2600, "syntax error: a key can't be dropped")
        check_columns(columns, table.tags or [])
        session.storage.topics.refuse_drop(table.database, table)
        change = f"DROP COLUMN {column.stored}"
    parser.end()
    with session.storage.change() as execute:
        execute(f"ALTER TABLE t{table.id} {change}")
        table.columns = columns
    return 0


def use(session, parser):
    name = parser.name()
    parser.end()
    if name not in SYSTEM_DATABASES:
        session.storage.database(name)
    session.database = name
    return 0


def delete(session, parser):
    select = Select(session, parser, items=())
    parser.end()
    if select.used - {"c0"} or select.groups or select.order or select.limit:
        raise TDengineError(0x2654, "Only the time can be a condition of DELETE")
    found = session.table_of(select.table)
    condition = " AND ".join(f"({text})" for text in (select.source.where, select.where) if text)
    with session.storage.transaction() as execute:
        return execute(f"DELETE FROM t{table_of(found).id} WHERE {condition or 'true'}").fetchone()[0]


def describe(session, parser):
    found = session.table_of(parser.table_name())
    parser.end()
    table = table_of(found)
    rows = [(c.name, c.type_name, c.shown_length, c.note, "", "", "") for c in (*table.columns, *(table.tags or ()))]
    names = ("field", "type", "length", "note", "encode", "compress", "level")
    columns = [Column(name, BY_NAME["INT"] if name == "length" else VARCHAR, 64) for name in names]
    values = [[v.encode() if isinstance(v, str) else v for v in of_column] for of_column in zip(*rows, strict=True)]
    return Result(columns, values)


def show(session, parser):
    what = parser.one_of("databases", "tables", "stables", "topics")
    parser.end()
    if what in ("tables", "stables") and session.database is None:
        raise TDengineError(0x2600, 'syntax error near "database not specified"')
    (name, *_), rows = system_rows(session.storage, f"ins_{what}")
    found = [row[0] for row in rows if what not in ("tables", "stables") or row[1] == session.database]
    found = [*SYSTEM_DATABASES, *found] if what == "databases" else found
    return Result([Column(name, VARCHAR, 192)], [[text.encode() for text in found]])
