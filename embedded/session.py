"""One client's connection: its current database, and the statements that it sends."""

from . import definitions, insert, select
from .errors import NO_TABLE, TDengineError
from .sql import Parser

READING = {"select": select.run, "describe": definitions.describe, "show": definitions.show, "use": definitions.use}
WRITING = {"create": definitions.create, "drop": definitions.drop, "alter": definitions.alter}
WRITING |= {"insert": insert.insert, "delete": definitions.delete}


class Session:
    def __init__(self, storage, database=None):
        self.storage, self.database = storage, database

    def execute(self, text):
        """Rows affected (int), or a Result."""
        parser = Parser(text)
        word = parser.one_of(*READING, *WRITING)
        if word in READING:
            return READING[word](self, parser)
        with self.storage.lock:  # what it finds is still there when it writes
            return WRITING[word](self, parser) or 0

    def database_of(self, name):
        """The Database of a (database or None, table)."""
        database = name[0] or self.database
        if database is None:
            raise TDengineError(0x2616, "Database not specified")
        return self.storage.database(database)

    def find(self, name):
        """The Found of a (database or None, table)."""
        found = self.database_of(name).get(name[1])
        if found is None:
            raise TDengineError(*NO_TABLE)
        return found
