"""What the connections share: users, requests in JSON, replies."""

import asyncio
import contextlib
import hmac
import json

import tornado.websocket

from .errors import TDengineError


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
