"""SELECT in TDengine's SQL into SELECT in DuckDB's, with the columns of its result."""

import dataclasses
import datetime

from . import sql, times
from .types import (
    BIGINT,
    BOOL,
    DOUBLE,
    FLOAT,
    STAND_IN,
    TIMESTAMP,
    UBIGINT,
    VARCHAR,
    Column,
    TDengineError,
)

AGGREGATES = frozenset(["count", "sum", "avg", "min", "max", "first", "last", "last_row"])
ONE_ROW = frozenset(
    ["min", "max", "first", "last", "last_row"]
)  # beside one of these TDengine allows columns, we don't
WINDOW = {"_wstart", "_wend", "_wduration"}
LONGEST_TEXT = 65517  # bytes, the n of the longest VARCHAR(n)
COMPARISONS = frozenset(("=", "<>", "<", "<=", ">", ">="))


@dataclasses.dataclass
class Typed:
    """An expression in DuckDB's SQL. constant: the value of a literal, or of a time that is known already."""

    sql: str
    type: object
    length: int = 0
    constant: object = None


@dataclasses.dataclass
class Source:
    """What stands behind FROM.

    columns: {name: (DuckDB's SQL, Column)}, in the order of SELECT *; hidden: more names that may be asked for by name.
    tags_from: what to join when a tag or tbname is asked for. where: a condition that always applies.
    tags_only: what to read when nothing but distinct tags is asked for; subtables without rows have them, too.
    """

    columns: dict
    hidden: dict
    from_sql: str
    precision: int = 0
    time: str | None = None  # name of the first column
    tags_from: str = ""
    tags_only: str = ""
    where: str = ""
    order: str = ""
    has_star: bool = True


@dataclasses.dataclass
class Plan:
    sql: str
    columns: list
    precision: int
    rows_at_most: int | None  # None when nobody knows


def quote(text):
    return "'" + text.replace("'", "''") + "'"


