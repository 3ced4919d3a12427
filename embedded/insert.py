"""INSERT, with values in its SQL or bound to a prepared statement."""

import json
import re
import time

import numpy as np
import pyarrow as pa

from . import protocol
from .catalog import by_name, named
from .errors import NO_TABLE, SYNTAX, UNPARSABLE, TDengineError, refuse
from .sql import Parser, plain_rows
from .storage import Rows
from .types import JSON, NCHAR, PRECISIONS, TIMESTAMP, UNITS_PER_S, VARBINARY, VARCHAR, Column

SYNTAX_ERROR = (UNPARSABLE, "Syntax error in SQL")
FIELDS = ("name", "field_type", "precision", "scale", "bytes", "bind_type")
CODES = {SYNTAX: UNPARSABLE, 0x2601: UNPARSABLE, 0x2616: 0x0200}  # of INSERT, where other statements have the former
PREPARE_CODES = CODES | {0x2603: 0x022B}
DATE = re.compile(r"(19[7-9]|20\d)\d-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,9})?)?Z?")
LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in (np.float32, np.float64)}


class Insert:
    """INTO table [USING stable [(tags)] TAGS (..)] [(columns)] VALUES, of one table, with the rows that follow."""

    is_prepared = False

    def __init__(self, session, parser):
        """The parser stands behind INTO."""
        self.storage, self.bound, self.tags = session.storage, [], []
        name = (None, None) if self.is_prepared and parser.accept("?") else parser.table_name()
        found = session.database_of(name).get(name[1]) if name[1] else None
        if parser.accept("using"):
            stable = session.find(parser.table_name())
            parser.refuse(not stable.is_stable)
            tags = stable.table.tags
            names = parser.listed(parser.name) if parser.is_next("(") else [tag.name for tag in tags]
            known = by_name(tags)
            self.tags, found = [named(known, name) for name in names], found or stable
            parser.expect("tags")
            self.given = self.parse_values(parser, self.tags, stable.table, (0x260D, "Tags number not matched"))
        else:
            refuse(found is None, *NO_TABLE)
            refuse(found.is_stable, *SYNTAX_ERROR)
        self.name, self.table = name[1], found.table
        self.columns = self.known_columns = self.table.columns
        if parser.is_next("("):
            known = by_name(self.table.columns)
            self.columns = [named(known, name) for name in parser.listed(parser.name)]
        keys_missing = {*self.table.keys} - {"n", *(column.stored for column in self.columns)}
        refuse(keys_missing, 0x0200, "Primary timestamp column should not be null")
        parser.expect("values")
        self.parse_rows(parser)

    def parse_values(self, parser, columns, table, mismatch):
        """( value, .. ), one for each column; mismatch: the error of another number."""
        values = []
        for column in columns:
            refuse(not parser.accept("," if values else "("), *mismatch)
            values.append(parse_literal(parser, column, table.database.precision))
        refuse(not parser.accept(")"), *mismatch)
        return values

    def parse_rows(self, parser):
        """Within one statement a NULL does not replace an earlier value of the same row."""
        rows, keys = {}, [at for at, column in enumerate(self.columns) if column.stored in self.table.keys]
        for values in self.each_row(parser):
            key = tuple(values[at] for at in keys)
            earlier = rows.get(key, values)
            rows[key] = [old if value is None else value for value, old in zip(values, earlier, strict=True)]
        tags = [pa.array([value]) for value in self.given] if self.tags else None
        self.bound = [self.checked(self.name, tags, [pa.array(values) for values in zip(*rows.values(), strict=True)])]

    def each_row(self, parser):
        """The values of one row after the other: first of a token of plain rows, if there is one, then of others."""
        plain, precision = parser.token.kind == "rows", self.table.database.precision
        for texts in plain_rows(parser.next().value, len(self.columns)) if plain else ():
            refuse(texts is None, *SYNTAX_ERROR)
            yield [plain_literal(text, column, precision) for text, column in zip(texts, self.columns, strict=True)]
        while parser.is_next("(") or not plain:
            yield self.parse_values(parser, self.columns, self.table, SYNTAX_ERROR)
            parser.accept(",")
            plain = True

    def checked(self, name, tags, arrays):
        """(name, tags, rows) of one table as they are kept until they are stored, whose values fit."""
        for columns, values in ((self.columns, arrays), (self.tags if tags else (), tags or ())):
            for column, array in zip(columns, values, strict=True):
                column.check_lengths(array)
        return name, tags, pa.table(arrays, [column.stored for column in self.columns])

    def take(self):
        """Rows of what is bound, of those with one key the last one."""
        bound, self.bound, parts, new = self.bound, [], [], {}
        for name, tags, rows in bound:
            if self.table.tags is not None:
                rows = rows.append_column("n", pa.repeat(name.encode(), len(rows)))
                found = self.table.database.get(name)
                refuse(found and (found.table is not self.table or not found.is_subtable), *SYNTAX_ERROR)
                if not found and name not in new:
                    new[name] = pa.table([[name.encode()], *tags], ["n", *(tag.stored for tag in self.tags)])
            parts.append(rows)
        batch, keys = pa.concat_tables(parts, promote_options="default").combine_chunks(), self.table.keys
        has_null = any(batch[key].null_count for key in keys)
        refuse(has_null, UNPARSABLE, "syntax error (Primary timestamp column should not be null)")
        if not (np.diff(batch["c0"]) > 0).all():
            numbered = batch.append_column("at", pa.array(range(len(batch))))
            batch = batch.take(numbered.group_by(keys).aggregate([("at", "max")])["at_max"].sort())
        return Rows(self.table, batch, new)


