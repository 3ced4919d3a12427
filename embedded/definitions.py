"""CREATE, DROP, ALTER, USE, DESCRIBE, SHOW and DELETE. Each function stands behind its statement's first word."""

from . import insert
from .catalog import Database, named
from .errors import TDengineError
from .select import Result, Select
from .sources import system_rows
from .types import BY_NAME, DECIMAL, DECIMAL64, INT, JSON, NCHAR, PRECISIONS, TIMESTAMP, VARCHAR, Column

KEEP_MS = 3650 * 86_400_000
WITHOUT_EFFECT = ("buffer", "vgroups", "replica", "wal_level", "wal_retention_period", "pages", "cachesize", "duration")
SYSTEM_DATABASES = ("information_schema", "performance_schema")


def create(session, parser):
    storage, what = session.storage, parser.one_of("database", "table", "stable", "topic")
    if_not_exists = parser.accept("if", "not", "exists")
    if what == "topic":
        return storage.topics.create(session, parser, if_not_exists)
    if what == "database":
        return create_database(storage, parser, if_not_exists)
    name = parser.table_name()
    database, tags = session.database_of(name), None
    found = database.get(name[1])
    using = insert.Using(session, parser) if parser.is_next("using") else None
    if using is None:
        columns = parse_columns(parser, "c")
        tags = [tag._replace(note="TAG") for tag in parse_columns(parser, "g")] if parser.accept("tags") else None
        check_columns(columns, tags or [])
    parser.end()
    if what == "stable" and tags is None:
        raise parser.refused()
    if found is None:
        if using:
            storage.write([], [using.new_subtable(name[1])])
        else:
            storage.create_table(database, name[1], columns, tags)
    elif not if_not_exists:
        is_one = tags and found.is_stable
        raise TDengineError(0x0360 if is_one else 0x0603, f"{'STable' if is_one else 'Table'} already exists")
    return 0


def parse_columns(parser, letter):
    columns = parser.listed(lambda: parse_column(parser))
    return [column._replace(stored=f"{letter}{k}") for k, column in enumerate(columns)]


def parse_column(parser):
    name, token, length, scale = parser.name(), parser.token, 0, 0
    type = BY_NAME.get(parser.expect_kind("word").upper() + " UNSIGNED" * parser.accept("unsigned"))
    if type is None:
        raise parser.refused(token)
    if type.name == "DECIMAL":
        length, scale = (*parser.listed(lambda: parser.expect_kind("int")), 0)[:2]
        type = DECIMAL64 if length <= 18 else DECIMAL
    elif type.width == 0:
        length = 4095 if type is JSON else parser.listed(lambda: parser.expect_kind("int"))[0]
    if length > (38 if type.width else 16379 if type is NCHAR else 65517) or scale > length:
        raise parser.refused(token)
    is_key = parser.accept("primary", "key") or parser.accept("composite", "key")
    return Column(name, type, length, scale, "COMPOSITE KEY" if is_key else "")


def check_columns(columns, tags):
    if columns[0].type is not TIMESTAMP:
        raise TDengineError(0x2641, "First column must be timestamp")
    if not 2 <= len(columns) <= 4096:
        raise TDengineError(0x263F, "Illegal number of columns")
    if len({column.name for column in (*columns, *tags)}) < len(columns) + len(tags):
        raise TDengineError(0x263C, "Duplicated column names")
    misplaced = [
        c
        for k, c in enumerate(columns)
        if c.note and (k != 1 or "INT" not in c.type.name and c.type.name != "VARCHAR") or c.type is JSON
    ]
    if misplaced or any(tag.is_decimal for tag in tags) or JSON in [tag.type for tag in tags[1:]]:
        raise TDengineError(0x2600, "syntax error: a column or tag of this type can't be there")


