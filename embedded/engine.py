"""Statements carried out: what a session asks for, from SQL text to rows stored or blocks of a result."""

import datetime
import threading

import duckdb
import numpy as np

from . import literals, protocol, sql, times
from .select import Planner, Source, find_loose_columns, quote
from .storage import Rows, Subtable, Table
from .types import (
    BIGINT,
    INT,
    PRECISIONS,
    TIMESTAMP,
    UNITS_PER_S,
    VARBINARY,
    VARCHAR,
    Column,
    TDengineError,
)

ROWS_PER_BLOCK = 4096
STREAMED_FROM = 100_000  # results that may be larger are read from DuckDB piece by piece
TBNAME = Column("tbname", VARCHAR, 270, True)
SYSTEM_DATABASES = ("information_schema", "performance_schema")
PRECISION_NAMES = {number: name for name, number in PRECISIONS.items()}


class Result:
    """A result set: columns, precision, and its rows in blocks, from arrays or piece by piece from a cursor."""

    def __init__(self, columns, precision, arrays=None, cursor=None):
        self.columns, self.precision = columns, precision
        self.arrays, self.cursor, self.at = arrays, cursor, 0
        self.lock, self.closed = threading.Lock(), False
        self.first = self.make_block()  # at once: most results have no more

    def next_block(self):
        """The next raw block, or None at the end."""
        with self.lock:
            if self.first is not None:
                block, self.first = self.first, None
                return block
            block = None if self.closed else self.make_block()
        if block is None or self.closed:
            self.close()
        return block

    def make_block(self):
        arrays = self.next_arrays()
        return None if arrays is None else protocol.encode_block(self.columns, arrays)

    def next_arrays(self):
        if self.cursor is None:
            part = slice(self.at, self.at + ROWS_PER_BLOCK)
            self.at += ROWS_PER_BLOCK
            arrays = [array[part] for array in self.arrays]
            return arrays if len(arrays[0]) else None
        rows = self.cursor.fetchmany(ROWS_PER_BLOCK)
        if not rows:
            return None
        return [
            list_to_array(column, values) for column, values in zip(self.columns, zip(*rows, strict=True), strict=True)
        ]

    def close(self):
        """A thread that is reading just now closes the cursor itself afterwards."""
        self.closed = True
        if self.lock.acquire(blocking=False):
            self.cursor = self.first = None
            self.arrays = [()]
            self.lock.release()


def list_to_array(column, values):
    if column.type.width == 0:
        return list(values)
    mask = [value is None for value in values]
    if not any(mask):
        return np.array(values, column.type.dtype)
    filled = np.array([0 if value is None else value for value in values], column.type.dtype)
    return np.ma.masked_array(filled, mask)


def numpy_to_arrays(columns, found):
    """DuckDB's fetchnumpy() as the arrays that protocol.encode_block takes."""
    arrays = []
    for column, array in zip(columns, found, strict=True):
        if column.type.width:
            arrays.append(array if array.dtype == column.type.dtype else retyped(array, column.type.dtype))
        elif column.type is VARBINARY:  # which DuckDB gives as bytearrays
            arrays.append([value if value is None else bytes(value) for value in array.tolist()])
        else:
            arrays.append(array.tolist())
    return arrays


def retyped(array, dtype):
    """An array of objects when all is NULL, or of another width."""
    mask = np.ma.getmaskarray(array)
    values = np.ma.getdata(array)
    if values.dtype == np.object_ or mask.all():
        values = np.zeros(len(values), dtype) if mask.all() else values
    return np.ma.masked_array(values.astype(dtype), mask)


