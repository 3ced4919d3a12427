"""INSERT, with values in its SQL or bound to a prepared statement."""

import decimal
import re
import time

import duckdb
import numpy as np

from . import literals
from .catalog import Subtable, is_stable
from .rows import Rows
from .sql import Parser
from .types import STAND_IN, VARCHAR, Column, TDengineError

MARK = object()  # a `?`
TABLE_NAME = Column("tbname", VARCHAR, 269)
UNPARSABLE = (0x0216, "Syntax error in SQL")
NOT_BOUND = (0x022A, "Stmt API usage error")
NO_DATABASE = (0x0200, "db is not specified")


def parse_value(parser):
    """A value as literals.convert() takes it, or MARK."""
    moment = parser.time(time.time_ns())
    if moment is not None:
        return literals.Moment(moment)
    sign = parser.next().value if parser.is_next("-") or parser.is_next("+") else ""
    token = parser.next()
    if token.kind in ("int", "float"):
        return int(f"{sign}{token.value}") if token.kind == "int" else decimal.Decimal(f"{sign}{token.value}")
    if sign or token.kind not in ("text", "word", "sign"):
        raise parser.refused(token)
    values = {"true": True, "false": False, "null": None, "?": MARK}
    if token.kind != "text" and token.value not in values:
        raise parser.refused(token)
    return token.value if token.kind == "text" else values[token.value]


class Using:
    """USING stable [(tags)] TAGS (values), at that word."""

    def __init__(self, session, parser):
        parser.expect("using")
        self.stable = session.table_of(parser.table_name(), NO_DATABASE)
        if not is_stable(self.stable):
            raise parser.refused()
        names = parser.listed(parser.name) if parser.is_next("(") else [tag.name for tag in self.stable.tags]
        self.tags = [session.column_of(self.stable.tags, name) for name in names]
        parser.expect("tags")
        self.values = parser.listed(lambda: parse_value(parser))
        if len(self.values) != len(self.tags):
            raise TDengineError(0x260D, "Tags number not matched")

    def new_subtable(self, name, values=None):
        """(Subtable with a number of its own, all its tags), as Storage.write() takes them; values: those bound."""
        if values is None:
            precision = self.stable.database.precision
            values = [literals.convert(v, tag, precision) for v, tag in zip(self.values, self.tags, strict=True)]
        given = dict(zip((tag.stored for tag in self.tags), values, strict=True))
        self.stable.last_subtable += 1
        tags = [given.get(tag.stored) for tag in self.stable.tags]
        return Subtable(self.stable.last_subtable, self.stable, name), tags


class Insert:
    """INTO {table | ?} [USING ..] [(columns)] VALUES, of one table, with what is bound to it."""

    def __init__(self, session, parser):
        """The parser stands behind INTO."""
        self.session, self.storage, self.pending, self.failed = session, session.storage, [], None
        name = (None, None) if parser.accept("?") else parser.table_name()
        self.name, tables = name[1], {}
        if self.name is not None:
            tables = session.database_of(name, NO_DATABASE).tables
        self.using = Using(session, parser) if parser.is_next("using") else None
        found = tables.get(self.name)
        if found is None and self.using is None:
            raise TDengineError(0x2603, "Table does not exist")
        if is_stable(found):
            raise TDengineError(0x0216, "syntax error: bounded cols is expected for supertable insertion")
        self.table = self.using.stable if found is None else found.table
        self.columns = self.known_columns = self.table.columns
        if parser.is_next("("):
            self.columns = [session.column_of(self.table.columns, name) for name in parser.listed(parser.name)]
        if self.table.columns[0] not in self.columns:
            raise TDengineError(0x0200, "Primary timestamp column should not be null")
        parser.expect("values")

    def bind(self, name, tags, arrays):
        """Adds the columns of one table; name and tags when the SQL has ? for them, else None."""
        if self.name is None:
            name = (name or "").rpartition(".")[2].lower() if not re.fullmatch("`.+`", name or "") else name[1:-1]
            if not name or tags is None:
                raise TDengineError(0x022B, "Stmt table name not set")
        for column, array in zip(self.columns, arrays, strict=True):
            column.check_lengths(array)
        for column, value in zip(self.using.tags if tags else (), tags or (), strict=True):
            column.check_lengths([value])
        if len(arrays[0]):
            self.pending.append((self.name or name, tags, arrays))

    def bind_literals(self, parser):
        """Binds the rows that follow; within one statement a NULL does not replace an earlier value of the same row."""
        rows, precision = {}, self.table.database.precision
        keys = [self.columns.index(key) for key in self.table.keys if key in self.columns]
        while parser.is_next("(") or not rows:
            values = parser.listed(lambda: parse_value(parser))
            parser.accept(",")
            if len(values) != len(self.columns) or MARK in values:
                raise TDengineError(0x0216, "syntax error near ')' (number of values, or ? only used in stmt)")
            values = [literals.convert(v, column, precision) for v, column in zip(values, self.columns, strict=True)]
            key = tuple(values[at] for at in keys)
            if None in key:
                raise TDengineError(0x0216, "syntax error (Primary timestamp column should not be null)")
            earlier = rows.get(key, values)
            rows[key] = [old if value is None else value for value, old in zip(values, earlier, strict=True)]
        arrays = [list(values) for values in zip(*rows.values(), strict=True)]
        arrays[keys[0]] = np.array(arrays[keys[0]], np.int64)
        self.bind(None, None, arrays)

    def take(self, new):
        """Rows of what is bound; new: {name: (Subtable, tags)} of the whole statement, to which it adds."""
        pending, self.pending = self.pending, []
        subtables = None
        if self.table.tags is not None:
            ids = [self.subtable(name, tags, new).id for name, tags, _ in pending]
            subtables = np.repeat(np.array(ids, np.int32), [len(arrays[0]) for *_, arrays in pending])
        arrays = [join([arrays[k] for *_, arrays in pending]) for k in range(len(self.columns))]
        return Rows(self.table, subtables, self.columns, arrays)

    def subtable(self, name, tags, new):
        found = self.table.database.tables.get(name) or new.get(name, (None,))[0]
        if found is None:
            new[name] = self.using.new_subtable(name, tags)
            found = new[name][0]
        if not isinstance(found, Subtable) or found.table is not self.table:
            raise TDengineError(*UNPARSABLE)
        return found