def create_database(storage, parser, if_not_exists):
    name, precision, keep_ms = parser.name(), 0, KEEP_MS
    while parser.token.kind != "end":
        option, token = parser.one_of("precision", "keep", *WITHOUT_EFFECT), parser.next()
        if option == "precision":
            if token.value not in PRECISIONS:
                raise TDengineError(0x2619, f"Invalid option precision: {token.value}")
            precision = PRECISIONS.index(token.value)
        elif token.kind not in ("int", "duration"):
            raise parser.refused(token)
        elif option == "keep":
            keep_ms = min(token.value * 86_400_000 if token.kind == "int" else token.value // 10**6, 2**53)
    if name not in storage.databases and name not in SYSTEM_DATABASES:
        with storage.transaction(changes_catalog=True):
            storage.databases[name] = Database(name, precision, keep_ms)
    elif not if_not_exists:
        raise TDengineError(0x0381, "Database already exists")
    return 0


def drop(session, parser):
    storage, what = session.storage, parser.one_of("database", "table", "stable", "topic")
    if_exists = parser.accept("if", "exists")
    name = parser.table_name()
    parser.end()
    if what == "topic":
        storage.topics.drop(name[1], if_exists)
    elif what == "database" and not (if_exists and name[1] not in storage.databases):
        storage.topics.refuse_change(storage.database(name[1]).tables.values())
        storage.drop(storage.database(name[1]))
    elif what != "database":
        found = session.database_of(name).get(name[1])
        if what == "stable" and not (found and found.is_stable) and not (if_exists and found is None):
            raise TDengineError(0x0362, "STable not exist")
        if found and found.is_stable:
            storage.topics.refuse_change([found.table])
        if found or not if_exists:
            storage.drop(session.find(name).table.database, name[1])
    return 0


def alter(session, parser):
    parser.one_of("table", "stable")
    table, number = session.find(parser.table_name())
    what, _ = parser.one_of("add", "drop"), parser.expect("column")
    if what == "add":
        stored = f"c{1 + max(int(each.stored[1:]) for each in table.columns)}"
        columns = [*table.columns, parse_column(parser)._replace(stored=stored)]
        change = f"ADD COLUMN {stored} {columns[-1].type_name(columns[-1].type.duck)}"
    else:
        column = named(table.columns, parser.name())
        columns = [each for each in table.columns if each != column or column in table.keys]
        change = f"DROP COLUMN {column.stored}"
        session.storage.topics.refuse_change([table])
    parser.end()
    if number is not None or len(columns) == len(table.columns):
        raise parser.refused(parser.tokens[0])
    check_columns(columns, table.tags or [])
    with session.storage.transaction(changes_catalog=True) as execute:
        execute(f"ALTER TABLE t{table.id} {change}")
        table.columns = columns
    return 0


def use(session, parser):
    name = parser.name()
    parser.end()
    session.database = name if name in SYSTEM_DATABASES else session.storage.database(name).name
    return 0


def delete(session, parser):
    select = Select(session, parser, items=())
    parser.end()
    if select.used - {"c0"} or select.groups or select.order or select.limit:
        raise TDengineError(0x2654, "Only the time can be a condition of DELETE")
    condition = " AND ".join(f"({text})" for text in (select.source.where, select.where) if text)
    with session.storage.transaction() as execute:
        return execute(f"DELETE FROM {select.source.table} WHERE {condition or 'true'}").fetchone()[0]


def describe(session, parser):
    table = session.find(parser.table_name()).table
    parser.end()
    columns = (*table.columns, *(table.tags or ()))
    found = [(c.name, c.type_name(c.type.name), c.type.width or c.length, c.note, "", "", "") for c in columns]
    names = ("field", "type", "length", "note", "encode", "compress", "level")
    shown = [Column(name, INT if name == "length" else VARCHAR, 64) for name in names]
    return Result(
        shown, [[v if isinstance(v, int) else v.encode() for v in listed] for listed in zip(*found, strict=True)]
    )


def show(session, parser):
    what = parser.one_of("databases", "tables", "stables", "topics")
    parser.end()
    (name, *_), rows = system_rows(session.storage, f"ins_{what}")
    if what in ("tables", "stables"):
        if session.database is None:
            raise TDengineError(0x2600, 'syntax error near "database not specified"')
        rows = [row for row in rows if row[1] == session.database]
    names = [*(SYSTEM_DATABASES if what == "databases" else ()), *(row[0] for row in rows)]
    return Result([Column(name, VARCHAR, 192)], [[text.encode() for text in names]])