class Session:
    """One client's connection: its current database, its time zone, and the statements it sends."""

    def __init__(self, storage):
        self.storage, self.database, self.zone = storage, None, datetime.UTC

    def execute(self, text):
        """Rows affected (int), or a Result."""
        statement, parser = sql.parse(text)
        return self.run(statement, parser)

    def run(self, statement, parser):
        try:
            return getattr(self, "do_" + type(statement).__name__.lower())(statement, parser)
        except RecursionError:
            raise parser.unsupported(parser.tokens[0]) from None
        except duckdb.CatalogException:  # dropped meanwhile
            raise TDengineError(0x2603, "Table does not exist") from None
        except duckdb.FatalException:
            self.storage.broken = True
            raise

    # Names

    def database_of(self, name, missing=(0x2616, "Database not specified")):
        database = name.database or self.database
        if database is None:
            raise TDengineError(*missing)
        return self.storage.database(database)

    def table_of(self, name, missing=(0x2616, "Database not specified")):
        """The Table or Subtable; errors without any prefix, as in INSERT and DESCRIBE."""
        found = self.database_of(name, missing).tables.get(name.table)
        if found is None:
            raise TDengineError(0x2603, "Table does not exist")
        return found

    # Databases and tables

    def do_createdatabase(self, statement, _):
        if statement.name in SYSTEM_DATABASES:
            raise TDengineError(0x0381, "Database already exists")
        with self.storage.lock:
            if not (statement.if_not_exists and statement.name in self.storage.databases):
                self.storage.create_database(statement.name, statement.precision, statement.keep_ms)
        return 0

    def do_use(self, statement, _):
        if statement.name not in SYSTEM_DATABASES:
            self.storage.database(statement.name)
        self.database = statement.name
        return 0

    def do_drop(self, statement, _):
        name = statement.name
        if statement.what == "topic":
            self.storage.topics.drop(name.table, statement.if_exists)
            return 0
        with self.storage.lock:
            if statement.what == "database":
                if not (statement.if_exists and name.table not in self.storage.databases):
                    self.storage.topics.refuse_drop(name.table)
                    self.storage.drop_database(name.table)
                return 0
            database = self.database_of(name)
            found = database.tables.get(name.table)
            if statement.what == "stable" and not (isinstance(found, Table) and found.tags is not None):
                if statement.if_exists and found is None:
                    return 0
                raise TDengineError(0x0362, "STable not exist")
            if not (statement.if_exists and found is None):
                if isinstance(found, Table) and found.tags is not None:
                    self.storage.topics.refuse_drop(database.name, found)
                self.storage.drop_table(database, name.table)
        return 0

    def do_createtable(self, statement, _):
        check_columns(statement.columns, statement.tags)
        with self.storage.lock:
            database = self.database_of(statement.name)
            if not (statement.if_not_exists and statement.name.table in database.tables):
                tags = statement.tags and [Column(tag.name, tag.type, tag.length, True) for tag in statement.tags]
                self.storage.create_table(database, statement.name.table, statement.columns, tags)
        return 0

    def do_createsubtable(self, statement, parser):
        with self.storage.lock:
            database = self.database_of(statement.name)
            stable = self.stable_of(statement.using, parser)
            tags = self.tag_values(statement.using, stable, parser)
            if statement.name.table in database.tables:
                if statement.if_not_exists:
                    return 0
                raise TDengineError(0x0603, "Table already exists")
            subtable = self.new_subtable(stable, statement.name.table)
            self.storage.write([], [(subtable, tags)])
        return 0

    def stable_of(self, using, parser):
        found = self.table_of(using.stable)
        if not isinstance(found, Table) or found.tags is None:
            raise parser.unsupported(using.stable.token)
        return found

    def new_subtable(self, stable, name):
        """A Subtable with a number of its own, which Storage.write() stores."""
        with self.storage.lock:
            stable.last_subtable += 1
            return Subtable(stable.last_subtable, stable, name)

    def tag_values(self, using, stable, parser):
        """All tags of a new subtable, in the supertable's order; NULL where USING names no value."""
        columns = stable.tags if using.tags is None else [tag_named(stable, token) for token in using.tags]
        *values, end = using.values
        if len(values) != len(columns):
            raise TDengineError(0x260D, "Tags number not matched")
        precision, found = stable.database.precision, {}
        for column, value in zip(columns, values, strict=True):
            found[column.name] = literals.convert(parser, value, column, precision, self.zone)
            if column.type.width == 0:
                column.check_length([found[column.name]])
        return [found.get(column.name) for column in stable.tags]

    # Rows in

    def do_insert(self, statement, parser):
        if any(name is None for name, *_ in statement.targets):
            raise TDengineError(0x0216, "syntax error near '?' (? only used in stmt)")
        while True:
            # without the lock, as it takes long for many rows
            found, rows_of_tables, new = self.plan_insert(statement, parser)
            with self.storage.lock:
                if all(self.is_still(*each) for each in found):  # else made or dropped meanwhile
                    return self.storage.write(rows_of_tables, new)

    def is_still(self, database, name, table):
        return self.storage.databases.get(database.name) is database and database.tables.get(name) is table

    def plan_insert(self, statement, parser):
        """([(database, name, table that was found or None)], [Rows], [(new Subtable, its tags)])."""
        targets, plans, new = [], {}, {}
        for name, using, column_tokens, rows, after_name in statement.targets:
            database = self.database_of(name, (0x0200, "db is not specified"))
            found = database.tables.get(name.table)
            targets.append((database, name.table, found))
            if found is None and using is not None:
                stable = self.stable_of(using, parser)
                found = new.get((stable.id, name.table), (None,))[0]
                tags = self.tag_values(using, stable, parser)
                if found is None:
                    found = self.new_subtable(stable, name.table)
                    new[stable.id, name.table] = (found, tags)
            if found is None:
                raise TDengineError(0x2603, "Table does not exist")
            if isinstance(found, Table) and found.tags is not None:
                reason = "(...tbname, ts...) bounded cols is expected for supertable insertion"
                rest = sql.lower_outside_quotes(parser.sql[after_name : after_name + sql.LONGEST_REST])
                raise TDengineError(0x0216, f"syntax error near '{rest}' ({reason})")
            table = found if isinstance(found, Table) else found.stable
            indices = bound_columns(table, column_tokens, parser)
            merged = plans.setdefault((table.database.name, table.name, tuple(indices)), (table, {}))[1]
            subtable_id = None if isinstance(found, Table) else found.id
            self.merge_rows(merged, subtable_id, table, indices, rows, parser)
        if len({key[:2] for key in plans}) != len(plans):
            raise parser.unsupported(parser.tokens[0])  # one table with different lists of columns
        rows_of_tables = []
        for (_, _, indices), (table, merged) in plans.items():
            columns = [table.columns[index] for index in indices]
            arrays = [
                list_to_array(column, values)
                for column, values in zip(columns, zip(*merged.values(), strict=True), strict=True)
            ]
            check_rows(table, indices, arrays)
            subtables = None
            if table.tags is not None:
                subtables = np.array([subtable for subtable, _ in merged], np.int32)
            rows_of_tables.append(Rows(table, subtables, list(indices), arrays))
        return targets, rows_of_tables, list(new.values())

    def merge_rows(self, merged, subtable_id, table, indices, rows, parser):
        """Adds rows to {(subtable, time): values}; within one statement a NULL does not replace an earlier value."""
        columns, precision = [table.columns[index] for index in indices], table.database.precision
        time_at = indices.index(0)
        for *values, end in rows:
            if len(values) < len(columns):
                raise parser.insert_error(end, ", expected")
            if len(values) > len(columns):
                raise parser.insert_error(values[len(columns)].token, ") expected")
            converted = [
                literals.convert(parser, value, column, precision, self.zone)
                for value, column in zip(values, columns, strict=True)
            ]
            if converted[time_at] is None:
                raise parser.insert_error(values[time_at].token, "Primary timestamp column should not be null")
            for column, value in zip(columns, converted, strict=True):
                if column.type.width == 0:
                    column.check_length([value])
            key = subtable_id, converted[time_at]
            earlier = merged.get(key)
            if earlier is not None:
                converted = [old if value is None else value for value, old in zip(converted, earlier, strict=True)]
            merged[key] = converted

    def do_delete(self, statement, parser):
        with self.storage.lock:
            found = self.table_of(statement.name)
            table = found.stable if isinstance(found, Subtable) else found
            condition = f"r.s = {found.id}" if isinstance(found, Subtable) else "true"
            if statement.where is not None:
                if any(column.name != table.columns[0].name for column in find_loose_columns(statement.where)):
                    raise TDengineError(0x2654, "The DELETE statement must only have a definite time window range")
                source = self.source_of(statement.name, found)
                planner = Planner(parser, source, self.database, self.zone)
                planner.names = {statement.name.table}
                condition += " AND " + planner.plan_where(statement.where)
            return self.storage.delete(table, condition)

    # Rows out

    def do_select(self, statement, parser):
        plan = self.plan_select(statement, parser)
        cursor = self.storage.cursor()
        try:
            cursor.execute(plan.sql)
            if plan.rows_at_most is None or plan.rows_at_most > STREAMED_FROM:
                result = Result(plan.columns, plan.precision, cursor=cursor)
                self.storage.streams.add(result)
                return result
            found = list(cursor.fetchnumpy().values())
        except duckdb.ConversionException as error:
            raise TDengineError(0x2600, f"{str(error).splitlines()[0]} (stand-in for TDengine)") from None
        return Result(plan.columns, plan.precision, arrays=numpy_to_arrays(plan.columns, found))

    def plan_select(self, statement, parser):
        source = None
        if statement.source is not None:
            source = self.find_source(statement.source, parser)
        planner = Planner(parser, source, self.database, self.zone)
        planner.names = {statement.alias or (statement.source and statement.source.table)}
        plan = planner.plan(statement)
        # equal names would make one column of two in fetchnumpy()
        plan.sql = f"SELECT * FROM ({plan.sql}) AS result({', '.join(f'o{k}' for k in range(len(plan.columns)))})"
        return plan

    def find_source(self, name, parser):
        """The Source behind a name in FROM; its errors have a prefix of their own."""
        database = name.database or self.database
        if database == "information_schema":
            return self.system_table(name, parser)
        if database == "performance_schema":
            raise parser.unsupported(name.token)
        try:
            found = self.table_of(name)
        except TDengineError as error:
            if error.code in (0x0388, 0x2603):
                raise TDengineError(error.code, f"Fail to get table info, error: {error.message}") from None
            raise
        return self.source_of(name, found)

    def source_of(self, name, found):
        table = found.stable if isinstance(found, Subtable) else found
        columns = {column.name: (f"r.c{k}", column) for k, column in enumerate(table.columns)}
        common = {"precision": table.database.precision, "time": table.columns[0].name}
        if table.tags is None:
            hidden = {"tbname": (quote(table.name), TBNAME)}
            return Source(columns, hidden, f"t{table.id} r", order="r.c0", **common)
        tags = {column.name: (f"g.g{k}", column) for k, column in enumerate(table.tags)}
        hidden = {"tbname": ("g.n", TBNAME)}
        join = f" JOIN g{table.id} g ON r.s = g.s"
        if isinstance(found, Subtable):
            where = f"r.s = {found.id}"
            return Source(columns, tags | hidden, f"t{table.id} r", tags_from=join, where=where, order="r.c0", **common)
        common |= {"tags_only": f"g{table.id} g", "order": "r.s, r.c0"}
        return Source(columns | tags, hidden, f"t{table.id} r", tags_from=join, **common)

    def system_table(self, name, parser):
        """information_schema, as far as it is used; no SELECT *, as TDengine has more columns."""
        databases = self.storage.databases.values()
        if name.table == "ins_databases":
            names = (
                ("name", VARCHAR, 64),
                ("create_time", TIMESTAMP, 0),
                ("ntables", BIGINT, 0),
                ("precision", VARCHAR, 2),
            )
            rows = [(system, None, None, None) for system in SYSTEM_DATABASES]
            for one in databases:
                tables = sum(isinstance(t, Subtable) or t.tags is None for t in one.tables.values())
                rows.append((one.name, one.created_ms, tables, PRECISION_NAMES[one.precision]))
        elif name.table == "ins_tables":
            names = (
                ("table_name", VARCHAR, 192),
                ("db_name", VARCHAR, 64),
                ("columns", INT, 0),
                ("stable_name", VARCHAR, 192),
            )
            rows = []
            for one in databases:
                for table in one.tables.values():
                    if isinstance(table, Subtable):
                        rows.append((table.name, one.name, len(table.stable.columns), table.stable.name))
                    elif table.tags is None:
                        rows.append((table.name, one.name, len(table.columns), None))
        elif name.table == "ins_stables":
            names = (("stable_name", VARCHAR, 192), ("db_name", VARCHAR, 64), ("columns", INT, 0), ("tags", INT, 0))
            rows = [
                (table.name, one.name, len(table.columns), len(table.tags))
                for one in databases
                for table in one.tables.values()
                if isinstance(table, Table) and table.tags is not None
            ]
        elif name.table.startswith("ins_"):
            raise parser.unsupported(name.token)
        else:
            raise TDengineError(0x2603, "Fail to get table info, error: Table does not exist")
        columns = {column: (f"r.c{k}", Column(column, type, length)) for k, (column, type, length) in enumerate(names)}
        return Source(columns, {}, values_sql(list(columns.values()), rows), has_star=False)

    def do_describe(self, statement, _):
        found = self.table_of(statement.name)
        table = found.stable if isinstance(found, Subtable) else found
        rows = [
            (column.name, column.type.name, column.shown_length, "TAG" if column.is_tag else "", *compression(column))
            for column in (*table.columns, *(table.tags or ()))
        ]
        columns = [
            Column("field", VARCHAR, 64),
            Column("type", VARCHAR, 20),
            Column("length", INT),
            Column("note", VARCHAR, 16),
            Column("encode", VARCHAR, 12),
            Column("compress", VARCHAR, 12),
            Column("level", VARCHAR, 12),
        ]
        return rows_result(columns, rows)

    def do_show(self, statement, _):
        if statement.what == "databases":
            return names_result("name", 64, [*SYSTEM_DATABASES, *self.storage.databases])
        if statement.what == "topics":
            return names_result("topic_name", 192, list(self.storage.topics.topics))
        name = statement.database or self.database
        if name is None:
            raise TDengineError(0x2600, 'syntax error near "database not specified"')
        tables = self.storage.database(name).tables.values()
        stables = [table.name for table in tables if isinstance(table, Table) and table.tags is not None]
        if statement.what == "stables":
            return names_result("stable_name", 192, stables)
        return names_result("table_name", 192, [table.name for table in tables if table.name not in stables])

    def do_createtopic(self, statement, _):
        self.storage.topics.create(self, statement)
        return 0


