"""Topics of data subscription (TMQ), their logs of what is inserted, and the positions of consumer groups.

Topics are kept with the data. Their logs and the groups' positions are kept in memory: a log begins with its topic, or
with the start of this process, and holds the newest LOG_BYTES; a consumer that is further behind goes on with the
oldest entry that is left, as in TDengine after WAL_RETENTION_PERIOD. A topic's log is one vgroup.
"""

import collections
import dataclasses

from . import blocks
from .errors import TDengineError, as_tdengine_error
from .select import AGGREGATES, Select
from .session import Session
from .sql import Parser

LOG_BYTES = 64 * 2**20
MESSAGE_BYTES = 2**20  # of a message, unless a single insert has more


@dataclasses.dataclass
class Group:
    """A consumer group's state in a topic: the offset that it committed, and its consumers; the first gets the rows."""

    committed: int | None = None
    consumers: list = dataclasses.field(default_factory=list)


class Topic:
    """A topic AS SELECT and its log: encoded blocks, of which the first has the offset `begin`; b"" for no rows."""

    def __init__(self, session, name, parser):
        """The parser stands before SELECT. TDengineError when it is not one for a topic."""
        self.storage, self.name, start = session.storage, name, parser.token.start
        parser.expect("select")
        self.select = select = Select(session, parser)
        parser.end()
        self.text = parser.sql[start : parser.token.end]
        is_cut = not select.source or not select.source.hidden or select.groups or select.order or select.limit
        if is_cut or select.functions & AGGREGATES:
            raise TDengineError(0x2639, "Invalid topic query")
        if select.has_now:  # which would be the time of each insert
            raise parser.refused(parser.tokens[0])
        self.table = session.find(select.table).table
        self.entries, self.begin, self.bytes = collections.deque(), 0, 0
        self.groups = collections.defaultdict(Group)  # by name

    @property
    def end(self):
        return self.begin + len(self.entries)

    def inserted(self, rows):
        """Adds to the log what the topic's SELECT finds in an insert."""
        batch = rows.batch()
        others = [column for column in self.table.columns if column.stored not in batch]
        nulls = "".join(f", CAST(NULL AS {c.type_name(c.type.duck)}) AS {c.stored}" for c in others)
        with self.storage.cursor() as cursor:
            found = cursor.execute(self.select.sql(f"(SELECT {rows.casts(batch)}{nulls} FROM batch)")).fetchall()
            columns = self.select.columns(cursor.description)
        precision = self.table.database.precision
        entry = blocks.encode_message_block(columns, list(zip(*found, strict=True)), precision) if found else b""
        self.entries.append(entry)
        self.bytes += len(entry) + 100
        while self.bytes > LOG_BYTES and len(self.entries) > 1:
            self.bytes -= len(self.entries.popleft()) + 100
            self.begin += 1

    def entries_from(self, offset):
        """(offset of the first, entries) of a message that begins there, or with the oldest that is left."""
        first, taken, size = max(offset, self.begin), [], 0
        for at in range(first - self.begin, len(self.entries)):
            size += len(self.entries[at])
            if taken and size > MESSAGE_BYTES:
                break
            taken.append(self.entries[at])
        return first, taken


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

    def create(self, session, parser, if_not_exists):
        """The parser stands before the name."""
        name = parser.name()
        parser.expect("as")
        if name in self.topics:
            if if_not_exists:
                return 0
            raise TDengineError(0x03E0, "Topic already exists")
        topic = Topic(session, name, parser)
        with self.storage.transaction() as execute:
            execute("INSERT INTO topics VALUES (?, ?, ?)", [name, session.database, topic.text])
        self.topics[name] = topic
        return 0

    def drop(self, name, if_exists):
        topic = self.topics.get(name)
        if topic is None and not if_exists:
            raise TDengineError(0x03E1, "Topic not exist")
        if topic and any(group.consumers for group in topic.groups.values()):
            raise TDengineError(0x03EB, "Topic subscribed cannot be dropped")
        if topic:
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
                for group in list(topic.groups.values()):
                    for consumer in group.consumers[:1]:
                        consumer.loop.call_soon_threadsafe(consumer.rows_came.set)
