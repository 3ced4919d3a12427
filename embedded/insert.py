"""INSERT, with values in its SQL or bound to a prepared statement."""

import json
import re
import sys
import time

import numpy as np

from . import protocol
from .catalog import TBNAME, named
from .errors import NO_TABLE, STAND_IN, SYNTAX, UNPARSABLE, TDengineError
from .sql import Parser
from .storage import Rows, as_numpy
from .types import DOUBLE, FLOAT, JSON, NCHAR, PRECISIONS, TIMESTAMP, UNITS_PER_S, VARBINARY, VARCHAR, Column

TABLE_NAME = Column("tbname", VARCHAR, 269)
SYNTAX_ERROR = (UNPARSABLE, "Syntax error in SQL")
FIELDS = ("name", "field_type", "precision", "scale", "bytes", "bind_type")
CODES = {SYNTAX: UNPARSABLE, 0x2601: UNPARSABLE, 0x2616: 0x0200}  # of INSERT, where other statements have the former
PREPARE_CODES = CODES | {0x2603: 0x022B}

MARK = ("mark", "?")
WORDS = {"true": ("bool", "true"), "false": ("bool", "false"), "null": ("null", None), "?": MARK}
DATE = re.compile(r"(19[7-9]|20\d)\d-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,9})?)?Z?")
LARGEST = {FLOAT: float(np.finfo(np.float32).max), DOUBLE: sys.float_info.max}


class Insert:
    """INTO {table | ?} [USING stable [(tags)] TAGS (..)] [(columns)] VALUES, of one table, with what is bound to it."""

    def __init__(self, session, parser):
        """The parser stands behind INTO."""
        self.storage, self.pending = session.storage, []
        name = (None, None) if parser.accept("?") else parser.table_name()
        found = session.database_of(name).get(name[1]) if name[1] else None
        self.is_using, self.tags, self.tag_literals = parser.accept("using"), [], []
        if self.is_using:
            stable = session.find(parser.table_name())
            if not stable.is_stable:
                raise parser.refused()
            self.parse_tags(stable.table.tags, parser)
            found = found or stable
        elif found is None:
            raise TDengineError(*NO_TABLE)
        elif found.is_stable:
            raise TDengineError(*SYNTAX_ERROR)
        self.name, self.table = name[1], found.table
        self.columns = self.known_columns = self.table.columns
        if parser.is_next("("):
            self.columns = [named(self.table.columns, name) for name in parser.listed(parser.name)]
        if self.table.columns[0] not in self.columns:
            raise TDengineError(0x0200, "Primary timestamp column should not be null")
        parser.expect("values")

    def parse_tags(self, tags, parser):
        names = parser.listed(parser.name) if parser.is_next("(") else [tag.name for tag in tags]
        self.tags = [named(tags, name) for name in names]
        parser.expect("tags")
        self.tag_literals = parser.listed(lambda: parse_literal(parser))
        if len(self.tag_literals) != len(self.tags):
            raise TDengineError(0x260D, "Tags number not matched")

    def checked(self, name, tags, arrays):
        """What is bound of one table, as it is kept until it is stored; name and tags when the SQL has ? for them."""
        if self.name is None:
            name = name[1:-1] if re.fullmatch("`.+`", name or "") else (name or "").rpartition(".")[2].lower()
            if not name or tags is None:
                raise TDengineError(0x022B, "Stmt table name not set")
        for column, values in zip(self.columns, arrays, strict=True):
            column.check_lengths(values)
        for tag, value in zip(self.tags if tags else (), tags or (), strict=True):
            tag.check_lengths([value])
        return self.name or name, tags, arrays

    def bind_literals(self, parser):
        """Binds the rows that follow; within one statement a NULL does not replace an earlier value of the same row."""
        rows, precision = {}, self.table.database.precision
        keys = [self.columns.index(key) for key in self.table.keys if key in self.columns]
        while parser.is_next("(") or not rows:
            found = parser.listed(lambda: parse_literal(parser))
            parser.accept(",")
            if len(found) != len(self.columns):
                raise TDengineError(*SYNTAX_ERROR)
            values = [convert(v, column, precision) for v, column in zip(found, self.columns, strict=True)]
            key = tuple(values[at] for at in keys)
            if None in key:
                raise TDengineError(UNPARSABLE, "syntax error (Primary timestamp column should not be null)")
            earlier = rows.get(key, values)
            rows[key] = [old if value is None else value for value, old in zip(values, earlier, strict=True)]
        arrays = [list(values) for values in zip(*rows.values(), strict=True)]
        arrays[keys[0]] = np.array(arrays[keys[0]], np.int64)
        self.pending = [self.checked(None, None, arrays)]

    def take(self):
        """Rows of what is bound."""
        pending, self.pending, new = self.pending, [], {}
        columns, arrays = (
            list(self.columns),
            [join([arrays[k] for *_, arrays in pending]) for k in range(len(self.columns))],
        )
        if self.table.tags is not None:
            of_tables = [(name.encode(), *self.tag_values(name, tags, new)) for name, tags, _ in pending]
            counts = [len(arrays[0]) for *_, arrays in pending]
            columns += [TBNAME, *self.table.tags]
            arrays += [np.repeat(as_numpy(list(values)), counts) for values in zip(*of_tables, strict=True)]
        return Rows(self.table, columns, arrays, new)

    def tag_values(self, name, values, new):
        """The tags of the subtable of that name; those bound or in the SQL when it is a new one."""
        found = self.table.database.get(name)
        if found and (found.table is not self.table or not found.is_subtable):
            raise TDengineError(*SYNTAX_ERROR)
        if found is None and name not in new:
            if values is None:
                pairs = zip(self.tag_literals, self.tags, strict=True)
                values = [convert(each, tag, self.table.database.precision) for each, tag in pairs]
            given = dict(zip((tag.stored for tag in self.tags), values, strict=True))
            new[name] = [given.get(tag.stored) for tag in self.table.tags]
        return new.get(name) or self.table.subtables[name]


