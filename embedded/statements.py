"""Prepared INSERTs, as both kinds of prepared statement use them: parse once, bind columns, store."""

import numpy as np

from . import literals, sql
from .engine import bound_columns, check_rows, tag_named
from .storage import Rows, Subtable, Table
from .types import STAND_IN, VARCHAR, Column, TDengineError

TABLE_NAME = Column("tbname", VARCHAR, 269)
UNPARSABLE = (0x0216, "Syntax error in SQL")
NOT_BOUND = (0x022A, "Stmt API usage error")


class PreparedInsert:
    """INSERT INTO {table | ? | ? USING stable [(tags)] TAGS (..)} [(columns)] VALUES (?, ..)."""

    def __init__(self, session, text):
        """TDengineError when it cannot be prepared."""
        self.session, self.storage = session, session.storage
        try:
            statement, self.parser = sql.parse(text)
        except TDengineError as error:
            if error.code in (0x0216, 0x2600, 0x2601) and "stand-in" not in error.message:
                raise TDengineError(*UNPARSABLE) from None
            raise
        if not isinstance(statement, sql.Insert):
            raise TDengineError(0x2600, f"only INSERT can be prepared by this {STAND_IN}")
        if len(statement.targets) != 1:
            raise TDengineError(*UNPARSABLE)
        name, self.using, column_tokens, rows, _ = statement.targets[0]
        self.fixed = None
        if name is None and self.using is None:
            raise TDengineError(0x2600, f"INSERT INTO ? needs USING with this {STAND_IN}")
        if self.using is not None:
            self.table = session.stable_of(self.using, self.parser)
            if name is not None:
                session.database_of(name, (0x0200, "db is not specified"))
                self.fixed = name.table
        else:
            found = session.table_of(name, (0x0200, "db is not specified"))
            self.table = found.stable if isinstance(found, Subtable) else found
            self.fixed = name.table
            if isinstance(found, Table) and found.tags is not None:
                raise TDengineError(*UNPARSABLE)
        self.names_table = name is None
        self.indices = bound_columns(self.table, column_tokens, self.parser)
        self.columns = [self.table.columns[index] for index in self.indices]
        *marks, _ = rows[0]
        if len(rows) != 1 or any(mark.kind != "?" for mark in marks):
            raise TDengineError(0x0200, "Invalid operation")
        if len(marks) != len(self.columns):
            raise TDengineError(*UNPARSABLE)
        self.prepare_tags()
        self.pending, self.failed = [], None

    def prepare_tags(self):
        """tag_columns: those bound by ?; constant_tags: all of them when they are literals."""
        self.tag_columns, self.constant_tags = [], None
        if self.using is None:
            return
        named = self.using.tags
        columns = self.table.tags if named is None else [tag_named(self.table, token) for token in named]
        *values, _ = self.using.values
        if len(values) != len(columns):
            raise TDengineError(0x260D, "Tags number not matched")
        if all(value.kind == "?" for value in values):
            self.tag_columns = columns
        elif any(value.kind == "?" for value in values):
            raise TDengineError(0x0200, "no mix usage for ? and tag values")
        else:
            self.constant_tags = self.session.tag_values(self.using, self.table, self.parser)

    def fields(self):
        """What stmt2_prepare tells about every ?: table name 4, tags 2, columns 1."""
        kinds = [(TABLE_NAME, 4)] * self.names_table
        kinds += [(column, 2) for column in self.tag_columns] + [(column, 1) for column in self.columns]
        return [
            {
                "name": column.name,
                "field_type": column.type.number,
                "precision": self.table.database.precision if column.type.number == 9 else 0,
                "scale": 0,
                "bytes": column.width,
                "bind_type": kind,
            }
            for column, kind in kinds
        ]

    def bind(self, name, tags, arrays):
        """Adds the columns of one table; name and tags when the SQL has ? for them, else None."""
        if self.names_table and not name:
            raise TDengineError(0x022B, "Stmt table name not set")
        if self.tag_columns and tags is None and self.known(name) is None:
            raise TDengineError(*NOT_BOUND)
        for column, array in zip(self.columns, arrays, strict=True):
            if column.type.width == 0:
                column.check_length(array)
        if tags is not None:
            for column, value in zip(self.tag_columns, tags, strict=True):
                if column.type.width == 0:
                    column.check_length([value])
        if len(arrays[0]):
            self.pending.append((name if self.names_table else self.fixed, tags, arrays))

    def known(self, name):
        """(table, number of the subtable or None) of a name, or None when it must be made first."""
        found = self.table.database.tables.get(plain_name(name) if self.names_table else name)
        if found is None:
            return None
        if isinstance(found, Subtable) and found.stable is self.table:
            return found.id
        raise TDengineError(*UNPARSABLE)

    def execute(self):
        """Stores what is bound; returns the number of rows."""
        pending, self.pending = self.pending, []
        if self.failed is not None:
            error, self.failed = self.failed, None
            raise error
        if not pending:
            raise TDengineError(*NOT_BOUND)
        with self.storage.lock:
            current = self.storage.databases.get(self.table.database.name)
            if current is None:
                raise TDengineError(0x0388, "Database not exist")
            if current.tables.get(self.table.name) is not self.table:
                raise TDengineError(0x2603, "Table does not exist")
            new, counts, ids = {}, [], []
            for name, tags, arrays in pending:
                counts.append(len(arrays[0]))
                ids.append(None if self.table.tags is None else self.subtable_id(name, tags, new))
            arrays = [join([arrays[k] for _, _, arrays in pending]) for k in range(len(self.columns))]
            check_rows(self.table, self.indices, arrays)
            subtables = None if self.table.tags is None else np.repeat(np.array(ids, np.int32), counts)
            return self.storage.write([Rows(self.table, subtables, self.indices, arrays)], list(new.values()))

    def subtable_id(self, name, tags, new):
        found = self.known(name)
        if found is not None:
            return found
        name = plain_name(name) if self.names_table else name
        if self.using is None:
            raise TDengineError(0x2603, "Table does not exist")
        if name not in new:
            if self.constant_tags is None:
                by_name = {column.name: value for column, value in zip(self.tag_columns, tags, strict=True)}
                values = [by_name.get(column.name) for column in self.table.tags]
            else:
                values = self.constant_tags
            subtable = self.session.new_subtable(self.table, name)
            new[name] = (subtable, values)
        return new[name][0].id


