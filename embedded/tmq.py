"""Data subscription (TMQ): topics, the log of what is inserted, consumer groups, and connections at /rest/tmq.

Topics are kept with the data. Their logs and the groups' positions are kept in memory: a log begins with its topic, or
with the start of this process, and holds the newest LOG_VALUES values; a consumer that is further behind goes on with
the oldest entry that is left, as in TDengine after WAL_RETENTION_PERIOD. A topic's log is one vgroup.
"""

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import json
import threading
import time

import numpy as np

from . import protocol, sql
from .connection import Connection
from .engine import Session, numpy_to_arrays
from .select import Planner, children, find_aggregates
from .statements import join
from .storage import Rows, Subtable, as_numpy, last_of_each_key
from .types import BIGINT, INT, STAND_IN, TIMESTAMP, Column, TDengineError

LOG_VALUES = 2_000_000  # rows times columns that a topic's log holds
MESSAGE_ROWS = 20_000  # of a message, unless a single insert has more
GROUPS = 1000  # of a topic, whose positions are remembered
VGROUP = 2
NEVER_COMMITTED = -2147467247
# Names of a consumer's configuration that have no field of their own in its request.
CONFIG = frozenset(["session.timeout.ms", "max.poll.interval.ms", "td.connect.db"])
# Hidden columns, whose names can't be in any SQL: the number of a row's insert in its message, and of its subtable.
INSERT, SUBTABLE = Column("\0insert", INT), Column("\0subtable", INT)


# Topics and their logs


@dataclasses.dataclass
class Group:
    """A consumer group's state in a topic: the offset that it committed, and its consumers; the first gets the rows."""

    committed: int | None = None
    consumers: list = dataclasses.field(default_factory=list)


