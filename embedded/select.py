"""SELECT: TDengine's SQL into DuckDB's. Only what means the same in both is let through."""

import time

import duckdb

from . import blocks
from .catalog import TBNAME, by_name, named
from .errors import STAND_IN, SYNTAX, TDengineError, refuse
from .sql import NANOSECONDS, lower_outside_quotes, nanoseconds
from .storage import blob
from .types import BIGINT, BOOL, BY_DUCK, PRECISIONS, TIMESTAMP, UNITS_PER_S, VARBINARY, VARCHAR, Column

ENDS = ("from", "where", "interval", "order", "limit", "as", "desc", ",", ")")
WORDS = ("and", "or", "not", "is", "null", "in", "between", "case", "when", "then", "else", "end")
SIGNS = ("=", "<>", "!=", "<", "<=", ">", ">=", "(", ")", ",")
CASTS = {"bigint": (TIMESTAMP, BIGINT), "varbinary": (VARCHAR, VARBINARY)}  # those that change no value
DEEPEST, LONGEST = 50, 4096  # parentheses in each other, words of an expression
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


class Select:
    """One SELECT, parsed. A value is a Column: `stored` is DuckDB's SQL, its type None where DuckDB finds it."""

    def __init__(self, session, parser):
        """The parser stands behind the word SELECT, or at FROM when there are no items, as in DELETE."""
        self.parser, self.now, self.found = parser, time.time_ns(), None
        self.items, self.used, self.functions = [], set(), set()
        self.where, self.window, self.order, self.limit = "true", "", [], ""
        self.source, self.precision = "(VALUES (0)) nothing", 0
        self.star, self.names, self.subtable = [], {}, {}  # what * stands for, what may be named, and by tbname
        start = parser.at
        while parser.token.kind not in ("end", "bad") and not parser.is_next("from"):
            parser.next()
        if parser.accept("from"):  # what it reads comes first: the items name its columns
            self.find_source(session, parser.table_name())
        self.units, after, parser.at = 10**9 // UNITS_PER_S[self.precision], parser.at, start
        if not parser.is_next("from"):
            self.items = sum(parser.several(self.item), [])
        if self.found:
            parser.expect("from")
            parser.at = after
            self.parse_clauses()

    def find_source(self, session, name):
        self.found = session.find(name)
        table, self.source = self.found.table, self.found.table.source
        self.precision, tags = table.database.precision, table.tags or []
        if self.found.is_subtable:
            self.where = f"n = {blob(name[1])}"
        self.star = [*table.columns, *tags] if self.found.is_stable else table.columns
        self.subtable = by_name([TBNAME if tags else TBNAME._replace(stored=blob(name[1]))])
        self.names = self.subtable | by_name([*table.columns, *tags])

    def item(self):
        """The Columns of an item of the list."""
        if self.found and self.parser.accept("*"):
            return self.star
        found = self.expression()
        name = self.parser.name() if self.parser.accept("as") else found.name
        return [found._replace(name=name[:64])]

    def parse_clauses(self):
        parser = self.parser
        if parser.accept("where"):
            self.where += f" AND ({self.expression().stored})"
        if parser.accept("interval"):
            (width,) = parser.listed(lambda: nanoseconds(parser.expect_kind("duration")) // self.units)
            parser.refuse(not 0 < width <= NANOSECONDS["d"] // self.units, parser.tokens[0])
            self.window = f"c0 - ((c0 % {width}) + {width}) % {width}"  # before 1970 as well
            return
        if parser.accept("order", "by"):
            self.order = parser.several(lambda: self.value().stored + " DESC" * parser.accept("desc"))
        if parser.accept("limit"):
            self.limit = f" LIMIT {parser.expect_kind('int')}"

    def read(self, storage, table=None, batch=None):
        """Its Result; table: what to read instead of the source, which may name the Arrow table `batch`."""
        table, order, group = table or self.source, self.order, ""
        if self.window:
            table, order, group = f"(SELECT *, {self.window} AS w FROM {table})", ["w"], " GROUP BY w"
        elif "sum" in self.functions:
            group = " HAVING count(*) > 0"
        elif not order and not self.functions and self.found:
            order = ["c0"]
        items, order = ", ".join(item.stored for item in self.items), order and f" ORDER BY {', '.join(order)}" or ""
        columns, sql = [], f"SELECT {items} FROM {table} WHERE {self.where}{group}{order}{self.limit}"
        try:
            with storage.cursor() as cursor:
                rows = cursor.execute(sql).fetchall()
                types = [BY_DUCK.get(str(type)) for _, type, *_ in cursor.description]
        except (duckdb.BinderException, duckdb.ParserException, duckdb.DataError) as error:
            raise TDengineError(SYNTAX, f"syntax error for this {STAND_IN}: {str(error).splitlines()[0]}") from None
        for item, type in zip(self.items, types, strict=True):
            columns.append(item if item.type else item._replace(type=type, length=0 if type.width else 65517))
        return Result(columns, list(zip(*rows, strict=True)) or [()] * len(columns), self.precision)

    # Expressions

    def expression(self):
        """Its Column, up to a comma or a word that begins something else."""
        parser, start, parts, depth, value = self.parser, self.parser.token.start, [], 0, None
        while depth or not (parser.token.kind in ("word", "sign") and parser.token.value in ENDS):
            token = parser.token
            if token.kind == "end":
                break
            parser.refuse(depth > DEEPEST or len(parts) > LONGEST, parser.tokens[0])
            if token.kind == "sign" and token.value not in "+-":
                parts.append(parser.one_of(*SIGNS))
                depth += {"(": 1, ")": -1}.get(token.value, 0)
            elif token.kind == "word" and token.value in WORDS:
                parts.append(parser.next().value)
            else:
                value = self.value()
                parts.append(f"({value.stored})")  # two values in a row are no SQL of DuckDB's, then
        parser.refuse(not parts or parts[-1] in SIGNS and parts[-1] != ")")
        name = lower_outside_quotes(parser.sql[start : parser.tokens[parser.at - 1].end])
        if len(parts) == 1 and value:
            return value._replace(name=value.name or name)
        return Column(name, None, stored=" ".join(parts))

    def value(self):
        """The Column of the value that comes next."""
        parser = self.parser
        moment = parser.time(self.now)
        if moment is not None:
            self.used.add("now")
            return Column("", TIMESTAMP, stored=f"{moment // self.units}::BIGINT")
        sign = parser.next().value if parser.is_next("-") or parser.is_next("+") else ""
        if sign or parser.token.kind in ("int", "float"):
            double = "::DOUBLE" if parser.token.kind == "float" else ""
            return Column("", None, stored=sign + parser.expect_kind("float" if double else "int") + double)
        if parser.token.kind == "word" and parser.tokens[parser.at + 1].value == "(":
            return self.function(parser.one_of("count", "sum", "cast", "server_version"))
        if parser.accept("_wstart"):
            return Column("_wstart", TIMESTAMP, stored="w")  # which DuckDB does not find without a window
        subtable = parser.accept("tbname")  # without back-quotes, also beside a column of that name
        column = named(self.subtable, "tbname") if subtable else named(self.names, parser.name())
        self.used.add(column.stored)
        return column

    def function(self, name):
        """The Column of a function, at its parenthesis."""
        parser = self.parser
        if parser.accept("(", ")") and name == "server_version":
            return Column("", VARCHAR, len(STAND_IN), stored=blob(STAND_IN))
        parser.expect("(")
        column = Column("", None, stored="*") if name == "count" and parser.accept("*") else self.value()
        if name == "cast":
            parser.expect("as")
            source, target = CASTS[parser.one_of(*CASTS)]
            refuse(column.type is not source, 0x2802, "Invalid parameter data type : cast")
            parser.expect(")")
            return column._replace(name="", type=target)
        parser.expect(")")
        if name == "sum" and not (column.type and column.type.dtype and column.type not in (BOOL, TIMESTAMP)):
            raise TDengineError(0x2802, "Invalid parameter data type : sum")
        parser.refuse(not self.found)
        self.functions.add(name)
        return Column("", None, stored=f"{name}({column.stored})")


def run(session, parser):
    """The Result of a SELECT; the parser stands behind that word."""
    if [token.value for token in parser.tokens[2:4]] == ["from", "information_schema"]:
        return run_system(session.storage.databases.values(), parser)
    select = Select(session, parser)
    parser.expect_kind("end")
    return select.read(session.storage)


def run_system(databases, parser):
    """SELECT column FROM information_schema.VIEW [WHERE column = 'text' [AND ..]], as our scripts ask.

    create_time is no time: a text that differs when a table was dropped and made again.
    """
    databases_view = [{"name": each.name, "precision": PRECISIONS[each.precision]} for each in databases]
    views = {"ins_databases": databases_view, "ins_stables": [], "ins_tables": []}
    for table in [table for database in databases for table in database.tables.values()]:
        of_table = {"db_name": table.database.name, "create_time": str(table.id)}
        views["ins_stables"] += [of_table | {"stable_name": table.name}] if table.tags else []
        names = table.subtables if table.tags else [table.name]
        views["ins_tables"] += [of_table | {"table_name": name} for name in names]
    wanted, word = parser.name(), "where"
    parser.expect("from", "information_schema", ".")
    rows = views[parser.one_of(*views)]
    while parser.accept(word):
        column, word = parser.name(), "and"
        parser.expect("=")
        text = parser.expect_kind("text")
        rows = [row for row in rows if row.get(column) == text]
    parser.expect_kind("end")
    refuse(any(wanted not in row for row in rows), 0x2602, f"Invalid column name: {wanted}")
    return Result([Column(wanted, VARCHAR, 192)], [[row[wanted].encode() for row in rows]])
