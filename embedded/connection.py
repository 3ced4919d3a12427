"""What the WebSocket connections share: users, requests, replies."""

import contextlib
import hmac
import json

import tornado.websocket

from . import protocol
from .errors import FAILED, STAND_IN, TDengineError, as_tdengine_error, refuse


def check_user(users, user, password):
    """users: {name: password}. TDengineError unless they match."""
    refuse(user not in users, 0x0351, "Invalid user")
    if not hmac.compare_digest(str(password).encode(errors="replace"), users[user].encode()):
        raise TDengineError(0x0357, "Authentication failure")


def parse_request(message):
    """(action, args) of a request as JSON; any error otherwise."""
    request = json.loads(message)
    action, args = request["action"], request.get("args") or {}
    is_right = isinstance(action, str) and isinstance(args, dict) and type(args.get("req_id", 0)) is int
    refuse(not is_right, FAILED, "unmarshal request error")
    return action, args


class Connection(tornado.websocket.WebSocketHandler):
    """A subclass has ACTIONS and for each do_ACTION(args): a reply's fields, the reply as bytes, or None for none."""

    def initialize(self, storage, users):
        self.storage, self.users = storage, users

    async def on_message(self, message):
        action, args, error, fields = "", {}, TDengineError(0, ""), {}
        try:  # whatever goes wrong, the client waits for a reply
            action, args = (protocol.request if isinstance(message, bytes) else parse_request)(message)
            fields = {} if action in self.ACTIONS else {action: []}  # without a list of positions the client hangs
            refuse(fields, FAILED, f"{action} is not in this {STAND_IN}")
            self.check(action)
            fields = await getattr(self, "do_" + action)(args)
        except Exception as failure:
            error = as_tdengine_error(failure)
        if fields is None:
            return
        if error.code and action == "fetch" and isinstance(message, bytes):
            fields = protocol.error_reply(args["req_id"], protocol.FETCH, args["id"], error)
        elif not isinstance(fields, bytes):
            head = {"code": error.code, "message": error.message, "action": action, "req_id": args.get("req_id", 0)}
            head |= {"timing": 0} | ({"stmt_id": args["stmt_id"]} if "stmt_id" in args else {})
            fields = json.dumps(head | fields, separators=(",", ":"))
        with contextlib.suppress(tornado.websocket.WebSocketClosedError):
            await self.write_message(fields, binary=isinstance(fields, bytes))

    async def do_version(self, _):
        return {"version": "3.3.6.6.stand-in"}  # taosws asks for 3.3.2.0 or newer