class Topic:
    """A topic AS SELECT and its log: entries [(Rows, number of values)], of which the first has the offset `begin`."""

    def __init__(self, storage, name, text, session):
        """TDengineError when the SELECT is not one for a topic."""
        self.storage, self.name = storage, name
        select, parser = sql.parse(text)
        if not is_for_a_topic(select):
            raise TDengineError(0x2639, "Invalid topic query")
        for expression in (*(item.expression for item in select.items), select.where):
            if call := find_now(expression):
                raise parser.unsupported(call.token)
        source = session.find_source(select.source, parser)
        found = session.table_of(select.source)
        self.table = found.stable if isinstance(found, Subtable) else found
        self.database = self.table.database
        casts = [f"CAST(c{k} AS {column.type.duck}) AS c{k}" for k, column in enumerate(self.table.columns)]
        self.direct = None if self.table.tags is not None else direct_columns(select, self.table)
        apart = {"i": INSERT} if self.table.tags is None else {"i": INSERT, "s": SUBTABLE}
        for short, column in apart.items():
            casts.append(f"CAST({short} AS INTEGER) AS {short}")
            source.hidden[column.name] = (f"r.{short}", column)
            select.items.append(sql.Item(sql.ColumnRef(column.name, None, None), None, column.name))
        source.order = "r.i, " + source.order
        source.from_sql = f"(SELECT {', '.join(casts)} FROM batch) r"
        planner = Planner(parser, source, session.database, session.zone)
        planner.names = {select.alias or select.source.table}
        plan = planner.plan(select)
        self.columns = plan.columns
        self.sql = f"SELECT * FROM ({plan.sql}) AS result({', '.join(f'o{k}' for k in range(len(plan.columns)))})"
        self.entries, self.begin, self.values = collections.deque(), 0, 0
        self.groups = {}

    @property
    def end(self):
        return self.begin + len(self.entries)

    def append(self, rows):
        values = len(rows.arrays) * len(rows.arrays[0])
        self.entries.append((rows, values))
        self.values += values
        while self.values > LOG_VALUES and len(self.entries) > 1:
            self.values -= self.entries.popleft()[1]
            self.begin += 1

    def entries_from(self, offset):
        """[Rows] of a message that begins with this offset."""
        taken, count = [], 0
        for at in range(offset - self.begin, len(self.entries)):
            rows = self.entries[at][0]
            count += len(rows.arrays[0])
            if taken and count > MESSAGE_ROWS:
                break
            taken.append(rows)
        return taken

    def blocks(self, taken):
        """[(columns, arrays)] of these inserts: one an insert and subtable, in the order of time; none for no rows."""
        if self.direct is not None:
            return [(self.columns[: len(self.direct)], self.directly(rows)) for rows in taken]
        blocks = []
        for _, alike in itertools.groupby(taken, key=lambda rows: list(rows.indices)):
            *arrays, last = found = self.select(list(alike))
            count = len(arrays) - (self.table.tags is not None)
            apart = [last] if self.table.tags is None else [arrays[-1], last]
            differs = np.logical_or.reduce([np.diff(column) != 0 for column in apart])
            cuts = [0, *(np.flatnonzero(differs) + 1).tolist(), len(last)]
            for first, end in itertools.pairwise(cuts):
                if first < end:
                    blocks.append((self.columns[:count], [array[first:end] for array in found[:count]]))
        return blocks

    def directly(self, rows):
        """What select() gives of one insert when the SELECT only names columns: DuckDB takes ten times as long."""
        part = one_row_a_key(rows)
        order = np.argsort(part["c0"], kind="stable")
        arrays = []
        for index in self.direct:
            array, column = part.get(f"c{index}"), self.table.columns[index]
            if array is None:
                array = (
                    [None] * len(order) if column.type.width == 0 else np.ma.masked_all(len(order), column.type.dtype)
                )
            elif isinstance(array, list):
                array = [array[k] for k in order.tolist()]
            else:
                array = array[order]
            arrays.append(array)
        return arrays

    def select(self, taken):
        """The topic's SELECT of inserts of the same columns, as arrays; the last ones are the hidden columns."""
        parts = [one_row_a_key(rows) for rows in taken]
        batch = {name: as_numpy(join([part[name] for part in parts])) for name in parts[0]}
        counts = [len(part["c0"]) for part in parts]
        batch["i"] = np.repeat(np.arange(len(parts)), counts)
        for k in range(len(self.table.columns)):  # columns that were not inserted
            batch.setdefault(f"c{k}", as_numpy([None] * sum(counts)))
        cursor = self.storage.cursor()
        try:
            found = cursor.execute(self.sql).fetchnumpy()  # which finds `batch` by its name here
        finally:
            cursor.close()
        return numpy_to_arrays(self.columns, found.values())


def one_row_a_key(rows):
    """{name: array} of an insert, of rows with the same key the last one."""
    part = {f"c{index}": array for index, array in zip(rows.indices, rows.arrays, strict=True)}
    kept = last_of_each_key(part["c0"], rows.subtables)
    if rows.subtables is not None:
        part["s"] = rows.subtables
    if kept is not None:
        part = {name: as_numpy(array)[kept] for name, array in part.items()}
        part = {name: array.tolist() if array.dtype == np.object_ else array for name, array in part.items()}
    return part


def direct_columns(select, table):
    """Indices of the columns, when the SELECT has no more than names, * and times as integers; else None."""
    indices, names = [], [column.name for column in table.columns]
    for item in select.items:
        expression = item.expression
        if isinstance(expression, sql.Star):
            indices += range(len(names))
            continue
        if isinstance(expression, sql.Cast) and expression.column.type is BIGINT:
            expression = expression.expression
            if not isinstance(expression, sql.ColumnRef) or expression.name not in names:
                return None
            if table.columns[names.index(expression.name)].type is not TIMESTAMP:
                return None
        if not isinstance(expression, sql.ColumnRef) or expression.name not in names:
            return None
        indices.append(names.index(expression.name))
    return indices if select.where is None else None