class Planner:
    """Plans one SELECT. session gives database (or None) and zone."""

    def __init__(self, parser, source, database, zone):
        self.parser, self.source, self.database, self.zone = parser, source, database, zone
        self.precision = source.precision if source else 0
        self.now = times.now(self.precision)
        self.groups, self.inside_aggregate, self.grouping = {}, False, False
        self.needs_tags, self.needs_rows, self.rows_only = False, False, False
        self.names = set()  # what may stand before a column's name: the table or its alias
        self.window = None  # SQL of _wstart, _wend, _wduration inside INTERVAL

    def unsupported(self, token):
        return self.parser.unsupported(token)

    # The whole

    def plan(self, select):
        items = self.expand(select.items)
        where = self.plan_where(select.where) if select.where is not None else ""
        aggregates = [call for item in items for call in find_aggregates(item.expression)]
        order_aggregates = [call for expression, _, _ in select.order_by for call in find_aggregates(expression)]
        names = {call.name for call in aggregates}
        self.check_clauses(select, aggregates)
        if aggregates and names == {"last_row"} and not (select.group_by or select.partition_by or select.interval):
            return self.plan_last_row(select, items, where)
        self.plan_groups(select)
        if aggregates and not self.groups:
            self.check_single_group(items, names, aggregates)
        self.grouping = bool(aggregates or order_aggregates or self.groups)
        typed = [self.expression(item.expression) for item in items]
        columns = [self.result_column(item, value) for item, value in zip(items, typed, strict=True)]
        order = self.plan_order(select, items, typed)
        parts = ["SELECT", "DISTINCT" * select.distinct, ", ".join(value.sql for value in typed)]
        parts += self.from_and_where(where, select.distinct and not self.grouping)
        if self.groups:
            parts.append("GROUP BY " + ", ".join(self.groups))
        elif self.grouping and "count" not in names:
            parts.append("HAVING count(*) > 0")
        limit, offset = select.limit, select.offset
        if limit is not None and select.group_by and not select.order_by and limit > 0:
            limit = None  # TDengine limits each group then, and each has one row
            if offset:
                raise self.unsupported(select.group_by[0].token)
        if limit is not None and select.partition_by and not select.order_by:
            raise self.unsupported(select.partition_by[0].token)
        if order:
            parts.append("ORDER BY " + order)
        if limit is not None:
            parts.append(f"LIMIT {min(limit, 2**62)} OFFSET {min(offset, 2**62)}")
        most = 1 if self.grouping and not self.groups or self.source is None else limit
        return Plan(" ".join(filter(None, parts)), columns, self.precision, most)

    def check_clauses(self, select, aggregates):
        if select.interval and select.group_by:
            raise TDengineError(0x2614, "GROUP BY and WINDOW-clause can't be used together")
        if select.interval and not aggregates:
            raise self.unsupported(select.interval[0].token)
        if select.partition_by and not (aggregates or select.interval):
            raise self.unsupported(select.partition_by[0].token)
        if select.interval and self.source.time is None:
            raise self.unsupported(select.interval[0].token)

    def plan_last_row(self, select, items, where):
        """last_row() of columns is just the newest row, which is found much faster."""
        self.rows_only = True
        typed = [self.expression(item.expression) for item in items]
        if any(not find_aggregates(item.expression) and not is_constant(item.expression) for item in items):
            raise self.unsupported(items[0].expression.token)
        columns = [self.result_column(item, value) for item, value in zip(items, typed, strict=True)]
        if self.source.time is None or select.order_by or select.distinct:
            raise self.unsupported(items[0].expression.token)
        time_sql = self.source.columns[self.source.time][0]
        parts = ["SELECT", ", ".join(value.sql for value in typed), *self.from_and_where(where)]
        text = " ".join(filter(None, parts)) + f" ORDER BY {time_sql} DESC LIMIT 1"
        if select.limit is not None:
            text = f"SELECT * FROM ({text}) LIMIT {min(select.limit, 2**62)} OFFSET {min(select.offset, 2**62)}"
        return Plan(text, columns, self.precision, 1)

    def plan_where(self, where):
        if find_aggregates(where):
            raise TDengineError(0x2608, "There mustn't be aggregation")
        return self.boolean(where).sql

    def from_and_where(self, where, tags_will_do=False):
        source = self.source
        if source is None:
            return []
        if tags_will_do and self.needs_tags and not self.needs_rows and source.tags_only:
            parts = ["FROM " + source.tags_only]
        else:
            parts = ["FROM " + source.from_sql + (source.tags_from if self.needs_tags else "")]
        conditions = [f"({text})" for text in (source.where, where) if text]
        if conditions:
            parts.append("WHERE " + " AND ".join(conditions))
        return parts

    def expand(self, items):
        """Puts the columns in the place of every *."""
        expanded = []
        for item in items:
            expression = item.expression
            if isinstance(expression, sql.Star):
                self.check_table(expression.table, expression.token)
                if self.source is None or not self.source.has_star:
                    raise self.unsupported(expression.token)
                for name in self.source.columns:
                    expanded.append(sql.Item(sql.ColumnRef(name, None, expression.token), None, name))
            elif (
                isinstance(expression, sql.Call)
                and expression.name in ("first", "last", "last_row")
                and len(expression.arguments) == 1
                and isinstance(expression.arguments[0], sql.Star)
            ):
                if self.source is None or not self.source.has_star or item.alias:
                    raise self.unsupported(expression.token)
                for name, (_, column) in self.source.columns.items():
                    if not column.is_tag:
                        reference = sql.ColumnRef(name, None, expression.token)
                        call = sql.Call(expression.name, [reference], expression.token)
                        expanded.append(sql.Item(call, f"{expression.name}({name})", ""))
            else:
                expanded.append(item)
        return expanded

    def check_table(self, name, token):
        if name is not None and (self.source is None or name not in self.names):
            raise TDengineError(0x2603, "Table does not exist")

    def result_column(self, item, value):
        expression = item.expression
        if item.alias is not None:
            name = item.alias
        elif isinstance(expression, sql.ColumnRef):
            name = expression.name
        elif isinstance(expression, sql.Literal) and expression.kind == "text":
            name = expression.value[:64]
            if item.text[:1] in "'\"":
                name = item.text[:64]
        else:
            name = sql.lower_outside_quotes(item.text)[:64]
        return Column(name, value.type, value.length)

    # Groups and windows

    def plan_groups(self, select):
        for expression in (*select.group_by, *select.partition_by):
            if find_aggregates(expression):
                raise self.unsupported(expression.token)
            self.groups[self.expression(expression).sql] = None
        if select.interval:
            width, offset = select.interval
            if width.unit in "nyw" or self.zone is not datetime.UTC and width.unit == "d":
                raise self.unsupported(width.token)
            units = times.span(width.count, width.unit, self.precision)
            shift = times.span(offset.count, offset.unit, self.precision) if offset else 0
            if not 0 < units < 2**60 or shift >= units or offset and offset.unit in "ny":
                raise self.unsupported(width.token)
            time_sql = self.source.columns[self.source.time][0]
            start = f"(({time_sql} - {shift}) // {units} * {units} + {shift})"
            self.window = {"_wstart": start, "_wend": f"({start} + {units})", "_wduration": f"({start} * 0 + {units})"}
            self.groups[start] = None

    def check_single_group(self, items, names, aggregates):
        """A plain column beside an aggregate."""
        for item in items:
            loose = find_loose_columns(item.expression)
            if not loose:
                continue
            for reference in loose:
                self.expression(reference)  # is it a column at all?
            if names <= ONE_ROW and len(aggregates) == 1 or all(self.is_tag(reference) for reference in loose):
                raise self.unsupported(loose[0].token)
            raise TDengineError(0x260C, "Not a single-group group function")

    def is_tag(self, reference):
        if reference.name in self.source.hidden:
            return True
        return reference.name in self.source.columns and self.source.columns[reference.name][1].is_tag

    def plan_order(self, select, items, typed):
        terms = []
        for expression, descending, nulls_first in select.order_by:
            value = self.order_value(expression, items, typed)
            if value is None:
                continue
            if select.distinct and not value.isdigit():
                raise TDengineError(0x260B, "Not SELECTed expression")
            first = (not descending) if nulls_first is None else nulls_first
            terms.append(f"{value} {'DESC' if descending else 'ASC'} NULLS {'FIRST' if first else 'LAST'}")
        if terms or self.source is None or select.distinct:
            return ", ".join(terms)
        if select.interval:
            return ", ".join(self.groups)
        return "" if self.grouping else self.source.order

    def order_value(self, expression, items, typed):
        """DuckDB's position of a selected item, or its SQL; None for what makes no difference."""
        if isinstance(expression, sql.Literal):
            if expression.kind == "int":
                if not 1 <= expression.value <= len(items):
                    raise TDengineError(0x2609, "ORDER BY item must be the number of a SELECT-list expression")
                return str(expression.value)
            return None
        if isinstance(expression, sql.ColumnRef) and expression.table is None:
            for k, item in enumerate(items):
                if item.alias == expression.name:
                    return str(k + 1)
        value = self.expression(expression)
        for k, selected in enumerate(typed):
            if selected.sql == value.sql:
                return str(k + 1)
        return value.sql

    # Expressions

    def expression(self, node):
        """The Typed of an expression."""
        if self.grouping and not self.inside_aggregate and self.groups and not isinstance(node, sql.Literal):
            self.grouping = False
            try:
                value = None if find_aggregates(node) else self.expression(node)
            finally:
                self.grouping = True
            if value is not None and value.sql in self.groups:
                return value
        if isinstance(node, sql.Literal):
            return self.literal(node)
        if isinstance(node, sql.ColumnRef):
            return self.column(node)
        if isinstance(node, sql.Call):
            return self.call(node)
        if isinstance(node, sql.Cast):
            return self.cast(node)
        if isinstance(node, sql.Operation):
            return self.operation(node)
        raise self.unsupported(node.token)

    def literal(self, node):
        if node.kind == "int":
            type = BIGINT if -(2**63) <= node.value < 2**63 else UBIGINT
            if node.value >= 2**64 or node.value < -(2**63):
                raise self.unsupported(node.token)
            return Typed(f"{node.value}::{type.duck}", type, constant=node.value)
        if node.kind == "float":
            return Typed(f"{node.value!r}::DOUBLE", DOUBLE, constant=node.value)
        if node.kind == "text":
            if len(node.value.encode()) > LONGEST_TEXT:
                raise self.unsupported(node.token)
            return Typed(quote(node.value), VARCHAR, len(node.value.encode()), node.value)
        if node.kind == "bool":
            return Typed(str(node.value).lower(), BOOL, constant=node.value)
        if node.kind == "null":
            return Typed("NULL::BOOLEAN", BOOL)
        raise self.unsupported(node.token)

    def column(self, node):
        self.check_table(node.table, node.token)
        if node.name in WINDOW:
            return self.window_column(node)
        if self.source is None:
            raise TDengineError(0x2602, f"Invalid column name: {node.name}")
        found = self.source.columns.get(node.name) or self.source.hidden.get(node.name)
        if found is None:
            raise TDengineError(0x2602, f"Invalid column name: {node.name}")
        text, column = found
        if self.grouping and not self.inside_aggregate:
            raise TDengineError(0x260A, "Not a GROUP BY expression")
        if column.is_tag and self.source.tags_from:
            self.needs_tags = True
        else:
            self.needs_rows = True
        return Typed(text, column.type, column.length)

    def window_column(self, node):
        if self.window is None:
            raise self.unsupported(node.token)
        return Typed(self.window[node.name], BIGINT if node.name == "_wduration" else TIMESTAMP)

    def call(self, node):
        name, arguments = node.name, node.arguments
        if name in AGGREGATES:
            return self.aggregate(node)
        if name == "now" and not arguments:
            return Typed(f"{self.now}::BIGINT", TIMESTAMP, constant=self.now)
        if name == "today" and not arguments:
            midnight = times.today(self.precision, self.zone)
            return Typed(f"{midnight}::BIGINT", TIMESTAMP, constant=midnight)
        if name == "database" and not arguments:
            text = "NULL::VARCHAR" if self.database is None else quote(self.database)
            return Typed(text, VARCHAR, len((self.database or "x" * 63).encode()))
        if name == "server_version" and not arguments:
            return Typed(quote(STAND_IN), VARCHAR, len(STAND_IN))
        if name in ("upper", "lower") and len(arguments) == 1:
            value = self.expression(arguments[0])
            if not value.type.is_text:
                raise TDengineError(0x2802, f"Invalid parameter data type : {name}")
            letters = ("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            old, new = letters if name == "upper" else letters[::-1]
            return Typed(f"translate({value.sql}, '{old}', '{new}')", value.type, value.length)
        if name in sql.FUNCTIONS_OF_TDENGINE:
            raise self.unsupported(node.token)
        raise TDengineError(0x0374, "Func not exists")

    def aggregate(self, node):
        name, arguments = node.name, node.arguments
        if self.inside_aggregate:
            raise TDengineError(0x2615, "Aggregate functions do not support nesting")
        if len(arguments) != 1:
            if name in ("first", "last", "last_row") and arguments:
                raise self.unsupported(node.token)
            raise TDengineError(0x2801, f"Invalid number of parameters : {name}")
        if self.source is None:
            raise self.unsupported(node.token)
        if isinstance(arguments[0], sql.Star):
            if name != "count":
                raise self.unsupported(node.token)
            return Typed("count(*)", BIGINT)
        self.inside_aggregate = True
        try:
            value = self.expression(arguments[0])
        finally:
            self.inside_aggregate = False
        if isinstance(arguments[0], sql.Literal):
            raise self.unsupported(node.token)
        type = value.type
        if name == "count":
            return Typed(f"count({value.sql})", BIGINT)
        if (
            name in ("sum", "avg")
            and not type.is_number
            or name in ("min", "max")
            and not (type.is_number or type.is_text)
        ):
            raise TDengineError(0x2802, f"Invalid parameter data type : {name}")
        if name == "sum":
            result = DOUBLE if type.is_float else UBIGINT if type.name.endswith("UNSIGNED") else BIGINT
            return Typed(f"CAST(sum({value.sql}) AS {result.duck})", result)
        if name == "avg":
            return Typed(f"avg(CAST({value.sql} AS DOUBLE))", DOUBLE)
        if name in ("min", "max"):
            return Typed(f"{name}({value.sql})", type, value.length)
        if self.rows_only:
            return Typed(value.sql, type, value.length)
        if self.source.time is None:
            raise self.unsupported(node.token)
        function = {"first": "arg_min", "last": "arg_max", "last_row": "arg_max_null"}[name]
        return Typed(f"{function}({value.sql}, {self.source.columns[self.source.time][0]})", type, value.length)

    def cast(self, node):
        value, target = self.expression(node.expression), node.column
        source = value.type
        if target.type.is_text and source.is_text:
            if target.type is VARCHAR and not (value.constant or "").isascii() or value.constant is None:
                raise self.unsupported(node.token)
            return Typed(f"substr({value.sql}, 1, {target.length})", target.type, target.length)
        if target.type is BIGINT and (source.is_integer or source in (TIMESTAMP, BOOL)):
            return Typed(f"CAST({value.sql} AS BIGINT)", BIGINT)
        if target.type is BIGINT and source.is_float:
            return Typed(f"CAST(trunc({value.sql}) AS BIGINT)", BIGINT)
        if target.type is DOUBLE and (source.is_number or source is BOOL):
            return Typed(f"CAST({value.sql} AS DOUBLE)", DOUBLE)
        if target.type is TIMESTAMP and source in (BIGINT, TIMESTAMP):
            return Typed(value.sql, TIMESTAMP, constant=value.constant)
        raise self.unsupported(node.token)

    def operation(self, node):
        operator = node.operator
        if operator in ("and", "or"):
            left, right = (self.boolean(operand) for operand in node.operands)
            return Typed(f"({left.sql} {operator.upper()} {right.sql})", BOOL)
        if operator == "not":
            return Typed(f"(NOT {self.boolean(node.operands[0]).sql})", BOOL)
        if operator in ("is null", "is not null"):
            return Typed(f"({self.expression(node.operands[0]).sql} {operator.upper()})", BOOL)
        if operator == "neg":
            value = self.expression(node.operands[0])
            if not value.type.is_number:
                raise self.unsupported(node.token)
            return Typed(f"(-CAST({value.sql} AS DOUBLE))", DOUBLE)
        if operator in ("+", "-", "*", "/", "%"):
            return self.arithmetic(node)
        if operator in COMPARISONS:
            left, right = self.comparable(node, *node.operands)
            return Typed(f"({left} {operator} {right})", BOOL)
        if operator in ("between", "not between"):
            low, high = node.operands[1], node.operands[2]
            first, low_sql = self.comparable(node, node.operands[0], low)
            second, high_sql = self.comparable(node, node.operands[0], high)
            negation = "NOT " if operator.startswith("not") else ""
            return Typed(f"({negation}({first} >= {low_sql} AND {second} <= {high_sql}))", BOOL)
        if operator in ("in", "not in"):
            pairs = [self.comparable(node, node.operands[0], choice) for choice in node.operands[1:]]
            negation = "NOT " if operator.startswith("not") else ""
            return Typed(f"({negation}(" + " OR ".join(f"{left} = {right}" for left, right in pairs) + "))", BOOL)
        value, pattern = (self.expression(operand) for operand in node.operands)
        if not value.type.is_text or not isinstance(pattern.constant, str):
            raise self.unsupported(node.token)
        like = operator.upper().replace("LIKE", "ILIKE")  # TDengine's LIKE takes no notice of case
        return Typed(f"({value.sql} {like} {pattern.sql} ESCAPE '\\')", BOOL)

    def boolean(self, node):
        value = self.expression(node)
        if value.type is not BOOL or isinstance(node, sql.Literal):
            raise self.unsupported(node.token)
        return value

    def arithmetic(self, node):
        operator = node.operator
        left, right = node.operands
        if isinstance(right, sql.Duration) or operator == "+" and isinstance(left, sql.Duration):
            time, duration = (left, right) if isinstance(right, sql.Duration) else (right, left)
            return self.shift(node, self.expression(time), duration)
        left, right = self.expression(left), self.expression(right)
        for one, other in ((left, right), (right, left)):
            if one.type is TIMESTAMP and isinstance(other.constant, str):
                raise TDengineError(0x0200, "Invalid operation")
        if left.type is TIMESTAMP and right.type is TIMESTAMP and operator == "-":
            return Typed(f"({left.sql} - {right.sql})", BIGINT)
        if TIMESTAMP in (left.type, right.type):
            number = right if left.type is TIMESTAMP else left
            if operator not in "+-" or not number.type.is_integer or operator == "-" and right.type is TIMESTAMP:
                raise self.unsupported(node.token)
            constant = None
            if left.constant is not None and right.constant is not None:
                constant = left.constant + (right.constant if operator == "+" else -right.constant)
                return Typed(f"{constant}::BIGINT", TIMESTAMP, constant=constant)
            return Typed(f"({left.sql} {operator} {right.sql})", TIMESTAMP)
        for value in (left, right):
            if not value.type.is_number:
                raise self.unsupported(node.token)
        one, other = (f"CAST({value.sql} AS DOUBLE)" for value in (left, right))
        if operator in "/%":
            other = f"nullif({other}, 0)"
        return Typed(f"({one} {operator} {other})", DOUBLE)

    def shift(self, node, time, duration):
        if time.type is not TIMESTAMP:
            raise self.unsupported(node.token)
        count = -duration.count if node.operator == "-" else duration.count
        if time.constant is not None:
            moment = times.shifted(time.constant, count, duration.unit, self.precision, self.zone)
            return Typed(f"{moment}::BIGINT", TIMESTAMP, constant=moment)
        if duration.unit in "ny":
            raise self.unsupported(duration.token)
        amount = times.span(duration.count, duration.unit, self.precision)
        return Typed(f"({time.sql} {node.operator} {amount})", TIMESTAMP)

    def comparable(self, node, left, right):
        """SQL of two operands, made comparable as TDengine does it."""
        left, right = self.expression(left), self.expression(right)
        return self.made_like(node, left, right), self.made_like(node, right, left)

    def made_like(self, node, value, other):
        """value's SQL when it is compared with other."""
        if value.type is other.type:
            return value.sql
        if isinstance(value.constant, str):
            if other.type is TIMESTAMP:
                moment = times.from_text(value.constant, self.precision, self.zone)
                if moment is None:
                    raise TDengineError(0x0127, "Invalid timestamp format")
                return f"{moment}::BIGINT"
            if other.type.is_text:
                return value.sql
            try:
                number = float(value.constant) if other.type.is_number else None
            except ValueError:
                number = None
            if number is None or number != number:
                raise self.unsupported(node.token)
            return f"{number!r}::DOUBLE"
        if (
            value.type.is_text != other.type.is_text
            and not isinstance(other.constant, str)
            and not (value.sql == "NULL::BOOLEAN" or other.sql == "NULL::BOOLEAN")
        ):
            raise self.unsupported(node.token)
        if value.sql == "NULL::BOOLEAN":
            return "NULL"
        if value.constant is not None and other.type is FLOAT and value.type.is_number:
            return f"CAST({value.sql} AS FLOAT)"  # TDengine compares in the column's type
        if value.type is BOOL and other.type is not BOOL:
            return f"CAST({value.sql} AS TINYINT)"
        return value.sql


def children(node):
    if isinstance(node, sql.Operation):
        return node.operands
    if isinstance(node, sql.Call):
        return node.arguments
    return [node.expression] if isinstance(node, sql.Cast) else []


def find_aggregates(node):
    """Calls of aggregate functions, outermost first."""
    found = [node] if isinstance(node, sql.Call) and node.name in AGGREGATES else []
    for child in children(node):
        found += find_aggregates(child)
    return found


def find_loose_columns(node):
    """Columns outside of aggregates."""
    if isinstance(node, sql.Call) and node.name in AGGREGATES:
        return []
    if isinstance(node, sql.ColumnRef) and node.name not in WINDOW:
        return [node]
    return [found for child in children(node) for found in find_loose_columns(child)]


def is_constant(node):
    return not find_loose_columns(node) and not find_aggregates(node)
