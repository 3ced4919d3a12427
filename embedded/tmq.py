"""Consumers of topics: connections at /rest/tmq. They subscribe to a topic, poll, fetch and commit; they don't seek."""

import asyncio
import contextlib

from . import blocks, protocol
from .connection import Connection, check_user, parse_request, reply
from .errors import STAND_IN, TDengineError, as_tdengine_error

VGROUP = 2
NO_MESSAGE = dict.fromkeys(("vgroup_id", "message_type", "message_id", "offset"), 0)
NO_MESSAGE |= {"have_message": False, "topic": "", "database": ""}
# Names of a consumer's configuration that have no field of their own in its request.
CONFIG = frozenset(["session.timeout.ms", "max.poll.interval.ms", "td.connect.db"])
ACTIONS = ("version", "subscribe", "unsubscribe", "poll", "fetch_raw_data", "commit")
POSITIONS = ("assignment", "position", "committed", "seek", "commit_offset")  # refused; no reply would hang the client


class Consumer(Connection):
    """One consumer's connection."""

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.loop, self.polling, self.tasks = asyncio.get_running_loop(), asyncio.Lock(), set()
        self.subscribed, self.rows_came = asyncio.Event(), asyncio.Event()
        self.topic = self.group = self.offset = None  # offset: of the next message; None while it gets none
        self.from_end = self.closed = False
        self.message_id, self.message = 0, b""

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
            if not (self.topic or action in ("version", "subscribe", "poll")):
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
        self.leave_group()
        for event in (self.subscribed, self.rows_came):
            event.set()  # so that a poll that waits ends

    def leave_group(self):
        """The next consumer of the group goes on in this one's place."""
        if self.topic:
            consumers = self.group.consumers
            consumers.remove(self)
            if consumers and self.offset is not None:
                consumers[0].begin()
        self.topic = self.offset = None

    def begin(self):
        """From now on this consumer gets its group's rows."""
        self.offset = self.group.committed
        if self.offset is None:
            self.offset = self.topic.end if self.from_end else self.topic.begin
        self.rows_came.set()

    # The actions: each gives the fields of its reply

    async def do_subscribe(self, args):
        if self.topic:
            raise TDengineError(0xFFFF, "tmq should have unsubscribed first")
        if not set(args.get("config") or ()) <= CONFIG:
            raise TDengineError(0xFFFE, "Unknown error 65534")
        if args.get("offset_rest") not in (None, "earliest", "latest"):
            raise TDengineError(0xFFFF, "fail")
        try:
            check_user(self.users, args.get("user"), args.get("password"))
        except TDengineError:
            raise TDengineError(0xFFFF, "init tscObj failed") from None
        topics, names = self.storage.topics.topics, args.get("topics") or [""]
        name = names[0] if names[0] in topics else str(names[0]).lower()
        if len(names) > 1 or name not in topics:
            raise TDengineError(
                0x03E1, "Topic not exist" if len(names) == 1 else f"one topic at once in this {STAND_IN}"
            )
        self.from_end = args.get("offset_rest") != "earliest"
        self.topic = topics[name]
        self.group = self.topic.groups[str(args.get("group_id"))]
        self.group.consumers.append(self)
        if self.group.consumers[0] is self:
            self.begin()
        self.subscribed.set()
        return {}

    async def do_unsubscribe(self, _):
        self.leave_group()
        self.subscribed.clear()
        return {}

    async def do_poll(self, args):
        blocking_ms = args.get("blocking_time", 0)
        async with self.polling:  # one after the other
            await self.subscribed.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if blocking_ms < 0 else blocking_ms / 1000):
                    while not self.closed:
                        self.rows_came.clear()
                        message = self.next_message()
                        if message:
                            return message
                        await self.rows_came.wait()
            return NO_MESSAGE

    def next_message(self):
        """The reply to a poll, if there are rows, whose message is fetched then."""
        while self.offset is not None and self.offset < self.topic.end:
            with self.storage.lock:
                first, entries = self.topic.entries_from(self.offset)
            self.offset = first + len(entries)
            if any(entries):
                self.message_id += 1
                self.message = blocks.encode_message([entry for entry in entries if entry])
                names = {"have_message": True, "topic": self.topic.name, "database": self.topic.table.database.name}
                return names | {"vgroup_id": VGROUP, "message_type": 1, "message_id": self.message_id, "offset": first}
        return None

    async def do_fetch_raw_data(self, args):
        if not self.message_id or args.get("message_id") != self.message_id:
            raise TDengineError(0xFFFF, "message ID is not equal")
        return {}

    async def do_commit(self, args):
        if self.offset is not None:
            self.group.committed = self.offset
        return {"message_id": args.get("message_id", 0)}