def is_for_a_topic(select):
    """Whether it gives each row by itself."""
    grouped = select.distinct or select.partition_by or select.interval or select.group_by
    ordered = select.order_by or select.limit is not None
    aggregates = any(find_aggregates(item.expression) for item in select.items)
    in_table = select.source is not None and select.source.database not in ("information_schema", "performance_schema")
    return in_table and not (grouped or ordered or aggregates)


def find_now(node):
    """A call of NOW or TODAY, which would have to be the time of each insert, or None."""
    if isinstance(node, sql.Call) and node.name in ("now", "today"):
        return node
    return next(filter(None, map(find_now, children(node))), None)


class Topics:
    """All topics. Inserts come from threads, under the storage's lock; consumers live in the event loop's thread."""

    def __init__(self, storage):
        self.storage, self.lock, self.topics = storage, threading.Lock(), {}
        for name, database, text in storage.connection.execute("SELECT * FROM topics").fetchall():
            session = Session(storage)
            session.database = database
            try:
                self.topics[name] = Topic(storage, name, text, session)
            except TDengineError:  # its table was dropped
                storage.connection.execute("DELETE FROM topics WHERE name = ?", [name])

    def create(self, session, statement):
        with self.storage.lock:
            if statement.name in self.topics:
                if statement.if_not_exists:
                    return
                raise TDengineError(0x03E0, "Topic already exists")
            topic = Topic(self.storage, statement.name, statement.text, session)
            self.storage.connection.execute(
                "INSERT INTO topics VALUES (?, ?, ?)", [statement.name, session.database, statement.text]
            )
            self.topics[statement.name] = topic

    def drop(self, name, if_exists):
        with self.storage.lock:
            topic = self.topics.get(name)
            if topic is None:
                if if_exists:
                    return
                raise TDengineError(0x03E1, "Topic not exist")
            if any(group.consumers for group in topic.groups.values()):
                raise TDengineError(0x03EB, "Topic subscribed cannot be dropped")
            self.storage.connection.execute("DELETE FROM topics WHERE name = ?", [name])
            del self.topics[name]

    def refuse_drop(self, database, table=None):
        """TDengineError when a topic keeps this database, or this supertable, from being dropped."""
        for topic in self.topics.values():
            if topic.database.name == database and (table is None or topic.table is table):
                raise TDengineError(0x03ED, "Topic must be dropped first")

    def inserted(self, rows_of_tables):
        """Adds what was stored to the logs, and wakes the polls that wait for it."""
        for topic in list(self.topics.values()):
            for rows in rows_of_tables:
                if rows.table is topic.table:
                    with self.lock:
                        topic.append(rows)
                    for group in list(topic.groups.values()):
                        for consumer in group.consumers[:1]:
                            consumer.loop.call_soon_threadsafe(consumer.rows_came.set)


# Consumers


@dataclasses.dataclass
class Position:
    """Where a consumer is in a topic. offset: of the next message; before: of the last one; None while it gets none."""

    topic: Topic
    group: Group
    offset: int | None = None
    before: int | None = None


