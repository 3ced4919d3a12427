"""SELECT: TDengine's SQL into DuckDB's, word by word. Only what means the same in both is let through."""

import time
import typing

import duckdb

from . import blocks, literals
from .errors import STAND_IN, TDengineError
from .sources import blob, find_source
from .sql import NANOSECONDS, lower_outside_quotes
from .types import BOOL, BY_DUCK, CASTS, NCHAR, TIMESTAMP, UNITS_PER_S, VARBINARY, VARCHAR, Column

AGGREGATES = {"count", "sum", "avg", "min", "max"}
CLAUSES = ("from", "where", "interval", "group", "order", "limit", "as", "asc", "desc")
WORDS = ("and", "or", "not", "is", "null", "in", "between", "true", "false", "case", "when", "then", "else", "end")
SIGNS = ("=", "<>", "!=", "<", "<=", ">", ">=", "(", ")", ",")
DEEPEST, LONGEST = 50, 4096  # parentheses in each other; words of an expression, elements of a list
ROWS_PER_BLOCK = 4096


class Result:
    """A result set: Columns, and a sequence of values for each; precision: of the TIMESTAMP columns."""

    def __init__(self, columns, values, precision=0):
        self.columns, self.values, self.precision, self.at = columns, values, precision, 0

    def next_block(self):
        """The next raw block, or None at the end."""
        values = [of_column[self.at : self.at + ROWS_PER_BLOCK] for of_column in self.values]
        self.at += ROWS_PER_BLOCK
        return blocks.encode_block(self.columns, values) if values[0] else None


class Expression(typing.NamedTuple):
    """DuckDB's SQL, and the Column for it if it is no more than a column; name: of the result's column."""

    sql: str
    column: Column | None
    name: str