def names_result(name, length, values):
    return rows_result([Column(name, VARCHAR, length)], [(value,) for value in values])


def rows_result(columns, rows):
    arrays = [list_to_array(column, [row[k] for row in rows]) for k, column in enumerate(columns)]
    return Result(columns, 0, arrays=arrays)


def values_sql(columns, rows):
    """Rows as a table r of DuckDB's, for SELECT from information_schema."""
    names = ", ".join(f"c{k}" for k in range(len(columns)))
    nothing = "SELECT " + ", ".join(f"NULL::{column.type.duck}" for _, column in columns)

    def shown(value):
        return "NULL" if value is None else quote(value) if isinstance(value, str) else str(value)

    values = ", ".join("(" + ", ".join(map(shown, row)) + ")" for row in rows)
    if not rows:
        return f"({nothing} WHERE false) r({names})"
    return f"({nothing} WHERE false UNION ALL VALUES {values}) r({names})"


def compression(column):
    """encode, compress and level that DESCRIBE shows for a column; tags have none."""
    if column.is_tag:
        return "disabled", "disabled", "disabled"
    name = column.type.name
    if name == "TIMESTAMP":
        return "delta-i", "lz4", "medium"
    if name in ("FLOAT", "DOUBLE"):
        return "delta-d", "lz4", "medium"
    if name == "BOOL":
        return "bit-packing", "zstd", "medium"
    return ("simple8b", "lz4", "medium") if column.type.is_integer else ("disabled", "zstd", "medium")