def insert(session, parser):
    """The rows of all tables are stored, or none. Behind the word INSERT."""
    try:
        parser.expect("into")
        inserts = []
        while parser.token.kind != "end" or not inserts:
            target = Insert(session, parser)
            if target.name is None:
                raise parser.refused(parser.tokens[0])
            target.bind_literals(parser)
            inserts.append(target.take())
        return session.storage.write(inserts)
    except TDengineError as error:
        raise TDengineError(CODES.get(error.code, error.code), error.message) from None


class PreparedInsert(Insert):
    """INSERT INTO {table | ? USING stable TAGS (?, ..)} [(columns)] VALUES (?, ..)."""

    def __init__(self, session, text):
        """TDengineError when it cannot be prepared."""
        try:
            parser = Parser(text)
            parser.expect("insert", "into")
            super().__init__(session, parser)
            marks = parser.listed(lambda: parse_literal(parser))
            parser.expect_kind("end")
        except TDengineError as error:
            raise TDengineError(PREPARE_CODES.get(error.code, error.code), error.message) from None
        if (self.name is None) != self.is_using or {*marks, *self.tag_literals} != {MARK}:
            message = f"Invalid operation: this {STAND_IN} prepares `?` with USING, and nothing but `?`"
            raise TDengineError(0x0200, message)
        if len(marks) != len(self.columns):
            too_many = len(marks) > len(self.columns) and self.columns is self.known_columns
            raise TDengineError(*((0x263F, "Illegal number of columns") if too_many else SYNTAX_ERROR))

    def fields(self):
        """What stmt2_prepare answers about every ?: table name 4, tags 2, columns 1."""
        kinds = [(TABLE_NAME, 4)] * (self.name is None) + [(column, 2) for column in self.tags]
        values, precision = [], self.table.database.precision
        for column, kind in (*kinds, *((column, 1) for column in self.columns)):
            decimal = (column.length, column.scale) if column.is_decimal else (0, 0)
            of_type = (precision, 0) if column.type is TIMESTAMP else decimal
            width = column.type.width if column.is_decimal else column.width
            values.append((column.name, column.type.number, *of_type, width, kind))
        return [dict(zip(FIELDS, field, strict=True)) for field in values]

    def bind(self, message):
        """Keeps what a STMT2_BIND request binds, all of it or nothing."""
        found = [self.checked(*table) for table in protocol.decode_bind(message, self.tags, self.columns)]
        self.pending += [table for table in found if len(table[2][0])]

    def execute(self):
        """Stores what is bound; returns the number of rows. A statement does not outlive a change of its table."""
        if not self.pending:
            raise TDengineError(0x022A, "Stmt API usage error")
        with self.storage.lock:
            database = self.storage.databases.get(self.table.database.name)
            current = database and database.tables.get(self.table.name)
            if current is not self.table and current and current.tags and self.table.tags:
                raise TDengineError(0x0115, "Ref is not there")
            if current is not self.table or self.table.columns is not self.known_columns:
                raise TDengineError(*SYNTAX_ERROR)
            return self.storage.write([self.take()])


