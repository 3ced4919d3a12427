"""One client's connection: its current database, and the statements that it sends."""

import duckdb

from . import definitions, insert, select
from .errors import TDengineError
from .sql import Parser

STATEMENTS = {"select": select.run, "insert": insert.insert, "show": definitions.show, "use": definitions.use}
STATEMENTS |= {"describe": definitions.describe, "desc": definitions.describe}
CHANGES = {
    "create": definitions.create,
    "drop": definitions.drop,
    "alter": definitions.alter,
    "delete": definitions.delete,
}
NO_DATABASE = (0x2616, "Database not specified")


class Session:
    def __init__(self, storage, database=None):
        self.storage, self.database = storage, database

    def execute(self, text):
        """Rows affected (int), or a Result."""
        parser = Parser(text)
        word = parser.one_of(*STATEMENTS, *CHANGES)
        try:
            if word in STATEMENTS:
                return STATEMENTS[word](self, parser)
            with self.storage.lock:
                return CHANGES[word](self, parser)
        except duckdb.CatalogException:  # dropped meanwhile
            raise TDengineError(0x2603, "Table does not exist") from None

    def database_of(self, name, missing=NO_DATABASE):
        """The Database of a (database or None, table)."""
        database = name[0] or self.database
        if database is None:
            raise TDengineError(*missing)
        return self.storage.database(database)

    def find(self, name, missing=NO_DATABASE):
        """The Found of a (database or None, table); errors without any prefix, as in INSERT and DESCRIBE."""
        found = self.database_of(name, missing).get(name[1])
        if found is None:
            raise TDengineError(0x2603, "Table does not exist")
        return found
