"""One client's connection: its current database, and the statements that it sends.

CREATE, DROP, ALTER, USE, DESCRIBE, SHOW and DELETE are here: functions that stand behind their statement's first word.
"""

from . import insert, select
from .catalog import Database, by_name, named
from .errors import NO_TABLE, SYNTAX, TDengineError, refuse
from .select import Result, Select
from .sql import Parser, nanoseconds
from .types import BY_NAME, DECIMAL, DECIMAL64, INT, JSON, PRECISIONS, TIMESTAMP, VARCHAR, Column

THERE = dict.fromkeys((0x0381, 0x0603, 0x03E0))  # a database, a table, a topic
MISSING = dict.fromkeys((0x0388, 0x2603, 0x0362, 0x03E1))
INS_TABLES = {  # as DESCRIBE information_schema.ins_tables gives them
    "table_name": ("VARCHAR", 192), "db_name": ("VARCHAR", 64), "create_time": ("TIMESTAMP", 8), "columns": ("INT", 4),
    "stable_name": ("VARCHAR", 192), "uid": ("BIGINT", 8), "vgroup_id": ("INT", 4), "ttl": ("INT", 4),
    "table_comment": ("VARCHAR", 1024), "type": ("VARCHAR", 21),
}  # fmt: skip
KEEP_MS = 3650 * 86_400_000
WITHOUT_EFFECT = ("buffer", "vgroups", "replica", "wal_level", "wal_retention_period", "pages", "cachesize", "duration")
LONGEST = {"NCHAR": 16379, "DECIMAL": 38}  # other types: 65517


class Session:
    def __init__(self, storage, database=None):
        self.storage, self.database = storage, database

    def execute(self, text):
        """Rows affected (int), or a Result."""
        parser = Parser(text)
        word = parser.one_of(*READING, *WRITING)
        if word in READING:
            return READING[word](self, parser) or 0
        with self.storage.lock:  # what it finds is still there when it writes
            try:
                return WRITING[word](self, parser) or 0
            except TDengineError as error:
                error.code = parser.codes.get(error.code, error.code)
                if error.code:
                    raise
                return 0

    def database_of(self, name):
        """The Database of a (database or None, table)."""
        database = name[0] or self.database
        refuse(database is None, 0x2616, "Database not specified")
        return self.storage.database(database)

    def find(self, name):
        """The Found of a (database or None, table)."""
        found = self.database_of(name).get(name[1])
        refuse(found is None, *NO_TABLE)
        return found


def create(session, parser):
    what = parser.one_of("database", "table", "stable", "topic")
    parser.codes = THERE if parser.accept("if", "not", "exists") else {}
    name = parser.table_name()
    if what == "database":
        create_database(session.storage, name[1], parser)
    elif what == "topic":
        session.storage.topics.create(session, name[1], parser)
    else:
        database, columns, tags = session.database_of(name), parser.listed(lambda: parse_column(parser)), None
        if what == "stable" or parser.is_next("tags"):
            parser.expect("tags")
            tags = parser.listed(lambda: parse_column(parser)._replace(note="TAG"))
        parser.expect_kind("end")
        check_columns(columns, tags or [])
        refuse(database.get(name[1]), 0x0603, "Table already exists")
        session.storage.create_table(database, name[1], columns, tags)


def parse_column(parser):
    name, token, length, scale = parser.name(), parser.token, 0, 0
    type = BY_NAME.get(parser.expect_kind("word").upper() + " UNSIGNED" * parser.accept("unsigned"))
    if type is JSON:
        length = 4095
    elif type and type.dtype is None:
        length, scale = (*parser.listed(lambda: int(parser.expect_kind("int"))), 0)[:2]
    parser.refuse(type is None or length > LONGEST.get(type.name, 65517) or scale > length, token)
    if type.name == "DECIMAL":
        type = DECIMAL64 if length <= 18 else DECIMAL
    is_key = parser.accept("primary", "key") or parser.accept("composite", "key")
    return Column(name, type, length, scale, "COMPOSITE KEY" if is_key else "")