class Consumer(Connection):
    """One consumer's connection."""

    def initialize(self, topics, pool, check_user, version):
        super().initialize(pool)
        self.topics, self.check_user, self.version_text = topics, check_user, version
        self.loop = asyncio.get_running_loop()
        self.polling, self.subscribed, self.rows_came = asyncio.Lock(), asyncio.Event(), asyncio.Event()
        self.positions = {}  # topic's name: Position
        self.reset_to_end = self.polled = self.closed = False
        self.message_id, self.message, self.poll_reply = 0, b"", None

    async def respond(self, message):
        """JSON, or bytes; None for what TDengine does not answer either."""
        started = time.perf_counter_ns()
        try:
            request = json.loads(message)
            action, args = request["action"], request.get("args") or {}
            req_id = args.get("req_id", 0)
            if action not in ACTIONS or type(req_id) is not int or not 0 <= req_id < 2**64:
                return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        error, extra = None, {}
        try:
            if not (self.positions or action in ("version", "subscribe", "poll")):
                raise TDengineError(0xFFFF, "tmq not init")
            extra = await getattr(self, "do_" + action)(args)
        except TDengineError as one:
            error = one
        except Exception as one:  # whatever it is, the client waits for a reply
            text = (str(one).splitlines() or [type(one).__name__])[0]
            error = TDengineError(0xFFFF, f"the {STAND_IN} failed: {text}")
        timing = time.perf_counter_ns() - started
        if action == "fetch_raw_data":
            return protocol.raw_data_reply(req_id, self.message_id, timing, self.message, error)
        if action in ("position", "committed") and error:
            extra = {action: []}  # without it the client would wait for ever
        head = {"code": error.code if error else 0, "message": error.message if error else "", "action": action}
        if action != "version":
            head |= {"req_id": req_id, "timing": timing}
        return None if self.closed else json.dumps(head | extra, ensure_ascii=False, separators=(",", ":"))

    def on_close(self):
        self.closed = True
        self.leave()
        for event in (self.subscribed, self.rows_came):
            event.set()  # so that a poll that waits ends

    def leave(self):
        """Leaves the groups; the next consumer of each goes on in its place."""
        for position in self.positions.values():
            group = position.group
            group.consumers.remove(self)
            if group.consumers and position.offset is not None:
                group.consumers[0].begin(position.topic)
        self.positions = {}

    def begin(self, topic):
        """From now on this consumer gets its group's rows of the topic."""
        position = self.positions[topic.name]
        position.offset = position.group.committed
        if position.offset is None:
            position.offset = topic.end if self.reset_to_end else topic.begin
        position.before = position.offset
        self.rows_came.set()

    # The actions: each gives the fields of its reply

    async def do_version(self, _):
        return {"version": self.version_text}

    async def do_subscribe(self, args):
        if self.positions:
            raise TDengineError(0xFFFF, "tmq should have unsubscribed first")
        if not set(args.get("config") or ()) <= CONFIG:
            raise TDengineError(0xFFFE, "Unknown error 65534")
        if args.get("offset_rest") not in (None, "earliest", "latest"):
            raise TDengineError(0xFFFF, "fail")
        try:
            self.check_user(args.get("user"), args.get("password"))
        except TDengineError:
            raise TDengineError(0xFFFF, "init tscObj failed") from None
        names = [str(name).lower() for name in args.get("topics") or ()]
        if not names or not set(names) <= set(self.topics.topics):
            raise TDengineError(0x03E1, "Topic not exist")
        self.reset_to_end = args.get("offset_rest") != "earliest"
        for name in dict.fromkeys(names):
            topic = self.topics.topics[name]
            group = self.group_of(topic, str(args.get("group_id")))
            self.positions[name] = Position(topic, group)
            group.consumers.append(self)
            if group.consumers[0] is self:
                self.begin(topic)
        self.subscribed.set()
        return {}

    @staticmethod
    def group_of(topic, name):
        group = topic.groups.pop(name, None) or Group()
        topic.groups[name] = group  # now the last one
        idle = [name for name, group in topic.groups.items() if not group.consumers]
        for forgotten in idle[: max(len(topic.groups) - GROUPS, 0)]:
            del topic.groups[forgotten]
        return group

    async def do_unsubscribe(self, _):
        self.leave()
        self.subscribed.clear()
        return {}

    async def do_poll(self, args):
        blocking_ms = args.get("blocking_time", 0)
        if type(blocking_ms) is not int or type(args.get("message_id", 0)) is not int:
            raise TDengineError(0xFFFF, "unmarshal request error")
        async with self.polling:  # one after the other
            await self.subscribed.wait()
            if self.poll_reply and args.get("message_id", 0) < self.message_id:
                return self.poll_reply  # which got lost on its way
            self.polled = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if blocking_ms < 0 else blocking_ms / 1000):
                    while not self.closed:
                        self.rows_came.clear()
                        for position in list(self.positions.values()):
                            if await self.take(position):
                                return self.poll_reply
                        await self.rows_came.wait()
            nothing = {"have_message": False, "topic": "", "database": "", "vgroup_id": 0, "message_type": 0}
            return nothing | {"message_id": 0, "offset": 0}

    async def take(self, position):
        """Makes the topic's next message, if there is one."""
        topic = position.topic
        while position.offset is not None and position.offset < topic.end:
            with self.topics.lock:
                first = max(position.offset, topic.begin)
                taken = topic.entries_from(first)
            making = self.loop.run_in_executor(self.pool, encode, topic, taken)
            blocks, message = await asyncio.shield(making)
            if self.closed or position.offset is None:
                return False
            position.offset = first + len(taken)
            if blocks:
                position.before = first
                self.message_id += 1
                self.message = message
                self.poll_reply = {
                    "have_message": True,
                    "topic": topic.name,
                    "database": topic.database.name,
                    "vgroup_id": VGROUP,
                    "message_type": 1,
                    "message_id": self.message_id,
                    "offset": first,
                }
                return True
        return False

    async def do_fetch_raw_data(self, args):
        if not self.message_id or args.get("message_id") != self.message_id:
            raise TDengineError(0xFFFF, "message ID is not equal")
        return {}

    async def do_commit(self, args):
        for position in self.positions.values():
            if position.offset is not None:
                position.group.committed = position.offset
        return {"message_id": args.get("message_id", 0)}

    async def do_assignment(self, args):
        position = self.position_in(args.get("topic"))
        if not self.polled or position.offset is None:
            return {"assignment": []}
        topic = position.topic
        offsets = {"offset": position.before, "begin": topic.begin, "end": topic.end}
        return {"assignment": [{"vgroup_id": VGROUP, **offsets}]}

    def position_in(self, name, vgroup_id=None):
        position = self.positions.get(name) if isinstance(name, str) else None
        if position is None:
            raise TDengineError(0x4009, "Topic does not belong to this consumer")
        if vgroup_id is not None and (vgroup_id != VGROUP or not self.polled or position.offset is None):
            raise TDengineError(0x4008, "VgId does not belong to this consumer")
        return position

    def positions_in(self, args):
        asked = args.get("topic_vgroup_ids") or []
        return [self.position_in(each.get("topic"), each.get("vgroup_id", 0)) for each in asked]

    async def do_position(self, args):
        return {"position": [position.offset for position in self.positions_in(args)]}

    async def do_committed(self, args):
        found = [position.group.committed for position in self.positions_in(args)]
        return {"committed": [NEVER_COMMITTED if offset is None else offset for offset in found]}

    def offset_in(self, args):
        """(Position, offset) that a request names."""
        position = self.position_in(args.get("topic"), args.get("vgroup_id", 0))
        offset, topic = args.get("offset"), position.topic
        if type(offset) is not int or not topic.begin <= offset <= topic.end:
            raise TDengineError(0x4007, "Offset out of range")
        return position, offset

    async def do_seek(self, args):
        position, offset = self.offset_in(args)
        position.offset = position.before = offset
        return {}

    async def do_commit_offset(self, args):
        position, offset = self.offset_in(args)
        position.group.committed = offset
        return {name: args[name] for name in ("topic", "vgroup_id", "offset")}


# Names of methods after "do_": requests for anything else get no answer.
ACTIONS = frozenset(name[3:] for name in vars(Consumer) if name.startswith("do_"))


def encode(topic, taken):
    """(number of blocks, their bytes) of a message of these Rows."""
    blocks = topic.blocks(taken)
    return len(blocks), protocol.encode_message(blocks, topic.database.precision)


__all__ = ["Consumer", "Rows", "Topics"]