def plain_name(name):
    """A bound table name, maybe with its database or in back-quotes."""
    if name.startswith("`") and name.endswith("`") and len(name) > 2:
        return name[1:-1]
    return name.rpartition(".")[2].lower()


def join(arrays):
    """The parts of one column, one after the other."""
    if len(arrays) == 1:
        return arrays[0]
    if isinstance(arrays[0], list):
        return [value for array in arrays for value in array]
    masked = any(isinstance(array, np.ma.MaskedArray) for array in arrays)
    return (np.ma if masked else np).concatenate(arrays)


class StatementV1:
    """TaosStmt: its SQL is looked at when the first columns are bound."""

    def __init__(self, session):
        self.session, self.text, self.insert = session, None, None
        self.name = self.tags = self.failed = None
        self.bound, self.added = False, False

    def prepare(self, text):
        self.text, self.insert, self.failed = text, None, None
        return text.lstrip()[:6].lower() in ("insert", "import")

    def prepared(self):
        if self.text is None:
            raise TDengineError(*NOT_BOUND)
        if self.insert is None:
            self.insert = PreparedInsert(self.session, self.text)
        return self.insert

    def set_tags(self, values):
        insert = self.prepared()
        if not isinstance(values, list) or len(values) != len(insert.tag_columns):
            raise TDengineError(0x260D, "Tags number not matched")
        tags = []
        for column, value in zip(insert.tag_columns, values, strict=True):
            wrong = isinstance(value, (list, dict)) or isinstance(value, str) != (column.type.width == 0)
            if value is not None and wrong:
                raise TDengineError(0x0200, "Invalid operation")
            if column.type.is_integer and value is not None:
                low, high = literals.RANGES[column.type.number]
                if not low <= value <= high:
                    raise TDengineError(0x0200, "Invalid operation")
            if column.type.width == 0:
                column.check_length([value])
            tags.append(value)
        self.tags = tags

    def bind(self, decode):
        """decode(columns) gives the arrays."""
        try:
            insert = self.prepared()
            insert.bind(self.name, self.tags, decode(insert.columns))
        except TDengineError as error:
            self.failed = error
            raise
        self.bound = True

    def add_batch(self):
        if not self.bound:
            raise TDengineError(*(self.failed and (self.failed.code, self.failed.message) or NOT_BOUND))
        self.bound, self.added = False, True

    def execute(self):
        failed, self.failed = self.failed, None
        added, self.added, self.bound = self.added, False, False
        self.name = self.tags = None
        if failed is not None:
            if self.insert is not None:
                self.insert.pending = []
            raise failed
        if not added:
            raise TDengineError(*NOT_BOUND)
        return self.insert.execute()
