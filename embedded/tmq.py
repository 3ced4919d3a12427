"""Data subscription (TMQ): topics, and their consumers, connections at /rest/tmq. They don't seek.

Topics are kept with the data; their logs of what is inserted, and the positions of consumer groups, in memory. A log
begins with its topic, or with the start of this process, and holds the newest LOG_BYTES; a consumer that is further
behind goes on with the oldest entry that is left, as in TDengine after WAL_RETENTION_PERIOD.
"""

import asyncio
import contextlib

from . import blocks, protocol
from .connection import Connection, check_user
from .errors import FAILED, STAND_IN, TDengineError, as_tdengine_error, refuse
from .select import Select
from .session import Session
from .sql import Parser

LOG_BYTES = 64 * 2**20
LONGEST_POLL_MS = 30_000  # so long may a client that has gone keep its topic
VGROUP = 2  # the number of a topic's only one
NO_MESSAGE = dict.fromkeys(("vgroup_id", "message_type", "message_id", "offset"), 0)
NO_MESSAGE |= {"have_message": False, "topic": "", "database": ""}


class Topic:
    """A topic AS SELECT; its log, {offset: the encoded block of an insert}; by group offsets, consumers."""

    def __init__(self, session, name, parser):
        """The parser stands before SELECT. TDengineError when it is not one for a topic."""
        self.storage, self.name, start = session.storage, name, parser.token.start
        parser.expect("select")
        self.select = select = Select(session, parser)
        parser.expect_kind("end")
        self.text = parser.sql[start : parser.token.start]
        if not select.found or select.functions or select.window or select.order or select.limit:
            raise TDengineError(0x2639, "Invalid topic query")
        parser.refuse("now" in select.used, parser.tokens[0])  # which would be the time of each insert
        self.table = select.found.table
        self.log, self.begin, self.end, self.bytes = {}, 0, 0, 0
        self.committed, self.consumers = {}, {}

    def inserted(self, rows):
        """Adds to the log what the topic's SELECT finds in an insert."""
        stored = f"t{self.table.id}"
        source = f"(FROM {stored} WHERE false UNION ALL BY NAME {self.table.select(rows.batch)})"  # all columns
        found = self.select.read(self.storage, self.table.source.replace(stored, source), rows.batch)
        if found.values[0]:
            block = blocks.encode_message_block(found.columns, found.values, found.precision)
            self.log[self.end] = block
            self.end += 1
            self.bytes += len(block)
        while self.bytes > LOG_BYTES and len(self.log) > 1:
            self.bytes -= len(self.log.pop(self.begin))
            self.begin += 1


class Topics:
    """All topics. Inserts come from threads, under the storage's lock; consumers live in the event loop's thread."""

    def __init__(self, storage):
        self.storage, self.topics = storage, {}
        for name, database, text in storage.connection().execute("SELECT * FROM topics").fetchall():
            with contextlib.suppress(TDengineError):  # its table was dropped
                self.topics[name] = Topic(Session(storage, database), name, Parser(text))

    def create(self, session, name, parser):
        """The parser stands behind the name."""
        parser.expect("as")
        refuse(name in self.topics, 0x03E0, "Topic already exists")
        topic = Topic(session, name, parser)
        with self.storage.transaction() as execute:
            execute("INSERT OR REPLACE INTO topics VALUES (?, ?, ?)", [name, session.database, topic.text])
        self.topics[name] = topic

    def drop(self, name):
        refuse(name not in self.topics, 0x03E1, "Topic not exist")
        refuse(self.topics[name].consumers, 0x03EB, "Topic subscribed cannot be dropped")
        with self.storage.transaction() as execute:
            execute("DELETE FROM topics WHERE name = ?", [name])
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


class Consumer(Connection):
    """One consumer's connection."""

    ACTIONS = ("version", "subscribe", "unsubscribe", "poll", "fetch_raw_data", "commit")

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.loop, self.rows_came = asyncio.get_running_loop(), asyncio.Event()
        self.topic = self.group = None
        self.offset, self.message_id, self.message = 0, 0, b""  # offset: of the next message

    def on_close(self):
        if self.topic and self.topic.consumers.get(self.group) is self:
            del self.topic.consumers[self.group]
        self.topic = None

    def check(self, action):
        if self.topic is None and action not in ("version", "subscribe", "poll", "unsubscribe"):
            raise TDengineError(FAILED, "tmq not init")

    async def do_subscribe(self, args):
        refuse(self.topic, FAILED, "tmq should have unsubscribed first")
        check_user(self.users, args.get("user"), args.get("password"))
        names = args.get("topics") or [""]
        if len(names) > 1 or args.get("offset_rest") not in (None, "earliest", "latest"):
            raise TDengineError(FAILED, f"earliest or latest of one topic at once in this {STAND_IN}")
        topics, name = self.storage.topics.topics, str(names[0])
        name = name if name in topics else name.lower()
        refuse(name not in topics, 0x03E1, "Topic not exist")
        self.topic, self.group = topics[name], str(args.get("group_id"))
        first = self.topic.begin if args.get("offset_rest") == "earliest" else self.topic.end
        self.offset = self.topic.committed.get(self.group, first)
        self.topic.consumers[self.group] = self  # the newest of a group gets the rows
        return {}

    async def do_unsubscribe(self, _):
        self.on_close()
        return {}

    async def do_poll(self, args):
        """Other requests of this connection wait meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(args.get("blocking_time", 0), 0), LONGEST_POLL_MS) / 1000):
                while (message := self.next_message()) is None:
                    self.rows_came.clear()
                    await self.rows_came.wait()
                return message
        return NO_MESSAGE

    def next_message(self):
        """The reply to a poll, if there are rows, whose message is fetched then."""
        topic = self.topic
        while topic and topic.consumers.get(self.group) is self and self.offset < topic.end:
            offset = max(self.offset, topic.begin)
            block, self.offset = topic.log.get(offset), offset + 1
            if block:  # not dropped meanwhile
                self.message, self.message_id = blocks.encode_message([block]), self.message_id + 1
                found = {"have_message": True, "topic": topic.name, "database": topic.table.database.name}
                found |= {"vgroup_id": VGROUP, "message_type": 1, "message_id": self.message_id}
                return found | {"offset": offset}
        return None

    async def do_fetch_raw_data(self, args):
        req_id, number = args.get("req_id", 0), self.message_id
        if not number or args.get("message_id") != number:
            error = TDengineError(FAILED, "message ID is not equal")
            return protocol.error_reply(req_id, protocol.FETCH_RAW_DATA, number, error)
        return protocol.raw_data_reply(req_id, number, self.message)

    async def do_commit(self, args):
        if self.topic.consumers.get(self.group) is self:
            self.topic.committed[self.group] = self.offset
        return {"message_id": args.get("message_id", 0)}
