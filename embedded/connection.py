"""What the connections share: their requests in JSON, the replies, and failures in TDengine's terms."""

import asyncio
import contextlib
import hmac
import json
import logging
import time

import duckdb
import tornado.websocket

from .types import STAND_IN, TDengineError

SAME_LINE_S = 60
logged_at = -SAME_LINE_S


def as_tdengine_error(error):
    """A failure inside as a reply has it: one to write with TDengine's code, anything else with taosAdapter's own."""
    global logged_at
    if isinstance(error, TDengineError):
        return error
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if not (isinstance(error, duckdb.IOException | duckdb.FatalException | OSError) or "Could not write" in text):
        return TDengineError(0xFFFF, f"the {STAND_IN} failed: {text}")
    if time.monotonic() - logged_at >= SAME_LINE_S:
        logged_at = time.monotonic()
        logging.error("the data folder cannot be written, is the disk full? Retrying: %s", text)
    return TDengineError(0x020D, f"System out of disk space: the stand-in for TDengine cannot write ({text})")


def check_user(users, user, password):
    """users: {name: password}. TDengineError unless they match."""
    if user not in users:
        raise TDengineError(0x0351, "Invalid user")
    if not hmac.compare_digest(str(password).encode(errors="replace"), users[user].encode()):
        raise TDengineError(0x0357, "Authentication failure")


def parse_request(message):
    """(action, args) of a JSON request; ValueError otherwise."""
    try:
        request = json.loads(message)
        action, args = request["action"], request.get("args") or {}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError from error
    if not isinstance(action, str) or not isinstance(args, dict) or type(args.get("req_id", 0)) is not int:
        raise ValueError
    return action, args


def reply(action, req_id, error=None, **extra):
    """A reply as JSON."""
    code, message = (error.code, error.message) if error else (0, "")
    head = {"code": code, "message": message, "action": action, "req_id": req_id, "timing": 0}
    return json.dumps(head | extra, separators=(",", ":"))


class Connection(tornado.websocket.WebSocketHandler):
    """A subclass has respond(message), a coroutine: the reply as text or bytes, or None for none."""

    def initialize(self, storage, pool, users):
        self.storage, self.pool, self.users = storage, pool, users

    async def on_message(self, message):
        found = await self.respond(message)
        if found is not None:
            with contextlib.suppress(tornado.websocket.WebSocketClosedError):
                await self.write_message(found, binary=isinstance(found, bytes))

    async def in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    async def do_version(self, _):
        return {"version": "3.3.6.6.stand-in"}  # taosws asks for 3.3.2.0 or newer
