"""One client's connection: its current database, and the statements that it sends."""

import duckdb

from . import definitions, insert, select
from .sql import Parser
from .types import TDengineError

STATEMENTS = {"select": select.run, "insert": insert.insert, "desc": definitions.describe}
STATEMENTS |= {
    name: getattr(definitions, name) for name in ("create", "drop", "alter", "use", "delete", "describe", "show")
}
CHANGES = ("create", "drop", "alter", "delete")


class Session:
    def __init__(self, storage):
        self.storage, self.database = storage, None

    def execute(self, text):
        """Rows affected (int), or a Result."""
        parser = Parser(text)
        word = parser.one_of(*STATEMENTS)
        try:
            if word not in CHANGES:
                return STATEMENTS[word](self, parser)
            with self.storage.lock:
                return STATEMENTS[word](self, parser)
        except duckdb.CatalogException:  # dropped meanwhile
            raise TDengineError(0x2603, "Table does not exist") from None

    def database_of(self, name, missing=(0x2616, "Database not specified")):
        """The Database of a (database or None, table)."""
        database = name[0] or self.database
        if database is None:
            raise TDengineError(*missing)
        return self.storage.database(database)

    def table_of(self, name, missing=(0x2616, "Database not specified")):
        """The Table or Subtable; errors without any prefix, as in INSERT and DESCRIBE."""
        found = self.database_of(name, missing).tables.get(name[1])
        if found is None:
            raise TDengineError(0x2603, "Table does not exist")
        return found

    @staticmethod
    def column_of(columns, name):
        found = [column for column in columns if column.name == name]
        if not found:
            raise TDengineError(0x2602, f"Invalid column name: {name}")
        return found[0]