def join(arrays):
    """The parts of one column, one after the other."""
    if isinstance(arrays[0], list):
        return [value for array in arrays for value in array]
    return np.ma.concatenate(arrays) if any(map(np.ma.isMaskedArray, arrays)) else np.concatenate(arrays)


def parse_literal(parser):
    """The next value: (kind, text) with the kinds int, float, text, bool, now (nanoseconds), null, or MARK."""
    kind, value, *_ = parser.token
    if kind not in ("int", "float", "text"):
        moment = parser.time(time.time_ns())
        if moment is not None:
            return "now", moment
        if not (parser.is_next("-") or parser.is_next("+")):
            return WORDS[parser.one_of(*WORDS)]
        sign = parser.next().value
        kind, value = parser.token.kind, sign + parser.token.value
        if kind not in ("int", "float"):
            raise parser.refused()
    parser.next()
    return kind, value


def convert(literal, column, precision):
    """The value for a column, as text for all that DuckDB is to convert. TDengineError when it is none for it."""
    kind, value = literal
    if kind == "null":
        return None
    try:
        found = converted(kind, value, column.type, precision)
    except (ValueError, RecursionError):
        near = str(value)[:64].encode(errors="replace").decode()
        message = f"syntax error near '{near}' (invalid {column.type.name.lower()} data)"
        raise TDengineError(UNPARSABLE, message) from None
    column.check_lengths([found])
    return found


def converted(kind, value, type, precision):
    """ValueError when the value is none for this type."""
    if type is TIMESTAMP:
        if kind == "now":
            return value // (10**9 // UNITS_PER_S[precision])
        found = timestamp(value, precision) if kind == "text" else int(value)
        if not -(2**63) <= found < 2**63:
            raise ValueError
        return found
    if type.width:
        if kind not in ("int", "float", "bool") or type in LARGEST and not abs(float(value)) <= LARGEST[type]:
            raise ValueError
        return value
    if kind != "text":
        raise ValueError
    if type is NCHAR:
        value.encode()  # an error: what is not UTF-8 in the SQL
        return value
    if type is VARBINARY and value[:2].lower() == "\\x":
        return bytes.fromhex(value[2:])
    if type is JSON:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":")).encode()
    return value.encode(errors="surrogateescape")


def timestamp(text, precision):
    """The timestamp that a date stands for, UTC, cut to the precision; ValueError when it is none."""
    if not DATE.fullmatch(text):
        raise ValueError
    moment = np.datetime64(text.removesuffix("Z"), "ns")
    return int(moment.astype(f"datetime64[{PRECISIONS[precision]}]").astype(np.int64))
