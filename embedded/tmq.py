"""Consumers of topics: connections at /rest/tmq. They subscribe, poll, fetch and commit; they don't seek."""

import asyncio
import contextlib
import dataclasses

from . import blocks, protocol
from .connection import Connection, check_user, parse_request, reply
from .errors import STAND_IN, TDengineError, as_tdengine_error
from .topics import Group, Topic

VGROUP = 2
NO_MESSAGE = dict.fromkeys(("vgroup_id", "message_type", "message_id", "offset"), 0)
NO_MESSAGE |= {"have_message": False, "topic": "", "database": ""}
# Names of a consumer's configuration that have no field of their own in its request.
CONFIG = frozenset(["session.timeout.ms", "max.poll.interval.ms", "td.connect.db"])
ACTIONS = ("version", "subscribe", "unsubscribe", "poll", "fetch_raw_data", "commit")
POSITIONS = ("assignment", "position", "committed", "seek", "commit_offset")  # refused; no reply would hang the client


@dataclasses.dataclass
class Position:
    """Where a consumer is in a topic. offset: of the next message; None while it gets none."""

    topic: Topic
    group: Group
    offset: int | None = None


class Consumer(Connection):
    """One consumer's connection."""

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.loop, self.polling, self.tasks = asyncio.get_running_loop(), asyncio.Lock(), set()
        self.subscribed, self.rows_came = asyncio.Event(), asyncio.Event()
        self.positions = {}  # topic's name: Position
        self.from_end = self.closed = False
        self.message_id, self.message, self.poll_reply = 0, b"", None

    async def on_message(self, message):
        task = self.loop.create_task(super().on_message(message))  # the next may come while a poll waits
        self.tasks.add(task)  # the loop itself keeps none
        task.add_done_callback(self.tasks.discard)

    async def respond(self, message):
        """JSON, or bytes; None for what TDengine does not answer either."""
        try:
            action, args = parse_request(message)
        except ValueError:
            return None
        req_id, error, extra = args.get("req_id", 0), None, {}
        if action not in ACTIONS + POSITIONS or not 0 <= req_id < 2**64:
            return None
        try:
            if not (self.positions or action in ("version", "subscribe", "poll")):
                raise TDengineError(0xFFFF, "tmq not init")
            if action in POSITIONS:
                raise TDengineError(0xFFFF, f"{action} is not in this {STAND_IN}")
            extra = await getattr(self, "do_" + action)(args)
        except Exception as one:  # whatever it is, the client waits for a reply
            error, extra = as_tdengine_error(one), {action: []}
        if action == "fetch_raw_data":
            return protocol.raw_data_reply(req_id, self.message_id, self.message, error)
        return None if self.closed else reply(action, req_id, error, **extra)

    def on_close(self):
        self.closed = True
        self.leave_groups()
        for event in (self.subscribed, self.rows_came):
            event.set()  # so that a poll that waits ends

    def leave_groups(self):
        """The next consumer of each group goes on in this one's place."""
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
            position.offset = topic.end if self.from_end else topic.begin
        self.rows_came.set()

    # The actions: each gives the fields of its reply

    async def do_subscribe(self, args):
        if self.positions:
            raise TDengineError(0xFFFF, "tmq should have unsubscribed first")
        if not set(args.get("config") or ()) <= CONFIG:
            raise TDengineError(0xFFFE, "Unknown error 65534")
        if args.get("offset_rest") not in (None, "earliest", "latest"):
            raise TDengineError(0xFFFF, "fail")
        try:
            check_user(self.users, args.get("user"), args.get("password"))
        except TDengineError:
            raise TDengineError(0xFFFF, "init tscObj failed") from None
        topics, names = self.storage.topics.topics, [str(name) for name in args.get("topics") or ()]
        names = [name if name in topics else name.lower() for name in names]
        if not names or not set(names) <= set(topics):
            raise TDengineError(0x03E1, "Topic not exist")
        self.from_end = args.get("offset_rest") != "earliest"
        for name in dict.fromkeys(names):
            group = topics[name].groups[str(args.get("group_id"))]
            self.positions[name] = Position(topics[name], group)
            group.consumers.append(self)
            if group.consumers[0] is self:
                self.begin(topics[name])
        self.subscribed.set()
        return {}

    async def do_unsubscribe(self, _):
        self.leave_groups()
        self.subscribed.clear()
        return {}

    async def do_poll(self, args):
        blocking_ms, last_id = args.get("blocking_time", 0), args.get("message_id", 0)
        async with self.polling:  # one after the other
            await self.subscribed.wait()
            if self.poll_reply and last_id < self.message_id:
                return self.poll_reply  # which got lost on its way
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if blocking_ms < 0 else blocking_ms / 1000):
                    while not self.closed:
                        self.rows_came.clear()
                        if any(self.next_message(position) for position in self.positions.values()):
                            return self.poll_reply
                        await self.rows_came.wait()
            return NO_MESSAGE

    def next_message(self, position):
        """Makes the topic's next message, if there is one; whether it did."""
        topic = position.topic
        while position.offset is not None and position.offset < topic.end:
            with self.storage.lock:
                first, entries = topic.entries_from(position.offset)
            position.offset = first + len(entries)
            entries = [entry for entry in entries if entry]
            if entries:
                self.message_id += 1
                self.message = blocks.encode_message(entries)
                names = {"have_message": True, "topic": topic.name, "database": topic.table.database.name}
                numbers = {"vgroup_id": VGROUP, "message_type": 1, "message_id": self.message_id, "offset": first}
                self.poll_reply = names | numbers
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