def insert(session, parser):
    """The rows of all tables are stored, or none. Behind the word INSERT."""
    parser.codes = CODES
    parser.expect("into")
    inserts = [Insert(session, parser).take()]
    while parser.token.kind != "end":
        inserts.append(Insert(session, parser).take())
    return session.storage.write(inserts)


class PreparedInsert(Insert):
    """INSERT INTO {table | ? USING stable TAGS (?, ..)} [(columns)] VALUES (?, ..)."""

    is_prepared = True

    def __init__(self, session, text):
        """TDengineError when it cannot be prepared."""
        try:
            parser = Parser(text)
            parser.expect("insert", "into")
            super().__init__(session, parser)
            parser.expect_kind("end")
            parser.refuse(self.name and self.tags, parser.tokens[0])
        except TDengineError as error:
            raise TDengineError(PREPARE_CODES.get(error.code, error.code), error.message) from None

    def parse_values(self, parser, columns, table, mismatch):
        """( ?, .. )"""
        marks = parser.listed(lambda: parser.expect("?"))
        if len(marks) > len(columns) and columns is table.columns:
            mismatch = (0x263F, "Illegal number of columns")
        refuse(len(marks) != len(columns), *mismatch)

    def parse_rows(self, parser):
        self.parse_values(parser, self.columns, self.table, SYNTAX_ERROR)

    def fields(self):
        """What stmt2_prepare answers about every ?: table name 4, tags 2, columns 1."""
        kinds = [(Column("tbname", VARCHAR, 269), 4)] * (self.name is None)
        kinds += [(tag, 2) for tag in self.tags] + [(column, 1) for column in self.columns]
        values = []
        for column, kind in kinds:
            name, number, _, *decimal = column.fields()
            of_type = (self.table.database.precision, 0) if column.type is TIMESTAMP else decimal
            width = column.type.width if column.is_decimal else column.width
            values.append((name, number, *of_type, width, kind))
        return [dict(zip(FIELDS, field, strict=True)) for field in values]

    def bind(self, message):
        """Keeps what a STMT2_BIND request binds, all of it or nothing."""
        found = []
        for name, tags, arrays in protocol.decode_bind(message[30:], self.tags, self.columns):
            if self.name is None:
                name = name[1:-1] if re.fullmatch("`.+`", name or "") else (name or "").rpartition(".")[2].lower()
                refuse(not name or tags is None, 0x022B, "Stmt table name not set")
            found.append(self.checked(self.name or name, tags, arrays))
        self.bound += [each for each in found if len(each[2])]

    def execute(self):
        """Stores what is bound; returns the number of rows. A statement does not outlive a change of its table."""
        refuse(not self.bound, 0x022A, "Stmt API usage error")
        with self.storage.lock:
            database = self.storage.databases.get(self.table.database.name)
            current = database and database.tables.get(self.table.name)
            if current is not self.table and current and current.tags and self.table.tags:
                raise TDengineError(0x0115, "Ref is not there")
            refuse(current is not self.table or self.table.columns is not self.known_columns, *SYNTAX_ERROR)
            return self.storage.write([self.take()])


def parse_literal(parser, column, precision):
    """The next value, as text if DuckDB is to convert it. TDengineError when it is none for the column."""
    sign, moment = "", None
    if parser.token.kind not in ("int", "float", "text", "bool"):
        if parser.accept("null"):
            return None
        moment = parser.time(time.time_ns())
        if moment is None:
            sign = parser.one_of("-", "+")
            parser.refuse(parser.token.kind not in ("int", "float"))
    kind, value = (parser.token.kind, sign + parser.next().value) if moment is None else ("now", moment)
    return literal(kind, value, column, precision)


def plain_literal(text, column, precision):
    """The same from the text of one of a token of rows."""
    if text[0] == "'":
        return literal("text", text[1:-1], column, precision)
    if text[0] in "nN":
        return None
    kind = "bool" if text[0] in "tTfF" else "int" if text.lstrip("-").isdigit() else "float"
    return literal(kind, text, column, precision)


def literal(kind, value, column, precision):
    """The value for the column, from what TDengine's SQL writes. TDengineError when it is none."""
    try:
        return converted(kind, value, column.type, precision)
    except (ValueError, RecursionError):
        message = f"syntax error near {str(value)[:64]!a} (invalid {column.type.name.lower()} data)"
        raise TDengineError(UNPARSABLE, message) from None


def converted(kind, value, type, precision):
    """ValueError when the value is none for this type."""
    if type is TIMESTAMP and kind in ("int", "now"):
        found = value // (10**9 // UNITS_PER_S[precision]) if kind == "now" else int(value)
        if not -(2**63) <= found < 2**63:
            raise ValueError
        return found
    if type is TIMESTAMP and kind == "text" and DATE.fullmatch(value):  # UTC, cut to the precision
        return int(np.datetime64(value.removesuffix("Z"), PRECISIONS[precision]).astype(np.int64))
    if type.width and type is not TIMESTAMP and kind in ("int", "float", "bool"):
        if type.dtype in LARGEST and not abs(float(value)) <= LARGEST[type.dtype]:
            raise ValueError
        return value
    if type.width or kind != "text":
        raise ValueError
    if type is NCHAR:
        value.encode()  # an error: what is not UTF-8 in the SQL
        return value
    if type is VARBINARY and value[:2].lower() == "\\x":
        return bytes.fromhex(value[2:])
    if type is JSON:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":")).encode()
    return value.encode(errors="surrogateescape")