def insert(session, parser):
    """The rows of all tables are stored, or none. Behind the word INSERT."""
    try:
        parser.expect("into")
        with session.storage.lock:  # what it finds is still there when the rows are stored
            inserts, new = [], {}
            while parser.token.kind != "end" or not inserts:
                target = Insert(session, parser)
                if target.name is None:
                    raise parser.refused(parser.tokens[0])
                target.bind_literals(parser)
                inserts.append(target.take(new))
            return session.storage.write(inserts, list(new.values()))
    except TDengineError as error:
        raise TDengineError(0x0216 if error.code in (0x2600, 0x2601) else error.code, error.message) from None
    except duckdb.ConversionException as error:
        raise TDengineError(0x0216, f"syntax error ({str(error).splitlines()[0]})") from None


class PreparedInsert(Insert):
    """INSERT INTO {table | ? USING stable TAGS (?, ..)} [(columns)] VALUES (?, ..)."""

    def __init__(self, session, text):
        """TDengineError when it cannot be prepared."""
        try:
            parser = Parser(text)
            parser.expect("insert", "into")
            super().__init__(session, parser)
            self.marks = parser.listed(lambda: parse_value(parser))
            parser.end()
        except TDengineError as error:
            codes = {
                0x2603: (0x022B, "Table does not exist"),
                0x2600: UNPARSABLE,
                0x2601: UNPARSABLE,
                0x0216: UNPARSABLE,
            }
            raise TDengineError(*codes.get(error.code, (error.code, error.message))) from None
        if (self.name is None) != (self.using is not None):
            raise TDengineError(0x0200, f"Invalid operation: this {STAND_IN} prepares `?` with USING, a table without")
        self.tags = self.using.tags if self.using else []
        if any(mark is not MARK for mark in (*self.marks, *(self.using.values if self.using else ()))):
            raise TDengineError(0x0200, "Invalid operation")
        if len(self.marks) != len(self.columns):
            too_many = len(self.marks) > len(self.columns) and self.columns is self.known_columns
            raise TDengineError(*((0x263F, "Illegal number of columns") if too_many else UNPARSABLE))

    def fields(self):
        """What stmt2_prepare answers about every ?: table name 4, tags 2, columns 1."""
        kinds = [(TABLE_NAME, 4)] * (self.name is None)
        kinds += [(column, 2) for column in self.tags] + [(column, 1) for column in self.columns]
        names, fields = ("name", "field_type", "precision", "scale", "bytes", "bind_type"), []
        for column, kind in kinds:
            precision = self.table.database.precision if column.type.number == 9 else 0
            precision, width = (column.length, column.type.width) if column.is_decimal else (precision, column.width)
            values = (column.name, column.type.number, precision, column.scale, width, kind)
            fields.append(dict(zip(names, values, strict=True)))
        return fields

    def execute(self):
        """Stores what is bound; returns the number of rows. A statement does not outlive a change of its table."""
        failed, self.failed = self.failed, None
        if failed or not self.pending:
            self.pending = []
            raise failed or TDengineError(*NOT_BOUND)
        with self.storage.lock:
            database = self.storage.databases.get(self.table.database.name)
            current = database and database.tables.get(self.table.name)
            if current is not self.table and is_stable(current) and is_stable(self.table):
                raise TDengineError(0x0115, "Ref is not there")
            if current is not self.table or self.table.columns is not self.known_columns:
                raise TDengineError(*UNPARSABLE)
            new = {}
            rows = self.take(new)
            return self.storage.write([rows], list(new.values()))


def join(arrays):
    """The parts of one column, one after the other."""
    if isinstance(arrays[0], list):
        return [value for array in arrays for value in array]
    return np.ma.concatenate(arrays) if any(map(np.ma.isMaskedArray, arrays)) else np.concatenate(arrays)