def check_columns(columns, tags):
    refuse(columns[0].type is not TIMESTAMP, 0x2641, "First column must be timestamp")
    refuse(len(columns) < 2, 0x263F, "Illegal number of columns")
    if len({column.name for column in (*columns, *tags)}) < len(columns) + len(tags):
        raise TDengineError(0x263C, "Duplicated column names")
    keys = [column for column in columns if column.note]
    is_key_wrong = keys and (keys != columns[1:2] or "INT" not in keys[0].type.name and keys[0].type is not VARCHAR)
    is_json_wrong = any(column.type is JSON for column in (*columns, *tags[1:]))
    if is_key_wrong or is_json_wrong or any(tag.is_decimal for tag in tags):
        raise TDengineError(SYNTAX, "syntax error: a column or tag of this type can't be there")


def create_database(storage, name, parser):
    precision, keep_ms = 0, KEEP_MS
    while parser.token.kind != "end":
        option, token = parser.one_of("precision", "keep", *WITHOUT_EFFECT), parser.next()
        is_right = token.value in PRECISIONS if option == "precision" else token.kind in ("int", "duration")
        parser.refuse(not is_right, token)
        if option == "precision":
            precision = PRECISIONS.index(token.value)
        elif option == "keep":
            keep_ms = min(nanoseconds(token.value + "d" * (token.kind == "int")) // 10**6, 2**53)
    refuse(name in storage.databases or name == "information_schema", 0x0381, "Database already exists")
    with storage.transaction(changes_catalog=True):
        storage.databases[name] = Database(name, precision, keep_ms)


def drop(session, parser):
    what, storage = parser.one_of("database", "table", "stable", "topic"), session.storage
    parser.codes = MISSING if parser.accept("if", "exists") else {}
    name = parser.table_name()
    parser.expect_kind("end")
    if what == "topic":
        storage.topics.drop(name[1])
    elif what == "database":
        storage.topics.refuse_change(storage.database(name[1]).tables.values())
        storage.drop(storage.database(name[1]))
    else:
        found = session.database_of(name).get(name[1])
        refuse(what == "stable" and not (found and found.is_stable), 0x0362, "STable not exist")
        if session.find(name).is_stable:
            storage.topics.refuse_change([found.table])
        storage.drop(found.table.database, name[1])


def alter(session, parser):
    parser.one_of("table", "stable")
    table, is_subtable, _ = session.find(parser.table_name())
    what, _ = parser.one_of("add", "drop"), parser.expect("column")
    if what == "add":
        stored = f"c{1 + max(int(each.stored[1:]) for each in table.columns)}"
        columns = [*table.columns, parse_column(parser)._replace(stored=stored)]
        change = f"ADD COLUMN {stored} {columns[-1].duck}"
    else:
        column = named(by_name(table.columns), parser.name())
        columns = [each for each in table.columns if each != column or column.stored in table.keys]
        change = f"DROP COLUMN {column.stored}"
        session.storage.topics.refuse_change([table])
    parser.expect_kind("end")
    parser.refuse(is_subtable or len(columns) == len(table.columns), parser.tokens[0])
    check_columns(columns, table.tags or [])
    with session.storage.transaction(changes_catalog=True) as execute:
        execute(f"ALTER TABLE t{table.id} {change}")
        table.columns = columns


def use(session, parser):
    session.database = session.storage.database(parser.name()).name
    parser.expect_kind("end")


def delete(session, parser):
    select = Select(session, parser)
    parser.expect_kind("end")
    refuse(select.used - {"c0", "now"}, 0x2654, "Only the time can be a condition of DELETE")
    parser.refuse(not select.found or select.window or select.order or select.limit, parser.tokens[0])
    with session.storage.transaction() as execute:
        return execute(f"DELETE FROM t{select.found.table.id} WHERE {select.where}").fetchone()[0]


def describe(session, parser):
    name = parser.table_name()
    if name == ("information_schema", "ins_tables"):
        rows = [(column, *kind, "") for column, kind in INS_TABLES.items()]
    else:
        table = session.find(name).table
        rows = [(*column.described(), column.note) for column in (*table.columns, *(table.tags or ()))]
    parser.expect_kind("end")
    shown = [Column(name, INT if name == "length" else VARCHAR, 64) for name in ("field", "type", "length", "note")]
    columns = zip(*rows, strict=True)
    return Result(shown, [[v if isinstance(v, int) else v.encode() for v in column] for column in columns])


def show(session, parser):
    parser.expect("topics")
    parser.expect_kind("end")
    return Result([Column("topic_name", VARCHAR, 192)], [[name.encode() for name in session.storage.topics.topics]])


READING = {"select": select.run, "describe": describe, "show": show, "use": use}
WRITING = {"insert": insert.insert, "create": create, "drop": drop, "alter": alter, "delete": delete}