def check_columns(columns, tags):
    names = [column.name for column in (*columns, *(tags or ()))]
    if columns[0].type is not TIMESTAMP:
        raise TDengineError(0x2641, "First column must be timestamp")
    if len(columns) < 2:
        raise TDengineError(0x263F, "Illegal number of columns")
    if len(columns) > 4096:
        raise TDengineError(0x2640, "Too many columns")
    if tags is not None and len(tags) > 128:
        raise TDengineError(0x2643, "Invalid number of tag columns")
    if len(set(names)) != len(names):
        raise TDengineError(0x263C, "Duplicated column names")


def tag_named(stable, token):
    for column in stable.tags:
        if column.name == token.value:
            return column
    raise TDengineError(0x2602, f"Invalid column name: {token.value}")


def bound_columns(table, tokens, parser=None):
    """Indices of the columns that an INSERT names, all when it names none; the timestamp must be among them."""
    if tokens is None:
        return list(range(len(table.columns)))
    names = {column.name: k for k, column in enumerate(table.columns)}
    indices = []
    for token in tokens:
        if token.value not in names:
            raise TDengineError(0x2602, f"Invalid column name: {token.value}")
        if names[token.value] in indices:
            raise parser.insert_error(token, "duplicated column name")
        indices.append(names[token.value])
    if 0 not in indices:
        raise TDengineError(0x0200, "Primary timestamp column should not be null")
    return indices


def check_rows(table, indices, arrays):
    """TDengineError when a timestamp is out of the database's range or NULL."""
    stamps = arrays[indices.index(0)]
    if np.ma.getmaskarray(stamps).any():
        raise TDengineError(0x0200, "Primary timestamp column should not be null")
    precision = table.database.precision
    per_ms = UNITS_PER_S[precision] // 1000
    oldest = times.now(precision) - table.database.keep_ms * per_ms
    if int(stamps.min()) < oldest or int(stamps.max()) > times.LATEST[precision]:
        raise TDengineError(0x060B, "Timestamp data out of range")
