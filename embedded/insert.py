"""INSERT, with values in its SQL or bound to a prepared statement."""

import decimal
import re
import time

import duckdb
import numpy as np

from . import literals
from .catalog import named
from .errors import STAND_IN, TDengineError
from .rows import Rows
from .sql import Parser
from .types import TIMESTAMP, VARCHAR, Column

MARK = object()  # a `?`
TABLE_NAME = Column("tbname", VARCHAR, 269)
UNPARSABLE = (0x0216, "Syntax error in SQL")
NO_DATABASE = (0x0200, "db is not specified")
FIELDS = ("name", "field_type", "precision", "scale", "bytes", "bind_type")


def parse_value(parser):
    """A value as literals.convert() takes it, or MARK."""
    if parser.token.kind in ("int", "text"):  # most are
        return parser.next().value
    moment = parser.time(time.time_ns())
    if moment is not None:
        return literals.Moment(moment)
    sign = parser.next().value if parser.is_next("-") or parser.is_next("+") else ""
    token = parser.next()
    if token.kind in ("int", "float"):
        return int(f"{sign}{token.value}") if token.kind == "int" else decimal.Decimal(f"{sign}{token.value}")
    values = {"true": True, "false": False, "null": None, "?": MARK}
    if sign or token.kind not in ("word", "sign") or token.value not in values:
        raise parser.refused(token)
    return values[token.value]


class Using:
    """USING stable [(tags)] TAGS (values), at that word."""

    def __init__(self, session, parser):
        parser.expect("using")
        found = session.find(parser.table_name(), NO_DATABASE)
        if not found.is_stable:
            raise parser.refused()
        self.stable = found.table
        names = parser.listed(parser.name) if parser.is_next("(") else [tag.name for tag in self.stable.tags]
        self.tags = [named(self.stable.tags, name) for name in names]
        parser.expect("tags")
        self.values = parser.listed(lambda: parse_value(parser))
        if len(self.values) != len(self.tags):
            raise TDengineError(0x260D, "Tags number not matched")

    def new_subtable(self, name, values=None):
        """(supertable, name, a new number, all its tags), as Storage.write() takes them; values: those bound."""
        if values is None:
            precision = self.stable.database.precision
            values = [literals.convert(v, tag, precision) for v, tag in zip(self.values, self.tags, strict=True)]
        given = dict(zip((tag.stored for tag in self.tags), values, strict=True))
        number = self.stable.new_number()
        return self.stable, name, number, [given.get(tag.stored) for tag in self.stable.tags]


class Insert:
    """INTO {table | ?} [USING ..] [(columns)] VALUES, of one table, with what is bound to it."""

    def __init__(self, session, parser):
        """The parser stands behind INTO."""
        self.storage, self.pending, self.failed = session.storage, [], None
        name = (None, None) if parser.accept("?") else parser.table_name()
        found = session.database_of(name, NO_DATABASE).get(name[1]) if name[1] else None
        self.using = Using(session, parser) if parser.is_next("using") else None
        if found is None and self.using is None:
            raise TDengineError(0x2603, "Table does not exist")
        if found and found.is_stable:
            raise TDengineError(0x0216, "syntax error: bounded cols is expected for supertable insertion")
        self.name, self.table = name[1], found.table if found else self.using.stable
        self.columns = self.known_columns = self.table.columns
        if parser.is_next("("):
            self.columns = [named(self.table.columns, name) for name in parser.listed(parser.name)]
        if self.table.columns[0] not in self.columns:
            raise TDengineError(0x0200, "Primary timestamp column should not be null")
        parser.expect("values")

    def bind(self, name, tags, arrays):
        """Adds the columns of one table; name and tags when the SQL has ? for them, else None."""
        if self.name is None:
            name = name[1:-1] if re.fullmatch("`.+`", name or "") else (name or "").rpartition(".")[2].lower()
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
        """Rows of what is bound; new: {name: new subtable} of the whole statement, to which it adds."""
        pending, self.pending, subtables = self.pending, [], None
        if self.table.tags is not None:
            numbers = [self.subtable(name, tags, new) for name, tags, _ in pending]
            subtables = np.repeat(np.array(numbers, np.int32), [len(arrays[0]) for *_, arrays in pending])
        arrays = [join([arrays[k] for *_, arrays in pending]) for k in range(len(self.columns))]
        return Rows(self.table, subtables, self.columns, arrays)

    def subtable(self, name, tags, new):
        """The number of the subtable of that name."""
        found = self.table.database.get(name)
        if found and (found.number is None or found.table is not self.table):
            raise TDengineError(*UNPARSABLE)
        if found is None and name not in new:
            new[name] = self.using.new_subtable(name, tags)
        return found.number if found else new[name][2]


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
            marks = parser.listed(lambda: parse_value(parser))
            parser.end()
        except TDengineError as error:
            codes = {0x2603: (0x022B, error.message)} | dict.fromkeys((0x2600, 0x2601, 0x0216), UNPARSABLE)
            raise TDengineError(*codes.get(error.code, (error.code, error.message))) from None
        self.tags, tag_marks = (self.using.tags, self.using.values) if self.using else ([], [])
        if (self.name is None) != (self.using is not None) or {*marks, *tag_marks} != {MARK}:
            raise TDengineError(
                0x0200, f"Invalid operation: this {STAND_IN} prepares `?` with USING, and nothing but `?`"
            )
        if len(marks) != len(self.columns):
            too_many = len(marks) > len(self.columns) and self.columns is self.known_columns
            raise TDengineError(*((0x263F, "Illegal number of columns") if too_many else UNPARSABLE))

    def fields(self):
        """What stmt2_prepare answers about every ?: table name 4, tags 2, columns 1."""
        kinds = [(TABLE_NAME, 4)] * (self.name is None) + [(column, 2) for column in self.tags]
        values, precision = [], self.table.database.precision
        for column, kind in (*kinds, *((column, 1) for column in self.columns)):
            of_type = (
                (column.length, column.scale) if column.is_decimal else (precision * (column.type is TIMESTAMP), 0)
            )
            width = column.type.width if column.is_decimal else column.width
            values.append((column.name, column.type.number, *of_type, width, kind))
        return [dict(zip(FIELDS, field, strict=True)) for field in values]

    def execute(self):
        """Stores what is bound; returns the number of rows. A statement does not outlive a change of its table."""
        failed, self.failed = self.failed, None
        if failed or not self.pending:
            self.pending = []
            raise failed or TDengineError(0x022A, "Stmt API usage error")
        with self.storage.lock:
            database, new = self.storage.databases.get(self.table.database.name), {}
            current = database and database.tables.get(self.table.name)
            if current is not self.table and current and current.tags and self.table.tags:
                raise TDengineError(0x0115, "Ref is not there")
            if current is not self.table or self.table.columns is not self.known_columns:
                raise TDengineError(*UNPARSABLE)
            return self.storage.write([self.take(new)], list(new.values()))


def join(arrays):
    """The parts of one column, one after the other."""
    if isinstance(arrays[0], list):
        return [value for array in arrays for value in array]
    return np.ma.concatenate(arrays) if any(map(np.ma.isMaskedArray, arrays)) else np.concatenate(arrays)