class Select:
    """One SELECT, parsed."""

    def __init__(self, session, parser, items=None):
        """The parser stands behind the word SELECT, or before FROM when there are no items."""
        self.session, self.parser, self.now, start = session, parser, time.time_ns(), parser.at
        self.used, self.functions, self.has_now, self.window = set(), set(), False, None
        self.where, self.groups, self.order, self.limit = "", [], [], ""
        self.source, self.precision = None, 0
        if self.skip_to("from"):
            self.table = parser.table_name()
            self.source = find_source(session, self.table)
            self.precision = self.source.precision
        self.units, after = 10**9 // UNITS_PER_S[self.precision], parser.at
        if self.source and self.skip_to("interval"):  # whose _wstart the items may name
            self.window = self.parse_window()
        parser.at = start
        self.items = items if items is not None else sum(self.several(self.item), [])
        if self.source:
            parser.expect("from")
            parser.at = after
            self.parse_clauses()

    def skip_to(self, word):
        """Whether this word comes; then the parser stands behind it."""
        start = self.parser.at
        while self.parser.token.kind != "end" and not self.parser.is_next(word):
            self.parser.at += 1
        if self.parser.accept(word):
            return True
        self.parser.at = start
        return False

    def several(self, element):
        elements = [element()]
        while self.parser.accept(",") and len(elements) <= LONGEST:
            elements.append(element())
        return elements

    def item(self):
        """The Expressions of an item of the list."""
        if self.source and self.parser.accept("*"):
            self.used |= {sql for sql, _ in self.source.columns.values()}
            return [Expression(sql, column, column.name) for sql, column in self.source.columns.values()]
        found = self.expression()
        name = self.parser.name() if self.parser.accept("as") else found.name
        return [found._replace(name=name[:64])]

    def parse_window(self):
        """DuckDB's SQL of the start of a row's window, before 1970 as well."""
        (width,) = self.parser.listed(lambda: self.parser.expect_kind("duration"))
        width //= self.units
        if not 0 < width <= NANOSECONDS["d"] // self.units or not self.source.hidden:
            raise self.parser.refused(self.parser.tokens[0])
        return f"(c0 - ((c0 % {width}) + {width}) % {width})"

    def parse_clauses(self):
        parser = self.parser
        if parser.accept("where"):
            self.where = self.expression().sql
        if parser.accept("interval"):
            self.groups = self.order = [self.parse_window()]
        elif parser.accept("group", "by"):
            self.groups = [found.sql for found in self.several(self.expression)]
        if parser.accept("order", "by"):
            self.order = self.several(self.order_item)
        if parser.accept("limit"):
            self.limit = f"LIMIT {parser.expect_kind('int')}"
            self.limit += f" OFFSET {parser.expect_kind('int')}" if parser.accept("offset") else ""
            if self.groups and not self.order:
                raise parser.refused(parser.tokens[0])  # TDengine does not cut the groups then

    def order_item(self):
        sql = self.expression().sql
        if self.parser.accept("desc"):
            return f"{sql} DESC NULLS LAST"  # NULL is less than all else
        self.parser.accept("asc")
        return f"{sql} NULLS FIRST"

    def sql(self, table=None):
        """DuckDB's SQL; table: what to read instead of the source's own table."""
        text = f"SELECT {', '.join(item.sql for item in self.items)}"
        if not self.source:
            return text
        table, order = table or self.source.table, self.order
        if self.source.tags and any(name[0] in "gn" for name in self.used):
            table += f" JOIN {self.source.tags} USING (s)"
        where = " AND ".join(f"({condition})" for condition in (self.source.where, self.where) if condition)
        if not order and self.source.hidden and not (self.functions & AGGREGATES or self.groups):
            order = ["c0"]
        text += f" FROM {table}" + (where and f" WHERE {where}")
        if self.groups:
            text += f" GROUP BY {', '.join(self.groups)}"
        elif self.functions & AGGREGATES and "count" not in self.functions:
            text += " HAVING count(*) > 0"
        return text + (f" ORDER BY {', '.join(order)} " if order else " ") + self.limit

    # Expressions

    def expression(self):
        """An Expression, up to a comma or a word that begins something else. Values are put in parentheses."""
        parser, start, sql, depth, column = self.parser, self.parser.token, [], 0, None
        while not self.is_at_end(depth):
            if depth > DEEPEST or len(sql) > LONGEST:
                raise parser.refused(parser.tokens[0])
            if (moment := parser.time(self.now)) is not None:
                self.has_now, column = True, Column("", TIMESTAMP)
                sql.append(f"({moment // self.units}::BIGINT)")
                continue
            token = parser.next()
            if token.kind == "sign":
                is_star = token.value == "*" and sql[-2:] == ["count", "("]
                is_behind_value = sql and sql[-1].endswith(")")
                is_of_number = token.value in "+-" and not is_behind_value and parser.token.kind in ("int", "float")
                if not (token.value in SIGNS or is_star or is_of_number):
                    raise parser.refused(token)
                depth += {"(": 1, ")": -1}.get(token.value, 0)
                sql.append(token.value)
            elif token.kind == "word" and token.value in WORDS:
                sql.append(token.value.upper())
            elif token.kind == "word" and token.value == "as":
                target, sources = CASTS[parser.one_of(*CASTS)]
                if column and column.type.duck not in sources:
                    raise TDengineError(0x2802, "Invalid parameter data type : cast")
                sql.append(f"AS {target}")
            elif token.kind == "word" and parser.is_next("("):
                sql.append(self.function(token))
            elif token.kind in ("int", "float"):
                text = f"{token.value}::DOUBLE" if token.kind == "float" else str(token.value)
                sql.append(text if sql[-1:] in (["-"], ["+"]) else f"({text})")
            else:
                text, column = self.text(token, column) if token.kind == "text" else self.name(token)
                sql.append(f"({text})")
        if not sql or sql[-1] in SIGNS and sql[-1] != ")":
            raise parser.refused()
        name = lower_outside_quotes(parser.sql[start.start : parser.tokens[parser.at - 1].end])
        if len(sql) == 1 and column:
            return Expression(sql[0], column, column.name or name)
        if sql[0] in AGGREGATES - {"count"} and column and column.type in (TIMESTAMP, BOOL):
            raise TDengineError(0x2802, f"Invalid parameter data type : {sql[0]}")
        is_bytes = sql[0] == "cast" and "AS BLOB" in sql and column
        return Expression(" ".join(sql), Column("", VARBINARY, column.length) if is_bytes else None, name)

    def is_at_end(self, depth):
        token = self.parser.token
        ends = CLAUSES if token.kind == "word" else (",", ")") if token.kind == "sign" else ()
        return token.kind == "end" or not depth and token.value in ends

    def function(self, token):
        """DuckDB's name of a function, or the value of one that has no arguments."""
        if token.value == "server_version":
            self.parser.expect("(", ")")
            return f"({blob(STAND_IN.encode())})"
        if token.value not in AGGREGATES | {"cast"} or self.source and not self.source.hidden:
            raise self.parser.refused(token)
        self.functions.add(token.value)
        return token.value

    def text(self, token, column):
        """(DuckDB's SQL, Column) of a text; column: the one before it, whose type it has."""
        if column and column.type is TIMESTAMP:
            moment = literals.timestamp(token.value, self.precision)
            if moment is None:
                raise TDengineError(0x0127, "Invalid timestamp format")
            return f"{moment}::BIGINT", column
        if column and column.type is NCHAR:
            return "'" + token.value.encode(errors="replace").decode().replace("'", "''") + "'", column
        text = token.value.encode(errors="surrogateescape")
        return blob(text), column or Column("", VARCHAR, len(text))

    def name(self, token):
        """(DuckDB's SQL, Column) of a column."""
        if self.window and token.value == "_wstart":
            return self.window, Column("_wstart", TIMESTAMP)
        if token[:2] != ("word", "tbname"):
            self.parser.at -= 1
            self.parser.name()  # no reserved word
        found = self.source and (self.source.columns.get(token.value) or self.source.hidden.get(token.value))
        if not found:
            raise TDengineError(0x2602, f"Invalid column name: {token.value}")
        self.used.add(found[0])
        return found

    def columns(self, description):
        """The Columns of the result; description: of DuckDB's cursor."""
        columns = []
        for item, (_, duck, *_) in zip(self.items, description, strict=True):
            type = item.column.type if item.column else BY_DUCK.get(str(duck))
            if type is None:
                raise TDengineError(0x2802, "Invalid parameter data type")
            found = item.column or Column("", type, 0 if type.width else 65517)
            columns.append(found._replace(name=item.name))
        return columns


def run(session, parser):
    """The Result of a SELECT; the parser stands behind that word."""
    select = Select(session, parser)
    parser.end()
    try:
        with session.storage.cursor() as cursor:
            rows = cursor.execute(select.sql()).fetchall()
            columns = select.columns(cursor.description)
    except duckdb.BinderException as error:
        grouped = "GROUP BY" in str(error)
        codes = (0x260C, "Not a single-group group function") if grouped else (0x2802, "Invalid parameter data type")
        raise TDengineError(*codes) from None
    except (duckdb.ParserException, duckdb.DataError) as error:
        raise TDengineError(0x2600, f"syntax error for this {STAND_IN}: {str(error).splitlines()[0]}") from None
    return Result(columns, list(zip(*rows, strict=True)) or [()] * len(columns), select.precision)
