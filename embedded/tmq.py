"""Consumers of topics: connections at /rest/tmq. They subscribe to a topic, poll, fetch and commit; they don't seek."""

import asyncio
import contextlib

from . import blocks, protocol
from .connection import Connection, check_user
from .errors import FAILED, STAND_IN, TDengineError

VGROUP = 2
NO_MESSAGE = dict.fromkeys(("vgroup_id", "message_type", "message_id", "offset"), 0)
NO_MESSAGE |= {"have_message": False, "topic": "", "database": ""}
# Names of a consumer's configuration that have no field of their own in its request.
CONFIG = frozenset(["session.timeout.ms", "max.poll.interval.ms", "td.connect.db"])


class Consumer(Connection):
    """One consumer's connection."""

    ACTIONS = ("version", "subscribe", "unsubscribe", "poll", "fetch_raw_data", "commit")

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.loop, self.polling, self.tasks = asyncio.get_running_loop(), asyncio.Lock(), set()
        self.rows_came, self.closed = asyncio.Event(), False
        self.topic = self.group = None
        self.offset, self.message_id, self.message = 0, 0, b""  # offset: of the next message

    async def on_message(self, message):
        task = self.loop.create_task(super().on_message(message))  # the next may come while a poll waits
        self.tasks.add(task)  # the loop itself keeps none
        task.add_done_callback(self.tasks.discard)

    def on_close(self):
        self.closed = True
        self.leave()
        self.rows_came.set()  # so that a poll that waits ends

    def leave(self):
        if self.topic and self.topic.consumers.get(self.group) is self:
            del self.topic.consumers[self.group]
        self.topic = None

    def check(self, action):
        if self.topic is None and action not in ("version", "subscribe", "poll", "unsubscribe"):
            raise TDengineError(FAILED, "tmq not init")

    def always(self, action, args):
        """The client hangs when a list of positions is missing, also in an error."""
        return {action: []}

    async def do_subscribe(self, args):
        if self.topic:
            raise TDengineError(FAILED, "tmq should have unsubscribed first")
        if not set(args.get("config") or ()) <= CONFIG:
            raise TDengineError(0xFFFE, "Unknown error 65534")
        if args.get("offset_rest") not in (None, "earliest", "latest"):
            raise TDengineError(FAILED, "fail")
        try:
            check_user(self.users, args.get("user"), args.get("password"))
        except TDengineError:
            raise TDengineError(FAILED, "init tscObj failed") from None
        topics, names = self.storage.topics.topics, args.get("topics") or [""]
        if len(names) > 1:
            raise TDengineError(FAILED, f"one topic at once in this {STAND_IN}")
        name = names[0] if names[0] in topics else str(names[0]).lower()
        if name not in topics:
            raise TDengineError(0x03E1, "Topic not exist")
        self.topic, self.group = topics[name], str(args.get("group_id"))
        first = self.topic.begin if args.get("offset_rest") == "earliest" else self.topic.end
        self.offset = self.topic.committed.get(self.group, first)
        self.topic.consumers[self.group] = self  # the newest of a group gets the rows
        return {}

    async def do_unsubscribe(self, _):
        self.leave()
        return {}

    async def do_poll(self, args):
        blocking_ms = args.get("blocking_time", 0)
        async with self.polling:  # one after the other
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if blocking_ms < 0 else blocking_ms / 1000):
                    while not self.closed:
                        self.rows_came.clear()
                        message = self.next_message()
                        if message:
                            return message
                        await self.rows_came.wait()
            return None if self.closed else NO_MESSAGE

    def next_message(self):
        """The reply to a poll, if there are rows, whose message is fetched then."""
        topic = self.topic
        while topic and topic.consumers.get(self.group) is self and self.offset < topic.end:
            offset = max(self.offset, topic.begin)
            block, self.offset = topic.log.get(offset), offset + 1
            if block:
                self.message, self.message_id = blocks.encode_message([block]), self.message_id + 1
                found = {"have_message": True, "topic": topic.name, "database": topic.table.database.name}
                found |= {"vgroup_id": VGROUP, "message_type": 1, "message_id": self.message_id}
                return found | {"offset": offset}
        return None

    async def do_fetch_raw_data(self, args):
        error = None
        if not self.message_id or args.get("message_id") != self.message_id:
            error = TDengineError(FAILED, "message ID is not equal")
        return protocol.raw_data_reply(args.get("req_id", 0), self.message_id, self.message, error)

    async def do_commit(self, args):
        if self.topic.consumers.get(self.group) is self:
            self.topic.committed[self.group] = self.offset
        return {"message_id": args.get("message_id", 0)}
