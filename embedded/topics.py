"""Topics of data subscription (TMQ), their logs of what is inserted, and the positions of consumer groups.

Topics are kept with the data. Their logs and the groups' positions are kept in memory: a log begins with its topic, or
with the start of this process, and holds the newest LOG_BYTES; a consumer that is further behind goes on with the
oldest entry that is left, as in TDengine after WAL_RETENTION_PERIOD. A topic's log is one vgroup.
"""

from . import blocks
from .errors import TDengineError, as_tdengine_error
from .select import Select
from .session import Session
from .sql import Parser

LOG_BYTES = 64 * 2**20


class Topic:
    """A topic AS SELECT; its log, {offset: an insert's encoded block, b"" for no rows}; by group offsets, consumers."""

    def __init__(self, session, name, parser):
        """The parser stands before SELECT. TDengineError when it is not one for a topic."""
        self.storage, self.name, start = session.storage, name, parser.token.start
        parser.expect("select")
        self.select = select = Select(session, parser)
        parser.end()
        self.text = parser.sql[start : parser.token.start]
        if not select.source.hidden or select.functions or select.window or select.order or select.limit:
            raise TDengineError(0x2639, "Invalid topic query")
        if "now" in select.used:  # which would be the time of each insert
            raise parser.refused(parser.tokens[0])
        self.table = session.find(select.table).table
        self.log, self.begin, self.end, self.bytes = {}, 0, 0, 0
        self.committed, self.consumers = {}, {}

    def inserted(self, rows):
        """Adds to the log what the topic's SELECT finds in an insert."""
        batch = rows.batch()
        others = [column for column in self.table.columns if column.stored not in batch]
        nulls = "".join(f", CAST(NULL AS {column.duck}) AS {column.stored}" for column in others)
        with self.storage.cursor() as cursor:
            cursor.execute(self.select.sql(f"(SELECT {rows.casts()}{nulls} FROM batch)"))
            columns, values = self.select.columns(cursor), list(zip(*cursor.fetchall(), strict=True))
        block = blocks.encode_message_block(columns, values, self.table.database.precision) if values else b""
        self.log[self.end] = block
        self.end += 1
        self.bytes += len(block) + 100
        while self.bytes > LOG_BYTES and len(self.log) > 1:
            self.bytes -= len(self.log.pop(self.begin)) + 100
            self.begin += 1


class Topics:
    """All topics. Inserts come from threads, under the storage's lock; consumers live in the event loop's thread."""

    def __init__(self, storage):
        self.storage, self.topics = storage, {}
        for name, database, text in storage.connection().execute("SELECT * FROM topics").fetchall():
            try:
                self.topics[name] = Topic(Session(storage, database), name, Parser(text))
            except TDengineError:  # its table was dropped
                self.forget(name)

    def forget(self, name):
        with self.storage.transaction() as execute:
            execute("DELETE FROM topics WHERE name = ?", [name])

    def create(self, session, name, parser):
        """The parser stands behind the name."""
        parser.expect("as")
        if name in self.topics:
            raise TDengineError(0x03E0, "Topic already exists")
        topic = Topic(session, name, parser)
        with self.storage.transaction() as execute:
            execute("INSERT INTO topics VALUES (?, ?, ?)", [name, session.database, topic.text])
        self.topics[name] = topic

    def drop(self, name):
        if name not in self.topics:
            raise TDengineError(0x03E1, "Topic not exist")
        if self.topics[name].consumers:
            raise TDengineError(0x03EB, "Topic subscribed cannot be dropped")
        self.forget(name)
        del self.topics[name]

    def refuse_change(self, tables):
        """TDengineError when a topic keeps one of these tables from being dropped or changed."""
        if any(topic.table in list(tables) for topic in self.topics.values()):
            raise TDengineError(0x03ED, "Topic must be dropped first")

    def inserted(self, inserts):
        """Adds what was stored to the logs, and wakes the polls that wait for it."""
        for topic in self.topics.values():
            for rows in (rows for rows in inserts if rows.table is topic.table):
                try:
                    topic.inserted(rows)
                except Exception as error:  # the rows are stored: their sender has nothing to repair
                    as_tdengine_error(error)
            for consumer in list(topic.consumers.values()):
                consumer.loop.call_soon_threadsafe(consumer.rows_came.set)
